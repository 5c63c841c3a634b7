//! The tables of the report, as HTML.

use std::fmt::Write as _;

use super::figures::class;
use super::input::{Policy, Results};
use super::metric::{Better, Estimate, GROUPS, Group, Metric, Verdict, all};
use super::scale::extent;
use super::svg::{breakable, escape};

/// Every metric per policy, a table per group of metrics that anybody has.
pub(crate) fn metrics(results: &Results) -> String {
    let reference = results.reference();
    grouped(results, |policy, metric, best| {
        let estimate = policy.shown(metric.key)?;
        let verdict = reference
            .filter(|reference| reference.name != policy.name)
            .and_then(|reference| results.difference(&policy.name, &reference.name, metric.key))
            .and_then(|difference| Verdict::of(difference, metric.better));
        let is_best = best.is_some_and(|best| estimate.mean.total_cmp(&best).is_eq());
        Some(cell(estimate, verdict, is_best))
    })
}

/// The paired differences of every other policy to the reference, grouped like [`metrics`].
pub(crate) fn differences(results: &Results) -> String {
    let Some(reference) = results.reference() else {
        return String::new();
    };
    grouped(results, |policy, metric, _| {
        if policy.name == reference.name {
            return None;
        }
        let difference = results.difference(&policy.name, &reference.name, metric.key)?;
        let verdict = Verdict::of(difference, metric.better);
        Some(cell(difference, verdict, false))
    })
}

/// On how many metrics each other policy is better than the reference, undecided, or worse.
pub(crate) fn score(results: &Results) -> String {
    let Some(reference) = results.reference() else {
        return String::new();
    };
    let mut rows = String::new();
    for policy in &results.policies {
        let verdicts: Vec<(Verdict, &str)> = all()
            .filter_map(|metric| {
                let difference = results.difference(&policy.name, &reference.name, metric.key)?;
                Some((Verdict::of(difference, metric.better)?, metric.label))
            })
            .collect();
        if policy.name == reference.name || verdicts.is_empty() {
            continue;
        }
        rows.push_str("<tr>");
        rows.push_str(&row_header(policy));
        for verdict in [Verdict::Better, Verdict::Undecided, Verdict::Worse] {
            let found = verdicts.iter().filter(|(found, _)| *found == verdict);
            let labels: Vec<&str> = found.map(|(_, label)| *label).collect();
            // What the reference loses is named; its wins are in the tables above.
            let named = if verdict == Verdict::Better {
                format!(" <small>{}</small>", escape(&labels.join("; ")))
            } else {
                String::new()
            };
            let (word, count) = (verdict.word(), labels.len());
            let _ = write!(
                rows,
                "<td class=\"words\"><b class=\"{word}\">{count}</b>{named}</td>"
            );
        }
        rows.push_str("</tr>\n");
    }
    if rows.is_empty() {
        return String::new();
    }
    let columns = [Verdict::Better, Verdict::Undecided, Verdict::Worse].map(|verdict| {
        let (sign, word) = (verdict.sign(), verdict.word());
        format!("<th scope=\"col\" class=\"words\">{sign} {word}</th>")
    });
    wrapped(
        &format!(
            "Metrics on which a policy is better or worse than {}",
            reference.name
        ),
        &columns.concat(),
        &rows,
    )
}

/// Tables of policies by metrics; a cell that is `None` shows a dash, and a column or a table
/// without any cell is left out.
fn grouped(
    results: &Results,
    cell: impl Fn(&Policy, &Metric, Option<f64>) -> Option<String>,
) -> String {
    GROUPS
        .iter()
        .filter_map(|group| group_table(results, group, &cell))
        .collect()
}

fn group_table(
    results: &Results,
    group: &Group,
    cell: impl Fn(&Policy, &Metric, Option<f64>) -> Option<String>,
) -> Option<String> {
    let columns: Vec<(&Metric, Vec<Option<String>>)> = group
        .metrics
        .iter()
        .filter_map(|metric| {
            let best = best(results, metric);
            let policies = results.policies.iter();
            let cells: Vec<Option<String>> =
                policies.map(|policy| cell(policy, metric, best)).collect();
            cells.iter().any(Option::is_some).then_some((metric, cells))
        })
        .collect();
    if columns.is_empty() {
        return None;
    }
    let headers: String = columns
        .iter()
        .map(|(metric, _)| {
            let (heading, direction) = (escape(&metric.heading()), metric.direction());
            format!("<th scope=\"col\">{heading}<small>{direction}</small></th>")
        })
        .collect();
    let mut rows = String::new();
    for (index, policy) in results.policies.iter().enumerate() {
        let cells = columns
            .iter()
            .map(|(_, cells)| cells.get(index)?.as_deref());
        let cells: Vec<&str> = cells
            .map(|cell| cell.unwrap_or("<td class=\"none\">–</td>"))
            .collect();
        let _ = writeln!(rows, "<tr>{}{}</tr>", row_header(policy), cells.concat());
    }
    Some(wrapped(group.title, &headers, &rows))
}

/// The best mean of a metric, if one way is better.
fn best(results: &Results, metric: &Metric) -> Option<f64> {
    let policies = results.policies.iter();
    let means = policies.filter_map(|policy| Some(policy.shown(metric.key)?.mean));
    let (low, high) = extent(means)?;
    match metric.better {
        Better::Higher => Some(high),
        Better::Lower => Some(low),
        Better::Neither => None,
    }
}

fn cell(estimate: Estimate, verdict: Option<Verdict>, best: bool) -> String {
    let (class, crown) = if best {
        (" class=\"best\"", "<span class=\"crown\">best</span> ")
    } else {
        ("", "")
    };
    let verdict = verdict.map_or(String::new(), |verdict| {
        let (word, sign) = (verdict.word(), verdict.sign());
        format!(
            " <span class=\"{word}\" title=\"{word}\"><span aria-hidden=\"true\">{sign}</span><span class=\"spoken\"> {word}</span></span>"
        )
    });
    let interval = estimate.interval_text().map_or(String::new(), |interval| {
        format!("<small>{interval}</small>")
    });
    let mean = estimate.mean_text();
    format!("<td{class}>{crown}<b>{mean}</b>{verdict}{interval}</td>")
}

fn row_header(policy: &Policy) -> String {
    let (class, name) = (class(policy.role), breakable(&policy.name));
    format!("<th scope=\"row\"><i class=\"dot {class}\"></i>{name}</th>")
}

fn wrapped(caption: &str, columns: &str, rows: &str) -> String {
    let caption = escape(caption);
    format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table>\n<caption>{caption}</caption>\n<thead><tr><th scope=\"col\">Policy</th>{columns}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}
