//! The digital twin: prices any joint decision before it is taken.
//!
//! ```
//! let world = twin::World::load("scinet-16")?;
//! let mut policy = twin::policy::by_name("least-loaded", &world, 1)?;
//! let run = twin::simulate::run(&world, policy.as_mut(), &twin::simulate::Options::new(7))?;
//! assert!(run.qos.objective.is_finite());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Each module says what it leaves out; of a real fleet that is mainly disks, interference beyond
//! sharing of CPUs, and faults that strike several hosts at once.

pub mod arrivals;
pub mod calibrate;
pub mod carbon;
pub mod chart;
pub mod check;
pub mod checker;
pub mod compare;
pub mod container;
pub mod cosim;
pub mod credits;
pub mod decision;
pub mod decision_log;
pub mod delay;
pub mod demand;
pub mod distribution;
pub mod episode;
pub mod estimate;
pub mod events;
pub mod faults;
pub mod files;
pub mod gap;
pub mod host;
pub mod ids;
pub mod live;
pub mod migration;
pub mod network;
pub mod objective;
pub mod observation;
pub mod policy;
pub mod qos;
mod queue;
pub mod recording;
pub mod replay;
pub mod report;
mod response;
pub mod sequence;
pub mod simulate;
pub mod sink;
pub mod snapshot;
pub mod speed;
pub mod state;
pub mod statistics;
pub mod stream;
pub mod summary;
pub mod units;
#[cfg(test)]
#[path = "../tests/it/validation.rs"]
mod validation;
pub mod what_if;
pub mod wire;
pub mod workload;
pub mod world;

pub use decision::Decision;
pub use observation::Observation;
pub use state::State;
pub use world::World;
