//! Requests on their way in: who is admitted, and the body.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;

use super::App;
use super::guard::BodyLimit;
use super::problem::Refusal;
use crate::telemetry::InFlight;

use std::sync::atomic::Ordering;

/// A request that is in flight while it lives.
pub(super) struct Admitted<'a> {
    _permit: SemaphorePermit<'a>,
    _in_flight: InFlight<'a>,
}

impl App {
    /// Lets a request in, unless the service shuts down or too many are in flight.
    pub(super) fn admit(&self) -> Result<Admitted<'_>, Refusal> {
        if self.draining.load(Ordering::Relaxed) {
            let detail = "the service is shutting down";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail));
        }
        let Ok(permit) = self.permits.try_acquire() else {
            let detail = format!("{} requests are in flight already", self.limits.in_flight);
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, detail));
        };
        Ok(Admitted {
            _permit: permit,
            _in_flight: self.telemetry.in_flight(),
        })
    }

    /// The body of `request`, which must be declared as JSON, within the limits.
    pub(super) async fn json_body(&self, request: Request) -> Result<Bytes, Refusal> {
        let limit = request.extensions().get::<BodyLimit>();
        let limit = limit.map_or(self.limits.body_bytes, |limit| limit.0);
        check_headers(request.headers(), limit)?;
        self.read(request, limit).await
    }

    async fn read(&self, request: Request, limit: usize) -> Result<Bytes, Refusal> {
        let time = self.limits.body;
        match timeout(time, Bytes::from_request(request, &())).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(too_large(limit))
            }
            Ok(Err(error)) => Err(Refusal::new(StatusCode::BAD_REQUEST, error.body_text())),
            Err(_) => {
                let detail = format!("a body must arrive within {} s", time.as_secs_f64());
                Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, detail))
            }
        }
    }
}

fn check_headers(headers: &HeaderMap, limit: usize) -> Result<(), Refusal> {
    let media_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .unwrap_or("");
    if !media_type.trim().eq_ignore_ascii_case("application/json") {
        let detail = "the body must have Content-Type: application/json";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<u64>().ok());
    if length.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    Ok(())
}

fn too_large(limit: usize) -> Refusal {
    let detail = format!("a body may have {limit} bytes");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}
