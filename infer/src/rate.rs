//! Requests per second, client by client.
//!
//! The generic cell rate algorithm (ITU-T I.371, annex A): of each client one time is kept, the
//! moment at which all that it asked for would be used up at its rate. It is a bucket of tokens
//! in one number, needs no timer, and counts exactly whatever the order of requests.
//!
//! The table is bounded. A client whose bucket is full again is as good as unknown, so it is
//! forgotten first; where that does not make room, those who used least go.
//!
//! ```
//! use std::time::Duration;
//!
//! use infer::rate::{Limiter, Quota, Visitor};
//!
//! let limiter = Limiter::new(100);
//! let quota = Quota::new(2.0, Duration::from_secs(1));
//! let visitor = Visitor::address([192, 0, 2, 1].into());
//! let at = |ms| Duration::from_millis(ms);
//! assert!(limiter.take(&visitor, quota, at(0)).is_allowed());
//! assert!(limiter.take(&visitor, quota, at(0)).is_allowed());
//! assert!(!limiter.take(&visitor, quota, at(499)).is_allowed());
//! assert!(limiter.take(&visitor, quota, at(500)).is_allowed());
//! ```

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::auth::ClientName;

/// When there is no room, one in so many clients goes.
const EVICTED_SHARE: usize = 8;
/// Bits of an IPv6 address that belong to one subscriber (RFC 6177).
const SUBSCRIBER_BITS: u32 = 64;

/// Who is kept count of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Visitor {
    /// A client by name.
    Client(ClientName),
    /// Somebody by address.
    Address(IpAddr),
    /// Somebody at an address who showed wrong credentials.
    Failing(IpAddr),
}

impl Visitor {
    /// Whoever comes from `address`; for IPv6, from its subscriber's network.
    #[must_use]
    pub fn address(address: IpAddr) -> Self {
        Self::Address(network(address))
    }

    /// Whoever showed wrong credentials at `address`.
    #[must_use]
    pub fn failing(address: IpAddr) -> Self {
        Self::Failing(network(address))
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let mask = u128::MAX << (128 - SUBSCRIBER_BITS);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// How much a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The time that one request uses up.
    interval_ns: u64,
    /// The requests that may come at once.
    burst: u64,
    /// The window that the quota is told in.
    window_s: u64,
}

impl Quota {
    /// `per_s` requests per second, of which those of `saved` may come at once (at least one).
    #[must_use]
    pub fn new(per_s: f64, saved: Duration) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / per_s).unwrap_or(Duration::MAX);
        let interval_ns = nanoseconds(interval).max(1);
        let burst = (nanoseconds(saved) / interval_ns).max(1);
        let window_ns = burst.saturating_mul(interval_ns);
        Self {
            interval_ns,
            burst,
            window_s: window_ns.div_ceil(1_000_000_000).max(1),
        }
    }

    /// The requests that may come at once.
    #[must_use]
    pub fn burst(self) -> u64 {
        self.burst
    }

    /// The time in which as many may come again, in whole seconds, rounded up.
    #[must_use]
    pub fn window_s(self) -> u64 {
        self.window_s
    }
}

/// Whether a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may, and so many more may come at once.
    Allowed {
        /// How many more.
        remaining: u64,
        /// The time until all of the quota is there again.
        reset: Duration,
    },
    /// It may not, before so much time has passed.
    Refused {
        /// How much.
        wait: Duration,
    },
}

impl Verdict {
    /// Whether it may pass.
    #[must_use]
    pub fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed { .. })
    }
}

/// Keeps count of clients.
#[derive(Debug)]
pub struct Limiter {
    max_clients: usize,
    /// When each client's quota is full again.
    full_at: Mutex<HashMap<Visitor, u64>>,
}

