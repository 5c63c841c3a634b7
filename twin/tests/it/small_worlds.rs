//! Small worlds at random, and random decisions that are feasible in them.

use proptest::collection::vec;
use proptest::prelude::*;
use rand::RngExt;
use twin::World;
use twin::checker;
use twin::decision::{Decision, Deployment, PowerAction};
use twin::ids::{HostId, VariantId};
use twin::observation::Observation;
use twin::policy::{Policy, PolicyError};
use twin::stream::{self, Stream};

/// What a world is made from; every value of this type is a valid world.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) on_arrival: bool,
    pub(crate) interval_ms: u32,
    pub(crate) intervals: u32,
    pub(crate) rate_per_s: f64,
    pub(crate) latency_ms: u32,
    /// One size a host.
    pub(crate) hosts: Vec<HostPlan>,
    /// Variants of each application.
    pub(crate) applications: Vec<Vec<Vec<FragmentPlan>>>,
    pub(crate) input_kib: u32,
    pub(crate) containers: Vec<ContainerPlan>,
    /// Seed of the arrivals and the decisions.
    pub(crate) seed: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct HostPlan {
    pub(crate) half_vcpus: u32,
    pub(crate) mips_per_vcpu: u32,
    pub(crate) ram_mib: u32,
    pub(crate) network_mbps: u32,
    pub(crate) boot_ms: u32,
    pub(crate) idle_w: u32,
    pub(crate) far: bool,
    pub(crate) on: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct FragmentPlan {
    pub(crate) work: u8,
    pub(crate) work_mi: u32,
    pub(crate) half_cap: u32,
    pub(crate) ram_mib: u32,
    pub(crate) output_kib: u32,
    /// Bit `k` is set where it waits for fragment `k`, if that comes before it.
    pub(crate) after: u8,
}

#[derive(Clone, Debug)]
pub(crate) struct ContainerPlan {
    /// Counted modulo the number of hosts.
    pub(crate) host: usize,
    pub(crate) ram_mib: u32,
    pub(crate) start_ms: u32,
    pub(crate) stop_ms: Option<u32>,
    pub(crate) share: u8,
    /// Length and demand of each step.
    pub(crate) steps: Vec<(u32, u32)>,
}

fn container() -> impl Strategy<Value = ContainerPlan> {
    let steps = vec((300_u32..5000, 0_u32..200), 1..=6);
    let stop = prop::option::of(4000_u32..20_000);
    (0_usize..4, 0_u32..25, 0_u32..4000, stop, 0_u8..3, steps).prop_map(
        |(host, ram_mib, start_ms, stop_ms, share, steps)| ContainerPlan {
            host,
            ram_mib,
            start_ms,
            stop_ms,
            share,
            steps,
        },
    )
}

fn host() -> impl Strategy<Value = HostPlan> {
    (
        (1_u32..=8, 500_u32..2000, 250_u32..600),
        (1_u32..40, 0_u32..4000, 10_u32..100),
        (any::<bool>(), prop::bool::weighted(0.7)),
    )
        .prop_map(|((half_vcpus, mips_per_vcpu, ram_mib), b, (far, on))| {
            let (network_mbps, boot_ms, idle_w) = b;
            HostPlan {
                half_vcpus,
                mips_per_vcpu,
                ram_mib,
                network_mbps,
                boot_ms,
                idle_w,
                far,
                on,
            }
        })
}

fn fragment() -> impl Strategy<Value = FragmentPlan> {
    (
        0_u8..3,
        0_u32..2500,
        1_u32..=4,
        0_u32..200,
        0_u32..300,
        any::<u8>(),
    )
        .prop_map(
            |(work, work_mi, half_cap, ram_mib, output_kib, after)| FragmentPlan {
                work,
                work_mi,
                half_cap,
                ram_mib,
                output_kib,
                after,
            },
        )
}

/// Worlds of up to four hosts.
pub(crate) fn plans() -> impl Strategy<Value = Plan> {
    let variants = vec(vec(fragment(), 1..=4), 1..=2);
    (
        (any::<bool>(), 500_u32..3000, 0.3..3.0, 0_u32..40),
        vec(host(), 1..=4),
        vec(variants, 1..=2),
        (0_u32..400, any::<u64>(), vec(container(), 0..=2)),
    )
        .prop_map(
            |(times, hosts, applications, (input_kib, seed, containers))| {
                let (on_arrival, interval_ms, rate_per_s, latency_ms) = times;
                Plan {
                    on_arrival,
                    interval_ms,
                    intervals: 10,
                    rate_per_s,
                    latency_ms,
                    hosts,
                    applications,
                    input_kib,
                    containers,
                    seed,
                }
            },
        )
}

impl Plan {
    /// The world, with its hosts in the order `order`.
    pub(crate) fn world(&self, order: &[usize]) -> World {
        let dispatch = if self.on_arrival {
            "on-arrival"
        } else {
            "interval"
        };
        let mut text = format!(
            r#"
schema = 1
name = "plan"
description = "A world at random."
interval_s = {}
dispatch = "{dispatch}"
episode_intervals = {}
[objective]
reference_power_w = 100
reference_cost_usd_per_hour = 0.1
reference_response_s = 3
reference_rate_per_s = 1
reference_unmet_vcpus = 1
weights = {{ energy = 1, cost = 1, response = 1, sla = 1, accuracy = 1, unmet = 1 }}
[workload]
kind = "poisson"
rate_per_s = {}
[[sites]]
name = "near"
user_latency_ms = {}
[[sites]]
name = "far"
user_latency_ms = 35
[[links]]
from = "near"
to = "far"
latency_ms = 20
bandwidth_mbps = 5
"#,
            f64::from(self.interval_ms) / 1e3,
            self.intervals,
            self.rate_per_s,
            self.latency_ms,
        );
        for &h in order {
            text += &self.hosts[h].text(h);
        }
        for (a, variants) in self.applications.iter().enumerate() {
            text += &format!(
                "[[applications]]\nname = \"app-{a}\"\ndeadline_s = 3\ninput_kib = {}\n",
                self.input_kib
            );
            for (v, fragments) in variants.iter().enumerate() {
                let list: Vec<String> = fragments
                    .iter()
                    .enumerate()
                    .map(|(k, f)| f.text(k))
                    .collect();
                text += &format!(
                    "[[applications.variants]]\nname = \"v-{v}\"\naccuracy = 0.{}\nfragments = [{}]\n",
                    9 - v,
                    list.join(", ")
                );
            }
        }
        for (c, container) in self.containers.iter().enumerate() {
            let h = container.host % self.hosts.len();
            text += &container.text(c, &self.hosts[h].name(h));
        }
        World::parse(&text, "plan.toml", None).expect("a plan is a valid world")
    }

    /// The hosts in the order of the plan.
    pub(crate) fn in_order(&self) -> Vec<usize> {
        (0..self.hosts.len()).collect()
    }
}

impl ContainerPlan {
    fn text(&self, c: usize, host: &str) -> String {
        // No demand comes twice, so that each change can be seen.
        let steps: Vec<String> = (0_u32..)
            .zip(&self.steps)
            .map(|(k, &(ms, percent))| {
                let vcpus = f64::from(percent) / 100.0 + f64::from(k) * 1e-4;
                let seconds = f64::from(ms) / 1e3;
                format!("{{ duration_s = {seconds}, vcpus = {vcpus} }}")
            })
            .collect();
        let stop = self.stop_ms.map_or_else(String::new, |ms| {
            format!("stop_s = {}", f64::from(ms) / 1e3)
        });
        format!(
            r#"
[[containers]]
name = "container-{c}"
host = "{host}"
vcpus = 1
ram_mib = {}
start_s = {}
{stop}
share = "{}"
demand = {{ kind = "steps", steps = [{}] }}
"#,
            self.ram_mib,
            f64::from(self.start_ms) / 1e3,
            ["first", "fair", "last"][usize::from(self.share % 3)],
            steps.join(", "),
        )
    }
}

impl HostPlan {
    fn name(&self, h: usize) -> String {
        let site = if self.far { "far" } else { "near" };
        format!("size-{h}-{site}-01")
    }

    fn text(&self, h: usize) -> String {
        let idle_w = f64::from(self.idle_w);
        let power_w: [f64; 11] = std::array::from_fn(|k| idle_w + 20.0 * (k as f64).sqrt());
        let site = if self.far { "far" } else { "near" };
        format!(
            r#"
[[sizes]]
name = "size-{h}"
vcpus = {}
mips_per_vcpu = {}
ram_mib = {}
network_mbps = {}
power_w = {power_w:?}
price_usd_per_hour = {{ near = 0.1, far = 0.2 }}
boot_s = {}
[[hosts]]
size = "size-{h}"
site = "{site}"
count = 1
initially_on = {}
"#,
            f64::from(self.half_vcpus) / 2.0,
            self.mips_per_vcpu,
            self.ram_mib,
            self.network_mbps,
            f64::from(self.boot_ms) / 1e3,
            u8::from(self.on),
        )
    }
}

impl FragmentPlan {
    fn text(&self, k: usize) -> String {
        let mean = self.work_mi;
        let work = match self.work {
            0 => format!("{{ kind = \"constant\", value = {mean} }}"),
            1 => format!("{{ kind = \"exponential\", mean = {mean} }}"),
            _ => format!("{{ kind = \"lognormal\", mean = {mean}, cv = 0.8 }}"),
        };
        let after: Vec<String> = (0..k)
            .filter(|bit| self.after >> bit & 1 == 1)
            .map(|p| format!("\"f-{p}\""))
            .collect();
        format!(
            "{{ name = \"f-{k}\", after = [{}], work_mi = {work}, max_vcpus = {}, ram_mib = {}, \
             output_kib = {} }}",
            after.join(", "),
            f64::from(self.half_cap) / 2.0,
            self.ram_mib,
            self.output_kib,
        )
    }
}

/// Decides at random: turns hosts over, places most requests anywhere and lets the others wait.
#[derive(Debug)]
pub(crate) struct Chance(Stream);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(stream::named(seed, "chance"))
    }

    pub(crate) fn decision(&mut self, observation: &Observation<'_>) -> Decision {
        let mut decision = Decision::none();
        let hosts = || (0..observation.host_count()).map(HostId::at);
        let mut open: Vec<bool> = hosts()
            .map(|h| observation.lifecycle(h).accepts())
            .collect();
        if observation.may_provision() {
            for host in hosts() {
                if self.0.random::<f64>() < 0.25 {
                    let on = self.0.random::<f64>() < 0.6;
                    open[host.index()] = on;
                    decision.provisioning.push(PowerAction { host, on });
                }
            }
        }
        let open: Vec<HostId> = hosts().filter(|h| open[h.index()]).collect();
        for waiting in observation.waiting() {
            if open.is_empty() || self.0.random::<f64>() < 0.15 {
                continue;
            }
            let variants = &observation.world().applications[waiting.application.index()].variants;
            let variant = self.0.random_range(0..variants.len());
            decision.deployments.push(Deployment {
                request: waiting.id,
                variant: VariantId::at(variant),
                hosts: (0..variants[variant].fragments.len())
                    .map(|_| open[self.0.random_range(0..open.len())])
                    .collect(),
            });
        }
        checker::check(observation, &decision).expect("the decision is feasible");
        decision
    }
}

impl Policy for Chance {
    fn name(&self) -> &'static str {
        "chance"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        *decision = self.decision(observation);
        Ok(())
    }
}
