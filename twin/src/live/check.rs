//! Whether deltas can be true of the fleet, before anything is changed.
//!
//! A list is held against the twin as it is and against what the deltas before have said; what the
//! twin does by itself in between makes reports outdated, not wrong.

use std::collections::BTreeMap;

use super::{Delta, DeltaError, Event, Lifecycle, Live, MAX_DELTAS, REMEMBERED, Sample};
use crate::host;
use crate::ids::{ApplicationId, HostId, RequestId, VariantId};
use crate::units::SimTime;
use crate::world::World;

/// The most times faster than rated that a host may be.
const MAX_SPEED: f64 = 1000.0;
/// The most power of a host, in W.
const MAX_POWER_W: f64 = 1e6;
/// The most CPU credits of a host.
const MAX_CREDITS: f64 = 1e9;

/// What is known of a request at some point of a list.
#[derive(Clone, Debug)]
enum Status {
    Waiting(ApplicationId),
    Deployed(ApplicationId, Vec<HostId>),
    Ended,
}

/// A list under check.
struct Check<'a> {
    live: &'a Live,
    world: &'a World,
    now: SimTime,
    requests: BTreeMap<RequestId, Status>,
    /// Hosts that the list has told about, and whether they run.
    hosts: BTreeMap<HostId, bool>,
    next_request: u64,
}

type Problem = (String, String);

fn problem<T>(field: &str, problem: impl Into<String>) -> Result<T, Problem> {
    Err((field.into(), problem.into()))
}

impl Live {
    /// The order in which `deltas` are to be worked in.
    pub(super) fn check(
        &self,
        world: &World,
        now: SimTime,
        deltas: &[Delta],
    ) -> Result<Vec<usize>, DeltaError> {
        let mut check = Check {
            live: self,
            world,
            now: now.max(self.now()),
            requests: BTreeMap::new(),
            hosts: BTreeMap::new(),
            next_request: self.state.next_request,
        };
        if deltas.len() > MAX_DELTAS {
            return Err(DeltaError {
                index: MAX_DELTAS,
                field: "at".into(),
                problem: format!("a message may have {MAX_DELTAS} deltas"),
            });
        }
        let mut order: Vec<usize> = (0..deltas.len()).collect();
        order.sort_by_key(|&place| deltas[place].at);
        for &index in &order {
            let failed = |(field, problem)| DeltaError {
                index,
                field,
                problem,
            };
            check.delta(&deltas[index]).map_err(failed)?;
        }
        Ok(order)
    }
}

