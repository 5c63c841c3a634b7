//! The dashboard at `/`, and the series that it draws.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::problem::Refusals;
use super::{App, json};
use crate::history::HistoryResponse;

/// The files of the page: path, media type and content. All that it loads is in this binary.
const FILES: [(&str, &str, &str); 3] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("../dashboard/index.html"),
    ),
    (
        "/dashboard.css",
        "text/css; charset=utf-8",
        include_str!("../dashboard/dashboard.css"),
    ),
    (
        "/dashboard.js",
        "text/javascript; charset=utf-8",
        include_str!("../dashboard/dashboard.js"),
    ),
];
/// What the page may do: load from and ask this service, and nothing else.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);

/// The page and what it loads.
pub(super) fn pages() -> Router<Arc<App>> {
    FILES
        .into_iter()
        .fold(Router::new(), |router, (path, kind, text)| {
            router.route(path, get(move || async move { file(kind, text) }))
        })
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        ),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, text).into_response()
}

/// Tell the last half an hour
///
/// Samples of the service and of its fleet, one every 5 s, as the dashboard draws them.
#[utoipa::path(
    get,
    path = "/v1/history",
    operation_id = "history",
    tag = "operations",
    responses((status = 200, description = "The samples.", body = HistoryResponse), Refusals),
    security(("bearer" = []), ()),
)]
pub(super) async fn history(State(app): State<Arc<App>>) -> Response {
    // A value of finite numbers always serializes.
    let body = serde_json::to_vec(&app.telemetry.history.response()).unwrap_or_default();
    json(StatusCode::OK, body)
}
