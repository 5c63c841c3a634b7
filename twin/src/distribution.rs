//! Distributions of work, and what is known of a draw while it is being served.
//!
//! A policy does not know how much work a running fragment has left; it knows how much service the
//! fragment has had. Each distribution therefore answers three questions about a draw `X` that is
//! known to exceed `a`: its mean, the probability that it exceeds `x`, and a sample of it.
//!
//! Lognormal: mean excess from the partial expectation
//! `E[X; X > a] = exp(m + s²/2) Φ((m + s² − ln a) / s)` (Aitchison and Brown, 1957).
//! Left out: heavy tails without a mean.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

/// A distribution of a non-negative quantity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Distribution {
    /// Always `value`.
    Constant {
        /// The value.
        value: f64,
    },
    /// Exponential with the given mean.
    Exponential {
        /// The mean.
        mean: f64,
    },
    /// Lognormal with the given mean and coefficient of variation (standard deviation over mean).
    Lognormal {
        /// The mean.
        mean: f64,
        /// Standard deviation over mean.
        cv: f64,
    },
}

impl Default for Distribution {
    fn default() -> Self {
        Self::Constant { value: 0.0 }
    }
}

/// Quantiles beyond which a draw is cut, so that no draw is infinite.
const EXTREME: f64 = 1e-12;

impl Distribution {
    /// What is wrong with the parameters, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let (name, value) = match self {
            Self::Constant { value } => ("value", *value),
            Self::Exponential { mean } => ("mean", *mean),
            Self::Lognormal { mean, cv } => {
                if !(cv.is_finite() && *cv >= 0.0) {
                    return Some(format!("cv must be finite and not negative, found {cv}"));
                }
                ("mean", *mean)
            }
        };
        (!(value.is_finite() && value >= 0.0))
            .then(|| format!("{name} must be finite and not negative, found {value}"))
    }

    /// The mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        match self {
            Self::Constant { value } => *value,
            Self::Exponential { mean } | Self::Lognormal { mean, .. } => *mean,
        }
    }

    /// The value below which a draw falls with probability `u`, for `u` in (0, 1).
    #[must_use]
    pub fn quantile(&self, u: f64) -> f64 {
        let u = u.clamp(EXTREME, 1.0 - EXTREME);
        match self {
            Self::Constant { value } => *value,
            Self::Exponential { mean } => -mean * (-u).ln_1p(),
            Self::Lognormal { mean, cv } => match log_parameters(*mean, *cv) {
                Some((m, s)) => (m + s * Normal::standard().inverse_cdf(u)).exp(),
                None => *mean,
            },
        }
    }

    /// The probability that a draw exceeds `x`.
    #[must_use]
    pub fn survival(&self, x: f64) -> f64 {
        if x < 0.0 {
            return 1.0;
        }
        match self {
            Self::Constant { value } => f64::from(u8::from(*value > x)),
            Self::Exponential { mean } if *mean > 0.0 => (-x / mean).exp(),
            Self::Exponential { .. } => 0.0,
            Self::Lognormal { mean, cv } => match log_parameters(*mean, *cv) {
                Some(_) if x <= 0.0 => 1.0,
                Some((m, s)) => Normal::standard().sf((x.ln() - m) / s),
                None => f64::from(u8::from(*mean > x)),
            },
        }
    }

    /// The mean of a draw that is known to exceed `a`; at least `a`.
    #[must_use]
    pub fn mean_given_exceeds(&self, a: f64) -> f64 {
        if a <= 0.0 {
            return self.mean();
        }
        match self {
            Self::Constant { value } => value.max(a),
            Self::Exponential { mean } => a + mean,
            Self::Lognormal { mean, cv } => match log_parameters(*mean, *cv) {
                Some((m, s)) => {
                    let normal = Normal::standard();
                    let tail = normal.sf((a.ln() - m) / s);
                    if tail < EXTREME {
                        return a * (1.0 + s * s);
                    }
                    (mean * normal.cdf((m + s * s - a.ln()) / s) / tail).max(a)
                }
                None => mean.max(a),
            },
        }
    }

    /// The draw that belongs to the uniform value `u`, given that it exceeds `a`.
    #[must_use]
    pub fn sample_given_exceeds(&self, a: f64, u: f64) -> f64 {
        if a <= 0.0 {
            return self.quantile(u);
        }
        let tail = self.survival(a);
        if tail < EXTREME {
            return self.mean_given_exceeds(a);
        }
        self.quantile(1.0 - tail * (1.0 - u)).max(a)
    }
}

