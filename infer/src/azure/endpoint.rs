//! Where Resource Manager is, and who may see the token.

use std::path::PathBuf;

use url::Url;

use super::AzureError;

/// Resource Manager of the public cloud.
pub const PUBLIC_ENDPOINT: &str = "https://management.azure.com";

/// Scheme, host and port: where tokens may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    base: Url,
}

impl Origin {
    /// The origin of `address`.
    ///
    /// # Errors
    ///
    /// If it is not an `https` address of a host without user, query or fragment.
    pub fn parse(address: &str) -> Result<Self, AzureError> {
        let setup =
            |problem: &str| AzureError::Setup(format!("endpoint {address:?}: must be {problem}"));
        let base = Url::parse(address).map_err(|error| {
            AzureError::Setup(format!("endpoint {address:?}: not an address: {error}"))
        })?;
        if base.scheme() != "https" {
            return Err(setup("https, since a token is sent to it"));
        }
        if base.host_str().is_none() || !base.username().is_empty() || base.password().is_some() {
            return Err(setup("a host without a user"));
        }
        if base.query().is_some() || base.fragment().is_some() || base.path() != "/" {
            return Err(setup("a host and a port without a path"));
        }
        Ok(Self { base })
    }

    /// Whether `address` is within this origin.
    #[must_use]
    pub fn covers(&self, address: &Url) -> bool {
        address.scheme() == "https"
            && address.username().is_empty()
            && address.password().is_none()
            && address.host_str() == self.base.host_str()
            && address.port_or_known_default() == self.base.port_or_known_default()
    }

    /// The address of `path` with the query `pairs`.
    ///
    /// The path cannot lead to another host, whatever it holds.
    #[must_use]
    pub fn at(&self, path: &str, pairs: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        url.set_path(path);
        url.query_pairs_mut().extend_pairs(pairs);
        url
    }

    /// The address that a server sends the client to, which may be relative.
    ///
    /// # Errors
    ///
    /// If it is not an address or of another origin.
    pub fn follow(
        &self,
        what: &str,
        header: &'static str,
        target: &str,
    ) -> Result<Url, AzureError> {
        let url = self.base.join(target).map_err(|error| AzureError::Answer {
            what: what.into(),
            problem: format!("{header} is not an address: {error}"),
        })?;
        if self.covers(&url) {
            return Ok(url);
        }
        Err(AzureError::Foreign {
            what: what.into(),
            header,
            target: url.origin().ascii_serialization(),
            own: self.base.origin().ascii_serialization(),
        })
    }

    /// Whether the host is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.base)
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &str {
        self.base.host_str().unwrap_or_default()
    }
}

/// Whether the host of `url` is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A cloud: the public one, a sovereign one, or a virtual one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where Resource Manager is.
    pub origin: Origin,
    /// Where tokens come from; the environment variable `AZURE_AUTHORITY_HOST`, else the public
    /// cloud's, if `None`.
    pub authority: Option<String>,
    /// What tokens are for, as `https://management.azure.com`.
    pub audience: String,
    /// Certificate authorities in PEM that are trusted in place of the system's.
    pub ca_file: Option<PathBuf>,
}

impl Endpoint {
    /// The endpoint at `address`; tokens are for it.
    ///
    /// # Errors
    ///
    /// As [`Origin::parse`].
    pub fn new(address: &str) -> Result<Self, AzureError> {
        Ok(Self {
            origin: Origin::parse(address)?,
            authority: None,
            audience: address.trim_end_matches('/').to_owned(),
            ca_file: None,
        })
    }

    /// The scope of tokens.
    #[must_use]
    pub fn token_scope(&self) -> String {
        format!("{}/.default", self.audience.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::parse("https://management.azure.com").expect("an origin")
    }

    #[test]
    fn tokens_stay_with_their_origin() {
        let origin = origin();
        for inside in [
            "https://management.azure.com/subscriptions/s?api-version=1",
            "https://MANAGEMENT.azure.com:443/x",
            "/subscriptions/s/operations/1",
        ] {
            assert!(
                origin.follow("list", "nextLink", inside).is_ok(),
                "{inside}"
            );
        }
        for outside in [
            "https://management.azure.com.evil.example/x",
            "https://evil.example/x",
            "http://management.azure.com/x",
            "https://management.azure.com:8443/x",
            "https://management.azure.com@evil.example/x",
            "https://user@management.azure.com/x",
            "//evil.example/x",
        ] {
            let error = origin
                .follow("list", "nextLink", outside)
                .expect_err(outside);
            assert!(matches!(error, AzureError::Foreign { .. }), "{error}");
        }
    }

    #[test]
    fn paths_cannot_leave() {
        let url = origin().at("//evil.example/../x y", &[("api-version", "1")]);
        assert_eq!(url.host_str(), Some("management.azure.com"));
    }

    #[test]
    fn endpoints_are_https() {
        for bad in [
            "http://localhost:1",
            "localhost",
            "https://u@h",
            "https://h/path",
            "",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
        let endpoint = Endpoint::new("https://localhost:8443/").expect("an endpoint");
        assert_eq!(endpoint.token_scope(), "https://localhost:8443/.default");
        assert!(endpoint.origin.is_loopback());
    }
}
