//! What an interval came to: one JSON object a line on standard output.

use serde::Serialize;

use super::expect::Expected;
use super::guard::Freeze;

/// What an interval came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Version of the report.
    pub schema: u32,
    /// Number of the interval, from 1 since the program was started.
    pub interval: u64,
    /// When it began.
    pub at: String,
    /// Which copy of the program reports.
    pub holder: String,
    /// What it came to.
    pub outcome: Outcome,
    /// How many hosts stand how.
    pub hosts: Hosts,
    /// What the fleet may cost, in USD per hour.
    pub price_usd_per_hour: f64,
    /// VMs that are no host of the world, and why not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_vms: Vec<UnknownVm>,
    /// Hosts of the world that have no VM.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts_without_vm: Vec<String>,
    /// Hosts that Azure calls off and the state document shows at work.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub disputed_hosts: Vec<String>,
    /// Mean difference of predicted and measured utilization, where both are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<f64>,
    /// Why the whole fleet is left as it is, where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Freeze>,
    /// The policy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Why another policy than the one asked for decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<String>,
    /// What the twin expects of the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// Actions of earlier intervals that ended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Ended>,
    /// What was to be done.
    pub actions: Vec<ActionReport>,
}

/// What an interval came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Outcome {
    /// What was decided and allowed was done.
    Acted,
    /// What was decided and allowed would have been done.
    DryRun,
    /// Another copy has the lease.
    Standby {
        /// Which.
        other: String,
    },
    /// Nobody knows who has the lease.
    LeaseUnknown {
        /// Why.
        problem: String,
    },
    /// The fleet cannot be seen.
    Blind {
        /// Why.
        problem: String,
    },
    /// There is no decision.
    Undecided {
        /// Why.
        problem: String,
    },
    /// The lease was lost before everything was done.
    Fenced,
}

impl Outcome {
    /// Its name, as in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Acted => "acted",
            Self::DryRun => "dry-run",
            Self::Standby { .. } => "standby",
            Self::LeaseUnknown { .. } => "lease-unknown",
            Self::Blind { .. } => "blind",
            Self::Undecided { .. } => "undecided",
            Self::Fenced => "fenced",
        }
    }

    /// The names of all outcomes.
    pub const NAMES: [&'static str; 7] = [
        "acted",
        "dry-run",
        "standby",
        "lease-unknown",
        "blind",
        "undecided",
        "fenced",
    ];
}

/// How many hosts stand how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hosts {
    /// Off.
    pub off: usize,
    /// Starting.
    pub booting: usize,
    /// Running.
    pub on: usize,
    /// On their way to off.
    pub draining: usize,
    /// Off and billed.
    pub stopped: usize,
    /// Nobody knows.
    pub unknown: usize,
}

/// A VM that is no host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnknownVm {
    /// Its name.
    pub name: String,
    /// Why it is none.
    pub problem: String,
}

/// An action of an earlier interval that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ended {
    /// Its number.
    pub action: u64,
    /// What it acted upon.
    pub name: String,
    /// What it did.
    pub change: String,
    /// Whether it was carried out.
    pub succeeded: bool,
    /// What happened.
    pub detail: String,
}

/// What was to be done.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ActionReport {
    /// Its number in the action log, where it was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<u64>,
    /// What it acts upon.
    pub name: String,
    /// What it does.
    pub change: String,
    /// Why.
    pub reason: String,
    /// Change of the fleet's price, in USD per hour.
    pub price_change_usd_per_hour: f64,
    /// What the twin expects of it, in s of penalty saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_gain_s: Option<f64>,
    /// What became of it: `would-act`, `held`, or its phase.
    pub state: &'static str,
    /// The guardrail that holds it, where one does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guardrail: Option<&'static str>,
    /// More in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
