//! Tests of the service and of the program, from outside.

mod closed_loop;
mod decider;
mod documentation;
mod explain;
mod hostile;
mod http;
mod model;
mod models;
mod program;
mod round_trip;
mod support;
mod what_if;
