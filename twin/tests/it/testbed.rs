//! `twin calibrate --out` and `twin replay` of the recorded testbed.

use std::process::{Command, Output};

fn twin(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twin"))
        .args(args)
        .output()
        .expect("the program starts")
}

#[test]
fn a_calibration_file_drives_a_replay() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("first-half.toml");
    let path = path.to_str().expect("the path is UTF-8");
    let output = twin(&["calibrate", "--window", "0..350", "--out", path]);
    assert!(output.status.success());
    let replay = |calibration: &[&str]| {
        let args = ["replay", "--replications", "4", "--format", "json"];
        let output = twin(&[&args, calibration].concat());
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    let text = replay(&["--calibration", path]);
    // Without a file the same is made from the same window.
    assert_eq!(text, replay(&["--fit-window", "0..350"]));
    let report: serde_json::Value = serde_json::from_slice(&text).expect("it is JSON");
    assert_eq!(report["calibrated_on"], serde_json::json!([0, 350]));
    assert_eq!(report["window"], serde_json::json!([350, 701]));
    assert_eq!(report["online"]["hosts"].as_array().map(Vec::len), Some(16));
}

#[test]
fn replay_names_what_is_wrong() {
    for (args, code, expected) in [
        (
            vec!["--calibration", "/nowhere/c.toml"],
            66,
            "error: /nowhere/c.toml: cannot read",
        ),
        (
            vec!["--recording", "/nowhere"],
            66,
            "error: /nowhere/recording.toml: cannot read",
        ),
        (
            vec!["--window", "350..900"],
            2,
            "error: --window 350..900: hosts were recorded in the intervals 1..701",
        ),
    ] {
        let output = twin(&[&["replay"], args.as_slice()].concat());
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        let message = String::from_utf8(output.stderr).expect("the message is UTF-8");
        assert!(message.starts_with(expected), "{message}");
    }
}
