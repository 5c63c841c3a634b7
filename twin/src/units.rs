//! Quantities: newtypes over numbers, with only the operators that mean something.
//!
//! Simulated time is an integer number of nanoseconds ([`SimTime`]), so that two machines order
//! the same events in the same way; everything else is an `f64` in the unit that the name says.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

use serde::{Deserialize, Serialize};

/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: f64 = 1e9;

/// A moment or a span of simulated time, in whole nanoseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct SimTime(pub u64);

impl SimTime {
    /// The start of a simulation.
    pub const ZERO: Self = Self(0);
    /// Later than every event: "never".
    pub const NEVER: Self = Self(u64::MAX);

    /// The nearest whole nanosecond to `seconds`; negative values become zero, values beyond the
    /// range become [`SimTime::NEVER`].
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float to integer casts saturate, which is the documented behavior"
    )]
    pub fn from_seconds(seconds: f64) -> Self {
        // Not `round`, which is a call on processors without an instruction for it.
        Self((seconds * NANOS_PER_SECOND + 0.5) as u64)
    }

    /// The first whole nanosecond that is not before `seconds`.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "float to integer casts saturate, which is the documented behavior"
    )]
    pub fn from_seconds_ceil(seconds: f64) -> Self {
        let nanos = seconds * NANOS_PER_SECOND;
        let whole = nanos as u64;
        Self(whole.saturating_add(u64::from(to_f64(whole) < nanos)))
    }

    /// This time in seconds.
    #[must_use]
    pub fn seconds(self) -> f64 {
        to_f64(self.0) / NANOS_PER_SECOND
    }

    /// The span from `earlier` to `self`, zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// `self + span`, at most [`SimTime::NEVER`].
    #[must_use]
    pub fn after(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// `count as f64`, by the one instruction that processors have for numbers with a sign.
fn to_f64(count: u64) -> f64 {
    i64::try_from(count).map_or(count as f64, |count| count as f64)
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.9} s", self.seconds())
    }
}

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub f64);

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(values: I) -> Self {
                values.fold(Self(0.0), Add::add)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} {}", self.0, $unit)
            }
        }
    };
}

quantity!(
    /// Electrical power.
    Watts, "W");
quantity!(
    /// Energy.
    Joules, "J");
quantity!(
    /// Money, in United States dollars.
    Usd, "USD");
quantity!(
    /// Speed of computation, in million instructions per second.
    Mips, "MIPS");
quantity!(
    /// Work, in million instructions.
    MillionInstructions, "MI");
quantity!(
    /// Memory, in 2^20 bytes.
    Mebibytes, "MiB");
quantity!(
    /// Network bandwidth, in 10^6 bits per second.
    MegabitsPerSecond, "Mbit/s");
quantity!(
    /// A share between 0 and 1.
    Ratio, "");

impl Joules {
    /// This energy in watt-hours.
    #[must_use]
    pub fn watt_hours(self) -> f64 {
        self.0 / 3600.0
    }
}
