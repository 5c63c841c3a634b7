//! What a delta that can be true does to the twin.

use super::{Delta, Ended, Event, Fact, Ignored, Lifecycle, Live, Noted, Watch};
use crate::decision::Deployment;
use crate::host;
use crate::ids::{ApplicationId, HostId, RequestId, VariantId};
use crate::state::telemetry::Seen;
use crate::state::{Deployed, Phase};
use crate::units::SimTime;
use crate::world::World;

impl Live {
    /// Works in one delta, which is not later than the clock.
    pub(super) fn take(
        &mut self,
        world: &World,
        delta: &Delta,
        noted: &mut Noted,
    ) -> Result<(), Ignored> {
        let at = delta.at;
        match &delta.event {
            Event::Arrived {
                request,
                application,
                context_tokens,
            } => self.arrived(world, at, *request, (*application, *context_tokens)),
            Event::Deployed {
                request,
                variant,
                hosts,
            } => self.deployed(world, *request, *variant, hosts, noted),
            Event::Started {
                request, fragment, ..
            } => self.started(world, at, (*request, *fragment), noted),
            Event::Finished {
                request,
                fragment,
                generated_tokens,
                ..
            } => self.finished(world, at, (*request, *fragment), *generated_tokens, noted),
            Event::Answered { request } => self.answered(world, at, *request, noted),
            Event::Failed { request } => self.failed(world, *request, noted),
            Event::Withdrawn { request } => self.withdrawn(world, *request, noted),
            Event::Moved {
                request,
                fragment,
                host,
            } => self.moved(world, (*request, *fragment), *host, noted),
            Event::Host { host, lifecycle } => self.turned(world, at, *host, *lifecycle, noted),
            Event::Sample(sample) => {
                let host = &self.state.hosts[sample.host.index()];
                noted.facts.push(Fact::Sampled {
                    at,
                    sample: *sample,
                    meter: self.meter(sample.host),
                    utilization: host.utilization,
                });
                self.state
                    .measure(world, sample.host, sample.speed, sample.credits);
                Ok(())
            }
        }
    }

    fn arrived(
        &mut self,
        world: &World,
        at: SimTime,
        id: RequestId,
        asked: (ApplicationId, u32),
    ) -> Result<(), Ignored> {
        if self.tracks.contains_key(&id) {
            return Err(Ignored::Known);
        }
        if self.ended.contains_key(&id) || id < self.remembered_from() {
            return Err(Ignored::Ended);
        }
        let slot = self
            .state
            .arrive_observed(world, id, asked, at, &mut Watch::default());
        let track = super::Track {
            slot,
            ..super::Track::default()
        };
        self.tracks.insert(id, track);
        Ok(())
    }

    fn deployed(
        &mut self,
        world: &World,
        id: RequestId,
        variant: VariantId,
        hosts: &[HostId],
        noted: &mut Noted,
    ) -> Result<(), Ignored> {
        let slot = self.slot(id)?;
        if let Some(known) = self.state.requests[slot as usize].deployed {
            let known_hosts = self.state.fragments.iter().skip(known.first as usize);
            let mut same = hosts.iter().zip(known_hosts);
            if known.variant == variant && same.all(|(host, run)| *host == run.host) {
                return Err(Ignored::Known);
            }
        }
        let off = |h: &HostId| self.lifecycle(*h) == host::Lifecycle::Off;
        if hosts.iter().any(off) {
            return Err(Ignored::HostOff);
        }
        let mut watch = Watch::default();
        self.state.withdraw_observed(world, slot, &mut watch);
        self.catch_up(watch, noted);
        let deployment = Deployment {
            request: id,
            variant,
            hosts: hosts.to_vec(),
        };
        self.state.deploy_observed(world, slot, &deployment);
        self.track_deployment(world, id);
        self.catch_up(Watch::default(), noted);
        Ok(())
    }

    /// The slot of a request that is under way.
    fn slot(&self, id: RequestId) -> Result<u32, Ignored> {
        let track = self.tracks.get(&id).ok_or(Ignored::Ended)?;
        Ok(track.slot)
    }

