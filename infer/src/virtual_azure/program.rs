//! The program `virtual-azure`.

use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use jiff::Timestamp;
use tracing_subscriber::EnvFilter;
use twin::World;
use twin::workload::Split;
use twin::world::WorldError;

use super::clock::{ClockKind, SPEEDS};
use super::deploy::{DeployerChoice, FALLBACK};
use super::faults::{FaultSettings, FaultsError};
use super::options::{self, Layout, Options};
use super::server::{Server, StartError};

/// An Azure Resource Manager in front of a running twin.
///
/// Exit codes: 0 done, 1 unexpected, 2 usage, 64 bad world, policy or faults, 66 a missing file,
/// 69 the address is not available.
#[derive(Debug, Parser)]
#[command(name = "virtual-azure", version)]
struct Program {
    /// World, by name or path
    #[arg(long, env = "VIRTUAL_AZURE_WORLD", value_name = "WORLD")]
    world: String,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, env = "VIRTUAL_AZURE_LISTEN", default_value = "127.0.0.1:8443", value_parser = address, value_name = "HOST:PORT")]
    listen: SocketAddr,
    /// Virtual seconds a real second
    #[arg(long, env = "VIRTUAL_AZURE_SPEED", default_value_t = 1.0, value_parser = speed, value_name = "X")]
    speed: f64,
    /// How time passes: by itself, or by POST /virtual/advance
    #[arg(long, env = "VIRTUAL_AZURE_CLOCK", value_enum, default_value_t = ClockArg::Running)]
    clock: ClockArg,
    /// Virtual time at the start [default: now; of a stepped clock 2026-01-01T00:00:00Z]
    #[arg(long, env = "VIRTUAL_AZURE_START_TIME", value_name = "TIME")]
    start_time: Option<Timestamp>,
    /// Seed of arrivals, demands, VM speeds and the world's faults
    #[arg(long, env = "VIRTUAL_AZURE_SEED", default_value_t = 0)]
    seed: u64,
    /// Length of an episode, in intervals; the world's if absent. Arrivals go on after it
    #[arg(long, env = "VIRTUAL_AZURE_INTERVALS", value_parser = clap::value_parser!(u32).range(1..))]
    intervals: Option<u32>,
    /// The part of the workload that arrivals are drawn from
    #[arg(long, env = "VIRTUAL_AZURE_SPLIT", value_enum, default_value_t = SplitArg::HeldOut)]
    split: SplitArg,
    /// Who places arriving requests: a policy of the twin, the address of a decision service, or `outside`
    #[arg(long, env = "VIRTUAL_AZURE_DEPLOYER", default_value = FALLBACK, value_name = "DEPLOYER")]
    deployer: DeployerChoice,
    /// As what hosts appear
    #[arg(long, env = "VIRTUAL_AZURE_LAYOUT", value_enum, default_value_t = Layout::Vms)]
    layout: Layout,
    /// What goes wrong with calls, as TOML
    #[arg(long, env = "VIRTUAL_AZURE_FAULTS", value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Share of the calls that meet a fault; goes before the one in the file
    #[arg(long, env = "VIRTUAL_AZURE_FAULT_RATE", value_name = "SHARE")]
    fault_rate: Option<f64>,
    /// Do not throttle calls
    #[arg(long, env = "VIRTUAL_AZURE_NO_THROTTLE")]
    no_throttle: bool,
    /// Serve plain HTTP
    #[arg(long, env = "VIRTUAL_AZURE_PLAIN", conflicts_with = "tls_dir")]
    plain: bool,
    /// Where to write ca.pem, the certificate that clients must trust
    #[arg(long, env = "VIRTUAL_AZURE_TLS_DIR", value_name = "DIR")]
    tls_dir: Option<PathBuf>,
    /// The subscription
    #[arg(long, env = "VIRTUAL_AZURE_SUBSCRIPTION", default_value = options::SUBSCRIPTION)]
    subscription: String,
    /// The tenant
    #[arg(long, env = "VIRTUAL_AZURE_TENANT", default_value = options::TENANT)]
    tenant: String,
    /// The resource group
    #[arg(long, env = "VIRTUAL_AZURE_RESOURCE_GROUP", default_value = options::RESOURCE_GROUP)]
    resource_group: String,
    /// The secret that any client gets a token for
    #[arg(long, env = "VIRTUAL_AZURE_CLIENT_SECRET", default_value = options::CLIENT_SECRET, hide_env_values = true)]
    client_secret: String,
    /// Entries of a page of a list
    #[arg(long, env = "VIRTUAL_AZURE_PAGE_SIZE", default_value_t = options::PAGE_SIZE, value_parser = page_size)]
    page_size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClockArg {
    Running,
    Stepped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SplitArg {
    HeldOut,
    Training,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| error.to_string())?;
    found
        .next()
        .ok_or_else(|| "there is no such host".to_owned())
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text
        .parse()
        .map_err(|error: std::num::ParseFloatError| error.to_string())?;
    if SPEEDS.contains(&speed) {
        return Ok(speed);
    }
    let (slowest, fastest) = SPEEDS.into_inner();
    Err(format!("must be between {slowest} and {fastest}"))
}

