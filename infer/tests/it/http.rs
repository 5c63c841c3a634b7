//! Statuses, problem documents, limits, metrics and shutdown.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use infer::service::Limits;
use serde_json::Value;
use twin::wire::{DecisionRequest, DecisionResponse, Problem};

use crate::support::{
    Broken, Panicking, Reckless, Running, agent, busy_view, decider, decider_with, small,
};

fn start() -> Running {
    Running::start(vec![decider(&small(), "least-loaded")], Limits::default())
}

/// A consistent request, as JSON to be changed.
fn request() -> Value {
    let world = small();
    let view = busy_view(&world);
    serde_json::to_value(DecisionRequest::from_view(&world, &view)).expect("a view serializes")
}

fn post(service: &Running, body: &[u8]) -> (u16, Vec<u8>) {
    let mut response = agent()
        .post(format!("{}/v1/decisions", service.url))
        .content_type("application/json")
        .send(body)
        .expect("the service answers");
    (
        response.status().as_u16(),
        response.body_mut().read_to_vec().expect("a body"),
    )
}

fn problem(service: &Running, body: &str) -> Problem {
    let (status, body) = post(service, body.as_bytes());
    let problem: Problem = serde_json::from_slice(&body).expect("a problem document");
    assert_eq!(problem.status, status);
    problem
}

fn metrics(service: &Running) -> String {
    let mut response = agent()
        .get(format!("{}/metrics", service.url))
        .call()
        .expect("the service answers");
    response.body_mut().read_to_string().expect("text")
}

#[test]
fn a_consistent_state_gets_a_decision() {
    let service = start();
    let (status, body) = post(&service, request().to_string().as_bytes());
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    let response = DecisionResponse::from_json(&body).expect("of the schema");
    assert_eq!(
        (response.policy.as_ref(), response.fallback),
        ("least-loaded", false)
    );
    assert!(!response.decision.deployments.is_empty());
    let page = metrics(&service);
    assert!(
        page.contains("infer_decisions_total{outcome=\"policy\"} 1"),
        "{page}"
    );
    assert!(
        page.contains("infer_decision_duration_seconds_count 1"),
        "{page}"
    );
    assert!(page.contains("infer_in_flight_requests 0"), "{page}");
}

/// Changes the field at `pointer` of a consistent request.
fn changed(pointer: &str, value: Value) -> String {
    let mut request = request();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    match request.pointer_mut(parent).expect("the parent is there") {
        Value::Object(object) => drop(object.insert(name.into(), value)),
        Value::Array(list) => list[name.parse::<usize>().expect("a position")] = value,
        other => panic!("{other} has no members"),
    }
    request.to_string()
}

#[test]
fn wrong_states_get_422_with_the_field() {
    let service = start();
    for (pointer, value, field) in [
        ("/schema", 2.into(), "schema"),
        ("/other", 1.into(), "other"),
        ("/world/name", "large".into(), "world.name"),
        ("/world/hash", "0".into(), "world.hash"),
        ("/world", Value::Null, "world"),
        ("/state/now_ns", (-1).into(), "state.now_ns"),
        ("/state/now_ns", Value::Null, "state.now_ns"),
        ("/state/now_ns", 1.5.into(), "state.now_ns"),
        ("/state/epoch", "never".into(), "state.epoch"),
        ("/state/epoch", "end".into(), "state.epoch"),
        (
            "/state/next_boundary_ns",
            0.into(),
            "state.next_boundary_ns",
        ),
        ("/state/hosts", Value::Array(vec![]), "state.hosts"),
        ("/state/hosts/0/name", "x".into(), "state.hosts[0].name"),
        (
            "/state/hosts/0/lifecycle",
            "asleep".into(),
            "state.hosts[0].lifecycle",
        ),
        ("/state/hosts/0/spare", true.into(), "state.hosts[0].spare"),
        (
            "/state/requests/0/application",
            "captoin".into(),
            "state.requests[0].application",
        ),
        (
            "/state/requests/0/deployed",
            Value::Null,
            "state.requests[0].deployed",
        ),
        (
            "/state/arrival_rates/0/per_s/1",
            (-1.0).into(),
            "state.arrival_rates[0].per_s",
        ),
        (
            "/state/arrival_rates/0/application",
            "x".into(),
            "state.arrival_rates[0].application",
        ),
    ] {
        let problem = problem(&service, &changed(pointer, value.clone()));
        assert_eq!(
            (problem.status, problem.field.as_deref()),
            (422, Some(field)),
            "{pointer} = {value}: {problem:?}"
        );
    }
    let suggestion = problem(
        &service,
        &changed("/state/requests/0/application", "captoin".into()),
    );
    assert!(suggestion.detail.contains("caption"), "{suggestion:?}");
    let page = metrics(&service);
    assert!(
        page.contains("infer_rejected_requests_total{status=\"422\"} 20"),
        "{page}"
    );
}

