//! Resource ids, which are case-insensitive and come from a server.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The most bytes of an id.
const MAX_ID_BYTES: usize = 1024;

/// The id of a resource, as
/// `/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm`.
///
/// Two ids that differ in case name the same resource, so the lower case is what is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceId(String);

impl ResourceId {
    /// Reads an id.
    ///
    /// # Errors
    ///
    /// If it is not the path of a resource.
    pub fn parse(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix('/').unwrap_or_default();
        let segments = || rest.split('/');
        let plain = |segment: &str| {
            !segment.is_empty()
                && segment != "."
                && segment != ".."
                && segment
                    .chars()
                    .all(|c| c.is_alphanumeric() || "-_.() ".contains(c))
        };
        let begins = segments()
            .next()
            .is_some_and(|s| s.eq_ignore_ascii_case("subscriptions"));
        if text.len() > MAX_ID_BYTES || !begins || !segments().all(plain) {
            let shown: String = text.chars().take(80).collect();
            return Err(format!("{shown:?} is not the id of a resource"));
        }
        Ok(Self(text.to_lowercase()))
    }

    /// The id of a resource of Microsoft.Compute.
    ///
    /// # Errors
    ///
    /// If a name cannot be part of an id.
    pub fn compute(
        subscription: &str,
        group: &str,
        kind: &str,
        name: &str,
    ) -> Result<Self, String> {
        Self::parse(&format!(
            "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute/{kind}/{name}"
        ))
    }

    /// The id, in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The subscription.
    #[must_use]
    pub fn subscription(&self) -> &str {
        self.0.split('/').nth(2).unwrap_or_default()
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ResourceId {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<ResourceId> for String {
    fn from(id: ResourceId) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter() {
        let a = ResourceId::compute("S", "G", "virtualMachines", "Vm-1").expect("an id");
        let b = ResourceId::parse(
            "/SUBSCRIPTIONS/s/resourcegroups/g/providers/microsoft.compute/virtualmachines/vm-1",
        )
        .expect("an id");
        assert_eq!(a, b);
        assert_eq!((a.name(), a.subscription()), ("vm-1", "s"));
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_id() {
        for bad in [
            "",
            "/",
            "subscriptions/s",
            "//evil.example/subscriptions",
            "/subscriptions/../x",
            "/subscriptions/s?x=1",
            "/subscriptions/s#x",
            "/subscriptions//x",
            "/subscriptions/%2e%2e",
        ] {
            assert!(ResourceId::parse(bad).is_err(), "{bad}");
        }
    }
}
