//! Which file is what, what is absent and why.

use knet_snapshot::artifact::name;
use knet_snapshot::id::Family;
use knet_snapshot::manifest::AbsentReason;
use knet_snapshot::node::PodRef;
use knet_snapshot::store::{Blob, NetnsId, SnapshotError};
use knet_snapshot::{Fact, Snapshot};

use crate::{blob, sample};

/// A snapshot of one node with one pod, as a capture has it.
fn files() -> Vec<(String, Blob)> {
    let host = [
        (name::LINK, sample!("link.json")),
        (name::ADDR, sample!("addr.json")),
        (name::ROUTE, sample!("route.json")),
        (name::ROUTE6, sample!("route6.json")),
        (name::RULE, sample!("rule.json")),
        (name::NEXTHOP, sample!("nexthop.json")),
        (name::NEIGH, sample!("neigh.json")),
        (name::FDB, sample!("fdb.json")),
        (name::BRIDGE_LINK, sample!("bridge-link.json")),
        (name::BRIDGE_VLAN, sample!("bridge-vlan.json")),
        (name::IPTABLES_NFT, sample!("iptables-nft.save")),
        (name::IPTABLES_LEGACY, sample!("iptables-legacy.save")),
        (name::SOCKETS, sample!("sockets.txt")),
        (name::SYSCTL, sample!("sysctl.txt")),
    ];
    let mut files: Vec<(String, Blob)> = host
        .iter()
        .map(|(file, bytes)| (format!("nodes/node-1/host/{file}"), blob(bytes)))
        .collect();
    files.push(("manifest.json".to_owned(), blob(sample!("manifest.json"))));
    files.push(("nodes/node-1/node.json".to_owned(), blob(sample!("node.json"))));
    files.push(("nodes/node-1/netns.json".to_owned(), blob(sample!("netns.json"))));
    files.push(("nodes/node-1/netns/web-0/route.json".to_owned(), blob(b"[]")));
    files.push((
        "nodes/node-1/files/etc/cni/net.d/10-flannel.conflist".to_owned(),
        blob(b"{}"),
    ));
    files.push((
        "cluster/services.json".to_owned(),
        blob(sample!("cluster/services.json")),
    ));
    files
}

fn with(path: &str, bytes: &[u8]) -> Snapshot {
    let mut files = files();
    files.retain(|(p, _)| p != path);
    files.push((path.to_owned(), blob(bytes)));
    Snapshot::from_files(files).unwrap()
}

fn said(snapshot: &Snapshot, artifact: &str) -> Vec<String> {
    let of = |p: knet_snapshot::Problem| (p.artifact == artifact).then_some(p.what);
    snapshot.all_problems().into_iter().filter_map(of).collect()
}

#[test]
fn everything_in_its_place() {
    let snapshot = Snapshot::from_files(files()).unwrap();
    let names: Vec<_> = snapshot.nodes().map(|node| node.name.as_str()).collect();
    assert_eq!(
        names,
        ["node-1", "node-9"],
        "a node nobody could reach is there as well"
    );
    let node = snapshot.node("node-1").unwrap();
    assert_eq!(node.info.get().unwrap().hostname, "node-1");
    let pod = PodRef {
        namespace: "shop".to_owned(),
        name: "web-0".to_owned(),
        uid: Some("u-1".to_owned()),
    };
    assert_eq!(node.netns_entry("web-0").unwrap().pod.as_ref(), Some(&pod));
    assert_eq!(node.netns_entry("web-0").unwrap().peers[0].host_ifindex, 6);
    assert_eq!(
        node.netns.keys().collect::<Vec<_>>(),
        ["plain", "web-0"],
        "one is known from netns.json only"
    );
    let id = NetnsId {
        node: "node-1".to_owned(),
        id: Some("web-0".to_owned()),
    };
    assert_eq!(
        snapshot
            .netns(&id)
            .unwrap()
            .routes(Family::V4)
            .get()
            .unwrap()
            .rows
            .len(),
        0
    );
    assert_eq!(node.host.links().get().unwrap().rows.len(), 9);
    assert_eq!(
        &*node.host.links().get().unwrap().artifact,
        "nodes/node-1/host/link.json"
    );
    assert_eq!(
        node.host
            .xtables(name::IPTABLES_LEGACY)
            .unwrap()
            .get()
            .unwrap()
            .tables
            .len(),
        1
    );
    assert!(node.host.xtables(name::LINK).is_none());
    assert_eq!(snapshot.cluster().services().get().unwrap().rows.len(), 3);
    assert_eq!(
        snapshot.bytes("nodes/node-1/files/etc/cni/net.d/10-flannel.conflist"),
        Some(&b"{}"[..])
    );
    assert_eq!(snapshot.namespaces().count(), 4);
}

