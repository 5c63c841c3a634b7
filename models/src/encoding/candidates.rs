//! Features of the candidates, kind by kind.

use twin::estimate::{self, Asked, Placement};
use twin::ids::HostId;
use twin::policy::greedy;
use twin::sequence::{Context, VariantOption};
use twin::world::{Application, Fragment};

use super::fleet::{Fleet, log_load};
use super::scale::{Scale, fine, fit, flag, log_ratio, log1p, over};
use super::{Encoded, MOST_PLACES, NO_HOST};

/// Names of the features of an answer to "which host to turn over next".
///
/// Loads, backlog and penalties are those after the answer; differences are against turning over
/// none. `steady` is the penalty of the greedy policy's steady state.
pub const POWER_FEATURES: [&str; 22] = [
    "none",
    "turns_on",
    "turns_off",
    "log_load_2s",
    "log_load_10s",
    "log_load_60s",
    "worst_load",
    "log1p_stretch",
    "log1p_backlog_s",
    "backlog_per_deadline",
    "idle_change_per_host",
    "fine_idle_change",
    "idle_change_per_fleet",
    "speed_share",
    "steady_change_per_host",
    "fine_steady_change",
    "steady_over_least_per_host",
    "fine_steady_over_least",
    "greedy",
    "log1p_ready_s",
    "ready_per_interval",
    "again",
];

/// Names of the features of a variant, in its greedy placement.
pub const VARIANT_FEATURES: [&str; 24] = [
    "accuracy",
    "accuracy_penalty",
    "accuracy_below_best",
    "most_accurate",
    "log_answer_per_deadline",
    "answer_per_deadline",
    "slack_per_deadline",
    "late",
    "late_penalty",
    "response_penalty",
    "over_least",
    "fine_over_least",
    "greedy",
    "log_fragments",
    "hosts_per_fragment",
    "log_alone_per_deadline",
    "log_work_per_most",
    "work_penalty",
    "log1p_delay_per_deadline",
    "wait_per_deadline",
    "inputs_per_deadline",
    "age_per_deadline",
    "log_context_per_mean",
    "others_least",
];

/// Names of the features of a host for a fragment.
pub const PLACE_FEATURES: [&str; 26] = [
    "inputs_per_deadline",
    "wait_per_deadline",
    "run_per_deadline",
    "log_end_per_deadline",
    "slack_per_deadline",
    "end_over_least",
    "late",
    "late_over_planned",
    "late_penalty",
    "delay_per_deadline",
    "log1p_delay_s",
    "over_least",
    "fine_over_least",
    "hurried_over_least",
    "fine_hurried_over_least",
    "greedy",
    "work_penalty",
    "log_alone_per_deadline",
    "load_after_per_deadline",
    "same_host",
    "fits_now",
    "empty",
    "last",
    "share_placed",
    "age_per_deadline",
    "accuracy_penalty",
];

/// Adds the answer at position `answer` to the candidates.
fn push<const N: usize>(
    out: &mut Encoded,
    answer: usize,
    host: Option<HostId>,
    features: [f64; N],
) {
    out.answers
        .push(u32::try_from(answer).expect("answers are bounded by the world's limits"));
    out.candidates.extend(features.map(fit));
    out.candidate_hosts
        .push(host.map_or(NO_HOST, |host| host.0));
}

