//! Regret against decision time: which policies no other beats in both.

use super::super::axis::Plot;
use super::super::input::{Policy, Results};
use super::super::metric::{DECISION_TIME, Estimate, REGRET};
use super::super::scale::{Scale, extent};
use super::super::svg::{Anchor, Svg, fit, text_width};
use super::{Screen, class, shape};

/// One policy in the figure.
struct Point<'a> {
    policy: &'a Policy,
    /// Its rank by objective, from 1.
    rank: usize,
    time_us: f64,
    regret: Estimate,
}

/// A box that a label or a mark takes up, in pixels.
#[derive(Clone, Copy, Debug)]
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    fn overlap(self, other: Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }

    fn outside(self, plot: &Plot) -> f64 {
        let (width, height) = (self.right - self.left, self.bottom - self.top);
        let inside = self.overlap(Self {
            left: plot.left,
            top: plot.top,
            right: plot.right,
            bottom: plot.bottom,
        });
        width * height - inside
    }
}

/// Where a label stands.
struct Placed {
    anchor: Anchor,
    at: (f64, f64),
    area: Area,
    /// The offset is so large that a line must lead to the mark.
    far: bool,
}

/// Regret over the median decision time of every policy that has both; `None` if none has.
///
/// Wide, the marks are labeled with names; narrow, with ranks.
pub(crate) fn frontier(results: &Results, screen: Screen) -> Option<String> {
    let points = points(results);
    let time = extent(points.iter().map(|point| point.time_us))?;
    let regret = extent(points.iter().flat_map(|point| {
        let (low, high) = point.regret.ends();
        [low, high, 0.0]
    }))?;
    let (width, height) = if screen == Screen::Wide {
        (900.0, 460.0)
    } else {
        (400.0, 380.0)
    };
    let plot = Plot {
        left: 62.0,
        top: 12.0,
        right: width - 14.0,
        bottom: height - 46.0,
    };
    let mut svg = Svg::new(width, height);
    let ticks = if screen == Screen::Wide { 8.0 } else { 5.0 };
    let x = Scale::logarithmic((time.0 / 1.3, time.1 * 1.3), plot.across(), ticks);
    let y = Scale::linear(regret, plot.upward(), 6.0);
    plot.draw_x_axis(&mut svg, &x, "Decision time, median, µs (logarithmic)");
    plot.draw_y_axis(&mut svg, &y);
    svg.upward_text(
        "title",
        (14.0, f64::midpoint(plot.top, plot.bottom)),
        "Regret, lower is better",
    );
    draw_frontier(&mut svg, &plot, (&x, &y), &points);
    let marks: Vec<(f64, f64)> = points
        .iter()
        .map(|point| (x.clamped(point.time_us), y.clamped(point.regret.mean)))
        .collect();
    for (point, (at_x, at_y)) in points.iter().zip(&marks) {
        let (low, high) = point.regret.ends();
        let role = point.policy.role;
        let whisker = format!("whisker {}", class(role));
        svg.line(&whisker, (*at_x, y.clamped(low)), (*at_x, y.clamped(high)));
        let mark = format!("mark {}", class(role));
        svg.mark(&mark, shape(role), (*at_x, *at_y), &spoken(point));
    }
    draw_labels(&mut svg, &plot, &points, &marks, screen);
    let rows: Vec<String> = points.iter().map(spoken).collect();
    let id = match screen {
        Screen::Narrow => "frontier-narrow",
        Screen::Any | Screen::Wide => "frontier",
    };
    let description = format!("{}.", rows.join("; "));
    Some(svg.finish(
        id,
        screen.class(),
        "Regret against decision time",
        &description,
    ))
}

fn points(results: &Results) -> Vec<Point<'_>> {
    results
        .policies
        .iter()
        .enumerate()
        .filter_map(|(index, policy)| {
            let time_us = policy.shown(DECISION_TIME)?.mean;
            let regret = policy.shown(REGRET)?;
            (time_us > 0.0).then_some(Point {
                policy,
                rank: index + 1,
                time_us,
                regret,
            })
        })
        .collect()
}

fn spoken(point: &Point<'_>) -> String {
    let time = Estimate {
        mean: point.time_us,
        interval: None,
    };
    let (name, regret) = (&point.policy.name, point.regret.text());
    format!("{name}: regret {regret}, {} µs", time.mean_text())
}

