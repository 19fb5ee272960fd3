//! Small clusters made of real namespaces, real packets in them, and what the walk says of each.
//!
//! Every topology is built from a seed, captured with the collectors, and then used: whoever differs from
//! the kernel is wrong. `KNET_SEED` replays a run, `KNET_ONLY` runs the topologies whose name holds a word,
//! `KNET_VERBOSE` prints the steps of what differs and `KNET_DUMP` keeps the captures.

mod cluster;
mod judge;
mod lab;
#[path = "../support/netns.rs"]
#[allow(dead_code, reason = "shared with tests that run in a namespace of their own")]
mod netns;
mod others;
mod plan;
mod traffic;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use knet_dataplane::world::World;

use judge::{Verdict, describe, judge, predict};
use lab::Lab;
use netns::{Rng, say, shell};
use plan::Plan;
use traffic::{Flow, Kind, Observed, TCP_PORT, Traffic, UDP_PORT};

const PATIENCE: Duration = Duration::from_millis(300);
/// Before a difference counts it is asked for again, with more time.
const MORE_PATIENCE: Duration = Duration::from_millis(900);
/// Flows under way at once in one topology.
const BATCH: usize = 24;

#[derive(Default)]
struct Tally {
    flows: usize,
    topologies: usize,
    unknown: usize,
    refused: Vec<String>,
    differences: Vec<String>,
}

fn obstacle() -> Option<String> {
    let tools = ["ip", "bridge", "iptables-legacy-restore", "ss", "sysctl", "conntrack"];
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
                    run(plan, *seed, &tally);
                }
            });
        }
    });
    captured_connection(&mut rng);
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
    for plan in &mut plans {
        plan.name = format!("{}-{round}", plan.name);
    }
    plans
}

fn run(plan: &Plan, seed: u64, tally: &Mutex<Tally>) {
    let lab = match Lab::build(plan) {
        Ok(lab) => lab,
        Err(e) => {
            tally
                .lock()
                .expect("nobody panics with it")
                .refused
                .push(format!("{}: {e}", plan.name));
            return;
        }
    };
    let mut rng = Rng::from(seed);
    let flows = flows(plan, &mut rng);
    // Carrier changes reach the routes within a second.
    std::thread::sleep(Duration::from_millis(1200));
    let traffic = Traffic::start(&lab, plan);
    let ids = AtomicU16::new(20_000);
    if plan.warm {
        exchange(&lab, &traffic, &flows[..flows.len().min(BATCH)], &ids, PATIENCE);
    }
    let snapshot = lab.capture(plan);
    let world = World::new(&snapshot);
    let observed = exchange(&lab, &traffic, &flows, &ids, PATIENCE);
    let mut unknown = 0;
    let mut differences = Vec::new();
    for (flow, (id, first)) in flows.iter().zip(&observed) {
        let trace = predict(&world, plan, flow, *id);
        let mut verdict = judge(&world, plan, flow, first, &trace);
        let mut seen = first.clone();
        for _ in 0..2 {
            if verdict != Verdict::Differs {
                break;
            }
            // This machine may have been busy.
            let again = exchange(&lab, &traffic, std::slice::from_ref(flow), &ids, MORE_PATIENCE);
            let [(_, again)] = again.as_slice() else { break };
            seen = again.clone();
            verdict = judge(&world, plan, flow, &seen, &trace);
        }
        match verdict {
            Verdict::Agrees => {}
            Verdict::Unknown => unknown += 1,
            Verdict::Differs => differences.push(format!(
                "{} {:?}: {} {:?}\n    kernel: {first:?}, then {seen:?}\n{}",
                plan.name,
                plan.faults,
                plan.spaces[flow.from].short,
                flow,
                describe(&world, &trace)
            )),
        }
    }
    let mut tally = tally.lock().expect("nobody panics with it");
    tally.flows += flows.len();
    tally.topologies += 1;
    tally.unknown += unknown;
    tally.differences.extend(differences);
}

fn exchange(lab: &Lab, traffic: &Traffic, flows: &[Flow], ids: &AtomicU16, patience: Duration) -> Vec<(u16, Observed)> {
    let mut all = Vec::new();
    for batch in flows.chunks(BATCH) {
        let sent: Vec<_> = batch
            .iter()
            .map(|flow| {
                let id = ids.fetch_add(1, Ordering::Relaxed);
                (id, traffic.send(lab, flow, id, patience))
            })
            .collect();
        let mut batch: Vec<(u16, Observed)> = sent
            .into_iter()
            .map(|(id, thread)| (id, thread.join().expect("a client does not panic")))
            .collect();
        // The listeners may be a moment late.
        std::thread::sleep(Duration::from_millis(60));
        for (id, observed) in &mut batch {
            observed.arrivals = traffic.arrivals(*id);
        }
        all.extend(batch);
    }
    all
}

/// Some of all flows there could be.
fn flows(plan: &Plan, rng: &mut Rng) -> Vec<Flow> {
    let destinations = plan.destinations();
    let clients = plan.clients();
    let mut flows = Vec::new();
    for _ in 0..plan.flows.max(BATCH) {
        let kind = rng.pick(&[Kind::Tcp, Kind::Tcp, Kind::Udp, Kind::Ping]);
        let dport = match kind {
            Kind::Tcp => TCP_PORT + u16::from(rng.one_in(6)),
            Kind::Udp => UDP_PORT + u16::from(rng.one_in(6)),
            Kind::Ping => 0,
        };
        flows.push(Flow {
            from: rng.pick(&clients),
            dst: rng.pick(&destinations),
            kind,
            dport,
            ttl: if rng.one_in(8) {
                u8::try_from(1 + rng.below(4)).expect("small")
            } else {
                64
            },
            size: if kind == Kind::Tcp || plan.sizes.is_empty() {
                0
            } else {
                rng.pick(&plan.sizes)
            },
        });
    }
    flows
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
        .inside(flow.from, move || traffic::connect(&client, id, MORE_PATIENCE))
        .expect("it connects");
    let greeted = traffic::hear(&mut stream, MORE_PATIENCE);
    assert!(greeted.is_ok(), "the server greets: {greeted:?}");
    for (i, _) in plan.spaces.iter().enumerate().filter(|(_, s)| s.host) {
        // Not the whole table: without any rule that needs it, conntrack is switched off (nf_ct_netns_put), and
        // with it the translation of connections it still holds.
        lab.inside(i, || lab::run("iptables-legacy", &["-t", "nat", "-F", "SVC"], ""));
    }
    let snapshot = lab.capture(&plan);
    let world = World::new(&snapshot);
    let goes_on = traffic::ask(&mut stream, MORE_PATIENCE);
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
