//! What the meters showed: by second for some minutes, by minute for a day.
//!
//! A sample is taken each virtual second: utilization over that second (busy over served time),
//! memory and credits at its end, bytes within it. A host that is off has no sample.

use std::collections::VecDeque;

use twin::episode::{Episode, HostMeter};
use twin::ids::HostId;
use twin::units::SimTime;

/// Seconds that are kept one by one, where there are not too many hosts.
const MOST_SECONDS: usize = 900;
/// Minutes that are kept, where there are not too many hosts.
const MOST_MINUTES: usize = 1500;
/// Bins of all hosts that are kept, of seconds and of minutes each.
const MOST_BINS: usize = 500_000;
/// The length of a sample.
pub(super) const SECOND: SimTime = SimTime(1_000_000_000);
/// The length of a coarse bin.
pub(super) const MINUTE: SimTime = SimTime(60_000_000_000);

/// What is measured, as positions in a [`Bin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quantity {
    /// Utilization in percent.
    Cpu,
    /// Memory that nothing holds, in bytes.
    MemoryFree,
    /// CPU credits left.
    Credits,
    /// Bytes received.
    Received,
    /// Bytes sent.
    Sent,
    /// Vcpu minutes used: credits spent.
    CreditsSpent,
}

/// How many quantities there are.
const QUANTITIES: usize = 6;

/// What came together of one quantity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) sum: f64,
    pub(super) least: f32,
    pub(super) most: f32,
    pub(super) count: u32,
}

impl Summary {
    const NONE: Self = Self {
        sum: 0.0,
        least: f32::INFINITY,
        most: f32::NEG_INFINITY,
        count: 0,
    };

    #[expect(
        clippy::cast_possible_truncation,
        reason = "extremes are shown, not computed with"
    )]
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.least = self.least.min(value as f32);
        self.most = self.most.max(value as f32);
        self.count += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
        self.count += other.count;
    }

    /// Nothing was measured.
    pub(super) fn none() -> Self {
        Self::NONE
    }
}

/// What was measured of one host in one bin.
type Bin = [Summary; QUANTITIES];

const EMPTY: Bin = [Summary::NONE; QUANTITIES];

/// Bins of one length, of all hosts.
#[derive(Debug)]
struct Series {
    length: SimTime,
    most: usize,
    /// Number of the bin since the start, and the hosts' shares of it.
    bins: VecDeque<(u64, Vec<Bin>)>,
}

impl Series {
    fn new(length: SimTime, most: usize, hosts: usize) -> Self {
        Self {
            length,
            most: most.min(MOST_BINS / hosts.max(1)).max(2),
            bins: VecDeque::new(),
        }
    }

    fn bin(&mut self, at: SimTime, hosts: usize) -> Option<&mut Vec<Bin>> {
        let number = at.0 / self.length.0;
        if self.bins.back().is_none_or(|(last, _)| *last < number) {
            if self.bins.len() >= self.most {
                self.bins.pop_front();
            }
            self.bins.push_back((number, vec![EMPTY; hosts]));
        }
        self.bins.back_mut().map(|(_, bins)| bins)
    }

    fn summary(
        &self,
        host: HostId,
        quantity: Quantity,
        (from, until): (SimTime, SimTime),
    ) -> Summary {
        let first = self
            .bins
            .partition_point(|(number, _)| number * self.length.0 < from.0);
        let mut summary = Summary::NONE;
        for (number, bins) in self.bins.iter().skip(first) {
            if number * self.length.0 >= until.0 {
                break;
            }
            if let Some(bin) = bins.get(host.index()) {
                summary.merge(&bin[quantity as usize]);
            }
        }
        summary
    }
}

/// What the meters of all hosts showed.
#[derive(Debug)]
pub(super) struct History {
    next: SimTime,
    last: Vec<Option<HostMeter>>,
    seconds: Series,
    minutes: Series,
}

impl History {
    /// No samples of `hosts` hosts; the first is due after a second.
    pub(super) fn new(hosts: usize) -> Self {
        Self {
            next: SECOND,
            last: vec![None; hosts],
            seconds: Series::new(SECOND, MOST_SECONDS, hosts),
            minutes: Series::new(MINUTE, MOST_MINUTES, hosts),
        }
    }

    /// When the next sample is due.
    pub(super) fn next_sample(&self) -> SimTime {
        self.next
    }

    /// Takes the sample of the second that ends at `now`.
    pub(super) fn sample(&mut self, now: SimTime, episode: &Episode) {
        let hosts = self.last.len();
        let second = SimTime(now.0.saturating_sub(1));
        let (Some(fine), Some(coarse)) = (
            self.seconds.bin(second, hosts),
            self.minutes.bin(second, hosts),
        ) else {
            return;
        };
        for (h, last) in self.last.iter_mut().enumerate() {
            let Some(meter) = episode.meter(HostId::at(h)) else {
                continue;
            };
            let vcpus = episode.world().size_of(h).vcpus;
            let bin = measure(last.as_ref(), &meter, vcpus);
            for (quantity, summary) in bin.iter().enumerate() {
                fine[h][quantity].merge(summary);
                coarse[h][quantity].merge(summary);
            }
            *last = Some(meter);
        }
        self.next = SimTime(now.0 / SECOND.0 * SECOND.0).after(SECOND);
    }

