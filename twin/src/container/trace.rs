//! Demand over time.

use thiserror::Error;

use super::{CpuRate, CpuWork};
use crate::units::SimTime;

/// From the end of the step before until `until`, the demand is `rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// End of the step, since the start of the trace.
    pub until: SimTime,
    /// Demand.
    pub rate: CpuRate,
}

/// Why a step cannot be added to a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DemandError {
    /// The step takes no time.
    #[error("a step must last at least 1 ns")]
    Instant,
    /// The trace would be longer than simulated time reaches.
    #[error("the trace would last longer than 584 years")]
    TooLong,
}

/// A piecewise constant demand, from time 0 to its [`duration`](Self::duration).
///
/// Steps of equal rate are merged, so that every [`Step`] is a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DemandTrace {
    steps: Vec<Step>,
}

impl DemandTrace {
    /// Adds `rate` for `span` at the end.
    ///
    /// # Errors
    ///
    /// If `span` is zero or the trace gets too long.
    pub fn push(&mut self, span: SimTime, rate: CpuRate) -> Result<(), DemandError> {
        if span == SimTime::ZERO {
            return Err(DemandError::Instant);
        }
        let until = self.duration().0.checked_add(span.0).map(SimTime);
        let until = until.ok_or(DemandError::TooLong)?;
        match self.steps.last_mut() {
            Some(last) if last.rate == rate => last.until = until,
            _ => self.steps.push(Step { until, rate }),
        }
        Ok(())
    }

    /// How long the demand lasts.
    #[must_use]
    pub fn duration(&self) -> SimTime {
        self.steps.last().map_or(SimTime::ZERO, |step| step.until)
    }

    /// The steps, in the order of time.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The largest demand.
    #[must_use]
    pub fn peak(&self) -> CpuRate {
        self.steps
            .iter()
            .map(|step| step.rate)
            .max()
            .unwrap_or_default()
    }

    /// The demand at `time`; zero after the end.
    #[must_use]
    pub fn at(&self, time: SimTime) -> CpuRate {
        let index = self.steps.partition_point(|step| step.until <= time);
        self.steps
            .get(index)
            .map_or(CpuRate::default(), |step| step.rate)
    }

    /// The work that is demanded in all.
    #[must_use]
    pub fn work(&self) -> CpuWork {
        self.work_between(SimTime::ZERO, self.duration())
    }

    /// The work that is demanded from `from` to `until`.
    #[must_use]
    pub fn work_between(&self, from: SimTime, until: SimTime) -> CpuWork {
        let mut start = from;
        let mut work = CpuWork::default();
        let first = self.steps.partition_point(|step| step.until <= from);
        for step in &self.steps[first..] {
            if start >= until {
                break;
            }
            let end = step.until.min(until);
            work += step.rate.over(end.since(start));
            start = end;
        }
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(steps: &[(u64, u64)]) -> DemandTrace {
        let mut trace = DemandTrace::default();
        for &(span, rate) in steps {
            trace
                .push(SimTime(span), CpuRate(rate))
                .expect("a short step");
        }
        trace
    }

    #[test]
    fn work_is_the_integral() {
        let trace = trace(&[(10, 3), (5, 3), (20, 0), (10, 7)]);
        // Two steps of equal rate are one.
        assert_eq!(trace.steps().len(), 3);
        // 15 ns · 3 + 20 ns · 0 + 10 ns · 7 = 45 + 70
        assert_eq!(trace.work(), CpuWork(115));
        // From 12 to 37: 3 ns · 3 + 20 ns · 0 + 2 ns · 7 = 9 + 14
        assert_eq!(trace.work_between(SimTime(12), SimTime(37)), CpuWork(23));
        // After the end nothing is demanded.
        assert_eq!(trace.work_between(SimTime(44), SimTime(99)), CpuWork(7));
        assert_eq!(trace.at(SimTime(14)), CpuRate(3));
        assert_eq!(trace.at(SimTime(15)), CpuRate(0));
        assert_eq!(trace.at(SimTime(45)), CpuRate(0));
        assert_eq!(trace.peak(), CpuRate(7));
    }

    #[test]
    fn steps_without_time_are_refused() {
        let mut trace = DemandTrace::default();
        assert_eq!(
            trace.push(SimTime::ZERO, CpuRate(1)),
            Err(DemandError::Instant)
        );
        assert_eq!(trace.push(SimTime::NEVER, CpuRate(1)), Ok(()));
        assert_eq!(
            trace.push(SimTime(1), CpuRate(1)),
            Err(DemandError::TooLong)
        );
    }
}
