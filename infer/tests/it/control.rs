//! The control loop on the virtual Azure.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::{Duration as TokenDuration, OffsetDateTime};
use infer::control::action::{Change, Phase, Record};
use infer::control::brain::{Brain, BrainError, Local, Verdict};
use infer::control::controller::Controller;
use infer::control::journal::records;
use infer::control::lease::{GroupTags, Hold, Lease, TagLease};
use infer::control::report::{Outcome, Report};
use infer::control::run::parts;
use infer::control::settings::ControlFile;
use infer::control::telemetry::Telemetry;
use infer::decider::Decider;
use infer::service::Limits;
use infer::source::Source;
use infer::virtual_azure::{DeployerChoice, FaultSettings, Options, Server};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use twin::decision::{Decision, PowerAction};
use twin::ids::HostId;
use twin::observation::FleetView;
use twin::simulate;
use twin::wire::{DecisionBody, DecisionRequest};
use twin::world::{Dispatch, World};

use crate::support::{Running, embedded};

/// A virtual Azure and a client of what it has beside its Resource Manager.
struct Virtual {
    server: Server,
    runtime: Runtime,
    client: reqwest::Client,
    folder: tempfile::TempDir,
    /// Virtual time, in ns.
    now: Arc<AtomicI64>,
}

impl Virtual {
    fn start(options: Options) -> Self {
        let folder = tempfile::tempdir_in(memory()).expect("a folder");
        let server = Server::start(options).expect("it starts");
        let pem = server.ca_pem().expect("an authority");
        std::fs::write(folder.path().join("ca.pem"), pem).expect("written");
        let authority = reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate");
        let client = reqwest::Client::builder()
            .tls_certs_only([authority])
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build()
            .expect("a client");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let this = Self {
            server,
            runtime,
            client,
            folder,
            now: Arc::default(),
        };
        this.read_clock();
        this
    }

    fn call(&self, method: reqwest::Method, path: &str, body: Option<&Value>) -> Value {
        let url = format!("{}/virtual/{path}", self.server.url());
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            let json = "application/json";
            request = request.header("content-type", json).body(body.to_string());
        }
        self.runtime.block_on(async {
            let answer = request.send().await.expect("an answer");
            let status = answer.status();
            let text = answer.text().await.expect("a body");
            assert!(status.is_success(), "{path}: {status}: {text}");
            serde_json::from_str(&text).expect("JSON")
        })
    }

    fn get(&self, path: &str) -> Value {
        self.call(reqwest::Method::GET, path, None)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.call(reqwest::Method::POST, path, Some(body))
    }

    fn read_clock(&self) -> Value {
        let clock = self.get("clock");
        let time: Timestamp = clock["time"]
            .as_str()
            .expect("a time")
            .parse()
            .expect("a time");
        let nanos = i64::try_from(time.as_nanosecond()).expect("this century");
        self.now.store(nanos, Ordering::Relaxed);
        clock
    }

    /// Lets time pass up to the next boundary, whoever else decides on the way.
    fn next_boundary(&self) {
        loop {
            self.post("advance", &json!({"until_next_epoch": true}));
            if self.read_clock()["epoch"] == "boundary" {
                return;
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A section `[control]` for this cloud, and `more`.
    fn settings(&self, more: &str) -> String {
        let (url, ca) = (self.server.url(), self.path("ca.pem"));
        let (ca, log) = (ca.display(), self.path("actions.jsonl"));
        let log = log.display();
        format!(
            r#"
            [control]
            subscription = "00000000-0000-0000-0000-000000000001"
            resource_group = "fleet"
            state_url = "{url}/virtual/state?epoch=boundary"
            service_ca_file = "{ca}"
            action_log = "{log}"
            in_flight = 1
            metrics = false
            {more}
            [control.azure]
            endpoint = "{url}"
            authority = "{url}"
            ca_file = "{ca}"
            credentials = ["environment"]
            "#
        )
    }

    /// A controller on virtual time.
    fn controller(
        &self,
        world: &Arc<World>,
        text: &str,
        brain: Option<Box<dyn Brain>>,
    ) -> Controller {
        let file = ControlFile::parse(text, "test").expect("settings");
        let settings = file
            .check("test", world.interval.seconds(), true)
            .expect("settings");
        let token = Token(self.server.token("control"));
        let telemetry = Arc::new(Telemetry::new().expect("metrics"));
        let mut parts = parts(world, &settings, brain, telemetry, Arc::new(token)).expect("parts");
        let now = Arc::clone(&self.now);
        parts.clock = Arc::new(move || {
            Timestamp::from_nanosecond(i128::from(now.load(Ordering::Relaxed))).expect("a time")
        });
        Controller::new(parts, settings.rules)
    }

    fn step(&self, controller: &mut Controller) -> Report {
        self.runtime
            .block_on(controller.step())
            .expect("the log can be written")
    }
}

#[derive(Debug)]
struct Token(String);

#[async_trait]
impl TokenCredential for Token {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let expires = OffsetDateTime::now_utc() + TokenDuration::hours(1);
        Ok(AccessToken::new(self.0.clone(), expires))
    }
}

/// A folder in memory, where there is one: the action log waits for the disk.
fn memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}

