//! A live twin: the state of a real fleet, kept in step by telemetry.
//!
//! A [`Live`] is made of a [`FleetView`] and told what happens by [`Delta`]s. Between reports it
//! carries on what follows from what is known. It answers with an [`Observation`], so that every
//! policy decides on it as on a state that an operator sends whole.
//!
//! **What it predicts and what it does not.** Work is hidden, so a fragment ends when the fleet says
//! so, and never before. Everything else follows from the mechanics of the twin: when inputs are
//! there, when a fragment gets its memory and starts, when a boot or a drain ends, when an answer
//! whose fragments have all ended has reached the users. A report corrects each of these. One that is
//! missing is made up by later ones: a fragment that started or ended has had its inputs, so those
//! before it have ended; a request that was answered has no fragment left.
//!
//! **Time** is the fleet's own, in nanoseconds since a start of its choice. The clock never goes
//! back. A delta that is older than the clock is worked in as of its own time, as far as nothing else
//! has happened on its host since ([`crate::state`]).
//!
//! **Reports that come twice or too late** change nothing and are told apart from those that did
//! ([`Ignored`]). Reports that cannot be true of this fleet are errors ([`DeltaError`]): they are
//! found before anything is changed, so a list of deltas is taken whole or not at all.
//!
//! **Cost.** A delta costs what its request, its hosts and the transfers connected to these cost, not
//! what the fleet does.
//!
//! ```
//! use twin::live::{Delta, Event, Live};
//! use twin::observation::Observation;
//! use twin::state::{Epoch, State};
//! use twin::{World, ids::{ApplicationId, RequestId}, units::SimTime};
//!
//! let world = World::load("scinet-16")?;
//! let view = Observation::new(&world, &State::new(&world), Epoch::Boundary).view();
//! let mut live = Live::new(&world, &view)?;
//! let second = SimTime::from_seconds(1.0);
//! let event = Event::Arrived { request: RequestId(0), application: ApplicationId(2), context_tokens: 0 };
//! live.observe(&world, second, &[Delta { at: second, event }])?;
//! assert_eq!(live.observation(&world, Epoch::Arrival).waiting().count(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Left out: links that are down, slow spells but for the speed that a host reports, and failures
//! within migrations, which are predicted from the world.

mod apply;
mod check;
mod delta;
mod expect;
mod snapshot;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use self::delta::{Delta, DeltaError, Event, Ignored, Lifecycle, Sample};
pub use self::expect::{Expectations, Expected};
pub use self::snapshot::LiveSnapshotError;
use crate::decision::{Decision, Deployment};
use crate::host;
use crate::ids::{ApplicationId, HostId, RequestId, VariantId};
use crate::observation::{FleetView, Observation, ViewError};
use crate::sink::{Silent, Sink};
use crate::state::{Epoch, Request, State};
use crate::units::SimTime;
use crate::world::World;

/// How many requests below the newest a report may be about one that is not known any more.
///
/// Those that have ended are remembered as long, so that a report that comes twice is told from one
/// that cannot be true.
pub const REMEMBERED: u64 = 65_536;
/// The most that a message may be ahead of the clock: what is further ahead is taken for a mistake.
pub const MAX_AHEAD: SimTime = SimTime(24 * 3600 * 1_000_000_000);
/// The most that a message may be behind the clock.
pub const MAX_BEHIND: SimTime = SimTime(300 * 1_000_000_000);
/// The most deltas of a message.
pub const MAX_DELTAS: usize = 100_000;

/// A twin of a real fleet.
#[derive(Debug)]
pub struct Live {
    state: State,
    /// Requests under way.
    tracks: BTreeMap<RequestId, Track>,
    /// Requests that ended, as far as they are remembered.
    ended: BTreeMap<RequestId, Ended>,
    /// When the lifecycle of each host was last ordered or seen.
    turned: Vec<SimTime>,
}

impl Clone for Live {
    fn clone(&self) -> Self {
        let mut state = self.state.clone();
        state.starts = Some(Vec::new());
        Self {
            state,
            tracks: self.tracks.clone(),
            ended: self.ended.clone(),
            turned: self.turned.clone(),
        }
    }
}

