//! The service: decisions over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/decisions` | a [`DecisionResponse`](twin::wire::DecisionResponse) to a [`DecisionRequest`] |
//! | `GET /healthz` | 200 while decisions are taken, 503 once the service shuts down |
//! | `GET /metrics` | metrics in Prometheus' text format |
//!
//! What goes wrong is told by a [`Problem`] document. Work is bounded everywhere: requests in
//! flight (429 beyond), bytes of a body (413 beyond), the time a body may take (408 beyond) and
//! the time to wait for a decider (503 beyond).
//!
//! A decision takes microseconds, so it is taken on the thread that read the request, by one of as
//! many deciders as there are threads; only large states move out of the other requests' way.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::timeout;
use twin::wire::{DecisionRequest, MAX_BODY_BYTES, Problem, WireError, WireErrorKind};

use crate::decider::{Answer, Decider};
use crate::telemetry::Telemetry;

/// How many requests may be in flight unless [`Limits`] says otherwise.
pub const MAX_IN_FLIGHT: usize = 64;
/// How long a body may take to arrive.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// How long a request waits for a decider.
const WAIT_LIMIT: Duration = Duration::from_secs(5);
/// How long requests may take to end once the service shuts down.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);
/// States up to this many bytes are decided on the thread that read them.
const INLINE_BYTES: usize = 256 << 10;
/// How often metrics are tidied.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// The statuses of refused requests.
const STATUSES: [u16; 10] = [400, 404, 405, 408, 413, 415, 422, 429, 500, 503];

/// Bounds of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests for decisions in flight.
    pub in_flight: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: MAX_IN_FLIGHT,
            body_bytes: MAX_BODY_BYTES,
        }
    }
}

/// Why the service does not run.
#[derive(Debug, Error)]
pub enum ServiceError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// Connections cannot be taken.
    #[error("cannot serve: {0}")]
    Serve(#[from] io::Error),
    /// The metrics cannot be set up.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// There must be a decider.
    #[error("a service needs at least one decider")]
    NoDecider,
}

/// A service that listens and has not begun to answer.
#[derive(Debug)]
pub struct Service {
    listener: TcpListener,
    app: Arc<App>,
}

impl Service {
    /// Listens on `address` (port 0 for any free one), to answer with `deciders`, which all
    /// decide for the same world with the same policy.
    ///
    /// # Errors
    ///
    /// If the address cannot be listened on, or there is no decider.
    pub async fn bind(
        address: SocketAddr,
        deciders: Vec<Decider>,
        limits: Limits,
    ) -> Result<Self, ServiceError> {
        let first = deciders.first().ok_or(ServiceError::NoDecider)?;
        let world = first.world();
        let health = serde_json::json!({
            "status": "ok",
            "world": world.name,
            "world_hash": world.hash,
            "policy": first.policy(),
            "model_sha256": first.model_sha256().map(|hash| hash.as_ref()),
        });
        let telemetry = Telemetry::new(
            &STATUSES,
            [
                ("world", world.name.clone()),
                ("policy", first.policy().into()),
                ("version", env!("CARGO_PKG_VERSION").into()),
            ],
        )?;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| ServiceError::Listen { address, source })?;
        let app = App {
            limits,
            health: health.to_string(),
            permits: Semaphore::new(limits.in_flight),
            pool: Pool {
                free: Semaphore::new(deciders.len()),
                idle: Mutex::new(deciders),
            },
            telemetry,
            draining: AtomicBool::new(false),
        };
        Ok(Self {
            listener,
            app: Arc::new(app),
        })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    ///
    /// If the operating system does not tell.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `shutdown` completes, and then until what was accepted is answered.
    ///
    /// # Errors
    ///
    /// If connections cannot be taken.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServiceError> {
        let app = self.app;
        let upkeep = tokio::spawn({
            let app = Arc::clone(&app);
            async move {
                let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
                loop {
                    ticks.tick().await;
                    app.telemetry.tidy();
                }
            }
        });
        let (drain, draining) = oneshot::channel();
        let signal = {
            let app = Arc::clone(&app);
            async move {
                shutdown.await;
                tracing::info!("shutting down");
                app.draining.store(true, Ordering::Relaxed);
                // The receiver is gone only if the service has ended already.
                let _ = drain.send(());
            }
        };
        let served = axum::serve(self.listener, router(app)).with_graceful_shutdown(signal);
        let overdue = async {
            // Without a signal there is nothing to be late for.
            if draining.await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(SHUTDOWN_LIMIT).await;
        };
        let result = tokio::select! {
            result = served => result.map_err(ServiceError::from),
            () = overdue => {
                tracing::warn!("connections are still open: closing them");
                Ok(())
            }
        };
        upkeep.abort();
        result
    }
}

/// What the handlers share.
struct App {
    limits: Limits,
    health: String,
    permits: Semaphore,
    pool: Pool,
    telemetry: Telemetry,
    draining: AtomicBool,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The deciders that nobody uses.
struct Pool {
    free: Semaphore,
    idle: Mutex<Vec<Decider>>,
}

/// A decider in use; goes back to the pool when dropped.
struct Lease<'a> {
    pool: &'a Pool,
    decider: Option<Decider>,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Decider>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn take(&self) -> Option<Lease<'_>> {
        let permit = self.free.acquire().await.ok()?;
        let decider = self.idle().pop();
        Some(Lease {
            pool: self,
            decider,
            _permit: permit,
        })
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.pool.idle().extend(self.decider.take());
    }
}

