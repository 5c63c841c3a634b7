//! Migration of running containers from one host to another.
//!
//! | strategy | order of things | way back |
//! |---|---|---|
//! | stop-and-copy | pause, copy all, resume | until it has resumed |
//! | pre-copy | copy all while it runs, copy what was written meanwhile, …, pause, copy the rest, resume | until it has resumed |
//! | post-copy | pause, copy the execution state, resume, pull the memory | none after the resume |
//! | hybrid | rounds as in pre-copy; pause and copy the rest if that is short, else as in post-copy | none after a resume with pages missing |
//!
//! Pre-copy and its stop rules are those of Clark et al., "Live Migration of Virtual Machines",
//! NSDI 2005; post-copy is that of Hines and Gopalan, "Post-Copy Based Live Virtual Machine
//! Migration", VEE 2009.
//!
//! Three layers, each usable without those after it:
//!
//! - [`Migration`] is the protocol: it demands transfers and delays one after the other, and sizes
//!   the next by how long the last one took, so bandwidth may vary. [`Migration::run_at`] runs it
//!   to its end at constant bandwidth.
//! - [`Machine`] is the state machine: what has been tried, what is reserved, where the container
//!   is, and what came of it.
//! - [`Attempt`] is both under injected faults, and what a simulator drives.
//!
//! ```
//! use twin::migration::{DirtyPages, Migration, Spec, StopRules, Strategy};
//! use twin::units::{Mebibytes, MegabitsPerSecond};
//!
//! let writes = DirtyPages::WorkingSet { size: Mebibytes(256.0), rate_mib_per_s: 20.0 };
//! let spec = Spec {
//!     dirtied: writes,
//!     touched: writes,
//!     ..Spec::new(Strategy::PreCopy(StopRules::default()), Mebibytes(1024.0))
//! };
//! let report = Migration::run_at(spec, MegabitsPerSecond(1000.0))?;
//! assert!(report.downtime_s < 0.3 && report.sent >= Mebibytes(1024.0));
//! # Ok::<(), twin::migration::SpecError>(())
//! ```
//!
//! Left out: compression and deltas of pages, pages of zeros, shared storage that is copied too,
//! the CPU that migration itself takes, slower writes while they are tracked, recovery of a
//! post-copy whose link failed.

mod attempt;
mod dirty;
mod faults;
mod machine;
#[cfg(test)]
mod properties;
mod protocol;
mod spec;
mod stall;

pub use attempt::{Attempt, Ending, Order};
pub use dirty::DirtyPages;
pub use faults::{FaultProbabilities, Step};
pub use machine::{
    Cause, Event, Location, Machine, Outcome, Refused, Reservation, State, TransitionError,
};
pub use protocol::{Container, Demand, Migration, PreCopyEnd, Report, Stage};
pub use spec::{Spec, SpecError, StopRules, Strategy, StrategyKind};

use crate::units::{Mebibytes, MegabitsPerSecond};

/// The unit in which memory is tracked and pulled: 4 KiB.
pub const PAGE: Mebibytes = Mebibytes(4.0 / 1024.0);

/// `bandwidth` in MiB/s.
fn mib_per_second(bandwidth: MegabitsPerSecond) -> f64 {
    bandwidth.0 * 1e6 / 8.0 / f64::from(1 << 20)
}
