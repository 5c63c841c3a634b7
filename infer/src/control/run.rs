//! The loop as a program: from settings to a controller, and interval after interval.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use azure_core::credentials::TokenCredential;
use jiff::Timestamp;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;
use twin::world::World;
use url::Url;

use super::brain::{ANSWER_LIMIT, Brain, Remote, StateSource};
use super::cloud::Azure;
use super::controller::{Controller, Parts};
use super::journal::{Journal, JournalError};
use super::lease::{FileLease, GroupTags, Lease, NoLease, TagLease};
use super::report::{Outcome, Report};
use super::settings::{LeaseSettings, Settings};
use super::telemetry::Telemetry;
use crate::azure::transport::plain_client;
use crate::azure::{AzureError, Client, Environment, Limits, chain};

/// The most bytes of a token file.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// Why the loop does not run.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The cloud cannot be reached as configured.
    #[error(transparent)]
    Azure(#[from] AzureError),
    /// The action log cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The metrics page cannot be served.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// The metrics cannot be set up.
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// A file cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// Something that is configured cannot be.
    #[error("{0}")]
    Setup(String),
    /// Reports cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(#[source] io::Error),
    /// The only interval that was asked for came to nothing.
    #[error("nothing was done: {problem}")]
    Nothing {
        /// Why.
        problem: String,
        /// Whether another copy has the lease, so that it is no fault.
        standby: bool,
    },
}

impl ControlError {
    /// The exit code of a program that ends with this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Azure(_) | Self::Setup(_) => 64,
            Self::Journal(JournalError::Line { .. } | JournalError::Ledger { .. }) => 65,
            Self::File { source, .. } | Self::Journal(JournalError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                66
            }
            Self::Listen { .. } | Self::Nothing { standby: false, .. } => 69,
            Self::Journal(JournalError::InUse { .. }) | Self::Nothing { standby: true, .. } => 75,
            Self::Journal(JournalError::Io { .. })
            | Self::Metrics(_)
            | Self::File { .. }
            | Self::Output(_) => 1,
        }
    }
}

/// The controller that `settings` describe, with the credentials of the process; `brain` decides, or
/// the service where it is `None`.
///
/// # Errors
///
/// If something that is configured cannot be had.
pub fn controller(
    world: &Arc<World>,
    settings: &Settings,
    brain: Option<Box<dyn Brain>>,
    telemetry: Arc<Telemetry>,
) -> Result<Controller, ControlError> {
    let environment = Environment::of_process();
    let credential = chain(&settings.endpoint, &settings.credentials, &environment)?;
    let parts = parts(world, settings, brain, telemetry, credential)?;
    Ok(Controller::new(parts, settings.rules.clone()))
}

/// The parts of the controller that `settings` describe.
///
/// # Errors
///
/// If something that is configured cannot be had.
pub fn parts(
    world: &Arc<World>,
    settings: &Settings,
    brain: Option<Box<dyn Brain>>,
    telemetry: Arc<Telemetry>,
    credential: Arc<dyn TokenCredential>,
) -> Result<Parts, ControlError> {
    let client = Client::new(
        &settings.endpoint,
        &settings.subscription,
        credential,
        Limits::default(),
    )?;
    let client = Arc::new(client);
    let sets = settings.rules.sets.iter().map(|set| set.id.clone());
    let cloud = Azure::new(
        Arc::clone(&client),
        settings.scope.clone(),
        sets.collect(),
        settings.metrics,
        settings.observe_limit,
    );
    let journal = if settings.rules.apply {
        Journal::open(&settings.action_log)?
    } else {
        Journal::look(&settings.action_log)?
    };
    let token = settings
        .service_token_file
        .as_deref()
        .map(read_token)
        .transpose()?;
    let ca_file = settings.service_ca_file.as_deref();
    let web = |url: &Url| plain_client(url, ca_file, ANSWER_LIMIT);
    let state = match &settings.state_url {
        None => None,
        Some(url) => Some(StateSource::new(url.clone(), web(url)?, token.clone())),
    };
    let brain = match (brain, &settings.service_url) {
        (Some(brain), _) => brain,
        (None, Some(url)) => {
            let remote = Remote::new(world, url, web(url)?, token);
            Box::new(remote.map_err(ControlError::Setup)?)
        }
        (None, None) => {
            let problem = "who decides? name a model, a policy or a service";
            return Err(ControlError::Setup(problem.into()));
        }
    };
    let holder = settings.holder.clone().unwrap_or_else(own_name);
    Ok(Parts {
        world: Arc::clone(world),
        cloud: Arc::new(cloud),
        brain,
        lease: lease(&settings.lease, client, &holder),
        journal,
        state,
        clock: Arc::new(Timestamp::now),
        holder,
        telemetry,
    })
}

