//! What happens to the fleet without being decided: boots that fail, drift, faults.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{FragmentRun, Phase, State, TimerKind};
use crate::faults::{self, Incident, Purpose};
use crate::host::Lifecycle;
use crate::ids::{HostId, SiteId};
use crate::network::Delivery;
use crate::sink::Sink;
use crate::speed::SpeedModel;
use crate::stream;
use crate::units::SimTime;
use crate::world::{MAX_FRAGMENTS, World};

/// A timer of the fleet's own; faults carry their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Fault {
    Crash(HostId, u32),
    Slow(HostId, u32),
    /// The slow spell ends.
    Recovered(HostId, u32),
    LinkDown(u32, u32),
    LinkUp(u32, u32),
    /// The speed of a host's VM goes on to its next period.
    Drift(HostId),
}

impl Fault {
    /// Whether it is drawn and not yet under way, so that nobody can know of it.
    fn hidden(self) -> bool {
        matches!(self, Self::Crash(..) | Self::Slow(..) | Self::LinkDown(..))
    }

    /// Its place among timers at the same time: that of its host or link.
    pub(super) fn rank(self) -> u64 {
        match self {
            Self::Crash(host, _) | Self::Slow(host, _) => u64::from(host.0),
            Self::Recovered(host, _) | Self::Drift(host) => u64::from(host.0),
            Self::LinkDown(link, _) | Self::LinkUp(link, _) => u64::from(link),
        }
    }
}

/// When the next period of a speed begins.
pub(crate) fn next_drift(model: &SpeedModel, now: SimTime) -> SimTime {
    let period = model.period().0;
    SimTime((now.0 / period + 1).saturating_mul(period))
}

impl State {
    /// Draws the next faults from now on, in place of those that were drawn before.
    pub(crate) fn expect_faults(&mut self, world: &World) {
        let faults = &world.faults;
        let drifts = world.sizes.iter().any(|size| size.speed.is_some());
        let fresh = !self
            .timers
            .iter()
            .any(|timer| matches!(timer.0.kind, TimerKind::Fault(Fault::Drift(_))));
        self.timers.retain(
            |Reverse(timer)| !matches!(timer.kind, TimerKind::Fault(fault) if fault.hidden()),
        );
        // Spells and failures that are under way are followed by the next when they end.
        let (mut slow, mut down) = (BTreeSet::new(), BTreeSet::new());
        for Reverse(timer) in &self.timers {
            match timer.kind {
                TimerKind::Fault(Fault::Recovered(host, _)) => _ = slow.insert(host),
                TimerKind::Fault(Fault::LinkUp(link, _)) => _ = down.insert(link),
                _ => {}
            }
        }
        for h in 0..self.hosts.len() {
            let host = HostId::at(h);
            if faults.crash_every_s.is_some() {
                self.expect(world, Fault::Crash(host, 0));
            }
            if faults.slow_every_s.is_some() && !slow.contains(&host) {
                self.expect(world, Fault::Slow(host, 0));
            }
            if drifts && fresh && world.size_of(h).speed.is_some() {
                self.expect_drift(world, host);
            }
        }
        if faults.link_down_every_s.is_some() {
            for link in 0..world.links.len() {
                let (from, to) = (link / world.sites.len(), link % world.sites.len());
                let link = u32::try_from(link).unwrap_or(u32::MAX);
                if from != to && !down.contains(&link) {
                    self.expect(world, Fault::LinkDown(link, 0));
                }
            }
        }
    }

    /// Sets the timer of `fault`, counted from now.
    fn expect(&mut self, world: &World, fault: Fault) {
        let faults = &world.faults;
        let (purpose, index, number, mean_s) = match fault {
            Fault::Crash(host, n) => (Purpose::Crash, host.index(), n, faults.crash_every_s),
            Fault::Slow(host, n) => (Purpose::Slow, host.index(), n, faults.slow_every_s),
            Fault::LinkDown(link, n) => (
                Purpose::LinkDown,
                link as usize,
                n,
                faults.link_down_every_s,
            ),
            Fault::Recovered(..) | Fault::LinkUp(..) | Fault::Drift(_) => return,
        };
        if let Some(mean_s) = mean_s {
            let wait = faults::wait(faults::key(self.key, purpose, index), number, mean_s);
            self.set_timer(self.now.after(wait), TimerKind::Fault(fault));
        }
    }