#[test]
fn empty_absent_and_unknown_are_three_things() {
    let snapshot = Snapshot::from_files(files()).unwrap();
    let host = &snapshot.node("node-1").unwrap().host;
    assert!(
        matches!(host.ipsets(), Fact::Empty(t, AbsentReason::ModuleNotLoaded) if &*t.artifact == "nodes/node-1/host/ipset.save")
    );
    assert_eq!(host.conntrack().missing(), Some(AbsentReason::Permission));
    assert_eq!(
        host.bytes(name::WG).missing(),
        Some(AbsentReason::Other),
        "a reason of a later version"
    );
    assert_eq!(
        host.bytes(name::TC).missing(),
        Some(AbsentReason::NotRequested),
        "neither listed nor there"
    );
    assert_eq!(
        host.rules(Family::V6).missing(),
        Some(AbsentReason::Error),
        "listed, but not there"
    );
    assert_eq!(snapshot.cluster().pods().missing(), Some(AbsentReason::NotRequested));
    let unreachable = snapshot.node("node-9").unwrap();
    assert_eq!(
        unreachable.host.links().missing(),
        Some(AbsentReason::Timeout),
        "the reason was given for the node"
    );
    assert_eq!(unreachable.info.missing(), Some(AbsentReason::Timeout));
}

#[test]
fn what_is_there_wins_over_the_list_of_absences() {
    let snapshot = Snapshot::from_files(files()).unwrap();
    let route = "nodes/node-1/host/route.json";
    assert!(snapshot.node("node-1").unwrap().host.routes(Family::V4).get().is_some());
    assert_eq!(
        said(&snapshot, route),
        ["listed as absent, but it is there; it is used"]
    );
    assert_eq!(
        said(&snapshot, "nodes/node-1/host/rule6.json"),
        ["listed in the manifest, but it is not there"]
    );
    assert_eq!(snapshot.artifact_time(route), Some("2026-11-22T14:42:41Z"));
    assert_eq!(
        snapshot.artifact(route).unwrap().exit,
        Some(2),
        "kept although the tool complained"
    );
    assert_eq!(snapshot.artifact_time("cluster/services.json"), None);
}

#[test]
fn without_a_manifest_and_inside_a_folder() {
    let mut files = files();
    files.retain(|(path, _)| path != "manifest.json");
    for (path, _) in &mut files {
        *path = format!("./my-snapshot/{path}");
    }
    let snapshot = Snapshot::from_files(files).unwrap();
    assert!(snapshot.manifest.is_none());
    let host = &snapshot.node("node-1").unwrap().host;
    assert_eq!(host.links().get().unwrap().rows.len(), 9);
    assert_eq!(host.ipsets().missing(), Some(AbsentReason::NotRequested));
    assert_eq!(&*host.path(name::IPSET), "nodes/node-1/host/ipset.save");
}

