//! Features of the fleet as a whole.

use twin::ids::HostId;
use twin::policy::greedy;
use twin::sequence::Context;
use twin::world::Dispatch;

use super::scale::{Scale, flag, log_ratio, log1p, over};

/// Names of the global features: the objective, the demand against the speed, the fleet with the
/// plan so far, what waits, the decision under way, the world's times and prices.
pub const GLOBAL_FEATURES: [&str; 50] = [
    "log1p_weight_energy",
    "log1p_weight_cost",
    "log1p_weight_response",
    "log1p_weight_sla",
    "log1p_weight_accuracy",
    "share_weight_energy",
    "share_weight_cost",
    "share_weight_response",
    "share_weight_sla",
    "share_weight_accuracy",
    "log_load_2s",
    "log_load_10s",
    "log_load_60s",
    "load_2s",
    "load_10s",
    "load_60s",
    "log_fleet_load_2s",
    "log_fleet_load_10s",
    "log_fleet_load_60s",
    "log1p_rate_per_reference_2s",
    "log1p_rate_per_reference_10s",
    "log1p_rate_per_reference_60s",
    "log1p_backlog_s",
    "log1p_backlog_per_interval",
    "share_on",
    "share_booting",
    "share_draining",
    "share_off",
    "utilization_serving",
    "log1p_queued_per_accepting",
    "log1p_waiting_per_accepting",
    "log1p_active_per_accepting",
    "log1p_idle_penalty_billed",
    "share_idle_penalty_billed",
    "turned_on_share",
    "turned_off_share",
    "turned_on_any",
    "turned_off_any",
    "boundary",
    "dispatch_at_boundaries",
    "log_interval_s",
    "log1p_boot_s",
    "log_deadline_per_interval",
    "log_response_price_per_late",
    "log_accuracy_price_per_late",
    "log_request_idle_price_per_late",
    "log_request_alone_per_deadline",
    "log_steady_penalty_per_fleet_idle",
    "log_best_backlog_s",
    "share_empty",
];

/// Sums over the hosts, with the plan so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fleet {
    /// Hosts that accept fragments.
    pub(super) accepting: f64,
    /// Their speed, in MIPS.
    pub(super) accepting_mips: f64,
    /// Work left on all hosts, in MI.
    pub(super) left_mi: f64,
    /// Penalty of a second of all billed hosts idle, in s.
    idle_penalty: f64,
    booting_mips: f64,
    draining_mips: f64,
    off_mips: f64,
    serving_mips: f64,
    used_mips: f64,
    empty_mips: f64,
    queued: f64,
    least_backlog_s: f64,
}

impl Fleet {
    /// The sums in `context`.
    pub(super) fn of(context: &Context<'_>) -> Self {
        let observation = context.observation;
        let mut sums = Self {
            least_backlog_s: f64::INFINITY,
            ..Self::default()
        };
        for (h, load) in context.loads.hosts().iter().enumerate() {
            let host = HostId::at(h);
            let speed = load.speed_mips;
            sums.left_mi += load.left_mi;
            sums.queued += observation.queued_count(host) as f64;
            if observation.lifecycle(host).serves() {
                sums.serving_mips += speed;
                sums.used_mips += speed * observation.utilization(host);
            }
            if load.billed {
                sums.idle_penalty += load.idle_penalty_per_s;
            }
            if load.accepts {
                sums.accepting += 1.0;
                sums.accepting_mips += speed;
                let backlog_s = load.ready_s + load.left_mi / speed;
                sums.least_backlog_s = sums.least_backlog_s.min(backlog_s);
                if load.count <= 0.0 {
                    sums.empty_mips += speed;
                }
                if load.ready_s > 0.0 {
                    sums.booting_mips += speed;
                }
            } else if load.billed {
                sums.draining_mips += speed;
            } else {
                sums.off_mips += speed;
            }
        }
        sums
    }

    /// The global features.
    pub(super) fn features(
        &self,
        context: &Context<'_>,
        scale: &Scale,
    ) -> [f32; GLOBAL_FEATURES.len()] {
        let mut out = [0.0; GLOBAL_FEATURES.len()];
        let parts: [&[f64]; 4] = [
            &weights(context),
            &self.demand(context, scale),
            &self.shares(context, scale),
            &self.times(context, scale),
        ];
        let mut at = 0;
        for &value in parts.into_iter().flatten() {
            out[at] = super::scale::fit(value);
            at += 1;
        }
        debug_assert_eq!(at, GLOBAL_FEATURES.len(), "each name has a value");
        out
    }

