//! PersistentVolume: a piece of storage in the cluster.

use api_schema::{SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use super::pod::warnings::deprecated_label;
use super::shared::{
    STORAGE_CLASS_ANNOTATION, access_modes_cell, check_access_modes, check_basic_quantity, check_positive_quantity,
    quantities, round_up_resources, storage_class_cell,
};
use super::volume_sources;
use crate::Kind;
use crate::checks::{
    default_field, default_text, internal, invalid_text, map, name, required_text, same, supported, text_or,
};

const MOUNT_OPTIONS_ANNOTATION: &str = "volume.beta.kubernetes.io/mount-options";

/// The kind PersistentVolume.
pub(crate) struct PersistentVolume;

impl Kind for PersistentVolume {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "persistentvolumes"
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        default_text(object, &["status", "phase"], "Pending");
        default_text(object, &["spec", "persistentVolumeReclaimPolicy"], "Retain");
        default_field(object, &["spec", "volumeMode"], "Filesystem");
        round_up_resources(object, &[&["spec", "capacity"]]);
        volume_sources::default(object.entry(&["spec"]));
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], Value::from([("phase", "Pending")]));
    }

    /// Notes when the phase changed, unless the client says so itself.
    fn stamp(&self, new: &mut Value, old: Option<&Value>, now: &str) {
        const TIME: [&str; 2] = ["status", "lastPhaseTransitionTime"];
        let phase = ["status", "phase"];
        let (known, changed) = match old {
            Some(old) => (old.at(&TIME).cloned(), old.str_at(&phase) != new.str_at(&phase)),
            None => (None, true),
        };
        let stated = new.at(&TIME).cloned();
        if changed && (stated.is_none() || stated == known) {
            new.set(&TIME, now);
        } else if let (false, None, Some(known)) = (changed, stated, known) {
            new.set(&TIME, known);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = check(new);
        check_update(&mut errors, new, old);
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let annotations = map(new, &["metadata", "annotations"]);
        let mut warnings = Vec::new();
        for (annotation, why) in [
            (STORAGE_CLASS_ANNOTATION, "deprecated since v1.8; use \"storageClassName\" attribute instead"),
            (MOUNT_OPTIONS_ANNOTATION, "deprecated since v1.31; use \"mountOptions\" attribute instead"),
        ] {
            if annotations.contains_key(annotation) {
                warnings.push(format!("metadata.annotations[{annotation}]: {why}"));
            }
        }
        if new.str_at(&["spec", "persistentVolumeReclaimPolicy"]) == "Recycle" {
            warnings.push(
                "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended \
                 approach is to use dynamic provisioning."
                    .to_owned(),
            );
        }
        let terms = Path::new("spec.nodeAffinity.required.nodeSelectorTerms");
        let selector = ["spec", "nodeAffinity", "required", "nodeSelectorTerms"];
        for (at, term) in new.list_at(&selector).iter().enumerate() {
            let term_path = terms.index(at);
            let path = term_path.child("matchExpressions");
            for (at, expression) in term.list_at(&["matchExpressions"]).iter().enumerate() {
                let key = expression.str_at(&["key"]);
                if let Some(why) = deprecated_label(key) {
                    warnings.push(format!("{}: {key} is {why}", path.index(at).child("key")));
                }
            }
        }
        for (source, why) in [
            ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
            ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
            ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
            ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
            ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
            ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
        ] {
            if new.at(&["spec", source]).is_some() {
                let shown = if source == "storageos" { "storageOS" } else { source };
                warnings.push(format!("spec.{shown}: {why}"));
            }
        }
        warnings
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let claim = object.at(&["spec", "claimRef"]);
        let claim = claim.map(|claim| format!("{}/{}", claim.str_at(&["namespace"]), claim.str_at(&["name"])));
        Some(vec![
            name(object),
            text_or(object, &["spec", "capacity", "storage"], "0"),
            access_modes_cell(object, &["spec", "accessModes"]),
            object.str_at(&["spec", "persistentVolumeReclaimPolicy"]).into(),
            phase_cell(object),
            claim.unwrap_or_default().into(),
            storage_class_cell(object),
            text_or(object, &["spec", "volumeAttributesClassName"], "<unset>"),
            object.str_at(&["status", "reason"]).into(),
            api_semantics::time::age(object, now),
            text_or(object, &["spec", "volumeMode"], "<unset>"),
        ])
    }
}

/// The phase of a volume or claim, or that it goes.
pub(super) fn phase_cell(object: &Value) -> Value {
    match object.at(&["metadata", "deletionTimestamp"]) {
        Some(_) => "Terminating".into(),
        None => object.str_at(&["status", "phase"]).into(),
    }
}

