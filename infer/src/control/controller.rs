//! The loop's one interval: the only place where the steps meet input and output.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use twin::observation::FleetView;
use twin::units::SimTime;
use twin::world::World;

use super::action::{Phase, Plan};
use super::brain::{Brain, StateSource, Verdict};
use super::cloud::{Cloud, Submission};
use super::expect::{Expected, expected};
use super::facts::Facts;
use super::fleet::Fleet;
use super::guard::{Freeze, Guardrails, Judged, Situation};
use super::journal::{Entry, Journal, JournalError};
use super::lease::{Hold, Lease};
use super::ledger::Open;
use super::mapping::{Mapping, Rule, SetRule};
use super::reconcile::{Proposal, Wish, Wishes, proposals};
use super::report::{ActionReport, Ended, Hosts, Outcome, Report, UnknownVm};
use super::standing::{Seen, Standing, Timing, Told, ending};
use super::telemetry::Telemetry;
use super::view::{Seeing, drift, seeing};
use crate::azure::ResourceId;

/// Reads the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How the loop works.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// How VMs are matched with hosts.
    pub matching: Rule,
    /// Scale sets that are hosts.
    pub sets: Vec<SetRule>,
    /// The guardrails.
    pub guardrails: Guardrails,
    /// How long things may take.
    pub timing: Timing,
    /// Length of an interval.
    pub interval: SignedDuration,
    /// Actions that are submitted at once.
    pub in_flight: usize,
    /// Whether to act.
    pub apply: bool,
}

/// What the loop works with.
pub struct Parts {
    /// The world.
    pub world: Arc<World>,
    /// The cloud.
    pub cloud: Arc<dyn Cloud>,
    /// Who decides.
    pub brain: Box<dyn Brain>,
    /// The lease.
    pub lease: Box<dyn Lease>,
    /// The action log.
    pub journal: Journal,
    /// Where the state of the applications is read.
    pub state: Option<StateSource>,
    /// The time.
    pub clock: Clock,
    /// The name of this copy.
    pub holder: String,
    /// Metrics.
    pub telemetry: Arc<Telemetry>,
}

/// The control loop.
pub struct Controller {
    parts: Parts,
    rules: Rules,
    interval: u64,
    started: Timestamp,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("holder", &self.parts.holder)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// A proposal, what stops it if anything does, and what is expected of it.
struct Considered {
    judged: Judged,
    expected_gain_s: Option<f64>,
    decided_by: String,
}

impl Controller {
    /// A loop that works with `parts` by `rules`.
    #[must_use]
    pub fn new(parts: Parts, rules: Rules) -> Self {
        let started = (parts.clock)();
        Self {
            parts,
            rules,
            interval: 0,
            started,
        }
    }

    /// The action log.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.parts.journal
    }

    /// Gives the lease back.
    pub async fn release(&mut self) {
        self.parts.lease.release().await;
    }

    /// One interval: looks, decides, acts.
    ///
    /// # Errors
    ///
    /// If the action log cannot be written; what could not be written down was not done.
    pub async fn step(&mut self) -> Result<Report, JournalError> {
        let began = std::time::Instant::now();
        self.interval += 1;
        let now = (self.parts.clock)();
        let mut report = self.blank(now);
        let result = self.run(now, &mut report).await;
        self.parts
            .telemetry
            .stepped(&report, self.parts.journal.ledger(), began.elapsed());
        result.map(|()| report)
    }

    async fn run(&mut self, now: Timestamp, report: &mut Report) -> Result<(), JournalError> {
        if self.rules.apply {
            let hold = self.parts.lease.hold().await;
            let outcome = match hold {
                Ok(Hold::Mine) => None,
                Ok(Hold::Other { holder }) => Some(Outcome::Standby { other: holder }),
                Err(error) => Some(Outcome::LeaseUnknown {
                    problem: error.to_string(),
                }),
            };
            if let Some(outcome) = outcome {
                report.outcome = outcome;
                return Ok(());
            }
        }
        let facts = match self.parts.cloud.observe(now).await {
            Ok(facts) => facts,
            Err(problem) => {
                report.outcome = Outcome::Blind { problem };
                return Ok(());
            }
        };
        self.settle(&facts, now, report).await?;
        let span = self.rules.interval.saturating_mul(2);
        self.parts.journal.forget(now, span);
        let fleet = self.fleet(&facts, now, report);
        let (seen, verdict) = match self.decide(&facts, &fleet, now).await {
            Ok(decided) => decided,
            Err(problem) => {
                report.outcome = Outcome::Undecided { problem };
                return Ok(());
            }
        };
        let considered = self.consider(&facts, &fleet, &seen, &verdict, now, report);
        if self.rules.apply {
            self.act(considered, now, report).await
        } else {
            let tell = |c: Considered| {
                let state = if c.judged.1.is_some() {
                    "held"
                } else {
                    "would-act"
                };
                tell(&c, None, state, None)
            };
            report.actions = considered.into_iter().map(tell).collect();
            Ok(())
        }
    }

