//! From a body to a decision, and whole round trips over HTTP, at 16 and 100 hosts.
//!
//! `cargo bench -p infer` measures the policy `least-loaded`; with `INFER_MODEL=DIR` it measures
//! the model in that folder as well.

#[path = "support/worlds.rs"]
mod worlds;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use infer::decider::Decider;
use infer::service::{Limits, Service};
use infer::source::Source;
use twin::wire::DecisionRequest;
use twin::world::World;

use worlds::{body, world};

/// Length of the run that a request comes from.
const INTERVALS: u32 = 30;
/// Hosts of the worlds that are measured.
const HOSTS: [u32; 2] = [16, 100];
/// Connections that ask at the same time.
const CLIENTS: u64 = 4;

fn sources() -> Vec<(&'static str, Source)> {
    let mut sources = vec![("least-loaded", Source::named("least-loaded"))];
    if let Some(folder) = std::env::var_os("INFER_MODEL") {
        let model = Source::model(folder.as_ref()).expect("the model is readable");
        sources.push(("model", model));
    }
    sources
}

fn decide(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide");
    group.throughput(Throughput::Elements(1));
    for hosts in HOSTS {
        let world = world(hosts);
        let body = body(&world, INTERVALS);
        for (name, source) in sources() {
            let mut decider = Decider::new(&world, &source, 1).expect("the policy loads");
            let id = BenchmarkId::new(name, hosts);
            group.bench_function(id, |b| {
                b.iter(|| {
                    let request = DecisionRequest::from_json(black_box(&body)).expect("reads");
                    decider.answer(&request).expect("consistent").body.len()
                });
            });
        }
    }
    group.finish();
}

/// Starts a service that lives as long as the process, and tells its address.
fn serve(world: &Arc<World>, source: &Source) -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let deciders: Vec<Decider> = (0..threads)
        .map(|_| Decider::new(world, source, 1).expect("the policy loads"))
        .collect();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .expect("threads start");
        runtime.block_on(async {
            let any = "127.0.0.1:0".parse().expect("an address");
            let service = Service::bind(any, deciders, Limits::default())
                .await
                .expect("binds");
            tell.send(service.address().expect("an address"))
                .expect("somebody waits");
            service.run(std::future::pending()).await.expect("serves");
        });
    });
    format!(
        "http://{}/v1/decisions",
        told.recv().expect("the service starts")
    )
}

/// Asks `count` times over one connection.
fn ask(url: &str, body: &[u8], count: u64) {
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().proxy(None).build());
    for _ in 0..count {
        let mut response = agent
            .post(url)
            .content_type("application/json")
            .send(body)
            .expect("an answer");
        black_box(response.body_mut().read_to_vec().expect("a body"));
    }
}

fn round_trips(clients: u64, url: &str, body: &[u8], count: u64) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..clients {
            let share = count / clients + u64::from(client < count % clients);
            scope.spawn(move || ask(url, body, share));
        }
    });
    started.elapsed()
}

fn http(c: &mut Criterion) {
    let mut group = c.benchmark_group("http");
    group.throughput(Throughput::Elements(1));
    for hosts in HOSTS {
        let world = world(hosts);
        let body = body(&world, INTERVALS);
        for (name, source) in sources() {
            let url = serve(&world, &source);
            for clients in [1, CLIENTS] {
                let id = BenchmarkId::new(format!("{name}/{clients} clients"), hosts);
                group.bench_function(id, |b| {
                    b.iter_custom(|count| round_trips(clients, &url, &body, count));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, decide, http);
criterion_main!(benches);
