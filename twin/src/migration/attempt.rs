//! An attempt to migrate a container: the protocol and the state machine together, under faults.
//!
//! A simulator drives it by carrying out orders:
//!
//! ```text
//! Attempt::new ─► plan ─► prepare ─► Order::Carry ─► finish ─► Order::Carry ─► … ─► Order::End
//!       └────► cancel ◄─┘                 └──────► interrupt ──┘
//! ```
//!
//! At each order it moves the container to where [`Order::Carry::container`] says, and starts the
//! transfer or the delay. When that is over it calls [`Attempt::finish`]; when a host or a link
//! fails before, [`Attempt::interrupt`]. The end says what becomes of what was reserved.
//!
//! Faults are injected at the end of planning, preparing and verifying, and in executing when a
//! hashed share of the memory and the execution state has been sent: the order under which it
//! strikes demands only what is sent until then, so that whoever carries it out does not know.

use serde::{Deserialize, Serialize};

use super::machine::{Cause, Event, Machine, Outcome, Reservation, State, TransitionError};
use super::{
    Container, Demand, FaultProbabilities, Migration, Report, Spec, SpecError, Stage, Step,
};
use crate::stream;
use crate::units::{Mebibytes, MegabitsPerSecond};

/// What is to be done next.
#[must_use = "a migration waits until its order is carried out"]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Carry this out, then call [`Attempt::finish`].
    Carry {
        /// What it is for.
        stage: Stage,
        /// A transfer or a delay; never empty.
        demand: Demand,
        /// Where the container runs meanwhile.
        container: Container,
    },
    /// The attempt has ended.
    End(Ending),
}

/// How an attempt ended, and what becomes of what was reserved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The container runs at the destination: what was reserved there is its own, and what it had
    /// at the source is to be freed.
    Completed {
        /// What was reserved.
        reservation: Reservation,
    },
    /// The container runs at the source, as before.
    RolledBack {
        /// To be freed.
        reservation: Option<Reservation>,
    },
    /// The container is lost, with its progress. What it had at the source is to be freed.
    Lost {
        /// To be freed.
        reservation: Option<Reservation>,
    },
}

/// One attempt under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    machine: Machine,
    migration: Migration,
    faults: FaultProbabilities,
    key: u64,
    /// What will have been sent when executing fails, if it does.
    strikes_at: Option<Mebibytes>,
}

impl Attempt {
    /// An attempt at `spec`, pending. `key` decides what fails: derive it from the seed and the
    /// migration's number. `expected` is as in [`Migration::new`].
    ///
    /// # Errors
    ///
    /// [`SpecError`] if a number makes no sense.
    pub fn new(
        key: u64,
        spec: Spec,
        expected: MegabitsPerSecond,
        faults: FaultProbabilities,
    ) -> Result<Self, SpecError> {
        faults.check()?;
        Ok(Self {
            machine: Machine::new(),
            migration: Migration::new(spec, expected)?,
            faults,
            key,
            strikes_at: strikes_at(faults, key, spec.memory + spec.state),
        })
    }

    /// An attempt that is as far as `migration`, with `reservation` at the destination, and none of
    /// whose faults has struck while `sent` of its order under way was sent.
    ///
    /// # Errors
    ///
    /// [`SpecError`] if a number makes no sense.
    pub fn at(
        key: u64,
        migration: Migration,
        faults: FaultProbabilities,
        reservation: Reservation,
        sent: Mebibytes,
    ) -> Result<Self, SpecError> {
        faults.check()?;
        let (stage, post_copy) = (migration.stage(), migration.report().post_copy);
        let mut attempt = Self {
            machine: Machine::at(stage, post_copy, reservation),
            migration,
            faults,
            key,
            strikes_at: None,
        };
        attempt.redraw(key, sent);
        Ok(attempt)
    }

    /// The protocol: what is being done, and what it took so far.
    #[must_use]
    pub fn migration(&self) -> &Migration {
        &self.migration
    }