    /// Sets the timer of the next period of a host's speed.
    fn expect_drift(&mut self, world: &World, host: HostId) {
        if let Some(model) = &world.size_of(host.index()).speed {
            let next = next_drift(model, self.now);
            self.set_timer(next, TimerKind::Fault(Fault::Drift(host)));
        }
    }

    /// Lets `fault` happen.
    pub(super) fn strike<S: Sink>(&mut self, world: &World, fault: Fault, sink: &mut S) {
        match fault {
            Fault::Crash(host, number) => {
                if self.hosts[host.index()].lifecycle.serves() {
                    self.crash(world, host, sink);
                }
                self.expect(world, Fault::Crash(host, number + 1));
            }
            Fault::Slow(host, number) => {
                // Also of a host that is off, so that spells do not depend on decisions.
                let until = self.now.after(world.faults.slow_for);
                self.set_slow(world, host, world.faults.slow_factor);
                self.set_timer(until, TimerKind::Fault(Fault::Recovered(host, number)));
                if self.hosts[host.index()].lifecycle.serves() {
                    self.note(Incident::Slow { host, until }, sink);
                }
            }
            Fault::Recovered(host, number) => {
                self.set_slow(world, host, 1.0);
                self.expect(world, Fault::Slow(host, number + 1));
            }
            Fault::LinkDown(link, number) => {
                let until = self.now.after(world.faults.link_down_for);
                self.network.set_link(world, self.now, link, false);
                self.set_timer(until, TimerKind::Fault(Fault::LinkUp(link, number)));
                let sites = world.sites.len();
                let (from, to) = (link as usize / sites, link as usize % sites);
                let (from, to) = (SiteId::at(from), SiteId::at(to));
                self.note(Incident::LinkDown { from, to, until }, sink);
            }
            Fault::LinkUp(link, number) => {
                self.network.set_link(world, self.now, link, true);
                self.expect(world, Fault::LinkDown(link, number + 1));
            }
            Fault::Drift(host) => {
                let (h, size) = (host.index(), world.size_of(host.index()));
                self.hosts[h].advance(size, self.now);
                self.hosts[h].drift(size);
                self.reschedule(world, h);
                self.expect_drift(world, host);
            }
        }
    }

    fn set_slow(&mut self, world: &World, host: HostId, factor: f64) {
        let (h, size) = (host.index(), world.size_of(host.index()));
        self.hosts[h].advance(size, self.now);
        self.hosts[h].slow_factor = factor;
        self.hosts[h].set_capacity(size);
        self.reschedule(world, h);
    }

    /// The boot of host `h` ends: it serves, or the cloud had no room for it.
    pub(super) fn boot<S: Sink>(&mut self, world: &World, h: usize, sink: &mut S) {
        let (host, size) = (HostId::at(h), world.size_of(h));
        self.hosts[h].advance(size, self.now);
        let starts = u64::from(self.hosts[h].starts);
        let key = faults::key(self.key, Purpose::Allocation, h);
        // A real fleet reports what fails.
        let chance = self.starts.is_none();
        if chance && stream::unit(key, starts) < world.faults.allocation_failure {
            self.hosts[h].starts += 1;
            self.hosts[h].lifecycle = Lifecycle::Off;
            self.note(Incident::AllocationFailed { host }, sink);
            self.withdraw_all(world, host, sink);
            self.hosts[h].stop();
        } else {
            self.hosts[h].lifecycle = Lifecycle::On;
            self.hosts[h].allocate(size, faults::key(self.key, Purpose::Speed, h));
            if !chance {
                self.hosts[h].set_speed(size, 1.0);
            }
        }
        sink.lifecycle(self.now, host, self.hosts[h].lifecycle);
        self.refill(world, h, sink);
    }

