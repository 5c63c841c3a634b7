//! How calls are throttled: token buckets, as Azure has them.
//!
//! For each region and kind of call, reads have a bucket of 250 that refills at 25 a second, writes
//! and deletes of 200 at 10 a second (Azure documentation, "Understand how Azure Resource Manager
//! throttles requests"); a VM takes some 12 updates a minute ("Troubleshooting API throttling
//! errors"). Seconds are virtual ones. There is one subscription.
//!
//! A call that is turned away makes the bucket older by the time that its caller is told to wait.
//! Where time is stepped nobody could otherwise wait for anything; where it runs, the caller may
//! come back a little earlier than Azure lets it.

use std::collections::BTreeMap;

use twin::units::SimTime;

/// The most buckets that are kept.
const MOST_BUCKETS: usize = 100_000;

/// Size of a bucket and its refill.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    size: f64,
    per_s: f64,
}

/// Buckets of reads.
const READS: Bucket = Bucket {
    size: 250.0,
    per_s: 25.0,
};
/// Buckets of writes, and of deletes.
const WRITES: Bucket = Bucket {
    size: 200.0,
    per_s: 10.0,
};
/// Updates of one VM.
const UPDATES: Bucket = Bucket {
    size: 12.0,
    per_s: 12.0 / 60.0,
};

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Reads in a region; the subscription itself has the empty one.
    Reads(String),
    /// Writes in a region.
    Writes(String),
    /// Deletes in a region.
    Deletes(String),
    /// Updates of one VM.
    Updates(String),
}

impl Scope {
    fn bucket(&self) -> Bucket {
        match self {
            Self::Reads(_) => READS,
            Self::Writes(_) | Self::Deletes(_) => WRITES,
            Self::Updates(_) => UPDATES,
        }
    }

    /// The header that tells what is left.
    pub(super) fn header(&self) -> &'static str {
        match self {
            Self::Reads(_) => "x-ms-ratelimit-remaining-subscription-reads",
            Self::Writes(_) => "x-ms-ratelimit-remaining-subscription-writes",
            Self::Deletes(_) => "x-ms-ratelimit-remaining-subscription-deletes",
            Self::Updates(_) => "x-ms-ratelimit-remaining-resource",
        }
    }
}

/// What is left in a bucket at a time.
#[derive(Clone, Copy, Debug)]
struct Level {
    left: f64,
    at: SimTime,
}

/// The buckets.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    levels: BTreeMap<Scope, Level>,
}

/// A call is turned away.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TurnedAway {
    /// How long to wait, in virtual s.
    pub(super) wait_s: f64,
}

impl Throttle {
    /// Takes one from the bucket of `scope`; gives what is left, in whole calls.
    pub(super) fn take(&mut self, scope: &Scope, now: SimTime) -> Result<u64, TurnedAway> {
        let bucket = scope.bucket();
        if self.levels.len() >= MOST_BUCKETS && !self.levels.contains_key(scope) {
            // Full buckets say nothing that an absent one does not.
            self.levels.retain(|scope, level| {
                let bucket = scope.bucket();
                refilled(bucket, *level, now) < bucket.size
            });
        }
        let level = self.levels.entry(scope.clone()).or_insert(Level {
            left: bucket.size,
            at: now,
        });
        level.left = refilled(bucket, *level, now);
        level.at = now.max(level.at);
        if level.left >= 1.0 {
            level.left -= 1.0;
            return Ok(whole(level.left));
        }
        let wait_s = (1.0 - level.left) / bucket.per_s;
        level.left = 1.0;
        Err(TurnedAway { wait_s })
    }
}

fn refilled(bucket: Bucket, level: Level, now: SimTime) -> f64 {
    let since = now.since(level.at).seconds();
    (level.left + since * bucket.per_s).min(bucket.size)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "levels lie between zero and the size of a bucket"
)]
fn whole(level: f64) -> u64 {
    level as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_refills() {
        let mut throttle = Throttle::default();
        let scope = Scope::Writes("uksouth".into());
        let now = SimTime::from_seconds(100.0);
        for left in (0..200).rev() {
            assert_eq!(throttle.take(&scope, now), Ok(left));
        }
        // One in ten seconds' tenth: 0.1 s until the next.
        assert_eq!(throttle.take(&scope, now), Err(TurnedAway { wait_s: 0.1 }));
        // Who was turned away has waited.
        assert_eq!(throttle.take(&scope, now), Ok(0));
        // 10 a second for 3 s.
        assert_eq!(throttle.take(&scope, SimTime::from_seconds(103.0)), Ok(29));
        // Never more than its size.
        assert_eq!(throttle.take(&scope, SimTime::from_seconds(1e6)), Ok(199));
    }

    #[test]
    fn regions_and_kinds_are_counted_apart() {
        let mut throttle = Throttle::default();
        let now = SimTime::ZERO;
        for _ in 0..12 {
            let vm = Scope::Updates("a".into());
            assert!(throttle.take(&vm, now).is_ok());
        }
        let away = throttle.take(&Scope::Updates("a".into()), now);
        assert_eq!(away, Err(TurnedAway { wait_s: 5.0 }));
        assert_eq!(throttle.take(&Scope::Updates("b".into()), now), Ok(11));
        assert_eq!(throttle.take(&Scope::Reads("a".into()), now), Ok(249));
        assert_eq!(throttle.take(&Scope::Reads("b".into()), now), Ok(249));
    }
}
