//! From `[[containers]]` to [`Containers`]: demand is read, hosts are chosen, memory is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::{Check, WorldError};
use crate::container::columns::Columns;
use crate::container::{CpuRate, DemandTrace, MAX_MHZ};
use crate::ids::HostId;
use crate::replay::{Manifest, containers::Recording};
use crate::units::{Mebibytes, SimTime};
use crate::world::containers::{
    ContainerFile, ContainerPlacement, ContainerSpec, Containers, DemandFile, MAX_CONTAINERS,
    MAX_STEPS, StepFile,
};
use crate::world::file::WorldFile;
use crate::world::{HostSpec, VmSize};

/// The shortest step of a demand: each is an event.
const SHORTEST_STEP: SimTime = SimTime(1_000_000);

/// Demand over time, in virtual CPUs of the host.
struct Demand {
    steps: Vec<(SimTime, f64)>,
    repeat: bool,
}

/// Files that were read for a world, by path.
#[derive(Default)]
struct Files {
    tables: BTreeMap<String, Columns>,
    recordings: BTreeMap<String, Recording>,
}

impl Check<'_> {
    /// The containers of a world whose hosts are `hosts`.
    pub(super) fn containers(
        &self,
        file: &WorldFile,
        folder: Option<&Path>,
        (hosts, sizes): (&[HostSpec], &[VmSize]),
    ) -> Result<Containers, WorldError> {
        let total: u64 = file.containers.iter().map(|c| u64::from(c.count)).sum();
        if total > MAX_CONTAINERS as u64 {
            let problem = format!("at most {MAX_CONTAINERS}, found {total}");
            return Err(self.invalid("containers", problem));
        }
        let names: Vec<&str> = file.containers.iter().map(|c| c.name.as_str()).collect();
        self.unique("containers", &names)?;
        let mut files = Files::default();
        let mut list = Vec::new();
        let mut free = Free::new(hosts, sizes);
        for (i, container) in file.containers.iter().enumerate() {
            let field = |name: &str| format!("containers[{i}].{name}");
            self.container_values(&field, container)?;
            for k in 0..container.count {
                let (host, size) = self.container_host(&field, container, &mut free)?;
                let demand = self.demand(&field, container, (k, folder), &mut files)?;
                let vcpu_mips = size.mips_per_vcpu.0;
                let trace = self.trace(&field("demand"), &demand.steps, vcpu_mips)?;
                list.push(ContainerSpec {
                    name: match container.count {
                        1 => container.name.clone(),
                        _ => format!("{}-{:02}", container.name, k + 1),
                    },
                    host,
                    vcpus: container.vcpus,
                    ram: Mebibytes(container.ram_mib),
                    start: SimTime::from_seconds(container.start_s),
                    stop: container
                        .stop_s
                        .map_or(SimTime::NEVER, SimTime::from_seconds),
                    share: container.share,
                    demand: Arc::new(trace),
                    repeat: demand.repeat,
                });
            }
        }
        let mut taken = BTreeSet::new();
        if let Some(twice) = list.iter().find(|c| !taken.insert(c.name.as_str())) {
            let problem = format!("two are called \"{}\"; give one another name", twice.name);
            return Err(self.invalid("containers", problem));
        }
        let containers = Containers::new(list, hosts.len());
        for (h, host) in hosts.iter().enumerate() {
            let (held, ram) = (containers.held(h).0, sizes[host.size.index()].ram.0);
            if held > ram {
                let problem = format!("hold {held} MiB on host \"{}\", which has {ram}", host.name);
                return Err(self.invalid("containers", problem));
            }
        }
        Ok(containers)
    }

    fn container_values(
        &self,
        field: &dyn Fn(&str) -> String,
        container: &ContainerFile,
    ) -> Result<(), WorldError> {
        self.positive(&field("vcpus"), container.vcpus)?;
        self.not_negative(&field("ram_mib"), container.ram_mib)?;
        self.not_negative(&field("start_s"), container.start_s)?;
        if container.count == 0 {
            return Err(self.invalid(&field("count"), "must be at least 1".into()));
        }
        if let Some(stop_s) = container.stop_s
            && !(stop_s.is_finite() && stop_s > container.start_s)
        {
            let start_s = container.start_s;
            let problem = format!("must be after start_s = {start_s}, found {stop_s}");
            return Err(self.invalid(&field("stop_s"), problem));
        }
        if container.host.is_some() && container.placement.is_some() {
            let problem = "has no meaning where host is given; leave one of them out".into();
            return Err(self.invalid(&field("placement"), problem));
        }
        Ok(())
    }

    fn container_host<'w>(
        &self,
        field: &dyn Fn(&str) -> String,
        container: &ContainerFile,
        free: &mut Free<'w>,
    ) -> Result<(HostId, &'w VmSize), WorldError> {
        let h = match &container.host {
            Some(name) => {
                let names: Vec<&str> = free.hosts.iter().map(|h| h.name.as_str()).collect();
                self.find(&field("host"), "host", name, &names)?
            }
            None => {
                let rule = container.placement.unwrap_or_default();
                free.choose(rule, container).ok_or_else(|| {
                    let problem = format!(
                        "no host has {} MiB and {} vCPUs left for it",
                        container.ram_mib, container.vcpus
                    );
                    self.invalid(&field("placement"), problem)
                })?
            }
        };
        free.take(h, container);
        Ok((HostId::at(h), free.size(h)))
    }

    /// The demand of container `k` of a group.
    fn demand(
        &self,
        field: &dyn Fn(&str) -> String,
        container: &ContainerFile,
        (k, folder): (u32, Option<&Path>),
        files: &mut Files,
    ) -> Result<Demand, WorldError> {
        let field = |name: &str| field(&format!("demand.{name}"));
        let k = k as usize;
        let vcpus = container.vcpus;
        let (steps, repeat) = match &container.demand {
            DemandFile::Steps { steps, repeat } => {
                self.at_least_one(&field("steps"), steps.len(), MAX_STEPS)?;
                (self.steps(&field("steps"), steps)?, *repeat)
            }
            DemandFile::Columns {
                file,
                column,
                repeat,
            } => {
                let table = self.table(&field("file"), file, folder, files)?;
                let names: Vec<&str> = table.names().iter().map(String::as_str).collect();
                let first = self.find(&field("column"), "column", column, &names)?;
                if first + k >= names.len() {
                    return Err(self.too_few(&field("column"), names.len() - first));
                }
                let steps = table.steps(first + k);
                let steps = steps.map(|(span, percent)| (span, percent / 100.0 * vcpus));
                (steps.collect(), *repeat)
            }
            DemandFile::Recording {
                folder: source,
                job,
                repeat,
            } => {
                let recording = self.recording(&field("folder"), source, folder, files)?;
                let jobs = &recording.containers;
                let Some(first) = jobs.iter().position(|found| found.id == *job) else {
                    let problem = format!("{source} has no job {job}");
                    return Err(self.invalid(&field("job"), problem));
                };
                let Some(found) = jobs.get(first + k) else {
                    return Err(self.too_few(&field("job"), jobs.len() - first));
                };
                let reserved = found.reserved.mhz();
                self.positive(&field("job"), reserved)?;
                let mut from = SimTime::ZERO;
                let steps = found.demand.steps().iter().map(|step| {
                    let span = step.until.since(from);
                    from = step.until;
                    (span, step.rate.mhz() / reserved * vcpus)
                });
                (steps.collect(), *repeat)
            }
        };
        Ok(Demand { steps, repeat })
    }

    fn too_few(&self, field: &str, there: usize) -> WorldError {
        self.invalid(field, format!("only {there} from there on; lower count"))
    }

    fn steps(&self, field: &str, steps: &[StepFile]) -> Result<Vec<(SimTime, f64)>, WorldError> {
        let mut found = Vec::with_capacity(steps.len());
        for (i, step) in steps.iter().enumerate() {
            self.positive(&format!("{field}[{i}].duration_s"), step.duration_s)?;
            self.not_negative(&format!("{field}[{i}].vcpus"), step.vcpus)?;
            found.push((SimTime::from_seconds(step.duration_s), step.vcpus));
        }
        Ok(found)
    }

    /// `steps` in virtual CPUs as demand of a host with `vcpu_mips` each.
    fn trace(
        &self,
        field: &str,
        steps: &[(SimTime, f64)],
        vcpu_mips: f64,
    ) -> Result<DemandTrace, WorldError> {
        let mut trace = DemandTrace::default();
        for (i, &(span, vcpus)) in steps.iter().enumerate() {
            if span < SHORTEST_STEP {
                let problem = format!("step {i} lasts {span}; at least {SHORTEST_STEP} are needed");
                return Err(self.invalid(field, problem));
            }
            let mips = vcpus * vcpu_mips;
            let rate = CpuRate::from_mhz(mips).ok_or_else(|| {
                let problem = format!("step {i} wants {mips} MIPS; at most {MAX_MHZ} are possible");
                self.invalid(field, problem)
            })?;
            trace
                .push(span, rate)
                .map_err(|error| self.invalid(field, format!("step {i}: {error}")))?;
        }
        if trace.steps().is_empty() {
            return Err(self.invalid(field, "has no value".into()));
        }
        Ok(trace)
    }

    fn table<'f>(
        &self,
        field: &str,
        name: &str,
        folder: Option<&Path>,
        files: &'f mut Files,
    ) -> Result<&'f Columns, WorldError> {
        if !files.tables.contains_key(name) {
            let path = self.beside(field, name, folder)?;
            let table =
                Columns::load(&path).map_err(|error| self.invalid(field, error.to_string()))?;
            files.tables.insert(name.into(), table);
        }
        Ok(&files.tables[name])
    }

    fn recording<'f>(
        &self,
        field: &str,
        name: &str,
        folder: Option<&Path>,
        files: &'f mut Files,
    ) -> Result<&'f Recording, WorldError> {
        if !files.recordings.contains_key(name) {
            let path = self.beside(field, name, folder)?;
            let wrong = |problem: String| self.invalid(field, problem);
            let manifest = Manifest::load(&path).map_err(|error| wrong(error.to_string()))?;
            let Manifest::Containers(manifest) = manifest else {
                return Err(wrong(format!("{name} is no recording of containers")));
            };
            let recording =
                Recording::load(&path, manifest).map_err(|error| wrong(error.to_string()))?;
            files.recordings.insert(name.into(), recording);
        }
        Ok(&files.recordings[name])
    }

    /// The path of what stands beside the world file.
    fn beside(
        &self,
        field: &str,
        name: &str,
        folder: Option<&Path>,
    ) -> Result<std::path::PathBuf, WorldError> {
        match folder {
            Some(folder) => Ok(folder.join(name)),
            None => Err(self.invalid(field, format!("no file \"{name}\" is part of the program"))),
        }
    }
}

