//! One run over time: panels that share the time axis.
//!
//! A long run is drawn as the means of equal groups of intervals.

use super::Screen;
use super::axis::Plot;
use super::scale::{Scale, extent};
use super::svg::{Anchor, Svg, text_width};
use crate::qos::Snapshot;

/// One curve of a panel.
struct Series {
    label: &'static str,
    class: &'static str,
    values: fn(&[Snapshot]) -> Vec<f64>,
    /// Drawn as an area from zero rather than as a line.
    filled: bool,
}

/// Curves over one vertical scale.
struct Panel {
    title: &'static str,
    series: &'static [Series],
    /// The top of the scale where the quantity has one.
    top: Option<f64>,
}

const PANELS: &[Panel] = &[
    Panel {
        title: "Arrivals, requests per second",
        series: &[line("arrivals", "line-4", arrival_rate)],
        top: None,
    },
    Panel {
        title: "Hosts",
        series: &[
            filled("on or booting", "line-2", |run| {
                each(run, |shot| {
                    f64::from(shot.hosts_on) + f64::from(shot.hosts_booting)
                })
            }),
            filled("on", "line-1", |run| {
                each(run, |shot| f64::from(shot.hosts_on))
            }),
        ],
        top: None,
    },
    Panel {
        title: "Utilization of the hosts that are on, %",
        series: &[line("utilization", "line-1", |run| {
            each(run, |shot| shot.utilization * 100.0)
        })],
        top: Some(100.0),
    },
    Panel {
        title: "Requests and queues",
        series: &[
            line("under way", "line-1", |run| {
                each(run, |shot| f64::from(shot.active_requests))
            }),
            line("waiting", "line-3", |run| {
                each(run, |shot| f64::from(shot.queued))
            }),
        ],
        top: None,
    },
    Panel {
        title: "Power, W",
        series: &[line("power", "line-1", |run| {
            each(run, |shot| shot.power_w)
        })],
        top: None,
    },
    Panel {
        title: "Energy since the start, Wh",
        series: &[line("energy", "line-1", |run| {
            each(run, |shot| shot.energy_wh)
        })],
        top: None,
    },
];

const PANEL_HEIGHT: f64 = 84.0;
const PANEL_GAP: f64 = 34.0;

const fn line(
    label: &'static str,
    class: &'static str,
    values: fn(&[Snapshot]) -> Vec<f64>,
) -> Series {
    Series {
        label,
        class,
        values,
        filled: false,
    }
}

const fn filled(
    label: &'static str,
    class: &'static str,
    values: fn(&[Snapshot]) -> Vec<f64>,
) -> Series {
    Series {
        label,
        class,
        values,
        filled: true,
    }
}

/// The run of one policy, with that of another in gray behind it; `all` fixes the scales, so that
/// runs can be compared from one to the next.
pub fn timeline(
    name: &str,
    shown: &[Snapshot],
    behind: Option<&[Snapshot]>,
    all: &[&[Snapshot]],
    id: &str,
    screen: Screen,
) -> Option<String> {
    let time = extent(all.iter().flat_map(|run| times(run)))?;
    let panels: Vec<(&Panel, f64)> = PANELS
        .iter()
        .filter_map(|panel| Some((panel, top_of(panel, all)?)))
        .collect();
    if panels.is_empty() {
        return None;
    }
    let wide = screen == Screen::Wide;
    let width = if wide { 900.0 } else { 400.0 };
    let bins = if wide { 300 } else { 150 };
    let height = 26.0 + panels.len() as f64 * (PANEL_HEIGHT + PANEL_GAP) + 14.0;
    let mut svg = Svg::new(width, height);
    let mut plot = Plot {
        left: 52.0,
        top: 0.0,
        right: width - 14.0,
        bottom: 0.0,
    };
    let (unit, seconds) = time_unit(time.1 - time.0);
    let domain = (time.0 / seconds, time.1 / seconds);
    let x = Scale::exact(domain, plot.across(), if wide { 10.0 } else { 5.0 });
    for (index, (panel, top)) in panels.iter().enumerate() {
        plot.top = 26.0 + index as f64 * (PANEL_HEIGHT + PANEL_GAP);
        plot.bottom = plot.top + PANEL_HEIGHT;
        let y = Scale::linear((0.0, *top), plot.upward(), 3.0);
        if index + 1 == panels.len() {
            plot.draw_x_axis(&mut svg, &x, &format!("Time, {unit}"));
        } else {
            plot.draw_x_grid(&mut svg, &x);
        }
        plot.draw_y_axis(&mut svg, &y);
        draw_heading(&mut svg, &plot, panel);
        let place = |run: &[Snapshot], values: &[f64]| {
            binned(&times(run), values, bins)
                .into_iter()
                .map(|(time, value)| (x.at(time / seconds), y.at(value)))
                .collect::<Vec<_>>()
        };
        for series in panel.series {
            let points = place(shown, &(series.values)(shown));
            if series.filled {
                svg.area(&format!("area {}", series.class), &points, plot.bottom);
            }
            svg.curve(&format!("line {}", series.class), points);
        }
        // The panel's last curve is the one that tells most: hosts on, requests queued.
        if let (Some(behind), Some(series)) = (behind, panel.series.last()) {
            svg.curve("line behind", place(behind, &(series.values)(behind)));
        }
    }
    let titles: Vec<&str> = panels.iter().map(|(panel, _)| panel.title).collect();
    let description = format!("Panels over time: {}.", titles.join("; "));
    let title = format!("Timeline of {name}");
    Some(svg.finish(id, screen.class(), &title, &description))
}

