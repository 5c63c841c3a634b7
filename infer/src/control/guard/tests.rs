use proptest::prelude::*;

use super::*;
use crate::control::action::{Phase, Record, SCHEMA};
use crate::control::facts::{Facts, Power};
use crate::control::ledger::tests::plan;
use crate::control::reconcile::{Wishes, proposals};
use crate::control::test_fleet::{decision, fleet, fleet_of, set_powers, small};

fn at(s: i64) -> Timestamp {
    Timestamp::from_second(s).expect("a time")
}

fn facts(powers: &[Power]) -> Facts {
    let world = small();
    let mut facts = fleet(&world);
    set_powers(&world, &mut facts, powers);
    facts
}

/// What the guardrails say to a decision, by host: the name of the rail, or "act".
fn judged(
    rails: &Guardrails,
    powers: [Power; 3],
    decided: &[(u32, bool)],
    ledger: &Ledger,
    freeze: Option<&Freeze>,
) -> Vec<&'static str> {
    let world = small();
    let facts = facts(&powers);
    let fleet = fleet_of(&world, &facts);
    let wishes = Wishes::of(&fleet, &decision(decided), 0);
    let (list, _) = proposals(&world, &facts, &fleet, &wishes);
    let situation = Situation {
        now: at(1_000),
        interval: SignedDuration::from_secs(60),
        fleet: &fleet,
        ledger,
        freeze,
    };
    let judged = rails.judge(&situation, list);
    judged
        .iter()
        .map(|(_, rail)| rail.as_ref().map_or("act", Rail::name))
        .collect()
}

use Power::{Deallocated, Running};

#[test]
fn names_and_tags_are_never_touched() {
    let name = small().hosts[0].name.clone();
    let rails = Guardrails {
        never: vec![Pattern::parse(&name).expect("a pattern")],
        never_tags: vec![TagPattern::parse("role=last").expect("a pattern")],
        ..Guardrails::default()
    };
    let all = [(0, false), (1, false), (2, false)];
    let verdicts = judged(&rails, [Running; 3], &all, &Ledger::default(), None);
    // The third VM of the test fleet carries the tag.
    assert_eq!(verdicts, ["never", "act", "never"]);
}

#[test]
fn counts_and_budget() {
    let none = Ledger::default();
    let on = [(0, true), (1, true), (2, true)];
    let off = [(0, false), (1, false), (2, false)];
    let minimum = Guardrails {
        minimum_on: 2,
        ..Guardrails::default()
    };
    assert_eq!(
        judged(&minimum, [Running; 3], &off, &none, None),
        ["act", "minimum-on", "minimum-on"]
    );
    let maximum = Guardrails {
        maximum_on: Some(2),
        ..Guardrails::default()
    };
    assert_eq!(
        judged(&maximum, [Deallocated; 3], &on, &none, None),
        ["act", "act", "maximum-on"]
    );
    // Prices: 0.3, 0.3 and 0.1 USD an hour.
    let budget = Guardrails {
        budget_usd_per_hour: Some(0.4),
        ..Guardrails::default()
    };
    assert_eq!(
        judged(&budget, [Deallocated; 3], &on, &none, None),
        ["act", "budget", "act"]
    );
    let storm = Guardrails {
        maximum_actions: 1,
        ..Guardrails::default()
    };
    assert_eq!(
        judged(&storm, [Running; 3], &off, &none, None),
        ["act", "maximum-actions", "maximum-actions"]
    );
}

fn touched(phase: Phase, s: i64) -> Ledger {
    let name = small().hosts[0].name.clone();
    let mut ledger = Ledger::default();
    for (seq, phase) in [(1, Phase::Planned), (2, phase)] {
        let record = Record {
            schema: SCHEMA,
            seq,
            at: at(s),
            action: 1,
            phase,
            plan: (seq == 1).then(|| plan(&name, Change::Start)),
            operation: None,
            detail: None,
        };
        ledger.apply(&record).expect("a record");
    }
    ledger
}

#[test]
fn a_vm_cools_down_and_failures_wait() {
    let rails = Guardrails {
        cool_down: SignedDuration::from_secs(300),
        ..Guardrails::default()
    };
    let off = [(0, false)];
    let now = |rails: &Guardrails, phase, s| {
        judged(rails, [Running; 3], &off, &touched(phase, s), None)[0]
    };
    assert_eq!(now(&rails, Phase::Succeeded, 701), "cool-down");
    assert_eq!(now(&rails, Phase::Succeeded, 700), "act");
    let patient = Guardrails::default();
    assert_eq!(now(&patient, Phase::Failed, 941), "backoff");
    assert_eq!(now(&patient, Phase::Failed, 940), "act");
}

