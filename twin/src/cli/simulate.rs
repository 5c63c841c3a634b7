//! `twin simulate`.

use std::fmt::Write;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use twin::World;
use twin::events::EventLog;
use twin::files::write_atomic;
use twin::policy;
use twin::qos::Snapshot;
use twin::report::{self, Both, Contents, Lives, Watched};
use twin::simulate::{EventSink, Hooks, Options, Run, run_with};
use twin::workload::Split;

use super::Format;
use super::failure::Usage;
use super::progress::Progress;

/// Options of `twin simulate`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of an embedded world (see `twin worlds`), or path of a world file.
    #[arg(long)]
    world: String,
    /// Name of a policy (see `twin policies`).
    #[arg(long)]
    policy: String,
    /// Seed of the arrivals, the demands and the policy's random choices.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Length of the episode, in intervals; the world's if absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    intervals: Option<u32>,
    /// The part of the workload that the episode is drawn from.
    #[arg(long, value_enum, default_value_t)]
    split: SplitArg,
    /// Write the event log to this file, as JSON Lines.
    #[arg(long, value_name = "FILE")]
    events: Option<PathBuf>,
    /// Write the fleet at each interval boundary to this file, as CSV.
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
    /// Write a page that shows the run to this file, as HTML that needs nothing else.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How to print the quality of service.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The part of the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum SplitArg {
    /// For evaluation.
    #[default]
    HeldOut,
    /// For labels and training.
    Training,
}

impl From<SplitArg> for Split {
    fn from(split: SplitArg) -> Self {
        match split {
            SplitArg::HeldOut => Self::HeldOut,
            SplitArg::Training => Self::Training,
        }
    }
}

/// What `--format json` prints. `regret` is missing: it needs a run of the oracle beside this one.
#[derive(Debug, Serialize)]
struct Report<'a> {
    world: &'a str,
    policy: &'a str,
    seed: u64,
    intervals: u32,
    #[serde(flatten)]
    metrics: Metrics,
}

/// Names and values, in the order in which they are printed.
#[derive(Debug)]
struct Metrics(Vec<(&'static str, f64)>);

impl Serialize for Metrics {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

/// Runs a policy and prints its quality of service.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let world = World::load(&args.world)?;
    let mut policy = policy::by_name(&args.policy, &world, args.seed)
        .map_err(|error| Usage(error.to_string()))?;
    let intervals = args.intervals.unwrap_or(world.episode_intervals);
    let options = Options {
        seed: args.seed,
        intervals: Some(intervals),
        split: args.split.into(),
        timeline: args.timeline.is_some() || args.report.is_some(),
    };
    args.report.as_deref().map(check_folder).transpose()?;
    let mut log = args
        .events
        .as_deref()
        .map(|path| log_to(path, &world))
        .transpose()?;
    let mut progress = Progress::new("intervals", intervals);
    let started = Instant::now();
    let mut on_boundary = |done| progress.at(done);
    let clock = || started.elapsed();
    let mut lives = Lives::new(&world);
    let mut watched = Watched::new(&world, policy.as_mut());
    let mut both;
    let events: Option<&mut dyn EventSink> = match (log.as_mut(), &args.report) {
        (Some(log), Some(_)) => {
            both = Both(log, &mut lives);
            Some(&mut both)
        }
        (None, Some(_)) => Some(&mut lives),
        (Some(log), None) => Some(log),
        (None, None) => None,
    };
    let mut hooks = Hooks {
        events,
        progress: Some(&mut on_boundary),
        clock: Some(&clock),
    };
    let result = match args.report {
        Some(_) => run_with(&world, &mut watched, &options, &mut hooks),
        None => run_with(&world, watched.policy(), &options, &mut hooks),
    };
    let watching = watched.into_watching();
    progress.finish();
    if let (Some(log), Some(path)) = (log, &args.events) {
        log.finish()
            .with_context(|| format!("{}: cannot write", path.display()))?;
    }
    let mut run = result?;
    if let Some(path) = &args.timeline {
        write_timeline(path, &run.timeline)?;
    }
    let metrics = metrics(&world, &mut run);
    if let Some(path) = &args.report {
        let contents = Contents {
            world: &world,
            policy: policy.name(),
            seed: args.seed,
            intervals,
            command: &command(args, intervals),
            qos: &run.qos,
            metrics: &metrics,
            timeline: &run.timeline,
            lives: &lives,
            watching: &watching,
            migrations: lives.migrations(),
        };
        write_atomic(path, report::render(&contents).as_bytes())?;
    }
    print(args, &world, policy.name(), intervals, &run, metrics)
}

/// The event log of a run in `world`, written to `path`.
fn log_to<'w>(path: &Path, world: &'w World) -> anyhow::Result<EventLog<'w, BufWriter<File>>> {
    let file = File::create(path).with_context(|| format!("{}: cannot create", path.display()))?;
    Ok(EventLog::new(world, BufWriter::new(file)))
}

