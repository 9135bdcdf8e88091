//! What a pod spec must be like, in upstream's words and order (pkg/apis/core/validation).
//!
//! The spec of a pod and of every template is checked by [`spec`]; [`Options`] says what differs.

use std::collections::{BTreeMap, BTreeSet};

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, ErrorType, Path, quoted};
use api_semantics::{ip, names, selector};

use crate::checks::{invalid_text, supported};

use super::look::{CONTAINER_LISTS, Look, all_containers};
use super::resources;

pub(crate) mod annotations;
mod containers;
mod env;
mod handlers;
mod requirements;
pub(crate) mod scheduling;
mod security;
pub(crate) mod update;
mod volumes;

pub(crate) use annotations::PROFILE_LEN_MAX;

/// The longest host name that Linux takes.
const HOSTNAME_LEN_MAX: usize = 64;

/// The largest int32.
const INT32_MAX: i64 = i32::MAX as i64;

/// What the check of a spec depends on beside the spec.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options<'a> {
    /// The name of the pod, for a pod that has one; `None` for templates.
    pub(crate) pod_name: Option<&'a str>,
    /// Whether the spec is a Pod's own rather than a template's.
    pub(crate) is_pod: bool,
    /// What the old object did wrong before it was forbidden, and may go on doing.
    pub(crate) lenient: Leniency,
}

/// Old sins that an update may keep.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Leniency {
    invalid_label_values: bool,
    indivisible_huge_pages: bool,
    invalid_spread_selectors: bool,
    non_local_token_paths: bool,
    namespaced_sysctls_on_host: bool,
    invalid_node_affinity_values: bool,
    restarting_init_containers: bool,
    devices_in_user_namespaces: bool,
    any_selinux_policy: bool,
}

impl Leniency {
    /// What the old spec, if there is one, makes tolerable.
    pub(crate) fn of(old: Option<&Value>) -> Self {
        let Some(old) = old else { return Self::default() };
        Self {
            invalid_label_values: scheduling::has_invalid_affinity_selectors(old),
            indivisible_huge_pages: all_containers(old).any(|(.., c)| requirements::has_indivisible_huge_pages(c)),
            invalid_spread_selectors: scheduling::has_invalid_spread_selectors(old),
            non_local_token_paths: volumes::has_non_local_token_paths(old),
            namespaced_sysctls_on_host: security::has_namespaced_sysctls_on_host(old),
            invalid_node_affinity_values: scheduling::has_invalid_node_affinity_values(old),
            restarting_init_containers: containers::has_restarting_init_containers(old),
            devices_in_user_namespaces: security::has_devices_in_user_namespace(old),
            any_selinux_policy: old.at(&["securityContext", "seLinuxChangePolicy"]).is_some(),
        }
    }
}

/// What the containers of a pod may refer to.
struct Surroundings<'a> {
    spec: &'a Value,
    options: Options<'a>,
    /// The volumes that are good, by name.
    volumes: BTreeMap<&'a str, &'a Value>,
    /// The names of the pod's resource claims.
    claims: BTreeSet<&'a str>,
    grace_period: Option<i64>,
    /// Whether the pod runs in the host's user namespace.
    host_users: bool,
}

/// An error without the value, which upstream leaves out where it would be too much to read.
pub(crate) fn invalid_without_value(path: &Path<'_>, detail: &str) -> Error {
    Error { ty: ErrorType::Invalid, field: path.to_string(), value: detail.to_owned(), detail: String::new() }
}

/// As [`supported`], but an empty string is a missing one. The values are listed in the order given.
fn required_one_of(errors: &mut ErrorList, path: &Path<'_>, value: &str, values: &[&str]) {
    match value {
        "" => errors.push(Error::required(path, "")),
        value => supported(errors, path, value, values),
    }
}

/// The required fields of a source that may not be empty.
fn required(errors: &mut ErrorList, holder: &Value, path: &Path<'_>, fields: &[&str]) {
    for field in fields {
        if holder.get(field).is_none_or(Value::is_zero) {
            errors.push(Error::required(&path.child(field), ""));
        }
    }
}

/// A path without `..`.
fn no_backsteps(errors: &mut ErrorList, target: &str, path: &Path<'_>) {
    if target.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(path, target, "must not contain '..'"));
    }
}

/// A relative path without `..`.
fn local_descending(errors: &mut ErrorList, target: &str, path: &Path<'_>) {
    if target.starts_with('/') {
        errors.push(Error::invalid(path, target, "must be a relative path"));
    }
    no_backsteps(errors, target, path);
}

