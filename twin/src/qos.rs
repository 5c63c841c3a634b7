//! Quality of service of a run, and the objective made of it.

mod mechanics;

use serde::{Deserialize, Serialize};

use crate::faults::Incidents;
use crate::host::Lifecycle;
use crate::objective::Objective;
use crate::state::{MigrationTotals, RequestTotals, State};
use crate::world::World;

/// The parts that the objective is made of, summed over a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Energy of all hosts, in J.
    pub energy_j: f64,
    /// Price of all hosts, in USD.
    pub cost_usd: f64,
    /// Response times of the requests that ended, and the ages of those under way, in s.
    pub response_s: f64,
    /// Requests that ended late or are under way past their deadline.
    pub late: f64,
    /// Sum of one minus the accuracy of the deployed variants.
    pub inaccuracy: f64,
    /// Greenhouse gas of all hosts, in g CO2e.
    pub carbon_g: f64,
    /// Demand of containers that was not met, in seconds of a virtual CPU.
    #[serde(default)]
    pub unmet_vcpu_s: f64,
}

impl Account {
    /// The account of everything up to the present of `state`.
    #[must_use]
    pub fn of(world: &World, state: &State) -> Self {
        let (mut energy_j, mut cost_usd, mut carbon_g) = (0.0, 0.0, 0.0);
        let mut unmet_vcpu_s = 0.0;
        for (h, host) in state.hosts.iter().enumerate() {
            let meter = host.meter(state.now);
            energy_j += meter.energy_j;
            carbon_g += meter.energy_j * world.carbon_g_per_joule(h);
            cost_usd += meter.billed.seconds() * world.price_usd_per_second(h);
            unmet_vcpu_s += world.vcpu_seconds(h, meter.unmet);
        }
        let mut account = Self {
            energy_j,
            cost_usd,
            response_s: state.totals.response_s,
            // Who is turned away has the worst of answers, or turning away would pay.
            late: (state.totals.late + state.incidents.requests_rejected) as f64,
            inaccuracy: state.totals.inaccuracy + state.incidents.requests_rejected as f64,
            carbon_g,
            unmet_vcpu_s,
        };
        for &slot in &state.active {
            let request = &state.requests[slot as usize];
            let age = state.now.since(request.arrived);
            let application = &world.applications[request.application.index()];
            account.response_s += age.seconds();
            account.late += f64::from(u8::from(age > application.deadline));
            if let Some(deployed) = request.deployed {
                account.inaccuracy += 1.0 - application.variants[deployed.variant.index()].accuracy;
            }
        }
        account
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            energy_j: self.energy_j - earlier.energy_j,
            cost_usd: self.cost_usd - earlier.cost_usd,
            response_s: self.response_s - earlier.response_s,
            late: self.late - earlier.late,
            inaccuracy: self.inaccuracy - earlier.inaccuracy,
            carbon_g: self.carbon_g - earlier.carbon_g,
            unmet_vcpu_s: self.unmet_vcpu_s - earlier.unmet_vcpu_s,
        }
    }

    /// The penalty of this account, in s (see [`crate::objective`]).
    #[must_use]
    pub fn penalty(&self, objective: &Objective) -> f64 {
        self.energy_j * objective.per_joule()
            + self.cost_usd * objective.per_usd()
            + self.response_s * objective.per_response_second()
            + self.late * objective.per_late_request()
            + self.inaccuracy * objective.per_inaccuracy()
            + self.carbon_g * objective.per_gram_co2e()
            + self.unmet_vcpu_s * objective.per_unmet_vcpu_second()
    }
}

pub use crate::response::ResponseTimes;
pub use mechanics::MECHANICS;

