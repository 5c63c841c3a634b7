//! The decision service as the loop talks to it: bounded, with its token, and its refusals in words.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use thiserror::Error;
use twin::wire::{MAX_BODY_BYTES, Problem};
use url::Url;

use crate::azure::causes;

/// How long the service and the state document may take.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why there is no answer that is worth anything.
#[derive(Debug, Error)]
#[error("{url}: {problem}")]
pub struct ServiceError {
    /// What was asked.
    pub url: Box<Url>,
    /// The status, where there was an answer.
    pub status: Option<u16>,
    /// What is wrong.
    pub problem: String,
}

/// A service.
#[derive(Clone, Debug)]
pub struct Service {
    base: Url,
    client: reqwest::Client,
    token: Option<Arc<str>>,
}

impl Service {
    /// The service at `base`, asked with `client`; `token` is sent as a bearer token.
    #[must_use]
    pub fn new(base: &Url, client: reqwest::Client, token: Option<Arc<str>>) -> Self {
        Self {
            base: base.clone(),
            client,
            token,
        }
    }

    /// The address of `path`, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let before = self.base.path().trim_end_matches('/');
        url.set_path(&format!("{before}{path}"));
        url.set_query(Some(query).filter(|query| !query.is_empty()));
        url
    }

    /// The body of the answer to `GET path`.
    ///
    /// # Errors
    ///
    /// If there is no answer, or one that refuses.
    pub async fn get(&self, path: &str) -> Result<Vec<u8>, ServiceError> {
        let url = self.url(path);
        self.answer(self.client.get(url.clone()), url).await
    }

    /// The body of the answer to `message` at `path`.
    ///
    /// # Errors
    ///
    /// If there is no answer, or one that refuses.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        message: &(impl Serialize + Sync),
    ) -> Result<Vec<u8>, ServiceError> {
        let url = self.url(path);
        let body = serde_json::to_vec(message).map_err(|error| ServiceError {
            url: Box::new(url.clone()),
            status: None,
            problem: error.to_string(),
        })?;
        let request = self
            .client
            .request(method, url.clone())
            .header("content-type", "application/json")
            .body(body);
        self.answer(request, url).await
    }

    async fn answer(
        &self,
        request: reqwest::RequestBuilder,
        url: Url,
    ) -> Result<Vec<u8>, ServiceError> {
        let error = |status, problem| ServiceError {
            url: Box::new(url.clone()),
            status,
            problem,
        };
        let (status, body) = fetch(request, self.token.as_deref())
            .await
            .map_err(|problem| error(None, problem))?;
        if status == 200 {
            return Ok(body);
        }
        let told = serde_json::from_slice::<Problem>(&body);
        let detail = told.map_or_else(|_| String::new(), |p| format!(": {}", p.detail));
        Err(error(Some(status), format!("status {status}{detail}")))
    }
}

/// Sends a request and reads a bounded answer: status and body.
///
/// # Errors
///
/// If there is none, or it is too large.
pub(super) async fn fetch(
    request: reqwest::RequestBuilder,
    token: Option<&str>,
) -> Result<(u16, Vec<u8>), String> {
    let request = match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    };
    let told = |error: reqwest::Error| causes(&error.without_url());
    let mut answer = request.send().await.map_err(told)?;
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(told)? {
        if body.len() + chunk.len() > MAX_BODY_BYTES {
            return Err(format!("the answer has more than {MAX_BODY_BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_base() {
        let of = |base: &str| {
            let base = Url::parse(base).expect("an address");
            let service = Service::new(&base, reqwest::Client::new(), None);
            service.url("/v1/fleet?view=summary").to_string()
        };
        assert_eq!(of("http://a:1"), "http://a:1/v1/fleet?view=summary");
        assert_eq!(of("http://a:1/in/"), "http://a:1/in/v1/fleet?view=summary");
    }
}
