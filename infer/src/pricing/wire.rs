//! The messages of `POST /v1/what-if` and `POST /v1/decisions:validate`, version 1.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use twin::decision::{self, Decision};
use twin::ids::{RequestId, VariantId};
use twin::observation::FleetView;
use twin::statistics;
use twin::what_if::Reaction;
use twin::wire::{
    DecisionBody, DecisionRequest, FleetState, SCHEMA, WireError, WireErrorKind, WorldName,
    bounded, check_schema, from_json, present,
};
use twin::world::World;
use utoipa::ToSchema;

use super::{
    FUTURES, MAX_ALTERNATIVES, MAX_FUTURES, MAX_HORIZON_INTERVALS, MIN_FUTURES, Plan, QosEstimate,
};

/// The most time that a question may take.
pub const MAX_TIME: Duration = Duration::from_secs(20);
/// Time that a question may take unless it says otherwise.
pub const TIME: Duration = Duration::from_secs(5);
/// The most characters of an alternative's name.
const MAX_NAME_CHARS: usize = 100;

/// Asks what decisions are expected to lead to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfRequest<'a> {
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
    /// The decisions to be priced, next to doing nothing; none if absent.
    #[serde(
        borrow,
        default,
        deserialize_with = "bounded::<_, _, MAX_ALTERNATIVES>"
    )]
    #[schema(max_items = 64)]
    pub alternatives: Vec<Alternative<'a>>,
    /// Whether the service's own decision is priced as well, and compared with.
    #[serde(default)]
    pub service_decision: bool,
    /// Number of sampled futures; [`FUTURES`] if absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[schema(value_type = Option<u32>, minimum = 2, maximum = 512)]
    pub futures: Option<usize>,
    /// Intervals from now over which hosts are billed and requests arrive; if absent, as long as
    /// the oracle looks ahead.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[schema(minimum = 1, maximum = 240)]
    pub horizon_intervals: Option<u32>,
    /// What is decided later: `greedy` by what is found then, or `held` as it is decided after
    /// doing nothing, which prices the change itself; `greedy` if absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub reaction: Option<ReactionName>,
    /// What the futures are drawn from; 0 if absent.
    #[serde(default)]
    pub seed: u64,
    /// The most time that the answer may take, in ms.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[schema(minimum = 1, maximum = 20_000)]
    pub time_budget_ms: Option<u64>,
}

/// A decision to be priced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Alternative<'a> {
    /// What the answer calls it; its position if absent.
    #[serde(
        borrow,
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    #[schema(max_length = 100)]
    pub name: Option<Cow<'a, str>>,
    /// The decision.
    #[serde(borrow)]
    pub decision: DecisionBody<'a>,
}

/// What is decided after the decision that is priced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReactionName {
    /// The twin's greedy policy decides by what it finds.
    Greedy,
    /// It decides as it does after doing nothing.
    Held,
}

impl From<ReactionName> for Reaction {
    fn from(name: ReactionName) -> Self {
        match name {
            ReactionName::Greedy => Self::Greedy,
            ReactionName::Held => Self::Held,
        }
    }
}

impl From<Reaction> for ReactionName {
    fn from(reaction: Reaction) -> Self {
        match reaction {
            Reaction::Greedy => Self::Greedy,
            Reaction::Held => Self::Held,
        }
    }
}

/// A question with every name resolved.
#[derive(Clone, Debug)]
pub struct Question {
    /// The situation.
    pub view: FleetView,
    /// The decisions, with what the answer calls them.
    pub alternatives: Vec<(String, Decision)>,
    /// Whether the service's own decision is asked for.
    pub service_decision: bool,
    /// How they are priced.
    pub plan: Plan,
    /// The most time that the answer may take.
    pub time: Duration,
}

fn wrong<T>(field: impl Into<String>, problem: impl Into<String>) -> Result<T, WireError> {
    Err(WireError {
        kind: WireErrorKind::Schema,
        field: field.into(),
        problem: problem.into(),
    })
}

impl<'a> WhatIfRequest<'a> {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// If it is not JSON or not of the schema; the error names the field.
    pub fn from_json(json: &'a [u8]) -> Result<Self, WireError> {
        let request: Self = from_json(json)?;
        check_schema(request.schema)?;
        Ok(request)
    }

