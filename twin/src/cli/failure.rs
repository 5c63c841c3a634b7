//! From an error to a message and an exit code.

use std::io::ErrorKind;
use std::process::ExitCode;

use thiserror::Error;
use twin::calibrate::CalibrateError;
use twin::compare::CompareError;
use twin::cosim::CosimError;
use twin::cosim::telemetry::TelemetryError;
use twin::delay::MeasurementsError;
use twin::recording::RecordingError;
use twin::replay::ReplayError;
use twin::replay::testbed::TestbedError;
use twin::world::WorldError;

/// The command line asks for something that does not exist.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// A check found what it was told to deny.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Denied(pub(crate) String);

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
    if error.downcast_ref::<Denied>().is_some() {
        return 64;
    }
    if error.downcast_ref::<CompareError>().is_some() {
        return 65;
    }
    if let Some(error) = error.downcast_ref::<WorldError>() {
        return match error {
            WorldError::NotFound { .. } | WorldError::Read { .. } => 66,
            WorldError::Parse { .. } | WorldError::Invalid { .. } => 64,
            WorldError::Arrivals { .. } => 65,
        };
    }
    if let Some(error) = error.downcast_ref::<ReplayError>() {
        return error.exit_code();
    }
    if let Some(error) = error.downcast_ref::<RecordingError>() {
        return recording_code(error);
    }
    if let Some(error) = error.downcast_ref::<CalibrateError>() {
        return calibrate_code(error);
    }
    if let Some(error) = error.downcast_ref::<TestbedError>() {
        return match error {
            TestbedError::Recording(error) => recording_code(error),
            TestbedError::Calibrate(error) => calibrate_code(error),
            TestbedError::Read { .. } => 66,
            TestbedError::Calibration { .. } | TestbedError::NotCalibrated { .. } => 64,
            TestbedError::Window { .. } | TestbedError::Replications(_) => 2,
        };
    }
    if let Some(error) = error.downcast_ref::<MeasurementsError>() {
        return match error {
            MeasurementsError::Read { .. } => 66,
            MeasurementsError::Line { .. } | MeasurementsError::Empty { .. } => 65,
        };
    }
    if let Some(error) = error.downcast_ref::<TelemetryError>() {
        return match error {
            TelemetryError::Read { .. } => 66,
            TelemetryError::Line { .. } | TelemetryError::TooMany { .. } => 65,
        };
    }
    if let Some(error) = error.downcast_ref::<CosimError>() {
        return match error {
            CosimError::Setting { .. } => 2,
            _ => 65,
        };
    }
    let missing = error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|e| e.kind() == ErrorKind::NotFound);
    if missing { 66 } else { 1 }
}

fn calibrate_code(error: &CalibrateError) -> u8 {
    match error {
        CalibrateError::Recording(error) => recording_code(error),
        CalibrateError::InputsRead { .. } => 66,
        CalibrateError::Interval(_) | CalibrateError::Window { .. } => 2,
        CalibrateError::Tasks { .. } => 65,
        CalibrateError::Inputs { .. }
        | CalibrateError::NoInput { .. }
        | CalibrateError::NotRecorded { .. } => 64,
    }
}

fn recording_code(error: &RecordingError) -> u8 {
    match error {
        RecordingError::Read { .. } => 66,
        RecordingError::Line { .. } | RecordingError::Empty { .. } => 65,
    }
}
