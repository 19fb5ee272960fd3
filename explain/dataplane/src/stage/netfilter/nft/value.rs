//! Values of which some bits may not be known.

use knet_snapshot::nft::Op;
use smallvec::{SmallVec, smallvec};

use crate::table::nft::set::Spans;
use crate::table::nft::stmt::Cmp;
use crate::table::nft::ty::Span;
use crate::tri::Tri;

/// A value; `known` has a bit for every bit of `bits` that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Val {
    pub bits: u128,
    pub known: u128,
}

/// The parts of a value.
pub(super) type Vals = SmallVec<[Val; 4]>;

impl Val {
    pub(super) const UNKNOWN: Self = Self { bits: 0, known: 0 };

    pub(super) const fn of(bits: u128) -> Self {
        Self { bits, known: u128::MAX }
    }

    /// The value when every bit of `mask` is known.
    pub(super) const fn get(self, mask: u128) -> Option<u128> {
        if self.known & mask == mask {
            Some(self.bits & mask)
        } else {
            None
        }
    }

    pub(super) const fn masked(self, mask: u128) -> Self {
        Self {
            bits: self.bits & mask,
            known: self.known | !mask,
        }
    }

    const fn min(self) -> u128 {
        self.bits & self.known
    }

    const fn max(self, mask: u128) -> u128 {
        (self.bits & self.known) | (!self.known & mask)
    }

    /// Within a span of a type `mask` wide.
    pub(super) fn within(self, (lo, hi): Span, mask: u128) -> Tri {
        if lo == hi && (self.bits ^ lo) & self.known & mask != 0 {
            return Tri::No;
        }
        let (min, max) = (self.min() & mask, self.max(mask) & mask);
        if max < lo || min > hi {
            Tri::No
        } else if min >= lo && max <= hi {
            Tri::Yes
        } else {
            Tri::Unknown
        }
    }
}

impl From<u32> for Val {
    fn from(n: u32) -> Self {
        Self::of(u128::from(n))
    }
}

impl From<bool> for Val {
    fn from(b: bool) -> Self {
        Self::of(u128::from(b))
    }
}

/// A value of one part.
pub(super) fn single(val: Val) -> Vals {
    smallvec![val]
}

/// Computes `a OP b`, keeping what is known.
pub(super) fn binary(op: Op, a: Val, b: Val, mask: u128) -> Val {
    let out = match op {
        Op::And => Val {
            bits: a.bits & b.bits,
            known: (a.known & b.known) | (a.known & !a.bits) | (b.known & !b.bits),
        },
        Op::Or => Val {
            bits: a.bits | b.bits,
            known: (a.known & b.known) | (a.known & a.bits) | (b.known & b.bits),
        },
        Op::Xor => Val {
            bits: a.bits ^ b.bits,
            known: a.known & b.known,
        },
        Op::Shl | Op::Shr => {
            let Some(by) = b.get(0xff).and_then(|n| u32::try_from(n).ok()) else {
                return Val::UNKNOWN;
            };
            let shift = |n: u128| match op {
                Op::Shl => n.checked_shl(by).unwrap_or(0),
                _ => n.checked_shr(by).unwrap_or(0),
            };
            Val {
                bits: shift(a.bits & mask),
                known: !shift(!a.known & mask),
            }
        }
    };
    out.masked(mask)
}

/// Compares the parts of a value with constants.
pub(super) fn compare(vals: &[Val], masks: &[u128], op: Cmp, spans: &Spans) -> Tri {
    if vals.len() != spans.len() || vals.len() != masks.len() {
        return Tri::Unknown;
    }
    let all = || {
        vals.iter()
            .zip(masks)
            .zip(spans)
            .fold(Tri::Yes, |so_far, ((v, m), s)| so_far.and(v.within(*s, *m)))
    };
    let (Some(&v), Some(&mask), Some(&(lo, hi))) = (vals.first(), masks.first(), spans.first()) else {
        return Tri::Unknown;
    };
    match op {
        Cmp::Eq => all(),
        Cmp::Ne => all().not(),
        Cmp::Ge => v.within((lo, mask), mask),
        Cmp::Lt => v.within((lo, mask), mask).not(),
        Cmp::Le => v.within((0, hi), mask),
        Cmp::Gt => v.within((0, hi), mask).not(),
        Cmp::AnyBit | Cmp::NoBit => {
            let any = if v.bits & v.known & lo != 0 {
                Tri::Yes
            } else if lo & !v.known == 0 {
                Tri::No
            } else {
                Tri::Unknown
            };
            any.xor(op == Cmp::NoBit)
        }
    }
}