/// Encodes the answers to "which host to turn over next".
pub(super) fn power(
    context: &Context<'_>,
    scale: &Scale,
    fleet: &Fleet,
    answers: &[Option<HostId>],
    out: &mut Encoded,
) {
    let world = context.observation.world();
    let steady = greedy::Fleet::new(world, context.loads, context.demand_mips);
    let none = steady.after(context.loads, None) - greedy::LEAST_GAIN;
    let penalty = |answer: Option<HostId>| match answer {
        None => none,
        Some(_) => steady.after(context.loads, answer),
    };
    let (best, least) = least(answers.iter().map(|answer| penalty(*answer)));
    let hosts = context.loads.hosts().len() as f64;
    for (i, answer) in answers.iter().enumerate() {
        let load = answer.map(|host| &context.loads.hosts()[host.index()]);
        let sign = load.map_or(0.0, |load| if load.accepts { -1.0 } else { 1.0 });
        let moved_mips = load.map_or(0.0, |load| sign * load.speed_mips);
        let idle = load.map_or(0.0, |load| sign * load.idle_penalty_per_s);
        let ready_s = match (load, answer) {
            (Some(load), Some(host)) if !load.billed => world.size_of(host.index()).boot.seconds(),
            (Some(load), _) => load.ready_s,
            _ => 0.0,
        };
        let after_mips = fleet.accepting_mips + moved_mips;
        let loads = context.demand_mips.map(|demand| over(demand, after_mips));
        let worst = loads[1].max(loads[2]);
        let backlog_s = over(fleet.left_mi, after_mips);
        let change = penalty(*answer) - none;
        let above = penalty(*answer) - least;
        let again = context
            .decision
            .provisioning
            .last()
            .is_some_and(|a| a.on == (sign > 0.0));
        push(
            out,
            i,
            *answer,
            [
                flag(answer.is_none()),
                flag(sign > 0.0),
                flag(sign < 0.0),
                log_load(loads[0]),
                log_load(loads[1]),
                log_load(loads[2]),
                worst,
                log1p(1.0 / (1.0 - worst.min(0.98))),
                log1p(backlog_s),
                backlog_s / scale.deadline_s,
                scale.per_host(idle),
                fine(idle),
                over(idle, scale.idle_penalty * hosts),
                over(moved_mips, fleet.accepting_mips),
                scale.per_host(change),
                fine(change),
                scale.per_host(above),
                fine(above),
                flag(i == best),
                log1p(ready_s),
                ready_s / world.interval.seconds(),
                flag(again && answer.is_some()),
            ],
        );
    }
}

/// Encodes the variants of a request.
pub(super) fn variant(
    context: &Context<'_>,
    scale: &Scale,
    asked: &Asked,
    options: &[VariantOption],
    out: &mut Encoded,
) {
    let world = context.observation.world();
    let objective = &world.objective;
    let application = &world.applications[asked.application.index()];
    let request = Request::of(application, asked);
    let accuracy = |o: &VariantOption| application.variants[o.variant.index()].accuracy;
    let fragments = |o: &VariantOption| application.variants[o.variant.index()].fragments.iter();
    let work = |o: &VariantOption| -> f64 {
        fragments(o)
            .map(|f| estimate::fresh_mi(world, asked, f))
            .sum()
    };
    let (best, least_penalty) = least(options.iter().map(|o| o.penalty));
    let most_accurate = options.iter().map(accuracy).fold(0.0, f64::max);
    let most_work = options.iter().map(work).fold(0.0, f64::max);
    for (i, option) in options.iter().enumerate() {
        let others = options
            .iter()
            .enumerate()
            .filter(|(j, _)| *j != i)
            .map(|(_, o)| o.penalty);
        let others_least = least(others).1;
        let sum = |value: fn(&Placement) -> f64| option.placements.iter().map(value).sum::<f64>();
        let above = scale.per_request(option.penalty - least_penalty);
        let work_penalty: f64 = fragments(option)
            .zip(&option.hosts)
            .map(|(fragment, host)| {
                let load = &context.loads.hosts()[host.index()];
                load.work_penalty_per_mi * estimate::fresh_mi(world, asked, fragment)
            })
            .sum();
        let count = option.hosts.len() as f64;
        push(
            out,
            i,
            option.hosts.first().copied(),
            [
                accuracy(option),
                scale.per_request((1.0 - accuracy(option)) * objective.per_inaccuracy()),
                accuracy(option) - most_accurate,
                flag(accuracy(option) >= most_accurate),
                log_ratio(option.answer_s, request.deadline_s),
                option.answer_s / request.deadline_s,
                request.left_share - option.answer_s / request.deadline_s,
                option.late,
                scale.per_request(option.late * objective.per_late_request()),
                scale.per_request(option.answer_s * objective.per_response_second()),
                above,
                fine(above),
                flag(i == best),
                log_ratio(count, 1.0),
                distinct(&option.hosts) as f64 / count.max(1.0),
                log_ratio(work(option) / scale.vcpu_mips, request.deadline_s),
                log_ratio(over(work(option), most_work), 1.0),
                scale.per_request(work_penalty),
                log1p(sum(|p| p.delay_others_s) / request.deadline_s),
                sum(|p| p.wait_s) / request.deadline_s,
                option.placements.first().map_or(0.0, |p| p.inputs_s) / request.deadline_s,
                request.age_share,
                log_ratio(
                    1.0 + f64::from(asked.context_tokens),
                    1.0 + application.mean_context_tokens,
                ),
                if options.len() > 1 {
                    scale.per_request(option.penalty - others_least)
                } else {
                    0.0
                },
            ],
        );
    }
}

