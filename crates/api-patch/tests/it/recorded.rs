//! Requests sent to kube-apiserver v1.24.0-alpha.1 and what came of them (`recorded.jsonl`, one request a line),
//! replayed: the managed fields, the objects and the errors must be the same.
//!
//! A line has the object after the request, if that changed; the object before is what an earlier line left. Newer
//! versions answer some requests differently; these are named in [`CHANGED_SINCE`].

use std::collections::HashMap;

use api_patch::json_patch::JsonPatch;
use api_patch::managed_fields::{FieldManager, ResetFields, scale};
use api_patch::{ObjectType, merge_patch, strategic};
use api_schema::{Value, format_smolstr};
use api_semantics::status::Status;

use crate::support::{built_in, text, tree};

/// Messages that differ from the recorded version's, with what 1.36 says (apimachinery's versioncheck.go).
const CHANGED_SINCE: &[(&str, &str)] = &[
    (
        "Incorrect version specified in apply patch. Specified patch version: v2, expected: v1",
        "invalid object type: /v2, Kind=ConfigMap",
    ),
    (
        "Incorrect version specified in apply patch. Specified patch version: apps/v1, expected: v1",
        "invalid object type: apps/v1, Kind=ConfigMap",
    ),
    // The rest of this message is the address of a variable.
    ("failed to merge config: expected objects of the same type", "invalid object type: /v1, Kind=Pod"),
];

/// What the strategies of the recorded kinds reset.
fn reset(kind: &str, subresource: &str) -> ResetFields {
    match (kind, subresource) {
        ("Pod", "status") => {
            ResetFields::exclude(&[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]])
        }
        ("Deployment", "status") => ResetFields::exclude(&[&["spec"], &["metadata", "labels"]]),
        ("Pod" | "Deployment" | "Service" | "Job" | "HorizontalPodAutoscaler" | "NetworkPolicy", "") => {
            ResetFields::exclude(&[&["status"]])
        }
        _ => ResetFields::None,
    }
}

fn managed_fields(object: &Value) -> &[Value] {
    object.list_at(&["metadata", "managedFields"])
}

/// Fields that defaulting and admission add to what a patch makes.
const DEFAULTED: &[&str] = &[
    "imagePullPolicy",
    "protocol",
    "replicas",
    "resources",
    "targetPort",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "type",
];

/// Whether an object is what the server made of it, but for defaults.
fn assert_becomes(object: &Value, after: &Value, label: &str) {
    let (object, after) = (bare(object), bare(after));
    assert!(becomes(&object, &after), "{label}:\n{}\n{}", text(&object), text(&after));
}

fn becomes(object: &Value, after: &Value) -> bool {
    match (object, after) {
        (Value::Map(l), Value::Map(r)) => {
            l.iter().all(|(key, value)| r.get(key).is_some_and(|after| becomes(value, after)))
                && r.keys().all(|key| l.contains_key(key) || DEFAULTED.contains(&key.as_str()))
        }
        // Newer versions merge the order of lists more finely.
        (Value::List(l), Value::List(r)) => l.len() == r.len() && l.iter().all(|l| r.iter().any(|r| becomes(l, r))),
        _ => object == after,
    }
}

/// An object as the server has it after decoding: with Go's zero values, without what Go leaves out.
fn decoded(ty: &str, object: &Value) -> Value {
    let ty = api_codec::builtin().find(&format!("io.k8s.api.{ty}")).expect("it is built in");
    api_codec::json::retype(ty, object, Default::default()).unwrap_or_else(|error| panic!("{error}")).value
}

/// An object without what the server fills in, for comparison.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    for path in [&["metadata", "managedFields"][..], &["metadata", "resourceVersion"], &["metadata", "generation"]] {
        object.remove(path);
    }
    without_empty(object)
}

/// What decoding drops: nulls, empty maps and lists.
fn without_empty(value: Value) -> Value {
    match value {
        Value::Map(map) => {
            let entries = map.into_iter().map(|(key, value)| (key, without_empty(value)));
            Value::Map(
                entries
                    .filter(|(_, value)| value.as_str().is_some() || !value.is_zero() || value.as_int().is_some())
                    .collect(),
            )
        }
        Value::List(items) => Value::List(items.into_iter().map(without_empty).collect()),
        other => other,
    }
}

/// Entries as text, times and all, one a line.
fn shown(entries: &[Value]) -> String {
    entries.iter().map(text).collect::<Vec<_>>().join("\n")
}

