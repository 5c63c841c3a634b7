//! Transfers that share bandwidth max-min fairly.
//!
//! A transfer occupies the egress of the sending host, the ingress of the receiving host and the
//! link between their sites, as far as these exist; users are not limited. Rates are max-min fair
//! over these resources (progressive filling, Bertsekas and Gallager, Data Networks, 1992), and
//! change when a transfer starts or ends. Latency is added at the end.
//!
//! Left out: slow start, loss, protocol overhead.

use serde::{Deserialize, Serialize};

use crate::ids::HostId;
use crate::queue::EventQueue;
use crate::units::SimTime;
use crate::world::World;

/// One end of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// The users.
    User,
    /// A host.
    Host(HostId),
}

/// What a transfer delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Delivery {
    /// One of the inputs of a fragment.
    Input {
        /// The fragment's slot.
        fragment: u32,
    },
    /// One of the outputs of a request.
    Output {
        /// The request's slot.
        request: u32,
    },
    /// Memory of a fragment that is being migrated, or its image.
    Migration {
        /// The migration's number.
        number: u32,
    },
}

/// A transfer under way.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) from: Endpoint,
    pub(crate) to: Endpoint,
    pub(crate) delivery: Delivery,
    /// What was left to send at `updated`.
    remaining_bits: f64,
    rate_bps: f64,
    updated: SimTime,
    /// These three before the rate was changed at `updated`.
    before: (f64, f64, SimTime),
    /// Number of transfers that were started before.
    order: u32,
    /// Egress, link and ingress: positions in the list of resources.
    resources: [u32; SHARES],
    /// The transfers before and after this one in the list of each resource.
    neighbors: [(u32, u32); SHARES],
}

impl Transfer {
    /// What is left to send at `now`.
    pub(crate) fn bits_left(&self, now: SimTime) -> f64 {
        (self.remaining_bits - self.rate_bps * now.since(self.updated).seconds()).max(0.0)
    }

    /// Sets the rate from `now` on; says whether that changes anything.
    ///
    /// What is left after all changes at one moment depends on the last rate alone: a transfer
    /// that gets back the rate it had before is as if nothing had happened.
    fn set_rate(&mut self, now: SimTime, rate_bps: f64) -> bool {
        if self.rate_bps.to_bits() == rate_bps.to_bits() {
            return false;
        }
        if self.updated == now {
            (self.remaining_bits, self.rate_bps, self.updated) = self.before;
        }
        if self.rate_bps.to_bits() != rate_bps.to_bits() {
            self.before = (self.remaining_bits, self.rate_bps, self.updated);
            self.remaining_bits = self.bits_left(now);
            self.updated = now;
            self.rate_bps = rate_bps;
        }
        true
    }

    /// When it ends at its rate.
    fn end(&self) -> SimTime {
        end_at(self.updated, self.remaining_bits, self.rate_bps)
    }
}

/// Resources that a transfer may occupy.
const SHARES: usize = 3;
/// No resource, or no transfer.
pub(crate) const NONE: u32 = u32::MAX;

/// All transfers under way.
///
/// The transfers of each resource form a list, so that a start or an end costs work on the
/// transfers that it is connected to through shared resources, and on no others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Network {
    slots: Vec<Transfer>,
    free: Vec<u32>,
    /// First transfer of each resource: egress and ingress of each host, then the links.
    heads: Vec<u32>,
    /// When each transfer ends, by slot; among equal times the one that was started first.
    ends: EventQueue,
    /// Transfers started so far.
    started: u32,
    /// Links that are down.
    down: Vec<u32>,
    #[serde(skip)]
    work: Work,
}

/// Buffers of a computation of rates; kept to avoid allocation.
#[derive(Clone, Debug, Default)]
struct Work {
    /// Transfers of the component, with the rate that they get, negative while it is open.
    transfers: Vec<(u32, f64)>,
    /// Resources of the component.
    resources: Vec<Share>,
    /// Position of each resource in `resources`, if it is there.
    place: Vec<u32>,
    /// Transfers that end at one moment.
    ended: Vec<Transfer>,
}

/// What is left of a resource during a computation.
#[derive(Clone, Copy, Debug)]
struct Share {
    resource: u32,
    left_bps: f64,
    /// Transfers without a rate.
    open: u32,
}

impl Clone for Network {
    fn clone(&self) -> Self {
        Self {
            slots: self.slots.clone(),
            free: self.free.clone(),
            heads: self.heads.clone(),
            ends: self.ends.clone(),
            started: self.started,
            down: self.down.clone(),
            work: Work::default(),
        }
    }
    fn clone_from(&mut self, source: &Self) {
        self.slots.clone_from(&source.slots);
        self.free.clone_from(&source.free);
        self.heads.clone_from(&source.heads);
        self.ends.clone_from(&source.ends);
        self.started = source.started;
        self.down.clone_from(&source.down);
    }
}

