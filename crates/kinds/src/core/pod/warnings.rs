//! What is allowed in a pod or template, but hardly meant.

use std::collections::{BTreeMap, BTreeSet};

use api_schema::Value;
use api_semantics::field::{Path, quoted};

use super::look::{Look, all_containers};
use super::prepare::APP_ARMOR_PREFIX;
use super::resources;

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER_PREFIX: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Labels of nodes that have a newer name.
pub(crate) fn deprecated_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
        "beta.kubernetes.io/os" => "deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "failure-domain.beta.kubernetes.io/region" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead"
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"
        }
        "beta.kubernetes.io/instance-type" => {
            "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => "deprecated since v1.22; use Taints and Tolerations instead",
        "node-role.kubernetes.io/master" => "use \"node-role.kubernetes.io/control-plane\" instead",
        _ => return None,
    })
}

const DEPRECATED_ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

/// Volume types that are gone or going: the field, the name in the path, what to say.
const DEPRECATED_VOLUMES: [(&str, &str, &str); 9] = [
    ("photonPersistentDisk", "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "storageOS", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// The warning for a name that becomes part of a host name, but is no DNS label.
pub(crate) fn name(object: &Value, used_in: &str) -> Option<String> {
    let messages = api_semantics::names::dns1123_label(object.str_at(&["metadata", "name"]), false);
    (!messages.is_empty()).then(|| {
        format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            messages.join(" ")
        )
    })
}

/// The warnings for a new pod.
pub(crate) fn pod(object: &Value) -> Vec<String> {
    let mut warnings: Vec<String> = name(object, "the Pod's hostname").into_iter().collect();
    // An annotation that became a field, or that cannot become one.
    let pod_profile = object.at(&["spec", "securityContext", "appArmorProfile"]);
    if object.str_at(&["spec", "os", "name"]) != "windows" {
        for (.., container) in all_containers(object.get("spec").unwrap_or(&Value::Null)) {
            let key = format!("{APP_ARMOR_PREFIX}{}", container.text("name"));
            let Some(annotation) = object.at(&["metadata", "annotations", &key]).and_then(Value::as_str) else {
                continue;
            };
            let profile = container.at(&["securityContext", "appArmorProfile"]);
            let from_annotation = super::prepare::app_armor_profile(annotation);
            let was_copied = from_annotation.is_some() && from_annotation.as_ref() == profile && profile != pod_profile;
            if was_copied || (from_annotation.is_none() && profile.is_none()) {
                warnings.push(deprecated_app_armor(&Path::new("metadata.annotations").key(&key)));
            }
        }
    }
    collect(&mut warnings, object, &Path::ROOT, true);
    warnings
}

/// The warnings for the pod template at `path`.
pub(crate) fn template(template: &Value, path: &Path<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    collect(&mut warnings, template, path, false);
    warnings
}

fn deprecated_app_armor(path: &Path<'_>) -> String {
    format!("{path}: deprecated since v1.30; use the \"appArmorProfile\" field instead")
}

fn collect(warnings: &mut Vec<String>, object: &Value, path: &Path<'_>, is_pod: bool) {
    let spec = object.get("spec").unwrap_or(&Value::Null);
    let spec_path = path.child("spec");
    node_labels(warnings, spec, &spec_path);
    let annotations_path = path.child("metadata.annotations");
    let annotation = |key: &str| object.at(&["metadata", "annotations", key]).is_some();
    for (key, message) in DEPRECATED_ANNOTATIONS.iter().filter(|(key, _)| annotation(key)) {
        warnings.push(format!("{}: {message}", annotations_path.key(key)));
    }
    volumes(warnings, spec, &spec_path);
    duplicates(warnings, spec, &spec_path);
    let overhead = spec_path.child("overhead");
    whole_bytes(warnings, spec.entries("overhead"), &overhead);
    const NO_SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    if spec.at(&["securityContext", "seccompProfile"]).is_none() && annotation(SECCOMP_POD) {
        warnings.push(format!("{}: {NO_SECCOMP}", annotations_path.key(SECCOMP_POD)));
    }
    let pod_profile = spec.at(&["securityContext", "appArmorProfile"]);
    for (list, at, container) in all_containers(spec) {
        let list_path = spec_path.child(list);
        let container_path = list_path.index(at);
        let key = format!("{SECCOMP_CONTAINER_PREFIX}{}", container.text("name"));
        if container.at(&["securityContext", "seccompProfile"]).is_none() && annotation(&key) {
            warnings.push(format!("{}: {NO_SECCOMP}", annotations_path.key(&key)));
        }
        let key = format!("{APP_ARMOR_PREFIX}{}", container.text("name"));
        if let Some(annotation) = object.at(&["metadata", "annotations", &key]).and_then(Value::as_str)
            && !is_pod
            && container.at(&["securityContext", "appArmorProfile"]).is_none()
            && (pod_profile.is_none() || super::prepare::app_armor_profile(annotation).as_ref() != pod_profile)
        {
            warnings.push(deprecated_app_armor(&annotations_path.key(&key)));
        }
        if let Some(resources) = container.get("resources") {
            for half in ["limits", "requests"] {
                let half_path = container_path.child("resources");
                whole_bytes(warnings, resources.entries(half), &half_path.child(half));
            }
        }
        environment(warnings, container.items("env"), &container_path.child("env"));
    }
    ports(warnings, spec, &spec_path);
    port_names(warnings, spec, &spec_path);
    if spec.int("terminationGracePeriodSeconds").is_some_and(|period| period < 0) {
        let field = spec_path.child("terminationGracePeriodSeconds");
        warnings.push(format!("{field}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    affinity_selectors(warnings, spec, &spec_path);
    if let Some(config) = spec.get("dnsConfig") {
        let servers = spec_path.child("dnsConfig.nameservers");
        for (at, server) in config.texts("nameservers").enumerate() {
            warnings.extend(api_semantics::ip::warning(&servers.index(at), server));
        }
    }
    for (at, alias) in spec.items("hostAliases").iter().enumerate() {
        let aliases = spec_path.child("hostAliases");
        warnings.extend(api_semantics::ip::warning(&aliases.index(at).child("ip"), alias.text("ip")));
    }
}

fn node_labels(warnings: &mut Vec<String>, spec: &Value, path: &Path<'_>) {
    let selector = path.child("nodeSelector");
    for key in spec.entries("nodeSelector").keys() {
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("{}: {message}", selector.key(key)));
        }
    }
    let mut expressions = |term: &Value, path: &Path<'_>| {
        let expressions_path = path.child("matchExpressions");
        for (at, expression) in term.items("matchExpressions").iter().enumerate() {
            if let Some(message) = deprecated_label(expression.text("key")) {
                let key = expression.text("key");
                warnings.push(format!("{}: {key} is {message}", expressions_path.index(at).child("key")));
            }
        }
    };
    if let Some(affinity) = spec.at(&["affinity", "nodeAffinity"]) {
        let affinity_path = path.child("affinity.nodeAffinity");
        let terms = affinity_path.child("requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms");
        let required = affinity.list_at(&["requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"]);
        for (at, term) in required.iter().enumerate() {
            expressions(term, &terms.index(at));
        }
        let preferred = affinity_path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (at, term) in affinity.items("preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            let preference = term.get("preference").unwrap_or(&Value::Null);
            expressions(preference, &preferred.index(at).child("preference"));
        }
    }
    let constraints = path.child("topologySpreadConstraints");
    for (at, constraint) in spec.items("topologySpreadConstraints").iter().enumerate() {
        let constraint_path = constraints.index(at);
        let key = constraint.text("topologyKey");
        if let Some(message) = deprecated_label(key) {
            warnings.push(format!("{}: {key} is {message}", constraint_path.child("topologyKey")));
        }
        if !constraint.has("labelSelector") {
            warnings.push(null_selector(&constraint_path.child("labelSelector")));
        }
    }
}

fn null_selector(path: &Path<'_>) -> String {
    format!("{path}: a null labelSelector results in matching no pod")
}

fn volumes(warnings: &mut Vec<String>, spec: &Value, path: &Path<'_>) {
    let volumes_path = path.child("volumes");
    let volumes = spec.items("volumes");
    for (at, volume) in volumes.iter().enumerate() {
        let volume_path = volumes_path.index(at);
        for (field, shown, message) in DEPRECATED_VOLUMES {
            if volume.has(field) {
                warnings.push(format!("{}: {message}", volume_path.child(shown)));
            }
        }
        let claim_path = volume_path.child("ephemeral.volumeClaimTemplate.spec");
        if let Some(claim) = volume.at(&["ephemeral", "volumeClaimTemplate", "spec"]) {
            claim_storage(warnings, claim, &claim_path);
        }
    }
    volumes.iter().for_each(|volume| overlapping_files(warnings, volume));
}

/// Files of one volume of which one takes the place of the other, or stands in its way.
fn overlapping_files(warnings: &mut Vec<String>, volume: &Value) {
    let name = quoted(volume.text("name"));
    let items = |source: &Value, from: &str| -> Vec<(String, String)> {
        source.items("items").iter().map(|item| (item.text("path").to_owned(), from.to_owned())).collect()
    };
    for (field, kind, name_field) in
        [("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName"), ("downwardAPI", "DownwardAPI", "")]
    {
        if let Some(source) = volume.get(field) {
            let shown = match name_field {
                "" => kind.to_owned(),
                _ => format!("{kind} {}", quoted(source.text(name_field))),
            };
            overlaps(warnings, &name, &shown, &mut Vec::new(), items(source, ""));
        }
    }
    let mut seen = Vec::new();
    for source in volume.get("projected").map(|projected| projected.items("sources")).unwrap_or_default() {
        if source.is_zero() {
            warnings.push(format!("volume {name} (Projected) has no sources provided"));
        }
        let files = if let Some(map) = source.get("configMap") {
            items(map, &format!("ConfigMap {}", quoted(map.text("name"))))
        } else if let Some(secret) = source.get("secret") {
            items(secret, &format!("Secret {}", quoted(secret.text("name"))))
        } else if let Some(fields) = source.get("downwardAPI") {
            items(fields, "DownwardAPI")
        } else {
            generated_files(source)
        };
        overlaps(warnings, &name, "Projected", &mut seen, files);
    }
}

/// The files of a source that makes them up itself.
fn generated_files(source: &Value) -> Vec<(String, String)> {
    if let Some(token) = source.get("serviceAccountToken") {
        return vec![(token.text("path").to_owned(), "ServiceAccountToken".to_owned())];
    }
    if let Some(bundle) = source.get("clusterTrustBundle") {
        let name = quoted(bundle.text_if("name").unwrap_or(bundle.text("signerName")));
        return vec![(bundle.text("path").to_owned(), format!("ClusterTrustBundle {name}"))];
    }
    let Some(certificate) = source.get("podCertificate") else { return Vec::new() };
    [("certificateChainPath", "chain"), ("keyPath", "key"), ("credentialBundlePath", "credential bundle")]
        .map(|(field, what)| (certificate.text(field).to_owned(), format!("PodCertificate {what}")))
        .into()
}

/// Files, each with what it comes from, of which one is the other or a part of the other's path.
fn overlaps(
    warnings: &mut Vec<String>,
    volume: &str,
    kind: &str,
    seen: &mut Vec<(String, String)>,
    files: Vec<(String, String)>,
) {
    let shown = |(path, from): &(String, String)| match from.as_str() {
        "" => quoted(path),
        from => format!("{} ({from})", quoted(path)),
    };
    let contains = |a: &str, b: &str| b.strip_prefix(a).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    for (path, from) in files {
        let file = (path.trim_end_matches('/').to_owned(), from);
        if file.0.is_empty() {
            continue;
        }
        for other in seen.iter().filter(|other| contains(&other.0, &file.0) || contains(&file.0, &other.0)) {
            let (file, other) = (shown(&file), shown(other));
            warnings.push(format!("volume {volume} ({kind}): overlapping paths: {file} with {other}"));
        }
        seen.push(file);
    }
}

fn duplicates(warnings: &mut Vec<String>, spec: &Value, path: &Path<'_>) {
    let mut twice = |list: &str, field: &str| {
        let list_path = path.child(list);
        let mut seen = BTreeSet::new();
        for (at, item) in spec.items(list).iter().enumerate() {
            if !seen.insert(item.text(field)) {
                let text = quoted(item.text(field));
                warnings.push(format!("{}: duplicate {field} {text}", list_path.index(at).child(field)));
            }
        }
    };
    twice("hostAliases", "ip");
    twice("imagePullSecrets", "name");
    let secrets = path.child("imagePullSecrets");
    for (at, secret) in spec.items("imagePullSecrets").iter().enumerate() {
        if secret.text("name").is_empty() {
            warnings.push(format!("{}: invalid empty name \"\"", secrets.index(at).child("name")));
        }
    }
}

fn fractional(path: &Path<'_>, value: &Value) -> String {
    let text = quoted(&resources::quantity(value).to_string());
    format!("{path}: fractional byte value {text} is invalid, must be an integer")
}

/// Disks have whole bytes.
pub(crate) fn claim_storage(warnings: &mut Vec<String>, claim: &Value, path: &Path<'_>) {
    let path = path.child("resources");
    for half in ["requests", "limits"] {
        if let Some(storage) = claim.at(&["resources", half, "storage"])
            && !resources::quantity(storage).is_whole()
        {
            warnings.push(fractional(&path.child(half).key("storage"), storage));
        }
    }
}

fn whole_bytes(warnings: &mut Vec<String>, list: &api_schema::Map, path: &Path<'_>) {
    for resource in ["memory", "ephemeral-storage"] {
        if let Some(value) = list.get(resource)
            && !resources::quantity(value).is_whole()
        {
            warnings.push(fractional(&path.key(resource), value));
        }
    }
}

fn environment(warnings: &mut Vec<String>, variables: &[Value], path: &Path<'_>) {
    let mut seen = BTreeSet::new();
    for (at, variable) in variables.iter().enumerate() {
        let name = variable.text("name");
        if seen.insert(name) {
            continue;
        }
        // `X=$(X)more` builds on the value before; anything else hides it.
        let reference = format!("$({name})");
        let value = variable.text("value");
        if variable.has("valueFrom") || value == reference || !value.contains(&reference) {
            warnings.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                path.index(at),
                quoted(name)
            ));
        }
    }
}

