//! Integration tests of the twin.

mod changes;
mod cli;
mod closed_forms;
mod delay;
mod gap;
mod policies;
mod properties;
mod scenario;
mod small_worlds;
mod statistics;
mod views;
mod walk;
mod what_if;
