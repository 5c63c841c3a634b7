//! `twin replay`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};

use super::calibration::Calibration;
use super::testbed::command as testbed;
use super::window::{Span, Window};
use super::{Manifest, ReplayError, containers, energy, fit, measured, page, report};
use crate::recording::Recording;
use crate::units::SimTime;

/// Drive the twin with a recording of a real system, and compare.
#[derive(Clone, Debug, ClapArgs)]
pub struct Args {
    /// Folder of the recording, with a recording.toml; or `scinet-testbed`, which is part of the
    /// program.
    #[arg(long, value_name = "DIR", default_value = testbed::EMBEDDED)]
    pub recording: PathBuf,
    /// Measured power of the cluster: a CSV file of time_ms,power_w.
    #[arg(long, value_name = "FILE")]
    pub power: Option<PathBuf>,
    /// What was fitted earlier: the power of nodes, or of a testbed what `twin calibrate` wrote.
    #[arg(long, value_name = "FILE", conflicts_with = "fit_window")]
    pub calibration: Option<PathBuf>,
    /// Fit to this window: intervals as in 0..350, or times as in 0d..2d; a testbed is fitted to the
    /// first half of its intervals if absent.
    #[arg(long, value_name = "A..B")]
    pub fit_window: Option<Window>,
    /// Save what was fitted.
    #[arg(long, value_name = "FILE", requires = "fit_window")]
    pub save_calibration: Option<PathBuf>,
    /// Report errors on this window; everything that was recorded if absent, and of a testbed what
    /// comes after the first half.
    #[arg(long, value_name = "A..B")]
    pub window: Option<Window>,
    /// Length of the bins in which results are compared, in s; that of the recording if absent.
    #[arg(long)]
    pub bin_s: Option<f64>,
    /// Number of hosts; that of the recording if absent.
    #[arg(long)]
    pub hosts: Option<usize>,
    /// Replications of a testbed's run.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    pub replications: u32,
    /// Seed of the replications.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
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
    let manifest = if args.recording == Path::new(testbed::EMBEDDED) {
        Manifest::Testbed(testbed::Manifest::embedded())
    } else {
        Manifest::load(&args.recording)?
    };
    let text = match manifest {
        Manifest::Containers(manifest) => replay_containers(args, manifest)?,
        Manifest::HostEnergy(manifest) => replay_energy(args, &manifest)?,
        Manifest::Testbed(manifest) => replay_testbed(args, &manifest)?,
    };
    std::io::stdout()
        .lock()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

fn replay_testbed(args: &Args, manifest: &testbed::Manifest) -> anyhow::Result<String> {
    refuse(
        args,
        "testbed",
        &["power", "hosts", "bin-s", "report", "save-calibration"],
    )?;
    let recording = if args.recording == Path::new(testbed::EMBEDDED) {
        Recording::embedded()?
    } else {
        let file = |name: &str| args.recording.join(name);
        Recording::load(&file(testbed::TASKS_FILE), &file(testbed::HOSTS_FILE))?
    };
    let last = recording.hosts.iter().map(|h| h.interval).max();
    let count = last.map_or(0, |i| i as usize + 1);
    let span = |name: &str, window: &Option<Window>, default: (usize, usize)| {
        let span = match window {
            Some(window) => window
                // Intervals beyond the last are refused later, not cut off.
                .intervals(SimTime::from_seconds(manifest.interval_s), usize::MAX)
                .map_err(|problem| ReplayError::Options(format!("--{name}: {problem}")))?,
            None => Span {
                from_interval: default.0,
                until_interval: default.1,
            },
        };
        let whole = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok::<_, ReplayError>((whole(span.from_interval), whole(span.until_interval)))
    };
    let options = testbed::Options {
        calibration: args.calibration.clone(),
        fit_window: span("fit-window", &args.fit_window, (0, count / 2))?,
        window: span("window", &args.window, (count / 2, count))?,
        replications: args.replications,
        seed: args.seed,
    };
    let report = testbed::run(&recording, manifest, &options)?;
    Ok(match args.format {
        Format::Text => super::testbed::to_text(&report),
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
    })
}

/// An error if an option is given that a recording of this kind has no use for.
fn refuse(args: &Args, kind: &str, options: &[&str]) -> Result<(), ReplayError> {
    let given = [
        ("power", args.power.is_some()),
        ("calibration", args.calibration.is_some()),
        ("fit-window", args.fit_window.is_some()),
        ("save-calibration", args.save_calibration.is_some()),
        ("hosts", args.hosts.is_some()),
        ("bin-s", args.bin_s.is_some()),
        ("report", args.report.is_some()),
    ];
    match given
        .iter()
        .find(|(name, given)| *given && options.contains(name))
    {
        None => Ok(()),
        Some((name, _)) => {
            let problem = format!("--{name}: a recording of kind \"{kind}\" has no use for it");
            Err(ReplayError::Options(problem))
        }
    }
}

fn replay_containers(args: &Args, manifest: containers::Manifest) -> anyhow::Result<String> {
    if args.fit_window.is_some() && args.power.is_none() {
        let problem = "--fit-window: needs --power, what is fitted to";
        return Err(ReplayError::Options(problem.into()).into());
    }
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
    let unused = [
        "power",
        "calibration",
        "fit-window",
        "hosts",
        "bin-s",
        "report",
    ];
    refuse(args, "host-energy", &unused)?;
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
