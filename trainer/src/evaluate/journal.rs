//! The episodes that have ended, one JSON line each, so that a killed run can go on.
//!
//! The first line says what the episodes have in common.
//! A line that was cut off by a kill is dropped; any other damage is an error.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use twin::World;
use twin::qos::{Qos, Snapshot};
use twin::workload::Split;

/// Version of the lines.
const SCHEMA: u32 = 1;

/// What all episodes of a journal have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    schema: u32,
    world: String,
    world_hash: String,
    intervals: u32,
    split: Split,
    build: String,
}

impl Header {
    pub(super) fn new(world: &World, intervals: u32, split: Split, build: String) -> Self {
        Self {
            schema: SCHEMA,
            world: world.name.clone(),
            world_hash: world.hash.clone(),
            intervals,
            split,
            build,
        }
    }

    /// What differs from `other`, in words.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |name: &str, here: String, there: String| {
            if here != there {
                found.push(format!("{name} is {there} there and {here} here"));
            }
        };
        compare("schema", self.schema.to_string(), other.schema.to_string());
        compare("world", self.world.clone(), other.world.clone());
        compare(
            "world hash",
            self.world_hash.clone(),
            other.world_hash.clone(),
        );
        compare(
            "intervals",
            self.intervals.to_string(),
            other.intervals.to_string(),
        );
        compare(
            "split",
            format!("{:?}", self.split),
            format!("{:?}", other.split),
        );
        compare(
            "build of the program",
            self.build.clone(),
            other.build.clone(),
        );
        found
    }
}

/// One run of one policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Episode {
    pub(super) policy: String,
    /// Tells two models in the same folder apart.
    pub(super) fingerprint: Option<String>,
    pub(super) seed: u64,
    pub(super) qos: Qos,
    pub(super) decision_time_p50_us: Option<f64>,
    pub(super) decision_time_p99_us: Option<f64>,
    /// Kept for the first seed only.
    pub(super) timeline: Option<Vec<Snapshot>>,
}

/// How often a lock is tried, and how long is waited in between.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Locks `file`; whether nobody else has it.
///
/// A lock may outlive its owner for a moment: a process that is being started holds a copy of it until
/// it runs its own program.
fn lock(file: &File) -> std::io::Result<bool> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(false)
}

/// The file, open and locked.
pub(super) struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// Opens or starts the journal at `path`, and reads the episodes in it.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is in use, is damaged, or was started with another header.
    pub(super) fn open(path: &Path, header: &Header) -> Result<(Self, Vec<Episode>)> {
        let cannot = || format!("cannot open {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .with_context(cannot)?;
        if !lock(&file).with_context(cannot)? {
            bail!(
                "{} is in use: another evaluation writes there",
                path.display()
            )
        }
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).with_context(cannot)?;
        file.read_to_string(&mut text).with_context(cannot)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64).with_context(cannot)?;
        let episodes = read(path, &text[..whole], header)?;
        let journal = Self {
            path: path.to_path_buf(),
            file: Mutex::new(file),
        };
        if whole == 0 {
            journal.append(header)?;
        }
        Ok((journal, episodes))
    }

    /// Adds one line, an episode or the header.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) fn append(&self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(text.as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// The episodes in whole lines of `text`.
fn read(path: &Path, text: &str, header: &Header) -> Result<Vec<Episode>> {
    let damaged = |line: usize| {
        format!(
            "{}:{line}: not a line of a journal; remove the file to start anew",
            path.display()
        )
    };
    let mut lines = text.lines();
    let Some(first) = lines.next() else {
        return Ok(Vec::new());
    };
    let found: Header = serde_json::from_str(first).with_context(|| damaged(1))?;
    let differences = header.differences(&found);
    if !differences.is_empty() {
        bail!(
            "{} belongs to an evaluation with other arguments: {}; choose another --out, or remove \
             the file to start anew",
            path.display(),
            differences.join(", ")
        );
    }
    lines
        .enumerate()
        .map(|(i, line)| serde_json::from_str(line).with_context(|| damaged(i + 2)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn header(intervals: u32) -> Header {
        let world = World::load("scinet-16").expect("the world is embedded");
        Header::new(&world, intervals, Split::HeldOut, "1".to_owned())
    }

    fn episode(seed: u64) -> Episode {
        let qos = serde_json::json!({
            "objective": -0.1, "energy_wh": 1.0 / 3.0, "cost_usd": 0.1, "response_mean_s": 1.0,
            "response_p50_s": 1.0, "response_p95_s": 1.0, "response_p99_s": 1.0,
            "sla_violation_ratio": 0.0, "accuracy_mean": 0.9, "utilization_mean": 0.5,
            "waiting_mean_s": 0.0, "jain_fairness": 1.0, "requests_arrived": 3,
            "requests_completed": 2, "requests_unfinished": 1, "hosts_billed_mean": 4.0,
            "duration_s": 100.0,
        });
        Episode {
            policy: "random".to_owned(),
            fingerprint: None,
            seed,
            qos: serde_json::from_value(qos).expect("all fields are given"),
            decision_time_p50_us: Some(0.1),
            decision_time_p99_us: None,
            timeline: Some(vec![Snapshot::default()]),
        }
    }

    #[test]
    fn what_was_appended_is_read_and_a_cut_line_dropped() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.jsonl");
        let (journal, none) = Journal::open(&path, &header(5)).expect("new");
        assert!(none.is_empty());
        journal.append(&episode(1)).expect("written");
        let kept = fs::read_to_string(&path).expect("text");
        journal.append(&episode(2)).expect("written");
        drop(journal);
        let all = fs::read(&path).expect("bytes");
        fs::write(&path, &all[..all.len() - 7]).expect("written");
        let (_, found) = Journal::open(&path, &header(5)).expect("a cut line is no damage");
        assert_eq!(found, [episode(1)]);
        assert_eq!(fs::read_to_string(&path).expect("text"), kept);
    }

    #[test]
    fn other_arguments_a_second_writer_and_damage_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal.jsonl");
        let open = |intervals| Journal::open(&path, &header(intervals)).map(|(journal, _)| journal);
        let refused = |intervals| format!("{:#}", open(intervals).err().expect("refused"));
        let journal = open(5).expect("new");
        assert!(refused(5).contains("in use"));
        drop(journal);
        let error = refused(6);
        assert!(error.contains("intervals is 5 there and 6 here"), "{error}");
        let text = fs::read_to_string(&path).expect("text") + "{\"policy\": 3}\n";
        fs::write(&path, text).expect("written");
        let error = refused(5);
        assert!(error.contains("journal.jsonl:2"), "{error}");
    }
}
