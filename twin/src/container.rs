//! Long-running containers: how much CPU each wants follows a recorded trace, and what a host
//! cannot give is **unmet demand**, the figure of their service level.
//!
//! - A [`DemandTrace`] is a piecewise constant demand, in cycles per second. Demand that is not
//!   served at its moment is lost: the trace says what ran at each time, not how much is left to do.
//! - A host of capacity C shares its CPU **max-min fairly**, each container capped at its demand
//!   ([`water_fill`]): the served rate is rᵢ = min(dᵢ, λ) with Σ rᵢ = min(C, Σ dᵢ).
//! - Unmet demand is ∫ (d − r) dt, utilization Σ r / C.
//! - A node draws `idle + [something allocated] · allocated + extra(utilization)`
//!   ([`power::NodePower`]).
//!
//! Times are whole nanoseconds and rates whole 10⁻⁶ cycles per second, so that work is a whole
//! number too: the integrals are exact, and what is served and what is unmet add up to what was
//! demanded to the last digit.
//!
//! Max-min fairness: Bertsekas and Gallager, *Data Networks*, 2nd edition, section 6.5.2.
//!
//! A recording is replayed by [`host`] alone; the containers of a world ([`crate::world::containers`])
//! run beside requests, in the hosts of the twin, by the same rules.
//!
//! Left out: memory (of replays), that a VM's own size caps its demand (recordings show some above it), and
//! demand that is put off instead of lost.

pub mod columns;
pub mod host;
pub mod placement;
pub mod power;
mod run;
mod share;
mod trace;

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

use crate::ids::{ContainerId, HostId};
use crate::units::SimTime;

pub(crate) use run::{ContainerRun, Stage};
pub use share::water_fill;
pub use trace::{DemandError, DemandTrace, Step};

/// The largest rate of one container or host, in MHz.
pub const MAX_MHZ: f64 = 1e6;

/// CPU use or capacity, in whole 10⁻⁶ cycles per second.
///
/// 1 MHz is 10¹² of them; where a machine is rated in MIPS, one instruction counts as a cycle.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CpuRate(pub u64);

impl CpuRate {
    /// The nearest rate to `mhz`; `None` unless that is a number from 0 to [`MAX_MHZ`].
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value is checked to be from 0 to 10^18"
    )]
    pub fn from_mhz(mhz: f64) -> Option<Self> {
        (0.0..=MAX_MHZ)
            .contains(&mhz)
            .then(|| Self((mhz * 1e12).round() as u64))
    }

    /// This rate in MHz.
    #[must_use]
    pub fn mhz(self) -> f64 {
        self.0 as f64 / 1e12
    }

    /// What is done at this rate in `span`.
    #[must_use]
    pub fn over(self, span: SimTime) -> CpuWork {
        CpuWork(u128::from(self.0) * u128::from(span.0))
    }

    /// This rate as a share of `capacity`, from 0 where that is 0.
    #[must_use]
    pub fn share_of(self, capacity: Self) -> f64 {
        if capacity.0 == 0 {
            0.0
        } else {
            self.0 as f64 / capacity.0 as f64
        }
    }
}

impl fmt::Display for CpuRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MHz", self.mhz())
    }
}

/// Work of a CPU, in whole 10⁻¹⁵ cycles: a [`CpuRate`] times nanoseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct CpuWork(pub u128);

impl CpuWork {
    /// This work in 10⁶ cycles, which is MHz times seconds.
    #[must_use]
    pub fn megacycles(self) -> f64 {
        self.0 as f64 / 1e21
    }
}

impl Add for CpuWork {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for CpuWork {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for CpuWork {
    type Output = Self;
    /// `self − other`, zero if `other` is more.
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Sum for CpuWork {
    fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
        values.fold(Self(0), Add::add)
    }
}

/// A container: when it starts, and what it wants from then on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its name in the recording.
    pub id: u64,
    /// When it starts.
    pub start: SimTime,
    /// What is set aside for it when it is placed: the size of its VM, not a cap.
    pub reserved: CpuRate,
    /// Demand from `start` on; the container ends with it.
    pub demand: DemandTrace,
}

impl Container {
    /// When it ends.
    #[must_use]
    pub fn end(&self) -> SimTime {
        self.start.after(self.demand.duration())
    }
}

/// What a container of a world has wanted and lacked since the start of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContainerMeter {
    /// The container.
    pub id: ContainerId,
    /// Where it runs.
    pub host: HostId,
    /// What it wanted.
    pub demanded: CpuWork,
    /// What of that it did not get at its moment.
    pub unmet: CpuWork,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_checked_and_exact() {
        assert_eq!(CpuRate::from_mhz(21.0), Some(CpuRate(21_000_000_000_000)));
        assert_eq!(CpuRate::from_mhz(f64::NAN), None);
        assert_eq!(CpuRate::from_mhz(-1.0), None);
        assert_eq!(CpuRate::from_mhz(2e6), None);
        // 21 MHz for 2 s are 42 million cycles.
        let work = CpuRate(21_000_000_000_000).over(SimTime::from_seconds(2.0));
        assert!((work.megacycles() - 42.0).abs() < 1e-12);
    }
}
