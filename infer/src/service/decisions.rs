//! `POST /v1/decisions`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::timeout;
use twin::wire::DecisionRequest;

use super::guard::Caller;
use super::problem::Refusal;
use super::{App, INLINE_BYTES, WAIT_LIMIT, json};
use crate::decider::{Answer, Decider};

pub(super) async fn decisions(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.decide(request).await {
        Ok(body) => json(StatusCode::OK, body),
        Err(refusal) => refusal.into_response(&app),
    }
}

impl App {
    async fn decide(&self, request: Request) -> Result<Vec<u8>, Refusal> {
        let _admitted = self.admit()?;
        let caller = request.extensions().get::<Caller>().cloned();
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
            tokio::task::block_in_place(|| self.decide_with(decider, &body, caller.as_ref()))
        } else {
            self.decide_with(decider, &body, caller.as_ref())
        }?;
        self.telemetry.answered(&answer);
        if let Some(reason) = &answer.fallback {
            tracing::warn!(%reason, "fallback");
        }
        if let Some(reason) = &answer.fallback_failure {
            tracing::error!(%reason, "the fallback failed: nothing is changed");
        }
        tracing::debug!(elapsed_us = answer.elapsed.as_secs_f64() * 1e6, "decided");
        Ok(answer.body)
    }

    /// Reads the request and answers it. A panic, which would be a defect, becomes a status of 500.
    fn decide_with(
        &self,
        decider: &mut Decider,
        body: &[u8],
        caller: Option<&Caller>,
    ) -> Result<Answer, Refusal> {
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let request = DecisionRequest::from_json(body)?;
            self.check_state(caller, &request.state)?;
            Ok(decider.answer(&request)?)
        }));
        decided.unwrap_or_else(|_| {
            tracing::error!("a decision panicked");
            Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the decision failed",
            ))
        })
    }
}