#[test]
fn cut_off_json_is_unknown_and_cut_off_lines_are_not() {
    let json = with("nodes/node-1/host/route.json", &sample!("route.json")[..900]);
    assert_eq!(
        json.node("node-1").unwrap().host.routes(Family::V4).missing(),
        Some(AbsentReason::Error)
    );
    assert_eq!(said(&json, "nodes/node-1/host/route.json").len(), 2);
    let lines = with("nodes/node-1/host/conntrack.txt", &sample!("conntrack.txt")[..900]);
    let host = &lines.node("node-1").unwrap().host;
    assert_eq!(host.conntrack().get().unwrap().rows.len(), 6);
    assert!(
        said(&lines, "nodes/node-1/host/conntrack.txt")
            .last()
            .unwrap()
            .contains("ends inside a line")
    );
}

#[test]
fn problems_are_those_of_the_tables_that_were_asked_for() {
    let snapshot = with("nodes/node-1/host/iptables-nft.save", b"*nat\n");
    let path = "nodes/node-1/host/iptables-nft.save";
    assert!(said(&snapshot, path).is_empty());
    let _ = snapshot.node("node-1").unwrap().host.xtables(name::IPTABLES_NFT);
    assert_eq!(
        said(&snapshot, path),
        ["the table does not end with COMMIT: rules may be missing"]
    );
    let snapshot = with("nodes/node-1/host/sysctl.txt", b"nonsense\n");
    let _ = snapshot.node("node-1").unwrap().host.sysctls();
    assert_eq!(
        said(&snapshot, "nodes/node-1/host/sysctl.txt"),
        ["a line without '=': nonsense"]
    );
}

#[test]
fn broken_node_files() {
    let snapshot = with(
        "nodes/node-1/netns.json",
        br#"[{"id":"web-0","inode":"x"},{"id":"db-0","pod":{"name":"db-0"}}]"#,
    );
    let node = snapshot.node("node-1").unwrap();
    assert_eq!(node.netns_info.get().unwrap().len(), 1, "one bad entry");
    assert_eq!(said(&snapshot, "nodes/node-1/netns.json").len(), 1);
    let snapshot = with("nodes/node-1/netns.json", b"[{");
    let node = snapshot.node("node-1").unwrap();
    assert_eq!(node.netns_info.missing(), Some(AbsentReason::Error));
    assert!(node.netns.contains_key("web-0"), "the folder is there all the same");
    let snapshot = with("nodes/node-1/node.json", b"");
    assert_eq!(
        snapshot.node("node-1").unwrap().info.missing(),
        Some(AbsentReason::Error)
    );
}

#[test]
fn without_netns_json_the_folders_are_there() {
    let mut files = files();
    files.retain(|(path, _)| path != "nodes/node-1/netns.json");
    let snapshot = Snapshot::from_files(files).unwrap();
    let node = snapshot.node("node-1").unwrap();
    assert_eq!(node.netns.keys().collect::<Vec<_>>(), ["web-0"]);
    assert!(node.netns_entry("web-0").is_none());
    assert_eq!(said(&snapshot, "nodes/node-1/netns.json").len(), 1);
}

