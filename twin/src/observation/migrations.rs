//! What can be observed of migrations under way, and the way back to a state.
//!
//! The view of a migration holds what its two ends know: the stage, what was sent, what is left,
//! how long it took. A state that is made of it goes on where the stage stood; what is hidden,
//! whether and where it will fail, is drawn anew.

use serde::{Deserialize, Serialize};

use super::Observation;
use super::build::{ViewError, invalid};
use crate::ids::{HostId, RequestId};
use crate::migration::{
    Attempt, Container, Demand, Migration, Report, Reservation, Stage, StrategyKind,
};
use crate::state::migrate::{Carrier, Course, Moving};
use crate::state::{Phase, State};
use crate::units::{Mebibytes, SimTime};
use crate::world::{World, nominal_bandwidth};

/// What can be observed of a migration under way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MigrationView {
    /// The request.
    pub request: RequestId,
    /// Position of the fragment in its variant.
    pub fragment: u16,
    /// The source.
    pub from: HostId,
    /// The destination.
    pub to: HostId,
    /// The order of things.
    pub strategy: StrategyKind,
    /// What is being done; `None` while it waits for room, or for a model.
    pub stage: Option<Stage>,
    /// Whether it waits for its model to be loaded at the destination.
    pub loads_model: bool,
    /// For how long.
    pub stage_elapsed: SimTime,
    /// What has been sent in this stage.
    pub stage_sent: Mebibytes,
    /// Pages that the destination lacked when this stage began.
    pub left: Mebibytes,
    /// What the last transfer got, in MiB/s.
    pub bandwidth_mib_per_s: f64,
    /// Whether it resumes, or has resumed, before its memory is there.
    pub post_copy: bool,
    /// Rounds that have ended.
    pub rounds: u32,
    /// Memory and execution state sent in stages that have ended.
    pub sent: Mebibytes,
    /// Image layers fetched in stages that have ended.
    pub fetched: Mebibytes,
    /// Length of the stages that have ended, in s.
    pub total_s: f64,
    /// The part of these in which the fragment was paused, in s.
    pub downtime_s: f64,
    /// The part of these that it lost to memory that had not come, in s.
    pub stall_s: f64,
}

impl Observation<'_> {
    /// The migrations under way, in the order in which they were asked for.
    pub fn migrations(&self) -> impl Iterator<Item = MigrationView> + '_ {
        let under_way = self.state.migrations.under_way.iter().enumerate();
        under_way.map(|(place, moving)| migration_view(self.state, place, moving))
    }

    /// Whether a fragment is being migrated.
    #[must_use]
    pub fn migrates(&self, request: RequestId, fragment: u16) -> bool {
        let mut under_way = self.state.migrations.under_way.iter();
        under_way.any(|m| (m.course.request, m.course.fragment) == (request, fragment))
    }
}

fn migration_view(state: &State, place: usize, moving: &Moving) -> MigrationView {
    let Course {
        request,
        fragment,
        from,
        to,
        strategy,
        ..
    } = moving.course;
    let protocol = moving.attempt.migration();
    let report = protocol.report();
    // While it waits for room, or for a model.
    let waits =
        moving.attempt.machine().reserved().is_none() && moving.attempt.demand() == Demand::Nothing;
    MigrationView {
        request,
        fragment,
        from,
        to,
        strategy,
        stage: (!waits).then(|| protocol.stage()),
        loads_model: waits && moving.held.is_some(),
        stage_elapsed: if waits {
            SimTime::ZERO
        } else {
            state.now.since(moving.began)
        },
        stage_sent: state.sent(place),
        left: protocol.left(),
        bandwidth_mib_per_s: protocol.bandwidth_mib_per_s(),
        post_copy: report.post_copy,
        rounds: report.rounds,
        sent: report.sent,
        fetched: report.fetched,
        total_s: report.total_s,
        downtime_s: report.downtime_s,
        stall_s: report.stall_s,
    }
}

