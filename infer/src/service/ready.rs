//! `GET /readyz`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::problem::Refusal;
use super::{App, json};

/// Whether requests should be sent here: not while it shuts down or its log cannot be written.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let problem = if app.draining.load(Ordering::Relaxed) {
        Some("the service is shutting down")
    } else if app.log.failure().is_some() {
        Some("the decision log cannot be written")
    } else {
        None
    };
    match problem {
        Some(detail) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail).into_response(&app),
        None => json(StatusCode::OK, br#"{"status":"ready"}"#.to_vec()).into_response(),
    }
}
