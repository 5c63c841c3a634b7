//! `[migration]`: how running fragments are moved, where a decision moves them.
//!
//! Every key may be left out. Times and sizes that are left out are nothing: a world charges what
//! it says and no more.

use serde::{Deserialize, Serialize};

use super::{Fragment, World};
use crate::ids::HostId;
use crate::migration::{
    DirtyPages, FaultProbabilities, PAGE, Spec, SpecError, StopRules, StrategyKind,
};
use crate::network::{self, Endpoint};
use crate::units::{Mebibytes, MegabitsPerSecond, SimTime};

/// `[migration]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MigrationFile {
    /// The strategy where a decision names none: `stop-and-copy`, `pre-copy` (default), `post-copy`
    /// or `hybrid`.
    pub strategy: StrategyKind,
    /// Rounds of copying end when the downtime is expected to fit this, in ms; 300.
    pub downtime_limit_ms: f64,
    /// The most rounds; 30.
    pub max_rounds: u32,
    /// Rounds end when more than this multiple of the memory has been sent; 3.
    pub max_sent_ratio: f64,
    /// Rounds end when one gains less than this share of the pages that it sent; no rule if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_gain: Option<f64>,
    /// Execution state that is sent while the fragment is paused, in MiB; 0.
    pub state_mib: f64,
    /// Image layers that every destination lacks, in MiB; 0.
    pub image_mib: f64,
    /// Time to freeze a fragment and dump what is not memory, in ms; 0.
    pub dump_ms: f64,
    /// Time to restore that at the destination, in ms; 0.
    pub restore_ms: f64,
    /// Time to check the restored fragment, in ms; 0.
    pub verify_ms: f64,
    /// Time from the order to resume until it serves again, in ms; 0.
    pub resume_ms: f64,
    /// How likely each step fails; never.
    pub faults: FaultProbabilities,
}

impl Default for MigrationFile {
    fn default() -> Self {
        let rules = StopRules::default();
        Self {
            strategy: StrategyKind::default(),
            downtime_limit_ms: rules.downtime_limit.seconds() * 1e3,
            max_rounds: rules.max_rounds,
            max_sent_ratio: rules.max_sent_ratio.unwrap_or(3.0),
            min_gain: rules.min_gain,
            state_mib: 0.0,
            image_mib: 0.0,
            dump_ms: 0.0,
            restore_ms: 0.0,
            verify_ms: 0.0,
            resume_ms: 0.0,
            faults: FaultProbabilities::default(),
        }
    }
}

/// How running fragments are moved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MigrationSettings {
    /// The strategy where a decision names none.
    pub strategy: StrategyKind,
    /// How likely each step fails.
    pub faults: FaultProbabilities,
    /// When rounds of copying end.
    rules: StopRules,
    /// A migration of one page, between ends without latency.
    template: Spec,
}

impl MigrationSettings {
    /// What `file` says.
    ///
    /// # Errors
    ///
    /// The key that is wrong, and what would be right.
    pub(super) fn new(file: &MigrationFile) -> Result<Self, (&'static str, String)> {
        for (field, value) in [
            ("downtime_limit_ms", file.downtime_limit_ms),
            ("state_mib", file.state_mib),
            ("image_mib", file.image_mib),
            ("dump_ms", file.dump_ms),
            ("restore_ms", file.restore_ms),
            ("verify_ms", file.verify_ms),
            ("resume_ms", file.resume_ms),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                let problem = format!("must be finite and not negative, found {value}");
                return Err((field, problem));
            }
        }
        let milliseconds = |ms: f64| SimTime::from_seconds(ms / 1e3);
        let rules = StopRules {
            downtime_limit: milliseconds(file.downtime_limit_ms),
            max_rounds: file.max_rounds,
            max_sent_ratio: Some(file.max_sent_ratio),
            min_gain: file.min_gain,
        };
        let template = Spec {
            state: Mebibytes(file.state_mib),
            image: Mebibytes(file.image_mib),
            dump: milliseconds(file.dump_ms),
            restore: milliseconds(file.restore_ms),
            verify: milliseconds(file.verify_ms),
            resume: milliseconds(file.resume_ms),
            // Has rules, so that these are checked whatever the strategy is.
            ..Spec::new(StrategyKind::PreCopy.with(rules), PAGE)
        };
        let wrong = |error: SpecError| match error {
            SpecError::Rule {
                field,
                value,
                wanted,
            } => (field, format!("must be {wanted}, found {value}")),
            SpecError::Probability { field, value } => {
                let problem = format!("must lie between 0 and 1, found {value}");
                (fault_field(field), problem)
            }
            other => ("max_rounds", other.to_string()),
        };
        template.check().map_err(wrong)?;
        file.faults.check().map_err(wrong)?;
        Ok(Self {
            strategy: file.strategy,
            faults: file.faults,
            rules,
            template,
        })
    }

    /// The migration of `fragment` from one host to another.
    #[must_use]
    pub fn spec(
        &self,
        world: &World,
        fragment: &Fragment,
        (from, to): (HostId, HostId),
        strategy: StrategyKind,
    ) -> Spec {
        let one_way = network::latency(world, Endpoint::Host(from), Endpoint::Host(to));
        Spec {
            strategy: strategy.with(self.rules),
            memory: Mebibytes(fragment.ram.0.max(PAGE.0)),
            dirtied: fragment.dirtied,
            touched: fragment.dirtied,
            rtt: one_way.after(one_way),
            ..self.template
        }
    }
}

