//! The controller of an edge-cloud cluster of containers.
//!
//! [`plan`] holds its rule as functions of plain values; nothing there knows of the twin's state.

pub mod plan;
