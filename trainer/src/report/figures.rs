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
pub(crate) use timeline::{intervals_per_point, timeline};
pub(crate) use training::training;

use super::svg::Shape;
use crate::policies::Role;

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

/// The class that colors the marks of a role.
pub(crate) fn class(role: Role) -> &'static str {
    match role {
        Role::Model => "model",
        Role::Oracle => "oracle",
        Role::Rollout => "rollout",
        Role::Heuristic => "heuristic",
    }
}

/// The outline of the marks of a role.
fn shape(role: Role) -> Shape {
    match role {
        Role::Model => Shape::Diamond,
        Role::Oracle => Shape::Square,
        Role::Rollout => Shape::Triangle,
        Role::Heuristic => Shape::Circle,
    }
}
