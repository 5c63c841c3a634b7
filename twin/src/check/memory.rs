//! Memory: where fragments fit, and whether all that are under way fit together.
//!
//! By Little's law the memory in use is `Σ rate · ram · (work / rate of work)`: what arrives in the
//! time that a fragment holds its memory, on hosts that do nothing else. Queues and sharing only
//! add to it.

use super::{Findings, Severity, percent};
use crate::summary::Summary;
use crate::world::World;

/// A fragment that fits on fewer than this share of the hosts is told.
const FEW: f64 = 0.25;
/// Memory in use above this share is short.
const SHORT: f64 = 0.8;

pub(super) fn check(world: &World, findings: &mut Findings) {
    check_fit(world, findings);
    check_total(world, findings);
    check_stranded(world, findings);
}

fn check_fit(world: &World, findings: &mut Findings) {
    let hosts = world.hosts.len();
    for (a, application) in world.applications.iter().enumerate() {
        for (v, variant) in application.variants.iter().enumerate() {
            for (k, fragment) in variant.fragments.iter().enumerate() {
                let fits = (0..hosts)
                    .filter(|&h| world.ram_for_fragments(h).0 >= fragment.ram.0)
                    .count();
                if fits as f64 >= FEW * hosts as f64 {
                    continue;
                }
                findings.add(
                    (Severity::Warning, "ram-few-hosts"),
                    format!("applications[{a}].variants[{v}].fragments[{k}].ram_mib"),
                    [
                        format!(
                            "\"{}\" of \"{}\" ({}) takes {} MiB, which only {fits} of {hosts} \
                             hosts have",
                            fragment.name, application.name, variant.name, fragment.ram.0
                        ),
                        "its requests queue on these hosts while others are free".into(),
                        "split the fragment, or take hosts with more memory".into(),
                    ],
                );
            }
        }
    }
}

fn check_total(world: &World, findings: &mut Findings) {
    let summary = Summary::of(world);
    let ram_mib: f64 = (0..world.hosts.len())
        .map(|h| world.ram_for_fragments(h).0)
        .sum();
    let vcpu_mips = (0..world.sizes.len())
        .map(|s| world.sizes[s].mips_per_vcpu.0)
        .fold(0.0, f64::max);
    // For each application the variant that holds the least memory: nothing can hold less.
    let mut held_mib = 0.0;
    for (application, known) in world.applications.iter().zip(&summary.applications) {
        let least = application
            .variants
            .iter()
            .map(|variant| {
                let of = |f: &crate::world::Fragment| {
                    let work_mi = f.work_mi.mean()
                        + f.work_mi_per_context_token * known.context_tokens_mean
                        + f.work_mi_per_generated_token * known.generated_tokens_mean;
                    f.ram.0 * work_mi / (world.caps[f.cap] * vcpu_mips)
                };
                variant.fragments.iter().map(of).sum::<f64>()
            })
            .fold(f64::INFINITY, f64::min);
        held_mib += known.rate_per_s * least;
    }
    let share = held_mib / ram_mib;
    if share < SHORT {
        return;
    }
    let (severity, code, why) = if share >= 1.0 {
        (
            Severity::Error,
            "ram-never-enough",
            "fragments wait for memory without end whatever the policy does",
        )
    } else {
        (
            Severity::Warning,
            "ram-short",
            "bursts wait for memory while CPUs are idle",
        )
    };
    findings.add(
        (severity, code),
        "hosts".into(),
        [
            format!(
                "requests under way hold {held_mib:.0} MiB on average, {} of the memory of all \
                 hosts, even in the variants that hold least",
                percent(share)
            ),
            why.into(),
            "take hosts with more memory, or variants with less".into(),
        ],
    );
}

/// Sizes on which the memory is full before the CPUs are busy.
fn check_stranded(world: &World, findings: &mut Findings) {
    for (s, size) in world.sizes.iter().enumerate() {
        if !world.hosts.iter().any(|h| h.size.index() == s) {
            continue;
        }
        let mut fragments = world
            .applications
            .iter()
            .flat_map(|a| a.variants.iter().flat_map(|v| &v.fragments))
            .filter(|f| f.ram.0 > 0.0 && f.ram.0 <= size.ram.0)
            .map(|f| (size.ram.0 / f.ram.0).floor() * world.caps[f.cap])
            .peekable();
        if fragments.peek().is_none() {
            continue;
        }
        let busy = fragments.fold(0.0, f64::max);
        if busy < size.vcpus {
            findings.add(
                (Severity::Note, "ram-strands-cpu"),
                format!("sizes[{s}].ram_mib"),
                [
                    format!(
                        "the memory of \"{}\" is full when at most {busy} of its {} vCPUs are busy",
                        size.name, size.vcpus
                    ),
                    "the rest of its speed is paid for and never used".into(),
                    "take a size with more memory per vCPU, or a higher max_vcpus".into(),
                ],
            );
        }
    }
}
