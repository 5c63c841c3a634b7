//! An episode that is steered from outside, moment by moment: the twin as a running system.
//!
//! [`crate::simulate`] runs a policy through an episode in one call. An [`Episode`] is the same
//! state with the same arrivals, for those that stand in the place of a real fleet: they advance
//! it as time passes, carry out what others decide, and read its meters. Driven with the decisions
//! of the same policy at the same epochs it leaves the same quality of service.
//!
//! ```
//! use std::sync::Arc;
//! use twin::episode::Episode;
//! use twin::simulate::Options;
//! use twin::state::Epoch;
//! use twin::units::SimTime;
//! let world = Arc::new(twin::World::load("scinet-16")?);
//! let mut episode = Episode::new(world, &Options::new(7));
//! assert_eq!(episode.advance(SimTime::from_seconds(1.0)), Epoch::Boundary);
//! # Ok::<(), twin::world::WorldError>(())
//! ```
//!
//! After the length of the episode arrivals go on as in another one of the same length, whose seed
//! follows from the first. Bytes are counted for a whole transfer when it begins; memory and model
//! copies of migrations are not counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::decision::{Decision, Deployment};
use crate::faults::Incident;
use crate::host::Lifecycle;
use crate::ids::{ApplicationId, HostId, RequestId, VariantId};
use crate::observation::Observation;
use crate::qos::{Qos, ResponseTimes};
use crate::simulate::{self, Options};
use crate::sink::Sink;
use crate::state::{Epoch, Future, Request, State};
use crate::stream;
use crate::units::SimTime;
use crate::workload::Arrival;
use crate::world::World;

/// Part of the seed of the episodes that follow the first.
const NEXT_PART: u64 = 0x006e_6578_7465;

/// An episode under way.
#[derive(Debug)]
pub struct Episode {
    world: Arc<World>,
    state: State,
    options: Options,
    /// How many episodes have been begun, and when the last of them ends.
    begun: u64,
    ends: SimTime,
    /// Arrivals of the last episode begun, and how many requests came before it.
    arrivals: Vec<Arrival>,
    earlier: u64,
    watch: Watch,
}

/// What is read off a host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostMeter {
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// Energy used since the start, in J.
    pub energy_j: f64,
    /// Time for which it was billed.
    pub billed: SimTime,
    /// Time for which it served.
    pub served: SimTime,
    /// Integral of utilization over that time, in s.
    pub busy_s: f64,
    /// Memory that nothing holds, in MiB.
    pub ram_free_mib: f64,
    /// CPU credits left, where the size is burstable and the VM runs.
    pub credits: Option<f64>,
    /// Fragments placed on it that have not ended.
    pub residents: usize,
    /// Bytes that came to it since the start.
    pub received_bytes: f64,
    /// Bytes that it sent since the start.
    pub sent_bytes: f64,
}

/// A host changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: SimTime,
    /// The host.
    pub host: HostId,
    /// Its new state.
    pub lifecycle: Lifecycle,
}

impl Episode {
    /// The beginning of the episode that `options` describes.
    #[must_use]
    pub fn new(world: Arc<World>, options: &Options) -> Self {
        let watch = Watch {
            world: Arc::clone(&world),
            responses: ResponseTimes::default(),
            requests: BTreeMap::new(),
            traffic: vec![(0.0, 0.0); world.hosts.len()],
            changes: Vec::new(),
        };
        let mut episode = Self {
            state: State::seeded(&world, options.seed),
            options: options.clone(),
            begun: 0,
            ends: SimTime::ZERO,
            arrivals: Vec::new(),
            earlier: 0,
            watch,
            world,
        };
        episode.begin();
        episode
    }

    /// Draws the arrivals of the next episode.
    fn begin(&mut self) {
        let mut options = self.options.clone();
        if self.begun > 0 {
            options.seed = stream::mix(stream::mix(self.options.seed, NEXT_PART), self.begun);
        }
        let starts = self.ends;
        let intervals = options.intervals.unwrap_or(self.world.episode_intervals);
        let length = self.world.interval.0.saturating_mul(u64::from(intervals));
        self.arrivals = simulate::arrivals(&self.world, &options);
        for arrival in &mut self.arrivals {
            arrival.time = arrival.time.after(starts);
        }
        self.earlier = self.state.totals.arrived;
        self.ends = starts.after(SimTime(length.max(1)));
        self.begun += 1;
    }