fn page_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ 1..=10_000) => Ok(size),
        Ok(_) => Err("must be between 1 and 10000".into()),
        Err(error) => Err(format!("{error}")),
    }
}

/// The minute that has begun: bins of metrics begin with whole minutes.
fn this_minute() -> Timestamp {
    let now = Timestamp::now();
    let seconds = now.as_second();
    Timestamp::from_second(seconds - seconds.rem_euclid(60)).unwrap_or(now)
}

impl Program {
    fn options(self) -> Result<Options> {
        let mut faults = match &self.faults {
            Some(path) => FaultSettings::load(path)?,
            None => FaultSettings::default(),
        };
        if let Some(rate) = self.fault_rate {
            faults.rate = rate;
        }
        let world = Arc::new(World::load(&self.world)?);
        let stepped = Options::stepped(world);
        let (clock, usual_start) = match self.clock {
            ClockArg::Running => (ClockKind::Running { speed: self.speed }, this_minute()),
            ClockArg::Stepped => (ClockKind::Stepped, stepped.start_time),
        };
        Ok(Options {
            listen: self.listen,
            clock,
            start_time: self.start_time.unwrap_or(usual_start),
            seed: self.seed,
            intervals: self.intervals,
            split: match self.split {
                SplitArg::HeldOut => Split::HeldOut,
                SplitArg::Training => Split::Training,
            },
            deployer: self.deployer,
            layout: self.layout,
            faults: faults.checked()?,
            throttle: !self.no_throttle,
            tls: !self.plain,
            tls_dir: self.tls_dir,
            subscription: self.subscription,
            tenant: self.tenant,
            resource_group: self.resource_group,
            client_secret: self.client_secret,
            page_size: self.page_size,
            ..stepped
        })
    }
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let program = Program::parse();
    match run(program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to say that standard error is closed.
            let _ = writeln!(io::stderr(), "error: {}", explain(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn run(program: Program) -> Result<()> {
    let filter =
        EnvFilter::try_from_env("VIRTUAL_AZURE_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    // Where a subscriber is set already, that one goes on.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .try_init();
    let options = program.options()?;
    let summary = format!(
        "subscription {}, resource group {}",
        options.subscription, options.resource_group
    );
    let server = Server::start(options)?;
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {}\n{summary}", server.url())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")?;
    drop(out);
    wait_for_the_end()
}

/// Returns when the process is asked to end.
fn wait_for_the_end() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    runtime.block_on(async {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate =
                signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        #[cfg(not(unix))]
        tokio::signal::ctrl_c()
            .await
            .context("cannot listen for Ctrl-C")?;
        Ok(())
    })
}

/// The exit code for `error`, as [`Program`] documents.
fn exit_code(error: &anyhow::Error) -> u8 {
    let missing = |cause: &(dyn std::error::Error + 'static)| {
        let found = cause.downcast_ref::<io::Error>();
        found.is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
    };
    if error.chain().any(missing) {
        return 66;
    }
    for cause in error.chain() {
        match cause.downcast_ref::<StartError>() {
            Some(StartError::Listen { .. }) => return 69,
            Some(StartError::Deployer(_) | StartError::Faults(_)) => return 64,
            _ => {}
        }
        if cause.is::<WorldError>() || cause.is::<FaultsError>() {
            return 64;
        }
    }
    1
}

/// The error and its causes, each once.
fn explain(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        if text.is_empty() {
            text = message;
        } else if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
    }
    text
}
