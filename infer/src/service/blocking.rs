//! Long computations: away from the threads that decide, few at a time, ended when nobody waits.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::pool::Lease;
use super::problem::Refusal;
use super::{App, WAIT_LIMIT};
use crate::pricing::{Budget, Cancel, PricingError};

/// How many prices and explanations are computed at the same time; more get 429.
pub(super) const COMPUTATIONS_IN_FLIGHT: usize = 2;

impl From<PricingError> for Refusal {
    fn from(error: PricingError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl App {
    /// Runs `job` on a thread where it may take up to `limit`, unless too many run already. The
    /// job looks at its budget, which ends when this is dropped, as when the client is gone.
    pub(super) async fn compute<T: Send + 'static>(
        self: &Arc<Self>,
        limit: Duration,
        job: impl FnOnce(&App, &Budget) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let Ok(slot) = Arc::clone(&self.computations).try_acquire_owned() else {
            let detail = format!("{COMPUTATIONS_IN_FLIGHT} computations are under way already");
            return Err(Refusal::new(StatusCode::TOO_MANY_REQUESTS, detail));
        };
        let cancel = Cancel::new();
        let _waits = cancel.guard();
        let budget = Budget::new(limit, cancel);
        let app = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            // Held until the computation ends, even if nobody waits for it.
            let _slot = slot;
            catch_unwind(AssertUnwindSafe(|| job(&app, &budget)))
        });
        match done.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => {
                tracing::error!("a computation panicked");
                let detail = "the computation failed";
                Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, detail))
            }
        }
    }

    /// Waits for a decider, on a thread of [`App::compute`].
    pub(super) fn wait_for_decider(&self) -> Result<Lease<'_>, Refusal> {
        let waited =
            Handle::current().block_on(async { timeout(WAIT_LIMIT, self.pool.take()).await });
        match waited {
            Ok(Some(lease)) => Ok(lease),
            Ok(None) | Err(_) => {
                let detail = "every decider is busy";
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, detail))
            }
        }
    }
}
