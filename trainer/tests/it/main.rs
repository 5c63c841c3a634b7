//! The commands of the trainer, as a user meets them.

mod evaluate;
mod import;
mod report;
