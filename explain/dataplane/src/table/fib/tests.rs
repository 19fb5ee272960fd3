//! Facts the kernel taught, each as a small table. `tests/kernel_routes` found or confirmed them.

use std::sync::Arc;

use knet_snapshot::Snapshot;
use knet_snapshot::id::IfIndex;
use knet_snapshot::store::Blob;

use super::*;
use crate::choice::explore;
use crate::trace::Assumption;

const LINKS: &str = r#"[
 {"ifindex":1,"ifname":"lo","flags":["LOOPBACK","UP","LOWER_UP"],"mtu":65536},
 {"ifindex":2,"ifname":"e0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"group":"0"},
 {"ifindex":3,"ifname":"e1","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1500,"group":"7"}]"#;

fn snapshot(files: &[(&str, &str)]) -> Snapshot {
    let all = files.iter().chain(&[("link.json", LINKS)]);
    let blob = |text: &str| Arc::new(text.as_bytes().to_vec()) as Blob;
    Snapshot::from_files(all.map(|(n, t)| (format!("nodes/n/host/{n}"), blob(t))).collect()).expect("a snapshot")
}

/// Every answer to a query, with what was assumed: a device, a word, or nothing.
fn answers(s: &Snapshot, query: &Query) -> Vec<String> {
    let facts = s.namespaces().next().expect("one namespace");
    let fib = Fib::compile(facts, &Links::compile(facts));
    let word = |l: Lookup<'_>| match l.answer {
        Answer::Route(hit) => match hit.oif {
            Some(IfIndex(n)) if !is_reject(hit.kind) => format!("{:?} {n}", hit.kind),
            _ => format!("{:?}", hit.kind),
        },
        Answer::Rule(kind) => format!("rule {kind:?}"),
        Answer::None => "none".into(),
        Answer::Unknown(what) => format!("unknown {what}"),
    };
    explore(16, |oracle| word(fib.lookup(query, oracle)))
        .leaves
        .into_iter()
        .map(|l| l.value)
        .collect()
}

fn to(dst: &str) -> Query {
    Query::to(dst.parse().expect("an address"))
}

const DEFAULT_RULES: &str = r#"[{"priority":0,"src":"all","table":"255"},{"priority":32766,"src":"all","table":"254"},
 {"priority":32767,"src":"all","table":"253"}]"#;

#[test]
fn local_and_main_are_one_trie_until_a_rule_parts_them() {
    let routes = r#"[{"type":"2","dst":"10.0.0.0/8","dev":"lo","table":"255"},
     {"type":"1","dst":"10.1.0.0/16","dev":"e0","table":"254"}]"#;
    // Whether there ever was a rule cannot be seen: both, the common one first.
    let s = snapshot(&[("rule.json", DEFAULT_RULES), ("route.json", routes)]);
    assert_eq!(answers(&s, &to("10.1.0.1")), ["Unicast 2", "Local 1"]);
    assert_eq!(answers(&s, &to("10.2.0.1")), ["Local 1"]);
    let rules = r#"[{"priority":0,"src":"all","table":"255"},{"priority":9,"src":"all","iif":"e9","table":"77"},
     {"priority":32766,"src":"all","table":"254"}]"#;
    let s = snapshot(&[("rule.json", rules), ("route.json", routes)]);
    assert_eq!(answers(&s, &to("10.1.0.1")), ["Local 1"]);
}

#[test]
fn missing_rules_are_the_default_ones_and_missing_routes_are_unknown() {
    let s = snapshot(&[(
        "route.json",
        r#"[{"type":"1","dst":"10.0.0.0/8","dev":"e0","table":"254"}]"#,
    )]);
    let facts = s.namespaces().next().expect("one namespace");
    let fib = Fib::compile(facts, &Links::compile(facts));
    let found = fib.lookup(&to("10.0.0.1"), &mut Oracle::default());
    assert_eq!(found.assumed, [Assumption::DefaultRules]);
    assert!(matches!(found.answer, Answer::Route(_)));
    assert_eq!(answers(&s, &to("fd00::1")), ["unknown routes"]);
    // A table that only a rule leads to says that there are others.
    let s = snapshot(&[(
        "route.json",
        r#"[{"type":"1","dst":"10.0.0.0/8","dev":"e0","table":"254"},{"type":"7","dst":"default","table":"51"}]"#,
    )]);
    assert_eq!(answers(&s, &to("10.0.0.1")), ["unknown rule.json"]);
}

