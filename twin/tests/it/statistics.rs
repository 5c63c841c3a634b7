//! Confidence intervals of means over independent runs.
//!
//! A *control* is a quantity of the same run whose true mean is known, such as the load that the
//! arrivals brought: regressing on it takes out what is mere luck of the draw (control variates:
//! Lavenberg and Welch, Management Science 27, 1981).

use serde_json::json;
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::validation;

/// Confidence of every interval of the tests: the seeds are fixed, so a test that passes once
/// passes always.
const CONFIDENCE: f64 = 0.99;

/// An interval that holds the true mean with probability [`CONFIDENCE`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval {
    pub(crate) mean: f64,
    pub(crate) half_width: f64,
}

impl Interval {
    /// Student's interval of the mean of `values`.
    pub(crate) fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        Self {
            mean,
            half_width: student(n - 1.0) * (squares / (n - 1.0) / n).sqrt(),
        }
    }

    /// The interval of the mean of the first values of `pairs`, whose second values are a control
    /// with mean `known`: the regression line at `known`.
    pub(crate) fn controlled(pairs: &[(f64, f64)], known: f64) -> Self {
        let n = pairs.len() as f64;
        let y_mean = pairs.iter().map(|p| p.0).sum::<f64>() / n;
        let x_mean = pairs.iter().map(|p| p.1).sum::<f64>() / n;
        let xx: f64 = pairs.iter().map(|p| (p.1 - x_mean).powi(2)).sum();
        let xy: f64 = pairs.iter().map(|p| (p.1 - x_mean) * (p.0 - y_mean)).sum();
        let slope = xy / xx;
        let residual = |p: &(f64, f64)| p.0 - y_mean - slope * (p.1 - x_mean);
        let variance = pairs.iter().map(|p| residual(p).powi(2)).sum::<f64>() / (n - 2.0);
        let spread = 1.0 / n + (known - x_mean).powi(2) / xx;
        Self {
            mean: y_mean + slope * (known - x_mean),
            half_width: student(n - 2.0) * (variance * spread).sqrt(),
        }
    }

    /// Asserts that the interval holds `theory` and is narrower than `relative` of it, each way.
    #[track_caller]
    pub(crate) fn confirms(&self, theory: f64, relative: f64, what: &str) {
        self.tells(theory, relative * theory.abs(), what);
    }

    /// Asserts that the interval holds `theory` and is at most `widest` wide, each way.
    #[track_caller]
    pub(crate) fn tells(&self, theory: f64, widest: f64, what: &str) {
        let Self { mean, half_width } = *self;
        let figures = json!({
            "theory": theory,
            "mean": mean,
            "half_width": half_width,
            "widest": widest,
            "confidence": CONFIDENCE,
        });
        validation::note("interval", what, &figures);
        assert!(
            half_width <= widest,
            "{what}: {mean} ± {half_width} is too wide to tell {theory}"
        );
        assert!(
            (mean - theory).abs() <= half_width,
            "{what}: {mean} ± {half_width} is not {theory}"
        );
    }
}

/// The two-sided quantile of Student's distribution.
fn student(freedom: f64) -> f64 {
    StudentsT::new(0.0, 1.0, freedom)
        .expect("there is freedom")
        .inverse_cdf(0.5 + CONFIDENCE / 2.0)
}

/// Asserts that the largest of some differences is at most `most`.
#[track_caller]
pub(crate) fn at_most(largest: f64, most: f64, what: &str) {
    let figures = json!({ "largest": largest, "most": most });
    validation::note("difference", what, &figures);
    assert!(largest <= most, "{what}: {largest:e}, more than {most:e}");
}

/// The difference of two numbers, relative to the larger.
pub(crate) fn relative_difference(found: f64, wanted: f64) -> f64 {
    let scale = found.abs().max(wanted.abs()).max(f64::MIN_POSITIVE);
    (found - wanted).abs() / scale
}

/// Asserts that two numbers are equal but for rounding.
#[track_caller]
pub(crate) fn close(found: f64, wanted: f64, relative: f64, what: &str) {
    assert!(
        relative_difference(found, wanted) <= relative,
        "{what}: {found}, not {wanted}"
    );
}
