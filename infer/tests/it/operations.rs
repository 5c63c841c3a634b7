//! What operators see: metrics, request ids, timings, and the files in `deploy/`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use infer::service::Limits;
use serde_json::Value;

use crate::program::{example, infer, run};
use crate::support::{Running, agent, decider, small};

fn start() -> Running {
    Running::start(vec![decider(&small(), "least-loaded")], Limits::default())
}

/// The metrics page of a service that has answered a decision and refused one.
fn metrics() -> String {
    let service = start();
    let state = std::fs::read(example("request.json")).expect("the example is there");
    for body in [&state[..], b"{"] {
        agent()
            .post(format!("{}/v1/decisions", service.url))
            .content_type("application/json")
            .send(body)
            .expect("the service answers");
    }
    let mut page = agent()
        .get(format!("{}/metrics", service.url))
        .call()
        .expect("the service answers");
    page.body_mut().read_to_string().expect("text")
}

/// The kind of each metric of `page`.
fn kinds(page: &str) -> BTreeMap<&str, &str> {
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect()
}

#[test]
fn metrics_have_names_kinds_and_help() {
    let page = metrics();
    let mut lines: Vec<&str> = page.lines().filter(|line| line.starts_with('#')).collect();
    lines.sort_unstable();
    insta::assert_snapshot!("metrics", lines.join("\n"));
}

/// Prometheus' rules for names: <https://prometheus.io/docs/practices/naming/>.
#[test]
fn metrics_are_in_base_units() {
    let page = metrics();
    for (name, kind) in kinds(&page) {
        let known = name.starts_with("infer_") || name.starts_with("process_");
        assert!(known, "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        for unit in ["ms", "us", "milliseconds", "mib", "kib", "percent", "hour"] {
            let is_unit = name.split('_').any(|word| word == unit);
            assert!(!is_unit, "{name} is not in a base unit");
        }
        let help = format!("# HELP {name} ");
        assert!(page.contains(&help), "{name} has no help");
    }
}

#[test]
fn requests_are_timed_by_route_and_status() {
    let page = metrics();
    for labels in [
        r#"route="/v1/decisions",method="POST",status="200""#,
        r#"route="/v1/decisions",method="POST",status="400""#,
    ] {
        let line = format!("infer_http_request_duration_seconds_count{{{labels}}} 1");
        assert!(page.contains(&line), "{line} is not in {page}");
    }
    for process in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(page.contains(process), "{process}");
    }
}

#[test]
fn labels_are_bounded_whatever_is_asked_for() {
    let service = start();
    for i in 0..20 {
        let url = format!("{}/nowhere/{i}?x={i}", service.url);
        let response = agent().get(url).call().expect("the service answers");
        assert_eq!(response.status(), 404);
    }
    let mut page = agent()
        .get(format!("{}/metrics", service.url))
        .call()
        .expect("the service answers");
    let page = page.body_mut().read_to_string().expect("text");
    let count =
        r#"infer_http_request_duration_seconds_count{route="none",method="GET",status="404"} 20"#;
    assert!(page.contains(count), "{page}");
    assert!(!page.contains("nowhere"));
}

#[test]
fn requests_have_names_and_decisions_tell_their_time() {
    let service = start();
    let url = format!("{}/healthz", service.url);
    let named = |id: &str| {
        let response = agent().get(&url).header("x-request-id", id).call();
        let response = response.expect("the service answers");
        response.headers()["x-request-id"]
            .to_str()
            .expect("text")
            .to_owned()
    };
    assert_eq!(named("a-1_b.c:d"), "a-1_b.c:d");
    let long = "x".repeat(65);
    let given: BTreeSet<String> = ["", "two words", "<script>", &long]
        .into_iter()
        .map(named)
        .collect();
    assert_eq!(given.len(), 4, "each gets a name of its own");
    for id in given {
        assert!(id.len() == 16 && id.chars().all(|c| c.is_ascii_hexdigit()));
    }
    let state = std::fs::read(example("request.json")).expect("the example is there");
    let mut response = agent()
        .post(format!("{}/v1/decisions", service.url))
        .content_type("application/json")
        .send(&state[..])
        .expect("the service answers");
    let timing = response.headers()["server-timing"].to_str().expect("text");
    let ms: f64 = timing
        .strip_prefix("decide;dur=")
        .expect(timing)
        .parse()
        .expect("a number");
    let body: Value = response.body_mut().read_json().expect("JSON");
    let us = body["decision_time_us"].as_f64().expect("a number");
    assert!((ms * 1e3 - us).abs() <= 0.051, "{ms} ms is not {us} us");
}

