//! The fuzz targets on their seeds and on everything that they have ever found: `infer/fuzz`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a library where cargo-fuzz builds it")]
mod fuzz;

/// The most bytes of the seeds of one target.
const MAX_SEED_BYTES: u64 = 300 << 10;
/// The most seeds of one target.
const MAX_SEEDS: usize = 120;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz")
        .join(name)
}

/// The names in a folder of the fuzz crate.
fn names(of: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder(of)).expect("the folder is there");
    entries
        .map(|entry| entry.expect("readable").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect()
}

#[test]
fn every_target_has_a_program_and_seeds() {
    let targets: BTreeSet<String> = fuzz::TARGETS
        .iter()
        .map(|(name, _)| (*name).into())
        .collect();
    assert_eq!(targets.len(), fuzz::TARGETS.len(), "two of one name");
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("seeds"), targets);
}

/// Runs the target on its seeds; a panic names the seed.
fn run(target: &str) {
    let mut seeds: Vec<PathBuf> = fs::read_dir(folder("seeds").join(target))
        .expect("there are seeds")
        .map(|entry| entry.expect("readable").path())
        .collect();
    seeds.sort();
    let bytes: u64 = seeds
        .iter()
        .map(|seed| fs::metadata(seed).expect("it is there").len())
        .sum();
    assert!(
        bytes <= MAX_SEED_BYTES && (1..=MAX_SEEDS).contains(&seeds.len()),
        "{} seeds with {bytes} bytes",
        seeds.len()
    );
    for seed in seeds {
        let data = fs::read(&seed).expect("it is there");
        let ended = std::panic::catch_unwind(|| fuzz::run(target, &data));
        assert!(ended.is_ok(), "{} fails", seed.display());
    }
}

macro_rules! targets {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            run(stringify!($target));
        })*

        #[test]
        fn every_target_is_run() {
            let run = [$(stringify!($target)),*];
            assert!(fuzz::TARGETS.iter().map(|(name, _)| *name).eq(run));
        }
    };
}

targets! {
    azure_answers certificate config control_config control_journal control_state decision_log
    decision_request decision_response fleet log_entry model outcomes recordings registry_state
    service snapshot tokens validate virtual_azure what_if world
}
