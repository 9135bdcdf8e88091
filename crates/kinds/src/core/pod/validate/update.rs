//! What may change about a pod that exists: little.

use api_schema::{Map, Value};
use api_semantics::field::{Error, ErrorList, Path, shown};
use api_semantics::names;

use crate::checks::{internal, invalid_text, same};

use super::super::look::{Look, is_sidecar};
use super::super::resources;
use super::annotations::{self, MIRROR};
use super::{INT32_MAX, Leniency, pod, scheduling};

/// The fields that upstream names in its famous message.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                         `spec.tolerations` (only additions to existing tolerations),\
                         `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// The longest message about a device's health.
const HEALTH_MESSAGE_LEN_MAX: usize = 1024;

/// The largest number of differences that a message lists.
const DIFFERENCES_MAX: usize = 20;

fn spec_of(pod: &Value) -> &Value {
    pod.get("spec").unwrap_or(&Value::Null)
}

/// An update of the pod itself.
pub(crate) fn pod_update(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (new_spec, old_spec) = (spec_of(new), spec_of(old));
    pod(&mut errors, new, Leniency::of(Some(old_spec)));
    annotations::update(&mut errors, new, old);
    let path = Path::new("spec");
    for list in ["containers", "initContainers"] {
        let list_path = path.child(list);
        if new_spec.items(list).len() != old_spec.items(list).len() {
            errors.push(Error::forbidden(&list_path, "pod updates may not add or remove containers"));
            return errors;
        }
        for (at, container) in new_spec.items(list).iter().enumerate() {
            let image = container.text("image");
            let container_path = list_path.index(at);
            if image.is_empty() {
                errors.push(Error::required(&container_path.child("image"), ""));
            }
            if image.trim() != image {
                let why = "must not have leading or trailing whitespace";
                errors.push(Error::invalid(&container_path.child("image"), image, why));
            }
        }
    }
    if !deadline(&mut errors, new_spec, old_spec, &path) {
        return errors;
    }
    only_added_tolerations(&mut errors, new_spec, old_spec, &path.child("tolerations"));
    only_deleted_gates(&mut errors, new_spec, old_spec, &path.child("schedulingGates"));
    if same(Some(new_spec), Some(old_spec)) {
        return errors;
    }
    // What may change is set back; all that still differs may not.
    let mut rest = new_spec.clone();
    for list in ["containers", "initContainers"] {
        for (at, container) in rest.entry(&[list]).as_list_mut().into_iter().flatten().enumerate() {
            container.set(&["image"], old_spec.items(list)[at].text("image"));
        }
        if rest.get(list).is_none() {
            rest.remove(&[list]);
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        take(&mut rest, old_spec, field);
    }
    if old_spec.int("terminationGracePeriodSeconds").is_some_and(|period| period < 0)
        && rest.int("terminationGracePeriodSeconds") == Some(1)
    {
        take(&mut rest, old_spec, "terminationGracePeriodSeconds");
    }
    if !old_spec.items("schedulingGates").is_empty() {
        gated(&mut errors, &mut rest, old_spec, &path);
    }
    if !same(Some(&rest), Some(old_spec)) {
        let differences = differences(&rest, old_spec);
        let why = format!("pod updates may not change fields other than {UPDATABLE}\n{differences}");
        errors.push(Error::forbidden(&path, why));
    }
    errors
}

fn take(to: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => to.set(&[field], value.clone()),
        None => drop(to.remove(&[field])),
    }
}

/// A deadline may be set and shortened; false stops the check, as upstream does.
fn deadline(errors: &mut ErrorList, new: &Value, old: &Value, path: &Path<'_>) -> bool {
    let path = path.child("activeDeadlineSeconds");
    match (new.int("activeDeadlineSeconds"), old.int("activeDeadlineSeconds")) {
        (Some(new), _) if !(0..=INT32_MAX).contains(&new) => {
            errors.push(Error::invalid(&path, new, names::inclusive_range_error(0, INT32_MAX)));
            false
        }
        (Some(new), Some(old)) if old < new => {
            errors.push(Error::invalid(&path, new, "must be less than or equal to previous value"));
            false
        }
        (None, Some(_)) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(Error::invalid(&path, Value::Null, why));
            true
        }
        _ => true,
    }
}

fn only_added_tolerations(errors: &mut ErrorList, new: &Value, old: &Value, path: &Path<'_>) {
    let without_seconds = |toleration: &Value| {
        let mut toleration = toleration.clone();
        toleration.remove(&["tolerationSeconds"]);
        toleration
    };
    let now: Vec<Value> = new.items("tolerations").iter().map(without_seconds).collect();
    if old.items("tolerations").iter().any(|toleration| !now.contains(&without_seconds(toleration))) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(Error::forbidden(path, why));
        return;
    }
    scheduling::tolerations(errors, new.items("tolerations"), path);
}

fn only_deleted_gates(errors: &mut ErrorList, new: &Value, old: &Value, path: &Path<'_>) {
    for (at, gate) in new.items("schedulingGates").iter().enumerate() {
        let name = gate.text("name");
        if !old.items("schedulingGates").iter().any(|known| known.text("name") == name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(Error::forbidden(&path.index(at).child("name"), why));
        }
    }
}

/// A pod that is still held back may be bound tighter to nodes.
fn gated(errors: &mut ErrorList, rest: &mut Value, old: &Value, path: &Path<'_>) {
    let (selector, old_selector) = (rest.entries("nodeSelector").clone(), old.entries("nodeSelector"));
    if old_selector.iter().any(|(key, value)| selector.get(key) != Some(value)) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(Error::invalid(&path.child("nodeSelector"), selector, why));
    }
    take(rest, old, "nodeSelector");

    let affinity = rest.at(&["affinity", "nodeAffinity"]).cloned();
    let old_affinity = old.at(&["affinity", "nodeAffinity"]);
    if same(affinity.as_ref(), old_affinity) {
        return;
    }
    node_affinity(errors, affinity.as_ref(), old_affinity, &path.child("affinity.nodeAffinity"));
    match old_affinity {
        Some(old_affinity) => rest.set(&["affinity", "nodeAffinity"], old_affinity.clone()),
        None => {
            rest.remove(&["affinity", "nodeAffinity"]);
            if !old.has("affinity") && rest.get("affinity").is_some_and(Value::is_zero) {
                rest.remove(&["affinity"]);
            }
        }
    }
}

fn node_affinity(errors: &mut ErrorList, new: Option<&Value>, old: Option<&Value>, path: &Path<'_>) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const TERM: &str = "io.k8s.api.core.v1.NodeSelectorTerm";
    let terms = |affinity: Option<&Value>| {
        affinity.map(|affinity| affinity.list_at(&[REQUIRED, "nodeSelectorTerms"]).to_vec()).unwrap_or_default()
    };
    let (new, old) = (terms(new), terms(old));
    let required = path.child(REQUIRED);
    let terms_path = required.child("nodeSelectorTerms");
    if old.is_empty() {
        return;
    }
    if old.len() != new.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        let shown = if new.is_empty() { Value::Null } else { internal_list(&new, TERM) };
        errors.push(Error::invalid(&terms_path, shown, why));
        return;
    }
    for (at, (new, old)) in new.iter().zip(&old).enumerate() {
        if !has_only_additions(new, old) {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(Error::invalid(&terms_path.index(at), internal(Some(new), TERM), why));
        }
    }
}

/// A term that selected nothing must go on doing so.
fn has_only_additions(new: &Value, old: &Value) -> bool {
    let fields = ["matchExpressions", "matchFields"];
    if fields.iter().all(|field| old.items(field).is_empty()) {
        return fields.iter().all(|field| new.items(field).is_empty());
    }
    fields.iter().all(|field| new.items(field).starts_with(old.items(field)))
}

/// What differs between two specs, as a client reads it: the path, `-` the old and `+` the new value.
fn differences(new: &Value, old: &Value) -> String {
    let mut lines = Vec::new();
    collect(&mut lines, "spec".to_owned(), Some(new), Some(old));
    if lines.len() > DIFFERENCES_MAX {
        let more = lines.len() - DIFFERENCES_MAX;
        lines.truncate(DIFFERENCES_MAX);
        lines.push(format!("  ... {more} more"));
    }
    lines.join("\n")
}

fn collect(lines: &mut Vec<String>, path: String, new: Option<&Value>, old: Option<&Value>) {
    if same(new, old) {
        return;
    }
    match (new, old) {
        (Some(Value::Map(new)), Some(Value::Map(old))) => {
            let mut keys: Vec<_> = new.keys().chain(old.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                collect(lines, format!("{path}.{key}"), new.get(key), old.get(key));
            }
        }
        (Some(Value::List(new)), Some(Value::List(old))) if new.len() == old.len() => {
            for (at, (new, old)) in new.iter().zip(old).enumerate() {
                collect(lines, format!("{path}[{at}]"), Some(new), Some(old));
            }
        }
        (new, old) => {
            let text = |value: Option<&Value>| value.map_or_else(|| "nil".to_owned(), shown);
            lines.push(format!("  {path}: - {} + {}", text(old), text(new)));
        }
    }
}

/// Checks an update through `ephemeralcontainers`: containers may be added, none may change or go.
pub fn validate_ephemeral_containers_update(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    pod(&mut errors, new, Leniency::of(Some(spec_of(old))));
    annotations::update(&mut errors, new, old);
    if is_mirror(old) {
        return vec![Error::forbidden(&Path::new(""), "static pods do not support ephemeral containers")];
    }
    let path = Path::new("spec.ephemeralContainers");
    for old_container in spec_of(old).items("ephemeralContainers") {
        let name = api_semantics::field::quoted(old_container.text("name"));
        let found =
            spec_of(new).items("ephemeralContainers").iter().rfind(|c| c.text("name") == old_container.text("name"));
        match found {
            None => {
                let why = format!("existing ephemeral containers {name} may not be removed\n");
                errors.push(Error::forbidden(&path, why));
            }
            Some(container) if !same(Some(container), Some(old_container)) => {
                let mut lines = Vec::new();
                collect(&mut lines, old_container.text("name").to_owned(), Some(container), Some(old_container));
                let why = format!("existing ephemeral containers {name} may not be changed\n{}", lines.join("\n"));
                errors.push(Error::forbidden(&path, why));
            }
            Some(_) => {}
        }
    }
    errors
}

fn is_mirror(pod: &Value) -> bool {
    pod.map_at(&["metadata", "annotations"]).is_some_and(|annotations| annotations.contains_key(MIRROR))
}

/// Checks an update through `resize`: only CPU and memory change, and the quality of service class stays.
pub fn validate_resize(new: &Value, old: &Value) -> ErrorList {
    let whole = |why: &str| vec![Error::forbidden(&Path::new(""), why)];
    let (new_spec, old_spec) = (spec_of(new), spec_of(old));
    let mut errors = ErrorList::new();
    pod(&mut errors, new, Leniency::of(Some(old_spec)));
    if is_mirror(old) {
        return whole("static pods cannot be resized");
    }
    if old_spec.str_at(&["os", "name"]) == "windows" {
        return whole("windows pods cannot be resized");
    }
    let path = Path::new("spec");
    let old_class = match old.str_at(&["status", "qosClass"]) {
        "" => resources::qos_class(old_spec),
        class => class,
    };
    if old_class != resources::qos_class(new_spec) {
        let class = new.str_at(&["status", "qosClass"]);
        errors.push(Error::invalid(&path, class, "Pod QOS Class may not change as a result of resizing"));
    }
    let running = old.list_at(&["status", "containerStatuses"]).iter().find(|c| c.at(&["state", "running"]).is_some());
    if running.is_some_and(|container| !container.has("resources")) {
        errors.push(Error::forbidden(&path, "Pod running on node without support for resize"));
    }
    let mut rest = new_spec.clone();
    pod_level_resize(&mut errors, new_spec, old_spec, &mut rest, &path);
    if !old.list_at(&["status", "nodeAllocatableResourceClaimStatuses"]).is_empty() {
        errors.push(Error::forbidden(&path, "pods with node allocatable resource claims cannot be resized"));
    }
    if !same_order(&mut errors, new_spec, old_spec, &path) {
        return errors;
    }
    for list in ["initContainers", "containers"] {
        let list_path = path.child(list);
        for (at, (new, old)) in new_spec.items(list).iter().zip(old_spec.items(list)).enumerate() {
            let container_path = list_path.index(at);
            let names = ["resource requests cannot be removed", "resource limits cannot be removed"];
            not_removed(&mut errors, new, old, &container_path.child("resources"), names);
        }
    }
    for list in ["containers", "initContainers"] {
        let list_path = path.child(list);
        for (at, container) in rest.entry(&[list]).as_list_mut().into_iter().flatten().enumerate() {
            let old = &old_spec.items(list)[at];
            let was_modified = !same_requirements(container, old);
            set_back_cpu_and_memory(container, old);
            // Upstream forgets the claims here: new ones pass, and containers that have some cannot be resized.
            container.remove(&["resources", "claims"]);
            let container_path = list_path.index(at);
            if !same_requirements(container, old) {
                errors.push(if list == "containers" {
                    Error::forbidden(&path, "only cpu and memory resources are mutable")
                } else {
                    let why = "only cpu and memory resources for init or sidecar containers are mutable";
                    Error::forbidden(&container_path, why)
                });
            }
            if list == "initContainers" && was_modified && !is_sidecar(container) {
                let policies = container.items("resizePolicy").iter();
                for _ in policies.filter(|policy| policy.text("restartPolicy") == "RestartContainer") {
                    let why = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                    errors.push(Error::forbidden(&container_path, why));
                }
            }
        }
        if rest.get(list).is_none() {
            rest.remove(&[list]);
        }
    }
    let plain = |spec: &Value| {
        let mut spec = spec.clone();
        spec.remove(&["containers"]);
        spec.remove(&["initContainers"]);
        spec
    };
    if errors.is_empty() && !same(Some(&plain(&rest)), Some(&plain(old_spec))) {
        errors.push(Error::forbidden(&path, "only cpu and memory resources are mutable"));
    }
    errors
}

/// The resources of the pod as a whole; sets what may change back in `rest`.
fn pod_level_resize(errors: &mut ErrorList, new: &Value, old: &Value, rest: &mut Value, path: &Path<'_>) {
    let is_stated = |spec: &Value| {
        ["limits", "requests"].iter().any(|half| spec.map_at(&["resources", half]).is_some_and(|list| !list.is_empty()))
    };
    if !is_stated(old) && !is_stated(new) {
        return;
    }
    let resources_path = path.child("resources");
    if old.has("resources") && !new.has("resources") {
        errors.push(Error::forbidden(&resources_path, "pod-level resources cannot be removed"));
        return;
    }
    let names = ["pod-level resource requests cannot be removed", "pod-level resource limits cannot be removed"];
    not_removed(errors, new, old, &resources_path, names);
    set_back_cpu_and_memory(rest, old);
    if !old.has("resources") && rest.get("resources").is_some_and(Value::is_zero) {
        rest.remove(&["resources"]);
    }
    let requirements = |spec: &Value| Value::from([("resources", spec.get("resources").cloned().unwrap_or_default())]);
    if !same_requirements(&requirements(rest), &requirements(old)) {
        errors.push(Error::forbidden(path, "only cpu and memory resources are mutable at pod-level"));
    }
}

fn same_order(errors: &mut ErrorList, new: &Value, old: &Value, path: &Path<'_>) -> bool {
    let before = errors.len();
    for list in ["containers", "initContainers"] {
        let list_path = path.child(list);
        if new.items(list).len() != old.items(list).len() {
            errors.push(Error::forbidden(&list_path, format!("{list} may not be added or removed on resize")));
            continue;
        }
        for (at, (new, old)) in new.items(list).iter().zip(old.items(list)).enumerate() {
            if new.text("name") != old.text("name") {
                let why = format!("{list} may not be renamed or reordered on resize");
                errors.push(Error::forbidden(&list_path.index(at).child("name"), why));
            }
        }
    }
    errors.len() == before
}

/// The items of a list as messages show them.
fn internal_list(items: &[Value], ty: &str) -> Value {
    Value::List(items.iter().map(|item| internal(Some(item), ty)).collect())
}

/// Requests and limits may change, but not go.
fn not_removed(errors: &mut ErrorList, new: &Value, old: &Value, path: &Path<'_>, whys: [&str; 2]) {
    for (half, why) in ["requests", "limits"].into_iter().zip(whys) {
        let list = |holder: &Value| holder.map_at(&["resources", half]).cloned().unwrap_or_default();
        let new_list = list(new);
        if list(old).keys().any(|name| !new_list.contains_key(name)) {
            errors.push(Error::forbidden(&path.child(half), why));
        }
    }
}

/// Whether two containers are the same, no resources and empty ones being so.
fn same_requirements(a: &Value, b: &Value) -> bool {
    let normal = |container: &Value| {
        let mut container = container.clone();
        for half in ["limits", "requests"] {
            if container.at(&["resources", half]).is_some_and(Value::is_zero) {
                container.remove(&["resources", half]);
            }
        }
        if container.get("resources").is_some_and(Value::is_zero) {
            container.remove(&["resources"]);
        }
        container
    };
    same(Some(&normal(a)), Some(&normal(b)))
}

fn set_back_cpu_and_memory(container: &mut Value, old: &Value) {
    for half in ["limits", "requests"] {
        let old_list = old.map_at(&["resources", half]);
        let mut list: Map = container.map_at(&["resources", half]).cloned().unwrap_or_default();
        for resource in ["cpu", "memory"] {
            list.remove(resource);
            if let Some(value) = old_list.and_then(|list| list.get(resource)) {
                list.insert(resource, value.clone());
            }
        }
        // A half that the old container did not have at all may come into being.
        if old_list.is_none() || list.is_empty() {
            container.remove(&["resources", half]);
        } else {
            container.set(&["resources", half], list);
        }
    }
}

/// An update of the status.
pub(crate) fn status_update(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    annotations::update(&mut errors, new, old);
    const NEGATIVE: &str = "must be a non-negative integer";
    let conditions = Path::new("status.conditions");
    for (at, condition) in new.list_at(&["status", "conditions"]).iter().enumerate() {
        let name = condition.text("type");
        if let Some(generation) = condition.int("observedGeneration").filter(|generation| *generation < 0) {
            errors.push(Error::invalid(&conditions.index(at).child("observedGeneration"), generation, NEGATIVE));
        }
        if !matches!(name, "PodScheduled" | "Ready" | "Initialized") {
            invalid_text(&mut errors, &conditions.index(at).child("Type"), name, names::qualified_name(name));
        }
    }
    let path = Path::new("status");
    let (status, old_status) = (new.get("status").unwrap_or(&Value::Null), old.get("status").unwrap_or(&Value::Null));
    if spec_of(new).text("nodeName") != spec_of(old).text("nodeName") {
        errors.push(Error::forbidden(&path.child("nodeName"), "may not be changed directly"));
    }
    let nominated = status.text("nominatedNodeName");
    if nominated != old_status.text("nominatedNodeName") && !nominated.is_empty() {
        let messages = names::dns1123_subdomain(nominated, false);
        invalid_text(&mut errors, &path.child("nominatedNodeName"), nominated, messages);
    }
    if !spec_of(old).text("nodeName").is_empty()
        && !nominated.is_empty()
        && nominated != old_status.text("nominatedNodeName")
    {
        let why = "may not be set on pods that are already bound to a node";
        errors.push(Error::forbidden(&path.child("nominatedNodeName"), why));
    }
    if let Some(generation) = status.int("observedGeneration").filter(|generation| *generation < 0) {
        errors.push(Error::invalid(&path.child("observedGeneration"), generation, NEGATIVE));
    }
    if status.text("qosClass") != old_status.text("qosClass") {
        errors.push(Error::invalid(&path.child("qosClass"), status.text("qosClass"), names::IMMUTABLE));
    }
    for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        transitions(&mut errors, status, old_status, spec_of(old), list);
    }
    let claims = path.child("resourceClaimStatuses");
    let mut seen = Vec::new();
    for (at, claim) in status.items("resourceClaimStatuses").iter().enumerate() {
        let claim_path = claims.index(at);
        let name = claim.text("name");
        if !spec_of(new).items("resourceClaims").iter().any(|known| known.text("name") == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(Error::invalid(&claim_path.child("name"), name, why));
        }
        if seen.contains(&name) {
            errors.push(Error::duplicate(&claim_path.child("name"), name));
        }
        seen.push(name);
        if let Some(claim) = claim.text_if("resourceClaimName") {
            let messages = names::dns1123_subdomain(claim, false);
            invalid_text(&mut errors, &claim_path.child("resourceClaimName"), claim, messages);
        }
    }
    extended_claim(&mut errors, status, spec_of(new), &path.child("extendedResourceClaimStatus"));
    addresses(&mut errors, status, old_status);
    container_statuses(&mut errors, status, spec_of(new));
    errors
}

/// A container that ended stays so, unless it may restart.
fn transitions(errors: &mut ErrorList, new: &Value, old: &Value, spec: &Value, list: &str) {
    let in_spec = match list {
        "initContainerStatuses" => spec.items("initContainers"),
        "containerStatuses" => spec.items("containers"),
        _ => &[],
    };
    // One container's rule can restart all of them.
    let restarts_all = |container: &Value| {
        container.items("restartPolicyRules").iter().any(|rule| rule.text("action") == "RestartAllContainers")
    };
    let all = ["containers", "initContainers"].into_iter().flat_map(|list| spec.items(list));
    if list != "ephemeralContainerStatuses" && all.into_iter().any(restarts_all) {
        return;
    }
    let status_path = Path::new("status");
    let list_path = status_path.child(list);
    for (at, old_container) in old.items(list).iter().enumerate() {
        let Some(end) = old_container.at(&["state", "terminated"]) else { continue };
        let name = old_container.text("name");
        let revived = |c: &&Value| c.text("name") == name && c.at(&["state", "terminated"]).is_none();
        if new.items(list).iter().any(|c| revived(&c)) {
            let container = in_spec.iter().find(|container| container.text("name") == name);
            if !container.is_some_and(|c| may_restart(c, spec, end.int("exitCode").unwrap_or(0))) {
                let why = "may not be transitioned to non-terminated state";
                errors.push(Error::forbidden(&list_path.index(at).child("state"), why));
            }
        }
    }
}

/// Whether a container that ended with a code restarts: its rules decide, then its policy, then the pod's.
fn may_restart(container: &Value, spec: &Value, exit_code: i64) -> bool {
    let matches = |rule: &&Value| {
        let Some(codes) = rule.get("exitCodes") else { return false };
        let is_listed = codes.items("values").iter().any(|value| value.as_int() == Some(exit_code));
        match codes.text("operator") {
            "In" => is_listed,
            "NotIn" => !is_listed,
            _ => false,
        }
    };
    if let Some(rule) = container.items("restartPolicyRules").iter().find(matches) {
        return matches!(rule.text("action"), "Restart" | "RestartAllContainers");
    }
    match container.text_if("restartPolicy").unwrap_or(spec.text("restartPolicy")) {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

/// The claim that stands in for the extended resources that containers ask for.
fn extended_claim(errors: &mut ErrorList, status: &Value, spec: &Value, path: &Path<'_>) {
    let Some(claim) = status.get("extendedResourceClaimStatus") else { return };
    let mappings = path.child("requestMappings");
    if claim.items("requestMappings").is_empty() {
        errors.push(Error::required(&mappings, "at least one request mapping is required"));
    }
    let mut seen = Vec::new();
    for (at, mapping) in claim.items("requestMappings").iter().enumerate() {
        let mapping_path = mappings.index(at);
        let fields = ["containerName", "resourceName", "requestName"];
        let [container, resource, request] = fields.map(|field| mapping.text(field));
        let in_spec = ["containers", "initContainers"]
            .into_iter()
            .flat_map(|list| spec.items(list))
            .find(|candidate| candidate.text("name") == container);
        match in_spec {
            Some(c) if c.at(&["resources", "requests", resource]).is_some() => {}
            Some(_) => {
                let why = "must match the extended resource name of an entry in \
                           spec.initContainers.resources.requests or spec.containers.resources.requests";
                errors.push(Error::invalid(&mapping_path.child("resourceName"), resource, why));
            }
            None => {
                let why = "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.push(Error::invalid(&mapping_path.child("containerName"), container, why));
            }
        }
        // The path is upstream's.
        invalid_text(errors, &path.child("requestName"), request, names::dns1123_label(request, false));
        if seen.contains(&[container, resource, request]) {
            for field in fields {
                errors.push(Error::duplicate(&mapping_path.child(field), mapping.text(field)));
            }
        }
        seen.push([container, resource, request]);
    }
    match claim.text("resourceClaimName") {
        "" => errors.push(Error::required(&path.child("resourceClaimName"), "")),
        name => {
            invalid_text(errors, &path.child("resourceClaimName"), name, names::dns1123_subdomain(name, false));
        }
    }
}

fn addresses(errors: &mut ErrorList, status: &Value, old: &Value) {
    let path = Path::new("status");
    for field in ["podIPs", "hostIPs"] {
        let list = status.items(field);
        let list_path = path.child(field);
        if let Some(first) = list.first()
            && field == "hostIPs"
            && status.text("hostIP") != first.text("ip")
        {
            let why = "must be equal to `hostIP`";
            errors.push(Error::invalid(&list_path.index(0).child("ip"), first.text("ip"), why));
        }
        let known: Vec<&str> = old.items(field).iter().map(|ip| ip.text("ip")).collect();
        let mut seen: Vec<&str> = Vec::new();
        for (at, ip) in list.iter().enumerate() {
            errors.extend(api_semantics::ip::validate_legacy(&list_path.index(at), ip.text("ip"), &known));
            seen.push(ip.text("ip"));
        }
        let is_address = |ip: &&str| api_semantics::ip::is_v4(ip) || api_semantics::ip::is_v6(ip);
        if list.len() > 1 && !seen.iter().all(is_address) {
            // The address that could not be read is shown as Go shows none.
            let why = "failed to check for dual stack with error:ip <nil> is invalid";
            errors.push(Error::internal(&list_path, why));
        }
        let has_v4 = seen.iter().any(|ip| api_semantics::ip::is_v4(ip));
        let has_v6 = seen.iter().any(|ip| api_semantics::ip::is_v6(ip));
        if list.len() > 2 || (list.len() == 2 && !(has_v4 && has_v6)) {
            let why = "may specify no more than one IP for each IP family";
            let shown = internal_list(list, "io.k8s.api.core.v1.PodIP");
            errors.push(Error::invalid(&list_path, shown, why));
        }
    }
}

fn container_statuses(errors: &mut ErrorList, status: &Value, spec: &Value) {
    let path = Path::new("status");
    let os = spec.str_at(&["os", "name"]);
    let lists = [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ];
    for (list, _) in lists {
        let list_path = path.child(list);
        for (at, container) in status.items(list).iter().enumerate() {
            let Some(user) = container.at(&["user", "linux"]) else { continue };
            let container_path = list_path.index(at);
            let user_path = container_path.child("user.linux");
            if os == "windows" {
                errors.push(Error::forbidden(&user_path, "cannot be set for a windows pod"));
                continue;
            }
            for (field, check) in [("uid", names::user_id as fn(i64) -> Vec<String>), ("gid", names::group_id)] {
                let id = user.int(field).unwrap_or(0);
                errors.extend(check(id).into_iter().map(|m| Error::invalid(&user_path.child(field), id, m)));
            }
            let groups = user_path.child("supplementalGroups");
            for (group_at, group) in user.items("supplementalGroups").iter().enumerate() {
                let group = group.as_int().unwrap_or(0);
                errors.extend(
                    names::group_id(group).into_iter().map(|m| Error::invalid(&groups.index(group_at), group, m)),
                );
            }
        }
    }
    for (list, containers) in lists {
        let list_path = path.child(list);
        for (at, container) in status.items(list).iter().enumerate() {
            let container_path = list_path.index(at);
            let resources_path = container_path.child("allocatedResourcesStatus");
            if containers.is_empty() {
                if !container.items("allocatedResourcesStatus").is_empty() {
                    errors.push(Error::forbidden(&resources_path, "must not be specified in container status"));
                }
                continue;
            }
            let in_spec = spec.items(containers).iter().find(|c| c.text("name") == container.text("name"));
            for (resource_at, resource) in container.items("allocatedResourcesStatus").iter().enumerate() {
                allocated(errors, resource, in_spec, &resources_path.index(resource_at));
            }
        }
    }
}

fn allocated(errors: &mut ErrorList, resource: &Value, container: Option<&Value>, path: &Path<'_>) {
    let name = resource.text("name");
    if let Some(container) = container {
        let requirements = container.get("resources").unwrap_or(&Value::Null);
        let (found, why) = if name.starts_with("claim:") {
            let is_claim = |claim: &Value| match claim.text("request") {
                "" => name == format!("claim:{}", claim.text("name")),
                request => name == format!("claim:{}/{request}", claim.text("name")),
            };
            (
                requirements.items("claims").iter().any(is_claim),
                "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or \
                 'claim:<claimName>' if request is empty",
            )
        } else {
            (requirements.entries("requests").contains_key(name), "must match one of the container's resource requests")
        };
        if !found {
            errors.push(Error::invalid(&path.child("name"), name, why));
        }
    }
    let resources_path = path.child("resources");
    let mut seen = Vec::new();
    for (at, device) in resource.items("resources").iter().enumerate() {
        let device_path = resources_path.index(at);
        let health = device.text("health");
        if !matches!(health, "Healthy" | "Unhealthy" | "Unknown") {
            let health_path = device_path.child("health");
            errors.push(Error::not_supported(&health_path, health, &["Healthy", "Unhealthy", "Unknown"]));
        }
        if let Some(message) = device.text_if("message") {
            let message_path = device_path.child("message");
            if message.is_empty() {
                errors.push(Error::required(&message_path, "must be non-empty if specified"));
            } else if message.len() > HEALTH_MESSAGE_LEN_MAX {
                errors.push(Error::too_long(&message_path, HEALTH_MESSAGE_LEN_MAX));
            }
        }
        let id = device.text("resourceID");
        if seen.contains(&id) {
            errors.push(Error::duplicate(&device_path.child("resourceID"), id));
        }
        seen.push(id);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value as Json, json};

    use crate::core::pod::Pod;
    use crate::core::pod::tests::{base, changed, updated};

    /// A pod that runs.
    fn running() -> Json {
        changed(
            &base(),
            &[
                r#"containers[0].resources = {"requests":{"cpu":"100m","memory":"64Mi"},"limits":{"cpu":"200m","memory":"128Mi"}}"#,
                r#"containers[1] = {"name":"d","image":"j"}"#,
                r#"initContainers = [{"name":"i","image":"i"},{"name":"s","image":"i","restartPolicy":"Always"}]"#,
                r#"ephemeralContainers = [{"name":"e","image":"i"}]"#,
                "activeDeadlineSeconds = 100",
                r#"nodeName = "n""#,
                r#"tolerations = [{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":10}]"#,
                r#"status = {"phase":"Running","qosClass":"Burstable","podIPs":[{"ip":"1.2.3.4"}]}"#,
                r#"status.containerStatuses = [{"name":"c","state":{"terminated":{"exitCode":0}}}]"#,
                r#"status.initContainerStatuses = [{"name":"i","state":{"terminated":{"exitCode":1}}}]"#,
            ]
            .join(" ; "),
        )
    }

    /// A pod that may not be scheduled yet.
    fn gated() -> Json {
        let mut pod = base();
        pod["spec"]["schedulingGates"] = json!([{"name": "a"}, {"name": "b"}]);
        pod["spec"]["nodeSelector"] = json!({"x": "y"});
        pod["spec"]["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "k", "operator": "Exists"}]}],
        }}});
        pod
    }

    #[test]
    fn little_of_a_pod_changes() {
        updated(
            &Pod,
            &running(),
            "",
            &expect![[r#"
                containers[0].image = "k"
                containers[0].image = ""
                  spec.containers[0].image: Required value
                  spec.containers[0].image: Required value
                  spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
                  spec.containers[0].imagePullPolicy: - "Always" + "IfNotPresent"
                initContainers[0].image = " z"
                  spec.initContainers[0].image: Invalid value: " z": must not have leading or trailing whitespace
                  spec.initContainers[0].image: Invalid value: " z": must not have leading or trailing whitespace
                  spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
                  spec.initContainers[0].imagePullPolicy: - "Always" + "IfNotPresent"
                containers[0].name = "zz"
                  spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
                  spec.containers[0].name: - "c" + "zz"
                containers[0].resources.requests.cpu = "50m"
                  spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
                  spec.containers[0].resources.requests.cpu: - "100m" + "50m"
                containers[2] = {"name":"f","image":"x"}
                  spec.containers: Forbidden: pod updates may not add or remove containers
                activeDeadlineSeconds = 50
                activeDeadlineSeconds = 150
                  spec.activeDeadlineSeconds: Invalid value: 150: must be less than or equal to previous value
                activeDeadlineSeconds = null
                  spec.activeDeadlineSeconds: Invalid value: null: must not update from a positive integer to nil value
                terminationGracePeriodSeconds = 1
                  spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
                  spec.terminationGracePeriodSeconds: - 30 + 1
                tolerations = []
                  spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
                tolerations[0].tolerationSeconds = 20
                tolerations[1] = {"key":"z","operator":"Exists"}
                tolerations[1] = {"key":"z","operator":"X"}
                  spec.tolerations[1].operator: Unsupported value: "X": supported values: "Equal", "Exists"
                  spec.tolerations[1].operator: Unsupported value: "X": supported values: "Equal", "Exists"
                nodeName = "m"
                  spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
                  spec.nodeName: - "n" + "m"
                nodeSelector = {"a":"b"}
                  spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
                  spec.nodeSelector: - nil + {"a":"b"}
                hostNetwork = true
                  spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
                  spec.hostNetwork: - nil + true
                schedulingGates = [{"name":"x"}]
                  spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x'
                metadata.annotations = {"kubernetes.io/config.mirror":"x","container.apparmor.security.beta.kubernetes.io/c":"unconfined"}
                  metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: Forbidden: may not add AppArmor annotations
                  metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation
            "#]],
        );
    }

    #[test]
    fn gates_go_and_constraints_tighten() {
        updated(
            &Pod,
            &gated(),
            "",
            &expect![[r#"
                schedulingGates = []
                schedulingGates = [{"name":"b"}]
                schedulingGates[2] = {"name":"c"}
                  spec.schedulingGates[2].name: Forbidden: only deletion is allowed, but found new scheduling gate 'c'
                nodeSelector = {"x":"y","z":"w"}
                nodeSelector = {"x":"q"}
                  spec.nodeSelector: Invalid value: {"x":"q"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)
                nodeSelector = {}
                  spec.nodeSelector: Invalid value: {}: only additions to spec.nodeSelector are allowed (no mutations or deletions)
                affinity = null
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Invalid value: null: no additions/deletions to non-empty NodeSelectorTerms list are allowed
                affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[1] = {"key":"z","operator":"Exists"}
                affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].key = "zz"
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0]: Invalid value: {"MatchExpressions":[{"Key":"zz","Operator":"Exists","Values":null}],"MatchFields":null}: only additions are allowed (no mutations or deletions)
                affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[1] = {"matchExpressions":[{"key":"z","operator":"Exists"}]}
                  spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Invalid value: [{"MatchExpressions":[{"Key":"k","Operator":"Exists","Values":null}],"MatchFields":null},{"MatchExpressions":[{"Key":"z","Operator":"Exists","Values":null}],"MatchFields":null}]: no additions/deletions to non-empty NodeSelectorTerms list are allowed
                affinity.podAffinity = {}
                  spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
                  spec.affinity.podAffinity: - nil + {}
                nodeName = "n"
                  spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
                  spec.nodeName: - nil + "n"
            "#]],
        );
    }

    #[test]
    fn statuses_are_checked() {
        updated(
            &Pod,
            &running(),
            "status",
            &expect![[r#"
                status.podIPs[1] = {"ip":"1.2.3.5"}
                  status.podIPs: Invalid value: [{"IP":"1.2.3.4"},{"IP":"1.2.3.5"}]: may specify no more than one IP for each IP family
                status.podIPs[0].ip = "x"
                  status.podIPs[0]: Invalid value: "x": must be a valid IP address,
                status.hostIPs = [{"ip":"1.2.3.4"},{"ip":"y"}]
                  status.hostIPs[0].ip: Invalid value: "1.2.3.4": must be equal to `hostIP`
                  status.hostIPs[1]: Invalid value: "y": must be a valid IP address,
                  status.hostIPs: Internal error: failed to check for dual stack with error:ip <nil> is invalid
                  status.hostIPs: Invalid value: [{"IP":"1.2.3.4"},{"IP":"y"}]: may specify no more than one IP for each IP family
                status.nominatedNodeName = "A_"
                  status.nominatedNodeName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character
                  status.nominatedNodeName: Forbidden: may not be set on pods that are already bound to a node
                status.containerStatuses[0].state = {"running":{}}
                status.initContainerStatuses[0].state = {"running":{}}
                status.containerStatuses[0].user = {"linux":{"uid":-1,"gid":0}}
                  status.containerStatuses[0].user.linux.uid: Invalid value: -1: must be between 0 and 2147483647, inclusive
                status.conditions = [{"type":"a b","status":"True","observedGeneration":-1}]
                  status.conditions[0].observedGeneration: Invalid value: -1: must be a non-negative integer
                  status.conditions[0].Type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                status.resourceClaimStatuses = [{"name":"x","resourceClaimName":"y"}]
                  status.resourceClaimStatuses[0].name: Invalid value: "x": must match the name of an entry in `spec.resourceClaims`
                status.observedGeneration = -1
                  status.observedGeneration: Invalid value: -1: must be a non-negative integer
                status.qosClass = "BestEffort"
                  status.qosClass: Invalid value: "BestEffort": field is immutable
            "#]],
        );
    }

    #[test]
    fn only_cpu_and_memory_are_resized() {
        updated(
            &Pod,
            &running(),
            "resize",
            &expect![[r#"
                containers[0].resources.requests.cpu = "50m"
                containers[0].resources.limits.cpu = "10m"
                  spec.containers[0].resources.requests: Invalid value: "100m": must be less than or equal to cpu limit of 10m
                containers[0].resources = {"requests":{"cpu":"100m","memory":"64Mi"}}
                  spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed
                containers[0].resources = {}
                  spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing
                  spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed
                  spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed
                containers[0].resources = {"requests":{"cpu":"200m","memory":"128Mi"},"limits":{"cpu":"200m","memory":"128Mi"}}
                containers[0].resources.requests.ephemeral-storage = "1Gi"
                  spec: Forbidden: only cpu and memory resources are mutable
                containers[0].resizePolicy = [{"resourceName":"cpu","restartPolicy":"RestartContainer"}]
                  spec: Forbidden: only cpu and memory resources are mutable
                containers[1].resources = {"requests":{"cpu":"1"}}
                containers[0].name = "z"
                  spec.containers[0].name: Forbidden: containers may not be renamed or reordered on resize
                containers[2] = {"name":"f","image":"x"}
                  spec.containers: Forbidden: containers may not be added or removed on resize
                containers[0].image = "z"
                initContainers[1].resources = {"requests":{"cpu":"1"}}
                resources = {"requests":{"cpu":"1"}}
                resources = {"requests":{"foo":"1"}}
                  spec.resources.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified
                  spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing
            "#]],
        );
    }

    #[test]
    fn ephemeral_containers_are_only_added() {
        updated(
            &Pod,
            &running(),
            "ephemeralcontainers",
            &expect![[r#"
                ephemeralContainers[1] = {"name":"f","image":"x","targetContainerName":"c"}
                ephemeralContainers[1] = {"name":"c","image":""}
                  spec.ephemeralContainers[1].image: Required value
                  spec.ephemeralContainers[1].name: Duplicate value: "c"
                ephemeralContainers[1] = {"name":"f","image":"x","targetContainerName":"zz"}
                  spec.ephemeralContainers[1].targetContainerName: Not found: "zz"
                ephemeralContainers[1] = {"name":"f","image":"x","ports":[{"containerPort":1}],"resources":{"limits":{"cpu":"1"}},"restartPolicy":"Always"}
                  spec.ephemeralContainers[1].ports: Forbidden: cannot be set for an Ephemeral Container
                  spec.ephemeralContainers[1].resources: Forbidden: cannot be set for an Ephemeral Container
                  spec.ephemeralContainers[1].restartPolicy: Forbidden: cannot be set for an Ephemeral Container
                ephemeralContainers[0].image = "z"
                  spec.ephemeralContainers: Forbidden: existing ephemeral containers "e" may not be changed
                  e.image: - "i" + "z"
                ephemeralContainers = []
                  spec.ephemeralContainers: Forbidden: existing ephemeral containers "e" may not be removed

                containers[0].image = "z"
            "#]],
        );
    }
}
