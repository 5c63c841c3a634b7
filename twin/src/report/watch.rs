//! What is kept of a run while it goes on.

use std::collections::BTreeMap;

use super::{ARCS, COLUMNS, Lanes, Migration, Outcome};
use crate::decision::{Decision, Deployment};
use crate::faults::Incident;
use crate::host::Lifecycle;
use crate::ids::{HostId, RequestId, VariantId};
use crate::migration;
use crate::observation::Observation;
use crate::policy::{Policy, PolicyError};
use crate::simulate::EventSink;
use crate::state::{Course, Epoch, Request};
use crate::units::SimTime;
use crate::world::World;

/// What each host was and when, and what moved between hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Lives {
    /// For each host, what it was from when on.
    spans: Vec<Vec<(SimTime, Lifecycle)>>,
    /// When the migrations under way were asked for, by number.
    moving: BTreeMap<u32, SimTime>,
    migrations: Vec<Migration>,
}

/// A stretch of time in which a host was one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// When it starts, in s.
    pub start_s: f64,
    /// When it ends, in s.
    pub end_s: f64,
    /// What the host was.
    pub lifecycle: Lifecycle,
}

impl Lives {
    /// The hosts of `world` as they are at the start.
    #[must_use]
    pub fn new(world: &World) -> Self {
        let first = |on| if on { Lifecycle::On } else { Lifecycle::Off };
        Self {
            spans: world
                .hosts
                .iter()
                .map(|host| vec![(SimTime::ZERO, first(host.initially_on))])
                .collect(),
            moving: BTreeMap::new(),
            migrations: Vec::new(),
        }
    }

    /// The migrations that have ended, by their end: the first [`ARCS`] of them.
    #[must_use]
    pub fn migrations(&self) -> &[Migration] {
        &self.migrations
    }

    /// The stretches of `host` up to `end_s`, by time, none of them empty.
    pub fn spans(&self, host: HostId, end_s: f64) -> impl Iterator<Item = Span> + '_ {
        let list = &self.spans[host.index()];
        list.iter()
            .enumerate()
            .filter_map(move |(i, &(at, lifecycle))| {
                let until_s = list.get(i + 1).map_or(end_s, |next| next.0.seconds());
                let span = Span {
                    start_s: at.seconds(),
                    end_s: until_s.min(end_s),
                    lifecycle,
                };
                (span.end_s > span.start_s).then_some(span)
            })
    }
}

impl EventSink for Lives {
    fn lifecycle(&mut self, now: SimTime, host: HostId, lifecycle: Lifecycle) {
        self.spans[host.index()].push((now, lifecycle));
    }

    fn migration_started(&mut self, now: SimTime, course: &Course) {
        self.moving.insert(course.number, now);
    }

    fn migration_ended(
        &mut self,
        now: SimTime,
        course: &Course,
        outcome: migration::Outcome,
        _report: &migration::Report,
    ) {
        let started = self.moving.remove(&course.number);
        if self.migrations.len() >= ARCS {
            return;
        }
        self.migrations.push(Migration {
            start_s: started.unwrap_or(now).seconds(),
            end_s: now.seconds(),
            from: course.from,
            to: course.to,
            outcome: match outcome {
                migration::Outcome::Succeeded => Outcome::Completed,
                migration::Outcome::Failed { .. } => Outcome::Failed,
                migration::Outcome::Canceled | migration::Outcome::ContainerEnded => {
                    Outcome::Canceled
                }
            },
        });
    }
}

/// Hands each event to two sinks.
pub struct Both<'a>(pub &'a mut dyn EventSink, pub &'a mut dyn EventSink);

impl std::fmt::Debug for Both<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Both").finish_non_exhaustive()
    }
}

#[expect(private_interfaces, reason = "only this crate implements sinks")]
impl EventSink for Both<'_> {
    fn arrived(&mut self, now: SimTime, request: &Request) {
        self.0.arrived(now, request);
        self.1.arrived(now, request);
    }

    fn deployed(&mut self, now: SimTime, deployment: &Deployment) {
        self.0.deployed(now, deployment);
        self.1.deployed(now, deployment);
    }

    fn fragment_done(&mut self, now: SimTime, request: RequestId, index: usize, host: HostId) {
        self.0.fragment_done(now, request, index, host);
        self.1.fragment_done(now, request, index, host);
    }

    fn completed(&mut self, now: SimTime, request: &Request, variant: VariantId, late: bool) {
        self.0.completed(now, request, variant, late);
        self.1.completed(now, request, variant, late);
    }

    fn lifecycle(&mut self, now: SimTime, host: HostId, lifecycle: Lifecycle) {
        self.0.lifecycle(now, host, lifecycle);
        self.1.lifecycle(now, host, lifecycle);
    }

    fn migration_started(&mut self, now: SimTime, course: &Course) {
        self.0.migration_started(now, course);
        self.1.migration_started(now, course);
    }

    fn migration_ended(
        &mut self,
        now: SimTime,
        course: &Course,
        outcome: migration::Outcome,
        report: &migration::Report,
    ) {
        self.0.migration_ended(now, course, outcome, report);
        self.1.migration_ended(now, course, outcome, report);
    }

    fn incident(&mut self, now: SimTime, incident: &Incident) {
        self.0.incident(now, incident);
        self.1.incident(now, incident);
    }
}

