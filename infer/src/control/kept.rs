//! The fleet that the decision service keeps, as the loop keeps it in step.
//!
//! The service's live twin knows the requests, which deployers tell it of; the loop knows the VMs.
//! Every interval it brings the twin to the present, takes its word for the state of the
//! applications, and tells it what Azure says otherwise: where hosts stand, and what was measured of
//! them. What the loop does to VMs it tells as soon as that is done, so that no deployer is sent to a
//! host that drains.
//!
//! Level-triggered, as the rest: what is told follows from what is seen and what the service says,
//! not from what was told before. Where the service knows no fleet, it gets the whole of what is
//! seen. What is lost on the way, or told twice, is put right by looking again.
//!
//! Left out: migrations that are decided at a boundary, which nobody here can carry out.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use twin::host::Lifecycle;
use twin::ids::HostId;
use twin::observation::FleetView;
use twin::units::SimTime;
use twin::wire::{
    DecisionRequest, DeltaKind, FleetResponse, SCHEMA, SeenLifecycle, TelemetryDelta,
    TelemetryRequest, WireError, WorldName, from_json,
};
use twin::world::World;

use super::brain::BrainError;
use super::facts::Facts;
use super::fleet::Fleet;
use super::mapping::Seat;
use super::service::{Service, ServiceError};
use super::standing::Standing;

const FLEET: &str = "/v1/fleet";
const TELEMETRY: &str = "/v1/telemetry";
/// The status that says that no fleet is kept, or that its clock is far from ours.
const CONFLICT: u16 = 409;
/// How long a metric is averaged over.
const SPAN: SignedDuration = SignedDuration::from_mins(1);

/// The fleet that the service keeps.
#[derive(Debug)]
pub struct KeptFleet {
    world: Arc<World>,
    service: Service,
    epoch: Timestamp,
    /// The newest minute of each host that was told of.
    measured: Vec<Option<Timestamp>>,
}

impl KeptFleet {
    /// The fleet of `world` that `service` keeps, whose clock stood at zero at `epoch`.
    #[must_use]
    pub fn new(world: &Arc<World>, service: Service, epoch: Timestamp) -> Self {
        Self {
            world: Arc::clone(world),
            service,
            epoch,
            measured: vec![None; world.hosts.len()],
        }
    }

    /// The fleet's time at `at`; zero before the clock began.
    #[must_use]
    pub fn time(&self, at: Timestamp) -> SimTime {
        let since = at.duration_since(self.epoch).as_nanos();
        SimTime(u64::try_from(since.max(0)).unwrap_or(u64::MAX))
    }

    /// How the service has the fleet, brought to `now` if it is to `carry_on`; `None` where it keeps
    /// none.
    ///
    /// # Errors
    ///
    /// If the service does not answer, its clock is far from ours, or its fleet is of another world.
    pub async fn recall(
        &self,
        now: SimTime,
        carry_on: bool,
    ) -> Result<Option<FleetView>, BrainError> {
        let carried = if carry_on {
            self.tell(now, Vec::new()).await
        } else {
            Ok(())
        };
        let fleet = match self.service.get(FLEET).await {
            Ok(answer) => Some(self.read(&answer)?),
            Err(error) if error.status == Some(CONFLICT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        carried?;
        Ok(fleet)
    }

    fn read(&self, answer: &[u8]) -> Result<FleetView, BrainError> {
        let error = |source: WireError| BrainError::Answer {
            url: Box::new(self.service.url(FLEET)),
            source,
        };
        let response: FleetResponse<'_> = from_json(answer).map_err(error)?;
        let Some(state) = response.state else {
            return Err(ServiceError {
                url: Box::new(self.service.url(FLEET)),
                status: None,
                problem: "the answer has no state".into(),
            }
            .into());
        };
        let whole = DecisionRequest {
            schema: response.schema,
            world: Some(response.world),
            state,
        };
        whole.to_view(&self.world).map_err(error)
    }

    /// Has the service begin with the fleet of `view`.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub async fn begin(&self, view: &FleetView) -> Result<(), ServiceError> {
        let whole = DecisionRequest::from_view(&self.world, view);
        self.service.send(Method::PUT, FLEET, &whole).await?;
        tracing::info!(
            requests = view.requests.len(),
            "the service was told the whole fleet"
        );
        Ok(())
    }

    /// Tells the service what happened up to `now`.
    ///
    /// # Errors
    ///
    /// If it does not take it.
    pub async fn tell(
        &self,
        now: SimTime,
        deltas: Vec<TelemetryDelta<'static>>,
    ) -> Result<(), ServiceError> {
        let message = TelemetryRequest {
            schema: SCHEMA,
            world: Some(WorldName::of(&self.world)),
            now_ns: now.0,
            deltas,
        };
        let answer = self.service.send(Method::POST, TELEMETRY, &message);
        answer.await.map(drop)
    }

    /// What was measured of the hosts that run, as far as it was not told yet; not later than `now`.
    pub fn samples(
        &mut self,
        facts: &Facts,
        fleet: &Fleet,
        now: SimTime,
    ) -> Vec<TelemetryDelta<'static>> {
        let mut samples = Vec::new();
        for (h, seat) in fleet.mapping.seats.iter().enumerate() {
            let Seat::Vm(id) = seat else { continue };
            let Some(vm) = facts.vms.get(id) else {
                continue;
            };
            let newest = vm.cpu.map(|m| m.at).max(vm.credits.map(|m| m.at));
            let (Some(minute), Standing::On) = (newest, fleet.standings[h]) else {
                continue;
            };
            if self.measured[h] >= Some(minute) {
                continue;
            }
            self.measured[h] = Some(minute);
            let end = minute.saturating_add(SPAN).unwrap_or(minute);
            let of_that = |m: &crate::azure::metrics::Measured| m.at == minute;
            let cpu = vm.cpu.filter(of_that);
            samples.push(TelemetryDelta {
                at_ns: Some(self.time(end).min(now).0),
                span_s: cpu.map(|_| SPAN.as_secs_f64()),
                utilization: cpu.map(|m| (m.value / 100.0).clamp(0.0, 1.0)),
                credits: vm.credits.filter(of_that).map(|m| m.value.max(0.0)),
                ..about(HostId::at(h), DeltaKind::Sample)
            });
        }
        samples
    }
}

