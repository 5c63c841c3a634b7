//! Quick estimates: what a placement would mean, without simulating it.
//!
//! Each host is reduced to a [`HostLoad`]: speed, memory, what is left on it and how many fragments
//! share it. Under processor sharing a fragment of work `w` that meets `n` others with `b` left in
//! sum takes about
//!
//! ```text
//! T = max(w / cap, (w + min(b, n · w)) / speed)
//! ```
//!
//! since each other fragment takes at most as much service as the new one while both are there.
//! By the same argument the others together are delayed by about `min(b, n · w) / speed` once the
//! host is saturated. These are the features of the policy and the rule of the rollouts; the
//! oracle's values come from the twin itself.

use crate::demand::{self, Known};
use crate::host::Lifecycle;
use crate::ids::{ApplicationId, HostId, VariantId};
use crate::objective::Objective;
use crate::observation::Observation;
use crate::state::State;
use crate::workload::{RATE_WINDOWS, RATE_WINDOWS_S};
use crate::world::{Fragment, World};

/// A host, as far as estimates need it, with what is planned in the decision under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HostLoad {
    /// Whether fragments may be placed on it.
    pub accepts: bool,
    /// Whether it is billed.
    pub billed: bool,
    /// Time until it serves, in s; zero if it serves.
    pub ready_s: f64,
    /// Speed of the whole host, in MIPS.
    pub speed_mips: f64,
    /// Speed of one virtual CPU, in MIPS.
    pub vcpu_mips: f64,
    /// Virtual CPUs.
    pub vcpus: f64,
    /// Memory that is neither held nor spoken for, in MiB; negative where fragments queue.
    pub ram_free_mib: f64,
    /// All its memory, in MiB.
    pub ram_mib: f64,
    /// Models that are loaded or being loaded, a bit each.
    pub models: u64,
    /// Fragments placed on it.
    pub count: f64,
    /// Work left of these, in MI.
    pub left_mi: f64,
    /// One-way latency to the users, in s.
    pub user_latency_s: f64,
    /// Network bandwidth, in bit/s.
    pub network_bps: f64,
    /// Time to carry one byte, in s.
    pub byte_s: f64,
    /// Time of the whole host for one MI, in s.
    pub mi_s: f64,
    /// Penalty of a second on and idle (see [`crate::objective`]).
    pub idle_penalty_per_s: f64,
    /// Penalty of the energy of one MI of work.
    pub work_penalty_per_mi: f64,
}

/// What placing one fragment would mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Placement {
    /// Time from now until it has its inputs, in s.
    pub inputs_s: f64,
    /// Time it then waits for the boot or for memory, in s.
    pub wait_s: f64,
    /// Time it then runs, in s.
    pub run_s: f64,
    /// Time by which the other fragments on the host are delayed in sum, in s.
    pub delay_others_s: f64,
    /// Penalty of its time, of the delays and of its energy, without lateness and accuracy.
    pub penalty: f64,
}

impl Placement {
    /// Time from now until it ends, in s.
    #[must_use]
    pub fn end_s(&self) -> f64 {
        self.inputs_s + self.wait_s + self.run_s
    }
}

/// A fragment to be placed, as far as estimates need it.
#[derive(Clone, Copy, Debug)]
pub struct Task<'a> {
    /// What it is.
    pub fragment: &'a Fragment,
    /// Its expected work, in MI.
    pub work_mi: f64,
    /// Bytes it receives.
    pub input_bytes: f64,
    /// When its last input leaves, from now, in s, and from where.
    pub source: Source,
}

/// Where the input of a fragment comes from, and when.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// From the users, now.
    User,
    /// From a fragment that ends on `host` at `at_s` from now.
    Host {
        /// Where the predecessor runs.
        host: usize,
        /// When it ends, from now, in s.
        at_s: f64,
    },
}

/// A waiting request, as far as estimates need it.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// What it asks for.
    pub application: ApplicationId,
    /// Time it has waited, in s.
    pub age_s: f64,
    /// Length of its input, in tokens.
    pub context_tokens: u32,
}

/// The loads of all hosts in one situation.
#[derive(Clone, Debug, Default)]
pub struct Loads {
    hosts: Vec<HostLoad>,
    /// The hosts as they are when idle, and the world and objective that these follow from.
    idle: Vec<HostLoad>,
    of: Option<(String, Objective)>,
}

