//! `twin worlds` and `twin policies`.

use std::fmt::Write;

use serde::Serialize;
use twin::World;
use twin::policy::POLICIES;
use twin::world::embedded::WORLDS;

use super::Format;

/// Options of a list.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How to print it.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct WorldEntry {
    name: String,
    description: String,
    hosts: usize,
    applications: usize,
    hash: String,
}

#[derive(Debug, Serialize)]
struct PolicyEntry {
    name: &'static str,
    description: &'static str,
}

/// Prints the embedded worlds.
pub(super) fn worlds(args: &Args) -> anyhow::Result<()> {
    let mut entries = Vec::new();
    for file in WORLDS {
        let world = World::load(file.name)?;
        entries.push(WorldEntry {
            hosts: world.hosts.len(),
            applications: world.applications.len(),
            name: world.name,
            description: world.description,
            hash: world.hash,
        });
    }
    if args.format == Format::Json {
        return super::print_json(&entries);
    }
    let rows = entries
        .iter()
        .map(|e| (e.name.as_str(), e.description.as_str()));
    super::print(&table(rows))
}

/// Prints the policies of the twin.
pub(super) fn policies(args: &Args) -> anyhow::Result<()> {
    if args.format == Format::Json {
        let entries: Vec<PolicyEntry> = POLICIES
            .iter()
            .map(|&(name, description)| PolicyEntry { name, description })
            .collect();
        return super::print_json(&entries);
    }
    super::print(&table(POLICIES.iter().copied()))
}

/// Two columns.
fn table<'a>(rows: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let width = rows.clone().map(|row| row.0.len()).max().unwrap_or(0);
    rows.fold(String::new(), |mut text, (name, description)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:width$}  {description}");
        text
    })
}
