//! A recording of long-running containers.
//!
//! - `recording.toml`: `kind = "containers"`, name, source, bin length, placement and hosts;
//! - `jobs.csv`: `job,start_ms,duration_ms,reserved_mhz`, times since the start of the recording;
//! - `demand.csv`: `job,duration_ms,cpu_mhz`, the steps of each job one after the other, jobs in the
//!   order of `jobs.csv`.
//!
//! The steps of a job must last as long as the job, so that a file that was cut off is noticed.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ReplayError;
use super::measured::MAX_MS;
use super::rows::read_rows;
use crate::container::host::{self, Segment};
use crate::container::placement::{Placement, place};
use crate::container::power::Knots;
use crate::container::{Container, CpuRate, CpuWork, DemandTrace, MAX_MHZ};
use crate::units::SimTime;

/// The file of jobs.
pub const JOBS_FILE: &str = "jobs.csv";
/// The header of the file of jobs.
pub const JOBS_HEADER: [&str; 4] = ["job", "start_ms", "duration_ms", "reserved_mhz"];
/// The file of demand.
pub const DEMAND_FILE: &str = "demand.csv";
/// The header of the file of demand.
pub const DEMAND_HEADER: [&str; 3] = ["job", "duration_ms", "cpu_mhz"];

/// The most hosts of a recording.
pub const MAX_HOSTS: usize = 100_000;
/// The most bins of a replay.
pub const MAX_BINS: usize = 200_000;
/// The longest bin, in s: a day.
pub const MAX_BIN_S: f64 = 86_400.0;

const NANOS_PER_MS: u64 = 1_000_000;

/// What `recording.toml` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the recording.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// Length of the bins in which results are compared, in s.
    pub bin_s: f64,
    /// How containers get their hosts.
    pub placement: Placement,
    /// The hosts, all alike.
    pub hosts: Hosts,
}

/// Hosts that are all alike.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    /// How many.
    pub count: usize,
    /// Cores of each.
    pub cores: u32,
    /// Clock of a core, in MHz.
    pub core_mhz: f64,
}

/// A recording of containers.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// What `recording.toml` says.
    pub manifest: Manifest,
    /// The containers in the order of the file.
    pub containers: Vec<Container>,
}

impl Recording {
    /// The recording in `folder`, of which the manifest is known.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or a line of it is wrong.
    pub fn load(folder: &Path, manifest: Manifest) -> Result<Self, ReplayError> {
        let jobs_path = folder.join(JOBS_FILE);
        let demand_path = folder.join(DEMAND_FILE);
        let jobs = read_jobs(&jobs_path)?;
        let mut containers = jobs.into_iter().peekable();
        let mut list: Vec<Container> = Vec::new();
        let mut lasting = SimTime::ZERO;
        read_rows(&demand_path, &DEMAND_HEADER, |row| {
            let job = row.whole(0, 0, u64::MAX)?;
            if list.last().is_none_or(|current| current.id != job) {
                whole(list.last(), lasting)?;
                let (next, span) =
                    containers
                        .next_if(|(next, _)| next.id == job)
                        .ok_or_else(|| {
                            let next = containers.peek().map(|(next, _)| next.id);
                            let next = next.map_or("no more jobs".into(), |id| format!("job {id}"));
                            row.problem(0, &format!("{next}, in the order of {JOBS_FILE}"))
                        })?;
                list.push(next);
                lasting = span;
            }
            let span = SimTime(row.whole(1, 1, MAX_MS)? * NANOS_PER_MS);
            let mhz = row.number(2, 0.0, MAX_MHZ)?;
            let rate = CpuRate::from_mhz(mhz).unwrap_or_default();
            match list.last_mut() {
                Some(current) => current
                    .demand
                    .push(span, rate)
                    .map_err(|error| row.problem(1, &error.to_string())),
                None => Ok(()),
            }
        })?;
        whole(list.last(), lasting).map_err(|problem| ReplayError::file(&demand_path, problem))?;
        if let Some((absent, _)) = containers.next() {
            let problem = format!("no demand of job {}; the file was cut off", absent.id);
            return Err(ReplayError::file(&demand_path, problem));
        }
        Ok(Self {
            manifest,
            containers: list,
        })
    }
}

