//! The store as a whole: what is appended is found again, whatever happens meanwhile.

mod crowd;
mod damage;
mod failures;
mod keeping;

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tempfile::TempDir;

use super::clock::tests::Manual;
use super::disk::{Disk, RealDisk, SegmentFile};
use super::*;

/// SHA-256 of a world, in hexadecimal.
const WORLD: &str = "0101010101010101010101010101010101010101010101010101010101010101";
/// What numbers jump by after a run that did not end in good order.
const JUMP: u64 = 1 << 24;

/// A folder in memory where there is such a thing: thousands of syncs of a disk take long.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    folder.expect("a folder")
}

fn open(folder: &Path) -> (Log, Recovered) {
    open_with(folder, Settings::default())
}

fn open_with(folder: &Path, settings: Settings) -> (Log, Recovered) {
    Log::open(folder, WORLD, settings).expect("it opens")
}

fn note(detail: &str) -> Entry<'_> {
    Entry::Audit(Audit {
        schema: ENTRY_SCHEMA,
        client: None,
        action: "note".into(),
        detail: detail.into(),
    })
}

fn append(log: &Log, detail: &str) -> u64 {
    log.append(&note(detail)).expect("it is appended")
}

/// Numbers and notes of all that can be read from `from` on.
fn notes_from(folder: &Path, from: u64) -> Vec<(u64, String)> {
    let mut reader = Reader::open(folder, from).expect("the folder is there");
    let mut notes = Vec::new();
    while let Some(record) = reader.next_record().expect("it is readable") {
        if let Entry::Audit(audit) = record.entry().expect("of the schema") {
            notes.push((record.sequence, Cow::into_owned(audit.detail)));
        }
    }
    notes
}

fn notes(folder: &Path) -> Vec<(u64, String)> {
    notes_from(folder, 0)
}

/// A disk that can be full and can fail.
#[derive(Debug)]
struct Faulty(Arc<Faults>);

#[derive(Debug)]
struct Faults {
    /// Bytes that are left.
    room: AtomicU64,
    no_truncate: AtomicBool,
    no_sync: AtomicBool,
    no_remove: AtomicBool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            room: AtomicU64::new(u64::MAX),
            no_truncate: AtomicBool::new(false),
            no_sync: AtomicBool::new(false),
            no_remove: AtomicBool::new(false),
        }
    }
}

#[derive(Debug)]
struct FaultyFile(Arc<Faults>, Arc<dyn SegmentFile>);

fn fails(flag: &AtomicBool) -> io::Result<()> {
    match flag.load(Ordering::SeqCst) {
        true => Err(io::Error::other("the disk fails")),
        false => Ok(()),
    }
}

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn SegmentFile>> {
        let file = RealDisk.create(path)?;
        Ok(Arc::new(FaultyFile(Arc::clone(&self.0), file)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fails(&self.0.no_remove)?;
        RealDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.sync_folder(folder)
    }
}

impl SegmentFile for FaultyFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.0.room.load(Ordering::SeqCst);
        let part = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        if part == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.1.append(&bytes[..part])?;
        if room != u64::MAX {
            self.0.room.fetch_sub(written as u64, Ordering::SeqCst);
        }
        Ok(written)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        fails(&self.0.no_truncate)?;
        self.1.truncate(length)
    }

    fn sync(&self) -> io::Result<()> {
        fails(&self.0.no_sync)?;
        self.1.sync()
    }
}

fn open_faulty(folder: &Path, settings: Settings) -> (Log, Arc<Faults>, Arc<Manual>) {
    let faults = Arc::new(Faults::default());
    let clock = Arc::new(Manual::default());
    clock.set_wall(1 << 60);
    let disk = Arc::new(Faulty(Arc::clone(&faults)));
    let (log, _) = Log::open_with(
        folder,
        WORLD,
        settings,
        disk,
        Arc::clone(&clock) as Arc<dyn Clock>,
    )
    .expect("it opens");
    (log, faults, clock)
}

