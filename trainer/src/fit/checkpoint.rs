//! Checkpoints: the weights and the optimizer's state after each epoch, and what was measured.
//!
//! `state.json` is written last and names the others by their epoch, so that a fit that is killed at
//! any moment goes on from the last epoch that was kept whole. Only the last and the best epoch are
//! kept. A finished model does not need the folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use models::weights::{Weights, Widths};
use serde::{Deserialize, Serialize};

use super::metrics::EpochMetrics;
use crate::files::{create_folder, write_atomic};

/// Folder of the checkpoints within that of the model.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";
const STATE_FILE: &str = "state.json";

/// What was reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// What the fit depends on.
    pub(crate) fingerprint: String,
    pub(crate) widths: Widths,
    /// Wall-clock seconds so far.
    pub(crate) seconds: f64,
    /// From epoch 0 to the last.
    pub(crate) epochs: Vec<EpochMetrics>,
}

impl State {
    /// The last epoch.
    pub(crate) fn epoch(&self) -> u32 {
        self.epochs.last().map_or(0, |last| last.epoch)
    }

    /// The epoch of the least regret on the validation rows; of equals that of the least expected
    /// regret, then the first.
    pub(crate) fn best_epoch(&self) -> u32 {
        let key = |e: &EpochMetrics| [e.validation_regret, e.validation_expected_regret];
        self.least(key)
    }

    /// Epochs since the regret or the expected regret on the validation rows was the least so far.
    ///
    /// Scores may come closer to the oracle's order for a while before any answer changes.
    pub(crate) fn stale_epochs(&self) -> u32 {
        let expected = self.least(|epoch| [epoch.validation_expected_regret, 0.0]);
        self.epoch() - self.best_epoch().max(expected)
    }

    fn least(&self, key: impl Fn(&EpochMetrics) -> [f64; 2]) -> u32 {
        let mut best = ([f64::INFINITY; 2], 0);
        for epoch in &self.epochs {
            if key(epoch) < best.0 {
                best = (key(epoch), epoch.epoch);
            }
        }
        best.1
    }
}

/// The folder of checkpoints.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoints(PathBuf);

impl Checkpoints {
    /// Those of the model folder `model`.
    pub(crate) fn of(model: &Path) -> Self {
        Self(model.join(CHECKPOINTS_FOLDER))
    }

    /// Removes the checkpoints of an earlier fit.
    pub(crate) fn clear(&self) -> Result<()> {
        match fs::remove_file(self.0.join(STATE_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let file = self.0.join(STATE_FILE);
                Err(error).with_context(|| format!("cannot remove {}", file.display()))
            }
            _ => self.remove_but(&[]),
        }
    }

    /// Keeps `weights` and `optimizer` as of the last epoch of `state`.
    pub(crate) fn save(&self, state: &State, weights: &Weights, optimizer: &[u8]) -> Result<()> {
        create_folder(&self.0)?;
        let epoch = state.epoch();
        write_atomic(&self.weights_path(epoch), &weights.to_safetensors()?)?;
        write_atomic(&self.optimizer_path(epoch), optimizer)?;
        let json = serde_json::to_string_pretty(state)? + "\n";
        write_atomic(&self.0.join(STATE_FILE), json.as_bytes())?;
        self.remove_but(&[epoch, state.best_epoch()])
    }

    /// What was reached by a fit with this `fingerprint`; `None` if there is no checkpoint.
    pub(crate) fn load(&self, fingerprint: &str) -> Result<Option<State>> {
        let path = self.0.join(STATE_FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let state: State = serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is malformed; start again without --resume",
                path.display()
            )
        })?;
        if state.fingerprint != fingerprint {
            bail!(
                "{} is of a fit with other datasets or arguments; give those again, or start anew without --resume",
                path.display()
            );
        }
        Ok(Some(state))
    }

    /// The weights after `epoch`.
    pub(crate) fn weights(&self, widths: Widths, epoch: u32) -> Result<Weights> {
        let path = self.weights_path(epoch);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Weights::from_safetensors(widths, &bytes).with_context(|| {
            format!(
                "{} is malformed; start again without --resume",
                path.display()
            )
        })
    }

    /// The optimizer's state after `epoch`.
    pub(crate) fn optimizer(&self, epoch: u32) -> Result<Vec<u8>> {
        let path = self.optimizer_path(epoch);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    fn weights_path(&self, epoch: u32) -> PathBuf {
        self.0.join(format!("epoch-{epoch:05}.safetensors"))
    }

    fn optimizer_path(&self, epoch: u32) -> PathBuf {
        self.0.join(format!("epoch-{epoch:05}.optimizer.bpk"))
    }

    /// Removes the files of all epochs but `kept`.
    fn remove_but(&self, kept: &[u32]) -> Result<()> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.with_context(|| format!("cannot read {}", self.0.display()))?,
        };
        for entry in entries {
            let path = entry
                .with_context(|| format!("cannot read {}", self.0.display()))?
                .path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let stays = kept
                .iter()
                .any(|epoch| name.starts_with(&format!("epoch-{epoch:05}.")));
            if name.starts_with("epoch-") && !stays {
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_epoch_has_the_least_regret_and_expects_the_least() {
        let pairs = [
            (2.0, 5.0),
            (1.0, 4.0),
            (1.0, 3.0),
            (1.0, 3.0),
            (1.5, 2.0),
            (1.5, 2.5),
        ];
        let epochs = (0..)
            .zip(pairs)
            .map(|(epoch, (regret, expected))| EpochMetrics {
                epoch,
                validation_regret: regret,
                validation_expected_regret: expected,
                ..EpochMetrics::default()
            });
        let state = State {
            fingerprint: String::new(),
            widths: Widths::default(),
            seconds: 0.0,
            epochs: epochs.collect(),
        };
        // The least regret is first expected to be as low in epoch 2; the least expected in 4.
        assert_eq!((state.best_epoch(), state.stale_epochs()), (2, 1));
    }
}
