//! Terms of the objective: how far decisions can move each of them.
//!
//! | term | least | most |
//! |---|---|---|
//! | energy, cost | as few hosts as do the work of least variants | all hosts |
//! | response | the fastest variants on idle hosts | all at their deadline |
//! | sla | none late | all late |
//! | accuracy | the most accurate variants | the least accurate ones |
//!
//! The share of a term is what lies between, weighted, over the sum of all terms. It is a rough
//! figure, and says which terms a policy will mind.

use serde::Serialize;

use super::load::LoadReport;
use super::reach::ApplicationReach;
use super::{Findings, Severity, percent};
use crate::world::World;

/// A term with less than this share vanishes.
const VANISHES: f64 = 0.02;
/// A term with more than this share dominates.
const DOMINATES: f64 = 0.75;
/// A reference this many times too large or small is told.
const FAR: f64 = 10.0;

/// How far decisions can move a term of the objective.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TermShare {
    /// Its name, as in `objective.weights`.
    pub term: &'static str,
    /// Its weight.
    pub weight: f64,
    /// By how much decisions can move the objective through it.
    pub swing: f64,
    /// That over the sum of all terms; zero if nothing moves the objective.
    pub share: f64,
}

pub(super) fn shares(
    world: &World,
    load: &LoadReport,
    reach: &[ApplicationReach],
) -> Vec<TermShare> {
    let objective = &world.objective;
    let hosts = world.hosts.len();
    let power = |h: usize, load: f64| world.size_of(h).power.at(load.min(1.0)).0;
    let all_w: f64 = (0..hosts).map(|h| power(h, load.most_accurate.mean)).sum();
    let all_usd_s: f64 = (0..hosts).map(|h| world.price_usd_per_second(h)).sum();
    // The few hosts are taken to be as the mean host.
    let few = load.least_work.hosts_least.unwrap_or(hosts).min(hosts) as f64 / hosts as f64;
    let few_w: f64 = (0..hosts)
        .map(|h| power(h, load.least_work.mean / few))
        .sum::<f64>()
        * few;
    let sum = |of: &dyn Fn(&ApplicationReach) -> f64| reach.iter().map(of).sum::<f64>();
    let accuracy = |a: &ApplicationReach, choose: fn(f64, f64) -> f64, first: f64| {
        a.variants.iter().map(|v| v.accuracy).fold(first, choose)
    };
    let response = sum(&|a| {
        let least = a.fastest().map_or(0.0, |v| v.response_p50_s);
        a.rate_per_s * (a.deadline_s - least).max(0.0)
    });
    let late = sum(&|a| a.rate_per_s);
    let inaccurate =
        sum(&|a| a.rate_per_s * (accuracy(a, f64::max, 0.0) - accuracy(a, f64::min, 1.0)).max(0.0));
    let swings = [
        (all_w - few_w).max(0.0) * objective.per_joule(),
        all_usd_s * (1.0 - few) * objective.per_usd(),
        response * objective.per_response_second(),
        late * objective.per_late_request(),
        inaccurate * objective.per_inaccuracy(),
    ];
    let total: f64 = swings.iter().sum();
    ["energy", "cost", "response", "sla", "accuracy"]
        .into_iter()
        .zip(objective.weights.to_array())
        .zip(swings)
        .map(|((term, weight), swing)| TermShare {
            term,
            weight,
            swing,
            share: if total > 0.0 { swing / total } else { 0.0 },
        })
        .collect()
}

pub(super) fn check(world: &World, terms: &[TermShare], findings: &mut Findings) {
    for term in terms {
        let (name, field) = (term.term, format!("objective.weights.{}", term.term));
        if term.weight <= 0.0 {
            findings.add(
                (Severity::Note, "term-off"),
                field,
                [
                    format!("the weight of {name} is zero"),
                    "no policy minds it".into(),
                    "give it a weight, if that is not meant".into(),
                ],
            );
        } else if term.swing <= 0.0 {
            findings.add(
                (Severity::Note, "term-constant"),
                field,
                [
                    format!("no decision changes the term of {name}"),
                    "it shifts the objective of all policies alike".into(),
                    "set its weight to 0, or give the world a choice that changes it".into(),
                ],
            );
        } else if term.share < VANISHES {
            findings.add(
                (Severity::Note, "term-vanishes"),
                field,
                [
                    format!(
                        "{name} makes up {} of what decisions can change in the objective",
                        percent(term.share)
                    ),
                    "policies will not mind it".into(),
                    "raise its weight or lower its reference, if that is not meant".into(),
                ],
            );
        } else if term.share > DOMINATES {
            findings.add(
                (Severity::Note, "term-dominates"),
                field,
                [
                    format!(
                        "{name} makes up {} of what decisions can change in the objective",
                        percent(term.share)
                    ),
                    "policies will mind little else".into(),
                    "lower its weight or raise its reference, if that is not meant".into(),
                ],
            );
        }
    }
    check_references(world, findings);
}

/// References that are far from what the world has.
fn check_references(world: &World, findings: &mut Findings) {
    let objective = &world.objective;
    let hosts = 0..world.hosts.len();
    let full_w: f64 = hosts.clone().map(|h| world.size_of(h).power.0[10]).sum();
    let price: f64 = hosts.map(|h| world.price_usd_per_second(h) * 3600.0).sum();
    let known = [
        (
            "reference_power_w",
            objective.reference_power_w,
            full_w,
            "all hosts at full utilization draw",
        ),
        (
            "reference_cost_usd_per_hour",
            objective.reference_cost_usd_per_hour,
            price,
            "all hosts cost, in USD per hour,",
        ),
        (
            "reference_rate_per_s",
            objective.reference_rate_per_s,
            world.mean_rate_per_s(),
            "the requests that come per second are",
        ),
    ];
    for (name, reference, value, what) in known {
        if value <= 0.0 || (reference / value < FAR && value / reference < FAR) {
            continue;
        }
        findings.add(
            (Severity::Note, "reference-far"),
            format!("objective.{name}"),
            [
                format!("is {reference}, and {what} {value:.4}"),
                "weights then do not say what terms count relative to each other".into(),
                "set it to what the world has; the weights are the place for preferences".into(),
            ],
        );
    }
}