/// A relative path without `..` that does not begin with `..` either: such names are kept for ourselves.
fn local_not_reserved(errors: &mut ErrorList, target: &str, path: &Path<'_>) {
    local_descending(errors, target, path);
    if target.starts_with("..") && !target.starts_with("../") {
        errors.push(Error::invalid(path, target, "must not start with '..'"));
    }
}

/// The template at `path`, as ReplicaSets and their like have one.
pub(crate) fn template(errors: &mut ErrorList, template: &Value, path: &Path<'_>, options: Options<'_>) {
    let spec_path = path.child("spec");
    let spec_value = template.get("spec").unwrap_or(&Value::Null);
    template_metadata(errors, template, path);
    spec(errors, spec_value, &spec_path, options);
    annotations::seccomp_fields(errors, template, &spec_path);
    annotations::app_armor_fields(errors, template, &spec_path);
    if !spec_value.items("ephemeralContainers").is_empty() {
        errors.push(Error::forbidden(
            &spec_path.child("ephemeralContainers"),
            "ephemeral containers not allowed in pod template",
        ));
    }
}

/// The labels and annotations of a template; upstream's paths leave `metadata` out.
pub(crate) fn template_metadata(errors: &mut ErrorList, template: &Value, path: &Path<'_>) {
    let labels = template.map_at(&["metadata", "labels"]);
    errors.extend(selector::validate_labels(labels, &path.child("labels")));
    let annotation_map = template.map_at(&["metadata", "annotations"]);
    errors.extend(crate::meta::validate_annotations(annotation_map, &path.child("annotations")));
    annotations::specific(errors, template, &path.child("annotations"));
}

/// The metadata and spec of a pod, which creation and every update check alike.
pub(crate) fn pod(errors: &mut ErrorList, pod: &Value, lenient: Leniency) {
    let spec_path = Path::new("spec");
    let spec_value = pod.get("spec").unwrap_or(&Value::Null);
    annotations::specific(errors, pod, &Path::new("metadata.annotations"));
    let options = Options { pod_name: Some(pod.str_at(&["metadata", "name"])), is_pod: true, lenient };
    spec(errors, spec_value, &spec_path, options);
    if spec_value.text("serviceAccountName").is_empty() {
        for (at, volume) in spec_value.items("volumes").iter().enumerate() {
            let Some(projected) = volume.get("projected") else { continue };
            for (source_at, source) in projected.items("sources").iter().enumerate() {
                if source.has("serviceAccountToken") {
                    let volumes = spec_path.child("volumes");
                    let volume_path = volumes.index(at);
                    let sources = volume_path.child("projected.sources");
                    errors.push(Error::forbidden(
                        &sources.index(source_at).child("serviceAccountToken"),
                        "must not be specified when serviceAccountName is not set",
                    ));
                }
            }
        }
    }
    for list in ["containers", "initContainers"] {
        let containers = spec_path.child(list);
        for (at, container) in spec_value.items(list).iter().enumerate() {
            containers::only_for_pod(errors, container, &containers.index(at));
        }
    }
}

/// A new pod.
pub(crate) fn pod_create(pod_object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    pod(&mut errors, pod_object, Leniency::default());
    let spec_path = Path::new("spec");
    let spec_value = pod_object.get("spec").unwrap_or(&Value::Null);
    if !spec_value.items("ephemeralContainers").is_empty() {
        errors.push(Error::forbidden(&spec_path.child("ephemeralContainers"), "cannot be set on create"));
    }
    if !spec_value.text("nodeName").is_empty() && !spec_value.items("schedulingGates").is_empty() {
        errors.push(Error::forbidden(
            &spec_path.child("nodeName"),
            "cannot be set until all schedulingGates have been cleared",
        ));
    }
    annotations::seccomp_fields(&mut errors, pod_object, &spec_path);
    annotations::app_armor_fields(&mut errors, pod_object, &spec_path);
    errors
}