/// What is known of a request beside its state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Track {
    /// Its slot.
    slot: u32,
    /// When each of its fragments started, as far as they have; empty while it waits.
    started: Vec<Option<SimTime>>,
    /// Whose start was reported, a bit each.
    reported: u32,
}

/// A request that ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Ended {
    application: ApplicationId,
    arrived: SimTime,
    /// When its answer was there, by prediction or report; `None` if it failed.
    answered: Option<SimTime>,
    /// Whether that was reported.
    reported: bool,
}

/// A message that is too far from the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ClockError {
    /// Ahead.
    #[error(
        "is {} s ahead of the fleet's clock, which stands at {clock_ns} ns; at most {} s are \
         taken: send the whole state anew if the clock was set", ahead.seconds(), MAX_AHEAD.seconds()
    )]
    Ahead {
        /// Where the clock stands.
        clock_ns: u64,
        /// By how much.
        ahead: SimTime,
    },
    /// Behind.
    #[error(
        "is {} s behind the fleet's clock, which stands at {clock_ns} ns; at most {} s are \
         taken: send the whole state anew if the clock was set", behind.seconds(), MAX_BEHIND.seconds()
    )]
    Behind {
        /// Where the clock stands.
        clock_ns: u64,
        /// By how much.
        behind: SimTime,
    },
}

/// What became of a list of deltas.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Noted {
    /// How many changed something.
    pub applied: usize,
    /// Those that changed nothing, by their position in the list.
    pub ignored: Vec<(usize, Ignored)>,
    /// What came to be known by them.
    pub facts: Vec<Fact>,
}

/// What came to be known, to be held against what was expected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fact {
    /// A request was answered.
    Answered {
        /// The request.
        request: RequestId,
        /// What it asked for.
        application: ApplicationId,
        /// When.
        at: SimTime,
        /// Time from its arrival to its answer.
        response: SimTime,
    },
    /// A fragment ended.
    Finished {
        /// Its request.
        request: RequestId,
        /// Position of the fragment in its variant.
        fragment: u16,
        /// Where it ran.
        host: HostId,
        /// When it started; predicted if no report told.
        started: SimTime,
        /// When it ended.
        finished: SimTime,
        /// Work that it was expected to have, with the tokens as they are known now, in MI.
        expected_mi: f64,
        /// Service that it had by the twin's account, in MI.
        attained_mi: f64,
    },
    /// A host was measured.
    Sampled {
        /// When.
        at: SimTime,
        /// What it showed.
        sample: Sample,
        /// What the twin makes of the host up to then.
        meter: HostMeter,
        /// Utilization by the twin's account at that time.
        utilization: f64,
    },
    /// A request is gone without an answer.
    Failed {
        /// The request.
        request: RequestId,
    },
}

/// Passes on what the twin's account must keep up with.
#[derive(Default)]
struct Watch {
    answered: Vec<(RequestId, Ended)>,
    withdrawn: Vec<RequestId>,
}

impl Sink for Watch {
    fn completed(&mut self, now: SimTime, request: &Request, _variant: VariantId, _late: bool) {
        let ended = Ended {
            application: request.application,
            arrived: request.arrived,
            answered: Some(now),
            reported: false,
        };
        self.answered.push((request.id, ended));
    }

    fn incident(&mut self, _now: SimTime, incident: &crate::faults::Incident) {
        if let crate::faults::Incident::Withdrawn { request } = *incident {
            self.withdrawn.push(request);
        }
    }
}

impl Live {
    /// The twin of the fleet that `view` describes.
    ///
    /// # Errors
    ///
    /// If the view does not fit the world or contradicts itself.
    pub fn new(world: &World, view: &FleetView) -> Result<Self, ViewError> {
        Ok(Self::of(State::from_view(world, view)?, world))
    }

    fn of(mut state: State, world: &World) -> Self {
        state.expect_reports();
        let mut live = Self {
            tracks: BTreeMap::new(),
            ended: BTreeMap::new(),
            turned: vec![SimTime::ZERO; state.hosts.len()],
            state,
        };
        for place in 0..live.state.active.len() {
            let slot = live.state.active[place];
            let request = &live.state.requests[slot as usize];
            let mut track = Track {
                slot,
                ..Track::default()
            };
            if let Some(deployed) = request.deployed {
                let variant = world.variant(request.application, deployed.variant);
                track.started = vec![None; variant.fragments.len()];
            }
            live.tracks.insert(request.id, track);
        }
        live
    }

