//! The service under load: throughput, latency at 80 % of it, and what overload does, beside the
//! framework's floor in the same run.
//!
//! ```text
//! cargo bench -p infer --bench load -- [--hosts 16,100,1000,10000] [--seconds 3] [--policy NAME]
//!     [--only stateless|stateful|overload]
//! ```
//!
//! The floor is a server of the same framework that reads the same body and answers a constant of
//! the length of a decision. Throughput is closed loop over [`CONNECTIONS`]; latency is open loop
//! with Poisson arrivals at 80 % of it, counted from the time at which a request was due, so that a
//! slow answer is not an excuse for those behind it. The clients write prepared bytes and run on the
//! same cores as the server.
//!
//! A stateful request names one new request and tells that one from a while ago was answered. The
//! last columns count decisions that search took in the model's place, the input being out of its
//! range, and requests that were refused.

#[path = "support/worlds.rs"]
mod worlds;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use infer::decider::Decider;
use infer::service::{Limits, Service};
use infer::source::Source;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use twin::wire::DecisionRequest;
use twin::world::World;

use worlds::{body, world};

/// Length of the run that a request comes from.
const INTERVALS: u32 = 8;
/// Connections of the closed loop.
const CONNECTIONS: usize = 4;
/// Connections of the open loop.
const OPEN_CONNECTIONS: usize = 16;
/// Hosts for each request in an interval, in `worlds`.
const HOSTS_PER_REQUEST: usize = 16;
/// Before what is measured, in s.
const WARM_UP_S: f64 = 0.2;
/// Of the throughput, in the open loop.
const LOAD: f64 = 0.8;
/// Of the throughput, where it is too much.
const OVERLOAD: f64 = 5.0;
/// Connections that overload the service: more than the requests that it permits in flight.
const OVERLOAD_CONNECTIONS: usize = 128;

/// What the command line says.
struct Settings {
    hosts: Vec<u32>,
    seconds: f64,
    source: Source,
    only: Option<String>,
}

impl Settings {
    fn read() -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/scinet-16");
        let mut settings = Self {
            hosts: vec![16, 100, 1000, 10_000],
            seconds: 3.0,
            source: Source::model(&model).expect("the committed model is readable"),
            only: None,
        };
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_default();
            match word.as_str() {
                "--hosts" => {
                    let hosts = value.split(',').map(|text| text.parse().expect("a number"));
                    settings.hosts = hosts.collect();
                }
                "--seconds" => settings.seconds = value.parse().expect("a number"),
                "--only" => settings.only = Some(value),
                "--policy" => settings.source = Source::named(&value),
                _ => panic!("unknown: {word}"),
            }
        }
        settings
    }

    fn wants(&self, part: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == part)
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads start")
}

/// Starts the service for the life of the process.
fn serve(world: &Arc<World>, source: &Source, limits: Limits) -> SocketAddr {
    let deciders = (0..2).map(|_| Decider::new(world, source, 1).expect("the policy loads"));
    let deciders: Vec<Decider> = deciders.collect();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let any = "127.0.0.1:0".parse().expect("an address");
            let service = Service::bind(any, deciders, limits).await.expect("binds");
            let address = service.address().expect("an address");
            tell.send(address).expect("somebody waits");
            service.run(std::future::pending()).await.expect("serves");
        });
    });
    told.recv().expect("the service starts")
}

/// Starts a server that answers a constant, for the life of the process.
fn floor() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let answer = |body: Bytes| async move {
                std::hint::black_box(body.len());
                let json = axum::http::HeaderValue::from_static("application/json");
                ([(axum::http::header::CONTENT_TYPE, json)], vec![b' '; 400])
            };
            let router = Router::new().route("/v1/decisions", post(answer));
            let router = router.layer(axum::extract::DefaultBodyLimit::disable());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
            let listener = listener.expect("binds");
            tell.send(listener.local_addr().expect("an address"))
                .expect("somebody waits");
            axum::serve(listener, router).await.expect("serves");
        });
    });
    told.recv().expect("the server starts")
}

