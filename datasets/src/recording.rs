//! The testbed's run as the plain recording from which the twin is calibrated.
//!
//! Two CSV files, both in intervals of [`INTERVAL_S`](crate::scinet_testbed::INTERVAL_S) seconds:
//! what became of each task, and what each host showed.
//! Columns that calibration has no use for (measured capacity, disk, smoothed CPU) are left out.

use std::borrow::Cow;
use std::fmt::Write;

use crate::scinet_testbed::{HostSample, Task};

/// `recording.toml` of the recorded testbed.
pub const MANIFEST: &str = "kind = \"testbed\"\nname = \"scinet-testbed\"\ninterval_s = 5.0\n";

/// The first line of the file of tasks.
pub const TASKS_HEADER: &str =
    "request,task,application,variant,host,created_interval,started_interval,finished_interval";

/// The first line of the file of hosts.
pub const HOSTS_HEADER: &str =
    "interval,host,enabled,running_tasks,cpu_percent,power_w,ram_used_percent";

/// The file of tasks.
#[must_use]
pub fn tasks_to_csv(tasks: &[Task]) -> String {
    let mut csv = format!("{TASKS_HEADER}\n");
    for task in tasks {
        // Writing to a string cannot fail.
        let _ = writeln!(
            csv,
            "{},{},{},{},{},{},{},{}",
            task.request,
            task.task,
            quoted(&task.application),
            task.variant,
            task.host,
            task.created_interval,
            task.started_interval,
            task.finished_interval
        );
    }
    csv
}

/// The file of hosts; numbers are written with as many digits as they need to be read back exactly.
#[must_use]
pub fn hosts_to_csv(samples: &[HostSample]) -> String {
    let mut csv = format!("{HOSTS_HEADER}\n");
    for sample in samples {
        // Writing to a string cannot fail.
        let _ = writeln!(
            csv,
            "{},{},{},{},{},{},{}",
            sample.interval,
            sample.host,
            u8::from(sample.enabled),
            sample.running_tasks,
            sample.cpu_percent,
            sample.power_w,
            sample.ram_used_percent
        );
    }
    csv
}

/// A name as a CSV field: in quotes where it holds a separator.
fn quoted(name: &str) -> Cow<'_, str> {
    if name.contains([',', '"', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scinet_testbed::Variant;

    #[test]
    fn names_with_separators_are_quoted() {
        let task = Task {
            request: 1,
            task: 0,
            application: "blur, \"soft\"".to_owned(),
            variant: Variant::Layer,
            host: 2,
            created_interval: 3,
            started_interval: 4,
            finished_interval: 6,
        };
        let expected = format!("{TASKS_HEADER}\n1,0,\"blur, \"\"soft\"\"\",layer,2,3,4,6\n");
        assert_eq!(tasks_to_csv(&[task]), expected);
    }
}
