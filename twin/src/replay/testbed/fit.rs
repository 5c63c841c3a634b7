//! Calibration of a testbed on one window of its recording.
//!
//! - **Demand** and the cap: the fit of [`crate::calibrate`] on the fragments that started in the
//!   window.
//! - **CPU windows**: the recorded CPU use is split by application and age of the fragment (least
//!   squares on the number of fragments of each age). For each application the part of the
//!   progress in which it computes is the one, on a grid of 5 %, under which the replay has the
//!   recorded use by age and in sum; its level are the quantiles of samples above 5 % on hosts with
//!   no other application, scaled so that the mean use of the window comes out. The phase of the sample is the one that fits all applications best.
//! - **Background**: mean CPU use of each host without fragments.
//! - **Speed**: replayed over recorded durations of each host, drawn towards one as far as its
//!   standard error asks (empirical Bayes, normal-normal: Morris, "Parametric empirical Bayes
//!   inference", JASA 78(381), 1983).

use std::collections::BTreeMap;

use super::TestbedError;
use super::drive::{self, AGES, Drift, Run, Seen};
use super::model::{CpuWindow, Demand, HostFit, KIND, LEVELS, Model, SCHEMA};
use super::script::Script;
use super::statistics::{Ridge, mean, quantile, standard_error};
use crate::calibrate::{self, inputs::Inputs};
use crate::recording::{HostSample, Recording};
use crate::world::{MAX_HOSTS, PowerCurve};

/// Replications of the fit.
const REPLICATIONS: u32 = 24;
/// Key of its random values.
const KEY: u64 = 0x7465_7374_6265_6400;
/// CPU use above which a host is taken to compute, in percent.
const COMPUTING_PERCENT: f64 = 5.0;
/// Steps of the grid of progress.
const STEPS: usize = 40;
/// Where the grid ends: fragments may compute after their noted end.
const MAX_PROGRESS: f64 = 2.0;
/// Phases of the sample that are tried.
const PHASES: [f64; 10] = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.95];
/// Fewest samples of which quantiles are taken.
const MIN_SAMPLES: usize = 10;
/// Steps of the scaling of levels: use is cut off at 100 %, so that one does not do.
const SCALINGS: usize = 3;
/// Penalty that keeps the split of CPU use defined where an age was never seen.
const PENALTY: f64 = 1e-3;

/// First step of progress in which an application computes, and the first after.
type Steps = (usize, usize);
/// CPU use by age, for each application.
type Profiles = Vec<[f64; AGES]>;

/// The model that fits the intervals `window` of `recording`.
///
/// # Errors
///
/// If the window has too few fragments or requests differ in shape.
pub fn calibrate(
    recording: &Recording,
    inputs: &Inputs,
    power: PowerCurve,
    interval_s: f64,
    window: (u32, u32),
) -> Result<Model, TestbedError> {
    let demands = calibrate::calibrate(recording, inputs, interval_s, Some(window))?;
    let samples: Vec<&HostSample> = recording
        .hosts
        .iter()
        .filter(|s| (window.0..window.1).contains(&s.interval))
        .collect();
    let hosts = samples.iter().map(|s| s.host as usize + 1).max();
    let hosts = hosts.unwrap_or(0).min(MAX_HOSTS);
    let mut model = Model {
        schema: SCHEMA,
        kind: KIND.into(),
        window: window.into(),
        interval_s,
        vcpus: inputs.vcpus,
        cap_vcpus: demands.cap_vcpus,
        sample_phase_ratio: 1.0,
        power_w: power.0,
        fragments: demands
            .demands
            .into_iter()
            .map(|d| Demand {
                application: d.cell.application,
                variant: d.cell.variant,
                place: d.cell.place,
                alone_s: rounded(d.alone_s),
                cv: rounded(d.cv),
            })
            .collect(),
        applications: Vec::new(),
        hosts: backgrounds(&samples, hosts),
    };
    model.applications = levels(recording, &samples, &model);
    let script = Script::new(recording, &model, window)?;
    let recorded = profiles(&samples, &script, &model);
    fit_windows(&mut model, &script, &recorded);
    for _ in 0..SCALINGS {
        scale_levels(&mut model, &script, &samples);
    }
    let runs = drive::replications(&script, &model, &Drift::default(), KEY, REPLICATIONS);
    fit_speeds(&mut model, &script, &runs);
    Ok(model)
}

/// Four decimals: more would claim more than a fit can know.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn backgrounds(samples: &[&HostSample], hosts: usize) -> Vec<HostFit> {
    let mut idle = vec![Vec::new(); hosts];
    for sample in samples.iter().filter(|s| s.running_tasks == 0) {
        if let Some(list) = idle.get_mut(sample.host as usize) {
            list.push(sample.cpu_percent);
        }
    }
    (0u32..)
        .zip(idle)
        .map(|(host, values)| HostFit {
            host,
            speed: 1.0,
            background_percent: rounded(mean(&values)),
        })
        .collect()
}