/// The latest time of any entry: the time of the request.
fn now(entries: &[Value]) -> String {
    entries.iter().map(|entry| entry.str_at(&["time"])).max().unwrap_or_default().to_owned()
}

#[test]
fn upstream_answers_alike() {
    let mut objects: HashMap<(String, String), Value> = HashMap::new();
    let mut replayed = 0;
    for (at, line) in include_str!("recorded.jsonl").lines().enumerate() {
        let record = tree(line);
        let key = (record.str_at(&["type"]).to_owned(), record.str_at(&["name"]).to_owned());
        let before = objects.get(&key).cloned();
        let after = record.get("after").map(|after| decoded(&key.0, after)).or_else(|| before.clone());
        let label = format_smolstr!("line {}: {}", at + 1, &line[..line.len().min(300)]);
        if record.str_at(&["subresource"]) == "scale" {
            check_scale(&record, before.as_ref(), after.as_ref(), &label);
        } else {
            check(&record, before.as_ref(), after.as_ref(), &label);
        }
        replayed += 1;
        if let Some(after) = after {
            objects.insert(key, after);
        }
    }
    assert!(replayed > 140, "{replayed} requests");
}

fn check(record: &Value, before: Option<&Value>, after: Option<&Value>, label: &str) {
    let code = record.int_at(&["code"]).expect("every record has one");
    let message = record.str_at(&["message"]);
    let (verb, kind) = (record.str_at(&["do"]), record.str_at(&["kind"]));
    let reset = reset(kind, record.str_at(&["subresource"]));
    let manager = FieldManager {
        ty: ObjectType::Struct(api_types::schema(), built_in(record.str_at(&["type"]))),
        api_version: record.str_at(&["apiVersion"]),
        kind,
        subresource: record.str_at(&["subresource"]),
        reset: &reset,
        versions: None,
    };
    let body = record.map_at(&[]).and_then(|record| record.get("body")).cloned().unwrap_or_default();
    let now = now(after.map(managed_fields).unwrap_or_default());
    let name = record.str_at(&["manager"]);
    let result: Result<Value, Status> = match verb {
        // Bodies that are no JSON never get here.
        _ if matches!(&body, Value::Str(text) if serde_json::from_str::<serde_json::Value>(text).is_err()) => return,
        "create" | "put" => Ok(body.clone()),
        "apply" => {
            let force = record.bool_at(&["force"]).unwrap_or_default();
            manager.apply(before, &body, name, force, &now).map_err(Status::from)
        }
        _ => {
            // Bodies that are no object were sent as text.
            let patch = match &body {
                Value::Str(text) => tree(text),
                other => other.clone(),
            };
            let mut object = before.cloned().expect("a patch needs an object");
            let done = match verb {
                "json" => JsonPatch::decode(&patch, true).and_then(|patch| patch.apply(&mut object)).map(|()| object),
                "merge" => merge_patch::apply(&mut object, &patch, true).map(|()| object),
                _ => strategic::apply(api_types::schema(), built_in(record.str_at(&["type"])), object, &patch),
            };
            done.map_err(Status::from)
        }
    };
    match result {
        Err(status) => {
            // A list cut to its first item stands for one that was too long.
            if code == 413 {
                return;
            }
            let message =
                CHANGED_SINCE.iter().find(|(old, _)| message.starts_with(old)).map_or(message, |(_, new)| new);
            assert_eq!(status.message, message, "{label}");
            let code = if message.starts_with("invalid object type") { 400 } else { code };
            assert_eq!(i64::from(status.code), code, "{label}");
        }
        // Validation and decoding are not this crate's.
        Ok(_) if code == 422 || code == 413 => {}
        Ok(result) => {
            assert!(code < 300, "{label}: applied, but upstream says {message}");
            let after = after.expect("it succeeded");
            if verb == "apply" {
                let mut result = result;
                if managed_fields(&result).len() == managed_fields(after).len() {
                    take_missing_times(&mut result, after);
                }
                assert_eq!(shown(managed_fields(&result)), shown(managed_fields(after)), "{label}");
                if before.is_some() {
                    assert_becomes(&result, after, label);
                }
                return;
            }
            let is_main = record.str_at(&["subresource"]).is_empty();
            // Admission adds tolerations to Pods again.
            let is_readmitted = kind == "Pod" && body.at(&["spec", "tolerations"]).is_some();
            if !matches!(verb, "create" | "put") && is_main && !is_readmitted {
                assert_becomes(&result, after, label);
            }
            // What the client sent as managed fields, in the object that the server made of the rest.
            let mut new = after.clone();
            new.remove(&["metadata", "managedFields"]);
            if let Some(sent) = result.at(&["metadata", "managedFields"]) {
                new.set(&["metadata", "managedFields"], sent.clone());
            }
            if verb == "create" {
                remove_what_came_later(&mut new);
            }
            manager.update(before, &mut new, name, &now);
            assert_eq!(shown(managed_fields(&new)), shown(managed_fields(after)), "{label}");
        }
    }
}

