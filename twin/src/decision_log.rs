//! The log of decisions: what was asked, what was answered, and what became of it.
//!
//! A log is a folder of segments, each a file that is written at its end and named after the
//! sequence number of its first record, as `00000000000000000042.log`. Each record has a length,
//! checksums, a sequence number, a time, a kind and a payload ([`Entry`]).
//!
//! ```
//! use twin::decision_log::{Entry, Json, Log, NewDecision, Reader, Settings};
//!
//! let folder = std::env::temp_dir().join(format!("log-example-{}", std::process::id()));
//! let world = twin::World::load("scinet-16")?;
//! let (log, _) = Log::open(&folder, &world.hash, Settings::default())?;
//! let id = log.append_decision(&NewDecision {
//!     policy: "least-loaded",
//!     model_sha256: None,
//!     client: None,
//!     request: Json::check(br#"{"schema":1}"#)?,
//!     stateful: None,
//!     response: Json::check(br#"{"schema":1}"#)?,
//! })?;
//! log.close()?;
//! let mut reader = Reader::open(&folder, id.0)?;
//! let record = reader.next_record()?.expect("it was written");
//! assert!(matches!(record.entry()?, Entry::Decision(_)));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is promised
//!
//! - What [`Log::append`] has returned for survives the end of the process at any moment; what
//!   [`Log::sync`] has returned for since survives the loss of power.
//! - Opening never needs a hand: the end of the last segment that holds no whole record is cut
//!   off and kept aside as `.torn`, damage between records is reported and passed over, and a
//!   process only ever appends to segments of its own.
//! - A sequence number is never given twice, not even where records were lost: after a run that
//!   did not end in good order, numbers jump by 2²⁴.
//! - An append that fails (no space, an error of the disk) leaves nothing behind and is told as a
//!   typed error; later ones go on as soon as the disk allows.
//! - One process writes at a time; any number read meanwhile, without a lock.
//!
//! The store has no threads of its own: whoever opens it calls [`Log::sync`] and [`Log::tidy`].
//! Left out: compression, and replication to other computers.

mod clock;
mod disk;
mod entry;
mod error;
mod flatten;
mod frame;
mod id;
mod index;
mod page;
mod reader;
mod recover;
mod retention;
mod scan;
mod segment;
mod settings;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::clock::{Clock, SystemClock};
pub use self::entry::{
    Action, Audit, Checkpoint, Closed, Decision, ENTRY_SCHEMA, Entry, Input, Json, KINDS, Kind,
    Mode, NewDecision, Outcome, Phase, Resumed, with_id,
};
pub use self::error::LogError;
pub use self::flatten::{DecisionRow, OutcomeRow, Row, Rows};
pub use self::frame::{MAX_RECORD_BYTES, VERSION};
pub use self::id::{DecisionId, ID_DIGITS, NoId};
pub use self::page::{OwnedRecord, Page};
pub use self::reader::{Reader, Record};
pub use self::recover::{Recovered, Torn};
pub use self::scan::Damage;
pub use self::settings::Settings;

use self::disk::{Disk, RealDisk};
use self::frame::WorldHash;
use self::index::Indices;
use self::writer::{Environment, Writer};

/// A log that is open for writing, by this process alone.
#[derive(Debug)]
pub struct Log {
    env: Environment,
    writer: Mutex<Writer>,
    /// Held while files are forced to the disk: one at a time, for all who wait.
    syncing: Mutex<()>,
    indices: Mutex<Indices>,
    _lock: File,
}

/// How a log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Segments that are there.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The first sequence number that may still be there.
    pub oldest: u64,
    /// The sequence number of the next record.
    pub next: u64,
    /// The last record that the live twin can be rebuilt from; `None` if there is none.
    pub anchor: Option<u64>,
    /// Bytes written since; whoever keeps a live twin writes a checkpoint before they are many,
    /// since nothing behind the anchor is removed.
    pub since_anchor_bytes: u64,
    /// Why it cannot be written at present.
    pub failure: Option<String>,
}

impl Log {
    /// Opens the log in `folder`, which is made if it is absent, to write about the world whose
    /// hash in hexadecimal is `world_hash`.
    ///
    /// # Errors
    ///
    /// If the settings are wrong, another process writes to the folder, it cannot be written, or
    /// its last segment is of a later version.
    pub fn open(
        folder: &Path,
        world_hash: &str,
        settings: Settings,
    ) -> Result<(Self, Recovered), LogError> {
        let clock = Arc::new(SystemClock::default());
        Self::open_with(folder, world_hash, settings, Arc::new(RealDisk), clock)
    }

