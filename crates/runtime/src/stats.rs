//! What containers and sandboxes use, in the CRI's messages and as the metrics that cAdvisor names.

use std::sync::Arc;

use cgroups::{Pressure, PressureLine, Usage};
use cri::v1;

use crate::record::Phase;
use crate::runtime::{Container, Runtime, Sandbox, now};
use crate::service::has_labels;

/// A metric of a container: name, help, kind, and where its value is.
struct Metric {
    name: &'static str,
    help: &'static str,
    kind: v1::MetricType,
    value: fn(&Usage) -> Option<u64>,
}

/// Labels that every metric has, in order.
const LABELS: [&str; 2] = ["id", "name"];
/// Labels of the network metrics.
const NETWORK_LABELS: [&str; 3] = ["id", "name", "interface"];

const METRICS: &[Metric] = &[
    Metric {
        name: "container_cpu_usage_seconds_total",
        help: "Cumulative cpu time consumed in seconds",
        kind: v1::MetricType::Counter,
        value: |usage| usage.cpu_nanos.map(|nanos| nanos / 1_000_000_000),
    },
    Metric {
        name: "container_cpu_user_seconds_total",
        help: "Cumulative user cpu time consumed in seconds",
        kind: v1::MetricType::Counter,
        value: |usage| usage.cpu_user_nanos.map(|nanos| nanos / 1_000_000_000),
    },
    Metric {
        name: "container_cpu_system_seconds_total",
        help: "Cumulative system cpu time consumed in seconds",
        kind: v1::MetricType::Counter,
        value: |usage| usage.cpu_system_nanos.map(|nanos| nanos / 1_000_000_000),
    },
    Metric {
        name: "container_cpu_cfs_periods_total",
        help: "Number of elapsed enforcement period intervals",
        kind: v1::MetricType::Counter,
        value: |usage| usage.throttling.map(|row| row.periods),
    },
    Metric {
        name: "container_cpu_cfs_throttled_periods_total",
        help: "Number of throttled period intervals",
        kind: v1::MetricType::Counter,
        value: |usage| usage.throttling.map(|row| row.throttled_periods),
    },
    Metric {
        name: "container_memory_usage_bytes",
        help: "Current memory usage in bytes, including all memory regardless of when it was accessed",
        kind: v1::MetricType::Gauge,
        value: |usage| usage.memory_bytes,
    },
    Metric {
        name: "container_memory_working_set_bytes",
        help: "Current working set of the container in bytes",
        kind: v1::MetricType::Gauge,
        value: |usage| usage.memory_working_set_bytes,
    },
    Metric {
        name: "container_memory_rss",
        help: "Size of RSS in bytes",
        kind: v1::MetricType::Gauge,
        value: |usage| usage.memory_rss_bytes,
    },
    Metric {
        name: "container_memory_cache",
        help: "Number of bytes of page cache memory",
        kind: v1::MetricType::Gauge,
        value: |usage| usage.memory_cache_bytes,
    },
    Metric {
        name: "container_memory_mapped_file",
        help: "Size of memory mapped files in bytes",
        kind: v1::MetricType::Gauge,
        value: |usage| usage.memory_mapped_file_bytes,
    },
    Metric {
        name: "container_memory_swap",
        help: "Container swap usage in bytes",
        kind: v1::MetricType::Gauge,
        value: |usage| usage.swap_bytes,
    },
    Metric {
        name: "container_memory_max_usage_bytes",
        help: "Maximum memory usage recorded in bytes",
        kind: v1::MetricType::Gauge,
        value: |usage| usage.memory_peak_bytes,
    },
    Metric {
        name: "container_memory_failcnt",
        help: "Number of memory usage hits limits",
        kind: v1::MetricType::Counter,
        value: |usage| usage.memory_failures,
    },
    Metric {
        name: "container_spec_memory_limit_bytes",
        help: "Memory limit for the container",
        kind: v1::MetricType::Gauge,
        value: |usage| Some(usage.memory_limit_bytes.unwrap_or_default()),
    },
    Metric {
        name: "container_processes",
        help: "Number of processes running inside the container",
        kind: v1::MetricType::Gauge,
        value: |usage| usage.pids,
    },
];

/// Where an interface's count is.
type Count = fn(&v1::NetworkInterfaceUsage) -> Option<v1::UInt64Value>;

const NETWORK_METRICS: [(&str, &str, Count); 4] = [
    ("container_network_receive_bytes_total", "Cumulative count of bytes received", |row| row.rx_bytes.clone()),
    ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", |row| {
        row.rx_errors.clone()
    }),
    ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |row| row.tx_bytes.clone()),
    ("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", |row| {
        row.tx_errors.clone()
    }),
];

/// What metrics there are.
pub(crate) fn descriptors() -> Vec<v1::MetricDescriptor> {
    let row = |name: &str, help: &str, labels: &[&str]| v1::MetricDescriptor {
        name: name.to_owned(),
        help: help.to_owned(),
        label_keys: labels.iter().map(|&label| label.to_owned()).collect(),
    };
    let containers = METRICS.iter().map(|metric| row(metric.name, metric.help, &LABELS));
    containers.chain(NETWORK_METRICS.iter().map(|metric| row(metric.0, metric.1, &NETWORK_LABELS))).collect()
}