    fn blank(&self, now: Timestamp) -> Report {
        Report {
            schema: super::action::SCHEMA,
            interval: self.interval,
            at: now.to_string(),
            holder: self.parts.holder.clone(),
            outcome: if self.rules.apply {
                Outcome::Acted
            } else {
                Outcome::DryRun
            },
            hosts: Hosts::default(),
            price_usd_per_hour: 0.0,
            unknown_vms: Vec::new(),
            hosts_without_vm: Vec::new(),
            disputed_hosts: Vec::new(),
            drift: None,
            freeze: None,
            policy: None,
            fallback: None,
            expected: None,
            ended: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// Finds out which actions under way have ended.
    async fn settle(
        &mut self,
        facts: &Facts,
        now: Timestamp,
        report: &mut Report,
    ) -> Result<(), JournalError> {
        let open: Vec<Open> = self
            .parts
            .journal
            .ledger()
            .open()
            .values()
            .cloned()
            .collect();
        let mut polls = JoinSet::new();
        for (i, action) in open.iter().enumerate() {
            if let Some(operation) = action.operation.clone() {
                let cloud = Arc::clone(&self.parts.cloud);
                polls.spawn(async move { (i, cloud.progress(&operation).await) });
            }
        }
        let mut told = vec![Told::Nothing; open.len()];
        while let Some(ended) = polls.join_next().await {
            if let Ok((i, Some(progress))) = ended {
                told[i] = Told::Progress(progress);
            }
        }
        let mut entries = Vec::new();
        for (action, told) in open.iter().zip(&told) {
            let seen = seen(facts, &action.plan.target);
            let Some(end) = ending(action, seen, told, now, &self.rules.timing) else {
                continue;
            };
            let phase = if end.succeeded {
                Phase::Succeeded
            } else {
                Phase::Failed
            };
            entries.push(Entry::new(action.action, phase, end.detail.clone()));
            report.ended.push(Ended {
                action: action.action,
                name: action.plan.name.clone(),
                change: action.plan.change.to_string(),
                succeeded: end.succeeded,
                detail: end.detail,
            });
        }
        self.parts.journal.append(now, entries)
    }

    /// The fleet as it stands.
    fn fleet(&self, facts: &Facts, now: Timestamp, report: &mut Report) -> Fleet {
        let world = &self.parts.world;
        let mapping = Mapping::of(world, facts, &self.rules.matching, &self.rules.sets);
        let unknown = mapping.unknown.iter().cloned();
        report.unknown_vms = unknown
            .map(|(name, problem)| UnknownVm { name, problem })
            .collect();
        report.hosts_without_vm = mapping
            .missing()
            .map(|h| world.hosts[h.index()].name.clone())
            .collect();
        let ledger = self.parts.journal.ledger();
        let fleet = Fleet::of(world, facts, mapping, ledger, now, &self.rules.timing);
        report.hosts = Hosts {
            off: fleet.count(Standing::Off),
            booting: fleet.count(Standing::Booting),
            on: fleet.count(Standing::On),
            draining: fleet.count(Standing::Draining),
            stopped: fleet.count(Standing::Stopped),
            unknown: fleet.count(Standing::Unknown),
        };
        report.price_usd_per_hour = fleet.price_usd_per_hour();
        fleet
    }

    /// What is seen and decided.
    async fn decide(
        &mut self,
        facts: &Facts,
        fleet: &Fleet,
        now: Timestamp,
    ) -> Result<(Seeing, Verdict), String> {
        let document: Option<FleetView> = match &self.parts.state {
            None => None,
            Some(source) => Some(source.read(&self.parts.world).await?),
        };
        let since = now.duration_since(self.started).as_secs_f64();
        let sim = SimTime::from_seconds(since);
        let seen = seeing(&self.parts.world, facts, fleet, document, sim);
        let verdict = self.parts.brain.decide(&seen.view).await;
        let verdict = verdict.map_err(|error| error.to_string())?;
        Ok((seen, verdict))
    }

    /// From the decision to proposals that guardrails have judged.
    fn consider(
        &self,
        facts: &Facts,
        fleet: &Fleet,
        seen: &Seeing,
        verdict: &Verdict,
        now: Timestamp,
        report: &mut Report,
    ) -> Vec<Considered> {
        let world = &self.parts.world;
        let rails = &self.rules.guardrails;
        report.policy = Some(verdict.policy.clone());
        report.fallback.clone_from(&verdict.fallback);
        report.drift = drift(world, &seen.view, facts, fleet).unwrap_or_default();
        report.freeze = rails
            .closed(now)
            .or_else(|| freeze(rails, facts, fleet, report.drift, now));
        let name = |h: &twin::ids::HostId| world.hosts[h.index()].name.clone();
        report.disputed_hosts = seen.disputed.iter().map(name).collect();
        let mut wishes = Wishes::of(fleet, &verdict.decision, rails.minimum_on);
        for host in &seen.disputed {
            wishes.0[host.index()] = Wish::AsItIs;
        }
        let (list, _) = proposals(world, facts, fleet, &wishes);
        let situation = Situation {
            now,
            interval: self.rules.interval,
            fleet,
            ledger: self.parts.journal.ledger(),
            freeze: report.freeze.as_ref(),
        };
        let judged = rails.judge(&situation, list);
        let (whole, each) = price(world, seen, verdict, &judged);
        report.expected = whole;
        judged
            .into_iter()
            .zip(each)
            .map(|(judged, expected_gain_s)| Considered {
                decided_by: if judged.0.by_minimum {
                    "guardrail minimum-on".into()
                } else {
                    verdict.policy.clone()
                },
                judged,
                expected_gain_s,
            })
            .collect()
    }

    /// Writes down what will be done, does it, and writes down what became of it.
    async fn act(
        &mut self,
        considered: Vec<Considered>,
        now: Timestamp,
        report: &mut Report,
    ) -> Result<(), JournalError> {
        let (passed, held): (Vec<_>, Vec<_>) =
            considered.into_iter().partition(|c| c.judged.1.is_none());
        report
            .actions
            .extend(held.iter().map(|c| tell(c, None, "held", None)));
        for chunk in passed.chunks(self.rules.in_flight.max(1)) {
            if !self.parts.lease.is_held() {
                report.outcome = Outcome::Fenced;
                report
                    .actions
                    .extend(chunk.iter().map(|c| tell(c, None, "fenced", None)));
                continue;
            }
            let numbers = self.write_plans(chunk, now)?;
            let outcomes = self.submit(chunk, &numbers).await;
            let mut entries = Vec::new();
            for ((c, &number), outcome) in chunk.iter().zip(&numbers).zip(outcomes) {
                let (entry, state) = entry_of(number, outcome);
                let detail = entry.detail.clone();
                tracing::info!(
                    action = number,
                    vm = c.judged.0.name,
                    change = %c.judged.0.change,
                    state,
                    detail,
                    "acted"
                );
                report.actions.push(tell(c, Some(number), state, detail));
                entries.push(entry);
            }
            self.parts.journal.append((self.parts.clock)(), entries)?;
        }
        Ok(())
    }

    /// The numbers of the actions of `chunk`, which are on the disk now. What was under way on the
    /// same VMs gives way.
    fn write_plans(
        &mut self,
        chunk: &[Considered],
        now: Timestamp,
    ) -> Result<Vec<u64>, JournalError> {
        let ledger = self.parts.journal.ledger();
        let mut numbers = Vec::new();
        let mut entries = Vec::new();
        for (next, c) in (ledger.next_action()..).zip(chunk) {
            let proposal = &c.judged.0;
            if let Some(open) = ledger.open_on(&proposal.target) {
                let detail = format!("gave way to action {next}");
                entries.push(Entry::new(open.action, Phase::Failed, detail));
            }
            entries.push(Entry {
                action: next,
                phase: Phase::Planned,
                plan: Some(self.plan(c)),
                operation: None,
                detail: None,
            });
            numbers.push(next);
        }
        self.parts.journal.append(now, entries)?;
        Ok(numbers)
    }

    fn plan(&self, considered: &Considered) -> Plan {
        let proposal = &considered.judged.0;
        Plan {
            target: proposal.target.clone(),
            name: proposal.name.clone(),
            change: proposal.change,
            reason: reason(proposal, &considered.decided_by),
            decided_by: considered.decided_by.clone(),
            holder: self.parts.holder.clone(),
            interval: self.interval,
            price_change_usd_per_hour: proposal.price_change_usd_per_hour,
            expected_gain_s: considered.expected_gain_s,
        }
    }

    /// Submits the actions of `chunk` side by side.
    async fn submit(&self, chunk: &[Considered], numbers: &[u64]) -> Vec<Submission> {
        let mut tasks = JoinSet::new();
        for (i, c) in chunk.iter().enumerate() {
            let cloud = Arc::clone(&self.parts.cloud);
            let (target, change) = (c.judged.0.target.clone(), c.judged.0.change);
            tasks.spawn(async move { (i, cloud.submit(&target, change).await) });
        }
        let lost = |number| Submission::Unknown {
            reason: format!("the submission of action {number} broke off"),
        };
        let mut outcomes: Vec<Submission> = numbers.iter().map(lost).collect();
        while let Some(ended) = tasks.join_next().await {
            if let Ok((i, outcome)) = ended {
                outcomes[i] = outcome;
            }
        }
        outcomes
    }
}

/// What is seen of `target`.
fn seen(facts: &Facts, target: &ResourceId) -> Seen {
    use super::facts::Power;
    if let Some(set) = facts.sets.get(target) {
        let capacity = set.capacity;
        return Seen::Set { capacity };
    }
    match facts.vms.get(target) {
        None => Seen::Gone,
        Some(vm) if vm.power == Power::Unknown => Seen::Nothing,
        Some(vm) => Seen::Vm(vm.power),
    }
}

/// Why the whole fleet is left as it is, by what is measured.
fn freeze(
    rails: &Guardrails,
    facts: &Facts,
    fleet: &Fleet,
    drift: Option<f64>,
    now: Timestamp,
) -> Option<Freeze> {
    if let Some(limit_s) = rails.maximum_metric_age_s {
        let running = fleet.mapping.seats.iter().zip(&fleet.standings);
        let ages: Vec<Option<f64>> = running
            .filter(|(_, standing)| **standing == Standing::On)
            .filter_map(|(seat, _)| match seat {
                super::mapping::Seat::Vm(id) => facts.vms.get(id),
                _ => None,
            })
            .map(|vm| vm.metric_age_s(now))
            .collect();
        // A VM that has just started has no metric yet: what freezes is that none is fresh.
        let newest = ages.iter().flatten().copied().reduce(f64::min);
        if !ages.is_empty() && newest.is_none_or(|age| age > limit_s) {
            let age_s = newest;
            return Some(Freeze::StaleMetrics { age_s, limit_s });
        }
    }
    match (drift, rails.maximum_drift) {
        (Some(drift), Some(limit)) if drift > limit => Some(Freeze::Drift { drift, limit }),
        _ => None,
    }
}

/// What the twin expects of the decision, and of each of the proposals.
fn price(
    world: &World,
    seen: &Seeing,
    verdict: &Verdict,
    judged: &[Judged],
) -> (Option<Expected>, Vec<Option<f64>>) {
    let groups: Vec<_> = judged
        .iter()
        .map(|(proposal, _)| proposal.hosts.iter().map(|(h, _)| *h).collect())
        .collect();
    if groups.is_empty() {
        return (None, Vec::new());
    }
    match expected(world, &seen.view, &verdict.decision, &groups) {
        Ok((whole, each)) => (Some(whole), each),
        Err(error) => {
            tracing::warn!(%error, "the decision has no price");
            (None, vec![None; judged.len()])
        }
    }
}

fn reason(proposal: &Proposal, decided_by: &str) -> String {
    let on = proposal.hosts.iter().filter(|(_, on)| *on).count();
    let off = proposal.hosts.len() - on;
    match (on, off) {
        (1, 0) => format!("{decided_by}: turn the host on"),
        (0, 1) => format!("{decided_by}: turn the host off"),
        _ => format!("{decided_by}: turn {on} hosts on and {off} off"),
    }
}

/// The entry for what became of an action, and its name in reports.
fn entry_of(number: u64, outcome: Submission) -> (Entry, &'static str) {
    match outcome {
        Submission::Accepted { operation } => {
            let mut entry = Entry::new(number, Phase::Submitted, "accepted");
            entry.operation = operation;
            (entry, "submitted")
        }
        Submission::Done => (
            Entry::new(number, Phase::Succeeded, "done at once"),
            "succeeded",
        ),
        Submission::Refused { reason } => (Entry::new(number, Phase::Failed, reason), "failed"),
        Submission::Unknown { reason } => (Entry::new(number, Phase::Unknown, reason), "unknown"),
    }
}

fn tell(
    considered: &Considered,
    action: Option<u64>,
    state: &'static str,
    detail: Option<String>,
) -> ActionReport {
    let (proposal, rail) = &considered.judged;
    ActionReport {
        action,
        name: proposal.name.clone(),
        change: proposal.change.to_string(),
        reason: reason(proposal, &considered.decided_by),
        price_change_usd_per_hour: proposal.price_change_usd_per_hour,
        expected_gain_s: considered.expected_gain_s,
        state,
        guardrail: rail.as_ref().map(super::guard::Rail::name),
        detail: detail.or_else(|| rail.as_ref().map(ToString::to_string)),
    }
}

#[cfg(test)]
mod tests;
