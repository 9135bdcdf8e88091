//! Volumes: one source each, of many sorts.

use std::collections::{BTreeMap, BTreeSet};

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::selector::{self, Leniency};

use crate::checks::{invalid_text, supported};

use super::super::super::persistentvolumeclaim;
use super::super::look::Look;
use super::super::resources;
use super::env::{self, FILE_FIELDS};
use super::{Options, local_descending, local_not_reserved, no_backsteps, required};

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const FILE_MODE_MAX: i64 = 0o777;
const TWO_TO_THE_32: i64 = 1 << 32;

type Check = fn(&mut ErrorList, &Value, &Path<'_>);

/// Every sort of source in the order in which upstream looks for them: the field, the path that its errors have, the
/// path that a second source is reported at, and its check.
const SOURCES: [(&str, &str, &str, Check); 30] = [
    ("emptyDir", "emptyDir", "emptyDir", empty_dir),
    ("hostPath", "hostPath", "hostPath", host_path),
    ("gitRepo", "gitRepo", "gitRepo", git_repo),
    ("gcePersistentDisk", "persistentDisk", "gcePersistentDisk", |e, s, p| disk(e, s, p, "pdName")),
    ("awsElasticBlockStore", "awsElasticBlockStore", "awsElasticBlockStore", |e, s, p| disk(e, s, p, "volumeID")),
    ("secret", "secret", "secret", |e, s, p| keys_as_files(e, s, p, "secretName")),
    ("nfs", "nfs", "nfs", nfs),
    ("iscsi", "iscsi", "iscsi", iscsi),
    ("glusterfs", "glusterfs", "glusterfs", |e, s, p| required(e, s, p, &["endpoints", "path"])),
    ("flocker", "flocker", "flocker", flocker),
    ("persistentVolumeClaim", "persistentVolumeClaim", "persistentVolumeClaim", |e, s, p| {
        required(e, s, p, &["claimName"])
    }),
    ("rbd", "rbd", "rbd", |e, s, p| required(e, s, p, &["monitors", "image"])),
    ("cinder", "cinder", "cinder", cinder),
    ("cephfs", "cephfs", "cephFS", |e, s, p| required(e, s, p, &["monitors"])),
    ("quobyte", "quobyte", "quobyte", quobyte),
    ("downwardAPI", "downwardAPI", "downwarAPI", downward_api),
    ("fc", "fc", "fc", fibre_channel),
    ("flexVolume", "flexVolume", "flexVolume", flex_volume),
    ("configMap", "configMap", "configMap", |e, s, p| keys_as_files(e, s, p, "name")),
    ("azureFile", "azureFile", "azureFile", |e, s, p| required(e, s, p, &["secretName", "shareName"])),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume", |e, s, p| required(e, s, p, &["volumePath"])),
    ("photonPersistentDisk", "photonPersistentDisk", "photonPersistentDisk", |e, s, p| required(e, s, p, &["pdID"])),
    ("portworxVolume", "portworxVolume", "portworxVolume", |e, s, p| required(e, s, p, &["volumeID"])),
    ("azureDisk", "azureDisk", "azureDisk", azure_disk),
    ("storageos", "storageos", "storageos", storage_os),
    ("projected", "projected", "projected", |_, _, _| {}),
    ("scaleIO", "scaleIO", "scaleIO", |e, s, p| required(e, s, p, &["gateway", "system", "volumeName"])),
    ("csi", "csi", "csi", csi),
    ("ephemeral", "ephemeral", "ephemeral", ephemeral),
    ("image", "image", "image", image),
];

/// Checks a pod's volumes; gives the good ones by name.
pub(super) fn volumes<'a>(
    errors: &mut ErrorList,
    volumes: &'a [Value],
    path: &Path<'_>,
    options: Options<'_>,
) -> BTreeMap<&'a str, &'a Value> {
    let pod_name = options.pod_name.filter(|name| !name.is_empty());
    let created_claims: BTreeSet<String> = pod_name
        .into_iter()
        .flat_map(|pod| volumes.iter().filter(|v| v.has("ephemeral")).map(move |v| format!("{pod}-{}", v.text("name"))))
        .collect();
    let mut good = BTreeMap::new();
    for (at, volume) in volumes.iter().enumerate() {
        let volume_path = path.index(at);
        let name_path = volume_path.child("name");
        let name = volume.text("name");
        let mut found = ErrorList::new();
        source(&mut found, volume, &volume_path, options);
        match name {
            "" => found.push(Error::required(&name_path, "")),
            name => invalid_text(&mut found, &name_path, name, names::dns1123_label(name, false)),
        }
        if good.contains_key(name) {
            found.push(Error::duplicate(&name_path, name));
        }
        if found.is_empty() {
            good.insert(name, volume);
        }
        errors.append(&mut found);
        let claim = volume.str_at(&["persistentVolumeClaim", "claimName"]);
        if created_claims.contains(claim) {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            errors.push(Error::invalid(&volume_path.child("persistentVolumeClaim.claimName"), claim, why));
        }
    }
    good
}

