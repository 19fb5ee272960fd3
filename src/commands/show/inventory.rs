//! The inventory of a snapshot, as `snapshot show -o json` prints it.

use std::collections::BTreeMap;

use knet_explain::systems::{Seen, Standing};
use knet_explain::{Explainer, render};
use knet_snapshot::artifact::name;
use knet_snapshot::id::Family;
use knet_snapshot::manifest::{AbsentEntry, AbsentReason};
use knet_snapshot::store::{NetnsFacts, NodeFacts};
use knet_snapshot::{Fact, Snapshot};
use serde::Serialize;

/// `knet.inventory/v1`
#[derive(Serialize)]
pub(super) struct Inventory {
    schema: &'static str,
    /// The manifest's own words; `null` without a manifest.
    pub(super) manifest: Option<Made>,
    /// Kubernetes objects by resource; `null` = could not look.
    pub(super) cluster: BTreeMap<&'static str, Option<usize>>,
    pub(super) nodes: Vec<NodeRow>,
    /// What is not there, most of a kind first folded together.
    pub(super) absent: Vec<Absence>,
    /// What is there and could not be read.
    pub(super) problems: Vec<ProblemRow>,
}

/// Who made the snapshot, and when.
#[derive(Serialize)]
pub(super) struct Made {
    pub(super) schema: String,
    pub(super) tool: String,
    pub(super) origin: String,
    pub(super) start: String,
    pub(super) end: String,
    pub(super) redaction: String,
}

/// One node.
#[derive(Serialize)]
pub(super) struct NodeRow {
    pub(super) name: String,
    pub(super) status: Option<String>,
    pub(super) kernel: Option<String>,
    pub(super) namespaces: usize,
    /// Namespaces that belong to a pod.
    pub(super) pods: usize,
    pub(super) files: usize,
    pub(super) bytes: usize,
    /// Artifacts of this node nobody could look at, in all its namespaces.
    pub(super) not_looked_at: usize,
    /// Network systems that left something here.
    pub(super) systems: Vec<SystemRow>,
}

/// A network system on a node.
#[derive(Serialize)]
pub(super) struct SystemRow {
    /// A stable word.
    pub(super) system: &'static str,
    /// As people call it.
    #[serde(skip)]
    pub(super) name: &'static str,
    /// `modelled`, or what takes packets where the walk does not follow: `programs`, `switch`.
    pub(super) standing: &'static str,
    /// A device of it is up, a program attached, or rules are there.
    pub(super) at_work: bool,
    /// What tells so.
    pub(super) signs: Vec<String>,
}

/// An artifact that is absent in some namespaces for one reason.
#[derive(Serialize)]
pub(super) struct Absence {
    pub(super) artifact: String,
    pub(super) reason: AbsentReason,
    /// The reason means that the table is empty.
    pub(super) empty: bool,
    /// In how many namespaces (or files) ...
    pub(super) count: usize,
    /// ... of how many.
    pub(super) of: usize,
    /// One of them.
    pub(super) example: String,
    pub(super) detail: String,
}

/// Something that cannot be read.
#[derive(Serialize)]
pub(super) struct ProblemRow {
    pub(super) artifact: String,
    pub(super) line: Option<u64>,
    pub(super) what: String,
}

impl Inventory {
    /// Reads every table of the snapshot.
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        snapshot.namespaces().for_each(read_all);
        let cluster = cluster(snapshot);
        let systems = Explainer::new(snapshot).systems();
        let problems = snapshot.all_problems().into_iter().map(|problem| ProblemRow {
            line: problem
                .offset
                .and_then(|offset| snapshot.line_of(&problem.artifact, offset)),
            artifact: problem.artifact,
            what: problem.what,
        });
        Self {
            schema: "knet.inventory/v1",
            manifest: snapshot.manifest.as_ref().map(|manifest| Made {
                schema: manifest.schema.clone(),
                tool: format!("{} {}", manifest.tool.name, manifest.tool.version)
                    .trim()
                    .to_owned(),
                origin: manifest.origin.clone(),
                start: manifest.window.start.clone(),
                end: manifest.window.end.clone(),
                redaction: manifest.redaction.clone(),
            }),
            cluster,
            nodes: snapshot
                .nodes()
                .map(|node| node_row(snapshot, node, &systems))
                .collect(),
            absent: absences(snapshot),
            problems: problems.collect(),
        }
    }
}

/// Tables are parsed when they are asked for, and only then say what is wrong with them.
fn read_all(netns: &NetnsFacts) {
    for family in [Family::V4, Family::V6] {
        netns.routes(family);
        netns.rules(family);
    }
    netns.links();
    netns.addrs();
    netns.nexthops();
    netns.neighbours();
    netns.fdb();
    netns.bridge_ports();
    netns.bridge_vlans();
    netns.sockets();
    netns.conntrack();
    netns.ipsets();
    netns.sysctls();
    for file in [
        name::IPTABLES_NFT,
        name::IP6TABLES_NFT,
        name::IPTABLES_LEGACY,
        name::IP6TABLES_LEGACY,
    ] {
        netns.xtables(file);
    }
}