/// Steps along the policies that no other beats in both.
fn draw_frontier(svg: &mut Svg, plot: &Plot, (x, y): (&Scale, &Scale), points: &[Point<'_>]) {
    let mut by_time: Vec<&Point<'_>> = points.iter().collect();
    by_time.sort_by(|a, b| {
        let time = a.time_us.total_cmp(&b.time_us);
        time.then(a.regret.mean.total_cmp(&b.regret.mean))
    });
    let mut steps: Vec<(f64, f64)> = Vec::new();
    let mut least = f64::INFINITY;
    for point in by_time {
        if point.regret.mean < least {
            let at = (x.clamped(point.time_us), y.clamped(point.regret.mean));
            let before = steps.last().map(|(_, height)| *height);
            steps.push((at.0, before.unwrap_or(plot.top)));
            steps.push(at);
            least = point.regret.mean;
        }
    }
    if let Some((_, height)) = steps.last().copied() {
        steps.push((plot.right, height));
    }
    svg.curve("frontier", steps);
}

/// Labels in the order of the ranks, each where it covers least.
fn draw_labels(
    svg: &mut Svg,
    plot: &Plot,
    points: &[Point<'_>],
    marks: &[(f64, f64)],
    screen: Screen,
) {
    let mut taken: Vec<Area> = marks
        .iter()
        .map(|(x, y)| Area {
            left: x - 6.0,
            top: y - 6.0,
            right: x + 6.0,
            bottom: y + 6.0,
        })
        .collect();
    for (point, mark) in points.iter().zip(marks) {
        let label = if screen == Screen::Wide {
            fit(&point.policy.name, 190.0)
        } else {
            point.rank.to_string()
        };
        let width = text_width(&label);
        let placed = candidates(*mark, width).min_by(|a, b| {
            let cost = |placed: &Placed| {
                let covered: f64 = taken.iter().map(|area| placed.area.overlap(*area)).sum();
                covered + 2.0 * placed.area.outside(plot)
            };
            // Equal costs keep the order of the candidates: the nearest comes first.
            cost(a).total_cmp(&cost(b))
        });
        let Some(placed) = placed else { continue };
        if placed.far {
            let end = (
                mark.0.clamp(placed.area.left, placed.area.right),
                mark.1.clamp(placed.area.top, placed.area.bottom),
            );
            svg.line("leader", *mark, end);
        }
        svg.text("name halo", placed.anchor, placed.at, &label);
        taken.push(placed.area);
    }
}

/// Places for a label around a mark, the nearest first.
fn candidates((x, y): (f64, f64), width: f64) -> impl Iterator<Item = Placed> {
    let rings = (0..12).map(|ring| 14.0 * f64::from(ring));
    rings.flat_map(move |ring| {
        [0.0, -1.0, 1.0]
            .into_iter()
            .filter(move |side| ring > 0.0 || *side >= 0.0)
            .flat_map(move |side: f64| {
                [Anchor::Start, Anchor::End, Anchor::Middle]
                    .into_iter()
                    .map(move |anchor| place((x, y), width, ring, side, anchor))
            })
    })
}

fn place((x, y): (f64, f64), width: f64, ring: f64, side: f64, anchor: Anchor) -> Placed {
    let across = if side.abs() > 0.0 { 8.0 } else { 9.0 + ring };
    let center_y = match anchor {
        Anchor::Middle if side > 0.0 => y + 14.0 + ring,
        Anchor::Middle => y - 14.0 - ring,
        _ => y + side * ring,
    };
    let (at_x, left) = match anchor {
        Anchor::Start => (x + across, x + across),
        Anchor::End => (x - across, x - across - width),
        Anchor::Middle => (x, x - width / 2.0),
    };
    Placed {
        anchor,
        at: (at_x, center_y + 4.0),
        area: Area {
            left: left - 2.0,
            top: center_y - 7.0,
            right: left + width + 2.0,
            bottom: center_y + 7.0,
        },
        far: ring > 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_measure_what_they_share() {
        let area = |left, top, right, bottom| Area {
            left,
            top,
            right,
            bottom,
        };
        let first = area(0.0, 0.0, 10.0, 10.0);
        // 4 by 5 pixels are shared.
        let shared = first.overlap(area(6.0, 5.0, 20.0, 20.0));
        assert!((shared - 20.0).abs() < 1e-9);
        assert!(first.overlap(area(11.0, 0.0, 12.0, 10.0)).abs() < 1e-9);
    }
}
