//! What has been done and what is under way: the sum of the action log.
//!
//! Every change goes through [`Ledger::apply`] on a record, while the program runs and when it
//! reads its log again, so that both lead to the same ledger. A record that cannot follow those
//! before it is an error: an action is planned once, ends once, and there is one under way for each
//! VM.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::action::{Change, Phase, Plan, Record, SCHEMA};
use crate::azure::{Operation, ResourceId};

/// The most moments of actions that are remembered; guardrails look back an interval.
const MAX_REMEMBERED: usize = 100_000;

/// An action that has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// Its number.
    pub action: u64,
    /// What it is to do.
    pub plan: Plan,
    /// When it was planned.
    pub planned_at: Timestamp,
    /// Where it is in its life.
    pub phase: Phase,
    /// Where its progress can be read.
    pub operation: Option<Operation>,
}

/// The last action on a VM that ended, or was begun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Past {
    /// What it was to do.
    pub change: Change,
    /// When it was planned.
    pub planned_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// How many actions have failed in a row.
    pub failures: u32,
}

/// The sum of the action log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger {
    records: u64,
    actions: u64,
    open: BTreeMap<ResourceId, Open>,
    past: BTreeMap<ResourceId, Past>,
    /// When VMs were acted upon, one entry for each VM that an action changes.
    touched: VecDeque<Timestamp>,
}

