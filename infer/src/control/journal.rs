//! The action log: one JSON object a line, appended and never changed.
//!
//! A plan is on the disk before its action is submitted (a write-ahead intent). A process that is
//! killed leaves at most a last line without an end, which [`Journal::open`] cuts off: it was not
//! acted upon. Whoever has the log open holds an exclusive lock on it.
//!
//! Left out: rotation. A line takes some 500 bytes; move the file away while the program does not
//! run and no action is under way.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use thiserror::Error;

use super::action::{Phase, Plan, Record, SCHEMA};
use super::ledger::{Ledger, LedgerError};
use crate::azure::Operation;

/// The most bytes of a line.
const MAX_LINE_BYTES: u64 = 64 << 10;

/// Why the action log cannot be used.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file cannot be read or written.
    #[error("action log {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("action log {}: another process has it open", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A line is not a record.
    #[error("action log {}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// A record cannot follow those before it.
    #[error("action log {}: {source}", path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: LedgerError,
    },
}

/// A new record without its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The action.
    pub action: u64,
    /// Where it is in its life.
    pub phase: Phase,
    /// What it is to do.
    pub plan: Option<Plan>,
    /// Where its progress can be read.
    pub operation: Option<Operation>,
    /// What happened.
    pub detail: Option<String>,
}

impl Entry {
    /// An entry without plan and operation.
    #[must_use]
    pub fn new(action: u64, phase: Phase, detail: impl Into<String>) -> Self {
        Self {
            action,
            phase,
            plan: None,
            operation: None,
            detail: Some(detail.into()),
        }
    }
}

/// The action log and its sum.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// `None` in a dry run, which writes nothing.
    file: Option<File>,
    /// Bytes of whole lines.
    length: u64,
    ledger: Ledger,
}

impl Journal {
    /// Opens the log at `path`, or makes it, and reads what it holds.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, is in use, or holds what is no log.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let io = |source| JournalError::Io {
            path: path.into(),
            source,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::InUse { path: path.into() });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let (ledger, length) = read(path, &file)?;
        file.set_len(length).map_err(io)?;
        file.seek(SeekFrom::Start(length)).map_err(io)?;
        file.sync_all().map_err(io)?;
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            // The name of a new file is on the disk too, or its lines were written for nothing.
            File::open(folder).and_then(|f| f.sync_all()).map_err(io)?;
        }
        Ok(Self {
            path: path.into(),
            file: Some(file),
            length,
            ledger,
        })
    }

    /// Reads the log at `path`, where there is one, to write nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be read or holds what is no log.
    pub fn look(path: &Path) -> Result<Self, JournalError> {
        let (ledger, length) = match File::open(path) {
            Ok(file) => read(path, &file)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Ledger::default(), 0),
            Err(source) => {
                let path = path.into();
                return Err(JournalError::Io { path, source });
            }
        };
        Ok(Self {
            path: path.into(),
            file: None,
            length,
            ledger,
        })
    }

    /// The sum of the log.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// As [`Ledger::forget`].
    pub fn forget(&mut self, now: Timestamp, span: jiff::SignedDuration) {
        self.ledger.forget(now, span);
    }

    /// Appends `entries`, all or none, and waits until they are on the disk.
    ///
    /// # Errors
    ///
    /// If they cannot follow what was before, or cannot be written; the log is as it was.
    pub fn append(&mut self, at: Timestamp, entries: Vec<Entry>) -> Result<(), JournalError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut ledger = self.ledger.clone();
        let mut lines = Vec::new();
        for entry in entries {
            let record = Record {
                schema: SCHEMA,
                seq: ledger.next_record(),
                at,
                action: entry.action,
                phase: entry.phase,
                plan: entry.plan,
                operation: entry.operation,
                detail: entry.detail,
            };
            ledger
                .apply(&record)
                .map_err(|source| JournalError::Ledger {
                    path: self.path.clone(),
                    source,
                })?;
            serde_json::to_writer(&mut lines, &record).map_err(|error| self.io(error.into()))?;
            lines.push(b'\n');
        }
        self.write(&lines)?;
        self.ledger = ledger;
        Ok(())
    }

    fn io(&self, source: io::Error) -> JournalError {
        JournalError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn write(&mut self, lines: &[u8]) -> Result<(), JournalError> {
        let length = self.length;
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let written = file
            .write_all(lines)
            .and_then(|()| file.flush())
            .and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What was written in part must not stand before what comes next.
            let undone = file
                .set_len(length)
                .and_then(|()| file.seek(SeekFrom::Start(length)));
            if let Err(undo) = undone {
                tracing::error!(%undo, "the action log ends with a part of a line");
            }
            return Err(self.io(error));
        }
        self.length += lines.len() as u64;
        Ok(())
    }
}

