//! One episode: who steers it, and the rows it gives.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use datasets::decisions::DecisionRow;
use models::encoding::{Encoded, Encoder};
use models::policy::ModelChooser;
use rand::{Rng, RngExt};
use statrs::distribution::{ContinuousCDF, Normal};
use twin::objective::Weights;
use twin::policy::greedy::Greedy;
use twin::policy::oracle::{self, Oracle};
use twin::policy::{self, Policy, PolicyError};
use twin::sequence::{Chooser, Context, Question, Stepwise};
use twin::simulate;
use twin::sink::Silent;
use twin::state::{Epoch, Future};
use twin::stream::{self, Stream};
use twin::units::SimTime;
use twin::workload::{Arrival, Split};
use twin::{Decision, Observation, State, World, checker, snapshot};

use super::mixture::{Mixture, NOISY_ORACLE};
use crate::progress::Progress;

/// Probability that the noisy oracle answers a question at random.
const NOISE: f64 = 0.15;

/// Standard deviation of the logarithm of what weights of the objective are multiplied by.
const OBJECTIVE_SD: f64 = 0.5;

/// Intervals over which the load is told: the next one, and the next three.
const LOAD_INTERVALS: [u32; models::weights::FORECASTS] = [1, 3];

/// What all episodes have in common.
pub(super) struct Job<'a> {
    pub(super) world: &'a World,
    pub(super) seed: u64,
    pub(super) intervals: u32,
    pub(super) mixture: &'a Mixture,
    /// The model that steers too, and its share of the episodes.
    pub(super) model: Option<(&'a ModelChooser, f64)>,
    pub(super) vary_objective: f64,
    pub(super) label_share: f64,
    pub(super) oracle: oracle::Options,
}

/// The seed of episode `episode` of a run with `seed`.
#[must_use]
pub fn episode_seed(seed: u64, episode: u64) -> u64 {
    stream::named(seed, &format!("label/episode {episode}")).next_u64()
}

/// The world of the episode with `episode_seed`: with probability `vary_objective`, each weight of
/// the objective that models see is multiplied by exp(N(0, 0.5)).
#[must_use]
pub fn episode_world(world: &World, episode_seed: u64, vary_objective: f64) -> World {
    let mut stream = stream::named(episode_seed, "label/objective");
    let mut world = world.clone();
    if stream.random::<f64>() < vary_objective {
        let normal = Normal::standard();
        let weights = world.objective.weights.to_array().map(|weight| {
            let u = stream.random::<f64>().clamp(1e-12, 1.0 - 1e-12);
            weight * (OBJECTIVE_SD * normal.inverse_cdf(u)).exp()
        });
        let Weights { carbon, unmet, .. } = world.objective.weights;
        world.objective.weights = Weights {
            carbon,
            unmet,
            ..Weights::from_array(weights)
        };
    }
    world
}

/// Prices the questions at `state` again: the rows of its epoch in the episode with
/// `episode_seed`, with every question answered as the oracle does.
///
/// `world` is that of the episode ([`episode_world`]). Rows lack what only the episode knows: its
/// number, their steps, who steered, and the load that followed.
///
/// # Errors
///
/// If the oracle gives no answer.
pub fn relabel(
    world: &World,
    options: oracle::Options,
    episode_seed: u64,
    state: &State,
) -> Result<Vec<DecisionRow>, PolicyError> {
    let mut stepwise = Stepwise::new(Labeler::new(Answers::Best));
    stepwise.chooser.oracle = Some(oracle_at(options, episode_seed, state.now()));
    let observation = Observation::new(world, state, state.epoch(world));
    stepwise.decide(&observation, &mut Decision::none())?;
    let mut rows = stepwise.chooser.rows;
    if let Some(first) = rows.first_mut() {
        first.state = snapshot::encode(state);
    }
    Ok(rows)
}

/// The oracle of the epoch at `now`: its futures depend on nothing but these.
fn oracle_at(options: oracle::Options, episode_seed: u64, now: SimTime) -> Oracle {
    Oracle::new(options, stream::mix(episode_seed, now.0))
}

/// Answers questions as it is told to, and writes down what the oracle says of them.
struct Labeler {
    /// There if the epoch is labeled.
    oracle: Option<Oracle>,
    answers: Answers,
    encoder: Encoder,
    encoded: Encoded,
    rows: Vec<DecisionRow>,
}

/// How a question is answered.
enum Answers {
    /// As the oracle does, or the greedy policy where nothing is labeled.
    Best,
    /// So, but at random with probability [`NOISE`].
    Noisy(Box<Stream>),
    Greedy,
    Model(Box<ModelChooser>),
}

