//! The oracle's answers in logged states, side by side.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result};
use datasets::decisions::DecisionRow;
use twin::policy::oracle;
use twin::{World, stream};

use super::select::Logged;
use crate::label::relabel_at;

/// Asks the oracle.
pub(super) struct Labels<'a> {
    pub(super) world: &'a World,
    pub(super) oracle: oracle::Options,
    pub(super) seed: u64,
    pub(super) threads: usize,
}

impl Labels<'_> {
    /// The rows of each of `decisions`.
    ///
    /// Each thread has a pool of its own with one thread, for what computes in parallel below: in
    /// a shared pool, an oracle that waits for its parts would begin other decisions meanwhile.
    ///
    /// # Errors
    ///
    /// If the oracle gives no answer.
    pub(super) fn of(&self, decisions: &[Logged]) -> Result<Vec<Vec<DecisionRow>>> {
        let pools = (0..self.threads.min(decisions.len()))
            .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
            .collect::<Result<Vec<_>, _>>()
            .context("cannot start threads; try a smaller --threads")?;
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| {
            for pool in &pools {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    pool.install(|| {
                        loop {
                            let place = next.fetch_add(1, Ordering::Relaxed);
                            let Some(decision) = decisions.get(place) else {
                                break;
                            };
                            // Nobody listens any more after a failure.
                            if sender.send((place, self.one(decision))).is_err() {
                                break;
                            }
                        }
                    });
                });
            }
            drop(sender);
            let mut found = BTreeMap::new();
            for (place, rows) in &receiver {
                found.insert(place, rows?);
            }
            Ok(found.into_values().collect())
        })
    }

    fn one(&self, decision: &Logged) -> Result<Vec<DecisionRow>> {
        let seed = stream::mix(self.seed, decision.id.0);
        let at = (&decision.state, decision.epoch);
        relabel_at(self.world, self.oracle, seed, at)
            .with_context(|| format!("decision {}", decision.id))
    }
}
