//! Containers: regular ones, those that run first, and those that are added to a running pod.

use std::collections::BTreeSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::checks::{invalid_text, supported};

use super::super::look::{Look, is_sidecar};
use super::{
    Surroundings, env, handlers, local_descending, no_backsteps, required, required_one_of, requirements, security,
};

const RESTART_RULES_MAX: usize = 20;
const RESTART_EXIT_CODES_MAX: usize = 255;

/// The regular containers.
pub(super) fn regular(errors: &mut ErrorList, around: &Surroundings<'_>, path: &Path<'_>) {
    let containers = around.spec.items("containers");
    if containers.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let mut names = BTreeSet::new();
    for (at, container) in containers.iter().enumerate() {
        let container_path = path.index(at);
        common(errors, around, container, &container_path);
        if !names.insert(container.text("name")) {
            errors.push(Error::duplicate(&container_path.child("name"), container.text("name")));
        }
        hooks_and_probes(errors, around, container, &container_path);
        restart_policy(errors, container, &container_path, true);
    }
    host_ports(errors, containers, path);
}

/// The containers that run before the regular ones, or start before and stay beside them.
pub(super) fn init(errors: &mut ErrorList, around: &Surroundings<'_>, path: &Path<'_>) {
    let mut names: BTreeSet<&str> = around.spec.items("containers").iter().map(|c| c.text("name")).collect();
    let containers = around.spec.items("initContainers");
    for (at, container) in containers.iter().enumerate() {
        let container_path = path.index(at);
        common(errors, around, container, &container_path);
        restart_policy(errors, container, &container_path, false);
        let name = container.text("name");
        if names.contains(name) {
            errors.push(Error::duplicate(&container_path.child("name"), name));
        } else if !name.is_empty() {
            names.insert(name);
        }
        // They run one after the other, so that each has the ports for itself. The index is upstream's.
        host_ports(errors, &containers[at..=at], path);
        if is_sidecar(container) {
            hooks_and_probes(errors, around, container, &container_path);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if container.has(field) {
                    let why = "may not be set for init containers without restartPolicy=Always";
                    errors.push(Error::forbidden(&container_path.child(field), why));
                }
            }
            resize_restarts(errors, around, container, &container_path);
        }
    }
}

/// A container that ends before the others start is not restarted for new resources.
fn resize_restarts(errors: &mut ErrorList, around: &Surroundings<'_>, container: &Value, path: &Path<'_>) {
    if around.options.lenient.restarting_init_containers {
        return;
    }
    let policies = path.child("resizePolicy");
    for (at, policy) in container.items("resizePolicy").iter().enumerate() {
        if policy.text("restartPolicy") == "RestartContainer" {
            let why = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.push(Error::invalid(&policies.index(at).child("restartPolicy"), "RestartContainer", why));
        }
    }
}

/// Whether an init container that is no sidecar restarts for new resources.
pub(super) fn has_restarting_init_containers(spec: &Value) -> bool {
    spec.items("initContainers").iter().filter(|container| !is_sidecar(container)).any(|container| {
        container.items("resizePolicy").iter().any(|policy| policy.text("restartPolicy") == "RestartContainer")
    })
}

/// The fields that a container that is added to a running pod may not have, in Go's order.
const EPHEMERAL_FORBIDDEN: [&str; 9] = [
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// Containers that were added to a running pod.
pub(super) fn ephemeral(errors: &mut ErrorList, around: &Surroundings<'_>, path: &Path<'_>) {
    let containers = around.spec.items("ephemeralContainers");
    if containers.is_empty() {
        return;
    }
    let others: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| around.spec.items(list).iter().map(|container| container.text("name")))
        .collect();
    let mut names = others.clone();
    for (at, container) in containers.iter().enumerate() {
        let container_path = path.index(at);
        common(errors, around, container, &container_path);
        only_for_pod(errors, container, &container_path);
        if !names.insert(container.text("name")) {
            errors.push(Error::duplicate(&container_path.child("name"), container.text("name")));
        }
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.push(Error::not_found(&container_path.child("targetContainerName"), target));
        }
        for field in EPHEMERAL_FORBIDDEN {
            // A pointer counts even if it points to nothing much; a list or struct does not.
            let is_pointer = !matches!(field, "ports" | "resources" | "resizePolicy" | "restartPolicyRules");
            if container.get(field).is_some_and(|value| is_pointer || !value.is_zero()) {
                let why = "cannot be set for an Ephemeral Container";
                errors.push(Error::forbidden(&container_path.child(field), why));
            }
        }
        let mounts = container_path.child("volumeMounts");
        for (mount_at, mount) in container.items("volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.text(field).is_empty() {
                    let why = "cannot be set for an Ephemeral Container";
                    errors.push(Error::forbidden(&mounts.index(mount_at).child(field), why));
                }
            }
        }
    }
}

