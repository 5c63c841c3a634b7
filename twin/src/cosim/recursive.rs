//! Recursive estimates with forgetting.
//!
//! - [`Rls`]: recursive least squares with exponential forgetting, `y = xᵀθ + noise`. With gain
//!   `g = P x / (λ r + xᵀ P x)`: `θ ← θ + g (y − xᵀθ)`, `P ← (P − g xᵀ P) / λ` (Ljung, "System
//!   Identification", 1999, section 11.2; `r` is the variance of the noise). Where the input does
//!   not excite a direction, `P` would grow without bound; its diagonal is kept below the prior.
//! - [`Estimate`]: one coefficient of a model that is linear around its value, updated together
//!   with others from the same residual. Cross-covariances are left out, as in the decoupled
//!   extended Kalman filter (Puskorius and Feldkamp, IEEE Trans. Neural Networks 5(2), 1994).
//! - [`Spread`]: a variance that starts from a prior worth some observations.

use serde::Serialize;

/// A coefficient and how uncertain it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Variance of its error.
    pub variance: f64,
}

impl Estimate {
    /// A prior.
    #[must_use]
    pub fn new(value: f64, standard_error: f64) -> Self {
        Self {
            value,
            variance: standard_error * standard_error,
        }
    }

    /// Standard error.
    #[must_use]
    pub fn standard_error(self) -> f64 {
        self.variance.sqrt()
    }

    /// Takes a residual whose derivative by this coefficient is `slope` and whose variance, all
    /// uncertainty included, is `total`. `forgetting` is in (0, 1]; it does not open the estimate
    /// beyond the standard error `most`.
    pub fn update(&mut self, residual: f64, slope: f64, total: f64, forgetting: f64, most: f64) {
        let gain = self.variance * slope / total;
        self.value += gain * residual;
        let most = self.variance.max(most * most);
        self.variance = ((1.0 - gain * slope) * self.variance / forgetting).min(most);
    }

    /// Opens the estimate: at least `standard_error` from now on.
    pub fn open(&mut self, standard_error: f64) {
        self.variance = self.variance.max(standard_error * standard_error);
    }
}

/// Recursive least squares.
#[derive(Clone, Debug, PartialEq)]
pub struct Rls {
    coefficients: Vec<f64>,
    /// Covariance of the coefficients, row by row.
    covariance: Vec<f64>,
    /// The diagonal's upper bounds.
    most: Vec<f64>,
}

impl Rls {
    /// Starts from independent priors.
    #[must_use]
    pub fn new(priors: &[Estimate]) -> Self {
        let n = priors.len();
        let mut covariance = vec![0.0; n * n];
        for (i, prior) in priors.iter().enumerate() {
            covariance[i * n + i] = prior.variance;
        }
        Self {
            coefficients: priors.iter().map(|p| p.value).collect(),
            covariance,
            most: priors.iter().map(|p| p.variance).collect(),
        }
    }

    /// The coefficients.
    #[must_use]
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// Standard error of coefficient `i`.
    #[must_use]
    pub fn standard_error(&self, i: usize) -> f64 {
        self.covariance[i * self.coefficients.len() + i].sqrt()
    }

    /// The value predicted for `x`.
    #[must_use]
    pub fn predict(&self, x: &[f64]) -> f64 {
        dot(&self.coefficients, x)
    }

    /// Variance of that prediction's error, without the noise of an observation.
    #[must_use]
    pub fn variance(&self, x: &[f64]) -> f64 {
        dot(&self.times(x), x)
    }

    /// Takes the residual of an observation at `x`, whose noise has variance `noise`.
    pub fn update(&mut self, x: &[f64], residual: f64, noise: f64, forgetting: f64) {
        let n = self.coefficients.len();
        let px = self.times(x);
        let total = forgetting * noise + dot(&px, x);
        if total <= 0.0 {
            return;
        }
        for (coefficient, p) in self.coefficients.iter_mut().zip(&px) {
            *coefficient += p / total * residual;
        }
        for (row, pi) in self.covariance.chunks_exact_mut(n).zip(&px) {
            for (cell, pj) in row.iter_mut().zip(&px) {
                *cell = (*cell - pi * pj / total) / forgetting;
            }
        }
        self.bound();
    }

