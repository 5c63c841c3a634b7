//! What a fit found, as a TOML file.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ReplayError;
use super::fit::{Model, Trial};
use super::rows::read_text;
use super::score::Score;
use super::window::Span;
use crate::container::power::{NodePower, NodePowerFile};

/// The version of the file.
pub const VERSION: u32 = 1;

/// A calibration of the power of nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Name of the recording that it was fitted to.
    pub recording: String,
    /// Length of the bins, in s.
    pub bin_s: f64,
    /// The bins that it was fitted to.
    pub fit: Span,
    /// The models, that to use first.
    pub trials: Vec<Trial>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    recording: String,
    bin_s: f64,
    fit: Span,
    trials: Vec<TrialFile>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrialFile {
    model: Model,
    interval_low: f64,
    interval_high: f64,
    power: NodePowerFile,
    fitted: Score,
    cross_validated: Score,
}

impl Calibration {
    /// The model to use; `None` only if the list was emptied.
    #[must_use]
    pub fn best(&self) -> Option<&Trial> {
        self.trials.first()
    }

    /// The text of the file.
    ///
    /// # Errors
    ///
    /// Never for numbers that are finite.
    pub fn to_toml(&self) -> Result<String, toml::ser::Error> {
        let trials = self.trials.iter().map(|trial| TrialFile {
            model: trial.model,
            interval_low: trial.interval.0,
            interval_high: trial.interval.1,
            power: NodePowerFile::from(&trial.power),
            fitted: trial.fitted,
            cross_validated: trial.cross_validated,
        });
        toml::to_string(&File {
            version: VERSION,
            recording: self.recording.clone(),
            bin_s: self.bin_s,
            fit: self.fit,
            trials: trials.collect(),
        })
    }

    /// The calibration in the file at `path`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is wrong.
    pub fn load(path: &Path) -> Result<Self, ReplayError> {
        Self::parse(&read_text(path)?).map_err(|problem| ReplayError::file(path, problem))
    }

    /// The calibration in `text`.
    ///
    /// # Errors
    ///
    /// A message that names the field.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File =
            toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
        if file.version != VERSION {
            return Err(format!(
                "version: expected {VERSION}, found {}",
                file.version
            ));
        }
        if file.trials.is_empty() {
            return Err("trials: expected at least one".into());
        }
        let trials = file.trials.into_iter().enumerate().map(|(index, trial)| {
            let power = NodePower::try_from(trial.power)
                .map_err(|error| format!("trials[{index}].power.{error}"))?;
            if !(0.0 < trial.interval_low && trial.interval_low <= trial.interval_high) {
                return Err(format!(
                    "trials[{index}].interval_low: must be above zero and not above interval_high"
                ));
            }
            Ok(Trial {
                model: trial.model,
                power,
                fitted: trial.fitted,
                cross_validated: trial.cross_validated,
                interval: (trial.interval_low, trial.interval_high),
            })
        });
        Ok(Self {
            recording: file.recording,
            bin_s: file.bin_s,
            fit: file.fit,
            trials: trials.collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calibration() -> Calibration {
        let score = Score {
            bins: 2,
            mape_percent: 1.5,
            bias_percent: -0.5,
            rmse_w: 3.0,
            rank_correlation: 0.9,
            measured_mean_w: 100.0,
            predicted_mean_w: 99.5,
        };
        let power = NodePower::try_from(NodePowerFile {
            idle_w: 30.0,
            allocated_w: 5.0,
            utilization: vec![0.0, 1.0],
            extra_w: vec![0.0, 1.0 / 3.0],
        });
        Calibration {
            recording: "two".into(),
            bin_s: 150.0,
            fit: Span {
                from_interval: 0,
                until_interval: 10,
            },
            trials: vec![Trial {
                model: Model::Curve,
                power: power.expect("a curve"),
                fitted: score,
                cross_validated: score,
                interval: (0.97, 1.02),
            }],
        }
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let text = calibration().to_toml().expect("finite numbers");
        assert_eq!(Calibration::parse(&text), Ok(calibration()));
    }

    #[test]
    fn errors_name_the_field() {
        let text = calibration().to_toml().expect("finite numbers");
        let problem = |from: &str, to: &str| {
            assert!(text.contains(from), "{text}");
            Calibration::parse(&text.replace(from, to)).expect_err("a field is wrong")
        };
        assert_eq!(
            problem("version = 1", "version = 2"),
            "version: expected 1, found 2"
        );
        assert!(problem("idle_w = 30.0", "idle_w = -1.0").starts_with("trials[0].power.idle_w:"));
        assert!(problem("interval_low = 0.97", "interval_low = nan").contains("interval_low"));
        assert!(problem("bin_s", "bin").contains("unknown field `bin`"));
    }
}