/// A connection that is kept.
struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    out: Vec<u8>,
    line: String,
    answer: Vec<u8>,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("a socket");
        Self {
            reader: BufReader::new(stream.try_clone().expect("a socket")),
            stream,
            out: Vec::new(),
            line: String::new(),
            answer: Vec::new(),
        }
    }

    /// The status of the answer to `body`.
    fn send(&mut self, method: &str, path: &str, body: &[u8]) -> u16 {
        self.out.clear();
        let head = "host: localhost\r\ncontent-type: application/json\r\ncontent-length";
        write!(
            self.out,
            "{method} {path} HTTP/1.1\r\n{head}: {}\r\n\r\n",
            body.len()
        )
        .expect("memory");
        self.out.extend_from_slice(body);
        self.stream.write_all(&self.out).expect("sends");
        let (mut status, mut length) = (0, 0);
        loop {
            self.line.clear();
            self.reader.read_line(&mut self.line).expect("an answer");
            let line = self.line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().expect("a status");
            } else if let Some(rest) = line.strip_prefix("content-length: ") {
                length = rest.parse().expect("a length");
            }
        }
        self.answer.resize(length, 0);
        self.reader.read_exact(&mut self.answer).expect("a body");
        status
    }
}

impl Client {
    /// Whether search took the last decision in the model's place.
    fn was_searched(&self) -> bool {
        let sign = br#""searched":true"#;
        self.answer.windows(sign.len()).any(|part| part == sign)
    }
}

/// What is asked, again and again.
enum Asked {
    Same(Vec<u8>),
    /// New requests to the fleet that is kept. Its clock goes as fast as they come, so that the fleet
    /// sees the rate of its workload however fast it is asked.
    Fleet {
        application: String,
        began_ns: u64,
        step_ns: u64,
        began_id: u64,
        next: AtomicU64,
        /// Requests under way in the fleet at a time.
        under_way: usize,
    },
}

impl Asked {
    fn fleet(address: SocketAddr, world: &World, body: &[u8]) -> Self {
        assert_eq!(Client::new(address).send("PUT", "/v1/fleet", body), 200);
        let request = DecisionRequest::from_json(body).expect("of the schema");
        let per_interval = world.hosts.len().div_ceil(HOSTS_PER_REQUEST) as u64;
        Self::Fleet {
            application: world.applications[0].name.clone(),
            began_ns: request.state.now_ns,
            step_ns: world.interval.0 / per_interval,
            began_id: request.state.next_request,
            next: AtomicU64::new(request.state.next_request),
            under_way: world.hosts.len() / 4,
        }
    }

