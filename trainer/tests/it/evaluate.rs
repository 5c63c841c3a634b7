//! `trainer evaluate`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Result, bail};
use clap::Parser;
use rand::RngExt;
use trainer::evaluate::{
    Args, EVALUATION_FILE, Evaluation, JOURNAL_FILE, METRICS, RUNS_FILE, RunRow, TIMELINE_FILE,
    TimelineRow, evaluate_with,
};
use twin::decision::{Deployment, PowerAction};
use twin::ids::{HostId, VariantId};
use twin::policy::{Policy, PolicyError};
use twin::stream::{self, Stream};
use twin::{Decision, Observation, World};

/// All hosts on; one variant for all; hosts at random among the first `spread` of all.
struct Scatter {
    name: String,
    spread: u32,
    variant: u16,
    stream: Stream,
}

impl Policy for Scatter {
    fn name(&self) -> &str {
        &self.name
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        if observation.may_provision() {
            let hosts = (0..observation.host_count()).map(HostId::at);
            decision.provisioning = hosts.map(|host| PowerAction { host, on: true }).collect();
        }
        for request in observation.waiting() {
            let variant = VariantId(self.variant);
            let count = observation
                .world()
                .variant(request.application, variant)
                .fragments
                .len();
            let hosts = (0..count)
                .map(|_| HostId(self.stream.random_range(0..self.spread)))
                .collect();
            decision.deployments.push(Deployment {
                request: request.id,
                variant,
                hosts,
            });
        }
        Ok(())
    }
}

