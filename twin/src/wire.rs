//! What goes over the wire: a fleet's state in, a decision out, as JSON of schema version 1.
//!
//! A [`DecisionRequest`] holds what an operator can observe and nothing else; it converts to and
//! from a [`FleetView`] without loss. A [`DecisionResponse`] holds a checked [`Decision`].
//! Hosts are positions in the world's list, applications and variants go by name, fragments are
//! positions in their variant. Times are whole nanoseconds since a start that the operator
//! chooses; they may exceed 2⁵³, so readers must parse them as 64-bit integers. Every other
//! quantity has its unit in its name.
//!
//! A client that keeps the service in step tells what happened by [`TelemetryRequest`]s and asks by
//! [`FleetDecisionRequest`]s, which name only what is new; [`Question`] reads either form.
//!
//! Fields that are not known to the schema, `null`, and lists beyond the limits below are errors
//! that name the field.
//!
//! ```
//! use twin::wire::DecisionRequest;
//! let error = DecisionRequest::from_json(br#"{"schema": 1, "state": {"now_ns": -1}}"#).unwrap_err();
//! assert_eq!(error.field, "state.now_ns");
//! ```
//!
//! [`FleetView`]: crate::observation::FleetView
//! [`Decision`]: crate::decision::Decision

mod convert;
mod fleet;
mod migrations;
mod outcomes;
mod read;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::decision_log::DecisionId;
use crate::migration::StrategyKind;
use crate::workload::RATE_WINDOWS;
use crate::world::containers::MAX_CONTAINERS;
use crate::world::{self, MAX_MODELS};

pub use fleet::{
    DeltaKind, FleetDecisionRequest, FleetResponse, FleetTotals, HostSummary, IgnoredDelta,
    MAX_IGNORED, NewRequest, Question, SeenLifecycle, TelemetryDelta, TelemetryRequest,
    TelemetryResponse,
};
pub use outcomes::{MAX_OUTCOMES, OutcomeReport, OutcomesRequest, OutcomesResponse};
pub use read::{bounded, check_schema, from_json, present, shorten};

/// The version of the schema that this module reads and writes.
pub const SCHEMA: u32 = 1;
/// The most hosts in a state.
pub const MAX_HOSTS: usize = world::MAX_HOSTS;
/// The most requests under way in a state.
pub const MAX_REQUESTS: usize = 1_000_000;
/// The most transfers under way in a state.
pub const MAX_TRANSFERS: usize = 1_000_000;
/// The most migrations in a state or a decision.
pub const MAX_MIGRATIONS: usize = 100_000;
/// The most fragments that one host lists.
pub const MAX_LISTED: usize = 1_000_000;
/// The most bytes that a state should have as JSON.
pub const MAX_BODY_BYTES: usize = 32 << 20;

/// Asks for a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DecisionRequest<'a> {
    /// Version of the schema: [`SCHEMA`].
    pub schema: u32,
    /// The world that the state belongs to; checked where it is there.
    #[serde(
        borrow,
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub world: Option<WorldName<'a>>,
    /// What is observed.
    #[serde(borrow)]
    pub state: FleetState<'a>,
}

/// Names a world.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WorldName<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Its hash in hexadecimal; checked where it is there.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub hash: Option<Cow<'a, str>>,
}

/// What is observed of a fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FleetState<'a> {
    /// The time.
    pub now_ns: u64,
    /// Why a decision is due.
    pub epoch: Epoch,
    /// The next interval boundary, after which provisioning is decided again.
    pub next_boundary_ns: u64,
    /// The number that the next request will get; above every number in `requests`.
    pub next_request: u64,
    /// One entry a host of the world, in its order.
    #[serde(borrow, deserialize_with = "bounded::<_, _, MAX_HOSTS>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 100_000))]
    pub hosts: Vec<HostState<'a>>,
    /// Requests under way, sorted by number.
    #[serde(borrow, deserialize_with = "bounded::<_, _, MAX_REQUESTS>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1_000_000))]
    pub requests: Vec<RequestState<'a>>,
    /// Transfers under way, in any order.
    #[serde(deserialize_with = "bounded::<_, _, MAX_TRANSFERS>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1_000_000))]
    pub transfers: Vec<TransferState>,
    /// Migrations under way, in the order in which they were asked for; not there if there is none.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::<_, _, MAX_MIGRATIONS>"
    )]
    #[cfg_attr(feature = "openapi", schema(max_items = 100_000))]
    pub migrations: Vec<MigrationState>,
    /// One entry an application of the world, in its order.
    #[serde(
        borrow,
        deserialize_with = "bounded::<_, _, { world::MAX_APPLICATIONS }>"
    )]
    #[cfg_attr(feature = "openapi", schema(max_items = 256))]
    pub arrival_rates: Vec<ArrivalRates<'a>>,
}

