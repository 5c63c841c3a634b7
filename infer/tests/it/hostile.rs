//! Whatever stands in a message, it is refused with a field or decided on; nothing panics, then or
//! when the twin goes on from there.

use serde_json::{Value, json};
use twin::checker;
use twin::decision::Decision;
use twin::observation::Observation;
use twin::policy::Policy;
use twin::sink::Silent;
use twin::state::{Epoch, Future, State};
use twin::units::SimTime;
use twin::wire::{DecisionRequest, WireError};
use twin::world::World;

use crate::support::{busy_view, small};

/// Pointers to every value inside `value`.
fn pointers(value: &Value, at: &str, into: &mut Vec<String>) {
    into.push(at.into());
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                pointers(member, &format!("{at}/{name}"), into);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                pointers(item, &format!("{at}/{i}"), into);
            }
        }
        _ => {}
    }
}

/// Decides with every policy and lets the twin go on for a minute; whether the state was accepted.
fn exercise(world: &World, json: &[u8], policies: &mut [Box<dyn Policy>]) -> bool {
    let view = DecisionRequest::from_json(json).and_then(|request| request.to_view(world));
    let state = view.and_then(|view| {
        State::from_view(world, &view)
            .map(|state| (state, view.epoch))
            .map_err(WireError::from)
    });
    let (state, epoch) = match state {
        Ok(accepted) => accepted,
        Err(error) => {
            assert!(!error.field.is_empty() && !error.problem.is_empty());
            return false;
        }
    };
    for policy in policies {
        let mut state = state.clone();
        let observation = Observation::new(world, &state, epoch);
        let mut decision = Decision::none();
        policy
            .decide(&observation, &mut decision)
            .expect("these policies always decide");
        if checker::check(&observation, &decision).is_ok() {
            state.apply(world, &decision, &mut Silent);
        }
        let until = state.now().after(SimTime::from_seconds(60.0));
        while state.advance(world, &mut Future::empty(), until, &mut Silent) != Epoch::End {}
    }
    true
}

#[test]
fn one_wrong_value_at_a_time() {
    let world = small();
    let request = DecisionRequest::from_view(&world, &busy_view(&world));
    let request = serde_json::to_value(request).expect("a view serializes");
    let mut policies: Vec<Box<dyn Policy>> = ["least-loaded", "best-fit", "greedy"]
        .iter()
        .map(|name| twin::policy::by_name(name, &world, 1).expect("the policy exists"))
        .collect();
    let values = [
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(65_535),
        json!(u32::MAX),
        json!(u64::MAX),
        json!(0.5),
        json!(1e-300),
        json!(1e300),
        json!(""),
        json!("caption"),
        json!("running"),
        json!(true),
        json!(null),
        json!([]),
        json!({}),
    ];
    let mut places = Vec::new();
    pointers(&request, "", &mut places);
    let (mut accepted, mut refused) = (0, 0);
    for place in &places {
        for value in &values {
            let mut changed = request.clone();
            *changed.pointer_mut(place).expect("the value is there") = value.clone();
            let json = changed.to_string();
            if exercise(&world, json.as_bytes(), &mut policies) {
                accepted += 1;
            } else {
                refused += 1;
            }
        }
    }
    assert!(
        accepted > 50 && refused > 500,
        "{accepted} accepted, {refused} refused"
    );
}

#[test]
fn every_prefix_and_every_wrong_byte() {
    let world = small();
    let request = DecisionRequest::from_view(&world, &busy_view(&world));
    let json = serde_json::to_vec(&request).expect("a view serializes");
    for end in 0..json.len() {
        assert!(!exercise(&world, &json[..end], &mut []));
    }
    for at in 0..json.len() {
        for byte in [0, b'"', b'9', b'-', b'}', 0xff] {
            let mut changed = json.clone();
            changed[at] = byte;
            exercise(&world, &changed, &mut []);
        }
    }
}
