//! The two-sample Kolmogorov–Smirnov test: whether two samples come from one distribution.
//!
//! `D = sup |F₁(x) − F₂(x)|` over the empirical distribution functions. With
//! `nₑ = n₁ n₂ / (n₁ + n₂)` the probability of a larger `D` is, asymptotically,
//! `Q(λ) = 2 Σ (−1)^(j−1) exp(−2 j² λ²)`, `λ = (√nₑ + 0.12 + 0.11 / √nₑ) D` (Stephens, "Use of the
//! Kolmogorov–Smirnov, Cramér–von Mises and related statistics without extensive tables", J. Royal
//! Stat. Soc. B 32, 1970). Ties make the test more careful, never less.

/// The result of a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ks {
    /// The largest distance of the distribution functions.
    pub distance: f64,
    /// Probability of a distance as large if both samples come from one distribution.
    pub p_value: f64,
}

/// Terms of the series; the last is below 1e-30 wherever the value differs from 1.
const TERMS: u32 = 100;
/// Below this λ the probability differs from 1 by less than 1e-12.
const CERTAIN: f64 = 0.2;

/// Compares two samples; `None` if one is empty or holds a value that is not finite.
#[must_use]
pub fn two_sample(a: &[f64], b: &[f64]) -> Option<Ks> {
    let finite = |list: &[f64]| !list.is_empty() && list.iter().all(|v| v.is_finite());
    if !finite(a) || !finite(b) {
        return None;
    }
    let (a, b) = (sorted(a), sorted(b));
    let (n, m) = (a.len() as f64, b.len() as f64);
    let (mut i, mut j, mut distance) = (0, 0, 0.0_f64);
    while i < a.len() && j < b.len() {
        let value = a[i].min(b[j]);
        i += a[i..].iter().take_while(|v| **v <= value).count();
        j += b[j..].iter().take_while(|v| **v <= value).count();
        distance = distance.max((i as f64 / n - j as f64 / m).abs());
    }
    let root = (n * m / (n + m)).sqrt();
    Some(Ks {
        distance,
        p_value: exceeds((root + 0.12 + 0.11 / root) * distance),
    })
}

/// Kolmogorov's distribution: the probability that its variable exceeds `lambda`.
#[must_use]
pub fn exceeds(lambda: f64) -> f64 {
    if lambda < CERTAIN {
        return 1.0;
    }
    let sum: f64 = (1..=TERMS)
        .map(|j| {
            let sign = if j % 2 == 1 { 2.0 } else { -2.0 };
            sign * (-2.0 * (f64::from(j) * lambda).powi(2)).exp()
        })
        .sum();
    sum.clamp(0.0, 1.0)
}

/// The distance of samples of `n` and `m` values whose p-value is `level`.
#[must_use]
pub fn critical_distance(n: usize, m: usize, level: f64) -> f64 {
    let (n, m) = (n as f64, m as f64);
    let root = (n * m / (n + m)).sqrt();
    let (mut low, mut high) = (0.0, 10.0);
    for _ in 0..60 {
        let lambda = f64::midpoint(low, high);
        if exceeds(lambda) > level {
            low = lambda;
        } else {
            high = lambda;
        }
    }
    high / (root + 0.12 + 0.11 / root)
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // Critical values of Kolmogorov's distribution: 1.2238, 1.3581, 1.6276, 1.9495.
        for (lambda, p) in [
            (1.2238, 0.1),
            (1.3581, 0.05),
            (1.6276, 0.01),
            (1.9495, 0.001),
        ] {
            assert!((exceeds(lambda) / p - 1.0).abs() < 2e-3, "{lambda}");
        }
        assert!((exceeds(0.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_distance_by_hand() {
        // F₁ of 1 2 3 4 and F₂ of 3 4 5 6: at 2 they are 1/2 and 0, at 4 they are 1 and 1/2.
        // nₑ = 2, λ = (1.41421 + 0.12 + 0.077782) / 2 = 0.806;
        // Q = 2 (exp(−1.2993) − exp(−5.1971) + exp(−11.693)) = 2 (0.27272 − 0.00553 + 0.00001).
        let ks = two_sample(&[4.0, 1.0, 3.0, 2.0], &[3.0, 6.0, 5.0, 4.0]).expect("two samples");
        assert!((ks.distance - 0.5).abs() < 1e-12);
        assert!((ks.p_value - 0.5344).abs() < 1e-3, "{}", ks.p_value);
        let again = critical_distance(4, 4, ks.p_value);
        assert!((again - 0.5).abs() < 1e-9, "{again}");
        assert_eq!(two_sample(&[], &[1.0]), None);
        assert_eq!(two_sample(&[f64::NAN], &[1.0]), None);
    }

    #[test]
    fn p_values_are_uniform_enough() {
        // Of 1,000 pairs from one distribution some 5 % are below 0.05: 50 ± 3 · 6.9.
        let sample = |pair: u64, n: u64| -> Vec<f64> {
            (0..n)
                .map(|i| stream::unit(stream::mix(0x5a, pair), i))
                .collect()
        };
        let rejected = (0..1000)
            .filter(|p| {
                let (a, b) = (sample(2 * p, 40), sample(2 * p + 1, 200));
                two_sample(&a, &b).is_some_and(|ks| ks.p_value < 0.05)
            })
            .count();
        assert!((29..=71).contains(&rejected), "{rejected}");
    }
}
