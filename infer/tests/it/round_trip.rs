//! State → view → JSON → view → state loses nothing that is observed.

use twin::observation::Observation;
use twin::state::State;
use twin::wire::DecisionRequest;
use twin::world::World;

use crate::support::{embedded, small, watch};

/// Everything that an observation tells, as text.
fn told(observation: &Observation<'_>) -> String {
    let mut text = String::new();
    for h in 0..observation.host_count() {
        let host = twin::ids::HostId::at(h);
        let residents: Vec<_> = observation.residents(host).collect();
        text.push_str(&format!(
            "{:?} {:?} {:?} {} {} {residents:?}\n",
            observation.lifecycle(host),
            observation.utilization(host),
            observation.ram_free_mib(host),
            observation.running_count(host),
            observation.queued_count(host),
        ));
    }
    let waiting: Vec<_> = observation.waiting().collect();
    let rates: Vec<_> = observation.rates().collect();
    let analogs = observation.analogs();
    let (now, active) = (observation.now(), observation.active_count());
    text.push_str(&format!("{now} {active} {waiting:?} {rates:?} {analogs:?}"));
    text
}

fn check(world: &World, policy: &str, seed: u64, intervals: u32) {
    let mut count = 0;
    watch(world, policy, seed, intervals, &mut |observation| {
        let view = observation.view();
        let json = serde_json::to_vec(&DecisionRequest::from_view(world, &view))
            .expect("a view serializes");
        let request = DecisionRequest::from_json(&json).expect("what is written is read");
        let read = request.to_view(world).expect("the names are the world's");
        assert_eq!(read, view);
        let state = State::from_view(world, &read)
            .unwrap_or_else(|e| panic!("{policy}, seed {seed}, {}: {e}", observation.now()));
        let again = Observation::new(world, &state, read.epoch);
        assert_eq!(again.view(), view);
        assert_eq!(told(&again), told(observation));
        count += 1;
    });
    assert!(count > 10, "only {count} observations");
}

#[test]
fn states_of_the_small_world() {
    let world = small();
    for policy in ["random", "best-fit", "round-robin"] {
        for seed in 1..=4 {
            check(&world, policy, seed, 12);
        }
    }
}

#[test]
fn states_of_the_embedded_worlds() {
    check(&embedded("scinet-16"), "random", 1, 40);
    check(&embedded("scinet-16"), "threshold-autoscaler", 2, 40);
    check(&embedded("azure-llm"), "random", 1, 4);
    check(&embedded("azure-llm"), "least-loaded", 2, 4);
}
