//! The event log of a run, as JSON Lines.
//!
//! Each line is an object with `time_s` (s since the start) and `event`, which is one of
//!
//! | event | further fields |
//! |---|---|
//! | `started` | `schema` (1), `world`, `world_hash`; the first line |
//! | `host` | `host`, `size`, `site`, `state` (`off`, `on`): each host as it is at the start; right after the first line |
//! | `arrived` | `request`, `application`, `context_tokens` |
//! | `deployed` | `request`, `application`, `variant`, `hosts` (one name a fragment) |
//! | `fragment-done` | `request`, `fragment`, `host` |
//! | `completed` | `request`, `application`, `variant`, `response_s`, `late` |
//! | `migration-started` | `request`, `fragment`, `from`, `to`, `strategy` |
//! | `migration-ended` | these, and `outcome` (`succeeded`, `failed`, `canceled`, `container-ended`), `step`, `cause` and `lost` where it failed, `total_s`, `downtime_s`, `stall_s`, `sent_mib`, `fetched_mib`, `rounds` |
//! | `lifecycle` | `host`, `state` (`off`, `booting`, `on`, `draining`), `ready_at_s` while it boots |
//! | `host-crashed`, `allocation-failed` | `host` |
//! | `host-slow` | `host`, `until_s` |
//! | `link-down` | `from`, `to` (sites), `until_s` |
//! | `withdrawn` | `request`: what ran for it is lost, it waits again |
//! | `rejected` | `request`, `application`: turned away on arrival |
//! | `container` | `container`, `host`, `span_s`, `demanded_vcpu_s`, `unmet_vcpu_s`: what it wanted and lacked in the `span_s` up to now; at each boundary and at the end, unless it wanted nothing |
//!
//! Hosts, applications, variants and fragments go by the names in the world.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use crate::container::{ContainerMeter, CpuWork};
use crate::decision::Deployment;
use crate::faults::Incident;
use crate::host::Lifecycle;
use crate::ids::{ApplicationId, HostId, RequestId, VariantId};
use crate::migration::{Cause, Outcome, Report, Step, StrategyKind};
use crate::simulate::EventSink;
use crate::state::{Course, Request};
use crate::units::SimTime;
use crate::world::World;

mod read;

pub use read::{Event, EventsError, HostState, Line, Log, MigrationOutcome, Reader};

/// The version of the format.
pub const SCHEMA: u32 = 1;

/// One line.
#[derive(Debug, Serialize)]
struct Written<'a> {
    time_s: f64,
    #[serde(flatten)]
    event: Entry<'a>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
enum Entry<'a> {
    Started {
        schema: u32,
        world: &'a str,
        world_hash: &'a str,
    },
    Host {
        host: &'a str,
        size: &'a str,
        site: &'a str,
        state: &'static str,
    },
    Arrived {
        request: u64,
        application: &'a str,
        context_tokens: u32,
    },
    Deployed {
        request: u64,
        application: &'a str,
        variant: &'a str,
        hosts: Vec<&'a str>,
    },
    FragmentDone {
        request: u64,
        fragment: &'a str,
        host: &'a str,
    },
    Completed {
        request: u64,
        application: &'a str,
        variant: &'a str,
        response_s: f64,
        late: bool,
    },
    MigrationStarted {
        #[serde(flatten)]
        course: CourseLine<'a>,
    },
    MigrationEnded {
        #[serde(flatten)]
        course: CourseLine<'a>,
        outcome: &'static str,
        #[serde(flatten)]
        failure: Option<Failure>,
        total_s: f64,
        downtime_s: f64,
        stall_s: f64,
        sent_mib: f64,
        fetched_mib: f64,
        rounds: u32,
    },
    Lifecycle {
        host: &'a str,
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        ready_at_s: Option<f64>,
    },
    HostCrashed {
        host: &'a str,
    },
    HostSlow {
        host: &'a str,
        until_s: f64,
    },
    LinkDown {
        from: &'a str,
        to: &'a str,
        until_s: f64,
    },
    AllocationFailed {
        host: &'a str,
    },
    Withdrawn {
        request: u64,
    },
    Rejected {
        request: u64,
        application: &'a str,
    },
    Container {
        container: &'a str,
        host: &'a str,
        span_s: f64,
        demanded_vcpu_s: f64,
        unmet_vcpu_s: f64,
    },
}

