//! The program `twin`: what it prints, its errors and its exit codes.

use std::process::{Command, Output};

use twin::World;

fn twin(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twin"))
        .args(args)
        .output()
        .expect("the program starts")
}

/// Standard output of a run that must succeed.
fn printed(args: &[&str]) -> String {
    let output = twin(args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

/// Exit code and standard error of a run that must fail and print nothing else.
fn refused(args: &[&str]) -> (i32, String) {
    let output = twin(args);
    assert!(output.stdout.is_empty(), "{args:?} prints a result");
    let message = String::from_utf8(output.stderr).expect("the message is UTF-8");
    (output.status.code().expect("it ends by itself"), message)
}

#[test]
fn simulate_prints_the_metrics_as_json() {
    let text = printed(&[
        "simulate",
        "--world",
        "scinet-16",
        "--policy",
        "round-robin",
        "--seed",
        "5",
        "--intervals",
        "10",
        "--format",
        "json",
    ]);
    let keys: Vec<&str> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split('"').next())
        .collect();
    assert_eq!(
        keys,
        [
            "world",
            "policy",
            "seed",
            "intervals",
            "objective",
            "energy_wh",
            "cost_usd",
            "response_mean_s",
            "response_p50_s",
            "response_p95_s",
            "response_p99_s",
            "sla_violation_ratio",
            "accuracy_mean",
            "utilization_mean",
            "waiting_mean_s",
            "jain_fairness",
            "decision_time_p50_us",
            "decision_time_p99_us",
        ]
    );
    let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(value["policy"], "round-robin");
    assert_eq!(value["intervals"], 10);
    assert!(value["energy_wh"].as_f64().is_some_and(|e| e > 0.0));
}

#[test]
fn simulate_writes_events_and_a_timeline() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let events = folder.path().join("events.jsonl");
    let timeline = folder.path().join("timeline.csv");
    let (events_arg, timeline_arg) = (events.display().to_string(), timeline.display().to_string());
    let text = printed(&[
        "simulate",
        "--world",
        "azure-llm",
        "--policy",
        "best-fit",
        "--intervals",
        "4",
        "--events",
        &events_arg,
        "--timeline",
        &timeline_arg,
        "--split",
        "training",
    ]);
    assert!(
        text.starts_with("best-fit on azure-llm, seed 0, 4 intervals\n"),
        "{text}"
    );
    let events = std::fs::read_to_string(events).expect("the log was written");
    for line in events.lines() {
        let value: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
        assert!(
            value["time_s"].is_number() && value["event"].is_string(),
            "{line}"
        );
    }
    let timeline = std::fs::read_to_string(timeline).expect("the timeline was written");
    assert_eq!(
        timeline.lines().count(),
        1 + 4,
        "a header and one line an interval"
    );
    assert!(timeline.starts_with("time_s,hosts_on,"), "{timeline}");
}

#[test]
fn show_prints_a_world_that_loads_again() {
    for name in ["azure-llm", "scinet-16"] {
        let text = printed(&["show", name]);
        let again = World::parse(&text, "shown.toml", None).expect("it is a world file");
        let world = World::load(name).expect("the world is embedded");
        assert_eq!(again.hash, world.hash);
        let json: serde_json::Value =
            serde_json::from_str(&printed(&["show", name, "--format", "json"])).expect("JSON");
        assert_eq!(json["derived"]["hash"], world.hash);
        assert_eq!(
            json["derived"]["hosts"].as_array().map(Vec::len),
            Some(world.hosts.len())
        );
    }
}

#[test]
fn lists_name_every_world_and_policy() {
    let worlds = printed(&["worlds"]);
    assert!(
        worlds.contains("azure-llm  ") && worlds.contains("scinet-16  "),
        "{worlds}"
    );
    let policies: Vec<serde_json::Value> =
        serde_json::from_str(&printed(&["policies", "--format", "json"])).expect("JSON");
    let names: Vec<&str> = policies.iter().filter_map(|p| p["name"].as_str()).collect();
    let wanted: Vec<&str> = twin::policy::POLICIES.iter().map(|p| p.0).collect();
    assert_eq!(names, wanted);
}

