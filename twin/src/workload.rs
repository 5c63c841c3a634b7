//! How requests arrive: recorded traces, batches and Poisson processes.
//!
//! A trace becomes many different episodes by the stationary bootstrap (Politis and Romano, 1994):
//! each application's arrivals are put together from blocks of random length and start, so bursts
//! keep their shape. Stretches of the trace belong to two parts in turn: training and futures draw
//! from one, held-out runs from the other.
//!
//! A *future* is sampled given the arrivals so far: blocks start where the trace, in its training
//! part, had arrival rates like those observed (analog or nearest-neighbor bootstrap, Lall and
//! Sharma, Water Resources Research 1996).
//!
//! Left out: users who wait for an answer before they ask again (closed loops).

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::ids::ApplicationId;
use crate::stream::Stream;
use crate::units::SimTime;
use crate::world::World;

/// One request as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// When.
    pub time: SimTime,
    /// What it asks for.
    pub application: ApplicationId,
    /// Length of its input, in tokens; known on arrival.
    pub context_tokens: u32,
    /// Length of its answer, in tokens; known only afterwards.
    pub generated_tokens: u32,
    /// Key of the random values that belong to the request.
    pub key: u64,
}

/// Which part of a trace a run draws from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// For labels, training and futures.
    Training,
    /// For evaluation.
    #[default]
    HeldOut,
}

/// How requests arrive.
#[derive(Clone, Debug)]
pub enum Workload {
    /// Blocks of a recorded trace.
    Trace(Trace),
    /// A batch at each interval boundary: max(minimum, ⌊N(mean, sd)⌋) requests.
    Batch {
        /// Mean of the normal distribution.
        mean: f64,
        /// Its standard deviation.
        sd: f64,
        /// The least number of requests in a batch.
        minimum: u32,
    },
    /// A Poisson process.
    Poisson {
        /// Requests per second.
        rate_per_s: f64,
    },
}

/// A recorded trace, application by application.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Arrivals of each application, by time.
    pub(crate) applications: Vec<Vec<TraceArrival>>,
    /// Mean length of a block, in s.
    pub(crate) block_s: f64,
    /// Stretches of the trace by split: training, held out.
    pub(crate) stretches: [Vec<(SimTime, SimTime)>; 2],
    /// Where the trace ends.
    pub(crate) end: SimTime,
    /// For each application, the rates at each second of the training part.
    pub(crate) analogs: Vec<Vec<Analog>>,
}

/// One line of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceArrival {
    /// When, since the start of the trace.
    pub time: SimTime,
    /// Length of the input, in tokens.
    pub context_tokens: u32,
    /// Length of the answer, in tokens.
    pub generated_tokens: u32,
}

/// A moment of the trace and what the rates were then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Analog {
    start: SimTime,
    rates: [f64; RATE_WINDOWS],
}

/// How many decayed rates are kept for each application.
pub const RATE_WINDOWS: usize = 3;
/// Time constants of the decayed rates, in s.
pub const RATE_WINDOWS_S: [f64; RATE_WINDOWS] = [2.0, 10.0, 60.0];
/// A future starts at one of this many moments of the trace that resemble the present most.
const ANALOGS: usize = 24;

/// Arrival rates of one application, each an exponentially decayed count over its time constant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    last: SimTime,
    values: [f64; RATE_WINDOWS],
}

impl Rates {
    /// Rates as they were at `time`, in requests per second.
    #[must_use]
    pub fn new(time: SimTime, values: [f64; RATE_WINDOWS]) -> Self {
        Self { last: time, values }
    }

    /// Rates at `now`, in requests per second, one a time constant.
    #[must_use]
    pub fn at(&self, now: SimTime) -> [f64; RATE_WINDOWS] {
        let elapsed = now.since(self.last).seconds();
        // The windows are 60/30, 60/6 and 60/1: one exponential gives all three.
        let slow = (-elapsed / RATE_WINDOWS_S[2]).exp();
        let slow_6 = (slow * slow) * (slow * slow) * (slow * slow);
        let slow_30 = (slow_6 * slow_6) * (slow_6 * slow_6) * slow_6;
        let [fast, middle, long] = self.values;
        [fast * slow_30, middle * slow_6, long * slow]
    }

