//! Sequential tests for a shift of the mean of a standardized stream: CUSUM and Page–Hinkley.
//!
//! Both add up how far the values lie above a reference by more than an allowance `k`, start again
//! at zero whenever the sum would fall below it, and signal when it exceeds a threshold `h`; a
//! second sum does the same below. With `xₜ` in units of its standard deviation:
//!
//! - **CUSUM** (Page, "Continuous inspection schemes", Biometrika 41, 1954): the reference is 0, the
//!   mean that the model predicts: `Sₜ = max(0, Sₜ₋₁ + xₜ − k)`.
//! - **Page–Hinkley** (Hinkley, "Inference about the change-point from cumulative sum tests",
//!   Biometrika 58, 1971): the reference is the mean of the values since the last start, so that a
//!   constant error of the model is no alarm: `mₜ = mₜ₋₁ + xₜ − x̄ₜ − k`, and the statistic
//!   `mₜ − min mₛ` follows the same recursion.
//!
//! **Thresholds** follow from the mean number of values between false alarms (ARL, average run
//! length) by Siegmund's approximation ("Sequential Analysis", 1985, section 2.6) for one side,
//!
//! ```text
//! ARL = (exp(2 k b) − 2 k b − 1) / (2 k²),   b = h + 1.166,
//! ```
//!
//! halved for two sides. For Page–Hinkley it is used too: a mean that is estimated from the values
//! follows them, which makes alarms rarer, not more frequent.
//!
//! The estimated time of the change is where the sum last left zero (the maximum likelihood
//! estimate for a known shift of `2k`), the effect the mean distance from the reference since
//! then, which is biased away from zero because the alarm chose it.
//!
//! Left out: correlated values, which shorten run lengths; who feeds a test sees to that.

use serde::Serialize;

/// Siegmund's correction for the overshoot at both ends, in standard deviations.
const OVERSHOOT: f64 = 1.166;
/// The largest threshold that is considered.
const MAX_THRESHOLD: f64 = 1e4;

/// Allowance and threshold of a test, in standard deviations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// Half of the shift that is to be found fastest.
    pub allowance: f64,
    /// The sum above which the test signals.
    pub threshold: f64,
}

impl Limits {
    /// The threshold at which a two-sided test with `allowance` has `run_length` values between
    /// false alarms, by Siegmund's approximation; zero where even that is more.
    #[must_use]
    pub fn for_run_length(allowance: f64, run_length: f64) -> Self {
        let (mut low, mut high) = (0.0, MAX_THRESHOLD);
        for _ in 0..80 {
            let threshold = f64::midpoint(low, high);
            let limits = Self {
                allowance,
                threshold,
            };
            if limits.run_length() < run_length {
                low = threshold;
            } else {
                high = threshold;
            }
        }
        Self {
            allowance,
            threshold: high,
        }
    }

    /// Mean number of values between false alarms of the two-sided test.
    #[must_use]
    pub fn run_length(self) -> f64 {
        let k = self.allowance;
        let exponent = 2.0 * k * (self.threshold + OVERSHOOT);
        (exponent.exp_m1() - exponent) / (2.0 * k * k) / 2.0
    }
}

/// A test that fired.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signal {
    /// The sum, in standard deviations.
    pub statistic: f64,
    /// What it exceeded.
    pub threshold: f64,
    /// Values since the estimated change, the last one included.
    pub since: usize,
    /// Mean distance from the reference since then, in standard deviations.
    pub effect: f64,
}

/// One of the two sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Side {
    sum: f64,
    /// Values since the sum was last zero.
    since: usize,
    /// Sum of the distances since then.
    distance: f64,
}

impl Side {
    fn observe(&mut self, distance: f64, limits: Limits) -> Option<Signal> {
        self.sum += distance - limits.allowance;
        if self.sum <= 0.0 {
            *self = Self::default();
            return None;
        }
        self.since += 1;
        self.distance += distance;
        (self.sum > limits.threshold).then(|| Signal {
            statistic: self.sum,
            threshold: limits.threshold,
            since: self.since,
            effect: self.distance / self.since as f64,
        })
    }
}

/// Both sums; a signal from below has a negative effect.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sides {
    above: Side,
    below: Side,
}

impl Sides {
    fn observe(&mut self, distance: f64, limits: Limits) -> Option<Signal> {
        let above = self.above.observe(distance, limits);
        let below = self.below.observe(-distance, limits).map(|s| Signal {
            effect: -s.effect,
            ..s
        });
        above.or(below)
    }
}

/// The two-sided CUSUM test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cusum {
    limits: Limits,
    sides: Sides,
}

impl Cusum {
    /// A test with `limits`.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            sides: Sides::default(),
        }
    }

    /// Takes the next value; after a signal call [`Cusum::restart`].
    pub fn observe(&mut self, value: f64) -> Option<Signal> {
        self.sides.observe(value, self.limits)
    }

    /// Starts again at zero.
    pub fn restart(&mut self) {
        *self = Self::new(self.limits);
    }
}

/// The two-sided Page–Hinkley test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PageHinkley {
    limits: Limits,
    sides: Sides,
    count: f64,
    mean: f64,
}

