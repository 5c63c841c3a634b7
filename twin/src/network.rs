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
}

/// A transfer under way.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) from: Endpoint,
    pub(crate) to: Endpoint,
    pub(crate) delivery: Delivery,
    pub(crate) remaining_bits: f64,
    rate_bps: f64,
    /// Egress, link and ingress: positions in the list of resources.
    resources: [u32; 3],
}

const NO_RESOURCE: u32 = u32::MAX;

/// All transfers under way.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Network {
    pub(crate) transfers: Vec<Transfer>,
    updated: SimTime,
    next: Option<SimTime>,
    /// Capacity left in each resource during a computation; kept to avoid allocation.
    #[serde(skip)]
    left_bps: Vec<f64>,
    /// Transfers without a rate in each resource during a computation.
    #[serde(skip)]
    users: Vec<u32>,
}

impl Network {
    /// When the next transfer ends.
    pub(crate) fn next(&self) -> SimTime {
        self.next.unwrap_or(SimTime::NEVER)
    }

    /// Accounts for the time since the last update.
    pub(crate) fn advance(&mut self, now: SimTime) {
        let seconds = now.since(self.updated).seconds();
        self.updated = now;
        for transfer in &mut self.transfers {
            transfer.remaining_bits =
                (transfer.remaining_bits - transfer.rate_bps * seconds).max(0.0);
        }
    }

    /// Starts a transfer of `bits` now; [`Network::share`] must follow.
    pub(crate) fn start(
        &mut self,
        world: &World,
        (from, to): (Endpoint, Endpoint),
        delivery: Delivery,
        bits: f64,
    ) {
        let hosts = world.hosts.len();
        let position = |p: usize| u32::try_from(p).unwrap_or(NO_RESOURCE);
        let mut resources = [NO_RESOURCE; 3];
        if let Endpoint::Host(host) = from {
            resources[0] = position(host.index());
        }
        if let Endpoint::Host(host) = to {
            resources[1] = position(hosts + host.index());
        }
        if let (Endpoint::Host(a), Endpoint::Host(b)) = (from, to) {
            let (a, b) = (world.hosts[a.index()].site, world.hosts[b.index()].site);
            if a != b {
                resources[2] = position(2 * hosts + a.index() * world.sites.len() + b.index());
            }
        }
        self.transfers.push(Transfer {
            from,
            to,
            delivery,
            remaining_bits: bits,
            rate_bps: 0.0,
            resources,
        });
    }

    /// Takes out a transfer that has ended by now, if any.
    pub(crate) fn pop_finished(&mut self) -> Option<Transfer> {
        let done = self
            .transfers
            .iter()
            .position(|t| t.remaining_bits <= t.rate_bps * 5e-10)?;
        Some(self.transfers.remove(done))
    }

    /// Sets max-min fair rates, and when the next transfer ends.
    pub(crate) fn share(&mut self, world: &World) {
        self.next = None;
        if self.transfers.is_empty() {
            return;
        }
        self.prepare(world);
        let mut open = self.transfers.len();
        for transfer in &mut self.transfers {
            transfer.rate_bps = -1.0;
        }
        while open > 0 {
            let bottleneck = self
                .transfers
                .iter()
                .filter(|t| t.rate_bps < 0.0)
                .flat_map(|t| t.resources)
                .filter(|&r| r != NO_RESOURCE)
                .map(|r| {
                    (
                        self.left_bps[r as usize] / f64::from(self.users[r as usize]),
                        r,
                    )
                })
                .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let Some((fair, resource)) = bottleneck else {
                break;
            };
            for transfer in &mut self.transfers {
                if transfer.rate_bps >= 0.0 || !transfer.resources.contains(&resource) {
                    continue;
                }
                transfer.rate_bps = fair.max(0.0);
                open -= 1;
                for r in transfer.resources.into_iter().filter(|&r| r != NO_RESOURCE) {
                    self.left_bps[r as usize] -= fair;
                    self.users[r as usize] -= 1;
                }
            }
        }
        let soonest = self
            .transfers
            .iter()
            .map(|t| t.remaining_bits / t.rate_bps)
            .fold(f64::INFINITY, f64::min);
        self.next = Some(self.updated.after(SimTime::from_seconds_ceil(soonest)));
    }

    /// Capacities and users of the resources in use.
    fn prepare(&mut self, world: &World) {
        let hosts = world.hosts.len();
        let count = 2 * hosts + world.links.len();
        self.left_bps.resize(count, 0.0);
        self.users.resize(count, 0);
        for transfer in &self.transfers {
            for r in transfer.resources.into_iter().filter(|&r| r != NO_RESOURCE) {
                self.users[r as usize] = 0;
            }
        }
        for transfer in &self.transfers {
            for r in transfer.resources.into_iter().filter(|&r| r != NO_RESOURCE) {
                let r = r as usize;
                self.users[r] += 1;
                let mbps = if r < 2 * hosts {
                    world.size_of(r % hosts).network.0
                } else {
                    world.links[r - 2 * hosts].bandwidth.0
                };
                self.left_bps[r] = mbps * 1e6;
            }
        }
    }
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
