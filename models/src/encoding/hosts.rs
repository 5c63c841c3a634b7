//! Features of the hosts.

use twin::World;
use twin::estimate::HostLoad;
use twin::ids::HostId;
use twin::sequence::Context;

use super::scale::{Scale, fit, flag, log_ratio, log1p, over};

/// Names of the features of a host: where it is in its life with the plan so far, what it is, what
/// is on it.
pub const HOST_FEATURES: [&str; 26] = [
    "off",
    "booting",
    "on",
    "draining",
    "planned_on",
    "planned_off",
    "log1p_ready_s",
    "ram_free_share",
    "log1p_count",
    "log1p_count_per_vcpu",
    "log1p_backlog_s",
    "log1p_backlog_per_deadline",
    "log1p_left_per_fragment_s",
    "empty",
    "utilization",
    "log1p_queued",
    "log_speed_per_mean",
    "log_vcpu_speed_per_mean",
    "log2_vcpus",
    "log_ram_per_mean",
    "log1p_user_latency_ms",
    "log_idle_penalty_per_mean",
    "log_idle_penalty_per_speed",
    "log_work_penalty_per_mean",
    "log1p_boot_s",
    "log1p_boot_per_interval",
];

/// How many of the features never change.
const CONSTANT: usize = 10;

/// What the changing features of a host are made of.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seen {
    load: HostLoad,
    accepted: bool,
    utilization: f64,
    queued: usize,
}

/// Encodes hosts, and only those that changed.
#[derive(Clone, Debug, Default)]
pub(super) struct HostEncoder {
    deadline_s: f64,
    seen: Vec<Option<Seen>>,
    rows: Vec<f32>,
}

impl HostEncoder {
    /// Takes the constant features from `world`.
    pub(super) fn renew(&mut self, world: &World, scale: &Scale) {
        self.deadline_s = scale.deadline_s;
        self.seen.clear();
        self.seen.resize(world.hosts.len(), None);
        self.rows.clear();
        for h in 0..world.hosts.len() {
            self.rows.extend([0.0; HOST_FEATURES.len() - CONSTANT]);
            self.rows.extend(constant(world, scale, h).map(fit));
        }
    }

    /// Writes the features of all hosts into `out`.
    pub(super) fn encode(&mut self, context: &Context<'_>, out: &mut Vec<f32>) {
        let observation = context.observation;
        let rows = self.rows.chunks_exact_mut(HOST_FEATURES.len());
        for (h, ((load, row), seen)) in context
            .loads
            .hosts()
            .iter()
            .zip(rows)
            .zip(&mut self.seen)
            .enumerate()
        {
            let host = HostId::at(h);
            let coarse = HostLoad {
                left_mi: coarse(load.left_mi),
                ready_s: coarse(load.ready_s),
                ..*load
            };
            let now = Seen {
                load: coarse,
                accepted: observation.lifecycle(host).accepts(),
                utilization: observation.utilization(host),
                queued: observation.queued_count(host),
            };
            if *seen != Some(now) {
                *seen = Some(now);
                for (place, value) in row.iter_mut().zip(changing(&now, self.deadline_s)) {
                    *place = fit(value);
                }
            }
        }
        out.clear();
        out.extend_from_slice(&self.rows);
    }
}

/// The value with five bits after the leading one, at most a thirty-second part lower.
///
/// Work left and time to boot shrink all the time; so coarse, most hosts stay as they are from one
/// decision to the next and need not be encoded anew. What candidates would mean is computed from
/// the exact values.
fn coarse(value: f64) -> f64 {
    const DROPPED: u64 = (1 << 47) - 1;
    f64::from_bits(value.to_bits() & !DROPPED)
}

fn changing(seen: &Seen, deadline_s: f64) -> [f64; HOST_FEATURES.len() - CONSTANT] {
    let load = &seen.load;
    let booting = load.accepts && load.ready_s > 0.0;
    let backlog_s = load.left_mi / load.speed_mips;
    [
        flag(!load.billed),
        flag(booting),
        flag(load.accepts && !booting),
        flag(load.billed && !load.accepts),
        flag(load.accepts && !seen.accepted),
        flag(!load.accepts && seen.accepted),
        log1p(load.ready_s),
        load.ram_free_mib / load.ram_mib,
        log1p(load.count),
        log1p(load.count / load.vcpus),
        log1p(backlog_s),
        log1p(backlog_s / deadline_s),
        log1p(over(load.left_mi / load.vcpu_mips, load.count)),
        flag(load.count <= 0.0),
        seen.utilization,
        log1p(seen.queued as f64),
    ]
}

fn constant(world: &World, scale: &Scale, h: usize) -> [f64; CONSTANT] {
    let size = world.size_of(h);
    let objective = &world.objective;
    let speed_mips = size.capacity().0;
    let idle_w = size.power.at(0.0).0;
    let idle =
        world.penalty_per_joule(h) * idle_w + objective.per_usd() * world.price_usd_per_second(h);
    let work = world.penalty_per_joule(h) * (size.power.at(1.0).0 - idle_w) / speed_mips;
    let latency_s = world.sites[world.hosts[h].site.index()]
        .user_latency
        .seconds();
    let relative = |value: f64, mean: f64| log_ratio(over(value, mean), 1.0);
    [
        relative(speed_mips, scale.speed_mips),
        relative(size.mips_per_vcpu.0, scale.vcpu_mips),
        log_ratio(size.vcpus, 1.0) * std::f64::consts::LOG2_E,
        relative(size.ram.0, scale.ram_mib),
        log1p(1000.0 * latency_s),
        relative(idle, scale.idle_penalty),
        relative(idle / speed_mips, scale.idle_penalty / scale.speed_mips),
        relative(work, scale.work_penalty),
        log1p(size.boot.seconds()),
        log1p(size.boot.seconds() / world.interval.seconds()),
    ]
}
