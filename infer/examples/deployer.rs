//! A deployer: asks the decision service where each request should run, and sends it there.
//!
//! It keeps the service in step by telemetry: what starts, what ends, how busy the hosts are. Each
//! host has an HTTP worker. With `--azure` it also turns the VMs on and off, as is decided at each
//! interval. `deployer.py` is the same in Python.
//!
//! ```text
//! cargo run -p infer -- serve --policy greedy --world infer/examples/small.toml
//! cargo run -p infer --example worker -- --world infer/examples/small.toml
//! cargo run -p infer --example deployer -- --world infer/examples/small.toml \
//!     --worker http://127.0.0.1:9001 http://127.0.0.1:9002 http://127.0.0.1:9003
//! ```

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use rand::RngExt;
use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder};
use serde_json::{Value, json};
use twin::units::SimTime;
use twin::wire::{
    ArrivalRates, DecisionRequest, DecisionResponse, DeltaKind, Epoch, FleetDecisionRequest,
    FleetState, HostState, Lifecycle, NewRequest, SCHEMA, SeenLifecycle, TelemetryDelta,
    TelemetryRequest, WorldName,
};
use twin::{World, stream};

/// Requests that are under way at the same time; further ones arrive later.
const UNDER_WAY: usize = 64;
/// Placements of a request whose workers fail.
const ATTEMPTS: u32 = 5;
/// How long the service may be away.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The wait before it is asked again where nobody has answered.
const AGAIN: Duration = Duration::from_millis(100);
/// How often a host that boots is looked at.
const POLL: Duration = Duration::from_millis(5);
/// Looks at the workers in an interval.
const LOOKS: u32 = 5;
/// Boot times after which a worker that does not answer is off.
const BOOTS: f64 = 3.0;

/// Asks the decision service where each request should run, and sends it there.
#[derive(Parser)]
struct Args {
    /// The decision service
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    service: String,
    /// World, by name or path
    #[arg(long)]
    world: String,
    /// Workers, one a host of the world, in their order
    #[arg(long, required = true, num_args = 1.., value_name = "URL")]
    worker: Vec<String>,
    /// Resource Manager that turns the VMs on and off, which have the names of the hosts
    #[arg(long, value_name = "URL", requires = "group")]
    azure: Option<String>,
    /// Resource group of the VMs, as /subscriptions/S/resourceGroups/G
    #[arg(long, value_name = "ID")]
    group: Option<String>,
    /// How many requests to send
    #[arg(long, default_value_t = 60)]
    requests: u64,
    /// Requests per second of the fleet's time
    #[arg(long, default_value_t = 1.5)]
    rate: f64,
    /// Seconds of the fleet's time in a real second
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// File that holds a bearer token with the role decide
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Seed of arrivals
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// An HTTP client that asks again where it should.
struct Http(Client);

impl Http {
    /// Sends `request`; the body of the answer.
    fn send(&self, request: RequestBuilder) -> Result<Vec<u8>> {
        let answer = request.send()?.error_for_status()?;
        Ok(answer.bytes()?.to_vec())
    }

    fn json(&self, method: &Method, url: &str, body: &Value) -> RequestBuilder {
        let request = self.0.request(method.clone(), url);
        let request = request.header("content-type", "application/json");
        request.body(body.to_string())
    }

    /// As [`Http::send`], again and again while nobody answers, or who does asks to come back later.
    fn ask(&self, request: RequestBuilder) -> Result<Vec<u8>> {
        let began = Instant::now();
        loop {
            let request = request.try_clone().context("a request of bytes")?;
            let answer = request.send().and_then(|answer| {
                let (status, url) = (answer.status(), answer.url().clone());
                let after = answer.headers().get("retry-after").cloned();
                Ok((status, url, after, answer.bytes()?))
            });
            let (problem, wait) = match answer {
                Ok((status, _, _, body)) if status.is_success() => return Ok(body.to_vec()),
                Ok((status, url, after, body)) => {
                    let problem = anyhow!("{url}: {status} {}", String::from_utf8_lossy(&body));
                    if ![429, 503].contains(&status.as_u16()) {
                        return Err(problem);
                    }
                    let seconds = after.and_then(|after| after.to_str().ok()?.parse().ok());
                    (problem, Duration::from_secs(seconds.unwrap_or(1)))
                }
                Err(error) => (error.into(), AGAIN),
            };
            if began.elapsed() + wait > PATIENCE {
                return Err(problem);
            }
            thread::sleep(wait);
        }
    }
}

/// Turns VMs on and off through the Resource Manager, with the credentials in the environment.
struct Azure {
    vms: String,
}

impl Azure {
    fn turn(&self, http: &Http, vm: &str, on: bool) -> Result<()> {
        let verb = if on { "start" } else { "deallocate" };
        let url = format!("{}/{vm}/{verb}?api-version=2024-07-01", self.vms);
        let request = http.0.post(url).bearer_auth(self.token(http)?).body("");
        http.ask(request).map(drop)
    }

