//! Decision datasets: round trip, same bytes for same rows, and damage that is noticed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use datasets::decisions::{
    DEPLOY, DatasetError, DecisionRow, Manifest, NO_HOST, PLACE, PROVISION, SCHEMA_VERSION,
    read_shard, shard_file, verify, write_shard,
};

/// A row of `host_count` hosts and as many candidates, different for each number.
fn row(number: u16, host_count: u16) -> DecisionRow {
    let features = |width: u16, scale: f32| {
        (0..host_count * width)
            .map(|at| f32::from(number) + f32::from(at) * scale)
            .collect()
    };
    let values: Vec<f32> = (0..host_count)
        .map(|at| {
            if at == 1 {
                f32::NAN
            } else {
                -f32::from(at) - f32::from(number) / 7.0
            }
        })
        .collect();
    DecisionRow {
        episode: u64::MAX - u64::from(number),
        step: u32::from(number),
        policy: if number.is_multiple_of(2) {
            "random"
        } else {
            "best-fit"
        }
        .to_owned(),
        kind: [PROVISION, DEPLOY, PLACE][usize::from(number % 3)],
        time_s: f64::from(number) / 3.0,
        weight: 1.0,
        global: vec![f32::from(number); usize::from(number % 4)],
        hosts: features(3, 0.5),
        host_count: u32::from(host_count),
        candidates: features(2, 0.25),
        candidate_count: u32::from(host_count),
        candidate_hosts: (0..host_count)
            .map(|at| if at == 2 { NO_HOST } else { u32::from(at) })
            .collect(),
        values,
        best: 0,
        target_load: vec![0.1, 0.2],
        state: vec![7; usize::from(number % 5)],
    }
}

fn rows(count: u16) -> Vec<DecisionRow> {
    (0..count)
        .map(|number| row(number, 1 + number % 4))
        .collect()
}

