//! Where an edge-cloud controller puts a container, and what it moves for it.
//!
//! A new container goes
//!
//! 1. to the edge node with room for it, the fullest first;
//! 2. else to an edge node that has room once others have left it for the cloud: containers that
//!    tolerate a longer delay than the new one, in order of longest tolerated delay, as many as it
//!    takes;
//! 3. else to the cloud, the fullest node first;
//! 4. else nowhere, for now ([`Plan::Wait`]).
//!
//! What the second step takes in its order may turn out not to be needed: a small container is taken
//! before a large one that makes room alone. Such containers stay, so a victim never fits back on the
//! node that it leaves.
//!
//! When there is room at the edge again, [`returns`] brings containers back from the cloud, those
//! with the shortest tolerated delay first. It displaces nobody and finds nothing to do on what it
//! has left behind, so that a container does not travel to and fro while nothing arrives or ends.
//!
//! The rule is that of the load balancer of angelinechen9/Container-Migration with two changes: it
//! takes as victim the container with the largest CPU share, and only one; ours are chosen by
//! tolerated delay. As there, a container goes to the cloud only if it is in time there
//! ([`Container::cloud_vcpus`]), and moves only if that is worth it ([`Container::movable`]).
//!
//! Left out: memory, moves between edge nodes, and moves between cloud nodes.

use std::cmp::Ordering;

use crate::delay::curve::Curve;
use crate::world::SiteKind;

/// By how much a sum of shares may exceed a capacity: sums of decimals are not exact.
pub const SLACK_VCPUS: f64 = 1e-9;

/// A node that containers run on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// Edge or cloud.
    pub kind: SiteKind,
    /// What is not allocated, in vCPUs; infinite for a cloud without limit.
    pub free_vcpus: f64,
}

/// What a container needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Container {
    /// Who it is; ties are broken in favor of the lower number.
    pub id: u32,
    /// The delay that its users accept, in s.
    pub tolerated_s: f64,
    /// The CPU share with which it holds that delay at the edge, in vCPUs.
    pub edge_vcpus: f64,
    /// The same in the cloud, where latency leaves less time; `None` if it cannot be in time there.
    pub cloud_vcpus: Option<f64>,
    /// Whether it may be moved now: not if it is moving already, or ends before a move would.
    pub movable: bool,
}

/// A container and the node that it runs on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resident {
    /// The container.
    pub container: Container,
    /// Position of its node.
    pub node: usize,
}

/// A container that changes its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The container.
    pub id: u32,
    /// Position of the node that it leaves.
    pub from: usize,
    /// Position of the node that it goes to.
    pub to: usize,
}

/// What happens to a new container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It runs at the edge, where there is room.
    Edge {
        /// Position of the node.
        node: usize,
    },
    /// It runs at the edge, where others make room.
    EdgeAfter {
        /// Position of the node.
        node: usize,
        /// Those who leave, in order of longest tolerated delay.
        victims: Vec<Move>,
    },
    /// It runs in the cloud.
    Cloud {
        /// Position of the node.
        node: usize,
    },
    /// There is no room for it.
    Wait,
}

impl Container {
    /// A container whose requests take what `curve` says on a share of one vCPU, and on top of it the
    /// round trip to where it runs; `None` if it cannot be in time even at the edge.
    #[must_use]
    pub fn serving(
        id: u32,
        tolerated_s: f64,
        curve: &Curve,
        edge_round_trip_s: f64,
        cloud_round_trip_s: f64,
    ) -> Option<Self> {
        Some(Self {
            id,
            tolerated_s,
            edge_vcpus: curve.cpu_share_for(tolerated_s - edge_round_trip_s)?,
            cloud_vcpus: curve.cpu_share_for(tolerated_s - cloud_round_trip_s),
            movable: true,
        })
    }

    /// What it takes of a node of that kind, in vCPUs; `None` where it cannot be in time.
    #[must_use]
    pub fn vcpus_on(&self, kind: SiteKind) -> Option<f64> {
        match kind {
            SiteKind::Edge => Some(self.edge_vcpus),
            SiteKind::Cloud => self.cloud_vcpus,
        }
    }
}

