//! The program `trainer`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use trainer::{evaluate, export_events, fit, import, label, quickstart, report};

/// Learns to decide like the oracle, and measures how well that works.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Evaluate(evaluate::Args),
    ExportEvents(export_events::Args),
    Fit(fit::Args),
    Import(import::Args),
    Label(label::Args),
    Quickstart(quickstart::Args),
    Report(report::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Evaluate(args) => evaluate::run(&args),
        Command::ExportEvents(args) => export_events::run(&args),
        Command::Fit(args) => fit::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Label(args) => label::run(&args),
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Report(args) => report::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed standard error leaves the exit code.
            let _ = writeln!(io::stderr(), "trainer: {}", trainer::explain(&error));
            trainer::exit_code(&error)
        }
    }
}