/// What the path from one host to another gives a transfer that has it for itself.
pub(crate) fn nominal_bandwidth(world: &World, (from, to): (HostId, HostId)) -> MegabitsPerSecond {
    let (egress, ingress) = (
        world.size_of(from.index()).network.0,
        world.size_of(to.index()).network.0,
    );
    let (a, b) = (world.hosts[from.index()].site, world.hosts[to.index()].site);
    let link = if a == b {
        f64::INFINITY
    } else {
        world.link(a, b).bandwidth.0
    };
    MegabitsPerSecond(egress.min(ingress).min(link))
}

/// The pages that a fragment of `ram_mib` writes, from the keys of its table.
///
/// # Errors
///
/// The key that is wrong, and what would be right.
pub(super) fn dirtied(
    ram_mib: f64,
    dirty_mib_per_s: f64,
    working_set_mib: Option<f64>,
) -> Result<DirtyPages, (&'static str, String)> {
    if !(dirty_mib_per_s.is_finite() && dirty_mib_per_s >= 0.0) {
        let problem = format!("must be finite and not negative, found {dirty_mib_per_s}");
        return Err(("dirty_mib_per_s", problem));
    }
    if let Some(size) = working_set_mib
        && !(size > 0.0 && size <= ram_mib)
    {
        let problem = format!("must be above zero and at most ram_mib = {ram_mib}, found {size}");
        return Err(("working_set_mib", problem));
    }
    Ok(match working_set_mib {
        _ if dirty_mib_per_s <= 0.0 => DirtyPages::None,
        Some(size) => DirtyPages::WorkingSet {
            size: Mebibytes(size),
            rate_mib_per_s: dirty_mib_per_s,
        },
        None => DirtyPages::Linear {
            rate_mib_per_s: dirty_mib_per_s,
            limit: Some(Mebibytes(ram_mib)),
        },
    })
}

fn fault_field(step: &str) -> &'static str {
    match step {
        "planning" => "faults.planning",
        "preparing" => "faults.preparing",
        "executing" => "faults.executing",
        _ => "faults.verifying",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Ratio;

    fn refused(change: impl FnOnce(&mut MigrationFile)) -> Option<&'static str> {
        let mut file = MigrationFile::default();
        change(&mut file);
        MigrationSettings::new(&file).err().map(|(field, _)| field)
    }

    #[test]
    fn what_is_wrong_is_named_by_its_key() {
        assert_eq!(refused(|_| ()), None);
        assert_eq!(refused(|f| f.dump_ms = -1.0), Some("dump_ms"));
        assert_eq!(refused(|f| f.image_mib = f64::NAN), Some("image_mib"));
        assert_eq!(refused(|f| f.max_sent_ratio = 0.5), Some("max_sent_ratio"));
        assert_eq!(refused(|f| f.min_gain = Some(2.0)), Some("min_gain"));
        assert_eq!(refused(|f| f.max_rounds = 1_000_000), Some("max_rounds"));
        let fault = refused(|f| f.faults.verifying = Ratio(1.5));
        assert_eq!(fault, Some("faults.verifying"));
    }

    #[test]
    fn writes_of_a_fragment_are_bounded_by_its_memory() {
        assert_eq!(dirtied(100.0, 0.0, Some(10.0)), Ok(DirtyPages::None));
        let linear = dirtied(100.0, 5.0, None).expect("it is valid");
        assert_eq!(linear.bound(), Some(Mebibytes(100.0)));
        let bounded = dirtied(100.0, 5.0, Some(20.0)).expect("it is valid");
        assert_eq!(bounded.bound(), Some(Mebibytes(20.0)));
        for (rate, size, field) in [
            (-1.0, None, "dirty_mib_per_s"),
            (f64::INFINITY, None, "dirty_mib_per_s"),
            (1.0, Some(0.0), "working_set_mib"),
            (1.0, Some(101.0), "working_set_mib"),
            (1.0, Some(f64::NAN), "working_set_mib"),
        ] {
            let (found, _) = dirtied(100.0, rate, size).expect_err("it is wrong");
            assert_eq!(found, field);
        }
    }
}
