//! How far predictions are from measurements.

use serde::{Deserialize, Serialize};

/// What was predicted, and what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// The prediction.
    pub predicted: f64,
    /// The measurement, above zero.
    pub measured: f64,
}

/// Errors of power over the bins of a window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Bins compared.
    pub bins: usize,
    /// Mean of |predicted − measured| / measured, in percent.
    pub mape_percent: f64,
    /// Mean of (predicted − measured) / measured, in percent.
    pub bias_percent: f64,
    /// Root of the mean square of predicted − measured, in W.
    pub rmse_w: f64,
    /// Spearman's rank correlation over the bins.
    pub rank_correlation: f64,
    /// Mean measured power, in W.
    pub measured_mean_w: f64,
    /// Mean predicted power, in W.
    pub predicted_mean_w: f64,
}

/// The score of `pairs`; `None` if there are none.
#[must_use]
pub fn score(pairs: &[Pair]) -> Option<Score> {
    if pairs.is_empty() {
        return None;
    }
    let mean =
        |value: &dyn Fn(&Pair) -> f64| pairs.iter().map(value).sum::<f64>() / pairs.len() as f64;
    let error = |pair: &Pair| pair.predicted - pair.measured;
    let predicted: Vec<f64> = pairs.iter().map(|pair| pair.predicted).collect();
    let measured: Vec<f64> = pairs.iter().map(|pair| pair.measured).collect();
    Some(Score {
        bins: pairs.len(),
        mape_percent: 100.0 * mean(&|pair| error(pair).abs() / pair.measured),
        bias_percent: 100.0 * mean(&|pair| error(pair) / pair.measured),
        rmse_w: mean(&|pair| error(pair).powi(2)).sqrt(),
        rank_correlation: spearman(&predicted, &measured),
        measured_mean_w: mean(&|pair| pair.measured),
        predicted_mean_w: mean(&|pair| pair.predicted),
    })
}

/// Spearman's rank correlation: Pearson's over the ranks, ties having their mean rank. It is 0
/// where one side has a single rank.
#[must_use]
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let middle = (a.len() as f64 - 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| -> f64 {
        x.iter()
            .zip(y)
            .map(|(x, y)| (x - middle) * (y - middle))
            .sum()
    };
    let spread = (product(&a, &a) * product(&b, &b)).sqrt();
    if spread > 0.0 {
        product(&a, &b) / spread
    } else {
        0.0
    }
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut rank = 0;
    for ties in order.chunk_by(|&i, &j| values[i].total_cmp(&values[j]).is_eq()) {
        for &index in ties {
            ranks[index] = rank as f64 + (ties.len() - 1) as f64 / 2.0;
        }
        rank += ties.len();
    }
    ranks
}

/// The `share` quantile of `values`, linear between neighbors; 0 if there are none.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the position lies within the list"
)]
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(&last) = sorted.last() else {
        return 0.0;
    };
    let position = share.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let below = position as usize;
    let above = sorted.get(below + 1).copied().unwrap_or(last);
    sorted[below] + (above - sorted[below]) * (position - below as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_what_was_measured() {
        let pair = |predicted, measured| Pair {
            predicted,
            measured,
        };
        let score = score(&[pair(110.0, 100.0), pair(180.0, 200.0)]).expect("two bins");
        // 10 % above and 10 % below; √((10² + 20²) / 2) = √250
        assert!((score.mape_percent - 10.0).abs() < 1e-9);
        assert!(score.bias_percent.abs() < 1e-9);
        assert!((score.rmse_w - 250.0_f64.sqrt()).abs() < 1e-9);
        assert!((score.rank_correlation - 1.0).abs() < 1e-9);
    }

    #[test]
    fn ranks_share_ties() {
        assert!((spearman(&[1.0, 2.0, 3.0], &[9.0, 5.0, 1.0]) + 1.0).abs() < 1e-12);
        // Ranks 0.5, 0.5, 2 against 0, 1, 2: centered −.5, −.5, 1 and −1, 0, 1;
        // Σ = .5 + 1 = 1.5, spread √(1.5 · 2).
        let expected = 1.5 / 3.0_f64.sqrt();
        assert!((spearman(&[4.0, 4.0, 7.0], &[1.0, 2.0, 3.0]) - expected).abs() < 1e-12);
        assert!(spearman(&[4.0, 4.0], &[1.0, 2.0]).abs() < 1e-12);
    }

    #[test]
    fn quantiles_are_between_neighbors() {
        // Position 0.25 · 4 = 1.
        assert!((quantile(&[5.0, 1.0, 2.0, 3.0, 4.0], 0.25) - 2.0).abs() < 1e-12);
        // Position 0.5 · 1 = 0.5, half way from 1 to 2.
        assert!((quantile(&[2.0, 1.0], 0.5) - 1.5).abs() < 1e-12);
    }
}
