//! The stateful messages: telemetry, decisions on the fleet that the service keeps, and the fleet.
//!
//! A [`TelemetryRequest`] lists what happened; its [`TelemetryDelta`]s are flat, and which fields one
//! has follows from its `kind`:
//!
//! | kind | fields beside `kind` and `at_ns` (in brackets: may be left out) |
//! |---|---|
//! | `arrived` | `request`, `application`, (`context_tokens`) |
//! | `deployed` | `request`, `variant`, `hosts` |
//! | `started` | `request`, `fragment`, (`host`) |
//! | `finished` | `request`, `fragment`, (`host`), (`generated_tokens`) |
//! | `answered`, `failed`, `withdrawn` | `request` |
//! | `moved` | `request`, `fragment`, `host` |
//! | `host` | `host`, `lifecycle`, (`ready_at_ns`) |
//! | `sample` | `host`, (`span_s`), (`utilization`), (`power_w`), (`speed`), (`credits`) |

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::convert::{check_world, inconsistent, variant};
use super::read::{bounded, check_schema, from_json, present};
use super::{
    DecisionRequest, Epoch, FleetState, Lifecycle, MAX_HOSTS, SCHEMA, WireError, WireErrorKind,
    WorldName,
};
use crate::host;
use crate::ids::{ApplicationId, HostId, RequestId, VariantId};
use crate::live::{self, Delta, DeltaError, Event, Live, MAX_DELTAS, Sample};
use crate::state;
use crate::units::SimTime;
use crate::world::{self, World, did_you_mean};

/// The longest span of a sample, in s.
const MAX_SPAN_S: f64 = 1e6;
/// The most deltas that a response lists as ignored.
pub const MAX_IGNORED: usize = 1000;

/// Says what happened in the fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TelemetryRequest<'a> {
    /// Version of the schema: [`SCHEMA`].
    pub schema: u32,
    /// The world that the fleet belongs to; checked where it is there.
    #[serde(
        borrow,
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub world: Option<WorldName<'a>>,
    /// The time of the message.
    pub now_ns: u64,
    /// What happened, in any order.
    #[serde(borrow, deserialize_with = "bounded::<_, _, MAX_DELTAS>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 100_000))]
    pub deltas: Vec<TelemetryDelta<'a>>,
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DeltaKind {
    /// A request arrived.
    Arrived,
    /// A request was deployed.
    Deployed,
    /// A fragment started to run.
    Started,
    /// A fragment ended.
    Finished,
    /// A request was answered.
    Answered,
    /// A request is gone without an answer.
    Failed,
    /// A request lost what ran for it, and waits again.
    Withdrawn,
    /// The migration of a fragment ended.
    Moved,
    /// A host was seen in a part of its life.
    Host,
    /// A host was measured.
    Sample,
}

/// Where a host was seen to be in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SeenLifecycle {
    /// It does not run; what was on it is lost.
    Off,
    /// It starts.
    Booting,
    /// It serves.
    On,
    /// It serves what is on it, and takes nothing new.
    Draining,
    /// It lost what was on it and starts again.
    Crashed,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TelemetryDelta<'a> {
    /// What kind of thing.
    pub kind: DeltaKind,
    /// When; the time of the message if absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub at_ns: Option<u64>,
    /// Number of the request.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub request: Option<u64>,
    /// Name of the application.
    #[serde(
        borrow,
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub application: Option<Cow<'a, str>>,
    /// Length of the input, in tokens; 0 if absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub context_tokens: Option<u32>,
    /// Name of the variant.
    #[serde(
        borrow,
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub variant: Option<Cow<'a, str>>,
    /// Position of one host a fragment, in the variant's order; empty where it does not apply.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::<_, _, { world::MAX_FRAGMENTS }>"
    )]
    #[cfg_attr(feature = "openapi", schema(max_items = 16))]
    pub hosts: Vec<u32>,
    /// Position of the fragment in its variant.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub fragment: Option<u16>,
    /// Position of the host.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub host: Option<u32>,
    /// Length of the answer in tokens, where the fragment tells.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub generated_tokens: Option<u32>,
    /// Where the host is in its life.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub lifecycle: Option<SeenLifecycle>,
    /// When it is expected to serve, with `booting` and `crashed` only.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub ready_at_ns: Option<u64>,
    /// Over how long utilization and power are averaged, up to `at_ns`; since the last sample of the
    /// host if absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1_000_000))]
    pub span_s: Option<f64>,
    /// Share of the host's virtual CPUs in use, between 0 and 1.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub utilization: Option<f64>,
    /// Power of the host, in W.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1_000_000))]
    pub power_w: Option<f64>,
    /// Speed relative to the rated one; taken over.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[cfg_attr(feature = "openapi", schema(minimum = 0.001, maximum = 1_000))]
    pub speed: Option<f64>,
    /// CPU credits left; taken over.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1_000_000_000))]
    pub credits: Option<f64>,
}

