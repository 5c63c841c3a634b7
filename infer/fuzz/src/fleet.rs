//! The fleet that the service keeps, told message after message.

use infer::decider::Decider;
use infer::fleet::{Ask, FleetError, FleetInput, LiveFleet, NoLog, decide};
use infer::source::Source;
use twin::observation::Observation;
use twin::state::{Epoch, State};
use twin::units::SimTime;
use twin::wire::{
    DecisionRequest, FleetDecisionRequest, FleetResponse, Question, SCHEMA, TelemetryRequest,
    WireError,
};

use super::support::{json, named, small, told, view, world_of};

/// The most messages of one run.
const MAX_MESSAGES: usize = 32;

/// Messages, one a line: `PUT /v1/fleet`, `POST /v1/telemetry` or `POST /v1/decisions` without a
/// state, told apart by their fields. They come one after another to the fleet of the example, or,
/// where the world that has everything is named, to one that begins.
pub(crate) fn fleet(data: &[u8]) {
    let world = world_of(data);
    let begin = State::new(world);
    let begin = Observation::new(world, &begin, Epoch::Boundary).view();
    let first = if world.name == small().name {
        view()
    } else {
        &begin
    };
    let mut fleet = LiveFleet::put(world, first).expect("a possible state");
    let mut decider = Decider::new(world, &Source::named("least-loaded"), 1).expect("a policy");
    for line in data.split(|byte| *byte == b'\n').take(MAX_MESSAGES) {
        let result = if holds(line, b"\"deltas\"") {
            tell(&mut fleet, line)
        } else {
            ask(&mut fleet, &mut decider, line)
        };
        match result {
            Ok(true) => look(&fleet),
            Ok(false) => {}
            Err(error) => named(&error),
        }
    }
}

fn holds(line: &[u8], what: &[u8]) -> bool {
    line.windows(what.len()).any(|window| window == what)
}

/// Takes telemetry in; whether anything was.
fn tell(fleet: &mut LiveFleet, line: &[u8]) -> Result<bool, WireError> {
    let request = TelemetryRequest::from_json(line)?;
    let text = json(&request);
    assert_eq!(TelemetryRequest::from_json(&text).as_ref(), Ok(&request));
    let deltas = request.to_deltas(fleet.world(), &|id| fleet.application_of(id))?;
    let now = SimTime(request.now_ns);
    let input = FleetInput::Observe { now, deltas };
    let before = fleet.checkpoint();
    if let Err(error) = fleet.check(&input) {
        return refused(error, |error| WireError::of_delta(error, "deltas")).map(|()| false);
    }
    assert_eq!(before, fleet.checkpoint(), "to check changes nothing");
    let noted = fleet.accept(&input).expect("what was checked is accepted");
    let FleetInput::Observe { deltas, .. } = &input else {
        return Ok(true);
    };
    assert_eq!(noted.applied + noted.ignored.len(), deltas.len());
    Ok(true)
}

/// Decides on the fleet or takes a whole state in; whether anything changed.
fn ask(fleet: &mut LiveFleet, decider: &mut Decider, line: &[u8]) -> Result<bool, WireError> {
    match Question::from_json(line)? {
        Question::Whole(request) => {
            let view = request.to_view(fleet.world())?;
            match LiveFleet::put(fleet.world(), &view) {
                Ok(put) => *fleet = put,
                Err(error) => {
                    return refused(error, |error| WireError::of_delta(error, "deltas"))
                        .map(|()| false);
                }
            }
        }
        Question::Kept(request) => kept(fleet, decider, &request, line)?,
    }
    Ok(true)
}

fn kept(
    fleet: &mut LiveFleet,
    decider: &mut Decider,
    request: &FleetDecisionRequest<'_>,
    line: &[u8],
) -> Result<(), WireError> {
    let deltas = request.to_deltas(fleet.world(), &|id| fleet.application_of(id))?;
    let ask = Ask {
        request: line,
        now: SimTime(request.now_ns),
        epoch: request.epoch(),
        next_boundary: request.next_boundary_ns.map(SimTime),
        deltas,
        dry_run: request.dry_run,
        with_view: true,
    };
    match decide(fleet, decider, ask, &NoLog) {
        Ok(decided) => {
            assert!(decided.answer.fallback_failure.is_none(), "nobody decides");
            Ok(())
        }
        Err(error) => refused(error, |error| request.located(error)),
    }
}

/// The wire's error for a refusal of the fleet.
fn refused(
    error: FleetError,
    located: impl FnOnce(twin::live::DeltaError) -> WireError,
) -> Result<(), WireError> {
    match error {
        FleetError::View(error) => Err(error.into()),
        FleetError::Delta(error) => Err(located(error)),
        // The service names the field `now_ns` for it.
        FleetError::Clock(error) => {
            told(&error.to_string());
            Ok(())
        }
        FleetError::Log(_) | FleetError::NoFleet { .. } => {
            panic!("nothing else can be wrong: {error}")
        }
    }
}

/// A checkpoint gives the same fleet, and what the service tells of it is what it reads itself.
fn look(fleet: &LiveFleet) {
    let world = fleet.world();
    let checkpoint = fleet.checkpoint();
    let restored = LiveFleet::restore(world, &checkpoint).expect("its own checkpoint");
    assert_eq!(restored.checkpoint(), checkpoint);
    json(&fleet.drift().report(world, fleet.now()));
    let text = json(&FleetResponse::of(world, fleet.live(), true));
    let response: FleetResponse<'_> =
        serde_json::from_slice(&text).expect("the answer is of its own schema");
    let state = response.state.expect("the whole state was asked for");
    let request = DecisionRequest {
        schema: SCHEMA,
        world: Some(response.world),
        state,
    };
    let told = request.to_view(world).expect("its own state");
    assert_eq!(told, fleet.view(told.epoch));
    assert_ne!(told.epoch, Epoch::End);
    if let Err(error) = LiveFleet::put(world, &told) {
        panic!("the fleet's own state is refused: {error}");
    }
}
