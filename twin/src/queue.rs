//! The next completion of each host, first in time first: an indexed binary heap.

use serde::{Deserialize, Serialize};

use crate::units::SimTime;

/// One time for each host; the earliest is found in constant time and changed in logarithmic time.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EventQueue {
    times: Vec<SimTime>,
    /// Hosts in heap order.
    heap: Vec<u32>,
    /// Position of each host in `heap`.
    place: Vec<u32>,
}

impl Clone for EventQueue {
    fn clone(&self) -> Self {
        Self {
            times: self.times.clone(),
            heap: self.heap.clone(),
            place: self.place.clone(),
        }
    }
    fn clone_from(&mut self, source: &Self) {
        self.times.clone_from(&source.times);
        self.heap.clone_from(&source.heap);
        self.place.clone_from(&source.place);
    }
}

impl EventQueue {
    pub(crate) fn new(hosts: usize) -> Self {
        let order: Vec<u32> = (0..hosts)
            .map(|h| u32::try_from(h).unwrap_or(u32::MAX))
            .collect();
        Self {
            times: vec![SimTime::NEVER; hosts],
            heap: order.clone(),
            place: order,
        }
    }

    /// The earliest time and its host; the lowest host of equals.
    pub(crate) fn first(&self) -> (SimTime, usize) {
        match self.heap.first() {
            Some(&h) => (self.times[h as usize], h as usize),
            None => (SimTime::NEVER, 0),
        }
    }

    /// Sets the time of `host`.
    pub(crate) fn set(&mut self, host: usize, time: SimTime) {
        if self.times[host] == time {
            return;
        }
        self.times[host] = time;
        let mut at = self.place[host] as usize;
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.before(at, parent) {
                break;
            }
            self.swap(at, parent);
            at = parent;
        }
        loop {
            let left = 2 * at + 1;
            if left >= self.heap.len() {
                break;
            }
            let right = left + 1;
            let child = if right < self.heap.len() && self.before(right, left) {
                right
            } else {
                left
            };
            if !self.before(child, at) {
                break;
            }
            self.swap(at, child);
            at = child;
        }
    }

    fn before(&self, a: usize, b: usize) -> bool {
        let (a, b) = (self.heap[a], self.heap[b]);
        (self.times[a as usize], a) < (self.times[b as usize], b)
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.place[self.heap[a] as usize] = u32::try_from(a).unwrap_or(u32::MAX);
        self.place[self.heap[b] as usize] = u32::try_from(b).unwrap_or(u32::MAX);
    }
}
