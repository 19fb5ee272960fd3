//! xt_recent.c. The lists are not in a snapshot; what a walk itself adds or removes is remembered.

use super::Here;
use crate::choice::Unknown;
use crate::stage::netfilter::HookCx;
use crate::table::xt::matches::{Match, Recent, RecentOp};
use crate::table::xt::rule::bits;
use crate::trace::Evidence;
use crate::tri::Tri;

const LISTED: usize = 0;
const NOT_LISTED: usize = 1;

/// What `--rcheck` says without asking anybody.
pub(super) fn check(r: &Recent, cx: &HookCx<'_, '_>) -> Tri {
    match cx.oracle.recall(&list_key(r, cx)) {
        // A stamp of this very moment is younger than any `--seconds`.
        Some(LISTED) if r.hitcount <= 1 && !r.ttl => Tri::Yes.xor(r.invert),
        Some(NOT_LISTED) => Tri::No.xor(r.invert),
        // Asked before, of another rule with the same conditions.
        _ => cx
            .oracle
            .recall(&question(r, cx))
            .map_or(Tri::Unknown, |option| Tri::from(option == 0)),
    }
}

/// Asks about an `--rcheck` that is not known yet; true for every other match.
pub(super) fn settled(m: &Match, here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>) -> bool {
    match m {
        Match::Recent(r) if check(r, cx) == Tri::Unknown => ask(r, here.evidence(), cx),
        _ => true,
    }
}

/// Runs `--set`, `--update` or `--remove` and says whether it matched.
pub(super) fn run(r: &Recent, here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>) -> bool {
    let key = list_key(r, cx);
    if r.op == RecentOp::Set {
        // An address that is not listed is added; either way `ret = !ret`.
        cx.oracle.remember(key, LISTED);
        return !r.invert;
    }
    let matched = match check(r, cx) {
        Tri::Yes => true,
        Tri::No => false,
        Tri::Unknown => ask(r, here.evidence(), cx),
    };
    match r.op {
        RecentOp::Update if matched => cx.oracle.remember(key, LISTED),
        RecentOp::Remove => cx.oracle.remember(key, NOT_LISTED),
        _ => {}
    }
    matched
}

/// Asks, so that the answer holds for every rule with the same conditions in this run.
fn ask(r: &Recent, evidence: Evidence, cx: &mut HookCx<'_, '_>) -> bool {
    cx.oracle.unknown(question(r, cx), Unknown::Match(evidence), 2) == 0
}

fn list_key(r: &Recent, cx: &HookCx<'_, '_>) -> String {
    let addr = if r.dest { cx.skb.packet.dst } else { cx.skb.packet.src };
    let family = cx.skb.packet.family();
    format!("recent {} {family:?} {} {:x}", cx.ns.id.0, r.name, bits(addr) & r.mask)
}

fn question(r: &Recent, cx: &HookCx<'_, '_>) -> String {
    // Removing matches an entry of any age.
    let (seconds, hits) = if r.op == RecentOp::Remove {
        (0, 0)
    } else {
        (r.seconds, r.hitcount)
    };
    let invert = if r.invert { "!" } else { "" };
    format!("{} {invert}{seconds} {hits} {}", list_key(r, cx), r.ttl)
}
