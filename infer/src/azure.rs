//! A thin client of Azure Resource Manager: VMs, scale sets, metrics, tags.
//!
//! It stands on the pipeline of `azure_core` with its bearer token policy. What the pipeline leaves
//! to its users is here: a token goes to the configured endpoint alone ([`endpoint`], enforced by
//! the transport below every policy), `nextLink`, `Location` and `Azure-AsyncOperation` are checked
//! before they are followed, long-running operations are interpreted ([`operation`]), waits that a
//! server asks for are capped, a write is sent again only where it certainly was not carried out
//! ([`retry`]), requests keep to the documented rates ([`throttle`]), and errors tell their causes.
//!
//! Facts come from the OpenAPI documents of Microsoft.Compute 2024-07-01, Microsoft.Insights
//! 2024-02-01 and Microsoft.Resources 2021-04-01, and from "Resource Manager throttling" (token
//! buckets for each subscription and region).
//!
//! Left out: everything that a control loop does not need, as creating and deleting VMs; the batch
//! interface of Insights; certificates as credentials.

mod client;
mod credential;
pub mod endpoint;
mod error;
pub mod metrics;
pub mod model;
pub mod operation;
mod resource;
pub mod retry;
pub mod throttle;
pub(crate) mod transport;

pub(crate) use client::tag;
pub use client::{Client, Limits, Scope};
pub use credential::{CredentialKind, Environment, chain};
pub use endpoint::{Endpoint, Origin};
pub use error::{AzureError, causes};
pub use model::{ScaleSet, Status, Vm};
pub use operation::{Operation, Progress, Submitted};
pub use resource::ResourceId;
