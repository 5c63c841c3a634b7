//! What wants to know about events: the event log, the recorder of response times, or nothing.

use crate::decision::Deployment;
use crate::faults::Incident;
use crate::host::Lifecycle;
use crate::ids::{HostId, RequestId, VariantId};
use crate::migration::{Outcome, Report};
use crate::state::{Course, Request, State};
use crate::units::SimTime;
use crate::world::World;

/// Receives events; each method does nothing unless it is overridden, and costs nothing then.
#[expect(private_interfaces, reason = "only this crate implements sinks")]
pub trait Sink {
    /// A request arrived.
    fn arrived(&mut self, _now: SimTime, _request: &Request) {}
    /// A request was deployed.
    fn deployed(&mut self, _now: SimTime, _deployment: &Deployment) {}
    /// A fragment ended on `host`.
    fn fragment_done(&mut self, _now: SimTime, _request: RequestId, _index: usize, _host: HostId) {}
    /// A request was answered, perhaps late.
    fn completed(&mut self, _now: SimTime, _request: &Request, _variant: VariantId, _late: bool) {}
    /// A host changed its state.
    fn lifecycle(&mut self, _now: SimTime, _host: HostId, _lifecycle: Lifecycle) {}
    /// A migration was ordered.
    fn migration_started(&mut self, _now: SimTime, _course: &Course) {}
    /// A migration ended: what came of it, and what it took.
    fn migration_ended(
        &mut self,
        _now: SimTime,
        _course: &Course,
        _outcome: Outcome,
        _report: &Report,
    ) {
    }
    /// Something happened to the fleet that nobody decided.
    fn incident(&mut self, _now: SimTime, _incident: &Incident) {}
    /// An interval begins; called before the decision.
    fn boundary(&mut self, _state: &State, _world: &World) {}
}

/// No one wants to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Sink for Silent {}
