//! What routing daemons say of themselves: `birdc show protocols [all]`, `birdc show route [all]`, `birdc show route
//! export NAME`, `vtysh -c 'show bgp summary json'` and others.
//!
//! Copied files under `files/bird/` and `files/frr/` of a node. They are written for people, differ between
//! versions, and decide nothing: a line that is not understood is left out. They tell why a route is not there, and
//! which routes a node announces.

pub mod bird;
pub mod frr;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::id::Family;
use crate::row::Row;
use crate::store::NodeFacts;

/// A program that talks to routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    /// BIRD (Calico's, among others).
    Bird,
    /// FRR.
    Frr,
}

/// A BGP session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Where it stands in its file.
    pub at: Row,
    /// Name, as the daemon calls it; of FRR the neighbour's address.
    pub name: String,
    /// The neighbour, when it is said.
    pub neighbour: Option<IpAddr>,
    /// State in the daemon's word (`Established`, `Active`, `Idle`, `Down`, …).
    pub state: String,
    /// The daemon's own word on why it is not up.
    pub error: Option<String>,
    /// The families it carries, when it is said.
    pub families: Option<BTreeSet<Family>>,
}

impl Session {
    /// Routes are exchanged.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state.eq_ignore_ascii_case("established")
    }
}

/// A route that a daemon has or announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where it stands in its file.
    pub at: Row,
    /// Prefix.
    pub prefix: IpNet,
    /// Where it has it from: BIRD names a protocol (a session, `static1`, `kernel1`), FRR a neighbour, or `(unspec)`
    /// where the route is its own; empty in a list of what is announced.
    pub from: String,
}

/// What one node's daemons say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Sessions: which daemon, and the path of the file.
    pub sessions: Vec<(Daemon, String, Session)>,
    /// Routes, and the path of the file.
    pub routes: Vec<(Daemon, String, Known)>,
    /// Daemons whose sessions were captured.
    pub asked: BTreeSet<Daemon>,
    /// Files with routes, by folder.
    routes_of: BTreeSet<String>,
    /// What is announced on a session, by folder and the end of the file's name.
    announced: BTreeMap<(String, String), (String, Vec<Known>)>,
}

/// Whether a route to an address is announced on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announces<'s> {
    /// This one, in the file of this path.
    Yes(&'s str, &'s Known),
    /// Nothing that leads there, or nothing at all.
    No,
    /// Nobody captured what is announced.
    Unknown,
}

impl Said {
    /// The daemon that has this session told all its routes of a family.
    #[must_use]
    pub fn routes_known(&self, path: &str, family: Family) -> bool {
        let of = |name: &str| self.routes_of.contains(&format!("{}/{name}", folder(path)));
        match family {
            Family::V4 => of("bird") || of("ipv4"),
            Family::V6 => of("bird") || of("ipv6"),
        }
    }

    /// Whether a route to an address, but the default route, is announced on a session; `path` is the session's file.
    #[must_use]
    pub fn announces(&self, daemon: Daemon, path: &str, session: &Session, address: IpAddr) -> Announces<'_> {
        let family = Family::of(address);
        if !session.is_up() || session.families.as_ref().is_some_and(|all| !all.contains(&family)) {
            return Announces::No;
        }
        let name = file_name(&session.name);
        let end = match (daemon, family) {
            (Daemon::Bird, _) => name,
            (Daemon::Frr, Family::V4) => format!("ipv4_advertised_{name}"),
            (Daemon::Frr, Family::V6) => format!("ipv6_advertised_{name}"),
        };
        let Some((file, routes)) = self.announced.get(&(folder(path).to_owned(), end)) else {
            return Announces::Unknown;
        };
        let leads = routes
            .iter()
            .filter(|known| known.prefix.prefix_len() > 0 && known.prefix.contains(&address));
        match leads.max_by_key(|known| known.prefix.prefix_len()) {
            Some(known) => Announces::Yes(file, known),
            None => Announces::No,
        }
    }
}

/// Reads everything that was copied from a node. `files` are paths and bytes.
#[must_use]
pub fn of_node<'f>(node: &NodeFacts, files: impl Iterator<Item = (&'f str, &'f [u8])>) -> Said {
    let mut said = Said::default();
    let mut errors = BTreeMap::new();
    let below = node.path("files/");
    for (path, bytes) in files {
        let Some(file) = path.strip_prefix(&below) else {
            continue;
        };
        let Some((place, name)) = file.rsplit_once('/') else {
            continue;
        };
        let bird = place.split('/').any(|part| part.starts_with("bird"));
        let frr = place.split('/').any(|part| part == "frr" || part.starts_with("frr-"));
        let folder = || folder(path).to_owned();
        if bird {
            said.bird(path, name, bytes, folder());
        } else if frr && name.contains("bgp_summary") {
            said.asked.insert(Daemon::Frr);
            let all = frr::summary(bytes).into_iter();
            said.sessions.extend(all.map(|s| (Daemon::Frr, path.to_owned(), s)));
        } else if frr && name.contains("bgp_neighbors") {
            errors.insert(folder(), frr::errors(bytes));
        } else if frr
            && let Some(end) = name
                .strip_prefix("show_bgp_")
                .and_then(|name| name.strip_suffix(".json"))
        {
            if let Some(family) = end.strip_suffix("_unicast") {
                said.routes_of.insert(format!("{}/{family}", folder()));
                let all = frr::routes(bytes).into_iter();
                said.routes.extend(all.map(|r| (Daemon::Frr, path.to_owned(), r)));
            } else if let Some(routes) = frr::advertised(bytes) {
                said.announced
                    .insert((folder(), end.to_owned()), (path.to_owned(), routes));
            }
        }
    }
    for (daemon, path, session) in &mut said.sessions {
        if *daemon == Daemon::Frr && !session.is_up() {
            session.error = errors.get(folder(path)).and_then(|all| all.get(&session.name).cloned());
        }
    }
    said
}

impl Said {
    fn bird(&mut self, path: &str, name: &str, bytes: &[u8], folder: String) {
        if name.starts_with("show_protocols") {
            self.asked.insert(Daemon::Bird);
            for session in bird::protocols(bytes) {
                // The file with details comes after the one without, and says more of the same session.
                let same = |of: &str, s: &Session| s.name == session.name && self::folder(of) == folder;
                self.sessions.retain(|(_, of, s)| !same(of, s));
                self.sessions.push((Daemon::Bird, path.to_owned(), session));
            }
        } else if let Some(end) = name.strip_prefix("show_route_export_") {
            let end = end.strip_suffix(".txt").unwrap_or(end).to_owned();
            if let Some(routes) = bird::exported(bytes) {
                self.announced.insert((folder, end), (path.to_owned(), routes));
            }
        } else if name.starts_with("show_route") {
            self.routes_of.insert(format!("{folder}/bird"));
            let all = bird::routes(bytes).into_iter();
            self.routes.extend(all.map(|r| (Daemon::Bird, path.to_owned(), r)));
        }
    }
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A session's name as a part of a file's name: not every file system takes a colon.
#[must_use]
pub fn file_name(name: &str) -> String {
    name.replace([':', '%'], "_")
}
