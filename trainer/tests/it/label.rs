//! `trainer label`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::Parser;
use datasets::decisions::{self, DecisionRow, MANIFEST_FILE, Manifest};
use trainer::label::{Args, episode_seed, episode_world, label, relabel};
use twin::{World, snapshot};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// A run that takes a moment: short episodes and an oracle that hardly searches.
fn arguments(out: &Path, more: &[&str]) -> Args {
    let out = out.display().to_string();
    let fixed = "trainer --world scinet-16 --seed 5 --intervals 3 --oracle-power-futures 1 \
         --oracle-place-futures 1 --oracle-placements 3 --oracle-placements-per-variant 1 \
         --oracle-power-intervals 1 --vary-objective 0.5 --out";
    let fixed: Vec<&str> = fixed.split_whitespace().chain([out.as_str()]).collect();
    Cli::parse_from([&fixed[..], more].concat()).args
}

/// The names and bytes of all files in the folder.
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

/// Values as bits: NaN stands for answers without a price.
fn bits(row: &DecisionRow) -> Vec<u32> {
    row.values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn threads_and_kills_change_nothing() {
    let (one, two) = (
        tempfile::tempdir().expect("a folder"),
        tempfile::tempdir().expect("a folder"),
    );
    let run = |out: &Path, threads: &str| {
        let args = arguments(out, &["--steps", "150", "--threads", threads]);
        label(&args).expect("labeled")
    };
    let labeled = run(one.path(), "1");
    let expected = files(one.path());
    assert!(labeled.tally.total() >= 150);
    assert_eq!(labeled.new_rows, labeled.tally.total());
    assert!(
        labeled.tally.rows.iter().all(|&rows| rows > 0),
        "{:?}",
        labeled.tally
    );
    run(two.path(), "2");
    assert_eq!(files(two.path()), expected);

    // What a kill leaves: some shards, and the manifest of some of these.
    let mut manifest = Manifest::load(two.path()).expect("a manifest");
    let count = manifest.shards.len();
    assert!(count >= 3, "{count} shards");
    manifest.shards.truncate(count - 1);
    manifest.complete = false;
    manifest.save(two.path()).expect("saved");
    let last = two.path().join(&manifest.shards[count - 2].file);
    fs::remove_file(last).expect("removed");
    let resumed = run(two.path(), "2");
    assert_eq!(files(two.path()), expected);
    assert_eq!(resumed.tally, labeled.tally);
    assert!(resumed.new_rows > 0 && resumed.new_rows < labeled.new_rows);

    // A shard that is not the one that was written is made again; a whole dataset stays.
    fs::write(two.path().join("shard-00001.parquet"), "damage").expect("written");
    run(two.path(), "1");
    assert_eq!(files(two.path()), expected);
    assert_eq!(run(two.path(), "1").new_rows, 0);
    assert_eq!(files(two.path()), expected);
}

#[test]
fn parts_are_disjoint_and_make_the_whole() {
    let folders: Vec<_> = (0..3)
        .map(|_| tempfile::tempdir().expect("a folder"))
        .collect();
    let run = |out: &Path, steps: &str, shard: &str| {
        label(&arguments(out, &["--steps", steps, "--shard", shard])).expect("labeled");
        Manifest::load(out).expect("a manifest")
    };
    let parts = [
        run(folders[0].path(), "160", "0/2"),
        run(folders[1].path(), "160", "1/2"),
    ];
    let mut shards = BTreeMap::new();
    for (i, part) in parts.iter().enumerate() {
        // Half of the 160 rows that were asked for.
        assert!(part.row_count() >= 80);
        for (k, entry) in part.shards.iter().enumerate() {
            assert_eq!(entry.index as usize, 2 * k + i);
            assert!(shards.insert(entry.index, entry.clone()).is_none());
        }
    }
    // The shards are those that one run makes.
    let whole = run(folders[2].path(), "160", "0/1");
    assert!(whole.shards.len() >= 2);
    for entry in &whole.shards {
        assert_eq!(shards.get(&entry.index).unwrap_or(entry), entry);
    }
    let both = |entry: &&_| shards.values().any(|other| other == *entry);
    assert!(whole.shards.iter().filter(both).count() >= 2);
}

#[test]
fn a_state_is_labeled_the_same_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mixture = ["--policies", "oracle,noisy-oracle,random,greedy"];
    let args = arguments(folder.path(), &[&["--steps", "200"][..], &mixture].concat());
    label(&args).expect("labeled");
    let rows = rows(folder.path());
    let world = World::load("scinet-16").expect("the world is embedded");
    let starts: Vec<usize> = (0..rows.len())
        .filter(|&i| !rows[i].state.is_empty())
        .collect();
    assert_eq!(starts[0], 0);
    let (mut whole, mut kinds) = (0, [0; 3]);
    for (i, &start) in starts.iter().enumerate() {
        let epoch = &rows[start..starts.get(i + 1).copied().unwrap_or(rows.len())];
        let first = &epoch[0];
        let seed = episode_seed(5, first.episode);
        let world = episode_world(&world, seed, 0.5);
        let state = snapshot::decode(&first.state).expect("a snapshot");
        assert!((state.now().seconds() - first.time_s).abs() < 1e-12);
        let again = relabel(&world, args.oracle.options(), seed, &state).expect("labeled");
        // Where somebody else answered, only the first question is the same.
        let follows = !["noisy-oracle", "greedy"].contains(&first.policy.as_str());
        let same = if follows { epoch.len() } else { 1 };
        assert!(!follows || again.len() == same);
        whole += usize::from(follows && same > 1);
        for (then, now) in epoch[..same].iter().zip(&again) {
            kinds[usize::from(then.kind)] += 1;
            assert_eq!((bits(then), then.best), (bits(now), now.best));
            assert_eq!(
                (&then.hosts, &then.candidates),
                (&now.hosts, &now.candidates)
            );
            assert_eq!(then.state, now.state);
        }
    }
    assert!(
        whole > 3 && kinds.iter().all(|&count| count > 3),
        "{whole} {kinds:?}"
    );
}

