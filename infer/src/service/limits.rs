//! `GET /v1/limits`: what the service takes, and of what world.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};
use twin::wire;
use twin::world::World;

use super::blocking::COMPUTATIONS_IN_FLIGHT;
use super::validate::MAX_VIOLATIONS;
use super::{App, Limits, READ_LIMIT, SHUTDOWN_LIMIT, WAIT_LIMIT};
use crate::{explain, pricing, registry, shadow};

pub(super) async fn limits(State(app): State<Arc<App>>) -> Response {
    let document = json!({
        "service": service(&app.limits),
        "state": state(),
        "world": world(&app.world),
        "what_if": what_if(),
        "explain": explanations(),
        "policies": policies(),
    });
    super::json(StatusCode::OK, document.to_string().into_bytes())
}

fn service(limits: &Limits) -> Value {
    json!({
        "in_flight_requests": limits.in_flight,
        "body_bytes": limits.body_bytes,
        "body_time_s": READ_LIMIT.as_secs(),
        "wait_for_decider_s": WAIT_LIMIT.as_secs(),
        "shutdown_s": SHUTDOWN_LIMIT.as_secs(),
        "computations_in_flight": COMPUTATIONS_IN_FLIGHT,
        "violations": MAX_VIOLATIONS,
    })
}

fn state() -> Value {
    json!({
        "schema": wire::SCHEMA,
        "hosts": wire::MAX_HOSTS,
        "requests": wire::MAX_REQUESTS,
        "transfers": wire::MAX_TRANSFERS,
        "migrations": wire::MAX_MIGRATIONS,
        "fragments_per_host": wire::MAX_LISTED,
        "fragments_per_variant": twin::world::MAX_FRAGMENTS,
        "applications": twin::world::MAX_APPLICATIONS,
    })
}

fn what_if() -> Value {
    let time = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    json!({
        "futures": { "least": pricing::MIN_FUTURES, "most": pricing::MAX_FUTURES, "default": pricing::FUTURES },
        "alternatives": pricing::MAX_ALTERNATIVES,
        "horizon_intervals": pricing::MAX_HORIZON_INTERVALS,
        "time_budget_ms": { "most": time(pricing::wire::MAX_TIME), "default": time(pricing::wire::TIME) },
    })
}

fn explanations() -> Value {
    json!({
        "futures": { "least": pricing::MIN_FUTURES, "most": super::explain::MAX_FUTURES, "default": explain::FUTURES },
        "actions": explain::MAX_ACTIONS,
        "decisions_priced": explain::MAX_PRICED,
        "answers_listed": explain::MAX_LISTED,
    })
}

fn policies() -> Value {
    json!({
        "held": registry::MAX_HELD,
        "previous": registry::MAX_PREVIOUS,
        "shadow_queue": shadow::QUEUE,
        "shadow_state_bytes": shadow::MAX_STATE_BYTES,
    })
}

/// The world that is decided for: what a client must name in its states, and how large they are.
fn world(world: &World) -> Value {
    let applications: Vec<Value> = world
        .applications
        .iter()
        .map(|application| {
            let variants = application.variants.iter();
            let variants: Vec<Value> = variants
                .map(|v| json!({ "name": v.name, "accuracy": v.accuracy, "fragments": v.fragments.len() }))
                .collect();
            json!({
                "name": application.name,
                "deadline_s": application.deadline.seconds(),
                "variants": variants,
            })
        })
        .collect();
    json!({
        "name": world.name,
        "hash": world.hash,
        "interval_s": world.interval.seconds(),
        "hosts": world.hosts.len(),
        "sites": world.sites.len(),
        "sizes": world.sizes.len(),
        "models": world.models.len(),
        "applications": applications,
        "power_actions_per_decision": twin::sequence::most_power_actions(world),
    })
}
