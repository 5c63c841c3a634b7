//! The state machine of one migration: what has been tried, what is reserved, where the container
//! is, and, apart from that, what came of it.
//!
//! | event | from | to |
//! |---|---|---|
//! | plan | pending | planning |
//! | prepare | planning | preparing, with memory reserved at the destination |
//! | execute | preparing | executing |
//! | resume | executing, not resumed | executing, resumed: no way back |
//! | verify | executing | verifying |
//! | complete | verifying | completed: what was reserved is the container's own |
//! | fail | planning, preparing, executing, verifying | failed |
//! | roll back | failed, with a way back | rolled back: what was reserved is returned |
//! | release | failed, without a way back | failed: what was reserved is returned |
//! | cancel | pending, planning | canceled |
//! | end | preparing, executing, verifying | ended with its container: what was reserved is returned |
//!
//! Until the container has resumed at the destination the source can go on with it, so a failure
//! costs nothing but time. A post-copy resumes while memory is still missing: from then on neither
//! end has all of it, and a failure loses the container's progress. So does the loss of the source
//! at any time. In every other migration the resume is part of completion.
//!
//! A container that does its work while it is being migrated leaves nothing to migrate: neither a
//! success nor a failure.
//!
//! A transition that is not in the table is refused and changes nothing.
//!
//! Left out: a post-copy that waits for its link to come back, and goes on.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Stage, Step};
use crate::ids::HostId;
use crate::units::Mebibytes;

/// Memory set aside at a host.
///
/// It is a token: whoever gets one from the machine owns it, and frees it or moves in, once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[must_use = "what is reserved has to be freed or used"]
pub struct Reservation {
    /// The destination.
    pub host: HostId,
    /// How much.
    pub ram: Mebibytes,
}

/// Where a migration is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Asked for.
    #[default]
    Pending,
    /// What it needs is being found out.
    Planning,
    /// Memory is reserved; image layers are fetched, and both ends agree to begin.
    Preparing {
        /// Memory at the destination.
        reservation: Reservation,
    },
    /// The container is being copied.
    Executing {
        /// Memory at the destination.
        reservation: Reservation,
        /// Whether it runs at the destination already.
        resumed: bool,
    },
    /// The restored container is being checked.
    Verifying {
        /// Memory at the destination.
        reservation: Reservation,
        /// Whether it runs at the destination already.
        resumed: bool,
    },
    /// The container is at the destination.
    Completed,
    /// Something failed.
    Failed {
        /// Memory at the destination that is to be returned.
        reservation: Option<Reservation>,
        /// Whether the container is lost: there is no way back.
        lost: bool,
    },
    /// The container is at the source, as if nothing had been tried.
    RolledBack,
    /// It was called off before anything was reserved.
    Canceled,
    /// The container ended by itself.
    Ended,
}

/// What can happen to a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// Somebody looks into it.
    Plan,
    /// Memory was reserved.
    Prepare,
    /// The copy begins.
    Execute,
    /// The container runs at the destination before its memory is there.
    Resume,
    /// Everything is at the destination.
    Verify,
    /// The container runs at the destination.
    Complete,
    /// A step failed.
    Fail,
    /// The source goes on with the container.
    RollBack,
    /// What was reserved for a lost container is returned.
    Release,
    /// It is called off.
    Cancel,
    /// The container ends by itself.
    End,
}

/// Why a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A fault that was injected from the seed.
    Injected,
    /// The destination has no room.
    NoRoom,
    /// The destination stopped working.
    DestinationLost,
    /// The source stopped working, and the container with it.
    SourceLost,
    /// The ends cannot reach each other.
    LinkLost,
}

/// What came of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The container is at the destination.
    Succeeded,
    /// It failed.
    Failed {
        /// At which step.
        step: Step,
        /// Why.
        cause: Cause,
        /// Whether the container's progress was lost, rather than only the migration's.
        lost: bool,
    },
    /// It was called off.
    Canceled,
    /// The container ended by itself before it could be moved as a whole.
    ContainerEnded,
}

/// Where the container is, as far as it exists: always at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// At the source, where it runs or is paused.
    Source,
    /// At the destination.
    Destination,
    /// Nowhere.
    Lost,
    /// Nowhere, since it has done its work.
    Ended,
}

/// Why a transition was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransitionError {
    /// The state does not allow it.
    #[error("a migration that is {state} cannot {event}: only one that is {from} can")]
    Illegal {
        /// What was to happen.
        event: Event,
        /// Where the migration is.
        state: &'static str,
        /// From where it would be possible.
        from: &'static str,
    },
    /// The container is lost.
    #[error(
        "a migration whose container is lost cannot be rolled back: release what was reserved, \
         and start the container anew"
    )]
    NoWayBack,
    /// Nothing is being carried out.
    #[error("a migration that is {state} has no order under way")]
    NoOrder {
        /// Where the migration is.
        state: &'static str,
    },
}

/// A reservation that was not taken.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{error}")]
#[must_use = "it carries the reservation, which has to be freed"]
pub struct Refused {
    /// Why.
    pub error: TransitionError,
    /// What was offered.
    pub reservation: Reservation,
}

