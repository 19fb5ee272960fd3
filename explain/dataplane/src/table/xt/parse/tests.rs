//! Spellings of `iptables-save`, old and new, and what must not panic.

use knet_snapshot::Row;
use knet_snapshot::id::Family;
use proptest::prelude::*;

use super::super::matches::{Match, PortRange};
use super::super::rule::{ChainRef, Rule};
use super::super::target::{Connmark, Target};
use super::rule;

fn none(_: &str) -> Option<ChainRef> {
    None
}

fn v4(line: &str) -> Rule {
    rule(line, Row::default(), Family::V4, &none)
}

fn v6(line: &str) -> Rule {
    rule(line, Row::default(), Family::V6, &none)
}

fn range(line: &str, family: Family) -> String {
    match rule(line, Row::default(), family, &none).target {
        Target::Dnat(r) | Target::Snat(r) | Target::Masquerade(r) | Target::Redirect(r) | Target::Netmap(r) => {
            let addrs = r.addrs.map(|(a, b)| format!("{a}-{b}"));
            let base = r.base_port.map(|b| format!("/{b}"));
            let ports = r.ports.map(|(a, b)| format!(" {a}-{b}"));
            let flags = [
                (r.random, " random"),
                (r.fully_random, " fully"),
                (r.persistent, " persistent"),
            ];
            let flags: String = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
            format!(
                "{}{}{}{flags}",
                addrs.unwrap_or_default(),
                ports.unwrap_or_default(),
                base.unwrap_or_default()
            )
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn nat_ranges() {
    let four = |to: &str| range(&format!("-A X -p tcp -j DNAT --to-destination {to}"), Family::V4);
    assert_eq!(four("10.0.0.1"), "10.0.0.1-10.0.0.1");
    assert_eq!(four("10.0.0.1-10.0.0.5:80-90"), "10.0.0.1-10.0.0.5 80-90");
    assert_eq!(four(":8080"), " 8080-8080");
    assert_eq!(four("10.0.0.1:1000-2000/3000"), "10.0.0.1-10.0.0.1 1000-2000/3000");
    assert_eq!(
        four("10.0.0.1:80 --random --persistent"),
        "10.0.0.1-10.0.0.1 80-80 random persistent"
    );
    let six = |to: &str| range(&format!("-A X -p tcp -j SNAT --to-source {to}"), Family::V6);
    assert_eq!(six("fd00::1"), "fd00::1-fd00::1");
    assert_eq!(six("fd00::1-fd00::5"), "fd00::1-fd00::5");
    assert_eq!(six("[fd00::1]:80"), "fd00::1-fd00::1 80-80");
    assert_eq!(six("[fd00::1-fd00::5]:80-90"), "fd00::1-fd00::5 80-90");
    assert_eq!(
        range("-A X -j NETMAP --to 10.6.0.0/16", Family::V4),
        "10.6.0.0-10.6.255.255"
    );
    assert_eq!(
        range("-A X -j MASQUERADE --to-ports 1024-65535 --random-fully", Family::V4),
        " 1024-65535 fully"
    );
}

#[test]
fn masks_need_not_be_contiguous() {
    let net = v4("-A X -d 10.0.0.2/255.0.0.255").head.dst.expect("a destination");
    assert!(net.holds("10.9.9.2".parse().expect("an address")));
    assert!(!net.holds("10.9.9.3".parse().expect("an address")));
    let net = v6("-A X ! -s fd09::1/ffff::ff").head.src.expect("a source");
    assert!(!net.holds("fd09:5::1".parse().expect("an address")));
}

#[test]
fn the_old_place_of_the_exclamation_mark() {
    for line in [
        "-A X ! -s 10.0.0.0/8 -p tcp -m tcp ! --dport 80",
        "-A X -s ! 10.0.0.0/8 -p tcp -m tcp --dport ! 80",
    ] {
        let rule = v4(line);
        assert!(rule.head.src.is_some_and(|n| n.invert));
        let Match::Tcp(tcp) = &rule.matches[0] else {
            panic!("tcp")
        };
        assert_eq!(
            tcp.dport,
            Some(PortRange {
                min: 80,
                max: 80,
                invert: true
            })
        );
    }
}

#[test]
fn a_value_that_looks_like_an_option_is_a_value() {
    let rule = v4("-A X -m comment --comment -j -m comment --comment \"! -j DROP\" -j ACCEPT");
    assert_eq!((rule.target, rule.matches.len()), (Target::Accept, 0));
    assert_eq!(v4("-A X -j LOG --log-prefix -j").target, Target::Inert);
}

#[test]
fn ports_without_a_match_belong_to_the_protocol() {
    assert!(matches!(v4("-A X -p udp --dport 53").matches[..], [Match::Ports(_)]));
    assert!(matches!(v4("-A X -p icmp --icmp-type 8").matches[..], [Match::Icmp(_)]));
    // Without a protocol nobody has the option.
    assert!(matches!(v4("-A X --dport 53").matches[..], [Match::Unknown(_)]));
}

#[test]
fn five_spellings_of_a_mark() {
    let mark = |how: &str| v4(&format!("-A X -j MARK {how}")).target;
    let target = |value, mask| Target::Mark { value, mask };
    assert_eq!(mark("--set-mark 0x5/0xff"), target(5, 0xff));
    assert_eq!(mark("--set-mark 0x100/0xff"), target(0x100, 0x1ff));
    assert_eq!(mark("--set-xmark 0x4000/0x4000"), target(0x4000, 0x4000));
    assert_eq!(mark("--and-mark 0xfffffff0"), target(0, 0xf));
    assert_eq!(mark("--or-mark 0x80000001"), target(0x8000_0001, 0x8000_0001));
    assert_eq!(mark("--xor-mark 0x4000"), target(0x4000, 0));
    let restore = Connmark::Restore {
        nfmask: 0xff,
        ctmask: 0xff,
        shift: 0,
    };
    assert_eq!(
        v4("-A X -j CONNMARK --restore-mark --mask 0xff").target,
        Target::Connmark(restore)
    );
}

#[test]
fn a_value_that_does_not_parse_costs_only_its_match() {
    let rule = v4("-A X -d 10.0.0.0/33 -p tcp -m tcp --dport eighty -m mark --mark 0x1 -j DROP");
    let unknown: Vec<_> = rule.matches.iter().filter(|m| matches!(m, Match::Unknown(_))).collect();
    assert_eq!(unknown.len(), 2);
    assert_eq!(rule.target, Target::Drop);
    let Match::Unknown(text) = &rule.matches[0] else {
        panic!("tcp cannot be read")
    };
    assert_eq!(&**text, "-m tcp --dport eighty");
    assert!(matches!(
        v4("-A X -j REJECT --reject-with zorch").target,
        Target::Unknown(_)
    ));
    assert!(matches!(v4("-A X -g GONE").target, Target::Unknown(_)));
}

proptest! {
    #[test]
    fn nothing_panics(line in "\\PC*", words in prop::collection::vec(word(), 0..12)) {
        for text in [line, words.join(" ")] {
            v4(&text);
            v6(&text);
        }
    }
}

/// Words a rule is made of, and numbers and addresses at their limits.
fn word() -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "-A",
        "X",
        "!",
        "-s",
        "-d",
        "-i",
        "-p",
        "-m",
        "-j",
        "-g",
        "-c",
        "--",
        "\"",
        "\\",
        "tcp",
        "udp",
        "icmp6",
        "comment",
        "--comment",
        "--dport",
        "--tcp-flags",
        "multiport",
        "--dports",
        "conntrack",
        "--ctstate",
        "--ctorigdst",
        "recent",
        "--seconds",
        "statistic",
        "--probability",
        "--mode",
        "random",
        "nth",
        "--every",
        "set",
        "--match-set",
        "DNAT",
        "--to-destination",
        "NETMAP",
        "--to",
        "CONNMARK",
        "--left-shift-mark",
        "CT",
        "--zone",
        "TOS",
        "--set-tos",
        "0/0",
        "::/129",
        "1.2.3.4/32",
        "[::1]:80",
        "65535:0",
        "0x",
        "99999999999",
        "-1",
        "NaN",
        "2",
        ",",
        ":",
        "/",
        "-",
    ]);
    prop_oneof![fixed.prop_map(str::to_owned), "[0-9a-f:./,-]{0,12}"]
}
