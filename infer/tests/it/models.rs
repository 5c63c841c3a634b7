//! The policies of a service over HTTP: loading, swapping under load, shadow, canary, drift.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use infer::decider::Decider;
use infer::service::Limits;
use infer::source::Source;
use infer::trust::{Options, Trust};
use serde_json::{Value, json};
use twin::wire::{DecisionRequest, DecisionResponse, Problem};
use twin::world::World;

use crate::support::{Running, agent, busy_view, embedded, watch};

/// The folder of the committed models.
fn committed() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

fn options() -> Options {
    Options {
        models: Some(committed()),
        ..Options::default()
    }
}

/// A service of the world `scinet-16` that starts with `policy`.
fn start(policy: &str, options: &Options) -> Running {
    let world = embedded("scinet-16");
    start_from(&world, &Source::named(policy), options)
}

fn start_from(world: &Arc<World>, source: &Source, options: &Options) -> Running {
    let deciders: Vec<Decider> = (0..2)
        .map(|_| Decider::new(world, source, 1).expect("the policy exists"))
        .collect();
    let trust = Trust::new(world, &deciders[0], Some(source), options);
    Running::start_with(deciders, Limits::default(), |service| {
        service.trusting(trust)
    })
}

fn call(service: &Running, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let url = format!("{}{path}", service.url);
    let response = match method {
        "GET" => agent().get(url).call(),
        "DELETE" => agent().delete(url).call(),
        _ => agent()
            .post(url)
            .content_type("application/json")
            .send(body.to_string().as_bytes()),
    };
    let mut response = response.expect("the service answers");
    let status = response.status().as_u16();
    (status, response.body_mut().read_json().expect("JSON"))
}

fn post(service: &Running, path: &str, body: &Value) -> (u16, Value) {
    call(service, "POST", path, body)
}

fn request(world: &World) -> Value {
    let view = busy_view(world);
    serde_json::to_value(DecisionRequest::from_view(world, &view)).expect("a view serializes")
}

fn decide(service: &Running, request: &Value) -> Value {
    let (status, body) = post(service, "/v1/decisions", request);
    assert_eq!(status, 200, "{body}");
    body
}

fn role(models: &Value, key: &str) -> String {
    let list = models["models"].as_array().expect("a list");
    let found = list.iter().find(|model| model["key"] == key);
    found.expect("it is listed")["role"]
        .as_str()
        .expect("text")
        .into()
}

#[test]
fn models_are_loaded_activated_rolled_back_and_unloaded() {
    let world = embedded("scinet-16");
    let service = start("least-loaded", &options());
    let asked = request(&world);
    assert_eq!(decide(&service, &asked)["policy"], "least-loaded");
    let (status, loaded) = post(&service, "/v1/models", &json!({ "path": "scinet-16" }));
    assert_eq!(status, 201, "{loaded}");
    let list = loaded["models"].as_array().expect("a list");
    let model = list
        .iter()
        .find(|m| m["name"] == "model:scinet-16")
        .expect("it is listed");
    let sha = model["sha256"].as_str().expect("a model").to_owned();
    assert_eq!((model["role"].as_str(), sha.len()), (Some("loaded"), 64));
    assert_eq!(model["facts"]["world"], "scinet-16");
    assert_eq!(
        decide(&service, &asked)["policy"],
        "least-loaded",
        "loading changes nothing"
    );
    let (status, active) = post(&service, &format!("/v1/models/{sha}:activate"), &json!({}));
    assert_eq!((status, role(&active, &sha)), (200, "active".into()));
    assert_eq!(role(&active, "least-loaded"), "previous");
    let decided = decide(&service, &asked);
    assert_eq!(decided["policy"], "model:scinet-16");
    assert_eq!(decided["model_sha256"], sha);
    let (status, _) = call(
        &service,
        "DELETE",
        &format!("/v1/models/{sha}"),
        &Value::Null,
    );
    assert_eq!(status, 409, "it is in use");
    let (status, back) = post(&service, "/v1/models:rollback", &json!({}));
    assert_eq!(
        (status, role(&back, "least-loaded")),
        (200, "active".into())
    );
    assert_eq!(decide(&service, &asked)["policy"], "least-loaded");
    assert_eq!(post(&service, "/v1/models:rollback", &json!({})).0, 409);
    let (status, left) = call(
        &service,
        "DELETE",
        &format!("/v1/models/{sha}"),
        &Value::Null,
    );
    assert_eq!(
        (status, left["models"].as_array().map(Vec::len)),
        (200, Some(1))
    );
    assert_eq!(call(&service, "GET", "/v1/models", &Value::Null).1, left);
}

