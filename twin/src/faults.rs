//! Faults: what goes wrong in a run, when, and what was counted of it.
//!
//! | fault | what happens |
//! |---|---|
//! | host crash | what ran on the host is lost; its requests wait to be deployed again; the host comes back after `restart_s` (a draining one goes off) |
//! | slow host | the host runs at `slow_factor` of its speed for `slow_for_s` |
//! | link down | transfers over the link stand still for `link_down_for_s` |
//! | allocation failure | a host that was started is off when it should serve; its requests wait again |
//!
//! Times between faults of a host or link are exponential with the given mean. They are hashed from
//! the seed of the run, the host or link, and the number of the fault, so that they do not depend on
//! decisions: two policies meet the same faults. A slow spell or a link's failure ends before the time to
//! the next begins. What strikes a host that does not serve is not noticed.
//!
//! An exponential time has no memory, so a sampled future draws the next faults anew from now.
//! Left out: faults that strike several hosts at once, wear, and silent errors.

use serde::{Deserialize, Serialize};

use crate::ids::{ApplicationId, HostId, RequestId, SiteId};
use crate::stream;
use crate::units::SimTime;

/// The faults of a world.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Mean time between crashes of a host, in s.
    pub crash_every_s: Option<f64>,
    /// Time that a crashed host takes to come back.
    pub restart: SimTime,
    /// Mean time between slow spells of a host, in s.
    pub slow_every_s: Option<f64>,
    /// Length of a slow spell.
    pub slow_for: SimTime,
    /// Speed in a slow spell, relative to what it is otherwise.
    pub slow_factor: f64,
    /// Mean time between failures of a link, in s.
    pub link_down_every_s: Option<f64>,
    /// Length of a link's failure.
    pub link_down_for: SimTime,
    /// Probability that a host that is started finds no room.
    pub allocation_failure: f64,
}

/// What a random value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Crash,
    Slow,
    LinkDown,
    Allocation,
    Speed,
    Migration,
}

/// The key of the values for `purpose` that belong to host or link `index`.
pub(crate) fn key(state_key: u64, purpose: Purpose, index: usize) -> u64 {
    stream::mix(stream::mix(state_key, purpose as u64), index as u64)
}

/// The time to fault `number` from when it became possible, for a mean of `mean_s`.
pub(crate) fn wait(key: u64, number: u32, mean_s: f64) -> SimTime {
    let u = stream::unit(key, u64::from(number));
    SimTime::from_seconds(-mean_s * (-u).ln_1p()).max(SimTime(1))
}

/// Something that happened to the fleet and that nobody decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Incident {
    /// A host crashed.
    Crashed {
        /// The host.
        host: HostId,
    },
    /// A slow spell of a host began.
    Slow {
        /// The host.
        host: HostId,
        /// When it ends.
        until: SimTime,
    },
    /// A link went down.
    LinkDown {
        /// Where transfers come from.
        from: SiteId,
        /// Where they go.
        to: SiteId,
        /// When it comes back.
        until: SimTime,
    },
    /// A host that was started found no room.
    AllocationFailed {
        /// The host.
        host: HostId,
    },
    /// A request lost what ran for it, and waits again.
    Withdrawn {
        /// The request.
        request: RequestId,
    },
    /// A request was turned away on arrival.
    Rejected {
        /// The request.
        request: RequestId,
        /// What it asked for.
        application: ApplicationId,
    },
}

/// Counts of what happened to the fleet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Incidents {
    /// Hosts that crashed.
    pub host_crashes: u64,
    /// Slow spells of hosts that began.
    pub slow_spells: u64,
    /// Links that went down.
    pub link_failures: u64,
    /// Hosts that were started and found no room.
    pub allocation_failures: u64,
    /// Times that a request lost what ran for it and waited again.
    pub requests_withdrawn: u64,
    /// Requests turned away on arrival.
    pub requests_rejected: u64,
    /// Models loaded on a host.
    pub cold_starts: u64,
}

impl Incidents {
    /// Counts `incident`.
    pub(crate) fn count(&mut self, incident: &Incident) {
        *match incident {
            Incident::Crashed { .. } => &mut self.host_crashes,
            Incident::Slow { .. } => &mut self.slow_spells,
            Incident::LinkDown { .. } => &mut self.link_failures,
            Incident::AllocationFailed { .. } => &mut self.allocation_failures,
            Incident::Withdrawn { .. } => &mut self.requests_withdrawn,
            Incident::Rejected { .. } => &mut self.requests_rejected,
        } += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_exponential_with_the_mean() {
        let n = 20_000_u32;
        let waits: Vec<f64> = (0..n)
            .map(|i| wait(key(5, Purpose::Crash, 3), i, 40.0).seconds())
            .collect();
        let mean = waits.iter().sum::<f64>() / f64::from(n);
        // The standard error is 40 / √20000 = 0.28.
        assert!((mean - 40.0).abs() < 0.9, "{mean}");
        let beyond = waits.iter().filter(|w| **w > 40.0).count() as f64 / f64::from(n);
        assert!((beyond - (-1.0_f64).exp()).abs() < 0.011, "{beyond}");
    }

    #[test]
    fn purposes_and_hosts_have_values_of_their_own() {
        let keys = [
            key(1, Purpose::Crash, 0),
            key(1, Purpose::Slow, 0),
            key(1, Purpose::Crash, 1),
            key(2, Purpose::Crash, 0),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|b| a != b));
        }
    }
}
