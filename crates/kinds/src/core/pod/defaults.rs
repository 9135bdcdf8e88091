//! What a pod, or the template of one, gets where its author said nothing.

use api_schema::{Map, Value};

use super::super::persistentvolumeclaim::default_spec;
use super::image::default_pull_policy;
use super::look::{CONTAINER_LISTS, Fill, Look};
use super::resources::{self, Half};

/// Annotations in which very old clients kept init containers; they would contradict the fields.
const STALE_ANNOTATIONS: [&str; 4] = [
    "pod.alpha.kubernetes.io/init-containers",
    "pod.alpha.kubernetes.io/init-container-statuses",
    "pod.beta.kubernetes.io/init-containers",
    "pod.beta.kubernetes.io/init-container-statuses",
];

/// 0644: the mode of files that come from the API.
const FILE_MODE: i64 = 0o644;

/// Fills a Pod.
pub(crate) fn pod(pod: &mut Value) {
    drop_stale_annotations(pod);
    pod.with("spec", |spec| {
        for list in ["containers", "initContainers"] {
            spec.each(list, requests_from_limits);
        }
        pod_level_resources(spec);
        spec.fill("enableServiceLinks", true);
        if spec.is_true("hostNetwork") {
            for list in ["containers", "initContainers"] {
                spec.each(list, |container| {
                    container.each("ports", |port| {
                        if let Some(number) = port.int("containerPort").filter(|number| *number != 0) {
                            port.fill_zero("hostPort", number);
                        }
                    });
                });
            }
        }
        self::spec(spec);
        // Of templates, a negative period is kept as it is.
        if spec.int("terminationGracePeriodSeconds").is_some_and(|period| period < 0) {
            spec.set(&["terminationGracePeriodSeconds"], 1);
        }
    });
    pod.with("status", |status| {
        for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
            status.each(list, |container| {
                container.with("allocatedResources", resource_list);
                container.with("resources", resource_requirements);
            });
        }
        status.with("allocatedResources", resource_list);
        status.with("resources", resource_requirements);
        mirror_pod_ips(status);
    });
}

/// Fills the pod template at `template`.
pub(crate) fn template(template: &mut Value) {
    drop_stale_annotations(template);
    template.with("spec", spec);
}

fn drop_stale_annotations(object: &mut Value) {
    let Some(annotations) = object.at_mut(&["metadata", "annotations"]).and_then(Value::as_map_mut) else { return };
    annotations.retain(|key, _| !STALE_ANNOTATIONS.contains(&key));
    if annotations.is_empty() {
        object.remove(&["metadata", "annotations"]);
    }
}

/// A container that limits something without asking for it asks for as much.
fn requests_from_limits(container: &mut Value) {
    let limits = match container.at(&["resources", "limits"]) {
        Some(Value::Map(limits)) if !limits.is_empty() => limits.clone(),
        _ => return,
    };
    let requests = container.entry(&["resources", "requests"]).make_map();
    for (name, limit) in limits {
        if !requests.contains_key(&name) {
            requests.insert(name, limit);
        }
    }
}

/// Completes resources that are stated for the pod as a whole.
fn pod_level_resources(spec: &mut Value) {
    if !spec.has("resources") {
        return;
    }
    let is_empty = |half: &str| spec.map_at(&["resources", half]).is_none_or(Map::is_empty);
    if is_empty("limits") && is_empty("requests") {
        return;
    }
    let container_limits = resources::aggregate(spec, Half::Limits);
    for (name, limit) in container_limits.into_iter().filter(|(name, _)| resources::is_huge_page(name)) {
        if spec.at(&["resources", "requests", &name]).is_some() {
            continue;
        }
        let limits = spec.entry(&["resources", "limits"]).make_map();
        if !limits.contains_key(&name) {
            limits.insert(name, limit.to_string());
        }
    }
    let limits: Map = spec.at(&["resources", "limits"]).and_then(Value::as_map).cloned().unwrap_or_default();
    if limits.is_empty() {
        return;
    }
    let requests: Map = resources::aggregate(spec, Half::Requests)
        .into_iter()
        .filter(|(name, _)| resources::may_overcommit(name))
        .map(|(name, quantity)| (name, Value::from(quantity.to_string())))
        .collect();
    for (name, value) in requests.into_iter().chain(limits) {
        if resources::is_pod_level(&name) {
            let requests = spec.entry(&["resources", "requests"]).make_map();
            if !requests.contains_key(&name) {
                requests.insert(name, value);
            }
        }
    }
}

