//! What a matching rule does.

use crate::choice::Unknown;
use crate::skb::Ct;
use crate::stage::netfilter::{HookCx, Verdict};
use crate::table::xt::rule::ChainRef;
use crate::table::xt::target::{Connmark, CtTarget, Target, TtlChange};
use crate::trace::{Evidence, Field, RuleVerdict, Step, What};

use super::{Here, lookup, nat};

/// Where the packet goes after a rule.
pub(super) enum Act {
    /// To the next rule.
    Continue,
    /// Out of the base chain.
    End(Verdict),
    /// Back to the caller.
    Return,
    /// Into another chain; `back` says whether it comes back here.
    Enter {
        /// The chain.
        chain: ChainRef,
        /// A jump, not a goto.
        back: bool,
    },
}

/// Records the rule and does what its target says. `more` is further evidence of its matches.
pub(super) fn act(here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>, more: Vec<Evidence>) -> Act {
    let target = &here.rule.target;
    let (verdict, act) = match target {
        Target::Accept => (RuleVerdict::Accept, Act::End(Verdict::Accept)),
        Target::Drop => (RuleVerdict::Drop, Act::End(Verdict::Drop { policy: false })),
        Target::Return => (RuleVerdict::Return, Act::Return),
        Target::Jump(to) => (
            RuleVerdict::Jump(to.name.clone()),
            Act::Enter {
                chain: to.clone(),
                back: true,
            },
        ),
        Target::Goto(to) => (
            RuleVerdict::Goto(to.name.clone()),
            Act::Enter {
                chain: to.clone(),
                back: false,
            },
        ),
        Target::Reject(kind) => (RuleVerdict::Reject(*kind), Act::End(Verdict::Reject(*kind))),
        Target::Queue { bypass } => queue(*bypass, here, cx),
        Target::Tproxy { .. } => return nat::tproxy(here, cx, more),
        Target::Dnat(_) | Target::Snat(_) | Target::Masquerade(_) | Target::Redirect(_) | Target::Netmap(_) => {
            return nat::nat(here, cx, more);
        }
        Target::Unknown(_) => unknown(here, cx),
        _ => (RuleVerdict::Continue, Act::Continue),
    };
    cx.sink.step(|| here.step(Some(verdict), more));
    if matches!(act, Act::Continue) && !change(here, cx) {
        return Act::End(Verdict::Unknown);
    }
    act
}

/// A target this model does not know: the packet goes on as it is, or something happens to it.
fn unknown(here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>) -> (RuleVerdict, Act) {
    let goes_on = cx
        .oracle
        .unknown(here.key("target"), Unknown::Target(here.evidence()), 2)
        == 0;
    (
        RuleVerdict::Unknown,
        if goes_on {
            Act::Continue
        } else {
            Act::End(Verdict::Unknown)
        },
    )
}

/// `--queue-bypass`: without a program listening the packet is accepted. Who listens is not captured.
fn queue(bypass: bool, here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>) -> (RuleVerdict, Act) {
    if bypass
        && cx
            .oracle
            .unknown(here.key("queue"), Unknown::Outside("a program on the queue"), 2)
            == 1
    {
        return (RuleVerdict::Accept, Act::End(Verdict::Accept));
    }
    (RuleVerdict::Queue, Act::End(Verdict::Queue))
}

