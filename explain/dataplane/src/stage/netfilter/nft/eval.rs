//! Expressions.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::jhash::{jhash, scale};
use super::lookup::{Found, lookup};
use super::value::{Val, Vals, binary, compare, single};
use super::{Here, fib, header, key};
use crate::choice::{Chance, ratio};
use crate::stage::netfilter::HookCx;
use crate::table::nft::NfFamily;
use crate::table::nft::expr::{Draw, Expr, Gate, Meta, Node};
use crate::table::nft::set::Data;
use crate::table::nft::stmt::{Cmp, Match, Right};
use crate::table::nft::ty::Kind;
use crate::trace::Evidence;
use crate::tri::Tri;

/// So many values of a generator become branches of their own where they are not looked up.
const MAX_DRAWN: u32 = 256;

/// Computes an expression. `None`: `NFT_BREAK`, the rule ends.
pub(super) fn eval<'x, 's>(
    expr: &'x Expr<'s>,
    here: &Here<'x, 's>,
    cx: &mut HookCx<'_, '_>,
    more: &mut Vec<Evidence>,
) -> Option<Vals> {
    Some(match &expr.node {
        Node::Const(n) => single(Val::of(*n)),
        Node::Payload(p) => single(header::read(p, cx.skb)?),
        Node::Meta(m) => single(key::meta(*m, here, cx)?),
        Node::Ct(field, dir) => single(key::ct(*field, *dir, cx)?),
        Node::Nexthop(family) => single(nexthop(*family, cx)?),
        Node::Fib(f) => single(fib::fib(f, cx)),
        Node::Draw(draw) => single(drawn(*draw, here, cx)),
        Node::Jhash {
            modulus,
            offset,
            seed,
            inner,
        } => {
            let vals = eval(inner, here, cx, more)?;
            let hash = register(inner, &vals).map(|bytes| scale(jhash(&bytes, *seed), *modulus));
            match hash {
                Some(n) => single(Val::from(n.wrapping_add(*offset))),
                None => single(drawn(
                    Draw {
                        chance: crate::table::nft::expr::DrawKind::Hash,
                        modulus: *modulus,
                        offset: *offset,
                    },
                    here,
                    cx,
                )),
            }
        }
        Node::Binary(op, operands) => {
            let mask = expr.ty().mask();
            let mut out: Option<Val> = None;
            for operand in operands {
                let val = eval(operand, here, cx, more)?.first().copied().unwrap_or(Val::UNKNOWN);
                out = Some(out.map_or(val, |so_far| binary(*op, so_far, val, mask)));
            }
            single(out.unwrap_or(Val::UNKNOWN))
        }
        Node::Concat(parts) => {
            let mut all = Vals::new();
            for part in parts {
                all.extend(eval(part, here, cx, more)?);
            }
            all
        }
        Node::Map(key, set) => match lookup(key, set, here, cx, more) {
            Found::Break | Found::Miss => return None,
            Found::Hit(hit) => match hit.data {
                Data::Values(spans) => {
                    let value = |s: &(u128, u128)| if s.0 == s.1 { Val::of(s.0) } else { Val::UNKNOWN };
                    spans.iter().map(value).collect()
                }
                _ => single(Val::UNKNOWN),
            },
            Found::Added | Found::Unknown => expr.tys.iter().map(|_| Val::UNKNOWN).collect(),
        },
        Node::Absent(_) => return None,
        Node::Unknown(gate) => {
            if !header::passes(*gate, cx.skb) {
                return None;
            }
            expr.tys.iter().map(|_| Val::UNKNOWN).collect()
        }
    })
}

/// `nft_rt_get_eval`: the gateway, or the destination itself; nothing before routing.
fn nexthop(family: NfFamily, cx: &HookCx<'_, '_>) -> Option<Val> {
    cx.skb.oif?;
    match (cx.skb.nexthop.unwrap_or(cx.skb.packet.dst), family) {
        (IpAddr::V4(a), NfFamily::Ip) => Some(Val::from(a.to_bits())),
        (IpAddr::V6(a), NfFamily::Ip6) => Some(Val::of(a.to_bits())),
        _ => None,
    }
}

fn drawn(draw: Draw, here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>) -> Val {
    if draw.modulus == 0 || draw.modulus > MAX_DRAWN {
        return Val::UNKNOWN;
    }
    let weights: Vec<_> = (0..draw.modulus).map(|_| ratio(1, u64::from(draw.modulus))).collect();
    let i = cx.oracle.chance(draw.chance.chance(), &weights, Some(here.evidence()));
    Val::from(draw.offset.wrapping_add(u32::try_from(i).unwrap_or_default()))
}