fn source(errors: &mut ErrorList, volume: &Value, path: &Path<'_>, options: Options<'_>) {
    let name = volume.text("name");
    let mut seen = false;
    for (field, shown, shown_second, check) in SOURCES {
        let Some(source) = volume.get(field) else { continue };
        if std::mem::replace(&mut seen, true) {
            errors.push(Error::forbidden(&path.child(shown_second), "may not specify more than 1 volume type"));
        } else {
            let source_path = path.child(shown);
            check(errors, source, &source_path);
            if field == "image" && options.is_pod {
                required(errors, source, &source_path, &["reference"]);
            }
            if field == "projected" {
                projected(errors, source, &source_path, options);
            }
            if field == "ephemeral"
                && let Some(pod) = options.pod_name.filter(|pod| !pod.is_empty() && !name.is_empty())
            {
                let claim = format!("{pod}-{name}");
                let messages = names::dns1123_subdomain(&claim, false);
                let shown = |message| format!("PVC name {}: {message}", api_semantics::field::quoted(&claim));
                invalid_text(errors, &path.child("name"), name, messages.into_iter().map(shown).collect());
            }
        }
        if field == "iscsi" && source.has("initiatorName") && name.len() + 1 + source.text("targetPortal").len() > 64 {
            let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                       iscsi.initiatorName is specified.";
            errors.push(Error::invalid(&path.child("name"), name, why));
        }
    }
    if !seen {
        errors.push(Error::required(path, "must specify a volume type"));
    }
}

fn empty_dir(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    if source.get("sizeLimit").is_some_and(|limit| resources::quantity(limit).sign() < 0) {
        errors.push(Error::forbidden(&path.child("sizeLimit"), "SizeLimit field must be a valid resource quantity"));
    }
}

fn host_path(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    let target = source.text("path");
    if target.is_empty() {
        errors.push(Error::required(&path.child("path"), ""));
        return;
    }
    no_backsteps(errors, target, &path.child("path"));
    if let Some(kind) = source.text_if("type") {
        let kinds =
            ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
        supported(errors, &path.child("type"), kind, &kinds);
    }
}

fn git_repo(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    required(errors, source, path, &["repository"]);
    local_descending(errors, source.text("directory"), &path.child("directory"));
}

fn disk(errors: &mut ErrorList, source: &Value, path: &Path<'_>, id: &str) {
    required(errors, source, path, &[id]);
    let partition = source.int("partition").unwrap_or(0);
    if !(0..=255).contains(&partition) {
        let why = names::inclusive_range_error(1, 255);
        errors.push(Error::invalid(&path.child("partition"), partition, why));
    }
}

fn file_mode(errors: &mut ErrorList, holder: &Value, field: &str, path: &Path<'_>) {
    if let Some(mode) = holder.int(field).filter(|mode| !(0..=FILE_MODE_MAX).contains(mode)) {
        errors.push(Error::invalid(&path.child(field), mode, FILE_MODE));
    }
}

/// A Secret or ConfigMap, whose keys become files.
fn keys_as_files(errors: &mut ErrorList, source: &Value, path: &Path<'_>, name: &str) {
    required(errors, source, path, &[name]);
    file_mode(errors, source, "defaultMode", path);
    let items = path.child("items");
    for (at, item) in source.items("items").iter().enumerate() {
        key_to_path(errors, item, &items.index(at));
    }
}

fn key_to_path(errors: &mut ErrorList, item: &Value, path: &Path<'_>) {
    required(errors, item, path, &["key", "path"]);
    local_not_reserved(errors, item.text("path"), &path.child("path"));
    file_mode(errors, item, "mode", path);
}

