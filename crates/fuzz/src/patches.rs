//! The four kinds of patch. An input is an object and a patch, each in one line.

use api_codec::json;
use api_patch::json_patch::JsonPatch;
use api_patch::managed_fields::{self, FieldManager, ResetFields};
use api_patch::{FieldSet, ObjectType, fields_of, merge_patch, strategic};
use api_schema::{StructId, Value};

use crate::objects::{assert_same, check_growth, golden, type_of, type_of_text};

/// What patches are made of.
pub(crate) const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "\"$patch\":\"delete\"",
    "\"$patch\":\"replace\"",
    "\"$retainKeys\":[\"a\"]",
    "\"$setElementOrder/containers\":[{\"name\":\"a\"}]",
    "\"$deleteFromPrimitiveList/finalizers\":[\"a\"]",
    "\"op\":\"copy\"",
    "\"op\":\"move\"",
    "\"op\":\"test\"",
    "\"path\":\"\"",
    "\"path\":\"/-\"",
    "~1",
    "~0",
    "~",
    "/0",
    "/-1",
    "/-",
    "\\u0000",
    "1e9",
];

const KINDS: &[&str] = &["Pod", "Service", "Deployment", "NetworkPolicy", "ConfigMap", "CustomResourceDefinition"];
const TIME: &str = "2026-01-01T00:00:00Z";

fn objects() -> impl Iterator<Item = &'static str> {
    let is_one = |json: &&str| KINDS.iter().any(|kind| json.contains(&format!("\"kind\":\"{kind}\",")));
    golden().iter().map(|golden| golden.json.as_str()).filter(is_one)
}

fn with(patches: &[&str]) -> Vec<Vec<u8>> {
    objects().flat_map(|object| patches.iter().map(move |patch| format!("{object}\n{patch}").into_bytes())).collect()
}

pub(crate) fn json_seeds() -> Vec<Vec<u8>> {
    with(&[
        r#"[{"op":"add","path":"/metadata/labels","value":{"a":"b"}},{"op":"replace","path":"/metadata/labels/a","value":"c"}]"#,
        r#"[{"op":"copy","from":"/metadata","path":"/spec"}]"#,
        r#"[{"op":"move","from":"/metadata/name","path":"/metadata/generateName"},{"op":"remove","path":"/metadata/ownerReferences/0"}]"#,
        r#"[{"op":"add","path":"/metadata/finalizers/-","value":"x/y"},{"op":"test","path":"/metadata/finalizers/1","value":"x/y"}]"#,
    ])
}

pub(crate) fn merge_seeds() -> Vec<Vec<u8>> {
    with(&[
        r#"{"metadata":{"labels":{"a":null,"b":"c"},"finalizers":null}}"#,
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"a"}]}}},"status":null}"#,
    ])
}

pub(crate) fn strategic_seeds() -> Vec<Vec<u8>> {
    with(&[
        r#"{"metadata":{"labels":{"a":null},"$deleteFromPrimitiveList/finalizers":["a"],"ownerReferences":[{"uid":"u","$patch":"delete"}]}}"#,
        r#"{"spec":{"$setElementOrder/containers":[{"name":"b"},{"name":"a"}],"containers":[{"name":"a","image":"x"},{"name":"b","$patch":"delete"}]}}"#,
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"a","ports":[{"containerPort":1}]}],"volumes":[{"name":"v","$retainKeys":["name","emptyDir"],"emptyDir":{}}]}},"$retainKeys":["template"]}}"#,
        r#"{"spec":{"ports":[{"$patch":"replace"},{"port":80}],"strategy":{"$patch":"replace","type":"Recreate"}}}"#,
    ])
}

pub(crate) fn apply_seeds() -> Vec<Vec<u8>> {
    // An object is a configuration of itself.
    let configuration = |object: &str| {
        let mut object: serde_json::Value = serde_json::from_str(object).expect("golden objects are JSON");
        object["metadata"].as_object_mut().and_then(|metadata| metadata.remove("managedFields"));
        object.to_string()
    };
    objects().map(|object| format!("{object}\n{}", configuration(object)).into_bytes()).collect()
}

/// The object of an input with its type, and the patch; none if they are not JSON.
fn split(input: &[u8]) -> Option<(Value, StructId, Value, usize)> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    let (object, patch) = (&input[..end], &input[end + 1..]);
    let ty = type_of_text(object);
    let object = json::decode(Some(ty), object, json::Options::default()).ok()?.value;
    let patch = json::decode(None, patch, json::Options::default()).ok()?.value;
    let id = api_types::schema().find(ty.name())?;
    Some((object, id, patch, input.len()))
}

