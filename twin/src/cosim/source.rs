//! A recording as telemetry: interval by interval, first what the hosts showed, then the tasks
//! that ended.
//!
//! Interval `i` is the span from `i` to `i + 1` lengths. A task that started or ended in an
//! interval is taken to have done so in its middle: means are right if moments are spread evenly.

use std::collections::BTreeMap;

use super::telemetry::{HostRecord, Record, TaskRecord};
use crate::recording::{Recording, Task};

/// The records of `recording`, whose intervals are `interval_s` long.
#[must_use]
pub fn records(recording: &Recording, interval_s: f64) -> Vec<Record> {
    let mut running: BTreeMap<(u32, u32), BTreeMap<String, u32>> = BTreeMap::new();
    let mut finished: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
    for task in &recording.tasks {
        for interval in task.started_interval..=task.finished_interval {
            let tasks = running.entry((interval, task.host)).or_default();
            *tasks.entry(task.application.clone()).or_default() += 1;
        }
        finished
            .entry(task.finished_interval)
            .or_default()
            .push(task);
    }
    let mut samples: BTreeMap<u32, Vec<_>> = BTreeMap::new();
    for sample in &recording.hosts {
        samples.entry(sample.interval).or_default().push(sample);
    }
    let mut records = Vec::with_capacity(recording.hosts.len() + recording.tasks.len());
    let mut intervals: Vec<u32> = samples.keys().chain(finished.keys()).copied().collect();
    intervals.sort_unstable();
    intervals.dedup();
    for interval in intervals {
        for sample in samples.get(&interval).into_iter().flatten() {
            records.push(Record::Host(HostRecord {
                time_s: f64::from(interval + 1) * interval_s,
                span_s: interval_s,
                host: sample.host,
                on: sample.enabled,
                utilization: sample.cpu_percent / 100.0,
                power_w: Some(sample.power_w),
                running: running.remove(&(interval, sample.host)).unwrap_or_default(),
            }));
        }
        for task in finished.get(&interval).into_iter().flatten() {
            records.push(Record::Task(task_record(task, interval_s)));
        }
    }
    records
}

fn task_record(task: &Task, interval_s: f64) -> TaskRecord {
    let middle = |interval| (f64::from(interval) + 0.5) * interval_s;
    TaskRecord {
        application: task.application.clone(),
        variant: task.variant.clone(),
        fragment: task.task,
        host: task.host,
        started_s: middle(task.started_interval),
        finished_s: middle(task.finished_interval),
        context_tokens: 0,
        generated_tokens: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cosim::telemetry;

    #[test]
    fn the_recording_is_telemetry() {
        let recording = Recording::embedded().expect("the recording is embedded");
        let records = records(&recording, 5.0);
        assert_eq!(records.len(), recording.hosts.len() + recording.tasks.len());
        let hosts: Vec<u32> = records
            .iter()
            .filter_map(|r| match r {
                Record::Host(h) => Some(h.tasks()),
                Record::Task(_) => None,
            })
            .collect();
        let same = hosts
            .iter()
            .zip(&recording.hosts)
            .filter(|(found, sample)| **found == sample.running_tasks)
            .count();
        assert_eq!(same, hosts.len(), "tasks and hosts tell the same counts");
        let text: String = records[..200].iter().map(|r| r.to_line() + "\n").collect();
        let again = telemetry::parse(&text, "t").expect("what is written can be read");
        assert_eq!(again, records[..200]);
    }
}
