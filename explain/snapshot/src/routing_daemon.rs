//! What routing daemons say of themselves: `birdc show protocols [all]`, `birdc show route [all]`,
//! `vtysh -c 'show bgp summary json'`.
//!
//! Copied files under `files/bird/` and `files/frr/` of a node. They are written for people, differ between
//! versions, and decide nothing: a line that is not understood is left out. They tell why a route is not there.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::lines;
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
}

impl Session {
    /// Routes are exchanged.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state.eq_ignore_ascii_case("established")
    }
}

/// A route that BIRD has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Where it stands in its file.
    pub at: Row,
    /// Prefix.
    pub prefix: IpNet,
    /// The protocol it has it from, by name: a session, `static1`, `kernel1`.
    pub from: String,
}

/// What one node's daemons say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Sessions: which daemon, and the path of the file.
    pub sessions: Vec<(Daemon, String, Session)>,
    /// Routes of BIRD, and the path of the file.
    pub routes: Vec<(String, Known)>,
    /// BIRD's routes were captured.
    pub routes_known: bool,
}

/// Reads everything that was copied from a node. `files` are paths and bytes.
#[must_use]
pub fn of_node<'f>(node: &NodeFacts, files: impl Iterator<Item = (&'f str, &'f [u8])>) -> Said {
    let mut said = Said::default();
    let folder = node.path("files/");
    for (path, bytes) in files {
        let Some(file) = path.strip_prefix(&folder) else {
            continue;
        };
        let Some((place, name)) = file.rsplit_once('/') else {
            continue;
        };
        let bird = place.split('/').any(|part| part.starts_with("bird"));
        let frr = place.split('/').any(|part| part == "frr");
        if bird && name.starts_with("show_protocols") {
            for session in bird_protocols(bytes) {
                // The file with details comes after the one without, and says more of the same session.
                said.sessions.retain(|(_, _, s)| s.name != session.name);
                said.sessions.push((Daemon::Bird, path.to_owned(), session));
            }
        } else if bird && name.starts_with("show_route") {
            said.routes_known = true;
            said.routes
                .extend(bird_routes(bytes).into_iter().map(|r| (path.to_owned(), r)));
        } else if frr && name.contains("bgp_summary") {
            let all = frr_summary(bytes).into_iter();
            said.sessions.extend(all.map(|s| (Daemon::Frr, path.to_owned(), s)));
        }
    }
    said
}

/// Every line with its place; `birdc -r` puts a code before each.
fn lines_of(bytes: &[u8]) -> Vec<(Row, String)> {
    let table = lines::table("".into(), bytes, |at, line, rows: &mut Vec<(Row, String)>| {
        let coded = line.len() > 5 && line.as_bytes()[..4].iter().all(u8::is_ascii_digit) && line.as_bytes()[4] == b'-';
        let line = if coded { line.get(5..).unwrap_or_default() } else { line };
        rows.push((at, line.to_owned()));
        Ok(())
    });
    table.rows
}