#[test]
fn refusals_are_logged_with_the_name_of_the_request_and_without_its_body() {
    let world = example("small.toml");
    let world = world.to_str().expect("text");
    let mut child = infer(&["serve", "--policy", "least-loaded", "--world", world])
        .args(["--listen", "127.0.0.1:0", "--log-format", "json"])
        .spawn()
        .expect("the program starts");
    let mut line = String::new();
    let out = child.stdout.as_mut().expect("piped");
    BufReader::new(out).read_line(&mut line).expect("a line");
    let url = line.trim().strip_prefix("listening on ").expect("a URL");
    let response = agent()
        .post(format!("{url}/v1/decisions"))
        .content_type("application/json")
        .header("x-request-id", "wrong-1")
        .send(r#"{"schema": 1, "state": {"now_ns": "s3cret"}}"#)
        .expect("the service answers");
    assert_eq!(response.status(), 422);
    let killed = Command::new("kill").arg(child.id().to_string()).status();
    assert!(killed.expect("kill exists").success());
    let output = child.wait_with_output().expect("the program ends");
    let log = String::from_utf8(output.stderr).expect("text");
    assert!(!log.contains("s3cret"), "{log}");
    let entries: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let refused = entries
        .iter()
        .find(|entry| entry["fields"]["message"] == "refused");
    let fields = &refused.expect("a line about it")["fields"];
    assert_eq!(fields["request_id"], "wrong-1");
    assert_eq!(fields["status"], 422);
    assert_eq!(fields["route"], "/v1/decisions");
    assert_eq!(fields["problem"], "urn:problem-type:infer:invalid-message");
}

#[test]
fn the_version_is_told_as_json() {
    let output = run(&["version", "--format", "json"], b"");
    assert!(output.status.success());
    let about: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(about["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(about["wire_schema"], twin::wire::SCHEMA);
    assert_eq!(about["world_schema"], twin::world::file::SCHEMA);
    let output = run(&["openapi"], b"");
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document, infer::openapi::document());
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(deploy(name)).expect("the file is there")
}

/// Words of `text` that look like names of metrics of this program.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.starts_with("infer_") || word.starts_with("process_"))
        .collect()
}

/// Whether `kinds` has the metric of the series `name`.
fn exists(kinds: &BTreeMap<&str, &str>, name: &str) -> bool {
    let histogram = ["_bucket", "_count", "_sum"]
        .iter()
        .filter_map(|part| name.strip_suffix(part))
        .any(|base| kinds.get(base) == Some(&"histogram"));
    histogram || kinds.contains_key(name)
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let page = metrics();
    let kinds = kinds(&page);
    for file in ["prometheus/alerts.yml", "grafana/infer.json"] {
        let text = read(file);
        let asked = names(&text);
        assert!(asked.len() >= 5, "{file}: {asked:?}");
        for name in asked {
            assert!(exists(&kinds, name), "{file}: there is no {name}");
        }
    }
}

#[test]
fn the_dashboard_is_one_that_grafana_reads() {
    let board: Value = serde_json::from_str(&read("grafana/infer.json")).expect("JSON");
    let panels = board["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    let mut cells = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        assert!(
            ids.insert(panel["id"].as_u64().expect("a number")),
            "{title}"
        );
        let place = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        assert!(place("x") + place("w") <= 24, "{title}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(cells.insert((x, y)), "{title} lies on another panel");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string(),
            "{title}"
        );
        let targets = panel["targets"].as_array().expect("queries");
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            assert!(
                target["expr"].as_str().is_some_and(|e| !e.is_empty()),
                "{title}"
            );
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}

#[test]
fn what_is_deployed_names_what_there_is() {
    let help = run(&["serve", "--help"], b"");
    let help = String::from_utf8(help.stdout).expect("text");
    for file in [
        "systemd/infer.service",
        "systemd/infer.env",
        "container/Containerfile",
        "kubernetes/infer.yaml",
    ] {
        let text = read(file);
        let variables: BTreeSet<&str> = text
            .split(|c: char| !(c.is_ascii_uppercase() || c == '_'))
            .filter(|word| word.starts_with("INFER_") && *word != "INFER_LOG")
            .collect();
        for variable in variables {
            let told = format!("{variable}]");
            assert!(help.contains(&told), "{file}: {variable}");
        }
        let settings = text.lines().filter(|line| !line.starts_with('#'));
        let words = settings.flat_map(str::split_whitespace);
        for flag in words.filter(|word| word.starts_with("--") && *word != "---") {
            let flag = flag.split('=').next().unwrap_or(flag);
            let known =
                ["--locked", "--release", "--from", "--mount", "--strip-all"].contains(&flag);
            assert!(known || help.contains(flag), "{file}: {flag}");
        }
    }
}

/// What every container image of a service should be, and a reader can check in the file.
#[test]
fn the_container_is_small_and_runs_as_nobody() {
    let text = read("container/Containerfile");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .collect();
    let stages: Vec<&&str> = lines.iter().filter(|l| l.starts_with("FROM ")).collect();
    assert_eq!(stages.len(), 2, "a stage that builds and a stage that runs");
    for stage in &stages {
        assert!(!stage.contains(":latest"), "{stage} is not pinned");
    }
    let toolchain = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../rust-toolchain.toml"),
    )
    .expect("the toolchain is pinned");
    let version = toolchain
        .lines()
        .find_map(|line| line.strip_prefix("channel = "))
        .expect("a channel")
        .trim_matches('"');
    assert!(
        stages[0].contains(version),
        "{} is not {version}",
        stages[0]
    );
    let last = lines
        .iter()
        .rposition(|line| line.starts_with("FROM "))
        .expect("a stage");
    let run: Vec<&str> = lines[last..].to_vec();
    assert!(
        run.iter()
            .any(|line| line.starts_with("USER ") && !line.contains("root"))
    );
    assert!(run.iter().any(|line| line.starts_with("ENTRYPOINT [")));
    for line in &lines {
        assert!(!line.contains("curl ") && !line.contains("wget "), "{line}");
    }
}
