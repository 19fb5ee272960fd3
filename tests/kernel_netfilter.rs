//! The kernel is the judge of netfilter.
//!
//! `cargo test --test kernel_netfilter -- --nocapture` is the bounded run of CI. The long run is the same test with
//! more work, a million packets over 21,000 rulesets in about half an hour on two CPUs: `KNET_SEED=1
//! KNET_JUDGE_RULESETS=22000 KNET_JUDGE_SECONDS=14400 cargo test --release --test kernel_netfilter -- --nocapture`.
//! `KNET_SEED=N KNET_JUDGE_FROM=R KNET_JUDGE_RULESETS=1` replays one ruleset.
//! Needs root, network namespaces, iproute2, iptables (both back ends), nftables, ipset and conntrack.

#[allow(dead_code, reason = "some of the laboratory serves one test only")]
mod judge;

use judge::cases;
use judge::lab::{self, Lab};
use judge::rules::Loaded;
use judge::run::{self, Plan};

fn number(key: &str, default: u64) -> u64 {
    std::env::var(key).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

#[test]
fn the_kernel_agrees() {
    if let Some(reason) = lab::obstacle() {
        println!("KNET-SKIP kernel_netfilter: {reason}");
        return;
    }
    let backends =
        std::env::var("KNET_JUDGE_BACKENDS").unwrap_or_else(|_| "legacy,xtnft,nft,both,nft,mixed".to_owned());
    let rulesets = number("KNET_JUDGE_RULESETS", 1000);
    // More than one for each CPU: to load rules is mostly to wait for the kernel.
    let cpus = std::thread::available_parallelism().map_or(2, |n| 2 * n.get() as u64);
    let plan = Plan {
        seed: number("KNET_SEED", 1),
        from: number("KNET_JUDGE_FROM", 0),
        rulesets,
        flows: number("KNET_JUDGE_FLOWS", 36) as usize,
        ipvs: false,
        tries: 500,
        backends: backends.split(',').map(str::to_owned).collect(),
        patience: number("KNET_JUDGE_PATIENCE", 20) as usize,
        seconds: number("KNET_JUDGE_SECONDS", 120),
        workers: number("KNET_JUDGE_WORKERS", cpus),
    };
    println!("kernel_netfilter: KNET_SEED={} {plan:?}", plan.seed);
    let tally = run::run(&plan);
    for (what, count) in &tally.outcomes {
        println!("  outcome {what}: {count}");
    }
    for (what, count) in &tally.cannot_tell {
        println!("  cannot tell, {what}: {count}");
    }
    for (what, (packets, rulesets)) in &tally.by_backend {
        println!("  back end {what}: {packets} packets, {rulesets} rulesets");
    }
    println!(
        "KNET-RAN kernel_netfilter {} packets {} rulesets {} differences",
        tally.packets,
        tally.rulesets,
        tally.differences.len()
    );
    assert!(tally.differences.is_empty(), "{} differences", tally.differences.len());
    // Of a single ruleset that is replayed the shares say nothing.
    if tally.packets < 5000 {
        return;
    }
    assert!(
        tally.unknown() * 50 < tally.packets,
        "too often cannot tell: {:?}",
        tally.cannot_tell
    );
    assert!(
        tally.passing * 1000 < tally.packets,
        "{} differences came and went",
        tally.passing
    );
    assert!(
        tally.refused * 20 < tally.rulesets,
        "{} rulesets refused",
        tally.refused
    );
}

#[test]
fn the_kernel_agrees_on_every_case() {
    if let Some(reason) = lab::obstacle() {
        println!("KNET-SKIP kernel_netfilter_cases: {reason}");
        return;
    }
    // The thread stays in the node's namespace, and ends with it.
    let judged = std::thread::spawn(|| {
        let mut lab = Lab::new(0);
        let mut loaded = Loaded::default();
        let all = cases::all();
        let wrong: Vec<String> = (1..)
            .zip(&all)
            .filter_map(|(number, case)| cases::judge(&mut lab, &mut loaded, number, case).err())
            .collect();
        (all.len(), wrong)
    });
    let (all, wrong) = judged.join().expect("every case was judged");
    println!("KNET-RAN kernel_netfilter_cases {all} cases");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