/// The BGP sessions in `show protocols` or `show protocols all`.
#[must_use]
pub fn bird_protocols(bytes: &[u8]) -> Vec<Session> {
    let mut all: Vec<Session> = Vec::new();
    // Details belong to the protocol above them, which may be none of BGP.
    let mut open = false;
    for (at, line) in lines_of(bytes) {
        if line.starts_with([' ', '\t']) {
            let Some(session) = all.last_mut().filter(|_| open) else {
                continue;
            };
            let Some((key, value)) = line.trim().split_once(':') else {
                continue;
            };
            let value = value.trim();
            match key {
                "BGP state" => value.clone_into(&mut session.state),
                "Neighbor address" => {
                    session.neighbour = value.split(['%', ' ']).next().and_then(|a| a.parse().ok());
                }
                "Last error" => session.error = Some(value.to_owned()),
                _ => {}
            }
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        open = words.get(1) == Some(&"BGP") && words.len() >= 4;
        if open {
            // What follows the time: `Established`, or a state and why.
            let info = [
                "Established",
                "Active",
                "Connect",
                "OpenSent",
                "OpenConfirm",
                "Idle",
                "Passive",
            ];
            let said = words.iter().skip(4).find(|word| info.contains(word));
            all.push(Session {
                at,
                name: words[0].to_owned(),
                neighbour: None,
                state: (*said.unwrap_or(&words[3])).to_owned(),
                error: None,
            });
        }
    }
    all
}

/// The routes in `show route` or `show route all`.
#[must_use]
pub fn bird_routes(bytes: &[u8]) -> Vec<Known> {
    let mut all = Vec::new();
    let mut prefix: Option<IpNet> = None;
    for (at, line) in lines_of(bytes) {
        if !line.starts_with([' ', '\t']) {
            prefix = line.split_whitespace().next().and_then(|word| word.parse().ok());
        }
        // `[NAME TIME]`: a route; the same prefix once more has no prefix before it.
        let name = line
            .split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'))
            .and_then(|(inside, _)| inside.split_once(' '))
            .map(|(name, _)| name);
        if let (Some(prefix), Some(name)) = (prefix, name) {
            all.push(Known {
                at,
                prefix,
                from: name.to_owned(),
            });
        }
    }
    all
}

/// The sessions in `show bgp summary json`: any object under `peers`, in every address family and VRF.
#[must_use]
pub fn frr_summary(bytes: &[u8]) -> Vec<Session> {
    let Ok(document) = serde_json::from_slice::<Value>(bytes) else {
        return Vec::new();
    };
    let mut all: Vec<Session> = Vec::new();
    let at = Row {
        start: 0,
        len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
    };
    // serde_json bounds how deep a document may be.
    let mut rest = vec![&document];
    while let Some(value) = rest.pop() {
        let Some(object) = value.as_object() else { continue };
        for (key, inner) in object {
            let peers = inner.as_object().filter(|_| key == "peers");
            for (name, peer) in peers.into_iter().flatten() {
                let Some(state) = peer.get("state").and_then(Value::as_str) else {
                    continue;
                };
                // A session carries several families.
                if all.iter().any(|s| s.name == *name) {
                    continue;
                }
                all.push(Session {
                    at,
                    name: name.clone(),
                    neighbour: name.parse().ok(),
                    state: state.to_owned(),
                    error: None,
                });
            }
            if peers.is_none() {
                rest.push(inner);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bird_2_and_bird_1_name_their_sessions() {
        let all = b"BIRD 2.0.12 ready.\nName       Proto      Table      State  Since         Info\n\
static1    Static     master4    up     14:49:16.774  \n  Channel ipv4\n    State:          UP\n\n\
Mesh_12 BGP        ---        down   14:50:33.766  \n  BGP state:          Down\n    Neighbor address: 172.16.0.12\n\n\
Mesh_13 BGP        ---        start  14:49:18.015  Active        Socket: Connection refused\n  BGP state:          Active\n    Neighbor address: fe80::1%eth0\n    Last error:       Socket: Connection refused\n";
        let sessions = bird_protocols(all);
        let of: Vec<_> = sessions.iter().map(|s| (&*s.name, &*s.state, s.is_up())).collect();
        assert_eq!(of, [("Mesh_12", "Down", false), ("Mesh_13", "Active", false)]);
        assert_eq!(sessions[0].neighbour, "172.16.0.12".parse().ok());
        assert_eq!(sessions[1].error.as_deref(), Some("Socket: Connection refused"));
        let raw =
            b"1002-Mesh_172_17_8_102 BGP      master   up     2016-11-21  Established   \n1006-  Description:    x\n";
        assert_eq!(bird_protocols(raw).first().map(Session::is_up), Some(true));
    }

    #[test]
    fn routes_are_tied_to_their_session_in_both_versions() {
        let two = b"Table master4:\n192.168.99.0/26      unicast [Mesh_13 14:49:18.050] * (100) [i]\n\tvia 172.16.0.13 on eth0\n                     unicast [Mesh_14 14:49:18.050] (100) [i]\n";
        let routes = bird_routes(two);
        let of: Vec<_> = routes.iter().map(|r| (r.prefix.to_string(), &*r.from)).collect();
        assert_eq!(
            of,
            [
                ("192.168.99.0/26".to_owned(), "Mesh_13"),
                ("192.168.99.0/26".to_owned(), "Mesh_14")
            ]
        );
        let one = b"10.1.2.0/26        via 10.0.0.2 on eth0 [Mesh_2 11:00:00 from 10.0.0.2] * (100/0) [i]\n";
        assert_eq!(bird_routes(one).len(), 1);
    }

    #[test]
    fn frr_lists_peers_below_families() {
        let json = br#"{"ipv4Unicast":{"routerId":"10.0.0.1","peers":{"10.0.0.2":{"state":"Active","pfxRcd":0},"10.0.0.3":{"state":"Established"}}},"l2VpnEvpn":{"peers":{"10.0.0.3":{"state":"Established"}}}}"#;
        let mut sessions = frr_summary(json);
        sessions.sort_by(|a, b| a.name.cmp(&b.name));
        let of: Vec<_> = sessions.iter().map(|s| (s.neighbour, s.is_up())).collect();
        assert_eq!(of, [("10.0.0.2".parse().ok(), false), ("10.0.0.3".parse().ok(), true)]);
        assert!(frr_summary(b"% BGP instance not found").is_empty());
    }
}
