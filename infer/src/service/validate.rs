//! `POST /v1/decisions:validate`: the independent checker alone.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use twin::checker;
use twin::observation::Observation;
use twin::wire::WireError;
use twin::world::World;

use super::decisions::on_this_thread;
use super::problem::{BodyRefusals, Refusal};
use super::{App, json};
use crate::openapi;
use crate::pricing::wire::{ValidateRequest, ValidateResponse, Violation};

/// The most violations that are listed.
pub(super) const MAX_VIOLATIONS: usize = 100;

/// Ask whether a decision can be carried out
///
/// The independent checker alone: every rule that the decision breaks, with the field.
#[utoipa::path(
    post,
    path = "/v1/decisions:validate",
    operation_id = "validate",
    tag = "decisions",
    request_body(content = ValidateRequest, example = json!(openapi::example(openapi::VALIDATE))),
    responses(
        (status = 200, description = "The verdict.", body = ValidateResponse),
        BodyRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn validate(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.judge_decision(request).await {
        Ok(body) => json(StatusCode::OK, body),
        Err(refusal) => refusal.into_response(&app),
    }
}

impl App {
    async fn judge_decision(&self, request: Request) -> Result<Vec<u8>, Refusal> {
        let _admitted = self.admit()?;
        let body = self.json_body(request).await?;
        let response = on_this_thread(&body, |body| judge(&self.world, body))?;
        Ok(serde_json::to_vec(&response).unwrap_or_default())
    }
}

/// What the checker says of the decision in `body`.
fn judge(world: &World, body: &[u8]) -> Result<ValidateResponse, WireError> {
    let judged = ValidateRequest::from_json(body)?.resolve(world)?;
    let state = twin::State::from_view(world, &judged.view)?;
    let observation = Observation::new(world, &state, judged.view.epoch);
    // Those that name what there is not are refused by the checker too, in its own words.
    let mut unknown = judged.unknown.into_iter().peekable();
    let found = checker::check_all(&observation, &judged.decision, MAX_VIOLATIONS + 1);
    let violations = found.into_iter().map(|reason| {
        let field = format!("decision.{}", reason.field());
        let problem = reason.problem();
        let named = |(index, _): &(usize, WireError)| {
            field.starts_with(&format!("decision.deployments[{index}]."))
        };
        match unknown.next_if(named) {
            Some((_, error)) => Violation {
                field: error.field,
                problem: error.problem,
            },
            None => Violation { field, problem },
        }
    });
    Ok(ValidateResponse::new(violations.collect(), MAX_VIOLATIONS))
}
