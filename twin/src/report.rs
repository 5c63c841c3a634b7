//! One run as a page: what the hosts did, how busy they were, and what came of it.
//!
//! The page holds everything that it needs, and asks for nothing from a network; it reads without a
//! script, in light, in dark, on a phone and on paper. The same run gives the same bytes, but for
//! the times of decisions.
//!
//! A run is looked on through public hooks: [`Lives`] is an event sink that keeps what each host
//! was and when, and [`Watched`] is a policy around the policy that keeps how busy the hosts were at
//! each boundary. Fleets of more than [`HOSTS_DRAWN`] hosts are drawn by size and site. Both keep a
//! bounded amount: neighboring boundaries are merged where there are more than [`COLUMNS`].
//!
//! Left out: utilization between boundaries, and single requests (the event log has them).

mod lanes;
mod page;
mod watch;

pub use lanes::draw as draw_lanes;
pub use page::render;
pub use watch::{Both, Column, LaneColumn, Lives, Span, Watched, Watching};

use crate::ids::HostId;
use crate::qos::{Qos, Snapshot};
use crate::world::World;

/// Fleets of more hosts are drawn by size and site.
pub const HOSTS_DRAWN: usize = 200;
/// The most moments at which utilization is kept.
pub const COLUMNS: usize = 300;

/// The most migrations that are drawn.
pub const ARCS: usize = 2000;

/// What a page shows.
#[derive(Clone, Copy, Debug)]
pub struct Contents<'a> {
    /// The world.
    pub world: &'a World,
    /// Name of the policy.
    pub policy: &'a str,
    /// The seed.
    pub seed: u64,
    /// Length in intervals.
    pub intervals: u32,
    /// The command that repeats the run.
    pub command: &'a str,
    /// Quality of service.
    pub qos: &'a Qos,
    /// Names and values of the metrics, in the order of the table.
    pub metrics: &'a [(&'static str, f64)],
    /// The fleet at each boundary.
    pub timeline: &'a [Snapshot],
    /// What each host was and when.
    pub lives: &'a Lives,
    /// How busy the hosts were.
    pub watching: &'a Watching,
    /// Migrations, by their start.
    pub migrations: &'a [Migration],
}

/// A migration, as it is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Migration {
    /// When it started, in s.
    pub start_s: f64,
    /// When it ended, in s.
    pub end_s: f64,
    /// Where from.
    pub from: HostId,
    /// Where to.
    pub to: HostId,
    /// How it ended.
    pub outcome: Outcome,
}

/// How a migration ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was moved runs on the destination.
    Completed,
    /// It failed, and what was moved runs on the source.
    Failed,
    /// It was called off.
    Canceled,
}

impl Outcome {
    /// Its name, which is also the class that colors the arc.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

/// How the hosts of a world are put into lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lanes {
    /// The name of each lane.
    pub names: Vec<String>,
    /// Number of hosts in each lane.
    pub hosts: Vec<usize>,
    /// The lane of each host.
    pub of: Vec<usize>,
    /// Size and site of the hosts of each lane.
    pub kinds: Vec<(usize, usize)>,
}

impl Lanes {
    /// A lane for each host, or for each size and site where there are more than [`HOSTS_DRAWN`].
    #[must_use]
    pub fn of(world: &World) -> Self {
        let mut lanes = Self {
            names: Vec::new(),
            hosts: Vec::new(),
            of: Vec::new(),
            kinds: Vec::new(),
        };
        let single = world.hosts.len() <= HOSTS_DRAWN;
        let mut known = std::collections::BTreeMap::new();
        for host in &world.hosts {
            let kind = (host.size.index(), host.site.index());
            let next = lanes.names.len();
            let lane = if single {
                next
            } else {
                *known.entry(kind).or_insert(next)
            };
            if lane == next {
                let (size, site) = (&world.sizes[kind.0].name, &world.sites[kind.1].name);
                lanes.names.push(if single {
                    host.name.clone()
                } else {
                    format!("{size} {site}")
                });
                lanes.hosts.push(0);
                lanes.kinds.push(kind);
            }
            lanes.hosts[lane] += 1;
            lanes.of.push(lane);
        }
        lanes
    }

    /// Whether each lane is one host.
    #[must_use]
    pub fn single(&self) -> bool {
        self.names.len() == self.of.len()
    }
}

#[cfg(test)]
mod tests;
