//! Adds the ranges of features in training to a model that was fitted before there were any:
//! `cargo run --release -p models --example ranges -- models/scinet-16 models/azure-llm=0.2`.
//!
//! The datasets of a fit are not kept, so the ranges come from episodes like those that were
//! labeled: the training part of the model's world, with the greedy policy and the model itself in
//! turn, and, in the share of the episodes that is given after the folder, with weights of the
//! objective that are each multiplied by exp(N(0, 0.5)), as `trainer label --vary-objective` does.
//! A second set of episodes, held out from training, tells how many decisions are then flagged.

use std::error::Error;
use std::io::Write;
use std::path::Path;

use models::encoding::{Encoded, Encoder};
use models::{ModelFolder, ModelPolicy, Ranges};
use twin::objective::Weights;
use twin::policy::greedy::Greedy;
use twin::policy::{InputDrift, Policy, PolicyError};
use twin::sequence::{Chooser, Context, Question, Stepwise};
use twin::simulate::{self, Options};
use twin::stream;
use twin::workload::Split;
use twin::{Decision, Observation, World};

/// Episodes that the ranges are taken from.
const EPISODES: u64 = 40;
/// Episodes that are held against them.
const CHECKED: u64 = 4;
/// Deviation of the logarithms of the weights.
const OBJECTIVE_SD: f64 = 0.5;
/// The most intervals of an episode.
const INTERVALS: u32 = 200;

/// Answers as the model or the greedy policy, and shows the encoded questions to the ranges.
struct Seeing<'a, C> {
    inner: C,
    encoder: Encoder,
    encoded: Encoded,
    ranges: &'a mut Ranges,
}

impl<C: Chooser> Chooser for Seeing<'_, C> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn choose(
        &mut self,
        context: &Context<'_>,
        question: &Question<'_>,
    ) -> Result<usize, PolicyError> {
        self.encoder.encode(context, question, &mut self.encoded);
        self.ranges.see(&self.encoded);
        self.inner.choose(context, question)
    }
}

/// Decides as the model, and keeps the share of features outside of each decision.
struct Checking {
    model: ModelPolicy,
    shares: Vec<f64>,
}

impl Policy for Checking {
    fn name(&self) -> &str {
        self.model.name()
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        self.model.decide(observation, decision)?;
        let share = self.model.drift().map_or(0.0, InputDrift::outside_share);
        self.shares.push(share);
        Ok(())
    }
}

fn options(world: &World, seed: u64, split: Split) -> Options {
    Options {
        intervals: Some(world.episode_intervals.min(INTERVALS)),
        split,
        ..Options::new(seed)
    }
}

fn see(
    world: &World,
    chooser: impl Chooser,
    seed: u64,
    ranges: &mut Ranges,
) -> Result<(), Box<dyn Error>> {
    let seeing = Seeing {
        inner: chooser,
        encoder: Encoder::new(),
        encoded: Encoded::default(),
        ranges,
    };
    let options = options(world, seed, Split::Training);
    simulate::run(world, &mut Stepwise::new(seeing), &options)?;
    Ok(())
}

/// `world` in episode `seed`: with other weights in a share of the episodes.
fn episode_world(world: &World, seed: u64, share: f64) -> World {
    let mut world = world.clone();
    if stream::unit(seed, 0) < share {
        let mut part = 0;
        let weights = world.objective.weights.to_array().map(|weight| {
            part += 2;
            // Box and Muller's transform.
            let (u, v) = (stream::unit(seed, part - 1), stream::unit(seed, part));
            let normal = (-2.0 * u.max(1e-12).ln()).sqrt() * (std::f64::consts::TAU * v).cos();
            weight * (OBJECTIVE_SD * normal).exp()
        });
        world.objective.weights = Weights::from_array(weights);
    }
    world
}

fn add_ranges(dir: &Path, varied: f64, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut folder = ModelFolder::load(dir)?;
    let world = World::load(&folder.config.world)?;
    let model = ModelPolicy::new("model", &folder)?;
    let mut ranges = Ranges::default();
    for seed in 1..=EPISODES {
        let world = episode_world(&world, seed, varied);
        match seed % 2 {
            0 => see(&world, model.chooser().clone(), seed, &mut ranges)?,
            _ => see(&world, Greedy, seed, &mut ranges)?,
        }
    }
    folder.ranges = Some(ranges);
    folder.save(dir)?;
    let mut checking = Checking {
        model: ModelPolicy::new("model", &folder)?,
        shares: Vec::new(),
    };
    for seed in 1..=CHECKED {
        simulate::run(
            &world,
            &mut checking,
            &options(&world, 1000 + seed, Split::HeldOut),
        )?;
    }
    let shares = &checking.shares;
    let above = |bound: f64| shares.iter().filter(|share| **share > bound).count() as f64;
    writeln!(
        out,
        "{}: of {} held-out decisions, {:.2} % have a feature outside, {:.2} % more than a tenth, {:.2} % more than a fifth",
        dir.display(),
        shares.len(),
        100.0 * above(0.0) / shares.len().max(1) as f64,
        100.0 * above(0.1) / shares.len().max(1) as f64,
        100.0 * above(0.2) / shares.len().max(1) as f64,
    )?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    for argument in std::env::args().skip(1) {
        let (dir, varied) = match argument.split_once('=') {
            Some((dir, share)) => (dir, share.parse()?),
            None => (argument.as_str(), 0.0),
        };
        add_ranges(Path::new(dir), varied, &mut out)?;
    }
    Ok(())
}
