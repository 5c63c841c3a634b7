//! VMs, scale sets and instances as the Resource Manager shows them.

use serde_json::{Map, Value, json};
use twin::units::SimTime;

use crate::virtual_azure::cloud::{Cloud, azure_location, azure_size};
use crate::virtual_azure::machine::{Machine, Power, Provisioning, Status};
use crate::virtual_azure::scale_sets::ScaleSet;

/// What is shown of the guest.
const OS_NAME: &str = "ubuntu";
const OS_VERSION: &str = "24.04";

impl Cloud {
    /// The path of a VM.
    pub(in crate::virtual_azure) fn vm_path(&self, name: &str) -> String {
        let group = self.group_path();
        format!("{group}/providers/Microsoft.Compute/virtualMachines/{name}")
    }

    /// The path of a scale set.
    pub(super) fn set_path(&self, name: &str) -> String {
        let group = self.group_path();
        format!("{group}/providers/Microsoft.Compute/virtualMachineScaleSets/{name}")
    }

    /// The status of `machine` as of `at`.
    fn status(&self, machine: &Machine, at: SimTime) -> Status {
        let noted = (at < self.now()).then(|| machine.status(at)).flatten();
        noted.unwrap_or_else(|| {
            let (power, provisioning) = (self.power(machine), self.provisioning(machine));
            let same = |s: &Status| (s.power, s.provisioning) == (power, provisioning);
            let last = machine.status(self.now()).filter(same);
            last.unwrap_or(Status {
                power,
                provisioning,
                since: self.now(),
            })
        })
    }

    /// A VM as of `at`, with its instance view if wanted.
    pub(super) fn vm_body(&self, machine: &Machine, at: SimTime, view: bool) -> Value {
        let mut properties = self.machine_properties(machine, at);
        if view {
            properties.insert("instanceView".into(), self.view_body(machine, at));
        }
        let mut body = json!({
            "id": self.vm_path(&machine.name),
            "name": machine.name,
            "type": "Microsoft.Compute/virtualMachines",
            "location": self.location_of(machine.host),
            "etag": machine.etag(),
            "properties": properties,
        });
        if !machine.tags.is_empty() {
            body["tags"] = json!(machine.tags);
        }
        body
    }

    /// What VMs and instances have in common.
    fn machine_properties(&self, machine: &Machine, at: SimTime) -> Map<String, Value> {
        let mut properties = machine.properties.clone();
        let nic = machine.name.replace('_', "-");
        let defaults = [
            (
                "storageProfile",
                json!({
                    "imageReference": {
                        "publisher": "Canonical",
                        "offer": "ubuntu-24_04-lts",
                        "sku": "server",
                        "version": "latest",
                    },
                    "osDisk": {
                        "osType": "Linux",
                        "name": format!("{}-os", machine.name),
                        "createOption": "FromImage",
                        "caching": "ReadWrite",
                    },
                    "dataDisks": [],
                }),
            ),
            (
                "osProfile",
                json!({"computerName": nic, "adminUsername": "operator"}),
            ),
            (
                "networkProfile",
                json!({"networkInterfaces": [{"id": format!(
                    "{}/providers/Microsoft.Network/networkInterfaces/{nic}-nic",
                    self.group_path()
                )}]}),
            ),
        ];
        for (field, value) in defaults {
            properties.entry(field).or_insert(value);
        }
        let state = self.status(machine, at).provisioning.name();
        let set = [
            ("vmId", json!(vm_id(machine))),
            (
                "hardwareProfile",
                json!({"vmSize": self.size_of(machine.host)}),
            ),
            ("provisioningState", json!(state)),
            ("timeCreated", json!(self.time(machine.created).to_string())),
        ];
        properties.extend(set.map(|(field, value)| (field.to_owned(), value)));
        properties
    }

    /// The instance view of a machine as of `at`.
    pub(super) fn view_body(&self, machine: &Machine, at: SimTime) -> Value {
        let status = self.status(machine, at);
        let since = self.time(status.since).to_string();
        let mut view = json!({
            "computerName": machine.name.replace('_', "-"),
            "osName": OS_NAME,
            "osVersion": OS_VERSION,
            "hyperVGeneration": "V2",
            "disks": [{
                "name": format!("{}-os", machine.name),
                "statuses": [{
                    "code": "ProvisioningState/succeeded",
                    "level": "Info",
                    "displayStatus": "Provisioning succeeded",
                    "time": self.time(machine.created).to_string(),
                }],
            }],
            "statuses": [provisioning_status(status.provisioning, &since), {
                "code": format!("PowerState/{}", status.power.code()),
                "level": "Info",
                "displayStatus": format!("VM {}", status.power.code()),
            }],
        });
        if status.power == Power::Running {
            view["vmAgent"] = json!({
                "vmAgentVersion": "2.12.0.4",
                "statuses": [{
                    "code": "ProvisioningState/succeeded",
                    "level": "Info",
                    "displayStatus": "Ready",
                    "message": "Guest Agent is running",
                    "time": since,
                }],
                "extensionHandlers": [],
            });
        }
        view
    }