/// What the service has to be told so that it has the hosts, which it has as in `kept`, as in `seen`.
#[must_use]
pub fn lifecycles(kept: &FleetView, seen: &FleetView) -> Vec<TelemetryDelta<'static>> {
    let pairs = kept.hosts.iter().zip(&seen.hosts).enumerate();
    pairs
        .filter(|(_, (before, after))| before.lifecycle != after.lifecycle)
        .map(|(h, (_, after))| lifecycle(HostId::at(h), after.lifecycle))
        .collect()
}

/// The news that host `host` was ordered on or off.
#[must_use]
pub fn ordered(host: HostId, on: bool) -> TelemetryDelta<'static> {
    let seen = if on {
        SeenLifecycle::Booting
    } else {
        SeenLifecycle::Draining
    };
    TelemetryDelta {
        lifecycle: Some(seen),
        ..about(host, DeltaKind::Host)
    }
}

fn lifecycle(host: HostId, lifecycle: Lifecycle) -> TelemetryDelta<'static> {
    let (seen, ready_at) = match lifecycle {
        Lifecycle::Off => (SeenLifecycle::Off, None),
        Lifecycle::Booting { ready_at } => (SeenLifecycle::Booting, Some(ready_at)),
        Lifecycle::On => (SeenLifecycle::On, None),
        Lifecycle::Draining => (SeenLifecycle::Draining, None),
    };
    TelemetryDelta {
        lifecycle: Some(seen),
        ready_at_ns: ready_at.map(|at| at.0),
        ..about(host, DeltaKind::Host)
    }
}

fn about(host: HostId, kind: DeltaKind) -> TelemetryDelta<'static> {
    TelemetryDelta {
        host: Some(host.0),
        ..TelemetryDelta::of(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::metrics::Measured;
    use crate::control::test_fleet::{fleet, fleet_of, small, vm_of};
    use url::Url;

    fn kept(world: &Arc<World>) -> KeptFleet {
        let base = Url::parse("http://127.0.0.1:1").expect("an address");
        let service = Service::new(&base, reqwest::Client::new(), None);
        let epoch = Timestamp::from_second(1_000).expect("a time");
        KeptFleet::new(world, service, epoch)
    }

    #[test]
    fn the_clock_of_the_fleet_begins_at_its_epoch() {
        let kept = kept(&small());
        let at = |s| kept.time(Timestamp::from_second(s).expect("a time"));
        assert_eq!(at(1_002), SimTime::from_seconds(2.0));
        assert_eq!(at(999), SimTime::ZERO);
    }

    #[test]
    fn a_minute_is_told_once() {
        let world = small();
        let mut kept = kept(&world);
        let mut facts = fleet(&world);
        let fleet = fleet_of(&world, &facts);
        let minute = |s| Timestamp::from_second(s).expect("a time");
        let name = &world.hosts[1].name;
        let now = SimTime::from_seconds(90.0);
        assert_eq!(kept.samples(&facts, &fleet, now), []);
        let of = |value, s| {
            Some(Measured {
                value,
                at: minute(s),
            })
        };
        vm_of(&mut facts, name).cpu = of(40.0, 1_020);
        vm_of(&mut facts, name).credits = of(12.0, 960);
        let told = kept.samples(&facts, &fleet, now);
        // The minute from 20 s on ends at 80 s; the credits are of an earlier one.
        let expected = TelemetryDelta {
            at_ns: Some(80_000_000_000),
            host: Some(1),
            span_s: Some(60.0),
            utilization: Some(0.4),
            ..TelemetryDelta::of(DeltaKind::Sample)
        };
        assert_eq!(told, [expected]);
        assert_eq!(kept.samples(&facts, &fleet, now), []);
        vm_of(&mut facts, name).cpu = of(250.0, 1_080);
        let told = kept.samples(&facts, &fleet, now);
        // What is not over yet is not of the future.
        assert_eq!(
            (told[0].at_ns, told[0].utilization),
            (Some(now.0), Some(1.0))
        );
    }

    #[test]
    fn what_differs_is_told() {
        let world = small();
        let facts = fleet(&world);
        let fleet = fleet_of(&world, &facts);
        let seen = crate::control::view::seeing(&world, &facts, &fleet, None, SimTime::ZERO).view;
        assert_eq!(lifecycles(&seen, &seen), []);
        let mut kept = seen.clone();
        kept.hosts[2].lifecycle = Lifecycle::Off;
        let told = lifecycles(&kept, &seen);
        assert_eq!(told.len(), 1);
        let on = (Some(2), Some(SeenLifecycle::On));
        assert_eq!((told[0].host, told[0].lifecycle), on);
    }
}