/// The fragment that is placed next.
#[derive(Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) asked: &'a Asked,
    pub(super) option: &'a VariantOption,
    pub(super) placed: &'a [HostId],
}

/// Encodes the hosts for a fragment.
pub(super) fn place(
    context: &Context<'_>,
    scale: &Scale,
    piece: Piece<'_>,
    candidates: &[(HostId, Placement)],
    shortlist: &mut Shortlist,
    out: &mut Encoded,
) {
    let Piece {
        asked,
        option,
        placed,
    } = piece;
    let world = context.observation.world();
    let objective = &world.objective;
    let application = &world.applications[asked.application.index()];
    let request = Request::of(application, asked);
    let variant = &application.variants[option.variant.index()];
    let fragment = &variant.fragments[placed.len()];
    let work_mi = estimate::fresh_mi(world, asked, fragment);
    let cap = world.caps[fragment.cap];
    let rest = Rest::of(&variant.fragments, option, placed.len());
    let hurry = objective.per_late_request() / request.deadline_s;
    let hurried = |host: HostId, p: &Placement| {
        p.penalty
            + hurry * (p.end_s() + p.delay_others_s)
            + objective.per_response_second() * context.loads.hosts()[host.index()].user_latency_s
    };
    let best = Best::of(candidates, option.hosts[placed.len()], hurried);
    let share = |seconds: f64| seconds / request.deadline_s;
    let accuracy_penalty = scale.per_request((1.0 - variant.accuracy) * objective.per_inaccuracy());
    shorten(candidates, best.greedy, shortlist);
    for &(_, i) in &*shortlist {
        let (host, placement) = &candidates[i as usize];
        let load = &context.loads.hosts()[host.index()];
        let end_s = placement.end_s();
        let answer_s = rest.answer_s(end_s);
        let late =
            estimate::late_probability(world, asked, option.variant, answer_s, load.user_latency_s);
        let above = scale.per_request(placement.penalty - best.penalty);
        let hurried_above = scale.per_request(hurried(*host, placement) - best.hurried);
        push(
            out,
            i as usize,
            Some(*host),
            [
                share(placement.inputs_s),
                share(placement.wait_s),
                share(placement.run_s),
                log_ratio(share(end_s), 1.0),
                request.left_share - share(answer_s + load.user_latency_s),
                share(end_s - best.end_s),
                late,
                late - option.late,
                scale.per_request(late * objective.per_late_request()),
                share(placement.delay_others_s),
                log1p(placement.delay_others_s),
                above,
                fine(above),
                hurried_above,
                fine(hurried_above),
                flag(i as usize == best.greedy),
                scale.per_request(load.work_penalty_per_mi * work_mi),
                log_ratio(
                    work_mi / (cap.min(load.vcpus) * load.vcpu_mips),
                    request.deadline_s,
                ),
                share((load.left_mi + work_mi) / load.speed_mips),
                flag(placed.contains(host)),
                flag(fragment.ram.0 <= load.ram_free_mib && load.ready_s <= 0.0),
                flag(load.count <= 0.0),
                flag(placed.len() + 1 == option.hosts.len()),
                placed.len() as f64 / option.hosts.len() as f64,
                request.age_share,
                accuracy_penalty,
            ],
        );
    }
}

