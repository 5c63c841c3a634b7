//! Integration tests of the twin.

mod changes;
mod cli;
mod closed_forms;
mod containers;
mod cosim;
mod delay;
mod gap;
mod mechanics;
mod migration;
mod peers;
mod policies;
mod properties;
mod replay;
mod scenario;
mod small_worlds;
mod statistics;
mod testbed;
mod validation;
mod views;
mod walk;
mod what_if;
