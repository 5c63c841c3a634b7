//! The log of decisions in the service: what is answered is in it, whatever happens.

use std::path::Path;
use std::time::Duration;

use infer::log::{DecisionLog, Durability, Options};
use infer::service::Limits;
use serde_json::{Value, json};
use tempfile::TempDir;
use twin::decision_log::{DecisionId, Entry, Mode, Reader};
use twin::wire::{DecisionRequest, DecisionResponse, Problem};

use crate::support::{Running, agent, busy_view, decider, small};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn start(folder: &Path, durability: Durability) -> Running {
    let world = small();
    let mut options = Options::new(folder);
    options.durability = durability;
    options.sync_interval = Duration::from_millis(20);
    let log = DecisionLog::open(&options, &world).expect("it opens");
    Running::start_with_log(
        vec![
            decider(&world, "least-loaded"),
            decider(&world, "least-loaded"),
        ],
        Limits::default(),
        log,
    )
}

fn request() -> Vec<u8> {
    let world = small();
    serde_json::to_vec_pretty(&DecisionRequest::from_view(&world, &busy_view(&world)))
        .expect("it serializes")
}

fn get(service: &Running, path: &str) -> (u16, Value) {
    let mut response = agent()
        .get(format!("{}{path}", service.url))
        .call()
        .expect("the service answers");
    let status = response.status().as_u16();
    let body = response.body_mut().read_to_vec().expect("a body");
    (status, serde_json::from_slice(&body).expect("JSON"))
}

fn post(service: &Running, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut response = agent()
        .post(format!("{}{path}", service.url))
        .content_type("application/json")
        .send(body)
        .expect("the service answers");
    let status = response.status().as_u16();
    (status, response.body_mut().read_to_vec().expect("a body"))
}

/// Asks for a decision; its id and the bytes of the answer.
fn decide(service: &Running, body: &[u8]) -> (DecisionId, Vec<u8>) {
    let mut response = agent()
        .post(format!("{}/v1/decisions", service.url))
        .content_type("application/json")
        .send(body)
        .expect("the service answers");
    assert_eq!(response.status(), 200);
    let header = response.headers().get("x-decision-id").cloned();
    let answer = response.body_mut().read_to_vec().expect("a body");
    let read = DecisionResponse::from_json(&answer).expect("of the schema");
    let id = read.id.expect("it has an id");
    assert_eq!(header.expect("a header").as_bytes(), id.digits());
    (id, answer)
}

/// Every decision in the log: its id, and the bytes of request and response.
pub(crate) fn logged(folder: &Path) -> Vec<(DecisionId, Vec<u8>, Vec<u8>)> {
    let mut reader = Reader::open(folder, 0).expect("the folder is there");
    let mut all = Vec::new();
    while let Some(record) = reader.next_record().expect("readable") {
        if let Entry::Decision(decision) = record.entry().expect("of the schema") {
            let Mode::Stateless { request } = decision.mode else {
                panic!("no state");
            };
            let id = DecisionId(record.sequence);
            all.push((id, request.get().into(), decision.response.get().into()));
        }
    }
    assert_eq!(reader.damaged(), 0);
    all
}

#[test]
fn an_answer_is_in_the_log_with_its_very_bytes() {
    for durability in [Durability::Process, Durability::Disk] {
        let folder = folder();
        let service = start(folder.path(), durability);
        let request = request();
        let answered: Vec<(DecisionId, Vec<u8>)> =
            (0..5).map(|_| decide(&service, &request)).collect();
        let logged = logged(folder.path());
        assert_eq!(logged.len(), 5);
        for ((id, answer), (logged_id, asked, logged_answer)) in answered.iter().zip(&logged) {
            assert_eq!((id, answer), (logged_id, logged_answer));
            assert_eq!(asked, &request);
        }
        let id = answered[2].0;
        let (status, found) = get(&service, &format!("/v1/decisions/{id}"));
        assert_eq!(status, 200, "{found}");
        let answer: Value = serde_json::from_slice(&answered[2].1).expect("JSON");
        assert_eq!(found["response"], answer);
        let asked: Value = serde_json::from_slice(&request).expect("JSON");
        assert_eq!(found["mode"]["stateless"]["request"], asked);
        assert_eq!(found["policy"], "least-loaded");
    }
}

#[test]
fn a_refused_request_is_not_in_the_log() {
    let folder = folder();
    let service = start(folder.path(), Durability::Process);
    assert_eq!(post(&service, "/v1/decisions", b"{}").0, 422);
    assert_eq!(post(&service, "/v1/decisions", b"{").0, 400);
    assert_eq!(logged(folder.path()).len(), 0);
}

