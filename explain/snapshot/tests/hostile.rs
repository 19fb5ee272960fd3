//! Nothing in a snapshot is trusted: every parser returns on every input, with rows inside the file.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test; the environment says how long to fuzz"
)]

mod touch;

use std::sync::Arc;

use knet_snapshot::Snapshot;
use knet_snapshot::store::Blob;
use proptest::prelude::*;

use touch::read;

macro_rules! samples {
    ($($path:literal: $file:literal;)*) => {
        &[$(($path, include_bytes!(concat!("samples/", $file)))),*]
    };
}

/// Where a sample stands in a snapshot, and the sample.
const SAMPLES: &[(&str, &[u8])] = samples! {
    "manifest.json": "manifest.json";
    "nodes/n/node.json": "node.json";
    "nodes/n/netns.json": "netns.json";
    "nodes/n/host/link.json": "link.json";
    "nodes/n/host/link.json": "link-plain.json";
    "nodes/n/host/addr.json": "addr.json";
    "nodes/n/host/route.json": "route.json";
    "nodes/n/host/route.json": "route-plain.json";
    "nodes/n/host/route6.json": "route6.json";
    "nodes/n/host/rule.json": "rule.json";
    "nodes/n/host/rule.json": "rule-plain.json";
    "nodes/n/host/rule6.json": "rule6.json";
    "nodes/n/host/nexthop.json": "nexthop.json";
    "nodes/n/host/neigh.json": "neigh.json";
    "nodes/n/host/fdb.json": "fdb.json";
    "nodes/n/host/bridge-link.json": "bridge-link.json";
    "nodes/n/host/bridge-vlan.json": "bridge-vlan.json";
    "nodes/n/host/iptables-nft.save": "iptables-nft.save";
    "nodes/n/host/iptables-legacy.save": "iptables-legacy.save";
    "nodes/n/host/ipset.save": "ipset.save";
    "nodes/n/host/conntrack.txt": "conntrack.txt";
    "nodes/n/host/sockets.txt": "sockets.txt";
    "nodes/n/host/sysctl.txt": "sysctl.txt";
    "nodes/n/host/nft.json": "nft.json";
    "nodes/n/host/nft.txt": "nft.txt";
    "nodes/n/host/ipvs.save": "ipvs.save";
    "nodes/n/host/ipvs-conn.txt": "ipvs-conn.txt";
    "nodes/n/host/xfrm.txt": "xfrm.txt";
    "nodes/n/host/wg.txt": "wg.txt";
    "nodes/n/host/tc.json": "tc.json";
    "nodes/n/files/bird/show_protocols_all.txt": "bird-protocols.txt";
    "nodes/n/files/bird/show_route_all.txt": "bird-routes.txt";
    "nodes/n/files/bird/show_route_export_tor1.txt": "bird-routes.txt";
    "nodes/n/files/frr/bgp_summary.json": "frr-summary.json";
    "nodes/n/files/frr/show_bgp_ipv4_advertised_10.0.0.3.json": "frr-advertised.json";
    "nodes/n/files/frr/show_bgp_ipv4_unicast.json": "frr-routes.json";
    "cluster/nodes.json": "cluster/nodes.json";
    "cluster/pods.json": "cluster/pods.json";
    "cluster/services.json": "cluster/services.json";
    "cluster/endpointslices.json": "cluster/endpointslices.json";
    "cluster/networkpolicies.json": "cluster/networkpolicies.json";
    "cluster/namespaces.json": "cluster/namespaces.json";
    "cluster/configmaps.json": "cluster/configmaps.json";
    "cluster/ingresses.json": "cluster/networkpolicies.json";
    "kernel trace": "kernel-trace/nft.txt";
    "kernel trace": "kernel-trace/nft-many.txt";
    "kernel trace": "kernel-trace/xtables-many.txt";
    "kernel trace": "kernel-trace/log-many.txt";
};