#[test]
fn rows_hold_what_they_promise() {
    let folder = tempfile::tempdir().expect("a folder");
    label(&arguments(folder.path(), &["--steps", "200"])).expect("labeled");
    let rows = rows(folder.path());
    for (i, row) in rows.iter().enumerate() {
        let fresh = i == 0 || rows[i - 1].episode != row.episode;
        assert_eq!(row.step, if fresh { 0 } else { rows[i - 1].step + 1 });
        assert_eq!(row.target_load.len(), 2);
        assert_eq!(
            bits(row)[row.best as usize],
            0,
            "the best is what others are told by"
        );
        assert!(
            row.values
                .iter()
                .all(|value| value.is_nan() || *value <= 0.0)
        );
    }
    // Every request brings work, and batches come at every boundary.
    assert!(
        rows.iter()
            .all(|row| row.target_load.iter().all(|&load| load > 0.0))
    );
    let regretted = rows
        .iter()
        .filter(|row| row.values.iter().any(|&value| value < 0.0));
    assert!(
        regretted.count() > rows.len() / 2,
        "answers differ in their price"
    );
    let steered: std::collections::BTreeSet<&str> =
        rows.iter().map(|row| row.policy.as_str()).collect();
    assert!(steered.len() > 1, "{steered:?}");
}

#[test]
fn other_arguments_and_empty_worlds_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    label(&arguments(folder.path(), &["--steps", "1"])).expect("labeled");
    let error = label(&arguments(
        folder.path(),
        &["--steps", "1", "--label-share", "0.5"],
    ))
    .expect_err("refused")
    .to_string();
    assert!(
        error.contains("label_share is 0.25 there and 0.5 here"),
        "{error}"
    );
    let trainer = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_trainer"))
            .args(["label", "--world", "scinet-16", "--steps", "1", "--out"])
            .arg(folder.path())
            .args(more)
            .output()
            .expect("the program starts");
        (
            output.status.code(),
            String::from_utf8(output.stderr).expect("text"),
        )
    };
    let (code, error) = trainer(&["--shard", "2/2"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("from 0 to n - 1"), "{error}");
    let (code, error) = trainer(&["--policies", "oracel"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("noisy-oracle"), "{error}");
    fs::write(folder.path().join(MANIFEST_FILE), "{").expect("written");
    let (code, error) = trainer(&[]);
    assert_eq!(code, Some(65));
    assert!(error.contains("malformed manifest"), "{error}");
}
