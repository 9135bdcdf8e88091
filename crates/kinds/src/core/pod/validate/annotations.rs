//! Annotations that mean something to pods: tolerations, deletion cost, and the old forms of seccomp and AppArmor
//! profiles.

use api_codec::json;
use api_schema::{Map, Value};
use api_semantics::field::{Error, ErrorList, Path, quoted};

use super::super::look::{Look, all_containers};
use super::super::prepare::APP_ARMOR_PREFIX;
use super::{has_container, local_descending, scheduling};

/// Marks the pod of a node's own manifest.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";
/// Tolerations before they were a field; nothing reads it, but it must be right.
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// The longest path of a profile: PATH_MAX - 1.
pub(crate) const PROFILE_LEN_MAX: usize = 4095;

fn of(object: &Value) -> Map {
    object.map_at(&["metadata", "annotations"]).cloned().unwrap_or_default()
}

/// The annotations of a pod or template that pods give a meaning.
pub(crate) fn specific(errors: &mut ErrorList, object: &Value, path: &Path<'_>) {
    let Some(annotations) = object.map_at(&["metadata", "annotations"]) else { return };
    let text = |key: &str| annotations.get(key).and_then(Value::as_str);
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if let Some(mirror) = text(MIRROR)
        && spec.text("nodeName").is_empty()
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(Error::invalid(&path.key(MIRROR), mirror, why));
    }
    if let Some(cost) = text(DELETION_COST)
        && !is_deletion_cost(cost)
    {
        errors.push(Error::invalid(&path.key(DELETION_COST), cost, "must be a 32bit integer"));
    }
    if let Some(profile) = text(SECCOMP_POD) {
        seccomp_profile(errors, profile, &path.child(SECCOMP_POD));
    }
    for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with(SECCOMP_CONTAINER_PREFIX)) {
        seccomp_profile(errors, value.as_str().unwrap_or_default(), &path.child(key));
    }
    if let Some(listed) = text(TOLERATIONS).filter(|listed| !listed.is_empty()) {
        match json::decode(None, listed.as_bytes(), json::Options::default()) {
            Err(why) => errors.push(Error::invalid(path, TOLERATIONS, why.to_string())),
            Ok(listed) => {
                let listed = listed.value.as_list().unwrap_or_default();
                scheduling::tolerations(errors, listed, &path.child(TOLERATIONS));
            }
        }
    }
    for (key, value) in annotations.iter() {
        let Some(container) = key.strip_prefix(APP_ARMOR_PREFIX) else { continue };
        if !has_container(spec, container) {
            errors.push(Error::invalid(&path.key(key), container, "container not found"));
        }
        let profile = value.as_str().unwrap_or_default();
        if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with("localhost/") {
            let why = format!("invalid AppArmor profile name: {}", quoted(profile));
            errors.push(Error::invalid(&path.key(key), profile, why));
        }
    }
}

/// A 32-bit number without plus sign or leading zeros.
fn is_deletion_cost(text: &str) -> bool {
    let starts_well = text.starts_with('-') || text == "0" || text.starts_with(|c: char| matches!(c, '1'..='9'));
    starts_well && text.parse::<i32>().is_ok()
}

fn seccomp_profile(errors: &mut ErrorList, profile: &str, path: &Path<'_>) {
    match profile {
        "runtime/default" | "docker/default" | "unconfined" => {}
        _ => match profile.strip_prefix("localhost/") {
            Some(file) => local_descending(errors, file, path),
            None => errors.push(Error::invalid(path, profile, "must be a valid seccomp profile")),
        },
    }
}

/// What may not change about annotations once the pod exists.
pub(crate) fn update(errors: &mut ErrorList, new: &Value, old: &Value) {
    let path = Path::new("metadata.annotations");
    let (new_annotations, old_annotations) = (of(new), of(old));
    let mut forbid = |key: &str, verb: &str| {
        if key.starts_with(APP_ARMOR_PREFIX) {
            errors.push(Error::forbidden(&path.key(key), format!("may not {verb} AppArmor annotations")));
        }
        if key == MIRROR {
            errors.push(Error::forbidden(&path.key(key), format!("may not {verb} mirror pod annotation")));
        }
    };
    for (key, value) in old_annotations.iter() {
        if new_annotations.get(key) != Some(value) {
            forbid(key, "remove or update");
        }
    }
    for key in new_annotations.keys().filter(|key| !old_annotations.contains_key(key)) {
        forbid(key, "add");
    }
    specific(errors, new, &path);
}

/// Where seccomp profiles are given both ways, they must agree.
pub(crate) fn seccomp_fields(errors: &mut ErrorList, object: &Value, spec_path: &Path<'_>) {
    let annotations = of(object);
    if annotations.is_empty() {
        return;
    }
    let text = |key: &str| annotations.get(key).and_then(Value::as_str);
    let spec = object.get("spec").unwrap_or(&Value::Null);
    if let (Some(annotation), Some(profile)) = (text(SECCOMP_POD), spec.at(&["securityContext", "seccompProfile"])) {
        seccomp_matches(errors, annotation, profile, &spec_path.child("securityContext.seccompProfile"));
    }
    for (list, at, container) in all_containers(spec) {
        let key = format!("{SECCOMP_CONTAINER_PREFIX}{}", container.text("name"));
        if let (Some(annotation), Some(profile)) = (text(&key), container.at(&["securityContext", "seccompProfile"])) {
            let containers = spec_path.child(list);
            let path = containers.index(at);
            seccomp_matches(errors, annotation, profile, &path.child("securityContext.seccompProfile"));
        }
    }
}

