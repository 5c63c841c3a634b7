//! Metrics of VMs from Azure Monitor.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

/// Share of the virtual CPUs that is used, in percent.
pub const PERCENTAGE_CPU: &str = "Percentage CPU";
/// CPU credits left of a burstable VM.
pub const CREDITS_REMAINING: &str = "CPU Credits Remaining";
/// Memory that is free, in bytes.
pub const AVAILABLE_MEMORY: &str = "Available Memory Bytes";

/// A measured value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The average over the minute that begins at `at`.
    pub value: f64,
    /// When that minute begins.
    pub at: Timestamp,
}

#[derive(Debug, Deserialize)]
pub(super) struct MetricsBody {
    #[serde(default)]
    value: Vec<Metric>,
}

#[derive(Debug, Deserialize)]
struct Metric {
    name: Name,
    #[serde(default)]
    timeseries: Vec<Series>,
}

#[derive(Debug, Deserialize)]
struct Name {
    value: String,
}

#[derive(Debug, Deserialize)]
struct Series {
    #[serde(default)]
    data: Vec<Point>,
}

#[derive(Debug, Deserialize)]
struct Point {
    #[serde(rename = "timeStamp")]
    time_stamp: String,
    #[serde(default)]
    average: Option<f64>,
}

impl MetricsBody {
    /// The newest average of each metric. Minutes that have no value yet are passed over.
    pub(super) fn newest(self) -> BTreeMap<String, Measured> {
        let mut newest: BTreeMap<String, Measured> = BTreeMap::new();
        for metric in self.value {
            let points = metric.timeseries.into_iter().flat_map(|s| s.data);
            for point in points {
                let (Some(value), Ok(at)) = (point.average, point.time_stamp.parse::<Timestamp>())
                else {
                    continue;
                };
                let known = newest.get(&metric.name.value);
                if value.is_finite() && known.is_none_or(|k| k.at < at) {
                    newest.insert(metric.name.value.clone(), Measured { value, at });
                }
            }
        }
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_minute_with_a_value_counts() {
        let body: MetricsBody = serde_json::from_str(
            r#"{"cost": 1, "value": [
                {"name": {"value": "Percentage CPU"}, "timeseries": [{"data": [
                    {"timeStamp": "2026-11-01T10:00:00Z", "average": 40.0},
                    {"timeStamp": "2026-11-01T10:01:00Z", "average": 60.0},
                    {"timeStamp": "2026-11-01T10:02:00Z"}]}]},
                {"name": {"value": "CPU Credits Remaining"}, "timeseries": []}]}"#,
        )
        .expect("metrics");
        let newest = body.newest();
        assert_eq!(newest.len(), 1);
        let cpu = newest[PERCENTAGE_CPU];
        assert!((cpu.value - 60.0).abs() < 1e-12);
        assert_eq!(cpu.at.to_string(), "2026-11-01T10:01:00Z");
    }
}
