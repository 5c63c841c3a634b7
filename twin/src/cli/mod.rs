//! The command line. Files, clocks and terminals are met here and nowhere below.

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
  64  a world or another configuration is not valid
  65  arrivals or a recording are not valid
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
    /// Measure how far the oracle is from an exhaustive search, on worlds cut down to few hosts.
    #[command(after_help = EXIT_CODES)]
    Gap(gap::Args),
    /// Fit the work of fragments to a recording of a real run.
    #[command(after_help = EXIT_CODES)]
    Calibrate(twin::calibrate::command::Args),
    /// Drive the twin with recorded decisions and compare what it predicts with what was recorded.
    #[command(after_help = EXIT_CODES)]
    Replay(twin::replay::testbed::command::Args),
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
        Command::Gap(args) => gap::run(args),
        Command::Calibrate(args) => twin::calibrate::command::run(args),
        Command::Replay(args) => twin::replay::testbed::command::run(args),
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
