//! PersistentVolumeClaim: a wish for storage, bound to a PersistentVolume.

use api_schema::{SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::selector::{self, Leniency};

use super::persistentvolume::phase_cell;
use super::pod::resources;
use super::shared::{
    STORAGE_CLASS_ANNOTATION, access_modes_cell, check_access_modes, check_basic_quantity, check_positive_quantity,
    check_quantity, quantities, round_up_resources, storage_class_cell,
};
use crate::Kind;
use crate::checks::{
    default_field, default_text, immutable, invalid_text, map, name, required_text, same, supported, text_or,
};

const STORAGE: [&str; 4] = ["spec", "resources", "requests", "storage"];

/// The kind PersistentVolumeClaim.
pub(crate) struct PersistentVolumeClaim;

impl Kind for PersistentVolumeClaim {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "persistentvolumeclaims"
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        default_text(object, &["status", "phase"], "Pending");
        default_spec(object.entry(&["spec"]));
        round_up_resources(object, &[&["status", "capacity"], &["status", "allocatedResources"]]);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], Value::from([("phase", "Pending")]));
        prepare_sources(object.entry(&["spec"]), None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        prepare_sources(new.entry(&["spec"]), Some(old));
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let nothing = Value::Null;
        check_spec(object.get("spec").unwrap_or(&nothing), None, &Path::new("spec"))
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let nothing = Value::Null;
        let spec = |object| Value::get(object, "spec").unwrap_or(&nothing);
        let mut errors = check_spec(spec(new), Some(spec(old)), &Path::new("spec"));
        check_update(&mut errors, new, old);
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        check_status(new)
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        if map(new, &["metadata", "annotations"]).contains_key(STORAGE_CLASS_ANNOTATION) {
            warnings.push(format!(
                "metadata.annotations[{STORAGE_CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" \
                 attribute instead"
            ));
        }
        for list in ["requests", "limits"] {
            let quantity = new.at(&["spec", "resources", list, "storage"]).map(resources::quantity);
            if let Some(quantity) = quantity.filter(|quantity| !quantity.is_whole()) {
                warnings.push(format!(
                    "spec.resources.{list}[storage]: fractional byte value \"{quantity}\" is invalid, must be an integer"
                ));
            }
        }
        warnings
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let is_bound = !object.str_at(&["spec", "volumeName"]).is_empty();
        let (capacity, modes) = match is_bound {
            true => (
                text_or(object, &["status", "capacity", "storage"], "0"),
                access_modes_cell(object, &["status", "accessModes"]),
            ),
            false => ("".into(), "".into()),
        };
        Some(vec![
            name(object),
            phase_cell(object),
            object.str_at(&["spec", "volumeName"]).into(),
            capacity,
            modes,
            storage_class_cell(object),
            text_or(object, &["spec", "volumeAttributesClassName"], "<unset>"),
            api_semantics::time::age(object, now),
            text_or(object, &["spec", "volumeMode"], "<unset>"),
        ])
    }
}

/// Fills what a claim's spec leaves open; templates of claims have the same.
pub(crate) fn default_spec(spec: &mut Value) {
    default_field(spec, &["volumeMode"], "Filesystem");
    round_up_resources(spec, &[&["resources", "requests"], &["resources", "limits"]]);
}

fn text_of(reference: &Value, field: &str) -> SmolStr {
    SmolStr::new(reference.str_at(&[field]))
}

/// Keeps `dataSource` and `dataSourceRef` together. The older field has always ignored what it does not know.
pub(crate) fn prepare_sources(spec: &mut Value, old: Option<&Value>) {
    let old_has = |field: &str| old.is_some_and(|old| old.at(&["spec", field]).is_some());
    let namespace = ["dataSourceRef", "namespace"];
    // Sources in other namespaces are an alpha feature.
    if !spec.str_at(&namespace).is_empty() && !old_has("dataSourceRef") {
        spec.remove(&["dataSourceRef"]);
    }
    if !old_has("dataSource") && !old_has("dataSourceRef") && spec.get("dataSourceRef").is_none() {
        let is_known = spec.get("dataSource").is_some_and(|source| {
            matches!(
                (&*text_of(source, "kind"), &*text_of(source, "apiGroup")),
                ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
            )
        });
        if !is_known {
            spec.remove(&["dataSource"]);
        }
    }
    match (spec.get("dataSource").cloned(), spec.get("dataSourceRef").cloned()) {
        (Some(source), None) => spec.set(&["dataSourceRef"], source),
        (None, Some(mut reference)) if reference.str_at(&["namespace"]).is_empty() => {
            reference.remove(&["namespace"]);
            spec.set(&["dataSource"], reference);
        }
        _ => {}
    }
}

