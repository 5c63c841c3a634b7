//! Operations in flight: what was asked for, how far it is, and what came of it.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;
use twin::units::SimTime;

use super::answer::Denial;
use super::machine::MachineKey;

/// Operations that have ended and are still told about; the oldest go first.
const MOST_ENDED: usize = 10_000;

/// Names an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OperationId(pub(super) u64);

impl std::fmt::Display for OperationId {
    /// In the form of a UUID, as Azure names them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "0000f1ee-0000-4000-8000-{:012x}",
            self.0 & 0xffff_ffff_ffff
        )
    }
}

impl OperationId {
    /// Reads the name of an operation.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = text.strip_prefix("0000f1ee-0000-4000-8000-")?;
        let id = Self(u64::from_str_radix(number, 16).ok()?);
        (number.len() == 12 && id.to_string() == text).then_some(id)
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start,
    Deallocate,
    PowerOff,
    Restart,
    Create,
    Update,
    Delete,
    RunCommand,
    /// Changes the capacity of a scale set, or acts on several of its instances.
    Group,
}

impl Action {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Deallocate => "deallocate",
            Self::PowerOff => "power-off",
            Self::Restart => "restart",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::RunCommand => "run-command",
            Self::Group => "scale",
        }
    }
}

/// How far an operation is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stage {
    /// Does nothing until then.
    Delayed(SimTime),
    /// Has acted; waits for the host to be where it should be.
    Acted,
    /// A restart whose host was turned on again.
    TurnedOn,
    /// Done, and does not tell until then.
    Silent(SimTime),
    /// Waits for other operations.
    Members(Vec<OperationId>),
    /// Has ended.
    Ended {
        /// When.
        at: SimTime,
        /// What came of it.
        outcome: Result<(), Denial>,
    },
}

/// An operation.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub(super) id: OperationId,
    pub(super) action: Action,
    /// What it is about; `None` for a group.
    pub(super) machine: Option<MachineKey>,
    pub(super) location: String,
    pub(super) started: SimTime,
    pub(super) stage: Stage,
    /// Not to be told as ended before this time.
    pub(super) silent_until: Option<SimTime>,
    /// Entry of the journal.
    pub(super) entry: Option<u64>,
    /// What a command printed.
    pub(super) output: Option<Value>,
}

impl Operation {
    /// What came of it, and when, if it has ended.
    pub(super) fn ended(&self) -> Option<(SimTime, &Result<(), Denial>)> {
        match &self.stage {
            Stage::Ended { at, outcome } => Some((*at, outcome)),
            _ => None,
        }
    }
}

/// All operations.
#[derive(Debug, Default)]
pub(super) struct Operations {
    begun: u64,
    all: BTreeMap<OperationId, Operation>,
    /// Those that have not ended.
    open: Vec<OperationId>,
    ended: VecDeque<OperationId>,
}

impl Operations {
    /// Begins an operation.
    pub(super) fn begin(
        &mut self,
        action: Action,
        machine: Option<MachineKey>,
        location: &str,
        (now, stage): (SimTime, Stage),
    ) -> OperationId {
        self.begun += 1;
        let id = OperationId(self.begun);
        let operation = Operation {
            id,
            action,
            machine,
            location: location.into(),
            started: now,
            stage,
            silent_until: None,
            entry: None,
            output: None,
        };
        self.all.insert(id, operation);
        self.open.push(id);
        id
    }

    pub(super) fn get(&self, id: OperationId) -> Option<&Operation> {
        self.all.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: OperationId) -> Option<&mut Operation> {
        self.all.get_mut(&id)
    }

    /// Those that have not ended, in the order in which they were begun.
    pub(super) fn open(&self) -> &[OperationId] {
        &self.open
    }

    /// Ends an operation, unless it has ended.
    pub(super) fn end(&mut self, id: OperationId, at: SimTime, outcome: Result<(), Denial>) {
        let Some(operation) = self.all.get_mut(&id) else {
            return;
        };
        if operation.ended().is_some() {
            return;
        }
        operation.stage = Stage::Ended { at, outcome };
        self.open.retain(|open| *open != id);
        self.ended.push_back(id);
        while self.ended.len() > MOST_ENDED {
            if let Some(oldest) = self.ended.pop_front() {
                self.all.remove(&oldest);
            }
        }
    }

    /// The next time at which an operation has something to do by itself.
    pub(super) fn next_due(&self) -> SimTime {
        let due = |id: &OperationId| match self.all.get(id)?.stage {
            Stage::Delayed(at) | Stage::Silent(at) => Some(at),
            _ => None,
        };
        let times = self.open.iter().filter_map(due);
        times.min().unwrap_or(SimTime::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let id = OperationId(0x12_34ab);
        assert_eq!(id.to_string(), "0000f1ee-0000-4000-8000-0000001234ab");
        assert_eq!(OperationId::parse(&id.to_string()), Some(id));
        for wrong in [
            "",
            "0000f1ee-0000-4000-8000-",
            "0000f1ee-0000-4000-8000-0000001234AB",
            "0000f1ee-0000-4000-8000-+00000000001",
            "x",
        ] {
            assert_eq!(OperationId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_has_ended_stays_ended_and_is_forgotten_in_time() {
        let mut operations = Operations::default();
        let now = SimTime::ZERO;
        let begin = |operations: &mut Operations| {
            operations.begin(Action::Start, None, "uksouth", (now, Stage::Acted))
        };
        let first = begin(&mut operations);
        operations.end(first, SimTime(5), Ok(()));
        operations.end(first, SimTime(9), Err(Denial::new(500, "Late", "late")));
        let ended = operations.get(first).and_then(|o| o.ended());
        assert_eq!(ended, Some((SimTime(5), &Ok(()))));
        for _ in 0..MOST_ENDED {
            let next = begin(&mut operations);
            operations.end(next, now, Ok(()));
        }
        assert!(operations.get(first).is_none());
        assert!(operations.open().is_empty());
        let delayed = operations.begin(
            Action::Start,
            None,
            "uksouth",
            (now, Stage::Delayed(SimTime(77))),
        );
        assert_eq!(operations.next_due(), SimTime(77));
        assert_eq!(operations.open(), [delayed]);
    }
}
