//! A joint decision as a sequence of small questions.
//!
//! Which host to turn on or off next, if any; which variant for the next request; which host for
//! its next fragment. Each question is asked with what was answered before already planned in, so
//! that later decisions see the earlier ones. The greedy policy, the oracle and the neural policy
//! differ only in how they answer ([`Chooser`]).
//!
//! Hosts that nobody can tell apart (same size, site and state, nothing on them) are offered once.

use crate::decision::{Decision, Deployment, PowerAction};
use crate::estimate::{self, Asked, Loads, Placement};
use crate::host::Lifecycle;
use crate::ids::{HostId, RequestId, VariantId};
use crate::observation::Observation;
use crate::policy::{Policy, PolicyError};
use crate::workload::RATE_WINDOWS;
use crate::world::World;

/// What is known when a question is asked.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// What is observed.
    pub observation: &'a Observation<'a>,
    /// Loads of the hosts, with the plan so far.
    pub loads: &'a Loads,
    /// Work that arrives per second, in MIPS, one a time constant.
    pub demand_mips: [f64; RATE_WINDOWS],
    /// What is decided so far.
    pub decision: &'a Decision,
}

/// A question with its possible answers, never none.
#[derive(Clone, Copy, Debug)]
pub enum Question<'a> {
    /// Which host to turn over next (off if it accepts fragments, on if not); `None` is none.
    Power(&'a [Option<HostId>]),
    /// Which variant of the request's application.
    Variant {
        /// The request.
        request: RequestId,
        /// What is known of it.
        asked: Asked,
        /// The variants that can be placed, each with the placement of least estimated penalty.
        options: &'a [VariantOption],
    },
    /// Which host for a fragment.
    Place {
        /// The request.
        request: RequestId,
        /// What is known of it.
        asked: Asked,
        /// The chosen variant, with the placement of least estimated penalty.
        option: &'a VariantOption,
        /// Hosts of the fragments that are placed already; the next one is asked for.
        placed: &'a [HostId],
        /// The hosts that can take it, each with its estimate.
        candidates: &'a [(HostId, Placement)],
    },
}

impl Question<'_> {
    /// Number of possible answers.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Power(candidates) => candidates.len(),
            Self::Variant { options, .. } => options.len(),
            Self::Place { candidates, .. } => candidates.len(),
        }
    }

    /// Whether there is no possible answer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A variant with the placement of least estimated penalty.
#[derive(Clone, Debug, Default)]
pub struct VariantOption {
    /// The variant.
    pub variant: VariantId,
    /// Hosts of its fragments.
    pub hosts: Vec<HostId>,
    /// Estimates of its fragments.
    pub placements: Vec<Placement>,
    /// Time from now until the users have the answer, in s.
    pub answer_s: f64,
    /// Probability that the answer is late.
    pub late: f64,
    /// Estimated penalty with lateness and accuracy.
    pub penalty: f64,
}

/// Answers the questions of a joint decision.
pub trait Chooser: Send {
    /// The name that reports use.
    fn name(&self) -> &str;

    /// Called once before the first question of each decision.
    fn begin(&mut self, _observation: &Observation<'_>) {}

    /// The position of the chosen answer.
    ///
    /// # Errors
    ///
    /// If no answer can be given.
    fn choose(
        &mut self,
        context: &Context<'_>,
        question: &Question<'_>,
    ) -> Result<usize, PolicyError>;
}

/// A [`Policy`] that answers question by question.
#[derive(Debug)]
pub struct Stepwise<C> {
    /// Who answers.
    pub chooser: C,
    loads: Loads,
    powers: Vec<Option<HostId>>,
    options: Vec<VariantOption>,
    candidates: Vec<(HostId, Placement)>,
    placed: Vec<HostId>,
    seen: Vec<bool>,
    ends: Vec<(usize, f64)>,
    spare_hosts: Vec<Vec<HostId>>,
}

impl<C: Chooser> Stepwise<C> {
    /// Decides as `chooser` answers.
    pub fn new(chooser: C) -> Self {
        Self {
            chooser,
            loads: Loads::default(),
            powers: Vec::new(),
            options: Vec::new(),
            candidates: Vec::new(),
            placed: Vec::new(),
            seen: Vec::new(),
            ends: Vec::new(),
            spare_hosts: Vec::new(),
        }
    }

    fn provision(
        &mut self,
        observation: &Observation<'_>,
        demand_mips: [f64; RATE_WINDOWS],
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = observation.world();
        for _ in 0..most_power_actions(world) {
            power_candidates(observation, &self.loads, decision, &mut self.powers);
            if self.powers.len() < 2 {
                return Ok(());
            }
            let context = Context {
                observation,
                loads: &self.loads,
                demand_mips,
                decision,
            };
            let answer = self
                .chooser
                .choose(&context, &Question::Power(&self.powers))?;
            let Some(Some(host)) = self.powers.get(answer).copied() else {
                return Ok(());
            };
            let on = !self.loads.hosts()[host.index()].accepts;
            decision.provisioning.push(PowerAction { host, on });
            self.loads.plan_power(world, host.index(), on);
        }
        Ok(())
    }

