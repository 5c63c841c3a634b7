//! What-if: what a joint decision is expected to lead to, before it is taken.
//!
//! Decisions are rolled out by the twin ([`twin::what_if`]) over sampled futures, all over the
//! same ones (common random numbers), so that what two decisions have in common cancels in the
//! difference. Each figure is a mean over the futures with the 95 % interval of Student's t. The
//! same question with the same seed gets the same answer, whatever else the machine does.
//!
//! To do *nothing* is to leave hosts as they are and the requests that wait to the greedy policy
//! of the rollouts, which also decides everything later.
//!
//! Prices are computed on the thread that asks, one rollout after the other, so that they take
//! nothing from the threads that decide; between two rollouts the [`Budget`] is looked at.
//!
//! Left out: stopping within a rollout, and figures by application.

pub mod budget;
pub mod wire;

use thiserror::Error;
use twin::decision::Decision;
use twin::objective::Objective;
use twin::observation::Observation;
use twin::policy::exhaustive;
use twin::state::Epoch;
use twin::statistics::Estimate;
use twin::stream;
use twin::units::SimTime;
use twin::what_if::{Futures, Horizon, Outcome, Reaction};
use twin::world::World;

pub use budget::{Budget, Cancel};

/// The fewest futures: with one there is no interval.
pub const MIN_FUTURES: usize = 2;
/// The most futures.
pub const MAX_FUTURES: usize = 512;
/// Futures unless a question says otherwise.
pub const FUTURES: usize = 32;
/// The most decisions that are compared in one question.
pub const MAX_ALTERNATIVES: usize = 64;
/// The most intervals over which decisions are priced.
pub const MAX_HORIZON_INTERVALS: u32 = 240;

/// How decisions are priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Number of futures.
    pub futures: usize,
    /// How far they are followed.
    pub horizon: Horizon,
    /// What is decided later.
    pub reaction: Reaction,
    /// What the futures are drawn from.
    pub seed: u64,
}

impl Plan {
    /// The plan for a decision at `epoch`: provisioning is priced until a host that is ordered
    /// now has served for some intervals, placements until their users would have lost patience;
    /// over `intervals` intervals where they are given.
    #[must_use]
    pub fn new(world: &World, epoch: Epoch, intervals: Option<u32>) -> Self {
        let mut horizon = exhaustive::horizon(world, epoch);
        if let Some(intervals) = intervals {
            horizon.span = SimTime(world.interval.0.saturating_mul(u64::from(intervals)));
        }
        Self {
            futures: FUTURES,
            horizon,
            reaction: Reaction::Greedy,
            seed: 0,
        }
    }
}

/// Why there are no prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PricingError {
    /// The time is up.
    #[error(
        "priced {done} of {total} rollouts within {limit_ms} ms: ask for fewer futures or \
         alternatives or a shorter horizon, or for more time"
    )]
    Late {
        /// Rollouts that were done.
        done: usize,
        /// Rollouts that were asked for.
        total: usize,
        /// The time, in ms.
        limit_ms: u128,
    },
    /// Nobody waits for the answer any more.
    #[error("nobody waits for the answer any more")]
    Cancelled,
}

/// The outcomes of decisions in the same futures.
#[derive(Clone, Debug)]
pub struct Prices {
    objective: Objective,
    horizon: Horizon,
    /// By decision, then by future.
    outcomes: Vec<Vec<Outcome>>,
}

/// Quality of service as means over futures with their 95 % intervals, from now to the horizon;
/// or differences of these.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QosEstimate {
    /// Energy, in J.
    pub energy_j: Estimate,
    /// Cost, in USD.
    pub cost_usd: Estimate,
    /// Mean response time, in s.
    pub response_mean_s: Estimate,
    /// 95th percentile of response time, in s.
    pub response_p95_s: Estimate,
    /// Share of requests that are late or turned away.
    pub sla_violation_ratio: Estimate,
    /// Mean accuracy.
    pub accuracy_mean: Estimate,
    /// Greenhouse gas, in g CO2e.
    pub carbon_g: Estimate,
    /// Penalty of what is added from now on, in s; lower is better.
    pub penalty_s: Estimate,
    /// The objective, minus the penalty per second of the horizon; higher is better.
    pub objective: Estimate,
}

