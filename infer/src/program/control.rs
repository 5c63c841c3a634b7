//! The command `infer control`.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use twin::World;

use super::{Format, log_to_stderr, shutdown_signal};
use crate::config::LogFormat;
use crate::control::brain::{Brain, Local};
use crate::control::run::{self, ControlError, Run};
use crate::control::settings::{ControlFile, Settings};
use crate::control::telemetry::Telemetry;
use crate::decider::Decider;
use crate::source::{Source, SourceError};

/// Turns the VMs of a fleet on and off, interval after interval.
///
/// Looks at the VMs of a resource group or tag, decides by a model, a policy or the decision
/// service, holds the decision against the guardrails of the configuration, and starts or
/// deallocates VMs. Says what it would do, and does it only with --apply. Each interval is told as
/// a JSON object in a line on standard output; each action is in the action log.
///
/// Tokens come from AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, else from a workload
/// identity, a managed identity, or whoever is signed in with az or azd.
#[derive(Debug, Args)]
pub(super) struct Control {
    #[command(flatten)]
    brain: BrainChoice,
    /// World, by name or path [default: the world that the model was trained for]
    #[arg(long, env = "INFER_WORLD", value_name = "WORLD")]
    world: Option<String>,
    /// Seed of the policy's random choices
    #[arg(long, env = "INFER_SEED", default_value_t = 1)]
    seed: u64,
    /// Configuration; its section [control] is read, and flags go before it
    #[arg(long, env = "INFER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Subscription
    #[arg(long, env = "AZURE_SUBSCRIPTION_ID", value_name = "ID")]
    subscription: Option<String>,
    /// Resource group whose VMs are the fleet
    #[arg(long, env = "INFER_CONTROL_RESOURCE_GROUP", value_name = "NAME")]
    resource_group: Option<String>,
    /// Tag that the VMs of the fleet carry, as name or name=value
    #[arg(
        long,
        env = "INFER_CONTROL_TAG",
        value_name = "TAG",
        conflicts_with = "resource_group"
    )]
    tag: Option<String>,
    /// Resource Manager [default: that of the public cloud]
    #[arg(long, env = "INFER_CONTROL_ENDPOINT", value_name = "URL")]
    endpoint: Option<String>,
    /// Where tokens come from [default: AZURE_AUTHORITY_HOST, else the public cloud's]
    #[arg(long, env = "INFER_CONTROL_AUTHORITY", value_name = "URL")]
    authority: Option<String>,
    /// Certificate authorities in PEM, trusted for Azure in place of the system's
    #[arg(long, env = "INFER_CONTROL_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Where the state of the applications can be read
    #[arg(long, env = "INFER_CONTROL_STATE_URL", value_name = "URL")]
    state_url: Option<String>,
    /// Length of an interval in seconds [default: the world's]
    #[arg(long, env = "INFER_CONTROL_INTERVAL_S", value_name = "SECONDS")]
    interval: Option<f64>,
    /// Action log [default: actions.jsonl]
    #[arg(long, env = "INFER_CONTROL_ACTION_LOG", value_name = "FILE")]
    action_log: Option<PathBuf>,
    /// Act; without it, only say what would be done
    #[arg(long)]
    apply: bool,
    /// End after one interval; operations that go on are looked at by the next run
    #[arg(long)]
    once: bool,
    /// Address and port for GET /metrics and GET /healthz
    #[arg(long, env = "INFER_CONTROL_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// What is logged: a level, or levels by module, as warn,infer=debug
    #[arg(long, env = "INFER_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
    /// How logs are written to standard error
    #[arg(long, env = "INFER_LOG_FORMAT", value_enum, default_value_t = Format::Text)]
    log_format: Format,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct BrainChoice {
    /// Folder of a model that decides
    #[arg(long, env = "INFER_MODEL", value_name = "DIR")]
    model: Option<PathBuf>,
    /// One of the twin's own policies that decides, as threshold-autoscaler
    #[arg(long, env = "INFER_POLICY", value_name = "NAME")]
    policy: Option<String>,
    /// Decision service that decides, as http://127.0.0.1:8080
    #[arg(long, env = "INFER_CONTROL_SERVICE", value_name = "URL")]
    service: Option<String>,
}

/// Runs the command.
pub(super) fn control(args: &Control) -> Result<()> {
    let format = match args.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    log_to_stderr(&args.log, format, None);
    let source = args.source()?;
    let world = Arc::new(args.world(source.as_ref())?);
    if let Some(caution) = source.as_ref().and_then(|source| source.caution(&world)) {
        tracing::warn!("{caution}");
    }
    let settings = args.settings(&world)?;
    let brain: Option<Box<dyn Brain>> = match &source {
        None => None,
        Some(source) => {
            let decider = Decider::new(&world, source, args.seed)?;
            Some(Box::new(Local::new(decider)))
        }
    };
    let telemetry = Arc::new(Telemetry::new().map_err(ControlError::from)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the threads")?;
    runtime.block_on(async {
        let controller = run::controller(&world, &settings, brain, Arc::clone(&telemetry))?;
        let page = match args.listen {
            None => None,
            Some(address) => Some(run::serve_metrics(address, telemetry).await?),
        };
        if let Some((address, _)) = &page {
            tracing::info!(%address, "metrics");
        }
        let shutdown = shutdown_signal()?;
        let how = Run {
            interval: settings.rules.interval.unsigned_abs(),
            once: args.once,
        };
        let apply = args.apply;
        tracing::info!(world = world.name, apply, "the control loop begins");
        run::run(controller, how, shutdown, |report| {
            let mut line = serde_json::to_vec(report)?;
            line.push(b'\n');
            let mut out = io::stdout().lock();
            out.write_all(&line)?;
            out.flush()
        })
        .await?;
        Ok(())
    })
}

impl Control {
    /// The policy that decides; `None` where a service does.
    fn source(&self) -> Result<Option<Source>, SourceError> {
        match (&self.brain.model, &self.brain.policy) {
            (Some(folder), _) => Source::model(folder).map(Some),
            (None, Some(name)) => Ok(Some(Source::named(name))),
            (None, None) => Ok(None),
        }
    }

    fn world(&self, source: Option<&Source>) -> Result<World, SourceError> {
        match (source, &self.world) {
            (Some(source), world) => source.world(world.as_deref()),
            (None, Some(world)) => Ok(World::load(world)?),
            (None, None) => Err(SourceError::NoWorld {
                policy: "of a service".into(),
            }),
        }
    }

    /// The configuration, and the flags before it.
    fn settings(&self, world: &World) -> Result<Settings> {
        let (mut file, origin) = match &self.config {
            None => (ControlFile::default(), "command line".to_owned()),
            Some(path) => (ControlFile::read(path)?, path.display().to_string()),
        };
        let over = |to: &mut Option<String>, from: &Option<String>| {
            if from.is_some() {
                to.clone_from(from);
            }
        };
        over(&mut file.subscription, &self.subscription);
        over(&mut file.resource_group, &self.resource_group);
        over(&mut file.tag, &self.tag);
        over(&mut file.azure.endpoint, &self.endpoint);
        over(&mut file.azure.authority, &self.authority);
        file.azure.ca_file = self.ca_file.clone().or(file.azure.ca_file);
        over(&mut file.state_url, &self.state_url);
        over(&mut file.service_url, &self.brain.service);
        file.interval_s = self.interval.or(file.interval_s);
        file.action_log = self.action_log.clone().or(file.action_log);
        let settings = file.check(&origin, world.interval.seconds(), self.apply)?;
        Ok(settings)
    }
}
