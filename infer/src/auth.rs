//! Who asks, and what they may do.
//!
//! A client is known by a bearer token, of which the service keeps the SHA-256 only, or by the
//! certificate that it shows (mutual TLS). It has one role, and each role may do what the one below
//! it may: `read` < `decide` < `operate`. Which endpoint asks for which role is said where the
//! endpoint is routed, and in no other place.
//!
//! A token is 256 random bits, so that neither a slow hash nor a salt would make it harder to
//! guess (NIST SP 800-63B, section 5.1.1.2, asks for them for secrets that people choose).
//! Challenges and their errors are those of RFC 6750.
//!
//! Left out: passwords, and tokens that others sign.

mod certificate;
mod tokens;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

pub use self::certificate::{CertificateName, CertificateNames};
pub use self::tokens::{NewToken, Reload, TokenError, TokenFile, Tokens};

use crate::config::KnownClient;

/// What a client may do: each role may do what the one before it may.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See the state of the service and of the fleet.
    Read,
    /// Ask for decisions, and tell what happens on the fleet.
    Decide,
    /// Change what decides.
    Operate,
}

impl Role {
    /// All roles, the lowest first.
    pub const ALL: [Self; 3] = [Self::Read, Self::Decide, Self::Operate];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Decide => "decide",
            Self::Operate => "operate",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| {
                format!("there is no role \"{text}\"; there are read, decide and operate")
            })
    }
}

/// What a client is called: 1 to 64 letters, digits and `.`, `_`, `-`, `@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientName(Arc<str>);

impl ClientName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(is_plain) {
            Ok(Self(text.into()))
        } else {
            Err("a client's name has 1 to 64 letters, digits and . _ - @".into())
        }
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ClientName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Somebody who asks, and how they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// How they are known.
    pub identity: Identity,
    /// What they may do; nothing where it is `None`.
    pub role: Option<Role>,
    /// Where they are.
    pub address: IpAddr,
}

/// How a client is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Nobody authenticates.
    Anyone,
    /// They showed nothing.
    Nobody,
    /// By a token.
    Token(ClientName),
    /// By a certificate that the configuration knows.
    Certificate(ClientName),
    /// By a certificate that the configuration does not know.
    Stranger,
}

impl Client {
    /// Somebody of whom nothing is known, who may do nothing.
    #[must_use]
    pub fn nobody(address: IpAddr) -> Self {
        Self {
            identity: Identity::Nobody,
            role: None,
            address,
        }
    }

    /// Somebody where nobody authenticates, who may do everything.
    #[must_use]
    pub fn anyone(address: IpAddr) -> Self {
        Self {
            identity: Identity::Anyone,
            role: Some(Role::Operate),
            address,
        }
    }

    /// The name, if there is one.
    #[must_use]
    pub fn name(&self) -> Option<&ClientName> {
        match &self.identity {
            Identity::Token(name) | Identity::Certificate(name) => Some(name),
            Identity::Anyone | Identity::Nobody | Identity::Stranger => None,
        }
    }
}

/// Where a connection comes from, and the certificate that was shown on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address.
    pub address: IpAddr,
    /// The names of the certificate, whose chain was verified.
    pub certificate: Option<Arc<CertificateNames>>,
}

impl Peer {
    /// A peer whose address nobody knows.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            certificate: None,
        }
    }
}

/// Why credentials are refused. It tells nothing of what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// The header is not `Bearer` and a token.
    #[error("the header Authorization must be: Bearer TOKEN")]
    Malformed,
    /// There is no such token.
    #[error("there is no such token")]
    Unknown,
    /// The token was one.
    #[error("the token has expired")]
    Expired,
}

/// Tells who asks.
#[derive(Debug)]
pub enum Authenticator {
    /// Nobody authenticates: everybody may do everything.
    Open,
    /// By tokens and certificates.
    Known {
        /// The tokens, if there are any.
        tokens: Option<Arc<TokenFile>>,
        /// The clients that certificates make known.
        certificates: Vec<KnownClient>,
    },
}

impl Authenticator {
    /// Who sends a request with these headers `Authorization`, at the time `now`. A token goes
    /// before a certificate.
    ///
    /// # Errors
    ///
    /// If there are credentials, and they are wrong.
    pub fn identify<'a>(
        &self,
        mut authorization: impl Iterator<Item = &'a [u8]>,
        peer: &Peer,
        now: Timestamp,
    ) -> Result<Client, CredentialError> {
        let (tokens, certificates) = match self {
            Self::Open => return Ok(Client::anyone(peer.address)),
            Self::Known {
                tokens,
                certificates,
            } => (tokens, certificates),
        };
        let Some(header) = authorization.next() else {
            return Ok(by_certificate(certificates, peer));
        };
        if authorization.next().is_some() {
            return Err(CredentialError::Malformed);
        }
        let token = bearer(header).ok_or(CredentialError::Malformed)?;
        let tokens = tokens.as_ref().ok_or(CredentialError::Unknown)?.current();
        let (name, role) = tokens.find(token, now)?;
        Ok(Client {
            identity: Identity::Token(name.clone()),
            role: Some(role),
            address: peer.address,
        })
    }
}

fn by_certificate(known: &[KnownClient], peer: &Peer) -> Client {
    let Some(names) = &peer.certificate else {
        return Client::nobody(peer.address);
    };
    let (identity, role) = match known.iter().find(|k| names.have(&k.certificate)) {
        Some(known) => (Identity::Certificate(known.name.clone()), Some(known.role)),
        None => (Identity::Stranger, None),
    };
    Client {
        identity,
        role,
        address: peer.address,
    }
}

/// The token of a header `Authorization` (RFC 6750, section 2.1).
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(6)?;
    let token = token.strip_prefix(b" ")?.trim_ascii();
    let is_token = !token.is_empty() && token.iter().all(u8::is_ascii_graphic);
    (scheme.eq_ignore_ascii_case(b"bearer") && is_token).then_some(token)
}

#[cfg(test)]
mod tests;
