//! The protocol between `vtysh` and FRR's daemons (`lib/vty.c`, `vtysh_read`): a command ends with a zero byte, its
//! answer with three of them and a byte that is 0 when all went well. A new connection may only show things.

use std::io;
use std::path::Path;

use serde_json::Value;

use super::Session;
use super::control::Control;

/// Asks the BGP daemon for sessions, what is announced on those that are up, and routes; the other for routes.
pub(super) fn ask(session: &mut Session<'_>) {
    let bgp = session.daemon.comm == "bgpd";
    let first = if bgp { SUMMARY } else { ROUTES[0] };
    let mut control = match session.connect(is_vty) {
        Ok(control) => control,
        Err(e) => return session.mute(first.0, &e),
    };
    if !bgp {
        for (file, command) in ROUTES {
            if said(&mut control, session, file, command).is_none() {
                return;
            }
        }
        return;
    }
    let Some(summary) = said(&mut control, session, SUMMARY.0, SUMMARY.1) else {
        return;
    };
    if said(&mut control, session, NEIGHBOURS.0, NEIGHBOURS.1).is_none() {
        return;
    }
    for (family, peer) in established(&summary) {
        let file = format!("show_bgp_{family}_advertised_{}.json", super::file_name(&peer));
        let command = format!("show bgp {family} unicast neighbors {peer} advertised-routes json");
        if said(&mut control, session, &file, &command).is_none() {
            return;
        }
    }
    for family in ["ipv4", "ipv6"] {
        let file = format!("show_bgp_{family}_unicast.json");
        if said(&mut control, session, &file, &format!("show bgp {family} unicast json")).is_none() {
            return;
        }
    }
}

/// Others of its sockets are for other programs.
pub(super) fn is_vty(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "vty")
}

type Question = (&'static str, &'static str);

const SUMMARY: Question = ("show_bgp_summary.json", "show bgp summary json");
const NEIGHBOURS: Question = ("show_bgp_neighbors.json", "show bgp neighbors json");
const ROUTES: [Question; 2] = [
    ("show_ip_route.json", "show ip route json"),
    ("show_ipv6_route.json", "show ipv6 route json"),
];

/// The sessions that are up, by address family.
fn established(summary: &[u8]) -> Vec<(&'static str, String)> {
    let document: Value = serde_json::from_slice(summary).unwrap_or_default();
    let mut all = Vec::new();
    for (key, family) in [("ipv4Unicast", "ipv4"), ("ipv6Unicast", "ipv6")] {
        let peers = document[key]["peers"].as_object().into_iter().flatten();
        let up = peers.filter(|(name, peer)| peer["state"] == "Established" && super::is_name(name));
        all.extend(up.map(|(name, _)| (family, name.clone())));
    }
    all
}

/// Asks and keeps the answer; `None` when nothing more can be asked.
fn said(control: &mut Control, session: &mut Session<'_>, file: &str, command: &str) -> Option<Vec<u8>> {
    let answer = answer(control, session, command);
    let (kept, lost) = match &answer {
        Ok(text) => (Some(text.clone()), false),
        Err(e) => (None, e.kind() != io::ErrorKind::InvalidInput),
    };
    session.keep(file, command, answer);
    (!lost).then(|| kept.unwrap_or_default())
}

fn answer(control: &mut Control, session: &Session<'_>, command: &str) -> io::Result<Vec<u8>> {
    control.send(format!("{command}\0").as_bytes())?;
    let mut raw = control.receive(session.time(), |bytes, new| {
        // The end may have come in pieces.
        let from = new.saturating_sub(3);
        let zeros = bytes[from..].windows(3).position(|three| three == [0; 3])?;
        let end = from + zeros + 4;
        (end <= bytes.len()).then_some(end)
    })?;
    let code = raw.pop();
    raw.truncate(raw.len().saturating_sub(3));
    if code == Some(0) {
        return Ok(raw);
    }
    let text = String::from_utf8_lossy(&raw);
    let why = text.lines().next().unwrap_or_default();
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{command}: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sessions_that_are_up_announce_something() {
        let summary = br#"{"ipv4Unicast":{"peers":{"10.0.0.1":{"state":"Established"},"10.0.0.2":{"state":"Active"},
            "x\nconfigure":{"state":"Established"}}},"ipv6Unicast":{"peers":{"fe80::1":{"state":"Established"}}}}"#;
        let up = established(summary);
        let expected = [("ipv4", "10.0.0.1".to_owned()), ("ipv6", "fe80::1".to_owned())];
        assert_eq!(up, expected);
        assert_eq!(established(b"% BGP instance not found"), []);
    }
}
