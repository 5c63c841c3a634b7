//! What records hold: JSON of [`ENTRY_SCHEMA`], unknown fields refused.
//!
//! The sequence number of a record is the id of what it holds, and the record tells when it was
//! written, so that entries repeat neither. Requests, responses and inputs are kept as the very
//! bytes that came and went.

mod parts;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::parts::{Json, NewDecision, with_id};
use super::error::LogError;
use super::id::DecisionId;

/// The version of the entries.
pub const ENTRY_SCHEMA: u32 = 1;

/// Kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Kind {
    /// A decision that was answered.
    Decision,
    /// The whole fleet, as an operator put it.
    Fleet,
    /// What was observed of a fleet since.
    Telemetry,
    /// A snapshot of the live twin.
    Checkpoint,
    /// What became of a request that a decision was about.
    Outcome,
    /// A call that changed the service.
    Audit,
    /// A step of the control loop towards a VM.
    Action,
    /// The log can be written again.
    Resumed,
    /// The log was closed in good order.
    Closed,
}

/// All kinds, with their numbers in records and their names.
pub const KINDS: [(Kind, u16, &str); 9] = [
    (Kind::Decision, 1, "decision"),
    (Kind::Fleet, 2, "fleet"),
    (Kind::Telemetry, 3, "telemetry"),
    (Kind::Checkpoint, 4, "checkpoint"),
    (Kind::Outcome, 5, "outcome"),
    (Kind::Audit, 6, "audit"),
    (Kind::Action, 7, "action"),
    (Kind::Resumed, 8, "resumed"),
    (Kind::Closed, 9, "closed"),
];

impl Kind {
    /// Its number in records.
    #[must_use]
    pub fn number(self) -> u16 {
        KINDS
            .iter()
            .find(|(kind, ..)| *kind == self)
            .map_or(0, |(_, number, _)| *number)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        KINDS
            .iter()
            .find(|(kind, ..)| *kind == self)
            .map_or("unknown", |(.., name)| name)
    }

    /// The kind with `number`.
    #[must_use]
    pub fn numbered(number: u16) -> Option<Self> {
        let found = KINDS.iter().find(|(_, n, _)| *n == number)?;
        Some(found.0)
    }

    /// The kind called `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let found = KINDS.iter().find(|(.., n)| *n == name)?;
        Some(found.0)
    }

    /// Whether the live twin can be rebuilt from an entry of this kind and those after it.
    #[must_use]
    pub fn is_anchor(self) -> bool {
        matches!(self, Self::Fleet | Self::Checkpoint)
    }
}

/// What a record holds.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Entry<'a> {
    /// [`Kind::Decision`].
    Decision(Decision<'a>),
    /// [`Kind::Fleet`].
    Fleet(Input<'a>),
    /// [`Kind::Telemetry`].
    Telemetry(Input<'a>),
    /// [`Kind::Checkpoint`].
    Checkpoint(Checkpoint<'a>),
    /// [`Kind::Outcome`].
    Outcome(Outcome),
    /// [`Kind::Audit`].
    Audit(Audit<'a>),
    /// [`Kind::Action`].
    Action(Action<'a>),
    /// [`Kind::Resumed`].
    Resumed(Resumed),
    /// [`Kind::Closed`].
    Closed(Closed),
}

/// A decision that was answered. Its id is its sequence number.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision<'a> {
    /// [`ENTRY_SCHEMA`].
    pub schema: u32,
    /// The policy that was asked; `response` names the one that decided.
    #[serde(borrow)]
    pub policy: Cow<'a, str>,
    /// SHA-256 of the model's weights in hexadecimal, where the policy is a model.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<Cow<'a, str>>,
    /// Who asked, where that is known.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Cow<'a, str>>,
    /// What was asked.
    #[serde(borrow)]
    pub mode: Mode<'a>,
    /// What was answered: the bytes of the body.
    #[serde(borrow)]
    pub response: &'a RawValue,
}

/// How a decision was asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Mode<'a> {
    /// With the state.
    Stateless {
        /// The bytes of the body.
        #[serde(borrow)]
        request: &'a RawValue,
    },
    /// With what is new; the state is that of the live twin.
    Stateful {
        /// The new requests, as the bytes of the body.
        #[serde(borrow)]
        requests: &'a RawValue,
        /// The last telemetry that the live twin had taken in, by sequence number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        telemetry: Option<u64>,
    },
}

/// What came in about a fleet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input<'a> {
    /// [`ENTRY_SCHEMA`].
    pub schema: u32,
    /// Who sent it, where that is known.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Cow<'a, str>>,
    /// The bytes of the body.
    #[serde(borrow)]
    pub input: &'a RawValue,
}

/// A snapshot of the live twin.
///
/// In a record, a line of JSON goes before the bytes of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint<'a> {
    /// The last record that the snapshot takes into account.
    pub through: u64,
    /// The snapshot ([`crate::snapshot`]).
    pub snapshot: &'a [u8],
}

/// What became of a request that a decision was about.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// [`ENTRY_SCHEMA`].
    pub schema: u32,
    /// The decision.
    pub decision: DecisionId,
    /// Number of the request.
    pub request: u64,
    /// Whether it was answered; a request that failed or was given up was not.
    pub answered: bool,
    /// How long its users waited, where it was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_s: Option<f64>,
    /// Whether its deadline was missed.
    pub late: bool,
}

