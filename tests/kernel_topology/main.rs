//! Small clusters made of real namespaces, real packets in them, and what the walk says of each.
//!
//! Every topology is built from a seed, captured with the collectors, and then used: whoever differs from
//! the kernel is wrong. `KNET_SEED` replays a run, `KNET_ONLY` runs the topologies whose name holds a word,
//! `KNET_VERBOSE` prints the steps of what differs and `KNET_DUMP` keeps the captures.

mod cluster;
mod frames;
mod judge;
mod lab;
#[path = "../support/netns.rs"]
#[allow(dead_code, reason = "shared with tests that run in a namespace of their own")]
mod netns;
mod others;
mod plan;
mod suite;
mod systems;
mod traffic;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use knet_dataplane::world::World;

use judge::describe;
use lab::Lab;
use netns::{Rng, say, shell};
use plan::Plan;
use suite::{Pace, Tally, run};
use traffic::{Flow, Kind, TCP_PORT, Traffic};

const PACE: Pace = Pace {
    patience: Duration::from_millis(300),
    more: Duration::from_millis(900),
};

fn obstacle() -> Option<String> {
    let tools = [
        "ip",
        "bridge",
        "iptables-legacy-restore",
        "nft",
        "ss",
        "sysctl",
        "conntrack",
    ];
    let missing = tools
        .iter()
        .find(|tool| !shell(&format!("command -v {tool}"), "").status.success());
    if let Some(tool) = missing {
        return Some(format!("{tool} is not installed"));
    }
    let probe = format!("kt-probe-{}", std::process::id());
    let made = shell(&format!("ip netns add {probe} && ip netns del {probe}"), "")
        .status
        .success();
    (!made).then(|| "may not create a named network namespace (not root?)".to_owned())
}

#[test]
fn kernel_topology() {
    if let Some(reason) = obstacle() {
        say(&format!("KNET-SKIP kernel_topology: {reason}"));
        return;
    }
    let mut rng = Rng::seeded("kernel_topology");
    let only = std::env::var("KNET_ONLY").unwrap_or_default();
    let many = std::env::var("KNET_MANY")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    let mut plans: Vec<(Plan, u64)> = Vec::new();
    for round in 0..many {
        for plan in plans_of(&mut rng, round) {
            let seed = rng.below(u64::MAX);
            if plan.name.contains(&only) {
                plans.push((plan, seed));
            }
        }
    }
    let next = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some((plan, seed)) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run(plan, *seed, &tally, PACE);
                }
            });
        }
    });
    captured_connection(&mut rng);
    programs(&mut rng);
    let tally = tally.into_inner().expect("no thread panicked");
    for line in tally.refused.iter().chain(&tally.differences) {
        say(line);
    }
    say(&format!(
        "KNET-RAN kernel_topology {} flows {} topologies {} differences ({} unknown)",
        tally.flows,
        tally.topologies,
        tally.differences.len(),
        tally.unknown
    ));
    assert!(tally.refused.is_empty(), "a topology could not be built");
    assert!(tally.differences.is_empty(), "the walk and the kernel differ");
    assert!(tally.unknown * 10 <= tally.flows.max(1), "too much is not known");
}

fn plans_of(rng: &mut Rng, round: usize) -> Vec<Plan> {
    let mut plans = cluster::plans(rng);
    plans.extend(others::plans(rng));
    plans.extend(systems::plans(rng));
    plans.extend(frames::plans(rng));
    for plan in &mut plans {
        plan.name = format!("{}-{round}", plan.name);
    }
    plans
}

