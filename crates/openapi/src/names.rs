//! How operations and tags are called.

/// `AppsV1`, `CoreV1`, `RbacAuthorizationV1`: the part of an operationId that tells group and version.
pub(crate) fn group_version_id(group: &str, version: &str) -> String {
    format!("{}{}", group_id(group), title(version))
}

/// `Apps`, `Core`, `RbacAuthorization`.
pub(crate) fn group_id(group: &str) -> String {
    short(group).split('.').map(title).collect()
}

/// `apps`, `core`, `rbacAuthorization`: the tag of a group.
pub(crate) fn group_tag(group: &str) -> String {
    let id = group_id(group);
    let mut chars = id.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// `apps_v1`: the tag of a group and version.
pub(crate) fn group_version_tag(group: &str, version: &str) -> String {
    format!("{}_{version}", group_tag(group))
}

/// The word with its first letter in upper case.
pub(crate) fn title(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn short(group: &str) -> &str {
    match group {
        "" => "core",
        _ => group.strip_suffix(".k8s.io").unwrap_or(group),
    }
}
