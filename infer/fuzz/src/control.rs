//! What the control loop reads: its action log, and states of the applications.

use infer::control::action::Phase;
use infer::control::facts::Facts;
use infer::control::fleet::Fleet;
use infer::control::journal::{Entry, Journal, records};
use infer::control::ledger::Ledger;
use infer::control::mapping::{Mapping, Rule};
use infer::control::standing::Timing;
use infer::control::view::{read_document, seeing};
use jiff::{SignedDuration, Timestamp};
use twin::state::State;
use twin::units::SimTime;

use super::support::{json, named, scratch, told, world_of};

/// The action log of the control loop: looked at, opened, written on, read again.
pub(crate) fn journal(data: &[u8]) {
    let folder = scratch();
    let path = folder.path().join("actions.jsonl");
    std::fs::write(&path, data).expect("a scratch file");
    let looked = Journal::look(&path);
    let opened = Journal::open(&path);
    let mut journal = match (looked, opened) {
        (Ok(looked), Ok(opened)) => {
            assert_eq!(looked.ledger(), opened.ledger());
            opened
        }
        (Err(looked), Err(opened)) => {
            assert_eq!(looked.to_string(), opened.to_string());
            return told(&opened.to_string().chars().take(300).collect::<String>());
        }
        (looked, opened) => panic!("{looked:?} and {opened:?}"),
    };
    let all = records(&path).expect("it was read before");
    for record in &all {
        let text = json(record);
        let again = serde_json::from_slice(&text).expect("its own text");
        assert_eq!(record, &again);
    }
    let now = all.last().map_or(Timestamp::UNIX_EPOCH, |record| record.at);
    let open: Vec<u64> = journal
        .ledger()
        .open()
        .values()
        .map(|open| open.action)
        .collect();
    let ends = open
        .into_iter()
        .map(|action| Entry::new(action, Phase::Failed, "fuzz"))
        .collect();
    match journal.append(now, ends) {
        Ok(()) => {
            assert!(journal.ledger().open().is_empty(), "{:?}", journal.ledger());
            let again = Journal::look(&path).expect("its own lines");
            assert_eq!(again.ledger(), journal.ledger());
        }
        // Numbers may be at their end.
        Err(error) => told(&error.to_string()),
    }
    journal.forget(now, SignedDuration::from_secs(1));
}

/// A state of the applications as `state_url` tells it, seen with a fleet that has no VM.
pub(crate) fn state(data: &[u8]) {
    let world = world_of(data);
    let document = match read_document(world, data) {
        Ok(view) => view,
        Err(error) => return named(&error),
    };
    let facts = Facts::default();
    let mapping = Mapping::of(world, &facts, &Rule::Name, &[]);
    let now = Timestamp::UNIX_EPOCH;
    let fleet = Fleet::of(world, &facts, mapping, &Ledger::default(), now, &TIMING);
    let consistent = State::from_view(world, &document).is_ok();
    let seen = seeing(world, &facts, &fleet, Some(document), SimTime::ZERO);
    if consistent && let Err(error) = State::from_view(world, &seen.view) {
        named(&error.into());
    }
}

/// How long things take.
pub(crate) const TIMING: Timing = Timing {
    grace: SignedDuration::from_secs(60),
    operation: SignedDuration::from_secs(900),
};
