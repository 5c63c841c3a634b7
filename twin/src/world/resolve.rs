//! From a world file to a [`World`]: parse, resolve names, check values.

mod containers;
mod mechanics;

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::file::{ApplicationFile, FragmentFile, HostGroupFile, SCHEMA, WorkloadFile, WorldFile};
use super::migration::{MigrationSettings, dirtied};
use super::{
    Application, Containers, Fragment, HostSpec, Link, MAX_APPLICATIONS, MAX_CAPS, MAX_FRAGMENTS,
    MAX_HOSTS, MAX_VARIANTS, Model, PowerCurve, Site, Variant, VmSize, World, embedded,
};
use crate::arrivals;
use crate::distribution::Empirical;
use crate::ids::{ApplicationId, ModelId, SiteId, SizeId};
use crate::units::{Mebibytes, MegabitsPerSecond, Mips, SimTime};
use crate::workload::{Split, Trace, Workload};

/// Why a world could not be loaded.
#[derive(Debug, Error)]
pub enum WorldError {
    /// Neither an embedded world nor a file.
    #[error(
        "{name}: no embedded world and no file of that name{hint}; `twin worlds` lists the worlds"
    )]
    NotFound {
        /// What was asked for.
        name: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// The file could not be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The file is not TOML of the schema.
    #[error("{origin}: {message}")]
    Parse {
        /// The file.
        origin: String,
        /// Place and reason.
        message: String,
    },
    /// A value is wrong.
    #[error("{origin}: {field}: {problem}")]
    Invalid {
        /// The file.
        origin: String,
        /// Path of the field.
        field: String,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// The arrivals could not be read.
    #[error("{origin}: workload.arrivals: {source}")]
    Arrivals {
        /// The file.
        origin: String,
        /// The reason.
        source: arrivals::ArrivalsError,
    },
}

impl World {
    /// The embedded world `name`, or the world in the file at the path `name`.
    ///
    /// # Errors
    ///
    /// If there is no such world or file, or the file is not a valid world.
    pub fn load(name: &str) -> Result<Self, WorldError> {
        if let Some(text) = embedded::find(embedded::WORLDS, name) {
            return Self::parse(text, name, None);
        }
        let path = Path::new(name);
        if !path.exists() {
            let names: Vec<&str> = embedded::WORLDS.iter().map(|w| w.name).collect();
            return Err(WorldError::NotFound {
                name: name.into(),
                hint: did_you_mean(name, &names),
            });
        }
        let text = std::fs::read_to_string(path).map_err(|source| WorldError::Read {
            path: name.into(),
            source,
        })?;
        Self::parse(&text, name, path.parent())
    }

    /// The world described by `text`. `origin` names it in errors; relative paths of arrivals
    /// start at `folder`, and are refused where there is none.
    ///
    /// # Errors
    ///
    /// If the text is not a valid world.
    pub fn parse(text: &str, origin: &str, folder: Option<&Path>) -> Result<Self, WorldError> {
        let file: WorldFile = toml::from_str(text).map_err(|e| WorldError::Parse {
            origin: origin.into(),
            message: with_suggestion(&e.to_string()),
        })?;
        Self::resolve(file, origin, folder)
    }

    /// The world described by `file`, as [`World::parse`].
    ///
    /// # Errors
    ///
    /// If a value is wrong.
    pub fn resolve(
        file: WorldFile,
        origin: &str,
        folder: Option<&Path>,
    ) -> Result<Self, WorldError> {
        let check = Check { origin };
        check.bounds(&file)?;
        let migration = MigrationSettings::new(&file.migration.clone().unwrap_or_default())
            .map_err(|(field, problem)| check.invalid(&format!("migration.{field}"), problem))?;
        let sites = check.sites(&file)?;
        let links = check.links(&file)?;
        let sizes = check.sizes(&file)?;
        let hosts = check.hosts(&file)?;
        let containers = check.containers(&file, folder, (&hosts, &sizes))?;
        let caps = check.caps(&file.applications)?;
        let models = check.models(&file)?;
        let faults = check.faults(file.faults.as_ref())?;
        let mut applications = Vec::new();
        for (i, a) in file.applications.iter().enumerate() {
            applications.push(check.application(i, a, (&caps, &models))?);
        }
        let (workload, arrivals_text) = check.workload(&file, folder, &mut applications)?;
        let hash = hash(&file, &arrivals_text, &containers);
        let mut world = Self {
            name: file.name.clone(),
            description: file.description.clone(),
            interval: SimTime::from_seconds(file.interval_s),
            dispatch: file.dispatch,
            episode_intervals: file.episode_intervals,
            sites,
            links,
            sizes,
            hosts,
            applications,
            models,
            containers,
            max_active_requests: file.max_active_requests,
            faults,
            caps,
            workload,
            objective: file.objective,
            migration,
            typical_mi: Vec::new(),
            hash,
            file: Arc::new(file),
        };
        check.placeable(&world)?;
        world.typical_mi = (0..world.applications.len())
            .map(|a| typical_mi(&world, a))
            .collect();
        Ok(world)
    }
}

/// Checks of one file.
struct Check<'a> {
    origin: &'a str,
}

