//! A machine: a VM, or an instance of a scale set, that stands for one host of the world.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use serde_json::{Map, Value};
use twin::host::Lifecycle;
use twin::ids::HostId;
use twin::units::SimTime;

use super::operations::OperationId;

/// The tag that names the host of the world behind a VM.
pub(super) const HOST_TAG: &str = "codesign-host";
/// Past states that are kept of a machine, for stale reads.
const MOST_PAST: usize = 32;

/// Names a machine; names are in lower case, since Azure does not tell cases apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MachineKey {
    /// A VM.
    Vm(String),
    /// An instance of a scale set.
    Instance(String, u32),
}

impl fmt::Display for MachineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vm(name) => f.write_str(name),
            Self::Instance(set, number) => write!(f, "{set}/{number}"),
        }
    }
}

impl MachineKey {
    /// The VM called `name`.
    pub(super) fn vm(name: &str) -> Self {
        Self::Vm(name.to_lowercase())
    }
}

/// What Azure calls the power state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    Starting,
    Running,
    Stopping,
    Stopped,
    Deallocating,
    Deallocated,
}

impl Power {
    /// The power state of a machine whose host is in `lifecycle`; `halted` if it was powered off
    /// and not deallocated.
    pub(super) fn of(lifecycle: Lifecycle, halted: bool) -> Self {
        match (lifecycle, halted) {
            (Lifecycle::Off, false) => Self::Deallocated,
            (Lifecycle::Off, true) => Self::Stopped,
            (Lifecycle::Booting { .. }, _) => Self::Starting,
            (Lifecycle::On, _) => Self::Running,
            (Lifecycle::Draining, false) => Self::Deallocating,
            (Lifecycle::Draining, true) => Self::Stopping,
        }
    }

    /// The code of the status, without `PowerState/`.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Deallocating => "deallocating",
            Self::Deallocated => "deallocated",
        }
    }
}

/// What Azure calls the provisioning state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Provisioning {
    Creating,
    Updating,
    Deleting,
    Succeeded,
    Failed,
}

impl Provisioning {
    /// As properties have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Updating => "Updating",
            Self::Deleting => "Deleting",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// What the instance view says of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) power: Power,
    pub(super) provisioning: Provisioning,
    /// Since when.
    pub(super) since: SimTime,
}

/// A machine.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// The name as it was given; of an instance, `scale set_number`.
    pub(super) name: String,
    pub(super) host: HostId,
    pub(super) created: SimTime,
    pub(super) tags: BTreeMap<String, String>,
    /// `properties` as the client gave them, without secrets.
    pub(super) properties: Map<String, Value>,
    /// Counts changes of tags and properties.
    pub(super) version: u64,
    /// Powered off and not deallocated.
    pub(super) halted: bool,
    /// Whether the last operation failed.
    pub(super) failed: bool,
    /// The operation under way.
    pub(super) operation: Option<OperationId>,
    /// What the status was, the present one last.
    past: VecDeque<Status>,
}

impl Machine {
    pub(super) fn new(name: String, host: HostId, created: SimTime) -> Self {
        Self {
            name,
            host,
            created,
            tags: BTreeMap::new(),
            properties: Map::new(),
            version: 1,
            halted: false,
            failed: false,
            operation: None,
            past: VecDeque::new(),
        }
    }

    /// Remembers that power and provisioning state are these from `now` on.
    pub(super) fn note(&mut self, now: SimTime, power: Power, provisioning: Provisioning) {
        let same = |last: &Status| (last.power, last.provisioning) == (power, provisioning);
        if self.past.back().is_some_and(same) {
            return;
        }
        if self.past.len() == MOST_PAST {
            self.past.pop_front();
        }
        self.past.push_back(Status {
            power,
            provisioning,
            since: now,
        });
    }

    /// What the status was at `at`; the oldest that is known where it was earlier.
    pub(super) fn status(&self, at: SimTime) -> Option<Status> {
        let known = self.past.partition_point(|status| status.since <= at);
        self.past.get(known.saturating_sub(1)).copied()
    }

    /// The entity tag.
    pub(super) fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_follows_the_host() {
        let ready_at = SimTime::ZERO;
        for (lifecycle, halted, code) in [
            (Lifecycle::Off, false, "deallocated"),
            (Lifecycle::Off, true, "stopped"),
            (Lifecycle::Booting { ready_at }, true, "starting"),
            (Lifecycle::On, false, "running"),
            (Lifecycle::Draining, false, "deallocating"),
            (Lifecycle::Draining, true, "stopping"),
        ] {
            assert_eq!(Power::of(lifecycle, halted).code(), code);
        }
    }

    #[test]
    fn the_past_is_kept_for_a_while() {
        let mut machine = Machine::new("vm".into(), HostId(0), SimTime::ZERO);
        assert_eq!(machine.status(SimTime(5)), None);
        machine.note(SimTime(10), Power::Running, Provisioning::Succeeded);
        machine.note(SimTime(15), Power::Running, Provisioning::Succeeded);
        machine.note(SimTime(20), Power::Deallocating, Provisioning::Updating);
        let power = |at| machine.status(SimTime(at)).map(|s| s.power);
        assert_eq!(power(5), Some(Power::Running), "the oldest known");
        assert_eq!(power(19), Some(Power::Running));
        assert_eq!(power(20), Some(Power::Deallocating));
        for k in 0..100 {
            let (power, at) = if k % 2 == 0 {
                (Power::Running, 30 + k)
            } else {
                (Power::Stopped, 30 + k)
            };
            machine.note(SimTime(at), power, Provisioning::Succeeded);
        }
        assert_eq!(machine.past.len(), MOST_PAST);
    }
}