    fn open_with(
        folder: &Path,
        world_hash: &str,
        settings: Settings,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Recovered), LogError> {
        settings.check()?;
        let mut world: WorldHash = [0; 32];
        if hex::decode_to_slice(world_hash, &mut world).is_err() {
            let problem = format!("\"{world_hash}\" is no SHA-256 in hexadecimal");
            let field = "world_hash";
            return Err(LogError::Settings { field, problem });
        }
        let lock = recover::lock(folder, recover::LOCK_PATIENCE)?;
        let (end, found) = recover::recover(folder, &world)?;
        let writer = Writer::new(end, &*clock);
        let log = Self {
            env: Environment {
                folder: folder.to_path_buf(),
                settings,
                world,
                disk,
                clock,
            },
            writer: Mutex::new(writer),
            syncing: Mutex::new(()),
            indices: Mutex::new(Indices::default()),
            _lock: lock,
        };
        Ok((log, found))
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.env.folder
    }

    /// Appends `entry`; its sequence number.
    ///
    /// # Errors
    ///
    /// If the disk is full or fails, the entry is too long or the log is closed; then nothing of
    /// it is in the log.
    pub fn append(&self, entry: &Entry<'_>) -> Result<u64, LogError> {
        self.writer().append(&self.env, |batch| {
            batch.add(entry.kind(), |_, buffer| entry.write(buffer))
        })
    }

    /// Appends a decision; its id.
    ///
    /// # Errors
    ///
    /// As [`Log::append`].
    pub fn append_decision(&self, decision: &NewDecision<'_>) -> Result<DecisionId, LogError> {
        let sequence = self.writer().append(&self.env, |batch| {
            batch.add(Kind::Decision, |sequence, buffer| {
                decision.write(DecisionId(sequence), buffer);
            })
        })?;
        Ok(DecisionId(sequence))
    }

    /// Appends all of `outcomes` or none; the sequence number of the first.
    ///
    /// # Errors
    ///
    /// As [`Log::append`].
    pub fn append_outcomes(&self, outcomes: &[Outcome]) -> Result<Option<u64>, LogError> {
        self.writer().append(&self.env, |batch| {
            let mut first = None;
            for outcome in outcomes {
                let sequence = batch.add(Kind::Outcome, |_, buffer| {
                    Entry::Outcome(*outcome).write(buffer);
                })?;
                first.get_or_insert(sequence);
            }
            Ok(first)
        })
    }

    /// Forces what has been appended to the disk. Calls at the same time wait for each other, so
    /// one task should call for all.
    ///
    /// # Errors
    ///
    /// If the disk fails; then [`Log::lost`] tells what may be lost should the power fail.
    pub fn sync(&self) -> Result<(), LogError> {
        let _alone = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let unsynced = self.writer().take_unsynced();
        let synced = match unsynced.is_empty() {
            true => Ok(()),
            false => unsynced.sync(&*self.env.disk, &self.env.folder),
        };
        let mut writer = self.writer();
        match &synced {
            Ok(()) => writer.synced(unsynced.through),
            Err(error) => writer.sync_failed(error),
        }
        synced
    }

    /// Whether the record `sequence` was appended and its sync failed.
    #[must_use]
    pub fn lost(&self, sequence: u64) -> bool {
        self.writer().lost(sequence)
    }

    /// Seals a segment that is too old, removes segments that need not be kept, and tries again
    /// to write where that failed last; the segments that were removed.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub fn tidy(&self) -> Result<Vec<PathBuf>, LogError> {
        let expired = self.writer().let_go(&self.env);
        // Removing takes time, in which others append.
        let (removed, failed) = writer::remove(&*self.env.disk, expired);
        let mut writer = self.writer();
        let failed = failed.map(|(left, error)| {
            writer.take_back(left);
            error
        });
        writer.resume(&self.env)?;
        failed.map_or(Ok(removed), Err)
    }

    /// Marks the log as closed in good order and forces it to the disk; nothing can be appended
    /// afterwards.
    ///
    /// # Errors
    ///
    /// If the disk is full or fails.
    pub fn close(&self) -> Result<(), LogError> {
        let closed = self.writer().close(&self.env);
        self.sync()?;
        closed
    }

    /// How the log is.
    #[must_use]
    pub fn status(&self) -> Status {
        let writer = self.writer();
        let (bytes, segments) = writer.size();
        let append_failure = writer.append_failure.as_ref().map(|f| f.message.clone());
        Status {
            segments,
            bytes,
            oldest: writer.oldest(),
            next: writer.next,
            anchor: (writer.anchor != 0).then_some(writer.anchor),
            since_anchor_bytes: writer.since_anchor,
            failure: append_failure.or_else(|| writer.sync_failure.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
