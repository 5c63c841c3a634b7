//! The rows of the Parquet files.

use datasets::table::{Columns, Frame};
use datasets::{ParquetError, ParquetRow};
use twin::World;
use twin::qos::{MECHANICS, Qos, Snapshot};

use super::Episodes;
use crate::policies::{Role, role};

/// The metrics that every world has, in the order in which tables show them; those of [`MECHANICS`]
/// follow, as far as a world has them.
pub const METRICS: [&str; 15] = [
    "objective",
    "regret",
    "energy_wh",
    "cost_usd",
    "response_mean_s",
    "response_p50_s",
    "response_p95_s",
    "response_p99_s",
    "sla_violation_ratio",
    "accuracy_mean",
    "utilization_mean",
    "waiting_mean_s",
    "jain_fairness",
    "decision_time_p50_us",
    "decision_time_p99_us",
];

/// One row of `runs.parquet`: one policy and seed.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// Name of the world.
    pub world: String,
    /// The policy, as it was specified.
    pub policy: String,
    /// Seed of the episode.
    pub seed: u64,
    /// The oracle's objective minus the policy's on the same seed; absent without the oracle.
    pub regret: Option<f64>,
    /// Quality of service.
    pub qos: Qos,
    /// Those of [`MECHANICS`] that the world has, in that order.
    pub mechanics: Vec<(&'static str, f64)>,
    /// Median time of a decision, in µs of the wall clock; absent if none was due.
    pub decision_time_p50_us: Option<f64>,
    /// 99th percentile of the time of a decision, in µs of the wall clock; absent if none was due.
    pub decision_time_p99_us: Option<f64>,
}

impl RunRow {
    /// The value of one of [`METRICS`] or [`MECHANICS`]; `None` if it is absent or there is no such
    /// metric.
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        match name {
            "regret" => self.regret,
            "decision_time_p50_us" => self.decision_time_p50_us,
            "decision_time_p99_us" => self.decision_time_p99_us,
            _ => self
                .qos
                .metrics()
                .iter()
                .chain(&self.mechanics)
                .find(|(known, _)| *known == name)
                .map(|&(_, value)| value),
        }
    }
}

impl ParquetRow for RunRow {
    fn to_columns(rows: &[Self]) -> Columns {
        let mut columns = Columns::new(rows.len())
            .text("world", rows.iter().map(|row| row.world.as_str()))
            .text("policy", rows.iter().map(|row| row.policy.as_str()))
            .u64("seed", rows.iter().map(|row| row.seed));
        for name in METRICS {
            columns = columns.optional_f64(name, rows.iter().map(|row| row.metric(name)));
        }
        for name in MECHANICS {
            if rows.iter().any(|row| row.metric(name).is_some()) {
                columns = columns.optional_f64(name, rows.iter().map(|row| row.metric(name)));
            }
        }
        columns
            .u64(
                "requests_arrived",
                rows.iter().map(|row| row.qos.requests_arrived),
            )
            .u64(
                "requests_completed",
                rows.iter().map(|row| row.qos.requests_completed),
            )
            .u64(
                "requests_unfinished",
                rows.iter().map(|row| row.qos.requests_unfinished),
            )
            .f64(
                "hosts_billed_mean",
                rows.iter().map(|row| row.qos.hosts_billed_mean),
            )
            .f64("duration_s", rows.iter().map(|row| row.qos.duration_s))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let (worlds, policies, seeds) = (
            frame.text("world")?,
            frame.text("policy")?,
            frame.u64("seed")?,
        );
        let (regret, p50, p99) = (
            frame.optional_f64("regret")?,
            frame.optional_f64("decision_time_p50_us")?,
            frame.optional_f64("decision_time_p99_us")?,
        );
        let qos = read_qos(frame)?;
        let mechanics = read_mechanics(frame)?;
        Ok((0..frame.height())
            .map(|i| Self {
                world: worlds[i].clone(),
                policy: policies[i].clone(),
                seed: seeds[i],
                regret: regret[i],
                qos: qos[i],
                mechanics: mechanics
                    .iter()
                    .filter_map(|(name, values)| Some((*name, values[i]?)))
                    .collect(),
                decision_time_p50_us: p50[i],
                decision_time_p99_us: p99[i],
            })
            .collect())
    }
}