impl Loads {
    /// The load of each host, in the world's order.
    #[must_use]
    pub fn hosts(&self) -> &[HostLoad] {
        &self.hosts
    }

    /// Takes the loads from what is observed: work left is what is expected.
    pub fn observe(&mut self, observation: &Observation<'_>) {
        let (world, state) = (observation.world(), observation.state());
        self.prepare(world);
        self.hosts.clear();
        let unmet = world.objective.per_unmet_vcpu_second();
        for h in 0..observation.host_count() {
            let mut load = fixed(&self.idle[h], state, h, unmet);
            for resident in observation.residents(HostId::at(h)) {
                load.left_mi += resident.expected_left_mi;
                if !resident.phase.holds_memory() {
                    load.ram_free_mib -= resident.fragment.ram.0;
                }
            }
            self.hosts.push(load);
        }
    }

    /// Takes the loads of `hosts` from what is observed; the others stay as they are, which is idle
    /// where they were never taken.
    pub(crate) fn refresh(&mut self, observation: &Observation<'_>, hosts: &[HostId]) {
        let (world, state) = (observation.world(), observation.state());
        self.prepare(world);
        if self.hosts.len() != self.idle.len() {
            self.hosts.clone_from(&self.idle);
        }
        let unmet = world.objective.per_unmet_vcpu_second();
        for &host in hosts {
            let h = host.index();
            let mut load = fixed(&self.idle[h], state, h, unmet);
            for resident in observation.residents(host) {
                load.left_mi += resident.expected_left_mi;
                if !resident.phase.holds_memory() {
                    load.ram_free_mib -= resident.fragment.ram.0;
                }
            }
            self.hosts[h] = load;
        }
    }

    /// Takes the loads from a sampled state, whose work left is taken to be known.
    pub(crate) fn sample(&mut self, world: &World, state: &State) {
        self.prepare(world);
        self.hosts.clear();
        let unmet = world.objective.per_unmet_vcpu_second();
        for (h, host) in state.hosts.iter().enumerate() {
            let mut load = fixed(&self.idle[h], state, h, unmet);
            if load.count > 0.0 {
                // Virtual work stands at the time of the host's last event.
                let since = state.now.since(host.updated).seconds();
                load.left_mi = (host.left_mi() - host.fragments_mips() * since).max(0.0);
                for &slot in &host.queue {
                    load.ram_free_mib -= ram_of(world, state, slot);
                }
            }
            self.hosts.push(load);
        }
    }

    /// Computes the idle loads, unless they are those of `world` already.
    fn prepare(&mut self, world: &World) {
        let known = self
            .of
            .as_ref()
            .is_some_and(|(hash, objective)| *hash == world.hash && *objective == world.objective);
        if !known {
            self.idle = (0..world.hosts.len()).map(|h| idle(world, h)).collect();
            self.of = Some((world.hash.clone(), world.objective));
        }
    }

    /// Turns a host on or off in the plan.
    pub fn plan_power(&mut self, world: &World, host: usize, on: bool) {
        let load = &mut self.hosts[host];
        load.accepts = on;
        if on && !load.billed {
            load.billed = true;
            load.ready_s = world.size_of(host).boot.seconds();
        } else if !on && load.count <= 0.0 {
            load.billed = false;
        }
    }

    /// Adds a fragment to a host in the plan.
    pub fn plan_fragment(&mut self, host: usize, work_mi: f64, ram_mib: f64) {
        let load = &mut self.hosts[host];
        load.count += 1.0;
        load.left_mi += work_mi;
        load.ram_free_mib -= ram_mib;
    }