/// What pods check and templates do not, for compatibility.
pub(super) fn only_for_pod(errors: &mut ErrorList, container: &Value, path: &Path<'_>) {
    let image = container.text("image");
    if image.trim().len() != image.len() {
        errors.push(Error::invalid(&path.child("image"), image, "must not have leading or trailing whitespace"));
    }
}

/// What all sorts of containers have in common.
fn common(errors: &mut ErrorList, around: &Surroundings<'_>, container: &Value, path: &Path<'_>) {
    match container.text("name") {
        "" => errors.push(Error::required(&path.child("name"), "")),
        name => invalid_text(errors, &path.child("name"), name, names::dns1123_label(name, false)),
    }
    required(errors, container, path, &["image"]);
    required_one_of(
        errors,
        &path.child("terminationMessagePolicy"),
        container.text("terminationMessagePolicy"),
        &["File", "FallbackToLogsOnError"],
    );
    ports(errors, container.items("ports"), &path.child("ports"));
    env::variables(errors, container.items("env"), &path.child("env"));
    env::sources(errors, container.items("envFrom"), &path.child("envFrom"));
    mounts(errors, around, container, &path.child("volumeMounts"));
    devices(errors, around, container, &path.child("volumeDevices"));
    required_one_of(
        errors,
        &path.child("imagePullPolicy"),
        container.text("imagePullPolicy"),
        &["Always", "IfNotPresent", "Never"],
    );
    if let Some(resources) = container.get("resources") {
        let resources_path = path.child("resources");
        requirements::requirements(errors, resources, &around.claims, &resources_path, around.options, false);
    }
    resize_policies(errors, around, container.items("resizePolicy"), &path.child("resizePolicy"));
    if let Some(context) = container.get("securityContext") {
        security::container(errors, context, &path.child("securityContext"), around.host_users);
    }
}

fn hooks_and_probes(errors: &mut ErrorList, around: &Surroundings<'_>, container: &Value, path: &Path<'_>) {
    if let Some(lifecycle) = container.get("lifecycle") {
        handlers::lifecycle(errors, lifecycle, around.grace_period, &path.child("lifecycle"));
    }
    handlers::probes(errors, container, around.grace_period, path);
}

/// A container's own restart policy, and the rules that override it by exit code.
fn restart_policy(errors: &mut ErrorList, container: &Value, path: &Path<'_>, is_regular: bool) {
    let policy_path = path.child("restartPolicy");
    let rules = container.items("restartPolicyRules");
    match container.text_if("restartPolicy") {
        Some(policy) => supported(errors, &policy_path, policy, &["Always", "Never", "OnFailure"]),
        None if rules.is_empty() => return,
        None => {
            errors.push(Error::required(&policy_path, "must specify restartPolicy when restart rules are used"));
            if !is_regular {
                return;
            }
        }
    }
    let rules_path = path.child("restartPolicyRules");
    if rules.len() > RESTART_RULES_MAX {
        errors.push(Error::too_many(&rules_path, rules.len(), RESTART_RULES_MAX));
    }
    for (at, rule) in rules.iter().enumerate() {
        let rule_path = rules_path.index(at);
        supported(errors, &rule_path.child("action"), rule.text("action"), &["Restart", "RestartAllContainers"]);
        let codes_path = rule_path.child("exitCodes");
        let Some(codes) = rule.get("exitCodes") else {
            errors.push(Error::required(&codes_path, "must be specified"));
            continue;
        };
        supported(errors, &codes_path.child("operator"), codes.text("operator"), &["In", "NotIn"]);
        let count = codes.items("values").len();
        if count > RESTART_EXIT_CODES_MAX {
            errors.push(Error::too_many(&codes_path.child("values"), count, RESTART_EXIT_CODES_MAX));
        }
    }
}

