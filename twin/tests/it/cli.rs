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
pub(crate) fn printed(args: &[&str]) -> String {
    let output = twin(args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

/// Exit code and standard error of a run that must fail and print nothing else.
pub(crate) fn refused(args: &[&str]) -> (i32, String) {
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
fn simulate_prints_what_only_some_worlds_have() {
    let args = "simulate --world ../docs/examples/edge-cloud.toml --policy least-loaded";
    let text = printed(&args.split(' ').collect::<Vec<_>>());
    for name in [
        "carbon_g",
        "throttled_s",
        "cold_starts",
        "requests_rejected",
        "migrations_completed",
        "host_crashes",
        "slow_spells",
        "link_failures",
        "allocation_failures",
        "requests_withdrawn",
    ] {
        assert!(text.contains(&format!("\n{name} ")), "{name}: {text}");
    }
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
fn simulate_writes_a_page() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("out.html").display().to_string();
    let args = [
        "simulate",
        "--world",
        "scinet-16",
        "--policy",
        "best-fit",
        "--seed",
        "7",
        "--intervals",
        "12",
        "--report",
        &path,
    ];
    let plain = printed(&args[..9]);
    let text = printed(&args);
    let without_times = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .filter(|line| !line.starts_with("decision_time"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(
        without_times(&text),
        without_times(&plain),
        "looking on changes nothing"
    );
    let page = std::fs::read_to_string(&path).expect("the page was written");
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    let command = format!(
        "twin simulate --world scinet-16 --policy best-fit --seed 7 --intervals 12 --split held-out \
         --report {path}"
    );
    assert!(page.contains(&command), "the page tells how to repeat it");
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .collect();
    assert_eq!(left.len(), 1, "no temporary file is left");
    let (code, message) = refused(&[
        "simulate",
        "--world",
        "scinet-16",
        "--policy",
        "random",
        "--report",
        "/nowhere/x.html",
    ]);
    assert_eq!(code, 66);
    insta::assert_snapshot!(message, @"error: /nowhere/x.html: cannot create: its folder does not exist; make it first");
}

#[test]
fn check_explains_the_embedded_worlds_and_can_deny() {
    for name in ["azure-llm", "scinet-16"] {
        let text = printed(&["check", name, "--deny", "warnings"]);
        assert!(text.ends_with("0 errors, 0 warnings, 3 notes\n"), "{text}");
        let json: serde_json::Value =
            serde_json::from_str(&printed(&["check", name, "--format", "json"])).expect("JSON");
        assert_eq!(json["findings"].as_array().map(Vec::len), Some(3));
        assert!(json["load"]["most_accurate"]["mean"].is_number());
    }
    let output = twin(&["check", "scinet-16", "--deny", "notes"]);
    assert_eq!(output.status.code(), Some(64));
    let message = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(
        message,
        "error: scinet-16: 3 findings of severity note or graver\n"
    );
    let text = printed(&["check", "azure-llm"]);
    let load: Vec<&str> = text.lines().take(7).collect();
    insta::assert_snapshot!(load.join("\n"), @r#"
    azure-llm

    Load: 8.8847 requests/s on hosts of 2659136 MIPS together
      most accurate variants: mean 60.2 %; 12 hosts are enough in the long run
        busiest windows: 1 s 336.5 %, 10 s 220.9 %, 60 s 97.8 %
      variants of least work: mean 24.1 %; 5 hosts are enough in the long run
        busiest windows: 1 s 134.6 %, 10 s 88.4 %, 60 s 39.1 %
    "#);
}

#[test]
fn check_refuses_what_is_no_world() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("world.toml");
    let shown = printed(&["show", "scinet-16"]);
    let message = |text: &str| {
        std::fs::write(&path, text).expect("the folder can be written");
        let (code, message) = refused(&["check", &path.display().to_string()]);
        assert_eq!(code, 64, "{message}");
        message.replace(&path.display().to_string(), "world.toml")
    };
    let empty = message("");
    assert!(empty.contains("missing field `schema`"), "{empty}");
    let nan = message(&shown.replace("interval_s = 5.0", "interval_s = nan"));
    insta::assert_snapshot!(nan, @"error: world.toml: interval_s: must be finite and above zero, found NaN");
    let none = message(&shown.replace("count = 8", "count = 0"));
    insta::assert_snapshot!(none, @"error: world.toml: hosts: the counts must add up to 1 to 100000 hosts, found 0");
}

#[test]
fn compare_pairs_policies_reports_and_logs() {
    let args = [
        "compare",
        "round-robin",
        "best-fit",
        "--world",
        "scinet-16",
        "--seeds",
        "4",
        "--intervals",
        "12",
    ];
    let text = printed(&args);
    assert!(
        text.starts_with("A: round-robin\nB: best-fit\nscinet-16, paired over 4 seeds;"),
        "{text}"
    );
    assert!(
        text.contains("First decisions that differ:\n  seed 1, at 0 s\n"),
        "{text}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&printed(&[&args[..], &["--format", "json"]].concat())).expect("JSON");
    assert_eq!(
        (&json["pairs"], &json["metrics"][0]["metric"]),
        (&4.into(), &"objective".into())
    );
    // The same seeds, run one by one: the same metrics, and the same comparison.
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = |name: &str| folder.path().join(name).display().to_string();
    for policy in ["round-robin", "best-fit"] {
        let mut reports = String::new();
        for seed in ["1", "2", "3", "4"] {
            reports += &printed(&[
                "simulate",
                "--world",
                "scinet-16",
                "--policy",
                policy,
                "--intervals",
                "12",
                "--seed",
                seed,
                "--format",
                "json",
                "--events",
                &file(&format!("{policy}.{seed}.jsonl")),
            ]);
        }
        std::fs::write(file(policy), reports).expect("the folder can be written");
    }
    let (a, b) = (file("round-robin"), file("best-fit"));
    let again: serde_json::Value =
        serde_json::from_str(&printed(&["compare", &a, &b, "--format", "json"])).expect("JSON");
    let of = |json: &serde_json::Value| json["metrics"].as_array().map(|m| m[..12].to_vec());
    assert_eq!(of(&again), of(&json));
    let logs = printed(&[
        "compare",
        &file("round-robin.1.jsonl"),
        &file("best-fit.1.jsonl"),
    ]);
    assert!(
        logs.contains("\nresponse_s ") && logs.contains("  at 0 s\n"),
        "{logs}"
    );
}

#[test]
fn compare_refuses_what_cannot_be_paired() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("the folder can be written");
        path.display().to_string()
    };
    let report = r#"{"world":"w","policy":"p","seed":1,"intervals":2,"objective":-1.5}"#;
    let good = file("good.json", report);
    let place = format!("{}/", folder.path().display());
    let message = |a: &str, b: &str, code: i32| {
        let (found, message) = refused(&["compare", a, b]);
        assert_eq!(found, code, "{message}");
        message.replace(&place, "")
    };
    let other = file("other.json", &report.replace("\"seed\":1", "\"seed\":2"));
    insta::assert_snapshot!(message(&good, &other, 65), @r#"error: good.json has a run with seed 1 and other.json has none; compare runs of the same seeds"#);
    let longer = file(
        "longer.json",
        &report.replace("\"intervals\":2", "\"intervals\":3"),
    );
    insta::assert_snapshot!(message(&good, &longer, 65), @r#"error: seed 1: good.json is 2 intervals of w, and longer.json is 3 intervals of w; compare runs of the same world and length"#);
    let wrong = file(
        "wrong.json",
        &format!("{report}\n{}", report.replace("-1.5", "null")),
    );
    insta::assert_snapshot!(message(&good, &wrong, 65), @r#"error: wrong.json:2: `objective` is null, not a number"#);
    let twice = file("twice.json", &format!("{report}\n{report}"));
    insta::assert_snapshot!(message(&twice, &good, 65), @r#"error: twice.json:2: seed 1 is there twice; keep one run of each seed"#);
    let empty = file("empty.json", "");
    insta::assert_snapshot!(message(&empty, &good, 65), @r#"error: empty.json:1: holds no report; `twin simulate --format json` prints one"#);
    let log = file(
        "log.jsonl",
        r#"{"time_s":0,"event":"started","schema":1,"world":"w","world_hash":"0"}"#,
    );
    insta::assert_snapshot!(message(&log, &good, 65), @r#"error: log.jsonl is an event log and good.json is a report; give two of one kind"#);
    insta::assert_snapshot!(message(&log, &log, 65), @r#"error: no request is answered in both log.jsonl and log.jsonl; compare longer runs"#);
    insta::assert_snapshot!(message(&good, "greedy", 2), @r#"error: good.json is a file and greedy is none; give two policies or two files"#);
    insta::assert_snapshot!(message("absent.json", "greedy", 66), @r#"error: absent.json: cannot read: there is no such file, and no policy of that name"#);
    insta::assert_snapshot!(message("greedy", "best-fit", 2), @r#"error: --world is missing: name the world in which greedy and best-fit are compared"#);
}

#[test]
fn help_documents_the_exit_codes() {
    for args in [
        &["--help"][..],
        &["simulate", "--help"],
        &["check", "--help"],
        &["compare", "--help"],
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

#[test]
fn cosim_prints_alarms_and_writes_what_it_learned() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (telemetry, calibration, world) = (
        path("t.jsonl"),
        path("calibration.toml"),
        path("world.toml"),
    );
    let text = printed(&[
        "cosim",
        "--slow-hosts",
        "3,7=0.7",
        "--from-interval",
        "350",
        "--format",
        "json",
        "--write-telemetry",
        &telemetry,
        "--write-calibration",
        &calibration,
        "--write-world",
        &world,
    ]);
    let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let alarms = value["alarms"].as_array().expect("a list");
    let slow = |a: &serde_json::Value| a["stream"] == "speed of host 3" && a["test"] == "cusum";
    assert!(alarms.iter().any(slow), "{alarms:?}");
    let error = |part: &str| value[part]["duration_s"]["rmse"].as_f64();
    assert!(error("after_with") < error("after_without"));
    let learned: twin::cosim::Calibration =
        toml::from_str(&std::fs::read_to_string(calibration).expect("the calibration was written"))
            .expect("it can be read again");
    let world = World::load(&world).expect("the calibrated world is valid");
    let mips = world.size_of(3).mips_per_vcpu.0;
    assert!((mips - 2014.2 * learned.hosts[3].speed).abs() < 1e-9);

    // The telemetry alone gives the same.
    let from = ["cosim", "--telemetry", &telemetry, "--resolution-s", "5"];
    let part = ["--from-interval", "350", "--format", "json"];
    let again: serde_json::Value =
        serde_json::from_str(&printed(&[&from[..], &part[..]].concat())).expect("it is JSON");
    assert_eq!(again["alarms"], value["alarms"]);
}

#[test]
fn cosim_refuses_what_it_cannot_read() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let file = folder.path().join("t.jsonl");
    let name = file.display().to_string();
    let (code, message) = refused(&["cosim", "--telemetry", &name]);
    assert_eq!(code, 66, "{message}");
    let line = r#"{"task": {"application": "blurr", "variant": "layer", "fragment": 0, "host": 3, "started_s": 2.5, "finished_s": 9}}"#;
    std::fs::write(&file, line).expect("a file can be written");
    let (code, message) = refused(&["cosim", "--telemetry", &name]);
    assert_eq!(code, 65);
    assert_eq!(
        message,
        format!(
            "error: {name}:1: application: unknown application \"blurr\", did you mean \
             \"blur\"?\n"
        )
    );
    std::fs::write(&file, line.replace("9}}", "1}}")).expect("a file can be written");
    let (code, message) = refused(&["cosim", "--telemetry", &name]);
    assert_eq!(code, 65);
    assert!(
        message.contains("t.jsonl:1: task.finished_s: expected a number from 2.5"),
        "{message}"
    );
    let (code, _) = refused(&["cosim", "--slow-hosts", "3"]);
    assert_eq!(code, 2);
    let (code, _) = refused(&["cosim", "--interval-s", "0"]);
    assert_eq!(code, 2);
}
