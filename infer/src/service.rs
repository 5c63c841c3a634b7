//! The service: decisions over HTTP.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/decisions` | a [`DecisionResponse`](twin::wire::DecisionResponse) to a [`DecisionRequest`](twin::wire::DecisionRequest) |
//! | `GET /healthz` | 200 while decisions are taken, 503 once the service shuts down |
//! | `GET /metrics` | metrics in Prometheus' text format |
//! | `GET /openapi.json` | the description of all of this ([`crate::openapi`]), `/docs` for people |
//!
//! What goes wrong is told by a [`Problem`](twin::wire::Problem) document. Work is bounded everywhere: requests in
//! flight (429 beyond), bytes of a body (413 beyond), the time a body may take (408 beyond) and
//! the time to wait for a decider (503 beyond).
//!
//! A decision takes microseconds, so it is taken on the thread that read the request, by one of as
//! many deciders as there are threads; only large states move out of the other requests' way.

mod body;
mod decisions;
mod document;
mod health;
mod observe;
mod pool;
mod problem;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use twin::wire::MAX_BODY_BYTES;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::document::{Document, method_not_allowed, not_found};
use self::health::{Health, HealthStatus};
pub(crate) use self::observe::REQUEST_ID_CHARS;
use self::pool::Pool;
use self::problem::STATUSES;
pub use self::problem::wire_problem;
use crate::decider::Decider;
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
        let app = App {
            limits,
            health,
            permits: Semaphore::new(limits.in_flight),
            pool: Pool::new(deciders),
            telemetry,
            document: Document::new(),
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
pub(crate) struct App {
    limits: Limits,
    health: Health,
    permits: Semaphore,
    pool: Pool,
    telemetry: Telemetry,
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

/// Every operation, with its description.
pub(crate) fn operations() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(decisions::decisions))
        .routes(routes!(health::healthz))
        .routes(routes!(health::metrics_page))
        .routes(routes!(document::openapi))
}

fn router(app: Arc<App>) -> Router {
    let (router, _) = operations().split_for_parts();
    router
        .merge(document::pages())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(app.limits.body_bytes))
        .layer(from_fn_with_state(Arc::clone(&app), observe::observe))
        .with_state(app)
}

fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], body).into_response()
}

#[cfg(test)]
mod tests;
