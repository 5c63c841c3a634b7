//! The state machine against its table, and against the memory of the two ends.

use proptest::prelude::*;

use super::Event::{
    Cancel, Complete, End, Execute, Fail, Plan, Prepare, Release, Resume, RollBack, Verify,
};
use super::*;

/// What the two ends hold of the container: the world against which the machine is checked.
#[derive(Clone, Debug, PartialEq)]
struct Ledger {
    /// Free memory of the destination, in MiB.
    free_mib: i64,
    reserved: u32,
    freed: u32,
    moved_in: u32,
}

const ROOM_MIB: i64 = 100;
const RAM_MIB: i64 = 40;

impl Ledger {
    fn new() -> Self {
        Self {
            free_mib: ROOM_MIB,
            reserved: 0,
            freed: 0,
            moved_in: 0,
        }
    }

    fn reserve(&mut self) -> Reservation {
        self.free_mib -= RAM_MIB;
        self.reserved += 1;
        Reservation {
            host: HostId(3),
            ram: Mebibytes(40.0),
        }
    }

    fn free(&mut self, reservation: &Reservation) {
        assert_eq!(reservation.host, HostId(3));
        self.free_mib += RAM_MIB;
        self.freed += 1;
    }

    /// Carries `event` out, if it may happen; says whether it did.
    fn carry_out(&mut self, machine: &mut Machine, event: Event, cause: Cause) -> bool {
        let done = match event {
            Event::Plan => machine.plan(),
            Event::Prepare => {
                let reservation = self.reserve();
                machine.prepare(reservation).map_err(|refused| {
                    self.free(&refused.reservation);
                    // As if it had never been asked for.
                    self.reserved -= 1;
                    self.freed -= 1;
                    refused.error
                })
            }
            Event::Execute => machine.execute(),
            Event::Resume => machine.resume(),
            Event::Verify => machine.verify(),
            Event::Complete => machine.complete().map(|_moved_in| self.moved_in += 1),
            Event::Fail => machine.fail(cause),
            Event::RollBack => machine
                .roll_back()
                .map(|r| r.iter().for_each(|r| self.free(r))),
            Event::Release => machine.release().map(|r| self.free(&r)),
            Event::Cancel => machine.cancel(),
            Event::End => machine.end().map(|r| self.free(&r)),
        };
        done.is_ok()
    }

    /// What must hold at any time.
    fn check(&self, machine: &Machine) {
        let held = u32::from(machine.reserved().is_some());
        assert!(self.reserved <= 1, "reserved once at most");
        assert_eq!(self.reserved, held + self.freed + self.moved_in, "{self:?}");
        let in_use = i64::from(held + self.moved_in);
        assert_eq!(self.free_mib, ROOM_MIB - RAM_MIB * in_use, "{self:?}");
        let expected = match machine.state() {
            State::Completed => Some((Location::Destination, 1)),
            State::RolledBack | State::Canceled => Some((Location::Source, 0)),
            State::Failed { lost: true, .. } => Some((Location::Lost, 0)),
            State::Ended => Some((Location::Ended, 0)),
            _ => None,
        };
        if let Some((location, moved_in)) = expected {
            assert_eq!((machine.location(), self.moved_in), (location, moved_in));
        }
        if machine.ended() {
            assert_eq!(held, 0, "nothing is reserved after the end");
        }
        let settled = machine.ended() || matches!(machine.state(), State::Failed { .. });
        assert_eq!(machine.outcome().is_some(), settled);
    }
}

/// The machine after `events`, all of which must be legal.
fn after(events: &[Event], cause: Cause) -> (Machine, Ledger) {
    let (mut machine, mut ledger) = (Machine::new(), Ledger::new());
    for &event in events {
        assert!(ledger.carry_out(&mut machine, event, cause), "{event:?}");
        ledger.check(&machine);
    }
    (machine, ledger)
}