    /// The state machine: where the attempt is, what came of it.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What came of it, once that is settled.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.machine.outcome()
    }

    /// What it took so far, the parts of stages that failed included.
    #[must_use]
    pub fn report(&self) -> &Report {
        self.migration.report()
    }

    /// What is to be migrated, and how.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        self.migration.spec()
    }

    /// Begins to plan.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if it is not pending.
    pub fn plan(&mut self) -> Result<(), TransitionError> {
        self.machine.plan()
    }

    /// Calls it off.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if something was reserved already.
    pub fn cancel(&mut self) -> Result<(), TransitionError> {
        self.machine.cancel()
    }

    /// Ends planning, reserves memory, and begins. `reserve` is called at most once, with the
    /// container's memory, and gives nothing where there is no room.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if it is not being planned; `reserve` is not called then.
    pub fn prepare(
        &mut self,
        reserve: impl FnOnce(Mebibytes) -> Option<Reservation>,
    ) -> Result<Order, TransitionError> {
        self.machine.check(Event::Prepare)?;
        let nothing = Mebibytes(0.0);
        if self.faults.strike(self.key, Step::Planning).is_some() {
            self.fail(Cause::Injected, 0.0, nothing)?;
        } else if let Some(reservation) = reserve(self.spec().memory) {
            self.machine
                .prepare(reservation)
                .map_err(|refused| refused.error)?;
        } else {
            self.fail(Cause::NoRoom, 0.0, nothing)?;
        }
        self.proceed()
    }

    /// The order under way was carried out in `elapsed_s` seconds.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if no order is under way.
    pub fn finish(&mut self, elapsed_s: f64) -> Result<Order, TransitionError> {
        self.check_under_way()?;
        self.pass(elapsed_s)?;
        self.proceed()
    }

    /// The order under way failed after `elapsed_s` seconds, with so much of its transfer `sent`.
    ///
    /// Rolling back is then over at once: the container is at the source, and shares its fate.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if no order is under way.
    pub fn interrupt(
        &mut self,
        cause: Cause,
        elapsed_s: f64,
        sent: Mebibytes,
    ) -> Result<Order, TransitionError> {
        self.check_under_way()?;
        if self.migration.stage() == Stage::RollBack {
            self.migration.finish(elapsed_s);
        } else {
            self.fail(cause, elapsed_s, sent)?;
        }
        self.proceed()
    }

    /// The container ended by itself, `elapsed_s` seconds into the order under way, with so much of
    /// its transfer `sent`. What was reserved is to be freed.
    ///
    /// # Errors
    ///
    /// [`TransitionError`] if nothing is reserved for it, or it is being rolled back.
    pub fn end_early(
        &mut self,
        elapsed_s: f64,
        sent: Mebibytes,
    ) -> Result<Reservation, TransitionError> {
        let reservation = self.machine.end()?;
        self.migration.abort(elapsed_s, sent, false);
        Ok(reservation)
    }

    /// This attempt with its faults drawn anew by `key`, given that none has struck while `sent` of
    /// the order under way was sent.
    pub fn redraw(&mut self, key: u64, sent: Mebibytes) {
        let sent = self.report().sent + sent;
        let whole = self.spec().memory + self.spec().state;
        // The first key under which nothing would have struck yet; there may be none.
        for part in 0..REDRAWS {
            self.key = stream::mix(key, part);
            self.strikes_at = strikes_at(self.faults, self.key, whole);
            if self.strikes_at.is_none_or(|at| at > sent) {
                return;
            }
        }
        self.strikes_at = None;
    }

    /// What the order under way demands; nothing if none is.
    #[must_use]
    pub fn demand(&self) -> Demand {
        if self.check_under_way().is_err() {
            return Demand::Nothing;
        }
        match (self.migration.demand(), self.fault()) {
            (Demand::Transfer(_), Some(sent)) => Demand::Transfer(sent),
            (demand, _) => demand,
        }
    }

    fn check_under_way(&self) -> Result<(), TransitionError> {
        let carries = match self.machine.state() {
            State::Preparing { .. } | State::Executing { .. } | State::Verifying { .. } => true,
            _ => self.migration.stage() == Stage::RollBack,
        };
        if carries {
            Ok(())
        } else {
            Err(TransitionError::NoOrder {
                state: self.machine.state().name(),
            })
        }
    }

    /// The order for this stage, or for the first after it that takes anything, or the end.
    fn proceed(&mut self) -> Result<Order, TransitionError> {
        loop {
            if let Some(ending) = self.end()? {
                return Ok(Order::End(ending));
            }
            let demand = self.demand();
            if !demand.is_empty() {
                return Ok(Order::Carry {
                    stage: self.migration.stage(),
                    demand,
                    container: self.migration.container(),
                });
            }
            self.pass(0.0)?;
        }
    }

    /// Ends the stage, as it was to end or with the fault that strikes in it.
    fn pass(&mut self, elapsed_s: f64) -> Result<(), TransitionError> {
        if let Some(sent) = self.fault() {
            return self.fail(Cause::Injected, elapsed_s, sent);
        }
        let stage = self.migration.stage();
        self.migration.finish(elapsed_s);
        let post_copy = self.report().post_copy;
        match stage {
            Stage::Handshake => self.machine.execute(),
            Stage::Resume if post_copy => self.machine.resume(),
            Stage::Restore if !post_copy => self.machine.verify(),
            Stage::Pull => self.machine.verify(),
            _ => Ok(()),
        }
    }

    /// What this stage will have sent when a fault strikes in it, if one does.
    fn fault(&self) -> Option<Mebibytes> {
        let strikes = |step| self.faults.strike(self.key, step).is_some();
        let executing = matches!(self.machine.state(), State::Executing { .. });
        match (self.migration.stage(), self.migration.demand()) {
            (Stage::Handshake, _) if strikes(Step::Preparing) => Some(Mebibytes(0.0)),
            (Stage::Verify, _) if strikes(Step::Verifying) => Some(Mebibytes(0.0)),
            (_, Demand::Transfer(demanded)) if executing => {
                let sent = self.report().sent;
                self.strikes_at
                    .filter(|&at| sent + demanded >= at)
                    .map(|at| at - sent)
            }
            _ => None,
        }
    }

    fn fail(
        &mut self,
        cause: Cause,
        elapsed_s: f64,
        sent: Mebibytes,
    ) -> Result<(), TransitionError> {
        self.machine.fail(cause)?;
        let source_lost = cause == Cause::SourceLost;
        self.migration.abort(elapsed_s, sent, source_lost);
        Ok(())
    }

    /// Settles what was reserved, if the migration has ended.
    fn end(&mut self) -> Result<Option<Ending>, TransitionError> {
        Ok(match self.migration.stage() {
            Stage::Done => Some(Ending::Completed {
                reservation: self.machine.complete()?,
            }),
            Stage::Aborted { lost: false } => Some(Ending::RolledBack {
                reservation: self.machine.roll_back()?,
            }),
            Stage::Aborted { lost: true } => Some(Ending::Lost {
                reservation: match self.machine.reserved() {
                    Some(_) => Some(self.machine.release()?),
                    None => None,
                },
            }),
            _ => None,
        })
    }
}

