//! What holds for the metadata of every object (apimachinery `api/validation/objectmeta.go`).

use api_schema::{Map, StructId, Type, Value};
use api_semantics::field::{Error, ErrorList, Path, quoted};
use api_semantics::{names, selector};

use crate::checks::same;

/// The bytes of all annotations' keys and values together.
pub const ANNOTATIONS_SIZE_MAX: usize = 256 * 1024;
/// The bytes of a field manager's name.
pub const FIELD_MANAGER_LEN_MAX: usize = 128;
const SUBRESOURCE_LEN_MAX: usize = 256;

/// What the metadata of a claim template may not have.
const METADATA_OF_NO_USE: [&str; 13] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// The finalizer that waits for the garbage collector to let dependents go free.
pub const ORPHAN_DEPENDENTS: &str = "orphan";
/// The finalizer that waits for the garbage collector to delete dependents.
pub const DELETE_DEPENDENTS: &str = "foregroundDeletion";

/// Checks the metadata of a new object, after a name was generated. `check_name` is the kind's rule
/// ([`crate::Kind::check_name`]).
pub fn validate(object: &Value, namespaced: bool, check_name: &dyn Fn(&str, bool) -> Vec<String>) -> ErrorList {
    let mut errors = ErrorList::new();
    let (meta, path) = (object.get("metadata").unwrap_or(&Value::Null), Path::new("metadata"));
    let mut check = |field: &str, name: &str, prefix: bool| {
        let messages = check_name(name, prefix).into_iter();
        errors.extend(messages.map(|message| Error::invalid(&path.child(field), name, message)));
    };
    let (name, generate_name) = (meta.str_at(&["name"]), meta.str_at(&["generateName"]));
    if !generate_name.is_empty() {
        check("generateName", generate_name, true);
    }
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), "name or generateName is required"));
    } else {
        check("name", name, false);
    }
    common(&mut errors, meta, &path, namespaced);
    errors.extend(validate_finalizer_names(object));
    errors
}

/// Checks what holds for the metadata of all objects, whatever their kind says besides.
pub fn validate_any(object: &Value, namespaced: bool) -> ErrorList {
    let mut errors = ErrorList::new();
    let (meta, path) = (object.get("metadata").unwrap_or(&Value::Null), Path::new("metadata"));
    for (field, prefix) in [("generateName", true), ("name", false)] {
        let name = meta.str_at(&[field]);
        let messages = names::path_segment_name(name, prefix).into_iter();
        errors.extend(messages.map(|message| Error::invalid(&path.child(field), name, message)));
    }
    common(&mut errors, meta, &path, namespaced);
    errors
}

/// Checks that the finalizers of one of Kubernetes' own kinds are known or qualified.
pub fn validate_finalizer_names(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    if is_kubernetes_kind(object) {
        let path = Path::new("metadata.finalizers");
        let meta = object.get("metadata").unwrap_or(&Value::Null);
        for (at, finalizer) in finalizers(meta).into_iter().enumerate() {
            check_known_finalizer(&mut errors, finalizer, &path.index(at));
        }
    }
    errors
}