impl Network {
    /// A network without transfers.
    pub(crate) fn new(world: &World) -> Self {
        Self {
            heads: vec![NONE; 2 * world.hosts.len() + world.links.len()],
            ..Self::default()
        }
    }

    /// When the next transfer ends.
    pub(crate) fn next(&self) -> SimTime {
        self.ends.first().0
    }

    /// The transfers under way, in the order in which they were started.
    pub(crate) fn transfers(&self) -> Vec<&Transfer> {
        let mut transfers: Vec<&Transfer> = (0..self.slots.len())
            .filter(|&slot| self.ends.time(slot) != SimTime::NEVER)
            .map(|slot| &self.slots[slot])
            .collect();
        transfers.sort_unstable_by_key(|t| t.order);
        transfers
    }

    /// Starts a transfer of `bits` at `now`; gives its slot.
    pub(crate) fn start(
        &mut self,
        world: &World,
        now: SimTime,
        (from, to): (Endpoint, Endpoint),
        delivery: Delivery,
        bits: f64,
    ) -> u32 {
        let transfer = Transfer {
            from,
            to,
            delivery,
            remaining_bits: bits,
            // No rate yet: any rate is a change.
            rate_bps: -1.0,
            updated: now,
            before: (bits, -1.0, now),
            order: self.started,
            resources: resources(world, from, to),
            neighbors: [(NONE, NONE); SHARES],
        };
        let slot = self.insert(transfer);
        self.started = self.started.wrapping_add(1);
        self.rebalance(world, now, transfer.resources);
        slot
    }

