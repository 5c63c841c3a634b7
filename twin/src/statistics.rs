//! Means with 95 % confidence intervals over seeds.
//!
//! - The mean of n values has the interval of Student's t: mean ± t(0.975, n − 1) · s / √n
//!   (Student, Biometrika 1908).
//! - Two policies on the same seeds are compared by the mean of their differences, seed by seed:
//!   what the seeds have in common cancels (common random numbers).
//! - A ratio of means has the percentile interval of the bootstrap over seeds (Efron and
//!   Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
//!
//! Left out: corrections for many comparisons. An interval speaks of its own pair and metric only.

use crate::stream::Stream;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// Resamples of a bootstrap.
pub const RESAMPLES: usize = 10_000;

/// Upper end of the central 95 % of a distribution.
const UPPER: f64 = 0.975;

/// A mean and its 95 % confidence interval, in the unit of the values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end of the interval; absent for a single value.
    pub ci95_low: Option<f64>,
    /// Upper end of the interval; absent for a single value.
    pub ci95_high: Option<f64>,
}

impl Estimate {
    /// The mean of `values` with the interval of Student's t; `None` without values.
    ///
    /// ```
    /// use twin::statistics::Estimate;
    /// let estimate = Estimate::of(&[1.0, 3.0]).expect("there are values");
    /// assert_eq!(estimate.mean, 2.0);
    /// assert!(Estimate::of(&[]).is_none());
    /// ```
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mean = mean(values);
        let half = half_width(values, mean);
        Some(Self {
            mean,
            ci95_low: half.map(|h| mean - h),
            ci95_high: half.map(|h| mean + h),
        })
    }

    /// The mean of `a[i] − b[i]` with the interval of Student's t; `None` without values.
    ///
    /// Values beyond the length of the shorter slice are not paired and not used.
    #[must_use]
    pub fn of_differences(a: &[f64], b: &[f64]) -> Option<Self> {
        let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
        Self::of(&differences)
    }

    /// Half the length of the interval; absent for a single value.
    #[must_use]
    pub fn half_width(&self) -> Option<f64> {
        Some((self.ci95_high? - self.ci95_low?) / 2.0)
    }

    /// Whether the interval excludes zero, which is what "better" and "worse" mean for differences.
    #[must_use]
    pub fn excludes_zero(&self) -> bool {
        self.ci95_low.is_some_and(|low| low > 0.0) || self.ci95_high.is_some_and(|high| high < 0.0)
    }
}

/// The arithmetic mean; zero without values.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() {
        0.0
    } else {
        values.iter().sum::<f64>() / values.len() as f64
    }
}

/// t(0.975, n − 1) · s / √n; `None` below two values.
fn half_width(values: &[f64], mean: f64) -> Option<f64> {
    let n = values.len() as f64;
    let student = StudentsT::new(0.0, 1.0, n - 1.0).ok()?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let standard_error = (squares / (n - 1.0) / n).sqrt();
    Some(student.inverse_cdf(UPPER) * standard_error)
}

/// The 95 % percentile interval of `statistic` over resamples of `0..n` with replacement.
///
/// `None` below two units, or if the statistic is undefined for any of the [`RESAMPLES`]
/// resamples: then the interval would speak of the easy ones only.
pub fn bootstrap(
    n: usize,
    stream: &mut Stream,
    statistic: impl Fn(&[usize]) -> Option<f64>,
) -> Option<(f64, f64)> {
    if n < 2 {
        return None;
    }
    let mut resample = vec![0; n];
    let mut found = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        resample.fill_with(|| stream.random_range(0..n));
        found.push(statistic(&resample)?);
    }
    Some((
        quantile(&mut found, 1.0 - UPPER)?,
        quantile(&mut found, UPPER)?,
    ))
}

