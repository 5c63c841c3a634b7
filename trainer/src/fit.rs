//! `trainer fit`: a model from decision datasets.
//!
//! The policy learns from what each alternative is worth, not only from which one the oracle took:
//! the loss is the expected regret of its answers (the module `loss` has the formulas), next to a
//! forecast of the load. Rows are split by episode into training and validation; features are
//! standardized by the rows of training. After each epoch the validation rows are answered by the
//! plain forward pass that also decides online; the epoch with the least regret is kept, and the fit
//! ends when neither that nor the expected regret fell for a while.
//!
//! The same datasets, arguments and build give the same weights, bit for bit, on any number of
//! threads and whether or not the fit was interrupted. Left out: dropout and augmentation; the
//! network does not see the order of hosts and candidates.

mod checkpoint;
mod data;
mod loss;
mod measure;
mod metrics;
mod train;

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use models::encoding::{ENCODING_VERSION, encoding_hash};
use models::folder::{FORMAT_VERSION, ModelConfig};
use models::network::PolicyConfig;
use models::weights::{Standardizations, Weights, Widths};
use models::{ModelFolder, Ranges};
use rand::RngExt;
use sha2::{Digest, Sha256};
use thiserror::Error;
use twin::stream;

use crate::progress::Progress;
use checkpoint::{Checkpoints, State};
use data::{Rows, Source, Split};
use loss::{Scales, scales, soft_target_weight};
use measure::measure;
use train::{Learner, Plan};

pub use checkpoint::CHECKPOINTS_FOLDER;
pub use metrics::{EpochMetrics, FitMetrics, KindMetrics};

/// By how much the score of the greedy answer exceeds the others' before the fit.
const GREEDY_LEAD: f32 = 2.0;

/// Fit a model to decision datasets.
///
/// The model is a folder: model.safetensors, config.json, metrics.json, ranges.json, README.md,
/// SHA256SUMS, and checkpoints, which a finished model does not need.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folders of decision datasets, as `trainer label` writes them, separated by commas.
    #[arg(long, value_name = "DIR", value_delimiter = ',', required = true)]
    pub dataset: Vec<PathBuf>,
    /// Folder of the model.
    #[arg(long, value_name = "MODEL")]
    pub out: PathBuf,
    /// The most passes over the rows.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub epochs: u32,
    /// Rows of each step.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch_size: u32,
    /// The peak of the learning rate, which rises shortly and then falls.
    #[arg(long, default_value_t = 1e-3, value_parser = learning_rate)]
    pub learning_rate: f64,
    /// Seed of the first weights and of the order of the rows.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Share of the episodes that are validated on.
    #[arg(long, default_value_t = 0.15, value_parser = validation_share)]
    pub validation_share: f64,
    /// Epochs without a lower regret, or a lower expected regret, after which the fit ends.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub patience: u32,
    /// Model to start from, with its widths and standardization.
    #[arg(long, value_name = "MODEL")]
    pub init: Option<PathBuf>,
    /// Go on from the last checkpoint, if there is one.
    #[arg(long)]
    pub resume: bool,
    /// Threads; as many as there are cores if it is left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

fn number_within(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number >= low && number <= high {
        Ok(number)
    } else {
        Err(format!("must lie between {low} and {high}"))
    }
}

fn learning_rate(text: &str) -> Result<f64, String> {
    number_within(text, 1e-8, 1.0)
}

fn validation_share(text: &str) -> Result<f64, String> {
    number_within(text, 0.01, 0.9)
}

/// Why a model cannot be fitted to datasets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FitError {
    /// A dataset was encoded otherwise than this program encodes.
    #[error("{}: the dataset has observation encoding version {found_version} ({found}), this program encodes version {ENCODING_VERSION} ({expected}); label the world again", folder.display())]
    Encoding {
        /// The dataset.
        folder: PathBuf,
        /// The version found.
        found_version: u32,
        /// The hash found.
        found: String,
        /// This program's hash.
        expected: String,
    },
    /// There is no row.
    #[error("{} has no row; label more steps", list(folders))]
    Empty {
        /// The datasets.
        folders: Vec<PathBuf>,
    },
    /// In no row of training it matters what is answered.
    #[error(
        "in every row of training all alternatives are worth the same, so there is nothing to learn; label states in which decisions matter"
    )]
    NothingMatters,
    /// A row does not fit the encoding.
    #[error("{}: row {row}: {problem}; label the world again", path.display())]
    Row {
        /// The shard.
        path: PathBuf,
        /// The row, from 0.
        row: usize,
        /// The field at fault, and what is wrong.
        problem: String,
    },
    /// The rows cannot be split.
    #[error("all rows are of one episode, so none is left to validate on; label more episodes")]
    OneEpisode,
}

fn list(folders: &[PathBuf]) -> String {
    let names: Vec<String> = folders.iter().map(|f| f.display().to_string()).collect();
    names.join(", ")
}

