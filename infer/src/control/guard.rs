//! Guardrails: what may not be done, whoever decided it. Each says its name and its reason.
//!
//! Counts err on the safe side: for the least number of hosts only those count that certainly run,
//! for the most and for the budget all that are not certainly off.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::action::Change;
use super::fleet::Fleet;
use super::ledger::Ledger;
use super::pattern::{Pattern, TagPattern};
use super::reconcile::Proposal;
use super::standing::Standing;
use super::window::Window;

/// The most that waits between attempts at a VM double.
const MAX_DOUBLINGS: u32 = 6;

/// The guardrails.
#[derive(Clone, Debug, PartialEq)]
pub struct Guardrails {
    /// Names of VMs that are never touched.
    pub never: Vec<Pattern>,
    /// Tags of VMs that are never touched.
    pub never_tags: Vec<TagPattern>,
    /// The least number of hosts that are on.
    pub minimum_on: usize,
    /// The most hosts that may be on.
    pub maximum_on: Option<usize>,
    /// The most VMs that are acted upon in an interval.
    pub maximum_actions: usize,
    /// How long a VM is left alone after it was acted upon.
    pub cool_down: SignedDuration,
    /// How long a VM is left alone after an action on it failed; doubles with each failure.
    pub backoff: SignedDuration,
    /// What the fleet may cost, in USD per hour.
    pub budget_usd_per_hour: Option<f64>,
    /// When actions are allowed; always if there is none.
    pub act_only: Vec<Window>,
    /// When no actions are allowed.
    pub act_never: Vec<Window>,
    /// The most that predicted and measured utilization may differ, between 0 and 1.
    pub maximum_drift: Option<f64>,
    /// The oldest that metrics may be, in s.
    pub maximum_metric_age_s: Option<f64>,
}

impl Default for Guardrails {
    /// Nothing is forbidden but a storm: 10 VMs an interval.
    fn default() -> Self {
        Self {
            never: Vec::new(),
            never_tags: Vec::new(),
            minimum_on: 0,
            maximum_on: None,
            maximum_actions: 10,
            cool_down: SignedDuration::ZERO,
            backoff: SignedDuration::from_secs(60),
            budget_usd_per_hour: None,
            act_only: Vec::new(),
            act_never: Vec::new(),
            maximum_drift: None,
            maximum_metric_age_s: None,
        }
    }
}

/// Why the whole fleet is left as it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freeze {
    /// The twin and the fleet have drifted apart.
    Drift {
        /// Mean difference of predicted and measured utilization.
        drift: f64,
        /// The most that is allowed.
        limit: f64,
    },
    /// The metrics are too old to decide by, or there are none.
    StaleMetrics {
        /// Age of the oldest that counts, in s; none where there is no metric.
        #[serde(skip_serializing_if = "Option::is_none")]
        age_s: Option<f64>,
        /// The oldest that is allowed, in s.
        limit_s: f64,
    },
    /// It is no time to act.
    OutsideWindows,
    /// It is a time in which nothing is changed.
    Forbidden {
        /// The window.
        window: String,
    },
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drift { drift, limit } => {
                write!(f, "drift: utilization differs by {drift:.3}, limit {limit}")
            }
            Self::StaleMetrics { age_s: None, .. } => f.write_str("stale metrics: there are none"),
            Self::StaleMetrics {
                age_s: Some(age),
                limit_s,
            } => write!(f, "stale metrics: {age:.0} s old, limit {limit_s} s"),
            Self::OutsideWindows => f.write_str("maintenance windows: now is outside of all"),
            Self::Forbidden { window } => {
                write!(f, "maintenance windows: no actions in {window}")
            }
        }
    }
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq)]
pub enum Rail {
    /// The VM is never touched.
    Never(String),
    /// The whole fleet is left as it is.
    Frozen(Freeze),
    /// The VM was acted upon a short while ago.
    CoolDown(Timestamp),
    /// An action on the VM failed a short while ago.
    Backoff(Timestamp),
    /// Enough VMs were acted upon in this interval.
    MaximumActions(usize),
    /// Too few hosts would run.
    MinimumOn(usize),
    /// Too many hosts would be on.
    MaximumOn(usize),
    /// The fleet would cost too much.
    Budget(f64),
}

