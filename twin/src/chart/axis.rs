//! Axes around a plot: grid lines, labels at round numbers, titles with units.

use super::scale::Scale;
use super::svg::{Anchor, Svg, text_width};

/// The rectangle in which values are drawn, in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Plot {
    /// Its left edge.
    pub left: f64,
    /// Its top edge.
    pub top: f64,
    /// Its right edge.
    pub right: f64,
    /// Its bottom edge.
    pub bottom: f64,
}

impl Plot {
    /// From left to right.
    pub fn across(&self) -> (f64, f64) {
        (self.left, self.right)
    }

    /// From bottom to top, since values grow upwards.
    pub fn upward(&self) -> (f64, f64) {
        (self.bottom, self.top)
    }

    /// A vertical grid line for each tick.
    pub fn draw_x_grid(&self, svg: &mut Svg, scale: &Scale) {
        for tick in scale.ticks() {
            let x = scale.at(tick.value);
            svg.line("grid", (x, self.top), (x, self.bottom));
        }
        svg.line("axis", (self.left, self.bottom), (self.right, self.bottom));
    }

    /// The grid, a label below it for each tick, and a title below them.
    pub fn draw_x_axis(&self, svg: &mut Svg, scale: &Scale, title: &str) {
        self.draw_x_grid(svg, scale);
        for tick in scale.ticks() {
            let at = (scale.at(tick.value), self.bottom + 16.0);
            svg.text("tick", Anchor::Middle, at, &tick.label);
        }
        // A title that is wider than the plot grows to the left, where the names are.
        let middle =
            f64::midpoint(self.left, self.right).min(self.right + 10.0 - text_width(title) / 2.0);
        svg.text("title", Anchor::Middle, (middle, self.bottom + 34.0), title);
    }

    /// A horizontal grid line and a label left of it for each tick.
    pub fn draw_y_axis(&self, svg: &mut Svg, scale: &Scale) {
        for tick in scale.ticks() {
            let y = scale.at(tick.value);
            svg.line("grid", (self.left, y), (self.right, y));
            svg.text("tick", Anchor::End, (self.left - 6.0, y + 4.0), &tick.label);
        }
        svg.line("axis", (self.left, self.top), (self.left, self.bottom));
    }
}