/// The register a value is in, where its byte order is that of the wire: each part padded to four bytes.
fn register(expr: &Expr<'_>, vals: &[Val]) -> Option<Vec<u8>> {
    let parts: &[Expr<'_>] = match &expr.node {
        Node::Concat(parts) => parts,
        _ => std::slice::from_ref(expr),
    };
    let mut bytes = Vec::new();
    for (part, val) in parts.iter().zip(vals) {
        let ty = part.ty();
        let wire = match &part.node {
            Node::Payload(p) => p.len % 8 == 0,
            Node::Meta(Meta::L4Proto) => true,
            Node::Ct(..) => matches!(ty.kind, Kind::Ipv4 | Kind::Ipv6 | Kind::Port),
            _ => false,
        };
        let len = usize::from(ty.bits.div_ceil(8));
        let n = val.get(ty.mask()).filter(|_| wire)?;
        bytes.extend_from_slice(&n.to_be_bytes()[16 - len..]);
        if parts.len() > 1 {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    Some(bytes)
}

/// What a comparison says. A break is a no, whichever the operator.
pub(super) fn matches<'x, 's>(
    m: &'x Match<'s>,
    here: &Here<'x, 's>,
    cx: &mut HookCx<'_, '_>,
    more: &mut Vec<Evidence>,
) -> Tri {
    let masks = |expr: &Expr<'_>| -> SmallVec<[u128; 4]> { expr.tys.iter().map(|t| t.mask()).collect() };
    match (&m.right, &m.left.node) {
        (Right::Set(set), _) => {
            let answer = match lookup(&m.left, set, here, cx, more) {
                Found::Break => return Tri::No,
                Found::Hit(hit) if hit.conditional => Tri::Unknown,
                Found::Hit(_) | Found::Added => Tri::Yes,
                Found::Miss => Tri::No,
                Found::Unknown => Tri::Unknown,
            };
            answer.xor(m.op == Cmp::Ne)
        }
        (Right::Exists(wanted), Node::Fib(f)) => match fib::device(f, cx) {
            fib::Device::Is(dev) => Tri::from(dev.is_some() == *wanted).xor(m.op == Cmp::Ne),
            fib::Device::Unknown => Tri::Unknown,
        },
        // NFT_EXTHDR_F_PRESENT
        (Right::Exists(wanted), Node::Absent(gate)) => (has(*gate, cx) && *wanted == (m.op == Cmp::Ne)).into(),
        (Right::Spans(spans), Node::Draw(draw)) => {
            let mask = m.left.ty().mask();
            let yes = (0..draw.modulus)
                .filter(|i| {
                    let val = Val::from(draw.offset.wrapping_add(*i));
                    compare(&[val], &[mask], m.op, spans) == Tri::Yes
                })
                .count() as u64;
            chance(draw.chance.chance(), yes, u64::from(draw.modulus), here, cx)
        }
        (Right::Spans(spans), Node::Meta(Meta::Random)) => match spans.first() {
            Some(&(lo, hi)) => {
                let all = 1_u64 << 32;
                let bound = |n: u128| u64::try_from(n).map_or(all, |n| n.min(all));
                let yes = match m.op {
                    Cmp::Lt => bound(lo),
                    Cmp::Le => bound(hi + 1),
                    Cmp::Gt => all - bound(hi + 1),
                    Cmp::Ge => all - bound(lo),
                    Cmp::Eq => bound(hi + 1) - bound(lo),
                    Cmp::Ne => all - (bound(hi + 1) - bound(lo)),
                    Cmp::AnyBit | Cmp::NoBit => return Tri::Unknown,
                };
                chance(Chance::Statistic, yes, all, here, cx)
            }
            None => Tri::Unknown,
        },
        (right, _) => {
            let Some(left) = eval(&m.left, here, cx, more) else {
                return Tri::No;
            };
            match right {
                Right::Spans(spans) => compare(&left, &masks(&m.left), m.op, spans),
                Right::Expr(expr) => {
                    let Some(right) = eval(expr, here, cx, more) else {
                        return Tri::No;
                    };
                    let masks = masks(&m.left);
                    let known = right
                        .iter()
                        .zip(&masks)
                        .map(|(v, m)| v.get(*m).map(|n| (n, n)))
                        .collect();
                    let Some(spans) = known else { return Tri::Unknown };
                    compare(&left, &masks, m.op, &spans)
                }
                Right::Never => (m.op == Cmp::Ne).into(),
                Right::Set(_) | Right::Exists(_) | Right::Unknown => Tri::Unknown,
            }
        }
    }
}

fn chance(what: Chance, yes: u64, all: u64, here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>) -> Tri {
    if all == 0 {
        return Tri::Unknown;
    }
    let weights = [ratio(yes, all), ratio(all.saturating_sub(yes), all)];
    Tri::from(cx.oracle.chance(what, &weights, Some(here.evidence())) == 0)
}

/// Whether a comparison can be asked twice, and says the same.
pub(super) fn is_pure(m: &Match<'_>) -> bool {
    m.left.is_pure()
        && match &m.right {
            Right::Expr(expr) => expr.is_pure(),
            _ => true,
        }
}

/// Whether the packet has a field of this gate.
pub(super) fn has(gate: Gate, cx: &HookCx<'_, '_>) -> bool {
    header::passes(gate, cx.skb)
}
