//! The gap between the oracle and an exhaustive search, on small instances.
//!
//! States are visited by a mixture of the greedy policy and the oracle, one state an episode, so
//! that states are independent. At each the exhaustive search
//! ([`crate::policy::exhaustive`]), the oracle, the greedy policy and chance decide, and their
//! decisions are priced on fresh futures that none of them has seen, the same for all.
//!
//! No search can be sure of the best decision, since each sees finitely many futures. But the gap
//! to it has bounds in the mean over states. From below: by how much the decision of the
//! exhaustive search is better on fresh futures, for no decision is better there in expectation
//! than the best. From above: by how much the greatest of all values is better than the oracle's
//! on the futures of the exhaustive search, for it has been chosen there, and the oracle's has not
//! (Mak, Morton and Wood, Operations Research Letters 1999).
//!
//! What is compared is one decision, with the greedy policy deciding everything later; not what
//! comes of deciding well again and again, which closed-loop runs tell.

pub mod small;

use std::time::Duration;

use rand::RngExt;
use rayon::prelude::*;
use serde::Serialize;
use thiserror::Error;

use crate::checker::{self, Infeasible};
use crate::decision::Decision;
use crate::observation::Observation;
use crate::policy::exhaustive::{self, canonical};
use crate::policy::greedy::Greedy;
use crate::policy::oracle::{self, Oracle};
use crate::policy::{Policy, PolicyError};
use crate::sequence::Stepwise;
use crate::simulate;
use crate::sink::Silent;
use crate::state::{Epoch, Future, State};
use crate::statistics::{Estimate, quantile};
use crate::stream::{self, Stream};
use crate::what_if::{self, Futures};
use crate::world::{Dispatch, World};

/// Probability that the oracle decides where a state is visited; else the greedy policy does.
const ORACLE_VISITS: f64 = 0.25;
/// A state after an arrival is one of this many arrivals after a boundary.
const ARRIVALS_AFTER: u32 = 8;
/// Decisions that stand for chance.
const RANDOM: usize = 8;

/// How the gap is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Number of states.
    pub states: u64,
    /// Seed of episodes, futures and chance.
    pub seed: u64,
    /// Fresh futures that the decisions are compared on.
    pub futures: usize,
    /// The oracle's decision counts as best if its gap is at most this, in s of penalty.
    pub epsilon_s: f64,
    /// How hard the exhaustive search works.
    pub search: exhaustive::Options,
    /// How hard the oracle searches.
    pub oracle: oracle::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            states: 100,
            seed: 0,
            futures: 256,
            epsilon_s: 0.1,
            search: exhaustive::Options::default(),
            oracle: oracle::Options::default(),
        }
    }
}

/// Why the gap could not be measured.
#[derive(Debug, Error)]
pub enum GapError {
    /// A policy gave no decision.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A policy gave a decision that cannot be carried out.
    #[error("policy {policy} gave an infeasible decision: {source}")]
    Infeasible {
        /// The policy.
        policy: String,
        /// Why not.
        source: Infeasible,
    },
}

/// Kinds of states, by what is to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A boundary where no request waits: which hosts are on.
    Provisioning,
    /// A boundary where requests wait: everything.
    Joint,
    /// A request has arrived: variant and placement.
    Arrival,
}

impl Kind {
    fn of(observation: &Observation<'_>) -> Self {
        match observation.epoch() {
            Epoch::Boundary if observation.waiting().next().is_none() => Self::Provisioning,
            Epoch::Boundary => Self::Joint,
            Epoch::Arrival | Epoch::End => Self::Arrival,
        }
    }
}

/// What one state shows. Penalties in seconds, over the horizon of [`exhaustive::horizon`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// What is to be decided.
    pub kind: Kind,
    /// Joint decisions that were priced.
    pub decisions: usize,
    /// Epochs of the episode that were passed over before, having too many decisions.
    pub refused: usize,
    /// Penalty of the decision of the exhaustive search on fresh futures, in s.
    pub penalty_s: f64,
    /// How much worse the oracle's decision is there, in s; negative if it is better.
    pub oracle_s: f64,
    /// How much worse the greedy policy's is, in s.
    pub greedy_s: f64,
    /// How much worse no decision is, in s: hosts stay as they are, requests are left to the
    /// greedy policy of the rollouts, which knows the sampled work that is left.
    pub nothing_s: f64,
    /// How much worse decisions drawn at random are in the mean, in s.
    pub random_s: f64,
    /// How much worse the oracle's decision is than the greatest of all values on the futures of
    /// the exhaustive search, in s.
    pub oracle_in_sample_s: f64,
    /// Time that the oracle took, in s.
    pub oracle_time_s: f64,
    /// Time that the exhaustive search took, in s.
    pub exhaustive_time_s: f64,
}

