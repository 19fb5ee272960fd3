//! Statements.

use knet_snapshot::id::Zone;
use knet_snapshot::nft::Verdict as Written;

use super::eval::{eval, has, is_pure, matches};
use super::header::{self, Written as Wrote};
use super::lookup::{Found, lookup, update};
use super::{Flow, Here, nat};
use crate::choice::Unknown;
use crate::packet::proto;
use crate::skb::{Ct, PktType};
use crate::stage::netfilter::{HookCx, Verdict};
use crate::table::nft::expr::{Expr, Gate, Node, Payload};
use crate::table::nft::set::Data;
use crate::table::nft::stmt::{Cmp, Effect, Match, Reject, Right, Stmt, Target};
use crate::trace::{Evidence, Field, Reject as How, RuleVerdict, What};
use crate::tri::Tri;

/// Runs one statement. [`Flow::Next`] goes on with the next one.
pub(super) fn act<'x, 's>(
    at: usize,
    here: &Here<'x, 's>,
    cx: &mut HookCx<'_, '_>,
    more: &mut Vec<Evidence>,
    changes: &mut Vec<What>,
) -> Flow<'x> {
    match &here.rule.stmts[at] {
        Stmt::Match(m) => {
            let answer = matches(m, here, cx, more);
            match merged_perhaps(at, here) {
                Some((first, other)) if matches(other, here, cx, more) != answer => {
                    let key = here.key(&format!("pair {first}"));
                    match cx.oracle.unknown(key, Unknown::Match(here.evidence()), 2) {
                        0 => Flow::Next,
                        _ => Flow::Broken,
                    }
                }
                _ => go_on(answer, at, here, cx),
            }
        }
        Stmt::Verdict(verdict) => written(verdict),
        Stmt::Vmap(key, set) => match lookup(key, set, here, cx, more) {
            Found::Break | Found::Miss => Flow::Broken,
            Found::Hit(hit) => match hit.data {
                Data::Verdict(_) if hit.conditional && !holds(at, here, cx) => Flow::Broken,
                Data::Verdict(verdict) => written(verdict),
                _ => Flow::Act(RuleVerdict::Unknown, Verdict::Unknown),
            },
            Found::Added | Found::Unknown if holds(at, here, cx) => Flow::Act(RuleVerdict::Unknown, Verdict::Unknown),
            Found::Added | Found::Unknown => Flow::Broken,
        },
        Stmt::Object(key, set, effect) => match lookup(key, set, here, cx, more) {
            Found::Break | Found::Miss => Flow::Broken,
            Found::Hit(_) | Found::Added => plain(*effect, at, here, cx, changes),
            Found::Unknown => go_on(Tri::Unknown, at, here, cx),
        },
        Stmt::Plain(effect) => plain(*effect, at, here, cx, changes),
        Stmt::Update { add, key, set, effect } => match update(*add, key, set, here, cx) {
            Some(()) => plain(*effect, at, here, cx, changes),
            None => Flow::Broken,
        },
        Stmt::Mangle(target, value) => mangle(*target, value, here, cx, more, changes),
        Stmt::Nat(n) => nat::nat(n, here, cx, more),
        Stmt::Reject(reject) => refuse(*reject, cx),
        Stmt::Notrack => {
            // nft_notrack_eval: "Previously seen (loopback or untracked)? Ignore." A template counts as seen.
            if matches!(cx.skb.ct, Ct::None | Ct::Invalid) && !cx.skb.template {
                cx.skb.ct = Ct::Untracked;
                changes.push(What::Rewrite(Field::Untracked));
            }
            Flow::Next
        }
        Stmt::Queue { bypass } => queue(*bypass, here, cx),
        Stmt::Helper(name) => {
            let ct = cx.skb.ct;
            // nft_ct_helper_obj_eval: only before the connection is confirmed.
            if let (Some(name), Some(entry)) = (name, cx.ct.entry_mut(ct))
                && !entry.confirmed
            {
                entry.helper = Some((*name).to_owned());
            }
            Flow::Next
        }
    }
}