impl Check<'_> {
    fn invalid(&self, field: &str, problem: String) -> WorldError {
        WorldError::Invalid {
            origin: self.origin.into(),
            field: field.into(),
            problem,
        }
    }

    fn at_least_one(&self, field: &str, count: usize, most: usize) -> Result<(), WorldError> {
        if count == 0 || count > most {
            return Err(self.invalid(field, format!("needs 1 to {most} entries, found {count}")));
        }
        Ok(())
    }

    fn positive(&self, field: &str, value: f64) -> Result<(), WorldError> {
        if value.is_finite() && value > 0.0 {
            return Ok(());
        }
        Err(self.invalid(
            field,
            format!("must be finite and above zero, found {value}"),
        ))
    }

    fn not_negative(&self, field: &str, value: f64) -> Result<(), WorldError> {
        if value.is_finite() && value >= 0.0 {
            return Ok(());
        }
        Err(self.invalid(
            field,
            format!("must be finite and not negative, found {value}"),
        ))
    }

    /// The position of `name` in `names`.
    fn find(
        &self,
        field: &str,
        kind: &str,
        name: &str,
        names: &[&str],
    ) -> Result<usize, WorldError> {
        names.iter().position(|n| *n == name).ok_or_else(|| {
            self.invalid(
                field,
                format!("unknown {kind} \"{name}\"{}", did_you_mean(name, names)),
            )
        })
    }

    fn unique(&self, list: &str, names: &[&str]) -> Result<(), WorldError> {
        for (i, name) in names.iter().enumerate() {
            if name.is_empty() {
                return Err(self.invalid(&format!("{list}[{i}].name"), "must not be empty".into()));
            }
            if names[..i].contains(name) {
                return Err(self.invalid(
                    &format!("{list}[{i}].name"),
                    format!("\"{name}\" is already taken; give it another name"),
                ));
            }
        }
        Ok(())
    }

    /// What can be said of `file` before its parts are looked at.
    fn bounds(&self, file: &WorldFile) -> Result<(), WorldError> {
        if file.schema != SCHEMA {
            return Err(self.invalid(
                "schema",
                format!("this program reads version {SCHEMA}, found {}", file.schema),
            ));
        }
        self.at_least_one("sites", file.sites.len(), usize::from(u16::MAX))?;
        self.at_least_one("sizes", file.sizes.len(), usize::from(u16::MAX))?;
        self.at_least_one("hosts", file.hosts.len(), MAX_HOSTS)?;
        self.at_least_one("applications", file.applications.len(), MAX_APPLICATIONS)?;
        self.positive("interval_s", file.interval_s)?;
        if file.episode_intervals == 0 {
            return Err(self.invalid("episode_intervals", "must be at least 1".into()));
        }
        if let Some((field, problem)) = file.objective.problem() {
            return Err(self.invalid(&format!("objective.{field}"), problem));
        }
        if file.max_active_requests == Some(0) {
            let problem = "must be at least 1; leave it out for no limit".into();
            return Err(self.invalid("max_active_requests", problem));
        }
        Ok(())
    }

    fn sites(&self, file: &WorldFile) -> Result<Vec<Site>, WorldError> {
        self.unique("sites", &site_names(file))?;
        let mut sites = Vec::new();
        for (i, site) in file.sites.iter().enumerate() {
            self.not_negative(&format!("sites[{i}].user_latency_ms"), site.user_latency_ms)?;
            let factor = site.grid_gco2e_per_kwh.unwrap_or(0.0);
            self.not_negative(&format!("sites[{i}].grid_gco2e_per_kwh"), factor)?;
            sites.push(Site {
                name: site.name.clone(),
                kind: site.kind,
                user_latency: SimTime::from_seconds(site.user_latency_ms / 1e3),
                grid_gco2e_per_kwh: site.grid_gco2e_per_kwh,
            });
        }
        Ok(sites)
    }

    fn links(&self, file: &WorldFile) -> Result<Vec<Link>, WorldError> {
        let names = site_names(file);
        let n = names.len();
        let mut found: Vec<Option<Link>> = vec![None; n * n];
        let mut pairs = Vec::new();
        for (i, link) in file.links.iter().enumerate() {
            let from = self.find(&format!("links[{i}].from"), "site", &link.from, &names)?;
            let to = self.find(&format!("links[{i}].to"), "site", &link.to, &names)?;
            self.not_negative(&format!("links[{i}].latency_ms"), link.latency_ms)?;
            self.positive(&format!("links[{i}].bandwidth_mbps"), link.bandwidth_mbps)?;
            if from == to {
                return Err(self.invalid(&format!("links[{i}]"), "joins a site to itself".into()));
            }
            let value = Link {
                latency: SimTime::from_seconds(link.latency_ms / 1e3),
                bandwidth: MegabitsPerSecond(link.bandwidth_mbps),
            };
            if found[from * n + to].replace(value).is_some() {
                return Err(self.invalid(&format!("links[{i}]"), "is listed twice".into()));
            }
            pairs.push((to * n + from, value));
        }
        for (reverse, value) in pairs {
            found[reverse].get_or_insert(value);
        }
        // Within a site the network of the hosts is the only limit.
        let local = Link {
            latency: SimTime::ZERO,
            bandwidth: MegabitsPerSecond(f64::INFINITY),
        };
        let mut links = Vec::new();
        for from in 0..n {
            for to in 0..n {
                links.push(match found[from * n + to] {
                    Some(link) => link,
                    None if from == to => local,
                    None => {
                        return Err(self.invalid(
                            "links",
                            format!(
                                "no link between \"{}\" and \"{}\"; add one with latency_ms and \
                                 bandwidth_mbps",
                                names[from], names[to]
                            ),
                        ));
                    }
                });
            }
        }
        Ok(links)
    }

    fn sizes(&self, file: &WorldFile) -> Result<Vec<VmSize>, WorldError> {
        let names = site_names(file);
        self.unique(
            "sizes",
            &file
                .sizes
                .iter()
                .map(|s| s.name.as_str())
                .collect::<Vec<_>>(),
        )?;
        let mut sizes = Vec::new();
        for (i, size) in file.sizes.iter().enumerate() {
            let field = |name: &str| format!("sizes[{i}].{name}");
            self.positive(&field("vcpus"), size.vcpus)?;
            self.positive(&field("mips_per_vcpu"), size.mips_per_vcpu)?;
            self.positive(&field("ram_mib"), size.ram_mib)?;
            self.positive(&field("network_mbps"), size.network_mbps)?;
            self.not_negative(&field("boot_s"), size.boot_s)?;
            for (k, watts) in size.power_w.iter().enumerate() {
                self.not_negative(&field(&format!("power_w[{k}]")), *watts)?;
            }
            for site in size.price_usd_per_hour.keys() {
                self.find(&field("price_usd_per_hour"), "site", site, &names)?;
            }
            let mut prices = Vec::new();
            for name in &names {
                let price = size.price_usd_per_hour.get(*name).copied();
                let used = file
                    .hosts
                    .iter()
                    .any(|h| h.size == size.name && h.site == *name);
                if price.is_none() && used {
                    return Err(self.invalid(
                        &field("price_usd_per_hour"),
                        format!("no price at site \"{name}\", where hosts of this size stand"),
                    ));
                }
                let price = price.unwrap_or(0.0);
                self.not_negative(&field(&format!("price_usd_per_hour.{name}")), price)?;
                prices.push(price);
            }
            sizes.push(VmSize {
                credits: self.credits(&field("credits"), size)?,
                speed: self.speed(&field("speed"), size)?,
                name: size.name.clone(),
                vcpus: size.vcpus,
                mips_per_vcpu: Mips(size.mips_per_vcpu),
                ram: Mebibytes(size.ram_mib),
                network: MegabitsPerSecond(size.network_mbps),
                power: PowerCurve(size.power_w),
                price_usd_per_hour: prices,
                boot: SimTime::from_seconds(size.boot_s),
            });
        }
        Ok(sizes)
    }

    fn hosts(&self, file: &WorldFile) -> Result<Vec<HostSpec>, WorldError> {
        let total: u64 = file.hosts.iter().map(|g| u64::from(g.count)).sum();
        if total == 0 || total > MAX_HOSTS as u64 {
            return Err(self.invalid(
                "hosts",
                format!("the counts must add up to 1 to {MAX_HOSTS} hosts, found {total}"),
            ));
        }
        let sites = site_names(file);
        let sizes: Vec<&str> = file.sizes.iter().map(|s| s.name.as_str()).collect();
        let mut names = file.host_names().into_iter();
        let mut hosts = Vec::new();
        for (i, group) in file.hosts.iter().enumerate() {
            let size = self.find(&format!("hosts[{i}].size"), "VM size", &group.size, &sizes)?;
            let site = self.find(&format!("hosts[{i}].site"), "site", &group.site, &sites)?;
            let names = names.by_ref().take(group.count as usize);
            let place = (SizeId::at(size), SiteId::at(site));
            self.push_group(i, group, place, names, &mut hosts)?;
        }
        Ok(hosts)
    }

    fn push_group(
        &self,
        i: usize,
        group: &HostGroupFile,
        (size, site): (SizeId, SiteId),
        names: impl Iterator<Item = String>,
        hosts: &mut Vec<HostSpec>,
    ) -> Result<(), WorldError> {
        let on = group.initially_on.unwrap_or(group.count);
        if on > group.count {
            return Err(self.invalid(
                &format!("hosts[{i}].initially_on"),
                format!("is {on}, more than count = {}", group.count),
            ));
        }
        for (k, name) in (0..).zip(names) {
            hosts.push(HostSpec {
                name,
                size,
                site,
                initially_on: k < on,
            });
        }
        Ok(())
    }

    /// The distinct parallelism caps, ascending.
    fn caps(&self, applications: &[ApplicationFile]) -> Result<Vec<f64>, WorldError> {
        let mut caps = Vec::new();
        for (i, a) in applications.iter().enumerate() {
            for (j, v) in a.variants.iter().enumerate() {
                for (k, f) in v.fragments.iter().enumerate() {
                    let field = format!("applications[{i}].variants[{j}].fragments[{k}].max_vcpus");
                    self.positive(&field, f.max_vcpus)?;
                    caps.push(f.max_vcpus);
                }
            }
        }
        caps.sort_by(f64::total_cmp);
        caps.dedup();
        if caps.len() > MAX_CAPS {
            return Err(self.invalid(
                "applications",
                format!(
                    "at most {MAX_CAPS} different max_vcpus, found {}",
                    caps.len()
                ),
            ));
        }
        Ok(caps)
    }

    fn application(
        &self,
        i: usize,
        file: &ApplicationFile,
        shared: (&[f64], &[Model]),
    ) -> Result<Application, WorldError> {
        let field = |name: &str| format!("applications[{i}].{name}");
        self.positive(&field("deadline_s"), file.deadline_s)?;
        self.not_negative(&field("share"), file.share)?;
        self.not_negative(&field("input_kib"), file.input_kib)?;
        self.not_negative(
            &field("input_bytes_per_context_token"),
            file.input_bytes_per_context_token,
        )?;
        self.at_least_one(&field("variants"), file.variants.len(), MAX_VARIANTS)?;
        let names: Vec<&str> = file.variants.iter().map(|v| v.name.as_str()).collect();
        self.unique(&field("variants"), &names)?;
        let mut variants = Vec::new();
        for (j, variant) in file.variants.iter().enumerate() {
            let field = format!("applications[{i}].variants[{j}]");
            if !(0.0..=1.0).contains(&variant.accuracy) {
                return Err(self.invalid(
                    &format!("{field}.accuracy"),
                    format!("must lie between 0 and 1, found {}", variant.accuracy),
                ));
            }
            let list = format!("{field}.fragments");
            self.at_least_one(&list, variant.fragments.len(), MAX_FRAGMENTS)?;
            variants.push(Variant {
                name: variant.name.clone(),
                accuracy: variant.accuracy,
                fragments: self.fragments(&list, &variant.fragments, shared)?,
            });
        }
        Ok(Application {
            name: file.name.clone(),
            share: file.share,
            deadline: SimTime::from_seconds(file.deadline_s),
            input_bytes: file.input_kib * 1024.0,
            input_bytes_per_context_token: file.input_bytes_per_context_token,
            variants,
            generated_tokens: None,
            mean_context_tokens: 0.0,
        })
    }

    /// The fragments of a variant; `after` may name earlier fragments only, so there is no cycle.
    fn fragments(
        &self,
        list: &str,
        files: &[FragmentFile],
        (caps, models): (&[f64], &[Model]),
    ) -> Result<Vec<Fragment>, WorldError> {
        let names: Vec<&str> = files.iter().map(|f| f.name.as_str()).collect();
        self.unique(list, &names)?;
        let mut fragments: Vec<Fragment> = Vec::new();
        for (k, f) in files.iter().enumerate() {
            let field = |name: &str| format!("{list}[{k}].{name}");
            if let Some(problem) = f.work_mi.problem() {
                return Err(self.invalid(&field("work_mi"), problem));
            }
            for (name, value) in [
                ("work_mi_per_context_token", f.work_mi_per_context_token),
                ("work_mi_per_generated_token", f.work_mi_per_generated_token),
                ("ram_mib", f.ram_mib),
                ("output_kib", f.output_kib),
                ("output_bytes_per_token", f.output_bytes_per_token),
            ] {
                self.not_negative(&field(name), value)?;
            }
            let mut predecessors = Vec::new();
            for name in &f.after {
                let p = self.find(&field("after"), "earlier fragment", name, &names[..k])?;
                if predecessors.contains(&p) {
                    return Err(self.invalid(&field("after"), format!("names \"{name}\" twice")));
                }
                predecessors.push(p);
                fragments[p].successors.push(k);
            }
            let known: Vec<&str> = models.iter().map(|m| m.name.as_str()).collect();
            let model = match &f.model {
                None => None,
                Some(name) => {
                    let position = self.find(&field("model"), "model", name, &known)?;
                    Some(ModelId::at(position))
                }
            };
            fragments.push(Fragment {
                name: f.name.clone(),
                work_mi: f.work_mi.clone(),
                work_mi_per_context_token: f.work_mi_per_context_token,
                work_mi_per_generated_token: f.work_mi_per_generated_token,
                cap: caps
                    .iter()
                    .position(|c| c.total_cmp(&f.max_vcpus).is_eq())
                    .unwrap_or(0),
                ram: Mebibytes(f.ram_mib),
                dirtied: dirtied(
                    f.ram_mib,
                    f.dirty_mib_per_s.unwrap_or(0.0),
                    f.working_set_mib,
                )
                .map_err(|(name, problem)| self.invalid(&field(name), problem))?,
                model,
                output_bytes: f.output_kib * 1024.0,
                output_bytes_per_token: f.output_bytes_per_token,
                predecessors,
                successors: Vec::new(),
            });
        }
        Ok(fragments)
    }

    fn workload(
        &self,
        file: &WorldFile,
        folder: Option<&Path>,
        applications: &mut [Application],
    ) -> Result<(Workload, String), WorldError> {
        match &file.workload {
            WorkloadFile::Poisson { rate_per_s } => {
                self.positive("workload.rate_per_s", *rate_per_s)?;
                self.shares(applications)?;
                Ok((
                    Workload::Poisson {
                        rate_per_s: *rate_per_s,
                    },
                    String::new(),
                ))
            }
            WorkloadFile::Batch { mean, sd, minimum } => {
                if !mean.is_finite() || *mean > 1e6 {
                    return Err(self.invalid("workload.mean", "must be at most 1000000".into()));
                }
                self.not_negative("workload.sd", *sd)?;
                self.shares(applications)?;
                Ok((
                    Workload::Batch {
                        mean: *mean,
                        sd: *sd,
                        minimum: *minimum,
                    },
                    String::new(),
                ))
            }
            WorkloadFile::Trace {
                arrivals: source,
                block_s,
                split_every_s,
            } => {
                self.positive("workload.block_s", *block_s)?;
                self.positive("workload.split_every_s", *split_every_s)?;
                let text = match embedded::find(embedded::ARRIVALS, source) {
                    Some(text) => text.to_owned(),
                    None => self.read_arrivals(source, folder)?,
                };
                let names: Vec<&str> = applications.iter().map(|a| a.name.as_str()).collect();
                let lists = arrivals::parse(&text, source, &names).map_err(|source| {
                    WorldError::Arrivals {
                        origin: self.origin.into(),
                        source,
                    }
                })?;
                let trace = Trace::new(lists, *block_s, SimTime::from_seconds(*split_every_s));
                if trace.stretches(Split::HeldOut).is_empty() {
                    return Err(self.invalid(
                        "workload.split_every_s",
                        format!(
                            "leaves nothing to hold out: the trace ends at {:.0} s",
                            trace.end.seconds()
                        ),
                    ));
                }
                for (application, list) in applications.iter_mut().zip(&trace.applications) {
                    let seen: Vec<_> = list.iter().filter(|a| trace.trains(a.time)).collect();
                    let context: f64 = seen.iter().map(|a| f64::from(a.context_tokens)).sum();
                    application.mean_context_tokens = context / seen.len().max(1) as f64;
                    let generated = seen.iter().map(|a| f64::from(a.generated_tokens)).collect();
                    application.generated_tokens = Empirical::new(generated).map(Arc::new);
                }
                Ok((Workload::Trace(trace), text))
            }
        }
    }

    fn read_arrivals(&self, source: &str, folder: Option<&Path>) -> Result<String, WorldError> {
        let names: Vec<&str> = embedded::ARRIVALS.iter().map(|a| a.name).collect();
        let Some(folder) = folder else {
            return Err(self.invalid(
                "workload.arrivals",
                format!(
                    "unknown arrivals \"{source}\"{}",
                    did_you_mean(source, &names)
                ),
            ));
        };
        let path = folder.join(source);
        std::fs::read_to_string(&path).map_err(|e| WorldError::Read {
            path: path.display().to_string(),
            source: e,
        })
    }

    fn shares(&self, applications: &[Application]) -> Result<(), WorldError> {
        if applications.iter().map(|a| a.share).sum::<f64>() > 0.0 {
            return Ok(());
        }
        Err(self.invalid("applications", "the shares must not all be zero".into()))
    }

    /// Each variant of each application must fit on some host.
    fn placeable(&self, world: &World) -> Result<(), WorldError> {
        let names: Vec<&str> = world.applications.iter().map(|a| a.name.as_str()).collect();
        self.unique("applications", &names)?;
        let most = (0..world.hosts.len())
            .map(|h| world.ram_for_fragments(h).0)
            .fold(0.0, f64::max);
        for (i, a) in world.applications.iter().enumerate() {
            for (j, v) in a.variants.iter().enumerate() {
                for (k, f) in v.fragments.iter().enumerate() {
                    let needs = world.needs_mib(f);
                    if needs > most {
                        let with = if f.model.is_some() {
                            " with its model"
                        } else {
                            ""
                        };
                        return Err(self.invalid(
                            &format!("applications[{i}].variants[{j}].fragments[{k}].ram_mib"),
                            format!("{needs} MiB{with} fit on no host; the largest has {most} MiB"),
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The hash of a world file and of what was read for it.
fn hash(file: &WorldFile, arrivals: &str, containers: &Containers) -> String {
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(file).unwrap_or_default());
    hash.update(arrivals.as_bytes());
    for step in containers.list().iter().flat_map(|c| c.demand.steps()) {
        hash.update(step.until.0.to_le_bytes());
        hash.update(step.rate.0.to_le_bytes());
    }
    hex::encode(hash.finalize())
}

/// Expected work of a typical request of application `a` in its most accurate variant, in MI.
fn typical_mi(world: &World, a: usize) -> f64 {
    let application = &world.applications[a];
    let best = world.most_accurate(ApplicationId::at(a));
    let generated = application
        .generated_tokens
        .as_deref()
        .map_or(0.0, |d| d.mean_given_exceeds(-1.0));
    application.variants[best.index()]
        .fragments
        .iter()
        .map(|f| {
            f.work_mi.mean()
                + f.work_mi_per_context_token * application.mean_context_tokens
                + f.work_mi_per_generated_token * generated
        })
        .sum()
}

fn site_names(file: &WorldFile) -> Vec<&str> {
    file.sites.iter().map(|s| s.name.as_str()).collect()
}

/// `, did you mean "x"?` with the nearest of `names`, or nothing.
pub(crate) fn did_you_mean(name: &str, names: &[&str]) -> String {
    let nearest = names
        .iter()
        .map(|n| (strsim::jaro_winkler(name, n), n))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(similarity, _)| *similarity > 0.7);
    match nearest {
        Some((_, n)) => format!(", did you mean \"{n}\"?"),
        None => String::new(),
    }
}

/// Adds a suggestion to serde's "unknown field `x`, expected one of `a`, `b`".
fn with_suggestion(message: &str) -> String {
    let message = message.trim_end();
    if !message.contains("unknown field") && !message.contains("unknown variant") {
        return message.to_owned();
    }
    // The source line that the message shows may hold backquotes of its own.
    let Some((_, tail)) = message.split_once("unknown ") else {
        return message.to_owned();
    };
    let mut quoted = tail.split('`').skip(1).step_by(2);
    let Some(name) = quoted.next() else {
        return message.to_owned();
    };
    let names: Vec<&str> = quoted.collect();
    match did_you_mean(name, &names) {
        hint if hint.is_empty() => message.to_owned(),
        hint => format!("{message}{hint}"),
    }
}