impl PageHinkley {
    /// A test with `limits`.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            sides: Sides::default(),
            count: 0.0,
            mean: 0.0,
        }
    }

    /// Takes the next value; after a signal call [`PageHinkley::restart`].
    pub fn observe(&mut self, value: f64) -> Option<Signal> {
        self.count += 1.0;
        self.mean += (value - self.mean) / self.count;
        self.sides.observe(value - self.mean, self.limits)
    }

    /// Starts again at zero and forgets the mean.
    pub fn restart(&mut self) {
        *self = Self::new(self.limits);
    }
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Normal};

    use super::*;
    use crate::stream;

    fn limits(allowance: f64, threshold: f64) -> Limits {
        Limits {
            allowance,
            threshold,
        }
    }

    fn normal(run: u64, i: u64) -> f64 {
        Normal::standard().inverse_cdf(stream::unit(stream::mix(0xc0_51, run), i))
    }

    #[test]
    fn cusum_by_hand() {
        // k = 0.5, h = 2. Above: 1 − 0.5 = 0.5; 0.5 − 2 − 0.5 < 0 → 0; 1.5 − 0.5 = 1;
        // 1 + 1.2 − 0.5 = 1.7; 1.7 + 1 − 0.5 = 2.2 > 2, three values after the last zero with a
        // mean of (1.5 + 1.2 + 1) / 3 = 3.7 / 3. Below: 0; 2 − 0.5 = 1.5; 1.5 − 1.5 − 0.5 < 0 → 0.
        let mut test = Cusum::new(limits(0.5, 2.0));
        for value in [1.0, -2.0, 1.5, 1.2] {
            assert_eq!(test.observe(value), None);
        }
        let signal = test.observe(1.0).expect("2.2 exceeds 2");
        assert!((signal.statistic - 2.2).abs() < 1e-12);
        assert_eq!(signal.since, 3);
        assert!((signal.effect - 3.7 / 3.0).abs() < 1e-12);
        test.restart();
        // Below: 2 − 0.5 = 1.5; 1.5 + 1.25 − 0.5 = 2.25 > 2.
        assert_eq!(test.observe(-2.0), None);
        let signal = test.observe(-1.25).expect("2.25 exceeds 2");
        assert!((signal.statistic - 2.25).abs() < 1e-12 && (signal.effect + 1.625).abs() < 1e-12);
    }

    #[test]
    fn page_hinkley_by_hand() {
        // k = 0.1, h = 1. Values 0, 0, 1, 1, 2 have running means 0, 0, 1/3, 1/2, 4/5 and distances
        // 0, 0, 2/3, 1/2, 6/5. Sums: 0, 0, 0.5667, 0.9667, 2.0667 > 1.
        let mut test = PageHinkley::new(limits(0.1, 1.0));
        for value in [0.0, 0.0, 1.0, 1.0] {
            assert_eq!(test.observe(value), None);
        }
        let signal = test.observe(2.0).expect("2.0667 exceeds 1");
        let sum = 2.0 / 3.0 + 0.5 + 1.2 - 0.3;
        assert!((signal.statistic - sum).abs() < 1e-12);
        assert_eq!(signal.since, 3);
        // A constant error of the model is no alarm for Page–Hinkley, and one for CUSUM.
        let mut test = PageHinkley::new(limits(0.1, 1.0));
        assert!((0..1000).all(|_| test.observe(0.7).is_none()));
        let mut test = Cusum::new(limits(0.1, 1.0));
        assert!((0..1000).any(|_| test.observe(0.7).is_some()));
    }

    #[test]
    fn run_lengths_are_those_of_the_tables() {
        // k = 0.5: one side (exp(b) − b − 1) / 0.5. For h = 4, b = 5.166: (175.21 − 6.166) / 0.5 =
        // 338.1, two sides 169.0; Montgomery's table has 168. For h = 5: 469.1; the table has 465.
        assert!((limits(0.5, 4.0).run_length() - 169.0).abs() < 0.5);
        assert!((limits(0.5, 5.0).run_length() - 469.1).abs() < 0.5);
        let found = Limits::for_run_length(0.5, 469.1);
        assert!((found.threshold - 5.0).abs() < 1e-3, "{found:?}");
    }

    /// Mean run length over `runs` runs in which `shift` is added to standard normal values.
    fn mean_run(runs: u64, shift: f64, mut observe: impl FnMut(f64, bool) -> bool) -> f64 {
        let mut total = 0u64;
        for run in 0..runs {
            let mut i = 0;
            while !observe(normal(run, i) + shift, i == 0) {
                i += 1;
            }
            total += i + 1;
        }
        total as f64 / runs as f64
    }

    #[test]
    fn false_alarms_are_as_rare_as_designed() {
        // Run lengths are nearly exponential: over 600 runs the mean has a standard error of 4 %.
        let mut test = Cusum::new(Limits::for_run_length(0.5, 300.0));
        let measured = mean_run(600, 0.0, |x, first| {
            if first {
                test.restart();
            }
            test.observe(x).is_some()
        });
        assert!((measured / 300.0 - 1.0).abs() < 0.12, "{measured}");
        let mut test = PageHinkley::new(Limits::for_run_length(0.25, 300.0));
        let measured = mean_run(600, 0.0, |x, first| {
            if first {
                test.restart();
            }
            test.observe(x).is_some()
        });
        assert!(measured > 300.0 * 0.88, "{measured}");
    }

    #[test]
    fn a_shift_is_found_as_fast_as_theory_says() {
        // Siegmund with Δ = δ − k = 0.5 for a shift of δ = 1 and h = 5, b = 6.166:
        // (exp(−b) + b − 1) / 0.5 = (0.0021 + 5.166) / 0.5 = 10.34; the table has 10.4.
        let mut test = Cusum::new(limits(0.5, 5.0));
        let measured = mean_run(600, 1.0, |x, first| {
            if first {
                test.restart();
            }
            test.observe(x).is_some()
        });
        assert!((measured - 10.4).abs() < 0.6, "{measured}");
    }
}
