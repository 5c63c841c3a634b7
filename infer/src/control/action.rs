//! Actions and their records: what is written to the action log.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::azure::{Operation, ResourceId};

/// Version of the records.
pub const SCHEMA: u32 = 1;

/// A change of a VM or a scale set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Change {
    /// Start the VM.
    Start,
    /// Deallocate the VM.
    Deallocate,
    /// Set how many VMs the scale set is to have.
    Capacity {
        /// How many it had.
        from: u32,
        /// How many it is to have.
        to: u32,
    },
}

impl Change {
    /// How many VMs it turns on, or off if negative.
    #[must_use]
    pub fn vms(self) -> i64 {
        match self {
            Self::Start => 1,
            Self::Deallocate => -1,
            Self::Capacity { from, to } => i64::from(to) - i64::from(from),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Deallocate => f.write_str("deallocate"),
            Self::Capacity { from, to } => write!(f, "capacity {from} to {to}"),
        }
    }
}

/// Where an action is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It will be submitted next; written before it is.
    Planned,
    /// It was accepted.
    Submitted,
    /// The answer was lost: whether it was carried out is found by looking.
    Unknown,
    /// It was carried out.
    Succeeded,
    /// It was not carried out, or gave way to another.
    Failed,
}

impl Phase {
    /// Whether nothing comes after it.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// What an action is to do, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What is acted upon.
    pub target: ResourceId,
    /// Its name.
    pub name: String,
    /// What is done.
    pub change: Change,
    /// Why.
    pub reason: String,
    /// Who decided: a policy or a guardrail.
    pub decided_by: String,
    /// Which copy of the program acts.
    pub holder: String,
    /// Number of the interval.
    pub interval: u64,
    /// Change of the fleet's price, in USD per hour.
    pub price_change_usd_per_hour: f64,
    /// What the twin expects of it: gain of the objective against leaving it out, in s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_gain_s: Option<f64>,
}

/// A line of the action log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Version of the record: [`SCHEMA`].
    pub schema: u32,
    /// Number of the record, from 1.
    pub seq: u64,
    /// When it was written.
    #[serde(with = "moment")]
    pub at: Timestamp,
    /// Number of the action, from 1.
    pub action: u64,
    /// Where it is in its life.
    pub phase: Phase,
    /// What it is to do; with `planned` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Where its progress can be read; with `submitted` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// What happened, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Moments as text (RFC 3339).
mod moment {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(at)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}
