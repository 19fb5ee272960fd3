//! Where the model ends, as far as an answer touches it.

use std::collections::BTreeSet;

use knet_dataplane::trace::{Branch, NsId, Outcome, What};
use knet_dataplane::world::World;

use crate::explanation::Boundary;

/// The boundary of an answer.
#[must_use]
pub fn of(world: &World<'_>, branches: &[Branch]) -> Vec<Boundary> {
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
    let mut nodes = BTreeSet::new();
    for branch in branches {
        let reply = branch.reply.as_ref();
        for hop in branch.hops.iter().chain(reply.into_iter().flat_map(|r| &r.hops)) {
            nodes.insert(world.space(hop.ns).name.node.clone());
            let crosses = hop.steps.iter().any(|s| match s.what {
                What::Cross { to, .. } => node(world, to) != node(world, hop.ns),
                _ => false,
            });
            if crosses {
                all.insert(Boundary::Underlay);
            }
        }
        match branch.end.outcome {
            Outcome::LeavesCluster => {
                all.insert(Boundary::Outside);
            }
            Outcome::Delivered => {
                all.insert(Boundary::Application);
            }
            _ => {}
        }
    }
    if nodes.len() > 1 {
        all.insert(Boundary::Underlay);
    }
    all.into_iter().collect()
}

fn node<'s>(world: &World<'s>, ns: NsId) -> &'s str {
    &world.space(ns).name.node
}
