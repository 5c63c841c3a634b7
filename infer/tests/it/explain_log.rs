//! Explanations of decisions that only the log knows any more.

use std::path::Path;
use std::sync::Arc;

use infer::decider::Decider;
use infer::log::{DecisionLog, Options};
use infer::recent::RECENT_BYTES;
use infer::service::Limits;
use infer::source::Source;
use infer::trust::{self, Trust};
use serde_json::{Value, json};
use twin::decision_log::Settings;
use twin::observation::{FleetView, Observation};
use twin::state::{Epoch, State};
use twin::wire::DecisionRequest;
use twin::world::World;

use crate::support::{Running, agent, busy_view, embedded, small};

/// A second in ns.
const SECOND: u64 = 1_000_000_000;

/// A service that logs to `folder` in small segments and keeps `recent_bytes` of decisions of late.
fn start(folder: &Path, world: &Arc<World>, source: &Source, recent_bytes: usize) -> Running {
    let mut options = Options::new(folder);
    options.settings = Settings {
        segment_bytes: 4 << 10,
        ..Settings::default()
    };
    let log = DecisionLog::open(&options, world).expect("it opens");
    let fleet = log.fleet(world);
    let deciders = vec![Decider::new(world, source, 1).expect("the policy exists")];
    let options = trust::Options {
        recent_bytes,
        ..trust::Options::default()
    };
    let trust = Trust::new(world, &deciders[0], Some(source), &options);
    Running::start_with(deciders, Limits::default(), |service| {
        service.with_log(log).with_fleet(fleet).trusting(trust)
    })
}

fn send(service: &Running, method: &str, path: &str, body: &Value) -> Value {
    let url = format!("{}{path}", service.url);
    let call = match method {
        "PUT" => agent().put(url),
        _ => agent().post(url),
    };
    let sent = call.content_type("application/json").send(body.to_string());
    let mut response = sent.expect("the service answers");
    let status = response.status();
    let body: Value = response.body_mut().read_json().expect("JSON");
    assert!(status.is_success(), "{body}");
    body
}

/// Has the service decide; the id.
fn decide(service: &Running, body: &Value) -> String {
    let answer = send(service, "POST", "/v1/decisions", body);
    answer["id"].as_str().expect("an id").into()
}

fn get(service: &Running, id: &str) -> (u16, Value) {
    let url = format!(
        "{}/v1/explain/{id}?futures=2&time_budget_ms=20000",
        service.url
    );
    let mut response = agent().get(url).call().expect("the service answers");
    let status = response.status().as_u16();
    (status, response.body_mut().read_json().expect("JSON"))
}

fn explain(service: &Running, id: &str) -> Value {
    let (status, explained) = get(service, id);
    assert_eq!(status, 200, "{explained}");
    assert_eq!(explained["id"], id);
    explained
}

fn whole(world: &World, view: &FleetView) -> Value {
    serde_json::to_value(DecisionRequest::from_view(world, view)).expect("a view serializes")
}

fn empty(world: &World) -> FleetView {
    Observation::new(world, &State::new(world), Epoch::Boundary).view()
}

/// Tells a fleet of three seconds and has each decided on; the ids. Later seconds also tell what
/// became of the requests before, and ask for one of them again.
fn live_a_little(service: &Running, world: &World, from: u64) -> Vec<String> {
    let mut ids = Vec::new();
    for number in from..from + 3 {
        let now_ns = (number + 1) * SECOND;
        let arrival = |id: u64| {
            let application = &world.applications[0].name;
            json!({ "id": id, "application": application, "arrived_ns": (id + 1) * SECOND })
        };
        // One that has been decided already is told again, as after an answer that was lost.
        let again = (number % 3 == 1).then(|| arrival(number - 1));
        let requests: Vec<Value> = again.into_iter().chain([arrival(number)]).collect();
        let epoch = if number % 3 == 2 {
            "boundary"
        } else {
            "arrival"
        };
        let asked = json!({ "schema": 1, "now_ns": now_ns, "epoch": epoch, "requests": requests });
        ids.push(decide(service, &asked));
        let mut asked = asked;
        asked["dry_run"] = true.into();
        asked["requests"] = json!([]);
        ids.push(decide(service, &asked));
    }
    ids
}

#[test]
fn a_decision_that_has_left_the_ring_is_explained_from_the_log() {
    let (folder, world) = (tempfile::tempdir().expect("a folder"), small());
    // A ring for one state of this size and no more.
    let asked = whole(&world, &busy_view(&world));
    let ring = asked.to_string().len() + 4096;
    let service = start(folder.path(), &world, &Source::named("greedy"), ring);
    let first = decide(&service, &asked);
    let recent = explain(&service, &first);
    assert!(!recent["actions"].as_array().expect("a list").is_empty());
    let later: Vec<String> = (0..5).map(|_| decide(&service, &asked)).collect();
    assert_eq!(explain(&service, &first), recent);
    for id in later {
        let mut other = explain(&service, &id);
        other["id"] = recent["id"].clone();
        assert_eq!(
            other["actions"].as_array().map(Vec::len),
            recent["actions"].as_array().map(Vec::len)
        );
    }
}