fn check(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (nothing, path) = (Value::Null, Path::new("spec"));
    let spec = object.get("spec").unwrap_or(&nothing);
    check_access_modes(&mut errors, spec, &path, "");
    check_capacity(&mut errors, spec, &path.child("capacity"));
    let policy = spec.str_at(&["persistentVolumeReclaimPolicy"]);
    if !policy.is_empty() {
        let policies = ["Delete", "Recycle", "Retain"];
        supported(&mut errors, &path.child("persistentVolumeReclaimPolicy"), policy, &policies);
    }
    if let Some(affinity) = spec.get("nodeAffinity") {
        let required = path.child("nodeAffinity").to_string();
        let required = Path::new(&required);
        match affinity.get("required") {
            Some(selector) => {
                let path = required.child("required");
                super::pod::validate::scheduling::node_selector(&mut errors, selector, false, &path);
            }
            None => errors.push(Error::required(&required.child("required"), "must specify required node constraints")),
        }
    }
    volume_sources::check(&mut errors, spec, object.str_at(&["metadata", "name"]), &path);
    let class = spec.str_at(&["storageClassName"]);
    if !class.is_empty() {
        invalid_text(&mut errors, &path.child("storageClassName"), class, names::dns1123_subdomain(class, false));
    }
    if let Some(mode) = spec.get("volumeMode").and_then(Value::as_str) {
        supported(&mut errors, &path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
    if spec.get("volumeAttributesClassName").is_some() {
        let class_path = path.child("volumeAttributesClassName");
        match spec.str_at(&["volumeAttributesClassName"]) {
            "" => errors.push(Error::required(&class_path, "an empty string is disallowed")),
            class => invalid_text(&mut errors, &class_path, class, names::dns1123_subdomain(class, false)),
        }
        if spec.get("csi").is_none() {
            let why = "has to be specified when using volumeAttributesClassName";
            errors.push(Error::required(&path.child("csi"), why));
        }
    }
    check_mount_options(&mut errors, object);
    errors
}

/// The annotation with mount options goes with sources that are mounted the old way only.
fn check_mount_options(errors: &mut ErrorList, object: &Value) {
    const MOUNTED: [&str; 13] = [
        "gcePersistentDisk",
        "awsElasticBlockStore",
        "glusterfs",
        "nfs",
        "rbd",
        "quobyte",
        "iscsi",
        "cinder",
        "cephfs",
        "azureFile",
        "vsphereVolume",
        "azureDisk",
        "photonPersistentDisk",
    ];
    let is_annotated = map(object, &["metadata", "annotations"]).contains_key(MOUNT_OPTIONS_ANNOTATION);
    if is_annotated && MOUNTED.iter().all(|source| object.at(&["spec", source]).is_none()) {
        let path = Path::new("metadata.annotations");
        let why = "may not specify mount options for this volume type";
        errors.push(Error::forbidden(&path.child(MOUNT_OPTIONS_ANNOTATION), why));
    }
}

fn check_capacity(errors: &mut ErrorList, spec: &Value, path: &Path<'_>) {
    let capacity = map(spec, &["capacity"]);
    if capacity.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        let shown = spec.get("capacity").cloned().unwrap_or_default();
        errors.push(Error::not_supported(path, shown, &["storage"]));
    }
    for (resource, quantity) in quantities(Some(capacity)) {
        let path = path.key(resource);
        check_basic_quantity(errors, &quantity, &path);
        check_positive_quantity(errors, &quantity, &path);
    }
}

fn check_update(errors: &mut ErrorList, new: &Value, old: &Value) {
    let secret = ["spec", "csi", "controllerExpandSecretRef"];
    // The one part of a source that may still be added.
    let mut source = new.clone();
    if old.at(&secret).is_none() && old.at(&["spec", "csi"]).is_some() {
        source.remove(&secret);
    }
    let changed = volume_sources::ALL.iter().any(|field| !same(source.at(&["spec", field]), old.at(&["spec", field])));
    if changed {
        let why = "spec.persistentvolumesource is immutable after creation";
        errors.push(Error::forbidden(&Path::new("spec.persistentvolumesource"), why));
    }
    crate::checks::immutable(
        errors,
        &Path::new("volumeMode"),
        new.at(&["spec", "volumeMode"]),
        old.at(&["spec", "volumeMode"]),
    );
    let affinity = ["spec", "nodeAffinity"];
    if let Some(had) = old.at(&affinity) {
        let has = new.at(&affinity);
        if !same(Some(&with_new_labels(had)), has) && !same(Some(had), has) {
            let why = "field is immutable, except for updating from beta label to GA";
            let shown = internal(has, "io.k8s.api.core.v1.VolumeNodeAffinity");
            errors.push(Error::invalid(
                &Path::new("nodeAffinity"),
                if has.is_some() { shown } else { Value::Null },
                why,
            ));
        }
    }
    let class = ["spec", "volumeAttributesClassName"];
    if old.at(&class).is_some() && new.at(&class).is_none() {
        let why = "update from non-nil value to nil is forbidden";
        errors.push(Error::forbidden(&Path::new("spec.volumeAttributesClassName"), why));
    }
}

/// A node affinity in which the beta topology labels have their stable names.
fn with_new_labels(affinity: &Value) -> Value {
    let mut affinity = affinity.clone();
    for term in crate::checks::items_mut(&mut affinity, &["required", "nodeSelectorTerms"]) {
        for expression in crate::checks::items_mut(term, &["matchExpressions"]) {
            let stable = match expression.str_at(&["key"]) {
                "failure-domain.beta.kubernetes.io/zone" => "topology.kubernetes.io/zone",
                "failure-domain.beta.kubernetes.io/region" => "topology.kubernetes.io/region",
                "beta.kubernetes.io/instance-type" => "node.kubernetes.io/instance-type",
                "beta.kubernetes.io/os" => "kubernetes.io/os",
                "beta.kubernetes.io/arch" => "kubernetes.io/arch",
                _ => continue,
            };
            expression.set(&["key"], SmolStr::new_static(stable));
        }
    }
    affinity
}

/// Checks a reference to a secret of any namespace.
pub(super) fn check_secret_reference(errors: &mut ErrorList, reference: &Value, path: &Path<'_>) {
    let secret = required_text(errors, path, reference, "name");
    if !secret.is_empty() {
        invalid_text(errors, &path.child("name"), secret, names::dns1123_subdomain(secret, false));
    }
    let namespace = required_text(errors, path, reference, "namespace");
    if !namespace.is_empty() {
        invalid_text(errors, &path.child("namespace"), namespace, names::dns1123_label(namespace, false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, update};

    fn volume(more: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"v"}},"spec":{{"accessModes":["ReadWriteOnce"],"capacity":{{"storage":"1Gi"}},
                {more}}}}}"#
        )
    }

    #[test]
    fn a_volume_is_kept_and_holds_files_unless_told() {
        defaults(
            &PersistentVolume,
            r#"{"spec":{"hostPath":{"path":"/a"}}}"#,
            r#"{"spec":{"hostPath":{"path":"/a","type":""},"persistentVolumeReclaimPolicy":"Retain",
                "volumeMode":"Filesystem"},"status":{"phase":"Pending"}}"#,
        );
    }

    #[test]
    fn a_volume_has_modes_capacity_and_one_source() {
        create(&PersistentVolume, &volume(r#""hostPath":{"path":"/a"}"#), "");
        create(
            &PersistentVolume,
            r#"{"spec":{"hostPath":{"path":"a/.."},"nfs":{"path":"b"}}}"#,
            "spec.accessModes: Required value\n\
             spec.capacity: Required value\n\
             spec.capacity: Unsupported value: null: supported values: \"storage\"\n\
             spec.hostPath.path: Invalid value: \"a/..\": must not contain '..'\n\
             spec.nfs: Forbidden: may not specify more than 1 volume type",
        );
        create(
            &PersistentVolume,
            &volume(r#""volumeMode":"Block""#),
            "spec: Required value: must specify a volume type",
        );
    }

    #[test]
    fn modes_classes_and_affinity_are_well_formed() {
        create(
            &PersistentVolume,
            r#"{"spec":{"accessModes":["ReadWriteOncePod","ReadOnlyMany","x"],"capacity":{"storage":"0"},
                "csi":{"driver":"d","volumeHandle":"h"},"persistentVolumeReclaimPolicy":"x","volumeMode":"y",
                "nodeAffinity":{},"volumeAttributesClassName":""}}"#,
            "spec.accessModes: Unsupported value: \"x\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
             \"ReadWriteOnce\", \"ReadWriteOncePod\"\n\
             spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes\n\
             spec.capacity[storage]: Invalid value: \"0\": must be greater than zero\n\
             spec.persistentVolumeReclaimPolicy: Unsupported value: \"x\": supported values: \"Delete\", \"Recycle\", \
             \"Retain\"\n\
             spec.nodeAffinity.required: Required value: must specify required node constraints\n\
             spec.volumeMode: Unsupported value: \"y\": supported values: \"Block\", \"Filesystem\"\n\
             spec.volumeAttributesClassName: Required value: an empty string is disallowed",
        );
    }

    #[test]
    fn the_source_stays_but_for_one_secret() {
        let csi = |more: &str| volume(&format!(r#""csi":{{"driver":"d","volumeHandle":"h"{more}}}"#));
        let secret = r#","controllerExpandSecretRef":{"name":"a","namespace":"b"}"#;
        update(&PersistentVolume, &csi(""), &csi(secret), "");
        update(
            &PersistentVolume,
            &csi(secret),
            &csi(""),
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
        );
    }

    #[test]
    fn cells_tell_size_modes_and_claim() {
        cells(
            &PersistentVolume,
            r#"{"metadata":{"name":"v"},"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteMany",
                "ReadWriteOnce"],"persistentVolumeReclaimPolicy":"Retain","claimRef":{"namespace":"n","name":"c"},
                "storageClassName":"s","volumeMode":"Block"},"status":{"phase":"Bound"}}"#,
            r#"["v","1Gi","RWO,RWX","Retain","Bound","n/c","s","<unset>","","<unknown>","Block"]"#,
        );
    }
}
