//! The live fleet in the log: its inputs, its decisions, checkpoints, and how it comes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use twin::World;
use twin::decision_log::{
    Checkpoint, DecisionId, ENTRY_SCHEMA, Entry, Input, Json, Kind, LogError, NewDecision, Reader,
};

use super::{DecisionLog, KeepError, LogMetrics};
use crate::fleet::{self, FleetInput, FleetLog, LiveFleet, Taken};

/// Inputs since the last checkpoint from which on another one is written.
const CHECKPOINT_INPUTS: u64 = 1000;

/// Keeps what the fleet accepts in the log.
pub(crate) struct Records<'a> {
    /// The log.
    pub(crate) log: &'a DecisionLog,
    /// Where records are counted.
    pub(crate) metrics: &'a LogMetrics,
    /// Who asks.
    pub(crate) client: Option<&'a str>,
}

impl FleetLog for Records<'_> {
    fn input(&self, input: &FleetInput) -> Result<u64, fleet::LogError> {
        let Some(kept) = &self.log.kept else {
            return Ok(0);
        };
        let text = serde_json::value::to_raw_value(input).map_err(|error| refused(&error))?;
        let input_of = Input {
            schema: ENTRY_SCHEMA,
            client: self.client.map(Into::into),
            input: &text,
        };
        let (kind, entry) = match input {
            FleetInput::Put(_) => (Kind::Fleet, Entry::Fleet(input_of)),
            _ => (Kind::Telemetry, Entry::Telemetry(input_of)),
        };
        let appended = kept.store.append(&entry);
        match &appended {
            Ok(_) => {
                self.metrics.appended(kind, 1);
                kept.inputs.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => self.metrics.failed(error),
        }
        appended.map_err(|error| refused(&error))
    }

    fn decision(&self, taken: &Taken<'_>) -> Result<DecisionId, fleet::LogError> {
        let decision = NewDecision {
            policy: taken.policy,
            model_sha256: taken.answer.model_sha256.as_deref(),
            client: self.client,
            request: Json::parsed(taken.request),
            stateful: Some((taken.after > 0).then_some(taken.after)),
            response: Json::parsed(&taken.answer.body),
        };
        let id = self.log.decision(&decision, self.metrics);
        id.map_err(|error| refused(&error))
    }
}

fn refused(error: &impl std::fmt::Display) -> fleet::LogError {
    fleet::LogError(error.to_string())
}

impl DecisionLog {
    /// The fleet as the log has it at its end, if it has one that can be rebuilt.
    #[must_use]
    pub fn fleet(&self, world: &Arc<World>) -> Option<LiveFleet> {
        let store = self.store()?;
        let status = store.status();
        match fleet_at(store.folder(), status.anchor?, status.next, world) {
            Ok(fleet) => {
                tracing::info!("the fleet is known from the log");
                Some(fleet)
            }
            Err(error) => {
                tracing::error!(%error, "the fleet cannot be rebuilt: send it again with PUT /v1/fleet");
                None
            }
        }
    }

    /// Whether enough has come in since the last checkpoint for another one.
    pub(crate) fn wants_checkpoint(&self, at_the_end: bool) -> bool {
        let least = if at_the_end { 1 } else { CHECKPOINT_INPUTS };
        let kept = self.kept.as_ref();
        kept.is_some_and(|kept| kept.inputs.load(Ordering::Relaxed) >= least)
    }

    /// Writes the whole of `fleet`, which nothing changes meanwhile, so that inputs before it are
    /// not needed any more.
    ///
    /// # Errors
    ///
    /// As [`twin::decision_log::Log::append`], and if no log is kept.
    pub(crate) fn checkpoint(
        &self,
        fleet: &LiveFleet,
        metrics: &LogMetrics,
    ) -> Result<(), KeepError> {
        let kept = self.kept.as_ref().ok_or(KeepError::NoLog)?;
        let snapshot = fleet.checkpoint();
        let checkpoint = Checkpoint {
            through: kept.store.status().next.saturating_sub(1),
            snapshot: &snapshot,
        };
        let appended = kept.store.append(&Entry::Checkpoint(checkpoint));
        if let Err(error) = &appended {
            metrics.failed(error);
        }
        appended?;
        metrics.appended(Kind::Checkpoint, 1);
        kept.inputs.store(0, Ordering::Relaxed);
        Ok(())
    }
}

/// The fleet as it was before the record `until`, from the whole state in the record `anchor`.
pub(super) fn fleet_at(
    folder: &std::path::Path,
    anchor: u64,
    until: u64,
    world: &Arc<World>,
) -> Result<LiveFleet, LogError> {
    let unreadable = |sequence: u64, problem: String| LogError::Entry { sequence, problem };
    let mut reader = Reader::open(folder, anchor)?;
    let mut fleet: Option<LiveFleet> = None;
    while let Some(record) = reader.next_record()? {
        let sequence = record.sequence;
        if sequence >= until {
            break;
        }
        if !matches!(
            record.kind(),
            Some(Kind::Fleet | Kind::Telemetry | Kind::Checkpoint)
        ) {
            continue;
        }
        match record.entry()? {
            Entry::Checkpoint(checkpoint) if fleet.is_none() => {
                let restored = LiveFleet::restore(world, checkpoint.snapshot);
                fleet = Some(restored.map_err(|error| unreadable(sequence, error.to_string()))?);
            }
            Entry::Fleet(input) | Entry::Telemetry(input) => {
                let read = serde_json::from_str::<FleetInput>(input.input.get());
                let input = read.map_err(|error| unreadable(sequence, error.to_string()))?;
                let taken = match (&mut fleet, &input) {
                    (Some(fleet), input) => fleet.accept(input).map(|_| ()),
                    (None, FleetInput::Put(view)) => {
                        LiveFleet::put(world, view).map(|put| fleet = Some(put))
                    }
                    (None, _) => continue,
                };
                taken.map_err(|error| unreadable(sequence, error.to_string()))?;
            }
            _ => {}
        }
    }
    fleet.ok_or_else(|| unreadable(anchor, "there is no whole state".into()))
}
