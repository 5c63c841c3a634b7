//! Integration tests of the twin.

mod cli;
mod cosim;
mod gap;
mod policies;
mod scenario;
