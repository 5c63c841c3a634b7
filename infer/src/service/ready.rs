//! `GET /readyz`: whether to send requests here. (`/healthz` says whether the process lives.)

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::problem::Refusal;
use super::{App, json};

pub(super) async fn readyz(State(app): State<Arc<App>>) -> Response {
    match app.obstacle() {
        None => json(StatusCode::OK, br#"{"status":"ready"}"#.to_vec()),
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
