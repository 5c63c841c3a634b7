//! CPU credits of burstable VM sizes (Azure's B-series): earned at a constant rate, spent by use,
//! throttled to the base when they are gone.
//!
//! One credit is one vCPU at 100 % for one minute. With *B* the balance in credits, *e* the credits
//! earned per hour and *u(t)* the vCPUs in use,
//!
//! ```text
//! dB/dt = (e / 60 − u(t)) per minute,  held between 0 and the maximum
//! base  = e / 60 vCPUs
//! speed = all vCPUs while B > 0, the base while B = 0
//! ```
//!
//! so that a VM that runs at its base neither gains nor loses. *u* is constant between events of a
//! host, the balance is therefore linear between them, and [`CreditAccount::next_change`] says when
//! the next bend is due. A VM with nothing left that is asked for more than its base runs at exactly
//! the base, and its balance stays at zero: there is no event until somebody asks for less.
//!
//! The base follows from the credits earned, not from the published percentage, which is rounded:
//! `Standard_B8ms` earns 81 an hour, a base of 1.35 of 8 vCPUs (16.875 %), published as 17 %. By the
//! published figure a VM at its base would slowly lose credits, against the documentation.
//!
//! The balance belongs to the place where the VM runs. A VM that is deallocated loses it, and one
//! that is started starts with the initial credits, as one that is deployed. That the initial
//! credits are granted at every start is an assumption: the documentation says it of deployment.
//! A policy can therefore refill an account by turning a host off and on.
//!
//! Sources: Microsoft, "B series CPU credit model" and the tables of the Bv1 and Bv2 series (Azure
//! documentation, CC-BY 4.0). The worked examples there halve all rates, which contradicts the
//! tables of credits banked per hour beside them; the tables are followed.
//! Left out: the granularity at which the meter runs, and moves of a VM by the operator.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::units::SimTime;

/// Seconds of one vCPU at 100 % that one credit pays for.
pub const VCPU_SECONDS_PER_CREDIT: f64 = 60.0;

/// Minutes in an hour: credits per hour over this is the base in vCPUs.
const MINUTES_PER_HOUR: f64 = 60.0;

/// Half a nanosecond: what would change within it has changed.
const HALF_NANOSECOND_S: f64 = 5e-10;

/// The credits of a burstable VM size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "CreditSpecFields", into = "CreditSpecFields")]
pub struct CreditSpec {
    vcpus: f64,
    initial: f64,
    per_hour: f64,
    maximum: f64,
}

/// What a [`CreditSpec`] is made of, before it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditSpecFields {
    /// Virtual CPUs of the size.
    pub vcpus: f64,
    /// Credits of a VM that starts.
    pub initial: f64,
    /// Credits earned per hour.
    pub per_hour: f64,
    /// The most credits that a VM can have.
    pub maximum: f64,
}

/// How much of its credits a VM has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreditLevel {
    /// None: the VM is held to its base.
    Exhausted,
    /// Some: the VM may use all its vCPUs.
    Banked,
    /// The maximum: what is earned beyond what is used is lost.
    Full,
}

/// The credits of one running VM.
///
/// The methods take the size's [`CreditSpec`], which hosts of a size share.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CreditAccount {
    balance: f64,
}

/// What went through an account: `balance after = balance before + earned − spent − forfeited`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CreditFlow {
    /// Credits earned.
    pub earned: f64,
    /// Credits spent.
    pub spent: f64,
    /// Credits that were earned when the account was full.
    pub forfeited: f64,
}

/// Why credits of a size are refused.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum CreditError {
    /// A number is not a quantity.
    #[error("{field}: must be finite and {least}, found {value}")]
    Quantity {
        /// The field.
        field: &'static str,
        /// `above zero` or `not negative`.
        least: &'static str,
        /// What was found.
        value: f64,
    },
    /// The VM would start with more than it can have.
    #[error("initial: {initial} credits are more than the maximum of {maximum}")]
    InitialAboveMaximum {
        /// Initial credits.
        initial: f64,
        /// Most credits.
        maximum: f64,
    },
    /// The size earns more than it can spend.
    #[error(
        "per_hour: {per_hour} credits per hour are a base of {base} vCPUs, but the size has only \
         {vcpus}; leave the credits out if it is not burstable"
    )]
    BaseAboveSize {
        /// Credits per hour.
        per_hour: f64,
        /// The base that follows.
        base: f64,
        /// vCPUs of the size.
        vcpus: f64,
    },
}