fn decider(world: &Arc<World>, source: &Source) -> Decider {
    Decider::new(world, source, 1).expect("the policy exists")
}

const UNBOUND: &str = "[control.guardrails]\nmaximum_actions = 1000\nbackoff_s = 0\n[control.lease]\nkind = \"none\"\n";

/// Runs `source` through the virtual Azure: provisioning by the control loop, deployments by a
/// deployer outside who asks the same policy, or by the decision service; and in process.
fn compare(world: &Arc<World>, source: &Source, seed: u64, intervals: u32, by_service: bool) {
    let service = by_service.then(|| {
        let deciders = (0..2).map(|_| decider(world, source)).collect();
        Running::start(deciders, Limits::default())
    });
    let deployer = match &service {
        Some(service) => DeployerChoice::Service(service.url.clone()),
        None => DeployerChoice::Outside,
    };
    let cloud = Virtual::start(Options {
        seed,
        intervals: Some(intervals),
        deployer,
        ..Options::stepped(Arc::clone(world))
    });
    let asked = service.as_ref().map_or(String::new(), |service| {
        format!("service_url = \"{}\"\n", service.url)
    });
    let text = cloud.settings(&asked) + UNBOUND;
    let brain = service
        .is_none()
        .then(|| Box::new(Local::new(decider(world, source))) as Box<dyn Brain>);
    let mut controller = cloud.controller(world, &text, brain);
    let mut outside = decider(world, source);
    for _ in 0..intervals {
        cloud.next_boundary();
        let joint = (!by_service).then(|| cloud.get("state?epoch=boundary"));
        let report = cloud.step(&mut controller);
        assert_eq!(report.outcome, Outcome::Acted, "{report:?}");
        assert!(
            report.disputed_hosts.is_empty() && report.fallback.is_none(),
            "{report:?}"
        );
        for action in &report.actions {
            assert!(
                ["submitted", "succeeded"].contains(&action.state),
                "{action:?}"
            );
        }
        if let Some(state) = joint {
            deploy(&cloud, world, &mut outside, &state);
        }
    }
    let end_s = world.interval.seconds() * f64::from(intervals);
    cloud.post("advance", &json!({"to_s": end_s}));
    let far = cloud.get("qos");
    let options = simulate::Options {
        intervals: Some(intervals),
        ..simulate::Options::new(seed)
    };
    let loaded = infer::source::load_policy(source, world, 1).expect("the policy exists");
    let mut policy = loaded.policy;
    let near = simulate::run(world, policy.as_mut(), &options).expect("the run ends");
    let near = serde_json::to_value(near.qos).expect("JSON");
    for (name, value) in near.as_object().expect("fields") {
        assert_eq!(far[name], *value, "{name}, seed {seed}");
    }
}