fn written(verdict: &Written) -> Flow<'_> {
    match verdict {
        Written::Accept => Flow::Act(RuleVerdict::Accept, Verdict::Accept),
        Written::Drop => Flow::Act(RuleVerdict::Drop, Verdict::Drop { policy: false }),
        Written::Continue => Flow::Next,
        Written::Return => Flow::Return,
        Written::Queue => Flow::Act(RuleVerdict::Queue, Verdict::Queue),
        Written::Jump(to) => Flow::Enter { name: to, back: true },
        Written::Goto(to) => Flow::Enter { name: to, back: false },
    }
}

/// nft (seen with 1.0.6) makes one comparison of two fields side by side within four bytes. Of two `!=` that is another
/// question: whether either field differs, not both. It lists them as two again, so that nobody can tell. Gives the
/// first of the pair, and the other comparison.
fn merged_perhaps<'x, 's>(at: usize, here: &Here<'x, 's>) -> Option<(usize, &'x Match<'s>)> {
    let field = |at: usize| match here.rule.stmts.get(at)? {
        Stmt::Match(m) => match (&m.left.node, m.op, &m.right) {
            (Node::Payload(p), Cmp::Ne, Right::Spans(spans)) if spans.iter().all(|(lo, hi)| lo == hi) => Some((m, *p)),
            _ => None,
        },
        _ => None,
    };
    let (_, own) = field(at)?;
    let beside = |a: Payload, b: Payload| {
        let bytes = [a.offset, a.len, b.len].iter().all(|bits| bits.is_multiple_of(8));
        bytes && a.base == b.base && a.offset + a.len == b.offset && a.len + b.len <= 32
    };
    if let Some((m, next)) = field(at + 1)
        && beside(own, next)
    {
        return Some((at, m));
    }
    let before = at.checked_sub(1)?;
    let (m, previous) = field(before)?;
    beside(previous, own).then_some((before, m))
}

/// A yes goes on, a no ends the rule, and the rest is asked.
fn go_on<'x>(answer: Tri, at: usize, here: &Here<'x, '_>, cx: &mut HookCx<'_, '_>) -> Flow<'x> {
    match answer {
        Tri::Yes => Flow::Next,
        Tri::No => Flow::Broken,
        Tri::Unknown if holds(at, here, cx) => Flow::Next,
        Tri::Unknown => Flow::Broken,
    }
}

/// Whether a statement nobody can decide lets the rule go on. Not asked when it makes no difference:
/// because a later statement certainly ends the rule, or because nothing behind it does anything.
fn holds(at: usize, here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>) -> bool {
    if !matches!(here.rule.stmts[at], Stmt::Vmap(..)) && (settled(at + 1, here, cx) || inert(at + 1, here)) {
        return false;
    }
    let key = here.key(&format!("stmt {at}"));
    cx.oracle.unknown(key, Unknown::Match(here.evidence()), 2) == 0
}

/// A later statement of the rule certainly ends it, and nothing before that has an effect.
fn settled(from: usize, here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>) -> bool {
    let mut unused = Vec::new();
    for stmt in &here.rule.stmts[from..] {
        match stmt {
            Stmt::Match(m) if is_pure(m) => {
                if matches(m, here, cx, &mut unused) == Tri::No {
                    return true;
                }
            }
            Stmt::Match(_) | Stmt::Plain(Effect::None | Effect::Decides) => {}
            Stmt::Vmap(key, set) => {
                return key.is_pure() && matches!(lookup(key, set, here, cx, &mut unused), Found::Break | Found::Miss);
            }
            Stmt::Object(key, set, Effect::None | Effect::Decides) if key.is_pure() => {
                if matches!(lookup(key, set, here, cx, &mut unused), Found::Break | Found::Miss) {
                    return true;
                }
            }
            Stmt::Reject(reject) => return !applies(*reject, cx),
            Stmt::Mangle(Target::Payload(p), _) => return !has(p.gate, cx),
            Stmt::Mangle(Target::Mss, _) => return !has(Gate::L4(proto::TCP), cx),
            _ => return false,
        }
    }
    false
}

