//! `trainer label`: what the oracle answers in states that policies visit.
//!
//! States are visited in episodes, each with a seed of its own and arrivals from the training part
//! of the workload. One policy of a mixture steers an episode, so that the dataset covers good and
//! bad states: the oracle itself, the oracle with a random answer now and then, the greedy policy,
//! heuristics, and a model whose own states are labeled again (DAgger: Ross, Gordon and Bagnell,
//! AISTATS 2011). Every interval boundary is labeled and some arrivals are, since successive
//! arrivals are much alike; the greedy policy answers for the oracle where nothing is labeled.
//!
//! A row is one question ([`twin::sequence`]) with the price of each answer, the ones before being
//! answered as the steering policy did; where a heuristic steers, as the oracle did. `values` are
//! told relative to the best answer, whose value is zero, in seconds of penalty: what matters is
//! the difference, and single precision would lose it in the sum. The state stands in the first
//! row of an epoch; [`relabel`] prices it again.
//!
//! Rows depend on the world, the seed and the arguments only. Shards are finished in order, and
//! the run ends with the first at which enough rows are there; what other threads did beyond it is
//! dropped. A killed run keeps the shards that its manifest lists and ends with the same bytes as
//! one that was not killed.
//!
//! Left out: states that no policy visits.

mod episode;
mod mixture;
mod shards;
mod tally;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use datasets::decisions::{DatasetError, Manifest, SCHEMA_VERSION};
use models::ModelPolicy;
use models::encoding::{ENCODING_VERSION, encoding_hash};
use models::policy::ModelChooser;
use twin::World;
use twin::policy::oracle;

use crate::files::create_folder;
use crate::policies;
use crate::progress::Progress;
use episode::Job;
use shards::Shards;

pub use episode::{episode_seed, episode_world, relabel};
pub use mixture::Mixture;
pub use tally::Tally;

/// Label the states that policies visit with what the oracle would do.
///
/// A killed run continues when it is started again with the same arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Name of an embedded world, or path to a world file.
    #[arg(long, value_name = "WORLD")]
    pub world: String,
    /// Questions to label, at least; whole shards are finished.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: u64,
    /// Seed that every episode's own seed is derived from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder of the dataset.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// This part of the work: every n-th shard from the i-th on (from 0), for 1/n of the questions.
    #[arg(long, default_value = "0/1", value_name = "I/N")]
    pub shard: Part,
    /// Episodes in a shard.
    #[arg(long, default_value_t = 2, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub episodes_per_shard: u16,
    /// Length of an episode in intervals; the world's if it is left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub intervals: Option<u32>,
    /// Who steers, and in which share of the episodes: names of policies or noisy-oracle.
    #[arg(long, default_value = Mixture::DEFAULT, value_name = "NAME=SHARE,...")]
    pub policies: Mixture,
    /// Folder of a model that steers too.
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
    /// Share of the episodes that the model steers.
    #[arg(long, default_value_t = 0.5, value_name = "SHARE", value_parser = share)]
    pub model_share: f64,
    /// Share of the episodes with other weights of the objective: each of the world's times
    /// exp(N(0, 0.5)).
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = share)]
    pub vary_objective: f64,
    /// Share of the arrivals that are labeled.
    #[arg(long, default_value_t = 0.25, value_name = "SHARE", value_parser = share)]
    pub label_share: f64,
    /// How hard the oracle searches.
    #[command(flatten)]
    pub oracle: OracleArgs,
    /// Episodes that run at the same time; as many as there are cores if it is left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// How hard the oracle searches; what is left out is as in `twin simulate --policy oracle`.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct OracleArgs {
    /// Futures over which provisioning is priced.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub oracle_power_futures: Option<u16>,
    /// Futures over which variants and placements are priced.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub oracle_place_futures: Option<u16>,
    /// Placements that are priced for each fragment.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub oracle_placements: Option<u16>,
    /// Placements that are priced for each variant.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub oracle_placements_per_variant: Option<u16>,
    /// Intervals after the boot of a host over which provisioning is priced.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub oracle_power_intervals: Option<u16>,
}

impl OracleArgs {
    /// The options that these arguments mean.
    #[must_use]
    pub fn options(&self) -> oracle::Options {
        let mut options = oracle::Options::default();
        let set = |value: &mut usize, given: Option<u16>| {
            if let Some(given) = given {
                *value = usize::from(given);
            }
        };
        set(&mut options.power_futures, self.oracle_power_futures);
        set(&mut options.place_futures, self.oracle_place_futures);
        set(&mut options.placements, self.oracle_placements);
        let per_variant = self.oracle_placements_per_variant;
        set(&mut options.placements_per_variant, per_variant);
        if let Some(intervals) = self.oracle_power_intervals {
            options.power_intervals = u64::from(intervals);
        }
        options
    }
}

/// One of several parts of the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which, from 0.
    pub index: u32,
    /// Of how many.
    pub count: u32,
}

impl Part {
    /// All of it.
    pub const WHOLE: Self = Self { index: 0, count: 1 };
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('/')
            .and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
        match parsed {
            Some((index, count)) if index < count => Ok(Self { index, count }),
            _ => Err("give a part as i/n with i from 0 to n - 1, as in 0/4".to_owned()),
        }
    }
}

/// A number between 0 and 1.
fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a share between 0 and 1".to_owned()),
    }
}

