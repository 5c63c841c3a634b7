//! Records as JSON for those who ask.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use twin::decision_log::{Decision, DecisionId, Entry, LogError, Mode, Outcome, Record};
use twin::wire::{DecisionRequest, DecisionResponse, FleetDecisionRequest};
use utoipa::ToSchema;

/// The version of these documents.
pub const SCHEMA: u32 = 1;
/// The longest answer that is repeated in a list.
const LISTED_BYTES: usize = 64 << 10;

/// A decision, whole.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionView<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Its id.
    #[schema(value_type = String, pattern = "^[0-9]{20}$")]
    pub id: DecisionId,
    /// When it was answered, as RFC 3339 tells times.
    pub at: String,
    /// The policy that was asked.
    pub policy: Cow<'a, str>,
    /// SHA-256 of the model's weights, where it is a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<Cow<'a, str>>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Cow<'a, str>>,
    /// How it was asked, and what.
    #[schema(value_type = AskedView<'a>)]
    pub mode: Mode<'a>,
    /// What was answered.
    #[schema(value_type = DecisionResponse<'a>)]
    pub response: &'a RawValue,
    /// What became of its requests, as far as it was told lately.
    #[schema(max_items = 16_384)]
    pub outcomes: Vec<OutcomeView>,
}

/// How a decision was asked for, and what: [`Mode`] in the description of the service.
#[derive(Debug, ToSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schema(as = Asked)]
pub enum AskedView<'a> {
    /// With the state.
    Stateless {
        /// The body.
        request: DecisionRequest<'a>,
    },
    /// On the fleet that the service keeps.
    Stateful {
        /// The body.
        requests: FleetDecisionRequest<'a>,
        /// The last record that the fleet had taken in.
        telemetry: Option<u64>,
    },
}

/// What became of a request.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeView {
    /// Its number.
    pub request: u64,
    /// Whether it was answered.
    pub answered: bool,
    /// How long its users waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub response_s: Option<f64>,
    /// Whether its deadline was missed.
    pub late: bool,
}

/// A decision in a list: without what was asked.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionSummary {
    /// Its id.
    #[schema(value_type = String, pattern = "^[0-9]{20}$")]
    pub id: DecisionId,
    /// When it was answered.
    pub at: String,
    /// The policy that was asked.
    pub policy: String,
    /// SHA-256 of the model's weights, where it is a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<String>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// `stateless` or `stateful`.
    #[schema(pattern = "^(stateless|stateful)$")]
    pub mode: &'static str,
    /// What was answered, unless it is long.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<DecisionResponse<'static>>)]
    pub response: Option<Box<RawValue>>,
}

/// A list of decisions.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionList {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The decisions.
    #[schema(max_items = 100)]
    pub decisions: Vec<DecisionSummary>,
    /// What to ask for with `after` to go on; not there at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{20}$")]
    pub next: Option<DecisionId>,
}

/// A record of any kind.
#[derive(Debug, Serialize)]
pub struct RecordView {
    /// Its sequence number, in the form of an id.
    pub id: DecisionId,
    /// When it was written.
    pub at: String,
    /// Its kind.
    pub kind: &'static str,
    /// SHA-256 of the world, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub world_sha256: Option<String>,
    /// What it holds; of a checkpoint, the length of the snapshot.
    pub entry: Box<RawValue>,
}

/// `ns` since 1970 as RFC 3339 tells times.
#[must_use]
pub fn time(ns: u64) -> String {
    match Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(time) => format!("{time:.6}"),
        // Beyond the year 9999.
        Err(_) => format!("{ns} ns after 1970"),
    }
}

/// `stateless` or `stateful`.
fn mode(mode: &Mode<'_>) -> &'static str {
    match mode {
        Mode::Stateless { .. } => "stateless",
        Mode::Stateful { .. } => "stateful",
    }
}

impl<'a> DecisionView<'a> {
    /// The decision of `record`, with what became of it.
    ///
    /// # Errors
    ///
    /// If the record is not of the schema, or no decision.
    pub fn new(record: &Record<'a>, outcomes: &[Outcome]) -> Result<Self, LogError> {
        let decision = decision(record)?;
        Ok(Self {
            schema: SCHEMA,
            id: DecisionId(record.sequence),
            at: time(record.at_ns),
            policy: decision.policy,
            model_sha256: decision.model_sha256,
            client: decision.client,
            mode: decision.mode,
            response: decision.response,
            outcomes: outcomes.iter().map(OutcomeView::new).collect(),
        })
    }
}

impl OutcomeView {
    fn new(outcome: &Outcome) -> Self {
        Self {
            request: outcome.request,
            answered: outcome.answered,
            response_s: outcome.response_s,
            late: outcome.late,
        }
    }
}

impl DecisionSummary {
    /// The decision of `record`.
    ///
    /// # Errors
    ///
    /// If the record is not of the schema, or no decision.
    pub fn new(record: &Record<'_>) -> Result<Self, LogError> {
        let decision = decision(record)?;
        let short = decision.response.get().len() <= LISTED_BYTES;
        Ok(Self {
            id: DecisionId(record.sequence),
            at: time(record.at_ns),
            policy: decision.policy.into_owned(),
            model_sha256: decision.model_sha256.map(Cow::into_owned),
            client: decision.client.map(Cow::into_owned),
            mode: mode(&decision.mode),
            response: short.then(|| decision.response.to_owned()),
        })
    }
}

fn decision<'a>(record: &Record<'a>) -> Result<Decision<'a>, LogError> {
    match record.entry()? {
        Entry::Decision(decision) => Ok(decision),
        _ => Err(LogError::Entry {
            sequence: record.sequence,
            problem: "it is no decision".into(),
        }),
    }
}

impl RecordView {
    /// `record` on one line.
    ///
    /// # Errors
    ///
    /// If it is not of the schema.
    pub fn new(record: &Record<'_>) -> Result<Self, LogError> {
        let entry = record.entry()?;
        let kind = entry.kind().name();
        let text = match entry {
            Entry::Checkpoint(checkpoint) => serde_json::json!({
                "through": checkpoint.through,
                "snapshot_bytes": checkpoint.snapshot.len(),
            })
            .to_string(),
            // Within texts JSON has no line ends, so those that are there are white space.
            _ => String::from_utf8_lossy(record.payload).replace(['\n', '\r'], " "),
        };
        let entry = RawValue::from_string(text).map_err(|error| LogError::Entry {
            sequence: record.sequence,
            problem: error.to_string(),
        })?;
        Ok(Self {
            id: DecisionId(record.sequence),
            at: time(record.at_ns),
            kind,
            world_sha256: record.world.map(hex::encode),
            entry,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_words() {
        assert_eq!(time(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            time(1_700_000_000_123_456_789),
            "2023-11-14T22:13:20.123456Z"
        );
        assert_eq!(time(u64::MAX), "2554-07-21T23:34:33.709551Z");
    }
}
