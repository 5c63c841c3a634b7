//! `twin fit-delay`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};

use super::measurements::Measurements;
use super::report::Report;

/// Finds the curve of delay against CPU share behind measurements.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// Measured delays as CSV; those of the embedded object detector if absent.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Tell the CPU share that each group needs for this delay, in s.
    #[arg(long, value_name = "SECONDS", value_parser = positive)]
    tolerate_s: Option<f64>,
    /// What to print: a table, or all figures.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What `twin fit-delay` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables, the best family first.
    Text,
    /// All figures as JSON.
    Json,
}

/// Runs `twin fit-delay`.
///
/// # Errors
///
/// If the measurements cannot be read, or standard output is closed.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let measurements = match &args.file {
        Some(path) => Measurements::load(path)?,
        None => Measurements::embedded()?,
    };
    let report = Report::of(&measurements);
    let text = match args.format {
        Format::Text => report.to_text(args.tolerate_s),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    };
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|s: &f64| s.is_finite() && *s > 0.0)
        .ok_or_else(|| "expected a number of seconds above 0".into())
}