/// The hosts of a lane at one moment, or on average over neighboring moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LaneColumn {
    /// Hosts that boot.
    pub booting: f64,
    /// Hosts that are on.
    pub on: f64,
    /// Hosts that drain.
    pub draining: f64,
    /// Sum of the utilization of the hosts that serve.
    pub used: f64,
}

impl LaneColumn {
    /// Mean utilization of the hosts that serve.
    #[must_use]
    pub fn utilization(&self) -> f64 {
        let serving = self.on + self.draining;
        if serving > 0.0 {
            self.used / serving
        } else {
            0.0
        }
    }

    fn mean(a: Self, b: Self, weight_b: f64) -> Self {
        let mix = |a: f64, b: f64| a + (b - a) * weight_b;
        Self {
            booting: mix(a.booting, b.booting),
            on: mix(a.on, b.on),
            draining: mix(a.draining, b.draining),
            used: mix(a.used, b.used),
        }
    }
}

/// All lanes at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// When it starts, in s.
    pub start_s: f64,
    /// Number of moments that it is the mean of.
    pub moments: u32,
    /// The lanes.
    pub lanes: Vec<LaneColumn>,
}

/// How busy the hosts were, at each boundary or on average over neighboring ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Watching {
    /// The lanes.
    pub lanes: Lanes,
    /// What was seen, by time.
    pub columns: Vec<Column>,
    /// Moments in a whole column.
    stride: u32,
}

impl Watching {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self {
            lanes: Lanes::of(world),
            columns: Vec::new(),
            stride: 1,
        }
    }

    /// Notes the hosts of `observation`.
    fn note(&mut self, observation: &Observation<'_>) {
        let mut lanes = vec![LaneColumn::default(); self.lanes.names.len()];
        for (h, &lane) in self.lanes.of.iter().enumerate() {
            let (host, lane) = (HostId::at(h), &mut lanes[lane]);
            match observation.lifecycle(host) {
                Lifecycle::Off => continue,
                Lifecycle::Booting { .. } => lane.booting += 1.0,
                Lifecycle::On => lane.on += 1.0,
                Lifecycle::Draining => lane.draining += 1.0,
            }
            lane.used += observation.utilization(host);
        }
        self.push(Column {
            start_s: observation.now().seconds(),
            moments: 1,
            lanes,
        });
    }

    fn push(&mut self, column: Column) {
        match self.columns.last_mut() {
            Some(last) if last.moments < self.stride => merge(last, &column),
            _ => self.columns.push(column),
        }
        if self.columns.len() > COLUMNS {
            self.stride = self.stride.saturating_mul(2);
            let mut merged: Vec<Column> = Vec::with_capacity(COLUMNS);
            for column in self.columns.drain(..) {
                match merged.last_mut() {
                    Some(last) if last.moments < self.stride => merge(last, &column),
                    _ => merged.push(column),
                }
            }
            self.columns = merged;
        }
    }
}

fn merge(into: &mut Column, other: &Column) {
    let moments = into.moments + other.moments;
    let weight = f64::from(other.moments) / f64::from(moments);
    for (a, b) in into.lanes.iter_mut().zip(&other.lanes) {
        *a = LaneColumn::mean(*a, *b, weight);
    }
    into.moments = moments;
}

/// A policy that is watched: decides as the policy within, and notes how busy the hosts are at each
/// boundary.
pub struct Watched<'a> {
    policy: &'a mut dyn Policy,
    watching: Watching,
}

impl std::fmt::Debug for Watched<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched")
            .field("policy", &self.policy.name())
            .finish_non_exhaustive()
    }
}

impl<'a> Watched<'a> {
    /// Watches `policy` in `world`.
    pub fn new(world: &World, policy: &'a mut dyn Policy) -> Self {
        Self {
            policy,
            watching: Watching::new(world),
        }
    }

    /// The policy itself, unwatched.
    pub fn policy(&mut self) -> &mut dyn Policy {
        self.policy
    }

    /// What was seen.
    #[must_use]
    pub fn into_watching(self) -> Watching {
        self.watching
    }
}

impl Policy for Watched<'_> {
    fn name(&self) -> &str {
        self.policy.name()
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        if observation.epoch() == Epoch::Boundary {
            self.watching.note(observation);
        }
        self.policy.decide(observation, decision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_few_and_keep_the_mean() {
        let world = World::load("scinet-16").expect("the world is embedded");
        let mut watching = Watching::new(&world);
        let moments = 5_000;
        for i in 0..moments {
            let on = LaneColumn {
                on: 1.0,
                used: f64::from(i % 2),
                ..LaneColumn::default()
            };
            watching.push(Column {
                start_s: f64::from(i),
                moments: 1,
                lanes: vec![on; 16],
            });
        }
        let columns = &watching.columns;
        assert!(columns.len() <= COLUMNS && columns.len() > COLUMNS / 2 - 1);
        let seen: u32 = columns.iter().map(|c| c.moments).sum();
        assert_eq!(seen, moments);
        // Each whole column has as many zeros as ones.
        assert!((columns[0].lanes[3].utilization() - 0.5).abs() < 1e-12);
        assert!(columns.windows(2).all(|w| w[0].start_s < w[1].start_s));
    }
}
