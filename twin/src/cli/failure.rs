//! From an error to a message and an exit code.

use std::io::ErrorKind;
use std::process::ExitCode;

use thiserror::Error;
use twin::world::WorldError;

/// The command line asks for something that does not exist.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Prints `error` with its causes, and gives the exit code that stands for it.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let broken_pipe = error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == ErrorKind::BrokenPipe);
    if broken_pipe {
        // Who read the output has seen enough of it.
        return ExitCode::SUCCESS;
    }
    // The message of an error often ends with its cause already.
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    eprintln!("error: {message}");
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<Usage>().is_some() {
        return 2;
    }
    match error.downcast_ref::<WorldError>() {
        Some(WorldError::NotFound { .. } | WorldError::Read { .. }) => 66,
        Some(WorldError::Parse { .. } | WorldError::Invalid { .. }) => 64,
        Some(WorldError::Arrivals { .. }) => 65,
        None => 1,
    }
}
