//! `trainer label-log`: what the oracle answers in the states that a running fleet was in.
//!
//! The decision log of a service holds what every decision was taken on: the state of a stateless
//! one, and for a stateful one the inputs from which its live twin is rebuilt
//! ([`twin::decision_log::Situations`]). The oracle prices the questions in these states as
//! [`crate::label`] does in simulated ones. That is the step of DAgger (Ross, Gordon and Bagnell,
//! AISTATS 2011) on the states that the policy visits in production, and it asks the expert what to
//! do there rather than learn from what the policy did. The shards are those of `trainer label`, and
//! `trainer fit` takes both together.
//!
//! What is hidden from an operator is hidden here: a state is made of a view, work to come is drawn
//! by the oracle from what the world expects, and its futures from the training part of the
//! workload. Rows depend on the world, the seed, the arguments and the log only.
//!
//! A shard holds some successive decisions, which are one episode: they are much alike, and a fit
//! keeps them on one side of its split. A killed run goes on behind the last shard as long as the log
//! still holds the first decision of the dataset. The log may be that of a running service.
//!
//! Left out: the load that followed (`target_load` is empty, and a fit leaves the forecast out of
//! its loss there); decisions about other worlds, or on fleets that the log does not hold, which are
//! counted.

mod labels;
mod select;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};
use datasets::decisions::{self, DecisionRow, Manifest, SCHEMA_VERSION};
use models::encoding::{ENCODING_VERSION, encoding_hash};
use thiserror::Error;
use twin::World;
use twin::decision_log::DecisionId;
use twin::stream;

use self::labels::Labels;
use self::select::{Logged, Selection};
use crate::files::create_folder;
use crate::label::{OracleArgs, Tally, cores, open, share};
use crate::progress::Progress;

pub use self::select::Passed;

/// Label the states in the decision log of a service with what the oracle would do.
///
/// A killed run continues when it is started again with the same arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of the log, as `infer serve --log-folder` keeps it; the service may be running.
    #[arg(value_name = "LOG")]
    pub log: PathBuf,
    /// Name of an embedded world, or path to a world file: the one that the service runs.
    #[arg(long, value_name = "WORLD")]
    pub world: String,
    /// Folder of the dataset.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Questions to label, at least; whole shards are finished. All if it is left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
    /// Only decisions behind this one.
    #[arg(long, value_name = "ID")]
    pub after: Option<DecisionId>,
    /// Seed of the oracle's futures, and of the choice of decisions.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of the decisions between interval boundaries that are labeled; at boundaries all are.
    #[arg(long, default_value_t = 0.25, value_name = "SHARE", value_parser = share)]
    pub label_share: f64,
    /// Decisions in a shard, which are one episode.
    #[arg(long, default_value_t = 64, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub decisions_per_shard: u16,
    /// How hard the oracle searches.
    #[command(flatten)]
    pub oracle: OracleArgs,
    /// Decisions that are labeled at the same time; as many as there are cores if it is left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// There is nothing to learn from the log.
#[derive(Debug, Error)]
#[error("{} has no decision on the world {world} to label: {passed}; name the world that the service runs, or another log", log.display())]
pub struct NothingToLabel {
    /// The log.
    pub log: PathBuf,
    /// The world.
    pub world: String,
    /// The decisions that are there.
    pub passed: Passed,
}

/// What [`label_log`] leaves beside the dataset.
#[derive(Clone, Debug)]
pub struct Labeled {
    /// What the rows tell.
    pub tally: Tally,
    /// Rows that were not there before.
    pub new_rows: u64,
    /// Decisions that were passed over.
    pub passed: Passed,
}

/// Labels and prints what was found.
///
/// # Errors
///
/// As [`label_log`], and if standard output cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let labeled = label_log(args)?;
    let mut out = io::stdout().lock();
    write!(out, "{}", labeled.tally)?;
    if labeled.new_rows > 0 {
        let rate = labeled.new_rows as f64 / started.elapsed().as_secs_f64();
        writeln!(out, "{rate:.1} labels/s")?;
    }
    writeln!(out, "passed over: {}", labeled.passed)?;
    writeln!(out, "the dataset is in {}", args.out.display())?;
    Ok(())
}

/// Leaves a dataset of the log's states in the folder.
///
/// # Errors
///
/// If the world or the log cannot be read, the log holds no decision to label, the folder holds a
/// dataset of other arguments, or a file cannot be written.
pub fn label_log(args: &Args) -> Result<Labeled> {
    let world = World::load(&args.world)?;
    let first = first(args, &world)?;
    create_folder(&args.out)?;
    let header = header(args, &world, first);
    let manifest = open(&args.out, &header)?;
    Run::new(args, &world, manifest)?.complete()
}

/// The first decision to label, which must be there for a dataset to be continued.
fn first(args: &Args, world: &World) -> Result<DecisionId> {
    let mut selection = Selection::open(args, world)?;
    if let Some(first) = selection.next_logged()? {
        return Ok(first.id);
    }
    Err(NothingToLabel {
        log: args.log.clone(),
        world: world.name.clone(),
        passed: selection.passed,
    }
    .into())
}

