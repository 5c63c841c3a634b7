//! What tests and deployers use beside the Resource Manager, below `/virtual`: time, faults, the
//! log, the state of the fleet, placements, the quality of service. No token is asked for.
//!
//! | call | what it does |
//! |---|---|
//! | `GET /virtual/clock` | virtual time, next boundary, how time passes |
//! | `POST /virtual/advance` | `{"by_s": 5}`, `{"to_s": 60}`, `{"until_next_epoch": true}` or one of the first with the last: lets a stepped clock pass |
//! | `GET /virtual/state` | what `POST /v1/decisions` takes; `?epoch=boundary` or `arrival` asks for another kind |
//! | `POST /virtual/deployments` | carries out the deployments and migrations of a decision |
//! | `GET /virtual/qos` | the quality of service so far |
//! | `GET /virtual/log?after=N` | executed calls that change something |
//! | `GET`, `PUT /virtual/faults` | what goes wrong; counts |
//! | `GET /virtual/hosts` | which VM stands for which host, and its state in the twin |

use serde::Deserialize;
use serde_json::{Value, json};
use twin::checker;
use twin::decision::Decision;
use twin::state::Epoch;
use twin::units::SimTime;
use twin::wire::{DecisionBody, DecisionRequest};

use super::answer::{Answer, Call, Denial};
use super::clock::ClockKind;
use super::cloud::{Cloud, Until, name_of};
use super::faults::FaultSettings;

/// The most time that passes in one call, in s.
const MOST_STEP_S: f64 = 7.0 * 86_400.0;

/// How far a stepped clock is to go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    by_s: Option<f64>,
    to_s: Option<f64>,
    until_next_epoch: Option<bool>,
}

impl Cloud {
    /// Answers a call below `/virtual`.
    pub(super) fn control(&mut self, call: &Call) -> Answer {
        let path: Vec<&str> = call.segments.iter().skip(1).map(String::as_str).collect();
        let answer = match (call.method.as_str(), path.as_slice()) {
            ("GET", ["clock"]) => Ok(Answer::ok(self.clock_body())),
            ("POST", ["advance"]) => self.advance_by(call),
            ("GET", ["state"]) => self.state(call),
            ("POST", ["deployments"]) => self.deployments(call),
            ("GET", ["qos"]) => Ok(self.qos()),
            ("GET", ["log"]) => self.log(call),
            ("GET", ["faults"]) => Ok(self.faults_body()),
            ("PUT", ["faults"]) => self.put_faults(call),
            ("GET", ["hosts"]) => Ok(self.hosts_body()),
            _ => Err(Denial::new(
                404,
                "NotFound",
                "There are GET clock, state, qos, log, faults, hosts; PUT faults; POST advance, \
                 deployments.",
            )),
        };
        answer.unwrap_or_else(|denial| denial.answer())
    }

    fn clock_body(&self) -> Value {
        let (kind, speed) = match self.clock {
            ClockKind::Running { speed } => ("running", Some(speed)),
            ClockKind::Stepped => ("stepped", None),
        };
        json!({
            "clock": kind,
            "speed": speed,
            "now_ns": self.now().0,
            "now_s": self.now().seconds(),
            "time": self.time(self.now()).to_string(),
            "epoch": self.open,
            "next_boundary_ns": self.episode.next_boundary().0,
            "interval_ns": self.world().interval.0,
            "world": self.world().name,
            "world_hash": self.world().hash,
        })
    }

    fn advance_by(&mut self, call: &Call) -> Result<Answer, Denial> {
        if self.clock != ClockKind::Stepped {
            let message = "The clock runs by itself; start with --clock stepped to step it.";
            return Err(Denial::new(409, "ClockRuns", message));
        }
        let wanted: Advance = read(call)?;
        let span = |seconds: f64, field: &str| {
            if (0.0..=MOST_STEP_S).contains(&seconds) {
                return Ok(SimTime::from_seconds(seconds));
            }
            let problem = format!("must be between 0 and {MOST_STEP_S} s of time to pass");
            Err(Denial::invalid(field, problem))
        };
        let until = match (wanted.by_s, wanted.to_s) {
            (Some(by_s), None) => Some(self.now().after(span(by_s, "by_s")?)),
            (None, Some(to_s)) => {
                span(to_s - self.now().seconds(), "to_s")?;
                Some(SimTime::from_seconds(to_s))
            }
            (None, None) => None,
            (Some(_), Some(_)) => {
                let problem = "cannot have both by_s and to_s";
                return Err(Denial::invalid("body", problem));
            }
        };
        let until = match (until, wanted.until_next_epoch.unwrap_or(false)) {
            (until, true) => Until::epoch_or(until.unwrap_or(SimTime::NEVER)),
            (Some(time), false) => Until::time(time),
            (None, false) => {
                let problem = "must have by_s, to_s or until_next_epoch: true";
                return Err(Denial::invalid("body", problem));
            }
        };
        self.advance(until);
        Ok(Answer::ok(self.clock_body()))
    }

