//! The price of decisions, the checker alone, limits and readiness, over HTTP.

use infer::pricing::wire::{ValidateResponse, WhatIfResponse};
use infer::service::Limits;
use serde_json::{Value, json};
use twin::observation::FleetView;
use twin::wire::{DecisionRequest, DecisionResponse, Problem};
use twin::world::World;

use crate::support::{Running, agent, busy_view, decider, small, watch};

fn start() -> Running {
    let deciders = vec![decider(&small(), "least-loaded")];
    Running::start(deciders, Limits::default())
}

fn post(service: &Running, path: &str, body: &Value) -> (u16, Vec<u8>) {
    let mut response = agent()
        .post(format!("{}{path}", service.url))
        .content_type("application/json")
        .send(body.to_string().as_bytes())
        .expect("the service answers");
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_vec().expect("a body");
    (status, body)
}

fn get(service: &Running, path: &str) -> (u16, Value) {
    let mut response = agent()
        .get(format!("{}{path}", service.url))
        .call()
        .expect("the service answers");
    let body = response.body_mut().read_json().expect("JSON");
    (response.status().as_u16(), body)
}

/// The first moment of the small world: nobody has asked for anything yet.
fn quiet(world: &World) -> FleetView {
    let mut first = None;
    watch(world, "greedy", 1, 1, &mut |observation| {
        first.get_or_insert_with(|| observation.view());
    });
    first.expect("an episode begins at a boundary")
}

/// A question about the state of `view`, with `more` fields.
fn question(world: &World, view: &FleetView, more: Value) -> Value {
    let request = DecisionRequest::from_view(world, view);
    let mut question = serde_json::to_value(request).expect("a view serializes");
    let (Value::Object(fields), Value::Object(more)) = (&mut question, more) else {
        panic!("both are objects");
    };
    fields.extend(more);
    question
}

fn turn(host: u32, on: bool) -> Value {
    json!({ "provisioning": [{ "host": host, "on": on }], "deployments": [] })
}

#[test]
fn a_host_that_is_not_needed_costs_what_its_price_and_idle_power_say() {
    let world = small();
    let service = start();
    let asked = question(
        &world,
        &quiet(&world),
        json!({
            "alternatives": [
                { "name": "nothing", "decision": { "provisioning": [], "deployments": [] } },
                { "name": "second", "decision": turn(1, true) },
            ],
            "futures": 8, "horizon_intervals": 4, "seed": 3,
        }),
    );
    let (status, body) = post(&service, "/v1/what-if", &asked);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let answer: WhatIfResponse<'_> = serde_json::from_slice(&body).expect("of the schema");
    assert_eq!((answer.futures, answer.seed), (8, 3));
    assert!((answer.horizon_s - 20.0).abs() < 1e-9);
    let [nothing, second] = &answer.alternatives[..] else {
        panic!("two were asked for");
    };
    assert_eq!(
        (nothing.name.as_ref(), second.name.as_ref()),
        ("nothing", "second")
    );
    // What changes nothing differs in nothing from doing nothing, in any future.
    assert_eq!(nothing.qos, answer.nothing);
    let same = nothing.against_nothing.penalty_s;
    assert_eq!(
        (same.mean, same.ci95_low, same.ci95_high),
        (0.0, Some(0.0), Some(0.0))
    );
    // The host is billed from its boot to the end of the horizon unless the greedy policy turns
    // it off before: at most 20 s at 0.3 USD per hour.
    let cost = second.against_nothing.cost_usd.mean;
    assert!(cost > 0.0 && cost <= 20.0 * 0.3 / 3600.0 + 1e-12, "{cost}");
    let energy = second.against_nothing.energy_j.mean;
    assert!(energy > 0.0, "{energy}");
    assert_eq!(
        post(&service, "/v1/what-if", &asked).1,
        body,
        "the seed fixes the answer"
    );
}

#[test]
fn the_services_own_decision_is_priced_where_it_is_asked_for() {
    let world = small();
    let view = busy_view(&world);
    let service = start();
    let decided = post(
        &service,
        "/v1/decisions",
        &question(&world, &view, json!({})),
    )
    .1;
    let decided = DecisionResponse::from_json(&decided).expect("of the schema");
    let own = serde_json::to_value(&decided.decision).expect("serializes");
    for reaction in ["greedy", "held"] {
        let more = json!({
            "alternatives": [
                { "decision": own },
                { "decision": { "provisioning": [], "deployments": [] } },
            ],
            "service_decision": true, "futures": 4, "reaction": reaction,
        });
        let (status, body) = post(&service, "/v1/what-if", &question(&world, &view, more));
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let answer: WhatIfResponse<'_> = serde_json::from_slice(&body).expect("of the schema");
        let service_price = answer.service.expect("it was asked for");
        assert_eq!(service_price.policy, "least-loaded");
        assert_eq!(service_price.decision, decided.decision);
        let alternative = &answer.alternatives[0];
        assert_eq!(alternative.name, "0");
        assert_eq!(alternative.qos, service_price.qos);
        let against = alternative.against_service.expect("there is one");
        assert!(against.penalty_s.mean.abs() < 1e-12);
        // Doing nothing differs from the service as the service does from doing nothing.
        let nothing = answer.alternatives[1]
            .against_service
            .expect("there is one");
        let own = service_price.against_nothing;
        assert!((nothing.penalty_s.mean + own.penalty_s.mean).abs() < 1e-9);
        assert!((nothing.response_mean_s.mean + own.response_mean_s.mean).abs() < 1e-9);
    }
}

