//! A calibration as text.

use std::fmt::Write;

use super::{Calibration, Comparison, GroupRow};

/// `calibration` as tables for a terminal.
#[must_use]
pub fn to_text(calibration: &Calibration) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_demands(&mut text, calibration);
    let _ = write_comparison(&mut text, "Fit and recording", &calibration.fitted);
    let title = "Fit on the first half of the window, tested on the second";
    let _ = write_comparison(&mut text, title, &calibration.halves);
    let title = "Fit on every other stretch of 50 intervals, tested on those between";
    let _ = write_comparison(&mut text, title, &calibration.stretches);
    let title = "Duration by other tasks on the host at the start";
    let _ = write_groups(&mut text, title, "others", &calibration.fitted.by_company);
    let title = "Duration by time of the start";
    let _ = write_groups(&mut text, title, "from", &calibration.fitted.by_time);
    let _ = write_cpu(&mut text, calibration);
    text
}

fn write_demands(text: &mut String, c: &Calibration) -> std::fmt::Result {
    writeln!(
        text,
        "Demand of fragments, from tasks started in intervals {}..{} of {} s\n",
        c.window.0, c.window.1, c.interval_s
    )?;
    writeln!(
        text,
        "{:<12} {:<12} {:>5} {:>6} {:>9} {:>9} {:>6}",
        "application", "variant", "place", "tasks", "alone_s", "work_mi", "cv"
    )?;
    for d in &c.demands {
        writeln!(
            text,
            "{:<12} {:<12} {:>5} {:>6} {:>9.2} {:>9.0} {:>6.3}",
            d.cell.application, d.cell.variant, d.cell.place, d.tasks, d.alone_s, d.work_mi, d.cv
        )?;
    }
    writeln!(
        text,
        "\nParallelism cap: {} vCPUs; root mean square difference by cap:",
        c.cap_vcpus
    )?;
    for trial in &c.caps {
        writeln!(
            text,
            "  {:>5.2} vCPUs {:>7.3} s",
            trial.cap_vcpus, trial.rmse_s
        )?;
    }
    Ok(())
}

fn write_comparison(text: &mut String, title: &str, c: &Comparison) -> std::fmt::Result {
    writeln!(text, "\n{title} (cap {} vCPUs)\n", c.cap_vcpus)?;
    writeln!(
        text,
        "{:<12} {:<12} {:>6} {:>10} {:>10} {:>11} {:>8}",
        "application", "variant", "tasks", "recorded_s", "± error_s", "predicted_s", "diff_%"
    )?;
    for r in &c.rows {
        writeln!(
            text,
            "{:<12} {:<12} {:>6} {:>10.2} {:>10.2} {:>11.2} {:>8.1}",
            r.application,
            r.variant,
            r.tasks,
            r.recorded_s,
            r.standard_error_s,
            r.predicted_s,
            r.difference_percent
        )?;
    }
    writeln!(
        text,
        "{} tasks: RMSE {:.2} s (spread and rounding alone: {:.2} s), MAE {:.2} s, bias {:+.2} s",
        c.tasks, c.rmse_s, c.noise_rmse_s, c.mae_s, c.bias_s
    )
}

fn write_groups(text: &mut String, title: &str, key: &str, rows: &[GroupRow]) -> std::fmt::Result {
    writeln!(text, "\n{title}\n")?;
    writeln!(
        text,
        "{key:>6} {:>6} {:>10} {:>11}",
        "tasks", "recorded_s", "predicted_s"
    )?;
    for r in rows {
        let (recorded, predicted) = (r.recorded_s, r.predicted_s);
        writeln!(
            text,
            "{:>6} {:>6} {recorded:>10.2} {predicted:>11.2}",
            r.key, r.tasks
        )?;
    }
    Ok(())
}

fn write_cpu(text: &mut String, c: &Calibration) -> std::fmt::Result {
    writeln!(text, "\nRecorded CPU use\n")?;
    writeln!(
        text,
        "{:>6} {:>8} {:>7} {:>17} {:>23}",
        "tasks", "samples", "mean_%", "computing_share_%", "vCPUs_while_computing"
    )?;
    for r in &c.cpu.by_running_tasks {
        writeln!(
            text,
            "{:>6} {:>8} {:>7.1} {:>17.1} {:>23.2}",
            r.running_tasks,
            r.samples,
            r.mean_percent,
            r.computing_ratio * 100.0,
            r.computing_vcpus
        )?;
    }
    writeln!(
        text,
        "\n{:<12} {:>12} {:>8} {:>18}",
        "application", "vCPU_s/task", "± error", "vCPUs_while_there"
    )?;
    for a in &c.cpu.applications {
        writeln!(
            text,
            "{:<12} {:>12.2} {:>8.2} {:>18.2}",
            a.application, a.vcpu_s, a.standard_error_vcpu_s, a.vcpus_while_there
        )?;
    }
    writeln!(
        text,
        "Background {:.3} vCPUs a host. Mean use of all hosts: recorded {:.1} %, modeled {:.1} %.",
        c.cpu.background_vcpus, c.cpu.recorded_mean_percent, c.cpu.modeled_mean_percent
    )
}
