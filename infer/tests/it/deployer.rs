//! The deployers of the examples, as programs, in front of the decision service, HTTP workers and
//! the VMs of a virtual Azure.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;
use twin::World;

use crate::program::{example, infer, run};
use crate::support::{agent, small};

/// Seconds of the fleet's time in a real one.
const SPEED: &str = "10";
/// How long anything may take that these tests wait for.
const LIMIT: Duration = Duration::from_secs(60);
const GROUP: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/fleet";

/// A deployer of the examples.
#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    Rust,
}

impl Language {
    /// The deployer, without arguments.
    fn program(self) -> Command {
        self.example("deployer")
    }

    /// A program of the examples, without arguments.
    fn example(self, name: &str) -> Command {
        match self {
            Self::Rust => Command::new(built(name)),
            Self::Python => {
                let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
                let probe = Command::new(&python)
                    .args(["-c", "import tomllib"])
                    .output();
                assert!(
                    probe.is_ok_and(|probe| probe.status.success()),
                    "the deployer in Python needs Python 3.11 or later, and {python} is not that: \
                     install it, or name another with PYTHON"
                );
                let mut command = Command::new(python);
                command.arg(example(&format!("{name}.py")));
                command
            }
        }
    }
}

/// A program of the examples, which `cargo test` builds beside the tests unless it is told to build
/// some of them alone.
fn built(name: &str) -> PathBuf {
    let infer = Path::new(env!("CARGO_BIN_EXE_infer"));
    let path = infer.with_file_name("examples").join(name);
    let path = path.with_extension(std::env::consts::EXE_EXTENSION);
    let changed = |path: &Path| {
        path.metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
    };
    let sources: Vec<PathBuf> = match std::fs::read_dir(example(name)) {
        Ok(folder) => folder.map(|file| file.expect("readable").path()).collect(),
        Err(_) => vec![example(name).with_extension("rs")],
    };
    let newest = sources.iter().filter_map(|source| changed(source)).max();
    assert!(
        newest.is_some() && changed(&path) >= newest,
        "{} is absent or stale: run cargo build -p infer --examples",
        path.display()
    );
    path
}

