//! Decisions that are explained from the log, once they are not among those of late any more.
//!
//! A decision's id is the number of its record, so it is looked up by the index of its segment; the
//! state of a stateful one is rebuilt from the last whole state of the fleet before it
//! ([`twin::decision_log::Situations`]), which reads on from there and no further.

use std::sync::Arc;

use twin::World;
use twin::checker;
use twin::decision_log::{DecisionId, Kind, Log, NoSituation, Situation, Situations};
use twin::observation::Observation;
use twin::state::State;

use crate::recent::{self, DecisionSource, LookupError, Recorded};
use crate::registry::Role;

/// Bytes of the log that are read to rebuild the fleet for one explanation.
const LOOK_BACK_BYTES: u64 = 256 << 20;

/// The decisions of a log.
#[derive(Debug)]
pub(crate) struct Older {
    store: Arc<Log>,
    world: Arc<World>,
}

impl Older {
    /// Those about `world` in `store`.
    pub(crate) fn new(store: &Arc<Log>, world: &Arc<World>) -> Self {
        Self {
            store: Arc::clone(store),
            world: Arc::clone(world),
        }
    }

    /// `situation` as it was recorded when it was new.
    ///
    /// # Errors
    ///
    /// If the decision could not have been taken on it: an explanation would be made up.
    fn recorded(&self, situation: Situation) -> Result<Recorded, LookupError> {
        let Situation { id, view, .. } = &situation;
        let odd = |problem: String| LookupError::Unreadable(format!("decision {id}: {problem}"));
        let state = State::from_view(&self.world, view).map_err(|e| odd(e.to_string()))?;
        let observation = Observation::new(&self.world, &state, view.epoch);
        checker::check(&observation, &situation.decision).map_err(|e| odd(e.to_string()))?;
        Ok(Recorded {
            id: situation.id,
            decision: situation.decision,
            policy: situation.policy,
            model_sha256: situation.model_sha256.map(Into::into),
            role: match situation.candidate {
                true => Role::Candidate,
                false => Role::Active,
            },
            generation: None,
            fallback: situation.fallback_reason,
            searched: situation.searched,
            situation: recent::Situation::View(Arc::new(situation.view)),
        })
    }

    /// The stateful decision `id`, with the fleet as it was.
    fn on_the_fleet(&self, id: DecisionId) -> Result<Option<Situation>, LookupError> {
        let ids = id.0..id.0.saturating_add(1);
        let found = Situations::open(self.store.folder(), ids, &self.world)
            .map(|situations| situations.reading_at_most(LOOK_BACK_BYTES))
            .and_then(|mut situations| situations.next_situation(|_, _| true));
        match found {
            Ok(found) => found.transpose().map_err(Into::into),
            Err(error) => Err(LookupError::Unreadable(error.to_string())),
        }
    }
}

impl From<NoSituation> for LookupError {
    fn from(error: NoSituation) -> Self {
        match error {
            NoSituation::OtherWorld { .. } | NoSituation::NoFleet { .. } => {
                Self::StateGone(error.to_string())
            }
            _ => Self::Unreadable(error.to_string()),
        }
    }
}

impl DecisionSource for Older {
    fn find(&self, id: DecisionId) -> Result<Option<Arc<Recorded>>, LookupError> {
        let record = self.store.get(id.0);
        let record = record.map_err(|error| LookupError::Unreadable(error.to_string()))?;
        let Some(record) = record else {
            return Ok(None);
        };
        let record = record.as_record();
        if record.kind() != Some(Kind::Decision) {
            return Ok(None);
        }
        let situation = match Situation::with_state(&self.world, &record)? {
            Some(situation) => Some(situation),
            // `None` also if its segment was removed meanwhile.
            None => self.on_the_fleet(id)?,
        };
        situation
            .map(|found| self.recorded(found).map(Arc::new))
            .transpose()
    }
}