/// Whether the object is of one of Kubernetes' own kinds, whose finalizers are known or qualified. Custom resources,
/// the kinds that define them, and those that upstream checks with apimachinery's rules alone may have others.
fn is_kubernetes_kind(object: &Value) -> bool {
    let api_version = object.str_at(&["apiVersion"]);
    if matches!((api_version, object.str_at(&["kind"])), ("v1", "Event") | ("policy/v1", "PodDisruptionBudget")) {
        return false;
    }
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let plain =
        ["admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "coordination.k8s.io"];
    !plain.contains(&group) && api_types::resources().iter().any(|resource| resource.group == group)
}

/// Checks that a finalizer without a domain is one that Kubernetes knows.
pub(crate) fn check_known_finalizer(errors: &mut ErrorList, finalizer: &str, path: &Path<'_>) {
    let known = ["kubernetes", ORPHAN_DEPENDENTS, DELETE_DEPENDENTS];
    if !finalizer.contains('/') && !known.contains(&finalizer) {
        let why = "name is neither a standard finalizer name nor is it fully qualified";
        errors.push(Error::invalid(path, finalizer, why));
    }
}

/// Checks what may not change in the metadata of an updated object, beside [`validate`]. The registry has put back what
/// updates may leave out (uid, creationTimestamp, deletion time and grace, generation).
pub fn validate_update(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let nothing = Value::Null;
    let (new, old) = (new.get("metadata").unwrap_or(&nothing), old.get("metadata").unwrap_or(&nothing));
    let path = Path::new("metadata");
    if old.get("deletionTimestamp").is_some() {
        let (new, old) = (finalizers(new), finalizers(old));
        let mut added: Vec<&str> = new.into_iter().filter(|finalizer| !old.contains(finalizer)).collect();
        added.sort_unstable();
        added.dedup();
        if !added.is_empty() {
            let added: Vec<String> = added.into_iter().map(quoted).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.join(", ")
            );
            errors.push(Error::forbidden(&path.child("finalizers"), why));
        }
    }
    if new.str_at(&["resourceVersion"]).is_empty() {
        errors.push(Error::invalid(&path.child("resourceVersion"), "", "must be specified for an update"));
    }
    let generation = new.int_at(&["generation"]).unwrap_or(0);
    if generation < old.int_at(&["generation"]).unwrap_or(0) {
        errors.push(Error::invalid(&path.child("generation"), generation, "must not be decremented"));
    }
    for field in ["name", "namespace", "uid"] {
        let (new, old) = (new.str_at(&[field]), old.str_at(&[field]));
        if new != old {
            errors.push(Error::invalid(&path.child(field), new, names::IMMUTABLE));
        }
    }
    for field in ["creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, old) = (new.get(field), old.get(field));
        if !same(new, old) {
            errors.push(Error::invalid(&path.child(field), new.cloned().unwrap_or_default(), names::IMMUTABLE));
        }
    }
    errors
}

fn common(errors: &mut ErrorList, meta: &Value, path: &Path<'_>, namespaced: bool) {
    let (namespace, namespace_path) = (meta.str_at(&["namespace"]), path.child("namespace"));
    if !namespaced {
        if !namespace.is_empty() {
            errors.push(Error::forbidden(&namespace_path, "not allowed on this type"));
        }
    } else if namespace.is_empty() {
        errors.push(Error::required(&namespace_path, ""));
    } else {
        let messages = names::dns1123_label(namespace, false).into_iter();
        errors.extend(messages.map(|message| Error::invalid(&namespace_path, namespace, message)));
    }
    if let Some(generation) = meta.int_at(&["generation"]).filter(|generation| *generation < 0) {
        errors.push(Error::invalid(&path.child("generation"), generation, names::NEGATIVE));
    }
    errors.extend(selector::validate_labels(meta.map_at(&["labels"]), &path.child("labels")));
    errors.extend(validate_annotations(meta.map_at(&["annotations"]), &path.child("annotations")));
    validate_owner_references(errors, meta, &path.child("ownerReferences"));
    validate_finalizers(errors, &finalizers(meta), &path.child("finalizers"));
    validate_managed_fields(errors, meta.list_at(&["managedFields"]), &path.child("managedFields"));
}

/// Checks annotations: their keys as label keys of any case, and the size of them all.
pub fn validate_annotations(annotations: Option<&Map>, path: &Path<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut size = 0;
    for (key, value) in annotations.into_iter().flat_map(Map::iter) {
        let messages = names::qualified_name(&key.to_lowercase()).into_iter();
        errors.extend(messages.map(|message| Error::invalid(path, key.clone(), message)));
        size += key.len() + value.as_str().unwrap_or_default().len();
    }
    if size > ANNOTATIONS_SIZE_MAX {
        errors.push(Error::too_long(path, ANNOTATIONS_SIZE_MAX));
    }
    errors
}

/// Checks the metadata of a template of objects, which has labels and annotations only.
pub(crate) fn validate_template(template: &Value, path: &Path<'_>) -> ErrorList {
    let path = path.child("metadata");
    let metadata = template.get("metadata").unwrap_or(&Value::Null);
    let mut errors = validate_annotations(metadata.map_at(&["annotations"]), &path.child("annotations"));
    errors.extend(selector::validate_labels(metadata.map_at(&["labels"]), &path.child("labels")));
    for field in METADATA_OF_NO_USE {
        if metadata.get(field).is_some_and(|value| !value.is_zero()) {
            errors.push(Error::forbidden(&path.child(field), "cannot be set"));
        }
    }
    errors
}

