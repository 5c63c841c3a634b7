//! Learning to decide like the oracle, and measuring how well that works.
//!
//! Each module with a `run` function is one command of the program `trainer`: it owns its
//! arguments, and can be called from Rust with the same ones.
//!
//! ```no_run
//! use clap::Parser;
//! use trainer::evaluate;
//!
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(flatten)]
//!     evaluate: evaluate::Args,
//! }
//! let cli = Cli::parse_from([
//!     "cli", "--world", "scinet-16", "--policies", "random,best-fit", "--out", "runs/first",
//! ]);
//! let evaluation = evaluate::evaluate(&cli.evaluate)?;
//! let objective = evaluation.policies["best-fit"]["objective"];
//! println!("{objective:?}");
//! # Ok::<(), anyhow::Error>(())
//! ```
//!
//! Left out: anything that answers online; that is the program `infer`.

pub mod evaluate;
pub mod export_events;
pub mod fit;
pub mod import;
pub mod label;
pub mod model_policy;
pub mod policies;
pub mod progress;
pub mod quickstart;
pub mod remote_policy;
pub mod report;

pub use twin::{files, statistics};

use std::fmt::Write;
use std::io;
use std::process::ExitCode;

use datasets::decisions::DatasetError;
use fit::FitError;
use models::ModelError;
use report::ReportError;
use twin::events::EventsError;
use twin::world::WorldError;

/// `error` and its causes in one line, without repeating a cause that a message already tells.
#[must_use]
pub fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if text.is_empty() {
            text.push_str(&message);
        } else if !last.contains(&message) {
            // Writing to a string cannot fail.
            let _ = write!(text, ": {message}");
        }
        last = message;
    }
    text
}

/// The exit code for `error`: 64 a bad world, 65 bad data, 66 a missing file, 69 a service that
/// does not answer, 1 anything else.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let missing = |cause: &(dyn std::error::Error + 'static)| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
            || matches!(cause.downcast_ref(), Some(ReportError::Nothing { .. }))
            || matches!(
                cause.downcast_ref(),
                Some(DatasetError::NoManifest { .. } | DatasetError::MissingShard { .. })
            )
            || matches!(
                cause.downcast_ref(),
                Some(ModelError::NoFolder(_) | ModelError::Missing(_))
            )
    };
    let code = if error.chain().any(missing) {
        66
    } else if error.chain().any(|cause| cause.is::<WorldError>()) {
        64
    } else if error.chain().any(|cause| {
        cause.is::<datasets::ReadError>()
            || cause.is::<datasets::ParquetError>()
            || cause.is::<FitError>()
            || cause.is::<ModelError>()
            || cause.is::<DatasetError>()
            || cause.is::<EventsError>()
            || matches!(cause.downcast_ref(), Some(ReportError::Json { .. }))
    }) {
        65
    } else if error.chain().any(|cause| cause.is::<ureq::Error>()) {
        69
    } else {
        1
    };
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let source = io::Error::new(io::ErrorKind::NotFound, "no such file");
        let error = datasets::ReadError::Io {
            path: "trace.csv".into(),
            source,
        };
        let error = anyhow::Error::new(error).context("cannot import");
        assert_eq!(
            explain(&error),
            "cannot import: cannot read trace.csv: no such file"
        );
        assert_eq!(exit_code(&error), ExitCode::from(66));
    }

    #[test]
    fn a_bad_world_is_a_bad_configuration() {
        let error = anyhow::Error::new(twin::World::load("scinet-61").expect_err("no such world"));
        assert_eq!(exit_code(&error), ExitCode::from(64));
    }
}