    fn token(&self, http: &Http) -> Result<String> {
        let variable = |name: &str| std::env::var(name).context(name.to_owned());
        let authority = variable("AZURE_AUTHORITY_HOST");
        let authority = authority.unwrap_or("https://login.microsoftonline.com".into());
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &variable("AZURE_CLIENT_ID")?)
            .append_pair("client_secret", &variable("AZURE_CLIENT_SECRET")?)
            .append_pair("scope", "https://management.azure.com/.default")
            .finish();
        let (authority, tenant) = (
            authority.trim_end_matches('/'),
            variable("AZURE_TENANT_ID")?,
        );
        let request = http
            .0
            .post(format!("{authority}/{tenant}/oauth2/v2.0/token"));
        let kind = "application/x-www-form-urlencoded";
        let answer = http.ask(request.header("content-type", kind).body(form))?;
        let answer: Value = serde_json::from_slice(&answer)?;
        Ok(answer["access_token"].as_str().context("no token")?.into())
    }
}

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

struct Deployer {
    args: Args,
    world: World,
    http: Http,
    token: Option<String>,
    azure: Option<Azure>,
    began: Instant,
    known: Mutex<Known>,
    /// Where it is told what became of requests, and what went wrong.
    ended: Sender<Result<Value>>,
}

impl Deployer {
    fn new(args: Args, ended: Sender<Result<Value>>) -> Result<Self> {
        let world = World::load(&args.world)?;
        let (hosts, workers) = (world.hosts.len(), args.worker.len());
        ensure!(
            hosts == workers,
            "--worker: the world has {hosts} hosts, found {workers} workers"
        );
        let token = match &args.token_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.with_context(|| format!("--token-file {}", path.display()))?;
                Some(text.trim().to_owned())
            }
        };
        let azure = args.azure.as_deref().zip(args.group.as_deref());
        let azure = azure.map(|(url, group)| {
            let url = url.trim_end_matches('/');
            let vms = format!("{url}{group}/providers/Microsoft.Compute/virtualMachines");
            Azure { vms }
        });
        let this = Self {
            world,
            http: Http(Client::builder().timeout(ANSWER_LIMIT).build()?),
            token,
            azure,
            began: Instant::now(),
            known: Mutex::default(),
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

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        let seconds = self.began.elapsed().as_secs_f64() * self.args.speed;
        SimTime::from_seconds(seconds).0
    }

    fn name(&self) -> Option<WorldName<'static>> {
        let name = Cow::Owned(self.world.name.clone());
        Some(WorldName { name, hash: None })
    }

    fn call(&self, method: &Method, path: &str, body: &impl serde::Serialize) -> Result<Vec<u8>> {
        let url = format!("{}{path}", self.args.service.trim_end_matches('/'));
        let request = self.http.json(method, &url, &serde_json::to_value(body)?);
        self.http.ask(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    fn tell(&self, deltas: Vec<TelemetryDelta<'static>>) -> Result<()> {
        let request = TelemetryRequest {
            schema: SCHEMA,
            world: self.name(),
            now_ns: self.now_ns(),
            deltas,
        };
        self.call(&Method::POST, "/v1/telemetry", &request)
            .map(drop)
    }

    /// Tells the whole state: nothing runs yet.
    fn put(&self) -> Result<()> {
        let host = |host: &Host| HostState {
            name: None,
            lifecycle: if host.up {
                Lifecycle::On
            } else {
                Lifecycle::Off
            },
            ready_at_ns: None,
            queue: Vec::new(),
            resident: Vec::new(),
            speed: None,
            credits: None,
            models: Vec::new(),
            waiting_containers: Vec::new(),
        };
        let rates = |application: &twin::world::Application| ArrivalRates {
            application: Cow::Owned(application.name.clone()),
            per_s: [0.0; 3],
        };
        let now_ns = self.now_ns();
        let state = FleetState {
            now_ns,
            epoch: Epoch::Boundary,
            next_boundary_ns: now_ns + self.world.interval.0,
            next_request: 0,
            hosts: self.known().hosts.iter().map(host).collect(),
            requests: Vec::new(),
            transfers: Vec::new(),
            migrations: Vec::new(),
            arrival_rates: self.world.applications.iter().map(rates).collect(),
        };
        let request = DecisionRequest {
            schema: SCHEMA,
            world: self.name(),
            state,
        };
        self.call(&Method::PUT, "/v1/fleet", &request).map(drop)
    }

    fn arrive(self: &Arc<Self>, id: u64, application: &str) -> Result<()> {
        let mut known = self.known();
        let new = NewRequest {
            id,
            application: Cow::Owned(application.into()),
            arrived_ns: Some(self.now_ns()),
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
        let question = FleetDecisionRequest {
            schema: SCHEMA,
            world: self.name(),
            now_ns: self.now_ns(),
            epoch,
            next_boundary_ns: None,
            requests: new.map(|(_, request)| request.clone()).collect(),
            telemetry: Vec::new(),
            dry_run: false,
        };
        let answer = self.call(&Method::POST, "/v1/decisions", &question)?;
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
            host.starts_until_ns = self.now_ns() + SimTime::from_seconds(patience_s).0;
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
            self.tell(stays)
        }
    }

    /// What goes wrong in the background ends the program.
    fn guard(&self, result: Result<()>) {
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
                self.tell(vec![answered])?;
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
            if self.now_ns() > host.starts_until_ns || !known.current(placed) {
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
        let now_ns = self.now_ns();
        let took_s = ran["took_s"].as_f64().unwrap_or_default();
        let began_ns = now_ns.saturating_sub(SimTime::from_seconds(took_s).0);
        let about = |kind, at_ns| TelemetryDelta {
            at_ns: Some(at_ns),
            request: Some(placed.request.id),
            fragment: u16::try_from(k).ok(),
            ..TelemetryDelta::of(kind)
        };
        self.tell(vec![
            about(DeltaKind::Started, began_ns),
            about(DeltaKind::Finished, now_ns),
        ])
    }

    /// A host does not serve: what is on it waits again. Whether anything was.
    fn lose(&self, known: &mut Known, place: usize) -> Result<bool> {
        known.hosts[place].up = false;
        let mut deltas = vec![seen(place, SeenLifecycle::Off, self.now_ns())];
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
        self.tell(deltas)?;
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
        let (at_ns, samples) = (self.now_ns(), self.samples());
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
            } else if !host.wanted || self.now_ns() > host.starts_until_ns {
                lost |= self.lose(&mut known, place)?;
            }
        }
        self.tell(deltas)?;
        if lost {
            self.place(&mut known, Epoch::Arrival)
        } else {
            Ok(())
        }
    }

    /// Turns hosts on and off as decided; off only those on which nothing runs any more.
    fn power(&self) -> Result<()> {
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
                azure.turn(&self.http, &self.world.hosts[place].name, on)?;
            }
        }
        Ok(())
    }

    /// Looks and acts, and asks at each boundary what should be on, until it is `done`.
    fn tick(self: &Arc<Self>, done: &Receiver<()>) -> Result<()> {
        let wait_s = self.world.interval.seconds() / f64::from(LOOKS) / self.args.speed;
        let wait = Duration::from_secs_f64(wait_s);
        let mut looks = 0_u32;
        while done.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            looks += 1;
            self.look()?;
            if looks.is_multiple_of(LOOKS) {
                self.place(&mut self.known(), Epoch::Boundary)?;
            }
            self.power()?;
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

/// Tells what became of requests, and counts.
struct Telling {
    ended: Receiver<Result<Value>>,
    answered: u64,
    failed: u64,
}

impl Telling {
    /// Tells of one request that has ended, if one does within this time.
    fn next(&mut self, wait: Duration) -> Result<()> {
        let Ok(ended) = self.ended.recv_timeout(wait) else {
            return Ok(());
        };
        let line = ended?;
        let answered = line["outcome"] == "answered";
        self.answered += u64::from(answered);
        self.failed += u64::from(!answered);
        writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
    }
}

fn run(args: Args) -> Result<()> {
    ensure!(
        args.rate > 0.0 && args.speed > 0.0,
        "--rate and --speed must be above 0"
    );
    let (ended, told) = mpsc::channel();
    let deployer = Arc::new(Deployer::new(args, ended)?);
    let (args, applications) = (&deployer.args, &deployer.world.applications);
    let mut telling = Telling {
        ended: told,
        answered: 0,
        failed: 0,
    };
    deployer.put()?;
    deployer.place(&mut deployer.known(), Epoch::Boundary)?;
    deployer.power()?;
    let (done, until) = mpsc::channel();
    let ticking = Arc::clone(&deployer);
    let ticker = thread::spawn(move || ticking.guard(ticking.tick(&until)));
    let mut chance = stream::named(args.seed, "deployer");
    for request in 0..args.requests {
        let gap_s = -(1.0 - chance.random::<f64>()).ln() / args.rate / args.speed;
        let arrives = Instant::now() + Duration::from_secs_f64(gap_s);
        loop {
            let full = deployer.known().requests.len() >= UNDER_WAY;
            let left = arrives.saturating_duration_since(Instant::now());
            if left.is_zero() && !full {
                break;
            }
            telling.next(if full { AGAIN } else { left })?;
        }
        let application = chance.random_range(0..applications.len());
        deployer.arrive(request, &applications[application].name)?;
    }
    while telling.answered + telling.failed < args.requests {
        telling.next(AGAIN)?;
    }
    drop(done);
    ticker.join().map_err(|_| anyhow!("the ticker panicked"))?;
    deployer.power()?;
    let took_s = SimTime(deployer.now_ns()).seconds();
    let (answered, failed) = (telling.answered, telling.failed);
    let line = json!({"answered": answered, "failed": failed, "took_s": took_s});
    writeln!(std::io::stdout(), "{line}").context("cannot write to standard output")
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere left to say that standard error is closed.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
