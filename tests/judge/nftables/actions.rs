//! What a rule does.

use super::super::environment::ROUTED;
use super::super::flow;
use super::super::random::Rng;
use super::matches::find;
use super::words::{mark, port};
use super::{At, Named};

#[allow(clippy::too_many_arguments, reason = "everything about one rule")]
pub(super) fn action(
    rng: &mut Rng,
    at: At<'_>,
    deeper: &[&String],
    named: &[Named],
    v6: bool,
    l4: Option<&str>,
    may_map: bool,
    matches: &mut Vec<String>,
) -> String {
    let ip = if v6 { "ip6" } else { "ip" };
    let s = if v6 { "6" } else { "4" };
    if !deeper.is_empty() && rng.percent(30) {
        return format!("{} {}", if rng.percent(65) { "jump" } else { "goto" }, rng.pick(deeper));
    }
    if may_map && rng.percent(12) {
        let choice = match rng.below(6) {
            0 => find(rng, named, &format!("vaddr{s}")).map(|n| format!("{ip} daddr vmap @{n}")),
            1 | 2 => {
                find(rng, named, &format!("vapp{s}")).map(|n| format!("{ip} daddr . meta l4proto . th dport vmap @{n}"))
            }
            3 => find(rng, named, "vports")
                .filter(|_| l4.is_none_or(|l| l == "tcp"))
                .map(|n| format!("tcp dport vmap @{n}")),
            4 if at.priority > -200 && at.hook != "any" => {
                Some("ct state vmap { invalid : drop, established : accept, related : accept }".to_owned())
            }
            _ => Some(format!(
                "meta l4proto vmap {{ tcp : {}, udp : {} }}",
                rng.word(&["accept", "continue", "return"]),
                rng.word(&["accept", "drop", "continue"])
            )),
        };
        if let Some(choice) = choice {
            return choice;
        }
    }
    if at.kind == "nat" && rng.percent(75) {
        let ports = l4.filter(|l| matches!(*l, "tcp" | "udp" | "sctp"));
        return nat(rng, at, named, v6, ports, l4.is_none(), matches);
    }
    match rng.below(20) {
        0..=4 => "accept".to_owned(),
        5 => "drop".to_owned(),
        6 => "return".to_owned(),
        7 => "continue".to_owned(),
        8 | 9 if matches!(at.hook, "input" | "forward" | "output") && at.kind == "filter" => reject(rng, at, v6, l4),
        10..=12 => match rng.below(6) {
            0 => format!("meta mark set {}", mark(rng)),
            1 => format!("meta mark set meta mark or {}", mark(rng)),
            2 => "meta mark set meta mark and 0xfffffffe".to_owned(),
            3 => "meta mark set meta mark xor 0x3".to_owned(),
            4 => match find(rng, named, "pmark") {
                Some(name) if l4.is_none_or(|l| l == "tcp") => format!("meta mark set tcp dport map @{name}"),
                _ => format!("meta mark set {}", mark(rng)),
            },
            _ if at.priority > -200 && at.hook != "any" => "meta mark set ct mark".to_owned(),
            _ => "counter".to_owned(),
        },
        13 if at.priority > -200 && at.hook != "any" => match rng.below(3) {
            0 => "ct mark set meta mark".to_owned(),
            1 => "ct mark set ct mark or 0x2".to_owned(),
            _ => format!("ct mark set {}", mark(rng)),
        },
        14 if at.kind != "nat" => {
            if v6 {
                format!("ip6 dscp set {}", rng.word(&["af11", "cs1", "cs0"]))
            } else {
                format!("ip dscp set {}", rng.word(&["af11", "cs1", "cs0"]))
            }
        }
        15 if at.kind != "nat" => {
            if v6 {
                format!("ip6 hoplimit set {}", rng.word(&["33", "1"]))
            } else {
                format!("ip ttl set {}", rng.word(&["33", "1"]))
            }
        }
        16 if matches!(at.hook, "prerouting" | "output") && at.priority < -200 => {
            if rng.percent(70) {
                "notrack".to_owned()
            } else {
                format!("ct zone set {}", rng.range(1, 3))
            }
        }
        17 => match find(rng, named, &format!("dyn{s}")) {
            Some(name) => format!("{} @{name} {{ {ip} saddr }}", rng.word(&["add", "update"])),
            None => "log group 9".to_owned(),
        },
        18 => "log group 9 accept".to_owned(),
        _ => "counter accept".to_owned(),
    }
}

