//! `twin compare`.

use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use twin::World;
use twin::chart::scale::{decimals_for, number};
use twin::compare::{self, CompareError, Comparison, Divergence, Options, Pairing};
use twin::statistics::Estimate;

use super::Format;
use super::failure::Usage;
use super::progress::Progress;
use super::simulate::SplitArg;

/// Seeds whose first different decision the text shows.
const SHOWN: usize = 5;

/// Options of `twin compare`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A policy (see `twin policies`), or a file: what `twin simulate --format json` printed, one
    /// run or several, or what `twin simulate --events` wrote.
    a: String,
    /// What it is compared with: another policy, or another file of the same kind.
    b: String,
    /// Name of an embedded world, or path of a world file, that policies are compared in.
    #[arg(long)]
    world: Option<String>,
    /// Number of seeds that policies are compared on.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    seeds: u32,
    /// Seed of the first episode; the next ones follow it.
    #[arg(long, default_value_t = 1, value_name = "SEED")]
    first_seed: u64,
    /// Length of an episode, in intervals; the world's if absent.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    intervals: Option<u32>,
    /// The part of the workload that episodes are drawn from.
    #[arg(long, value_enum, default_value_t)]
    split: SplitArg,
    /// How to print the comparison.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Compares and prints.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let is_file =
        |name: &str| twin::policy::POLICIES.iter().all(|p| p.0 != name) && Path::new(name).exists();
    let comparison = match (is_file(&args.a), is_file(&args.b)) {
        (true, true) => compare::files(Path::new(&args.a), Path::new(&args.b))?,
        (false, false) => policies(args)?,
        (a, _) => {
            let (file, other) = if a {
                (&args.a, &args.b)
            } else {
                (&args.b, &args.a)
            };
            return Err(Usage(format!(
                "{file} is a file and {other} is none; give two policies or two files"
            ))
            .into());
        }
    };
    match args.format {
        Format::Json => super::print_json(&comparison),
        Format::Text => super::print(&text(&comparison)?),
    }
}

fn policies(args: &Args) -> anyhow::Result<Comparison> {
    for name in [&args.a, &args.b] {
        let looks_like_file = name.contains(['/', '.']);
        if looks_like_file {
            let source = std::io::Error::new(
                std::io::ErrorKind::NotFound,
                "there is no such file, and no policy of that name",
            );
            return Err(anyhow::Error::new(source).context(format!("{name}: cannot read")));
        }
    }
    let Some(name) = &args.world else {
        return Err(Usage(format!(
            "--world is missing: name the world in which {} and {} are compared",
            args.a, args.b
        ))
        .into());
    };
    let world = World::load(name)?;
    let options = Options {
        seeds: args.seeds,
        first_seed: args.first_seed,
        intervals: args.intervals,
        split: args.split.into(),
    };
    let total = args.seeds.saturating_mul(2);
    let progress = Mutex::new((Progress::new("runs", total), 0));
    let step = || {
        let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.1 += 1;
        let done = progress.1;
        progress.0.at(done);
    };
    let result = compare::policies(&world, (&args.a, &args.b), &options, &step);
    let (progress, _) = progress
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    progress.finish();
    result.map_err(|error| match error {
        CompareError::Policy(error) => Usage(error.to_string()).into(),
        other => other.into(),
    })
}

fn text(comparison: &Comparison) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let out = &mut text;
    let (pairs, noun) = (
        comparison.pairs,
        match comparison.pairing {
            Pairing::Seeds => "seed",
            Pairing::Requests => "request",
        },
    );
    let s = if pairs == 1 { "" } else { "s" };
    writeln!(out, "A: {}\nB: {}", comparison.a, comparison.b)?;
    writeln!(
        out,
        "{}, paired over {pairs} {noun}{s}; means with 95 % intervals\n",
        comparison.world
    )?;
    let header = ["metric", "A", "B", "B − A", "B is"].map(str::to_owned);
    let rows = comparison.metrics.iter().map(|m| {
        [
            m.metric.clone(),
            shown(&m.a),
            shown(&m.b),
            difference(&m.difference),
            m.verdict.name().to_owned(),
        ]
    });
    let rows: Vec<[String; 5]> = std::iter::once(header).chain(rows).collect();
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    for row in &rows {
        writeln!(
            out,
            "{:w0$}  {:>w1$}  {:>w2$}  {:>w3$}  {}",
            row[0],
            row[1],
            row[2],
            row[3],
            row[4],
            w0 = widths[0],
            w1 = widths[1],
            w2 = widths[2],
            w3 = widths[3]
        )?;
    }
    if pairs == 1 && comparison.pairing == Pairing::Seeds {
        writeln!(
            out,
            "\nOne seed has no interval: compare on at least 20 seeds before you conclude."
        )?;
    }
    divergences(out, &comparison.divergences)?;
    Ok(text)
}

/// A mean and half the length of its interval.
fn shown(estimate: &Estimate) -> String {
    let half = estimate.half_width();
    let decimals = decimals_for(estimate.mean, half);
    let mean = number(estimate.mean, decimals);
    half.map_or(mean.clone(), |half| {
        format!("{mean} ± {}", number(half, decimals))
    })
}

/// A mean with its sign, and its interval.
fn difference(estimate: &Estimate) -> String {
    let decimals = decimals_for(estimate.mean, estimate.half_width());
    let signed = |value: f64| {
        let written = number(value, decimals);
        let plain = value <= 0.0 || written.chars().all(|c| matches!(c, '0' | '.'));
        if plain {
            written
        } else {
            format!("+{written}")
        }
    };
    let mean = signed(estimate.mean);
    match (estimate.ci95_low, estimate.ci95_high) {
        (Some(low), Some(high)) => format!("{mean} [{}, {}]", signed(low), signed(high)),
        _ => mean,
    }
}

fn divergences(out: &mut String, list: &[Divergence]) -> std::fmt::Result {
    if list.is_empty() {
        return Ok(());
    }
    let differ: Vec<&Divergence> = list.iter().filter(|d| d.time_s.is_some()).collect();
    if differ.is_empty() {
        return writeln!(out, "\nAll their decisions are the same.");
    }
    writeln!(out, "\nFirst decisions that differ:")?;
    for divergence in differ.iter().take(SHOWN) {
        let seed = divergence
            .seed
            .map_or_else(String::new, |seed| format!("seed {seed}, "));
        let time_s = divergence.time_s.unwrap_or_default();
        writeln!(
            out,
            "  {seed}at {time_s} s\n    A: {}\n    B: {}",
            divergence.a, divergence.b
        )?;
    }
    let rest = differ.len().saturating_sub(SHOWN);
    if rest > 0 {
        writeln!(out, "  and {rest} more seeds; --format json has all")?;
    }
    let same = list.len() - differ.len();
    if same > 0 {
        writeln!(out, "  seeds on which all decisions are the same: {same}")?;
    }
    Ok(())
}
