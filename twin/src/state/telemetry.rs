//! What telemetry does to the state of a real fleet.
//!
//! Between reports the mechanics carry on what follows from what is known: service and sharing,
//! memory and queues, transfers, boots, credits, arrival rates. They never let a fragment end: its
//! work is hidden, so the fleet must say so. Starts follow from inputs, memory and boots and are
//! predicted; a report corrects them.
//!
//! What comes late is worked into the host that it concerns, at the time at which it happened or
//! that of the host's last event, whichever is later: rates are constant in between, so nothing is
//! lost by being late unless something else happened there first. Transfers that follow from a late
//! report begin when it comes.
//!
//! Each host stands at the time of its last event and is not touched in between, so that a state
//! that is told everything in time has the very numbers of the fleet's own twin.

use std::cmp::Reverse;

use super::{FragmentRun, Phase, Request, State, TimerKind};
use crate::credits::CreditAccount;
use crate::decision::{Deployment, PowerAction};
use crate::demand::{self, Known};
use crate::host::Lifecycle;
use crate::ids::{ApplicationId, HostId, RequestId};
use crate::network::Delivery;
use crate::sink::Sink;
use crate::units::SimTime;
use crate::world::World;

/// A fragment that lasts longer than its work was taken to be is given at least this share of what
/// it has had, so that what lasts long is looked at ever less often.
const EXTENSION_SHARE: f64 = 0.125;
/// The least time that it is given, in s.
const EXTENSION_S: f64 = 1.0;

/// Steps after which a migration that has succeeded is taken to have ended: more than any protocol
/// has.
const MIGRATION_STEPS: usize = 256;

/// Where a host was seen to be in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Off,
    Booting { ready_at: Option<SimTime> },
    On,
    Draining,
    Crashed { ready_at: Option<SimTime> },
}

/// Time.
impl State {
    /// Makes this the state of a real fleet: chance is left to the reports.
    pub(crate) fn expect_reports(&mut self) {
        self.timers
            .retain(|Reverse(timer)| !matches!(timer.kind, TimerKind::Fault(_)));
        self.starts = Some(Vec::new());
    }

    /// Carries on until `until`, that moment included; no fragment ends.
    pub(crate) fn carry_on<S: Sink>(&mut self, world: &World, until: SimTime, sink: &mut S) {
        loop {
            let transfer = self.network.next();
            let timer = self.timers.peek().map_or(SimTime::NEVER, |t| t.0.at);
            let (completion, host) = self.completions.first();
            let next = transfer.min(timer).min(completion);
            if next > until || next == SimTime::NEVER {
                break;
            }
            self.now = self.now.max(next);
            if transfer == next {
                self.finish_transfers(world, sink);
            } else if timer == next {
                self.fire_timer(world, sink);
            } else {
                self.outlast(world, host, sink);
            }
        }
        self.now = self.now.max(until);
        let late = self.now.since(self.next_boundary).0;
        if late > 0 {
            let missed = late.div_ceil(world.interval.0.max(1));
            let span = SimTime(missed.saturating_mul(world.interval.0));
            self.next_boundary = self.next_boundary.after(span);
        }
    }

    /// A boundary: everything may be decided, and again at `next`.
    pub(crate) fn meet_boundary<S: Sink>(&mut self, world: &World, next: SimTime, sink: &mut S) {
        self.next_boundary = next;
        self.call_off_migrations(world, sink);
    }

    /// Lets what was to end on host `h` last longer, or its credits run out.
    fn outlast<S: Sink>(&mut self, world: &World, h: usize, sink: &mut S) {
        let size = world.size_of(h);
        self.extend_overdue(world, h);
        let next = self.hosts[h].next_event(size);
        if next > self.now {
            self.completions.set(h, next);
            return;
        }
        self.hosts[h].advance(size, self.now);
        self.refill(world, h, sink);
    }

