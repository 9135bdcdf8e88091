//! Security contexts, of pods and of containers.

use std::collections::BTreeSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::checks::{internal, invalid_text, supported};

use super::super::look::{Look, all_containers};
use super::{Options, PROFILE_LEN_MAX, local_descending};

const SYSCTL_LEN_MAX: usize = 253;

/// The security context of a pod.
pub(super) fn pod(errors: &mut ErrorList, spec: &Value, path: &Path<'_>, options: Options<'_>) {
    let Some(context) = spec.get("securityContext") else { return };
    for (field, check) in [
        ("fsGroup", names::group_id as fn(i64) -> Vec<String>),
        ("runAsUser", names::user_id),
        ("runAsGroup", names::group_id),
    ] {
        id(errors, context, field, check, path);
    }
    let groups = path.child("supplementalGroups");
    for (at, group) in context.items("supplementalGroups").iter().enumerate() {
        let group = group.as_int().unwrap_or(0);
        errors.extend(names::group_id(group).into_iter().map(|m| Error::invalid(&groups.index(at), group, m)));
    }
    if spec.is_true("shareProcessNamespace") && spec.is_true("hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(Error::invalid(&path.child("shareProcessNamespace"), true, why));
    }
    sysctls(errors, spec, context.items("sysctls"), &path.child("sysctls"), options);
    if let Some(policy) = context.text_if("fsGroupChangePolicy") {
        supported(errors, &path.child("fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"]);
    }
    seccomp(errors, context, path);
    windows_options(errors, context, path);
    app_armor(errors, context, path);
    if let Some(policy) = context.text_if("supplementalGroupsPolicy") {
        supported(errors, &path.child("supplementalGroupsPolicy"), policy, &["Merge", "Strict"]);
    }
    if let Some(policy) = context.text_if("seLinuxChangePolicy") {
        // The feature SELinuxMount is off by default: there is nothing to choose yet.
        let policies: &[&str] =
            if options.lenient.any_selinux_policy { &["MountOption", "Recursive"] } else { &["Recursive"] };
        supported(errors, &path.child("seLinuxChangePolicy"), policy, policies);
    }
}

/// The security context of a container.
pub(super) fn container(errors: &mut ErrorList, context: &Value, path: &Path<'_>, host_users: bool) {
    id(errors, context, "runAsUser", names::user_id, path);
    id(errors, context, "runAsGroup", names::group_id, path);
    if let Some(mount) = context.text_if("procMount") {
        let mount_path = path.child("procMount");
        supported(errors, &mount_path, mount, &["Default", "Unmasked"]);
        if host_users && mount == "Unmasked" {
            errors.push(Error::invalid(&mount_path, mount, "`hostUsers` must be false to use `Unmasked`"));
        }
    }
    seccomp(errors, context, path);
    if context.flag("allowPrivilegeEscalation") == Some(false) {
        if context.is_true("privileged") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(Error::invalid(path, internal(Some(context), "io.k8s.api.core.v1.SecurityContext"), why));
        }
        let added = context.get("capabilities").map(|capabilities| capabilities.items("add")).unwrap_or_default();
        for _ in added.iter().filter(|capability| capability.as_str() == Some("CAP_SYS_ADMIN")) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(Error::invalid(path, internal(Some(context), "io.k8s.api.core.v1.SecurityContext"), why));
        }
    }
    windows_options(errors, context, path);
    app_armor(errors, context, path);
}

fn id(errors: &mut ErrorList, context: &Value, field: &str, check: fn(i64) -> Vec<String>, path: &Path<'_>) {
    if let Some(id) = context.int(field) {
        errors.extend(check(id).into_iter().map(|message| Error::invalid(&path.child(field), id, message)));
    }
}

