//! Percentiles of response times, in memory that does not grow with the length of a run.
//!
//! The first [`EXACT`] values are kept, and their quantiles are exact (nearest rank). Beyond that
//! values are counted in buckets of nanoseconds with [`PRECISION_BITS`] significant bits, as in an
//! HDR histogram (Tene, 2012); a quantile is then the middle of its bucket, at most 2^-12 (0.024 %)
//! away from the exact one.

use crate::ids::VariantId;
use crate::sink::Sink;
use crate::state::Request;
use crate::units::SimTime;

/// Values up to which quantiles are exact.
const EXACT: usize = 1 << 16;
/// Significant bits of a bucket.
const PRECISION_BITS: u32 = 11;

/// Records the response time of each request.
#[derive(Clone, Debug, Default)]
pub struct ResponseTimes {
    exact: Vec<SimTime>,
    /// Counts by bucket; empty while all values are kept.
    buckets: Vec<u64>,
    count: u64,
}

impl ResponseTimes {
    /// Notes one response time.
    pub fn note(&mut self, response: SimTime) {
        self.count += 1;
        if !self.buckets.is_empty() {
            self.tally(response);
        } else if self.exact.len() < EXACT {
            self.exact.push(response);
        } else {
            self.buckets = vec![0; bucket(SimTime::NEVER) + 1];
            for value in std::mem::take(&mut self.exact) {
                self.tally(value);
            }
            self.tally(response);
        }
    }

    fn tally(&mut self, response: SimTime) {
        self.buckets[bucket(response)] += 1;
    }

    /// The quantile `q` in seconds, by the nearest-rank method; zero if nothing was answered.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the rank lies between zero and the number of values"
    )]
    pub fn quantile(&mut self, q: f64) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let rank = ((q * self.count as f64).ceil() as u64).clamp(1, self.count);
        if self.buckets.is_empty() {
            let place = (rank - 1) as usize;
            return self.exact.select_nth_unstable(place).1.seconds();
        }
        let mut seen = 0;
        let place = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        place.map_or(0.0, middle_s)
    }
}

#[expect(private_interfaces, reason = "only this crate implements sinks")]
impl Sink for ResponseTimes {
    fn completed(&mut self, now: SimTime, request: &Request, _: VariantId, _: bool) {
        self.note(now.since(request.arrived));
    }
}

/// The bucket of `time`: its most significant bits, and how many were left out.
fn bucket(time: SimTime) -> usize {
    let bits = u64::BITS - time.0.leading_zeros();
    let shift = bits.saturating_sub(PRECISION_BITS + 1);
    // The leading bit is one where bits were left out, so buckets of different shifts differ.
    ((shift as usize) << PRECISION_BITS) + usize::try_from(time.0 >> shift).unwrap_or(0)
}

/// The middle of a bucket, in s.
fn middle_s(bucket: usize) -> f64 {
    let per_shift = 1_usize << PRECISION_BITS;
    let shift = (bucket / per_shift).saturating_sub(1);
    let least = ((bucket - shift * per_shift) as u64) << shift;
    SimTime(least).seconds() + SimTime((1 << shift) - 1).seconds() / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream;

    #[test]
    fn few_values_have_exact_quantiles() {
        let mut times = ResponseTimes::default();
        assert!(times.quantile(0.5).abs() < f64::EPSILON);
        for ms in [40, 10, 30, 20] {
            times.note(SimTime(ms * 1_000_000));
        }
        // Nearest rank: the second of four is the median, the fourth the 99th percentile.
        assert!((times.quantile(0.5) - 0.020).abs() < 1e-15);
        assert!((times.quantile(0.99) - 0.040).abs() < 1e-15);
    }

    #[test]
    fn many_values_have_quantiles_within_the_bucket() {
        let n = 4 * EXACT as u64;
        let mut times = ResponseTimes::default();
        let mut exact = Vec::new();
        for i in 0..n {
            // From nanoseconds to hours.
            let time = SimTime::from_seconds(10_f64.powf(stream::unit(3, i) * 13.0 - 9.0));
            times.note(time);
            exact.push(time);
        }
        exact.sort_unstable();
        for q in [0.01, 0.5, 0.95, 0.99, 1.0] {
            let rank = (q * n as f64).ceil() - 1.0;
            let wanted = exact
                [usize::try_from(SimTime::from_seconds(rank * 1e-9).0).expect("a rank")]
            .seconds();
            let found = times.quantile(q);
            assert!(
                (found / wanted - 1.0).abs() < 2.5e-4,
                "{q}: {found} {wanted}"
            );
        }
    }

    #[test]
    fn every_time_has_a_bucket_of_its_own_size() {
        for time in [0, 1, 2047, 2048, 4095, 4096, 4097, 1 << 40, u64::MAX] {
            let at = bucket(SimTime(time));
            let off = middle_s(at) - SimTime(time).seconds();
            assert!(
                off.abs() <= SimTime(time).seconds() * 2.5e-4,
                "{time} {off}"
            );
        }
        assert!(bucket(SimTime::NEVER) < 200_000);
    }
}
