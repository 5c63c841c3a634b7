//! `trainer fit`, on datasets whose best answer is known.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use datasets::decisions::{DecisionRow, MANIFEST_FILE, Manifest, SCHEMA_VERSION, write_shard};
use models::ModelFolder;
use models::encoding::{
    ENCODING_VERSION, GLOBAL_FEATURES, HOST_FEATURES, Kind, NO_HOST, encoding_hash,
};
use models::folder::WEIGHTS_FILE;
use rand::RngExt;
use trainer::fit::{Args, CHECKPOINTS_FOLDER, FitError, FitMetrics, fit};
use twin::World;
use twin::simulate::{self, Options};
use twin::stream::{self, Stream};

/// The candidate's feature that says what it costs, in hundreds of milliseconds.
const TELLING: usize = 1;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn arguments(dataset: &Path, out: &Path, more: &[&str]) -> Args {
    let (dataset, out) = (dataset.display().to_string(), out.display().to_string());
    let fixed = [
        "trainer",
        "--dataset",
        &dataset,
        "--out",
        &out,
        "--seed",
        "3",
    ];
    Cli::parse_from([&fixed[..], more].concat()).args
}

/// A row whose candidates cost what one of their features says; the greedy answer is any of them.
fn row(kind: Kind, episode: u64, step: u32, stream: &mut Stream) -> DecisionRow {
    let hosts = stream.random_range(3_u32..6);
    let candidates = match kind {
        Kind::Power => hosts + 1,
        Kind::Variant => 3,
        Kind::Place => hosts,
    };
    let names = kind.features();
    let greedy = names
        .iter()
        .position(|name| *name == "greedy")
        .expect("there is one");
    let chosen = stream.random_range(0..candidates);
    let mut features = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|_| stream.random_range(-1.0_f32..1.0))
            .collect()
    };
    let (global, of_hosts) = (
        features(GLOBAL_FEATURES.len()),
        features(hosts as usize * HOST_FEATURES.len()),
    );
    let mut of_candidates = features(candidates as usize * names.len());
    let mut values = Vec::new();
    let mut candidate_hosts = Vec::new();
    for (candidate, features) in (0..).zip(of_candidates.chunks_mut(names.len())) {
        features[greedy] = f32::from(u8::from(candidate == chosen));
        values.push(-10.0 - 0.1 * features[TELLING]);
        candidate_hosts.push(if candidate < hosts {
            candidate
        } else {
            NO_HOST
        });
    }
    let best = (0..candidates)
        .max_by(|a, b| values[*a as usize].total_cmp(&values[*b as usize]))
        .expect("there is one");
    DecisionRow {
        episode,
        step,
        policy: "greedy".to_owned(),
        kind: u8::try_from(kind.index()).expect("there are three"),
        time_s: f64::from(step),
        weight: 1.0,
        target_load: vec![global[0], 0.5],
        global,
        hosts: of_hosts,
        host_count: hosts,
        candidates: of_candidates,
        candidate_count: candidates,
        candidate_hosts,
        values,
        best,
        state: Vec::new(),
    }
}

/// Rows of each kind in each of ten episodes.
fn rows(of_each: u32) -> Vec<DecisionRow> {
    let mut stream = stream::named(1, "rows");
    let mut rows = Vec::new();
    for episode in 0..10 {
        for step in 0..of_each {
            for kind in Kind::ALL {
                rows.push(row(kind, episode, step, &mut stream));
            }
        }
    }
    rows
}

fn write(folder: &Path, rows: &[DecisionRow]) -> Manifest {
    let half = rows.len() / 2;
    let shards = [(0, &rows[..half]), (1, &rows[half..])];
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        world: "scinet-16".to_owned(),
        world_hash: "0".repeat(64),
        encoding_version: ENCODING_VERSION,
        encoding_hash: encoding_hash(),
        seed: 11,
        steps: rows.len() as u64,
        arguments: BTreeMap::new(),
        shards: shards
            .iter()
            .map(|(index, rows)| write_shard(folder, *index, rows).expect("rows are right"))
            .collect(),
        complete: true,
    };
    manifest.save(folder).expect("the folder can be written");
    manifest
}

fn dataset(rows: &[DecisionRow]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), rows);
    folder
}

fn weights(model: &Path) -> Vec<u8> {
    fs::read(model.join(WEIGHTS_FILE)).expect("the model was written")
}

