//! What the policy sees: the state of the applications, with hosts as they stand in Azure.
//!
//! A state document (that of the decision service or of a deployer) knows requests and when a host
//! will be up; Azure knows which hosts are on. Where both tell of a host, Azure's word on whether it
//! is on counts, except where the document shows work on a host that Azure calls off: that host is
//! *disputed*, and left alone until both agree. Without a document the fleet is taken to be idle.

use twin::host::Lifecycle;
use twin::ids::HostId;
use twin::observation::{FleetView, HostView, Observation};
use twin::state::{Epoch, State};
use twin::units::SimTime;
use twin::wire::{DecisionRequest, FleetState, SCHEMA, WireError, WireErrorKind};
use twin::world::World;

use super::facts::Facts;
use super::fleet::Fleet;
use super::mapping::Seat;
use super::standing::Standing;

/// What the policy sees, and the hosts on which Azure and the document disagree.
#[derive(Clone, Debug, PartialEq)]
pub struct Seeing {
    /// What the policy sees.
    pub view: FleetView,
    /// Hosts that are left alone.
    pub disputed: Vec<HostId>,
}

/// Reads a state document: a request for a decision, or its `state` alone.
///
/// # Errors
///
/// If it is neither, or not of `world`.
pub fn read_document(world: &World, json: &[u8]) -> Result<FleetView, WireError> {
    let whole = match DecisionRequest::from_json(json) {
        Ok(request) => return request.to_view(world),
        Err(error) => error,
    };
    let mut reader = serde_json::Deserializer::from_slice(json);
    match serde_path_to_error::deserialize::<_, FleetState<'_>>(&mut reader) {
        Ok(state) => {
            let request = DecisionRequest {
                schema: SCHEMA,
                world: None,
                state,
            };
            request.to_view(world)
        }
        // Tell of the form that it resembles.
        Err(_) if !whole.field.starts_with("now_ns") && looks_whole(json) => Err(whole),
        Err(error) => Err(WireError {
            kind: WireErrorKind::Schema,
            field: error.path().to_string(),
            problem: error.inner().to_string(),
        }),
    }
}

/// Whether a document has a version, as requests do.
fn looks_whole(json: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(json)
        .is_ok_and(|value| value.get("schema").is_some())
}

/// What the policy sees of `fleet` at `now` with the `document`, if there is one.
#[must_use]
pub fn seeing(
    world: &World,
    facts: &Facts,
    fleet: &Fleet,
    document: Option<FleetView>,
    now: SimTime,
) -> Seeing {
    let documented = document.is_some();
    let mut view = document.unwrap_or_else(|| idle(world, now));
    view.epoch = Epoch::Boundary;
    view.next_boundary = view.next_boundary.max(view.now);
    let mut disputed = Vec::new();
    for (h, host) in view.hosts.iter_mut().enumerate() {
        let standing = fleet.standings.get(h).copied().unwrap_or(Standing::Off);
        let ready_at = view.now.after(world.size_of(h).boot);
        if documented {
            match settle(host, standing, ready_at) {
                Some(lifecycle) => host.lifecycle = lifecycle,
                None => disputed.push(HostId::at(h)),
            }
        } else {
            host.lifecycle = lifecycle(standing, ready_at);
            host.credits = credits(facts, &fleet.mapping.seats[h], host.lifecycle);
        }
        if !host.lifecycle.serves() && !documented {
            host.credits = None;
        }
    }
    Seeing { view, disputed }
}

/// A fleet without work.
fn idle(world: &World, now: SimTime) -> FleetView {
    let host = |_| HostView {
        lifecycle: Lifecycle::Off,
        queue: Vec::new(),
        resident: Vec::new(),
        speed: 1.0,
        credits: None,
        models: Vec::new(),
        waiting_containers: Vec::new(),
    };
    FleetView {
        now,
        epoch: Epoch::Boundary,
        next_boundary: now.after(world.interval),
        next_request: 0,
        hosts: (0..world.hosts.len()).map(host).collect(),
        requests: Vec::new(),
        transfers: Vec::new(),
        migrations: Vec::new(),
        rates_per_s: vec![Default::default(); world.applications.len()],
    }
}

fn lifecycle(standing: Standing, ready_at: SimTime) -> Lifecycle {
    match standing {
        Standing::On => Lifecycle::On,
        Standing::Booting => Lifecycle::Booting { ready_at },
        Standing::Draining => Lifecycle::Draining,
        Standing::Off | Standing::Stopped | Standing::Unknown => Lifecycle::Off,
    }
}

/// The lifecycle of a host that the document tells of and Azure sees as `standing`; `None` where
/// they contradict each other.
fn settle(host: &HostView, standing: Standing, ready_at: SimTime) -> Option<Lifecycle> {
    let told = host.lifecycle;
    let empty = host.resident.is_empty() && host.queue.is_empty();
    match (standing, told) {
        // Whoever runs the applications knows best which hosts serve already.
        (Standing::On | Standing::Booting, Lifecycle::On | Lifecycle::Booting { .. })
        | (Standing::On | Standing::Booting | Standing::Draining, Lifecycle::Draining)
        | (Standing::Off | Standing::Draining | Standing::Stopped, Lifecycle::Off) => Some(told),
        (Standing::On, Lifecycle::Off) => Some(Lifecycle::On),
        (Standing::Booting, Lifecycle::Off) => Some(Lifecycle::Booting { ready_at }),
        (Standing::Draining, Lifecycle::On | Lifecycle::Booting { .. }) if empty => {
            Some(Lifecycle::Draining)
        }
        // What waits for a boot that will not end cannot drain.
        (Standing::Draining, Lifecycle::On) => Some(Lifecycle::Draining),
        (Standing::Off | Standing::Stopped, _) if empty => Some(Lifecycle::Off),
        _ => None,
    }
}