    /// Counts an arrival at `now`.
    pub fn count(&mut self, now: SimTime) {
        self.values = self.at(now);
        for (value, window) in self.values.iter_mut().zip(RATE_WINDOWS_S) {
            *value += 1.0 / window;
        }
        self.last = now;
    }

    /// Counts an arrival at `time`, which may lie before arrivals that were counted already.
    pub(crate) fn count_late(&mut self, time: SimTime) {
        if time >= self.last {
            self.count(time);
            return;
        }
        let mut arrival = Self::new(time, RATE_WINDOWS_S.map(|window| 1.0 / window));
        arrival.values = arrival.at(self.last);
        for (value, more) in self.values.iter_mut().zip(arrival.values) {
            *value += more;
        }
    }
}

impl Trace {
    /// A trace of `applications`, each sorted by time.
    ///
    /// Stretches of length `split_every` belong to training and to held-out runs in turn.
    #[must_use]
    pub fn new(applications: Vec<Vec<TraceArrival>>, block_s: f64, split_every: SimTime) -> Self {
        let end = applications
            .iter()
            .filter_map(|list| list.last())
            .map(|a| SimTime(a.time.0 + 1))
            .max()
            .unwrap_or(SimTime(1));
        let mut stretches = [Vec::new(), Vec::new()];
        let mut start = SimTime::ZERO;
        for turn in [0, 1].into_iter().cycle() {
            if start >= end {
                break;
            }
            let until = start.after(SimTime(split_every.0.max(1))).min(end);
            stretches[turn].push((start, until));
            start = until;
        }
        let analogs = applications
            .iter()
            .map(|list| analogs(list, &stretches[0]))
            .collect();
        Self {
            applications,
            block_s,
            stretches,
            end,
            analogs,
        }
    }

    /// The stretches of a part, by time.
    #[must_use]
    pub fn stretches(&self, split: Split) -> &[(SimTime, SimTime)] {
        match split {
            Split::Training => &self.stretches[0],
            Split::HeldOut => &self.stretches[1],
        }
    }

    /// Whether the moment `time` belongs to the training part.
    #[must_use]
    pub fn trains(&self, time: SimTime) -> bool {
        self.stretches(Split::Training)
            .iter()
            .any(|&(from, until)| from <= time && time < until)
    }

    /// Mean requests per second over the whole trace.
    #[must_use]
    pub fn mean_rate_per_s(&self) -> f64 {
        let count: usize = self.applications.iter().map(Vec::len).sum();
        count as f64 / self.end.seconds()
    }

    /// Puts the arrivals of application `a` in `at..until` together from blocks; the first begins
    /// at the moment `first` of the trace, the others at random moments.
    fn blocks(
        &self,
        (a, split): (usize, Split),
        first: Option<SimTime>,
        (mut at, until): (SimTime, SimTime),
        stream: &mut Stream,
        out: &mut Vec<Arrival>,
    ) {
        let stretches = self.stretches(split);
        let total: u64 = stretches.iter().map(|(from, until)| until.0 - from.0).sum();
        let mut next = first;
        while at < until {
            let length = exponential(stream, self.block_s).min(until.since(at));
            let end = at.after(SimTime(length.0.max(1)));
            let start = match next.take() {
                Some(start) => start,
                None => moment(stretches, stream.random_range(0..total)),
            };
            self.copy((a, split), start, (at, end), stream, out);
            at = end;
        }
    }