    /// Demand, arrivals and backlog against speed.
    fn demand(&self, context: &Context<'_>, scale: &Scale) -> [f64; 14] {
        let world = context.observation.world();
        let reference = world.objective.reference_rate_per_s;
        let mut rates = [0.0; 3];
        for rate in context.observation.rates() {
            for (sum, r) in rates.iter_mut().zip(rate) {
                *sum += r / reference;
            }
        }
        let demand = context.demand_mips;
        let loads = demand.map(|d| over(d, self.accepting_mips));
        let backlog_s = over(self.left_mi, self.accepting_mips);
        let fleet = demand.map(|d| log_load(over(d, scale.fleet_mips)));
        [
            log_load(loads[0]),
            log_load(loads[1]),
            log_load(loads[2]),
            loads[0],
            loads[1],
            loads[2],
            fleet[0],
            fleet[1],
            fleet[2],
            log1p(rates[0]),
            log1p(rates[1]),
            log1p(rates[2]),
            log1p(backlog_s),
            log1p(backlog_s / world.interval.seconds()),
        ]
    }

    /// How the fleet is divided, what waits, and what is decided so far.
    fn shares(&self, context: &Context<'_>, scale: &Scale) -> [f64; 14] {
        let observation = context.observation;
        let hosts = context.loads.hosts().len() as f64;
        let share = |mips: f64| over(mips, scale.fleet_mips);
        let per_accepting = |count: f64| log1p(count / self.accepting.max(1.0));
        // The length of the list is known without going through it.
        let waiting = observation.waiting().size_hint().0;
        let waiting = waiting.saturating_sub(context.decision.deployments.len()) as f64;
        let provisioning = &context.decision.provisioning;
        let on = provisioning.iter().filter(|action| action.on).count() as f64;
        let off = provisioning.len() as f64 - on;
        [
            share(self.accepting_mips - self.booting_mips),
            share(self.booting_mips),
            share(self.draining_mips),
            share(self.off_mips),
            over(self.used_mips, self.serving_mips),
            per_accepting(self.queued),
            per_accepting(waiting),
            per_accepting(observation.active_count() as f64),
            log1p(self.idle_penalty),
            over(self.idle_penalty, scale.idle_penalty * hosts),
            over(on, hosts),
            over(off, hosts),
            flag(on > 0.0),
            flag(off > 0.0),
        ]
    }

    /// Times and prices of the world, and what follows from them in the present state.
    fn times(&self, context: &Context<'_>, scale: &Scale) -> [f64; 12] {
        let observation = context.observation;
        let world = observation.world();
        let objective = &world.objective;
        let late = objective.per_late_request();
        let request_idle = scale.typical_mi * over(scale.idle_penalty, scale.speed_mips);
        let steady = greedy::Fleet::new(world, context.loads, context.demand_mips);
        let hosts = context.loads.hosts().len() as f64;
        [
            flag(observation.may_provision()),
            flag(world.dispatch == Dispatch::Interval),
            log_ratio(world.interval.seconds(), 1.0),
            log1p(scale.boot_s),
            log_ratio(scale.longest_deadline_s, world.interval.seconds()),
            log_ratio(objective.per_response_second() * scale.deadline_s, late),
            log_ratio(objective.per_inaccuracy(), late),
            log_ratio(request_idle, late),
            log_ratio(scale.typical_mi / scale.vcpu_mips, scale.deadline_s),
            log_ratio(scale.per_host(steady.after(context.loads, None)), hosts),
            log_load(self.least_backlog_s.min(1e6)),
            over(self.empty_mips, self.accepting_mips),
        ]
    }
}

/// The logarithm of a load, bounded below where there is none.
pub(super) fn log_load(load: f64) -> f64 {
    log_ratio(load + 0.01, 1.0)
}

fn weights(context: &Context<'_>) -> [f64; 10] {
    let weights = context.observation.world().objective.weights.to_array();
    let sum: f64 = weights.iter().sum();
    let mut out = [0.0; 10];
    for (i, weight) in weights.into_iter().enumerate() {
        out[i] = log1p(weight);
        out[5 + i] = over(weight, sum);
    }
    out
}
