//! The exhaustive search: prices every joint decision of one epoch, for small instances.
//!
//! A joint decision turns over any subset of the hosts (at boundaries) and deploys every waiting
//! request: any variant, each fragment on any host that takes fragments and has the memory. It is
//! the yardstick of the oracle, which answers one question after another and prices only
//! promising answers.
//!
//! Two kinds of duplicates are left out:
//!
//! - **Equal hosts.** Hosts of the same size, site and lifecycle with nothing on them, and nothing
//!   on its way from them, differ in name only. A permutation of such hosts maps each course of
//!   events after a decision to one of equal price after the permuted decision.
//! - **Alike fragments.** Fragments of a variant with the same work, cap, memory, output and
//!   neighbors have works that are drawn independently from one distribution. To exchange their
//!   hosts does not change the distribution of anything, hence no expected price.
//!
//! Kept are the decisions that, read as the sorted list of hosts turned over and then the hosts of
//! the fragments in order, no exchange of two equal hosts or two alike fragments makes
//! lexicographically smaller. The least decision of each class of duplicates is such a one, so
//! each class is represented. [`canonical`] finds the representative of a decision.
//!
//! Left out: orders that change nothing (on to a host that is on, off to one that boots with work
//! placed on it), and to keep a request waiting that could be deployed: in the rollouts the greedy
//! policy would deploy it at the same instant.

use thiserror::Error;

use crate::decision::{Decision, Deployment, PowerAction};
use crate::host::Lifecycle;
use crate::ids::{HostId, VariantId};
use crate::network::Endpoint;
use crate::observation::{Observation, Progress, WaitingRequest};
use crate::policy::oracle;
use crate::state::Epoch;
use crate::stream::Stream;
use crate::what_if::{self, Futures, Horizon};
use crate::world::{Fragment, World};

/// How many hosts may be turned over at most for the refused decisions to be counted exactly.
const COUNTED_HOSTS: usize = 16;

/// There are too many decisions to price them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "there are more than {limit} different joint decisions ({count} or more with equal hosts and \
     alike fragments told apart); take fewer hosts or raise the limit"
)]
pub struct TooMany {
    /// The most that were allowed.
    pub limit: usize,
    /// How many there are, duplicates included; a lower bound where more than 16 hosts may be
    /// turned over or the number does not fit.
    pub count: u128,
}

/// How hard the search works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most decisions that are priced.
    pub limit: usize,
    /// Rollouts in which all decisions are priced, shared among them.
    pub rollouts: usize,
    /// The fewest futures that all decisions are priced on.
    pub least_futures: usize,
    /// The most futures that all decisions are priced on.
    pub most_futures: usize,
    /// How many of the best are priced again.
    pub finalists: usize,
    /// Futures that they are priced again on.
    pub final_futures: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limit: 20_000,
            rollouts: 16_384,
            least_futures: 8,
            most_futures: 256,
            finalists: 24,
            final_futures: 192,
        }
    }
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The best decision: of those that are best on [`Found::futures`], the best on other futures.
    pub best: Decision,
    /// All decisions.
    pub decisions: Vec<Decision>,
    /// The value of each on `futures`, in seconds of penalty, higher is better.
    ///
    /// The greatest of them is in the mean above the value of the best decision, since it was
    /// chosen by what it owes to these futures.
    pub values: Vec<f64>,
    /// The futures that all decisions were priced on.
    pub futures: Futures,
}

/// The horizon of the search: provisioning is priced until a host that is ordered now has served
/// for four intervals, placements until their users would have lost patience.
#[must_use]
pub fn horizon(world: &World, epoch: Epoch) -> Horizon {
    let oracle = oracle::Options::default();
    match epoch {
        Epoch::Boundary => oracle.power_horizon(world),
        Epoch::Arrival | Epoch::End => oracle.place_horizon(world),
    }
}

