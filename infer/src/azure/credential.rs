//! Where tokens come from: environment, workload identity, managed identity, developer tools.
//!
//! `azure_identity` has no chain of its own and no credential of the environment. The links are
//! tried in order, and the first that gives a token is kept. A link that is configured and fails
//! (a secret that has expired) ends the chain, so that a mistake does not silently turn into
//! another identity.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::{AccessToken, Secret, TokenCredential, TokenRequestOptions};
use azure_core::error::{Error, ErrorKind};
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RetryOptions, Transport};
use azure_core::time::Duration as AzureDuration;
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    DeveloperToolsCredential, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use serde::{Deserialize, Serialize};

use super::transport::{ATTEMPT_LIMIT, Wire};
use super::{AzureError, Endpoint, causes};

/// How long one link may take.
const LINK_LIMIT: Duration = Duration::from_secs(20);
/// How long the managed identity may take: off Azure nobody answers.
const IDENTITY_LIMIT: Duration = Duration::from_secs(4);

/// A kind of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CredentialKind {
    /// A client secret: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_CLIENT_SECRET`.
    Environment,
    /// A federated token: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_FEDERATED_TOKEN_FILE`.
    WorkloadIdentity,
    /// The identity of the VM that this runs on; `AZURE_CLIENT_ID` picks one of several.
    ManagedIdentity,
    /// Whoever is signed in with `az` or `azd`.
    DeveloperTools,
}

impl CredentialKind {
    /// All kinds, in the order in which they are tried.
    pub const ALL: [Self; 4] = [
        Self::Environment,
        Self::WorkloadIdentity,
        Self::ManagedIdentity,
        Self::DeveloperTools,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::WorkloadIdentity => "workload identity",
            Self::ManagedIdentity => "managed identity",
            Self::DeveloperTools => "developer tools",
        }
    }

    /// Whether its failure ends the chain: it was configured, so it is meant.
    fn is_meant(self) -> bool {
        matches!(self, Self::Environment | Self::WorkloadIdentity)
    }

    fn limit(self) -> Duration {
        match self {
            Self::ManagedIdentity => IDENTITY_LIMIT,
            _ => LINK_LIMIT,
        }
    }
}

/// Environment variables as a value.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// The variables of the process that credentials read.
    #[must_use]
    pub fn of_process() -> Self {
        let names = [
            "AZURE_TENANT_ID",
            "AZURE_CLIENT_ID",
            "AZURE_CLIENT_SECRET",
            "AZURE_FEDERATED_TOKEN_FILE",
        ];
        let read = |name: &str| Some((name.to_owned(), std::env::var(name).ok()?));
        Self(names.into_iter().filter_map(read).collect())
    }

    /// Variables by name.
    #[must_use]
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(pairs.iter().map(owned).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|v| !v.is_empty())
    }

    /// The variables of these names, or the names of those that are missing.
    fn all<const N: usize>(&self, names: [&str; N]) -> Result<[&str; N], String> {
        let missing: Vec<&str> = names
            .into_iter()
            .filter(|name| self.get(name).is_none())
            .collect();
        if missing.is_empty() {
            return Ok(names.map(|name| self.get(name).unwrap_or_default()));
        }
        Err(format!("{} not set", missing.join(", ")))
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// One credential of the chain, or why there is none.
struct Link {
    kind: CredentialKind,
    source: Result<Arc<dyn TokenCredential>, String>,
}

/// Credentials that are tried in order.
struct Chain {
    links: Vec<Link>,
    /// Position of the link that gave a token, or one past the last.
    chosen: AtomicUsize,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.links.iter().map(|link| link.kind))
            .finish()
    }
}

/// The credentials of `kinds`, in this order, for `endpoint`.
///
/// # Errors
///
/// If the transport cannot be set up.
pub fn chain(
    endpoint: &Endpoint,
    kinds: &[CredentialKind],
    environment: &Environment,
) -> Result<Arc<dyn TokenCredential>, AzureError> {
    let mut links = Vec::new();
    for &kind in kinds {
        let options = client_options(endpoint, kind)?;
        let source = link(kind, options, environment);
        links.push(Link { kind, source });
    }
    let chosen = AtomicUsize::new(links.len());
    Ok(Arc::new(Chain { links, chosen }))
}

fn client_options(endpoint: &Endpoint, kind: CredentialKind) -> Result<ClientOptions, AzureError> {
    let cloud = endpoint.authority.as_ref().map(|authority| {
        let mut custom = CustomConfiguration::default();
        custom.authority_host.clone_from(authority);
        Arc::new(CloudConfiguration::from(custom))
    });
    let limit = ATTEMPT_LIMIT.min(kind.limit());
    let wire = Wire::new(endpoint, false, limit)?;
    let retry = ExponentialRetryOptions {
        initial_delay: AzureDuration::milliseconds(200),
        max_retries: 2,
        max_total_elapsed: AzureDuration::seconds(10),
        ..ExponentialRetryOptions::default()
    };
    Ok(ClientOptions {
        transport: Some(Transport::new(Arc::new(wire))),
        retry: RetryOptions::exponential(retry),
        cloud,
        ..ClientOptions::default()
    })
}

