//! What the simple policies know of the fleet, and what they expect of a placement.
//!
//! The expected time of a fragment on a host: let `w` be its expected work, `b` the expected work
//! left there, `n` the number of fragments that it belongs to, `C` the speed of the host and `r`
//! the most that the fragment can get. Under processor sharing each of the others takes at most
//! as much service as the fragment itself while it runs, so
//!
//! ```text
//! time = max(w / r, (w + min(b, n · w)) / C)       where memory is free
//! time = b / C + w / r                             where it must wait for memory
//! ```
//!
//! The start waits for the boot, the latency and the transfers of the inputs at the full bandwidth
//! of their way.
//!
//! Left out: requests yet to come, transfers that share bandwidth, the spread of the work.

use crate::decision::{Decision, Deployment, PowerAction};
use crate::demand::{self, Known};
use crate::host::Lifecycle;
use crate::ids::{ApplicationId, HostId, VariantId};
use crate::network::{self, Endpoint};
use crate::observation::{Observation, WaitingRequest};
use crate::world::{Fragment, World};

/// What is known of one host, with the fragments of the decision under way counted in.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostLoad {
    /// Where it was in its life when it was observed.
    pub(super) lifecycle: Lifecycle,
    /// Whether it takes fragments once the decision is carried out.
    pub(super) open: bool,
    /// Time until it serves, in s.
    pub(super) ready_s: f64,
    /// Its speed, in MIPS.
    pub(super) capacity_mips: f64,
    /// Its memory, in MiB.
    pub(super) ram_mib: f64,
    /// Its memory that is promised to nobody, in MiB; negative where fragments wait for memory.
    pub(super) ram_free_mib: f64,
    /// Expected work left there, in MI.
    pub(super) left_mi: f64,
    /// Fragments and containers there.
    pub(super) count: usize,
    /// The most that these can use, containers as much as they want, in MIPS.
    pub(super) promised_mips: f64,
}

impl HostLoad {
    /// Time to work off what is there, in s.
    pub(super) fn backlog_s(&self) -> f64 {
        self.ready_s + self.left_mi / self.capacity_mips
    }

    /// Mean of the shares of speed and memory that are promised to nobody once `mips` and `ram_mib`
    /// are promised too; negative where more is promised than there is.
    pub(super) fn free_share(&self, mips: f64, ram_mib: f64) -> f64 {
        let speed = (self.capacity_mips - self.promised_mips - mips) / self.capacity_mips;
        let memory = (self.ram_free_mib - ram_mib) / self.ram_mib;
        f64::midpoint(speed, memory)
    }

    fn add(&mut self, ram_mib: f64, rate_mips: f64, work_mi: f64) {
        self.left_mi += work_mi;
        self.count += 1;
        self.promised_mips += rate_mips;
        self.ram_free_mib -= ram_mib;
    }
}

/// A host that could take a fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    /// Position of the host.
    pub(super) index: usize,
    /// What is known of it.
    pub(super) host: &'a HostLoad,
    /// The most that the fragment can get there, in MIPS.
    pub(super) rate_mips: f64,
    /// Memory of the fragment, in MiB.
    pub(super) ram_mib: f64,
    /// When it would end there, in s after the request's arrival.
    pub(super) end_s: f64,
    /// Position of the host of the fragment before it, if there is one.
    pub(super) previous: Option<usize>,
}

/// The fleet as the simple policies see it; its buffers are kept between decisions.
#[derive(Debug, Default)]
pub(super) struct Fleet {
    /// One record a host.
    pub(super) hosts: Vec<HostLoad>,
    /// Hosts of the placement under way, one a fragment.
    chosen: Vec<HostId>,
    works_mi: Vec<f64>,
    ends_s: Vec<f64>,
    /// What the records were before the placement under way.
    undo: Vec<(usize, HostLoad)>,
}

impl Fleet {
    /// Takes in what is observed.
    pub(super) fn observe(&mut self, observation: &Observation<'_>) {
        let world = observation.world();
        self.hosts.clear();
        for h in 0..observation.host_count() {
            let id = HostId::at(h);
            let size = world.size_of(h);
            let lifecycle = observation.lifecycle(id);
            let ready_s = match lifecycle {
                Lifecycle::Booting { ready_at } => ready_at.since(observation.now()).seconds(),
                Lifecycle::Off | Lifecycle::On | Lifecycle::Draining => 0.0,
            };
            let mut host = HostLoad {
                lifecycle,
                open: lifecycle.accepts(),
                ready_s,
                capacity_mips: size.capacity().0,
                ram_mib: world.ram_for_fragments(h).0,
                ram_free_mib: world.ram_for_fragments(h).0,
                left_mi: 0.0,
                count: 0,
                promised_mips: 0.0,
            };
            for container in observation.containers(id) {
                host.count += 1;
                host.promised_mips += container.demand.0;
            }
            for resident in observation.residents(id) {
                let rate = rate_mips(world, h, resident.fragment);
                host.add(resident.fragment.ram.0, rate, resident.expected_left_mi);
            }
            self.hosts.push(host);
        }
    }

