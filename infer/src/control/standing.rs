//! Where a host stands: what is observed, corrected by what is known to be under way.
//!
//! Resource Manager is eventually consistent: a VM that was started may read "deallocated" for a
//! while. An action under way, or one that has just ended, explains such a reading; only after a
//! grace time does the reading win.

use jiff::{SignedDuration, Timestamp};

use super::action::{Change, Phase};
use super::facts::Power;
use super::ledger::{Ledger, Open};
use crate::azure::{Progress, ResourceId};

/// Where a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Off, and costs nothing.
    Off,
    /// Starting.
    Booting,
    /// Runs.
    On,
    /// On its way to off.
    Draining,
    /// Off and still billed, by nobody's decision here.
    Stopped,
    /// Nobody knows.
    Unknown,
}

impl Standing {
    /// Whether it may be billed.
    #[must_use]
    pub fn may_be_billed(self) -> bool {
        self != Self::Off
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a reading may be older than what was done.
    pub grace: SignedDuration,
    /// How long an operation may take.
    pub operation: SignedDuration,
}

/// Where a VM stands that reads `power`.
#[must_use]
pub fn standing(
    power: Power,
    target: &ResourceId,
    ledger: &Ledger,
    now: Timestamp,
    timing: &Timing,
) -> Standing {
    if let Some(open) = ledger.open_on(target) {
        return match (open.plan.change, power) {
            (Change::Start, Power::Running) => Standing::On,
            (Change::Start, _) => Standing::Booting,
            (Change::Deallocate, Power::Deallocated) => Standing::Off,
            (Change::Deallocate, _) => Standing::Draining,
            (Change::Capacity { .. }, _) => plain(power),
        };
    }
    let recent = ledger
        .past_of(target)
        .filter(|past| past.succeeded && now.duration_since(past.ended_at) < timing.grace);
    match (recent.map(|past| past.change), power) {
        (Some(Change::Start), Power::Deallocated | Power::Deallocating | Power::Stopped) => {
            Standing::On
        }
        (Some(Change::Deallocate), Power::Running | Power::Starting) => Standing::Off,
        _ => plain(power),
    }
}

fn plain(power: Power) -> Standing {
    match power {
        Power::Starting => Standing::Booting,
        Power::Running => Standing::On,
        Power::Stopping | Power::Deallocating => Standing::Draining,
        Power::Stopped => Standing::Stopped,
        Power::Deallocated => Standing::Off,
        Power::Unknown => Standing::Unknown,
    }
}

/// What a poll of an operation told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Nothing: there is no operation, or it is not known any more, or nobody answered.
    Nothing,
    /// How far it is.
    Progress(Progress),
}

/// How an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Whether it was carried out.
    pub succeeded: bool,
    /// What happened, in words.
    pub detail: String,
}

/// What is seen of what an action acts upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A VM.
    Vm(Power),
    /// A scale set: how many VMs it is to have.
    Set {
        /// The capacity.
        capacity: u32,
    },
    /// It is gone.
    Gone,
    /// Nobody says.
    Nothing,
}

/// How `open` has ended, if it has.
///
/// What the operation says comes first. Where it says nothing, and where it has gone on for longer
/// than an operation may take, what is seen decides.
#[must_use]
pub fn ending(
    open: &Open,
    seen: Seen,
    told: &Told,
    now: Timestamp,
    timing: &Timing,
) -> Option<Ending> {
    let ended = |succeeded, detail: &str| {
        let detail = detail.to_owned();
        Some(Ending { succeeded, detail })
    };
    let age = now.duration_since(open.planned_at);
    match told {
        Told::Progress(Progress::Succeeded) => return ended(true, "the operation succeeded"),
        Told::Progress(Progress::Failed { code, message }) => {
            return ended(false, &format!("the operation failed: {code}: {message}"));
        }
        Told::Progress(Progress::Running { .. }) if age < timing.operation => return None,
        Told::Progress(Progress::Running { .. }) | Told::Nothing => {}
    }
    if seen == Seen::Gone {
        return ended(false, "it is gone");
    }
    match reached(open.plan.change, seen) {
        Some(Way::There) => ended(true, "seen in the state that was asked for"),
        Some(Way::OnTheWay) if age < timing.operation => None,
        _ if open.phase == Phase::Submitted && age < timing.operation => None,
        _ if age < timing.grace => None,
        _ => ended(false, "no effect was seen in time"),
    }
}

enum Way {
    There,
    OnTheWay,
}

