//! Names people write, right and wrong.

use super::{mini, query, with};
use crate::explainer::Explainer;
use crate::explanation::{Entry, Source, Target};
use crate::names::Named;
use crate::query::Query;
use crate::resolve::QueryError;
use knet_dataplane::trace::{Detail, Outcome};

fn fails(src: &str, dst: &str) -> QueryError {
    with(&query(src, dst), Detail::Outcome, |r| r.map(|_| ())).expect_err("the query is wrong")
}

#[test]
fn services_are_found_by_every_form_of_their_name() {
    for dst in [
        "web.shop",
        "web.shop.svc.cluster.local:80",
        "svc/shop/web",
        "shop/web:http",
        "svc/web:80",
        "web",
    ] {
        let (dst_name, sent) = with(&query("toolbox", dst), Detail::Outcome, |r| {
            let explanation = r.expect(dst);
            (explanation.dst.clone(), explanation.sent.clone())
        });
        assert!(matches!(dst_name, Target::Service { .. }), "{dst}");
        assert_eq!(sent.dst.to_string(), "10.96.1.1", "{dst}");
        assert_eq!(sent.dport().map(|p| p.value), Some(80), "{dst}");
    }
}

#[test]
fn a_port_is_asked_for_when_there_are_several() {
    let QueryError::PortNeeded { ports, .. } = fails("toolbox", "svc/shop/two") else {
        panic!("a port is needed")
    };
    assert_eq!(ports.len(), 3);
    let QueryError::NoPort { port, .. } = fails("toolbox", "svc/shop/two:http") else {
        panic!("no such port")
    };
    assert_eq!(port, "http");
}

#[test]
fn the_protocol_is_the_service_ports() {
    let proto = |dst: &str, proto: Option<&str>| {
        let query = Query {
            proto: proto.map(str::to_owned),
            ..query("toolbox", dst)
        };
        with(&query, Detail::Outcome, |r| r.map(|e| e.sent.proto))
    };
    assert_eq!(proto("svc/shop/two:dns", None), Ok(17));
    assert_eq!(proto("svc/shop/two:53", Some("tcp")), Ok(6));
    assert!(matches!(
        proto("svc/shop/two:dns", Some("tcp")),
        Err(QueryError::OtherProtocol { .. })
    ));
}

#[test]
fn ambiguity_lists_the_candidates() {
    let QueryError::Ambiguous { candidates, .. } = fails("web-0", "web") else {
        panic!("two pods have the name")
    };
    assert_eq!(candidates, ["pod/other/web-0", "pod/shop/web-0"]);
}

#[test]
fn typos_get_the_closest_names() {
    let error = fails("toolbxo", "web");
    assert!(
        error.hints().iter().any(|h| h.contains("pod/default/toolbox")),
        "{:?}",
        error.hints()
    );
    let error = fails("toolbox", "shop/wbe");
    assert!(
        error.hints().iter().any(|h| h.contains("svc/shop/web")),
        "{:?}",
        error.hints()
    );
    let QueryError::NoNamespace { close, exist, .. } = fails("toolbox", "shpo/web") else {
        panic!("no namespace")
    };
    assert_eq!(close, ["shop"]);
    assert_eq!(exist, ["default", "other", "shop"]);
}

#[test]
fn what_cannot_be_traced_says_why() {
    assert!(matches!(
        fails("toolbox", "shop/alias:5432"),
        QueryError::ExternalName { .. }
    ));
    assert!(matches!(fails("other/web-0", "web"), QueryError::NotCaptured { .. }));
    assert_eq!(fails("other/web-0", "web").exit_code(), 3);
    assert!(matches!(fails("ip/10.244.0.3", "web"), QueryError::Inside { .. }));
}

#[test]
fn a_headless_service_is_its_endpoints() {
    with(&query("toolbox", "svc/shop/db"), Detail::Outcome, |r| {
        let explanation = r.expect("it resolves");
        assert_eq!(explanation.sent.dst.to_string(), "10.244.0.3");
        assert_eq!(explanation.sent.dport().map(|p| p.value), Some(8080));
    });
}

#[test]
fn a_client_outside_enters_by_the_node_it_asks() {
    for (client, wanted) in [
        ("ip/192.0.2.50", Entry::OwnsDestination),
        ("ip/192.168.0.50", Entry::OnSegment),
    ] {
        with(&query(client, "node/node-1:30080"), Detail::Outcome, |r| {
            let explanation = r.expect("it resolves");
            assert!(explanation.branches.iter().all(|b| b.end.outcome == Outcome::Delivered));
            let Source::Client { node, dev, entry, .. } = explanation.src else {
                panic!("a client")
            };
            assert_eq!((node.as_str(), dev.as_str(), entry), ("node-1", "eth0", wanted));
        });
    }
    let query = Query {
        via: Some("node/node-1/eth9".to_owned()),
        ..query("ip/192.168.0.50", "10.96.1.1:80")
    };
    let error = with(&query, Detail::Outcome, |r| r.map(|_| ())).expect_err("there is no eth9");
    assert!(
        matches!(error, QueryError::NoDevice { ref devices, .. } if devices[0] == "eth0"),
        "{error}"
    );
}

#[test]
fn a_snapshot_without_objects_knows_nodes_addresses_and_folders() {
    let snapshot = mini::snapshot(false);
    let explainer = Explainer::new(&snapshot);
    for (src, dst) in [
        ("node/node-1", "10.244.0.3:8080"),
        ("toolbox", "node/node-1:22"),
        ("pod/web-0", "10.96.1.1:80"),
    ] {
        let explanation = explainer.trace(&query(src, dst), Detail::Outcome).expect(src);
        assert!(!explanation.branches.is_empty(), "{src} {dst}");
    }
    let error = explainer
        .trace(&query("toolbox", "svc/shop/web"), Detail::Outcome)
        .map(|_| ())
        .expect_err("no services");
    assert!(
        error.hints().iter().any(|h| h.contains("cluster/services.json")),
        "{:?}",
        error.hints()
    );
}

#[test]
fn names_are_listed_for_completion() {
    let snapshot = mini::snapshot(true);
    let explainer = Explainer::new(&snapshot);
    assert_eq!(
        explainer.names().sources(),
        ["node/node-1", "pod/default/toolbox", "pod/shop/web-0"]
    );
    assert_eq!(explainer.names().node_ports(), [30080]);
    assert!(explainer.names().pod(&Named::new("shop", "web-0")).is_some());
}
