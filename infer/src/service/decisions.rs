//! `POST /v1/decisions`: on a state that the request carries, or on the fleet that is kept.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::timeout;
use twin::decision_log::{DecisionId, Json, NewDecision, with_id};
use twin::wire::{DecisionRequest, DecisionResponse, Problem, Question};

use super::guard::{Caller, Subject};
use super::observe::{SERVER_TIMING, server_timing};
use super::problem::{BodyRefusals, Refusal};
use super::{App, INLINE_BYTES, WAIT_LIMIT, json};
use crate::decider::{Answer, Decider};
use crate::openapi;
use crate::recent::Situation;
use crate::traces;

/// The header with the id of the decision.
const ID_HEADER: HeaderName = HeaderName::from_static("x-decision-id");

/// Decide
///
/// Takes the state of a fleet, or what is new of the fleet that the service keeps, and answers with
/// a decision that an independent checker has found feasible.
#[utoipa::path(
    post,
    path = "/v1/decisions",
    operation_id = "decide",
    tag = "decisions",
    request_body(content = Question, examples(
        ("state" = (summary = "On a state", value = json!(openapi::example_request()))),
        ("fleet" = (summary = "On the fleet that the service keeps",
                    value = json!(openapi::example(openapi::FLEET_DECISION)))),
    )),
    responses(
        (status = 200, description = "The decision.", body = DecisionResponse,
         example = json!(openapi::example_response())),
        (status = 409, description = "No fleet is kept yet, or its clock is beyond this time.",
         body = Problem, content_type = "application/problem+json"),
        BodyRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn decisions(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.decide(request).await {
        Ok(Answered {
            id,
            body,
            elapsed,
            changes,
        }) => {
            let mut response = json(StatusCode::OK, body);
            let timing = server_timing("decide", elapsed);
            response.headers_mut().insert(SERVER_TIMING, timing);
            if let Ok(header) = HeaderValue::from_bytes(&id.digits()) {
                response.headers_mut().insert(ID_HEADER, header);
            }
            if changes {
                let subject = Subject(id.to_string().into());
                response.extensions_mut().insert(subject);
            }
            response
        }
        Err(refusal) => refusal.into_response(&app),
    }
}

/// A decision that is about to be sent.
struct Answered {
    id: DecisionId,
    body: Vec<u8>,
    /// The time from reading to the checked decision.
    elapsed: Duration,
    /// Whether the fleet that is kept has changed.
    changes: bool,
}

/// A decision and what it was taken on.
pub(super) struct Taken {
    pub(super) id: DecisionId,
    pub(super) answer: Answer,
    /// What it was taken on, where it is kept to be explained.
    pub(super) situation: Option<Situation>,
    /// The last record that must be on the disk before it is answered.
    pub(super) last: u64,
    pub(super) changes: bool,
}

impl App {
    async fn decide(&self, request: Request) -> Result<Answered, Refusal> {
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
        let turn = self.trust.begin(decider);
        let question =
            traces::parse(body.len()).in_scope(|| on_this_thread(&body, Question::from_json))?;
        let taken = match question {
            Question::Kept(request) => {
                self.decide_kept(decider, &request, &body, caller.as_ref())
                    .await
            }
            Question::Whole(request) => {
                self.check_state(caller.as_ref(), &request.state)?;
                on_this_thread(&body, |_| {
                    self.decide_whole(decider, &request, &body, caller.as_ref())
                })
            }
        }?;
        // Others may decide while this one waits for the disk.
        drop(lease);
        self.log.committed(taken.last).await?;
        let Taken { id, answer, .. } = taken;
        self.tell(id, &answer);
        if let Some(situation) = taken.situation {
            self.trust.keep(id, &turn, situation, &answer);
        }
        Ok(Answered {
            id,
            body: with_id(Json::parsed(&answer.body), id),
            elapsed: answer.elapsed,
            changes: taken.changes,
        })
    }

    /// Counts a decision, and logs what is out of the ordinary about it.
    fn tell(&self, id: DecisionId, answer: &Answer) {
        self.telemetry.answered(answer);
        if let Some(reason) = &answer.fallback {
            tracing::warn!(%reason, %id, "fallback");
        }
        if let Some(reason) = &answer.fallback_failure {
            tracing::error!(%reason, %id, "the fallback failed: nothing is changed");
        }
        tracing::debug!(%id, elapsed_us = answer.elapsed.as_secs_f64() * 1e6, "decided");
    }

    /// Decides on the state that `request`, read from `body`, carries.
    fn decide_whole(
        &self,
        decider: &mut Decider,
        request: &DecisionRequest<'_>,
        body: &Bytes,
        caller: Option<&Caller>,
    ) -> Result<Taken, Refusal> {
        let answer = answer(decider, request)?;
        let decision = NewDecision {
            policy: decider.policy(),
            model_sha256: answer.model_sha256.as_deref(),
            client: caller.and_then(Caller::name),
            request: Json::parsed(body),
            stateful: None,
            response: Json::parsed(&answer.body),
        };
        let id = self.log.decision(&decision, &self.telemetry.log)?;
        Ok(Taken {
            id,
            answer,
            situation: Some(Situation::Request(body.clone())),
            last: id.0,
            changes: false,
        })
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
fn answer(decider: &mut Decider, request: &DecisionRequest<'_>) -> Result<Answer, Refusal> {
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
