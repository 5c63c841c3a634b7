//! An episode that is driven through the service is the episode of the same policy in process.

use std::sync::Arc;

use infer::decider::Decider;
use infer::service::Limits;
use twin::decision::Decision;
use twin::observation::Observation;
use twin::policy::{Policy, PolicyError};
use twin::simulate::{self, Options};
use twin::wire::{DecisionRequest, DecisionResponse};
use twin::world::World;

use crate::support::{Running, agent, decider, embedded, small};

/// A client as small as one can be.
struct OverHttp {
    url: String,
    agent: ureq::Agent,
}

impl Policy for OverHttp {
    fn name(&self) -> &str {
        "over-http"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let view = observation.view();
        let request = DecisionRequest::from_view(observation.world(), &view);
        let mut response = self
            .agent
            .post(format!("{}/v1/decisions", self.url))
            .send_json(&request)
            .expect("the service answers");
        assert_eq!(response.status(), 200);
        let body = response.body_mut().read_to_vec().expect("a body");
        let response = DecisionResponse::from_json(&body).expect("of the schema");
        assert!(!response.fallback, "{:?}", response.fallback_reason);
        response
            .decision
            .to_decision(observation.world(), &view, decision)
            .expect("the names are the world's");
        Ok(())
    }
}

/// Runs episodes through a service with `deciders` and with policies in process.
pub(crate) fn compare(
    world: &World,
    deciders: Vec<Decider>,
    seeds: u64,
    intervals: u32,
    near: &dyn Fn() -> Box<dyn Policy>,
) {
    let service = Running::start(deciders, Limits::default());
    for seed in 1..=seeds {
        let options = Options {
            intervals: Some(intervals),
            ..Options::new(seed)
        };
        let mut policy = near();
        let name = policy.name().to_owned();
        let near = simulate::run(world, policy.as_mut(), &options).expect("the run ends");
        let mut far = OverHttp {
            url: service.url.clone(),
            agent: agent(),
        };
        let far = simulate::run(world, &mut far, &options).expect("the run ends");
        assert_eq!(
            format!("{:?}", far.qos),
            format!("{:?}", near.qos),
            "{name}, seed {seed}"
        );
    }
}

fn check(world: &Arc<World>, policy: &str, seeds: u64, intervals: u32) {
    let deciders = (0..2).map(|_| decider(world, policy)).collect();
    compare(world, deciders, seeds, intervals, &|| {
        twin::policy::by_name(policy, world, 1).expect("the policy exists")
    });
}

#[test]
fn the_small_world() {
    check(&small(), "least-loaded", 3, 12);
    check(&small(), "greedy", 3, 12);
}

#[test]
fn the_embedded_worlds() {
    check(&embedded("scinet-16"), "least-loaded", 2, 40);
    check(&embedded("azure-llm"), "least-loaded", 1, 3);
}
