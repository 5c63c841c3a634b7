//! A deployer: asks the decision service where each request should run, and sends it there.
//!
//! It keeps the service in step by telemetry: what starts, what ends, how busy the hosts are. Each
//! host has an HTTP worker. With `--azure` it also turns the VMs on and off, as is decided at each
//! interval. `deployer.py` is the same in Python.
//!
//! ```text
//! cargo run -p infer -- serve --policy greedy --world infer/examples/small.toml
//! cargo run -p infer --example worker -- --world infer/examples/small.toml
//! cargo run -p infer --example deployer -- --world infer/examples/small.toml \
//!     --worker http://127.0.0.1:9001 http://127.0.0.1:9002 http://127.0.0.1:9003
//! ```

mod clients;
mod deployer;
mod service;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use rand::RngExt;
use serde_json::{Value, json};
use twin::stream;
use twin::units::SimTime;

use crate::deployer::Deployer;

/// Requests that are under way at the same time; further ones arrive later.
const UNDER_WAY: usize = 64;
/// How often it is looked whether requests have ended.
const AGAIN: Duration = Duration::from_millis(100);

/// Asks the decision service where each request should run, and sends it there.
#[derive(Parser)]
struct Args {
    /// The decision service
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    service: String,
    /// World, by name or path
    #[arg(long)]
    world: String,
    /// Workers, one a host of the world, in their order
    #[arg(long, required = true, num_args = 1.., value_name = "URL")]
    worker: Vec<String>,
    /// Resource Manager that turns the VMs on and off, which have the names of the hosts
    #[arg(long, value_name = "URL", requires = "group")]
    azure: Option<String>,
    /// Resource group of the VMs, as /subscriptions/S/resourceGroups/G
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// How many requests to send
    #[arg(long, default_value_t = 60)]
    requests: u64,
    /// Requests per second of the fleet's time
    #[arg(long, default_value_t = 1.5)]
    rate: f64,
    /// Seconds of the fleet's time in a real second
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// File that holds a bearer token with the role decide
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Seed of arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Tells what became of requests, and counts.
struct Telling {
    ended: Receiver<Result<Value>>,
    answered: u64,
    failed: u64,
}

impl Telling {
    /// Tells of one request that has ended, if one does within this time.
    fn next(&mut self, wait: Duration) -> Result<()> {
        let Ok(ended) = self.ended.recv_timeout(wait) else {
            return Ok(());
        };
        let line = ended?;
        let answered = line["outcome"] == "answered";
        self.answered += u64::from(answered);
        self.failed += u64::from(!answered);
        writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
    }
}

fn run(args: Args) -> Result<()> {
    ensure!(
        args.rate > 0.0 && args.speed > 0.0,
        "--rate and --speed must be above 0"
    );
    let (ended, told) = mpsc::channel();
    let deployer = Arc::new(Deployer::new(args, ended)?);
    let (args, applications) = (&deployer.args, &deployer.world.applications);
    let mut telling = Telling {
        ended: told,
        answered: 0,
        failed: 0,
    };
    deployer.begin()?;
    let (done, until) = mpsc::channel();
    let ticking = Arc::clone(&deployer);
    let ticker = thread::spawn(move || ticking.guard(ticking.tick(&until)));
    let mut chance = stream::named(args.seed, "deployer");
    for request in 0..args.requests {
        let gap_s = -(1.0 - chance.random::<f64>()).ln() / args.rate / args.speed;
        let arrives = Instant::now() + Duration::from_secs_f64(gap_s);
        loop {
            let full = deployer.under_way() >= UNDER_WAY;
            let left = arrives.saturating_duration_since(Instant::now());
            if left.is_zero() && !full {
                break;
            }
            telling.next(if full { AGAIN } else { left })?;
        }
        let application = chance.random_range(0..applications.len());
        deployer.arrive(request, &applications[application].name)?;
    }
    while telling.answered + telling.failed < args.requests {
        telling.next(AGAIN)?;
    }
    drop(done);
    ticker.join().map_err(|_| anyhow!("the ticker panicked"))?;
    deployer.power();
    let took_s = SimTime(deployer.service.now_ns()).seconds();
    let (answered, failed) = (telling.answered, telling.failed);
    let line = json!({"answered": answered, "failed": failed, "took_s": took_s});
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to say that standard error is closed.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
