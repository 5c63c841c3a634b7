//! The figures of the report, each a drawing of its own.
//!
//! Where a figure needs the room of a desk, it is drawn twice: wide, and narrow for a phone; the
//! style sheet shows one of them.

mod dots;
mod frontier;
mod timeline;
mod training;

pub(crate) use dots::{forest, qos};
pub(crate) use frontier::frontier;
pub(crate) use timeline::timeline;
pub(crate) use training::training;

use super::input::Role;
use super::svg::Shape;

/// On which screens a drawing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Screen {
    /// On every one.
    Any,
    /// On a desk and on paper.
    Wide,
    /// On a phone.
    Narrow,
}

impl Screen {
    fn class(self) -> &'static str {
        match self {
            Self::Any => "figure",
            Self::Wide => "figure wide",
            Self::Narrow => "figure narrow",
        }
    }
}

impl Role {
    /// The class that colors its marks.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Oracle => "oracle",
            Self::Heuristic => "heuristic",
        }
    }

    /// The outline of its marks.
    pub(crate) fn shape(self) -> Shape {
        match self {
            Self::Model => Shape::Diamond,
            Self::Oracle => Shape::Square,
            Self::Heuristic => Shape::Circle,
        }
    }
}
