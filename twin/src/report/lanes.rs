//! Lanes of hosts over time: what they were, how busy they were, and migrations between them.

use super::{Contents, Lanes, Migration, Watching};
use crate::chart::Screen;
use crate::chart::axis::Plot;
use crate::chart::scale::Scale;
use crate::chart::svg::{Anchor, Svg, text_width};
use crate::chart::timeline::time_unit;
use crate::host::Lifecycle;
use crate::ids::HostId;

/// Levels of utilization that are told apart by their shade.
const LEVELS: usize = 10;
/// A stretch that is narrower than this, in pixels, is left out.
const NARROWEST: f64 = 0.3;
/// Room between lanes, in pixels.
const GAP: f64 = 1.5;
/// The most migrations that are drawn, the first ones.
const ARCS: usize = 2_000;

/// A rectangle: corner and size.
type Cell = ((f64, f64), (f64, f64));

/// The lanes of a run.
#[must_use]
pub fn draw(contents: &Contents<'_>, id: &str, screen: Screen) -> String {
    let lanes = &contents.watching.lanes;
    let wide = screen != Screen::Narrow;
    let width = if wide { 900.0 } else { 400.0 };
    let room = if wide { 170.0 } else { 104.0 };
    let height = lane_height(lanes);
    let labels = labels(contents, height);
    let left = labels
        .iter()
        .map(|(_, text)| text_width(text))
        .fold(0.0, f64::max)
        .min(room)
        + 12.0;
    let plot = Plot {
        left,
        top: 6.0,
        right: width - 14.0,
        bottom: 6.0 + height * lanes.names.len() as f64,
    };
    let end_s = contents.qos.duration_s.max(1e-9);
    let (unit, seconds) = time_unit(end_s);
    let ticks = if wide { 10.0 } else { 5.0 };
    let x = Scale::exact((0.0, end_s / seconds), plot.across(), ticks);
    let at = |time_s: f64| x.clamped(time_s / seconds);
    let mut svg = Svg::new(width, plot.bottom + 42.0);
    plot.draw_x_axis(&mut svg, &x, &format!("Time, {unit}"));
    let row = Row {
        top: plot.top,
        height,
    };
    for (lane, text) in &labels {
        let y = row.top_of(*lane) + (height - GAP).min(14.0) / 2.0 + 4.0;
        let room = left - 12.0;
        svg.label("name", Anchor::End, (left - 8.0, y), text, room);
        if (height < 12.0 || !lanes.single()) && *lane > 0 {
            let y = row.top_of(*lane) - GAP / 2.0;
            svg.line("axis", (plot.left, y), (plot.right, y));
        }
    }
    if lanes.single() {
        draw_hosts(&mut svg, contents, &row, &at, end_s);
    } else {
        draw_groups(&mut svg, contents.watching, &row, &at, end_s);
    }
    draw_heat(&mut svg, contents.watching, &row, &at, end_s);
    draw_migrations(&mut svg, contents, &row, &at);
    let what = if lanes.single() {
        "One lane a host"
    } else {
        "One lane for the hosts of a size at a site, stacked"
    };
    let description =
        format!("{what}: booting, on with a shade for its utilization, draining, or off (empty).");
    svg.finish(id, screen.class(), "Hosts over time", &description)
}

/// Where lanes lie.
struct Row {
    top: f64,
    height: f64,
}

impl Row {
    fn top_of(&self, lane: usize) -> f64 {
        self.top + self.height * lane as f64
    }

    /// Height of what is drawn in a lane.
    fn inner(&self) -> f64 {
        self.height - GAP
    }

    fn middle_of(&self, lane: usize) -> f64 {
        self.top_of(lane) + self.inner() / 2.0
    }
}

fn lane_height(lanes: &Lanes) -> f64 {
    match lanes.names.len() {
        _ if !lanes.single() => 44.0,
        0..=48 => 15.5,
        49..=100 => 9.5,
        _ => 6.5,
    }
}

/// Lanes that are named: all of them, or the first of each size and site where lanes are thin.
fn labels(contents: &Contents<'_>, height: f64) -> Vec<(usize, String)> {
    let lanes = &contents.watching.lanes;
    if !lanes.single() {
        let names = lanes.names.iter().zip(&lanes.hosts);
        return names
            .map(|(name, hosts)| format!("{hosts} × {name}"))
            .enumerate()
            .collect();
    }
    if height >= 12.0 {
        return lanes.names.iter().cloned().enumerate().collect();
    }
    let world = contents.world;
    (0..lanes.names.len())
        .filter(|&i| i == 0 || lanes.kinds[i] != lanes.kinds[i - 1])
        .map(|i| {
            let (size, site) = lanes.kinds[i];
            let same = lanes.kinds[i..]
                .iter()
                .take_while(|k| **k == lanes.kinds[i]);
            let (size, site) = (&world.sizes[size].name, &world.sites[site].name);
            (i, format!("{} × {size} {site}", same.count()))
        })
        .collect()
}

fn class(lifecycle: Lifecycle) -> Option<&'static str> {
    match lifecycle {
        Lifecycle::Off => None,
        Lifecycle::Booting { .. } => Some("host booting"),
        Lifecycle::On => Some("host on"),
        Lifecycle::Draining => Some("host draining"),
    }
}

