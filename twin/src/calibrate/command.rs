//! `twin calibrate`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};

use super::inputs::Inputs;
use super::{CalibrateError, calibrate, report, table};
use crate::recording::Recording;
use crate::replay::testbed::command::write_calibration;

/// Finds the demand of fragments in a recording of a real run.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// Recording: a file of tasks and a file of hosts; the embedded testbed if absent.
    #[arg(long, value_name = "TASKS.CSV,HOSTS.CSV", value_parser = two_paths)]
    recording: Option<(PathBuf, PathBuf)>,
    /// Accuracies, memory, transfers and the rule for deadlines; those of the testbed if absent.
    #[arg(long, value_name = "FILE")]
    inputs: Option<PathBuf>,
    /// Length of the recording's intervals, in s.
    #[arg(long, default_value_t = 5.0)]
    interval_s: f64,
    /// Fit only tasks that start in the intervals A to B - 1.
    #[arg(long, value_name = "A..B", value_parser = window)]
    window: Option<(u32, u32)>,
    /// What to print: tables, all figures, or the world's table of applications.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Also fit CPU use and hosts, and write a calibration for `twin replay` to this file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What `twin calibrate` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables with residuals.
    Text,
    /// All figures as JSON.
    Json,
    /// The table of applications of a world.
    Toml,
}

/// Runs `twin calibrate`.
///
/// # Errors
///
/// If the recording or the inputs cannot be read or do not fit together, or standard output is
/// closed.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let recording = match &args.recording {
        Some((tasks, hosts)) => Recording::load(tasks, hosts),
        None => Recording::embedded(),
    }
    .map_err(CalibrateError::from)?;
    let inputs = match &args.inputs {
        Some(path) => Inputs::load(path)?,
        None => Inputs::embedded()?,
    };
    let calibration = calibrate(&recording, &inputs, args.interval_s, args.window)?;
    if let Some(path) = &args.out {
        let window = calibration.window;
        write_calibration(path, &recording, &inputs, args.interval_s, window)?;
    }
    let text = match args.format {
        Format::Text => report::to_text(&calibration),
        Format::Json => serde_json::to_string_pretty(&calibration)? + "\n",
        Format::Toml => table::to_toml(&table::applications(&calibration, &inputs)?),
    };
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

/// Two paths with a comma between.
fn two_paths(text: &str) -> Result<(PathBuf, PathBuf), String> {
    match text.split_once(',') {
        Some((a, b)) if !a.is_empty() && !b.is_empty() => Ok((a.into(), b.into())),
        _ => Err("expected two paths with a comma between, as in tasks.csv,hosts.csv".into()),
    }
}

/// `A..B` with A below B.
pub(crate) fn window(text: &str) -> Result<(u32, u32), String> {
    let parsed = text
        .split_once("..")
        .and_then(|(a, b)| Some((a.parse::<u32>().ok()?, b.parse::<u32>().ok()?)))
        .filter(|(a, b)| a < b);
    parsed.ok_or_else(|| "expected A..B with whole numbers and A below B, as in 0..350".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_parsed() {
        assert_eq!(window("0..350"), Ok((0, 350)));
        assert!(window("350..0").is_err() && window("350").is_err());
    }
}
