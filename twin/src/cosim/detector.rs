//! Watches one stream of standardized residuals with named tests.
//!
//! During the warm-up values are only counted and kept as the reference. Then the limits of the
//! tests are set for the mean run length that the stream was given, and each value goes to
//! CUSUM (allowance 0.5: made for shifts of one standard deviation), Page–Hinkley (allowance 0.25:
//! shifts of half of one, whatever the level before) and, where shape matters, in windows that do
//! not overlap to a Kolmogorov–Smirnov test against the reference, whose level is the window's
//! length over the run length. Values are cut at three standard deviations, so that single
//! outliers and heavy tails do not make an alarm; after an alarm the tests start anew.

use std::collections::VecDeque;
use std::fmt;

use serde::{Serialize, Serializer};

use super::ks;
use super::sequential::{Cusum, Limits, PageHinkley, Signal};

/// Allowance of the CUSUM test, in standard deviations.
pub const CUSUM_ALLOWANCE: f64 = 0.5;
/// Allowance of the Page–Hinkley test, in standard deviations.
pub const PAGE_HINKLEY_ALLOWANCE: f64 = 0.25;
/// Where values are cut, in standard deviations.
pub const CUT: f64 = 3.0;
/// Values of a reference sample.
pub const REFERENCE: usize = 100;
/// Values of a window that is compared with it.
pub const WINDOW: usize = 40;
/// The most times that are remembered for the estimate of when a change happened.
const TIMES: usize = 1024;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stream {
    /// Durations of all tasks together, one value an interval.
    Durations,
    /// Utilization of all hosts with tasks together, one value an interval.
    Utilizations,
    /// Power of all hosts together, one value an interval.
    Powers,
    /// Durations of an application's tasks.
    Application(String),
    /// Durations of the tasks of an application's variant.
    Variant(String, String),
    /// Durations of a host's tasks.
    Speed(u32),
    /// Utilization of a host, given what runs on it.
    Utilization(u32),
    /// Power of a host, given its utilization.
    Power(u32),
}

impl Stream {
    /// Whether the whole distribution is compared, not only the mean.
    #[must_use]
    pub fn has_shape(&self) -> bool {
        matches!(
            self,
            Self::Durations | Self::Application(_) | Self::Variant(..) | Self::Speed(_)
        )
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Durations => write!(f, "duration of all tasks"),
            Self::Utilizations => write!(f, "utilization of all hosts"),
            Self::Powers => write!(f, "power of all hosts"),
            Self::Application(application) => write!(f, "duration of {application}"),
            Self::Variant(application, variant) => {
                write!(f, "duration of {application}/{variant}")
            }
            Self::Speed(host) => write!(f, "speed of host {host}"),
            Self::Utilization(host) => write!(f, "utilization of host {host}"),
            Self::Power(host) => write!(f, "power of host {host}"),
        }
    }
}

impl Serialize for Stream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A named test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Test {
    /// [`Cusum`].
    Cusum,
    /// [`PageHinkley`].
    PageHinkley,
    /// [`ks::two_sample`].
    KolmogorovSmirnov,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cusum => "CUSUM",
            Self::PageHinkley => "Page-Hinkley",
            Self::KolmogorovSmirnov => "Kolmogorov-Smirnov",
        })
    }
}

/// Prediction and observation have parted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alarm {
    /// When the test signaled, in s.
    pub time_s: f64,
    /// What drifted.
    pub stream: Stream,
    /// The test.
    pub test: Test,
    /// Its statistic: a sum in standard deviations, or the distance of two distributions.
    pub statistic: f64,
    /// What the statistic exceeded.
    pub threshold: f64,
    /// Estimate of when the change happened, in s.
    pub changed_s: f64,
    /// Observed less predicted since then, in standard deviations of a single value.
    pub effect: f64,
}

/// The tests of one stream.
#[derive(Clone, Debug)]
pub(crate) struct Detector {
    shape: bool,
    seen: usize,
    armed: Option<Armed>,
    reference: VecDeque<f64>,
}

#[derive(Clone, Debug)]
struct Armed {
    cusum: Cusum,
    page_hinkley: PageHinkley,
    /// Level of a Kolmogorov–Smirnov test.
    level: f64,
    window: Vec<f64>,
    times_s: VecDeque<f64>,
}

impl Detector {
    pub(crate) fn new(stream: &Stream) -> Self {
        Self {
            shape: stream.has_shape(),
            seen: 0,
            armed: None,
            reference: VecDeque::new(),
        }
    }

    /// Values so far.
    pub(crate) fn seen(&self) -> usize {
        self.seen
    }

    /// Tests on the stream.
    pub(crate) fn tests(&self) -> usize {
        if self.shape { 3 } else { 2 }
    }

    /// Ends the warm-up; `run_length` is the mean number of values between false alarms of a test.
    pub(crate) fn arm(&mut self, run_length: f64) {
        let limits = |allowance| Limits::for_run_length(allowance, run_length);
        self.armed = Some(Armed {
            cusum: Cusum::new(limits(CUSUM_ALLOWANCE)),
            page_hinkley: PageHinkley::new(limits(PAGE_HINKLEY_ALLOWANCE)),
            level: (WINDOW as f64 / run_length).min(0.5),
            window: Vec::with_capacity(WINDOW),
            times_s: VecDeque::new(),
        });
    }