/// What is migrated, from where to where.
#[derive(Debug, Serialize)]
struct CourseLine<'a> {
    request: u64,
    fragment: &'a str,
    from: &'a str,
    to: &'a str,
    strategy: StrategyKind,
}

/// How a migration failed.
#[derive(Debug, Serialize)]
struct Failure {
    step: Step,
    cause: Cause,
    lost: bool,
}

/// Writes the events of a run to `W`.
///
/// The first error ends the writing; [`EventLog::finish`] reports it.
#[derive(Debug)]
pub struct EventLog<'w, W: Write> {
    world: &'w World,
    out: W,
    /// Requests under way: their application, and their variant once they are deployed.
    requests: BTreeMap<RequestId, (ApplicationId, VariantId)>,
    /// What the containers had wanted and lacked when that was written last, and when that was.
    metered: (SimTime, Vec<ContainerMeter>),
    outcome: io::Result<u64>,
}

impl<'w, W: Write> EventLog<'w, W> {
    /// A log of a run in `world`; writes the first line and the state of each host.
    pub fn new(world: &'w World, out: W) -> Self {
        let mut log = Self {
            world,
            out,
            requests: BTreeMap::new(),
            metered: (SimTime::ZERO, Vec::new()),
            outcome: Ok(0),
        };
        let started = Entry::Started {
            schema: SCHEMA,
            world: &world.name,
            world_hash: &world.hash,
        };
        log.write(SimTime::ZERO, started);
        for host in &world.hosts {
            let state = if host.initially_on { "on" } else { "off" };
            let initial = Entry::Host {
                host: &host.name,
                size: &world.sizes[host.size.index()].name,
                site: &world.sites[host.site.index()].name,
                state,
            };
            log.write(SimTime::ZERO, initial);
        }
        log
    }

    /// Writes out what is buffered. Gives the number of lines.
    ///
    /// # Errors
    ///
    /// The first error of the writer, of this call or an earlier one.
    pub fn finish(mut self) -> io::Result<u64> {
        let lines = self.outcome?;
        self.out.flush()?;
        Ok(lines)
    }

    fn write(&mut self, now: SimTime, event: Entry<'_>) {
        let Ok(lines) = &mut self.outcome else { return };
        let line = Written {
            time_s: now.seconds(),
            event,
        };
        let written = serde_json::to_writer(&mut self.out, &line)
            .map_err(io::Error::from)
            .and_then(|()| self.out.write_all(b"\n"));
        match written {
            Ok(()) => *lines += 1,
            Err(error) => self.outcome = Err(error),
        }
    }

    fn course(&self, course: &Course) -> Option<CourseLine<'w>> {
        let (application, variant) = *self.requests.get(&course.request)?;
        let fragments = &self.world.variant(application, variant).fragments;
        Some(CourseLine {
            request: course.request.0,
            fragment: &fragments[usize::from(course.fragment)].name,
            from: self.host(course.from),
            to: self.host(course.to),
            strategy: course.strategy,
        })
    }

    fn host(&self, host: HostId) -> &'w str {
        &self.world.hosts[host.index()].name
    }
}

