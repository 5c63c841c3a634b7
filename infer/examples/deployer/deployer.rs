//! What the deployer knows and does.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use twin::World;
use twin::units::SimTime;
use twin::wire::{DecisionResponse, DeltaKind, Epoch, NewRequest, SeenLifecycle, TelemetryDelta};

use crate::Args;
use crate::clients::{Azure, Http};
use crate::service::Service;

/// Placements of a request whose workers fail.
const ATTEMPTS: u32 = 5;
/// How often a host that boots is looked at.
const POLL: Duration = Duration::from_millis(5);
/// Looks at the workers in an interval.
const LOOKS: u32 = 5;
/// Boot times after which a worker that does not answer is off.
const BOOTS: f64 = 3.0;

/// A host: whether its worker answers, and what was decided.
struct Host {
    worker: String,
    up: bool,
    wanted: bool,
    /// Until then it may be booting.
    starts_until_ns: u64,
}

/// How a request is deployed.
struct Placed {
    request: NewRequest<'static>,
    /// Id of the decision.
    decision: String,
    variant: String,
    hosts: Vec<usize>,
}

/// What the deployer knows; the service is told of each change before the next.
#[derive(Default)]
struct Known {
    hosts: Vec<Host>,
    /// Requests that have arrived and not ended.
    requests: BTreeMap<u64, NewRequest<'static>>,
    /// How they are deployed; those that are not here wait.
    runs: BTreeMap<u64, Arc<Placed>>,
    /// Deployments that are being carried out, the superseded ones included.
    active: Vec<Arc<Placed>>,
    /// How often requests were lost.
    attempts: BTreeMap<u64, u32>,
    /// Hosts that are to be turned on or off.
    orders: BTreeMap<usize, bool>,
}

impl Known {
    /// Whether a deployment still counts: its request has not ended, and waits not again.
    fn current(&self, placed: &Arc<Placed>) -> bool {
        let run = self.runs.get(&placed.request.id);
        run.is_some_and(|run| Arc::ptr_eq(run, placed))
    }
}

/// A worker does not answer: whatever is on its host is lost.
#[derive(Debug, thiserror::Error)]
#[error("host {0} does not serve")]
struct Lost(usize);

pub(super) struct Deployer {
    pub(super) args: Args,
    pub(super) world: World,
    http: Http,
    pub(super) service: Service,
    azure: Option<Azure>,
    known: Mutex<Known>,
    /// Where it is told what became of requests, and what went wrong.
    ended: Sender<Result<Value>>,
}

impl Deployer {
    pub(super) fn new(args: Args, ended: Sender<Result<Value>>) -> Result<Self> {
        let world = World::load(&args.world)?;
        let (hosts, workers) = (world.hosts.len(), args.worker.len());
        ensure!(
            hosts == workers,
            "--worker: the world has {hosts} hosts, found {workers} workers"
        );
        let azure = args.azure.as_deref().zip(args.group.as_deref());
        let this = Self {
            http: Http::new()?,
            service: Service::new(&args, &world)?,
            azure: azure
                .map(|(url, group)| Azure::new(url, group))
                .transpose()?,
            known: Mutex::default(),
            world,
            ended,
            args,
        };
        let samples = this.samples();
        let hosts = this.args.worker.iter().zip(samples);
        this.known().hosts = hosts
            .map(|(worker, sample)| Host {
                worker: worker.trim_end_matches('/').into(),
                up: sample.is_some(),
                wanted: sample.is_some(),
                starts_until_ns: 0,
            })
            .collect();
        Ok(this)
    }

    /// Tells the service which hosts serve, and asks it which should.
    pub(super) fn begin(self: &Arc<Self>) -> Result<()> {
        let mut known = self.known();
        let up: Vec<bool> = known.hosts.iter().map(|host| host.up).collect();
        self.service.put(&self.world, &up)?;
        self.place(&mut known, Epoch::Boundary)?;
        drop(known);
        self.power();
        Ok(())
    }