fn finalizers(meta: &Value) -> Vec<&str> {
    meta.list_at(&["finalizers"]).iter().filter_map(Value::as_str).collect()
}

fn validate_finalizers(errors: &mut ErrorList, finalizers: &[&str], path: &Path<'_>) {
    for finalizer in finalizers {
        let messages = names::qualified_name(finalizer).into_iter();
        errors.extend(messages.map(|message| Error::invalid(path, *finalizer, message)));
    }
    if finalizers.contains(&ORPHAN_DEPENDENTS) && finalizers.contains(&DELETE_DEPENDENTS) {
        let all: Vec<Value> = finalizers.iter().map(|finalizer| Value::from(*finalizer)).collect();
        let why = format!("finalizer {ORPHAN_DEPENDENTS} and {DELETE_DEPENDENTS} cannot be both set");
        errors.push(Error::invalid(path, all, why));
    }
}

fn validate_owner_references(errors: &mut ErrorList, meta: &Value, path: &Path<'_>) {
    let references = meta.list_at(&["ownerReferences"]);
    let mut controller: Option<String> = None;
    for reference in references {
        validate_owner_reference(errors, reference, path);
        if reference.bool_at(&["controller"]) != Some(true) {
            continue;
        }
        let name = format!("{}/{}", reference.str_at(&["kind"]), reference.str_at(&["name"]));
        match &controller {
            None => controller = Some(name),
            Some(first) => {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and \
                     {name}"
                );
                let shown = references.iter().map(|item| in_order(item, api_types::meta("OwnerReference")));
                errors.push(Error::invalid(path, shown.collect::<Vec<_>>(), why));
            }
        }
    }
}

/// Checks one owner. The paths leave out which one it is, as upstream's do before 1.37.
fn validate_owner_reference(errors: &mut ErrorList, reference: &Value, path: &Path<'_>) {
    let api_version = reference.str_at(&["apiVersion"]);
    let version = match api_version.split_once('/') {
        None => api_version,
        Some((_, version)) if version.contains('/') => "",
        Some((_, version)) => version,
    };
    if version.is_empty() {
        errors.push(Error::invalid(&path.child("apiVersion"), api_version, "version must not be empty"));
    }
    for field in ["kind", "name", "uid"] {
        if reference.str_at(&[field]).is_empty() {
            errors.push(Error::invalid(&path.child(field), "", "must not be empty"));
        }
    }
    if api_version == "v1" && reference.str_at(&["kind"]) == "Event" {
        let shown = in_order(reference, api_types::meta("OwnerReference"));
        errors.push(Error::invalid(path, shown, "/v1, Kind=Event is disallowed from being an owner"));
    }
}

fn validate_managed_fields(errors: &mut ErrorList, entries: &[Value], path: &Path<'_>) {
    for (at, entry) in entries.iter().enumerate() {
        let path = path.index(at);
        let operation = entry.str_at(&["operation"]);
        if !matches!(operation, "Apply" | "Update") {
            errors.push(Error::invalid(&path.child("operation"), operation, "must be `Apply` or `Update`"));
        }
        let fields_type = entry.str_at(&["fieldsType"]);
        if !matches!(fields_type, "" | "FieldsV1") {
            errors.push(Error::invalid(&path.child("fieldsType"), fields_type, "must be `FieldsV1`"));
        }
        errors.extend(validate_field_manager(entry.str_at(&["manager"]), &path.child("manager")));
        if entry.str_at(&["subresource"]).len() > SUBRESOURCE_LEN_MAX {
            errors.push(Error::too_long(&path.child("subresource"), SUBRESOURCE_LEN_MAX));
        }
    }
}

/// Checks the name of a field manager: short, and printable.
pub fn validate_field_manager(manager: &str, path: &Path<'_>) -> ErrorList {
    let mut errors = ErrorList::new();
    if manager.len() > FIELD_MANAGER_LEN_MAX {
        errors.push(Error::too_long(path, FIELD_MANAGER_LEN_MAX));
    }
    for (at, c) in manager.char_indices() {
        if c.is_control() || (c != ' ' && c.is_whitespace()) {
            let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
            errors.push(Error::invalid(path, manager, why));
        }
    }
    errors
}

