//! Closed-loop runs: a policy steers the twin through an episode.

use std::time::Duration;

use thiserror::Error;

use crate::checker::{self, Infeasible};
use crate::container::ContainerMeter;
use crate::decision::Decision;
use crate::faults::Incident;
use crate::migration::{Outcome, Report};
use crate::observation::Observation;
use crate::policy::{Policy, PolicyError};
use crate::qos::{Qos, ResponseTimes, Snapshot};
use crate::sink::Sink;
use crate::state::{Course, Epoch, Future, Request, State};
use crate::stream::{self, Stream};
use crate::units::SimTime;
use crate::workload::{Arrival, ArrivalWindows, Split};
use crate::world::World;

/// How to run an episode.
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed of the arrivals and the demand of requests.
    pub seed: u64,
    /// Length in intervals; the world's if `None`.
    pub intervals: Option<u32>,
    /// The part of the workload that the episode is drawn from.
    pub split: Split,
    /// Whether to keep a [`Snapshot`] of the fleet at each boundary.
    pub timeline: bool,
}

impl Options {
    /// A held-out episode of the world's length.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            intervals: None,
            split: Split::HeldOut,
            timeline: false,
        }
    }
}

/// What a run leaves.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its quality of service.
    pub qos: Qos,
    /// The state at the end.
    pub state: State,
    /// The fleet at each boundary, where asked for.
    pub timeline: Vec<Snapshot>,
    /// How long each decision took; empty without a clock.
    pub decision_times: Vec<Duration>,
}

/// Why a run ended early.
#[derive(Debug, Error)]
pub enum RunError {
    /// The policy gave no decision.
    #[error("at {at}: {source}")]
    Policy {
        /// When.
        at: SimTime,
        /// Why.
        source: PolicyError,
    },
    /// The policy's decision cannot be carried out.
    #[error("at {at}: policy {policy} gave an infeasible decision: {source}")]
    Infeasible {
        /// When.
        at: SimTime,
        /// The policy.
        policy: String,
        /// Why not.
        source: Infeasible,
    },
}

/// The arrivals of the episode that `options` describes.
#[must_use]
pub fn arrivals(world: &World, options: &Options) -> Vec<Arrival> {
    let mut stream = arrival_stream(options);
    world.arrivals(options.split, duration(world, options), &mut stream)
}

fn arrival_stream(options: &Options) -> Stream {
    let name = match options.split {
        Split::Training => "arrivals/training",
        Split::HeldOut => "arrivals/held-out",
    };
    stream::named(options.seed, name)
}

fn duration(world: &World, options: &Options) -> SimTime {
    let intervals = options.intervals.unwrap_or(world.episode_intervals);
    SimTime(world.interval.0.saturating_mul(u64::from(intervals)))
}

/// Runs `policy` through the episode that `options` describes.
///
/// # Errors
///
/// If the policy gives no decision or an infeasible one.
pub fn run(world: &World, policy: &mut dyn Policy, options: &Options) -> Result<Run, RunError> {
    run_with(world, policy, options, &mut Hooks::default())
}

/// Looks on at a run.
#[derive(Default)]
pub struct Hooks<'a> {
    /// Receives the events.
    pub events: Option<&'a mut dyn EventSink>,
    /// Called after each boundary with the number of intervals that have begun.
    pub progress: Option<&'a mut dyn FnMut(u32)>,
    /// Reads a clock, to time decisions; simulations know none.
    pub clock: Option<&'a dyn Fn() -> Duration>,
}