/// Has the deployments of a joint decision about `state` carried out.
fn deploy(cloud: &Virtual, world: &World, decider: &mut Decider, state: &Value) {
    let text = state.to_string();
    let request = DecisionRequest::from_json(text.as_bytes()).expect("a state");
    let view = request.to_view(world).expect("of this world");
    let outcome = decider.decide(&view).expect("consistent");
    let mut rest = outcome.decision.clone();
    rest.provisioning.clear();
    let body = DecisionBody::from_decision(world, &view, &rest);
    cloud.post("deployments", &serde_json::to_value(&body).expect("JSON"));
}

fn model(name: &str) -> Source {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models");
    Source::model(&folder.join(name)).expect("the model is committed")
}

#[test]
fn the_closed_loop_of_scinet_16_is_that_in_process() {
    let world = embedded("scinet-16");
    assert_eq!(world.dispatch, Dispatch::Interval);
    compare(&world, &Source::named("greedy"), 5_000, 20, false);
    compare(&world, &model("scinet-16"), 5_001, 20, false);
}

#[test]
fn the_closed_loop_of_azure_llm_is_that_in_process() {
    let world = embedded("azure-llm");
    assert_eq!(world.dispatch, Dispatch::OnArrival);
    compare(&world, &Source::named("greedy"), 5_000, 6, true);
    compare(&world, &model("azure-llm"), 5_001, 6, true);
}

/// Wants what it is told to want; a policy, where it is told nothing.
struct Wanting {
    policy: Local,
    wanted: Arc<Mutex<Option<Decision>>>,
}

#[async_trait]
impl Brain for Wanting {
    async fn decide(&mut self, view: &FleetView) -> Result<Verdict, BrainError> {
        let wanted = self.wanted.lock().expect("whole").clone();
        match wanted {
            None => self.policy.decide(view).await,
            Some(decision) => Ok(Verdict {
                decision,
                policy: "a test".into(),
                fallback: None,
            }),
        }
    }
}

const MINIMUM_ON: usize = 3;
const MAXIMUM_ACTIONS: usize = 4;
/// Hosts that are never touched, by name.
const NEVER: usize = 2;

/// With faults at a tenth of the calls: no action outside the guardrails, every action in the log
/// once, and in the end every VM as decided.
#[expect(clippy::too_many_lines, reason = "one scenario from start to end")]
fn faults(world: &Arc<World>, policy: &str, intervals: u32, seed: u64) {
    let cloud = Virtual::start(Options {
        seed,
        intervals: Some(intervals),
        deployer: DeployerChoice::Policy("least-loaded".into()),
        faults: FaultSettings {
            rate: 0.1,
            seed,
            slow_s: 3.0 * world.interval.seconds(),
            stuck_s: 30.0 * world.interval.seconds(),
            stale_s: 2.0 * world.interval.seconds(),
            ..FaultSettings::default()
        },
        ..Options::stepped(Arc::clone(world))
    });
    let never: Vec<&str> = world.hosts[..NEVER]
        .iter()
        .map(|h| h.name.as_str())
        .collect();
    let interval_s = world.interval.seconds();
    let more = format!(
        "grace_s = {grace}\noperation_limit_s = {limit}\n\
         [control.guardrails]\nnever = {never:?}\nminimum_on = {MINIMUM_ON}\n\
         maximum_actions = {MAXIMUM_ACTIONS}\nbackoff_s = {interval_s}\n",
        grace = 4.0 * interval_s,
        limit = 20.0 * interval_s,
    );
    let text = cloud.settings("") + "[control.lease]\nkind = \"none\"\n";
    let text = text.replace("metrics = false", &format!("metrics = false\n{more}"));
    let wanted = Arc::new(Mutex::new(None));
    let start = || {
        let brain = Wanting {
            policy: Local::new(decider(world, &Source::named(policy))),
            wanted: Arc::clone(&wanted),
        };
        cloud.controller(world, &text, Some(Box::new(brain)))
    };
    let mut controller = start();
    let mut outcomes: BTreeMap<&str, u32> = BTreeMap::new();
    for interval in 0..intervals {
        cloud.next_boundary();
        let report = cloud.step(&mut controller);
        *outcomes.entry(report.outcome.name()).or_default() += 1;
        if interval % 17 == 16 {
            // Killed and started again.
            drop(controller);
            controller = start();
        }
    }
    let acted = outcomes.get("acted").copied().unwrap_or(0);
    assert!(acted * 2 > intervals, "{outcomes:?}");
    let quiet = json!({"rate": 0.0});
    cloud.call(reqwest::Method::PUT, "faults", Some(&quiet));
    // What was decided last stays wanted: hosts in turn on and off.
    let on = |h: usize| h.is_multiple_of(2);
    let actions = (NEVER..world.hosts.len()).map(|h| PowerAction {
        host: HostId::at(h),
        on: on(h),
    });
    *wanted.lock().expect("whole") = Some(Decision {
        provisioning: actions.collect(),
        ..Decision::none()
    });
    for _ in 0..40 {
        cloud.next_boundary();
        cloud.step(&mut controller);
    }
    assert!(controller.journal().ledger().open().is_empty());
    drop(controller);
    let hosts = cloud.get("hosts");
    for (h, host) in hosts["value"].as_array().expect("hosts").iter().enumerate() {
        let lifecycle = host["lifecycle"].as_str().expect("a lifecycle");
        let decided = if h < NEVER {
            if world.hosts[h].initially_on {
                "on"
            } else {
                "off"
            }
        } else if on(h) {
            "on"
        } else {
            "off"
        };
        assert_eq!(lifecycle, decided, "{host}");
    }
    let log = records(&cloud.path("actions.jsonl")).expect("a log");
    audit(&log, &executed(&cloud), &never);
    eprintln!("{outcomes:?}, {} records", log.len());
}