/// Labels and prints what was found.
///
/// # Errors
///
/// As [`label`], and if standard output cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let labeled = label(args)?;
    let mut out = io::stdout().lock();
    write!(out, "{}", labeled.tally)?;
    if labeled.new_rows > 0 {
        let rate = labeled.new_rows as f64 / started.elapsed().as_secs_f64();
        writeln!(out, "{rate:.1} labels/s")?;
    }
    writeln!(out, "the dataset is in {}", args.out.display())?;
    Ok(())
}

/// What [`label`] leaves beside the dataset.
#[derive(Clone, Debug)]
pub struct Labeled {
    /// What the rows tell.
    pub tally: Tally,
    /// Rows that were not there before.
    pub new_rows: u64,
}

/// Leaves a dataset of at least the rows asked for in the folder.
///
/// # Errors
///
/// If the world or the model cannot be had, a policy gives no feasible decision, the folder holds
/// a dataset of other arguments, or a file cannot be written.
pub fn label(args: &Args) -> Result<Labeled> {
    let world = World::load(&args.world)?;
    let model = args.model.as_deref().map(load).transpose()?;
    let intervals = args.intervals.unwrap_or(world.episode_intervals);
    let job = Job {
        world: &world,
        seed: args.seed,
        intervals,
        mixture: &args.policies,
        model: model.as_ref().map(|model| (model, args.model_share)),
        vary_objective: args.vary_objective,
        label_share: args.label_share,
        oracle: args.oracle.options(),
    };
    create_folder(&args.out)?;
    let header = header(args, &job)?;
    let manifest = open(&args.out, &header)?;
    let wanted = args.steps.div_ceil(u64::from(args.shard.count));
    let progress = Progress::new("label", wanted);
    let shards = Shards {
        job: &job,
        out: &args.out,
        part: args.shard,
        episodes: u64::from(args.episodes_per_shard),
        wanted,
        threads: args.threads.map_or_else(cores, usize::from),
        progress: &progress,
    };
    shards.complete(manifest)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn load(folder: &Path) -> Result<ModelChooser> {
    Ok(ModelPolicy::load(folder)?.chooser().clone())
}

/// The manifest of a dataset that is not begun.
fn header(args: &Args, job: &Job<'_>) -> Result<Manifest> {
    let mut arguments = BTreeMap::new();
    let mut add = |name: &str, value: String| arguments.insert(name.to_owned(), value);
    add("program", env!("CARGO_PKG_VERSION").to_owned());
    add(
        "shard",
        format!("{}/{}", args.shard.index, args.shard.count),
    );
    add("episodes_per_shard", args.episodes_per_shard.to_string());
    add("intervals", job.intervals.to_string());
    add("policies", args.policies.to_string());
    add("vary_objective", args.vary_objective.to_string());
    add("label_share", args.label_share.to_string());
    add("oracle", format!("{:?}", job.oracle));
    if let Some(folder) = &args.model {
        let spec = format!("model:{}", folder.display());
        let sha256 = policies::fingerprint(&spec)?.context("a model has a fingerprint")?;
        add("model_sha256", sha256);
        add("model_share", args.model_share.to_string());
    }
    Ok(Manifest {
        schema_version: SCHEMA_VERSION,
        world: job.world.name.clone(),
        world_hash: job.world.hash.clone(),
        encoding_version: ENCODING_VERSION,
        encoding_hash: encoding_hash(),
        seed: args.seed,
        steps: args.steps,
        arguments,
        shards: Vec::new(),
        complete: false,
    })
}

/// The manifest in the folder, or `header` where there is none.
///
/// # Errors
///
/// If it cannot be read or is of other arguments.
fn open(folder: &Path, header: &Manifest) -> Result<Manifest> {
    let found = match Manifest::load(folder) {
        Ok(found) => found,
        Err(DatasetError::NoManifest { .. }) => return Ok(header.clone()),
        Err(error) => return Err(error.into()),
    };
    let differences = differences(&found, header);
    if !differences.is_empty() {
        bail!(
            "{} holds a dataset of other arguments: {}; choose another --out, or remove the folder \
             to start anew",
            folder.display(),
            differences.join(", ")
        );
    }
    Ok(found)
}

/// What differs between two manifests but for their shards, in words.
fn differences(there: &Manifest, here: &Manifest) -> Vec<String> {
    let fields = |manifest: &Manifest| {
        let mut all = manifest.arguments.clone();
        let mut add = |name: &str, value: String| all.insert(name.to_owned(), value);
        add("world", manifest.world.clone());
        add("world_hash", manifest.world_hash.clone());
        add("encoding_version", manifest.encoding_version.to_string());
        add("encoding_hash", manifest.encoding_hash.clone());
        add("seed", manifest.seed.to_string());
        add("steps", manifest.steps.to_string());
        all
    };
    let (there, here) = (fields(there), fields(here));
    let names: std::collections::BTreeSet<&String> = there.keys().chain(here.keys()).collect();
    let told = |fields: &BTreeMap<String, String>, name: &String| {
        fields
            .get(name)
            .map_or_else(|| "absent".to_owned(), Clone::clone)
    };
    names
        .into_iter()
        .filter(|name| there.get(*name) != here.get(*name))
        .map(|name| {
            format!(
                "{name} is {} there and {} here",
                told(&there, name),
                told(&here, name)
            )
        })
        .collect()
}
