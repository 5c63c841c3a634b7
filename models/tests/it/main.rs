//! Tests of the learned policy: encoding, agreement of both networks, model folders.

#[cfg(feature = "burn")]
mod agreement;
mod common;
mod encoding;
mod folder;
mod policy;