/// How to reach a state, the events that are possible there, and the state's name.
const TABLE: [(&[Event], Cause, &[Event], &str); 16] = [
    (&[], Cause::Injected, &[Plan, Cancel], "pending"),
    (
        &[Plan],
        Cause::Injected,
        &[Prepare, Fail, Cancel],
        "planning",
    ),
    (
        &[Plan, Prepare],
        Cause::Injected,
        &[Execute, Fail, End],
        "preparing",
    ),
    (
        &[Plan, Prepare, Execute],
        Cause::Injected,
        &[Resume, Verify, Fail, End],
        "executing",
    ),
    (
        &[Plan, Prepare, Execute, Resume],
        Cause::Injected,
        &[Verify, Fail, End],
        "executing and resumed",
    ),
    (
        &[Plan, Prepare, Execute, Verify],
        Cause::Injected,
        &[Complete, Fail, End],
        "verifying",
    ),
    (
        &[Plan, Prepare, Execute, Resume, Verify],
        Cause::Injected,
        &[Complete, Fail, End],
        "verifying",
    ),
    (
        &[Plan, Prepare, Execute, Verify, Complete],
        Cause::Injected,
        &[],
        "completed",
    ),
    (&[Plan, Fail], Cause::Injected, &[RollBack], "failed"),
    (
        &[Plan, Prepare, Execute, Verify, Fail],
        Cause::Injected,
        &[RollBack],
        "failed",
    ),
    (
        &[Plan, Prepare, Execute, Resume, Fail],
        Cause::Injected,
        &[Release],
        "failed, with its container lost",
    ),
    (
        &[Plan, Prepare, Fail],
        Cause::SourceLost,
        &[Release],
        "failed, with its container lost",
    ),
    (
        &[Plan, Prepare, Execute, Resume, Fail, Release],
        Cause::Injected,
        &[],
        "failed, with its container lost and nothing reserved",
    ),
    (
        &[Plan, Prepare, Fail, RollBack],
        Cause::Injected,
        &[],
        "rolled back",
    ),
    (&[Plan, Cancel], Cause::Injected, &[], "canceled"),
    (
        &[Plan, Prepare, Execute, End],
        Cause::Injected,
        &[],
        "ended with its container",
    ),
];

#[test]
fn every_event_in_every_state_does_what_the_table_says() {
    for (path, cause, possible, name) in TABLE {
        let (machine, ledger) = after(path, cause);
        assert_eq!(machine.state().name(), name, "{path:?}");
        for event in Event::ALL {
            let (mut machine, mut ledger) = (machine.clone(), ledger.clone());
            let before = (machine.clone(), ledger.clone());
            let allowed = possible.contains(&event);
            assert_eq!(machine.check(event).is_ok(), allowed, "{name}: {event:?}");
            let done = ledger.carry_out(&mut machine, event, Cause::Injected);
            assert_eq!(done, allowed, "{name}: {event:?}");
            if !done {
                assert_eq!(
                    (machine.clone(), ledger.clone()),
                    before,
                    "{name}: {event:?}"
                );
            }
            ledger.check(&machine);
        }
    }
}

#[test]
fn the_outcome_says_at_which_step_and_why_and_stays() {
    let (mut machine, _) = after(&[Event::Plan, Event::Prepare], Cause::Injected);
    machine.fail(Cause::LinkLost).expect("it is under way");
    let outcome = Some(Outcome::Failed {
        step: Step::Preparing,
        cause: Cause::LinkLost,
        lost: false,
    });
    assert_eq!(machine.outcome(), outcome);
    let returned = machine.roll_back().expect("it failed");
    assert!(returned.is_some());
    assert_eq!(
        (machine.outcome(), machine.state()),
        (outcome, &State::RolledBack)
    );
}

#[test]
fn refusals_say_what_would_be_possible() {
    let mut machine = Machine::new();
    let refused = machine.complete().expect_err("it is pending");
    assert_eq!(
        refused.to_string(),
        "a migration that is pending cannot be completed: only one that is verifying can"
    );
    let path = [
        Event::Plan,
        Event::Prepare,
        Event::Execute,
        Event::Resume,
        Event::Fail,
    ];
    let (mut machine, _) = after(&path, Cause::Injected);
    let refused = machine.roll_back().expect_err("it is lost");
    assert_eq!(refused, TransitionError::NoWayBack);
}

#[test]
fn machines_survive_their_bytes() {
    let (machine, _) = after(&[Event::Plan, Event::Prepare], Cause::Injected);
    let configuration = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(&machine, configuration).expect("plain data");
    let (back, _): (Machine, usize) =
        bincode::serde::decode_from_slice(&bytes, configuration).expect("its own bytes");
    assert_eq!(back, machine);
}

proptest! {
    #![proptest_config(crate::validation::property(256, ProptestConfig::default()))]

    /// Whatever happens in whatever order: what is reserved is neither leaked nor freed twice,
    /// and the container is at one place.
    #[test]
    fn reservations_neither_leak_nor_are_freed_twice(
        events in prop::collection::vec((0..Event::ALL.len(), any::<bool>()), 0..60),
    ) {
        let (mut machine, mut ledger) = (Machine::new(), Ledger::new());
        for (event, crash) in events {
            let before = machine.clone();
            let cause = if crash { Cause::SourceLost } else { Cause::Injected };
            let event = Event::ALL[event];
            if !ledger.carry_out(&mut machine, event, cause) {
                prop_assert_eq!(&machine, &before);
            }
            if before.ended() {
                prop_assert_eq!(&machine, &before);
            }
            ledger.check(&machine);
        }
        // Whatever is still under way can be brought to its end.
        for event in [Event::Cancel, Event::Fail, Event::RollBack, Event::Release] {
            ledger.carry_out(&mut machine, event, Cause::Injected);
            ledger.check(&machine);
        }
        prop_assert!(machine.ended(), "{:?}", machine);
        prop_assert!(machine.reserved().is_none());
    }
}