    /// The question, with every name resolved in `world` and every bound checked. Whether the
    /// decisions are feasible is for the checker to say.
    ///
    /// # Errors
    ///
    /// If it is of another world, names what there is not, or asks for too much.
    pub fn resolve(self, world: &World) -> Result<Question, WireError> {
        self.check_bounds()?;
        let state = DecisionRequest {
            schema: self.schema,
            world: self.world,
            state: self.state,
        };
        let view = state.to_view(world)?;
        let mut alternatives = Vec::with_capacity(self.alternatives.len());
        for (k, alternative) in self.alternatives.iter().enumerate() {
            let mut decision = Decision::none();
            let body = &alternative.decision;
            body.to_decision(world, &view, &mut decision)
                .map_err(|mut error| {
                    error.field = format!("alternatives[{k}].{}", error.field);
                    error
                })?;
            let name = alternative.name.as_deref();
            alternatives.push((name.map_or_else(|| k.to_string(), Into::into), decision));
        }
        let mut plan = Plan::new(world, view.epoch, self.horizon_intervals);
        plan.futures = self.futures.unwrap_or(FUTURES);
        plan.seed = self.seed;
        plan.reaction = self.reaction.map_or(Reaction::Greedy, Into::into);
        Ok(Question {
            view,
            alternatives,
            service_decision: self.service_decision,
            plan,
            time: self.time_budget_ms.map_or(TIME, Duration::from_millis),
        })
    }

    fn check_bounds(&self) -> Result<(), WireError> {
        if self.alternatives.is_empty() && !self.service_decision {
            let problem = "there is nothing to price: name a decision, or ask for service_decision";
            return Err(WireError {
                kind: WireErrorKind::Inconsistent,
                field: "alternatives".into(),
                problem: problem.into(),
            });
        }
        let most_ms = u64::try_from(MAX_TIME.as_millis()).unwrap_or(u64::MAX);
        let futures = self.futures.map(|n| n as u64);
        let intervals = self.horizon_intervals.map(u64::from);
        for (field, found, least, most) in [
            ("futures", futures, MIN_FUTURES as u64, MAX_FUTURES as u64),
            (
                "horizon_intervals",
                intervals,
                1,
                u64::from(MAX_HORIZON_INTERVALS),
            ),
            ("time_budget_ms", self.time_budget_ms, 1, most_ms),
        ] {
            if let Some(found) = found
                && !(least..=most).contains(&found)
            {
                let problem = format!("must lie between {least} and {most}, found {found}");
                return wrong(field, problem);
            }
        }
        for (k, alternative) in self.alternatives.iter().enumerate() {
            let name = alternative.name.as_deref().unwrap_or_default();
            if name.chars().nth(MAX_NAME_CHARS).is_some() {
                let problem = format!("may have {MAX_NAME_CHARS} characters");
                return wrong(format!("alternatives[{k}].name"), problem);
            }
        }
        Ok(())
    }
}

/// A mean with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Lower end of the interval; not there where there is but one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95_low: Option<f64>,
    /// Upper end of the interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95_high: Option<f64>,
}

impl From<statistics::Estimate> for Estimate {
    fn from(estimate: statistics::Estimate) -> Self {
        Self {
            mean: estimate.mean,
            ci95_low: estimate.ci95_low,
            ci95_high: estimate.ci95_high,
        }
    }
}

/// As [`QosEstimate`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the fields are those of QosEstimate")]
pub struct Qos {
    pub energy_j: Estimate,
    pub cost_usd: Estimate,
    pub response_mean_s: Estimate,
    pub response_p95_s: Estimate,
    pub sla_violation_ratio: Estimate,
    pub accuracy_mean: Estimate,
    pub carbon_g: Estimate,
    pub penalty_s: Estimate,
    pub objective: Estimate,
}

impl From<QosEstimate> for Qos {
    fn from(qos: QosEstimate) -> Self {
        Self {
            energy_j: qos.energy_j.into(),
            cost_usd: qos.cost_usd.into(),
            response_mean_s: qos.response_mean_s.into(),
            response_p95_s: qos.response_p95_s.into(),
            sla_violation_ratio: qos.sla_violation_ratio.into(),
            accuracy_mean: qos.accuracy_mean.into(),
            carbon_g: qos.carbon_g.into(),
            penalty_s: qos.penalty_s.into(),
            objective: qos.objective.into(),
        }
    }
}

