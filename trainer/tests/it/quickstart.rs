//! `trainer quickstart`.

use std::process::Command;

#[test]
fn the_smallest_runs_all_parts_and_goes_on_where_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("quickstart");
    let run = || {
        let output = Command::new(env!("CARGO_BIN_EXE_trainer"))
            .args(["quickstart", "--smallest", "--out"])
            .arg(&out)
            .output()
            .expect("the program starts");
        let error = String::from_utf8(output.stderr).expect("text");
        assert!(output.status.success(), "{error}");
        (String::from_utf8(output.stdout).expect("text"), error)
    };
    let (first, told) = run();
    assert!(told.contains("quickstart 4/4"), "{told}");
    for part in [
        "scinet-16: 3 seeds",
        "oracle",
        "report.html",
        "serve --model",
    ] {
        assert!(first.contains(part), "{part}: {first}");
    }
    let files = [
        "dataset/manifest.json",
        "model/model.safetensors",
        "model/metrics.json",
        "evaluation/evaluation.json",
        "evaluation/report.html",
    ];
    for file in files {
        assert!(out.join(file).is_file(), "{file}");
    }

    // Started again, it finds everything there, and ends with the same table.
    let table = |text: &str| {
        let start = text.find("scinet-16: 3 seeds").expect("a table");
        text[start..text.find("all of it took").expect("the end")].to_owned()
    };
    let (second, told) = run();
    assert_eq!(table(&second), table(&first));
    assert!(
        !told.contains("labels/s"),
        "nothing is labeled again: {told}"
    );
}
