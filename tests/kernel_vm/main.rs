//! IPVS and tunnels inside Debian's own kernel, which has what a container's kernel rarely has: namespaces in a virtual
//! machine, captured with the collectors, real packets in them, and what the walk says of each.
//!
//! One machine is started for the whole suite, emulated, in about ten seconds. This binary runs in it as well, on this
//! machine's files. It has three parts (`KNET_VM_PARTS`, separated by commas):
//! - `topologies`: clusters joined by each kind of tunnel or with virtual services; the programs of
//!   `tests/kernel_topology`. `KNET_SEED`, `KNET_ONLY` (words of names), `KNET_UNKNOWN` (what the walk cannot tell).
//! - `formats`: our reader of IPVS beside `ipvsadm -S -n` and `/proc/net/ip_vs`.
//! - `services`: random virtual services with rules beside them, and packets to them; the programs of `tests/judge`.
//!   `KNET_VM_SEED` and `KNET_VM_FROM` replay a configuration, `KNET_VM_CONFIGS` and `KNET_VM_SECONDS` say how many.
//!
//! The long run: `KNET_VM_PARTS=services KNET_VM_SEED=2 KNET_VM_CONFIGS=5000 KNET_VM_SECONDS=3600 cargo test --test
//! kernel_vm -- --nocapture`. `KNET_VERBOSE` shows the console as it is written.

mod boot;
mod formats;
#[path = "../kernel_topology/frames.rs"]
#[allow(dead_code, reason = "shared")]
mod frames;
#[path = "../kernel_topology/judge.rs"]
mod judge;
mod kube_router;
#[path = "../kernel_topology/lab.rs"]
mod lab;
#[path = "../support/netns.rs"]
#[allow(dead_code, reason = "shared with tests that run in a namespace of their own")]
mod netns;
#[path = "../judge/mod.rs"]
#[allow(dead_code, reason = "shared with the judge of netfilter")]
mod packets;
#[path = "../kernel_topology/plan.rs"]
#[allow(dead_code, reason = "shared")]
mod plan;
mod plans;
#[path = "../kernel_topology/suite.rs"]
mod suite;
#[path = "../kernel_topology/traffic.rs"]
#[allow(dead_code, reason = "shared")]
mod traffic;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use netns::{Rng, say, shell};
use suite::{Pace, Tally};

/// Set inside.
const GUEST: &str = "KNET_VM_GUEST";
/// An emulated machine is slow.
const PACE: Pace = Pace {
    patience: Duration::from_millis(900),
    more: Duration::from_millis(990),
};
/// For everything, the boot included; more for a long run.
const TIME: u64 = 450;
/// Configurations of virtual services that are drawn, and seconds after which no new one is begun.
const CONFIGS: u64 = 100;
const SECONDS: u64 = 90;
/// Seconds after which no new topology is begun.
const TOPOLOGY_SECONDS: u64 = 180;
/// Seconds for everything inside, by which the last part is begun and ended; a longer run of services is not cut.
const INSIDE: u64 = 320;
/// What the machine hears of this one's environment.
const PASSED: &[&str] = &[
    "KNET_SEED",
    "KNET_ONLY",
    "KNET_VM_SEED",
    "KNET_VM_FROM",
    "KNET_VM_CONFIGS",
    "KNET_VM_SECONDS",
    "KNET_VM_PATIENCE",
    "KNET_VM_TRIES",
    "KNET_UNKNOWN",
    "KNET_VM_PARTS",
    "KNET_VM_TOPOLOGY_SECONDS",
];

#[test]
fn kernel_vm() {
    if std::env::var_os(GUEST).is_some() {
        return guest();
    }
    let tools = [
        "ip",
        "bridge",
        "ipvsadm",
        "ipset",
        "nft",
        "wg",
        "iptables-legacy-restore",
        "ss",
        "sysctl",
        "conntrack",
    ];
    let no_tool = tools
        .into_iter()
        .find(|tool| !shell(&format!("command -v {tool}"), "").status.success());
    if let Some(program) = boot::missing().or(no_tool) {
        say(&format!("KNET-SKIP kernel_vm: {program} is not installed"));
        return;
    }
    let exe = std::env::current_exe().expect("a test knows its own file");
    let (Some(suite), Some(name)) = (exe.parent(), exe.file_name()) else {
        panic!("{}: no file in a folder", exe.display());
    };
    let pass = |key: &str| std::env::var(key).map_or_else(|_| String::new(), |v| format!("{key}={v} "));
    let passed: String = PASSED.iter().map(|key| pass(key)).collect();
    let command = format!(
        "{GUEST}=1 {passed}{}/{} --exact kernel_vm --nocapture --test-threads=1",
        boot::SUITE,
        name.display()
    );
    let time = Duration::from_secs(TIME - SECONDS + number("KNET_VM_SECONDS", SECONDS));
    let (lines, code) = match boot::run(&command, suite, time) {
        Ok(ran) => ran,
        Err(reason) => {
            say(&format!("KNET-SKIP kernel_vm: {reason}"));
            return;
        }
    };
    if !lines.iter().any(|l| l.starts_with("VM-UP")) {
        // No nested machine here: the console says why.
        say(&format!(
            "KNET-SKIP kernel_vm: the machine did not start: {:?}",
            lines.last()
        ));
        return;
    }
    for line in &lines {
        say(line);
    }
    assert_eq!(code, Some(0), "the suite failed inside, or ran out of time");
    assert!(lines.iter().any(|l| l.starts_with("KNET-RAN kernel_vm")), "nothing ran");
}

