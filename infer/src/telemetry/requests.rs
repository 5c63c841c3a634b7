//! What is measured of every request, whichever its route.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics::{Histogram, histogram};
use metrics_exporter_prometheus::PrometheusRecorder;
use rand::RngExt;

/// The name of the durations.
pub(super) const DURATION: &str = "infer_http_request_duration_seconds";
/// Upper ends of the buckets of the durations, in s.
pub(super) const REQUEST_BUCKETS_S: [f64; 13] = [
    5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1, 1.0, 10.0,
];
/// The most combinations of method, status and route that are told apart; there are fewer.
const MAX_SERIES: usize = 1000;

/// Histograms by method and status, then by route.
type Series = BTreeMap<(&'static str, u16), BTreeMap<String, Histogram>>;

/// Durations and names of requests.
pub(crate) struct Requests {
    recorder: Arc<PrometheusRecorder>,
    series: RwLock<Series>,
    next: AtomicU64,
}

impl Requests {
    /// Records into `recorder`.
    pub(super) fn new(recorder: Arc<PrometheusRecorder>) -> Self {
        Self {
            recorder,
            series: RwLock::default(),
            // Two runs of the service do not name the same requests.
            next: AtomicU64::new(rand::rng().random()),
        }
    }

    /// A name for a request that has none: no other of this run has it.
    pub(crate) fn next_id(&self) -> String {
        format!("{:016x}", self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Counts a request to `route`, answered with `status` after `elapsed`.
    pub(crate) fn served(&self, route: &str, method: &'static str, status: u16, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if let Some(histogram) = self.known(route, method, status) {
            histogram.record(seconds);
            return;
        }
        self.first(route, method, status, seconds);
    }

    fn known(&self, route: &str, method: &'static str, status: u16) -> Option<Histogram> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        series.get(&(method, status))?.get(route).cloned()
    }

    /// As [`Self::served`], the first time.
    fn first(&self, route: &str, method: &'static str, status: u16, seconds: f64) {
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        if series.values().map(BTreeMap::len).sum::<usize>() >= MAX_SERIES {
            return;
        }
        let routes = series.entry((method, status)).or_default();
        let histogram = routes.entry(route.to_owned()).or_insert_with(|| {
            metrics::with_local_recorder(&*self.recorder, || {
                histogram!(DURATION, "route" => route.to_owned(), "method" => method,
                    "status" => status.to_string())
            })
        });
        histogram.record(seconds);
    }
}
