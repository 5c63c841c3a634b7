//! What `twin replay` and `twin calibrate` do with a testbed: recordings and files of calibrations.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;

use super::{Model, Report, calibrate, replay};
use crate::calibrate::inputs::Inputs;
use crate::recording::Recording;
use crate::world::PowerCurve;

/// The name of the recording that is part of the program.
pub const EMBEDDED: &str = "scinet-testbed";
/// The tasks of a recording.
pub const TASKS_FILE: &str = "tasks.csv";
/// The hosts of a recording.
pub const HOSTS_FILE: &str = "hosts.csv";
/// The world whose power curve the testbed's hosts have.
const POWER_OF: &str = "scinet-16";

/// `recording.toml` of a testbed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the recording.
    pub name: String,
    /// Length of an interval, in s.
    pub interval_s: f64,
}

impl Manifest {
    /// That of the recording that is part of the program.
    #[must_use]
    pub fn embedded() -> Self {
        Self {
            name: EMBEDDED.into(),
            interval_s: 5.0,
        }
    }
}

/// What to replay of a testbed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Calibration, as `twin calibrate --out` writes it; made from `fit_window` if `None`.
    pub calibration: Option<PathBuf>,
    /// The intervals to calibrate on where no calibration is given: first, and first after them.
    pub fit_window: (u32, u32),
    /// The intervals to report: first, and first after them.
    pub window: (u32, u32),
    /// Number of replications.
    pub replications: u32,
    /// Seed of the replications.
    pub seed: u64,
}

/// Replays `recording`.
///
/// # Errors
///
/// If the recording cannot be calibrated or the calibration does not fit it.
pub fn run(
    recording: &Recording,
    manifest: &Manifest,
    options: &Options,
) -> anyhow::Result<Report> {
    let model = match &options.calibration {
        Some(path) => Model::load(path)?,
        None => {
            let (inputs, window) = (Inputs::embedded()?, options.fit_window);
            model(recording, &inputs, manifest.interval_s, window)?
        }
    };
    let (window, seed) = (options.window, options.seed);
    Ok(replay(
        recording,
        &model,
        window,
        options.replications,
        seed,
    )?)
}

/// The model of a window, with the power curve of the testbed's world.
fn model(
    recording: &Recording,
    inputs: &Inputs,
    interval_s: f64,
    window: (u32, u32),
) -> anyhow::Result<Model> {
    Ok(calibrate(recording, inputs, power()?, interval_s, window)?)
}

/// The power curve of the testbed's hosts.
fn power() -> anyhow::Result<PowerCurve> {
    let world = crate::World::load(POWER_OF)?;
    let size = world.sizes.first().context("the world has no size of VM")?;
    Ok(size.power)
}

/// Writes the calibration of `window` to `path`.
///
/// # Errors
///
/// If the window cannot be fitted or the file cannot be written.
pub fn write_calibration(
    path: &Path,
    recording: &Recording,
    inputs: &Inputs,
    interval_s: f64,
    window: (u32, u32),
) -> anyhow::Result<()> {
    let text = model(recording, inputs, interval_s, window)?.to_toml()?;
    std::fs::write(path, text).with_context(|| format!("{}: cannot write", path.display()))
}