/// A request that just arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct NewRequest<'a> {
    /// Its number; numbers rise with arrival.
    pub id: u64,
    /// Name of its application.
    #[serde(borrow)]
    pub application: Cow<'a, str>,
    /// When it arrived; the time of the message if absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub arrived_ns: Option<u64>,
    /// Length of its input, in tokens; 0 where applications have none.
    #[serde(default)]
    pub context_tokens: u32,
}

/// Asks for a decision on the fleet that the service keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FleetDecisionRequest<'a> {
    /// Version of the schema: [`SCHEMA`].
    pub schema: u32,
    /// The world that the fleet belongs to; checked where it is there.
    #[serde(
        borrow,
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub world: Option<WorldName<'a>>,
    /// The time.
    pub now_ns: u64,
    /// Why a decision is due.
    pub epoch: Epoch,
    /// The next interval boundary, with `"epoch": "boundary"` only; an interval from now if absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub next_boundary_ns: Option<u64>,
    /// Requests that arrived since the last message.
    #[serde(
        borrow,
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::<_, _, MAX_DELTAS>"
    )]
    #[cfg_attr(feature = "openapi", schema(max_items = 100_000))]
    pub requests: Vec<NewRequest<'a>>,
    /// What else happened.
    #[serde(
        borrow,
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "bounded::<_, _, MAX_DELTAS>"
    )]
    #[cfg_attr(feature = "openapi", schema(max_items = 100_000))]
    pub telemetry: Vec<TelemetryDelta<'a>>,
    /// Whether the decision is only looked at: what is told is kept, the decision is not applied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Either way to ask for a decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(as = DecisionQuestion))]
#[serde(untagged)]
pub enum Question<'a> {
    /// With the whole state.
    Whole(DecisionRequest<'a>),
    /// On the fleet that the service keeps.
    Kept(FleetDecisionRequest<'a>),
}

/// The fields of both.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyQuestion<'a> {
    schema: u32,
    #[serde(borrow, default, deserialize_with = "present")]
    world: Option<WorldName<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    state: Option<FleetState<'a>>,
    #[serde(default, deserialize_with = "present")]
    now_ns: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    epoch: Option<Epoch>,
    #[serde(default, deserialize_with = "present")]
    next_boundary_ns: Option<u64>,
    #[serde(borrow, default, deserialize_with = "new_requests")]
    requests: Option<Vec<NewRequest<'a>>>,
    #[serde(borrow, default, deserialize_with = "new_deltas")]
    telemetry: Option<Vec<TelemetryDelta<'a>>>,
    #[serde(default, deserialize_with = "present")]
    dry_run: Option<bool>,
}

fn new_requests<'de, D>(deserializer: D) -> Result<Option<Vec<NewRequest<'de>>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    bounded::<_, _, MAX_DELTAS>(deserializer).map(Some)
}

fn new_deltas<'de, D>(deserializer: D) -> Result<Option<Vec<TelemetryDelta<'de>>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    bounded::<_, _, MAX_DELTAS>(deserializer).map(Some)
}

