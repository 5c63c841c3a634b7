//! Long-running containers with a recorded CPU demand: the form of traces in the OpenDC simulator.
//!
//! The original is two Parquet tables: tasks (id, submission, duration, cores, capacity, memory) and
//! fragments (id, duration, CPU use), the fragments of a task one after the other.
//! The copy keeps what they say, in columns with units: times count from the first submission, the
//! fragments of a job stand together in the order of the jobs, and fragments of equal use that
//! follow each other are one.
//!
//! Left out: that fragments of equal use were several.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::table::{Columns, Frame, ParquetError, ParquetRow, read_bytes};

/// The first line of the plain file of jobs.
pub const JOBS_HEADER: &str = "job,start_ms,duration_ms,reserved_mhz";
/// The first line of the plain file of demand.
pub const DEMAND_HEADER: &str = "job,duration_ms,cpu_mhz";

/// A container.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its number in the original.
    pub job: u32,
    /// When it starts, in ms since the first.
    pub start_ms: u64,
    /// How long it runs, in ms.
    pub duration_ms: u64,
    /// Its cores.
    pub cores: u32,
    /// Speed of all its cores, in MHz.
    pub capacity_mhz: f64,
    /// Its memory, in units of 1,000 bytes.
    pub memory_kb: u64,
}

/// A step of the demand of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// The container.
    pub job: u32,
    /// How long the step lasts, in ms.
    pub duration_ms: u64,
    /// CPU use, in MHz.
    pub cpu_mhz: f64,
}

/// Containers and their demand.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// The containers.
    pub jobs: Vec<Job>,
    /// The steps of each, in the order of the containers.
    pub demand: Vec<Step>,
}

/// Reads the original tables.
///
/// # Errors
///
/// If a table cannot be read, a value is not what it should be, or the fragments of a task do not
/// last as long as the task.
pub fn read_original(tasks: &Path, fragments: &Path) -> Result<Trace, ParquetError> {
    let mut jobs = read_tasks(tasks)?;
    let frame = decode(fragments)?;
    let job = frame.i32("id")?;
    let duration_ms = frame.i64("duration")?;
    let cpu_mhz = frame.quantity("cpu_usage")?;
    let mut steps: BTreeMap<u32, Vec<Step>> =
        jobs.iter().map(|job| (job.job, Vec::new())).collect();
    for row in 0..frame.height() {
        let id = whole(&frame, "id", row, i64::from(job[row]))?;
        let unknown = || frame.unexpected("id", row, "the id of a task", &id.to_string());
        let list = u32::try_from(id).ok().and_then(|id| steps.get_mut(&id));
        let list = list.ok_or_else(unknown)?;
        let span_ms = whole(&frame, "duration", row, duration_ms[row])?;
        match list.last_mut() {
            Some(last) if last.cpu_mhz.total_cmp(&cpu_mhz[row]).is_eq() => {
                last.duration_ms += span_ms;
            }
            _ => list.push(Step {
                job: u32::try_from(id).unwrap_or_default(),
                duration_ms: span_ms,
                cpu_mhz: cpu_mhz[row],
            }),
        }
    }
    let mut demand = Vec::new();
    for (row, job) in jobs.iter().enumerate() {
        let list = steps.remove(&job.job).unwrap_or_default();
        let lasting: u64 = list.iter().map(|step| step.duration_ms).sum();
        if lasting != job.duration_ms {
            let expected = format!("{lasting} ms, which its fragments last");
            let found = job.duration_ms.to_string();
            return Err(decode(tasks)?.unexpected("duration", row, &expected, &found));
        }
        demand.extend(list);
    }
    let first_ms = jobs.iter().map(|job| job.start_ms).min().unwrap_or(0);
    for job in &mut jobs {
        job.start_ms -= first_ms;
    }
    Ok(Trace { jobs, demand })
}

