//! The command line. Files, clocks and terminals are met here and nowhere below.

mod check;
mod compare;
pub(crate) mod failure;
mod gap;
mod list;
mod progress;
mod show;
mod simulate;

use std::io::Write;

use clap::{Parser, Subcommand, ValueEnum};

/// What `--help` says of exit codes.
const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   unexpected failure
  2   wrong usage: unknown option, unknown policy
  64  a world or another configuration is not valid, or a check found what it denies
  65  arrivals, a recording or the results of a run are not valid
  66  a world, a file or its folder does not exist";

/// The digital twin: prices joint decisions on a fleet of VMs before they are taken.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the worlds that are part of the program.
    Worlds(list::Args),
    /// Print a world fully resolved, and what follows from it.
    Show(show::Args),
    /// List the policies that are part of the program.
    Policies(list::Args),
    /// Run a policy through an episode of a world and print its quality of service.
    #[command(after_help = EXIT_CODES)]
    Simulate(simulate::Args),
    /// Compare two policies on the same seeds, or the files that two runs wrote.
    #[command(after_help = EXIT_CODES)]
    Compare(compare::Args),
    /// Explain what is odd in a world, and how much it asks of its hosts.
    #[command(after_help = EXIT_CODES)]
    Check(check::Args),
    /// Measure how far the oracle is from an exhaustive search, on worlds cut down to few hosts.
    #[command(after_help = EXIT_CODES)]
    Gap(gap::Args),
    /// Fit the work of fragments to a recording of a real run.
    #[command(after_help = EXIT_CODES)]
    Calibrate(twin::calibrate::command::Args),
    /// Fit delay against CPU share to measurements, and choose the family by cross-validation.
    #[command(after_help = EXIT_CODES)]
    FitDelay(twin::delay::command::Args),
    /// Keep the twin in step with telemetry, report drift and recalibrate.
    #[command(after_help = EXIT_CODES)]
    Cosim(twin::cosim::command::Args),
    /// Drive the twin with a recording of a real system, and compare.
    #[command(after_help = EXIT_CODES)]
    Replay(twin::replay::command::Args),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Runs the command that was asked for.
pub(crate) fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Worlds(args) => list::worlds(args),
        Command::Show(args) => show::run(args),
        Command::Policies(args) => list::policies(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Check(args) => check::run(args),
        Command::Gap(args) => gap::run(args),
        Command::Calibrate(args) => twin::calibrate::command::run(args),
        Command::FitDelay(args) => twin::delay::command::run(args),
        Command::Cosim(args) => twin::cosim::command::run(args),
        Command::Replay(args) => twin::replay::command::run(args),
    }
}

/// Writes `text` to standard output.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes `value` to standard output as JSON.
fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    print(&text)
}
