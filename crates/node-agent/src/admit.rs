//! Whether the node takes a Pod that was bound to it (the scheduler may have known less, or another one may have bound
//! it): resources, host ports, node selector and affinity.

use api_schema::{Map, Value};
use api_semantics::quantity::Quantity;

use crate::pod::{Container, Pod};
use crate::resources::{self, cpu_milli, memory_bytes};

/// Why a Pod is not taken: the status's reason and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// `OutOfcpu`, `NodeAffinity`, ...
    pub reason: String,
    /// The sentence.
    pub message: String,
}

/// Judges a Pod beside the others that the node has taken and that have not ended.
///
/// # Errors
/// With the reason, if it is not taken.
pub fn admit(
    pod: &Pod,
    others: &[Pod],
    node_labels: &Map,
    node_name: &str,
    allocatable: &Map,
) -> Result<(), Rejection> {
    let os = pod.object().str_at(&["spec", "os", "name"]);
    if !os.is_empty() && os != "linux" {
        return Err(reject("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    fits(pod, others, allocatable)?;
    if !selects(pod, node_labels, node_name) {
        let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return Err(reject("NodeAffinity", message));
    }
    let taken: Vec<HostPort> = others.iter().flat_map(host_ports).collect();
    if host_ports(pod).iter().any(|port| taken.iter().any(|other| port.clashes(other))) {
        let message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        return Err(reject("NodePorts", message));
    }
    Ok(())
}

fn reject(reason: &str, message: &str) -> Rejection {
    Rejection { reason: reason.to_owned(), message: message.to_owned() }
}

fn fits(pod: &Pod, others: &[Pod], allocatable: &Map) -> Result<(), Rejection> {
    let capacity = |resource: &str, milli: bool| {
        let text = allocatable.get(resource).and_then(Value::as_str).unwrap_or("0");
        Quantity::parse(text).map_or(0, |quantity| if milli { quantity.milli_value() } else { quantity.value() })
    };
    let insufficient = |resource: &str, requested: i64, used: i64, capacity: i64| Rejection {
        reason: format!("OutOf{resource}"),
        message: format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        ),
    };
    let count = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if count + 1 > capacity("pods", false) {
        return Err(insufficient("pods", 1, count, capacity("pods", false)));
    }
    let storage = |container: &Value, kind: &str| {
        resources::quantity(container, kind, "ephemeral-storage").map_or(0, |size| size.value())
    };
    type Read = fn(&Value, &str) -> i64;
    let kinds: [(&str, bool, Read); 3] =
        [("cpu", true, cpu_milli), ("memory", false, memory_bytes), ("ephemeral-storage", false, storage)];
    for (resource, milli, read) in kinds {
        let requested = request(pod, read);
        let used: i64 = others.iter().map(|other| request(other, read)).sum();
        let capacity = capacity(resource, milli);
        if requested > 0 && requested + used > capacity {
            return Err(insufficient(resource, requested, used, capacity));
        }
    }
    Ok(())
}

fn request(pod: &Pod, read: fn(&Value, &str) -> i64) -> i64 {
    resources::pod_total(pod, "requests", read).unwrap_or(0)
}

#[derive(Clone, Debug)]
struct HostPort {
    ip: String,
    protocol: String,
    port: i64,
}

impl HostPort {
    fn clashes(&self, other: &HostPort) -> bool {
        let is_any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || is_any(&self.ip) || is_any(&other.ip))
    }
}

fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let containers = pod.init_containers().filter(Container::is_sidecar).chain(pod.containers());
    let ports = containers.flat_map(|container| container.value().list_at(&["ports"]));
    let taken = ports.filter(|port| port.int_at(&["hostPort"]).unwrap_or(0) > 0);
    taken
        .map(|port| HostPort {
            ip: port.str_at(&["hostIP"]).to_owned(),
            protocol: port.str_at(&["protocol"]).to_owned(),
            port: port.int_at(&["hostPort"]).unwrap_or(0),
        })
        .collect()
}

/// Whether the Pod's node selector and required node affinity choose a node.
pub fn selects(pod: &Pod, node_labels: &Map, node_name: &str) -> bool {
    let label = |name: &str| node_labels.get(name).and_then(Value::as_str);
    let selector = pod.object().map_at(&["spec", "nodeSelector"]);
    let by_labels = selector.into_iter().flat_map(Map::iter).all(|(name, value)| label(name) == value.as_str());
    let required = ["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    let Some(required) = pod.spec(&required) else { return by_labels };
    let matches = |term: &Value| {
        let expressions = term.list_at(&["matchExpressions"]);
        let fields = term.list_at(&["matchFields"]);
        // A term that says nothing chooses nothing.
        let says_something = !(expressions.is_empty() && fields.is_empty());
        let field = |name: &str| (name == "metadata.name").then_some(node_name);
        says_something
            && expressions.iter().all(|expression| holds(expression, label(expression.str_at(&["key"]))))
            && fields.iter().all(|expression| holds(expression, field(expression.str_at(&["key"]))))
    };
    by_labels && required.list_at(&["nodeSelectorTerms"]).iter().any(matches)
}

fn holds(expression: &Value, value: Option<&str>) -> bool {
    let values = expression.list_at(&["values"]);
    let is_listed = || values.iter().any(|listed| listed.as_str() == value);
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = || number(values.first().and_then(Value::as_str));
    match expression.str_at(&["operator"]) {
        "In" => value.is_some() && is_listed(),
        "NotIn" => value.is_none() || !is_listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound()).is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value).zip(bound()).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}
