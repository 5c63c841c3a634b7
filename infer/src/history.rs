//! The service over time: a sample every few seconds, for the dashboard.
//!
//! A ring keeps the last samples; what is older is in the metrics' store and in the decision log.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use twin::wire::FleetResponse;
use utoipa::ToSchema;

use crate::fleet::LiveFleet;
use crate::fleet::drift::Quantity;
use crate::fleet::window::Window;

/// How often a sample is taken.
pub const INTERVAL: Duration = Duration::from_secs(5);
/// The most samples that are kept: half an hour.
pub const MAX_SAMPLES: usize = 360;
/// The most decision times of an interval that quantiles are taken over; later ones take the place
/// of earlier ones.
const MAX_TIMES: usize = 4096;

/// What the service did, and what its fleet was like.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// When it was taken, in s since 1970.
    pub at_s: f64,
    /// Decisions per second since the sample before.
    pub decisions_per_s: f64,
    /// Median time to decide, in s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_p50_s: Option<f64>,
    /// The time to decide that 99 % of the decisions did not exceed, in s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision_p99_s: Option<f64>,
    /// Decisions of the fallback, or of nobody, since the start.
    pub fallbacks: u64,
    /// Refused requests since the start.
    pub rejected: u64,
    /// The fleet, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetSample>,
}

/// What the fleet was like.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FleetSample {
    /// Requests under way.
    pub requests: u64,
    /// Of these, the ones that wait to be deployed.
    pub waiting: u64,
    /// Power by the twin, in W.
    pub power_w: f64,
    /// Price of the hosts that are billed.
    pub price_usd_per_hour: f64,
    /// Mean utilization by the twin of the hosts that serve.
    pub utilization: f64,
    /// Share of the requests answered since the sample before that were late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_ratio: Option<f64>,
    /// Their mean response time, in s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_mean_s: Option<f64>,
    /// Mean predicted response time of the compared requests, in s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_response_s: Option<f64>,
    /// Mean observed response time of the same, in s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_response_s: Option<f64>,
    /// Mean predicted utilization over the samples of hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_utilization: Option<f64>,
    /// Mean observed utilization over the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_utilization: Option<f64>,
    /// Mean predicted power of a host over the samples of hosts, in W.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predicted_host_power_w: Option<f64>,
    /// Mean observed power over the same, in W.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_host_power_w: Option<f64>,
}

impl FleetSample {
    /// Of `fleet`, which showed what is in `window` since the last sample.
    #[must_use]
    pub fn of(fleet: &LiveFleet, window: &Window) -> Self {
        let totals = FleetResponse::of(fleet.world(), fleet.live(), false).totals;
        let answered = window.answered as f64;
        let of_answered = |sum: f64| (window.answered > 0).then(|| sum / answered);
        let predicted = |quantity| window.means(quantity).map(|means| means.0);
        let observed = |quantity| window.means(quantity).map(|means| means.1);
        Self {
            requests: totals.requests,
            waiting: totals.waiting,
            power_w: totals.power_w,
            price_usd_per_hour: totals.price_usd_per_hour,
            utilization: totals.utilization,
            late_ratio: of_answered(window.late as f64),
            response_mean_s: of_answered(window.response_s),
            predicted_response_s: predicted(Quantity::Response),
            observed_response_s: observed(Quantity::Response),
            predicted_utilization: predicted(Quantity::Utilization),
            observed_utilization: observed(Quantity::Utilization),
            predicted_host_power_w: predicted(Quantity::Power),
            observed_host_power_w: observed(Quantity::Power),
        }
    }
}

/// The series.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HistoryResponse {
    /// Seconds between two samples.
    pub interval_s: f64,
    /// The samples, the oldest first.
    #[schema(max_items = 360)]
    pub samples: Vec<Sample>,
}

/// Counts what happens, and keeps samples of it.
#[derive(Debug, Default)]
pub struct History {
    now: Mutex<Interval>,
    samples: Mutex<VecDeque<Sample>>,
}

/// What happened since the last sample.
#[derive(Debug, Default)]
struct Interval {
    decisions: u64,
    times_s: Vec<f64>,
    fallbacks: u64,
    rejected: u64,
    last_s: Option<f64>,
}

impl History {
    fn now(&self) -> MutexGuard<'_, Interval> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a decision that took `elapsed`.
    pub fn decided(&self, elapsed: Duration, is_fallback: bool) {
        let mut now = self.now();
        let place = usize::try_from(now.decisions).unwrap_or(usize::MAX) % MAX_TIMES;
        now.decisions += 1;
        now.fallbacks += u64::from(is_fallback);
        let time_s = elapsed.as_secs_f64();
        match now.times_s.get_mut(place) {
            Some(earlier) => *earlier = time_s,
            None => now.times_s.push(time_s),
        }
    }

    /// Counts a refused request.
    pub fn refused(&self) {
        self.now().rejected += 1;
    }

    /// Ends the interval at `at_s`, with what the fleet was like.
    pub fn sample(&self, at_s: f64, fleet: Option<FleetSample>) {
        let mut now = self.now();
        let mut times = std::mem::take(&mut now.times_s);
        times.sort_unstable_by(f64::total_cmp);
        let quantile = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).max(1);
            times.get(rank - 1).copied()
        };
        let span_s = now
            .last_s
            .map_or(INTERVAL.as_secs_f64(), |last| at_s - last);
        let per_s = if span_s > 0.0 {
            now.decisions as f64 / span_s
        } else {
            0.0
        };
        let sample = Sample {
            at_s,
            decisions_per_s: per_s,
            decision_p50_s: quantile(50),
            decision_p99_s: quantile(99),
            fallbacks: now.fallbacks,
            rejected: now.rejected,
            fleet,
        };
        now.decisions = 0;
        now.last_s = Some(at_s);
        drop(now);
        let mut samples = self.samples();
        if samples.len() == MAX_SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// What is kept.
    #[must_use]
    pub fn response(&self) -> HistoryResponse {
        HistoryResponse {
            interval_s: INTERVAL.as_secs_f64(),
            samples: self.samples().iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_summed_up_and_the_oldest_give_way() {
        let history = History::default();
        for micros in 1..=100 {
            history.decided(Duration::from_micros(micros), micros > 98);
        }
        history.refused();
        history.sample(10.0, None);
        history.sample(12.0, None);
        let samples = history.response().samples;
        // 100 decisions in the 5 s of an interval; the 50th and the 99th of 1 to 100 us.
        assert_eq!(samples[0].decisions_per_s.to_bits(), 20.0_f64.to_bits());
        assert_eq!(samples[0].decision_p50_s, Some(50e-6));
        assert_eq!(samples[0].decision_p99_s, Some(99e-6));
        assert_eq!((samples[0].fallbacks, samples[0].rejected), (2, 1));
        assert_eq!(samples[1].decision_p50_s, None);
        assert_eq!((samples[1].fallbacks, samples[1].rejected), (2, 1));
        for at in 0..MAX_SAMPLES {
            history.sample(100.0 + at as f64, None);
        }
        let samples = history.response().samples;
        assert_eq!(samples.len(), MAX_SAMPLES);
        assert_eq!(samples[0].at_s.to_bits(), 100.0_f64.to_bits());
    }

    #[test]
    fn decision_times_are_bounded() {
        let history = History::default();
        for _ in 0..3 * MAX_TIMES {
            history.decided(Duration::from_micros(7), false);
        }
        assert_eq!(history.now().times_s.len(), MAX_TIMES);
        history.sample(5.0, None);
        assert_eq!(history.response().samples[0].decision_p99_s, Some(7e-6));
    }
}
