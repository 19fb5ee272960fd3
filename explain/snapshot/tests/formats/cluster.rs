use knet_snapshot::cluster::{LabelRequirement, TargetPort};
use knet_snapshot::manifest::AbsentReason;
use knet_snapshot::{Fact, Snapshot, Table};

use crate::{blob, sample};

fn snapshot() -> Snapshot {
    let files = [
        ("nodes", sample!("cluster/nodes.json")),
        ("pods", sample!("cluster/pods.json")),
        ("services", sample!("cluster/services.json")),
        ("endpointslices", sample!("cluster/endpointslices.json")),
        ("networkpolicies", sample!("cluster/networkpolicies.json")),
        ("namespaces", sample!("cluster/namespaces.json")),
        ("configmaps", sample!("cluster/configmaps.json")),
    ];
    Snapshot::from_files(
        files
            .map(|(name, bytes)| (format!("cluster/{name}.json"), blob(bytes)))
            .to_vec(),
    )
    .unwrap()
}

fn rows<T>(fact: &Fact<Table<T>>) -> &[T] {
    let table = fact.get().unwrap();
    assert_eq!(table.problems, []);
    &table.rows
}

#[test]
fn nodes() {
    let snapshot = snapshot();
    let nodes = rows(snapshot.cluster().nodes());
    assert_eq!(nodes[0].name, "node-1");
    assert_eq!(nodes[0].labels["topology.kubernetes.io/zone"], "zone-a");
    assert_eq!(nodes[0].annotations["flannel.alpha.coreos.com/backend-type"], "vxlan");
    assert_eq!(
        nodes[0].pod_cidrs,
        ["10.244.0.0/24".parse().unwrap(), "fd00:10:244::/64".parse().unwrap()]
    );
    assert_eq!(nodes[0].ips("InternalIP").count(), 2);
    assert_eq!(
        (nodes[0].ready, nodes[1].ready),
        (Some(true), None),
        "Unknown is not ready and not unready"
    );
    assert_eq!(
        snapshot
            .row_text("cluster/nodes.json", nodes[1].at)
            .unwrap()
            .lines()
            .next(),
        Some("{")
    );
}

#[test]
fn pods() {
    let snapshot = snapshot();
    let pods = rows(snapshot.cluster().pods());
    let web = &pods[0];
    assert_eq!(
        (web.namespace.as_str(), web.name.as_str(), web.uid.as_str()),
        ("shop", "web-0", "u-1")
    );
    assert_eq!(
        (web.node.as_deref(), web.host_network, web.phase.as_str()),
        (Some("node-1"), false, "Running")
    );
    assert_eq!(
        web.ips,
        [
            "10.244.0.5".parse::<std::net::IpAddr>().unwrap(),
            "fd00:10:244::5".parse().unwrap()
        ]
    );
    assert_eq!(
        (web.ready, web.deletion_timestamp.as_deref()),
        (Some(false), Some("2026-11-23T14:15:01Z"))
    );
    let ports: Vec<_> = web
        .ports
        .iter()
        .map(|p| (p.container.as_str(), p.port, p.host_port))
        .collect();
    assert_eq!(
        ports,
        [("web", 8080, None), ("web", 53, Some(5353)), ("proxy", 15000, None)],
        "setup is over"
    );
    assert_eq!(web.ports[0].name.as_deref(), Some("http"));
    assert_eq!(web.ports[1].host_ip, Some("127.0.0.1".parse().unwrap()));
    assert!(pods[1].host_network && pods[1].ips.len() == 1);
}

#[test]
fn services() {
    let snapshot = snapshot();
    let [web, db, old] = rows(snapshot.cluster().services()) else {
        panic!()
    };
    assert_eq!(
        (web.kind.as_str(), web.headless, web.cluster_ips.len()),
        ("LoadBalancer", false, 2)
    );
    assert_eq!(web.external_ips.len(), 1);
    assert_eq!(
        web.source_ranges,
        ["203.0.113.0/24".parse().unwrap(), "198.51.100.0/24".parse().unwrap()]
    );
    assert_eq!(
        (web.ingress[0].ip_mode.as_deref(), web.ingress[1].hostname.as_deref()),
        (Some("VIP"), Some("lb.example.net"))
    );
    assert_eq!(web.ports[0].target, Some(TargetPort::Name("http".to_owned())));
    assert_eq!(web.ports[1].target, Some(TargetPort::Number(5353)));
    assert_eq!(
        (web.ports[0].node_port, web.ports[0].app_protocol.as_deref()),
        (Some(30701), Some("kubernetes.io/h2c"))
    );
    assert_eq!(web.external_traffic_policy.as_deref(), Some("Local"));
    assert_eq!(
        (web.client_ip_affinity, web.health_check_node_port),
        (Some(60), Some(32030))
    );
    assert_eq!(web.selector.as_ref().unwrap()["app"], "web");
    assert_eq!(
        (web.ip_families.len(), web.traffic_distribution.as_deref()),
        (2, Some("PreferClose"))
    );
    assert!(web.publish_not_ready_addresses);

    assert!(db.headless && db.cluster_ips.is_empty() && db.client_ip_affinity.is_none());
    assert_eq!(
        (db.ports[0].protocol.as_str(), db.ports[0].target.as_ref()),
        ("TCP", None)
    );

    assert_eq!(
        (old.kind.as_str(), old.cluster_ips.len()),
        ("ClusterIP", 1),
        "only clusterIP, no clusterIPs"
    );
    assert_eq!((old.client_ip_affinity, old.selector.as_ref()), (Some(10_800), None));
}

