//! The description of the service says what the service does.

use std::collections::BTreeSet;
use std::path::Path;

use infer::openapi;
use infer::service::Limits;
use jsonschema::Validator;
use serde_json::{Value, json};
use twin::wire::{self, DecisionRequest, Problem, WireErrorKind};
use twin::world;

use crate::support::{Running, agent, busy_view, decider, small};

/// `document`, as a schema that stands for the message called `name`.
fn validator(document: &Value, name: &str) -> Validator {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/components/schemas/{name}"),
        "components": document["components"],
    });
    jsonschema::validator_for(&schema).expect("a schema")
}

#[test]
fn the_committed_document_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        committed == openapi::text(&openapi::document()),
        "infer/openapi.json is stale; renew it: cargo run -p infer -- openapi > infer/openapi.json"
    );
}

#[test]
fn every_operation_is_described_in_full() {
    let document = openapi::document();
    let mut ids = BTreeSet::new();
    for operation in openapi::operations(&document) {
        let item = &document["paths"][operation.path][operation.method];
        let id = item["operationId"].as_str().expect("an identity");
        assert!(ids.insert(id.to_owned()), "{id} is taken twice");
        assert!(
            item["summary"].is_string(),
            "{operation} has no summary: write a first line above its handler"
        );
        assert!(
            item["tags"].as_array().is_some_and(|tags| tags.len() == 1),
            "{operation} has no tag"
        );
        assert!(item["security"].is_array(), "{operation}: who may call it?");
        let responses = item["responses"].as_object().expect("responses");
        for (status, response) in responses {
            let content = response["content"].as_object().expect("content");
            let (media_type, content) = content.iter().next().expect("one media type");
            assert!(content["schema"].is_object(), "{operation}: {status}");
            if status.starts_with(['4', '5']) {
                assert_eq!(
                    (media_type.as_str(), &content["schema"]["$ref"]),
                    (
                        "application/problem+json",
                        &json!("#/components/schemas/Problem")
                    ),
                    "{operation}: {status}"
                );
            }
        }
        if item["requestBody"].is_object() {
            for status in ["400", "408", "413", "415", "422", "429", "503"] {
                assert!(
                    responses.contains_key(status),
                    "{operation}: {status}, by BodyRefusals"
                );
            }
        }
    }
}

#[test]
fn the_examples_are_of_the_schema() {
    let document = openapi::document();
    let operation = |path: &str, method: &str| &document["paths"][path][method];
    let body = |path: &str, method: &str| &operation(path, method)["requestBody"]["content"]["application/json"];
    let decide = body("/v1/decisions", "post");
    let answer = operation("/v1/decisions", "post");
    let answer = &answer["responses"]["200"]["content"]["application/json"]["example"];
    for (example, name) in [
        (&decide["examples"]["state"]["value"], "DecisionRequest"),
        (
            &decide["examples"]["fleet"]["value"],
            "FleetDecisionRequest",
        ),
        (answer, "DecisionResponse"),
        (&body("/v1/fleet", "put")["example"], "DecisionRequest"),
        (
            &body("/v1/telemetry", "post")["example"],
            "TelemetryRequest",
        ),
        (&body("/v1/what-if", "post")["example"], "WhatIfRequest"),
        (
            &body("/v1/decisions:validate", "post")["example"],
            "ValidateRequest",
        ),
        (&body("/v1/outcomes", "post")["example"], "OutcomesRequest"),
    ] {
        assert_eq!(example["schema"], 1, "{name}");
        validator(&document, name)
            .validate(example)
            .expect("of the schema");
    }
}

/// Every example, sent to a service that runs, in the order in which a client would.
#[test]
fn the_examples_work() {
    let service = Running::start(vec![decider(&small(), "least-loaded")], Limits::default());
    for (method, path, example, response) in [
        ("PUT", "/v1/fleet", "request", "FleetResponse"),
        ("POST", "/v1/telemetry", "telemetry", "TelemetryResponse"),
        (
            "POST",
            "/v1/decisions",
            "fleet-decision",
            "DecisionResponse",
        ),
        ("POST", "/v1/decisions", "request", "DecisionResponse"),
        (
            "POST",
            "/v1/decisions:validate",
            "validate",
            "ValidateResponse",
        ),
        ("POST", "/v1/what-if", "what-if", "WhatIfResponse"),
    ] {
        let file = format!("{}/examples/{example}.json", env!("CARGO_MANIFEST_DIR"));
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", service.url))
            .header("content-type", "application/json")
            .body(std::fs::read(file).expect("it is committed"))
            .expect("a request");
        let mut answer = agent().run(request).expect("the service answers");
        let body: Value = answer.body_mut().read_json().expect("JSON");
        assert_eq!(answer.status(), 200, "{path}: {body}");
        validator(&openapi::document(), response)
            .validate(&body)
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        match example {
            "telemetry" => assert_eq!(body["applied"], 5, "all of it is news"),
            "validate" => assert_eq!(body["feasible"], true),
            _ => {}
        }
    }
}

