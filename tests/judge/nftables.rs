//! Random native nftables rulesets: families ip, ip6, inet and netdev, sets, maps, NAT.

mod frames;

use super::environment::ROUTED;
use super::flow::{self, PORTS};
use super::random::Rng;
use super::rules::{Back, Chain, Part, Rule, Table};

/// Where a chain is called from.
#[derive(Clone, Copy, Debug, PartialEq)]
struct At<'a> {
    /// `ip`, `ip6`, `inet`
    family: &'a str,
    /// `filter`, `nat`, `route`
    kind: &'a str,
    hook: &'a str,
    priority: i32,
}

/// Sets and maps of a table that rules may name: name and type.
#[derive(Clone, Debug)]
struct Named {
    name: String,
    kind: &'static str,
}

/// A random part.
pub fn random(rng: &mut Rng) -> Part {
    let mut tables = Vec::new();
    let families: &[&str] = match rng.below(5) {
        0 => &["ip", "ip6"],
        1 => &["inet", "ip"],
        2 => &["ip", "ip6", "inet"],
        _ => &["inet"],
    };
    for (n, family) in families.iter().enumerate() {
        tables.push(table(rng, family, n));
    }
    if rng.percent(10) {
        tables.push(netdev(rng));
    }
    if rng.percent(25) {
        tables.push(frames::bridge(rng));
    }
    Part {
        back: Back::Nft,
        lines: Vec::new(),
        tables,
    }
}

fn v6_of(rng: &mut Rng, family: &str) -> bool {
    match family {
        "ip" => false,
        "ip6" => true,
        _ => rng.percent(40),
    }
}

fn address(rng: &mut Rng, v6: bool) -> String {
    match rng.below(5) {
        0 | 1 => flow::own(rng, v6).to_string(),
        2 => {
            if v6 {
                format!("fd96::{}", rng.word(&["1", "10"]))
            } else {
                format!("10.96.0.{}", rng.word(&["1", "10"]))
            }
        }
        _ => {
            let device = rng.below(ROUTED);
            flow::behind(rng, v6, device).to_string()
        }
    }
}

fn prefix(rng: &mut Rng, v6: bool) -> String {
    let i = rng.below(ROUTED);
    let third = rng.below(6);
    let options = if v6 {
        [
            format!("fd10:{i}::/32"),
            format!("fd10:{i}:{third}::/48"),
            format!("fd00:{i}::/64"),
            "fd00::/8".to_owned(),
            "fd96::/32".to_owned(),
        ]
    } else {
        [
            format!("10.1{i}.0.0/16"),
            format!("10.1{i}.{third}.0/24"),
            format!("10.{i}.0.0/24"),
            "10.0.0.0/8".to_owned(),
            "10.96.0.0/16".to_owned(),
        ]
    };
    rng.pick(&options).clone()
}

fn list<T: AsRef<str>>(items: &[T]) -> String {
    items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

fn several(rng: &mut Rng, most: usize, mut make: impl FnMut(&mut Rng) -> String) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for _ in 0..rng.range(1, most) {
        let next = make(rng);
        if !out.contains(&next) {
            out.push(next);
        }
    }
    out
}

fn port(rng: &mut Rng) -> String {
    rng.pick(&PORTS).to_string()
}

fn mark(rng: &mut Rng) -> &'static str {
    rng.word(&["0x1", "0x2", "0x3", "0x4", "0x4000", "0x80000000"])
}

/// Ports that are not next to one another as disjoint intervals.
fn ports(rng: &mut Rng) -> Vec<String> {
    let all = [
        "1-52".to_owned(),
        "53".to_owned(),
        "80-90".to_owned(),
        "443".to_owned(),
        "1900".to_owned(),
        "6443".to_owned(),
        "8000-9000".to_owned(),
        "30000-32767".to_owned(),
    ];
    rng.some(&all, 1)
}

/// Prefixes that do not overlap.
fn prefixes(rng: &mut Rng, v6: bool) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for i in 0..ROUTED {
        let third = rng.below(6);
        if v6 {
            all.push(format!("fd10:{i}:{third}::/48"));
            all.push(format!("fd00:{i}::/64"));
        } else {
            all.push(format!("10.1{i}.{third}.0/24"));
            all.push(format!("10.{i}.0.2-10.{i}.0.5"));
        }
    }
    all.push(if v6 {
        "fd96::/32".to_owned()
    } else {
        "10.96.0.0/16".to_owned()
    });
    rng.some(&all, 2)
}