#[test]
fn what_is_no_model_is_refused_with_the_field() {
    let service = start("greedy", &options());
    for (path, body, status, field) in [
        ("/v1/models", json!({}), 422, Some("path")),
        (
            "/v1/models",
            json!({ "path": "a", "policy": "b" }),
            422,
            Some("path"),
        ),
        (
            "/v1/models",
            json!({ "path": "../models/scinet-16" }),
            422,
            Some("path"),
        ),
        (
            "/v1/models",
            json!({ "path": "azure-llm" }),
            422,
            Some("path"),
        ),
        (
            "/v1/models",
            json!({ "policy": "best" }),
            422,
            Some("policy"),
        ),
        ("/v1/models", json!({ "other": 1 }), 422, Some("other")),
        ("/v1/models/none:activate", json!({}), 404, None),
        ("/v1/models/none:shadow", json!({}), 404, None),
        ("/v1/models/greedy:shadow", json!({}), 409, None),
        (
            "/v1/models/greedy:shadow",
            json!({ "shadow_share": 2 }),
            422,
            Some("shadow_share"),
        ),
        ("/v1/models/greedy:praise", json!({}), 404, None),
        ("/v1/models/greedy", json!({}), 404, None),
    ] {
        let (found, problem) = post(&service, path, &body);
        let problem: Problem = serde_json::from_value(problem).expect("a problem document");
        assert_eq!(
            (found, problem.field.as_deref()),
            (status, field),
            "{path} {problem:?}"
        );
    }
    assert_eq!(
        call(&service, "DELETE", "/v1/models/none", &Value::Null).0,
        404
    );
    assert_eq!(
        call(&service, "GET", "/v1/models", &Value::Null).1["generation"],
        0
    );
}

#[test]
fn policies_are_swapped_under_load_and_every_answer_names_its_own() {
    let world = embedded("scinet-16");
    let service = start("least-loaded", &options());
    let asked = request(&world);
    // What each policy decides, asked alone.
    let mut expected = Vec::new();
    for name in ["least-loaded", "greedy"] {
        post(&service, "/v1/models", &json!({ "policy": name }));
        let (status, _) = post(&service, &format!("/v1/models/{name}:activate"), &json!({}));
        assert_eq!(status, 200);
        let decided = decide(&service, &asked);
        assert_eq!(decided["policy"], name);
        expected.push((name, decided["decision"].clone()));
    }
    assert_ne!(
        expected[0].1, expected[1].1,
        "the policies can be told apart"
    );
    let over = AtomicBool::new(false);
    let answers = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    while !over.load(Ordering::Relaxed) {
                        answers.push(decide(&service, &asked));
                    }
                    answers
                })
            })
            .collect();
        for round in 0..20 {
            let name = expected[round % 2].0;
            let (status, _) = post(&service, &format!("/v1/models/{name}:activate"), &json!({}));
            assert_eq!(status, 200);
        }
        over.store(true, Ordering::Relaxed);
        let ended = clients
            .into_iter()
            .map(|client| client.join().expect("no panic"));
        ended.flatten().collect::<Vec<_>>()
    });
    assert!(!answers.is_empty());
    for answer in answers {
        let own = expected.iter().find(|(name, _)| answer["policy"] == *name);
        let (_, decision) = own.expect("one of the two");
        assert_eq!(answer["decision"], *decision, "{}", answer["policy"]);
    }
}

