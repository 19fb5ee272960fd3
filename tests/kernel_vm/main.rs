//! IPVS and tunnels inside Debian's own kernel: clusters made of namespaces in a virtual machine, real packets in
//! them, and what the walk says of each.
//!
//! One machine is started for the whole suite. This binary runs in it as well, on this machine's files. `KNET_SEED`
//! replays a run, `KNET_ONLY` runs the topologies whose name holds a word, `KNET_VERBOSE` shows the console.

mod boot;
#[path = "../kernel_topology/judge.rs"]
mod judge;
#[path = "../kernel_topology/lab.rs"]
mod lab;
#[path = "../support/netns.rs"]
#[allow(dead_code, reason = "shared with tests that run in a namespace of their own")]
mod netns;
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
/// For everything, the boot included.
const TIME: Duration = Duration::from_secs(330);

#[test]
fn kernel_vm() {
    if std::env::var_os(GUEST).is_some() {
        return guest();
    }
    let tools = [
        "ip",
        "bridge",
        "ipvsadm",
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
    let pass = |key: &str| std::env::var(key).map_or_else(|_| String::new(), |v| format!("{key}={v} "));
    let command = format!(
        "{GUEST}=1 {}{}{} --exact kernel_vm --nocapture --test-threads=1",
        pass("KNET_SEED"),
        pass("KNET_ONLY"),
        exe.display()
    );
    let (lines, code) = match boot::run(&command, TIME) {
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

fn guest() {
    let mut rng = Rng::seeded("kernel_vm");
    let only = std::env::var("KNET_ONLY").unwrap_or_default();
    let tally = Mutex::new(Tally::default());
    for plan in plans::all(&mut rng) {
        let seed = rng.below(u64::MAX);
        if plan.name.contains(&only) {
            let began = Instant::now();
            suite::run(&plan, seed, &tally, PACE);
            let sum = tally.lock().expect("nobody panics with it");
            let (flows, wrong, took) = (sum.flows, sum.differences.len(), began.elapsed().as_secs_f32());
            say(&format!(
                "  {}: {took:.1} s, so far {flows} flows, {wrong} differences",
                plan.name
            ));
        }
    }
    let tally = tally.into_inner().expect("no thread panicked");
    for line in tally.refused.iter().chain(&tally.differences) {
        say(line);
    }
    say(&format!(
        "KNET-RAN kernel_vm {} flows {} topologies {} differences ({} unknown)",
        tally.flows,
        tally.topologies,
        tally.differences.len(),
        tally.unknown
    ));
    assert!(tally.refused.is_empty(), "a topology could not be built");
    assert!(tally.differences.is_empty(), "the walk and the kernel differ");
    assert!(tally.unknown * 10 <= tally.flows.max(1), "too much is not known");
}
