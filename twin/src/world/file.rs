//! The schema of world files, version 1.
//!
//! Every key carries its unit; unknown keys are errors.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::containers::ContainerFile;
use super::{Dispatch, MigrationFile, SiteKind};
use crate::distribution::Distribution;
use crate::objective::Objective;

/// The version of the schema that this crate reads.
pub const SCHEMA: u32 = 1;

/// A world file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorldFile {
    /// Version of the schema: 1.
    pub schema: u32,
    /// Name of the world.
    pub name: String,
    /// What it models.
    pub description: String,
    /// Length of an interval, in s.
    pub interval_s: f64,
    /// When requests are dispatched.
    #[serde(default)]
    pub dispatch: Dispatch,
    /// Length of an episode, in intervals.
    pub episode_intervals: u32,
    /// What is maximized.
    pub objective: Objective,
    /// How requests arrive.
    pub workload: WorkloadFile,
    /// Sites.
    pub sites: Vec<SiteFile>,
    /// Links between sites; both directions unless the reverse is listed too.
    #[serde(default)]
    pub links: Vec<LinkFile>,
    /// VM sizes.
    pub sizes: Vec<SizeFile>,
    /// Groups of equal hosts.
    pub hosts: Vec<HostGroupFile>,
    /// How running fragments are moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<MigrationFile>,
    /// Models that fragments load before they run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelFile>,
    /// Long-running containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<ContainerFile>,
    /// Applications.
    pub applications: Vec<ApplicationFile>,
    /// Requests that may be under way; those beyond are rejected. No limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_active_requests: Option<u32>,
    /// What goes wrong; nothing if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<FaultsFile>,
}

impl WorldFile {
    /// The names of the hosts, in their order: size, site, and a number among those of both.
    #[must_use]
    pub fn host_names(&self) -> Vec<String> {
        let mut numbers: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        let mut names = Vec::new();
        for group in &self.hosts {
            let (size, site) = (group.size.as_str(), group.site.as_str());
            let number = numbers.entry((size, site)).or_default();
            for _ in 0..group.count {
                *number += 1;
                names.push(format!("{size}-{site}-{number:02}"));
            }
        }
        names
    }
}

/// `[faults]`: times between faults are exponential; a fault without its mean time never happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultsFile {
    /// Mean time between crashes of a host, in s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash_every_s: Option<f64>,
    /// Time that a crashed host takes to come back, in s.
    pub restart_s: f64,
    /// Mean time between slow spells of a host, in s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_every_s: Option<f64>,
    /// Length of a slow spell, in s.
    pub slow_for_s: f64,
    /// Speed of a host in a slow spell, relative to what it is otherwise.
    pub slow_factor: f64,
    /// Mean time between failures of a link, in s, each direction for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_down_every_s: Option<f64>,
    /// Length of a link's failure, in s.
    pub link_down_for_s: f64,
    /// Probability that a host that is started finds no room in the cloud, and is off again.
    pub allocation_failure: f64,
}

/// `[[models]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Name, referred to by fragments.
    pub name: String,
    /// Memory while it is loaded, in MiB.
    pub ram_mib: f64,
    /// Time to load it on a host, in s.
    pub load_s: f64,
}

/// `[sizes.credits]`: CPU credits of a burstable size; one is a minute of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditsFile {
    /// Credits of a VM that starts.
    pub initial: f64,
    /// Credits earned per hour.
    pub per_hour: f64,
    /// The most that a VM can have.
    pub maximum: f64,
}

/// `[workload]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum WorkloadFile {
    /// Blocks of a recorded trace.
    Trace {
        /// Name of an embedded arrivals file, or a path relative to the world file.
        arrivals: String,
        /// Mean length of the blocks that an episode is put together from, in s.
        block_s: f64,
        /// Stretches of this length belong to training and to held-out runs in turn, in s.
        split_every_s: f64,
    },
    /// A batch at each interval boundary: max(minimum, ⌊N(mean, sd)⌋) requests.
    Batch {
        /// Mean of the normal distribution.
        mean: f64,
        /// Its standard deviation.
        sd: f64,
        /// The least number of requests in a batch.
        minimum: u32,
    },
    /// A Poisson process.
    Poisson {
        /// Requests per second.
        rate_per_s: f64,
    },
}

