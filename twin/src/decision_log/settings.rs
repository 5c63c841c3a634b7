//! How a log is kept.

use std::time::Duration;

use super::error::LogError;
use super::frame::MAX_RECORD_BYTES;

/// The smallest segment that makes sense.
const MIN_SEGMENT_BYTES: u64 = 4 << 10;
/// The largest segment, so that a start stays quick.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

/// How a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A segment that has reached this length is followed by a new one.
    pub segment_bytes: u64,
    /// So is one that has been written for this long.
    pub segment_age: Duration,
    /// The oldest segments are removed while all together are longer than this.
    pub retain_bytes: u64,
    /// So are segments whose last record is older than this.
    pub retain_age: Duration,
    /// The longest payload of a record.
    pub max_record_bytes: usize,
}

impl Default for Settings {
    /// Segments of 64 MiB or a day; 8 GiB and 30 days are kept.
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self {
            segment_bytes: 64 << 20,
            segment_age: day,
            retain_bytes: 8 << 30,
            retain_age: 30 * day,
            max_record_bytes: MAX_RECORD_BYTES,
        }
    }
}

impl Settings {
    pub(super) fn check(&self) -> Result<(), LogError> {
        let wrong = |field, problem| Err(LogError::Settings { field, problem });
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes) {
            let problem = format!("must be from {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}");
            return wrong("segment_bytes", problem);
        }
        if self.retain_bytes < self.segment_bytes {
            let problem = format!("must be at least segment_bytes, {}", self.segment_bytes);
            return wrong("retain_bytes", problem);
        }
        if self.max_record_bytes > MAX_RECORD_BYTES {
            return wrong(
                "max_record_bytes",
                format!("must be at most {MAX_RECORD_BYTES}"),
            );
        }
        for (field, age) in [
            ("segment_age", self.segment_age),
            ("retain_age", self.retain_age),
        ] {
            if age.is_zero() {
                return wrong(field, "must be more than zero".into());
            }
        }
        Ok(())
    }
}