    /// Ends what the connection of `client` has under way.
    fn end(&self, client: &mut Client, turn: &Turn) {
        if let Self::Fleet { .. } = self {
            let answered = |id| format!(r#"{{"kind":"answered","request":{id}}}"#);
            let deltas: Vec<String> = turn.open.iter().map(answered).collect();
            let (now_ns, deltas) = (self.now_ns(), deltas.join(","));
            let body = format!(r#"{{"schema":1,"now_ns":{now_ns},"deltas":[{deltas}]}}"#);
            let status = client.send("POST", "/v1/telemetry", body.as_bytes());
            assert!(matches!(status, 200 | 409 | 429), "{status}");
        }
    }

    /// Writes the next question of a connection into `body`, or the last one with the present time.
    fn write(&self, body: &mut Vec<u8>, turn: &mut Turn, again: bool) {
        body.clear();
        match self {
            Self::Same(bytes) => body.extend_from_slice(bytes),
            Self::Fleet {
                application,
                next,
                under_way,
                ..
            } => {
                if !again {
                    turn.asked = next.fetch_add(1, Ordering::Relaxed);
                    turn.open.push_back(turn.asked);
                    let full = turn.open.len() > under_way.div_ceil(turn.connections);
                    turn.answered = full.then(|| turn.open.pop_front()).flatten();
                }
                let (id, now_ns) = (turn.asked, self.now_ns());
                write!(
                    body,
                    r#"{{"schema":1,"now_ns":{now_ns},"epoch":"arrival","requests":[{{"id":{id},"application":"{application}","context_tokens":0}}]"#
                )
                .expect("memory");
                if let Some(answered) = turn.answered {
                    write!(
                        body,
                        r#","telemetry":[{{"kind":"answered","request":{answered}}}]"#
                    )
                    .expect("memory");
                }
                body.push(b'}');
            }
        }
    }

    /// Asks the next question; the status of its answer.
    fn ask(&self, client: &mut Client, body: &mut Vec<u8>, turn: &mut Turn) -> u16 {
        let mut again = false;
        loop {
            self.write(body, turn, again);
            match client.send("POST", "/v1/decisions", body) {
                // A client that was kept from running is behind the fleet's clock.
                409 => again = true,
                429 => {
                    turn.open.pop_back();
                    turn.open.extend(turn.answered.take());
                    return 429;
                }
                status => return status,
            }
        }
    }

    /// The fleet's time.
    fn now_ns(&self) -> u64 {
        match self {
            Self::Same(_) => 0,
            Self::Fleet {
                began_ns,
                step_ns,
                began_id,
                next,
                ..
            } => began_ns + step_ns * (next.load(Ordering::Relaxed) - began_id),
        }
    }
}

/// Where one of some connections stands.
#[derive(Default)]
struct Turn {
    connections: usize,
    /// Requests that it has under way.
    open: VecDeque<u64>,
    /// The last request that it named, and the one whose answer it told.
    asked: u64,
    answered: Option<u64>,
}

impl Turn {
    fn of(connections: usize) -> Self {
        Self {
            connections,
            ..Self::default()
        }
    }
}

/// Answers, and those that search took in the model's place.
#[derive(Clone, Copy, Default)]
struct Count {
    answered: u64,
    searched: u64,
}

/// Answers per second in closed loop, and the share of them that search took.
fn throughput(address: SocketAddr, asked: &Asked, seconds: f64) -> (f64, f64) {
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let total = std::thread::scope(|scope| {
        let ask = || {
            let mut client = Client::new(address);
            let (mut body, mut turn) = (Vec::new(), Turn::of(CONNECTIONS));
            let mut count = Count::default();
            while !stop.load(Ordering::Relaxed) {
                let status = asked.ask(&mut client, &mut body, &mut turn);
                assert_eq!(status, 200, "{}", String::from_utf8_lossy(&client.answer));
                count.answered += 1;
                count.searched += u64::from(client.was_searched());
            }
            asked.end(&mut client, &turn);
            count
        };
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(ask)).collect();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        stop.store(true, Ordering::Relaxed);
        let mut total = Count::default();
        for client in clients {
            let count = client.join().expect("no panic");
            total.answered += count.answered;
            total.searched += count.searched;
        }
        total
    });
    let per_s = total.answered as f64 / began.elapsed().as_secs_f64();
    (per_s, total.searched as f64 / total.answered as f64)
}

/// What became of an open loop: times from when a request was due to its answer, in s, sorted.
#[derive(Default)]
struct Times {
    accepted: Vec<f64>,
    refused: Vec<f64>,
    /// How long it took, in s: longer than planned where clients could not keep up.
    took_s: f64,
}

/// Poisson arrivals at `rate` per second over `connections`.
fn open_loop(
    address: SocketAddr,
    asked: &Asked,
    rate: f64,
    seconds: f64,
    connections: usize,
) -> Times {
    // Clients that cannot send as much as they want to are late by their own fault.
    let late_counts = connections == OPEN_CONNECTIONS;
    let ask = |seed: u64| {
        let mut client = Client::new(address);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut body, mut turn) = (Vec::new(), Turn::of(connections));
        let (mut times, began, mut due) = (Times::default(), Instant::now(), 0.0);
        loop {
            let u: f64 = random.random();
            due -= (1.0 - u).ln() * connections as f64 / rate;
            if due > seconds {
                break;
            }
            let due = began + Duration::from_secs_f64(due);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let due = if late_counts { due } else { Instant::now() };
            match asked.ask(&mut client, &mut body, &mut turn) {
                200 => times.accepted.push(due.elapsed().as_secs_f64()),
                429 => times.refused.push(due.elapsed().as_secs_f64()),
                other => panic!("{other}: {}", String::from_utf8_lossy(&client.answer)),
            }
        }
        asked.end(&mut client, &turn);
        times
    };
    let (mut times, began) = (Times::default(), Instant::now());
    std::thread::scope(|scope| {
        let ask = &ask;
        let seeds = 0..connections as u64;
        let clients: Vec<_> = seeds.map(|seed| scope.spawn(move || ask(seed))).collect();
        for client in clients {
            let more = client.join().expect("no panic");
            times.accepted.extend(more.accepted);
            times.refused.extend(more.refused);
        }
    });
    times.took_s = began.elapsed().as_secs_f64();
    times.accepted.sort_unstable_by(f64::total_cmp);
    times.refused.sort_unstable_by(f64::total_cmp);
    times
}

