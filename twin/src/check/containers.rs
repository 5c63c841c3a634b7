//! Containers: whether their hosts have the CPU for them, and whether anyone minds.

use super::{Findings, Severity};
use crate::container::CpuWork;
use crate::units::SimTime;
use crate::world::{ContainerSpec, World};

pub(super) fn check(world: &World, findings: &mut Findings) {
    if world.containers.is_empty() {
        return;
    }
    check_weight(world, findings);
    for h in 0..world.hosts.len() {
        check_speed(world, h, findings);
    }
    for spec in world.containers.list() {
        check_life(world, spec, findings);
    }
}

fn check_weight(world: &World, findings: &mut Findings) {
    if world.objective.weights.unmet > 0.0 {
        return;
    }
    findings.add(
        (Severity::Warning, "unmet-unweighted"),
        "objective.weights.unmet".into(),
        [
            "the world has containers, and their unmet demand has no weight".into(),
            "a policy gains by turning their hosts off".into(),
            "give it a weight, and reference_unmet_vcpus".into(),
        ],
    );
}

/// What container `spec` wants in an episode of `world`.
fn wanted(world: &World, spec: &ContainerSpec) -> CpuWork {
    let until = world.episode().min(spec.stop).since(spec.start);
    let pass = spec.demand.duration();
    if !spec.repeat || pass >= until {
        return spec.demand.work_between(SimTime::ZERO, until);
    }
    let passes = until.0 / pass.0.max(1);
    let rest = SimTime(until.0 % pass.0.max(1));
    let whole = CpuWork(spec.demand.work().0.saturating_mul(u128::from(passes)));
    whole + spec.demand.work_between(SimTime::ZERO, rest)
}

fn check_speed(world: &World, h: usize, findings: &mut Findings) {
    let ids = world.containers.of_host(h);
    let work: CpuWork = ids
        .iter()
        .map(|&id| wanted(world, world.containers.get(id)))
        .sum();
    let vcpus = world.vcpu_seconds(h, work) / world.episode().seconds();
    let has = world.size_of(h).vcpus;
    if vcpus <= has {
        return;
    }
    let name = &world.hosts[h].name;
    findings.add(
        (Severity::Warning, "containers-short-of-cpu"),
        "containers".into(),
        [
            format!("those of host \"{name}\" want {vcpus:.2} vCPUs in the mean; it has {has}"),
            "their demand cannot be met whatever is decided".into(),
            "put some of them on other hosts, or take a larger size".into(),
        ],
    );
}

fn check_life(world: &World, spec: &ContainerSpec, findings: &mut Findings) {
    let (name, episode) = (&spec.name, world.episode());
    let (start_s, end_s, episode_s) = (
        spec.start.seconds(),
        spec.end().seconds(),
        episode.seconds(),
    );
    let (code, what) = if spec.start >= episode {
        let what =
            format!("\"{name}\" starts at {start_s} s, and an episode ends at {episode_s} s");
        ("container-never-starts", what)
    } else if spec.stop == SimTime::NEVER && spec.end() < episode {
        let what = format!("the demand of \"{name}\" ends at {end_s} s of {episode_s} s");
        ("container-ends-early", what)
    } else {
        return;
    };
    findings.add(
        (Severity::Note, code),
        "containers".into(),
        [
            what,
            "for the rest of an episode its host is as if it were not there".into(),
            "let it repeat, give it stop_s if it is meant, or take a shorter episode".into(),
        ],
    );
}

#[cfg(test)]
mod tests {
    use crate::check::CheckReport;
    use crate::world::World;

    #[test]
    fn what_is_odd_about_containers_is_told() {
        let text = include_str!("../../../docs/examples/edge-cloud.toml");
        let container = |name: &str, more: &str, vcpus: f64| {
            format!(
                "\n[[containers]]\nname = \"{name}\"\nhost = \"B2ms-campus-01\"\nvcpus = 1\n{more}\n\
                 demand = {{ kind = \"steps\", steps = [{{ duration_s = 300, vcpus = {vcpus} }}] }}\n"
            )
        };
        let codes = |containers: &str| -> Vec<&str> {
            let world = World::parse(&format!("{text}{containers}"), "odd.toml", None)
                .expect("the world is valid");
            CheckReport::of(&world)
                .findings
                .iter()
                .map(|f| f.code)
                .collect()
        };
        assert!(!codes("").contains(&"unmet-unweighted"));
        // An episode is 600 s: 5 vCPUs for half of it are 2.5 of 2 in the mean.
        let found = codes(&(container("a", "", 5.0) + &container("b", "start_s = 600", 1.0)));
        for code in [
            "unmet-unweighted",
            "containers-short-of-cpu",
            "container-ends-early",
            "container-never-starts",
        ] {
            assert!(found.contains(&code), "{code} in {found:?}");
        }
        let found = codes(&container("a", "stop_s = 300", 2.0));
        assert!(!found.contains(&"container-ends-early"), "{found:?}");
        assert!(!found.contains(&"containers-short-of-cpu"), "{found:?}");
    }
}
