//! `GET /healthz` and `GET /metrics`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Refusal;
use super::{App, json};

/// What is served.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    /// `ok`: decisions are taken.
    pub(super) status: HealthStatus,
    /// Name of the world.
    pub(super) world: String,
    /// Hash of the world in hexadecimal.
    pub(super) world_hash: String,
    /// The policy that decides.
    pub(super) policy: String,
    /// SHA-256 of the model's weights in hexadecimal, where the policy is a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) model_sha256: Option<String>,
}

/// Whether decisions are taken.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum HealthStatus {
    /// They are.
    Ok,
}

/// Tell whether decisions are taken
///
/// Names the world, the policy and the model; 503 once the service shuts down.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "health",
    tag = "operations",
    responses(
        (status = 200, description = "Decisions are taken.", body = Health),
        (status = 503, description = "The service shuts down.",
         body = twin::wire::Problem, content_type = "application/problem+json"),
    ),
    security(()),
)]
pub(super) async fn healthz(State(app): State<Arc<App>>) -> Response {
    if app.draining.load(Ordering::Relaxed) {
        return Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the service is shutting down",
        )
        .into_response(&app);
    }
    // A value of names always serializes.
    let body = serde_json::to_vec(&app.health).unwrap_or_default();
    json(StatusCode::OK, body)
}

/// Tell metrics
///
/// For Prometheus, in its text format; units are base units and stand in the names.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "operations",
    responses(
        (status = 200, description = "The metrics.", body = String, content_type = "text/plain"),
    ),
    security(()),
)]
pub(super) async fn metrics_page(State(app): State<Arc<App>>) -> Response {
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    app.tell_shadow();
    app.show_fleet().await;
    ([(header::CONTENT_TYPE, text)], app.telemetry.render()).into_response()
}