/// The quality of service of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Qos {
    /// The objective; higher is better.
    pub objective: f64,
    /// Energy, in Wh.
    pub energy_wh: f64,
    /// Cost, in USD.
    pub cost_usd: f64,
    /// Mean response time of answered requests, in s.
    pub response_mean_s: f64,
    /// Median response time, in s.
    pub response_p50_s: f64,
    /// 95th percentile of response time, in s.
    pub response_p95_s: f64,
    /// 99th percentile of response time, in s.
    pub response_p99_s: f64,
    /// Share of requests answered late or overdue at the end.
    pub sla_violation_ratio: f64,
    /// Mean accuracy of answered requests.
    pub accuracy_mean: f64,
    /// Mean utilization of serving hosts, over time.
    pub utilization_mean: f64,
    /// Mean time from arrival to first service, in s.
    pub waiting_mean_s: f64,
    /// Jain's index over applications of the mean response time relative to the deadline.
    pub jain_fairness: f64,
    /// Requests that arrived.
    pub requests_arrived: u64,
    /// Requests that were answered; the others were rejected or are unfinished.
    pub requests_completed: u64,
    /// Requests under way at the end.
    pub requests_unfinished: u64,
    /// Hosts that were billed, mean over time.
    pub hosts_billed_mean: f64,
    /// Simulated time, in s.
    pub duration_s: f64,
    /// Greenhouse gas, in g CO2e; zero where the grids of the sites are not known.
    #[serde(default)]
    pub carbon_g: f64,
    /// Time for which hosts were held to their base speed, sum over hosts, in s.
    #[serde(default)]
    pub throttled_s: f64,
    /// What happened to the fleet that nobody decided.
    #[serde(default)]
    pub incidents: Incidents,
    /// Migrations that have ended.
    #[serde(default, skip_serializing_if = "MigrationTotals::is_empty")]
    pub migrations: MigrationTotals,
    /// Demand of long-running containers.
    #[serde(default, skip_serializing_if = "ContainerTotals::is_empty")]
    pub containers: ContainerTotals,
}

/// What long-running containers wanted and got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerTotals {
    /// What they wanted, in seconds of a virtual CPU.
    pub demanded_vcpu_s: f64,
    /// What of that they did not get at its moment, in seconds of a virtual CPU.
    pub unmet_vcpu_s: f64,
}

impl ContainerTotals {
    /// Those of everything up to the present of `state`.
    #[must_use]
    pub fn of(world: &World, state: &State) -> Self {
        let mut totals = Self::default();
        for (h, host) in state.hosts.iter().enumerate() {
            let [demanded, unmet] = host.containers_meter(state.now);
            totals.demanded_vcpu_s += world.vcpu_seconds(h, demanded);
            totals.unmet_vcpu_s += world.vcpu_seconds(h, unmet);
        }
        totals
    }

    /// Whether nothing was wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.demanded_vcpu_s <= 0.0
    }

    /// The share of the demand that was not met; zero where there was none.
    #[must_use]
    pub fn unmet_ratio(&self) -> f64 {
        if self.is_empty() {
            0.0
        } else {
            self.unmet_vcpu_s / self.demanded_vcpu_s
        }
    }
}

impl Qos {
    /// The quality of service of everything up to the present of `state`.
    pub fn of(world: &World, state: &State, responses: &mut ResponseTimes) -> Self {
        let account = Account::of(world, state);
        let duration_s = state.now.seconds();
        let totals: &RequestTotals = &state.totals;
        let completed = totals.completed.max(1) as f64;
        let (mut served, mut busy, mut billed) = (0.0, 0.0, 0.0);
        for host in &state.hosts {
            let meter = host.meter(state.now);
            served += meter.served.seconds();
            busy += meter.busy_s;
            billed += meter.billed.seconds();
        }
        Self {
            objective: if duration_s > 0.0 {
                -account.penalty(&world.objective) / duration_s
            } else {
                0.0
            },
            energy_wh: account.energy_j / 3600.0,
            cost_usd: account.cost_usd,
            response_mean_s: totals.response_s / completed,
            response_p50_s: responses.quantile(0.50),
            response_p95_s: responses.quantile(0.95),
            response_p99_s: responses.quantile(0.99),
            sla_violation_ratio: account.late / totals.arrived.max(1) as f64,
            accuracy_mean: totals.accuracy / completed,
            utilization_mean: if served > 0.0 { busy / served } else { 0.0 },
            waiting_mean_s: totals.waiting_s / completed,
            jain_fairness: jain(
                state
                    .by_application
                    .iter()
                    .filter(|(count, _)| *count > 0)
                    .map(|(count, sum)| sum / *count as f64),
            ),
            requests_arrived: totals.arrived,
            requests_completed: totals.completed,
            requests_unfinished: state.active.len() as u64,
            hosts_billed_mean: if duration_s > 0.0 {
                billed / duration_s
            } else {
                0.0
            },
            duration_s,
            carbon_g: account.carbon_g,
            throttled_s: state.hosts.iter().map(|h| h.throttled_time.seconds()).sum(),
            incidents: state.incidents,
            migrations: state.migration_totals(),
            containers: ContainerTotals::of(world, state),
        }
    }

