//! `GET /v1/explain/{id}`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use twin::decision_log::DecisionId;
use twin::wire::Problem;
use utoipa::IntoParams;

use super::problem::{ParameterRefusals, Refusal, parameter};
use super::{App, json};
use crate::explain::{self, ExplainError, Explanation};
use crate::pricing::{Budget, MIN_FUTURES, PricingError};
use crate::recent::Recorded;
use crate::source::Source;

/// Time that an explanation may take unless it says otherwise.
const TIME: Duration = Duration::from_secs(2);
/// The most time that an explanation may take.
const MAX_TIME: Duration = Duration::from_secs(20);
/// The most futures.
pub(super) const MAX_FUTURES: usize = 64;

/// What may stand after the `?`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// Futures over which decisions are priced.
    #[param(value_type = Option<u32>, minimum = 2, maximum = 64)]
    futures: Option<usize>,
    /// The most time that it may take, in ms.
    #[param(minimum = 1, maximum = 20_000)]
    time_budget_ms: Option<u64>,
}

/// Explain a decision
///
/// Which answers there were to each of the questions of which a decision of late consists, what was
/// ruled out and why, and what the twin makes of the runners-up.
#[utoipa::path(
    get,
    path = "/v1/explain/{id}",
    operation_id = "explain",
    tag = "decisions",
    params(
        ("id" = String, Path, description = "The decision.", pattern = "^0?[0-9]{1,19}$"),
        Asked,
    ),
    responses(
        (status = 200, description = "The explanation.", body = Explanation),
        (status = 404, description = "There is no such decision, or it is not kept any more.",
         body = Problem, content_type = "application/problem+json"),
        ParameterRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn explain(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let explained = match (parameter("id", id), asked) {
        (Ok(id), Ok(Query(asked))) => app.explain(&id, &asked).await,
        (Err(refusal), _) => Err(refusal),
        (_, Err(error)) => Err(Refusal::in_query(&error)),
    };
    match explained {
        Ok(body) => json(StatusCode::OK, body),
        Err(refusal) => refusal.into_response(&app),
    }
}

impl App {
    async fn explain(self: &Arc<Self>, id: &str, asked: &Asked) -> Result<Vec<u8>, Refusal> {
        let _admitted = self.admit()?;
        let id: DecisionId = id
            .parse()
            .map_err(|error| Refusal::in_parameter("id", format!("{error}")))?;
        let (futures, time) = bounds(asked)?;
        self.compute(time, move |app, budget| {
            app.explain_now(id, futures, budget)
        })
        .await
    }

    fn explain_now(
        &self,
        id: DecisionId,
        futures: usize,
        budget: &Budget,
    ) -> Result<Vec<u8>, Refusal> {
        let unreadable = |error: String| {
            tracing::error!(%error, "a decision cannot be looked up");
            Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the decision cannot be looked up",
            )
        };
        let recorded = self.trust.find(id).map_err(unreadable)?.ok_or_else(|| {
            let detail = format!("decision {id} is not known, or no longer kept");
            Refusal::new(StatusCode::NOT_FOUND, detail)
        })?;
        let source = self.source_of(&recorded);
        let model = match &source {
            Some(Source::Model(model)) => Some(model.as_ref()),
            Some(Source::Named(_)) | None => None,
        };
        let explanation = explain::explain(&self.world, &recorded, model, futures, budget)?;
        // A document of strings and finite numbers always serializes.
        Ok(serde_json::to_vec(&explanation).unwrap_or_default())
    }

    /// The model that decided, if it is still held.
    fn source_of(&self, recorded: &Recorded) -> Option<Source> {
        let sha256 = recorded.model_sha256.as_ref()?;
        let held = self.trust.registry.list().into_iter();
        let found = held
            .map(|listed| listed.entry)
            .find(|e| e.sha256.as_ref() == Some(sha256))?;
        found.source.clone()
    }
}

fn bounds(asked: &Asked) -> Result<(usize, Duration), Refusal> {
    let futures = asked.futures.unwrap_or(explain::FUTURES);
    if !(MIN_FUTURES..=MAX_FUTURES).contains(&futures) {
        let problem = format!("must lie between {MIN_FUTURES} and {MAX_FUTURES}, found {futures}");
        return Err(Refusal::in_parameter("futures", problem));
    }
    let time = asked.time_budget_ms.map_or(TIME, Duration::from_millis);
    if time.is_zero() || time > MAX_TIME {
        let problem = format!("must lie between 1 and {}", MAX_TIME.as_millis());
        return Err(Refusal::in_parameter("time_budget_ms", problem));
    }
    Ok((futures, time))
}

impl From<ExplainError> for Refusal {
    fn from(error: ExplainError) -> Self {
        match error {
            ExplainError::Pricing(error @ PricingError::Cancelled) => error.into(),
            ExplainError::Pricing(error @ PricingError::Late { .. }) => error.into(),
            ExplainError::State(_) | ExplainError::Policy(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
        }
    }
}