impl Check<'_> {
    fn delta(&mut self, delta: &Delta) -> Result<(), Problem> {
        if delta.at > self.now {
            let now = self.now.0;
            return problem("at", format!("is after the message, which is of {now}"));
        }
        match &delta.event {
            Event::Arrived {
                request,
                application,
                ..
            } => self.arrived(*request, *application),
            Event::Deployed {
                request,
                variant,
                hosts,
            } => self.deployed(*request, *variant, hosts),
            Event::Started {
                request,
                fragment,
                host,
            }
            | Event::Finished {
                request,
                fragment,
                host,
                ..
            } => self.fragment(*request, *fragment, *host),
            Event::Moved {
                request,
                fragment,
                host,
            } => self.fragment(*request, *fragment, Some(*host)),
            Event::Answered { request } => match self.status(*request)? {
                Status::Waiting(_) => problem(
                    "request",
                    format!("request {request} was not deployed, so nobody can have answered it"),
                ),
                _ => self.ended(*request),
            },
            Event::Failed { request } => {
                self.status(*request)?;
                self.ended(*request)
            }
            Event::Withdrawn { request } => {
                let waits = match self.status(*request)? {
                    Status::Deployed(application, ..) => Status::Waiting(application),
                    same => same,
                };
                self.requests.insert(*request, waits);
                Ok(())
            }
            Event::Host { host, lifecycle } => self.host(*host, *lifecycle),
            Event::Sample(sample) => self.sample(sample),
        }
    }

    fn ended(&mut self, request: RequestId) -> Result<(), Problem> {
        self.requests.insert(request, Status::Ended);
        Ok(())
    }

    fn known_host(&self, host: HostId, field: &str) -> Result<(), Problem> {
        let count = self.world.hosts.len();
        if host.index() < count {
            return Ok(());
        }
        problem(
            field,
            format!("there is no host {host}: the world has {count}"),
        )
    }

    fn status(&self, request: RequestId) -> Result<Status, Problem> {
        match self.find(request) {
            Some(status) => Ok(status),
            None => problem("request", format!("there is no request {request}")),
        }
    }

    fn find(&self, request: RequestId) -> Option<Status> {
        if let Some(status) = self.requests.get(&request) {
            return Some(status.clone());
        }
        let live = self.live;
        if let Some(track) = live.tracks.get(&request) {
            let found = &live.state.requests[track.slot as usize];
            let Some(deployed) = found.deployed else {
                return Some(Status::Waiting(found.application));
            };
            let count = track.started.len();
            let runs = live.state.fragments.iter().skip(deployed.first as usize);
            let hosts = runs.take(count).map(|run| run.host).collect();
            return Some(Status::Deployed(found.application, hosts));
        }
        let ended = live.ended.contains_key(&request) || request < live.remembered_from();
        ended.then_some(Status::Ended)
    }

    fn arrived(&mut self, request: RequestId, application: ApplicationId) -> Result<(), Problem> {
        let count = self.world.applications.len();
        if application.index() >= count {
            let text = format!("the world has {count} applications");
            return problem("application", text);
        }
        match self.find(request) {
            Some(Status::Waiting(known) | Status::Deployed(known, ..)) if known != application => {
                let name = &self.world.applications[known.index()].name;
                let text = format!("request {request} has arrived already, and asked for {name}");
                return problem("request", text);
            }
            Some(_) => return Ok(()),
            None => {}
        }
        let most = self.next_request.saturating_add(REMEMBERED);
        if request.0 >= most {
            let text = format!("numbers rise with arrival: expected one below {most}");
            return problem("request", text);
        }
        self.next_request = self.next_request.max(request.0 + 1);
        self.requests.insert(request, Status::Waiting(application));
        Ok(())
    }

    fn deployed(
        &mut self,
        request: RequestId,
        variant: VariantId,
        hosts: &[HostId],
    ) -> Result<(), Problem> {
        let application = match self.status(request)? {
            Status::Waiting(application) | Status::Deployed(application, ..) => application,
            Status::Ended => return Ok(()),
        };
        let variants = &self.world.applications[application.index()].variants;
        let Some(found) = variants.get(variant.index()) else {
            let text = format!("the application has {} variants", variants.len());
            return problem("variant", text);
        };
        if hosts.len() != found.fragments.len() {
            let (count, named) = (found.fragments.len(), hosts.len());
            return problem(
                "hosts",
                format!("the variant has {count} fragments, found {named}"),
            );
        }
        for (k, (&host, fragment)) in hosts.iter().zip(&found.fragments).enumerate() {
            let field = format!("hosts[{k}]");
            self.known_host(host, &field)?;
            let off = self.live.lifecycle(host) == host::Lifecycle::Off;
            if !self.hosts.get(&host).copied().unwrap_or(!off) {
                let text = format!("host {host} is off; tell first that it runs");
                return problem(&field, text);
            }
            let (needs, has) = (self.world.needs_mib(fragment), self.live.ram_mib(host));
            if needs > has {
                let text = format!("the fragment takes {needs} MiB of the host's {has}");
                return problem(&field, text);
            }
        }
        let status = Status::Deployed(application, hosts.to_vec());
        self.requests.insert(request, status);
        Ok(())
    }

    fn fragment(
        &self,
        request: RequestId,
        fragment: u16,
        host: Option<HostId>,
    ) -> Result<(), Problem> {
        let Status::Deployed(_, hosts) = self.status(request)? else {
            // Withdrawn in the meantime, or over.
            return host.map_or(Ok(()), |host| self.known_host(host, "host"));
        };
        let Some(&placed) = hosts.get(usize::from(fragment)) else {
            let text = format!("request {request} has {} fragments", hosts.len());
            return problem("fragment", text);
        };
        let Some(host) = host else {
            return Ok(());
        };
        self.known_host(host, "host")?;
        if host == placed || self.moves_to(request, fragment, host) {
            return Ok(());
        }
        let text = format!("fragment {fragment} of request {request} is placed on host {placed}");
        problem("host", text)
    }

    /// Whether a migration takes, or took, the fragment from or to `host`.
    fn moves_to(&self, request: RequestId, fragment: u16, host: HostId) -> bool {
        let mut under_way = self.live.state.migrations.under_way.iter();
        under_way.any(|m| {
            (m.course.request, m.course.fragment) == (request, fragment)
                && (m.course.from == host || m.course.to == host)
        })
    }

    fn host(&mut self, host: HostId, lifecycle: Lifecycle) -> Result<(), Problem> {
        self.known_host(host, "host")?;
        let ready_at = match lifecycle {
            Lifecycle::Booting { ready_at } | Lifecycle::Crashed { ready_at } => ready_at,
            _ => None,
        };
        if ready_at.is_some_and(|at| at.since(self.now) > super::MAX_AHEAD) {
            let most = super::MAX_AHEAD.seconds();
            return problem("ready_at", format!("must be within {most} s"));
        }
        self.hosts.insert(host, lifecycle != Lifecycle::Off);
        Ok(())
    }

    fn sample(&self, sample: &Sample) -> Result<(), Problem> {
        self.known_host(sample.host, "host")?;
        for (field, value, least, most) in [
            ("utilization", sample.utilization, 0.0, 1.0),
            ("power_w", sample.power_w, 0.0, MAX_POWER_W),
            ("speed", sample.speed, 1.0 / MAX_SPEED, MAX_SPEED),
            ("credits", sample.credits, 0.0, MAX_CREDITS),
        ] {
            if let Some(value) = value
                && !(least..=most).contains(&value)
            {
                let text = format!("expected a number from {least} to {most}, found {value}");
                return problem(field, text);
            }
        }
        Ok(())
    }
}
