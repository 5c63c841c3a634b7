//! What changes a live twin, as a plain value that can be kept and replayed.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{ClockError, Delta, DeltaError, Live, Noted};
use crate::decision::Decision;
use crate::observation::{FleetView, ViewError};
use crate::units::SimTime;
use crate::world::World;

/// Something that changes a fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FleetInput {
    /// The whole state is as this view says; what was known before is forgotten.
    Put(Box<FleetView>),
    /// This happened, and it is now this late.
    Observe {
        /// The time of the message.
        now: SimTime,
        /// What happened.
        deltas: Vec<Delta>,
    },
    /// An interval boundary: everything may be decided.
    Boundary {
        /// The next one; an interval from now if `None`.
        next: Option<SimTime>,
    },
    /// This was decided, and is carried out.
    Apply(Decision),
}

/// Why an input is refused; the twin is as before.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InputError {
    /// The view does not fit the world or contradicts itself.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A delta cannot be true of this fleet.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// The time is too far from the fleet's clock.
    #[error("now_ns: {0}")]
    Clock(#[from] ClockError),
}

impl Live {
    /// Takes `input` in; says what became of its deltas. Twins that took the same inputs in give
    /// the same bytes.
    ///
    /// # Errors
    ///
    /// If it is refused; nothing has changed then.
    pub fn accept(&mut self, world: &World, input: &FleetInput) -> Result<Noted, InputError> {
        match input {
            FleetInput::Put(view) => *self = Self::new(world, view)?,
            FleetInput::Observe { now, deltas } => {
                self.check_clock(*now)?;
                return Ok(self.observe(world, *now, deltas)?);
            }
            FleetInput::Boundary { next } => self.meet_boundary(world, *next),
            FleetInput::Apply(decision) => self.apply(world, decision),
        }
        Ok(Noted::default())
    }
}
