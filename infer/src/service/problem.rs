//! What goes wrong, as problem documents (RFC 9457).

use std::collections::BTreeMap;
use std::error::Error as _;

use axum::extract::Path;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use twin::wire::{Problem, WireError, WireErrorKind, shorten};
use utoipa::openapi::{ContentBuilder, Header, Ref, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use super::App;
use super::fleet::NO_FLEET;
use crate::fleet::FleetError;

/// The statuses of refused requests.
pub(super) const STATUSES: [u16; 13] = [
    400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 503,
];

/// The problem of a fleet that is not known, or is not as far as a message says.
const FLEET_CONFLICT: (&str, &str) = (
    "fleet-conflict",
    "The fleet is not known, or its clock was set",
);

/// Why a request is refused.
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) detail: String,
    pub(super) field: Option<String>,
    /// Name and title of the problem, where the status alone does not tell.
    kind: Option<(&'static str, &'static str)>,
}

/// What is wrong with a path or a query.
const NO_SUCH_PARAMETER: (&str, &str) = (
    "invalid-parameter",
    "The path or the query is not of the schema",
);

/// What is wrong with a message that is JSON and not of the schema.
const NOT_OF_THE_SCHEMA: (&str, &str) = ("invalid-message", "The body is not of the schema");

impl Refusal {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            field: None,
            kind: None,
        }
    }

    /// What is wrong with the parameter `name` of a path or a query.
    pub(super) fn in_parameter(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            kind: Some(NO_SUCH_PARAMETER),
            ..Self::in_field(name, problem)
        }
    }

    /// What is wrong with a query: names the parameter, as far as one is at fault.
    pub(super) fn in_query(error: &QueryRejection) -> Self {
        type Located = serde_path_to_error::Error<serde::de::value::Error>;
        let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
        let located = causes.find_map(|cause| cause.downcast_ref::<Located>());
        match located.map(|located| (located.path().to_string(), located.inner())) {
            Some((name, inner)) if !matches!(name.trim(), "" | ".") => {
                Self::in_parameter(shorten(name), shorten(inner.to_string()))
            }
            _ => Self::in_parameter("query", shorten(error.body_text())),
        }
    }

    /// The fleet is not known.
    pub(super) fn no_fleet() -> Self {
        Self {
            kind: Some(FLEET_CONFLICT),
            ..Self::new(StatusCode::CONFLICT, NO_FLEET)
        }
    }

    /// What is wrong with a field of a message.
    pub(super) fn in_field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, problem)
        }
    }

    pub(super) fn into_response(self, app: &App) -> Response {
        app.telemetry.rejected(self.status.as_u16());
        let problem = problem(self.status.as_u16(), self.kind, self.detail, self.field);
        // A document of strings and a number always serializes.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response.extensions_mut().insert(Refused(problem.kind));
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

/// Marks a response to a refused request with the problem's type, for the log.
#[derive(Clone, Debug)]
pub(super) struct Refused(pub(super) String);

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        let status = status_of(error.kind);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        Self {
            status,
            detail: error.problem,
            field: Some(error.field),
            kind: kind_of(error.kind),
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
                kind: Some(FLEET_CONFLICT),
            },
            FleetError::Log(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            FleetError::NoFleet { .. } => Self::no_fleet(),
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

/// The problem of a wrong message, where its status does not tell.
fn kind_of(kind: WireErrorKind) -> Option<(&'static str, &'static str)> {
    (kind == WireErrorKind::Schema).then_some(NOT_OF_THE_SCHEMA)
}

/// The problem document of a wrong message.
#[must_use]
pub fn wire_problem(error: &WireError) -> Problem {
    problem(
        status_of(error.kind),
        kind_of(error.kind),
        error.problem.clone(),
        Some(error.field.clone()),
    )
}

fn problem(
    status: u16,
    kind: Option<(&'static str, &'static str)>,
    detail: String,
    field: Option<String>,
) -> Problem {
    let (kind, title) = kind.unwrap_or_else(|| kind_and_title(status));
    let field = field.or_else(|| part(status).map(Into::into));
    Problem {
        kind: format!("urn:problem-type:infer:{kind}"),
        title: title.into(),
        status,
        detail,
        field,
    }
}

/// The part of the request that `status` blames, where nothing in it can be named.
fn part(status: u16) -> Option<&'static str> {
    match status {
        400 | 408 | 413 => Some("body"),
        415 => Some("Content-Type"),
        401 => Some("Authorization"),
        _ => None,
    }
}

/// Name and title of the problem that `status` tells of.
fn kind_and_title(status: u16) -> (&'static str, &'static str) {
    match status {
        400 => ("malformed-body", "The body cannot be read"),
        401 => ("unauthorized", "It must be known who asks"),
        403 => ("forbidden", "The client may not do this"),
        404 => ("not-found", "There is no such resource"),
        405 => (
            "method-not-allowed",
            "The resource does not have this method",
        ),
        408 => ("timeout", "The body took too long to arrive"),
        409 => ("conflict", "It is not possible as things are"),
        413 => ("too-large", "The body is too large"),
        415 => ("media-type", "The body is not declared as JSON"),
        422 => (
            "invalid-state",
            "The state is not one that can be decided on",
        ),
        429 => ("too-many-requests", "Too many requests"),
        503 => ("unavailable", "No decision can be taken at present"),
        _ => ("internal", "The service failed"),
    }
}

/// The parameter `name`, which is all of a path that is not fixed.
pub(super) fn parameter(
    name: &str,
    found: Result<Path<String>, PathRejection>,
) -> Result<String, Refusal> {
    match found {
        Ok(Path(text)) => Ok(text),
        Err(error) => Err(Refusal::in_parameter(name, error.body_text())),
    }
}

/// The responses of refused requests that any protected operation can give, in its description.
pub(crate) enum Refusals {}

/// Those of an operation with a body.
pub(crate) enum BodyRefusals {}

/// Those of an operation with parameters.
pub(crate) enum ParameterRefusals {}

impl IntoResponses for ParameterRefusals {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let mut responses = Refusals::responses();
        let mut wrong = described_as(422);
        wrong.description = format!("{} (`{}`).", NO_SUCH_PARAMETER.1, NO_SUCH_PARAMETER.0);
        responses.insert("422".into(), wrong.into());
        responses
    }
}

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        described(&[401, 403, 429, 500, 503])
    }
}

impl IntoResponses for BodyRefusals {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let mut responses = Refusals::responses();
        responses.extend(described(&[400, 408, 413, 415, 422]));
        responses
    }
}

fn described(statuses: &[u16]) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    statuses
        .iter()
        .map(|&status| (status.to_string(), described_as(status).into()))
        .collect()
}

/// A refusal with `status`, in the description of an operation.
fn described_as(status: u16) -> utoipa::openapi::Response {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(Problem::name())))
        .build();
    let description = match status {
        422 => {
            "The message is not of the schema (`invalid-message`), or what it says does not fit \
             the world or contradicts itself (`invalid-state`)."
                .into()
        }
        _ => format!("{}.", kind_and_title(status).1),
    };
    let response = ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", content);
    match status {
        401 => response.header("WWW-Authenticate", Header::default()),
        429 | 503 => response.header("Retry-After", Header::default()),
        _ => response,
    }
    .build()
}