fn seccomp_matches(errors: &mut ErrorList, annotation: &str, profile: &Value, path: &Path<'_>) {
    let same_type = match profile.text("type") {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => matches!(annotation, "runtime/default" | "docker/default"),
        "Localhost" => annotation.starts_with("localhost/"),
        _ => true,
    };
    if !same_type {
        errors.push(Error::forbidden(&path.child("type"), "seccomp type in annotation and field must match"));
    } else if profile.text("type") == "Localhost"
        && annotation.strip_prefix("localhost/") != profile.text_if("localhostProfile")
    {
        let why = "seccomp profile in annotation and field must match";
        errors.push(Error::forbidden(&path.child("localhostProfile"), why));
    }
}

/// Where AppArmor profiles are given both ways, they must agree.
pub(crate) fn app_armor_fields(errors: &mut ErrorList, pod: &Value, spec_path: &Path<'_>) {
    let annotations = of(pod);
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    if annotations.is_empty() || spec.str_at(&["os", "name"]) == "windows" {
        return;
    }
    let pod_profile = spec.at(&["securityContext", "appArmorProfile"]);
    for (list, at, container) in all_containers(spec) {
        let profile = container.at(&["securityContext", "appArmorProfile"]).or(pod_profile);
        let key = format!("{APP_ARMOR_PREFIX}{}", container.text("name"));
        let (Some(profile), Some(annotation)) = (profile, annotations.get(&key).and_then(Value::as_str)) else {
            continue;
        };
        let containers = spec_path.child(list);
        let container_path = containers.index(at);
        let path = container_path.child("securityContext.appArmorProfile");
        let same_type = match profile.text("type") {
            "Unconfined" => annotation == "unconfined",
            "RuntimeDefault" => annotation == "runtime/default",
            "Localhost" => annotation.starts_with("localhost/"),
            _ => true,
        };
        if !same_type {
            errors.push(Error::forbidden(&path.child("type"), "apparmor type in annotation and field must match"));
        } else if profile.text("type") == "Localhost"
            && annotation.strip_prefix("localhost/") != profile.text_if("localhostProfile")
        {
            let why = "apparmor profile in annotation and field must match";
            errors.push(Error::forbidden(&path.child("localhostProfile"), why));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::core::pod::tests::pods;

    #[test]
    fn annotations_of_old_are_checked() {
        pods(&expect![[r#"
                metadata.annotations = {"kubernetes.io/config.mirror":"x"}
                  metadata.annotations[kubernetes.io/config.mirror]: Invalid value: "x": must set spec.nodeName if mirror pod annotation is set
                metadata.annotations = {"controller.kubernetes.io/pod-deletion-cost":"+1"}
                  metadata.annotations[controller.kubernetes.io/pod-deletion-cost]: Invalid value: "+1": must be a 32bit integer
                metadata.annotations = {"controller.kubernetes.io/pod-deletion-cost":"-5"}
                metadata.annotations = {"seccomp.security.alpha.kubernetes.io/pod":"x"}
                  metadata.annotations.seccomp.security.alpha.kubernetes.io/pod: Invalid value: "x": must be a valid seccomp profile
                    metadata.annotations[seccomp.security.alpha.kubernetes.io/pod]: non-functional in v1.27+; use the "seccompProfile" field instead
                metadata.annotations = {"container.apparmor.security.beta.kubernetes.io/c":"bad"}
                  metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: Invalid value: "bad": invalid AppArmor profile name: "bad"
                    metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead
                metadata.annotations = {"container.apparmor.security.beta.kubernetes.io/zz":"runtime/default"}
                  metadata.annotations[container.apparmor.security.beta.kubernetes.io/zz]: Invalid value: "zz": container not found
                metadata.annotations = {"container.apparmor.security.beta.kubernetes.io/c":"unconfined"} ; containers[0].securityContext = {"appArmorProfile":{"type":"RuntimeDefault"}}
                  spec.containers[0].securityContext.appArmorProfile.type: Forbidden: apparmor type in annotation and field must match
                metadata.annotations = {"seccomp.security.alpha.kubernetes.io/pod":"runtime/default"} ; securityContext = {"seccompProfile":{"type":"Unconfined"}}
                  spec.securityContext.seccompProfile.type: Forbidden: seccomp type in annotation and field must match
                metadata.annotations = {"scheduler.alpha.kubernetes.io/tolerations":"x"}
                  metadata.annotations: Invalid value: "scheduler.alpha.kubernetes.io/tolerations": invalid character 'x' looking for beginning of value
                metadata.annotations = {"scheduler.alpha.kubernetes.io/tolerations":"[{\"key\":\"a b\"}]"}
                  metadata.annotations.scheduler.alpha.kubernetes.io/tolerations[0].key: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
            "#]]);
    }
}