/// Managed fields are noted before admission plugins and the registry add theirs.
fn remove_what_came_later(object: &mut Value) {
    let added: &[&[&str]] = match object.str_at(&["kind"]) {
        "Pod" => &[
            &["spec", "preemptionPolicy"],
            &["spec", "priority"],
            &["spec", "serviceAccount"],
            &["spec", "serviceAccountName"],
            &["spec", "tolerations"],
        ],
        "Service" => {
            &[&["spec", "clusterIP"], &["spec", "clusterIPs"], &["spec", "ipFamilies"], &["spec", "ipFamilyPolicy"]]
        }
        "Job" => &[
            &["metadata", "annotations"],
            &["metadata", "labels"],
            &["spec", "selector"],
            &["spec", "template", "metadata", "labels"],
        ],
        _ => return,
    };
    for path in added {
        object.remove(path);
    }
    if let Some(Value::List(volumes)) = object.at_mut(&["spec", "volumes"]) {
        volumes.retain(|volume| !volume.str_at(&["name"]).starts_with("kube-api-access"));
    }
    if let Some(Value::List(containers)) = object.at_mut(&["spec", "containers"]) {
        containers.iter_mut().for_each(|container| drop(container.remove(&["volumeMounts"])));
    }
}

/// Since structured-merge-diff v4.3, a manager that joins others without changing the object gets no time, and so
/// comes first. Gives it the recorded time and place.
fn take_missing_times(result: &mut Value, after: &Value) {
    let Some(Value::List(entries)) = result.at_mut(&["metadata", "managedFields"]) else { return };
    if entries.iter().all(|entry| entry.get("time").is_some()) {
        return;
    }
    let is_same = |l: &Value, r: &Value| {
        ["manager", "operation", "subresource", "apiVersion"].iter().all(|field| l.get(field) == r.get(field))
    };
    let mut ordered = Vec::new();
    for recorded in managed_fields(after) {
        let Some(at) = entries.iter().position(|entry| is_same(entry, recorded)) else { return };
        let mut entry = entries.remove(at);
        if let (None, Some(time)) = (entry.get("time"), recorded.get("time")) {
            entry.set(&["time"], time.clone());
        }
        ordered.push(entry);
    }
    *entries = ordered;
}

/// A write of the scale of a Deployment: its managed fields pass through those of the scale.
fn check_scale(record: &Value, before: Option<&Value>, after: Option<&Value>, label: &str) {
    let (before, after) = (before.expect("it exists"), after.expect("it exists"));
    let paths: scale::ReplicasPaths<'_> = &[("apps/v1", Some(&["spec", "replicas"]))];
    let scale_of = |object: &Value| {
        let mut scale = tree(r#"{"apiVersion":"autoscaling/v1","kind":"Scale"}"#);
        scale.set(&["metadata", "uid"], object.str_at(&["metadata", "uid"]));
        scale.set(&["spec", "replicas"], object.int_at(&["spec", "replicas"]).unwrap_or_default());
        scale
    };
    let mut old = scale_of(before);
    if let Some(entries) = scale::to_scale(managed_fields(before), paths).expect("they are well-formed") {
        old.set(&["metadata", "managedFields"], entries);
    }
    let mut new = scale_of(after);
    let manager = FieldManager {
        ty: ObjectType::Struct(api_types::schema(), built_in("autoscaling.v1.Scale")),
        api_version: "autoscaling/v1",
        kind: "Scale",
        subresource: "scale",
        reset: &ResetFields::None,
        versions: None,
    };
    manager.update(Some(&old), &mut new, record.str_at(&["manager"]), "2026-01-01T00:00:00Z");
    let entries = scale::to_resource(managed_fields(before), managed_fields(&new), "apps/v1", paths);
    let entries = entries.expect("they are well-formed").expect("there are some");
    assert_eq!(shown(entries.as_list().expect("it is a list")), shown(managed_fields(after)), "{label}");
}
