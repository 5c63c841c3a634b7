//! Decides online: a fleet's state in, a checked decision out.
//!
//! ```
//! use std::sync::Arc;
//!
//! use infer::decider::Decider;
//! use infer::source::Source;
//! use twin::observation::Observation;
//! use twin::state::{Epoch, State};
//!
//! let world = Arc::new(twin::World::load("scinet-16")?);
//! let mut decider = Decider::new(&world, &Source::named("least-loaded"), 1)?;
//! let state = State::new(&world);
//! let view = Observation::new(&world, &state, Epoch::Boundary).view();
//! let outcome = decider.decide(&view)?;
//! assert!(outcome.fallback.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every decision is held against the state by [`twin::checker`] before it leaves; one that cannot
//! be carried out is replaced by the fallback policy's, and counted.
//!
//! Left out: transport encryption and authentication, which a proxy in front adds; carrying
//! decisions out.

pub mod azure;
pub mod control;
pub mod decider;
pub mod program;
pub mod service;
pub mod source;
mod telemetry;
pub mod virtual_azure;

pub use twin::wire;
