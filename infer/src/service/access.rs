//! Who may ask for what: one table of all endpoints.
//!
//! A path that is routed and does not stand here is answered with 500, a method that does not stand
//! here with 405, so that an endpoint without a role works for nobody, its author first.

use axum::http::Method;

use crate::auth::Role;

/// Who may ask for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Anyone,
    /// Whom `auth.health` says.
    Health,
    /// Whom `auth.metrics` says.
    Metrics,
    /// Whom `auth.openapi` says.
    OpenApi,
    /// Clients with this role or a higher one.
    Role(Role),
}

/// Whether a call changes something, and so belongs in the audit trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It does not.
    None,
    /// It does.
    Change,
    /// It does where the handler names in its answer what was changed.
    ChangeIfTold,
}

/// An endpoint, and who may ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The method.
    pub method: &'static str,
    /// The path as it is routed, as `/v1/explain/{id}`.
    pub path: &'static str,
    /// Who may ask.
    pub access: Access,
    /// What it does.
    pub effect: Effect,
}

const fn endpoint(
    method: &'static str,
    path: &'static str,
    access: Access,
    effect: Effect,
) -> Endpoint {
    Endpoint {
        method,
        path,
        access,
        effect,
    }
}

const READ: Access = Access::Role(Role::Read);
const DECIDE: Access = Access::Role(Role::Decide);
const OPERATE: Access = Access::Role(Role::Operate);

/// All endpoints.
pub const ENDPOINTS: &[Endpoint] = &[
    endpoint("GET", "/healthz", Access::Health, Effect::None),
    endpoint("GET", "/readyz", Access::Health, Effect::None),
    endpoint("GET", "/metrics", Access::Metrics, Effect::None),
    endpoint("GET", "/openapi.json", Access::OpenApi, Effect::None),
    endpoint("GET", "/docs", Access::OpenApi, Effect::None),
    endpoint("GET", "/docs/", Access::OpenApi, Effect::None),
    endpoint("GET", "/docs/{*rest}", Access::OpenApi, Effect::None),
    endpoint("GET", "/", Access::Anyone, Effect::None),
    endpoint("GET", "/dashboard.css", Access::Anyone, Effect::None),
    endpoint("GET", "/dashboard.js", Access::Anyone, Effect::None),
    endpoint("GET", "/v1/history", READ, Effect::None),
    endpoint("GET", "/v1/limits", READ, Effect::None),
    endpoint("POST", "/v1/decisions", DECIDE, Effect::ChangeIfTold),
    endpoint("GET", "/v1/decisions", READ, Effect::None),
    endpoint("GET", "/v1/decisions/{id}", READ, Effect::None),
    endpoint("POST", "/v1/decisions:validate", DECIDE, Effect::None),
    endpoint("POST", "/v1/outcomes", DECIDE, Effect::Change),
    endpoint("POST", "/v1/what-if", DECIDE, Effect::None),
    endpoint("GET", "/v1/explain/{id}", READ, Effect::None),
    endpoint("PUT", "/v1/fleet", DECIDE, Effect::Change),
    endpoint("GET", "/v1/fleet", READ, Effect::None),
    endpoint("GET", "/v1/fleet/drift", READ, Effect::None),
    endpoint("POST", "/v1/telemetry", DECIDE, Effect::Change),
    endpoint("GET", "/v1/models", READ, Effect::None),
    endpoint("POST", "/v1/models", OPERATE, Effect::Change),
    endpoint("POST", "/v1/models:rollback", OPERATE, Effect::Change),
    endpoint("POST", "/v1/models:end-shadow", OPERATE, Effect::Change),
    endpoint("POST", "/v1/models/{key}", OPERATE, Effect::Change),
    endpoint("DELETE", "/v1/models/{key}", OPERATE, Effect::Change),
];

/// What the table says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is for an endpoint.
    Of(Endpoint),
    /// The path has other methods.
    NoSuchMethod,
    /// The path is routed and does not stand in the table.
    Forgotten,
}

/// What `endpoints` say of `method` on the routed `path`. HEAD is asked like GET.
pub(super) fn entry(endpoints: &[Endpoint], method: &Method, path: &str) -> Entry {
    let method = match *method {
        Method::HEAD => "GET",
        _ => method.as_str(),
    };
    let mut entry = Entry::Forgotten;
    for endpoint in endpoints.iter().filter(|e| e.path == path) {
        if endpoint.method == method {
            return Entry::Of(*endpoint);
        }
        entry = Entry::NoSuchMethod;
    }
    entry
}

/// The methods of the routed `path`, for the header `Allow`.
pub(super) fn methods(endpoints: &[Endpoint], path: &str) -> String {
    let mut methods = Vec::new();
    for endpoint in endpoints.iter().filter(|e| e.path == path) {
        methods.push(endpoint.method);
        if endpoint.method == "GET" {
            methods.push("HEAD");
        }
    }
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_endpoint_stands_once_and_what_changes_needs_a_role() {
        let mut seen = BTreeSet::new();
        for endpoint in ENDPOINTS {
            assert!(
                seen.insert((endpoint.method, endpoint.path)),
                "{endpoint:?}"
            );
            let needs_role = match endpoint.access {
                Access::Role(role) => role >= Role::Decide,
                _ => false,
            };
            assert!(
                needs_role || endpoint.effect == Effect::None,
                "{endpoint:?}"
            );
            // What is read does not change anything, and what is sent needs a role.
            assert!(
                endpoint.method != "GET" || endpoint.effect == Effect::None,
                "{endpoint:?}"
            );
            assert!(endpoint.method == "GET" || needs_role, "{endpoint:?}");
        }
    }

    #[test]
    fn the_table_is_that_of_the_described_operations() {
        let document = crate::openapi::document();
        let described: BTreeSet<(String, String)> = crate::openapi::operations(&document)
            .map(|o| (o.path.to_owned(), o.method.to_ascii_uppercase()))
            .collect();
        let pages = |path: &str| {
            path == "/" || path.starts_with("/docs") || path.starts_with("/dashboard.")
        };
        let table: BTreeSet<(String, String)> = ENDPOINTS
            .iter()
            .filter(|endpoint| !pages(endpoint.path))
            .map(|endpoint| (endpoint.path.to_owned(), endpoint.method.to_owned()))
            .collect();
        assert_eq!(table, described);
    }

    #[test]
    fn what_does_not_stand_in_the_table_is_told_apart() {
        let find = |method: Method, path| entry(ENDPOINTS, &method, path);
        assert!(matches!(find(Method::GET, "/metrics"), Entry::Of(e) if e.path == "/metrics"));
        assert!(matches!(find(Method::HEAD, "/metrics"), Entry::Of(e) if e.method == "GET"));
        assert_eq!(find(Method::DELETE, "/metrics"), Entry::NoSuchMethod);
        assert_eq!(find(Method::GET, "/v1/forgotten"), Entry::Forgotten);
        assert_eq!(methods(ENDPOINTS, "/metrics"), "GET, HEAD");
    }
}
