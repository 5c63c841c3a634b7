//! Recordings of a real cluster: what became of each task, and what each host showed.
//!
//! Two CSV files, both in whole intervals of a length that the reader of the recording knows:
//!
//! - tasks: `request,task,application,variant,host,created_interval,started_interval,`
//!   `finished_interval`, one row a fragment of a request;
//! - hosts: `interval,host,enabled,running_tasks,cpu_percent,power_w,ram_used_percent`, one row an
//!   interval and host.

use std::path::Path;
use std::str::FromStr;

use csv::StringRecord;
use thiserror::Error;

use crate::world::MAX_HOSTS;

/// The header of a file of tasks.
pub const TASKS_HEADER: [&str; 8] = [
    "request",
    "task",
    "application",
    "variant",
    "host",
    "created_interval",
    "started_interval",
    "finished_interval",
];

/// The header of a file of hosts.
pub const HOSTS_HEADER: [&str; 7] = [
    "interval",
    "host",
    "enabled",
    "running_tasks",
    "cpu_percent",
    "power_w",
    "ram_used_percent",
];

/// The most intervals that a recording may span.
pub const MAX_INTERVALS: u32 = 10_000_000;

/// A recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Tasks in the order of the file.
    pub tasks: Vec<Task>,
    /// Samples of hosts in the order of the file.
    pub hosts: Vec<HostSample>,
}

/// A fragment of a request; `started_interval` is between the other two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The request.
    pub request: u32,
    /// Position within the request.
    pub task: u32,
    /// Name of the application.
    pub application: String,
    /// Name of the variant.
    pub variant: String,
    /// The host that ran it.
    pub host: u32,
    /// Interval in which the request arrived.
    pub created_interval: u32,
    /// Interval in which the task started.
    pub started_interval: u32,
    /// Interval in which the task ended.
    pub finished_interval: u32,
}

/// What a host showed in an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostSample {
    /// The interval.
    pub interval: u32,
    /// The host.
    pub host: u32,
    /// Whether new tasks could be placed on it.
    pub enabled: bool,
    /// Tasks on it at any time in the interval.
    pub running_tasks: u32,
    /// CPU use, in percent of all its virtual CPUs.
    pub cpu_percent: f64,
    /// Power, in W.
    pub power_w: f64,
    /// Memory in use, in percent.
    pub ram_used_percent: f64,
}

/// Why a recording could not be read.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// A file could not be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// A line is wrong.
    #[error("{origin}:{line}: {problem}")]
    Line {
        /// The file.
        origin: String,
        /// The line, from 1.
        line: u64,
        /// The column, what is wrong and what would be right.
        problem: String,
    },
    /// There is nothing to read.
    #[error("{origin}: no rows; the file needs at least one line after the header")]
    Empty {
        /// The file.
        origin: String,
    },
}

impl Recording {
    /// The recording of the SciNet testbed that is part of the program: 16 VMs, 700 intervals of
    /// 5 s.
    ///
    /// # Errors
    ///
    /// Never, unless the program was built from a damaged file.
    pub fn embedded() -> Result<Self, RecordingError> {
        Self::parse(
            (
                include_str!("../worlds/scinet-testbed.tasks.csv"),
                "scinet-testbed.tasks.csv",
            ),
            (
                include_str!("../worlds/scinet-testbed.hosts.csv"),
                "scinet-testbed.hosts.csv",
            ),
        )
    }

    /// The recording in two files.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or a line of it is wrong.
    pub fn load(tasks: &Path, hosts: &Path) -> Result<Self, RecordingError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| RecordingError::Read {
                path: path.display().to_string(),
                source,
            })
        };
        let (tasks_text, hosts_text) = (read(tasks)?, read(hosts)?);
        Self::parse(
            (&tasks_text, &tasks.display().to_string()),
            (&hosts_text, &hosts.display().to_string()),
        )
    }

    /// The recording in two texts, each with the name that errors give it.
    ///
    /// # Errors
    ///
    /// If a line is wrong or a text has no rows.
    pub fn parse(tasks: (&str, &str), hosts: (&str, &str)) -> Result<Self, RecordingError> {
        Ok(Self {
            tasks: rows(tasks, &TASKS_HEADER, task)?,
            hosts: rows(hosts, &HOSTS_HEADER, host_sample)?,
        })
    }
}

/// The rows of `text`, each made by `make`.
fn rows<T>(
    (text, origin): (&str, &str),
    header: &[&'static str],
    make: fn(&Row<'_>) -> Result<T, String>,
) -> Result<Vec<T>, RecordingError> {
    let fail = |line, problem| RecordingError::Line {
        origin: origin.into(),
        line,
        problem,
    };
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let found = reader.headers().map_err(|e| fail(1, e.to_string()))?;
    if found.iter().ne(header.iter().copied()) {
        let found = found.iter().collect::<Vec<_>>().join(",");
        return Err(fail(
            1,
            format!("the header must be {}, found {found}", header.join(",")),
        ));
    }
    let mut list = Vec::new();
    let mut record = StringRecord::new();
    loop {
        let more = reader
            .read_record(&mut record)
            .map_err(|e| fail(e.position().map_or(0, csv::Position::line), e.to_string()))?;
        if !more {
            break;
        }
        let line = record.position().map_or(0, csv::Position::line);
        let row = Row {
            header,
            record: &record,
        };
        list.push(make(&row).map_err(|problem| fail(line, problem))?);
    }
    if list.is_empty() {
        return Err(RecordingError::Empty {
            origin: origin.into(),
        });
    }
    Ok(list)
}

/// A line with as many fields as the header, which the CSV reader sees to.
struct Row<'a> {
    header: &'a [&'static str],
    record: &'a StringRecord,
}