/// The targets that change something and go on. False when the result cannot be known.
fn change(here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>) -> bool {
    match &here.rule.target {
        Target::Mark { value, mask } => set_mark(here, cx, (cx.skb.mark & !mask) ^ value),
        Target::Connmark(m) => return connmark(*m, here, cx),
        // xt_CT.c: "Previously seen (loopback)? Ignore." A template counts as seen.
        Target::Ct(CtTarget::Notrack) if cx.skb.ct == Ct::None && !cx.skb.template => {
            cx.skb.ct = Ct::Untracked;
            rewrite(here, cx, Field::Untracked);
        }
        Target::Ct(CtTarget::Template {
            zone,
            zone_from_mark,
            one_way,
        }) => {
            return template(*zone, *zone_from_mark, *one_way, here, cx);
        }
        Target::Tos { value, mask } => {
            let from = cx.skb.packet.tos;
            let to = (from & !mask) ^ value;
            cx.skb.packet.tos = to;
            if from != to {
                rewrite(here, cx, Field::Tos { from, to });
            }
        }
        Target::Ttl(change) => {
            let from = cx.skb.packet.ttl;
            let to = match *change {
                TtlChange::Set(n) => n,
                TtlChange::Inc(n) => from.saturating_add(n),
                TtlChange::Dec(n) => from.saturating_sub(n),
            };
            cx.skb.packet.ttl = to;
            if from != to {
                rewrite(here, cx, Field::Ttl { from, to });
            }
        }
        Target::Classify(class) => {
            cx.skb.priority = *class;
            rewrite(here, cx, Field::Priority { to: *class });
        }
        Target::Tcpmss => rewrite(here, cx, Field::Mss),
        Target::Set(names) => {
            for name in names {
                let key = lookup::set_changed(name, cx);
                cx.oracle.remember(key, 0);
            }
        }
        _ => {}
    }
    true
}

pub(super) fn set_mark(here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>, to: u32) {
    let from = cx.skb.mark;
    cx.skb.mark = to;
    if from != to {
        rewrite(here, cx, Field::Mark { from, to });
    }
}

fn rewrite(here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>, field: Field) {
    cx.sink.step(|| Step {
        what: What::Rewrite(field),
        evidence: vec![here.evidence()],
    });
}

const fn shifted(bits: u32, shift: i8) -> u32 {
    let by = shift.unsigned_abs() as u32;
    let out = if shift >= 0 {
        bits.checked_shl(by)
    } else {
        bits.checked_shr(by)
    };
    match out {
        Some(bits) => bits,
        None => 0,
    }
}

/// `connmark_tg`: nothing happens to a packet without a connection.
fn connmark(m: Connmark, here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>) -> bool {
    let Some(entry) = cx.ct.entry(cx.skb.ct) else {
        return true;
    };
    let known = entry.mark;
    let (mask, value) = match m {
        Connmark::Set { value, mask } => (mask, value),
        Connmark::Save { nfmask, ctmask, shift } => (ctmask, shifted(cx.skb.mark & nfmask, shift)),
        Connmark::Restore { nfmask, ctmask, shift } => {
            let ct = match known {
                Some(mark) => mark & ctmask,
                None if ctmask == 0 => 0,
                None => return false,
            };
            set_mark(here, cx, (cx.skb.mark & !nfmask) ^ shifted(ct, shift));
            return true;
        }
    };
    let Some(from) = known.or((mask == u32::MAX).then_some(0)) else {
        return true;
    };
    let to = (from & !mask) ^ value;
    let ct = cx.skb.ct;
    if let Some(entry) = cx.ct.entry_mut(ct) {
        entry.mark = Some(to);
    }
    if known != Some(to) {
        rewrite(here, cx, Field::ConnMark { from, to });
    }
    true
}

/// A template set before conntrack sees the packet. Only its zone shows later.
fn template(
    zone: Option<knet_snapshot::id::Zone>,
    from_mark: bool,
    one_way: bool,
    here: &Here<'_, '_>,
    cx: &mut HookCx<'_, '_>,
) -> bool {
    if cx.skb.ct != Ct::None || cx.skb.template {
        return true;
    }
    if one_way {
        // A zone for one direction only: the model keeps one zone per connection.
        return false;
    }
    let zone = if from_mark {
        Some(knet_snapshot::id::Zone((cx.skb.mark & 0xffff) as u16))
    } else {
        zone
    };
    cx.skb.template = true;
    if let Some(zone) = zone {
        cx.skb.zone = zone;
        rewrite(here, cx, Field::Zone(zone));
    }
    true
}
