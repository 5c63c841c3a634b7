//! The commands of the trainer, as a user meets them.

mod evaluate;
mod export_events;
mod fit;
mod import;
mod label;
mod quickstart;
mod report;
