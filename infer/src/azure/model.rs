//! What Resource Manager says of VMs and scale sets.
//!
//! These are answers of another's interface, which grows: fields that are not named here are
//! ignored, and every field but the id may be missing.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ResourceId;

/// A VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// Its id.
    pub id: ResourceId,
    /// Its name, as written.
    pub name: String,
    /// Its region.
    pub location: String,
    /// Its size, as `Standard_B2s`.
    pub size: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// What was last done with it, as `Succeeded` or `Updating`.
    pub provisioning: Option<String>,
    /// The statuses of its instance view, where the listing has them.
    pub statuses: Option<Vec<Status>>,
}

/// One status of an instance view.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// Its code, as `PowerState/running`.
    #[serde(default)]
    pub code: String,
    /// It in words.
    #[serde(default)]
    pub message: Option<String>,
}

/// A scale set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScaleSet {
    /// Its id.
    pub id: ResourceId,
    /// Its name, as written.
    pub name: String,
    /// The size of its VMs.
    pub size: Option<String>,
    /// How many VMs it is to have.
    pub capacity: u32,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// What was last done with it.
    pub provisioning: Option<String>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) value: Vec<T>,
    #[serde(default, rename = "nextLink")]
    pub(super) next_link: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct VmBody {
    id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    location: Option<String>,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
    #[serde(default)]
    properties: Option<VmProperties>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VmProperties {
    #[serde(default)]
    provisioning_state: Option<String>,
    #[serde(default)]
    hardware_profile: Option<HardwareProfile>,
    #[serde(default)]
    instance_view: Option<InstanceView>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HardwareProfile {
    #[serde(default)]
    vm_size: Option<String>,
}

/// An instance view.
#[derive(Debug, Default, Deserialize)]
pub(super) struct InstanceView {
    #[serde(default)]
    pub(super) statuses: Option<Vec<Status>>,
}

impl TryFrom<VmBody> for Vm {
    type Error = String;

    fn try_from(body: VmBody) -> Result<Self, String> {
        let id = ResourceId::parse(&body.id)?;
        let properties = body.properties.unwrap_or_default();
        Ok(Self {
            name: body.name.unwrap_or_else(|| id.name().to_owned()),
            id,
            location: body.location.unwrap_or_default(),
            size: properties.hardware_profile.and_then(|h| h.vm_size),
            tags: body.tags.unwrap_or_default(),
            provisioning: properties.provisioning_state,
            statuses: properties.instance_view.and_then(|view| view.statuses),
        })
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct ScaleSetBody {
    id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    sku: Option<Sku>,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
    #[serde(default)]
    properties: Option<ScaleSetProperties>,
}

#[derive(Debug, Deserialize)]
struct Sku {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    capacity: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScaleSetProperties {
    #[serde(default)]
    provisioning_state: Option<String>,
}

impl TryFrom<ScaleSetBody> for ScaleSet {
    type Error = String;

    fn try_from(body: ScaleSetBody) -> Result<Self, String> {
        let id = ResourceId::parse(&body.id)?;
        let (size, capacity) = body.sku.map_or((None, None), |s| (s.name, s.capacity));
        let Some(capacity) = capacity else {
            return Err(format!("{id}: the scale set has no sku.capacity"));
        };
        Ok(Self {
            name: body.name.unwrap_or_else(|| id.name().to_owned()),
            id,
            size,
            capacity,
            tags: body.tags.unwrap_or_default(),
            provisioning: body.properties.and_then(|p| p.provisioning_state),
        })
    }
}

/// One VM of a scale set.
#[derive(Debug, Deserialize)]
pub(super) struct InstanceBody {
    #[serde(default, rename = "instanceId")]
    pub(super) instance_id: Option<String>,
    #[serde(default)]
    pub(super) properties: Option<InstanceProperties>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstanceProperties {
    #[serde(default)]
    pub(super) instance_view: Option<InstanceView>,
}

/// The tags of a scope.
#[derive(Debug, Deserialize)]
pub(super) struct TagsBody {
    #[serde(default)]
    pub(super) properties: TagsProperties,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct TagsProperties {
    #[serde(default)]
    pub(super) tags: Option<BTreeMap<String, String>>,
}

/// An error of Resource Manager.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ErrorBody {
    #[serde(default)]
    pub(super) error: Option<CloudError>,
}

/// What an error says.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct CloudError {
    #[serde(default)]
    pub(super) code: Option<String>,
    #[serde(default)]
    pub(super) message: Option<String>,
}
