//! What a decision leads to in one future, in the words of an operator.
//!
//! [`Account`] holds what is added from now on, which is what decisions are compared by. An
//! [`Outcome`] speaks of whole requests: those under way now and those that arrive up to the
//! horizon, from their arrival to their answer. Both have the same penalty but for what had
//! already happened, which no decision changes.

use super::ledger::Ledger;
use super::rollout::{Later, Script, Tally, Trace, roll_out};
use super::{Futures, Horizon, SCRATCH, SampledFuture};
use crate::decision::Decision;
use crate::ids::VariantId;
use crate::qos::Account;
use crate::sink::Sink;
use crate::state::Request;
use crate::statistics;
use crate::units::SimTime;
use crate::world::World;

/// What happens in one future if a decision is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// What is added from now on.
    pub account: Account,
    /// Requests under way now, and those that arrive up to the horizon.
    pub requests: usize,
    /// Mean response time of these, in s; the age at the end for those that are not answered by
    /// then. 0 without requests.
    pub response_mean_s: f64,
    /// 95th percentile of these response times, in s.
    pub response_p95_s: f64,
    /// Share of these that are late or turned away.
    pub sla_violation_ratio: f64,
    /// Mean accuracy of these; turned away counts as 0. 1 without requests.
    pub accuracy_mean: f64,
}

/// What the policy of a rollout does after the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// The greedy policy decides on what it finds.
    Greedy,
    /// It decides as it did when the futures were recorded ([`Futures::record_one`]).
    Held,
}

impl Futures {
    /// As [`Futures::record`], in future `future` alone, on the thread that calls.
    ///
    /// A number beyond the futures is of no effect.
    pub fn record_one(
        &mut self,
        world: &World,
        future: usize,
        decision: &Decision,
        horizon: Horizon,
    ) {
        let epoch = self.epoch;
        let Some(future) = self.futures.get_mut(future) else {
            return;
        };
        let mut script = Script::default();
        SCRATCH.with_borrow_mut(|(scratch, _)| {
            let plan = (decision, Later::Record(&mut script));
            let tally = &mut Tally::new(world);
            roll_out(world, (future, epoch), plan, horizon, scratch, tally);
        });
        future.script = script;
        future.baseline = None;
    }

    /// What `decision` leads to in future `future`, on the thread that calls: for callers who
    /// want to stop between two futures. `None` for a number beyond the futures.
    #[must_use]
    pub fn outcome(
        &self,
        world: &World,
        future: usize,
        decision: &Decision,
        horizon: Horizon,
        reaction: Reaction,
    ) -> Option<Outcome> {
        let sampled = self.futures.get(future)?;
        let later = match reaction {
            Reaction::Greedy => Later::Greedy,
            Reaction::Held => Later::Replay(&sampled.script),
        };
        let mut responses = Responses {
            tally: Tally::new(world),
            times_s: Vec::new(),
        };
        SCRATCH.with_borrow_mut(|(scratch, _)| {
            let plan = (decision, later);
            let place = (sampled, self.epoch);
            roll_out(world, place, plan, horizon, scratch, &mut responses);
        });
        Some(responses.outcome(world, sampled))
    }
}

/// Adds up, and keeps the response times.
struct Responses<'w> {
    tally: Tally<'w>,
    times_s: Vec<f64>,
}

impl Responses<'_> {
    fn outcome(mut self, world: &World, future: &SampledFuture) -> Outcome {
        let account = self.tally.into_ledger().account();
        let state = &future.state;
        let mut before = Ledger::default();
        for &slot in &state.active {
            let part = Ledger::under_way(world, state, &state.requests[slot as usize]);
            before.add_request(part);
        }
        let before = before.account();
        let requests = state.active.len() + future.arrivals.len();
        let count = requests.max(1) as f64;
        Outcome {
            account,
            requests,
            response_mean_s: (account.response_s + before.response_s) / count,
            response_p95_s: statistics::quantile(&mut self.times_s, 0.95).unwrap_or(0.0),
            sla_violation_ratio: (account.late + before.late) / count,
            accuracy_mean: 1.0 - (account.inaccuracy + before.inaccuracy) / count,
        }
    }
}

