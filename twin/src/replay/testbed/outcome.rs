//! What a system shows in a window, recorded or replayed, in one form.

use super::drive::Run;
use super::model::Model;
use super::script::Script;
use crate::recording::Recording;
use crate::world::PowerCurve;

/// Weight of the newest sample in the recorder's smoothed CPU use, of which it takes the power.
const NEWEST: f64 = 0.8;

/// Power, CPU use and responses in a window.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Power by interval and host, in W.
    pub(crate) power_w: Vec<f64>,
    /// Sampled CPU use by interval and host, in percent.
    pub(crate) cpu_percent: Vec<f64>,
    /// Response by request that arrived in the window, in intervals.
    pub(crate) response: Vec<u32>,
}

/// The part of a script that is compared.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// First interval, and first after it.
    pub(crate) window: (u32, u32),
    /// Positions of the requests that arrived in it.
    pub(crate) requests: Vec<usize>,
}

impl Scope {
    /// The intervals `window` of `script`.
    pub(crate) fn new(script: &Script, window: (u32, u32)) -> Self {
        let inside = |r: &usize| (window.0..window.1).contains(&script.requests[*r].created);
        Self {
            window,
            requests: (0..script.requests.len()).filter(inside).collect(),
        }
    }

    /// Positions of the window's first sample and of the first after it.
    fn samples(&self, script: &Script) -> std::ops::Range<usize> {
        let at = |i: u32| (i - script.span.0) as usize * script.hosts;
        at(self.window.0)..at(self.window.1)
    }
}

/// Samples of the span by interval and host: power and CPU use where they were recorded.
pub(crate) fn recorded_samples(recording: &Recording, script: &Script) -> Vec<Option<(f64, f64)>> {
    let mut list = vec![None; (script.span.1 - script.span.0) as usize * script.hosts];
    for sample in &recording.hosts {
        let host = sample.host as usize;
        if (script.span.0..script.span.1).contains(&sample.interval) && host < script.hosts {
            let at = (sample.interval - script.span.0) as usize * script.hosts;
            list[at + host] = Some((sample.power_w, sample.cpu_percent));
        }
    }
    list
}

/// What was recorded.
pub(crate) fn recorded(samples: &[Option<(f64, f64)>], script: &Script, scope: &Scope) -> Outcome {
    let inside = &samples[scope.samples(script)];
    Outcome {
        power_w: inside.iter().map(|s| s.map_or(0.0, |s| s.0)).collect(),
        cpu_percent: inside.iter().map(|s| s.map_or(0.0, |s| s.1)).collect(),
        response: scope
            .requests
            .iter()
            .map(|r| script.requests[*r].response(|f| script.fragments[f].finished))
            .collect(),
    }
}

/// What `run` would have been recorded as.
pub(crate) fn replayed(run: &Run, model: &Model, script: &Script, scope: &Scope) -> Outcome {
    let power = power_w(
        &run.cpu_percent,
        &script.enabled,
        script.hosts,
        PowerCurve(model.power_w),
    );
    Outcome {
        power_w: power[scope.samples(script)].to_vec(),
        cpu_percent: run.cpu_percent[scope.samples(script)].to_vec(),
        response: scope
            .requests
            .iter()
            .map(|r| script.requests[*r].response(|f| run.finished[f]))
            .collect(),
    }
}

/// Power as the recorder derives it: the curve at the smoothed use, nothing where not enabled.
fn power_w(cpu_percent: &[f64], enabled: &[bool], hosts: usize, curve: PowerCurve) -> Vec<f64> {
    let mut smoothed: Vec<f64> = cpu_percent.iter().copied().take(hosts).collect();
    cpu_percent
        .iter()
        .zip(enabled)
        .enumerate()
        .map(|(i, (percent, enabled))| {
            let value = &mut smoothed[i % hosts];
            *value = NEWEST * percent + (1.0 - NEWEST) * *value;
            if *enabled {
                curve.at(*value / 100.0).0
            } else {
                0.0
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_that_of_smoothed_use() {
        let curve = PowerCurve([
            75.2, 78.2, 84.1, 89.6, 94.9, 100.0, 105.0, 109.0, 112.0, 115.0, 117.0,
        ]);
        // One host: 0, then 50 % smoothed to 0.8 · 50 = 40 %, then 0 smoothed to 0.2 · 40 = 8 %.
        let found = power_w(&[0.0, 50.0, 0.0], &[true, true, false], 1, curve);
        assert!((found[0] - 75.2).abs() < 1e-9);
        assert!((found[1] - 94.9).abs() < 1e-9);
        assert!(found[2].abs() < 1e-9);
        let found = power_w(&[0.0, 50.0, 0.0], &[true; 3], 1, curve);
        // 75.2 + 0.8 · (78.2 - 75.2) = 77.6.
        assert!((found[2] - 77.6).abs() < 1e-9);
    }
}
