//! The long run: rulesets by number, each with its own seed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::clock::{self, timed};
use super::environment::{self, Environment};
use super::exchange::{self, Step, Verdict};
use super::flow::{self, Flow, Numbers};
use super::ipsets;
use super::ipvs::{self, Services};
use super::lab::{self, Files, Lab};
use super::nftables;
use super::random::Rng;
use super::report;
use super::rules::{Back, Loaded, Ruleset};
use super::shrink::{self, Found};
use super::sys;
use super::xtables::{self, Kit, PROBES};

/// So many rulesets share an epoch: sysctls, routes and policy rules.
const EPOCH: u64 = 25;

/// What a run is asked to do.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// Number of the first ruleset.
    pub from: u64,
    pub rulesets: u64,
    /// Conversations for each.
    pub flows: usize,
    /// Virtual services of IPVS with rules beside them, and packets to them.
    pub ipvs: bool,
    pub backends: Vec<String>,
    /// Stop after so many differences.
    pub patience: usize,
    /// No new ruleset is started after so many seconds.
    pub seconds: u64,
    /// How often a difference is tried with less around it.
    pub tries: usize,
    /// So many laboratories work side by side, each with namespaces of its own.
    pub workers: u64,
}

/// Differences of all laboratories together.
static DIFFERENCES: AtomicUsize = AtomicUsize::new(0);

/// What a run found.
#[derive(Debug, Default)]
pub struct Tally {
    pub packets: usize,
    pub rulesets: usize,
    pub refused: usize,
    pub agreed: usize,
    /// ... where the walk leaves it to the scheduler of IPVS which of several real servers it is.
    pub scheduled: usize,
    pub cannot_tell: BTreeMap<String, usize>,
    pub differences: Vec<String>,
    /// Differences that did not come again when the conversation was repeated.
    pub passing: usize,
    pub outcomes: BTreeMap<String, usize>,
    pub by_backend: BTreeMap<String, (usize, usize)>,
}

/// What the kernel and its tools have.
#[derive(Clone, Debug, Default)]
pub struct Features {
    pub refused: BTreeMap<Back, Vec<String>>,
    pub sets: Vec<usize>,
}

impl Features {
    /// Tries everything once.
    pub fn probe() -> Self {
        let mut refused = BTreeMap::new();
        let mut loaded = Loaded::default();
        let tools = [
            (Back::Legacy, "iptables-legacy-restore"),
            (Back::Legacy6, "ip6tables-legacy-restore"),
            (Back::XtNft, "iptables-nft-restore"),
            (Back::XtNft6, "ip6tables-nft-restore"),
        ];
        for (back, tool) in tools {
            let missing: Vec<String> = PROBES
                .iter()
                .filter(|p| !lab::run(&[tool], &xtables::probe(back, **p)).status.success())
                .map(|p| p.0.to_owned())
                .collect();
            println!("  {back:?}: not here: {missing:?}");
            refused.insert(back, missing);
            loaded.note(back);
        }
        loaded.clear();
        let sets = ipsets::available(|line| {
            let made = lab::run(&["ipset", "restore"], &format!("{line}\n")).status.success();
            lab::run(&["ipset", "destroy"], "");
            made
        });
        Self { refused, sets }
    }
}

/// Makes a ruleset by its number.
fn ruleset(plan: &Plan, features: &Features, number: u64) -> (String, Ruleset, Services) {
    let mut rng = Rng::of(plan.seed, 1, number);
    if plan.ipvs {
        let (services, parts) = ipvs::random(&mut rng);
        return ("ipvs".to_owned(), Ruleset { parts }, services);
    }
    let backend = plan.backends[(number % plan.backends.len() as u64) as usize].clone();
    let mut out = Ruleset::default();
    let mut sets = Vec::new();
    let backs: &[Back] = match backend.as_str() {
        "legacy" => &[Back::Legacy, Back::Legacy6],
        "xtnft" => &[Back::XtNft, Back::XtNft6],
        "both" => &[Back::Legacy, Back::XtNft, Back::XtNft6],
        // Native rules, and native rules beside those of iptables.
        "nft" => &[Back::Nft],
        _ => &[Back::Legacy, Back::XtNft6, Back::Nft],
    };
    // Rules of nftables know nothing of ipsets.
    if !features.sets.is_empty() && rng.percent(40) && backend != "nft" {
        let (made, part) = ipsets::random(&mut rng, &features.sets);
        sets = made;
        out.parts.push(part);
    }
    for &back in backs {
        if back == Back::Nft {
            out.parts.push(nftables::random(&mut rng));
            continue;
        }
        let kit = Kit {
            sets: &sets,
            refused: &features.refused[&back],
            back,
        };
        out.parts.push(xtables::random(&mut rng, kit));
    }
    (backend, out, Services::default())
}

