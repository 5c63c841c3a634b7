//! Decisions: plain values, taken by policies, checked by [`crate::checker`], applied by the twin.

use serde::{Deserialize, Serialize};

use crate::ids::{HostId, RequestId, VariantId};
use crate::migration::StrategyKind;

/// A joint decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Hosts to turn on or off; hosts that are not named stay as they are.
    pub provisioning: Vec<PowerAction>,
    /// Variant and hosts of waiting requests; requests that are not named go on waiting.
    pub deployments: Vec<Deployment>,
    /// Running fragments to move to other hosts; those that are not named stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub migrations: Vec<Migration>,
}

/// Turns one host on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerAction {
    /// The host.
    pub host: HostId,
    /// On (boot, or stop draining) or off (drain, then off).
    pub on: bool,
}

/// Deploys one request: the variant, and the host of each of its fragments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The request.
    pub request: RequestId,
    /// The variant.
    pub variant: VariantId,
    /// One host a fragment, in the variant's order.
    pub hosts: Vec<HostId>,
}

/// Moves one running fragment to another host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migration {
    /// The request.
    pub request: RequestId,
    /// Position of the fragment in its variant.
    pub fragment: u16,
    /// Where it goes.
    pub to: HostId,
    /// How; the world's strategy if `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<StrategyKind>,
}

impl Decision {
    /// The decision to change nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Makes this the decision to change nothing, keeping allocations.
    pub fn clear(&mut self) {
        self.provisioning.clear();
        self.deployments.clear();
        self.migrations.clear();
    }
}