/// Whether the demand of a container lasts as long as its job.
fn whole(container: Option<&Container>, lasting: SimTime) -> Result<(), String> {
    match container {
        Some(container) if container.demand.duration() != lasting => Err(format!(
            "the demand of job {} lasts {}, and the job {lasting} as {JOBS_FILE} says; \
             steps are absent or too many",
            container.id,
            container.demand.duration(),
        )),
        _ => Ok(()),
    }
}

/// Containers without demand yet, each with the length of its job.
fn read_jobs(path: &Path) -> Result<Vec<(Container, SimTime)>, ReplayError> {
    let mut jobs = Vec::new();
    let mut seen = BTreeSet::new();
    read_rows(path, &JOBS_HEADER, |row| {
        let id = row.whole(0, 0, u64::MAX)?;
        if !seen.insert(id) {
            return Err(row.problem(0, "a job that was not listed before"));
        }
        let start = SimTime(row.whole(1, 0, MAX_MS)? * NANOS_PER_MS);
        let span = SimTime(row.whole(2, 1, MAX_MS)? * NANOS_PER_MS);
        let reserved_mhz = row.number(3, 0.0, MAX_MHZ)?;
        let container = Container {
            id,
            start,
            reserved: CpuRate::from_mhz(reserved_mhz).unwrap_or_default(),
            demand: DemandTrace::default(),
        };
        jobs.push((container, span));
        Ok(())
    })?;
    Ok(jobs)
}

/// What happened in a bin, on all hosts together.
#[derive(Clone, Debug, PartialEq)]
pub struct Bin {
    /// Work that the traces demand, summed over containers without any host.
    pub recorded: CpuWork,
    /// Work that hosts were asked for.
    pub demanded: CpuWork,
    /// Work that hosts did.
    pub served: CpuWork,
    /// Time of hosts with a container on them, in host-nanoseconds.
    pub allocated_host_ns: u64,
    /// Containers that started or ended.
    pub changes: u32,
    /// Host-seconds of allocated hosts at each knot of utilization, as [`Knots::weights`] splits
    /// them.
    pub at_knots_s: Vec<f64>,
}

/// A recording, replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// Length of a bin.
    pub bin: SimTime,
    /// Hosts.
    pub hosts: usize,
    /// Capacity of each.
    pub capacity: CpuRate,
    /// Levels of utilization that were kept apart.
    pub knots: Knots,
    /// The bins, from time 0.
    pub bins: Vec<Bin>,
    /// Unmet demand of each container.
    pub unmet: Vec<CpuWork>,
    /// The most hosts with a container on them at a time.
    pub most_allocated: usize,
}

/// How a recording is replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Another number of hosts than that of the recording.
    pub hosts: Option<usize>,
    /// Another length of bins, in s.
    pub bin_s: Option<f64>,
}