/// Answers a [`WhatIfRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WhatIfResponse<'a> {
    /// Version of the schema: [`SCHEMA`].
    pub schema: u32,
    /// Number of sampled futures.
    #[schema(value_type = u32, minimum = 2, maximum = 512)]
    pub futures: usize,
    /// What they were drawn from.
    pub seed: u64,
    /// Time from now over which hosts are billed and requests arrive, in s.
    #[schema(minimum = 0)]
    pub horizon_s: f64,
    /// What is decided later.
    pub reaction: ReactionName,
    /// To do nothing: hosts stay as they are, requests are left to the twin's greedy policy.
    pub nothing: Qos,
    /// The service's own decision, where it was asked for.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServicePrice<'a>>,
    /// The decisions, in the order of the question.
    #[serde(borrow)]
    #[schema(max_items = 64)]
    pub alternatives: Vec<AlternativePrice<'a>>,
}

/// The price of the service's own decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServicePrice<'a> {
    /// The policy that took it; `none` where neither the policy nor the fallback did.
    #[serde(borrow)]
    pub policy: Cow<'a, str>,
    /// SHA-256 of the model's weights, where the policy is a model.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub model_sha256: Option<Cow<'a, str>>,
    /// The decision.
    #[serde(borrow)]
    pub decision: DecisionBody<'a>,
    /// What it is expected to lead to.
    pub qos: Qos,
    /// The difference to doing nothing.
    pub against_nothing: Qos,
}

/// The price of a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AlternativePrice<'a> {
    /// What the question calls it.
    #[serde(borrow)]
    pub name: Cow<'a, str>,
    /// What it is expected to lead to.
    pub qos: Qos,
    /// The difference to doing nothing.
    pub against_nothing: Qos,
    /// The difference to the service's own decision, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against_service: Option<Qos>,
}

/// Asks whether a decision can be carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateRequest<'a> {
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
    /// The decision.
    #[serde(borrow)]
    pub decision: DecisionBody<'a>,
}

impl<'a> ValidateRequest<'a> {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// If it is not JSON or not of the schema; the error names the field.
    pub fn from_json(json: &'a [u8]) -> Result<Self, WireError> {
        let request: Self = from_json(json)?;
        check_schema(request.schema)?;
        Ok(request)
    }

    /// The question, with every name resolved in `world` as far as there is such a thing.
    ///
    /// # Errors
    ///
    /// If the state is of another world or names what there is not.
    pub fn resolve(self, world: &World) -> Result<Judged, WireError> {
        let state = DecisionRequest {
            schema: self.schema,
            world: self.world,
            state: self.state,
        };
        let view = state.to_view(world)?;
        let mut body = self.decision;
        let deployments = std::mem::take(&mut body.deployments);
        let mut decision = Decision::none();
        body.to_decision(world, &view, &mut decision)?;
        let mut unknown = Vec::new();
        for (index, deployment) in deployments.into_iter().enumerate() {
            let request = RequestId(deployment.request);
            let alone = DecisionBody {
                deployments: vec![deployment],
                ..DecisionBody::default()
            };
            if let Err(mut error) = alone.to_decision(world, &view, &mut decision) {
                let path = format!("decision.deployments[{index}]");
                error.field = error.field.replacen("decision.deployments[0]", &path, 1);
                unknown.push((index, error));
                // Keeps the positions of the others; the checker refuses it too.
                decision.deployments.push(decision::Deployment {
                    request,
                    variant: VariantId(u16::MAX),
                    hosts: Vec::new(),
                });
            }
        }
        Ok(Judged {
            view,
            decision,
            unknown,
        })
    }
}

/// What the checker is asked about.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The situation.
    pub view: FleetView,
    /// The decision.
    pub decision: Decision,
    /// The deployments that name what there is not, by position; the checker refuses them too.
    pub unknown: Vec<(usize, WireError)>,
}

/// Answers a [`ValidateRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ValidateResponse {
    /// Version of the schema: [`SCHEMA`].
    pub schema: u32,
    /// Whether the decision can be carried out.
    pub feasible: bool,
    /// Why not, in the order of the fields.
    #[schema(max_items = 100)]
    pub violations: Vec<Violation>,
    /// Whether there are more violations than are listed.
    pub more: bool,
}

/// Why a decision cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Violation {
    /// Path of the field in the request.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl ValidateResponse {
    /// The answer that lists `violations`, up to `most`.
    #[must_use]
    pub fn new(mut violations: Vec<Violation>, most: usize) -> Self {
        let more = violations.len() > most;
        violations.truncate(most);
        Self {
            schema: SCHEMA,
            feasible: violations.is_empty(),
            violations,
            more,
        }
    }
}