    /// Copies the arrivals of application `a` from `start` on to `at..until`; where a stretch of
    /// `split` ends, the next one goes on.
    fn copy(
        &self,
        (a, split): (usize, Split),
        start: SimTime,
        (at, until): (SimTime, SimTime),
        stream: &mut Stream,
        out: &mut Vec<Arrival>,
    ) {
        let list = &self.applications[a];
        let stretches = self.stretches(split);
        let mut stretch = stretches.partition_point(|s| s.1 <= start) % stretches.len();
        let (mut start, mut at) = (start.max(stretches[stretch].0), at);
        while at < until {
            let end = stretches[stretch].1.min(start.after(until.since(at)));
            let first = list.partition_point(|x| x.time < start);
            for arrival in list[first..].iter().take_while(|x| x.time < end) {
                out.push(Arrival {
                    time: at.after(arrival.time.since(start)),
                    application: ApplicationId::at(a),
                    context_tokens: arrival.context_tokens,
                    generated_tokens: arrival.generated_tokens,
                    key: stream.random(),
                });
            }
            at = at.after(SimTime(end.since(start).0.max(1)));
            stretch = (stretch + 1) % stretches.len();
            start = stretches[stretch].0;
        }
    }
}

/// The arrivals of an episode, window by window: the memory that they take does not grow with the
/// length of the episode, unless they come from a trace.
#[derive(Debug)]
pub struct ArrivalWindows<'w> {
    world: &'w World,
    stream: Stream,
    /// Length of the episode.
    duration: SimTime,
    /// Length of a window.
    window: SimTime,
    /// Where the next window starts.
    at: SimTime,
    /// The next batch or Poisson arrival.
    next: SimTime,
    /// All arrivals from a trace.
    recorded: Vec<Arrival>,
    /// The arrivals of the last window.
    buffer: Vec<Arrival>,
}

impl<'w> ArrivalWindows<'w> {
    /// Arrivals that are in a window on average.
    const PER_WINDOW: f64 = 4096.0;

    /// The windows of the same arrivals that [`World::arrivals`] gives.
    #[must_use]
    pub fn new(world: &'w World, split: Split, duration: SimTime, mut stream: Stream) -> Self {
        let recorded = match &world.workload {
            Workload::Trace(_) => world.arrivals(split, duration, &mut stream),
            Workload::Batch { .. } | Workload::Poisson { .. } => Vec::new(),
        };
        let next = world.first_synthetic(SimTime::ZERO, &mut stream);
        let window_s = Self::PER_WINDOW / world.mean_rate_per_s().max(1e-9);
        Self {
            world,
            stream,
            duration,
            window: SimTime(SimTime::from_seconds(window_s).0.max(1)),
            at: SimTime::ZERO,
            next,
            recorded,
            buffer: Vec::new(),
        }
    }

    /// The end of the next window, exclusive, and the arrivals in it, sorted by time; `None` after
    /// the last one.
    pub fn next_window(&mut self) -> Option<(SimTime, &[Arrival])> {
        if self.at >= self.duration {
            return None;
        }
        let from = self.at;
        let until = from.after(self.window).min(self.duration);
        self.at = until;
        if matches!(self.world.workload, Workload::Trace(_)) {
            let first = self.recorded.partition_point(|a| a.time < from);
            let last = self.recorded.partition_point(|a| a.time < until);
            return Some((until, &self.recorded[first..last]));
        }
        self.buffer.clear();
        while self.next < until {
            self.next = self
                .world
                .push_synthetics(self.next, &mut self.stream, &mut self.buffer);
        }
        Some((until, &self.buffer))
    }
}

/// Rates at each whole second of `stretches`.
fn analogs(list: &[TraceArrival], stretches: &[(SimTime, SimTime)]) -> Vec<Analog> {
    let mut result = Vec::new();
    for &(from, until) in stretches {
        let mut rates = Rates::new(from, [0.0; RATE_WINDOWS]);
        let first = list.partition_point(|a| a.time < from);
        let mut arrivals = list[first..].iter().peekable();
        let mut start = from.after(SimTime::from_seconds(1.0));
        while start < until {
            while let Some(arrival) = arrivals.next_if(|a| a.time < start) {
                rates.count(arrival.time);
            }
            // Rates that began at zero have settled after the longest time constant.
            if start.since(from).seconds() >= RATE_WINDOWS_S[RATE_WINDOWS - 1] {
                result.push(Analog {
                    start,
                    rates: rates.at(start),
                });
            }
            start = start.after(SimTime::from_seconds(1.0));
        }
    }
    result
}