/// Prices `decisions`, which the checker has found feasible in `observation`, by `plan`.
///
/// # Errors
///
/// If `budget` ends first.
pub fn price(
    observation: &Observation<'_>,
    decisions: &[Decision],
    plan: &Plan,
    budget: &Budget,
) -> Result<Prices, PricingError> {
    let mut prices = Prices::new(observation.world(), plan, decisions.len());
    prices.roll_out(observation, decisions, plan, budget)?;
    Ok(prices)
}

/// As [`price`], but if the time is up once some futures are done, these are what counts.
///
/// # Errors
///
/// If `budget` ends before [`MIN_FUTURES`] are done, or nobody waits.
pub fn price_as_far_as(
    observation: &Observation<'_>,
    decisions: &[Decision],
    plan: &Plan,
    budget: &Budget,
) -> Result<Prices, PricingError> {
    let mut prices = Prices::new(observation.world(), plan, decisions.len());
    match prices.roll_out(observation, decisions, plan, budget) {
        Ok(()) => Ok(prices),
        Err(PricingError::Late { .. }) if prices.futures() >= MIN_FUTURES => Ok(prices),
        Err(error) => Err(error),
    }
}

impl Prices {
    fn new(world: &World, plan: &Plan, decisions: usize) -> Self {
        Self {
            objective: world.objective,
            horizon: plan.horizon,
            outcomes: vec![Vec::with_capacity(plan.futures); decisions],
        }
    }

    /// Adds future after future, all decisions or none.
    fn roll_out(
        &mut self,
        observation: &Observation<'_>,
        decisions: &[Decision],
        plan: &Plan,
        budget: &Budget,
    ) -> Result<(), PricingError> {
        let world = observation.world();
        let total = decisions.len() * plan.futures;
        let mut stream = stream::named(plan.seed, "what-if/futures");
        for future in 0..plan.futures {
            budget.check(future * decisions.len(), total)?;
            // One at a time: a sampled future is a copy of the whole fleet.
            let mut sampled = Futures::sample(observation, 1, plan.horizon.span, &mut stream);
            if plan.reaction == Reaction::Held {
                sampled.record_one(world, 0, &Decision::none(), plan.horizon);
            }
            let mut outcomes = Vec::with_capacity(decisions.len());
            for (number, decision) in decisions.iter().enumerate() {
                budget.check(future * decisions.len() + number, total)?;
                outcomes.extend(sampled.outcome(world, 0, decision, plan.horizon, plan.reaction));
            }
            for (list, outcome) in self.outcomes.iter_mut().zip(outcomes) {
                list.push(outcome);
            }
        }
        Ok(())
    }

    /// Number of futures.
    #[must_use]
    pub fn futures(&self) -> usize {
        self.outcomes.first().map_or(0, Vec::len)
    }

    /// What decision `decision` is expected to lead to; `None` if it was not priced.
    #[must_use]
    pub fn qos(&self, decision: usize) -> Option<QosEstimate> {
        let outcomes = self.outcomes.get(decision)?;
        self.estimates(|of| Estimate::of(&self.column(outcomes, of)))
    }

    /// By how much decision `decision` is expected to differ from decision `other`, future by
    /// future; `None` if either was not priced.
    #[must_use]
    pub fn difference(&self, decision: usize, other: usize) -> Option<QosEstimate> {
        let (a, b) = (self.outcomes.get(decision)?, self.outcomes.get(other)?);
        self.estimates(|of| Estimate::of_differences(&self.column(a, of), &self.column(b, of)))
    }

    /// Penalty of decision `decision` in each future, in s.
    #[must_use]
    pub fn penalties_s(&self, decision: usize) -> Vec<f64> {
        let outcomes = self.outcomes.get(decision).map_or(&[][..], Vec::as_slice);
        self.column(outcomes, |prices, o| o.account.penalty(&prices.objective))
    }

