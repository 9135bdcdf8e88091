//! The groups and versions of this server as APIServices, and the order that they give to groups in discovery.

use api_schema::{Map, Value, format_smolstr};

/// A built-in version: its group, its name, how far in front the group stands, and the version among its siblings.
type Priority = (&'static str, &'static str, i64, i64);

/// Upstream's priorities (kube-apiserver `app/aggregator.go` and controlplane `aggregator.go`), highest first.
const PRIORITIES: &[Priority] = &[
    ("", "v1", 18_000, 1),
    ("apps", "v1", 17_800, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("autoscaling", "v1", 17_500, 15),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("certificates.k8s.io", "v1beta1", 17_300, 9),
    ("certificates.k8s.io", "v1alpha1", 17_300, 1),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("networking.k8s.io", "v1beta1", 17_200, 9),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
    ("storage.k8s.io", "v1beta1", 16_800, 9),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("admissionregistration.k8s.io", "v1beta1", 16_700, 12),
    ("admissionregistration.k8s.io", "v1alpha1", 16_700, 9),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("scheduling.k8s.io", "v1alpha2", 16_600, 2),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("coordination.k8s.io", "v1beta1", 16_500, 13),
    ("coordination.k8s.io", "v1alpha2", 16_500, 12),
    ("node.k8s.io", "v1", 16_300, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("resource.k8s.io", "v1", 16_200, 21),
    ("resource.k8s.io", "v1beta2", 16_200, 15),
    ("resource.k8s.io", "v1beta1", 16_200, 9),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
    ("internal.apiserver.k8s.io", "v1alpha1", 16_000, 9),
    ("resource.k8s.io", "v1alpha3", 15_900, 9),
    ("storagemigration.k8s.io", "v1beta1", 15_800, 9),
];

/// The group of APIServices themselves stands in front of all others and has none.
const FIRST: &str = "apiregistration.k8s.io";

/// Where a group stands in answers; those that are not built in follow by name.
pub(crate) fn rank(group: &str) -> usize {
    if group == FIRST {
        return 0;
    }
    PRIORITIES.iter().position(|(name, ..)| *name == group).unwrap_or(PRIORITIES.len()) + 1
}

/// The APIServices of those built-in versions that `served` says are served.
pub(crate) fn objects(served: impl Fn(&str, &str) -> bool) -> Vec<Value> {
    let of = |(group, version, group_priority, version_priority): &Priority| {
        let mut object = Value::from([("apiVersion", "apiregistration.k8s.io/v1"), ("kind", "APIService")]);
        object.set(&["metadata", "name"], format_smolstr!("{version}.{group}"));
        object.set(&["metadata", "labels", "kube-aggregator.kubernetes.io/automanaged"], "onstart");
        let mut spec = Map::new();
        if !group.is_empty() {
            spec.insert("group", *group);
        }
        spec.insert("version", *version);
        spec.insert("groupPriorityMinimum", *group_priority);
        spec.insert("versionPriority", *version_priority);
        object.set(&["spec"], spec);
        object
    };
    PRIORITIES.iter().filter(|(group, version, ..)| served(group, version)).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_version_has_its_priority() {
        let of = |resource: &api_types::Resource| (resource.group.clone(), resource.version.clone());
        let known: Vec<String> =
            objects(|_, _| true).iter().map(|object| object.str_at(&["metadata", "name"]).to_owned()).collect();
        for (group, version) in api_types::resources().iter().map(of).filter(|(group, _)| group != FIRST) {
            assert!(known.contains(&format!("{version}.{group}")), "{version}.{group}");
        }
    }

    #[test]
    fn groups_stand_by_priority_then_name() {
        assert!(PRIORITIES.is_sorted_by_key(|(group, _, first, second)| (-first, *group, -second)));
        assert!(rank(FIRST) < rank("apps") && rank("flowcontrol.apiserver.k8s.io") < rank("example.com"));
    }
}
