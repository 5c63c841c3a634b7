//! The figures of the report, each a drawing of its own.
//!
//! Where a figure needs the room of a desk, it is drawn twice: wide, and narrow for a phone; the
//! style sheet shows one of them.

mod dots;
mod frontier;
mod training;

pub(crate) use dots::{forest, qos};
pub(crate) use frontier::frontier;
pub(crate) use training::training;
pub(crate) use twin::chart::Screen;
pub(crate) use twin::chart::timeline::{intervals_per_point, timeline};

use super::svg::Shape;
use crate::policies::Role;

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