fn sysctls(errors: &mut ErrorList, spec: &Value, sysctls: &[Value], path: &Path<'_>, options: Options<'_>) {
    let mut seen = BTreeSet::new();
    for (at, sysctl) in sysctls.iter().enumerate() {
        let sysctl_path = path.index(at);
        let name_path = sysctl_path.child("name");
        let name = sysctl.text("name");
        if name.is_empty() {
            errors.push(Error::required(&name_path, ""));
        } else if !is_sysctl(name) {
            let why = format!(
                "must have at most {SYSCTL_LEN_MAX} characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            );
            errors.push(Error::invalid(&name_path, name, why));
        } else if seen.contains(name) {
            errors.push(Error::duplicate(&name_path, name));
        }
        if !options.lenient.namespaced_sysctls_on_host
            && let Some(why) = host_conflict(spec, name)
        {
            errors.push(Error::invalid(&name_path, name, why));
        }
        seen.insert(name);
    }
}

fn is_sysctl(name: &str) -> bool {
    let is_edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_segment = |segment: &str| {
        segment.bytes().all(|c| is_edge(c) || matches!(c, b'-' | b'_'))
            && segment.bytes().next().is_some_and(is_edge)
            && segment.bytes().next_back().is_some_and(is_edge)
    };
    name.len() <= SYSCTL_LEN_MAX && name.split(['.', '/']).all(is_segment)
}

/// A namespaced kernel setting cannot be had in the host's namespace.
fn host_conflict(spec: &Value, sysctl: &str) -> Option<&'static str> {
    let name = normal_sysctl(sysctl);
    let is_ipc = name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| name.starts_with(p));
    if spec.is_true("hostNetwork") && name.starts_with("net.") {
        Some("may not be specified when 'hostNetwork' is true")
    } else if spec.is_true("hostIPC") && is_ipc {
        Some("may not be specified when 'hostIPC' is true")
    } else {
        None
    }
}