fn ports(errors: &mut ErrorList, ports: &[Value], path: &Path<'_>) {
    let mut seen = BTreeSet::new();
    for (at, port) in ports.iter().enumerate() {
        let port_path = path.index(at);
        let name = port.text("name");
        if !name.is_empty() {
            let messages = names::port_name(name);
            if !messages.is_empty() {
                invalid_text(errors, &port_path.child("name"), name, messages);
            } else if !seen.insert(name) {
                errors.push(Error::duplicate(&port_path.child("name"), name));
            }
        }
        for field in ["containerPort", "hostPort"] {
            match port.int(field).unwrap_or(0) {
                0 if field == "containerPort" => errors.push(Error::required(&port_path.child(field), "")),
                0 => {}
                number => errors.extend(
                    names::port_num(number).into_iter().map(|m| Error::invalid(&port_path.child(field), number, m)),
                ),
            }
        }
        required_one_of(errors, &port_path.child("protocol"), port.text("protocol"), &["SCTP", "TCP", "UDP"]);
    }
}

/// Two containers cannot have the same port of the host.
fn host_ports(errors: &mut ErrorList, containers: &[Value], path: &Path<'_>) {
    let mut seen = BTreeSet::new();
    for (at, container) in containers.iter().enumerate() {
        for (port_at, port) in container.items("ports").iter().enumerate() {
            let number = port.int("hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", port.text("protocol"), port.text("hostIP"));
            if seen.contains(&key) {
                let container_path = path.index(at);
                let ports = container_path.child("ports");
                errors.push(Error::duplicate(&ports.index(port_at).child("hostPort"), key));
            } else {
                seen.insert(key);
            }
        }
    }
}

fn mounts(errors: &mut ErrorList, around: &Surroundings<'_>, container: &Value, path: &Path<'_>) {
    let devices = container.items("volumeDevices");
    let mut mount_paths = BTreeSet::new();
    for (at, mount) in container.items("volumeMounts").iter().enumerate() {
        let mount_path = path.index(at);
        let name_path = mount_path.child("name");
        let (name, target) = (mount.text("name"), mount.text("mountPath"));
        if name.is_empty() {
            errors.push(Error::required(&name_path, ""));
        }
        if !around.volumes.contains_key(name) {
            errors.push(Error::not_found(&name_path, name));
        }
        let target_path = mount_path.child("mountPath");
        if target.is_empty() {
            errors.push(Error::required(&target_path, ""));
        }
        if !mount_paths.insert(target) {
            errors.push(Error::invalid(&target_path, target, "must be unique"));
        }
        if devices.iter().any(|device| device.text("name") == name) {
            errors.push(Error::invalid(&name_path, name, "must not already exist in volumeDevices"));
        }
        if devices.iter().any(|device| device.text("devicePath") == target) {
            errors.push(Error::invalid(&target_path, target, "must not already exist as a path in volumeDevices"));
        }
        // From here on, upstream's paths leave out the index.
        let (sub_path, expression) = (mount.text("subPath"), mount.text("subPathExpr"));
        if !sub_path.is_empty() {
            local_descending(errors, sub_path, &path.child("subPath"));
        }
        if !expression.is_empty() {
            if !sub_path.is_empty() {
                let why = "subPathExpr and subPath are mutually exclusive";
                errors.push(Error::invalid(&mount_path.child("subPathExpr"), expression, why));
            }
            local_descending(errors, expression, &path.child("subPathExpr"));
        }
        propagation(errors, container, mount, path);
    }
}