/// Runs a plan in as many laboratories as it asks for. Which of them has a ruleset makes no difference.
pub fn run(plan: &Plan) -> Tally {
    let features = if plan.ipvs {
        // Nothing of what a kernel may lack is drawn.
        Features::default()
    } else {
        let probed = std::thread::spawn(|| {
            sys::new_netns().expect("a namespace");
            Features::probe()
        });
        probed.join().expect("everything can be tried")
    };
    let workers = plan.workers.max(1);
    std::thread::scope(|scope| {
        let features = &features;
        let all: Vec<_> = (0..workers)
            .map(|n| scope.spawn(move || work(n, workers, features, plan)))
            .collect();
        all.into_iter().fold(Tally::default(), |mut sum, worker| {
            sum.add(worker.join().expect("the judge ran to its end"));
            sum
        })
    })
}

/// One laboratory's share: every so manieth epoch. The thread stays in the node's namespace, and ends with it.
fn work(worker: u64, workers: u64, features: &Features, plan: &Plan) -> Tally {
    let mut lab = Lab::new(usize::try_from(worker).unwrap_or(0));
    let mut tally = Tally::default();
    let mut loaded = Loaded::default();
    let mut epoch = u64::MAX;
    lab.services = plan.ipvs;
    let mut env = environment_of(plan, epoch);
    let began = Instant::now();
    let mut told = Instant::now();
    let mine = (plan.from..plan.from + plan.rulesets).filter(|n| (n / EPOCH) % workers == worker);
    for number in mine {
        if began.elapsed().as_secs() > plan.seconds || DIFFERENCES.load(Ordering::Relaxed) >= plan.patience {
            break;
        }
        if number / EPOCH != epoch {
            epoch = number / EPOCH;
            timed("clear", || loaded.clear());
            env = environment_of(plan, epoch);
            timed("epoch", || lab.enter(&env));
        }
        one((&mut lab, &mut loaded), features, plan, (number, &env), &mut tally);
        if told.elapsed().as_secs() >= 30 {
            told = Instant::now();
            println!("  ... worker {worker} ruleset {number}: {}", tally.summary(began));
        }
    }
    loaded.clear();
    println!("  worker {worker}: {}", tally.summary(began));
    println!("  worker {worker}: {}", clock::spent());
    tally
}

fn environment_of(plan: &Plan, epoch: u64) -> Environment {
    let mut rng = Rng::of(plan.seed, 2, epoch);
    match plan.ipvs {
        true => ipvs::environment(&mut rng),
        false => environment::random(&mut rng),
    }
}

