//! The program is killed in the middle of load, again and again: no answer is missing from the
//! log, and it starts without a hand.
//!
//! `KILLS=100 cargo test -p infer --test it kill` kills it a hundred times.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use twin::decision_log::DecisionId;
use twin::wire::{DecisionRequest, DecisionResponse};

use crate::decision_log::logged;
use crate::program::{infer, run};
use crate::support::{agent, busy_view, small};

/// Kills unless `KILLS` says otherwise.
const KILLS: usize = 5;
/// Those who ask at the same time.
const CLIENTS: usize = 4;

struct Started {
    child: Child,
    url: String,
    after: Duration,
}

fn start(folder: &Path, durability: &str) -> Started {
    let world = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/small.toml");
    let started = Instant::now();
    let mut child = infer(&[
        "serve",
        "--policy",
        "least-loaded",
        "--world",
        world.to_str().expect("text"),
        "--listen",
        "127.0.0.1:0",
        "--threads",
        "2",
        "--log-segment-bytes",
        "1048576",
        "--log-durability",
        durability,
        "--log-folder",
        folder.to_str().expect("text"),
    ])
    .stderr(Stdio::null())
    .spawn()
    .expect("the program starts");
    let mut line = String::new();
    let out = child.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("a line");
    let url = line.trim().strip_prefix("listening on ");
    let url = url.expect("it starts without a hand").to_owned();
    let after = started.elapsed();
    Started { child, url, after }
}

/// Asks until the service is gone; every answer goes to `answered`.
fn ask(url: &str, body: &[u8], stop: &AtomicBool, count: &AtomicUsize, answered: &Answers) {
    let agent = agent();
    while !stop.load(Ordering::Relaxed) {
        let sent = agent
            .post(format!("{url}/v1/decisions"))
            .content_type("application/json")
            .send(body);
        // Whoever gets no whole answer has none.
        let Ok(mut response) = sent else { return };
        let Ok(answer) = response.body_mut().read_to_vec() else {
            return;
        };
        if response.status() != 200 {
            continue;
        }
        let read = DecisionResponse::from_json(&answer).expect("of the schema");
        let id = read.id.expect("it has an id");
        let mut answered = answered.lock().expect("nobody panicked");
        assert_eq!(answered.insert(id, answer), None, "{id} was given twice");
        count.fetch_add(1, Ordering::Relaxed);
    }
}

type Answers = Mutex<BTreeMap<DecisionId, Vec<u8>>>;

/// Kills the program `kills` times in the middle of load, each time after some more answers than
/// the time before, and holds the log against the answers.
fn kill(kills: usize, durability: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let world = small();
    let view = busy_view(&world);
    let body = serde_json::to_vec(&DecisionRequest::from_view(&world, &view)).expect("serializes");
    let answered = Answers::default();
    let mut slowest = Duration::ZERO;
    for round in 0..kills {
        let mut started = start(folder.path(), durability);
        slowest = slowest.max(started.after);
        let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
        let wanted = 5 + (round * 37) % 150;
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| ask(&started.url, &body, &stop, &count, &answered));
            }
            let begun = Instant::now();
            while count.load(Ordering::Relaxed) < wanted {
                assert!(begun.elapsed() < Duration::from_secs(60), "no answers");
                thread::yield_now();
            }
            // SIGKILL on Unix.
            started.child.kill().expect("it is killed");
            stop.store(true, Ordering::Relaxed);
        });
        started.child.wait().expect("it has ended");
    }
    let logged = logged(folder.path());
    let answered = answered.into_inner().expect("nobody panicked");
    assert!(answered.len() >= 5 * kills);
    let ids = logged.iter().map(|entry| entry.0);
    assert!(ids.is_sorted_by(|a, b| a < b), "ids rise and are unique");
    let logged: BTreeMap<DecisionId, (&Vec<u8>, &Vec<u8>)> = logged
        .iter()
        .map(|(id, request, response)| (*id, (request, response)))
        .collect();
    for (id, answer) in &answered {
        let (request, response) = logged.get(id).unwrap_or_else(|| panic!("{id} is missing"));
        assert_eq!(*response, answer, "{id}");
        assert_eq!(*request, &body, "{id}");
    }
    let checked = run(
        &["log", "check", folder.path().to_str().expect("text")],
        b"",
    );
    let report = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{report}");
    eprintln!(
        "{kills} kills, durability {durability}: {} answers, all of them among {} logged decisions; slowest start {:.0} ms",
        answered.len(),
        logged.len(),
        slowest.as_secs_f64() * 1e3
    );
}

fn kills() -> usize {
    let kills = std::env::var("KILLS").ok();
    kills.and_then(|kills| kills.parse().ok()).unwrap_or(KILLS)
}

#[test]
fn killed_in_the_middle_of_load_no_answer_is_missing() {
    kill(kills(), "process");
}

#[test]
fn nor_when_answers_wait_for_the_disk() {
    kill(kills(), "disk");
}

#[test]
fn the_log_is_read_by_the_program_while_it_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text");
    let mut started = start(folder.path(), "process");
    let world = small();
    let body = serde_json::to_vec(&DecisionRequest::from_view(&world, &busy_view(&world)))
        .expect("serializes");
    for _ in 0..3 {
        let response = agent()
            .post(format!("{}/v1/decisions", started.url))
            .content_type("application/json")
            .send(&body[..])
            .expect("the service answers");
        assert_eq!(response.status(), 200);
    }
    let text = |args: &[&str], code: i32| {
        let output = run(args, b"");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {error}");
        String::from_utf8(output.stdout).expect("text") + &error
    };
    let checked = text(&["log", "check", path], 0);
    assert!(checked.contains("decision: 3\ndamaged: 0"), "{checked}");
    let listed = text(
        &["log", "list", path, "--kind", "decision", "--after", "1"],
        0,
    );
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let shown = text(&["log", "show", path, "2"], 0);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["id"], "00000000000000000002");
    let exported = text(&["log", "export", path, "--format", "jsonl"], 0);
    for line in exported.lines() {
        let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(record["kind"], "decision");
        assert!(record["entry"]["response"]["id"].is_string());
    }
    assert_eq!(exported.lines().count(), 3);
    // A second service cannot have the folder; reading needs no lock.
    let second = text(
        &[
            "serve",
            "--policy",
            "least-loaded",
            "--world",
            "scinet-16",
            "--listen",
            "127.0.0.1:0",
            "--log-folder",
            path,
        ],
        75,
    );
    assert!(
        second.contains("another process writes to this log"),
        "{second}"
    );
    text(&["log", "show", path, "99"], 66);
    text(&["log", "list", "/nonexistent"], 66);
    text(&["log", "list", path, "--kind", "nothing"], 2);
    started.child.kill().expect("it is killed");
    started.child.wait().expect("it has ended");

    // A bit flips on the disk.
    let segment = folder.path().join("00000000000000000001.log");
    let mut bytes = std::fs::read(&segment).expect("readable");
    bytes[500] ^= 1;
    std::fs::write(&segment, &bytes).expect("written");
    let checked = text(&["log", "check", path], 65);
    assert!(checked.contains("offset 76"), "{checked}");
    assert!(checked.contains("record 1 is lost"), "{checked}");
}
