//! Tests of the service and of the program, from outside.

mod azure;
mod azure_contract;
mod closed_loop;
mod control;
mod decider;
mod documentation;
mod hostile;
mod http;
mod model;
mod program;
mod round_trip;
mod support;
mod virtual_azure;
