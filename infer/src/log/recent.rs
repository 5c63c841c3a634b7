//! What is remembered of the log: its last decisions and outcomes.

use std::collections::{BTreeMap, VecDeque};

use twin::decision_log::{DecisionId, Entry, Kind, Log, LogError, Outcome};

/// Decisions that are remembered.
const DECISIONS: usize = 16_384;
/// Outcomes that are remembered.
const OUTCOMES: usize = 16_384;
/// Bytes of the log that are looked through when it is opened.
const LOOK_BACK_BYTES: u64 = 16 << 20;

/// The last decisions and outcomes.
#[derive(Debug, Default)]
pub(super) struct Recent {
    decisions: VecDeque<u64>,
    outcomes: BTreeMap<(u64, u64), Outcome>,
    order: VecDeque<(u64, u64)>,
}

enum Found {
    Decision(DecisionId),
    Outcome(Outcome),
}

impl Recent {
    /// What the last records of `store` tell.
    pub(super) fn read(store: &Log) -> Result<Self, LogError> {
        let limit = DECISIONS + OUTCOMES;
        let page = store.newest(u64::MAX, limit, LOOK_BACK_BYTES, |record| {
            match record.kind()? {
                Kind::Decision => Some(Found::Decision(DecisionId(record.sequence))),
                Kind::Outcome => match record.entry().ok()? {
                    Entry::Outcome(outcome) => Some(Found::Outcome(outcome)),
                    _ => None,
                },
                _ => None,
            }
        })?;
        let mut recent = Self::default();
        for found in page.items.into_iter().rev() {
            match found {
                Found::Decision(id) => recent.decided(id),
                Found::Outcome(outcome) => recent.became(outcome),
            }
        }
        Ok(recent)
    }

    /// Remembers a decision.
    pub(super) fn decided(&mut self, id: DecisionId) {
        if self.decisions.len() == DECISIONS {
            self.decisions.pop_front();
        }
        // Those who append at the same time may come here in another order.
        let after = self.decisions.partition_point(|known| *known < id.0);
        self.decisions.insert(after, id.0);
    }

    /// Remembers an outcome.
    pub(super) fn became(&mut self, outcome: Outcome) {
        let key = (outcome.decision.0, outcome.request);
        if self.outcomes.insert(key, outcome).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > OUTCOMES
            && let Some(oldest) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
    }

    /// Whether the decision is remembered.
    pub(super) fn has_decision(&self, id: DecisionId) -> bool {
        self.decisions.binary_search(&id.0).is_ok()
    }

    /// Whether this very outcome was the last that was told of its request.
    pub(super) fn knows(&self, outcome: &Outcome) -> bool {
        let key = (outcome.decision.0, outcome.request);
        self.outcomes.get(&key) == Some(outcome)
    }

    /// The outcomes of a decision.
    pub(super) fn outcomes_of(&self, id: DecisionId) -> Vec<Outcome> {
        self.outcomes
            .range((id.0, 0)..=(id.0, u64::MAX))
            .map(|(_, outcome)| *outcome)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use twin::decision_log::ENTRY_SCHEMA;

    #[test]
    fn the_last_are_remembered_and_no_more() {
        let outcome = |decision, late| Outcome {
            schema: ENTRY_SCHEMA,
            decision: DecisionId(decision),
            request: 7,
            answered: true,
            response_s: Some(1.0),
            late,
        };
        let mut recent = Recent::default();
        recent.decided(DecisionId(2));
        recent.decided(DecisionId(1));
        for id in 3..=DECISIONS as u64 + 1 {
            recent.decided(DecisionId(id));
        }
        assert!(!recent.has_decision(DecisionId(1)), "the oldest is gone");
        assert!(recent.has_decision(DecisionId(2)));
        for id in 0..=OUTCOMES as u64 {
            recent.became(outcome(id, false));
            recent.became(outcome(id, true));
        }
        assert_eq!(recent.outcomes.len(), OUTCOMES);
        assert!(recent.knows(&outcome(5, true)) && !recent.knows(&outcome(5, false)));
        assert_eq!(recent.outcomes_of(DecisionId(0)), []);
        assert_eq!(recent.outcomes_of(DecisionId(1)), [outcome(1, true)]);
    }
}
