//! The clients: HTTP that asks again, and Azure.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use reqwest::Method;
use reqwest::blocking::{Client, RequestBuilder};
use serde_json::Value;

/// How long the service may be away.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// The wait before it is asked again where nobody has answered.
const AGAIN: Duration = Duration::from_millis(100);

/// An HTTP client that asks again where it should.
pub(super) struct Http(pub(super) Client);

impl Http {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Client::builder().timeout(ANSWER_LIMIT).build()?))
    }

    /// Sends `request`; the body of the answer.
    pub(super) fn send(&self, request: RequestBuilder) -> Result<Vec<u8>> {
        let answer = request.send()?.error_for_status()?;
        Ok(answer.bytes()?.to_vec())
    }

    pub(super) fn json(&self, method: &Method, url: &str, body: &Value) -> RequestBuilder {
        let request = self.0.request(method.clone(), url);
        let request = request.header("content-type", "application/json");
        request.body(body.to_string())
    }

    /// As [`Http::send`], again and again while nobody answers, or who does asks to come back later.
    pub(super) fn ask(&self, request: RequestBuilder) -> Result<Vec<u8>> {
        let began = Instant::now();
        loop {
            let request = request.try_clone().context("a request of bytes")?;
            let answer = request.send().and_then(|answer| {
                let (status, url) = (answer.status(), answer.url().clone());
                let after = answer.headers().get("retry-after").cloned();
                Ok((status, url, after, answer.bytes()?))
            });
            let (problem, wait) = match answer {
                Ok((status, _, _, body)) if status.is_success() => return Ok(body.to_vec()),
                Ok((status, url, after, body)) => {
                    let problem = anyhow!("{url}: {status} {}", String::from_utf8_lossy(&body));
                    if ![429, 503].contains(&status.as_u16()) {
                        return Err(problem);
                    }
                    let seconds = after.and_then(|after| after.to_str().ok()?.parse().ok());
                    (problem, Duration::from_secs(seconds.unwrap_or(1)))
                }
                Err(error) => (error.into(), AGAIN),
            };
            if began.elapsed() + wait > PATIENCE {
                return Err(problem);
            }
            thread::sleep(wait);
        }
    }
}

/// Turns VMs on and off through the Resource Manager, as a service principal.
pub(super) struct Azure {
    vms: String,
    tokens: String,
    /// What a token is asked for with.
    form: String,
}

impl Azure {
    /// The VMs of a resource group, whose id is `/subscriptions/S/resourceGroups/G`.
    pub(super) fn new(url: &str, group: &str) -> Result<Self> {
        let variable = |name: &str| {
            let value = std::env::var(name);
            value.with_context(|| format!("--azure: the environment has no {name}"))
        };
        let (tenant, authority) = (
            variable("AZURE_TENANT_ID")?,
            variable("AZURE_AUTHORITY_HOST"),
        );
        let authority = authority.unwrap_or("https://login.microsoftonline.com".into());
        let url = url.trim_end_matches('/');
        Ok(Self {
            vms: format!("{url}{group}/providers/Microsoft.Compute/virtualMachines"),
            tokens: format!(
                "{}/{tenant}/oauth2/v2.0/token",
                authority.trim_end_matches('/')
            ),
            form: url::form_urlencoded::Serializer::new(String::new())
                .append_pair("grant_type", "client_credentials")
                .append_pair("client_id", &variable("AZURE_CLIENT_ID")?)
                .append_pair("client_secret", &variable("AZURE_CLIENT_SECRET")?)
                .append_pair("scope", "https://management.azure.com/.default")
                .finish(),
        })
    }

    pub(super) fn turn(&self, http: &Http, vm: &str, on: bool) -> Result<()> {
        let kind = "application/x-www-form-urlencoded";
        let tokens = http.0.post(&self.tokens).header("content-type", kind);
        let answer = http.ask(tokens.body(self.form.clone()))?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let token = answer["access_token"].as_str().context("no token")?;
        let verb = if on { "start" } else { "deallocate" };
        let url = format!("{}/{vm}/{verb}?api-version=2024-07-01", self.vms);
        http.ask(http.0.post(url).bearer_auth(token).body(""))
            .map(drop)
    }
}