/// The one address and the list of addresses say the same; the one wins.
fn mirror_pod_ips(status: &mut Value) {
    let first = status.items("podIPs").first().map(|ip| ip.text("ip").to_owned());
    let single = status.text("podIP").to_owned();
    match first {
        Some(first) if single.is_empty() && !first.is_empty() => status.set(&["podIP"], first),
        Some(first) if single.is_empty() || first == single => {}
        None if single.is_empty() => {}
        _ => status.set(&["podIPs"], vec![Value::from([("ip", single)])]),
    }
}

/// Fills a pod spec, wherever it stands.
pub(crate) fn spec(spec: &mut Value) {
    spec.fill_zero("dnsPolicy", "ClusterFirst");
    spec.fill_zero("restartPolicy", "Always");
    spec.fill("securityContext", Map::new());
    spec.fill("terminationGracePeriodSeconds", 30);
    spec.fill_zero("schedulerName", "default-scheduler");
    mirror_service_account(spec);
    spec.each("volumes", volume);
    for list in CONTAINER_LISTS {
        spec.each(list, container);
    }
    spec.with("overhead", resource_list);
    spec.with("resources", resource_requirements);
}

/// `serviceAccount` is the old name of `serviceAccountName`.
fn mirror_service_account(spec: &mut Value) {
    let name = match spec.text("serviceAccountName") {
        "" => spec.text("serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !name.is_empty() {
        spec.set(&["serviceAccount"], name.as_str());
        spec.set(&["serviceAccountName"], name);
    }
}

fn container(container: &mut Value) {
    let policy = default_pull_policy(container.text("image"));
    container.fill_zero("imagePullPolicy", policy);
    container.fill_zero("terminationMessagePath", "/dev/termination-log");
    container.fill_zero("terminationMessagePolicy", "File");
    container.each("ports", |port| port.fill_zero("protocol", "TCP"));
    container.each("env", |variable| {
        variable.with("valueFrom", |source| {
            source.with("fieldRef", field_ref);
            source.with("fileKeyRef", |file| file.fill("optional", false));
        });
    });
    container.with("resources", resource_requirements);
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        container.with(probe, self::probe);
    }
    container.with("lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            lifecycle.with(hook, |hook| hook.with("httpGet", http_get));
        }
    });
}