/// Nothing from here on does anything.
fn inert(from: usize, here: &Here<'_, '_>) -> bool {
    here.rule.stmts[from..].iter().all(|stmt| {
        matches!(
            stmt,
            Stmt::Match(_)
                | Stmt::Plain(Effect::None | Effect::Decides | Effect::Offloads)
                | Stmt::Object(_, _, Effect::None | Effect::Decides)
                | Stmt::Verdict(Written::Continue)
        )
    })
}

fn plain<'x>(
    effect: Effect,
    at: usize,
    here: &Here<'x, '_>,
    cx: &mut HookCx<'_, '_>,
    changes: &mut Vec<What>,
) -> Flow<'x> {
    match effect {
        Effect::None => Flow::Next,
        Effect::Decides => go_on(Tri::Unknown, at, here, cx),
        Effect::Changes => {
            changes.push(What::Undecided);
            Flow::Next
        }
        Effect::Forwards | Effect::Acts => Flow::Act(RuleVerdict::Unknown, Verdict::Unknown),
        // nft_synproxy_eval: breaks for what is not TCP.
        Effect::Proxies if cx.skb.packet.proto != proto::TCP => Flow::Broken,
        Effect::Proxies => {
            let key = here.key(&format!("stmt {at}"));
            if cx.oracle.unknown(key, Unknown::Target(here.evidence()), 2) == 0 {
                Flow::Next
            } else {
                Flow::Act(RuleVerdict::Unknown, Verdict::Unknown)
            }
        }
        // nft_flow_offload_eval: breaks until the connection is confirmed, and established if it is TCP.
        Effect::Offloads => match cx.ct.entry(cx.skb.ct) {
            Some(entry) if entry.confirmed => go_on(Tri::Unknown, at, here, cx),
            _ => Flow::Broken,
        },
    }
}

fn queue<'x>(bypass: bool, here: &Here<'x, '_>, cx: &mut HookCx<'_, '_>) -> Flow<'x> {
    // Without a program listening the packet is accepted. Who listens is not captured.
    if bypass
        && cx
            .oracle
            .unknown(here.key("queue"), Unknown::Outside("a program on the queue"), 2)
            == 1
    {
        return Flow::Act(RuleVerdict::Accept, Verdict::Accept);
    }
    Flow::Act(RuleVerdict::Queue, Verdict::Queue)
}

fn applies(reject: Reject, cx: &HookCx<'_, '_>) -> bool {
    let v4 = cx.skb.packet.src.is_ipv4();
    match reject {
        Reject::TcpReset => cx.skb.packet.proto == proto::TCP,
        Reject::Icmp(_) => v4,
        Reject::Icmp6(_) => !v4,
        Reject::Icmpx(_) | Reject::Unknown => true,
    }
}

fn refuse<'x>(reject: Reject, cx: &HookCx<'_, '_>) -> Flow<'x> {
    if !applies(reject, cx) {
        return Flow::Broken;
    }
    let how = match (reject, cx.skb.packet.src.is_ipv4()) {
        (Reject::TcpReset, _) => Some(How::TcpReset),
        (Reject::Icmp(code), _) => icmp(code),
        (Reject::Icmp6(code), _) => icmp6(code),
        // nft_reject_icmp_code, nft_reject_icmpv6_code
        (Reject::Icmpx(code), true) => [0, 3, 1, 13].get(usize::from(code)).and_then(|c| icmp(*c)),
        (Reject::Icmpx(code), false) => [0, 4, 3, 1].get(usize::from(code)).and_then(|c| icmp6(*c)),
        (Reject::Unknown, _) => None,
    };
    match how {
        Some(how) => Flow::Act(RuleVerdict::Reject(how), Verdict::Reject(how)),
        None => Flow::Act(RuleVerdict::Unknown, Verdict::Unknown),
    }
}

const fn icmp(code: u8) -> Option<How> {
    Some(match code {
        0 => How::IcmpNetUnreachable,
        1 => How::IcmpHostUnreachable,
        2 => How::IcmpProtoUnreachable,
        3 => How::IcmpPortUnreachable,
        9 => How::IcmpNetProhibited,
        10 => How::IcmpHostProhibited,
        13 => How::IcmpAdminProhibited,
        _ => return None,
    })
}

