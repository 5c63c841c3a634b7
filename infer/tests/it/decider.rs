//! Fallbacks, and views that contradict themselves.

use infer::decider::Rejection;
use twin::observation::FleetView;
use twin::state::Epoch;
use twin::wire::{DecisionRequest, WireError};

use crate::support::{Broken, Reckless, busy_view, decider, decider_with, small};

#[test]
fn a_feasible_decision_is_the_policys_own() {
    let world = small();
    let view = busy_view(&world);
    let mut decider = decider(&world, "least-loaded");
    let outcome = decider.decide(&view).expect("the view is consistent");
    assert_eq!(outcome.policy, Some("least-loaded"));
    assert!(outcome.fallback.is_none());
}

#[test]
fn an_infeasible_or_missing_decision_is_replaced() {
    let world = small();
    let view = busy_view(&world);
    let mut reference = decider(&world, "least-loaded");
    let expected = reference
        .decide(&view)
        .expect("consistent")
        .decision
        .clone();
    let mut reckless = decider_with(&world, Box::new(Reckless));
    let outcome = reckless.decide(&view).expect("consistent");
    assert!(matches!(
        outcome.fallback,
        Some(Rejection::Infeasible { .. })
    ));
    assert_eq!(
        (outcome.policy, outcome.decision),
        (Some("least-loaded"), &expected)
    );
    let mut broken = decider_with(&world, Box::new(Broken));
    let outcome = broken.decide(&view).expect("consistent");
    assert!(matches!(outcome.fallback, Some(Rejection::Failed(_))));
    assert_eq!(
        (outcome.policy, outcome.decision),
        (Some("least-loaded"), &expected)
    );
}

#[test]
fn nothing_changes_where_the_fallback_fails_too() {
    let world = small();
    let loaded = infer::source::Loaded {
        policy: Box::new(Reckless),
        model_sha256: None,
    };
    let mut decider = infer::decider::Decider::with(&world, loaded, Box::new(Broken));
    let view = busy_view(&world);
    let outcome = decider.decide(&view).expect("consistent");
    assert_eq!(outcome.policy, None);
    assert_eq!(outcome.decision, &twin::Decision::none());
    let request = DecisionRequest::from_view(&world, &view);
    let answer = decider.answer(&request).expect("consistent");
    let response = twin::wire::DecisionResponse::from_json(&answer.body).expect("of the schema");
    assert!(response.fallback && response.policy == "none");
    assert!(
        response
            .fallback_reason
            .is_some_and(|r| r.contains("reckless"))
    );
}

/// The field that is named where `change` has been made to a consistent view.
fn field_after(change: impl FnOnce(&mut FleetView)) -> String {
    let world = small();
    let mut view = busy_view(&world);
    change(&mut view);
    match decider(&world, "least-loaded").decide(&view) {
        Ok(_) => "none".into(),
        Err(error) => WireError::from(error).field,
    }
}

#[test]
fn contradictions_are_refused_with_their_field() {
    assert_eq!(field_after(|_| {}), "none");
    assert_eq!(field_after(|v| v.epoch = Epoch::End), "state.epoch");
    assert_eq!(
        field_after(|v| v.next_boundary.0 = 0),
        "state.next_boundary_ns"
    );
    assert_eq!(field_after(|v| v.next_request = 0), "state.requests[0].id");
    assert_eq!(
        field_after(|v| v.requests[0].arrived.0 = u64::MAX),
        "state.requests[0].arrived_ns"
    );
    assert_eq!(
        field_after(|v| v.rates_per_s[1][0] = -1.0),
        "state.arrival_rates[1].per_s"
    );
    assert_eq!(
        field_after(|v| v.rates_per_s[1][0] = f64::NAN),
        "state.arrival_rates[1].per_s"
    );
    assert_eq!(
        field_after(|v| v.rates_per_s.truncate(1)),
        "state.arrival_rates"
    );
    assert_eq!(field_after(|v| v.hosts.truncate(1)), "state.hosts");
    assert!(field_after(|v| v.transfers.clear()).ends_with("_left"));
    let twice = field_after(|v| {
        let host = v
            .hosts
            .iter_mut()
            .find(|h| !h.resident.is_empty())
            .expect("a busy host");
        host.resident.push(host.resident[0]);
    });
    assert!(twice.contains(".resident["), "{twice}");
    let unlisted = field_after(|v| v.hosts.iter_mut().for_each(|h| h.resident.clear()));
    assert!(
        unlisted.ends_with(".resident") || unlisted.contains(".queue["),
        "{unlisted}"
    );
    let repeated = field_after(|v| v.requests.push(v.requests[0].clone()));
    assert!(repeated.ends_with("].id"), "{repeated}");
    let attained = field_after(|v| {
        let fragments = v.requests.iter_mut().filter_map(|r| r.deployed.as_mut());
        fragments
            .flat_map(|d| &mut d.fragments)
            .for_each(|f| f.attained_mi = -1.0);
    });
    assert!(attained.ends_with(".attained_mi"), "{attained}");
}