/// A call that the cloud carried out.
struct Executed {
    vm: String,
    action: String,
    at: Timestamp,
    duplicate: bool,
}

fn executed(cloud: &Virtual) -> Vec<Executed> {
    let mut list = Vec::new();
    loop {
        let page = cloud.get(&format!("log?after={}", list.len()));
        let entries = page["entries"].as_array().expect("entries");
        if entries.is_empty() {
            return list;
        }
        list.extend(entries.iter().map(|entry| {
            Executed {
                vm: entry["vm"].as_str().expect("a VM").into(),
                action: entry["action"].as_str().expect("an action").into(),
                at: entry["time"]
                    .as_str()
                    .expect("a time")
                    .parse()
                    .expect("a time"),
                duplicate: entry["duplicate"].as_bool().expect("whether"),
            }
        }));
    }
}

/// Holds the action log against what the cloud says was done.
fn audit(log: &[Record], executed: &[Executed], never: &[&str]) {
    let mut phases: BTreeMap<u64, Vec<Phase>> = BTreeMap::new();
    let mut planned: BTreeMap<(String, String, Timestamp), u32> = BTreeMap::new();
    let mut by_time: BTreeMap<Timestamp, usize> = BTreeMap::new();
    for record in log {
        phases.entry(record.action).or_default().push(record.phase);
        if let Some(plan) = &record.plan {
            assert!(!never.contains(&plan.name.as_str()), "{plan:?}");
            let action = match plan.change {
                Change::Start => "start",
                _ => "deallocate",
            };
            let key = (plan.name.clone(), action.to_owned(), record.at);
            *planned.entry(key).or_default() += 1;
            *by_time.entry(record.at).or_default() += 1;
        }
    }
    assert!(!phases.is_empty());
    for (action, phases) in &phases {
        let count = |phase: Phase| phases.iter().filter(|p| **p == phase).count();
        assert_eq!(count(Phase::Planned), 1, "action {action}");
        let ends = count(Phase::Succeeded) + count(Phase::Failed);
        assert_eq!(ends, 1, "action {action}: {phases:?}");
    }
    for (at, count) in &by_time {
        assert!(*count <= MAXIMUM_ACTIONS, "{count} at {at}");
    }
    for call in executed.iter().filter(|call| !call.duplicate) {
        let key = (call.vm.clone(), call.action.clone(), call.at);
        // A call that was carried out was planned at that moment, and sent once.
        let left = planned.get_mut(&key);
        let left = left.unwrap_or_else(|| panic!("{} of {} at {}", call.action, call.vm, call.at));
        assert!(
            *left > 0,
            "{} of {} twice at {}",
            call.action,
            call.vm,
            call.at
        );
        *left -= 1;
    }
}

