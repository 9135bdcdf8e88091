//! Statistics and metrics, with upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use api_schema::Value;
use api_semantics::time::Timestamp;
use cri::v1::{
    ContainerStats, FilesystemUsage, ImageFsInfoRequest, ListContainerStatsRequest, ListMetricDescriptorsRequest,
    ListPodSandboxMetricsRequest, MetricType,
};
use cri::{Error, ImageService, RuntimeService};
use node_agent::agent::Agent;
use node_agent::machine;
use node_agent::observed::{LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID};

fn time(nanos: i64) -> String {
    Timestamp {
        seconds: nanos.div_euclid(1_000_000_000),
        nanos: u32::try_from(nanos.rem_euclid(1_000_000_000)).unwrap_or(0),
    }
    .to_time()
    .to_string()
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// One container's statistics, as the CRI has them, and whose they are.
struct Row {
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    stats: ContainerStats,
}

async fn rows(runtime: &dyn RuntimeService) -> Result<Vec<Row>, Error> {
    let list = runtime.list_container_stats(ListContainerStatsRequest { filter: None }).await?;
    let row = |stats: ContainerStats| {
        let labels = &stats.attributes.as_ref()?.labels;
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        let (namespace, pod, uid, container) =
            (label(LABEL_POD_NAMESPACE), label(LABEL_POD_NAME), label(LABEL_POD_UID), label(LABEL_CONTAINER_NAME));
        Some(Row { namespace, pod, uid, container, stats })
    };
    let mut rows: Vec<Row> = list.stats.into_iter().filter_map(row).collect();
    rows.sort_by(|a, b| (&a.namespace, &a.pod, &a.container).cmp(&(&b.namespace, &b.pod, &b.container)));
    Ok(rows)
}

/// `/stats/summary`.
pub(crate) async fn summary(
    agent: &Agent,
    runtime: &dyn RuntimeService,
    images: &dyn ImageService,
) -> Result<Value, Error> {
    let rows = rows(runtime).await?;
    let mut pods: Vec<Value> = Vec::new();
    for pod in agent.pods() {
        let own: Vec<&Row> = rows.iter().filter(|row| row.uid == pod.uid().0.as_str()).collect();
        if own.is_empty() {
            continue;
        }
        let mut entry = Value::Map(api_schema::Map::default());
        for (field, value) in [("name", &pod.key().name), ("namespace", &pod.key().namespace), ("uid", &pod.uid().0)] {
            entry.set(&["podRef", field], value.clone());
        }
        entry.set(&["startTime"], pod.object().str_at(&["status", "startTime"]));
        let (mut cpu, mut cpu_total, mut memory, mut at) = (0, 0, 0, 0);
        let containers: Vec<Value> = own.iter().map(|row| container(row)).collect();
        for row in &own {
            let usage = row.stats.cpu.as_ref();
            cpu += usage.and_then(|cpu| cpu.usage_nano_cores.as_ref()).map_or(0, |value| value.value);
            cpu_total += usage.and_then(|cpu| cpu.usage_core_nano_seconds.as_ref()).map_or(0, |value| value.value);
            memory += row
                .stats
                .memory
                .as_ref()
                .and_then(|memory| memory.working_set_bytes.as_ref())
                .map_or(0, |value| value.value);
            at = at.max(usage.map_or(0, |cpu| cpu.timestamp));
        }
        entry.set(&["containers"], containers);
        entry.set(&["cpu", "time"], time(at));
        entry.set(&["cpu", "usageNanoCores"], number(cpu));
        entry.set(&["cpu", "usageCoreNanoSeconds"], number(cpu_total));
        entry.set(&["memory", "time"], time(at));
        entry.set(&["memory", "workingSetBytes"], number(memory));
        pods.push(entry);
    }
    let mut summary = Value::Map(api_schema::Map::default());
    summary.set(&["node"], node(agent, images).await);
    summary.set(&["pods"], pods);
    Ok(summary)
}

async fn node(agent: &Agent, images: &dyn ImageService) -> Value {
    let mut node = Value::Map(api_schema::Map::default());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = time(i64::try_from(now.as_nanos()).unwrap_or(0));
    node.set(&["nodeName"], agent.keeper().config().name.clone());
    let usage = machine::usage();
    node.set(&["cpu", "time"], now.as_str());
    node.set(&["cpu", "usageCoreNanoSeconds"], number(usage.cpu_nanoseconds));
    node.set(&["memory", "time"], now.as_str());
    node.set(&["memory", "availableBytes"], number(usage.memory_available_bytes));
    node.set(&["memory", "usageBytes"], number(usage.memory_used_bytes));
    node.set(&["memory", "workingSetBytes"], number(usage.memory_used_bytes));
    if let Some(disk) = machine::disk(agent.root_dir()) {
        node.set(&["fs"], file_system(&now, disk, None));
    }
    if let Ok(info) = images.image_fs_info(ImageFsInfoRequest {}).await
        && let Some(usage) = info.image_filesystems.first()
    {
        let mount = usage.fs_id.as_ref().map_or("/", |id| id.mountpoint.as_str());
        if let Some(disk) = machine::disk(mount.as_ref()) {
            node.set(&["runtime", "imageFs"], file_system(&now, disk, Some(usage)));
        }
    }
    node
}

fn file_system(now: &str, disk: machine::Disk, used: Option<&FilesystemUsage>) -> Value {
    let mut value = Value::from([("time", now)]);
    let used = used.and_then(|used| used.used_bytes.as_ref()).map(|used| used.value);
    let used = used.unwrap_or(disk.capacity_bytes.saturating_sub(disk.available_bytes));
    for (name, figure) in [
        ("availableBytes", disk.available_bytes),
        ("capacityBytes", disk.capacity_bytes),
        ("usedBytes", used),
        ("inodesFree", disk.inodes_free),
        ("inodes", disk.inodes),
        ("inodesUsed", disk.inodes.saturating_sub(disk.inodes_free)),
    ] {
        value.set(&[name], number(figure));
    }
    value
}

fn container(row: &Row) -> Value {
    let mut value = Value::from([("name", row.container.as_str())]);
    if let Some(cpu) = &row.stats.cpu {
        value.set(&["cpu", "time"], time(cpu.timestamp));
        if let Some(cores) = &cpu.usage_nano_cores {
            value.set(&["cpu", "usageNanoCores"], number(cores.value));
        }
        if let Some(total) = &cpu.usage_core_nano_seconds {
            value.set(&["cpu", "usageCoreNanoSeconds"], number(total.value));
        }
    }
    if let Some(memory) = &row.stats.memory {
        value.set(&["memory", "time"], time(memory.timestamp));
        for (name, figure) in [
            ("availableBytes", &memory.available_bytes),
            ("usageBytes", &memory.usage_bytes),
            ("workingSetBytes", &memory.working_set_bytes),
            ("rssBytes", &memory.rss_bytes),
            ("pageFaults", &memory.page_faults),
            ("majorPageFaults", &memory.major_page_faults),
        ] {
            if let Some(figure) = figure {
                value.set(&["memory", name], number(figure.value));
            }
        }
    }
    if let Some(layer) = &row.stats.writable_layer {
        value.set(&["rootfs", "time"], time(layer.timestamp));
        value.set(&["rootfs", "usedBytes"], number(layer.used_bytes.as_ref().map_or(0, |used| used.value)));
        value.set(&["rootfs", "inodesUsed"], number(layer.inodes_used.as_ref().map_or(0, |used| used.value)));
    }
    value
}

fn head(out: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn seconds(nanos: u64) -> f64 {
    std::time::Duration::from_nanos(nanos).as_secs_f64()
}

/// `/metrics/resource`, which metrics-server reads.
pub(crate) async fn resource(agent: &Agent, runtime: &dyn RuntimeService) -> Result<String, Error> {
    let rows = rows(runtime).await?;
    let mut out = String::new();
    let labels =
        |row: &Row| format!("container=\"{}\",namespace=\"{}\",pod=\"{}\"", row.container, row.namespace, row.pod);
    let millis = |nanos: i64| nanos / 1_000_000;
    head(
        &mut out,
        "container_cpu_usage_seconds_total",
        "Cumulative cpu time consumed by the container in core-seconds",
        "counter",
    );
    for row in &rows {
        let Some(cpu) = &row.stats.cpu else { continue };
        let Some(total) = &cpu.usage_core_nano_seconds else { continue };
        let _ = writeln!(
            out,
            "container_cpu_usage_seconds_total{{{}}} {} {}",
            labels(row),
            seconds(total.value),
            millis(cpu.timestamp)
        );
    }
    head(&mut out, "container_memory_working_set_bytes", "Current working set of the container in bytes", "gauge");
    for row in &rows {
        let Some(memory) = &row.stats.memory else { continue };
        let Some(bytes) = &memory.working_set_bytes else { continue };
        let _ = writeln!(
            out,
            "container_memory_working_set_bytes{{{}}} {} {}",
            labels(row),
            bytes.value,
            millis(memory.timestamp)
        );
    }
    head(&mut out, "container_start_time_seconds", "Start time of the container since unix epoch in seconds", "gauge");
    for pod in agent.pods() {
        let statuses = pod.status().map_or(&[][..], |status| status.list_at(&["containerStatuses"]));
        for status in statuses {
            let started = api_semantics::time::rfc3339(status.str_at(&["state", "running", "startedAt"]));
            if let Some(started) = started {
                let (key, name) = (pod.key(), status.str_at(&["name"]));
                let _ = writeln!(
                    out,
                    "container_start_time_seconds{{container=\"{name}\",namespace=\"{}\",pod=\"{}\"}} {started}",
                    key.namespace, key.name
                );
            }
        }
    }
    let usage = machine::usage();
    head(
        &mut out,
        "node_cpu_usage_seconds_total",
        "Cumulative cpu time consumed by the node in core-seconds",
        "counter",
    );
    let _ = writeln!(out, "node_cpu_usage_seconds_total {}", seconds(usage.cpu_nanoseconds));
    head(&mut out, "node_memory_working_set_bytes", "Current working set of the node in bytes", "gauge");
    let _ = writeln!(out, "node_memory_working_set_bytes {}", usage.memory_used_bytes);
    for (name, help, kind, is_cpu) in [
        ("pod_cpu_usage_seconds_total", "Cumulative cpu time consumed by the pod in core-seconds", "counter", true),
        ("pod_memory_working_set_bytes", "Current working set of the pod in bytes", "gauge", false),
    ] {
        head(&mut out, name, help, kind);
        let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for row in &rows {
            let figure = match is_cpu {
                true => row.stats.cpu.as_ref().and_then(|cpu| cpu.usage_core_nano_seconds.as_ref()),
                false => row.stats.memory.as_ref().and_then(|memory| memory.working_set_bytes.as_ref()),
            };
            *sums.entry((&row.namespace, &row.pod)).or_default() += figure.map_or(0, |figure| figure.value);
        }
        for ((namespace, pod), sum) in sums {
            let shown = if is_cpu { seconds(sum).to_string() } else { sum.to_string() };
            let _ = writeln!(out, "{name}{{namespace=\"{namespace}\",pod=\"{pod}\"}} {shown}");
        }
    }
    head(
        &mut out,
        "resource_scrape_error",
        "1 if there was an error while getting container metrics, 0 otherwise",
        "gauge",
    );
    out.push_str("resource_scrape_error 0\n");
    Ok(out)
}

/// `/metrics/cadvisor`: the runtime's own metrics of its containers.
pub(crate) async fn cadvisor(runtime: &dyn RuntimeService) -> Result<String, Error> {
    let descriptors = runtime.list_metric_descriptors(ListMetricDescriptorsRequest {}).await?.descriptors;
    let answer = runtime.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await?;
    let mut rows: BTreeMap<String, (bool, Vec<String>)> = BTreeMap::new();
    for pod in answer.pod_metrics {
        let containers = pod.container_metrics.into_iter().flat_map(|container| container.metrics);
        for metric in pod.metrics.into_iter().chain(containers) {
            let is_counter = metric.metric_type() == MetricType::Counter;
            let Some(value) = metric.value else { continue };
            let keys = descriptors.iter().find(|descriptor| descriptor.name == metric.name);
            let keys = keys.map_or(&[][..], |descriptor| &descriptor.label_keys);
            let labels: Vec<String> =
                keys.iter().zip(&metric.label_values).map(|(key, value)| format!("{key}={value:?}")).collect();
            let row = format!("{}{{{}}} {}", metric.name, labels.join(","), value.value);
            rows.entry(metric.name).or_insert_with(|| (is_counter, Vec::new())).1.push(row);
        }
    }
    let mut out = String::new();
    for (name, (is_counter, rows)) in rows {
        let help =
            descriptors.iter().find(|descriptor| descriptor.name == name).map_or("", |found| found.help.as_str());
        head(&mut out, &name, help, if is_counter { "counter" } else { "gauge" });
        for row in rows {
            out.push_str(&row);
            out.push('\n');
        }
    }
    Ok(out)
}

/// `/metrics/probes`.
pub(crate) fn probes(agent: &Agent) -> String {
    let mut out = String::new();
    head(
        &mut out,
        "prober_probe_total",
        "Cumulative number of a liveness, readiness or startup probe for a container by result",
        "counter",
    );
    let mut counts = agent.probes().counts();
    counts.sort();
    for (count, total) in counts {
        let _ = writeln!(
            out,
            "prober_probe_total{{container=\"{}\",namespace=\"{}\",pod=\"{}\",probe_type=\"{}\",result=\"{}\"}} {total}",
            count.container, count.namespace, count.pod, count.probe_type, count.result
        );
    }
    out
}

/// `/metrics`: of the agent itself.
pub(crate) fn own(agent: &Agent) -> String {
    let mut out = String::new();
    let pods = agent.pods();
    let running = pods.iter().filter(|pod| pod.phase() == "Running").count();
    head(&mut out, "kubelet_running_pods", "Number of pods that have a running pod sandbox", "gauge");
    let _ = writeln!(out, "kubelet_running_pods {running}");
    head(&mut out, "kubelet_desired_pods", "The number of pods the kubelet is being instructed to run", "gauge");
    let _ = writeln!(out, "kubelet_desired_pods{{static=\"\"}} {}", pods.len());
    head(&mut out, "kubelet_node_name", "The node's name. The count is always 1", "gauge");
    let _ = writeln!(out, "kubelet_node_name{{node=\"{}\"}} 1", agent.keeper().config().name);
    out
}