    /// Turns host `h` on or off in `decision`, unless it already is; at most once a decision.
    pub(super) fn switch(&mut self, world: &World, decision: &mut Decision, h: usize, on: bool) {
        let host = &mut self.hosts[h];
        if host.open == on {
            return;
        }
        host.open = on;
        if on && host.lifecycle == Lifecycle::Off {
            host.ready_s = world.size_of(h).boot.seconds();
        }
        decision.provisioning.push(PowerAction {
            host: HostId::at(h),
            on,
        });
    }

    /// Whether the decision under way turns host `h` on or off.
    pub(super) fn named(&self, h: usize) -> bool {
        self.hosts[h].open != self.hosts[h].lifecycle.accepts()
    }

    /// Turns on the closed hosts that are `wanted`: those that drain are asked about first, then
    /// those that are off, each in the order of `order`.
    pub(super) fn turn_on(
        &mut self,
        world: &World,
        decision: &mut Decision,
        order: &[usize],
        mut wanted: impl FnMut(&HostLoad) -> bool,
    ) {
        for lifecycle in [Lifecycle::Draining, Lifecycle::Off] {
            for &h in order {
                let host = &self.hosts[h];
                if !host.open && host.lifecycle == lifecycle && wanted(host) {
                    self.switch(world, decision, h, true);
                }
            }
        }
    }

    /// Open hosts that have `ram_mib` in all.
    pub(super) fn count_holding(&self, ram_mib: f64) -> usize {
        self.hosts
            .iter()
            .filter(|host| host.open && host.ram_mib >= ram_mib)
            .count()
    }

    /// Turns on the first host of `order` that has `ram_mib`, unless an open host has.
    pub(super) fn ensure_holding(
        &mut self,
        world: &World,
        decision: &mut Decision,
        order: &[usize],
        ram_mib: f64,
    ) {
        let mut missing = self.count_holding(ram_mib) == 0;
        self.turn_on(world, decision, order, |host| {
            let take = missing && host.ram_mib >= ram_mib;
            missing &= !take;
            take
        });
    }

