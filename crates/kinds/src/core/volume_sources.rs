//! Where the bytes of a PersistentVolume are: its one source, with the defaults and checks of each sort.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use super::persistentvolume::check_secret_reference;
use crate::checks::{default_field, default_text, invalid_text, map, required_text, supported, texts};

/// The fields of a PersistentVolume's spec that are sources, in the order in which upstream looks at them.
pub(super) const ALL: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// Upstream says 1 and allows 0.
const PARTITION: &str = "must be between 1 and 255, inclusive";

/// Fills what a source leaves open.
pub(super) fn default(spec: &mut Value) {
    for (source, field, value) in [
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("iscsi", "iscsiInterface", "default"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("scaleIO", "fsType", "xfs"),
    ] {
        if spec.get(source).is_some() {
            default_text(spec, &[source, field], value);
        }
    }
    if spec.get("hostPath").is_some() {
        default_field(spec, &["hostPath", "type"], "");
    }
    if spec.get("azureDisk").is_some() {
        for (field, value) in [("cachingMode", "ReadWrite"), ("fsType", "ext4"), ("kind", "Shared")] {
            default_field(spec, &["azureDisk", field], value);
        }
        default_field(spec, &["azureDisk", "readOnly"], false);
    }
}

/// Checks that there is exactly one source, and that it is complete.
pub(super) fn check(errors: &mut ErrorList, spec: &Value, volume: &str, path: &Path<'_>) {
    let mut count = 0;
    for source in ALL {
        let Some(value) = spec.get(source) else { continue };
        count += 1;
        // The spellings are upstream's, and so is that flexVolume may come second.
        let (name, second_name) = match source {
            "gcePersistentDisk" => ("persistentDisk", source),
            "cephfs" => (source, "cephFS"),
            _ => (source, source),
        };
        if count > 1 && source != "flexVolume" {
            errors.push(Error::forbidden(&path.child(second_name), "may not specify more than 1 volume type"));
            continue;
        }
        check_source(errors, source, value, volume, &path.child(name));
        // A local volume is of use on its own node only.
        if source == "local" && spec.get("nodeAffinity").is_none() {
            errors.push(Error::required(&path.child("nodeAffinity"), "Local volume requires node affinity"));
        }
    }
    if count == 0 {
        errors.push(Error::required(path, "must specify a volume type"));
    }
    let host_path = spec.str_at(&["hostPath", "path"]);
    let is_root = host_path.starts_with('/') && host_path.split('/').all(|part| matches!(part, "" | "." | ".."));
    if is_root && spec.str_at(&["persistentVolumeReclaimPolicy"]) == "Recycle" {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(Error::forbidden(&path.child("persistentVolumeReclaimPolicy"), why));
    }
}

fn check_source(errors: &mut ErrorList, source: &str, value: &Value, volume: &str, path: &Path<'_>) {
    let mut need = |fields: &[&str]| {
        for field in fields {
            if value.get(field).is_none_or(Value::is_zero) {
                errors.push(Error::required(&path.child(field), ""));
            }
        }
    };
    match source {
        "hostPath" => check_host_path(errors, value, path),
        "gcePersistentDisk" => {
            need(&["pdName"]);
            check_partition(errors, value, path);
        }
        "awsElasticBlockStore" => {
            need(&["volumeID"]);
            check_partition(errors, value, path);
        }
        "glusterfs" => {
            need(&["endpoints", "path"]);
            if let Some(namespace) = value.get("endpointsNamespace").and_then(Value::as_str) {
                let path = path.child("endpointsNamespace");
                if namespace.is_empty() {
                    let why = "if the endpointnamespace is set, it must be a valid namespace name";
                    errors.push(Error::invalid(&path, "", why));
                } else {
                    invalid_text(errors, &path, namespace, names::dns1123_label(namespace, false));
                }
            }
        }
        "flocker" => check_flocker(errors, value, path),
        "nfs" => {
            need(&["server", "path"]);
            let text = value.str_at(&["path"]);
            if !text.starts_with('/') {
                errors.push(Error::invalid(&path.child("path"), text, "must be an absolute path"));
            }
        }
        "rbd" => need(&["monitors", "image"]),
        "quobyte" => check_quobyte(errors, value, path),
        "cephfs" => need(&["monitors"]),
        "iscsi" => check_iscsi(errors, value, volume, path),
        "cinder" => {
            need(&["volumeID"]);
            check_complete_secret(errors, value, path);
        }
        "fc" => check_fibre_channel(errors, value, path),
        "flexVolume" => {
            need(&["driver"]);
            for key in map(value, &["options"]).keys() {
                let namespace = key.split('/').next().filter(|_| key.contains('/')).unwrap_or(key);
                let namespace = format!(".{}", namespace.to_lowercase());
                if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
                    let why = "kubernetes.io and k8s.io namespaces are reserved";
                    errors.push(Error::invalid(&path.child("options").key(key), key.clone(), why));
                }
            }
        }
        "azureFile" => {
            need(&["secretName", "shareName"]);
            if value.get("secretNamespace").is_some_and(Value::is_zero) {
                errors.push(Error::required(&path.child("secretNamespace"), ""));
            }
        }
        "vsphereVolume" => need(&["volumePath"]),
        "photonPersistentDisk" => need(&["pdID"]),
        "portworxVolume" => need(&["volumeID"]),
        "azureDisk" => check_azure_disk(errors, value, path),
        "scaleIO" => need(&["gateway", "system", "volumeName"]),
        "local" => {
            let text = required_text(errors, path, value, "path");
            check_no_backsteps(errors, text, &path.child("path"));
        }
        "storageos" => {
            let volume = required_text(errors, path, value, "volumeName");
            for (field, text) in [("volumeName", volume), ("volumeNamespace", value.str_at(&["volumeNamespace"]))] {
                if !text.is_empty() {
                    invalid_text(errors, &path.child(field), text, names::dns1123_label(text, false));
                }
            }
            check_complete_secret(errors, value, path);
        }
        "csi" => check_csi(errors, value, path),
        _ => {}
    }
}