fn objects(rng: &mut Rng, family: &str, chains: &[String]) -> (Vec<String>, Vec<Named>) {
    let mut texts = Vec::new();
    let mut named = Vec::new();
    let families: &[bool] = match family {
        "ip" => &[false],
        "ip6" => &[true],
        _ => &[false, true],
    };
    let verdict = |rng: &mut Rng| match (rng.below(6), chains.is_empty()) {
        (0, _) => "drop".to_owned(),
        (1, _) => "accept".to_owned(),
        (2, _) => "return".to_owned(),
        (3, false) => format!("jump {}", rng.pick(chains)),
        (_, false) => format!("goto {}", rng.pick(chains)),
        _ => "continue".to_owned(),
    };
    for (n, &v6) in families.iter().enumerate() {
        let (ty, suffix) = if v6 { ("ipv6_addr", "6") } else { ("ipv4_addr", "4") };
        let mut add = |kind: &'static str, name: &str, text: String| {
            texts.push(text);
            named.push(Named {
                name: name.to_owned(),
                kind,
            });
        };
        let _ = n;
        if rng.percent(50) {
            let elements = list(&several(rng, 6, |r| address(r, v6)));
            let timeout = if rng.percent(20) {
                "flags timeout; timeout 1h; "
            } else {
                ""
            };
            add(
                if v6 { "addr6" } else { "addr4" },
                &format!("a{suffix}"),
                format!("set a{suffix} {{ type {ty}; {timeout}elements = {{ {elements} }} }}"),
            );
        }
        if rng.percent(50) {
            let elements = list(&prefixes(rng, v6));
            add(
                if v6 { "addr6" } else { "addr4" },
                &format!("n{suffix}"),
                format!("set n{suffix} {{ type {ty}; flags interval; elements = {{ {elements} }} }}"),
            );
        }
        if rng.percent(50) {
            let elements = list(&several(rng, 6, |r| {
                format!("{} . {} . {}", address(r, v6), r.word(&["tcp", "udp"]), port(r))
            }));
            add(
                if v6 { "app6" } else { "app4" },
                &format!("c{suffix}"),
                format!("set c{suffix} {{ type {ty} . inet_proto . inet_service; elements = {{ {elements} }} }}"),
            );
        }
        if rng.percent(40) {
            let (own_port, nets) = (ports(rng), prefixes(rng, v6));
            let elements: Vec<String> = nets
                .iter()
                .take(3)
                .map(|net| format!("{net} . {}", rng.pick(&own_port)))
                .collect();
            add(
                if v6 { "np6" } else { "np4" },
                &format!("i{suffix}"),
                format!(
                    "set i{suffix} {{ type {ty} . inet_service; flags interval; elements = {{ {} }} }}",
                    list(&elements)
                ),
            );
        }
        if rng.percent(40) {
            let elements = several(rng, 5, |r| address(r, v6))
                .into_iter()
                .map(|a| format!("{a} : {}", verdict(rng)))
                .collect::<Vec<_>>();
            add(
                if v6 { "vaddr6" } else { "vaddr4" },
                &format!("va{suffix}"),
                format!(
                    "map va{suffix} {{ type {ty} : verdict; elements = {{ {} }} }}",
                    list(&elements)
                ),
            );
        }
        if rng.percent(40) {
            let elements = several(rng, 6, |r| {
                format!("{} . {} . {}", address(r, v6), r.word(&["tcp", "udp"]), port(r))
            })
            .into_iter()
            .map(|a| format!("{a} : {}", verdict(rng)))
            .collect::<Vec<_>>();
            add(
                if v6 { "vapp6" } else { "vapp4" },
                &format!("vc{suffix}"),
                format!(
                    "map vc{suffix} {{ type {ty} . inet_proto . inet_service : verdict; elements = {{ {} }} }}",
                    list(&elements)
                ),
            );
        }
        if rng.percent(40) {
            let elements = several(rng, 5, |r| address(r, v6))
                .into_iter()
                .map(|a| {
                    let device = rng.below(ROUTED);
                    format!("{a} : {} . {}", flow::behind(rng, v6, device), port(rng))
                })
                .collect::<Vec<_>>();
            add(
                if v6 { "to6" } else { "to4" },
                &format!("d{suffix}"),
                format!(
                    "map d{suffix} {{ type {ty} : {ty} . inet_service; elements = {{ {} }} }}",
                    list(&elements)
                ),
            );
        }
        if rng.percent(25) {
            add(
                if v6 { "dyn6" } else { "dyn4" },
                &format!("dyn{suffix}"),
                format!("set dyn{suffix} {{ type {ty}; flags dynamic,timeout; timeout 1h; size 65535; }}"),
            );
        }
    }
    let mut add = |kind: &'static str, name: &str, text: String| {
        texts.push(text);
        named.push(Named {
            name: name.to_owned(),
            kind,
        });
    };
    if rng.percent(40) {
        add(
            "ports",
            "p",
            format!(
                "set p {{ type inet_service; flags interval; elements = {{ {} }} }}",
                list(&ports(rng))
            ),
        );
    }
    if rng.percent(30) {
        let names: Vec<String> = rng.some(&["eth0", "eth1", "eth2", "eth3", "br0"].map(|n| format!("\"{n}\"")), 1);
        add(
            "ifs",
            "ifs",
            format!("set ifs {{ type ifname; elements = {{ {} }} }}", list(&names)),
        );
    }
    if rng.percent(30) {
        let elements: Vec<String> = rng
            .some(&PORTS.map(|p| p.to_string()), 1)
            .into_iter()
            .map(|p| format!("{p} : {}", verdict(rng)))
            .collect();
        add(
            "vports",
            "vp",
            format!(
                "map vp {{ type inet_service : verdict; elements = {{ {} }} }}",
                list(&elements)
            ),
        );
    }
    if rng.percent(30) {
        let elements: Vec<String> = rng
            .some(&PORTS.map(|p| p.to_string()), 1)
            .into_iter()
            .map(|p| format!("{p} : {}", mark(rng)))
            .collect();
        add(
            "pmark",
            "pm",
            format!(
                "map pm {{ type inet_service : mark; elements = {{ {} }} }}",
                list(&elements)
            ),
        );
    }
    (texts, named)
}

