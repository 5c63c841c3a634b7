//! Pages that a container writes, or touches, within a span of time.
//!
//! With accesses that fall on the pages of a working set *W* at random, *r* of them a second (in
//! MiB of pages), a page has been hit after *t* with probability 1 − exp(−r t / W), so
//!
//! ```text
//! D(t) = W (1 − exp(−r t / W))
//! ```
//!
//! distinct pages have been (the occupancy problem: Feller, An Introduction to Probability Theory
//! and Its Applications I, 1968, section IV.2). It is r t at first and W in the end. QEMU's
//! `calc-dirty-rate` reports D(t) / t. The linear form D(t) = r t is that of Liu et al.,
//! "Performance and Energy Modeling for Live Migration of Virtual Machines", HPDC 2011.
//!
//! Left out: accesses that prefer some pages to others, rates that change, and that a container
//! which gets less CPU writes less.

use serde::{Deserialize, Serialize};

use super::spec::SpecError;
use crate::units::Mebibytes;

/// How many distinct pages are written, or touched, within a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DirtyPages {
    /// None ever.
    #[default]
    None,
    /// D(t) = r t, at most the limit.
    Linear {
        /// New pages a second, in MiB/s.
        rate_mib_per_s: f64,
        /// The most that can be dirty; without it D grows without bound, even beyond the memory.
        limit: Option<Mebibytes>,
    },
    /// D(t) = W (1 − exp(−r t / W)).
    WorkingSet {
        /// The pages that are accessed at all, W.
        size: Mebibytes,
        /// Accesses a second, r: each counts as the page that it hits, in MiB/s.
        rate_mib_per_s: f64,
    },
}

impl DirtyPages {
    /// Pages after `seconds`, counted from a moment when none is dirty.
    ///
    /// ```
    /// # use twin::{migration::DirtyPages, units::Mebibytes};
    /// let writes = DirtyPages::Linear { rate_mib_per_s: 10.0, limit: Some(Mebibytes(64.0)) };
    /// assert_eq!(writes.after(3.0), Mebibytes(30.0));
    /// assert_eq!(writes.after(9.0), Mebibytes(64.0));
    /// ```
    #[must_use]
    pub fn after(self, seconds: f64) -> Mebibytes {
        match self {
            Self::None => Mebibytes(0.0),
            Self::Linear {
                rate_mib_per_s,
                limit,
            } => {
                let written_mib = rate_mib_per_s * seconds;
                Mebibytes(limit.map_or(written_mib, |limit| written_mib.min(limit.0)))
            }
            Self::WorkingSet {
                size,
                rate_mib_per_s,
            } => Mebibytes(-size.0 * (-rate_mib_per_s * seconds / size.0).exp_m1()),
        }
    }

    /// New pages a second after `seconds`, in MiB/s: the derivative of [`DirtyPages::after`].
    #[must_use]
    pub fn rate_after(self, seconds: f64) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Linear {
                rate_mib_per_s,
                limit,
            } => match limit {
                Some(limit) if rate_mib_per_s * seconds >= limit.0 => 0.0,
                _ => rate_mib_per_s,
            },
            Self::WorkingSet {
                size,
                rate_mib_per_s,
            } => rate_mib_per_s * (-rate_mib_per_s * seconds / size.0).exp(),
        }
    }

    /// The most pages there can be, if that is bounded.
    #[must_use]
    pub fn bound(self) -> Option<Mebibytes> {
        match self {
            Self::None => Some(Mebibytes(0.0)),
            Self::Linear { limit, .. } => limit,
            Self::WorkingSet { size, .. } => Some(size),
        }
    }

    /// Checks the numbers of the model called `field` of a container with `memory`.
    pub(super) fn check(self, field: &'static str, memory: Mebibytes) -> Result<(), SpecError> {
        let (rate, bound, least) = match self {
            Self::None => return Ok(()),
            Self::Linear {
                rate_mib_per_s,
                limit,
            } => (rate_mib_per_s, limit, 0.0),
            Self::WorkingSet {
                size,
                rate_mib_per_s,
            } => (rate_mib_per_s, Some(size), f64::MIN_POSITIVE),
        };
        if !rate.is_finite() || rate < 0.0 {
            return Err(SpecError::Rate { field, value: rate });
        }
        match bound {
            Some(Mebibytes(value)) if !(least..=memory.0).contains(&value) => {
                Err(SpecError::Pages {
                    field,
                    value,
                    memory_mib: memory.0,
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rate against the difference of D over 2 µs.
    #[test]
    fn the_rate_is_the_derivative() {
        let models = [
            DirtyPages::None,
            DirtyPages::Linear {
                rate_mib_per_s: 30.0,
                limit: Some(Mebibytes(100.0)),
            },
            DirtyPages::WorkingSet {
                size: Mebibytes(100.0),
                rate_mib_per_s: 30.0,
            },
        ];
        for model in models {
            for seconds in [0.1, 3.0, 4.0, 20.0] {
                let change = model.after(seconds + 1e-6) - model.after(seconds - 1e-6);
                let rate = model.rate_after(seconds);
                assert!((rate - change.0 / 2e-6).abs() < 1e-6 * 30.0, "{model:?}");
            }
        }
    }

    #[test]
    fn the_working_set_starts_linear_and_ends_full() {
        let writes = DirtyPages::WorkingSet {
            size: Mebibytes(64.0),
            rate_mib_per_s: 8.0,
        };
        // 8 MiB/s · 1 µs = 8e-6 MiB, less 8e-6² / (2 · 64).
        assert!((writes.after(1e-6).0 - 8e-6).abs() < 1e-12);
        assert!((writes.after(1e4).0 - 64.0).abs() < 1e-12);
    }
}
