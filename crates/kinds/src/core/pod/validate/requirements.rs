//! Resource requirements, of containers and of the pod as a whole, and resource claims.

use std::collections::BTreeSet;

use api_schema::{Map, Value};
use api_semantics::field::{Error, ErrorList, Path, shown};
use api_semantics::names;

use crate::checks::invalid_text;

use super::super::look::Look;
use super::super::resources::{self, Half};
use super::{Options, Surroundings, invalid_without_value, is_divisible};

/// Requests and limits; `is_pod_level` says whether they are the pod's as a whole.
pub(super) fn requirements(
    errors: &mut ErrorList,
    requirements: &Value,
    claims: &BTreeSet<&str>,
    path: &Path<'_>,
    options: Options<'_>,
    is_pod_level: bool,
) {
    let (limits_path, requests_path) = (path.child("limits"), path.child("requests"));
    let limits = requirements.entries("limits");
    let (mut has_compute, mut has_huge_pages) = (false, false);
    let mut one = |errors: &mut ErrorList, name: &str, value: &Value, path: &Path<'_>| {
        resource_name(errors, name, path, is_pod_level);
        resource_quantity(errors, name, value, path);
        has_compute |= matches!(name, "cpu" | "memory");
        if resources::is_huge_page(name) {
            has_huge_pages = true;
        }
    };
    let huge_pages = |errors: &mut ErrorList, name: &str, value: &Value, path: &Path<'_>| {
        if resources::is_huge_page(name) && !options.lenient.indivisible_huge_pages && !is_divisible(name, value) {
            let text = resources::quantity(value).to_string();
            let why = format!("{text} is not positive integer multiple of {name}");
            errors.push(Error::invalid(path, text, why));
        }
    };
    for (name, value) in limits.iter() {
        one(errors, name, value, &limits_path.key(name));
        huge_pages(errors, name, value, &limits_path.key(name));
    }
    for (name, value) in requirements.entries("requests").iter() {
        one(errors, name, value, &requests_path.key(name));
        let quantity = resources::quantity(value);
        match limits.get(name).map(resources::quantity) {
            Some(limit) if quantity != limit && !resources::may_overcommit(name) => {
                let why = format!("must be equal to {name} limit of {limit}");
                errors.push(Error::invalid(&requests_path, quantity.to_string(), why));
            }
            Some(limit) if quantity > limit => {
                let why = format!("must be less than or equal to {name} limit of {limit}");
                errors.push(Error::invalid(&requests_path, quantity.to_string(), why));
            }
            None if !resources::may_overcommit(name) => {
                errors.push(Error::required(&limits_path, "Limit must be set for non overcommitable resources"));
            }
            _ => {}
        }
        huge_pages(errors, name, value, &requests_path.key(name));
    }
    if has_huge_pages && !has_compute {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
    claim_names(errors, requirements.items("claims"), claims, &path.child("claims"));
}

/// Whether a container asks for huge pages that are no whole number of them.
pub(super) fn has_indivisible_huge_pages(container: &Value) -> bool {
    ["limits", "requests"].iter().any(|half| {
        let list = container.get("resources").map(|resources| resources.entries(half));
        list.is_some_and(|list| {
            list.iter().any(|(name, value)| resources::is_huge_page(name) && !is_divisible(name, value))
        })
    })
}

fn resource_name(errors: &mut ErrorList, name: &str, path: &Path<'_>, is_pod_level: bool) {
    let messages = names::qualified_name(name);
    let is_qualified = messages.is_empty();
    invalid_text(errors, path, name, messages);
    let is_known = name.contains('/') || resources::is_standard(name);
    if is_qualified && !is_known {
        errors.push(Error::invalid(path, name, "must be a standard resource type or fully qualified"));
    }
    if is_pod_level {
        if is_qualified && is_known && !resources::is_pod_level(name) {
            errors.push(Error::not_supported(path, name, &["cpu", "hugepages-", "memory"]));
        }
        return;
    }
    if !name.contains('/') {
        if !matches!(name, "cpu" | "memory" | "ephemeral-storage") && !resources::is_huge_page(name) {
            errors.push(Error::invalid(path, name, "must be a standard resource for containers"));
        }
    } else if !resources::is_native(name) && !resources::is_extended(name) {
        errors.push(Error::invalid(path, name, "doesn't follow extended resource name standard"));
    }
}

/// A quantity of a resource: not negative, and whole if the resource comes in pieces.
pub(crate) fn resource_quantity(errors: &mut ErrorList, name: &str, value: &Value, path: &Path<'_>) {
    let quantity = resources::quantity(value);
    if quantity.sign() < 0 {
        errors.push(Error::invalid(path, quantity.to_string(), names::NEGATIVE));
    }
    if resources::is_integer(name) && !quantity.is_whole() {
        errors.push(Error::invalid(path, quantity.to_string(), "must be an integer"));
    }
}