    /// What a decision service is asked with.
    fn state(&self, call: &Call) -> Result<Answer, Denial> {
        let epoch = match call.parameter("epoch") {
            None => self.open.unwrap_or(Epoch::Arrival),
            Some("boundary") => Epoch::Boundary,
            Some("arrival") => Epoch::Arrival,
            Some(_) => return Err(Denial::invalid("epoch", "must be boundary or arrival")),
        };
        let view = self.episode.observation(epoch).view();
        let request = DecisionRequest::from_view(self.world(), &view);
        let body = serde_json::to_value(&request).unwrap_or_default();
        Ok(Answer::ok(body))
    }

    /// Carries out what a deployer has decided.
    fn deployments(&mut self, call: &Call) -> Result<Answer, Denial> {
        let body: DecisionBody<'_> = read(call)?;
        if !body.provisioning.is_empty() {
            let problem = "must be empty: VMs are started and deallocated as resources";
            return Err(Denial::invalid("provisioning", problem));
        }
        let mut decision = Decision::none();
        let observation = self.episode.observation(Epoch::Arrival);
        let view = observation.view();
        body.to_decision(self.world(), &view, &mut decision)
            .map_err(|error| Denial::invalid(&error.field, error.problem))?;
        checker::check(&observation, &decision)
            .map_err(|error| Denial::new(409, "Infeasible", error.to_string()))?;
        self.episode.apply(&decision);
        self.follow();
        let waiting = self.episode.observation(Epoch::Arrival).waiting().count();
        Ok(Answer::ok(json!({
            "deployed": decision.deployments.len(),
            "migrations": decision.migrations.len(),
            "waiting": waiting,
        })))
    }

    fn qos(&self) -> Answer {
        let qos = self.episode.qos();
        let mut body = serde_json::to_value(qos).unwrap_or_default();
        body["time"] = json!(self.time(self.now()).to_string());
        body["deployer"] = serde_json::to_value(self.deployer.counts()).unwrap_or_default();
        Answer::ok(body)
    }

    fn log(&self, call: &Call) -> Result<Answer, Denial> {
        let after = match call.parameter("after") {
            None => 0,
            Some(text) => text
                .parse()
                .map_err(|_| Denial::invalid("after", "must be a whole number"))?,
        };
        let entries = self.journal.after(after);
        Ok(Answer::ok(json!({
            "entries": entries,
            "written": self.journal.written(),
        })))
    }

    fn faults_body(&self) -> Answer {
        Answer::ok(json!({
            "settings": self.faults.settings(),
            "calls": self.faults.calls(),
            "counts": self.faults.counts(),
        }))
    }

    fn put_faults(&mut self, call: &Call) -> Result<Answer, Denial> {
        let settings: FaultSettings = read(call)?;
        let settings = settings
            .checked()
            .map_err(|error| Denial::new(400, "InvalidParameter", error.to_string()))?;
        self.faults.set(settings);
        Ok(self.faults_body())
    }

    fn hosts_body(&self) -> Answer {
        let hosts = self.world().hosts.iter().enumerate();
        let list: Vec<Value> = hosts
            .map(|(h, spec)| {
                let host = twin::ids::HostId::at(h);
                let key = self.by_host[h].as_ref();
                let machine = key.and_then(|key| self.machines.get(key));
                json!({
                    "host": h,
                    "name": spec.name,
                    "lifecycle": name_of(self.lifecycle(host)),
                    "vm": key.map(ToString::to_string),
                    "power": machine.map(|machine| self.power(machine).code()),
                    "provisioning": machine.map(|machine| self.provisioning(machine).name()),
                })
            })
            .collect();
        Answer::ok(json!({"value": list}))
    }
}

/// Reads a body of a schema; the error names the field.
fn read<'a, T: Deserialize<'a>>(call: &'a Call) -> Result<T, Denial> {
    let mut deserializer = serde_json::Deserializer::from_slice(&call.body);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let field = match error.path().to_string().as_str() {
            "." | "" => "body".to_owned(),
            path => path.to_owned(),
        };
        Denial::invalid(&field, error.into_inner())
    })
}
