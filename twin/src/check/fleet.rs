//! Sites, links, sizes and hosts: what is unused, beaten, free, or too slow to boot.

use std::cmp::Reverse;

use super::reach::dominates;
use super::{Findings, Severity};
use crate::world::{VmSize, World};

/// Utilizations at which power is compared: 0, 10, … 100 %.
const POINTS: usize = 11;

pub(super) fn check(world: &World, findings: &mut Findings) {
    check_sites(world, findings);
    check_links(world, findings);
    for (s, size) in world.sizes.iter().enumerate() {
        if !uses(world, s) {
            findings.add(
                (Severity::Note, "size-unused"),
                format!("sizes[{s}]"),
                [
                    format!("no host has the size \"{}\"", size.name),
                    "it plays no role in any run".into(),
                    "add hosts of it, or remove it".into(),
                ],
            );
            continue;
        }
        check_power(s, size, findings);
        check_prices(world, s, findings);
        check_boot_beyond(world, s, findings);
        check_dominated(world, s, findings);
    }
    check_boot_intervals(world, findings);
    check_caps(world, findings);
    if !world.hosts.iter().any(|h| h.initially_on) {
        findings.add(
            (Severity::Note, "nothing-on"),
            "hosts".into(),
            [
                "no host is on when an episode starts".into(),
                "the first requests wait for a boot whatever the policy does".into(),
                "set initially_on of a group of hosts, if that is not meant".into(),
            ],
        );
    }
}

fn uses(world: &World, size: usize) -> bool {
    world.hosts.iter().any(|h| h.size.index() == size)
}

fn inhabited(world: &World, site: usize) -> bool {
    world.hosts.iter().any(|h| h.site.index() == site)
}

fn check_sites(world: &World, findings: &mut Findings) {
    for (i, site) in world.sites.iter().enumerate() {
        if !inhabited(world, i) {
            findings.add(
                (Severity::Warning, "site-empty"),
                format!("sites[{i}]"),
                [
                    format!("no host stands at \"{}\"", site.name),
                    "it plays no role in any run".into(),
                    "add hosts there, or remove it and its links".into(),
                ],
            );
        }
    }
}

fn check_links(world: &World, findings: &mut Findings) {
    let chained = world
        .applications
        .iter()
        .flat_map(|a| &a.variants)
        .any(|v| v.fragments.iter().any(|f| !f.successors.is_empty()));
    let at = |name: &str| {
        let site = world.sites.iter().position(|s| s.name == name);
        site.is_some_and(|s| inhabited(world, s))
    };
    for (i, link) in world.file.links.iter().enumerate() {
        let ends = at(&link.from) && at(&link.to);
        if ends && chained {
            continue;
        }
        let why = if ends {
            "no fragment passes its output on to another, and users do not use links"
        } else {
            "no host stands at one of its ends"
        };
        findings.add(
            (Severity::Note, "link-unused"),
            format!("links[{i}]"),
            [
                format!(
                    "nothing goes over the link from \"{}\" to \"{}\"",
                    link.from, link.to
                ),
                why.into(),
                "leave it if the world is to grow; it has no effect".into(),
            ],
        );
    }
}

fn check_power(s: usize, size: &VmSize, findings: &mut Findings) {
    let watts = &size.power.0;
    if let Some(k) = (1..POINTS).find(|&k| watts[k] < watts[k - 1]) {
        findings.add(
            (Severity::Warning, "power-decreases"),
            format!("sizes[{s}].power_w[{k}]"),
            [
                format!(
                    "\"{}\" draws {} W at {} % utilization, less than the {} W at {} %",
                    size.name,
                    watts[k],
                    10 * k,
                    watts[k - 1],
                    10 * (k - 1)
                ),
                "a policy is rewarded for making hosts busier than the work needs".into(),
                "check the curve: its points go from idle to full".into(),
            ],
        );
    }
    if watts[POINTS - 1] <= 0.0 {
        findings.add(
            (Severity::Warning, "power-zero"),
            format!("sizes[{s}].power_w"),
            [
                format!("\"{}\" draws no power at full utilization", size.name),
                "hosts of this size count for nothing in the energy".into(),
                "give it a curve, or set weights.energy to 0 if energy does not matter".into(),
            ],
        );
    }
}

fn check_prices(world: &World, s: usize, findings: &mut Findings) {
    let size = &world.sizes[s];
    for (i, site) in world.sites.iter().enumerate() {
        let stands = world
            .hosts
            .iter()
            .any(|h| h.size.index() == s && h.site.index() == i);
        if stands && size.price_usd_per_hour[i] <= 0.0 {
            findings.add(
                (Severity::Warning, "price-zero"),
                format!("sizes[{s}].price_usd_per_hour.{}", site.name),
                [
                    format!("\"{}\" costs nothing at \"{}\"", size.name, site.name),
                    "a policy that minds the cost keeps these hosts on for nothing".into(),
                    "give it a price, or set weights.cost to 0 if cost does not matter".into(),
                ],
            );
        }
    }
}

fn check_boot_beyond(world: &World, s: usize, findings: &mut Findings) {
    let size = &world.sizes[s];
    let (boot_s, episode_s) = (size.boot.seconds(), world.episode().seconds());
    if boot_s < episode_s {
        return;
    }
    findings.add(
        (Severity::Warning, "boot-beyond-episode"),
        format!("sizes[{s}].boot_s"),
        [
            format!(
                "\"{}\" boots for {boot_s} s, and an episode lasts {episode_s} s",
                size.name
            ),
            "a host that is off never serves in an episode".into(),
            "set more episode_intervals or a shorter boot_s".into(),
        ],
    );
}

