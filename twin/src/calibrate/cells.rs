//! The unit of the fit: tasks that share a demand.

use std::collections::BTreeMap;

use serde::Serialize;

use super::CalibrateError;
use crate::recording::{Recording, Task};

/// How the tasks of a request follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "tasks")]
pub enum Shape {
    /// One after the other.
    Chain(usize),
    /// All at once.
    Parallel(usize),
}

impl Shape {
    /// Number of tasks of a request.
    #[must_use]
    pub fn tasks(self) -> usize {
        match self {
            Self::Chain(n) | Self::Parallel(n) => n,
        }
    }

    /// Number of distinct demands: one for each place in a chain, one for all parallel branches.
    #[must_use]
    pub fn demands(self) -> usize {
        match self {
            Self::Chain(n) => n,
            Self::Parallel(_) => 1,
        }
    }

    /// The demand of task `task` of a request.
    fn demand(self, task: usize) -> usize {
        match self {
            Self::Chain(_) => task,
            Self::Parallel(_) => 0,
        }
    }
}

/// The shape of each variant in `recording`: a chain if no task of any request starts before the
/// one before it has ended, else parallel branches.
///
/// # Errors
///
/// If two requests of a variant differ in their number of tasks.
pub fn shapes(recording: &Recording) -> Result<BTreeMap<String, Shape>, CalibrateError> {
    let mut requests: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
    for task in &recording.tasks {
        requests.entry(task.request).or_default().push(task);
    }
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    for (&request, tasks) in &mut requests {
        tasks.sort_by_key(|t| t.task);
        let count = tasks.len();
        let numbered = tasks.iter().enumerate().all(|(i, t)| t.task as usize == i);
        let chained = tasks
            .windows(2)
            .all(|w| w[1].started_interval >= w[0].finished_interval);
        let found = if chained {
            Shape::Chain(count)
        } else {
            Shape::Parallel(count)
        };
        let variant = &tasks[0].variant;
        match shapes.get_mut(variant) {
            _ if !numbered => {
                return Err(CalibrateError::Tasks {
                    request,
                    variant: variant.clone(),
                    count,
                });
            }
            None => {
                shapes.insert(variant.clone(), found);
            }
            Some(shape) if shape.tasks() != count => {
                return Err(CalibrateError::Tasks {
                    request,
                    variant: variant.clone(),
                    count,
                });
            }
            Some(shape) if !chained => *shape = found,
            Some(_) => {}
        }
    }
    Ok(shapes)
}

/// Tasks of an application and a variant at one place of the chain (0 for parallel branches).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cell {
    /// Name of the application.
    pub application: String,
    /// Name of the variant.
    pub variant: String,
    /// Place in the chain.
    pub place: usize,
}

impl Cell {
    /// Whether `other` is of the same variant of the same application.
    #[must_use]
    pub fn same_variant(&self, other: &Self) -> bool {
        self.application == other.application && self.variant == other.variant
    }
}

/// The cells of `recording`, in order.
#[must_use]
pub fn cells(recording: &Recording, shapes: &BTreeMap<String, Shape>) -> Vec<Cell> {
    let mut list: Vec<Cell> = recording.tasks.iter().map(|t| cell_of(t, shapes)).collect();
    list.sort();
    list.dedup();
    list
}

fn cell_of(task: &Task, shapes: &BTreeMap<String, Shape>) -> Cell {
    Cell {
        application: task.application.clone(),
        variant: task.variant.clone(),
        place: shapes
            .get(&task.variant)
            .map_or(0, |s| s.demand(task.task as usize)),
    }
}

/// A task as the fit sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    /// Position of its cell.
    pub cell: usize,
    /// The host that ran it.
    pub host: u32,
    /// Interval in which it started.
    pub started: u32,
    /// Interval in which it ended, less the one in which it started.
    pub length: u32,
}

/// The tasks whose start `takes` accepts, sorted by host and start.
#[must_use]
pub fn jobs(
    recording: &Recording,
    shapes: &BTreeMap<String, Shape>,
    cells: &[Cell],
    takes: impl Fn(u32) -> bool,
) -> Vec<Job> {
    let mut list: Vec<Job> = recording
        .tasks
        .iter()
        .filter(|t| takes(t.started_interval))
        .filter_map(|t| {
            let cell = cells.binary_search(&cell_of(t, shapes)).ok()?;
            let length = t.finished_interval - t.started_interval;
            Some(Job {
                cell,
                host: t.host,
                started: t.started_interval,
                length,
            })
        })
        .collect();
    list.sort_by_key(|j| (j.host, j.started, j.cell, j.length));
    list
}
