//! One host of a rollout alone: what reaches it is known, so nothing else is simulated.
//!
//! The steps are those of [`crate::state`], taken with the same functions of [`crate::host`].

use super::baseline::{Event, Moment};
use super::incremental::Change;
use super::ledger::HostPart;
use super::rollout::Class;
use crate::host::{Host, Lifecycle, Meter};
use crate::units::SimTime;

/// A host that is simulated.
struct Alone {
    h: usize,
    host: Host,
    /// When its next fragment ends.
    next: SimTime,
    now: SimTime,
    /// The moment of the last event that reached it.
    last: Moment,
    horizon: Option<Meter>,
}

impl Change<'_> {
    /// Simulates host `h` from the start to the end, and gives its part of the account. Fragments
    /// that end at other times than were known are followed up.
    pub(super) fn simulate(&mut self, h: usize) -> Option<HostPart> {
        let recorded = &self.state.hosts[h];
        let host = match self.arena.host.take() {
            Some(mut host) => {
                host.clone_from(recorded);
                host
            }
            None => recorded.clone(),
        };
        let mut alone = Alone {
            h,
            host,
            next: self.state.completions.time(h),
            now: self.state.now,
            last: Moment::new(SimTime::ZERO, Class::Decision, 0),
            horizon: None,
        };
        self.arena.inputs_left.clear(self.base.fragments.len());
        let mut events = std::mem::take(&mut self.arena.events);
        self.gather(h, &mut events);
        let mut at = 0;
        let done = loop {
            let event = events.get(at);
            let reach = event.map_or(Moment::NEVER, |event| event.moment);
            let ready_at = match alone.host.lifecycle {
                Lifecycle::Booting { ready_at } => ready_at,
                _ => SimTime::NEVER,
            };
            let boot = Moment::new(ready_at, Class::Timer, 0);
            let own = Moment::new(alone.next, Class::Completion, h as u64);
            let first = reach.min(boot).min(own);
            if first.at >= self.base.end {
                break Some(());
            }
            alone.go_on(first.at, self.base.until);
            let gone = if first == boot {
                alone.host.advance(alone.now);
                alone.host.lifecycle = Lifecycle::On;
                self.serve(&mut alone);
                Some(())
            } else if first == own {
                self.complete(&mut alone, reach)
            } else {
                at += 1;
                let twice = reach == alone.last && reach.class == Class::Completion;
                alone.last = reach;
                match event {
                    Some(event) if !twice => self.reach(&mut alone, event.event),
                    _ => None,
                }
            };
            if gone.is_none() {
                break None;
            }
        };
        self.arena.events = events;
        let horizon = match alone.horizon {
            Some(meter) => meter,
            None => alone.host.meter(self.base.until),
        };
        for at in 0..alone.host.resident.len() {
            self.finished(alone.host.resident[at], SimTime::NEVER);
        }
        let before = recorded.meter(self.state.now);
        let end = alone.host.meter(self.base.end);
        self.arena.host = Some(alone.host);
        done.map(|()| HostPart::of(self.world, h, [before, horizon, end]))
    }

    fn reach(&mut self, alone: &mut Alone, event: Event) -> Option<()> {
        match event {
            Event::Power(on) => {
                let boot = self.world.size_of(alone.h).boot;
                alone.host.advance(alone.now);
                alone.host.turn(on, alone.now.after(boot));
                self.reschedule(alone);
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

    fn receive(&mut self, alone: &mut Alone, fragment: u32) {
        let at = fragment as usize;
        let left = self.arena.inputs_left.get(at);
        let left = left.unwrap_or_else(|| self.local(fragment).inputs_left);
        let left = left.saturating_sub(1);
        self.arena.inputs_left.set(at, left);
        if left == 0 {
            alone.host.advance(alone.now);
            alone.host.queue.push_back(fragment);
            self.serve(alone);
        }
    }

    /// Starts what can start, and shares the host anew.
    fn serve(&self, alone: &mut Alone) {
        self.admit(alone);
        self.reschedule(alone);
    }

    fn admit(&self, alone: &mut Alone) {
        if !alone.host.lifecycle.serves() {
            return;
        }
        while let Some(&fragment) = alone.host.queue.front() {
            let local = self.local(fragment);
            let (ram_mib, cap) = (local.spec.ram.0, local.spec.cap);
            if alone
                .host
                .start_first(ram_mib, cap, local.work_mi)
                .is_none()
            {
                return;
            }
        }
    }

    fn reschedule(&self, alone: &mut Alone) {
        alone.host.share(self.world.size_of(alone.h));
        alone.next = alone.host.next_finish();
    }

    /// Fragments end. `None` where something else reaches the host in the same nanosecond and may
    /// come before or after.
    fn complete(&mut self, alone: &mut Alone, reach: Moment) -> Option<()> {
        let now = alone.now;
        let before = alone.last.at == now && alone.last.class >= Class::Completion;
        let after = reach.at == now && reach.class == Class::Completion;
        if before || after {
            return None;
        }
        alone.host.advance(now);
        while let Some(fragment) = alone.host.pop_finished() {
            self.end(alone, fragment);
        }
        self.admit(alone);
        alone.host.turn_off_drained();
        self.reschedule(alone);
        Some(())
    }

    fn end(&mut self, alone: &mut Alone, fragment: u32) {
        let local = self.local(fragment);
        alone.host.release(fragment, local.spec.ram.0);
        self.finished(fragment, alone.now);
        let own = local.hosts[(fragment - local.first) as usize];
        for &s in &local.spec.successors {
            if local.hosts[s] == own {
                self.receive(alone, local.first + super::baseline::position(s));
            }
        }
    }
}

impl Alone {
    /// Goes on to `now`; on the way past `until`, reads the meter there.
    fn go_on(&mut self, now: SimTime, until: SimTime) {
        if now >= until && self.horizon.is_none() {
            self.horizon = Some(self.host.meter(until));
        }
        self.now = now;
    }
}