#[test]
fn what_is_not_json_gets_400_with_the_field() {
    let service = start();
    let now = request()["state"]["now_ns"].to_string();
    for token in ["NaN", "Infinity", "1e999", "01"] {
        let body = request()
            .to_string()
            .replace(&format!("\"now_ns\":{now}"), &format!("\"now_ns\":{token}"));
        let problem = problem(&service, &body);
        assert_eq!(
            (problem.status, problem.field.as_deref()),
            (400, Some("state.now_ns")),
            "{token}"
        );
    }
    for body in ["", "{", "[1", "\u{0}", "{}{}", &"[".repeat(100_000)] {
        assert!(
            matches!(problem(&service, body).status, 400 | 422),
            "{body:.20}"
        );
    }
    let world = "{\"world\":".repeat(50_000);
    assert!(matches!(problem(&service, &world).status, 400 | 422));
}

#[test]
fn other_requests_get_their_statuses() {
    let limits = Limits {
        body_bytes: 20_000,
        ..Limits::default()
    };
    let service = Running::start(vec![decider(&small(), "least-loaded")], limits);
    let url = |path: &str| format!("{}{path}", service.url);
    let status = |response: Result<ureq::http::Response<ureq::Body>, ureq::Error>| {
        let mut response = response.expect("the service answers");
        let json = response.headers()["content-type"]
            .to_str()
            .expect("text")
            .to_owned();
        assert_eq!(json, "application/problem+json");
        let body = response.body_mut().read_to_vec().expect("a body");
        let problem: Problem = serde_json::from_slice(&body).expect("a problem document");
        assert_eq!(problem.status, response.status().as_u16());
        let part = match problem.status {
            413 => Some("body"),
            415 => Some("Content-Type"),
            _ => None,
        };
        assert_eq!(problem.field.as_deref(), part);
        problem.status
    };
    assert_eq!(status(agent().get(url("/v2/decisions")).call()), 404);
    assert_eq!(status(agent().delete(url("/v1/decisions")).call()), 405);
    assert_eq!(status(agent().get(url("/v1/outcomes")).call()), 405);
    assert_eq!(status(agent().post(url("/v1/decisions")).send("{}")), 415);
    let long = " ".repeat(20_001);
    assert_eq!(problem(&service, &long).status, 413);
    let chunked = agent()
        .post(url("/v1/decisions"))
        .content_type("application/json")
        .send(ureq::SendBody::from_reader(&mut long.as_bytes()));
    assert_eq!(status(chunked), 413);
    let mut health = agent()
        .get(url("/healthz"))
        .call()
        .expect("the service answers");
    assert_eq!(health.status(), 200);
    let health: Value = health.body_mut().read_json().expect("JSON");
    assert_eq!(health["world"], "small");
}

#[test]
fn a_failing_policy_is_replaced_and_counted() {
    let world = small();
    for (policy, reason) in [
        (decider_with(&world, Box::new(Reckless)), "infeasible"),
        (decider_with(&world, Box::new(Broken)), "failed"),
    ] {
        let service = Running::start(vec![policy], Limits::default());
        let (status, body) = post(&service, request().to_string().as_bytes());
        assert_eq!(status, 200);
        let response = DecisionResponse::from_json(&body).expect("of the schema");
        assert!(response.fallback && response.fallback_reason.is_some());
        assert_eq!(response.policy, "least-loaded");
        let page = metrics(&service);
        assert!(
            page.contains(&format!("infer_fallbacks_total{{reason=\"{reason}\"}} 1")),
            "{page}"
        );
        assert!(
            page.contains("infer_decisions_total{outcome=\"fallback\"} 1"),
            "{page}"
        );
    }
}

#[test]
fn a_panic_is_a_500_and_the_service_goes_on() {
    let world = small();
    let deciders = vec![decider_with(&world, Box::new(Panicking))];
    let service = Running::start(deciders, Limits::default());
    for _ in 0..3 {
        assert_eq!(problem(&service, &request().to_string()).status, 500);
    }
}

/// Sends the head of a request whose body never ends.
fn hold(service: &Running) -> TcpStream {
    let address = service.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).expect("connects");
    let head = "POST /v1/decisions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Content-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).expect("sends");
    stream
}

/// Waits until the metrics page holds `text`.
fn await_metric(service: &Running, text: &str) {
    let begun = Instant::now();
    while !metrics(service).contains(text) {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{text} never came"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn requests_beyond_the_limit_get_429() {
    let limits = Limits {
        in_flight: 2,
        ..Limits::default()
    };
    let service = Running::start(vec![decider(&small(), "least-loaded")], limits);
    let held = [hold(&service), hold(&service)];
    await_metric(&service, "infer_in_flight_requests 2");
    assert_eq!(problem(&service, &request().to_string()).status, 429);
    drop(held);
    await_metric(&service, "infer_in_flight_requests 0");
    assert_eq!(post(&service, request().to_string().as_bytes()).0, 200);
}

#[test]
fn what_was_accepted_is_answered_during_shutdown() {
    let mut service = start();
    let body = request().to_string();
    let address = service.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).expect("connects");
    let head = format!(
        "POST /v1/decisions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sends");
    let (first, rest) = body.split_at(10);
    stream.write_all(first.as_bytes()).expect("sends");
    await_metric(&service, "infer_in_flight_requests 1");
    service.stop();
    let begun = Instant::now();
    while TcpStream::connect(&address).is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "still accepts connections"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    stream.write_all(rest.as_bytes()).expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
