//! What goes wrong, as problem documents (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use twin::wire::{Problem, WireError, WireErrorKind};

use super::App;
use super::fleet::NO_FLEET;
use crate::fleet::FleetError;

/// The statuses of refused requests.
pub(super) const STATUSES: [u16; 11] = [400, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503];

/// Why a request is refused.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) detail: String,
    pub(super) field: Option<String>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            field: None,
        }
    }

    pub(super) fn into_response(self, app: &App) -> Response {
        app.telemetry.rejected(self.status.as_u16());
        let problem = problem(self.status.as_u16(), self.detail, self.field);
        tracing::info!(status = problem.status, problem = problem.kind, "refused");
        // A document of strings and a number always serializes.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        let status = status_of(error.kind);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        Self {
            status,
            detail: error.problem,
            field: Some(error.field),
        }
    }
}

impl From<FleetError> for Refusal {
    fn from(error: FleetError) -> Self {
        match error {
            FleetError::View(error) => WireError::from(error).into(),
            FleetError::Delta(error) => WireError::of_delta(error, "deltas").into(),
            FleetError::Clock(error) => Self {
                status: StatusCode::CONFLICT,
                detail: error.to_string(),
                field: Some("now_ns".into()),
            },
            FleetError::Log(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            FleetError::NoFleet { .. } => Self::new(StatusCode::CONFLICT, NO_FLEET),
        }
    }
}

/// The HTTP status that a wrong message gets.
fn status_of(kind: WireErrorKind) -> u16 {
    match kind {
        WireErrorKind::Malformed => 400,
        WireErrorKind::Schema | WireErrorKind::Inconsistent => 422,
    }
}

/// The problem document of a wrong message.
#[must_use]
pub fn wire_problem(error: &WireError) -> Problem {
    problem(
        status_of(error.kind),
        error.problem.clone(),
        Some(error.field.clone()),
    )
}

fn problem(status: u16, detail: String, field: Option<String>) -> Problem {
    let (kind, title) = match status {
        400 => ("malformed-body", "The body cannot be read"),
        404 => ("not-found", "There is no such resource"),
        405 => (
            "method-not-allowed",
            "The resource does not have this method",
        ),
        408 => ("timeout", "The body took too long to arrive"),
        409 => (
            "fleet-conflict",
            "The fleet is not known, or its clock was set",
        ),
        413 => ("too-large", "The body is too large"),
        415 => ("media-type", "The body is not declared as JSON"),
        422 => (
            "invalid-state",
            "The state is not one that can be decided on",
        ),
        429 => ("too-many-requests", "Too many requests are in flight"),
        503 => ("unavailable", "No decision can be taken at present"),
        _ => ("internal", "The service failed"),
    };
    let kind = format!("urn:problem-type:infer:{kind}");
    Problem {
        kind,
        title: title.into(),
        status,
        detail,
        field,
    }
}
