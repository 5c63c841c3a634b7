//! `GET /readyz`: whether to send requests here. (`/healthz` says whether the process lives.)

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::problem::Refusal;
use super::{App, json as answer};

pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let refused = app.obstacles();
    match refused.first() {
        None => answer(
            StatusCode::OK,
            json!({ "status": "ready" }).to_string().into_bytes(),
        ),
        Some(obstacle) => {
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, *obstacle).into_response(&app)
        }
    }
}

impl App {
    /// Why no request should be sent here; none if one may.
    fn obstacles(&self) -> Vec<&'static str> {
        let checks = [
            (
                self.draining.load(Ordering::Relaxed),
                "the service is shutting down",
            ),
            (
                self.permits.available_permits() == 0,
                "every place for a request is taken",
            ),
        ];
        let met = checks.into_iter().filter(|(obstacle, _)| *obstacle);
        met.map(|(_, reason)| reason).collect()
    }
}