fn decode(path: &Path) -> Result<Frame, ParquetError> {
    let bytes = read_bytes(path).map_err(|source| ParquetError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    Frame::decode(path, bytes)
}

/// The tasks, with starts as they stand.
fn read_tasks(path: &Path) -> Result<Vec<Job>, ParquetError> {
    let frame = decode(path)?;
    let job = frame.i32("id")?;
    let start_ms = frame.i64("submission_time")?;
    let duration_ms = frame.i64("duration")?;
    let cores = frame.i32("cpu_count")?;
    let capacity_mhz = frame.quantity("cpu_capacity")?;
    let memory_kb = frame.i64("mem_capacity")?;
    let small = |column: &str, row: usize, value: i32| {
        u32::try_from(value)
            .map_err(|_| frame.unexpected(column, row, "at least 0", &value.to_string()))
    };
    (0..frame.height())
        .map(|row| {
            Ok(Job {
                job: small("id", row, job[row])?,
                start_ms: whole(&frame, "submission_time", row, start_ms[row])?,
                duration_ms: whole(&frame, "duration", row, duration_ms[row])?,
                cores: small("cpu_count", row, cores[row])?,
                capacity_mhz: capacity_mhz[row],
                memory_kb: whole(&frame, "mem_capacity", row, memory_kb[row])?,
            })
        })
        .collect()
}

fn whole(frame: &Frame, column: &str, row: usize, value: i64) -> Result<u64, ParquetError> {
    u64::try_from(value)
        .map_err(|_| frame.unexpected(column, row, "at least 0", &value.to_string()))
}

impl ParquetRow for Job {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .u32("job", rows.iter().map(|row| row.job))
            .u64("start_ms", rows.iter().map(|row| row.start_ms))
            .u64("duration_ms", rows.iter().map(|row| row.duration_ms))
            .u32("cores", rows.iter().map(|row| row.cores))
            .f64("capacity_mhz", rows.iter().map(|row| row.capacity_mhz))
            .u64("memory_kb", rows.iter().map(|row| row.memory_kb))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let job = frame.u32("job")?;
        let start_ms = frame.u64("start_ms")?;
        let duration_ms = frame.u64("duration_ms")?;
        let cores = frame.u32("cores")?;
        let capacity_mhz = frame.quantity("capacity_mhz")?;
        let memory_kb = frame.u64("memory_kb")?;
        let rows = (0..frame.height()).map(|row| Self {
            job: job[row],
            start_ms: start_ms[row],
            duration_ms: duration_ms[row],
            cores: cores[row],
            capacity_mhz: capacity_mhz[row],
            memory_kb: memory_kb[row],
        });
        Ok(rows.collect())
    }
}

impl ParquetRow for Step {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .u32("job", rows.iter().map(|row| row.job))
            .u64("duration_ms", rows.iter().map(|row| row.duration_ms))
            .f64("cpu_mhz", rows.iter().map(|row| row.cpu_mhz))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let job = frame.u32("job")?;
        let duration_ms = frame.u64("duration_ms")?;
        let cpu_mhz = frame.quantity("cpu_mhz")?;
        let rows = (0..frame.height()).map(|row| Self {
            job: job[row],
            duration_ms: duration_ms[row],
            cpu_mhz: cpu_mhz[row],
        });
        Ok(rows.collect())
    }
}

/// The plain file of jobs; numbers have as many digits as they need to be read back exactly.
#[must_use]
pub fn jobs_to_csv(jobs: &[Job]) -> String {
    let mut csv = format!("{JOBS_HEADER}\n");
    for job in jobs {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(
            csv,
            "{},{},{},{}",
            job.job, job.start_ms, job.duration_ms, job.capacity_mhz
        );
    }
    csv
}

/// The plain file of demand.
#[must_use]
pub fn demand_to_csv(demand: &[Step]) -> String {
    let mut csv = format!("{DEMAND_HEADER}\n");
    for step in demand {
        let _ = writeln!(csv, "{},{},{}", step.job, step.duration_ms, step.cpu_mhz);
    }
    csv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_files_keep_every_digit() {
        let job = Job {
            job: 1019,
            start_ms: 0,
            duration_ms: 600_000,
            cores: 1,
            capacity_mhz: 2_926.000_135,
            memory_kb: 181_352,
        };
        assert_eq!(
            jobs_to_csv(&[job]),
            format!("{JOBS_HEADER}\n1019,0,600000,2926.000135\n")
        );
        let step = Step {
            job: 1019,
            duration_ms: 300_000,
            cpu_mhz: 11.703_998_24,
        };
        assert_eq!(
            demand_to_csv(&[step]),
            format!("{DEMAND_HEADER}\n1019,300000,11.70399824\n")
        );
    }
}
