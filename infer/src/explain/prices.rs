//! What the twin says of a decision, and of the same one with a single answer changed.

use twin::checker;
use twin::decision::Decision;
use twin::observation::Observation;
use twin::state::Epoch;
use twin::statistics;
use twin::what_if::Reaction;

use super::choices::{Asked, Candidate, name_of};
use super::{Explanation, MAX_ALTERNATIVES, MAX_PRICED};
use crate::pricing::{self, Budget, Plan, Prices, PricingError};
use crate::recent::Recorded;

/// Where doing nothing and the decision itself stand among those that are priced.
const NOTHING: usize = 0;
const ITSELF: usize = 1;

/// A decision to be priced, and what it is the price of.
struct Variation {
    decision: Decision,
    /// Position of the action.
    action: usize,
    /// The question and the answer in place of the one that was given; `None` where the action
    /// is left out.
    instead: Option<(usize, usize)>,
}

/// Adds the prices to `explanation`, as far as the time goes.
///
/// # Errors
///
/// If nobody waits for them any more.
pub(super) fn add(
    observation: &Observation<'_>,
    recorded: &Recorded,
    asked: &[Asked],
    explanation: &mut Explanation,
    (futures, budget): (usize, &Budget),
) -> Result<(), PricingError> {
    let decision = &recorded.decision;
    let variations = variations(observation, decision, asked, explanation.actions.len());
    let mut decisions = vec![Decision::none(), decision.clone()];
    decisions.extend(variations.iter().map(|v| v.decision.clone()));
    let mut plan = Plan::new(observation.world(), observation.epoch(), None);
    plan.futures = futures;
    plan.seed = recorded.id.0;
    if observation.epoch() == Epoch::Arrival {
        // What one request changes drowns in the reactions to it.
        plan.reaction = Reaction::Held;
    }
    let prices = match pricing::price_as_far_as(observation, &decisions, &plan, budget) {
        Ok(prices) => prices,
        // Everything but the prices is known.
        Err(PricingError::Late { .. }) => return Ok(()),
        Err(error @ PricingError::Cancelled) => return Err(error),
    };
    explanation.futures = prices.futures();
    explanation.cut_short = prices.futures() < futures;
    explanation.qos = prices.qos(ITSELF).map(Into::into);
    explanation.against_nothing = prices.difference(ITSELF, NOTHING).map(Into::into);
    for (number, variation) in variations.iter().enumerate() {
        if variation.instead.is_none()
            && let Some(action) = explanation.actions.get_mut(variation.action)
        {
            let against = prices.difference(ITSELF, ITSELF + 1 + number);
            action.against_without = against.map(Into::into);
        }
    }
    for (question, one) in asked.iter().enumerate() {
        judge(
            observation,
            (question, one),
            &variations,
            &prices,
            explanation,
        );
    }
    Ok(())
}

/// Tells the prices of the answers to a question, and which is the runner-up.
fn judge(
    observation: &Observation<'_>,
    (question, asked): (usize, &Asked),
    variations: &[Variation],
    prices: &Prices,
    explanation: &mut Explanation,
) {
    let Some(action) = asked.action.and_then(|at| explanation.actions.get_mut(at)) else {
        return;
    };
    let same = |choice: &&mut super::Choice| {
        choice.fragment == asked.fragment && choice.answers == asked.answers.len()
    };
    let Some(choice) = action.choices.iter_mut().find(same) else {
        return;
    };
    let number = |answer: usize| {
        let instead = Some((question, answer));
        let at = variations.iter().position(|v| v.instead == instead)?;
        Some(ITSELF + 1 + at)
    };
    let of_answer = |answer: usize| match asked.given {
        Some(given) if given == answer => Some(ITSELF),
        _ => number(answer),
    };
    for (listed, answer) in choice.candidates.iter_mut().zip(asked.listed()) {
        let penalties = of_answer(answer).map(|at| prices.penalties_s(at));
        let estimate = penalties.and_then(|list| statistics::Estimate::of(&list));
        listed.penalty_s = estimate.map(Into::into);
    }
    let others = (0..asked.answers.len()).filter_map(number);
    let Some(best) = prices.best(others) else {
        return;
    };
    let runner_up = variations[best - ITSELF - 1].instead;
    choice.runner_up =
        runner_up.map(|(_, answer)| name_of(&asked.answers[answer].what, observation, asked));
    choice.against_runner_up = prices.difference(ITSELF, best).map(Into::into);
}

/// The decision without each action, and with each answer in place of the one that was given: no
/// more than can be priced, those without an action first, and only what is feasible.
fn variations(
    observation: &Observation<'_>,
    decision: &Decision,
    asked: &[Asked],
    actions: usize,
) -> Vec<Variation> {
    let without = (0..actions).map(|action| Variation {
        decision: without(decision, action),
        action,
        instead: None,
    });
    let instead = asked.iter().enumerate().flat_map(|(question, one)| {
        let others = one.ranked().into_iter().filter(|&at| Some(at) != one.given);
        others.take(MAX_ALTERNATIVES).filter_map(move |answer| {
            let action = one.action.filter(|_| one.given.is_some())?;
            Some(Variation {
                decision: with(observation, decision, (one, action), answer)?,
                action,
                instead: Some((question, answer)),
            })
        })
    });
    without
        .chain(instead)
        .filter(|v| checker::check(observation, &v.decision).is_ok())
        .take(MAX_PRICED)
        .collect()
}

/// `decision` without the action at `position`.
fn without(decision: &Decision, position: usize) -> Decision {
    let mut other = decision.clone();
    let (powers, deployments) = (other.provisioning.len(), other.deployments.len());
    if position < powers {
        other.provisioning.remove(position);
    } else if position < powers + deployments {
        other.deployments.remove(position - powers);
    } else if position - powers - deployments < other.migrations.len() {
        other.migrations.remove(position - powers - deployments);
    }
    other
}

/// `decision` with another answer to a question; `None` if it is about nothing that is there.
fn with(
    observation: &Observation<'_>,
    decision: &Decision,
    (asked, action): (&Asked, usize),
    answer: usize,
) -> Option<Decision> {
    let mut other = decision.clone();
    let powers = other.provisioning.len();
    match &asked.answers.get(answer)?.what {
        Candidate::Turn(None) => return Some(without(decision, action)),
        Candidate::Turn(Some(host)) => {
            let turned = other.provisioning.get_mut(action)?;
            turned.host = *host;
            turned.on = !observation.lifecycle(*host).accepts();
        }
        Candidate::Variant(variant, hosts) => {
            let deployment = other.deployments.get_mut(action.checked_sub(powers)?)?;
            deployment.variant = *variant;
            deployment.hosts.clone_from(hosts);
        }
        Candidate::Place(host) => {
            let deployment = other.deployments.get_mut(action.checked_sub(powers)?)?;
            *deployment.hosts.get_mut(asked.fragment?)? = *host;
        }
    }
    Some(other)
}
