//! Which host each container runs on, decided when it starts and kept to its end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Container;
use crate::units::SimTime;

/// How hosts are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// A container has a host to itself: the first that is free.
    Exclusive,
    /// The host with the least CPU reserved, the first of several.
    LeastReserved,
}

/// No host is free for a container that wants one to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "container {id} starts at {start} when all {hosts} hosts are taken; it overlaps with others, \
     or the cluster has more hosts"
)]
pub struct NoHost {
    /// The container.
    pub id: u64,
    /// When it starts.
    pub start: SimTime,
    /// Hosts of the cluster.
    pub hosts: usize,
}

/// The host of each container, as indices below `hosts`.
///
/// Containers are placed in the order of their starts, those that start together in the order
/// given; what ends at a moment makes room for what starts then.
///
/// # Errors
///
/// With [`Placement::Exclusive`], if no host is free.
pub fn place(
    containers: &[Container],
    hosts: usize,
    rule: Placement,
) -> Result<Vec<usize>, NoHost> {
    let mut order: Vec<usize> = (0..containers.len()).collect();
    order.sort_by_key(|&index| (containers[index].start, index));
    let mut reserved = vec![0_u128; hosts];
    let mut ending = BinaryHeap::new();
    let mut free: BinaryHeap<Reverse<usize>> = (0..hosts).map(Reverse).collect();
    let mut placed = vec![0; containers.len()];
    for index in order {
        let container = &containers[index];
        while let Some(&Reverse((end, host, amount))) = ending.peek() {
            if end > container.start {
                break;
            }
            ending.pop();
            reserved[host] -= amount;
            free.push(Reverse(host));
        }
        let host = match rule {
            Placement::Exclusive => free.pop().map(|Reverse(host)| host),
            Placement::LeastReserved => (0..hosts).min_by_key(|&host| (reserved[host], host)),
        };
        let host = host.ok_or(NoHost {
            id: container.id,
            start: container.start,
            hosts,
        })?;
        let amount = u128::from(container.reserved.0);
        reserved[host] += amount;
        ending.push(Reverse((container.end(), host, amount)));
        placed[index] = host;
    }
    Ok(placed)
}

#[cfg(test)]
mod tests {
    use super::super::{CpuRate, DemandTrace};
    use super::*;

    fn container(id: u64, start: u64, span: u64, reserved: u64) -> Container {
        let mut demand = DemandTrace::default();
        demand
            .push(SimTime(span), CpuRate(1))
            .expect("a short step");
        Container {
            id,
            start: SimTime(start),
            reserved: CpuRate(reserved),
            demand,
        }
    }

    #[test]
    fn an_exclusive_host_is_free_again_when_its_container_ends() {
        let list = [
            container(7, 0, 10, 1),
            container(8, 0, 20, 1),
            container(9, 10, 5, 1),
        ];
        assert_eq!(place(&list, 2, Placement::Exclusive), Ok(vec![0, 1, 0]));
        assert_eq!(
            place(&list, 1, Placement::Exclusive),
            Err(NoHost {
                id: 8,
                start: SimTime(0),
                hosts: 1
            })
        );
    }

    #[test]
    fn the_least_reserved_host_is_next() {
        let list = [
            container(0, 0, 50, 8),
            container(1, 1, 9, 3),
            container(2, 2, 50, 4),
            container(3, 20, 50, 1),
        ];
        // 8 goes to host 0, 3 and 4 to host 1; when 3 has ended, host 1 holds 4 against 8.
        assert_eq!(
            place(&list, 2, Placement::LeastReserved),
            Ok(vec![0, 1, 1, 1])
        );
    }
}