/// Applications with the level of their CPU use; their windows are still open.
fn levels(recording: &Recording, samples: &[&HostSample], model: &Model) -> Vec<CpuWindow> {
    let mut names: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for demand in &model.fragments {
        names.entry(&demand.application).or_default();
    }
    let busy: BTreeMap<(u32, u32), f64> = samples
        .iter()
        .filter(|s| s.running_tasks == 1 && s.cpu_percent > COMPUTING_PERCENT)
        .map(|s| ((s.interval, s.host), s.cpu_percent))
        .collect();
    for task in &recording.tasks {
        for interval in task.started_interval..=task.finished_interval {
            if let Some(percent) = busy.get(&(interval, task.host))
                && let Some(list) = names.get_mut(task.application.as_str())
            {
                list.push(*percent);
            }
        }
    }
    let all: Vec<f64> = names.values().flatten().copied().collect();
    names
        .iter()
        .map(|(name, own)| {
            let values = if own.len() < MIN_SAMPLES { &all } else { own };
            CpuWindow {
                application: (*name).into(),
                begin_ratio: 0.0,
                end_ratio: 1.0,
                levels_percent: std::array::from_fn(|i| {
                    rounded(quantile(values, i as f64 / (LEVELS - 1) as f64))
                }),
            }
        })
        .collect()
}

/// Recorded CPU use of a fragment above the background, by application and age.
fn profiles(samples: &[&HostSample], script: &Script, model: &Model) -> Profiles {
    let columns = model.applications.len() * AGES;
    let mut counts: BTreeMap<(u32, usize), Vec<f64>> = BTreeMap::new();
    for fragment in &script.fragments {
        for (age, interval) in (fragment.started..).take(AGES).enumerate() {
            counts
                .entry((interval, fragment.host))
                .or_insert_with(|| vec![0.0; columns])[fragment.application * AGES + age] += 1.0;
        }
    }
    let mut ridge = Ridge::new(columns);
    for sample in samples {
        if let Some(x) = counts.get(&(sample.interval, sample.host as usize)) {
            let background = model.hosts[sample.host as usize].background_percent;
            ridge.add(x, sample.cpu_percent - background);
        }
    }
    let values = ridge.solve(&vec![0.0; columns], PENALTY);
    values
        .chunks_exact(AGES)
        .map(|c| std::array::from_fn(|age| c[age].max(0.0)))
        .collect()
}

/// Finds the phase of the sample and the windows of all applications.
fn fit_windows(model: &mut Model, script: &Script, recorded: &Profiles) {
    let mut per_application = vec![0usize; model.applications.len()];
    for fragment in &script.fragments {
        per_application[fragment.application] += 1;
    }
    let mut best: Option<(f64, f64, Vec<Steps>)> = None;
    for phase in PHASES {
        model.sample_phase_ratio = phase;
        let runs = drive::replications(script, model, &Drift::default(), KEY, REPLICATIONS);
        let histograms = histograms(&runs, &per_application);
        let fits: Vec<(f64, Steps)> = histograms
            .iter()
            .zip(recorded)
            .zip(&model.applications)
            .map(|((h, r), a)| best_window(h, r, a.mean_percent()))
            .collect();
        let error: f64 = fits.iter().map(|f| f.0).sum();
        if best.as_ref().is_none_or(|b| error < b.0) {
            best = Some((error, phase, fits.into_iter().map(|f| f.1).collect()));
        }
    }
    if let Some((_, phase, windows)) = best {
        model.sample_phase_ratio = phase;
        for (application, (begin, end)) in model.applications.iter_mut().zip(windows) {
            application.begin_ratio = begin as f64 * MAX_PROGRESS / STEPS as f64;
            application.end_ratio = end as f64 * MAX_PROGRESS / STEPS as f64;
        }
    }
}

/// Share of fragments that are at a step of progress when they are sampled at an age, each weighed
/// by how fast it progresses.
type Histogram = [[f64; STEPS]; AGES];

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "progress is not below zero"
)]
fn histograms(runs: &[Run], per_application: &[usize]) -> Vec<Histogram> {
    let mut list = vec![[[0.0; STEPS]; AGES]; per_application.len()];
    for Seen {
        application,
        age,
        progress,
        share,
        ..
    } in runs.iter().flat_map(|r| &r.seen)
    {
        let step = ((progress / MAX_PROGRESS * STEPS as f64) as usize).min(STEPS - 1);
        let fragments = (per_application[*application] * runs.len()).max(1);
        list[*application][*age][step] += share / fragments as f64;
    }
    list
}

