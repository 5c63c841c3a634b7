//! A virtual Azure without sockets and threads.

use axum::body::Bytes;
use axum::http::Request;
use axum::response::Response;

use super::access::Access;
use super::clock::ClockKind;
use super::cloud::Cloud;
use super::engine;
use super::http::{Front, body_limit, too_long};
use super::options::Options;
use super::server::StartError;

/// A virtual Azure that answers on the thread of whoever asks, one call after the other; the same
/// calls get the same answers.
///
/// ```
/// use std::sync::Arc;
/// use infer::virtual_azure::{InProcess, Options};
/// let world = Arc::new(twin::World::load("scinet-16")?);
/// let mut azure = InProcess::new(Options::stepped(world))?;
/// let request = axum::http::Request::get("/virtual/clock").body(Default::default())?;
/// let response = azure.answer(&request).expect("no fault loses it");
/// assert_eq!(response.status(), 200);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct InProcess {
    front: Front,
    cloud: Cloud,
}

impl InProcess {
    /// The virtual Azure of `options`, with a stepped clock. A deployer that is a service counts as
    /// one outside.
    ///
    /// # Errors
    ///
    /// If there is no such policy, or the faults are not as they must be.
    pub fn new(options: Options) -> Result<Self, StartError> {
        let options = Options {
            faults: options.faults.clone().checked()?,
            clock: ClockKind::Stepped,
            ..options
        };
        let access = Access::new(&options.tenant, &options.client_secret);
        Ok(Self {
            front: Front::new(access, options.tls, &options.tenant),
            cloud: Cloud::new(&options, None)?,
        })
    }

    /// A bearer token of `caller`, as the token endpoint would hand it out.
    #[must_use]
    pub fn token(&self, caller: &str) -> String {
        self.front.token(caller)
    }

    /// Answers `request`; `None` where a fault loses the answer.
    pub fn answer(&mut self, request: &Request<Bytes>) -> Option<Response> {
        let mut call = self.front.call(request);
        let limit = body_limit(&call);
        let answer = if request.body().len() > limit {
            too_long(limit).answer()
        } else {
            call.body = request.body().to_vec();
            match self.front.admit(call, request.headers()) {
                Ok(call) => engine::answer(&mut self.cloud, &call),
                Err(answer) => *answer,
            }
        };
        self.front.response(answer, request.headers()).ok()
    }
}