const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];

fn table(rng: &mut Rng, family: &str, n: usize) -> Table {
    let mut chains: Vec<Chain> = Vec::new();
    let mut at: Vec<At<'_>> = Vec::new();
    let mut bases = 0;
    for hook in HOOKS {
        if rng.percent(55) {
            let priority = *rng.pick(&[-310, -300, -250, -150, 0, 0, 10, 50, 110]);
            let drop = rng.percent(8);
            bases += 1;
            at.push(At {
                family,
                kind: "filter",
                hook,
                priority,
            });
            chains.push(Chain {
                name: format!("f_{hook}"),
                head: format!(
                    "type filter hook {hook} priority {priority}; policy {};",
                    if drop { "drop" } else { "accept" }
                ),
                rules: Vec::new(),
            });
        }
        if hook != "forward" && rng.percent(40) {
            let priority = if matches!(hook, "prerouting" | "output") {
                *rng.pick(&[-100, -90, -150])
            } else {
                *rng.pick(&[100, 110, 90])
            };
            bases += 1;
            at.push(At {
                family,
                kind: "nat",
                hook,
                priority,
            });
            chains.push(Chain {
                name: format!("n_{hook}"),
                head: format!("type nat hook {hook} priority {priority}; policy accept;"),
                rules: Vec::new(),
            });
        }
    }
    if rng.percent(25) {
        bases += 1;
        at.push(At {
            family,
            kind: "route",
            hook: "output",
            priority: -150,
        });
        chains.push(Chain {
            name: "r_output".to_owned(),
            head: "type route hook output priority -150; policy accept;".to_owned(),
            rules: Vec::new(),
        });
    }
    let _ = n;
    // Chains without a hook, each for one kind of caller; deeper levels come later.
    for base in 0..bases {
        for level in 0..rng.below(3) {
            let name = format!("u{base}_{level}");
            at.push(at[base]);
            chains.push(Chain {
                name,
                head: String::new(),
                rules: Vec::new(),
            });
        }
    }
    let any: Vec<String> = (0..rng.below(3)).map(|i| format!("x{i}")).collect();
    for name in &any {
        // Called from everywhere, through maps too: only what is legal everywhere.
        at.push(At {
            family,
            kind: "any",
            hook: "any",
            priority: 0,
        });
        chains.push(Chain {
            name: name.clone(),
            head: String::new(),
            rules: Vec::new(),
        });
    }
    let (objects, named) = objects(rng, family, &any);
    let names: Vec<String> = chains.iter().map(|c| c.name.clone()).collect();
    for (c, chain) in chains.iter_mut().enumerate() {
        let base = if c < bases {
            Some(c)
        } else {
            chain
                .name
                .strip_prefix('u')
                .and_then(|n| n.split('_').next())
                .and_then(|n| n.parse().ok())
        };
        let mut deeper: Vec<&String> = match base {
            Some(base) => {
                let prefix = format!("u{base}_");
                names
                    .iter()
                    .filter(|n| n.starts_with(&prefix) && (c < bases || **n > chain.name))
                    .collect()
            }
            None => Vec::new(),
        };
        let may_map = !chain.name.starts_with('x');
        if may_map {
            deeper.extend(any.iter());
        }
        for _ in 0..rng.below(5) {
            chain.rules.push(rule(rng, at[c], &deeper, &named, may_map));
        }
    }
    Table {
        head: format!("{family} knet"),
        objects,
        chains,
    }
}

