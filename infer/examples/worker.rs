//! Workers, one for each VM of a world: what stands in for model servers behind a deployer.
//!
//! ```text
//! cargo run -p infer --example worker -- --world infer/examples/small.toml
//! ```
//!
//! `POST /run` names a fragment, `{"request": 7, "application": "caption", "variant": "split",
//! "fragment": 0}`, and is answered once the fragment has had its work: memory is given first in
//! first out and cores are shared fairly, as in the twin. `GET /` tells utilization and power since
//! it was last asked.
//!
//! With `--azure` a worker lives and dies with its VM in a virtual Azure: while the VM does not run
//! nobody listens, and when it stops, connections break and what ran is lost. Each run is a line on
//! standard output, with the time in Azure at which it began and ended; `to` is null if it was lost.
//!
//! Left out: transfers, tokens, models that must be loaded, credits.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use twin::World;
use twin::stream;
use twin::world::{Fragment, VmSize};

/// How often VMs are looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long Azure may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Serves the fragments of a world, one worker a host.
#[derive(Parser)]
struct Args {
    /// World, by name or path
    #[arg(long)]
    world: String,
    /// Hosts that have a worker in this process [default: all]
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Address of the first worker; each other has the next port, and with port 0 any free one
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// Virtual Azure in which the VMs are; without it all of them run
    #[arg(long, value_name = "URL")]
    azure: Option<String>,
    /// Seconds of the fleet's time in a real second
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Seed of the work that requests turn out to need
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// A fragment on a VM.
struct Job {
    left_mi: f64,
    cap_vcpus: f64,
    ram_mib: f64,
    /// When it got its memory.
    began: Option<Instant>,
}

/// What happens on a VM: its jobs in the order in which they came.
struct Vm {
    size: VmSize,
    jobs: BTreeMap<u64, Job>,
    came: u64,
    at: Instant,
    /// vCPU seconds since `measured`.
    used_s: f64,
    measured: Instant,
    speed: f64,
}

impl Vm {
    /// Max-min fair shares of the cores for the jobs that have their memory, in vCPUs.
    fn shares(&self) -> BTreeMap<u64, f64> {
        let running = self.jobs.iter().filter(|(_, job)| job.began.is_some());
        let mut caps: Vec<(u64, f64)> = running.map(|(&id, job)| (id, job.cap_vcpus)).collect();
        caps.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (mut left, mut sharers) = (self.size.vcpus, caps.len() as f64);
        let mut shares = BTreeMap::new();
        for (id, cap) in caps {
            let share = cap.min(left / sharers);
            shares.insert(id, share);
            (left, sharers) = (left - share, sharers - 1.0);
        }
        shares
    }

    /// Lets time pass up to now.
    fn pass(&mut self) -> BTreeMap<u64, f64> {
        let now = Instant::now();
        let passed_s = (now - self.at).as_secs_f64() * self.speed;
        let shares = self.shares();
        for (id, share) in &shares {
            self.used_s += share * passed_s;
            if let Some(job) = self.jobs.get_mut(id) {
                job.left_mi -= share * self.size.mips_per_vcpu.0 * passed_s;
            }
        }
        self.at = now;
        shares
    }

    /// Gives memory to those whose turn it is.
    fn admit(&mut self) {
        let mut free_mib = self.size.ram.0;
        for job in self.jobs.values_mut() {
            free_mib -= job.ram_mib;
            if free_mib < 0.0 && job.began.is_none() {
                return;
            }
            job.began.get_or_insert(self.at);
        }
    }

    /// Mean utilization and power since this was last asked.
    fn measure(&mut self) -> Value {
        self.pass();
        let span_s = (self.at - self.measured).as_secs_f64() * self.speed;
        let vcpu_s = self.size.vcpus * span_s;
        let utilization = if vcpu_s > 0.0 {
            self.used_s / vcpu_s
        } else {
            0.0
        };
        let utilization = utilization.clamp(0.0, 1.0);
        (self.used_s, self.measured) = (0.0, self.at);
        let power_w = self.size.power.at(utilization).0;
        json!({"utilization": utilization, "power_w": power_w, "span_s": span_s})
    }
}

/// The virtual Azure, of which a worker knows whether its own VM runs.
struct Azure {
    url: String,
    client: reqwest::Client,
}

impl Azure {
    fn new(url: &str) -> Result<Self> {
        let client = reqwest::Client::builder().timeout(ANSWER_LIMIT).build()?;
        let url = format!("{}/virtual/hosts", url.trim_end_matches('/'));
        Ok(Self { url, client })
    }