    /// Places the fragments of `variant` in topological order, each on the open host with the
    /// highest `score`, the first of equals. Gives the expected response time in s, or nothing
    /// where no open host is large enough. [`Fleet::keep`] or [`Fleet::undo`] must follow.
    pub(super) fn place(
        &mut self,
        world: &World,
        request: &WaitingRequest,
        variant: VariantId,
        mut score: impl FnMut(&Candidate<'_>) -> f64,
    ) -> Option<f64> {
        self.chosen.clear();
        self.works_mi.clear();
        self.ends_s.clear();
        let fragments = &world.variant(request.application, variant).fragments;
        let mut response_s = 0.0_f64;
        for (index, fragment) in fragments.iter().enumerate() {
            let piece = Piece::new(world, request, fragments, index);
            let Some((h, end_s)) = self.best_host(&piece, &mut score) else {
                self.undo();
                return None;
            };
            self.undo.push((h, self.hosts[h]));
            let rate = rate_mips(world, h, fragment);
            self.hosts[h].add(fragment.ram.0, rate, piece.work_mi);
            self.chosen.push(HostId::at(h));
            self.works_mi.push(piece.work_mi);
            self.ends_s.push(end_s);
            if fragment.successors.is_empty() {
                let from = Endpoint::Host(HostId::at(h));
                let way_s = carry_s(world, from, Endpoint::User, piece.output_bytes(index));
                response_s = response_s.max(end_s + way_s);
            }
        }
        Some(request.age.seconds() + response_s)
    }

    /// The host with the highest score for `piece`, and when it is expected to end there.
    fn best_host(
        &self,
        piece: &Piece<'_>,
        score: &mut impl FnMut(&Candidate<'_>) -> f64,
    ) -> Option<(usize, f64)> {
        let fragment = &piece.fragments[piece.index];
        let mut best: Option<(f64, usize, f64)> = None;
        for (index, host) in self.hosts.iter().enumerate() {
            if !host.open || host.ram_mib < piece.world.needs_mib(fragment) {
                continue;
            }
            let start_s = self.start_s(piece, index);
            let rate_mips = rate_mips(piece.world, index, fragment);
            let end_s = start_s + self.time_s(piece, index, rate_mips, start_s);
            let value = score(&Candidate {
                index,
                host,
                rate_mips,
                ram_mib: fragment.ram.0,
                end_s: piece.age_s + end_s,
                previous: self.last_host(),
            });
            if best.is_none_or(|(highest, _, _)| value > highest) {
                best = Some((value, index, end_s));
            }
        }
        best.map(|(_, index, end_s)| (index, end_s))
    }

    /// When the inputs of `piece` are on host `h` and the host serves, in s from now.
    fn start_s(&self, piece: &Piece<'_>, h: usize) -> f64 {
        let to = Endpoint::Host(HostId::at(h));
        let predecessors = &piece.fragments[piece.index].predecessors;
        let mut start_s = self.hosts[h].ready_s;
        for &p in predecessors {
            let from = Endpoint::Host(self.chosen[p]);
            let way_s = carry_s(piece.world, from, to, piece.output_bytes(p));
            start_s = start_s.max(self.ends_s[p] + way_s);
        }
        if predecessors.is_empty() {
            start_s = start_s.max(carry_s(piece.world, Endpoint::User, to, piece.input_bytes));
        }
        start_s
    }

    /// Expected time of `piece` on host `h` from `start_s` on, in s.
    fn time_s(&self, piece: &Piece<'_>, h: usize, rate_mips: f64, start_s: f64) -> f64 {
        let host = &self.hosts[h];
        let (mut left_mi, mut count, mut ram_free_mib) =
            (host.left_mi, host.count, host.ram_free_mib);
        // Fragments of the same request that have ended by then are not in the way.
        for (k, id) in self.chosen.iter().enumerate() {
            if id.index() == h && self.ends_s[k] <= start_s {
                left_mi -= self.works_mi[k];
                count -= 1;
                ram_free_mib += piece.fragments[k].ram.0;
            }
        }
        let alone_s = piece.work_mi / rate_mips;
        if ram_free_mib < piece.fragments[piece.index].ram.0 {
            return left_mi / host.capacity_mips + alone_s;
        }
        let others_mi = left_mi.min(count as f64 * piece.work_mi);
        alone_s.max((piece.work_mi + others_mi) / host.capacity_mips)
    }

    /// Takes the last placement back.
    pub(super) fn undo(&mut self) {
        while let Some((h, host)) = self.undo.pop() {
            self.hosts[h] = host;
        }
    }

    /// Writes the last placement into `decision`.
    pub(super) fn keep(
        &mut self,
        decision: &mut Decision,
        request: &WaitingRequest,
        variant: VariantId,
    ) {
        self.undo.clear();
        let hosts = self.chosen.clone();
        decision.deployments.push(Deployment {
            request: request.id,
            variant,
            hosts,
        });
    }

    /// Expected work of the last placement, in MI.
    pub(super) fn placed_mi(&self) -> f64 {
        self.works_mi.iter().sum()
    }

    /// Speed that the last placement promised to fragments on hosts that have no room for them,
    /// in MIPS.
    pub(super) fn placed_beyond_mips(&self) -> f64 {
        let full =
            |host: &&HostLoad| host.promised_mips > host.capacity_mips || host.ram_free_mib < 0.0;
        let beyond = |host: &HostLoad| host.promised_mips / host.count.max(1) as f64;
        self.chosen
            .iter()
            .map(|id| &self.hosts[id.index()])
            .filter(full)
            .map(beyond)
            .sum()
    }

    /// Position of the host of the last fragment placed.
    pub(super) fn last_host(&self) -> Option<usize> {
        self.chosen.last().map(|id| id.index())
    }

    /// Deploys `request` in the first of `variants` that is expected to answer within the
    /// deadline, else in the fastest of them. Gives whether it was deployed.
    pub(super) fn deploy_in_time(
        &mut self,
        world: &World,
        request: &WaitingRequest,
        variants: &[VariantId],
        decision: &mut Decision,
        mut score: impl FnMut(&Candidate<'_>) -> f64,
    ) -> bool {
        let deadline_s = world.applications[request.application.index()]
            .deadline
            .seconds();
        let mut fastest: Option<(f64, VariantId)> = None;
        for &variant in variants {
            let Some(response_s) = self.place(world, request, variant, &mut score) else {
                continue;
            };
            if response_s <= deadline_s {
                self.keep(decision, request, variant);
                return true;
            }
            self.undo();
            if fastest.is_none_or(|(least, _)| response_s < least) {
                fastest = Some((response_s, variant));
            }
        }
        let Some((_, variant)) = fastest else {
            return false;
        };
        if self.place(world, request, variant, score).is_none() {
            return false;
        }
        self.keep(decision, request, variant);
        true
    }
}

/// A fragment to be placed.
#[derive(Clone, Copy, Debug)]
struct Piece<'a> {
    world: &'a World,
    /// All fragments of its variant, and its position among them.
    fragments: &'a [Fragment],
    index: usize,
    /// Age of its request, in s.
    age_s: f64,
    /// Input of the request.
    input_bytes: f64,
    /// Expected context and generated tokens of the request.
    tokens: f64,
    /// Its expected work, in MI.
    work_mi: f64,
}

impl<'a> Piece<'a> {
    fn new(
        world: &'a World,
        request: &WaitingRequest,
        fragments: &'a [Fragment],
        index: usize,
    ) -> Self {
        let a = request.application.index();
        let application = &world.applications[a];
        let context = f64::from(request.context_tokens);
        let generated = application
            .generated_tokens
            .as_deref()
            .map_or(0.0, |d| d.mean_given_exceeds(-1.0));
        let known = Known {
            context_tokens: request.context_tokens,
            generated_tokens: None,
            attained_mi: 0.0,
        };
        Self {
            world,
            fragments,
            index,
            age_s: request.age.seconds(),
            input_bytes: application.input_bytes
                + application.input_bytes_per_context_token * context,
            tokens: context + generated,
            work_mi: demand::expected_mi(world, a, &fragments[index], known),
        }
    }

    /// Expected output of fragment `k`.
    fn output_bytes(&self, k: usize) -> f64 {
        let fragment = &self.fragments[k];
        fragment.output_bytes + fragment.output_bytes_per_token * self.tokens
    }
}

/// The most that `fragment` can get on host `h`, in MIPS.
fn rate_mips(world: &World, h: usize, fragment: &Fragment) -> f64 {
    let size = world.size_of(h);
    world.caps[fragment.cap].min(size.vcpus) * size.mips_per_vcpu.0
}

/// Expected work of `request` in `variant`, in MI.
pub(super) fn work_mi(world: &World, request: &WaitingRequest, variant: VariantId) -> f64 {
    let fragments = &world.variant(request.application, variant).fragments;
    (0..fragments.len())
        .map(|k| Piece::new(world, request, fragments, k).work_mi)
        .sum()
}

/// Time to carry `bytes` with the full bandwidth of the way, latency included, in s.
fn carry_s(world: &World, from: Endpoint, to: Endpoint, bytes: f64) -> f64 {
    if from == to {
        return 0.0;
    }
    let network_mbps = |end: Endpoint| match end {
        Endpoint::User => f64::INFINITY,
        Endpoint::Host(id) => world.size_of(id.index()).network.0,
    };
    let mut mbps = network_mbps(from).min(network_mbps(to));
    if let (Endpoint::Host(a), Endpoint::Host(b)) = (from, to) {
        let (a, b) = (world.hosts[a.index()].site, world.hosts[b.index()].site);
        mbps = mbps.min(world.link(a, b).bandwidth.0);
    }
    network::latency(world, from, to).seconds() + bytes * 8.0 / (mbps * 1e6)
}

/// The variants of each application, the most accurate first, in the world's order among equals.
pub(super) fn by_accuracy(world: &World) -> Vec<Vec<VariantId>> {
    let sorted = |variants: &[crate::world::Variant]| {
        let mut order: Vec<VariantId> = (0..variants.len()).map(VariantId::at).collect();
        order.sort_by(|a, b| {
            variants[b.index()]
                .accuracy
                .total_cmp(&variants[a.index()].accuracy)
        });
        order
    };
    world
        .applications
        .iter()
        .map(|a| sorted(&a.variants))
        .collect()
}

/// The most accurate variant of each application.
pub(super) fn most_accurate(world: &World) -> Vec<VariantId> {
    (0..world.applications.len())
        .map(|a| world.most_accurate(ApplicationId::at(a)))
        .collect()
}

/// The hosts by price of a MIPS, the cheapest first, in the world's order among equals.
pub(super) fn by_price(world: &World) -> Vec<usize> {
    let price = |h: usize| world.price_usd_per_second(h) / world.size_of(h).capacity().0;
    let mut order: Vec<usize> = (0..world.hosts.len()).collect();
    order.sort_by(|&a, &b| price(a).total_cmp(&price(b)));
    order
}

/// Memory of the largest fragment of the world, in MiB.
pub(super) fn largest_fragment_mib(world: &World) -> f64 {
    let variants = world.applications.iter().flat_map(|a| &a.variants);
    variants
        .flat_map(|v| &v.fragments)
        .map(|f| world.needs_mib(f))
        .fold(0.0, f64::max)
}