/// Checks a claim's spec; templates of claims are checked by it, too. `old` is the spec that is replaced.
pub(crate) fn check_spec(spec: &Value, old: Option<&Value>, path: &Path<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let modes_needed = Error::required(&path.child("accessModes"), "at least 1 access mode is required");
    if spec.list_at(&["accessModes"]).is_empty() {
        errors.push(modes_needed);
    }
    let lenient = Leniency {
        invalid_values: old.is_some_and(|old| selector::has_invalid_values(old.get("selector"))),
        unknown_operators: false,
    };
    errors.extend(selector::validate(spec.get("selector"), &path.child("selector"), lenient));
    if !spec.list_at(&["accessModes"]).is_empty() {
        check_access_modes(&mut errors, spec, path, "");
    }
    let storage_path = path.child("resources");
    let storage_path = storage_path.key("storage");
    match spec.at(&["resources", "requests", "storage"]).map(resources::quantity) {
        None => errors.push(Error::required(&storage_path, "")),
        Some(quantity) => {
            if check_positive_quantity(&mut errors, &quantity, &storage_path) {
                check_quantity(&mut errors, "storage", &quantity, &storage_path);
            }
        }
    }
    let check_class = |errors: &mut ErrorList, field: &str| {
        let class = spec.str_at(&[field]);
        if !class.is_empty() {
            invalid_text(errors, &path.child(field), class, names::dns1123_subdomain(class, false));
        }
    };
    check_class(&mut errors, "storageClassName");
    if let Some(mode) = spec.get("volumeMode").and_then(Value::as_str) {
        supported(&mut errors, &path.child("volumeMode"), mode, &["Block", "Filesystem"]);
    }
    // Groups that were let in unchecked may stay.
    let any_group = old
        .is_some_and(|old| ["dataSource", "dataSourceRef"].iter().any(|field| old.at(&[field, "apiGroup"]).is_some()));
    for field in ["dataSource", "dataSourceRef"] {
        if let Some(source) = spec.get(field) {
            check_source(&mut errors, source, any_group, &path.child(field));
        }
    }
    check_sources_agree(&mut errors, spec, path);
    check_class(&mut errors, "volumeAttributesClassName");
    errors
}

fn check_source(errors: &mut ErrorList, source: &Value, any_group: bool, path: &Path<'_>) {
    required_text(errors, path, source, "name");
    let kind = required_text(errors, path, source, "kind");
    let group = source.str_at(&["apiGroup"]);
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(Error::invalid(path, kind, why));
    }
    if !group.is_empty() && !any_group {
        invalid_text(errors, &path.child("apiGroup"), group, names::dns1123_subdomain(group, false));
    }
    let namespace = source.str_at(&["namespace"]);
    if !namespace.is_empty() {
        invalid_text(errors, &path.child("namespace"), namespace, names::dns1123_label(namespace, false));
    }
}

fn check_sources_agree(errors: &mut ErrorList, spec: &Value, path: &Path<'_>) {
    let (Some(source), Some(reference)) = (spec.get("dataSource"), spec.get("dataSourceRef")) else { return };
    // Upstream shows the path, an internal struct without visible fields, as the value.
    let shown = || Value::Raw("{}".into());
    if !reference.str_at(&["namespace"]).is_empty() {
        let why = "may not be specified when dataSourceRef.namespace is specified";
        errors.push(Error::invalid(path, shown(), why));
    } else if ["apiGroup", "kind", "name"].iter().any(|field| source.get(field) != reference.get(field)) {
        errors.push(Error::invalid(path, shown(), "must match dataSourceRef"));
    }
}

fn annotation(object: &Value) -> Option<&str> {
    map(object, &["metadata", "annotations"]).get(STORAGE_CLASS_ANNOTATION).and_then(Value::as_str)
}

