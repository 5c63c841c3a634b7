//! `GET /v1/decisions`, `GET /v1/decisions/{id}` and `POST /v1/outcomes`.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use tokio::runtime::{Handle, RuntimeFlavor};
use twin::decision_log::{DecisionId, Kind, Log, LogError, Outcome, Reader, Record};
use twin::wire::{OutcomesRequest, OutcomesResponse, Problem, SCHEMA};
use utoipa::{IntoParams, ToSchema};

use super::problem::{BodyRefusals, ParameterRefusals, Refusal, parameter};
use super::{App, json};
use crate::log::KeepError;
use crate::log::view::{self, DecisionList, DecisionSummary, DecisionView};
use crate::openapi;

/// Decisions in a list unless the request says otherwise, and the most of them.
const LISTED: usize = 20;
const MOST_LISTED: usize = 100;
/// Bytes of the log that are looked through for one list.
const LOOK_THROUGH_BYTES: u64 = 64 << 20;

/// What is asked of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// The decision after which the list goes on, as `next` told it.
    #[param(pattern = "^0?[0-9]{1,19}$")]
    after: Option<String>,
    /// The most decisions; 20 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<String>,
    /// Which come first: `newest` or `oldest`; `newest` if absent.
    #[param(inline, value_type = Option<Order>)]
    order: Option<String>,
}

/// Which decisions come first.
#[derive(ToSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(dead_code, reason = "only its description is used")]
enum Order {
    /// The last.
    Newest,
    /// The first.
    Oldest,
}

/// The same, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct List {
    after: Option<DecisionId>,
    limit: usize,
    newest: bool,
}