    /// What placing `task` on `host` would mean; `None` if the host takes no fragments or the
    /// fragment can never fit.
    #[must_use]
    #[inline]
    pub fn place(&self, world: &World, task: &Task<'_>, host: usize) -> Option<Placement> {
        let load = &self.hosts[host];
        let mut ram_mib = task.fragment.ram.0;
        let mut load_s = 0.0;
        if let Some(id) = task.fragment.model
            && load.models & (1 << id.index()) == 0
        {
            let model = &world.models[id.index()];
            ram_mib += model.ram.0;
            load_s = model.load.seconds();
        }
        if !load.accepts || ram_mib > load.ram_mib {
            return None;
        }
        let inputs_s = match task.source {
            Source::User => load.user_latency_s + task.input_bytes * load.byte_s,
            Source::Host { host: from, at_s } if from == host => at_s,
            Source::Host { host: from, at_s } => {
                let link = world.link(world.hosts[from].site, world.hosts[host].site);
                let bps = load.network_bps.min(self.hosts[from].network_bps);
                at_s + link.latency.seconds()
                    + task.input_bytes * 8.0 / bps.min(link.bandwidth.0 * 1e6)
            }
        };
        let mut wait_s = (load.ready_s - inputs_s).max(0.0) + load_s;
        if ram_mib > load.ram_free_mib && load.count > 0.0 {
            // Memory comes back as work is done; held memory is spread evenly over the work.
            let missing = ram_mib - load.ram_free_mib;
            let held = (load.ram_mib - load.ram_free_mib).max(missing);
            wait_s += load.left_mi * load.mi_s * missing / held;
        }
        let cap_mips = world.caps[task.fragment.cap].min(load.vcpus) * load.vcpu_mips;
        let w = task.work_mi;
        let shared = load.left_mi.min(load.count * w);
        let alone_s = w / cap_mips;
        let shared_s = (w + shared) * load.mi_s;
        let run_s = alone_s.max(shared_s);
        // Below saturation nobody is delayed; above, the part of the work that did not fit.
        let saturated = (load.count + 1.0) * cap_mips > load.speed_mips;
        let delay_others_s = if saturated && shared > 0.0 {
            let pressed = (1.0 - alone_s / shared_s).max(0.0);
            shared * load.mi_s * (0.5 + 0.5 * pressed)
        } else {
            0.0
        };
        let objective = &world.objective;
        let time_s = inputs_s + wait_s + run_s - source_s(task.source);
        let penalty = objective.per_response_second() * (time_s + delay_others_s)
            + load.work_penalty_per_mi * w;
        Some(Placement {
            inputs_s,
            wait_s,
            run_s,
            delay_others_s,
            penalty,
        })
    }
}

fn source_s(source: Source) -> f64 {
    match source {
        Source::User => 0.0,
        Source::Host { at_s, .. } => at_s,
    }
}

fn ram_of(world: &World, state: &State, slot: u32) -> f64 {
    let run = &state.fragments[slot as usize];
    let request = &state.requests[run.request as usize];
    request.deployed.map_or(0.0, |d| {
        world.variant(request.application, d.variant).fragments[usize::from(run.index)]
            .ram
            .0
    })
}

/// The load of a host that is on and empty: what follows from the world alone.
fn idle(world: &World, h: usize) -> HostLoad {
    let size = world.size_of(h);
    let objective = &world.objective;
    let idle_w = size.power.at(0.0).0;
    let speed_mips = size.capacity().0;
    HostLoad {
        accepts: true,
        billed: true,
        ready_s: 0.0,
        speed_mips,
        vcpu_mips: size.mips_per_vcpu.0,
        vcpus: size.vcpus,
        ram_free_mib: size.ram.0,
        models: 0,
        ram_mib: world.ram_for_fragments(h).0,
        count: 0.0,
        left_mi: 0.0,
        user_latency_s: world.sites[world.hosts[h].site.index()]
            .user_latency
            .seconds(),
        network_bps: size.network.0 * 1e6,
        byte_s: 8.0 / (size.network.0 * 1e6),
        mi_s: 1.0 / speed_mips,
        idle_penalty_per_s: world.penalty_per_joule(h) * idle_w
            + objective.per_usd() * world.price_usd_per_second(h),
        work_penalty_per_mi: world.penalty_per_joule(h) * (size.power.at(1.0).0 - idle_w)
            / speed_mips,
    }
}