#[test]
fn lists_have_the_bounds_of_the_parser() {
    let document = openapi::document();
    for (schema, field, limit) in [
        ("FleetState", "hosts", wire::MAX_HOSTS),
        ("FleetState", "requests", wire::MAX_REQUESTS),
        ("FleetState", "transfers", wire::MAX_TRANSFERS),
        ("FleetState", "migrations", wire::MAX_MIGRATIONS),
        ("FleetState", "arrival_rates", world::MAX_APPLICATIONS),
        ("HostState", "queue", wire::MAX_LISTED),
        ("HostState", "resident", wire::MAX_LISTED),
        ("HostState", "models", world::MAX_MODELS),
        ("DeployedState", "fragments", world::MAX_FRAGMENTS),
        ("DecisionBody", "provisioning", wire::MAX_HOSTS),
        ("DecisionBody", "deployments", wire::MAX_REQUESTS),
        ("DecisionBody", "migrations", wire::MAX_MIGRATIONS),
        ("Deployment", "hosts", world::MAX_FRAGMENTS),
        ("TelemetryRequest", "deltas", twin::live::MAX_DELTAS),
        ("TelemetryDelta", "hosts", world::MAX_FRAGMENTS),
        ("FleetDecisionRequest", "requests", twin::live::MAX_DELTAS),
        ("FleetDecisionRequest", "telemetry", twin::live::MAX_DELTAS),
        ("OutcomesRequest", "outcomes", wire::MAX_OUTCOMES),
        (
            "WhatIfRequest",
            "alternatives",
            infer::pricing::MAX_ALTERNATIVES,
        ),
    ] {
        let list = &document["components"]["schemas"][schema]["properties"][field];
        assert_eq!(list["maxItems"], limit, "{schema}.{field}");
    }
}

/// Everything in the document that is called `type: array`, with its place.
fn lists<'a>(value: &'a Value, at: &str, into: &mut Vec<(String, &'a Value)>) {
    if value["type"] == "array" {
        into.push((at.into(), value));
    }
    if let Value::Array(choices) = value {
        for (i, choice) in choices.iter().enumerate() {
            lists(choice, &format!("{at}/{i}"), into);
        }
    }
    if let Value::Object(members) = value {
        for (name, member) in members {
            lists(member, &format!("{at}/{name}"), into);
        }
    }
}

#[test]
fn every_message_and_list_is_bounded() {
    let document = openapi::document();
    let schemas = &document["components"]["schemas"];
    let mut found = Vec::new();
    lists(schemas, "", &mut found);
    assert!(!found.is_empty());
    for (place, list) in found {
        assert!(list["maxItems"].is_u64(), "{place} has no max_items");
    }
    for (name, schema) in schemas.as_object().expect("schemas") {
        // Readers of problem documents ignore what they do not know.
        if schema["type"] == "object" && name != "Problem" {
            assert_eq!(
                schema["additionalProperties"], false,
                "{name} does not deny unknown fields"
            );
        }
    }
}

/// Pointers to every value inside `value`.
fn pointers(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.into());
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                pointers(member, &format!("{at}/{name}"), into);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{i}"), into);
            }
        }
        _ => {}
    }
}

/// What the service makes of `message`, without HTTP.
fn refused(message: &Value) -> Option<WireErrorKind> {
    let world = small();
    let json = message.to_string();
    let request = match DecisionRequest::from_json(json.as_bytes()) {
        Ok(request) => request,
        Err(error) => return Some(error.kind),
    };
    decider(&world, "least-loaded")
        .answer(&request)
        .err()
        .map(|error| error.kind)
}

/// What is not of the schema is always refused, and what is refused as not of the schema is not.
fn check(validator: &Validator, message: &Value, change: &str) {
    let refused = refused(message);
    if validator.is_valid(message) {
        assert!(
            !matches!(
                refused,
                Some(WireErrorKind::Schema | WireErrorKind::Malformed)
            ),
            "{change}: allowed by the description, not by the parser"
        );
    } else {
        assert!(
            refused.is_some(),
            "{change}: forbidden by the description, accepted by the service"
        );
    }
}