fn regret(metrics: &FitMetrics, kind: &str) -> [f64; 2] {
    let of_kind = &metrics.kinds[kind];
    [of_kind.regret_s, of_kind.greedy_regret_s]
}

#[test]
fn the_best_answer_is_learned() {
    let data = dataset(&rows(30));
    let out = tempfile::tempdir().expect("a folder");
    let model = out.path().join("learned");
    let more = [
        "--epochs",
        "10",
        "--batch-size",
        "32",
        "--learning-rate",
        "0.006",
    ];
    let metrics = fit(&arguments(data.path(), &model, &more)).expect("fitted");
    for kind in Kind::ALL {
        let [found, greedy] = regret(&metrics, kind.name());
        assert!(
            greedy > 0.02 && found < 0.2 * greedy,
            "{}: {found} s, greedy {greedy} s",
            kind.name()
        );
    }
    // The start answers as the greedy policy.
    let first = &metrics.epochs[0];
    let [_, greedy] = regret(&metrics, "place");
    assert!((first.validation_regret_s["place"] - greedy).abs() < 1e-12);
    assert!(
        metrics.best_epoch > 0 && metrics.training_episodes + metrics.validation_episodes == 10
    );
    let last = metrics.epochs.last().expect("there are some");
    assert!(last.validation_forecast_rmse < 0.8 * first.validation_forecast_rmse);

    let folder = ModelFolder::load(&model).expect("the folder is whole");
    assert_eq!(folder.config.world, "scinet-16");
    assert_eq!(folder.config.training_seeds, [11, 3]);
    assert!(folder.card.starts_with("---\nlicense:") && folder.card.contains("| place |"));
    let read: FitMetrics = serde_json::from_value(folder.metrics).expect("the metrics' schema");
    assert_eq!(read, metrics);

    // What was fitted decides in a world.
    let spec = format!("model:{}", model.display());
    let world = World::load("scinet-16").expect("the world is embedded");
    let mut policy = trainer::policies::build(&spec, &world, 1).expect("it can be loaded");
    assert_eq!(policy.name(), "model:learned");
    let options = Options {
        intervals: Some(3),
        ..Options::new(5)
    };
    simulate::run(&world, policy.as_mut(), &options).expect("decisions are feasible");
}

/// Starts the fit in a process of its own and kills it once an epoch was kept.
fn kill(args: &[&str], model: &Path) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_trainer"))
        .arg("fit")
        .args(args)
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let state = model.join(CHECKPOINTS_FOLDER).join("state.json");
    let patience = Instant::now() + Duration::from_secs(60);
    let reached = || fs::read_to_string(&state).is_ok_and(|text| text.contains("\"epoch\": 2"));
    while !reached() && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().expect("it is still running");
    child.wait().expect("it was started");
    assert!(reached() && !model.join(WEIGHTS_FILE).exists());
}

#[test]
fn weights_do_not_depend_on_threads_or_on_interruption() {
    let data = dataset(&rows(10));
    let out = tempfile::tempdir().expect("a folder");
    let path = |name: &str| out.path().join(name);
    let fixed = [
        "--epochs",
        "5",
        "--batch-size",
        "150",
        "--learning-rate",
        "0.03",
        "--patience",
        "9",
    ];
    let with = |name: &str, more: &[&str]| {
        arguments(data.path(), &path(name), &[&fixed[..], more].concat())
    };
    let whole = fit(&with("whole", &["--threads", "1"])).expect("fitted");
    assert!(whole.best_epoch > 2, "later epochs are better");
    fit(&with("threads", &["--threads", "3"])).expect("fitted");
    assert!(weights(&path("whole")) == weights(&path("threads")));
    let other = with("other", &[]);
    fit(&Args { seed: 4, ..other }).expect("fitted");
    assert!(weights(&path("whole")) != weights(&path("other")));

    let [dataset, killed] = [data.path(), &path("killed")].map(|p| p.display().to_string());
    let named = ["--dataset", &dataset, "--out", &killed, "--seed", "3"];
    kill(&[&named[..], &fixed[..]].concat(), &path("killed"));
    let resume = with("killed", &["--resume"]);
    let resumed = fit(&resume).expect("fitted");
    assert!(weights(&path("whole")) == weights(&path("killed")));
    assert_eq!(resumed.epochs, whole.epochs);

    // Other arguments are another fit.
    let error = fit(&Args {
        learning_rate: 0.5,
        ..resume.clone()
    })
    .expect_err("the checkpoint is of another fit");
    assert!(error.to_string().contains("--resume"), "{error}");
    // A whole fit has nothing left to do.
    assert_eq!(fit(&resume).expect("fitted").epochs, whole.epochs);
    let kept = fs::read_dir(path("killed").join(CHECKPOINTS_FOLDER)).expect("it is there");
    assert!(
        kept.count() <= 5,
        "two epochs of two files each, and the state"
    );
}