/// How long the test with faults is; `just control-faults` makes it long.
fn fault_intervals(short: u32) -> u32 {
    let text = std::env::var("CONTROL_FAULTS_INTERVALS").ok();
    text.map_or(short, |text| text.parse().expect("a number of intervals"))
}

#[test]
fn faults_on_scinet_16() {
    faults(&embedded("scinet-16"), "greedy", fault_intervals(60), 7);
}

#[test]
fn faults_on_azure_llm() {
    faults(&embedded("azure-llm"), "greedy", fault_intervals(20), 8);
}

#[test]
fn of_two_copies_one_has_the_tags() {
    let world = embedded("scinet-16");
    let cloud = Virtual::start(Options::stepped(Arc::clone(&world)));
    let lease = |holder: &str| {
        let file = ControlFile::parse(&cloud.settings(""), "test").expect("settings");
        let settings = file.check("test", 5.0, true).expect("settings");
        let token = Arc::new(Token(cloud.server.token(holder)));
        let limits = infer::azure::Limits::default();
        let client =
            infer::azure::Client::new(&settings.endpoint, &settings.subscription, token, limits);
        let store = GroupTags {
            client: Arc::new(client.expect("a client")),
            group: "fleet".into(),
        };
        TagLease::new(
            store,
            holder,
            Duration::from_secs(60),
            Duration::from_millis(50),
        )
    };
    let (mut a, mut b) = (lease("a"), lease("b"));
    cloud.runtime.block_on(async {
        assert_eq!(a.hold().await.expect("known"), Hold::Mine);
        let other = Hold::Other { holder: "a".into() };
        assert_eq!(b.hold().await.expect("known"), other);
        a.release().await;
        assert_eq!(b.hold().await.expect("known"), Hold::Mine);
        assert!(!a.is_held() && b.is_held());
    });
}

/// The program `infer control` on `cloud`, with the configuration at `config`.
fn program(cloud: &Virtual, config: &std::path::Path, more: &[&str]) -> std::process::Command {
    let config = config.to_str().expect("text");
    let fixed = [
        "control",
        "--policy",
        "greedy",
        "--world",
        "scinet-16",
        "--config",
        config,
    ];
    let mut command = crate::program::infer(&[&fixed, more].concat());
    command
        .env("AZURE_TENANT_ID", "00000000-0000-0000-0000-000000000002")
        .env("AZURE_CLIENT_ID", "control")
        .env("AZURE_CLIENT_SECRET", "virtual-secret")
        .env_remove("AZURE_SUBSCRIPTION_ID")
        .env_remove("AZURE_FEDERATED_TOKEN_FILE")
        .current_dir(cloud.folder.path());
    command
}

fn write_config(cloud: &Virtual, more: &str) -> PathBuf {
    let path = cloud.path("infer.toml");
    let lease = cloud.path("control.lock");
    let text = cloud.settings(more);
    let lease = format!("[control.lease]\npath = \"{}\"\n", lease.display());
    std::fs::write(&path, text + &lease).expect("written");
    path
}

fn run_once(
    cloud: &Virtual,
    config: &std::path::Path,
    more: &[&str],
) -> (Option<i32>, Value, String) {
    let output = program(cloud, config, &[&["--once"], more].concat())
        .output()
        .expect("the program runs");
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), report, log)
}

