//! Whether a node announces a route to the address, as far as its routing daemons told.
//!
//! Only a list of what is announced on a session says yes or no. A daemon that nobody asked, or a program that
//! speaks BGP itself and cannot be asked, leaves it unknown.

use std::net::IpAddr;

use ipnet::IpNet;
use knet_dataplane::trace::Evidence;
use knet_snapshot::Snapshot;
use knet_snapshot::manifest::{AbsentEntry, AbsentReason};
use knet_snapshot::routing_daemon::{self, Announces, Daemon};

use super::{Controller, Told};
use crate::resolve::Context;
use crate::systems::{Seen, Sign, System};

/// What a node's routing daemons say of the address.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// Whether a route to it is announced.
    pub answer: Advertises,
    /// The sessions it is announced on, or all, where it is on none.
    pub sessions: Vec<BgpSession>,
}

/// Whether a node announces a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advertises {
    /// On some session.
    Yes,
    /// On none, and no other program would.
    No,
    /// Nobody can tell.
    Unknown(Unsure),
}

/// Why nobody can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsure {
    /// Nothing of a routing daemon was captured, nor that there is none.
    NoState,
    /// Neither BIRD nor FRR runs there; another program might.
    NotRunning,
    /// One of them says no; whether the other runs was not captured.
    OtherDaemon(Daemon),
    /// A daemon runs, and could not be asked.
    NotCaptured {
        /// What is missing.
        path: String,
        /// Why.
        reason: AbsentReason,
    },
    /// A session is up, and what is announced on it was not captured.
    Session(String),
    /// This program speaks BGP itself, and is not asked.
    Itself(&'static str),
}

/// A session of a routing daemon.
#[derive(Clone, Debug, PartialEq)]
pub struct BgpSession {
    /// Whose.
    pub daemon: Daemon,
    /// Its name.
    pub name: String,
    /// The neighbour, when it is said.
    pub neighbour: Option<IpAddr>,
    /// Its state, in the daemon's word.
    pub state: String,
    /// A route to the address is announced on it; `None` when nobody captured that.
    pub announced: Option<bool>,
    /// Which.
    pub prefix: Option<IpNet>,
    /// The route, or the session.
    pub row: Evidence,
    /// Line of the row.
    pub line: Option<u64>,
}

/// Asks the captured files of one node.
pub fn of_node(
    context: Context<'_, '_>,
    node: &str,
    address: IpAddr,
    controller: Option<&Told>,
    systems: &[Seen],
) -> Announcement {
    let snapshot = context.world.snapshot;
    let files = snapshot.paths().filter_map(|path| Some((path, snapshot.bytes(path)?)));
    let said = snapshot
        .node(node)
        .map(|facts| routing_daemon::of_node(facts, files))
        .unwrap_or_default();
    let mut sessions: Vec<BgpSession> = said
        .sessions
        .iter()
        .map(|(daemon, path, session)| {
            let announces = said.announces(*daemon, path, session, address);
            let (file, at, prefix) = match announces {
                Announces::Yes(file, known) => (file, known.at, Some(known.prefix)),
                Announces::No | Announces::Unknown => (path.as_str(), session.at, None),
            };
            BgpSession {
                daemon: *daemon,
                name: session.name.clone(),
                neighbour: session.neighbour,
                state: session.state.clone(),
                announced: match announces {
                    Announces::Yes(..) => Some(true),
                    Announces::No => Some(false),
                    Announces::Unknown => None,
                },
                prefix,
                row: row(snapshot, file, at),
                line: snapshot.line_of(file, at.start),
            }
        })
        .collect();
    sessions.sort_by(|a, b| (a.daemon, &a.name, &a.row.artifact).cmp(&(b.daemon, &b.name, &b.row.artifact)));
    if sessions.iter().any(|s| s.announced == Some(true)) {
        sessions.retain(|s| s.announced == Some(true));
        return Announcement {
            answer: Advertises::Yes,
            sessions,
        };
    }
    let folder = format!("nodes/{node}/files");
    let absences = Absences::of(snapshot, &folder);
    let speaker = || speaker(node, controller, systems, said.asked.contains(&Daemon::Frr));
    let other = || {
        let all = [Daemon::Bird, Daemon::Frr];
        let mut unheard = all
            .into_iter()
            .filter(|d| !said.asked.contains(d) && !absences.not_running(*d));
        unheard.next()
    };
    let answer = if let Some(session) = sessions.iter().find(|s| s.announced.is_none()) {
        Advertises::Unknown(Unsure::Session(session.name.clone()))
    } else if let Some(entry) = absences.failed() {
        Advertises::Unknown(Unsure::NotCaptured {
            path: entry.path.clone(),
            reason: entry.reason,
        })
    } else if let Some(program) = speaker() {
        Advertises::Unknown(Unsure::Itself(program))
    } else {
        match (said.asked.is_empty(), other()) {
            (true, None) => Advertises::Unknown(Unsure::NotRunning),
            (true, Some(_)) => Advertises::Unknown(Unsure::NoState),
            (false, Some(daemon)) => Advertises::Unknown(Unsure::OtherDaemon(daemon)),
            (false, None) => Advertises::No,
        }
    };
    Announcement { answer, sessions }
}