/// With `/` as the separator, dots and slashes change places.
fn normal_sysctl(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'/' => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// Whether a spec sets namespaced kernel settings in the host's namespaces.
pub(super) fn has_namespaced_sysctls_on_host(spec: &Value) -> bool {
    let Some(context) = spec.get("securityContext") else { return false };
    context.items("sysctls").iter().any(|sysctl| host_conflict(spec, sysctl.text("name")).is_some())
}

fn seccomp(errors: &mut ErrorList, context: &Value, path: &Path<'_>) {
    let Some(profile) = context.get("seccompProfile") else { return };
    let path = path.child("seccompProfile");
    let file_path = path.child("localhostProfile");
    match profile.text("type") {
        "" => errors.push(Error::required(&path.child("type"), "type is required when seccompProfile is set")),
        kind => supported(errors, &path.child("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
    match (profile.text("type"), profile.text_if("localhostProfile")) {
        ("Localhost", None) => {
            errors.push(Error::required(&file_path, "must be set when seccomp type is Localhost"));
        }
        ("Localhost", Some(file)) => local_descending(errors, file, &file_path),
        (_, Some(_)) => {
            let why = "can only be set when seccomp type is Localhost";
            errors.push(Error::invalid(&file_path, internal(Some(profile), "io.k8s.api.core.v1.SeccompProfile"), why));
        }
        (_, None) => {}
    }
}

fn app_armor(errors: &mut ErrorList, context: &Value, path: &Path<'_>) {
    let Some(profile) = context.get("appArmorProfile") else { return };
    let path = path.child("appArmorProfile");
    let file_path = path.child("localhostProfile");
    let file = profile.text_if("localhostProfile");
    const MISSING: &str = "must be set when AppArmor type is Localhost";
    match profile.text("type") {
        "Localhost" => {
            let Some(file) = file else {
                errors.push(Error::required(&file_path, MISSING));
                return;
            };
            if file.trim() != file {
                errors.push(Error::invalid(&file_path, file, "must not be padded with whitespace"));
            } else if file.is_empty() {
                errors.push(Error::required(&file_path, MISSING));
            }
            if file.len() > PROFILE_LEN_MAX {
                errors.push(Error::too_long(&file_path, PROFILE_LEN_MAX));
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if let Some(file) = file {
                errors.push(Error::invalid(&file_path, file, "can only be set when AppArmor type is Localhost"));
            }
        }
        "" => errors.push(Error::required(&path.child("type"), "type is required when appArmorProfile is set")),
        kind => {
            let supported = ["Localhost", "RuntimeDefault", "Unconfined"];
            errors.push(Error::not_supported(&path.child("type"), kind, &supported));
        }
    }
}

const GMSA_SPEC_KIB_MAX: usize = 64;
const WINDOWS_DOMAIN_LEN_MAX: usize = 256;
const WINDOWS_USER_LEN_MAX: usize = 104;

fn windows_options(errors: &mut ErrorList, context: &Value, path: &Path<'_>) {
    let Some(options) = context.get("windowsOptions") else { return };
    let path = path.child("windowsOptions");
    if let Some(name) = options.text_if("gmsaCredentialSpecName") {
        invalid_text(errors, &path.child("gmsaCredentialSpecName"), name, names::dns1123_subdomain(name, false));
    }
    if let Some(spec) = options.text_if("gmsaCredentialSpec") {
        let spec_path = path.child("gmsaCredentialSpec");
        if spec.is_empty() {
            errors.push(Error::invalid(&spec_path, spec, "gmsaCredentialSpec cannot be an empty string"));
        } else if spec.len() > GMSA_SPEC_KIB_MAX * 1024 {
            let why = format!("gmsaCredentialSpec size must be under {GMSA_SPEC_KIB_MAX} KiB");
            errors.push(Error::invalid(&spec_path, spec, why));
        }
    }
    if let Some(name) = options.text_if("runAsUserName") {
        invalid_text(errors, &path.child("runAsUserName"), name, windows_user_name(name));
    }
}

/// `DOMAIN\user`, or a user alone.
fn windows_user_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string".to_owned()];
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters".to_owned()];
    }
    let (domain, user) = match name.split_once('\\') {
        Some((_, user)) if user.contains('\\') => {
            return vec!["runAsUserName cannot contain more than one backslash".to_owned()];
        }
        Some((domain, user)) => (Some(domain), user),
        None => (None, name),
    };
    let mut messages = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= WINDOWS_DOMAIN_LEN_MAX) {
        messages.push(format!("runAsUserName's Domain length must be under {WINDOWS_DOMAIN_LEN_MAX} characters"));
    }
    if domain.is_some_and(|domain| !is_netbios(domain) && !is_dns(domain)) {
        messages.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
    }
    if user.is_empty() {
        messages.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > WINDOWS_USER_LEN_MAX {
        messages.push(format!("runAsUserName's User length must not be longer than {WINDOWS_USER_LEN_MAX} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        messages.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        let why = r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#;
        messages.push(why.to_owned());
    }
    messages
}

fn is_netbios(domain: &str) -> bool {
    (1..=15).contains(&domain.chars().count())
        && !domain.starts_with('.')
        && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

fn is_dns(domain: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    domain.split('.').all(is_label)
}

/// Windows containers that run as processes of the host: all of a pod's containers or none.
pub(super) fn host_process(errors: &mut ErrorList, spec: &Value, path: &Path<'_>) {
    let of_pod = spec.bool_at(&["securityContext", "windowsOptions", "hostProcess"]);
    let (mut containers, mut on_host) = (0, 0);
    for (list, at, container) in all_containers(spec) {
        containers += 1;
        let own = container.bool_at(&["securityContext", "windowsOptions", "hostProcess"]);
        if let (Some(of_pod), Some(own)) = (of_pod, own)
            && of_pod != own
        {
            let containers_path = path.child(list);
            let container_path = containers_path.index(at);
            let why = format!("pod hostProcess value must be identical if both are specified, was {of_pod}");
            let field = container_path.child("securityContext.windowsOptions.hostProcess");
            errors.push(Error::invalid(&field, own, why));
        }
        on_host += usize::from(own.or(of_pod) == Some(true));
    }
    if on_host == 0 {
        return;
    }
    if on_host != containers {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(Error::invalid(path, "", why));
    }
    if !spec.is_true("hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(Error::invalid(&path.child("hostNetwork"), false, why));
    }
}

/// A user namespace of its own cannot be had together with other namespaces of the host.
pub(super) fn host_users(errors: &mut ErrorList, spec: &Value, path: &Path<'_>, options: Options<'_>) {
    const WHY: &str = "when `hostUsers` is false";
    if spec.flag("hostUsers") != Some(false) {
        return;
    }
    // The capitals of the paths are upstream's.
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.is_true(field) {
            errors.push(Error::forbidden(&path.child(shown), WHY));
        }
    }
    if options.lenient.devices_in_user_namespaces {
        return;
    }
    for (list, at, container) in all_containers(spec) {
        if !container.items("volumeDevices").is_empty() {
            let list_path = path.child(list);
            errors.push(Error::forbidden(&list_path.index(at).child("volumeDevices"), WHY));
        }
    }
}

/// Whether a spec wants devices in a user namespace of its own, where they do not work.
pub(super) fn has_devices_in_user_namespace(spec: &Value) -> bool {
    spec.flag("hostUsers") == Some(false)
        && all_containers(spec).any(|(.., container)| !container.items("volumeDevices").is_empty())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::core::pod::tests::pods;

    #[test]
    fn security_contexts_are_consistent() {
        pods(&expect![[r#"
                containers[0].securityContext = {"privileged":true,"allowPrivilegeEscalation":false}
                  spec.containers[0].securityContext: Invalid value: {"Capabilities":null,"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true
                containers[0].securityContext = {"capabilities":{"add":["CAP_SYS_ADMIN"]},"allowPrivilegeEscalation":false}
                  spec.containers[0].securityContext: Invalid value: {"Capabilities":{"Add":["CAP_SYS_ADMIN"],"Drop":null},"Privileged":null,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":null,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":null,"SeccompProfile":null,"AppArmorProfile":null}: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN
                containers[0].securityContext = {"runAsUser":-1,"runAsGroup":3000000000}
                  spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
                  spec.containers[0].securityContext.runAsGroup: Invalid value: 3000000000: must be between 0 and 2147483647, inclusive
                containers[0].securityContext = {"procMount":"Unmasked"}
                  spec.containers[0].securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`
                hostUsers = false ; containers[0].securityContext = {"procMount":"Unmasked"}
                containers[0].securityContext = {"seccompProfile":{"type":"Localhost"}}
                  spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost
                containers[0].securityContext = {"seccompProfile":{"type":"RuntimeDefault","localhostProfile":"a"}}
                  spec.containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: {"Type":"RuntimeDefault","LocalhostProfile":"a"}: can only be set when seccomp type is Localhost
                containers[0].securityContext = {"appArmorProfile":{"type":"Localhost","localhostProfile":" a"}}
                  spec.containers[0].securityContext.appArmorProfile.localhostProfile: Invalid value: " a": must not be padded with whitespace
                containers[0].securityContext = {"windowsOptions":{"gmsaCredentialSpecName":"A B","runAsUserName":"","gmsaCredentialSpec":""}}
                  spec.containers[0].securityContext.windowsOptions.gmsaCredentialSpecName: Invalid value: "A B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character
                  spec.containers[0].securityContext.windowsOptions.gmsaCredentialSpec: Invalid value: "": gmsaCredentialSpec cannot be an empty string
                  spec.containers[0].securityContext.windowsOptions.runAsUserName: Invalid value: "": runAsUserName cannot be an empty string
                containers[0].securityContext = {"windowsOptions":{"hostProcess":true}}
                  spec.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers
                containers[0].securityContext = {"windowsOptions":{"runAsUserName":"a\\b\\c"}}
                  spec.containers[0].securityContext.windowsOptions.runAsUserName: Invalid value: "a\\b\\c": runAsUserName cannot contain more than one backslash
                securityContext = {"runAsUser":-1,"fsGroup":-1,"supplementalGroups":[-1,5]}
                  spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive
                  spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive
                  spec.securityContext.supplementalGroups[0]: Invalid value: -1: must be between 0 and 2147483647, inclusive
                securityContext = {"fsGroupChangePolicy":"X","supplementalGroupsPolicy":"X","seLinuxChangePolicy":"X"}
                  spec.securityContext.fsGroupChangePolicy: Unsupported value: "X": supported values: "Always", "OnRootMismatch"
                  spec.securityContext.supplementalGroupsPolicy: Unsupported value: "X": supported values: "Merge", "Strict"
                  spec.securityContext.seLinuxChangePolicy: Unsupported value: "X": supported values: "Recursive"
                securityContext = {"sysctls":[{"name":"","value":""},{"name":"a..b","value":"1"}]}
                  spec.securityContext.sysctls[0].name: Required value
                  spec.securityContext.sysctls[1].name: Invalid value: "a..b": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$
                hostNetwork = true ; securityContext = {"sysctls":[{"name":"net.ipv4.x","value":"1"}]}
                  spec.securityContext.sysctls[0].name: Invalid value: "net.ipv4.x": may not be specified when 'hostNetwork' is true
                hostPID = true ; shareProcessNamespace = true
                  spec.securityContext.shareProcessNamespace: Invalid value: true: ShareProcessNamespace and HostPID cannot both be enabled
                hostUsers = false ; hostNetwork = true
                  spec.hostNetwork: Forbidden: when `hostUsers` is false
                hostUsers = false ; hostPID = true
                  spec.HostPID: Forbidden: when `hostUsers` is false
            "#]]);
    }

    #[test]
    fn systems_have_their_own_options() {
        pods(&expect![[r#"
                os = {"name":"x"}
                  spec.os: Unsupported value: "x": supported values: "linux", "windows"
                os = {}
                  spec.os.name: Required value
                os = {"name":"linux"} ; securityContext = {"windowsOptions":{"runAsUserName":"a"}}
                  spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod
                os = {"name":"windows"} ; hostPID = true ; securityContext = {"runAsUser":1} ; containers[0].securityContext = {"privileged":true}
                  spec.hostPID: Forbidden: cannot be set for a windows pod
                  spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod
                  spec.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod
            "#]]);
    }
}