/// Answers a [`TelemetryRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TelemetryResponse {
    /// Version of the schema: [`SCHEMA`].
    pub schema: u32,
    /// Where the fleet's clock stands.
    pub now_ns: u64,
    /// Deltas that changed something.
    pub applied: u64,
    /// Deltas that changed nothing.
    pub ignored: u64,
    /// The first of these.
    #[serde(deserialize_with = "bounded::<_, _, MAX_IGNORED>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 1_000))]
    pub ignored_deltas: Vec<IgnoredDelta>,
}

/// A delta that changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct IgnoredDelta {
    /// Its position in the list.
    pub delta: u64,
    /// Why.
    pub reason: live::Ignored,
}

/// The fleet that the service keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FleetResponse<'a> {
    /// Version of the schema: [`SCHEMA`].
    pub schema: u32,
    /// The world that it belongs to.
    #[serde(borrow)]
    pub world: WorldName<'a>,
    /// Where its clock stands.
    pub now_ns: u64,
    /// The whole in numbers.
    pub totals: FleetTotals,
    /// One entry a host of the world, in its order.
    #[serde(borrow, deserialize_with = "bounded::<_, _, MAX_HOSTS>")]
    #[cfg_attr(feature = "openapi", schema(max_items = 100_000))]
    pub hosts: Vec<HostSummary<'a>>,
    /// The whole state, unless a summary was asked for.
    #[serde(
        borrow,
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub state: Option<FleetState<'a>>,
}

/// A fleet in numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FleetTotals {
    /// Hosts by where they are in their life.
    pub hosts: BTreeMap<String, u64>,
    /// Requests under way.
    pub requests: u64,
    /// Those of them that wait to be deployed.
    pub waiting: u64,
    /// Migrations under way.
    pub migrations: u64,
    /// Power of all hosts, in W.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub power_w: f64,
    /// Price of the hosts that are billed, in USD per hour.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub price_usd_per_hour: f64,
    /// Mean utilization of the hosts that serve, between 0 and 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub utilization: f64,
}

/// A host in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HostSummary<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// Its site.
    #[serde(borrow)]
    pub site: Cow<'a, str>,
    /// Its size.
    #[serde(borrow)]
    pub size: Cow<'a, str>,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// When it will serve; with `"lifecycle": "booting"` only.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub ready_at_ns: Option<u64>,
    /// Share of its virtual CPUs in use, between 0 and 1.
    #[cfg_attr(feature = "openapi", schema(minimum = 0, maximum = 1))]
    pub utilization: f64,
    /// Fragments that run.
    pub running: u64,
    /// Fragments that wait for memory or the boot.
    pub queued: u64,
    /// Fragments placed on it that have not ended.
    pub resident: u64,
    /// Memory that nothing holds, in MiB.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub ram_free_mib: f64,
    /// Memory, in MiB.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub ram_mib: f64,
    /// Power, in W.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub power_w: f64,
    /// Price while it is billed, in USD per hour.
    #[cfg_attr(feature = "openapi", schema(minimum = 0))]
    pub price_usd_per_hour: f64,
}

impl<'a> TelemetryRequest<'a> {
    /// Reads a message; names are borrowed from `json` where they hold no escapes.
    ///
    /// # Errors
    ///
    /// If it is not JSON or not of the schema; the error names the field.
    pub fn from_json(json: &'a [u8]) -> Result<Self, WireError> {
        let request: Self = from_json(json)?;
        check_schema(request.schema)?;
        Ok(request)
    }

    /// What happened, with every name resolved in `world`; `asks` tells what requests under way ask
    /// for.
    ///
    /// # Errors
    ///
    /// If the message is of another world, or a delta lacks a field, has one too many or names what
    /// the world does not have.
    pub fn to_deltas(
        &self,
        world: &World,
        asks: &dyn Fn(RequestId) -> Option<ApplicationId>,
    ) -> Result<Vec<Delta>, WireError> {
        check_world(self.world.as_ref(), world)?;
        deltas(world, asks, self.now_ns, (&self.deltas, "deltas"))
    }
}

