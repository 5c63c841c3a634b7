//! What a fit writes about itself: `metrics.json` and the model card.

use std::collections::BTreeMap;
use std::fmt::Write;

use models::encoding::Kind;
use models::folder::Card;
use serde::{Deserialize, Serialize};

use super::data::{Source, Split};
use super::loss::Scales;
use super::measure::{KindMeasure, Measure};
use super::train::Trained;

/// What was measured at the end of an epoch; epoch 0 is before the first.
///
/// Regrets without unit are means over the kinds of the regret in units of the kind's scale; those
/// in `_s` are mean seconds of penalty by kind, both of the answer with the highest score. Figures
/// of training are taken while the epoch goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The epoch, from 0.
    pub epoch: u32,
    /// The learning rate at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Mean loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_loss: Option<f64>,
    /// Mean loss, with the weights that the parts had at the end of the epoch.
    pub validation_loss: f64,
    /// Its part from expected regret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_expected_regret: Option<f64>,
    /// Its part from expected regret.
    pub validation_expected_regret: f64,
    /// Its part from the soft target, without its weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_soft_target_loss: Option<f64>,
    /// Its part from the soft target, without its weight.
    pub validation_soft_target_loss: f64,
    /// Scaled regret, mean over the kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_regret: Option<f64>,
    /// Scaled regret, mean over the kinds; the least decides which epoch is kept.
    pub validation_regret: f64,
    /// Regret by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub train_regret_s: BTreeMap<String, f64>,
    /// Regret by kind.
    pub validation_regret_s: BTreeMap<String, f64>,
    /// Share of the answers that are as good as the best, by kind.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub train_accuracy: BTreeMap<String, f64>,
    /// Share of the answers that are as good as the best, by kind.
    pub validation_accuracy: BTreeMap<String, f64>,
    /// Root of the mean squared error of the forecast, as encoded.
    pub validation_forecast_rmse: f64,
}

impl EpochMetrics {
    pub(crate) fn new(
        epoch: u32,
        soft_target_weight: f64,
        trained: Option<&Trained>,
        validated: &Measure,
    ) -> Self {
        let training = |value: fn(&Trained) -> f64| trained.map(value);
        let kinds = |value: fn(&KindMeasure) -> f64| {
            trained.map_or_else(BTreeMap::new, |trained| by_kind(&trained.kinds, value))
        };
        Self {
            epoch,
            learning_rate: training(|t| t.learning_rate),
            train_loss: training(|t| t.total_loss),
            validation_loss: validated.loss.total(soft_target_weight),
            train_expected_regret: training(|t| t.loss.regret),
            validation_expected_regret: validated.loss.regret,
            train_soft_target_loss: training(|t| t.loss.soft_target),
            validation_soft_target_loss: validated.loss.soft_target,
            train_regret: training(|t| t.regret),
            validation_regret: validated.regret,
            train_regret_s: kinds(|k| k.regret_s),
            validation_regret_s: by_kind(&validated.kinds, |k| k.regret_s),
            train_accuracy: kinds(|k| k.accuracy),
            validation_accuracy: by_kind(&validated.kinds, |k| k.accuracy),
            validation_forecast_rmse: validated.forecast_rmse,
        }
    }

    /// One line for a person.
    pub(crate) fn line(&self, epochs: u32, best: bool) -> String {
        let mut line = format!("epoch {:>3} of {epochs}: ", self.epoch);
        if let Some(loss) = self.train_loss {
            // Writing to a string cannot fail.
            let _ = write!(line, "loss {loss:.4}, ");
        }
        let _ = write!(
            line,
            "validation loss {:.4}, regret {:.4}",
            self.validation_loss, self.validation_regret
        );
        for (kind, regret) in &self.validation_regret_s {
            let accuracy = self.validation_accuracy.get(kind).copied();
            let accuracy = 100.0 * accuracy.unwrap_or_default();
            let _ = write!(line, ", {kind} {regret:.4} s ({accuracy:.0} % best)");
        }
        if best {
            line.push_str(" *");
        }
        line
    }
}

fn by_kind(kinds: &[KindMeasure; 3], value: impl Fn(&KindMeasure) -> f64) -> BTreeMap<String, f64> {
    let pairs = Kind::ALL.iter().zip(kinds);
    pairs
        .filter(|(_, measure)| measure.rows > 0)
        .map(|(kind, measure)| (kind.name().to_owned(), value(measure)))
        .collect()
}