/// Fits, and prints where the model is.
///
/// # Errors
///
/// As [`fit`], and if standard output cannot be written.
pub fn run(args: &Args) -> Result<()> {
    let metrics = fit(args)?;
    let mut out = io::stdout().lock();
    for (kind, of_kind) in &metrics.kinds {
        writeln!(
            out,
            "{kind}: regret {:.4} s on {} validation rows, greedy {:.4} s; {:.1} % as good as the best",
            of_kind.regret_s,
            of_kind.validation_rows,
            of_kind.greedy_regret_s,
            100.0 * of_kind.accuracy
        )?;
    }
    writeln!(
        out,
        "the model of epoch {} is in {}",
        metrics.best_epoch,
        args.out.display()
    )?;
    Ok(())
}

/// Fits a model, leaves it in the folder, and returns its metrics.
///
/// # Errors
///
/// If a dataset or the model to start from cannot be read, was encoded otherwise, or has nothing to
/// learn from ([`FitError`]), if the checkpoints are of another fit, if the fit diverges, or if a
/// file cannot be written.
pub fn fit(args: &Args) -> Result<FitMetrics> {
    let threads = args.threads.map_or(0, usize::from);
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .context("cannot start the threads of the fit")?;
    pool.install(|| fit_here(args))
}

fn fit_here(args: &Args) -> Result<FitMetrics> {
    let (rows, sources) = Rows::read(&args.dataset)?;
    let mut split = rows.split(args.validation_share)?;
    let standardizations = rows.standardizations(&split.training);
    let ranges = rows.ranges(&split.training);
    split.training.retain(|&row| rows.matters(row));
    if split.training.is_empty() {
        bail!(FitError::NothingMatters);
    }
    let scales = scales(&rows, &split.training);
    let fit = Fit {
        args,
        rows: &rows,
        split: &split,
        scales: &scales,
        ranges: &ranges,
        checkpoints: Checkpoints::of(&args.out),
    };
    let start = fit.start(&standardizations)?;
    let (state, best) = fit.epochs(&sources, start)?;
    fit.save(&sources, &state, best)
}

/// A fit under way.
struct Fit<'a> {
    args: &'a Args,
    rows: &'a Rows,
    split: &'a Split,
    scales: &'a Scales,
    ranges: &'a Ranges,
    checkpoints: Checkpoints,
}

impl Fit<'_> {
    /// The weights to start from.
    fn start(&self, standardizations: &Standardizations) -> Result<Weights> {
        match &self.args.init {
            Some(folder) => Ok(ModelFolder::load(folder)?.weights),
            None => fresh(standardizations, self.args.seed),
        }
    }

    /// Runs the epochs that are left; what was reached, and the best weights.
    fn epochs(&self, sources: &[Source], start: Weights) -> Result<(State, Weights)> {
        let (args, rows) = (self.args, self.rows);
        let fingerprint = fingerprint(args, sources, &start)?;
        let reached = if args.resume {
            self.checkpoints.load(&fingerprint)?
        } else {
            None
        };
        let total = u64::from(args.epochs) * self.split.training.len() as u64;
        let progress = Progress::new("fit", total);
        progress.say(&self.opening(sources));
        let started = Instant::now();
        let (mut learner, mut state, mut best) = match reached {
            Some(state) => {
                progress.say(&format!("going on after epoch {}", state.epoch()));
                progress.add(u64::from(state.epoch()) * self.split.training.len() as u64);
                self.resumed(state)?
            }
            None => self.begun(fingerprint, start, &progress)?,
        };
        let before_s = state.seconds;
        let plan = Plan {
            rows,
            training: &self.split.training,
            scales: self.scales,
            epochs: args.epochs,
            batch_rows: args.batch_size as usize,
            learning_rate: args.learning_rate,
            seed: args.seed,
        };
        while state.epoch() < args.epochs && state.stale_epochs() < args.patience {
            let epoch = state.epoch() + 1;
            let trained = learner.epoch(&plan, epoch, &progress);
            let weights = learner.weights()?;
            let validated = measure(rows, &self.split.validation, &weights, self.scales);
            let weight = soft_target_weight(f64::from(epoch) / f64::from(args.epochs));
            let metrics = EpochMetrics::new(epoch, weight, Some(&trained), &validated);
            state.epochs.push(metrics.clone());
            state.seconds = before_s + started.elapsed().as_secs_f64();
            let better = state.best_epoch() == epoch;
            progress.say(&metrics.line(args.epochs, better));
            self.checkpoints
                .save(&state, &weights, &learner.optimizer_state()?)?;
            if better {
                best = weights;
            }
        }
        Ok((state, best))
    }

    /// Epoch 0: nothing trained yet.
    fn begun(
        &self,
        fingerprint: String,
        start: Weights,
        progress: &Progress,
    ) -> Result<(Learner, State, Weights)> {
        self.checkpoints.clear()?;
        let validated = measure(self.rows, &self.split.validation, &start, self.scales);
        let metrics = EpochMetrics::new(0, soft_target_weight(0.0), None, &validated);
        progress.say(&metrics.line(self.args.epochs, true));
        let state = State {
            fingerprint,
            widths: start.widths(),
            seconds: 0.0,
            epochs: vec![metrics],
        };
        let learner = Learner::new(&start, None)?;
        self.checkpoints
            .save(&state, &start, &learner.optimizer_state()?)?;
        Ok((learner, state, start))
    }

    fn resumed(&self, state: State) -> Result<(Learner, State, Weights)> {
        let weights = self.checkpoints.weights(state.widths, state.epoch())?;
        let optimizer = match state.epoch() {
            0 => None,
            epoch => Some(self.checkpoints.optimizer(epoch)?),
        };
        let learner = Learner::new(&weights, optimizer)?;
        let best = self.checkpoints.weights(state.widths, state.best_epoch())?;
        Ok((learner, state, best))
    }

    fn opening(&self, sources: &[Source]) -> String {
        let split = self.split;
        let mut text = format!(
            "{} rows of {} episodes to train on, {} rows of {} episodes to validate on",
            split.training.len(),
            split.training_episodes,
            split.validation.len(),
            split.validation_episodes,
        );
        for source in sources.iter().filter(|source| !source.complete) {
            text.push_str(&format!(
                "\nwarning: the labeling of {}, seed {}, was not finished",
                source.world, source.seed
            ));
        }
        text
    }

    /// Writes the model folder.
    fn save(&self, sources: &[Source], state: &State, best: Weights) -> Result<FitMetrics> {
        let measured = measure(self.rows, &self.split.validation, &best, self.scales);
        let parameters = best.widths().parameter_count();
        let metrics = FitMetrics {
            seconds: state.seconds,
            best_epoch: state.best_epoch(),
            epochs: state.epochs.clone(),
            ..FitMetrics::new(
                self.rows.len(),
                self.split,
                self.scales,
                &measured,
                parameters,
            )
        };
        let world = distinct(sources, |source| &source.world);
        let mut training_seeds: Vec<u64> = sources.iter().map(|source| source.seed).collect();
        training_seeds.push(self.args.seed);
        let folder = ModelFolder {
            config: ModelConfig {
                format_version: FORMAT_VERSION,
                encoding_version: ENCODING_VERSION,
                encoding_hash: encoding_hash(),
                widths: best.widths(),
                world_hash: distinct(sources, |source| &source.world_hash),
                training_seeds,
                world: world.clone(),
            },
            weights: best,
            card: metrics::card(&world, sources, &metrics).to_markdown(),
            metrics: serde_json::to_value(&metrics)?,
            ranges: Some(self.ranges.clone()),
        };
        folder.save(&self.args.out)?;
        Ok(metrics)
    }
}

