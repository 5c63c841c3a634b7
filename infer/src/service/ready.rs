//! `GET /readyz`: whether to send requests here. (`/healthz` says whether the process lives.)

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use twin::wire::Problem;
use utoipa::ToSchema;

use super::problem::Refusal;
use super::{App, json};

/// Whether requests are welcome.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ready {
    /// `ready`: they are.
    status: ReadyStatus,
}

/// Whether requests are welcome, in a word.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ReadyStatus {
    /// They are.
    Ready,
}

/// Tell whether to send requests here
///
/// 503 while the service shuts down, its log cannot be written, or every place is taken.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "ready",
    tag = "operations",
    responses(
        (status = 200, description = "Requests are welcome.", body = Ready),
        (status = 503, description = "No request should be sent here.",
         body = Problem, content_type = "application/problem+json"),
    ),
    security(()),
)]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    match app.obstacle() {
        None => {
            let ready = Ready {
                status: ReadyStatus::Ready,
            };
            // A word always serializes.
            json(
                StatusCode::OK,
                serde_json::to_vec(&ready).unwrap_or_default(),
            )
        }
        Some(obstacle) => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, obstacle).into_response(&app)
        }
    }
}

impl App {
    /// Why no request should be sent here; `None` if one may.
    fn obstacle(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            Some("the service is shutting down")
        } else if self.log.failure().is_some() {
            Some("the decision log cannot be written")
        } else if self.permits.available_permits() == 0 {
            Some("every place for a request is taken")
        } else {
            None
        }
    }
}