fn number(key: &str, default: u64) -> u64 {
    std::env::var(key).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Which part of the suite runs in the machine.
fn wanted(part: &str) -> bool {
    std::env::var("KNET_VM_PARTS").map_or(true, |parts| parts.split(',').any(|p| p == part))
}

fn guest() {
    let began = Instant::now();
    let mut failed = Vec::new();
    if wanted("topologies") {
        failed.extend(topologies());
    }
    if wanted("formats") {
        failed.extend(formats::compare());
        failed.extend(formats::wireguard());
    }
    if wanted("services") {
        // A crowded machine has taken its time for what came before.
        let left = INSIDE.saturating_sub(began.elapsed().as_secs()).clamp(15, SECONDS);
        failed.extend(services(number("KNET_VM_SECONDS", left)));
    }
    assert!(failed.is_empty(), "{failed:?}");
}

/// Random virtual services, and packets to them.
fn services(seconds: u64) -> Option<String> {
    let plan = packets::run::Plan {
        seed: number("KNET_VM_SEED", 1),
        from: number("KNET_VM_FROM", 0),
        rulesets: number("KNET_VM_CONFIGS", CONFIGS),
        flows: 24,
        ipvs: true,
        backends: Vec::new(),
        patience: number("KNET_VM_PATIENCE", 3) as usize,
        seconds,
        tries: number("KNET_VM_TRIES", 40) as usize,
        workers: 2,
    };
    say(&format!("kernel_vm: KNET_VM_SEED={} {plan:?}", plan.seed));
    let tally = packets::run::run(&plan);
    for (what, count) in &tally.outcomes {
        say(&format!("  outcome {what}: {count}"));
    }
    for (what, count) in &tally.cannot_tell {
        say(&format!("  cannot tell, {what}: {count}"));
    }
    say(&format!(
        "KNET-RAN kernel_vm_services {} packets {} configurations {} differences ({} cannot tell, {} of several servers)",
        tally.packets,
        tally.rulesets,
        tally.differences.len(),
        tally.unknown(),
        tally.scheduled
    ));
    let packets = tally.packets;
    if !tally.differences.is_empty() {
        return Some(format!("{} differences", tally.differences.len()));
    }
    // Of a single configuration that is replayed the shares say nothing.
    if packets >= 1000
        && (tally.unknown() * 8 > packets || tally.refused * 20 > tally.rulesets || tally.passing * 200 > packets)
    {
        return Some(format!(
            "too much is not known, refused or passing: {:?}",
            tally.cannot_tell
        ));
    }
    (packets == 0).then(|| "no packet was sent".to_owned())
}

fn topologies() -> Option<String> {
    let mut rng = Rng::seeded("kernel_vm");
    let only = std::env::var("KNET_ONLY").unwrap_or_default();
    let tally = Mutex::new(Tally::default());
    let mut plans: Vec<(plan::Plan, u64)> = Vec::new();
    for plan in plans::all(&mut rng) {
        let seed = rng.below(u64::MAX);
        if only.split(',').any(|word| plan.name.contains(word)) {
            plans.push((plan, seed));
        }
    }
    let (next, began) = (AtomicUsize::new(0), Instant::now());
    let (wrong, left) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let limit = Duration::from_secs(number("KNET_VM_TOPOLOGY_SECONDS", TOPOLOGY_SECONDS));
    std::thread::scope(|scope| {
        // Most of the time is spent waiting.
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((plan, seed)) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if began.elapsed() > limit {
                        left.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    suite::run(plan, *seed, &tally, PACE);
                    let mut sum = tally.lock().expect("nobody panics with it");
                    // Told at once: the machine may be stopped before the end.
                    let mut told = std::mem::take(&mut sum.refused);
                    told.append(&mut sum.differences);
                    for line in told {
                        wrong.fetch_add(1, Ordering::Relaxed);
                        say(&line);
                    }
                    say(&format!(
                        "  {} {:?} after {:.0} s: so far {} flows, {} unknown",
                        plan.name,
                        plan.faults,
                        began.elapsed().as_secs_f32(),
                        sum.flows,
                        sum.unknown
                    ));
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no thread panicked");
    let (wrong, left) = (wrong.into_inner(), left.into_inner());
    say(&format!(
        "KNET-RAN kernel_vm {} flows {} topologies {wrong} differences ({} unknown; {left} topologies not begun in time)",
        tally.flows, tally.topologies, tally.unknown
    ));
    if wrong > 0 {
        return Some(format!("{wrong} topologies refused, or flows that differ"));
    }
    (tally.unknown * 10 > tally.flows.max(1)).then(|| "too much is not known".to_owned())
}
