//! Bodies of requests and answers of the service.

use std::time::Duration;

use infer::pricing::wire::{Qos, ValidateRequest, ValidateResponse, Violation, WhatIfRequest};
use infer::pricing::{self, Budget, Cancel, Plan};
use twin::checker;
use twin::decision::Decision;
use twin::observation::Observation;
use twin::state::{Epoch, State};
use twin::wire::{
    DecisionBody, DecisionRequest, DecisionResponse, OutcomesRequest, Question, WireError,
};

use super::support::{carry_out, decide, json, named, small, told, view, world_of};

/// The most violations that are asked for.
const MAX_VIOLATIONS: usize = 100;
/// The time that prices may take.
const PRICING_LIMIT: Duration = Duration::from_secs(10);

/// The body of `POST /v1/decisions` with a state, and of `PUT /v1/fleet`: read, converted both ways,
/// decided on.
pub(crate) fn decision_request(data: &[u8]) {
    let world = world_of(data);
    if let Err(error) = Question::from_json(data) {
        named(&error);
    }
    let request = match DecisionRequest::from_json(data) {
        Ok(request) => request,
        Err(error) => return named(&error),
    };
    let text = json(&request);
    assert_eq!(DecisionRequest::from_json(&text).as_ref(), Ok(&request));
    let view = match request.to_view(world) {
        Ok(view) => view,
        Err(error) => return named(&error),
    };
    let again = DecisionRequest::from_view(world, &view).to_view(world);
    assert_eq!(again.as_ref(), Ok(&view));
    decide(world, &view);
}

/// An answer of the service, as its clients read it: checked and carried out.
pub(crate) fn decision_response(data: &[u8]) {
    let (world, view) = (small(), view());
    let response = match DecisionResponse::from_json(data) {
        Ok(response) => response,
        Err(error) => return named(&error),
    };
    let text = json(&response);
    assert_eq!(DecisionResponse::from_json(&text).as_ref(), Ok(&response));
    let mut decision = Decision::none();
    if let Err(error) = response.decision.to_decision(world, view, &mut decision) {
        return named(&error);
    }
    let body = DecisionBody::from_decision(world, view, &decision);
    assert_eq!(body, response.decision);
    let state = State::from_view(world, view).expect("the example is valid");
    carry_out(world, &state, view.epoch, &decision);
}

/// The body of `POST /v1/decisions:validate`: every violation is named, and a decision without one
/// can be carried out.
pub(crate) fn validate(data: &[u8]) {
    let world = world_of(data);
    let request = match ValidateRequest::from_json(data) {
        Ok(request) => request,
        Err(error) => return named(&error),
    };
    let text = json(&request);
    assert_eq!(ValidateRequest::from_json(&text).as_ref(), Ok(&request));
    let judged = match request.resolve(world) {
        Ok(judged) => judged,
        Err(error) => return named(&error),
    };
    for (_, error) in &judged.unknown {
        named(error);
    }
    let state = match State::from_view(world, &judged.view) {
        Ok(state) => state,
        Err(error) => return named(&WireError::from(error)),
    };
    let observation = Observation::new(world, &state, judged.view.epoch);
    let found = checker::check_all(&observation, &judged.decision, MAX_VIOLATIONS);
    let violation = |reason: checker::Infeasible| {
        told(&reason.field());
        told(&reason.problem());
        Violation {
            field: reason.field(),
            problem: reason.problem(),
        }
    };
    let response = ValidateResponse::new(found.into_iter().map(violation).collect(), 10);
    assert_eq!(
        response.feasible,
        checker::check(&observation, &judged.decision).is_ok()
    );
    carry_out(world, &state, judged.view.epoch, &judged.decision);
}

/// The body of `POST /v1/what-if`: priced over as little as there can be.
pub(crate) fn what_if(data: &[u8]) {
    let world = world_of(data);
    let request = match WhatIfRequest::from_json(data) {
        Ok(request) => request,
        Err(error) => return named(&error),
    };
    let text = json(&request);
    assert_eq!(WhatIfRequest::from_json(&text).as_ref(), Ok(&request));
    let question = match request.resolve(world) {
        Ok(question) => question,
        Err(error) => return named(&error),
    };
    let state = match State::from_view(world, &question.view) {
        Ok(state) => state,
        Err(error) => return named(&WireError::from(error)),
    };
    let observation = Observation::new(world, &state, question.view.epoch);
    if observation.epoch() == Epoch::End {
        return;
    }
    let mut decisions = vec![Decision::none()];
    for (_, decision) in question.alternatives {
        if checker::check(&observation, &decision).is_ok() {
            decisions.push(decision);
        }
    }
    let plan = Plan {
        futures: pricing::MIN_FUTURES,
        seed: question.plan.seed,
        reaction: question.plan.reaction,
        ..Plan::new(world, question.view.epoch, Some(1))
    };
    let budget = Budget::new(PRICING_LIMIT, Cancel::new());
    let prices = pricing::price(&observation, &decisions, &plan, &budget)
        .expect("so little is priced in time");
    for number in 0..decisions.len() {
        let qos: Qos = prices
            .qos(number)
            .expect("each decision has a price")
            .into();
        let text = json(&qos);
        let again: Qos = serde_json::from_slice(&text).expect("prices are numbers");
        assert_eq!(again, qos);
    }
}

/// The body of `POST /v1/outcomes`.
pub(crate) fn outcomes(data: &[u8]) {
    let request = match OutcomesRequest::from_json(data) {
        Ok(request) => request,
        Err(error) => return named(&error),
    };
    let text = json(&request);
    assert_eq!(OutcomesRequest::from_json(&text).as_ref(), Ok(&request));
}