/// The different names among the sources, separated by commas.
fn distinct(sources: &[Source], name: impl Fn(&Source) -> &String) -> String {
    let names: BTreeSet<&str> = sources.iter().map(|source| name(source).as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(",")
}

/// A network that answers as the greedy policy, with weights drawn from `seed`.
///
/// What the network's own initialization draws, from a generator that all threads share, is drawn
/// again from a stream of this fit. The greedy answer leads by [`GREEDY_LEAD`] however rare its flag
/// is: enough to be the answer, little enough to be learned away from.
fn fresh(standardizations: &Standardizations, seed: u64) -> Result<Weights> {
    let network = PolicyConfig::new().init(standardizations, &Device::flex());
    let initial = network.to_weights()?;
    let widths: Widths = initial.widths();
    let mut stream = stream::named(seed, "first weights");
    let layout = widths.layout();
    let tensors = layout.iter().map(|(name, shape)| {
        let drawn = |stream: &mut stream::Stream, inputs: usize| {
            let bound = 1.0 / (inputs as f32).sqrt();
            let count = shape.iter().product();
            (0..count)
                .map(|_| stream.random_range(-bound..=bound))
                .collect()
        };
        let values = match shape[..] {
            _ if name.ends_with(".skip.weight") => {
                let kind = name.trim_end_matches(".skip.weight");
                let deviations = initial.get(&format!("input.{kind}.std"));
                let skip = initial.get(name).iter().zip(deviations);
                skip.map(|(weight, deviation)| weight * deviation * GREEDY_LEAD)
                    .collect()
            }
            [inputs, _] => drawn(&mut stream, inputs),
            _ if name.ends_with(".none") => drawn(&mut stream, widths.host),
            // Of a dense layer; those of heads start at zero as it is.
            _ if name.ends_with(".bias") => vec![0.0; initial.get(name).len()],
            _ => initial.get(name).to_vec(),
        };
        (name.clone(), values)
    });
    Ok(Weights::new(widths, tensors.collect())?)
}

/// SHA-256 over all that the weights of an epoch depend on, the build aside, in hexadecimal.
fn fingerprint(args: &Args, sources: &[Source], start: &Weights) -> Result<String> {
    let mut hash = Sha256::new();
    for source in sources {
        for shard in &source.shards {
            hash.update(shard.as_bytes());
        }
        hash.update([0]);
    }
    for number in [args.epochs, args.batch_size] {
        hash.update(number.to_le_bytes());
    }
    for number in [args.learning_rate, args.validation_share] {
        hash.update(number.to_le_bytes());
    }
    hash.update(args.seed.to_le_bytes());
    hash.update(start.to_safetensors()?);
    Ok(hex::encode(hash.finalize()))
}