impl World {
    /// The arrivals of an episode of length `duration`, drawn from `split` with `stream`.
    ///
    /// Sorted by time; equal times keep the order of applications.
    #[must_use]
    pub fn arrivals(&self, split: Split, duration: SimTime, stream: &mut Stream) -> Vec<Arrival> {
        let mut out = Vec::new();
        match &self.workload {
            Workload::Trace(trace) => {
                for a in 0..trace.applications.len() {
                    let span = (SimTime::ZERO, duration);
                    trace.blocks((a, split), None, span, stream, &mut out);
                }
                out.sort_by_key(|a| a.time);
            }
            Workload::Batch { .. } | Workload::Poisson { .. } => {
                self.synthetic(SimTime::ZERO, duration, stream, &mut out);
            }
        }
        out
    }

    /// The moments of the trace that resemble `rates` most, one list an application; empty lists
    /// where arrivals do not depend on the past.
    #[must_use]
    pub fn analogs(&self, now: SimTime, rates: &[Rates]) -> Vec<Vec<SimTime>> {
        let Workload::Trace(trace) = &self.workload else {
            return Vec::new();
        };
        trace
            .analogs
            .iter()
            .zip(rates)
            .map(|(candidates, observed)| {
                let observed = observed.at(now);
                let mut scored: Vec<(f64, SimTime)> = candidates
                    .iter()
                    .map(|c| (distance(&c.rates, &observed), c.start))
                    .collect();
                let keep = ANALOGS.min(scored.len());
                if keep > 0 && keep < scored.len() {
                    scored.select_nth_unstable_by(keep - 1, |a, b| {
                        a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
                    });
                }
                scored.truncate(keep);
                scored.sort_unstable_by_key(|&(_, start)| start);
                scored.into_iter().map(|(_, start)| start).collect()
            })
            .collect()
    }

    /// A possible continuation from `now` (exclusive) to `until`, given the moments that resemble
    /// the present ([`World::analogs`]); sorted by time.
    #[must_use]
    pub fn future(
        &self,
        now: SimTime,
        until: SimTime,
        analogs: &[Vec<SimTime>],
        stream: &mut Stream,
    ) -> Vec<Arrival> {
        let mut out = Vec::new();
        match &self.workload {
            Workload::Trace(trace) => {
                for (a, starts) in analogs.iter().enumerate() {
                    // The block that the present lies in goes on like one of its analogs.
                    let first = match starts.len() {
                        0 => None,
                        count => Some(starts[stream.random_range(0..count)]),
                    };
                    let span = (now.after(SimTime(1)), until);
                    trace.blocks((a, Split::Training), first, span, stream, &mut out);
                }
            }
            Workload::Batch { .. } | Workload::Poisson { .. } => {
                self.synthetic(now.after(SimTime(1)), until, stream, &mut out);
            }
        }
        out.sort_by_key(|a| a.time);
        out
    }

    /// Requests per second that the workload brings on average.
    #[must_use]
    pub fn mean_rate_per_s(&self) -> f64 {
        match &self.workload {
            Workload::Trace(trace) => trace.mean_rate_per_s(),
            Workload::Poisson { rate_per_s } => *rate_per_s,
            Workload::Batch { mean, sd, minimum } => {
                batch_mean(*mean, *sd, *minimum) / self.interval.seconds()
            }
        }
    }

    /// Batches and Poisson arrivals in `from..until`.
    fn synthetic(
        &self,
        from: SimTime,
        until: SimTime,
        stream: &mut Stream,
        out: &mut Vec<Arrival>,
    ) {
        let mut at = self.first_synthetic(from, stream);
        while at < until {
            at = self.push_synthetics(at, stream, out);
        }
    }