/// A bar for each stretch in which a host was one thing.
fn draw_hosts(
    svg: &mut Svg,
    contents: &Contents<'_>,
    row: &Row,
    at: &impl Fn(f64) -> f64,
    end_s: f64,
) {
    for lane in 0..contents.watching.lanes.names.len() {
        let name = &contents.watching.lanes.names[lane];
        for span in contents.lives.spans(HostId::at(lane), end_s) {
            let (left, right) = (at(span.start_s), at(span.end_s));
            let Some(class) = class(span.lifecycle) else {
                continue;
            };
            if right - left < NARROWEST {
                continue;
            }
            let state = class.rsplit(' ').next().unwrap_or_default();
            let tooltip = format!(
                "{name}: {state} from {:.1} s to {:.1} s",
                span.start_s, span.end_s
            );
            let size = (right - left, row.inner());
            svg.tipped_rect(class, (left, row.top_of(lane)), size, &tooltip);
        }
    }
}

/// Stacked bars of how many hosts of a lane were what.
fn draw_groups(
    svg: &mut Svg,
    watching: &Watching,
    row: &Row,
    at: &impl Fn(f64) -> f64,
    end_s: f64,
) {
    for lane in 0..watching.lanes.names.len() {
        let mut cells: [Vec<Cell>; 3] = Default::default();
        for (i, column) in watching.columns.iter().enumerate() {
            let (left, right) = edges(watching, i, at, end_s);
            let counts = column.lanes[lane];
            let mut bottom = row.top_of(lane) + row.inner();
            for (count, cells) in [counts.on, counts.draining, counts.booting]
                .into_iter()
                .zip(&mut cells)
            {
                let height = row.inner() * count / watching.lanes.hosts[lane] as f64;
                bottom -= height;
                if height > 0.05 {
                    cells.push(((left, bottom), (right - left, height)));
                }
            }
        }
        for (class, cells) in ["host on", "host draining", "host booting"]
            .into_iter()
            .zip(cells)
        {
            svg.cells(class, cells);
        }
    }
}

/// From where to where column `i` reaches, in pixels.
fn edges(watching: &Watching, i: usize, at: &impl Fn(f64) -> f64, end_s: f64) -> (f64, f64) {
    let columns = &watching.columns;
    let until_s = columns.get(i + 1).map_or(end_s, |next| next.start_s);
    (at(columns[i].start_s), at(until_s))
}

/// Shades of utilization over the hosts that serve; neighbors of one shade are one shape.
fn draw_heat(svg: &mut Svg, watching: &Watching, row: &Row, at: &impl Fn(f64) -> f64, end_s: f64) {
    let mut levels: Vec<Vec<Cell>> = vec![Vec::new(); LEVELS + 1];
    for lane in 0..watching.lanes.names.len() {
        let bottom = row.top_of(lane) + row.inner();
        let mut open: Option<(usize, Cell)> = None;
        for (i, column) in watching.columns.iter().enumerate() {
            let (left, right) = edges(watching, i, at, end_s);
            let counts = column.lanes[lane];
            let serving = (counts.on + counts.draining) / watching.lanes.hosts[lane] as f64;
            let height = row.inner() * serving;
            let level = level(counts.utilization());
            let top = bottom - height;
            match &mut open {
                // Equal neighbors were computed in the same way: their tops are equal to the bit.
                Some((last, cell)) if *last == level && (cell.0.1 - top).abs() < 0.05 => {
                    cell.1.0 = right - cell.0.0;
                }
                _ => {
                    if let Some((last, cell)) = open.take() {
                        levels[last].push(cell);
                    }
                    open = Some((level, ((left, top), (right - left, height))));
                }
            }
        }
        if let Some((last, cell)) = open {
            levels[last].push(cell);
        }
    }
    for (level, cells) in levels.into_iter().enumerate().skip(1) {
        svg.cells(&format!("heat heat-{level}"), cells);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the product lies between zero and the number of levels"
)]
fn level(utilization: f64) -> usize {
    (utilization.clamp(0.0, 1.0) * LEVELS as f64).ceil() as usize
}

fn draw_migrations(svg: &mut Svg, contents: &Contents<'_>, row: &Row, at: &impl Fn(f64) -> f64) {
    let lanes = &contents.watching.lanes;
    let name = |host: HostId| &contents.world.hosts[host.index()].name;
    for migration in contents.migrations.iter().take(ARCS) {
        let Migration {
            start_s,
            end_s,
            from,
            to,
            outcome,
        } = *migration;
        let middle = |host: HostId| row.middle_of(lanes.of[host.index()]);
        let tooltip = format!(
            "{} to {}, {start_s:.1} s to {end_s:.1} s: {}",
            name(from),
            name(to),
            outcome.name()
        );
        let class = format!("migration {}", outcome.name());
        let ends = ((at(start_s), middle(from)), (at(end_s), middle(to)));
        svg.arc(&class, ends.0, ends.1, &tooltip);
        // The dot tells where it goes to.
        svg.dot(&format!("end {}", outcome.name()), ends.1, 2.8);
    }
}
