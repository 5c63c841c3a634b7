//! The response that idle hosts of one site give.
//!
//! ```text
//! response = latency + input / network + longest path of (work / rate) + output / network + latency
//! rate     = min(max_vcpus, vCPUs) · MIPS per vCPU, the highest of the hosts that it fits on
//! ```
//!
//! There is no queue, and fragments pass their outputs on for nothing, as on one host: no policy
//! is faster with hosts of one site.

use serde::Serialize;

use super::{Findings, Severity, percent};
use crate::ids::ApplicationId;
use crate::stream;
use crate::workload::Workload;
use crate::world::{Application, Dispatch, Variant, World};

/// The most requests of an application that quantiles are taken from.
pub const SAMPLES: usize = 2_000;

/// Key of the random values of the sampled requests.
const SAMPLE_KEY: u64 = 0x7265_6163_6800_0001;

/// What idle hosts can reach for an application.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ApplicationReach {
    /// Its name.
    pub name: String,
    /// Requests per second, on average.
    pub rate_per_s: f64,
    /// Response time that its users accept, in s.
    pub deadline_s: f64,
    /// Variants, in the world's order.
    pub variants: Vec<VariantReach>,
}

/// What idle hosts can reach with a variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VariantReach {
    /// Its name.
    pub name: String,
    /// Accuracy of its answers.
    pub accuracy: f64,
    /// Mean work of a request, in MI.
    pub work_mean_mi: f64,
    /// Median of the best response, in s.
    pub response_p50_s: f64,
    /// 90th percentile of the best response, in s.
    pub response_p90_s: f64,
    /// Share of requests that are late even so.
    pub late_ratio: f64,
}

impl ApplicationReach {
    /// The variant with the shortest median response.
    pub(super) fn fastest(&self) -> Option<&VariantReach> {
        let p50 = |v: &&VariantReach| v.response_p50_s;
        self.variants
            .iter()
            .min_by(|a, b| p50(a).total_cmp(&p50(b)))
    }
}

/// What a request is made of, as far as its work follows from it.
struct Sample {
    key: u64,
    context: f64,
    generated: f64,
}

pub(super) fn applications(world: &World) -> Vec<ApplicationReach> {
    let summary = crate::summary::Summary::of(world);
    world
        .applications
        .iter()
        .zip(&summary.applications)
        .enumerate()
        .map(|(a, (application, known))| {
            let samples = samples(world, a);
            let deadline_s = application.deadline.seconds();
            let variants = application.variants.iter().zip(&known.variants);
            ApplicationReach {
                name: application.name.clone(),
                rate_per_s: known.rate_per_s,
                deadline_s,
                variants: variants
                    .map(|(variant, known)| {
                        let mut times: Vec<f64> = samples
                            .iter()
                            .map(|sample| best_s(world, application, variant, sample))
                            .collect();
                        times.sort_by(f64::total_cmp);
                        let quantile = |percent: usize| {
                            let rank = (times.len() * percent).div_ceil(100).max(1) - 1;
                            times.get(rank).copied().unwrap_or(0.0)
                        };
                        let late = times.iter().filter(|&&t| t > deadline_s).count();
                        VariantReach {
                            name: variant.name.clone(),
                            accuracy: variant.accuracy,
                            work_mean_mi: known.work_mean_mi,
                            response_p50_s: quantile(50),
                            response_p90_s: quantile(90),
                            late_ratio: late as f64 / times.len().max(1) as f64,
                        }
                    })
                    .collect(),
            }
        })
        .collect()
}

fn samples(world: &World, a: usize) -> Vec<Sample> {
    let of = |i: usize, context: f64, generated: f64| Sample {
        key: stream::mix(stream::mix(SAMPLE_KEY, a as u64), i as u64),
        context,
        generated,
    };
    match &world.workload {
        Workload::Trace(trace) => {
            let list = &trace.applications[a];
            let every = list.len().div_ceil(SAMPLES).max(1);
            list.iter()
                .step_by(every)
                .enumerate()
                .map(|(i, x)| {
                    let tokens = (f64::from(x.context_tokens), f64::from(x.generated_tokens));
                    of(i, tokens.0, tokens.1)
                })
                .collect()
        }
        Workload::Batch { .. } | Workload::Poisson { .. } => {
            (0..SAMPLES).map(|i| of(i, 0.0, 0.0)).collect()
        }
    }
}

/// The best response to `sample` with `variant`, over the sites, in s.
fn best_s(world: &World, application: &Application, variant: &Variant, sample: &Sample) -> f64 {
    (0..world.sites.len())
        .filter_map(|site| site_s(world, site, application, variant, sample))
        .fold(f64::INFINITY, f64::min)
}

