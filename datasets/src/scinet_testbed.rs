//! A recorded run of the SciNet testbed: 16 Azure VMs under random decisions.
//!
//! Two tables, both in intervals of 5 s: what became of each task (fragment of a request), and what
//! each host showed.
//! Hosts 0 to 7 are of size B2s and 8 to 15 of size B2ms.
//! Source: the public repository of SciNet (`decider/src/datasets/random_stats.pk`), turned into CSV.
//!
//! Left out: transfers and per-task CPU use, which the recording does not hold.

use std::fmt;

use crate::table::{Columns, CsvRow, Fields, Frame, ParquetError, ParquetRow, ReadError};

/// Seconds per interval of the recording.
pub const INTERVAL_S: f64 = 5.0;

/// How the model of a request was deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// Split by layers: a chain of two fragments.
    Layer,
    /// Split by classes: four fragments in parallel.
    Semantic,
    /// Compressed: one small fragment.
    Compression,
}

impl Variant {
    /// The name in files: `layer`, `semantic` or `compression`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Layer => "layer",
            Self::Semantic => "semantic",
            Self::Compression => "compression",
        }
    }

    /// The variant of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Layer, Self::Semantic, Self::Compression]
            .into_iter()
            .find(|variant| variant.name() == name)
    }

    /// Tasks that a request of this variant has.
    #[must_use]
    pub fn tasks(self) -> u32 {
        match self {
            Self::Layer => 2,
            Self::Semantic => 4,
            Self::Compression => 1,
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One task: a fragment of a request on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The request, from 0, in the order of creation.
    pub request: u32,
    /// The fragment within the request, from 0.
    pub task: u32,
    /// The application, such as `blur`.
    pub application: String,
    /// How the application was deployed.
    pub variant: Variant,
    /// The host that ran it, from 0.
    pub host: u32,
    /// The interval at whose start the request arrived.
    pub created_interval: u32,
    /// The interval in which the task started.
    pub started_interval: u32,
    /// The interval in which the task was seen to be finished.
    pub finished_interval: u32,
}

/// What one host showed in one interval.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSample {
    /// The interval, from 1.
    pub interval: u32,
    /// The host, from 0.
    pub host: u32,
    /// Whether decisions could use the host.
    pub enabled: bool,
    /// Tasks on the host.
    pub running_tasks: u32,
    /// 0.8 · `cpu_percent` + 0.2 · the value of the interval before, in percent.
    pub cpu_percent_smoothed: f64,
    /// CPU use in one second of the interval, in percent of the host.
    pub cpu_percent: f64,
    /// Measured capacity, in million instructions per second.
    pub ips_cap_mips: f64,
    /// Power from the curve of the VM size at the smoothed use, in watts; 0 when disabled.
    pub power_w: f64,
    /// RAM in use, in percent.
    pub ram_used_percent: f64,
    /// Disk in use, in MiB.
    pub disk_used_mib: f64,
}

impl CsvRow for Task {
    const COLUMNS: &'static [&'static str] = &[
        "request",
        "task",
        "application",
        "choice",
        "host",
        "created_interval",
        "started_interval",
        "finished_interval",
    ];

    fn from_fields(fields: &Fields<'_>, previous: Option<&Self>) -> Result<Self, ReadError> {
        let task = Self {
            request: fields.u32("request")?,
            task: fields.u32("task")?,
            application: fields.name("application")?,
            variant: Variant::from_name(fields.text("choice")?).ok_or_else(|| {
                fields.unexpected("choice", "`layer`, `semantic` or `compression`")
            })?,
            host: fields.u32("host")?,
            created_interval: fields.u32("created_interval")?,
            started_interval: fields.u32("started_interval")?,
            finished_interval: fields.u32("finished_interval")?,
        };
        let before = previous.map_or(0, |previous| previous.created_interval);
        let problem = if task.task >= task.variant.tasks() {
            Some((
                "task",
                format!(
                    "less than {}, the tasks of its choice",
                    task.variant.tasks()
                ),
            ))
        } else if task.created_interval < before {
            Some((
                "created_interval",
                format!("at least {before}, as in the record above"),
            ))
        } else {
            task.backwards()
                .map(|(column, least)| (column, format!("at least {least}")))
        };
        match problem {
            Some((column, expected)) => Err(fields.unexpected(column, &expected)),
            None => Ok(task),
        }
    }
}

impl Task {
    /// The interval that lies before the one it must not precede, and that one.
    fn backwards(&self) -> Option<(&'static str, u32)> {
        if self.started_interval < self.created_interval {
            Some(("started_interval", self.created_interval))
        } else if self.finished_interval < self.started_interval {
            Some(("finished_interval", self.started_interval))
        } else {
            None
        }
    }
}