#[test]
fn the_program_says_what_it_would_do_and_does_it_when_told() {
    let world = embedded("scinet-16");
    let cloud = Virtual::start(Options::stepped(Arc::clone(&world)));
    cloud.next_boundary();
    let config = write_config(&cloud, "");
    let (code, report, log) = run_once(&cloud, &config, &[]);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(report["outcome"]["kind"], "dry-run");
    let actions = report["actions"].as_array().expect("actions");
    assert!(!actions.is_empty());
    assert!(actions.iter().any(|a| a["state"] == "would-act"));
    assert!(executed(&cloud).is_empty(), "a dry run touches nothing");
    assert!(!log.contains("virtual-secret"), "{log}");

    let (code, report, log) = run_once(&cloud, &config, &["--apply"]);
    assert_eq!(code, Some(0), "{log}");
    let done = executed(&cloud).len();
    let submitted = report["actions"].as_array().expect("actions").iter();
    let submitted = submitted.filter(|a| a["state"] != "held").count();
    assert!(done == submitted && done > 0, "{done} {report}");

    // Another process has the lease.
    let mut other = infer::control::lease::FileLease::new(&cloud.path("control.lock"));
    let hold = cloud.runtime.block_on(other.hold()).expect("known");
    assert_eq!(hold, Hold::Mine);
    let (code, report, log) = run_once(&cloud, &config, &["--apply"]);
    assert_eq!(code, Some(75), "{log}");
    assert_eq!(report["outcome"]["kind"], "standby");
    assert_eq!(executed(&cloud).len(), done);
}

#[test]
fn the_program_tells_what_is_wrong() {
    let world = embedded("scinet-16");
    let cloud = Virtual::start(Options::stepped(world));
    let config = write_config(&cloud, "interval_s = -1");
    let (code, _, log) = run_once(&cloud, &config, &[]);
    assert_eq!(code, Some(64), "{log}");
    assert!(
        log.contains("infer.toml: control.interval_s: must lie between"),
        "{log}"
    );
    let (code, _, log) = run_once(&cloud, &cloud.path("no.toml"), &[]);
    assert_eq!(code, Some(66), "{log}");
    let config = write_config(&cloud, "");
    std::fs::write(cloud.path("actions.jsonl"), "{}\n").expect("written");
    let (code, _, log) = run_once(&cloud, &config, &["--apply"]);
    assert_eq!(code, Some(65), "{log}");
    assert!(log.contains("actions.jsonl:1: "), "{log}");
    std::fs::remove_file(cloud.path("actions.jsonl")).expect("removed");
    // Nobody listens there.
    let nowhere = [
        "--endpoint",
        "https://127.0.0.1:1",
        "--authority",
        "https://127.0.0.1:1",
    ];
    let (code, report, log) = run_once(&cloud, &config, &nowhere);
    assert_eq!(code, Some(69), "{log}");
    assert_eq!(report["outcome"]["kind"], "blind");
}

#[test]
fn a_program_that_is_killed_goes_on_where_it_was() {
    use std::io::{BufRead, BufReader};
    let world = embedded("scinet-16");
    let cloud = Virtual::start(Options {
        clock: infer::virtual_azure::ClockKind::Running { speed: 50.0 },
        ..Options::stepped(world)
    });
    let config = write_config(
        &cloud,
        "interval_s = 0.05\ngrace_s = 1\noperation_limit_s = 20",
    );
    for lines in [1, 3, 2, 4] {
        let mut child = program(&cloud, &config, &["--apply"])
            .spawn()
            .expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let seen = out.lines().take(lines).map_while(Result::ok).count();
        child.kill().expect("killed");
        child.wait().expect("ended");
        assert_eq!(seen, lines);
    }
    let mut child = program(&cloud, &config, &["--apply"])
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    lines.next().expect("a line").expect("text");
    let told = std::process::Command::new("kill")
        .arg(child.id().to_string())
        .status();
    assert!(told.expect("kill exists").success());
    while lines.next().is_some() {}
    assert_eq!(
        child.wait().expect("ended").code(),
        Some(0),
        "it ends by itself"
    );
    let log = records(&cloud.path("actions.jsonl")).expect("a log");
    let planned = log.iter().filter(|r| r.phase == Phase::Planned).count();
    let done = executed(&cloud).len();
    assert!(planned > 0);
    assert!(
        done <= planned,
        "{done} calls were carried out, {planned} planned"
    );
}