fn value(number: Option<u64>) -> Option<v1::UInt64Value> {
    number.map(|value| v1::UInt64Value { value })
}

impl Runtime {
    pub(crate) async fn stats_of(&self, container: &Arc<Container>) -> v1::ContainerStats {
        let record = container.record.lock().clone();
        let config = record.config.unwrap_or_default();
        let (images, id) = (self.0.config.images.clone(), container.id.clone());
        let written = tokio::task::spawn_blocking(move || images.snapshot_usage(&id)).await;
        let at = now();
        let layer = written.ok().and_then(Result::ok).map(|usage| v1::FilesystemUsage {
            timestamp: at,
            fs_id: Some(v1::FilesystemIdentifier { mountpoint: self.0.config.images.root().display().to_string() }),
            used_bytes: value(Some(usage.bytes)),
            inodes_used: value(Some(usage.inodes)),
        });
        let mut stats = v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: container.id.clone(),
                metadata: config.metadata,
                labels: config.labels,
                annotations: config.annotations,
            }),
            writable_layer: layer,
            ..Default::default()
        };
        if record.state == v1::ContainerState::Running as i32 {
            let usage = self.0.hierarchy.cgroup(&record.cgroup).usage();
            stats.cpu = Some(self.cpu(&container.id, at, &usage));
            stats.memory = Some(memory(at, &usage));
            stats.swap = Some(v1::SwapUsage {
                timestamp: at,
                swap_usage_bytes: value(usage.swap_bytes),
                swap_available_bytes: None,
            });
            stats.io = usage.io_pressure.map(|row| v1::IoUsage { timestamp: at, psi: Some(psi(row)) });
        }
        stats
    }

    /// Processor time, and how much of it was used a second since it was asked last.
    fn cpu(&self, id: &str, at: i64, usage: &Usage) -> v1::CpuUsage {
        let mut tables = self.0.tables.lock();
        let total = usage.cpu_nanos.unwrap_or_default();
        let rate = match tables.cpu_seen.get(id) {
            // Asked again at once: the old rate is the better answer.
            Some((then, _, rate)) if at - then < 100_000_000 => *rate,
            Some((then, before, _)) => {
                let passed = u128::try_from(at - then).unwrap_or(1).max(1);
                let used = u128::from(total.saturating_sub(*before));
                let rate = u64::try_from(used * 1_000_000_000 / passed).unwrap_or_default();
                tables.cpu_seen.insert(id.to_owned(), (at, total, rate));
                rate
            }
            None => {
                tables.cpu_seen.insert(id.to_owned(), (at, total, 0));
                0
            }
        };
        v1::CpuUsage {
            timestamp: at,
            usage_core_nano_seconds: value(usage.cpu_nanos),
            usage_nano_cores: value(Some(rate)),
            psi: usage.cpu_pressure.map(psi),
        }
    }

    pub(crate) async fn all_container_stats(
        &self,
        filter: Option<v1::ContainerStatsFilter>,
    ) -> Vec<v1::ContainerStats> {
        let filter = filter.unwrap_or_default();
        let containers: Vec<_> = self.0.tables.lock().containers.values().cloned().collect();
        let mut out = Vec::new();
        for container in containers {
            let wanted = container.state() == v1::ContainerState::Running
                && container.id.starts_with(&filter.id)
                && container.sandbox.starts_with(&filter.pod_sandbox_id)
                && has_labels(&container.config().labels, &filter.label_selector);
            if wanted {
                out.push(self.stats_of(&container).await);
            }
        }
        out
    }

    pub(crate) async fn sandbox_stats(&self, sandbox: &Arc<Sandbox>) -> v1::PodSandboxStats {
        let config = sandbox.config();
        let at = now();
        let mut containers = Vec::new();
        for container in self.containers_of(&sandbox.id) {
            if container.state() == v1::ContainerState::Running {
                containers.push(self.stats_of(&container).await);
            }
        }
        // The pod's own cgroup, which contains them all, if the node agent made one.
        let parent = config.linux.as_ref().map(|linux| linux.cgroup_parent.clone()).unwrap_or_default();
        let usage = if parent.is_empty() { Usage::default() } else { self.0.hierarchy.cgroup(&parent).usage() };
        let interfaces = network(sandbox);
        v1::PodSandboxStats {
            attributes: Some(v1::PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: config.metadata.clone(),
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
            }),
            linux: Some(v1::LinuxPodSandboxStats {
                cpu: Some(self.cpu(&sandbox.id, at, &usage)),
                memory: Some(memory(at, &usage)),
                network: Some(v1::NetworkUsage {
                    timestamp: at,
                    default_interface: interfaces.iter().find(|row| row.name == "eth0").cloned(),
                    interfaces: interfaces.into_iter().filter(|row| row.name != "eth0").collect(),
                }),
                process: Some(v1::ProcessUsage { timestamp: at, process_count: value(usage.pids) }),
                containers,
                io: usage.io_pressure.map(|row| v1::IoUsage { timestamp: at, psi: Some(psi(row)) }),
            }),
            windows: None,
        }
    }

    pub(crate) async fn all_sandbox_stats(
        &self,
        filter: Option<v1::PodSandboxStatsFilter>,
    ) -> Vec<v1::PodSandboxStats> {
        let filter = filter.unwrap_or_default();
        let mut out = Vec::new();
        for sandbox in self.ready_sandboxes() {
            if sandbox.id.starts_with(&filter.id) && has_labels(&sandbox.config().labels, &filter.label_selector) {
                out.push(self.sandbox_stats(&sandbox).await);
            }
        }
        out
    }

    fn ready_sandboxes(&self) -> Vec<Arc<Sandbox>> {
        let sandboxes: Vec<_> = self.0.tables.lock().sandboxes.values().cloned().collect();
        sandboxes.into_iter().filter(|sandbox| sandbox.record.lock().phase() == Phase::Ready).collect()
    }

    pub(crate) async fn all_sandbox_metrics(&self) -> Vec<v1::PodSandboxMetrics> {
        let mut out = Vec::new();
        for sandbox in self.ready_sandboxes() {
            let at = now();
            let interfaces = network(&sandbox);
            let pod = sandbox.config().metadata.unwrap_or_default().name;
            let metrics = interfaces.iter().flat_map(|row| {
                let (id, pod) = (sandbox.id.clone(), pod.clone());
                NETWORK_METRICS.iter().map(move |(name, _, pick)| v1::Metric {
                    name: (*name).to_owned(),
                    timestamp: at,
                    metric_type: v1::MetricType::Counter as i32,
                    label_values: vec![id.clone(), pod.clone(), row.name.clone()],
                    value: pick(row),
                })
            });
            let metrics = metrics.collect();
            let running =
                self.containers_of(&sandbox.id).into_iter().filter(|c| c.state() == v1::ContainerState::Running);
            let container_metrics = running.map(|container| {
                let usage = self.0.hierarchy.cgroup(&container.record.lock().cgroup).usage();
                let name = container.config().metadata.unwrap_or_default().name;
                let rows = METRICS.iter().filter_map(|metric| {
                    Some(v1::Metric {
                        name: metric.name.to_owned(),
                        timestamp: at,
                        metric_type: metric.kind as i32,
                        label_values: vec![container.id.clone(), name.clone()],
                        value: value(Some((metric.value)(&usage)?)),
                    })
                });
                v1::ContainerMetrics { container_id: container.id.clone(), metrics: rows.collect() }
            });
            let container_metrics = container_metrics.collect();
            out.push(v1::PodSandboxMetrics { pod_sandbox_id: sandbox.id.clone(), metrics, container_metrics });
        }
        out
    }
}

