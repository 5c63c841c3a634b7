//! `twin show`.

use std::fmt::Write;

use anyhow::Context;
use serde::Serialize;
use twin::World;
use twin::summary::Summary;
use twin::world::file::WorldFile;

use super::Format;

/// Options of `twin show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of an embedded world, or path of a world file.
    world: String,
    /// How to print it: a world file with comments on what follows from it, or JSON.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    world: &'a WorldFile,
    derived: &'a Summary,
}

/// Prints a world.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let world = World::load(&args.world)?;
    let summary = Summary::of(&world);
    match args.format {
        Format::Json => super::print_json(&Shown {
            world: &world.file,
            derived: &summary,
        }),
        Format::Text => {
            let file = toml::to_string(world.file.as_ref()).context("cannot write TOML")?;
            super::print(&format!("{}\n{file}", comments(&summary)?))
        }
    }
}

/// What follows from the world, as comments: the whole text is a world file again.
fn comments(summary: &Summary) -> Result<String, std::fmt::Error> {
    let mut text = String::from("# What follows from this world:\n");
    let out = &mut text;
    writeln!(out, "# hash = \"{}\"", summary.hash)?;
    writeln!(out, "# episode_s = {}", summary.episode_s)?;
    writeln!(out, "# capacity_mips = {}", summary.capacity_mips)?;
    writeln!(
        out,
        "# price_usd_per_hour = {:.4}",
        summary.price_usd_per_hour
    )?;
    writeln!(out, "# idle_power_w = {:.1}", summary.idle_power_w)?;
    writeln!(out, "# full_power_w = {:.1}", summary.full_power_w)?;
    writeln!(out, "# rate_per_s = {:.4}", summary.rate_per_s)?;
    writeln!(out, "# With all hosts on and the most accurate variants:")?;
    writeln!(out, "# load_mean = {:.4}", summary.load_mean)?;
    if let Some(peak) = summary.load_peak {
        writeln!(out, "# load_peak = {peak:.4}")?;
    }
    writeln!(
        out,
        "#\n# Requests of each application, and mean work of each variant:"
    )?;
    for a in &summary.applications {
        let tokens = if a.context_tokens_mean > 0.0 {
            format!(
                ", {:.1} context and {:.1} generated tokens",
                a.context_tokens_mean, a.generated_tokens_mean
            )
        } else {
            String::new()
        };
        writeln!(out, "# {}: {:.4} requests/s{tokens}", a.name, a.rate_per_s)?;
        for v in &a.variants {
            let best = if v.most_accurate {
                " (most accurate)"
            } else {
                ""
            };
            let (name, work, ram) = (&v.name, v.work_mean_mi, v.ram_mib);
            writeln!(out, "#   {name}: {work:.1} MI, {ram} MiB{best}")?;
        }
    }
    writeln!(out, "#\n# Hosts:")?;
    for (id, host) in summary.hosts.iter().enumerate() {
        let state = if host.initially_on { "on" } else { "off" };
        let (name, mips, price) = (&host.name, host.capacity_mips, host.price_usd_per_hour);
        writeln!(
            out,
            "#   {id} {name}: {mips} MIPS, {price} USD/h, {state} at first"
        )?;
    }
    Ok(text)
}