    /// The world.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.state.now()
    }

    /// The next interval boundary.
    #[must_use]
    pub fn next_boundary(&self) -> SimTime {
        self.state.next_boundary
    }

    /// Runs events until a decision is due or `until` is reached; a boundary at `until` itself is
    /// not reached.
    pub fn advance(&mut self, until: SimTime) -> Epoch {
        loop {
            let part = until.min(self.ends);
            let come = self.state.totals.arrived - self.earlier;
            let come = usize::try_from(come).unwrap_or(usize::MAX);
            let mut future = Future::skipping(&self.arrivals, come);
            let epoch = self
                .state
                .advance(&self.world, &mut future, part, &mut self.watch);
            if epoch != Epoch::End {
                return epoch;
            }
            if until <= self.ends {
                return Epoch::End;
            }
            self.begin();
        }
    }

    /// What a policy sees at an epoch.
    #[must_use]
    pub fn observation(&self, epoch: Epoch) -> Observation<'_> {
        Observation::new(&self.world, &self.state, epoch)
    }

    /// Carries out `decision`; what is not feasible in it is left out.
    pub fn apply(&mut self, decision: &Decision) {
        self.state.apply(&self.world, decision, &mut self.watch);
    }

    /// The quality of service so far.
    #[must_use]
    pub fn qos(&self) -> Qos {
        // Quantiles are found by reordering what is recorded.
        let mut responses = self.watch.responses.clone();
        Qos::of(&self.world, &self.state, &mut responses)
    }

    /// Where host `host` is in its life; `None` if there is no such host.
    #[must_use]
    pub fn lifecycle(&self, host: HostId) -> Option<Lifecycle> {
        self.state.hosts.get(host.index()).map(|h| h.lifecycle)
    }

    /// What is read off host `host` now; `None` if there is no such host.
    #[must_use]
    pub fn meter(&self, host: HostId) -> Option<HostMeter> {
        let found = self.state.hosts.get(host.index())?;
        let meter = found.meter(self.state.now);
        let (received_bytes, sent_bytes) = self.watch.traffic[host.index()];
        Some(HostMeter {
            lifecycle: found.lifecycle,
            energy_j: meter.energy_j,
            billed: meter.billed,
            served: meter.served,
            busy_s: meter.busy_s,
            ram_free_mib: found.ram_free_mib,
            credits: found.credits.map(|account| account.balance()),
            residents: found.resident.len(),
            received_bytes,
            sent_bytes,
        })
    }

    /// The changes of hosts since this was last called, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.watch.changes)
    }
}

/// Looks on: response times, bytes and changes of hosts.
#[derive(Debug)]
struct Watch {
    world: Arc<World>,
    responses: ResponseTimes,
    requests: BTreeMap<RequestId, Asked>,
    /// Bytes in and out, by host.
    traffic: Vec<(f64, f64)>,
    changes: Vec<Change>,
}

/// What the bytes of a request follow from.
#[derive(Debug)]
struct Asked {
    application: ApplicationId,
    context_tokens: f64,
    generated_tokens: f64,
    deployed: Option<(VariantId, Vec<HostId>)>,
}

impl Watch {
    fn receive(&mut self, host: HostId, bytes: f64) {
        if let Some(traffic) = self.traffic.get_mut(host.index()) {
            traffic.0 += bytes;
        }
    }

    fn sent(&mut self, host: HostId, bytes: f64) {
        if let Some(traffic) = self.traffic.get_mut(host.index()) {
            traffic.1 += bytes;
        }
    }
}

impl Sink for Watch {
    fn arrived(&mut self, _: SimTime, request: &Request) {
        let asked = Asked {
            application: request.application,
            context_tokens: f64::from(request.context_tokens),
            generated_tokens: f64::from(request.generated_tokens),
            deployed: None,
        };
        self.requests.insert(request.id, asked);
    }

    fn deployed(&mut self, _: SimTime, deployment: &Deployment) {
        let world = Arc::clone(&self.world);
        let Some(asked) = self.requests.get_mut(&deployment.request) else {
            return;
        };
        asked.deployed = Some((deployment.variant, deployment.hosts.clone()));
        let application = &world.applications[asked.application.index()];
        let bytes = application.input_bytes
            + application.input_bytes_per_context_token * asked.context_tokens;
        let fragments = &application.variants[deployment.variant.index()].fragments;
        for (fragment, &host) in fragments.iter().zip(&deployment.hosts) {
            if fragment.predecessors.is_empty() {
                self.receive(host, bytes);
            }
        }
    }

