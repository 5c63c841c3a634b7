//! Tokens: what Microsoft Entra and the metadata service of a VM hand out, and who may call.
//!
//! A token has the form of a signed JSON Web Token, since clients read it, and its signature is
//! random: it is known because it was handed out. A token holds for a day of real time.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// How long a token holds.
const LIFETIME: Duration = Duration::from_secs(86_400);
/// Tokens that hold at the same time; the oldest go first.
const MOST_TOKENS: usize = 10_000;
/// What a token is for.
const AUDIENCE: &str = "https://management.azure.com/";
/// The most characters of a name in a token.
const NAME_CHARS: usize = 128;

/// A token that was handed out.
#[derive(Clone, Debug)]
struct Issued {
    caller: String,
    until: Instant,
}

/// Hands out tokens and knows them again.
#[derive(Debug)]
pub(super) struct Access {
    tenant: String,
    client_secret: String,
    issued: BTreeMap<String, Issued>,
    order: VecDeque<String>,
}

/// Why there is no token, in the terms of OAuth 2.0 (RFC 6749).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The secret is not the right one.
    Client,
    /// The grant is none that is known.
    Grant,
    /// A parameter is missing.
    Parameter(&'static str),
}

impl Refused {
    /// The body of the answer.
    pub(super) fn body(self) -> Value {
        let (error, description) = match self {
            Self::Client => (
                "invalid_client",
                "AADSTS7000215: Invalid client secret provided.".to_owned(),
            ),
            Self::Grant => (
                "unsupported_grant_type",
                "AADSTS70003: The app requested an unsupported grant type.".to_owned(),
            ),
            Self::Parameter(name) => (
                "invalid_request",
                format!("AADSTS900144: The request body must contain the parameter '{name}'."),
            ),
        };
        json!({"error": error, "error_description": description})
    }

    /// The status of the answer.
    pub(super) fn status(self) -> u16 {
        if self == Self::Client { 401 } else { 400 }
    }
}