fn text(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    json::encode(None, value, &mut out);
    out
}

/// What a patch made can be written and read; whether it is an object of its type is for the decoder to say.
fn check_result(result: &Value, input: usize) {
    let written = text(result);
    check_growth(input, written.len());
    json::check(&written).expect("what a patch made is JSON");
}

pub(crate) fn check_json(input: &[u8]) -> bool {
    let Some((object, _, patch, length)) = split(input) else { return false };
    let mut results = [true, false].map(|checked| {
        let patch = JsonPatch::decode(&patch, checked)?;
        let mut patched = object.clone();
        patch.apply(&mut patched)?;
        Ok::<_, api_patch::PatchError>(patched)
    });
    for result in &results {
        match result {
            Ok(patched) => {
                // Copies may double the object with each operation, up to a bound of their own.
                let written = text(patched);
                assert!(written.len() <= length * 64 + api_patch::json_patch::COPIED_BYTES_MAX * 2);
                json::check(&written).expect("what a patch made is JSON");
            }
            Err(error) => assert!(!error.to_string().is_empty() && error.to_status().code >= 400),
        }
    }
    // Checking finds more errors, never other results.
    let [checked, unchecked] = &mut results;
    if let Ok(checked) = checked {
        assert!(unchecked.as_ref().is_ok_and(|unchecked| unchecked == checked));
    }
    results[1].is_ok()
}

pub(crate) fn check_merge(input: &[u8]) -> bool {
    let Some((object, _, patch, length)) = split(input) else { return false };
    let mut once = object;
    match merge_patch::apply(&mut once, &patch, true) {
        Ok(()) => {
            check_result(&once, length);
            let mut twice = once.clone();
            merge_patch::apply(&mut twice, &patch, true).expect("it is an object");
            assert_same(&twice, &once, &[]);
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

pub(crate) fn check_strategic(input: &[u8]) -> bool {
    let Some((object, id, patch, length)) = split(input) else { return false };
    match strategic::apply(api_types::schema(), id, object.clone(), &patch) {
        Ok(once) => {
            check_result(&once, length);
            // What it made is an object again, or refused; never more than that.
            let ty = api_codec::builtin().of(id);
            if let Ok(normal) = json::retype(ty, &once, json::Options::default()) {
                check_result(&normal.value, length);
            }
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty() && error.to_status().code >= 400);
            false
        }
    }
}

pub(crate) fn check_apply(input: &[u8]) -> bool {
    let Some((mut object, id, configuration, length)) = split(input) else { return false };
    let (api_version, kind) = (object.str_at(&["apiVersion"]).to_owned(), object.str_at(&["kind"]).to_owned());
    if type_of(&api_version, &kind).is_none() {
        return false;
    }
    let ty = api_codec::builtin().of(id);
    let manager = FieldManager {
        ty: ObjectType::Struct(api_types::schema(), id),
        api_version: &api_version,
        kind: &kind,
        subresource: "",
        reset: &ResetFields::None,
        versions: None,
    };
    // A client may send null where Go has a zero value; what is made of it is another object to the next apply.
    let is_normal = json::retype(ty, &configuration, json::Options::STRICT)
        .is_ok_and(|normal| normal.problems.is_empty() && normal.value == configuration);
    let sets = fields_of(manager.ty, &object);
    let written = sets.to_text();
    let again = FieldSet::parse(&written).expect("what was written can be read");
    assert_eq!((&again, again.to_text()), (&sets, written));

    let managed = object.clone();
    object.remove(&["metadata", "managedFields"]);
    manager.update(None, &mut object, "creator", TIME);
    let mut accepted = false;
    for live in [None, Some(&object), Some(&managed)] {
        match manager.apply(live, &configuration, "me", true, TIME) {
            Ok(once) => {
                accepted = true;
                check_result(&once, length * 4);
                let entries = managed_fields::decode(once.list_at(&["metadata", "managedFields"]));
                assert!(entries.is_ok(), "managed fields that nobody can read");
                // As an object of its type, its own fields are no conflict, and nothing changes.
                let normal = |value: &Value| Some(json::retype(ty, value, json::Options::default()).ok()?.value);
                let Some(once) = normal(&once).filter(|_| is_normal) else { continue };
                let twice = manager.apply(Some(&once), &configuration, "me", false, TIME);
                let twice = twice.unwrap_or_else(|error| panic!("applied again: {error}"));
                let twice = normal(&twice).expect("as before");
                assert_same(&twice, &once, &[]);
            }
            Err(error) => assert!(!error.to_string().is_empty() && error.to_status().code >= 400),
        }
    }
    accepted
}
