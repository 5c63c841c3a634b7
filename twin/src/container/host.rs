//! One host and its containers over time.
//!
//! Containers on different hosts do not touch each other, so each host is walked through alone,
//! from one change of demand to the next: O(n log k) for n steps of k containers, and a sharing
//! problem only where the host is short of CPU.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use thiserror::Error;

use super::{Container, CpuRate, CpuWork, water_fill};
use crate::units::SimTime;

/// A stretch of time in which nothing changes on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its start.
    pub from: SimTime,
    /// Its end, after the start.
    pub until: SimTime,
    /// Containers on the host.
    pub containers: u32,
    /// Sum of their demands.
    pub demanded: CpuRate,
    /// What the host gives them: the smaller of demand and capacity.
    pub served: CpuRate,
}

/// More demand than can be added up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the peaks of the demands on one host add up to more than 18,000,000 MHz")]
pub struct TooMuchDemand;

/// Runs `containers` on a host of `capacity` from time 0 to `until`, and tells every segment, in
/// the order of time and without gaps. Returns the unmet demand of each container.
///
/// # Errors
///
/// If demands are so large that their sum has no meaning.
pub fn run(
    capacity: CpuRate,
    containers: &[&Container],
    until: SimTime,
    mut on_segment: impl FnMut(&Segment),
) -> Result<Vec<CpuWork>, TooMuchDemand> {
    let peaks = containers
        .iter()
        .try_fold(0_u64, |sum, c| sum.checked_add(c.demand.peak().0));
    if peaks.is_none() {
        return Err(TooMuchDemand);
    }
    let mut host = Host::new(capacity, containers.len());
    // The next change of each container; a container that starts takes its first step.
    let mut changes: BinaryHeap<Reverse<(SimTime, usize, usize)>> = containers
        .iter()
        .enumerate()
        .map(|(index, container)| Reverse((container.start, index, 0)))
        .collect();
    while let Some(Reverse((time, index, step))) = changes.pop() {
        if time >= until {
            break;
        }
        host.advance(time, &mut on_segment);
        let container = containers[index];
        match container.demand.steps().get(step) {
            Some(next) => {
                host.set(index, Some(next.rate));
                let end = container.start.after(next.until);
                changes.push(Reverse((end, index, step + 1)));
            }
            None => host.set(index, None),
        }
    }
    host.advance(until, &mut on_segment);
    Ok(host.unmet)
}

/// A host at a moment.
struct Host {
    capacity: CpuRate,
    now: SimTime,
    /// Demand of each container that is there.
    present: Vec<Option<CpuRate>>,
    containers: u32,
    demanded: CpuRate,
    unmet: Vec<CpuWork>,
    scratch: Scratch,
}

#[derive(Default)]
struct Scratch {
    demands: Vec<CpuRate>,
    indices: Vec<usize>,
    served: Vec<CpuRate>,
    order: Vec<usize>,
}

impl Host {
    fn new(capacity: CpuRate, containers: usize) -> Self {
        Self {
            capacity,
            now: SimTime::ZERO,
            present: vec![None; containers],
            containers: 0,
            demanded: CpuRate::default(),
            unmet: vec![CpuWork::default(); containers],
            scratch: Scratch::default(),
        }
    }

    fn set(&mut self, index: usize, demand: Option<CpuRate>) {
        let before = std::mem::replace(&mut self.present[index], demand);
        self.containers -= u32::from(before.is_some());
        self.containers += u32::from(demand.is_some());
        self.demanded.0 -= before.unwrap_or_default().0;
        self.demanded.0 += demand.unwrap_or_default().0;
    }

    fn advance(&mut self, time: SimTime, on_segment: &mut impl FnMut(&Segment)) {
        if time <= self.now {
            return;
        }
        let span = time.since(self.now);
        if self.demanded > self.capacity {
            self.ration(span);
        }
        on_segment(&Segment {
            from: self.now,
            until: time,
            containers: self.containers,
            demanded: self.demanded,
            served: self.demanded.min(self.capacity),
        });
        self.now = time;
    }

    /// Notes what each container lacks in `span`.
    fn ration(&mut self, span: SimTime) {
        let Scratch {
            demands,
            indices,
            served,
            order,
        } = &mut self.scratch;
        demands.clear();
        indices.clear();
        for (index, demand) in self.present.iter().enumerate() {
            if let Some(demand) = demand {
                indices.push(index);
                demands.push(*demand);
            }
        }
        water_fill(self.capacity, demands, served, order);
        for ((&index, demand), served) in indices.iter().zip(&*demands).zip(&*served) {
            self.unmet[index] += CpuRate(demand.0 - served.0).over(span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::DemandTrace;
    use super::*;

    fn container(id: u64, start: u64, steps: &[(u64, u64)]) -> Container {
        let mut demand = DemandTrace::default();
        for &(span, rate) in steps {
            demand
                .push(SimTime(span), CpuRate(rate))
                .expect("a short step");
        }
        Container {
            id,
            start: SimTime(start),
            reserved: CpuRate(1),
            demand,
        }
    }

    #[test]
    fn segments_cover_time_and_unmet_demand_is_shared_fairly() {
        let a = container(0, 0, &[(10, 4), (10, 12)]);
        let b = container(1, 5, &[(20, 6)]);
        let mut segments = Vec::new();
        let unmet =
            run(CpuRate(10), &[&a, &b], SimTime(30), |s| segments.push(*s)).expect("small demands");
        let seen: Vec<_> = segments
            .iter()
            .map(|s| (s.from.0, s.until.0, s.containers, s.demanded.0, s.served.0))
            .collect();
        assert_eq!(
            seen,
            [
                (0, 5, 1, 4, 4),
                (5, 10, 2, 10, 10),
                // 12 + 6 on a host of 10: each gets 5, they lack 7 and 1.
                (10, 20, 2, 18, 10),
                (20, 25, 1, 6, 6),
                (25, 30, 0, 0, 0),
            ]
        );
        // 10 ns · 7 and 10 ns · 1
        assert_eq!(unmet, [CpuWork(70), CpuWork(10)]);
    }

    #[test]
    fn a_run_can_be_cut_off() {
        let a = container(0, 0, &[(10, 4), (10, 12)]);
        let mut work = CpuWork::default();
        let unmet = run(CpuRate(10), &[&a], SimTime(12), |s| {
            work += s.served.over(s.until.since(s.from));
        })
        .expect("small demands");
        // 10 ns · 4 + 2 ns · 10 served, 2 ns · 2 not.
        assert_eq!((work, unmet), (CpuWork(60), vec![CpuWork(4)]));
    }
}
