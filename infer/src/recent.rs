//! The decisions of late: what each was taken on, so that it can be explained and compared.
//!
//! A ring bounded in bytes keeps the newest. What has left it may be found elsewhere, as in a log
//! ([`DecisionSource`]).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use twin::decision::Decision;
use twin::decision_log::DecisionId;
use twin::observation::FleetView;
use twin::wire::{DecisionRequest, WireError};
use twin::world::World;

use crate::registry::Role;

/// Bytes of the decisions that are kept unless the service is told otherwise.
pub const RECENT_BYTES: usize = 16 << 20;
/// The most decisions that are kept, however short.
const MOST_RECENT: usize = 10_000;
/// What a decision takes beside its state.
const RECORD_BYTES: usize = 512;
/// What a decision was taken on.
#[derive(Clone, Debug)]
pub enum Situation {
    /// The body of a request that was read and found consistent.
    Request(Bytes),
    /// A view of the live fleet.
    View(Arc<FleetView>),
}

impl Situation {
    /// The view of `world`.
    ///
    /// # Errors
    ///
    /// If the bytes are no request for this world.
    pub fn view(&self, world: &World) -> Result<FleetView, WireError> {
        match self {
            Self::Request(body) => DecisionRequest::from_json(body)?.to_view(world),
            Self::View(view) => Ok(view.as_ref().clone()),
        }
    }

    /// About the memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Request(body) => body.len(),
            Self::View(view) => {
                let lists = view.hosts.len() + view.requests.len() + view.transfers.len();
                // A host, a request or a transfer takes some 100 bytes and what it lists.
                256 * lists
            }
        }
    }
}

/// A decision as it was sent.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its identifier.
    pub id: DecisionId,
    /// What it was taken on.
    pub situation: Situation,
    /// What was decided.
    pub decision: Decision,
    /// The policy that took it; `None` where nobody did.
    pub policy: Option<String>,
    /// SHA-256 of the weights of the model that was asked, where it is one.
    pub model_sha256: Option<Arc<str>>,
    /// Which of the service's policies was asked.
    pub role: Role,
    /// The registry's generation.
    pub generation: u64,
    /// Why the policy's own decision was not taken, where it was not.
    pub fallback: Option<String>,
    /// Whether search took it, since the input was unlike those of training.
    pub searched: bool,
}

/// Where decisions can be looked up; asked on a thread that may wait for files.
pub trait DecisionSource: Send + Sync {
    /// The decision called `id`, if it is known.
    ///
    /// # Errors
    ///
    /// Why it cannot be read, in words.
    fn find(&self, id: DecisionId) -> Result<Option<Arc<Recorded>>, String>;
}

/// The newest decisions.
#[derive(Debug)]
pub struct Recent {
    most_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    ring: VecDeque<Arc<Recorded>>,
    bytes: usize,
}

impl Recent {
    /// Keeps up to about `most_bytes` bytes of decisions; none with 0.
    #[must_use]
    pub fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            kept: Mutex::default(),
        }
    }

    /// Keeps `recorded`, and lets go of the oldest that it takes the place of. One that is larger
    /// than all the place is not kept.
    pub fn keep(&self, recorded: Arc<Recorded>) {
        let size = bytes_of(&recorded);
        if size > self.most_bytes {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += size;
        kept.ring.push_back(recorded);
        while kept.bytes > self.most_bytes || kept.ring.len() > MOST_RECENT {
            let Some(oldest) = kept.ring.pop_front() else {
                break;
            };
            kept.bytes -= bytes_of(&oldest);
        }
    }
}

fn bytes_of(recorded: &Recorded) -> usize {
    let decision = &recorded.decision;
    let actions =
        decision.provisioning.len() + decision.deployments.len() + decision.migrations.len();
    RECORD_BYTES + recorded.situation.bytes() + 64 * actions
}

impl DecisionSource for Recent {
    fn find(&self, id: DecisionId) -> Result<Option<Arc<Recorded>>, String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(kept.ring.iter().rev().find(|r| r.id == id).cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(id: u64, bytes: usize) -> Arc<Recorded> {
        Arc::new(Recorded {
            id: DecisionId(id),
            situation: Situation::Request(Bytes::from(vec![b' '; bytes])),
            decision: Decision::none(),
            policy: None,
            model_sha256: None,
            role: Role::Active,
            generation: 0,
            fallback: None,
            searched: false,
        })
    }

    fn has(recent: &Recent, id: u64) -> bool {
        recent
            .find(DecisionId(id))
            .expect("it can be read")
            .is_some()
    }

    #[test]
    fn the_oldest_give_way() {
        // Each takes 512 + 488 bytes.
        let recent = Recent::new(3_000);
        for id in 1..=4 {
            recent.keep(recorded(id, 488));
        }
        assert!(!has(&recent, 1) && has(&recent, 2) && has(&recent, 4));
        recent.keep(recorded(5, 3_000));
        assert!(has(&recent, 2) && !has(&recent, 5), "too large to be kept");
        recent.keep(recorded(6, 2_400));
        assert!(!has(&recent, 4) && has(&recent, 6));
        let none = Recent::new(0);
        none.keep(recorded(1, 0));
        assert!(!has(&none, 1));
    }
}
