//! What a replay is given: arrivals, decisions and enable flags of a recording.
//!
//! A decision is recorded by the interval in which it took effect. A fragment without predecessor
//! starts in its recorded interval. The next fragment of a chain starts as many intervals after
//! the end of the one before as recorded, since that many decisions named a host that was not
//! enabled; when the one before ends is the twin's to say.

use std::collections::BTreeMap;

use super::TestbedError;
use super::model::Model;
use crate::calibrate::cells::{self, Cell, Shape};
use crate::recording::{Recording, Task};

/// A recording as decisions.
pub(crate) struct Script {
    /// Intervals that are replayed: first, and first after them.
    pub(crate) span: (u32, u32),
    /// Number of hosts.
    pub(crate) hosts: usize,
    /// Fragments, those of a request together and in order.
    pub(crate) fragments: Vec<Fragment>,
    /// Requests.
    pub(crate) requests: Vec<Request>,
    /// Whether a host was enabled, by interval of the span and host.
    pub(crate) enabled: Vec<bool>,
}

/// A fragment and what was recorded of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Position of its demand in the model.
    pub(crate) demand: usize,
    /// Position of its application in the model.
    pub(crate) application: usize,
    /// The host.
    pub(crate) host: usize,
    /// When it starts.
    pub(crate) start: Start,
    /// Recorded interval of the start.
    pub(crate) started: u32,
    /// Recorded interval of the end.
    pub(crate) finished: u32,
}

/// When a fragment starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// In this interval.
    At(u32),
    /// So many intervals after the end of the fragment before it.
    After(u32),
}

/// A request and what was recorded of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Name of the application.
    pub(crate) application: String,
    /// Name of the variant.
    pub(crate) variant: String,
    /// Interval of the arrival.
    pub(crate) created: u32,
    /// Position of its first fragment.
    pub(crate) first: usize,
    /// Number of its fragments.
    pub(crate) count: usize,
}

impl Request {
    /// Positions of its fragments.
    pub(crate) fn fragments(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.count
    }

    /// Intervals from the arrival to the end of the last fragment, where `finished` says when
    /// each fragment ends.
    pub(crate) fn response(&self, finished: impl Fn(usize) -> u32) -> u32 {
        let end = self.fragments().map(finished).max().unwrap_or(self.created);
        end.saturating_sub(self.created)
    }
}

impl Script {
    /// The script of `recording` for replays of the intervals `span` by `model`.
    ///
    /// # Errors
    ///
    /// If the recording has something that the model has not.
    pub(crate) fn new(
        recording: &Recording,
        model: &Model,
        span: (u32, u32),
    ) -> Result<Self, TestbedError> {
        let shapes = cells::shapes(recording)?;
        let mut by_request: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
        for task in &recording.tasks {
            by_request.entry(task.request).or_default().push(task);
        }
        let (mut fragments, mut requests) = (Vec::new(), Vec::new());
        for tasks in by_request.values_mut() {
            tasks.sort_by_key(|t| t.task);
            let head = tasks[0];
            if !(span.0..span.1).contains(&head.created_interval) {
                continue;
            }
            requests.push(Request {
                application: head.application.clone(),
                variant: head.variant.clone(),
                created: head.created_interval,
                first: fragments.len(),
                count: tasks.len(),
            });
            let shape = shapes.get(&head.variant).copied();
            for (i, task) in tasks.iter().enumerate() {
                let before = i.checked_sub(1).map(|p| tasks[p]);
                fragments.push(fragment(task, before, shape, model)?);
            }
        }
        Ok(Self {
            span,
            hosts: model.hosts.len(),
            fragments,
            requests,
            enabled: enabled(recording, span, model.hosts.len()),
        })
    }
}

fn fragment(
    task: &Task,
    before: Option<&Task>,
    shape: Option<Shape>,
    model: &Model,
) -> Result<Fragment, TestbedError> {
    let (place, start) = match (shape, before) {
        (Some(Shape::Chain(_)), Some(before)) => (
            task.task as usize,
            Start::After(
                task.started_interval
                    .saturating_sub(before.finished_interval)
                    .max(1),
            ),
        ),
        _ => (0, Start::At(task.started_interval)),
    };
    let cell = Cell {
        application: task.application.clone(),
        variant: task.variant.clone(),
        place,
    };
    let unknown = |what: String| TestbedError::NotCalibrated {
        request: task.request,
        task: task.task,
        what,
    };
    let host = task.host as usize;
    if host >= model.hosts.len() {
        return Err(unknown(format!("host {host}")));
    }
    Ok(Fragment {
        demand: model.demand(&cell).ok_or_else(|| {
            unknown(format!(
                "fragment {place} of \"{}\" \"{}\"",
                cell.application, cell.variant
            ))
        })?,
        application: model
            .application(&task.application)
            .ok_or_else(|| unknown(format!("application \"{}\"", task.application)))?,
        host,
        start,
        started: task.started_interval,
        finished: task.finished_interval,
    })
}

/// Enable flags by interval of `span` and host; what was not recorded counts as disabled.
fn enabled(recording: &Recording, span: (u32, u32), hosts: usize) -> Vec<bool> {
    let mut flags = vec![false; (span.1 - span.0) as usize * hosts];
    for sample in &recording.hosts {
        let host = sample.host as usize;
        if (span.0..span.1).contains(&sample.interval) && host < hosts {
            flags[(sample.interval - span.0) as usize * hosts + host] = sample.enabled;
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_ends_with_the_last_fragment() {
        let request = Request {
            application: "a".into(),
            variant: "v".into(),
            created: 3,
            first: 1,
            count: 2,
        };
        // Fragments 1 and 2 end in intervals 9 and 7; 9 - 3 = 6.
        assert_eq!(request.response(|f| [0, 9, 7][f]), 6);
    }
}