/// A connection whose translation was set up by a rule that is gone: it goes on, a new one does not.
fn captured_connection(rng: &mut Rng) {
    let plan = cluster::plans(rng).swap_remove(0);
    let lab = Lab::build(&plan).expect("the plain cluster can be built");
    std::thread::sleep(Duration::from_millis(1200));
    let traffic = Traffic::start(&lab, &plan);
    let flow = Flow {
        // A node: a pod may be its own backend.
        from: plan.clients()[0],
        dst: lab::bare("10.96.0.1"),
        kind: Kind::Tcp,
        dport: TCP_PORT,
        ttl: 64,
        size: 0,
    };
    let id = 30_000;
    let client = flow.clone();
    let mut stream = lab
        .inside(flow.from, move || traffic::connect(&client, id, PACE.more))
        .expect("it connects");
    let greeted = traffic::hear(&mut stream, PACE.more);
    assert!(greeted.is_ok(), "the server greets: {greeted:?}");
    for (i, _) in plan.spaces.iter().enumerate().filter(|(_, s)| s.host) {
        // Not the whole table: without any rule that needs it, conntrack is switched off (nf_ct_netns_put), and
        // with it the translation of connections it still holds.
        lab.inside(i, || lab::run("iptables-legacy", &["-t", "nat", "-F", "SVC"], ""));
    }
    let snapshot = lab.capture(&plan);
    let world = World::new(&snapshot);
    let goes_on = traffic::ask(&mut stream, PACE.more);
    let start = knet_dataplane::walk::Start {
        any_sport: false,
        ..judge::start(&world, &plan, &flow, id)
    };
    let limits = knet_dataplane::walk::Limits::default();
    let trace = knet_dataplane::walk::trace(&world, &start, knet_dataplane::trace::Detail::Decisions, limits);
    let established = trace.established.as_ref().expect("conntrack holds it");
    let replies = |branches: &[knet_dataplane::trace::Branch]| {
        branches
            .iter()
            .all(|b| b.client_sees == knet_dataplane::trace::ClientSees::Reply)
    };
    let later = knet_dataplane::trace::Trace {
        branches: established.branches.clone(),
        ..trace.clone()
    };
    assert!(goes_on.is_ok(), "the kernel keeps the connection: {goes_on:?}");
    assert!(replies(&established.branches), "{}", describe(&world, &later));
    assert!(!replies(&trace.branches), "{}", describe(&world, &trace));
    drop(traffic);
}

/// A program at a pod's device may pass or drop what the pod sends: the walk says that it cannot tell, and both.
fn programs(rng: &mut Rng) {
    use knet_dataplane::trace::{ClientSees, Detail, Outcome, Reason};
    let plan = systems::plans(rng).swap_remove(1);
    let lab = Lab::build(&plan).expect("the cluster can be built");
    std::thread::sleep(Duration::from_millis(1200));
    let traffic = Traffic::start(&lab, &plan);
    let named = |short: &str| plan.spaces.iter().position(|s| s.short == short).expect("it is there");
    let (host, from) = (named("n0"), named("p00"));
    let flow = Flow {
        from,
        dst: plan.spaces[named("p10")].addresses[0],
        kind: Kind::Tcp,
        dport: TCP_PORT,
        ttl: 64,
        size: 0,
    };
    // `ret TC_ACT_OK` and `ret TC_ACT_SHOT`.
    for (id, code, kernel) in [(31_000, 0, ClientSees::Reply), (31_001, 2, ClientSees::Timeout)] {
        let commands = format!(
            "tc qdisc replace dev azv00 clsact && tc filter replace dev azv00 ingress pref 1 handle 1 bpf da bytecode '1,6 0 0 {code}'"
        );
        let (ok, _, err) = lab.inside(host, move || lab::run("sh", &["-c", &commands], ""));
        if !ok {
            say(&format!(
                "KNET-SKIP kernel_topology_programs: no BPF classifier here: {err}"
            ));
            return;
        }
        let snapshot = lab.capture(&plan);
        let world = World::new(&snapshot);
        let seen = traffic
            .send(&lab, &flow, id, PACE.more)
            .join()
            .expect("a client does not panic");
        assert_eq!(seen.sees, kernel, "the kernel runs the program");
        let start = judge::start(&world, &plan, &flow, id);
        let trace = knet_dataplane::walk::trace(
            &world,
            &start,
            Detail::Decisions,
            knet_dataplane::walk::Limits::default(),
        );
        let ends: Vec<_> = trace
            .branches
            .iter()
            .map(|b| (b.client_sees, b.end.outcome, b.end.reason))
            .collect();
        assert_eq!(
            ends,
            [
                (ClientSees::Reply, Outcome::Delivered, Reason::Socket),
                (ClientSees::Unknown, Outcome::Unknown, Reason::Program)
            ],
            "{}",
            describe(&world, &trace)
        );
    }
    say("KNET-RAN kernel_topology_programs 2 programs");
}
