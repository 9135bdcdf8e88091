//! What is counted, under upstream's metric names, in the Prometheus text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api_schema::SmolStr;
use http::Response;
use http::header::{self, HeaderValue};
use parking_lot::RwLock;
use registry::Registry;

use crate::body::Body;
use crate::handler::InFlight;
use crate::request_info::RequestInfo;

/// The upper bounds of the request duration histogram, in seconds (upstream's).
const BUCKETS: [f64; 19] =
    [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0];
/// No more than this many label sets are kept: paths and verbs are bounded, so this is never reached in practice.
const SERIES_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: SmolStr,
    group: SmolStr,
    version: SmolStr,
    resource: SmolStr,
    subresource: SmolStr,
    scope: &'static str,
    code: u16,
}

impl Labels {
    fn new(info: &RequestInfo, method: &str, code: u16) -> Self {
        let verb: SmolStr = match (info.is_resource, &*info.verb) {
            (false, _) => method.into(),
            (true, "create") => "POST".into(),
            (true, "update") => "PUT".into(),
            (true, verb) => verb.to_uppercase().into(),
        };
        // What is created has a name, too.
        let one = info.named || info.verb == "create";
        let scope = match (info.is_resource, one, info.namespace.is_empty()) {
            (false, ..) => "",
            (true, true, _) => "resource",
            (true, false, false) => "namespace",
            (true, false, true) => "cluster",
        };
        Self {
            verb,
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: if info.is_resource { info.subresource.clone() } else { SmolStr::default() },
            scope,
            code,
        }
    }
}

/// A watch or another request that runs for long; it is counted until this is dropped.
#[derive(Debug)]
pub struct LongRunning {
    count: Arc<AtomicU64>,
}

impl Drop for LongRunning {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Series {
    count: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; BUCKETS.len()],
}

/// Counts requests.
#[derive(Debug, Default)]
pub struct Metrics {
    series: RwLock<BTreeMap<Labels, Series>>,
    long_running: RwLock<BTreeMap<Labels, Arc<AtomicU64>>>,
}

impl Metrics {
    /// Counts one finished request.
    pub fn observe(&self, info: &RequestInfo, method: &str, code: u16, elapsed: Duration) {
        let labels = Labels::new(info, method, code);
        let record = |series: &Series| {
            series.count.fetch_add(1, Ordering::Relaxed);
            series.micros.fetch_add(elapsed.as_micros() as u64, Ordering::Relaxed);
            let seconds = elapsed.as_secs_f64();
            if let Some(at) = BUCKETS.iter().position(|bound| seconds <= *bound) {
                series.buckets[at].fetch_add(1, Ordering::Relaxed);
            }
        };
        if let Some(series) = self.series.read().get(&labels) {
            return record(series);
        }
        // Requests for what does not exist must not grow the table without end.
        if code == 404 && !info.is_resource {
            return;
        }
        let mut all = self.series.write();
        if all.len() < SERIES_MAX {
            record(all.entry(labels).or_default());
        }
    }

    /// Counts a request that runs for long, until the answer is dropped.
    pub fn long_running(&self, info: &RequestInfo, method: &str) -> LongRunning {
        let labels = Labels::new(info, method, 0);
        let mut all = self.long_running.write();
        let count = if all.len() < SERIES_MAX || all.contains_key(&labels) {
            Arc::clone(all.entry(labels).or_default())
        } else {
            Arc::default()
        };
        count.fetch_add(1, Ordering::Relaxed);
        LongRunning { count }
    }

