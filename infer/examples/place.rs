//! The smallest deployer: asks where requests should run, sends them there, tells what happened.
//!
//! One request of each application, one after the other, and all hosts are on. What a deployer does
//! beside that, and when something fails, is in `deployer`.
//!
//! ```text
//! cargo run -p infer --example place -- infer/examples/small.toml http://127.0.0.1:8080 \
//!     http://127.0.0.1:900{1,2,3}
//! ```

use std::io::Write;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use twin::World;
use twin::units::SimTime;

/// A service that keeps a fleet, and the fleet's clock.
struct Service {
    url: String,
    began: Instant,
}

impl Service {
    fn now_ns(&self) -> u64 {
        SimTime::from_seconds(self.began.elapsed().as_secs_f64()).0
    }

    fn tell(&self, delta: &Value) -> Result<()> {
        let body = json!({"schema": 1, "now_ns": self.now_ns(), "deltas": [delta]});
        ureq::post(format!("{}/v1/telemetry", self.url)).send_json(body)?;
        Ok(())
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "expected WORLD SERVICE WORKER...";
    let world = World::load(&arguments.next().context(usage)?)?;
    let url = arguments.next().context(usage)?;
    let workers: Vec<String> = arguments.collect();
    let began = Instant::now();
    let service = Service { url, began };
    let on = json!({"lifecycle": "on", "queue": [], "resident": []});
    let rates = world.applications.iter();
    let rates = rates.map(|a| json!({"application": a.name, "per_s": [0, 0, 0]}));
    let state = json!({
        "now_ns": 0, "epoch": "boundary", "next_boundary_ns": world.interval.0, "next_request": 0,
        "hosts": vec![on; workers.len()], "requests": [], "transfers": [],
        "arrival_rates": rates.collect::<Vec<Value>>(),
    });
    let fleet = ureq::put(format!("{}/v1/fleet", service.url));
    fleet.send_json(json!({"schema": 1, "state": state}))?;
    for (request, application) in world.applications.iter().enumerate() {
        let question = json!({
            "schema": 1, "now_ns": service.now_ns(), "epoch": "arrival",
            "requests": [{"id": request, "application": application.name}],
        });
        let decisions = ureq::post(format!("{}/v1/decisions", service.url));
        let answer: Value = decisions.send_json(question)?.body_mut().read_json()?;
        let deployment = &answer["decision"]["deployments"][0];
        let hosts = deployment["hosts"].as_array().context("it has to wait")?;
        for (fragment, host) in hosts.iter().enumerate() {
            let about =
                |kind: &str| json!({"kind": kind, "request": request, "fragment": fragment});
            let worker = host
                .as_u64()
                .and_then(|host| workers.get(usize::try_from(host).ok()?));
            service.tell(&about("started"))?;
            let run = ureq::post(format!("{}/run", worker.context("no such host")?));
            run.send_json(json!({
                "request": request, "application": application.name,
                "variant": deployment["variant"], "fragment": fragment,
            }))?;
            service.tell(&about("finished"))?;
        }
        service.tell(&json!({"kind": "answered", "request": request}))?;
        writeln!(std::io::stdout(), "{deployment}")?;
    }
    Ok(())
}
