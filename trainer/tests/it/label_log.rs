//! `trainer label-log`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Parser;
use datasets::decisions::{self, DecisionRow, Manifest};
use trainer::fit;
use trainer::label::relabel;
use trainer::label_log::{Args, label_log};
use twin::decision_log::{DecisionId, Json, NewDecision, Situations};
use twin::{State, World, stream};

use crate::logged::{open, run};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

#[derive(Parser)]
struct FitCli {
    #[command(flatten)]
    args: fit::Args,
}

/// An oracle that hardly searches.
const ORACLE: [&str; 10] = [
    "--oracle-power-futures",
    "1",
    "--oracle-place-futures",
    "1",
    "--oracle-placements",
    "3",
    "--oracle-placements-per-variant",
    "1",
    "--oracle-power-intervals",
    "1",
];

fn arguments(log: &Path, out: &Path, more: &[&str]) -> Args {
    arguments_in("scinet-16", log, out, more)
}

fn arguments_in(world: &str, log: &Path, out: &Path, more: &[&str]) -> Args {
    let (log, out) = (log.display().to_string(), out.display().to_string());
    let fixed = [
        "trainer",
        &log,
        "--world",
        world,
        "--out",
        &out,
        "--decisions-per-shard",
        "4",
    ];
    Cli::parse_from([&fixed[..], &ORACLE, more].concat()).args
}

fn world() -> World {
    World::load("scinet-16").expect("it is embedded")
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
        .map(|entry| {
            let name = entry.file_name().into_string().expect("text");
            (name, fs::read(entry.path()).expect("bytes"))
        })
        .collect()
}

fn rows(folder: &Path) -> Vec<DecisionRow> {
    let manifest = decisions::verify(folder).expect("the dataset is whole");
    assert!(manifest.complete);
    manifest.read_rows(folder).expect("readable")
}

fn bits(row: &DecisionRow) -> Vec<u32> {
    row.values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn logged_states_are_labeled_as_simulated_ones_are() {
    let (log, out) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let world = world();
    let writer = open(log.path(), &world);
    let ids = run(&writer, &world, 15);
    let args = arguments(
        log.path(),
        out.path(),
        &["--label-share", "1", "--seed", "5"],
    );
    // The log is still open for writing.
    let labeled = label_log(&args).expect("labeled");
    assert_eq!(labeled.passed, trainer::label_log::Passed::default());
    let found = rows(out.path());
    assert_eq!(labeled.new_rows, found.len() as u64);
    // What `trainer label` would say of the same states, in the order of the log.
    let mut expected = Vec::new();
    let mut situations = Situations::open(log.path(), 0..u64::MAX, &world).expect("there");
    let mut seen = Vec::new();
    while let Some(next) = situations.next_situation(|_, _| true).expect("readable") {
        let situation = next.expect("whole");
        seen.push(situation.id);
        let state = State::from_view(&world, &situation.view).expect("a state");
        let seed = stream::mix(5, situation.id.0);
        expected.extend(relabel(&world, args.oracle.options(), seed, &state).expect("labeled"));
    }
    assert_eq!(seen, ids);
    assert_eq!(found.len(), expected.len());
    let kinds: BTreeSet<u8> = found.iter().map(|row| row.kind).collect();
    assert_eq!(kinds.len(), 3, "hosts, variants and places");
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(
            (found.kind, found.best, bits(found)),
            (expected.kind, expected.best, bits(expected))
        );
        assert_eq!(
            (&found.hosts, &found.candidates, &found.state),
            (&expected.hosts, &expected.candidates, &expected.state)
        );
        assert_eq!(found.policy, "least-loaded");
        assert!(found.target_load.is_empty());
    }
    // Four decisions are an episode.
    let episodes: BTreeSet<u64> = found.iter().map(|row| row.episode).collect();
    assert!(episodes.len() > 1 && episodes.len() <= ids.len().div_ceil(4));
    fits(out.path());
}

/// Closes the loop: a model is fitted to the states of the log.
fn fits(dataset: &Path) {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model").display().to_string();
    let dataset = dataset.display().to_string();
    let args = [
        "trainer",
        "--dataset",
        &dataset,
        "--out",
        &model,
        "--epochs",
        "1",
    ];
    let metrics = fit::fit(&FitCli::parse_from(args).args).expect("fitted");
    assert!(metrics.training_episodes > 0 && metrics.validation_episodes > 0);
    let spec = format!("model:{model}");
    trainer::policies::build(&spec, &world(), 1).expect("it can be loaded");
}