fn nfs(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    required(errors, source, path, &["server", "path"]);
    let target = source.text("path");
    if !target.starts_with('/') {
        errors.push(Error::invalid(&path.child("path"), target, "must be an absolute path"));
    }
}

fn iscsi(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    const PREFIX: &str = "must be valid format starting with iqn, eui, or naa";
    const FORMAT: &str = "must be valid format";
    let has_prefix = |name: &str| ["iqn", "eui", "naa"].iter().any(|prefix| name.starts_with(prefix));
    required(errors, source, path, &["targetPortal", "iqn"]);
    let iqn = source.text("iqn");
    if !iqn.is_empty() && !has_prefix(iqn) {
        errors.push(Error::invalid(&path.child("iqn"), iqn, PREFIX));
    } else if !iqn.is_empty() && !is_iscsi_name(iqn) {
        errors.push(Error::invalid(&path.child("iqn"), iqn, FORMAT));
    }
    let lun = source.int("lun").unwrap_or(0);
    if !(0..=255).contains(&lun) {
        errors.push(Error::invalid(&path.child("lun"), lun, names::inclusive_range_error(0, 255)));
    }
    if (source.is_true("chapAuthDiscovery") || source.is_true("chapAuthSession")) && !source.has("secretRef") {
        errors.push(Error::required(&path.child("secretRef"), ""));
    }
    if let Some(initiator) = source.text_if("initiatorName") {
        let initiator_path = path.child("initiatorname");
        if !has_prefix(initiator) {
            errors.push(Error::invalid(&initiator_path, initiator, PREFIX));
        } else if !is_iscsi_name(initiator) {
            errors.push(Error::invalid(&initiator_path, initiator, FORMAT));
        }
    }
}

/// `iqn.2001-04.com.example:disk`, or `eui.` with 16 or `naa.` with 32 letters and digits.
fn is_iscsi_name(name: &str) -> bool {
    let is_id = |id: &str, len: usize| id.len() == len && id.bytes().all(|c| c.is_ascii_alphanumeric());
    // Any character may stand for the dot after the last two prefixes: the patterns upstream uses do not escape it.
    let after = |prefix: &str| {
        name.strip_prefix(prefix).map(|rest| {
            let mut rest = rest.chars();
            rest.next();
            rest.as_str()
        })
    };
    if let Some(id) = after("eui") {
        return is_id(id, 16);
    }
    if let Some(id) = after("naa") {
        return is_id(id, 32);
    }
    // The pattern may begin anywhere, but must reach the end.
    name.match_indices("iqn.").any(|(at, prefix)| is_iqn_rest(&name[at + prefix.len()..]))
}

/// `2001-04.com.example:disk`
fn is_iqn_rest(rest: &str) -> bool {
    let bytes = rest.as_bytes();
    let is_date = bytes.len() > 8
        && bytes.iter().take(8).enumerate().all(|(at, c)| match at {
            4 => *c == b'-',
            7 => *c == b'.',
            _ => c.is_ascii_digit(),
        });
    if !is_date {
        return false;
    }
    let Some((authority, name)) = rest[8..].split_once(':') else { return false };
    !authority.is_empty()
        && authority.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.'))
        && !name.is_empty()
        && !name.contains([',', ';', '*', '&', '$', '|', ' ', '\t', '\n', '\r', '\u{b}', '\u{c}'])
}

fn flocker(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    let (name, uuid) = (source.text("datasetName"), source.text("datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        errors.push(Error::required(path, "one of datasetName and datasetUUID is required"));
    }
    if !name.is_empty() && !uuid.is_empty() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        errors.push(Error::invalid(path, "resource", why));
    }
    if name.contains('/') {
        errors.push(Error::invalid(&path.child("datasetName"), name, "must not contain '/'"));
    }
}

fn secret_ref(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    if let Some(secret) = source.get("secretRef") {
        required(errors, secret, &path.child("secretRef"), &["name"]);
    }
}

fn cinder(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    required(errors, source, path, &["volumeID"]);
    secret_ref(errors, source, path);
}

