//! The next event of each host, or of each transfer, first in time first: an indexed heap.
//!
//! Four children a node, keys beside the hosts: a sift reads few cache lines.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::units::SimTime;

/// Children of a node.
const ARITY: usize = 4;

/// A time, a rank and a host, from high to low bits: among equal times the lowest rank and then the
/// lowest host comes first, and one comparison without a branch orders two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
struct Key(u128);

#[expect(
    clippy::cast_possible_truncation,
    reason = "parts of the key are wanted"
)]
impl Key {
    fn new(time: SimTime, rank: u32, host: u32) -> Self {
        Self((u128::from(time.0) << 64) | (u128::from(rank) << 32) | u128::from(host))
    }

    fn time(self) -> SimTime {
        SimTime((self.0 >> 64) as u64)
    }

    fn rank(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn host(self) -> usize {
        self.0 as u32 as usize
    }
}

/// One time for each host; the earliest is found in constant time and changed in logarithmic time.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct EventQueue {
    /// Keys in heap order.
    heap: Vec<Key>,
    /// Position of each host in `heap`.
    place: Vec<u32>,
}

impl Clone for EventQueue {
    fn clone(&self) -> Self {
        Self {
            heap: self.heap.clone(),
            place: self.place.clone(),
        }
    }
    fn clone_from(&mut self, source: &Self) {
        self.heap.clone_from(&source.heap);
        self.place.clone_from(&source.place);
    }
}

impl EventQueue {
    pub(crate) fn new(hosts: usize) -> Self {
        let order = (0..hosts).map(|h| u32::try_from(h).unwrap_or(u32::MAX));
        Self {
            heap: order
                .clone()
                .map(|h| Key::new(SimTime::NEVER, 0, h))
                .collect(),
            place: order.collect(),
        }
    }

    /// The earliest time and its host; the lowest host of equals.
    pub(crate) fn first(&self) -> (SimTime, usize) {
        match self.heap.first() {
            Some(key) => (key.time(), key.host()),
            None => (SimTime::NEVER, 0),
        }
    }

    /// The time of `host`.
    pub(crate) fn time(&self, host: usize) -> SimTime {
        self.heap[self.place[host] as usize].time()
    }

    /// Adds one more host, without a time; gives its number.
    pub(crate) fn push(&mut self) -> u32 {
        let host = u32::try_from(self.place.len()).unwrap_or(u32::MAX);
        self.heap.push(Key::new(SimTime::NEVER, 0, host));
        self.place.push(host);
        let at = self.heap.len() - 1;
        self.rise(at, Key::new(SimTime::NEVER, 0, host));
        host
    }

    /// Forgets all hosts.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.place.clear();
    }

    /// Sets the time of `host`.
    pub(crate) fn set(&mut self, host: usize, time: SimTime) {
        let at = self.place[host] as usize;
        let key = self.heap[at];
        self.replace(
            at,
            Key::new(time, key.rank(), u32::try_from(host).unwrap_or(u32::MAX)),
        );
    }

    /// Sets the rank of `host` among those of the same time.
    pub(crate) fn rank(&mut self, host: usize, rank: u32) {
        let at = self.place[host] as usize;
        let key = self.heap[at];
        self.replace(
            at,
            Key::new(key.time(), rank, u32::try_from(host).unwrap_or(u32::MAX)),
        );
    }

    fn replace(&mut self, at: usize, key: Key) {
        match key.cmp(&self.heap[at]) {
            Ordering::Less => self.rise(at, key),
            Ordering::Greater => self.sink(at, key),
            Ordering::Equal => {}
        }
    }

    /// Puts `key` at `at` or above it.
    fn rise(&mut self, mut at: usize, key: Key) {
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.heap[parent] <= key {
                break;
            }
            self.put(at, self.heap[parent]);
            at = parent;
        }
        self.put(at, key);
    }

    /// Puts `key` at `at` or below it.
    fn sink(&mut self, mut at: usize, key: Key) {
        loop {
            let first = ARITY * at + 1;
            let until = (first + ARITY).min(self.heap.len());
            let mut least = (key, at);
            for (offset, &child) in self.heap[first.min(until)..until].iter().enumerate() {
                if child < least.0 {
                    least = (child, first + offset);
                }
            }
            if least.1 == at {
                break;
            }
            self.put(at, least.0);
            at = least.1;
        }
        self.put(at, key);
    }

    fn put(&mut self, at: usize, key: Key) {
        self.heap[at] = key;
        self.place[key.host()] = u32::try_from(at).unwrap_or(u32::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream;

    #[test]
    fn the_first_is_always_the_earliest() {
        let hosts = 13;
        let mut queue = EventQueue::new(hosts);
        let mut times = vec![SimTime::NEVER; hosts];
        for step in 0..2000_u64 {
            let host = usize::try_from(stream::mix(1, step) % hosts as u64).expect("small");
            // Few distinct times, so that equal ones occur.
            let time = SimTime(stream::mix(2, step) % 50);
            queue.set(host, time);
            times[host] = time;
            let wanted = (0..hosts).map(|h| (times[h], h)).min();
            assert_eq!(Some(queue.first()), wanted);
        }
    }

    #[test]
    fn no_hosts_have_no_event() {
        assert_eq!(EventQueue::new(0).first(), (SimTime::NEVER, 0));
    }
}
