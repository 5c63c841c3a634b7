//! `GET /v1/explain/{id}`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use twin::decision_log::DecisionId;

use super::problem::Refusal;
use super::{App, json};
use crate::explain::{self, ExplainError};
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
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Futures over which decisions are priced.
    futures: Option<usize>,
    /// The most time that it may take, in ms.
    time_budget_ms: Option<u64>,
}

pub(super) async fn explain(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let explained = match asked {
        Ok(Query(asked)) => app.explain(&id, &asked).await,
        Err(error) => Err(Refusal::in_field("query", error.body_text())),
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
            .map_err(|error| Refusal::in_field("id", format!("{error}")))?;
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
        return Err(Refusal::in_field("futures", problem));
    }
    let time = asked.time_budget_ms.map_or(TIME, Duration::from_millis);
    if time.is_zero() || time > MAX_TIME {
        let problem = format!("must lie between 1 and {}", MAX_TIME.as_millis());
        return Err(Refusal::in_field("time_budget_ms", problem));
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
