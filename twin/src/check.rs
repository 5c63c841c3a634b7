//! What is odd in a world, and how much it asks of its hosts.
//!
//! A [`World`] that loads is valid; it may still be one in which no policy can do well, or in which
//! a part plays no role. [`CheckReport::of`] looks for such things and gives each a [`Finding`]: a
//! code that stays the same, the field of the file, what is odd, why it matters, and the way out.
//!
//! - *Load* (`load`): work that arrives over what all hosts can do, at the mean and in the
//!   busiest windows, and the least number of hosts with which the work is done in the long run.
//! - *Reach* (`reach`): the response that idle hosts of one site give, without queues:
//!   latency, transfers, and the longest path through the fragments at the highest rate that a
//!   host gives them. Its quantiles come from [`SAMPLES`] requests of the workload.
//! - *Memory*, *fleet* and *terms* of the objective: simple comparisons, with their limits as
//!   constants.
//! - *Containers*: demand against the speed of their hosts, and their lives. The load is that of
//!   requests alone.
//!
//! Left out: anything that needs a run. No finding says how well a policy does.

mod containers;
mod fleet;
mod load;
mod memory;
mod reach;
mod terms;

use serde::Serialize;

pub use load::{Load, LoadReport, Peak};
pub use reach::{ApplicationReach, SAMPLES, VariantReach};
pub use terms::TermShare;

use crate::world::World;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing; may well be meant.
    Note,
    /// Probably not meant.
    Warning,
    /// No policy can do well.
    Error,
}

impl Severity {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One odd thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What kind of thing it is; codes do not change.
    pub code: &'static str,
    /// Path of the field in the world file.
    pub field: String,
    /// What is odd.
    pub what: String,
    /// Why it matters.
    pub why: String,
    /// What can be done.
    pub way_out: String,
}

/// What is odd in a world, and its load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CheckReport {
    /// Name of the world.
    pub world: String,
    /// SHA-256 of the world file and its arrivals, in hexadecimal.
    pub hash: String,
    /// The load of the hosts.
    pub load: LoadReport,
    /// What idle hosts can reach, an application each.
    pub applications: Vec<ApplicationReach>,
    /// How far decisions can move each term of the objective.
    pub terms: Vec<TermShare>,
    /// What is odd, the gravest first.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Checks `world`.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let mut findings = Findings::default();
        let load = LoadReport::of(world);
        let applications = reach::applications(world);
        let terms = terms::shares(world, &load, &applications);
        load::check(world, &load, &mut findings);
        reach::check(world, &applications, &mut findings);
        memory::check(world, &mut findings);
        containers::check(world, &mut findings);
        fleet::check(world, &mut findings);
        terms::check(world, &terms, &mut findings);
        // The sort is stable: findings of one severity keep the order of the checks.
        findings.0.sort_by_key(|f| std::cmp::Reverse(f.severity));
        Self {
            world: world.name.clone(),
            hash: world.hash.clone(),
            load,
            applications,
            terms,
            findings: findings.0,
        }
    }

    /// Number of findings of at least this severity.
    #[must_use]
    pub fn count(&self, least: Severity) -> usize {
        self.findings.iter().filter(|f| f.severity >= least).count()
    }
}

/// The findings so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        (severity, code): (Severity, &'static str),
        field: String,
        [what, why, way_out]: [String; 3],
    ) {
        self.0.push(Finding {
            severity,
            code,
            field,
            what,
            why,
            way_out,
        });
    }
}

/// A share as a percentage that is short and never rounded to zero.
fn percent(share: f64) -> String {
    let value = share * 100.0;
    if value >= 9.95 || value == 0.0 {
        format!("{value:.0} %")
    } else {
        format!("{value:.2} %")
    }
}

#[cfg(test)]
mod tests;