/// The value that `permille` of 1,000 do not exceed.
fn quantile(sorted: &[f64], permille: usize) -> f64 {
    let rank = (sorted.len() * permille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// One row of the table: throughput, share of the floor's, share that search took, latencies.
fn row(hosts: u32, what: &str, (per_s, searched): (f64, f64), floor: f64, times: &Times) -> String {
    let [p50, p99, p999] = [500, 990, 999].map(|k| 1e3 * quantile(&times.accepted, k));
    let (share, searched) = (per_s / floor, 100.0 * searched);
    let refused = times.refused.len();
    format!(
        "| {hosts} | {what} | {per_s:.0} | {share:.2} | {p50:.3} | {p99:.3} | {p999:.3} | \
         {searched:.0} | {refused} |"
    )
}

/// Resident memory of this process, in MiB.
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// What overload does to the requests that are accepted, and afterwards.
fn overload(hosts: u32, settings: &Settings, print: &mut dyn FnMut(&str)) {
    let world = world(hosts);
    let body = body(&world, INTERVALS);
    let address = serve(&world, &settings.source, Limits::default());
    let asked = Asked::Same(body);
    let (capacity, _) = throughput(address, &asked, settings.seconds);
    let before = resident_mib();
    for (what, factor, seconds) in [
        ("at 0.8 of capacity", LOAD, settings.seconds),
        ("at 5 times capacity", OVERLOAD, settings.seconds),
        ("at 0.8 of capacity, the first second afterwards", LOAD, 1.0),
    ] {
        let rate = factor * capacity;
        let times = open_loop(address, &asked, rate, seconds, OVERLOAD_CONNECTIONS);
        let [p50, p99] = [500, 990].map(|k| 1e3 * quantile(&times.accepted, k));
        let refused_p99 = 1e3 * quantile(&times.refused, 990);
        let per_s = |kind: &[f64]| kind.len() as f64 / times.took_s;
        print(&format!(
            "| {hosts} | {what} | {rate:.0} | {:.0} | {p50:.3} | {p99:.3} | {:.0} | \
             {refused_p99:.3} | {:+.1} |",
            per_s(&times.accepted),
            per_s(&times.refused),
            resident_mib() - before,
        ));
    }
}

/// Throughput and latency at `hosts` hosts.
fn load(hosts: u32, settings: &Settings, print: &mut dyn FnMut(&str)) {
    let world = world(hosts);
    let body = body(&world, INTERVALS);
    let address = serve(&world, &settings.source, Limits::default());
    let fleet = Asked::fleet(address, &world, &body);
    let mut small = Vec::new();
    fleet.write(&mut small, &mut Turn::of(1), false);
    let (stateless, small) = (Asked::Same(body), Asked::Same(small));
    let floor = floor();
    for (what, asked, beside) in [
        ("stateless", &stateless, &stateless),
        ("stateful", &fleet, &small),
    ] {
        // A whole state of more hosts has so many requests that wait that it takes seconds.
        if !settings.wants(what) || (what == "stateless" && hosts > 1000) {
            continue;
        }
        let bare = throughput(floor, beside, settings.seconds);
        let rate = LOAD * bare.0;
        let times = open_loop(floor, beside, rate, settings.seconds, OPEN_CONNECTIONS);
        let name = format!("floor, {what} body");
        print(&row(hosts, &name, bare, bare.0, &times));
        // The first decisions place what waited when the fleet was told.
        throughput(address, asked, WARM_UP_S);
        let full = throughput(address, asked, settings.seconds);
        let rate = LOAD * full.0;
        let times = open_loop(address, asked, rate, settings.seconds, OPEN_CONNECTIONS);
        print(&row(hosts, what, full, bare.0, &times));
    }
}

fn main() {
    let settings = Settings::read();
    let mut out = std::io::stdout();
    let mut print = |line: &str| {
        writeln!(out, "{line}").expect("standard output");
        out.flush().expect("standard output");
    };
    if settings.wants("stateless") || settings.wants("stateful") {
        print(
            "| hosts | request | per s | of the floor | p50 ms | p99 ms | p99.9 ms | searched % | 429 |",
        );
        print("|---|---|---|---|---|---|---|---|---|");
        for &hosts in &settings.hosts {
            load(hosts, &settings, &mut print);
        }
    }
    if settings.wants("overload") {
        print(
            "\n| hosts | stateless | asked per s | accepted per s | p50 ms | p99 ms | 429 per s | p99 ms | memory MiB |",
        );
        print("|---|---|---|---|---|---|---|---|---|");
        for &hosts in settings.hosts.iter().filter(|&&hosts| hosts <= 100) {
            overload(hosts, &settings, &mut print);
        }
    }
}