/// Why a record cannot follow those before it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// The version is not known.
    #[error("schema: this program reads version {SCHEMA}, found {0}")]
    Schema(u32),
    /// Records are missing or repeated.
    #[error("seq: expected {expected}, found {found}")]
    Order {
        /// The number due.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// The action cannot be in this phase.
    #[error("action {action}: phase {phase:?}: {problem}")]
    Phase {
        /// The action.
        action: u64,
        /// The phase.
        phase: Phase,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Ledger {
    /// Number of the next record.
    #[must_use]
    pub fn next_record(&self) -> u64 {
        self.records + 1
    }

    /// Number of the next action.
    #[must_use]
    pub fn next_action(&self) -> u64 {
        self.actions + 1
    }

    /// The actions under way, by what they act upon.
    #[must_use]
    pub fn open(&self) -> &BTreeMap<ResourceId, Open> {
        &self.open
    }

    /// The action under way on `target`.
    #[must_use]
    pub fn open_on(&self, target: &ResourceId) -> Option<&Open> {
        self.open.get(target)
    }

    /// The last action on `target` that ended.
    #[must_use]
    pub fn past_of(&self, target: &ResourceId) -> Option<&Past> {
        self.past.get(target)
    }

    /// When `target` was last acted upon.
    #[must_use]
    pub fn last_touch(&self, target: &ResourceId) -> Option<Timestamp> {
        let open = self.open.get(target).map(|o| o.planned_at);
        open.max(self.past.get(target).map(|p| p.planned_at))
    }

    /// How many VMs were acted upon after `since`.
    #[must_use]
    pub fn touched_since(&self, since: Timestamp) -> usize {
        self.touched
            .iter()
            .rev()
            .take_while(|at| **at > since)
            .count()
    }

    /// Forgets what guardrails that look back `span` do not need.
    pub fn forget(&mut self, now: Timestamp, span: SignedDuration) {
        let since = now.checked_sub(span).unwrap_or(Timestamp::MIN);
        while self.touched.front().is_some_and(|at| *at <= since) {
            self.touched.pop_front();
        }
    }

    /// Takes a record in.
    ///
    /// # Errors
    ///
    /// If it cannot follow those before it; the ledger is as it was.
    pub fn apply(&mut self, record: &Record) -> Result<(), LedgerError> {
        if record.schema != SCHEMA {
            return Err(LedgerError::Schema(record.schema));
        }
        if record.seq != self.next_record() {
            return Err(LedgerError::Order {
                expected: self.next_record(),
                found: record.seq,
            });
        }
        match record.phase {
            Phase::Planned => self.plan(record)?,
            Phase::Submitted | Phase::Unknown => self.submit(record)?,
            Phase::Succeeded | Phase::Failed => self.end(record)?,
        }
        self.records += 1;
        Ok(())
    }

    fn plan(&mut self, record: &Record) -> Result<(), LedgerError> {
        let Some(plan) = &record.plan else {
            return Err(wrong(record, "there is no plan"));
        };
        if record.action != self.next_action() {
            return Err(wrong(record, "actions are numbered one after another"));
        }
        if self.open.contains_key(&plan.target) {
            return Err(wrong(record, "another action on the same VM is under way"));
        }
        let open = Open {
            action: record.action,
            plan: plan.clone(),
            planned_at: record.at,
            phase: Phase::Planned,
            operation: None,
        };
        self.open.insert(plan.target.clone(), open);
        self.actions += 1;
        for _ in 0..plan.change.vms().unsigned_abs().max(1) {
            if self.touched.len() == MAX_REMEMBERED {
                self.touched.pop_front();
            }
            self.touched.push_back(record.at);
        }
        Ok(())
    }

    fn open_action(&mut self, record: &Record) -> Result<&mut Open, LedgerError> {
        if record.plan.is_some() {
            return Err(wrong(record, "a plan comes with \"planned\" only"));
        }
        let open = self.open.values_mut().find(|o| o.action == record.action);
        open.ok_or_else(|| wrong(record, "no such action is under way"))
    }

    fn submit(&mut self, record: &Record) -> Result<(), LedgerError> {
        let open = self.open_action(record)?;
        if open.phase != Phase::Planned {
            return Err(wrong(record, "it was submitted before"));
        }
        open.phase = record.phase;
        open.operation.clone_from(&record.operation);
        Ok(())
    }

    fn end(&mut self, record: &Record) -> Result<(), LedgerError> {
        let open = self.open_action(record)?;
        let (target, change, planned_at) =
            (open.plan.target.clone(), open.plan.change, open.planned_at);
        self.open.remove(&target);
        let succeeded = record.phase == Phase::Succeeded;
        let before = self.past.get(&target).map_or(0, |p| p.failures);
        let past = Past {
            change,
            planned_at,
            ended_at: record.at,
            succeeded,
            failures: if succeeded {
                0
            } else {
                before.saturating_add(1)
            },
        };
        self.past.insert(target, past);
        Ok(())
    }
}

fn wrong(record: &Record, problem: &'static str) -> LedgerError {
    LedgerError::Phase {
        action: record.action,
        phase: record.phase,
        problem,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn plan(target: &str, change: Change) -> Plan {
        let target =
            ResourceId::compute("s", "g", "virtualMachines", target).expect("a resource id");
        Plan {
            name: target.name().into(),
            target,
            change,
            reason: "a test".into(),
            decided_by: "a test".into(),
            holder: "a test".into(),
            interval: 1,
            price_change_usd_per_hour: 0.1,
            expected_gain_s: None,
        }
    }

    fn record(seq: u64, action: u64, phase: Phase, plan: Option<Plan>) -> Record {
        Record {
            schema: SCHEMA,
            seq,
            at: Timestamp::from_second(i64::try_from(seq).expect("small")).expect("a time"),
            action,
            phase,
            plan,
            operation: None,
            detail: None,
        }
    }

    #[test]
    fn an_action_is_planned_once_and_ends_once() {
        let mut ledger = Ledger::default();
        let start = || Some(plan("a", Change::Start));
        ledger
            .apply(&record(1, 1, Phase::Planned, start()))
            .expect("planned");
        let again = ledger.apply(&record(2, 2, Phase::Planned, start()));
        assert!(again.is_err(), "one under way for each VM");
        let gap = ledger.apply(&record(3, 1, Phase::Submitted, None));
        assert_eq!(
            gap,
            Err(LedgerError::Order {
                expected: 2,
                found: 3
            })
        );
        ledger
            .apply(&record(2, 1, Phase::Submitted, None))
            .expect("submitted");
        assert!(ledger.apply(&record(3, 1, Phase::Unknown, None)).is_err());
        ledger
            .apply(&record(3, 1, Phase::Failed, None))
            .expect("ended");
        assert!(ledger.apply(&record(4, 1, Phase::Succeeded, None)).is_err());
        let past = ledger
            .past_of(&plan("a", Change::Start).target)
            .expect("it is remembered");
        assert_eq!((past.succeeded, past.failures), (false, 1));
        assert!(ledger.open().is_empty());
    }

    #[test]
    fn what_was_touched_is_counted_and_forgotten() {
        let mut ledger = Ledger::default();
        let capacity = Change::Capacity { from: 1, to: 4 };
        ledger
            .apply(&record(1, 1, Phase::Planned, Some(plan("set", capacity))))
            .expect("planned");
        let at = |s| Timestamp::from_second(s).expect("a time");
        assert_eq!(ledger.touched_since(at(0)), 3);
        assert_eq!(ledger.touched_since(at(1)), 0);
        ledger.forget(at(100), SignedDuration::from_secs(10));
        assert_eq!(ledger.touched_since(at(0)), 0);
    }
}
