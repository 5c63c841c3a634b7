//! Two policies in closed loop on the same seeds, and the first moment at which they differ.

use rayon::prelude::*;

use super::{CompareError, Comparison, Divergence, Pairing, metric};
use crate::decision::{Decision, Deployment};
use crate::host::Lifecycle;
use crate::observation::Observation;
use crate::policy::{self, Policy, PolicyError};
use crate::simulate::{self, Run};
use crate::units::SimTime;
use crate::workload::Split;
use crate::world::World;

/// On what policies are compared.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of seeds.
    pub seeds: u32,
    /// The first seed; the next ones follow it.
    pub first_seed: u64,
    /// Length of an episode in intervals; the world's if `None`.
    pub intervals: Option<u32>,
    /// The part of the workload that episodes are drawn from.
    pub split: Split,
}

/// Runs the policies `a` and `b` on the same seeds, on all cores; `step` is called after each run.
///
/// The result does not depend on the number of threads.
///
/// # Errors
///
/// If there is no such policy, or one gives no decision or an infeasible one.
pub fn policies(
    world: &World,
    (a, b): (&str, &str),
    options: &Options,
    step: &(dyn Fn() + Sync),
) -> Result<Comparison, CompareError> {
    // An unknown name is told before anything runs.
    policy::by_name(a, world, 0)?;
    policy::by_name(b, world, 0)?;
    let seeds: Vec<u64> = (0..u64::from(options.seeds))
        .map(|i| options.first_seed.wrapping_add(i))
        .collect();
    let runs: Vec<(Run, Run, Divergence)> = seeds
        .par_iter()
        .map(|&seed| pair(world, (a, b), options, seed, step))
        .collect::<Result<_, _>>()?;
    let names = runs.first().map_or_else(Vec::new, |(run, ..)| {
        run.qos.metrics().iter().map(|m| m.0).collect()
    });
    let column = |i: usize, of: fn(&(Run, Run, Divergence)) -> &Run| -> Vec<f64> {
        let value = |pair| of(pair).qos.metrics()[i].1;
        runs.iter().map(value).collect()
    };
    Ok(Comparison {
        a: a.to_owned(),
        b: b.to_owned(),
        world: world.name.clone(),
        pairing: Pairing::Seeds,
        pairs: runs.len(),
        metrics: names
            .iter()
            .enumerate()
            .filter_map(|(i, name)| metric(name, &column(i, |p| &p.0), &column(i, |p| &p.1)))
            .collect(),
        divergences: runs.into_iter().map(|pair| pair.2).collect(),
    })
}

/// One seed: what both policies leave, and where they first differ.
fn pair(
    world: &World,
    (a, b): (&str, &str),
    options: &Options,
    seed: u64,
    step: &(dyn Fn() + Sync),
) -> Result<(Run, Run, Divergence), CompareError> {
    let run_options = simulate::Options {
        intervals: options.intervals,
        split: options.split,
        ..simulate::Options::new(seed)
    };
    let failed = |source| CompareError::Run { seed, source };
    let mut first = Noting {
        inner: policy::by_name(a, world, seed)?,
        noted: Vec::new(),
    };
    let run_a = simulate::run(world, &mut first, &run_options).map_err(failed)?;
    step();
    let mut second = Following {
        inner: policy::by_name(b, world, seed)?,
        noted: first.noted.into_iter(),
        differs: None,
    };
    let run_b = simulate::run(world, &mut second, &run_options).map_err(failed)?;
    step();
    let (time_s, a, b) = match second.differs {
        Some((time, a, b)) => (Some(time.seconds()), a, b),
        None => (None, String::new(), String::new()),
    };
    let seed = Some(seed);
    Ok((run_a, run_b, Divergence { seed, time_s, a, b }))
}

/// Notes all decisions of a policy.
struct Noting {
    inner: Box<dyn Policy>,
    noted: Vec<Decision>,
}

impl Policy for Noting {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        self.inner.decide(observation, decision)?;
        self.noted.push(effective(observation, decision));
        Ok(())
    }
}

/// Looks for the first decision of a policy that differs from what was noted.
///
/// Up to there both met the same states, so the decisions are those of the same epochs.
struct Following {
    inner: Box<dyn Policy>,
    noted: std::vec::IntoIter<Decision>,
    differs: Option<(SimTime, String, String)>,
}