/// Boots that last for intervals, told once for all sizes: most VMs boot so slowly.
fn check_boot_intervals(world: &World, findings: &mut Findings) {
    let slow = |s: &usize| {
        let boot = world.sizes[*s].boot;
        uses(world, *s) && boot > world.interval && boot < world.episode()
    };
    let slow: Vec<usize> = (0..world.sizes.len()).filter(slow).collect();
    let Some(&slowest) = slow.iter().min_by_key(|&&s| Reverse(world.sizes[s].boot)) else {
        return;
    };
    let names: Vec<String> = slow
        .iter()
        .map(|&s| format!("\"{}\"", world.sizes[s].name))
        .collect();
    let (boot_s, interval_s) = (
        world.sizes[slowest].boot.seconds(),
        world.interval.seconds(),
    );
    findings.add(
        (Severity::Note, "boot-spans-intervals"),
        format!("sizes[{slowest}].boot_s"),
        [
            format!(
                "{} boot{} for up to {boot_s} s, which is {:.0} intervals of {interval_s} s",
                names.join(", "),
                if names.len() == 1 { "s" } else { "" },
                (boot_s / interval_s).ceil()
            ),
            "a policy must foresee the load by as much to have a host in time".into(),
            "leave it if these VMs boot so slowly, as most do".into(),
        ],
    );
}

/// A size that costs more than another one and has only memory for it, which nothing needs.
fn check_memory_only(world: &World, (s, t): (usize, usize), site: usize, findings: &mut Findings) {
    let (size, other) = (&world.sizes[s], &world.sizes[t]);
    let mut costs = [costs(world, t, site), costs(world, s, site)];
    for costs in &mut costs {
        costs[2] = 0.0;
    }
    let fragments = world
        .applications
        .iter()
        .flat_map(|a| a.variants.iter().flat_map(|v| &v.fragments));
    // As many of any fragment as keep all vCPUs busy fit the smaller memory, and one more.
    let enough = fragments.into_iter().all(|f| {
        let busy = (other.vcpus / world.caps[f.cap].min(other.vcpus)).ceil();
        f.ram.0 * (busy + 1.0) <= other.ram.0
    });
    let dearer = size.price_usd_per_hour[site] > other.price_usd_per_hour[site];
    if size.ram.0 <= other.ram.0 || !enough || !dearer || !dominates(costs[0], costs[1]) {
        return;
    }
    findings.add(
        (Severity::Note, "size-memory-only"),
        format!("sizes[{s}]"),
        [
            format!(
                "\"{}\" costs more than \"{}\" at \"{}\" and has only more memory, and the memory \
                 of \"{}\" already holds what keeps its vCPUs busy",
                size.name, other.name, world.sites[site].name, other.name
            ),
            "a good policy turns these hosts on last, if ever".into(),
            "leave it if the fleet is given; no fragment needs the memory".into(),
        ],
    );
}

/// A size that another one beats at a site where both stand.
fn check_dominated(world: &World, s: usize, findings: &mut Findings) {
    let stand = |size: usize, site: usize| {
        world
            .hosts
            .iter()
            .any(|h| h.size.index() == size && h.site.index() == site)
    };
    for site in 0..world.sites.len() {
        if !stand(s, site) {
            continue;
        }
        let better = (0..world.sizes.len()).find(|&t| {
            t != s && stand(t, site) && dominates(costs(world, t, site), costs(world, s, site))
        });
        let Some(t) = better else {
            for t in (0..world.sizes.len()).filter(|&t| t != s && stand(t, site)) {
                check_memory_only(world, (s, t), site, findings);
            }
            continue;
        };
        findings.add(
            (Severity::Warning, "size-dominated"),
            format!("sizes[{s}]"),
            [
                format!(
                    "\"{}\" is beaten by \"{}\" at \"{}\", which is at least as large, fast and \
                     quick to boot and neither costs nor draws more",
                    world.sizes[s].name, world.sizes[t].name, world.sites[site].name
                ),
                "a good policy turns these hosts on last, if ever".into(),
                "check its price and power, or leave it if the fleet is given".into(),
            ],
        );
    }
}

/// What is better when it is less, of a size at a site.
fn costs(world: &World, s: usize, site: usize) -> [f64; 6 + POINTS] {
    let size = &world.sizes[s];
    let mut costs = [0.0; 6 + POINTS];
    costs[0] = -size.vcpus;
    costs[1] = -size.mips_per_vcpu.0;
    costs[2] = -size.ram.0;
    costs[3] = -size.network.0;
    costs[4] = size.price_usd_per_hour[site];
    costs[5] = size.boot.seconds();
    costs[6..].copy_from_slice(&size.power.0);
    costs
}

/// Caps that no host lets a fragment reach.
fn check_caps(world: &World, findings: &mut Findings) {
    let most = (0..world.hosts.len())
        .map(|h| world.size_of(h).vcpus)
        .fold(0.0, f64::max);
    for (a, application) in world.applications.iter().enumerate() {
        for (v, variant) in application.variants.iter().enumerate() {
            for (k, fragment) in variant.fragments.iter().enumerate() {
                let cap = world.caps[fragment.cap];
                if cap <= most {
                    continue;
                }
                findings.add(
                    (Severity::Note, "cap-above-hosts"),
                    format!("applications[{a}].variants[{v}].fragments[{k}].max_vcpus"),
                    [
                        format!(
                            "\"{}\" of \"{}\" can use {cap} vCPUs, and no host has more than {most}",
                            fragment.name, application.name
                        ),
                        "it takes a whole host and is slower than it could be".into(),
                        "add a larger size, or leave it".into(),
                    ],
                );
            }
        }
    }
}
