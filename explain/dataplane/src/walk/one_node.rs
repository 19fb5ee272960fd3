//! What a node alone does with a packet of its own, by the tables of a test.

use std::sync::Arc;

use knet_snapshot::Snapshot;
use knet_snapshot::store::Blob;

use crate::packet::{L4, proto};
use crate::trace::{Branch, Detail, NsId};
use crate::walk::{Limits, Origin, Start, trace};
use crate::world::World;

/// What becomes of a UDP packet to this address, port 53, where nothing is left to chance. Tables that are not named
/// are empty.
pub fn sent(dst: &str, tables: &[(&str, &str)]) -> Branch {
    let empty = [
        ("neigh.json", "[]"),
        ("sockets.txt", ""),
        ("nft.json", r#"{"nftables":[]}"#),
        ("iptables-nft.save", ""),
        ("iptables-legacy.save", ""),
        ("xfrm.txt", ""),
        ("sysctl.txt", "net.ipv4.ip_forward = 1\n"),
    ];
    let missing = empty.iter().filter(|(name, _)| tables.iter().all(|t| t.0 != *name));
    let files = tables.iter().chain(missing).map(|(name, text)| {
        let blob: Blob = Arc::new(text.as_bytes().to_vec());
        (format!("nodes/n/host/{name}"), blob)
    });
    let snapshot = Snapshot::from_files(files.collect()).unwrap();
    let world = World::new(&snapshot);
    let start = Start {
        ns: NsId(0),
        origin: Origin::Local { uid: None },
        src: None,
        dst: dst.parse().unwrap(),
        proto: proto::UDP,
        l4: L4::Ports {
            sport: 40000.into(),
            dport: 53.into(),
        },
        any_sport: true,
        ttl: 64,
        tos: 0,
        mark: 0,
        len: 60,
    };
    let mut branches = trace(&world, &start, Detail::Decisions, Limits::default()).branches;
    assert_eq!(branches.len(), 1, "{branches:?}");
    branches.remove(0)
}
