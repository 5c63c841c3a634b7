//! Integration tests of the twin.

mod cli;
mod gap;
mod peers;
mod policies;
mod scenario;