/// A chain at a device's ingress.
fn netdev(rng: &mut Rng) -> Table {
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

fn rule(rng: &mut Rng, at: At<'_>, deeper: &[&String], named: &[Named], may_map: bool) -> Rule {
    let v6 = v6_of(rng, at.family);
    let mut l4: Option<&'static str> = None;
    let mut matches: Vec<String> = Vec::new();
    let how_many = rng.below(100);
    let count = if how_many < 10 {
        0
    } else if how_many < 60 {
        1
    } else if how_many < 90 {
        2
    } else {
        3
    };
    let mut with_address = false;
    for _ in 0..count {
        if let Some((text, proto, addressed)) = one_match(rng, at, v6, named, l4) {
            // nft 1.0.6 lists `ip ttl < 5 ip length > 60` as one range of the second field.
            let ordered = |t: &str| t.contains(" < ") || t.contains(" > ");
            if ordered(&text) && matches.iter().any(|m| ordered(m)) {
                continue;
            }
            l4 = l4.or(proto);
            with_address |= addressed;
            matches.push(text);
        }
    }
    if rng.percent(15) {
        matches.push("counter".to_owned());
    }
    let mut action = action(rng, at, deeper, named, v6, l4, may_map, &mut matches);
    // nft 1.0.6 leaves the family out when it lists such a rule, so that no snapshot can show it.
    if action == "reject with tcp reset" && matches.iter().any(|m| m.starts_with("meta nfproto")) {
        action = "drop".to_owned();
    }
    let _ = with_address;
    Rule { matches, action }
}

/// A protocol with ports, when the rule has not asked for another one.
fn ported(l4: Option<&'static str>, rng: &mut Rng) -> Option<&'static str> {
    match l4 {
        None => Some(rng.word(&["tcp", "udp"])),
        Some("tcp" | "udp" | "sctp") => l4,
        Some(_) => None,
    }
}

fn find(rng: &mut Rng, named: &[Named], kind: &str) -> Option<String> {
    let fitting: Vec<&Named> = named.iter().filter(|n| n.kind == kind).collect();
    if fitting.is_empty() {
        None
    } else {
        Some(rng.pick(&fitting).name.clone())
    }
}

/// A match, the transport protocol it demands, and whether it demands the address family.
fn one_match(
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
    match rng.below(34) {
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
        33 if !v6 => some(format!("ip length {}", rng.word(&["> 60", "< 100", "86"]))),
        _ => None,
    }
}

#[allow(clippy::too_many_arguments, reason = "everything about one rule")]
fn action(
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