impl Labeler {
    fn new(answers: Answers) -> Self {
        Self {
            oracle: None,
            answers,
            encoder: Encoder::new(),
            encoded: Encoded::default(),
            rows: Vec::new(),
        }
    }

    /// The best answer as far as it is known; writes the row where the epoch is labeled.
    fn best(
        &mut self,
        context: &Context<'_>,
        question: &Question<'_>,
    ) -> Result<usize, PolicyError> {
        let Some(oracle) = &mut self.oracle else {
            return Greedy.choose(context, question);
        };
        let answer = oracle.choose(context, question)?;
        self.encoder.encode(context, question, &mut self.encoded);
        // Candidates may be fewer than answers; what is not among them is not priced either.
        let listed = |candidate| oracle.values().get(self.encoded.answer(candidate)).copied();
        let values: Vec<f64> = (0..self.encoded.candidate_count)
            .map(|candidate| listed(candidate).unwrap_or(f64::NAN))
            .collect();
        let best = oracle::best(&values);
        if values[best].is_finite() {
            let time_s = context.observation.now().seconds();
            self.rows.push(row(&self.encoded, &values, best, time_s));
        }
        Ok(answer)
    }
}

/// A row without what the episode adds.
fn row(encoded: &Encoded, values: &[f64], best: usize, time_s: f64) -> DecisionRow {
    DecisionRow {
        episode: 0,
        step: 0,
        policy: String::new(),
        kind: u8::try_from(encoded.kind.index()).unwrap_or(u8::MAX),
        time_s,
        weight: 1.0,
        global: encoded.global.clone(),
        hosts: encoded.hosts.clone(),
        host_count: encoded.host_count_u32(),
        candidates: encoded.candidates.clone(),
        candidate_count: encoded.candidate_count_u32(),
        candidate_hosts: encoded.candidate_hosts.clone(),
        values: values
            .iter()
            .map(|value| difference(*value, values[best]))
            .collect(),
        best: u32::try_from(best).unwrap_or(u32::MAX),
        target_load: Vec::new(),
        state: Vec::new(),
    }
}

/// `value` relative to `most`; NaN where it has no price.
fn difference(value: f64, most: f64) -> f32 {
    if value.is_finite() {
        single(value - most)
    } else {
        f32::NAN
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "datasets hold single precision"
)]
fn single(value: f64) -> f32 {
    value as f32
}

impl Chooser for Labeler {
    fn name(&self) -> &'static str {
        "labeler"
    }

    fn begin(&mut self, observation: &Observation<'_>) {
        if let Some(oracle) = &mut self.oracle {
            oracle.begin(observation);
        }
    }

    fn choose(
        &mut self,
        context: &Context<'_>,
        question: &Question<'_>,
    ) -> Result<usize, PolicyError> {
        let best = self.best(context, question)?;
        match &mut self.answers {
            Answers::Best => Ok(best),
            Answers::Greedy => Greedy.choose(context, question),
            Answers::Model(model) => model.choose(context, question),
            Answers::Noisy(stream) => Ok(if stream.random::<f64>() < NOISE {
                stream.random_range(0..question.len())
            } else {
                best
            }),
        }
    }
}

/// Who steers an episode.
struct Steering {
    name: String,
    stepwise: Stepwise<Labeler>,
    /// Decides in its place; the labeler's answers then only lead from question to question.
    policy: Option<Box<dyn Policy>>,
}

impl Steering {
    fn draw(job: &Job<'_>, world: &World, seed: u64) -> Result<Self> {
        let mut stream = stream::named(seed, "label/steering");
        let (by_model, point): (f64, f64) = (stream.random(), stream.random());
        let mut policy = None;
        let (name, answers) = match job.model {
            Some((model, share)) if by_model < share => {
                ("model", Answers::Model(Box::new(model.clone())))
            }
            _ => match job.mixture.at(point) {
                "oracle" => ("oracle", Answers::Best),
                "greedy" => ("greedy", Answers::Greedy),
                NOISY_ORACLE => (NOISY_ORACLE, Answers::Noisy(Box::new(stream))),
                name => {
                    policy = Some(policy::by_name(name, world, seed)?);
                    (name, Answers::Best)
                }
            },
        };
        let stepwise = Stepwise::new(Labeler::new(answers));
        Ok(Self {
            name: name.to_owned(),
            stepwise,
            policy,
        })
    }

    /// Decides at `observation`; labels it if there is an `oracle`, and returns the rows.
    fn decide(
        &mut self,
        observation: &Observation<'_>,
        oracle: Option<Oracle>,
        decision: &mut Decision,
    ) -> Result<Vec<DecisionRow>, PolicyError> {
        let labels = oracle.is_some();
        self.stepwise.chooser.oracle = oracle;
        if labels || self.policy.is_none() {
            self.stepwise.decide(observation, decision)?;
        }
        if let Some(policy) = &mut self.policy {
            decision.clear();
            policy.decide(observation, decision)?;
        }
        Ok(std::mem::take(&mut self.stepwise.chooser.rows))
    }
}

