//! Windows of time that come again every week, in UTC.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;

/// A span of each of some weekdays. One that ends at or before its begin goes on into the next day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    days: Vec<Weekday>,
    from: Time,
    to: Time,
}

impl Window {
    /// The span from `from` to `to` (as `22:00`) on each of `days` (as `mon`, `mon-fri` or `daily`).
    ///
    /// # Errors
    ///
    /// If a day or a time is none.
    pub fn parse(days: &[String], from: &str, to: &str) -> Result<Self, String> {
        let mut list = Vec::new();
        for text in days {
            list.extend(days_of(text)?);
        }
        if list.is_empty() {
            return Err("days: name at least one, as \"mon\", \"mon-fri\" or \"daily\"".into());
        }
        Ok(Self {
            days: list,
            from: time_of(from).map_err(|problem| format!("from: {problem}"))?,
            to: time_of(to).map_err(|problem| format!("to: {problem}"))?,
        })
    }

    /// Whether `at` lies within; the begin does, the end does not.
    #[must_use]
    pub fn covers(&self, at: Timestamp) -> bool {
        let civil = at.to_zoned(TimeZone::UTC);
        let (day, time) = (civil.weekday(), civil.time());
        let began_today = self.days.contains(&day);
        let began_yesterday = self.days.contains(&day.previous());
        if self.from < self.to {
            return began_today && self.from <= time && time < self.to;
        }
        (began_today && self.from <= time) || (began_yesterday && time < self.to)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<&str> = self.days.iter().map(|day| name_of(*day)).collect();
        let hm = |t: Time| format!("{:02}:{:02}", t.hour(), t.minute());
        write!(
            f,
            "{} {}-{} UTC",
            days.join(","),
            hm(self.from),
            hm(self.to)
        )
    }
}

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

fn name_of(day: Weekday) -> &'static str {
    DAYS.iter()
        .find(|(_, d)| *d == day)
        .map_or("", |(name, _)| name)
}

fn day_of(text: &str) -> Result<usize, String> {
    let text = text.trim().to_ascii_lowercase();
    DAYS.iter()
        .position(|(name, _)| *name == text)
        .ok_or_else(|| format!("days: {text:?} is none of mon, tue, wed, thu, fri, sat, sun"))
}

fn days_of(text: &str) -> Result<Vec<Weekday>, String> {
    if text.eq_ignore_ascii_case("daily") {
        return Ok(DAYS.iter().map(|(_, day)| *day).collect());
    }
    let Some((first, last)) = text.split_once('-') else {
        return Ok(vec![DAYS[day_of(text)?].1]);
    };
    let (first, last) = (day_of(first)?, day_of(last)?);
    let count = (last + 7 - first) % 7 + 1;
    Ok((0..count).map(|i| DAYS[(first + i) % 7].1).collect())
}

fn time_of(text: &str) -> Result<Time, String> {
    let problem = || format!("{text:?} is no time of day, as \"22:00\"");
    let (hour, minute) = text.split_once(':').ok_or_else(problem)?;
    let two = |part: &str| {
        let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<i8>().ok()).flatten()
    };
    let (hour, minute) = two(hour).zip(two(minute)).ok_or_else(problem)?;
    // The end of the day is the begin of the next.
    let hour = if (hour, minute) == (24, 0) { 0 } else { hour };
    Time::new(hour, minute, 0, 0).map_err(|_| problem())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[&str], from: &str, to: &str) -> Window {
        let days: Vec<String> = days.iter().map(|d| (*d).to_owned()).collect();
        Window::parse(&days, from, to).expect("a window")
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn within_a_day() {
        // 2026-11-23 is a Monday.
        let window = window(&["mon-fri"], "08:00", "18:00");
        assert!(window.covers(at("2026-11-23T08:00:00Z")));
        assert!(window.covers(at("2026-11-27T17:59:59Z")));
        assert!(!window.covers(at("2026-11-23T18:00:00Z")));
        assert!(!window.covers(at("2026-11-28T12:00:00Z")));
        assert_eq!(window.to_string(), "mon,tue,wed,thu,fri 08:00-18:00 UTC");
    }

    #[test]
    fn across_midnight() {
        let window = window(&["sun"], "22:00", "06:00");
        assert!(window.covers(at("2026-11-22T22:00:00Z")));
        assert!(window.covers(at("2026-11-23T05:59:00Z")));
        assert!(!window.covers(at("2026-11-22T05:00:00Z")));
        assert!(!window.covers(at("2026-11-23T06:00:00Z")));
    }

    #[test]
    fn the_whole_day() {
        let window = window(&["sat"], "00:00", "24:00");
        assert!(window.covers(at("2026-11-28T00:00:00Z")));
        assert!(window.covers(at("2026-11-28T23:59:59Z")));
        assert!(!window.covers(at("2026-11-29T00:00:00Z")));
    }

    #[test]
    fn what_is_none_is_named() {
        let parse = |day: &str, from: &str| Window::parse(&[day.to_owned()], from, "06:00");
        assert!(
            parse("someday", "22:00")
                .expect_err("no day")
                .contains("someday")
        );
        for bad in ["22", "25:00", "2:00", "22:60", "+2:00", "é:00"] {
            assert!(parse("mon", bad).is_err(), "{bad}");
        }
        assert!(Window::parse(&[], "22:00", "06:00").is_err());
    }
}