impl CreditSpec {
    /// Checked credits of a size with `vcpus` virtual CPUs.
    ///
    /// # Errors
    ///
    /// If a number is not a quantity, the size earns more than it can spend, or it would start with
    /// more than the maximum.
    pub fn new(vcpus: f64, initial: f64, per_hour: f64, maximum: f64) -> Result<Self, CreditError> {
        for (field, value) in [
            ("vcpus", vcpus),
            ("per_hour", per_hour),
            ("maximum", maximum),
        ] {
            if !(value.is_finite() && value > 0.0) {
                let least = "above zero";
                return Err(CreditError::Quantity {
                    field,
                    least,
                    value,
                });
            }
        }
        if !(initial.is_finite() && initial >= 0.0) {
            return Err(CreditError::Quantity {
                field: "initial",
                least: "not negative",
                value: initial,
            });
        }
        if initial > maximum {
            return Err(CreditError::InitialAboveMaximum { initial, maximum });
        }
        let base = per_hour / MINUTES_PER_HOUR;
        if base > vcpus {
            return Err(CreditError::BaseAboveSize {
                per_hour,
                base,
                vcpus,
            });
        }
        Ok(Self {
            vcpus,
            initial,
            per_hour,
            maximum,
        })
    }

    /// The base, in vCPUs: what the VM can use for ever.
    #[must_use]
    pub fn base_vcpus(&self) -> f64 {
        self.per_hour / MINUTES_PER_HOUR
    }

    /// The base as a share of the whole VM, between 0 and 1.
    #[must_use]
    pub fn base_share(&self) -> f64 {
        self.base_vcpus() / self.vcpus
    }

    /// The most credits that a VM can have.
    #[must_use]
    pub fn maximum(&self) -> f64 {
        self.maximum
    }

    /// Credits gained per second at a use of `used_vcpus`; negative where they are lost.
    fn gain_per_s(&self, used_vcpus: f64) -> f64 {
        (self.base_vcpus() - used_vcpus) / VCPU_SECONDS_PER_CREDIT
    }
}

impl TryFrom<CreditSpecFields> for CreditSpec {
    type Error = CreditError;

    fn try_from(f: CreditSpecFields) -> Result<Self, CreditError> {
        Self::new(f.vcpus, f.initial, f.per_hour, f.maximum)
    }
}

impl From<CreditSpec> for CreditSpecFields {
    fn from(spec: CreditSpec) -> Self {
        Self {
            vcpus: spec.vcpus,
            initial: spec.initial,
            per_hour: spec.per_hour,
            maximum: spec.maximum,
        }
    }
}

impl CreditAccount {
    /// The account of a VM that starts: it has the initial credits.
    #[must_use]
    pub fn started(spec: &CreditSpec) -> Self {
        Self {
            balance: spec.initial,
        }
    }

    /// An account with `balance` credits, as telemetry shows it; held between 0 and the maximum.
    #[must_use]
    pub fn with_balance(spec: &CreditSpec, balance: f64) -> Self {
        Self {
            // `max` before `min`: a balance that is not a number becomes zero.
            balance: balance.max(0.0).min(spec.maximum),
        }
    }

    /// Credits left.
    #[must_use]
    pub fn balance(&self) -> f64 {
        self.balance
    }

    /// How much that is.
    #[must_use]
    pub fn level(&self, spec: &CreditSpec) -> CreditLevel {
        if self.balance <= 0.0 {
            CreditLevel::Exhausted
        } else if self.balance >= spec.maximum {
            CreditLevel::Full
        } else {
            CreditLevel::Banked
        }
    }

    /// What the VM may use now, in vCPUs.
    #[must_use]
    pub fn capacity_vcpus(&self, spec: &CreditSpec) -> f64 {
        match self.level(spec) {
            CreditLevel::Exhausted => spec.base_vcpus(),
            CreditLevel::Banked | CreditLevel::Full => spec.vcpus,
        }
    }

    /// What the VM gets of `demand_vcpus`.
    #[must_use]
    pub fn usable_vcpus(&self, spec: &CreditSpec, demand_vcpus: f64) -> f64 {
        demand_vcpus.max(0.0).min(self.capacity_vcpus(spec))
    }

    /// After which span, and to what, the level changes if `used_vcpus` stay in use; `None` if it
    /// never does.
    ///
    /// The span is rounded up to a whole nanosecond, and [`CreditAccount::advance`] over it lands on
    /// the new level exactly. An account that leaves zero or the maximum does so at once, which
    /// needs no event: the use that makes it do so is below the base, or above it with all vCPUs
    /// free.
    #[must_use]
    pub fn next_change(
        &self,
        spec: &CreditSpec,
        used_vcpus: f64,
    ) -> Option<(SimTime, CreditLevel)> {
        let gain = spec.gain_per_s(used_vcpus);
        let (missing, to) = if gain > 0.0 {
            (spec.maximum - self.balance, CreditLevel::Full)
        } else {
            (self.balance, CreditLevel::Exhausted)
        };
        let seconds = missing / gain.abs();
        (missing > 0.0 && seconds.is_finite())
            .then(|| (SimTime::from_seconds_ceil(seconds).max(SimTime(1)), to))
    }

