//! Two pods on the bridge of a node.

use crate::trace::{ClientSees, Outcome, Reason, Trace};
use crate::walk::lab::{First, Lab};

const BRIDGE: &str = r#"[
 {"ifindex":3,"ifname":"br0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:03","linkinfo":{"info_kind":"bridge","info_data":{"vlan_filtering":0}}},
 {"ifindex":4,"link_index":2,"ifname":"port1","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:04","link_netnsid":1,"master":"br0","linkinfo":{"info_kind":"veth"}},
 {"ifindex":5,"link_index":2,"ifname":"port2","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:00:05","link_netnsid":2,"master":"br0","linkinfo":{"info_kind":"veth"}}]"#;
const PODS: &str = r#"[
 {"id":"client","peers":[{"ifindex":2,"host_ifindex":4}],"nsid":1},
 {"id":"server","peers":[{"ifindex":2,"host_ifindex":5}],"nsid":2}]"#;
const NO_RULES: &str = r#"{"nftables":[]}"#;
const LISTENS: &str = "tcp LISTEN 0 128 0.0.0.0:80 0.0.0.0:* users:((\"web\",pid=7,fd=3))\n";

fn pod(lab: Lab, id: &str, host: u8, sockets: &str, nft: &str) -> Lab {
    let port = host + 3;
    let link = format!(
        r#"[{{"ifindex":2,"link_index":{port},"ifname":"eth0","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"mtu":1500,"operstate":"UP","link_type":"ether","address":"02:00:00:00:01:0{host}","link_netnsid":0,"linkinfo":{{"info_kind":"veth"}}}}]"#
    );
    let addr = format!(
        r#"[{{"ifindex":2,"ifname":"eth0","addr_info":[{{"family":"inet","local":"10.0.0.{host}","prefixlen":24,"broadcast":"10.0.0.255","scope":"global"}}]}}]"#
    );
    let route = format!(
        r#"[{{"type":"unicast","dst":"10.0.0.0/24","dev":"eth0","protocol":"kernel","scope":"link","prefsrc":"10.0.0.{host}","flags":[]}},
{{"type":"local","dst":"10.0.0.{host}","dev":"eth0","table":"local","protocol":"kernel","scope":"host","prefsrc":"10.0.0.{host}","flags":[]}}]"#
    );
    let own = [
        ("link.json", link.as_str()),
        ("addr.json", &addr),
        ("route.json", &route),
        ("sockets.txt", sockets),
        ("sysctl.txt", "net.ipv4.ip_forward = 0\n"),
        ("nft.json", nft),
    ];
    lab.space(&format!("n/netns/{id}"), own)
}

/// A SYN of one pod to the other, under the native rules of the node (`None`: not captured) and of the server's pod.
fn sent(node: Option<&str>, server: &str) -> Trace {
    bridged("net.ipv4.ip_forward = 0\n", node, server)
}

/// The same with `br_netfilter`.
fn filtered(node: &str) -> Trace {
    bridged("net.bridge.bridge-nf-call-iptables = 1\n", Some(node), NO_RULES)
}

fn bridged(sysctl: &str, node: Option<&str>, server: &str) -> Trace {
    let tables = [
        ("link.json", BRIDGE),
        ("addr.json", "[]"),
        ("route.json", "[]"),
        ("fdb.json", "[]"),
        ("bridge-link.json", "[]"),
        ("bridge-vlan.json", "[]"),
        ("sysctl.txt", sysctl),
    ];
    let rules = "nodes/n/host/nft.json";
    let lab = Lab::default().file("nodes/n/netns.json", PODS).space("n/host", tables);
    let lab = match node {
        Some(text) => lab.file(rules, text),
        None => lab.without(rules),
    };
    let lab = pod(lab, "client", 1, "", NO_RULES);
    // The node's own namespace is the first one.
    pod(lab, "server", 2, LISTENS, server).send(1, "10.0.0.2", First::Syn(80))
}

fn ends(trace: &Trace) -> Vec<(Outcome, Reason)> {
    trace.branches.iter().map(|b| (b.end.outcome, b.end.reason)).collect()
}

/// A base chain with one rule.
fn chain(family: &str, hook: &str, rule: &str) -> String {
    format!(
        r#"{{"nftables":[
 {{"table":{{"family":"{family}","name":"t","handle":1}}}},
 {{"chain":{{"family":"{family}","table":"t","name":"c","handle":1,"type":"filter","hook":"{hook}","prio":0,"policy":"accept"}}}},
 {{"rule":{{"family":"{family}","table":"t","chain":"c","handle":2,"expr":[{rule}]}}}}]}}"#
    )
}

#[test]
fn a_bridge_without_rules_answers() {
    let trace = sent(Some(NO_RULES), NO_RULES);
    let [branch] = &trace.branches[..] else {
        panic!("{:?}", ends(&trace))
    };
    assert_eq!(branch.client_sees, ClientSees::Reply, "{branch:?}");
}

#[test]
fn native_tables_nobody_captured_may_stop_a_frame_on_a_bridge() {
    let trace = sent(None, NO_RULES);
    let unknown = (Outcome::Unknown, Reason::NotCaptured);
    assert!(ends(&trace).contains(&unknown), "{:?}", ends(&trace));
}

#[test]
fn a_question_that_a_rule_drops_is_lost() {
    let lost = (Outcome::NeighbourFailed, Reason::QuestionLost);
    let ends = ends(&sent(Some(NO_RULES), &chain("arp", "input", r#"{"drop":null}"#)));
    assert!(ends.contains(&lost), "{ends:?}");
    assert!(ends.iter().all(|end| end.0 != Outcome::Unknown), "{ends:?}");
}

#[test]
fn a_question_that_a_rule_may_drop_is_lost_or_answered() {
    let ends = ends(&sent(
        Some(NO_RULES),
        &chain("arp", "input", r#"{"limit":{"rate":1}},{"drop":null}"#),
    ));
    for end in [
        (Outcome::NeighbourFailed, Reason::QuestionLost),
        (Outcome::Delivered, Reason::Socket),
    ] {
        assert!(ends.contains(&end), "{ends:?}");
    }
}

#[test]
fn a_question_whose_fate_is_not_known_is_not_a_lost_one() {
    let trace = sent(Some(NO_RULES), &chain("arp", "input", r#"{"queue":null}"#));
    assert_eq!(ends(&trace), [(Outcome::Unknown, Reason::Userspace)]);
    let end = &trace.branches[0].end;
    assert!(end.evidence.iter().any(|row| row.text.contains("queue")), "{end:?}");
}

#[test]
fn an_ip_hook_sees_the_bridge_as_the_device_and_the_frame_as_the_hosts() {
    let drops = |hook: &str, key: &str, value: &str| {
        let matched = format!(
            r#"{{"match":{{"op":"==","left":{{"meta":{{"key":"{key}"}}}},"right":"{value}"}}}},{{"drop":null}}"#
        );
        let ends = ends(&filtered(&chain("ip", hook, &matched)));
        ends.iter().all(|end| *end == (Outcome::Dropped, Reason::Rule))
    };
    for hook in ["prerouting", "forward", "postrouting"] {
        assert!(drops(hook, "pkttype", "host"), "{hook}");
        assert_eq!(drops(hook, "iifname", "br0"), hook != "postrouting", "{hook}");
        assert_eq!(drops(hook, "oifname", "br0"), hook != "prerouting", "{hook}");
    }
}