#[test]
fn windows_and_freezes() {
    let freeze = Freeze::Drift {
        drift: 0.5,
        limit: 0.2,
    };
    let rails = Guardrails::default();
    let verdicts = judged(
        &rails,
        [Running; 3],
        &[(0, false)],
        &Ledger::default(),
        Some(&freeze),
    );
    assert_eq!(verdicts, ["drift"]);
    let nights = Window::parse(&["daily".into()], "22:00", "06:00").expect("a window");
    let rails = Guardrails {
        act_only: vec![nights.clone()],
        ..Guardrails::default()
    };
    let noon = "2026-11-23T12:00:00Z".parse().expect("a time");
    let night = "2026-11-23T23:00:00Z".parse().expect("a time");
    assert_eq!(rails.closed(noon), Some(Freeze::OutsideWindows));
    assert_eq!(rails.closed(night), None);
    let rails = Guardrails {
        act_never: vec![nights],
        ..Guardrails::default()
    };
    assert_eq!(rails.closed(noon), None);
    assert!(matches!(
        rails.closed(night),
        Some(Freeze::Forbidden { .. })
    ));
}

#[test]
fn a_change_of_capacity_is_made_smaller() {
    let sizes: Vec<u32> = towards(2, 5).collect();
    assert_eq!(sizes, [4, 3]);
    let sizes: Vec<u32> = towards(5, 2).collect();
    assert_eq!(sizes, [3, 4]);
}

fn powers() -> impl Strategy<Value = Vec<Power>> {
    use Power::{Deallocating, Starting, Stopped, Stopping, Unknown};
    let all = vec![
        Starting,
        Running,
        Stopping,
        Stopped,
        Deallocating,
        Deallocated,
        Unknown,
    ];
    prop::collection::vec(prop::sample::select(all), 3)
}

proptest! {
    /// Whatever is seen and decided, what passes keeps the guardrails.
    #[test]
    fn guardrails_hold_for_any_facts_and_decisions(
        powers in powers(),
        decided in prop::collection::vec((0_u32..3, any::<bool>()), 0..3),
        (minimum, maximum, actions) in (0_usize..4, 0_usize..4, 0_usize..4),
        budget in 0.0_f64..1.0,
    ) {
        let world = small();
        let facts = facts(&powers);
        let fleet = fleet_of(&world, &facts);
        let rails = Guardrails {
            minimum_on: minimum,
            maximum_on: Some(maximum),
            maximum_actions: actions,
            budget_usd_per_hour: Some(budget),
            ..Guardrails::default()
        };
        let wishes = Wishes::of(&fleet, &decision(&decided), minimum);
        let (list, _) = proposals(&world, &facts, &fleet, &wishes);
        let ledger = Ledger::default();
        let situation = Situation {
            now: at(1_000),
            interval: SignedDuration::from_secs(60),
            fleet: &fleet,
            ledger: &ledger,
            freeze: None,
        };
        let passed: Vec<Proposal> = rails
            .judge(&situation, list)
            .into_iter()
            .filter_map(|(proposal, rail)| rail.is_none().then_some(proposal))
            .collect();
        prop_assert!(passed.len() <= actions);
        let mut runs: Vec<bool> = fleet.standings.iter().map(|s| *s == Standing::On).collect();
        let mut costs: Vec<bool> = fleet.standings.iter().map(|s| *s != Standing::Off).collect();
        let (ran, cost) = (runs.clone(), costs.clone());
        for proposal in &passed {
            prop_assert_eq!(proposal.hosts.len(), 1);
            let (h, on) = proposal.hosts[0];
            if on { costs[h.index()] = true } else { runs[h.index()] = false }
        }
        let count = |list: &[bool]| list.iter().filter(|x| **x).count();
        prop_assert!(count(&runs) >= minimum.min(count(&ran)));
        prop_assert!(count(&costs) <= maximum.max(count(&cost)));
        let price = |list: &[bool]| -> f64 {
            list.iter().zip(&fleet.prices).filter(|(x, _)| **x).map(|(_, p)| p).sum()
        };
        prop_assert!(price(&costs) <= budget.max(price(&cost)) + 1e-9);
    }
}
