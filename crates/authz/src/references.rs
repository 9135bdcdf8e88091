//! What a Pod refers to by name.

use api_schema::{SmolStr, Value, format_smolstr};

/// The annotation of Pods that a node shows for its static ones.
pub const MIRROR_POD: &str = "kubernetes.io/config.mirror";

/// Whether the Pod mirrors a static one.
pub fn is_mirror(pod: &Value) -> bool {
    pod.map_at(&["metadata", "annotations"]).is_some_and(|all| all.contains_key(MIRROR_POD))
}

/// All containers of a Pod: initial, usual and ephemeral ones.
pub fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|field| pod.list_at(&["spec", field]))
}

/// The names of the Secrets of a Pod; some may come twice.
pub fn secrets(pod: &Value) -> impl Iterator<Item = &str> {
    const IN_VOLUMES: [&[&str]; 10] = [
        &["azureFile", "secretName"],
        &["cephfs", "secretRef", "name"],
        &["cinder", "secretRef", "name"],
        &["flexVolume", "secretRef", "name"],
        &["rbd", "secretRef", "name"],
        &["secret", "secretName"],
        &["scaleIO", "secretRef", "name"],
        &["iscsi", "secretRef", "name"],
        &["storageos", "secretRef", "name"],
        &["csi", "nodePublishSecretRef", "name"],
    ];
    let pull = pod.list_at(&["spec", "imagePullSecrets"]).iter().map(|reference| reference.str_at(&["name"]));
    let volumes = pod.list_at(&["spec", "volumes"]).iter().flat_map(|volume| {
        let plain = IN_VOLUMES.iter().map(|path| volume.str_at(path));
        plain.chain(projected(volume).map(|source| source.str_at(&["secret", "name"])))
    });
    pull.chain(environment(pod, "secretRef", "secretKeyRef")).chain(volumes).filter(|name| !name.is_empty())
}

/// The names of the ConfigMaps of a Pod; some may come twice.
pub fn config_maps(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = pod.list_at(&["spec", "volumes"]).iter().flat_map(|volume| {
        let plain = std::iter::once(volume.str_at(&["configMap", "name"]));
        plain.chain(projected(volume).map(|source| source.str_at(&["configMap", "name"])))
    });
    environment(pod, "configMapRef", "configMapKeyRef").chain(volumes).filter(|name| !name.is_empty())
}

/// The names of the PersistentVolumeClaims of a Pod.
pub fn claims(pod: &Value) -> impl Iterator<Item = SmolStr> {
    pod.list_at(&["spec", "volumes"]).iter().filter_map(|volume| claim(pod, volume))
}

/// The name of the PersistentVolumeClaim of a volume of the Pod, if it is of one.
pub fn claim(pod: &Value, volume: &Value) -> Option<SmolStr> {
    if let Some(claim) = volume.get("persistentVolumeClaim") {
        return Some(claim.str_at(&["claimName"]).into());
    }
    volume.get("ephemeral")?;
    Some(format_smolstr!("{}-{}", pod.str_at(&["metadata", "name"]), volume.str_at(&["name"])))
}

fn environment<'a>(pod: &'a Value, whole: &'static str, key: &'static str) -> impl Iterator<Item = &'a str> {
    containers(pod).flat_map(move |container| {
        let from = container.list_at(&["envFrom"]).iter().map(move |from| from.str_at(&[whole, "name"]));
        from.chain(container.list_at(&["env"]).iter().map(move |env| env.str_at(&["valueFrom", key, "name"])))
    })
}

fn projected(volume: &Value) -> impl Iterator<Item = &Value> {
    volume.list_at(&["projected", "sources"]).iter()
}
