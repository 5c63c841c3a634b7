//! Integration tests of the twin.

mod cli;
mod delay;
mod gap;
mod policies;
mod scenario;
