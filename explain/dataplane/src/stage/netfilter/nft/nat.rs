//! `nft_nat_eval`, `nft_masq_eval`, `nft_redir_eval`, `nft_tproxy_eval`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use knet_snapshot::nft::NatKind;

use super::eval::eval;
use super::lookup::{Found, lookup};
use super::{Flow, Here};
use crate::packet::proto;
use crate::stage::conntrack::{Manip, NatRange, setup_nat};
use crate::stage::netfilter::xt::nat::{Plan, masquerade, redirect, tproxy_socket};
use crate::stage::netfilter::{HookCx, Verdict};
use crate::table::nft::NfFamily;
use crate::table::nft::set::{Data, Spans};
use crate::table::nft::stmt::{Nat, NatArg};
use crate::trace::{Evidence, RuleVerdict};

/// What an argument is for this packet.
enum Arg {
    Spans(Spans),
    Break,
    Unknown,
}

pub(super) fn nat<'x, 's>(
    nat: &'x Nat<'s>,
    here: &Here<'x, 's>,
    cx: &mut HookCx<'_, '_>,
    more: &mut Vec<Evidence>,
) -> Flow<'x> {
    let v4 = cx.skb.packet.src.is_ipv4();
    let tproxy = nat.kind == NatKind::Tproxy;
    // nft_nat_inet_eval: a rule for the other family does nothing. nft_tproxy_eval: it does not match.
    if nat
        .family
        .is_some_and(|f| (f == NfFamily::Ip && !v4) || (f == NfFamily::Ip6 && v4))
    {
        return if tproxy { Flow::Broken } else { Flow::Next };
    }
    if tproxy && !matches!(cx.skb.packet.proto, proto::TCP | proto::UDP) {
        return Flow::Broken;
    }
    let mut range = NatRange {
        random: nat.random,
        fully_random: nat.fully_random,
        persistent: nat.persistent,
        netmap: nat.netmap,
        ..NatRange::default()
    };
    for (arg, is_addr) in [(&nat.addr, true), (&nat.port, false)] {
        let Some(arg) = arg else { continue };
        match value(arg, here, cx, more) {
            Arg::Break => return Flow::Broken,
            Arg::Unknown => return Flow::Act(RuleVerdict::Unknown, Verdict::Unknown),
            Arg::Spans(spans) => {
                let mut spans = spans.into_iter();
                if is_addr {
                    range.addrs = spans.next().map(|(lo, hi)| (addr(lo, v4), addr(hi, v4)));
                }
                if let Some((lo, hi)) = spans.next() {
                    range.ports = Some((port(lo), port(hi)));
                }
            }
        }
    }
    let plan = match nat.kind {
        NatKind::Snat => Plan::Range(Manip::Src, range),
        NatKind::Dnat => Plan::Range(Manip::Dst, range),
        NatKind::Masquerade => masquerade(&range, cx),
        NatKind::Redirect => redirect(&range, cx),
        NatKind::Tproxy => {
            // nft_tproxy_eval_v4, nft_tproxy_eval_v6: without a socket the rule ends, with one it goes on.
            let (addr, port) = (range.addrs.map(|(lo, _)| lo), range.ports.map_or(0, |(lo, _)| lo));
            let Some(socket) = tproxy_socket(addr, port, here.key("tproxy"), cx) else {
                return Flow::Broken;
            };
            cx.skb.tproxy = Some(socket);
            return Flow::Next;
        }
    };
    match plan {
        Plan::Range(manip, range) => {
            setup_nat(cx.ns, cx.skb, cx.ct, cx.oracle, manip, &range);
            Flow::Act(RuleVerdict::Nat, Verdict::Accept)
        }
        Plan::Keep => Flow::Act(RuleVerdict::Accept, Verdict::Accept),
        Plan::Drop => Flow::Act(RuleVerdict::Drop, Verdict::Drop { policy: false }),
        Plan::Unknown => Flow::Act(RuleVerdict::Unknown, Verdict::Unknown),
    }
}

fn value<'x, 's>(arg: &'x NatArg<'s>, here: &Here<'x, 's>, cx: &mut HookCx<'_, '_>, more: &mut Vec<Evidence>) -> Arg {
    match arg {
        NatArg::Spans(spans) => Arg::Spans(spans.clone()),
        NatArg::Map(key, set) => match lookup(key, set, here, cx, more) {
            Found::Break | Found::Miss => Arg::Break,
            Found::Hit(hit) => match hit.data {
                Data::Values(spans) => Arg::Spans(spans.clone()),
                _ => Arg::Unknown,
            },
            Found::Added | Found::Unknown => Arg::Unknown,
        },
        NatArg::Expr(expr) => match eval(expr, here, cx, more) {
            None => Arg::Break,
            Some(vals) => {
                let spans: Option<Spans> = vals
                    .iter()
                    .zip(&expr.tys)
                    .map(|(v, ty)| v.get(ty.mask()).map(|n| (n, n)))
                    .collect();
                spans.map_or(Arg::Unknown, Arg::Spans)
            }
        },
    }
}

fn addr(bits: u128, v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::from_bits(u32::try_from(bits & 0xffff_ffff).unwrap_or_default()).into()
    } else {
        Ipv6Addr::from_bits(bits).into()
    }
}

fn port(bits: u128) -> u16 {
    u16::try_from(bits & 0xffff).unwrap_or_default()
}
