//! The learned policy: what it sees, what it is, and how it answers.
//!
//! Not here: labels and training, which are the `trainer`'s.

pub mod encoding;
#[cfg(feature = "burn")]
pub mod network;
pub mod weights;