    /// Names and values of the metrics, in the order in which tables show them.
    #[must_use]
    pub fn metrics(&self) -> [(&'static str, f64); 12] {
        [
            ("objective", self.objective),
            ("energy_wh", self.energy_wh),
            ("cost_usd", self.cost_usd),
            ("response_mean_s", self.response_mean_s),
            ("response_p50_s", self.response_p50_s),
            ("response_p95_s", self.response_p95_s),
            ("response_p99_s", self.response_p99_s),
            ("sla_violation_ratio", self.sla_violation_ratio),
            ("accuracy_mean", self.accuracy_mean),
            ("utilization_mean", self.utilization_mean),
            ("waiting_mean_s", self.waiting_mean_s),
            ("jain_fairness", self.jain_fairness),
        ]
    }
}

/// Jain's fairness index (Σx)² / (n Σx²) (Jain, Chiu and Hawe, DEC-TR-301, 1984); 1 if empty.
#[must_use]
pub fn jain(values: impl Iterator<Item = f64>) -> f64 {
    let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        n += 1.0;
        sum += value;
        squares += value * value;
    }
    if squares > 0.0 {
        sum * sum / (n * squares)
    } else {
        1.0
    }
}

/// What a fleet looks like at one moment: for timelines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Time, in s.
    pub time_s: f64,
    /// Hosts that serve (on or draining).
    pub hosts_on: u32,
    /// Hosts that boot.
    pub hosts_booting: u32,
    /// Used over available speed of the serving hosts.
    pub utilization: f64,
    /// Fragments that wait for memory or a boot, and requests that wait for a decision.
    pub queued: u32,
    /// Requests under way.
    pub active_requests: u32,
    /// Power of the fleet, in W.
    pub power_w: f64,
    /// Energy since the start, in Wh.
    pub energy_wh: f64,
    /// Price of the fleet, in USD per hour.
    pub price_usd_per_hour: f64,
    /// Requests that arrived since the start.
    pub arrived: u64,
}

impl Snapshot {
    /// The fleet of `state`.
    #[must_use]
    pub fn of(world: &World, state: &State) -> Self {
        let mut shot = Self {
            time_s: state.now.seconds(),
            active_requests: u32::try_from(state.active.len()).unwrap_or(u32::MAX),
            queued: u32::try_from(state.waiting.len()).unwrap_or(u32::MAX),
            arrived: state.totals.arrived,
            ..Self::default()
        };
        let (mut used, mut capacity) = (0.0, 0.0);
        for (h, host) in state.hosts.iter().enumerate() {
            shot.hosts_on += u32::from(host.lifecycle.serves());
            shot.hosts_booting += u32::from(matches!(host.lifecycle, Lifecycle::Booting { .. }));
            shot.queued += u32::try_from(host.queue.len()).unwrap_or(u32::MAX);
            shot.power_w += host.power_w;
            shot.energy_wh += host.meter(state.now).energy_j / 3600.0;
            if host.lifecycle.billed() {
                shot.price_usd_per_hour += world.price_usd_per_second(h) * 3600.0;
            }
            if host.lifecycle.serves() {
                used += host.used_mips;
                capacity += host.capacity_mips;
            }
        }
        shot.utilization = if capacity > 0.0 { used / capacity } else { 0.0 };
        shot
    }
}
