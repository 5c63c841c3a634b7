//! Every violation is found, with its field.

use super::*;
use crate::decision::{Deployment, Migration, PowerAction};
use crate::sink::Silent;
use crate::state::{Epoch, Future, State};
use crate::units::SimTime;
use crate::workload::Arrival;
use crate::world::World;

/// A state of the small world in which two requests wait.
fn waiting() -> (World, State) {
    let world = World::load("scinet-16").expect("the world is embedded");
    let time = SimTime::from_seconds(1.0);
    let arrivals = [0, 1].map(|key| Arrival {
        time,
        application: ApplicationId(0),
        key,
        context_tokens: 0,
        generated_tokens: 0,
    });
    let mut state = State::new(&world);
    let mut future = Future::new(&arrivals);
    let until = world.episode();
    while state.waiting.len() < 2 {
        let epoch = state.advance(&world, &mut future, until, &mut Silent);
        assert!(epoch != Epoch::End, "the requests arrive before the end");
    }
    (world, state)
}

fn fields(found: &[Infeasible]) -> Vec<String> {
    found.iter().map(Infeasible::field).collect()
}

#[test]
fn every_violation_is_found_in_the_order_of_the_fields() {
    let (world, state) = waiting();
    let observation = Observation::new(&world, &state, Epoch::Boundary);
    let ids: Vec<RequestId> = observation.waiting().map(|w| w.id).collect();
    let (nowhere, power) = (HostId(99), |host, on| PowerAction { host, on });
    let fragments = world
        .variant(ApplicationId(0), VariantId(0))
        .fragments
        .len();
    let deploy = |request, variant, hosts| Deployment {
        request,
        variant,
        hosts,
    };
    let decision = Decision {
        provisioning: vec![
            power(HostId(0), true),
            power(nowhere, true),
            power(HostId(0), false),
        ],
        deployments: vec![
            deploy(ids[0], VariantId(0), vec![nowhere; fragments]),
            deploy(ids[0], VariantId(0), vec![HostId(0); fragments]),
            deploy(ids[1], VariantId(0), vec![HostId(0); fragments + 1]),
            deploy(RequestId(77), VariantId(99), Vec::new()),
        ],
        migrations: vec![Migration {
            request: ids[0],
            fragment: 0,
            to: HostId(1),
            strategy: None,
        }],
    };
    let found = check_all(&observation, &decision, usize::MAX);
    let mut expected = vec![
        "provisioning[1].host".to_owned(),
        "provisioning[2].host".into(),
    ];
    expected.extend((0..fragments).map(|f| format!("deployments[0].hosts[{f}]")));
    expected.extend([
        "deployments[1].request".into(),
        "deployments[2].hosts".into(),
        "deployments[3].request".into(),
        "migrations[0].request".into(),
    ]);
    assert_eq!(fields(&found), expected);
    assert_eq!(check(&observation, &decision), Err(found[0].clone()));
    for most in 0..=found.len() {
        assert_eq!(check_all(&observation, &decision, most), found[..most]);
    }
    assert!(found[0].problem().starts_with("host 99"), "{}", found[0]);
}

#[test]
fn the_first_action_on_a_host_says_what_it_takes() {
    let (world, state) = waiting();
    let id = Observation::new(&world, &state, Epoch::Boundary)
        .waiting()
        .map(|w| w.id)
        .next()
        .expect("a request waits");
    let fragments = world
        .variant(ApplicationId(0), VariantId(0))
        .fragments
        .len();
    for (on, epoch, first) in [
        (true, Epoch::Boundary, None),
        (false, Epoch::Boundary, Some("deployments[0].hosts[0]")),
        (true, Epoch::Arrival, Some("provisioning[0]")),
    ] {
        let decision = Decision {
            provisioning: vec![PowerAction {
                host: HostId(3),
                on,
            }],
            deployments: vec![Deployment {
                request: id,
                variant: VariantId(0),
                hosts: vec![HostId(3); fragments],
            }],
            migrations: Vec::new(),
        };
        let observation = Observation::new(&world, &state, epoch);
        let found = check_all(&observation, &decision, usize::MAX);
        assert_eq!(
            fields(&found).first().map(String::as_str),
            first,
            "{found:?}"
        );
    }
}
