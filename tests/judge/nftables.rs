//! Random native nftables rulesets: families ip, ip6, inet, bridge and netdev, sets, maps, NAT.

mod actions;
mod frames;
mod matches;
mod objects;
mod words;

use self::actions::action;
use self::matches::one_match;
use self::objects::objects;
use self::words::v6_of;
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
        tables.push(frames::netdev(rng));
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
