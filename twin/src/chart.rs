//! Charts as SVG, for pages that stand alone: scales, axes, a writer of shapes, and the panels of a
//! run over time.
//!
//! Colors and fonts are those of the [`STYLE`] sheet, in light, in dark and on paper; where a chart
//! needs the room of a desk it is drawn twice, wide and narrow for a phone, and the sheet shows one
//! of them.
//! Left out: scripts, and charts of anything but lines, areas, bars, arcs and marks.

pub mod axis;
pub mod scale;
pub mod svg;
pub mod timeline;

/// The style sheet of every page.
pub const STYLE: &str = include_str!("chart/style.css");

/// On which screens a drawing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// On every one.
    Any,
    /// On a desk and on paper.
    Wide,
    /// On a phone.
    Narrow,
}

impl Screen {
    /// The classes of the drawing: the style sheet shows it on these screens.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Any => "figure",
            Self::Wide => "figure wide",
            Self::Narrow => "figure narrow",
        }
    }
}
