//! Training curves: a drawing per quantity, training and validation in one.

use std::collections::BTreeMap;

use super::super::axis::Plot;
use super::super::input::Training;
use super::super::scale::{Scale, extent, far_apart};
use super::super::svg::{Anchor, Svg, text_width};
use super::Screen;

/// The curves of one quantity by part of the data, as (label, class, values).
type Curves<'a> = Vec<(&'static str, &'static str, &'a [f64])>;

/// A drawing per quantity that has at least one finite value.
pub(crate) fn training(training: &Training) -> Vec<String> {
    let mut quantities: BTreeMap<&str, Curves<'_>> = BTreeMap::new();
    for (name, values) in &training.series {
        let (quantity, label, class) = if let Some(rest) = name.strip_prefix("train_") {
            (rest, "training", "line-1")
        } else if let Some(rest) = name.strip_prefix("validation_") {
            (rest, "validation", "line-3")
        } else {
            (name.as_str(), "", "line-4")
        };
        let curves = quantities.entry(quantity).or_default();
        curves.push((label, class, values));
    }
    quantities
        .iter()
        .enumerate()
        .filter_map(|(index, (quantity, curves))| drawing(training, index, quantity, curves))
        .collect()
}

fn drawing(
    training: &Training,
    index: usize,
    quantity: &str,
    curves: &Curves<'_>,
) -> Option<String> {
    let values = || {
        curves
            .iter()
            .flat_map(|(_, _, values)| values.iter().copied())
    };
    let domain = extent(values())?;
    let epochs = extent(training.epoch.iter().copied())?;
    let plot = Plot {
        left: 56.0,
        top: 30.0,
        right: 386.0,
        bottom: 190.0,
    };
    let mut svg = Svg::new(400.0, 236.0);
    let spread = far_apart(values());
    let y = if spread {
        Scale::logarithmic(domain, plot.upward(), 5.0)
    } else {
        Scale::linear(domain, plot.upward(), 4.0)
    };
    let whole = (epochs.1 - epochs.0).clamp(1.0, 6.0);
    let x = Scale::exact(epochs, plot.across(), whole);
    plot.draw_x_axis(&mut svg, &x, "Epoch");
    plot.draw_y_axis(&mut svg, &y);
    let heading = heading(quantity, spread);
    svg.text("title", Anchor::Start, (8.0, 16.0), &heading);
    if let Some(best) = training.best_epoch {
        let at = x.clamped(best);
        svg.line("best-epoch", (at, plot.top), (at, plot.bottom));
    }
    for (_, class, values) in curves {
        let points: Vec<(f64, f64)> = training
            .epoch
            .iter()
            .zip(*values)
            .map(|(epoch, value)| (x.at(*epoch), y.at(*value)))
            .collect();
        svg.curve(&format!("line {class}"), points.iter().copied());
        // A single epoch is no line: it is shown as a dot.
        if let [(x, y)] = points.as_slice() {
            svg.rect(&format!("key {class}"), (x - 3.0, y - 3.0), (6.0, 6.0));
        }
    }
    draw_keys(&mut svg, plot.right, curves);
    let ends: Vec<String> = curves
        .iter()
        .filter_map(|(label, _, values)| {
            let last = values.iter().rev().find(|value| value.is_finite())?;
            Some(format!("{label} ends at {last:.4}").trim_start().to_owned())
        })
        .collect();
    let title = format!("{heading} over the epochs of training");
    let description = format!("{}.", ends.join(", "));
    let id = format!("training-{index}");
    Some(svg.finish(&id, Screen::Any.class(), &title, &description))
}

/// What the curves are, from the right end of the heading.
fn draw_keys(svg: &mut Svg, right: f64, curves: &Curves<'_>) {
    let mut x = right;
    for (label, class, _) in curves
        .iter()
        .rev()
        .filter(|(label, _, _)| !label.is_empty())
    {
        svg.text("tick", Anchor::End, (x, 16.0), label);
        x -= text_width(label) + 16.0;
        svg.rect(&format!("key {class}"), (x, 7.0), (10.0, 10.0));
        x -= 12.0;
    }
}

/// `train_regret_mean` as `Regret mean`.
fn heading(quantity: &str, spread: bool) -> String {
    let words = quantity.replace('_', " ");
    let mut characters = words.chars();
    let first = characters
        .next()
        .map(|first| first.to_uppercase().to_string());
    let note = if spread { " (logarithmic)" } else { "" };
    format!("{}{}{note}", first.unwrap_or_default(), characters.as_str())
}
