//! What was ruled out, and by which rule.
//!
//! The rules are those of the checker (hosts that take no fragments, memory that is never enough),
//! of the questions (equal hosts are offered once, the last host that takes fragments stays on), of
//! the model (only the hosts of least estimated penalty are scored) and of the boundary.

use std::collections::BTreeMap;

use serde::Serialize;
use twin::decision::Decision;
use twin::host::Lifecycle;
use twin::ids::HostId;
use twin::observation::Observation;
use twin::world::Fragment;
use utoipa::ToSchema;

use super::choices::{Asked, Candidate};

/// The most hosts that are named for one reason.
const MOST_NAMED: usize = 16;

/// Why something was ruled out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The host is off, and this decision does not turn it on.
    Off,
    /// The host is draining: it takes nothing new.
    Draining,
    /// This decision turns the host off.
    TurnedOff,
    /// The fragment needs more memory than the host has in all.
    NeverEnoughMemory,
    /// Equal to another host with nothing on it, which is offered in its place.
    EqualToAnother,
    /// Not among the hosts of least estimated penalty, which are all that the model scores.
    NotShortlisted,
    /// Some fragment of the variant fits on no host that takes fragments.
    NoHostForVariant,
    /// Hosts are turned on and off at interval boundaries only.
    NotAtBoundary,
    /// The only host left that takes fragments.
    LastHost,
}

/// Things that were ruled out for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Exclusion {
    /// Why.
    pub reason: Reason,
    /// Position of the fragment that it is about, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>)]
    pub fragment: Option<usize>,
    /// How many hosts.
    #[schema(value_type = u64)]
    pub host_count: usize,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub hosts: Vec<u32>,
    /// The variants, where it is about variants.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 256)]
    pub variants: Vec<String>,
}

/// The hosts by reason, as exclusions that are about `fragment`.
fn grouped(
    reasons: impl Iterator<Item = (HostId, Reason)>,
    fragment: Option<usize>,
) -> Vec<Exclusion> {
    let mut groups: BTreeMap<Reason, Exclusion> = BTreeMap::new();
    for (host, reason) in reasons {
        let group = groups.entry(reason).or_insert_with(|| Exclusion {
            reason,
            fragment,
            host_count: 0,
            hosts: Vec::new(),
            variants: Vec::new(),
        });
        group.host_count += 1;
        if group.hosts.len() < MOST_NAMED {
            group.hosts.push(host.0);
        }
    }
    groups.into_values().collect()
}

fn hosts(observation: &Observation<'_>) -> impl Iterator<Item = HostId> + use<> {
    (0..observation.host_count()).map(HostId::at)
}

/// At an arrival no host can be turned.
pub(super) fn no_boundary(observation: &Observation<'_>) -> Exclusion {
    Exclusion {
        reason: Reason::NotAtBoundary,
        fragment: None,
        host_count: observation.host_count(),
        hosts: Vec::new(),
        variants: Vec::new(),
    }
}

/// The hosts that the first question about hosts did not offer.
pub(super) fn of_power(observation: &Observation<'_>, asked: &[Asked]) -> Vec<Exclusion> {
    let offered = |asked: &Asked, host: HostId| {
        let turn = Candidate::Turn(Some(host));
        asked.answers.iter().any(|answer| answer.what == turn)
    };
    let is_power = |asked: &&Asked| {
        let first = asked.answers.first().map(|answer| &answer.what);
        matches!(first, Some(Candidate::Turn(_)))
    };
    let first = asked.iter().find(is_power);
    let accepting = hosts(observation).filter(|&h| observation.lifecycle(h).accepts());
    let last = accepting.count() <= 1;
    let reasons = hosts(observation).filter_map(|host| {
        if first.is_some_and(|asked| offered(asked, host)) {
            return None;
        }
        let reason = match observation.lifecycle(host).accepts() {
            true if last => Reason::LastHost,
            _ => Reason::EqualToAnother,
        };
        Some((host, reason))
    });
    grouped(reasons, None)
}