#[test]
fn the_description_and_the_parser_agree() {
    let validator = validator(&openapi::document(), "DecisionRequest");
    let world = small();
    let request = DecisionRequest::from_view(&world, &busy_view(&world));
    let request = serde_json::to_value(request).expect("a view serializes");
    check(&validator, &request, "nothing");
    assert!(validator.is_valid(&request));
    let values = [
        Value::Null,
        json!(true),
        json!(0),
        json!(-1),
        json!(2),
        json!(0.5),
        json!(-0.5),
        json!(65_536),
        json!(4_294_967_296_u64),
        json!(u64::MAX),
        json!(1e300),
        json!("x"),
        json!("boundary"),
        json!([]),
        json!([1, 2, 3]),
        json!({}),
        json!({"request": 1, "fragment": 0}),
    ];
    let mut all = Vec::new();
    pointers(&request, "", &mut all);
    // One of each kind of field: lists of hosts and requests are alike.
    all.retain(|pointer| !pointer.contains("/hosts/1") && !pointer.contains("/requests/1"));
    for pointer in &all {
        for value in &values {
            let mut changed = request.clone();
            *changed.pointer_mut(pointer).expect("it is there") = value.clone();
            check(&validator, &changed, &format!("{pointer} = {value}"));
        }
        let Some((parent, name)) = pointer.rsplit_once('/') else {
            continue;
        };
        let mut changed = request.clone();
        if let Some(Value::Object(members)) = changed.pointer_mut(parent) {
            members.remove(name);
            check(&validator, &changed, &format!("no {pointer}"));
            let mut changed = request.clone();
            if let Some(Value::Object(members)) = changed.pointer_mut(parent) {
                members.insert("unknown".into(), json!(1));
            }
            check(&validator, &changed, &format!("{parent}/unknown"));
        }
    }
}

#[test]
fn the_service_shows_its_description_and_names_its_operations() {
    let service = Running::start(vec![decider(&small(), "least-loaded")], Limits::default());
    let get = |path: &str| {
        let url = format!("{}{path}", service.url);
        let mut response = agent().get(url).call().expect("the service answers");
        let body = response.body_mut().read_to_vec().expect("a body");
        let body = String::from_utf8_lossy(&body).into_owned();
        (response.status().as_u16(), body)
    };
    let (status, body) = get("/openapi.json");
    assert_eq!(status, 200);
    assert!(body == openapi::text(&openapi::document()));
    let (status, page) = get("/docs/");
    assert_eq!(status, 200);
    let scripts: Vec<&str> = ["src=\"", "href=\""]
        .iter()
        .flat_map(|start| page.split(start).skip(1))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!(scripts.len() >= 3, "{page}");
    for script in scripts {
        assert!(!script.contains("//"), "{script} is not here");
        let (status, _) = get(&format!("/docs/{}", script.trim_start_matches("./")));
        assert_eq!(status, 200, "{script}");
    }
    let (_, initializer) = get("/docs/swagger-initializer.js");
    assert!(initializer.contains("../openapi.json") && !initializer.contains("http"));
    let (status, body) = get("/v2/decisions");
    let problem: Problem = serde_json::from_str(&body).expect("a problem document");
    assert_eq!((status, problem.status), (404, 404));
    let document = openapi::document();
    for operation in openapi::operations(&document) {
        assert!(
            problem.detail.contains(&operation.to_string()),
            "{problem:?}"
        );
    }
}

#[test]
fn other_methods_get_405_with_those_that_there_are() {
    let service = Running::start(vec![decider(&small(), "least-loaded")], Limits::default());
    let document = openapi::document();
    for path in document["paths"].as_object().expect("paths").keys() {
        let has = |method: &str| document["paths"][path].get(method).is_some();
        let other = ["delete", "patch", "put"]
            .into_iter()
            .find(|method| !has(method))
            .expect("no resource has all methods");
        let request = ureq::http::Request::builder()
            .method(other.to_ascii_uppercase().as_str())
            .uri(format!("{}{}", service.url, path.replace(['{', '}'], "")))
            .body(())
            .expect("a request");
        let response = agent().run(request).expect("the service answers");
        assert_eq!(response.status(), 405, "{path}");
        let allow = response.headers()["allow"].to_str().expect("text");
        let allowed: BTreeSet<&str> = allow.split(',').map(str::trim).collect();
        let described: BTreeSet<String> = openapi::operations(&document)
            .filter(|operation| operation.path == path)
            .map(|operation| operation.method.to_ascii_uppercase())
            .collect();
        // A resource that can be had has a head.
        let allowed: BTreeSet<String> = allowed
            .into_iter()
            .filter(|method| *method != "HEAD")
            .map(str::to_owned)
            .collect();
        assert_eq!(allowed, described, "{path}");
    }
}
