//! The same Services as elements of nftables maps and as iptables rules: what a lookup costs as they grow.
//!
//! `cargo bench --bench elements` puts 1,000, 10,000 and 100,000 Services on node-1 of the capture of the README, once
//! as kube-proxy's nftables mode writes them and once as its iptables mode does, and measures opening with the first
//! trace, and traces per second after it.

#[path = "../support/shipped.rs"]
#[allow(dead_code, reason = "shared by tests that each use a part")]
mod shipped;

#[allow(dead_code, reason = "the other bench uses the rest")]
mod generator;
mod nft_generator;

use std::time::{Duration, Instant};

use knet_explain::{Detail, Explainer, Query, render};
use knet_snapshot::Snapshot;

use generator::{Size, cluster_ip};

const SAVE: &str = "nodes/node-1/host/iptables-nft.save";
const RULESET: &str = "nodes/node-1/host/nft.json";
const LISTING: &str = "nodes/node-1/host/nft.txt";
/// Runs of everything; the best one counts, because the machine has other things to do.
const RUNS: usize = 5;
/// Traces of one run.
const TRACES: u32 = 400;

/// What one form of the rules costs.
struct Cost {
    first: Duration,
    /// Of one trace after the first.
    each: Duration,
}

fn main() {
    println!("services   form      bytes     load + first trace     traces/s   of 1,000 services");
    let mut small: [Option<Cost>; 2] = [None, None];
    for services in [1_000, 10_000, 100_000] {
        let size = Size { services, endpoints: 1 };
        let forms = [
            ("nftables", nft_generator::ruleset(size)),
            ("iptables", generator::save(size)),
        ];
        let mut costs = Vec::new();
        for ((form, rules), small) in forms.into_iter().zip(&mut small) {
            let bytes = rules.len();
            let cost = measure(form, &rules, services);
            let base = small.as_ref().map_or(1.0, |s| ratio(s.each, cost.each));
            println!(
                "{services:8}   {form}  {:6.1} MB   {:12.1} ms      {:10.0}   {base:8.2}",
                bytes as f64 / 1e6,
                cost.first.as_secs_f64() * 1e3,
                1.0 / cost.each.as_secs_f64(),
            );
            costs.push((cost.first, cost.each));
            small.get_or_insert(cost);
        }
        println!(
            "           nftables : iptables       {:12.2} x       {:10.2} x",
            ratio(costs[0].0, costs[1].0),
            ratio(costs[1].1, costs[0].1),
        );
    }
}

fn measure(form: &str, rules: &str, services: u32) -> Cost {
    let mut first = Vec::new();
    let mut each = Vec::new();
    for _ in 0..RUNS {
        let files = files(form, rules);
        let begin = Instant::now();
        let snapshot: Snapshot = shipped::snapshot(files).unwrap_or_else(|e| panic!("{e}"));
        let explainer = Explainer::new(&snapshot);
        trace(&explainer, services - 1);
        first.push(begin.elapsed());
        let chosen: Vec<u32> = (0..TRACES).map(|i| (i * 7919) % services).collect();
        // Once, so that every chain that is met is compiled.
        chosen.iter().for_each(|&service| trace(&explainer, service));
        let begin = Instant::now();
        chosen.iter().for_each(|&service| trace(&explainer, service));
        each.push(begin.elapsed() / TRACES);
    }
    Cost {
        first: first.into_iter().min().expect("runs"),
        each: each.into_iter().min().expect("runs"),
    }
}

/// The shipped capture with the rules of node-1 replaced.
fn files(form: &str, rules: &str) -> shipped::Files {
    let mut files = shipped::files("three-node");
    // The manifest has hashes of what is replaced here; without it nothing is compared with them.
    files.remove("manifest.json");
    if form == "nftables" {
        files.insert(SAVE.to_owned(), Vec::new());
        files.insert(RULESET.to_owned(), rules.as_bytes().to_vec());
        files.remove(LISTING);
    } else {
        files.insert(SAVE.to_owned(), rules.as_bytes().to_vec());
    }
    files
}

fn trace(explainer: &Explainer<'_>, service: u32) {
    let query = Query {
        src: "pod/default/toolbox-1".to_owned(),
        dst: format!("{}:80", cluster_ip(service)),
        ..Query::default()
    };
    let answer = explainer
        .trace(&query, Detail::Outcome)
        .unwrap_or_else(|e| panic!("{e}"));
    let json = render::json::trace(&answer, true);
    assert_eq!(json["outcome"], "delivered", "{json}");
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}