    /// How a request that is under way is deployed.
    fn deployment(&self, id: RequestId) -> Result<(u32, Deployed), Ignored> {
        let slot = self.slot(id)?;
        let deployed = self.state.requests[slot as usize].deployed;
        Ok((slot, deployed.ok_or(Ignored::NotDeployed)?))
    }

    fn started(
        &mut self,
        world: &World,
        at: SimTime,
        (id, index): (RequestId, u16),
        noted: &mut Noted,
    ) -> Result<(), Ignored> {
        let (_, deployed) = self.deployment(id)?;
        let place = deployed.first + u32::from(index);
        let bit = 1_u32 << index;
        let Some(track) = self.tracks.get_mut(&id) else {
            return Err(Ignored::Ended);
        };
        let Some(&predicted) = track.started.get(usize::from(index)) else {
            // It was deployed anew in another variant.
            return Err(Ignored::Outdated);
        };
        if track.reported & bit != 0 {
            return Err(Ignored::Known);
        }
        match self.state.fragments[place as usize].phase {
            Phase::Done => return Err(Ignored::Known),
            Phase::Paused => return Err(Ignored::Migrating),
            Phase::Running => {
                track.reported |= bit;
                let Some(predicted) = predicted else {
                    // It ran already when the state was sent whole.
                    return Err(Ignored::Known);
                };
                if predicted == at {
                    return Ok(());
                }
                track.started[usize::from(index)] = Some(at);
                self.state.shift_start(world, place, predicted, at);
                return Ok(());
            }
            Phase::Waiting | Phase::Queued | Phase::Loading => {}
        }
        let mut watch = Watch::default();
        self.finish_before(world, at, id, place, noted);
        let began = self.state.start_observed(world, place, at, &mut watch);
        self.catch_up(watch, noted);
        if !began {
            return Err(Ignored::NoMemory);
        }
        if let Some(track) = self.tracks.get_mut(&id) {
            track.reported |= bit;
        }
        Ok(())
    }

    /// Lets the predecessors of the fragment in `place` end, as far as they have not.
    fn finish_before(
        &mut self,
        world: &World,
        at: SimTime,
        id: RequestId,
        place: u32,
        noted: &mut Noted,
    ) {
        let run = self.state.fragments[place as usize];
        if run.phase != Phase::Waiting {
            return;
        }
        let Some(fragment) = self.state.fragment_in(world, place) else {
            return;
        };
        let first = place - u32::from(run.index);
        for &p in &fragment.predecessors {
            let before = first + u32::try_from(p).unwrap_or(0);
            if self.state.fragments[before as usize].phase != Phase::Done {
                self.finish_before(world, at, id, before, noted);
                self.finish(world, at, id, before, true, noted);
            }
        }
    }

    /// Lets the fragment in `place` end.
    fn finish(
        &mut self,
        world: &World,
        at: SimTime,
        id: RequestId,
        place: u32,
        hands_on: bool,
        noted: &mut Noted,
    ) {
        let run = self.state.fragments[place as usize];
        let attained_mi = self.state.attained_at(world, place, at);
        let expected_mi = self.state.expected_mi(world, place, 0.0);
        let started = self.tracks.get(&id).and_then(|track| {
            let known = track.started.get(usize::from(run.index))?;
            *known
        });
        let mut watch = Watch::default();
        self.state
            .finish_observed(world, place, at, hands_on, &mut watch);
        if let (Phase::Running, Some(started), Some(expected_mi)) =
            (run.phase, started, expected_mi)
        {
            noted.facts.push(Fact::Finished {
                request: id,
                fragment: run.index,
                host: run.host,
                started,
                finished: at.max(started),
                expected_mi,
                attained_mi,
            });
        }
        self.catch_up(watch, noted);
    }

    fn finished(
        &mut self,
        world: &World,
        at: SimTime,
        (id, index): (RequestId, u16),
        tokens: Option<u32>,
        noted: &mut Noted,
    ) -> Result<(), Ignored> {
        let (slot, deployed) = self.deployment(id)?;
        let fragments = self.tracks.get(&id).map_or(0, |t| t.started.len());
        if usize::from(index) >= fragments {
            return Err(Ignored::Outdated);
        }
        let place = deployed.first + u32::from(index);
        if self.state.fragments[place as usize].phase == Phase::Done {
            return Err(Ignored::Known);
        }
        if let Some(tokens) = tokens {
            self.state.tell_tokens(slot, tokens);
        }
        self.finish_before(world, at, id, place, noted);
        self.finish(world, at, id, place, true, noted);
        Ok(())
    }

