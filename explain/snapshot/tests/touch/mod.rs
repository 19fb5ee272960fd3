//! Reads whatever a file may hold. Shared by the tests and the fuzz target.

use std::sync::Arc;

use knet_snapshot::artifact::name;
use knet_snapshot::id::Family;
use knet_snapshot::ipvs::IpvsRow;
use knet_snapshot::store::Blob;
use knet_snapshot::xfrm::Xfrm;
use knet_snapshot::xtsave::XtSave;
use knet_snapshot::{Fact, Row, Snapshot, Table, routing_daemon};

/// The path that stands for a recording of the kernel's trace, which is no file of a snapshot.
pub const TRACE: &str = "kernel trace";

/// Opens a snapshot of one file and asks for everything that could be in it. Every row must stand inside the file.
pub fn read(path: &str, bytes: &[u8]) {
    if path == TRACE {
        kernel_trace(bytes);
        return;
    }
    let blob: Blob = Arc::new(bytes.to_vec());
    let Ok(snapshot) = Snapshot::from_files(vec![(path.to_owned(), blob)]) else {
        return;
    };
    for namespace in snapshot.namespaces() {
        check(bytes, namespace.links(), |row| row.at);
        check(bytes, namespace.addrs(), |row| row.at);
        check(bytes, namespace.nexthops(), |row| row.at);
        check(bytes, namespace.neighbours(), |row| row.at);
        check(bytes, namespace.fdb(), |row| row.at);
        check(bytes, namespace.bridge_ports(), |row| row.at);
        check(bytes, namespace.bridge_vlans(), |row| row.at);
        check(bytes, namespace.sockets(), |row| row.at);
        check(bytes, namespace.conntrack(), |row| row.at);
        check(bytes, namespace.ipsets(), |row| row.at);
        check(bytes, namespace.ipvs(), |row| match row {
            IpvsRow::Service(row) => row.at,
            IpvsRow::Server(row) => row.at,
        });
        check(bytes, namespace.ipvs_connections(), |row| row.at);
        check(bytes, namespace.wireguard(), |row| row.at);
        check(bytes, namespace.xfrm(), |row| match row {
            Xfrm::Policy(row) => row.at,
            Xfrm::State(row) => row.at,
        });
        check(bytes, namespace.tc(), |row| row.at);
        check(bytes, namespace.nft(), |row| row.at);
        let _ = namespace.nft_listing();
        for family in [Family::V4, Family::V6] {
            check(bytes, namespace.routes(family), |row| row.at);
            check(bytes, namespace.rules(family), |row| row.at);
        }
        for (_, at) in namespace
            .sysctls()
            .get()
            .into_iter()
            .flat_map(|sysctls| sysctls.values.values())
        {
            assert!(inside(bytes, *at));
        }
        for file in [name::IPTABLES_NFT, name::IPTABLES_LEGACY] {
            xtables(bytes, namespace.xtables(file).unwrap());
        }
    }
    let cluster = snapshot.cluster();
    check(bytes, cluster.nodes(), |row| row.at);
    check(bytes, cluster.pods(), |row| row.at);
    check(bytes, cluster.services(), |row| row.at);
    check(bytes, cluster.endpoint_slices(), |row| row.at);
    check(bytes, cluster.network_policies(), |row| row.at);
    check(bytes, cluster.namespaces(), |row| row.at);
    check(bytes, cluster.config_maps(), |row| row.at);
    check(bytes, cluster.ingresses(), |row| row.at);
    check(bytes, cluster.ingress_classes(), |row| row.at);
    check(bytes, cluster.gateways(), |row| row.at);
    check(bytes, cluster.http_routes(), |row| row.at);
    for node in snapshot.nodes() {
        let files = snapshot.paths().filter_map(|path| Some((path, snapshot.bytes(path)?)));
        let said = routing_daemon::of_node(node, files);
        assert!(said.sessions.iter().all(|(_, _, s)| inside(bytes, s.at)));
        assert!(said.routes.iter().all(|(_, _, r)| inside(bytes, r.at)));
        for (daemon, path, session) in &said.sessions {
            let address = std::net::Ipv4Addr::new(192, 0, 2, 242).into();
            if let routing_daemon::Announces::Yes(_, known) = said.announces(*daemon, path, session, address) {
                assert!(inside(bytes, known.at));
            }
        }
    }
    for problem in snapshot.all_problems() {
        let offset = problem.offset.unwrap_or(0);
        assert!(offset <= bytes.len() as u64, "{problem:?}");
        let _ = (
            snapshot.line_of(&problem.artifact, offset),
            snapshot.line_text(&problem.artifact, offset),
        );
    }
}

fn inside(bytes: &[u8], at: Row) -> bool {
    at.start + u64::from(at.len) <= bytes.len() as u64
}

fn check<T>(bytes: &[u8], fact: &Fact<Table<T>>, at: impl Fn(&T) -> Row) {
    for row in fact.get().into_iter().flat_map(|table| &table.rows) {
        assert!(inside(bytes, at(row)));
    }
}

/// Every rule that is given belongs to its chain, and none is given twice.
fn xtables(bytes: &[u8], fact: &Fact<XtSave>) {
    let mut given = 0;
    for table in fact.get().into_iter().flat_map(|save| &save.tables) {
        for (i, chain) in table.chains.iter().enumerate() {
            assert_eq!(table.position(bytes, chain.name(bytes)), Some(i));
            for rule in chain.rules(bytes) {
                assert!(inside(bytes, rule.at));
                let rest = rule
                    .text
                    .strip_prefix(b"-A ")
                    .unwrap()
                    .strip_prefix(chain.name(bytes))
                    .unwrap();
                assert!(rest.is_empty() || rest[0] == b' ' || rest[0] == b'\r');
                given += 1;
            }
        }
    }
    assert!(given <= bytes.split(|b| *b == b'\n').count());
}

/// Every line is an event of one packet, a header, a remark, or kept as not understood.
fn kernel_trace(bytes: &[u8]) {
    let trace = knet_snapshot::kernel_trace::parse(bytes);
    let lines = bytes.split(|b| *b == b'\n').count() as u64;
    let mut seen = std::collections::BTreeSet::new();
    for packet in &trace.packets {
        assert!(!packet.events.is_empty());
        assert!(packet.events.is_sorted_by_key(|e| (e.run, e.line)));
        for event in &packet.events {
            assert!((1..=lines).contains(&event.line));
            assert!(seen.insert(event.line), "an event is of one packet: {event:?}");
        }
    }
    assert!(seen.len() as u64 + trace.unread_count as u64 + trace.remarks as u64 <= lines);
    assert!(trace.unread.len() <= trace.unread_count);
}
