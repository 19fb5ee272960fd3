//! The long run: rulesets by number, each with its own seed.

use std::collections::BTreeMap;
use std::time::Instant;

use super::environment;
use super::exchange::{self, Step, Verdict};
use super::flow::{self, Flow, Numbers};
use super::ipsets;
use super::lab::{self, Files, Lab};
use super::nftables;
use super::random::Rng;
use super::report;
use super::rules::{Back, Loaded, Ruleset};
use super::shrink;
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
    pub backends: Vec<String>,
    /// Stop after so many differences.
    pub patience: usize,
    /// No new ruleset is started after so many seconds.
    pub seconds: u64,
}

/// What a run found.
#[derive(Debug, Default)]
pub struct Tally {
    pub packets: usize,
    pub rulesets: usize,
    pub refused: usize,
    pub agreed: usize,
    pub cannot_tell: BTreeMap<String, usize>,
    pub differences: Vec<String>,
    /// Differences that did not come again when the conversation was repeated.
    pub passing: usize,
    pub outcomes: BTreeMap<String, usize>,
    pub by_backend: BTreeMap<String, (usize, usize)>,
}

/// What the kernel and its tools have.
#[derive(Debug)]
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
            loaded.note(&Ruleset {
                parts: vec![super::rules::Part {
                    back,
                    lines: Vec::new(),
                    tables: Vec::new(),
                }],
            });
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
fn ruleset(plan: &Plan, features: &Features, number: u64) -> (String, Ruleset) {
    let mut rng = Rng::of(plan.seed, 1, number);
    let backend = plan.backends[(number % plan.backends.len() as u64) as usize].clone();
    let mut out = Ruleset::default();
    let mut sets = Vec::new();
    if !features.sets.is_empty() && rng.percent(40) {
        let (made, part) = ipsets::random(&mut rng, &features.sets);
        sets = made;
        out.parts.push(part);
    }
    let backs: &[Back] = match backend.as_str() {
        "legacy" => &[Back::Legacy, Back::Legacy6],
        "xtnft" => &[Back::XtNft, Back::XtNft6],
        "both" => &[Back::Legacy, Back::XtNft, Back::XtNft6],
        // Native rules, and native rules beside those of iptables.
        "nft" => &[Back::Nft],
        _ => &[Back::Legacy, Back::XtNft6, Back::Nft],
    };
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
    (backend, out)
}

/// Runs a plan.
pub fn run(lab: &mut Lab, features: &Features, plan: &Plan) -> Tally {
    let mut tally = Tally::default();
    let mut loaded = Loaded::default();
    let mut epoch = u64::MAX;
    let mut numbers = Numbers::new();
    let began = Instant::now();
    let mut told = Instant::now();
    for number in plan.from..plan.from + plan.rulesets {
        if began.elapsed().as_secs() > plan.seconds || tally.differences.len() >= plan.patience {
            break;
        }
        if number / EPOCH != epoch {
            epoch = number / EPOCH;
            loaded.clear();
            lab.enter(&environment::random(&mut Rng::of(plan.seed, 2, epoch)));
        }
        let (backend, rules) = ruleset(plan, features, number);
        loaded.clear();
        loaded.note(&rules);
        if let Err(why) = rules.load() {
            tally.refused += 1;
            if tally.refused <= 10 {
                println!("  ruleset {number} refused: {why}");
            }
            continue;
        }
        lab.forget();
        if number % 8 == 0 {
            lab.listen();
        }
        let files = lab.files(&rules.artifacts());
        let mut rng = Rng::of(plan.seed, 3, number);
        let flows: Vec<Flow> = (0..plan.flows).map(|_| flow::random(&mut rng, &mut numbers)).collect();
        let mut wrong: Vec<(usize, Step)> = Vec::new();
        let before = (tally.packets, tally.agreed);
        exchange::run(lab, &files, &flows, |i, step| {
            tally.packets += 1;
            match &step.verdict {
                Verdict::Agrees => {
                    tally.agreed += 1;
                    *tally.outcomes.entry(report::outcome(&step)).or_default() += 1;
                }
                Verdict::CannotTell(kind) => *tally.cannot_tell.entry(kind.clone()).or_default() += 1,
                Verdict::Differs => wrong.push((i, step)),
            }
        });
        tally.rulesets += 1;
        let sum = tally.by_backend.entry(backend).or_default();
        sum.0 += tally.packets - before.0;
        sum.1 += 1;
        let mut explained = false;
        for (i, step) in wrong {
            // The same conversation alone: what differs again is a difference.
            let again = alone(lab, &files, &flows[i]);
            let Some(again) = again else {
                tally.passing += 1;
                tally.agreed += 1;
                println!(
                    "  ruleset {number}: a difference that did not come again: {}",
                    report::line(&step)
                );
                continue;
            };
            if explained || tally.differences.len() >= plan.patience {
                tally.differences.push(report::line(&again));
                continue;
            }
            explained = true;
            loaded.clear();
            let text = shrink::explain(lab, &mut loaded, &rules, &flows[i], plan.seed, number);
            println!("{text}");
            tally.differences.push(report::line(&again));
            // The ruleset is there again for the rest of its differences.
            loaded.clear();
            loaded.note(&rules);
            rules.load().expect("it was loaded before");
        }
        if told.elapsed().as_secs() >= 30 {
            told = Instant::now();
            println!("  ... ruleset {number}: {}", tally.summary(began));
        }
    }
    loaded.clear();
    println!("{}", tally.summary(began));
    tally
}

/// Repeats a conversation by itself; the step that differs, if one does every time of three.
pub fn alone(lab: &Lab, files: &Files, flow: &Flow) -> Option<Step> {
    let mut last = None;
    for _ in 0..3 {
        lab.forget();
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