/// A [`Sink`] behind a pointer.
#[expect(private_interfaces, reason = "only this crate implements sinks")]
pub trait EventSink {
    /// A request arrived.
    fn arrived(&mut self, _now: SimTime, _request: &Request) {}
    /// A request was deployed.
    fn deployed(&mut self, _now: SimTime, _deployment: &crate::decision::Deployment) {}
    /// A fragment ended.
    fn fragment_done(
        &mut self,
        _now: SimTime,
        _request: crate::ids::RequestId,
        _index: usize,
        _host: crate::ids::HostId,
    ) {
    }
    /// A request was answered.
    fn completed(
        &mut self,
        _now: SimTime,
        _request: &Request,
        _variant: crate::ids::VariantId,
        _late: bool,
    ) {
    }
    /// A host changed its state.
    fn lifecycle(
        &mut self,
        _now: SimTime,
        _host: crate::ids::HostId,
        _lifecycle: crate::host::Lifecycle,
    ) {
    }
    /// A migration was ordered.
    fn migration_started(&mut self, _now: SimTime, _course: &Course) {}
    /// A migration ended: what came of it, and what it took.
    fn migration_ended(
        &mut self,
        _now: SimTime,
        _course: &Course,
        _outcome: Outcome,
        _report: &Report,
    ) {
    }
    /// Something happened to the fleet that nobody decided.
    fn incident(&mut self, _now: SimTime, _incident: &Incident) {}
    /// What the containers have wanted and lacked: at each boundary before the decision, and at the
    /// end, where the world has any.
    fn containers(&mut self, _now: SimTime, _meters: &[ContainerMeter]) {}
}

/// Records response times and the timeline, and passes events on.
struct Recorder<'a> {
    responses: ResponseTimes,
    timeline: Option<Vec<Snapshot>>,
    events: Option<&'a mut dyn EventSink>,
}

impl Recorder<'_> {
    fn meter_containers(&mut self, state: &State, world: &World) {
        if let (Some(events), false) = (&mut self.events, world.containers.is_empty()) {
            events.containers(state.now(), &state.container_meters());
        }
    }
}

impl Sink for Recorder<'_> {
    fn arrived(&mut self, now: SimTime, request: &Request) {
        if let Some(events) = &mut self.events {
            events.arrived(now, request);
        }
    }
    fn deployed(&mut self, now: SimTime, deployment: &crate::decision::Deployment) {
        if let Some(events) = &mut self.events {
            events.deployed(now, deployment);
        }
    }
    fn fragment_done(
        &mut self,
        now: SimTime,
        request: crate::ids::RequestId,
        index: usize,
        host: crate::ids::HostId,
    ) {
        if let Some(events) = &mut self.events {
            events.fragment_done(now, request, index, host);
        }
    }
    fn completed(
        &mut self,
        now: SimTime,
        request: &Request,
        variant: crate::ids::VariantId,
        late: bool,
    ) {
        self.responses.note(now.since(request.arrived));
        if let Some(events) = &mut self.events {
            events.completed(now, request, variant, late);
        }
    }
    fn lifecycle(
        &mut self,
        now: SimTime,
        host: crate::ids::HostId,
        lifecycle: crate::host::Lifecycle,
    ) {
        if let Some(events) = &mut self.events {
            events.lifecycle(now, host, lifecycle);
        }
    }
    fn migration_started(&mut self, now: SimTime, course: &Course) {
        if let Some(events) = &mut self.events {
            events.migration_started(now, course);
        }
    }
    fn migration_ended(
        &mut self,
        now: SimTime,
        course: &Course,
        outcome: Outcome,
        report: &Report,
    ) {
        if let Some(events) = &mut self.events {
            events.migration_ended(now, course, outcome, report);
        }
    }
    fn incident(&mut self, now: SimTime, incident: &Incident) {
        if let Some(events) = &mut self.events {
            events.incident(now, incident);
        }
    }
    fn boundary(&mut self, state: &State, world: &World) {
        if let Some(timeline) = &mut self.timeline {
            timeline.push(Snapshot::of(world, state));
        }
        self.meter_containers(state, world);
    }
}

/// As [`run`], looked on by `hooks`.
///
/// # Errors
///
/// If the policy gives no decision or an infeasible one.
pub fn run_with(
    world: &World,
    policy: &mut dyn Policy,
    options: &Options,
    hooks: &mut Hooks<'_>,
) -> Result<Run, RunError> {
    let end = duration(world, options);
    let mut windows = ArrivalWindows::new(world, options.split, end, arrival_stream(options));
    run_through(world, policy, options, hooks, |run, recorder| {
        while let Some((until, arrivals)) = windows.next_window() {
            run.steer(arrivals, until, recorder)?;
        }
        Ok(())
    })
}

