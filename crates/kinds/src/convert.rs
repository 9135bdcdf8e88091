//! One object in the versions that serve it, and where it is kept.
//!
//! Most resources have one served version, or several of one shape. Two pairs differ: events of core and
//! events.k8s.io, and HorizontalPodAutoscalers of autoscaling/v1 and v2.

use api_schema::{SmolStr, Value, format_smolstr};

use crate::{autoscaling, events};

/// A group and a version; the group of core is empty.
pub type GroupVersion<'a> = (&'a str, &'a str);

/// `group/version`, or the version alone for core.
pub fn api_version((group, version): GroupVersion<'_>) -> SmolStr {
    if group.is_empty() { SmolStr::new(version) } else { format_smolstr!("{group}/{version}") }
}

/// An object of one version as another version has it. `kind` is the same in both. Nothing that the storage version
/// can hold is lost on the way through it and back.
pub fn convert(from: GroupVersion<'_>, to: GroupVersion<'_>, kind: &str, object: Value) -> Value {
    if from == to {
        return object;
    }
    let mut object = match (kind, from, to) {
        ("Event", ("events.k8s.io", _), ("", _)) => events::event::to_core(object),
        ("Event", ("", _), ("events.k8s.io", _)) => events::event::from_core(object),
        ("HorizontalPodAutoscaler", (_, "v1"), (_, "v2")) => autoscaling::convert::to_v2(object),
        ("HorizontalPodAutoscaler", (_, "v2"), (_, "v1")) => autoscaling::convert::to_v1(object),
        _ => object,
    };
    object.set(&["apiVersion"], api_version(to));
    object
}

/// The group and version in which a built-in resource is stored; `None` if there is no such resource.
///
/// It is what upstream 1.36 writes to etcd: the group's preferred version that the release before already knew.
pub fn storage_version(group: &str, resource: &str) -> Option<GroupVersion<'static>> {
    // Events of both groups share one store.
    if (group, resource) == ("events.k8s.io", "events") {
        return Some(("", "v1"));
    }
    let versions = api_types::resources().iter().filter(|r| r.group == group && r.resource == resource);
    let exception = STORED_OTHERWISE.iter().find(|(g, r, _)| (*g, *r) == (group, resource)).map(|(_, _, v)| *v);
    let stored = match exception {
        Some(version) => versions.into_iter().find(|r| r.version == version),
        None => versions.into_iter().find(|r| r.version == "v1"),
    };
    stored.map(|r| (r.group.as_str(), r.version.as_str()))
}

/// Resources that are not stored as v1: group, resource, version. Those whose v1 is one release old are still stored
/// as the version before, so that a release back can read them.
const STORED_OTHERWISE: &[(&str, &str, &str)] = &[
    ("admissionregistration.k8s.io", "mutatingadmissionpolicies", "v1beta1"),
    ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings", "v1beta1"),
    ("autoscaling", "horizontalpodautoscalers", "v2"),
    ("certificates.k8s.io", "clustertrustbundles", "v1beta1"),
    ("certificates.k8s.io", "podcertificaterequests", "v1beta1"),
    ("coordination.k8s.io", "leasecandidates", "v1beta1"),
    ("internal.apiserver.k8s.io", "storageversions", "v1alpha1"),
    ("resource.k8s.io", "devicetaintrules", "v1alpha3"),
    ("resource.k8s.io", "resourcepoolstatusrequests", "v1alpha3"),
    ("scheduling.k8s.io", "podgroups", "v1alpha2"),
    ("scheduling.k8s.io", "workloads", "v1alpha2"),
    ("storagemigration.k8s.io", "storageversionmigrations", "v1beta1"),
];

/// The prefix of a resource's keys in etcd, without a slash at the end: `/registry/pods`. Keys go on with `/name`, or
/// with `/namespace/name`.
///
/// Resources that upstream compiles into kube-apiserver have no group in their keys, whichever group they are of;
/// those of the API extension and aggregation servers within it do, as custom resources do.
pub fn storage_prefix(group: &str, resource: &str) -> String {
    match (group, resource) {
        ("", "replicationcontrollers") => "/registry/controllers".into(),
        ("", "endpoints") => "/registry/services/endpoints".into(),
        ("", "nodes") => "/registry/minions".into(),
        ("", "services") => "/registry/services/specs".into(),
        ("networking.k8s.io", "ingresses") => "/registry/ingress".into(),
        _ if has_group_in_keys(group) => format!("/registry/{group}/{resource}"),
        _ => format!("/registry/{resource}"),
    }
}

fn has_group_in_keys(group: &str) -> bool {
    matches!(group, "apiextensions.k8s.io" | "apiregistration.k8s.io")
        || !api_types::resources().iter().any(|resource| resource.group == group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::json;

    #[test]
    fn every_stored_resource_has_a_storage_version_that_exists() {
        for resource in api_types::resources().iter().filter(|r| r.allows("list")) {
            let stored = storage_version(&resource.group, &resource.resource);
            let (group, version) = stored.unwrap_or_else(|| panic!("{} {}", resource.group, resource.resource));
            assert!(api_types::resource(group, version, &resource.resource).is_some(), "{group}/{version}");
        }
        for (group, resource, version) in STORED_OTHERWISE {
            assert!(api_types::resource(group, version, resource).is_some(), "{group}/{version} {resource}");
        }
    }

    #[test]
    fn storage_versions_are_upstreams() {
        for (group, resource, expect) in [
            ("", "pods", Some(("", "v1"))),
            ("events.k8s.io", "events", Some(("", "v1"))),
            ("autoscaling", "horizontalpodautoscalers", Some(("autoscaling", "v2"))),
            ("apps", "deployments", Some(("apps", "v1"))),
            ("example.com", "things", None),
        ] {
            assert_eq!(storage_version(group, resource), expect);
        }
    }

    #[test]
    fn keys_are_where_upstream_keeps_them() {
        for (group, resource, expect) in [
            ("", "pods", "/registry/pods"),
            ("", "services", "/registry/services/specs"),
            ("", "endpoints", "/registry/services/endpoints"),
            ("", "nodes", "/registry/minions"),
            ("", "replicationcontrollers", "/registry/controllers"),
            ("networking.k8s.io", "ingresses", "/registry/ingress"),
            ("networking.k8s.io", "networkpolicies", "/registry/networkpolicies"),
            ("events.k8s.io", "events", "/registry/events"),
            ("rbac.authorization.k8s.io", "roles", "/registry/roles"),
            ("resource.k8s.io", "resourceclaims", "/registry/resourceclaims"),
            (
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                "/registry/apiextensions.k8s.io/customresourcedefinitions",
            ),
            ("apiregistration.k8s.io", "apiservices", "/registry/apiregistration.k8s.io/apiservices"),
            ("example.com", "things", "/registry/example.com/things"),
        ] {
            assert_eq!(storage_prefix(group, resource), expect);
        }
    }

    #[test]
    fn versions_of_one_shape_differ_in_their_name() {
        let old = json(r#"{"apiVersion":"resource.k8s.io/v1beta2","kind":"DeviceClass","spec":{}}"#);
        let new = json(r#"{"apiVersion":"resource.k8s.io/v1","kind":"DeviceClass","spec":{}}"#);
        let (from, to) = (("resource.k8s.io", "v1beta2"), ("resource.k8s.io", "v1"));
        assert_eq!(convert(from, to, "DeviceClass", old), new);
    }
}