/// What containers use of the pod's claims.
fn claim_names(errors: &mut ErrorList, used: &[Value], claims: &BTreeSet<&str>, path: &Path<'_>) {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (at, claim) in used.iter().enumerate() {
        let claim_path = path.index(at);
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.push(Error::required(&claim_path, ""));
            continue;
        }
        if seen.contains(name) {
            // All requests of the claim are in use already.
            errors.push(Error::duplicate(&claim_path, name));
        } else {
            let mut key = name.to_owned();
            if !request.is_empty() {
                invalid_text(errors, &claim_path.child("request"), request, names::dns1123_label(request, false));
                key = format!("{name}/{request}");
            }
            if seen.contains(&key) {
                errors.push(Error::duplicate(&claim_path, key.as_str()));
            } else if request.is_empty() {
                let overlaps =
                    seen.iter().filter(|other| other.split_once('/').is_some_and(|(claim, _)| claim == name));
                errors.extend(overlaps.map(|_| Error::duplicate(&claim_path, name)));
            }
            seen.insert(key);
        }
        if !claims.contains(name) {
            let mut error = Error::not_found(&claim_path, name);
            error.detail = match claims.len() {
                0 => "must be one of the names in pod.spec.resourceClaims which is empty".to_owned(),
                _ => {
                    let names: Vec<&str> = claims.iter().copied().collect();
                    format!("must be one of the names in pod.spec.resourceClaims: {}", names.join(", "))
                }
            };
            errors.push(error);
        }
    }
}

/// The pod's claims.
pub(super) fn pod_claims(errors: &mut ErrorList, claims: &[Value], path: &Path<'_>) {
    let mut seen = BTreeSet::new();
    for (at, claim) in claims.iter().enumerate() {
        let claim_path = path.index(at);
        let name = claim.text("name");
        if name.is_empty() {
            errors.push(Error::required(&claim_path.child("name"), ""));
        } else if !seen.insert(name) {
            errors.push(Error::duplicate(&claim_path.child("name"), name));
        } else {
            invalid_text(errors, &claim_path.child("name"), name, names::dns1123_label(name, false));
        }
        let fields = ["resourceClaimName", "resourceClaimTemplateName"];
        match fields.iter().filter(|field| claim.has(field)).count() {
            1 => {}
            0 => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.push(claim_error(&claim_path, claim, why));
            }
            _ => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.push(claim_error(&claim_path, claim, why));
            }
        }
        for field in fields {
            if let Some(name) = claim.text_if(field) {
                invalid_text(errors, &claim_path.child(field), name, names::dns1123_subdomain(name, false));
            }
        }
    }
}

/// Upstream shows the claim with the field names of its Go struct.
fn claim_error(path: &Path<'_>, claim: &Value, why: &str) -> Error {
    let mut error = invalid_without_value(path, "");
    let field = |name: &str| claim.get(name).map_or_else(|| "null".to_owned(), shown);
    error.value = format!(
        "{{\"Name\":{},\"ResourceClaimName\":{},\"ResourceClaimTemplateName\":{}}}",
        shown(&Value::from(claim.text("name"))),
        field("resourceClaimName"),
        field("resourceClaimTemplateName")
    );
    error.detail = why.to_owned();
    error
}

