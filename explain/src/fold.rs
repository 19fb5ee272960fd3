//! Branches that end alike are one to a person.

use knet_dataplane::choice::{Fork, Ratio, Unknown};
use knet_dataplane::trace::{Branch, ClientSees, Hop, NsId, Outcome, Reason, Reject, Stage};
use num_traits::{One, Zero};

/// Branches that end alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Indexes of the branches, in their order.
    pub members: Vec<usize>,
    /// Their shares together, at least.
    pub at_least: Ratio,
    /// Their shares together, at most.
    pub at_most: Ratio,
    /// What happens when an error is held back, or a client does not wait for it: beside the main case.
    pub alternative: bool,
}

/// An unknown that only decides whether the client hears of a failure: an error limiter, the client's
/// patience. Its first answer is the main case.
const fn is_soft(fork: &Fork) -> bool {
    matches!(fork, Fork::Unknown(Unknown::ErrorLimit(_) | Unknown::Patience(_)))
}

/// The branch is what happens beside the main case.
#[must_use]
pub fn alternative(branch: &Branch) -> bool {
    branch.path.iter().any(|t| is_soft(&t.fork) && t.option > 0)
}

/// The unknowns that a branch depends on, and the answer each has in it.
pub fn conditions(branch: &Branch) -> impl Iterator<Item = (&Unknown, usize)> {
    branch.path.iter().filter_map(|t| match &t.fork {
        Fork::Unknown(unknown) if !is_soft(&t.fork) => Some((unknown, t.option)),
        _ => None,
    })
}

/// A program that is not run saw the packet, or its answer: the branch is what comes of it if the program does
/// nothing to it, or the end at the program.
#[must_use]
pub fn depends_on_program(branch: &Branch) -> bool {
    conditions(branch).any(|(unknown, _)| matches!(unknown, Unknown::Program(_)))
}

/// A branch's share, at least and at most, when alternatives are left aside.
#[must_use]
pub fn share(branch: &Branch) -> (Ratio, Ratio) {
    let least = if conditions(branch).next().is_some() {
        &branch.at_least
    } else {
        &branch.at_most
    };
    (least.clone(), branch.at_most.clone())
}

/// Shares of several branches, at least and at most. Those behind different unknowns may exclude one another: what
/// they have at most can add up to more than everything.
#[must_use]
pub fn together(shares: impl IntoIterator<Item = (Ratio, Ratio)>) -> (Ratio, Ratio) {
    let (least, most) = shares
        .into_iter()
        .fold((Ratio::zero(), Ratio::zero()), |(least, most), (l, m)| {
            (least + l, most + m)
        });
    (least, most.min(Ratio::one()))
}

/// What makes two branches alike: how they end and by which kinds of hops. Addresses, ports and places may
/// differ. A branch that fails is alike only to one that fails by the same rows.
#[derive(PartialEq)]
struct Likeness<'a> {
    outcome: Outcome,
    reason: Reason,
    sees: ClientSees,
    reject: Option<Reject>,
    snat: bool,
    dnat: bool,
    reply: Option<(Outcome, Reason, bool)>,
    request_path: Vec<(Stage, bool)>,
    evidence: &'a [knet_dataplane::trace::Evidence],
    failed_at: Option<Option<NsId>>,
    conditions: Vec<(String, usize)>,
}

impl<'a> Likeness<'a> {
    fn of(branch: &'a Branch) -> Self {
        let fails = branch.end.outcome != Outcome::Delivered;
        let path = |hops: &[Hop]| {
            let home = hops.first().map(|h| h.ns);
            hops.iter().map(|h| (h.stage, Some(h.ns) == home)).collect()
        };
        let conditions = branch
            .path
            .iter()
            .filter(|t| matches!(t.fork, Fork::Unknown(_)))
            .map(|t| (format!("{:?}", t.fork), t.option))
            .collect();
        Self {
            outcome: branch.end.outcome,
            reason: branch.end.reason,
            sees: branch.client_sees,
            reject: branch.reject,
            snat: branch.snat,
            dnat: branch.dnat,
            reply: branch.reply.as_ref().map(|r| (r.end.outcome, r.end.reason, r.fits)),
            request_path: path(&branch.hops),
            evidence: if fails { &branch.end.evidence } else { &[] },
            failed_at: fails.then_some(branch.end.place.ns),
            conditions,
        }
    }
}

/// Folds branches, in order of their first member.
#[must_use]
pub fn groups(branches: &[Branch]) -> Vec<Group> {
    let mut all: Vec<(Likeness<'_>, Group)> = Vec::new();
    for (i, branch) in branches.iter().enumerate() {
        let likeness = Likeness::of(branch);
        match all.iter_mut().find(|(of, _)| *of == likeness) {
            Some((_, group)) => {
                group.members.push(i);
                (group.at_least, group.at_most) =
                    together([(group.at_least.clone(), group.at_most.clone()), share(branch)]);
            }
            None => {
                let (at_least, at_most) = share(branch);
                all.push((
                    likeness,
                    Group {
                        members: vec![i],
                        at_least,
                        at_most,
                        alternative: alternative(branch),
                    },
                ));
            }
        }
    }
    all.into_iter().map(|(_, group)| group).collect()
}

#[cfg(test)]
mod together {
    use super::*;

    #[test]
    fn alternatives_are_never_more_than_everything() {
        let maybe = || (Ratio::zero(), Ratio::one());
        assert_eq!(together([maybe(), maybe()]), (Ratio::zero(), Ratio::one()));
        let third = Ratio::new(1.into(), 3.into());
        let two = together([(third.clone(), third.clone()), (third.clone(), third.clone())]);
        assert_eq!(two.0, two.1);
        assert_eq!(two.0, Ratio::new(2.into(), 3.into()));
    }
}