    /// A host loses what runs on it, and boots again unless it was to go off anyway.
    fn crash<S: Sink>(&mut self, world: &World, host: HostId, sink: &mut S) {
        let ready_at = self.now.after(world.faults.restart);
        self.crash_until(world, host, ready_at, sink);
    }

    /// As [`State::crash`], to serve again from `ready_at`.
    pub(super) fn crash_until<S: Sink>(
        &mut self,
        world: &World,
        host: HostId,
        ready_at: SimTime,
        sink: &mut S,
    ) {
        let h = host.index();
        self.hosts[h].advance(world.size_of(h), self.now);
        self.note(Incident::Crashed { host }, sink);
        self.hosts[h].lifecycle = match self.hosts[h].lifecycle {
            Lifecycle::Draining => Lifecycle::Off,
            _ => Lifecycle::Booting { ready_at },
        };
        self.interrupt_migrations(world, host, sink);
        self.withdraw_all(world, host, sink);
        self.hosts[h].stop();
        if self.hosts[h].lifecycle != Lifecycle::Off {
            self.set_timer(ready_at, TimerKind::Boot(host));
        }
        sink.lifecycle(self.now, host, self.hosts[h].lifecycle);
        self.reschedule(world, h);
    }

    /// Withdraws every request that has an unfinished fragment on `host`.
    pub(super) fn withdraw_all<S: Sink>(&mut self, world: &World, host: HostId, sink: &mut S) {
        while let Some(&slot) = self.hosts[host.index()].resident.first() {
            self.withdraw(world, self.fragments[slot as usize].request, sink);
        }
    }

    /// Takes everything back that was placed and sent for the request in `slot`: it waits as if it
    /// had not been deployed.
    pub(super) fn withdraw<S: Sink>(&mut self, world: &World, slot: u32, sink: &mut S) {
        let request = self.requests[slot as usize];
        let Some(deployed) = request.deployed else {
            return;
        };
        let count = world
            .variant(request.application, deployed.variant)
            .fragments
            .len();
        let own = deployed.first..deployed.first + u32::try_from(count).unwrap_or(0);
        let mut left = [None; MAX_FRAGMENTS];
        for (fragment, host) in own.clone().zip(&mut left) {
            self.abandon_migration(world, fragment, sink);
            let run: FragmentRun = self.fragments[fragment as usize];
            if run.phase != Phase::Done {
                self.detach(world, fragment);
                self.fragments[fragment as usize].phase = Phase::Done;
                *host = Some(run.host);
            }
        }
        if self.starts.is_some() {
            self.recall(world, slot);
        }
        let of_request = |what: Delivery| match what {
            Delivery::Input { fragment } => own.contains(&fragment),
            Delivery::Output { request } => request == slot,
            Delivery::Migration { .. } => false,
        };
        if self.starts.is_none() {
            self.network.cancel(world, self.now, of_request);
        }
        self.timers.retain(|Reverse(timer)| match timer.kind {
            TimerKind::Input(fragment) | TimerKind::Loaded(fragment) => !own.contains(&fragment),
            TimerKind::Output(request) => request != slot,
            TimerKind::Boot(_) | TimerKind::Fault(_) | TimerKind::Migration(_) => true,
        });
        self.free_fragments[count].push(deployed.first);
        let waits = &mut self.requests[slot as usize];
        waits.deployed = None;
        waits.started = None;
        waits.generated_known = false;
        let place = self
            .waiting
            .partition_point(|&w| self.requests[w as usize].id < request.id);
        self.waiting.insert(place, slot);
        let withdrawn = Incident::Withdrawn {
            request: request.id,
        };
        self.note(withdrawn, sink);
        for host in left.into_iter().flatten() {
            self.refill(world, host.index(), sink);
        }
    }
}
