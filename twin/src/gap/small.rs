//! Small instances: a world cut down to a few hosts, with as much load for each.

use rand::RngExt;
use thiserror::Error;

use crate::stream;
use crate::units::SimTime;
use crate::workload::{Trace, Workload};
use crate::world::World;
use crate::world::file::WorkloadFile;

/// Why a world cannot be cut down.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum SmallError {
    /// There are no hosts to be left.
    #[error("{world}: cannot be cut down to no hosts; take at least 1")]
    Hosts {
        /// The world.
        world: String,
    },
    /// A fragment fits on none of the hosts that are left.
    #[error(
        "{world}: fragment {fragment} of {application} needs {ram_mib} MiB, which none of the \
         {hosts} hosts that are left has; take more hosts"
    )]
    Memory {
        /// The world.
        world: String,
        /// The application.
        application: String,
        /// The fragment.
        fragment: String,
        /// Its memory, in MiB.
        ram_mib: f64,
        /// How many hosts are left.
        hosts: usize,
    },
}

/// `world` with `hosts` of its hosts, evenly spaced in its list, so that the mix of sizes and sites
/// stays as far as it can.
///
/// Containers stay with their hosts. Load and the objective's references for power, cost, rate and
/// unmet demand shrink as the speed of all hosts.
/// Of a trace each arrival is kept with that probability, drawn from `seed`; the mean of batches is
/// moved until as many requests come, as near as whole requests allow. `World::file` stays that of
/// the whole world. A world with no more hosts stays as it is.
///
/// # Errors
///
/// If no host would be left, or a fragment would fit on none.
pub fn cut(world: &World, hosts: usize, seed: u64) -> Result<World, SmallError> {
    if hosts == 0 {
        return Err(SmallError::Hosts {
            world: world.name.clone(),
        });
    }
    let all = world.hosts.len();
    if hosts >= all {
        return Ok(world.clone());
    }
    let mut small = world.clone();
    let kept: Vec<usize> = (0..hosts)
        .map(|i| (2 * i + 1) * all / (2 * hosts))
        .collect();
    small.hosts = kept.iter().map(|&h| world.hosts[h].clone()).collect();
    small.containers = world.containers.on(&kept);
    small.name = format!("{} with {hosts} hosts", world.name);
    placeable(&small)?;
    let share = small.capacity().0 / world.capacity().0;
    small.objective.reference_power_w *= share;
    small.objective.reference_cost_usd_per_hour *= share;
    small.objective.reference_rate_per_s *= share;
    if let Some(vcpus) = &mut small.objective.reference_unmet_vcpus {
        *vcpus *= share;
    }
    small.workload = match &world.workload {
        Workload::Trace(trace) => Workload::Trace(thinned(world, trace, share, seed)),
        Workload::Poisson { rate_per_s } => Workload::Poisson {
            rate_per_s: rate_per_s * share,
        },
        Workload::Batch { .. } => fewer(world, share),
    };
    Ok(small)
}

fn placeable(world: &World) -> Result<(), SmallError> {
    let most = (0..world.hosts.len())
        .map(|h| world.ram_for_fragments(h).0)
        .fold(0.0, f64::max);
    for application in &world.applications {
        for fragment in application.variants.iter().flat_map(|v| &v.fragments) {
            if fragment.ram.0 > most {
                return Err(SmallError::Memory {
                    world: world.name.clone(),
                    application: application.name.clone(),
                    fragment: fragment.name.clone(),
                    ram_mib: fragment.ram.0,
                    hosts: world.hosts.len(),
                });
            }
        }
    }
    Ok(())
}

/// The trace with each arrival kept with probability `share`.
fn thinned(world: &World, trace: &Trace, share: f64, seed: u64) -> Trace {
    let mut stream = stream::named(seed, "gap/thinning");
    let applications = trace
        .applications
        .iter()
        .map(|list| {
            let mut kept = list.clone();
            kept.retain(|_| stream.random::<f64>() < share);
            kept
        })
        .collect();
    let split_every_s = match world.file.workload {
        WorkloadFile::Trace { split_every_s, .. } => split_every_s,
        _ => trace.end.seconds() / 2.0,
    };
    Trace::new(
        applications,
        trace.block_s,
        SimTime::from_seconds(split_every_s),
    )
}

/// The batches of `world` with the mean for which `share` of the requests come, by bisection.
fn fewer(world: &World, share: f64) -> Workload {
    let Workload::Batch { mean, sd, minimum } = world.workload else {
        return world.workload.clone();
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the value lies between zero and `minimum`"
    )]
    let minimum = (f64::from(minimum) * share).floor() as u32;
    let wanted = world.mean_rate_per_s() * share;
    let mut trial = world.clone();
    let (mut low, mut high) = (mean.min(0.0) - 10.0 * sd - 1.0, mean.max(1.0) + 10.0 * sd);
    for _ in 0..60 {
        let mean = f64::midpoint(low, high);
        trial.workload = Workload::Batch { mean, sd, minimum };
        if trial.mean_rate_per_s() < wanted {
            low = mean;
        } else {
            high = mean;
        }
    }
    trial.workload
}