#[expect(private_interfaces, reason = "only this crate implements sinks")]
impl<W: Write> EventSink for EventLog<'_, W> {
    fn arrived(&mut self, now: SimTime, request: &Request) {
        self.requests
            .insert(request.id, (request.application, VariantId::default()));
        let application = &self.world.applications[request.application.index()].name;
        let context_tokens = request.context_tokens;
        self.write(
            now,
            Entry::Arrived {
                request: request.id.0,
                application,
                context_tokens,
            },
        );
    }

    fn deployed(&mut self, now: SimTime, deployment: &Deployment) {
        let Some(entry) = self.requests.get_mut(&deployment.request) else {
            return;
        };
        entry.1 = deployment.variant;
        let application = &self.world.applications[entry.0.index()];
        let event = Entry::Deployed {
            request: deployment.request.0,
            application: &application.name,
            variant: &application.variants[deployment.variant.index()].name,
            hosts: deployment
                .hosts
                .iter()
                .map(|&host| self.host(host))
                .collect(),
        };
        self.write(now, event);
    }

    fn fragment_done(&mut self, now: SimTime, request: RequestId, index: usize, host: HostId) {
        let Some(&(application, variant)) = self.requests.get(&request) else {
            return;
        };
        let fragment = &self.world.variant(application, variant).fragments[index].name;
        let host = self.host(host);
        self.write(
            now,
            Entry::FragmentDone {
                request: request.0,
                fragment,
                host,
            },
        );
    }

    fn completed(&mut self, now: SimTime, request: &Request, variant: VariantId, late: bool) {
        self.requests.remove(&request.id);
        let application = &self.world.applications[request.application.index()];
        let event = Entry::Completed {
            request: request.id.0,
            application: &application.name,
            variant: &application.variants[variant.index()].name,
            response_s: now.since(request.arrived).seconds(),
            late,
        };
        self.write(now, event);
    }

    fn migration_started(&mut self, now: SimTime, course: &Course) {
        if let Some(course) = self.course(course) {
            self.write(now, Entry::MigrationStarted { course });
        }
    }

    fn migration_ended(
        &mut self,
        now: SimTime,
        course: &Course,
        outcome: Outcome,
        report: &Report,
    ) {
        let Some(course) = self.course(course) else {
            return;
        };
        let (outcome, failure) = match outcome {
            Outcome::Succeeded => ("succeeded", None),
            Outcome::Canceled => ("canceled", None),
            Outcome::ContainerEnded => ("container-ended", None),
            Outcome::Failed { step, cause, lost } => {
                ("failed", Some(Failure { step, cause, lost }))
            }
        };
        let event = Entry::MigrationEnded {
            course,
            outcome,
            failure,
            total_s: report.total_s,
            downtime_s: report.downtime_s,
            stall_s: report.stall_s,
            sent_mib: report.sent.0,
            fetched_mib: report.fetched.0,
            rounds: report.rounds,
        };
        self.write(now, event);
    }

    fn incident(&mut self, now: SimTime, incident: &Incident) {
        let world = self.world;
        let event = match *incident {
            Incident::Crashed { host } => Entry::HostCrashed {
                host: self.host(host),
            },
            Incident::Slow { host, until } => Entry::HostSlow {
                host: self.host(host),
                until_s: until.seconds(),
            },
            Incident::LinkDown { from, to, until } => Entry::LinkDown {
                from: &world.sites[from.index()].name,
                to: &world.sites[to.index()].name,
                until_s: until.seconds(),
            },
            Incident::AllocationFailed { host } => Entry::AllocationFailed {
                host: self.host(host),
            },
            Incident::Withdrawn { request } => Entry::Withdrawn { request: request.0 },
            Incident::Rejected {
                request,
                application,
            } => {
                self.requests.remove(&request);
                Entry::Rejected {
                    request: request.0,
                    application: &world.applications[application.index()].name,
                }
            }
        };
        self.write(now, event);
    }

    fn containers(&mut self, now: SimTime, meters: &[ContainerMeter]) {
        let (since, before) = std::mem::take(&mut self.metered);
        let span_s = now.since(since).seconds();
        for (i, meter) in meters.iter().enumerate() {
            let earlier = before.get(i);
            let demanded = meter.demanded - earlier.map_or(CpuWork::default(), |m| m.demanded);
            let unmet = meter.unmet - earlier.map_or(CpuWork::default(), |m| m.unmet);
            if demanded == CpuWork::default() {
                continue;
            }
            let h = meter.host.index();
            let event = Entry::Container {
                container: &self.world.containers.get(meter.id).name,
                host: self.host(meter.host),
                span_s,
                demanded_vcpu_s: self.world.vcpu_seconds(h, demanded),
                unmet_vcpu_s: self.world.vcpu_seconds(h, unmet),
            };
            self.write(now, event);
        }
        self.metered = (now, meters.to_vec());
    }

    fn lifecycle(&mut self, now: SimTime, host: HostId, lifecycle: Lifecycle) {
        let (state, ready_at_s) = match lifecycle {
            Lifecycle::Off => ("off", None),
            Lifecycle::Booting { ready_at } => ("booting", Some(ready_at.seconds())),
            Lifecycle::On => ("on", None),
            Lifecycle::Draining => ("draining", None),
        };
        let host = self.host(host);
        self.write(
            now,
            Entry::Lifecycle {
                host,
                state,
                ready_at_s,
            },
        );
    }
}