    /// What was measured of `quantity` on `host` in `span`, of which both ends lie on whole bins:
    /// of seconds where `fine`, else of minutes.
    pub(super) fn summary(
        &self,
        host: HostId,
        quantity: Quantity,
        span: (SimTime, SimTime),
        fine: bool,
    ) -> Summary {
        let series = if fine { &self.seconds } else { &self.minutes };
        series.summary(host, quantity, span)
    }
}

/// The sample between two readings of a meter.
fn measure(last: Option<&HostMeter>, meter: &HostMeter, vcpus: f64) -> Bin {
    /// 2^20 bytes.
    const MEBIBYTE: f64 = 1_048_576.0;
    let mut bin = EMPTY;
    let served_s = meter.served.seconds() - last.map_or(0.0, |l| l.served.seconds());
    let busy_s = meter.busy_s - last.map_or(0.0, |l| l.busy_s);
    if served_s > 0.0 {
        bin[Quantity::Cpu as usize].add((100.0 * busy_s / served_s).clamp(0.0, 100.0));
        bin[Quantity::MemoryFree as usize].add(meter.ram_free_mib * MEBIBYTE);
        let received = meter.received_bytes - last.map_or(0.0, |l| l.received_bytes);
        bin[Quantity::Received as usize].add(received);
        let sent = meter.sent_bytes - last.map_or(0.0, |l| l.sent_bytes);
        bin[Quantity::Sent as usize].add(sent);
        if let Some(credits) = meter.credits {
            bin[Quantity::Credits as usize].add(credits);
            bin[Quantity::CreditsSpent as usize].add(busy_s * vcpus / 60.0);
        }
    }
    bin
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use twin::simulate::Options;
    use twin::state::Epoch;

    /// The world of the examples, with VMs that are burstable.
    fn burstable() -> Arc<twin::World> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/small.toml");
        let text = std::fs::read_to_string(path).expect("the example");
        let credits = "boot_s = 3\n[sizes.credits]\ninitial = 60\nper_hour = 24\nmaximum = 576\n";
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("burstable.toml");
        std::fs::write(&path, text.replace("boot_s = 3\n", credits)).expect("writes");
        Arc::new(twin::World::load(path.to_str().expect("text")).expect("the world is valid"))
    }

    /// Hosts 0 and 2 are on, and 2 is turned off after a minute.
    fn measured(until: SimTime) -> (Episode, History) {
        let world = burstable();
        let mut policy = twin::policy::by_name("least-loaded", &world, 1).expect("exists");
        let mut episode = Episode::new(Arc::clone(&world), &Options::new(1));
        let mut history = History::new(world.hosts.len());
        let mut decision = twin::Decision::none();
        while episode.now() < until {
            let epoch = episode.advance(history.next_sample());
            decision.clear();
            if epoch != Epoch::End {
                policy
                    .decide(&episode.observation(Epoch::Arrival), &mut decision)
                    .expect("decides");
            } else {
                history.sample(episode.now(), &episode);
                if episode.now() == MINUTE {
                    let host = HostId(2);
                    let off = twin::decision::PowerAction { host, on: false };
                    decision.provisioning.push(off);
                }
            }
            episode.apply(&decision);
        }
        (episode, history)
    }

    #[test]
    fn a_host_that_serves_has_samples_and_one_that_is_off_has_none() {
        let (episode, history) = measured(SimTime::from_seconds(130.0));
        let minute = (SimTime::ZERO, MINUTE);
        for host in [HostId(0), HostId(2)] {
            let coarse = history.summary(host, Quantity::Cpu, minute, false);
            assert_eq!(coarse, history.summary(host, Quantity::Cpu, minute, true));
            assert_eq!(coarse.count, 60);
            let credits = history.summary(host, Quantity::Credits, minute, false);
            // 60 at the start; a second of both vCPUs spends 2/60.
            assert!(credits.count == 60 && (58.0..=61.0).contains(&f64::from(credits.least)));
        }
        let meter = episode.meter(HostId(0)).expect("a host");
        let all = (SimTime::ZERO, SimTime::from_seconds(180.0));
        let all = history.summary(HostId(0), Quantity::Cpu, all, true);
        // Percent seconds, against the twin's own integral.
        assert!((all.sum / 100.0 - meter.busy_s).abs() < 1e-6);
        let last = (SimTime::from_seconds(120.0), SimTime::from_seconds(130.0));
        for off in [HostId(1), HostId(2)] {
            let nothing = history.summary(off, Quantity::Cpu, last, true);
            assert_eq!(nothing, Summary::none());
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut series = Series::new(SECOND, MOST_SECONDS, 100_000);
        for second in 0..50 {
            series.bin(SimTime(second * SECOND.0), 3);
        }
        assert_eq!(series.bins.len(), 5);
    }
}