#[test]
fn wrong_questions_name_the_field() {
    let world = small();
    let service = start();
    let view = quiet(&world);
    let one = json!([{ "decision": turn(1, true) }]);
    for (more, field) in [
        (json!({}), "alternatives"),
        (json!({ "alternatives": one, "futures": 1 }), "futures"),
        (json!({ "alternatives": one, "futures": 513 }), "futures"),
        (json!({ "alternatives": one, "futures": null }), "futures"),
        (
            json!({ "alternatives": one, "horizon_intervals": 0 }),
            "horizon_intervals",
        ),
        (
            json!({ "alternatives": one, "time_budget_ms": 20_001 }),
            "time_budget_ms",
        ),
        (
            json!({ "alternatives": one, "reaction": "none" }),
            "reaction",
        ),
        (json!({ "alternatives": one, "seed": -1 }), "seed"),
        (json!({ "alternatives": one, "other": 1 }), "other"),
        (
            json!({ "alternatives": vec![one[0].clone(); 65] }),
            "alternatives",
        ),
        (
            json!({ "alternatives": [{ "name": "x".repeat(101), "decision": turn(1, true) }] }),
            "alternatives[0].name",
        ),
        (
            json!({ "alternatives": [{ "decision": turn(1, true) }, { "decision": turn(7, true) }] }),
            "alternatives[1].decision.provisioning[0].host",
        ),
        (
            json!({ "alternatives": [{ "decision": {
                "provisioning": [],
                "deployments": [{ "request": 9, "variant": "split", "hosts": [0, 0] }],
            } }] }),
            "alternatives[0].decision.deployments[0].request",
        ),
    ] {
        let (status, body) = post(&service, "/v1/what-if", &question(&world, &view, more));
        let problem: Problem = serde_json::from_slice(&body).expect("a problem document");
        assert_eq!(
            (status, problem.field.as_deref()),
            (422, Some(field)),
            "{problem:?}"
        );
    }
}

#[test]
fn what_takes_too_long_is_given_up() {
    let world = small();
    let service = start();
    let more = json!({
        "alternatives": vec![json!({ "decision": turn(1, true) }); 64],
        "futures": 512, "horizon_intervals": 240, "time_budget_ms": 1,
    });
    let asked = question(&world, &busy_view(&world), more);
    // Boundaries only: a busy view may be at an arrival.
    let mut asked = asked;
    asked["state"]["epoch"] = "boundary".into();
    let (status, body) = post(&service, "/v1/what-if", &asked);
    let problem: Problem = serde_json::from_slice(&body).expect("a problem document");
    assert_eq!(status, 503, "{problem:?}");
    assert!(
        problem.detail.contains("of 33280 rollouts within 1 ms"),
        "{problem:?}"
    );
}

#[test]
fn every_violation_is_told_with_its_field() {
    let world = small();
    let service = start();
    let view = busy_view(&world);
    let waiting = view.requests.iter().find(|r| r.deployed.is_none());
    let id = waiting.expect("a request waits").id.0;
    let mut asked = question(
        &world,
        &view,
        json!({ "decision": {
        "provisioning": [{ "host": 0, "on": true }, { "host": 9, "on": true }],
        "deployments": [
            { "request": 999_999, "variant": "split", "hosts": [0, 0] },
            { "request": id, "variant": "none such", "hosts": [0] },
        ],
    } }),
    );
    asked["state"]["epoch"] = "boundary".into();
    let validate = |asked: &Value| {
        let (status, body) = post(&service, "/v1/decisions:validate", asked);
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice::<ValidateResponse>(&body).expect("of the schema")
    };
    let answer = validate(&asked);
    assert!(!answer.feasible && !answer.more);
    let fields: Vec<&str> = answer.violations.iter().map(|v| v.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "decision.provisioning[1].host",
            "decision.deployments[0].request",
            "decision.deployments[1].variant",
        ]
    );
    assert!(
        answer.violations[2].problem.contains("none such"),
        "{answer:?}"
    );
    let many: Vec<Value> = (0..150).map(|_| json!({ "host": 9, "on": true })).collect();
    asked["decision"] = json!({ "provisioning": many, "deployments": [] });
    let answer = validate(&asked);
    assert_eq!((answer.violations.len(), answer.more), (100, true));
    asked["decision"] = json!({ "provisioning": [], "deployments": [] });
    assert!(validate(&asked).feasible);
}

#[test]
fn the_limits_and_the_world_can_be_asked_for() {
    let limits = Limits {
        in_flight: 7,
        body_bytes: 12_345,
        ..Limits::default()
    };
    let service = Running::start(vec![decider(&small(), "greedy")], limits);
    let (status, found) = get(&service, "/v1/limits");
    assert_eq!(status, 200);
    assert_eq!(found["service"]["in_flight_requests"], 7);
    assert_eq!(found["service"]["body_bytes"], 12_345);
    assert_eq!(found["world"]["name"], "small");
    assert_eq!(found["world"]["hosts"], 3);
    assert_eq!(
        found["world"]["applications"][0]["variants"][0]["fragments"],
        2
    );
    assert_eq!(found["what_if"]["alternatives"], 64);
    assert_eq!(
        get(&service, "/readyz"),
        (200, json!({ "status": "ready" }))
    );
}
