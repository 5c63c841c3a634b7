//! The examples are what the program reads and writes today.
//!
//! `UPDATE_EXAMPLES=1 cargo test -p infer` writes them anew.

use std::path::Path;

use twin::wire::{DecisionRequest, DecisionResponse};

use crate::support::{busy_view, decider, small};

fn check(name: &str, current: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name);
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        std::fs::write(&path, current).expect("the example is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        committed, current,
        "{name} is stale: run with UPDATE_EXAMPLES=1"
    );
}

#[test]
fn the_examples_are_fresh() {
    let world = small();
    let view = busy_view(&world);
    let request = DecisionRequest::from_view(&world, &view);
    let mut text = serde_json::to_string_pretty(&request).expect("a view serializes");
    text.push('\n');
    check("request.json", &text);
    let answer = decider(&world, "least-loaded")
        .answer(&request)
        .expect("consistent");
    let mut response = DecisionResponse::from_json(&answer.body).expect("of the schema");
    response.decision_time_us = 12.5;
    let mut text = serde_json::to_string_pretty(&response).expect("a response serializes");
    text.push('\n');
    check("response.json", &text);
}