/// Loads a ruleset, and has its conversations.
fn one(
    (lab, loaded): (&mut Lab, &mut Loaded),
    features: &Features,
    plan: &Plan,
    (number, env): (u64, &Environment),
    tally: &mut Tally,
) {
    let (backend, rules, services) = ruleset(plan, features, number);
    if let Err(why) = timed("load", || loaded.replace(&rules)) {
        tally.refused += 1;
        if tally.refused <= 10 {
            println!("  ruleset {number} refused: {why}");
        }
        return;
    }
    lab.forget();
    if number % 8 == 0 {
        lab.listen();
    }
    let files = timed("capture", || lab.files(&rules.artifacts()));
    let mut rng = Rng::of(plan.seed, 3, number);
    let mut numbers = Numbers::of(number, plan.flows);
    let flows: Vec<Flow> = (0..plan.flows)
        .map(|_| match plan.ipvs {
            true => ipvs::flow(&mut rng, &mut numbers, &services),
            false => flow::random(&mut rng, &mut numbers),
        })
        .collect();
    let mut wrong: Vec<(usize, Step)> = Vec::new();
    let before = tally.packets;
    exchange::run(lab, &files, &flows, |i, step| {
        tally.packets += 1;
        match &step.verdict {
            Verdict::Agrees => {
                tally.agreed += 1;
                tally.scheduled += usize::from(step.prediction.scheduled);
                *tally.outcomes.entry(report::outcome(&step)).or_default() += 1;
            }
            Verdict::CannotTell(kind) => *tally.cannot_tell.entry(kind.clone()).or_default() += 1,
            Verdict::Differs => wrong.push((i, step)),
        }
    });
    tally.rulesets += 1;
    let sum = tally.by_backend.entry(backend).or_default();
    sum.0 += tally.packets - before;
    sum.1 += 1;
    let mut explained = false;
    for (i, step) in wrong {
        // The same conversation alone: what differs again is a difference.
        if plan.ipvs {
            println!("  ruleset {number}: {}", report::line(&step));
        }
        let Some(again) = alone(lab, &files, &flows[i]) else {
            tally.passing += 1;
            tally.agreed += 1;
            println!(
                "  ruleset {number}: a difference that did not come again: {}",
                report::line(&step)
            );
            continue;
        };
        tally.differences.push(report::line(&again));
        if explained || DIFFERENCES.fetch_add(1, Ordering::Relaxed) >= plan.patience {
            continue;
        }
        explained = true;
        let found = Found {
            rules: &rules,
            env,
            flow: &flows[i],
        };
        println!(
            "{}",
            shrink::explain(lab, loaded, &found, (plan.seed, number), plan.tries)
        );
        lab.enter(env);
        // The ruleset is there again for the rest of its differences.
        loaded.replace(&rules).expect("it was loaded before");
    }
}

/// Repeats a conversation by itself; the step that differs, if one does every time of three.
pub fn alone(lab: &mut Lab, files: &Files, flow: &Flow) -> Option<Step> {
    let mut last = None;
    for _ in 0..3 {
        let flow = &flow.renewed();
        lab.forget();
        lab.listen();
        lab.collect(2);
        let mut differs = None;
        exchange::run(lab, files, std::slice::from_ref(flow), |_, step| {
            if step.verdict == Verdict::Differs && differs.is_none() {
                differs = Some(step);
            }
        });
        last = Some(differs?);
    }
    last
}

impl Tally {
    fn add(&mut self, other: Self) {
        let Self {
            packets,
            rulesets,
            refused,
            agreed,
            scheduled,
            cannot_tell,
            differences,
            passing,
            outcomes,
            by_backend,
        } = other;
        self.packets += packets;
        self.rulesets += rulesets;
        self.refused += refused;
        self.agreed += agreed;
        self.scheduled += scheduled;
        self.passing += passing;
        self.differences.extend(differences);
        for (what, n) in cannot_tell {
            *self.cannot_tell.entry(what).or_default() += n;
        }
        for (what, n) in outcomes {
            *self.outcomes.entry(what).or_default() += n;
        }
        for (what, (packets, rulesets)) in by_backend {
            let sum = self.by_backend.entry(what).or_default();
            sum.0 += packets;
            sum.1 += rulesets;
        }
    }

    pub fn unknown(&self) -> usize {
        self.cannot_tell.values().sum()
    }

    pub fn summary(&self, began: Instant) -> String {
        let seconds = began.elapsed().as_secs_f64();
        format!(
            "{} packets, {} rulesets ({} refused), {} agree, {} cannot tell ({:.2} %), {} differ, {} passing; {:.0} s, {:.0} packets/s, {:.1} rulesets/s",
            self.packets,
            self.rulesets,
            self.refused,
            self.agreed,
            self.unknown(),
            100.0 * self.unknown() as f64 / self.packets.max(1) as f64,
            self.differences.len(),
            self.passing,
            seconds,
            self.packets as f64 / seconds,
            self.rulesets as f64 / seconds
        )
    }
}