impl<'a> Question<'a> {
    /// Reads either form; names are borrowed from `json` where they hold no escapes.
    ///
    /// # Errors
    ///
    /// If it is not JSON or of neither schema; the error names the field.
    pub fn from_json(json: &'a [u8]) -> Result<Self, WireError> {
        let any: AnyQuestion<'a> = from_json(json)?;
        check_schema(any.schema)?;
        let schema_error = |field: &str, problem: &str| WireError {
            kind: WireErrorKind::Schema,
            field: field.into(),
            problem: problem.into(),
        };
        if let Some(state) = any.state {
            for (field, there) in [
                ("now_ns", any.now_ns.is_some()),
                ("epoch", any.epoch.is_some()),
                ("next_boundary_ns", any.next_boundary_ns.is_some()),
                ("requests", any.requests.is_some()),
                ("telemetry", any.telemetry.is_some()),
                ("dry_run", any.dry_run.is_some()),
            ] {
                if there {
                    let problem = "belongs to a message without a state";
                    return Err(schema_error(field, problem));
                }
            }
            return Ok(Self::Whole(DecisionRequest {
                schema: any.schema,
                world: any.world,
                state,
            }));
        }
        let missing = "must be there in a message without a state";
        Ok(Self::Kept(FleetDecisionRequest {
            schema: any.schema,
            world: any.world,
            now_ns: any.now_ns.ok_or_else(|| schema_error("now_ns", missing))?,
            epoch: any.epoch.ok_or_else(|| schema_error("epoch", missing))?,
            next_boundary_ns: any.next_boundary_ns,
            requests: any.requests.unwrap_or_default(),
            telemetry: any.telemetry.unwrap_or_default(),
            dry_run: any.dry_run.unwrap_or(false),
        }))
    }
}

impl FleetDecisionRequest<'_> {
    /// What happened, with every name resolved in `world`: the telemetry, then the new requests.
    ///
    /// # Errors
    ///
    /// As [`TelemetryRequest::to_deltas`], or if nothing can be decided in this epoch.
    pub fn to_deltas(
        &self,
        world: &World,
        asks: &dyn Fn(RequestId) -> Option<ApplicationId>,
    ) -> Result<Vec<Delta>, WireError> {
        check_world(self.world.as_ref(), world)?;
        if self.epoch == Epoch::End {
            return inconsistent("epoch".into(), "nothing is to be decided at the end".into());
        }
        if self.next_boundary_ns.is_some() && self.epoch != Epoch::Boundary {
            let problem = "goes with the epoch \"boundary\"".into();
            return inconsistent("next_boundary_ns".into(), problem);
        }
        let mut list = deltas(world, asks, self.now_ns, (&self.telemetry, "telemetry"))?;
        for (i, new) in self.requests.iter().enumerate() {
            let application = match application(world, &new.application) {
                Ok(application) => application,
                Err(problem) => return inconsistent(format!("requests[{i}].application"), problem),
            };
            list.push(Delta {
                at: SimTime(new.arrived_ns.unwrap_or(self.now_ns)),
                event: Event::Arrived {
                    request: RequestId(new.id),
                    application,
                    context_tokens: new.context_tokens,
                },
            });
        }
        Ok(list)
    }

    /// The field that `error`, of a list that [`FleetDecisionRequest::to_deltas`] gave, is about.
    #[must_use]
    pub fn located(&self, error: DeltaError) -> WireError {
        let told = self.telemetry.len();
        if error.index < told {
            return WireError::of_delta(error, "telemetry");
        }
        let field = match error.field.as_str() {
            "request" => "id",
            "at" => "arrived_ns",
            other => other,
        };
        WireError {
            kind: WireErrorKind::Inconsistent,
            field: format!("requests[{}].{field}", error.index - told),
            problem: error.problem,
        }
    }

    /// Why a decision is due.
    #[must_use]
    pub fn epoch(&self) -> state::Epoch {
        match self.epoch {
            Epoch::Boundary => state::Epoch::Boundary,
            Epoch::Arrival => state::Epoch::Arrival,
            Epoch::End => state::Epoch::End,
        }
    }
}

