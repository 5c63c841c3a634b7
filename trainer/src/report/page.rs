//! The page: sections in order, each saying what it shows or what it lacks.

use std::fmt::Write as _;

use super::figures::{self, Screen};
use super::input::{Policy, Results};
use super::metric::{Estimate, OBJECTIVE, Verdict, all, find};
use super::svg::{breakable, escape};
use super::table;
use crate::evaluate::{Closed, GapClosed};
use crate::policies::Role;
use twin::chart::STYLE;
use twin::qos::Snapshot;

/// The whole page; the same results give the same bytes.
pub(crate) fn render(results: &Results) -> String {
    let world = results.world.as_deref().unwrap_or("an unnamed world");
    let title = escape(&format!("Policies in {world}"));
    let sections = [
        ("result", "Result", headline(results)),
        ("metrics", "All metrics", metrics(results)),
        ("qos", "Quality of service per policy", qos(results)),
        (
            "paired",
            "Paired differences in the objective",
            paired(results),
        ),
        (
            "frontier",
            "Regret against decision time",
            frontier(results),
        ),
        ("timeline", "Timeline of one run", timeline(results)),
        ("training", "Training curves", training(results)),
        ("files", "Files", files(results)),
    ];
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n{}<nav aria-label=\"Sections\">",
        timeline_rules(results.timelines.len()),
        facts(results)
    );
    for (id, heading, _) in &sections {
        let _ = write!(page, "<a href=\"#{id}\">{heading}</a> ");
    }
    page.push_str("</nav>\n</header>\n<main>\n");
    for (id, heading, content) in sections {
        let _ = write!(
            page,
            "<section id=\"{id}\" aria-labelledby=\"{id}-h\">\n<h2 id=\"{id}-h\">{heading}</h2>\n{content}</section>\n"
        );
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn facts(results: &Results) -> String {
    if results.facts.is_empty() {
        return String::new();
    }
    let items: String = results
        .facts
        .iter()
        .map(|(label, value)| format!("<div><dt>{label}</dt><dd>{}</dd></div>", escape(value)))
        .collect();
    format!("<dl class=\"facts\">{items}</dl>\n")
}

fn missing(what: &str) -> String {
    format!("<p class=\"missing\">{what}</p>\n")
}

fn headline(results: &Results) -> String {
    let Some(best) = results.policies.first() else {
        return missing(
            "There is no policy to report: <code>evaluation.json</code> is absent or names none. <code>trainer evaluate</code> writes it.",
        );
    };
    let mut content = String::from("<div class=\"tiles\">\n");
    let best_online = results
        .policies
        .iter()
        .find(|policy| policy.role != Role::Oracle)
        .filter(|_| best.role == Role::Oracle);
    content.push_str(&tile("Best objective", best, "of all policies"));
    if let Some(policy) = best_online {
        content.push_str(&tile(
            "Best without the oracle",
            policy,
            "of the policies that are no oracle",
        ));
    }
    for (name, gap) in &results.gap_closed {
        content.push_str(&gap_tile(name, gap));
    }
    content.push_str("</div>\n");
    if let Some(reference) = results.reference() {
        content.push_str(&standing(results, reference));
    }
    for warning in &results.warnings {
        let _ = writeln!(content, "<p class=\"warning\">{}</p>", escape(warning));
    }
    if results.seeds.is_some_and(|seeds| seeds < 20) {
        content.push_str(
            "<p class=\"warning\">This evaluation ran on fewer than 20 seeds: it shows that things work, and is no ground for a claim.</p>\n",
        );
    }
    content
}

fn tile(label: &str, policy: &Policy, of: &str) -> String {
    let value = policy
        .shown(OBJECTIVE)
        .map_or("no objective".to_owned(), |estimate| {
            let interval = estimate.interval_text();
            let interval = interval.map_or("no interval".to_owned(), |text| {
                format!("95 % interval {text}")
            });
            format!("objective {}, {interval}", estimate.mean_text())
        });
    let (class, name) = (figures::class(policy.role), breakable(&policy.name));
    format!(
        "<div class=\"tile\"><h3>{label}</h3><p class=\"big\"><i class=\"dot {class}\"></i>{name}</p><p>{value}, {of}</p></div>\n"
    )
}

fn gap_tile(name: &str, gap: &GapClosed) -> String {
    let share = |closed: &Closed| {
        let ratio = Estimate::new(closed.ratio?, closed.ci95_low, closed.ci95_high);
        let ratio = ratio.scaled(100.0);
        let interval = ratio.interval_text();
        let interval = interval.map_or("no interval".to_owned(), |text| {
            format!("95 % interval {text} %")
        });
        Some((ratio.mean_text(), interval))
    };
    let (big, interval) = share(&gap.closed).map_or_else(
        || ("none".to_owned(), "the oracle is not better".to_owned()),
        |(ratio, interval)| (format!("{ratio} %"), interval),
    );
    let (name, heuristic) = (escape(name), escape(&gap.best_heuristic));
    let greedy = gap.against_greedy.as_ref().and_then(share);
    let greedy = greedy.map_or(String::new(), |(ratio, interval)| {
        format!("<p>From the oracle’s rollout policy: {ratio} %, {interval}</p>")
    });
    format!(
        "<div class=\"tile\"><h3>Distance to the oracle closed</h3><p class=\"big\">{big}</p><p>by {name}, {interval}; 0 % is the best heuristic, {heuristic}, and 100 % the oracle</p>{greedy}</div>\n"
    )
}

/// How the reference stands against every other policy in the objective.
fn standing(results: &Results, reference: &Policy) -> String {
    let Some(objective) = find(OBJECTIVE) else {
        return String::new();
    };
    let mut names: [Vec<String>; 3] = Default::default();
    for policy in &results.policies {
        if policy.name == reference.name {
            continue;
        }
        let difference = results.difference(&policy.name, &reference.name, OBJECTIVE);
        let verdict = difference.and_then(|difference| Verdict::of(difference, objective.better));
        // The verdict is on the other policy: where it is worse, the reference is better.
        let slot = match verdict {
            Some(Verdict::Worse) => 0,
            Some(Verdict::Undecided) => 1,
            Some(Verdict::Better) => 2,
            None => continue,
        };
        names[slot].push(breakable(&policy.name));
    }
    let parts: Vec<String> = ["better than", "undecided against", "worse than"]
        .into_iter()
        .zip(&names)
        .filter(|(_, names)| !names.is_empty())
        .map(|(relation, names)| {
            format!("<b>{relation} {}</b> ({})", names.len(), names.join(", "))
        })
        .collect();
    if parts.is_empty() {
        return missing(
            "There are no paired differences: nothing can be said about who is better.",
        );
    }
    format!(
        "<p>In the objective, <b>{}</b> is {}. Better and worse mean that the 95 % interval of the difference, paired on the same seeds, excludes zero.</p>\n",
        escape(&reference.name),
        parts.join("; ")
    )
}

fn metrics(results: &Results) -> String {
    let tables = table::metrics(results);
    let Some(reference) = results.reference().filter(|_| !tables.is_empty()) else {
        return missing("There are no metrics: <code>evaluation.json</code> is absent or empty.");
    };
    let mut content = format!(
        "<p>Means over the seeds with 95 % intervals, policies from the best objective to the worst. <span class=\"crown\">best</span> marks the best mean. After a mean, <span class=\"better\">▲</span> says that the policy is better than <b>{}</b>, <span class=\"worse\">▼</span> that it is worse, ≈ that the paired interval includes zero.</p>\n{tables}",
        escape(&reference.name)
    );
    let score = table::score(results);
    if !score.is_empty() {
        let differences = table::differences(results);
        let _ = write!(
            content,
            "<h3>Won and lost</h3>\n{score}<details>\n<summary>Paired differences in every metric, policy less {}</summary>\n{differences}</details>\n",
            escape(&reference.name)
        );
    }
    content
}

fn qos(results: &Results) -> String {
    let panels: Vec<String> = all()
        .filter_map(|metric| {
            let drawing = figures::qos(results, metric)?;
            let (label, direction) = (escape(metric.label), metric.direction());
            Some(format!(
                "<figure><figcaption><b>{label}</b>, {direction}</figcaption>\n{drawing}</figure>\n"
            ))
        })
        .collect();
    if panels.is_empty() {
        return missing("There are no figures to draw.");
    }
    let band = results.reference().map_or(String::new(), |reference| {
        format!(
            " The gray band is the interval of <b>{}</b>.",
            escape(&reference.name)
        )
    });
    format!(
        "<p>Mean and 95 % interval per policy.{band}</p>\n{}<div class=\"grid\">\n{}</div>\n",
        legend(results),
        panels.concat()
    )
}

fn legend(results: &Results) -> String {
    let items: String = [
        (Role::Model, "◆ model"),
        (Role::Oracle, "■ oracle"),
        (Role::Rollout, "▲ rollout policy of the oracle"),
        (Role::Heuristic, "● heuristic"),
    ]
    .into_iter()
    .filter(|(role, _)| results.policies.iter().any(|policy| policy.role == *role))
    .map(|(role, label)| format!("<span class=\"{}\">{label}</span> ", figures::class(role)))
    .collect();
    format!("<p class=\"legend\">{items}</p>\n")
}

fn paired(results: &Results) -> String {
    let models = results
        .policies
        .iter()
        .filter(|policy| policy.role == Role::Model);
    let mut references: Vec<&Policy> = models.collect();
    if references.is_empty() {
        references.extend(results.reference());
    }
    let drawings: Vec<String> = references
        .iter()
        .enumerate()
        .filter_map(|(index, reference)| {
            let wide = figures::forest(results, reference, &format!("forest-{index}"), Screen::Wide)?;
            let id = format!("forest-{index}-narrow");
            let narrow = figures::forest(results, reference, &id, Screen::Narrow)?;
            let name = escape(&reference.name);
            Some(format!(
                "<figure><figcaption>Reference: <b>{name}</b></figcaption>\n{wide}{narrow}</figure>\n"
            ))
        })
        .collect();
    if drawings.is_empty() {
        return missing("There are no paired differences in the objective.");
    }
    format!(
        "<p>Objective of each policy less that of a reference, on the same seeds, with the 95 % interval of the mean. Left of zero, a policy is worse than the reference; right of it, better; undecided where the interval includes zero.</p>\n{}",
        drawings.concat()
    )
}

fn frontier(results: &Results) -> String {
    let wide = figures::frontier(results, Screen::Wide);
    let Some((wide, narrow)) = wide.zip(figures::frontier(results, Screen::Narrow)) else {
        return missing("No policy has both a regret and a decision time.");
    };
    let ranks: String = results
        .policies
        .iter()
        .map(|policy| format!("<li>{}</li>", escape(&policy.name)))
        .collect();
    format!(
        "<figure><figcaption>Lower and further left is better. No policy beats those on the dashed line in both. Whiskers are 95 % intervals of the regret.</figcaption>\n{}{wide}{narrow}<ol class=\"narrow ranks\">{ranks}</ol></figure>\n",
        legend(results)
    )
}

fn timeline(results: &Results) -> String {
    let ranked = results
        .policies
        .iter()
        .filter_map(|policy| results.timelines.get_key_value(&policy.name));
    let known = |name: &String| results.policies.iter().any(|policy| policy.name == *name);
    let others = results.timelines.iter().filter(|(name, _)| !known(name));
    let runs: Vec<(&String, &Vec<Snapshot>)> = ranked.chain(others).collect();
    let all: Vec<&[Snapshot]> = runs.iter().map(|(_, run)| run.as_slice()).collect();
    let reference = results
        .reference()
        .and_then(|policy| results.timelines.get_key_value(&policy.name))
        .or_else(|| runs.first().copied());
    let Some((reference, behind)) = reference else {
        return missing(
            "There is no timeline: <code>timeline.parquet</code> is absent. <code>trainer evaluate</code> writes it.",
        );
    };
    let (mut chips, mut panels) = (String::new(), String::new());
    for (index, (name, run)) in runs.iter().enumerate() {
        let is_reference = *name == reference;
        let behind = (!is_reference).then_some(behind.as_slice());
        let draw = |id: &str, screen| figures::timeline(name, run, behind, &all, id, screen);
        let wide = draw(&format!("run-{index}"), Screen::Wide);
        let Some((wide, narrow)) = wide.zip(draw(&format!("run-{index}-narrow"), Screen::Narrow))
        else {
            return missing("The timeline has no column that the report knows.");
        };
        let (checked, name) = (if is_reference { " checked" } else { "" }, escape(name));
        let _ = writeln!(
            chips,
            "<input type=\"radio\" name=\"timeline\" id=\"timeline-{index}\"{checked}><label for=\"timeline-{index}\">{name}</label>"
        );
        let _ = write!(
            panels,
            "<figure class=\"run run-{index}\"><figcaption><b>{name}</b></figcaption>\n{wide}{narrow}</figure>\n"
        );
    }
    let longest = all.iter().map(|run| run.len()).max().unwrap_or(0);
    let group = figures::intervals_per_point(longest);
    let grouped = if group > 1 {
        format!(" Each point is the mean of {group} intervals.")
    } else {
        String::new()
    };
    format!(
        "<p>The first seed, on scales that all policies share: choose a policy. The dashed gray line is <b>{}</b>.{grouped}</p>\n<div class=\"runs\" role=\"radiogroup\" aria-label=\"Policy\">\n{chips}<div class=\"panels\">\n{panels}</div></div>\n",
        escape(reference)
    )
}

/// Rules that show the run that is chosen: the page works without a script.
fn timeline_rules(runs: usize) -> String {
    (0..runs).fold(String::new(), |mut rules, index| {
        let _ = writeln!(
            rules,
            "#timeline-{index}:checked~.panels>.run-{index}{{display:block}}"
        );
        rules
    })
}

fn training(results: &Results) -> String {
    let drawings = figures::training(&results.training);
    if drawings.is_empty() {
        return missing(
            "There are no training curves: <code>model/metrics.json</code> is absent or has no epoch. <code>trainer fit</code> writes it.",
        );
    }
    let best = results.training.best_epoch.map_or(String::new(), |best| {
        format!("<p>The dashed line is the epoch whose weights were kept: {best}.</p>\n")
    });
    let drawings: String = drawings
        .iter()
        .map(|drawing| format!("<figure>{drawing}</figure>\n"))
        .collect();
    format!("{best}<div class=\"grid\">\n{drawings}</div>\n")
}

fn files(results: &Results) -> String {
    let rows: String = results
        .files
        .iter()
        .map(|file| {
            let found = file.found.as_deref().unwrap_or("absent");
            let (name, content) = (escape(&file.name), file.content);
            format!(
                "<tr><th scope=\"row\"><code>{name}</code></th><td class=\"words\">{content}</td><td class=\"words\">{}</td></tr>\n",
                escape(found)
            )
        })
        .collect();
    format!(
        "<p>All that this page shows comes from these files; the notebook <code>notebooks/01-results.ipynb</code> goes on from them.</p>\n<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">File</th><th scope=\"col\" class=\"words\">Holds</th><th scope=\"col\" class=\"words\">Found</th></tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n"
    )
}