/// The states of one kind taken together; estimates are means over states.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The kind.
    pub kind: Kind,
    /// Number of states.
    pub states: usize,
    /// Epochs that were passed over, having too many decisions.
    pub refused: usize,
    /// Mean number of joint decisions.
    pub decisions_mean: f64,
    /// Greatest number of joint decisions.
    pub decisions_max: usize,
    /// Mean penalty of the exhaustive search's decisions, in s.
    pub penalty_s: f64,
    /// Gap of the oracle on fresh futures, in s: in the mean a lower bound.
    pub oracle_s: Estimate,
    /// Gap of the oracle on the futures of the exhaustive search, in s: in the mean an upper bound.
    pub oracle_in_sample_s: Estimate,
    /// Gap of the greedy policy, in s.
    pub greedy_s: Estimate,
    /// Gap of no decision, in s.
    pub nothing_s: Estimate,
    /// Gap of chance, in s.
    pub random_s: Estimate,
    /// Gap of the oracle as a part of that of the greedy policy, in %; absent if that is not
    /// above zero.
    pub oracle_of_greedy_percent: Option<f64>,
    /// Gap of the oracle as a part of that of no decision, in %.
    pub oracle_of_nothing_percent: Option<f64>,
    /// Gap of the oracle as a part of that of chance, in %.
    pub oracle_of_random_percent: Option<f64>,
    /// Share of states where the oracle's gap is at most epsilon.
    pub within_epsilon: f64,
    /// Median time of the oracle's decisions, in s.
    pub oracle_time_p50_s: f64,
    /// Median time of the exhaustive search, in s.
    pub exhaustive_time_p50_s: f64,
}

/// What looks on: a clock for decision times, and the number of steps that are done.
pub struct Hooks<'a> {
    /// Reads a clock.
    pub clock: &'a (dyn Fn() -> Duration + Sync),
    /// Called after each step; there are two a state.
    pub step: &'a (dyn Fn() + Sync),
}

/// A state where a decision is due.
struct Visited {
    state: State,
    epoch: Epoch,
    refused: usize,
    seed: u64,
}

/// Measures the gap in `world`, state by state.
///
/// Half of the states are at boundaries where no request waits, half at arrivals or, where requests
/// are dispatched at boundaries, at those where some wait. Episodes without a state that leaves a choice give no measurement. But for the times,
/// the result does not depend on the number of threads.
///
/// # Errors
///
/// If a policy gives no decision or an infeasible one.
pub fn measure(
    world: &World,
    options: &Options,
    hooks: &Hooks<'_>,
) -> Result<Vec<Measurement>, GapError> {
    let visited: Vec<Option<Visited>> = (0..options.states)
        .into_par_iter()
        .map(|i| {
            let kind = match world.dispatch {
                _ if i % 2 == 0 => Kind::Provisioning,
                Dispatch::OnArrival => Kind::Arrival,
                Dispatch::Interval => Kind::Joint,
            };
            let visited = visit(world, options, kind, stream::mix(options.seed, i));
            (hooks.step)();
            visited
        })
        .collect::<Result<_, GapError>>()?;
    // One state after the other, so that times are those of one search on all threads.
    let mut measurements = Vec::new();
    for visited in visited {
        if let Some(visited) = visited {
            measurements.extend(compare(world, options, &visited, hooks)?);
        }
        (hooks.step)();
    }
    Ok(measurements)
}

/// Goes to a random moment of an episode, and on from there to the first state of kind `wanted` that
/// leaves a choice and can be searched.
fn visit(
    world: &World,
    options: &Options,
    wanted: Kind,
    seed: u64,
) -> Result<Option<Visited>, GapError> {
    let mut chance = stream::named(seed, "gap/visit");
    let arrivals = simulate::arrivals(world, &simulate::Options::new(seed));
    let mut future = Future::new(&arrivals);
    let mut greedy = Stepwise::new(Greedy);
    let mut oracle = Stepwise::new(Oracle::new(options.oracle, seed));
    let mut decision = Decision::none();
    let mut state = State::new(world);
    let mut boundaries = chance.random_range(1..=world.episode_intervals);
    let mut more = match wanted {
        Kind::Arrival => chance.random_range(0..ARRIVALS_AFTER),
        Kind::Provisioning | Kind::Joint => 0,
    };
    let mut refused = 0;
    loop {
        let epoch = state.advance(world, &mut future, world.episode(), &mut Silent);
        if epoch == Epoch::End {
            return Ok(None);
        }
        boundaries = boundaries.saturating_sub(u32::from(epoch == Epoch::Boundary));
        let observation = Observation::new(world, &state, epoch);
        if boundaries == 0 && Kind::of(&observation) == wanted {
            if more == 0 {
                match exhaustive::decisions(&observation, options.search.limit) {
                    Ok(decisions) if decisions.len() > 1 => {
                        return Ok(Some(Visited {
                            state,
                            epoch,
                            refused,
                            seed,
                        }));
                    }
                    Ok(_) => {}
                    Err(_) => refused += 1,
                }
            }
            more = more.saturating_sub(1);
        }
        if chance.random::<f64>() < ORACLE_VISITS {
            decide(&mut oracle, &observation, &mut decision)?;
        } else {
            decide(&mut greedy, &observation, &mut decision)?;
        }
        state.apply(world, &decision, &mut Silent);
    }
}

