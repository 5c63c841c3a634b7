//! TLS: the service's certificate, and those of clients.
//!
//! One stack, rustls on aws-lc-rs, in the versions and suites that it holds to be safe. The files
//! are looked at again while the service runs: new ones hold for new connections, and broken ones
//! are told and passed over.
//!
//! Left out: revocation lists and stapled answers, for which short-lived certificates stand in.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use thiserror::Error;

use crate::config::{self, CertificateRule, TlsVersion};

/// The most bytes of a file of certificates.
const MAX_BYTES: u64 = 4 << 20;
/// What is spoken over TLS, the best first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why there can be no TLS. It never tells what stands in a private key.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// Certificate and key do not work.
    #[error("the certificate {} with the key {}: {source}", certificate.display(), key.display())]
    Pair {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// The reason.
        source: rustls::Error,
    },
    /// The authorities do not work.
    #[error("{}: {source}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: VerifierBuilderError,
    },
}

/// The names of the files, and what to do with them.
#[derive(Clone, Debug)]
struct Plan {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    rule: CertificateRule,
    oldest: TlsVersion,
}

/// What stands in the files.
#[derive(PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// TLS with the certificates that hold.
pub struct Tls {
    plan: Plan,
    current: RustlsConfig,
    handshake_timeout: Duration,
    reload: Duration,
    /// What was read last, right or wrong; none where it could not be read.
    seen: Mutex<Option<Content>>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// What a look at the files found.
#[derive(Debug)]
pub enum TlsReload {
    /// Nothing new.
    Unchanged,
    /// Certificates that hold from now on.
    Loaded,
    /// Something wrong: the old certificates still hold.
    Kept(TlsError),
}

impl Tls {
    /// What the configuration asks for; none for plain HTTP.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or does not hold what it should.
    pub fn open(config: &config::Tls) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (config.certificate.clone(), config.key.clone())
        else {
            return Ok(None);
        };
        let plan = Plan {
            certificate,
            key,
            client_ca: config.client_ca.clone(),
            rule: config.client_certificate,
            oldest: config.min_version,
        };
        let content = plan.read()?;
        let server = plan.build(&content)?;
        Ok(Some(Self {
            plan,
            current: RustlsConfig::from_config(Arc::new(server)),
            handshake_timeout: config.handshake_timeout,
            reload: config.reload,
            seen: Mutex::new(Some(content)),
        }))
    }

    /// Looks at the files again. What is wrong is told once, not at each look.
    pub fn reload(&self) -> TlsReload {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (read, error) = match self.plan.read() {
            Ok(content) => (Some(content), None),
            Err(error) => (None, Some(error)),
        };
        if read == *seen {
            return TlsReload::Unchanged;
        }
        let built = match (&read, error) {
            (Some(content), _) => self.plan.build(content),
            (None, Some(error)) => Err(error),
            (None, None) => return TlsReload::Unchanged,
        };
        *seen = read;
        match built {
            Ok(server) => {
                self.current.reload_from_config(Arc::new(server));
                TlsReload::Loaded
            }
            Err(error) => TlsReload::Kept(error),
        }
    }

    /// The time between looks.
    #[must_use]
    pub fn reload_interval(&self) -> Duration {
        self.reload
    }

    /// Whether others than the owner can read the private key.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        crate::files::is_readable_by_all(&self.plan.key)
    }

    /// The file of the private key.
    #[must_use]
    pub fn key_path(&self) -> &Path {
        &self.plan.key
    }

    pub(crate) fn current(&self) -> RustlsConfig {
        self.current.clone()
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }
}

impl Plan {
    fn read(&self) -> Result<Content, TlsError> {
        Ok(Content {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn build(&self, content: &Content) -> Result<ServerConfig, TlsError> {
        let pair = |source| TlsError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions: &[&SupportedProtocolVersion] = match self.oldest {
            TlsVersion::V1_2 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(pair)?;
        let builder = match (&self.client_ca, &content.client_ca) {
            (Some(path), Some(pem)) => {
                let roots = Arc::new(authorities(path, pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
                let verifier = match self.rule {
                    CertificateRule::Required => verifier,
                    CertificateRule::Optional => verifier.allow_unauthenticated(),
                };
                let verifier = verifier.build().map_err(|source| TlsError::Authorities {
                    path: path.clone(),
                    source,
                })?;
                builder.with_client_cert_verifier(verifier)
            }
            _ => builder.with_no_client_auth(),
        };
        let chain = certificates(&self.certificate, &content.certificate)?;
        let key = private_key(&self.key, &content.key)?;
        let mut server = builder.with_single_cert(chain, key).map_err(pair)?;
        server.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(server)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?
            .take(MAX_BYTES + 1)
            .read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            let problem = format!("it has more than {MAX_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
        }
        Ok(bytes)
    };
    read().map_err(|source| TlsError::Read {
        path: path.into(),
        source,
    })
}

fn content(path: &Path, problem: &str) -> TlsError {
    TlsError::Content {
        path: path.into(),
        problem: problem.into(),
    }
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(content(path, "there is no certificate in PEM in it")),
        Err(_) => Err(content(path, "a certificate in it is not PEM")),
    }
}

fn private_key(path: &Path, pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    // The reader's own errors repeat what it read.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        content(
            path,
            "there is no private key in PEM in it, or it is encrypted",
        )
    })
}

fn authorities(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        let added = roots.add(certificate);
        added.map_err(|e| content(path, &format!("an authority in it is of no use: {e}")))?;
    }
    Ok(roots)
}