impl Job<'_> {
    /// The rows of episode `episode`; `None` if `stop` was set before the end.
    ///
    /// # Errors
    ///
    /// If the policy that steers gives no feasible decision.
    pub(super) fn run(
        &self,
        episode: u64,
        stop: &AtomicBool,
        progress: &Progress,
    ) -> Result<Option<Vec<DecisionRow>>> {
        let seed = episode_seed(self.seed, episode);
        let world = episode_world(self.world, seed, self.vary_objective);
        let mut steering = Steering::draw(self, &world, seed)?;
        let name = steering.name.clone();
        let arrivals = arrivals(&world, seed, self.intervals);
        let load = Load::new(&world, &arrivals);
        let mut sampling = stream::named(seed, "label/epochs");
        let mut future = Future::new(&arrivals);
        let mut state = State::new(&world);
        let end = SimTime(world.interval.0.saturating_mul(u64::from(self.intervals)));
        let mut decision = Decision::none();
        let mut rows = Vec::new();
        loop {
            let epoch = state.advance(&world, &mut future, end, &mut Silent);
            if epoch == Epoch::End {
                return Ok(Some(rows));
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let now = state.now();
            let labels = epoch == Epoch::Boundary || sampling.random::<f64>() < self.label_share;
            let oracle = labels.then(|| oracle_at(self.oracle, seed, now));
            let observation = Observation::new(&world, &state, epoch);
            decision.clear();
            let place = || format!("episode {episode}, steered by {name}, at {now}");
            let mut found = steering
                .decide(&observation, oracle, &mut decision)
                .with_context(place)?;
            checker::check(&observation, &decision).with_context(place)?;
            progress.add(found.len() as u64);
            if let Some(first) = found.first_mut() {
                first.state = snapshot::encode(&state);
            }
            for mut row in found {
                row.episode = episode;
                row.step = u32::try_from(rows.len()).unwrap_or(u32::MAX);
                row.policy.clone_from(&name);
                row.target_load = load.after(now).to_vec();
                rows.push(row);
            }
            state.apply(&world, &decision, &mut Silent);
        }
    }
}

/// What arrives in an episode, and after its end as long as loads are told.
fn arrivals(world: &World, seed: u64, intervals: u32) -> Vec<Arrival> {
    let beyond = LOAD_INTERVALS.into_iter().max().unwrap_or(0);
    let options = simulate::Options {
        seed,
        intervals: Some(intervals.saturating_add(beyond)),
        split: Split::Training,
        timeline: false,
    };
    simulate::arrivals(world, &options)
}

/// The work that arrives, summed up.
struct Load {
    times: Vec<SimTime>,
    /// Work of the first so many arrivals, in MI.
    sums_mi: Vec<f64>,
    interval: SimTime,
    capacity_mips: f64,
}

impl Load {
    fn new(world: &World, arrivals: &[Arrival]) -> Self {
        let mut sums_mi = vec![0.0];
        let mut sum_mi = 0.0;
        for arrival in arrivals {
            sum_mi += work_mi(world, arrival);
            sums_mi.push(sum_mi);
        }
        Self {
            times: arrivals.iter().map(|arrival| arrival.time).collect(),
            sums_mi,
            interval: world.interval,
            capacity_mips: world.capacity().0,
        }
    }

    /// For each of [`LOAD_INTERVALS`], ln(1 + work that arrives in them after `now` / what all
    /// hosts can do in that time).
    fn after(&self, now: SimTime) -> [f32; LOAD_INTERVALS.len()] {
        let until = |time: SimTime| self.sums_mi[self.times.partition_point(|t| *t <= time)];
        LOAD_INTERVALS.map(|intervals| {
            let span = SimTime(self.interval.0 * u64::from(intervals));
            let arriving_mi = until(now.after(span)) - until(now);
            single((arriving_mi / (self.capacity_mips * span.seconds())).ln_1p())
        })
    }
}

/// The work of an arrival in its most accurate variant, in MI, with the tokens that it will really
/// have and the mean of what is random beside them.
fn work_mi(world: &World, arrival: &Arrival) -> f64 {
    let variant = world.variant(
        arrival.application,
        world.most_accurate(arrival.application),
    );
    variant
        .fragments
        .iter()
        .map(|fragment| {
            fragment.work_mi.mean()
                + fragment.work_mi_per_context_token * f64::from(arrival.context_tokens)
                + fragment.work_mi_per_generated_token * f64::from(arrival.generated_tokens)
        })
        .sum()
}