    /// Gives the fragments on host `h` that were to have ended by now more work.
    fn extend_overdue(&mut self, world: &World, h: usize) {
        for c in 0..self.hosts[h].classes.len() {
            loop {
                let host = &self.hosts[h];
                let class = &host.classes[c];
                let Some(&first) = class.running.peek() else {
                    break;
                };
                let left_s = (first.at_work - class.virtual_mi) / class.rate_mips;
                let end = host
                    .updated
                    .after(SimTime::from_seconds_ceil(left_s.max(0.0)));
                if end > self.now {
                    break;
                }
                let (slot, rate_mips) = (first.fragment, class.rate_mips);
                let Some(work_mi) = self.outlasting_mi(world, slot, rate_mips) else {
                    break;
                };
                let speed = self.speed_of(slot);
                let run = &mut self.fragments[slot as usize];
                run.work_mi = work_mi;
                let from_mi = run.started_at_mi;
                let class = &mut self.hosts[h].classes[c];
                class.running.pop();
                class.finish_sum_mi -= first.at_work;
                class.start(slot, from_mi, work_mi / speed);
            }
        }
    }

    /// The work that the fragment in `slot` is expected to have, in MI, now that it has had all that
    /// it was taken to have.
    fn outlasting_mi(&self, world: &World, slot: u32, rate_mips: f64) -> Option<f64> {
        let attained_mi = self.attained_mi(world, slot);
        let more_mi = (attained_mi * EXTENSION_SHARE).max(rate_mips * EXTENSION_S);
        let expected_mi = self.expected_mi(world, slot, attained_mi)?;
        let least_mi = attained_mi + more_mi.max(1.0);
        Some(if expected_mi.is_finite() {
            expected_mi.max(least_mi)
        } else {
            least_mi
        })
    }

    /// The work that the fragment in `slot` is expected to have in all, in MI.
    pub(crate) fn expected_mi(&self, world: &World, slot: u32, attained_mi: f64) -> Option<f64> {
        let fragment = self.fragment_in(world, slot)?;
        let request = &self.requests[self.fragments[slot as usize].request as usize];
        let known = Known {
            context_tokens: request.context_tokens,
            generated_tokens: request.generated_known.then_some(request.generated_tokens),
            attained_mi,
        };
        let application = request.application.index();
        Some(demand::expected_mi(world, application, fragment, known))
    }

    /// Service that the fragment in `slot` had had at `at`, in MI, as far as its host can be taken
    /// back to that time.
    pub(crate) fn attained_at(&mut self, world: &World, slot: u32, at: SimTime) -> f64 {
        let at = self.due(self.fragments[slot as usize].host.index(), at);
        self.as_of(at, |state| state.attained_mi(world, slot))
    }

    /// Lets `what` happen as of `at`; the time is as before afterwards.
    fn as_of<T>(&mut self, at: SimTime, what: impl FnOnce(&mut Self) -> T) -> T {
        let now = std::mem::replace(&mut self.now, at);
        let done = what(self);
        self.now = now;
        done
    }

    /// The time at which something that happened at `at` is worked into host `h`.
    fn due(&self, h: usize, at: SimTime) -> SimTime {
        at.max(self.hosts[h].updated).min(self.now)
    }
}

/// Requests.
impl State {
    /// A request arrived at `at`; gives its slot.
    pub(crate) fn arrive_observed<S: Sink>(
        &mut self,
        world: &World,
        id: RequestId,
        (application, context_tokens): (ApplicationId, u32),
        at: SimTime,
        sink: &mut S,
    ) -> u32 {
        let expected = world.applications[application.index()]
            .generated_tokens
            .as_deref()
            .map_or(0.0, |d| d.mean_given_exceeds(-1.0));
        let request = Request {
            id,
            application,
            arrived: at,
            context_tokens,
            generated_tokens: demand::to_tokens(expected),
            generated_known: false,
            key: id.0,
            deployed: None,
            started: None,
            place: 0,
        };
        self.next_request = self.next_request.max(id.0.saturating_add(1));
        self.totals.arrived += 1;
        self.rates[application.index()].count_late(at);
        sink.arrived(at, &request);
        let slot = self.insert_request(request);
        // Requests wait in the order of arrival, whatever the order of the reports.
        self.waiting.pop();
        let before = |&w: &u32| {
            let other = &self.requests[w as usize];
            (other.arrived, other.id) <= (at, id)
        };
        let place = self.waiting.iter().rposition(before);
        self.waiting.insert(place.map_or(0, |p| p + 1), slot);
        slot
    }