    /// The decision of the least mean penalty among `candidates`, the first of equals.
    #[must_use]
    pub fn best(&self, candidates: impl Iterator<Item = usize>) -> Option<usize> {
        let mean = |decision| twin::statistics::mean(&self.penalties_s(decision));
        candidates
            .map(|decision| (mean(decision), decision))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, decision)| decision)
    }

    fn column(&self, outcomes: &[Outcome], of: fn(&Self, &Outcome) -> f64) -> Vec<f64> {
        outcomes.iter().map(|outcome| of(self, outcome)).collect()
    }

    fn estimates(
        &self,
        estimate: impl Fn(fn(&Self, &Outcome) -> f64) -> Option<Estimate>,
    ) -> Option<QosEstimate> {
        Some(QosEstimate {
            energy_j: estimate(|_, o| o.account.energy_j)?,
            cost_usd: estimate(|_, o| o.account.cost_usd)?,
            response_mean_s: estimate(|_, o| o.response_mean_s)?,
            response_p95_s: estimate(|_, o| o.response_p95_s)?,
            sla_violation_ratio: estimate(|_, o| o.sla_violation_ratio)?,
            accuracy_mean: estimate(|_, o| o.accuracy_mean)?,
            carbon_g: estimate(|_, o| o.account.carbon_g)?,
            penalty_s: estimate(|p, o| o.account.penalty(&p.objective))?,
            objective: estimate(|p, o| {
                -o.account.penalty(&p.objective) / p.horizon.span.seconds().max(1e-9)
            })?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use twin::state::State;

    fn long() -> Budget {
        Budget::new(Duration::from_secs(60), Cancel::new())
    }

    fn plan(world: &World, seed: u64) -> Plan {
        Plan {
            futures: 4,
            seed,
            ..Plan::new(world, Epoch::Boundary, Some(2))
        }
    }

    /// The embedded world, at its first moment.
    fn start() -> (World, State) {
        let world = World::load("scinet-16").expect("the world is embedded");
        let state = State::new(&world);
        (world, state)
    }

    #[test]
    fn a_seed_fixes_the_prices_and_nothing_differs_from_itself() {
        let (world, state) = start();
        let observation = Observation::new(&world, &state, Epoch::Boundary);
        let twice = [Decision::none(), Decision::none()];
        let run = |seed| price(&observation, &twice, &plan(&world, seed), &long());
        let prices = run(5).expect("there is time");
        let same = prices.difference(0, 1).expect("both were priced");
        assert!(same.penalty_s.mean.abs() < 1e-12);
        assert!(!same.energy_j.excludes_zero());
        let again = run(5).expect("there is time");
        assert_eq!(prices.qos(0), again.qos(0));
        assert_ne!(prices.qos(0), run(6).expect("there is time").qos(0));
        assert_eq!(prices.qos(2), None);
    }

    #[test]
    fn the_objective_is_the_penalty_over_the_horizon() {
        let (world, state) = start();
        let observation = Observation::new(&world, &state, Epoch::Boundary);
        let plan = plan(&world, 1);
        let prices = price(&observation, &[Decision::none()], &plan, &long()).expect("in time");
        let qos = prices.qos(0).expect("it was priced");
        let expected = -qos.penalty_s.mean / (2.0 * world.interval.seconds());
        assert!((qos.objective.mean - expected).abs() < 1e-9);
        // Hosts that are on draw power and cost money.
        assert!(qos.energy_j.mean > 0.0 && qos.cost_usd.mean > 0.0);
    }

    #[test]
    fn a_budget_ends_it() {
        let (world, state) = start();
        let observation = Observation::new(&world, &state, Epoch::Boundary);
        let run = |budget: &Budget| {
            price(&observation, &[Decision::none()], &plan(&world, 1), budget).err()
        };
        let none = Budget::new(Duration::ZERO, Cancel::new());
        let late = PricingError::Late {
            done: 0,
            total: 4,
            limit_ms: 0,
        };
        assert_eq!(run(&none), Some(late));
        let cancel = Cancel::new();
        drop(cancel.guard());
        let cancelled = Budget::new(Duration::from_secs(60), cancel);
        assert_eq!(run(&cancelled), Some(PricingError::Cancelled));
        assert_eq!(run(&long()), None);
    }
}