/// A pod spec.
pub(crate) fn spec(errors: &mut ErrorList, spec: &Value, path: &Path<'_>, options: Options<'_>) {
    let grace_period = spec.int("terminationGracePeriodSeconds");
    if grace_period.is_none() {
        errors.push(Error::required(&path.child("terminationGracePeriodSeconds"), ""));
    }
    let around = Surroundings {
        spec,
        options,
        volumes: volumes::volumes(errors, spec.items("volumes"), &path.child("volumes"), options),
        claims: spec.items("resourceClaims").iter().map(|c| c.text("name")).filter(|name| !name.is_empty()).collect(),
        grace_period,
        host_users: spec.flag("hostUsers") != Some(false),
    };
    requirements::pod_claims(errors, spec.items("resourceClaims"), &path.child("resourceClaims"));
    containers::regular(errors, &around, &path.child("containers"));
    containers::init(errors, &around, &path.child("initContainers"));
    containers::ephemeral(errors, &around, &path.child("ephemeralContainers"));
    requirements::pod_level(errors, &around, &path.child("resources"));
    host_network_ports(errors, spec, path, options);
    required_one_of(
        errors,
        &path.child("restartPolicy"),
        spec.text("restartPolicy"),
        &["Always", "OnFailure", "Never"],
    );
    required_one_of(
        errors,
        &path.child("dnsPolicy"),
        spec.text("dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    errors.extend(selector::validate_labels(Some(spec.entries("nodeSelector")), &path.child("nodeSelector")));
    security::pod(errors, spec, &path.child("securityContext"), options);
    scheduling::affinity(errors, spec, &path.child("affinity"), options);
    dns_config(errors, spec, &path.child("dnsConfig"));
    let gates = path.child("readinessGates");
    for (at, gate) in spec.items("readinessGates").iter().enumerate() {
        let name = gate.text("conditionType");
        invalid_text(errors, &gates.index(at).child("conditionType"), name, names::qualified_name(name));
    }
    scheduling::gates(errors, spec.items("schedulingGates"), &path.child("schedulingGates"));
    scheduling::spread_constraints(
        errors,
        spec.items("topologySpreadConstraints"),
        &path.child("topologySpreadConstraints"),
        options,
    );
    security::host_process(errors, spec, path);
    security::host_users(errors, spec, path, options);
    identity(errors, spec, path);
    scheduling::tolerations(errors, spec.items("tolerations"), &path.child("tolerations"));
    let aliases = path.child("hostAliases");
    for (at, alias) in spec.items("hostAliases").iter().enumerate() {
        let alias_path = aliases.index(at);
        errors.extend(ip::validate_legacy(&alias_path.child("ip"), alias.text("ip"), &[]));
        for (name_at, name) in alias.texts("hostnames").enumerate() {
            let hostnames = alias_path.child("hostnames");
            invalid_text(errors, &hostnames.index(name_at), name, names::dns1123_subdomain(name, false));
        }
    }
    for field in ["priorityClassName", "runtimeClassName"] {
        // An absent runtime class is good, an empty one is a name, and a bad one.
        if let Some(name) = spec.text_if(field).filter(|name| !name.is_empty() || field == "runtimeClassName") {
            invalid_text(errors, &path.child(field), name, names::dns1123_subdomain(name, false));
        }
    }
    if let Some(policy) = spec.text_if("preemptionPolicy") {
        required_one_of(errors, &path.child("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"]);
    }
    if spec.has("overhead") {
        let limits = Value::from([("limits", spec.get("overhead").cloned().unwrap_or_default())]);
        requirements::requirements(errors, &limits, &BTreeSet::new(), &path.child("overhead"), options, false);
    }
    os(errors, spec, path);
    env::file_volumes(errors, spec, path);
}

/// Names by which the pod is known, and its deadline.
fn identity(errors: &mut ErrorList, spec: &Value, path: &Path<'_>) {
    if let Some(name) = spec.text_if("hostnameOverride") {
        let override_path = path.child("hostnameOverride");
        for field in ["setHostnameAsFQDN", "hostNetwork"].into_iter().filter(|field| spec.is_true(field)) {
            errors.push(Error::forbidden(&override_path, format!("may not be specified when {field} is true")));
        }
        if name.len() > HOSTNAME_LEN_MAX {
            errors.push(Error::too_long(&override_path, HOSTNAME_LEN_MAX));
        }
        invalid_text(errors, &override_path, name, names::dns1123_subdomain(name, false));
    }
    for field in ["serviceAccountName", "nodeName"] {
        let name = spec.text(field);
        if !name.is_empty() {
            invalid_text(errors, &path.child(field), name, names::dns1123_subdomain(name, false));
        }
    }
    if let Some(deadline) = spec.int("activeDeadlineSeconds").filter(|deadline| !(1..=INT32_MAX).contains(deadline)) {
        let why = names::inclusive_range_error(1, INT32_MAX);
        errors.push(Error::invalid(&path.child("activeDeadlineSeconds"), deadline, why));
    }
    for field in ["hostname", "subdomain"] {
        let name = spec.text(field);
        if !name.is_empty() {
            invalid_text(errors, &path.child(field), name, names::dns1123_label(name, false));
        }
    }
}

/// In the host's network, a container's port is the host's port.
fn host_network_ports(errors: &mut ErrorList, spec: &Value, path: &Path<'_>, options: Options<'_>) {
    if !spec.is_true("hostNetwork") {
        return;
    }
    let containers = path.child("containers");
    for (at, container) in spec.items("containers").iter().enumerate() {
        let container_path = containers.index(at);
        let ports = container_path.child("ports");
        for (port_at, port) in container.items("ports").iter().enumerate() {
            let (host, inside) = (port.int("hostPort").unwrap_or(0), port.int("containerPort").unwrap_or(0));
            // In a template, no host port means that the pod will get one.
            if (options.is_pod || host != 0) && host != inside {
                errors.push(Error::invalid(
                    &ports.index(port_at).child("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                ));
            }
        }
    }
}

/// The limits of libc's resolver.
const NAMESERVERS_MAX: usize = 3;
const SEARCH_PATHS_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;

fn dns_config(errors: &mut ErrorList, spec: &Value, path: &Path<'_>) {
    let servers_path = path.child("nameservers");
    let config = spec.get("dnsConfig");
    if spec.text("dnsPolicy") == "None" {
        let Some(config) = config else {
            errors.push(Error::required(path, "must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        };
        if config.items("nameservers").is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            errors.push(Error::required(&servers_path, why));
            return;
        }
    }
    let Some(config) = config else { return };
    let servers = config.items("nameservers");
    if servers.len() > NAMESERVERS_MAX {
        let why = format!("must not have more than {NAMESERVERS_MAX} nameservers");
        errors.push(Error::invalid(&servers_path, servers.to_vec(), why));
    }
    for (at, server) in config.texts("nameservers").enumerate() {
        errors.extend(ip::validate_legacy(&servers_path.index(at), server, &[]));
    }
    let (searches, searches_path) = (config.items("searches"), path.child("searches"));
    if searches.len() > SEARCH_PATHS_MAX {
        let why = format!("must not have more than {SEARCH_PATHS_MAX} search paths");
        errors.push(Error::invalid(&searches_path, searches.to_vec(), why));
    }
    let characters = config.texts("searches").map(str::len).sum::<usize>() + searches.len().saturating_sub(1);
    if characters > SEARCH_CHARACTERS_MAX {
        let why =
            format!("must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in the search list");
        errors.push(Error::invalid(&searches_path, searches.to_vec(), why));
    }
    for (at, search) in config.texts("searches").enumerate().filter(|(_, search)| *search != ".") {
        let search = search.strip_suffix('.').unwrap_or(search);
        invalid_text(errors, &searches_path.index(at), search, names::dns1123_subdomain_with_underscore(search));
    }
    let options = path.child("options");
    for (at, option) in config.items("options").iter().enumerate() {
        if option.text("name").is_empty() {
            errors.push(Error::required(&options.index(at), "must not be empty"));
        }
    }
}

/// The operating system that a pod says it is for, and what it may then not say.
fn os(errors: &mut ErrorList, spec: &Value, path: &Path<'_>) {
    let Some(os) = spec.get("os") else { return };
    match os.text("name") {
        "" => errors.push(Error::required(&path.child("os.name"), "")),
        "linux" => linux(errors, spec, path),
        "windows" => windows(errors, spec, path),
        name => errors.push(Error::not_supported(&path.child("os"), name, &["linux", "windows"])),
    }
}

fn linux(errors: &mut ErrorList, spec: &Value, path: &Path<'_>) {
    const WHY: &str = "windows options cannot be set for a linux pod";
    if spec.at(&["securityContext", "windowsOptions"]).is_some() {
        errors.push(Error::forbidden(&path.child("securityContext.windowsOptions"), WHY));
    }
    for (list, at, container) in all_containers(spec) {
        if container.at(&["securityContext", "windowsOptions"]).is_some() {
            errors.push(Error::forbidden(&path.child(list).index(at).child("securityContext.windowsOptions"), WHY));
        }
    }
}

fn windows(errors: &mut ErrorList, spec: &Value, path: &Path<'_>) {
    const WHY: &str = "cannot be set for a windows pod";
    /// Where the field stands in the spec, in upstream's order.
    const POD_FIELDS: [&[&str]; 15] = [
        &["securityContext", "appArmorProfile"],
        &["securityContext", "seLinuxOptions"],
        &["hostUsers"],
        &["hostPID"],
        &["hostIPC"],
        &["securityContext", "seccompProfile"],
        &["securityContext", "fsGroup"],
        &["securityContext", "fsGroupChangePolicy"],
        &["securityContext", "sysctls"],
        &["shareProcessNamespace"],
        &["securityContext", "runAsUser"],
        &["securityContext", "runAsGroup"],
        &["securityContext", "supplementalGroups"],
        &["securityContext", "supplementalGroupsPolicy"],
        &["securityContext", "seLinuxChangePolicy"],
    ];
    const CONTAINER_FIELDS: [&str; 10] = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    for field in POD_FIELDS {
        // `hostPID: false` and `hostIPC: false` say nothing.
        let is_set = spec.at(field).is_some_and(|value| match field {
            ["hostPID" | "hostIPC"] => value.as_bool() == Some(true),
            _ => true,
        });
        if is_set {
            errors.push(Error::forbidden(&path.child(&field.join(".")), WHY));
        }
    }
    for (list, at, container) in all_containers(spec) {
        for field in CONTAINER_FIELDS {
            if container.at(&["securityContext", field]).is_some() {
                let container_path = path.child(list);
                let container_path = container_path.index(at);
                errors.push(Error::forbidden(&container_path.child("securityContext").child(field), WHY));
            }
        }
    }
}

/// Whether the spec has a container of this name, of any sort.
fn has_container(spec: &Value, name: &str) -> bool {
    CONTAINER_LISTS.iter().any(|list| spec.items(list).iter().any(|container| container.text("name") == name))
}

/// Labels or selectors in Go's `%q` of a list: `["a" "b"]`.
pub(crate) fn quoted_list(items: &[&str]) -> String {
    format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(" "))
}

/// Whether a quantity is a whole number of huge pages of the size that the resource's name states.
fn is_divisible(name: &str, value: &Value) -> bool {
    use api_semantics::quantity::Quantity;
    let Some(size) = name.strip_prefix("hugepages-").and_then(|size| Quantity::parse(size).ok()) else { return false };
    size.sign() > 0 && size.is_whole() && resources::quantity(value).value() % size.value() == 0
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::core::pod::tests::pods;

    #[test]
    fn the_rest_of_the_spec_is_checked() {
        pods(&expect![[r#"
                restartPolicy = "X"
                  spec.restartPolicy: Unsupported value: "X": supported values: "Always", "OnFailure", "Never"
                dnsPolicy = "X"
                  spec.dnsPolicy: Unsupported value: "X": supported values: "ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"
                dnsPolicy = "None"
                  spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
                dnsPolicy = "None" ; dnsConfig = {}
                  spec.dnsConfig.nameservers: Required value: must provide at least one DNS nameserver when `dnsPolicy` is None
                dnsConfig = {"nameservers":["1","1.1.1.1","2.2.2.2","3.3.3.3"],"searches":["A b",".","a."],"options":[{"name":""}]}
                  spec.dnsConfig.nameservers: Invalid value: ["1","1.1.1.1","2.2.2.2","3.3.3.3"]: must not have more than 3 nameservers
                  spec.dnsConfig.nameservers[0]: Invalid value: "1": must be a valid IP address,
                  spec.dnsConfig.searches[0]: Invalid value: "A b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character
                  spec.dnsConfig.options[0]: Required value: must not be empty
                hostname = "A_" ; subdomain = "a.b"
                  spec.hostname: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character
                  spec.subdomain: Invalid value: "a.b": must not contain dots
                hostnameOverride = "a" ; setHostnameAsFQDN = true ; hostNetwork = true
                  spec.hostnameOverride: Forbidden: may not be specified when setHostnameAsFQDN is true
                  spec.hostnameOverride: Forbidden: may not be specified when hostNetwork is true
                hostAliases = [{"ip":"1.2.3"},{"ip":"01.2.3.4","hostnames":["A_"]}]
                  spec.hostAliases[0].ip: Invalid value: "1.2.3": must be a valid IP address,
                  spec.hostAliases[1].ip: Invalid value: "01.2.3.4": must not have leading 0s
                  spec.hostAliases[1].hostnames[0]: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character
                    spec.hostAliases[1].ip: non-standard IP address "01.2.3.4" is invalid: use "1.2.3.4"
                activeDeadlineSeconds = 0
                  spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive
                terminationGracePeriodSeconds = -5
                readinessGates = [{"conditionType":"a b"}]
                  spec.readinessGates[0].conditionType: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                priorityClassName = "A_"
                  spec.priorityClassName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character
                runtimeClassName = ""
                  spec.runtimeClassName: Invalid value: "": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character
                preemptionPolicy = "X"
                  spec.preemptionPolicy: Unsupported value: "X": supported values: "PreemptLowerPriority", "Never"
                nodeName = "A_"
                  spec.nodeName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character
                serviceAccountName = "A_"
                  spec.serviceAccountName: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character
            "#]]);
    }
}