/// Why a decision is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Epoch {
    /// An interval boundary: everything may be decided.
    Boundary,
    /// A request arrived: requests may be deployed.
    Arrival,
    /// The end of an episode: nothing is to be decided.
    End,
}

/// What is observed of a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HostState<'a> {
    /// Its name; checked where it is there.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub name: Option<Cow<'a, str>>,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// When it will serve; with `"lifecycle": "booting"` only.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub ready_at_ns: Option<u64>,
    /// Fragments that wait for memory or the boot, first in first out.
    #[serde(deserialize_with = "bounded::<_, _, MAX_LISTED>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1_000_000))]
    pub queue: Vec<FragmentName>,
    /// Fragments placed here that have not ended (waiting, queued or running), in the order of
    /// placement.
    #[serde(deserialize_with = "bounded::<_, _, MAX_LISTED>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1_000_000))]
    pub resident: Vec<FragmentName>,
    /// Speed relative to the rated one; 1 if absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[cfg_attr(feature = "openapi", schema(exclusive_minimum = 0))]
    pub speed: Option<f64>,
    /// CPU credits left of a burstable size; the initial ones if absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub credits: Option<f64>,
    /// Models that are loaded or being loaded; none if absent.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::<_, _, MAX_MODELS>"
    )]
    #[cfg_attr(feature = "openapi", schema(max_items = 64))]
    pub models: Vec<ModelState<'a>>,
    /// Names of the long-running containers that wait for memory; none if absent. What they want
    /// follows from the world and the time.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::<_, _, MAX_CONTAINERS>"
    )]
    #[cfg_attr(feature = "openapi", schema(max_items = 10_000))]
    pub waiting_containers: Vec<Cow<'a, str>>,
}

/// What is observed of a model on a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelState<'a> {
    /// Its name.
    pub model: Cow<'a, str>,
    /// When it is loaded, or was.
    pub ready_at_ns: u64,
    /// Since when nothing uses it.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub unused_since_ns: Option<u64>,
}

/// Where a host is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// Draws no power, costs nothing, serves nothing.
    Off,
    /// Starting; what is placed on it waits.
    Booting,
    /// Serving.
    On,
    /// Serving what was placed on it, taking nothing new, then off.
    Draining,
}

/// Names a fragment of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FragmentName {
    /// Number of the request.
    pub request: u64,
    /// Position of the fragment in its variant.
    pub fragment: u16,
}

/// What is observed of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RequestState<'a> {
    /// Its number.
    pub id: u64,
    /// Name of its application.
    #[serde(borrow)]
    pub application: Cow<'a, str>,
    /// When it arrived.
    pub arrived_ns: u64,
    /// Length of its input, in tokens; 0 where applications have none.
    pub context_tokens: u32,
    /// Length of its answer in tokens, where a finished fragment has told.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub generated_tokens: Option<u32>,
    /// When its first fragment started to run, if one has.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub started_ns: Option<u64>,
    /// How it was deployed; not there while it waits.
    #[serde(
        borrow,
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub deployed: Option<DeployedState<'a>>,
}

