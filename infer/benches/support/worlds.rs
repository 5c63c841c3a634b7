//! Worlds of the benchmarks.

use std::sync::Arc;

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