/// Runs `policy` through `arrivals`, sorted by time, until every request has been answered; looked on
/// by `hooks`.
///
/// Length and split of `options` have no meaning here.
///
/// # Errors
///
/// If the policy gives no decision or an infeasible one.
pub fn run_arrivals(
    world: &World,
    policy: &mut dyn Policy,
    arrivals: &[Arrival],
    options: &Options,
    hooks: &mut Hooks<'_>,
) -> Result<Run, RunError> {
    let last = arrivals.last().map_or(SimTime::ZERO, |a| a.time);
    run_through(world, policy, options, hooks, |run, recorder| {
        run.steer(arrivals, last.after(SimTime(1)), recorder)?;
        while !run.state.active.is_empty() {
            let beyond = run.state.next_boundary.after(SimTime(1));
            run.steer(&[], beyond, recorder)?;
        }
        Ok(())
    })
}

/// A run whose time is spent by `spend`.
fn run_through<'a, 'h>(
    world: &'a World,
    policy: &'a mut dyn Policy,
    options: &Options,
    hooks: &'a mut Hooks<'h>,
    spend: impl FnOnce(&mut Steering<'a, 'h>, &mut Recorder<'_>) -> Result<(), RunError>,
) -> Result<Run, RunError> {
    let mut recorder = Recorder {
        responses: ResponseTimes::default(),
        timeline: options.timeline.then(Vec::new),
        events: hooks.events.take(),
    };
    let mut run = Steering {
        world,
        policy,
        hooks,
        state: State::seeded(world, options.seed),
        decision: Decision::none(),
        decision_times: Vec::new(),
        intervals: 0,
    };
    spend(&mut run, &mut recorder)?;
    let Steering {
        state,
        decision_times,
        ..
    } = run;
    recorder.meter_containers(&state, world);
    let qos = Qos::of(world, &state, &mut recorder.responses);
    Ok(Run {
        qos,
        state,
        timeline: recorder.timeline.unwrap_or_default(),
        decision_times,
    })
}

/// A run under way.
struct Steering<'a, 'h> {
    world: &'a World,
    policy: &'a mut dyn Policy,
    hooks: &'a mut Hooks<'h>,
    state: State,
    decision: Decision,
    decision_times: Vec<Duration>,
    intervals: u32,
}

impl Steering<'_, '_> {
    /// Goes on with `arrivals` until `until`.
    fn steer(
        &mut self,
        arrivals: &[Arrival],
        until: SimTime,
        recorder: &mut Recorder<'_>,
    ) -> Result<(), RunError> {
        let world = self.world;
        let mut future = Future::new(arrivals);
        loop {
            let epoch = self.state.advance(world, &mut future, until, recorder);
            match epoch {
                Epoch::End => return Ok(()),
                Epoch::Arrival => {}
                Epoch::Boundary => {
                    self.intervals += 1;
                    if let Some(progress) = &mut self.hooks.progress {
                        progress(self.intervals);
                    }
                }
            }
            self.decide(epoch)?;
            self.state.apply(world, &self.decision, recorder);
        }
    }

    /// Asks the policy and has the checker look at its answer.
    fn decide(&mut self, epoch: Epoch) -> Result<(), RunError> {
        let observation = Observation::new(self.world, &self.state, epoch);
        self.decision.clear();
        let started = self.hooks.clock.map(|clock| clock());
        self.policy
            .decide(&observation, &mut self.decision)
            .map_err(|source| RunError::Policy {
                at: self.state.now(),
                source,
            })?;
        if let (Some(clock), Some(started)) = (self.hooks.clock, started) {
            self.decision_times.push(clock().saturating_sub(started));
        }
        checker::check(&observation, &self.decision).map_err(|source| RunError::Infeasible {
            at: self.state.now(),
            policy: self.policy.name().into(),
            source,
        })
    }
}
