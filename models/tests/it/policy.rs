//! The learned policy decides on any world, whichever it was trained on.

use models::ModelPolicy;
use models::folder::{ModelConfig, ModelFolder};
use models::weights::Widths;
use twin::policy::Policy;
use twin::simulate::{self, Options};

use crate::common::{changed, random_weights, worlds};

fn policy() -> ModelPolicy {
    let [world, _] = worlds();
    let widths = Widths::default();
    let folder = ModelFolder {
        config: ModelConfig::new(widths, &world, Vec::new()),
        weights: random_weights(widths, 4),
        metrics: serde_json::Value::Null,
        card: String::new(),
        ranges: None,
    };
    ModelPolicy::new("model:test", &folder).expect("the weights are valid")
}

#[test]
fn any_network_gives_feasible_decisions_on_any_world() {
    let [llm, testbed] = worlds();
    let single = changed(&testbed, |file| {
        file.hosts.truncate(1);
        file.hosts[0].count = 1;
    });
    for world in [llm, testbed, single] {
        let options = Options {
            intervals: Some(5),
            ..Options::new(9)
        };
        // The run holds every decision against the checker.
        let first = simulate::run(&world, &mut policy(), &options).expect("decisions are feasible");
        let again = simulate::run(&world, &mut policy(), &options).expect("decisions are feasible");
        assert!(first.qos == again.qos, "the same seed gives the same run");
    }
}

#[test]
fn a_fresh_copy_decides_the_same() {
    let [world, _] = worlds();
    let options = Options {
        intervals: Some(3),
        ..Options::new(2)
    };
    let mut used = policy();
    assert_eq!(used.name(), "model:test");
    let first = simulate::run(&world, &mut used, &options).expect("decisions are feasible");
    let again = simulate::run(&world, &mut used.fresh(), &options).expect("they are feasible");
    let reused = simulate::run(&world, &mut used, &options).expect("decisions are feasible");
    assert!(first.qos == again.qos && first.qos == reused.qos);
}
