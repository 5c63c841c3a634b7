//! The decisions of a log with what each was taken on.
//!
//! A stateless decision has its state with it. A stateful one was taken on the live twin, which is
//! rebuilt here from the last whole state before it and the inputs since, as the service does when
//! it starts: what is kept of a decision is enough to take it again. Where inputs are missing, since
//! they are damaged or removed, the twin is not known from there to the next whole state, and
//! decisions between are told apart rather than made up.
//!
//! Left out: what came of the decisions ([`super::Rows`] tells outcomes).

use std::ops::Range;
use std::path::Path;

use thiserror::Error;

use super::anchors::anchor_before;
use super::entry::{Decision, Entry, Kind, Mode};
use super::error::LogError;
use super::frame::WorldHash;
use super::id::DecisionId;
use super::reader::{Reader, Record};
use super::recover::JUMP;
use crate::decision;
use crate::live::{FleetInput, Live};
use crate::observation::FleetView;
use crate::state::Epoch;
use crate::wire::{self, DecisionRequest, DecisionResponse, FleetDecisionRequest};
use crate::world::World;

/// A decision, and what it was taken on.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    /// The decision's id.
    pub id: DecisionId,
    /// When it was answered, in ns since 1970, by the wall clock.
    pub at_ns: u64,
    /// The policy that was asked.
    pub asked_policy: String,
    /// SHA-256 of its weights in hexadecimal, where it is a model.
    pub model_sha256: Option<String>,
    /// Whether the candidate was asked in place of the policy that is active.
    pub candidate: bool,
    /// The policy that decided; `None` where nobody did.
    pub policy: Option<String>,
    /// Why the asked policy's own decision was not taken, where it was not.
    pub fallback_reason: Option<String>,
    /// Whether search took it, since the state was unlike those of the model's training.
    pub searched: bool,
    /// What was observed.
    pub view: FleetView,
    /// What was decided, without what an earlier decision had done already and was answered again.
    pub decision: decision::Decision,
}

/// Why a decision has no situation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoSituation {
    /// It was taken in another world.
    #[error("decision {id} is about another world{}", told(world.as_ref()))]
    OtherWorld {
        /// The decision.
        id: DecisionId,
        /// SHA-256 of that world in hexadecimal, where it is known.
        world: Option<String>,
    },
    /// The live twin that it was taken on is not known.
    #[error("decision {id}: the log does not hold the fleet that it was taken on: {reason}")]
    NoFleet {
        /// The decision.
        id: DecisionId,
        /// Why not.
        reason: String,
    },
    /// It is not of the schema, or contradicts the world.
    #[error("decision {id}: {problem}")]
    Unreadable {
        /// The decision.
        id: DecisionId,
        /// What is wrong.
        problem: String,
    },
}

fn told(world: Option<&String>) -> String {
    world.map_or_else(String::new, |world| format!(", {world}"))
}

impl NoSituation {
    /// The decision.
    #[must_use]
    pub fn id(&self) -> DecisionId {
        match self {
            Self::OtherWorld { id, .. }
            | Self::NoFleet { id, .. }
            | Self::Unreadable { id, .. } => *id,
        }
    }
}

/// Goes through the decisions of a log in its order.
#[derive(Debug)]
pub struct Situations<'w> {
    reader: Reader,
    ids: Range<u64>,
    most_bytes: u64,
    fleet: Fleet<'w>,
}

/// The live twin up to where the log was read.
#[derive(Debug)]
struct Fleet<'w> {
    world: &'w World,
    hash: Option<WorldHash>,
    /// The twin, or why it is not known.
    live: Result<Live, String>,
    /// The last record that was read.
    last: Option<u64>,
}

