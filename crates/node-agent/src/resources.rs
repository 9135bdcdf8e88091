//! What a Pod asks for and may use, in the units of the kernel.

use api_schema::Value;
use api_semantics::quantity::Quantity;
use cri::v1::LinuxContainerResources;

use crate::pod::{Container, Pod};

/// The classes in which Pods are served when resources run short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QosClass {
    /// Every container has limits for CPU and memory that equal its requests.
    Guaranteed,
    /// Something is asked for or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// As the API writes it.
    pub fn name(self) -> &'static str {
        match self {
            QosClass::Guaranteed => "Guaranteed",
            QosClass::Burstable => "Burstable",
            QosClass::BestEffort => "BestEffort",
        }
    }
}

/// The length of a CPU period, in microseconds: kubelet's default.
pub const CPU_PERIOD_US: i64 = 100_000;
/// The least quota that the kernel takes, in microseconds.
const CPU_QUOTA_US_MIN: i64 = 1_000;
/// The least weight that the kernel takes.
const CPU_SHARES_MIN: i64 = 2;
/// The greatest.
const CPU_SHARES_MAX: i64 = 262_144;

/// A quantity of a container: `kind` is `requests` or `limits`. Zero counts as absent for limits, as upstream has it.
pub fn quantity(container: &Value, kind: &str, resource: &str) -> Option<Quantity> {
    let text = container.str_at(&["resources", kind, resource]);
    if text.is_empty() { None } else { Quantity::parse(text).ok() }
}

/// Thousandths of a CPU; zero if nothing is said.
pub fn cpu_milli(container: &Value, kind: &str) -> i64 {
    quantity(container, kind, "cpu").map_or(0, |cpu| cpu.milli_value())
}

/// Bytes; zero if nothing is said.
pub fn memory_bytes(container: &Value, kind: &str) -> i64 {
    quantity(container, kind, "memory").map_or(0, |memory| memory.value())
}

/// The class of a Pod: from the containers and init containers, for CPU and memory.
pub fn qos_class(pod: &Pod) -> QosClass {
    let (mut any, mut guaranteed) = (false, true);
    for container in pod.containers().chain(pod.init_containers()) {
        let value = container.value();
        for (request, limit) in [
            (cpu_milli(value, "requests"), cpu_milli(value, "limits")),
            (memory_bytes(value, "requests"), memory_bytes(value, "limits")),
        ] {
            any |= request > 0 || limit > 0;
            guaranteed &= limit > 0 && (request == limit || request == 0);
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

/// What the whole Pod asks for or may use at most: the sum of its containers, or the greatest init container beside the
/// sidecars before it, whichever is more, plus the overhead (KEP-753's formula). `None` where a container sets no limit.
pub fn pod_total(pod: &Pod, kind: &str, read: fn(&Value, &str) -> i64) -> Option<i64> {
    let limit_is_open = |value: i64| kind == "limits" && value == 0;
    let mut sum = 0;
    for container in pod.containers() {
        let value = read(container.value(), kind);
        if limit_is_open(value) {
            return None;
        }
        sum += value;
    }
    let (mut sidecars, mut peak) = (0, 0);
    for container in pod.init_containers() {
        let value = read(container.value(), kind);
        if limit_is_open(value) {
            return None;
        }
        if container.is_sidecar() {
            sidecars += value;
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + value);
        }
    }
    let overhead =
        Value::from([("resources", Value::from([(kind, pod.spec(&["overhead"]).cloned().unwrap_or(Value::Null))]))]);
    Some((sum + sidecars).max(peak) + read(&overhead, kind))
}

/// The weight of thousandths of a CPU in cgroup v1's `cpu.shares`.
pub fn cpu_shares(milli: i64) -> i64 {
    (milli * 1024 / 1000).clamp(CPU_SHARES_MIN, CPU_SHARES_MAX)
}

/// The quota in microseconds for a limit of thousandths of a CPU; zero for none.
pub fn cpu_quota_us(milli: i64) -> i64 {
    if milli == 0 { 0 } else { (milli * CPU_PERIOD_US / 1000).max(CPU_QUOTA_US_MIN) }
}

/// How soon the kernel takes a container's processes when memory runs out: -997 (last) to 1000 (first).
pub fn oom_score_adj(pod: &Pod, container: Container<'_>, memory_capacity_bytes: i64) -> i64 {
    // Priorities of two billion and more belong to the system.
    let is_critical = pod.object().int_at(&["spec", "priority"]).unwrap_or(0) >= 2_000_000_000;
    match qos_class(pod) {
        _ if is_critical || pod.is_static() || pod.is_mirror() => -997,
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let request = memory_bytes(container.value(), "requests");
            let adjusted = 1000 - 1000 * request / memory_capacity_bytes.max(1);
            // Never as safe as a guaranteed one, never as bad as one that asks for nothing.
            if adjusted < 3 { 3 } else { adjusted.min(999) }
        }
    }
}

/// A container's resources in the CRI's terms.
pub fn container_resources(pod: &Pod, container: Container<'_>, memory_capacity_bytes: i64) -> LinuxContainerResources {
    let value = container.value();
    let (cpu_limit, memory_limit) = (cpu_milli(value, "limits"), memory_bytes(value, "limits"));
    // Whoever limits without asking asks for the limit.
    let cpu_request = match quantity(value, "requests", "cpu") {
        None => cpu_limit,
        Some(request) => request.milli_value(),
    };
    LinuxContainerResources {
        cpu_period: CPU_PERIOD_US,
        cpu_quota: cpu_quota_us(cpu_limit),
        cpu_shares: cpu_shares(cpu_request),
        memory_limit_in_bytes: memory_limit,
        oom_score_adj: oom_score_adj(pod, container, memory_capacity_bytes),
        ..LinuxContainerResources::default()
    }
}

/// A Pod's resources in the CRI's terms, for its cgroup; limits only where every container has one.
pub fn pod_resources(pod: &Pod) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: CPU_PERIOD_US,
        cpu_quota: pod_total(pod, "limits", cpu_milli).map_or(0, cpu_quota_us),
        cpu_shares: cpu_shares(pod_total(pod, "requests", cpu_milli).unwrap_or(0)),
        memory_limit_in_bytes: pod_total(pod, "limits", memory_bytes).unwrap_or(0),
        ..LinuxContainerResources::default()
    }
}