fn quobyte(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.text("registry");
    if registry.is_empty() {
        errors.push(Error::required(&path.child("registry"), PAIRS));
    } else if source.text("tenant").len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Error::required(&path.child("tenant"), why));
    } else {
        for _ in registry.split(',').filter(|pair| !is_host_port(pair)) {
            errors.push(Error::invalid(&path.child("registry"), registry, PAIRS));
        }
    }
    required(errors, source, path, &["volume"]);
}

/// What Go's net.SplitHostPort takes.
fn is_host_port(pair: &str) -> bool {
    match pair.strip_prefix('[') {
        Some(rest) => rest
            .split_once("]:")
            .is_some_and(|(host, port)| !host.contains(['[', ']']) && !port.contains([':', '[', ']'])),
        None => pair
            .split_once(':')
            .is_some_and(|(host, port)| !host.contains(['[', ']']) && !port.contains([':', '[', ']'])),
    }
}

fn downward_api(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    file_mode(errors, source, "defaultMode", path);
    for item in source.items("items") {
        downward_api_file(errors, item, path);
    }
}

fn downward_api_file(errors: &mut ErrorList, file: &Value, path: &Path<'_>) {
    required(errors, file, path, &["path"]);
    local_not_reserved(errors, file.text("path"), &path.child("path"));
    match (file.get("fieldRef"), file.get("resourceFieldRef")) {
        (Some(field), resource) => {
            env::field_ref(errors, field, &FILE_FIELDS, &path.child("fieldRef"));
            if resource.is_some() {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(path, "resource", why));
            }
        }
        (None, Some(resource)) => env::resource_field_ref(errors, resource, &path.child("resourceFieldRef"), true),
        (None, None) => errors.push(Error::required(path, "one of fieldRef and resourceFieldRef is required")),
    }
    file_mode(errors, file, "mode", path);
}

fn fibre_channel(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    let (targets, ids) = (source.items("targetWWNs"), source.items("wwids"));
    let targets_path = path.child("targetWWNs");
    if targets.is_empty() && ids.is_empty() {
        let why = "must specify either targetWWNs or wwids, but not both";
        errors.push(Error::required(&targets_path, why));
    }
    if !targets.is_empty() && !ids.is_empty() {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(Error::invalid(&targets_path, targets.to_vec(), why));
    }
    if !targets.is_empty() {
        match source.int("lun") {
            None => errors.push(Error::required(&path.child("lun"), "lun is required if targetWWNs is specified")),
            Some(lun) if !(0..=255).contains(&lun) => {
                errors.push(Error::invalid(&path.child("lun"), lun, names::inclusive_range_error(0, 255)));
            }
            Some(_) => {}
        }
    }
}

fn flex_volume(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    required(errors, source, path, &["driver"]);
    let options = path.child("options");
    for key in source.entries("options").keys() {
        let namespace = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            errors.push(Error::invalid(&options.key(key), key.clone(), why));
        }
    }
}