#[test]
fn a_fit_can_start_from_a_model() {
    let data = dataset(&rows(8));
    let out = tempfile::tempdir().expect("a folder");
    let first = out.path().join("first");
    let before = fit(&arguments(data.path(), &first, &["--epochs", "3"])).expect("fitted");
    let init = first.display().to_string();
    let more = ["--epochs", "1", "--init", &init];
    let after = fit(&arguments(data.path(), &out.path().join("second"), &more)).expect("fitted");
    assert!((after.epochs[0].validation_regret - before.validation_regret).abs() < 1e-12);
}

#[test]
fn unpriced_candidates_are_avoided() {
    let mut rows = rows(30);
    rows.retain(|row| row.kind == 2);
    for row in &mut rows {
        // The oracle prices the best and the worst; which of the others it leaves out shows.
        let [mut low, mut high] = [0; 2];
        for (i, value) in row.values.iter().enumerate() {
            if *value < row.values[low] {
                low = i;
            }
            if *value > row.values[high] {
                high = i;
            }
        }
        for i in (0..row.values.len()).filter(|i| ![low, high].contains(i)) {
            row.values[i] = f32::NAN;
        }
    }
    let data = dataset(&rows);
    let out = tempfile::tempdir().expect("a folder");
    let more = [
        "--epochs",
        "10",
        "--batch-size",
        "32",
        "--learning-rate",
        "0.006",
    ];
    let metrics = fit(&arguments(data.path(), out.path(), &more)).expect("fitted");
    let [found, greedy] = regret(&metrics, "place");
    assert!(found < 0.4 * greedy, "{found} s, greedy {greedy} s");
    assert_eq!(metrics.kinds["power"].training_rows, 0);
    let finite = metrics.epochs.iter().all(|e| e.validation_loss.is_finite());
    assert!(finite && metrics.epochs[1].train_loss.is_some_and(f64::is_finite));
}

fn refused(folder: &Path) -> anyhow::Error {
    let out = tempfile::tempdir().expect("a folder");
    let error = fit(&arguments(folder, &out.path().join("m"), &[])).expect_err("refused");
    assert!(!out.path().join("m").exists(), "nothing is written");
    error
}

#[test]
fn unfit_datasets_are_refused() {
    let mut few = rows(1);
    let data = dataset(&few);
    let manifest = Manifest::load(data.path()).expect("it is there");

    let foreign = Manifest {
        encoding_hash: "f".repeat(64),
        ..manifest.clone()
    };
    foreign.save(data.path()).expect("writable");
    let error = refused(data.path()).to_string();
    let expected = ["ffffffff", &encoding_hash(), "label the world again"];
    assert!(expected.iter().all(|part| error.contains(part)), "{error}");

    let empty = Manifest {
        shards: Vec::new(),
        ..manifest.clone()
    };
    empty.save(data.path()).expect("writable");
    let error = refused(data.path());
    assert!(error.to_string().contains("has no row"), "{error}");

    manifest.save(data.path()).expect("writable");
    let shard = data.path().join(&manifest.shards[1].file);
    fs::write(&shard, "damage").expect("writable");
    let error = refused(data.path());
    assert!(error.to_string().contains("damaged"), "{error}");

    for row in &mut few {
        row.values.fill(1.0);
        row.best = 0;
    }
    let error = refused(dataset(&few).path());
    assert_eq!(error.downcast_ref(), Some(&FitError::NothingMatters));
    for row in &mut few {
        row.episode = 1;
    }
    let error = refused(dataset(&few).path());
    assert_eq!(error.downcast_ref(), Some(&FitError::OneEpisode));

    few[1].target_load.push(0.0);
    let error = refused(dataset(&few).path()).to_string();
    assert!(
        error.contains("row 1: `target_load` has 3 numbers"),
        "{error}"
    );
    fs::remove_file(data.path().join(MANIFEST_FILE)).expect("it is there");
    let error = refused(data.path());
    assert_eq!(
        trainer::exit_code(&error),
        std::process::ExitCode::from(66),
        "{error}"
    );
}
