//! One host of a rollout alone: what reaches it is known, so nothing else is simulated.
//!
//! The steps are those of [`crate::state`], taken with the same functions of [`crate::host`].

use super::baseline::{Event, HostEvent, Loading, Moment, position};
use super::incremental::Change;
use super::ledger::HostPart;
use super::rollout::Class;
use crate::faults::{self, Purpose};
use crate::host::{Host, Lifecycle, Meter};
use crate::ids::HostId;
use crate::state::incidents;
use crate::state::{FragmentRun, Phase};
use crate::units::SimTime;
use crate::world::VmSize;

/// A host that is simulated.
pub(super) struct Alone<'a> {
    h: usize,
    size: &'a VmSize,
    host: Host,
    now: SimTime,
    /// When its next fragment ends, or its credits do.
    next: SimTime,
    /// When its speed changes.
    drift: SimTime,
    /// Fragments that wait for their model.
    loading: Vec<Loading>,
    /// The moment of the last event that reached it.
    last: Moment,
    horizon: Option<Meter>,
}

/// What happens next on a host.
enum Next {
    Boot,
    Drift,
    Loaded,
    Complete,
    Reach,
}

impl Alone<'_> {
    /// What happens first, and when; `reach` is when something reaches the host.
    fn first(&self, reach: Moment) -> (Moment, Next) {
        let h = self.h as u64;
        let mut first = (reach, Next::Reach);
        let mut offer = |at: SimTime, class: Class, rank: u64, next: Next| {
            let moment = Moment::new(at, class, rank);
            if at != SimTime::NEVER && moment <= first.0 {
                first = (moment, next);
            }
        };
        offer(self.next, Class::Completion, h, Next::Complete);
        if let Some(loaded) = self.loading.iter().min() {
            offer(loaded.at, Class::Timer, loaded.rank, Next::Loaded);
        }
        offer(self.drift, Class::Timer, h, Next::Drift);
        if let Lifecycle::Booting { ready_at } = self.host.lifecycle {
            offer(ready_at, Class::Timer, h, Next::Boot);
        }
        first
    }

    /// Goes on to `now`; on the way past `until`, reads the meter there.
    fn go_on(&mut self, now: SimTime, until: SimTime) {
        if now >= until && self.horizon.is_none() {
            self.horizon = Some(self.host.meter(until));
        }
        self.now = now;
    }

    fn advance(&mut self) {
        self.host.advance(self.size, self.now);
    }

    fn reschedule(&mut self) {
        self.host.share(self.size);
        self.next = self.host.next_event(self.size);
    }

    fn start(&mut self, cap: usize, fragment: u32, work_mi: f64) {
        let mut run = FragmentRun {
            request: 0,
            index: 0,
            host: HostId::at(self.h),
            phase: Phase::Queued,
            inputs_left: 0,
            work_mi,
            started_at_mi: 0.0,
        };
        self.host.start(cap, fragment, &mut run);
    }
}

impl<'a> Change<'a> {
    /// Simulates host `h` from the start to the end, and gives its part of the account. Fragments
    /// that end at other times than were known are followed up.
    pub(super) fn simulate(&mut self, h: usize) -> Option<HostPart> {
        let mut alone = self.begin(h);
        let mut events = std::mem::take(&mut self.arena.events);
        self.gather(h, &mut events);
        let done = self.run(&mut alone, &events);
        self.arena.events = events;
        let horizon = match alone.horizon {
            Some(meter) => meter,
            None => alone.host.meter(self.base.until),
        };
        for at in 0..alone.host.resident.len() {
            self.finished(alone.host.resident[at], SimTime::NEVER);
        }
        let before = self.state.hosts[h].meter(self.state.now);
        let end = alone.host.meter(self.base.end);
        self.arena.host = Some(alone.host);
        self.arena.loading = alone.loading;
        done.map(|()| HostPart::of(self.world, h, [before, horizon, end]))
    }

