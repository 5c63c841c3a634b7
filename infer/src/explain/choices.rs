//! The questions of a decision, asked again and answered as they were.

use models::ModelPolicy;
use models::policy::ModelChooser;
use serde::Serialize;
use twin::decision::Decision;
use twin::ids::{ApplicationId, HostId, VariantId};
use twin::observation::Observation;
use twin::policy::{Policy, PolicyError};
use twin::sequence::{Chooser, Context, Question, Stepwise};
use utoipa::ToSchema;

use super::{MAX_ACTIONS, MAX_LISTED};
use crate::pricing::wire::{Estimate, Qos};

/// A question of a decision, as it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which action it led to, by position in the decision; `None` for the question that ended
    /// the turning of hosts.
    pub action: Option<usize>,
    /// What the request asks for, where it is about one.
    pub application: Option<ApplicationId>,
    /// Position of the fragment, where a host was asked for.
    pub fragment: Option<usize>,
    /// The possible answers.
    pub answers: Vec<Answer>,
    /// Which of them was given; `None` if the decision has an answer that was not offered.
    pub given: Option<usize>,
}

/// A possible answer to a question.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What it is.
    pub what: Candidate,
    /// What the model thought of it, if it did.
    pub score: Option<f32>,
    /// The quick estimate of its penalty, in s, where there is one.
    pub estimate_s: Option<f64>,
    /// Whether its fragment would wait there, for memory or a boot or a model.
    pub waits: bool,
}

/// A possible answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// To turn this host over; none if `None`.
    Turn(Option<HostId>),
    /// To deploy this variant; the quick placement of its fragments.
    Variant(VariantId, Vec<HostId>),
    /// To place the fragment here.
    Place(HostId),
}

/// A question as it is told.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// What was asked: `power`, `variant` or `place`.
    #[schema(pattern = "^(power|variant|place)$")]
    pub question: &'static str,
    /// Position of the fragment, where a host was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u16>)]
    pub fragment: Option<usize>,
    /// Number of possible answers.
    #[schema(value_type = u64)]
    pub answers: usize,
    /// The answer that was given, where it was among them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub given: Option<String>,
    /// The other answer that the twin prices best.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner_up: Option<String>,
    /// The difference of the decision to the same one with the runner-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_runner_up: Option<Qos>,
    /// The best of the possible answers and the one that was given: by score where there are
    /// scores, else by estimate.
    #[schema(max_items = 17)]
    pub candidates: Vec<Listed>,
}

/// An answer as it is told.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// What it is: the name of a host or a variant, `none` for turning no host.
    pub answer: String,
    /// Position of the host, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<u32>,
    /// The network's score; higher is better.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub score: Option<f32>,
    /// The share of this answer in the softmax of the scores.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 1)]
    pub probability: Option<f64>,
    /// The quick estimate of its penalty, in s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_penalty_s: Option<f64>,
    /// Penalty of the whole decision with this answer, by the twin, in s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub penalty_s: Option<Estimate>,
    /// Whether the fragment would wait there, for memory or a boot or a model.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
}

/// Asks the questions of `decision` again, as far as actions are explained.
///
/// # Errors
///
/// If the questions cannot be asked, which no state gives reason for.
pub fn ask_again(
    observation: &Observation<'_>,
    decision: &Decision,
    model: Option<&ModelPolicy>,
) -> Result<Vec<Asked>, PolicyError> {
    let again = Again {
        decision,
        model: model.map(|model| model.chooser().clone()),
        powers: 0,
        asked: Vec::new(),
    };
    let mut policy = Stepwise::new(again);
    policy.decide(observation, &mut Decision::none())?;
    Ok(policy.chooser.asked)
}

/// Answers as a decision does, and writes the questions down.
struct Again<'d> {
    decision: &'d Decision,
    model: Option<ModelChooser>,
    /// Power actions that were answered.
    powers: usize,
    asked: Vec<Asked>,
}

impl Again<'_> {
    /// What the decision answers: the action, by position, and which answer it is.
    fn answer(&mut self, question: &Question<'_>) -> (Option<usize>, Option<usize>) {
        let powers = self.decision.provisioning.len();
        let deployed = |request| {
            let mut deployments = self.decision.deployments.iter();
            deployments.position(|d| d.request == request)
        };
        match question {
            Question::Power(candidates) => {
                let position = self.powers;
                self.powers += 1;
                match self.decision.provisioning.get(position) {
                    Some(action) => {
                        let wanted = Some(action.host);
                        let given = candidates.iter().position(|c| *c == wanted);
                        (Some(position), given)
                    }
                    None => (None, candidates.iter().position(Option::is_none)),
                }
            }
            Question::Variant {
                request, options, ..
            } => {
                let place = deployed(*request);
                let given = place.and_then(|at| {
                    let variant = self.decision.deployments[at].variant;
                    options.iter().position(|option| option.variant == variant)
                });
                (place.map(|at| powers + at), given)
            }
            Question::Place {
                request,
                placed,
                candidates,
                ..
            } => {
                let place = deployed(*request);
                let given = place.and_then(|at| {
                    let host = *self.decision.deployments[at].hosts.get(placed.len())?;
                    candidates.iter().position(|(h, _)| *h == host)
                });
                (place.map(|at| powers + at), given)
            }
        }
    }
}

