//! Whoever sends a wrong value is told which: every operation of the description, with every kind of
//! body and parameter that cannot be right.

use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, header};
use infer::service::{Limits, Service};
use serde_json::Value;
use tower::ServiceExt as _;

use crate::support::{decider, small};

/// What is no id.
const NAME: &str = "x%20y";
/// Bodies that no operation takes: each with the field that is told, where that is known.
const BODIES: [(&str, Option<&str>); 7] = [
    ("", Some("body")),
    ("{", Some("body")),
    ("[]", Some("body")),
    ("7", Some("body")),
    ("{\"nothing of the kind\": 1}", Some("nothing of the kind")),
    ("{\"\\u0000\": NaN}", None),
    ("{\" \": 1}", Some("body")),
];
/// The most bytes of a body.
const LIMIT: usize = 10_000;

async fn router() -> Router {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let limits = Limits {
        body_bytes: LIMIT,
        ..Limits::default()
    };
    let deciders = vec![decider(&small(), "least-loaded")];
    let service = Service::bind(address, deciders, limits).await;
    service.expect("a free port").into_router()
}

/// Status and problem of the answer to a request, if it is one.
async fn ask(router: &Router, method: &str, target: &str, kind: &str, body: &str) -> (u16, Value) {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::CONTENT_TYPE, kind)
        .body(Body::from(body.to_owned()))
        .expect("a request");
    let response = router.clone().oneshot(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 1 << 24)
        .await
        .expect("a body");
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

/// The operations of the description: method, path, what it says of them.
fn operations() -> Vec<(String, String, Value)> {
    let text = include_str!("../../openapi.json");
    let document: Value = serde_json::from_str(text).expect("JSON");
    let paths = document["paths"].as_object().expect("paths").clone();
    let of_path = |(path, item): (String, Value)| {
        let item = item.as_object().cloned().unwrap_or_default();
        item.into_iter()
            .filter(|(method, _)| ["get", "put", "post", "delete"].contains(&method.as_str()))
            .map(move |(method, told)| (method.to_uppercase(), path.clone(), told))
    };
    paths.into_iter().flat_map(of_path).collect()
}

/// The path with `name` in place of its parameters.
fn filled(path: &str, name: &str) -> String {
    let parts = path.split('{').map(|part| match part.split_once('}') {
        Some((_, rest)) => format!("{name}{rest}"),
        None => part.to_owned(),
    });
    parts.collect()
}

#[track_caller]
fn named<'a>(what: &str, problem: &'a Value) -> &'a str {
    let field = problem["field"].as_str().unwrap_or_default();
    assert!(!field.trim().is_empty(), "{what}: no field in {problem}");
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(!detail.trim().is_empty(), "{what}: no detail in {problem}");
    field
}

#[tokio::test]
async fn bodies_that_cannot_be_right() {
    let router = router().await;
    let mut asked = 0;
    for (method, path, told) in operations() {
        let required = &told["requestBody"]["required"];
        if required != &Value::Bool(true) {
            continue;
        }
        asked += 1;
        let target = filled(&path, NAME);
        for (body, expected) in BODIES {
            let what = format!("{method} {path} with {body:?}");
            let (status, problem) = ask(&router, &method, &target, "application/json", body).await;
            assert!([400, 422].contains(&status), "{what}: {status} {problem}");
            let field = named(&what, &problem);
            assert!(expected.is_none_or(|e| e == field), "{what}: {problem}");
        }
        let what = format!("{method} {path}");
        let (status, problem) = ask(&router, &method, &target, "text/plain", "{}").await;
        assert_eq!((status, named(&what, &problem)), (415, "Content-Type"));
        let long = " ".repeat(LIMIT + 1);
        let (status, problem) = ask(&router, &method, &target, "application/json", &long).await;
        assert_eq!((status, named(&what, &problem)), (413, "body"));
    }
    assert!(asked >= 7, "{asked} operations take a body");
}

#[tokio::test]
async fn parameters_that_cannot_be_right() {
    let router = router().await;
    let mut refused = 0;
    for (method, path, told) in operations() {
        let parameters = told["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in parameters {
            let name = parameter["name"].as_str().expect("a name");
            if parameter["in"] != "query" {
                continue;
            }
            for value in ["%00", "-1", "no%20such%20thing", "99999999999999999999999"] {
                let target = format!("{}?{name}={value}", filled(&path, "7"));
                let (status, problem) =
                    ask(&router, &method, &target, "application/json", "").await;
                assert!((400..500).contains(&status), "{target}: {status} {problem}");
                assert_eq!(named(&target, &problem), name, "{target}: {problem}");
                refused += 1;
            }
        }
        if path.contains("{id}") {
            let (status, problem) = ask(
                &router,
                &method,
                &filled(&path, NAME),
                "application/json",
                "",
            )
            .await;
            assert_eq!(status, 422, "{path}: {problem}");
            assert_eq!(named(&path, &problem), "id");
            refused += 1;
        }
    }
    assert!(refused >= 16, "{refused} parameters were refused");
}
