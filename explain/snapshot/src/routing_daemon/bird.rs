//! `birdc show protocols [all]`, `birdc show route [all]`, `birdc show route export NAME`.

use ipnet::IpNet;

use super::{Known, Session};
use crate::lines;
use crate::row::Row;

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
pub fn protocols(bytes: &[u8]) -> Vec<Session> {
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
                families: None,
            });
        }
    }
    all
}

/// The routes in `show route` or `show route all`.
#[must_use]
pub fn routes(bytes: &[u8]) -> Vec<Known> {
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

/// The routes in `show route export NAME`; `None` when something else stands there too, an error say: then nobody can
/// tell that a route is not among them.
#[must_use]
pub fn exported(bytes: &[u8]) -> Option<Vec<Known>> {
    let understood = |line: &str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        line.starts_with([' ', '\t'])
            || matches!(first, "" | "BIRD" | "Table" | "0000")
            || line.starts_with("Access restricted")
            || first.parse::<IpNet>().is_ok()
    };
    let all = lines_of(bytes).iter().all(|(_, line)| understood(line));
    all.then(|| routes(bytes))
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
        let sessions = protocols(all);
        let of: Vec<_> = sessions.iter().map(|s| (&*s.name, &*s.state, s.is_up())).collect();
        assert_eq!(of, [("Mesh_12", "Down", false), ("Mesh_13", "Active", false)]);
        assert_eq!(sessions[0].neighbour, "172.16.0.12".parse().ok());
        assert_eq!(sessions[1].error.as_deref(), Some("Socket: Connection refused"));
        let raw =
            b"1002-Mesh_172_17_8_102 BGP      master   up     2016-11-21  Established   \n1006-  Description:    x\n";
        assert_eq!(protocols(raw).first().map(Session::is_up), Some(true));
    }

    #[test]
    fn routes_are_tied_to_their_session_in_both_versions() {
        let two = b"Table master4:\n192.168.99.0/26      unicast [Mesh_13 14:49:18.050] * (100) [i]\n\tvia 172.16.0.13 on eth0\n                     unicast [Mesh_14 14:49:18.050] (100) [i]\n";
        let read = routes(two);
        let of: Vec<_> = read.iter().map(|r| (r.prefix.to_string(), &*r.from)).collect();
        assert_eq!(
            of,
            [
                ("192.168.99.0/26".to_owned(), "Mesh_13"),
                ("192.168.99.0/26".to_owned(), "Mesh_14")
            ]
        );
        let one = b"10.1.2.0/26        via 10.0.0.2 on eth0 [Mesh_2 11:00:00 from 10.0.0.2] * (100/0) [i]\n";
        assert_eq!(routes(one).len(), 1);
    }

    #[test]
    fn an_error_is_not_an_empty_list() {
        let some =
            b"BIRD 2.0.12 ready.\nTable master4:\n192.0.2.240/32       blackhole [static1 01:38:09.186] * (200)\n";
        assert_eq!(exported(some).map(|all| all.len()), Some(1));
        assert_eq!(exported(b"BIRD 2.0.12 ready.\n").map(|all| all.len()), Some(0));
        for error in [
            "No valid tables",
            "syntax error, unexpected CF_SYM_UNDEFINED",
            "bash: birdc: command not found",
        ] {
            assert_eq!(
                exported(format!("BIRD 2.0.12 ready.\n{error}\n").as_bytes()),
                None,
                "{error}"
            );
        }
    }
}
