//! Worlds of the benchmarks, and states in them.

use std::sync::Arc;

use twin::decision::Decision;
use twin::observation::Observation;
use twin::policy::{Policy, PolicyError};
use twin::simulate::{self, Options};
use twin::wire::DecisionRequest;
use twin::world::World;
use twin::world::file::WorkloadFile;

/// The world `scinet-16` with `hosts` hosts, and as many times more requests.
pub(crate) fn world(hosts: u32) -> Arc<World> {
    let world = World::load("scinet-16").expect("the world is embedded");
    let mut file = (*world.file).clone();
    file.hosts[0].count = hosts / 2;
    file.hosts[1].count = hosts - hosts / 2;
    let minimum = hosts / 16;
    file.workload = WorkloadFile::Batch {
        mean: f64::from(minimum),
        sd: 1.5,
        minimum,
    };
    Arc::new(World::resolve(file, "benchmark", None).expect("the world is valid"))
}

/// Keeps the last request body in which something waits, while another policy decides.
struct Keeping {
    policy: Box<dyn Policy>,
    body: Vec<u8>,
}

impl Policy for Keeping {
    fn name(&self) -> &str {
        self.policy.name()
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        if observation.waiting().next().is_some() {
            let view = observation.view();
            let request = DecisionRequest::from_view(observation.world(), &view);
            self.body = serde_json::to_vec(&request).expect("a view serializes");
        }
        self.policy.decide(observation, decision)
    }
}

/// The last request of a run of `intervals` intervals in which something waits.
pub(crate) fn body(world: &World, intervals: u32) -> Vec<u8> {
    let policy = twin::policy::by_name("least-loaded", world, 1).expect("the policy exists");
    let mut keeping = Keeping {
        policy,
        body: Vec::new(),
    };
    let options = Options {
        intervals: Some(intervals),
        ..Options::new(1)
    };
    simulate::run(world, &mut keeping, &options).expect("the run ends");
    keeping.body
}