fn link(
    kind: CredentialKind,
    client_options: ClientOptions,
    environment: &Environment,
) -> Result<Arc<dyn TokenCredential>, String> {
    let told = |error: Error| causes(&error);
    match kind {
        CredentialKind::Environment => {
            let names = ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"];
            let [tenant, client, secret] = environment.all(names)?;
            let options = ClientSecretCredentialOptions { client_options };
            let secret = Secret::new(secret.to_owned());
            let made =
                ClientSecretCredential::new(tenant, client.to_owned(), secret, Some(options));
            Ok(made.map_err(told)?)
        }
        CredentialKind::WorkloadIdentity => {
            let [tenant, client, file] = environment.all([
                "AZURE_TENANT_ID",
                "AZURE_CLIENT_ID",
                "AZURE_FEDERATED_TOKEN_FILE",
            ])?;
            let options = WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options },
                client_id: Some(client.to_owned()),
                tenant_id: Some(tenant.to_owned()),
                token_file_path: Some(file.into()),
            };
            Ok(WorkloadIdentityCredential::new(Some(options)).map_err(told)?)
        }
        CredentialKind::ManagedIdentity => {
            let id = environment.get("AZURE_CLIENT_ID");
            let options = ManagedIdentityCredentialOptions {
                user_assigned_id: id.map(|id| UserAssignedId::ClientId(id.to_owned())),
                client_options,
            };
            Ok(ManagedIdentityCredential::new(Some(options)).map_err(told)?)
        }
        CredentialKind::DeveloperTools => Ok(DeveloperToolsCredential::new(None).map_err(told)?),
    }
}

#[async_trait]
impl TokenCredential for Chain {
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let chosen = self.chosen.load(Ordering::Relaxed);
        if let Some(link) = self.links.get(chosen) {
            return ask(link, scopes, options).await.map_err(|reason| {
                let problem = format!("{}: {reason}", link.kind.name());
                Error::with_message(ErrorKind::Credential, problem)
            });
        }
        let mut tried = Vec::new();
        for (position, link) in self.links.iter().enumerate() {
            match ask(link, scopes, options.clone()).await {
                Ok(token) => {
                    self.chosen.store(position, Ordering::Relaxed);
                    tracing::info!(credential = link.kind.name(), "signed in");
                    return Ok(token);
                }
                Err(reason) => tried.push(format!("{}: {reason}", link.kind.name())),
            }
            if link.kind.is_meant() && link.source.is_ok() {
                break;
            }
        }
        let problem = format!("no credential gave a token; tried {}", tried.join("; "));
        Err(Error::with_message(ErrorKind::Credential, problem))
    }
}

/// A token of one link, or why there is none.
async fn ask(
    link: &Link,
    scopes: &[&str],
    options: Option<TokenRequestOptions<'_>>,
) -> Result<AccessToken, String> {
    let source = link.source.as_ref().map_err(Clone::clone)?;
    let limit = link.kind.limit();
    let token = tokio::time::timeout(limit, source.get_token(scopes, options)).await;
    match token {
        Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
        Ok(token) => token.map_err(|error| super::operation::short(&causes(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        let mut endpoint = Endpoint::new("https://localhost:1").expect("an endpoint");
        endpoint.authority = Some("https://localhost:1".into());
        endpoint
    }

    async fn failure(kinds: &[CredentialKind], environment: &Environment) -> String {
        let chain = chain(&endpoint(), kinds, environment).expect("a chain");
        let token = chain
            .get_token(&["https://localhost:1/.default"], None)
            .await;
        token.expect_err("there is no token").to_string()
    }

    #[tokio::test]
    async fn a_chain_tells_what_it_tried() {
        let kinds = [
            CredentialKind::Environment,
            CredentialKind::WorkloadIdentity,
        ];
        let environment = Environment::of(&[("AZURE_TENANT_ID", "t")]);
        assert_eq!(
            failure(&kinds, &environment).await,
            "no credential gave a token; \
             tried environment: AZURE_CLIENT_ID, AZURE_CLIENT_SECRET not set; \
             workload identity: AZURE_CLIENT_ID, AZURE_FEDERATED_TOKEN_FILE not set"
        );
    }

    #[tokio::test]
    async fn a_configured_credential_that_fails_ends_the_chain() {
        let environment = Environment::of(&[
            ("AZURE_TENANT_ID", "t"),
            ("AZURE_CLIENT_ID", "c"),
            ("AZURE_CLIENT_SECRET", "hush"),
        ]);
        let kinds = [
            CredentialKind::Environment,
            CredentialKind::WorkloadIdentity,
        ];
        let text = failure(&kinds, &environment).await;
        assert!(text.contains("tried environment: "), "{text}");
        assert!(!text.contains("workload"), "{text}");
        assert!(!text.contains("hush"), "{text}");
        assert!(!format!("{environment:?}").contains("hush"));
    }
}