/// How many intervals of a run of `length` are drawn as one point on a wide screen.
pub fn intervals_per_point(length: usize) -> usize {
    length.div_ceil(300).max(1)
}

/// The top of a panel's scale; `None` if no run has values for it.
fn top_of(panel: &Panel, all: &[&[Snapshot]]) -> Option<f64> {
    let values = all
        .iter()
        .flat_map(|run| panel.series.iter().flat_map(|series| (series.values)(run)));
    let (_, high) = extent(values)?;
    Some(panel.top.unwrap_or(0.0).max(high).max(1e-9))
}

fn draw_heading(svg: &mut Svg, plot: &Plot, panel: &Panel) {
    let y = plot.top - 10.0;
    svg.text("title", Anchor::Start, (plot.left, y), panel.title);
    if panel.series.len() < 2 {
        return;
    }
    let mut x = plot.right;
    for series in panel.series.iter().rev() {
        svg.text("tick", Anchor::End, (x, y), series.label);
        x -= text_width(series.label) + 16.0;
        svg.rect(&format!("key {}", series.class), (x, y - 9.0), (10.0, 10.0));
        x -= 14.0;
    }
}

/// The unit that a span of time is labeled in, and its length in s.
#[must_use]
pub fn time_unit(span_s: f64) -> (&'static str, f64) {
    if span_s > 3.0 * 3600.0 {
        ("hours", 3600.0)
    } else if span_s > 600.0 {
        ("minutes", 60.0)
    } else {
        ("seconds", 1.0)
    }
}

/// The means of at most `bins` equal groups of neighbors, at their mean times.
fn binned(time_s: &[f64], values: &[f64], bins: usize) -> Vec<(f64, f64)> {
    let group = time_s.len().div_ceil(bins).max(1);
    let mean = |part: &[f64]| {
        let known: Vec<f64> = part
            .iter()
            .copied()
            .filter(|value| !value.is_nan())
            .collect();
        known.iter().sum::<f64>() / known.len() as f64
    };
    time_s
        .chunks(group)
        .zip(values.chunks(group))
        .map(|(times, values)| (mean(times), mean(values)))
        .collect()
}

/// The value of one column at each moment.
fn each(run: &[Snapshot], value: impl Fn(&Snapshot) -> f64) -> Vec<f64> {
    run.iter().map(value).collect()
}

fn times(run: &[Snapshot]) -> Vec<f64> {
    each(run, |shot| shot.time_s)
}

/// Arrivals per second in the interval that begins at each moment; unknown in the last one.
fn arrival_rate(run: &[Snapshot]) -> Vec<f64> {
    let mut rates: Vec<f64> = run
        .windows(2)
        .map(|pair| {
            let arrived = pair[1].arrived.saturating_sub(pair[0].arrived);
            arrived as f64 / (pair[1].time_s - pair[0].time_s)
        })
        .collect();
    rates.resize(run.len(), f64::NAN);
    rates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_counted_from_one_moment_to_the_next() {
        let run = [(0.0, 0), (10.0, 25), (20.0, 25)].map(|(time_s, arrived)| Snapshot {
            time_s,
            arrived,
            ..Snapshot::default()
        });
        let rates = arrival_rate(&run);
        // 25 requests in 10 s are 2.5 per second.
        assert!((rates[0] - 2.5).abs() < 1e-12 && rates[1].abs() < 1e-12);
        assert!(rates[2].is_nan());
    }

    #[test]
    fn a_long_run_is_drawn_as_means_of_groups() {
        let time: Vec<f64> = (0..5).map(f64::from).collect();
        let values = [1.0, 3.0, f64::NAN, 4.0, 9.0];
        // Five values in at most three groups: groups of two, the last of one.
        assert_eq!(
            binned(&time, &values, 3),
            [(0.5, 2.0), (2.5, 4.0), (4.0, 9.0)]
        );
        assert_eq!(intervals_per_point(601), 3);
    }
}