fn ports(warnings: &mut Vec<String>, spec: &Value, path: &Path<'_>) {
    let mut known: BTreeMap<(i64, &str), Vec<(String, &Value)>> = BTreeMap::new();
    for (list, at, container) in all_containers(spec) {
        let list_path = path.child(list);
        let container_path = list_path.index(at);
        let ports_path = container_path.child("ports");
        for (port_at, port) in container.items("ports").iter().enumerate() {
            let shown = ports_path.index(port_at).to_string();
            let host = |port: &Value| (port.text("hostIP").to_owned(), port.int("hostPort").unwrap_or(0));
            let (host_ip, host_port) = host(port);
            if !host_ip.is_empty() && host_port == 0 {
                warnings.push(format!(
                    "{shown}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{} HostIP:{host_ip}}}",
                    port.text("name"),
                    port.int("containerPort").unwrap_or(0),
                    port.text("protocol")
                ));
            }
            let others = known.entry((port.int("containerPort").unwrap_or(0), port.text("protocol"))).or_default();
            for (other_path, other) in others.iter() {
                let (other_ip, other_port) = host(other);
                let what = if (&other_ip, other_port) == (&host_ip, host_port) {
                    "duplicate"
                } else if host_port == 0 || other_port == 0 {
                    "overlapping"
                } else if host_port == other_port && host_ip.is_empty() != other_ip.is_empty() {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!("{shown}: {what} port definition with {other_path}"));
            }
            others.push((shown, port));
        }
    }
}

