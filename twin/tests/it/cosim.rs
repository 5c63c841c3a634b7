//! Co-simulation: on fleets whose truth is known, and on the recording.

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF, Normal};
use twin::World;
use twin::cosim::detector::Stream;
use twin::cosim::evaluate::{Accuracy, Evaluation, Run, evaluate, run};
use twin::cosim::perturb::Perturbations;
use twin::cosim::telemetry::{HostRecord, Record, TaskRecord};
use twin::cosim::{Cosim, Mode, Settings, source};
use twin::recording::Recording;
use twin::stream::{mix, unit};

const INTERVAL_S: f64 = 5.0;
const HOSTS: u32 = 16;

fn world() -> World {
    World::load("scinet-16").expect("the world is embedded")
}

fn settings(warmup: f64, every: f64, resolution_s: f64) -> Settings {
    Settings {
        warmup_s: warmup * INTERVAL_S,
        false_alarm_every_s: every * INTERVAL_S,
        resolution_s,
        mode: Mode::Recalibrate,
    }
}

/// What is true of a synthetic fleet.
#[derive(Clone, Copy)]
struct Truth {
    /// Factor of the durations on host 3.
    slowness: f64,
    /// Factor of the durations of `blur`.
    blur: f64,
    /// Factor of the power of host 5.
    power: f64,
    /// More utilization of host 2.
    background: f64,
}

const NOTHING: Truth = Truth {
    slowness: 1.0,
    blur: 1.0,
    power: 1.0,
    background: 0.0,
};

fn normal(key: u64, part: u64) -> f64 {
    Normal::standard().inverse_cdf(unit(key, part))
}

/// A task of a synthetic fleet: start and end in s, and its application.
type Span = (f64, f64, usize);

/// The tasks of `host`, one at a time, with the demand of the world's variants `compression`.
fn spans(world: &World, key: u64, host: u32, end_s: f64, change_s: f64, truth: Truth) -> Vec<Span> {
    let mut spans = Vec::new();
    let (mut now_s, mut n) = (0.0, 0u64);
    while now_s < end_s {
        let of_task = mix(key, n);
        n += 1;
        now_s += 60.0 * unit(of_task, 0);
        let count = world.applications.len();
        let pick = unit(of_task, 1) * count as f64;
        let application = (1..count).filter(|i| *i as f64 <= pick).count();
        let model = &world.applications[application];
        let work_mi = model.variants[2].fragments[0]
            .work_mi
            .quantile(unit(of_task, 2));
        let mut duration_s = work_mi / (2014.2 * 1.3);
        let changed = now_s >= change_s;
        if changed && host == 3 {
            duration_s *= truth.slowness;
        }
        if changed && model.name == "blur" {
            duration_s *= truth.blur;
        }
        spans.push((now_s, now_s + duration_s, application));
        now_s += duration_s;
    }
    spans
}

/// What `host` shows in `interval`. The task that is there longest stands for the interval: never
/// two at a time.
fn shown(
    world: &World,
    key: u64,
    (host, interval): (u32, u32),
    spans: &[Span],
    truth: Truth,
) -> HostRecord {
    let from_s = f64::from(interval) * INTERVAL_S;
    let time_s = from_s + INTERVAL_S;
    let next = spans.partition_point(|s| s.1 <= from_s);
    let length = |s: &Span| s.1.min(time_s) - s.0.max(from_s);
    let task = spans[next..]
        .iter()
        .take_while(|s| s.0 < time_s)
        .max_by(|a, b| length(a).total_cmp(&length(b)));
    let draw = mix(key, 1_000_000 + u64::from(interval));
    let mut utilization = 0.1 + task.map_or(0.0, |t| 0.2 + 0.05 * t.2 as f64);
    utilization += 0.03 * normal(draw, 0);
    if host == 2 {
        utilization += truth.background;
    }
    let utilization = utilization.clamp(0.0, 1.0);
    let mut power_w = world.size_of(0).power.at(utilization).0 + normal(draw, 1);
    if host == 5 {
        power_w *= truth.power;
    }
    HostRecord {
        time_s,
        span_s: INTERVAL_S,
        host,
        on: true,
        utilization,
        power_w: Some(power_w),
        running: task
            .map(|t| (world.applications[t.2].name.clone(), 1))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
    }
}

