//! `trainer quickstart`: the whole loop with a small budget.
//!
//! Label, fit, evaluate and report, one after another, each as the command of its own name does it;
//! everything goes under one folder. A killed quickstart goes on where it was.
//!
//! Left out: a second round of labels in the states that the model itself visits (`trainer label
//! --model`), and a budget that shows what a model can reach.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use twin::policy::POLICIES;
use twin::workload::Split;

use crate::label::{Mixture, OracleArgs, Part};
use crate::{evaluate, fit, label, report};

/// Label, fit, evaluate and report with a small budget.
///
/// Takes some minutes on two cores. A killed run continues when it is started again.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of everything that is made.
    #[arg(long, default_value = "runs/quickstart", value_name = "DIR")]
    pub out: PathBuf,
    /// The smallest budget at which every part still runs: seconds, and a model that knows little.
    #[arg(long)]
    pub smallest: bool,
    /// Seed of the labels and the fit, and the first of the evaluation.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..1 << 60))]
    pub seed: u64,
    /// Threads; as many as there are cores if it is left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// How much is done.
struct Budget {
    world: &'static str,
    /// Questions to label, and the length of the episodes in which they come up.
    steps: u64,
    label_intervals: u32,
    label_share: f64,
    oracle: OracleArgs,
    epochs: u32,
    /// Episodes of each policy, and their length.
    seeds: u64,
    intervals: u32,
}

impl Budget {
    fn small() -> Self {
        Self {
            world: "azure-llm",
            steps: 12_000,
            label_intervals: 12,
            label_share: 0.15,
            oracle: OracleArgs::default(),
            epochs: 16,
            seeds: 20,
            intervals: 18,
        }
    }

    fn smallest() -> Self {
        Self {
            world: "scinet-16",
            steps: 200,
            label_intervals: 4,
            label_share: 0.25,
            oracle: OracleArgs {
                oracle_power_futures: Some(2),
                oracle_place_futures: Some(1),
                oracle_placements: Some(3),
                oracle_placements_per_variant: Some(1),
                oracle_power_intervals: Some(1),
            },
            epochs: 2,
            seeds: 3,
            intervals: 10,
        }
    }
}

/// Runs the loop, and prints the table, where the report is, and what to try next.
///
/// # Errors
///
/// As the commands that it consists of.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    let budget = if args.smallest {
        Budget::smallest()
    } else {
        Budget::small()
    };
    let model = args.out.join("model");
    stage(1, "label states with what the oracle would do");
    label::run(&label_args(args, &budget)).with_context(|| anew(args))?;
    stage(2, "fit a model to the labels");
    fit::run(&fit_args(args, &budget)).with_context(|| anew(args))?;
    stage(
        3,
        "evaluate the model, every baseline and the oracle on held-out seeds",
    );
    let evaluation = evaluate_args(args, &budget);
    evaluate::run(&evaluation).with_context(|| anew(args))?;
    stage(4, "write the report");
    let path = report::write(&args.out, Some(&evaluation.out.join("report.html")))?;
    let seconds = started.elapsed().as_secs();
    let mut out = io::stdout().lock();
    writeln!(out, "the report is {}", path.display())?;
    writeln!(out, "all of it took {seconds} s; next, decide online:")?;
    let model = model.display();
    writeln!(
        out,
        "  cargo run --release --bin infer -- serve --model {model}"
    )?;
    Ok(())
}

/// What can be done about leftovers of another build, seed or budget.
fn anew(args: &Args) -> String {
    let out = args.out.display();
    format!("quickstart: remove {out}, or give another --out, to start anew")
}

fn stage(number: u8, what: &str) {
    // Progress that nobody can read is no reason to fail.
    let _ = writeln!(io::stderr(), "quickstart {number}/4: {what}");
}

fn label_args(args: &Args, budget: &Budget) -> label::Args {
    label::Args {
        world: budget.world.to_owned(),
        steps: budget.steps,
        seed: args.seed,
        out: args.out.join("dataset"),
        shard: Part::WHOLE,
        episodes_per_shard: 2,
        intervals: Some(budget.label_intervals),
        policies: Mixture::default(),
        model: None,
        model_share: 0.0,
        vary_objective: 0.0,
        label_share: budget.label_share,
        oracle: budget.oracle,
        threads: args.threads,
    }
}

fn fit_args(args: &Args, budget: &Budget) -> fit::Args {
    fit::Args {
        dataset: vec![args.out.join("dataset")],
        out: args.out.join("model"),
        epochs: budget.epochs,
        batch_size: 256,
        learning_rate: 1e-3,
        seed: args.seed,
        validation_share: 0.15,
        patience: 8,
        init: None,
        resume: true,
        threads: args.threads,
    }
}

fn evaluate_args(args: &Args, budget: &Budget) -> evaluate::Args {
    let model = format!("model:{}", args.out.join("model").display());
    let named = POLICIES.iter().map(|(name, _)| (*name).to_owned());
    evaluate::Args {
        world: budget.world.to_owned(),
        policies: named.chain([model]).collect(),
        seeds: budget.seeds,
        first_seed: args.seed,
        out: args.out.join("evaluation"),
        intervals: Some(budget.intervals),
        split: Split::HeldOut,
        format: evaluate::Format::Text,
        threads: args.threads,
    }
}