#[test]
fn endpoint_slices() {
    let snapshot = snapshot();
    let [web, empty, named] = rows(snapshot.cluster().endpoint_slices()) else {
        panic!()
    };
    assert_eq!(
        (web.service.as_deref(), web.address_type.as_str()),
        (Some("web"), "IPv4")
    );
    let leaving = &web.endpoints[0];
    assert_eq!(
        (leaving.ready, leaving.serving, leaving.terminating),
        (Some(false), Some(true), Some(true))
    );
    assert_eq!(
        (leaving.node.as_deref(), leaving.zone.as_deref()),
        (Some("node-1"), Some("zone-a"))
    );
    assert_eq!(leaving.target.as_ref().unwrap().name, "web-0");
    assert_eq!(leaving.for_zones.as_deref(), Some(&["zone-a".to_owned()][..]));
    assert_eq!(leaving.for_nodes.as_deref(), Some(&["node-1".to_owned()][..]));
    assert_eq!(
        (web.endpoints[1].ready, web.endpoints[1].for_zones.as_ref()),
        (None, None)
    );
    assert_eq!((web.ports[0].port, web.ports[1].port), (Some(8080), None));
    assert!(
        empty.endpoints.is_empty() && empty.ports.is_empty(),
        "null is an empty list"
    );
    assert!(named.endpoints[0].addresses.is_empty(), "a name is no address");
}

#[test]
fn the_rest() {
    let snapshot = snapshot();
    let policy = &rows(snapshot.cluster().network_policies())[0];
    assert_eq!(policy.pod_selector.match_labels["app"], "web");
    let tier = LabelRequirement {
        key: "tier".to_owned(),
        operator: "In".to_owned(),
        values: vec!["a".to_owned(), "b".to_owned()],
    };
    assert_eq!(policy.pod_selector.match_expressions, [tier]);
    assert_eq!(policy.raw["spec"]["ingress"][0], serde_json::json!({}));
    assert_eq!(rows(snapshot.cluster().namespaces())[0].name, "shop");
    assert_eq!(
        rows(snapshot.cluster().config_maps())[0].data["config.conf"],
        "mode: iptables\n"
    );
    assert_eq!(
        snapshot.cluster().ingresses().missing(),
        Some(AbsentReason::NotRequested)
    );
}

fn read(json: &str) -> (Option<usize>, Vec<String>) {
    let snapshot = Snapshot::from_files(vec![("cluster/services.json".to_owned(), blob(json.as_bytes()))]).unwrap();
    let rows = snapshot.cluster().services().get().map(|table| table.rows.len());
    (rows, snapshot.all_problems().into_iter().map(|p| p.what).collect())
}

#[test]
fn a_broken_object_costs_only_itself() {
    let (rows, problems) = read(
        r#"{"kind":"List","items":[{"metadata":{"name":"a"}},{"metadata":{}},3,{"metadata":{"name":"b"},"spec":{"ports":[{"port":"x"}]}}]}"#,
    );
    assert_eq!((rows, problems.len()), (Some(1), 3));
}

#[test]
fn shapes_of_a_list() {
    assert_eq!(read(r#"{"kind":"ServiceList","items":null}"#).0, Some(0));
    assert_eq!(read(r#"{"kind":"ServiceList"}"#).0, Some(0));
    assert_eq!(read(r#"[{"metadata":{"name":"a"}}]"#).0, Some(1));
    assert_eq!(read(r#"{"kind":"Service","metadata":{"name":"a"}}"#).0, Some(1));
    assert_eq!(
        read(r#"{"kind":"List","items":[{"metadata":{"name":"a"}},"#).0,
        None,
        "cut off"
    );
    assert_eq!(read("Error from server (Forbidden)").0, None);
    assert_eq!(read("{}").0, None);
}

#[test]
fn a_list_in_chunks_is_not_taken_for_whole() {
    let (rows, problems) = read(r#"{"kind":"List","metadata":{"continue":"abc"},"items":[{"metadata":{"name":"a"}}]}"#);
    assert_eq!((rows, problems.len()), (Some(1), 1));
}