/// The best response with the hosts of `site`; `None` if a fragment fits on none of them.
fn site_s(
    world: &World,
    site: usize,
    application: &Application,
    variant: &Variant,
    sample: &Sample,
) -> Option<f64> {
    let mut network_bps = 0.0_f64;
    // A size that stands at the site is looked at once, however many hosts have it.
    let sizes: Vec<usize> = (0..world.sizes.len())
        .filter(|&s| {
            let mut groups = world.file.hosts.iter();
            groups.any(|g| {
                g.count > 0 && g.size == world.sizes[s].name && g.site == world.sites[site].name
            })
        })
        .collect();
    for &s in &sizes {
        network_bps = network_bps.max(world.sizes[s].network.0 * 1e6);
    }
    let transfer_s = |bytes: f64| bytes * 8.0 / network_bps;
    let mut ends = Vec::with_capacity(variant.fragments.len());
    let mut last_s = 0.0_f64;
    for (i, fragment) in variant.fragments.iter().enumerate() {
        let rate_mips = sizes
            .iter()
            .map(|&s| &world.sizes[s])
            .filter(|size| size.ram.0 >= fragment.ram.0)
            .map(|size| world.caps[fragment.cap].min(size.vcpus) * size.mips_per_vcpu.0)
            .fold(0.0, f64::max);
        if rate_mips <= 0.0 {
            return None;
        }
        let work_mi = fragment
            .work_mi
            .quantile(stream::unit(sample.key, i as u64))
            + fragment.work_mi_per_context_token * sample.context
            + fragment.work_mi_per_generated_token * sample.generated;
        let ready_s = fragment
            .predecessors
            .iter()
            .map(|&p| ends[p])
            .fold(0.0, f64::max);
        let end_s = ready_s + work_mi / rate_mips;
        ends.push(end_s);
        if fragment.successors.is_empty() {
            let bytes = fragment.output_bytes
                + fragment.output_bytes_per_token * (sample.context + sample.generated);
            last_s = last_s.max(end_s + transfer_s(bytes));
        }
    }
    let input_bytes =
        application.input_bytes + application.input_bytes_per_context_token * sample.context;
    Some(2.0 * world.sites[site].user_latency.seconds() + transfer_s(input_bytes) + last_s)
}

pub(super) fn check(world: &World, reach: &[ApplicationReach], findings: &mut Findings) {
    for (a, application) in reach.iter().enumerate() {
        let field = format!("applications[{a}]");
        if application.rate_per_s <= 0.0 {
            let (part, way_out) = match world.workload {
                Workload::Trace(_) => ("", "add arrivals of it, or remove it"),
                _ => (".share", "give it a share above zero, or remove it"),
            };
            findings.add(
                (Severity::Warning, "application-never-asked"),
                format!("{field}{part}"),
                [
                    format!("no request asks for \"{}\"", application.name),
                    "it plays no role in any run".into(),
                    way_out.into(),
                ],
            );
            continue;
        }
        check_deadline(&field, application, findings);
        check_accurate(world, a, application, findings);
        check_dispatch(world, &field, application, findings);
        check_variants(world, a, application, findings);
    }
}

fn check_deadline(field: &str, application: &ApplicationReach, findings: &mut Findings) {
    let Some(fastest) = application.fastest() else {
        return;
    };
    let (p50_s, p90_s) = (fastest.response_p50_s, fastest.response_p90_s);
    let deadline_s = application.deadline_s;
    let (name, late) = (&fastest.name, percent(fastest.late_ratio));
    let way_out = format!(
        "set deadline_s above {p90_s:.3}, or offer a faster variant or a faster size of host"
    );
    if p50_s > deadline_s {
        findings.add(
            (Severity::Error, "deadline-out-of-reach"),
            format!("{field}.deadline_s"),
            [
                format!(
                    "the deadline of \"{}\" is {deadline_s} s, and its fastest variant \"{name}\" \
                     takes {p50_s:.3} s on idle hosts at the median",
                    application.name
                ),
                format!("{late} of its requests are late whatever the policy does"),
                way_out,
            ],
        );
    } else if p90_s > deadline_s {
        findings.add(
            (Severity::Warning, "deadline-tight"),
            format!("{field}.deadline_s"),
            [
                format!(
                    "the deadline of \"{}\" is {deadline_s} s, and its fastest variant \"{name}\" \
                     takes {p50_s:.3} s on idle hosts at the median, but {p90_s:.3} s at the 90th \
                     percentile",
                    application.name
                ),
                format!("{late} of its requests are late whatever the policy does"),
                way_out,
            ],
        );
    }
}

