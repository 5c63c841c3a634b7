//! `twin gap`.

use std::fmt::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;
use twin::World;
use twin::gap::{self, Hooks, Kind, Measurement, Options, Summary, small};
use twin::policy::exhaustive;
use twin::statistics::Estimate;
use twin::world::embedded::WORLDS;

use super::Format;
use super::failure::Usage;
use super::progress::Progress;

/// Options of `twin gap`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name of an embedded world, or path of a world file; may be repeated. All embedded worlds if
    /// absent.
    #[arg(long)]
    world: Vec<String>,
    /// Hosts that are left of each world.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    hosts: u16,
    /// Number of states in each world.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    states: u32,
    /// Seed of the states and of all futures.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Fresh futures that the decisions are compared on.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..))]
    futures: u16,
    /// The most joint decisions of a state; states with more are passed over.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// The oracle's decision counts as best if it is worse by at most this, in seconds of penalty.
    #[arg(long, default_value_t = 0.1)]
    epsilon_s: f64,
    /// How to print the gap; JSON has every state.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Report {
    world: String,
    hosts: usize,
    seed: u64,
    epsilon_s: f64,
    kinds: Vec<Summary>,
    states: Vec<Measurement>,
}

/// Measures and prints the gap.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let names = if args.world.is_empty() {
        WORLDS.iter().map(|w| w.name.to_owned()).collect()
    } else {
        args.world.clone()
    };
    let options = Options {
        states: u64::from(args.states),
        seed: args.seed,
        futures: usize::from(args.futures),
        epsilon_s: args.epsilon_s,
        search: exhaustive::Options {
            limit: args.limit as usize,
            ..exhaustive::Options::default()
        },
        ..Options::default()
    };
    // All worlds are cut before any is measured, so that errors come at once.
    let worlds = names
        .iter()
        .map(|name| {
            let world = World::load(name)?;
            let small = small::cut(&world, usize::from(args.hosts), args.seed)
                .map_err(|error| Usage(error.to_string()))?;
            Ok((world.name, small))
        })
        .collect::<anyhow::Result<Vec<(String, World)>>>()?;
    let mut reports = Vec::new();
    for (name, world) in worlds {
        let states = measured(&world, &options)?;
        reports.push(Report {
            world: name,
            hosts: world.hosts.len(),
            seed: args.seed,
            epsilon_s: args.epsilon_s,
            kinds: gap::summaries(&states, args.epsilon_s),
            states,
        });
    }
    match args.format {
        Format::Json => super::print_json(&reports),
        Format::Text => super::print(&text(&reports)?),
    }
}

/// Measures the gap in `world`, with a clock and a progress bar.
fn measured(world: &World, options: &Options) -> anyhow::Result<Vec<Measurement>> {
    let steps = u32::try_from(2 * options.states)?;
    let progress = Mutex::new((Progress::new("steps", steps), 0));
    let started = Instant::now();
    let step = || {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.1 += 1;
        let done = progress.1;
        progress.0.at(done);
    };
    let result = gap::measure(
        world,
        options,
        &Hooks {
            clock: &|| started.elapsed(),
            step: &step,
        },
    );
    let (progress, _) = progress
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    progress.finish();
    Ok(result?)
}

fn text(reports: &[Report]) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for report in reports {
        writeln!(
            text,
            "{} cut down to {} hosts, seed {}",
            report.world, report.hosts, report.seed
        )?;
        if report.kinds.is_empty() {
            writeln!(text, "  no state leaves a choice that can be searched")?;
        }
        for summary in &report.kinds {
            table(&mut text, summary, report.epsilon_s)?;
        }
    }
    writeln!(
        text,
        "\nGaps are penalties above that of the exhaustive search's decision on fresh futures, \
         means with 95 % intervals.\nThe oracle's true gap lies between its two figures."
    )?;
    Ok(text)
}

fn table(out: &mut String, summary: &Summary, epsilon_s: f64) -> std::fmt::Result {
    let kind = match summary.kind {
        Kind::Provisioning => "boundaries where no request waits",
        Kind::Joint => "boundaries where requests wait",
        Kind::Arrival => "arrivals",
    };
    writeln!(
        out,
        "\n{} {kind}, {:.0} joint decisions on average, {} at most; {} passed over with more",
        summary.states, summary.decisions_mean, summary.decisions_max, summary.refused
    )?;
    writeln!(out, "  exhaustive penalty   {:9.3} s", summary.penalty_s)?;
    let mut row = |name: &str, gap: &Estimate, part: Option<f64>| {
        let interval = match (gap.ci95_low, gap.ci95_high) {
            (Some(low), Some(high)) => format!("[{low:.3}, {high:.3}]"),
            _ => "[unknown]".into(),
        };
        let part = part.map_or_else(String::new, |p| {
            format!(", of which the oracle's gap is {p:.1} %")
        });
        writeln!(out, "  {name:20} {:9.3} s {interval}{part}", gap.mean)
    };
    row("oracle gap", &summary.oracle_s, None)?;
    row("oracle gap, at most", &summary.oracle_in_sample_s, None)?;
    row(
        "greedy gap",
        &summary.greedy_s,
        summary.oracle_of_greedy_percent,
    )?;
    row(
        "gap of no decision",
        &summary.nothing_s,
        summary.oracle_of_nothing_percent,
    )?;
    row(
        "gap of chance",
        &summary.random_s,
        summary.oracle_of_random_percent,
    )?;
    writeln!(
        out,
        "  oracle within {epsilon_s} s in {:.0} % of states",
        100.0 * summary.within_epsilon
    )?;
    writeln!(
        out,
        "  decision time, median: oracle {:.1} ms, exhaustive {:.1} ms",
        1e3 * summary.oracle_time_p50_s,
        1e3 * summary.exhaustive_time_p50_s
    )
}
