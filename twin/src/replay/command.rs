//! `twin replay`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};

use super::calibration::Calibration;
use super::window::{Span, Window};
use super::{Manifest, ReplayError, containers, energy, fit, measured, page, report};
use crate::units::SimTime;

/// Drive the twin with a recording of a real system, and compare.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// Folder of the recording, with a recording.toml.
    #[arg(long, value_name = "DIR")]
    pub recording: PathBuf,
    /// Measured power of the cluster: a CSV file of time_ms,power_w.
    #[arg(long, value_name = "FILE")]
    pub power: Option<PathBuf>,
    /// Power of nodes as an earlier replay saved it.
    #[arg(long, value_name = "FILE", conflicts_with = "fit_window")]
    pub calibration: Option<PathBuf>,
    /// Fit the power of nodes to this window: intervals as in 0..350, or times as in 0d..2d.
    #[arg(long, value_name = "A..B", requires = "power")]
    pub fit_window: Option<Window>,
    /// Save what was fitted.
    #[arg(long, value_name = "FILE", requires = "fit_window")]
    pub save_calibration: Option<PathBuf>,
    /// Report errors on this window; everything that was recorded if absent.
    #[arg(long, value_name = "A..B")]
    pub window: Option<Window>,
    /// Length of the bins in which results are compared, in s; that of the recording if absent.
    #[arg(long)]
    pub bin_s: Option<f64>,
    /// Number of hosts; that of the recording if absent.
    #[arg(long)]
    pub hosts: Option<usize>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Also write a page with predicted and measured power over time.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// What `twin replay` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people.
    Text,
    /// All figures as JSON.
    Json,
}

/// Runs `twin replay`.
///
/// # Errors
///
/// If the recording cannot be read, does not fit the options, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let text = match Manifest::load(&args.recording)? {
        Manifest::Containers(manifest) => replay_containers(args, manifest)?,
        Manifest::HostEnergy(manifest) => replay_energy(args, &manifest)?,
        Manifest::Testbed(_) => {
            return Err(ReplayError::file(
                &args.recording.join(super::MANIFEST_FILE),
                "kind: \"testbed\" cannot be replayed; use twin calibrate for its demands",
            )
            .into());
        }
    };
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

fn replay_containers(args: &Args, manifest: containers::Manifest) -> anyhow::Result<String> {
    let recording = containers::Recording::load(&args.recording, manifest)?;
    let options = containers::Options {
        hosts: args.hosts,
        bin_s: args.bin_s,
    };
    let replay = containers::replay(&recording, &options)?;
    let all = Span {
        from_interval: 0,
        until_interval: replay.bins.len(),
    };
    let span = |name: &str, window: &Option<Window>| match window {
        Some(window) => window
            .intervals(replay.bin, replay.bins.len())
            .map_err(|problem| ReplayError::Options(format!("--{name}: {problem}"))),
        None => Ok(all),
    };
    let window = span("window", &args.window)?;
    let measured_w = match &args.power {
        Some(path) => measured::in_bins(&measured::load(path)?, replay.bin, replay.bins.len()),
        None => vec![None; replay.bins.len()],
    };
    let calibration = match (&args.fit_window, &args.calibration) {
        (Some(_), _) => {
            let fit_span = span("fit-window", &args.fit_window)?;
            Some(Calibration {
                recording: recording.manifest.name.clone(),
                bin_s: replay.bin.seconds(),
                fit: fit_span,
                trials: fit::fit(&replay, &measured_w, fit_span)?,
            })
        }
        (None, Some(path)) => Some(matching(Calibration::load(path)?, path, &replay)?),
        (None, None) => None,
    };
    if let (Some(path), Some(calibration)) = (&args.save_calibration, &calibration) {
        write_file(path, &calibration.to_toml()?)?;
    }
    let report = report::Report::new(&recording, &replay, &measured_w, calibration, window);
    if let Some(path) = &args.report {
        write_file(path, &page::to_html(&report))?;
    }
    Ok(match args.format {
        Format::Text => report::to_text(&report),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    })
}

/// The calibration, if its levels of utilization are those of the replay.
fn matching(
    calibration: Calibration,
    path: &Path,
    replay: &containers::Replay,
) -> Result<Calibration, ReplayError> {
    let knots = |trial: &fit::Trial| trial.power.knots() == &replay.knots;
    if calibration.trials.iter().all(knots) {
        Ok(calibration)
    } else {
        let problem = format!(
            "utilization: expected {} knots at equal distances, as many as the hosts of the \
             recording have cores and one more",
            replay.knots.levels().len()
        );
        Err(ReplayError::file(path, problem))
    }
}

fn replay_energy(args: &Args, manifest: &energy::Manifest) -> anyhow::Result<String> {
    let containers_only = [
        ("power", args.power.is_some()),
        ("calibration", args.calibration.is_some()),
        ("hosts", args.hosts.is_some()),
        ("bin-s", args.bin_s.is_some()),
        ("report", args.report.is_some()),
    ];
    if let Some((option, _)) = containers_only.iter().find(|(_, given)| *given) {
        let problem = format!("--{option}: a recording of kind \"host-energy\" has no use for it");
        return Err(ReplayError::Options(problem).into());
    }
    let intervals = energy::replay(&args.recording, manifest)?;
    let span = match &args.window {
        Some(window) => window
            .intervals(SimTime::from_seconds(manifest.interval_s), intervals.len())
            .map_err(|problem| ReplayError::Options(format!("--window: {problem}")))?,
        None => Span {
            from_interval: 0,
            until_interval: intervals.len(),
        },
    };
    let list = &intervals[span.from_interval..span.until_interval];
    let report = report::EnergyReport::new(manifest, span, list);
    Ok(match args.format {
        Format::Text => report::energy_to_text(&report),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    })
}

fn write_file(path: &Path, text: &str) -> Result<(), ReplayError> {
    std::fs::write(path, text).map_err(|source| ReplayError::Write {
        path: path.display().to_string(),
        source,
    })
}
