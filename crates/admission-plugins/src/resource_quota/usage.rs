//! What objects take of a quota, and which of its names count them.

use std::collections::{BTreeMap, BTreeSet};

use api_schema::{Map, SmolStr, Value, format_smolstr};
use api_semantics::quantity::{Format, Quantity};
use api_semantics::selector::{Operator, Requirement};
use api_semantics::status::GroupResource;

use crate::amounts::{Amounts, add, amounts, pod_total, raise, whole};

/// How objects are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Pods,
    Services,
    VolumeClaims,
    DeviceClaims,
    /// Each is one.
    Counted,
}

const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
const OF_DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// What a claim for all devices may get at most.
const DEVICES_MAX: i64 = 32;

/// What quotas of Pods know by name: computing, and the Pods themselves.
const COMPUTE: [&str; 10] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
];

/// What had a name in quotas before every resource could be counted.
const COUNTED_BY_NAME: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

/// What each container has to state where a quota counts it.
const TO_BE_STATED: [&str; 6] = ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// The name by which a quota counts the objects of a resource.
pub(super) fn count_name(resource: &GroupResource) -> SmolStr {
    let name = &resource.resource;
    if resource.group.is_empty() {
        format_smolstr!("count/{name}")
    } else {
        format_smolstr!("count/{name}.{}", resource.group)
    }
}

impl Sort {
    pub(super) fn of(resource: &GroupResource) -> Self {
        match (&*resource.group, &*resource.resource) {
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::VolumeClaims,
            ("resource.k8s.io", "resourceclaims") => Self::DeviceClaims,
            _ => Self::Counted,
        }
    }

    /// Whether a request may change what is taken.
    pub(super) fn is_of_interest(self, subresource: &str, object: &Value, old: Option<&Value>) -> bool {
        let Some(old) = old else { return true };
        match (self, subresource) {
            (Self::Pods, "") => is_terminating(object) != is_terminating(old),
            (Self::VolumeClaims, "status") => {
                let allocated = |claim: &Value| claim.at(&["status", "allocatedResources", "storage"]).cloned();
                allocated(object) != allocated(old) || attributes_classes(object) != attributes_classes(old)
            }
            _ => true,
        }
    }

    /// Whether objects of this sort are counted under a name.
    pub(super) fn counts(self, count: &str, name: &str) -> bool {
        if name == count {
            return true;
        }
        let claim = |name: &str| matches!(name, "persistentvolumeclaims" | "requests.storage");
        match self {
            Self::Pods => {
                COMPUTE.contains(&name)
                    || name.starts_with("hugepages-")
                    || name
                        .strip_prefix("requests.")
                        .is_some_and(|name| name.starts_with("hugepages-") || is_extended(name))
            }
            Self::Services => matches!(name, "services" | "services.nodeports" | "services.loadbalancers"),
            Self::VolumeClaims => claim(name) || name.rsplit_once(OF_CLASS).is_some_and(|(_, name)| claim(name)),
            Self::DeviceClaims => name.ends_with(OF_DEVICE_CLASS),
            Self::Counted => COUNTED_BY_NAME.contains(&name) && count.strip_prefix("count/") == Some(name),
        }
    }

    /// What an object takes, by the names that count it.
    pub(super) fn usage(self, resource: &GroupResource, object: &Value, now: i64) -> Amounts {
        let mut usage = Amounts::from([(count_name(resource), whole(1))]);
        match self {
            Self::Pods => add(&mut usage, &pod_usage(object, now)),
            Self::Services => add(&mut usage, &service_usage(object)),
            Self::VolumeClaims => add(&mut usage, &volume_claim_usage(object)),
            Self::DeviceClaims => add(&mut usage, &device_claim_usage(object)),
            Self::Counted if resource.group.is_empty() && COUNTED_BY_NAME.contains(&&*resource.resource) => {
                usage.insert(resource.resource.clone(), whole(1));
            }
            Self::Counted => {}
        }
        usage
    }

