//! Readers, copies, plain files and decision datasets, by way of the public interface.

mod copies;
mod decisions;
mod plain;
mod readers;
mod speeds;