/// Prices all joint decisions on futures drawn from `stream`.
///
/// # Errors
///
/// If there are too many.
pub fn search(
    observation: &Observation<'_>,
    options: &Options,
    stream: &mut Stream,
) -> Result<Found, TooMany> {
    let world = observation.world();
    let decisions = decisions(observation, options.limit)?;
    let horizon = horizon(world, observation.epoch());
    let count = (options.rollouts / decisions.len().max(1))
        .clamp(options.least_futures, options.most_futures);
    let futures = Futures::sample(observation, count, horizon.span, stream);
    let values = what_if::evaluate(world, &futures, &decisions, horizon);
    let mut order: Vec<usize> = (0..decisions.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    order.truncate(options.finalists.max(1));
    let finalists: Vec<Decision> = order.iter().map(|&i| decisions[i].clone()).collect();
    let others = Futures::sample(observation, options.final_futures, horizon.span, stream);
    let again = what_if::evaluate(world, &others, &finalists, horizon);
    Ok(Found {
        best: finalists[oracle::best(&again)].clone(),
        decisions,
        values,
        futures,
    })
}

/// All joint decisions that may be taken, duplicates left out; the first leaves all hosts as they
/// are.
///
/// # Errors
///
/// If there are more than `limit`.
pub fn decisions(observation: &Observation<'_>, limit: usize) -> Result<Vec<Decision>, TooMany> {
    let kinds = Kinds::of(observation);
    let hosts = observation.host_count();
    let mut listing = Listing {
        observation,
        waiting: observation.waiting().collect(),
        limit,
        flipped: vec![false; hosts],
        placed: vec![0; hosts],
        hosts: Vec::new(),
        decision: Decision::none(),
        found: Vec::new(),
        kinds: &kinds,
    };
    listing.power(0);
    if listing.found.len() <= limit {
        return Ok(listing.found);
    }
    let count = listing.count();
    Err(TooMany { limit, count })
}

/// The decision that stands in [`decisions`] for `decision`, which must be feasible.
#[must_use]
pub fn canonical(observation: &Observation<'_>, decision: &Decision) -> Decision {
    let world = observation.world();
    let kinds = Kinds::of(observation);
    let mut result = decision.clone();
    result
        .provisioning
        .retain(|a| kinds.flippable[a.host.index()] && a.on != kinds.accepts[a.host.index()]);
    loop {
        let before = result.clone();
        kinds.rename(&mut result);
        for deployment in &mut result.deployments {
            let Some(waiting) = observation.waiting().find(|w| w.id == deployment.request) else {
                continue;
            };
            let fragments = &world
                .variant(waiting.application, deployment.variant)
                .fragments;
            sort_alike(fragments, &mut deployment.hosts);
        }
        // Each round makes the decision lexicographically smaller or leaves it.
        if result == before {
            return result;
        }
    }
}

/// Gives alike fragments their hosts in ascending order.
fn sort_alike(fragments: &[Fragment], hosts: &mut [HostId]) {
    for end in 0..fragments.len() {
        let mut at = end;
        while let Some(earlier) = alike_before(fragments, at) {
            if hosts[earlier] <= hosts[at] {
                break;
            }
            hosts.swap(earlier, at);
            at = earlier;
        }
    }
}

/// The nearest fragment before `index` that is like it.
fn alike_before(fragments: &[Fragment], index: usize) -> Option<usize> {
    let it = &fragments[index];
    fragments[..index].iter().rposition(|other| {
        let numbers = |f: &Fragment| {
            [
                f.work_mi_per_context_token,
                f.work_mi_per_generated_token,
                f.ram.0,
                f.output_bytes,
                f.output_bytes_per_token,
            ]
            .map(f64::to_bits)
        };
        other.work_mi == it.work_mi
            && other.cap == it.cap
            && numbers(other) == numbers(it)
            && other.predecessors == it.predecessors
            && other.successors == it.successors
    })
}

/// Which hosts nobody can tell apart, and which can be turned over.
#[derive(Debug)]
struct Kinds {
    /// For each host the first one that is equal to it.
    first: Vec<usize>,
    accepts: Vec<bool>,
    flippable: Vec<bool>,
}

impl Kinds {
    fn of(observation: &Observation<'_>) -> Self {
        let world = observation.world();
        let hosts = observation.host_count();
        let mut plain: Vec<bool> = (0..hosts)
            .map(|h| {
                let containers = world.containers.of_host(h);
                observation.resident_count(HostId::at(h)) == 0 && containers.is_empty()
            })
            .collect();
        for transfer in observation.view().transfers {
            if let Progress::Sending {
                from: Endpoint::Host(host),
                ..
            } = transfer.progress
            {
                plain[host.index()] = false;
            }
        }
        let key = |h: usize| {
            let spec = &world.hosts[h];
            (
                spec.size,
                spec.site,
                observation.lifecycle(HostId::at(h)),
                plain[h],
            )
        };
        let equal = |a: usize, b: usize| a == b || (plain[a] && key(a) == key(b));
        Self {
            first: (0..hosts)
                .map(|h| (0..h).find(|&g| equal(g, h)).unwrap_or(h))
                .collect(),
            accepts: (0..hosts)
                .map(|h| observation.lifecycle(HostId::at(h)).accepts())
                .collect(),
            flippable: (0..hosts)
                .map(|h| {
                    let id = HostId::at(h);
                    let booting = matches!(observation.lifecycle(id), Lifecycle::Booting { .. });
                    observation.may_provision() && (!booting || observation.resident_count(id) == 0)
                })
                .collect(),
        }
    }

    /// Gives equal hosts the names that make `decision` least: those turned over come first, then
    /// in the order in which fragments are placed on them.
    fn rename(&self, decision: &mut Decision) {
        let hosts = self.first.len();
        let mut flipped = vec![false; hosts];
        for action in &decision.provisioning {
            flipped[action.host.index()] = true;
        }
        let used = decision.deployments.iter().flat_map(|d| d.hosts.iter());
        let all = used
            .map(|h| h.index())
            .chain(0..hosts)
            .collect::<Vec<usize>>();
        let mut named: Vec<Option<usize>> = vec![None; hosts];
        let mut next: Vec<usize> = (0..hosts).collect();
        for turn in [true, false] {
            for &host in all.iter().filter(|&&h| flipped[h] == turn) {
                let kind = self.first[host];
                if named[host].is_none() {
                    let name = (next[kind]..hosts).find(|&h| self.first[h] == kind);
                    named[host] = name;
                    next[kind] = name.unwrap_or(host) + 1;
                }
            }
        }
        let name = |host: &mut HostId| *host = HostId::at(named[host.index()].unwrap_or(0));
        for action in &mut decision.provisioning {
            name(&mut action.host);
        }
        decision.provisioning.sort_by_key(|a| a.host);
        for deployment in &mut decision.deployments {
            deployment.hosts.iter_mut().for_each(name);
        }
    }
}

/// A depth-first walk through all decisions.
struct Listing<'a> {
    observation: &'a Observation<'a>,
    kinds: &'a Kinds,
    waiting: Vec<WaitingRequest>,
    limit: usize,
    /// Hosts that the decision turns over.
    flipped: Vec<bool>,
    /// Fragments that the decision places, by host.
    placed: Vec<u32>,
    /// Hosts of the fragments of the request under way.
    hosts: Vec<HostId>,
    decision: Decision,
    found: Vec<Decision>,
}

