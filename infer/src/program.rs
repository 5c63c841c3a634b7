//! The command line: `infer decide`, `infer serve`, `infer control`, and what tells about them.

mod about;
mod control;
mod log;
mod show_config;
mod token;

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Error, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use models::ModelError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use twin::World;
use twin::decision_log::LogError;
use twin::wire::{DecisionRequest, MAX_BODY_BYTES, WireError, WireErrorKind};
use twin::world::WorldError;

use crate::config::{
    Config, ConfigError, EverySection, Flags, LogFormat, Origin, Policy, PolicyOnly, Telemetry,
};
use crate::control::run::ControlError;
use crate::control::settings::SettingsError;
use crate::decider::Decider;
use crate::security::{Security, SecurityError};
use crate::service::{self, Limits, Service, ServiceError};
use crate::source::{Source, SourceError};
use crate::traces::{Traces, TracesError};
use crate::trust::Trust;

/// Decides online: a fleet's state in, a checked decision out.
///
/// Exit codes: 0 done, 1 unexpected, 2 usage, 64 bad world, policy or configuration, 65 bad state,
/// model, token file or certificate, 66 a missing file, 69 the address, Azure or the service is not
/// available, 75 the log is in use or another copy is at work: try again.
#[derive(Debug, Parser)]
#[command(name = "infer", version)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read a state as JSON on standard input, write the decision as JSON on standard output
    Decide(Decide),
    /// Answer POST /v1/decisions, GET /healthz and GET /metrics over HTTP
    Serve(Serve),
    Control(Box<control::Control>),
    /// Read a log of decisions, also while a service writes it
    Log(log::Args),
    /// Tell each value of the configuration and where it comes from
    ShowConfig(show_config::ShowConfig),
    /// Make tokens, which clients show to the service
    Token(token::Token),
    /// Print the OpenAPI document of the service
    Openapi,
    /// Print the version of the program, of its messages and of its worlds
    Version(about::Version),
}

impl Policy {
    /// What decides.
    fn source(&self) -> Result<Source> {
        match (&self.model, &self.policy) {
            (Some(folder), _) => Ok(Source::model(folder)?),
            (None, Some(name)) => Ok(Source::named(name)),
            (None, None) => Err(ConfigError::NoPolicy.into()),
        }
    }
}

#[derive(Debug, Args)]
struct Decide {
    #[command(flatten)]
    flags: Flags<PolicyOnly>,
    /// How errors are told on standard error: text, or a problem document (RFC 9457)
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    flags: Flags<EverySection>,
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let program = Program::parse();
    let (result, format) = match &program.command {
        Command::Decide(args) => (decide(args), args.format),
        Command::Serve(args) => (serve(args), Format::Text),
        Command::Control(args) => (control::control(args), Format::Text),
        Command::Log(args) => (log::run(args), Format::Text),
        Command::ShowConfig(args) => (show_config::show(args), Format::Text),
        Command::Token(args) => (token::token(args), Format::Text),
        Command::Openapi => (about::openapi(), Format::Text),
        Command::Version(args) => (about::version(args), Format::Text),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error, format);
            ExitCode::from(exit_code(&error))
        }
    }
}

fn decide(args: &Decide) -> Result<()> {
    let policy = args.flags.settings()?.config()?.policy;
    let source = policy.source()?;
    let world = Arc::new(source.world(policy.world.as_deref())?);
    let mut decider = Decider::new(&world, &source, policy.seed)?;
    let caution = source.caution(&world);
    let body = read_state(io::stdin().lock())?;
    let request = DecisionRequest::from_json(&body)?;
    let answer = decider.answer(&request)?;
    let reasons = [&answer.fallback, &answer.fallback_failure]
        .into_iter()
        .flatten();
    for warning in caution.into_iter().chain(reasons.map(ToString::to_string)) {
        // A warning that cannot be written is no reason to keep the decision back.
        let _ = writeln!(io::stderr(), "warning: {warning}");
    }
    let mut out = io::stdout().lock();
    out.write_all(&answer.body)
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// Reads no more than a state may have.
fn read_state(input: impl Read) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    let limit = MAX_BODY_BYTES as u64 + 1;
    input
        .take(limit)
        .read_to_end(&mut body)
        .context("cannot read standard input")?;
    if body.len() > MAX_BODY_BYTES {
        let problem = format!("a state may have {MAX_BODY_BYTES} bytes");
        return Err(WireError {
            kind: WireErrorKind::Schema,
            field: "body".into(),
            problem,
        }
        .into());
    }
    Ok(body)
}

fn serve(args: &Serve) -> Result<()> {
    let settings = args.flags.settings()?;
    let config = settings.config()?;
    config.check_exposure(&settings)?;
    let endpoint = config.telemetry.otlp_endpoint.as_ref();
    let traces = endpoint
        .map(|endpoint| Traces::to(endpoint.url().as_str(), config.telemetry.trace_share))
        .transpose()?;
    let Telemetry {
        log, log_format, ..
    } = &config.telemetry;
    log_to_stderr(log, *log_format, traces.as_ref());
    let served = serve_until_told(&config);
    if let Some(traces) = traces {
        traces.end();
    }
    served
}