#[test]
fn schema() {
    let open = |manifest: &str| Snapshot::from_files(vec![("manifest.json".to_owned(), blob(manifest.as_bytes()))]);
    assert!(open(r#"{"schema":"knet.snapshot/v1","nodes":null,"absent":null,"new":{"a":[1]}}"#).is_ok());
    assert!(
        open(r#"{"schema":"knet.snapshot/v1.3"}"#).is_ok(),
        "a later minor version"
    );
    assert!(
        matches!(open(r#"{"schema":"knet.snapshot/v2","nodes":7}"#), Err(SnapshotError::Schema(s)) if s == "knet.snapshot/v2")
    );
    assert!(matches!(
        open(r#"{"schema":"knet.snapshot/v10"}"#),
        Err(SnapshotError::Schema(_))
    ));
    assert!(matches!(open("{}"), Err(SnapshotError::Schema(_))));
    assert!(matches!(open("nonsense"), Err(SnapshotError::Manifest(_))));
    assert!(matches!(
        open(r#"{"schema":"knet.snapshot/v1","nodes":7}"#),
        Err(SnapshotError::Manifest(_))
    ));
    assert!(matches!(
        Snapshot::from_files(vec![("README".to_owned(), blob(b""))]),
        Err(SnapshotError::NotASnapshot)
    ));
    assert!(matches!(
        Snapshot::from_files(Vec::new()),
        Err(SnapshotError::NotASnapshot)
    ));
}

#[test]
fn odd_paths() {
    let file = |path: &str| (path.to_owned(), blob(b"[]"));
    let files = [
        "nodes/a/host/link.json",
        "nodes/a/host/link.json",
        "nodes/../x",
        "nodes//y",
        "nodes/a/netns",
        "nodes/b",
    ];
    let snapshot = Snapshot::from_files(files.map(file).to_vec()).unwrap();
    assert_eq!(
        snapshot.nodes().map(|node| node.name.as_str()).collect::<Vec<_>>(),
        ["a"]
    );
    assert_eq!(snapshot.problems.len(), 3);
}

#[test]
fn hashes() {
    let mut snapshot = Snapshot::from_files(files()).unwrap();
    snapshot.verify(|_| "00FF".to_owned());
    assert!(
        !snapshot
            .problems
            .iter()
            .any(|p| p.what.starts_with("modified after capture"))
    );
    snapshot.verify(|bytes| bytes.len().to_string());
    let changed: Vec<_> = snapshot
        .problems
        .iter()
        .filter(|p| p.what.starts_with("modified after capture"))
        .collect();
    assert_eq!(changed.len(), 1, "entries without a hash are not compared");
    assert_eq!(changed[0].artifact, "nodes/node-1/host/route.json");
}

#[test]
fn lines_and_rows() {
    let mut text: String = (1..=50_000).map(|n| format!("line {n}\n")).collect();
    text.push_str("the end");
    let snapshot = with("nodes/node-1/host/nft.txt", text.as_bytes());
    let path = "nodes/node-1/host/nft.txt";
    for n in [1, 2, 999, 7000, 49_999, 50_000] {
        let offset = text.find(&format!("line {n}\n")).unwrap() as u64;
        assert_eq!(snapshot.line_of(path, offset), Some(n));
        assert_eq!(snapshot.line_of(path, offset + 5), Some(n));
        assert_eq!(snapshot.line_text(path, offset + 5).unwrap(), format!("line {n}"));
    }
    let end = text.len() as u64;
    assert_eq!(
        (snapshot.line_of(path, end - 1), snapshot.line_of(path, end)),
        (Some(50_001), None)
    );
    assert_eq!(snapshot.line_text(path, end - 1).unwrap(), "the end");
    assert_eq!(
        (snapshot.line_text(path, end), snapshot.line_of("nowhere", 0)),
        (None, None)
    );

    let rules = snapshot.node("node-1").unwrap().host.rules(Family::V4).get().unwrap();
    let text = snapshot.row_text(&rules.artifact, rules.rows[1].at).unwrap();
    assert!(text.starts_with(r#"{"priority":101,"#) && text.ends_with('}'));
    assert_eq!(
        snapshot.row_text(
            &rules.artifact,
            knet_snapshot::Row {
                start: u64::MAX,
                len: u32::MAX
            }
        ),
        None
    );
}

#[test]
fn the_order_of_files_changes_nothing() {
    let mut shuffled = files();
    shuffled.reverse();
    let (a, b) = (
        Snapshot::from_files(files()).unwrap(),
        Snapshot::from_files(shuffled).unwrap(),
    );
    assert_eq!(a.problems, b.problems);
    assert_eq!(a.paths().collect::<Vec<_>>(), b.paths().collect::<Vec<_>>());
}

#[test]
fn a_snapshot_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<Snapshot>();
}

#[test]
fn namespaces_nobody_looks_into_stay_small() {
    assert!(
        size_of::<knet_snapshot::store::NetnsFacts>() <= 112,
        "{}",
        size_of::<knet_snapshot::store::NetnsFacts>()
    );
}