impl State {
    /// Adds the `i`th migration of a view to a state that has all else.
    pub(super) fn restore_migration(
        &mut self,
        world: &World,
        i: usize,
        view: &MigrationView,
    ) -> Result<(), ViewError> {
        let field = |name: &str| format!("migrations[{i}].{name}");
        let Some(slot) = self.fragment_slot(world, view.request, view.fragment) else {
            let problem = format!("there is no fragment {} of it", view.fragment);
            return invalid(field("request"), problem);
        };
        if self.migrations.place_of_fragment(slot).is_some() {
            return invalid(field("fragment"), "is migrated twice");
        }
        self.check_ends(i, view)?;
        self.check_numbers(i, view)?;
        let number = u32::try_from(self.migrations.under_way.len()).unwrap_or(u32::MAX);
        let attempt = self.restore_attempt(world, i, view, (slot, number))?;
        let container = match view.stage {
            None => Container::AtSource,
            Some(_) => attempt.migration().container(),
        };
        let (phase, here, other, speed) = match container {
            Container::AtSource => (Phase::Running, view.from, view.to, 1.0),
            Container::Paused => (Phase::Paused, view.from, view.to, 1.0),
            Container::AtDestination { speed } => (Phase::Running, view.to, view.from, speed.0),
            Container::Lost => return invalid(field("stage"), "has ended"),
        };
        let run = self.fragments[slot as usize];
        if run.phase != phase || run.host != here {
            let problem = "the fragment's host or phase is another in this stage";
            return invalid(field("stage"), problem);
        }
        let demand = attempt.demand();
        let held = self.hold_other(world, i, view, (slot, other))?;
        self.migrations.next = number + 1;
        self.migrations.under_way.push(Moving {
            course: Course {
                number,
                request: view.request,
                fragment: view.fragment,
                from: view.from,
                to: view.to,
                strategy: view.strategy,
            },
            slot,
            ram_mib: self.fragment_in(world, slot).map_or(0.0, |f| f.ram.0),
            model: self.fragment_in(world, slot).and_then(|f| f.model),
            attempt,
            began: self.now,
            carrier: Carrier::Nobody,
            speed,
            held,
        });
        if speed < 1.0 {
            let run = &mut self.fragments[slot as usize];
            run.started_at_mi /= speed;
            self.rebuild_finishes(world, here.index());
        }
        match view.stage {
            Some(stage) => self.go_on(world, stage, demand, view),
            None if view.loads_model => {
                let place = self.migrations.under_way.len() - 1;
                let Some(ready_at) = self.hold_destination(world, place) else {
                    let problem = "the destination lacks the memory for the fragment";
                    return invalid(field("loads_model"), problem);
                };
                self.await_model(place, ready_at.max(self.now));
            }
            None => {}
        }
        Ok(())
    }

    /// The attempt of a view.
    fn restore_attempt(
        &self,
        world: &World,
        i: usize,
        view: &MigrationView,
        (slot, number): (u32, u32),
    ) -> Result<Attempt, ViewError> {
        let field = |name: &str| format!("migrations[{i}].{name}");
        let Some(fragment) = self.fragment_in(world, slot) else {
            return invalid(field("request"), "is not deployed");
        };
        let ends = (view.from, view.to);
        let spec = world.migration.spec(world, fragment, ends, view.strategy);
        let key = self.fault_key(number);
        let faults = world.migration.faults;
        let Some(stage) = view.stage else {
            let planned = Attempt::new(key, spec, nominal_bandwidth(world, ends), faults);
            let planned = planned.map(|mut attempt| attempt.plan().map(|()| attempt));
            return match planned {
                Ok(Ok(attempt)) => Ok(attempt),
                _ => invalid(field("fragment"), "cannot be migrated"),
            };
        };
        let report = Report {
            total_s: view.total_s,
            downtime_s: view.downtime_s,
            stall_s: view.stall_s,
            sent: view.sent,
            fetched: view.fetched,
            rounds: view.rounds,
            post_copy: view.post_copy,
            ..Report::default()
        };
        let bandwidth = view.bandwidth_mib_per_s;
        let migration = match Migration::at(spec, stage, view.left, bandwidth, report) {
            Ok(migration) => migration,
            Err(error) => return invalid(field("left"), error.to_string()),
        };
        match migration.demand() {
            Demand::Transfer(Mebibytes(mib)) if view.stage_sent.0 > mib => {
                return invalid(field("stage_sent"), format!("must be at most {mib}"));
            }
            demand if demand.is_empty() => {
                return invalid(field("stage"), "takes nothing in this world");
            }
            _ => {}
        }
        let reservation = Reservation {
            host: view.to,
            ram: fragment.ram,
        };
        match Attempt::at(key, migration, faults, reservation, view.stage_sent) {
            Ok(attempt) => Ok(attempt),
            Err(error) => invalid(field("stage"), error.to_string()),
        }
    }