/// Replays `recording`, keeping apart as many levels of utilization as a host has cores.
///
/// # Errors
///
/// If an option or the manifest is out of range, or a container finds no host.
pub fn replay(recording: &Recording, options: &Options) -> Result<Replay, ReplayError> {
    let wrong = |problem: String| ReplayError::Options(problem);
    let manifest = &recording.manifest;
    let count = options.hosts.unwrap_or(manifest.hosts.count);
    if !(1..=MAX_HOSTS).contains(&count) {
        let problem = format!("hosts: expected 1 to {MAX_HOSTS}, found {count}");
        return Err(wrong(problem));
    }
    let host_mhz = f64::from(manifest.hosts.cores) * manifest.hosts.core_mhz;
    let capacity = CpuRate::from_mhz(host_mhz)
        .filter(|capacity| capacity.0 > 0)
        .ok_or_else(|| {
            wrong(format!(
                "hosts: {host_mhz} MHz each; expected up to {MAX_MHZ}"
            ))
        })?;
    let containers = &recording.containers;
    let end = containers.iter().map(Container::end).max();
    let end = end.unwrap_or(SimTime::ZERO);
    let bin_s = options.bin_s.unwrap_or(manifest.bin_s);
    let bin = SimTime::from_seconds(bin_s);
    let bins = usize::try_from(end.0.div_ceil(bin.0.max(1))).unwrap_or(usize::MAX);
    if !(0.0..=MAX_BIN_S).contains(&bin_s) || bin == SimTime::ZERO || bins > MAX_BINS {
        return Err(wrong(format!(
            "bin length: expected up to {MAX_BIN_S} s that give up to {MAX_BINS} bins, found \
             {bin_s} s"
        )));
    }
    let placed = place(containers, count, manifest.placement)
        .map_err(|error| wrong(format!("{}: {error}", manifest.name)))?;
    let knots = Knots::even(usize::try_from(manifest.hosts.cores).unwrap_or(1));
    let mut tally = Tally::new(bin, bins, capacity, &knots);
    let unmet = run_hosts(containers, &placed, count, capacity, &mut tally)?;
    tally.recorded(containers);
    Ok(Replay {
        bin,
        hosts: count,
        capacity,
        knots,
        bins: tally.bins,
        unmet,
        most_allocated: most_at_once(&tally.busy),
    })
}

/// Runs each host by itself, in their order; gives the unmet demand of each container.
fn run_hosts(
    containers: &[Container],
    placed: &[usize],
    hosts: usize,
    capacity: CpuRate,
    tally: &mut Tally,
) -> Result<Vec<CpuWork>, ReplayError> {
    let mut by_host: Vec<Vec<usize>> = vec![Vec::new(); hosts];
    for (index, &host) in placed.iter().enumerate() {
        by_host[host].push(index);
    }
    let until = SimTime(tally.bin.0 * tally.bins.len() as u64);
    let mut unmet = vec![CpuWork::default(); containers.len()];
    for indices in &by_host {
        let list: Vec<&Container> = indices.iter().map(|&index| &containers[index]).collect();
        let lacking = host::run(capacity, &list, until, |segment| tally.add(segment))
            .map_err(|error| ReplayError::Options(error.to_string()))?;
        for (&index, lacking) in indices.iter().zip(lacking) {
            unmet[index] = lacking;
        }
    }
    Ok(unmet)
}

/// Adds segments of hosts up in bins.
struct Tally {
    bin: SimTime,
    capacity: CpuRate,
    knots: Knots,
    bins: Vec<Bin>,
    /// Times at which a host gets its first container (+1) and loses its last (−1).
    busy: Vec<(SimTime, i32)>,
}

impl Tally {
    fn new(bin: SimTime, count: usize, capacity: CpuRate, knots: &Knots) -> Self {
        let empty = Bin {
            recorded: CpuWork::default(),
            demanded: CpuWork::default(),
            served: CpuWork::default(),
            allocated_host_ns: 0,
            changes: 0,
            at_knots_s: vec![0.0; knots.levels().len()],
        };
        Self {
            bin,
            capacity,
            knots: knots.clone(),
            bins: vec![empty; count],
            busy: Vec::new(),
        }
    }

    fn add(&mut self, segment: &Segment) {
        if segment.containers == 0 {
            return;
        }
        match self.busy.last_mut() {
            // The host goes on being busy.
            Some((end, -1)) if *end == segment.from => *end = segment.until,
            _ => self.busy.extend([(segment.from, 1), (segment.until, -1)]),
        }
        let (knot, weight) = self.knots.weights(segment.served.share_of(self.capacity));
        for (index, span) in spans(segment.from, segment.until, self.bin) {
            let bin = &mut self.bins[index];
            bin.demanded += segment.demanded.over(span);
            bin.served += segment.served.over(span);
            bin.allocated_host_ns += span.0;
            bin.at_knots_s[knot] += (1.0 - weight) * span.seconds();
            bin.at_knots_s[knot + 1] += weight * span.seconds();
        }
    }

