//! The service: decisions over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/decisions` | a [`DecisionResponse`](twin::wire::DecisionResponse) to a [`DecisionRequest`](twin::wire::DecisionRequest) |
//! | `GET /healthz` | 200 while decisions are taken, 503 once the service shuts down |
//! | `GET /metrics` | metrics in Prometheus' text format |
//!
//! What goes wrong is told by a [`Problem`](twin::wire::Problem) document. Work is bounded everywhere: requests in
//! flight (429 beyond), bytes of a body (413 beyond), the time a body may take (408 beyond) and
//! the time to wait for a decider (503 beyond).
//!
//! A request passes the bound of connections, TLS, the time for its head, its name, who asks
//! ([`crate::auth`]), how often ([`crate::rate`]), the bound of requests in flight and that of its
//! body, in this order, before it is looked at. Who may ask for what stands in [`access`].
//!
//! A decision takes microseconds, so it is taken on the thread that read the request, by one of as
//! many deciders as there are threads; only large states move out of the other requests' way.

pub mod access;
mod body;
mod connections;
mod decisions;
mod guard;
mod pool;
mod problem;
mod upkeep;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum_server::Handle;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use twin::wire::MAX_BODY_BYTES;

use self::access::{ENDPOINTS, Endpoint};
use self::connections::Bounds;
use self::decisions::decisions;
use self::guard::guard;
use self::pool::Pool;
pub use self::problem::wire_problem;
use self::problem::{Refusal, STATUSES};
use crate::config;
use crate::decider::Decider;
use crate::security::Security;
use crate::telemetry::Telemetry;

/// How many requests may be in flight unless [`Limits`] says otherwise.
pub const MAX_IN_FLIGHT: usize = 64;
/// How many connections there may be unless [`Limits`] says otherwise.
pub const MAX_CONNECTIONS: usize = 4_096;
/// How long the head of a request may take to arrive unless [`Limits`] says otherwise.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long a body may take to arrive unless [`Limits`] says otherwise.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// How long a request waits for a decider.
const WAIT_LIMIT: Duration = Duration::from_secs(5);
/// How long requests may take to end once the service shuts down unless [`Limits`] says otherwise.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(30);
/// States up to this many bytes are decided on the thread that read them.
const INLINE_BYTES: usize = 256 << 10;

/// Bounds of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests for decisions in flight.
    pub in_flight: usize,
    /// Bytes of a body.
    pub body_bytes: usize,
    /// Connections.
    pub connections: usize,
    /// The time for the head of a request.
    pub head: Duration,
    /// The time for a body.
    pub body: Duration,
    /// The time for requests to end once the service shuts down.
    pub shutdown: Duration,
}

impl From<&config::Server> for Limits {
    fn from(server: &config::Server) -> Self {
        Self {
            in_flight: server.max_in_flight,
            body_bytes: server.max_body_bytes,
            connections: server.max_connections,
            head: server.header_timeout,
            body: server.body_timeout,
            shutdown: server.shutdown_limit,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            in_flight: MAX_IN_FLIGHT,
            body_bytes: MAX_BODY_BYTES,
            connections: MAX_CONNECTIONS,
            head: HEAD_LIMIT,
            body: READ_LIMIT,
            shutdown: SHUTDOWN_LIMIT,
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
    app: App,
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
            pool: Pool::new(deciders),
            telemetry,
            security: Security::open(),
            endpoints: ENDPOINTS,
            draining: AtomicBool::new(false),
        };
        Ok(Self { listener, app })
    }

    /// Keeps the service to those that `security` lets in.
    #[must_use]
    pub fn secured(mut self, security: Security) -> Self {
        self.app.security = security;
        self
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
        let app = Arc::new(self.app);
        let _upkeep = upkeep::start(&app);
        let handle = Handle::new();
        let stopping = tokio::spawn({
            let (app, handle) = (Arc::clone(&app), handle.clone());
            async move {
                shutdown.await;
                tracing::info!("shutting down");
                app.draining.store(true, Ordering::Relaxed);
                handle.graceful_shutdown(Some(app.limits.shutdown));
                tokio::time::sleep(app.limits.shutdown).await;
                tracing::warn!("connections are still open: closing them");
            }
        });
        let bounds = Bounds {
            connections: app.limits.connections,
            head: app.limits.head,
        };
        let tls = app.security.tls.clone();
        let router = router(app);
        let result = connections::serve(self.listener, tls.as_deref(), bounds, handle, router);
        let result = result.await;
        stopping.abort();
        Ok(result?)
    }
}

/// What the handlers share.
struct App {
    limits: Limits,
    health: String,
    permits: Semaphore,
    pool: Pool,
    telemetry: Telemetry,
    security: Security,
    endpoints: &'static [Endpoint],
    draining: AtomicBool,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/decisions", post(decisions))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics_page))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&app), guard))
        .with_state(app)
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
