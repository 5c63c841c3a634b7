//! The oracle: searches the twin for the best joint decision.
//!
//! Each question of the joint decision ([`crate::sequence`]) is answered by pricing every promising
//! answer on sampled futures ([`crate::what_if`]), with the earlier answers fixed and the greedy
//! policy deciding everything later: a rollout algorithm (Bertsekas, Tsitsiklis and Wu, 1997) on a
//! two-stage stochastic program. The variants of a request are compared with several placements
//! each, so variant and placement are chosen jointly; what the greedy policy decides later is held
//! fixed between these, since one request changes little and the reactions to it are noise.
//! It sees an [`Observation`] only, never the real future.

use crate::decision::{Decision, Deployment, PowerAction};
use crate::estimate::Placement;
use crate::ids::{ApplicationId, HostId, RequestId};
use crate::observation::Observation;
use crate::policy::PolicyError;
use crate::policy::greedy::Greedy;
use crate::sequence::{Chooser, Context, Question, VariantOption};
use crate::stream::{self, Stream};
use crate::units::SimTime;
use crate::what_if::{self, Futures, Horizon};
use crate::world::World;

/// How hard the oracle searches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Futures for provisioning.
    pub power_futures: usize,
    /// Futures for variants and placement; with zero the greedy policy answers.
    pub place_futures: usize,
    /// Placements that are priced for each fragment, by least estimated penalty.
    pub placements: usize,
    /// Placements that are priced for each variant.
    pub placements_per_variant: usize,
    /// Intervals after the boot of a host over which provisioning is priced.
    pub power_intervals: u64,
    /// Whether hosts are turned on and off in the rollouts.
    pub provisions: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            power_futures: 8,
            place_futures: 4,
            placements: 6,
            placements_per_variant: 3,
            power_intervals: 4,
            provisions: true,
        }
    }
}

impl Options {
    /// Provisioning is priced until a host that is ordered now has served for some intervals.
    #[must_use]
    pub fn power_horizon(&self, world: &World) -> Horizon {
        let boot = world.sizes.iter().map(|s| s.boot).max().unwrap_or_default();
        let span = boot.after(SimTime(self.power_intervals * world.interval.0));
        Horizon {
            span,
            drain: drain(world),
            provisions: self.provisions,
        }
    }

    /// Placements are priced until the request's users would have lost patience.
    #[must_use]
    pub fn place_horizon(&self, world: &World) -> Horizon {
        let deadline = world
            .applications
            .iter()
            .map(|a| a.deadline)
            .max()
            .unwrap_or_default();
        let span = SimTime(deadline.0 / 2).max(world.interval);
        Horizon {
            span,
            drain: drain(world),
            provisions: self.provisions,
        }
    }
}

/// Answers with the best value on the twin.
#[derive(Debug)]
pub struct Oracle {
    options: Options,
    stream: Stream,
    futures: Option<Futures>,
    /// Whether the futures know what the greedy policy does in them.
    recorded: bool,
    values: Vec<f64>,
}

impl Oracle {
    /// An oracle whose sampled futures are drawn from `seed`.
    #[must_use]
    pub fn new(options: Options, seed: u64) -> Self {
        let stream = stream::named(seed, "oracle/futures");
        Self {
            options,
            stream,
            futures: None,
            recorded: false,
            values: Vec::new(),
        }
    }

    /// The value of each answer to the last question, in seconds of penalty, higher is better; NaN
    /// for those that were not priced.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Draws the futures of this decision, if they are not drawn yet.
    fn sample(&mut self, observation: &Observation<'_>) {
        if self.futures.is_some() {
            return;
        }
        let world = observation.world();
        let (count, span) = if observation.may_provision() {
            (
                self.options.power_futures,
                self.options.power_horizon(world).span,
            )
        } else {
            (
                self.options.place_futures,
                self.options.place_horizon(world).span,
            )
        };
        self.futures = Some(Futures::sample(observation, count, span, &mut self.stream));
        self.recorded = false;
    }

    /// Prices decisions about hosts.
    fn price_power(&mut self, context: &Context<'_>, decisions: &[Decision]) -> Vec<f64> {
        let world = context.observation.world();
        self.sample(context.observation);
        let horizon = self.options.power_horizon(world);
        match &self.futures {
            Some(futures) => what_if::evaluate(world, futures, decisions, horizon),
            None => Vec::new(),
        }
    }

    /// Prices decisions about a request, with everything else held fixed.
    fn price_place(&mut self, context: &Context<'_>, decisions: &[Decision]) -> Vec<f64> {
        let world = context.observation.world();
        self.sample(context.observation);
        let horizon = self.options.place_horizon(world);
        let Some(futures) = &mut self.futures else {
            return Vec::new();
        };
        if !self.recorded {
            futures.record(world, context.decision, horizon);
            futures.prepare(world, context.decision, horizon);
            self.recorded = true;
        }
        what_if::evaluate_changes(world, futures, decisions, horizon)
            .iter()
            .map(|priced| priced.value)
            .collect()
    }

    fn power(&mut self, context: &Context<'_>, candidates: &[Option<HostId>]) {
        let decisions: Vec<Decision> = candidates
            .iter()
            .map(|candidate| {
                let mut decision = context.decision.clone();
                if let Some(host) = *candidate {
                    let on = !context.loads.hosts()[host.index()].accepts;
                    decision.provisioning.push(PowerAction { host, on });
                }
                decision
            })
            .collect();
        self.values = self.price_power(context, &decisions);
    }