#[test]
fn an_unknown_world_exits_with_66() {
    let (code, message) = refused(&["show", "azure-lm"]);
    assert_eq!(code, 66);
    insta::assert_snapshot!(message, @r#"error: azure-lm: no embedded world and no file of that name, did you mean "azure-llm"?; `twin worlds` lists the worlds"#);
}

#[test]
fn an_unknown_policy_exits_with_2() {
    let (code, message) = refused(&["simulate", "--world", "scinet-16", "--policy", "least-load"]);
    assert_eq!(code, 2);
    let start = "error: policy least-load: there is no such policy, did you mean \
                 \"least-loaded\"?; there are random, round-robin,";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn an_unknown_option_exits_with_2() {
    let (code, message) = refused(&["simulate", "--wrld", "scinet-16"]);
    assert_eq!(code, 2);
    assert!(message.contains("'--world"), "{message}");
}

#[test]
fn an_unknown_key_exits_with_64() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("world.toml");
    let text = printed(&["show", "scinet-16"]).replace("\ninterval_s", "\nintervall_s");
    std::fs::write(&path, text).expect("the folder can be written");
    let path = path.display().to_string();
    let (code, message) = refused(&["show", &path]);
    assert_eq!(code, 64);
    assert!(
        message.starts_with(&format!("error: {path}: TOML parse error at line ")),
        "{message}"
    );
    assert!(message.contains("unknown field `intervall_s`"), "{message}");
    assert!(
        message.ends_with("did you mean \"interval_s\"?\n"),
        "{message}"
    );
}

#[test]
fn arrivals_that_are_not_valid_exit_with_65_and_missing_ones_with_66() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("world.toml");
    let text = printed(&["show", "azure-llm"])
        .replace("arrivals = \"azure-llm\"", "arrivals = \"mine.csv\"");
    std::fs::write(&path, text).expect("the folder can be written");
    let path = path.display().to_string();
    let (code, message) = refused(&["show", &path]);
    assert_eq!(code, 66);
    assert!(message.contains("mine.csv: cannot read: "), "{message}");
    let arrivals = "time_s,application,context_tokens,generated_tokens\n1.5,codex,10,10\n";
    std::fs::write(folder.path().join("mine.csv"), arrivals).expect("the folder can be written");
    let (code, message) = refused(&["show", &path]);
    assert_eq!(code, 65);
    assert!(
        message.contains("the world has no \"codex\", did you mean \"code\"?"),
        "{message}"
    );
}

#[test]
fn a_log_that_cannot_be_created_is_named() {
    let (code, message) = refused(&[
        "simulate",
        "--world",
        "scinet-16",
        "--policy",
        "random",
        "--events",
        "/nowhere/x.jsonl",
    ]);
    assert_eq!(code, 66);
    assert!(
        message.starts_with("error: /nowhere/x.jsonl: cannot create: "),
        "{message}"
    );
}

#[test]
fn calibrate_names_a_recording_that_is_missing_or_wrong() {
    let (code, message) = refused(&["calibrate", "--recording", "/nowhere/a.csv,/nowhere/b.csv"]);
    assert_eq!(code, 66);
    assert!(
        message.starts_with("error: /nowhere/a.csv: cannot read: "),
        "{message}"
    );
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("empty.csv");
    std::fs::write(&path, "").expect("the folder can be written");
    let path = path.display();
    let (code, message) = refused(&["calibrate", "--recording", &format!("{path},{path}")]);
    assert_eq!(code, 65, "{message}");
}

#[test]
fn help_documents_the_exit_codes() {
    for args in [
        &["--help"][..],
        &["simulate", "--help"],
        &["calibrate", "--help"],
        &["replay", "--help"],
    ] {
        let text = printed(args);
        assert!(
            text.contains("Exit codes:") && text.contains("\n  64  "),
            "{text}"
        );
    }
}
