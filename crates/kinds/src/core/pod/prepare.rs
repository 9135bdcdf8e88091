//! What the server does to a pod before it checks it: clears what clients may not set, derives what is derived.

use api_schema::{Map, Value};

use super::look::{CONTAINER_LISTS, Fill, Look, all_containers};
use super::resources;

/// The annotations, one for each container, that came before `appArmorProfile`.
pub(crate) const APP_ARMOR_PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";

const CONTAINER_STATUS_LISTS: [&str; 3] = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];

/// A new pod.
pub(crate) fn create(pod: &mut Value) {
    let spec = pod.entry(&["spec"]);
    drop_disabled(spec, None);
    let mut status = Map::new();
    status.insert("phase", "Pending");
    status.insert("qosClass", resources::qos_class(spec));
    if !spec.items("schedulingGates").is_empty() {
        status.insert("conditions", vec![scheduling_gated()]);
    }
    pod.set(&["status"], status);
    merge_label_keys(pod);
    app_armor_from_annotations(pod);
}

/// An update of the pod itself.
pub(crate) fn update(new: &mut Value, old: &Value) {
    drop_disabled(new.entry(&["spec"]), old.get("spec"));
}

/// An update of the status.
pub(crate) fn status_update(new: &mut Value, old: &Value) {
    for field in ["ownerReferences", "deletionTimestamp"] {
        take_from(new, old, &["metadata", field]);
    }
    if new.str_at(&["status", "qosClass"]).is_empty() {
        take_from(new, old, &["status", "qosClass"]);
    }
    if new.int_at(&["status", "observedGeneration"]).unwrap_or(0) == 0 {
        take_from(new, old, &["status", "observedGeneration"]);
    }
    keep_observed_generations(new, old);
    drop_disabled_status(new.entry(&["status"]), old.get("status"));
}

/// Clears the fields of a status that belong to features that 1.36 has off by default.
fn drop_disabled_status(status: &mut Value, old: Option<&Value>) {
    // DRANodeAllocatableResources is alpha.
    if !old.is_some_and(|old| old.has("nodeAllocatableResourceClaimStatuses")) {
        status.remove(&["nodeAllocatableResourceClaimStatuses"]);
    }
    // ImageVolumeWithDigest is alpha.
    let mount_statuses = |status: &Value| {
        CONTAINER_STATUS_LISTS.iter().any(|list| {
            let mounts = status.items(list).iter().flat_map(|container| container.items("volumeMounts"));
            mounts.into_iter().any(|mount| mount.has("volumeStatus"))
        })
    };
    if !old.is_some_and(mount_statuses) {
        for list in CONTAINER_STATUS_LISTS {
            status.each(list, |container| {
                container.each("volumeMounts", |mount| drop(mount.remove(&["volumeStatus"])));
            });
        }
    }
}

/// Conditions that a client sends without observedGeneration keep the one they had.
fn keep_observed_generations(new: &mut Value, old: &Value) {
    let mut known: Vec<(&str, i64)> = old
        .list_at(&["status", "conditions"])
        .iter()
        .map(|condition| (condition.text("type"), condition.int("observedGeneration").unwrap_or(0)))
        .collect();
    new.with("status", |status| {
        status.each("conditions", |condition| {
            let Some(at) = known.iter().position(|(name, _)| *name == condition.text("type")) else { return };
            let (_, generation) = known.remove(at);
            if generation != 0 {
                condition.fill_zero("observedGeneration", generation);
            }
        });
    });
}

/// An update through `ephemeralcontainers`: nothing else of the spec changes.
pub fn prepare_ephemeral_containers_update(new: &mut Value, old: &Value) {
    let containers = new.remove(&["spec", "ephemeralContainers"]);
    reset_for_subresource(new, old);
    match containers {
        Some(containers) => new.set(&["spec", "ephemeralContainers"], containers),
        None => drop(new.remove(&["spec", "ephemeralContainers"])),
    }
    update(new, old);
}