fn lease(settings: &LeaseSettings, client: Arc<Client>, holder: &str) -> Box<dyn Lease> {
    match settings {
        LeaseSettings::None => Box::new(NoLease),
        LeaseSettings::File(path) => Box::new(FileLease::new(path)),
        LeaseSettings::Tags {
            group,
            time_to_live,
            settling,
        } => {
            let group = group.clone();
            let store = GroupTags { client, group };
            Box::new(TagLease::new(store, holder, *time_to_live, *settling))
        }
    }
}

/// The token in the file at `path`.
fn read_token(path: &Path) -> Result<Arc<str>, ControlError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| ControlError::File {
        path: shown.clone(),
        source,
    })?;
    let token = text.trim();
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || token.contains(char::is_whitespace) {
        return Err(ControlError::Setup(format!("{shown}: holds no token")));
    }
    Ok(token.into())
}

/// A name that no other copy has: machine, process and moment.
fn own_name() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = match machine.trim() {
        "" => "unnamed",
        name => name,
    };
    let moment = Timestamp::now().as_millisecond();
    format!("{machine}-{}-{moment}", std::process::id())
}

/// How the loop runs.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Length of an interval.
    pub interval: Duration,
    /// Whether it ends after one interval.
    pub once: bool,
}

/// Runs interval after interval until `shutdown` completes; the interval under way is finished.
/// `tell` gets each report.
///
/// # Errors
///
/// If the action log is broken, reports cannot be written, or the only interval that was asked for
/// came to nothing.
pub async fn run(
    mut controller: Controller,
    run: Run,
    shutdown: impl Future<Output = ()>,
    mut tell: impl FnMut(&Report) -> io::Result<()>,
) -> Result<(), ControlError> {
    let mut ticks = tokio::time::interval(run.interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(shutdown);
    let result = loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break Ok(()),
            _ = ticks.tick() => {}
        }
        let report = match controller.step().await {
            Ok(report) => report,
            // A full disk may have room again; nothing is done meanwhile.
            Err(error @ JournalError::Io { .. }) if !run.once => {
                tracing::error!(%error, "nothing is done that cannot be written down");
                continue;
            }
            Err(error) => break Err(error.into()),
        };
        log(&report);
        if let Err(error) = tell(&report) {
            break Err(ControlError::Output(error));
        }
        if run.once {
            break nothing(&report).map_or(Ok(()), Err);
        }
    };
    controller.release().await;
    result
}

fn log(report: &Report) {
    let held = report.actions.iter().filter(|a| a.guardrail.is_some());
    let (interval, outcome) = (report.interval, report.outcome.name());
    let (actions, held) = (report.actions.len(), held.count());
    match problem(&report.outcome) {
        Some(problem) => tracing::warn!(interval, outcome, problem, "interval"),
        None => tracing::info!(interval, outcome, actions, held, "interval"),
    }
}

fn problem(outcome: &Outcome) -> Option<String> {
    match outcome {
        Outcome::Acted | Outcome::DryRun => None,
        Outcome::Standby { other } => Some(format!("{other} has the lease")),
        Outcome::LeaseUnknown { problem }
        | Outcome::Blind { problem }
        | Outcome::Undecided { problem } => Some(problem.clone()),
        Outcome::Fenced => Some("the lease was lost on the way".into()),
    }
}

/// The error for an interval that came to nothing.
fn nothing(report: &Report) -> Option<ControlError> {
    let standby = matches!(report.outcome, Outcome::Standby { .. } | Outcome::Fenced);
    let problem = problem(&report.outcome)?;
    Some(ControlError::Nothing { problem, standby })
}

/// Serves `GET /metrics` and `GET /healthz` on `address` until the task is ended; gives the address.
///
/// # Errors
///
/// If the address cannot be listened on.
pub async fn serve_metrics(
    address: SocketAddr,
    telemetry: Arc<Telemetry>,
) -> Result<(SocketAddr, tokio::task::JoinHandle<()>), ControlError> {
    let error = |source| ControlError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let bound = listener.local_addr().map_err(error)?;
    let page = |State(telemetry): State<Arc<Telemetry>>| async move {
        let text = "text/plain; version=0.0.4; charset=utf-8";
        ([(header::CONTENT_TYPE, text)], telemetry.render()).into_response()
    };
    let router = Router::new()
        .route("/metrics", get(page))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(telemetry);
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "the metrics page is gone");
        }
    });
    Ok((bound, task))
}
