//! What the log of decisions costs.
//!
//! `append` is one decision whose request has 3 KiB, written before the call returns; `sync` does
//! not happen meanwhile, as under the durability `process`. `recover` opens a log whose last
//! segment has 64 MiB and was not closed in good order; its throughput gives the time for a GiB.
//! Figures depend on the file system of the folder for temporary files.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use twin::decision_log::{Json, Log, NewDecision, Settings};

/// SHA-256 of a world, in hexadecimal.
const WORLD: &str = "0101010101010101010101010101010101010101010101010101010101010101";
/// Bytes of the request.
const REQUEST_BYTES: usize = 3 << 10;
/// Bytes of the last segment that is read through.
const SEGMENT_BYTES: u64 = 64 << 20;
/// How many appends there are between two removals of old segments.
const TIDY_EVERY: u64 = 10_000;

fn open(folder: &Path, settings: Settings) -> Log {
    Log::open(folder, WORLD, settings).expect("it opens").0
}

fn request() -> Vec<u8> {
    let text = "x".repeat(REQUEST_BYTES - 12);
    format!("{{\"state\":\"{text}\"}}").into_bytes()
}

fn decision(request: &[u8]) -> NewDecision<'_> {
    NewDecision {
        policy: "least-loaded",
        model_sha256: None,
        client: None,
        request: Json::parsed(request),
        stateful: None,
        response: Json::parsed(
            br#"{"schema":1,"decision":{"provisioning":[],"deployments":[{"request":1,"variant":"layer","hosts":[3,4]}]},"policy":"least-loaded","fallback":false,"decision_time_us":12.5}"#,
        ),
    }
}

fn append(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        retain_bytes: 512 << 20,
        ..Settings::default()
    };
    let log = open(folder.path(), settings);
    let request = request();
    let mut count = 0;
    let mut group = c.benchmark_group("decision_log");
    group.throughput(Throughput::Elements(1));
    group.bench_function("append", |b| {
        b.iter_custom(|rounds| {
            let mut elapsed = Duration::ZERO;
            for _ in 0..rounds {
                let started = Instant::now();
                black_box(log.append_decision(&decision(&request)).expect("appended"));
                elapsed += started.elapsed();
                count += 1;
                if count % TIDY_EVERY == 0 {
                    log.tidy().expect("tidied");
                }
            }
            elapsed
        });
    });
    group.finish();
}

fn recover(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = Settings {
        segment_bytes: 2 * SEGMENT_BYTES,
        ..Settings::default()
    };
    let log = open(folder.path(), settings.clone());
    let request = request();
    while log.status().bytes < SEGMENT_BYTES {
        log.append_decision(&decision(&request)).expect("appended");
    }
    drop(log);
    let mut group = c.benchmark_group("decision_log");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(SEGMENT_BYTES));
    group.bench_function("recover", |b| {
        b.iter(|| black_box(open(folder.path(), settings.clone())));
    });
    group.finish();
}

criterion_group!(benches, append, recover);
criterion_main!(benches);