#[test]
fn what_was_appended_is_found_after_any_end() {
    let folder = folder();
    let (log, found) = open(folder.path());
    assert_eq!(
        found,
        Recovered {
            in_good_order: true,
            ..Recovered::default()
        }
    );
    assert_eq!((append(&log, "a"), append(&log, "b")), (1, 2));
    log.close().expect("it closes");
    assert!(matches!(log.append(&note("c")), Err(LogError::Closed)));
    drop(log);

    // In good order numbers go on; 3 is the mark of it.
    let (log, found) = open(folder.path());
    assert!(found.in_good_order && found.segments == 1 && found.last_records == 3);
    assert_eq!(append(&log, "d"), 4);
    drop(log);

    let (log, found) = open(folder.path());
    assert!(!found.in_good_order && found.torn.is_none());
    assert_eq!(append(&log, "e"), 5 + JUMP);
    let all = [(1, "a"), (2, "b"), (4, "d"), (5 + JUMP, "e")];
    let all: Vec<(u64, String)> = all.iter().map(|(n, t)| (*n, (*t).into())).collect();
    assert_eq!(notes(folder.path()), all);
    assert_eq!(notes_from(folder.path(), 3), all[2..]);
    assert_eq!(notes_from(folder.path(), 5), all[3..]);
    assert_eq!(notes_from(folder.path(), 6 + JUMP), []);
}

#[test]
fn a_log_in_which_nothing_is_written_leaves_no_segment() {
    let folder = folder();
    for _ in 0..3 {
        let (log, found) = open(folder.path());
        assert_eq!((found.segments, found.in_good_order), (0, true));
        log.close().expect("it closes");
    }
}

#[test]
fn an_entry_that_is_too_long_is_refused_and_the_log_goes_on() {
    let folder = folder();
    let settings = Settings {
        max_record_bytes: 200,
        ..Settings::default()
    };
    let (log, _) = open_with(folder.path(), settings);
    append(&log, "a");
    let error = log.append(&note(&"x".repeat(200))).expect_err("too long");
    assert_eq!(error.reason(), "too-long");
    assert_eq!(log.status().failure, None);
    assert_eq!(append(&log, "b"), 2);
    assert_eq!(notes(folder.path()).len(), 2);
}

#[test]
fn settings_and_worlds_are_checked() {
    let folder = folder();
    let refused = |settings: Settings| {
        Log::open(folder.path(), WORLD, settings)
            .expect_err("wrong")
            .to_string()
    };
    let default = Settings::default();
    let text = refused(Settings {
        segment_bytes: 1,
        ..default.clone()
    });
    assert!(text.starts_with("log settings: segment_bytes: "), "{text}");
    let text = refused(Settings {
        retain_bytes: 1,
        ..default.clone()
    });
    assert!(text.contains("retain_bytes"), "{text}");
    let error = Log::open(folder.path(), "xyz", default).expect_err("no hash");
    assert!(error.to_string().contains("world_hash"), "{error}");
}

#[test]
fn a_folder_of_another_world_goes_on_with_a_new_segment() {
    let folder = folder();
    let (log, _) = open(folder.path());
    let raw: &serde_json::value::RawValue = serde_json::from_str("{}").expect("JSON");
    let fleet = Entry::Fleet(Input {
        schema: ENTRY_SCHEMA,
        client: None,
        input: raw,
    });
    log.append(&fleet).expect("it is appended");
    assert_eq!(log.status().anchor, Some(1));
    log.close().expect("it closes");
    drop(log);

    let other = "02".repeat(32);
    let (log, found) = Log::open(folder.path(), &other, Settings::default()).expect("it opens");
    assert!(found.other_world);
    // The live twin of another world cannot be rebuilt from it.
    assert_eq!(log.status().anchor, None);
    append(&log, "a");
    let mut reader = Reader::open(folder.path(), 0).expect("the folder is there");
    let mut worlds = Vec::new();
    while let Some(record) = reader.next_record().expect("it is readable") {
        worlds.push(record.world);
    }
    assert_eq!(worlds, [Some([1; 32]), Some([1; 32]), Some([2; 32])]);
}
