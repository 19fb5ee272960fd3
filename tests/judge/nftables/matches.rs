//! What a rule asks.

use super::super::environment::ROUTED;
use super::super::random::Rng;
use super::words::{address, list, mark, port, ports, prefix, prefixes, several};
use super::{At, Named};

/// A protocol with ports, when the rule has not asked for another one.
fn ported(l4: Option<&'static str>, rng: &mut Rng) -> Option<&'static str> {
    match l4 {
        None => Some(rng.word(&["tcp", "udp"])),
        Some("tcp" | "udp" | "sctp") => l4,
        Some(_) => None,
    }
}

pub(super) fn find(rng: &mut Rng, named: &[Named], kind: &str) -> Option<String> {
    let fitting: Vec<&Named> = named.iter().filter(|n| n.kind == kind).collect();
    if fitting.is_empty() {
        None
    } else {
        Some(rng.pick(&fitting).name.clone())
    }
}

/// A match, the transport protocol it demands, and whether it demands the address family.
pub(super) fn one_match(
    rng: &mut Rng,
    at: At<'_>,
    v6: bool,
    named: &[Named],
    l4: Option<&'static str>,
) -> Option<(String, Option<&'static str>, bool)> {
    let ip = if v6 { "ip6" } else { "ip" };
    let s = if v6 { "6" } else { "4" };
    let not = if rng.percent(15) { "!= " } else { "" };
    let input = matches!(at.hook, "prerouting" | "input" | "forward" | "any" | "postrouting");
    let output = matches!(at.hook, "forward" | "output" | "postrouting");
    let tracked = at.priority > -200 && at.hook != "any";
    let side = rng.word(&["saddr", "daddr"]);
    let some = |text: String| Some((text, None, false));
    let addressed = |text: String| Some((text, None, true));
    match rng.below(36) {
        0 | 1 => addressed(format!("{ip} {side} {not}{}", prefix(rng, v6))),
        2 => addressed(format!("{ip} {side} {not}{}", address(rng, v6))),
        3 => addressed(format!(
            "{ip} {side} {not}{{ {} }}",
            list(&several(rng, 5, |r| address(r, v6)))
        )),
        4 => addressed(format!("{ip} {side} {not}{{ {} }}", list(&prefixes(rng, v6)))),
        5 | 6 => {
            let name = find(rng, named, &format!("addr{s}"))?;
            addressed(format!("{ip} {side} {not}@{name}"))
        }
        7 => {
            let i = rng.below(ROUTED);
            let range = if v6 {
                format!("fd10:{i}::-fd10:{i}:3::")
            } else {
                format!("10.1{i}.0.2-10.1{i}.3.1")
            };
            addressed(format!("{ip} {side} {not}{range}"))
        }
        8 => {
            let name = find(rng, named, &format!("app{s}"))?;
            addressed(format!("{ip} daddr . meta l4proto . th dport {not}@{name}"))
        }
        9 => {
            let name = find(rng, named, &format!("np{s}"))?;
            let proto = ported(l4, rng)?;
            Some((format!("{ip} {side} . {proto} dport {not}@{name}"), Some(proto), true))
        }
        10..=12 => {
            let proto = ported(l4, rng)?;
            let which = if rng.percent(85) { "dport" } else { "sport" };
            let value = match rng.below(5) {
                0 => rng.word(&["1-1024", "1024-40000", "80-8080"]).to_owned(),
                1 => format!("{{ {} }}", list(&ports(rng))),
                2 => match find(rng, named, "ports") {
                    Some(name) => format!("@{name}"),
                    None => port(rng),
                },
                _ => port(rng),
            };
            Some((format!("{proto} {which} {not}{value}"), Some(proto), false))
        }
        13 if l4.is_none() => {
            let icmp = if v6 { "ipv6-icmp" } else { "icmp" };
            let proto = rng.word(&["tcp", "udp", "{ tcp, udp }", icmp, "sctp"]);
            let demands = not.is_empty().then_some(proto);
            Some((format!("meta l4proto {not}{proto}"), demands, false))
        }
        14 => match l4 {
            None | Some("tcp") => {
                let flags = rng.word(&[
                    "syn",
                    "& (syn | ack) == syn",
                    "& (fin | syn | rst | ack) == syn",
                    "!= ack",
                    "ack / syn,ack",
                    "{ syn, ack }",
                    "& rst != 0",
                ]);
                Some((format!("tcp flags {flags}"), Some("tcp"), false))
            }
            _ => None,
        },
        15 if l4.is_none() => {
            let (proto, types) = if v6 {
                (
                    "icmpv6",
                    [
                        "echo-request",
                        "echo-reply",
                        "{ echo-request, destination-unreachable }",
                    ],
                )
            } else {
                (
                    "icmp",
                    [
                        "echo-request",
                        "echo-reply",
                        "{ echo-request, destination-unreachable, time-exceeded }",
                    ],
                )
            };
            let ty = rng.word(&types);
            Some((format!("{proto} type {not}{ty}"), Some(proto), false))
        }
        16 if input => some(match rng.below(6) {
            0 => format!("iifname {not}\"eth*\""),
            1 => format!("iif {not}\"{}\"", rng.word(&["eth0", "eth1", "br0"])),
            2 => match find(rng, named, "ifs") {
                Some(name) => format!("iifname {not}@{name}"),
                None => "iifname { \"eth0\", \"eth2\" }".to_owned(),
            },
            3 => format!("iifgroup {not}7"),
            4 => format!("meta iifkind {not}\"veth\""),
            _ => format!("iifname {not}\"{}\"", rng.word(&["eth0", "eth1", "eth2", "br0"])),
        }),
        17 if output => some(match rng.below(4) {
            0 => format!("oifname {not}\"e*\""),
            1 => format!("oif {not}\"{}\"", rng.word(&["eth0", "eth1", "br0", "lo"])),
            2 => format!("oifname {not}{{ \"eth1\", \"eth3\" }}"),
            _ => format!("oifname {not}\"{}\"", rng.word(&["eth0", "eth1", "eth2", "br0"])),
        }),
        18 | 19 => some(match rng.below(3) {
            0 => format!("meta mark {not}{}", mark(rng)),
            1 => format!(
                "meta mark and {} {}{}",
                mark(rng),
                if rng.percent(50) { "!= " } else { "== " },
                rng.word(&["0x0", "0x1", "0x2"])
            ),
            _ => format!("meta mark {not}{{ 0x1, 0x2, 0x4000 }}"),
        }),
        20 | 21 if tracked => some(match rng.below(4) {
            0 => "ct state established,related".to_owned(),
            1 => format!("ct state {not}{{ new, untracked }}"),
            2 => format!(
                "ct state {not}{}",
                rng.word(&["new", "invalid", "established", "untracked", "related"])
            ),
            _ => "ct state invalid,untracked".to_owned(),
        }),
        22 if tracked => some(match rng.below(6) {
            0 => format!(
                "ct status {}",
                rng.word(&["dnat", "snat", "seen-reply", "confirmed", "assured"])
            ),
            1 => format!("ct direction {}", rng.word(&["original", "reply"])),
            2 => format!("ct mark {not}{}", mark(rng)),
            3 => format!("ct mark and 0x3 == {}", rng.word(&["0x0", "0x1"])),
            4 => "ct status & dnat == dnat".to_owned(),
            _ => "ct protocol { tcp, udp }".to_owned(),
        }),
        23 if tracked => addressed(match rng.below(3) {
            0 => format!("ct original {ip} {side} {not}{}", prefix(rng, v6)),
            1 => format!("ct reply {ip} {side} {not}{}", prefix(rng, v6)),
            _ => format!("ct original {ip} daddr {not}{}", address(rng, v6)),
        }),
        24 if matches!(at.hook, "prerouting" | "input" | "forward" | "output") => some(match rng.below(5) {
            0 => format!(
                "fib daddr type {not}{}",
                rng.word(&["local", "unicast", "{ local, broadcast }"])
            ),
            1 if at.hook == "prerouting" => format!("fib saddr . iif oif {}", rng.word(&["missing", "exists"])),
            2 if at.hook == "prerouting" => format!("fib saddr . mark . iif oif {}", rng.word(&["missing", "exists"])),
            3 if at.hook == "prerouting" => format!("fib daddr . iif type {not}local"),
            3 => "fib saddr type local".to_owned(),
            _ if at.hook == "prerouting" => "fib saddr oifname \"eth1\"".to_owned(),
            _ => format!("fib saddr type {not}local"),
        }),
        25 => some(if v6 {
            format!("ip6 hoplimit {}", rng.word(&["< 5", "64", "> 62", "!= 63"]))
        } else {
            format!("ip ttl {}", rng.word(&["< 5", "64", "> 62", "!= 63"]))
        }),
        26 => some(format!(
            "{ip} dscp {not}{}",
            rng.word(&["cs0", "af11", "0x08", "{ cs0, cs1 }", "ef"])
        )),
        27 => some(format!("meta length {}", rng.word(&["< 60", "> 100", "86", "40-90"]))),
        28 if at.hook == "output" || at.hook == "postrouting" => {
            let last = if rng.percent(40) { "skgid 100" } else { "skuid < 1001" };
            let all = ["skuid 0", "skuid 1000", "skuid { 1000, 1001 }", "skuid != 0", last];
            some(format!("meta {}", rng.word(&all)))
        }
        29 => some(format!(
            "meta pkttype {not}{}",
            rng.word(&["host", "unicast", "broadcast"])
        )),
        30 if at.family == "inet" => some(format!("meta nfproto {}", if v6 { "ipv6" } else { "ipv4" })),
        31 if rng.percent(40) => some(match rng.below(2) {
            0 => "numgen random mod 2 0".to_owned(),
            _ => "numgen inc mod 2 0".to_owned(),
        }),
        32 => match l4 {
            None | Some("udp") if rng.percent(40) => Some((
                format!("udp length {}", rng.word(&["> 20", "< 100"])),
                Some("udp"),
                false,
            )),
            None => some(format!(
                "meta l4proto . th dport {{ tcp . {}, udp . {} }}",
                port(rng),
                port(rng)
            )),
            _ => None,
        },
        34 => some(if v6 {
            format!(
                "exthdr {} {}",
                rng.word(&["frag", "hbh", "dst"]),
                rng.word(&["missing", "exists"])
            )
        } else {
            format!(
                "ip option {} {}",
                rng.word(&["rr", "ra", "lsrr"]),
                rng.word(&["missing", "exists"])
            )
        }),
        35 if matches!(at.hook, "prerouting" | "input" | "forward") => {
            some(format!("meta ipsec {}", rng.word(&["missing", "exists"])))
        }
        33 if !v6 => some(format!("ip length {}", rng.word(&["> 60", "< 100", "86"]))),
        _ => None,
    }
}