/// `[[sites]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteFile {
    /// Name, referred to by hosts, links and prices.
    pub name: String,
    /// Edge or cloud.
    #[serde(default)]
    pub kind: SiteKind,
    /// One-way latency to the users, in ms.
    pub user_latency_ms: f64,
    /// CO₂ equivalent of the site's power, in g/kWh; not accounted for if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grid_gco2e_per_kwh: Option<f64>,
}

/// `[[links]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkFile {
    /// Site at one end.
    pub from: String,
    /// Site at the other end.
    pub to: String,
    /// One-way latency, in ms.
    pub latency_ms: f64,
    /// Bandwidth each way, in Mbit/s.
    pub bandwidth_mbps: f64,
}

/// `[[sizes]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeFile {
    /// Name.
    pub name: String,
    /// Virtual CPUs.
    pub vcpus: f64,
    /// Speed of one virtual CPU, in million instructions per second.
    pub mips_per_vcpu: f64,
    /// Memory that fragments can use, in MiB.
    pub ram_mib: f64,
    /// Network bandwidth each way, in Mbit/s.
    pub network_mbps: f64,
    /// Power at 0, 10, … 100 % utilization, in W.
    pub power_w: [f64; 11],
    /// Price by site, in USD per hour.
    pub price_usd_per_hour: BTreeMap<String, f64>,
    /// Time to boot, in s.
    pub boot_s: f64,
    /// CPU credits; absent if the size is not burstable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credits: Option<CreditsFile>,
    /// Recorded differences of speed between VMs of the size, such as `B8ms/eastus`; all have the
    /// rated speed if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
}

/// `[[hosts]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostGroupFile {
    /// Name of a size.
    pub size: String,
    /// Name of a site.
    pub site: String,
    /// How many.
    pub count: u32,
    /// How many of them are on when an episode starts; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initially_on: Option<u32>,
}

/// `[[applications]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationFile {
    /// Name; arrivals of a trace refer to it.
    pub name: String,
    /// Share of the requests (`batch` and `poisson` workloads); 1 if absent.
    #[serde(default = "one")]
    pub share: f64,
    /// Response time that users accept, in s.
    pub deadline_s: f64,
    /// Input of a request, in KiB.
    #[serde(default)]
    pub input_kib: f64,
    /// Input for each context token, in bytes.
    #[serde(default)]
    pub input_bytes_per_context_token: f64,
    /// Variants.
    pub variants: Vec<VariantFile>,
}

/// `[[applications.variants]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VariantFile {
    /// Name.
    pub name: String,
    /// Expected accuracy, between 0 and 1.
    pub accuracy: f64,
    /// Fragments.
    pub fragments: Vec<FragmentFile>,
}

/// `[[applications.variants.fragments]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FragmentFile {
    /// Name, referred to by `after`.
    pub name: String,
    /// Names of the fragments that must end before this one starts.
    #[serde(default)]
    pub after: Vec<String>,
    /// Random work, in million instructions.
    #[serde(default)]
    pub work_mi: Distribution,
    /// Work for each context token, in million instructions.
    #[serde(default)]
    pub work_mi_per_context_token: f64,
    /// Work for each generated token, in million instructions.
    #[serde(default)]
    pub work_mi_per_generated_token: f64,
    /// The most virtual CPUs it can use.
    pub max_vcpus: f64,
    /// Memory while it is placed, in MiB.
    pub ram_mib: f64,
    /// Pages that it writes while it runs, in MiB a second; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dirty_mib_per_s: Option<f64>,
    /// The part of its memory that it writes to, in MiB; all of it if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_set_mib: Option<f64>,
    /// Name of the model that it needs loaded; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Output, in KiB.
    #[serde(default)]
    pub output_kib: f64,
    /// Output for each token, context and generated, in bytes.
    #[serde(default)]
    pub output_bytes_per_token: f64,
}

fn one() -> f64 {
    1.0
}
