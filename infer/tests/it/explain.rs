//! Explanations over HTTP.

use std::path::Path;
use std::sync::Arc;

use infer::decider::Decider;
use infer::service::Limits;
use infer::source::Source;
use infer::trust::{Options, Trust};
use serde_json::{Value, json};
use twin::observation::{FleetView, Observation};
use twin::state::{Epoch, State};
use twin::wire::DecisionRequest;
use twin::world::World;

use crate::support::{
    Reckless, Running, agent, busy_view, decider, decider_with, embedded, small, watch,
};

fn start(world: &Arc<World>, source: &Source) -> Running {
    let deciders = vec![Decider::new(world, source, 1).expect("the policy exists")];
    let trust = Trust::new(world, &deciders[0], Some(source), &Options::default());
    Running::start_with(deciders, Limits::default(), |service| {
        service.trusting(trust)
    })
}

/// Has the service decide on `view`; the identifier and the answer.
fn decide(service: &Running, world: &World, view: &FleetView) -> (String, Value) {
    let request = DecisionRequest::from_view(world, view);
    let mut response = agent()
        .post(format!("{}/v1/decisions", service.url))
        .content_type("application/json")
        .send(&serde_json::to_vec(&request).expect("a view serializes")[..])
        .expect("the service answers");
    let id = response.headers()["x-decision-id"]
        .to_str()
        .expect("text")
        .to_owned();
    (id, response.body_mut().read_json().expect("JSON"))
}

fn get(service: &Running, path: &str) -> (u16, Value) {
    let mut response = agent()
        .get(format!("{}{path}", service.url))
        .call()
        .expect("the service answers");
    let status = response.status().as_u16();
    (status, response.body_mut().read_json().expect("JSON"))
}

fn explain(service: &Running, id: &str) -> Value {
    let path = format!("/v1/explain/{id}?futures=4&time_budget_ms=20000");
    let (status, explained) = get(service, &path);
    assert_eq!(status, 200, "{explained}");
    explained
}

/// A state of `world` at a boundary after some time under `greedy`.
fn boundary(world: &World) -> FleetView {
    let mut found = None;
    watch(world, "greedy", 4, 12, &mut |observation| {
        if observation.epoch() == Epoch::Boundary {
            found = Some(observation.view());
        }
    });
    found.expect("there are boundaries")
}

#[test]
fn a_heuristics_decision_is_explained_by_prices_and_rules() {
    let world = small();
    let service = start(&world, &Source::named("greedy"));
    let view = busy_view(&world);
    let (id, decided) = decide(&service, &world, &view);
    let explained = explain(&service, &id);
    assert_eq!(
        (explained["id"].as_str(), explained["policy"].as_str()),
        (Some(id.as_str()), Some("greedy"))
    );
    assert_eq!(
        (&explained["scored"], &explained["futures"]),
        (&json!(false), &json!(4))
    );
    assert_eq!(explained["cut_short"], false);
    let actions = explained["actions"].as_array().expect("a list");
    let deployments = decided["decision"]["deployments"]
        .as_array()
        .expect("a list");
    let explained_deployments: Vec<&Value> =
        actions.iter().filter(|a| a["kind"] == "deploy").collect();
    assert_eq!(explained_deployments.len(), deployments.len());
    assert!(!deployments.is_empty());
    for (action, deployment) in explained_deployments.iter().zip(deployments) {
        assert_eq!(action["request"], deployment["request"]);
        assert_eq!(action["variant"], deployment["variant"]);
        // Without the action the greedy policy of the rollouts deploys the request, much alike.
        assert!(action["against_without"]["penalty_s"]["mean"].is_number());
        for choice in action["choices"].as_array().expect("a list") {
            assert!(
                choice["given"].is_string(),
                "greedy is asked the same questions: {choice}"
            );
            assert!(choice["answers"].as_u64() > Some(1));
            assert!(
                choice["against_runner_up"]["response_mean_s"]["mean"].is_number(),
                "{choice}"
            );
        }
    }
    assert_eq!(
        explain(&service, &id),
        explained,
        "the same id gets the same explanation"
    );
}

