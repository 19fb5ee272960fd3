//! Where the model ends, as far as an answer touches it.

use std::collections::BTreeSet;

use knet_dataplane::trace::{Branch, Hop, NsId, Outcome, What};
use knet_dataplane::world::World;
use knet_snapshot::artifact::name;

use crate::explanation::{Boundary, Open};
use crate::systems::{self, Seen, Standing};

/// The boundary of an answer.
#[must_use]
pub fn of(world: &World<'_>, branches: &[Branch], outside: &[Seen]) -> Vec<Boundary> {
    let mut all = BTreeSet::new();
    match &world.snapshot.manifest {
        Some(manifest) if !manifest.window.start.is_empty() => {
            let window = &manifest.window;
            all.insert(Boundary::Window {
                start: window.start.clone(),
                end: window.end.clone(),
            });
        }
        _ => {
            all.insert(Boundary::NoWindow);
        }
    }
    all.insert(Boundary::Ebpf);
    let places = places(branches);
    let nodes: BTreeSet<&str> = places.iter().map(|&ns| node(world, ns)).collect();
    let crosses = |hop: &Hop| {
        hop.steps
            .iter()
            .any(|s| matches!(s.what, What::Cross { to, .. } if node(world, to) != node(world, hop.ns)))
    };
    if nodes.len() > 1 || branches.iter().flat_map(|b| &b.hops).any(crosses) {
        all.insert(Boundary::Underlay);
    }
    for branch in branches {
        match branch.end.outcome {
            Outcome::LeavesCluster => all.insert(Boundary::Outside),
            Outcome::Delivered => all.insert(Boundary::Application),
            _ => false,
        };
    }
    for ns in places {
        all.extend(tc(world, ns));
    }
    all.extend(outside.iter().map(|seen| Boundary::Dataplane {
        node: seen.node.clone(),
        system: seen.system,
        signs: seen.signs.iter().map(|(sign, _)| sign.clone()).collect(),
        at_work: seen.at_work,
    }));
    all.extend(inconsistent(world, branches).into_iter().map(Boundary::Inconsistent));
    all.into_iter().collect()
}

/// Systems on the nodes of the way whose dataplane is none of the kernel's tables.
#[must_use]
pub fn outside(world: &World<'_>, branches: &[Branch]) -> Vec<Seen> {
    let hosts = places(branches).into_iter().map(|ns| world.host_of(ns)).collect();
    let mut seen = systems::seen(world, &hosts);
    seen.retain(|s| s.system.standing() != Standing::Modelled);
    seen
}

/// Namespaces that requests and replies pass.
fn places(branches: &[Branch]) -> BTreeSet<NsId> {
    let replies = branches.iter().filter_map(|b| b.reply.as_ref()).flat_map(|r| &r.hops);
    branches
        .iter()
        .flat_map(|b| &b.hops)
        .chain(replies)
        .map(|h| h.ns)
        .collect()
}

fn node<'s>(world: &World<'s>, ns: NsId) -> &'s str {
    &world.space(ns).name.node
}

/// What tc does to packets in a namespace, or that nobody knows.
fn tc(world: &World<'_>, ns: NsId) -> Vec<Boundary> {
    let space = world.space(ns);
    let Some(table) = space.facts.tc().get() else {
        // That nobody looked is said once for a node; what is there and cannot be read is said wherever it is.
        let said = space.name.id.is_none() || space.facts.bytes(name::TC).get().is_some();
        let unknown = said.then(|| Boundary::TcUnknown(space.facts.path(name::TC).to_string()));
        return unknown.into_iter().collect();
    };
    let artifact = space.facts.path(name::TC);
    let acting = table.rows.iter().filter(|f| f.acts());
    acting
        .map(|f| Boundary::TcProgram {
            artifact: artifact.to_string(),
            dev: f.dev.clone(),
        })
        .collect()
}

/// Artifacts that decided something and changed while they were read.
fn inconsistent(world: &World<'_>, branches: &[Branch]) -> BTreeSet<String> {
    let steps = branches
        .iter()
        .flat_map(|b| &b.hops)
        .flat_map(|h| &h.steps)
        .flat_map(|s| &s.evidence);
    let paths: BTreeSet<&str> = steps.map(|e| &*e.artifact).collect();
    let changed = |path: &&str| {
        world
            .snapshot
            .artifact(path)
            .is_some_and(|a| a.consistent == Some(false))
    };
    paths.into_iter().filter(changed).map(str::to_owned).collect()
}

/// At most this many problems are listed.
const MOST: usize = 8;

/// What could not be read in the namespaces on the way.
#[must_use]
pub fn problems(world: &World<'_>, branches: &[Branch]) -> Vec<Open> {
    let folders: Vec<String> = places(branches)
        .into_iter()
        .map(|ns| world.space(ns).name.folder())
        .collect();
    let here = |artifact: &str| folders.iter().any(|folder| artifact.starts_with(folder.as_str()));
    let mut all: Vec<Open> = Vec::new();
    for problem in world.snapshot.all_problems().into_iter().filter(|p| here(&p.artifact)) {
        let open = Open::Problem {
            artifact: problem.artifact,
            what: problem.what,
        };
        if all.len() < MOST && !all.contains(&open) {
            all.push(open);
        }
    }
    all
}
