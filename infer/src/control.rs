//! The control loop: every interval it looks at the VMs of a fleet, decides, and acts.
//!
//! ```text
//! observe ──► twin ──► decide ──► check ──► guard ──► act
//!  facts      view    decision   wishes   proposals  actions, each written down before it is taken
//! ```
//!
//! Each step is a function of values; only [`controller`] does input and output. The loop is
//! level-triggered: what it does follows from what is wanted and what is seen, so that it can be
//! killed at any moment and goes on where it was. A [`lease`] keeps two copies from acting at once.
//! Nothing is done unless the program is told to apply what it decides.
//!
//! Left out: creating and deleting VMs; placing requests, which deployers ask the service for;
//! choosing which VM of a scale set goes, which Azure does.

pub mod action;
pub mod brain;
pub mod cloud;
pub mod controller;
pub mod expect;
pub mod facts;
pub mod fleet;
pub mod guard;
pub mod journal;
pub mod lease;
pub mod ledger;
pub mod mapping;
pub mod pattern;
pub mod reconcile;
pub mod report;
pub mod run;
pub mod settings;
pub mod standing;
pub mod telemetry;
#[cfg(test)]
mod test_fleet;
pub mod view;
pub mod window;
