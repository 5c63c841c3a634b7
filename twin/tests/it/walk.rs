//! Walks through a run from one change to the next.
//!
//! Between two changes no fragment and no transfer begins or ends and no host changes its state,
//! so every rate is constant. The next change is found from outside, by bisection over copies of
//! the state, to the nanosecond.

use std::collections::BTreeMap;

use twin::World;
use twin::decision::Decision;
use twin::host::Lifecycle;
use twin::ids::{HostId, RequestId, VariantId};
use twin::network::Endpoint;
use twin::observation::{Observation, Progress, ResidentContainer};
use twin::qos::Account;
use twin::sink::{Silent, Sink};
use twin::state::{Epoch, Future, Phase, State};
use twin::units::SimTime;
use twin::workload::Arrival;

/// Counts what happens, so that nothing that begins and ends within a step is missed.
#[derive(Default)]
struct Count(u64);

impl Sink for Count {
    fn fragment_done(&mut self, _: SimTime, _: RequestId, _: usize, _: HostId) {
        self.0 += 1;
    }
    fn lifecycle(&mut self, _: SimTime, _: HostId, _: Lifecycle) {
        self.0 += 1;
    }
}

/// A fragment: its request and its position in the variant.
pub(crate) type Piece = (RequestId, u16);

/// A transfer: its fragment (or the users), and where it comes from.
type Carried = (RequestId, Option<u16>, Option<HostId>);

/// What can be seen of a run at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    pub(crate) now: SimTime,
    pub(crate) energy_j: f64,
    pub(crate) hosts: Vec<HostReading>,
    /// Bits that are left of each transfer, and the host it goes to.
    pub(crate) transfers: Vec<(Carried, Option<HostId>, f64)>,
    /// How each request under way is deployed.
    pub(crate) variants: BTreeMap<RequestId, VariantId>,
    /// Requests under way and what has become of their fragments.
    requests: BTreeMap<RequestId, Vec<Phase>>,
}

#[derive(Clone, Debug)]
pub(crate) struct HostReading {
    pub(crate) lifecycle: Lifecycle,
    pub(crate) utilization: f64,
    pub(crate) ram_free_mib: f64,
    /// Fragments that run: cap in virtual CPUs, memory in MiB, service that they have had in MI.
    pub(crate) running: BTreeMap<Piece, (f64, f64, f64)>,
    pub(crate) queue: Vec<Piece>,
    /// Containers that have started and have not ended.
    pub(crate) containers: Vec<ResidentContainer>,
}

impl Reading {
    fn of(world: &World, state: &mut State) -> Self {
        let energy_j = Account::of(world, state).energy_j;
        let observation = Observation::new(world, state, Epoch::End);
        let view = observation.view();
        let mut hosts: Vec<HostReading> = (0..observation.host_count())
            .map(|h| HostReading {
                lifecycle: observation.lifecycle(HostId::at(h)),
                utilization: observation.utilization(HostId::at(h)),
                ram_free_mib: observation.ram_free_mib(HostId::at(h)),
                running: BTreeMap::new(),
                queue: view.hosts[h]
                    .queue
                    .iter()
                    .map(|f| (f.request, f.fragment))
                    .collect(),
                containers: {
                    let mut list: Vec<_> = observation.containers(HostId::at(h)).collect();
                    list.sort_by_key(|c| c.id);
                    list
                },
            })
            .collect();
        let mut places = BTreeMap::new();
        let mut requests = BTreeMap::new();
        for request in &view.requests {
            let mut phases = Vec::new();
            let deployed = request.deployed.as_ref();
            for (k, seen) in deployed.iter().flat_map(|d| &d.fragments).enumerate() {
                let piece = (request.id, u16::try_from(k).expect("fragments are few"));
                places.insert(piece, seen.host);
                phases.push(seen.phase);
                if let (Phase::Running, Some(deployed)) = (seen.phase, deployed) {
                    let variant = world.variant(request.application, deployed.variant);
                    let fragment = &variant.fragments[k];
                    let figures = (world.caps[fragment.cap], fragment.ram.0, seen.attained_mi);
                    hosts[seen.host.index()].running.insert(piece, figures);
                }
            }
            requests.insert(request.id, phases);
        }
        let transfers = view.transfers.iter().filter_map(|t| {
            let Progress::Sending { from, bits_left } = t.progress else {
                return None;
            };
            let from = match from {
                Endpoint::Host(host) => Some(host),
                Endpoint::User => None,
            };
            let to = t.fragment.map(|k| places[&(t.request, k)]);
            Some(((t.request, t.fragment, from), to, bits_left))
        });
        Self {
            now: view.now,
            energy_j,
            variants: (view.requests.iter())
                .filter_map(|r| Some((r.id, r.deployed.as_ref()?.variant)))
                .collect(),
            hosts,
            transfers: transfers.collect(),
            requests,
        }
    }

    /// Whether nothing has begun or ended between this moment and `other`.
    fn same(&self, other: &Self) -> bool {
        let names = |r: &Self| r.transfers.iter().map(|t| t.0).collect::<Vec<_>>();
        let lifecycles = |r: &Self| r.hosts.iter().map(|h| h.lifecycle).collect::<Vec<_>>();
        let containers = |r: &Self| {
            r.hosts
                .iter()
                .map(|h| h.containers.clone())
                .collect::<Vec<_>>()
        };
        self.requests == other.requests
            && names(self) == names(other)
            && lifecycles(self) == lifecycles(other)
            && containers(self) == containers(other)
    }
}

/// Walks through the run of `arrivals` that `decide` steers until `end`, and shows `look` the two
/// ends of each stretch in which nothing changes.
pub(crate) fn walk(
    world: &World,
    arrivals: &[Arrival],
    end: SimTime,
    mut decide: impl FnMut(&Observation<'_>) -> Decision,
    mut look: impl FnMut(&Reading, &Reading),
) {
    let mut state = State::new(world);
    let mut future = Future::new(arrivals);
    while state.now() < end {
        // Everything that happens at this moment, and the nanosecond after it.
        let next = state.now().after(SimTime(1)).min(end);
        loop {
            let epoch = state.advance(world, &mut future, next, &mut Silent);
            if epoch == Epoch::End {
                break;
            }
            let decision = decide(&Observation::new(world, &state, epoch));
            state.apply(world, &decision, &mut Silent);
        }
        let before = Reading::of(world, &mut state);
        let until = next_change(world, (&state, future), &before, end);
        let epoch = state.advance(world, &mut future, until, &mut Silent);
        assert_eq!(epoch, Epoch::End, "nothing is decided in between");
        look(&before, &Reading::of(world, &mut state));
    }
}

/// The first moment after that of `before` at which something happens; at most `end`.
fn next_change(
    world: &World,
    (state, future): (&State, Future<'_>),
    before: &Reading,
    end: SimTime,
) -> SimTime {
    // Nothing that comes before `until` changes anything.
    let unchanged = |until: u64| {
        let (mut copy, mut future, mut count) = (state.clone(), future, Count::default());
        let epoch = copy.advance(world, &mut future, SimTime(until), &mut count);
        epoch == Epoch::End && count.0 == 0 && before.same(&Reading::of(world, &mut copy))
    };
    let (mut low, mut high) = (before.now.0, end.0);
    if unchanged(high) {
        return end;
    }
    while high - low > 1 {
        let middle = low.midpoint(high);
        if unchanged(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    SimTime(low)
}