impl<'w> Situations<'w> {
    /// Goes through the decisions about `world` with ids in `ids`. Reads from the last whole state
    /// before them on.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn open(folder: &Path, ids: Range<u64>, world: &'w World) -> Result<Self, LogError> {
        let anchor = anchor_before(folder, ids.start)?;
        Ok(Self {
            reader: Reader::open(folder, anchor.unwrap_or(ids.start))?,
            ids,
            most_bytes: u64::MAX,
            fleet: Fleet::unknown(world),
        })
    }

    /// Gives up after about `bytes` of records: the fleet counts as unknown then.
    #[must_use]
    pub fn reading_at_most(mut self, bytes: u64) -> Self {
        self.most_bytes = bytes;
        self
    }

    /// The next decision that `wanted` says is wanted, by its id and why it was due; `None` at the
    /// end of what is written.
    ///
    /// A decision without a situation is told whether wanted or not, and the others follow.
    ///
    /// # Errors
    ///
    /// If a segment cannot be read or is of another version.
    pub fn next_situation(
        &mut self,
        mut wanted: impl FnMut(DecisionId, Epoch) -> bool,
    ) -> Result<Option<Result<Situation, NoSituation>>, LogError> {
        let mut read = self.reader.bytes();
        while self.reader.next_sequence() < self.ids.end {
            let Some(record) = self.reader.next_record()? else {
                break;
            };
            if record.sequence >= self.ids.end {
                break;
            }
            read += record.payload.len() as u64;
            if read > self.most_bytes {
                let id = DecisionId(record.sequence.max(self.ids.start));
                let bytes = self.most_bytes;
                let reason = format!("it was last written whole more than {bytes} bytes before");
                self.ids.end = 0;
                return Ok(Some(Err(NoSituation::NoFleet { id, reason })));
            }
            self.fleet.follow(&record);
            let decides = record.kind() == Some(Kind::Decision);
            if !decides || record.sequence < self.ids.start {
                continue;
            }
            if let Some(found) = self.fleet.situation(&record, &mut wanted).transpose() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The reader, which tells of damage.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

impl<'w> Fleet<'w> {
    fn unknown(world: &'w World) -> Self {
        let mut hash: WorldHash = [0; 32];
        let known = hex::decode_to_slice(&world.hash, &mut hash).is_ok();
        Self {
            world,
            hash: known.then_some(hash),
            live: Err("there is no whole state before it".into()),
            last: None,
        }
    }

    /// Takes in what `record` says about the fleet.
    fn follow(&mut self, record: &Record<'_>) {
        let expected = self.last.map(|last| last.saturating_add(1));
        self.last = Some(record.sequence);
        let missing = expected.map_or(0, |expected| record.sequence.saturating_sub(expected));
        // Numbers that were jumped over at a start had no records.
        if !missing.is_multiple_of(JUMP) {
            let before = record.sequence;
            self.live = Err(format!("records before {before} are missing"));
        }
        let of_fleet = record
            .kind()
            .is_some_and(|kind| matches!(kind, Kind::Fleet | Kind::Telemetry | Kind::Checkpoint));
        if of_fleet && let Err(problem) = self.take_in(record) {
            self.live = Err(format!("record {}: {problem}", record.sequence));
        }
    }

    fn take_in(&mut self, record: &Record<'_>) -> Result<(), String> {
        if !self.is_mine(record) {
            return Err("it is about another world".into());
        }
        let entry = record.entry().map_err(|error| error.to_string())?;
        match entry {
            Entry::Checkpoint(checkpoint) if self.live.is_err() => {
                let restored = Live::decode(self.world, checkpoint.snapshot);
                self.live = Ok(restored.map_err(|error| error.to_string())?);
            }
            Entry::Fleet(input) | Entry::Telemetry(input) => {
                let input: FleetInput =
                    serde_json::from_str(input.input.get()).map_err(|error| error.to_string())?;
                let taken = match (&mut self.live, &input) {
                    (live, FleetInput::Put(view)) => Live::new(self.world, view)
                        .map(|put| *live = Ok(put))
                        .map_err(Into::into),
                    (Ok(live), input) => live.accept(self.world, input).map(drop),
                    // It stays unknown, for the reason that is known.
                    (Err(_), _) => Ok(()),
                };
                taken.map_err(|error: crate::live::InputError| error.to_string())?;
            }
            _ => {}
        }
        Ok(())
    }

    fn is_mine(&self, record: &Record<'_>) -> bool {
        record.world.is_some() && record.world == self.hash
    }

    /// What the decision in `record` was taken on, if it is wanted.
    fn situation(
        &self,
        record: &Record<'_>,
        wanted: &mut dyn FnMut(DecisionId, Epoch) -> bool,
    ) -> Result<Option<Situation>, NoSituation> {
        let id = DecisionId(record.sequence);
        if !self.is_mine(record) {
            let world = record.world.map(hex::encode);
            return Err(NoSituation::OtherWorld { id, world });
        }
        let unreadable = |problem: String| NoSituation::Unreadable { id, problem };
        let entry = record
            .entry()
            .map_err(|error| unreadable(error.to_string()))?;
        let Entry::Decision(entry) = entry else {
            return Ok(None);
        };
        let view = match &entry.mode {
            Mode::Stateless { request } => {
                stateless(self.world, request.get(), |epoch| wanted(id, epoch))
                    .map_err(|error| unreadable(error.to_string()))?
            }
            Mode::Stateful { requests, .. } => {
                let asked = FleetDecisionRequest::from_json(requests.get().as_bytes());
                let epoch = asked
                    .map_err(|error| unreadable(error.to_string()))?
                    .epoch();
                let live = self.live.as_ref().map_err(|reason| {
                    let reason = reason.clone();
                    NoSituation::NoFleet { id, reason }
                })?;
                wanted(id, epoch).then(|| live.observation(self.world, epoch).view())
            }
        };
        view.map(|view| Situation::new(self.world, record, &entry, view))
            .transpose()
            .map_err(|error| unreadable(error.to_string()))
    }
}

/// The view in the body of a request with a state, if it is wanted.
fn stateless(
    world: &World,
    request: &str,
    wanted: impl FnOnce(Epoch) -> bool,
) -> Result<Option<FleetView>, wire::WireError> {
    let request = DecisionRequest::from_json(request.as_bytes())?;
    let epoch = request.state.epoch.into();
    wanted(epoch).then(|| request.to_view(world)).transpose()
}

impl Situation {
    /// The decision in `record` about `world`, if it has its state with it; `None` if it has not, or
    /// the record is no decision.
    ///
    /// # Errors
    ///
    /// If it is about another world or not of the schema.
    pub fn with_state(world: &World, record: &Record<'_>) -> Result<Option<Self>, NoSituation> {
        match Fleet::unknown(world).situation(record, &mut |_, _| true) {
            Err(NoSituation::NoFleet { .. }) => Ok(None),
            other => other,
        }
    }

    fn new(
        world: &World,
        record: &Record<'_>,
        entry: &Decision<'_>,
        view: FleetView,
    ) -> Result<Self, wire::WireError> {
        let mut response = DecisionResponse::from_json(entry.response.get().as_bytes())?;
        // A client that asked again was told again how its requests had been deployed.
        response.decision.deployments.retain(|d| {
            let place = view.requests.binary_search_by_key(&d.request, |r| r.id.0);
            place.map_or(true, |place| view.requests[place].deployed.is_none())
        });
        let mut decision = decision::Decision::none();
        response.decision.to_decision(world, &view, &mut decision)?;
        let nobody = response.fallback && response.policy == "none";
        Ok(Self {
            id: DecisionId(record.sequence),
            at_ns: record.at_ns,
            asked_policy: entry.policy.as_ref().into(),
            model_sha256: entry.model_sha256.as_deref().map(Into::into),
            candidate: entry.candidate,
            policy: (!nobody).then(|| response.policy.as_ref().into()),
            fallback_reason: response.fallback_reason.map(Into::into),
            searched: response.input_range.is_some_and(|range| range.searched),
            view,
            decision,
        })
    }
}