    /// Host `h` at the start.
    fn begin(&mut self, h: usize) -> Alone<'a> {
        let recorded = &self.state.hosts[h];
        let host = match self.arena.host.take() {
            Some(mut host) => {
                host.clone_from(recorded);
                host
            }
            None => recorded.clone(),
        };
        let mut loading = std::mem::take(&mut self.arena.loading);
        loading.clear();
        let own = |(host, loading): &(HostId, Loading)| (host.index() == h).then_some(*loading);
        loading.extend(self.base.loading.iter().filter_map(own));
        self.arena.inputs_left.clear(self.base.fragments.len());
        let world = self.world;
        Alone {
            h,
            size: world.size_of(h),
            host,
            now: self.state.now,
            next: self.state.completions.time(h),
            drift: self.base.drifts[h],
            loading,
            last: Moment::new(SimTime::ZERO, Class::Decision, 0),
            horizon: None,
        }
    }

    fn run(&mut self, alone: &mut Alone<'a>, events: &[HostEvent]) -> Option<()> {
        let mut events = events.iter().peekable();
        loop {
            let reach = events.peek().map_or(Moment::NEVER, |event| event.moment);
            let (moment, next) = alone.first(reach);
            if moment.at >= self.base.end {
                return Some(());
            }
            alone.go_on(moment.at, self.base.until);
            match next {
                Next::Boot => self.boot(alone),
                Next::Drift => {
                    alone.advance();
                    alone.host.drift(alone.size);
                    alone.reschedule();
                    if let Some(model) = &alone.size.speed {
                        alone.drift = incidents::next_drift(model, alone.now);
                    }
                }
                Next::Loaded => self.loaded(alone),
                Next::Complete => self.complete(alone, reach)?,
                Next::Reach => {
                    let event = events.next()?;
                    // Two that come from the ends of fragments: either order is possible.
                    if reach == alone.last && reach.class == Class::Completion {
                        return None;
                    }
                    alone.last = reach;
                    self.reach(alone, event.event)?;
                }
            }
        }
    }

    fn boot(&self, alone: &mut Alone<'a>) {
        alone.advance();
        alone.host.lifecycle = Lifecycle::On;
        let key = faults::key(self.state.key, Purpose::Speed, alone.h);
        alone.host.allocate(alone.size, key);
        self.admit(alone);
        alone.reschedule();
    }

    fn loaded(&self, alone: &mut Alone<'a>) {
        let first = alone.loading.iter().enumerate().min_by_key(|(_, l)| **l);
        let Some((at, _)) = first else {
            return;
        };
        let fragment = alone.loading.swap_remove(at).fragment;
        let local = self.local(fragment);
        alone.advance();
        alone.host.loading -= 1;
        alone.start(local.spec.cap, fragment, local.work_mi);
        alone.reschedule();
    }

    fn reach(&mut self, alone: &mut Alone<'a>, event: Event) -> Option<()> {
        match event {
            Event::Power(on) => {
                alone.advance();
                alone.host.turn(on, alone.now.after(alone.size.boot));
                alone.reschedule();
            }
            Event::Place(fragment) => {
                if !alone.host.lifecycle.accepts() {
                    return None;
                }
                alone.host.resident.push(fragment);
                alone.host.ahead_mi += self.local(fragment).work_mi;
            }
            Event::Input(fragment) => self.receive(alone, fragment),
        }
        Some(())
    }

    fn receive(&mut self, alone: &mut Alone<'a>, fragment: u32) {
        let at = fragment as usize;
        let left = self.arena.inputs_left.get(at);
        let left = left.unwrap_or_else(|| self.local(fragment).inputs_left);
        let left = left.saturating_sub(1);
        self.arena.inputs_left.set(at, left);
        if left == 0 {
            alone.advance();
            alone.host.queue.push_back(fragment);
            self.admit(alone);
            alone.reschedule();
        }
    }

    /// Starts queued fragments while the first of them fits into memory.
    fn admit(&self, alone: &mut Alone<'a>) {
        if !alone.host.lifecycle.serves() {
            return;
        }
        if !alone.host.containers.is_empty() && !alone.host.seat_containers() {
            return;
        }
        while let Some(&fragment) = alone.host.queue.front() {
            let local = self.local(fragment);
            let memory = alone.host.take_memory(self.world, local.spec, alone.now);
            let Some((ready_at, _)) = memory else {
                return;
            };
            alone.host.queue.pop_front();
            if ready_at > alone.now {
                alone.host.loading += 1;
                alone.loading.push(Loading {
                    at: ready_at,
                    rank: local.rank,
                    fragment,
                });
                continue;
            }
            alone.start(local.spec.cap, fragment, local.work_mi);
        }
    }

    /// Fragments end. `None` where something else reaches the host in the same nanosecond and may
    /// come before or after.
    fn complete(&mut self, alone: &mut Alone<'a>, reach: Moment) -> Option<()> {
        let now = alone.now;
        let before = alone.last.at == now && alone.last.class >= Class::Completion;
        let after = reach.at == now && reach.class == Class::Completion;
        if before || after {
            return None;
        }
        alone.advance();
        if !alone.host.containers.is_empty() {
            alone.host.turn_containers(self.world, now);
        }
        while let Some(fragment) = alone.host.pop_finished() {
            self.end(alone, fragment);
        }
        self.admit(alone);
        alone.host.turn_off_drained();
        alone.reschedule();
        Some(())
    }

    fn end(&mut self, alone: &mut Alone<'a>, fragment: u32) {
        let local = self.local(fragment);
        alone.host.leave_model(local.spec.model, alone.now);
        alone.host.release(fragment, local.spec.ram.0);
        self.finished(fragment, alone.now);
        let own = local.hosts[(fragment - local.first) as usize];
        for &s in &local.spec.successors {
            if local.hosts[s] == own {
                self.receive(alone, local.first + position(s));
            }
        }
    }
}