    /// Opens all coefficients: their priors' uncertainty is added.
    pub fn open(&mut self) {
        let n = self.coefficients.len();
        for i in 0..n {
            self.covariance[i * n + i] += self.most[i];
        }
        self.bound();
    }

    /// Scales rows and columns so that the diagonal stays below its bounds and correlations stay.
    fn bound(&mut self) {
        let n = self.coefficients.len();
        for i in 0..n {
            let variance = self.covariance[i * n + i];
            if variance > self.most[i] {
                let scale = (self.most[i] / variance).sqrt();
                for j in 0..n {
                    self.covariance[i * n + j] *= scale;
                    self.covariance[j * n + i] *= scale;
                }
            }
        }
    }

    fn times(&self, x: &[f64]) -> Vec<f64> {
        self.covariance
            .chunks_exact(self.coefficients.len())
            .map(|row| dot(row, x))
            .collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// A variance of values around zero.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    sum: f64,
    weight: f64,
}

impl Spread {
    /// A prior worth `weight` observations.
    #[must_use]
    pub fn new(variance: f64, weight: f64) -> Self {
        Self {
            sum: variance * weight,
            weight,
        }
    }

    /// Takes a value.
    pub fn observe(&mut self, value: f64) {
        self.sum += value * value;
        self.weight += 1.0;
    }

    /// The variance.
    #[must_use]
    pub fn variance(self) -> f64 {
        self.sum / self.weight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn least_squares_is_exact_without_noise() {
        // y = 0.5 + 3 a − 2 b: the third independent observation settles all coefficients, up to
        // the weight of the prior, which is 1e-12 of that of an observation.
        let mut rls = Rls::new(&[Estimate::new(0.0, 1e3); 3]);
        for (a, b) in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (2.0, 5.0)] {
            let x = [1.0, a, b];
            let residual = 0.5 + 3.0 * a - 2.0 * b - rls.predict(&x);
            rls.update(&x, residual, 1e-6, 1.0);
        }
        for (found, truth) in rls.coefficients().iter().zip([0.5, 3.0, -2.0]) {
            assert!((found - truth).abs() < 1e-9, "{found} instead of {truth}");
        }
    }

    #[test]
    fn least_squares_equals_the_closed_form() {
        // One coefficient, x = 1, prior 0 with variance 4, noise 1: after 1, 2, 6 the mean is
        // (1 + 2 + 6) / (3 + 1/4) = 36 / 13, its variance 1 / (3 + 1/4) = 4 / 13.
        let mut rls = Rls::new(&[Estimate::new(0.0, 2.0)]);
        for y in [1.0, 2.0, 6.0] {
            rls.update(&[1.0], y - rls.predict(&[1.0]), 1.0, 1.0);
        }
        assert!((rls.coefficients()[0] - 36.0 / 13.0).abs() < 1e-12);
        assert!((rls.variance(&[1.0]) - 4.0 / 13.0).abs() < 1e-12);
    }

    #[test]
    fn forgetting_follows_a_step_and_covariance_stays_bounded() {
        // Memory 1 / (1 − 0.9) = 10: after 60 values of 5 the weight of the 100 values of 1 before
        // is about 0.9^60 = 0.002.
        let mut rls = Rls::new(&[Estimate::new(0.0, 1.0), Estimate::new(0.0, 1.0)]);
        for i in 0..160 {
            let x = [1.0, 0.0];
            let y = if i < 100 { 1.0 } else { 5.0 };
            rls.update(&x, y - rls.predict(&x), 0.01, 0.9);
        }
        assert!((rls.coefficients()[0] - 5.0).abs() < 0.02, "{rls:?}");
        // The second input was never excited; its variance stays at the prior.
        assert!((rls.standard_error(1) - 1.0).abs() < 1e-9, "{rls:?}");
    }

    #[test]
    fn an_estimate_is_the_weighted_mean() {
        // Prior 0 ± 1, observations 3 and 3 with noise 1: (3 + 3) / 3 = 2, variance 1/3.
        let mut estimate = Estimate::new(0.0, 1.0);
        for _ in 0..2 {
            let (residual, total) = (3.0 - estimate.value, estimate.variance + 1.0);
            estimate.update(residual, 1.0, total, 1.0, 1.0);
        }
        assert!((estimate.value - 2.0).abs() < 1e-12);
        assert!((estimate.variance - 1.0 / 3.0).abs() < 1e-12);
    }
}