    /// When the first batch or Poisson arrival from `from` on comes.
    fn first_synthetic(&self, from: SimTime, stream: &mut Stream) -> SimTime {
        match self.workload {
            Workload::Trace(_) => SimTime::NEVER,
            Workload::Poisson { rate_per_s } => from.after(exponential(stream, 1.0 / rate_per_s)),
            Workload::Batch { .. } => SimTime(
                from.0
                    .div_ceil(self.interval.0)
                    .saturating_mul(self.interval.0),
            ),
        }
    }

    /// Adds the batch or the arrival at `at`; gives the time of the next.
    fn push_synthetics(&self, at: SimTime, stream: &mut Stream, out: &mut Vec<Arrival>) -> SimTime {
        match self.workload {
            Workload::Trace(_) => SimTime::NEVER,
            Workload::Poisson { rate_per_s } => {
                self.push_synthetic(at, stream, out);
                at.after(exponential(stream, 1.0 / rate_per_s))
            }
            Workload::Batch { mean, sd, minimum } => {
                for _ in 0..batch_size(mean, sd, minimum, stream) {
                    self.push_synthetic(at, stream, out);
                }
                at.after(self.interval)
            }
        }
    }

    fn push_synthetic(&self, time: SimTime, stream: &mut Stream, out: &mut Vec<Arrival>) {
        let total: f64 = self.applications.iter().map(|a| a.share).sum();
        let mut point = stream.random::<f64>() * total;
        let mut application = 0;
        for (i, a) in self.applications.iter().enumerate() {
            application = i;
            point -= a.share;
            if point < 0.0 {
                break;
            }
        }
        out.push(Arrival {
            time,
            application: ApplicationId::at(application),
            context_tokens: 0,
            generated_tokens: 0,
            key: stream.random(),
        });
    }
}

/// The moment that lies `offset` nanoseconds into `stretches` put end to end.
fn moment(stretches: &[(SimTime, SimTime)], mut offset: u64) -> SimTime {
    for &(from, until) in stretches {
        if offset < until.0 - from.0 {
            return SimTime(from.0 + offset);
        }
        offset -= until.0 - from.0;
    }
    SimTime::ZERO
}

fn distance(a: &[f64; RATE_WINDOWS], b: &[f64; RATE_WINDOWS]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(x, y)| (x.ln_1p() - y.ln_1p()).powi(2))
        .sum()
}

fn exponential(stream: &mut Stream, mean_s: f64) -> SimTime {
    let u: f64 = stream.random();
    SimTime::from_seconds(-mean_s * (-u).ln_1p())
}

/// max(minimum, ⌊N(mean, sd)⌋), by inversion.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is not negative and saturates"
)]
fn batch_size(mean: f64, sd: f64, minimum: u32, stream: &mut Stream) -> u32 {
    use statrs::distribution::{ContinuousCDF, Normal};
    let u: f64 = stream.random::<f64>().clamp(1e-12, 1.0 - 1e-12);
    let drawn = (mean + sd * Normal::standard().inverse_cdf(u))
        .floor()
        .max(0.0);
    (drawn as u32).max(minimum)
}

/// The mean of [`batch_size`]: minimum + Σ_{k > minimum} P(⌊N⌋ ≥ k).
fn batch_mean(mean: f64, sd: f64, minimum: u32) -> f64 {
    use statrs::distribution::{ContinuousCDF, Normal};
    let normal = Normal::standard();
    let mut total = f64::from(minimum);
    let mut k = minimum + 1;
    loop {
        let probability = if sd > 0.0 {
            normal.sf((f64::from(k) - mean) / sd)
        } else {
            f64::from(u8::from(mean >= f64::from(k)))
        };
        if probability < 1e-9 {
            return total;
        }
        total += probability;
        k += 1;
    }
}