    fn deploy(
        &mut self,
        observation: &Observation<'_>,
        demand_mips: [f64; RATE_WINDOWS],
        (request, asked): (RequestId, Asked),
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = observation.world();
        variant_options(world, &self.loads, &asked, &mut self.options);
        if self.options.is_empty() {
            return Ok(());
        }
        let context = Context {
            observation,
            loads: &self.loads,
            demand_mips,
            decision,
        };
        let question = Question::Variant {
            request,
            asked,
            options: &self.options,
        };
        let answer = match self.options.len() {
            1 => 0,
            count => self.chooser.choose(&context, &question)?.min(count - 1),
        };
        let variant = self.options[answer].variant;
        let fragments = &world.variant(asked.application, variant).fragments;
        self.placed.clear();
        self.ends.clear();
        for index in 0..fragments.len() {
            let task = estimate::task(world, &asked, variant, index, &self.ends);
            self.candidates.clear();
            distinct_hosts(observation, &self.loads, &mut self.seen, |host| {
                if let Some(placement) = self.loads.place(world, &task, host.index()) {
                    self.candidates.push((host, placement));
                }
            });
            let context = Context {
                observation,
                loads: &self.loads,
                demand_mips,
                decision,
            };
            let question = Question::Place {
                request,
                asked,
                option: &self.options[answer],
                placed: &self.placed,
                candidates: &self.candidates,
            };
            let place = match self.candidates.len() {
                0 => return Ok(()),
                1 => 0,
                count => self.chooser.choose(&context, &question)?.min(count - 1),
            };
            let (host, placement) = self.candidates[place];
            self.placed.push(host);
            self.ends.push((host.index(), placement.end_s()));
            self.loads
                .plan_fragment(host.index(), task.work_mi, task.fragment.ram.0);
        }
        let mut hosts = self.spare_hosts.pop().unwrap_or_default();
        hosts.clear();
        hosts.extend_from_slice(&self.placed);
        decision.deployments.push(Deployment {
            request,
            variant,
            hosts,
        });
        Ok(())
    }
}

impl<C: Chooser> Policy for Stepwise<C> {
    fn name(&self) -> &str {
        self.chooser.name()
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = observation.world();
        let demand_mips = estimate::demand_mips(world, observation.rates());
        self.loads.observe(observation);
        self.chooser.begin(observation);
        if observation.may_provision() {
            self.provision(observation, demand_mips, decision)?;
        }
        for waiting in observation.waiting() {
            let asked = Asked {
                application: waiting.application,
                age_s: waiting.age.seconds(),
                context_tokens: waiting.context_tokens,
            };
            self.deploy(observation, demand_mips, (waiting.id, asked), decision)?;
        }
        Ok(())
    }
}

/// The most hosts that one decision turns over.
#[must_use]
pub fn most_power_actions(world: &World) -> usize {
    (world.hosts.len() / 4).max(4)
}

/// One host for each size, site and state, the one whose turning over changes least: for hosts
/// that accept fragments the one with the least work left, for booting ones the last to be ready,
/// for draining ones the one with the most work left. The first candidate is `None`.
///
/// Hosts that `decision` has already turned over are not offered, nor is the last host that
/// accepts fragments.
pub fn power_candidates(
    observation: &Observation<'_>,
    loads: &Loads,
    decision: &Decision,
    out: &mut Vec<Option<HostId>>,
) {
    let world = observation.world();
    out.clear();
    out.push(None);
    let accepting = loads.hosts().iter().filter(|l| l.accepts).count();
    let kinds = 4;
    let sites = world.sites.len();
    let mut best: Vec<Option<HostId>> = vec![None; world.sizes.len() * sites * kinds];
    for (h, load) in loads.hosts().iter().enumerate() {
        let host = HostId::at(h);
        let kind = match observation.lifecycle(host) {
            Lifecycle::Off => 0,
            Lifecycle::Booting { .. } => 1,
            Lifecycle::On => 2,
            Lifecycle::Draining => 3,
        };
        if (load.accepts && accepting <= 1) || decision.provisioning.iter().any(|a| a.host == host)
        {
            continue;
        }
        let spec = &world.hosts[h];
        let place = (spec.size.index() * sites + spec.site.index()) * kinds + kind;
        let better = match best[place] {
            None => true,
            Some(other) => {
                let other = &loads.hosts()[other.index()];
                // Only containers make a difference here: those that lack most are turned on first,
                // and those that have least to lose off.
                let idle = load.idle_penalty_per_s.total_cmp(&other.idle_penalty_per_s);
                match kind {
                    0 | 3 if idle.is_ne() => idle.is_lt(),
                    1 | 2 if idle.is_ne() => idle.is_gt(),
                    1 => load.ready_s > other.ready_s,
                    2 => load.left_mi < other.left_mi,
                    3 => load.left_mi > other.left_mi,
                    _ => false,
                }
            }
        };
        if better {
            best[place] = Some(host);
        }
    }
    out.extend(best.into_iter().flatten().map(Some));
}

/// Calls `each` for every host that accepts fragments, of equal and empty ones only the first; hosts
/// with containers are never equal.
fn distinct_hosts(
    observation: &Observation<'_>,
    loads: &Loads,
    seen: &mut Vec<bool>,
    mut each: impl FnMut(HostId),
) {
    let world = observation.world();
    let alone = |h: usize| world.containers.of_host(h).is_empty();
    seen.clear();
    seen.resize(world.sizes.len() * world.sites.len(), false);
    for (h, load) in loads.hosts().iter().enumerate() {
        if !load.accepts {
            continue;
        }
        if load.count <= 0.0 && load.ready_s <= 0.0 && alone(h) {
            let spec = &world.hosts[h];
            let place = spec.size.index() * world.sites.len() + spec.site.index();
            if std::mem::replace(&mut seen[place], true) {
                continue;
            }
        }
        each(HostId::at(h));
    }
}

/// The variants that can be placed, each with the placement of least estimated penalty, fragment
/// by fragment; `out` keeps its allocations.
pub fn variant_options(world: &World, loads: &Loads, asked: &Asked, out: &mut Vec<VariantOption>) {
    let variants = &world.applications[asked.application.index()].variants;
    out.resize_with(variants.len(), VariantOption::default);
    let mut kept = 0;
    for v in 0..variants.len() {
        if fill_option(world, loads, asked, VariantId::at(v), &mut out[kept]) {
            kept += 1;
        }
    }
    out.truncate(kept);
}

/// Fills `option` with the greedy placement of `variant`; whether there is one.
fn fill_option(
    world: &World,
    loads: &Loads,
    asked: &Asked,
    variant: VariantId,
    option: &mut VariantOption,
) -> bool {
    let application = &world.applications[asked.application.index()];
    let model = &application.variants[variant.index()];
    let objective = &world.objective;
    option.variant = variant;
    option.hosts.clear();
    option.placements.clear();
    option.penalty = (1.0 - model.accuracy) * objective.per_inaccuracy();
    // The price of time: response, and the risk to be late, spread over the deadline.
    let hurry = objective.per_late_request() / application.deadline.seconds();
    let mut ends = [(0, 0.0); crate::world::MAX_FRAGMENTS];
    let (mut end_s, mut latency_s) = (0.0_f64, 0.0);
    for index in 0..model.fragments.len() {
        let task = estimate::task(world, asked, variant, index, &ends);
        let mut best: Option<(f64, usize, Placement)> = None;
        for host in 0..loads.hosts().len() {
            let Some(mut placement) = loads.place(world, &task, host) else {
                continue;
            };
            // Fragments of the same variant on the same host share it.
            for (other, &taken) in option.placements.iter().zip(&option.hosts) {
                let parallel = other.end_s() > placement.inputs_s;
                if taken.index() == host && parallel {
                    let more_s = task.work_mi / loads.hosts()[host].speed_mips;
                    placement.run_s += more_s;
                    placement.penalty += 2.0 * more_s * objective.per_response_second();
                }
            }
            let score = placement.penalty
                + hurry * (placement.end_s() + placement.delay_others_s)
                + objective.per_response_second() * loads.hosts()[host].user_latency_s;
            if best.is_none_or(|(least, ..)| score < least) {
                best = Some((score, host, placement));
            }
        }
        let Some((_, host, placement)) = best else {
            return false;
        };
        ends[index] = (host, placement.end_s());
        option.hosts.push(HostId::at(host));
        option.placements.push(placement);
        option.penalty += objective.per_response_second() * placement.delay_others_s
            + hurry * placement.delay_others_s
            + loads.hosts()[host].work_penalty_per_mi * task.work_mi;
        if model.fragments[index].successors.is_empty() && placement.end_s() >= end_s {
            end_s = placement.end_s();
            latency_s = loads.hosts()[host].user_latency_s;
        }
    }
    option.answer_s = end_s + latency_s;
    option.late = estimate::late_probability(world, asked, variant, end_s, latency_s);
    option.penalty += objective.per_response_second() * option.answer_s
        + objective.per_late_request() * option.late;
    true
}
