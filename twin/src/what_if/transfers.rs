//! Messages that cross the network side by side, apart from everything else.
//!
//! Between a placement or the end of a fragment and an arrival, messages act on each other alone:
//! a *group* of messages that is closed, so that no other message shares a resource with one of
//! them at the same time, takes the course that it takes in the whole network.

use super::baseline::{Course, Message, NONE, Source, position};
use super::incremental::Change;
use crate::network::{self, Delivery, Network, Transfer};
use crate::units::SimTime;
use crate::world::World;

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) message: u32,
    pub(super) start: SimTime,
    pub(super) end: SimTime,
}

impl Run {
    pub(super) fn new(message: u32, start: SimTime) -> Self {
        Self {
            message,
            start,
            end: SimTime::NEVER,
        }
    }

    /// Whether the two are on their way at the same time, or one ends as the other starts.
    fn meets(&self, start: SimTime, end: SimTime) -> bool {
        self.start != SimTime::NEVER
            && start != SimTime::NEVER
            && self.start <= end
            && start <= self.end
    }
}

/// Lets `runs` cross the network, which is empty before and after, up to `until`: sets their ends,
/// in the order of their starts.
pub(super) fn run(
    world: &World,
    network: &mut Network,
    runs: &mut [Run],
    (standing, message_of): (&[Transfer], impl Fn(u32) -> Message),
    until: SimTime,
) {
    runs.sort_unstable_by_key(|run| (run.start, run.message));
    if let [run] = runs {
        let message = message_of(run.message);
        if !matches!(message.source, Source::Transfer(_)) {
            let ends = (message.from, message.to);
            run.end = SimTime::NEVER;
            if run.start < until {
                let end = network::end_alone(world, run.start, ends, message.bits);
                run.end = if end < until { end } else { SimTime::NEVER };
            }
            return;
        }
    }
    for (at, run) in runs.iter_mut().enumerate() {
        run.end = SimTime::NEVER;
        if let Source::Transfer(number) = message_of(run.message).source {
            let fragment = position(at);
            network.adopt(&standing[number as usize], Delivery::Input { fragment });
        }
    }
    let mut next = 0;
    loop {
        while runs
            .get(next)
            .is_some_and(|run| matches!(message_of(run.message).source, Source::Transfer(_)))
        {
            next += 1;
        }
        let start = runs.get(next).map_or(SimTime::NEVER, |run| run.start);
        let end = network.next();
        let now = start.min(end);
        if now >= until {
            break;
        }
        if end == now {
            let ended = network.take_finished(world, now);
            for transfer in &ended {
                if let Delivery::Input { fragment } = transfer.delivery {
                    runs[fragment as usize].end = now;
                }
            }
            network.give_back(ended);
        } else {
            let message = message_of(runs[next].message);
            let delivery = Delivery::Input {
                fragment: position(next),
            };
            let ends = (message.from, message.to);
            network.start(world, now, ends, delivery, message.bits);
            next += 1;
        }
    }
    network.clear();
}

impl Change<'_> {
    /// Lets the messages whose start has changed cross the network again, with all that they meet.
    pub(super) fn settle_network(&mut self) {
        while let Some(message) = self.arena.restarted.pop() {
            let group = match self.group_of(message) {
                NONE => self.new_group(message),
                group => group,
            };
            let unsettled = &mut self.arena.unsettled;
            if !unsettled.contains(&group) {
                unsettled.push(group);
            }
        }
        while let Some(group) = self.arena.unsettled.pop() {
            self.settle_group(group);
        }
    }

    /// The group of a message, or [`NONE`].
    fn group_of(&self, message: u32) -> u32 {
        self.arena.group_of.get(message as usize).unwrap_or(NONE)
    }

    /// A group of a message and of all that it meets in the baseline.
    fn new_group(&mut self, message: u32) -> u32 {
        let arena = &mut *self.arena;
        if arena.groups.len() == arena.groups_used {
            arena.groups.push(Vec::new());
        }
        let group = position(arena.groups_used);
        arena.groups_used += 1;
        arena.groups[group as usize].clear();
        self.join(group, message);
        group
    }

    /// Takes `message` into `group`, with all that it meets in the baseline.
    fn join(&mut self, group: u32, message: u32) {
        let base = self.base;
        let own = [message];
        let members = match base.cluster_of.get(message as usize) {
            Some(&cluster) => base.clusters.of(cluster as usize),
            None => &own,
        };
        for &member in members {
            if !self.removed(member) && self.message(member).bits > 0.0 {
                self.arena.groups[group as usize].push(member);
            }
            self.arena.group_of.set(member as usize, group);
        }
    }

    /// Runs a group, which takes in whatever it meets, until it meets nothing more.
    fn settle_group(&mut self, group: u32) {
        let mut runs = std::mem::take(&mut self.arena.runs);
        loop {
            runs.clear();
            for at in 0..self.arena.groups[group as usize].len() {
                let message = self.arena.groups[group as usize][at];
                runs.push(Run::new(message, self.course(message).start));
            }
            self.cross(&mut runs);
            if !self.meet(group, &runs) {
                break;
            }
        }
        for run in &runs {
            self.crossed(run.message, run.end);
        }
        self.arena.runs = runs;
    }

    fn cross(&mut self, runs: &mut [Run]) {
        let mut network = self
            .arena
            .network
            .take()
            .unwrap_or_else(|| Network::new(self.world));
        network.fit(self.world);
        let standing = &self.base.standing;
        let message_of = |message| self.message(message);
        run(
            self.world,
            &mut network,
            runs,
            (standing, message_of),
            self.base.end,
        );
        self.arena.network = Some(network);
    }

    /// Takes in all messages outside of `group` that its `runs` meet; says whether there are any.
    fn meet(&mut self, group: u32, runs: &[Run]) -> bool {
        let base = self.base;
        let mut met = false;
        for run in runs.iter().filter(|run| run.start != SimTime::NEVER) {
            let message = self.message(run.message);
            let resources = network::resources(self.world, message.from, message.to);
            for resource in resources {
                if resource == network::NONE {
                    continue;
                }
                let uses = base.uses.of(resource as usize);
                let from = uses.partition_point(|used| used.start <= run.end);
                for used in uses[..from].iter().rev() {
                    if used.latest < run.start {
                        break;
                    }
                    let outside = self.group_of(used.message) == NONE;
                    if outside && run.meets(used.start, used.end) && !self.removed(used.message) {
                        self.join(group, used.message);
                        met = true;
                    }
                }
            }
            met |= self.meet_groups(group, run, resources);
        }
        met
    }

    /// Takes in the other groups that `run` meets.
    fn meet_groups(&mut self, group: u32, run: &Run, resources: [u32; 3]) -> bool {
        let mut met = false;
        for other in 0..self.arena.groups_used {
            if other == group as usize {
                continue;
            }
            let shares = |&message: &u32| {
                let course: Course = self.course(message);
                let other = self.message(message);
                run.meets(course.start, course.crossed)
                    && network::resources(self.world, other.from, other.to)
                        .iter()
                        .any(|r| *r != network::NONE && resources.contains(r))
            };
            if self.arena.groups[other].iter().any(shares) {
                let mut members = std::mem::take(&mut self.arena.groups[other]);
                for &member in &members {
                    self.arena.group_of.set(member as usize, group);
                }
                self.arena.groups[group as usize].append(&mut members);
                self.arena.groups[other] = members;
                met = true;
            }
        }
        met
    }
}
