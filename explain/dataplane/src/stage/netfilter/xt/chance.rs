//! xt_statistic.c

use num_traits::One;

use super::Here;
use crate::choice::{Chance, Ratio, ratio};
use crate::stage::netfilter::HookCx;
use crate::table::xt::matches::Match;

/// Draws for a match by chance; true for every other match.
pub(super) fn drawn(m: &Match, here: &Here<'_, '_>, cx: &mut HookCx<'_, '_>) -> bool {
    let (hit, invert) = match *m {
        Match::Random { threshold, invert } => (share(threshold), invert),
        // Which packet of the series this is nobody knows: one in `every` is.
        Match::Nth { every, invert } => (ratio(1, u64::from(every)), invert),
        _ => return true,
    };
    let miss = Ratio::one() - &hit;
    let evidence = Some(here.evidence());
    (cx.oracle.chance(Chance::Statistic, &[hit, miss], evidence) == 0) != invert
}

/// The probability somebody wrote, from what the kernel keeps of it: `round(p * 2^31)`, compared with 31
/// random bits. The simplest fraction that rounds to the number; 0.33333333349 is 1/3.
pub(super) fn share(threshold: u32) -> Ratio {
    const SCALE: u64 = 1 << 31;
    let threshold = u64::from(threshold);
    if threshold == 0 || threshold >= SCALE {
        return ratio(u64::from(threshold != 0), 1);
    }
    // (2t - 1)/2^32 <= p/q < (2t + 1)/2^32
    let (p, q) = simplest((2 * threshold - 1, 2 * SCALE), (2 * threshold + 1, 2 * SCALE));
    if q <= 1_000_000 {
        ratio(p, q)
    } else {
        ratio(threshold, SCALE)
    }
}

/// The fraction with the smallest denominator strictly between two, by continued fractions.
fn simplest(low: (u64, u64), high: (u64, u64)) -> (u64, u64) {
    let (a, b) = low;
    let (c, d) = high;
    let whole = a / b;
    if (whole + 1) * d < c {
        return (whole + 1, 1);
    }
    // The same search on the reciprocals of the rests. The upper rest may be infinite (denominator 0).
    let (low_rest, high_rest) = ((a - whole * b, b), (c - whole * d, d));
    if low_rest.0 == 0 {
        // The lower bound is whole: the answer is whole + 1/n with the smallest n above d/c'.
        let n = high_rest.1 / high_rest.0 + 1;
        return (whole * n + 1, n);
    }
    let (p, q) = simplest((high_rest.1, high_rest.0), (low_rest.1, low_rest.0));
    (whole * p + q, p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fractions_kube_proxy_means() {
        let stored = |p: f64| (p * 2_147_483_648.0).round() as u32;
        for n in 1..200u32 {
            // What libxt_statistic prints for 1/n, read again.
            let printed: f64 = format!("{:.11}", f64::from(stored(1.0 / f64::from(n))) / 2_147_483_648.0)
                .parse()
                .expect("a number");
            assert_eq!(share(stored(printed)), ratio(1, u64::from(n)));
        }
        assert_eq!(share(stored(0.333_333_333_49)), ratio(1, 3));
        assert_eq!(share(stored(0.4)), ratio(2, 5));
        assert_eq!(share(0), ratio(0, 1));
        assert_eq!(share(1 << 31), ratio(1, 1));
        assert_eq!(share(1), ratio(1, 1 << 31));
    }
}