fn probe(probe: &mut Value) {
    for (field, value) in
        [("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)]
    {
        probe.fill_zero(field, value);
    }
    probe.with("httpGet", http_get);
    probe.with("grpc", |grpc| grpc.fill("service", ""));
}

fn http_get(action: &mut Value) {
    action.fill_zero("path", "/");
    action.fill_zero("scheme", "HTTP");
}

fn field_ref(reference: &mut Value) {
    reference.fill_zero("apiVersion", "v1");
}

/// The fields of a Volume that name its source: all but its name.
fn volume(volume: &mut Value) {
    if volume.as_map().is_some_and(|map| map.iter().all(|(key, value)| key == "name" || value.is_null())) {
        volume.set(&["emptyDir"], Map::new());
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        volume.with(source, |source| source.fill("defaultMode", FILE_MODE));
    }
    volume.with("downwardAPI", downward_api_items);
    volume.with("projected", |projected| {
        projected.each("sources", |source| {
            source.with("downwardAPI", downward_api_items);
            source.with("serviceAccountToken", |token| token.fill("expirationSeconds", 3600));
        });
    });
    volume.with("hostPath", |path| path.fill("type", ""));
    volume.with("iscsi", |iscsi| iscsi.fill_zero("iscsiInterface", "default"));
    volume.with("rbd", |rbd| {
        for (field, value) in [("pool", "rbd"), ("user", "admin"), ("keyring", "/etc/ceph/keyring")] {
            rbd.fill_zero(field, value);
        }
    });
    volume.with("azureDisk", |disk| {
        for (field, value) in [("cachingMode", "ReadWrite"), ("fsType", "ext4"), ("kind", "Shared")] {
            disk.fill(field, value);
        }
        disk.fill("readOnly", false);
    });
    volume.with("scaleIO", |scale_io| {
        scale_io.fill_zero("storageMode", "ThinProvisioned");
        scale_io.fill_zero("fsType", "xfs");
    });
    volume.with("ephemeral", |ephemeral| {
        ephemeral.with("volumeClaimTemplate", |template| template.with("spec", default_spec));
    });
    volume.with("image", |image| {
        let policy = default_pull_policy(image.text("reference"));
        image.fill_zero("pullPolicy", policy);
    });
}

fn downward_api_items(source: &mut Value) {
    source.each("items", |item| item.with("fieldRef", field_ref));
}

fn resource_requirements(requirements: &mut Value) {
    requirements.with("limits", resource_list);
    requirements.with("requests", resource_list);
}

/// Rounds quantities up to thousandths, which is the finest that is kept.
fn resource_list(list: &mut Value) {
    let Some(list) = list.as_map_mut() else { return };
    for (_, value) in list.iter_mut() {
        let quantity = resources::quantity(value);
        if !quantity.is_whole() {
            *value = Value::from(resources::round_up_to_milli(quantity).to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::checks::tests::defaults;
    use crate::core::pod::Pod;

    #[test]
    fn what_is_left_open_is_filled() {
        defaults(
            &Pod,
            r#"{"spec":{"containers":[{"name":"c","image":"i:1","ports":[{"containerPort":80}],
                "livenessProbe":{"httpGet":{"port":80}},
                "env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}],
                "resources":{"limits":{"cpu":"1"}}}],
                "initContainers":[{"name":"d","image":"j"}],
                "hostNetwork":true,"serviceAccountName":"s","terminationGracePeriodSeconds":-5,
                "volumes":[{"name":"v","secret":{"secretName":"s"}},{"name":"w"},
                    {"name":"p","projected":{"sources":[{"serviceAccountToken":{"path":"t"}}]}}]},
                "status":{"podIP":"1.2.3.4"}}"#,
            r#"{"spec":{"containers":[{"name":"c","image":"i:1","imagePullPolicy":"IfNotPresent",
                "ports":[{"containerPort":80,"hostPort":80,"protocol":"TCP"}],
                "livenessProbe":{"httpGet":{"port":80,"path":"/","scheme":"HTTP"},"timeoutSeconds":1,"periodSeconds":10,
                    "successThreshold":1,"failureThreshold":3},
                "env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"metadata.name","apiVersion":"v1"}}}],
                "resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}},
                "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],
                "initContainers":[{"name":"d","image":"j","imagePullPolicy":"Always",
                    "terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],
                "hostNetwork":true,"serviceAccountName":"s","serviceAccount":"s","terminationGracePeriodSeconds":1,
                "volumes":[{"name":"v","secret":{"secretName":"s","defaultMode":420}},{"name":"w","emptyDir":{}},
                    {"name":"p","projected":{"defaultMode":420,
                        "sources":[{"serviceAccountToken":{"path":"t","expirationSeconds":3600}}]}}],
                "dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler",
                "securityContext":{},"enableServiceLinks":true},
                "status":{"podIP":"1.2.3.4","podIPs":[{"ip":"1.2.3.4"}]}}"#,
        );
    }
}
