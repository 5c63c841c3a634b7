//! The summary as text for a terminal.

use std::fmt::Write;

use super::summary::{Closed, Evaluation, Spread};
use crate::statistics::Estimate;

/// Metrics side by side in one block, with short headings; a block that no policy has a value of is
/// left out.
const BLOCKS: [&[(&str, &str)]; 6] = [
    &[
        ("objective", "objective"),
        ("regret", "regret"),
        ("energy_wh", "energy, Wh"),
        ("cost_usd", "cost, USD"),
        ("sla_violation_ratio", "late, ratio"),
    ],
    &[
        ("response_mean_s", "response, s"),
        ("response_p50_s", "p50, s"),
        ("response_p95_s", "p95, s"),
        ("response_p99_s", "p99, s"),
        ("waiting_mean_s", "waiting, s"),
    ],
    &[
        ("accuracy_mean", "accuracy"),
        ("utilization_mean", "utilization"),
        ("jain_fairness", "fairness"),
        ("decision_time_p50_us", "decision p50, µs"),
        ("decision_time_p99_us", "decision p99, µs"),
    ],
    &[
        ("carbon_g", "carbon, g"),
        ("throttled_s", "throttled, s"),
        ("cold_starts", "cold starts"),
        ("unmet_vcpu_s", "unmet, vCPU s"),
        ("unmet_ratio", "unmet, ratio"),
    ],
    &[
        ("migrations_completed", "migrations"),
        ("migrations_failed", "failed"),
        ("migrations_canceled", "canceled"),
        ("migrations_sent_mib", "sent, MiB"),
        ("migrations_downtime_s", "downtime, s"),
        ("migrations_stall_s", "stall, s"),
    ],
    &[
        ("requests_rejected", "rejected"),
        ("requests_withdrawn", "withdrawn"),
        ("host_crashes", "crashes"),
        ("slow_spells", "slow spells"),
        ("link_failures", "links down"),
        ("allocation_failures", "allocations failed"),
    ],
];

/// Tables of means ± half of the 95 % interval, the best objective first, then what is at stake.
pub(super) fn table(evaluation: &Evaluation) -> String {
    let mut names: Vec<&String> = evaluation.policies.keys().collect();
    let objective = |name: &String| {
        evaluation.policies[name]
            .get("objective")
            .copied()
            .flatten()
            .map_or(0.0, |e| e.mean)
    };
    names.sort_by(|a, b| objective(b).total_cmp(&objective(a)));
    let mut text = format!(
        "{}: {} seeds from {}, {} intervals; mean ± half of the 95 % interval\n",
        evaluation.world, evaluation.seeds, evaluation.first_seed, evaluation.intervals
    );
    let value = |name: &str, key: &str| evaluation.policies[name].get(key).copied().flatten();
    for (number, block) in BLOCKS.into_iter().enumerate() {
        // Of what only some worlds have, columns without a value are left out too.
        let there = |key: &str| number < 3 || names.iter().any(|name| value(name, key).is_some());
        let block: Vec<(&str, &str)> = block.iter().copied().filter(|c| there(c.0)).collect();
        if block.is_empty() {
            continue;
        }
        let mut rows = vec![heading(&block)];
        for name in &names {
            let cells = block.iter().map(|(key, _)| cell(value(name, key)));
            rows.push(std::iter::once((*name).clone()).chain(cells).collect());
        }
        text.push('\n');
        align(&rows, &mut text);
    }
    if let Some(spread) = &evaluation.spread {
        push_spread(spread, &mut text);
    }
    for (model, gap) in &evaluation.gap_closed {
        push_closed(model, &gap.best_heuristic, &gap.closed, &mut text);
        if let Some(closed) = &gap.against_greedy {
            push_closed(model, "greedy", closed, &mut text);
        }
    }
    text
}

fn heading(block: &[(&str, &str)]) -> Vec<String> {
    let titles = block.iter().map(|(_, title)| (*title).to_owned());
    std::iter::once("policy".to_owned()).chain(titles).collect()
}

fn cell(estimate: Option<Estimate>) -> String {
    let Some(estimate) = estimate else {
        return "-".to_owned();
    };
    let digits = decimals(estimate.mean);
    match estimate.half_width() {
        Some(half) => format!("{:.digits$} ± {half:.digits$}", estimate.mean),
        None => format!("{:.digits$}", estimate.mean),
    }
}

/// Decimals that show four significant digits, at most six.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value lies between zero and six"
)]
fn decimals(value: f64) -> usize {
    if value.abs() < 1e-6 {
        4
    } else {
        (3.0 - value.abs().log10().floor()).clamp(0.0, 6.0) as usize
    }
}

/// The first column to the left, the others to the right.
fn align(rows: &[Vec<String>], text: &mut String) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| {
        rows.iter()
            .map(|row| row[c].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        for (c, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string cannot fail.
            let _ = match c {
                0 => write!(text, "{cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
}

fn push_spread(spread: &Spread, text: &mut String) {
    let number = |value: f64| format!("{value:.0$}", decimals(value));
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\nobjective from the worst heuristic to the oracle: {} {}, {} {}, oracle {}\n",
        spread.worst_heuristic,
        number(spread.worst_objective),
        spread.best_heuristic,
        number(spread.best_objective),
        spread.oracle_objective.map_or("not run".to_owned(), number),
    );
}

fn push_closed(model: &str, heuristic: &str, closed: &Closed, text: &mut String) {
    // Writing to a string cannot fail.
    let _ = match (closed.ratio, closed.ci95_low, closed.ci95_high) {
        (Some(ratio), Some(low), Some(high)) => writeln!(
            text,
            "{model} closes {:.1} % [{:.1}, {:.1}] of the distance from {heuristic} to the oracle",
            ratio * 100.0,
            low * 100.0,
            high * 100.0
        ),
        (Some(ratio), ..) => writeln!(
            text,
            "{model} closes {:.1} % of the distance from {heuristic} to the oracle",
            ratio * 100.0
        ),
        (None, ..) => writeln!(text, "{model}: the oracle is not better than {heuristic}"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_show_four_significant_digits() {
        let estimate = |mean: f64, half: Option<f64>| Estimate {
            mean,
            ci95_low: half.map(|h| mean - h),
            ci95_high: half.map(|h| mean + h),
        };
        assert_eq!(cell(Some(estimate(123.456, Some(7.89)))), "123.5 ± 7.9");
        assert_eq!(
            cell(Some(estimate(-0.012_345_6, Some(0.001)))),
            "-0.01235 ± 0.00100"
        );
        assert_eq!(cell(Some(estimate(98_765.0, None))), "98765");
        assert_eq!(cell(Some(estimate(0.0, Some(0.0)))), "0.0000 ± 0.0000");
        assert_eq!(cell(None), "-");
    }

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows = [["policy", "x"], ["a", "1 ± 2"]].map(|row| row.map(str::to_owned).to_vec());
        let mut text = String::new();
        align(&rows, &mut text);
        assert_eq!(text, "policy      x\na       1 ± 2\n");
    }
}