    fn answered(
        &mut self,
        world: &World,
        at: SimTime,
        id: RequestId,
        noted: &mut Noted,
    ) -> Result<(), Ignored> {
        if let Some(ended) = self.ended.get_mut(&id) {
            // It was predicted; now it is known how long it took.
            if ended.answered.is_none() || ended.reported {
                return Err(Ignored::Ended);
            }
            (ended.answered, ended.reported) = (Some(at), true);
            noted.facts.push(Fact::Answered {
                request: id,
                application: ended.application,
                at,
                response: at.since(ended.arrived),
            });
            return Ok(());
        }
        let (slot, deployed) = self.deployment(id)?;
        let fragments = self.tracks.get(&id).map_or(0, |t| t.started.len());
        for place in (deployed.first..).take(fragments) {
            if self.state.fragments[place as usize].phase != Phase::Done {
                self.finish(world, at, id, place, false, noted);
            }
        }
        let mut watch = Watch::default();
        self.state.answer_observed(world, slot, at, &mut watch);
        for (_, ended) in &mut watch.answered {
            ended.reported = true;
        }
        self.catch_up(watch, noted);
        Ok(())
    }

    fn failed(&mut self, world: &World, id: RequestId, noted: &mut Noted) -> Result<(), Ignored> {
        let slot = self.slot(id)?;
        let request = self.state.requests[slot as usize];
        let mut watch = Watch::default();
        self.state.forget_observed(world, slot, &mut watch);
        self.catch_up(watch, noted);
        let ended = Ended {
            application: request.application,
            arrived: request.arrived,
            answered: None,
            reported: true,
        };
        self.end(id, ended);
        noted.facts.push(Fact::Failed { request: id });
        Ok(())
    }

    fn withdrawn(
        &mut self,
        world: &World,
        id: RequestId,
        noted: &mut Noted,
    ) -> Result<(), Ignored> {
        let (slot, _) = self.deployment(id)?;
        let mut watch = Watch::default();
        self.state.withdraw_observed(world, slot, &mut watch);
        self.catch_up(watch, noted);
        Ok(())
    }

    fn moved(
        &mut self,
        world: &World,
        (id, index): (RequestId, u16),
        host: HostId,
        noted: &mut Noted,
    ) -> Result<(), Ignored> {
        let (_, deployed) = self.deployment(id)?;
        let place = deployed.first + u32::from(index);
        let run = self.state.fragments[place as usize];
        if self.state.migrations.place_of_fragment(place).is_none() {
            let known = run.host == host;
            return Err(if known {
                Ignored::Known
            } else {
                Ignored::Outdated
            });
        }
        let mut watch = Watch::default();
        let ended = self.state.moved_observed(world, place, host, &mut watch);
        self.catch_up(watch, noted);
        if ended {
            Ok(())
        } else {
            Err(Ignored::Migrating)
        }
    }

    fn turned(
        &mut self,
        world: &World,
        at: SimTime,
        host: HostId,
        lifecycle: Lifecycle,
        noted: &mut Noted,
    ) -> Result<(), Ignored> {
        if at < self.turned[host.index()] {
            return Err(Ignored::Outdated);
        }
        self.turned[host.index()] = at;
        let seen = match lifecycle {
            Lifecycle::Off => Seen::Off,
            Lifecycle::Booting { ready_at } => Seen::Booting { ready_at },
            Lifecycle::On => Seen::On,
            Lifecycle::Draining => Seen::Draining,
            Lifecycle::Crashed { ready_at } => Seen::Crashed { ready_at },
        };
        let mut watch = Watch::default();
        let changed = self.state.turn_observed(world, host, seen, at, &mut watch);
        self.catch_up(watch, noted);
        if changed { Ok(()) } else { Err(Ignored::Known) }
    }
}