    /// Puts `transfer` into the lists of its resources, as it is.
    fn insert(&mut self, transfer: Transfer) -> u32 {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.slots.push(transfer);
                self.ends.push()
            }
        };
        self.slots[slot as usize] = transfer;
        self.ends.rank(slot as usize, transfer.order);
        for share in 0..SHARES {
            let resource = transfer.resources[share];
            if resource == NONE {
                continue;
            }
            let after = std::mem::replace(&mut self.heads[resource as usize], slot);
            self.slots[slot as usize].neighbors[share] = (NONE, after);
            if after != NONE {
                self.neighbor(after, resource).0 = slot;
            }
        }
        slot
    }

    /// Takes over a transfer of another network as it is, with what it delivers here.
    pub(crate) fn adopt(&mut self, transfer: &Transfer, delivery: Delivery) {
        let slot = self.insert(Transfer {
            delivery,
            ..*transfer
        });
        self.ends.set(slot as usize, transfer.end());
    }

    /// Gets ready for `world`, where there are no transfers.
    pub(crate) fn fit(&mut self, world: &World) {
        let resources = 2 * world.hosts.len() + world.links.len();
        self.heads.resize(resources, NONE);
    }

    /// Forgets all transfers.
    pub(crate) fn clear(&mut self) {
        for transfer in self.slots.drain(..) {
            for resource in transfer.resources {
                if resource != NONE {
                    self.heads[resource as usize] = NONE;
                }
            }
        }
        self.free.clear();
        self.ends.clear();
        self.started = 0;
    }

    /// Takes a link between sites down or up again; transfers over it stand still while it is down.
    pub(crate) fn set_link(&mut self, world: &World, now: SimTime, link: u32, up: bool) {
        self.down.retain(|&l| l != link);
        if !up {
            self.down.push(link);
        }
        let resource = 2 * world.hosts.len() + link as usize;
        let touched = [NONE, u32::try_from(resource).unwrap_or(NONE), NONE];
        self.rebalance(world, now, touched);
    }

    /// Whether no link is down.
    pub(crate) fn all_up(&self) -> bool {
        self.down.is_empty()
    }

    /// Calls off the transfers whose delivery is `unwanted`.
    pub(crate) fn cancel(
        &mut self,
        world: &World,
        now: SimTime,
        unwanted: impl Fn(Delivery) -> bool,
    ) {
        for slot in 0..self.slots.len() {
            let under_way = self.ends.time(slot) != SimTime::NEVER;
            if under_way && unwanted(self.slots[slot].delivery) {
                let transfer = self.take_out(slot);
                self.rebalance(world, now, transfer.resources);
            }
        }
    }

    /// Calls off the transfers of a host whose delivery is `unwanted`, of those that it sends or
    /// those that it receives; says how many.
    pub(crate) fn cancel_of(
        &mut self,
        world: &World,
        now: SimTime,
        (host, receives): (HostId, bool),
        unwanted: impl Fn(Delivery) -> bool,
    ) -> usize {
        let first = if receives { world.hosts.len() } else { 0 };
        let resource = first + host.index();
        let mut canceled = 0;
        let mut slot = self.heads[resource];
        while slot != NONE {
            let after = self
                .neighbor(slot, u32::try_from(resource).unwrap_or(NONE))
                .1;
            if unwanted(self.slots[slot as usize].delivery) {
                let transfer = self.take_out(slot as usize);
                self.rebalance(world, now, transfer.resources);
                canceled += 1;
            }
            slot = after;
        }
        canceled
    }

    /// Takes out the transfers that have ended by `now`: what is left does not depend on their
    /// order. [`Network::give_back`] takes the list back.
    pub(crate) fn take_finished(&mut self, world: &World, now: SimTime) -> Vec<Transfer> {
        let mut ended = std::mem::take(&mut self.work.ended);
        ended.clear();
        loop {
            let (end, slot) = self.ends.first();
            if end > now {
                break;
            }
            ended.push(self.take_out(slot));
        }
        for transfer in &ended {
            self.rebalance(world, now, transfer.resources);
        }
        ended
    }

    /// What is left to send of the transfer in `slot` at `now`, in bits.
    pub(crate) fn bits_left(&self, slot: u32, now: SimTime) -> f64 {
        self.slots[slot as usize].bits_left(now)
    }

    /// Stops the transfer in `slot`.
    pub(crate) fn stop(&mut self, world: &World, now: SimTime, slot: u32) {
        let transfer = self.take_out(slot as usize);
        self.rebalance(world, now, transfer.resources);
    }

    /// Lets the transfer in `slot` have `bits` left to send at `now`.
    pub(crate) fn set_bits_left(&mut self, slot: u32, now: SimTime, bits: f64) {
        let transfer = &mut self.slots[slot as usize];
        transfer.remaining_bits = bits;
        transfer.updated = now;
        transfer.before = (bits, -1.0, now);
        let left = SimTime::from_seconds_ceil(bits / transfer.rate_bps);
        self.ends.set(slot as usize, now.after(left).min(LAST));
    }

    /// Keeps the list for its memory.
    pub(crate) fn give_back(&mut self, ended: Vec<Transfer>) {
        self.work.ended = ended;
    }

    /// Takes the transfer in `slot` out of the lists of its resources.
    fn take_out(&mut self, slot: usize) -> Transfer {
        let transfer = self.slots[slot];
        self.ends.set(slot, SimTime::NEVER);
        self.free.push(u32::try_from(slot).unwrap_or(NONE));
        for (share, &resource) in transfer.resources.iter().enumerate() {
            if resource == NONE {
                continue;
            }
            let (before, after) = transfer.neighbors[share];
            if before == NONE {
                self.heads[resource as usize] = after;
            } else {
                self.neighbor(before, resource).1 = after;
            }
            if after != NONE {
                self.neighbor(after, resource).0 = before;
            }
        }
        transfer
    }

    /// The neighbors of the transfer in `slot` in the list of `resource`.
    fn neighbor(&mut self, slot: u32, resource: u32) -> &mut (u32, u32) {
        let transfer = &mut self.slots[slot as usize];
        let share = transfer.resources.iter().position(|&r| r == resource);
        &mut transfer.neighbors[share.unwrap_or(0)]
    }

    /// Sets max-min fair rates of all transfers that are connected to `touched`, and when they end.
    fn rebalance(&mut self, world: &World, now: SimTime, touched: [u32; SHARES]) {
        let mut work = std::mem::take(&mut self.work);
        self.component(world, touched, &mut work);
        fill(&self.slots, &mut work);
        for share in &work.resources {
            work.place[share.resource as usize] = NONE;
        }
        for &(slot, rate_bps) in &work.transfers {
            let transfer = &mut self.slots[slot as usize];
            if transfer.set_rate(now, rate_bps) {
                let end = transfer.end();
                self.ends.set(slot as usize, end);
            }
        }
        self.work = work;
    }

    /// Capacity of the resource at `position`.
    fn capacity_bps(&self, world: &World, position: usize) -> f64 {
        let down = |&link: &u32| 2 * world.hosts.len() + link as usize == position;
        if self.down.iter().any(down) {
            return 0.0;
        }
        rated_bps(world, position)
    }

    /// Collects the transfers and resources that are connected to `touched`.
    fn component(&self, world: &World, touched: [u32; SHARES], work: &mut Work) {
        work.transfers.clear();
        work.resources.clear();
        work.place.resize(self.heads.len(), NONE);
        let reach = |resource: u32, work: &mut Work| {
            if resource != NONE && work.place[resource as usize] == NONE {
                work.place[resource as usize] = u32::try_from(work.resources.len()).unwrap_or(NONE);
                work.resources.push(Share {
                    resource,
                    left_bps: self.capacity_bps(world, resource as usize),
                    open: 0,
                });
            }
        };
        for resource in touched {
            reach(resource, work);
        }
        let mut next = 0;
        while let Some(&Share { resource, .. }) = work.resources.get(next) {
            let mut slot = self.heads[resource as usize];
            while slot != NONE {
                let transfer = &self.slots[slot as usize];
                work.resources[next].open += 1;
                // Each transfer is taken in at the first of its resources that is reached.
                let first = transfer
                    .resources
                    .iter()
                    .filter(|&&r| r != NONE)
                    .map(|&r| work.place[r as usize])
                    .min();
                if first == u32::try_from(next).ok() {
                    work.transfers.push((slot, -1.0));
                    for other in transfer.resources {
                        reach(other, work);
                    }
                }
                let share = transfer.resources.iter().position(|&r| r == resource);
                slot = transfer.neighbors[share.unwrap_or(0)].1;
            }
            next += 1;
        }
    }
}