    /// The time that it has come to.
    #[must_use]
    pub fn now(&self) -> SimTime {
        self.state.now()
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What a policy sees of it.
    #[must_use]
    pub fn observation<'a>(&'a self, world: &'a World, epoch: Epoch) -> Observation<'a> {
        Observation::new(world, &self.state, epoch)
    }

    /// What a request under way asks for.
    #[must_use]
    pub fn application_of(&self, request: RequestId) -> Option<ApplicationId> {
        let track = self.tracks.get(&request)?;
        Some(self.state.requests[track.slot as usize].application)
    }

    /// How a request under way is deployed; nothing while it waits.
    #[must_use]
    pub fn deployment_of(&self, request: RequestId) -> Option<Deployment> {
        let track = self.tracks.get(&request)?;
        let deployed = self.state.requests[track.slot as usize].deployed?;
        let runs = self.state.fragments.iter().skip(deployed.first as usize);
        Some(Deployment {
            request,
            variant: deployed.variant,
            hosts: runs.take(track.started.len()).map(|r| r.host).collect(),
        })
    }

    /// The number that the next request is expected to have.
    #[must_use]
    pub fn next_request(&self) -> u64 {
        self.state.next_request
    }

    /// The next interval boundary.
    #[must_use]
    pub fn next_boundary(&self) -> SimTime {
        self.state.next_boundary
    }

    /// What is metered of a host from when the state was sent whole until now.
    #[must_use]
    pub fn meter(&self, host: HostId) -> HostMeter {
        let meter = self.state.hosts[host.index()].meter(self.state.now);
        HostMeter {
            at: self.state.now,
            energy_j: meter.energy_j,
            billed_s: meter.billed.seconds(),
            busy_s: meter.busy_s,
        }
    }

    /// Power that a host draws now, in W.
    #[must_use]
    pub fn power_w(&self, host: HostId) -> f64 {
        self.state.hosts[host.index()].power_w
    }

    /// Memory of a host, in MiB.
    #[must_use]
    pub fn ram_mib(&self, host: HostId) -> f64 {
        self.state.hosts[host.index()].ram_mib
    }

    /// Whether a message of the time `now` can be taken.
    ///
    /// # Errors
    ///
    /// If it is too far from the clock.
    pub fn check_clock(&self, now: SimTime) -> Result<(), ClockError> {
        let clock = self.now();
        let (ahead, behind) = (now.since(clock), clock.since(now));
        if ahead > MAX_AHEAD {
            return Err(ClockError::Ahead {
                clock_ns: clock.0,
                ahead,
            });
        }
        if behind > MAX_BEHIND {
            return Err(ClockError::Behind {
                clock_ns: clock.0,
                behind,
            });
        }
        Ok(())
    }

    /// Whether `deltas` can be true of this fleet at `now`.
    ///
    /// # Errors
    ///
    /// The first delta that cannot.
    pub fn check_deltas(
        &self,
        world: &World,
        now: SimTime,
        deltas: &[Delta],
    ) -> Result<(), DeltaError> {
        self.check(world, now, deltas).map(|_| ())
    }

    /// Takes what `deltas` say and carries on until `now`, or stays where the clock is if that is
    /// later. Deltas are worked in by their times, those of equal times in order.
    ///
    /// # Errors
    ///
    /// If one of them cannot be true of this fleet; nothing has changed then.
    pub fn observe(
        &mut self,
        world: &World,
        now: SimTime,
        deltas: &[Delta],
    ) -> Result<Noted, DeltaError> {
        let order = self.check(world, now, deltas)?;
        let mut noted = Noted::default();
        for place in order {
            let delta = &deltas[place];
            if delta.at > self.now() {
                self.carry_on(world, delta.at, &mut noted);
            }
            match self.take(world, delta, &mut noted) {
                Ok(()) => noted.applied += 1,
                Err(reason) => noted.ignored.push((place, reason)),
            }
        }
        self.carry_on(world, now.max(self.now()), &mut noted);
        noted.ignored.sort_unstable_by_key(|(place, _)| *place);
        Ok(noted)
    }

    /// An interval boundary at the present time: everything may be decided, and again at `next`, or
    /// after the world's interval.
    pub fn meet_boundary(&mut self, world: &World, next: Option<SimTime>) {
        let now = self.now();
        let next = next
            .filter(|&next| next > now)
            .unwrap_or_else(|| now.after(world.interval));
        self.state.meet_boundary(world, next, &mut Silent);
    }

    /// Carries out `decision`, which the checker has found feasible on this twin; parts that are not
    /// feasible are left out.
    pub fn apply(&mut self, world: &World, decision: &Decision) {
        let mut noted = Noted::default();
        let mut watch = Watch::default();
        for action in &decision.provisioning {
            if let Some(turned) = self.turned.get_mut(action.host.index()) {
                *turned = self.state.now;
            }
        }
        self.state.apply(world, decision, &mut watch);
        for deployment in &decision.deployments {
            self.track_deployment(world, deployment.request);
        }
        self.catch_up(watch, &mut noted);
    }

    fn carry_on(&mut self, world: &World, until: SimTime, noted: &mut Noted) {
        let mut watch = Watch::default();
        self.state.carry_on(world, until, &mut watch);
        self.catch_up(watch, noted);
    }

    /// Readies the account of a request that was just deployed.
    fn track_deployment(&mut self, world: &World, id: RequestId) {
        let Some(track) = self.tracks.get_mut(&id) else {
            return;
        };
        let request = &self.state.requests[track.slot as usize];
        if let (Some(deployed), true) = (request.deployed, track.started.is_empty()) {
            let variant = world.variant(request.application, deployed.variant);
            track.started = vec![None; variant.fragments.len()];
            track.reported = 0;
        }
    }

    /// Keeps the account of what happened in the state.
    fn catch_up(&mut self, watch: Watch, noted: &mut Noted) {
        for id in watch.withdrawn {
            if let Some(track) = self.tracks.get_mut(&id) {
                track.started.clear();
                track.reported = 0;
            }
        }
        let mut starts = std::mem::take(&mut self.state.starts).unwrap_or_default();
        for (slot, at) in starts.drain(..) {
            let run = &self.state.fragments[slot as usize];
            let request = &self.state.requests[run.request as usize];
            let started = self
                .tracks
                .get_mut(&request.id)
                .and_then(|track| track.started.get_mut(usize::from(run.index)));
            if let Some(started) = started {
                *started = Some(at);
            }
        }
        self.state.starts = Some(starts);
        for (id, ended) in watch.answered {
            self.end(id, ended);
            if let (Some(at), true) = (ended.answered, ended.reported) {
                noted.facts.push(Fact::Answered {
                    request: id,
                    application: ended.application,
                    at,
                    response: at.since(ended.arrived),
                });
            }
        }
    }

    /// Moves a request to those that ended, and forgets those that ended long ago.
    fn end(&mut self, id: RequestId, ended: Ended) {
        self.tracks.remove(&id);
        self.ended.insert(id, ended);
        let floor = self.remembered_from();
        while let Some(oldest) = self.ended.first_entry() {
            if *oldest.key() >= floor {
                break;
            }
            oldest.remove();
        }
    }

    /// The least number of a request that is known to have ended or not to have arrived.
    fn remembered_from(&self) -> RequestId {
        RequestId(self.state.next_request.saturating_sub(REMEMBERED))
    }

    /// Where a host is in its life.
    #[must_use]
    pub fn lifecycle(&self, host: HostId) -> host::Lifecycle {
        self.state.hosts[host.index()].lifecycle
    }
}

/// What is metered of a host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostMeter {
    /// When.
    pub at: SimTime,
    /// Energy used, in J.
    pub energy_j: f64,
    /// Time for which it was billed, in s.
    pub billed_s: f64,
    /// Integral of utilization over time, in s.
    pub busy_s: f64,
}

#[cfg(test)]
mod tests;