/// The rows as text, in which NaN equals itself.
fn text(rows: &[DecisionRow]) -> String {
    format!("{rows:?}")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

/// A dataset of two shards.
fn dataset(dir: &Path) -> Manifest {
    let shards = vec![
        write_shard(dir, 0, &rows(40)).expect("rows are good"),
        write_shard(dir, 1, &rows(25)).expect("rows are good"),
    ];
    let manifest = Manifest {
        schema_version: SCHEMA_VERSION,
        world: "azure-llm".to_owned(),
        world_hash: "a1".to_owned(),
        encoding_version: 1,
        encoding_hash: "b2".to_owned(),
        seed: u64::MAX,
        steps: 65,
        arguments: BTreeMap::from([("futures".to_owned(), "8".to_owned())]),
        shards,
        complete: true,
    };
    manifest.save(dir).expect("the manifest is good");
    manifest
}

#[test]
fn rows_survive_a_round_trip() {
    let folder = folder();
    for (index, count) in [(0, 0), (1, 1), (2, 500)] {
        let rows = rows(count);
        let entry = write_shard(folder.path(), index, &rows).expect("rows are good");
        assert_eq!(
            (entry.file.as_str(), entry.rows),
            (&*shard_file(index), u64::from(count))
        );
        let read = read_shard(folder.path().join(&entry.file)).expect("the shard is good");
        assert!(
            text(&read) == text(&rows),
            "{count} rows differ after a round trip"
        );
    }
}

#[test]
fn more_rows_than_a_row_group_survive() {
    let folder = folder();
    let rows: Vec<DecisionRow> = (0..40_000).map(|number| row(number, 2)).collect();
    let entry = write_shard(folder.path(), 0, &rows).expect("rows are good");
    let read = read_shard(folder.path().join(entry.file)).expect("the shard is good");
    assert!(text(&read) == text(&rows));
}

#[test]
fn equal_rows_give_equal_bytes_and_leave_nothing_else() {
    let (one, two) = (folder(), folder());
    let first = write_shard(one.path(), 3, &rows(300)).expect("rows are good");
    // The remains of a writer that was killed do not matter.
    fs::write(two.path().join(".shard-00003.parquet.tmp"), b"half").expect("it can be written");
    let second = write_shard(two.path(), 3, &rows(300)).expect("rows are good");
    assert_eq!(first, second);
    let names = |dir: &Path| -> Vec<_> {
        let entries = fs::read_dir(dir).expect("the folder is there");
        entries
            .map(|entry| entry.expect("it is readable").file_name())
            .collect()
    };
    assert_eq!(names(two.path()), names(one.path()));
    let third = write_shard(two.path(), 3, &rows(299)).expect("rows are good");
    assert_ne!(first.sha256, third.sha256);
}

#[test]
fn a_dataset_is_verified_and_read() {
    let folder = folder();
    let manifest = dataset(folder.path());
    assert_eq!(
        verify(folder.path()).expect("the dataset is whole"),
        manifest
    );
    assert_eq!(manifest.row_count(), 65);
    let expected: Vec<DecisionRow> = rows(40).into_iter().chain(rows(25)).collect();
    let read = manifest
        .read_rows(folder.path())
        .expect("the dataset is whole");
    assert!(text(&read) == text(&expected));
}

#[test]
fn a_damaged_shard_is_named() {
    let folder = folder();
    dataset(folder.path());
    let path = folder.path().join(shard_file(1));
    let good = fs::read(&path).expect("it is there");

    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    for bad in [&flipped, &good[..good.len() - 9].to_vec(), &Vec::new()] {
        fs::write(&path, bad).expect("it can be written");
        let error = verify(folder.path()).expect_err("a shard is damaged");
        assert!(matches!(&error, DatasetError::Checksum { path: named, .. } if *named == path));
    }
    fs::remove_file(&path).expect("it is there");
    let error = verify(folder.path()).expect_err("a shard is absent");
    assert!(matches!(&error, DatasetError::MissingShard { path: named } if *named == path));
}

#[test]
fn no_damage_makes_the_reader_panic() {
    let folder = folder();
    write_shard(folder.path(), 0, &rows(6)).expect("rows are good");
    let path = folder.path().join(shard_file(0));
    let good = fs::read(&path).expect("it is there");
    for length in (0..good.len()).step_by(37) {
        fs::write(&path, &good[..length]).expect("it can be written");
        let error = read_shard(&path)
            .expect_err("the shard is truncated")
            .to_string();
        assert!(error.contains("shard-00000.parquet"), "{error}");
    }
    // Without a checksum some damage gives other rows; none may give a panic.
    for at in (0..good.len()).step_by(11) {
        let mut bad = good.clone();
        bad[at] ^= 0x55;
        fs::write(&path, &bad).expect("it can be written");
        if let Err(error) = read_shard(&path) {
            assert!(error.to_string().contains("shard-00000.parquet"), "{error}");
        }
    }
}

#[test]
fn inconsistent_rows_are_refused() {
    let folder = folder();
    let mut problems = Vec::new();
    let mut check = |change: fn(&mut DecisionRow)| {
        let mut rows = rows(8);
        change(&mut rows[7]);
        let error = write_shard(folder.path(), 0, &rows).expect_err("a row is inconsistent");
        let DatasetError::Row {
            row, field, reason, ..
        } = error
        else {
            panic!("{error}");
        };
        problems.push(format!("row {row}: `{field}`: {reason}"));
    };
    check(|row| row.kind = 3);
    check(|row| row.time_s = f64::NAN);
    check(|row| row.weight = -1.0);
    check(|row| row.candidate_count = 0);
    check(|row| row.host_count = 5);
    check(|row| row.host_count = 0);
    check(|row| row.candidates.truncate(7));
    check(|row| row.hosts[2] = f32::INFINITY);
    check(|row| row.target_load[1] = f32::NAN);
    check(|row| row.candidate_hosts.truncate(3));
    check(|row| row.candidate_hosts[1] = 4);
    check(|row| row.values.truncate(3));
    check(|row| row.values[2] = f32::NEG_INFINITY);
    check(|row| row.best = 4);
    check(|row| row.best = 1);
    insta::assert_snapshot!(problems.join("\n"));
}

#[test]
fn a_bad_manifest_is_explained() {
    let folder = folder();
    let path = folder.path().join("manifest.json");
    let load = || {
        Manifest::load(folder.path())
            .expect_err("the manifest is bad")
            .to_string()
    };
    let mut errors = vec![load()];
    dataset(folder.path());
    let good = fs::read_to_string(&path).expect("it is there");
    for (from, to) in [
        ("\"schema_version\": 1", "\"schema_version\": 2"),
        ("\"seed\"", "\"sede\""),
        ("18446744073709551615", "-1"),
        ("\"index\": 1", "\"index\": 0"),
        ("shard-00001.parquet", "../../shard-00001.parquet"),
        ("\"sha256\": \"", "\"sha256\": \"zz"),
        ("}", ""),
    ] {
        assert!(good.contains(from));
        fs::write(&path, good.replace(from, to)).expect("it can be written");
        errors.push(load());
    }
    fs::write(&path, &good[..good.len() / 2]).expect("it can be written");
    errors.push(load());
    let shown = errors
        .join("\n")
        .replace(&folder.path().display().to_string(), "DATASET");
    insta::assert_snapshot!(shown);
}