impl Policy for Following {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        self.inner.decide(observation, decision)?;
        if self.differs.is_some() {
            return Ok(());
        }
        let noted = self.noted.next().unwrap_or_default();
        let found = effective(observation, decision);
        if noted != found {
            self.differs = Some((
                observation.now(),
                told(observation, &noted, &found),
                told(observation, &found, &noted),
            ));
        }
        Ok(())
    }
}

/// The part of `decision` that changes something, in a fixed order.
fn effective(observation: &Observation<'_>, decision: &Decision) -> Decision {
    let mut effective = decision.clone();
    effective.provisioning.retain(|action| {
        let on = matches!(
            observation.lifecycle(action.host),
            Lifecycle::On | Lifecycle::Booting { .. }
        );
        on != action.on
    });
    effective.provisioning.sort_by_key(|action| action.host);
    effective.deployments.sort_by_key(|d| d.request);
    effective
}

/// What `decision` has and `other` has not, in words: requests first, then hosts.
fn told(observation: &Observation<'_>, decision: &Decision, other: &Decision) -> String {
    let hosts = &observation.world().hosts;
    let deployments: Vec<String> = decision
        .deployments
        .iter()
        .filter(|d| !other.deployments.contains(d))
        .map(|d| deployed(observation, d))
        .collect();
    let ordered = |on: bool| -> Vec<String> {
        decision
            .provisioning
            .iter()
            .filter(|action| action.on == on && !other.provisioning.contains(action))
            .map(|action| hosts[action.host.index()].name.clone())
            .collect()
    };
    let mut parts: Vec<String> = listed(&deployments, "; ").into_iter().collect();
    for (order, names) in [("on", ordered(true)), ("off", ordered(false))] {
        parts.extend(listed(&names, ", ").map(|names| format!("{order}: {names}")));
    }
    if parts.is_empty() {
        return "nothing more".into();
    }
    parts.join("; ")
}

/// The first of some things, and how many more there are; `None` if there are none.
fn listed(things: &[String], between: &str) -> Option<String> {
    /// Things that are told; the rest is counted.
    const TOLD: usize = 3;
    let rest = things.len().saturating_sub(TOLD);
    let mut text = things
        .iter()
        .take(TOLD)
        .cloned()
        .collect::<Vec<_>>()
        .join(between);
    if rest > 0 {
        text = format!("{text} and {rest} more");
    }
    (!things.is_empty()).then_some(text)
}

fn deployed(observation: &Observation<'_>, deployment: &Deployment) -> String {
    let world = observation.world();
    let asked = observation.waiting().find(|w| w.id == deployment.request);
    let (application, variant) = asked.map_or(("?", "?"), |w| {
        let application = &world.applications[w.application.index()];
        let variant = &application.variants[deployment.variant.index()];
        (application.name.as_str(), variant.name.as_str())
    });
    let hosts: Vec<&str> = deployment
        .hosts
        .iter()
        .map(|h| world.hosts[h.index()].name.as_str())
        .collect();
    format!(
        "request {} ({application}) as {variant} on {}",
        deployment.request,
        hosts.join(" + ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(a: &str, b: &str) -> Comparison {
        let world = World::load("scinet-16").expect("the world is embedded");
        let options = Options {
            seeds: 3,
            first_seed: 5,
            intervals: Some(6),
            split: Split::HeldOut,
        };
        policies(&world, (a, b), &options, &|| ()).expect("both are feasible")
    }

    #[test]
    fn a_policy_is_equal_to_itself_and_never_differs() {
        let comparison = compared("best-fit", "best-fit");
        assert_eq!((comparison.pairs, comparison.divergences.len()), (3, 3));
        for metric in &comparison.metrics {
            assert_eq!(metric.verdict, super::super::Verdict::Equal, "{metric:?}");
        }
        for divergence in &comparison.divergences {
            assert_eq!(divergence.time_s, None);
        }
    }

    #[test]
    fn policies_that_differ_at_once_are_told_apart() {
        let comparison = compared("round-robin", "best-fit");
        let first = &comparison.divergences[0];
        // At the first boundary best-fit turns empty hosts off, and round-robin none.
        assert_eq!((first.seed, first.time_s), (Some(5), Some(0.0)));
        assert!(first.b.contains("off: "), "{first:?}");
        let threads = |n| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build();
            pool.expect("a pool starts")
                .install(|| compared("round-robin", "best-fit"))
        };
        assert_eq!(threads(1), threads(3));
    }
}