    /// The `/metrics` page.
    pub fn respond(&self, registry: &Registry, in_flight: &InFlight) -> Response<Body> {
        let mut out = String::new();
        let help = |out: &mut String, name: &str, ty: &str, text: &str| {
            let _ = write!(out, "# HELP {name} {text}\n# TYPE {name} {ty}\n");
        };
        let all = self.series.read();
        let labels_of = |l: &Labels| {
            format!(
                "group=\"{}\",resource=\"{}\",scope=\"{}\",subresource=\"{}\",verb=\"{}\",version=\"{}\"",
                l.group, l.resource, l.scope, l.subresource, l.verb, l.version
            )
        };
        help(&mut out, "apiserver_request_total", "counter", "[STABLE] Finished requests.");
        for (labels, series) in all.iter() {
            let count = series.count.load(Ordering::Relaxed);
            let _ = writeln!(
                out,
                "apiserver_request_total{{code=\"{}\",component=\"apiserver\",dry_run=\"\",{}}} {count}",
                labels.code,
                labels_of(labels)
            );
        }
        help(&mut out, "apiserver_request_duration_seconds", "histogram", "[STABLE] Time from request to answer.");
        for (labels, series) in all.iter().filter(|(labels, _)| labels.verb != "WATCH") {
            // One histogram for each label set; codes are summed by whoever reads it.
            let text = format!("code=\"{}\",component=\"apiserver\",dry_run=\"\",{}", labels.code, labels_of(labels));
            let mut sum = 0;
            for (bound, bucket) in BUCKETS.iter().zip(&series.buckets) {
                sum += bucket.load(Ordering::Relaxed);
                let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{text},le=\"{bound}\"}} {sum}");
            }
            let count = series.count.load(Ordering::Relaxed);
            let seconds = series.micros.load(Ordering::Relaxed) as f64 / 1e6;
            let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{text},le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "apiserver_request_duration_seconds_sum{{{text}}} {seconds}");
            let _ = writeln!(out, "apiserver_request_duration_seconds_count{{{text}}} {count}");
        }
        drop(all);
        let (reads, writes) = in_flight.current();
        help(&mut out, "apiserver_current_inflight_requests", "gauge", "[STABLE] Requests that run now.");
        let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"readOnly\"}} {reads}");
        let _ = writeln!(out, "apiserver_current_inflight_requests{{request_kind=\"mutating\"}} {writes}");
        help(&mut out, "apiserver_longrunning_requests", "gauge", "[STABLE] Watches and streams that run now.");
        for (labels, count) in self.long_running.read().iter() {
            let count = count.load(Ordering::Relaxed);
            let labels = labels_of(labels);
            let _ = writeln!(out, "apiserver_longrunning_requests{{component=\"apiserver\",{labels}}} {count}");
        }
        help(&mut out, "apiserver_storage_objects", "gauge", "[STABLE] Stored objects by resource.");
        let mut counted: BTreeMap<String, usize> = BTreeMap::new();
        for served in registry.all_served() {
            counted.insert(served.storage.group_resource.to_string(), served.storage.cache.len());
        }
        for (resource, count) in counted {
            let _ = writeln!(out, "apiserver_storage_objects{{resource=\"{resource}\"}} {count}");
        }
        let (major, minor) = api_types::KUBERNETES_VERSION;
        help(&mut out, "kubernetes_build_info", "gauge", "[ALPHA] The version of this server.");
        let _ = writeln!(
            out,
            "kubernetes_build_info{{git_version=\"v{major}.{minor}.0+kubox.{}\",major=\"{major}\",minor=\"{minor}\"}} 1",
            env!("CARGO_PKG_VERSION")
        );
        process_metrics(&mut out);
        let mut response = Response::new(Body::from(out));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
        response
    }
}

/// What every Prometheus client says of its process.
fn process_metrics(out: &mut String) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let stat = read("/proc/self/stat");
    // The name in parentheses may hold spaces: fields are counted behind it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    let (ticks_per_second, page_bytes) = (100.0, 4096.0);
    let boot = read("/proc/stat");
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok()).unwrap_or(0.0);
    let rows = [
        ("process_start_time_seconds", "gauge", boot + number(19) / ticks_per_second),
        ("process_cpu_seconds_total", "counter", (number(11) + number(12)) / ticks_per_second),
        ("process_resident_memory_bytes", "gauge", number(21) * page_bytes),
        ("process_virtual_memory_bytes", "gauge", number(20)),
        ("process_threads", "gauge", number(17)),
        ("process_open_fds", "gauge", std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64),
    ];
    for (name, ty, value) in rows {
        let _ = write!(out, "# TYPE {name} {ty}\n{name} {value}\n");
    }
}
