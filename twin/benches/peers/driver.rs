//! The workload through the twin, with everything that the twin keeps account of.
//!
//! Tasks are requests of an application with one variant of one fragment, which may use one core.
//! A core does 1 MI a second, so a fragment's work in MI is the task's work in s. Nothing is sent
//! over the network, and memory never runs out.

use twin::decision::{Decision, Deployment};
use twin::ids::{ApplicationId, HostId, RequestId, VariantId};
use twin::observation::Observation;
use twin::policy::{Policy, PolicyError};
use twin::qos::Qos;
use twin::simulate::{self, EventSink, Hooks, Options};
use twin::units::SimTime;
use twin::workload::Arrival;
use twin::world::{World, WorldError};

use super::tasks::{LOAD, MEAN_WORK_S, Shape, Task};

/// The world of `shape`: equal hosts, with a power curve, a price and a deadline to account for.
pub(crate) fn world(shape: Shape) -> Result<World, WorldError> {
    let Shape { hosts, cores, .. } = shape;
    let rate_per_s = LOAD * f64::from(hosts) * f64::from(cores) / MEAN_WORK_S;
    let text = format!(
        r#"
        schema = 1
        name = "peers"
        description = "One-core tasks with exponential work, dealt to equal hosts in turn."
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
        user_latency_ms = 0

        [[sizes]]
        name = "node"
        vcpus = {cores}
        mips_per_vcpu = 1
        ram_mib = 1_000_000
        network_mbps = 1000
        power_w = [100, 112, 124, 135, 146, 157, 167, 177, 186, 194, 200]
        price_usd_per_hour = {{ here = 0.4 }}
        boot_s = 30

        [[hosts]]
        size = "node"
        site = "here"
        count = {hosts}

        [[applications]]
        name = "task"
        deadline_s = 4
        [[applications.variants]]
        name = "whole"
        accuracy = 1
        fragments = [
          {{ name = "task", work_mi = {{ kind = "exponential", mean = {MEAN_WORK_S:?} }}, max_vcpus = 1, ram_mib = 1 }},
        ]
        "#
    );
    World::parse(&text, "peers", None)
}

/// Task `index` of the workload of `shape`, as the twin takes it.
///
/// Its work is not handed over: the twin draws it from the key.
pub(crate) fn arrival(shape: Shape, index: u32, task: Task) -> Arrival {
    Arrival {
        time: SimTime(task.arrival_ns),
        application: ApplicationId::at(0),
        context_tokens: 0,
        generated_tokens: 0,
        key: shape.key(index),
    }
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

/// Notes when each task ends, in s.
struct Ends<'a>(&'a mut [f64]);

impl EventSink for Ends<'_> {
    // The last fragment's end is the request's: its output has nowhere to go and no latency.
    fn fragment_done(&mut self, now: SimTime, request: RequestId, _index: usize, _host: HostId) {
        let index = usize::try_from(request.0).unwrap_or(usize::MAX);
        self.0[index] = now.seconds();
    }
}

/// Simulates until the last task has ended; writes when each ends, in s.
///
/// # Errors
///
/// If the policy gives no decision or an infeasible one.
pub(crate) fn run(world: &World, arrivals: &[Arrival], ends_s: &mut [f64]) -> anyhow::Result<Qos> {
    let mut ends = Ends(ends_s);
    let mut hooks = Hooks {
        events: Some(&mut ends),
        ..Hooks::default()
    };
    let (mut policy, options) = (InTurn { next: 0 }, Options::new(0));
    let run = simulate::run_arrivals(world, &mut policy, arrivals, &options, &mut hooks)?;
    Ok(run.qos)
}