/// The figures of one kind of question on the validation rows, with the weights that are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindMetrics {
    /// Rows that were trained on: those in which the answer matters.
    pub training_rows: usize,
    /// Rows that were validated on.
    pub validation_rows: usize,
    /// Mean regret of the answers, in seconds of penalty.
    pub regret_s: f64,
    /// Mean regret of the greedy policy on the same rows, in seconds of penalty.
    pub greedy_regret_s: f64,
    /// Share of the answers that are as good as the best.
    pub accuracy: f64,
    /// Mean difference between the best and the median answer, in seconds of penalty.
    pub scale_s: f64,
    /// Temperature of the soft target, in seconds of penalty.
    pub temperature_s: f64,
}

/// All of `metrics.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitMetrics {
    /// Rows of all datasets.
    pub rows: usize,
    /// Rows that were trained on.
    pub training_rows: usize,
    /// Rows that were validated on.
    pub validation_rows: usize,
    /// Episodes that were trained on.
    pub training_episodes: usize,
    /// Episodes that were validated on.
    pub validation_episodes: usize,
    /// Parameters that were fitted.
    pub parameters: usize,
    /// Wall-clock seconds of all epochs.
    pub seconds: f64,
    /// The epoch whose weights were kept; 0 if none was better than the start.
    pub best_epoch: u32,
    /// The least scaled regret on the validation rows.
    pub validation_regret: f64,
    /// By kind.
    pub kinds: BTreeMap<String, KindMetrics>,
    /// All epochs.
    pub epochs: Vec<EpochMetrics>,
}

impl FitMetrics {
    pub(crate) fn new(
        rows: usize,
        split: &Split,
        scales: &Scales,
        best: &Measure,
        parameters: usize,
    ) -> Self {
        let kinds = Kind::ALL.into_iter().map(|kind| {
            let (scale, measure) = (&scales[kind.index()], &best.kinds[kind.index()]);
            let metrics = KindMetrics {
                training_rows: scale.rows,
                validation_rows: measure.rows,
                regret_s: measure.regret_s,
                greedy_regret_s: measure.greedy_regret_s,
                accuracy: measure.accuracy,
                scale_s: scale.scale_s,
                temperature_s: scale.temperature_s,
            };
            (kind.name().to_owned(), metrics)
        });
        Self {
            rows,
            training_rows: split.training.len(),
            validation_rows: split.validation.len(),
            training_episodes: split.training_episodes,
            validation_episodes: split.validation_episodes,
            parameters,
            seconds: 0.0,
            best_epoch: 0,
            validation_regret: best.regret,
            kinds: kinds.collect(),
            epochs: Vec::new(),
        }
    }
}

/// The model card.
pub(crate) fn card(world: &str, sources: &[Source], metrics: &FitMetrics) -> Card {
    let mut text = format!(
        "# A policy for {world}\n\n\
        It decides which hosts to keep on, which variant of a model to run for a request, and on \
        which host each fragment runs.\n\
        It was fitted to the values that an oracle, which searches the digital twin, gave to each \
        alternative.\n\n\
        ## Training\n\n\
        | world | seed | rows |\n|---|---|---|\n"
    );
    for source in sources {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            source.world, source.seed, source.rows
        );
    }
    let _ = write!(
        text,
        "\n{} parameters, {} epochs, weights of epoch {}.\n\
        {} rows of {} episodes were trained on, {} rows of {} other episodes validated on.\n\
        Rows in which all alternatives are worth the same were not trained on.\n\n\
        ## Validation\n\n\
        Regret is the mean of what an answer costs more than the best alternative that the oracle \
        priced, in seconds of penalty; an answer that it did not price counts as slightly worse \
        than the worst that it did.\n\n\
        | question | rows | regret (s) | greedy's regret (s) | as good as the best |\n\
        |---|---|---|---|---|\n",
        metrics.parameters,
        metrics.epochs.len().saturating_sub(1),
        metrics.best_epoch,
        metrics.training_rows,
        metrics.training_episodes,
        metrics.validation_rows,
        metrics.validation_episodes,
    );
    for (kind, of_kind) in &metrics.kinds {
        let _ = writeln!(
            text,
            "| {kind} | {} | {:.4} | {:.4} | {:.1} % |",
            of_kind.validation_rows,
            of_kind.regret_s,
            of_kind.greedy_regret_s,
            100.0 * of_kind.accuracy
        );
    }
    text.push_str(
        "\n## Limits\n\n\
        These figures are of single answers; what counts is the closed loop, which `trainer \
        evaluate` measures.\n\
        The model answers on other worlds too, but nothing is promised there before it was \
        measured.\n",
    );
    Card {
        license: "MIT OR Apache-2.0".to_owned(),
        tags: ["scheduling", "imitation-learning", "digital-twin"]
            .map(str::to_owned)
            .to_vec(),
        datasets: sources
            .iter()
            .map(|source| format!("decisions in {}, seed {}", source.world, source.seed))
            .collect(),
        metrics: vec!["regret".to_owned(), "accuracy".to_owned()],
        text,
    }
}
