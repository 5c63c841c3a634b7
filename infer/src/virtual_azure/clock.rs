//! How virtual time passes: beside real time at some speed, or in steps.

use std::time::{Duration, Instant};

use twin::units::SimTime;

/// The slowest and the fastest that time may pass, in virtual seconds a real second.
pub(super) const SPEEDS: std::ops::RangeInclusive<f64> = 0.001..=100_000.0;
/// When the twin falls behind by more real time than this, time is set back to where it is.
const MOST_BEHIND: Duration = Duration::from_secs(2);
/// How soon an operation should be polled again, in virtual time.
const POLL_S: f64 = 5.0;
/// The soonest that anything should be tried again.
const SOONEST: Duration = Duration::from_millis(50);

/// How time passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClockKind {
    /// By itself, so many virtual seconds a real second.
    Running {
        /// Virtual seconds a real second.
        speed: f64,
    },
    /// When it is told to.
    Stepped,
}

/// A clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    kind: ClockKind,
    /// A moment in both times.
    anchor: (Instant, SimTime),
}

impl Clock {
    /// A clock that shows zero at `now`.
    pub(super) fn new(kind: ClockKind, now: Instant) -> Self {
        Self {
            kind,
            anchor: (now, SimTime::ZERO),
        }
    }

    /// What a running clock shows at `now`.
    pub(super) fn shows(&self, now: Instant) -> Option<SimTime> {
        let ClockKind::Running { speed } = self.kind else {
            return None;
        };
        let real = now.saturating_duration_since(self.anchor.0).as_secs_f64();
        Some(self.anchor.1.after(SimTime::from_seconds(real * speed)))
    }

    /// Tells the clock how far the twin came: where that is too far behind, time goes on from there.
    pub(super) fn reached(&mut self, now: Instant, twin: SimTime) {
        let (Some(shown), ClockKind::Running { speed }) = (self.shows(now), self.kind) else {
            return;
        };
        let behind_s = shown.since(twin).seconds() / speed;
        if behind_s > MOST_BEHIND.as_secs_f64() {
            self.anchor = (now, twin);
        }
    }
}

impl ClockKind {
    /// How long a client should wait for `seconds` of virtual time.
    pub(super) fn real(self, seconds: f64) -> Duration {
        let wait = match self {
            Self::Running { speed } => Duration::try_from_secs_f64(seconds / speed),
            Self::Stepped => Ok(SOONEST),
        };
        wait.unwrap_or(SOONEST).max(SOONEST)
    }

    /// How long a client should wait before it polls an operation again.
    pub(super) fn poll(self) -> Duration {
        self.real(POLL_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_clock_is_so_many_times_faster() {
        let start = Instant::now();
        let clock = Clock::new(ClockKind::Running { speed: 60.0 }, start);
        let later = start + Duration::from_millis(500);
        assert_eq!(clock.shows(later), Some(SimTime::from_seconds(30.0)));
        assert_eq!(Clock::new(ClockKind::Stepped, start).shows(later), None);
    }

    #[test]
    fn a_twin_that_falls_behind_sets_the_clock_back() {
        let start = Instant::now();
        let mut clock = Clock::new(ClockKind::Running { speed: 10.0 }, start);
        let later = start + Duration::from_secs(10);
        // 100 s are shown; 90 s are one real second behind.
        clock.reached(later, SimTime::from_seconds(90.0));
        assert_eq!(clock.shows(later), Some(SimTime::from_seconds(100.0)));
        clock.reached(later, SimTime::from_seconds(70.0));
        assert_eq!(clock.shows(later), Some(SimTime::from_seconds(70.0)));
    }

    #[test]
    fn waits_follow_the_speed() {
        let fast = ClockKind::Running { speed: 1000.0 };
        assert_eq!(fast.poll(), SOONEST);
        assert_eq!(
            ClockKind::Running { speed: 1.0 }.poll(),
            Duration::from_secs(5)
        );
        assert_eq!(ClockKind::Stepped.real(1e9), SOONEST);
    }
}
