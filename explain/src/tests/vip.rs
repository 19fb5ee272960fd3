//! Addresses that Services give to clients outside, and who put them there.

use serde_json::json;

use super::mini;
use super::schema::conforms;
use crate::explainer::Explainer;
use crate::render::{json, schema, text};
use crate::resolve::QueryError;
use crate::topics::vip::{Advertises, Controller, Expects, Unsure, VipExplanation, VipOutcome, VipQuery};

const VIP: &str = "192.168.0.240";

/// The small snapshot with a load balancer Service of these metadata and spec, and more pods.
fn lab(metadata: &str, spec: &str, pods: &str) -> Vec<(String, String)> {
    let mut files = mini::files(true);
    for (path, text) in &mut files {
        let service = format!(
            r#"{{"metadata":{{"namespace":"shop","name":"lb"{metadata}}},"spec":{{"type":"LoadBalancer","clusterIP":"10.96.1.9","clusterIPs":["10.96.1.9"],"ports":[{{"port":80,"protocol":"TCP"}}]{spec}}},"status":{{"loadBalancer":{{"ingress":[{{"ip":"{VIP}"}}]}}}}}},"#
        );
        match path.as_str() {
            "cluster/services.json" => *text = text.replacen("\"items\":[", &format!("\"items\":[{service}"), 1),
            "cluster/pods.json" => *text = text.replacen("\"items\":[", &format!("\"items\":[{pods}"), 1),
            "nodes/node-1/host/sysctl.txt" => {
                for key in [
                    "all.proxy_arp",
                    "eth0.proxy_arp",
                    "all.proxy_arp_pvlan",
                    "eth0.proxy_arp_pvlan",
                ] {
                    text.push_str(&format!("net.ipv4.conf.{key} = 0\n"));
                }
            }
            _ => {}
        }
    }
    files
}

/// The node has the address on a device of this name.
fn standing(mut files: Vec<(String, String)>, dev: &str, index: u32) -> Vec<(String, String)> {
    let add = |text: &mut String, row: String| *text = text.replacen('[', &format!("[{row},"), 1);
    for (path, text) in &mut files {
        match path.as_str() {
            "nodes/node-1/host/link.json" if index > 5 => add(
                text,
                format!(
                    r#"{{"ifindex":{index},"ifname":"{dev}","flags":["BROADCAST","NOARP"],"mtu":1500,"operstate":"DOWN","link_type":"ether","address":"02:00:00:00:00:09","linkinfo":{{"info_kind":"dummy"}}}}"#
                ),
            ),
            "nodes/node-1/host/addr.json" => add(
                text,
                format!(
                    r#"{{"ifindex":{index},"ifname":"{dev}","addr_info":[{{"family":"inet","local":"{VIP}","prefixlen":32,"scope":"global"}}]}}"#
                ),
            ),
            "nodes/node-1/host/route.json" => add(
                text,
                format!(
                    r#"{{"type":"local","dst":"{VIP}","dev":"{dev}","table":"local","protocol":"kernel","scope":"host","prefsrc":"{VIP}","flags":[]}}"#
                ),
            ),
            "nodes/node-1/host/sysctl.txt" => {
                text.push_str("net.ipv4.conf.all.arp_ignore = 0\nnet.ipv4.conf.eth0.arp_ignore = 0\n");
            }
            _ => {}
        }
    }
    files
}

fn ignoring(mut files: Vec<(String, String)>) -> Vec<(String, String)> {
    for (path, text) in &mut files {
        if path == "nodes/node-1/host/sysctl.txt" {
            *text = text.replace("all.arp_ignore = 0", "all.arp_ignore = 1");
            text.push_str("net.ipv4.conf.all.arp_announce = 2\nnet.ipv4.conf.eth0.arp_announce = 0\n");
        }
    }
    files
}

fn ask(files: Vec<(String, String)>, target: &str) -> Result<Vec<VipExplanation>, QueryError> {
    let snapshot = mini::open(files);
    let query = VipQuery {
        target: target.to_owned(),
        namespace: Some("shop".to_owned()),
        from: None,
    };
    Explainer::new(&snapshot).vip(&query)
}