/// The resources of the pod as a whole must cover its containers.
pub(super) fn pod_level(errors: &mut ErrorList, around: &Surroundings<'_>, path: &Path<'_>) {
    let Some(pod) = around.spec.get("resources") else { return };
    if around.spec.str_at(&["os", "name"]) == "windows" {
        errors.push(Error::forbidden(path, "may not be set for a windows pod"));
        return;
    }
    if pod.has("claims") {
        errors.push(Error::forbidden(&path.child("claims"), "claims may not be set for Resources at pod-level"));
    }
    requirements(errors, pod, &around.claims, path, around.options, true);
    let requests_path = path.child("requests");
    let requests: &Map = pod.entries("requests");
    for (name, needed) in resources::aggregate(around.spec, Half::Requests) {
        let Some(asked) = requests.get(&name).map(resources::quantity) else { continue };
        if needed > asked {
            let why = format!("must be greater than or equal to aggregate container requests of {needed}");
            errors.push(Error::invalid(&requests_path.key(&name), asked.to_string(), why));
        }
    }
    let limits_path = path.child("limits");
    for (name, needed) in resources::aggregate(around.spec, Half::Limits) {
        let Some(limit) = pod.entries("limits").get(&name).map(resources::quantity) else { continue };
        // Huge pages cannot be promised twice.
        if resources::is_huge_page(&name) && needed > limit {
            let why = format!("must be greater than or equal to aggregate container limits of {needed}");
            errors.push(Error::invalid(&limits_path.key(&name), limit.to_string(), why));
        }
    }
    for (at, container) in around.spec.items("containers").iter().enumerate() {
        for (name, limit) in resources::list(container, Half::Limits) {
            let Some(pod_limit) = pod.entries("limits").get(&name).map(resources::quantity) else { continue };
            if limit > pod_limit {
                // The path is upstream's.
                let containers = path.child("containers");
                let container_path = containers.index(at);
                let why = format!("must be less than or equal to pod limits of {pod_limit}");
                errors.push(Error::invalid(&container_path.key(&name).child("limits"), limit.to_string(), why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::core::pod::tests::pods;

    #[test]
    fn requests_stay_below_limits() {
        pods(&expect![[r#"
                containers[0].resources = {"requests":{"cpu":"2"},"limits":{"cpu":"1"}}
                  spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
                containers[0].resources = {"limits":{"cpu":"-1"}}
                  spec.containers[0].resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0
                  spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0
                containers[0].resources = {"limits":{"memory":"1.5"}}
                    spec.containers[0].resources.limits[memory]: fractional byte value "1500m" is invalid, must be an integer
                    spec.containers[0].resources.requests[memory]: fractional byte value "1500m" is invalid, must be an integer
                containers[0].resources = {"limits":{"foo":"1"}}
                  spec.containers[0].resources.limits[foo]: Invalid value: "foo": must be a standard resource type or fully qualified
                  spec.containers[0].resources.limits[foo]: Invalid value: "foo": must be a standard resource for containers
                  spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource type or fully qualified
                  spec.containers[0].resources.requests[foo]: Invalid value: "foo": must be a standard resource for containers
                containers[0].resources = {"limits":{"example.com/gpu":"1.5"}}
                  spec.containers[0].resources.limits[example.com/gpu]: Invalid value: "1500m": must be an integer
                  spec.containers[0].resources.requests[example.com/gpu]: Invalid value: "1500m": must be an integer
                containers[0].resources = {"requests":{"example.com/gpu":"1"}}
                  spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources
                containers[0].resources = {"limits":{"hugepages-2Mi":"2Mi"}}
                  spec.containers[0].resources: Forbidden: HugePages require cpu or memory
                containers[0].resources = {"limits":{"hugepages-2Mi":"3Mi","cpu":"1"}}
                  spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi
                  spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi
                containers[0].resources = {"requests":{"hugepages-2Mi":"2Mi","cpu":"1"},"limits":{"hugepages-2Mi":"4Mi"}}
                  spec.containers[0].resources.requests: Invalid value: "2Mi": must be equal to hugepages-2Mi limit of 4Mi
                containers[0].resources = {"limits":{"kubernetes.io/foo":"1"}}
                containers[0].resources = {"limits":{"a b":"1"}}
                  spec.containers[0].resources.limits[a b]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                  spec.containers[0].resources.limits[a b]: Invalid value: "a b": must be a standard resource for containers
                  spec.containers[0].resources.requests[a b]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                  spec.containers[0].resources.requests[a b]: Invalid value: "a b": must be a standard resource for containers
                containers[0].resources = {"claims":[{"name":"a"}]}
                  spec.containers[0].resources.claims[0]: Not found: "a": must be one of the names in pod.spec.resourceClaims which is empty
                resourceClaims = [{"name":"a","resourceClaimName":"b","resourceClaimTemplateName":"c"}]
                  spec.resourceClaims[0]: Invalid value: {"Name":"a","ResourceClaimName":"b","ResourceClaimTemplateName":"c"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified
                resourceClaims = [{"name":"A","resourceClaimName":"B"}]
                  spec.resourceClaims[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character
                  spec.resourceClaims[0].resourceClaimName: Invalid value: "B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character
                resources = {"limits":{"cpu":"1"},"requests":{"cpu":"2"}}
                  spec.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
                resources = {"limits":{"ephemeral-storage":"1G"}}
                  spec.resources.limits[ephemeral-storage]: Unsupported value: "ephemeral-storage": supported values: "cpu", "hugepages-", "memory"
                resources = {"requests":{"cpu":"1"}} ; containers[0].resources = {"requests":{"cpu":"2"}}
                  spec.resources.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 2
                overhead = {"foo":"1"}
                  spec.overhead.limits[foo]: Invalid value: "foo": must be a standard resource type or fully qualified
                  spec.overhead.limits[foo]: Invalid value: "foo": must be a standard resource for containers
            "#]]);
    }
}