/// The sum of the log in `file`, and the length of its whole lines.
fn read(path: &Path, file: &File) -> Result<(Ledger, u64), JournalError> {
    let mut ledger = Ledger::default();
    let mut length = 0;
    let mut number = 0;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = (&mut reader)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line)
            .map_err(|source| JournalError::Io {
                path: path.into(),
                source,
            })?;
        if count == 0 {
            return Ok((ledger, length));
        }
        number += 1;
        let problem = |problem: String| JournalError::Line {
            path: path.into(),
            line: number,
            problem,
        };
        if line.last() != Some(&b'\n') {
            if line.len() as u64 == MAX_LINE_BYTES {
                return Err(problem(format!("has more than {MAX_LINE_BYTES} bytes")));
            }
            return Ok((ledger, length));
        }
        let record: Record =
            serde_json::from_slice(&line).map_err(|error| problem(error.to_string()))?;
        ledger
            .apply(&record)
            .map_err(|error| problem(error.to_string()))?;
        length += count as u64;
    }
}

/// The records of the log at `path`, for audits.
///
/// # Errors
///
/// If it cannot be read or holds what is no log.
pub fn records(path: &Path) -> Result<Vec<Record>, JournalError> {
    let file = File::open(path).map_err(|source| JournalError::Io {
        path: path.into(),
        source,
    })?;
    read(path, &file)?;
    let text = std::fs::read_to_string(path).map_err(|source| JournalError::Io {
        path: path.into(),
        source,
    })?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    Ok(whole
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::action::Change;
    use crate::control::ledger::tests::plan;

    fn planned(journal: &Journal, vm: &str) -> Entry {
        Entry {
            action: journal.ledger().next_action(),
            phase: Phase::Planned,
            plan: Some(plan(vm, Change::Start)),
            operation: None,
            detail: None,
        }
    }

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).expect("a time")
    }

    #[test]
    fn a_log_that_is_read_again_has_the_same_sum() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("actions.jsonl");
        let mut journal = Journal::open(&path).expect("a new log");
        let entry = planned(&journal, "a");
        journal.append(at(1), vec![entry]).expect("written");
        let submitted = Entry::new(1, Phase::Unknown, "the answer was lost");
        journal.append(at(2), vec![submitted]).expect("written");
        let ledger = journal.ledger().clone();
        let second = Journal::open(&path);
        assert!(matches!(second, Err(JournalError::InUse { .. })));
        drop(journal);
        let again = Journal::open(&path).expect("the same log");
        assert_eq!(*again.ledger(), ledger);
        assert_eq!(records(&path).expect("records").len(), 2);
    }

    #[test]
    fn a_log_that_was_cut_anywhere_is_read_up_to_its_last_whole_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("actions.jsonl");
        let mut journal = Journal::open(&path).expect("a new log");
        for vm in ["a", "b", "c"] {
            let entry = planned(&journal, vm);
            journal.append(at(1), vec![entry]).expect("written");
        }
        drop(journal);
        let bytes = std::fs::read(&path).expect("bytes");
        let ends = (0..bytes.len()).filter(|i| bytes[*i] == b'\n');
        let around = ends.flat_map(|end| [end, end + 1, end + 2]);
        let cuts = (0..bytes.len()).step_by(211).chain(around);
        for cut in cuts.filter(|cut| *cut <= bytes.len()) {
            std::fs::write(&path, &bytes[..cut]).expect("cut");
            let mut journal = Journal::open(&path).expect("a log");
            let whole = bytes[..cut].iter().filter(|b| **b == b'\n').count();
            assert_eq!(journal.ledger().open().len(), whole);
            let entry = planned(&journal, "d");
            journal.append(at(2), vec![entry]).expect("goes on");
            drop(journal);
            assert_eq!(records(&path).expect("records").len(), whole + 1);
        }
    }

    #[test]
    fn what_is_no_log_is_named_by_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("actions.jsonl");
        std::fs::write(&path, "{}\n").expect("written");
        let error = Journal::open(&path).expect_err("no log").to_string();
        assert!(error.contains("actions.jsonl:1: "), "{error}");
    }

    #[test]
    fn entries_are_written_all_or_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("actions.jsonl");
        let mut journal = Journal::open(&path).expect("a new log");
        let entry = planned(&journal, "a");
        let refused = journal.append(at(1), vec![entry.clone(), entry]);
        assert!(refused.is_err());
        assert_eq!(std::fs::metadata(&path).expect("a file").len(), 0);
        assert_eq!(*journal.ledger(), Ledger::default());
    }
}
