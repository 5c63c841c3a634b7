//! What a fit minimizes.
//!
//! For a row with regrets `r_i` (seconds of penalty) and the softmax `p` of the scores, per kind:
//!
//! ```text
//! regret       Σᵢ pᵢ rᵢ / scale
//! soft target  g · H(q, p),  q = softmax(−r / temperature),  g = max r / (max r + scale)
//! forecast     mean squared error of the forecast of the load
//! ```
//!
//! The first is the *expected regret* of the policy that draws from the softmax: a cost-sensitive
//! loss, in which a mistake weighs what it costs. It is linear in the values, so that the noise of
//! values from sampled futures averages out over rows instead of biasing the answer. Its gradient
//! vanishes where the policy is sure and wrong; the second, whose weight decays, pulls it out of
//! there, and breaks ties among good answers. Rows in which all answers are worth the same weigh
//! nothing.
//!
//! The *scale* of a kind is the mean, over the rows of training, of the difference between the best
//! and the median answer; the *temperature* is a share of the median difference between the best
//! and the next. A kind with fewer rows gets a weight that rises with the square root of how much
//! rarer it is, so that no kind is drowned.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use models::encoding::Kind;
use models::network::Output;
use models::weights::FORECASTS;

use super::data::Rows;

/// Weight of the soft target when the fit starts, and when it ends.
const SOFT_TARGET_WEIGHT: [f64; 2] = [0.5, 0.1];
/// Weight of the forecast.
pub(crate) const FORECAST_WEIGHT: f64 = 0.1;
/// Temperature of the soft target, as a share of the median difference of the best two.
const TEMPERATURE_SHARE: f64 = 0.5;
/// The least temperature, as a share of the scale.
const LEAST_TEMPERATURE: f64 = 1e-3;

/// The weight of the soft target after `done` (0 to 1) of the fit.
pub(crate) fn soft_target_weight(done: f64) -> f64 {
    let [first, last] = SOFT_TARGET_WEIGHT;
    first + (last - first) * done.clamp(0.0, 1.0)
}

/// The units of one kind.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Scale {
    /// Mean difference between the best and the median answer, in seconds; 1 without rows.
    pub(crate) scale_s: f64,
    /// Temperature of the soft target, in seconds.
    pub(crate) temperature_s: f64,
    /// Weight of a row of this kind, its own weight aside.
    pub(crate) row_weight: f64,
    /// Rows of training that matter.
    pub(crate) rows: usize,
}

/// The units of each kind, by [`Kind::index`].
pub(crate) type Scales = [Scale; 3];

/// The units by the rows `training`, all of which matter.
pub(crate) fn scales(rows: &Rows, training: &[usize]) -> Scales {
    let mut scales = Kind::ALL.map(|kind| {
        let of_kind: Vec<usize> = training
            .iter()
            .copied()
            .filter(|&row| rows.kind(row) == kind)
            .collect();
        scale(rows, &of_kind)
    });
    let kinds = scales.iter().filter(|scale| scale.rows > 0).count() as f64;
    let weight = |row: &usize| f64::from(rows.weight(*row));
    let mean_weight = training.iter().map(weight).sum::<f64>() / training.len() as f64;
    let mut total = 0.0;
    for scale in scales.iter_mut().filter(|scale| scale.rows > 0) {
        scale.row_weight = (training.len() as f64 / (kinds * scale.rows as f64)).sqrt();
        total += scale.row_weight * scale.rows as f64;
    }
    for scale in &mut scales {
        scale.row_weight *= training.len() as f64 / (total * mean_weight);
    }
    scales
}

fn scale(rows: &Rows, of_kind: &[usize]) -> Scale {
    let (mut medians, mut most, mut gaps) = (0.0, 0.0, Vec::new());
    for &row in of_kind {
        let mut regrets = rows.regrets_s(row).to_vec();
        regrets.sort_by(f32::total_cmp);
        medians += f64::from(regrets[regrets.len() / 2]);
        most += regrets.last().map_or(0.0, |last| f64::from(*last));
        gaps.extend(regrets.into_iter().find(|regret| *regret > 0.0));
    }
    gaps.sort_by(f32::total_cmp);
    let count = of_kind.len().max(1) as f64;
    // Most answers may be as good as the best; then the worst is what there is to lose.
    let scale_s = match (medians > 0.0, most > 0.0) {
        (true, _) => medians / count,
        (false, true) => most / count,
        (false, false) => 1.0,
    };
    let gap_s = gaps
        .get(gaps.len() / 2)
        .map_or(scale_s, |gap| f64::from(*gap));
    Scale {
        scale_s,
        temperature_s: (TEMPERATURE_SHARE * gap_s).max(LEAST_TEMPERATURE * scale_s),
        row_weight: 0.0,
        rows: of_kind.len(),
    }
}

/// How much the soft target of a row weighs: less where there is little to lose.
pub(crate) fn soft_target_share(regrets_s: &[f32], scale: &Scale) -> f64 {
    let most = regrets_s.iter().copied().fold(0.0, f32::max);
    f64::from(most) / (f64::from(most) + scale.scale_s)
}

/// The soft target: softmax of minus the regrets over the temperature.
pub(crate) fn soft_target(regrets_s: &[f32], scale: &Scale) -> Vec<f64> {
    // The least regret is zero, so no exponential is above one and their sum is at least one.
    let terms: Vec<f64> = regrets_s
        .iter()
        .map(|regret| (-f64::from(*regret) / scale.temperature_s).exp())
        .collect();
    let sum: f64 = terms.iter().sum();
    terms.into_iter().map(|term| term / sum).collect()
}

