//! What follows from a world: its hosts by name, how many requests come, how much work they bring.
//!
//! The load is the work that arrives over what all hosts can do in the same time. It is offered,
//! not measured: with all hosts on it is the mean utilization as long as nothing is lost or left
//! over. Tokens are those of the whole trace.

use serde::Serialize;

use crate::ids::ApplicationId;
use crate::workload::{Trace, Workload};
use crate::world::{Application, Variant, World};

/// What follows from a world.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// SHA-256 of the world file and its arrivals, in hexadecimal.
    pub hash: String,
    /// Length of an episode, in s.
    pub episode_s: f64,
    /// Speed of all hosts together, in MIPS.
    pub capacity_mips: f64,
    /// Price of all hosts together, in USD per hour.
    pub price_usd_per_hour: f64,
    /// Power of all hosts together when idle, in W.
    pub idle_power_w: f64,
    /// Power of all hosts together at full utilization, in W.
    pub full_power_w: f64,
    /// Requests per second, on average.
    pub rate_per_s: f64,
    /// Mean load with all hosts on and the most accurate variants.
    pub load_mean: f64,
    /// The highest load of an interval of the trace, likewise; absent where there is no trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_peak: Option<f64>,
    /// Hosts, in the world's order.
    pub hosts: Vec<HostSummary>,
    /// Applications, in the world's order.
    pub applications: Vec<ApplicationSummary>,
}

/// What follows for a host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostSummary {
    /// Its name.
    pub name: String,
    /// Name of its size.
    pub size: String,
    /// Name of its site.
    pub site: String,
    /// Speed, in MIPS.
    pub capacity_mips: f64,
    /// Price, in USD per hour.
    pub price_usd_per_hour: f64,
    /// Whether it is on when an episode starts.
    pub initially_on: bool,
}

/// What follows for an application.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApplicationSummary {
    /// Its name.
    pub name: String,
    /// Requests per second, on average.
    pub rate_per_s: f64,
    /// Tokens of a request's input, on average.
    pub context_tokens_mean: f64,
    /// Tokens of a request's answer, on average.
    pub generated_tokens_mean: f64,
    /// Variants, in the world's order.
    pub variants: Vec<VariantSummary>,
}

/// What follows for a variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VariantSummary {
    /// Its name.
    pub name: String,
    /// Whether it is the most accurate of its application.
    pub most_accurate: bool,
    /// Work of a request, over all fragments, on average, in million instructions.
    pub work_mean_mi: f64,
    /// Memory of all fragments together, in MiB.
    pub ram_mib: f64,
}

impl Summary {
    /// What follows from `world`.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let hosts: Vec<HostSummary> = (0..world.hosts.len()).map(|h| host(world, h)).collect();
        let applications: Vec<ApplicationSummary> = (0..world.applications.len())
            .map(|a| application(world, a))
            .collect();
        let capacity_mips = world.capacity().0;
        let demand_of = |a: &ApplicationSummary| {
            let best = a.variants.iter().find(|v| v.most_accurate);
            best.map_or(0.0, |v| a.rate_per_s * v.work_mean_mi)
        };
        let demand_mips: f64 = applications.iter().map(demand_of).sum();
        let power = |utilization: f64| {
            (0..hosts.len())
                .map(|h| world.size_of(h).power.at(utilization).0)
                .sum()
        };
        Self {
            hash: world.hash.clone(),
            episode_s: world.episode().seconds(),
            capacity_mips,
            price_usd_per_hour: hosts.iter().map(|h| h.price_usd_per_hour).sum(),
            idle_power_w: power(0.0),
            full_power_w: power(1.0),
            rate_per_s: world.mean_rate_per_s(),
            load_mean: demand_mips / capacity_mips,
            load_peak: match &world.workload {
                Workload::Trace(trace) => Some(peak(world, trace)),
                Workload::Batch { .. } | Workload::Poisson { .. } => None,
            },
            hosts,
            applications,
        }
    }
}

fn host(world: &World, h: usize) -> HostSummary {
    let spec = &world.hosts[h];
    let size = world.size_of(h);
    HostSummary {
        name: spec.name.clone(),
        size: size.name.clone(),
        site: world.sites[spec.site.index()].name.clone(),
        capacity_mips: size.capacity().0,
        price_usd_per_hour: size.price_usd_per_hour[spec.site.index()],
        initially_on: spec.initially_on,
    }
}

fn application(world: &World, a: usize) -> ApplicationSummary {
    let application = &world.applications[a];
    let (rate_per_s, context, generated) = match &world.workload {
        Workload::Trace(trace) => {
            let list = &trace.applications[a];
            let count = list.len() as f64;
            let context: f64 = list.iter().map(|x| f64::from(x.context_tokens)).sum();
            let generated: f64 = list.iter().map(|x| f64::from(x.generated_tokens)).sum();
            (
                count / trace.end.seconds(),
                context / count.max(1.0),
                generated / count.max(1.0),
            )
        }
        Workload::Batch { .. } | Workload::Poisson { .. } => {
            let shares: f64 = world.applications.iter().map(|x| x.share).sum();
            (
                world.mean_rate_per_s() * application.share / shares,
                0.0,
                0.0,
            )
        }
    };
    let best = world.most_accurate(ApplicationId::at(a)).index();
    let variant = |(v, variant): (usize, &Variant)| VariantSummary {
        name: variant.name.clone(),
        most_accurate: v == best,
        work_mean_mi: work_mean_mi(variant, context, generated),
        ram_mib: variant.fragments.iter().map(|f| f.ram.0).sum(),
    };
    ApplicationSummary {
        name: application.name.clone(),
        rate_per_s,
        context_tokens_mean: context,
        generated_tokens_mean: generated,
        variants: application
            .variants
            .iter()
            .enumerate()
            .map(variant)
            .collect(),
    }
}

/// Mean work of a request with these tokens, in MI.
fn work_mean_mi(variant: &Variant, context: f64, generated: f64) -> f64 {
    variant
        .fragments
        .iter()
        .map(|f| {
            f.work_mi.mean()
                + f.work_mi_per_context_token * context
                + f.work_mi_per_generated_token * generated
        })
        .sum()
}

/// The highest load of an interval of `trace`.
fn peak(world: &World, trace: &Trace) -> f64 {
    let intervals = usize::try_from(trace.end.0 / world.interval.0).unwrap_or(usize::MAX);
    let mut work_mi = vec![0.0_f64; intervals.saturating_add(1)];
    for (a, list) in trace.applications.iter().enumerate() {
        let application: &Application = &world.applications[a];
        let best = world.most_accurate(ApplicationId::at(a));
        let variant = &application.variants[best.index()];
        for arrival in list {
            let k = usize::try_from(arrival.time.0 / world.interval.0).unwrap_or(usize::MAX);
            let (context, generated) = (
                f64::from(arrival.context_tokens),
                f64::from(arrival.generated_tokens),
            );
            work_mi[k] += work_mean_mi(variant, context, generated);
        }
    }
    let most_mi = work_mi.into_iter().fold(0.0, f64::max);
    most_mi / (world.capacity().0 * world.interval.seconds())
}