/// One migration's state and outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    state: State,
    outcome: Option<Outcome>,
}

impl Machine {
    /// A migration that was asked for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A migration that is as far as `stage` of its protocol, with `reservation` at the destination.
    pub(super) fn at(stage: Stage, post_copy: bool, reservation: Reservation) -> Self {
        let resumed = post_copy && matches!(stage, Stage::Pull | Stage::Verify);
        let state = match stage {
            Stage::FetchImage | Stage::Handshake => State::Preparing { reservation },
            Stage::Verify => State::Verifying {
                reservation,
                resumed,
            },
            Stage::Resume if !post_copy => State::Verifying {
                reservation,
                resumed,
            },
            Stage::RollBack | Stage::Aborted { .. } => State::Failed {
                reservation: Some(reservation),
                lost: false,
            },
            _ => State::Executing {
                reservation,
                resumed,
            },
        };
        Self {
            state,
            outcome: None,
        }
    }

    /// Where it is.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What came of it, once that is settled.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Where the container is.
    #[must_use]
    pub fn location(&self) -> Location {
        match self.state {
            State::Completed
            | State::Executing { resumed: true, .. }
            | State::Verifying { resumed: true, .. } => Location::Destination,
            State::Failed { lost: true, .. } => Location::Lost,
            State::Ended => Location::Ended,
            _ => Location::Source,
        }
    }

    /// What is reserved at the destination.
    #[must_use]
    pub fn reserved(&self) -> Option<&Reservation> {
        match &self.state {
            State::Preparing { reservation }
            | State::Executing { reservation, .. }
            | State::Verifying { reservation, .. } => Some(reservation),
            State::Failed { reservation, .. } => reservation.as_ref(),
            _ => None,
        }
    }

    /// Whether nothing can happen to it any more.
    #[must_use]
    pub fn ended(&self) -> bool {
        matches!(
            self.state,
            State::Completed
                | State::RolledBack
                | State::Canceled
                | State::Ended
                | State::Failed {
                    reservation: None,
                    lost: true
                }
        )
    }

    /// Whether `event` may happen now.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if it may not.
    pub fn check(&self, event: Event) -> Result<(), TransitionError> {
        let allowed = match event {
            Event::Plan => matches!(self.state, State::Pending),
            Event::Prepare => matches!(self.state, State::Planning),
            Event::Execute => matches!(self.state, State::Preparing { .. }),
            Event::Resume => matches!(self.state, State::Executing { resumed: false, .. }),
            Event::Verify => matches!(self.state, State::Executing { .. }),
            Event::Complete => matches!(self.state, State::Verifying { .. }),
            Event::Fail => self.state.step().is_some(),
            Event::RollBack => matches!(self.state, State::Failed { lost: false, .. }),
            Event::Release => matches!(
                self.state,
                State::Failed {
                    reservation: Some(_),
                    lost: true
                }
            ),
            Event::Cancel => matches!(self.state, State::Pending | State::Planning),
            Event::End => matches!(
                self.state,
                State::Preparing { .. } | State::Executing { .. } | State::Verifying { .. }
            ),
        };
        if allowed {
            Ok(())
        } else {
            Err(self.refusal(event))
        }
    }

    /// Pending → planning.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if it is not pending.
    pub fn plan(&mut self) -> Result<(), TransitionError> {
        self.check(Event::Plan)?;
        self.state = State::Planning;
        Ok(())
    }

    /// Planning → preparing, with `reservation` at the destination.
    ///
    /// # Errors
    ///
    /// [`Refused`], which gives the reservation back, if it is not being planned.
    pub fn prepare(&mut self, reservation: Reservation) -> Result<(), Refused> {
        if let Err(error) = self.check(Event::Prepare) {
            return Err(Refused { error, reservation });
        }
        self.state = State::Preparing { reservation };
        Ok(())
    }

    /// Preparing → executing.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if it is not being prepared.
    pub fn execute(&mut self) -> Result<(), TransitionError> {
        let State::Preparing { reservation } = &self.state else {
            return Err(self.refusal(Event::Execute));
        };
        self.state = State::Executing {
            reservation: reservation.clone(),
            resumed: false,
        };
        Ok(())
    }

    /// The container runs at the destination while memory is missing: no way back from here on.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if it is not being executed, or has resumed.
    pub fn resume(&mut self) -> Result<(), TransitionError> {
        match &mut self.state {
            State::Executing { resumed, .. } if !*resumed => {
                *resumed = true;
                Ok(())
            }
            _ => Err(self.refusal(Event::Resume)),
        }
    }

    /// Executing → verifying.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if it is not being executed.
    pub fn verify(&mut self) -> Result<(), TransitionError> {
        let State::Executing {
            reservation,
            resumed,
        } = &self.state
        else {
            return Err(self.refusal(Event::Verify));
        };
        self.state = State::Verifying {
            reservation: reservation.clone(),
            resumed: *resumed,
        };
        Ok(())
    }

