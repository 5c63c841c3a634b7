//! What the recorded CPU use says about tasks: how many virtual CPUs they keep busy.
//!
//! A sample of a host is modeled as a constant plus, for each task on it, the task's CPU time
//! spread evenly over the intervals that it touches; the CPU time of each application is found by
//! ordinary least squares. Standard errors are White's, for residuals of unequal variance
//! ("A heteroskedasticity-consistent covariance matrix estimator", Econometrica 48(4), 1980).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::recording::{HostSample, Recording};

/// CPU use above which a host is taken to compute, in percent of all its virtual CPUs.
const COMPUTING_PERCENT: f64 = 5.0;

/// Recorded CPU use, and what it says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CpuUse {
    /// CPU use by number of tasks on the host.
    pub by_running_tasks: Vec<ByRunningTasks>,
    /// CPU time of tasks by application.
    pub applications: Vec<CpuTime>,
    /// Virtual CPUs in use on a host without tasks, as the regression finds them.
    pub background_vcpus: f64,
    /// Mean CPU use of all hosts, in percent.
    pub recorded_mean_percent: f64,
    /// The same if each task keeps the cap busy for as long as the fit says, in percent.
    pub modeled_mean_percent: f64,
}

/// CPU use of hosts with a number of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ByRunningTasks {
    /// The number.
    pub running_tasks: u32,
    /// Samples.
    pub samples: usize,
    /// Mean, in percent.
    pub mean_percent: f64,
    /// Share of samples above 5 %.
    pub computing_ratio: f64,
    /// Mean of these, in virtual CPUs.
    pub computing_vcpus: f64,
}

/// CPU time of the tasks of an application.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CpuTime {
    /// Name of the application.
    pub application: String,
    /// CPU time of a task, in vCPU-seconds.
    pub vcpu_s: f64,
    /// Its standard error.
    pub standard_error_vcpu_s: f64,
    /// CPU time over the mean recorded duration: virtual CPUs in use while a task is there.
    pub vcpus_while_there: f64,
}

/// CPU use in the intervals `window` of `recording`, on hosts of `vcpus` virtual CPUs.
/// `modeled_vcpu_s` is the CPU time of all tasks by the fit.
#[must_use]
pub fn cpu_use(
    recording: &Recording,
    window: (u32, u32),
    vcpus: f64,
    interval_s: f64,
    modeled_vcpu_s: f64,
) -> CpuUse {
    let samples: Vec<&HostSample> = recording
        .hosts
        .iter()
        .filter(|s| (window.0..window.1).contains(&s.interval))
        .collect();
    let percent: f64 = samples.iter().map(|s| s.cpu_percent).sum();
    let available_vcpu_s = samples.len().max(1) as f64 * vcpus * interval_s;
    let (applications, background_vcpus) = regression(recording, &samples, vcpus, interval_s);
    CpuUse {
        by_running_tasks: by_running_tasks(&samples, vcpus),
        applications,
        background_vcpus,
        recorded_mean_percent: percent / samples.len().max(1) as f64,
        modeled_mean_percent: modeled_vcpu_s / available_vcpu_s * 100.0,
    }
}

