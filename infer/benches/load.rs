//! The service under load: throughput, latency at 80 % of it, and what overload does, beside the
//! framework's floor in the same run.
//!
//! ```text
//! cargo bench -p infer --bench load -- [--hosts 16,100,1000,10000] [--seconds 3] [--policy NAME]
//! ```
//!
//! The floor is a server of the same framework that reads the same body and answers a constant of
//! the length of a decision. Throughput is closed loop over [`CONNECTIONS`]; latency is open loop
//! with Poisson arrivals at 80 % of it, counted from the time at which a request was due, so that a
//! slow answer is not an excuse for those behind it. The clients write prepared bytes and run on the
//! same cores as the server. Overload keeps many times the permitted requests in flight.
//!
//! A stateful request names one new request and tells that the connection's last one was answered.

#[path = "support/worlds.rs"]
mod worlds;

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
/// Of the throughput, in the open loop.
const LOAD: f64 = 0.8;
/// Connections that overload the service, and the requests that it permits in flight.
const OVERLOAD: (usize, usize) = (40, 8);

/// What the command line says.
struct Settings {
    hosts: Vec<u32>,
    seconds: f64,
    source: Source,
}

impl Settings {
    fn read() -> Self {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/scinet-16");
        let mut settings = Self {
            hosts: vec![16, 100, 1000, 10_000],
            seconds: 3.0,
            source: Source::model(&model).expect("the committed model is readable"),
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
                "--policy" => settings.source = Source::named(&value),
                _ => panic!("unknown: {word}"),
            }
        }
        settings
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

/// What is asked, again and again.
enum Asked {
    Same(Vec<u8>),
    Fleet {
        application: String,
        began_ns: u64,
        began: Instant,
        next: AtomicU64,
    },
}

impl Asked {
    fn fleet(address: SocketAddr, world: &World, body: &[u8]) -> Self {
        assert_eq!(Client::new(address).send("PUT", "/v1/fleet", body), 200);
        let request = DecisionRequest::from_json(body).expect("of the schema");
        Self::Fleet {
            application: world.applications[0].name.clone(),
            began_ns: request.state.now_ns,
            began: Instant::now(),
            next: AtomicU64::new(request.state.next_request),
        }
    }

    /// Writes the next question into `body`; `last` is the connection's last request.
    fn write(&self, body: &mut Vec<u8>, last: &mut Option<u64>) {
        body.clear();
        match self {
            Self::Same(bytes) => body.extend_from_slice(bytes),
            Self::Fleet {
                application,
                began_ns,
                began,
                next,
            } => {
                let id = next.fetch_add(1, Ordering::Relaxed);
                let now_ns = began_ns + u64::try_from(began.elapsed().as_nanos()).expect("short");
                write!(
                    body,
                    r#"{{"schema":1,"now_ns":{now_ns},"epoch":"arrival","requests":[{{"id":{id},"application":"{application}","context_tokens":0}}]"#
                )
                .expect("memory");
                if let Some(last) = last.replace(id) {
                    write!(
                        body,
                        r#","telemetry":[{{"kind":"answered","request":{last}}}]"#
                    )
                    .expect("memory");
                }
                body.push(b'}');
            }
        }
    }
}

/// Answers per second in closed loop.
fn throughput(address: SocketAddr, asked: &Asked, seconds: f64) -> f64 {
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let answered: u64 = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::new(address);
                    let (mut body, mut last, mut count) = (Vec::new(), None, 0);
                    while !stop.load(Ordering::Relaxed) {
                        asked.write(&mut body, &mut last);
                        let status = client.send("POST", "/v1/decisions", &body);
                        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&client.answer));
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs_f64(seconds));
        stop.store(true, Ordering::Relaxed);
        clients
            .into_iter()
            .map(|c| c.join().expect("no panic"))
            .sum()
    });
    answered as f64 / began.elapsed().as_secs_f64()
}

/// Times to answer, in s, sorted, of Poisson arrivals at `rate` per second.
fn latencies(address: SocketAddr, asked: &Asked, rate: f64, seconds: f64) -> Vec<f64> {
    let mut times: Vec<f64> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..OPEN_CONNECTIONS as u64)
            .map(|seed| {
                scope.spawn(move || {
                    let mut client = Client::new(address);
                    let mut random = ChaCha8Rng::seed_from_u64(seed);
                    let (mut body, mut last, mut times) = (Vec::new(), None, Vec::new());
                    let (began, mut due) = (Instant::now(), 0.0);
                    loop {
                        let u: f64 = random.random();
                        due -= (1.0 - u).ln() * OPEN_CONNECTIONS as f64 / rate;
                        if due > seconds {
                            break times;
                        }
                        let due = began + Duration::from_secs_f64(due);
                        std::thread::sleep(due.saturating_duration_since(Instant::now()));
                        asked.write(&mut body, &mut last);
                        assert_eq!(client.send("POST", "/v1/decisions", &body), 200);
                        times.push(due.elapsed().as_secs_f64());
                    }
                })
            })
            .collect();
        let joined = clients.into_iter().map(|c| c.join().expect("no panic"));
        joined.flatten().collect()
    });
    times.sort_unstable_by(f64::total_cmp);
    times
}