/// How a request was deployed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeployedState<'a> {
    /// Name of the variant.
    #[serde(borrow)]
    pub variant: Cow<'a, str>,
    /// Outputs that the users still wait for.
    pub outputs_left: u16,
    /// One entry a fragment of the variant, in its order.
    #[serde(deserialize_with = "bounded::<_, _, { world::MAX_FRAGMENTS }>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 16))]
    pub fragments: Vec<FragmentState>,
}

/// What is observed of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FragmentState {
    /// Position of the host it is placed on.
    pub host: u32,
    /// Where it is in its life.
    pub phase: Phase,
    /// Inputs it still waits for.
    pub inputs_left: u16,
    /// Service it has had, in million instructions; 0 unless it runs or is paused.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub attained_mi: f64,
}

/// Where a fragment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Waits for inputs.
    Waiting,
    /// Has its inputs and waits for memory or for the host's boot.
    Queued,
    /// Runs.
    Running,
    /// Ran, and is paused while a migration copies it.
    Paused,
    /// Has ended.
    Done,
}

/// What is observed of a transfer: either what is left to send, or when the last bit arrives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TransferState {
    /// Number of the request it belongs to.
    pub request: u64,
    /// The fragment it goes to; not there for an output to the users.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub fragment: Option<u16>,
    /// Position of the host that sends, with `bits_left` only; not there where the users send.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub from_host: Option<u32>,
    /// What is left to send, in bits.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub bits_left: Option<f64>,
    /// When the last bit arrives, where all are sent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub arrives_at_ns: Option<u64>,
}

/// What is observed of a migration under way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct MigrationState {
    /// Number of the request.
    pub request: u64,
    /// Position of the fragment in its variant.
    pub fragment: u16,
    /// Position of the host that it leaves.
    pub from_host: u32,
    /// Position of the host that it goes to.
    pub to_host: u32,
    /// The order of things.
    pub strategy: StrategyKind,
    /// What is being done; not there while it waits for room.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub stage: Option<MigrationStage>,
    /// Whether it waits for its model to be loaded at the destination; with no stage only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loads_model: bool,
    /// For how long.
    pub stage_elapsed_ns: u64,
    /// What has been sent in this stage, in MiB.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub stage_sent_mib: f64,
    /// Pages that the destination lacked when this stage began, in MiB.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub left_mib: f64,
    /// What the last transfer got, or what is expected before there was one, in MiB/s.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub bandwidth_mib_per_s: f64,
    /// Whether it resumes, or has resumed, before its memory is there.
    pub post_copy: bool,
    /// Rounds that have ended.
    pub rounds: u32,
    /// Memory and execution state sent in stages that have ended, in MiB.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub sent_mib: f64,
    /// Image layers fetched in stages that have ended, in MiB.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub fetched_mib: f64,
    /// Length of the stages that have ended, in s.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub total_s: f64,
    /// The part of these in which the fragment was paused, in s.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub downtime_s: f64,
    /// The part of these that it lost to memory that had not come, in s.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub stall_s: f64,
}

/// What a migration is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MigrationStage {
    /// The destination fetches image layers.
    FetchImage,
    /// Both ends agree to begin.
    Handshake,
    /// Memory is copied while the fragment runs; the number is one more than `rounds`.
    Round,
    /// The fragment is dumped.
    Dump,
    /// The rest is copied while it is paused.
    Copy,
    /// The last page arrives.
    HandOver,
    /// The destination restores what was dumped.
    Restore,
    /// What was restored is checked.
    Verify,
    /// It is made to run at the destination.
    Resume,
    /// Memory is pulled while it runs at the destination.
    Pull,
    /// It is made to run at the source again.
    RollBack,
}

/// How often an application is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ArrivalRates<'a> {
    /// Name of the application.
    #[serde(borrow)]
    pub application: Cow<'a, str>,
    /// Exponentially decayed counts of arrivals over time constants of 2, 10 and 60 s, each over
    /// its time constant: requests per second.
    #[cfg_attr(feature = "openapi", schema(min_items = 3, max_items = 3))]
    pub per_s: [f64; RATE_WINDOWS],
}

