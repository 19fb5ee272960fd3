//! `vtysh -c 'show … json'`: `bgp summary`, `bgp neighbors`, `bgp FAMILY unicast`, and `neighbors PEER
//! advertised-routes` of one.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde_json::Value;

use super::{Known, Session};
use crate::id::Family;
use crate::row::Row;

/// The sessions in `show bgp summary json`: any object under `peers`, in every address family and VRF.
#[must_use]
pub fn summary(bytes: &[u8]) -> Vec<Session> {
    let document = read(bytes);
    let mut all: Vec<Session> = Vec::new();
    // serde_json bounds how deep a document may be.
    let mut rest = vec![(None, &document)];
    while let Some((family, value)) = rest.pop() {
        let Some(object) = value.as_object() else { continue };
        for (key, inner) in object {
            let peers = inner.as_object().filter(|_| key == "peers");
            for (name, peer) in peers.into_iter().flatten() {
                let Some(state) = peer.get("state").and_then(Value::as_str) else {
                    continue;
                };
                // A session carries several families.
                if let Some(known) = all.iter_mut().find(|s| s.name == *name) {
                    known.families.get_or_insert_default().extend(family);
                    continue;
                }
                all.push(Session {
                    at: row(bytes, name),
                    name: name.clone(),
                    neighbour: name.parse().ok(),
                    state: state.to_owned(),
                    error: None,
                    families: Some(family.into_iter().collect()),
                });
            }
            if peers.is_none() {
                let named = match key.as_str() {
                    "ipv4Unicast" => Some(Family::V4),
                    "ipv6Unicast" => Some(Family::V6),
                    _ => None,
                };
                rest.push((named.or(family), inner));
            }
        }
    }
    all
}

/// Why sessions are not up, by neighbour, in `show bgp neighbors json`.
#[must_use]
pub fn errors(bytes: &[u8]) -> BTreeMap<String, String> {
    let document = read(bytes);
    let peers = document.as_object().into_iter().flatten();
    let why = peers.filter_map(|(name, peer)| Some((name.clone(), peer.get("lastResetDueTo")?.as_str()?.to_owned())));
    why.collect()
}

/// The routes in `show bgp FAMILY unicast json`, each with the neighbour it is from.
#[must_use]
pub fn routes(bytes: &[u8]) -> Vec<Known> {
    let document = read(bytes);
    let all = document["routes"].as_object().into_iter().flatten();
    let of = all.filter_map(|(prefix, paths)| {
        let known = |path: &Value| {
            Some(Known {
                at: row(bytes, prefix),
                prefix: prefix.parse().ok()?,
                from: path.get("peerId")?.as_str()?.to_owned(),
            })
        };
        Some(paths.as_array()?.iter().filter_map(known).collect::<Vec<_>>())
    });
    in_order(of.flatten())
}

/// The prefixes in `… advertised-routes json`; `None` when it is no such document.
#[must_use]
pub fn advertised(bytes: &[u8]) -> Option<Vec<Known>> {
    let document = read(bytes);
    let all = document.get("advertisedRoutes")?.as_object()?;
    let known = |prefix: &String| {
        Some(Known {
            at: row(bytes, prefix),
            prefix: prefix.parse::<IpNet>().ok()?,
            from: String::new(),
        })
    };
    Some(in_order(all.keys().filter_map(known)))
}

/// As they stand in the file: whether a map keeps that order is for whoever builds `serde_json` to say.
fn in_order(known: impl Iterator<Item = Known>) -> Vec<Known> {
    let mut all: Vec<Known> = known.collect();
    all.sort_by_key(|known| known.at.start);
    all
}

fn read(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// The line in which an object's key stands first. FRR writes slashes in keys as they are.
fn row(bytes: &[u8], key: &str) -> Row {
    let quoted = format!("\"{key}\":");
    let start = memchr::memmem::find(bytes, quoted.as_bytes()).unwrap_or_default();
    let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |len| start + len);
    Row {
        start: start as u64,
        len: u32::try_from(end - start).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frr_lists_peers_below_families() {
        let json = br#"{"ipv4Unicast":{"routerId":"10.0.0.1","peers":{"10.0.0.2":{"state":"Active","pfxRcd":0},"10.0.0.3":{"state":"Established"}}},"l2VpnEvpn":{"peers":{"10.0.0.3":{"state":"Established"}}}}"#;
        let mut sessions = summary(json);
        sessions.sort_by(|a, b| a.name.cmp(&b.name));
        let of: Vec<_> = sessions.iter().map(|s| (s.neighbour, s.is_up())).collect();
        assert_eq!(of, [("10.0.0.2".parse().ok(), false), ("10.0.0.3".parse().ok(), true)]);
        assert!(summary(b"% BGP instance not found").is_empty());
    }

    #[test]
    fn what_is_announced_stands_in_its_line() {
        let json =
            b"{\n \"advertisedRoutes\":{\n  \"192.0.2.242/32\":{\n  \"metric\":0}\n },\n \"totalPrefixCounter\":1\n}\n";
        let all = advertised(json).expect("a list");
        let [one] = &all[..] else { panic!("{all:?}") };
        let text = &json[one.at.start as usize..][..one.at.len as usize];
        assert_eq!(
            (one.prefix.to_string().as_str(), text),
            ("192.0.2.242/32", &b"\"192.0.2.242/32\":{"[..])
        );
        assert_eq!(
            advertised(b"{ \"warning\": \"No such neighbor or address family\" }"),
            None
        );
        let table =
            br#"{"routes":{ "10.77.4.0/26": [{"peerId":"172.32.0.2"}],"10.77.3.0/26": [{"peerId":"(unspec)"}]}}"#;
        let from: Vec<_> = routes(table).into_iter().map(|known| known.from).collect();
        assert_eq!(from, ["172.32.0.2", "(unspec)"]);
        let why = errors(br#"{"172.32.0.9":{"bgpState":"Active","lastResetDueTo":"Waiting for peer OPEN"}}"#);
        assert_eq!(why["172.32.0.9"], "Waiting for peer OPEN");
    }
}