/// A call that changed the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit<'a> {
    /// [`ENTRY_SCHEMA`].
    pub schema: u32,
    /// Who called, where that is known.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Cow<'a, str>>,
    /// What was called, as `activate-model`.
    #[serde(borrow)]
    pub action: Cow<'a, str>,
    /// With what, in words.
    #[serde(borrow)]
    pub detail: Cow<'a, str>,
}

/// A step of the control loop towards a VM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action<'a> {
    /// [`ENTRY_SCHEMA`].
    pub schema: u32,
    /// Names the action through all its phases.
    #[serde(borrow)]
    pub operation: Cow<'a, str>,
    /// The VM or scale set.
    #[serde(borrow)]
    pub vm: Cow<'a, str>,
    /// What is done, as `start`.
    #[serde(borrow)]
    pub action: Cow<'a, str>,
    /// Why.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    /// What it changes in the cost per hour.
    pub price_usd_per_hour: f64,
    /// How far it is.
    pub phase: Phase,
}

/// How far an action is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Decided and checked, and not to be carried out: a dry run.
    DryRun,
    /// Decided and checked, about to be carried out.
    Intended,
    /// Accepted by the cloud.
    Accepted,
    /// Carried out.
    Done,
    /// Refused or failed.
    Failed,
    /// Given up: something else was decided meanwhile.
    Abandoned,
}

/// The log can be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resumed {
    /// [`ENTRY_SCHEMA`].
    pub schema: u32,
    /// Batches that were refused meanwhile.
    pub refused: u64,
}

/// The log was closed in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closed {
    /// [`ENTRY_SCHEMA`].
    pub schema: u32,
}

/// What stands before the bytes of a snapshot.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointHeader {
    schema: u32,
    through: u64,
}

/// The version alone, of an entry that may be of another version.
#[derive(Deserialize)]
struct Version {
    schema: u32,
}

impl<'a> Entry<'a> {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Decision(_) => Kind::Decision,
            Self::Fleet(_) => Kind::Fleet,
            Self::Telemetry(_) => Kind::Telemetry,
            Self::Checkpoint(_) => Kind::Checkpoint,
            Self::Outcome(_) => Kind::Outcome,
            Self::Audit(_) => Kind::Audit,
            Self::Action(_) => Kind::Action,
            Self::Resumed(_) => Kind::Resumed,
            Self::Closed(_) => Kind::Closed,
        }
    }

    /// Writes it behind what is in `buffer`.
    pub(super) fn write(&self, buffer: &mut Vec<u8>) {
        match self {
            Self::Decision(entry) => write_json(entry, buffer),
            Self::Fleet(entry) | Self::Telemetry(entry) => write_json(entry, buffer),
            Self::Checkpoint(entry) => {
                let header = CheckpointHeader {
                    schema: ENTRY_SCHEMA,
                    through: entry.through,
                };
                write_json(&header, buffer);
                buffer.push(b'\n');
                buffer.extend_from_slice(entry.snapshot);
            }
            Self::Outcome(entry) => write_json(entry, buffer),
            Self::Audit(entry) => write_json(entry, buffer),
            Self::Action(entry) => write_json(entry, buffer),
            Self::Resumed(entry) => write_json(entry, buffer),
            Self::Closed(entry) => write_json(entry, buffer),
        }
    }

    /// Reads the payload of the record `sequence`.
    ///
    /// # Errors
    ///
    /// [`LogError::Entry`] if it is of another version, an unknown kind or not of the schema.
    pub fn read(sequence: u64, kind: u16, payload: &'a [u8]) -> Result<Self, LogError> {
        let failed = |problem: String| LogError::Entry { sequence, problem };
        let Some(kind) = Kind::numbered(kind) else {
            return Err(failed(format!("{kind} is no kind that this program knows")));
        };
        let parsed = match kind {
            Kind::Decision => json(payload).map(Self::Decision),
            Kind::Fleet => json(payload).map(Self::Fleet),
            Kind::Telemetry => json(payload).map(Self::Telemetry),
            Kind::Checkpoint => checkpoint(payload).map(Self::Checkpoint),
            Kind::Outcome => json(payload).map(Self::Outcome),
            Kind::Audit => json(payload).map(Self::Audit),
            Kind::Action => json(payload).map(Self::Action),
            Kind::Resumed => json(payload).map(Self::Resumed),
            Kind::Closed => json(payload).map(Self::Closed),
        };
        parsed.map_err(|problem| failed(format!("{}: {problem}", kind.name())))
    }
}

fn write_json(entry: &impl Serialize, buffer: &mut Vec<u8>) {
    // Entries are structs of texts and numbers, which always serialize; so does a vector grow.
    let written = serde_json::to_writer(buffer, entry);
    debug_assert!(written.is_ok(), "{written:?}");
}

fn json<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, String> {
    let version = match serde_json::from_slice::<Version>(payload) {
        Ok(version) => version.schema,
        Err(error) => return Err(error.to_string()),
    };
    if version != ENTRY_SCHEMA {
        return Err(format!(
            "schema {version}, but this program reads schema {ENTRY_SCHEMA}"
        ));
    }
    serde_json::from_slice(payload).map_err(|error| error.to_string())
}

fn checkpoint(payload: &[u8]) -> Result<Checkpoint<'_>, String> {
    let line = payload.iter().position(|b| *b == b'\n');
    let Some(line) = line else {
        return Err("there is no snapshot".into());
    };
    let header: CheckpointHeader = json(&payload[..line])?;
    Ok(Checkpoint {
        through: header.through,
        snapshot: &payload[line + 1..],
    })
}

#[cfg(test)]
mod tests;