    /// Whether an object is in one of a quota's scopes.
    pub(super) fn is_in_scope(self, scope: &Scope, object: &Value) -> bool {
        match (self, scope.name.as_str()) {
            (Self::Pods, "Terminating") => is_terminating(object),
            (Self::Pods, "NotTerminating") => !is_terminating(object),
            (Self::Pods, "BestEffort") => object.str_at(&["status", "qosClass"]) == "BestEffort",
            (Self::Pods, "NotBestEffort") => object.str_at(&["status", "qosClass"]) != "BestEffort",
            (Self::Pods, "PriorityClass") => {
                let class = Some(object.str_at(&["spec", "priorityClassName"])).filter(|class| !class.is_empty());
                scope.matches(class)
            }
            (Self::Pods, "CrossNamespacePodAffinity") => looks_into_other_namespaces(object),
            (Self::VolumeClaims, "VolumeAttributesClass") => {
                let classes = attributes_classes(object);
                if classes.is_empty() {
                    scope.matches(None)
                } else {
                    classes.iter().any(|class| scope.matches(Some(class)))
                }
            }
            _ => false,
        }
    }
}

/// What a quota is for.
#[derive(Debug)]
pub(super) struct Scope {
    name: SmolStr,
    operator: SmolStr,
    values: Vec<SmolStr>,
}

impl Scope {
    fn matches(&self, value: Option<&str>) -> bool {
        let operator = match self.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => Operator::Exists,
        };
        Requirement { key: self.name.clone(), operator, values: self.values.clone() }.matches(value)
    }
}

/// The scopes of a quota; it counts objects that are in all of them.
pub(super) fn scopes(quota: &Value) -> Vec<Scope> {
    let plain = quota.list_at(&["spec", "scopes"]).iter().filter_map(Value::as_str);
    let plain = plain.map(|name| Scope { name: name.into(), operator: "Exists".into(), values: Vec::new() });
    let selected = quota.list_at(&["spec", "scopeSelector", "matchExpressions"]).iter().map(|expression| Scope {
        name: expression.str_at(&["scopeName"]).into(),
        operator: expression.str_at(&["operator"]).into(),
        values: expression.list_at(&["values"]).iter().filter_map(Value::as_str).map(SmolStr::new).collect(),
    });
    plain.chain(selected).collect()
}

// === Pods ===

/// A resource of a vendor, or of a class of devices.
fn is_extended(name: &str) -> bool {
    let is_native = !name.contains('/') || name.contains("kubernetes.io/");
    !is_native && !name.starts_with("requests.") || name.starts_with("deviceclass.resource.kubernetes.io/")
}

fn is_terminating(pod: &Value) -> bool {
    pod.int_at(&["spec", "activeDeadlineSeconds"]).is_some_and(|seconds| seconds >= 0)
}

fn looks_into_other_namespaces(pod: &Value) -> bool {
    let looks = |term: &Value| !term.list_at(&["namespaces"]).is_empty() || term.at(&["namespaceSelector"]).is_some();
    ["podAffinity", "podAntiAffinity"].into_iter().any(|affinity| {
        let terms = |field| pod.list_at(&["spec", "affinity", affinity, field]).iter();
        terms("requiredDuringSchedulingIgnoredDuringExecution").any(looks)
            || terms("preferredDuringSchedulingIgnoredDuringExecution")
                .any(|term| term.at(&["podAffinityTerm"]).is_some_and(looks))
    })
}

