//! Forces the log to the disk once for all who wait.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, oneshot};
use twin::decision_log::Log;

use super::metrics::LogMetrics;

/// Those who wait for the next sync; the requests in flight bound their number.
#[derive(Debug, Default)]
pub(super) struct Committer {
    waiting: Mutex<Vec<oneshot::Sender<bool>>>,
    bell: Notify,
}

impl Committer {
    /// Waits for a sync that begins after this call; whether it succeeded.
    pub(super) async fn wait(&self) -> bool {
        let (tell, told) = oneshot::channel();
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(tell);
        self.bell.notify_one();
        told.await.unwrap_or(false)
    }

    /// Syncs whenever somebody waits.
    pub(super) async fn run(&self, store: &Arc<Log>, metrics: &LogMetrics) {
        loop {
            self.bell.notified().await;
            self.sync(store, metrics).await;
        }
    }

    /// Syncs, and tells those who waited before.
    pub(super) async fn sync(&self, store: &Arc<Log>, metrics: &LogMetrics) {
        let waiting = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *waiting)
        };
        let store = Arc::clone(store);
        let started = Instant::now();
        let synced = match tokio::task::spawn_blocking(move || store.sync()).await {
            Ok(Ok(())) => {
                metrics.synced(started.elapsed());
                true
            }
            Ok(Err(error)) => {
                metrics.failed(&error);
                tracing::error!(%error, "the decision log is not on the disk");
                false
            }
            Err(_) => false,
        };
        for tell in waiting {
            // Who has gone does not want to know.
            let _ = tell.send(synced);
        }
    }
}
