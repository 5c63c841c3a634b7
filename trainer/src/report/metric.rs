//! The metrics of an evaluation as a reader sees them: names, units, and which way is better.

use super::scale::{decimals_for, number};

/// Which way of a metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
    /// The metric describes; more of it is neither good nor bad.
    Neither,
}

/// One metric of `evaluation.json`.
#[derive(Debug)]
pub(crate) struct Metric {
    /// Its name in the files.
    pub(crate) key: &'static str,
    /// Its name for a reader.
    pub(crate) label: &'static str,
    /// The unit in which it is shown; empty for a pure number.
    pub(crate) unit: &'static str,
    /// What a value in the files is multiplied by to be in that unit.
    pub(crate) factor: f64,
    pub(crate) better: Better,
}

impl Metric {
    /// Name and unit.
    pub(crate) fn heading(&self) -> String {
        if self.unit.is_empty() {
            self.label.to_owned()
        } else {
            format!("{}, {}", self.label, self.unit)
        }
    }

    /// What to look for, in words.
    pub(crate) fn direction(&self) -> &'static str {
        match self.better {
            Better::Higher => "higher is better",
            Better::Lower => "lower is better",
            Better::Neither => "neither way is better",
        }
    }
}

/// Metrics that stand in one table.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) title: &'static str,
    pub(crate) metrics: &'static [Metric],
}

const fn metric(
    key: &'static str,
    label: &'static str,
    unit: &'static str,
    factor: f64,
    better: Better,
) -> Metric {
    Metric {
        key,
        label,
        unit,
        factor,
        better,
    }
}

/// Name of the metric that policies are ranked by.
pub(crate) const OBJECTIVE: &str = "objective";
/// Name of the distance from the oracle.
pub(crate) const REGRET: &str = "regret";
/// Name of the median time that a decision takes.
pub(crate) const DECISION_TIME: &str = "decision_time_p50_us";

/// Every metric, in the order of the report.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        title: "Objective and decisions",
        metrics: &[
            metric(OBJECTIVE, "Objective", "", 1.0, Better::Higher),
            metric(REGRET, "Regret", "", 1.0, Better::Lower),
            metric(
                DECISION_TIME,
                "Decision time, median",
                "µs",
                1.0,
                Better::Lower,
            ),
            metric(
                "decision_time_p99_us",
                "Decision time, 99th percentile",
                "µs",
                1.0,
                Better::Lower,
            ),
        ],
    },
    Group {
        title: "Energy, cost and use of the hosts",
        metrics: &[
            metric("energy_wh", "Energy", "Wh", 1.0, Better::Lower),
            metric("cost_usd", "Cost", "USD", 1.0, Better::Lower),
            metric(
                "utilization_mean",
                "Utilization, mean",
                "%",
                100.0,
                Better::Neither,
            ),
        ],
    },
    Group {
        title: "Response time",
        metrics: &[
            metric(
                "response_mean_s",
                "Response time, mean",
                "s",
                1.0,
                Better::Lower,
            ),
            metric(
                "response_p50_s",
                "Response time, median",
                "s",
                1.0,
                Better::Lower,
            ),
            metric(
                "response_p95_s",
                "Response time, 95th percentile",
                "s",
                1.0,
                Better::Lower,
            ),
            metric(
                "response_p99_s",
                "Response time, 99th percentile",
                "s",
                1.0,
                Better::Lower,
            ),
        ],
    },
    Group {
        title: "Quality of service",
        metrics: &[
            metric(
                "sla_violation_ratio",
                "SLA violations",
                "%",
                100.0,
                Better::Lower,
            ),
            metric(
                "accuracy_mean",
                "Accuracy, mean",
                "%",
                100.0,
                Better::Higher,
            ),
            metric(
                "waiting_mean_s",
                "Waiting time, mean",
                "s",
                1.0,
                Better::Lower,
            ),
            metric("jain_fairness", "Fairness (Jain)", "", 1.0, Better::Higher),
        ],
    },
    Group {
        title: "Carbon, credits, models and containers",
        metrics: &[
            metric("carbon_g", "Greenhouse gas", "g CO₂e", 1.0, Better::Lower),
            metric("throttled_s", "Throttled", "s", 1.0, Better::Lower),
            metric("cold_starts", "Cold starts", "", 1.0, Better::Lower),
            metric(
                "demanded_vcpu_s",
                "Demand of containers",
                "vCPU s",
                1.0,
                Better::Neither,
            ),
            metric("unmet_vcpu_s", "Unmet demand", "vCPU s", 1.0, Better::Lower),
            metric("unmet_ratio", "Unmet demand", "%", 100.0, Better::Lower),
        ],
    },
    Group {
        title: "Migrations",
        metrics: &[
            metric(
                "migrations_completed",
                "Completed",
                "",
                1.0,
                Better::Neither,
            ),
            metric("migrations_failed", "Failed", "", 1.0, Better::Lower),
            metric("migrations_canceled", "Canceled", "", 1.0, Better::Lower),
            metric("migrations_sent_mib", "Sent", "MiB", 1.0, Better::Lower),
            metric("migrations_downtime_s", "Downtime", "s", 1.0, Better::Lower),
            metric("migrations_stall_s", "Stall", "s", 1.0, Better::Lower),
        ],
    },
    Group {
        title: "Incidents",
        metrics: &[
            metric(
                "requests_rejected",
                "Requests rejected",
                "",
                1.0,
                Better::Lower,
            ),
            metric(
                "requests_withdrawn",
                "Requests withdrawn",
                "",
                1.0,
                Better::Lower,
            ),
            metric("host_crashes", "Crashes of hosts", "", 1.0, Better::Neither),
            metric("slow_spells", "Slow spells", "", 1.0, Better::Neither),
            metric("link_failures", "Links down", "", 1.0, Better::Neither),
            metric(
                "allocation_failures",
                "Allocations failed",
                "",
                1.0,
                Better::Neither,
            ),
        ],
    },
];

