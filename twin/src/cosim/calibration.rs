//! What co-simulation has learned, as a value, and a world changed by it.
//!
//! `apply` gives each host whose speed or power differs a size of its own, and scales the work of
//! each fragment by `f + o / a`, where `a` is its mean duration alone and `o` the overhead: the
//! twin has no overheads, so that what a task loses to one is work to it.
//!
//! Left out: background load and demand for CPU, which the twin derives from the work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::distribution::Distribution;
use crate::world::file::{FragmentFile, HostGroupFile, WorldFile};

/// Differences below this share leave a host at its size.
const SAME: f64 = 0.01;
/// The least factor of work, speed and power.
const LEAST_FACTOR: f64 = 0.01;

/// What co-simulation has learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Time of the last record, in s.
    pub time_s: f64,
    /// Time that each task takes beside its work, in s.
    pub overhead_s: f64,
    /// Its standard error.
    pub overhead_error_s: f64,
    /// vCPUs in use on a host without tasks.
    pub background_vcpus: f64,
    /// vCPUs that a task uses while it is there, by application.
    pub demand_vcpus: BTreeMap<String, f64>,
    /// By host, in the world's order.
    pub hosts: Vec<HostCalibration>,
    /// By application and variant.
    pub work: Vec<WorkCalibration>,
}

/// A host against what its size says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostCalibration {
    /// The host: its position in the world.
    pub host: u32,
    /// Speed, as a factor.
    pub speed: f64,
    /// Its standard error.
    pub speed_error: f64,
    /// vCPUs in use beyond the background of all hosts.
    pub background_vcpus: f64,
    /// Growth of power with utilization, as a factor.
    pub dynamic_power_scale: f64,
    /// Idle power, as a factor.
    pub idle_power_scale: f64,
}

/// Work of a variant against what the world says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkCalibration {
    /// Name of the application.
    pub application: String,
    /// Name of the variant.
    pub variant: String,
    /// Work, as a factor.
    pub scale: f64,
    /// Its standard error.
    pub scale_error: f64,
}

impl HostCalibration {
    fn differs(&self) -> bool {
        [self.speed, self.dynamic_power_scale, self.idle_power_scale]
            .iter()
            .any(|factor| (factor - 1.0).abs() > SAME)
    }
}

impl Calibration {
    /// `file` with the learned speeds, power curves and work. Hosts keep their order.
    #[must_use]
    pub fn apply(&self, file: &WorldFile) -> WorldFile {
        let mut changed = file.clone();
        for application in &mut changed.applications {
            for variant in &mut application.variants {
                let scale = self
                    .work
                    .iter()
                    .find(|w| w.application == application.name && w.variant == variant.name)
                    .map_or(1.0, |w| w.scale);
                for fragment in &mut variant.fragments {
                    let overhead_mi = self.overhead_s * mean_rate(file, fragment.max_vcpus);
                    scale_work(fragment, scale, overhead_mi);
                }
            }
        }
        let (mut hosts, mut sizes) = (Vec::new(), file.sizes.clone());
        let mut first = 0u32;
        for group in &file.hosts {
            let on = group.initially_on.unwrap_or(group.count);
            let of = |within: u32| self.hosts.iter().find(|h| h.host == first + within);
            if (0..group.count).any(|i| of(i).is_some_and(HostCalibration::differs)) {
                for within in 0..group.count {
                    let mut one = HostGroupFile {
                        count: 1,
                        initially_on: group.initially_on.map(|_| u32::from(within < on)),
                        ..group.clone()
                    };
                    let size = file.sizes.iter().find(|s| s.name == group.size);
                    if let (Some(size), Some(host)) = (size, of(within).filter(|h| h.differs())) {
                        let mut size = size.clone();
                        size.name = format!("{}-of-host-{}", size.name, first + within);
                        size.mips_per_vcpu *= host.speed.max(LEAST_FACTOR);
                        size.power_w = power_w(&size.power_w, host);
                        one.size.clone_from(&size.name);
                        sizes.push(size);
                    }
                    hosts.push(one);
                }
            } else {
                hosts.push(group.clone());
            }
            first += group.count;
        }
        changed.sizes = sizes;
        changed.hosts = hosts;
        // Hosts of a size of their own have other names; containers stay where they are.
        let (before, after) = (file.host_names(), changed.host_names());
        for host in changed
            .containers
            .iter_mut()
            .filter_map(|c| c.host.as_mut())
        {
            if let Some(h) = before.iter().position(|name| name == host) {
                host.clone_from(&after[h]);
            }
        }
        changed
    }
}

