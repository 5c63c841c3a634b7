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
//! [`control`] carries decisions on VMs out on Azure, and [`virtual_azure`] is an Azure to try that on.

pub mod audit;
pub mod auth;
pub mod azure;
pub mod config;
pub mod control;
pub mod decider;
pub mod explain;
mod files;
pub mod fleet;
pub mod history;
pub mod log;
pub mod openapi;
pub mod pricing;
pub mod program;
pub mod range;
pub mod rate;
pub mod recent;
pub mod registry;
pub mod security;
pub mod service;
pub mod shadow;
pub mod source;
mod telemetry;
pub mod tls;
pub mod traces;
pub mod trust;
pub mod virtual_azure;

pub use twin::wire;
