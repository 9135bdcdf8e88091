//! What a container's processes may do: the security contexts of the Pod and the container, in the CRI's terms.

use api_schema::Value;
use cri::v1::ProfileType;
use cri::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy,
};

use crate::pod::{Container, ContainerKind, Pod};

/// Paths that no container sees, unless `procMount` is Unmasked.
const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Paths that no container changes, unless `procMount` is Unmasked.
const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Who a container runs as when nothing else is said: what its image says.
#[derive(Clone, Debug, Default)]
pub struct ImageUser {
    /// The user's number, if the image gives one.
    pub uid: Option<i64>,
    /// The user's name, if the image gives one instead.
    pub username: String,
}

/// A field of the container's security context, else of the Pod's.
fn effective<'a>(pod: &'a Pod, container: Container<'a>, field: &str) -> Option<&'a Value> {
    container.at(&["securityContext", field]).or_else(|| pod.spec(&["securityContext", field]))
}

/// The security context of a container.
///
/// # Errors
/// In upstream's words, for `CreateContainerConfigError`: the container must not run as root and would.
pub fn container_context(
    pod: &Pod,
    container: Container<'_>,
    image: &ImageUser,
    target_id: Option<&str>,
    extra_groups: &[i64],
    seccomp_default: bool,
) -> Result<LinuxContainerSecurityContext, String> {
    verify_non_root(pod, container, image)?;
    let own = |field: &str| container.at(&["securityContext", field]);
    let switch = |field: &str| own(field).and_then(Value::as_bool).unwrap_or(false);
    let run_as_user = effective(pod, container, "runAsUser").and_then(Value::as_int);
    let (uid, username) = match run_as_user {
        Some(uid) => (Some(uid), String::new()),
        None => (image.uid, image.username.clone()),
    };
    let privileged = switch("privileged");
    let unmasked = own("procMount").and_then(Value::as_str) == Some("Unmasked");
    let paths = |paths: &[&str]| match unmasked {
        true => Vec::new(),
        false => paths.iter().map(|&path| path.to_owned()).collect(),
    };
    let number = |value: i64| Int64Value { value };
    Ok(LinuxContainerSecurityContext {
        capabilities: own("capabilities").map(capabilities),
        privileged,
        namespace_options: Some(namespaces(pod, target_id)),
        selinux_options: effective(pod, container, "seLinuxOptions").map(selinux),
        run_as_user: uid.map(number),
        run_as_group: effective(pod, container, "runAsGroup").and_then(Value::as_int).map(number),
        run_as_username: username,
        readonly_rootfs: switch("readOnlyRootFilesystem"),
        supplemental_groups: supplemental_groups(pod, extra_groups),
        supplemental_groups_policy: groups_policy(pod) as i32,
        no_new_privs: own("allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false),
        masked_paths: paths(&MASKED_PATHS),
        readonly_paths: paths(&READONLY_PATHS),
        seccomp: Some(seccomp(effective(pod, container, "seccompProfile"), seccomp_default && !privileged)),
        ..LinuxContainerSecurityContext::default()
    })
}

/// The security context of a Pod's sandbox.
pub fn sandbox_context(pod: &Pod) -> LinuxSandboxSecurityContext {
    let at = |field: &str| pod.spec(&["securityContext", field]);
    let number = |value: i64| Int64Value { value };
    let is_privileged = |container: Container<'_>| {
        container.at(&["securityContext", "privileged"]).and_then(Value::as_bool).unwrap_or(false)
    };
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, None)),
        selinux_options: at("seLinuxOptions").map(selinux),
        run_as_user: at("runAsUser").and_then(Value::as_int).map(number),
        run_as_group: at("runAsGroup").and_then(Value::as_int).map(number),
        supplemental_groups: supplemental_groups(pod, &[]),
        supplemental_groups_policy: groups_policy(pod) as i32,
        privileged: pod.all_containers().any(is_privileged),
        seccomp: Some(profile(ProfileType::RuntimeDefault, "")),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// Which namespaces are shared with whom.