/// What was ruled out for the action at `position` of `decision`.
pub(super) fn of_action(
    observation: &Observation<'_>,
    decision: &Decision,
    position: usize,
    asked: &[Asked],
) -> Vec<Exclusion> {
    let powers = decision.provisioning.len();
    let deployed = position.checked_sub(powers);
    let moved = deployed.and_then(|at| at.checked_sub(decision.deployments.len()));
    if let Some(migration) = moved.and_then(|at| decision.migrations.get(at)) {
        let resident = hosts(observation).find_map(|host| {
            let mut residents = observation.residents(host);
            residents.find(|r| (r.request, r.index) == (migration.request, migration.fragment))
        });
        let Some(resident) = resident else {
            return Vec::new();
        };
        return of_fragment(observation, decision, resident.fragment, None, None);
    }
    let Some(deployment) = deployed.and_then(|at| decision.deployments.get(at)) else {
        return Vec::new();
    };
    let Some(waiting) = observation.waiting().find(|w| w.id == deployment.request) else {
        return Vec::new();
    };
    let world = observation.world();
    let application = &world.applications[waiting.application.index()];
    let mut found = Vec::new();
    found.extend(of_variants(observation, decision, &application.variants));
    let Some(variant) = application.variants.get(deployment.variant.index()) else {
        return found;
    };
    for (index, fragment) in variant.fragments.iter().enumerate() {
        let same = |a: &&Asked| a.action == Some(position) && a.fragment == Some(index);
        let question = asked.iter().find(same);
        let at = Some(index);
        found.extend(of_fragment(observation, decision, fragment, question, at));
    }
    found
}

/// The variants of which some fragment fits nowhere.
fn of_variants(
    observation: &Observation<'_>,
    decision: &Decision,
    variants: &[twin::world::Variant],
) -> Option<Exclusion> {
    let fits = |fragment: &Fragment| {
        hosts(observation).any(|host| rule(observation, decision, fragment, host).is_none())
    };
    let out = variants.iter().filter(|v| !v.fragments.iter().all(fits));
    let names: Vec<String> = out.map(|variant| variant.name.clone()).collect();
    (!names.is_empty()).then(|| Exclusion {
        reason: Reason::NoHostForVariant,
        fragment: None,
        host_count: 0,
        hosts: Vec::new(),
        variants: names,
    })
}

/// Why `host` cannot take `fragment` at all, if it cannot.
fn rule(
    observation: &Observation<'_>,
    decision: &Decision,
    fragment: &Fragment,
    host: HostId,
) -> Option<Reason> {
    let action = decision.provisioning.iter().find(|a| a.host == host);
    let lifecycle = observation.lifecycle(host);
    match action {
        Some(action) if !action.on => return Some(Reason::TurnedOff),
        None if lifecycle == Lifecycle::Draining => return Some(Reason::Draining),
        None if !lifecycle.accepts() => return Some(Reason::Off),
        _ => {}
    }
    let world = observation.world();
    let enough = world.needs_mib(fragment) <= world.size_of(host.index()).ram.0;
    (!enough).then_some(Reason::NeverEnoughMemory)
}

/// The hosts that could not take `fragment`, or were not offered or scored where `question` asked.
fn of_fragment(
    observation: &Observation<'_>,
    decision: &Decision,
    fragment: &Fragment,
    question: Option<&Asked>,
    index: Option<usize>,
) -> Vec<Exclusion> {
    let scored = question.is_some_and(|q| q.answers.iter().any(|a| a.score.is_some()));
    let reasons = hosts(observation).filter_map(|host| {
        if let Some(reason) = rule(observation, decision, fragment, host) {
            return Some((host, reason));
        }
        let place = Candidate::Place(host);
        let answer = question?.answers.iter().find(|answer| answer.what == place);
        match answer {
            None => Some((host, Reason::EqualToAnother)),
            Some(answer) if scored && answer.score.is_none() => {
                Some((host, Reason::NotShortlisted))
            }
            Some(_) => None,
        }
    });
    grouped(reasons, index)
}