/// An update through `resize`: of the spec, only the resources and resize policies change. Containers that were
/// added, removed or renamed are left for validation to refuse.
pub fn prepare_resize(new: &mut Value, old: &Value) {
    let names = |pod: &Value, list: &str| -> Vec<String> {
        pod.list_at(&["spec", list]).iter().map(|container| container.text("name").to_owned()).collect()
    };
    let lists = ["containers", "initContainers"];
    if lists.iter().any(|list| names(new, list) != names(old, list)) {
        return;
    }
    let wanted = std::mem::take(new.entry(&["spec"]));
    reset_for_subresource(new, old);
    copy_field(new.entry(&["spec"]), &wanted, "resources");
    for list in lists {
        let mut wanted = wanted.items(list).iter();
        new.entry(&["spec"]).each(list, |container| {
            let Some(wanted) = wanted.next() else { return };
            copy_field(container, wanted, "resources");
            copy_field(container, wanted, "resizePolicy");
        });
    }
    update(new, old);
}

/// Spec, status and most metadata are the old ones, as with status updates.
fn reset_for_subresource(new: &mut Value, old: &Value) {
    take_from(new, old, &["spec"]);
    take_from(new, old, &["status"]);
    for field in [
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generation",
        "labels",
        "annotations",
        "ownerReferences",
        "selfLink",
        "creationTimestamp",
        "generateName",
    ] {
        take_from(new, old, &["metadata", field]);
    }
}

/// What binding a pod to a node changes: the node's name, the labels and annotations that the binding brings, and
/// the condition PodScheduled. `now` is an RFC 3339 time.
pub fn bind(pod: &mut Value, binding: &Value, now: &str) {
    pod.set(&["spec", "nodeName"], binding.str_at(&["target", "name"]));
    for field in ["annotations", "labels"] {
        for (key, value) in binding.get("metadata").map_or(&Map::new(), |metadata| metadata.entries(field)).iter() {
            pod.set(&["metadata", field, key], value.clone());
        }
    }
    let mut condition = Map::new();
    condition.insert("type", "PodScheduled");
    condition.insert("status", "True");
    set_condition(pod.entry(&["status"]), condition, now);
}

/// Adds a condition, or replaces the one of its type, whose transition time stays if its status stays.
fn set_condition(status: &mut Value, mut condition: Map, now: &str) {
    let kind = condition.get("type").cloned();
    let mut transition = Value::from(now);
    let mut conditions = status.items("conditions").to_vec();
    let existing = conditions.iter_mut().find(|candidate| candidate.get("type") == kind.as_ref());
    if let Some(existing) = &existing
        && existing.get("status") == condition.get("status")
        && let Some(since) = existing.get("lastTransitionTime")
    {
        transition = since.clone();
    }
    condition.insert("lastTransitionTime", transition);
    condition.insert("lastProbeTime", Value::Null);
    match existing {
        Some(existing) => *existing = condition.into(),
        None => conditions.push(condition.into()),
    }
    status.set(&["conditions"], conditions);
}

fn scheduling_gated() -> Value {
    Value::from([
        ("type", "PodScheduled"),
        ("status", "False"),
        ("reason", "SchedulingGated"),
        ("message", "Scheduling is blocked due to non-empty scheduling gates"),
    ])
}

/// Sets the time of the condition that [`create`] adds.
pub(crate) fn stamp(pod: &mut Value, now: &str) {
    pod.with("status", |status| {
        status.each("conditions", |condition| condition.fill_zero("lastTransitionTime", now));
    });
}

fn take_from(new: &mut Value, old: &Value, path: &[&str]) {
    match old.at(path) {
        Some(value) => new.set(path, value.clone()),
        None => drop(new.remove(path)),
    }
}

fn copy_field(to: &mut Value, from: &Value, field: &str) {
    match from.get(field) {
        Some(value) => to.set(&[field], value.clone()),
        None => drop(to.remove(&[field])),
    }
}

