//! What can go wrong with a log.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::frame::VERSION;

/// Why a log cannot be opened, written or read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// The disk or the quota is full; what was written of the record was taken back.
    #[error("{}: no space is left to {operation}; free some, or lower the retention", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
    },
    /// The operating system refused.
    #[error("{}: cannot {operation}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// Another process writes to the folder.
    #[error("{}: another process writes to this log; end it, or choose another folder", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// The segment was written by another version of the program.
    #[error("{}: the segment is of version {found}, but this program reads version {VERSION}", path.display())]
    Version {
        /// The segment.
        path: PathBuf,
        /// Its version.
        found: u16,
    },
    /// The record is longer than the settings allow.
    #[error("a record of {bytes} bytes is too long for the log, which takes {limit}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest that is taken.
        limit: usize,
    },
    /// The settings contradict themselves.
    #[error("log settings: {field}: {problem}")]
    Settings {
        /// Which one.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// A record is whole, but its payload is not of the schema.
    #[error("record {sequence}: {problem}")]
    Entry {
        /// The record.
        sequence: u64,
        /// What is wrong.
        problem: String,
    },
}

impl LogError {
    /// The error for `source`, met when `operation` was tried on `path`.
    pub(super) fn io(path: &Path, operation: &'static str, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, operation }
            }
            _ => Self::Io {
                path,
                operation,
                source,
            },
        }
    }

    /// A word for the kind of error, as the label of a metric.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::Io { .. } => "io",
            Self::Locked { .. } => "locked",
            Self::Version { .. } => "version",
            Self::TooLong { .. } => "too-long",
            Self::Settings { .. } => "settings",
            Self::Closed => "closed",
            Self::Entry { .. } => "entry",
        }
    }
}
