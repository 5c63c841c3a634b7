//! Simulated requests per second.
//!
//! `poisson` is the bare engine: one application of one fragment with exponential work and nothing
//! to carry, load 0.6, hosts taken in turn by a policy that does nothing else. `azure-llm` is an
//! embedded world with everything in it, under the policy `least-loaded`. Drawing the arrivals,
//! checking the decisions and accounting for them are part of both.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use twin::decision::{Decision, Deployment};
use twin::ids::{HostId, VariantId};
use twin::observation::Observation;
use twin::policy::{self, Policy, PolicyError};
use twin::simulate::{self, Options};
use twin::world::World;

/// Numbers of hosts, and intervals of 10 s in an episode: some 12,000 and 24,000 requests.
const FLEETS: [(usize, u32); 2] = [(16, 62), (1000, 2)];
/// Requests per second for each host: load 0.6 of 2 vCPUs on each of which a request takes 1 s.
const RATE_PER_HOST_PER_S: f64 = 1.2;
/// Intervals of an episode of `azure-llm`: 6 minutes.
const LLM_INTERVALS: u32 = 36;

/// A world with `hosts` hosts and one application.
fn poisson(hosts: usize) -> World {
    let rate_per_s = RATE_PER_HOST_PER_S * hosts as f64;
    let text = format!(
        r#"
        schema = 1
        name = "poisson"
        description = "Exponential work on equal hosts."
        interval_s = 10
        episode_intervals = 60

        [objective]
        reference_power_w = 100
        reference_cost_usd_per_hour = 1
        reference_response_s = 1
        reference_rate_per_s = 1
        weights = {{ energy = 1, cost = 1, response = 1, sla = 1, accuracy = 1 }}

        [workload]
        kind = "poisson"
        rate_per_s = {rate_per_s:?}

        [[sites]]
        name = "here"
        user_latency_ms = 5

        [[sizes]]
        name = "two"
        vcpus = 2
        mips_per_vcpu = 1000
        ram_mib = 64000
        network_mbps = 1000
        power_w = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]
        price_usd_per_hour = {{ here = 0.1 }}
        boot_s = 30

        [[hosts]]
        size = "two"
        site = "here"
        count = {hosts}

        [[applications]]
        name = "only"
        deadline_s = 10
        [[applications.variants]]
        name = "whole"
        accuracy = 1
        fragments = [
          {{ name = "model", work_mi = {{ kind = "exponential", mean = 1000 }}, max_vcpus = 1, ram_mib = 1 }},
        ]
        "#
    );
    World::parse(&text, "benchmark", None).expect("the world is valid")
}

/// Takes hosts in turn.
struct InTurn {
    next: usize,
}

impl Policy for InTurn {
    fn name(&self) -> &str {
        "in-turn"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        for request in observation.waiting() {
            decision.deployments.push(Deployment {
                request: request.id,
                variant: VariantId::at(0),
                hosts: vec![HostId::at(self.next)],
            });
            self.next = (self.next + 1) % observation.host_count();
        }
        Ok(())
    }
}

/// Runs an episode and gives the number of requests that arrived in it.
fn episode(world: &World, policy: &mut dyn Policy, intervals: u32) -> u64 {
    let options = Options {
        intervals: Some(intervals),
        ..Options::new(1)
    };
    let run = simulate::run(world, policy, &options).expect("the policy decides");
    run.qos.requests_arrived
}

fn simulate(c: &mut Criterion) {
    let mut group = c.benchmark_group("simulate");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(3));
    for (hosts, intervals) in FLEETS {
        let world = poisson(hosts);
        let run = || episode(&world, &mut InTurn { next: 0 }, intervals);
        group.throughput(Throughput::Elements(run()));
        group.bench_function(BenchmarkId::new("poisson", hosts), |b| {
            b.iter(|| black_box(run()));
        });
    }
    let world = World::load("azure-llm").expect("the world is embedded");
    let run = || {
        let mut policy = policy::by_name("least-loaded", &world, 1).expect("the policy exists");
        episode(&world, policy.as_mut(), LLM_INTERVALS)
    };
    group.throughput(Throughput::Elements(run()));
    let id = BenchmarkId::new("azure-llm/least-loaded", world.hosts.len());
    group.bench_function(id, |b| b.iter(|| black_box(run())));
    group.finish();
}

criterion_group!(benches, simulate);
criterion_main!(benches);
