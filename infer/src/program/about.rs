//! `infer openapi` and `infer version`: what the program is.

use std::io::{self, Write};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::Format;
use crate::openapi;

#[derive(Debug, Args)]
pub(super) struct Version {
    /// As text, or as JSON
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What the program is.
#[derive(Debug, Serialize)]
struct About {
    name: &'static str,
    version: &'static str,
    /// Version of the messages.
    wire_schema: u32,
    /// Version of the world files.
    world_schema: u32,
    /// What it can do that another build of it might not.
    features: [&'static str; 2],
    /// The policies that are built in.
    policies: Vec<&'static str>,
}

impl About {
    fn this() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            wire_schema: twin::wire::SCHEMA,
            world_schema: twin::world::file::SCHEMA,
            features: ["openapi", "otlp"],
            policies: twin::policy::POLICIES
                .iter()
                .map(|(name, _)| *name)
                .collect(),
        }
    }
}

pub(super) fn version(args: &Version) -> Result<()> {
    let about = About::this();
    let text = match args.format {
        Format::Text => format!("{} {}", about.name, about.version),
        Format::Json => {
            serde_json::to_string_pretty(&about).context("cannot write the version as JSON")?
        }
    };
    print(&format!("{text}\n"))
}

pub(super) fn openapi() -> Result<()> {
    print(&openapi::text(&openapi::document()))
}

fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}