impl Row<'_> {
    fn problem(&self, column: usize, expected: &str) -> String {
        format!(
            "{}: expected {expected}, found \"{}\"",
            self.header[column], &self.record[column]
        )
    }

    fn parsed<T: FromStr>(&self, column: usize, expected: &str) -> Result<T, String> {
        self.record[column]
            .parse()
            .map_err(|_| self.problem(column, expected))
    }

    fn below(&self, column: usize, most: u32) -> Result<u32, String> {
        let expected = format!("a whole number from 0 to {}", most - 1);
        let value: u32 = self.parsed(column, &expected)?;
        if value < most {
            Ok(value)
        } else {
            Err(self.problem(column, &expected))
        }
    }

    fn host(&self, column: usize) -> Result<u32, String> {
        self.below(column, u32::try_from(MAX_HOSTS).unwrap_or(u32::MAX))
    }

    fn between(&self, column: usize, least: f64, most: f64) -> Result<f64, String> {
        let expected = format!("a number from {least} to {most}");
        let value: f64 = self.parsed(column, &expected)?;
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(self.problem(column, &expected))
        }
    }

    fn name(&self, column: usize) -> Result<String, String> {
        if self.record[column].is_empty() {
            return Err(self.problem(column, "a name"));
        }
        Ok(self.record[column].into())
    }
}

fn task(row: &Row<'_>) -> Result<Task, String> {
    let task = Task {
        request: row.parsed(0, "a whole number")?,
        task: row.parsed(1, "a whole number")?,
        application: row.name(2)?,
        variant: row.name(3)?,
        host: row.host(4)?,
        created_interval: row.below(5, MAX_INTERVALS)?,
        started_interval: row.below(6, MAX_INTERVALS)?,
        finished_interval: row.below(7, MAX_INTERVALS)?,
    };
    if task.started_interval < task.created_interval {
        return Err(row.problem(6, "an interval not before created_interval"));
    }
    if task.finished_interval < task.started_interval {
        return Err(row.problem(7, "an interval not before started_interval"));
    }
    Ok(task)
}

fn host_sample(row: &Row<'_>) -> Result<HostSample, String> {
    Ok(HostSample {
        interval: row.below(0, MAX_INTERVALS)?,
        host: row.host(1)?,
        enabled: row.below(2, 2)? == 1,
        running_tasks: row.parsed(3, "a whole number")?,
        cpu_percent: row.between(4, 0.0, 100.0)?,
        power_w: row.between(5, 0.0, 1e6)?,
        ram_used_percent: row.between(6, 0.0, 100.0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASKS: &str = "request,task,application,variant,host,created_interval,\
                         started_interval,finished_interval\n0,0,night,compression,8,0,2,4\n";
    const HOSTS: &str = "interval,host,enabled,running_tasks,cpu_percent,power_w,\
                         ram_used_percent\n1,0,1,0,0.5,75.2,17.8\n";

    fn problem(tasks: &str, hosts: &str) -> String {
        Recording::parse((tasks, "tasks.csv"), (hosts, "hosts.csv"))
            .expect_err("the text is wrong")
            .to_string()
    }

    #[test]
    fn rows_are_read() {
        let recording =
            Recording::parse((TASKS, "tasks.csv"), (HOSTS, "hosts.csv")).expect("two right rows");
        assert_eq!(recording.tasks[0].application, "night");
        assert_eq!(recording.tasks[0].finished_interval, 4);
        assert!(recording.hosts[0].enabled);
        assert!((recording.hosts[0].power_w - 75.2).abs() < 1e-12);
    }

    #[test]
    fn the_embedded_recording_is_whole() {
        let recording = Recording::embedded().expect("the embedded files are right");
        assert_eq!(recording.tasks.len(), 1882);
        assert_eq!(recording.hosts.len(), 16 * 700);
    }

    #[test]
    fn errors_name_file_line_and_column() {
        assert_eq!(
            problem(&TASKS.replace(",2,4", ",2,1"), HOSTS),
            "tasks.csv:2: finished_interval: expected an interval not before started_interval, \
             found \"1\""
        );
        assert_eq!(
            problem(TASKS, &HOSTS.replace("0.5", "NaN")),
            "hosts.csv:2: cpu_percent: expected a number from 0 to 100, found \"NaN\""
        );
        assert_eq!(
            problem(&TASKS.replace("variant", "choice"), HOSTS),
            "tasks.csv:1: the header must be request,task,application,variant,host,\
             created_interval,started_interval,finished_interval, found request,task,application,\
             choice,host,created_interval,started_interval,finished_interval"
        );
        let header = HOSTS.lines().next().expect("a header");
        assert_eq!(
            problem(TASKS, header),
            "hosts.csv: no rows; the file needs at least one line after the header"
        );
    }
}