    fn check_ends(&self, i: usize, view: &MigrationView) -> Result<(), ViewError> {
        let field = |name: &str| format!("migrations[{i}].{name}");
        let hosts = self.hosts.len();
        for (name, host) in [("from", view.from), ("to", view.to)] {
            if host.index() >= hosts {
                return invalid(field(name), format!("there is no host {host}"));
            }
        }
        if view.from == view.to {
            return invalid(field("to"), "is the host that it leaves");
        }
        Ok(())
    }

    fn check_numbers(&self, i: usize, view: &MigrationView) -> Result<(), ViewError> {
        for (name, value) in [
            ("stage_sent", view.stage_sent.0),
            ("left", view.left.0),
            ("sent", view.sent.0),
            ("fetched", view.fetched.0),
            ("total_s", view.total_s),
            ("downtime_s", view.downtime_s),
            ("stall_s", view.stall_s),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                let problem = "must be finite and not negative";
                return invalid(format!("migrations[{i}].{name}"), problem);
            }
        }
        if view.stage_elapsed > self.now {
            let problem = "must not be longer than the time so far";
            return invalid(format!("migrations[{i}].stage_elapsed"), problem);
        }
        if view.loads_model && view.stage.is_some() {
            let problem = "must be false once it has begun";
            return invalid(format!("migrations[{i}].loads_model"), problem);
        }
        let rounds_agree = match view.stage {
            Some(Stage::Round { number }) => u64::from(number) == u64::from(view.rounds) + 1,
            _ => true,
        };
        if !rounds_agree {
            let problem = "must be one less than the round under way";
            return invalid(format!("migrations[{i}].rounds"), problem);
        }
        Ok(())
    }

    /// Holds memory at the end that the fragment is not on.
    fn hold_other(
        &mut self,
        world: &World,
        i: usize,
        view: &MigrationView,
        (slot, other): (u32, HostId),
    ) -> Result<Option<HostId>, ViewError> {
        let serves = self.hosts[other.index()].lifecycle.serves();
        // On the way back from a destination that is lost nothing is held there.
        if view.stage.is_none() || (view.stage == Some(Stage::RollBack) && !serves) {
            return Ok(None);
        }
        let Some(fragment) = self.fragment_in(world, slot) else {
            return Ok(None);
        };
        let now = self.now;
        let host = &mut self.hosts[other.index()];
        host.holds += 1;
        let ready = match host.take_memory(world, fragment, now) {
            Some((ready_at, _)) => serves && ready_at <= now,
            None => false,
        };
        if !ready {
            let name = if other == view.to { "to" } else { "from" };
            let problem = "does not serve, or lacks the memory or the model for the fragment";
            return invalid(format!("migrations[{i}].{name}"), problem);
        }
        Ok(Some(other))
    }

    /// Goes on with the order under way of the last migration.
    fn go_on(&mut self, world: &World, stage: Stage, demand: Demand, view: &MigrationView) {
        let Some(place) = self.migrations.under_way.len().checked_sub(1) else {
            return;
        };
        let rest = match demand {
            Demand::Transfer(Mebibytes(mib)) => {
                Demand::Transfer(Mebibytes((mib - view.stage_sent.0).max(0.0)))
            }
            Demand::Delay(span) => Demand::Delay(span.since(view.stage_elapsed)),
            Demand::Nothing => Demand::Nothing,
        };
        self.carry(world, place, stage, rest);
        let began = self.now.since(view.stage_elapsed);
        self.migrations.under_way[place].began = began;
    }
}
