//! The transport below the pipeline: limits, certificates, and the last word on who gets a token.

use std::time::Duration;

use async_trait::async_trait;
use azure_core::error::{Error, ErrorKind};
use azure_core::http::headers::{HeaderName, HeaderValue, Headers};
use azure_core::http::{AsyncRawResponse, Body, HttpClient, Method, Request};

use super::endpoint::{self, Endpoint, Origin};
use super::{AzureError, causes};

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long one attempt may take.
pub(super) const ATTEMPT_LIMIT: Duration = Duration::from_secs(20);
/// The most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Sends requests with limits on everything.
#[derive(Debug)]
pub(super) struct Wire {
    client: reqwest::Client,
    /// The only place to send to, where there is one.
    only: Option<Origin>,
    attempt_limit: Duration,
}

impl Wire {
    /// A transport for `endpoint`: to its origin alone if `confined`, else to anywhere, for
    /// credentials.
    pub(super) fn new(
        endpoint: &Endpoint,
        confined: bool,
        attempt_limit: Duration,
    ) -> Result<Self, AzureError> {
        let mut builder = client_builder(attempt_limit);
        if let Some(path) = &endpoint.ca_file {
            builder = builder.tls_certs_only(authorities(path)?);
        }
        // Proxies are for what is outside.
        if endpoint.origin.is_loopback() {
            builder = builder.no_proxy();
        }
        let client = builder
            .build()
            .map_err(|error| AzureError::Setup(format!("TLS: {}", causes(&error))))?;
        Ok(Self {
            client,
            only: confined.then(|| endpoint.origin.clone()),
            attempt_limit,
        })
    }
}

/// A builder of clients that follow nothing and wait for nothing longer than `attempt_limit`.
fn client_builder(attempt_limit: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_LIMIT.min(attempt_limit))
        .timeout(attempt_limit)
        .redirect(reqwest::redirect::Policy::none())
}

/// The certificates in the file at `path`.
pub(crate) fn authorities(path: &std::path::Path) -> Result<Vec<reqwest::Certificate>, AzureError> {
    let shown = path.display();
    let pem = std::fs::read(path)
        .map_err(|error| AzureError::Setup(format!("{shown}: cannot be read: {error}")))?;
    let list = reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|error| AzureError::Setup(format!("{shown}: {}", causes(&error))))?;
    if list.is_empty() {
        let problem = format!("{shown}: holds no certificate in PEM");
        return Err(AzureError::Setup(problem));
    }
    Ok(list)
}

/// A plain client for other services of the operator's own, as the decision service.
pub(crate) fn plain_client(
    url: &url::Url,
    ca_file: Option<&std::path::Path>,
    limit: Duration,
) -> Result<reqwest::Client, AzureError> {
    let mut builder = client_builder(limit);
    if let Some(path) = ca_file {
        builder = builder.tls_certs_only(authorities(path)?);
    }
    if endpoint::is_loopback(url) {
        builder = builder.no_proxy();
    }
    builder
        .build()
        .map_err(|error| AzureError::Setup(format!("TLS: {}", causes(&error))))
}

#[async_trait]
impl HttpClient for Wire {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        if let Some(only) = &self.only
            && !only.covers(request.url())
        {
            let target = request.url().origin().ascii_serialization();
            let problem = format!("{target} is not {}: nothing is sent there", only.host());
            return Err(Error::with_message(ErrorKind::Other, problem));
        }
        let mut builder = self
            .client
            .request(method(request.method())?, request.url().clone());
        for (name, value) in request.headers().iter() {
            builder = builder.header(name.as_str(), value.as_str());
        }
        if let Body::Bytes(bytes) = request.body() {
            builder = builder.body(bytes.clone());
        }
        let attempt = async {
            let mut answer = builder.send().await?;
            let status = answer.status().as_u16();
            let headers = headers(answer.headers());
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                    return Ok(None);
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Some(AsyncRawResponse::from_bytes(
                status.into(),
                headers,
                body,
            )))
        };
        let outcome = tokio::time::timeout(self.attempt_limit, attempt).await;
        match outcome {
            Err(_) => Err(Error::with_message(
                ErrorKind::Io,
                format!("no answer within {} s", self.attempt_limit.as_secs_f64()),
            )),
            Ok(Err(error)) => Err(failed(&error)),
            Ok(Ok(None)) => Err(Error::with_message(
                ErrorKind::Other,
                format!("the answer has more than {MAX_ANSWER_BYTES} bytes"),
            )),
            Ok(Ok(Some(answer))) => Ok(answer),
        }
    }
}

/// The error of the pipeline for `error`, with all its causes in its text.
fn failed(error: &reqwest::Error) -> Error {
    let kind = if error.is_connect() {
        ErrorKind::Connection
    } else {
        ErrorKind::Io
    };
    Error::with_message(kind, causes(error))
}

fn headers(map: &reqwest::header::HeaderMap) -> Headers {
    let mut headers = Headers::new();
    for (name, value) in map {
        // What is not text is of no use here.
        if let Ok(value) = value.to_str() {
            let name = HeaderName::from(name.as_str().to_owned());
            headers.insert(name, HeaderValue::from(value.to_owned()));
        }
    }
    headers
}

fn method(method: Method) -> azure_core::Result<reqwest::Method> {
    reqwest::Method::from_bytes(method.as_str().as_bytes()).map_err(|_| {
        Error::with_message(
            ErrorKind::Other,
            format!("unknown method {}", method.as_str()),
        )
    })
}