    /// How many requests have arrived and not ended.
    pub(super) fn under_way(&self) -> usize {
        self.known().requests.len()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arrive(self: &Arc<Self>, id: u64, application: &str) -> Result<()> {
        let mut known = self.known();
        let new = NewRequest {
            id,
            application: Cow::Owned(application.into()),
            arrived_ns: Some(self.service.now_ns()),
            context_tokens: 0,
        };
        known.requests.insert(id, new);
        self.place(&mut known, Epoch::Arrival)
    }

    /// Asks where the requests that wait go, and sends them there. An answer that was lost does no
    /// harm: who asks again about the same requests is answered the same.
    fn place(self: &Arc<Self>, known: &mut Known, epoch: Epoch) -> Result<()> {
        let new = known
            .requests
            .iter()
            .filter(|(id, _)| !known.runs.contains_key(id));
        let new = new.map(|(_, request)| request.clone()).collect();
        let answer = self.service.decide(epoch, new)?;
        let answer = DecisionResponse::from_json(&answer)?;
        let id = answer.id.map(|id| id.to_string()).unwrap_or_default();
        for deployment in answer.decision.deployments {
            let Some(request) = known.requests.get(&deployment.request) else {
                continue;
            };
            let placed = Arc::new(Placed {
                request: request.clone(),
                decision: id.clone(),
                variant: deployment.variant.into_owned(),
                hosts: deployment.hosts.iter().map(|&host| host as usize).collect(),
            });
            known.runs.insert(deployment.request, Arc::clone(&placed));
            known.active.push(Arc::clone(&placed));
            let this = Arc::clone(self);
            thread::spawn(move || this.guard(this.run(&placed)));
        }
        for action in answer.decision.provisioning {
            let place = action.host as usize;
            let boot_s = self.world.size_of(place).boot.seconds();
            let patience_s = BOOTS * boot_s + self.world.interval.seconds();
            let host = &mut known.hosts[place];
            host.wanted = action.on;
            host.starts_until_ns = self.service.now_ns() + SimTime::from_seconds(patience_s).0;
            known.orders.insert(place, action.on);
        }
        // Nothing here can move a fragment that runs: it stays where it is.
        let stays = answer.decision.migrations.iter().filter_map(|migration| {
            let run = known.runs.get(&migration.request)?;
            let host = run.hosts.get(usize::from(migration.fragment))?;
            Some(TelemetryDelta {
                request: Some(migration.request),
                fragment: Some(migration.fragment),
                host: u32::try_from(*host).ok(),
                ..TelemetryDelta::of(DeltaKind::Moved)
            })
        });
        let stays: Vec<TelemetryDelta<'static>> = stays.collect();
        if stays.is_empty() {
            Ok(())
        } else {
            self.service.tell(stays)
        }
    }

    /// What goes wrong in the background ends the program.
    pub(super) fn guard(&self, result: Result<()>) {
        if let Err(error) = result {
            // The program has ended already if nobody hears of it.
            let _ = self.ended.send(Err(error));
        }
    }

    /// Runs the fragments of a request, each on its host, in the order of the variant's graph.
    fn run(self: &Arc<Self>, placed: &Arc<Placed>) -> Result<()> {
        let ran = self.stages(placed)?.into_iter().try_for_each(|stage| {
            thread::scope(|scope| {
                let step = |k| scope.spawn(move || self.step(placed, k));
                let steps: Vec<_> = stage.into_iter().map(step).collect();
                let panicked = |_| Err(anyhow!("a step panicked"));
                let mut ended = steps
                    .into_iter()
                    .map(|step| step.join().unwrap_or_else(panicked));
                ended.try_for_each(|ended| ended)
            })
        });
        let mut known = self.known();
        known.active.retain(|active| !Arc::ptr_eq(active, placed));
        match ran {
            _ if !known.current(placed) => Ok(()),
            Ok(()) => {
                let mut answered = TelemetryDelta::of(DeltaKind::Answered);
                answered.request = Some(placed.request.id);
                self.service.tell(vec![answered])?;
                self.end(&mut known, placed, "answered");
                Ok(())
            }
            Err(error) => {
                let Lost(place) = error.downcast::<Lost>()?;
                self.lose(&mut known, place)?;
                self.place(&mut known, Epoch::Arrival)
            }
        }
    }

    /// The fragments of a variant, those first that wait for no other.
    fn stages(&self, placed: &Placed) -> Result<Vec<Vec<usize>>> {
        let mut applications = self.world.applications.iter();
        let application = applications.find(|a| a.name == placed.request.application);
        let mut variants = application.into_iter().flat_map(|a| &a.variants);
        let variant = variants.find(|v| v.name == placed.variant);
        let fragments = &variant.context("a decision of another world")?.fragments;
        let (mut stages, mut done) = (Vec::new(), BTreeSet::new());
        while done.len() < fragments.len() {
            let ready = |k: &usize| fragments[*k].predecessors.iter().all(|p| done.contains(p));
            let left = (0..fragments.len()).filter(|k| !done.contains(k));
            let stage: Vec<usize> = left.filter(ready).collect();
            done.extend(stage.iter().copied());
            stages.push(stage);
        }
        Ok(stages)
    }

    /// Has one fragment run by the worker of its host, once that is up.
    fn step(&self, placed: &Arc<Placed>, k: usize) -> Result<()> {
        let place = placed.hosts[k];
        let lost = || Err(Lost(place).into());
        let worker = loop {
            let known = self.known();
            let host = &known.hosts[place];
            if host.up {
                break host.worker.clone();
            }
            if self.service.now_ns() > host.starts_until_ns || !known.current(placed) {
                return lost();
            }
            drop(known);
            thread::sleep(POLL);
        };
        let task = json!({
            "request": placed.request.id,
            "application": placed.request.application,
            "variant": placed.variant,
            "fragment": k,
        });
        let request = self
            .http
            .json(&Method::POST, &format!("{worker}/run"), &task);
        let ran = match self.http.send(request) {
            Ok(body) => serde_json::from_slice::<Value>(&body).unwrap_or_default(),
            Err(problem) => {
                self.note(&format!("host {place}: {problem:#}"));
                return lost();
            }
        };
        let known = self.known();
        if !known.current(placed) {
            return lost();
        }
        let now_ns = self.service.now_ns();
        let took_s = ran["took_s"].as_f64().unwrap_or_default();
        let began_ns = now_ns.saturating_sub(SimTime::from_seconds(took_s).0);
        let about = |kind, at_ns| TelemetryDelta {
            at_ns: Some(at_ns),
            request: Some(placed.request.id),
            fragment: u16::try_from(k).ok(),
            ..TelemetryDelta::of(kind)
        };
        self.service.tell(vec![
            about(DeltaKind::Started, began_ns),
            about(DeltaKind::Finished, now_ns),
        ])
    }

    /// A host does not serve: what is on it waits again. Whether anything was.
    fn lose(&self, known: &mut Known, place: usize) -> Result<bool> {
        known.hosts[place].up = false;
        let mut deltas = vec![seen(place, SeenLifecycle::Off, self.service.now_ns())];
        let runs: Vec<Arc<Placed>> = known.runs.values().cloned().collect();
        for placed in runs.iter().filter(|placed| placed.hosts.contains(&place)) {
            let id = placed.request.id;
            let about = |kind| TelemetryDelta {
                request: Some(id),
                ..TelemetryDelta::of(kind)
            };
            known.runs.remove(&id);
            deltas.push(about(DeltaKind::Withdrawn));
            let attempts = known.attempts.entry(id).or_default();
            *attempts += 1;
            if *attempts == ATTEMPTS {
                deltas.push(about(DeltaKind::Failed));
                self.end(known, placed, "failed");
            }
        }
        let any = deltas.len() > 1;
        self.service.tell(deltas)?;
        Ok(any)
    }

    /// A request has ended.
    fn end(&self, known: &mut Known, placed: &Placed, outcome: &str) {
        let id = placed.request.id;
        known.requests.remove(&id);
        known.runs.remove(&id);
        let lost = known.attempts.remove(&id).unwrap_or(0);
        let line = json!({
            "request": id, "application": placed.request.application,
            "variant": placed.variant, "hosts": placed.hosts, "decision": placed.decision,
            "outcome": outcome, "attempts": lost + u32::from(outcome == "answered"),
        });
        // The program has ended already if nobody hears of it.
        let _ = self.ended.send(Ok(line));
    }

    /// What the workers measure; `None` of those that do not answer.
    fn samples(&self) -> Vec<Option<Value>> {
        let sample = |worker: &String| {
            let url = format!("{}/", worker.trim_end_matches('/'));
            let body = self.http.send(self.http.0.get(url)).ok()?;
            serde_json::from_slice(&body).ok()
        };
        thread::scope(|scope| {
            let workers = self.args.worker.iter();
            let asked: Vec<_> = workers.map(|w| scope.spawn(move || sample(w))).collect();
            let told = asked.into_iter().map(|asked| asked.join().ok().flatten());
            told.collect()
        })
    }

    /// Looks which hosts serve, and how busy they are.
    fn look(self: &Arc<Self>) -> Result<()> {
        let (at_ns, samples) = (self.service.now_ns(), self.samples());
        let mut known = self.known();
        let (mut deltas, mut lost) = (Vec::new(), false);
        for (place, sample) in samples.into_iter().enumerate() {
            let host = &mut known.hosts[place];
            if let Some(sample) = sample {
                if host.wanted {
                    host.up = true;
                    deltas.push(seen(place, SeenLifecycle::On, at_ns));
                }
                deltas.push(TelemetryDelta {
                    host: u32::try_from(place).ok(),
                    span_s: sample["span_s"].as_f64(),
                    utilization: sample["utilization"].as_f64(),
                    power_w: sample["power_w"].as_f64(),
                    ..TelemetryDelta::of(DeltaKind::Sample)
                });
            } else if !host.wanted || self.service.now_ns() > host.starts_until_ns {
                lost |= self.lose(&mut known, place)?;
            }
        }
        self.service.tell(deltas)?;
        if lost {
            self.place(&mut known, Epoch::Arrival)
        } else {
            Ok(())
        }
    }

    /// Turns hosts on and off as decided; off only those on which nothing runs any more.
    pub(super) fn power(&self) {
        let ready: Vec<(usize, bool)> = {
            let known = &mut *self.known();
            let busy: BTreeSet<usize> = known
                .active
                .iter()
                .flat_map(|placed| placed.hosts.iter().copied())
                .collect();
            let orders = std::mem::take(&mut known.orders).into_iter();
            let (ready, rest) = orders.partition(|(place, on)| *on || !busy.contains(place));
            known.orders = rest;
            let ready: BTreeMap<usize, bool> = ready;
            for (&place, _) in ready.iter().filter(|(_, on)| !**on) {
                known.hosts[place].up = false;
            }
            ready.into_iter().collect()
        };
        for (place, on) in ready {
            if let Some(azure) = &self.azure {
                let name = &self.world.hosts[place].name;
                if let Err(problem) = azure.turn(&self.http, name, on) {
                    self.note(&format!("{name}: {problem:#}"));
                    self.known().orders.entry(place).or_insert(on);
                }
            }
        }
    }

    /// Looks and acts, and asks at each boundary what should be on, until it is `done`.
    pub(super) fn tick(self: &Arc<Self>, done: &Receiver<()>) -> Result<()> {
        let wait_s = self.world.interval.seconds() / f64::from(LOOKS) / self.args.speed;
        let wait = Duration::from_secs_f64(wait_s);
        let mut looks = 0_u32;
        while done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            looks += 1;
            self.look()?;
            if looks.is_multiple_of(LOOKS) {
                self.place(&mut self.known(), Epoch::Boundary)?;
            }
            self.power();
        }
        Ok(())
    }

    fn note(&self, text: &str) {
        // Nobody may read it.
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// That a host was seen in a part of its life.
fn seen(place: usize, lifecycle: SeenLifecycle, at_ns: u64) -> TelemetryDelta<'static> {
    TelemetryDelta {
        at_ns: Some(at_ns),
        host: u32::try_from(place).ok(),
        lifecycle: Some(lifecycle),
        ..TelemetryDelta::of(DeltaKind::Host)
    }
}