    /// A scale set.
    pub(super) fn set_body(&self, key: &str, set: &ScaleSet) -> Value {
        let world = self.world();
        let size = azure_size(&world.sizes[set.kind.0.index()].name);
        let location = azure_location(&world.sites[set.kind.1.index()].name);
        let busy = set
            .operation
            .and_then(|id| self.operations.get(id))
            .map(|operation| operation.ended().map(|(_, outcome)| outcome.is_ok()));
        let state = match busy {
            Some(None) => Provisioning::Updating,
            Some(Some(false)) => Provisioning::Failed,
            Some(Some(true)) | None => Provisioning::Succeeded,
        };
        let mut body = json!({
            "id": self.set_path(&set.name),
            "name": set.name,
            "type": "Microsoft.Compute/virtualMachineScaleSets",
            "location": location,
            "etag": format!("\"{}\"", set.version),
            "sku": {"name": size, "tier": "Standard", "capacity": self.capacity(key)},
            "properties": {
                "orchestrationMode": "Uniform",
                "overprovision": false,
                "provisioningState": state.name(),
                "singlePlacementGroup": true,
                "timeCreated": self.time(set.created).to_string(),
                "uniqueId": unique_id(key, 0),
                "upgradePolicy": {"mode": "Manual"},
            },
        });
        if !set.tags.is_empty() {
            body["tags"] = json!(set.tags);
        }
        body
    }

    /// An instance of a scale set as of `at`.
    pub(super) fn instance_body(
        &self,
        (set, number): (&ScaleSet, u32),
        machine: &Machine,
        at: SimTime,
        view: bool,
    ) -> Value {
        let mut properties = self.machine_properties(machine, at);
        properties.insert("latestModelApplied".into(), json!(true));
        if view {
            properties.insert("instanceView".into(), self.instance_view(machine, at));
        }
        json!({
            "id": format!("{}/virtualMachines/{number}", self.set_path(&set.name)),
            "name": machine.name,
            "type": "Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
            "location": self.location_of(machine.host),
            "instanceId": number.to_string(),
            "etag": machine.etag(),
            "sku": {"name": self.size_of(machine.host), "tier": "Standard"},
            "properties": properties,
        })
    }

    /// The instance view of an instance of a scale set, which has no generation.
    pub(super) fn instance_view(&self, machine: &Machine, at: SimTime) -> Value {
        let mut view = self.view_body(machine, at);
        if let Some(fields) = view.as_object_mut() {
            fields.remove("hyperVGeneration");
        }
        view
    }

    /// How many instances of a set are in which state.
    pub(super) fn set_view(&self, key: &str, set: &ScaleSet, at: SimTime) -> Value {
        let mut counts = std::collections::BTreeMap::<String, u32>::new();
        for instance in self.instances(key) {
            if let Some(machine) = self.machines.get(&instance) {
                let status = self.status(machine, at);
                let power = format!("PowerState/{}", status.power.code());
                let state = status.provisioning.name().to_lowercase();
                *counts.entry(power).or_default() += 1;
                *counts
                    .entry(format!("ProvisioningState/{state}"))
                    .or_default() += 1;
            }
        }
        let summary: Vec<Value> = counts
            .into_iter()
            .map(|(code, count)| json!({"code": code, "count": count}))
            .collect();
        let since = self.time(set.created).to_string();
        json!({
            "virtualMachine": {"statusesSummary": summary},
            "statuses": [provisioning_status(Provisioning::Succeeded, &since)],
        })
    }
}

fn provisioning_status(state: Provisioning, since: &str) -> Value {
    let (word, level, display) = match state {
        Provisioning::Creating => ("creating", "Info", "Creating"),
        Provisioning::Updating => ("updating", "Info", "Updating"),
        Provisioning::Deleting => ("deleting", "Info", "Deleting"),
        Provisioning::Succeeded => ("succeeded", "Info", "Provisioning succeeded"),
        Provisioning::Failed => ("failed", "Error", "Provisioning failed"),
    };
    json!({
        "code": format!("ProvisioningState/{word}"),
        "level": level,
        "displayStatus": display,
        "time": since,
    })
}

/// The identifier of a VM, which is another one when it is created again.
fn vm_id(machine: &Machine) -> String {
    unique_id(&machine.name, machine.created.0)
}

/// A UUID that follows from a name.
fn unique_id(name: &str, part: u64) -> String {
    let key = name
        .bytes()
        .fold(part, |key, byte| twin::stream::mix(key, u64::from(byte)));
    let high = twin::stream::mix(key, 1);
    let low = twin::stream::mix(key, 2);
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}
