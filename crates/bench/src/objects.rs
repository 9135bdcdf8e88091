//! The objects that the loads read and write.

use serde_json::json;

/// Bytes of data in a ConfigMap.
pub(crate) const CONFIGMAP_DATA_BYTES: usize = 1024;

/// A ConfigMap with 1 KB of data.
pub(crate) fn configmap(name: &str, letter: char) -> String {
    let data: String = std::iter::repeat_n(letter, CONFIGMAP_DATA_BYTES).collect();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"payload": data},
    })
    .to_string()
}

/// A Pod of an everyday shape, with an annotation of the given length.
pub(crate) fn pod(name: &str, padding: usize) -> String {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": "bench", "tier": "web"},
            "annotations": {"padding": "x".repeat(padding)},
        },
        "spec": {
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "main",
                "image": "registry.example/app:1.0",
                "ports": [{"containerPort": 8080}],
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
            }],
        },
    })
    .to_string()
}

/// A Lease that was renewed for the given time; replacing one needs its resourceVersion.
pub(crate) fn lease(name: &str, renewal: u64, version: Option<&str>) -> String {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "resourceVersion": version},
        "spec": {
            "holderIdentity": name, "leaseDurationSeconds": 40,
            "renewTime": format!("2026-01-01T{:02}:{:02}:{:02}.{:06}Z",
                renewal / 3600 % 24, renewal / 60 % 60, renewal % 60, renewal % 1_000_000),
        },
    })
    .to_string()
}

/// The resourceVersion of an object, in its JSON.
pub(crate) fn resource_version(object: &str) -> Option<&str> {
    object.split_once("\"resourceVersion\":\"")?.1.split_once('"').map(|(version, _)| version)
}

#[cfg(test)]
mod tests {
    fn check(object: &str, expect: Option<&str>) {
        assert_eq!(super::resource_version(object), expect, "{object}");
    }

    #[test]
    fn the_resource_version_is_found() {
        check(r#"{"metadata":{"name":"a","resourceVersion":"17"}}"#, Some("17"));
        check(&super::lease("a", 1, Some("9")), Some("9"));
        check(&super::lease("a", 1, None), None);
    }
}