/// Telemetry of a fleet over `intervals`, of which those from `change` on have `truth`.
fn fleet(world: &World, seed: u64, intervals: u32, change: u32, truth: Truth) -> Vec<Record> {
    let mut records = Vec::new();
    let end_s = f64::from(intervals) * INTERVAL_S;
    let change_s = f64::from(change) * INTERVAL_S;
    for host in 0..HOSTS {
        let key = mix(seed, u64::from(host));
        let spans = spans(world, key, host, end_s, change_s, truth);
        for &(started_s, finished_s, application) in &spans {
            records.push(Record::Task(TaskRecord {
                application: world.applications[application].name.clone(),
                variant: "compression".into(),
                fragment: 0,
                host,
                started_s,
                finished_s,
                context_tokens: 0,
                generated_tokens: 0,
            }));
        }
        for interval in 0..intervals {
            let now = if interval >= change { truth } else { NOTHING };
            records.push(Record::Host(shown(
                world,
                key,
                (host, interval),
                &spans,
                now,
            )));
        }
    }
    records.retain(|r| r.time_s() <= end_s);
    records.sort_by(|a, b| a.time_s().total_cmp(&b.time_s()));
    records
}

fn streams(run: &Run) -> Vec<Stream> {
    let mut streams: Vec<Stream> = run.alarms.iter().map(|a| a.stream.clone()).collect();
    streams.sort();
    streams.dedup();
    streams
}

#[test]
fn in_control_alarms_are_as_rare_as_designed() {
    // One false alarm in 500 intervals, 4 fleets of 1,200 tested intervals each: 9.6 expected, at
    // most 19 with a probability of 99.8 % (Poisson).
    let world = world();
    let alarms: usize = (0..4)
        .map(|seed| {
            let records = fleet(&world, seed, 1_500, u32::MAX, NOTHING);
            let run = run(&world, &records, settings(300.0, 500.0, 0.0)).expect("right records");
            run.alarms.len()
        })
        .sum();
    assert!((1..=19).contains(&alarms), "{alarms}");
}

#[test]
fn each_drift_is_found_in_its_stream_and_calibrated() {
    let world = world();
    let cases = [
        (
            Truth {
                slowness: 1.6,
                ..NOTHING
            },
            Stream::Speed(3),
        ),
        (
            Truth {
                blur: 1.5,
                ..NOTHING
            },
            Stream::Application("blur".into()),
        ),
        (
            Truth {
                power: 1.05,
                ..NOTHING
            },
            Stream::Power(5),
        ),
        (
            Truth {
                background: 0.1,
                ..NOTHING
            },
            Stream::Utilization(2),
        ),
    ];
    for (truth, stream) in cases {
        let records = fleet(&world, 11, 1_200, 600, truth);
        let run = run(&world, &records, settings(300.0, 20_000.0, 0.0)).expect("right records");
        let found = run.alarms.iter().find(|a| a.stream == stream);
        let found = found.unwrap_or_else(|| panic!("{stream}: only {:?}", streams(&run)));
        let delay = found.time_s / INTERVAL_S - 600.0;
        assert!((0.0..200.0).contains(&delay), "{stream}: {delay}");
        assert!(run.alarms.iter().all(|a| a.time_s / INTERVAL_S >= 600.0));
        let calibration = run.cosim.calibration();
        let slowness = 1.0 / calibration.hosts[3].speed;
        assert!((slowness / truth.slowness - 1.0).abs() < 0.15, "{slowness}");
        let blur = calibration
            .work
            .iter()
            .find(|w| w.application == "blur" && w.variant == "compression")
            .expect("the world has blur");
        assert!((blur.scale / truth.blur - 1.0).abs() < 0.15, "{blur:?}");
        let idle = calibration.hosts[5].idle_power_scale;
        assert!((idle / truth.power - 1.0).abs() < 0.01, "{idle}");
        // 0.1 of two vCPUs.
        let background = calibration.hosts[2].background_vcpus - 2.0 * truth.background;
        assert!(background.abs() < 0.05, "{background}");
    }
}