    fn fragment_done(&mut self, _: SimTime, request: RequestId, index: usize, host: HostId) {
        let world = Arc::clone(&self.world);
        let Some(asked) = self.requests.get(&request) else {
            return;
        };
        let Some((variant, hosts)) = &asked.deployed else {
            return;
        };
        let fragment = &world.variant(asked.application, *variant).fragments[index];
        let tokens = asked.context_tokens + asked.generated_tokens;
        let bytes = fragment.output_bytes + fragment.output_bytes_per_token * tokens;
        // A fragment may have migrated since it was placed; `host` is where it ended.
        let targets: Vec<HostId> = fragment.successors.iter().map(|&s| hosts[s]).collect();
        if targets.is_empty() {
            self.sent(host, bytes);
        }
        for target in targets {
            if target != host {
                self.sent(host, bytes);
                self.receive(target, bytes);
            }
        }
    }

    fn completed(&mut self, now: SimTime, request: &Request, _: VariantId, _: bool) {
        self.responses.note(now.since(request.arrived));
        self.requests.remove(&request.id);
    }

    fn lifecycle(&mut self, at: SimTime, host: HostId, lifecycle: Lifecycle) {
        self.changes.push(Change {
            at,
            host,
            lifecycle,
        });
    }

    fn incident(&mut self, _: SimTime, incident: &Incident) {
        if let Incident::Rejected { request, .. } = incident {
            self.requests.remove(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;

    fn steer(world: &Arc<World>, name: &str, options: &Options, step: SimTime) -> Qos {
        let mut policy = policy::by_name(name, world, options.seed).expect("the policy exists");
        let mut episode = Episode::new(Arc::clone(world), options);
        let intervals = options.intervals.expect("the tests say how many");
        let end = SimTime(world.interval.0 * u64::from(intervals));
        let mut decision = Decision::none();
        while episode.now() < end {
            let until = episode.now().after(step).min(end);
            while let epoch @ (Epoch::Boundary | Epoch::Arrival) = episode.advance(until) {
                decision.clear();
                policy
                    .decide(&episode.observation(epoch), &mut decision)
                    .expect("decides");
                episode.apply(&decision);
            }
        }
        episode.qos()
    }

    #[test]
    fn steering_it_is_the_same_as_running_it() {
        for name in ["scinet-16", "azure-llm"] {
            let world = Arc::new(World::load(name).expect("embedded"));
            let options = Options {
                intervals: Some(6),
                ..Options::new(3)
            };
            for policy_name in ["least-loaded", "greedy"] {
                let mut policy = policy::by_name(policy_name, &world, 3).expect("exists");
                let run = simulate::run(&world, policy.as_mut(), &options).expect("runs");
                let seconds = steer(&world, policy_name, &options, SimTime::from_seconds(0.7));
                assert_eq!(format!("{seconds:?}"), format!("{:?}", run.qos));
            }
        }
    }

    #[test]
    fn arrivals_go_on_after_the_episode() {
        let world = Arc::new(World::load("scinet-16").expect("embedded"));
        let options = Options {
            intervals: Some(2),
            ..Options::new(3)
        };
        let mut episode = Episode::new(Arc::clone(&world), &options);
        let until = SimTime(world.interval.0 * 20);
        let mut boundaries = 0;
        while episode.advance(until) != Epoch::End {
            boundaries += 1;
        }
        assert_eq!(boundaries, 20, "gathered at boundaries");
        assert!(episode.qos().requests_arrived >= 20, "one an interval");
    }

    #[test]
    fn meters_show_what_came_and_went() {
        let world = Arc::new(World::load("scinet-16").expect("embedded"));
        let mut policy = policy::by_name("least-loaded", &world, 1).expect("exists");
        let mut episode = Episode::new(Arc::clone(&world), &Options::new(1));
        let mut decision = Decision::none();
        while let epoch @ (Epoch::Boundary | Epoch::Arrival) =
            episode.advance(SimTime::from_seconds(300.0))
        {
            decision.clear();
            policy
                .decide(&episode.observation(epoch), &mut decision)
                .expect("decides");
            episode.apply(&decision);
        }
        let meters: Vec<HostMeter> = (0..world.hosts.len())
            .filter_map(|h| episode.meter(HostId::at(h)))
            .collect();
        let energy_wh: f64 = meters.iter().map(|m| m.energy_j / 3600.0).sum();
        assert!((energy_wh - episode.qos().energy_wh).abs() < 1e-9);
        assert!(meters.iter().any(|m| m.received_bytes > 0.0));
        assert!(meters.iter().any(|m| m.sent_bytes > 0.0));
        // The sizes of this world are modeled without credits.
        assert!(meters.iter().all(|m| m.credits.is_none()));
        assert!(episode.meter(HostId(999)).is_none());
    }
}