/// Policies that differ clearly: few hosts or many, named as roles need them.
fn build(spec: &str, _: &World, seed: u64) -> Result<Box<dyn Policy>> {
    let (spread, variant) = match spec {
        "narrow" => (2, 0),
        "wide" => (8, 0),
        "http://stand-in" => (12, 2),
        "greedy" => (14, 2),
        "oracle" => (16, 2),
        _ => bail!("policy {spec}: there is no such policy"),
    };
    let stream = stream::named(seed, "scatter");
    Ok(Box::new(Scatter {
        name: spec.to_owned(),
        spread,
        variant,
        stream,
    }))
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn arguments(out: &Path, more: &[&str]) -> Args {
    let out = out.display().to_string();
    let fixed = [
        "trainer",
        "--world",
        "scinet-16",
        "--intervals",
        "12",
        "--out",
        &out,
    ];
    Cli::parse_from([&fixed[..], more].concat()).args
}

const FOUR: &str = "narrow,wide,http://stand-in,oracle";

fn world() -> World {
    World::load("scinet-16").expect("the world is embedded")
}

/// Rows without what a clock measured.
fn untimed(out: &Path) -> Vec<RunRow> {
    let mut rows: Vec<RunRow> = datasets::read_parquet(out.join(RUNS_FILE)).expect("readable");
    for row in &mut rows {
        assert!(row.decision_time_p50_us.take() <= row.decision_time_p99_us.take());
    }
    rows
}

/// The rows of one policy.
fn of<'a>(rows: &'a [RunRow], policy: &'a str) -> impl Iterator<Item = &'a RunRow> {
    rows.iter().filter(move |row| row.policy == policy)
}

#[test]
fn files_agree_with_each_other_and_with_the_summary() {
    let folder = tempfile::tempdir().expect("a folder");
    let args = arguments(
        folder.path(),
        &["--policies", FOUR, "--seeds", "4", "--first-seed", "7"],
    );
    let evaluation = evaluate_with(&args, &world(), &build).expect("evaluated");

    let text = fs::read_to_string(folder.path().join(EVALUATION_FILE)).expect("written");
    let read: Evaluation = serde_json::from_str(&text).expect("the schema of the summary");
    assert_eq!(read, evaluation);
    assert_eq!((read.seeds, read.first_seed, read.intervals), (4, 7, 12));

    let rows = untimed(folder.path());
    assert_eq!(rows.len(), 4 * 4);
    for policy in &args.policies {
        assert_eq!(
            of(&rows, policy).map(|r| r.seed).collect::<Vec<_>>(),
            [7, 8, 9, 10]
        );
        // Requests are the same for every policy: they depend on the seed alone.
        assert!(of(&rows, policy).zip(of(&rows, "oracle")).all(|(a, b)| {
            a.qos.requests_arrived == b.qos.requests_arrived
                && a.regret == Some(b.qos.objective - a.qos.objective)
        }));
        let mean = of(&rows, policy).map(|r| r.qos.objective).sum::<f64>() / 4.0;
        let told = evaluation.policies[policy]["objective"].expect("it is always there");
        assert!((told.mean - mean).abs() < 1e-12);
        assert!(
            METRICS
                .iter()
                .all(|metric| evaluation.policies[policy][*metric].is_some())
        );
    }
    assert_eq!(evaluation.paired.len(), 6 * METRICS.len());
    let spread = evaluation.spread.as_ref().expect("there are heuristics");
    assert_eq!(
        evaluation.gap_closed["http://stand-in"].best_heuristic,
        spread.best_heuristic
    );

    let timeline: Vec<TimelineRow> =
        datasets::read_parquet(folder.path().join(TIMELINE_FILE)).expect("readable");
    assert_eq!(timeline.len(), 4 * 12);
    assert!(timeline.iter().all(|row| row.seed == 7));
    assert_eq!(timeline[11].interval, 11);
    // Intervals of 5 s: the twelfth begins at 55 s.
    assert!((timeline[11].snapshot.time_s - 55.0).abs() < 1e-9);
}

#[test]
fn threads_and_kills_change_nothing() {
    let world = world();
    let run = |out: &Path, threads: &str| {
        let more = ["--policies", FOUR, "--seeds", "3", "--threads", threads];
        evaluate_with(&arguments(out, &more), &world, &build).expect("evaluated");
    };
    let one = tempfile::tempdir().expect("a folder");
    run(one.path(), "1");
    let expected = untimed(one.path());
    let three = tempfile::tempdir().expect("a folder");
    run(three.path(), "3");
    assert_eq!(untimed(three.path()), expected);

    // What a kill leaves: some whole lines, one that is cut off, and no results.
    let journal = three.path().join(JOURNAL_FILE);
    let text = fs::read_to_string(&journal).expect("text");
    let kept: String = text.split_inclusive('\n').take(6).collect();
    let cut = &text[kept.len()..][..40];
    fs::write(&journal, format!("{kept}{cut}")).expect("written");
    for file in [RUNS_FILE, TIMELINE_FILE, EVALUATION_FILE] {
        fs::remove_file(three.path().join(file)).expect("removed");
    }
    run(three.path(), "2");
    assert_eq!(untimed(three.path()), expected);
    let timelines = [one.path(), three.path()].map(|out| {
        let rows: Vec<TimelineRow> =
            datasets::read_parquet(out.join(TIMELINE_FILE)).expect("readable");
        rows
    });
    assert_eq!(timelines[0], timelines[1]);
}

#[test]
fn finished_episodes_are_not_run_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let world = world();
    let built = AtomicUsize::new(0);
    let counting = |spec: &str, world: &World, seed: u64| {
        built.fetch_add(1, Ordering::Relaxed);
        build(spec, world, seed)
    };
    // Each policy is built once for a check, and once for each episode that runs.
    let run = |policies: &str, first_seed: &str, seeds: &str| {
        built.store(0, Ordering::Relaxed);
        let more = [
            "--policies",
            policies,
            "--first-seed",
            first_seed,
            "--seeds",
            seeds,
            "--threads",
            "2",
        ];
        evaluate_with(&arguments(folder.path(), &more), &world, &counting).expect("evaluated");
        built.load(Ordering::Relaxed)
    };
    assert_eq!(run("narrow,wide", "1", "2"), 2 + 4);
    assert_eq!(run("narrow,wide", "1", "2"), 2);
    assert_eq!(run("narrow,wide,oracle", "1", "3"), 3 + 2 + 3);
    // The timeline is that of the first seed, which has none yet if it was not the first before.
    assert_eq!(run("narrow", "2", "2"), 1 + 1);
    let timeline: Vec<TimelineRow> =
        datasets::read_parquet(folder.path().join(TIMELINE_FILE)).expect("readable");
    assert_eq!(timeline.len(), 12);
    assert!(timeline.iter().all(|row| row.seed == 2));
    assert_eq!(untimed(folder.path()).len(), 2);

    let more = ["--policies", "narrow", "--split", "training"];
    let error = evaluate_with(&arguments(folder.path(), &more), &world, &build)
        .expect_err("the journal is of the other split")
        .to_string();
    assert!(
        error.contains("split is HeldOut there and Training here"),
        "{error}"
    );
}

