//! Documents for programs.

use serde_json::{Value, json};

use super::schema::conforms;
use super::{query, with};
use crate::query::Query;
use crate::render::{json as render, schema};
use knet_dataplane::trace::Detail;

fn document(query: &Query, brief: bool) -> Value {
    let detail = if brief { Detail::Outcome } else { Detail::Full };
    with(query, detail, |r| render::trace(&r.expect("it resolves"), brief))
}

#[test]
fn a_trace_has_the_published_shape() {
    let document = document(
        &Query {
            id: Some(json!(7)),
            ..query("toolbox", "web")
        },
        false,
    );
    assert_eq!(document["id"], 7);
    assert_eq!(document["schema"], "knet.trace/v1");
    assert_eq!(document["outcome"], "delivered");
    let branch = &document["branches"][0];
    assert_eq!(branch["probability"], "1");
    assert_eq!(branch["client_sees"], "reply");
    assert_eq!(
        branch["at"],
        json!({"node": "node-1", "netns": "web-0", "pod": "shop/web-0", "oif": null})
    );
    for key in ["src", "sport", "dst", "dport", "proto", "ttl", "tos", "mark"] {
        assert!(branch["packet"].get(key).is_some(), "{key}");
    }
    assert_eq!(branch["packet"]["dport"], 8080);
    assert_eq!(branch["dnat"], true);
    assert_eq!(branch["snat"], false);
    assert_eq!(branch["reject"], Value::Null);
    assert_eq!(branch["reply"]["outcome"], "delivered");
    let step = &branch["hops"][0]["steps"][0];
    assert!(step["evidence"].is_array());
    let rules = branch["hops"]
        .as_array()
        .expect("hops")
        .iter()
        .flat_map(|h| h["steps"].as_array().expect("steps"));
    let dnat = rules
        .into_iter()
        .find(|s| s["step"] == "rule" && s["verdict"] == "nat")
        .expect("a rule translated");
    assert_eq!(dnat["evidence"][0]["artifact"], "nodes/node-1/host/iptables-nft.save");
    assert_eq!(dnat["evidence"][0]["line"], 27);
    assert_eq!(dnat["service"], "shop/web:http");
}

#[test]
fn the_id_stands_first() {
    let document = document(
        &Query {
            id: Some(json!("a")),
            ..query("toolbox", "web")
        },
        true,
    );
    assert!(
        document
            .to_string()
            .starts_with("{\"id\":\"a\",\"schema\":\"knet.trace/v1\"")
    );
}

#[test]
fn brief_leaves_hops_out() {
    let document = document(&query("toolbox", "web"), true);
    assert!(document["branches"][0].get("hops").is_none());
    assert!(document["branches"][0]["reply"].get("hops").is_none());
    assert_eq!(document["branches"][0]["reply"]["outcome"], "delivered");
}

#[test]
fn a_port_drawn_at_random_is_null() {
    let document = document(&query("ip/192.168.0.50", "node/node-1:30080"), false);
    let packet = &document["branches"][0]["packet"];
    assert_eq!(packet["sport"], Value::Null);
    assert!(packet["note"].is_string());
    assert_eq!(document["branches"][0]["snat"], true);
    assert_eq!(document["nodeport"]["owner"], "service");
}

#[test]
fn documents_conform_to_their_schema() {
    let schema = schema::trace();
    for (src, dst) in [
        ("toolbox", "web"),
        ("toolbox", "shop/void"),
        ("ip/192.168.0.50", "node/node-1:30080"),
    ] {
        for brief in [true, false] {
            let document = document(&query(src, dst), brief);
            assert_eq!(conforms(&schema, &schema, &document, "$"), Ok(()), "{src} {dst}");
        }
    }
    let error = with(&query("toolbox", "nothing"), Detail::Outcome, |r| {
        render::error(
            Some(&query("toolbox", "nothing")),
            &r.map(|_| ()).expect_err("there is nothing"),
        )
    });
    assert_eq!(conforms(&schema, &schema, &error, "$"), Ok(()));
    assert_eq!(error["error"]["code"], "not-found");
}

#[test]
fn a_broken_line_keeps_its_id() {
    let line = r#"{"id":3,"src":"a","dst":"b","nonsense":1}"#;
    let error = serde_json::from_str::<Query>(line).expect_err("nonsense is no key");
    let document = render::line_error(line, &error);
    assert_eq!(document["id"], 3);
    assert!(
        document["error"]["message"]
            .as_str()
            .is_some_and(|m| m.contains("nonsense"))
    );
}

#[test]
fn yaml_says_the_same() {
    let yaml = render::to_yaml(&document(&query("toolbox", "web"), true));
    assert!(
        yaml.contains("schema: knet.trace/v1") || yaml.contains("schema: \"knet.trace/v1\""),
        "{yaml}"
    );
}

#[test]
fn exit_codes_say_it_in_one_digit() {
    let code = |dst: &str| {
        with(&query("toolbox", dst), Detail::Outcome, |r| {
            r.expect("it resolves").exit_code()
        })
    };
    assert_eq!(code("web"), 0);
    assert_eq!(code("shop/void"), 1);
    assert_eq!(code("198.51.100.1:80"), 3);
}

#[test]
fn explanations_have_the_published_shape() {
    let snapshot = super::mini::snapshot(true);
    let explainer = crate::Explainer::new(&snapshot);
    let schema = schema::explain();
    let query = crate::topics::clusterip::ClusterIpQuery {
        target: "svc/shop/web".to_owned(),
        namespace: None,
        node: None,
        proto: None,
    };
    let answer = explainer.clusterip(&query).expect("it resolves");
    let document = render::clusterip(&answer);
    assert_eq!(conforms(&schema, &schema, &document, "$"), Ok(()));
    assert_eq!(
        (&document["topic"], &document["taken_by"]),
        (&json!("clusterip"), &json!("nat"))
    );
    assert_eq!(document["pod_sees"], "reply");
    let device = explainer.kube_ipvs0(None).expect("there is a node");
    assert_eq!(device.exit_code(), 3, "iptables mode has no such device");
    let document = render::kube_ipvs0(&device);
    assert_eq!(conforms(&schema, &schema, &document, "$"), Ok(()));
    assert_eq!(document["present"], false);
}