/// The recording with `perturbations`, compared before and from interval 350.
fn recorded(perturbations: Perturbations) -> Evaluation {
    let recording = Recording::embedded().expect("the recording is embedded");
    let perturbations = Perturbations {
        from_interval: 350,
        ..perturbations
    };
    let records = source::records(&perturbations.apply(&recording), INTERVAL_S);
    let settings = settings(200.0, 7_000.0, INTERVAL_S);
    evaluate(&world(), &records, settings, 350.0 * INTERVAL_S).expect("the recording fits")
}

fn improves(without: Accuracy, with: Accuracy) {
    assert!(
        with.duration_s.rmse < 0.9 * without.duration_s.rmse,
        "{with:?}"
    );
    assert!(with.duration_s.bias.abs() < 0.2 * without.duration_s.bias.abs());
    assert!(with.utilization.rmse < without.utilization.rmse, "{with:?}");
    assert!(with.utilization.bias.abs() < without.utilization.bias.abs());
}

#[test]
fn the_recording_drifts_by_itself() {
    let evaluation = recorded(Perturbations::default());
    let interval = |time_s: f64| time_s / INTERVAL_S;
    assert!(evaluation.alarms.iter().all(|a| interval(a.time_s) > 350.0));
    let all = evaluation
        .alarms
        .iter()
        .find(|a| a.stream == Stream::Durations)
        .expect("tasks became slower");
    assert!((380.0..400.0).contains(&interval(all.time_s)), "{all:?}");
    assert!(all.effect > 1.0, "{all:?}");
    improves(evaluation.after_without, evaluation.after_with);
    // Some 2 s a task at first, and less in the end.
    let overhead_s = evaluation.calibration.overhead_s;
    assert!((0.5..2.5).contains(&overhead_s), "{overhead_s}");
}

#[test]
fn perturbations_of_the_recording_are_named_and_calibrated() {
    let evaluation = recorded(Perturbations {
        slow_hosts: vec!["3,7=0.7".parse().expect("hosts")],
        demand: vec!["blur=1.4".parse().expect("an application")],
        power: vec!["5=1.03".parse().expect("a host")],
        background: vec!["2=0.05".parse().expect("a host")],
        ..Perturbations::default()
    });
    assert!(
        evaluation
            .alarms
            .iter()
            .all(|a| a.time_s > 350.0 * INTERVAL_S)
    );
    for stream in [
        Stream::Speed(3),
        Stream::Speed(7),
        Stream::Application("blur".into()),
        Stream::Power(5),
        Stream::Utilization(2),
    ] {
        let found = evaluation.alarms.iter().any(|a| a.stream == stream);
        assert!(found, "{stream}: no alarm");
    }
    let others = evaluation.alarms.iter().filter(|a| match a.stream {
        Stream::Speed(host) => ![3, 7].contains(&host),
        _ => false,
    });
    assert_eq!(others.count(), 0, "no other host became slower");
    improves(evaluation.after_without, evaluation.after_with);
    for host in [3, 7] {
        let speed = evaluation.calibration.hosts[host].speed;
        assert!((speed - 0.7).abs() < 0.08, "host {host}: {speed}");
    }
    let idle = evaluation.calibration.hosts[5].idle_power_scale;
    assert!((idle - 1.03).abs() < 0.01, "{idle}");
}

#[test]
fn the_same_records_give_the_same_alarms_and_bad_ones_change_nothing() {
    let world = world();
    let records = fleet(&world, 5, 100, u32::MAX, NOTHING);
    let mut cosim = Cosim::new(&world, settings(50.0, 100.0, 0.0)).expect("right settings");
    let mut again = cosim.clone();
    for record in &records {
        let first = cosim.observe(record).expect("a right record");
        // Each is refused, and leaves no trace.
        if let Record::Host(host) = record {
            let late = Record::Host(host.clone());
            let message = cosim.observe(&late).expect_err("a second time").to_string();
            assert!(
                message.contains("sort the records of a host by time_s"),
                "{message}"
            );
            let mut unknown = host.clone();
            unknown.host = 16;
            let unknown = Record::Host(unknown);
            assert_eq!(
                cosim
                    .observe(&unknown)
                    .expect_err("no such host")
                    .to_string(),
                "host 16: the world has hosts 0 to 15"
            );
        }
        assert_eq!(first, again.observe(record).expect("a right record"));
    }
    assert_eq!(cosim.calibration(), again.calibration());
    assert_eq!(cosim.predict(), again.predict());
    assert_eq!(cosim.predict().len(), 16);
}
