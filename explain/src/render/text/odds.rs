//! Probabilities for people.

use num_rational::Rational64;
use num_traits::{One, ToPrimitive, Zero};

use crate::explanation::Ratio;

/// A share as people say it: `1/3`; `33.3%` when no small fraction is near; `always` and `never` are the
/// caller's to say.
#[must_use]
pub fn share(ratio: &Ratio) -> String {
    if ratio.is_zero() {
        return "0".to_owned();
    }
    if ratio.is_one() {
        return "1".to_owned();
    }
    // kube-proxy writes 0.33333333349 for a third: the kernel keeps 31 bits of it.
    let value = ratio.to_f64().unwrap_or(0.0);
    for denominator in 2..=100_i64 {
        let numerator = (value * denominator as f64).round() as i64;
        let near = Rational64::new(numerator, denominator);
        if numerator > 0 && numerator < denominator && (near.to_f64().unwrap_or(0.0) - value).abs() < 1e-6 {
            return format!("{}/{}", near.numer(), near.denom());
        }
    }
    let percent = value * 100.0;
    if percent < 0.1 {
        "under 0.1%".to_owned()
    } else {
        format!("{percent:.1}%")
    }
}

/// A share that may be anything between two.
#[must_use]
pub fn range(at_least: &Ratio, at_most: &Ratio) -> String {
    if at_least == at_most {
        share(at_least)
    } else if at_least.is_zero() && at_most.is_one() {
        "maybe".to_owned()
    } else if at_least.is_zero() {
        format!("up to {}", share(at_most))
    } else {
        format!("{} to {}", share(at_least), share(at_most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(n: i64, d: i64) -> Ratio {
        Ratio::new(n.into(), d.into())
    }

    #[test]
    fn shares_are_said_as_small_fractions() {
        assert_eq!(share(&ratio(1, 3)), "1/3");
        assert_eq!(share(&ratio(33_333_333_349, 100_000_000_000)), "1/3");
        assert_eq!(share(&ratio(715_827_883, 2_147_483_648)), "1/3");
        assert_eq!(share(&ratio(2, 4)), "1/2");
        assert_eq!(share(&ratio(12_005, 1_000_000)), "1.2%");
        assert_eq!(share(&ratio(1, 1)), "1");
        assert_eq!(range(&ratio(0, 1), &ratio(1, 2)), "up to 1/2");
        assert_eq!(range(&ratio(0, 1), &ratio(1, 1)), "maybe");
    }
}
