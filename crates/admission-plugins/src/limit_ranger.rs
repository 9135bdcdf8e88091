//! The limits of a namespace: what containers ask for where they ask for nothing, and what nobody may go below or beyond.

use admission::{Attributes, BoxFuture, Operation, Plugin, View};
use api_schema::{Map, SmolStr, Value};
use api_semantics::quantity::Quantity;
use api_semantics::status::{GroupResource, Status};

use crate::amounts::{Amounts, amounts, pod_total};
use crate::refusal::{aggregate, forbidden, ready};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// Beyond this, values are compared as whole numbers, for their thousandths do not fit.
const MILLI_MAX: i64 = i64::MAX / 1000;

/// See the module.
pub(crate) struct LimitRanger;

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn handles(&self, resource: &GroupResource, subresource: &str, operation: Operation) -> bool {
        if !resource.group.is_empty() {
            return false;
        }
        match (&*resource.resource, subresource) {
            // Containers of a Pod are what they are, but for resizing.
            ("pods", "") => operation == Operation::Create,
            ("pods", "resize") => operation == Operation::Update,
            ("persistentvolumeclaims", "") => matches!(operation, Operation::Create | Operation::Update),
            _ => false,
        }
    }

    fn mutates(&self) -> bool {
        true
    }

    fn validates(&self) -> bool {
        true
    }

    fn admit<'a>(
        &'a self,
        attributes: &'a mut Attributes<'_>,
        view: &'a dyn View,
    ) -> BoxFuture<'a, Result<(), Status>> {
        if attributes.resource.resource == "pods" && !is_going(attributes) {
            for range in ranges(attributes, view) {
                if let Some(pod) = attributes.object.as_deref_mut() {
                    set_defaults(pod, &range);
                }
            }
        }
        ready(Ok(()))
    }

    fn validate<'a>(&'a self, attributes: &'a Attributes<'_>, view: &'a dyn View) -> BoxFuture<'a, Result<(), Status>> {
        ready(check(attributes, view))
    }
}

fn check(attributes: &Attributes<'_>, view: &dyn View) -> Result<(), Status> {
    let Some(object) = attributes.object.as_deref().filter(|_| !is_going(attributes)) else { return Ok(()) };
    for range in ranges(attributes, view) {
        let errors = match &*attributes.resource.resource {
            "pods" => check_pod(object, &range),
            _ => check_claim(object, &range),
        };
        if let Some(why) = aggregate(errors) {
            return Err(forbidden(attributes, why));
        }
    }
    Ok(())
}

/// Objects that are being deleted are let go.
fn is_going(attributes: &Attributes<'_>) -> bool {
    attributes.old.is_some_and(|old| old.at(&["metadata", "deletionTimestamp"]).is_some())
}

/// The LimitRanges of the object's namespace, by name.
fn ranges(attributes: &Attributes<'_>, view: &dyn View) -> Vec<Value> {
    let mut ranges = view.list("", "limitranges", attributes.namespace);
    ranges.sort_by(|a, b| a.str_at(&["metadata", "name"]).cmp(b.str_at(&["metadata", "name"])));
    ranges
}

// === Defaults ===

