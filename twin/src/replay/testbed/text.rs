//! A report as text.

use std::fmt::Write;

use super::compare::{
    MEAN_TARGET_PERCENT, P95_TARGET_PERCENT, POWER_TARGET_PERCENT, UTILIZATION_TARGET_POINTS,
};
use super::{Alarm, Coverage, Figures, Part, Report};

/// `report` as tables for a terminal.
#[must_use]
pub fn to_text(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_summary(&mut text, report);
    let _ = write_power(&mut text, report);
    let _ = write_drift(&mut text, report);
    let _ = write_part(&mut text, "Calibrated", &report.calibrated);
    let _ = write_part(&mut text, "Online", &report.online);
    text
}

/// A line of the summary: what it is, its target and where its value stands.
type Line = (&'static str, Option<f64>, fn(&Figures) -> f64);

const LINES: [Line; 18] = [
    (
        "power MAPE, by interval, %",
        Some(POWER_TARGET_PERCENT),
        |f| f.power_mape_percent,
    ),
    (
        "power MAPE, bins of 30, %",
        Some(POWER_TARGET_PERCENT),
        |f| f.power_bins_mape_percent,
    ),
    (
        "power MAPE, mean of a host, %",
        Some(POWER_TARGET_PERCENT),
        |f| f.power_hosts_mape_percent,
    ),
    ("energy, %", None, |f| f.power_bias_percent),
    ("use of all hosts, points", None, |f| {
        f.utilization_bias_points
    }),
    ("hosts within 2 points of use", None, |f| f.hosts_within),
    (
        "use of a host, mean error, points",
        Some(UTILIZATION_TARGET_POINTS),
        |f| f.utilization_error_points,
    ),
    (
        "use of a host, largest, points",
        Some(UTILIZATION_TARGET_POINTS),
        |f| f.utilization_largest_points,
    ),
    ("variants with mean within 5 %", None, |f| {
        f.response_mean_within
    }),
    (
        "mean response, mean error, %",
        Some(MEAN_TARGET_PERCENT),
        |f| f.response_mean_error_percent,
    ),
    ("mean response of all, %", None, |f| f.response_bias_percent),
    ("p50 response, mean error, %", None, |f| {
        f.response_p50_error_percent
    }),
    ("variants with p95 within 10 %", None, |f| {
        f.response_p95_within
    }),
    (
        "p95 response, mean error, %",
        Some(P95_TARGET_PERCENT),
        |f| f.response_p95_error_percent,
    ),
    ("rank correlation, use of hosts", None, |f| {
        f.hosts_utilization_rank
    }),
    ("rank correlation, power of hosts", None, |f| {
        f.hosts_power_rank
    }),
    ("rank correlation, applications", None, |f| {
        f.applications_response_rank
    }),
    ("rank correlation, variants", None, |f| {
        f.variants_response_rank
    }),
];

/// A line of the coverages.
type CoverageLine = (&'static str, fn(&Coverage) -> f64);

const COVERAGES: [CoverageLine; 4] = [
    ("power of the fleet", |c| c.power_percent),
    ("mean use of a host", |c| c.hosts_percent),
    ("response of a request", |c| c.requests_percent),
    ("mean response of a variant", |c| c.variants_percent),
];

fn write_summary(text: &mut String, r: &Report) -> std::fmt::Result {
    writeln!(
        text,
        "Testbed: intervals {}..{}, calibrated on {}..{}; {} requests, {} hosts, {} variants, {} \
         replications, seed {}\n",
        r.window[0],
        r.window[1],
        r.calibrated_on[0],
        r.calibrated_on[1],
        r.requests,
        r.online.hosts.len(),
        r.online.variants.len(),
        r.replications,
        r.seed
    )?;
    writeln!(
        text,
        "{:<36} {:>7} {:>11} {:>8} {:>9}",
        "", "target", "calibrated", "online", "if_exact"
    )?;
    for (name, target, of) in LINES {
        let target = target.map_or(String::new(), |t| format!("{t:.1}"));
        writeln!(
            text,
            "{name:<36} {target:>7} {:>11.2} {:>8.2} {:>9.2}",
            of(&r.calibrated.figures),
            of(&r.online.figures),
            of(&r.online.floor)
        )?;
    }
    writeln!(
        text,
        "if_exact: mean figures of the online twin against single replications of its own."
    )?;
    writeln!(text, "\nCoverage of 90 % prediction intervals, %\n")?;
    for (name, of) in COVERAGES {
        writeln!(
            text,
            "{name:<36} {:>7.1} {:>11.1} {:>8.1}",
            90.0,
            of(&r.calibrated.coverage),
            of(&r.online.coverage)
        )?;
    }
    Ok(())
}

fn write_power(text: &mut String, r: &Report) -> std::fmt::Result {
    let b = &r.baselines;
    writeln!(
        text,
        "\nPower from simpler models, MAPE in %: intervals, bins of 30\n"
    )?;
    writeln!(
        text,
        "{:<52} {:>6.2} {:>6.2}",
        "mean power of an enabled host when calibrated",
        b.constant_mape_percent,
        b.constant_bins_mape_percent
    )?;
    writeln!(
        text,
        "{:<52} {:>6.2} {:>6.2}",
        "regression fitted on the reported window itself",
        b.hindsight_mape_percent,
        b.hindsight_bins_mape_percent
    )
}

fn write_drift(text: &mut String, r: &Report) -> std::fmt::Result {
    let d = &r.drift;
    let alarm = |a: Option<Alarm>| {
        a.map_or("none".to_string(), |a| {
            let direction = if a.longer { "longer" } else { "shorter" };
            format!("in interval {} ({direction})", a.interval)
        })
    };
    writeln!(text, "\nDrift between calibration and report\n")?;
    writeln!(
        text,
        "Durations less replayed: {:+.2} s when calibrated, {:+.2} s now; mean online delay {:.2} s.",
        d.calibration_residual_s, d.window_residual_s, d.mean_delay_s
    )?;
    writeln!(
        text,
        "Mean CPU use: {:.2} % when calibrated, {:.2} % now.",
        d.calibration_cpu_percent, d.window_cpu_percent
    )?;
    writeln!(
        text,
        "Cumulative sum of durations: alarm {} when calibrated, {} now.",
        alarm(d.calibration_alarm),
        alarm(d.window_alarm)
    )?;
    writeln!(
        text,
        "Wait for a placement: {:.2} s recorded, {:.2} s if hosts are named at random.",
        d.recorded_wait_s, d.random_wait_s
    )
}

fn write_part(text: &mut String, title: &str, part: &Part) -> std::fmt::Result {
    writeln!(text, "\n{title}: hosts\n")?;
    writeln!(
        text,
        "{:>4} {:>10} {:>9} {:>11} {:>12} {:>16} {:>17}",
        "host",
        "recorded_%",
        "± points",
        "predicted_%",
        "diff_points",
        "recorded_power_w",
        "predicted_power_w"
    )?;
    for h in &part.hosts {
        writeln!(
            text,
            "{:>4} {:>10.2} {:>9.2} {:>11.2} {:>12.2} {:>16.2} {:>17.2}",
            h.host,
            h.recorded_percent,
            h.error_points,
            h.predicted_percent,
            h.difference_points,
            h.recorded_power_w,
            h.predicted_power_w
        )?;
    }
    writeln!(text, "\n{title}: responses in s\n")?;
    writeln!(
        text,
        "{:<12} {:<12} {:>8} {:>9} {:>7} {:>9} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7}",
        "application",
        "variant",
        "requests",
        "recorded",
        "±",
        "predicted",
        "diff_%",
        "p50",
        "p50_pr",
        "p95",
        "p95_pr",
        "±",
        "diff_%"
    )?;
    for v in &part.variants {
        writeln!(
            text,
            "{:<12} {:<12} {:>8} {:>9.2} {:>7.2} {:>9.2} {:>7.1} {:>7.1} {:>7.1} {:>7.1} {:>7.1} \
             {:>7.1} {:>7.1}",
            v.application,
            v.variant,
            v.requests,
            v.recorded_s,
            v.error_s,
            v.predicted_s,
            v.difference_percent,
            v.recorded_p50_s,
            v.predicted_p50_s,
            v.recorded_p95_s,
            v.predicted_p95_s,
            v.p95_spread_s,
            v.p95_difference_percent
        )?;
    }
    Ok(())
}
