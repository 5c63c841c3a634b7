//! Integration tests of the twin.

mod cli;
mod policies;
mod scenario;
