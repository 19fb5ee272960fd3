//! Looking keys up in sets and maps.

use std::collections::BTreeMap;

use super::Here;
use super::eval::eval;
use super::value::{Val, Vals};
use crate::choice::ratio;
use crate::stage::netfilter::HookCx;
use crate::table::nft::expr::{Draw, Expr, Node, SetRef};
use crate::table::nft::set::{Answer, Hit, Parts, Set};
use crate::trace::{Detail, Evidence};

/// So many values of a generator are looked up one by one.
const MAX_DRAWN: u32 = 1 << 16;

/// What a lookup says.
pub(super) enum Found<'x, 's> {
    /// An element matches.
    Hit(Hit<'x, 's>),
    /// An element that a rule of this walk added.
    Added,
    /// None does.
    Miss,
    /// The key cannot be told, or an element could not be read.
    Unknown,
    /// The packet has no such key.
    Break,
}

/// Looks an expression up; the element that is found goes to `more`.
pub(super) fn lookup<'x, 's>(
    key: &'x Expr<'s>,
    set_ref: &'x SetRef<'s>,
    here: &Here<'x, 's>,
    cx: &mut HookCx<'_, '_>,
    more: &mut Vec<Evidence>,
) -> Found<'x, 's> {
    let nft = here.base.nft;
    let Some(set) = nft.set(set_ref) else {
        return Found::Unknown;
    };
    let found = match &key.node {
        Node::Draw(draw) => drawn(*draw, set, here, cx),
        _ => {
            let Some(vals) = eval(key, here, cx, more) else {
                return Found::Break;
            };
            match known(&vals, key) {
                None if nft.is_dynamic(set_ref) || vals.len() != set.key.len() => Found::Unknown,
                None => {
                    let (bits, known): (Parts, Parts) = vals.iter().map(|v| (v.bits, v.known)).unzip();
                    if set.may_hold(&bits, &known, nft.ifs()) {
                        Found::Unknown
                    } else {
                        Found::Miss
                    }
                }
                Some(parts) => match remembered(set_ref, &parts, here, cx) {
                    Some(true) => Found::Added,
                    Some(false) => Found::Miss,
                    None => answer(set.find(&parts, nft.ifs())),
                },
            }
        }
    };
    if let Found::Hit(hit) = &found
        && cx.sink.detail >= Detail::Decisions
    {
        more.extend(nft.element(set_ref, hit.written));
    }
    found
}

fn answer<'x, 's>(answer: Answer<'x, 's>) -> Found<'x, 's> {
    match answer {
        Answer::Hit(hit) => Found::Hit(hit),
        Answer::Miss => Found::Miss,
        Answer::Unknown => Found::Unknown,
    }
}

fn known(vals: &Vals, key: &Expr<'_>) -> Option<Parts> {
    vals.iter().zip(&key.tys).map(|(v, ty)| v.get(ty.mask())).collect()
}

/// Draws among the elements that the generator's values lead to, each with the share of its values.
fn drawn<'x, 's>(draw: Draw, set: &'x Set<'s>, here: &Here<'x, 's>, cx: &mut HookCx<'_, '_>) -> Found<'x, 's> {
    if draw.modulus == 0 || draw.modulus > MAX_DRAWN {
        return Found::Unknown;
    }
    let ifs = here.base.nft.ifs();
    // Elements in the order of their first value; the address tells them apart and orders nothing.
    let mut options: Vec<(Found<'x, 's>, u64)> = Vec::new();
    let mut seen: BTreeMap<Option<usize>, usize> = BTreeMap::new();
    for i in 0..draw.modulus {
        let value = u128::from(draw.offset.wrapping_add(i));
        let found = answer(set.find(&[value], ifs));
        let at = match &found {
            Found::Hit(hit) => Some(std::ptr::from_ref(hit.written).addr()),
            Found::Unknown => return Found::Unknown,
            _ => None,
        };
        let option = *seen.entry(at).or_insert(options.len());
        match options.get_mut(option) {
            Some((_, weight)) => *weight += 1,
            None => options.push((found, 1)),
        }
    }
    let weights: Vec<_> = options
        .iter()
        .map(|(_, n)| ratio(*n, u64::from(draw.modulus)))
        .collect();
    let taken = cx.oracle.chance(draw.chance.chance(), &weights, Some(here.evidence()));
    options
        .into_iter()
        .nth(taken)
        .map_or(Found::Unknown, |(found, _)| found)
}

/// What a rule of this walk did to an element.
fn remembered(set: &SetRef<'_>, parts: &Parts, here: &Here<'_, '_>, cx: &HookCx<'_, '_>) -> Option<bool> {
    let key = memory(set, parts, here, cx)?;
    cx.oracle.recall(&key).map(|n| n == 1)
}

fn memory(set: &SetRef<'_>, parts: &Parts, here: &Here<'_, '_>, cx: &HookCx<'_, '_>) -> Option<String> {
    let SetRef::Named(i) = set else { return None };
    here.base
        .nft
        .is_dynamic(set)
        .then(|| format!("nft set {} {i} {parts:x?}", cx.ns.id.0))
}

/// Adds an element to a set for the rest of this walk, or deletes it. `None`: the packet has no such key.
pub(super) fn update<'x, 's>(
    add: bool,
    key: &'x Expr<'s>,
    set: &'x SetRef<'s>,
    here: &Here<'x, 's>,
    cx: &mut HookCx<'_, '_>,
) -> Option<()> {
    let vals: Vals = eval(key, here, cx, &mut Vec::new())?;
    let parts = known(&vals, key);
    if let Some(key) = parts.and_then(|parts| memory(set, &parts, here, cx)) {
        cx.oracle.remember(key, usize::from(add));
    }
    Some(())
}

/// A value that nothing is known of.
pub(super) const UNKNOWN: Val = Val::UNKNOWN;