impl Limiter {
    /// Keeps count of at most `max_clients`.
    #[must_use]
    pub fn new(max_clients: usize) -> Self {
        Self {
            max_clients: max_clients.max(1),
            full_at: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Visitor, u64>> {
        self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one request of `visitor` out of its `quota` at the time `now`, since any start.
    pub fn take(&self, visitor: &Visitor, quota: Quota, now: Duration) -> Verdict {
        let now = nanoseconds(now);
        let mut table = self.table();
        let known = table.get(visitor).copied();
        let full_at = known.unwrap_or(0).max(now);
        let debt = full_at - now;
        let most = quota.burst.saturating_mul(quota.interval_ns);
        let after = debt.saturating_add(quota.interval_ns);
        if after > most {
            let wait = Duration::from_nanos(after - most);
            return Verdict::Refused { wait };
        }
        if known.is_none() && table.len() >= self.max_clients {
            make_room(&mut table, now, self.max_clients);
        }
        let full_at = full_at.saturating_add(quota.interval_ns);
        match table.get_mut(visitor) {
            Some(entry) => *entry = full_at,
            None => drop(table.insert(visitor.clone(), full_at)),
        }
        Verdict::Allowed {
            remaining: (most - after) / quota.interval_ns,
            reset: Duration::from_nanos(after),
        }
    }

    /// Whether `visitor` could take one request at the time `now`; nothing is taken.
    #[must_use]
    pub fn peek(&self, visitor: &Visitor, quota: Quota, now: Duration) -> Verdict {
        let now = nanoseconds(now);
        let debt = self
            .table()
            .get(visitor)
            .map_or(0, |at| at.saturating_sub(now));
        let most = quota.burst.saturating_mul(quota.interval_ns);
        let after = debt.saturating_add(quota.interval_ns);
        if after > most {
            let wait = Duration::from_nanos(after - most);
            return Verdict::Refused { wait };
        }
        Verdict::Allowed {
            remaining: (most - debt) / quota.interval_ns,
            reset: Duration::from_nanos(debt),
        }
    }

    /// How many clients are kept count of.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table().len()
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table().is_empty()
    }
}

/// Forgets whose quota is full at `now`, and where that is not enough those who used least.
fn make_room(table: &mut HashMap<Visitor, u64>, now: u64, max_clients: usize) {
    table.retain(|_, full_at| *full_at > now);
    let wanted = max_clients - (max_clients / EVICTED_SHARE).max(1);
    if table.len() > wanted {
        let mut times: Vec<u64> = table.values().copied().collect();
        let (_, last, _) = times.select_nth_unstable(table.len() - wanted - 1);
        let last = *last;
        table.retain(|_, full_at| *full_at > last);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn visitor(n: u32) -> Visitor {
        Visitor::address(IpAddr::V4(n.into()))
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let limiter = Limiter::new(10);
        // 10 per second, 0.3 s saved up: 3 at once, one more each 100 ms.
        let quota = Quota::new(10.0, ms(300));
        let take = |at| limiter.take(&visitor(1), quota, at);
        let allowed = |remaining, reset| Verdict::Allowed {
            remaining,
            reset: ms(reset),
        };
        assert_eq!((quota.burst(), quota.window_s()), (3, 1));
        assert_eq!(take(ms(0)), allowed(2, 100));
        assert_eq!(take(ms(0)), allowed(1, 200));
        assert_eq!(take(ms(50)), allowed(0, 250));
        // 250 ms are used up: the next fits when 200 are left, 100 ms after 0.
        assert_eq!(take(ms(50)), Verdict::Refused { wait: ms(50) });
        assert_eq!(take(ms(99)), Verdict::Refused { wait: ms(1) });
        assert_eq!(take(ms(100)), allowed(0, 300));
        assert_eq!(take(ms(400)), allowed(2, 100));
        assert!(limiter.take(&visitor(2), quota, ms(100)).is_allowed());
    }

    #[test]
    fn looking_takes_nothing() {
        let limiter = Limiter::new(10);
        let quota = Quota::new(1.0, ms(1));
        for _ in 0..3 {
            assert!(limiter.peek(&visitor(1), quota, ms(0)).is_allowed());
        }
        assert!(limiter.take(&visitor(1), quota, ms(0)).is_allowed());
        let wait = ms(600);
        assert_eq!(
            limiter.peek(&visitor(1), quota, ms(400)),
            Verdict::Refused { wait }
        );
    }

    #[test]
    fn the_table_stays_bounded_and_keeps_the_busiest() {
        let limiter = Limiter::new(64);
        let quota = Quota::new(1.0, Duration::from_secs(10));
        for _ in 0..10 {
            assert!(limiter.take(&visitor(0), quota, ms(0)).is_allowed());
        }
        for n in 1..10_000 {
            assert!(limiter.take(&visitor(n), quota, ms(0)).is_allowed());
            assert!(limiter.len() <= 64, "{}", limiter.len());
        }
        let wait = Duration::from_secs(1);
        assert_eq!(
            limiter.take(&visitor(0), quota, ms(0)),
            Verdict::Refused { wait }
        );
        // An hour later all are forgotten but the one who comes.
        for n in 0..64 {
            let later = Duration::from_secs(3600);
            assert!(
                limiter
                    .take(&visitor(20_000 + n), quota, later)
                    .is_allowed()
            );
        }
        assert!(limiter.len() <= 64);
    }

    #[test]
    fn an_ipv6_subscriber_is_one_visitor() {
        let at = |text: &str| Visitor::address(text.parse().expect("an address"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), Visitor::failing([10, 0, 0, 1].into()));
    }

    proptest! {
        /// In no window do more requests pass than the burst and the rate times the window.
        #[test]
        fn no_window_has_more_than_its_share(
            per_s in 1.0..1000.0_f64,
            saved_ms in 1_u64..5_000,
            steps in prop::collection::vec(0_u64..200, 1..200),
        ) {
            let limiter = Limiter::new(4);
            let quota = Quota::new(per_s, ms(saved_ms));
            let (mut now, mut passed) = (0, Vec::new());
            for step in steps {
                now += step;
                if limiter.take(&visitor(1), quota, ms(now)).is_allowed() {
                    passed.push(now);
                }
            }
            for (i, from) in passed.iter().enumerate() {
                for (count, to) in (1_u64..).zip(&passed[i..]) {
                    let refilled = (to - from) * 1_000_000 / quota.interval_ns;
                    prop_assert!(count <= quota.burst() + refilled + 1);
                }
            }
        }
    }
}
