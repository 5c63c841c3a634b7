//! The summary: means with intervals, paired differences, and how much of the distance to the
//! oracle the models close.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use twin::World;
use twin::stream;
use twin::workload::Split;

use super::Args;
use super::rows::{METRICS, RunRow};
use crate::policies::{Role, role};
use crate::statistics::{Estimate, bootstrap, mean};
use twin::qos::MECHANICS;

/// A world in which less than this share of the objective is at stake does not tell policies apart.
const SPREAD_MINIMUM: f64 = 0.01;

/// The content of `evaluation.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Name of the world.
    pub world: String,
    /// SHA-256 of the world, in hexadecimal.
    pub world_hash: String,
    /// Number of seeds.
    pub seeds: u64,
    /// The first of them; the others follow it.
    pub first_seed: u64,
    /// Length of an episode, in intervals.
    pub intervals: u32,
    /// Part of the workload that episodes were drawn from.
    pub split: Split,
    /// For each policy and metric the mean over seeds; null where a metric is absent, as regret
    /// without the oracle. Metrics of what only some worlds have are there if this one has it.
    pub policies: BTreeMap<String, BTreeMap<String, Option<Estimate>>>,
    /// For each two policies, in the order of the arguments, and each metric that both have.
    pub paired: Vec<PairedDifference>,
    /// For each model, how much of the distance to the oracle it closes.
    pub gap_closed: BTreeMap<String, GapClosed>,
    /// What is at stake in this world; absent without a heuristic.
    pub spread: Option<Spread>,
}

/// The mean over seeds of policy `a`'s value minus policy `b`'s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairedDifference {
    /// One policy.
    pub a: String,
    /// The other.
    pub b: String,
    /// The metric.
    pub metric: String,
    /// Mean of the differences, in the unit of the metric.
    pub mean_difference: f64,
    /// Lower end of the 95 % interval; absent for a single seed.
    pub ci95_low: Option<f64>,
    /// Upper end of the 95 % interval; absent for a single seed.
    pub ci95_high: Option<f64>,
}

/// How much of the distance from the best heuristic to the oracle a model closes:
/// (model − heuristic) / (oracle − heuristic), of mean objectives. 1 is as good as the oracle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GapClosed {
    /// The heuristic with the best mean objective; `greedy`, the oracle's rollout policy, is not
    /// counted among heuristics.
    pub best_heuristic: String,
    /// The share and its interval.
    #[serde(flatten)]
    pub closed: Closed,
    /// The same with `greedy` in place of the best heuristic; absent if it did not take part.
    pub against_greedy: Option<Closed>,
}

/// A share of a distance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Closed {
    /// The share; absent where the oracle is not better than the heuristic.
    pub ratio: Option<f64>,
    /// Lower end of the 95 % bootstrap interval over seeds; absent for a single seed, and where
    /// the oracle is not better in each resample.
    pub ci95_low: Option<f64>,
    /// Upper end of the same interval.
    pub ci95_high: Option<f64>,
}

/// What is at stake: mean objectives of the worst and the best heuristic and of the oracle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The heuristic with the lowest mean objective.
    pub worst_heuristic: String,
    /// Its mean objective.
    pub worst_objective: f64,
    /// The heuristic with the highest mean objective.
    pub best_heuristic: String,
    /// Its mean objective.
    pub best_objective: f64,
    /// The oracle's mean objective; absent if it did not take part.
    pub oracle_objective: Option<f64>,
    /// Best minus worst.
    pub worst_to_best: f64,
    /// Oracle minus best.
    pub best_to_oracle: Option<f64>,
    /// What is wrong with the world, if it does not tell policies apart.
    pub warnings: Vec<String>,
}

/// The values of each policy, by metric, one a seed.
struct Values<'a> {
    policies: &'a [String],
    rows: &'a [RunRow],
}