/// Refuses a file whose folder is missing before the run, not after it.
fn check_folder(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    if folder.is_none_or(Path::is_dir) {
        return Ok(());
    }
    let source = std::io::Error::new(
        std::io::ErrorKind::NotFound,
        "its folder does not exist; make it first",
    );
    Err(anyhow::Error::new(source).context(format!("{}: cannot create", path.display())))
}

/// The command that repeats the run.
fn command(args: &Args, intervals: u32) -> String {
    let split = match args.split {
        SplitArg::HeldOut => "held-out",
        SplitArg::Training => "training",
    };
    let report = args.report.as_ref().map_or_else(String::new, |path| {
        format!(" --report {}", quoted(&path.display().to_string()))
    });
    format!(
        "twin simulate --world {} --policy {} --seed {} --intervals {intervals} --split {split}{report}",
        quoted(&args.world),
        quoted(&args.policy),
        args.seed
    )
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn write_timeline(path: &PathBuf, timeline: &[Snapshot]) -> anyhow::Result<()> {
    let write = || -> Result<(), csv::Error> {
        let mut out = csv::Writer::from_path(path)?;
        for shot in timeline {
            out.serialize(shot)?;
        }
        Ok(out.flush()?)
    };
    write().with_context(|| format!("{}: cannot write", path.display()))
}

/// Names and values, in the order in which they are printed.
fn metrics(world: &World, run: &mut Run) -> Vec<(&'static str, f64)> {
    run.decision_times.sort_unstable();
    let mut metrics = run.qos.metrics().to_vec();
    metrics.extend(run.qos.mechanics(world));
    metrics.push(("decision_time_p50_us", quantile_us(&run.decision_times, 50)));
    metrics.push(("decision_time_p99_us", quantile_us(&run.decision_times, 99)));
    metrics
}

fn print(
    args: &Args,
    world: &World,
    policy: &str,
    intervals: u32,
    run: &Run,
    metrics: Vec<(&'static str, f64)>,
) -> anyhow::Result<()> {
    let (world, seed) = (world.name.as_str(), args.seed);
    if args.format == Format::Json {
        let metrics = Metrics(metrics);
        return super::print_json(&Report {
            world,
            policy,
            seed,
            intervals,
            metrics,
        });
    }
    let mut text = String::new();
    writeln!(
        text,
        "{policy} on {world}, seed {seed}, {intervals} intervals"
    )?;
    writeln!(
        text,
        "requests: {} arrived, {} answered, {} under way at the end\n",
        run.qos.requests_arrived, run.qos.requests_completed, run.qos.requests_unfinished
    )?;
    for (metric, value) in metrics {
        writeln!(text, "{metric:22} {value:12.4}")?;
    }
    super::print(&text)
}

/// The quantile `percent` of the sorted `times` by the nearest-rank method, in µs.
fn quantile_us(times: &[Duration], percent: usize) -> f64 {
    let rank = (times.len() * percent).div_ceil(100).max(1) - 1;
    times.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
