//! `twin replay` of a testbed, and the file that `twin calibrate --out` writes.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};

use super::{Model, TestbedError, calibrate, replay, to_text};
use crate::calibrate::{command::window, inputs::Inputs};
use crate::recording::Recording;
use crate::world::PowerCurve;

/// The name of the recording that is part of the program.
pub const EMBEDDED: &str = "scinet-testbed";
/// The world whose power curve the testbed's hosts have.
const POWER_OF: &str = "scinet-16";

/// Drives the twin with the recorded decisions of a testbed and compares what it predicts.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// Recording: `scinet-testbed`, which is part of the program, or a folder with tasks.csv and
    /// hosts.csv.
    #[arg(long, value_name = "DIR", default_value = EMBEDDED)]
    recording: PathBuf,
    /// Calibration, as `twin calibrate --out` writes it; made from `--calibrate-on` if absent.
    #[arg(long, value_name = "FILE")]
    calibration: Option<PathBuf>,
    /// Calibrate on the intervals A to B - 1 where no calibration is given.
    #[arg(long, value_name = "A..B", value_parser = window, default_value = "0..350")]
    calibrate_on: (u32, u32),
    /// Report the intervals A to B - 1.
    #[arg(long, value_name = "A..B", value_parser = window, default_value = "350..701")]
    window: (u32, u32),
    /// Number of replications.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    replications: u32,
    /// Seed of the replications.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How to print the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What `twin replay` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables.
    Text,
    /// All figures as JSON.
    Json,
}

/// Runs `twin replay` of a testbed.
///
/// # Errors
///
/// If the recording or the calibration cannot be read or do not fit together, or standard output
/// is closed.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let recording = load(&args.recording)?;
    let model = match &args.calibration {
        Some(path) => Model::load(path)?,
        None => model(&recording, &Inputs::embedded()?, 5.0, args.calibrate_on)?,
    };
    let report = replay(
        &recording,
        &model,
        args.window,
        args.replications,
        args.seed,
    )?;
    let text = match args.format {
        Format::Text => to_text(&report),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

/// The recording of that name or in that folder.
fn load(path: &Path) -> Result<Recording, TestbedError> {
    Ok(if path == Path::new(EMBEDDED) {
        Recording::embedded()?
    } else {
        Recording::load(&path.join("tasks.csv"), &path.join("hosts.csv"))?
    })
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
