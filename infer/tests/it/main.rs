//! Tests of the service and of the program, from outside.

mod closed_loop;
mod decider;
mod documentation;
mod fleet;
mod hostile;
mod http;
mod model;
mod program;
mod round_trip;
mod support;
