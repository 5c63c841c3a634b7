//! What the tests share: a small world, policies, a service on a free port.

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use infer::decider::{Decider, FALLBACK};
use infer::log::DecisionLog;
use infer::security::Security;
use infer::service::{Limits, Service};
use infer::source::{Loaded, Source};
use tokio::sync::oneshot;
use twin::decision::{Decision, Deployment};
use twin::ids::{HostId, VariantId};
use twin::observation::{FleetView, Observation};
use twin::policy::{Policy, PolicyError};
use twin::simulate::{self, Options};
use twin::wire::DecisionRequest;
use twin::world::World;

/// The world of the examples.
pub(crate) fn small() -> Arc<World> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/small.toml");
    Arc::new(World::load(path.to_str().expect("the path is text")).expect("the world is valid"))
}

/// An embedded world.
pub(crate) fn embedded(name: &str) -> Arc<World> {
    Arc::new(World::load(name).expect("the world is embedded"))
}

/// A decider with one of the twin's policies.
pub(crate) fn decider(world: &Arc<World>, policy: &str) -> Decider {
    Decider::new(world, &Source::named(policy), 1).expect("the policy exists")
}

/// A decider with any policy.
pub(crate) fn decider_with(world: &Arc<World>, policy: Box<dyn Policy>) -> Decider {
    let fallback = twin::policy::by_name(FALLBACK, world, 1).expect("the policy exists");
    Decider::with(
        world,
        Loaded {
            policy,
            model_sha256: None,
        },
        fallback,
    )
}

/// Passes every observation on while another policy decides.
struct Watching<'a> {
    policy: Box<dyn Policy>,
    see: &'a mut (dyn FnMut(&Observation<'_>) + Send),
}

impl Policy for Watching<'_> {
    fn name(&self) -> &str {
        self.policy.name()
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        (self.see)(observation);
        self.policy.decide(observation, decision)
    }
}

/// Shows `see` every observation of a run of `policy`.
pub(crate) fn watch(
    world: &World,
    policy: &str,
    seed: u64,
    intervals: u32,
    see: &mut (dyn FnMut(&Observation<'_>) + Send),
) {
    let policy = twin::policy::by_name(policy, world, seed).expect("the policy exists");
    let options = Options {
        intervals: Some(intervals),
        ..Options::new(seed)
    };
    simulate::run(world, &mut Watching { policy, see }, &options).expect("the run ends");
}

/// A view of the small world in which much is going on: every phase, and both kinds of transfer.
pub(crate) fn busy_view(world: &World) -> FleetView {
    let mut best: Option<(usize, FleetView)> = None;
    watch(world, "random", 3, 12, &mut |observation| {
        let view = observation.view();
        let json = serde_json::to_string(&DecisionRequest::from_view(world, &view))
            .expect("a view serializes");
        let kinds = [
            "waiting",
            "queued",
            "running",
            "done",
            "booting",
            "draining",
            "bits_left",
            "from_host",
            "arrives_at_ns",
        ];
        let present = kinds
            .iter()
            .filter(|k| json.contains(&format!("\"{k}\"")))
            .count();
        // The most kinds, then the shortest.
        let score = present * 1_000_000 + (500_000_usize).saturating_sub(json.len());
        if best.as_ref().is_none_or(|(s, _)| score > *s) && observation.waiting().next().is_some() {
            best = Some((score, view));
        }
    });
    best.expect("requests arrive").1
}

/// A service in this process; it shuts down when dropped.
pub(crate) struct Running {
    pub(crate) url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(deciders: Vec<Decider>, limits: Limits) -> Self {
        Self::start_with(deciders, limits, |service| service)
    }

    pub(crate) fn start_with_log(deciders: Vec<Decider>, limits: Limits, log: DecisionLog) -> Self {
        Self::start_with(deciders, limits, |service| service.with_log(log))
    }

    /// A service that lets in whom `security` does; over TLS, the address is what counts of the URL.
    pub(crate) fn secured(deciders: Vec<Decider>, limits: Limits, security: Security) -> Self {
        Self::start_with(deciders, limits, |service| service.secured(security))
    }

    /// As [`Running::start`], with the service prepared by `prepare`.
    pub(crate) fn start_with(
        deciders: Vec<Decider>,
        limits: Limits,
        prepare: impl FnOnce(Service) -> Service + Send + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .expect("threads start");
            runtime.block_on(async {
                let address = "127.0.0.1:0".parse().expect("an address");
                let service = Service::bind(address, deciders, limits)
                    .await
                    .expect("binds");
                let service = prepare(service);
                tell.send(service.address().expect("an address"))
                    .expect("somebody waits");
                let shutdown = async {
                    // A sender that is gone asks for the same.
                    let _ = stopped.await;
                };
                service.run(shutdown).await.expect("serves");
            });
        });
        let address = told
            .recv_timeout(Duration::from_secs(20))
            .expect("the service starts");
        Self {
            url: format!("http://{address}"),
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Asks the service to shut down, without waiting.
    pub(crate) fn stop(&mut self) {
        self.stop = None;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(
                ended.is_ok() || std::thread::panicking(),
                "the service panicked"
            );
        }
    }
}

/// A client that tells statuses as values.
pub(crate) fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(20)))
        .build();
    ureq::Agent::new_with_config(config)
}

/// Deploys every waiting request in its first variant on host 0, be it on or off.
pub(crate) struct Reckless;

impl Policy for Reckless {
    fn name(&self) -> &str {
        "reckless"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        for waiting in observation.waiting() {
            let variant = VariantId(0);
            let count = observation
                .world()
                .variant(waiting.application, variant)
                .fragments
                .len();
            let hosts = vec![HostId(u32::MAX); count];
            decision.deployments.push(Deployment {
                request: waiting.id,
                variant,
                hosts,
            });
        }
        Ok(())
    }
}

/// Never decides.
pub(crate) struct Broken;

impl Policy for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn decide(&mut self, _: &Observation<'_>, _: &mut Decision) -> Result<(), PolicyError> {
        Err(PolicyError {
            policy: "broken".into(),
            problem: "does not decide".into(),
        })
    }
}

/// Panics.
pub(crate) struct Panicking;

impl Policy for Panicking {
    fn name(&self) -> &str {
        "panicking"
    }

    fn decide(&mut self, _: &Observation<'_>, _: &mut Decision) -> Result<(), PolicyError> {
        panic!("this policy panics")
    }
}