fn set_defaults(pod: &mut Value, range: &Value) {
    // Of several limits for containers the last one wins.
    let (mut requests, mut limits) = (Map::new(), Map::new());
    for limit in range.list_at(&["spec", "limits"]).iter().filter(|limit| limit.str_at(&["type"]) == "Container") {
        for (field, into) in [("defaultRequest", &mut requests), ("default", &mut limits)] {
            for (name, quantity) in limit.map_at(&[field]).into_iter().flat_map(Map::iter) {
                into.insert(name.clone(), quantity.clone());
            }
        }
    }
    let mut notes = Vec::new();
    for (field, shown) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.at_mut(&["spec", field]).and_then(Value::as_list_mut);
        for container in containers.into_iter().flatten() {
            for (field, defaults, what) in [("requests", &requests, "request"), ("limits", &limits, "limit")] {
                let set = fill(container, field, defaults);
                if !set.is_empty() {
                    let name = container.str_at(&["name"]);
                    notes.push(format!("{} {what} for {shown} {name}", set.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        pod.set(&["metadata", "annotations", ANNOTATION], note);
    }
}

/// Sets what is missing and says what that was, in order.
fn fill(container: &mut Value, field: &str, defaults: &Map) -> Vec<SmolStr> {
    let has = |name: &str| container.map_at(&["resources", field]).is_some_and(|own| own.contains_key(name));
    let missing: Vec<SmolStr> = defaults.keys().filter(|name| !has(name)).cloned().collect();
    for name in &missing {
        if let Some(quantity) = defaults.get(name) {
            container.set(&["resources", field, name], quantity.clone());
        }
    }
    missing
}

// === Checks ===

fn check_pod(pod: &Value, range: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    for limit in range.list_at(&["spec", "limits"]) {
        match limit.str_at(&["type"]) {
            kind @ "Container" => {
                for field in ["containers", "initContainers"] {
                    for container in pod.list_at(&["spec", field]) {
                        let requests = amounts(container, &["resources", "requests"]);
                        let limits = amounts(container, &["resources", "limits"]);
                        check_limit(kind, limit, &requests, &limits, &mut errors);
                    }
                }
            }
            kind @ "Pod" => {
                check_limit(kind, limit, &total_of(pod, "requests"), &total_of(pod, "limits"), &mut errors);
            }
            _ => {}
        }
    }
    errors
}

fn check_claim(claim: &Value, range: &Value) -> Vec<String> {
    let requests = amounts(claim, &["spec", "resources", "requests"]);
    let mut errors = Vec::new();
    for limit in range.list_at(&["spec", "limits"]) {
        let kind = limit.str_at(&["type"]);
        if kind != "PersistentVolumeClaim" {
            continue;
        }
        for (name, min) in amounts(limit, &["min"]) {
            errors.extend(below(kind, &name, &min, requests.get(&name), None));
        }
        for (name, max) in amounts(limit, &["max"]) {
            let head = format!("maximum {name} usage per {kind} is {max}");
            match requests.get(&name) {
                None => errors.push(format!("{head}.  No request is specified")),
                Some(request) if exceeds(request, &max) => errors.push(format!("{head}, but request is {request}")),
                Some(_) => {}
            }
        }
    }
    errors
}

fn check_limit(kind: &str, limit: &Value, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    for (name, min) in amounts(limit, &["min"]) {
        errors.extend(below(kind, &name, &min, requests.get(&name), limits.get(&name)));
    }
    for (name, max) in amounts(limit, &["max"]) {
        errors.extend(above(kind, &name, &max, requests.get(&name), limits.get(&name)));
    }
    for (name, ratio) in amounts(limit, &["maxLimitRequestRatio"]) {
        errors.extend(out_of_proportion(kind, &name, &ratio, requests.get(&name), limits.get(&name)));
    }
}

fn below(
    kind: &str,
    name: &str,
    min: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let (requested, limited, bound) = comparable(request, limit, min);
    let head = format!("minimum {name} usage per {kind} is {min}");
    match (request, limit) {
        (None, _) => Some(format!("{head}.  No request is specified")),
        (Some(request), _) if requested < bound => Some(format!("{head}, but request is {request}")),
        (_, Some(limit)) if limited < bound => Some(format!("{head}, but limit is {limit}")),
        _ => None,
    }
}

fn above(
    kind: &str,
    name: &str,
    max: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let (requested, limited, bound) = comparable(request, limit, max);
    let head = format!("maximum {name} usage per {kind} is {max}");
    match (request, limit) {
        (_, None) => Some(format!("{head}.  No limit is specified")),
        (_, Some(limit)) if limited > bound => Some(format!("{head}, but limit is {limit}")),
        (Some(request), _) if requested > bound => Some(format!("{head}, but request is {request}")),
        _ => None,
    }
}

fn out_of_proportion(
    kind: &str,
    name: &str,
    ratio_max: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let (requested, limited, _) = comparable(request, limit, ratio_max);
    let head = format!("{name} max limit to request ratio per {kind} is {ratio_max}");
    if request.is_none() || requested == 0 {
        return Some(format!("{head}, but no request is specified or request is 0"));
    }
    if limit.is_none() || limited == 0 {
        return Some(format!("{head}, but no limit is specified or limit is 0"));
    }
    let ratio = limited as f64 / requested as f64;
    let is_beyond = if ratio_max.value() <= MILLI_MAX {
        ratio * 1000.0 > ratio_max.milli_value() as f64
    } else {
        ratio > ratio_max.value() as f64
    };
    is_beyond.then(|| format!("{head}, but provided ratio is {ratio:.6}"))
}

fn exceeds(request: &Quantity, max: &Quantity) -> bool {
    let (requested, _, bound) = comparable(Some(request), None, max);
    requested > bound
}

/// The three values with the same precision: thousandths if all of them fit.
fn comparable(request: Option<&Quantity>, limit: Option<&Quantity>, bound: &Quantity) -> (i64, i64, i64) {
    let all = [request, limit, Some(bound)];
    let as_whole = all.map(|quantity| quantity.map(Quantity::value).unwrap_or_default());
    let values = if as_whole.iter().all(|value| *value <= MILLI_MAX) {
        all.map(|quantity| quantity.map(Quantity::milli_value).unwrap_or_default())
    } else {
        as_whole
    };
    (values[0], values[1], values[2])
}

/// What a Pod takes in all, but what the Pod itself says where it does.
fn total_of(pod: &Value, field: &str) -> Amounts {
    let mut total = pod_total(pod, |container| amounts(container, &["resources", field]));
    for (name, quantity) in amounts(pod, &["spec", "resources", field]) {
        if matches!(&*name, "cpu" | "memory") {
            total.insert(name, quantity);
        }
    }
    total
}
