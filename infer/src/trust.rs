//! What the service needs to be trusted with decisions, in one place: the policies that it holds,
//! the decisions of late, the comparison with the candidate, and the watch over inputs.

mod metrics;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use twin::decision_log::DecisionId;
use twin::world::World;

pub(crate) use metrics::TrustMetrics;

use crate::decider::{Answer, Decider};
use crate::range::Search;
use crate::recent::{DecisionSource, RECENT_BYTES, Recent, Recorded, Situation};
use crate::registry::{Entry, Places, Registry, Serving};
use crate::shadow::Shadow;
use crate::source::Source;

/// What an operator may choose.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder under which models may be loaded; none may without.
    pub models: Option<PathBuf>,
    /// The file that keeps the choice of policies over a restart.
    pub state: Option<PathBuf>,
    /// Bytes of decisions that are kept to be explained.
    pub recent_bytes: usize,
    /// When search takes the place of a model; never without.
    pub search: Option<Search>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            models: None,
            state: None,
            recent_bytes: RECENT_BYTES,
            search: Some(Search::default()),
        }
    }
}

/// What the service shares of all this.
pub struct Trust {
    /// The policies.
    pub registry: Arc<Registry>,
    /// The next decision's ticket.
    next: AtomicU64,
    /// The decisions of late.
    pub recent: Arc<Recent>,
    /// Where older decisions are looked up, in this order.
    pub older: Vec<Box<dyn DecisionSource>>,
    /// The comparison with the candidate.
    pub shadow: Shadow,
    /// When search takes the place of a model.
    pub search: Option<Search>,
}

/// A decision that is being taken.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Its number among those of this process, which says whether the candidate takes it and
    /// whether it is compared.
    number: u64,
    /// The policies as they are for it.
    serving: Arc<Serving>,
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trust")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// For a service that decides for `world` with deciders like `first`, which were made from
    /// `source` where that is known.
    #[must_use]
    pub fn new(
        world: &Arc<World>,
        first: &Decider,
        source: Option<&Source>,
        options: &Options,
    ) -> Self {
        let given = match source {
            Some(source) => Entry::given_from(source, world),
            None => Entry::given(first.policy(), first.model_sha256().cloned()),
        };
        let places = Places {
            models: options.models.clone(),
            state: options.state.clone(),
        };
        let registry = Arc::new(Registry::new(world, given, places));
        Self {
            shadow: Shadow::start(world, &registry),
            registry,
            next: AtomicU64::new(0),
            recent: Arc::new(Recent::new(options.recent_bytes)),
            older: Vec::new(),
            search: options.search,
        }
    }

    /// Prepares `decider` for the next decision: who takes it.
    pub fn begin(&self, decider: &mut Decider) -> Turn {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let serving = self.registry.serving();
        decider.search_when_outside(self.search);
        decider.follow(&serving, serving.role(number));
        Turn { number, serving }
    }

    /// Keeps the decision `id`, which was taken in `turn` on `situation`, and has it compared where
    /// that is due.
    pub fn keep(&self, id: DecisionId, turn: &Turn, situation: Situation, answer: &Answer) {
        let serving = &turn.serving;
        let recorded = Arc::new(Recorded {
            id,
            situation,
            decision: answer.decision.clone(),
            policy: answer.policy.clone(),
            model_sha256: answer.model_sha256.clone(),
            role: answer.role,
            generation: serving.generation,
            fallback: answer.fallback.as_ref().map(ToString::to_string),
            searched: answer.searched,
        });
        if serving.is_compared(turn.number) {
            self.shadow.offer(Arc::clone(&recorded));
        }
        self.recent.keep(recorded);
    }

    /// The decision called `id`, from wherever it is known.
    ///
    /// # Errors
    ///
    /// Why a source cannot be read, in words.
    pub fn find(&self, id: DecisionId) -> Result<Option<Arc<Recorded>>, String> {
        if let Some(found) = self.recent.find(id)? {
            return Ok(Some(found));
        }
        for source in &self.older {
            if let Some(found) = source.find(id)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