/// Clears the fields of features that 1.36 has off by default, unless the old spec already used them.
pub(crate) fn drop_disabled(spec: &mut Value, old: Option<&Value>) {
    let used = |field: &dyn Fn(&Value) -> bool| old.is_some_and(field);
    // GenericWorkload is alpha.
    if !used(&|old| old.has("schedulingGroup")) {
        spec.remove(&["schedulingGroup"]);
    }
    // ClusterTrustBundleProjection and PodCertificateRequest are off; their API groups are not served by default.
    for projection in ["clusterTrustBundle", "podCertificate"] {
        let projects = |old: &Value| {
            old.items("volumes").iter().any(|volume| {
                volume.get("projected").is_some_and(|p| p.items("sources").iter().any(|source| source.has(projection)))
            })
        };
        if !used(&projects) {
            spec.each("volumes", |volume| {
                volume.with("projected", |projected| {
                    projected.each("sources", |source| drop(source.remove(&[projection])));
                });
            });
        }
    }
    // ContainerStopSignals is alpha.
    let stops =
        |old: &Value| all_containers(old).any(|(.., container)| container.at(&["lifecycle", "stopSignal"]).is_some());
    if !used(&stops) {
        for list in CONTAINER_LISTS {
            spec.each(list, |container| {
                if container.remove(&["lifecycle", "stopSignal"]).is_some()
                    && container.at(&["lifecycle"]).is_some_and(Value::is_zero)
                {
                    container.remove(&["lifecycle"]);
                }
            });
        }
    }
}

/// Turns the label keys of affinity terms and spread constraints into expressions of their selectors, with the pod's
/// own values.
fn merge_label_keys(pod: &mut Value) {
    let labels = pod.map_at(&["metadata", "labels"]).cloned().unwrap_or_default();
    let merge = |holder: &mut Value| {
        if !holder.has("labelSelector") {
            return;
        }
        for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
            let keys: Vec<String> = holder.texts(field).map(str::to_owned).collect();
            for key in keys {
                let Some(value) = labels.get(&key) else { continue };
                let mut expression = Map::new();
                expression.insert("key", key.as_str());
                expression.insert("operator", operator);
                expression.insert("values", vec![value.clone()]);
                let expressions = holder.entry(&["labelSelector", "matchExpressions"]);
                match expressions {
                    Value::List(list) => list.push(expression.into()),
                    other => *other = Value::List(vec![expression.into()]),
                }
            }
        }
    };
    let spec = pod.entry(&["spec"]);
    spec.with("affinity", |affinity| {
        for side in ["podAffinity", "podAntiAffinity"] {
            affinity.with(side, |terms| {
                terms.each("preferredDuringSchedulingIgnoredDuringExecution", |weighted| {
                    weighted.with("podAffinityTerm", merge);
                });
                terms.each("requiredDuringSchedulingIgnoredDuringExecution", merge);
            });
        }
    });
    spec.each("topologySpreadConstraints", merge);
}

/// The AppArmor profile that an annotation stands for.
pub(crate) fn app_armor_profile(annotation: &str) -> Option<Value> {
    Some(match annotation {
        "unconfined" => Value::from([("type", "Unconfined")]),
        "runtime/default" => Value::from([("type", "RuntimeDefault")]),
        _ => {
            let profile = annotation.strip_prefix("localhost/").filter(|profile| {
                !profile.is_empty() && profile.trim() == *profile && profile.len() <= super::validate::PROFILE_LEN_MAX
            })?;
            Value::from([("type", "Localhost"), ("localhostProfile", profile)])
        }
    })
}

