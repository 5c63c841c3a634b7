//! Integration tests of the twin.

mod cli;
mod gap;
mod policies;
mod scenario;
mod testbed;