fn reject(rng: &mut Rng, at: At<'_>, v6: bool, l4: Option<&str>) -> String {
    if l4 == Some("tcp") && rng.percent(50) {
        return "reject with tcp reset".to_owned();
    }
    match (at.family, rng.below(3)) {
        (_, 0) => "reject".to_owned(),
        ("inet", _) => format!(
            "reject with icmpx type {}",
            rng.word(&["port-unreachable", "admin-prohibited", "no-route", "host-unreachable"])
        ),
        _ if v6 => format!(
            "reject with icmpv6 type {}",
            rng.word(&[
                "no-route",
                "admin-prohibited",
                "addr-unreachable",
                "port-unreachable",
                "policy-fail",
                "reject-route"
            ])
        ),
        _ => format!(
            "reject with icmp type {}",
            rng.word(&[
                "net-unreachable",
                "host-unreachable",
                "prot-unreachable",
                "port-unreachable",
                "net-prohibited",
                "host-prohibited",
                "admin-prohibited"
            ])
        ),
    }
}

fn nat(
    rng: &mut Rng,
    at: At<'_>,
    named: &[Named],
    v6: bool,
    l4: Option<&str>,
    any: bool,
    matches: &mut Vec<String>,
) -> String {
    let ip = if v6 { "ip6" } else { "ip" };
    let s = if v6 { "6" } else { "4" };
    let inet = if at.family == "inet" {
        format!("{ip} ")
    } else {
        String::new()
    };
    let device = rng.below(ROUTED);
    let to = if rng.percent(25) {
        flow::own(rng, v6)
    } else {
        flow::behind(rng, v6, device)
    }
    .to_string();
    let bracket = |a: &str| if v6 { format!("[{a}]") } else { a.to_owned() };
    let i = rng.below(ROUTED);
    let range = |from: usize, to: usize| {
        if v6 {
            format!("fd00:{i}::{from}-fd00:{i}::{to}")
        } else {
            format!("10.{i}.0.{from}-10.{i}.0.{to}")
        }
    };
    if matches!(at.hook, "prerouting" | "output") {
        return match rng.below(8) {
            0 | 1 => format!("dnat {inet}to {to}"),
            2 if l4.is_some() => format!("dnat {inet}to {}:{}", bracket(&to), port(rng)),
            3 => format!(
                "dnat {inet}to {}{}",
                range(2, 4),
                rng.word(&["", " random", " persistent"])
            ),
            4 | 5 => match find(rng, named, &format!("to{s}")) {
                Some(name) if any || l4.is_some() => {
                    if l4.is_none() {
                        matches.push(format!("meta l4proto {}", rng.word(&["tcp", "udp"])));
                    }
                    format!("dnat {ip} to {ip} daddr map @{name}")
                }
                _ => format!("dnat {inet}to {to}"),
            },
            6 if l4.is_some() => {
                let (a, b) = (flow::behind(rng, v6, 0), flow::behind(rng, v6, 1));
                format!("dnat {ip} to numgen random mod 2 map {{ 0 : {a} . 8080, 1 : {b} . 80 }}")
            }
            _ => {
                if l4.is_some() {
                    format!("redirect to :{}", rng.word(&["8080", "80", "443"]))
                } else {
                    "redirect".to_owned()
                }
            }
        };
    }
    match rng.below(5) {
        0 | 1 if at.hook == "postrouting" => match (rng.below(4), l4.is_some()) {
            (0, true) => "masquerade to :40000-50000".to_owned(),
            (1, _) => "masquerade fully-random".to_owned(),
            (2, _) => "masquerade random".to_owned(),
            _ => "masquerade".to_owned(),
        },
        2 => format!("snat {inet}to {}", range(7, 9)),
        3 if l4.is_some() => {
            let to = if v6 {
                format!("[fd00:{i}::7]:1024-65535")
            } else {
                format!("10.{i}.0.7:1024-65535")
            };
            format!("snat {inet}to {to}")
        }
        _ => format!(
            "snat {inet}to {}",
            if v6 {
                format!("fd00:{i}::{}", rng.range(7, 9))
            } else {
                format!("10.{i}.0.{}", rng.range(7, 9))
            }
        ),
    }
}