#[test]
fn a_models_scores_are_told_and_its_choice_has_the_best() {
    let world = embedded("scinet-16");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/scinet-16");
    let source = Source::model(&folder).expect("it is committed");
    let service = start(&world, &source);
    let (id, decided) = decide(&service, &world, &boundary(&world));
    let explained = explain(&service, &id);
    assert_eq!(explained["scored"], true);
    assert_eq!(explained["model_sha256"], decided["model_sha256"]);
    let ended = explained["power_ended"].as_array();
    let mut choices: Vec<&Value> = ended.into_iter().flatten().collect();
    choices.extend(explained.get("power_ended"));
    for action in explained["actions"].as_array().expect("a list") {
        choices.extend(action["choices"].as_array().expect("a list"));
    }
    assert!(!choices.is_empty(), "at a boundary hosts are asked for");
    for choice in choices {
        let candidates = choice["candidates"].as_array().expect("a list");
        assert_eq!(
            candidates[0]["answer"], choice["given"],
            "the best score is taken: {choice}"
        );
        let sum: f64 = candidates
            .iter()
            .filter_map(|c| c["probability"].as_f64())
            .sum();
        assert!(sum > 0.5 && sum < 1.0 + 1e-9, "{choice}");
        let scores: Vec<f64> = candidates
            .iter()
            .filter_map(|c| c["score"].as_f64())
            .collect();
        assert!(scores.is_sorted_by(|a, b| a >= b), "{choice}");
    }
}

#[test]
fn what_was_ruled_out_has_its_reason() {
    let world = small();
    let service = start(&world, &Source::named("greedy"));
    // One host is on, two are off, and a request has arrived.
    let mut first = None;
    watch(&world, "greedy", 2, 12, &mut |observation| {
        if observation.epoch() == Epoch::Arrival && first.is_none() {
            first = Some(observation.view());
        }
    });
    let view = first.expect("requests arrive");
    let off: Vec<u64> = (0_u64..)
        .zip(&view.hosts)
        .filter(|(_, host)| !host.lifecycle.accepts())
        .map(|(at, _)| at)
        .collect();
    assert!(!off.is_empty(), "the world starts with hosts that are off");
    let (id, _) = decide(&service, &world, &view);
    let explained = explain(&service, &id);
    assert_eq!(explained["power_excluded"][0]["reason"], "not-at-boundary");
    let excluded = &explained["actions"][0]["excluded"];
    let reason = excluded
        .as_array()
        .expect("a list")
        .iter()
        .find(|e| e["reason"] == "off")
        .expect("hosts are off");
    assert_eq!(reason["hosts"], json!(off));
    assert_eq!(reason["fragment"], 0);
}

#[test]
fn the_checkers_words_are_told_where_the_fallback_decided() {
    let world = small();
    let service = Running::start(
        vec![decider_with(&world, Box::new(Reckless))],
        Limits::default(),
    );
    let (id, decided) = decide(&service, &world, &busy_view(&world));
    assert_eq!(decided["fallback"], true);
    let explained = explain(&service, &id);
    assert_eq!(explained["policy"], "least-loaded");
    let reason = explained["fallback_reason"].as_str().expect("a reason");
    assert!(
        reason.contains("reckless") && reason.contains("takes no fragments"),
        "{reason}"
    );
}

#[test]
fn unknown_decisions_and_wrong_questions_are_refused() {
    let world = small();
    let service = Running::start(vec![decider(&world, "greedy")], Limits::default());
    let state = State::new(&world);
    let view = Observation::new(&world, &state, Epoch::Boundary).view();
    let (id, _) = decide(&service, &world, &view);
    for (path, status, field) in [
        ("/v1/explain/1".to_owned(), 404, None),
        ("/v1/explain/first".into(), 422, Some("id")),
        (format!("/v1/explain/{id}?futures=1"), 422, Some("futures")),
        (format!("/v1/explain/{id}?futures=many"), 422, Some("query")),
        (format!("/v1/explain/{id}?other=1"), 422, Some("query")),
        (
            format!("/v1/explain/{id}?time_budget_ms=0"),
            422,
            Some("time_budget_ms"),
        ),
    ] {
        let (found, problem) = get(&service, &path);
        assert_eq!(
            (found, problem["field"].as_str()),
            (status, field),
            "{path}: {problem}"
        );
    }
    // Without time for prices everything else is told.
    let (status, explained) = get(
        &service,
        &format!("/v1/explain/{id}?time_budget_ms=1&futures=64"),
    );
    assert_eq!(status, 200);
    assert!(explained["futures"].as_u64() < Some(64));
    assert_eq!(explained["cut_short"], true);
}
