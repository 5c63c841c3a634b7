//! Dots with whiskers: a mean and its interval per policy, one row each.

use super::super::axis::Plot;
use super::super::input::{Policy, Results};
use super::super::metric::{Estimate, Metric, OBJECTIVE, Verdict, find};
use super::super::scale::{Scale, extent, far_apart};
use super::super::svg::{Anchor, Svg, text_width};
use super::{Screen, class, shape};

const ROW: f64 = 20.0;

/// One metric of every policy that has it; `None` if none has.
pub(crate) fn qos(results: &Results, metric: &Metric) -> Option<String> {
    let rows: Vec<(&Policy, Estimate)> = results
        .policies
        .iter()
        .filter_map(|policy| Some((policy, policy.shown(metric.key)?)))
        .collect();
    let domain = extent(rows.iter().flat_map(|(_, estimate)| {
        let (low, high) = estimate.ends();
        [low, estimate.mean, high]
    }))?;
    let labels = rows.iter().map(|(policy, _)| text_width(&policy.name));
    let left = labels.fold(0.0, f64::max).min(158.0) + 12.0;
    let plot = Plot {
        left,
        top: 8.0,
        right: 400.0 - 16.0,
        bottom: 12.0 + ROW * rows.len() as f64,
    };
    let means = rows.iter().map(|(_, estimate)| estimate.mean);
    let spread = far_apart(means.clone());
    // An interval that reaches zero has no end on a logarithmic scale: it is cut below the means.
    let least = means.fold(f64::INFINITY, f64::min) / 2.0;
    let scale = if spread {
        Scale::logarithmic((domain.0.max(least), domain.1), plot.across(), 5.0)
    } else {
        Scale::linear(domain, plot.across(), 4.0)
    };
    let mut svg = Svg::new(400.0, plot.bottom + 42.0);
    if let Some(reference) = results
        .reference()
        .and_then(|policy| policy.shown(metric.key))
    {
        let (low, high) = reference.ends();
        let (from, to) = (scale.clamped(low), scale.clamped(high));
        svg.rect(
            "band",
            (from - 0.5, plot.top),
            (to - from + 1.0, plot.bottom - plot.top),
        );
    }
    let note = if spread { " (logarithmic)" } else { "" };
    plot.draw_x_axis(&mut svg, &scale, &format!("{}{note}", metric.heading()));
    for (index, (policy, estimate)) in rows.iter().enumerate() {
        let y = plot.top + ROW * (index as f64 + 0.6);
        svg.label(
            "name",
            Anchor::End,
            (left - 8.0, y + 4.0),
            &policy.name,
            left - 12.0,
        );
        let tooltip = format!("{}: {} {}", policy.name, estimate.text(), metric.unit);
        whisker(&mut svg, &scale, y, *estimate, class(policy.role));
        let mark = format!("mark {}", class(policy.role));
        svg.mark(
            &mark,
            shape(policy.role),
            (scale.clamped(estimate.mean), y),
            tooltip.trim_end(),
        );
    }
    let title = format!("{} per policy", metric.heading());
    let description = format!(
        "Mean and 95 % interval per policy, {}: {}.",
        metric.direction(),
        spoken(
            rows.iter()
                .map(|(policy, estimate)| (policy.name.as_str(), *estimate))
        )
    );
    let id = format!("qos-{}", metric.key);
    Some(svg.finish(&id, Screen::Any.class(), &title, &description))
}

/// The objective of every other policy less that of `reference`; `None` without a paired
/// difference.
pub(crate) fn forest(
    results: &Results,
    reference: &Policy,
    id: &str,
    screen: Screen,
) -> Option<String> {
    let metric = find(OBJECTIVE)?;
    let rows: Vec<(&Policy, Estimate)> = results
        .policies
        .iter()
        .filter_map(|policy| {
            let difference = results.difference(&policy.name, &reference.name, OBJECTIVE)?;
            (policy.name != reference.name).then_some((policy, difference))
        })
        .collect();
    let domain = extent(rows.iter().flat_map(|(_, difference)| {
        let (low, high) = difference.ends();
        [low, difference.mean, high, 0.0]
    }))?;
    let wide = screen == Screen::Wide;
    let (width, label_room, text_room) = if wide {
        (900.0, 240.0, 300.0)
    } else {
        (400.0, 130.0, 0.0)
    };
    let labels = rows.iter().map(|(policy, _)| text_width(&policy.name));
    let left = labels.fold(0.0, f64::max).min(label_room) + 12.0;
    let plot = Plot {
        left,
        top: if wide { 26.0 } else { 8.0 },
        right: width - text_room - 16.0,
        bottom: 30.0 + ROW * rows.len() as f64,
    };
    let scale = Scale::linear(domain, plot.across(), if wide { 6.0 } else { 4.0 });
    let mut svg = Svg::new(width, plot.bottom + 42.0);
    plot.draw_x_axis(
        &mut svg,
        &scale,
        "Difference in objective, policy less reference",
    );
    let zero = scale.clamped(0.0);
    svg.line("zero", (zero, plot.top), (zero, plot.bottom));
    let columns = (width - 96.0, width - 8.0);
    if wide {
        svg.text(
            "title",
            Anchor::End,
            (columns.0, 14.0),
            "Difference (95 % interval)",
        );
        svg.text("title", Anchor::End, (columns.1, 14.0), "Seeds won");
    }
    for (index, (policy, difference)) in rows.iter().enumerate() {
        let y = plot.top + ROW * (index as f64 + 0.6);
        let name_at = (left - 8.0, y + 4.0);
        svg.label("name", Anchor::End, name_at, &policy.name, left - 12.0);
        let verdict = Verdict::of(*difference, metric.better).unwrap_or(Verdict::Undecided);
        draw_difference(&mut svg, &scale, y, (policy, *difference, verdict));
        if wide {
            let text = format!("{} {}", verdict.sign(), difference.text());
            svg.text("value", Anchor::End, (columns.0, y + 4.0), &text);
            let seeds = results.seeds_won(&policy.name, &reference.name);
            let seeds = seeds.map_or("–".to_owned(), |(won, of)| format!("{won} of {of}"));
            svg.text("value", Anchor::End, (columns.1, y + 4.0), &seeds);
        }
    }
    let title = format!("Paired differences in objective to {}", reference.name);
    let rows = rows
        .iter()
        .map(|(policy, difference)| (policy.name.as_str(), *difference));
    let description = format!("Mean difference and 95 % interval: {}.", spoken(rows));
    Some(svg.finish(id, screen.class(), &title, &description))
}

/// A difference and its interval, colored by the verdict.
fn draw_difference(
    svg: &mut Svg,
    scale: &Scale,
    y: f64,
    (policy, difference, verdict): (&Policy, Estimate, Verdict),
) {
    let word = verdict.word();
    whisker(svg, scale, y, difference, word);
    let tooltip = format!("{}: {}, {word}", policy.name, difference.text());
    let at = (scale.clamped(difference.mean), y);
    svg.mark(&format!("mark {word}"), shape(policy.role), at, &tooltip);
}

fn whisker(svg: &mut Svg, scale: &Scale, y: f64, estimate: Estimate, class: &str) {
    let (low, high) = estimate.ends();
    let class = format!("whisker {class}");
    svg.line(&class, (scale.clamped(low), y), (scale.clamped(high), y));
}

fn spoken<'a>(rows: impl Iterator<Item = (&'a str, Estimate)>) -> String {
    let rows: Vec<String> = rows
        .map(|(name, estimate)| format!("{name} {}", estimate.text()))
        .collect();
    rows.join("; ")
}