/// Xorshift: the same mutations on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Pieces that mean something to one parser or another.
const PIECES: &[&[u8]] = &[
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\xe2\x80",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"/",
    b"%",
    b"@",
    b" ",
    b"-",
    b"-A ",
    b"*nat\n",
    b"COMMIT\n",
    b"users:((\"",
    b"\",pid=",
    b"src=",
    b"null",
    b"-1",
    b"0x",
    b"1e99",
    b"18446744073709551616",
    b"4294967296",
    b"65536",
    b"\"dst\":",
    b"\"encap\":\"ip\",",
    b"\\ud800",
    b"create ",
    b"add ",
    b"trace id ",
    b" (verdict ",
    b"TRACE: ",
    b"PACKET: ",
];

fn mutate(random: &mut Random, sample: &[u8]) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let end = (at + random.below(40)).min(bytes.len());
        match random.below(8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            3 | 4 => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            5 => {
                let piece = PIECES[random.below(PIECES.len())];
                bytes.splice(at..end, piece.iter().copied());
            }
            6 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
        }
    }
    bytes
}

#[test]
fn samples_are_read() {
    for (path, sample) in SAMPLES {
        read(path, sample);
    }
}

#[test]
fn no_mutation_of_a_real_file_breaks_a_parser() {
    let rounds: usize = std::env::var("KNET_FUZZ_ITERS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(4000);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for i in 0..rounds {
        let (path, sample) = SAMPLES[i % SAMPLES.len()];
        let bytes = mutate(&mut random, sample);
        // The input of a failure is in its message.
        let result = std::panic::catch_unwind(|| read(path, &bytes));
        assert!(
            result.is_ok(),
            "round {i}, {path}: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

#[test]
fn no_sample_breaks_the_parser_of_another() {
    for (path, _) in SAMPLES {
        for (_, sample) in SAMPLES {
            read(path, sample);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_break_no_parser(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for (path, _) in SAMPLES {
            read(path, &bytes);
        }
    }

    #[test]
    fn arbitrary_text_breaks_no_parser(text in "([a-z]{1,6}|[0-9]{1,6}|[ :=\"/.%@*\\[\\]{},\\n-]|-A |src=|add |create |tcp |6 ){0,60}") {
        for (path, _) in SAMPLES {
            read(path, text.as_bytes());
        }
    }

    #[test]
    fn arbitrary_fields_break_no_parser(key in 0usize..40, value in "null|true|-1|[0-9]{1,22}|\"[a-z0-9:./ %]{0,20}\"|\\[\\]|\\{\\}|\\[null\\]|1e400|0\\.5") {
        // One field of every object of a real list replaced.
        for (path, sample) in SAMPLES.iter().filter(|(path, _)| path.ends_with(".json")) {
            let Ok(rows) = serde_json::from_slice::<serde_json::Value>(sample) else { continue };
            let Ok(value) = serde_json::from_str::<serde_json::Value>(&value) else { continue };
            let mut rows = rows;
            replace(&mut rows, key, &value);
            read(path, rows.to_string().as_bytes());
        }
    }

    #[test]
    fn paths_break_nothing(paths in proptest::collection::vec("(nodes|cluster|n|host|netns|manifest\\.json|link\\.json|netns\\.json|\\.|\\.\\.|/){0,7}", 0..8)) {
        let files = paths.into_iter().map(|path| (path, Arc::new(b"[]".to_vec()) as Blob)).collect();
        if let Ok(snapshot) = Snapshot::from_files(files) {
            for namespace in snapshot.namespaces() {
                let _ = namespace.links();
            }
            let _ = snapshot.all_problems();
        }
    }
}

fn replace(value: &mut serde_json::Value, key: usize, with: &serde_json::Value) {
    match value {
        serde_json::Value::Array(list) => list.iter_mut().for_each(|entry| replace(entry, key, with)),
        serde_json::Value::Object(map) => {
            let count = map.len();
            for (i, entry) in map.values_mut().enumerate() {
                if count > 0 && i == key % count {
                    *entry = with.clone();
                } else {
                    replace(entry, key, with);
                }
            }
        }
        _ => {}
    }
}