fn pod_usage(pod: &Value, now: i64) -> Amounts {
    if has_ended(pod, now) {
        return Amounts::new();
    }
    let statuses = || {
        let of = |field| pod.list_at(&["status", field]).iter();
        of("containerStatuses").chain(of("initContainerStatuses"))
    };
    // While a Pod is resized, it takes what it has and what it will have, whichever is more.
    let cannot = pod.list_at(&["status", "conditions"]).iter().any(|condition| {
        condition.str_at(&["type"]) == "PodResizePending" && condition.str_at(&["reason"]) == "Infeasible"
    });
    let own = |container: &Value, field: &str, at_work: bool| {
        let asked = amounts(container, &["resources", field]);
        let status = statuses().find(|status| {
            at_work && status.str_at(&["name"]) == container.str_at(&["name"]) && status.at(&["resources"]).is_some()
        });
        let Some(status) = status else { return asked };
        let mut taken = if cannot { Amounts::new() } else { asked };
        raise(&mut taken, amounts(status, &["resources", field]));
        if field == "requests" {
            raise(&mut taken, amounts(status, &["allocatedResources"]));
        }
        taken
    };
    let is_initial = |container: &Value| {
        let name = container.str_at(&["name"]);
        pod.list_at(&["spec", "initContainers"]).iter().any(|initial| initial.str_at(&["name"]) == name)
    };
    let total = |field: &str| {
        let mut total = pod_total(pod, |container| {
            let at_work = container.str_at(&["restartPolicy"]) == "Always" || !is_initial(container);
            own(container, field, at_work)
        });
        for (name, quantity) in amounts(pod, &["spec", "resources", field]) {
            if is_pod_level(&name) {
                total.insert(name, quantity);
            }
        }
        total
    };
    let (mut requests, mut limits) = (total("requests"), total("limits"));
    let overhead = amounts(pod, &["spec", "overhead"]);
    add(&mut requests, &overhead);
    for (name, quantity) in &overhead {
        if let Some(limit) = limits.get_mut(name).filter(|limit| !limit.is_zero()) {
            limit.add(quantity);
        }
    }
    compute(&requests, &limits)
}

/// Whether a Pod takes nothing any more: it has run to its end, or its end is overdue.
fn has_ended(pod: &Value, now: i64) -> bool {
    let overdue = || {
        let deleted = api_semantics::time::rfc3339(pod.str_at(&["metadata", "deletionTimestamp"]))?;
        Some(now > deleted + pod.int_at(&["metadata", "deletionGracePeriodSeconds"])?)
    };
    matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed") || overdue() == Some(true)
}

fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Requests and limits by the names that quotas have for them.
fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::from([(SmolStr::new_static("pods"), whole(1))]);
    for (name, quantity) in requests {
        let is_plain = matches!(&**name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
        if is_plain {
            usage.insert(name.clone(), quantity.clone());
        }
        if is_plain || is_extended(name) {
            usage.insert(format_smolstr!("requests.{name}"), quantity.clone());
        }
    }
    for (name, quantity) in limits {
        if matches!(&**name, "cpu" | "memory" | "ephemeral-storage") {
            usage.insert(format_smolstr!("limits.{name}"), quantity.clone());
        }
    }
    usage
}

/// What the containers of a Pod fail to state though a quota counts it, in words.
pub(super) fn missing(pod: &Value, names: &[SmolStr]) -> Option<String> {
    let states = |field| {
        let stated = pod.map_at(&["spec", "resources", field]).into_iter().flat_map(Map::keys);
        stated.into_iter().any(|name| is_pod_level(name))
    };
    if states("requests") || states("limits") {
        return None;
    }
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for field in ["containers", "initContainers"] {
        for container in pod.list_at(&["spec", field]) {
            let of = |field| amounts(container, &["resources", field]);
            let stated = compute(&of("requests"), &of("limits"));
            let wanted = names.iter().filter(|name| TO_BE_STATED.contains(&name.as_str()));
            for name in wanted.filter(|name| !stated.contains_key(*name)) {
                missing.entry(name).or_default().insert(container.str_at(&["name"]));
            }
        }
    }
    let shown = |(name, containers): (&str, BTreeSet<&str>)| {
        format!("{name} for: {}", containers.into_iter().collect::<Vec<_>>().join(","))
    };
    let shown: Vec<String> = missing.into_iter().map(shown).collect();
    (!shown.is_empty()).then(|| format!("must specify {}", shown.join("; ")))
}

