//! Tests of the service and of the program, from outside.

mod closed_loop;
mod config;
mod decider;
mod documentation;
mod hostile;
mod http;
mod model;
mod program;
mod round_trip;
mod secure;
mod support;
mod tls;
