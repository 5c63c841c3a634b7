//! The learned policy: what it sees, what it is, and how it answers.
//!
//! ```no_run
//! let world = twin::World::load("azure-llm")?;
//! let mut policy = models::ModelPolicy::load("models/azure-llm".as_ref())?;
//! let run = twin::simulate::run(&world, &mut policy, &twin::simulate::Options::new(7))?;
//! println!("{}: {}", policy.config().world, run.qos.objective);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`encoding`] turns a question into numbers, [`forward`] scores its answers without burn,
//! `network` is the same in burn for training, [`weights`] and [`folder`] keep a model,
//! [`policy`] lets it decide, and [`ranges`] tells inputs that training never saw.
//!
//! Not here: labels and training, which are the `trainer`'s.

pub mod encoding;
pub mod folder;
pub mod forward;
#[cfg(feature = "burn")]
pub mod network;
pub mod policy;
pub mod ranges;
pub mod weights;

pub use folder::{ModelError, ModelFolder};
pub use policy::ModelPolicy;
pub use ranges::Ranges;
