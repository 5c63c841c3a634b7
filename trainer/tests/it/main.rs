//! The commands of the trainer, as a user meets them.

mod evaluate;
mod export_decisions;
mod export_events;
mod fit;
mod import;
mod label;
mod label_log;
mod logged;
mod quickstart;
mod report;