#[test]
fn lists_go_through_all_decisions_in_both_orders() {
    let folder = folder();
    let request = request();
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..2 {
        let service = start(folder.path(), Durability::Process);
        ids.extend((0..6).map(|_| decide(&service, &request).0.to_string()));
        for order in ["newest", "oldest"] {
            let mut seen: Vec<String> = Vec::new();
            let mut path = format!("/v1/decisions?limit=4&order={order}");
            loop {
                let (status, list) = get(&service, &path);
                assert_eq!(status, 200, "{list}");
                let decisions = list["decisions"].as_array().expect("a list");
                assert!(decisions.len() <= 4);
                for decision in decisions {
                    assert_eq!(decision["response"]["id"], decision["id"]);
                    seen.push(decision["id"].as_str().expect("text").into());
                }
                let Some(next) = list["next"].as_str() else {
                    break;
                };
                path = format!("/v1/decisions?limit=4&order={order}&after={next}");
            }
            if order == "newest" {
                seen.reverse();
            }
            assert_eq!(seen, ids);
        }
        let (status, list) = get(&service, "/v1/decisions?limit=1");
        assert_eq!(status, 200);
        assert_eq!(
            list["decisions"][0]["id"].as_str(),
            ids.last().map(String::as_str)
        );
        for (query, field) in [("limit=0", "limit"), ("after=x", "after"), ("x=1", "query")] {
            let (status, problem) = get(&service, &format!("/v1/decisions?{query}"));
            assert_eq!((status, problem["field"].as_str()), (422, Some(field)));
        }
        for (id, status) in [("1000000000", 404), ("0", 404), ("x", 422)] {
            assert_eq!(get(&service, &format!("/v1/decisions/{id}")).0, status);
        }
    }
}

#[test]
fn outcomes_are_told_once_and_shown_with_their_decision() {
    let folder = folder();
    let id;
    {
        let service = start(folder.path(), Durability::Disk);
        id = decide(&service, &request()).0;
        let told = |late: bool| {
            let outcome = json!({"decision": id, "request": 3, "answered": true, "response_s": 0.5, "late": late});
            let lost = json!({"decision": id, "request": 4, "answered": false, "late": true});
            json!({"schema": 1, "outcomes": [outcome, lost, outcome]}).to_string()
        };
        for (late, recorded, known) in [(false, 2, 1), (false, 0, 3), (true, 1, 2)] {
            let (status, body) = post(&service, "/v1/outcomes", told(late).as_bytes());
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(status, 200, "{body}");
            assert_eq!(
                (&body["recorded"], &body["known"]),
                (&json!(recorded), &json!(known))
            );
        }
        let unknown = told(false).replace(&id.to_string(), "12345");
        let (status, body) = post(&service, "/v1/outcomes", unknown.as_bytes());
        let problem: Problem = serde_json::from_slice(&body).expect("a problem");
        assert_eq!(status, 422);
        assert_eq!(problem.field.as_deref(), Some("outcomes[0].decision"));
    }
    // A restart does not forget them.
    let service = start(folder.path(), Durability::Disk);
    let (status, found) = get(&service, &format!("/v1/decisions/{id}"));
    assert_eq!(status, 200);
    let wanted = json!([
        {"request": 3, "answered": true, "response_s": 0.5, "late": true},
        {"request": 4, "answered": false, "late": true},
    ]);
    assert_eq!(found["outcomes"], wanted);
}

#[test]
fn without_a_log_decisions_have_rising_ids_and_nothing_is_kept() {
    let mut last = DecisionId(0);
    for _ in 0..2 {
        let service = Running::start(vec![decider(&small(), "least-loaded")], Limits::default());
        for _ in 0..3 {
            let (id, _) = decide(&service, &request());
            assert!(id > last);
            last = id;
        }
        assert_eq!(get(&service, "/v1/decisions").0, 404);
        assert_eq!(get(&service, &format!("/v1/decisions/{last}")).0, 404);
        let outcomes = json!({"schema": 1, "outcomes": []}).to_string();
        assert_eq!(post(&service, "/v1/outcomes", outcomes.as_bytes()).0, 404);
        assert_eq!(get(&service, "/readyz").0, 200);
    }
}

#[test]
fn a_log_that_cannot_be_written_is_told_and_recovers() {
    let folder = folder();
    let service = start(folder.path(), Durability::Process);
    // The folder is gone before the first segment is begun.
    let away = folder.path().with_extension("away");
    std::fs::rename(folder.path(), &away).expect("it is renamed");
    let (status, body) = post(&service, "/v1/decisions", &request());
    assert_eq!(status, 503, "{}", String::from_utf8_lossy(&body));
    assert_eq!(get(&service, "/readyz").0, 503);
    std::fs::rename(&away, folder.path()).expect("it is renamed");
    // The service tries by itself, so that somebody who waits for readiness is not left waiting.
    let mut attempts = 0;
    while get(&service, "/readyz").0 != 200 {
        attempts += 1;
        assert!(attempts < 1000, "it does not recover");
        std::thread::sleep(Duration::from_millis(10));
    }
    decide(&service, &request());
    let mut page = agent()
        .get(format!("{}/metrics", service.url))
        .call()
        .expect("the service answers");
    let page = page.body_mut().read_to_string().expect("text");
    for line in [
        "infer_log_records_total{kind=\"decision\"} 1",
        "infer_log_sync_duration_seconds_count",
        "infer_log_segments 1",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
    let failed = page
        .lines()
        .find(|l| l.starts_with("infer_log_errors_total{reason=\"io\"}"));
    assert!(!failed.expect("it is there").ends_with(" 0"));
}