/// The value that `permille` of 1,000 do not exceed.
fn quantile(sorted: &[f64], permille: usize) -> f64 {
    let rank = (sorted.len() * permille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// One row of the table.
fn row(hosts: u32, what: &str, per_s: f64, floor_per_s: f64, sorted: &[f64]) -> String {
    let [p50, p99, p999] = [500, 990, 999].map(|permille| 1e3 * quantile(sorted, permille));
    let share = per_s / floor_per_s;
    format!("| {hosts} | {what} | {per_s:.0} | {share:.2} | {p50:.3} | {p99:.3} | {p999:.3} |")
}

/// What overload does: accepted and refused per second, p99 of both in ms, and after it.
fn overload(world: &Arc<World>, settings: &Settings, body: &[u8], print: &mut dyn FnMut(&str)) {
    let (connections, permits) = OVERLOAD;
    let limits = Limits {
        in_flight: permits,
        ..Limits::default()
    };
    let address = serve(world, &settings.source, limits);
    let asked = Asked::Same(body.to_vec());
    let alone = latencies(
        address,
        &asked,
        LOAD * throughput(address, &asked, 1.0),
        settings.seconds,
    );
    let stop = AtomicBool::new(false);
    let (mut accepted, mut refused): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::new(address);
                    let (mut good, mut busy) = (Vec::new(), Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        match client.send("POST", "/v1/decisions", body) {
                            200 => good.push(began.elapsed().as_secs_f64()),
                            429 => busy.push(began.elapsed().as_secs_f64()),
                            other => panic!("{other}"),
                        }
                    }
                    (good, busy)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_secs_f64(settings.seconds));
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let (good, busy) = client.join().expect("no panic");
            accepted.extend(good);
            refused.extend(busy);
        }
    });
    let began = Instant::now();
    let after = Client::new(address).send("POST", "/v1/decisions", body);
    let recovered_ms = 1e3 * began.elapsed().as_secs_f64();
    for times in [&mut accepted, &mut refused] {
        times.sort_unstable_by(f64::total_cmp);
    }
    let per_s = |times: &[f64]| times.len() as f64 / settings.seconds;
    print(&format!(
        "\n{connections} connections at once, {permits} requests permitted in flight, {} hosts:\n\n\
         | | per s | p50 ms | p99 ms |\n|---|---|---|---|\n\
         | at {LOAD} of capacity | | {:.3} | {:.3} |\n\
         | accepted under overload | {:.0} | {:.3} | {:.3} |\n\
         | refused with 429 | {:.0} | {:.3} | {:.3} |\n\n\
         The first request afterwards: {after} after {recovered_ms:.2} ms.",
        world.hosts.len(),
        1e3 * quantile(&alone, 500),
        1e3 * quantile(&alone, 990),
        per_s(&accepted),
        1e3 * quantile(&accepted, 500),
        1e3 * quantile(&accepted, 990),
        per_s(&refused),
        1e3 * quantile(&refused, 500),
        1e3 * quantile(&refused, 990),
    ));
}

fn main() {
    let settings = Settings::read();
    let mut out = std::io::stdout();
    let mut print = |line: &str| {
        writeln!(out, "{line}").expect("standard output");
        out.flush().expect("standard output");
    };
    print("| hosts | request | per s | of the floor | p50 ms | p99 ms | p99.9 ms |");
    print("|---|---|---|---|---|---|---|");
    for &hosts in &settings.hosts {
        let world = world(hosts);
        let body = body(&world, INTERVALS);
        let address = serve(&world, &settings.source, Limits::default());
        let stateless = Asked::Same(body.clone());
        let fleet = Asked::fleet(address, &world, &body);
        let small = {
            let mut small = Vec::new();
            fleet.write(&mut small, &mut None);
            Asked::Same(small)
        };
        let floor = floor();
        for (what, asked, beside) in [
            ("stateless", &stateless, &stateless),
            ("stateful", &fleet, &small),
        ] {
            let floor_per_s = throughput(floor, beside, settings.seconds);
            let floor_times = latencies(floor, beside, LOAD * floor_per_s, settings.seconds);
            let name = format!("floor, {what} body");
            print(&row(hosts, &name, floor_per_s, floor_per_s, &floor_times));
            let per_s = throughput(address, asked, settings.seconds);
            let times = latencies(address, asked, LOAD * per_s, settings.seconds);
            print(&row(hosts, what, per_s, floor_per_s, &times));
        }
    }
    let world = world(16);
    let body = body(&world, INTERVALS);
    overload(&world, &settings, &body, &mut print);
}