    /// Accounts for a span in which `used_vcpus` were in use all the time.
    ///
    /// The span must not go beyond [`CreditAccount::next_change`]; use that the account does not
    /// cover is counted as spent only as far as it does.
    pub fn advance(&mut self, spec: &CreditSpec, span: SimTime, used_vcpus: f64) -> CreditFlow {
        let seconds = span.seconds();
        let earned = spec.base_vcpus() * seconds / VCPU_SECONDS_PER_CREDIT;
        let gain = spec.gain_per_s(used_vcpus);
        let before = self.balance;
        let reached = before + gain * seconds;
        let tolerance = gain.abs() * HALF_NANOSECOND_S + before * f64::EPSILON;
        self.balance = if gain < 0.0 && reached <= tolerance {
            0.0
        } else if gain > 0.0 && reached >= spec.maximum - tolerance {
            spec.maximum
        } else {
            reached
        };
        let forfeited = if gain > 0.0 {
            (reached - self.balance).max(0.0)
        } else {
            0.0
        };
        CreditFlow {
            earned,
            spent: earned - forfeited - (self.balance - before),
            forfeited,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// vCPUs, published base in percent of the VM, initial, per hour and maximum, from the tables.
    const AZURE: [(&str, f64, f64, f64, f64, f64); 7] = [
        ("B2s", 2.0, 20.0, 60.0, 24.0, 576.0),
        ("B2ms", 2.0, 30.0, 60.0, 36.0, 864.0),
        ("B4ms", 4.0, 22.5, 120.0, 54.0, 1296.0),
        ("B8ms", 8.0, 17.0, 240.0, 81.0, 1994.0),
        ("B2s_v2", 2.0, 40.0, 60.0, 48.0, 1152.0),
        ("B4s_v2", 4.0, 40.0, 120.0, 96.0, 2304.0),
        ("B8s_v2", 8.0, 40.0, 240.0, 192.0, 4608.0),
    ];

    fn b2s() -> CreditSpec {
        CreditSpec::new(2.0, 60.0, 24.0, 576.0).expect("the published figures are consistent")
    }

    fn seconds(change: Option<(SimTime, CreditLevel)>) -> f64 {
        change.expect("the level changes").0.seconds()
    }

    #[test]
    fn the_base_is_the_published_one_up_to_its_rounding() {
        for (name, vcpus, base_percent, initial, per_hour, maximum) in AZURE {
            let spec =
                CreditSpec::new(vcpus, initial, per_hour, maximum).expect("a published size");
            let off = (spec.base_share() * 100.0 - base_percent).abs();
            // 81 / 60 / 8 = 16.875 %, published as 17 %; the others agree to the last digit.
            assert!(
                off < if name == "B8ms" { 0.126 } else { 1e-12 },
                "{name}: {off}"
            );
        }
    }

    #[test]
    fn full_use_spends_the_initial_credits() {
        // B2s: two vCPUs spend 2 a minute and earn 24 / 60 = 0.4, so 60 credits last
        // 60 / 1.6 = 37.5 minutes = 2,250 s. Then 0.4 vCPUs are left.
        let spec = b2s();
        let mut account = CreditAccount::started(&spec);
        assert!((account.capacity_vcpus(&spec) - 2.0).abs() < 1e-12);
        let change = account.next_change(&spec, 2.0);
        assert!((seconds(change) - 2250.0).abs() < 1e-8);
        assert_eq!(change.map(|c| c.1), Some(CreditLevel::Exhausted));

        // After 10 minutes 60 − 16 = 44 are left.
        account.advance(&spec, SimTime::from_seconds(600.0), 2.0);
        assert!((account.balance() - 44.0).abs() < 1e-9);
        let rest = account.next_change(&spec, 2.0).expect("it will end").0;
        account.advance(&spec, rest, 2.0);
        assert_eq!(account.level(&spec), CreditLevel::Exhausted);
        assert!((account.usable_vcpus(&spec, 2.0) - 0.4).abs() < 1e-12);
    }

    #[test]
    fn an_exhausted_vm_stays_at_its_base_without_events() {
        let spec = b2s();
        let mut account = CreditAccount::with_balance(&spec, 0.0);
        let used = account.usable_vcpus(&spec, 1.7);
        assert_eq!(account.next_change(&spec, used), None);
        account.advance(&spec, SimTime::from_seconds(1e6), used);
        assert_eq!(account.level(&spec), CreditLevel::Exhausted);
        // An hour at half the base gains half of 24.
        account.advance(&spec, SimTime::from_seconds(3600.0), 0.2);
        assert!((account.balance() - 12.0).abs() < 1e-9);
        assert!((account.capacity_vcpus(&spec) - 2.0).abs() < 1e-12);
    }

    #[test]
    fn an_idle_vm_fills_up() {
        // (576 − 60) / 24 = 21.5 hours.
        let spec = b2s();
        let mut account = CreditAccount::started(&spec);
        let change = account.next_change(&spec, 0.0);
        assert!((seconds(change) - 21.5 * 3600.0).abs() < 1e-6);
        assert_eq!(change.map(|c| c.1), Some(CreditLevel::Full));
        let flow = account.advance(&spec, SimTime::from_seconds(22.5 * 3600.0), 0.0);
        assert_eq!(account.level(&spec), CreditLevel::Full);
        // The hour beyond is lost: 24 credits.
        assert!((flow.forfeited - 24.0).abs() < 1e-9 && flow.spent.abs() < 1e-9);
        assert_eq!(account.next_change(&spec, 0.0), None);
        assert_eq!(account.next_change(&spec, spec.base_vcpus()), None);
    }

    #[test]
    fn a_restart_grants_the_initial_credits_and_nothing_else() {
        let spec = b2s();
        let mut account = CreditAccount::with_balance(&spec, 500.0);
        assert!((account.balance() - 500.0).abs() < 1e-12);
        account = CreditAccount::started(&spec);
        assert!((account.balance() - 60.0).abs() < 1e-12);
        assert!(CreditAccount::with_balance(&spec, f64::NAN).balance().abs() < 1e-12);
    }

    #[test]
    fn impossible_figures_are_refused() {
        let text = |spec: Result<CreditSpec, CreditError>| {
            spec.expect_err("the figures are wrong").to_string()
        };
        assert_eq!(
            text(CreditSpec::new(2.0, 60.0, f64::NAN, 576.0)),
            "per_hour: must be finite and above zero, found NaN"
        );
        assert_eq!(
            text(CreditSpec::new(2.0, 600.0, 24.0, 576.0)),
            "initial: 600 credits are more than the maximum of 576"
        );
        assert_eq!(
            text(CreditSpec::new(2.0, 60.0, 240.0, 576.0)),
            "per_hour: 240 credits per hour are a base of 4 vCPUs, but the size has only 2; leave \
             the credits out if it is not burstable"
        );
    }

    proptest! {
        #![proptest_config(crate::validation::property(256, ProptestConfig::default()))]

        /// Whatever is asked of a VM: the balance stays in its range, the books balance, what was
        /// used was earned or banked before, and walking from event to event ends.
        #[test]
        fn credits_are_conserved(
            size in 0..AZURE.len(),
            start in 0.0..1.0f64,
            demands in prop::collection::vec((0.0..1.5f64, 1..20_000_000_000_000u64), 1..30),
        ) {
            let (_, vcpus, _, initial, per_hour, maximum) = AZURE[size];
            let spec = CreditSpec::new(vcpus, initial, per_hour, maximum).expect("a published size");
            let mut account = CreditAccount::with_balance(&spec, start * maximum);
            let first = account.balance();
            let (mut flow, mut used_credits) = (CreditFlow::default(), 0.0);
            for (share, span) in demands {
                let demand = share * vcpus;
                let mut left = SimTime(span);
                let mut steps = 0;
                while left > SimTime::ZERO {
                    let used = account.usable_vcpus(&spec, demand);
                    let bend = account.next_change(&spec, used).map_or(left, |c| c.0.min(left));
                    let step = account.advance(&spec, bend, used);
                    flow.earned += step.earned;
                    flow.spent += step.spent;
                    flow.forfeited += step.forfeited;
                    used_credits += used * bend.seconds() / VCPU_SECONDS_PER_CREDIT;
                    left = left.since(bend);
                    steps += 1;
                    prop_assert!((0.0..=maximum).contains(&account.balance()));
                    prop_assert!(steps <= 2, "a constant demand bends the balance once");
                }
            }
            let booked = first + flow.earned - flow.spent - flow.forfeited;
            let scale = 1e-9 * (1.0 + first + flow.earned + flow.spent);
            prop_assert!((booked - account.balance()).abs() <= scale);
            prop_assert!((flow.spent - used_credits).abs() <= scale, "{flow:?} {used_credits}");
        }
    }
}
