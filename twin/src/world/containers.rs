//! Long-running containers of a world: `[[containers]]`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::container::DemandTrace;
use crate::ids::{ContainerId, HostId};
use crate::units::{Mebibytes, Mips, SimTime};

/// The most containers a world may have.
pub const MAX_CONTAINERS: usize = 10_000;
/// The most steps of a demand that is written in the world file.
pub const MAX_STEPS: usize = 10_000;

/// Who gets the CPU of a host that is short of it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum CpuShare {
    /// Containers before all fragments: what is set aside for them is theirs.
    First,
    /// Each container and each fragment alike.
    #[default]
    Fair,
    /// Containers get what fragments leave.
    Last,
}

/// How a container gets its host where the file does not name one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContainerPlacement {
    /// The host with the least of its virtual CPUs set aside, the first of several.
    #[default]
    LeastReserved,
    /// The first host that has as many virtual CPUs left that are not set aside.
    FirstFit,
}

/// `[[containers]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerFile {
    /// Name; several of a group are numbered.
    pub name: String,
    /// How many; each takes the next column or job of its demand.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u32,
    /// Name of its host; chosen by `placement` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How its host is chosen; `least-reserved` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<ContainerPlacement>,
    /// Its size in virtual CPUs: what is set aside where it is placed, and 100 % of a recorded use.
    pub vcpus: f64,
    /// Its memory, in MiB.
    #[serde(default)]
    pub ram_mib: f64,
    /// When it starts, in s.
    #[serde(default)]
    pub start_s: f64,
    /// When it is stopped, in s; with its demand if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_s: Option<f64>,
    /// Its share of the CPU of a host that is short of it.
    #[serde(default)]
    pub share: CpuShare,
    /// What it wants.
    pub demand: DemandFile,
}

/// `containers.demand`: the CPU that a container wants over time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum DemandFile {
    /// Written here.
    Steps {
        /// One after the other.
        steps: Vec<StepFile>,
        /// Whether it begins anew at its end; the container ends with it if not.
        #[serde(default)]
        repeat: bool,
    },
    /// A column of a table in percent of the container ([`crate::container::columns`]).
    Columns {
        /// A path relative to the world file.
        file: String,
        /// Name of the column; of a group, that of the first.
        column: String,
        /// Whether it begins anew at its end; the container ends with it if not.
        #[serde(default)]
        repeat: bool,
    },
    /// A job of a recording of containers ([`crate::replay::containers`]), whose reserved speed is
    /// the size of the container.
    Recording {
        /// A path relative to the world file.
        folder: String,
        /// Number of the job; of a group, that of the first.
        job: u64,
        /// Whether it begins anew at its end; the container ends with it if not.
        #[serde(default)]
        repeat: bool,
    },
}

/// A step of a demand.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepFile {
    /// How long it lasts, in s.
    pub duration_s: f64,
    /// What is wanted, in virtual CPUs of the host.
    pub vcpus: f64,
}

fn one() -> u32 {
    1
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_one(count: &u32) -> bool {
    *count == 1
}

/// A long-running container.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Its name.
    pub name: String,
    /// Where it runs.
    pub host: HostId,
    /// Its size in virtual CPUs.
    pub vcpus: f64,
    /// Its memory.
    pub ram: Mebibytes,
    /// When it starts.
    pub start: SimTime,
    /// When it is stopped, if its demand has not ended before; [`SimTime::NEVER`] if it is not.
    pub stop: SimTime,
    /// Its share of the CPU.
    pub share: CpuShare,
    /// What it wants from its start on, where one MIPS counts as 10⁶ cycles a second.
    pub demand: Arc<DemandTrace>,
    /// Whether its demand begins anew at its end.
    pub repeat: bool,
}

impl ContainerSpec {
    /// When it is gone.
    #[must_use]
    pub fn end(&self) -> SimTime {
        if self.repeat {
            self.stop
        } else {
            self.stop.min(self.start.after(self.demand.duration()))
        }
    }
}

/// The containers of a world, and what they leave to fragments.
#[derive(Clone, Debug, Default)]
pub struct Containers {
    list: Vec<ContainerSpec>,
    /// Those of each host; empty where there are none at all.
    of_host: Vec<Vec<ContainerId>>,
    /// The most memory that they hold at a time on each host, in MiB.
    held_mib: Vec<f64>,
}

impl Containers {
    /// The containers of `list` on as many hosts.
    pub(super) fn new(list: Vec<ContainerSpec>, hosts: usize) -> Self {
        if list.is_empty() {
            return Self::default();
        }
        let mut of_host = vec![Vec::new(); hosts];
        for (c, spec) in list.iter().enumerate() {
            of_host[spec.host.index()].push(ContainerId::at(c));
        }
        let held_mib = of_host
            .iter()
            .map(|ids| most_held_mib(&list, ids))
            .collect();
        Self {
            list,
            of_host,
            held_mib,
        }
    }

    /// Those of the hosts `kept` alone, which are numbered anew in that order.
    pub(crate) fn on(&self, kept: &[usize]) -> Self {
        let mut list = Vec::new();
        for spec in &self.list {
            if let Some(h) = kept.iter().position(|&h| h == spec.host.index()) {
                let host = HostId::at(h);
                list.push(ContainerSpec {
                    host,
                    ..spec.clone()
                });
            }
        }
        Self::new(list, kept.len())
    }

    /// All of them, in the order of the file.
    #[must_use]
    pub fn list(&self) -> &[ContainerSpec] {
        &self.list
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: ContainerId) -> &ContainerSpec {
        &self.list[id.index()]
    }

    /// Those of host `host`.
    #[must_use]
    pub fn of_host(&self, host: usize) -> &[ContainerId] {
        self.of_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// The most memory that they hold at a time on host `host`.
    #[must_use]
    pub fn held(&self, host: usize) -> Mebibytes {
        Mebibytes(self.held_mib.get(host).copied().unwrap_or(0.0))
    }

    /// What their demand comes to at most, on host `host`: the sum of the peaks.
    #[must_use]
    pub fn peak(&self, host: usize) -> Mips {
        let ids = self.of_host(host).iter();
        Mips(ids.map(|&id| self.get(id).demand.peak().mhz()).sum())
    }
}

/// The most memory that containers `ids` hold at a time, in MiB.
fn most_held_mib(list: &[ContainerSpec], ids: &[ContainerId]) -> f64 {
    let mut changes: Vec<(SimTime, bool, f64)> = Vec::new();
    for id in ids {
        let spec = &list[id.index()];
        changes.push((spec.start, true, spec.ram.0));
        changes.push((spec.end(), false, spec.ram.0));
    }
    // What ends at a moment makes room for what starts then.
    changes.sort_by_key(|change| (change.0, change.1));
    let (mut now, mut most) = (0.0_f64, 0.0_f64);
    for (_, starts, mib) in changes {
        now += if starts { mib } else { -mib };
        most = most.max(now);
    }
    most
}