    /// The time there, and whether each host's VM runs.
    async fn look(&self) -> Result<(String, Vec<bool>)> {
        let answer = self.client.get(&self.url).send().await?;
        let answer = answer.error_for_status()?;
        let time = answer.headers().get("x-virtual-time");
        let time = time.and_then(|time| time.to_str().ok()).unwrap_or_default();
        let time = time.to_owned();
        let hosts: Value = serde_json::from_slice(&answer.bytes().await?)?;
        let hosts = hosts["value"].as_array().context("no list of hosts")?;
        let runs = hosts
            .iter()
            .map(|host| host["power"] == "running")
            .collect();
        Ok((time, runs))
    }
}

/// A worker: what a request to it meets.
struct Worker {
    host: usize,
    world: Arc<World>,
    seed: u64,
    azure: Option<Arc<Azure>>,
    vm: Mutex<Vm>,
    changed: Notify,
}

/// What is to be run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    request: u64,
    application: String,
    variant: String,
    fragment: usize,
}

type Refusal = (StatusCode, String);

/// Takes the job away when its request is done, or its client gone.
struct Leaving<'a>(&'a Worker, u64);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let mut vm = self.0.vm();
        vm.pass();
        vm.jobs.remove(&self.1);
        vm.admit();
        drop(vm);
        self.0.changed.notify_waiters();
    }
}

impl Worker {
    fn vm(&self) -> MutexGuard<'_, Vm> {
        self.vm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fragment(&self, task: &Task) -> Option<&Fragment> {
        let mut applications = self.world.applications.iter();
        let application = applications.find(|a| a.name == task.application)?;
        let variant = application
            .variants
            .iter()
            .find(|v| v.name == task.variant)?;
        variant.fragments.get(task.fragment)
    }

    /// The time in Azure; an error where this VM does not run.
    async fn time(&self) -> Result<String, Refusal> {
        let Some(azure) = &self.azure else {
            return Ok(String::new());
        };
        match azure.look().await {
            Ok((time, runs)) if runs.get(self.host) == Some(&true) => Ok(time),
            _ => Err((StatusCode::SERVICE_UNAVAILABLE, "the VM stops".into())),
        }
    }

    /// Waits until `task` has had its work; how long that took, in s.
    async fn serve(&self, task: &Task, fragment: &Fragment) -> f64 {
        let key = stream::mix(self.seed, task.request);
        let part = task.fragment as u64;
        let id = {
            let mut vm = self.vm();
            vm.pass();
            vm.came += 1;
            let job = Job {
                left_mi: fragment.work_mi.quantile(stream::unit(key, part)),
                cap_vcpus: self.world.caps[fragment.cap],
                ram_mib: self.world.needs_mib(fragment),
                began: None,
            };
            let id = vm.came;
            vm.jobs.insert(id, job);
            vm.admit();
            id
        };
        let _leaving = Leaving(self, id);
        self.changed.notify_waiters();
        loop {
            let changed = self.changed.notified();
            let mut wait = Duration::MAX;
            {
                let mut vm = self.vm();
                let shares = vm.pass();
                let (speed, mips) = (vm.speed, vm.size.mips_per_vcpu.0);
                if let (Some(job), Some(share)) = (vm.jobs.get(&id), shares.get(&id)) {
                    if job.left_mi <= 0.0 {
                        let began = job.began.unwrap_or(vm.at);
                        return (vm.at - began).as_secs_f64() * speed;
                    }
                    let left_s = job.left_mi / (share * mips) / speed;
                    wait = Duration::try_from_secs_f64(left_s).unwrap_or(Duration::MAX);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
        }
    }
}

/// Says of a run when it began and when it was answered, or that it was lost.
struct Telling<'a> {
    worker: &'a Worker,
    task: &'a Task,
    from: String,
    to: Option<String>,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let (task, from, to) = (self.task, &self.from, &self.to);
        say(&json!({
            "request": task.request, "variant": task.variant, "fragment": task.fragment,
            "host": self.worker.world.hosts[self.worker.host].name, "from": from, "to": to,
        }));
    }
}