// === Services and claims ===

fn service_usage(service: &Value) -> Amounts {
    let ports = service.list_at(&["spec", "ports"]);
    let kind = service.str_at(&["spec", "type"]);
    // Ports of nodes are given out later: what counts is how many are wanted.
    let node_ports = match kind {
        "LoadBalancer" if service.bool_at(&["spec", "allocateLoadBalancerNodePorts"]) == Some(false) => {
            ports.iter().filter(|port| port.int_at(&["nodePort"]).is_some_and(|port| port != 0)).count()
        }
        "NodePort" | "LoadBalancer" => ports.len(),
        _ => 0,
    };
    Amounts::from([
        (SmolStr::new_static("services"), whole(1)),
        (SmolStr::new_static("services.loadbalancers"), whole((kind == "LoadBalancer").into())),
        (SmolStr::new_static("services.nodeports"), whole(i64::try_from(node_ports).unwrap_or(i64::MAX))),
    ])
}

fn volume_claim_usage(claim: &Value) -> Amounts {
    let class = match claim.at(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]) {
        Some(class) => class.as_str().unwrap_or_default(),
        None => claim.str_at(&["spec", "storageClassName"]),
    };
    let mut plain = Amounts::from([(SmolStr::new_static("persistentvolumeclaims"), whole(1))]);
    let mut storage = amounts(claim, &["spec", "resources", "requests"]);
    storage.retain(|name, _| name == "storage");
    if !storage.is_empty() {
        // Once a volume grows, it takes what was allocated for it.
        raise(&mut storage, amounts(claim, &["status", "allocatedResources"]));
    }
    if let Some(quantity) = storage.remove("storage") {
        let quantity = if quantity.is_whole() { quantity } else { rounded(&quantity) };
        plain.insert("requests.storage".into(), quantity);
    }
    let mut usage = plain.clone();
    if !class.is_empty() {
        usage.extend(plain.into_iter().map(|(name, quantity)| (format_smolstr!("{class}{OF_CLASS}{name}"), quantity)));
    }
    usage
}

/// Whole bytes.
fn rounded(quantity: &Quantity) -> Quantity {
    let format = if quantity.format() == Format::BinarySi { Format::BinarySi } else { Format::DecimalSi };
    Quantity::new(quantity.value(), format)
}

/// The classes of attributes that a claim wants, has or is about to have.
fn attributes_classes(claim: &Value) -> BTreeSet<&str> {
    let paths: [&[&str]; 3] = [
        &["spec", "volumeAttributesClassName"],
        &["status", "currentVolumeAttributesClassName"],
        &["status", "modifyVolumeStatus", "targetVolumeAttributesClassName"],
    ];
    paths.into_iter().map(|path| claim.str_at(path)).filter(|class| !class.is_empty()).collect()
}

fn device_claim_usage(claim: &Value) -> Amounts {
    let mut usage = Amounts::new();
    let of = |request: &Value| {
        let devices = match request.str_at(&["allocationMode"]) {
            "ExactCount" => request.int_at(&["count"]).unwrap_or_default(),
            "All" => DEVICES_MAX,
            _ => 0,
        };
        (format_smolstr!("{}{OF_DEVICE_CLASS}", request.str_at(&["deviceClassName"])), whole(devices))
    };
    for request in claim.list_at(&["spec", "devices", "requests"]) {
        // Of several possibilities the one that takes most counts, for each class.
        let mut most = Amounts::new();
        let possibilities = request.list_at(&["firstAvailable"]);
        for possibility in possibilities {
            raise(&mut most, Amounts::from([of(possibility)]));
        }
        if let Some(exactly) = request.at(&["exactly"]).filter(|_| possibilities.is_empty()) {
            most = Amounts::from([of(exactly)]);
        }
        add(&mut usage, &most);
    }
    usage
}
