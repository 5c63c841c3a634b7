//! Worlds: everything that is fixed before a run.
//!
//! A [`World`] is resolved from one TOML file, whose schema is [`file::WorldFile`]. Named worlds
//! are embedded; a path works wherever a name does. A value of type [`World`] is valid: every
//! reference resolves, every number is finite and in range.

pub mod containers;
pub mod embedded;
pub mod file;
mod migration;
mod resolve;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::container::CpuWork;
use crate::credits::CreditSpec;
use crate::distribution::{Distribution, Empirical};
use crate::faults::Faults;
use crate::ids::{ApplicationId, ModelId, SiteId, SizeId, VariantId};
use crate::migration::DirtyPages;
use crate::objective::Objective;
use crate::speed::SpeedModel;
use crate::units::{Mebibytes, MegabitsPerSecond, Mips, SimTime, Watts};
use crate::workload::Workload;

pub use containers::{ContainerSpec, Containers, CpuShare};
pub(crate) use migration::nominal_bandwidth;
pub use migration::{MigrationFile, MigrationSettings};
pub use resolve::WorldError;
pub(crate) use resolve::did_you_mean;

/// The most hosts a world may have.
pub const MAX_HOSTS: usize = 100_000;
/// The most applications a world may have.
pub const MAX_APPLICATIONS: usize = 256;
/// The most variants an application may have.
pub const MAX_VARIANTS: usize = 16;
/// The most fragments a variant may have.
pub const MAX_FRAGMENTS: usize = 16;
/// The most models that a world may have.
pub const MAX_MODELS: usize = 64;
/// The most distinct parallelism caps that the fragments of a world may have.
pub const MAX_CAPS: usize = 8;

/// A resolved world.
#[derive(Clone, Debug)]
pub struct World {
    /// The name, as in the file.
    pub name: String,
    /// What it models, in a sentence or two.
    pub description: String,
    /// Length of an interval: provisioning is decided at multiples of it.
    pub interval: SimTime,
    /// When requests are dispatched.
    pub dispatch: Dispatch,
    /// Length of an episode, in intervals.
    pub episode_intervals: u32,
    /// Sites.
    pub sites: Vec<Site>,
    /// One-way latency and bandwidth between sites, row by row: `sites × sites`.
    pub links: Vec<Link>,
    /// VM sizes.
    pub sizes: Vec<VmSize>,
    /// Hosts.
    pub hosts: Vec<HostSpec>,
    /// Applications.
    pub applications: Vec<Application>,
    /// Models that fragments load before they run.
    pub models: Vec<Model>,
    /// Long-running containers.
    pub containers: Containers,
    /// Requests that may be under way; those beyond are rejected.
    pub max_active_requests: Option<u32>,
    /// What goes wrong.
    pub faults: Faults,
    /// Distinct parallelism caps, in vCPUs, ascending; fragments refer to them by position.
    pub caps: Vec<f64>,
    /// How requests arrive.
    pub workload: Workload,
    /// What is maximized.
    pub objective: Objective,
    /// How running fragments are moved.
    pub migration: MigrationSettings,
    /// Expected work of a request by application, in MI: its most accurate variant, with the mean
    /// context and generated tokens of the workload's training part.
    pub typical_mi: Vec<f64>,
    /// SHA-256 of the world file, its arrivals and the demand of its containers, in hexadecimal.
    pub hash: String,
    /// The file it was resolved from.
    pub file: Arc<file::WorldFile>,
}

/// When the requests that arrive are dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Dispatch {
    /// At the moment of arrival.
    #[default]
    OnArrival,
    /// Gathered and decided at the next interval boundary.
    Interval,
}

/// Edge or cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum SiteKind {
    /// A data center.
    #[default]
    Cloud,
    /// Close to the users.
    Edge,
}

/// A place where hosts stand.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its name.
    pub name: String,
    /// Edge or cloud.
    pub kind: SiteKind,
    /// One-way latency between users and the site.
    pub user_latency: SimTime,
    /// CO₂ equivalent of its power, in g/kWh, where it is accounted for.
    pub grid_gco2e_per_kwh: Option<f64>,
}

/// The connection from one site to another.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// One-way latency.
    pub latency: SimTime,
    /// Bandwidth, shared by all transfers in this direction.
    pub bandwidth: MegabitsPerSecond,
}

/// A size of VM.
#[derive(Clone, Debug)]
pub struct VmSize {
    /// Its name, as the cloud calls it.
    pub name: String,
    /// Virtual CPUs.
    pub vcpus: f64,
    /// Speed of one virtual CPU.
    pub mips_per_vcpu: Mips,
    /// Memory that fragments can use.
    pub ram: Mebibytes,
    /// Network bandwidth, each way.
    pub network: MegabitsPerSecond,
    /// Power at 0, 10, … 100 % utilization.
    pub power: PowerCurve,
    /// Price in USD per hour, one value a site.
    pub price_usd_per_hour: Vec<f64>,
    /// Time from the order to start until the host serves.
    pub boot: SimTime,
    /// CPU credits, if the size is burstable.
    pub credits: Option<CreditSpec>,
    /// How VMs of the size differ in speed; all have the rated speed if `None`.
    pub speed: Option<Arc<SpeedModel>>,
}

impl VmSize {
    /// Speed with all virtual CPUs busy.
    #[must_use]
    pub fn capacity(&self) -> Mips {
        Mips(self.vcpus * self.mips_per_vcpu.0)
    }
}

/// What a fragment loads before it runs: it stays on the host until its memory is needed.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// Memory while it is loaded.
    pub ram: Mebibytes,
    /// Time to load it.
    pub load: SimTime,
}