fn azure_disk(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    required(errors, source, path, &["diskName", "diskURI"]);
    if let Some(mode) = source.text_if("cachingMode") {
        supported(errors, &path.child("cachingMode"), mode, &["None", "ReadOnly", "ReadWrite"]);
    }
    let Some(kind) = source.text_if("kind") else { return };
    supported(errors, &path.child("kind"), kind, &["Dedicated", "Managed", "Shared"]);
    let uri = source.text("diskURI");
    let (start, shape) = if kind == "Managed" {
        (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        )
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    if !uri.starts_with(start) {
        errors.push(Error::not_supported(&path.child("diskURI"), uri, &[shape]));
    }
}

fn storage_os(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    required(errors, source, path, &["volumeName"]);
    for field in ["volumeName", "volumeNamespace"] {
        let name = source.text(field);
        if !name.is_empty() {
            invalid_text(errors, &path.child(field), name, names::dns1123_label(name, false));
        }
    }
    secret_ref(errors, source, path);
}

const CSI_DRIVER_LEN_MAX: usize = 63;

fn csi(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    let driver = source.text("driver");
    let driver_path = path.child("driver");
    required(errors, source, path, &["driver"]);
    if driver.len() > CSI_DRIVER_LEN_MAX {
        errors.push(Error::too_long(&driver_path, CSI_DRIVER_LEN_MAX));
    }
    if !driver.is_empty() {
        invalid_text(errors, &driver_path, driver, names::dns1123_subdomain(&driver.to_lowercase(), false));
    }
    if let Some(secret) = source.get("nodePublishSecretRef") {
        match secret.text("name") {
            "" => errors.push(Error::required(&path.child("nodePublishSecretRef.name"), "")),
            name => invalid_text(errors, &path.child("name"), name, names::dns1123_subdomain(name, false)),
        }
    }
}

fn image(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    super::required_one_of(
        errors,
        &path.child("pullPolicy"),
        source.text("pullPolicy"),
        &["Always", "IfNotPresent", "Never"],
    );
}

/// Several sources in one folder.
fn projected(errors: &mut ErrorList, source: &Value, path: &Path<'_>, options: Options<'_>) {
    file_mode(errors, source, "defaultMode", path);
    let mut paths = BTreeSet::new();
    let mut conflict = |errors: &mut ErrorList, file: &str, shown: &str| {
        if !file.is_empty() && !paths.insert(file.to_owned()) {
            errors.push(Error::invalid(path, shown, "conflicting duplicate paths"));
        }
    };
    let sources = path.child("sources");
    for (at, projection) in source.items("sources").iter().enumerate() {
        let projection_path = sources.index(at);
        let mut count = 0;
        for field in ["secret", "configMap"] {
            let Some(keys) = projection.get(field) else { continue };
            count += 1;
            let keys_path = projection_path.child(field);
            required(errors, keys, &keys_path, &["name"]);
            let items = keys_path.child("items");
            for (item_at, item) in keys.items("items").iter().enumerate() {
                key_to_path(errors, item, &items.index(item_at));
                conflict(errors, item.text("path"), keys.text("name"));
            }
        }
        if let Some(api) = projection.get("downwardAPI") {
            count += 1;
            for file in api.items("items") {
                downward_api_file(errors, file, &projection_path.child("downwardAPI"));
                conflict(errors, file.text("path"), file.text("path"));
            }
        }
        if let Some(token) = projection.get("serviceAccountToken") {
            count += 1;
            service_account_token(errors, token, path, &projection_path, options);
        }
        if let Some(bundle) = projection.get("clusterTrustBundle") {
            count += 1;
            trust_bundle(errors, bundle, &projection_path.child("clusterTrustBundle"));
            conflict(errors, bundle.text("path"), bundle.text("path"));
        }
        if let Some(certificate) = projection.get("podCertificate") {
            count += 1;
            let certificate_path = projection_path.child("podCertificate");
            pod_certificate(errors, certificate, &certificate_path);
            for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
                conflict(errors, certificate.text(field), certificate.text(field));
            }
        }
        if count > 1 {
            errors.push(Error::forbidden(&projection_path, "may not specify more than 1 volume type per source"));
        }
    }
}

fn service_account_token(
    errors: &mut ErrorList,
    token: &Value,
    volume_path: &Path<'_>,
    path: &Path<'_>,
    options: Options<'_>,
) {
    let token_path = path.child("serviceAccountToken");
    let seconds = token.int("expirationSeconds").unwrap_or(0);
    let seconds_path = token_path.child("expirationSeconds");
    if seconds < 600 {
        errors.push(Error::invalid(&seconds_path, seconds, "may not specify a duration less than 10 minutes"));
    }
    if seconds > TWO_TO_THE_32 {
        errors.push(Error::invalid(&seconds_path, seconds, "may not specify a duration larger than 2^32 seconds"));
    }
    // The path is upstream's.
    match token.text("path") {
        "" => errors.push(Error::required(&volume_path.child("path"), "")),
        file if !options.lenient.non_local_token_paths => {
            local_not_reserved(errors, file, &volume_path.child("path"));
        }
        _ => {}
    }
}

/// Whether a spec projects a token to a path outside of the volume.
pub(super) fn has_non_local_token_paths(spec: &Value) -> bool {
    let sources = spec.items("volumes").iter().filter_map(|v| v.get("projected")).flat_map(|p| p.items("sources"));
    sources.filter_map(|source| source.get("serviceAccountToken")).any(|token| {
        let mut errors = ErrorList::new();
        local_not_reserved(&mut errors, token.text("path"), &Path::ROOT);
        !errors.is_empty()
    })
}

