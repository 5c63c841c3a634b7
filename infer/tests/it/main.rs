//! Tests of the service and of the program, from outside.

mod azure;
mod azure_contract;
mod closed_loop;
mod config;
mod control;
mod decider;
mod decision_log;
mod documentation;
mod explain;
mod fleet;
mod hostile;
mod http;
mod kill;
mod model;
mod models;
mod openapi;
mod operations;
mod program;
mod round_trip;
mod secure;
mod support;
mod tls;
mod traces;
mod virtual_azure;
mod what_if;
