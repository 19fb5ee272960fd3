//! Pods on one bridge, with tables of families `bridge`, `arp` and `inet` that see their frames, their questions for
//! neighbours and their packets, and with `br_netfilter` on and off.

use crate::lab::bare;
use crate::netns::Rng;
use crate::plan::{Plan, mac};

const PODS: usize = 3;

pub fn plans(rng: &mut Rng) -> Vec<Plan> {
    (0..2).map(|i| plan(rng, i, false)).collect()
}

/// With what this machine's kernel may not have: `reject`, conntrack and names of bridges in tables of family
/// `bridge`.
#[allow(dead_code, reason = "for Debian's kernel")]
pub fn whole(rng: &mut Rng, number: usize) -> Plan {
    plan(rng, number, true)
}

fn plan(rng: &mut Rng, number: usize, whole: bool) -> Plan {
    let mut plan = Plan::new(&format!("frames{number}"));
    let host = plan.space("n0", Some("node-0"), true);
    plan.ip(host, &format!("link add br0 address {} type bridge", mac(0x300)));
    plan.ip(host, "link set br0 up");
    plan.addr(host, "br0", "10.99.0.1/24");
    plan.addr(host, "br0", "fd99::1/64");
    let mut pods = Vec::new();
    for p in 0..PODS {
        let pod = plan.space(&format!("p{p}"), Some("node-0"), false);
        plan.veth(pod, "eth0", host, &format!("veth{p}"));
        plan.ip(host, &format!("link set veth{p} master br0"));
        plan.ip(pod, &format!("link set eth0 address {}", mac(0x310 + p as u64)));
        plan.addr(pod, "eth0", &format!("10.99.0.{}/24", 10 + p));
        plan.addr(pod, "eth0", &format!("fd99::{}/64", 10 + p));
        plan.ip(pod, "route add default via 10.99.0.1");
        pods.push(pod);
    }
    plan.targets.push(bare("10.99.0.77"));
    for key in ["iptables", "ip6tables"] {
        let on = rng.pick(&["0", "1"]);
        plan.sysctl(host, &format!("net/bridge/bridge-nf-call-{key}"), on);
    }
    if whole || !rng.one_in(5) {
        let text = bridge(rng, whole);
        plan.fault(text.clone());
        plan.spaces[host].nft += &text;
    }
    if rng.one_in(3) {
        plan.spaces[host].nft += "table inet knet {\n chain f {\n  type filter hook forward priority 0;\n  meta mark 5 drop\n }\n \
                                  chain i {\n  type filter hook input priority 0;\n  meta mark 5 drop\n }\n}\n";
        plan.fault("mark 5 is dropped at the IP layer");
    }
    for space in std::iter::once(host).chain(pods) {
        if rng.one_in(3) {
            let text = arp(rng);
            plan.fault(format!("{}: {text}", plan.spaces[space].short));
            plan.spaces[space].nft += &text;
        }
        if rng.one_in(8) {
            let hook = rng.pick(&["input", "output"]);
            let ty = rng.pick(&["nd-neighbor-solicit", "nd-neighbor-advert"]);
            let text = format!(
                "table ip6 nd {{\n chain c {{\n  type filter hook {hook} priority 0;\n  icmpv6 type {ty} drop\n }}\n}}\n"
            );
            plan.fault(format!("{}: {text}", plan.spaces[space].short));
            plan.spaces[space].nft += &text;
        }
    }
    plan.forgetful = true;
    plan
}

fn address(rng: &mut Rng) -> String {
    rng.pick(&["10.99.0.1", "10.99.0.10", "10.99.0.11", "10.99.0.12"])
        .to_owned()
}

fn chain(rng: &mut Rng, hook: &str, mut rule: impl FnMut(&mut Rng) -> String) -> String {
    // Not 0: whether the chain or the bridge was there first, no table says.
    let priority = rng.pick(&[-300, -200, -50, 10, 300]);
    let rules: Vec<String> = (0..=rng.below(2)).map(|_| format!("  {}\n", rule(rng))).collect();
    format!(
        " chain {hook} {{\n  type filter hook {hook} priority {priority};\n{}  }}\n",
        rules.concat()
    )
}

fn bridge(rng: &mut Rng, whole: bool) -> String {
    let mut chains = String::new();
    for hook in ["prerouting", "input", "forward", "output", "postrouting"] {
        if rng.one_in(2) {
            chains += &chain(rng, hook, |rng| {
                if whole && rng.one_in(2) {
                    return whole_rule(rng, hook);
                }
                frame_rule(rng, hook)
            });
        }
    }
    format!("table bridge knet {{\n{chains}}}\n")
}

fn frame_rule(rng: &mut Rng, hook: &str) -> String {
    let pod = rng.below(PODS as u64);
    let comes = matches!(hook, "prerouting" | "input" | "forward");
    let device = if comes { "iifname" } else { "oifname" };
    let what = match rng.below(12) {
        0 => format!("ether type arp arp operation request arp daddr ip {}", address(rng)),
        1 => format!("arp operation reply arp saddr ip {}", address(rng)),
        2 => format!("arp saddr ether {}", mac(0x310 + pod)),
        3 => format!("ether saddr {}", mac(0x310 + pod)),
        4 => format!("ether daddr {}", mac(0x310 + pod)),
        5 => format!("{device} \"veth{pod}\""),
        6 => format!("ip daddr {}", address(rng)),
        7 => format!("tcp dport {}", rng.pick(&["80", "1-1000"])),
        8 => "udp dport 53".to_owned(),
        9 => format!(
            "icmpv6 type {}",
            rng.pick(&["nd-neighbor-solicit", "nd-neighbor-advert", "echo-request"])
        ),
        10 => "ether type ip6".to_owned(),
        _ => format!(
            "meta pkttype {}",
            rng.pick(&["broadcast", "multicast", "other", "host"])
        ),
    };
    let action = match rng.below(8) {
        0..=2 => "meta mark set 5",
        3 => "accept",
        4 if hook == "prerouting" => "meta pkttype set other",
        _ => "drop",
    };
    format!("{what} {action}")
}

fn whole_rule(rng: &mut Rng, hook: &str) -> String {
    let rejects = matches!(hook, "prerouting" | "input");
    match rng.below(6) {
        0 if rejects => format!("ip daddr {} reject", address(rng)),
        1 if rejects => "tcp dport 80 reject with tcp reset".to_owned(),
        2 if rejects => "udp dport 53 reject with icmpx type admin-prohibited".to_owned(),
        3 => format!(
            "ct state {} drop",
            rng.pick(&["new", "established", "invalid", "untracked"])
        ),
        4 if rejects => "meta ibrname \"br0\" tcp dport 80 meta mark set 5".to_owned(),
        _ => format!("ct state new ip daddr {} drop", address(rng)),
    }
}

fn arp(rng: &mut Rng) -> String {
    let hook = rng.pick(&["input", "output"]);
    let rules = chain(rng, hook, |rng| {
        let what = match rng.below(5) {
            0 => format!("arp operation {}", rng.pick(&["request", "reply"])),
            1 => format!("arp saddr ip {}", address(rng)),
            2 => format!("arp daddr ip {}", address(rng)),
            3 => format!("arp saddr ether {}", mac(0x310 + rng.below(PODS as u64))),
            _ => format!("arp daddr ip != {} arp operation request", address(rng)),
        };
        format!("{what} drop")
    });
    format!("table arp knet {{\n{rules}}}\n")
}