/// How often faults are drawn anew until they agree with what has happened.
const REDRAWS: u64 = 64;

/// What will have been sent of the `whole` when executing fails, if it does.
fn strikes_at(faults: FaultProbabilities, key: u64, whole: Mebibytes) -> Option<Mebibytes> {
    faults
        .strike(key, Step::Executing)
        .map(|share| Mebibytes(share * whole.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::HostId;
    use crate::migration::{Location, StopRules, Strategy};
    use crate::units::{Ratio, SimTime};

    /// 10 MiB/s.
    const BANDWIDTH: MegabitsPerSecond = MegabitsPerSecond(83.886_08);

    fn spec(strategy: Strategy) -> Spec {
        let second = SimTime::from_seconds(1.0);
        Spec {
            image: Mebibytes(20.0),
            rtt: second,
            dump: second,
            restore: second,
            verify: second,
            resume: second,
            ..Spec::new(strategy, Mebibytes(100.0))
        }
    }

    fn strategies() -> [Strategy; 4] {
        let rules = StopRules::default();
        [
            Strategy::StopAndCopy,
            Strategy::PreCopy(rules),
            Strategy::PostCopy,
            Strategy::Hybrid(rules),
        ]
    }

    fn faults(step: Option<Step>) -> FaultProbabilities {
        let of = |s| Ratio(f64::from(u8::from(step == Some(s))));
        FaultProbabilities {
            planning: of(Step::Planning),
            preparing: of(Step::Preparing),
            executing: of(Step::Executing),
            verifying: of(Step::Verifying),
        }
    }

    fn reservation(ram: Mebibytes) -> Option<Reservation> {
        Some(Reservation {
            host: HostId(1),
            ram,
        })
    }

    /// Carries out what is ordered, at 10 MiB/s, until `stop` or the end.
    fn drive(attempt: &mut Attempt, stop: impl Fn(Stage) -> bool) -> Order {
        attempt.plan().expect("it is pending");
        let mut order = attempt.prepare(reservation).expect("it is planned");
        while let Order::Carry { stage, demand, .. } = order {
            assert!(!demand.is_empty(), "{stage:?}");
            if stop(stage) {
                break;
            }
            let elapsed_s = match demand {
                Demand::Transfer(Mebibytes(mib)) => mib / 10.0,
                Demand::Delay(span) => span.seconds(),
                Demand::Nothing => 0.0,
            };
            order = attempt.finish(elapsed_s).expect("an order is under way");
        }
        order
    }

    fn attempt(key: u64, strategy: Strategy, step: Option<Step>) -> Attempt {
        Attempt::new(key, spec(strategy), BANDWIDTH, faults(step)).expect("it makes sense")
    }

    impl Order {
        fn expect_carry(&self) {
            assert!(matches!(self, Self::Carry { .. }), "{self:?}");
        }

        fn expect_rolled_back(&self) {
            assert!(
                matches!(self, Self::End(Ending::RolledBack { .. })),
                "{self:?}"
            );
        }
    }

    #[test]
    fn without_faults_it_takes_what_the_protocol_takes() {
        for strategy in strategies() {
            let mut attempt = attempt(7, strategy, None);
            let end = drive(&mut attempt, |_| false);
            let Order::End(Ending::Completed { reservation: got }) = end else {
                panic!("{strategy:?}: {end:?}");
            };
            assert_eq!(Some(got), reservation(Mebibytes(100.0)));
            assert_eq!(attempt.outcome(), Some(Outcome::Succeeded));
            assert_eq!(attempt.machine().location(), Location::Destination);
            let expected = Migration::run_at(spec(strategy), BANDWIDTH).expect("it makes sense");
            let report = attempt.report();
            assert!(
                (report.total_s - expected.total_s).abs() < 1e-9,
                "{strategy:?}"
            );
            assert!((report.downtime_s - expected.downtime_s).abs() < 1e-9);
            assert_eq!(report.pre_copy_end, expected.pre_copy_end);
        }
    }

    #[test]
    fn a_fault_at_each_step_gives_back_what_was_reserved_and_loses_only_what_has_resumed() {
        for strategy in strategies() {
            for step in Step::ALL {
                let mut attempt = attempt(7, strategy, Some(step));
                let end = drive(&mut attempt, |_| false);
                // With the key 7 the copy fails while memory is sent: in the pull of a post-copy.
                let resumed = strategy == Strategy::PostCopy && step >= Step::Executing;
                let expected = if resumed {
                    Ending::Lost {
                        reservation: reservation(Mebibytes(100.0)),
                    }
                } else {
                    let reserved = step > Step::Planning;
                    let reservation = reservation(Mebibytes(100.0)).filter(|_| reserved);
                    Ending::RolledBack { reservation }
                };
                assert_eq!(end, Order::End(expected), "{strategy:?}, {step:?}");
                let outcome = Outcome::Failed {
                    step,
                    cause: Cause::Injected,
                    lost: resumed,
                };
                assert_eq!(attempt.outcome(), Some(outcome), "{strategy:?}");
                assert!(attempt.machine().ended());
                let late = attempt.finish(1.0).expect_err("it has ended");
                assert!(late.to_string().contains("no order under way"), "{late}");
            }
        }
    }

    /// Image 20 MiB in 2 s, handshake 1 s, dump 1 s; the copy fails when a share u of 100 MiB is
    /// sent, after 10 u s; the source resumes in 1 s.
    #[test]
    fn a_copy_that_fails_costs_what_was_done_and_the_way_back() {
        for key in 0..20 {
            let share = faults(Some(Step::Executing))
                .strike(key, Step::Executing)
                .expect("it is certain");
            let mut attempt = attempt(key, Strategy::StopAndCopy, Some(Step::Executing));
            drive(&mut attempt, |_| false).expect_rolled_back();
            let report = attempt.report();
            assert!((report.sent.0 - 100.0 * share).abs() < 1e-9);
            assert!((report.fetched.0 - 20.0).abs() < 1e-9);
            assert!((report.downtime_s - (1.0 + 10.0 * share + 1.0)).abs() < 1e-9);
            assert!((report.total_s - (3.0 + report.downtime_s)).abs() < 1e-9);
        }
    }

    #[test]
    fn an_interrupted_round_leaves_the_container_running_at_the_source() {
        let mut attempt = attempt(7, strategies()[1], None);
        let order = drive(&mut attempt, |stage| stage == Stage::Round { number: 1 });
        assert!(matches!(
            order,
            Order::Carry {
                container: Container::AtSource,
                ..
            }
        ));
        let end = attempt
            .interrupt(Cause::DestinationLost, 4.0, Mebibytes(40.0))
            .expect("an order is under way");
        end.expect_rolled_back();
        // Image 2 s, handshake 1 s, 4 s of the round; the container was never paused.
        assert!((attempt.report().total_s - 7.0).abs() < 1e-9);
        assert!(attempt.report().downtime_s < 1e-12);
        assert!((attempt.report().sent.0 - 40.0).abs() < 1e-9);
        assert_eq!(attempt.machine().location(), Location::Source);
    }

    #[test]
    fn an_interrupted_roll_back_is_over_at_once() {
        let mut attempt = attempt(7, Strategy::StopAndCopy, Some(Step::Executing));
        let order = drive(&mut attempt, |stage| stage == Stage::RollBack);
        assert!(matches!(order, Order::Carry { .. }));
        let end = attempt
            .interrupt(Cause::SourceLost, 0.5, Mebibytes(0.0))
            .expect("an order is under way");
        end.expect_rolled_back();
    }

    #[test]
    fn a_lost_source_loses_the_container_at_any_stage() {
        for strategy in strategies() {
            for stop in [Stage::FetchImage, Stage::Dump, Stage::Restore] {
                let mut attempt = attempt(7, strategy, None);
                let order = drive(&mut attempt, |stage| stage == stop);
                assert!(matches!(order, Order::Carry { .. }));
                let end = attempt
                    .interrupt(Cause::SourceLost, 0.5, Mebibytes(0.0))
                    .expect("an order is under way");
                let reservation = reservation(Mebibytes(100.0));
                assert_eq!(end, Order::End(Ending::Lost { reservation }));
                assert_eq!(attempt.machine().location(), Location::Lost);
            }
        }
    }

    #[test]
    fn without_room_nothing_was_reserved_and_nothing_happens() {
        let mut attempt = attempt(7, Strategy::PostCopy, None);
        assert!(attempt.prepare(|_| panic!("it is not planned")).is_err());
        attempt.plan().expect("it is pending");
        let end = attempt.prepare(|_| None).expect("it is planned");
        assert_eq!(end, Order::End(Ending::RolledBack { reservation: None }));
        assert!(attempt.report().total_s <= 0.0);
    }

    #[test]
    fn it_is_called_off_only_before_anything_is_reserved() {
        let mut planned = attempt(7, Strategy::StopAndCopy, None);
        planned.plan().expect("it is pending");
        planned.cancel().expect("nothing is reserved");
        assert_eq!(planned.outcome(), Some(Outcome::Canceled));
        let mut begun = attempt(7, Strategy::StopAndCopy, None);
        drive(&mut begun, |_| true).expect_carry();
        assert!(begun.cancel().is_err());
    }

    #[test]
    fn attempts_survive_their_bytes() {
        let mut attempt = attempt(7, strategies()[3], None);
        drive(&mut attempt, |stage| stage == Stage::Restore).expect_carry();
        let configuration = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(&attempt, configuration).expect("plain data");
        let (back, _): (Attempt, usize) =
            bincode::serde::decode_from_slice(&bytes, configuration).expect("its own bytes");
        assert_eq!(back, attempt);
        // No heap: what a migration takes is what its type takes.
        assert!(size_of::<Attempt>() <= 400, "{}", size_of::<Attempt>());
    }
}