fn trust_bundle(errors: &mut ErrorList, bundle: &Value, path: &Path<'_>) {
    match (bundle.text_if("name"), bundle.text_if("signerName")) {
        (Some(_), Some(_)) => {
            errors.push(Error::invalid(path, bundle.clone(), "only one of name and signerName may be used"));
        }
        (Some(name), None) => {
            let name_path = path.child("name");
            if name.is_empty() {
                errors.push(Error::required(&name_path, "must be a valid object name"));
            }
            let shown = |message| format!("not a valid clustertrustbundlename: {message}");
            invalid_text(errors, &name_path, name, bundle_name(name).into_iter().map(shown).collect());
            if let Some(selector) = bundle.get("labelSelector") {
                let why = "labelSelector must be unset if name is specified";
                errors.push(Error::invalid(&path.child("labelSelector"), selector.clone(), why));
            }
        }
        (None, Some(signer)) => {
            let signer_path = path.child("signerName");
            if signer.is_empty() {
                errors.push(Error::required(&signer_path, "must be a valid signer name"));
            }
            signer_name(errors, signer, &signer_path);
            let selector_path = path.child("labelSelector");
            errors.extend(selector::validate(bundle.get("labelSelector"), &selector_path, Leniency::default()));
        }
        (None, None) => errors.push(Error::required(path, "either name or signerName must be specified")),
    }
    required(errors, bundle, path, &["path"]);
    local_not_reserved(errors, bundle.text("path"), &path.child("path"));
}

/// The name of a ClusterTrustBundle: one that belongs to a signer begins with the signer's name.
fn bundle_name(name: &str) -> Vec<String> {
    match name.rsplit_once(':') {
        Some((_, rest)) => names::dns1123_subdomain(rest, false),
        None => names::dns1123_subdomain(name, false),
    }
}

/// A certificate signer: `example.com/name`.
fn signer_name(errors: &mut ErrorList, signer: &str, path: &Path<'_>) {
    if signer.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    let Some((domain, name)) = signer.split_once('/').filter(|(_, name)| !name.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(Error::invalid(path, signer, why));
        return;
    };
    for message in names::dns1123_subdomain(domain, false) {
        errors.push(Error::invalid(path, domain, message));
    }
    if !domain.contains('.') {
        errors.push(Error::invalid(path, domain, "should be a domain with at least two segments separated by dots"));
    }
    for message in names::dns1123_subdomain(name, false) {
        errors.push(Error::invalid(path, name, message));
    }
}

fn pod_certificate(errors: &mut ErrorList, certificate: &Value, path: &Path<'_>) {
    signer_name(errors, certificate.text("signerName"), &path.child("signerName"));
    let types = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
    supported(errors, &path.child("keyType"), certificate.text("keyType"), &types);
    if let Some(seconds) = certificate.int("maxExpirationSeconds") {
        let seconds_path = path.child("maxExpirationSeconds");
        // Kubernetes' own signers give shorter certificates.
        let is_own = certificate.text("signerName").starts_with("kubernetes.io/");
        let max = if is_own { 24 * 3600 } else { 91 * 24 * 3600 };
        if seconds < 3600 {
            errors.push(Error::invalid(&seconds_path, seconds, "if provided, maxExpirationSeconds must be >= 3600"));
        }
        if seconds > max {
            let why = format!("if provided, maxExpirationSeconds must be <= {max}");
            errors.push(Error::invalid(&seconds_path, seconds, why));
        }
    }
    let fields = ["credentialBundlePath", "keyPath", "certificateChainPath"];
    if fields.iter().all(|field| certificate.text(field).is_empty()) {
        errors.push(Error::required(
            path,
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
        ));
    }
    for field in fields {
        local_not_reserved(errors, certificate.text(field), &path.child(field));
    }
}