/// The most accurate variant is out of reach, though a faster one is not.
fn check_accurate(
    world: &World,
    a: usize,
    application: &ApplicationReach,
    findings: &mut Findings,
) {
    let v = world.most_accurate(ApplicationId::at(a)).index();
    let best = &application.variants[v];
    let reachable = application
        .fastest()
        .is_some_and(|fastest| fastest.response_p50_s <= application.deadline_s);
    if !reachable || best.response_p50_s <= application.deadline_s {
        return;
    }
    findings.add(
        (Severity::Warning, "variant-out-of-reach"),
        format!("applications[{a}].variants[{v}]"),
        [
            format!(
                "\"{}\", the most accurate variant of \"{}\", takes {:.3} s on idle hosts at the \
                 median, and the deadline is {} s",
                best.name, application.name, best.response_p50_s, application.deadline_s
            ),
            format!(
                "{} of the requests that are answered with it are late",
                percent(best.late_ratio)
            ),
            "set a later deadline, reduce its work, or leave it if accuracy is to be paid for with \
             lateness"
                .into(),
        ],
    );
}

/// Requests that wait for the next boundary lose up to an interval.
fn check_dispatch(
    world: &World,
    field: &str,
    application: &ApplicationReach,
    findings: &mut Findings,
) {
    // Batches come at boundaries and do not wait.
    if world.dispatch != Dispatch::Interval || matches!(world.workload, Workload::Batch { .. }) {
        return;
    }
    let Some(fastest) = application.fastest() else {
        return;
    };
    let wait_s = world.interval.seconds() / 2.0;
    let (p50_s, deadline_s) = (fastest.response_p50_s, application.deadline_s);
    if p50_s <= deadline_s && p50_s + wait_s > deadline_s {
        findings.add(
            (Severity::Warning, "dispatch-too-late"),
            format!("{field}.deadline_s"),
            [
                format!(
                    "requests of \"{}\" wait {wait_s} s for the next boundary on average and then \
                     take {p50_s:.3} s at best, and the deadline is {deadline_s} s",
                    application.name
                ),
                "many are late only since they wait for a decision".into(),
                "set dispatch = \"on-arrival\", a shorter interval_s, or a later deadline".into(),
            ],
        );
    }
}

/// Variants that another one beats in everything, or in everything but the size of their fragments.
fn check_variants(
    world: &World,
    a: usize,
    application: &ApplicationReach,
    findings: &mut Findings,
) {
    let largest_mib = |v: usize| {
        let fragments = &world.applications[a].variants[v].fragments;
        fragments.iter().map(|f| f.ram.0).fold(0.0, f64::max)
    };
    // Hosts that all fragments of a variant fit on.
    let fits = |v: usize| {
        let hosts = 0..world.hosts.len();
        hosts
            .filter(|&h| world.ram_for_fragments(h).0 >= largest_mib(v))
            .count() as f64
    };
    let cost = |v: usize| {
        let reach = &application.variants[v];
        let fragments = &world.applications[a].variants[v].fragments;
        [
            -reach.accuracy,
            reach.work_mean_mi,
            reach.response_p50_s,
            reach.response_p90_s,
            fragments.iter().map(|f| f.ram.0).sum(),
            -fits(v),
        ]
    };
    for v in 0..application.variants.len() {
        let others = (0..application.variants.len()).filter(|&u| u != v);
        let Some(u) = others.into_iter().find(|&u| dominates(cost(u), cost(v))) else {
            continue;
        };
        // Small fragments leave a choice of hosts, which the comparison does not see.
        let smaller = largest_mib(v) < largest_mib(u);
        let (severity, but, why) = if smaller {
            (
                Severity::Note,
                ", though its largest fragment is larger",
                "a good policy chooses it only to spread a request over hosts",
            )
        } else {
            (Severity::Warning, "", "no good policy ever chooses it")
        };
        findings.add(
            (severity, "variant-dominated"),
            format!("applications[{a}].variants[{v}]"),
            [
                format!(
                    "\"{}\" of \"{}\" is beaten by \"{}\", which is at least as accurate and fast \
                     and needs no more work and memory{but}",
                    application.variants[v].name, application.name, application.variants[u].name
                ),
                why.into(),
                "check its numbers; leave it if it is to show that policies avoid it".into(),
            ],
        );
    }
}

/// Whether `a` is nowhere more and somewhere less than `b`.
pub(super) fn dominates<const N: usize>(a: [f64; N], b: [f64; N]) -> bool {
    a.iter().zip(&b).all(|(x, y)| x <= y) && a.iter().zip(&b).any(|(x, y)| x < y)
}