/// A metric that only some worlds have, and its values.
type Mechanic = (&'static str, Vec<Option<f64>>);

/// The columns of [`MECHANICS`] that are there: not every world has them, and files that were
/// written before them have none.
fn read_mechanics(frame: &Frame) -> Result<Vec<Mechanic>, ParquetError> {
    let there = MECHANICS.into_iter().filter(|name| frame.has(name));
    there
        .map(|name| Ok((name, frame.optional_f64(name)?)))
        .collect()
}

fn read_qos(frame: &Frame) -> Result<Vec<Qos>, ParquetError> {
    let objective = frame.f64("objective")?;
    let energy_wh = frame.f64("energy_wh")?;
    let cost_usd = frame.f64("cost_usd")?;
    let response_mean_s = frame.f64("response_mean_s")?;
    let response_p50_s = frame.f64("response_p50_s")?;
    let response_p95_s = frame.f64("response_p95_s")?;
    let response_p99_s = frame.f64("response_p99_s")?;
    let sla_violation_ratio = frame.f64("sla_violation_ratio")?;
    let accuracy_mean = frame.f64("accuracy_mean")?;
    let utilization_mean = frame.f64("utilization_mean")?;
    let waiting_mean_s = frame.f64("waiting_mean_s")?;
    let jain_fairness = frame.f64("jain_fairness")?;
    let requests_arrived = frame.u64("requests_arrived")?;
    let requests_completed = frame.u64("requests_completed")?;
    let requests_unfinished = frame.u64("requests_unfinished")?;
    let hosts_billed_mean = frame.f64("hosts_billed_mean")?;
    let duration_s = frame.f64("duration_s")?;
    Ok((0..frame.height())
        .map(|i| Qos {
            objective: objective[i],
            energy_wh: energy_wh[i],
            cost_usd: cost_usd[i],
            response_mean_s: response_mean_s[i],
            response_p50_s: response_p50_s[i],
            response_p95_s: response_p95_s[i],
            response_p99_s: response_p99_s[i],
            sla_violation_ratio: sla_violation_ratio[i],
            accuracy_mean: accuracy_mean[i],
            utilization_mean: utilization_mean[i],
            waiting_mean_s: waiting_mean_s[i],
            jain_fairness: jain_fairness[i],
            requests_arrived: requests_arrived[i],
            requests_completed: requests_completed[i],
            requests_unfinished: requests_unfinished[i],
            hosts_billed_mean: hosts_billed_mean[i],
            duration_s: duration_s[i],
            ..Qos::default()
        })
        .collect())
}

/// The rows of all episodes, policies in the order of the arguments, then seeds.
pub(super) fn runs(world: &World, policies: &[String], episodes: &Episodes) -> Vec<RunRow> {
    let oracle = policies.iter().position(|spec| role(spec) == Role::Oracle);
    let best = |seed: u64| Some(episodes.get(&(oracle?, seed))?.qos.objective);
    episodes
        .values()
        .map(|episode| RunRow {
            world: world.name.clone(),
            policy: episode.policy.clone(),
            seed: episode.seed,
            regret: best(episode.seed).map(|best| best - episode.qos.objective),
            qos: episode.qos,
            mechanics: episode.qos.mechanics(world),
            decision_time_p50_us: episode.decision_time_p50_us,
            decision_time_p99_us: episode.decision_time_p99_us,
        })
        .collect()
}

/// One row of `timeline.parquet`: one policy and interval of the first seed.
#[derive(Clone, Debug, PartialEq)]
pub struct TimelineRow {
    /// Name of the world.
    pub world: String,
    /// The policy, as it was specified.
    pub policy: String,
    /// Seed of the episode.
    pub seed: u64,
    /// The interval that begins, from 0.
    pub interval: u32,
    /// The fleet at its beginning, before the decision.
    pub snapshot: Snapshot,
}

impl ParquetRow for TimelineRow {
    fn to_columns(rows: &[Self]) -> Columns {
        let shots = || rows.iter().map(|row| row.snapshot);
        Columns::new(rows.len())
            .text("world", rows.iter().map(|row| row.world.as_str()))
            .text("policy", rows.iter().map(|row| row.policy.as_str()))
            .u64("seed", rows.iter().map(|row| row.seed))
            .u32("interval", rows.iter().map(|row| row.interval))
            .f64("time_s", shots().map(|shot| shot.time_s))
            .u32("hosts_on", shots().map(|shot| shot.hosts_on))
            .u32("hosts_booting", shots().map(|shot| shot.hosts_booting))
            .f64("utilization", shots().map(|shot| shot.utilization))
            .u32("queued", shots().map(|shot| shot.queued))
            .u32("active_requests", shots().map(|shot| shot.active_requests))
            .f64("power_w", shots().map(|shot| shot.power_w))
            .f64("energy_wh", shots().map(|shot| shot.energy_wh))
            .f64(
                "price_usd_per_hour",
                shots().map(|shot| shot.price_usd_per_hour),
            )
            .u64("arrived", shots().map(|shot| shot.arrived))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let (worlds, policies) = (frame.text("world")?, frame.text("policy")?);
        let (seeds, intervals) = (frame.u64("seed")?, frame.u32("interval")?);
        let shots = read_snapshots(frame)?;
        Ok((0..frame.height())
            .map(|i| Self {
                world: worlds[i].clone(),
                policy: policies[i].clone(),
                seed: seeds[i],
                interval: intervals[i],
                snapshot: shots[i],
            })
            .collect())
    }
}

fn read_snapshots(frame: &Frame) -> Result<Vec<Snapshot>, ParquetError> {
    let time_s = frame.f64("time_s")?;
    let hosts_on = frame.u32("hosts_on")?;
    let hosts_booting = frame.u32("hosts_booting")?;
    let utilization = frame.f64("utilization")?;
    let queued = frame.u32("queued")?;
    let active_requests = frame.u32("active_requests")?;
    let power_w = frame.f64("power_w")?;
    let energy_wh = frame.f64("energy_wh")?;
    let price_usd_per_hour = frame.f64("price_usd_per_hour")?;
    let arrived = frame.u64("arrived")?;
    Ok((0..frame.height())
        .map(|i| Snapshot {
            time_s: time_s[i],
            hosts_on: hosts_on[i],
            hosts_booting: hosts_booting[i],
            utilization: utilization[i],
            queued: queued[i],
            active_requests: active_requests[i],
            power_w: power_w[i],
            energy_wh: energy_wh[i],
            price_usd_per_hour: price_usd_per_hour[i],
            arrived: arrived[i],
        })
        .collect())
}

/// The fleet at each interval, for the episodes that kept it.
pub(super) fn timeline(world: &World, episodes: &Episodes) -> Vec<TimelineRow> {
    let mut rows = Vec::new();
    for episode in episodes.values() {
        for (interval, snapshot) in (0..).zip(episode.timeline.iter().flatten()) {
            rows.push(TimelineRow {
                world: world.name.clone(),
                policy: episode.policy.clone(),
                seed: episode.seed,
                interval,
                snapshot: *snapshot,
            });
        }
    }
    rows
}
