//! The service: decisions over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/decisions` | a [`DecisionResponse`](twin::wire::DecisionResponse) to a [`DecisionRequest`](twin::wire::DecisionRequest) |
//! | `PUT /v1/fleet` | takes a whole state as that of the fleet that the service keeps |
//! | `GET /v1/fleet` | the fleet by its live twin; `?view=summary` without the whole state |
//! | `POST /v1/telemetry` | tells what happened in the fleet |
//! | `GET /v1/fleet/drift` | predictions of the live twin against what was observed |
//! | `GET /v1/decisions`, `GET /v1/decisions/{id}` | what the log of decisions holds |
//! | `POST /v1/outcomes` | an [`OutcomesResponse`](twin::wire::OutcomesResponse) to an [`OutcomesRequest`](twin::wire::OutcomesRequest) |
//! | `GET /readyz` | 200 while requests should be sent here, else 503 |
//! | `POST /v1/decisions:validate` | a [`ValidateResponse`](crate::pricing::wire::ValidateResponse): the checker alone |
//! | `POST /v1/what-if` | a [`WhatIfResponse`](crate::pricing::wire::WhatIfResponse): the price of decisions |
//! | `GET /v1/explain/{id}` | an [`Explanation`](crate::explain::Explanation) of a decision of late |
//! | `/v1/models` | the policies that the service holds ([`crate::registry`]) |
//! | `GET /v1/limits` | the bounds of the service, and the world that it decides for |
//! | `GET /readyz` | 200 while requests are welcome, 503 else |
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
mod blocking;
mod body;
mod connections;
mod dashboard;
mod decisions;
mod document;
mod explain;
mod fleet;
mod guard;
mod health;
mod limits;
mod log;
mod models;
mod observe;
mod pool;
mod problem;
mod ready;
mod upkeep;
mod validate;
mod what_if;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum_server::Handle;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use twin::wire::MAX_BODY_BYTES;
use twin::world::World;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::access::{ENDPOINTS, Endpoint};
use self::blocking::COMPUTATIONS_IN_FLIGHT;
use self::connections::Bounds;
use self::document::{Document, method_not_allowed, not_found};
use self::fleet::KeptFleet;
pub(crate) use self::guard::REQUEST_ID_CHARS;
use self::guard::guard;
use self::health::{Health, HealthStatus};
use self::pool::Pool;
use self::problem::STATUSES;
pub use self::problem::wire_problem;
use crate::config;
use crate::decider::Decider;
use crate::fleet::LiveFleet;
use crate::log::DecisionLog;
use crate::security::Security;
use crate::telemetry::Telemetry;
use crate::trust::{self, Trust};

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
        let health = Health {
            status: HealthStatus::Ok,
            world: world.name.clone(),
            world_hash: world.hash.clone(),
            policy: first.policy().into(),
            model_sha256: first.model_sha256().map(|hash| hash.to_string()),
        };
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
        let trust = Trust::new(world, first, None, &trust::Options::default());
        let app = App {
            limits,
            trust,
            world: Arc::clone(world),
            computations: Arc::new(Semaphore::new(COMPUTATIONS_IN_FLIGHT)),
            health,
            permits: Semaphore::new(limits.in_flight),
            fleet: KeptFleet::new(world),
            pool: Pool::new(deciders),
            telemetry,
            log: DecisionLog::default(),
            security: Security::open(),
            endpoints: ENDPOINTS,
            document: Document::new(),
            draining: AtomicBool::new(false),
        };
        Ok(Self { listener, app })
    }

    /// Keeps a log: what is answered is in `log` before.
    #[must_use]
    pub fn with_log(mut self, log: DecisionLog) -> Self {
        self.app.log = log;
        self
    }

    /// Begins with `fleet`, where there is one.
    #[must_use]
    pub fn with_fleet(mut self, fleet: Option<LiveFleet>) -> Self {
        self.app.fleet.begin(fleet);
        self
    }

    /// Has its policies, decisions of late and comparisons kept by `trust`.
    #[must_use]
    pub fn trusting(mut self, trust: Trust) -> Self {
        self.app.trust = trust;
        self
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
        let router = router(Arc::clone(&app));
        let result = connections::serve(self.listener, tls.as_deref(), bounds, handle, router);
        let result = result.await;
        stopping.abort();
        app.checkpoint(true).await;
        app.log.close().await;
        Ok(result?)
    }
}

/// What the handlers share.
pub(crate) struct App {
    limits: Limits,
    world: Arc<World>,
    /// Policies, decisions of late, comparisons.
    trust: Trust,
    /// Long computations that may be under way.
    computations: Arc<Semaphore>,
    health: Health,
    permits: Semaphore,
    pool: Pool,
    fleet: KeptFleet,
    telemetry: Telemetry,
    log: DecisionLog,
    security: Security,
    endpoints: &'static [Endpoint],
    document: Document,
    draining: AtomicBool,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl App {
    /// Brings the metrics of the comparison up to date.
    fn tell_shadow(&self) {
        let serving = self.trust.registry.serving();
        let report = self.trust.shadow.report(&serving);
        self.telemetry.trust.shadowed(&report);
    }
}

/// Every operation, with its description.
pub(crate) fn operations() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(decisions::decisions, log::list_decisions))
        .routes(routes!(log::show_decision))
        .routes(routes!(validate::validate))
        .routes(routes!(what_if::what_if))
        .routes(routes!(explain::explain))
        .routes(routes!(log::outcomes))
        .routes(routes!(fleet::fleet, fleet::put_fleet))
        .routes(routes!(fleet::drift))
        .routes(routes!(fleet::telemetry))
        .routes(routes!(models::list, models::load))
        .routes(routes!(models::act, models::unload))
        .routes(routes!(models::roll_back))
        .routes(routes!(models::end_shadow))
        .routes(routes!(limits::limits))
        .routes(routes!(ready::readyz))
        .routes(routes!(dashboard::history))
        .routes(routes!(health::healthz))
        .routes(routes!(health::metrics_page))
        .routes(routes!(document::openapi))
}

fn router(app: Arc<App>) -> Router {
    let (router, _) = operations().split_for_parts();
    router
        .merge(dashboard::pages())
        .merge(document::pages())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(Arc::clone(&app), guard))
        .layer(from_fn_with_state(Arc::clone(&app), observe::observe))
        .with_state(app)
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], body).into_response()
}

#[cfg(test)]
mod tests;