impl Sink for Responses<'_> {
    fn completed(&mut self, now: SimTime, request: &Request, variant: VariantId, late: bool) {
        self.times_s.push(now.since(request.arrived).seconds());
        self.tally.completed(now, request, variant, late);
    }
}

impl Trace for Responses<'_> {
    fn ledger(&mut self) -> &mut Ledger {
        self.tally.ledger()
    }

    fn unanswered(&mut self, age: SimTime) {
        self.times_s.push(age.seconds());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observation::Observation;
    use crate::policy::oracle;
    use crate::simulate;
    use crate::sink::Silent;
    use crate::state::{Epoch, Future, State};
    use crate::stream;
    use crate::what_if::accounts;

    /// A state of `scinet-16` in the middle of things.
    fn busy(world: &World) -> State {
        let arrivals = simulate::arrivals(world, &simulate::Options::new(3));
        let mut future = Future::new(&arrivals);
        let mut state = State::new(world);
        let mut policy = crate::policy::by_name("greedy", world, 1).expect("it exists");
        for _ in 0..20 {
            let epoch = state.advance(world, &mut future, world.episode(), &mut Silent);
            let mut decision = Decision::none();
            policy
                .decide(&Observation::new(world, &state, epoch), &mut decision)
                .expect("it decides");
            state.apply(world, &decision, &mut Silent);
        }
        state
    }

    #[test]
    fn outcomes_have_the_accounts_of_whole_rollouts() {
        let world = World::load("scinet-16").expect("the world is embedded");
        let state = busy(&world);
        let observation = Observation::new(&world, &state, Epoch::Boundary);
        let horizon = oracle::Options::default().power_horizon(&world);
        let mut stream = stream::named(1, "test");
        let mut futures = Futures::sample(&observation, 3, horizon.span, &mut stream);
        let none = [Decision::none()];
        let expected = accounts(&world, &futures, &none, horizon);
        for (future, expected) in expected[0].iter().enumerate() {
            let found = futures.outcome(&world, future, &none[0], horizon, Reaction::Greedy);
            let found = found.expect("there is such a future");
            assert_eq!(found.account, *expected);
            assert!(found.requests >= state.active.len());
            let ratios = [found.sla_violation_ratio, found.accuracy_mean];
            assert!(ratios.iter().all(|r| (0.0..=1.0).contains(r)), "{found:?}");
            assert!(found.response_mean_s > 0.0);
            // With what it did itself held fixed, the greedy policy's rollout is the same.
            futures.record_one(&world, future, &none[0], horizon);
            let held = futures.outcome(&world, future, &none[0], horizon, Reaction::Held);
            assert_eq!(held, Some(found));
        }
        let beyond = futures.outcome(&world, 3, &none[0], horizon, Reaction::Greedy);
        assert_eq!(beyond, None);
    }

    #[test]
    fn every_request_has_one_response_time() {
        let world = World::load("scinet-16").expect("the world is embedded");
        let state = busy(&world);
        let futures = Futures::known(&state, Epoch::Boundary, Vec::new());
        let horizon = oracle::Options::default().power_horizon(&world);
        let mut responses = Responses {
            tally: Tally::new(&world),
            times_s: Vec::new(),
        };
        let future = &futures.futures[0];
        SCRATCH.with_borrow_mut(|(scratch, _)| {
            let plan = (&Decision::none(), Later::Greedy);
            let place = (future, Epoch::Boundary);
            roll_out(&world, place, plan, horizon, scratch, &mut responses);
        });
        assert_eq!(responses.times_s.len(), state.active.len());
        let sum: f64 = responses.times_s.iter().sum();
        let count = responses.times_s.len() as f64;
        let outcome = responses.outcome(&world, future);
        assert!(
            (outcome.response_mean_s - sum / count).abs() < 1e-9,
            "{outcome:?}"
        );
    }
}