/// The manifest of a dataset that is not begun.
fn header(args: &Args, world: &World, first: DecisionId) -> Manifest {
    let arguments = [
        ("program", env!("CARGO_PKG_VERSION").to_owned()),
        ("first_decision", first.to_string()),
        ("label_share", args.label_share.to_string()),
        ("decisions_per_shard", args.decisions_per_shard.to_string()),
        ("oracle", format!("{:?}", args.oracle.options())),
    ];
    Manifest {
        schema_version: SCHEMA_VERSION,
        world: world.name.clone(),
        world_hash: world.hash.clone(),
        encoding_version: ENCODING_VERSION,
        encoding_hash: encoding_hash(),
        seed: args.seed,
        steps: args.steps.unwrap_or(0),
        arguments: BTreeMap::from(arguments.map(|(name, value)| (name.to_owned(), value))),
        shards: Vec::new(),
        complete: false,
    }
}

/// A dataset that is being made.
struct Run<'a> {
    args: &'a Args,
    labels: Labels<'a>,
    selection: Selection<'a>,
    manifest: Manifest,
    labeled: Labeled,
    progress: Progress,
    /// Bytes of the log that progress has told.
    told_bytes: u64,
}

impl<'a> Run<'a> {
    fn new(args: &'a Args, world: &'a World, manifest: Manifest) -> Result<Self> {
        let selection = Selection::open(args, world)?;
        Ok(Self {
            labels: Labels {
                world,
                oracle: args.oracle.options(),
                seed: args.seed,
                threads: args.threads.map_or_else(cores, usize::from),
            },
            progress: Progress::new("label-log", selection.bytes_ahead()?),
            selection,
            manifest,
            labeled: Labeled {
                tally: Tally::default(),
                new_rows: 0,
                passed: Passed::default(),
            },
            told_bytes: 0,
            args,
        })
    }

    fn complete(mut self) -> Result<Labeled> {
        let mut index = self.keep()?;
        if !self.manifest.complete {
            self.manifest.save(&self.args.out)?;
            for _ in 0..u64::from(index) * u64::from(self.args.decisions_per_shard) {
                self.selection.next_logged()?;
            }
            while self.wants_more()
                && let Some(rows) = self.next_rows()?
            {
                self.add(index, &rows)?;
                index = index.checked_add(1).context("there are too many shards")?;
            }
            self.manifest.complete = true;
            self.manifest.save(&self.args.out)?;
        }
        self.selection.tell(&self.progress);
        self.labeled.passed = self.selection.passed;
        Ok(self.labeled)
    }

    fn wants_more(&self) -> bool {
        let steps = self.args.steps;
        steps.is_none_or(|steps| self.manifest.row_count() < steps)
    }

    /// Keeps the first shards that are whole; the index of the next.
    fn keep(&mut self) -> Result<u32> {
        let mut whole = 0;
        for entry in &self.manifest.shards {
            match Manifest::read_shard(&self.args.out, entry) {
                Ok(rows) => self.labeled.tally.add(&rows),
                Err(_) => {
                    let file = &entry.file;
                    let text = format!("label-log: {file} is absent or damaged; it is made again");
                    self.progress.say(&text);
                    break;
                }
            }
            whole += 1;
        }
        self.manifest.complete &= whole == self.manifest.shards.len();
        self.manifest.shards.truncate(whole);
        let last = self.manifest.shards.last();
        last.map_or(Some(0), |entry| entry.index.checked_add(1))
            .context("there are too many shards")
    }

    /// The rows of the next decisions, which may be none; `None` at the end of the log.
    fn next_rows(&mut self) -> Result<Option<Vec<DecisionRow>>> {
        let mut decisions: Vec<Logged> = Vec::new();
        while decisions.len() < usize::from(self.args.decisions_per_shard)
            && let Some(next) = self.selection.next_logged()?
        {
            decisions.push(next);
        }
        let Some(first) = decisions.first() else {
            return Ok(None);
        };
        let episode = stream::mix(stream::mix(0, self.args.seed), first.id.0);
        let mut rows = Vec::new();
        for (decision, found) in decisions.iter().zip(self.labels.of(&decisions)?) {
            for mut row in found {
                row.episode = episode;
                row.step = u32::try_from(rows.len()).unwrap_or(u32::MAX);
                row.policy.clone_from(&decision.policy);
                rows.push(row);
            }
        }
        let bytes = self.selection.bytes();
        self.progress.add(bytes.saturating_sub(self.told_bytes));
        self.told_bytes = bytes;
        Ok(Some(rows))
    }

    fn add(&mut self, index: u32, rows: &[DecisionRow]) -> Result<()> {
        // In none of the decisions was anything to be chosen.
        if rows.is_empty() {
            return Ok(());
        }
        let entry = decisions::write_shard(&self.args.out, index, rows)?;
        self.labeled.tally.add(rows);
        self.labeled.new_rows += entry.rows;
        self.manifest.shards.push(entry);
        self.manifest.save(&self.args.out)?;
        let total = self.manifest.row_count();
        let text = format!("label-log: shard {index}, {total} rows");
        self.progress.say(&text);
        Ok(())
    }
}
