//! World files.

use twin::simulate::{self, Options};
use twin::world::World;

/// Larger worlds are read and not run.
const MAX_HOSTS: usize = 64;
/// So are those with more requests in their interval.
const MAX_ARRIVALS: f64 = 200.0;

/// A world in TOML: read twice to the same hash, and, if it is small, run for an interval.
pub(crate) fn world(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let world = match World::parse(text, "fuzz.toml", None) {
        Ok(world) => world,
        Err(error) => {
            // It may quote a line of any length.
            let text = error.to_string();
            assert!(text.starts_with("fuzz.toml: "), "{text}");
            return;
        }
    };
    let again = World::parse(text, "fuzz.toml", None).expect("it was read before");
    assert_eq!(world.hash, again.hash);
    let expected = world.mean_rate_per_s() * world.interval.seconds();
    if world.hosts.len() > MAX_HOSTS || expected > MAX_ARRIVALS {
        return;
    }
    let options = Options {
        intervals: Some(1),
        ..Options::new(1)
    };
    let mut policy = twin::policy::by_name("least-loaded", &world, 1).expect("a policy");
    let run = simulate::run(&world, policy.as_mut(), &options).expect("this policy always decides");
    assert!(!run.qos.objective.is_nan(), "{:?}", run.qos);
}
