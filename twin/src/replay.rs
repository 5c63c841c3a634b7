//! `twin replay`: drives the twin with what was recorded of a real system, and compares what it
//! predicts with what was measured there.
//!
//! A recording is a folder with a `recording.toml`, whose `kind` says what else is in it:
//!
//! - `containers` ([`containers`]): long-running containers with a recorded CPU demand. The twin
//!   replays them on the hosts of the recording; measured power is a file of its own.
//! - `host-energy` ([`energy`]): CPU use and state of each host per interval, and the energy that
//!   was recorded for it.
//! - `testbed` ([`testbed`]): requests, their tasks and the hosts of a testbed.
//!
//! Errors name the file, the line and the column.

pub mod calibration;
pub mod command;
pub mod containers;
pub mod energy;
pub mod fit;
pub mod measured;
mod nnls;
pub mod page;
pub mod report;
mod rows;
pub mod score;
pub mod testbed;
pub mod window;

use std::path::Path;

use serde::Deserialize;
use thiserror::Error;

/// The file that says what a recording is.
pub const MANIFEST_FILE: &str = "recording.toml";

/// The largest file of a recording, in bytes (1 GiB): all of it is held in memory.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// Why a recording cannot be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// A file could not be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {problem}")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: u64,
        /// The column, what is wrong and what would be right.
        problem: String,
    },
    /// A file as a whole is wrong.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// What was asked for does not fit the recording.
    #[error("{0}")]
    Options(String),
}

impl ReplayError {
    /// The exit code that stands for this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Read { .. } => 66,
            Self::Write { .. } => 1,
            Self::Line { .. } | Self::File { .. } => 65,
            Self::Options(_) => 2,
        }
    }

    pub(crate) fn file(path: &Path, problem: impl ToString) -> Self {
        Self::File {
            path: path.display().to_string(),
            problem: problem.to_string(),
        }
    }
}

/// What is in a recording.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Manifest {
    /// Containers with a recorded demand.
    Containers(containers::Manifest),
    /// CPU use and energy per interval.
    HostEnergy(energy::Manifest),
    /// Tasks and hosts of a testbed.
    Testbed(testbed::command::Manifest),
}

impl Manifest {
    /// The manifest in the folder `recording`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is wrong.
    pub fn load(recording: &Path) -> Result<Self, ReplayError> {
        let path = recording.join(MANIFEST_FILE);
        let text = rows::read_text(&path)?;
        toml::from_str(&text).map_err(|error| ReplayError::file(&path, error.to_string().trim()))
    }
}
