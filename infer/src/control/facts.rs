//! What is observed of the fleet, as values: power states, provisioning states, metrics.
//!
//! Codes are those of the instance view of Microsoft.Compute, `PowerState/…` and
//! `ProvisioningState/…`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::azure::metrics::Measured;
use crate::azure::{ResourceId, Status};

/// Whether a VM runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Power {
    /// It is starting.
    Starting,
    /// It runs.
    Running,
    /// It is stopping, and stays allocated.
    Stopping,
    /// It is off and allocated: it serves nothing and is billed.
    Stopped,
    /// It is being deallocated.
    Deallocating,
    /// It is off and costs nothing.
    Deallocated,
    /// Nobody says.
    Unknown,
}

impl Power {
    /// The power state that the statuses of an instance view tell.
    #[must_use]
    pub fn of(statuses: &[Status]) -> Self {
        let code = |status: &Status| {
            let (kind, value) = status.code.split_once('/')?;
            kind.eq_ignore_ascii_case("PowerState")
                .then(|| value.to_ascii_lowercase())
        };
        let Some(value) = statuses.iter().find_map(code) else {
            return Self::Unknown;
        };
        match value.as_str() {
            "starting" => Self::Starting,
            "running" => Self::Running,
            "stopping" => Self::Stopping,
            "stopped" => Self::Stopped,
            "deallocating" => Self::Deallocating,
            "deallocated" => Self::Deallocated,
            _ => Self::Unknown,
        }
    }
}

/// What is observed of a VM.
#[derive(Clone, Debug, PartialEq)]
pub struct VmFacts {
    /// Its id.
    pub id: ResourceId,
    /// Its name, as written.
    pub name: String,
    /// Its region.
    pub location: String,
    /// Its size.
    pub size: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Whether it runs.
    pub power: Power,
    /// Whether it is being deleted, and so is no longer anybody's to start.
    pub deleting: bool,
    /// Utilization of its virtual CPUs in percent.
    pub cpu: Option<Measured>,
    /// CPU credits left.
    pub credits: Option<Measured>,
}

/// What is observed of a scale set.
#[derive(Clone, Debug, PartialEq)]
pub struct SetFacts {
    /// Its id.
    pub id: ResourceId,
    /// Its name, as written.
    pub name: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// How many VMs it is to have.
    pub capacity: u32,
    /// How many of them run.
    pub running: u32,
}

/// What is observed of the fleet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// VMs by id.
    pub vms: BTreeMap<ResourceId, VmFacts>,
    /// Scale sets by id.
    pub sets: BTreeMap<ResourceId, SetFacts>,
}

impl VmFacts {
    /// The age of the newest metric at `now`, in s; `None` where there is none.
    #[must_use]
    pub fn metric_age_s(&self, now: Timestamp) -> Option<f64> {
        let at = self.cpu?.at;
        Some(now.duration_since(at).as_secs_f64().max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn power(code: &str) -> Power {
        let status = |code: &str| Status {
            code: code.into(),
            message: None,
        };
        Power::of(&[status("ProvisioningState/succeeded"), status(code)])
    }

    #[test]
    fn codes_of_instance_views() {
        assert_eq!(power("PowerState/running"), Power::Running);
        assert_eq!(power("powerstate/Deallocated"), Power::Deallocated);
        assert_eq!(power("PowerState/stopped"), Power::Stopped);
        assert_eq!(power("PowerState/hibernated"), Power::Unknown);
        assert_eq!(power("OSState/generalized"), Power::Unknown);
        assert_eq!(Power::of(&[]), Power::Unknown);
    }
}