    fn variant(
        &mut self,
        context: &Context<'_>,
        (request, application): (RequestId, ApplicationId),
        options: &[VariantOption],
    ) {
        let mut decisions = Vec::new();
        let mut owners = Vec::new();
        for (i, option) in options.iter().enumerate() {
            for hosts in self.placements_of(context, application, option) {
                let mut decision = context.decision.clone();
                decision.deployments.push(Deployment {
                    request,
                    variant: option.variant,
                    hosts,
                });
                decisions.push(decision);
                owners.push(i);
            }
        }
        let prices = self.price_place(context, &decisions);
        self.values.clear();
        self.values.resize(options.len(), f64::NEG_INFINITY);
        for (owner, price) in owners.into_iter().zip(prices) {
            self.values[owner] = self.values[owner].max(price);
        }
    }

    /// The greedy placement of a variant, and others that put its first fragment elsewhere.
    fn placements_of(
        &self,
        context: &Context<'_>,
        application: ApplicationId,
        option: &VariantOption,
    ) -> Vec<Vec<HostId>> {
        let mut all = vec![option.hosts.clone()];
        let observation = context.observation;
        let ram_mib = observation
            .world()
            .variant(application, option.variant)
            .fragments[0]
            .ram
            .0;
        let taken = option.hosts[0];
        let mut others: Vec<(f64, HostId)> = (0..observation.host_count())
            .map(HostId::at)
            .filter(|&h| h != taken && !same_and_empty(context, h, taken))
            .filter_map(|h| {
                let load = &context.loads.hosts()[h.index()];
                let ready = load.accepts && ram_mib <= load.ram_mib;
                ready.then(|| (load.ready_s + load.left_mi / load.speed_mips, h))
            })
            .collect();
        others.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let more = self.options.placements_per_variant.saturating_sub(1);
        for (_, host) in others.into_iter().take(more) {
            let mut hosts = option.hosts.clone();
            hosts[0] = host;
            all.push(hosts);
        }
        all
    }

    fn place(
        &mut self,
        context: &Context<'_>,
        request: RequestId,
        option: &VariantOption,
        placed: &[HostId],
        candidates: &[(HostId, Placement)],
    ) {
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|&a, &b| {
            candidates[a]
                .1
                .penalty
                .total_cmp(&candidates[b].1.penalty)
                .then(a.cmp(&b))
        });
        order.truncate(self.options.placements);
        let decisions: Vec<Decision> = order
            .iter()
            .map(|&i| {
                let mut hosts = placed.to_vec();
                hosts.push(candidates[i].0);
                hosts.extend_from_slice(&option.hosts[hosts.len()..]);
                let mut decision = context.decision.clone();
                decision.deployments.push(Deployment {
                    request,
                    variant: option.variant,
                    hosts,
                });
                decision
            })
            .collect();
        let prices = self.price_place(context, &decisions);
        self.values.clear();
        self.values.resize(candidates.len(), f64::NAN);
        for (i, price) in order.into_iter().zip(prices) {
            self.values[i] = price;
        }
    }
}

impl Chooser for Oracle {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn begin(&mut self, _observation: &Observation<'_>) {
        self.futures = None;
    }

    fn choose(
        &mut self,
        context: &Context<'_>,
        question: &Question<'_>,
    ) -> Result<usize, PolicyError> {
        let power = matches!(question, Question::Power(_));
        if !power && self.options.place_futures == 0 {
            self.values.clear();
            self.values.resize(question.len(), f64::NAN);
            return Greedy.choose(context, question);
        }
        match question {
            Question::Power(candidates) => self.power(context, candidates),
            Question::Variant {
                request,
                asked,
                options,
            } => {
                self.variant(context, (*request, asked.application), options);
            }
            Question::Place {
                request,
                option,
                placed,
                candidates,
                ..
            } => {
                self.place(context, *request, option, placed, candidates);
            }
        }
        Ok(best(&self.values))
    }
}

/// The position of the greatest value that is not NaN; the first of equals.
#[must_use]
pub fn best(values: &[f64]) -> usize {
    let mut found = (f64::NEG_INFINITY, 0);
    for (i, &value) in values.iter().enumerate() {
        if value > found.0 {
            found = (value, i);
        }
    }
    found.1
}

fn same_and_empty(context: &Context<'_>, a: HostId, b: HostId) -> bool {
    let world = context.observation.world();
    let (x, y) = (
        &context.loads.hosts()[a.index()],
        &context.loads.hosts()[b.index()],
    );
    let (p, q) = (&world.hosts[a.index()], &world.hosts[b.index()]);
    let alone = |h: HostId| world.containers.of_host(h.index()).is_empty();
    x.count <= 0.0
        && y.count <= 0.0
        && alone(a)
        && alone(b)
        && x.ready_s.max(y.ready_s) <= 0.0
        && p.size == q.size
        && p.site == q.site
}

fn drain(world: &World) -> SimTime {
    let deadline = world
        .applications
        .iter()
        .map(|a| a.deadline)
        .max()
        .unwrap_or_default();
    SimTime(3 * deadline.0)
}