    /// The answer of the request in `slot`, whose fragments have all ended, came at `at`.
    pub(crate) fn answer_observed<S: Sink>(
        &mut self,
        world: &World,
        slot: u32,
        at: SimTime,
        sink: &mut S,
    ) {
        self.recall(world, slot);
        let request = &mut self.requests[slot as usize];
        let at = at.max(request.arrived);
        if let Some(deployed) = &mut request.deployed {
            deployed.outputs_left = 1;
        }
        self.as_of(at, |state| state.deliver_output(world, slot, sink));
    }

    /// The request in `slot` is gone without an answer.
    pub(crate) fn forget_observed<S: Sink>(&mut self, world: &World, slot: u32, sink: &mut S) {
        self.withdraw_observed(world, slot, sink);
        self.waiting.retain(|&waits| waits != slot);
        self.remove_request(slot);
    }

    /// The request in `slot` waits again.
    pub(crate) fn withdraw_observed<S: Sink>(&mut self, world: &World, slot: u32, sink: &mut S) {
        self.withdraw(world, slot, sink);
    }

    /// The waiting request in `slot` was deployed, to hosts that are not off.
    pub(crate) fn deploy_observed(&mut self, world: &World, slot: u32, deployment: &Deployment) {
        self.waiting.retain(|&waits| waits != slot);
        self.place(world, slot, deployment.variant, &deployment.hosts);
    }

    /// Stops all transfers of the request in `slot`.
    pub(super) fn recall(&mut self, world: &World, slot: u32) {
        let request = &self.requests[slot as usize];
        let Some(deployed) = request.deployed else {
            return;
        };
        let variant = world.variant(request.application, deployed.variant);
        let mut outputs = usize::from(deployed.outputs_left);
        for (place, fragment) in (deployed.first..).zip(&variant.fragments) {
            self.recall_inputs(world, place);
            let run = self.fragments[place as usize];
            if fragment.successors.is_empty() {
                let ours = |what| what == Delivery::Output { request: slot };
                let sent = self
                    .network
                    .cancel_of(world, self.now, (run.host, false), ours);
                outputs = outputs.saturating_sub(sent);
            }
        }
        if outputs > 0 {
            let ours = TimerKind::Output(slot);
            self.timers.retain(|Reverse(timer)| timer.kind != ours);
        }
    }

    /// Stops the transfers to the fragment in `slot`.
    fn recall_inputs(&mut self, world: &World, slot: u32) {
        let run = self.fragments[slot as usize];
        if run.phase != Phase::Waiting {
            return;
        }
        let ours = |what| what == Delivery::Input { fragment: slot };
        let canceled = self
            .network
            .cancel_of(world, self.now, (run.host, true), ours);
        if canceled < usize::from(run.inputs_left) {
            let ours = TimerKind::Input(slot);
            self.timers.retain(|Reverse(timer)| timer.kind != ours);
        }
    }
}

/// Fragments.
impl State {
    /// The fragment in `slot`, whose predecessors have ended, started at `at`. Says whether it could:
    /// its host may lack the memory.
    pub(crate) fn start_observed<S: Sink>(
        &mut self,
        world: &World,
        slot: u32,
        at: SimTime,
        sink: &mut S,
    ) -> bool {
        let run = self.fragments[slot as usize];
        let h = run.host.index();
        if run.phase == Phase::Waiting {
            self.recall_inputs(world, slot);
            let run = &mut self.fragments[slot as usize];
            run.inputs_left = 0;
            run.phase = Phase::Queued;
            self.hosts[h].queue.push_back(slot);
        }
        if matches!(self.hosts[h].lifecycle, Lifecycle::Booting { .. }) {
            self.turn_observed(world, run.host, Seen::On, at, sink);
        }
        let at = self
            .due(h, at)
            .max(self.requests[run.request as usize].arrived);
        let started = self.as_of(at, |state| state.start_as_of(world, slot));
        self.reschedule(world, h);
        started
    }