impl Values<'_> {
    /// One value a seed, in the order of seeds; `None` if one is absent.
    fn of(&self, policy: &str, metric: &str) -> Option<Vec<f64>> {
        let rows = self.rows.iter().filter(|row| row.policy == policy);
        rows.map(|row| row.metric(metric)).collect()
    }

    fn objectives(&self, policy: &str) -> Vec<f64> {
        self.of(policy, "objective").unwrap_or_default()
    }

    /// Policies of a role with their mean objectives, the worst first.
    fn ranked(&self, wanted: Role) -> Vec<(&str, f64)> {
        let mut ranked: Vec<(&str, f64)> = self
            .policies
            .iter()
            .filter(|spec| role(spec) == wanted)
            .map(|spec| (spec.as_str(), mean(&self.objectives(spec))))
            .collect();
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        ranked
    }
}

impl Evaluation {
    /// The summary of `rows`, which hold each policy's seeds in the same order.
    pub(super) fn new(args: &Args, world: &World, intervals: u32, rows: &[RunRow]) -> Self {
        let values = Values {
            policies: &args.policies,
            rows,
        };
        Self {
            world: world.name.clone(),
            world_hash: world.hash.clone(),
            seeds: args.seeds,
            first_seed: args.first_seed,
            intervals,
            split: args.split,
            policies: args
                .policies
                .iter()
                .map(|p| (p.clone(), estimates(&values, p)))
                .collect(),
            paired: paired(&values),
            gap_closed: gaps(&values, args.first_seed),
            spread: spread(&values),
        }
    }