impl Chooser for Again<'_> {
    fn name(&self) -> &'static str {
        "explanation"
    }

    fn choose(
        &mut self,
        context: &Context<'_>,
        question: &Question<'_>,
    ) -> Result<usize, PolicyError> {
        let (action, given) = self.answer(question);
        let ends = action.is_none() && matches!(question, Question::Power(_));
        if ends || action.is_some_and(|position| position < MAX_ACTIONS) {
            let mut answers = answers(question);
            if let Some(model) = &mut self.model {
                let scores = model.scores(context, question).to_vec();
                for (&answer, score) in model.encoded().answers.iter().zip(scores) {
                    if let Some(answer) = answers.get_mut(answer as usize) {
                        answer.score = Some(score);
                    }
                }
            }
            let fragment = match question {
                Question::Place { placed, .. } => Some(placed.len()),
                Question::Power(_) | Question::Variant { .. } => None,
            };
            let application = match question {
                Question::Variant { asked, .. } | Question::Place { asked, .. } => {
                    Some(asked.application)
                }
                Question::Power(_) => None,
            };
            self.asked.push(Asked {
                action,
                application,
                fragment,
                answers,
                given,
            });
        }
        // An answer that was not offered: for hosts, no more is asked.
        Ok(given.unwrap_or(0))
    }
}

fn answers(question: &Question<'_>) -> Vec<Answer> {
    let plain = |what| Answer {
        what,
        score: None,
        estimate_s: None,
        waits: false,
    };
    match question {
        Question::Power(candidates) => candidates
            .iter()
            .map(|host| plain(Candidate::Turn(*host)))
            .collect(),
        Question::Variant { options, .. } => options
            .iter()
            .map(|option| Answer {
                estimate_s: Some(option.penalty),
                ..plain(Candidate::Variant(option.variant, option.hosts.clone()))
            })
            .collect(),
        Question::Place { candidates, .. } => candidates
            .iter()
            .map(|(host, placement)| Answer {
                estimate_s: Some(placement.penalty),
                waits: placement.wait_s > 0.0,
                ..plain(Candidate::Place(*host))
            })
            .collect(),
    }
}

impl Asked {
    /// The positions of the answers, the best first: by score where there are scores, else by
    /// estimate, else in their order. Answers without either come last.
    #[must_use]
    pub fn ranked(&self) -> Vec<usize> {
        let scored = self.answers.iter().any(|a| a.score.is_some());
        let badness = |answer: &Answer| match scored {
            true => answer
                .score
                .map_or(f64::INFINITY, |score| -f64::from(score)),
            false => answer.estimate_s.unwrap_or(f64::INFINITY),
        };
        let mut order: Vec<usize> = (0..self.answers.len()).collect();
        order.sort_by(|&a, &b| {
            let (x, y) = (badness(&self.answers[a]), badness(&self.answers[b]));
            x.total_cmp(&y).then(a.cmp(&b))
        });
        order
    }

    /// The answers that are told: the best, and the one that was given.
    #[must_use]
    pub fn listed(&self) -> Vec<usize> {
        let mut order = self.ranked();
        let rest = order.split_off(order.len().min(MAX_LISTED));
        order.extend(rest.into_iter().filter(|&at| Some(at) == self.given));
        order
    }

    /// The question as it is told, without prices.
    pub(super) fn choice(&self, observation: &Observation<'_>) -> Choice {
        let probabilities = self.probabilities();
        let name = |at: usize| name_of(&self.answers[at].what, observation, self);
        let candidates = self.listed().into_iter().map(|at| {
            let answer = &self.answers[at];
            Listed {
                answer: name(at),
                host: match answer.what {
                    Candidate::Turn(host) => host.map(|host| host.0),
                    Candidate::Place(host) => Some(host.0),
                    Candidate::Variant(..) => None,
                },
                score: answer.score,
                probability: probabilities[at],
                estimated_penalty_s: answer.estimate_s,
                penalty_s: None,
                waits: answer.waits,
            }
        });
        Choice {
            question: match self.answers.first().map(|answer| &answer.what) {
                Some(Candidate::Variant(..)) => "variant",
                Some(Candidate::Place(_)) => "place",
                Some(Candidate::Turn(_)) | None => "power",
            },
            fragment: self.fragment,
            answers: self.answers.len(),
            given: self.given.map(name),
            runner_up: None,
            against_runner_up: None,
            candidates: candidates.collect(),
        }
    }

    /// Softmax of the scores, by answer.
    fn probabilities(&self) -> Vec<Option<f64>> {
        let scores = || self.answers.iter().filter_map(|a| a.score);
        let most = f64::from(scores().fold(f32::NEG_INFINITY, f32::max));
        let weight = |score: f32| (f64::from(score) - most).exp();
        let sum: f64 = scores().map(weight).sum();
        let share = |answer: &Answer| answer.score.map(|score| weight(score) / sum);
        self.answers.iter().map(share).collect()
    }
}

/// The name of an answer to `asked`.
pub(super) fn name_of(
    candidate: &Candidate,
    observation: &Observation<'_>,
    asked: &Asked,
) -> String {
    let world = observation.world();
    match candidate {
        Candidate::Turn(None) => "none".into(),
        Candidate::Turn(Some(host)) | Candidate::Place(host) => {
            world.hosts[host.index()].name.clone()
        }
        Candidate::Variant(variant, _) => asked
            .application
            .and_then(|application| {
                let variants = &world.applications[application.index()].variants;
                Some(variants.get(variant.index())?.name.clone())
            })
            .unwrap_or_else(|| variant.to_string()),
    }
}
