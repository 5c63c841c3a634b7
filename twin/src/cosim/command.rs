//! `twin cosim`.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;

use super::evaluate::{Evaluation, evaluate};
use super::perturb::{OfHosts, OfWork, Perturbations};
use super::telemetry::{self, Record, TelemetryError};
use super::{CosimError, Mode, Settings, report, source};
use crate::recording::Recording;
use crate::world::World;

/// Name of the embedded recording.
pub const TESTBED: &str = "scinet-testbed";

/// Keeps the twin in step with telemetry, reports drift and recalibrates.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// Recording: "scinet-testbed", or a folder with tasks.csv and hosts.csv.
    #[arg(long, value_name = "NAME|DIR", default_value = TESTBED)]
    recording: String,
    /// Telemetry instead of a recording: JSON Lines; "-" for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["recording", "slow_hosts", "demand_scale", "power_scale", "background"])]
    telemetry: Option<PathBuf>,
    /// The world that is kept in step: a name or a file.
    #[arg(long, default_value = "scinet-16")]
    world: String,
    /// Length of an interval, in s.
    #[arg(long, default_value_t = 5.0)]
    interval_s: f64,
    /// Step to which times are rounded, in s; the interval for recordings and 0 for telemetry if
    /// absent.
    #[arg(long, value_name = "S")]
    resolution_s: Option<f64>,
    /// Intervals in which the model is fitted, before anything is tested.
    #[arg(long, value_name = "N", default_value_t = 200)]
    warmup_intervals: u32,
    /// Mean number of intervals between false alarms of the whole fleet.
    #[arg(long, value_name = "N", default_value_t = 7_000)]
    false_alarm_every: u32,
    /// First interval of perturbations, and of the second part of the comparison; the middle of
    /// the recording if absent.
    #[arg(long, value_name = "N")]
    from_interval: Option<u32>,
    /// Perturbation: speed of hosts, as in 3,7=0.7.
    #[arg(long, value_name = "HOSTS=FACTOR")]
    slow_hosts: Vec<OfHosts>,
    /// Perturbation: demand of an application or of one of its variants, as in blur=1.4.
    #[arg(long, value_name = "APPLICATION[/VARIANT]=FACTOR")]
    demand_scale: Vec<OfWork>,
    /// Perturbation: power of hosts, as in 5=1.1.
    #[arg(long, value_name = "HOSTS=FACTOR")]
    power_scale: Vec<OfHosts>,
    /// Perturbation: share of all virtual CPUs that something else uses, as in 5=0.1.
    #[arg(long, value_name = "HOSTS=SHARE")]
    background: Vec<OfHosts>,
    /// Writes the telemetry to a file.
    #[arg(long, value_name = "FILE")]
    write_telemetry: Option<PathBuf>,
    /// Writes the calibration at the end to a file, as TOML.
    #[arg(long, value_name = "FILE")]
    write_calibration: Option<PathBuf>,
    /// Writes the calibrated world to a file.
    #[arg(long, value_name = "FILE")]
    write_world: Option<PathBuf>,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What `twin cosim` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables.
    Text,
    /// All figures as JSON.
    Json,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Printed<'a> {
    world: &'a str,
    perturbations: &'a Perturbations,
    #[serde(flatten)]
    evaluation: &'a Evaluation,
}