fn propagation(errors: &mut ErrorList, container: &Value, mount: &Value, path: &Path<'_>) {
    let propagation = mount.text_if("mountPropagation");
    if let Some(mode) = propagation {
        let mode_path = path.child("mountPropagation");
        supported(errors, &mode_path, mode, &["Bidirectional", "HostToContainer", "None"]);
        if mode == "Bidirectional" && container.bool_at(&["securityContext", "privileged"]) != Some(true) {
            let why = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(Error::forbidden(&mode_path, why));
        }
    }
    let recursive_path = path.child("recursiveReadOnly");
    match mount.text_if("recursiveReadOnly") {
        None | Some("Disabled") => {}
        Some("Enabled" | "IfPossible") => {
            if !mount.is_true("readOnly") {
                errors.push(Error::forbidden(&recursive_path, "may only be specified when readOnly is true"));
            }
            if propagation.is_some_and(|mode| mode != "None") {
                let why = "may only be specified when mountPropagation is None or not specified";
                errors.push(Error::forbidden(&recursive_path, why));
            }
        }
        Some(mode) => {
            errors.push(Error::not_supported(&recursive_path, mode, &["Disabled", "Enabled", "IfPossible"]));
        }
    }
}

fn devices(errors: &mut ErrorList, around: &Surroundings<'_>, container: &Value, path: &Path<'_>) {
    let mounts = container.items("volumeMounts");
    let (mut paths, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (at, device) in container.items("volumeDevices").iter().enumerate() {
        let device_path = path.index(at);
        let name_path = device_path.child("name");
        let target_path = device_path.child("devicePath");
        let (name, target) = (device.text("name"), device.text("devicePath"));
        if name.is_empty() {
            errors.push(Error::required(&name_path, ""));
        }
        if names.contains(name) {
            errors.push(Error::invalid(&name_path, name, "must be unique"));
        }
        match around.volumes.get(name) {
            Some(source) if source.has("persistentVolumeClaim") || source.has("ephemeral") => {}
            Some(_) => {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(Error::invalid(&name_path, name, why));
            }
            None => errors.push(Error::not_found(&name_path, name)),
        }
        if target.is_empty() {
            errors.push(Error::required(&target_path, ""));
        }
        if paths.contains(target) {
            errors.push(Error::invalid(&target_path, target, "must be unique"));
        }
        let mut backsteps = ErrorList::new();
        no_backsteps(&mut backsteps, target, &target_path);
        if backsteps.is_empty() {
            paths.insert(target);
        } else {
            errors.push(Error::invalid(&target_path, target, "can not contain backsteps ('..')"));
        }
        if mounts.iter().any(|mount| mount.text("name") == name) {
            errors.push(Error::invalid(&name_path, name, "must not already exist in volumeMounts"));
        }
        if mounts.iter().any(|mount| mount.text("mountPath") == target) {
            errors.push(Error::invalid(&target_path, target, "must not already exist as a path in volumeMounts"));
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

fn resize_policies(errors: &mut ErrorList, around: &Surroundings<'_>, policies: &[Value], path: &Path<'_>) {
    let mut seen = BTreeSet::new();
    for (at, policy) in policies.iter().enumerate() {
        let (resource, restart) = (policy.text("resourceName"), policy.text("restartPolicy"));
        if !seen.insert(resource) {
            errors.push(Error::duplicate(&path.index(at), resource));
        }
        required_one_of(errors, path, resource, &["cpu", "memory"]);
        required_one_of(errors, path, restart, &["NotRequired", "RestartContainer"]);
        if around.spec.text("restartPolicy") == "Never" && restart != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(Error::invalid(path, restart, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::core::pod::tests::pods;

    #[test]
    fn containers_have_names_and_images() {
        pods(&expect![[r#"
                containers = []
                  spec.containers: Required value
                containers[0].name = ""
                  spec.containers[0].name: Required value
                containers[0].name = "A_"
                  spec.containers[0].name: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character
                containers[0].image = ""
                  spec.containers[0].image: Required value
                containers[0].image = " i"
                  spec.containers[0].image: Invalid value: " i": must not have leading or trailing whitespace
                containers[0].imagePullPolicy = "X"
                  spec.containers[0].imagePullPolicy: Unsupported value: "X": supported values: "Always", "IfNotPresent", "Never"
                containers[1] = {"name":"c","image":"j"}
                  spec.containers[1].name: Duplicate value: "c"
                containers[0].terminationMessagePolicy = "X"
                  spec.containers[0].terminationMessagePolicy: Unsupported value: "X": supported values: "File", "FallbackToLogsOnError"
                initContainers = [{"name":"c","image":"i"}]
                  spec.initContainers[0].name: Duplicate value: "c"
                initContainers = [{"name":"a","image":"i"},{"name":"a","image":""}]
                  spec.initContainers[1].image: Required value
                  spec.initContainers[1].name: Duplicate value: "a"
                ephemeralContainers = [{"name":"e","image":"i"}]
                  spec.ephemeralContainers: Forbidden: cannot be set on create
            "#]]);
    }

    #[test]
    fn ports_are_numbers_with_names() {
        pods(&expect![[r#"
                containers[0].ports = [{"containerPort":0}]
                  spec.containers[0].ports[0].containerPort: Required value
                containers[0].ports = [{"containerPort":70000}]
                  spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive
                containers[0].ports = [{"containerPort":80,"hostPort":80000}]
                  spec.containers[0].ports[0].hostPort: Invalid value: 80000: must be between 1 and 65535, inclusive
                containers[0].ports = [{"containerPort":80,"protocol":"X"}]
                  spec.containers[0].ports[0].protocol: Unsupported value: "X": supported values: "SCTP", "TCP", "UDP"
                containers[0].ports = [{"containerPort":80,"name":"A--"}]
                  spec.containers[0].ports[0].name: Invalid value: "A--": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)
                  spec.containers[0].ports[0].name: Invalid value: "A--": must contain at least one letter (a-z)
                  spec.containers[0].ports[0].name: Invalid value: "A--": must not contain consecutive hyphens
                  spec.containers[0].ports[0].name: Invalid value: "A--": must not begin or end with a hyphen
                containers[0].ports = [{"containerPort":80,"name":"toolongnamefortheport"}]
                  spec.containers[0].ports[0].name: Invalid value: "toolongnamefortheport": must be no more than 15 characters
                containers[0].ports = [{"containerPort":80,"name":"a"},{"containerPort":81,"name":"a"}]
                  spec.containers[0].ports[1].name: Duplicate value: "a"
                    spec.containers[0].ports[1]: duplicate port name "a" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]
                containers[0].ports = [{"containerPort":80,"hostPort":80},{"containerPort":81,"hostPort":80}]
                  spec.containers[0].ports[1].hostPort: Duplicate value: "TCP//80"
                containers[0].ports = [{"containerPort":80,"hostPort":80,"hostIP":"1.2.3"}]
                hostNetwork = true ; containers[0].ports = [{"containerPort":80,"hostPort":81}]
                  spec.containers[0].ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true
                hostNetwork = true ; containers[0].ports = [{"containerPort":80}]
            "#]]);
    }

    #[test]
    fn init_containers_run_once_or_stay() {
        pods(&expect![[r#"
                containers[0].restartPolicy = "Always"
                containers[0].restartPolicy = "X"
                  spec.containers[0].restartPolicy: Unsupported value: "X": supported values: "Always", "Never", "OnFailure"
                containers[0].restartPolicyRules = [{"action":"Restart"}]
                  spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used
                  spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified
                containers[0].restartPolicy = "Never" ; containers[0].restartPolicyRules = [{"action":"X","exitCodes":{"operator":"X","values":[]}}]
                  spec.containers[0].restartPolicyRules[0].action: Unsupported value: "X": supported values: "Restart", "RestartAllContainers"
                  spec.containers[0].restartPolicyRules[0].exitCodes.operator: Unsupported value: "X": supported values: "In", "NotIn"
                initContainers = [{"name":"i","image":"i","restartPolicy":"Always"}]
                initContainers = [{"name":"i","image":"i","restartPolicy":"X"}]
                  spec.initContainers[0].restartPolicy: Unsupported value: "X": supported values: "Always", "Never", "OnFailure"
                initContainers = [{"name":"i","image":"i","livenessProbe":{"exec":{"command":["a"]}},"lifecycle":{"preStop":{"exec":{"command":["a"]}}}}]
                  spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always
                  spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always
                initContainers = [{"name":"i","image":"i","restartPolicy":"Always","livenessProbe":{"exec":{"command":["a"]}}}]
                containers[0].resizePolicy = [{"resourceName":"cpu","restartPolicy":"X"}]
                  spec.containers[0].resizePolicy: Unsupported value: "X": supported values: "NotRequired", "RestartContainer"
                containers[0].resizePolicy = [{"resourceName":"foo","restartPolicy":"NotRequired"}]
                  spec.containers[0].resizePolicy: Unsupported value: "foo": supported values: "cpu", "memory"
                containers[0].resizePolicy = [{"resourceName":"cpu","restartPolicy":"NotRequired"},{"resourceName":"cpu","restartPolicy":"NotRequired"}]
                  spec.containers[0].resizePolicy[1]: Duplicate value: "cpu"
                restartPolicy = "Never" ; containers[0].resizePolicy = [{"resourceName":"memory","restartPolicy":"RestartContainer"}]
                  spec.containers[0].resizePolicy: Invalid value: "RestartContainer": must be 'NotRequired' when pod `restartPolicy` is 'Never'
            "#]]);
    }

    #[test]
    fn mounts_are_of_volumes() {
        pods(&expect![[r#"
                containers[0].volumeMounts = [{"name":"","mountPath":""}]
                  spec.containers[0].volumeMounts[0].name: Required value
                  spec.containers[0].volumeMounts[0].name: Not found: ""
                  spec.containers[0].volumeMounts[0].mountPath: Required value
                containers[0].volumeMounts = [{"name":"z","mountPath":"/a"}]
                  spec.containers[0].volumeMounts[0].name: Not found: "z"
                volumes = [{"name":"v","emptyDir":{}}] ; containers[0].volumeMounts = [{"name":"v","mountPath":"/a"},{"name":"v","mountPath":"/a"}]
                  spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique
                volumes = [{"name":"v","emptyDir":{}}] ; containers[0].volumeMounts = [{"name":"v","mountPath":"/a","subPath":"../x"}]
                  spec.containers[0].volumeMounts.subPath: Invalid value: "../x": must not contain '..'
                volumes = [{"name":"v","emptyDir":{}}] ; containers[0].volumeMounts = [{"name":"v","mountPath":"/a","subPathExpr":"$(X)","subPath":"a"}]
                  spec.containers[0].volumeMounts[0].subPathExpr: Invalid value: "$(X)": subPathExpr and subPath are mutually exclusive
                volumes = [{"name":"v","emptyDir":{}}] ; containers[0].volumeMounts = [{"name":"v","mountPath":"/a","mountPropagation":"Bidirectional"}]
                  spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers
                volumes = [{"name":"v","emptyDir":{}}] ; containers[0].volumeMounts = [{"name":"v","mountPath":"/a","recursiveReadOnly":"Enabled"}]
                  spec.containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true
                volumes = [{"name":"v","image":{"reference":"x"}}] ; containers[0].volumeMounts = [{"name":"v","mountPath":"/a","subPathExpr":"x"}]
                containers[0].volumeDevices = [{"name":"","devicePath":""}]
                  spec.containers[0].volumeDevices[0].name: Required value
                  spec.containers[0].volumeDevices[0].name: Not found: ""
                  spec.containers[0].volumeDevices[0].devicePath: Required value
                volumes = [{"name":"v","emptyDir":{}}] ; containers[0].volumeDevices = [{"name":"v","devicePath":"/a"}]
                  spec.containers[0].volumeDevices[0].name: Invalid value: "v": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode
                volumes = [{"name":"v","persistentVolumeClaim":{"claimName":"c"}}] ; containers[0].volumeDevices = [{"name":"v","devicePath":"/a/../b"}]
                  spec.containers[0].volumeDevices[0].devicePath: Invalid value: "/a/../b": can not contain backsteps ('..')
                volumes = [{"name":"v","persistentVolumeClaim":{"claimName":"c"}}] ; containers[0].volumeDevices = [{"name":"v","devicePath":"/a"}] ; containers[0].volumeMounts = [{"name":"v","mountPath":"/a"}]
                  spec.containers[0].volumeMounts[0].name: Invalid value: "v": must not already exist in volumeDevices
                  spec.containers[0].volumeMounts[0].mountPath: Invalid value: "/a": must not already exist as a path in volumeDevices
                  spec.containers[0].volumeDevices[0].name: Invalid value: "v": must not already exist in volumeMounts
                  spec.containers[0].volumeDevices[0].devicePath: Invalid value: "/a": must not already exist as a path in volumeMounts
            "#]]);
    }
}