/// What is not set aside on each host.
struct Free<'w> {
    hosts: &'w [HostSpec],
    sizes: &'w [VmSize],
    vcpus: Vec<f64>,
    ram_mib: Vec<f64>,
}

impl<'w> Free<'w> {
    fn new(hosts: &'w [HostSpec], sizes: &'w [VmSize]) -> Self {
        let size = |host: &HostSpec| &sizes[host.size.index()];
        Self {
            hosts,
            sizes,
            vcpus: hosts.iter().map(|h| size(h).vcpus).collect(),
            ram_mib: hosts.iter().map(|h| size(h).ram.0).collect(),
        }
    }

    fn size(&self, h: usize) -> &'w VmSize {
        &self.sizes[self.hosts[h].size.index()]
    }

    fn choose(&self, rule: ContainerPlacement, container: &ContainerFile) -> Option<usize> {
        let fits = |&h: &usize| self.ram_mib[h] >= container.ram_mib;
        let mut fitting = (0..self.hosts.len()).filter(fits);
        match rule {
            ContainerPlacement::FirstFit => fitting.find(|&h| self.vcpus[h] >= container.vcpus),
            ContainerPlacement::LeastReserved => {
                let reserved = |h: usize| 1.0 - self.vcpus[h] / self.size(h).vcpus;
                fitting.min_by(|&a, &b| reserved(a).total_cmp(&reserved(b)).then(a.cmp(&b)))
            }
        }
    }

    fn take(&mut self, h: usize, container: &ContainerFile) {
        self.vcpus[h] -= container.vcpus;
        self.ram_mib[h] -= container.ram_mib;
    }
}