impl Rail {
    /// The name of the guardrail, as in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Never(_) => "never",
            Self::Frozen(Freeze::Drift { .. }) => "drift",
            Self::Frozen(Freeze::StaleMetrics { .. }) => "stale-metrics",
            Self::Frozen(Freeze::OutsideWindows | Freeze::Forbidden { .. }) => "window",
            Self::CoolDown(_) => "cool-down",
            Self::Backoff(_) => "backoff",
            Self::MaximumActions(_) => "maximum-actions",
            Self::MinimumOn(_) => "minimum-on",
            Self::MaximumOn(_) => "maximum-on",
            Self::Budget(_) => "budget",
        }
    }

    /// The names of all guardrails.
    pub const NAMES: [&'static str; 10] = [
        "never",
        "drift",
        "stale-metrics",
        "window",
        "cool-down",
        "backoff",
        "maximum-actions",
        "minimum-on",
        "maximum-on",
        "budget",
    ];
}

impl fmt::Display for Rail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never(pattern) => write!(f, "never touched: {pattern}"),
            Self::Frozen(freeze) => write!(f, "{freeze}"),
            Self::CoolDown(until) => write!(f, "cool-down until {until}"),
            Self::Backoff(until) => write!(f, "it failed before: not again until {until}"),
            Self::MaximumActions(limit) => write!(f, "at most {limit} VMs an interval"),
            Self::MinimumOn(limit) => write!(f, "at least {limit} hosts must run"),
            Self::MaximumOn(limit) => write!(f, "at most {limit} hosts may be on"),
            Self::Budget(limit) => write!(f, "at most {limit} USD per hour"),
        }
    }
}

/// What guardrails look at.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The time.
    pub now: Timestamp,
    /// Length of an interval.
    pub interval: SignedDuration,
    /// The fleet.
    pub fleet: &'a Fleet,
    /// What was done.
    pub ledger: &'a Ledger,
    /// Why the whole fleet is left as it is, where it is.
    pub freeze: Option<&'a Freeze>,
}

/// A proposal, and the guardrail that stops it, if one does.
pub type Judged = (Proposal, Option<Rail>);

impl Guardrails {
    /// Why nothing may be done at `now`, by the windows.
    #[must_use]
    pub fn closed(&self, now: Timestamp) -> Option<Freeze> {
        if let Some(window) = self.act_never.iter().find(|w| w.covers(now)) {
            let window = window.to_string();
            return Some(Freeze::Forbidden { window });
        }
        let outside = !self.act_only.is_empty() && !self.act_only.iter().any(|w| w.covers(now));
        outside.then_some(Freeze::OutsideWindows)
    }

    /// Judges `proposals` one after another; each that passes counts for those after it. A change
    /// of a scale set is made smaller where that lets it pass.
    #[must_use]
    pub fn judge(&self, situation: &Situation<'_>, proposals: Vec<Proposal>) -> Vec<Judged> {
        let mut tally = Tally::of(situation);
        let judge_one = |proposal: Proposal| {
            let mut best = self.check(situation, &tally, &proposal);
            let mut passed = proposal;
            if let Change::Capacity { from, to } = passed.change {
                let mut smaller = passed.clone();
                for to in towards(from, to) {
                    if best.is_none() {
                        break;
                    }
                    smaller = resized(&smaller, from, to);
                    if self.check(situation, &tally, &smaller).is_none() {
                        best = None;
                        passed = smaller.clone();
                    }
                }
            }
            if best.is_none() {
                tally.take(&passed);
            }
            (passed, best)
        };
        proposals.into_iter().map(judge_one).collect()
    }

    fn check(&self, situation: &Situation<'_>, tally: &Tally, proposal: &Proposal) -> Option<Rail> {
        self.never(proposal)
            .or_else(|| situation.freeze.cloned().map(Rail::Frozen))
            .or_else(|| self.too_soon(situation, proposal))
            .or_else(|| self.too_much(tally, proposal))
    }

    fn never(&self, proposal: &Proposal) -> Option<Rail> {
        let name = self.never.iter().find(|p| p.matches(&proposal.name));
        let tag = || self.never_tags.iter().find(|p| p.matches(&proposal.tags));
        name.map(|p| Rail::Never(format!("name {p}")))
            .or_else(|| tag().map(|p| Rail::Never(format!("tag {p}"))))
    }