    /// Adds what the traces say by themselves.
    fn recorded(&mut self, containers: &[Container]) {
        for container in containers {
            let mut from = container.start;
            for step in container.demand.steps() {
                let until = container.start.after(step.until);
                for (index, span) in spans(from, until, self.bin) {
                    self.bins[index].recorded += step.rate.over(span);
                }
                from = until;
            }
            for time in [container.start, container.end()] {
                let index = usize::try_from(time.0 / self.bin.0).unwrap_or(usize::MAX);
                if let Some(bin) = self.bins.get_mut(index) {
                    bin.changes += 1;
                }
            }
        }
    }
}

/// The bins that `from..until` touches, each with the time in it.
fn spans(from: SimTime, until: SimTime, bin: SimTime) -> impl Iterator<Item = (usize, SimTime)> {
    let first = from.0 / bin.0;
    (first..until.0.div_ceil(bin.0)).filter_map(move |index| {
        let start = SimTime(index * bin.0).max(from);
        let end = SimTime((index + 1) * bin.0).min(until);
        Some((usize::try_from(index).ok()?, end.since(start)))
    })
}

/// The largest running sum of changes, those of one time taken together.
fn most_at_once(changes: &[(SimTime, i32)]) -> usize {
    let mut changes = changes.to_vec();
    // Endings first: a host that goes on is not counted twice.
    changes.sort_unstable();
    let mut now = 0_i64;
    let mut most = 0;
    for (_, change) in changes {
        now += i64::from(change);
        most = most.max(now);
    }
    usize::try_from(most).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::replay) const MANIFEST: &str = "kind = \"containers\"\nname = \"two\"\n\
        source = \"made up\"\nbin_s = 10\nplacement = \"least-reserved\"\n\
        [hosts]\ncount = 2\ncores = 2\ncore_mhz = 500\n";
    const JOBS: &str = "job,start_ms,duration_ms,reserved_mhz\n4,0,20000,900\n9,5000,10000,100\n";
    const DEMAND: &str =
        "job,duration_ms,cpu_mhz\n4,10000,100\n4,10000,700\n9,5000,400\n9,5000,400\n";

    fn load(jobs: &str, demand: &str) -> Result<Recording, ReplayError> {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        write(super::super::MANIFEST_FILE, MANIFEST);
        write(JOBS_FILE, jobs);
        write(DEMAND_FILE, demand);
        match super::super::Manifest::load(folder.path())? {
            super::super::Manifest::Containers(manifest) => {
                Recording::load(folder.path(), manifest)
            }
            other => panic!("another kind: {other:?}"),
        }
    }

    fn megacycles(bins: &[Bin], of: impl Fn(&Bin) -> CpuWork) -> Vec<f64> {
        bins.iter().map(|bin| of(bin).megacycles()).collect()
    }

    #[test]
    fn work_agrees_with_the_traces_where_hosts_are_large_enough() {
        let recording = load(JOBS, DEMAND).expect("good files");
        let replay = replay(&recording, &Options::default()).expect("it runs");
        assert!(replay.bins.iter().all(|bin| bin.served == bin.recorded));
        // 0–10 s: 10 · 100 + 5 · 400; 10–20 s: 10 · 700 + 5 · 400
        assert_eq!(megacycles(&replay.bins, |bin| bin.served), [3000.0, 9000.0]);
        // Job 4 has its host for 10 s of each bin, job 9 the other for 5 s.
        let allocated = |bin: &Bin| bin.allocated_host_ns;
        assert_eq!(allocated(&replay.bins[0]), 15_000_000_000);
        assert_eq!(replay.most_allocated, 2);
        // Levels 0, 0.5 and 1 of 1,000 MHz. 100 MHz are 0.2 on the way to 0.5, and 400 MHz 0.8:
        // 10 · 0.8 + 5 · 0.2 at 0, 10 · 0.2 + 5 · 0.8 at 0.5.
        let expected = [9.0, 6.0, 0.0];
        for (found, expected) in replay.bins[0].at_knots_s.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-9);
        }
        // Job 4 starts in the first bin and ends after the last; job 9 starts in one and ends in
        // the other.
        assert_eq!((replay.bins[0].changes, replay.bins[1].changes), (2, 1));
    }

    #[test]
    fn what_a_host_lacks_is_unmet() {
        let recording = load(JOBS, DEMAND).expect("good files");
        let options = Options {
            hosts: Some(1),
            bin_s: None,
        };
        let replay = replay(&recording, &options).expect("it runs");
        // From 10 to 15 s, 700 + 400 are wanted of 1,000: shares are 600 and 400.
        assert_eq!(megacycles(&replay.bins, |bin| bin.served), [3000.0, 8500.0]);
        assert_eq!(
            megacycles(&replay.bins, |bin| bin.demanded),
            [3000.0, 9000.0]
        );
        let unmet: Vec<f64> = replay.unmet.iter().map(|work| work.megacycles()).collect();
        assert_eq!(unmet, [500.0, 0.0]);
        assert_eq!(replay.most_allocated, 1);
    }

    #[test]
    fn errors_name_file_and_line() {
        let problem = |jobs: &str, demand: &str| {
            let error = load(jobs, demand).expect_err("a line is wrong").to_string();
            error.rsplit_once('/').expect("a path").1.to_owned()
        };
        assert_eq!(
            problem(JOBS, &DEMAND.replace("9,5000,400\n9", "9,5000,NaN\n9")),
            "demand.csv:4: cpu_mhz: expected a number from 0 to 1000000, found \"NaN\""
        );
        assert_eq!(
            problem(JOBS, &DEMAND.replace("4,10000,700", "4,-10000,700")),
            "demand.csv:3: duration_ms: expected a whole number from 1 to 1000000000000, found \
             \"-10000\""
        );
        assert_eq!(
            problem(JOBS, &DEMAND.replace("4,10000,700\n", "")),
            "demand.csv:3: the demand of job 4 lasts 10.000000000 s, and the job 20.000000000 s as \
             jobs.csv says; steps are absent or too many"
        );
        assert!(
            problem(
                JOBS,
                &DEMAND.replace("9,5000,400\n9,5000,400\n", "9,5000,400\n")
            )
            .starts_with("demand.csv: the demand of job 9 lasts 5.000000000 s")
        );
        assert_eq!(
            problem(JOBS, "job,duration_ms,cpu_mhz\n4,20000,1\n"),
            "demand.csv: no demand of job 9; the file was cut off"
        );
        assert_eq!(
            problem(JOBS, &format!("{DEMAND}4,5000,1\n")),
            "demand.csv:6: job: expected no more jobs, in the order of jobs.csv, found \"4\""
        );
        assert_eq!(
            problem(&format!("{JOBS}4,30000,1,1\n"), DEMAND),
            "jobs.csv:4: job: expected a job that was not listed before, found \"4\""
        );
        assert_eq!(
            problem(JOBS, DEMAND.trim_end()),
            "demand.csv:5: the file ends within a line, so it was cut off; copy it again"
        );
        assert!(
            problem("job,start_ms\n", DEMAND).starts_with("jobs.csv:1: the header must be job,")
        );
    }

    #[test]
    fn containers_that_overlap_on_exclusive_hosts_are_refused() {
        let mut recording = load(JOBS, DEMAND).expect("good files");
        recording.manifest.placement = Placement::Exclusive;
        let options = Options {
            hosts: Some(1),
            bin_s: None,
        };
        let error = replay(&recording, &options).expect_err("one host for two");
        assert_eq!(
            error.to_string(),
            "two: container 9 starts at 5.000000000 s when all 1 hosts are taken; it overlaps with \
             others, or the cluster has more hosts"
        );
    }
}
