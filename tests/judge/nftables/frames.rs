//! Tables of families `bridge` and `netdev`.

use super::super::environment::{ROUTED, mac_text, own_mac, peer_mac};
use super::super::random::Rng;
use super::super::rules::{Chain, Rule, Table};
use super::words::{address, mark, port, prefix};

/// Where the chain `user` is called from must be legal everywhere.
const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];

/// Base chains on both sides of the place where `br_netfilter` calls the IP hooks, and one chain they may call.
pub fn bridge(rng: &mut Rng) -> Table {
    let mut chains = Vec::new();
    for hook in HOOKS {
        if rng.percent(50) {
            let priority = *rng.pick(&[-300, -200, -50, 10, 300]);
            let policy = if rng.percent(5) { "drop" } else { "accept" };
            chains.push(Chain {
                name: format!("b_{hook}"),
                head: format!("type filter hook {hook} priority {priority}; policy {policy};"),
                rules: (0..rng.range(1, 4)).map(|_| rule(rng, hook)).collect(),
            });
        }
    }
    chains.push(Chain {
        name: "user".to_owned(),
        head: String::new(),
        rules: (0..rng.below(3)).map(|_| rule(rng, "user")).collect(),
    });
    Table {
        head: "bridge knet".to_owned(),
        objects: Vec::new(),
        chains,
    }
}

fn rule(rng: &mut Rng, hook: &str) -> Rule {
    let v6 = rng.percent(40);
    let ip = if v6 { "ip6" } else { "ip" };
    let mut matches = Vec::new();
    for _ in 0..rng.below(3) {
        let not = rng.word(&["", "", "", "!= "]);
        let comes = hook != "output" && hook != "postrouting";
        matches.push(match rng.below(12) {
            0 | 1 => format!("{ip} {} {not}{}", rng.word(&["saddr", "daddr"]), prefix(rng, v6)),
            2 => format!("{ip} daddr {not}{}", address(rng, v6)),
            3 | 4 => format!("{} dport {not}{}", rng.word(&["tcp", "udp"]), port(rng)),
            5 => format!("meta l4proto {not}{}", rng.word(&["tcp", "udp"])),
            6 => format!("ether type {not}{}", rng.word(&["ip", "ip6", "arp"])),
            // Whose MAC a frame from a wire has, the model is not told.
            7 if comes => format!("ether daddr {not}{}", mac_text(own_mac(ROUTED))),
            7 => {
                let mac = mac_text(peer_mac(ROUTED + rng.below(2)));
                format!("ether daddr {not}{mac}")
            }
            8 if hook != "user" => {
                let key = if comes { "iifname" } else { "oifname" };
                format!("{key} {not}\"{}\"", rng.word(&["p0", "p1", "br0", "p*"]))
            }
            9 => format!("meta pkttype {not}{}", rng.word(&["host", "other", "multicast"])),
            10 => format!("meta mark {not}{}", mark(rng)),
            _ => format!("{ip} {}", if v6 { "hoplimit > 60" } else { "ttl > 60" }),
        });
    }
    let action = match rng.below(12) {
        0..=2 => "drop".to_owned(),
        3 | 4 => "accept".to_owned(),
        5 | 6 => format!("meta mark set {}", mark(rng)),
        7 if hook != "user" => rng.word(&["jump user", "goto user"]).to_owned(),
        8 => "return".to_owned(),
        9 if hook == "prerouting" => "meta pkttype set other".to_owned(),
        10 => format!("{ip} dscp set af11"),
        _ => "counter".to_owned(),
    };
    Rule { matches, action }
}

/// A chain at a device's ingress.
pub fn netdev(rng: &mut Rng) -> Table {
    let dev = rng.word(&["eth0", "eth1", "eth2"]);
    let mut rules = Vec::new();
    for _ in 0..rng.range(1, 3) {
        let mut matches = Vec::new();
        let v6 = rng.percent(40);
        let ip = if v6 { "ip6" } else { "ip" };
        matches.push(match rng.below(4) {
            0 => format!("{ip} saddr {}", prefix(rng, v6)),
            1 => format!("{ip} daddr {}", address(rng, v6)),
            2 => format!("udp dport {}", port(rng)),
            _ => format!("meta l4proto {}", rng.word(&["tcp", "udp"])),
        });
        let action = match rng.below(4) {
            0 => "drop".to_owned(),
            1 => format!("meta mark set {}", mark(rng)),
            2 => "accept".to_owned(),
            _ => "counter".to_owned(),
        };
        rules.push(Rule { matches, action });
    }
    let head = format!("type filter hook ingress device \"{dev}\" priority 0; policy accept;");
    Table {
        head: "netdev knet".to_owned(),
        objects: Vec::new(),
        chains: vec![Chain {
            name: "ingress".to_owned(),
            head,
            rules,
        }],
    }
}
