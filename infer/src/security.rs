//! What keeps the service to those it is for: who may come, how often, with how much, and what is
//! kept of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::audit::{AuditError, AuditFile, AuditSink};
use crate::auth::{Authenticator, Client, Identity, Role, TokenError, TokenFile};
use crate::config::{self, Audience, ClientLimits, Config};
use crate::rate::{Limiter, Quota, Visitor};
use crate::tls::{Tls, TlsError};

/// Clients that are kept count of, unless the configuration says otherwise.
const MAX_CLIENTS: usize = 10_000;

/// Why the service cannot be kept safe.
#[derive(Debug, Error)]
pub enum SecurityError {
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The audit trail.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Who may ask for what needs no role of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Audiences {
    pub(crate) health: Audience,
    pub(crate) metrics: Audience,
    pub(crate) openapi: Audience,
}

/// How much each client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quotas {
    read: Option<Quota>,
    decide: Option<Quota>,
    operate: Option<Quota>,
    anyone: Option<Quota>,
    failures: Option<Quota>,
}

/// What keeps the service to those it is for.
#[derive(Debug)]
pub struct Security {
    pub(crate) authenticator: Authenticator,
    pub(crate) audiences: Audiences,
    /// Whether only this machine's own names are taken for the service's.
    pub(crate) is_local: bool,
    pub(crate) limiter: Limiter,
    pub(crate) audit: Option<Arc<dyn AuditSink>>,
    pub(crate) tls: Option<Arc<Tls>>,
    tokens: Option<(Arc<TokenFile>, Duration)>,
    quotas: Quotas,
    sizes: Option<ClientLimits>,
    started: Instant,
}

impl Security {
    /// None at all: anybody may do everything, in plain HTTP.
    #[must_use]
    pub fn open() -> Self {
        Self {
            authenticator: Authenticator::Open,
            audiences: Audiences {
                health: Audience::Anyone,
                metrics: Audience::Anyone,
                openapi: Audience::Anyone,
            },
            is_local: false,
            limiter: Limiter::new(MAX_CLIENTS),
            audit: None,
            tls: None,
            tokens: None,
            quotas: Quotas {
                read: None,
                decide: None,
                operate: None,
                anyone: None,
                failures: None,
            },
            sizes: None,
            started: Instant::now(),
        }
    }

    /// What the configuration asks for.
    ///
    /// # Errors
    ///
    /// If a file that it names cannot be read or written, or holds something else.
    pub fn new(config: &Config) -> Result<Self, SecurityError> {
        let tokens = config.auth.tokens_file.as_deref();
        let tokens = tokens.map(TokenFile::open).transpose()?.map(Arc::new);
        let authenticates = config.authenticates();
        let authenticator = if authenticates {
            Authenticator::Known {
                tokens: tokens.clone(),
                certificates: config.tls.clients.clone(),
            }
        } else {
            Authenticator::Open
        };
        let audit = match &config.audit.file {
            Some(path) => Some(Arc::new(AuditFile::open(path, config.audit.sync)?) as _),
            None => None,
        };
        Ok(Self {
            authenticator,
            audiences: Audiences {
                health: config.auth.health,
                metrics: config.auth.metrics,
                openapi: config.auth.openapi,
            },
            is_local: !authenticates && config.server.listen.ip().to_canonical().is_loopback(),
            limiter: Limiter::new(config.rate_limits.max_clients),
            audit,
            tls: Tls::open(&config.tls)?.map(Arc::new),
            tokens: tokens.map(|tokens| (tokens, config.auth.reload)),
            quotas: Quotas::new(&config.rate_limits),
            sizes: Some(config.client_limits.clone()),
            started: Instant::now(),
        })
    }

    /// Sends the audit trail to `sink`.
    #[must_use]
    pub fn with_audit(mut self, sink: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(sink);
        self
    }

    /// Warns of files that more people can read than should.
    pub fn warn(&self) {
        let tokens = self.tokens.iter().map(|(file, _)| file);
        for file in tokens.filter(|file| file.is_exposed()) {
            tracing::warn!(
                path = %file.path().display(),
                "everybody on this machine can read the hashes of the tokens: chmod 640"
            );
        }
        for tls in self.tls.iter().filter(|tls| tls.is_exposed()) {
            tracing::warn!(
                path = %tls.key_path().display(),
                "everybody on this machine can read the private key: chmod 640"
            );
        }
        if self.tls.is_none() && self.tokens.is_some() {
            tracing::warn!(
                "tokens come in plain HTTP: set tls.certificate, or let only a proxy on the same \
                 machine reach the service"
            );
        }
    }

    /// The file of tokens and the time between looks at it.
    pub(crate) fn tokens(&self) -> Option<&(Arc<TokenFile>, Duration)> {
        self.tokens.as_ref()
    }

    /// The time since the service was set up.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whom `client` is counted as, and how much it may ask for.
    pub(crate) fn quota(&self, client: &Client) -> Option<(Visitor, Quota)> {
        let (visitor, quota) = match (&client.identity, client.role) {
            (Identity::Token(name) | Identity::Certificate(name), Some(role)) => {
                let quota = match role {
                    Role::Read => self.quotas.read,
                    Role::Decide => self.quotas.decide,
                    Role::Operate => self.quotas.operate,
                };
                (Visitor::Client(name.clone()), quota)
            }
            _ => (Visitor::address(client.address), self.quotas.anyone),
        };
        Some((visitor, quota?))
    }

    /// How often wrong credentials may come from an address.
    pub(crate) fn failures(&self) -> Option<Quota> {
        self.quotas.failures
    }

    /// The most bytes of a body of `client`, of `most` at all.
    pub(crate) fn body_bytes(&self, client: &Client, most: usize) -> usize {
        let own = self.sizes.as_ref().and_then(|sizes| match client.role {
            Some(Role::Operate) => sizes.operate_body_bytes,
            Some(Role::Decide) => sizes.decide_body_bytes,
            Some(Role::Read) | None => sizes.read_body_bytes,
        });
        own.unwrap_or(most).min(most)
    }

    /// Whether `client` may ask about a state of so many hosts and requests, and if not, why.
    pub(crate) fn check_state(
        &self,
        client: &Client,
        hosts: usize,
        requests: usize,
    ) -> Result<(), (&'static str, String)> {
        let Some(sizes) = self
            .sizes
            .as_ref()
            .filter(|_| client.role < Some(Role::Operate))
        else {
            return Ok(());
        };
        for (field, count, most) in [
            ("state.hosts", hosts, sizes.decide_hosts),
            ("state.requests", requests, sizes.decide_requests),
        ] {
            if count > most {
                let problem = format!("may have {most} entries from this client, not {count}");
                return Err((field, problem));
            }
        }
        Ok(())
    }
}

impl Quotas {
    fn new(rates: &config::RateLimits) -> Self {
        let quota = |rate: Option<f64>| rate.map(|per_s| Quota::new(per_s, rates.burst));
        Self {
            read: quota(rates.read_per_s),
            decide: quota(rates.decide_per_s),
            operate: quota(rates.operate_per_s),
            anyone: quota(rates.anyone_per_s),
            failures: quota(Some(rates.failures_per_s)),
        }
    }
}
