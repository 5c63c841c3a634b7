//! What the service needs to be trusted with decisions, in one place: the policies that it holds,
//! the decisions of late, the comparison with the candidate, and the watch over inputs.

mod args;
mod metrics;

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Bytes;
use twin::world::World;

pub(crate) use args::TrustArgs;
pub(crate) use metrics::TrustMetrics;

use crate::decider::{Answer, Decider};
use crate::range::Search;
use crate::recent::{
    Counter, DecisionId, DecisionSource, IdSource, RECENT_BYTES, Recent, Recorded, Situation,
};
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
    /// Where identifiers come from.
    pub ids: Box<dyn IdSource>,
    /// The decisions of late.
    pub recent: Arc<Recent>,
    /// Where older decisions are looked up, in this order.
    pub older: Vec<Box<dyn DecisionSource>>,
    /// The comparison with the candidate.
    pub shadow: Shadow,
    /// When search takes the place of a model.
    pub search: Option<Search>,
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
            ids: Box::new(Counter::from_clock()),
            recent: Arc::new(Recent::new(options.recent_bytes)),
            older: Vec::new(),
            search: options.search,
        }
    }

    /// Prepares `decider` for the next decision: its number, and who takes it.
    pub fn begin(&self, decider: &mut Decider) -> (DecisionId, Arc<Serving>) {
        let id = self.ids.next();
        let serving = self.registry.serving();
        decider.search_when_outside(self.search);
        decider.follow(&serving, serving.role(id.0));
        (id, serving)
    }

    /// Keeps a decision that was taken on the request `body`, and has it compared where that is
    /// due.
    pub fn keep(&self, (id, serving): (DecisionId, &Serving), body: Bytes, answer: &Answer) {
        let recorded = Arc::new(Recorded {
            id,
            situation: Situation::Request(body),
            decision: answer.decision.clone(),
            policy: answer.policy.clone(),
            model_sha256: answer.model_sha256.clone(),
            role: answer.role,
            generation: serving.generation,
            fallback: answer.fallback.as_ref().map(ToString::to_string),
            searched: answer.searched,
        });
        if serving.is_compared(id.0) {
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
