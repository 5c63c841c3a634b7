//! New machines: hosts of the world that are not listed.

use twin::ids::{HostId, SiteId, SizeId};

use super::{Cloud, Context};
use crate::virtual_azure::answer::Denial;
use crate::virtual_azure::machine::{Machine, MachineKey};
use crate::virtual_azure::operations::{Action, OperationId};
use crate::virtual_azure::scale_sets::ScaleSet;

/// How Azure writes the name of a VM size.
pub(in crate::virtual_azure) fn azure_size(name: &str) -> String {
    if name.to_lowercase().starts_with("standard_") {
        return name.into();
    }
    format!("Standard_{name}")
}

/// How Azure writes a location: `UK South` is `uksouth`.
pub(in crate::virtual_azure) fn azure_location(name: &str) -> String {
    let spoken = name.chars().filter(|c| !c.is_whitespace());
    spoken.flat_map(char::to_lowercase).collect()
}

impl Cloud {
    /// The location of a host.
    pub(in crate::virtual_azure) fn location_of(&self, host: HostId) -> String {
        let world = self.world();
        let site = world.hosts[host.index()].site;
        azure_location(&world.sites[site.index()].name)
    }

    /// The size of a host.
    pub(in crate::virtual_azure) fn size_of(&self, host: HostId) -> String {
        azure_size(&self.world().size_of(host.index()).name)
    }

    /// The VM size that Azure calls `name`.
    pub(in crate::virtual_azure) fn find_size(&self, name: &str) -> Option<SizeId> {
        let wanted = azure_size(name);
        let mut sizes = self.world().sizes.iter();
        let found = sizes.position(|s| azure_size(&s.name).eq_ignore_ascii_case(&wanted))?;
        Some(SizeId::at(found))
    }

    /// The site that Azure calls `name`.
    pub(in crate::virtual_azure) fn find_site(&self, name: &str) -> Option<SiteId> {
        let wanted = azure_location(name);
        let mut sites = self.world().sites.iter();
        let found = sites.position(|s| azure_location(&s.name) == wanted)?;
        Some(SiteId::at(found))
    }

    /// The hosts of `size` at `site` that are not listed, in the world's order.
    pub(in crate::virtual_azure) fn free_hosts(
        &self,
        (size, site): (SizeId, SiteId),
    ) -> impl Iterator<Item = HostId> + '_ {
        let hosts = self.world().hosts.iter().enumerate();
        hosts
            .filter(move |(h, spec)| {
                spec.size == size && spec.site == site && self.by_host[*h].is_none()
            })
            .map(|(h, _)| HostId::at(h))
    }

    /// Lists a new VM and begins to start it.
    pub(in crate::virtual_azure) fn create(
        &mut self,
        machine: Machine,
        context: &Context,
    ) -> Result<OperationId, Denial> {
        let key = MachineKey::vm(&machine.name);
        self.list(key.clone(), machine);
        self.begin(&key, Action::Create, context)
    }

    /// The name of the scale set of `kind`, which is made where it is not there yet.
    pub(super) fn set_of(&mut self, kind: (SizeId, SiteId)) -> String {
        let found = self.sets.values().find(|set| set.kind == kind);
        if let Some(found) = found {
            return found.name.to_lowercase();
        }
        let world = self.world();
        let size = &world.sizes[kind.0.index()].name;
        let name = format!("{size}-{}", world.sites[kind.1.index()].name);
        let key = name.to_lowercase();
        let set = ScaleSet::new(name, kind, self.now());
        self.sets.insert(key.clone(), set);
        key
    }

    /// Lists `host` as the next instance of `set`.
    pub(in crate::virtual_azure) fn add_instance(
        &mut self,
        set: &str,
        host: HostId,
    ) -> Option<MachineKey> {
        let now = self.now();
        let found = self.sets.get_mut(set)?;
        let number = found.next_instance;
        found.next_instance += 1;
        let name = format!("{}_{number}", found.name);
        let key = MachineKey::Instance(set.into(), number);
        self.list(key.clone(), Machine::new(name, host, now));
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_azures() {
        assert_eq!(azure_size("D4s_v5"), "Standard_D4s_v5");
        assert_eq!(azure_size("Standard_B2s"), "Standard_B2s");
        assert_eq!(azure_location("UK South"), "uksouth");
    }
}
