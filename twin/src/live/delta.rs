//! What telemetry says: one thing that happened, and when.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::ids::{ApplicationId, HostId, RequestId, VariantId};
use crate::units::SimTime;

/// Something that happened in the fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// When.
    pub at: SimTime,
    /// What.
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A request arrived. Numbers rise with arrival, but need not be dense.
    Arrived {
        /// The request.
        request: RequestId,
        /// What it asks for.
        application: ApplicationId,
        /// Length of its input, in tokens.
        context_tokens: u32,
    },
    /// A request was deployed; takes the place of an earlier deployment.
    Deployed {
        /// The request.
        request: RequestId,
        /// The variant.
        variant: VariantId,
        /// One host a fragment, in the variant's order.
        hosts: Vec<HostId>,
    },
    /// A fragment started to run: it has had its inputs.
    Started {
        /// The request.
        request: RequestId,
        /// Position of the fragment in its variant.
        fragment: u16,
        /// Where; checked where it is told.
        host: Option<HostId>,
    },
    /// A fragment ended.
    Finished {
        /// The request.
        request: RequestId,
        /// Position of the fragment in its variant.
        fragment: u16,
        /// Where; checked where it is told.
        host: Option<HostId>,
        /// Length of the answer in tokens, where the fragment tells.
        generated_tokens: Option<u32>,
    },
    /// A request was answered: the users have what they asked for.
    Answered {
        /// The request.
        request: RequestId,
    },
    /// A request is gone without an answer.
    Failed {
        /// The request.
        request: RequestId,
    },
    /// A request lost what ran for it, and waits as if it had not been deployed.
    Withdrawn {
        /// The request.
        request: RequestId,
    },
    /// The migration of a fragment ended: it is on this host now.
    Moved {
        /// The request.
        request: RequestId,
        /// Position of the fragment in its variant.
        fragment: u16,
        /// Where it is.
        host: HostId,
    },
    /// A host was seen in this part of its life.
    Host {
        /// The host.
        host: HostId,
        /// Where it is in its life.
        lifecycle: Lifecycle,
    },
    /// A host was measured.
    Sample(Sample),
}

/// Where a host was seen to be in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifecycle {
    /// It does not run; what was on it is lost.
    Off,
    /// It starts.
    Booting {
        /// When it is expected to serve; after the boot time of its size where that is not told.
        ready_at: Option<SimTime>,
    },
    /// It serves.
    On,
    /// It serves what is on it, and takes nothing new.
    Draining,
    /// It lost what was on it and starts again.
    Crashed {
        /// When it is expected to serve; after the restart time of the world where that is not told.
        ready_at: Option<SimTime>,
    },
}

/// What a host was measured to show.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The host.
    pub host: HostId,
    /// Over how long utilization and power are averaged; since the last sample where not told.
    pub span: Option<SimTime>,
    /// Share of its virtual CPUs in use, between 0 and 1.
    pub utilization: Option<f64>,
    /// Power, in W.
    pub power_w: Option<f64>,
    /// Speed relative to the rated one; taken over.
    pub speed: Option<f64>,
    /// CPU credits left; taken over.
    pub credits: Option<f64>,
}

/// Why a delta changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Ignored {
    /// It was known already.
    Known,
    /// Its request has ended.
    Ended,
    /// Its request is not deployed any more.
    NotDeployed,
    /// Something newer is known.
    Outdated,
    /// By the twin's account its host lacks the memory: the end of something there is missing.
    NoMemory,
    /// Its fragment is paused by a migration, or its migration has not begun.
    Migrating,
    /// A host that it names does not run by now.
    HostOff,
}

/// Why a delta cannot be true of this fleet.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("deltas[{index}].{field}: {problem}")]
pub struct DeltaError {
    /// Its position in the list.
    pub index: usize,
    /// Path of its field.
    pub field: String,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Event {
    /// The request that it is about.
    #[must_use]
    pub fn request(&self) -> Option<RequestId> {
        match *self {
            Self::Arrived { request, .. }
            | Self::Deployed { request, .. }
            | Self::Started { request, .. }
            | Self::Finished { request, .. }
            | Self::Answered { request }
            | Self::Failed { request }
            | Self::Withdrawn { request }
            | Self::Moved { request, .. } => Some(request),
            Self::Host { .. } | Self::Sample(_) => None,
        }
    }
}
