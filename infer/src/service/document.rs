//! `GET /openapi.json`, its page for people, and what is said where there is nothing.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::App;
use super::problem::Refusal;
use crate::openapi;

/// The document, written once.
pub(super) struct Document {
    json: Bytes,
    operations: String,
}

impl Document {
    /// The document of this program.
    pub(super) fn new() -> Self {
        let document = openapi::document();
        let named: Vec<String> = openapi::operations(&document)
            .map(|operation| operation.to_string())
            .collect();
        Self {
            json: openapi::text(&document).into(),
            operations: format!("there are {}", named.join(", ")),
        }
    }
}

/// Describe the service
///
/// This document: every operation, its messages, and their bounds.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "operations",
    responses((status = 200, description = "An OpenAPI document, version 3.1.", body = Object)),
    security(()),
)]
pub(super) async fn openapi(State(app): State<Arc<App>>) -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], app.document.json.clone()).into_response()
}

/// The page for people; everything that it loads is in this binary.
pub(super) fn pages() -> Router<Arc<App>> {
    let config = Config::from("../openapi.json")
        .display_operation_id(true)
        .try_it_out_enabled(true)
        // The validator would send the document to a server of others.
        .validator_url("none");
    SwaggerUi::new("/docs").config(config).into()
}

pub(super) async fn not_found(State(app): State<Arc<App>>) -> Response {
    let detail = app.document.operations.clone();
    Refusal::new(StatusCode::NOT_FOUND, detail).into_response(&app)
}

pub(super) async fn method_not_allowed(State(app): State<Arc<App>>) -> Response {
    let detail = app.document.operations.clone();
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response(&app)
}