#[test]
fn throw_goes_on_with_the_next_rule_and_a_foreign_tos_with_a_shorter_prefix() {
    let rules = r#"[{"priority":0,"src":"all","table":"255"},{"priority":5,"src":"all","table":"100"},
     {"priority":32766,"src":"all","table":"254"}]"#;
    let routes = r#"[{"type":"9","dst":"10.1.0.0/16","table":"100"},{"type":"6","dst":"10.0.0.0/8","table":"100"},
     {"type":"1","dst":"10.1.0.0/24","tos":"0x10","dev":"e1","table":"254"},
     {"type":"1","dst":"10.1.0.0/16","dev":"e0","table":"254"}]"#;
    let s = snapshot(&[("rule.json", rules), ("route.json", routes)]);
    assert_eq!(answers(&s, &to("10.1.0.1")), ["Unicast 2"]);
    assert_eq!(
        answers(
            &s,
            &Query {
                tos: 0x10,
                ..to("10.1.0.1")
            }
        ),
        ["Unicast 3"]
    );
    assert_eq!(answers(&s, &to("10.2.0.1")), ["Blackhole"]);
}

#[test]
fn goto_jumps_forward_and_an_unresolved_one_goes_on() {
    let rules = r#"[{"priority":5,"src":"all","fwmark":"0x1","goto":20},{"priority":6,"src":"all","goto":7},
     {"priority":10,"src":"all","action":"prohibit"},{"priority":20,"src":"all","table":"254"}]"#;
    let routes = r#"[{"type":"1","dst":"default","dev":"e0","table":"254"}]"#;
    let s = snapshot(&[("rule.json", rules), ("route.json", routes)]);
    assert_eq!(answers(&s, &to("10.1.0.1")), ["rule Prohibit"]);
    assert_eq!(
        answers(
            &s,
            &Query {
                mark: 1,
                ..to("10.1.0.1")
            }
        ),
        ["Unicast 2"]
    );
}

#[test]
fn suppress_ifgroup_looks_at_the_first_next_hop() {
    let rules = r#"[{"priority":5,"src":"all","table":"254","suppress_ifgroup":"7"}]"#;
    let multi = r#"[{"type":"1","dst":"default","table":"254","nexthops":[
     {"gateway":"10.0.0.2","dev":"e0","weight":1,"flags":[]},{"gateway":"10.1.0.2","dev":"e1","weight":3,"flags":[]}]}]"#;
    let s = snapshot(&[("rule.json", rules), ("route.json", multi)]);
    assert_eq!(
        answers(
            &s,
            &Query {
                oif: Some(IfIndex(3)),
                ..to("1.1.1.1")
            }
        ),
        ["Unicast 3"]
    );
    assert_eq!(answers(&s, &to("1.1.1.1")), ["Unicast 2", "Unicast 3"]);
    let single = r#"[{"type":"1","dst":"default","dev":"e1","table":"254"}]"#;
    let s = snapshot(&[("rule.json", rules), ("route.json", single)]);
    assert_eq!(answers(&s, &to("1.1.1.1")), ["none"]);
}

#[test]
fn a_selector_nobody_knows_forks_only_where_it_decides() {
    let rules =
        r#"[{"priority":5,"src":"all","table":"100","flowlabel":"0x1"},{"priority":9,"src":"all","table":"254"}]"#;
    let routes = r#"[{"type":"1","dst":"10.0.0.0/8","dev":"e1","table":"100"},
     {"type":"1","dst":"default","dev":"e0","table":"254"}]"#;
    let s = snapshot(&[("rule.json", rules), ("route.json", routes)]);
    assert_eq!(answers(&s, &to("10.0.0.1")), ["Unicast 3", "Unicast 2"]);
    assert_eq!(answers(&s, &to("11.0.0.1")), ["Unicast 2"]);
    let by_uid = r#"[{"priority":5,"src":"all","uid_start":1000,"uid_end":1000,"table":"100"},
     {"priority":9,"src":"all","table":"254"}]"#;
    let s = snapshot(&[("rule.json", by_uid), ("route.json", routes)]);
    assert_eq!(
        answers(
            &s,
            &Query {
                uid: None,
                ..to("10.0.0.1")
            }
        ),
        ["Unicast 3", "Unicast 2"]
    );
    let received = Query {
        uid: None,
        iif: Some(IfIndex(2)),
        ..to("10.0.0.1")
    };
    assert_eq!(answers(&s, &received), ["Unicast 2"]);
}

#[test]
fn ipv6_passes_over_a_prefix_whose_sources_do_not_match() {
    let routes = r#"[{"type":"1","dst":"fd00:1::/48","from":"fd00:9::/48","dev":"e1","table":"254","metric":1024},
     {"type":"1","dst":"fd00:1::/48","dev":"e1","table":"254","metric":1024},
     {"type":"1","dst":"fd00::/16","dev":"e0","table":"254","metric":1024}]"#;
    let s = snapshot(&[
        ("route6.json", routes),
        ("sysctl.txt", "net.ipv6.conf.all.forwarding = 1\n"),
    ]);
    let from = |src: &str| Query {
        src: Some(src.parse().expect("an address")),
        ..to("fd00:1::5")
    };
    assert_eq!(answers(&s, &from("fd00:9::1")), ["Unicast 3"]);
    // Not the plain fd00:1::/48, although it is longer.
    assert_eq!(answers(&s, &from("fd00:8::1")), ["Unicast 2"]);
}