/// How far what is seen is from what `change` asks for.
fn reached(change: Change, seen: Seen) -> Option<Way> {
    match (change, seen) {
        (Change::Start, Seen::Vm(Power::Running))
        | (Change::Deallocate, Seen::Vm(Power::Deallocated)) => Some(Way::There),
        (Change::Start, Seen::Vm(Power::Starting))
        | (Change::Deallocate, Seen::Vm(Power::Deallocating)) => Some(Way::OnTheWay),
        (Change::Capacity { to, .. }, Seen::Set { capacity }) if to == capacity => Some(Way::There),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::action::{Record, SCHEMA};
    use crate::control::ledger::tests::plan;

    const TIMING: Timing = Timing {
        grace: SignedDuration::from_secs(60),
        operation: SignedDuration::from_secs(600),
    };

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(s).expect("a time")
    }

    fn ledger(change: Change, phases: &[Phase]) -> Ledger {
        let mut ledger = Ledger::default();
        for (i, &phase) in phases.iter().enumerate() {
            let record = Record {
                schema: SCHEMA,
                seq: ledger.next_record(),
                at: at(i64::try_from(i).expect("small")),
                action: 1,
                phase,
                plan: (phase == Phase::Planned).then(|| plan("a", change)),
                operation: None,
                detail: None,
            };
            ledger.apply(&record).expect("a record");
        }
        ledger
    }

    fn stands(power: Power, ledger: &Ledger, now: i64) -> Standing {
        let target = plan("a", Change::Start).target;
        standing(power, &target, ledger, at(now), &TIMING)
    }

    #[test]
    fn a_started_vm_that_still_reads_deallocated_is_booting() {
        let open = ledger(Change::Start, &[Phase::Planned, Phase::Submitted]);
        assert_eq!(stands(Power::Deallocated, &open, 5), Standing::Booting);
        assert_eq!(stands(Power::Running, &open, 5), Standing::On);
        let ended = ledger(
            Change::Start,
            &[Phase::Planned, Phase::Submitted, Phase::Succeeded],
        );
        assert_eq!(stands(Power::Deallocated, &ended, 5), Standing::On);
        assert_eq!(stands(Power::Deallocated, &ended, 100), Standing::Off);
        let failed = ledger(Change::Start, &[Phase::Planned, Phase::Failed]);
        assert_eq!(stands(Power::Deallocated, &failed, 5), Standing::Off);
    }

    #[test]
    fn a_deallocated_vm_that_still_reads_running_is_off() {
        let open = ledger(Change::Deallocate, &[Phase::Planned]);
        assert_eq!(stands(Power::Running, &open, 5), Standing::Draining);
        let ended = ledger(Change::Deallocate, &[Phase::Planned, Phase::Succeeded]);
        assert_eq!(stands(Power::Running, &ended, 5), Standing::Off);
        assert_eq!(stands(Power::Running, &ended, 100), Standing::On);
    }

    fn ends(phases: &[Phase], power: Power, told: &Told, now: i64) -> Option<bool> {
        let ledger = ledger(Change::Start, phases);
        let target = plan("a", Change::Start).target;
        let open = ledger.open_on(&target).expect("it is under way");
        ending(open, Seen::Vm(power), told, at(now), &TIMING).map(|end| end.succeeded)
    }

    #[test]
    fn the_operation_has_the_first_word() {
        let submitted = [Phase::Planned, Phase::Submitted];
        let running = Told::Progress(Progress::Running { retry_after: None });
        assert_eq!(ends(&submitted, Power::Running, &running, 10), None);
        assert_eq!(ends(&submitted, Power::Running, &running, 700), Some(true));
        assert_eq!(
            ends(&submitted, Power::Starting, &running, 700),
            Some(false)
        );
        let failed = Told::Progress(Progress::Failed {
            code: "AllocationFailed".into(),
            message: "full".into(),
        });
        assert_eq!(ends(&submitted, Power::Starting, &failed, 10), Some(false));
    }

    #[test]
    fn a_lost_answer_is_found_by_looking() {
        for phases in [vec![Phase::Planned], vec![Phase::Planned, Phase::Unknown]] {
            let end = |power, now| ends(&phases, power, &Told::Nothing, now);
            assert_eq!(end(Power::Running, 2), Some(true));
            assert_eq!(end(Power::Starting, 100), None);
            assert_eq!(
                end(Power::Deallocated, 30),
                None,
                "it may still be on its way"
            );
            assert_eq!(end(Power::Deallocated, 61), Some(false));
        }
    }
}