/// Why a request is refused.
struct Refusal {
    status: StatusCode,
    detail: String,
    field: Option<String>,
}

impl Refusal {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            field: None,
        }
    }

    fn into_response(self, app: &App) -> Response {
        app.telemetry.rejected(self.status.as_u16());
        let problem = problem(self.status.as_u16(), self.detail, self.field);
        tracing::info!(status = problem.status, problem = problem.kind, "refused");
        // A document of strings and a number always serializes.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
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

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        let status = status_of(error.kind);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        Self {
            status,
            detail: error.problem,
            field: Some(error.field),
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

/// The problem document of a wrong message.
#[must_use]
pub fn wire_problem(error: &WireError) -> Problem {
    problem(
        status_of(error.kind),
        error.problem.clone(),
        Some(error.field.clone()),
    )
}

fn problem(status: u16, detail: String, field: Option<String>) -> Problem {
    let (kind, title) = match status {
        400 => ("malformed-body", "The body cannot be read"),
        404 => ("not-found", "There is no such resource"),
        405 => (
            "method-not-allowed",
            "The resource does not have this method",
        ),
        408 => ("timeout", "The body took too long to arrive"),
        413 => ("too-large", "The body is too large"),
        415 => ("media-type", "The body is not declared as JSON"),
        422 => (
            "invalid-state",
            "The state is not one that can be decided on",
        ),
        429 => ("too-many-requests", "Too many requests are in flight"),
        503 => ("unavailable", "No decision can be taken at present"),
        _ => ("internal", "The service failed"),
    };
    let kind = format!("urn:problem-type:infer:{kind}");
    Problem {
        kind,
        title: title.into(),
        status,
        detail,
        field,
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/decisions", post(decisions))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics_page))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(app.limits.body_bytes))
        .with_state(app)
}

async fn decisions(State(app): State<Arc<App>>, request: Request) -> Response {
    match app.answer(request).await {
        Ok(body) => json(StatusCode::OK, body),
        Err(refusal) => refusal.into_response(&app),
    }
}

async fn healthz(State(app): State<Arc<App>>) -> Response {
    if app.draining.load(Ordering::Relaxed) {
        return Refusal::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the service is shutting down",
        )
        .into_response(&app);
    }
    json(StatusCode::OK, app.health.clone().into_bytes())
}

async fn metrics_page(State(app): State<Arc<App>>) -> Response {
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, text)], app.telemetry.render()).into_response()
}

async fn not_found(State(app): State<Arc<App>>) -> Response {
    let detail = "there are POST /v1/decisions, GET /healthz and GET /metrics";
    Refusal::new(StatusCode::NOT_FOUND, detail).into_response(&app)
}

async fn method_not_allowed(State(app): State<Arc<App>>) -> Response {
    let detail = "there are POST /v1/decisions, GET /healthz and GET /metrics";
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response(&app)
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], body).into_response()
}

impl App {
    async fn answer(&self, request: Request) -> Result<Vec<u8>, Refusal> {
        if self.draining.load(Ordering::Relaxed) {
            let detail = "the service is shutting down";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail));
        }
        let Ok(_permit) = self.permits.try_acquire() else {
            let detail = format!("{} requests are in flight already", self.limits.in_flight);
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, detail));
        };
        let _in_flight = self.telemetry.in_flight();
        self.check_headers(request.headers())?;
        let body = self.read(request).await?;
        let waited = timeout(WAIT_LIMIT, self.pool.take()).await;
        let Ok(Some(mut lease)) = waited else {
            let detail = "every decider is busy";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail));
        };
        let Some(decider) = &mut lease.decider else {
            let detail = "a decider is missing";
            return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, detail));
        };
        let roomy = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        let answer = if body.len() > INLINE_BYTES && roomy {
            tokio::task::block_in_place(|| decide(decider, &body))
        } else {
            decide(decider, &body)
        }?;
        self.telemetry.answered(&answer);
        if let Some(reason) = &answer.fallback {
            tracing::warn!(%reason, "fallback");
        }
        if let Some(reason) = &answer.fallback_failure {
            tracing::error!(%reason, "the fallback failed: nothing is changed");
        }
        tracing::debug!(elapsed_us = answer.elapsed.as_secs_f64() * 1e6, "decided");
        Ok(answer.body)
    }

    fn check_headers(&self, headers: &HeaderMap) -> Result<(), Refusal> {
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
        if length.is_some_and(|length| length > self.limits.body_bytes as u64) {
            return Err(self.too_large());
        }
        Ok(())
    }

    fn too_large(&self) -> Refusal {
        let detail = format!("a body may have {} bytes", self.limits.body_bytes);
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    async fn read(&self, request: Request) -> Result<Bytes, Refusal> {
        match timeout(READ_LIMIT, Bytes::from_request(request, &())).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(error)) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                Err(self.too_large())
            }
            Ok(Err(error)) => Err(Refusal::new(StatusCode::BAD_REQUEST, error.body_text())),
            Err(_) => {
                let detail = format!("a body must arrive within {} s", READ_LIMIT.as_secs());
                Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, detail))
            }
        }
    }
}

/// Reads the request and answers it. A panic, which would be a defect, becomes a status of 500.
fn decide(decider: &mut Decider, body: &[u8]) -> Result<Answer, Refusal> {
    let decided = catch_unwind(AssertUnwindSafe(|| {
        let request = DecisionRequest::from_json(body)?;
        decider.answer(&request)
    }));
    match decided {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            tracing::error!("a decision panicked");
            Err(Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the decision failed",
            ))
        }
    }
}