#[test]
fn threads_kills_and_a_log_that_grows_change_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, world) = (folder.path().join("log"), world());
    let writer = open(&log, &world);
    run(&writer, &world, 15);
    let at = |name: &str| folder.path().join(name);
    let run_with =
        |name: &str, more: &[&str]| label_log(&arguments(&log, &at(name), more)).expect("labeled");
    let labeled = run_with("one", &["--threads", "1"]);
    let expected = files(&at("one"));
    run_with("two", &["--threads", "2"]);
    assert_eq!(files(&at("two")), expected);
    // What a kill leaves: some shards, and the manifest of some of these.
    let mut manifest = Manifest::load(at("two")).expect("a manifest");
    let count = manifest.shards.len();
    assert!(count >= 3, "{count} shards");
    manifest.shards.truncate(count - 1);
    manifest.complete = false;
    manifest.save(at("two")).expect("saved");
    fs::remove_file(at("two").join(&manifest.shards[count - 2].file)).expect("removed");
    let resumed = run_with("two", &[]);
    assert_eq!(files(&at("two")), expected);
    assert!(resumed.tally == labeled.tally && resumed.new_rows < labeled.new_rows);
    // A dataset that is whole stays, also when the log has grown.
    run(&writer, &world, 5);
    assert_eq!(run_with("two", &[]).new_rows, 0);
    assert_eq!(files(&at("two")), expected);
    // What came since is another dataset.
    let first: DecisionId = manifest.arguments["first_decision"].parse().expect("an id");
    run_with("later", &["--after", &first.to_string(), "--steps", "1"]);
    assert_eq!(
        Manifest::load(at("later"))
            .expect("a manifest")
            .shards
            .len(),
        1
    );
    let error = label_log(&arguments(&log, &at("later"), &["--steps", "1"]));
    let error = error.expect_err("it began elsewhere").to_string();
    assert!(error.contains("first_decision is"), "{error}");
}

#[test]
fn boundaries_are_all_labeled_and_a_share_of_the_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    // Decisions are due when requests arrive there.
    let world = World::load("azure-llm").expect("it is embedded");
    let count = run(&open(&log, &world), &world, 1).len();
    let labeled = |share: &str| {
        let out = folder.path().join(share);
        let args = arguments_in("azure-llm", &log, &out, &["--label-share", share]);
        label_log(&args).expect("labeled");
        let rows = rows(&out);
        // The state stands in the first row of a decision.
        let states = rows.iter().filter(|row| !row.state.is_empty());
        let powers = rows.iter().filter(|row| row.kind == decisions::PROVISION);
        (states.count(), powers.count())
    };
    let (none, powers) = labeled("0");
    assert!(
        (1..=2).contains(&none) && powers > 0,
        "{none} boundaries, {powers}"
    );
    let (some, _) = labeled("0.1");
    assert!(none < some && some < count / 4, "{some} of {count}");
}

#[test]
fn what_cannot_be_labeled_is_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, out) = (folder.path().join("log"), folder.path().join("out"));
    let other = World::load("azure-llm").expect("it is embedded");
    let writer = open(&log, &other);
    run(&writer, &other, 1);
    drop(writer);
    // On a fleet that nobody has told.
    let writer = open(&log, &world());
    let orphan = NewDecision {
        policy: "edge",
        model_sha256: None,
        client: None,
        candidate: false,
        request: Json::parsed(br#"{"schema":1,"now_ns":0,"epoch":"boundary"}"#),
        stateful: Some(None),
        response: Json::parsed(br#"{"schema":1}"#),
    };
    writer.append_decision(&orphan).expect("appended");
    let program = || {
        let output = Command::new(env!("CARGO_BIN_EXE_trainer"))
            .args(["label-log", "--world", "scinet-16", "--out"])
            .arg(&out)
            .arg(&log)
            .args(ORACLE)
            .output()
            .expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, _, error) = program();
    assert_eq!(code, Some(65), "{error}");
    assert!(
        error.contains("no decision on the world scinet-16") && error.contains(", 1 on fleets"),
        "{error}"
    );
    assert!(!out.exists());
    run(&writer, &world(), 5);
    let (code, stdout, error) = program();
    assert_eq!(code, Some(0), "{error}");
    assert!(
        stdout.contains("1 on fleets that the log does not hold"),
        "{stdout}"
    );
    assert!(error.contains("does not hold the fleet"), "{error}");
}
