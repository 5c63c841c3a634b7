//! A policy behind a service: asks `POST /v1/decisions` for every decision.
//!
//! States and decisions are those of [`twin::wire`], which loses nothing, so a service that runs a
//! policy without memory decides as the same policy does in process.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use twin::decision::Decision;
use twin::observation::Observation;
use twin::policy::{Policy, PolicyError};
use twin::wire::{DecisionRequest, DecisionResponse, MAX_BODY_BYTES, Problem};
use twin::world::World;
use ureq::Agent;
use ureq::http::Response;

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long an answer may take, from the connection to its last byte.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The most bytes of a problem document or a health page.
const SMALL_BODY_BYTES: u64 = 64 << 10;

/// A policy that asks a service, over one connection that stays open.
#[derive(Debug)]
pub struct RemotePolicy {
    url: String,
    decisions_url: String,
    agent: Agent,
    body: Vec<u8>,
}

/// What is read of a health page.
#[derive(Debug, Deserialize)]
struct Health {
    world: String,
    world_hash: String,
}

/// The service at `url` as a policy for `world`; its random choices are its own.
///
/// # Errors
///
/// If the service does not answer, or decides for another world.
pub fn build(url: &str, world: &World, _seed: u64) -> Result<Box<dyn Policy>> {
    let policy = RemotePolicy::new(url);
    policy.check(world)?;
    Ok(Box::new(policy))
}

impl RemotePolicy {
    /// The service at `url`, as in `http://127.0.0.1:8080`; nothing is sent yet.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // Services stand next to the evaluation; a proxy for the world outside would not reach
            // them.
            .proxy(None)
            .timeout_connect(Some(CONNECT_LIMIT))
            .timeout_global(Some(ANSWER_LIMIT))
            .build();
        Self {
            url: url.into(),
            decisions_url: format!("{}/v1/decisions", url.trim_end_matches('/')),
            agent: Agent::new_with_config(config),
            body: Vec::new(),
        }
    }

    /// Whether the service answers and decides for `world`.
    ///
    /// # Errors
    ///
    /// If not.
    pub fn check(&self, world: &World) -> Result<()> {
        let url = &self.url;
        let mut response = self
            .agent
            .get(format!("{}/healthz", url.trim_end_matches('/')))
            .call()
            .with_context(|| format!("service {url} does not answer; `infer serve` starts one"))?;
        let status = response.status().as_u16();
        let body = read(&mut response, SMALL_BODY_BYTES)
            .with_context(|| format!("service {url} does not answer"))?;
        if status != 200 {
            bail!("service {url}: {}", explain(status, &body));
        }
        let health: Health = serde_json::from_slice(&body)
            .with_context(|| format!("service {url}: the health page is not infer's"))?;
        if health.world != world.name || health.world_hash != world.hash {
            bail!(
                "service {url} decides for the world {} ({}), not for {} ({})",
                health.world,
                health.world_hash,
                world.name,
                world.hash
            );
        }
        Ok(())
    }

    fn error(&self, problem: impl Into<String>) -> PolicyError {
        PolicyError {
            policy: self.url.clone(),
            problem: problem.into(),
        }
    }
}

impl Policy for RemotePolicy {
    fn name(&self) -> &str {
        &self.url
    }

    fn decide(
        &mut self,
        observation: &Observation<'_>,
        decision: &mut Decision,
    ) -> Result<(), PolicyError> {
        let world = observation.world();
        let view = observation.view();
        self.body.clear();
        serde_json::to_writer(&mut self.body, &DecisionRequest::from_view(world, &view))
            .map_err(|e| self.error(format!("cannot write the state: {e}")))?;
        let mut response = self
            .agent
            .post(&self.decisions_url)
            .content_type("application/json")
            .send(self.body.as_slice())
            .map_err(|e| self.error(format!("the service does not answer: {e}")))?;
        let status = response.status().as_u16();
        let body = read(&mut response, MAX_BODY_BYTES as u64)
            .map_err(|e| self.error(format!("the answer broke off: {e}")))?;
        if status != 200 {
            return Err(self.error(explain(status, &body)));
        }
        DecisionResponse::from_json(&body)
            .and_then(|response| response.decision.to_decision(world, &view, decision))
            .map_err(|e| self.error(format!("the answer is wrong: {e}")))
    }
}

fn read(response: &mut Response<ureq::Body>, limit: u64) -> Result<Vec<u8>, ureq::Error> {
    response.body_mut().with_config().limit(limit).read_to_vec()
}

/// What a refusal says.
fn explain(status: u16, body: &[u8]) -> String {
    match serde_json::from_slice::<Problem>(body) {
        Ok(Problem {
            title,
            detail,
            field: Some(field),
            ..
        }) => {
            format!("status {status}: {title}: {field}: {detail}")
        }
        Ok(Problem {
            title,
            detail,
            field: None,
            ..
        }) => {
            format!("status {status}: {title}: {detail}")
        }
        Err(_) => format!("status {status}, without a problem document"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use twin::state::{Epoch, State};

    use super::*;

    fn decide(policy: &mut RemotePolicy) -> Result<(), PolicyError> {
        let world = World::load("scinet-16").expect("the world is embedded");
        let state = State::new(&world);
        let observation = Observation::new(&world, &state, Epoch::Boundary);
        policy.decide(&observation, &mut Decision::none())
    }

    #[test]
    fn a_service_that_is_not_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        drop(listener);
        let world = World::load("scinet-16").expect("the world is embedded");
        let error = build(&url, &world, 1).err().expect("nobody listens");
        assert!(error.to_string().contains(&url), "{error}");
        assert!(
            error.chain().any(|cause| cause.is::<ureq::Error>()),
            "{error:?}"
        );
        let error = decide(&mut RemotePolicy::new(&url)).expect_err("nobody listens");
        assert!(error.to_string().contains("does not answer"), "{error}");
    }

    #[test]
    fn a_refusal_is_told_with_its_field() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = Vec::new();
            let mut buffer = [0; 1 << 12];
            // A state ends with the list of arrival rates.
            while !request.ends_with(b"]}}") {
                let count = stream.read(&mut buffer).expect("a request");
                request.extend_from_slice(&buffer[..count]);
            }
            let problem = br#"{"type":"about:blank","title":"No","status":422,"detail":"why","field":"state.now_ns"}"#;
            let head = format!(
                "HTTP/1.1 422 No\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                problem.len()
            );
            stream.write_all(head.as_bytes()).expect("open");
            stream.write_all(problem).expect("open");
        });
        let error = decide(&mut RemotePolicy::new(&url)).expect_err("the service refuses");
        server.join().expect("the service ends");
        assert_eq!(
            error.to_string(),
            format!("policy {url}: status 422: No: state.now_ns: why")
        );
    }
}
