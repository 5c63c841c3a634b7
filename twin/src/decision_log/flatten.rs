//! A log as rows: one a decision, one an outcome, for tables.

use std::path::Path;

use super::entry::{Decision, Entry, Kind, Mode, Outcome};
use super::error::LogError;
use super::id::DecisionId;
use super::reader::{Reader, Record};
use crate::wire::{DecisionRequest, DecisionResponse, Epoch};

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// Of a decision.
    Decision(Box<DecisionRow>),
    /// Of an outcome.
    Outcome(OutcomeRow),
}

/// A decision as a row; what the request or the response does not tell is absent.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionRow {
    /// Its id.
    pub id: DecisionId,
    /// When it was answered, in ns since 1970, by the wall clock.
    pub at_ns: u64,
    /// SHA-256 of the world in hexadecimal.
    pub world_sha256: Option<String>,
    /// Whether the request had the state with it.
    pub stateless: bool,
    /// Who asked.
    pub client: Option<String>,
    /// The policy that was asked.
    pub asked_policy: String,
    /// SHA-256 of the model's weights in hexadecimal, where it is a model.
    pub model_sha256: Option<String>,
    /// The policy that decided.
    pub policy: Option<String>,
    /// Whether the fallback decided, or nobody.
    pub fallback: Option<bool>,
    /// How long it took, in µs.
    pub decision_time_us: Option<f64>,
    /// Whether provisioning was decided too.
    pub boundary: Option<bool>,
    /// The time within the state.
    pub now_ns: Option<u64>,
    /// Hosts.
    pub hosts: Option<u64>,
    /// Requests under way.
    pub requests: Option<u64>,
    /// Those of them that waited for a decision.
    pub waiting: Option<u64>,
    /// Hosts that were turned on or off.
    pub power_actions: Option<u64>,
    /// Requests that were deployed.
    pub deployments: Option<u64>,
    /// Fragments that were moved.
    pub migrations: Option<u64>,
    /// What was asked, as JSON.
    pub request_json: String,
    /// What was answered, as JSON.
    pub response_json: String,
}

/// An outcome as a row. Of several for the same decision and request the last one holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutcomeRow {
    /// The decision.
    pub decision_id: DecisionId,
    /// Number of the request.
    pub request_id: u64,
    /// When it was told, in ns since 1970, by the wall clock.
    pub at_ns: u64,
    /// Whether the request was answered.
    pub answered: bool,
    /// How long its users waited.
    pub response_s: Option<f64>,
    /// Whether its deadline was missed.
    pub late: bool,
}

/// The rows of a log, in its order.
#[derive(Debug)]
pub struct Rows {
    reader: Reader,
    unreadable: u64,
}

impl Rows {
    /// The rows of the log in `folder` from the record `from` on.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read.
    pub fn open(folder: &Path, from: u64) -> Result<Self, LogError> {
        let reader = Reader::open(folder, from)?;
        Ok(Self {
            reader,
            unreadable: 0,
        })
    }

    /// The next row; `None` at the end of what is written.
    ///
    /// # Errors
    ///
    /// If a segment cannot be read or is of another version.
    pub fn next_row(&mut self) -> Result<Option<Row>, LogError> {
        while let Some(record) = self.reader.next_record()? {
            if !matches!(record.kind(), Some(Kind::Decision | Kind::Outcome)) {
                continue;
            }
            match record.entry() {
                Ok(Entry::Decision(entry)) => {
                    let row = DecisionRow::new(&record, &entry);
                    return Ok(Some(Row::Decision(Box::new(row))));
                }
                Ok(Entry::Outcome(entry)) => {
                    let row = OutcomeRow::new(record.at_ns, &entry);
                    return Ok(Some(Row::Outcome(row)));
                }
                Ok(_) => {}
                Err(_) => self.unreadable += 1,
            }
        }
        Ok(None)
    }

    /// Whole records that were passed because they are not of the schema.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The reader, which tells of damage.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

impl DecisionRow {
    fn new(record: &Record<'_>, entry: &Decision<'_>) -> Self {
        let (stateless, asked) = match &entry.mode {
            Mode::Stateless { request } => (true, request.get()),
            Mode::Stateful { requests, .. } => (false, requests.get()),
        };
        let answered = entry.response.get();
        let request = DecisionRequest::from_json(asked.as_bytes()).ok();
        let state = request.as_ref().map(|r| &r.state);
        let response = DecisionResponse::from_json(answered.as_bytes()).ok();
        let decision = response.as_ref().map(|r| &r.decision);
        let waiting = |s: &crate::wire::FleetState<'_>| {
            s.requests.iter().filter(|r| r.deployed.is_none()).count() as u64
        };
        Self {
            id: DecisionId(record.sequence),
            at_ns: record.at_ns,
            world_sha256: record.world.map(hex::encode),
            stateless,
            client: entry.client.as_deref().map(Into::into),
            asked_policy: entry.policy.as_ref().into(),
            model_sha256: entry.model_sha256.as_deref().map(Into::into),
            policy: response.as_ref().map(|r| r.policy.as_ref().into()),
            fallback: response.as_ref().map(|r| r.fallback),
            decision_time_us: response.as_ref().map(|r| r.decision_time_us),
            boundary: state.map(|s| s.epoch == Epoch::Boundary),
            now_ns: state.map(|s| s.now_ns),
            hosts: state.map(|s| s.hosts.len() as u64),
            requests: state.map(|s| s.requests.len() as u64),
            waiting: state.map(waiting),
            power_actions: decision.map(|d| d.provisioning.len() as u64),
            deployments: decision.map(|d| d.deployments.len() as u64),
            migrations: decision.map(|d| d.migrations.len() as u64),
            request_json: asked.into(),
            response_json: answered.into(),
        }
    }
}

impl OutcomeRow {
    fn new(at_ns: u64, entry: &Outcome) -> Self {
        Self {
            decision_id: entry.decision,
            request_id: entry.request,
            at_ns,
            answered: entry.answered,
            response_s: entry.response_s,
            late: entry.late,
        }
    }
}