#[test]
fn ipv6_forgets_metrics_once_the_smallest_fails() {
    let dead =
        r#"{"type":"1","dst":"default","gateway":"fd00::1","dev":"e0","table":"254","metric":1,"flags":["dead"]}"#;
    let routes = format!(
        r#"[{dead},{{"type":"1","dst":"default","gateway":"fd00::2","dev":"e0","table":"254","metric":2,"flags":[],"pref":"low"}},
        {{"type":"1","dst":"default","gateway":"fd00::3","dev":"e1","table":"254","metric":3,"flags":[],"pref":"high"}}]"#
    );
    let s = snapshot(&[
        ("route6.json", &routes),
        ("sysctl.txt", "net.ipv6.conf.all.forwarding = 1\n"),
    ]);
    assert_eq!(answers(&s, &to("2001:db8::1")), ["Unicast 3"]);
}

#[test]
fn a_host_that_does_not_forward_avoids_gateways_that_failed() {
    let routes = r#"[{"type":"1","dst":"fd01::/16","gateway":"fd00::1","dev":"e0","table":"254","metric":1,"flags":[]},
     {"type":"1","dst":"default","gateway":"fd00::2","dev":"e1","table":"254","metric":1,"flags":[]}]"#;
    let neigh = r#"[{"dst":"fd00::1","dev":"e0","state":["FAILED"]}]"#;
    let with = |forwarding: &str| {
        snapshot(&[
            ("route6.json", routes),
            ("neigh.json", neigh),
            ("sysctl.txt", forwarding),
        ])
    };
    assert_eq!(
        answers(&with("net.ipv6.conf.all.forwarding = 0\n"), &to("fd01::1")),
        ["Unicast 3"]
    );
    assert_eq!(
        answers(&with("net.ipv6.conf.all.forwarding = 1\n"), &to("fd01::1")),
        ["Unicast 2"]
    );
    assert_eq!(
        answers(&with("net.ipv6.conf.x = 1\n"), &to("fd01::1")),
        ["Unicast 3", "Unicast 2"]
    );
}

#[test]
fn only_one_address_is_the_zero_network() {
    let s = snapshot(&[
        ("rule.json", DEFAULT_RULES),
        (
            "route.json",
            r#"[{"type":"2","dst":"10.0.0.1","dev":"e0","table":"255"}]"#,
        ),
    ]);
    let facts = s.namespaces().next().expect("one namespace");
    let fib = Fib::compile(facts, &Links::compile(facts));
    let kind = |a: &str, dev| fib.addr_type(a.parse().expect("an address"), dev);
    assert_eq!(kind("0.0.0.0", None), Some(RouteKind::Broadcast));
    assert_eq!(kind("0.0.0.1", None), Some(RouteKind::Unicast));
    assert_eq!(kind("10.0.0.1", None), Some(RouteKind::Local));
    assert_eq!(kind("10.0.0.1", Some(IfIndex(3))), Some(RouteKind::Unicast));
    assert_eq!(kind("fd00::1", None), None);
}

#[test]
fn rows_read_as_ip_prints_them() {
    let rules = r#"[{"priority":100,"src":"all","dst":"10.244.2.0","dstlen":24,"action":"6"},
     {"priority":101,"not":null,"src":"10.0.0.0","srclen":8,"fwmark":"0x4000","fwmask":"0x4000","table":"77"}]"#;
    let routes = r#"[{"type":"1","dst":"10.244.1.0/24","gateway":"10.244.1.0","dev":"e1","table":"254","protocol":"3","scope":"0","flags":["onlink"]},
     {"type":"2","dst":"10.0.0.1","dev":"e0","table":"255","protocol":"2","scope":"254","prefsrc":"10.0.0.1","flags":[]}]"#;
    let s = snapshot(&[("rule.json", rules), ("route.json", routes)]);
    let facts = s.namespaces().next().expect("one namespace");
    let text: Vec<String> = facts
        .routes(Family::V4)
        .get()
        .expect("known")
        .rows
        .iter()
        .map(text::route)
        .collect();
    assert_eq!(
        text,
        [
            "10.244.1.0/24 via 10.244.1.0 dev e1 onlink",
            "local 10.0.0.1 dev e0 table local proto kernel scope host src 10.0.0.1"
        ]
    );
    let text: Vec<String> = facts
        .rules(Family::V4)
        .get()
        .expect("known")
        .rows
        .iter()
        .map(text::rule)
        .collect();
    assert_eq!(text[0], "100:\tfrom all to 10.244.2.0/24 blackhole");
    assert_eq!(text[1], "101:\tnot from 10.0.0.0/8 fwmark 0x4000/0x4000 lookup 77");
}