    fn too_soon(&self, situation: &Situation<'_>, proposal: &Proposal) -> Option<Rail> {
        let after = |at: Timestamp, span: SignedDuration| {
            let until = at.checked_add(span).unwrap_or(Timestamp::MAX);
            (until > situation.now).then_some(until)
        };
        let touched = situation.ledger.last_touch(&proposal.target);
        let cooling = touched.and_then(|at| after(at, self.cool_down));
        if let Some(until) = cooling {
            return Some(Rail::CoolDown(until));
        }
        let past = situation.ledger.past_of(&proposal.target)?;
        let doublings = past.failures.checked_sub(1)?.min(MAX_DOUBLINGS);
        let span = self.backoff.saturating_mul(1 << doublings);
        after(past.ended_at, span).map(Rail::Backoff)
    }

    fn too_much(&self, tally: &Tally, proposal: &Proposal) -> Option<Rail> {
        let vms = proposal.change.vms();
        let count = usize::try_from(vms.unsigned_abs()).unwrap_or(usize::MAX);
        if tally.touched + count > self.maximum_actions {
            return Some(Rail::MaximumActions(self.maximum_actions));
        }
        if vms < 0 {
            let serving = proposal.hosts.iter();
            let serving = serving.filter(|(h, _)| tally.serving[h.index()]).count();
            let left = tally.serving.iter().filter(|s| **s).count() - serving;
            // Turning off what does not run takes nothing away.
            if serving > 0 && left < self.minimum_on {
                return Some(Rail::MinimumOn(self.minimum_on));
            }
            return None;
        }
        let added = proposal
            .hosts
            .iter()
            .filter(|(h, _)| !tally.billed[h.index()]);
        let (mut more, mut price) = (0, 0.0);
        for (h, _) in added {
            more += 1;
            price += tally.prices[h.index()];
        }
        let on = tally.billed.iter().filter(|b| **b).count();
        if let Some(limit) = self.maximum_on
            && more > 0
            && on + more > limit
        {
            return Some(Rail::MaximumOn(limit));
        }
        if let Some(limit) = self.budget_usd_per_hour
            && more > 0
            && tally.price() + price > limit + 1e-9
        {
            return Some(Rail::Budget(limit));
        }
        None
    }
}

/// The capacities between `to` and `from`, from `to` on, both left out.
fn towards(from: u32, to: u32) -> Box<dyn Iterator<Item = u32>> {
    if to > from {
        Box::new((from + 1..to).rev())
    } else {
        Box::new(to + 1..from)
    }
}

/// `proposal` with the new capacity `to`, nearer to `from`.
fn resized(proposal: &Proposal, from: u32, to: u32) -> Proposal {
    let before = proposal.change.vms().unsigned_abs();
    let change = Change::Capacity { from, to };
    let count = change.vms().unsigned_abs();
    let mut resized = proposal.clone();
    resized.change = change;
    resized
        .hosts
        .truncate(usize::try_from(count).unwrap_or(usize::MAX));
    if before > 0 {
        resized.price_change_usd_per_hour *= count as f64 / before as f64;
    }
    resized
}

/// The counts as they will be once what has passed is done.
struct Tally {
    touched: usize,
    serving: Vec<bool>,
    billed: Vec<bool>,
    prices: Vec<f64>,
}

impl Tally {
    fn of(situation: &Situation<'_>) -> Self {
        let since = situation
            .now
            .checked_sub(situation.interval)
            .unwrap_or(Timestamp::MIN);
        let standings = &situation.fleet.standings;
        Self {
            touched: situation.ledger.touched_since(since),
            serving: standings.iter().map(|s| *s == Standing::On).collect(),
            billed: standings.iter().map(|s| s.may_be_billed()).collect(),
            prices: situation.fleet.prices.clone(),
        }
    }

    fn price(&self) -> f64 {
        let billed = self.billed.iter().zip(&self.prices);
        billed.filter(|(b, _)| **b).map(|(_, p)| p).sum()
    }

    fn take(&mut self, proposal: &Proposal) {
        let count = proposal.change.vms().unsigned_abs();
        self.touched += usize::try_from(count).unwrap_or(usize::MAX);
        for (h, on) in &proposal.hosts {
            if *on {
                self.billed[h.index()] = true;
            } else {
                // It costs until it is off.
                self.serving[h.index()] = false;
            }
        }
    }
}

#[cfg(test)]
mod tests;