/// Decides, and has the decision checked.
fn decide(
    policy: &mut dyn Policy,
    observation: &Observation<'_>,
    decision: &mut Decision,
) -> Result<(), GapError> {
    decision.clear();
    policy.decide(observation, decision)?;
    checker::check(observation, decision).map_err(|source| GapError::Infeasible {
        policy: policy.name().into(),
        source,
    })
}

/// Lets everyone decide, and prices the decisions; `None` if there are too many to search.
fn compare(
    world: &World,
    options: &Options,
    visited: &Visited,
    hooks: &Hooks<'_>,
) -> Result<Option<Measurement>, GapError> {
    let observation = Observation::new(world, &visited.state, visited.epoch);
    let mut stream = stream::named(visited.seed, "gap/search");
    let started = (hooks.clock)();
    let Ok(found) = exhaustive::search(&observation, &options.search, &mut stream) else {
        return Ok(None);
    };
    let searched = (hooks.clock)();
    let mut decision = Decision::none();
    let mut policy = Stepwise::new(Oracle::new(options.oracle, stream::mix(visited.seed, 1)));
    decide(&mut policy, &observation, &mut decision)?;
    let decided = (hooks.clock)();
    let oracle = canonical(&observation, &decision);
    decide(&mut Stepwise::new(Greedy), &observation, &mut decision)?;
    let greedy = canonical(&observation, &decision);

    let horizon = exhaustive::horizon(world, visited.epoch);
    let alone = std::slice::from_ref(&oracle);
    let in_sample = what_if::evaluate(world, &found.futures, alone, horizon)[0];
    let greatest = found.values[oracle::best(&found.values)];

    let mut fresh = stream::named(visited.seed, "gap/fresh");
    let futures = Futures::sample(&observation, options.futures, horizon.span, &mut fresh);
    let mut compared = vec![found.best, oracle, greedy, Decision::none()];
    let count = found.decisions.len();
    let mut chance: Stream = stream::named(visited.seed, "gap/chance");
    compared.extend((0..RANDOM).map(|_| found.decisions[chance.random_range(0..count)].clone()));
    let values = what_if::evaluate(world, &futures, &compared, horizon);
    let random = values[4..].iter().sum::<f64>() / RANDOM as f64;
    Ok(Some(Measurement {
        kind: Kind::of(&observation),
        decisions: count,
        refused: visited.refused,
        penalty_s: -values[0],
        oracle_s: values[0] - values[1],
        greedy_s: values[0] - values[2],
        nothing_s: values[0] - values[3],
        random_s: values[0] - random,
        oracle_in_sample_s: greatest - in_sample,
        oracle_time_s: decided.saturating_sub(searched).as_secs_f64(),
        exhaustive_time_s: searched.saturating_sub(started).as_secs_f64(),
    }))
}

/// Takes the measurements of each kind together; kinds without a state are left out.
#[must_use]
pub fn summaries(measurements: &[Measurement], epsilon_s: f64) -> Vec<Summary> {
    [Kind::Provisioning, Kind::Joint, Kind::Arrival]
        .into_iter()
        .filter_map(|kind| {
            let mut list: Vec<Measurement> = measurements.to_vec();
            list.retain(|m| m.kind == kind);
            summary(kind, &list, epsilon_s)
        })
        .collect()
}

fn summary(kind: Kind, list: &[Measurement], epsilon_s: f64) -> Option<Summary> {
    let column = |of: fn(&Measurement) -> f64| -> Vec<f64> { list.iter().map(of).collect() };
    let estimate = |of| Estimate::of(&column(of));
    let median = |of| quantile(&mut column(of), 0.5);
    let oracle_s = estimate(|m| m.oracle_s)?;
    let greedy_s = estimate(|m| m.greedy_s)?;
    let nothing_s = estimate(|m| m.nothing_s)?;
    let random_s = estimate(|m| m.random_s)?;
    let percent_of =
        |whole: &Estimate| (whole.mean > 0.0).then(|| 100.0 * oracle_s.mean / whole.mean);
    Some(Summary {
        kind,
        states: list.len(),
        refused: list.iter().map(|m| m.refused).sum(),
        decisions_mean: estimate(|m| m.decisions as f64)?.mean,
        decisions_max: list.iter().map(|m| m.decisions).max().unwrap_or(0),
        penalty_s: estimate(|m| m.penalty_s)?.mean,
        oracle_s,
        oracle_in_sample_s: estimate(|m| m.oracle_in_sample_s)?,
        oracle_of_greedy_percent: percent_of(&greedy_s),
        oracle_of_nothing_percent: percent_of(&nothing_s),
        oracle_of_random_percent: percent_of(&random_s),
        greedy_s,
        nothing_s,
        random_s,
        within_epsilon: list.iter().filter(|m| m.oracle_s <= epsilon_s).count() as f64
            / list.len() as f64,
        oracle_time_p50_s: median(|m| m.oracle_time_s)?,
        exhaustive_time_p50_s: median(|m| m.exhaustive_time_s)?,
    })
}
