use knet_snapshot::id::TableId;
use knet_snapshot::rule::{Rule, RuleAction, parse};

use crate::{all, one, path, sample};

fn rules() -> Vec<Rule> {
    all(parse(path("rule.json"), sample!("rule.json")))
}

fn single(row: &str) -> Rule {
    one(parse(path("rule.json"), format!("[{row}]").as_bytes()))
}

#[test]
fn numbers_and_names_say_the_same() {
    let names = all(parse(path("rule.json"), sample!("rule-plain.json")));
    for (a, b) in rules().iter().zip(names) {
        assert_eq!(
            *a,
            Rule {
                at: a.at,
                protocol: a.protocol,
                ..b
            }
        );
    }
}

#[test]
fn every_selector() {
    let rules = rules();
    let rule = |priority: u32| rules.iter().find(|rule| rule.priority == priority).unwrap();
    assert_eq!(rule(0).action, RuleAction::Table(TableId::LOCAL));
    assert_eq!(rule(0).src, None, "all");
    assert_eq!(rule(101).src, Some("10.0.0.0/8".parse().unwrap()));
    assert_eq!(rule(101).dst, Some("10.1.0.0/16".parse().unwrap()));
    assert!(rule(102).invert);
    assert_eq!(rule(102).src, Some("10.0.0.1/32".parse().unwrap()));
    assert_eq!(rule(102).fwmark, Some((1, u32::MAX)));
    assert_eq!(
        (rule(103).fwmark, rule(103).iif.as_deref()),
        (Some((0x10, 0xf0)), Some("veth0"))
    );
    assert_eq!(rule(104).iif.as_deref(), Some("nope"), "detached: no such device");
    assert_eq!((rule(105).tos, rule(105).oif.as_deref()), (Some(0x10), Some("veth1")));
    assert_eq!(
        (rule(106).ipproto, rule(106).sport, rule(106).dport),
        (Some(6), Some((80, 80)), Some((1000, 2000)))
    );
    assert_eq!(
        (rule(107).ipproto, rule(107).sport, rule(107).dport),
        (Some(132), Some((1, 2)), Some((3, 3)))
    );
    assert_eq!(rule(108).uidrange, Some((0, 99)));
    assert_eq!(rule(109).suppress_prefixlength, Some(0));
    assert_eq!(rule(110).suppress_ifgroup, Some(7));
    assert_eq!(rule(118).tun_id, Some(42));
    assert_eq!(rule(120).src, Some("0.0.0.0/1".parse().unwrap()));
    assert!(rules.iter().all(|rule| rule.unknown.is_empty()));
}

#[test]
fn every_action() {
    let rules = rules();
    let action = |priority: u32| &rules.iter().find(|rule| rule.priority == priority).unwrap().action;
    assert_eq!(*action(111), RuleAction::Goto(32766));
    assert_eq!(
        *action(112),
        RuleAction::Goto(555),
        "unresolved: no rule has that priority"
    );
    assert_eq!(*action(113), RuleAction::Nop);
    assert_eq!(*action(114), RuleAction::Blackhole);
    assert_eq!(*action(115), RuleAction::Unreachable);
    assert_eq!(*action(116), RuleAction::Prohibit);
    assert_eq!(*action(117), RuleAction::L3mdev);
    assert_eq!(*action(119), RuleAction::Table(TableId(100)), "realms select nothing");
    assert_eq!(*action(121), RuleAction::Other("masquerade".to_owned()));
}

#[test]
fn ipv6() {
    let rules = all(parse(path("rule6.json"), sample!("rule6.json")));
    assert_eq!(rules[1].src, Some("fd00::/64".parse().unwrap()));
    assert_eq!(rules[1].dst, Some("fd01::1/128".parse().unwrap()));
    assert_eq!(rules[1].ipproto, Some(17));
}

#[test]
fn what_a_newer_tool_prints_makes_the_match_unknown() {
    let rule = single(r#"{"priority":1,"src":"all","dscp":"10","flowlabel":"0x1","table":"main","future":null}"#);
    assert_eq!(rule.unknown, ["dscp=10", "flowlabel=0x1", "future"]);
    assert_eq!(rule.action, RuleAction::Table(TableId::MAIN));
}

#[test]
fn a_table_by_a_name_of_the_node_is_not_guessed() {
    let rule = single(r#"{"priority":1,"src":"all","table":"blue"}"#);
    assert_eq!(rule.action, RuleAction::Other("lookup blue".to_owned()));
    assert!(single(r#"{"priority":1,"src":"all","table":"blue","not":null}"#).invert);
    assert_eq!(
        single(r#"{"priority":1,"src":"all","goto":"none"}"#).action,
        RuleAction::Other("goto none".to_owned())
    );
}