/// The CPU credits of the VM behind a host, where they are measured.
fn credits(facts: &Facts, seat: &Seat, lifecycle: Lifecycle) -> Option<f64> {
    let Seat::Vm(id) = seat else { return None };
    let measured = facts.vms.get(id)?.credits?;
    lifecycle.serves().then_some(measured.value.max(0.0))
}

/// How far the utilization that the twin sees in `view` is from what was measured: the mean
/// difference over the hosts that have a measurement; `None` where none has.
///
/// # Errors
///
/// If the view contradicts itself.
pub fn drift(
    world: &World,
    view: &FleetView,
    facts: &Facts,
    fleet: &Fleet,
) -> Result<Option<f64>, twin::observation::ViewError> {
    let state = State::from_view(world, view)?;
    let observation = Observation::new(world, &state, Epoch::Boundary);
    let mut differences = Vec::new();
    for (h, seat) in fleet.mapping.seats.iter().enumerate() {
        let Seat::Vm(id) = seat else { continue };
        let measured = facts.vms.get(id).and_then(|vm| vm.cpu);
        if let (Standing::On, Some(cpu)) = (fleet.standings[h], measured) {
            let predicted = observation.utilization(HostId::at(h));
            differences.push((predicted - (cpu.value / 100.0).clamp(0.0, 1.0)).abs());
        }
    }
    let count = differences.len() as f64;
    Ok((count > 0.0).then(|| differences.iter().sum::<f64>() / count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::metrics::Measured;
    use crate::control::facts::Power;
    use crate::control::test_fleet::{fleet, fleet_of, set_powers, small, vm_of};
    use jiff::Timestamp;

    #[test]
    fn without_a_document_hosts_stand_as_azure_says() {
        let world = small();
        let mut facts = fleet(&world);
        let powers = [Power::Running, Power::Starting, Power::Deallocated];
        set_powers(&world, &mut facts, &powers);
        let fleet = fleet_of(&world, &facts);
        let now = SimTime::from_seconds(10.0);
        let view = seeing(&world, &facts, &fleet, None, now).view;
        let ready_at = SimTime::from_seconds(13.0);
        assert_eq!(view.hosts[0].lifecycle, Lifecycle::On);
        assert_eq!(view.hosts[1].lifecycle, Lifecycle::Booting { ready_at });
        assert_eq!(view.hosts[2].lifecycle, Lifecycle::Off);
        assert!(State::from_view(&world, &view).is_ok());
    }

    #[test]
    fn documents_are_requests_or_states() {
        let world = small();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/request.json");
        let whole = std::fs::read(path).expect("the example");
        let view = read_document(&world, &whole).expect("a request");
        let value: serde_json::Value = serde_json::from_slice(&whole).expect("JSON");
        let state = serde_json::to_vec(&value["state"]).expect("JSON");
        assert_eq!(read_document(&world, &state).expect("a state"), view);
        let error = read_document(&world, b"{\"now_ns\": -1}").expect_err("no state");
        assert_eq!(error.field, "now_ns");
        let error = read_document(&world, b"{\"schema\": 9}").expect_err("no request");
        assert!(
            error.field.contains("schema") || error.field == "state",
            "{error}"
        );
    }

    #[test]
    fn work_on_a_host_that_is_off_is_disputed() {
        let world = small();
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/request.json");
        let whole = std::fs::read(path).expect("the example");
        let document = read_document(&world, &whole).expect("a request");
        let busy = document.hosts.iter().position(|h| !h.resident.is_empty());
        let busy = busy.expect("somebody works");
        let mut facts = fleet(&world);
        vm_of(&mut facts, &world.hosts[busy].name).power = Power::Deallocated;
        let fleet = fleet_of(&world, &facts);
        let seen = seeing(
            &world,
            &facts,
            &fleet,
            Some(document.clone()),
            SimTime::ZERO,
        );
        assert_eq!(seen.disputed, [HostId::at(busy)]);
        assert_eq!(
            seen.view.hosts[busy].lifecycle,
            document.hosts[busy].lifecycle
        );
    }

    #[test]
    fn drift_is_the_mean_difference() {
        let world = small();
        let mut facts = fleet(&world);
        let fleet = fleet_of(&world, &facts);
        let view = seeing(&world, &facts, &fleet, None, SimTime::ZERO).view;
        let none = drift(&world, &view, &facts, &fleet).expect("a view");
        assert_eq!(none, None);
        for (vm, percent) in facts.vms.values_mut().zip([30.0, 60.0]) {
            let at = Timestamp::UNIX_EPOCH;
            vm.cpu = Some(Measured { value: percent, at });
        }
        // An idle twin expects 0: (0.3 + 0.6) / 2.
        let drift = drift(&world, &view, &facts, &fleet).expect("a view");
        assert!((drift.expect("measured") - 0.45).abs() < 1e-12);
    }
}
