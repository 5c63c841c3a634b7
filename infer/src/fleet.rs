//! The live fleet: a twin that is kept in step with telemetry, and what it makes of drift.
//!
//! A [`LiveFleet`] knows neither sockets nor clocks: it is told the fleet's own time. Everything that
//! changes it is a [`FleetInput`], a plain value, so that a fleet that was lost is rebuilt from the
//! inputs that it had accepted ([`LiveFleet::replay`]) or from a [checkpoint](LiveFleet::checkpoint)
//! and those since. Whoever keeps inputs and decisions implements [`FleetLog`].
//!
//! A decision is taken on the twin, checked, and carried out there as the deployer does in the fleet
//! ([`decide`]).
//!
//! Left out: several fleets in one service; drift is not part of a checkpoint and is learned anew.

mod decide;
pub mod drift;
mod log;
pub(crate) mod metrics;
pub mod window;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use twin::decision::Decision;
use twin::ids::{ApplicationId, RequestId};
use twin::live::{
    ClockError, Delta, DeltaError, Expectations, Fact, Live, LiveSnapshotError, Noted,
};
use twin::observation::{FleetView, Observation, ViewError};
use twin::state::Epoch;
use twin::units::SimTime;
use twin::world::World;

pub use self::decide::{Ask, Decided, decide};
use self::drift::Drift;
pub use self::log::{FleetLog, LogError, NoLog, Taken};
use self::window::Window;

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

/// Why an input is refused; the fleet is as before.
#[derive(Debug, Error)]
pub enum FleetError {
    /// The view does not fit the world or contradicts itself.
    #[error(transparent)]
    View(#[from] ViewError),
    /// A delta cannot be true of this fleet.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// The time is too far from the fleet's clock.
    #[error("now_ns: {0}")]
    Clock(#[from] ClockError),
    /// The input could not be kept.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The first input must tell the whole state.
    #[error("input {number}: there is no fleet yet; the first input must be its whole state")]
    NoFleet {
        /// Number of the input.
        number: usize,
    },
}

/// A fleet that is kept in step with telemetry.
#[derive(Clone, Debug)]
pub struct LiveFleet {
    world: Arc<World>,
    live: Live,
    drift: Drift,
    expectations: Expectations,
}

impl LiveFleet {
    /// The fleet of `world` that `view` describes.
    ///
    /// # Errors
    ///
    /// If the view does not fit the world or contradicts itself.
    pub fn put(world: &Arc<World>, view: &FleetView) -> Result<Self, FleetError> {
        let live = Live::new(world, view)?;
        Ok(Self::with(world, live))
    }

    fn with(world: &Arc<World>, live: Live) -> Self {
        Self {
            drift: Drift::new(world.hosts.len()),
            world: Arc::clone(world),
            live,
            expectations: Expectations::default(),
        }
    }

    /// The fleet that `inputs`, in order, lead to.
    ///
    /// # Errors
    ///
    /// At the first input that is refused.
    pub fn replay<'a>(
        world: &Arc<World>,
        inputs: impl IntoIterator<Item = &'a FleetInput>,
    ) -> Result<Self, FleetError> {
        let mut fleet: Option<Self> = None;
        let mut count = 0;
        for (number, input) in inputs.into_iter().enumerate() {
            count = number + 1;
            match (&mut fleet, input) {
                (_, FleetInput::Put(view)) => fleet = Some(Self::put(world, view)?),
                (Some(fleet), input) => {
                    fleet.accept(input)?;
                }
                (None, _) => return Err(FleetError::NoFleet { number }),
            }
        }
        fleet.ok_or(FleetError::NoFleet { number: count })
    }

    /// Whether `input` would be accepted.
    ///
    /// # Errors
    ///
    /// Why it would not.
    pub fn check(&self, input: &FleetInput) -> Result<(), FleetError> {
        match input {
            FleetInput::Put(view) => {
                Live::new(&self.world, view)?;
            }
            FleetInput::Observe { now, deltas } => {
                self.live.check_clock(*now)?;
                self.live.check_deltas(&self.world, *now, deltas)?;
            }
            FleetInput::Boundary { .. } | FleetInput::Apply(_) => {}
        }
        Ok(())
    }

    /// Takes `input` in; says what became of its deltas.
    ///
    /// # Errors
    ///
    /// If it is refused; nothing has changed then.
    pub fn accept(&mut self, input: &FleetInput) -> Result<Noted, FleetError> {
        match input {
            FleetInput::Put(view) => {
                *self = Self::put(&self.world, view)?;
                Ok(Noted::default())
            }
            FleetInput::Observe { now, deltas } => self.observe(*now, deltas),
            FleetInput::Boundary { next } => {
                self.live.meet_boundary(&self.world, *next);
                Ok(Noted::default())
            }
            FleetInput::Apply(decision) => {
                self.apply(decision);
                Ok(Noted::default())
            }
        }
    }

    /// Takes what `deltas` say, and moves on to `now`.
    ///
    /// # Errors
    ///
    /// If the time or a delta is refused; nothing has changed then.
    pub fn observe(&mut self, now: SimTime, deltas: &[Delta]) -> Result<Noted, FleetError> {
        self.live.check_clock(now)?;
        let noted = self.live.observe(&self.world, now, deltas)?;
        self.drift.note(&noted.facts);
        for fact in &noted.facts {
            if let Fact::Answered {
                application,
                response,
                ..
            } = *fact
            {
                let deadline = self.world.applications[application.index()].deadline;
                let window = &mut self.drift.window;
                window.answered += 1;
                window.late += u64::from(response > deadline);
                window.response_s += response.seconds();
            }
        }
        Ok(noted)
    }

    /// What the fleet showed since this was last asked.
    pub fn take_window(&mut self) -> Window {
        std::mem::take(&mut self.drift.window)
    }

    /// Carries `decision` out, which the checker has found feasible.
    pub fn apply(&mut self, decision: &Decision) {
        let expected = self.expectations.of(&self.world, &self.live, decision);
        self.drift.expect(expected);
        self.live.apply(&self.world, decision);
    }

    /// The world that it belongs to.
    #[must_use]
    pub fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// Its twin.
    #[must_use]
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Where its clock stands.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.live.now()
    }

    /// What a policy sees of it.
    #[must_use]
    pub fn observation(&self, epoch: Epoch) -> Observation<'_> {
        self.live.observation(&self.world, epoch)
    }

    /// What can be observed of it, as a plain value.
    #[must_use]
    pub fn view(&self, epoch: Epoch) -> FleetView {
        self.observation(epoch).view()
    }

    /// What a request under way asks for.
    #[must_use]
    pub fn application_of(&self, request: RequestId) -> Option<ApplicationId> {
        self.live.application_of(request)
    }

    /// How what was observed parts from what was predicted.
    #[must_use]
    pub fn drift(&self) -> &Drift {
        &self.drift
    }

    /// The twin as bytes; fleets that accepted the same inputs give the same bytes.
    #[must_use]
    pub fn checkpoint(&self) -> Vec<u8> {
        self.live.encode()
    }

    /// The fleet of a checkpoint; its drift is not known yet.
    ///
    /// # Errors
    ///
    /// If the bytes are damaged or of another world.
    pub fn restore(world: &Arc<World>, checkpoint: &[u8]) -> Result<Self, LiveSnapshotError> {
        Ok(Self::with(world, Live::decode(world, checkpoint)?))
    }
}

#[cfg(test)]
mod tests;
