//! The greedy policy: the least estimated penalty, question by question.
//!
//! Requests go where [`crate::estimate`] sees the least penalty. Hosts are turned on and off by a
//! steady-state estimate: demand `D` on speed `C` has load ρ = D/C, requests then take `1/(1 − ρ)`
//! times as long as on an idle host (M/G/1 processor sharing), and what cannot be served is late.
//! The same rules answer for the future in the oracle's rollouts.

use crate::decision::{Decision, PowerAction};
use crate::estimate::Loads;
use crate::ids::HostId;
use crate::observation::Observation;
use crate::policy::PolicyError;
use crate::sequence::{Chooser, Context, Question};
use crate::workload::RATE_WINDOWS;
use crate::world::World;

/// Load beyond which the steady state is continued as a straight line.
const STEEPEST_LOAD: f64 = 0.95;
/// Least gain, in seconds of penalty per second, for which a host is turned over.
pub const LEAST_GAIN: f64 = 0.002;

/// Answers with the least estimated penalty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Greedy;

impl Greedy {
    /// The greedy policy.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Chooser for Greedy {
    fn name(&self) -> &'static str {
        "greedy"
    }

    fn choose(
        &mut self,
        context: &Context<'_>,
        question: &Question<'_>,
    ) -> Result<usize, PolicyError> {
        Ok(match question {
            Question::Power(candidates) => {
                let fleet = Fleet::new(
                    context.observation.world(),
                    context.loads,
                    context.demand_mips,
                );
                least(candidates.iter().map(|candidate| match candidate {
                    None => fleet.after(context.loads, None) - LEAST_GAIN,
                    Some(_) => fleet.after(context.loads, *candidate),
                }))
            }
            Question::Variant { options, .. } => least(options.iter().map(|o| o.penalty)),
            Question::Place {
                option,
                placed,
                candidates,
                ..
            } => {
                let wanted = option.hosts[placed.len()];
                candidates
                    .iter()
                    .position(|(host, _)| *host == wanted)
                    .unwrap_or_else(|| least(candidates.iter().map(|(_, p)| p.penalty)))
            }
        })
    }
}

/// The position of the least value; the first of equals.
pub(crate) fn least(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (f64::INFINITY, 0);
    for (i, value) in values.enumerate() {
        if value < best.0 {
            best = (value, i);
        }
    }
    best.1
}

/// The steady state of the fleet as far as provisioning is concerned.
#[derive(Debug)]
pub struct Fleet<'w> {
    world: &'w World,
    demand_mips: f64,
    speed_mips: f64,
    idle_penalty_per_s: f64,
    /// Mean work of a request over the speed of one request, in s.
    alone_s: f64,
    rate_per_s: f64,
}

impl<'w> Fleet<'w> {
    /// The steady state with the hosts that accept fragments in `loads`, under `demand_mips`.
    #[must_use]
    pub fn new(world: &'w World, loads: &Loads, demand_mips: [f64; RATE_WINDOWS]) -> Self {
        let accepting = || loads.hosts().iter().filter(|l| l.accepts);
        // The window of ten seconds sees a burst, the one of a minute keeps hosts for the next.
        let demand = demand_mips[1].max(demand_mips[2]);
        let backlog: f64 = loads.hosts().iter().map(|l| l.left_mi).sum();
        let demand = demand.max(backlog / world.interval.seconds());
        let mean_mi = world.typical_mi.iter().sum::<f64>() / world.typical_mi.len().max(1) as f64;
        let cap = world.caps.last().copied().unwrap_or(1.0);
        let vcpu_mips =
            loads.hosts().iter().map(|l| l.vcpu_mips).sum::<f64>() / loads.hosts().len() as f64;
        Self {
            world,
            demand_mips: demand,
            speed_mips: accepting().map(|l| l.speed_mips).sum(),
            idle_penalty_per_s: accepting().map(|l| l.idle_penalty_per_s).sum(),
            alone_s: mean_mi / (cap * vcpu_mips),
            rate_per_s: demand / mean_mi.max(1e-9),
        }
    }

    /// Penalty per second, in seconds, after turning over `host`; as it is if that is `None`.
    #[must_use]
    pub fn after(&self, loads: &Loads, host: Option<HostId>) -> f64 {
        let Some(host) = host else {
            return self.penalty_per_s(0.0, 0.0);
        };
        let load = &loads.hosts()[host.index()];
        let sign = if load.accepts { -1.0 } else { 1.0 };
        self.penalty_per_s(sign * load.speed_mips, sign * load.idle_penalty_per_s)
    }

    /// Penalty per second with this much more speed and idle penalty.
    fn penalty_per_s(&self, more_mips: f64, more_idle: f64) -> f64 {
        let objective = &self.world.objective;
        let speed = (self.speed_mips + more_mips).max(1e-9);
        let load = self.demand_mips / speed;
        let stretch = if load < STEEPEST_LOAD {
            1.0 / (1.0 - load)
        } else {
            let at = 1.0 / (1.0 - STEEPEST_LOAD);
            at + (load - STEEPEST_LOAD) * at * at
        };
        let deadline_s = self
            .world
            .applications
            .iter()
            .map(|a| a.deadline.seconds())
            .sum::<f64>()
            / self.world.applications.len().max(1) as f64;
        let time_s = self.alone_s * stretch;
        let per_request = objective.per_response_second() * time_s
            + objective.per_late_request() * (time_s / deadline_s).min(3.0).powi(2) * 0.5;
        self.idle_penalty_per_s + more_idle + self.rate_per_s * per_request
    }
}

/// Turns hosts on and off by the greedy rule, in the rollouts.
pub(crate) fn provision(
    observation: &Observation<'_>,
    loads: &mut Loads,
    demand_mips: [f64; RATE_WINDOWS],
    decision: &mut Decision,
) {
    let world = observation.world();
    let mut candidates = Vec::new();
    for _ in 0..crate::sequence::most_power_actions(world) {
        crate::sequence::power_candidates(observation, loads, decision, &mut candidates);
        let context = Context {
            observation,
            loads,
            demand_mips,
            decision,
        };
        let Ok(answer) = Greedy.choose(&context, &Question::Power(&candidates)) else {
            return;
        };
        let Some(Some(host)) = candidates.get(answer).copied() else {
            return;
        };
        let on = !loads.hosts()[host.index()].accepts;
        decision.provisioning.push(PowerAction { host, on });
        loads.plan_power(world, host.index(), on);
    }
}
