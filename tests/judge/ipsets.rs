//! Random IP sets of every type that this kernel has, over the addresses that packets use.

use super::environment::ROUTED;
use super::flow::{self, PORTS};
use super::random::Rng;
use super::rules::{Back, Part};

/// A set: its name, family and the list of what its dimensions take from a packet.
#[derive(Clone, Debug)]
pub struct Set {
    pub name: String,
    pub v6: bool,
    /// `src,dst` words that fit its type.
    pub dims: usize,
}

const TYPES: [(&str, &str); 11] = [
    ("hash:ip", "ip"),
    ("hash:net", "net"),
    ("hash:ip,port", "ip,port"),
    ("hash:ip,port,ip", "ip,port,ip"),
    ("hash:ip,port,net", "ip,port,net"),
    ("hash:net,port", "net,port"),
    ("hash:net,iface", "net,iface"),
    ("bitmap:port", "bport"),
    ("bitmap:ip", "bip"),
    ("list:set", "list"),
    ("hash:ip,mark", "ip,mark"),
];

/// Types that this kernel makes.
pub fn available(try_line: impl Fn(&str) -> bool) -> Vec<usize> {
    (0..TYPES.len())
        .filter(|&i| {
            let extra = match TYPES[i].1 {
                "bport" => " range 0-100",
                "bip" => " range 10.0.0.0/24",
                _ => "",
            };
            try_line(&format!("create probe {}{extra}", TYPES[i].0))
        })
        .collect()
}

/// Random sets and the part that makes them.
pub fn random(rng: &mut Rng, types: &[usize]) -> (Vec<Set>, Part) {
    let mut sets: Vec<Set> = Vec::new();
    let mut lines = Vec::new();
    for n in 0..rng.range(2, 6) {
        let (kind, dims) = TYPES[*rng.pick(types)];
        let v6 = rng.percent(40) && !kind.starts_with("bitmap") && kind != "list:set";
        let name = format!("s{n}");
        let mut options = String::new();
        if v6 {
            options.push_str(" family inet6");
        }
        match dims {
            "bport" => options.push_str(" range 0-65535"),
            "bip" => options.push_str(" range 10.8.0.0/16"),
            _ => {}
        }
        let nomatch = dims.contains("net") && kind.starts_with("hash");
        if rng.percent(20) && dims != "list" {
            options.push_str(" counters");
        }
        if rng.percent(20) && dims != "list" {
            options.push_str(" timeout 10000");
        }
        if rng.percent(20) && dims != "list" {
            options.push_str(" comment");
        }
        lines.push(format!("create {name} {kind}{options}"));
        let mut seen: Vec<String> = Vec::new();
        for _ in 0..rng.range(1, 8) {
            let member = match dims {
                "list" => {
                    let others: Vec<&Set> = sets.iter().filter(|s| s.dims < 4).collect();
                    if others.is_empty() {
                        continue;
                    }
                    rng.pick(&others).name.clone()
                }
                "bport" => port(rng),
                "bip" => format!("10.8.0.{}", rng.range(1, 6)),
                _ => dims
                    .split(',')
                    .map(|d| dimension(rng, d, v6))
                    .collect::<Vec<_>>()
                    .join(","),
            };
            if seen.contains(&member) {
                continue;
            }
            let not = if nomatch && rng.percent(20) { " nomatch" } else { "" };
            lines.push(format!("add {name} {member}{not} -exist"));
            seen.push(member);
        }
        let count = match dims {
            "bport" | "bip" => 1,
            // As many as its members take.
            "list" => 4,
            other => other.split(',').count(),
        };
        sets.push(Set { name, v6, dims: count });
    }
    (
        sets,
        Part {
            back: Back::Ipset,
            lines,
            tables: Vec::new(),
        },
    )
}

fn port(rng: &mut Rng) -> String {
    rng.pick(&PORTS).to_string()
}

fn dimension(rng: &mut Rng, kind: &str, v6: bool) -> String {
    match kind {
        "port" => {
            let port = port(rng);
            match rng.below(4) {
                0 => format!("udp:{port}"),
                1 => "tcp:1-1024".to_owned(),
                _ => format!("tcp:{port}"),
            }
        }
        "iface" => rng.word(&["eth0", "eth1", "eth2", "eth3", "br0"]).to_owned(),
        "mark" => rng.word(&["0x1", "0x2", "0x4"]).to_owned(),
        "net" => network(rng, v6),
        _ => match rng.below(3) {
            0 => flow::own(rng, v6).to_string(),
            _ => {
                let device = rng.below(ROUTED);
                flow::behind(rng, v6, device).to_string()
            }
        },
    }
}

fn network(rng: &mut Rng, v6: bool) -> String {
    let i = rng.below(ROUTED);
    let third = rng.below(6);
    let options = if v6 {
        vec![
            format!("fd10:{i}::/32"),
            format!("fd10:{i}:{third}::/48"),
            format!("fd00:{i}::/64"),
            "fd00::/16".to_owned(),
            format!("fd10:{i}:{third}::2"),
        ]
    } else {
        vec![
            format!("10.1{i}.0.0/16"),
            format!("10.1{i}.{third}.0/24"),
            format!("10.{i}.0.0/24"),
            "10.0.0.0/8".to_owned(),
            "10.96.0.0/16".to_owned(),
            format!("10.1{i}.{third}.2"),
        ]
    };
    rng.pick(&options).clone()
}

/// The match that asks a set, for a rule.
pub fn test(rng: &mut Rng, set: &Set) -> String {
    let dims = set.dims.min(3);
    let sides: Vec<&str> = (0..dims).map(|_| rng.word(&["src", "dst"])).collect();
    let not = if rng.percent(15) { "! " } else { "" };
    let nomatch = if rng.percent(5) { " --return-nomatch" } else { "" };
    format!("-m set {not}--match-set {} {}{nomatch}", set.name, sides.join(","))
}
