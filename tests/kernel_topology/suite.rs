//! One topology: built, captured, used, compared.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use knet_dataplane::choice::{Fork, Unknown};
use knet_dataplane::trace::Trace;
use knet_dataplane::world::World;

use crate::judge::{Verdict, describe, judge, predict};
use crate::lab::Lab;
use crate::netns::{Rng, say};
use crate::plan::Plan;
use crate::traffic::{Flow, Kind, Observed, TCP_PORT, Traffic, UDP_PORT};

/// Flows under way at once in one topology.
const BATCH: usize = 24;

/// How long to wait: a machine that is emulated is slower.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// For an answer.
    pub patience: Duration,
    /// Before a difference counts it is asked for again, with more time.
    pub more: Duration,
}

/// What came of all topologies.
#[derive(Default)]
pub struct Tally {
    pub flows: usize,
    pub topologies: usize,
    pub unknown: usize,
    pub refused: Vec<String>,
    pub differences: Vec<String>,
}

/// Builds a topology, captures it, uses it, and compares.
pub fn run(plan: &Plan, seed: u64, tally: &Mutex<Tally>, pace: Pace) {
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
        exchange(
            &lab,
            plan,
            &traffic,
            &flows[..flows.len().min(BATCH)],
            &ids,
            pace.patience,
        );
    }
    let snapshot = lab.capture(plan);
    let world = World::new(&snapshot);
    let observed = exchange(&lab, plan, &traffic, &flows, &ids, pace.patience);
    let mut unknown = 0;
    let mut differences = Vec::new();
    for (flow, (id, first)) in flows.iter().zip(&observed) {
        let trace = predict(&world, plan, flow, *id);
        if let Some(rule) = undecided(&trace) {
            differences.push(format!("{} {:?}: {flow:?} undecided: {rule}", plan.name, plan.faults));
        }
        let mut verdict = judge(&world, plan, flow, first, &trace);
        let mut seen = first.clone();
        for _ in 0..2 {
            if verdict != Verdict::Differs {
                break;
            }
            // This machine may have been busy.
            let again = exchange(&lab, plan, &traffic, std::slice::from_ref(flow), &ids, pace.more);
            let [(_, again)] = again.as_slice() else { break };
            seen = again.clone();
            verdict = judge(&world, plan, flow, &seen, &trace);
        }
        match verdict {
            Verdict::Agrees => {}
            Verdict::Unknown => {
                unknown += 1;
                if std::env::var_os("KNET_UNKNOWN").is_some() {
                    say(&format!(
                        "  unknown: {} {flow:?}\n{}",
                        plan.name,
                        describe(&world, &trace)
                    ));
                }
            }
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

/// A rule of which the walk does not know whether it matches: topologies have none that are not modelled.
fn undecided(trace: &Trace) -> Option<&str> {
    let paths = trace.branches.iter().flat_map(|b| &b.path);
    paths
        .filter_map(|taken| match &taken.fork {
            Fork::Unknown(Unknown::Match(rule)) => Some(&*rule.text),
            _ => None,
        })
        .next()
}

fn exchange(
    lab: &Lab,
    plan: &Plan,
    traffic: &Traffic,
    flows: &[Flow],
    ids: &AtomicU16,
    patience: Duration,
) -> Vec<(u16, Observed)> {
    let at_once = if plan.forgetful { 1 } else { BATCH };
    let mut all = Vec::new();
    for batch in flows.chunks(at_once) {
        if plan.forgetful {
            lab.forget_neighbours();
        }
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
