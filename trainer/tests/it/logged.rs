//! A decision log as a service leaves it: what was asked and answered in a run.

use std::path::Path;

use twin::decision_log::{
    DecisionId, ENTRY_SCHEMA, Entry, Input, Json, Log, NewDecision, Outcome, Settings,
};
use twin::live::FleetInput;
use twin::policy::{Policy, PolicyError};
use twin::simulate::{self, Options};
use twin::wire::{DecisionBody, DecisionRequest, DecisionResponse, SCHEMA};
use twin::{Decision, Observation, World};

/// Decides as `least-loaded` does, and keeps what was decided.
struct Logging<'a> {
    log: &'a Log,
    policy: Box<dyn Policy>,
    ids: Vec<DecisionId>,
}

impl Logging<'_> {
    /// Every second decision is on a fleet that the service was told before.
    fn keep(&mut self, observation: &Observation<'_>, response: &[u8]) {
        let (world, view) = (observation.world(), observation.view());
        let stateful = self.ids.len() % 2 == 1;
        let request = if stateful {
            let put = FleetInput::Put(Box::new(view.clone()));
            let text = serde_json::value::to_raw_value(&put).expect("it serializes");
            let input = Input {
                schema: ENTRY_SCHEMA,
                client: None,
                input: &text,
            };
            self.log.append(&Entry::Fleet(input)).expect("appended");
            let epoch = DecisionRequest::from_view(world, &view).state.epoch;
            let asked = serde_json::json!({
                "schema": SCHEMA, "now_ns": view.now.0, "epoch": epoch,
            });
            asked.to_string().into_bytes()
        } else {
            serde_json::to_vec(&DecisionRequest::from_view(world, &view)).expect("it serializes")
        };
        let decision = NewDecision {
            policy: "edge",
            model_sha256: Some("ab12"),
            client: Some("deployer"),
            candidate: stateful,
            request: Json::parsed(&request),
            stateful: stateful.then_some(None),
            response: Json::parsed(response),
        };
        self.ids
            .push(self.log.append_decision(&decision).expect("appended"));
    }
}

impl Policy for Logging<'_> {
    fn name(&self) -> &str {
        "logging"
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        self.policy.decide(observation, decision)?;
        let view = observation.view();
        let response = DecisionResponse {
            id: None,
            schema: SCHEMA,
            decision: DecisionBody::from_decision(observation.world(), &view, decision),
            policy: "least-loaded".into(),
            model_sha256: None,
            fallback: true,
            fallback_reason: Some("it is busy".into()),
            decision_time_us: 2.5,
            input_range: None,
        };
        let response = serde_json::to_vec(&response).expect("it serializes");
        self.keep(observation, &response);
        Ok(())
    }
}

/// Segments of a few decisions.
pub(crate) fn settings() -> Settings {
    Settings {
        segment_bytes: 16 << 10,
        ..Settings::default()
    }
}

/// Opens the log in `folder` for writing.
pub(crate) fn open(folder: &Path, world: &World) -> Log {
    Log::open(folder, &world.hash, settings())
        .expect("it opens")
        .0
}

/// Logs a run of `intervals` intervals; the ids of the decisions.
pub(crate) fn run(log: &Log, world: &World, intervals: u32) -> Vec<DecisionId> {
    let mut logging = Logging {
        log,
        policy: twin::policy::by_name("least-loaded", world, 1).expect("it exists"),
        ids: Vec::new(),
    };
    let options = Options {
        intervals: Some(intervals),
        ..Options::new(7)
    };
    simulate::run(world, &mut logging, &options).expect("the run ends");
    logging.ids
}

/// An outcome of a request.
pub(crate) fn outcome(decision: DecisionId, request: u64) -> Outcome {
    let answered = !request.is_multiple_of(3);
    Outcome {
        schema: ENTRY_SCHEMA,
        decision,
        request,
        answered,
        response_s: answered.then_some(0.25),
        late: !answered,
    }
}
