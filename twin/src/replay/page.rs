//! Predicted and measured power over time, as one page without scripts.

use std::fmt::Write;

use super::report::{BinRow, Report};

const WIDTH: f64 = 1100.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 30.0;

/// A chart: what is drawn against time.
struct Chart<'a> {
    title: &'a str,
    unit: &'a str,
    lines: Vec<Line<'a>>,
    /// A shaded band around the first line.
    band: Option<(f64, f64)>,
}

struct Line<'a> {
    name: &'a str,
    color: &'a str,
    of: fn(&BinRow) -> Option<f64>,
}

/// The page of `report`.
#[must_use]
pub fn to_html(report: &Report) -> String {
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<title>Replay</title>\n\
         <style>body{font:14px sans-serif;margin:2em}svg{display:block;margin-bottom:1.5em}\
         text{font-size:12px}pre{background:#f4f4f4;padding:1em}</style></head><body>\n",
    );
    let name = escaped(&report.recording);
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(html, "<h1>Replay of {name}</h1>");
    if let Some(power) = &report.power {
        html.push_str(&draw(
            report,
            &Chart {
                title: "Power: predicted with its 95 % interval, and measured",
                unit: "kW",
                lines: vec![
                    Line {
                        name: "predicted",
                        color: "#c0392b",
                        of: |bin| bin.predicted_w.map(|w| w / 1000.0),
                    },
                    Line {
                        name: "measured",
                        color: "#2c3e50",
                        of: |bin| bin.measured_w.map(|w| w / 1000.0),
                    },
                ],
                band: Some(power.interval),
            },
        ));
    }
    html.push_str(&draw(
        report,
        &Chart {
            title: "Utilization of all hosts",
            unit: "%",
            lines: vec![Line {
                name: "utilization",
                color: "#2980b9",
                of: |bin| Some(bin.utilization_percent),
            }],
            band: None,
        },
    ));
    let text = escaped(&super::report::to_text(report));
    let _ = writeln!(html, "<pre>{text}</pre>\n</body></html>");
    html
}

fn draw(report: &Report, chart: &Chart<'_>) -> String {
    let (low, high) = range(report, chart);
    let last_s = report.bins.len().max(1) as f64 * report.bin_s;
    let x = |seconds: f64| LEFT + (WIDTH - LEFT) * seconds / last_s;
    let y = |value: f64| (HEIGHT - BOTTOM) * (1.0 - (value - low) / (high - low));
    let mut svg = format!("<svg width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">\n");
    let _ = writeln!(svg, "<title>{}</title>", chart.title);
    let window = [report.window.from_interval, report.window.until_interval];
    let [from, until] = window.map(|interval| x(interval as f64 * report.bin_s));
    let _ = writeln!(
        svg,
        "<rect x=\"{from:.1}\" y=\"0\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#f3f8ee\"/>",
        until - from,
        HEIGHT - BOTTOM
    );
    if let (Some(bounds), Some(line)) = (chart.band, chart.lines.first()) {
        let points = |factor: f64| -> Vec<String> {
            let at = |bin: &BinRow| Some((x(bin.from_s), y((line.of)(bin)? * factor)));
            let points = report.bins.iter().filter_map(at);
            points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect()
        };
        let mut outline = points(bounds.0);
        outline.extend(points(bounds.1).into_iter().rev());
        let outline = outline.join(" ");
        let color = line.color;
        let _ = writeln!(
            svg,
            "<polygon points=\"{outline}\" fill=\"{color}\" fill-opacity=\"0.2\"/>"
        );
    }
    for (index, line) in chart.lines.iter().enumerate() {
        let at = |bin: &BinRow| Some((x(bin.from_s), y((line.of)(bin)?)));
        let points = report.bins.iter().filter_map(at);
        let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let (points, color, name) = (points.join(" "), line.color, line.name);
        let _ = writeln!(
            svg,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{color}\"/>\n\
             <text x=\"{}\" y=\"15\" fill=\"{color}\">{name}</text>",
            LEFT + 10.0 + 90.0 * index as f64
        );
    }
    axes(&mut svg, chart.unit, (low, high), last_s);
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String, unit: &str, (low, high): (f64, f64), last_s: f64) {
    for quarter in 0..=4 {
        let share = f64::from(quarter) / 4.0;
        let y = (HEIGHT - BOTTOM) * (1.0 - share);
        let value = low + (high - low) * share;
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\n\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value:.1} {unit}</text>",
            LEFT - 6.0,
            y.max(8.0) + 4.0
        );
    }
    let days = last_s / 86_400.0;
    let mut day = 0.0;
    let step = (days / 10.0).ceil().max(1.0);
    while day < days {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\">day {day}</text>",
            LEFT + (WIDTH - LEFT) * day / days,
            HEIGHT - 10.0
        );
        day += step;
    }
}

/// The least and the largest value of a chart, apart from each other.
fn range(report: &Report, chart: &Chart<'_>) -> (f64, f64) {
    let values = chart
        .lines
        .iter()
        .flat_map(|line| report.bins.iter().filter_map(line.of));
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low < high {
        (low, high)
    } else if low.is_finite() {
        (low - 1.0, low + 1.0)
    } else {
        (0.0, 1.0)
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