/// A bound claim may grow and change its attributes class; little else changes.
fn check_update(errors: &mut ErrorList, new: &Value, old: &Value) {
    let class = ["spec", "storageClassName"];
    let (had, has) = (old.at(&class).and_then(Value::as_str), new.at(&class).and_then(Value::as_str));
    let (mut before, mut after) = (old.clone(), new.clone());
    if old.str_at(&["spec", "volumeName"]).is_empty() {
        copy(&mut before, new, &["spec", "volumeName"]);
    }
    let moves_from_annotation = annotation(old).is_some_and(|annotated| {
        had.is_none() && has == Some(annotated) && annotation(new).is_none_or(|now| now == annotated)
    });
    if moves_from_annotation {
        after.remove(&class);
    } else {
        if annotation(new) != annotation(old) {
            let path = Path::new("metadata.annotations");
            let shown = annotation(new).unwrap_or_default();
            errors.push(Error::invalid(&path.child(STORAGE_CLASS_ANNOTATION), shown, names::IMMUTABLE));
        }
        let fits = |class: &str| annotation(old).is_none_or(|annotated| annotated == class);
        if had.is_none() && has.is_some_and(fits) {
            after.remove(&class);
        }
    }
    if new.str_at(&["status", "phase"]) == "Bound" {
        if new.at(&["spec", "resources", "requests"]).is_some() {
            copy(&mut after, old, &STORAGE);
        }
        copy(&mut after, old, &["spec", "volumeAttributesClassName"]);
    }
    if !same(after.get("spec"), before.get("spec")) {
        let why = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
                   claims";
        errors.push(Error::forbidden(&Path::new("spec"), why));
    }
    let size = |object: &Value, path: &[&str]| object.at(path).map(resources::quantity).unwrap_or_default();
    let new_size = size(new, &STORAGE);
    if new_size < size(old, &STORAGE) && new_size <= size(old, &["status", "capacity", "storage"]) {
        let path = Path::new("spec.resources.requests.storage");
        errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
    }
    let mode = ["spec", "volumeMode"];
    immutable(errors, &Path::new("volumeMode"), new.at(&mode), old.at(&mode));
    let attributes = ["spec", "volumeAttributesClassName"];
    if new.at(&attributes) != old.at(&attributes)
        && old.at(&["status", "currentVolumeAttributesClassName"]).is_some()
        && new.str_at(&attributes).is_empty()
    {
        let to = if new.at(&attributes).is_none() { "nil" } else { "empty string" };
        let why = format!("update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil");
        errors.push(Error::forbidden(&Path::new("spec.volumeAttributesClassName"), why));
    }
}

fn copy(to: &mut Value, from: &Value, path: &[&str]) {
    match from.at(path) {
        Some(value) => to.set(path, value.clone()),
        None => {
            to.remove(path);
        }
    }
}

fn check_status(new: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    if new.list_at(&["spec", "accessModes"]).is_empty() {
        // The capital letter is upstream's.
        errors.push(Error::required(&Path::new("Spec.accessModes"), ""));
    }
    let path = Path::new("status.capacity");
    for (resource, quantity) in quantities(new.map_at(&["status", "capacity"])) {
        check_basic_quantity(&mut errors, &quantity, &path.key(resource));
    }
    let path = Path::new("status.allocatedResourceStatuses");
    for (resource, status) in map(new, &["status", "allocatedResourceStatuses"]).iter() {
        const STATUSES: [&str; 5] = [
            "ControllerResizeInProgress",
            "ControllerResizeInfeasible",
            "NodeResizeInProgress",
            "NodeResizeInfeasible",
            "NodeResizePending",
        ];
        check_resource_key(&mut errors, resource, &path);
        if !STATUSES.contains(&status.as_str().unwrap_or_default()) {
            errors.push(Error::not_supported(&path, resource.clone(), &STATUSES));
        }
    }
    let path = Path::new("status.allocatedResources");
    for (resource, quantity) in quantities(new.map_at(&["status", "allocatedResources"])) {
        if check_resource_key(&mut errors, resource, &path) {
            let path = path.key(resource);
            check_basic_quantity(&mut errors, &quantity, &path);
            if quantity.value() >= 0 {
                check_quantity(&mut errors, "storage", &quantity, &path);
            }
        }
    }
    errors
}

