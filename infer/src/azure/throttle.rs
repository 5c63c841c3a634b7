//! Token buckets, so that the client does not run into the limits of Resource Manager.
//!
//! For each subscription and region: 250 reads, refilled at 25 a second; 200 writes and 200 deletes,
//! refilled at 10 a second ("Resource Manager throttling"). What the server says is left
//! (`x-ms-ratelimit-remaining-*`) lowers the client's own count, since others share the
//! subscription; a 429 empties it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use azure_core::http::headers::{HeaderName, Headers};

use super::retry::Nature;

/// Capacity and refill of a bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Calls that may be made at once.
    pub burst: f64,
    /// Calls a second after that.
    pub per_s: f64,
}

/// Reads of a subscription and region.
pub const READS: Rate = Rate {
    burst: 250.0,
    per_s: 25.0,
};
/// Writes of a subscription and region.
pub const WRITES: Rate = Rate {
    burst: 200.0,
    per_s: 10.0,
};

/// A token bucket on a clock that is handed in, as the time since some start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    rate: Rate,
    level: f64,
    at: Duration,
    closed_until: Duration,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn full(rate: Rate) -> Self {
        Self {
            rate,
            level: rate.burst,
            at: Duration::ZERO,
            closed_until: Duration::ZERO,
        }
    }

    fn refill(&mut self, now: Duration) {
        let span = now.saturating_sub(self.at).as_secs_f64();
        self.level = (self.level + span * self.rate.per_s).min(self.rate.burst);
        self.at = self.at.max(now);
    }

    /// Takes one call, or tells how long to wait before trying again.
    ///
    /// # Errors
    ///
    /// The wait.
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        self.refill(now);
        if now < self.closed_until {
            return Err(self.closed_until.saturating_sub(now));
        }
        if self.level >= 1.0 {
            self.level -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - self.level) / self.rate.per_s;
        Err(Duration::from_secs_f64(wait))
    }

    /// The server says that `remaining` calls are left.
    pub fn remaining(&mut self, now: Duration, remaining: f64) {
        self.refill(now);
        self.level = self.level.min(remaining.max(0.0));
    }

    /// The server refused, and asked for `wait`.
    pub fn refused(&mut self, now: Duration, wait: Duration) {
        self.refill(now);
        self.level = self.level.min(1.0);
        self.closed_until = self.closed_until.max(now + wait);
    }
}

/// The buckets of a subscription, shared by all calls.
#[derive(Debug)]
pub struct Throttle {
    started: Instant,
    reads: Mutex<Bucket>,
    writes: Mutex<Bucket>,
}

impl Throttle {
    /// Full buckets.
    #[must_use]
    pub fn new(reads: Rate, writes: Rate) -> Self {
        Self {
            started: Instant::now(),
            reads: Mutex::new(Bucket::full(reads)),
            writes: Mutex::new(Bucket::full(writes)),
        }
    }

    fn with<T>(&self, nature: Nature, act: impl FnOnce(&mut Bucket, Duration) -> T) -> T {
        let bucket = match nature {
            Nature::Read => &self.reads,
            Nature::Write => &self.writes,
        };
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut bucket, self.started.elapsed())
    }

    /// Waits until a call of this nature may be made.
    pub async fn admit(&self, nature: Nature) {
        while let Err(wait) = self.with(nature, |bucket, now| bucket.take(now)) {
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    /// Learns from the headers of an answer.
    pub fn learn(&self, nature: Nature, status: u16, headers: &Headers, wait: Duration) {
        if let Some(left) = remaining(nature, headers) {
            self.with(nature, |bucket, now| bucket.remaining(now, left));
        }
        if status == 429 {
            self.with(nature, |bucket, now| bucket.refused(now, wait));
        }
    }
}

/// The least of what the headers say is left.
fn remaining(nature: Nature, headers: &Headers) -> Option<f64> {
    let subscription = match nature {
        Nature::Read => "x-ms-ratelimit-remaining-subscription-reads",
        Nature::Write => "x-ms-ratelimit-remaining-subscription-writes",
    };
    let text = |name| headers.get_optional_str(&HeaderName::from_static(name));
    let whole = text(subscription).and_then(|t| t.trim().parse::<f64>().ok());
    // "Microsoft.Compute/PutVM3Min;107,Microsoft.Compute/PutVM30Min;587"
    let resource = text("x-ms-ratelimit-remaining-resource").and_then(|list| {
        list.split(',')
            .filter_map(|part| part.rsplit_once(';')?.1.trim().parse::<f64>().ok())
            .reduce(f64::min)
    });
    [whole, resource].into_iter().flatten().reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::full(Rate {
            burst: 3.0,
            per_s: 2.0,
        });
        let zero = Duration::ZERO;
        for _ in 0..3 {
            assert_eq!(bucket.take(zero), Ok(()));
        }
        assert_eq!(bucket.take(zero), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(Duration::from_millis(500)), Ok(()));
        assert!(bucket.take(Duration::from_millis(501)).is_err());
    }

    #[test]
    fn the_server_knows_better() {
        let mut bucket = Bucket::full(READS);
        bucket.remaining(Duration::ZERO, 1.0);
        assert_eq!(bucket.take(Duration::ZERO), Ok(()));
        assert_eq!(bucket.take(Duration::ZERO), Err(Duration::from_millis(40)));
        bucket.remaining(Duration::ZERO, 11_999.0);
        assert!(
            bucket.take(Duration::ZERO).is_err(),
            "more than ours is no news"
        );
        bucket.refused(Duration::from_secs(10), Duration::from_secs(5));
        let wait = bucket.take(Duration::from_secs(11));
        assert_eq!(wait, Err(Duration::from_secs(4)));
        assert_eq!(bucket.take(Duration::from_secs(15)), Ok(()));
    }

    #[test]
    fn the_scarcest_header_counts() {
        let mut headers = Headers::new();
        headers.insert("x-ms-ratelimit-remaining-subscription-writes", "199");
        headers.insert(
            "x-ms-ratelimit-remaining-resource",
            "Microsoft.Compute/A;107,Microsoft.Compute/B;7",
        );
        assert_eq!(remaining(Nature::Write, &headers), Some(7.0));
        assert_eq!(remaining(Nature::Read, &Headers::new()), None);
    }
}
