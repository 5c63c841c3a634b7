//! A virtual Azure that serves until it is dropped.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use thiserror::Error;
use tokio::runtime::Runtime;
use twin::policy::PolicyError;

use super::access::Access;
use super::certificates::{self, CertificateError, Identity};
use super::cloud::Cloud;
use super::deploy::{Ask, DeployerChoice};
use super::engine::Engine;
use super::faults::FaultsError;
use super::http::{Lost, Shell};
use super::options::Options;

/// How long a decision service may take to answer.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// How long connections may take to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);
/// Threads that talk to clients.
const THREADS: usize = 2;

/// Why a virtual Azure does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// Threads cannot be started.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// There is no certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate cannot be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// There is no such policy to place requests.
    #[error(transparent)]
    Deployer(#[from] PolicyError),
    /// The client of the decision service cannot be made.
    #[error("cannot make a client of the decision service: {0}")]
    Client(#[from] reqwest::Error),
    /// The faults are not as they must be.
    #[error("faults: {0}")]
    Faults(#[from] FaultsError),
}

/// A virtual Azure that serves until it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    url: String,
    ca_pem: Option<String>,
    shell: Option<Shell>,
    handle: Handle<SocketAddr>,
    runtime: Option<Runtime>,
    engine: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to serve; returns when it listens.
    ///
    /// # Errors
    ///
    /// If the address is taken, or something else of `options` cannot be had.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let faults = options.faults.clone().checked()?;
        let options = Options { faults, ..options };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("virtual-azure-http")
            .enable_all()
            .build()?;
        let address = options.listen;
        let listener = TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|source| StartError::Listen { address, source })?;
        let address = listener.local_addr()?;
        let identity = match options.tls {
            true => Some(certificates::identity(address.ip())?),
            false => None,
        };
        write_ca(&options, identity.as_ref())?;
        let ask = asker(&options.deployer, &runtime)?;
        let cloud = Cloud::new(&options, ask)?;
        let (engine, thread) = Engine::start(cloud)?;
        let access = Access::new(&options.tenant, &options.client_secret);
        let shell = Shell::new(engine, access, options.tls, &options.tenant);
        let handle = Handle::new();
        serve(
            &runtime,
            (listener, handle.clone()),
            identity.as_ref(),
            &shell,
        )?;
        let scheme = if options.tls { "https" } else { "http" };
        Ok(Self {
            address,
            url: format!("{scheme}://{address}"),
            ca_pem: identity.map(|identity| identity.ca_pem),
            shell: Some(shell),
            handle,
            runtime: Some(runtime),
            engine: Some(thread),
        })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where its clients find it: `https://127.0.0.1:…`, without a path.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate that its clients must trust, as PEM; `None` without TLS.
    #[must_use]
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// A bearer token of `caller`, as the token endpoint would hand it out.
    #[must_use]
    pub fn token(&self, caller: &str) -> String {
        let shell = self.shell.as_ref();
        shell.map_or_else(String::new, |shell| shell.token(caller))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.handle.graceful_shutdown(Some(SHUTDOWN_LIMIT));
        self.shell = None;
        if let Some(runtime) = self.runtime.take() {
            // Not one that waits: a server may be dropped by a thread of another runtime.
            runtime.shutdown_background();
        }
        if let Some(engine) = self.engine.take()
            && engine.join().is_err()
        {
            tracing::error!("the twin's thread panicked");
        }
    }
}

fn write_ca(options: &Options, identity: Option<&Identity>) -> Result<(), StartError> {
    let (Some(folder), Some(identity)) = (&options.tls_dir, identity) else {
        return Ok(());
    };
    let path = folder.join("ca.pem");
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&path, &identity.ca_pem))
        .map_err(|source| StartError::Write { path, source })
}

/// Serves `shell` on `listener` in the background.
fn serve(
    runtime: &Runtime,
    (listener, handle): (TcpListener, Handle<SocketAddr>),
    identity: Option<&Identity>,
    shell: &Shell,
) -> Result<(), StartError> {
    let _guard = runtime.enter();
    let shell = shell.clone();
    let make = tower::service_fn(move |_: SocketAddr| {
        let shell = shell.clone();
        async move { Ok::<_, Lost>(shell) }
    });
    match identity {
        Some(identity) => {
            let config = RustlsConfig::from_config(Arc::clone(&identity.config));
            let server = axum_server::from_tcp_rustls(listener, config)?.handle(handle);
            runtime.spawn(async move {
                if let Err(error) = server.serve(make).await {
                    tracing::error!(%error, "cannot serve");
                }
            });
        }
        None => {
            let server = axum_server::from_tcp(listener)?.handle(handle);
            runtime.spawn(async move {
                if let Err(error) = server.serve(make).await {
                    tracing::error!(%error, "cannot serve");
                }
            });
        }
    }
    Ok(())
}

/// How a decision service is asked, where there is one.
fn asker(choice: &DeployerChoice, runtime: &Runtime) -> Result<Option<Ask>, StartError> {
    let DeployerChoice::Service(url) = choice else {
        return Ok(None);
    };
    let url = format!("{url}/v1/decisions");
    let client = reqwest::Client::builder()
        .timeout(ASK_LIMIT)
        .no_proxy()
        .build()?;
    let handle = runtime.handle().clone();
    Ok(Some(Box::new(move |body: &[u8]| {
        let request = client
            .post(&url)
            .header("content-type", "application/json")
            .body(body.to_vec());
        handle.block_on(async {
            let response = request.send().await.map_err(|error| chain(&error))?;
            let status = response.status();
            let body = response.bytes().await.map_err(|error| chain(&error))?;
            if status.is_success() {
                return Ok(body.to_vec());
            }
            let text: String = String::from_utf8_lossy(&body).chars().take(300).collect();
            Err(format!("{url}: {status}: {text}"))
        })
    })))
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
