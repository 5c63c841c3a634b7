//! The deciders, one in use by one request at a time.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::decider::Decider;

/// The deciders that nobody uses.
pub(super) struct Pool {
    free: Semaphore,
    idle: Mutex<Vec<Decider>>,
}

/// A decider in use; goes back to the pool when dropped.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    pub(super) decider: Option<Decider>,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    /// A pool of `deciders`.
    pub(super) fn new(deciders: Vec<Decider>) -> Self {
        Self {
            free: Semaphore::new(deciders.len()),
            idle: Mutex::new(deciders),
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Decider>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn take(&self) -> Option<Lease<'_>> {
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
