//! From the runs of a walk to its branches: shares, and unknowns that make no difference.

use num_traits::{One, Zero};

use crate::choice::{Fork, Leaf, Ratio, Taken};
use crate::trace::{Branch, Reply};

/// Branches with their shares. An unknown whose every answer leads to the same results is no branch: its
/// first answer stands for all.
pub(super) fn branches(leaves: Vec<Leaf<Branch>>) -> Vec<Branch> {
    let leaves: Vec<Branch> = leaves
        .into_iter()
        .map(|l| Branch {
            path: l.path,
            ..l.value
        })
        .collect();
    let mut out = settle(leaves, 0);
    for branch in &mut out {
        let share = branch.path.iter().fold(Ratio::one(), |acc, t| match &t.weights {
            Some(weights) => acc * &weights[t.option],
            None => acc,
        });
        let depends = branch.path.iter().any(|t| matches!(t.fork, Fork::Unknown(_)));
        branch.at_least = if depends { Ratio::zero() } else { share.clone() };
        branch.at_most = share;
    }
    out
}

/// Settles the fork at `depth` of runs that share everything before it.
fn settle(runs: Vec<Branch>, depth: usize) -> Vec<Branch> {
    let Some(fork) = runs.first().and_then(|b| b.path.get(depth)).cloned() else {
        return runs;
    };
    let mut options: Vec<Vec<Branch>> = (0..fork.options).map(|_| Vec::new()).collect();
    for run in runs {
        let option = run.path.get(depth).map_or(0, |t| t.option);
        if let Some(same) = options.get_mut(option) {
            same.push(run);
        }
    }
    let mut settled: Vec<Vec<Branch>> = options.into_iter().map(|same| settle(same, depth + 1)).collect();
    let unknown = matches!(fork.fork, Fork::Unknown(_));
    let complete = settled.iter().all(|o| !o.is_empty());
    if unknown && complete && settled.windows(2).all(|w| same_results(&w[0], &w[1], depth + 1)) {
        let mut kept = std::mem::take(&mut settled[0]);
        for branch in &mut kept {
            branch.path.remove(depth);
        }
        return kept;
    }
    settled.into_iter().flatten().collect()
}

/// Two sets of runs end alike, with the same shares from `depth` on.
fn same_results(a: &[Branch], b: &[Branch], depth: usize) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(x, y)| {
            x.end.outcome == y.end.outcome
                && x.end.reason == y.end.reason
                && x.end.place == y.end.place
                && x.end.packet == y.end.packet
                && x.client_sees == y.client_sees
                && x.reject == y.reject
                && x.snat == y.snat
                && x.dnat == y.dnat
                && same_answer(x.reply.as_ref(), y.reply.as_ref())
                && shares(&x.path, depth) == shares(&y.path, depth)
        })
}

fn same_answer(a: Option<&Reply>, b: Option<&Reply>) -> bool {
    let ends = |r: &Reply| (r.end.outcome, r.end.reason, r.end.place, r.fits);
    a.map(ends) == b.map(ends) && a.map(|r| &r.end.packet) == b.map(|r| &r.end.packet)
}

fn shares(path: &[Taken], depth: usize) -> Vec<(Option<&Ratio>, usize)> {
    path.iter()
        .skip(depth)
        .map(|t| (t.weights.as_ref().and_then(|w| w.get(t.option)), t.option))
        .collect()
}