/// What happens to `new`, given the nodes and who runs on them.
///
/// Residents on nodes that do not exist are ignored.
#[must_use]
pub fn place(nodes: &[Node], residents: &[Resident], new: &Container) -> Plan {
    let free: Vec<f64> = nodes.iter().map(|n| n.free_vcpus).collect();
    if let Some(node) = fullest(nodes, &free, SiteKind::Edge, new.edge_vcpus) {
        return Plan::Edge { node };
    }
    if let Some((node, victims)) = displace(nodes, &free, residents, new) {
        return Plan::EdgeAfter { node, victims };
    }
    new.cloud_vcpus
        .and_then(|vcpus| fullest(nodes, &free, SiteKind::Cloud, vcpus))
        .map_or(Plan::Wait, |node| Plan::Cloud { node })
}

/// Who goes back to the edge, and where to, so that every edge node keeps `headroom_vcpus` free.
///
/// With headroom for a typical new container, the next arrival does not send away again who has
/// just come back.
#[must_use]
pub fn returns(nodes: &[Node], residents: &[Resident], headroom_vcpus: f64) -> Vec<Move> {
    let mut free: Vec<f64> = nodes.iter().map(|n| n.free_vcpus).collect();
    let headroom_vcpus = headroom_vcpus.max(0.0);
    let mut away: Vec<&Resident> = on(nodes, residents, SiteKind::Cloud).collect();
    away.sort_by(|a, b| {
        let (a, b) = (&a.container, &b.container);
        a.tolerated_s
            .total_cmp(&b.tolerated_s)
            .then(a.id.cmp(&b.id))
    });
    let mut moves = Vec::new();
    for resident in away {
        let vcpus = resident.container.edge_vcpus;
        let Some(to) = fullest(nodes, &free, SiteKind::Edge, vcpus + headroom_vcpus) else {
            continue;
        };
        free[to] -= vcpus;
        moves.push(Move {
            id: resident.container.id,
            from: resident.node,
            to,
        });
    }
    moves
}

/// The movable containers on nodes of that kind.
fn on<'a>(
    nodes: &'a [Node],
    residents: &'a [Resident],
    kind: SiteKind,
) -> impl Iterator<Item = &'a Resident> {
    residents
        .iter()
        .filter(move |r| r.container.movable && nodes.get(r.node).is_some_and(|n| n.kind == kind))
}

/// The node of that kind with the least room that is still enough; the first of several.
fn fullest(nodes: &[Node], free: &[f64], kind: SiteKind, vcpus: f64) -> Option<usize> {
    (0..nodes.len())
        .filter(|i| nodes[*i].kind == kind && fits(vcpus, free[*i]))
        .min_by(|a, b| free[*a].total_cmp(&free[*b]))
}

fn fits(vcpus: f64, free: f64) -> bool {
    vcpus <= free + SLACK_VCPUS
}

/// The order in which containers leave: longest tolerated delay first, then the larger.
fn leaves_before(a: &Container, b: &Container) -> Ordering {
    b.tolerated_s
        .total_cmp(&a.tolerated_s)
        .then(b.edge_vcpus.total_cmp(&a.edge_vcpus))
        .then(a.id.cmp(&b.id))
}

/// The edge node that is the first to have room for `new` as containers leave in their order, and
/// who leaves it.
fn displace(
    nodes: &[Node],
    free: &[f64],
    residents: &[Resident],
    new: &Container,
) -> Option<(usize, Vec<Move>)> {
    let mut order: Vec<&Resident> = on(nodes, residents, SiteKind::Edge)
        .filter(|r| r.container.tolerated_s > new.tolerated_s)
        .collect();
    order.sort_by(|a, b| leaves_before(&a.container, &b.container));
    let mut leaving: Vec<Vec<&Resident>> = vec![Vec::new(); nodes.len()];
    for resident in order {
        let here = &mut leaving[resident.node];
        here.push(resident);
        // Who finds no room in the cloud stays, and those after it are asked.
        if moves(nodes, free, here).is_none() {
            here.pop();
            continue;
        }
        let room = free[resident.node];
        if fits(new.edge_vcpus, room + given_up(here)) {
            let mut needed = here.clone();
            spare(&mut needed, |rest| {
                fits(new.edge_vcpus, room + given_up(rest))
            });
            if let Some(victims) = moves(nodes, free, &needed) {
                return Some((resident.node, victims));
            }
            // Fewer may be packed worse: fullest first is no optimal packing. The next is asked.
            here.pop();
        }
    }
    None
}

/// What `leaving` give up together, in vCPUs.
fn given_up(leaving: &[&Resident]) -> f64 {
    leaving.iter().map(|r| r.container.edge_vcpus).sum()
}