/// Of Kubernetes' own resources a claim has storage only. Gives whether the name is good.
fn check_resource_key(errors: &mut ErrorList, resource: &str, path: &Path<'_>) -> bool {
    let messages = names::qualified_name(resource);
    if !messages.is_empty() {
        invalid_text(errors, path, resource, messages);
        return false;
    }
    if resources::is_native(resource) && resource != "storage" {
        errors.push(Error::not_supported(path, resource, &["storage"]));
        return false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, json, update, update_status};

    fn claim(spec: &str, rest: &str) -> String {
        format!(
            r#"{{"spec":{{"accessModes":["ReadWriteOnce"],"resources":{{"requests":{{"storage":"2Gi"}}}}{spec}}}{rest}}}"#
        )
    }

    #[test]
    fn a_claim_has_modes_and_a_size() {
        create(&PersistentVolumeClaim, &claim("", ""), "");
        create(
            &PersistentVolumeClaim,
            r#"{"spec":{"selector":{"matchExpressions":[{"key":"a","operator":"x"}]},"volumeMode":"x"}}"#,
            "spec.accessModes: Required value: at least 1 access mode is required\n\
             spec.selector.matchExpressions[0].operator: Invalid value: \"x\": not a valid selector operator\n\
             spec.resources[storage]: Required value\n\
             spec.volumeMode: Unsupported value: \"x\": supported values: \"Block\", \"Filesystem\"",
        );
        create(
            &PersistentVolumeClaim,
            r#"{"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"0"}}}}"#,
            "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
        );
    }

    #[test]
    fn sources_are_known_and_stand_in_both_fields() {
        for (spec, expect) in [
            (r#"{"dataSource":{"kind":"Unknown","name":"a","apiGroup":"x.y"}}"#, "{}"),
            (
                r#"{"dataSource":{"kind":"PersistentVolumeClaim","name":"a"}}"#,
                r#"{"dataSource":{"kind":"PersistentVolumeClaim","name":"a"},
                    "dataSourceRef":{"kind":"PersistentVolumeClaim","name":"a"}}"#,
            ),
            (
                r#"{"dataSourceRef":{"kind":"K","name":"a","apiGroup":"x.y"}}"#,
                r#"{"dataSource":{"kind":"K","name":"a","apiGroup":"x.y"},
                    "dataSourceRef":{"kind":"K","name":"a","apiGroup":"x.y"}}"#,
            ),
            (r#"{"dataSourceRef":{"kind":"K","name":"a","namespace":"n"}}"#, "{}"),
        ] {
            let mut spec = json(spec);
            prepare_sources(&mut spec, None);
            assert_eq!(spec, json(expect));
        }
    }

    #[test]
    fn a_source_left_out_of_one_field_stays() {
        let source = r#","dataSource":{"kind":"PersistentVolumeClaim","name":"a"}"#;
        let both = format!("{source},{}", &source[1..].replace("dataSource", "dataSourceRef"));
        update(&PersistentVolumeClaim, &claim(&both, ""), &claim(source, ""), "");
    }

    #[test]
    fn the_spec_stays_but_bound_claims_may_grow() {
        let bound = r#","status":{"phase":"Bound","capacity":{"storage":"2Gi"}}"#;
        let larger =
            claim("", bound).replace("\"requests\":{\"storage\":\"2Gi\"}", "\"requests\":{\"storage\":\"3Gi\"}");
        let smaller =
            claim("", bound).replace("\"requests\":{\"storage\":\"2Gi\"}", "\"requests\":{\"storage\":\"1Gi\"}");
        const FIXED: &str = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                             volumeAttributesClassName for bound claims";
        for (old, new, expect) in [
            (claim("", ""), claim(r#","volumeName":"v""#, ""), ""),
            (claim(r#","volumeName":"v""#, ""), claim(r#","volumeName":"w""#, ""), FIXED),
            (claim("", ""), claim(r#","storageClassName":"s""#, ""), ""),
            (claim(r#","storageClassName":"s""#, ""), claim(r#","storageClassName":"t""#, ""), FIXED),
            (claim("", bound), larger.clone(), ""),
            (claim("", bound), claim(r#","volumeAttributesClassName":"g""#, bound), ""),
            (larger, smaller, "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"),
        ] {
            update(&PersistentVolumeClaim, &old, &new, expect);
        }
    }

    #[test]
    fn the_annotation_of_the_class_stays() {
        let annotated = |class: &str| {
            claim("", &format!(r#","metadata":{{"annotations":{{"{STORAGE_CLASS_ANNOTATION}":"{class}"}}}}"#))
        };
        update(
            &PersistentVolumeClaim,
            &annotated("s"),
            &annotated("t"),
            "metadata.annotations.volume.beta.kubernetes.io/storage-class: Invalid value: \"t\": field is immutable",
        );
    }

    #[test]
    fn statuses_speak_of_storage() {
        update_status(
            &PersistentVolumeClaim,
            "{}",
            &claim(
                "",
                r#","status":{"capacity":{"storage":"-1"},"allocatedResources":{"cpu":"1"},
                "allocatedResourceStatuses":{"storage":"x"}}"#,
            ),
            "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity\n\
             status.allocatedResourceStatuses: Unsupported value: \"storage\": supported values: \
             \"ControllerResizeInProgress\", \"ControllerResizeInfeasible\", \"NodeResizeInProgress\", \
             \"NodeResizeInfeasible\", \"NodeResizePending\"\n\
             status.allocatedResources: Unsupported value: \"cpu\": supported values: \"storage\"",
        );
    }

    #[test]
    fn cells_tell_capacity_once_bound() {
        cells(
            &PersistentVolumeClaim,
            r#"{"metadata":{"name":"c"},"spec":{"volumeName":"v","storageClassName":"s","volumeMode":"Filesystem"},
                "status":{"phase":"Bound","accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"}}}"#,
            r#"["c","Bound","v","1Gi","RWO","s","<unset>","<unknown>","Filesystem"]"#,
        );
        cells(
            &PersistentVolumeClaim,
            r#"{"metadata":{"name":"c","deletionTimestamp":"1970-01-01T00:00:00Z"},"status":{"phase":"Pending"}}"#,
            r#"["c","Terminating","","","","","<unset>","<unknown>","<unset>"]"#,
        );
    }
}
