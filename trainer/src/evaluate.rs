//! `trainer evaluate`: policies in closed loop, on the same seeds, with confidence intervals.
//!
//! Each policy runs one episode for each seed; what arrives, and how much work it is, depends on
//! the seed alone, so that policies are compared in pairs (common random numbers).
//! The world, with its deadlines and normalizers, is fixed before any run.
//!
//! Results, times of decisions excepted, do not depend on the number of threads.
//! A decision is timed on one core, while the other episodes keep the other cores busy; `--threads 1`
//! gives times of a quiet machine.
//!
//! A killed run goes on where it was: each episode that ends is a line in `journal.jsonl`, keyed by
//! policy and seed, so that policies and seeds can also be added to a finished run.
//! The journal is bound to the world, the length, the split and the build of the program.
//!
//! Left out: tuning of any kind. Nothing here may depend on what was compared.

mod episodes;
mod journal;
mod rows;
mod summary;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use datasets::write_parquet;
use twin::World;
use twin::policy::Policy;
use twin::workload::Split;

use crate::files::{create_folder, write_atomic};
use crate::policies;
use episodes::Plan;
use journal::{Episode, Header, Journal};

pub use rows::{METRICS, RunRow, TimelineRow};
pub use summary::{Closed, Evaluation, GapClosed, PairedDifference, Spread};

/// One row for each policy and seed, within the output folder.
pub const RUNS_FILE: &str = "runs.parquet";
/// The fleet at each interval of the first seed.
pub const TIMELINE_FILE: &str = "timeline.parquet";
/// The summary.
pub const EVALUATION_FILE: &str = "evaluation.json";
/// The episodes that have ended.
pub const JOURNAL_FILE: &str = "journal.jsonl";

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    #[default]
    Text,
    /// The summary, as in evaluation.json
    Json,
}

/// Compare policies in closed loop, on the same seeds, with confidence intervals.
///
/// Times of decisions are taken on one core while other episodes keep the other cores busy;
/// --threads 1 gives those of a quiet machine.
/// A killed run continues when it is started again with the same --out.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of an embedded world, or path to a world file.
    #[arg(long, value_name = "WORLD")]
    pub world: String,
    /// Names of policies, model:DIR, or `http://HOST:PORT`, separated by commas; `oracle` among them
    /// gives regret.
    #[arg(long, value_name = "LIST", value_delimiter = ',', required = true)]
    pub policies: Vec<String>,
    /// Episodes of each policy.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub seeds: u64,
    /// Seed of the first episode; the next ones follow it.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    pub first_seed: u64,
    /// Folder of the results.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Length of an episode, in intervals; the world's if it is left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub intervals: Option<u32>,
    /// Part of the workload that episodes are drawn from.
    #[arg(long, default_value = "held-out", value_parser = split_parser())]
    pub split: Split,
    /// How results are printed.
    #[arg(long, default_value = "text")]
    pub format: Format,
    /// Episodes that run at the same time; as many as there are cores if it is left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

fn split_parser() -> impl TypedValueParser<Value = Split> {
    PossibleValuesParser::new(["held-out", "training"]).map(|name| {
        if name == "training" {
            Split::Training
        } else {
            Split::HeldOut
        }
    })
}

/// Makes a policy for one episode: specification, world, seed.
pub type Build<'a> = dyn Fn(&str, &World, u64) -> Result<Box<dyn Policy>> + Sync + 'a;

/// Evaluates and prints.
///
/// # Errors
///
/// As [`evaluate`], and if standard output cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let evaluation = evaluate(args)?;
    let mut out = io::stdout().lock();
    match args.format {
        Format::Json => writeln!(out, "{}", evaluation.to_json()?)?,
        Format::Text => {
            write!(out, "{}", text::table(&evaluation))?;
            writeln!(out, "\nresults are in {}", args.out.display())?;
        }
    }
    for warning in evaluation.spread.iter().flat_map(|spread| &spread.warnings) {
        writeln!(io::stderr(), "warning: {warning}")?;
    }
    Ok(())
}

/// Evaluates, and leaves `runs.parquet`, `timeline.parquet` and `evaluation.json` in the folder.
///
/// # Errors
///
/// If the world or a policy cannot be had, a policy gives no feasible decision, the folder holds
/// the journal of an evaluation with other arguments, or a file cannot be written.
pub fn evaluate(args: &Args) -> Result<Evaluation> {
    let world = World::load(&args.world)?;
    evaluate_with(args, &world, &policies::build)
}

/// As [`evaluate`], in `world` instead of the one that is named, with policies that `build` makes.
///
/// # Errors
///
/// As [`evaluate`].
pub fn evaluate_with(args: &Args, world: &World, build: &Build<'_>) -> Result<Evaluation> {
    let seeds = check(args)?;
    let intervals = args.intervals.unwrap_or(world.episode_intervals);
    for spec in &args.policies {
        build(spec, world, args.first_seed)?;
    }
    let fingerprints: Vec<Option<String>> = args
        .policies
        .iter()
        .map(|spec| policies::fingerprint(spec))
        .collect::<Result<_>>()?;
    create_folder(&args.out)?;
    let header = Header::new(world, intervals, args.split, build_identity());
    let (journal, recorded) = Journal::open(&args.out.join(JOURNAL_FILE), &header)?;
    let plan = Plan {
        world,
        build,
        policies: &args.policies,
        fingerprints: &fingerprints,
        seeds: &seeds,
        intervals,
        split: args.split,
        threads: threads(args),
    };
    let episodes = plan.complete(recorded, &journal)?;
    let rows = rows::runs(world, &args.policies, &episodes);
    write_parquet(&rows, args.out.join(RUNS_FILE))?;
    write_parquet(
        &rows::timeline(world, &episodes),
        args.out.join(TIMELINE_FILE),
    )?;
    let evaluation = Evaluation::new(args, world, intervals, &rows);
    let json = evaluation.to_json()? + "\n";
    write_atomic(&args.out.join(EVALUATION_FILE), json.as_bytes())?;
    Ok(evaluation)
}

/// The seeds, if the arguments make sense together.
fn check(args: &Args) -> Result<Vec<u64>> {
    for (i, spec) in args.policies.iter().enumerate() {
        if spec.is_empty() {
            bail!("--policies: a name is empty; separate names by single commas");
        }
        if args.policies[..i].contains(spec) {
            bail!("--policies: {spec} is named twice");
        }
    }
    let last = args.first_seed.checked_add(args.seeds - 1);
    let last = last.context("--first-seed: the last seed would be larger than 2^64 - 1")?;
    Ok((args.first_seed..=last).collect())
}

fn threads(args: &Args) -> usize {
    match args.threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// Tells builds of this program apart: results of different code do not belong in one table.
fn build_identity() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let file = std::env::current_exe().and_then(fs::metadata);
    let built = file.and_then(|file| Ok((file.len(), file.modified()?)));
    match built {
        Ok((bytes, modified)) => {
            let ns = modified
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_nanos());
            format!("{version} {bytes} {ns}")
        }
        Err(_) => version.to_owned(),
    }
}

/// Episodes by policy, in the order of the arguments, and seed.
type Episodes = BTreeMap<(usize, u64), Episode>;
