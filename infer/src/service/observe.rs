//! What happens to every request: an identity, a span, a duration, a line in the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument;

use super::App;
use super::guard::{RequestId, request_id};
use super::problem::Refused;
use crate::traces;

/// Names a request, in it and in the response.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Tells what took how long, for browsers and clients.
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// The route of what has none.
const NO_ROUTE: &str = "none";

/// Identifies, traces, measures and logs the request.
pub(super) async fn observe(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id = request_id(&app, &request);
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let span = traces::request(method, route, &id, request.headers());
    // An identity is of visible ASCII.
    let name = HeaderValue::from_str(&id).ok();
    if let Some(name) = name.clone() {
        request.headers_mut().insert(REQUEST_ID, name);
    }
    let mut response = next.run(request).instrument(span.clone()).await;
    let status = response.status().as_u16();
    traces::answered(&span, status);
    let elapsed = begun.elapsed();
    app.telemetry
        .requests
        .served(route, method, status, elapsed);
    let elapsed_us = elapsed.as_secs_f64() * 1e6;
    if let Some(Refused(problem)) = response.extensions().get() {
        tracing::info!(
            request_id = %id,
            method,
            route,
            status,
            problem,
            elapsed_us,
            "refused"
        );
    } else {
        tracing::debug!(
            request_id = %id,
            method,
            route,
            status,
            elapsed_us,
            "answered"
        );
    }
    if let Some(name) = name {
        response.headers_mut().insert(REQUEST_ID, name);
    }
    response
}

/// The method, from a bounded set.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// The value of `Server-Timing` for something that took `elapsed`; the header counts milliseconds.
pub(super) fn server_timing(name: &str, elapsed: Duration) -> HeaderValue {
    let text = format!("{name};dur={:.4}", elapsed.as_secs_f64() * 1e3);
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("none"))
}