#[test]
fn a_single_seed_and_no_oracle_leave_nulls() {
    let folder = tempfile::tempdir().expect("a folder");
    let args = arguments(
        folder.path(),
        &["--policies", "narrow,wide", "--seeds", "1"],
    );
    let evaluation = evaluate_with(&args, &world(), &build).expect("evaluated");
    let json: serde_json::Value =
        serde_json::from_str(&evaluation.to_json().expect("JSON")).expect("JSON");
    assert!(json["policies"]["wide"]["objective"]["mean"].is_f64());
    assert!(json["policies"]["wide"]["objective"]["ci95_low"].is_null());
    assert!(json["policies"]["wide"]["regret"].is_null());
    assert!(json["paired"][0]["ci95_high"].is_null());
    assert!(json["spread"]["oracle_objective"].is_null());
    assert_eq!(json["split"], "held-out");
    assert!(
        untimed(folder.path())
            .iter()
            .all(|row| row.regret.is_none())
    );
}

/// Deploys to a host that does not exist.
struct Wrong;

impl Policy for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn decide(&mut self, _: &Observation<'_>, decision: &mut Decision) -> Result<(), PolicyError> {
        decision.provisioning.push(PowerAction {
            host: HostId(99),
            on: true,
        });
        Ok(())
    }
}

#[test]
fn a_policy_that_fails_is_named_with_its_seed() {
    let folder = tempfile::tempdir().expect("a folder");
    let build = |spec: &str, world: &World, seed: u64| -> Result<Box<dyn Policy>> {
        if spec == "wrong" && seed == 3 {
            Ok(Box::new(Wrong))
        } else {
            build("wide", world, seed)
        }
    };
    let args = arguments(folder.path(), &["--policies", "wrong", "--seeds", "3"]);
    let error = evaluate_with(&args, &world(), &build).expect_err("seed 3 is infeasible");
    let text = trainer::explain(&error);
    assert!(
        text.starts_with("policy wrong, seed 3: at 0.000000000 s"),
        "{text}"
    );
    assert!(!folder.path().join(RUNS_FILE).exists());
}

#[test]
fn the_program_refuses_what_makes_no_sense() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().display().to_string();
    let fails = |world: &str, more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_trainer"))
            .args(["evaluate", "--world", world, "--out", &out])
            .args(more)
            .output()
            .expect("the program starts");
        assert!(output.stdout.is_empty());
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let cases: [(&str, &[&str], i32, &str); 6] = [
        ("scinet-61", &["--policies", "random"], 64, "scinet-16"),
        ("scinet-16", &["--policies", "randon"], 1, "random"),
        ("scinet-16", &["--policies", "a,,b"], 1, "a name is empty"),
        (
            "scinet-16",
            &["--policies", "oracle,oracle"],
            1,
            "oracle is named twice",
        ),
        (
            "scinet-16",
            &["--policies", "a", "--seeds", "0"],
            2,
            "--seeds",
        ),
        (
            "scinet-16",
            &["--policies", "a", "--first-seed", "18446744073709551615"],
            1,
            "2^64 - 1",
        ),
    ];
    for (world, more, code, expected) in cases {
        let (found, text) = fails(world, more);
        assert_eq!(found, Some(code), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn the_summary_is_all_that_standard_output_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_trainer"))
        .args([
            "evaluate",
            "--world",
            "azure-llm",
            "--policies",
            "random,best-fit",
        ])
        .args([
            "--seeds",
            "2",
            "--intervals",
            "3",
            "--format",
            "json",
            "--out",
        ])
        .arg(folder.path())
        .output()
        .expect("the program starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let file = fs::read(folder.path().join(EVALUATION_FILE)).expect("written");
    assert_eq!(output.stdout, file);
    let evaluation: Evaluation = serde_json::from_slice(&file).expect("the schema");
    assert_eq!(evaluation.world, "azure-llm");
    assert_eq!(evaluation.policies.len(), 2);
}