/// The curve with its idle power and its growth scaled; it never falls.
fn power_w(curve: &[f64; 11], host: &HostCalibration) -> [f64; 11] {
    let idle = host.idle_power_scale.max(0.0);
    let dynamic = host.dynamic_power_scale.max(0.0);
    curve.map(|w| idle * curve[0] + dynamic * (w - curve[0]))
}

/// Mean over hosts of the speed of a task with cap `max_vcpus` alone, in MIPS.
fn mean_rate(file: &WorldFile, max_vcpus: f64) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for group in &file.hosts {
        if let Some(size) = file.sizes.iter().find(|s| s.name == group.size) {
            sum += f64::from(group.count) * size.mips_per_vcpu * max_vcpus.min(size.vcpus);
            count += f64::from(group.count);
        }
    }
    sum / f64::max(count, 1.0)
}

fn scale_work(fragment: &mut FragmentFile, scale: f64, overhead_mi: f64) {
    let scale = scale.max(LEAST_FACTOR);
    fragment.work_mi_per_context_token *= scale;
    fragment.work_mi_per_generated_token *= scale;
    let mean = match &mut fragment.work_mi {
        Distribution::Constant { value: mean }
        | Distribution::Exponential { mean }
        | Distribution::Lognormal { mean, .. } => mean,
    };
    *mean = (*mean * scale + overhead_mi).max(*mean * LEAST_FACTOR);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn a_world_takes_speeds_power_and_work() {
        let world = World::load("scinet-16").expect("the world is embedded");
        let calibration = Calibration {
            time_s: 0.0,
            overhead_s: 1.0,
            overhead_error_s: 0.0,
            background_vcpus: 0.0,
            demand_vcpus: BTreeMap::new(),
            hosts: vec![HostCalibration {
                host: 3,
                speed: 0.5,
                speed_error: 0.0,
                background_vcpus: 0.0,
                dynamic_power_scale: 2.0,
                idle_power_scale: 1.1,
            }],
            work: vec![WorkCalibration {
                application: "blur".into(),
                variant: "compression".into(),
                scale: 1.5,
                scale_error: 0.0,
            }],
        };
        let file = calibration.apply(&world.file);
        let changed = World::resolve(file, "calibrated", None).expect("the world is still valid");
        assert_eq!(changed.hosts.len(), 16);
        // 2014.2 · 0.5; 75.2 · 1.1 + 2 · (117 − 75.2) = 166.32.
        assert!((changed.size_of(3).mips_per_vcpu.0 - 1007.1).abs() < 1e-9);
        assert!((changed.size_of(3).power.at(1.0).0 - 166.32).abs() < 1e-9);
        assert_eq!(changed.size_of(2).name, "B2s");
        assert_eq!(changed.size_of(12).name, "B2ms");
        // 16250 · 1.5 + 1 s · 2014.2 · 1.3 = 26993.46; others get the overhead only.
        let work = |variant: usize| {
            changed.applications[0].variants[variant].fragments[0]
                .work_mi
                .mean()
        };
        assert!((work(2) - 26_993.46).abs() < 1e-6, "{}", work(2));
        assert!(
            (work(0) - (17_790.0 + 2_618.46)).abs() < 1e-6,
            "{}",
            work(0)
        );
        let text = toml::to_string(&calibration).expect("it has a form in TOML");
        let again: Calibration = toml::from_str(&text).expect("and can be read again");
        assert_eq!(again, calibration);
    }
}