const fn icmp6(code: u8) -> Option<How> {
    Some(match code {
        0 => How::Icmp6NoRoute,
        1 => How::Icmp6AdmProhibited,
        3 => How::Icmp6AddrUnreachable,
        4 => How::Icmp6PortUnreachable,
        5 => How::Icmp6PolicyFail,
        6 => How::Icmp6RejectRoute,
        _ => return None,
    })
}

fn mangle<'x, 's>(
    target: Target,
    value: &'x Expr<'s>,
    here: &Here<'x, 's>,
    cx: &mut HookCx<'_, '_>,
    more: &mut Vec<Evidence>,
    changes: &mut Vec<What>,
) -> Flow<'x> {
    // The test for the field stands before the value is computed.
    let gate = match target {
        Target::Payload(p) => p.gate,
        Target::Mss => Gate::L4(proto::TCP),
        Target::Unknown(gate) => gate,
        _ => Gate::Any,
    };
    if !has(gate, cx) {
        return Flow::Broken;
    }
    let Some(vals) = eval(value, here, cx, more) else {
        return Flow::Broken;
    };
    let val = vals.first().copied().unwrap_or(super::lookup::UNKNOWN);
    let word = val.get(0xffff_ffff).and_then(|n| u32::try_from(n).ok());
    let lost = Flow::Act(RuleVerdict::Unknown, Verdict::Unknown);
    match target {
        Target::Nothing => {}
        Target::Mark => {
            let Some(to) = word else { return lost };
            let from = std::mem::replace(&mut cx.skb.mark, to);
            if from != to {
                changes.push(What::Rewrite(Field::Mark { from, to }));
            }
        }
        Target::Priority => {
            let Some(to) = word else { return lost };
            cx.skb.priority = to;
            changes.push(What::Rewrite(Field::Priority { to }));
        }
        Target::PktType => {
            cx.skb.pkt_type = match word {
                Some(0) => PktType::Host,
                Some(1) => PktType::Broadcast,
                Some(2) => PktType::Multicast,
                Some(3) => PktType::OtherHost,
                _ => return lost,
            };
        }
        Target::CtMark => {
            let ct = cx.skb.ct;
            // nft_ct_set_eval: nothing happens without a connection, and the rule goes on.
            let Some(entry) = cx.ct.entry_mut(ct) else {
                return Flow::Next;
            };
            let from = std::mem::replace(&mut entry.mark, word);
            if let Some(to) = word
                && from != word
            {
                changes.push(What::Rewrite(Field::ConnMark {
                    from: from.unwrap_or_default(),
                    to,
                }));
            }
        }
        Target::CtZone => {
            let Some(zone) = word.and_then(|n| u16::try_from(n).ok()).map(Zone) else {
                return lost;
            };
            // nft_ct_set_zone_eval: "already tracked". What was untracked gets the template, and is tracked after all.
            if !matches!(cx.skb.ct, Ct::Of { .. }) && !cx.skb.template {
                cx.skb.ct = Ct::None;
                cx.skb.zone = zone;
                cx.skb.template = true;
                changes.push(What::Rewrite(Field::Zone(zone)));
            }
        }
        Target::Mss => changes.push(What::Rewrite(Field::Mss)),
        Target::Unknown(_) => changes.push(What::Undecided),
        Target::Payload(p) => {
            let before = cx.skb.packet.clone();
            match header::write(&p, val, cx.skb) {
                Wrote::Fields(fields) => changes.extend(fields.into_iter().map(What::Rewrite)),
                Wrote::Tuple => changes.extend(translated(&before, &cx.skb.packet)),
                Wrote::NotThere => return Flow::Broken,
                Wrote::Ignored => {}
                Wrote::Unknown => return lost,
            }
        }
    }
    Flow::Next
}

/// An address or port written into the header: a translation that no connection knows of.
fn translated(before: &crate::packet::Packet, after: &crate::packet::Packet) -> Vec<What> {
    let ends = [
        (true, (before.src, before.sport()), (after.src, after.sport())),
        (false, (before.dst, before.dport()), (after.dst, after.dport())),
    ];
    let changed = ends.into_iter().filter(|(_, from, to)| from != to);
    changed
        .map(|(source, from, to)| What::Nat { source, from, to })
        .collect()
}