/// The latest end of a transfer: before [`SimTime::NEVER`], which means that there is none.
const LAST: SimTime = SimTime(u64::MAX - 1);

/// Progressive filling: rates grow together until a resource is full, whose transfers then keep
/// theirs.
fn fill(slots: &[Transfer], work: &mut Work) {
    let mut open = work.transfers.len();
    while open > 0 {
        let bottleneck = work
            .resources
            .iter()
            .filter(|share| share.open > 0)
            .map(|share| (share.left_bps / f64::from(share.open), share.resource))
            .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let Some((fair_bps, resource)) = bottleneck else {
            return;
        };
        let fair_bps = fair_bps.max(0.0);
        for (slot, rate_bps) in &mut work.transfers {
            let transfer = &slots[*slot as usize];
            if *rate_bps >= 0.0 || !transfer.resources.contains(&resource) {
                continue;
            }
            *rate_bps = fair_bps;
            open -= 1;
            for &r in transfer.resources.iter().filter(|&&r| r != NONE) {
                let share = &mut work.resources[work.place[r as usize] as usize];
                share.left_bps -= fair_bps;
                share.open -= 1;
            }
        }
    }
}

/// Capacity of the resource at `position` unless it is down.
fn rated_bps(world: &World, position: usize) -> f64 {
    let hosts = world.hosts.len();
    let mbps = if position < 2 * hosts {
        world.size_of(position % hosts).network.0
    } else {
        world.links[position - 2 * hosts].bandwidth.0
    };
    mbps * 1e6
}

/// When a transfer ends that starts at `now` and shares its resources with no other.
pub(crate) fn end_alone(
    world: &World,
    now: SimTime,
    (from, to): (Endpoint, Endpoint),
    bits: f64,
) -> SimTime {
    let rate_bps = resources(world, from, to)
        .into_iter()
        .filter(|&resource| resource != NONE)
        .map(|resource| rated_bps(world, resource as usize))
        .fold(f64::INFINITY, f64::min);
    end_at(now, bits, rate_bps)
}

/// When `bits` have been sent at a rate set at `since`: not at the moment at which that was set.
fn end_at(since: SimTime, bits: f64, rate_bps: f64) -> SimTime {
    let left = SimTime::from_seconds_ceil(bits / rate_bps);
    since.after(left.max(SimTime(1))).min(LAST)
}

/// The resources that a transfer occupies: egress, link and ingress.
pub(crate) fn resources(world: &World, from: Endpoint, to: Endpoint) -> [u32; SHARES] {
    let hosts = world.hosts.len();
    let position = |p: usize| u32::try_from(p).unwrap_or(NONE);
    let mut resources = [NONE; SHARES];
    if let Endpoint::Host(host) = from {
        resources[0] = position(host.index());
    }
    if let Endpoint::Host(host) = to {
        resources[2] = position(hosts + host.index());
    }
    if let (Endpoint::Host(a), Endpoint::Host(b)) = (from, to) {
        let (a, b) = (world.hosts[a.index()].site, world.hosts[b.index()].site);
        if a != b {
            resources[1] = position(2 * hosts + a.index() * world.sites.len() + b.index());
        }
    }
    resources
}

/// One-way latency from `from` to `to`.
pub(crate) fn latency(world: &World, from: Endpoint, to: Endpoint) -> SimTime {
    match (from, to) {
        (Endpoint::User, Endpoint::User) => SimTime::ZERO,
        (Endpoint::User, Endpoint::Host(host)) | (Endpoint::Host(host), Endpoint::User) => {
            world.sites[world.hosts[host.index()].site.index()].user_latency
        }
        (Endpoint::Host(a), Endpoint::Host(b)) => {
            world
                .link(world.hosts[a.index()].site, world.hosts[b.index()].site)
                .latency
        }
    }
}