impl WireError {
    /// `error` of a delta in the list that is called `list`.
    #[must_use]
    pub fn of_delta(error: DeltaError, list: &str) -> Self {
        let field = match error.field.as_str() {
            "at" => "at_ns",
            "ready_at" => "ready_at_ns",
            other => other,
        };
        Self {
            kind: WireErrorKind::Inconsistent,
            field: format!("{list}[{}].{field}", error.index),
            problem: error.problem,
        }
    }
}

fn application(world: &World, name: &str) -> Result<ApplicationId, String> {
    let found = world.applications.iter().position(|a| a.name == name);
    found.map(ApplicationId::at).ok_or_else(|| {
        let names: Vec<&str> = world.applications.iter().map(|a| a.name.as_str()).collect();
        let hint = did_you_mean(name, &names);
        format!("the world has no application {name:?}{hint}")
    })
}

/// The deltas of the list that is called `list`.
fn deltas(
    world: &World,
    asks: &dyn Fn(RequestId) -> Option<ApplicationId>,
    now_ns: u64,
    (wire, list): (&[TelemetryDelta<'_>], &str),
) -> Result<Vec<Delta>, WireError> {
    // Variants go by name, and the application of a request may be told in the same message only.
    let mut asked: BTreeMap<u64, ApplicationId> = BTreeMap::new();
    for delta in wire.iter().filter(|d| d.kind == DeltaKind::Arrived) {
        let named = delta.application.as_deref().map(|a| application(world, a));
        if let (Some(request), Some(Ok(application))) = (delta.request, named) {
            asked.insert(request, application);
        }
    }
    let asks = |id: RequestId| asks(id).or_else(|| asked.get(&id.0).copied());
    let mut found = Vec::with_capacity(wire.len());
    for (i, delta) in wire.iter().enumerate() {
        let located = |(field, problem): (&str, String)| WireError {
            kind: WireErrorKind::Inconsistent,
            field: format!("{list}[{i}].{field}"),
            problem: super::read::shorten(problem),
        };
        delta.check_fields().map_err(located)?;
        let event = delta.event(world, &asks).map_err(located)?;
        found.push(Delta {
            at: SimTime(delta.at_ns.unwrap_or(now_ns)),
            event,
        });
    }
    Ok(found)
}

type FieldProblem = (&'static str, String);

impl TelemetryDelta<'_> {
    /// A delta of `kind` without any other field.
    #[must_use]
    pub fn of(kind: DeltaKind) -> Self {
        Self {
            kind,
            at_ns: None,
            request: None,
            application: None,
            context_tokens: None,
            variant: None,
            hosts: Vec::new(),
            fragment: None,
            host: None,
            generated_tokens: None,
            lifecycle: None,
            ready_at_ns: None,
            span_s: None,
            utilization: None,
            power_w: None,
            speed: None,
            credits: None,
        }
    }

    /// Whether it has the fields of its kind, and no others.
    fn check_fields(&self) -> Result<(), FieldProblem> {
        let (needed, allowed) = self.kind.fields();
        for (field, there) in [
            ("request", self.request.is_some()),
            ("application", self.application.is_some()),
            ("context_tokens", self.context_tokens.is_some()),
            ("variant", self.variant.is_some()),
            ("hosts", !self.hosts.is_empty()),
            ("fragment", self.fragment.is_some()),
            ("host", self.host.is_some()),
            ("generated_tokens", self.generated_tokens.is_some()),
            ("lifecycle", self.lifecycle.is_some()),
            ("ready_at_ns", self.ready_at_ns.is_some()),
            ("span_s", self.span_s.is_some()),
            ("utilization", self.utilization.is_some()),
            ("power_w", self.power_w.is_some()),
            ("speed", self.speed.is_some()),
            ("credits", self.credits.is_some()),
        ] {
            let needs = needed.contains(&field);
            if needs && !there {
                return Err((
                    field,
                    format!("must be there with kind {}", self.kind.name()),
                ));
            }
            if there && !needs && !allowed.contains(&field) {
                return Err((field, format!("does not go with kind {}", self.kind.name())));
            }
        }
        Ok(())
    }

    fn event(
        &self,
        world: &World,
        asks: &dyn Fn(RequestId) -> Option<ApplicationId>,
    ) -> Result<Event, FieldProblem> {
        let request = RequestId(self.request.unwrap_or_default());
        let fragment = self.fragment.unwrap_or_default();
        let host = self.host.map(HostId);
        let there = HostId(self.host.unwrap_or_default());
        Ok(match self.kind {
            DeltaKind::Arrived => {
                let name = self.application.as_deref().unwrap_or_default();
                let application = application(world, name).map_err(|p| ("application", p))?;
                Event::Arrived {
                    request,
                    application,
                    context_tokens: self.context_tokens.unwrap_or(0),
                }
            }
            DeltaKind::Deployed => Event::Deployed {
                request,
                variant: self.variant_of(world, asks(request))?,
                hosts: self.hosts.iter().map(|&h| HostId(h)).collect(),
            },
            DeltaKind::Started => Event::Started {
                request,
                fragment,
                host,
            },
            DeltaKind::Finished => Event::Finished {
                request,
                fragment,
                host,
                generated_tokens: self.generated_tokens,
            },
            DeltaKind::Answered => Event::Answered { request },
            DeltaKind::Failed => Event::Failed { request },
            DeltaKind::Withdrawn => Event::Withdrawn { request },
            DeltaKind::Moved => Event::Moved {
                request,
                fragment,
                host: there,
            },
            DeltaKind::Host => Event::Host {
                host: there,
                lifecycle: self.seen()?,
            },
            DeltaKind::Sample => Event::Sample(self.sample(there)?),
        })
    }

    /// The variant; any one of a request that is not under way, which is found out later.
    fn variant_of(
        &self,
        world: &World,
        application: Option<ApplicationId>,
    ) -> Result<VariantId, FieldProblem> {
        let name = self.variant.as_deref().unwrap_or_default();
        match application {
            Some(application) => variant(world, application, name).map_err(|p| ("variant", p)),
            None => Ok(VariantId(0)),
        }
    }

    fn seen(&self) -> Result<live::Lifecycle, FieldProblem> {
        let ready_at = self.ready_at_ns.map(SimTime);
        let starts = matches!(
            self.lifecycle,
            Some(SeenLifecycle::Booting | SeenLifecycle::Crashed)
        );
        if ready_at.is_some() && !starts {
            let problem = "goes with the lifecycle booting or crashed".into();
            return Err(("ready_at_ns", problem));
        }
        Ok(match self.lifecycle.unwrap_or(SeenLifecycle::On) {
            SeenLifecycle::Off => live::Lifecycle::Off,
            SeenLifecycle::Booting => live::Lifecycle::Booting { ready_at },
            SeenLifecycle::On => live::Lifecycle::On,
            SeenLifecycle::Draining => live::Lifecycle::Draining,
            SeenLifecycle::Crashed => live::Lifecycle::Crashed { ready_at },
        })
    }

    fn sample(&self, host: HostId) -> Result<Sample, FieldProblem> {
        if let Some(span_s) = self.span_s
            && !(0.0..=MAX_SPAN_S).contains(&span_s)
        {
            let problem = format!("expected a number from 0 to {MAX_SPAN_S}, found {span_s}");
            return Err(("span_s", problem));
        }
        Ok(Sample {
            host,
            span: self.span_s.map(SimTime::from_seconds),
            utilization: self.utilization,
            power_w: self.power_w,
            speed: self.speed,
            credits: self.credits,
        })
    }
}

impl DeltaKind {
    /// The fields that a delta of this kind must have, and those that it may have.
    fn fields(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Arrived => (&["request", "application"], &["context_tokens"]),
            Self::Deployed => (&["request", "variant", "hosts"], &[]),
            Self::Started => (&["request", "fragment"], &["host"]),
            Self::Finished => (&["request", "fragment"], &["host", "generated_tokens"]),
            Self::Answered | Self::Failed | Self::Withdrawn => (&["request"], &[]),
            Self::Moved => (&["request", "fragment", "host"], &[]),
            Self::Host => (&["host", "lifecycle"], &["ready_at_ns"]),
            Self::Sample => (
                &["host"],
                &["span_s", "utilization", "power_w", "speed", "credits"],
            ),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Arrived => "arrived",
            Self::Deployed => "deployed",
            Self::Started => "started",
            Self::Finished => "finished",
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Withdrawn => "withdrawn",
            Self::Moved => "moved",
            Self::Host => "host",
            Self::Sample => "sample",
        }
    }
}

impl<'a> FleetResponse<'a> {
    /// The fleet of `live`, with its whole state if `whole`.
    #[must_use]
    pub fn of(world: &'a World, live: &Live, whole: bool) -> Self {
        let observation = live.observation(world, state::Epoch::Arrival);
        let hosts: Vec<HostSummary<'a>> = (0..world.hosts.len())
            .map(|h| HostSummary::of(world, live, HostId::at(h)))
            .collect();
        let mut totals = FleetTotals {
            requests: observation.active_count() as u64,
            waiting: observation.waiting().count() as u64,
            migrations: observation.migrations().count() as u64,
            ..FleetTotals::default()
        };
        let mut serving = 0.0_f64;
        for host in &hosts {
            let lifecycle = match host.lifecycle {
                Lifecycle::Off => "off",
                Lifecycle::Booting => "booting",
                Lifecycle::On => "on",
                Lifecycle::Draining => "draining",
            };
            *totals.hosts.entry(lifecycle.into()).or_default() += 1;
            totals.power_w += host.power_w;
            if host.lifecycle != Lifecycle::Off {
                totals.price_usd_per_hour += host.price_usd_per_hour;
            }
            if matches!(host.lifecycle, Lifecycle::On | Lifecycle::Draining) {
                totals.utilization += host.utilization;
                serving += 1.0;
            }
        }
        totals.utilization /= serving.max(1.0);
        Self {
            schema: SCHEMA,
            world: WorldName {
                name: Cow::Borrowed(&world.name),
                hash: Some(Cow::Borrowed(&world.hash)),
            },
            now_ns: live.now().0,
            totals,
            hosts,
            state: whole.then(|| FleetState::from_view(world, &observation.view())),
        }
    }
}

impl<'a> HostSummary<'a> {
    fn of(world: &'a World, live: &Live, id: HostId) -> Self {
        let spec = &world.hosts[id.index()];
        let observation = live.observation(world, state::Epoch::Arrival);
        let (lifecycle, ready_at_ns) = match live.lifecycle(id) {
            host::Lifecycle::Off => (Lifecycle::Off, None),
            host::Lifecycle::Booting { ready_at } => (Lifecycle::Booting, Some(ready_at.0)),
            host::Lifecycle::On => (Lifecycle::On, None),
            host::Lifecycle::Draining => (Lifecycle::Draining, None),
        };
        Self {
            name: Cow::Borrowed(&spec.name),
            site: Cow::Borrowed(&world.sites[spec.site.index()].name),
            size: Cow::Borrowed(&world.size_of(id.index()).name),
            lifecycle,
            ready_at_ns,
            utilization: observation.utilization(id),
            running: observation.running_count(id) as u64,
            queued: observation.queued_count(id) as u64,
            resident: observation.resident_count(id) as u64,
            ram_free_mib: observation.ram_free_mib(id),
            ram_mib: live.ram_mib(id),
            power_w: live.power_w(id),
            price_usd_per_hour: world.size_of(id.index()).price_usd_per_hour[spec.site.index()],
        }
    }
}

impl TelemetryResponse {
    /// What became of a list of deltas.
    #[must_use]
    pub fn of(now: SimTime, noted: &live::Noted) -> Self {
        Self {
            schema: SCHEMA,
            now_ns: now.0,
            applied: noted.applied as u64,
            ignored: noted.ignored.len() as u64,
            ignored_deltas: noted
                .ignored
                .iter()
                .take(MAX_IGNORED)
                .map(|&(delta, reason)| IgnoredDelta {
                    delta: delta as u64,
                    reason,
                })
                .collect(),
        }
    }
}