fn check_partition(errors: &mut ErrorList, value: &Value, path: &Path<'_>) {
    let partition = value.int_at(&["partition"]).unwrap_or(0);
    if !(0..=255).contains(&partition) {
        errors.push(Error::invalid(&path.child("partition"), partition, PARTITION));
    }
}

fn check_no_backsteps(errors: &mut ErrorList, text: &str, path: &Path<'_>) {
    if text.split('/').any(|part| part == "..") {
        errors.push(Error::invalid(path, text, "must not contain '..'"));
    }
}

fn check_host_path(errors: &mut ErrorList, value: &Value, path: &Path<'_>) {
    let text = required_text(errors, path, value, "path");
    if text.is_empty() {
        return;
    }
    check_no_backsteps(errors, text, &path.child("path"));
    if let Some(kind) = value.get("type").and_then(Value::as_str) {
        let kinds =
            ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
        supported(errors, &path.child("type"), kind, &kinds);
    }
}

fn check_flocker(errors: &mut ErrorList, value: &Value, path: &Path<'_>) {
    let (dataset, uuid) = (value.str_at(&["datasetName"]), value.str_at(&["datasetUUID"]));
    if dataset.is_empty() && uuid.is_empty() {
        errors.push(Error::required(path, "one of datasetName and datasetUUID is required"));
    }
    if !dataset.is_empty() && !uuid.is_empty() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(Error::invalid(path, "resource", why));
    }
    if dataset.contains('/') {
        errors.push(Error::invalid(&path.child("datasetName"), dataset, "must not contain '/'"));
    }
}

fn check_quobyte(errors: &mut ErrorList, value: &Value, path: &Path<'_>) {
    const WHY: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = value.str_at(&["registry"]);
    let registry_path = path.child("registry");
    if registry.is_empty() {
        errors.push(Error::required(&registry_path, WHY));
    } else if value.str_at(&["tenant"]).len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Error::required(&path.child("tenant"), why));
    } else {
        let is_pair = |text: &str| match text.rsplit_once(':') {
            Some((host, _)) => !host.contains(':') || (host.starts_with('[') && host.ends_with(']')),
            None => false,
        };
        for _ in registry.split(',').filter(|pair| !is_pair(pair)) {
            errors.push(Error::invalid(&registry_path, registry, WHY));
        }
    }
    required_text(errors, path, value, "volume");
}