/// The window under which use by age and in sum is closest to `recorded`, and the squared error.
fn best_window(histogram: &Histogram, recorded: &[f64; AGES], level: f64) -> (f64, Steps) {
    let mut best = (f64::INFINITY, (0, 1));
    for begin in 0..STEPS {
        for end in begin + 1..=STEPS {
            let (mut squares, mut sum) = (0.0, 0.0);
            for (steps, recorded) in histogram.iter().zip(recorded) {
                let use_percent = level * steps[begin..end].iter().sum::<f64>();
                squares += (use_percent - recorded).powi(2);
                sum += use_percent - recorded;
            }
            let error = squares + sum * sum;
            if error < best.0 {
                best = (error, (begin, end));
            }
        }
    }
    best
}

/// Scales all levels so that the replay has the recorded mean use.
fn scale_levels(model: &mut Model, script: &Script, samples: &[&HostSample]) {
    let runs = drive::replications(script, model, &Drift::default(), KEY, REPLICATIONS);
    let (mut recorded, mut replayed) = (0.0, 0.0);
    for sample in samples {
        let host = sample.host as usize;
        let at = (sample.interval - script.span.0) as usize * script.hosts + host;
        let background = model.hosts[host].background_percent;
        recorded += sample.cpu_percent - background;
        let uses = runs.iter().map(|r| r.cpu_percent[at] - background);
        replayed += uses.sum::<f64>() / runs.len() as f64;
    }
    if recorded > 0.0 && replayed > 0.0 {
        for level in model
            .applications
            .iter_mut()
            .flat_map(|a| &mut a.levels_percent)
        {
            *level = rounded((*level * recorded / replayed).min(100.0));
        }
    }
}

/// Finds the speed of each host.
fn fit_speeds(model: &mut Model, script: &Script, runs: &[Run]) {
    let mut pairs = vec![Vec::new(); model.hosts.len()];
    for (i, fragment) in script.fragments.iter().enumerate() {
        let lengths = runs.iter().map(|r| f64::from(r.finished[i] - r.started[i]));
        let predicted = lengths.sum::<f64>() / runs.len().max(1) as f64;
        let recorded = f64::from(fragment.finished - fragment.started);
        pairs[fragment.host].push((recorded, predicted));
    }
    let ratios: Vec<(f64, f64)> = pairs.iter().map(|p| ratio(p)).collect();
    for (host, ratio) in model.hosts.iter_mut().zip(shrunk(&ratios)) {
        host.speed = rounded(1.0 / ratio);
    }
}

/// Sum of recorded over sum of predicted, and its standard error.
fn ratio(pairs: &[(f64, f64)]) -> (f64, f64) {
    let predicted = mean(&pairs.iter().map(|p| p.1).collect::<Vec<_>>());
    if predicted <= 0.0 {
        return (1.0, f64::INFINITY);
    }
    let ratio = mean(&pairs.iter().map(|p| p.0).collect::<Vec<_>>()) / predicted;
    let residuals: Vec<f64> = pairs.iter().map(|p| p.0 - ratio * p.1).collect();
    (ratio, standard_error(&residuals) / predicted)
}

/// `ratios` with standard errors, drawn towards one: by error² / (error² + spread²), where spread²
/// is what their scatter has beyond their errors.
fn shrunk(ratios: &[(f64, f64)]) -> Vec<f64> {
    let known: Vec<&(f64, f64)> = ratios.iter().filter(|r| r.1.is_finite()).collect();
    let n = known.len().max(1) as f64;
    let scatter = known.iter().map(|r| (r.0 - 1.0).powi(2)).sum::<f64>() / n;
    let noise = known.iter().map(|r| r.1 * r.1).sum::<f64>() / n;
    let spread = (scatter - noise).max(0.0);
    ratios
        .iter()
        .map(|(ratio, error)| {
            if spread > 0.0 && error.is_finite() {
                1.0 + (ratio - 1.0) * spread / (spread + error * error)
            } else {
                1.0
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_found() {
        // Every fragment is seen twice: at age 0 in step 5, at age 1 in step 15. Level 50 and
        // recorded 50 and 0: the window holds step 5 and not step 15.
        let mut histogram = [[0.0; STEPS]; AGES];
        histogram[0][5] = 1.0;
        histogram[1][15] = 1.0;
        let (error, (begin, end)) = best_window(&histogram, &[50.0, 0.0, 0.0, 0.0, 0.0], 50.0);
        assert!(error < 1e-12);
        assert!(begin <= 5 && (6..=15).contains(&end), "{begin} {end}");
    }

    #[test]
    fn ratios_are_drawn_towards_one() {
        // Scatter 0.04, errors 0.1 (noise 0.01): spread 0.03; 0.03 / 0.04 of the difference stays.
        let found = shrunk(&[(1.2, 0.1), (0.8, 0.1)]);
        assert!((found[0] - 1.15).abs() < 1e-12 && (found[1] - 0.85).abs() < 1e-12);
        // Scatter within the errors leaves nothing.
        let found = shrunk(&[(1.1, 0.2), (0.9, 0.2)]);
        assert!(found.iter().all(|r| (r - 1.0).abs() < 1e-12));
    }
}