/// List decisions
///
/// Those that the log of decisions holds, page by page.
#[utoipa::path(
    get,
    path = "/v1/decisions",
    operation_id = "list_decisions",
    tag = "decisions",
    params(ListQuery),
    responses(
        (status = 200, description = "The decisions.", body = DecisionList),
        (status = 404, description = "The service keeps no log.",
         body = Problem, content_type = "application/problem+json"),
        ParameterRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn list_decisions(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let listed = async {
        let _admitted = app.admit()?;
        let list = List::of(&uri)?;
        let list = app.log.read(move |store| list.read(store)).await?;
        Ok::<_, Refusal>(serde_json::to_vec(&list).unwrap_or_default())
    };
    match listed.await {
        Ok(body) => json(StatusCode::OK, body),
        Err(refusal) => refusal.into_response(&app),
    }
}

/// Show a decision
///
/// What was asked and answered, and what became of its requests.
#[utoipa::path(
    get,
    path = "/v1/decisions/{id}",
    operation_id = "decision",
    tag = "decisions",
    params(("id" = String, Path, description = "The decision.", pattern = "^0?[0-9]{1,19}$")),
    responses(
        (status = 200, description = "The decision.", body = DecisionView<'static>),
        (status = 404, description = "There is no such decision, or no log.",
         body = Problem, content_type = "application/problem+json"),
        ParameterRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn show_decision(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    let shown = match parameter("id", id) {
        Ok(id) => app.show(&id).await,
        Err(refusal) => Err(refusal),
    };
    match shown {
        Ok(body) => json(StatusCode::OK, body),
        Err(refusal) => refusal.into_response(&app),
    }
}

/// Tell what became of requests
///
/// Goes into the log of decisions, beside what decided on them.
#[utoipa::path(
    post,
    path = "/v1/outcomes",
    operation_id = "tell_outcomes",
    tag = "decisions",
    request_body(content = OutcomesRequest, example = json!(openapi::example(openapi::OUTCOMES))),
    responses(
        (status = 200, description = "What was written down.", body = OutcomesResponse),
        (status = 404, description = "The service keeps no log.",
         body = Problem, content_type = "application/problem+json"),
        BodyRefusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn outcomes(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.take_outcomes(request).await {
        Ok(body) => json(StatusCode::OK, body),
        Err(refusal) => refusal.into_response(&app),
    }
}

impl App {
    async fn show(&self, id: &str) -> Result<Vec<u8>, Refusal> {
        let _admitted = self.admit()?;
        let id: DecisionId = id.parse().map_err(|error: twin::decision_log::NoId| {
            Refusal::in_parameter("id", error.to_string())
        })?;
        let Some(record) = self.log.find(id).await? else {
            return Err(Refusal::new(
                StatusCode::NOT_FOUND,
                "there is no such decision, or it is not kept any more",
            ));
        };
        let outcomes = self.log.outcomes_of(id);
        let view = DecisionView::new(&record.as_record(), &outcomes).map_err(KeepError::from)?;
        Ok(serde_json::to_vec(&view).unwrap_or_default())
    }

    async fn take_outcomes(&self, request: Request) -> Result<Vec<u8>, Refusal> {
        let _admitted = self.admit()?;
        let body = self.json_body(request).await?;
        let told = OutcomesRequest::from_json(&body)?;
        let roomy = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        // Decisions that are not remembered are looked up in the log.
        let (recorded, last) = if roomy {
            tokio::task::block_in_place(|| self.record_outcomes(&told))
        } else {
            self.record_outcomes(&told)
        }?;
        if let Some(last) = last {
            self.log.committed(last).await?;
        }
        let response = OutcomesResponse {
            schema: SCHEMA,
            recorded: recorded as u64,
            known: (told.outcomes.len() - recorded) as u64,
        };
        Ok(serde_json::to_vec(&response).unwrap_or_default())
    }

    fn record_outcomes(&self, told: &OutcomesRequest) -> Result<(usize, Option<u64>), Refusal> {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(told.outcomes.len());
        for (i, report) in told.outcomes.iter().enumerate() {
            let same = outcomes
                .last()
                .is_some_and(|o| o.decision == report.decision);
            if !same && !self.log.has_decision(report.decision)? {
                let field = format!("outcomes[{i}].decision");
                return Err(Refusal::in_field(field, "there is no such decision"));
            }
            outcomes.push((*report).into());
        }
        Ok(self.log.outcomes(&outcomes, &self.telemetry.log)?)
    }
}

impl List {
    fn of(uri: &Uri) -> Result<Self, Refusal> {
        let Query(query) =
            Query::<ListQuery>::try_from_uri(uri).map_err(|error| Refusal::in_query(&error))?;
        let after = match &query.after {
            None => None,
            Some(text) => Some(text.parse().map_err(|error: twin::decision_log::NoId| {
                Refusal::in_parameter("after", error.to_string())
            })?),
        };
        let limit = match query.limit.as_deref().map(str::parse) {
            None => LISTED,
            Some(Ok(limit @ 1..=MOST_LISTED)) => limit,
            Some(_) => {
                let problem = format!("must be a number from 1 to {MOST_LISTED}");
                return Err(Refusal::in_parameter("limit", problem));
            }
        };
        let newest = match query.order.as_deref() {
            None | Some("newest") => true,
            Some("oldest") => false,
            Some(_) => return Err(Refusal::in_parameter("order", "must be newest or oldest")),
        };
        Ok(Self {
            after,
            limit,
            newest,
        })
    }

    fn read(self, store: &Log) -> Result<DecisionList, LogError> {
        if self.newest {
            self.read_newest(store)
        } else {
            self.read_oldest(store)
        }
    }

    fn read_newest(self, store: &Log) -> Result<DecisionList, LogError> {
        let before = self.after.map_or(u64::MAX, |id| id.0);
        let page = store.newest(before, self.limit, LOOK_THROUGH_BYTES, summary)?;
        Ok(DecisionList {
            schema: view::SCHEMA,
            decisions: page.items,
            next: page.before.map(DecisionId),
        })
    }

    fn read_oldest(self, store: &Log) -> Result<DecisionList, LogError> {
        let from = self.after.map_or(0, |id| id.0.saturating_add(1));
        let mut reader = Reader::open(store.folder(), from)?;
        let mut decisions = Vec::new();
        let mut next = None;
        let mut looked = 0;
        while let Some(record) = reader.next_record()? {
            decisions.extend(summary(&record));
            looked += record.payload.len() as u64;
            if decisions.len() == self.limit || looked >= LOOK_THROUGH_BYTES {
                next = Some(DecisionId(record.sequence));
                break;
            }
        }
        Ok(DecisionList {
            schema: view::SCHEMA,
            decisions,
            next,
        })
    }
}

/// The summary of a record that is a decision and can be read.
fn summary(record: &Record<'_>) -> Option<DecisionSummary> {
    if record.kind() != Some(Kind::Decision) {
        return None;
    }
    DecisionSummary::new(record).ok()
}

impl From<KeepError> for Refusal {
    fn from(error: KeepError) -> Self {
        let (status, detail) = match &error {
            KeepError::NoLog => (
                StatusCode::NOT_FOUND,
                "this service keeps no log; start it with --log-folder DIR",
            ),
            KeepError::Append(LogError::TooLong { .. }) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "the decision is too long for the log",
            ),
            KeepError::Append(LogError::Full { .. }) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the disk of the decision log is full",
            ),
            KeepError::Append(_) | KeepError::NotOnDisk => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the decision log cannot be written or read",
            ),
        };
        if status == StatusCode::SERVICE_UNAVAILABLE {
            // Paths are for the operator, not for the client.
            tracing::error!(%error, "the decision log");
        }
        Self::new(status, detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_checked_and_errors_name_the_field() {
        let of = |query: &str| {
            let uri: Uri = format!("/v1/decisions?{query}").parse().expect("a URI");
            List::of(&uri).map_err(|refusal| refusal.field.unwrap_or_default())
        };
        let default = List {
            after: None,
            limit: 20,
            newest: true,
        };
        assert_eq!(of(""), Ok(default));
        let asked = List {
            after: Some(DecisionId(42)),
            limit: 100,
            newest: false,
        };
        assert_eq!(of("after=42&limit=100&order=oldest"), Ok(asked));
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=", "limit"),
            ("after=x", "after"),
            ("after=-1", "after"),
            ("order=up", "order"),
            ("other=1", "query"),
            ("limit=1&limit=2", "query"),
        ] {
            assert_eq!(of(query), Err(field.to_owned()), "{query}");
        }
    }
}
