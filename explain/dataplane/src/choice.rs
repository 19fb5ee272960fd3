//! What the kernel decides by chance, and what the snapshot does not say.
//!
//! A walk is straight-line code. Where the kernel would draw a number, or where a fact is missing, it
//! asks the [`Oracle`] which way to go. [`explore`] runs the walk again for every combination of answers,
//! so that no stage has to know about branches.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Zero};

use crate::trace::Evidence;

/// An exact probability.
pub type Ratio = BigRational;

/// `n/d` as an exact probability. A zero denominator counts as certainty, so that input cannot panic.
#[must_use]
pub fn ratio(n: u64, d: u64) -> Ratio {
    if d == 0 {
        Ratio::one()
    } else {
        Ratio::new(BigInt::from(n), BigInt::from(d))
    }
}

/// What kind of choice a fork is.
#[derive(Clone, Debug, PartialEq)]
pub enum Fork {
    /// The kernel draws, hashes or schedules: every option has its exact share.
    Chance(Chance),
    /// The snapshot or the model does not say: every option is possible, none has a known share.
    Unknown(Unknown),
}

/// Where the kernel draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chance {
    /// `-m statistic`, `numgen`.
    Statistic,
    /// `jhash`, `symhash`: even over flows.
    Hash,
    /// Multipath route or nexthop group, by weight.
    Multipath,
    /// NAT to a range of addresses.
    NatRange,
    /// IPVS scheduler.
    Scheduler,
    /// Several neighbours answer; the first wins.
    FirstAnswer,
}

/// What is not known. The evidence says where, in the words of the artifact.
#[derive(Clone, Debug, PartialEq)]
pub enum Unknown {
    /// A match this model cannot decide: did it match? Options: 0 = it did, 1 = it did not.
    Match(Evidence),
    /// A target this model does not know: did the packet go on? Options: 0 = goes on, 1 = ends here.
    Target(Evidence),
    /// A table nobody looked at, or not at all of it: options 0 = what is missing has nothing for this packet,
    /// 1 = it has something, and nobody knows what.
    Table(Arc<str>),
    /// A sysctl nobody captured.
    Sysctl(Arc<str>),
    /// An error limiter's account (`ip_error`, `icmp_ratelimit`): options 0 = told, 1 = silent.
    ErrorLimit(&'static str),
    /// Whether the client still waits after so many seconds: options 0 = it does, 1 = it gave up.
    Patience(u8),
    /// Programs at devices (XDP, tc), the first of them: options 0 = all on the way let the packet pass as it is,
    /// 1 = one of them does something else.
    Program(Evidence),
    /// Whether the owner of an address, who does not answer, has asked something itself and so told its MAC:
    /// options 0 = it has not, 1 = it has.
    Learned(IpAddr),
    /// Whether the session with this peer of WireGuard was still good: options 0 = it was, 1 = it was not.
    Session(Evidence),
    /// Something outside the snapshot decides.
    Outside(&'static str),
}

/// One answer the oracle gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// What was asked.
    pub fork: Fork,
    /// Where the fork stands, for people.
    pub evidence: Option<Evidence>,
    /// The share of each option, for chance.
    pub weights: Option<Vec<Ratio>>,
    /// How many options there were.
    pub options: usize,
    /// Which one this run took.
    pub option: usize,
}

/// Answers the choices of one run of the walk.
#[derive(Debug, Default)]
pub struct Oracle {
    script: Vec<usize>,
    taken: Vec<Taken>,
    remembered: BTreeMap<String, usize>,
    serial: u64,
}

impl Oracle {
    /// A choice by chance. `weights` need not sum to one. Returns the option to take; options of weight
    /// zero are never taken.
    pub fn chance(&mut self, what: Chance, weights: &[Ratio], evidence: Option<Evidence>) -> usize {
        let live: Vec<usize> = (0..weights.len()).filter(|&i| !weights[i].is_zero()).collect();
        if live.len() < 2 {
            return live.first().copied().unwrap_or(0);
        }
        let total: Ratio = live.iter().map(|&i| weights[i].clone()).sum();
        let shares: Vec<Ratio> = live.iter().map(|&i| &weights[i] / &total).collect();
        live[self.ask(Fork::Chance(what), evidence, Some(shares), live.len())]
    }

    /// A question nobody can answer. The same `key` gets the same answer throughout one run.
    pub fn unknown(&mut self, key: impl Into<String>, what: Unknown, options: usize) -> usize {
        let key = key.into();
        if let Some(&known) = self.remembered.get(&key) {
            return known;
        }
        let option = if options < 2 {
            0
        } else {
            self.ask(Fork::Unknown(what), None, None, options)
        };
        self.remembered.insert(key, option);
        option
    }

    /// What this run knows about `key`: an answer given before, or something a stage saw happen.
    #[must_use]
    pub fn recall(&self, key: &str) -> Option<usize> {
        self.remembered.get(key).copied()
    }

    /// Settles the answer to `key` for the rest of this run, because a stage saw the kernel change it.
    pub fn remember(&mut self, key: impl Into<String>, option: usize) {
        self.remembered.insert(key.into(), option);
    }

    /// A number no other call in this run gets: it tells two visits of the same place apart.
    pub const fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// The answers given so far in this run.
    #[must_use]
    pub fn taken(&self) -> &[Taken] {
        &self.taken
    }

    fn ask(&mut self, fork: Fork, evidence: Option<Evidence>, weights: Option<Vec<Ratio>>, options: usize) -> usize {
        let option = self.script.get(self.taken.len()).copied().unwrap_or(0).min(options - 1);
        self.taken.push(Taken {
            fork,
            evidence,
            weights,
            options,
            option,
        });
        option
    }
}

/// One run of the walk and the answers that led to it.
#[derive(Clone, Debug)]
pub struct Leaf<T> {
    /// The answers, in the order they were asked for.
    pub path: Vec<Taken>,
    /// What the run returned.
    pub value: T,
}

/// All runs.
#[derive(Clone, Debug)]
pub struct Explored<T> {
    /// The leaves, in order of the answers.
    pub leaves: Vec<Leaf<T>>,
    /// Stopped at the limit: there are more.
    pub truncated: bool,
}

/// Runs `walk` once for every combination of answers, at most `limit` times.
pub fn explore<T>(limit: usize, mut walk: impl FnMut(&mut Oracle) -> T) -> Explored<T> {
    let mut leaves = Vec::new();
    let mut script = Vec::new();
    loop {
        let mut oracle = Oracle {
            script: std::mem::take(&mut script),
            ..Oracle::default()
        };
        let value = walk(&mut oracle);
        let path = oracle.taken;
        // The next script: the last answer that has an option left, one further.
        let next = path.iter().rposition(|t| t.option + 1 < t.options);
        if let Some(last) = next {
            script = path[..last]
                .iter()
                .map(|t| t.option)
                .chain([path[last].option + 1])
                .collect();
        }
        leaves.push(Leaf { path, value });
        if next.is_none() {
            return Explored {
                leaves,
                truncated: false,
            };
        }
        if leaves.len() >= limit {
            return Explored {
                leaves,
                truncated: true,
            };
        }
    }
}