/// Runs `twin cosim`.
///
/// # Errors
///
/// If the world, the recording or the telemetry cannot be read or do not fit together, or a result
/// cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    if !(args.interval_s.is_finite() && args.interval_s > 0.0) {
        return Err(CosimError::Setting {
            name: "--interval-s",
            expected: "above zero",
            value: args.interval_s,
        }
        .into());
    }
    let world = World::load(&args.world)?;
    let (records, perturbations) = input(args)?;
    let exact_s = if args.telemetry.is_some() {
        0.0
    } else {
        args.interval_s
    };
    let settings = Settings {
        warmup_s: f64::from(args.warmup_intervals) * args.interval_s,
        false_alarm_every_s: f64::from(args.false_alarm_every) * args.interval_s,
        resolution_s: args.resolution_s.unwrap_or(exact_s),
        mode: Mode::Recalibrate,
    };
    let change_s = f64::from(perturbations.from_interval) * args.interval_s;
    let evaluation =
        evaluate(&world, &records, settings, change_s).map_err(|error| located(args, error))?;
    if let Some(path) = &args.write_telemetry {
        let lines: String = records.iter().map(|r| r.to_line() + "\n").collect();
        write(path, &lines)?;
    }
    if let Some(path) = &args.write_calibration {
        let text = toml::to_string(&evaluation.calibration).context("cannot write TOML")?;
        write(path, &text)?;
    }
    if let Some(path) = &args.write_world {
        let file = evaluation.calibration.apply(&world.file);
        write(path, &toml::to_string(&file).context("cannot write TOML")?)?;
    }
    let text = match args.format {
        Format::Text => report::to_text(&evaluation, args.interval_s),
        Format::Json => {
            serde_json::to_string_pretty(&Printed {
                world: &world.name,
                perturbations: &perturbations,
                evaluation: &evaluation,
            })? + "\n"
        }
    };
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

/// `error` with the file and line of the record that it is about, if they are known.
fn located(args: &Args, error: CosimError) -> anyhow::Error {
    let (Some(path), CosimError::InList { number, source }) = (&args.telemetry, &error) else {
        return error.into();
    };
    let Ok(text) = std::fs::read_to_string(path) else {
        return error.into();
    };
    let mut lines = (1..)
        .zip(text.lines())
        .filter(|(_, l)| !l.trim().is_empty());
    TelemetryError::Line {
        origin: path.display().to_string(),
        line: lines.nth(number - 1).map_or(0, |(line, _)| line),
        field: source.field().into(),
        problem: source.to_string(),
    }
    .into()
}

/// The telemetry that is asked for, and how it was changed.
fn input(args: &Args) -> anyhow::Result<(Vec<Record>, Perturbations)> {
    let mut perturbations = Perturbations {
        from_interval: args.from_interval.unwrap_or(0),
        slow_hosts: args.slow_hosts.clone(),
        demand: args.demand_scale.clone(),
        power: args.power_scale.clone(),
        background: args.background.clone(),
    };
    if let Some(path) = &args.telemetry {
        let records = read(path)?;
        if args.from_interval.is_none() {
            let last_s = records.last().map_or(0.0, Record::time_s);
            perturbations.from_interval = half(last_s / args.interval_s);
        }
        return Ok((records, perturbations));
    }
    let recording = if args.recording == TESTBED {
        Recording::embedded()?
    } else {
        let folder = Path::new(&args.recording);
        Recording::load(&folder.join("tasks.csv"), &folder.join("hosts.csv"))?
    };
    if args.from_interval.is_none() {
        let last = recording.hosts.iter().map(|h| h.interval).max();
        perturbations.from_interval = half(f64::from(last.unwrap_or(0)));
    }
    let records = source::records(&perturbations.apply(&recording), args.interval_s);
    Ok((records, perturbations))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts from floats saturate, and times are not negative"
)]
fn half(intervals: f64) -> u32 {
    (intervals / 2.0) as u32
}

fn read(path: &Path) -> Result<Vec<Record>, TelemetryError> {
    let origin = path.display().to_string();
    let mut text = String::new();
    let done = if origin == "-" {
        std::io::stdin()
            .lock()
            .read_to_string(&mut text)
            .map(|_| ())
    } else {
        std::fs::read_to_string(path).map(|read| text = read)
    };
    done.map_err(|source| TelemetryError::Read {
        path: origin.clone(),
        source,
    })?;
    telemetry::parse(&text, &origin)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("{}: cannot write", path.display()))
}
