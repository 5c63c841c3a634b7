//! Weighted least squares of a curve, and its error on measurements that it did not see.
//!
//! For a given rate *b*, and exponent *g* of the size, the curve is linear in *a* and *c*: these
//! have a closed form, and only *b* and *g* are searched (variable projection: Golub and Pereyra,
//! SIAM J. Numer. Anal., 1973), first on a grid, then by a compass search whose steps halve.

use serde::Serialize;

use super::curve::{Curve, Family};
use super::measurements::Measurement;

/// The share ρ of a delay at which its uncertainty counts as much as the model's own error.
pub const EQUAL_UNCERTAINTY: f64 = 0.05;

/// Bounds of the rate *b*.
const RATES: (f64, f64) = (1e-3, 100.0);
/// Points of the grid of *b*, spaced evenly on a log scale.
const RATE_STEPS: u32 = 46;
/// Bounds of the exponent *g*.
const EXPONENTS: (f64, f64) = (-4.0, 4.0);
/// Points of the grid of *g*.
const EXPONENT_STEPS: u32 = 16;
/// The search ends when its steps are this small.
const LEAST_STEP: f64 = 1e-11;
/// Steps of the search at most; a few hundred are usual.
const MAX_STEPS: u32 = 20_000;

/// A curve through measurements.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// The curve for requests of the reference size.
    pub curve: Curve,
    /// The exponent of the size; 0 where all requests have one size.
    pub size_exponent: f64,
    /// The size for which the curve holds as it stands, in kB.
    pub reference_kb: f64,
}

/// How far predictions are off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Errors {
    /// Root of the mean weighted square: a share of the delay.
    pub relative: f64,
    /// Root of the mean square, in s.
    pub rmse_s: f64,
}

/// Whether the size of a request matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sizes {
    /// All requests have one size.
    One,
    /// Delays grow with a power of the size.
    Power,
}

/// The weight of a measurement: one over the square of its delay, less where it is uncertain.
fn weight(m: &Measurement) -> f64 {
    1.0 / (m.delay_s.powi(2) + (m.uncertainty_s / EQUAL_UNCERTAINTY).powi(2))
}

impl Fit {
    /// The curve of `family` with the least weighted squares; `None` if there are fewer
    /// measurements than parameters, or no curve that falls with the share.
    #[must_use]
    pub fn of(rows: &[&Measurement], family: Family, sizes: Sizes) -> Option<Self> {
        let parameters =
            2 + usize::from(family.has_offset()) + usize::from(matches!(sizes, Sizes::Power));
        if rows.len() < parameters {
            return None;
        }
        let logs: f64 = rows.iter().map(|m| m.size_kb.ln()).sum();
        let search = Search {
            rows,
            family,
            reference_kb: (logs / rows.len() as f64).exp(),
        };
        let (log_b, g) = search.minimum(sizes);
        let (a_s, c_s, _) = search.linear(log_b.exp(), g)?;
        let least_share = rows.iter().map(|m| m.cpu_share).fold(1.0, f64::min);
        Some(Self {
            curve: Curve {
                family,
                a_s,
                b: log_b.exp(),
                c_s,
                least_share,
            },
            size_exponent: g,
            reference_kb: search.reference_kb,
        })
    }

    /// The curve for requests of `size_kb`.
    #[must_use]
    pub fn curve_for(&self, size_kb: f64) -> Curve {
        self.curve
            .scaled((size_kb / self.reference_kb).powf(self.size_exponent))
    }

    /// How far the fit is off `rows`.
    #[must_use]
    pub fn errors(&self, rows: &[&Measurement]) -> Errors {
        let misses = rows.iter().map(|m| {
            let off = self.curve_for(m.size_kb).delay_s(m.cpu_share) - m.delay_s;
            (weight(m) * off * off, off * off)
        });
        mean(misses)
    }
}

/// The errors of fits that did not see what they predict: each distinct `fold` is left out once.
/// `None` if one of the fits cannot be made.
#[must_use]
pub fn cross_validate(
    rows: &[&Measurement],
    fold: impl Fn(usize) -> usize,
    family: Family,
    sizes: Sizes,
) -> Option<Errors> {
    let mut misses = Vec::new();
    let folds: std::collections::BTreeSet<usize> = (0..rows.len()).map(&fold).collect();
    for left_out in folds {
        let part = |inside: bool| -> Vec<&Measurement> {
            (0..rows.len())
                .filter(|i| (fold(*i) == left_out) == inside)
                .map(|i| rows[i])
                .collect()
        };
        let fit = Fit::of(&part(false), family, sizes)?;
        for m in part(true) {
            let off = fit.curve_for(m.size_kb).delay_s(m.cpu_share) - m.delay_s;
            misses.push((weight(m) * off * off, off * off));
        }
    }
    Some(mean(misses.into_iter()))
}

