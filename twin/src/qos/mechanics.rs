//! Metrics of what only some worlds have: carbon, credits, models, limits, faults, migrations,
//! containers.

use super::Qos;
use crate::faults::Faults;
use crate::world::World;

/// All of them, in the order in which tables show them.
pub const MECHANICS: [&str; 18] = [
    "carbon_g",
    "throttled_s",
    "cold_starts",
    "requests_rejected",
    "demanded_vcpu_s",
    "unmet_vcpu_s",
    "unmet_ratio",
    "migrations_completed",
    "migrations_failed",
    "migrations_canceled",
    "migrations_sent_mib",
    "migrations_downtime_s",
    "migrations_stall_s",
    "host_crashes",
    "slow_spells",
    "link_failures",
    "allocation_failures",
    "requests_withdrawn",
];

impl Qos {
    /// Those of [`MECHANICS`] that `world` has, in that order.
    #[must_use]
    pub fn mechanics(&self, world: &World) -> Vec<(&'static str, f64)> {
        let happened = &self.incidents;
        let mut metrics = Vec::new();
        if world.sites.iter().any(|s| s.grid_gco2e_per_kwh.is_some()) {
            metrics.push(("carbon_g", self.carbon_g));
        }
        if world.sizes.iter().any(|s| s.credits.is_some()) {
            metrics.push(("throttled_s", self.throttled_s));
        }
        if !world.models.is_empty() {
            metrics.push(("cold_starts", happened.cold_starts as f64));
        }
        if world.max_active_requests.is_some() {
            metrics.push(("requests_rejected", happened.requests_rejected as f64));
        }
        if !world.containers.is_empty() {
            metrics.extend([
                ("demanded_vcpu_s", self.containers.demanded_vcpu_s),
                ("unmet_vcpu_s", self.containers.unmet_vcpu_s),
                ("unmet_ratio", self.containers.unmet_ratio()),
            ]);
        }
        let moved = &self.migrations;
        if world.file.migration.is_some() || !moved.is_empty() {
            metrics.extend([
                ("migrations_completed", moved.completed as f64),
                ("migrations_failed", moved.failed as f64),
                ("migrations_canceled", moved.canceled as f64),
                ("migrations_sent_mib", moved.sent_mib),
                ("migrations_downtime_s", moved.downtime_s),
                ("migrations_stall_s", moved.stall_s),
            ]);
        }
        if world.faults != Faults::default() {
            metrics.extend([
                ("host_crashes", happened.host_crashes as f64),
                ("slow_spells", happened.slow_spells as f64),
                ("link_failures", happened.link_failures as f64),
                ("allocation_failures", happened.allocation_failures as f64),
                ("requests_withdrawn", happened.requests_withdrawn as f64),
            ]);
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_has_its_own_mechanics_in_the_order_of_the_list() {
        let world = World::load("scinet-16").expect("it is embedded");
        let of = |world: &World| -> Vec<&str> {
            Qos::default()
                .mechanics(world)
                .iter()
                .map(|m| m.0)
                .collect()
        };
        let plain = of(&world);
        assert!(!plain.contains(&"unmet_ratio") && !plain.contains(&"host_crashes"));
        let mut full = world;
        full.sites[0].grid_gco2e_per_kwh = Some(1.0);
        full.sizes[0].credits = crate::credits::CreditSpec::new(2.0, 1.0, 36.0, 10.0).ok();
        full.models.push(crate::world::Model {
            name: "m".into(),
            ram: crate::units::Mebibytes(1.0),
            load: crate::units::SimTime::ZERO,
        });
        full.max_active_requests = Some(3);
        full.faults.crash_every_s = Some(1.0);
        let mut found = of(&full);
        found.extend(["demanded_vcpu_s", "unmet_vcpu_s", "unmet_ratio"]);
        let mut moved = Qos::default();
        moved.migrations.completed = 1;
        found.extend(moved.mechanics(&full).iter().map(|m| m.0));
        found.sort_unstable();
        found.dedup();
        let mut all = MECHANICS.to_vec();
        all.sort_unstable();
        assert_eq!(found, all);
    }
}
