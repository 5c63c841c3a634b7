//! `infer token`.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::auth::{ClientName, NewToken, Role};

#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a new token, and the line of the token file that makes it known
    New(New),
}

#[derive(Debug, Args)]
struct New {
    /// What the client is called
    #[arg(long)]
    name: ClientName,
    /// What it may do
    #[arg(long, value_enum)]
    role: Role,
    /// Until when, as 2027-01-01T00:00:00Z [default: for good]
    #[arg(long, value_name = "TIME")]
    expires: Option<Timestamp>,
}

/// Makes a token. It is told this once, and kept nowhere.
pub(super) fn token(args: &Token) -> Result<()> {
    let Command::New(new) = &args.command;
    let token = NewToken::random(&new.name, new.role, new.expires)?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "# The token, for the client; it is not told again:\n{}\n\n# The line for the file of \
         tokens (auth.tokens_file):\n{}",
        token.secret(),
        token.line()
    )
    .and_then(|()| out.flush())
    .context("cannot write to standard output")
}