fn mean(misses: impl Iterator<Item = (f64, f64)>) -> Errors {
    let (mut count, mut weighted, mut plain) = (0u32, 0.0, 0.0);
    for (w, p) in misses {
        count += 1;
        weighted += w;
        plain += p;
    }
    let n = f64::from(count.max(1));
    Errors {
        relative: (weighted / n).sqrt(),
        rmse_s: (plain / n).sqrt(),
    }
}

/// The search for the rate and the exponent.
struct Search<'a> {
    rows: &'a [&'a Measurement],
    family: Family,
    reference_kb: f64,
}

impl Search<'_> {
    /// The best *a* and *c* for given *b* and *g*, and the weighted sum of squares; `None` if no
    /// positive *a* is best.
    fn linear(&self, b: f64, g: f64) -> Option<(f64, f64, f64)> {
        // Sums of the normal equations, with f what a multiplies and s what c multiplies.
        let (mut ff, mut fs, mut ss, mut fd, mut sd, mut dd) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
        for m in self.rows {
            let w = weight(m);
            let s = (m.size_kb / self.reference_kb).powf(g);
            let f = s * self.family.shape(m.cpu_share, b);
            ff += w * f * f;
            fs += w * f * s;
            ss += w * s * s;
            fd += w * f * m.delay_s;
            sd += w * s * m.delay_s;
            dd += w * m.delay_s * m.delay_s;
        }
        let determinant = ff * ss - fs * fs;
        let (mut a, mut c) = (fd / ff, 0.0);
        if self.family.has_offset() && determinant > 1e-12 * ff * ss {
            let offset = (ff * sd - fs * fd) / determinant;
            // A negative offset is not allowed, and the sum of squares is convex in it: then the
            // best that is allowed is none.
            if offset > 0.0 {
                c = offset;
                a = (fd * ss - fs * sd) / determinant;
            }
        }
        let squares = dd - 2.0 * (a * fd + c * sd) + a * a * ff + 2.0 * a * c * fs + c * c * ss;
        (a.is_finite() && a > 0.0 && squares.is_finite()).then_some((a, c, squares))
    }

    fn squares(&self, log_b: f64, g: f64) -> f64 {
        let within = (RATES.0.ln()..=RATES.1.ln()).contains(&log_b)
            && (EXPONENTS.0..=EXPONENTS.1).contains(&g);
        let Some((a, c, _)) = within.then(|| self.linear(log_b.exp(), g)).flatten() else {
            return f64::INFINITY;
        };
        // The sum anew from the residuals: near an exact fit the normal equations cancel.
        self.rows
            .iter()
            .map(|m| {
                let s = (m.size_kb / self.reference_kb).powf(g);
                let model = s * (a * self.family.shape(m.cpu_share, log_b.exp()) + c);
                weight(m) * (model - m.delay_s).powi(2)
            })
            .sum()
    }

    /// ln *b* and *g* of the least sum of squares.
    fn minimum(&self, sizes: Sizes) -> (f64, f64) {
        let (low, high) = (RATES.0.ln(), RATES.1.ln());
        let rate_step = (high - low) / f64::from(RATE_STEPS);
        let exponent_step = (EXPONENTS.1 - EXPONENTS.0) / f64::from(EXPONENT_STEPS);
        let exponents: Vec<f64> = match sizes {
            Sizes::One => vec![0.0],
            Sizes::Power => (0..=EXPONENT_STEPS)
                .map(|i| EXPONENTS.0 + f64::from(i) * exponent_step)
                .collect(),
        };
        let mut best = (f64::INFINITY, low, 0.0);
        for i in 0..=RATE_STEPS {
            let log_b = low + f64::from(i) * rate_step;
            for &g in &exponents {
                let squares = self.squares(log_b, g);
                if squares < best.0 {
                    best = (squares, log_b, g);
                }
            }
        }
        let mut step = [rate_step, exponent_step];
        let axes = exponents.len().min(2);
        for _ in 0..MAX_STEPS {
            if step[..axes].iter().all(|s| *s < LEAST_STEP) {
                break;
            }
            for axis in 0..axes {
                let moved = [-1.0, 1.0].map(|sign| {
                    let along = |i: usize| if i == axis { sign * step[i] } else { 0.0 };
                    let (log_b, g) = (best.1 + along(0), best.2 + along(1));
                    (self.squares(log_b, g), log_b, g)
                });
                let nearest = if moved[0].0 <= moved[1].0 {
                    moved[0]
                } else {
                    moved[1]
                };
                if nearest.0 < best.0 {
                    best = nearest;
                } else {
                    step[axis] /= 2.0;
                }
            }
        }
        (best.1, best.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measurements on the curve, six shares for each size.
    fn on_curve(curve: Curve, g: f64, sizes_kb: &[f64]) -> Vec<Measurement> {
        let mut rows = Vec::new();
        for &size_kb in sizes_kb {
            for cpu_share in [0.1, 0.2, 0.35, 0.5, 0.75, 0.9] {
                rows.push(Measurement {
                    image: format!("{size_kb}"),
                    resolution: "any".into(),
                    size_kb,
                    cpu_share,
                    delay_s: (size_kb / 600.0).powf(g) * curve.delay_s(cpu_share),
                    uncertainty_s: 0.0,
                });
            }
        }
        rows
    }

    fn curve(family: Family, c_s: f64) -> Curve {
        Curve {
            family,
            a_s: 40.0,
            b: 1.7,
            c_s,
            least_share: 0.1,
        }
    }

    #[test]
    fn exact_curves_are_recovered() {
        for (family, c_s) in [
            (Family::Exponential, 0.0),
            (Family::Power, 0.0),
            (Family::ExponentialOffset, 5.0),
            (Family::PowerOffset, 5.0),
        ] {
            let rows = on_curve(curve(family, c_s), 0.0, &[600.0]);
            let rows: Vec<&Measurement> = rows.iter().collect();
            let fit = Fit::of(&rows, family, Sizes::One).expect("six measurements");
            assert!((fit.curve.a_s - 40.0).abs() < 1e-4, "{fit:?}");
            assert!((fit.curve.b - 1.7).abs() < 1e-5, "{fit:?}");
            assert!((fit.curve.c_s - c_s).abs() < 1e-4, "{fit:?}");
            assert!(fit.errors(&rows).relative < 1e-7, "{fit:?}");
        }
    }

    #[test]
    fn the_exponent_of_the_size_is_recovered() {
        let rows = on_curve(curve(Family::Power, 0.0), 1.3, &[300.0, 600.0, 900.0]);
        let rows: Vec<&Measurement> = rows.iter().collect();
        let fit = Fit::of(&rows, Family::Power, Sizes::Power).expect("eighteen measurements");
        assert!((fit.size_exponent - 1.3).abs() < 1e-6, "{fit:?}");
        assert!((fit.curve_for(600.0).a_s - 40.0).abs() < 1e-4, "{fit:?}");
    }

    #[test]
    fn uncertain_measurements_count_less() {
        // Two values at the same share, 10 s exact and 20 s give or take 10 s. Weights are
        // 1 / 10² = 0.01 and 1 / (20² + (10 / 0.05)²) = 1 / 40,400, so that the curve passes at
        // (0.01 · 10 + 20 / 40,400) / (0.01 + 1 / 40,400) = 10.025 s.
        let mut rows = on_curve(curve(Family::Power, 0.0), 0.0, &[600.0]);
        rows.truncate(3);
        for (row, (share, delay_s, uncertainty_s)) in
            rows.iter_mut()
                .zip([(0.5, 10.0, 0.0), (0.5, 20.0, 10.0), (0.1, 50.0, 0.0)])
        {
            (row.cpu_share, row.delay_s, row.uncertainty_s) = (share, delay_s, uncertainty_s);
        }
        let rows: Vec<&Measurement> = rows.iter().collect();
        let fit = Fit::of(&rows, Family::Power, Sizes::One).expect("three measurements");
        assert!((fit.curve.delay_s(0.5) - 10.0247).abs() < 1e-3, "{fit:?}");
    }

    #[test]
    fn too_few_measurements_make_no_fit() {
        let rows = on_curve(curve(Family::Power, 0.0), 0.0, &[600.0]);
        let rows: Vec<&Measurement> = rows.iter().take(3).collect();
        assert_eq!(
            Fit::of(&rows[..2], Family::PowerOffset, Sizes::One),
            None,
            "three parameters from two values"
        );
        assert_eq!(
            cross_validate(&rows, |i| i, Family::PowerOffset, Sizes::One),
            None,
            "each of these fits would see two values"
        );
    }
}