    /// The summary as indented JSON.
    ///
    /// # Errors
    ///
    /// None that is known: all keys are text and all numbers finite.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}

fn estimates(values: &Values<'_>, policy: &str) -> BTreeMap<String, Option<Estimate>> {
    let of = |metric| {
        values
            .of(policy, metric)
            .and_then(|values| Estimate::of(&values))
    };
    let always = METRICS.iter().map(|&metric| (metric, of(metric)));
    let sometimes = MECHANICS.iter().map(|&metric| (metric, of(metric)));
    always
        .chain(sometimes.filter(|(_, estimate)| estimate.is_some()))
        .map(|(metric, estimate)| (metric.to_owned(), estimate))
        .collect()
}

fn paired(values: &Values<'_>) -> Vec<PairedDifference> {
    let mut found = Vec::new();
    for (i, a) in values.policies.iter().enumerate() {
        for b in &values.policies[i + 1..] {
            for metric in METRICS.into_iter().chain(MECHANICS) {
                let (Some(of_a), Some(of_b)) = (values.of(a, metric), values.of(b, metric)) else {
                    continue;
                };
                if let Some(difference) = Estimate::of_differences(&of_a, &of_b) {
                    found.push(PairedDifference {
                        a: a.clone(),
                        b: b.clone(),
                        metric: metric.to_owned(),
                        mean_difference: difference.mean,
                        ci95_low: difference.ci95_low,
                        ci95_high: difference.ci95_high,
                    });
                }
            }
        }
    }
    found
}

fn gaps(values: &Values<'_>, first_seed: u64) -> BTreeMap<String, GapClosed> {
    let heuristics = values.ranked(Role::Heuristic);
    let oracles = values.ranked(Role::Oracle);
    let (Some(&(best, _)), Some(&(oracle, _))) = (heuristics.last(), oracles.last()) else {
        return BTreeMap::new();
    };
    let rollouts = values.ranked(Role::Rollout);
    let oracle = values.objectives(oracle);
    let models = values
        .policies
        .iter()
        .filter(|spec| role(spec) == Role::Model);
    models
        .map(|model| {
            let of_model = values.objectives(model);
            let against = |heuristic: &str| {
                let name = format!("evaluation/gap of {model} from {heuristic}");
                let mut stream = stream::named(first_seed, &name);
                closed(
                    &of_model,
                    &values.objectives(heuristic),
                    &oracle,
                    &mut stream,
                )
            };
            let gap = GapClosed {
                best_heuristic: best.to_owned(),
                closed: against(best),
                against_greedy: rollouts.last().map(|&(greedy, _)| against(greedy)),
            };
            (model.clone(), gap)
        })
        .collect()
}

/// The share of the distance, with the interval of the bootstrap over seeds, all three policies on
/// the same ones.
fn closed(model: &[f64], heuristic: &[f64], oracle: &[f64], stream: &mut stream::Stream) -> Closed {
    let of = |picked: &[usize]| {
        let sum = |values: &[f64]| picked.iter().map(|&i| values[i]).sum::<f64>();
        let base = sum(heuristic);
        let distance = sum(oracle) - base;
        (distance > 0.0).then(|| (sum(model) - base) / distance)
    };
    let all: Vec<usize> = (0..model.len()).collect();
    let ratio = of(&all);
    let interval = ratio.and_then(|_| bootstrap(model.len(), stream, of));
    Closed {
        ratio,
        ci95_low: interval.map(|i| i.0),
        ci95_high: interval.map(|i| i.1),
    }
}

fn spread(values: &Values<'_>) -> Option<Spread> {
    let heuristics = values.ranked(Role::Heuristic);
    let (&(worst_heuristic, worst), &(best_heuristic, best)) =
        (heuristics.first()?, heuristics.last()?);
    let oracle = values
        .ranked(Role::Oracle)
        .last()
        .map(|&(_, objective)| objective);
    let needed = SPREAD_MINIMUM * best.abs();
    let mut warnings = Vec::new();
    if heuristics.len() > 1 && best - worst < needed {
        warnings.push(format!(
            "the worst heuristic ({worst_heuristic}) is within 1 % of the best \
             ({best_heuristic}): little depends on decisions in this world"
        ));
    }
    if let Some(oracle) = oracle
        && oracle - best < needed
    {
        warnings.push(if oracle < best {
            format!("the best heuristic ({best_heuristic}) is better than the oracle")
        } else {
            format!(
                "the best heuristic ({best_heuristic}) is within 1 % of the oracle: little is \
                 left to learn in this world"
            )
        });
    }
    Some(Spread {
        worst_heuristic: worst_heuristic.to_owned(),
        worst_objective: worst,
        best_heuristic: best_heuristic.to_owned(),
        best_objective: best,
        oracle_objective: oracle,
        worst_to_best: best - worst,
        best_to_oracle: oracle.map(|oracle| oracle - best),
        warnings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use twin::qos::Qos;

    /// Rows with the given objectives, one list a policy.
    fn rows(objectives: &[(&str, &[f64])]) -> (Vec<String>, Vec<RunRow>) {
        let qos = serde_json::json!({
            "objective": 0.0, "energy_wh": 1.0, "cost_usd": 0.1, "response_mean_s": 1.0,
            "response_p50_s": 1.0, "response_p95_s": 1.0, "response_p99_s": 1.0,
            "sla_violation_ratio": 0.0, "accuracy_mean": 0.9, "utilization_mean": 0.5,
            "waiting_mean_s": 0.0, "jain_fairness": 1.0, "requests_arrived": 3,
            "requests_completed": 2, "requests_unfinished": 1, "hosts_billed_mean": 4.0,
            "duration_s": 100.0,
        });
        let qos: Qos = serde_json::from_value(qos).expect("all fields are given");
        let policies = objectives
            .iter()
            .map(|(policy, _)| (*policy).to_owned())
            .collect();
        let row = |policy: &str, seed: u64, objective: f64| RunRow {
            world: "w".to_owned(),
            policy: policy.to_owned(),
            seed,
            regret: None,
            qos: Qos { objective, ..qos },
            mechanics: Vec::new(),
            decision_time_p50_us: Some(1.0),
            decision_time_p99_us: Some(2.0),
        };
        let rows = objectives
            .iter()
            .flat_map(|(policy, values)| {
                (0..)
                    .zip(*values)
                    .map(move |(seed, &objective)| row(policy, seed, objective))
            })
            .collect();
        (policies, rows)
    }

    #[test]
    fn gaps_are_measured_from_the_best_heuristic_to_the_oracle() {
        let (policies, rows) = rows(&[
            ("random", &[-9.0, -8.0, -9.0]),
            ("best-fit", &[-5.0, -4.0, -6.0]),
            ("greedy", &[-3.0, -2.0, -4.0]),
            ("model:m", &[-2.0, -1.0, -3.0]),
            ("oracle", &[-1.0, 0.0, -2.0]),
        ]);
        let gaps = gaps(
            &Values {
                policies: &policies,
                rows: &rows,
            },
            1,
        );
        let gap = &gaps["model:m"];
        assert_eq!(gap.best_heuristic, "best-fit");
        // Seed by seed, (−2 + 5) / (−1 + 5) = 3/4, and from greedy (−2 + 3) / (−1 + 3) = 1/2.
        let exactly = |ratio| Closed {
            ratio: Some(ratio),
            ci95_low: Some(ratio),
            ci95_high: Some(ratio),
        };
        assert_eq!(gap.closed, exactly(0.75));
        assert_eq!(gap.against_greedy, Some(exactly(0.5)));
        let json = serde_json::to_value(gap).expect("plain values");
        assert_eq!(json["ratio"], 0.75);
        assert_eq!(json["against_greedy"]["ratio"], 0.5);
    }

    #[test]
    fn no_share_is_told_of_a_distance_that_is_not_there() {
        let mut stream = stream::named(1, "test");
        let none = closed(&[1.0, 2.0], &[2.0, 3.0], &[2.0, 3.0], &mut stream);
        assert_eq!(none, Closed::default());
        // Better on the whole, but not in the resample of the second seed alone.
        let unsure = closed(&[1.0, 2.0], &[0.0, 3.0], &[4.0, 2.0], &mut stream);
        assert_eq!((unsure.ratio, unsure.ci95_low), (Some(0.0), None));
        let single = closed(&[1.0], &[0.0], &[2.0], &mut stream);
        assert_eq!((single.ratio, single.ci95_high), (Some(0.5), None));
    }

    #[test]
    fn a_world_in_which_nothing_matters_is_reported() {
        let told = |objectives: &[(&str, &[f64])]| {
            let (policies, rows) = rows(objectives);
            spread(&Values {
                policies: &policies,
                rows: &rows,
            })
            .expect("a heuristic took part")
        };
        let flat = told(&[
            ("random", &[-1.0]),
            ("best-fit", &[-0.995]),
            ("oracle", &[-0.99]),
        ]);
        assert_eq!(flat.warnings.len(), 2, "{:?}", flat.warnings);
        let fine = told(&[
            ("random", &[-2.0]),
            ("best-fit", &[-1.0]),
            ("oracle", &[-0.5]),
        ]);
        assert!(fine.warnings.is_empty(), "{:?}", fine.warnings);
        assert_eq!((fine.worst_to_best, fine.best_to_oracle), (1.0, Some(0.5)));
        let odd = told(&[("best-fit", &[-1.0]), ("oracle", &[-1.5])]);
        assert!(odd.warnings[0].contains("better than the oracle"));
        assert_eq!(odd.warnings.len(), 1);
    }

    #[test]
    fn pairs_are_told_once_and_absent_metrics_not_at_all() {
        let (policies, rows) = rows(&[("b", &[3.0, 5.0]), ("a", &[1.0, 2.0]), ("c", &[0.0, 0.0])]);
        let paired = paired(&Values {
            policies: &policies,
            rows: &rows,
        });
        let objective: Vec<_> = paired
            .iter()
            .filter(|pair| pair.metric == "objective")
            .map(|pair| (pair.a.as_str(), pair.b.as_str(), pair.mean_difference))
            .collect();
        // (3 − 1 + 5 − 2) / 2 = 2.5, (3 + 5) / 2 = 4, (1 + 2) / 2 = 1.5.
        assert_eq!(
            objective,
            [("b", "a", 2.5), ("b", "c", 4.0), ("a", "c", 1.5)]
        );
        assert!(paired.iter().all(|pair| pair.metric != "regret"));
        assert_eq!(paired.len(), 3 * (METRICS.len() - 1));
    }
}
