//! How long a computation may go on, and whether anybody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::PricingError;

/// Tells a computation on another thread that nobody waits for it.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// Cancels when dropped.
#[derive(Debug)]
pub struct CancelOnDrop(Cancel);

impl Cancel {
    /// Not cancelled yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels once what is returned is dropped: it belongs to whoever waits.
    #[must_use]
    pub fn guard(&self) -> CancelOnDrop {
        CancelOnDrop(self.clone())
    }

    /// Whether nobody waits any more.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// The time that a computation has, from when it was made.
#[derive(Clone, Debug)]
pub struct Budget {
    started: Instant,
    limit: Duration,
    cancel: Cancel,
}

impl Budget {
    /// `limit` from now on, unless it is cancelled.
    #[must_use]
    pub fn new(limit: Duration, cancel: Cancel) -> Self {
        Self {
            started: Instant::now(),
            limit,
            cancel,
        }
    }

    /// The same with another limit, from the same moment.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Self {
        Self {
            limit,
            ..self.clone()
        }
    }

    /// Whether the time is up or nobody waits.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.started.elapsed() >= self.limit
    }

    /// Whether to go on with a computation of which `done` of `total` parts are done.
    ///
    /// # Errors
    ///
    /// If not.
    pub fn check(&self, done: usize, total: usize) -> Result<(), PricingError> {
        if self.cancel.is_cancelled() {
            return Err(PricingError::Cancelled);
        }
        if self.started.elapsed() >= self.limit {
            let limit_ms = self.limit.as_millis();
            return Err(PricingError::Late {
                done,
                total,
                limit_ms,
            });
        }
        Ok(())
    }
}