    /// Takes a value in standard deviations; at most one test signals.
    pub(crate) fn observe(&mut self, stream: &Stream, time_s: f64, value: f64) -> Option<Alarm> {
        let value = value.clamp(-CUT, CUT);
        self.seen += 1;
        let Some(armed) = &mut self.armed else {
            if self.reference.len() == REFERENCE {
                self.reference.pop_front();
            }
            self.reference.push_back(value);
            return None;
        };
        if armed.times_s.len() == TIMES {
            armed.times_s.pop_front();
        }
        armed.times_s.push_back(time_s);
        let cusum = armed.cusum.observe(value).map(|s| (Test::Cusum, s));
        let page = armed.page_hinkley.observe(value);
        let page = page.map(|s| (Test::PageHinkley, s));
        let shape = if self.shape {
            armed.shape(&mut self.reference, value)
        } else {
            None
        };
        let (test, signal) = cusum.or(page).or(shape)?;
        let at = armed.times_s.len().saturating_sub(signal.since);
        let alarm = Alarm {
            time_s,
            stream: stream.clone(),
            test,
            statistic: signal.statistic,
            threshold: signal.threshold,
            changed_s: armed.times_s.get(at).copied().unwrap_or(time_s),
            effect: signal.effect,
        };
        armed.restart();
        Some(alarm)
    }

    /// Starts the tests anew: what they watch was just calibrated.
    pub(crate) fn restart(&mut self) {
        if let Some(armed) = &mut self.armed {
            armed.restart();
        }
    }
}

impl Armed {
    fn restart(&mut self) {
        self.cusum.restart();
        self.page_hinkley.restart();
        self.window.clear();
        self.times_s.clear();
    }

    /// The Kolmogorov–Smirnov test, when the window is full; after a signal the reference is
    /// gathered anew.
    fn shape(&mut self, reference: &mut VecDeque<f64>, value: f64) -> Option<(Test, Signal)> {
        if reference.len() < REFERENCE {
            reference.push_back(value);
            return None;
        }
        self.window.push(value);
        if self.window.len() < WINDOW {
            return None;
        }
        let found = ks::two_sample(reference.make_contiguous(), &self.window)?;
        let signal = Signal {
            statistic: found.distance,
            threshold: ks::critical_distance(REFERENCE, WINDOW, self.level),
            since: WINDOW,
            effect: mean(self.window.iter()) - mean(reference.iter()),
        };
        self.window.clear();
        (found.p_value < self.level).then(|| {
            reference.clear();
            (Test::KolmogorovSmirnov, signal)
        })
    }
}

fn mean<'a>(values: impl ExactSizeIterator<Item = &'a f64>) -> f64 {
    let n = values.len().max(1) as f64;
    values.sum::<f64>() / n
}

#[cfg(test)]
mod tests {
    use statrs::distribution::{ContinuousCDF, Normal};

    use super::*;
    use crate::stream;

    fn normal(key: u64, i: u64) -> f64 {
        Normal::standard().inverse_cdf(stream::unit(stream::mix(0xde7, key), i))
    }

    fn watched(key: u64, values: u64, of: impl Fn(u64, f64) -> f64) -> Vec<Alarm> {
        let stream = Stream::Speed(0);
        let mut detector = Detector::new(&stream);
        for i in 0..200 {
            detector.observe(&stream, 0.0, normal(!key, i));
        }
        detector.arm(3_000.0);
        (0..values)
            .filter_map(|i| detector.observe(&stream, i as f64, of(i, normal(key, i))))
            .collect()
    }

    #[test]
    fn false_alarms_stay_within_the_design() {
        // 3 tests of 100 streams over 3,000 values, one alarm in 3,000 values each: at most 300
        // expected, with a standard deviation of 17; cutting at 3 and estimated means make fewer.
        let alarms: usize = (0..100).map(|k| watched(k, 3_000, |_, x| x).len()).sum();
        assert!((100..=350).contains(&alarms), "{alarms}");
    }

    #[test]
    fn a_shift_is_found_and_dated() {
        let mut effects = 0.0;
        for key in 0..20 {
            let alarms = watched(key, 400, |i, x| if i < 200 { x } else { x + 1.2 });
            let alarm = alarms.iter().find(|a| a.time_s >= 200.0).expect("a drift");
            // CUSUM: h of about 7.3 at 1.2 − 0.5 a value, and twice that for an unlucky start.
            assert!(alarm.time_s < 230.0, "{alarm:?}");
            assert!((alarm.changed_s - 200.0).abs() < 20.0, "{alarm:?}");
            effects += alarm.effect / 20.0;
        }
        // Some ten values an alarm, 200 in all: a standard error of 0.07, and a bias away from zero
        // because the alarm chose them.
        assert!((1.0..2.0).contains(&effects), "{effects}");
    }

    #[test]
    fn a_change_of_shape_alone_is_found() {
        // The same mean, but all values at ±1.
        let alarms = watched(3, 400, |i, x| if i < 200 { x } else { x.signum() });
        let alarm = alarms.first().expect("a drift");
        assert_eq!(alarm.test, Test::KolmogorovSmirnov);
        assert!(alarm.time_s < 200.0 + 2.0 * WINDOW as f64, "{alarm:?}");
        assert!(alarm.statistic > alarm.threshold);
    }
}