fn cluster(snapshot: &Snapshot) -> BTreeMap<&'static str, Option<usize>> {
    let cluster = snapshot.cluster();
    BTreeMap::from([
        ("nodes", cluster.nodes().get().map(|t| t.rows.len())),
        ("pods", cluster.pods().get().map(|t| t.rows.len())),
        ("services", cluster.services().get().map(|t| t.rows.len())),
        ("endpointslices", cluster.endpoint_slices().get().map(|t| t.rows.len())),
    ])
}

fn system_row(seen: &Seen) -> SystemRow {
    let (system, name) = render::systems::name(seen.system);
    SystemRow {
        system,
        name,
        standing: match seen.system.standing() {
            Standing::Modelled => "modelled",
            Standing::Programs => "programs",
            Standing::Switch => "switch",
        },
        at_work: seen.at_work,
        signs: seen.signs.iter().map(|(sign, _)| render::systems::sign(sign)).collect(),
    }
}

fn node_row(snapshot: &Snapshot, node: &NodeFacts, systems: &[Seen]) -> NodeRow {
    let folder = node.path("");
    let files: Vec<&str> = snapshot.paths().filter(|path| path.starts_with(&folder)).collect();
    let known = node.netns_info.get().map_or(&[][..], Vec::as_slice);
    let looked = |netns: &NetnsFacts| {
        name::ALL
            .iter()
            .filter(|f| matches!(netns.bytes(f), Fact::Unknown(_)))
            .count()
    };
    NodeRow {
        name: node.name.clone(),
        status: snapshot
            .manifest
            .as_ref()
            .and_then(|m| m.nodes.iter().find(|entry| entry.name == node.name))
            .map(|entry| entry.status.clone()),
        kernel: node
            .info
            .get()
            .map(|info| info.kernel.clone())
            .filter(|kernel| !kernel.is_empty()),
        namespaces: 1 + node.netns.len(),
        pods: known.iter().filter(|entry| entry.pod.is_some()).count(),
        bytes: files
            .iter()
            .filter_map(|path| snapshot.bytes(path))
            .map(<[u8]>::len)
            .sum(),
        files: files.len(),
        not_looked_at: node.namespaces().map(looked).sum(),
        systems: systems.iter().filter(|s| s.node == node.name).map(system_row).collect(),
    }
}

/// Absent artifacts of all namespaces folded by file name and reason, then other files the manifest lists.
fn absences(snapshot: &Snapshot) -> Vec<Absence> {
    let total = snapshot.namespaces().count();
    let mut folded: BTreeMap<(bool, &str, AbsentReason), (usize, String)> = BTreeMap::new();
    for netns in snapshot.namespaces() {
        for file in name::ALL {
            let (empty, reason) = match netns.bytes(file) {
                Fact::Known(_) => continue,
                Fact::Empty(_, reason) => (true, reason),
                Fact::Unknown(reason) => (false, reason),
            };
            let (count, _) = folded
                .entry((empty, file, reason))
                .or_insert_with(|| (0, netns.path(file).to_string()));
            *count += 1;
        }
    }
    let listed = snapshot.manifest.as_ref().map_or(&[][..], |manifest| &manifest.absent);
    let detail = |path: &str| {
        listed
            .iter()
            .find(|a| a.path == path)
            .map(|a| a.detail.clone())
            .unwrap_or_default()
    };
    let of_namespaces = folded
        .into_iter()
        .map(|((empty, file, reason), (count, example))| Absence {
            artifact: file.to_owned(),
            reason,
            empty,
            count,
            of: total,
            detail: detail(&example),
            example,
        });
    // Of a node's files the manifest lists those that somebody asked for.
    let below = |path: &str| -> Option<String> {
        let (_, rest) = path.strip_prefix("nodes/")?.split_once('/')?;
        rest.starts_with("files/").then(|| rest.to_owned())
    };
    let mut of_files: BTreeMap<(bool, String, AbsentReason), (usize, &AbsentEntry)> = BTreeMap::new();
    for a in listed {
        if let Some(file) = below(&a.path) {
            of_files
                .entry((a.reason.means_empty(), file, a.reason))
                .or_insert((0, a))
                .0 += 1;
        }
    }
    let nodes = snapshot.nodes().count();
    let of_files = of_files
        .into_iter()
        .map(|((empty, artifact, reason), (count, first))| Absence {
            artifact,
            reason,
            empty,
            count,
            of: nodes,
            detail: first.detail.clone(),
            example: first.path.clone(),
        });
    let others = listed
        .iter()
        .filter(|a| !a.path.starts_with("nodes/"))
        .map(|a| Absence {
            artifact: a.path.clone(),
            reason: a.reason,
            empty: a.reason.means_empty(),
            count: 1,
            of: 1,
            example: a.path.clone(),
            detail: a.detail.clone(),
        });
    of_namespaces.chain(of_files).chain(others).collect()
}
