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

/// The header with the id of the decision.
const ID_HEADER: HeaderName = HeaderName::from_static("x-decision-id");

pub(super) async fn decisions(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.decide(request).await {
        Ok((id, body)) => {
            let mut response = json(StatusCode::OK, body);
            if let Ok(id) = HeaderValue::from_bytes(&id.digits()) {
                response.headers_mut().insert(ID_HEADER, id);
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
        let roomy = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        let apart = body.len() > INLINE_BYTES && roomy;
        let question = if apart {
            tokio::task::block_in_place(|| Question::from_json(&body))
        } else {
            Question::from_json(&body)
        }?;
        let answer = match question {
            Question::Kept(request) => self.decide_kept(decider, &request).await,
            Question::Whole(request) if apart => {
                tokio::task::block_in_place(|| decide(decider, &request))
            }
            Question::Whole(request) => decide(decider, &request),
        }?;
        // Others may decide while this one waits for the disk.
        drop(lease);
        self.log.committed(id.0).await?;
        self.telemetry.answered(&answer);
        if let Some(reason) = &answer.fallback {
            tracing::warn!(%reason, %id, "fallback");
        }
        if let Some(reason) = &answer.fallback_failure {
            tracing::error!(%reason, %id, "the fallback failed: nothing is changed");
        }
        tracing::debug!(%id, elapsed_us = answer.elapsed.as_secs_f64() * 1e6, "decided");
        Ok((id, with_id(Json::parsed(&answer.body), id)))
    }

    fn decide_and_log(
        &self,
        decider: &mut Decider,
        body: &[u8],
    ) -> Result<(DecisionId, Answer), Refusal> {
        let answer = decide(decider, body)?;
        let decision = NewDecision {
            policy: decider.policy(),
            model_sha256: decider.model_sha256().map(AsRef::as_ref),
            client: None,
            request: Json::parsed(body),
            stateful: None,
            response: Json::parsed(&answer.body),
        };
        let id = self.log.decision(&decision, &self.telemetry.log)?;
        Ok((id, answer))
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
