//! Spans of a recording, as they are asked for.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::units::SimTime;

/// A moment: a number of bins or intervals, or a time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    Intervals(u32),
    Time(SimTime),
}

/// `A..B`: whole intervals (`0..350`), or times with a unit (`0d..2d`, `12h..36h`, `0s..90s`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    from: Bound,
    until: Bound,
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Its first interval.
    pub from_interval: usize,
    /// The first interval after it.
    pub until_interval: usize,
}

impl Span {
    /// Whether `interval` is in it.
    #[must_use]
    pub fn contains(&self, interval: usize) -> bool {
        (self.from_interval..self.until_interval).contains(&interval)
    }
}

impl Window {
    /// The intervals of length `interval` that lie wholly in the window, of `count` that there are.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn intervals(&self, interval: SimTime, count: usize) -> Result<Span, String> {
        let first = |bound: Bound| match bound {
            Bound::Intervals(n) => n as usize,
            Bound::Time(time) => saturate(time.0.div_ceil(interval.0.max(1))),
        };
        let last = |bound: Bound| match bound {
            Bound::Intervals(n) => n as usize,
            Bound::Time(time) => saturate(time.0 / interval.0.max(1)),
        };
        let span = Span {
            from_interval: first(self.from),
            until_interval: last(self.until).min(count),
        };
        if span.from_interval < span.until_interval {
            Ok(span)
        } else {
            Err(format!(
                "the window holds none of the {count} intervals of {} s; choose another",
                interval.seconds()
            ))
        }
    }
}

fn saturate(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split_once("..")
            .and_then(|(a, b)| {
                Some(Self {
                    from: bound(a)?,
                    until: bound(b)?,
                })
            })
            .ok_or_else(|| {
                "expected A..B, both in whole intervals as in 0..350 or in time as in 0d..2d \
                 (units: s, m, h, d)"
                    .into()
            })
    }
}

fn bound(text: &str) -> Option<Bound> {
    if let Ok(intervals) = text.parse() {
        return Some(Bound::Intervals(intervals));
    }
    let seconds_per_unit = match text.chars().next_back()? {
        's' => 1.0,
        'm' => 60.0,
        'h' => 3600.0,
        'd' => 86_400.0,
        _ => return None,
    };
    let number: f64 = text[..text.len() - 1].parse().ok()?;
    (0.0..1e9)
        .contains(&number)
        .then(|| Bound::Time(SimTime::from_seconds(number * seconds_per_unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals(text: &str) -> Result<(usize, usize), String> {
        let window: Window = text.parse()?;
        // 100 intervals of 150 s, 24 an hour.
        let span = window.intervals(SimTime::from_seconds(150.0), 100)?;
        Ok((span.from_interval, span.until_interval))
    }

    #[test]
    fn windows_are_in_intervals_or_in_time() {
        assert_eq!(intervals("3..50"), Ok((3, 50)));
        assert_eq!(intervals("1h..2h"), Ok((24, 48)));
        // Only whole intervals count: 100 s is within the first, 700 s within the fifth.
        assert_eq!(intervals("100s..700s"), Ok((1, 4)));
        assert_eq!(intervals("0..1d"), Ok((0, 100)));
        for wrong in ["5..5", "200..300", "4", "a..b", "-1s..5s", "1w..2w", ".."] {
            assert!(intervals(wrong).is_err(), "{wrong}");
        }
    }
}
