//! The shadow: what another policy would have decided, and which of the two the twin prefers.
//!
//! A sampled share of the decisions goes to one thread of its own through a bounded queue; what
//! does not fit is dropped and counted, so the shadow never makes a request wait. There the policy
//! that did not decide (the candidate, or the active one where the candidate decided in earnest)
//! decides on the same state, the checker judges it, and both decisions are priced on the same
//! futures ([`crate::pricing`]). The *gain* of a decision is the penalty of the active policy's
//! decision less that of the candidate's, in seconds; it is zero where they agree.
//!
//! A candidate that decides in earnest on a share of the requests is stopped when the 95 % interval
//! of its mean gain lies below zero. It is looked at each time that the number of comparisons has
//! doubled, from [`FIRST_LOOK`] on, since who looks all the time stops too many.
//!
//! Left out: gains that show only after the horizon, and policies that remember: they see only the
//! decisions that are sampled.

mod compare;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use twin::statistics::Estimate;
use twin::world::World;

use self::compare::{Compared, Comparer};
use crate::recent::Recorded;
use crate::registry::{Registry, Serving};

/// The most decisions that wait to be compared.
pub const QUEUE: usize = 32;
/// The most bytes of a state that is compared: larger ones would hold up the others.
pub const MAX_STATE_BYTES: usize = 4 << 20;
/// Comparisons before a candidate is first judged.
pub const FIRST_LOOK: u64 = 20;
/// The newest gains from which the interval is made.
const MOST_GAINS: usize = 4_096;

/// The comparison, and the thread that goes on with it. The thread ends when this is dropped.
#[derive(Debug)]
pub struct Shadow {
    queue: SyncSender<Arc<Recorded>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    tally: Mutex<Tally>,
    /// Decisions that are queued or being compared.
    pending: AtomicU64,
    dropped: AtomicU64,
    compared: AtomicU64,
    stops: AtomicU64,
}

/// The comparison of one active policy with one candidate.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// Keys of the two.
    pair: Option<(String, String)>,
    compared: u64,
    agreed: u64,
    /// Decisions of the candidate that could not be carried out, or that it did not give.
    failed: u64,
    /// Decisions that the candidate took in earnest, of those compared.
    in_earnest: u64,
    gains_s: Vec<f64>,
    /// At how many comparisons the candidate is judged next.
    next_look: u64,
}

/// What the comparison says so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Decisions that were compared.
    pub compared: u64,
    /// Of these, those that the candidate took in earnest.
    pub in_earnest: u64,
    /// Of these, those on which the candidate gave no decision that can be carried out.
    pub failed: u64,
    /// The share on which both policies decide alike; `None` before there is one.
    pub agreement_ratio: Option<f64>,
    /// Mean gain of the candidate, in s; above zero where it decides better.
    pub gain_s: Option<Estimate>,
    /// Decisions that are queued or being compared.
    pub pending: u64,
    /// Decisions compared since the start, whichever the policies.
    pub total_compared: u64,
    /// Decisions dropped since the start, because the queue was full or the state too large.
    pub total_dropped: u64,
    /// Candidates stopped since the start.
    pub total_stops: u64,
}

impl Shadow {
    /// Starts the thread that compares decisions in `world` for `registry`.
    #[must_use]
    pub fn start(world: &Arc<World>, registry: &Arc<Registry>) -> Self {
        let (queue, waiting) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let comparer = Comparer::new(world);
        let worker = Worker {
            registry: Arc::clone(registry),
            shared: Arc::clone(&shared),
            comparer,
        };
        let thread = std::thread::Builder::new().name("shadow".into());
        if let Err(error) = thread.spawn(move || worker.run(&waiting)) {
            // The queue has no reader then, and every decision counts as dropped.
            tracing::error!(%error, "decisions cannot be compared");
        }
        Self { queue, shared }
    }