pub fn namespaces(pod: &Pod, target_id: Option<&str>) -> NamespaceOption {
    let node_or_pod = |node: bool| if node { NamespaceMode::Node } else { NamespaceMode::Pod };
    let pid = if target_id.is_some() {
        NamespaceMode::Target
    } else if pod.spec_bool("hostPID") {
        NamespaceMode::Node
    } else if pod.spec_bool("shareProcessNamespace") {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: node_or_pod(pod.is_host_network()) as i32,
        pid: pid as i32,
        ipc: node_or_pod(pod.spec_bool("hostIPC")) as i32,
        target_id: target_id.unwrap_or_default().to_owned(),
        userns_options: None,
    }
}

fn verify_non_root(pod: &Pod, container: Container<'_>, image: &ImageUser) -> Result<(), String> {
    let required = effective(pod, container, "runAsNonRoot").and_then(Value::as_bool).unwrap_or(false);
    if !required || container.kind() == ContainerKind::Ephemeral && pod.spec_bool("hostUsers") {
        return Ok(());
    }
    let shown =
        format!("pod: \"{}_{}({})\", container: {}", pod.key().name, pod.key().namespace, pod.uid(), container.name());
    match effective(pod, container, "runAsUser").and_then(Value::as_int) {
        Some(0) => return Err(format!("container's runAsUser breaks non-root policy ({shown})")),
        Some(_) => return Ok(()),
        None => {}
    }
    match (image.uid, image.username.as_str()) {
        (Some(0), _) => Err(format!("container has runAsNonRoot and image will run as root ({shown})")),
        (None, username) if !username.is_empty() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({username}), cannot verify user is non-root ({shown})"
        )),
        // An image that says nothing runs as root.
        (None, _) => Err(format!("container has runAsNonRoot and image will run as root ({shown})")),
        (Some(_), _) => Ok(()),
    }
}

fn capabilities(value: &Value) -> Capability {
    let texts = |field: &str| value.list_at(&[field]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    Capability { add_capabilities: texts("add"), drop_capabilities: texts("drop"), ..Capability::default() }
}

fn selinux(value: &Value) -> SeLinuxOption {
    let text = |field: &str| value.str_at(&[field]).to_owned();
    SeLinuxOption { user: text("user"), role: text("role"), r#type: text("type"), level: text("level") }
}

fn supplemental_groups(pod: &Pod, extra: &[i64]) -> Vec<i64> {
    let at = |field: &str| pod.spec(&["securityContext", field]);
    let listed = at("supplementalGroups").and_then(Value::as_list).unwrap_or_default();
    let groups = at("fsGroup").into_iter().chain(listed).filter_map(Value::as_int);
    groups.chain(extra.iter().copied()).collect()
}

fn groups_policy(pod: &Pod) -> SupplementalGroupsPolicy {
    match pod.spec(&["securityContext", "supplementalGroupsPolicy"]).and_then(Value::as_str) {
        Some("Strict") => SupplementalGroupsPolicy::Strict,
        _ => SupplementalGroupsPolicy::Merge,
    }
}

fn profile(kind: ProfileType, localhost: &str) -> SecurityProfile {
    SecurityProfile { profile_type: kind as i32, localhost_ref: localhost.to_owned() }
}

fn seccomp(value: Option<&Value>, default: bool) -> SecurityProfile {
    match value.map(|value| value.str_at(&["type"])) {
        Some("RuntimeDefault") => profile(ProfileType::RuntimeDefault, ""),
        Some("Localhost") => {
            profile(ProfileType::Localhost, value.map_or("", |value| value.str_at(&["localhostProfile"])))
        }
        Some(_) => profile(ProfileType::Unconfined, ""),
        None if default => profile(ProfileType::RuntimeDefault, ""),
        None => profile(ProfileType::Unconfined, ""),
    }
}
