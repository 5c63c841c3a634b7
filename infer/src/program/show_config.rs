//! `infer show-config`.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::Args;

use crate::config::{self, EverySection, Flags, Format};

#[derive(Debug, Args)]
pub(super) struct ShowConfig {
    #[command(flatten)]
    flags: Flags<EverySection>,
    /// Print the default file, which documents every key, and nothing else
    #[arg(long, exclusive = true)]
    default: bool,
    /// How the values are written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Tells the configuration that `infer serve` would have with the same flags. What is wrong with it
/// is told after it, so that its origins help to find out why.
pub(super) fn show(args: &ShowConfig) -> Result<()> {
    if args.default {
        return print(config::default_file());
    }
    let settings = args.flags.settings()?;
    print(&settings.show(args.format))?;
    let config = settings.config()?;
    config.check_exposure(&settings)?;
    Ok(())
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}