/// Old clients state AppArmor profiles as annotations; the fields are what counts.
fn app_armor_from_annotations(pod: &mut Value) {
    if pod.str_at(&["spec", "os", "name"]) == "windows" {
        return;
    }
    let annotations = pod.map_at(&["metadata", "annotations"]).cloned().unwrap_or_default();
    let spec = pod.entry(&["spec"]);
    let pod_profile = spec.at(&["securityContext", "appArmorProfile"]).cloned();
    for list in CONTAINER_LISTS {
        spec.each(list, |container| {
            let key = format!("{APP_ARMOR_PREFIX}{}", container.text("name"));
            let Some(annotation) = annotations.get(&key).and_then(Value::as_str) else { return };
            if container.at(&["securityContext", "appArmorProfile"]).is_some() {
                return;
            }
            if let Some(profile) = app_armor_profile(annotation).filter(|profile| Some(profile) != pod_profile.as_ref())
            {
                container.set(&["securityContext", "appArmorProfile"], profile);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::Kind;
    use crate::checks::tests::json;
    use crate::core::pod::Pod;
    use crate::core::pod::tests::{base, changed, tree};

    use super::*;

    fn created(line: &str) -> Value {
        let mut pod = tree(&changed(&base(), line));
        Pod.default(&mut pod);
        Pod.prepare_create(&mut pod);
        pod
    }

    #[test]
    fn a_new_pod_is_pending_in_a_class() {
        for (line, class) in [
            ("", "BestEffort"),
            (r#"containers[0].resources = {"requests":{"cpu":"1"}}"#, "Burstable"),
            (r#"containers[0].resources = {"limits":{"cpu":"1","memory":"1"}}"#, "Guaranteed"),
            (r#"containers[0].resources = {"limits":{"cpu":"1"}}"#, "Burstable"),
            (r#"resources = {"limits":{"cpu":"1","memory":"1"}}"#, "Guaranteed"),
        ] {
            let mut status = Map::new();
            status.insert("phase", "Pending");
            status.insert("qosClass", class);
            assert_eq!(created(line).get("status"), Some(&Value::Map(status)), "{line}");
        }
    }

    #[test]
    fn a_gated_pod_says_so_and_when() {
        let mut pod = created(r#"schedulingGates = [{"name":"a"}] ; status = {"phase":"Running"}"#);
        Pod.stamp(&mut pod, None, "2026-01-01T00:00:00Z");
        assert_eq!(
            pod.at(&["status", "conditions"]),
            Some(&json(
                r#"[{"type":"PodScheduled","status":"False","reason":"SchedulingGated",
                    "message":"Scheduling is blocked due to non-empty scheduling gates",
                    "lastTransitionTime":"2026-01-01T00:00:00Z"}]"#
            ))
        );
    }

    #[test]
    fn labels_become_expressions_and_annotations_become_fields() {
        let pod = created(
            &[
                r#"metadata = {"name":"x","labels":{"a":"1"},"annotations":{"container.apparmor.security.beta.kubernetes.io/c":"localhost/p"}}"#,
                r#"topologySpreadConstraints = [{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule","labelSelector":{},"matchLabelKeys":["a","b"]}]"#,
            ]
            .join(" ; "),
        );
        let [constraint] = pod.list_at(&["spec", "topologySpreadConstraints"]) else { panic!("one constraint") };
        assert_eq!(
            constraint.get("labelSelector"),
            Some(&json(r#"{"matchExpressions":[{"key":"a","operator":"In","values":["1"]}]}"#))
        );
        assert_eq!(
            pod.list_at(&["spec", "containers"])[0].at(&["securityContext", "appArmorProfile"]),
            Some(&json(r#"{"type":"Localhost","localhostProfile":"p"}"#))
        );
    }

    #[test]
    fn what_belongs_to_features_that_are_off_goes() {
        let pod = created(
            &[
                r#"containers[0].lifecycle = {"stopSignal":"SIGTERM"}"#,
                r#"volumes = [{"name":"v","projected":{"sources":[{"clusterTrustBundle":{"path":"a","name":"n"}}]}}]"#,
            ]
            .join(" ; "),
        );
        assert_eq!(pod.list_at(&["spec", "containers"])[0].get("lifecycle"), None);
        assert_eq!(pod.list_at(&["spec", "volumes"])[0].list_at(&["projected", "sources"]), [json("{}")]);
    }

    #[test]
    fn binding_names_the_node_and_marks_the_pod_scheduled() {
        let mut pod = created(r#"schedulingGates = [{"name":"a"}]"#);
        let binding = json(r#"{"metadata":{"name":"x","labels":{"l":"1"}},"target":{"kind":"Node","name":"n"}}"#);
        bind(&mut pod, &binding, "2026-01-01T00:00:00Z");
        assert_eq!(pod.str_at(&["spec", "nodeName"]), "n");
        assert_eq!(pod.str_at(&["metadata", "labels", "l"]), "1");
        let conditions = pod.list_at(&["status", "conditions"]);
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].text("status"), "True");
        assert_eq!(conditions[0].text("lastTransitionTime"), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn conditions_without_a_generation_keep_theirs() {
        let old = json(r#"{"status":{"qosClass":"Burstable","conditions":[{"type":"Ready","observedGeneration":3}]}}"#);
        let mut new = json(r#"{"status":{"conditions":[{"type":"Ready"},{"type":"Other"}]}}"#);
        Pod.prepare_status_update(&mut new, &old);
        assert_eq!(
            new,
            json(
                r#"{"status":{"qosClass":"Burstable",
                    "conditions":[{"type":"Ready","observedGeneration":3},{"type":"Other"}]}}"#
            )
        );
    }
}