fn row(snapshot: &Snapshot, path: &str, at: knet_snapshot::row::Row) -> Evidence {
    let text = snapshot.row_text(path, at).unwrap_or_default();
    Evidence {
        artifact: path.into(),
        at,
        handle: None,
        text: text.chars().take(200).collect::<String>().into(),
    }
}

/// What the manifest says of daemons that are not in the snapshot.
struct Absences<'s> {
    folder: &'s str,
    all: Vec<&'s AbsentEntry>,
}

impl<'s> Absences<'s> {
    fn of(snapshot: &'s Snapshot, folder: &'s str) -> Self {
        let listed = snapshot.manifest.iter().flat_map(|manifest| &manifest.absent);
        let daemons = |path: &str| {
            let name = path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
            name.is_some_and(|name| name.starts_with("bird") || name.starts_with("frr"))
        };
        Self {
            folder,
            all: listed.filter(|entry| daemons(&entry.path)).collect(),
        }
    }

    fn not_running(&self, daemon: Daemon) -> bool {
        let paths: &[&str] = match daemon {
            Daemon::Bird => &["bird"],
            // FRR without its BGP daemon announces nothing.
            Daemon::Frr => &["frr", "frr/show_bgp_summary.json"],
        };
        let mut empty = self.all.iter().filter(|entry| entry.reason.means_empty());
        empty.any(|entry| {
            let name = entry
                .path
                .strip_prefix(self.folder)
                .and_then(|rest| rest.strip_prefix('/'));
            name.is_some_and(|name| paths.contains(&name))
        })
    }

    fn failed(&self) -> Option<&'s AbsentEntry> {
        self.all.iter().copied().find(|entry| !entry.reason.means_empty())
    }
}

/// A program on the node that speaks BGP itself, in whose sessions nobody looks.
fn speaker(node: &str, controller: Option<&Told>, systems: &[Seen], frr: bool) -> Option<&'static str> {
    let here = || systems.iter().filter(|s| s.node == node);
    match controller.map(|told| told.controller) {
        // In FRR mode its speaker leaves that to FRR.
        Some(Controller::MetalLb) if !frr => return Some("MetalLB's speaker"),
        Some(Controller::KubeVip) => return Some("kube-vip"),
        Some(Controller::OpenElb) => return Some("OpenELB"),
        Some(Controller::PureLb) => return Some("PureLB's k8gobgp"),
        Some(Controller::Cilium) => return Some("Cilium's agent"),
        _ => {}
    }
    // Its chains alone may be those of k3s, which has its policies without the rest.
    let device = |s: &Seen| s.signs.iter().any(|(sign, _)| matches!(sign, Sign::Device(_)));
    if here().any(|s| s.system == System::KubeRouter && device(s)) {
        return Some("kube-router");
    }
    here().find_map(|s| match s.system {
        System::Cilium => Some("Cilium's agent"),
        System::Antrea => Some("Antrea's agent"),
        System::KubeOvn => Some("kube-ovn-speaker"),
        _ => None,
    })
}
