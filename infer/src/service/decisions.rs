//! `POST /v1/decisions`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::timeout;
use twin::wire::{DecisionRequest, DecisionResponse};

use super::observe::{SERVER_TIMING, server_timing};
use super::problem::{BodyRefusals, Refusal};
use super::{App, INLINE_BYTES, WAIT_LIMIT, json};
use crate::decider::{Answer, Decider};
use crate::openapi;
use crate::traces;

/// Decide
///
/// Takes the state of a fleet, answers with a decision that an independent checker has found
/// feasible.
#[utoipa::path(
    post,
    path = "/v1/decisions",
    operation_id = "decide",
    tag = "decisions",
    request_body(content = DecisionRequest, example = json!(openapi::example_request())),
    responses(
        (status = 200, description = "The decision.", body = DecisionResponse,
         example = json!(openapi::example_response())),
        BodyRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn decisions(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.decide(request).await {
        Ok(answer) => {
            let timing = server_timing("decide", answer.elapsed);
            let mut response = json(StatusCode::OK, answer.body);
            response.headers_mut().insert(SERVER_TIMING, timing);
            response
        }
        Err(refusal) => refusal.into_response(&app),
    }
}

impl App {
    async fn decide(&self, request: Request) -> Result<Answer, Refusal> {
        let _admitted = self.admit()?;
        let body = self.json_body(request).await?;
        let waited = timeout(WAIT_LIMIT, self.pool.take()).await;
        let Ok(Some(mut lease)) = waited else {
            let detail = "every decider is busy";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail));
        };
        let Some(decider) = &mut lease.decider else {
            let detail = "a decider is missing";
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
        };
        let roomy = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        let answer = if body.len() > INLINE_BYTES && roomy {
            tokio::task::block_in_place(|| decide(decider, &body))
        } else {
            decide(decider, &body)
        }?;
        self.telemetry.answered(&answer);
        if let Some(reason) = &answer.fallback {
            tracing::warn!(%reason, "fallback");
        }
        if let Some(reason) = &answer.fallback_failure {
            tracing::error!(%reason, "the fallback failed: nothing is changed");
        }
        tracing::debug!(elapsed_us = answer.elapsed.as_secs_f64() * 1e6, "decided");
        Ok(answer)
    }
}

/// Reads the request and answers it. A panic, which would be a defect, becomes a status of 500.
fn decide(decider: &mut Decider, body: &[u8]) -> Result<Answer, Refusal> {
    let decided = catch_unwind(AssertUnwindSafe(|| {
        let request = traces::parse(body.len()).in_scope(|| DecisionRequest::from_json(body))?;
        decider.answer(&request)
    }));
    match decided {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            tracing::error!("a decision panicked");
            Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the decision failed",
            ))
        }
    }
}
