//! An evaluation as text.

use std::fmt::Write;

use super::detector::Alarm;
use super::evaluate::{Accuracy, Errors, Evaluation};

/// The most alarms that are listed.
const LISTED: usize = 40;
/// Factors that differ by less from 1, in standard errors, are not listed.
const NOTABLE: f64 = 3.0;

/// `evaluation` as tables for a terminal, with times in intervals of `interval_s`.
pub(super) fn to_text(evaluation: &Evaluation, interval_s: f64) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_head(&mut text, evaluation, interval_s);
    let _ = write_alarms(&mut text, evaluation, interval_s);
    let _ = write_accuracy(&mut text, evaluation);
    let _ = write_calibration(&mut text, evaluation);
    text
}

fn write_head(text: &mut String, e: &Evaluation, interval_s: f64) -> std::fmt::Result {
    let change = e.change_s / interval_s;
    writeln!(
        text,
        "{} streams, {} tests, one false alarm in {:.0} intervals of {interval_s} s by design; \
         fitted for {:.0} intervals, compared before and from interval {change:.0}\n",
        e.streams,
        e.tests,
        e.settings.false_alarm_every_s / interval_s,
        e.settings.warmup_s / interval_s,
    )
}

fn write_alarms(text: &mut String, e: &Evaluation, interval_s: f64) -> std::fmt::Result {
    let before = |list: &[Alarm]| list.iter().filter(|a| a.time_s < e.change_s).count();
    writeln!(
        text,
        "Alarms: {} before and {} after interval {:.0}; {} and {} if the model stays as it was\n",
        before(&e.alarms),
        e.alarms.len() - before(&e.alarms),
        e.change_s / interval_s,
        before(&e.watch_alarms),
        e.watch_alarms.len() - before(&e.watch_alarms),
    )?;
    writeln!(
        text,
        "{:>8} {:>6} {:>8}  {:<28} {:<18} {:>9} {:>9} {:>7}",
        "interval", "delay", "changed", "stream", "test", "statistic", "threshold", "effect"
    )?;
    for alarm in e.alarms.iter().take(LISTED) {
        let delay = (alarm.time_s - e.change_s) / interval_s;
        let delay = if delay < 0.0 {
            "-".to_owned()
        } else {
            format!("{delay:.0}")
        };
        writeln!(
            text,
            "{:>8.0} {delay:>6} {:>8.0}  {:<28} {:<18} {:>9.2} {:>9.2} {:>+7.2}",
            alarm.time_s / interval_s,
            alarm.changed_s / interval_s,
            alarm.stream.to_string(),
            alarm.test.to_string(),
            alarm.statistic,
            alarm.threshold,
            alarm.effect
        )?;
    }
    if e.alarms.len() > LISTED {
        writeln!(text, "and {} more", e.alarms.len() - LISTED)?;
    }
    Ok(())
}

fn write_accuracy(text: &mut String, e: &Evaluation) -> std::fmt::Result {
    writeln!(
        text,
        "\nErrors of predictions made one step ahead\n\n{:<24} {:<22} {:>6} {:>9} {:>9} {:>8} {:>8}",
        "quantity", "part", "count", "observed", "bias", "MAE", "RMSE"
    )?;
    type Part = fn(&Accuracy) -> Errors;
    let quantities: [(&str, Part, f64); 4] = [
        ("duration, s", |a| a.duration_s, 1.0),
        ("utilization, points", |a| a.utilization, 100.0),
        ("power, W", |a| a.power_w, 1.0),
        ("power from tasks, W", |a| a.power_of_tasks_w, 1.0),
    ];
    for (name, part, scale) in quantities {
        for (when, accuracy) in [
            ("before", e.before_without),
            ("before, recalibrated", e.before_with),
            ("after", e.after_without),
            ("after, recalibrated", e.after_with),
        ] {
            let errors = part(&accuracy);
            writeln!(
                text,
                "{name:<24} {when:<22} {:>6} {:>9.2} {:>+9.3} {:>8.3} {:>8.3}",
                errors.count,
                errors.observed_mean * scale,
                errors.bias * scale,
                errors.mae * scale,
                errors.rmse * scale
            )?;
        }
    }
    Ok(())
}

fn write_calibration(text: &mut String, e: &Evaluation) -> std::fmt::Result {
    let c = &e.calibration;
    writeln!(
        text,
        "\nCalibration at the end: overhead {:+.2} ± {:.2} s a task, background {:.3} vCPUs; factors \
         beyond {NOTABLE} standard errors:\n",
        c.overhead_s, c.overhead_error_s, c.background_vcpus
    )?;
    for h in &c.hosts {
        if (h.speed - 1.0).abs() > NOTABLE * h.speed_error {
            writeln!(
                text,
                "  speed of host {:<19} {:.3} ± {:.3}",
                h.host, h.speed, h.speed_error
            )?;
        }
    }
    for w in &c.work {
        if (w.scale - 1.0).abs() > NOTABLE * w.scale_error {
            let name = format!("{}/{}", w.application, w.variant);
            writeln!(
                text,
                "  work of {name:<25} {:.3} ± {:.3}",
                w.scale, w.scale_error
            )?;
        }
    }
    Ok(())
}
