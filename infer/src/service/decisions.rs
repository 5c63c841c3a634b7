//! `POST /v1/decisions`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::timeout;
use twin::wire::{DecisionRequest, Question};

use super::problem::Refusal;
use super::{App, INLINE_BYTES, WAIT_LIMIT, json};
use crate::decider::{Answer, Decider};
use crate::recent::DecisionId;

/// The header that tells a decision's identifier, by which it can be explained.
const DECISION_ID: HeaderName = HeaderName::from_static("infer-decision-id");

/// The header with the id of the decision.
const ID_HEADER: HeaderName = HeaderName::from_static("x-decision-id");

pub(super) async fn decisions(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.decide(request).await {
        Ok((id, body)) => {
            let mut response = json(StatusCode::OK, body);
            if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
                response.headers_mut().insert(DECISION_ID, id);
            }
            response
        }
        Err(refusal) => refusal.into_response(&app),
    }
}

impl App {
    async fn decide(&self, request: Request) -> Result<(DecisionId, Vec<u8>), Refusal> {
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
        let (id, serving) = self.trust.begin(decider);
        let answer = on_this_thread(&body, |body| decide(decider, body))?;
        self.telemetry.answered(&answer);
        if let Some(reason) = &answer.fallback {
            tracing::warn!(%reason, %id, "fallback");
        }
        if let Some(reason) = &answer.fallback_failure {
            tracing::error!(%reason, %id, "the fallback failed: nothing is changed");
        }
        tracing::debug!(elapsed_us = answer.elapsed.as_secs_f64() * 1e6, "decided");
        self.trust.keep((id, &serving), body.clone(), &answer);
        Ok((id, answer.body))
    }
}

/// Runs `job` on the thread that read `body`, out of the way of the others if it is long.
pub(super) fn on_this_thread<'b, T>(body: &'b [u8], job: impl FnOnce(&'b [u8]) -> T) -> T {
    let roomy = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if body.len() > INLINE_BYTES && roomy {
        tokio::task::block_in_place(|| job(body))
    } else {
        job(body)
    }
}

/// Answers the request. A panic, which would be a defect, becomes a status of 500.
fn decide(decider: &mut Decider, request: &DecisionRequest<'_>) -> Result<Answer, Refusal> {
    match catch_unwind(AssertUnwindSafe(|| decider.answer(request))) {
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
