//! What features are measured against: constants of a world, and the functions that compress.

use twin::World;
use twin::objective::Objective;

/// Bound on the absolute value of every feature.
pub const LIMIT: f32 = 20.0;

/// What is constant in a world and needed to make features free of scale.
#[derive(Clone, Debug, Default)]
pub(super) struct Scale {
    hash: String,
    objective: Option<Objective>,
    /// Mean speed of a host, in MIPS.
    pub(super) speed_mips: f64,
    /// Speed of all hosts, in MIPS.
    pub(super) fleet_mips: f64,
    /// Mean speed of a virtual CPU, in MIPS.
    pub(super) vcpu_mips: f64,
    /// Mean memory of a host, in MiB.
    pub(super) ram_mib: f64,
    /// Mean penalty of a second on and idle, in s.
    pub(super) idle_penalty: f64,
    /// Mean penalty of the energy of one MI, in s.
    pub(super) work_penalty: f64,
    /// Mean time to boot, in s.
    pub(super) boot_s: f64,
    /// Mean deadline of the applications, in s.
    pub(super) deadline_s: f64,
    /// Longest deadline, in s.
    pub(super) longest_deadline_s: f64,
    /// Mean expected work of a request, in MI.
    pub(super) typical_mi: f64,
    /// What a request can cost at worst: a deadline's time, lateness, all accuracy and its energy.
    pub(super) request_penalty: f64,
}

impl Scale {
    /// Takes the constants of `world`; whether it is another world than before.
    pub(super) fn renew(&mut self, world: &World) -> bool {
        if self.objective == Some(world.objective) && self.hash == world.hash {
            return false;
        }
        self.hash.clone_from(&world.hash);
        self.objective = Some(world.objective);
        let hosts = world.hosts.len().max(1) as f64;
        let mean =
            |value: &dyn Fn(usize) -> f64| (0..world.hosts.len()).map(value).sum::<f64>() / hosts;
        let objective = &world.objective;
        let idle_w = |h: usize| world.size_of(h).power.at(0.0).0;
        self.fleet_mips = world.capacity().0;
        self.speed_mips = self.fleet_mips / hosts;
        self.vcpu_mips = mean(&|h| world.size_of(h).mips_per_vcpu.0);
        self.ram_mib = mean(&|h| world.size_of(h).ram.0);
        self.idle_penalty = mean(&|h| {
            world.penalty_per_joule(h) * idle_w(h)
                + objective.per_usd() * world.price_usd_per_second(h)
        });
        self.work_penalty = mean(&|h| {
            let size = world.size_of(h);
            world.penalty_per_joule(h) * (size.power.at(1.0).0 - idle_w(h)) / size.capacity().0
        });
        self.boot_s = mean(&|h| world.size_of(h).boot.seconds());
        let applications = world.applications.len().max(1) as f64;
        let deadlines = || world.applications.iter().map(|a| a.deadline.seconds());
        self.deadline_s = deadlines().sum::<f64>() / applications;
        self.longest_deadline_s = deadlines().fold(0.0, f64::max);
        self.typical_mi = world.typical_mi.iter().sum::<f64>() / applications;
        self.request_penalty = objective.per_response_second() * self.deadline_s
            + objective.per_late_request()
            + objective.per_inaccuracy()
            + self.typical_mi * (self.work_penalty + self.idle_penalty / self.speed_mips);
        true
    }

    /// A penalty in units of what a request can cost at worst.
    pub(super) fn per_request(&self, penalty: f64) -> f64 {
        over(penalty, self.request_penalty)
    }

    /// A penalty per second in units of that of a mean idle host.
    pub(super) fn per_host(&self, penalty_per_s: f64) -> f64 {
        over(penalty_per_s, self.idle_penalty)
    }
}

/// `value / unit`; where the unit is nothing, so is the ratio.
pub(super) fn over(value: f64, unit: f64) -> f64 {
    if unit > 0.0 { value / unit } else { 0.0 }
}

/// The logarithm of `1 + value` for values from zero, mirrored for values below.
pub(super) fn log1p(value: f64) -> f64 {
    ln(1.0 + value.abs()).copysign(value)
}

/// The logarithm of `a / b`, for values from zero; bounded where either is nothing.
pub(super) fn log_ratio(a: f64, b: f64) -> f64 {
    const LEAST: f64 = 1e-6;
    ln(a.max(LEAST)) - ln(b.max(LEAST))
}

/// A small penalty on a logarithmic scale that still tells a hundredth from nothing.
pub(super) fn fine(share: f64) -> f64 {
    log1p(100.0 * share)
}

/// One if `condition`, else zero.
pub(super) fn flag(condition: bool) -> f64 {
    f64::from(u8::from(condition))
}

/// A feature as the network gets it: finite and bounded.
#[expect(
    clippy::cast_possible_truncation,
    reason = "features are single precision"
)]
pub(super) fn fit(value: f64) -> f32 {
    if value.is_nan() {
        0.0
    } else {
        (value as f32).clamp(-LIMIT, LIMIT)
    }
}

/// Natural logarithm of a positive normal number to about 1e-8, the same on every machine.
///
/// `ln(m · 2^e) = e · ln 2 + 2 artanh((m − 1) / (m + 1))`, with `m` between √½ and √2.
fn ln(value: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = value.to_bits();
    let up = (bits & MANTISSA) >= 0x6_a09e_667f_3bcd;
    let exponent = (bits >> 52) as f64 - 1023.0 + flag(up);
    let half = if up { 1022_u64 } else { 1023 };
    let mantissa = f64::from_bits((bits & MANTISSA) | (half << 52));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = 1.0 + square * (1.0 / 3.0 + square * (0.2 + square * (1.0 / 7.0 + square / 9.0)));
    exponent * std::f64::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithms_are_those_of_the_library() {
        for i in -400..400 {
            let value = (f64::from(i) * 0.1).exp();
            assert!((ln(value) - value.ln()).abs() < 1e-8, "{value}");
        }
    }

    #[test]
    fn features_are_finite_and_bounded() {
        let worst = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300];
        for value in worst.map(fit) {
            assert!(value.is_finite() && value.abs() <= LIMIT);
        }
        for value in worst.map(log1p).map(fit) {
            assert!(value.is_finite() && value.abs() <= LIMIT);
        }
    }
}