    /// Starts the fragment in `slot` now, if it is queued and there is memory.
    fn start_as_of(&mut self, world: &World, slot: u32) -> bool {
        let Some(fragment) = self.fragment_in(world, slot) else {
            return false;
        };
        let (now, size) = (self.now, self.fragments[slot as usize].host.index());
        let run = &mut self.fragments[slot as usize];
        let host = &mut self.hosts[size];
        match run.phase {
            Phase::Loading => {
                host.advance(world.size_of(size), now);
                host.loading -= 1;
                let loaded = TimerKind::Loaded(slot);
                self.timers.retain(|Reverse(timer)| timer.kind != loaded);
            }
            Phase::Queued => {
                host.advance(world.size_of(size), now);
                let Some((_, cold)) = host.take_memory(world, fragment, now) else {
                    return false;
                };
                self.incidents.cold_starts += u64::from(cold);
                host.queue.retain(|&queued| queued != slot);
            }
            Phase::Running => return true,
            Phase::Waiting | Phase::Paused | Phase::Done => return false,
        }
        let model = host
            .models
            .iter_mut()
            .find(|m| Some(m.model) == fragment.model);
        if let Some(model) = model {
            model.ready_at = model.ready_at.min(now);
        }
        host.start(fragment.cap, slot, run);
        self.requests[run.request as usize]
            .started
            .get_or_insert(now);
        if let Some(starts) = &mut self.starts {
            starts.push((slot, now));
        }
        true
    }

    /// The running fragment in `slot` did not start at `predicted`, but at `at`.
    pub(crate) fn shift_start(
        &mut self,
        world: &World,
        slot: u32,
        predicted: SimTime,
        at: SimTime,
    ) {
        let run = self.fragments[slot as usize];
        let Some(fragment) = self.fragment_in(world, slot) else {
            return;
        };
        if run.phase != Phase::Running || predicted == at {
            return;
        }
        let (h, speed) = (run.host.index(), self.speed_of(slot));
        let at = at.max(self.requests[run.request as usize].arrived);
        let host = &mut self.hosts[h];
        let class = &mut host.classes[fragment.cap];
        // Service at the host's time, on the virtual counter; negative if it starts after that.
        let had_mi = class.virtual_mi - run.started_at_mi;
        let rate = class.rate_mips;
        let service_mi = if at >= host.updated {
            -rate * at.since(host.updated).seconds()
        } else if at >= predicted {
            (had_mi - rate * at.since(predicted).seconds()).max(0.0)
        } else {
            had_mi + rate * predicted.since(at).seconds()
        };
        class.remove(slot);
        let from_mi = class.virtual_mi - service_mi;
        let work_mi = run.work_mi.max(service_mi * speed);
        class.start(slot, from_mi, work_mi / speed);
        let run = &mut self.fragments[slot as usize];
        run.started_at_mi = from_mi;
        run.work_mi = work_mi;
        let request = &mut self.requests[run.request as usize];
        if request.started == Some(predicted) {
            request.started = Some(at);
        }
        let next = self.hosts[h].next_event(world.size_of(h));
        self.completions.set(h, next);
    }

    /// The fragment in `slot`, whose predecessors have ended, ended at `at`; its output goes on its
    /// way if `hands_on`.
    pub(crate) fn finish_observed<S: Sink>(
        &mut self,
        world: &World,
        slot: u32,
        at: SimTime,
        hands_on: bool,
        sink: &mut S,
    ) {
        self.abandon_migration(world, slot, sink);
        self.recall_inputs(world, slot);
        let run = self.fragments[slot as usize];
        let h = run.host.index();
        let request = &self.requests[run.request as usize];
        if run.phase == Phase::Done || request.deployed.is_none() {
            return;
        }
        let (id, at) = (request.id, self.due(h, at).max(request.arrived));
        self.as_of(at, |state| state.leave_host(world, slot));
        sink.fragment_done(at, id, usize::from(run.index), run.host);
        let in_time = at == self.now;
        if hands_on && in_time {
            // The order of the mechanics: to the same host the output comes before what waits.
            self.hand_on(world, slot, sink);
        }
        if in_time || !self.migrations.is_empty() {
            self.hosts[h].advance(world.size_of(h), self.now);
            self.refill(world, h, sink);
        } else {
            self.as_of(at, |state| state.refill(world, h, sink));
        }
        if hands_on && !in_time {
            self.hand_on(world, slot, sink);
        }
    }