/// Whether a name has one of the three forms of iSCSI names.
fn is_iscsi_name(name: &str) -> bool {
    let number = |text: &str, length: usize| {
        let digits = text.strip_prefix(|_| true).unwrap_or_default();
        digits.len() == length && digits.bytes().all(|c| c.is_ascii_alphanumeric())
    };
    if let Some(rest) = name.strip_prefix("iqn") {
        // iqn.YYYY-MM.reversed.domain:anything
        let mut parts = rest.strip_prefix('.').unwrap_or_default().splitn(2, '.');
        let (date, domain) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_date = date.len() == 7
            && date.bytes().enumerate().all(|(at, c)| if at == 4 { c == b'-' } else { c.is_ascii_digit() });
        let (labels, tail) = domain.split_once(':').unwrap_or_default();
        let good_label = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.');
        let bad_tail = |c: char| c.is_ascii_whitespace() || ",;*&$|".contains(c);
        return is_date
            && !labels.is_empty()
            && labels.bytes().all(good_label)
            && !tail.is_empty()
            && !tail.contains(bad_tail);
    }
    match name.strip_prefix("eui") {
        Some(rest) => number(rest, 16),
        None => name.strip_prefix("naa").is_some_and(|rest| number(rest, 32)),
    }
}

fn check_iscsi(errors: &mut ErrorList, value: &Value, volume: &str, path: &Path<'_>) {
    const BAD: &str = "must be valid format";
    let portal = required_text(errors, path, value, "targetPortal");
    let initiator = value.get("initiatorName").and_then(Value::as_str);
    if initiator.is_some() && volume.len() + 1 + portal.len() > 64 {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                   iscsi.initiatorName is specified.";
        errors.push(Error::invalid(&path.child("targetportal"), portal, why));
    }
    let target = required_text(errors, path, value, "iqn");
    if !target.is_empty() && !is_iscsi_name(target) {
        errors.push(Error::invalid(&path.child("iqn"), target, BAD));
    }
    let unit = value.int_at(&["lun"]).unwrap_or(0);
    errors.extend(names::in_range(unit, 0, 255).into_iter().map(|why| Error::invalid(&path.child("lun"), unit, why)));
    let secret = value.get("secretRef");
    let authenticates = ["chapAuthDiscovery", "chapAuthSession"].iter().any(|f| value.bool_at(&[f]) == Some(true));
    match secret {
        None if authenticates => errors.push(Error::required(&path.child("secretRef"), "")),
        None => {}
        Some(secret) => {
            required_text(errors, &path.child("secretRef"), secret, "name");
        }
    }
    if let Some(initiator) = initiator.filter(|initiator| !is_iscsi_name(initiator)) {
        errors.push(Error::invalid(&path.child("initiatorname"), initiator, BAD));
    }
}

fn check_fibre_channel(errors: &mut ErrorList, value: &Value, path: &Path<'_>) {
    let (targets, ids) = (texts(value, &["targetWWNs"]), texts(value, &["wwids"]));
    let path_targets = path.child("targetWWNs");
    if targets.is_empty() && ids.is_empty() {
        errors.push(Error::required(&path_targets, "must specify either targetWWNs or wwids, but not both"));
    }
    if !targets.is_empty() && !ids.is_empty() {
        let shown = value.get("targetWWNs").cloned().unwrap_or_default();
        let why = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(Error::invalid(&path_targets, shown, why));
    }
    if !targets.is_empty() {
        let path = path.child("lun");
        match value.int_at(&["lun"]) {
            None => errors.push(Error::required(&path, "lun is required if targetWWNs is specified")),
            Some(unit) => {
                errors.extend(names::in_range(unit, 0, 255).into_iter().map(|why| Error::invalid(&path, unit, why)));
            }
        }
    }
}

