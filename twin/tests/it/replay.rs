//! `twin replay`: what it prints and writes, and its exit codes.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn replay(recording: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twin"))
        .arg("replay")
        .arg("--recording")
        .arg(recording)
        .args(args)
        .output()
        .expect("the program starts")
}

fn printed(recording: &Path, args: &[&str]) -> String {
    let output = replay(recording, args);
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("the output is UTF-8")
}

fn json(recording: &Path, args: &[&str]) -> Value {
    let text = printed(recording, &[args, &["--format", "json"]].concat());
    serde_json::from_str(&text).expect("the output is JSON")
}

/// Three nodes of two cores for a day; one job is there all day, a second for the odd hours. Each
/// uses a level from 0 to 4 quarters of its node for half an hour.
///
/// Measured power is 3 · 40 W, 10 W for each node with a job, and 60 W for the first and 20 W for
/// the second core.
fn cluster(folder: &Path) {
    let quarter_w = [0.0, 30.0, 60.0, 70.0, 80.0];
    let long = |half: u64| usize::try_from(half * 3 % 5).expect("small");
    let short = |half: u64| usize::try_from(half * 2 % 5).expect("small");
    let mut jobs = String::from("job,start_ms,duration_ms,reserved_mhz\n0,0,86400000,1000\n");
    let mut demand = String::from("job,duration_ms,cpu_mhz\n");
    let mut power = String::from("time_ms,power_w\n");
    for half in 0..48 {
        let _ = writeln!(demand, "0,1800000,{}", long(half) * 250);
        let hour = half / 2;
        let mut watts = 130.0 + quarter_w[long(half)];
        if hour % 2 == 1 {
            watts += 10.0 + quarter_w[short(half)];
        }
        for fifth in 1..=6 {
            let _ = writeln!(power, "{},{watts}", half * 1_800_000 + fifth * 300_000);
        }
    }
    for hour in (1..24).step_by(2) {
        let _ = writeln!(jobs, "{hour},{},3600000,1000", hour * 3_600_000);
        for half in [2 * hour, 2 * hour + 1] {
            let _ = writeln!(demand, "{hour},1800000,{}", short(half) * 250);
        }
    }
    let manifest = "kind = \"containers\"\nname = \"small\"\nsource = \"made up\"\nbin_s = 300.0\n\
                    placement = \"exclusive\"\n[hosts]\ncount = 3\ncores = 2\ncore_mhz = 500.0\n";
    for (name, text) in [
        ("recording.toml", manifest),
        ("jobs.csv", &jobs),
        ("demand.csv", &demand),
        ("power.csv", &power),
    ] {
        fs::write(folder.join(name), text).expect("written");
    }
}

#[test]
fn a_fit_is_saved_and_holds_on_another_window() {
    let folder = tempfile::tempdir().expect("a folder");
    cluster(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (power, saved, page) = (path("power.csv"), path("saved.toml"), path("page.html"));
    let fitted = json(
        folder.path(),
        &[
            "--power",
            &power,
            "--fit-window",
            "0h..18h",
            "--window",
            "18h..24h",
            "--save-calibration",
            &saved,
            "--report",
            &page,
        ],
    );
    let node = &fitted["power"]["node"];
    let close = |value: &Value, expected: f64| {
        let value = value.as_f64().expect("a number");
        assert!((value - expected).abs() < 1e-6, "{value}, not {expected}");
    };
    close(&node["idle_w"], 40.0);
    close(&node["allocated_w"], 10.0);
    close(&node["extra_w"][1], 60.0);
    close(&node["extra_w"][2], 80.0);
    let best = &fitted["power"]["models"][0];
    // 6 h in bins of 300 s.
    assert_eq!(best["window"]["bins"], 72);
    close(&best["window"]["mape_percent"], 0.0);
    assert_eq!(fitted["work"]["unmet_megacycles"], 0.0);
    assert_eq!(fitted["work"]["bins_exact"], 288);

    let loaded = json(
        folder.path(),
        &[
            "--power",
            &power,
            "--calibration",
            &saved,
            "--window",
            "18h..24h",
        ],
    );
    assert_eq!(loaded, fitted, "what was saved predicts the same");
    let page = fs::read_to_string(page).expect("the page is written");
    assert!(page.contains("<polyline") && page.ends_with("</html>\n"));
    let text = printed(folder.path(), &["--calibration", &saved]);
    assert!(text.contains("nothing measured in the window"), "{text}");
}

#[test]
fn errors_have_codes_and_name_the_place() {
    let folder = tempfile::tempdir().expect("a folder");
    cluster(folder.path());
    let refused = |args: &[&str], code: i32, message: &str| {
        let output = replay(folder.path(), args);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{error}");
        assert!(output.stdout.is_empty());
        assert!(error.contains(message), "{error}");
    };
    refused(&["--power", "absent.csv"], 66, "absent.csv: cannot read");
    refused(
        &["--window", "25h..30h"],
        2,
        "--window: the window holds none",
    );
    refused(&["--window", "2..x"], 2, "expected A..B");
    refused(&["--fit-window", "0h..9h"], 2, "--power");
    refused(
        &["--bin-s", "1e300"],
        2,
        "bin length: expected up to 86400 s",
    );
    refused(&["--bin-s=-5"], 2, "bin length: expected up to 86400 s");
    refused(&["--hosts", "0"], 2, "hosts: expected 1 to");
    refused(&["--hosts", "1"], 2, "container 1 starts at 3600");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
    write("recording.toml", "kind = \"contianers\"\n").expect("written");
    refused(&[], 65, "recording.toml: ");
    fs::remove_file(folder.path().join("recording.toml")).expect("it is there");
    refused(&[], 66, "recording.toml: cannot read");
}