/// The quantile `q` by the nearest-rank method, the values being reordered; `None` without values.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the rank lies between zero and the number of values"
)]
pub fn quantile(values: &mut [f64], q: f64) -> Option<f64> {
    if values.is_empty() {
        return None;
    }
    let n = values.len();
    let rank = ((q * n as f64).ceil() as usize).clamp(1, n) - 1;
    Some(*values.select_nth_unstable_by(rank, f64::total_cmp).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream;
    use statrs::distribution::Normal;

    #[track_caller]
    fn close(found: Option<f64>, expected: f64) {
        let found = found.expect("the interval exists");
        assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
    }

    #[test]
    fn student_interval_of_four_values() {
        // s² = (2.25 + 0.25 + 0.25 + 2.25) / 3 = 5/3, s / √4 = 0.6454972, t(0.975, 3) = 3.1824463,
        // half width 3.1824463 · 0.6454972 = 2.0542602.
        let estimate = Estimate::of(&[1.0, 2.0, 3.0, 4.0]).expect("there are values");
        close(Some(estimate.mean), 2.5);
        close(estimate.ci95_low, 0.445_739_8);
        close(estimate.ci95_high, 4.554_260_2);
        close(estimate.half_width(), 2.054_260_2);
    }

    #[test]
    fn student_quantiles_are_those_of_the_tables() {
        // Values −1, 1 and so on with s / √n = 1 leave the quantile itself:
        // n = 2: s² = 2, s / √2 = 1, t(0.975, 1) = 12.7062047.
        close(half_width(&[-1.0, 1.0], 0.0), 12.706_204_7);
        // n = 20, ten of each: s² = 20 / 19, s / √20 = 1 / √19, t(0.975, 19) = 2.0930241.
        let values: Vec<f64> = (0..20)
            .map(|i| if i % 2 == 0 { -1.0 } else { 1.0 })
            .collect();
        close(half_width(&values, 0.0), 2.093_024_1 / 19.0_f64.sqrt());
    }

    #[test]
    fn pairing_removes_what_seeds_share() {
        // Differences 1, 2, 3: mean 2, s = 1, s / √3 = 0.5773503, t(0.975, 2) = 4.3026527,
        // half width 2.4841377.
        let a = [101.0, 12.0, 1003.0];
        let b = [100.0, 10.0, 1000.0];
        let estimate = Estimate::of_differences(&a, &b).expect("there are values");
        close(Some(estimate.mean), 2.0);
        close(estimate.ci95_low, 2.0 - 2.484_137_7);
        assert!(!estimate.excludes_zero());
        let certain = Estimate::of_differences(&[2.0, 3.0, 4.0], &[1.0, 2.0, 3.0]);
        assert!(certain.expect("there are values").excludes_zero());
    }

    #[test]
    fn one_value_has_no_interval_and_equal_values_an_empty_one() {
        let one = Estimate::of(&[7.0]).expect("there is a value");
        assert_eq!(
            (one.ci95_low, one.ci95_high, one.half_width()),
            (None, None, None)
        );
        assert!(!one.excludes_zero());
        let equal = Estimate::of(&[7.0, 7.0, 7.0]).expect("there are values");
        assert_eq!((equal.ci95_low, equal.ci95_high), (Some(7.0), Some(7.0)));
    }

    #[test]
    fn nearest_rank_quantiles() {
        let mut values = [40.0, 10.0, 30.0, 20.0];
        // Ranks ⌈0.5 · 4⌉ = 2 and ⌈0.99 · 4⌉ = 4.
        assert_eq!(quantile(&mut values, 0.5), Some(20.0));
        assert_eq!(quantile(&mut values, 0.99), Some(40.0));
        assert_eq!(quantile(&mut values, 0.0), Some(10.0));
        assert_eq!(quantile(&mut [], 0.5), None);
    }

    fn normal(stream: &mut Stream) -> f64 {
        let u: f64 = stream.random::<f64>().clamp(1e-12, 1.0 - 1e-12);
        Normal::standard().inverse_cdf(u)
    }

    #[test]
    fn student_intervals_cover_the_truth_as_often_as_they_say() {
        let mut stream = stream::named(11, "test/coverage");
        let trials = 4_000;
        let covered = (0..trials)
            .filter(|_| {
                let values: Vec<f64> = (0..5).map(|_| 3.0 + 2.0 * normal(&mut stream)).collect();
                let estimate = Estimate::of(&values).expect("there are values");
                estimate.ci95_low.is_some_and(|low| low <= 3.0)
                    && estimate.ci95_high.is_some_and(|high| high >= 3.0)
            })
            .count();
        // The standard error of the share is √(0.95 · 0.05 / 4000) = 0.0034.
        let share = covered as f64 / f64::from(trials);
        assert!((share - 0.95).abs() < 0.011, "{share}");
    }

    #[test]
    fn bootstrap_agrees_with_the_normal_interval_of_a_mean() {
        let mut stream = stream::named(12, "test/bootstrap");
        let values: Vec<f64> = (0..200).map(|_| normal(&mut stream)).collect();
        let of = |picked: &[usize]| {
            Some(picked.iter().map(|&i| values[i]).sum::<f64>() / picked.len() as f64)
        };
        let (low, high) = bootstrap(values.len(), &mut stream, of).expect("all are defined");
        let student = Estimate::of(&values).expect("there are values");
        let (t_low, t_high) = (
            student.ci95_low.expect("n > 1"),
            student.ci95_high.expect("n > 1"),
        );
        // Half widths are near 1.96 / √200 = 0.139; the two differ by a few percent of that.
        assert!((low - t_low).abs() < 0.015, "{low} {t_low}");
        assert!((high - t_high).abs() < 0.015, "{high} {t_high}");
    }

    #[test]
    fn bootstrap_is_deterministic_and_refuses_what_is_undefined() {
        let first = |picked: &[usize]| Some(picked[0] as f64);
        let run = || bootstrap(9, &mut stream::named(1, "test"), first);
        assert_eq!(run(), run());
        assert_eq!(bootstrap(1, &mut stream::named(1, "test"), first), None);
        let partly = |picked: &[usize]| (picked[0] > 0).then_some(1.0);
        assert_eq!(bootstrap(9, &mut stream::named(1, "test"), partly), None);
    }
}