impl Listing<'_> {
    /// Turns over `host` or not, then the hosts after it.
    fn power(&mut self, host: usize) {
        if self.found.len() > self.limit {
            return;
        }
        if host == self.flipped.len() {
            self.request(0);
            return;
        }
        self.power(host + 1);
        let first = self.kinds.first[host];
        // Of equal hosts the first ones are turned over.
        let behind = (first..host).any(|h| self.kinds.first[h] == first && !self.flipped[h]);
        if !self.kinds.flippable[host] || behind {
            return;
        }
        self.flipped[host] = true;
        self.decision.provisioning.push(PowerAction {
            host: HostId::at(host),
            on: !self.kinds.accepts[host],
        });
        self.power(host + 1);
        self.decision.provisioning.pop();
        self.flipped[host] = false;
    }

    /// Deploys the waiting request `index` in every way, then those after it; if it cannot be
    /// deployed, it waits.
    fn request(&mut self, index: usize) {
        let Some(&waiting) = self.waiting.get(index) else {
            self.found.push(self.decision.clone());
            return;
        };
        let world = self.observation.world();
        let mut placeable = false;
        for v in 0..world.applications[waiting.application.index()]
            .variants
            .len()
        {
            let variant = VariantId::at(v);
            if self.ways(&waiting, variant) > 0 {
                placeable = true;
                self.fragment(index, variant);
            }
        }
        if !placeable {
            self.request(index + 1);
        }
    }

    /// Places the next fragment of request `index` on every host, then those after it.
    fn fragment(&mut self, index: usize, variant: VariantId) {
        if self.found.len() > self.limit {
            return;
        }
        let waiting = self.waiting[index];
        let world = self.observation.world();
        let fragments = &world.variant(waiting.application, variant).fragments;
        let at = self.hosts.len();
        if at == fragments.len() {
            let hosts = std::mem::take(&mut self.hosts);
            self.decision.deployments.push(Deployment {
                request: waiting.id,
                variant,
                hosts,
            });
            self.request(index + 1);
            if let Some(deployment) = self.decision.deployments.pop() {
                self.hosts = deployment.hosts;
            }
            return;
        }
        let least = alike_before(fragments, at).map_or(0, |earlier| self.hosts[earlier].index());
        for host in least..self.flipped.len() {
            if !self.takes(&fragments[at], host) || self.has_untouched_before(host) {
                continue;
            }
            self.placed[host] += 1;
            self.hosts.push(HostId::at(host));
            self.fragment(index, variant);
            self.hosts.pop();
            self.placed[host] -= 1;
        }
    }

    /// Whether nothing is placed on `host` yet, nor on an equal one before it.
    fn has_untouched_before(&self, host: usize) -> bool {
        let first = self.kinds.first[host];
        self.placed[host] == 0
            && (first..host).any(|h| {
                self.kinds.first[h] == first
                    && self.flipped[h] == self.flipped[host]
                    && self.placed[h] == 0
            })
    }

    fn takes(&self, fragment: &Fragment, host: usize) -> bool {
        let accepts = self.kinds.accepts[host] != self.flipped[host];
        accepts
            && self.observation.world().needs_mib(fragment)
                <= self.observation.world().ram_for_fragments(host).0
    }

    /// Ways to place `variant`, duplicates included.
    fn ways(&self, waiting: &WaitingRequest, variant: VariantId) -> u128 {
        let world = self.observation.world();
        let fragments = &world.variant(waiting.application, variant).fragments;
        fragments.iter().fold(1, |ways: u128, fragment| {
            let hosts = (0..self.flipped.len()).filter(|&h| self.takes(fragment, h));
            ways.saturating_mul(hosts.count() as u128)
        })
    }

    /// Number of decisions, duplicates included.
    fn count(&mut self) -> u128 {
        let flippable: Vec<usize> = (0..self.flipped.len())
            .filter(|&h| self.kinds.flippable[h])
            .collect();
        if flippable.len() > COUNTED_HOSTS {
            let exponent = u32::try_from(flippable.len()).unwrap_or(u32::MAX);
            return 2_u128.saturating_pow(exponent);
        }
        let mut total: u128 = 0;
        for subset in 0_u32..1 << flippable.len() {
            self.flipped.fill(false);
            for (bit, &host) in flippable.iter().enumerate() {
                self.flipped[host] = subset >> bit & 1 == 1;
            }
            let joint = self.waiting.iter().fold(1, |joint: u128, waiting| {
                let application =
                    &self.observation.world().applications[waiting.application.index()];
                let ways = (0..application.variants.len())
                    .map(|v| self.ways(waiting, VariantId::at(v)))
                    .fold(0, u128::saturating_add);
                joint.saturating_mul(ways.max(1))
            });
            total = total.saturating_add(joint);
        }
        total
    }
}