/// A program under way, which is killed when dropped, and the lines that it has written.
struct Program {
    child: Child,
    lines: Receiver<String>,
    all: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .env("NO_PROXY", "*")
            .env("no_proxy", "*")
            .spawn()
            .expect("the program starts");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let (tell, lines) = mpsc::channel();
        let all = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&all);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                kept.lock().expect("nobody panics").push(line.clone());
                // Nobody may wait for it.
                let _ = tell.send(line);
            }
        });
        Self { child, lines, all }
    }

    /// The next line.
    fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line")
    }

    /// The end of the first line, behind `start`.
    fn url(&self, start: &str) -> String {
        let line = self.line();
        let url = line.strip_prefix(start).unwrap_or_else(|| panic!("{line}"));
        url.to_owned()
    }

    fn kill(&mut self) {
        self.child.kill().expect("it is killed");
        self.child.wait().expect("it has ended");
    }

    /// The lines that are JSON, so far.
    fn objects(&self) -> Vec<Value> {
        let all = self.all.lock().expect("nobody panics");
        let objects = all.iter().filter(|line| line.starts_with('{'));
        let read = objects.map(|line| serde_json::from_str(line).expect("JSON"));
        read.collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The virtual Azure, the service, and a worker on each VM.
struct Chain {
    world: Arc<World>,
    folder: tempfile::TempDir,
    azure: String,
    service: Program,
    service_url: String,
    workers: Vec<Program>,
    worker_urls: Vec<String>,
    _azure: Program,
}

fn world_file() -> String {
    example("small.toml").to_str().expect("text").to_owned()
}

fn serve(folder: &Path, listen: &str, policy: &str, more: &[&str]) -> (Program, String) {
    let world = world_file();
    let folder = folder.to_str().expect("text");
    let mut command = infer(&[
        "serve",
        "--policy",
        policy,
        "--world",
        &world,
        "--listen",
        listen,
        "--log-folder",
        folder,
    ]);
    command.args(more).stderr(Stdio::null());
    let service = Program::start(command);
    let url = service.url("listening on ");
    (service, url)
}

impl Chain {
    fn start(policy: &'static str) -> Self {
        let (world, file) = (small(), world_file());
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtual-azure"));
        command.args(["--world", &file, "--listen", "127.0.0.1:0", "--plain"]);
        command.args(["--speed", SPEED, "--deployer", "outside"]);
        let azure = Program::start(command);
        let azure_url = azure.url("listening on ");
        let folder = tempfile::tempdir().expect("a folder");
        let (service, service_url) = serve(&folder.path().join("log"), "127.0.0.1:0", policy, &[]);
        let worker = |name: &str| {
            let mut command = Command::new(built("worker"));
            command.args(["--world", &file, "--host", name, "--listen", "127.0.0.1:0"]);
            command.args(["--azure", &azure_url, "--speed", SPEED]);
            let worker = Program::start(command);
            let url = worker.url(&format!("{name} at "));
            (worker, url)
        };
        let started = world.hosts.iter().map(|host| worker(&host.name));
        let (workers, worker_urls) = started.unzip();
        let this = Self {
            world,
            folder,
            azure: azure_url,
            service,
            service_url,
            workers,
            worker_urls,
            _azure: azure,
        };
        for (host, url) in this.world.hosts.iter().zip(&this.worker_urls) {
            wait_for("the worker", || {
                agent().get(url).call().is_ok() == host.initially_on
            });
        }
        this
    }

    /// The deployer, which is to send so many requests.
    fn deployer(&self, language: Language, requests: usize) -> Command {
        let mut command = language.program();
        command.args(["--world", &world_file(), "--service", &self.service_url]);
        command.arg("--worker").args(&self.worker_urls);
        command.args(["--azure", &self.azure, "--group", GROUP]);
        command.args(["--requests", &requests.to_string()]);
        command.args(["--rate", "2", "--speed", SPEED]);
        let notes = std::fs::File::create(self.folder.path().join("notes"));
        command
            .stderr(notes.expect("a file"))
            .env("AZURE_AUTHORITY_HOST", &self.azure)
            .env("AZURE_TENANT_ID", "00000000-0000-0000-0000-000000000002")
            .env("AZURE_CLIENT_ID", "deployer")
            .env("AZURE_CLIENT_SECRET", "virtual-secret");
        command
    }

    /// The folder of the decision log.
    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// What the deployer has said on standard error.
    fn notes(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("notes")).expect("text")
    }

    fn azure(&self, path: &str) -> Value {
        get(&format!("{}/virtual/{path}", self.azure))
    }

    /// The decisions of the log, the oldest first.
    fn decisions(&self) -> Vec<Value> {
        let folder = self.log();
        let folder = folder.to_str().expect("text");
        let output = run(&["log", "export", folder, "--kind", "decision"], b"");
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        let lines = text.lines();
        let record = |line| serde_json::from_str::<Value>(line).expect("JSON")["entry"].take();
        lines.map(|line| record(line)["response"].take()).collect()
    }

    /// Every run of a worker: those that it has answered, and those that were lost.
    fn runs(&self) -> (Vec<Value>, Vec<Value>) {
        let runs = self.workers.iter().flat_map(Program::objects);
        runs.partition(|run| run["to"].is_string())
    }
}

fn get(url: &str) -> Value {
    let mut response = agent().get(url).call().expect("an answer");
    assert_eq!(response.status(), 200, "{url}");
    response.body_mut().read_json().expect("JSON")
}