impl Access {
    pub(super) fn new(tenant: &str, client_secret: &str) -> Self {
        Self {
            tenant: tenant.into(),
            client_secret: client_secret.into(),
            issued: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Hands out a token for `caller`.
    pub(super) fn issue(&mut self, caller: &str, now: Instant) -> String {
        let caller: String = caller.chars().take(NAME_CHARS).collect();
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": "virtual"});
        let claims = self.claims(&caller);
        let token = format!(
            "{}.{}.{}",
            base64_url(header.to_string().as_bytes()),
            base64_url(claims.to_string().as_bytes()),
            base64_url(&random())
        );
        if self.order.len() >= MOST_TOKENS
            && let Some(oldest) = self.order.pop_front()
        {
            self.issued.remove(&oldest);
        }
        let until = now + LIFETIME;
        self.issued.insert(token.clone(), Issued { caller, until });
        self.order.push_back(token.clone());
        token
    }

    fn claims(&self, caller: &str) -> Value {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        json!({
            "aud": AUDIENCE,
            "iss": format!("https://sts.windows.net/{}/", self.tenant),
            "iat": seconds,
            "nbf": seconds,
            "exp": seconds + LIFETIME.as_secs(),
            "appid": caller,
            "oid": caller,
            "sub": caller,
            "idtyp": "app",
            "tid": self.tenant,
            "ver": "1.0",
        })
    }

    /// Who the bearer of `authorization` is.
    pub(super) fn caller(&self, authorization: Option<&str>, now: Instant) -> Option<String> {
        let (scheme, token) = authorization?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let issued = self.issued.get(token.trim())?;
        (issued.until > now).then(|| issued.caller.clone())
    }

    /// Answers a request for a token, as `POST /{tenant}/oauth2/v2.0/token`.
    pub(super) fn grant(
        &mut self,
        form: &BTreeMap<String, String>,
        now: Instant,
    ) -> Result<Value, Refused> {
        let value = |name: &str| form.get(name).map(String::as_str);
        let grant = value("grant_type").ok_or(Refused::Parameter("grant_type"))?;
        let client = value("client_id").unwrap_or("client").to_owned();
        let user = match grant {
            "client_credentials" => {
                // A client with a certificate proves itself by an assertion, which nobody checks.
                if value("client_assertion").is_none() {
                    let secret =
                        value("client_secret").ok_or(Refused::Parameter("client_secret"))?;
                    self.check_secret(secret)?;
                }
                false
            }
            "password" => {
                let secret = value("password").ok_or(Refused::Parameter("password"))?;
                self.check_secret(secret)?;
                true
            }
            "refresh_token" => {
                let token = value("refresh_token").ok_or(Refused::Parameter("refresh_token"))?;
                let held = self.issued.get(token).is_some_and(|i| i.until > now);
                if !held {
                    return Err(Refused::Client);
                }
                true
            }
            _ => return Err(Refused::Grant),
        };
        let token = self.issue(value("username").unwrap_or(&client), now);
        let mut answer = json!({
            "token_type": "Bearer",
            "expires_in": LIFETIME.as_secs(),
            "ext_expires_in": LIFETIME.as_secs(),
            "access_token": token,
        });
        if user {
            answer["refresh_token"] = json!(self.issue(&client, now));
            answer["scope"] = json!(value("scope").unwrap_or_default());
            let claims = base64_url(self.id_claims(&client).to_string().as_bytes());
            answer["id_token"] = json!(format!("{}.{claims}.", base64_url(b"{\"alg\":\"none\"}")));
            let home = json!({"uid": client, "utid": self.tenant});
            answer["client_info"] = json!(base64_url(home.to_string().as_bytes()));
        }
        Ok(answer)
    }

    fn id_claims(&self, client: &str) -> Value {
        let mut claims = self.claims(client);
        claims["aud"] = json!(client);
        claims["iss"] = json!(format!(
            "https://login.microsoftonline.com/{}/v2.0",
            self.tenant
        ));
        claims["preferred_username"] = json!("operator@virtual.example");
        claims
    }

    fn check_secret(&self, secret: &str) -> Result<(), Refused> {
        // Digests of equal length are compared, so that time tells nothing about the secret.
        let same = Sha256::digest(secret) == Sha256::digest(&self.client_secret);
        if same { Ok(()) } else { Err(Refused::Client) }
    }

    /// The token of a managed identity, as the metadata service of a VM and that of App Service
    /// hand it out.
    pub(super) fn identity(&mut self, resource: &str, now: Instant) -> Value {
        let token = self.issue("managed-identity", now);
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        json!({
            "access_token": token,
            "client_id": "managed-identity",
            "expires_in": LIFETIME.as_secs().to_string(),
            "expires_on": (seconds + LIFETIME.as_secs()).to_string(),
            "not_before": seconds.to_string(),
            "resource": resource,
            "token_type": "Bearer",
        })
    }

    /// The document that clients discover endpoints from.
    pub(super) fn discovery(base: &str, tenant: &str) -> Value {
        json!({
            "issuer": format!("{base}/{tenant}/v2.0"),
            "authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/authorize"),
            "token_endpoint": format!("{base}/{tenant}/oauth2/v2.0/token"),
            "device_authorization_endpoint": format!("{base}/{tenant}/oauth2/v2.0/devicecode"),
            "jwks_uri": format!("{base}/{tenant}/discovery/v2.0/keys"),
            "response_types_supported": ["code", "id_token", "token"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "tenant_region_scope": null,
            "cloud_instance_name": "virtual",
        })
    }

    /// The answer of instance discovery: this host is an authority.
    pub(super) fn instances(base: &str, tenant: &str) -> Value {
        let host = base.split("://").nth(1).unwrap_or(base);
        json!({
            "tenant_discovery_endpoint":
                format!("{base}/{tenant}/v2.0/.well-known/openid-configuration"),
            "api-version": "1.1",
            "metadata": [{
                "preferred_network": host,
                "preferred_cache": host,
                "aliases": [host],
            }],
        })
    }
}

/// 32 bytes that nobody can guess: the standard library seeds its hashers from the system.
fn random() -> [u8; 32] {
    let mut digest = Sha256::new();
    for _ in 0..4 {
        digest.update(RandomState::new().build_hasher().finish().to_le_bytes());
    }
    digest.finalize().into()
}

/// Base64 with the alphabet for URLs and without padding (RFC 4648, section 5).
fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte))
            << (8 * (3 - group.len()));
        for k in 0..=group.len() {
            let six = (bits >> (18 - 6 * k)) & 63;
            text.push(char::from(ALPHABET[six as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(own).collect()
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        // RFC 4648, section 10, without padding.
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64_url(plain.as_bytes()), encoded);
        }
        assert_eq!(base64_url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn a_token_is_known_until_it_expires() {
        let now = Instant::now();
        let mut access = Access::new("tenant", "secret");
        let granted = access
            .grant(
                &form(&[
                    ("grant_type", "client_credentials"),
                    ("client_id", "robot"),
                    ("client_secret", "secret"),
                ]),
                now,
            )
            .expect("granted");
        let token = granted["access_token"].as_str().expect("a token");
        assert_eq!(token.split('.').count(), 3);
        let bearer = format!("Bearer {token}");
        assert_eq!(access.caller(Some(&bearer), now), Some("robot".into()));
        assert_eq!(access.caller(Some(&bearer), now + LIFETIME), None);
        for wrong in [
            None,
            Some(""),
            Some("Bearer x"),
            Some("Basic x"),
            Some(token),
        ] {
            assert_eq!(access.caller(wrong, now), None, "{wrong:?}");
        }
    }

    #[test]
    fn wrong_requests_are_refused_in_the_terms_of_oauth() {
        let now = Instant::now();
        let mut access = Access::new("tenant", "secret");
        for (pairs, refused) in [
            (vec![], Refused::Parameter("grant_type")),
            (vec![("grant_type", "implicit")], Refused::Grant),
            (
                vec![("grant_type", "client_credentials")],
                Refused::Parameter("client_secret"),
            ),
            (
                vec![("grant_type", "client_credentials"), ("client_secret", "x")],
                Refused::Client,
            ),
            (
                vec![("grant_type", "refresh_token"), ("refresh_token", "x")],
                Refused::Client,
            ),
        ] {
            assert_eq!(access.grant(&form(&pairs), now), Err(refused));
            assert!(refused.body()["error"].is_string());
        }
    }

    #[test]
    fn tokens_are_bounded() {
        let now = Instant::now();
        let mut access = Access::new("tenant", "secret");
        let first = access.issue("first", now);
        for _ in 0..MOST_TOKENS {
            access.issue("more", now);
        }
        assert_eq!(access.issued.len(), MOST_TOKENS);
        assert_eq!(access.caller(Some(&format!("Bearer {first}")), now), None);
    }
}