fn by_running_tasks(samples: &[&HostSample], vcpus: f64) -> Vec<ByRunningTasks> {
    let mut groups: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for sample in samples {
        groups
            .entry(sample.running_tasks)
            .or_default()
            .push(sample.cpu_percent);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    groups
        .into_iter()
        .map(|(running_tasks, values)| {
            let computing: Vec<f64> = values
                .iter()
                .copied()
                .filter(|v| *v > COMPUTING_PERCENT)
                .collect();
            ByRunningTasks {
                running_tasks,
                samples: values.len(),
                mean_percent: mean(&values),
                computing_ratio: computing.len() as f64 / values.len() as f64,
                computing_vcpus: mean(&computing) / 100.0 * vcpus,
            }
        })
        .collect()
}

/// CPU time by application, and the virtual CPUs that are busy without tasks.
fn regression(
    recording: &Recording,
    samples: &[&HostSample],
    vcpus: f64,
    interval_s: f64,
) -> (Vec<CpuTime>, f64) {
    let mut names: Vec<&str> = recording
        .tasks
        .iter()
        .map(|t| t.application.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let rows: BTreeMap<(u32, u32), usize> = samples
        .iter()
        .enumerate()
        .map(|(i, s)| ((s.interval, s.host), i))
        .collect();
    let mut x = vec![vec![0.0; names.len() + 1]; samples.len()];
    let y: Vec<f64> = samples
        .iter()
        .map(|s| s.cpu_percent / 100.0 * vcpus * interval_s)
        .collect();
    let mut durations = vec![(0.0, 0.0); names.len()];
    for row in &mut x {
        row[names.len()] = 1.0;
    }
    for task in &recording.tasks {
        let Ok(column) = names.binary_search(&task.application.as_str()) else {
            continue;
        };
        let touched = task.finished_interval - task.started_interval + 1;
        let mut seen = false;
        for interval in task.started_interval..=task.finished_interval {
            if let Some(&row) = rows.get(&(interval, task.host)) {
                x[row][column] += 1.0 / f64::from(touched);
                seen = true;
            }
        }
        if seen {
            durations[column].0 += f64::from(touched - 1) * interval_s;
            durations[column].1 += 1.0;
        }
    }
    let Some((values, errors)) = least_squares(&x, &y) else {
        return (Vec::new(), 0.0);
    };
    let applications = names
        .iter()
        .enumerate()
        .map(|(i, name)| CpuTime {
            application: (*name).into(),
            vcpu_s: values[i],
            standard_error_vcpu_s: errors[i],
            vcpus_while_there: values[i] * durations[i].1 / durations[i].0.max(f64::MIN_POSITIVE),
        })
        .collect();
    (applications, values[names.len()] / interval_s)
}

/// Ordinary least squares of `y` on the rows `x`: coefficients and White's standard errors;
/// `None` if the columns depend on each other.
fn least_squares(x: &[Vec<f64>], y: &[f64]) -> Option<(Vec<f64>, Vec<f64>)> {
    let n = x.first()?.len();
    let mut gram = vec![vec![0.0; n]; n];
    let mut right = vec![0.0; n];
    for (row, value) in x.iter().zip(y) {
        for i in 0..n {
            right[i] += row[i] * value;
            for j in 0..n {
                gram[i][j] += row[i] * row[j];
            }
        }
    }
    let inverse = inverse(gram)?;
    let values: Vec<f64> = inverse.iter().map(|r| dot(r, &right)).collect();
    let mut variances = vec![0.0; n];
    for (row, value) in x.iter().zip(y) {
        let residual = value - dot(row, &values);
        for (variance, r) in variances.iter_mut().zip(&inverse) {
            *variance += (dot(r, row) * residual).powi(2);
        }
    }
    Some((values, variances.into_iter().map(f64::sqrt).collect()))
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The inverse of `a` by Gauss–Jordan elimination with row pivots; `None` if there is none.
fn inverse(mut a: Vec<Vec<f64>>) -> Option<Vec<Vec<f64>>> {
    let n = a.len();
    for (i, row) in a.iter_mut().enumerate() {
        row.extend((0..n).map(|j| f64::from(u8::from(i == j))));
    }
    for column in 0..n {
        let pivot =
            (column..n).max_by(|&i, &j| a[i][column].abs().total_cmp(&a[j][column].abs()))?;
        if a[pivot][column].abs() < 1e-9 {
            return None;
        }
        a.swap(column, pivot);
        let head = a[column][column];
        a[column].iter_mut().for_each(|v| *v /= head);
        let source = a[column].clone();
        for (_, row) in a.iter_mut().enumerate().filter(|(i, _)| *i != column) {
            let factor = row[column];
            row.iter_mut()
                .zip(&source)
                .for_each(|(v, s)| *v -= factor * s);
        }
    }
    Some(a.into_iter().map(|row| row[n..].to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found() {
        // y = 3 a + 0.5 without noise.
        let x: Vec<Vec<f64>> = (0..5).map(|i| vec![f64::from(i), 1.0]).collect();
        let y: Vec<f64> = (0..5).map(|i| 3.0 * f64::from(i) + 0.5).collect();
        let (values, errors) = least_squares(&x, &y).expect("two independent columns");
        assert!((values[0] - 3.0).abs() < 1e-12 && (values[1] - 0.5).abs() < 1e-12);
        assert!(errors.iter().all(|e| *e < 1e-9));
        let dependent: Vec<Vec<f64>> = (0..5).map(|_| vec![1.0, 1.0]).collect();
        assert!(least_squares(&dependent, &y).is_none());
    }
}
