//! `POST /v1/what-if`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use twin::checker;
use twin::decision::Decision;
use twin::observation::{FleetView, Observation};
use twin::wire::{DecisionBody, SCHEMA, WireError, WireErrorKind};
use twin::world::World;

use super::problem::{BodyRefusals, Refusal};
use super::{App, json};
use crate::openapi;
use crate::pricing::wire::{
    AlternativePrice, MAX_TIME, Question, ServicePrice, WhatIfRequest, WhatIfResponse,
};
use crate::pricing::{self, Budget, Prices};
use crate::registry::Role;

/// Doing nothing is priced first, then the service's decision where it is asked for.
const NOTHING: usize = 0;

/// Price decisions
///
/// What decisions are expected to lead to by the twin, over the same sampled futures, each against
/// doing nothing and, where it is asked for, against the decision of the service.
#[utoipa::path(
    post,
    path = "/v1/what-if",
    operation_id = "what_if",
    tag = "decisions",
    request_body(content = WhatIfRequest, example = json!(openapi::example(openapi::WHAT_IF))),
    responses(
        (status = 200, description = "The prices.", body = WhatIfResponse),
        BodyRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn what_if(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.price(request).await {
        Ok(body) => json(StatusCode::OK, body),
        Err(refusal) => refusal.into_response(&app),
    }
}

/// The decision that the service takes itself.
struct Own {
    decision: Decision,
    policy: String,
    model_sha256: Option<Arc<str>>,
}

impl App {
    async fn price(self: &Arc<Self>, request: Request) -> Result<Vec<u8>, Refusal> {
        let _admitted = self.admit()?;
        let body = self.json_body(request).await?;
        self.compute(MAX_TIME, move |app, budget| {
            let question = WhatIfRequest::from_json(&body)?.resolve(&app.world)?;
            app.answer_what_if(&question, &budget.within(question.time))
        })
        .await
    }

    fn answer_what_if(&self, question: &Question, budget: &Budget) -> Result<Vec<u8>, Refusal> {
        let world = &*self.world;
        let view = &question.view;
        let state = twin::State::from_view(world, view).map_err(WireError::from)?;
        let observation = Observation::new(world, &state, view.epoch);
        check_alternatives(&observation, question)?;
        let own = match question.service_decision {
            true => Some(self.own_decision(view)?),
            false => None,
        };
        let mut decisions = vec![Decision::none()];
        decisions.extend(own.as_ref().map(|own| own.decision.clone()));
        decisions.extend(question.alternatives.iter().map(|(_, d)| d.clone()));
        let prices = pricing::price(&observation, &decisions, &question.plan, budget)?;
        let response = response(world, question, own.as_ref(), &prices)?;
        // A response of names and finite numbers always serializes.
        Ok(serde_json::to_vec(&response).unwrap_or_default())
    }

    fn own_decision(&self, view: &FleetView) -> Result<Own, Refusal> {
        let mut lease = self.wait_for_decider()?;
        let Some(decider) = &mut lease.decider else {
            let detail = "a decider is missing";
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
        };
        decider.search_when_outside(self.trust.search);
        decider.follow(&self.trust.registry.serving(), Role::Active);
        let model_sha256 = decider.model_sha256().cloned();
        let outcome = decider.decide(view).map_err(WireError::from)?;
        Ok(Own {
            decision: outcome.decision.clone(),
            policy: outcome.policy.unwrap_or("none").into(),
            model_sha256,
        })
    }
}

/// What cannot be carried out has no price.
fn check_alternatives(observation: &Observation<'_>, question: &Question) -> Result<(), WireError> {
    if observation.epoch() == twin::state::Epoch::End {
        return Err(WireError {
            kind: WireErrorKind::Inconsistent,
            field: "state.epoch".into(),
            problem: "nothing is to be decided at the end".into(),
        });
    }
    for (k, (_, decision)) in question.alternatives.iter().enumerate() {
        if let Err(reason) = checker::check(observation, decision) {
            return Err(WireError {
                kind: WireErrorKind::Inconsistent,
                field: format!("alternatives[{k}].decision.{}", reason.field()),
                problem: format!("it cannot be carried out: {}", reason.problem()),
            });
        }
    }
    Ok(())
}

fn response<'a>(
    world: &'a World,
    question: &'a Question,
    own: Option<&'a Own>,
    prices: &Prices,
) -> Result<WhatIfResponse<'a>, Refusal> {
    let missing = || Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "a price is missing");
    let qos = |decision| prices.qos(decision).map(Into::into).ok_or_else(missing);
    let difference = |decision, other| {
        let found = prices.difference(decision, other);
        found.map(Into::into).ok_or_else(missing)
    };
    let service = match own {
        None => None,
        Some(own) => Some(ServicePrice {
            policy: Cow::Borrowed(&own.policy),
            model_sha256: own.model_sha256.as_deref().map(Into::into),
            decision: DecisionBody::from_decision(world, &question.view, &own.decision),
            qos: qos(NOTHING + 1)?,
            against_nothing: difference(NOTHING + 1, NOTHING)?,
        }),
    };
    let first = NOTHING + 1 + usize::from(service.is_some());
    let mut alternatives = Vec::with_capacity(question.alternatives.len());
    for (k, (name, _)) in question.alternatives.iter().enumerate() {
        alternatives.push(AlternativePrice {
            name: Cow::Borrowed(name),
            qos: qos(first + k)?,
            against_nothing: difference(first + k, NOTHING)?,
            against_service: match service {
                Some(_) => Some(difference(first + k, NOTHING + 1)?),
                None => None,
            },
        });
    }
    Ok(WhatIfResponse {
        schema: SCHEMA,
        futures: question.plan.futures,
        seed: question.plan.seed,
        horizon_s: question.plan.horizon.span.seconds(),
        reaction: question.plan.reaction.into(),
        nothing: qos(NOTHING)?,
        service,
        alternatives,
    })
}
