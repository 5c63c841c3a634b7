//! The command line: `infer decide`, `infer serve`, and what tells about them.

mod about;

use std::io::{self, IsTerminal, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Error, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use models::ModelError;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use twin::wire::{DecisionRequest, MAX_BODY_BYTES, WireError, WireErrorKind};
use twin::world::WorldError;

use crate::decider::Decider;
use crate::service::{self, Limits, MAX_IN_FLIGHT, Service, ServiceError};
use crate::source::{Source, SourceError};
use crate::traces::{Traces, TracesError};

/// Decides online: a fleet's state in, a checked decision out.
///
/// Exit codes: 0 done, 1 unexpected, 2 usage, 64 bad world or policy, 65 bad state or model,
/// 66 a missing file, 69 the address is not available.
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
    /// Print the OpenAPI document of the service
    Openapi,
    /// Print the version of the program, of its messages and of its worlds
    Version(about::Version),
}

#[derive(Debug, Args)]
struct Chosen {
    #[command(flatten)]
    policy: PolicyChoice,
    /// World, by name or path [default: the world that the model was trained for]
    #[arg(long, env = "INFER_WORLD", value_name = "WORLD")]
    world: Option<String>,
    /// Seed of the policy's random choices
    #[arg(long, env = "INFER_SEED", default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct PolicyChoice {
    /// Folder of a model
    #[arg(long, env = "INFER_MODEL", value_name = "DIR")]
    model: Option<PathBuf>,
    /// One of the twin's own policies, as `least-loaded`
    #[arg(long, env = "INFER_POLICY", value_name = "NAME")]
    policy: Option<String>,
}

impl Chosen {
    fn source(&self) -> Result<Source, SourceError> {
        match (&self.policy.model, &self.policy.policy) {
            (Some(folder), _) => Source::model(folder),
            (None, name) => Ok(Source::Named(name.clone().unwrap_or_default())),
        }
    }
}

#[derive(Debug, Args)]
struct Decide {
    #[command(flatten)]
    chosen: Chosen,
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
    chosen: Chosen,
    /// Address and port to listen on; port 0 takes a free one
    #[arg(
        long,
        env = "INFER_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Threads, each with a decider of its own [default: one a core]
    #[arg(long, env = "INFER_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// The most requests in flight; more get 429
    #[arg(long, env = "INFER_MAX_IN_FLIGHT", default_value_t = MAX_IN_FLIGHT, value_name = "N", value_parser = at_least_one)]
    max_in_flight: usize,
    /// The most bytes of a body; more get 413
    #[arg(long, env = "INFER_MAX_BODY_BYTES", default_value_t = MAX_BODY_BYTES, value_name = "BYTES", value_parser = at_least_one)]
    max_body_bytes: usize,
    /// How logs are written to standard error
    #[arg(long, env = "INFER_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,
    /// OpenTelemetry collector that gets traces (OTLP over HTTP, JSON) [default: no traces]
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
    /// Share of the requests that are traced, from 0 to 1, where the client does not say
    #[arg(long, env = "INFER_TRACE_SHARE", default_value_t = 1.0, value_name = "SHARE", value_parser = share)]
    trace_share: f64,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("must be a number from 0 to 1".into()),
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(value) if value <= tokio::sync::Semaphore::MAX_PERMITS => Ok(value),
        Ok(_) => Err(format!(
            "must be at most {}",
            tokio::sync::Semaphore::MAX_PERMITS
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// Runs the program with the arguments of the process.
#[must_use]
pub fn main() -> ExitCode {
    let program = Program::parse();
    let (result, format) = match &program.command {
        Command::Decide(args) => (decide(args), args.format),
        Command::Serve(args) => (serve(args), Format::Text),
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
    let source = args.chosen.source()?;
    let world = Arc::new(source.world(args.chosen.world.as_deref())?);
    let mut decider = Decider::new(&world, &source, args.chosen.seed)?;
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
    let endpoint = args.otlp_endpoint.as_deref().filter(|url| !url.is_empty());
    let traces = endpoint
        .map(|url| Traces::to(url, args.trace_share))
        .transpose()?;
    log_to_stderr(args.log_format, traces.as_ref());
    let served = serve_until_told(args);
    if let Some(traces) = traces {
        traces.end();
    }
    served
}

fn serve_until_told(args: &Serve) -> Result<()> {
    let source = args.chosen.source()?;
    let world = Arc::new(source.world(args.chosen.world.as_deref())?);
    if let Some(caution) = source.caution(&world) {
        tracing::warn!("{caution}");
    }
    let threads = match args.threads {
        Some(threads) => usize::from(threads),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    };
    let deciders = (0..threads)
        .map(|_| Decider::new(&world, &source, args.chosen.seed))
        .collect::<Result<Vec<_>, _>>()?;
    let limits = Limits {
        in_flight: args.max_in_flight,
        body_bytes: args.max_body_bytes,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("cannot start the threads")?;
    runtime.block_on(async {
        let policy = deciders[0].policy().to_owned();
        let service = Service::bind(args.listen, deciders, limits).await?;
        let address = service.address().context("cannot tell the address")?;
        let shutdown = shutdown_signal()?;
        tracing::info!(%address, world = world.name, policy, threads, "listening");
        let mut out = io::stdout().lock();
        writeln!(out, "listening on http://{address}")
            .context("cannot write to standard output")?;
        drop(out);
        service.run(shutdown).await?;
        Ok(())
    })
}

fn log_to_stderr(format: Format, traces: Option<&Traces>) {
    let filter = EnvFilter::try_from_env("INFER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let lines = match format {
        Format::Text => lines.with_filter(filter).boxed(),
        Format::Json => lines.json().with_filter(filter).boxed(),
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
        if cause.is::<WireError>() {
            return 65;
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
        if let Some(ServiceError::Listen { .. }) = cause.downcast_ref::<ServiceError>() {
            return 69;
        }
    }
    1
}