/// A value with the fields of its structs in declared order, as Go's JSON shows them in messages.
pub(crate) fn in_order(value: &Value, ty: StructId) -> Value {
    let mut text = String::new();
    write_ordered(&mut text, value, &Type::Struct(ty));
    Value::Raw(text.into())
}

fn write_ordered(text: &mut String, value: &Value, ty: &Type) {
    match (value, ty) {
        (Value::Map(map), Type::Struct(id)) => {
            text.push('{');
            let mut is_first = true;
            for field in api_types::schema().json_fields(*id) {
                if let Some(value) = map.get(&field.json) {
                    text.push_str(if is_first { "" } else { "," });
                    text.push_str(&quoted(&field.json));
                    text.push(':');
                    write_ordered(text, value, &field.ty);
                    is_first = false;
                }
            }
            text.push('}');
        }
        (Value::List(items), Type::List(item) | Type::Wrapped(item)) => {
            text.push('[');
            for (at, value) in items.iter().enumerate() {
                text.push_str(if at > 0 { "," } else { "" });
                write_ordered(text, value, item);
            }
            text.push(']');
        }
        (Value::Map(map), Type::Map(item)) => {
            text.push('{');
            for (at, (key, value)) in map.iter().enumerate() {
                text.push_str(if at > 0 { "," } else { "" });
                text.push_str(&quoted(key));
                text.push(':');
                write_ordered(text, value, item);
            }
            text.push('}');
        }
        _ => text.push_str(&api_semantics::field::shown(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{json, lines};

    #[track_caller]
    fn check(meta: &str, expect: &str) {
        let object = Value::from([("metadata", json(meta))]);
        assert_eq!(lines(&validate(&object, true, &names::dns1123_subdomain)), expect);
    }

    #[track_caller]
    fn check_update(old: &str, new: &str, expect: &str) {
        let (old, new) = (Value::from([("metadata", json(old))]), Value::from([("metadata", json(new))]));
        assert_eq!(lines(&validate_update(&new, &old)), expect);
    }

    #[test]
    fn names_and_namespaces_are_needed() {
        check(r#"{"name":"a","namespace":"b"}"#, "");
        check(
            r#"{"generateName":"a-"}"#,
            "metadata.name: Required value: name or generateName is required\nmetadata.namespace: Required value",
        );
        let object = json(r#"{"metadata":{"name":"a","namespace":"b"}}"#);
        assert_eq!(
            lines(&validate(&object, false, &names::path_segment_name)),
            "metadata.namespace: Forbidden: not allowed on this type"
        );
    }

    #[test]
    fn labels_and_annotations_have_good_keys() {
        check(r#"{"name":"a","namespace":"b","labels":{"x/y":"z"},"annotations":{"Example.com/A":"ö"}}"#, "");
        check(
            r#"{"name":"a","namespace":"b","labels":{"/y":"a"},"annotations":{"":""}}"#,
            "metadata.labels: Invalid value: \"/y\": prefix part must be non-empty\n\
             metadata.annotations: Invalid value: \"\": name part must be non-empty\n\
             metadata.annotations: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or \
             '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
             '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        );
        let long = "x".repeat(ANNOTATIONS_SIZE_MAX);
        check(
            &format!(r#"{{"name":"a","namespace":"b","annotations":{{"a":"{long}"}}}}"#),
            "metadata.annotations: Too long: may not be more than 262144 bytes",
        );
    }

    #[test]
    fn owners_are_complete_and_one_controls() {
        check(
            r#"{"name":"a","namespace":"b","ownerReferences":[
                {"apiVersion":"a/b/c","kind":"K","name":"n","uid":"u"},
                {"apiVersion":"","kind":"","name":"","uid":""},
                {"apiVersion":"v1","kind":"Event","name":"n","uid":"u"}]}"#,
            "metadata.ownerReferences.apiVersion: Invalid value: \"a/b/c\": version must not be empty\n\
             metadata.ownerReferences.apiVersion: Invalid value: \"\": version must not be empty\n\
             metadata.ownerReferences.kind: Invalid value: \"\": must not be empty\n\
             metadata.ownerReferences.name: Invalid value: \"\": must not be empty\n\
             metadata.ownerReferences.uid: Invalid value: \"\": must not be empty\n\
             metadata.ownerReferences: Invalid value: \
             {\"apiVersion\":\"v1\",\"kind\":\"Event\",\"name\":\"n\",\"uid\":\"u\"}: /v1, Kind=Event is disallowed \
             from being an owner",
        );
        check(
            r#"{"name":"a","namespace":"b","ownerReferences":[
                {"apiVersion":"v1","kind":"A","name":"x","uid":"u","controller":true},
                {"apiVersion":"v1","kind":"B","name":"y","uid":"v","controller":true}]}"#,
            "metadata.ownerReferences: Invalid value: \
             [{\"apiVersion\":\"v1\",\"kind\":\"A\",\"name\":\"x\",\"uid\":\"u\",\"controller\":true},\
             {\"apiVersion\":\"v1\",\"kind\":\"B\",\"name\":\"y\",\"uid\":\"v\",\"controller\":true}]: Only one \
             reference can have Controller set to true. Found \"true\" in references for A/x and B/y",
        );
    }

    #[test]
    fn finalizers_and_managers_are_well_formed() {
        check(
            r#"{"name":"a","namespace":"b","finalizers":["orphan","foregroundDeletion"],"managedFields":[
                {"manager":"a\u0007","operation":"x","fieldsType":"FieldsV2"},{}]}"#,
            "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and \
             foregroundDeletion cannot be both set\n\
             metadata.managedFields[0].operation: Invalid value: \"x\": must be `Apply` or `Update`\n\
             metadata.managedFields[0].fieldsType: Invalid value: \"FieldsV2\": must be `FieldsV1`\n\
             metadata.managedFields[0].manager: Invalid value: \"a\\a\": invalid character U+0007 (at position 1)\n\
             metadata.managedFields[1].operation: Invalid value: \"\": must be `Apply` or `Update`",
        );
    }

    #[test]
    fn finalizers_of_kubernetes_kinds_are_known_or_qualified() {
        for (api_version, expect) in [
            (
                "v1",
                "metadata.finalizers[1]: Invalid value: \"x\": name is neither a standard finalizer name nor is it \
                 fully qualified",
            ),
            ("example.com/v1", ""),
            ("apiextensions.k8s.io/v1", ""),
        ] {
            let mut object = json(r#"{"metadata":{"name":"a","finalizers":["a/b","x"]}}"#);
            object.set(&["apiVersion"], api_version);
            assert_eq!(lines(&validate(&object, false, &names::path_segment_name)), expect, "{api_version}");
        }
    }

    #[test]
    fn updates_keep_what_identifies_an_object() {
        let old = r#"{"name":"a","namespace":"b","uid":"u","resourceVersion":"1","generation":2,
            "creationTimestamp":"2024-01-01T00:00:00Z"}"#;
        check_update(old, old, "");
        check_update(
            old,
            r#"{"name":"c","namespace":"b","uid":"v","generation":1}"#,
            "metadata.resourceVersion: Invalid value: \"\": must be specified for an update\n\
             metadata.generation: Invalid value: 1: must not be decremented\n\
             metadata.name: Invalid value: \"c\": field is immutable\n\
             metadata.uid: Invalid value: \"v\": field is immutable\n\
             metadata.creationTimestamp: Invalid value: null: field is immutable",
        );
    }

    #[test]
    fn no_finalizer_is_added_while_an_object_goes() {
        let going = |finalizers: &str| {
            format!(
                r#"{{"name":"a","namespace":"b","resourceVersion":"1","deletionTimestamp":"2024-01-01T00:00:00Z",
                "finalizers":[{finalizers}]}}"#
            )
        };
        check_update(&going(r#""x/a","x/b""#), &going(r#""x/a""#), "");
        check_update(
            &going(r#""x/a""#),
            &going(r#""x/c","x/a","x/b""#),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
             finalizers []string{\"x/b\", \"x/c\"}",
        );
    }
}
