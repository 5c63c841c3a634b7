//! The time: when records were written, and how old segments are.
//!
//! A wall clock jumps: ages are told by a steady clock while the program runs, and by the wall
//! clock only for what earlier runs left. Where the two disagree the wall clock has been set, and
//! nothing is removed for its age until it has been steady for [`GRACE`].

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long the wall clock must have been steady before anything is removed for its age.
pub(super) const GRACE: Duration = Duration::from_secs(600);
/// How far the clocks may drift apart between two looks before that is a jump.
const TOLERANCE: Duration = Duration::from_secs(30);

/// Tells the time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Nanoseconds since 1970; may jump.
    fn wall_ns(&self) -> u64;
    /// Time since any fixed moment; never jumps.
    fn steady(&self) -> Duration;
}

/// The clocks of this computer.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn wall_ns(&self) -> u64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn steady(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Notices when the wall clock jumps.
#[derive(Debug)]
pub(super) struct Watch {
    wall_ns: u64,
    steady: Duration,
    steady_since: Duration,
}

impl Watch {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        let steady = clock.steady();
        Self {
            wall_ns: clock.wall_ns(),
            steady,
            steady_since: steady,
        }
    }

    /// Whether the wall clock can be trusted with ages; looks at it again.
    pub(super) fn trusted(&mut self, clock: &dyn Clock) -> bool {
        let (wall_ns, steady) = (clock.wall_ns(), clock.steady());
        let elapsed = steady.saturating_sub(self.steady);
        let told = Duration::from_nanos(wall_ns.saturating_sub(self.wall_ns));
        let back = wall_ns < self.wall_ns;
        if back || told.abs_diff(elapsed) > TOLERANCE {
            self.steady_since = steady;
        }
        (self.wall_ns, self.steady) = (wall_ns, steady);
        steady.saturating_sub(self.steady_since) >= GRACE
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Clocks that are set by hand: wall and steady.
    #[derive(Debug, Default)]
    pub(crate) struct Manual(pub(crate) Mutex<(u64, Duration)>);

    impl Manual {
        pub(crate) fn pass(&self, time: Duration) {
            let mut clocks = self.0.lock().expect("no test panics with it");
            clocks.0 += u64::try_from(time.as_nanos()).expect("short");
            clocks.1 += time;
        }

        pub(crate) fn set_wall(&self, wall_ns: u64) {
            self.0.lock().expect("no test panics with it").0 = wall_ns;
        }
    }

    impl Clock for Manual {
        fn wall_ns(&self) -> u64 {
            self.0.lock().expect("no test panics with it").0
        }

        fn steady(&self) -> Duration {
            self.0.lock().expect("no test panics with it").1
        }
    }

    #[test]
    fn a_jump_suspends_trust_for_a_while() {
        let clock = Manual::default();
        clock.set_wall(1 << 60);
        let mut watch = Watch::new(&clock);
        assert!(!watch.trusted(&clock), "it has just been set up");
        clock.pass(GRACE);
        assert!(watch.trusted(&clock));
        for jump in [1 << 61, 1 << 50] {
            clock.set_wall(jump);
            assert!(!watch.trusted(&clock));
            clock.pass(GRACE / 2);
            assert!(!watch.trusted(&clock));
            clock.pass(GRACE / 2);
            assert!(watch.trusted(&clock));
        }
    }
}