/// Mean and standard deviation of the logarithm; `None` where the distribution is a point.
fn log_parameters(mean: f64, cv: f64) -> Option<(f64, f64)> {
    if mean <= 0.0 || cv <= 0.0 {
        return None;
    }
    let variance = (cv * cv).ln_1p();
    Some((mean.ln() - variance / 2.0, variance.sqrt()))
}

/// A distribution given by its observed values, each equally likely.
#[derive(Clone, Debug, PartialEq)]
pub struct Empirical {
    /// Ascending.
    values: Vec<f64>,
    /// `tail_sums[i]` is the sum of `values[i..]`.
    tail_sums: Vec<f64>,
}

impl Empirical {
    /// The distribution of `values`; `None` if there is none or one is not finite.
    #[must_use]
    pub fn new(mut values: Vec<f64>) -> Option<Self> {
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        values.sort_by(f64::total_cmp);
        let mut tail_sums = vec![0.0; values.len() + 1];
        for i in (0..values.len()).rev() {
            tail_sums[i] = tail_sums[i + 1] + values[i];
        }
        Some(Self { values, tail_sums })
    }

    /// The mean of a draw that is known to exceed `a`; at least `a`.
    #[must_use]
    pub fn mean_given_exceeds(&self, a: f64) -> f64 {
        let first = self.first_above(a);
        let count = self.values.len() - first;
        if count == 0 {
            return a;
        }
        self.tail_sums[first] / count as f64
    }

    /// The probability that a draw exceeds `x`, given that it exceeds `a`.
    #[must_use]
    pub fn survival_given_exceeds(&self, a: f64, x: f64) -> f64 {
        let known = self.values.len() - self.first_above(a);
        if known == 0 {
            return f64::from(u8::from(x < a));
        }
        let beyond = self.values.len() - self.first_above(x.max(a));
        beyond as f64 / known as f64
    }

    /// The draw that belongs to the uniform value `u`, given that it exceeds `a`.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the product lies between zero and the number of values"
    )]
    pub fn sample_given_exceeds(&self, a: f64, u: f64) -> f64 {
        let first = self.first_above(a);
        let count = self.values.len() - first;
        if count == 0 {
            return a;
        }
        let offset = ((u * count as f64) as usize).min(count - 1);
        self.values[first + offset]
    }

    fn first_above(&self, a: f64) -> usize {
        if self.values.first().is_some_and(|&least| a < least) {
            return 0;
        }
        self.values.partition_point(|&v| v <= a)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_has_no_memory() {
        let d = Distribution::Exponential { mean: 3.0 };
        assert!((d.mean_given_exceeds(5.0) - 8.0).abs() < 1e-12);
        assert!((d.survival(3.0) - (-1.0f64).exp()).abs() < 1e-12);
    }

    #[test]
    fn lognormal_tail_mean_agrees_with_samples() {
        let d = Distribution::Lognormal { mean: 2.0, cv: 0.8 };
        let a = 2.5;
        let n = 20_000;
        let sampled: f64 = (0..n)
            .map(|i| d.sample_given_exceeds(a, (f64::from(i) + 0.5) / f64::from(n)))
            .sum::<f64>()
            / f64::from(n);
        assert!(
            (sampled - d.mean_given_exceeds(a)).abs() < 0.01,
            "{sampled}"
        );
        let mean: f64 = (0..n)
            .map(|i| d.quantile((f64::from(i) + 0.5) / f64::from(n)))
            .sum::<f64>()
            / f64::from(n);
        assert!((mean - 2.0).abs() < 0.01, "{mean}");
    }

    #[test]
    fn empirical_tail() {
        let d = Empirical::new(vec![4.0, 1.0, 2.0, 3.0]).expect("finite values");
        // Above 2 remain 3 and 4, so the mean is 3.5 and one of two exceeds 3.
        assert!((d.mean_given_exceeds(2.0) - 3.5).abs() < 1e-12);
        assert!((d.survival_given_exceeds(2.0, 3.0) - 0.5).abs() < 1e-12);
        assert!((d.sample_given_exceeds(2.0, 0.9) - 4.0).abs() < 1e-12);
        assert!((d.mean_given_exceeds(9.0) - 9.0).abs() < 1e-12);
    }
}
