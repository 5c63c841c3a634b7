//! What the energy of a site emits.
//!
//! ```text
//! emissions = energy · grid factor
//! ```
//!
//! with one factor a site (`grid_gco2e_per_kwh`), in grams of CO₂ equivalent per kWh: the location-based
//! method of the Greenhouse Gas Protocol, Scope 2 Guidance, 2015. A site without a factor is not
//! accounted for. Factors by Azure region are in `datasets/data/power/grid_factors.parquet`.
//!
//! Left out: hours of the day, marginal emissions, cooling, and what it took to build the servers.

use crate::units::Joules;
use crate::world::World;

/// Joules in a kWh.
pub const JOULES_PER_KWH: f64 = 3.6e6;

/// CO₂ equivalent of `energy` from a grid that emits `gco2e_per_kwh`, in g.
#[must_use]
pub fn emissions_g(energy: Joules, gco2e_per_kwh: f64) -> f64 {
    energy.0 / JOULES_PER_KWH * gco2e_per_kwh
}

impl World {
    /// CO₂ equivalent of a joule used by host `host`, in g; zero where the site has no factor.
    #[must_use]
    pub fn carbon_g_per_joule(&self, host: usize) -> f64 {
        let site = &self.sites[self.hosts[host].site.index()];
        emissions_g(Joules(1.0), site.grid_gco2e_per_kwh.unwrap_or(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scinet-16` with a factor for its first site.
    fn world(factor: Option<f64>) -> Result<World, crate::world::WorldError> {
        let mut file = World::load("scinet-16")?.file.as_ref().clone();
        file.sites[0].grid_gco2e_per_kwh = factor;
        World::resolve(file, "test", None)
    }

    #[test]
    fn a_kwh_emits_the_factor() {
        // A host that draws 100 W for 16 hours uses 1.6 kWh; at 228 g/kWh that is 364.8 g.
        let world = world(Some(228.0)).expect("a right world");
        let grams = world.carbon_g_per_joule(0) * 100.0 * 3600.0 * 16.0;
        assert!((grams - 364.8).abs() < 1e-9, "{grams}");
    }

    #[test]
    fn without_a_factor_nothing_is_accounted_for() {
        let without = world(None).expect("a right world");
        assert!(without.carbon_g_per_joule(3).abs() < f64::MIN_POSITIVE);
        let plain = World::load("scinet-16").expect("an embedded world");
        assert_eq!(without.hash, plain.hash, "an absent key leaves no trace");
        let error = world(Some(-1.0)).expect_err("a negative factor");
        assert_eq!(
            error.to_string(),
            "test: sites[0].grid_gco2e_per_kwh: must be finite and not negative, found -1"
        );
    }
}
