//! A log as rows: one a decision, one an outcome, for tables.

use std::path::Path;

use super::entry::{Decision, Entry, Kind, Mode, Outcome};
use super::error::LogError;
use super::id::DecisionId;
use super::reader::{Reader, Record};
use crate::migration::StrategyKind;
use crate::wire::{
    DecisionBody, DecisionRequest, DecisionResponse, Epoch, FleetDecisionRequest, FleetState,
};

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
    /// Whether the candidate was asked in place of the policy that is active.
    pub candidate: bool,
    /// The policy that was asked.
    pub asked_policy: String,
    /// SHA-256 of the model's weights in hexadecimal, where it is a model.
    pub model_sha256: Option<String>,
    /// The policy that decided.
    pub policy: Option<String>,
    /// Whether the fallback decided, or nobody.
    pub fallback: Option<bool>,
    /// Why, where it did.
    pub fallback_reason: Option<String>,
    /// The share of the input that was outside of the model's training; absent if nothing was, or
    /// if that is not known.
    pub outside_share: Option<f64>,
    /// Whether search took the decision for that reason.
    pub searched: Option<bool>,
    /// How long it took, in µs.
    pub decision_time_us: Option<f64>,
    /// Whether provisioning was decided too.
    pub boundary: Option<bool>,
    /// The time by the fleet's clock.
    pub now_ns: Option<u64>,
    /// Hosts; known of a stateless decision, as the next two.
    pub hosts: Option<u64>,
    /// Requests under way.
    pub requests: Option<u64>,
    /// Those of them that waited for a decision.
    pub waiting: Option<u64>,
    /// What was decided.
    pub actions: Option<Vec<ActionRow>>,
    /// What was asked, as JSON.
    pub request_json: String,
    /// What was answered, as JSON.
    pub response_json: String,
}

/// One action of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionRow {
    /// A host is turned on or off.
    Power {
        /// Position of the host.
        host: u32,
        /// On or off.
        on: bool,
    },
    /// A request is deployed.
    Deploy {
        /// Number of the request.
        request: u64,
        /// The variant.
        variant: String,
        /// Position of one host a fragment.
        hosts: Vec<u32>,
    },
    /// A fragment is moved.
    Migrate {
        /// Number of the request.
        request: u64,
        /// Position of the fragment in its variant.
        fragment: u16,
        /// Position of the host that it goes to.
        to_host: u32,
        /// How; the world's strategy if absent.
        strategy: Option<StrategyKind>,
    },
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
    first_unreadable: Option<LogError>,
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
            first_unreadable: None,
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
                Err(error) => {
                    self.unreadable += 1;
                    self.first_unreadable.get_or_insert(error);
                }
            }
        }
        Ok(None)
    }

    /// Whole records that were passed because they are not of the schema.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// What is wrong with the first of them.
    #[must_use]
    pub fn first_unreadable(&self) -> Option<&LogError> {
        self.first_unreadable.as_ref()
    }

    /// The reader, which tells of damage.
    #[must_use]
    pub fn reader(&self) -> &Reader {
        &self.reader
    }
}

impl DecisionRow {
    fn new(record: &Record<'_>, entry: &Decision<'_>) -> Self {
        let answered = entry.response.get();
        let response = DecisionResponse::from_json(answered.as_bytes()).ok();
        let response = response.as_ref();
        let range = response.and_then(|r| r.input_range.as_ref());
        let asked = Asked::new(&entry.mode);
        Self {
            id: DecisionId(record.sequence),
            at_ns: record.at_ns,
            world_sha256: record.world.map(hex::encode),
            stateless: matches!(entry.mode, Mode::Stateless { .. }),
            client: entry.client.as_deref().map(Into::into),
            candidate: entry.candidate,
            asked_policy: entry.policy.as_ref().into(),
            model_sha256: entry.model_sha256.as_deref().map(Into::into),
            policy: response.map(|r| r.policy.as_ref().into()),
            fallback: response.map(|r| r.fallback),
            fallback_reason: response.and_then(|r| r.fallback_reason.as_deref().map(Into::into)),
            outside_share: range.map(|range| range.outside_share),
            searched: response.map(|_| range.is_some_and(|range| range.searched)),
            decision_time_us: response.map(|r| r.decision_time_us),
            boundary: asked.epoch.map(|epoch| epoch == Epoch::Boundary),
            now_ns: asked.now_ns,
            hosts: asked.hosts,
            requests: asked.requests,
            waiting: asked.waiting,
            actions: response.map(|r| actions(&r.decision)),
            request_json: asked.json.into(),
            response_json: answered.into(),
        }
    }
}

/// What a request tells.
struct Asked<'a> {
    json: &'a str,
    epoch: Option<Epoch>,
    now_ns: Option<u64>,
    hosts: Option<u64>,
    requests: Option<u64>,
    waiting: Option<u64>,
}

impl<'a> Asked<'a> {
    fn new(mode: &Mode<'a>) -> Self {
        match mode {
            Mode::Stateless { request } => {
                let json = request.get();
                let read = DecisionRequest::from_json(json.as_bytes()).ok();
                let state = read.as_ref().map(|r| &r.state);
                let waiting = |s: &FleetState<'_>| {
                    s.requests.iter().filter(|r| r.deployed.is_none()).count() as u64
                };
                Self {
                    json,
                    epoch: state.map(|s| s.epoch),
                    now_ns: state.map(|s| s.now_ns),
                    hosts: state.map(|s| s.hosts.len() as u64),
                    requests: state.map(|s| s.requests.len() as u64),
                    waiting: state.map(waiting),
                }
            }
            Mode::Stateful { requests, .. } => {
                let json = requests.get();
                let read = FleetDecisionRequest::from_json(json.as_bytes()).ok();
                Self {
                    json,
                    epoch: read.as_ref().map(|r| r.epoch),
                    now_ns: read.as_ref().map(|r| r.now_ns),
                    hosts: None,
                    requests: None,
                    waiting: None,
                }
            }
        }
    }
}

fn actions(decision: &DecisionBody<'_>) -> Vec<ActionRow> {
    let powers = decision.provisioning.iter().map(|a| ActionRow::Power {
        host: a.host,
        on: a.on,
    });
    let deployments = decision.deployments.iter().map(|d| ActionRow::Deploy {
        request: d.request,
        variant: d.variant.as_ref().into(),
        hosts: d.hosts.clone(),
    });
    let migrations = decision.migrations.iter().map(|m| ActionRow::Migrate {
        request: m.request,
        fragment: m.fragment,
        to_host: m.to_host,
        strategy: m.strategy,
    });
    powers.chain(deployments).chain(migrations).collect()
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