async fn run(State(worker): State<Arc<Worker>>, body: String) -> Result<Json<Value>, Refusal> {
    let bad = |problem: String| (StatusCode::UNPROCESSABLE_ENTITY, problem);
    let task: Task = serde_json::from_str(&body).map_err(|error| bad(error.to_string()))?;
    let fragment = worker.fragment(&task);
    let fragment = fragment.ok_or_else(|| bad("there is no such fragment".into()))?;
    if worker.world.needs_mib(fragment) > worker.vm().size.ram.0 {
        return Err(bad("the VM has too little memory".into()));
    }
    let mut telling = Telling {
        from: worker.time().await?,
        to: None,
        worker: &worker,
        task: &task,
    };
    let took_s = worker.serve(&task, fragment).await;
    telling.to = Some(worker.time().await?);
    let host = &worker.world.hosts[worker.host].name;
    Ok(Json(json!({"host": host, "took_s": took_s})))
}

async fn measure(State(worker): State<Arc<Worker>>) -> Json<Value> {
    Json(worker.vm().measure())
}

/// Says `line` on standard output.
fn say(line: &impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // Nobody may read it any more.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A host's VM; what runs on it, runs in a runtime of its own, and ends with it.
struct Place {
    host: usize,
    address: SocketAddr,
    /// Holds the port while nobody listens.
    _reserved: TcpSocket,
    running: Option<Runtime>,
}

/// A socket at `address`, which others of this program may have as well.
fn socket(address: SocketAddr) -> Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    #[cfg(unix)]
    socket.set_reuseport(true)?;
    let bound = socket.bind(address);
    bound.with_context(|| format!("cannot listen on {address}"))?;
    Ok(socket)
}

impl Place {
    fn new(host: usize, address: SocketAddr) -> Result<Self> {
        let reserved = socket(address)?;
        Ok(Self {
            host,
            address: reserved.local_addr()?,
            _reserved: reserved,
            running: None,
        })
    }

    fn start(&mut self, world: &Arc<World>, azure: Option<&Arc<Azure>>, args: &Args) -> Result<()> {
        let now = Instant::now();
        let vm = Vm {
            size: world.size_of(self.host).clone(),
            jobs: BTreeMap::new(),
            came: 0,
            at: now,
            used_s: 0.0,
            measured: now,
            speed: args.speed,
        };
        let worker = Worker {
            host: self.host,
            world: Arc::clone(world),
            seed: args.seed,
            azure: azure.map(Arc::clone),
            vm: Mutex::new(vm),
            changed: Notify::new(),
        };
        let router = Router::new()
            .route("/", get(measure))
            .route("/run", axum::routing::post(run))
            .with_state(Arc::new(worker));
        let mut threads = tokio::runtime::Builder::new_multi_thread();
        let runtime = threads.worker_threads(1).enable_all().build()?;
        let _entered = runtime.enter();
        let listener = socket(self.address)?.listen(BACKLOG)?;
        runtime.spawn(async move { axum::serve(listener, router).await });
        drop(_entered);
        self.running = Some(runtime);
        Ok(())
    }

    /// Nobody listens any more, and connections break.
    fn stop(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_timeout(ANSWER_LIMIT);
        }
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.speed > 0.0, "--speed must be above 0");
    let world = Arc::new(World::load(&args.world)?);
    let azure = args
        .azure
        .as_deref()
        .map(Azure::new)
        .transpose()?
        .map(Arc::new);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let _entered = runtime.enter();
    let mut places = Vec::new();
    for name in &args.hosts {
        let known = world.hosts.iter().any(|host| host.name == *name);
        ensure!(known, "--host: the world has no host {name:?}");
    }
    let has_worker = |name| args.hosts.is_empty() || args.hosts.contains(name);
    let mut hosts = world.hosts.iter().enumerate();
    while let Some((host, spec)) = hosts.find(|(_, spec)| has_worker(&spec.name)) {
        let mut address = args.listen;
        if address.port() != 0 {
            let next = u16::try_from(places.len()).ok();
            let next = next.and_then(|next| address.port().checked_add(next));
            address.set_port(next.ok_or_else(|| anyhow!("--listen: ports run out"))?);
        }
        let place = Place::new(host, address)?;
        say(&format!("{} at http://{}", spec.name, place.address));
        places.push(place);
    }
    loop {
        let runs = match &azure {
            None => vec![true; world.hosts.len()],
            Some(azure) => runtime.block_on(azure.look())?.1,
        };
        for place in &mut places {
            match (
                runs.get(place.host).copied().unwrap_or(false),
                &place.running,
            ) {
                (true, None) => place.start(&world, azure.as_ref(), &args)?,
                (false, Some(_)) => place.stop(),
                _ => {}
            }
        }
        runtime.block_on(tokio::time::sleep(LOOK));
    }
}