    /// Has `recorded` compared, unless too many wait already.
    pub fn offer(&self, recorded: Arc<Recorded>) {
        let large = recorded.situation.bytes() > MAX_STATE_BYTES;
        self.shared.pending.fetch_add(1, Ordering::AcqRel);
        if large || self.queue.try_send(recorded).is_err() {
            self.shared.pending.fetch_sub(1, Ordering::AcqRel);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What the comparison of the policies of `serving` says so far.
    #[must_use]
    pub fn report(&self, serving: &Serving) -> Report {
        let shared = &self.shared;
        let tally = shared
            .tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let tally = match tally.pair == pair(serving) {
            true => tally,
            false => Tally::default(),
        };
        Report {
            compared: tally.compared,
            in_earnest: tally.in_earnest,
            failed: tally.failed,
            agreement_ratio: (tally.compared > 0)
                .then(|| tally.agreed as f64 / tally.compared as f64),
            gain_s: Estimate::of(&tally.gains_s),
            pending: shared.pending.load(Ordering::Acquire),
            total_compared: shared.compared.load(Ordering::Relaxed),
            total_dropped: shared.dropped.load(Ordering::Relaxed),
            total_stops: shared.stops.load(Ordering::Relaxed),
        }
    }
}

/// The keys of who is compared, if there is a candidate.
fn pair(serving: &Serving) -> Option<(String, String)> {
    let candidate = serving.candidate.as_ref()?;
    Some((serving.active.key().into(), candidate.entry.key().into()))
}

/// Compares one decision after the other.
struct Worker {
    registry: Arc<Registry>,
    shared: Arc<Shared>,
    comparer: Comparer,
}

impl Worker {
    fn run(mut self, waiting: &Receiver<Arc<Recorded>>) {
        while let Ok(recorded) = waiting.recv() {
            let serving = self.registry.serving();
            if let Some(compared) = self.comparer.compare(&serving, &recorded) {
                self.count(&serving, &compared);
            }
            self.shared.pending.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn count(&self, serving: &Serving, compared: &Compared) {
        self.shared.compared.fetch_add(1, Ordering::Relaxed);
        let mut tally = self
            .shared
            .tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let pair = pair(serving);
        if tally.pair != pair {
            *tally = Tally {
                pair,
                next_look: FIRST_LOOK,
                ..Tally::default()
            };
        }
        let Some(reason) = tally.add(compared) else {
            return;
        };
        drop(tally);
        if self.registry.stop_canary(serving.generation, &reason) {
            self.shared.stops.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%reason, "the candidate is stopped");
        }
    }
}

impl Tally {
    /// Counts a comparison; why the candidate must be stopped, where it must.
    fn add(&mut self, compared: &Compared) -> Option<String> {
        self.compared += 1;
        self.in_earnest += u64::from(compared.in_earnest);
        self.agreed += u64::from(compared.agreed);
        match compared.gain_s {
            Some(gain_s) => {
                if self.gains_s.len() >= MOST_GAINS {
                    self.gains_s.remove(0);
                }
                self.gains_s.push(gain_s);
            }
            None => self.failed += 1,
        }
        if self.compared < self.next_look {
            return None;
        }
        self.next_look = self.next_look.saturating_mul(2);
        if self.failed * 2 > self.compared {
            let (failed, compared) = (self.failed, self.compared);
            return Some(format!(
                "{failed} of its {compared} decisions cannot be carried out"
            ));
        }
        let gain = Estimate::of(&self.gains_s)?;
        let high = gain.ci95_high.filter(|high| *high < 0.0)?;
        Some(format!(
            "its decisions cost {:.3} s more in the mean of {} (95 % interval up to {high:.3} s of gain)",
            -gain.mean,
            self.gains_s.len()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(gain_s: Option<f64>) -> Compared {
        Compared {
            agreed: false,
            in_earnest: true,
            gain_s,
        }
    }

    fn tally() -> Tally {
        Tally {
            next_look: FIRST_LOOK,
            ..Tally::default()
        }
    }

    /// At which comparison a candidate with these gains is stopped, of the first 100.
    fn stopped(gain_s: impl Fn(u64) -> Option<f64>) -> Option<u64> {
        let mut tally = tally();
        (1..=100).find(|&n| tally.add(&compared(gain_s(n))).is_some())
    }

    #[test]
    fn a_candidate_is_stopped_when_the_interval_excludes_zero() {
        // Mean −1 and standard deviation about 1: at 20 comparisons the interval is ±0.47.
        let odd = |n: u64| if n % 2 == 1 { 1.0 } else { -1.0 };
        assert_eq!(stopped(|n| Some(-1.0 + odd(n))), Some(20));
        // Mean −0.3: ±0.47 at 20, ±0.32 at 40, ±0.22 at 80.
        assert_eq!(stopped(|n| Some(-0.3 + odd(n))), Some(80));
        assert_eq!(stopped(|n| Some(odd(n))), None);
        assert_eq!(stopped(|_| Some(1.0)), None);
        // Worse at the beginning only: nobody looks before the twentieth.
        assert_eq!(stopped(|n| Some(if n <= 10 { -1.0 } else { 1.5 })), None);
    }

    #[test]
    fn a_candidate_that_gives_no_decisions_is_stopped() {
        assert_eq!(stopped(|_| None), Some(20));
        assert_eq!(stopped(|n| (n % 4 != 0).then_some(1.0)), None);
    }
}