/// Power against utilization: 11 points, linear in between (the form of SPECpower results).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PowerCurve(pub [f64; 11]);

impl PowerCurve {
    /// Power at `utilization` between 0 and 1.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value lies between 0 and 9"
    )]
    pub fn at(&self, utilization: f64) -> Watts {
        let tenths = (utilization * 10.0).clamp(0.0, 10.0);
        let segment = (tenths as u32).min(9);
        let within = tenths - f64::from(segment);
        let segment = segment as usize;
        Watts(self.0[segment] + (self.0[segment + 1] - self.0[segment]) * within)
    }
}

/// One VM.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size: SizeId,
    /// Where it stands.
    pub site: SiteId,
    /// Whether it is on when an episode starts.
    pub initially_on: bool,
}

/// An application: what requests ask for.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// Share of the requests where the workload does not name applications itself.
    pub share: f64,
    /// Response time that its users accept.
    pub deadline: SimTime,
    /// Input of a request: a constant and a part for each context token, in bytes.
    pub input_bytes: f64,
    /// Bytes of input for each context token.
    pub input_bytes_per_context_token: f64,
    /// The ways to deploy it.
    pub variants: Vec<Variant>,
    /// Generated tokens of past requests of this application; `None` where work does not depend
    /// on tokens.
    pub generated_tokens: Option<Arc<Empirical>>,
    /// Mean context tokens of past requests of this application.
    pub mean_context_tokens: f64,
}

/// A way to deploy an application: a directed acyclic graph of fragments, and an accuracy.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Expected accuracy of an answer, between 0 and 1.
    pub accuracy: f64,
    /// Fragments in topological order.
    pub fragments: Vec<Fragment>,
}

impl Variant {
    /// The fragments that no other fragment waits for.
    pub fn sinks(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.fragments.len()).filter(|&i| self.fragments[i].successors.is_empty())
    }
}

/// The unit that is placed.
#[derive(Clone, Debug)]
pub struct Fragment {
    /// Its name.
    pub name: String,
    /// Random work, in million instructions.
    pub work_mi: Distribution,
    /// Work for each context token, in million instructions.
    pub work_mi_per_context_token: f64,
    /// Work for each generated token, in million instructions.
    pub work_mi_per_generated_token: f64,
    /// Position of its parallelism cap in `World::caps`.
    pub cap: usize,
    /// Memory while placed on a host.
    pub ram: Mebibytes,
    /// Pages that it writes while it runs.
    pub dirtied: DirtyPages,
    /// The model that must be loaded for it.
    pub model: Option<ModelId>,
    /// Output of a constant size, in bytes.
    pub output_bytes: f64,
    /// Bytes of output for each token, context and generated.
    pub output_bytes_per_token: f64,
    /// Fragments whose output it needs.
    pub predecessors: Vec<usize>,
    /// Fragments that need its output.
    pub successors: Vec<usize>,
}

impl World {
    /// The size of host `host`.
    #[must_use]
    pub fn size_of(&self, host: usize) -> &VmSize {
        &self.sizes[self.hosts[host].size.index()]
    }

    /// The price of host `host`, in USD per second.
    #[must_use]
    pub fn price_usd_per_second(&self, host: usize) -> f64 {
        let spec = &self.hosts[host];
        self.sizes[spec.size.index()].price_usd_per_hour[spec.site.index()] / 3600.0
    }

    /// Work of a container on host `host`, in seconds of one of its virtual CPUs.
    #[must_use]
    pub fn vcpu_seconds(&self, host: usize, work: CpuWork) -> f64 {
        work.megacycles() / self.size_of(host).mips_per_vcpu.0
    }

    /// Memory of host `host` that fragments can have: what its containers leave when they hold most.
    #[must_use]
    pub fn ram_for_fragments(&self, host: usize) -> Mebibytes {
        self.size_of(host).ram - self.containers.held(host)
    }

    /// The most memory that `fragment` takes on a host, with its model, in MiB.
    #[must_use]
    pub fn needs_mib(&self, fragment: &Fragment) -> f64 {
        let model = fragment.model.map_or(0.0, |m| self.models[m.index()].ram.0);
        fragment.ram.0 + model
    }

    /// Penalty of a joule used by host `host`, its greenhouse gas included, in s.
    #[must_use]
    pub fn penalty_per_joule(&self, host: usize) -> f64 {
        let objective = &self.objective;
        objective.per_joule() + objective.per_gram_co2e() * self.carbon_g_per_joule(host)
    }

    /// The connection from site `from` to site `to`.
    #[must_use]
    pub fn link(&self, from: SiteId, to: SiteId) -> &Link {
        &self.links[from.index() * self.sites.len() + to.index()]
    }

    /// The variant `variant` of `application`.
    #[must_use]
    pub fn variant(&self, application: ApplicationId, variant: VariantId) -> &Variant {
        &self.applications[application.index()].variants[variant.index()]
    }

    /// The most accurate variant of `application`; the first of equals.
    #[must_use]
    pub fn most_accurate(&self, application: ApplicationId) -> VariantId {
        let variants = &self.applications[application.index()].variants;
        let mut best = 0;
        for (i, variant) in variants.iter().enumerate() {
            if variant.accuracy > variants[best].accuracy {
                best = i;
            }
        }
        VariantId::at(best)
    }

    /// Length of an episode.
    #[must_use]
    pub fn episode(&self) -> SimTime {
        SimTime(self.interval.0 * u64::from(self.episode_intervals))
    }

    /// Speed of all hosts together, in MIPS.
    #[must_use]
    pub fn capacity(&self) -> Mips {
        Mips(
            (0..self.hosts.len())
                .map(|h| self.size_of(h).capacity().0)
                .sum(),
        )
    }
}
