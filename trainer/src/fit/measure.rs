//! How good a network is on rows, by the plain forward pass that also decides online.

use models::encoding::{Encoded, Kind};
use models::forward::Forward;
use models::policy::argmax;
use models::weights::{FORECASTS, Weights};
use rayon::prelude::*;

use super::data::Rows;
use super::loss::{Loss, Scale, Scales, soft_target, soft_target_share};

/// Answers that are worse than the best by less than this share of the kind's scale are as good.
const TIE: f64 = 1e-3;

/// What is measured of the rows of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct KindMeasure {
    /// Number of rows.
    pub(crate) rows: usize,
    /// Mean regret of the answers, in seconds of penalty.
    pub(crate) regret_s: f64,
    /// Share of the answers that are as good as the best.
    pub(crate) accuracy: f64,
    /// Mean regret of the greedy policy's answers, in seconds of penalty.
    pub(crate) greedy_regret_s: f64,
}

/// What is measured of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Measure {
    /// Mean loss.
    pub(crate) loss: Loss,
    /// By [`Kind::index`].
    pub(crate) kinds: [KindMeasure; 3],
    /// Mean over the kinds of their regret in units of their scale.
    pub(crate) regret: f64,
    /// Root of the mean squared error of the forecast.
    pub(crate) forecast_rmse: f64,
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) kind: Kind,
    pub(crate) regret_s: f64,
    pub(crate) greedy_regret_s: f64,
}

impl Answer {
    /// The answer by `scores` to `row`; a row that tells no greedy answer counts as if it were the
    /// best one.
    pub(crate) fn of(rows: &Rows, row: usize, scores: &[f32]) -> Self {
        let regrets = rows.regrets_s(row);
        let regret = |candidate: usize| f64::from(regrets[candidate]);
        Self {
            kind: rows.kind(row),
            regret_s: regret(argmax(&scores[..regrets.len()])),
            greedy_regret_s: rows.greedy(row).map_or(0.0, regret),
        }
    }
}

/// Adds answers up; the order of the calls decides the last digits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    kinds: [KindMeasure; 3],
}

impl Answers {
    /// Adds one.
    pub(crate) fn add(&mut self, answer: &Answer, scales: &Scales) {
        let scale = &scales[answer.kind.index()];
        let kind = &mut self.kinds[answer.kind.index()];
        kind.rows += 1;
        kind.regret_s += answer.regret_s;
        kind.greedy_regret_s += answer.greedy_regret_s;
        if answer.regret_s <= TIE * scale.scale_s {
            kind.accuracy += 1.0;
        }
    }

    /// Means by kind, and the mean over the kinds of the regret in units of the scale.
    pub(crate) fn means(mut self, scales: &Scales) -> ([KindMeasure; 3], f64) {
        let (mut regret, mut kinds) = (0.0, 0.0);
        for (kind, scale) in self.kinds.iter_mut().zip(scales) {
            if kind.rows > 0 {
                let rows = kind.rows as f64;
                kind.regret_s /= rows;
                kind.greedy_regret_s /= rows;
                kind.accuracy /= rows;
                regret += kind.regret_s / scale.scale_s;
                kinds += 1.0;
            }
        }
        (self.kinds, regret / f64::max(kinds, 1.0))
    }
}

/// Measures `weights` on the rows `on`. The result does not depend on the number of threads.
pub(crate) fn measure(rows: &Rows, on: &[usize], weights: &Weights, scales: &Scales) -> Measure {
    let forward = Forward::new(weights);
    let answers: Vec<(Answer, Loss)> = on
        .par_iter()
        .map_init(
            || (forward.clone(), Encoded::default()),
            |(forward, encoded), &row| {
                rows.encoded(row, encoded);
                let scores = forward.scores(encoded);
                let answer = Answer::of(rows, row, scores);
                let scale = &scales[answer.kind.index()];
                let mut loss = policy_loss(rows, row, scores, scale);
                loss.forecast = forecast_error(rows, row, forward.forecast());
                (answer, loss)
            },
        )
        .collect();
    let mut sums = Answers::default();
    let mut loss = Loss::default();
    for (answer, of_row) in &answers {
        sums.add(answer, scales);
        loss.add(of_row);
    }
    let forecasts = on.iter().filter(|row| rows.target_load(**row).is_some());
    let forecasts = forecasts.count().max(1) as f64;
    let (kinds, regret) = sums.means(scales);
    Measure {
        loss: loss.per(on.len().max(1) as f64),
        kinds,
        regret,
        forecast_rmse: (loss.forecast / forecasts).sqrt(),
    }
}

/// The loss of one row but for the forecast, as in training.
fn policy_loss(rows: &Rows, row: usize, scores: &[f32], scale: &Scale) -> Loss {
    let regrets = rows.regrets_s(row);
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let above = |score: &f32| f64::from(score - most);
    let sum: f64 = scores.iter().map(|score| above(score).exp()).sum();
    let weight = scale.row_weight * f64::from(rows.weight(row));
    let share = weight * soft_target_share(regrets, scale);
    let mut loss = Loss::default();
    let targets = soft_target(regrets, scale);
    for ((score, regret), target) in scores.iter().zip(regrets).zip(targets) {
        let log_p = above(score) - sum.ln();
        loss.regret += weight * log_p.exp() * f64::from(*regret) / scale.scale_s;
        loss.soft_target -= share * target * log_p;
    }
    loss
}

fn forecast_error(rows: &Rows, row: usize, forecast: [f32; FORECASTS]) -> f64 {
    let Some(target) = rows.target_load(row) else {
        return 0.0;
    };
    let errors = forecast.iter().zip(target);
    let squares = errors.map(|(found, target)| f64::from(found - target).powi(2));
    squares.sum::<f64>() / FORECASTS as f64
}