impl CsvRow for HostSample {
    const COLUMNS: &'static [&'static str] = &[
        "interval",
        "host",
        "enabled",
        "running_tasks",
        "cpu_percent_smoothed",
        "cpu_percent",
        "ips_cap_mips",
        "power_w",
        "ram_used_percent",
        "disk_used_mib",
    ];

    fn from_fields(fields: &Fields<'_>, previous: Option<&Self>) -> Result<Self, ReadError> {
        let interval = fields.u32("interval")?;
        let host = fields.u32("host")?;
        if let Some(previous) = previous {
            if interval < previous.interval {
                let expected = format!("at least {}, as in the record above", previous.interval);
                return Err(fields.unexpected("interval", &expected));
            }
            if interval == previous.interval && host <= previous.host {
                let expected = format!("a host after {} in the same interval", previous.host);
                return Err(fields.unexpected("host", &expected));
            }
        }
        Ok(Self {
            interval,
            host,
            enabled: fields.flag("enabled")?,
            running_tasks: fields.u32("running_tasks")?,
            cpu_percent_smoothed: fields.percent("cpu_percent_smoothed")?,
            cpu_percent: fields.percent("cpu_percent")?,
            ips_cap_mips: fields.f64("ips_cap_mips")?,
            power_w: fields.f64("power_w")?,
            ram_used_percent: fields.percent("ram_used_percent")?,
            disk_used_mib: fields.f64("disk_used_mib")?,
        })
    }
}

impl ParquetRow for Task {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .u32("request", rows.iter().map(|row| row.request))
            .u32("task", rows.iter().map(|row| row.task))
            .text(
                "application",
                rows.iter().map(|row| row.application.as_str()),
            )
            .text("variant", rows.iter().map(|row| row.variant.name()))
            .u32("host", rows.iter().map(|row| row.host))
            .u32(
                "created_interval",
                rows.iter().map(|row| row.created_interval),
            )
            .u32(
                "started_interval",
                rows.iter().map(|row| row.started_interval),
            )
            .u32(
                "finished_interval",
                rows.iter().map(|row| row.finished_interval),
            )
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let request = frame.u32("request")?;
        let task = frame.u32("task")?;
        let application = frame.text("application")?;
        let variant = frame.text("variant")?;
        let host = frame.u32("host")?;
        let created_interval = frame.u32("created_interval")?;
        let started_interval = frame.u32("started_interval")?;
        let finished_interval = frame.u32("finished_interval")?;
        (0..frame.height())
            .map(|row| {
                let task = Self {
                    request: request[row],
                    task: task[row],
                    application: application[row].clone(),
                    variant: Variant::from_name(&variant[row]).ok_or_else(|| {
                        let expected = "layer, semantic or compression";
                        frame.unexpected("variant", row, expected, &variant[row])
                    })?,
                    host: host[row],
                    created_interval: created_interval[row],
                    started_interval: started_interval[row],
                    finished_interval: finished_interval[row],
                };
                match task.backwards() {
                    Some((column, least)) => {
                        let expected = format!("at least {least}");
                        Err(frame.unexpected(column, row, &expected, "an earlier interval"))
                    }
                    None => Ok(task),
                }
            })
            .collect()
    }
}

impl ParquetRow for HostSample {
    fn to_columns(rows: &[Self]) -> Columns {
        Columns::new(rows.len())
            .u32("interval", rows.iter().map(|row| row.interval))
            .u32("host", rows.iter().map(|row| row.host))
            .flag("enabled", rows.iter().map(|row| row.enabled))
            .u32("running_tasks", rows.iter().map(|row| row.running_tasks))
            .f64(
                "cpu_percent_smoothed",
                rows.iter().map(|row| row.cpu_percent_smoothed),
            )
            .f64("cpu_percent", rows.iter().map(|row| row.cpu_percent))
            .f64("ips_cap_mips", rows.iter().map(|row| row.ips_cap_mips))
            .f64("power_w", rows.iter().map(|row| row.power_w))
            .f64(
                "ram_used_percent",
                rows.iter().map(|row| row.ram_used_percent),
            )
            .f64("disk_used_mib", rows.iter().map(|row| row.disk_used_mib))
    }

    fn from_frame(frame: &Frame) -> Result<Vec<Self>, ParquetError> {
        let interval = frame.u32("interval")?;
        let host = frame.u32("host")?;
        let enabled = frame.flag("enabled")?;
        let running_tasks = frame.u32("running_tasks")?;
        let cpu_percent_smoothed = frame.quantity("cpu_percent_smoothed")?;
        let cpu_percent = frame.quantity("cpu_percent")?;
        let ips_cap_mips = frame.quantity("ips_cap_mips")?;
        let power_w = frame.quantity("power_w")?;
        let ram_used_percent = frame.quantity("ram_used_percent")?;
        let disk_used_mib = frame.quantity("disk_used_mib")?;
        let rows = (0..frame.height()).map(|row| Self {
            interval: interval[row],
            host: host[row],
            enabled: enabled[row],
            running_tasks: running_tasks[row],
            cpu_percent_smoothed: cpu_percent_smoothed[row],
            cpu_percent: cpu_percent[row],
            ips_cap_mips: ips_cap_mips[row],
            power_w: power_w[row],
            ram_used_percent: ram_used_percent[row],
            disk_used_mib: disk_used_mib[row],
        });
        Ok(rows.collect())
    }
}
