//! The program `infer`, run as its users run it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use twin::wire::{DecisionResponse, Problem};

use crate::support::agent;

pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples")
        .join(name)
}

pub(crate) fn infer(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_infer"));
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("INFER_")) {
        command.env_remove(name);
    }
    command
}

pub(crate) fn run(args: &[&str], input: &[u8]) -> Output {
    let mut child = infer(args).spawn().expect("the program starts");
    // The program may end without reading.
    let _ = child.stdin.take().expect("piped").write_all(input);
    child.wait_with_output().expect("the program ends")
}

fn small() -> String {
    example("small.toml").to_str().expect("text").to_owned()
}

#[test]
fn decide_answers_the_documented_example() {
    let state = std::fs::read(example("request.json")).expect("the example is there");
    let world = small();
    let output = run(
        &["decide", "--policy", "least-loaded", "--world", &world],
        &state,
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let response = DecisionResponse::from_json(&output.stdout).expect("of the schema");
    assert!(!response.fallback);
}

#[test]
fn decide_tells_errors_and_exit_codes() {
    let world = small();
    let decide = ["decide", "--policy", "least-loaded", "--world", &world];
    let output = run(&decide, b"{\"schema\": 1, \"state\": {\"now_ns\": -1}}");
    assert_eq!(output.status.code(), Some(65));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("error: state.now_ns: "), "{text}");
    let output = run(&[&decide[..], &["--format", "json"]].concat(), b"NaN");
    assert_eq!(output.status.code(), Some(65));
    let problem: Problem = serde_json::from_slice(&output.stderr).expect("a problem document");
    assert_eq!(
        (problem.status, problem.field.as_deref()),
        (400, Some("body"))
    );
    for (args, code) in [
        (vec!["decide"], 2),
        (vec!["decide", "--policy", "least-loaded"], 2),
        (vec!["decide", "--policy", "a", "--model", "b"], 2),
        (
            vec!["decide", "--policy", "least-laoded", "--world", "scinet-16"],
            64,
        ),
        (
            vec!["decide", "--policy", "least-loaded", "--world", "scinet-61"],
            64,
        ),
    ] {
        assert_eq!(run(&args, b"").status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn serve_prints_its_address_and_ends_on_sigterm() {
    let world = small();
    let mut child = infer(&[
        "serve",
        "--policy",
        "least-loaded",
        "--world",
        &world,
        "--listen",
        "127.0.0.1:0",
    ])
    .spawn()
    .expect("the program starts");
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    out.read_line(&mut line).expect("a line");
    let url = line
        .trim()
        .strip_prefix("listening on ")
        .expect("the address")
        .to_owned();
    let state = std::fs::read(example("request.json")).expect("the example is there");
    let response = agent()
        .post(format!("{url}/v1/decisions"))
        .content_type("application/json")
        .send(&state[..])
        .expect("the service answers");
    assert_eq!(response.status(), 200);
    let taken = url.trim_start_matches("http://");
    let second = run(
        &[
            "serve",
            "--policy",
            "least-loaded",
            "--world",
            &world,
            "--listen",
            taken,
        ],
        b"",
    );
    assert_eq!(
        second.status.code(),
        Some(69),
        "{}",
        String::from_utf8_lossy(&second.stderr)
    );
    let killed = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .expect("kill exists");
    assert!(killed.success());
    let status = child.wait().expect("the program ends");
    let mut log = String::new();
    child
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut log)
        .expect("text");
    assert!(status.success(), "{log}");
    assert!(log.contains("shutting down"), "{log}");
}