fn memory(at: i64, usage: &Usage) -> v1::MemoryUsage {
    let available = match (usage.memory_limit_bytes, usage.memory_working_set_bytes) {
        (Some(limit), Some(used)) => Some(limit.saturating_sub(used)),
        _ => None,
    };
    v1::MemoryUsage {
        timestamp: at,
        working_set_bytes: value(usage.memory_working_set_bytes),
        available_bytes: value(available),
        usage_bytes: value(usage.memory_bytes),
        rss_bytes: value(usage.memory_rss_bytes),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
        psi: usage.memory_pressure.map(psi),
    }
}

fn psi(pressure: Pressure) -> v1::PsiStats {
    let line = |line: PressureLine| v1::PsiData {
        total: line.total,
        avg10: line.avg10,
        avg60: line.avg60,
        avg300: line.avg300,
    };
    v1::PsiStats { full: Some(line(pressure.full)), some: Some(line(pressure.some)) }
}

/// The interfaces of a sandbox's network, seen through its shim.
fn network(sandbox: &Sandbox) -> Vec<v1::NetworkInterfaceUsage> {
    if !crate::sandbox::Namespaces::of(&sandbox.config()).network {
        return Vec::new();
    }
    let pid = sandbox.record.lock().shim_pid;
    std::fs::read_to_string(format!("/proc/{pid}/net/dev")).map(|text| parse_interfaces(&text)).unwrap_or_default()
}

fn parse_interfaces(text: &str) -> Vec<v1::NetworkInterfaceUsage> {
    let rows = text.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let at = |index: usize| value(numbers.get(index).copied());
        Some(v1::NetworkInterfaceUsage {
            name: name.trim().to_owned(),
            rx_bytes: at(0),
            rx_errors: at(2),
            tx_bytes: at(8),
            tx_errors: at(10),
        })
    });
    rows.filter(|row| row.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_read_but_for_the_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n    \
            lo:  9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 1500 3 2 0 0 0 0 0 700 2 1 0 0 0 0 0\n";
        let rows = parse_interfaces(text);
        let shown: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row.name.as_str(),
                    row.rx_bytes.as_ref().map(|v| v.value),
                    row.rx_errors.as_ref().map(|v| v.value),
                    row.tx_bytes.as_ref().map(|v| v.value),
                )
            })
            .collect();
        assert_eq!(shown, [("eth0", Some(1500), Some(2), Some(700))]);
    }
}