/// The part of a load that is known exactly.
fn fixed(idle: &HostLoad, state: &State, h: usize, unmet_penalty_per_vcpu: f64) -> HostLoad {
    let host = &state.hosts[h];
    let mut load = HostLoad {
        accepts: host.lifecycle.accepts(),
        billed: host.lifecycle.billed(),
        ready_s: match host.lifecycle {
            Lifecycle::Booting { ready_at } => ready_at.since(state.now).seconds(),
            _ => 0.0,
        },
        // Models that nothing uses give way.
        ram_free_mib: host.obtainable_mib(None),
        models: host
            .models
            .iter()
            .fold(0, |bits, m| bits | (1 << m.model.index())),
        count: host.resident.len() as f64,
        ..*idle
    };
    if !host.containers.is_empty() {
        let (wanted_mips, left_mips) = host.beside_containers(idle.speed_mips);
        load.speed_mips = left_mips;
        load.mi_s = 1.0 / left_mips;
        // Turning the host off would leave all of that unmet.
        let wanted_vcpus = wanted_mips.min(idle.speed_mips) / idle.vcpu_mips;
        load.idle_penalty_per_s -= unmet_penalty_per_vcpu * wanted_vcpus;
    }
    load
}

/// Expected work of a fragment that has not started, in MI.
#[must_use]
pub fn fresh_mi(world: &World, asked: &Asked, fragment: &Fragment) -> f64 {
    demand::expected_mi(world, asked.application.index(), fragment, fresh(asked))
}

fn fresh(asked: &Asked) -> Known {
    Known {
        context_tokens: asked.context_tokens,
        generated_tokens: None,
        attained_mi: 0.0,
    }
}

/// Output of a fragment, in bytes, with the expected number of generated tokens.
#[must_use]
pub fn output_bytes(world: &World, asked: &Asked, fragment: &Fragment) -> f64 {
    let generated = world.applications[asked.application.index()]
        .generated_tokens
        .as_deref()
        .map_or(0.0, |d| d.mean_given_exceeds(-1.0));
    let tokens = f64::from(asked.context_tokens) + generated;
    fragment.output_bytes + fragment.output_bytes_per_token * tokens
}

/// The task of placing fragment `index` of a variant, given where and when its predecessors end:
/// `ends[p]` is the host and the time from now, in s.
#[must_use]
pub fn task<'a>(
    world: &'a World,
    asked: &Asked,
    variant: VariantId,
    index: usize,
    ends: &[(usize, f64)],
) -> Task<'a> {
    let application = &world.applications[asked.application.index()];
    let fragments = &application.variants[variant.index()].fragments;
    let fragment = &fragments[index];
    let mut source = Source::User;
    let mut input_bytes = application.input_bytes
        + application.input_bytes_per_context_token * f64::from(asked.context_tokens);
    for &p in &fragment.predecessors {
        let (host, at_s) = ends[p];
        let later = match source {
            Source::User => true,
            Source::Host { at_s: t, .. } => at_s > t,
        };
        if later {
            source = Source::Host { host, at_s };
            input_bytes = output_bytes(world, asked, &fragments[p]);
        }
    }
    Task {
        fragment,
        work_mi: fresh_mi(world, asked, fragment),
        input_bytes,
        source,
    }
}

/// Probability that a request is late if its variant's last fragment ends at `end_s` from now, by
/// the distribution of the work of its first fragment.
#[must_use]
pub fn late_probability(
    world: &World,
    asked: &Asked,
    variant: VariantId,
    end_s: f64,
    latency_s: f64,
) -> f64 {
    let application = &world.applications[asked.application.index()];
    let left_s = application.deadline.seconds() - asked.age_s - latency_s;
    if left_s <= 0.0 || end_s <= 0.0 {
        return if left_s <= 0.0 { 1.0 } else { 0.0 };
    }
    let fragment = &application.variants[variant.index()].fragments[0];
    let mean = fresh_mi(world, asked, fragment);
    let bound_mi = mean * left_s / end_s;
    demand::exceeds(
        world,
        asked.application.index(),
        fragment,
        fresh(asked),
        bound_mi,
    )
}

/// Work that arrives per second by the decayed rates, in MIPS, one a time constant: the most
/// accurate variant of each application, with typical tokens.
#[must_use]
pub fn demand_mips(world: &World, rates: impl Iterator<Item = [f64; RATE_WINDOWS]>) -> [f64; 3] {
    let mut total = [0.0; RATE_WINDOWS_S.len()];
    for (a, rate) in rates.enumerate() {
        let work = world.typical_mi[a];
        for (sum, r) in total.iter_mut().zip(rate) {
            *sum += r * work;
        }
    }
    total
}