/// Waits until the comparison has nothing left to do, and returns it.
fn comparison(service: &Running) -> Value {
    let begun = Instant::now();
    loop {
        let models = call(service, "GET", "/v1/models", &Value::Null).1;
        let comparison = &models["comparison"];
        if comparison["pending"] == 0 {
            return comparison.clone();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "it never ends: {models}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// States of `scinet-16` in which requests wait.
fn states(count: usize) -> Vec<Value> {
    let world = embedded("scinet-16");
    let mut states = Vec::new();
    watch(&world, "greedy", 5, 40, &mut |observation| {
        if observation.waiting().next().is_some() && states.len() < count {
            let request = DecisionRequest::from_view(&world, &observation.view()).state;
            let state = serde_json::to_value(request).expect("a view serializes");
            states.push(json!({ "schema": 1, "state": state }));
        }
    });
    states
}

#[test]
fn the_shadow_agrees_with_itself_and_prices_what_differs() {
    let service = start("greedy", &options());
    let states = states(8);
    post(&service, "/v1/models", &json!({ "policy": "random" }));
    let all = json!({ "shadow_share": 1.0 });
    assert_eq!(post(&service, "/v1/models/random:shadow", &all).0, 200);
    for state in &states {
        assert_eq!(
            decide(&service, state)["policy"],
            "greedy",
            "the shadow decides nothing"
        );
        comparison(&service);
    }
    let found = comparison(&service);
    assert_eq!(found["compared"], 8, "{found}");
    assert!(found["agreement_ratio"].as_f64().expect("a number") < 1.0);
    let gain = found["gain_s"]["mean"].as_f64().expect("a number");
    assert!(gain < 0.0, "random placement costs: {found}");
    let page = {
        let mut response = agent()
            .get(format!("{}/metrics", service.url))
            .call()
            .expect("the service answers");
        response.body_mut().read_to_string().expect("text")
    };
    assert!(
        page.contains("infer_shadow_compared_decisions_total 8"),
        "{page}"
    );
    assert_eq!(post(&service, "/v1/models:end-shadow", &json!({})).0, 200);
    let models = call(&service, "GET", "/v1/models", &Value::Null).1;
    assert!(models.get("comparison").is_none(), "{models}");
}

#[test]
fn a_canary_that_decides_worse_is_stopped() {
    let service = start("greedy", &options());
    let states = states(12);
    post(&service, "/v1/models", &json!({ "policy": "random" }));
    let all = json!({ "shadow_share": 1.0, "canary_share": 1.0 });
    assert_eq!(post(&service, "/v1/models/random:shadow", &all).0, 200);
    assert_eq!(
        decide(&service, &states[0])["policy"],
        "random",
        "it decides in earnest"
    );
    for state in states.iter().cycle().take(50) {
        decide(&service, state);
        if comparison(&service)["canary_share"] == 0.0 {
            break;
        }
    }
    let found = comparison(&service);
    assert_eq!(found["canary_share"], 0.0, "{found}");
    assert!(
        found["stopped"]
            .as_str()
            .expect("a reason")
            .contains("cost"),
        "{found}"
    );
    assert_eq!(decide(&service, &states[0])["policy"], "greedy");
}

#[test]
fn inputs_unlike_those_of_training_are_flagged_and_searched() {
    let world = embedded("scinet-16");
    let source = Source::model(&committed().join("scinet-16")).expect("it is committed");
    let service = start_from(&world, &source, &options());
    let states = states(6);
    for state in &states {
        let decided = decide(&service, state);
        assert_eq!(decided["policy"], "model:scinet-16", "{decided}");
        assert!(decided["input_range"]["searched"].as_bool() != Some(true));
    }
    // A hundred times the requests that training saw.
    let mut strange = states[0].clone();
    let rates = strange["state"]["arrival_rates"]
        .as_array_mut()
        .expect("a list");
    for application in rates {
        application["per_s"] = json!([150.0, 150.0, 150.0]);
    }
    let decided = decide(&service, &strange);
    let range = &decided["input_range"];
    assert!(
        range["outside_share"].as_f64().expect("a share") > 0.0,
        "{decided}"
    );
    assert!(!range["outside"].as_array().expect("a list").is_empty());
    // Time enough, or the greedy policy would answer when the machine is busy.
    let patient = |threshold| Options {
        search: Some(infer::range::Search {
            threshold,
            time: Duration::from_secs(20),
        }),
        ..options()
    };
    let never = start_from(&world, &source, &patient(1.0));
    assert_eq!(decide(&never, &strange)["input_range"]["searched"], false);
    let strict = start_from(&world, &source, &patient(infer::range::THRESHOLD));
    let decided = decide(&strict, &strange);
    assert_eq!(
        (&decided["policy"], &decided["input_range"]["searched"]),
        (&json!("search"), &json!(true))
    );
    assert_eq!(decided["fallback"], false);
    let again = decide(&strict, &strange);
    assert_eq!(
        again["decision"], decided["decision"],
        "search does not remember"
    );
    let response = serde_json::to_vec(&decided).expect("JSON");
    assert!(DecisionResponse::from_json(&response).is_ok());
}
