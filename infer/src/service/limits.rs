//! `GET /v1/limits`: what the service takes, and of what world.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use twin::wire;
use twin::world::{Application, World};
use utoipa::ToSchema;

use super::blocking::COMPUTATIONS_IN_FLIGHT;
use super::problem::Refusals;
use super::validate::MAX_VIOLATIONS;
use super::{App, Limits, WAIT_LIMIT};
use crate::{explain, pricing, registry, shadow};

/// The bounds of the service, and the world that it decides for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsDocument {
    /// The service.
    service: ServiceLimits,
    /// A state.
    state: StateLimits,
    /// The world.
    world: WorldSummary,
    /// A question of what if.
    what_if: WhatIfLimits,
    /// An explanation.
    explain: ExplainLimits,
    /// The policies that are held.
    policies: PolicyLimits,
}

/// The bounds of an explanation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainLimits {
    /// Futures.
    futures: FutureLimits,
    /// Actions that are explained.
    #[schema(value_type = u64)]
    actions: usize,
    /// Decisions that are priced for it.
    #[schema(value_type = u64)]
    decisions_priced: usize,
    /// Answers that are listed for a choice.
    #[schema(value_type = u64)]
    answers_listed: usize,
}

/// The bounds of the policies that are held.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyLimits {
    /// Policies.
    #[schema(value_type = u64)]
    held: usize,
    /// Policies that one can go back to.
    #[schema(value_type = u64)]
    previous: usize,
    /// Decisions that wait to be compared.
    #[schema(value_type = u64)]
    shadow_queue: usize,
    /// Bytes of a state that is compared.
    #[schema(value_type = u64)]
    shadow_state_bytes: usize,
}

/// The bounds of the service.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceLimits {
    /// Requests in flight.
    #[schema(value_type = u64)]
    in_flight_requests: usize,
    /// Bytes of a body.
    #[schema(value_type = u64)]
    body_bytes: usize,
    /// The time that a body may take, in s.
    body_time_s: f64,
    /// The time that a request waits for a decider, in s.
    wait_for_decider_s: f64,
    /// The time for requests to end once the service shuts down, in s.
    shutdown_s: f64,
    /// Prices and explanations that are computed at the same time.
    #[schema(value_type = u64)]
    computations_in_flight: usize,
    /// Violations that are listed.
    #[schema(value_type = u64)]
    violations: usize,
}

/// The bounds of a state.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StateLimits {
    /// Version of the schema.
    schema: u32,
    /// Hosts.
    #[schema(value_type = u64)]
    hosts: usize,
    /// Requests under way.
    #[schema(value_type = u64)]
    requests: usize,
    /// Transfers under way.
    #[schema(value_type = u64)]
    transfers: usize,
    /// Migrations.
    #[schema(value_type = u64)]
    migrations: usize,
    /// Fragments that one host lists.
    #[schema(value_type = u64)]
    fragments_per_host: usize,
    /// Fragments of a variant.
    #[schema(value_type = u64)]
    fragments_per_variant: usize,
    /// Applications.
    #[schema(value_type = u64)]
    applications: usize,
}

/// How many futures may be sampled.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FutureLimits {
    /// The fewest.
    #[schema(value_type = u64)]
    least: usize,
    /// The most.
    #[schema(value_type = u64)]
    most: usize,
    /// Unless a question says otherwise.
    #[schema(value_type = u64)]
    default: usize,
}

/// How long an answer may take.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TimeLimits {
    /// The most, in ms.
    most: u64,
    /// Unless a question says otherwise, in ms.
    default: u64,
}

/// The bounds of a question of what if.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WhatIfLimits {
    /// Futures.
    futures: FutureLimits,
    /// Decisions to be priced.
    #[schema(value_type = u64)]
    alternatives: usize,
    /// Intervals from now.
    horizon_intervals: u32,
    /// Time.
    time_budget_ms: TimeLimits,
}

/// A variant of an application.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VariantSummary {
    /// Its name.
    name: String,
    /// Its accuracy.
    #[schema(minimum = 0, maximum = 1)]
    accuracy: f64,
    /// Its fragments.
    #[schema(value_type = u64)]
    fragments: usize,
}

/// An application.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplicationSummary {
    /// Its name.
    name: String,
    /// Its deadline, in s.
    deadline_s: f64,
    /// Its variants, in their order.
    #[schema(max_items = 16)]
    variants: Vec<VariantSummary>,
}