    /// Takes the fragment in `slot`, which ends now, off its host.
    fn leave_host(&mut self, world: &World, slot: u32) {
        let Some(fragment) = self.fragment_in(world, slot) else {
            return;
        };
        let run = self.fragments[slot as usize];
        let (h, now) = (run.host.index(), self.now);
        if run.phase == Phase::Running {
            let host = &mut self.hosts[h];
            host.advance(world.size_of(h), now);
            host.classes[fragment.cap].remove(slot);
            host.leave_model(fragment.model, now);
            host.release(slot, fragment.ram.0);
        } else {
            self.detach(world, slot);
            if run.phase == Phase::Loading {
                let loaded = TimerKind::Loaded(slot);
                self.timers.retain(|Reverse(timer)| timer.kind != loaded);
            }
        }
        let run = &mut self.fragments[slot as usize];
        run.phase = Phase::Done;
        run.inputs_left = 0;
        self.requests[run.request as usize]
            .started
            .get_or_insert(now);
    }

    /// Tells how many tokens the answer of the request in `slot` has.
    pub(crate) fn tell_tokens(&mut self, slot: u32, tokens: u32) {
        let request = &mut self.requests[slot as usize];
        if !request.generated_known {
            request.generated_tokens = tokens;
            request.generated_known = true;
        }
    }

    /// The fragment in `slot`, which is being migrated, is on `host`; says whether that ended its
    /// migration.
    pub(crate) fn moved_observed<S: Sink>(
        &mut self,
        world: &World,
        slot: u32,
        host: HostId,
        sink: &mut S,
    ) -> bool {
        let Some(place) = self.migrations.place_of_fragment(slot) else {
            return false;
        };
        let course = self.migrations.under_way[place].course;
        if host != course.to {
            self.abandon_migration(world, slot, sink);
            return true;
        }
        for _ in 0..MIGRATION_STEPS {
            if !self.hasten_migration(world, course.number, sink) {
                break;
            }
        }
        self.fragments[slot as usize].host == host
    }
}

/// Hosts.
impl State {
    /// Host `id` was seen at `at` to be as `seen` says; says whether that changed anything.
    pub(crate) fn turn_observed<S: Sink>(
        &mut self,
        world: &World,
        id: HostId,
        seen: Seen,
        at: SimTime,
        sink: &mut S,
    ) -> bool {
        let h = id.index();
        // What migrations do on the network cannot be taken back to an earlier time.
        let at = if self.migrations.is_empty() {
            self.due(h, at)
        } else {
            self.now
        };
        let was = self.hosts[h].lifecycle;
        let boot = world.size_of(h).boot;
        let ready = |time: Option<SimTime>, span: SimTime| {
            time.filter(|&t| t > at).unwrap_or_else(|| at.after(span))
        };
        match (was, seen) {
            (Lifecycle::Off, Seen::Booting { ready_at }) => {
                self.begin_boot(world, id, ready(ready_at, boot));
            }
            (Lifecycle::Booting { .. }, Seen::Booting { ready_at: Some(_) })
            | (Lifecycle::Booting { .. }, Seen::Crashed { ready_at: Some(_) }) => {
                let (Seen::Booting { ready_at } | Seen::Crashed { ready_at }) = seen else {
                    return false;
                };
                let ready_at = ready(ready_at, boot);
                if was == (Lifecycle::Booting { ready_at }) {
                    return false;
                }
                self.begin_boot(world, id, ready_at);
            }
            (Lifecycle::On | Lifecycle::Draining, Seen::Booting { ready_at }) => {
                self.unboot(world, id, ready(ready_at, boot), sink);
            }
            (Lifecycle::Off, Seen::On) => {
                self.begin_boot(world, id, at);
                self.as_of(at, |state| state.boot(world, h, sink));
            }
            (Lifecycle::Booting { .. }, Seen::On) => {
                self.as_of(at, |state| state.boot(world, h, sink));
            }
            (Lifecycle::Booting { .. }, Seen::Draining) => {
                self.as_of(at, |state| {
                    state.boot(world, h, sink);
                    state.turn(world, h, false, sink);
                });
            }
            (Lifecycle::On, Seen::Draining) => self.turn(world, h, false, sink),
            (Lifecycle::Draining, Seen::On) => self.turn(world, h, true, sink),
            (Lifecycle::Booting { .. }, Seen::Off)
            | (Lifecycle::On, Seen::Off)
            | (Lifecycle::Draining, Seen::Off) => self.stop_observed(world, id, sink),
            (Lifecycle::On | Lifecycle::Draining, Seen::Crashed { ready_at }) => {
                let ready_at = ready(ready_at, world.faults.restart.max(SimTime(1)));
                self.crash_until(world, id, ready_at, sink);
            }
            _ => return false,
        }
        true
    }