fn ephemeral(errors: &mut ErrorList, source: &Value, path: &Path<'_>) {
    let template_path = path.child("volumeClaimTemplate");
    let Some(template) = source.get("volumeClaimTemplate") else {
        errors.push(Error::required(&template_path, ""));
        return;
    };
    errors.extend(crate::meta::validate_template(template, &template_path));
    let spec = template.get("spec").unwrap_or(&Value::Null);
    errors.extend(persistentvolumeclaim::check_spec(spec, None, &template_path.child("spec")));
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use crate::core::pod::tests::pods;

    #[test]
    fn volumes_have_one_source() {
        pods(&expect![[r#"
                volumes = [{"name":"v"}]
                volumes = [{"name":"A_","emptyDir":{},"hostPath":{"path":"/"}}]
                  spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type
                  spec.volumes[0].name: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character
                volumes = [{"name":"v","emptyDir":{}},{"name":"v","emptyDir":{}}]
                  spec.volumes[1].name: Duplicate value: "v"
                volumes = [{"name":"v","emptyDir":{"sizeLimit":"-1"}}]
                  spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity
                volumes = [{"name":"v","hostPath":{"path":"/a/../b","type":"X"}}]
                  spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..'
                  spec.volumes[0].hostPath.type: Unsupported value: "X": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"
                volumes = [{"name":"v","gitRepo":{"repository":"x","directory":"/a"}}]
                  spec.volumes[0].gitRepo.directory: Invalid value: "/a": must be a relative path
                    spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+
                volumes = [{"name":"v","secret":{"defaultMode":512,"items":[{"key":"","path":""},{"key":"a","path":"/a"},{"key":"a","path":"..x","mode":-1}]}}]
                  spec.volumes[0].secret.secretName: Required value
                  spec.volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive
                  spec.volumes[0].secret.items[0].key: Required value
                  spec.volumes[0].secret.items[0].path: Required value
                  spec.volumes[0].secret.items[1].path: Invalid value: "/a": must be a relative path
                  spec.volumes[0].secret.items[2].path: Invalid value: "..x": must not start with '..'
                  spec.volumes[0].secret.items[2].mode: Invalid value: -1: must be a number between 0 and 0777 (octal), both inclusive
                volumes = [{"name":"v","configMap":{"name":"a","items":[{"key":"k","path":"../p"}]}}]
                  spec.volumes[0].configMap.items[0].path: Invalid value: "../p": must not contain '..'
                volumes = [{"name":"v","nfs":{"server":"","path":"a"}}]
                  spec.volumes[0].nfs.server: Required value
                  spec.volumes[0].nfs.path: Invalid value: "a": must be an absolute path
                volumes = [{"name":"v","iscsi":{"targetPortal":"","iqn":"","lun":300}}]
                  spec.volumes[0].iscsi.targetPortal: Required value
                  spec.volumes[0].iscsi.iqn: Required value
                  spec.volumes[0].iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive
                volumes = [{"name":"v","iscsi":{"targetPortal":"a","iqn":"iqn.bad","lun":0,"chapAuthSession":true}}]
                  spec.volumes[0].iscsi.iqn: Invalid value: "iqn.bad": must be valid format
                  spec.volumes[0].iscsi.secretRef: Required value
                volumes = [{"name":"v","fc":{"targetWWNs":["a"],"wwids":["b"],"lun":300}}]
                  spec.volumes[0].fc.targetWWNs: Invalid value: ["a"]: targetWWNs and wwids can not be specified simultaneously
                  spec.volumes[0].fc.lun: Invalid value: 300: must be between 0 and 255, inclusive
                volumes = [{"name":"v","flexVolume":{"driver":"a","options":{"k8s.io/x":"a"}}}]
                  spec.volumes[0].flexVolume.options[k8s.io/x]: Invalid value: "k8s.io/x": kubernetes.io and k8s.io namespaces are reserved
                volumes = [{"name":"v","azureDisk":{"diskName":"a","diskURI":"b","cachingMode":"X","kind":"Y"}}]
                  spec.volumes[0].azureDisk.cachingMode: Unsupported value: "X": supported values: "None", "ReadOnly", "ReadWrite"
                  spec.volumes[0].azureDisk.kind: Unsupported value: "Y": supported values: "Dedicated", "Managed", "Shared"
                  spec.volumes[0].azureDisk.diskURI: Unsupported value: "b": supported values: "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"
                volumes = [{"name":"v","storageos":{"volumeName":"A_"}}]
                  spec.volumes[0].storageos.volumeName: Invalid value: "A_": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character
                    spec.volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+
                volumes = [{"name":"v","quobyte":{"registry":"a:1,b","volume":""}}]
                  spec.volumes[0].quobyte.registry: Invalid value: "a:1,b": must be a host:port pair or multiple pairs separated by commas
                  spec.volumes[0].quobyte.volume: Required value
                    spec.volumes[0].quobyte: deprecated in v1.22, non-functional in v1.25+
                volumes = [{"name":"v","csi":{"driver":"","nodePublishSecretRef":{}}}]
                  spec.volumes[0].csi.driver: Required value
                  spec.volumes[0].csi.nodePublishSecretRef.name: Required value
                volumes = [{"name":"v","image":{}}]
                  spec.volumes[0].image.reference: Required value
                volumes = [{"name":"v","image":{"reference":" a","pullPolicy":"X"}}]
                  spec.volumes[0].image.pullPolicy: Unsupported value: "X": supported values: "Always", "IfNotPresent", "Never"
                volumes = [{"name":"v","downwardAPI":{"items":[{"path":"/a","fieldRef":{"fieldPath":"spec.x"}}]}}]
                  spec.volumes[0].downwardAPI.path: Invalid value: "/a": must be a relative path
                  spec.volumes[0].downwardAPI.fieldRef.fieldPath: Invalid value: "spec.x": error converting fieldPath: field label not supported: spec.x
            "#]]);
    }

    #[test]
    fn claims_and_projections_are_checked() {
        pods(&expect![[r#"
                volumes = [{"name":"v","ephemeral":{}}]
                  spec.volumes[0].ephemeral.volumeClaimTemplate: Required value
                volumes = [{"name":"v","ephemeral":{"volumeClaimTemplate":{"metadata":{"name":"n","finalizers":["x/y"]},"spec":{}}}}]
                  spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set
                  spec.volumes[0].ephemeral.volumeClaimTemplate.metadata.finalizers: Forbidden: cannot be set
                  spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Required value: at least 1 access mode is required
                  spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value
                volumes = [{"name":"v","ephemeral":{"volumeClaimTemplate":{"spec":{"accessModes":["X"],"resources":{"requests":{"storage":"0"}},"volumeMode":"X"}}}}]
                  spec.volumes[0].ephemeral.volumeClaimTemplate.spec.accessModes: Unsupported value: "X": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"
                  spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Invalid value: "0": must be greater than zero
                  spec.volumes[0].ephemeral.volumeClaimTemplate.spec.volumeMode: Unsupported value: "X": supported values: "Block", "Filesystem"
                volumes = [{"name":"v","ephemeral":{"volumeClaimTemplate":{"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1"}}}}}},{"name":"w","persistentVolumeClaim":{"claimName":"x-v"}}]
                  spec.volumes[1].persistentVolumeClaim.claimName: Invalid value: "x-v": must not reference a PVC that gets created for an ephemeral volume
                volumes = [{"name":"v","projected":{"sources":[{}]}}]
                    volume "v" (Projected) has no sources provided
                volumes = [{"name":"v","projected":{"sources":[{"secret":{"name":"a"},"configMap":{"name":"b"}}]}}]
                  spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source
                volumes = [{"name":"v","projected":{"defaultMode":4095,"sources":[{"downwardAPI":{"items":[{"path":"a"},{"path":"a","fieldRef":{"fieldPath":"metadata.name"},"resourceFieldRef":{"resource":"limits.cpu"}}]}}]}}]
                  spec.volumes[0].projected.defaultMode: Invalid value: 4095: must be a number between 0 and 0777 (octal), both inclusive
                  spec.volumes[0].projected.sources[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required
                  spec.volumes[0].projected.sources[0].downwardAPI: Invalid value: "resource": fieldRef and resourceFieldRef can not be specified simultaneously
                  spec.volumes[0].projected: Invalid value: "a": conflicting duplicate paths
                    volume "v" (Projected): overlapping paths: "a" (DownwardAPI) with "a" (DownwardAPI)
                volumes = [{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"../a","expirationSeconds":10}}]}}]
                  spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes
                  spec.volumes[0].projected.path: Invalid value: "../a": must not contain '..'
                serviceAccountName = "" ; volumes = [{"name":"v","projected":{"sources":[{"serviceAccountToken":{"path":"a"}}]}}]
                  spec.volumes[0].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set
                volumes = [{"name":"v","projected":{"sources":[{"clusterTrustBundle":{"path":"a","name":"n"}}]}}]
                    volume "v" (Projected) has no sources provided
            "#]]);
    }
}