/// The world that is decided for: what states must name, and how large they are.
#[derive(Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WorldSummary {
    /// Its name.
    name: String,
    /// Its hash in hexadecimal.
    hash: String,
    /// Length of an interval, in s.
    interval_s: f64,
    /// Hosts.
    #[schema(value_type = u64)]
    hosts: usize,
    /// Sites.
    #[schema(value_type = u64)]
    sites: usize,
    /// Sizes.
    #[schema(value_type = u64)]
    sizes: usize,
    /// Models.
    #[schema(value_type = u64)]
    models: usize,
    /// Applications, in their order.
    #[schema(max_items = 256)]
    applications: Vec<ApplicationSummary>,
    /// The most hosts that one decision turns on or off.
    #[schema(value_type = u64)]
    power_actions_per_decision: usize,
}

/// Tell the bounds of the service
///
/// What it takes, how long it waits, and the world that it decides for.
#[utoipa::path(
    get,
    path = "/v1/limits",
    operation_id = "limits",
    tag = "operations",
    responses(
        (status = 200, description = "The bounds.", body = LimitsDocument),
        Refusals,
    ),
    security(("bearer" = []), ()),
)]
pub(super) async fn limits(State(app): State<Arc<App>>) -> Response {
    let document = LimitsDocument {
        service: service(&app.limits),
        state: state(),
        world: world(&app.world),
        what_if: what_if(),
        explain: explanations(),
        policies: policies(),
    };
    // A document of strings and finite numbers always serializes.
    let body = serde_json::to_vec(&document).unwrap_or_default();
    super::json(StatusCode::OK, body)
}

fn service(limits: &Limits) -> ServiceLimits {
    ServiceLimits {
        in_flight_requests: limits.in_flight,
        body_bytes: limits.body_bytes,
        body_time_s: limits.body.as_secs_f64(),
        wait_for_decider_s: WAIT_LIMIT.as_secs_f64(),
        shutdown_s: limits.shutdown.as_secs_f64(),
        computations_in_flight: COMPUTATIONS_IN_FLIGHT,
        violations: MAX_VIOLATIONS,
    }
}

fn state() -> StateLimits {
    StateLimits {
        schema: wire::SCHEMA,
        hosts: wire::MAX_HOSTS,
        requests: wire::MAX_REQUESTS,
        transfers: wire::MAX_TRANSFERS,
        migrations: wire::MAX_MIGRATIONS,
        fragments_per_host: wire::MAX_LISTED,
        fragments_per_variant: twin::world::MAX_FRAGMENTS,
        applications: twin::world::MAX_APPLICATIONS,
    }
}

fn what_if() -> WhatIfLimits {
    let time = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    WhatIfLimits {
        futures: FutureLimits {
            least: pricing::MIN_FUTURES,
            most: pricing::MAX_FUTURES,
            default: pricing::FUTURES,
        },
        alternatives: pricing::MAX_ALTERNATIVES,
        horizon_intervals: pricing::MAX_HORIZON_INTERVALS,
        time_budget_ms: TimeLimits {
            most: time(pricing::wire::MAX_TIME),
            default: time(pricing::wire::TIME),
        },
    }
}

fn explanations() -> ExplainLimits {
    ExplainLimits {
        futures: FutureLimits {
            least: pricing::MIN_FUTURES,
            most: super::explain::MAX_FUTURES,
            default: explain::FUTURES,
        },
        actions: explain::MAX_ACTIONS,
        decisions_priced: explain::MAX_PRICED,
        answers_listed: explain::MAX_LISTED,
    }
}

fn policies() -> PolicyLimits {
    PolicyLimits {
        held: registry::MAX_HELD,
        previous: registry::MAX_PREVIOUS,
        shadow_queue: shadow::QUEUE,
        shadow_state_bytes: shadow::MAX_STATE_BYTES,
    }
}

fn world(world: &World) -> WorldSummary {
    WorldSummary {
        name: world.name.clone(),
        hash: world.hash.clone(),
        interval_s: world.interval.seconds(),
        hosts: world.hosts.len(),
        sites: world.sites.len(),
        sizes: world.sizes.len(),
        models: world.models.len(),
        applications: world.applications.iter().map(application).collect(),
        power_actions_per_decision: twin::sequence::most_power_actions(world),
    }
}

fn application(application: &Application) -> ApplicationSummary {
    let variants = application.variants.iter().map(|variant| VariantSummary {
        name: variant.name.clone(),
        accuracy: variant.accuracy,
        fragments: variant.fragments.len(),
    });
    ApplicationSummary {
        name: application.name.clone(),
        deadline_s: application.deadline.seconds(),
        variants: variants.collect(),
    }
}