/// Penalties and positions of candidates.
pub(super) type Shortlist = Vec<(f64, u32)>;

/// Leaves in `shortlist` the positions of the [`MOST_PLACES`] candidates of least penalty, the
/// first of equals, with `greedy` among them.
fn shorten(candidates: &[(HostId, Placement)], greedy: usize, shortlist: &mut Shortlist) {
    shortlist.clear();
    shortlist.extend(candidates.iter().zip(0..).map(|((_, p), i)| (p.penalty, i)));
    if shortlist.len() > MOST_PLACES {
        shortlist.select_nth_unstable_by(MOST_PLACES - 1, |a, b| {
            a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
        });
        let of_greedy = shortlist.iter().position(|(_, i)| *i as usize == greedy);
        if let Some(at) = of_greedy.filter(|at| *at >= MOST_PLACES) {
            shortlist.swap(MOST_PLACES - 1, at);
        }
        shortlist.truncate(MOST_PLACES);
        shortlist.sort_unstable_by_key(|(_, i)| *i);
    }
}

/// What the candidates for a fragment are held against.
struct Best {
    /// Position of the greedy answer.
    greedy: usize,
    penalty: f64,
    hurried: f64,
    end_s: f64,
}

impl Best {
    fn of(
        candidates: &[(HostId, Placement)],
        wanted: HostId,
        hurried: impl Fn(HostId, &Placement) -> f64,
    ) -> Self {
        let (cheapest, penalty) = least(candidates.iter().map(|(_, p)| p.penalty));
        let greedy = candidates.iter().position(|(host, _)| *host == wanted);
        Self {
            greedy: greedy.unwrap_or(cheapest),
            penalty,
            hurried: least(candidates.iter().map(|(host, p)| hurried(*host, p))).1,
            end_s: least(candidates.iter().map(|(_, p)| p.end_s())).1,
        }
    }
}

/// What the features need of a request.
struct Request {
    deadline_s: f64,
    age_share: f64,
    left_share: f64,
}

impl Request {
    fn of(application: &Application, asked: &Asked) -> Self {
        let deadline_s = application.deadline.seconds();
        let age_share = asked.age_s / deadline_s;
        Self {
            deadline_s,
            age_share,
            left_share: 1.0 - age_share,
        }
    }
}

/// What comes after a fragment, as the greedy placement has it.
enum Rest {
    /// Others that the users wait for end at this time from now, in s.
    Beside(f64),
    /// Its successors take this long, in s.
    Then(f64),
}

impl Rest {
    fn of(fragments: &[Fragment], option: &VariantOption, index: usize) -> Self {
        let sinks = option.placements.iter().zip(fragments).enumerate();
        let end_s = |skip: usize| {
            sinks
                .clone()
                .filter(|(i, (_, fragment))| *i != skip && fragment.successors.is_empty())
                .map(|(_, (placement, _))| placement.end_s())
                .fold(0.0, f64::max)
        };
        if fragments[index].successors.is_empty() {
            Self::Beside(end_s(index))
        } else {
            Self::Then((end_s(index) - option.placements[index].end_s()).max(0.0))
        }
    }

    /// When the last fragment ends if this one ends at `end_s`, from now, in s.
    fn answer_s(&self, end_s: f64) -> f64 {
        match self {
            Self::Beside(others_s) => end_s.max(*others_s),
            Self::Then(more_s) => end_s + more_s,
        }
    }
}

fn distinct(hosts: &[HostId]) -> usize {
    (0..hosts.len())
        .filter(|&i| !hosts[..i].contains(&hosts[i]))
        .count()
}

/// The position and the value of the least; the first of equals.
fn least(values: impl Iterator<Item = f64>) -> (usize, f64) {
    let mut best = (0, f64::INFINITY);
    for (i, value) in values.enumerate() {
        if value < best.1 {
            best = (i, value);
        }
    }
    best
}