/// The metric of that name.
pub(crate) fn find(key: &str) -> Option<&'static Metric> {
    all().find(|metric| metric.key == key)
}

/// Every metric, in the order of the report.
pub(crate) fn all() -> impl Iterator<Item = &'static Metric> {
    GROUPS.iter().flat_map(|group| group.metrics)
}

/// A mean with its 95 % interval, where there is one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    /// Low and high end.
    pub(crate) interval: Option<(f64, f64)>,
}

impl Estimate {
    /// A mean, and its interval if both ends are known.
    pub(crate) fn new(mean: f64, low: Option<f64>, high: Option<f64>) -> Self {
        Self {
            mean,
            interval: low.zip(high),
        }
    }

    /// The estimate in another unit.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        let interval = self
            .interval
            .map(|(low, high)| (low * factor, high * factor))
            .map(|(low, high)| (low.min(high), low.max(high)));
        Self {
            mean: self.mean * factor,
            interval,
        }
    }

    /// The ends of the interval, or the mean twice.
    pub(crate) fn ends(self) -> (f64, f64) {
        self.interval.unwrap_or((self.mean, self.mean))
    }

    fn decimals(self) -> usize {
        let half_width = self.interval.map(|(low, high)| (high - low) / 2.0);
        decimals_for(self.mean, half_width)
    }

    /// The mean as text.
    pub(crate) fn mean_text(self) -> String {
        number(self.mean, self.decimals())
    }

    /// The interval as text.
    pub(crate) fn interval_text(self) -> Option<String> {
        let decimals = self.decimals();
        self.interval
            .map(|(low, high)| format!("{} to {}", number(low, decimals), number(high, decimals)))
    }

    /// The mean, and the interval in parentheses.
    pub(crate) fn text(self) -> String {
        match self.interval_text() {
            Some(interval) => format!("{} ({interval})", self.mean_text()),
            None => self.mean_text(),
        }
    }
}

/// What the interval of a paired difference says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Better,
    Worse,
    /// The interval includes zero, or there is none.
    Undecided,
}

impl Verdict {
    /// What a difference (of a policy less a reference) says about the policy; `None` where neither
    /// way is better.
    pub(crate) fn of(difference: Estimate, better: Better) -> Option<Self> {
        let sign = match difference.interval {
            Some((low, _)) if low > 0.0 => 1,
            Some((_, high)) if high < 0.0 => -1,
            _ => 0,
        };
        match (better, sign) {
            (Better::Neither, _) => None,
            (_, 0) => Some(Self::Undecided),
            (Better::Higher, 1) | (Better::Lower, -1) => Some(Self::Better),
            _ => Some(Self::Worse),
        }
    }

    /// One word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Undecided => "undecided",
        }
    }

    /// A sign that does not depend on color.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Better => "▲",
            Self::Worse => "▼",
            Self::Undecided => "≈",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_an_interval_without_zero() {
        let difference = |interval| Estimate {
            mean: 1.0,
            interval,
        };
        let cases = [
            (Some((0.5, 1.5)), Better::Higher, Some(Verdict::Better)),
            (Some((0.5, 1.5)), Better::Lower, Some(Verdict::Worse)),
            (Some((-1.5, -0.5)), Better::Lower, Some(Verdict::Better)),
            (Some((-0.5, 1.5)), Better::Lower, Some(Verdict::Undecided)),
            (Some((0.0, 0.0)), Better::Lower, Some(Verdict::Undecided)),
            (None, Better::Higher, Some(Verdict::Undecided)),
            (Some((0.5, 1.5)), Better::Neither, None),
        ];
        for (interval, better, expected) in cases {
            assert_eq!(
                Verdict::of(difference(interval), better),
                expected,
                "{interval:?} {better:?}"
            );
        }
    }

    #[test]
    fn a_share_is_shown_in_percent() {
        let share = Estimate {
            mean: 0.0312,
            interval: Some((0.0290, 0.0334)),
        };
        // The half width is 0.22 %: two digits of it are two decimals.
        assert_eq!(share.scaled(100.0).text(), "3.12 (2.90 to 3.34)");
    }
}