/// Lets those stay without whom the others are `enough`, shorter tolerated delays first.
fn spare<'a>(leaving: &mut Vec<&'a Resident>, enough: impl Fn(&[&'a Resident]) -> bool) {
    for i in (0..leaving.len()).rev() {
        let one = leaving.remove(i);
        if !enough(leaving) {
            leaving.insert(i, one);
        }
    }
}

/// Where each of `leaving` goes in the cloud; `None` if there is no room for all of them.
fn moves(nodes: &[Node], free: &[f64], leaving: &[&Resident]) -> Option<Vec<Move>> {
    let mut free = free.to_vec();
    leaving
        .iter()
        .map(|r| {
            let vcpus = r.container.cloud_vcpus?;
            let to = fullest(nodes, &free, SiteKind::Cloud, vcpus)?;
            free[to] -= vcpus;
            Some(Move {
                id: r.container.id,
                from: r.node,
                to,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn edge(free_vcpus: f64) -> Node {
        Node {
            kind: SiteKind::Edge,
            free_vcpus,
        }
    }

    fn cloud(free_vcpus: f64) -> Node {
        Node {
            kind: SiteKind::Cloud,
            free_vcpus,
        }
    }

    fn container(id: u32, vcpus: f64, tolerated_s: f64) -> Container {
        Container {
            id,
            tolerated_s,
            edge_vcpus: vcpus,
            cloud_vcpus: Some(vcpus),
            movable: true,
        }
    }

    fn resident(id: u32, node: usize, vcpus: f64, tolerated_s: f64) -> Resident {
        Resident {
            container: container(id, vcpus, tolerated_s),
            node,
        }
    }

    fn moved(id: u32, from: usize, to: usize) -> Move {
        Move { id, from, to }
    }

    #[test]
    fn the_fullest_edge_node_with_room_is_taken() {
        // 0.5 fits into 0.9 and 0.6 but not into 0.4; 0.6 is the fuller of the two.
        let nodes = [edge(0.9), edge(0.4), edge(0.6), cloud(8.0)];
        let plan = place(&nodes, &[], &container(9, 0.5, 5.0));
        assert_eq!(plan, Plan::Edge { node: 2 });
        // 0.3 goes to the node with 0.4; the cloud is never asked.
        let plan = place(&nodes, &[], &container(9, 0.3, 5.0));
        assert_eq!(plan, Plan::Edge { node: 1 });
        // 0.1 + 0.2 is a little more than 0.3 in binary, and fits all the same.
        let plan = place(&[edge(0.3)], &[], &container(9, 0.1 + 0.2, 5.0));
        assert_eq!(plan, Plan::Edge { node: 0 });
    }

    #[test]
    fn the_longest_tolerated_delay_leaves_first() {
        // Needed 0.5, free 0.1. Of those that tolerate more than 5 s, number 2 waits longest, and
        // 0.1 + 0.4 = 0.5 is enough.
        let nodes = [edge(0.1), cloud(8.0)];
        let residents = [
            resident(1, 0, 0.4, 20.0),
            resident(2, 0, 0.4, 60.0),
            resident(3, 0, 0.1, 5.0),
        ];
        let plan = place(&nodes, &residents, &container(9, 0.5, 5.0));
        let victims = vec![moved(2, 0, 1)];
        assert_eq!(plan, Plan::EdgeAfter { node: 0, victims });
    }

    #[test]
    fn several_leave_if_one_is_not_enough() {
        // Needed 0.9, free 0.1: 0.1 + 0.4 = 0.5 after the first, 0.9 after the second.
        let nodes = [edge(0.1), cloud(0.5), cloud(8.0)];
        let residents = [
            resident(1, 0, 0.4, 20.0),
            resident(2, 0, 0.4, 60.0),
            resident(3, 0, 0.1, 5.0),
        ];
        let plan = place(&nodes, &residents, &container(9, 0.9, 5.0));
        // The first fills the fuller cloud node up to 0.1, where the second does not fit.
        let victims = vec![moved(2, 0, 1), moved(1, 0, 2)];
        assert_eq!(plan, Plan::EdgeAfter { node: 0, victims });
    }

    #[test]
    fn who_is_not_needed_stays() {
        // Needed 0.6, free 0.1. In order: number 1 gives 0.1 + 0.1 = 0.2, number 2 then 0.7. But
        // number 2 alone gives 0.6, so number 1 stays.
        let nodes = [edge(0.1), cloud(8.0)];
        let residents = [resident(1, 0, 0.1, 60.0), resident(2, 0, 0.5, 20.0)];
        let plan = place(&nodes, &residents, &container(9, 0.6, 5.0));
        let victims = vec![moved(2, 0, 1)];
        assert_eq!(plan, Plan::EdgeAfter { node: 0, victims });
    }

    #[test]
    fn the_node_that_has_room_first_takes_the_new_container() {
        // The order over all nodes is 1 (node 0), 2 (node 1), 3 (node 0). Node 0 has 0.2 after 1,
        // node 1 has 0.5 after 2: enough, and number 1 stays where it is.
        let nodes = [edge(0.0), edge(0.0), cloud(8.0)];
        let residents = [
            resident(1, 0, 0.2, 60.0),
            resident(2, 1, 0.5, 50.0),
            resident(3, 0, 0.5, 40.0),
        ];
        let plan = place(&nodes, &residents, &container(9, 0.5, 5.0));
        let victims = vec![moved(2, 1, 2)];
        assert_eq!(plan, Plan::EdgeAfter { node: 1, victims });
    }

    #[test]
    fn else_the_cloud_and_else_nowhere() {
        let residents = [resident(1, 0, 0.9, 5.0), resident(2, 0, 0.1, 30.0)];
        // Number 1 tolerates no more than the new one, number 2 makes room for 0.1 only; the cloud
        // node with 4 vCPUs is fuller than that with 8.
        let nodes = [edge(0.0), cloud(8.0), cloud(4.0)];
        let new = container(9, 0.5, 5.0);
        assert_eq!(place(&nodes, &residents, &new), Plan::Cloud { node: 2 });
        // It needs 0.7 there since latency leaves less time.
        let dear = Container {
            cloud_vcpus: Some(0.7),
            ..new
        };
        let nodes = [edge(0.0), cloud(0.6)];
        assert_eq!(place(&nodes, &residents, &dear), Plan::Wait);
        let late = Container {
            cloud_vcpus: None,
            ..new
        };
        assert_eq!(
            place(&[edge(0.0), cloud(8.0)], &residents, &late),
            Plan::Wait
        );
    }

    #[test]
    fn needs_follow_from_the_curve_and_the_latency() {
        // d = 6 / x: 20 s at the edge need 0.3 vCPUs; in the cloud 5 s are lost on the way, and 15 s
        // need 0.4. With 15 s on the way the cloud would have to answer within 5 s, and even a whole
        // vCPU takes 6 s.
        let curve = Curve {
            family: crate::delay::curve::Family::Power,
            a_s: 6.0,
            b: 1.0,
            c_s: 0.0,
            least_share: 0.1,
        };
        let near = Container::serving(1, 20.0, &curve, 0.0, 5.0).expect("0.3 vCPUs do");
        assert!((near.edge_vcpus - 0.3).abs() < 1e-12);
        assert!((near.cloud_vcpus.unwrap_or(0.0) - 0.4).abs() < 1e-12);
        let far = Container::serving(1, 20.0, &curve, 0.0, 15.0).expect("0.3 vCPUs do");
        assert_eq!(far.cloud_vcpus, None);
        assert_eq!(Container::serving(1, 5.0, &curve, 0.0, 0.0), None);
    }

    #[test]
    fn who_cannot_leave_is_passed_over() {
        // Number 1 would be late in the cloud, number 2 is moving already, number 3 leaves.
        let nodes = [edge(0.0), cloud(8.0)];
        let mut residents = [
            resident(1, 0, 0.5, 60.0),
            resident(2, 0, 0.5, 50.0),
            resident(3, 0, 0.5, 40.0),
        ];
        residents[0].container.cloud_vcpus = None;
        residents[1].container.movable = false;
        let plan = place(&nodes, &residents, &container(9, 0.5, 5.0));
        let victims = vec![moved(3, 0, 1)];
        assert_eq!(plan, Plan::EdgeAfter { node: 0, victims });
    }

    #[test]
    fn the_shortest_tolerated_delay_comes_back_first() {
        // 0.7 free: number 2 (10 s) takes 0.4 and leaves 0.3; number 1 (20 s) needs 0.5 and stays;
        // number 3 (30 s) takes 0.3.
        let nodes = [edge(0.7), cloud(6.8)];
        let residents = [
            resident(1, 1, 0.5, 20.0),
            resident(2, 1, 0.4, 10.0),
            resident(3, 1, 0.3, 30.0),
        ];
        let back = returns(&nodes, &residents, 0.0);
        assert_eq!(back, [moved(2, 1, 0), moved(3, 1, 0)]);
        // With 0.3 to be kept free only number 2 comes.
        assert_eq!(returns(&nodes, &residents, 0.3), [moved(2, 1, 0)]);
    }

    /// A cluster: nodes with what is free, residents within their capacity.
    fn cluster() -> impl Strategy<Value = (Vec<Node>, Vec<Resident>)> {
        let node =
            (any::<bool>(), 0.0..2.0f64).prop_map(
                |(at_edge, free)| {
                    if at_edge { edge(free) } else { cloud(free) }
                },
            );
        let one = (
            0..6usize,
            0.05..1.0f64,
            1..9u32,
            prop::option::of(0.05..1.5f64),
        );
        (
            prop::collection::vec(node, 1..6),
            prop::collection::vec((one, any::<bool>()), 0..15),
        )
            .prop_map(|(nodes, list)| {
                let residents = list
                    .into_iter()
                    .enumerate()
                    .map(
                        |(id, ((node, vcpus, tolerated, in_cloud), movable))| Resident {
                            container: Container {
                                cloud_vcpus: in_cloud,
                                movable,
                                ..container(
                                    u32::try_from(id).unwrap_or(0),
                                    vcpus,
                                    f64::from(tolerated),
                                )
                            },
                            node: node % nodes.len(),
                        },
                    )
                    .filter(|r| r.container.vcpus_on(nodes[r.node].kind).is_some())
                    .collect();
                (nodes, residents)
            })
    }

    /// Carries `moves` out; false if a container is not where it is said to be or is not movable.
    fn carry_out(nodes: &mut [Node], residents: &mut [Resident], moves: &[Move]) -> bool {
        moves.iter().all(|m| {
            let Some(r) = residents.iter_mut().find(|r| r.container.id == m.id) else {
                return false;
            };
            let right = r.node == m.from && r.container.movable;
            let (Some(left), Some(taken)) = (
                r.container.vcpus_on(nodes[m.from].kind),
                r.container.vcpus_on(nodes[m.to].kind),
            ) else {
                return false;
            };
            nodes[m.from].free_vcpus += left;
            nodes[m.to].free_vcpus -= taken;
            r.node = m.to;
            right
        })
    }

    proptest! {
        #![proptest_config(crate::validation::property(256, ProptestConfig::default()))]

        #[test]
        fn a_plan_keeps_to_the_rule(
            (mut nodes, mut residents) in cluster(),
            vcpus in 0.05..1.5f64,
            tolerated in 1..9u32,
        ) {
            let new = container(99, vcpus, f64::from(tolerated));
            let before = residents.clone();
            let plan = place(&nodes, &residents, &new);
            let has_room = |kind: SiteKind| {
                nodes.iter().any(|n| n.kind == kind && n.free_vcpus >= vcpus)
            };
            match &plan {
                Plan::Edge { node } => nodes[*node].free_vcpus -= vcpus,
                Plan::EdgeAfter { node, victims } => {
                    prop_assert!(!has_room(SiteKind::Edge), "somebody left without need");
                    prop_assert!(carry_out(&mut nodes, &mut residents, victims));
                    nodes[*node].free_vcpus -= vcpus;
                    for victim in victims {
                        let r = before.iter().find(|r| r.container.id == victim.id);
                        let container = r.map(|r| r.container).unwrap_or(new);
                        prop_assert!(container.tolerated_s > new.tolerated_s);
                        prop_assert_eq!(nodes[victim.to].kind, SiteKind::Cloud);
                        let room = nodes[*node].free_vcpus;
                        prop_assert!(container.edge_vcpus > room, "it could have stayed");
                    }
                }
                Plan::Cloud { node } => {
                    prop_assert!(!has_room(SiteKind::Edge));
                    nodes[*node].free_vcpus -= vcpus;
                }
                Plan::Wait => prop_assert!(!has_room(SiteKind::Edge) && !has_room(SiteKind::Cloud)),
            }
            for node in &nodes {
                prop_assert!(node.free_vcpus >= -2.0 * SLACK_VCPUS, "over capacity: {plan:?}");
            }
        }

        #[test]
        fn returning_comes_to_rest((mut nodes, mut residents) in cluster(), headroom in 0.0..0.5f64) {
            let back = returns(&nodes, &residents, headroom);
            prop_assert!(carry_out(&mut nodes, &mut residents, &back));
            for m in &back {
                prop_assert_eq!(nodes[m.to].kind, SiteKind::Edge);
                prop_assert!(nodes[m.to].free_vcpus >= headroom - 20.0 * SLACK_VCPUS);
            }
            let again = returns(&nodes, &residents, headroom);
            prop_assert!(again.is_empty(), "{again:?} after {back:?}");
        }
    }
}