fn one(files: Vec<(String, String)>) -> VipExplanation {
    let mut all = ask(files, "svc/lb").expect("the service has an address");
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn a_dummy_that_is_down_answers_through_the_nic_unless_arp_ignore_says_no() {
    let loud = one(standing(lab("", "", ""), "kube-ipvs0", 9));
    assert_eq!(loud.outcome, VipOutcome::One("node-1".to_owned()));
    assert_eq!(loud.exit_code(), 0);
    let [stand] = &loud.nodes[0].stands[..] else {
        panic!("{:?}", loud.nodes[0].stands)
    };
    assert!(stand.dummy && !stand.up && stand.noarp, "{stand:?}");
    let silent = one(ignoring(standing(lab("", "", ""), "kube-ipvs0", 9)));
    assert_eq!(silent.outcome, VipOutcome::Nobody);
    assert_eq!(silent.exit_code(), 1);
    assert!(silent.nodes[0].asks_as.is_empty(), "arp_announce 2");
    // On the NIC itself, arp_ignore 1 lets it through.
    let secondary = one(ignoring(standing(lab("", "", ""), "eth0", 2)));
    assert_eq!(secondary.outcome, VipOutcome::One("node-1".to_owned()));
}

#[test]
fn a_rule_that_nobody_knows_leaves_the_answer_open() {
    let arp = |expr: &str| {
        let mut files = standing(lab("", "", ""), "kube-ipvs0", 9);
        for (path, text) in &mut files {
            if path == "nodes/node-1/host/nft.json" {
                *text = format!(
                    r#"{{"nftables":[{{"table":{{"family":"arp","name":"t","handle":1}}}},
{{"chain":{{"family":"arp","table":"t","name":"c","handle":1,"type":"filter","hook":"input","prio":0,"policy":"accept"}}}},
{{"rule":{{"family":"arp","table":"t","chain":"c","handle":2,"expr":[{expr}]}}}}]}}"#
                );
            }
        }
        files
    };
    let silent = one(arp(r#"{"drop":null}"#));
    assert_eq!(silent.outcome, VipOutcome::Nobody);
    let mut missing = standing(lab("", "", ""), "kube-ipvs0", 9);
    missing.retain(|(path, _)| path != "nodes/node-1/host/nft.json");
    let mut unset = standing(lab("", "", ""), "kube-ipvs0", 9);
    for (_, text) in unset.iter_mut().filter(|(path, _)| path.ends_with("host/sysctl.txt")) {
        *text = text
            .lines()
            .filter(|l| !l.contains("arp_ignore"))
            .map(|l| format!("{l}\n"))
            .collect();
    }
    let limited = arp(r#"{"limit":{"rate":1,"per":"second"}},{"drop":null}"#);
    for files in [limited, arp(r#"{"queue":null}"#), missing, unset] {
        let answer = one(files);
        assert_eq!(answer.outcome, VipOutcome::Doubtful(vec!["node-1".to_owned()]));
        assert_eq!(answer.exit_code(), 3);
        let page = text::vip(std::slice::from_ref(&answer), &text::Style::default());
        assert!(page.contains("cannot tell who answers: whether node-1 does"), "{page}");
        assert!(page.contains("answers perhaps"), "{page}");
        let document = json::vip(&[answer]);
        let schema = schema::vip();
        conforms(&schema, &schema, &document, "$").expect("the published shape");
        let heard = &document["addresses"][0]["segments"][0]["heard"][0];
        assert_eq!(heard["because"], "doubtful");
        assert_eq!(heard["answers"], false);
    }
}

#[test]
fn where_nothing_has_the_address_nobody_answers_unless_a_program_does() {
    assert_eq!(one(lab("", "", "")).outcome, VipOutcome::Nobody);
    // Whether the node is a proxy, nobody looked.
    let mut unset = lab("", "", "");
    for (_, text) in unset.iter_mut().filter(|(path, _)| path.ends_with("host/sysctl.txt")) {
        *text = text
            .lines()
            .filter(|l| !l.contains("proxy_arp"))
            .map(|l| format!("{l}\n"))
            .collect();
    }
    assert_eq!(one(unset).outcome, VipOutcome::Doubtful(vec!["node-1".to_owned()]));
    let speaker = r#"{"metadata":{"namespace":"metallb-system","name":"speaker-x","uid":"8","labels":{"app":"metallb","component":"speaker"}},"spec":{"nodeName":"node-1","hostNetwork":true},"status":{"phase":"Running"}},"#;
    let answer = one(lab("", "", speaker));
    assert_eq!(answer.outcome, VipOutcome::Program);
    assert_eq!(answer.exit_code(), 3);
    let told = answer.controller.expect("the speaker tells");
    assert_eq!(
        (told.controller, told.by.as_str()),
        (Controller::MetalLb, "pod metallb-system/speaker-x")
    );
}

#[test]
fn controllers_are_known_by_what_they_write() {
    let cases = [
        (
            r#","annotations":{"metallb.io/ip-allocated-from-pool":"p"}"#,
            "",
            Controller::MetalLb,
        ),
        (
            r#","annotations":{"purelb.io/allocated-by":"PureLB"}"#,
            "",
            Controller::PureLb,
        ),
        (
            r#","annotations":{"kube-vip.io/vipHost":"node-1"}"#,
            "",
            Controller::KubeVip,
        ),
        (
            "",
            r#","loadBalancerClass":"io.cilium/l2-announcer""#,
            Controller::Cilium,
        ),
        (
            r#","annotations":{"lb.kubesphere.io/v1alpha1":"openelb"}"#,
            "",
            Controller::OpenElb,
        ),
        (
            r#","annotations":{"service.beta.kubernetes.io/aws-load-balancer-type":"nlb"}"#,
            "",
            Controller::Cloud,
        ),
    ];
    for (metadata, spec, controller) in cases {
        let told = one(lab(metadata, spec, "")).controller.expect("it is told");
        assert_eq!(told.controller, controller, "{metadata}{spec}");
    }
    let svclb = r#"{"metadata":{"namespace":"kube-system","name":"svclb-lb-1","uid":"9","labels":{"svccontroller.k3s.cattle.io/svcname":"lb"}},"spec":{"nodeName":"node-1"},"status":{"phase":"Running"}},"#;
    let told = one(lab("", "", svclb)).controller.expect("it is told");
    assert_eq!(
        (told.controller, told.controller.expects()),
        (Controller::ServiceLb, Expects::NodeAddress)
    );
    let external = ask(lab("", r#","externalIPs":["192.168.0.77"]"#, ""), "svc/lb").expect("addresses");
    assert_eq!(
        external[0].controller.as_ref().map(|c| c.controller),
        Some(Controller::Administrator)
    );
    let purelb = one(lab(
        r#","annotations":{"purelb.io/announcing-IPv4":"node-1,eth0"}"#,
        "",
        "",
    ));
    assert_eq!(purelb.controller.and_then(|c| c.node).as_deref(), Some("node-1"));
}

#[test]
fn an_address_beyond_the_subnets_is_routed() {
    let answer = ask(lab("", "", ""), "203.0.113.7")
        .expect("any address will do")
        .remove(0);
    assert_eq!(answer.outcome, VipOutcome::Routed);
    assert_eq!(answer.exit_code(), 3);
    let error = ask(lab("", "", ""), "svc/web").expect_err("a NodePort service has none");
    assert_eq!(error.code(), "no-vip");
}

#[test]
fn the_document_has_the_published_shape_and_the_text_fits() {
    let answers = ask(standing(lab("", "", ""), "kube-ipvs0", 9), "svc/lb").expect("an address");
    let document = json::vip(&answers);
    let schema = schema::vip();
    assert_eq!(conforms(&schema, &schema, &document, "$"), Ok(()));
    let first = &document["addresses"][0];
    assert_eq!(first["outcome"], "one");
    assert_eq!(first["answered_by"], json!(["node-1"]));
    assert_eq!(first["segments"][0]["heard"][0]["because"], "own");
    let page = text::vip(&answers, &text::Style::default());
    assert!(
        page.starts_with("192.168.0.240: node-1 answers, and nobody else."),
        "{page}"
    );
    assert!(page.lines().all(|l| l.chars().count() <= 80), "{page}");
}

#[test]
fn a_trace_from_outside_to_such_an_address_starts_with_it() {
    let snapshot = mini::open(standing(lab("", "", ""), "kube-ipvs0", 9));
    let explainer = Explainer::new(&snapshot);
    let query = super::query("ip/192.168.0.50", &format!("{VIP}:80"));
    let explanation = explainer
        .trace(&query, knet_dataplane::trace::Detail::Decisions)
        .expect("it resolves");
    let vip = explanation.vip.as_ref().expect("the section");
    assert_eq!(vip.segments[0].asker.to_string(), "192.168.0.50");
    let schema = schema::trace();
    let document = json::trace(&explanation, false);
    assert_eq!(conforms(&schema, &schema, &document, "$"), Ok(()));
    assert_eq!(document["vip"]["outcome"], "one");
    let page = text::trace(&explanation, &text::Style::default());
    let (vip, path) = (page.find("ARP on"), page.find("PATH"));
    assert!(vip.is_some() && vip < path, "{page}");
    let inside = explainer.trace(
        &super::query("toolbox", &format!("{VIP}:80")),
        knet_dataplane::trace::Detail::Decisions,
    );
    assert!(inside.expect("it resolves").vip.is_none());
}

/// The page about the device, its document, and the exit code.
fn device(files: Vec<(String, String)>) -> (String, serde_json::Value, u8) {
    let snapshot = mini::open(files);
    let answer = Explainer::new(&snapshot).kube_ipvs0(None).expect("there is a node");
    let document = json::kube_ipvs0(&answer);
    let schema = schema::explain();
    assert_eq!(conforms(&schema, &schema, &document, "$"), Ok(()));
    (
        text::kube_ipvs0(&answer, &text::Style::default()),
        document,
        answer.exit_code(),
    )
}

#[test]
fn what_is_not_known_of_the_device_is_said() {
    let with = || standing(lab("", "", ""), "kube-ipvs0", 9);
    let (page, document, _) = device(with());
    assert!(page.contains("asked on eth0 it answers"), "{page}");
    assert_eq!(document["answers_on"], serde_json::json!(["eth0"]));
    let (page, _, _) = device(ignoring(with()));
    assert!(page.contains("it is silent about these addresses"), "{page}");
    let without = |file: &str| {
        let path = format!("nodes/node-1/host/{file}");
        let files = with().into_iter().filter(|(p, _)| *p != path);
        device(files.collect())
    };
    let (page, document, _) = without("nft.json");
    assert!(page.contains("cannot tell whether it answers"), "{page}");
    assert_eq!(document["may_answer_on"], serde_json::json!(["eth0"]));
    let (page, document, code) = without("addr.json");
    assert!(page.contains("addresses were not captured"), "{page}");
    assert!(document["addresses"].is_null() && document["answers_on"].is_null());
    assert_eq!(code, 3);
    let unnamed = with()
        .into_iter()
        .filter(|(p, _)| p != "cluster/services.json")
        .collect();
    let (page, document, code) = device(unnamed);
    assert!(
        page.contains("1 more, whose is not known: Services were not captured"),
        "{page}"
    );
    assert_eq!(document["addresses"][0]["kind"], "unknown");
    assert_eq!(code, 3);
    let (page, document, code) = without("link.json");
    assert!(page.contains("its links were not captured"), "{page}");
    assert!(document["present"].is_null());
    assert_eq!(code, 3);
}

const SESSION: &str = "BIRD 2.0.12 ready.\nName       Proto      Table      State  Since         Info\n\
tor1       BGP        ---        up     01:38:13.347  Established   \n  BGP state:          Established\n  \
Neighbor address: 192.168.0.1\n";

/// The node's files, and what the manifest says is absent and why.
fn routed(files: &[(&str, String)], absent: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut all = lab("", "", "");
    let files = files
        .iter()
        .map(|(path, text)| (format!("nodes/node-1/files/{path}"), text.clone()));
    all.extend(files);
    let absent: Vec<_> = absent
        .iter()
        .map(|(path, reason)| json!({"path": format!("nodes/node-1/files/{path}"), "reason": reason}))
        .collect();
    all.retain(|(path, _)| path != "manifest.json");
    let manifest = json!({"schema": "knet.snapshot/v1", "absent": absent});
    all.push(("manifest.json".to_owned(), manifest.to_string()));
    all
}

/// What the node announces of an address that routers bring.
fn announces(files: Vec<(String, String)>) -> (Advertises, String) {
    let answers = ask(files, "203.0.113.7").expect("any address will do");
    let document = json::vip(&answers);
    let schema = schema::vip();
    assert_eq!(conforms(&schema, &schema, &document, "$"), Ok(()));
    let page = text::vip(&answers, &text::Style::default());
    assert!(page.lines().all(|l| l.chars().count() <= 80), "{page}");
    (answers[0].nodes[0].advertises.answer.clone(), page)
}

#[test]
fn only_a_list_of_what_is_announced_says_yes_or_no() {
    let session = ("bird/show_protocols_all.txt", SESSION.to_owned());
    let export = |routes: &str| {
        let text = format!("BIRD 2.0.12 ready.\nTable master4:\n{routes}");
        ("bird/show_route_export_tor1.txt", text)
    };
    let route = "203.0.113.0/24       blackhole [static1 01:38:09.186] * (200)\n";
    let no_frr = [("frr", "not-running")];

    let (answer, page) = announces(routed(&[session.clone(), export(route)], &[]));
    assert_eq!(answer, Advertises::Yes);
    assert!(page.contains("node-1 announces a route to it."), "{page}");
    assert!(page.contains("yes: BIRD to 192.168.0.1 (tor1)"), "{page}");
    assert!(
        page.contains("nodes/node-1/files/bird/show_route_export_tor1.txt:3"),
        "{page}"
    );

    let other = "198.51.100.0/24       blackhole [static1 01:38:09.186] * (200)\n\
                 0.0.0.0/0            unicast [static1 01:38:09.186] * (200)\n";
    let (answer, page) = announces(routed(&[session.clone(), export(other)], &no_frr));
    assert_eq!(
        answer,
        Advertises::No,
        "a default route does not lead to an address of its own"
    );
    let words: Vec<&str> = page.split_whitespace().collect();
    let said = words.join(" ");
    assert!(said.contains("and no captured node announces a route to it."), "{page}");

    let down = SESSION.replace("Established", "Active");
    let (answer, _) = announces(routed(&[("bird/show_protocols_all.txt", down)], &no_frr));
    assert_eq!(answer, Advertises::No, "who talks to nobody announces nothing");
}

#[test]
fn what_nobody_looked_at_is_not_a_no() {
    use knet_snapshot::manifest::AbsentReason;
    use knet_snapshot::routing_daemon::Daemon;
    let session = ("bird/show_protocols_all.txt", SESSION.to_owned());
    let empty = ("bird/show_route_export_tor1.txt", "BIRD 2.0.12 ready.\n".to_owned());
    let table = ("bird/show_route_all.txt", "BIRD 2.0.12 ready.\n".to_owned());
    let no_frr = [("frr", "not-running")];
    let unsure = |files: &[(&str, String)], absent: &[(&str, &str)]| match announces(routed(files, absent)).0 {
        Advertises::Unknown(why) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(unsure(&[], &[]), Unsure::NoState);
    assert_eq!(unsure(&[], &[("bird", "not-running")]), Unsure::NoState);
    assert_eq!(
        unsure(&[], &[("bird", "not-running"), no_frr[0]]),
        Unsure::NotRunning,
        "others speak BGP too"
    );
    // What it knows is not what it announces.
    assert_eq!(
        unsure(&[session.clone(), table], &no_frr),
        Unsure::Session("tor1".to_owned())
    );
    assert_eq!(
        unsure(&[session.clone(), empty.clone()], &[]),
        Unsure::OtherDaemon(Daemon::Frr)
    );
    assert_eq!(
        unsure(
            &[session.clone(), empty.clone()],
            &[("frr/show_bgp_summary.json", "permission")]
        ),
        Unsure::NotCaptured {
            path: "nodes/node-1/files/frr/show_bgp_summary.json".to_owned(),
            reason: AbsentReason::Permission,
        }
    );
    // A speaker that is not asked may do what BIRD does not.
    let mut files = routed(&[session, empty], &no_frr);
    for (path, text) in &mut files {
        if path == "nodes/node-1/host/link.json" {
            let bridge = r#"[{"ifindex":40,"ifname":"kube-bridge","flags":["UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:40","linkinfo":{"info_kind":"bridge","info_data":{}}},"#;
            *text = text.replacen('[', bridge, 1);
        }
    }
    assert_eq!(announces(files).0, Advertises::Unknown(Unsure::Itself("kube-router")));
}

#[test]
fn frr_is_asked_for_each_family() {
    let summary = r#"{"ipv4Unicast":{"peers":{"192.168.0.1":{"state":"Established"}}},"ipv6Unicast":{"peers":{"fe80::1":{"state":"Established"}}}}"#;
    let files = |advertised: &str| {
        routed(
            &[
                ("frr/show_bgp_summary.json", summary.to_owned()),
                ("frr/show_bgp_ipv4_advertised_192.168.0.1.json", advertised.to_owned()),
            ],
            &[("bird", "not-running")],
        )
    };
    let (answer, page) = announces(files("{\n\"advertisedRoutes\":{\n  \"203.0.113.7/32\":{}\n}}"));
    assert_eq!(answer, Advertises::Yes);
    assert!(page.contains("yes: FRR to 192.168.0.1"), "{page}");
    assert_eq!(announces(files(r#"{"advertisedRoutes":{}}"#)).0, Advertises::No);
    let warning = announces(files(r#"{ "warning": "No such neighbor or address family" }"#)).0;
    assert_eq!(warning, Advertises::Unknown(Unsure::Session("192.168.0.1".to_owned())));
}