fn wait_for(what: &str, mut until: impl FnMut() -> bool) {
    let began = Instant::now();
    while !until() {
        assert!(began.elapsed() < LIMIT, "{what} is waited for too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What became of the requests, once the deployer has ended: each was answered once.
fn answered(deployer: &mut Program, requests: usize) -> BTreeMap<u64, Value> {
    let began = Instant::now();
    let status = loop {
        if let Some(status) = deployer.child.try_wait().expect("it is a child") {
            break status;
        }
        assert!(began.elapsed() < LIMIT, "the deployer does not end");
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "{status}");
    // The last line may be on its way.
    wait_for("the summary", || {
        deployer
            .objects()
            .last()
            .is_some_and(|line| line["took_s"].is_number())
    });
    let mut lines = deployer.objects();
    let summary = lines.pop().expect("a summary");
    assert_eq!(
        (&summary["answered"], &summary["failed"]),
        (&requests.into(), &0.into())
    );
    let mut answered = BTreeMap::new();
    for line in lines {
        assert_eq!(line["outcome"], "answered", "{line}");
        let request = line["request"].as_u64().expect("a number");
        let before = answered.insert(request, line);
        assert_eq!(before, None, "answered twice");
    }
    let all: Vec<u64> = (0..requests as u64).collect();
    assert!(answered.keys().copied().eq(all), "{answered:?}");
    answered
}

/// Requests run as the log says that it was decided, and nowhere else but where they were lost.
fn check_placements(chain: &Chain, answered: &BTreeMap<u64, Value>, lost: bool) {
    let mut decided: BTreeMap<(String, u64), Value> = BTreeMap::new();
    for response in chain.decisions() {
        let id = response["id"].as_str().expect("an id");
        let deployments = response["decision"]["deployments"]
            .as_array()
            .expect("a list");
        for deployment in deployments {
            let request = deployment["request"].as_u64().expect("a number");
            decided.insert((id.to_owned(), request), deployment.clone());
        }
    }
    let (runs, broken) = chain.runs();
    assert!(lost || broken.is_empty(), "{broken:?}");
    // A host that is off is not sent to, so nobody refuses.
    let notes = chain.notes();
    assert!(lost || notes.is_empty(), "{notes}");
    let mut fragments = 0;
    for (&request, line) in answered {
        let id = line["decision"].as_str().expect("an id").to_owned();
        let deployment = &decided[&(id, request)];
        assert_eq!(line["variant"], deployment["variant"]);
        assert_eq!(line["hosts"], deployment["hosts"]);
        for (k, host) in line["hosts"].as_array().expect("a list").iter().enumerate() {
            let host = usize::try_from(host.as_u64().expect("a number")).expect("few");
            let name = chain.world.hosts[host].name.as_str();
            let ran = runs.iter().filter(|run| {
                run["request"] == request
                    && run["fragment"] == k
                    && run["variant"] == line["variant"]
                    && run["host"] == name
            });
            let times = ran.count();
            assert!(
                times == 1 || (lost && times > 1),
                "{line}: fragment {k} ran {times} times"
            );
            fragments += 1;
        }
    }
    assert!(
        runs.len() == fragments || (lost && runs.len() > fragments),
        "{runs:?}"
    );
}

fn time(value: &Value) -> Timestamp {
    value.as_str().expect("text").parse().expect("a time")
}

/// Nothing ran on a VM that was off, and VMs are as it was decided last.
fn check_power(chain: &Chain) {
    let log = chain.azure("log");
    let entries = log["entries"].as_array().expect("a list");
    for run in chain.runs().0 {
        let (from, to) = (time(&run["from"]), time(&run["to"]));
        let mut off = !chain
            .world
            .hosts
            .iter()
            .any(|h| run["host"] == h.name.as_str() && h.initially_on);
        for entry in entries.iter().filter(|entry| entry["host"] == run["host"]) {
            let at = time(&entry["time"]);
            assert!(
                !(from <= at && at <= to && entry["action"] == "deallocate"),
                "{run}: {entry}"
            );
            if at < from {
                off = entry["action"] == "deallocate";
            }
        }
        assert!(!off, "{run} was on a VM that was off");
    }
    let mut on: Vec<bool> = chain
        .world
        .hosts
        .iter()
        .map(|host| host.initially_on)
        .collect();
    let mut turned = BTreeSet::new();
    for response in chain.decisions() {
        for action in response["decision"]["provisioning"]
            .as_array()
            .expect("a list")
        {
            let host = usize::try_from(action["host"].as_u64().expect("a number")).expect("few");
            on[host] = action["on"].as_bool().expect("on or off");
            turned.insert(on[host]);
        }
    }
    assert!(
        turned.contains(&false),
        "an idle fleet has hosts to turn off"
    );
    let hosts = chain.azure("hosts");
    for (host, on) in hosts["value"].as_array().expect("a list").iter().zip(on) {
        let power = host["power"].as_str().expect("text");
        let decided: &[&str] = if on {
            &["starting", "running"]
        } else {
            &["deallocated"]
        };
        assert!(
            decided.contains(&power),
            "{host} should be among {decided:?}"
        );
    }
}

/// The live twin has seen everything and was not far off.
fn check_drift(chain: &Chain, requests: usize, fragments: usize) {
    let drift = get(&format!("{}/v1/fleet/drift", chain.service_url));
    let overall = &drift["overall"];
    assert_eq!(overall["response"]["count"], requests, "{drift}");
    // A fragment whose inputs are on their way in the twin has ended before it is thought to start.
    let durations = overall["duration"]["count"].as_u64().expect("a number");
    assert!(0 < durations && durations <= fragments as u64, "{drift}");
    for (quantity, most) in [
        ("utilization", 0.5),
        ("power", 5.0),
        ("duration", 2.0),
        ("response", 4.0),
    ] {
        let error = overall[quantity]["mean_absolute_error"]
            .as_f64()
            .expect("a number");
        assert!(error < most, "{quantity}: {drift}");
    }
    let fleet = get(&format!("{}/v1/fleet?view=summary", chain.service_url));
    assert_eq!(fleet["totals"]["requests"], 0, "{fleet}");
}

fn fragments(answered: &BTreeMap<u64, Value>) -> usize {
    let hosts = answered
        .values()
        .map(|line| line["hosts"].as_array().map_or(0, Vec::len));
    hosts.sum()
}

fn chain(language: Language) {
    const REQUESTS: usize = 30;
    let chain = Chain::start("greedy");
    let mut deployer = Program::start(chain.deployer(language, REQUESTS));
    let answered = answered(&mut deployer, REQUESTS);
    check_placements(&chain, &answered, false);
    check_power(&chain);
    check_drift(&chain, REQUESTS, fragments(&answered));
}

/// Hosts are turned on and off at random, again and again: what is on them is waited for.
fn restless(language: Language) {
    const REQUESTS: usize = 60;
    let chain = Chain::start("random");
    let mut deployer = Program::start(chain.deployer(language, REQUESTS));
    let answered = answered(&mut deployer, REQUESTS);
    check_placements(&chain, &answered, false);
    check_power(&chain);
}

#[test]
fn the_deployer_in_python_waits_for_what_is_on_hosts_that_are_turned_off() {
    restless(Language::Python);
}

#[test]
fn the_deployer_in_rust_waits_for_what_is_on_hosts_that_are_turned_off() {
    restless(Language::Rust);
}

#[test]
fn the_chain_with_the_deployer_in_python() {
    chain(Language::Python);
}

#[test]
fn the_chain_with_the_deployer_in_rust() {
    chain(Language::Rust);
}

/// A worker dies, and then the service, which is started anew: no request is lost.
fn trouble(language: Language) {
    const REQUESTS: usize = 40;
    let mut chain = Chain::start("greedy");
    let mut deployer = Program::start(chain.deployer(language, REQUESTS));
    for _ in 0..7 {
        deployer.line();
    }
    let line: Value = serde_json::from_str(&deployer.line()).expect("JSON");
    let host = usize::try_from(line["hosts"][0].as_u64().expect("a number")).expect("few");
    chain.workers[host].kill();
    for _ in 0..7 {
        deployer.line();
    }
    chain.service.kill();
    let address = chain.service_url.trim_start_matches("http://").to_owned();
    (chain.service, _) = serve(&chain.log(), &address, "greedy", &[]);
    let answered = answered(&mut deployer, REQUESTS);
    check_placements(&chain, &answered, true);
    check_power(&chain);
    let fleet = get(&format!("{}/v1/fleet?view=summary", chain.service_url));
    assert_eq!(fleet["totals"]["requests"], 0, "{fleet}");
}

#[test]
fn the_deployer_in_python_goes_on_when_a_worker_and_the_service_die() {
    trouble(Language::Python);
}

#[test]
fn the_deployer_in_rust_goes_on_when_a_worker_and_the_service_die() {
    trouble(Language::Rust);
}

/// Runs a deployer with these arguments to its end.
fn output(language: Language, arguments: &[&str]) -> Output {
    let mut command = language.program();
    command
        .args(arguments)
        .env("NO_PROXY", "*")
        .env("no_proxy", "*");
    command.output().expect("it ends")
}

/// Workers that are up, whatever becomes of VMs.
fn workers() -> (Program, Vec<String>) {
    let mut command = Command::new(built("worker"));
    let world = world_file();
    command.args(["--world", &world, "--listen", "127.0.0.1:0"]);
    command.args(["--speed", SPEED]);
    let workers = Program::start(command);
    let url = |host: &twin::world::HostSpec| workers.url(&format!("{} at ", host.name));
    let urls: Vec<String> = small().hosts.iter().map(url).collect();
    for url in &urls {
        wait_for("the worker", || agent().get(url).call().is_ok());
    }
    (workers, urls)
}

/// A service that is asked more often than it lets anyone says when to come back.
fn haste(language: Language) {
    const REQUESTS: usize = 5;
    let folder = tempfile::tempdir().expect("a folder");
    let few = [
        "--rate-limits-anyone-per-s",
        "8",
        "--rate-limits-burst-s",
        "1",
    ];
    let (_service, url) = serve(folder.path(), "127.0.0.1:0", "greedy", &few);
    let world = world_file();
    let (_workers, urls) = workers();
    let mut command = language.program();
    command.args(["--world", &world, "--service", &url, "--rate", "5"]);
    command.args(["--speed", SPEED, "--requests", &REQUESTS.to_string()]);
    command.arg("--worker").args(&urls);
    let mut deployer = Program::start(command);
    answered(&mut deployer, REQUESTS);
    // The page is asked for as often as it takes.
    let mut page = String::new();
    wait_for("the metrics", || {
        let mut metrics = agent()
            .get(format!("{url}/metrics"))
            .call()
            .expect("an answer");
        page = metrics.body_mut().read_to_string().expect("text");
        metrics.status() == 200
    });
    let refused = page
        .lines()
        .find(|line| line.starts_with("infer_rejected_requests_total") && line.contains("\"429\""));
    assert!(refused.is_some(), "nobody was too fast:\n{page}");
}

#[test]
fn the_deployer_in_python_waits_as_it_is_told_to() {
    haste(Language::Python);
}

#[test]
fn the_deployer_in_rust_waits_as_it_is_told_to() {
    haste(Language::Rust);
}

#[test]
fn deployers_say_what_is_wrong() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_service, url) = serve(folder.path(), "127.0.0.1:0", "greedy", &[]);
    let world = world_file();
    let other = folder.path().join("other.toml");
    let text = std::fs::read_to_string(&world).expect("readable");
    std::fs::write(&other, text.replace("name = \"small\"", "name = \"other\"")).expect("written");
    let other = other.to_str().expect("text");
    let nobody = "http://127.0.0.1:9";
    for language in [Language::Python, Language::Rust] {
        let say = |world: &str, workers: &[&str]| {
            let start = [
                "--service",
                &url,
                "--requests",
                "0",
                "--world",
                world,
                "--worker",
            ];
            let output = output(language, &[&start[..], workers].concat());
            let told = [&output.stderr[..], &output.stdout].concat();
            (
                output.status.success(),
                String::from_utf8_lossy(&told).into_owned(),
            )
        };
        for (world, workers, says) in [
            ("nowhere.toml", &[nobody][..], "nowhere.toml"),
            (&world, &[nobody], "3 hosts"),
            (other, &[nobody; 3], "world.name"),
        ] {
            let (well, told) = say(world, workers);
            assert!(
                !well && told.contains("error: ") && told.contains(says),
                "{language:?}: {told}"
            );
            assert!(!told.contains("Traceback"), "{told}");
        }
        // No request, and no worker, is no error.
        let (well, told) = say(&world, &[nobody; 3]);
        assert!(
            well && told.contains("\"answered\":"),
            "{language:?}: {told}"
        );
    }
}

#[test]
fn the_smallest_deployers_place_a_request_of_each_application() {
    let world = world_file();
    let (workers, urls) = workers();
    let folder = tempfile::tempdir().expect("a folder");
    let (_service, url) = serve(folder.path(), "127.0.0.1:0", "greedy", &[]);
    for language in [Language::Python, Language::Rust] {
        let before = workers.objects().len();
        let mut command = language.example("place");
        command
            .args([&world, &url])
            .args(&urls)
            .env("NO_PROXY", "*")
            .env("no_proxy", "*");
        let output = command.output().expect("it ends");
        assert!(output.status.success(), "{language:?}: {output:?}");
        let text = String::from_utf8(output.stdout).expect("text");
        let read = |line| serde_json::from_str(line).expect("JSON");
        let deployments: Vec<Value> = text.lines().map(read).collect();
        assert_eq!(deployments.len(), small().applications.len(), "{text}");
        // The workers say so in their own time.
        let fragments: usize = deployments
            .iter()
            .map(|d| d["hosts"].as_array().map_or(0, Vec::len))
            .sum();
        wait_for("the runs", || workers.objects().len() == before + fragments);
        let fleet = get(&format!("{url}/v1/fleet?view=summary"));
        assert_eq!(fleet["totals"]["requests"], 0, "{fleet}");
    }
}
