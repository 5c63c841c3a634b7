//! Why co-simulation stops.

use thiserror::Error;

use super::telemetry::FieldProblem;

/// Why co-simulation stopped.
#[derive(Debug, Error)]
pub enum CosimError {
    /// A value of a record is out of range.
    #[error(transparent)]
    Record(#[from] FieldProblem),
    /// A host that the world does not have.
    #[error("host {host}: the world has hosts 0 to {}", hosts - 1)]
    Host {
        /// What was asked for.
        host: u32,
        /// Hosts of the world.
        hosts: usize,
    },
    /// An application or a variant that the world does not have.
    #[error("unknown {kind} \"{name}\"{hint}")]
    Unknown {
        /// Application or variant.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// A fragment that the world does not have.
    #[error("{application}/{variant}: fragment {fragment}: it has {fragments}, numbered from 0")]
    Fragment {
        /// The application.
        application: String,
        /// The variant.
        variant: String,
        /// What was asked for.
        fragment: u32,
        /// Fragments of the variant.
        fragments: usize,
    },
    /// A record is older than what is known.
    #[error(
        "host {host}: record of {time_s} s after one of {known_s} s; sort the records of a host by \
         time_s"
    )]
    Order {
        /// The host.
        host: u32,
        /// Time of the record, in s.
        time_s: f64,
        /// Time of the last record, in s.
        known_s: f64,
    },
    /// A record of a list is wrong.
    #[error("record {number}: {source}")]
    InList {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        source: Box<CosimError>,
    },
    /// A setting is out of range.
    #[error("{name}: must be finite and {expected}, found {value}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What would be right.
        expected: &'static str,
        /// What was found.
        value: f64,
    },
}

impl CosimError {
    /// The field of the record that is wrong.
    #[must_use]
    pub fn field(&self) -> &str {
        match self {
            Self::Record(problem) => &problem.field,
            Self::Host { .. } => "host",
            Self::Unknown { kind, .. } => kind,
            Self::Fragment { .. } => "fragment",
            Self::Order { .. } => "time_s",
            Self::InList { source, .. } => source.field(),
            Self::Setting { name, .. } => name,
        }
    }
}
