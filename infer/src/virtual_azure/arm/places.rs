//! Tenants, subscriptions, locations, resource groups, providers, sizes and quotas.

use serde_json::{Value, json};

use crate::virtual_azure::answer::{Answer, Call, Denial};
use crate::virtual_azure::cloud::{Cloud, azure_location, azure_size};

/// Namespaces, and the types in them that there are.
const PROVIDERS: [(&str, &[&str]); 3] = [
    (
        "Microsoft.Compute",
        &[
            "virtualMachines",
            "virtualMachineScaleSets",
            "virtualMachineScaleSets/virtualMachines",
            "locations",
            "locations/operations",
            "locations/vmSizes",
            "locations/usages",
        ],
    ),
    ("Microsoft.Insights", &["metrics", "metricDefinitions"]),
    (
        "Microsoft.Resources",
        &["subscriptions", "tenants", "resourceGroups"],
    ),
];

impl Cloud {
    pub(super) fn tenants(&self) -> Answer {
        let tenant = json!({
            "id": format!("/tenants/{}", self.tenant),
            "tenantId": self.tenant,
            "displayName": "Virtual Azure",
            "countryCode": "GB",
            "domains": ["virtual.example"],
            "defaultDomain": "virtual.example",
            "tenantCategory": "Home",
            "tenantType": "AAD",
        });
        // The official document requires the link, also of the last page.
        Answer::ok(json!({"value": [tenant], "nextLink": ""}))
    }

    pub(super) fn subscriptions(&self, _: &Call) -> Answer {
        Answer::ok(json!({"value": [self.subscription_body()], "nextLink": ""}))
    }

    pub(super) fn subscription_body(&self) -> Value {
        json!({
            "id": format!("/subscriptions/{}", self.subscription),
            "subscriptionId": self.subscription,
            "tenantId": self.tenant,
            "displayName": format!("Twin of {}", self.world().name),
            "state": "Enabled",
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
            "subscriptionPolicies": {
                "locationPlacementId": "Public_2014-09-01",
                "quotaId": "PayAsYouGo_2014-09-01",
                "spendingLimit": "Off",
            },
        })
    }

    pub(super) fn locations(&self) -> Answer {
        let sites = &self.world().sites;
        let list: Vec<Value> = sites
            .iter()
            .map(|site| {
                let name = azure_location(&site.name);
                json!({
                    "id": format!("/subscriptions/{}/locations/{name}", self.subscription),
                    "subscriptionId": self.subscription,
                    "name": name,
                    "type": "Region",
                    "displayName": site.name,
                    "regionalDisplayName": site.name,
                    "metadata": {"regionType": "Physical", "regionCategory": "Recommended"},
                })
            })
            .collect();
        Answer::ok(json!({"value": list}))
    }

    pub(super) fn groups(&self) -> Answer {
        Answer::ok(json!({"value": [self.group_body()]}))
    }

    pub(super) fn group_body(&self) -> Value {
        let world = self.world();
        let location = world.sites.first().map(|site| azure_location(&site.name));
        json!({
            "id": self.group_path(),
            "name": self.resource_group,
            "type": "Microsoft.Resources/resourceGroups",
            "location": location.unwrap_or_default(),
            "tags": self.group_tags,
            "properties": {"provisioningState": "Succeeded"},
        })
    }

    pub(super) fn providers(&self, _: &Call) -> Answer {
        let list: Vec<Value> = PROVIDERS
            .iter()
            .map(|(namespace, types)| self.provider_body(namespace, types))
            .collect();
        Answer::ok(json!({"value": list}))
    }

    pub(super) fn provider(&self, namespace: &str) -> Result<Answer, Denial> {
        let found = PROVIDERS
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(namespace));
        let Some((namespace, types)) = found else {
            let message = format!("The resource namespace '{namespace}' is invalid.");
            return Err(Denial::new(404, "InvalidResourceNamespace", message));
        };
        Ok(Answer::ok(self.provider_body(namespace, types)))
    }

    fn provider_body(&self, namespace: &str, types: &[&str]) -> Value {
        let sites = &self.world().sites;
        let locations: Vec<String> = sites.iter().map(|s| azure_location(&s.name)).collect();
        let types: Vec<Value> = types
            .iter()
            .map(|name| {
                json!({
                    "resourceType": name,
                    "locations": locations,
                    "apiVersions": ["2024-07-01", "2024-02-01", "2023-10-01", "2022-12-01"],
                })
            })
            .collect();
        json!({
            "id": format!("/subscriptions/{}/providers/{namespace}", self.subscription),
            "namespace": namespace,
            "registrationState": "Registered",
            "registrationPolicy": "RegistrationRequired",
            "resourceTypes": types,
        })
    }

    /// The VM sizes that hosts at a location have.
    pub(super) fn sizes(&self, location: &str) -> Result<Answer, Denial> {
        let site = self.location(location)?;
        let world = self.world();
        let here = |k: usize| {
            let mut hosts = world.hosts.iter();
            hosts.any(|host| host.size.index() == k && host.site.index() == site)
        };
        let list: Vec<Value> = world
            .sizes
            .iter()
            .enumerate()
            .filter(|(k, _)| here(*k))
            .map(|(_, size)| {
                json!({
                    "name": azure_size(&size.name),
                    "numberOfCores": whole(size.vcpus.ceil()),
                    "memoryInMB": whole(size.ram.0),
                    "maxDataDiskCount": 4,
                    "osDiskSizeInMB": 1_047_552,
                    "resourceDiskSizeInMB": 0,
                })
            })
            .collect();
        Ok(Answer::ok(json!({"value": list})))
    }

    /// How many of the hosts of each size at a location are listed.
    pub(super) fn usages(&self, location: &str) -> Result<Answer, Denial> {
        let site = self.location(location)?;
        let world = self.world();
        let mut list = Vec::new();
        for (k, size) in world.sizes.iter().enumerate() {
            let here = || {
                let hosts = world.hosts.iter().enumerate();
                hosts.filter(|(_, host)| host.size.index() == k && host.site.index() == site)
            };
            let limit = here().count();
            if limit == 0 {
                continue;
            }
            let used = here().filter(|(h, _)| self.by_host[*h].is_some()).count();
            let name = azure_size(&size.name);
            list.push(json!({
                "unit": "Count",
                "currentValue": used,
                "limit": limit,
                "name": {"value": name, "localizedValue": name},
            }));
        }
        Ok(Answer::ok(json!({"value": list})))
    }

    /// The position of a site in the world.
    fn location(&self, name: &str) -> Result<usize, Denial> {
        let found = self.find_site(name).map(twin::ids::SiteId::index);
        found.ok_or_else(|| self.no_location(name))
    }

    /// There is no such location.
    pub(super) fn no_location(&self, name: &str) -> Denial {
        let sites = self.world().sites.iter();
        let known: Vec<String> = sites.map(|s| azure_location(&s.name)).collect();
        Denial::new(
            400,
            "LocationNotAvailableForResourceType",
            format!(
                "The provided location '{name}' is not available. List of available regions is \
                 '{}'.",
                known.join(",")
            ),
        )
    }
}

/// A whole number of something that is small.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sizes are bounded by the world, and casts saturate"
)]
fn whole(value: f64) -> u32 {
    value as u32
}