fn serve_until_told(config: &Config) -> Result<()> {
    let source = config.policy.source()?;
    let world = Arc::new(source.world(config.policy.world.as_deref())?);
    if let Some(caution) = source.caution(&world) {
        tracing::warn!("{caution}");
    }
    let threads = match config.server.threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let deciders = (0..threads)
        .map(|_| Decider::new(&world, &source, config.policy.seed))
        .collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("cannot start the threads")?;
    runtime.block_on(answer(config, &source, &world, deciders))
}

/// Answers until the process is asked to end.
async fn answer(
    config: &Config,
    source: &Source,
    world: &Arc<World>,
    deciders: Vec<Decider>,
) -> Result<()> {
    let (policy, threads) = (deciders[0].policy().to_owned(), deciders.len());
    let security = Security::new(config)?;
    security.warn();
    let scheme = if config.tls.certificate.is_some() {
        "https"
    } else {
        "http"
    };
    let limits = Limits::from(&config.server);
    let trust = Trust::new(
        world,
        &deciders[0],
        Some(source),
        &config.policies.options(),
    );
    let log = config.log.open(world)?;
    let fleet = log.fleet(world);
    let service = Service::bind(config.server.listen, deciders, limits).await?;
    let service = service.secured(security).trusting(trust);
    let service = service.with_log(log).with_fleet(fleet);
    let address = service.address().context("cannot tell the address")?;
    let shutdown = shutdown_signal()?;
    let authenticates = config.authenticates();
    tracing::info!(%address, scheme, authenticates, world = world.name, policy, threads, "listening");
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {scheme}://{address}")
        .context("cannot write to standard output")?;
    drop(out);
    service.run(shutdown).await?;
    Ok(())
}

fn log_to_stderr(filter: &str, format: LogFormat, traces: Option<&Traces>) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.json().with_filter(filter).boxed(),
    };
    let subscriber = tracing_subscriber::registry()
        .with(lines)
        .with(traces.map(Traces::layer));
    // Where a subscriber is set already, that one goes on.
    let _ = subscriber.try_init();
}

/// Completes when the process is asked to end.
fn shutdown_signal() -> Result<impl Future<Output = ()> + Send + 'static> {
    #[cfg(unix)]
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .context("cannot listen for SIGTERM")?;
    Ok(async move {
        #[cfg(unix)]
        let terminated = terminate.recv();
        #[cfg(not(unix))]
        let terminated = std::future::pending::<Option<()>>();
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminated => {}
        }
    })
}

/// Writes `error` to standard error.
fn tell(error: &Error, format: Format) {
    let wire = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<WireError>());
    let text = match (format, wire) {
        (Format::Json, Some(wire)) => {
            serde_json::to_string(&service::wire_problem(wire)).unwrap_or_default()
        }
        (Format::Json, None) => {
            let title = "infer failed";
            serde_json::json!({"type": "about:blank", "title": title, "detail": explain(error)})
                .to_string()
        }
        (Format::Text, _) => format!("error: {}", explain(error)),
    };
    // There is nowhere left to say that standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// The error and its causes, each once.
fn explain(error: &Error) -> String {
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

/// The exit code for `error`, as [`Program`] documents.
fn exit_code(error: &Error) -> u8 {
    for cause in error.chain() {
        if cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::NotFound)
        {
            return 66;
        }
    }
    for cause in error.chain() {
        if cause.is::<WireError>() || cause.is::<SecurityError>() {
            return 65;
        }
        if let Some(error) = cause.downcast_ref::<ConfigError>() {
            return match (error, error.origin()) {
                (ConfigError::NoPolicy, _) | (_, Some(Origin::Variable(_) | Origin::Flag(_))) => 2,
                _ => 64,
            };
        }
        if cause.is::<WorldError>() || cause.is::<TracesError>() {
            return 64;
        }
        if let Some(error) = cause.downcast_ref::<SourceError>() {
            return match error {
                SourceError::NoWorld { .. } => 2,
                SourceError::Model(ModelError::NoFolder(_) | ModelError::Missing(_)) => 66,
                SourceError::Model(_) => 65,
                SourceError::World(_) | SourceError::Policy(_) => 64,
            };
        }
        if let Some(error) = cause.downcast_ref::<LogError>() {
            return log::exit_code(error);
        }
        if let Some(error) = cause.downcast_ref::<ControlError>() {
            return error.exit_code();
        }
        if cause.is::<SettingsError>() {
            return 64;
        }
        if let Some(ServiceError::Listen { .. }) = cause.downcast_ref::<ServiceError>() {
            return 69;
        }
    }
    1
}