    /// Verifying → completed. What was reserved is handed out: it holds the container now, and what
    /// the container had at the source is to be freed.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if it is not being verified.
    pub fn complete(&mut self) -> Result<Reservation, TransitionError> {
        let State::Verifying { reservation, .. } = &self.state else {
            return Err(self.refusal(Event::Complete));
        };
        let reservation = reservation.clone();
        self.state = State::Completed;
        self.outcome = Some(Outcome::Succeeded);
        Ok(reservation)
    }

    /// A step that is under way → failed.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if no step is.
    pub fn fail(&mut self, cause: Cause) -> Result<(), TransitionError> {
        let Some(step) = self.state.step() else {
            return Err(self.refusal(Event::Fail));
        };
        let lost = self.location() == Location::Destination || cause == Cause::SourceLost;
        self.state = State::Failed {
            reservation: self.reserved().cloned(),
            lost,
        };
        self.outcome = Some(Outcome::Failed { step, cause, lost });
        Ok(())
    }

    /// Failed → rolled back. What was reserved, if anything, is handed out, to be freed.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if nothing failed, or there is no way back.
    pub fn roll_back(&mut self) -> Result<Option<Reservation>, TransitionError> {
        let State::Failed {
            reservation,
            lost: false,
        } = &self.state
        else {
            return Err(self.refusal(Event::RollBack));
        };
        let reservation = reservation.clone();
        self.state = State::RolledBack;
        Ok(reservation)
    }

    /// What was reserved for a container that is lost is handed out, to be freed.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if it is not lost, or nothing is reserved any more.
    pub fn release(&mut self) -> Result<Reservation, TransitionError> {
        let State::Failed {
            reservation,
            lost: true,
        } = &mut self.state
        else {
            return Err(self.refusal(Event::Release));
        };
        match reservation.take() {
            Some(reservation) => Ok(reservation),
            None => Err(self.refusal(Event::Release)),
        }
    }

    /// Pending or planning → canceled.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if it is beyond that.
    pub fn cancel(&mut self) -> Result<(), TransitionError> {
        self.check(Event::Cancel)?;
        self.state = State::Canceled;
        self.outcome = Some(Outcome::Canceled);
        Ok(())
    }

    /// The container ended by itself: what was reserved is handed out, to be freed.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if nothing is reserved for it.
    pub fn end(&mut self) -> Result<Reservation, TransitionError> {
        self.check(Event::End)?;
        let Some(reservation) = self.reserved().cloned() else {
            return Err(self.refusal(Event::End));
        };
        self.state = State::Ended;
        self.outcome = Some(Outcome::ContainerEnded);
        Ok(reservation)
    }

    fn refusal(&self, event: Event) -> TransitionError {
        if event == Event::RollBack && self.location() == Location::Lost {
            return TransitionError::NoWayBack;
        }
        TransitionError::Illegal {
            event,
            state: self.state.name(),
            from: event.from(),
        }
    }
}

impl State {
    /// The step that is under way, if one is.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Planning => Some(Step::Planning),
            Self::Preparing { .. } => Some(Step::Preparing),
            Self::Executing { .. } => Some(Step::Executing),
            Self::Verifying { .. } => Some(Step::Verifying),
            _ => None,
        }
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Planning => "planning",
            Self::Preparing { .. } => "preparing",
            Self::Executing { resumed: false, .. } => "executing",
            Self::Executing { resumed: true, .. } => "executing and resumed",
            Self::Verifying { .. } => "verifying",
            Self::Completed => "completed",
            Self::Failed { lost: false, .. } => "failed",
            Self::Failed {
                lost: true,
                reservation: Some(_),
            } => "failed, with its container lost",
            Self::Failed {
                lost: true,
                reservation: None,
            } => "failed, with its container lost and nothing reserved",
            Self::RolledBack => "rolled back",
            Self::Canceled => "canceled",
            Self::Ended => "ended with its container",
        }
    }
}

impl Event {
    /// All events.
    pub const ALL: [Self; 11] = [
        Self::Plan,
        Self::Prepare,
        Self::Execute,
        Self::Resume,
        Self::Verify,
        Self::Complete,
        Self::Fail,
        Self::RollBack,
        Self::Release,
        Self::Cancel,
        Self::End,
    ];

    /// The states from which it is possible.
    fn from(self) -> &'static str {
        match self {
            Self::Plan => "pending",
            Self::Prepare => "planning",
            Self::Execute => "preparing",
            Self::Resume => "executing and has not resumed",
            Self::Verify => "executing",
            Self::Complete => "verifying",
            Self::Fail => "planning, preparing, executing or verifying",
            Self::RollBack => "failed",
            Self::Release => "failed with its container lost",
            Self::Cancel => "pending or planning",
            Self::End => "preparing, executing or verifying",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plan => "be planned",
            Self::Prepare => "be prepared",
            Self::Execute => "be executed",
            Self::Resume => "resume",
            Self::Verify => "be verified",
            Self::Complete => "be completed",
            Self::Fail => "fail",
            Self::RollBack => "be rolled back",
            Self::Release => "release what was reserved",
            Self::Cancel => "be canceled",
            Self::End => "end with its container",
        })
    }
}

#[cfg(test)]
mod tests;