/// Ports by name, of which only the first can be found.
fn port_names(warnings: &mut Vec<String>, spec: &Value, path: &Path<'_>) {
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    for (list, at, container) in all_containers(spec) {
        let list_path = path.child(list);
        let container_path = list_path.index(at);
        let ports_path = container_path.child("ports");
        for (port_at, port) in container.items("ports").iter().enumerate().filter(|(_, port)| port.has("name")) {
            let (name, shown) = (port.text("name"), ports_path.index(port_at).to_string());
            match known.get(name) {
                Some(other) => warnings.push(format!(
                    "{shown}: duplicate port name {} with {other}, services and probes that select ports by name will \
                     use {other}",
                    quoted(name)
                )),
                None => drop(known.insert(name, shown)),
            }
        }
    }
}

fn affinity_selectors(warnings: &mut Vec<String>, spec: &Value, path: &Path<'_>) {
    for side in ["podAffinity", "podAntiAffinity"] {
        let Some(terms) = spec.at(&["affinity", side]) else { continue };
        let affinity_path = path.child("affinity");
        let side_path = affinity_path.child(side);
        let required = side_path.child("requiredDuringSchedulingIgnoredDuringExecution");
        for (at, term) in terms.items("requiredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            if !term.has("labelSelector") {
                warnings.push(null_selector(&required.index(at).child("labelSelector")));
            }
        }
        let preferred = side_path.child("preferredDuringSchedulingIgnoredDuringExecution");
        for (at, weighted) in terms.items("preferredDuringSchedulingIgnoredDuringExecution").iter().enumerate() {
            if weighted.at(&["podAffinityTerm", "labelSelector"]).is_none() {
                warnings.push(null_selector(&preferred.index(at).child("podAffinityTerm.labelSelector")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::core::pod::tests::pods;

    #[test]
    fn what_is_hardly_meant_is_warned_of() {
        pods(&expect![[r#"
                metadata.name = "a.b"
                    metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]
                nodeSelector = {"beta.kubernetes.io/arch":"x"}
                    spec.nodeSelector[beta.kubernetes.io/arch]: deprecated since v1.14; use "kubernetes.io/arch" instead
                affinity = {"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":5,"preference":{"matchExpressions":[{"key":"beta.kubernetes.io/os","operator":"Exists"}]}}]},"podAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"a"}]}}
                    spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0].key: beta.kubernetes.io/os is deprecated since v1.14; use "kubernetes.io/os" instead
                    spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].labelSelector: a null labelSelector results in matching no pod
                topologySpreadConstraints = [{"maxSkew":1,"topologyKey":"failure-domain.beta.kubernetes.io/zone","whenUnsatisfiable":"DoNotSchedule"}]
                    spec.topologySpreadConstraints[0].topologyKey: failure-domain.beta.kubernetes.io/zone is deprecated since v1.17; use "topology.kubernetes.io/zone" instead
                    spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod
                metadata.annotations = {"scheduler.alpha.kubernetes.io/critical-pod":"","container.seccomp.security.alpha.kubernetes.io/c":"unconfined","container.apparmor.security.beta.kubernetes.io/c":"unconfined"}
                    metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead
                    metadata.annotations[scheduler.alpha.kubernetes.io/critical-pod]: non-functional in v1.16+; use the "priorityClassName" field instead
                    metadata.annotations[container.seccomp.security.alpha.kubernetes.io/c]: non-functional in v1.27+; use the "seccompProfile" field instead
                volumes = [{"name":"a","secret":{"secretName":"s","items":[{"key":"k","path":"a/b"},{"key":"j","path":"a"}]}},{"name":"p","projected":{"sources":[{},{"secret":{"name":"s","items":[{"key":"k","path":"a/b"}]}},{"serviceAccountToken":{"path":"a/b/c"}}]}},{"name":"r","rbd":{"monitors":["a"],"image":"i"}}]
                    spec.volumes[2].rbd: deprecated in v1.28, non-functional in v1.31+
                    volume "a" (Secret "s"): overlapping paths: "a" with "a/b"
                    volume "p" (Projected) has no sources provided
                    volume "p" (Projected): overlapping paths: "a/b/c" (ServiceAccountToken) with "a/b" (Secret "s")
                hostAliases = [{"ip":"1.2.3.4"},{"ip":"1.2.3.4"}] ; imagePullSecrets = [{"name":"a"},{"name":"a"},{"name":""}]
                    spec.hostAliases[1].ip: duplicate ip "1.2.3.4"
                    spec.imagePullSecrets[1].name: duplicate name "a"
                    spec.imagePullSecrets[2].name: invalid empty name ""
                containers[0].resources = {"requests":{"memory":"1.5"}} ; volumes = [{"name":"v","ephemeral":{"volumeClaimTemplate":{"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"0.5"}}}}}}]
                    spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value "500m" is invalid, must be an integer
                    spec.containers[0].resources.requests[memory]: fractional byte value "1500m" is invalid, must be an integer
                containers[0].env = [{"name":"A","value":"1"},{"name":"A","value":"2"},{"name":"A","value":"$(A)3"}]
                    spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply
                containers[0].ports = [{"containerPort":80,"hostIP":"1.2.3.4"},{"containerPort":80}]
                    spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:80 Protocol:TCP HostIP:1.2.3.4}
                    spec.containers[0].ports[1]: overlapping port definition with spec.containers[0].ports[0]
                containers[0].ports = [{"containerPort":80,"hostPort":80},{"containerPort":80,"hostPort":80,"hostIP":"1.1.1.1"}]
                    spec.containers[0].ports[1]: dangerously ambiguous port definition with spec.containers[0].ports[0]
                containers[0].ports = [{"containerPort":1,"name":"a"}] ; containers[1] = {"name":"d","image":"i","ports":[{"containerPort":2,"name":"a"}]}
                    spec.containers[1].ports[0]: duplicate port name "a" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]
            "#]]);
    }
}
