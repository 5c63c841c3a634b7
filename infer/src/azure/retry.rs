//! When a call is sent again, and after what wait.
//!
//! A read may always be sent again. A write is sent again only where it certainly was not carried
//! out (429, 401); whether a write whose answer was lost took effect is found by looking.

use std::time::Duration;

use azure_core::http::headers::{HeaderName, Headers};

/// The longest wait that a server may ask for.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// The shortest wait before another attempt.
pub const MIN_PAUSE: Duration = Duration::from_millis(20);
/// The first wait where the server asks for none.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest wait where the server asks for none.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// The most attempts at one call.
pub const MAX_ATTEMPTS: u32 = 6;

/// Whether a call changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// It does not.
    Read,
    /// It does.
    Write,
}

/// Whether an answer with `status` to the attempt number `attempt` (from 1) asks for another.
#[must_use]
pub fn again(nature: Nature, status: u16, attempt: u32) -> bool {
    if attempt >= MAX_ATTEMPTS {
        return false;
    }
    match (nature, status) {
        // The token was refused, and has been dropped: once more with a new one.
        (_, 401) => attempt == 1,
        (_, 429) | (Nature::Read, 408 | 500 | 502 | 503 | 504) => true,
        _ => false,
    }
}

/// The wait that the headers of an answer ask for, at most [`MAX_RETRY_AFTER`].
#[must_use]
pub fn asked(headers: &Headers) -> Option<Duration> {
    let number = |name: &'static str| {
        headers
            .get_optional_str(&HeaderName::from_static(name))
            .and_then(|text| text.trim().parse::<u64>().ok())
    };
    let millis = number("retry-after-ms").or_else(|| number("x-ms-retry-after-ms"));
    millis
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))
        .map(|wait| wait.min(MAX_RETRY_AFTER))
}

/// The wait before the attempt after number `attempt` (from 1): what was asked for, else one that
/// doubles; `jitter` between 0 and 1 spreads those who fail together.
#[must_use]
pub fn pause(attempt: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(10));
    let spread = doubled
        .min(MAX_PAUSE)
        .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
    asked.unwrap_or(spread).clamp(MIN_PAUSE, MAX_RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.insert(*name, *value);
        }
        headers
    }

    #[test]
    fn writes_are_sent_again_only_where_they_were_not_carried_out() {
        for status in [408, 500, 502, 503, 504] {
            assert!(again(Nature::Read, status, 1));
            assert!(!again(Nature::Write, status, 1));
        }
        assert!(again(Nature::Write, 429, 1));
        assert!(again(Nature::Write, 401, 1) && !again(Nature::Write, 401, 2));
        assert!(!again(Nature::Read, 404, 1) && !again(Nature::Read, 503, MAX_ATTEMPTS));
    }

    #[test]
    fn what_a_server_asks_for_is_capped() {
        let seconds = headers(&[("retry-after", "86400")]);
        assert_eq!(asked(&seconds), Some(MAX_RETRY_AFTER));
        let millis = headers(&[("retry-after", "30"), ("retry-after-ms", "50")]);
        assert_eq!(asked(&millis), Some(Duration::from_millis(50)));
        assert_eq!(asked(&headers(&[("retry-after", "soon")])), None);
        assert_eq!(pause(1, Some(Duration::ZERO), 0.5), MIN_PAUSE);
    }

    #[test]
    fn waits_double_up_to_a_limit() {
        assert_eq!(pause(1, None, 1.0), Duration::from_millis(200));
        assert_eq!(pause(3, None, 1.0), Duration::from_millis(800));
        assert_eq!(pause(40, None, 1.0), MAX_PAUSE);
        assert_eq!(pause(1, None, 0.0), Duration::from_millis(100));
    }
}
