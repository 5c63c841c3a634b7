//! A virtual Azure: a Resource Manager in front of a running twin.
//!
//! The hosts of a world are VMs (or instances of scale sets) that unmodified Azure clients list,
//! start, deallocate, create, delete, restart and meter; what they do happens in the twin, with
//! its boot times, drains, arrivals and bills. [`Server::start`] serves it in this process, the
//! program `virtual-azure` in one of its own.
//!
//! ```
//! use std::sync::Arc;
//! use infer::virtual_azure::{Options, Server};
//! let world = Arc::new(twin::World::load("scinet-16")?);
//! let server = Server::start(Options::stepped(world))?;
//! assert!(server.url().starts_with("https://"));
//! assert!(server.ca_pem().is_some_and(|pem| pem.contains("BEGIN CERTIFICATE")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **How the twin and the Resource Manager agree.** A VM's power state is read off the twin's host
//! whenever it is asked for: off is `deallocated` (or `stopped`, after a power-off), booting is
//! `starting`, on is `running`, draining is `deallocating` (or `stopping`). Actions change the twin
//! through its own provisioning and nothing else, so there is no second state that could differ.
//!
//! Where the facts come from: the official OpenAPI documents of `Microsoft.Compute` 2024-07-01,
//! `Microsoft.Insights` 2023-10-01 and 2024-02-01 and `Microsoft.Resources`; Azure's documentation
//! of asynchronous operations and of throttling. Any `api-version` is taken.
//!
//! Left out: disks, networks and images (they are shown, and nothing is made of them), role
//! assignments (each token may do everything), resizing, several subscriptions. A VM that is
//! stopped and not deallocated costs nothing, unlike in Azure: the twin has no such state. Stopping
//! of any kind lets running work end first.

mod access;
mod answer;
mod arm;
mod certificates;
mod clock;
mod cloud;
mod control;
mod deploy;
mod engine;
mod faults;
mod history;
mod http;
mod journal;
mod machine;
mod metrics;
mod operations;
mod options;
pub mod program;
mod scale_sets;
mod server;
mod throttle;

pub use self::clock::ClockKind;
pub use self::deploy::DeployerChoice;
pub use self::faults::{FaultKind, FaultSettings, FaultWeights};
pub use self::options::{Layout, Options};
pub use self::server::{Server, StartError};