/// Answers a [`DecisionRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DecisionResponse<'a> {
    /// Its id in the log of decisions; the service gives one, a single decision has none.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, pattern = "^[0-9]{20}$"))]
    pub id: Option<DecisionId>,
    /// Version of the schema: [`SCHEMA`].
    pub schema: u32,
    /// The decision, which an independent checker has found feasible.
    #[serde(borrow)]
    pub decision: DecisionBody<'a>,
    /// The policy that took it; `none` where neither the policy nor the fallback did.
    #[serde(borrow)]
    pub policy: Cow<'a, str>,
    /// SHA-256 of the model's weights in hexadecimal, where the policy is a model.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub model_sha256: Option<Cow<'a, str>>,
    /// Whether the fallback took the decision in place of the policy.
    pub fallback: bool,
    /// Why, where it did.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub fallback_reason: Option<Cow<'a, str>>,
    /// Time from the parsed state to the checked decision, in microseconds.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub decision_time_us: f64,
    /// What of the state lies outside of what the model was trained on; not there if nothing does,
    /// or if that is not known.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub input_range: Option<InputRange<'a>>,
}

/// How far a state lies outside of what the model was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct InputRange<'a> {
    /// The greatest share of the features of one kind (of the fleet, of hosts, of answers) that
    /// are outside of their ranges in training.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub outside_share: f64,
    /// The first of these features, as `host.utilization`.
    #[serde(borrow)]
    #[cfg_attr(feature = "openapi", schema(max_items = 8))]
    pub outside: Vec<Cow<'a, str>>,
    /// Whether search on the twin took the decision in place of the model.
    pub searched: bool,
}

/// A decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DecisionBody<'a> {
    /// Hosts to turn on or off; hosts that are not named stay as they are.
    #[serde(deserialize_with = "bounded::<_, _, MAX_HOSTS>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 100_000))]
    pub provisioning: Vec<PowerAction>,
    /// Variant and hosts of waiting requests; requests that are not named go on waiting.
    #[serde(borrow, deserialize_with = "bounded::<_, _, MAX_REQUESTS>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1_000_000))]
    pub deployments: Vec<Deployment<'a>>,
    /// Running fragments to move to other hosts; not there if none is.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::<_, _, MAX_MIGRATIONS>"
    )]
    #[cfg_attr(feature = "openapi", schema(max_items = 100_000))]
    pub migrations: Vec<Migration>,
}

/// Turns one host on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PowerAction {
    /// Position of the host.
    pub host: u32,
    /// On (boot, or stop draining) or off (drain, then off).
    pub on: bool,
}

/// Deploys one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Deployment<'a> {
    /// Number of the request.
    pub request: u64,
    /// Name of the variant.
    #[serde(borrow)]
    pub variant: Cow<'a, str>,
    /// Position of one host a fragment, in the variant's order.
    #[serde(deserialize_with = "bounded::<_, _, { world::MAX_FRAGMENTS }>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 16))]
    pub hosts: Vec<u32>,
}

/// Moves one running fragment to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// Number of the request.
    pub request: u64,
    /// Position of the fragment in its variant.
    pub fragment: u16,
    /// Position of the host that it goes to.
    pub to_host: u32,
    /// How; the world's strategy if it is not there.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub strategy: Option<StrategyKind>,
}

/// What is wrong with a message, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct WireError {
    /// What kind of thing is wrong.
    pub kind: WireErrorKind,
    /// Path of the field, as in `state.hosts[3].lifecycle`; `body` for the whole.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Kinds of [`WireError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireErrorKind {
    /// The bytes are not JSON.
    Malformed,
    /// The JSON is not of this schema.
    Schema,
    /// The state does not fit the world or contradicts itself.
    Inconsistent,
}

/// Why a message was not answered: a problem document (RFC 9457).
///
/// Readers ignore members that they do not know, as the standard asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Which kind of problem, as a URI.
    #[serde(rename = "type", default = "Problem::blank")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This occurrence in words.
    #[serde(default)]
    pub detail: String,
    /// Path of the field that is wrong, where one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Problem {
    fn blank() -> String {
        "about:blank".into()
    }
}
