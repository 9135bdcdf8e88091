//! Resource lists: names, sums, and what a pod asks for as a whole.

use std::collections::BTreeMap;

use api_schema::{SmolStr, Value};
use api_semantics::quantity::Quantity;

use super::look::{Look, is_sidecar};

/// A resource list that can be summed.
pub(crate) type Resources = BTreeMap<SmolStr, Quantity>;

/// Which half of a container's resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    Requests,
    Limits,
}

impl Half {
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Limits => "limits",
        }
    }
}

/// The quantity of a value; zero if it is none.
pub(crate) fn quantity(value: &Value) -> Quantity {
    value.as_str().and_then(|text| Quantity::parse(text).ok()).unwrap_or(Quantity::ZERO)
}

/// The quantity rounded up to thousandths, which is the finest that objects keep.
pub(crate) fn round_up_to_milli(quantity: Quantity) -> Quantity {
    if quantity.is_whole() {
        return quantity;
    }
    let rounded = Quantity::from_milli(quantity.milli_value(), quantity.format());
    if rounded == quantity { quantity } else { rounded }
}

/// One half of a `resources` field.
pub(crate) fn list(holder: &Value, half: Half) -> Resources {
    holder.get("resources").map_or_else(Resources::new, |resources| {
        resources.entries(half.key()).iter().map(|(name, value)| (name.clone(), quantity(value))).collect()
    })
}

fn add(sum: &mut Resources, more: &Resources) {
    for (name, quantity) in more {
        sum.entry(name.clone()).or_insert(Quantity::ZERO).add(quantity);
    }
}

fn raise(most: &mut Resources, candidate: &Resources) {
    for (name, quantity) in candidate {
        let current = most.entry(name.clone()).or_insert(Quantity::ZERO);
        if *quantity > *current {
            *current = quantity.clone();
        }
    }
}

/// What all containers of a pod need together: the sum of those that run at the same time, sidecars included, or
/// what the most demanding moment of initialisation needs.
pub(crate) fn aggregate(spec: &Value, half: Half) -> Resources {
    let mut total = Resources::new();
    for container in spec.items("containers") {
        add(&mut total, &list(container, half));
    }
    let (mut sidecars, mut initialisation) = (Resources::new(), Resources::new());
    for container in spec.items("initContainers") {
        let mut needed = list(container, half);
        if is_sidecar(container) {
            add(&mut total, &needed);
            add(&mut sidecars, &needed);
            needed = sidecars.clone();
        } else {
            add(&mut needed, &sidecars);
        }
        raise(&mut initialisation, &needed);
    }
    raise(&mut total, &initialisation);
    total
}

/// Whether a resource can be stated for the pod as a whole.
pub(crate) fn is_pod_level(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || is_huge_page(name)
}

pub(crate) fn is_huge_page(name: &str) -> bool {
    name.starts_with("hugepages-")
}

/// Whether the name is Kubernetes' own, which unprefixed names are.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether more of it may be promised (requests below limits) than there is.
pub(crate) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Whether the name is one that a device plugin or an administrator may add to nodes.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && api_semantics::names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether only whole numbers make sense.
pub(crate) fn is_integer(name: &str) -> bool {
    const INTEGER: [&str; 9] = [
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    ];
    INTEGER.contains(&name) || is_extended(name)
}

/// Whether the name is one of the resource names that quotas, limits or nodes know.
pub(crate) fn is_standard(name: &str) -> bool {
    const STANDARD: [&str; 20] = [
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
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "storage",
        "requests.storage",
        "services.nodeports",
        "services.loadbalancers",
    ];
    STANDARD.contains(&name) || is_huge_page(name) || name.starts_with("requests.hugepages-")
}

/// The quality of service class that requests and limits give a pod.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    let counts =
        |(name, quantity): &(SmolStr, Quantity)| matches!(name.as_str(), "cpu" | "memory") && quantity.sign() > 0;
    let compute = |holder: &Value, half| list(holder, half).into_iter().filter(counts).collect::<Resources>();
    let (mut requests, mut limits, mut guaranteed) = (Resources::new(), Resources::new(), true);
    if spec.has("resources") {
        (requests, limits) = (compute(spec, Half::Requests), compute(spec, Half::Limits));
        guaranteed = limits.len() == 2 || list(spec, Half::Limits).is_empty();
    } else {
        for container in spec.items("containers").iter().chain(spec.items("initContainers")) {
            add(&mut requests, &compute(container, Half::Requests));
            let limit = compute(container, Half::Limits);
            guaranteed &= limit.len() == 2;
            add(&mut limits, &limit);
        }
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if guaranteed && requests == limits {
        "Guaranteed"
    } else {
        "Burstable"
    }
}
