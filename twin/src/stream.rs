//! Random streams, derived by name from one seed.
//!
//! Each purpose ("arrivals", "futures of decision 17") has a stream of its own, so that one more
//! draw in one place does not shift the others, and two policies meet the same future (common
//! random numbers). Values that belong to one request are not drawn in sequence but hashed from
//! the request's own key ([`unit()`]), so that they do not depend on the order of events.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The generator of every named stream.
pub type Stream = ChaCha8Rng;

/// The stream called `name` of `seed`.
///
/// ```
/// use rand::Rng;
/// let mut a = twin::stream::named(7, "arrivals");
/// let mut b = twin::stream::named(7, "arrivals");
/// assert_eq!(a.next_u64(), b.next_u64());
/// ```
#[must_use]
pub fn named(seed: u64, name: &str) -> Stream {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(name.as_bytes());
    Stream::from_seed(hash.finalize().into())
}

/// A 64-bit mix of `key` and `part`: SplitMix64's finalizer (Steele et al., OOPSLA 2014).
#[must_use]
pub fn mix(key: u64, part: u64) -> u64 {
    let mut z = key.wrapping_add(part.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The uniform value in the open interval (0, 1) that belongs to `key` and `part`.
#[must_use]
pub fn unit(key: u64, part: u64) -> f64 {
    /// 2^-53: the spacing of the values.
    const SPACING: f64 = 1.0 / 9_007_199_254_740_992.0;
    ((mix(key, part) >> 11) as f64 + 0.5) * SPACING
}