    /// Lets host `id` boot until `ready_at`.
    fn begin_boot(&mut self, world: &World, id: HostId, ready_at: SimTime) {
        let h = id.index();
        self.hosts[h].advance(world.size_of(h), self.now);
        self.hosts[h].lifecycle = Lifecycle::Booting { ready_at };
        self.set_timer(ready_at, TimerKind::Boot(id));
        self.reschedule(world, h);
    }

    fn turn<S: Sink>(&mut self, world: &World, h: usize, on: bool, sink: &mut S) {
        let host = HostId::at(h);
        self.power(world, PowerAction { host, on }, sink);
    }

    /// The host does not run: what was on it is lost.
    fn stop_observed<S: Sink>(&mut self, world: &World, id: HostId, sink: &mut S) {
        let h = id.index();
        self.hosts[h].advance(world.size_of(h), self.now);
        self.hosts[h].lifecycle = Lifecycle::Off;
        self.interrupt_migrations(world, id, sink);
        self.withdraw_all(world, id, sink);
        self.hosts[h].stop();
        sink.lifecycle(self.now, id, Lifecycle::Off);
        self.reschedule(world, h);
    }

    /// The host was taken to serve and does not yet: what was taken to run on it is queued, in the
    /// order of placement.
    fn unboot<S: Sink>(&mut self, world: &World, id: HostId, ready_at: SimTime, sink: &mut S) {
        let h = id.index();
        self.interrupt_migrations(world, id, sink);
        let order = self.hosts[h].resident.clone();
        let mut queue = Vec::new();
        for &slot in &order {
            let phase = self.fragments[slot as usize].phase;
            if phase == Phase::Waiting {
                continue;
            }
            queue.push(slot);
            if phase == Phase::Queued {
                continue;
            }
            self.detach(world, slot);
            let run: &mut FragmentRun = &mut self.fragments[slot as usize];
            run.phase = Phase::Queued;
            run.started_at_mi = 0.0;
            let (request, work_mi) = (run.request, run.work_mi);
            self.hosts[h].ahead_mi += work_mi;
            self.timers
                .retain(|Reverse(timer)| timer.kind != TimerKind::Loaded(slot));
            self.forget_start(world, request);
        }
        let host = &mut self.hosts[h];
        host.advance(world.size_of(h), self.now);
        host.resident = order;
        host.queue = queue.into();
        host.ahead_mi = host
            .resident
            .iter()
            .map(|&slot| self.fragments[slot as usize].work_mi)
            .sum();
        host.stop();
        self.begin_boot(world, id, ready_at);
        sink.lifecycle(self.now, id, Lifecycle::Booting { ready_at });
    }

    /// What a host was measured to have: speed relative to the rated one, and CPU credits.
    pub(crate) fn measure(
        &mut self,
        world: &World,
        id: HostId,
        speed: Option<f64>,
        credits: Option<f64>,
    ) {
        let h = id.index();
        let size = world.size_of(h);
        let host = &mut self.hosts[h];
        let faster = speed.filter(|s| s.to_bits() != host.speed().to_bits());
        let balance = credits.filter(|_| host.credits.is_some());
        if faster.is_none() && balance.is_none() {
            return;
        }
        host.advance(size, self.now);
        if let Some(speed) = faster {
            host.set_speed(size, speed);
        }
        if let (Some(balance), Some(spec)) = (balance, &size.credits) {
            host.credits = Some(CreditAccount::with_balance(spec, balance));
        }
        self.reschedule(world, h);
    }
}