/// Parts of the loss, per row; one number each in a report, a tensor of one in training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Loss<T = f64> {
    /// Expected regret, in units of the kind's scale.
    pub(crate) regret: T,
    /// Cross entropy against the soft target.
    pub(crate) soft_target: T,
    /// Squared error of the forecast.
    pub(crate) forecast: T,
}

impl Loss {
    /// The weighted sum.
    pub(crate) fn total(&self, soft_target_weight: f64) -> f64 {
        self.regret + soft_target_weight * self.soft_target + FORECAST_WEIGHT * self.forecast
    }

    /// Adds `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        self.regret += other.regret;
        self.soft_target += other.soft_target;
        self.forecast += other.forecast;
    }

    /// Divides by a number of rows.
    pub(crate) fn per(&self, rows: f64) -> Self {
        Self {
            regret: self.regret / rows,
            soft_target: self.soft_target / rows,
            forecast: self.forecast / rows,
        }
    }
}

impl Loss<Tensor<1>> {
    /// The weighted sum.
    pub(crate) fn total(&self, soft_target_weight: f64) -> Tensor<1> {
        self.regret.clone()
            + self.soft_target.clone() * soft_target_weight
            + self.forecast.clone() * FORECAST_WEIGHT
    }

    /// The numbers.
    pub(crate) fn values(&self) -> Loss {
        let value = |tensor: &Tensor<1>| f64::from(tensor.clone().into_scalar::<f32>());
        Loss {
            regret: value(&self.regret),
            soft_target: value(&self.soft_target),
            forecast: value(&self.forecast),
        }
    }
}

/// What a batch of one kind should say: `B` rows, `N` candidates.
pub(crate) struct Targets {
    /// Weighted regrets in units of the scale, `[B, N]`.
    regrets: Tensor<2>,
    /// Weighted soft targets, `[B, N]`.
    soft: Tensor<2>,
    /// The forecast, `[B, FORECASTS]`.
    forecast: Tensor<2>,
    /// One where there is a forecast, over the number of forecasts, `[B, 1]`.
    forecast_weight: Tensor<2>,
}

impl Targets {
    /// The targets of `members`, all of one kind, for batches of `width` candidates.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the network is single precision"
    )]
    pub(crate) fn of(
        rows: &Rows,
        members: &[usize],
        scale: &Scale,
        width: usize,
        device: &Device,
    ) -> Self {
        let count = members.len();
        let mut regrets = vec![0.0_f32; count * width];
        let mut soft = vec![0.0_f32; count * width];
        let mut forecast = Vec::with_capacity(count * FORECASTS);
        let mut forecast_weight = Vec::with_capacity(count);
        for (b, &row) in members.iter().enumerate() {
            let of_row = rows.regrets_s(row);
            let weight = scale.row_weight * f64::from(rows.weight(row));
            for (out, regret) in regrets[b * width..].iter_mut().zip(of_row) {
                *out = (weight * f64::from(*regret) / scale.scale_s) as f32;
            }
            let share = weight * soft_target_share(of_row, scale);
            for (out, target) in soft[b * width..].iter_mut().zip(soft_target(of_row, scale)) {
                *out = (share * target) as f32;
            }
            let target = rows.target_load(row);
            forecast.extend(target.unwrap_or_default());
            forecast_weight.push(target.map_or(0.0, |_| 1.0 / FORECASTS as f32));
        }
        let tensor = |values: Vec<f32>, width| {
            Tensor::from_data(TensorData::new(values, [count, width]), device)
        };
        Self {
            regrets: tensor(regrets, width),
            soft: tensor(soft, width),
            forecast: tensor(forecast, FORECASTS),
            forecast_weight: tensor(forecast_weight, 1),
        }
    }

    /// The loss of `output`, summed over the rows of the batch and divided by `rows`.
    pub(crate) fn loss(self, output: Output, rows: f64) -> Loss<Tensor<1>> {
        let log_p = log_softmax(output.scores, 1);
        let error = (output.forecast - self.forecast).square();
        Loss {
            regret: (log_p.clone().exp() * self.regrets).sum() / rows,
            soft_target: (log_p * self.soft).sum().neg() / rows,
            forecast: (error * self.forecast_weight).sum() / rows,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale {
        scale_s: 2.0,
        temperature_s: 1.0,
        row_weight: 1.0,
        rows: 1,
    };

    #[test]
    fn soft_targets_prefer_what_costs_less() {
        // exp(0) : exp(-1) = 1 : 0.3679, together 1.3679.
        let found = soft_target(&[0.0, 1.0], &SCALE);
        assert!((found[0] - 1.0 / 1.367_879).abs() < 1e-6, "{found:?}");
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // 2 / (2 + 2), and nothing where there is nothing to lose.
        assert!((soft_target_share(&[0.0, 2.0], &SCALE) - 0.5).abs() < 1e-9);
        assert!(soft_target_share(&[0.0, 0.0], &SCALE).abs() < 1e-9);
    }

    #[test]
    fn the_weight_of_the_soft_target_falls() {
        let weights = [0.0, 0.5, 1.0].map(soft_target_weight);
        for (found, expected) in weights.iter().zip([0.5, 0.3, 0.1]) {
            assert!((found - expected).abs() < 1e-12);
        }
    }
}