#[test]
fn explanations_are_the_same_after_a_restart() {
    let (folder, world) = (tempfile::tempdir().expect("a folder"), small());
    let source = Source::named("greedy");
    let mut before = Vec::new();
    for round in 0..2_u64 {
        let service = start(folder.path(), &world, &source, RECENT_BYTES);
        let mut ids = vec![decide(&service, &whole(&world, &busy_view(&world)))];
        if round == 0 {
            let view = empty(&world);
            send(&service, "PUT", "/v1/fleet", &whole(&world, &view));
        }
        ids.extend(live_a_little(&service, &world, round * 3));
        before.extend(ids.into_iter().map(|id| {
            let explained = explain(&service, &id);
            (id, explained)
        }));
    }
    assert!(
        before
            .iter()
            .any(|(_, e)| e["actions"][0]["kind"] == "deploy"),
        "something was decided"
    );
    // Nothing is of late: everything comes from the log.
    let service = start(folder.path(), &world, &source, 0);
    for (id, explained) in before {
        assert_eq!(explain(&service, &id), explained);
    }
}

#[test]
fn a_models_scores_and_the_candidates_part_are_told_from_the_log() {
    let (folder, world) = (
        tempfile::tempdir().expect("a folder"),
        embedded("scinet-16"),
    );
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/scinet-16");
    let source = Source::model(&models).expect("it is committed");
    let asked = whole(&world, &busy_view(&world));
    let (first, second);
    let before = {
        let service = start(folder.path(), &world, &source, RECENT_BYTES);
        first = decide(&service, &asked);
        let policy = json!({ "policy": "least-loaded" });
        send(&service, "POST", "/v1/models", &policy);
        let all = json!({ "shadow_share": 1.0, "canary_share": 1.0 });
        send(&service, "POST", "/v1/models/least-loaded:shadow", &all);
        second = decide(&service, &asked);
        [&first, &second].map(|id| explain(&service, id))
    };
    assert_eq!(
        (&before[0]["scored"], &before[0]["role"]),
        (&json!(true), &json!("active"))
    );
    assert_eq!(
        (&before[1]["scored"], &before[1]["role"]),
        (&json!(false), &json!("candidate"))
    );
    let service = start(folder.path(), &world, &source, 0);
    assert_eq!([&first, &second].map(|id| explain(&service, id)), before);
}

#[test]
fn what_cannot_be_explained_says_what_is_kept() {
    let (folder, world) = (tempfile::tempdir().expect("a folder"), small());
    let source = Source::named("greedy");
    let (stateless, ids);
    {
        let service = start(folder.path(), &world, &source, RECENT_BYTES);
        stateless = decide(&service, &whole(&world, &busy_view(&world)));
        send(&service, "PUT", "/v1/fleet", &whole(&world, &empty(&world)));
        ids = live_a_little(&service, &world, 0);
        let (status, problem) = get(&service, "99999");
        let detail = problem["detail"].as_str().expect("text");
        assert_eq!(status, 404, "{detail}");
        let oldest = "the log holds those from 00000000000000000001 to before ";
        assert!(detail.contains(oldest), "{detail}");
        // The record of the fleet is no decision.
        assert_eq!(get(&service, "2").0, 404);
    }
    // The segments up to that of the fleet are gone, as those are that nobody needs any more.
    let mut segments: Vec<_> = std::fs::read_dir(folder.path())
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
        .collect();
    segments.sort();
    let first_of = |path: &Path| -> u64 {
        let name = path.file_stem().and_then(|name| name.to_str());
        name.expect("text").parse().expect("a number")
    };
    // The second record is that of the fleet.
    let kept = segments.iter().position(|path| first_of(path) > 2);
    let kept = kept.expect("there are more segments");
    let first_kept = first_of(&segments[kept]);
    for path in &segments[..kept] {
        std::fs::remove_file(path).expect("it is removed");
    }
    let service = start(folder.path(), &world, &source, 0);
    let (status, problem) = get(&service, &stateless);
    let detail = problem["detail"].as_str().expect("text").to_owned();
    assert_eq!(status, 404, "{detail}");
    let oldest = format!("the log holds those from {first_kept:020} to before ");
    assert!(detail.contains(&oldest), "{detail}");
    let number = |id: &String| id.parse::<u64>().expect("a number");
    let orphans: Vec<&String> = ids.iter().filter(|id| number(id) >= first_kept).collect();
    assert!(!orphans.is_empty(), "decisions are left");
    for id in orphans {
        let (status, problem) = get(&service, id);
        let detail = problem["detail"].as_str().expect("text");
        assert_eq!(status, 404, "{detail}");
        assert!(detail.contains("does not hold the fleet"), "{detail}");
    }
}
