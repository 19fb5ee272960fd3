//! Addresses, prefixes, ports and marks that rules of nftables talk about.

use super::super::environment::ROUTED;
use super::super::flow::{self, PORTS};
use super::super::random::Rng;

pub(super) fn v6_of(rng: &mut Rng, family: &str) -> bool {
    match family {
        "ip" => false,
        "ip6" => true,
        _ => rng.percent(40),
    }
}

pub(super) fn address(rng: &mut Rng, v6: bool) -> String {
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

pub(super) fn prefix(rng: &mut Rng, v6: bool) -> String {
    // Single addresses are asked for by themselves, and nft leaves a network of everything out.
    let networks = flow::networks(rng, v6);
    rng.pick(&networks[..5]).clone()
}

pub(super) fn list<T: AsRef<str>>(items: &[T]) -> String {
    items.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ")
}

pub(super) fn several(rng: &mut Rng, most: usize, mut make: impl FnMut(&mut Rng) -> String) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for _ in 0..rng.range(1, most) {
        let next = make(rng);
        if !out.contains(&next) {
            out.push(next);
        }
    }
    out
}

pub(super) fn port(rng: &mut Rng) -> String {
    rng.pick(&PORTS).to_string()
}

pub(super) fn mark(rng: &mut Rng) -> &'static str {
    rng.word(&["0x1", "0x2", "0x3", "0x4", "0x4000", "0x80000000"])
}

/// Ports that are not next to one another as disjoint intervals.
pub(super) fn ports(rng: &mut Rng) -> Vec<String> {
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
pub(super) fn prefixes(rng: &mut Rng, v6: bool) -> Vec<String> {
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
