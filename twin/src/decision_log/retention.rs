//! Which segments are removed.

use super::segment::Segment;
use super::settings::Settings;

/// The most segments that are kept, whatever their size: a start lists them all.
const MAX_SEGMENTS: usize = 10_000;

/// How many of `segments`, the oldest first, are not to be kept.
///
/// `current_bytes` is the length of the segment that is written; the record `anchor` and those
/// behind it are needed (0: none is); without `now_ns` no segment is too old.
pub(super) fn expired(
    segments: &[Segment],
    current_bytes: u64,
    anchor: u64,
    now_ns: Option<u64>,
    settings: &Settings,
) -> usize {
    let needed = match anchor {
        0 => segments.len(),
        // The segment before the first that begins behind the anchor holds it.
        _ => segments
            .partition_point(|s| s.first <= anchor)
            .saturating_sub(1),
    };
    let mut bytes = current_bytes + segments.iter().map(|s| s.bytes).sum::<u64>();
    let age_ns = u64::try_from(settings.retain_age.as_nanos()).unwrap_or(u64::MAX);
    let mut count = 0;
    for segment in &segments[..needed] {
        let old = now_ns.is_some_and(|now| now.saturating_sub(segment.ended_ns) > age_ns);
        let many = segments.len() - count > MAX_SEGMENTS;
        if !old && !many && bytes <= settings.retain_bytes {
            break;
        }
        bytes -= segment.bytes;
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_go_until_bytes_and_age_are_kept_and_never_what_the_anchor_needs() {
        // Ten segments of 100 bytes and 10 records, ended at 10 s, 20 s, … 100 s.
        let segments: Vec<Segment> = (0..10)
            .map(|i| Segment {
                first: 1 + 10 * i,
                path: format!("{i}").into(),
                bytes: 100,
                ended_ns: (i + 1) * 10_000_000_000,
            })
            .collect();
        let settings = |retain_bytes, age_s| Settings {
            retain_bytes,
            retain_age: Duration::from_secs(age_s),
            ..Settings::default()
        };
        let count = |anchor, now_s: Option<u64>, settings: &Settings| {
            let now_ns = now_s.map(|s| s * 1_000_000_000);
            expired(&segments, 50, anchor, now_ns, settings)
        };
        // 1050 bytes, of which 450 are kept with the 6 oldest gone.
        assert_eq!(count(0, None, &settings(450, 1_000)), 6);
        assert_eq!(count(0, None, &settings(449, 1_000)), 7);
        assert_eq!(count(0, None, &settings(0, 1_000)), 10);
        // At 100 s those that ended before 60 s are older than 40 s.
        assert_eq!(count(0, Some(100), &settings(2_000, 40)), 5);
        assert_eq!(count(0, None, &settings(2_000, 40)), 0);
        // A clock that stands before them all.
        assert_eq!(count(0, Some(0), &settings(2_000, 40)), 0);
        // Record 31 is the first of segment 3, record 30 the last of segment 2.
        assert_eq!(count(31, Some(1_000), &settings(0, 1)), 3);
        assert_eq!(count(30, Some(1_000), &settings(0, 1)), 2);
        assert_eq!(count(500, Some(1_000), &settings(0, 1)), 9);
    }
}
