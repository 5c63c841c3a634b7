//! `twin simulate`.

use std::fmt::Write;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;
use twin::World;
use twin::events::EventLog;
use twin::policy;
use twin::qos::Snapshot;
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
        timeline: args.timeline.is_some(),
    };
    let mut log = match &args.events {
        Some(path) => {
            let file =
                File::create(path).with_context(|| format!("{}: cannot create", path.display()))?;
            Some(EventLog::new(&world, BufWriter::new(file)))
        }
        None => None,
    };
    let mut progress = Progress::new("intervals", intervals);
    let started = Instant::now();
    let result = run_with(
        &world,
        policy.as_mut(),
        &options,
        &mut Hooks {
            events: log.as_mut().map(|log| log as &mut dyn EventSink),
            progress: Some(&mut |done| progress.at(done)),
            clock: Some(&|| started.elapsed()),
        },
    );
    progress.finish();
    if let (Some(log), Some(path)) = (log, &args.events) {
        log.finish()
            .with_context(|| format!("{}: cannot write", path.display()))?;
    }
    let run = result?;
    if let Some(path) = &args.timeline {
        write_timeline(path, &run.timeline)?;
    }
    print(args, &world, policy.name(), intervals, run)
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

fn print(
    args: &Args,
    world: &World,
    policy: &str,
    intervals: u32,
    mut run: Run,
) -> anyhow::Result<()> {
    run.decision_times.sort_unstable();
    let mut metrics = run.qos.metrics().to_vec();
    metrics.push(("decision_time_p50_us", quantile_us(&run.decision_times, 50)));
    metrics.push(("decision_time_p99_us", quantile_us(&run.decision_times, 99)));
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