fn check_azure_disk(errors: &mut ErrorList, value: &Value, path: &Path<'_>) {
    required_text(errors, path, value, "diskName");
    let uri = required_text(errors, path, value, "diskURI");
    if let Some(mode) = value.get("cachingMode").and_then(Value::as_str) {
        supported(errors, &path.child("cachingMode"), mode, &["None", "ReadOnly", "ReadWrite"]);
    }
    if let Some(kind) = value.get("kind").and_then(Value::as_str) {
        supported(errors, &path.child("kind"), kind, &["Dedicated", "Managed", "Shared"]);
        let (start, shape) = match kind {
            "Managed" => (
                "/subscriptions/",
                "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
            ),
            _ => ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"),
        };
        if !uri.starts_with(start) {
            errors.push(Error::not_supported(&path.child("diskURI"), uri, &[shape]));
        }
    }
}

fn check_complete_secret(errors: &mut ErrorList, value: &Value, path: &Path<'_>) {
    if let Some(secret) = value.get("secretRef") {
        let path = path.child("secretRef");
        required_text(errors, &path, secret, "name");
        required_text(errors, &path, secret, "namespace");
    }
}

fn check_csi(errors: &mut ErrorList, value: &Value, path: &Path<'_>) {
    let (driver, driver_path) = (required_text(errors, path, value, "driver"), path.child("driver"));
    if driver.len() > 63 {
        errors.push(Error::too_long(&driver_path, 63));
    }
    if !driver.is_empty() {
        invalid_text(errors, &driver_path, driver, names::dns1123_subdomain(&driver.to_lowercase(), false));
    }
    required_text(errors, path, value, "volumeHandle");
    for field in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        if let Some(secret) = value.get(field) {
            check_secret_reference(errors, secret, &path.child(field));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{json, lines};

    #[track_caller]
    fn check_one(spec: &str, expect: &str) {
        let mut errors = ErrorList::new();
        check(&mut errors, &json(spec), "v", &Path::new("spec"));
        assert_eq!(lines(&errors), expect);
    }

    #[test]
    fn every_source_says_what_it_lacks() {
        for (spec, expect) in [
            (r#"{"hostPath":{}}"#, "spec.hostPath.path: Required value"),
            (r#"{"nfs":{"server":"a","path":"/b"}}"#, ""),
            (
                r#"{"gcePersistentDisk":{"partition":256}}"#,
                "spec.persistentDisk.pdName: Required value\n\
                 spec.persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive",
            ),
            (r#"{"rbd":{}}"#, "spec.rbd.monitors: Required value\nspec.rbd.image: Required value"),
            (r#"{"local":{"path":"/a"},"nodeAffinity":{"required":{}}}"#, ""),
            (r#"{"local":{"path":"/a"}}"#, "spec.nodeAffinity: Required value: Local volume requires node affinity"),
            (
                r#"{"csi":{"nodePublishSecretRef":{"name":"A"}}}"#,
                "spec.csi.driver: Required value\n\
                 spec.csi.volumeHandle: Required value\n\
                 spec.csi.nodePublishSecretRef.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist \
                 of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric \
                 character (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')\n\
                 spec.csi.nodePublishSecretRef.namespace: Required value",
            ),
            (
                r#"{"hostPath":{"path":"/"},"persistentVolumeReclaimPolicy":"Recycle"}"#,
                "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
            ),
        ] {
            check_one(spec, expect);
        }
    }

    #[test]
    fn iscsi_names_have_three_forms() {
        for (name, good) in [
            ("iqn.2015-02.example.com:test", true),
            ("iqn.2015-02.example.com", false),
            ("eui.0123456789abcdef", true),
            ("naa.62004567BA64678D0123456789ABCDEF", true),
            ("iqn.2015.example", false),
            ("eui.01", false),
            ("x", false),
        ] {
            assert_eq!(is_iscsi_name(name), good, "{name}");
        }
    }
}
