//! A decision on the fleet that is kept: told, decided, checked, kept, carried out.
//!
//! An answer may be lost on its way. A client that asks again names the same requests; those that are
//! deployed already are answered as they were, so that asking twice places nothing twice.

use std::sync::Arc;

use twin::decision::Deployment;
use twin::decision_log::DecisionId;
use twin::live::{Delta, Event, Ignored, Noted};
use twin::observation::FleetView;
use twin::state::Epoch;
use twin::units::SimTime;
use twin::wire::DecisionBody;

use super::log::Taken;
use super::{FleetError, FleetInput, FleetLog, LiveFleet};
use crate::decider::{Answer, Decider};

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask<'a> {
    /// The body of the request, as JSON.
    pub request: &'a [u8],
    /// The time.
    pub now: SimTime,
    /// Why a decision is due.
    pub epoch: Epoch,
    /// The next boundary, at a boundary; an interval from now if `None`.
    pub next_boundary: Option<SimTime>,
    /// What happened since the last message, the arrival of requests included.
    pub deltas: Vec<Delta>,
    /// Whether the decision is only looked at.
    pub dry_run: bool,
    /// Whether to give back what the decision was taken on.
    pub with_view: bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Decided {
    /// Its id.
    pub id: DecisionId,
    /// The number of the last input that was kept.
    pub last: u64,
    /// What it was taken on, where that was asked for.
    pub view: Option<FleetView>,
    /// The answer.
    pub answer: Answer,
    /// What became of the deltas.
    pub noted: Noted,
}

/// Tells `fleet` what `ask` says, decides with `decider`, and carries the decision out.
///
/// # Errors
///
/// If what is told is refused, or cannot be kept. Where the decision cannot be kept, what was told
/// stays.
pub fn decide(
    fleet: &mut LiveFleet,
    decider: &mut Decider,
    ask: Ask<'_>,
    log: &dyn FleetLog,
) -> Result<Decided, FleetError> {
    let Ask {
        request,
        now,
        epoch,
        next_boundary,
        deltas,
        dry_run,
        with_view,
    } = ask;
    let told = FleetInput::Observe { now, deltas };
    fleet.check(&told)?;
    let mut last = log.input(&told)?;
    let noted = fleet.accept(&told)?;
    let again = deployed_before(fleet, &told, &noted);
    if epoch == Epoch::Boundary {
        let boundary = FleetInput::Boundary {
            next: next_boundary,
        };
        last = log.input(&boundary)?;
        fleet.accept(&boundary)?;
    }
    let (model_sha256, role) = (decider.model_sha256().cloned(), decider.role());
    let outcome = decider.decide_on(&fleet.observation(epoch));
    let world = Arc::clone(fleet.world());
    let asks = |id| fleet.application_of(id);
    let body = if again.is_empty() {
        DecisionBody::of(&world, outcome.decision, &asks)
    } else {
        let mut answered = outcome.decision.clone();
        answered.deployments.extend(again);
        DecisionBody::of(&world, &answered, &asks)
    };
    let answer = Answer::of(outcome, body, model_sha256, role);
    let id = log.decision(&Taken {
        request,
        policy: decider.policy(),
        answer: &answer,
        after: last,
    })?;
    let view = with_view.then(|| fleet.view(epoch));
    if !dry_run {
        let applied = FleetInput::Apply(answer.decision.clone());
        last = log.input(&applied)?;
        fleet.accept(&applied)?;
    }
    Ok(Decided {
        id,
        last: last.max(id.0),
        view,
        answer,
        noted,
    })
}

/// How the requests were deployed whose arrival had been told before.
fn deployed_before(fleet: &LiveFleet, told: &FleetInput, noted: &Noted) -> Vec<Deployment> {
    let FleetInput::Observe { deltas, .. } = told else {
        return Vec::new();
    };
    let known = noted.ignored.iter().filter(|(_, r)| *r == Ignored::Known);
    known
        .filter_map(|&(place, _)| match deltas.get(place)?.event {
            Event::Arrived { request, .. } => fleet.live().deployment_of(request),
            _ => None,
        })
        .collect()
}
