//! Documents compared with what upstream publishes. The reference lies outside of the repository
//! (`../shared/data/api`); where it is absent, these comparisons have nothing to compare with and say so.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use api_types::{Resource, Stability};
use openapi_docs::Descriptions;
use serde_json::{Map, Value};

pub(crate) fn served() -> impl Iterator<Item = &'static Resource> + Clone {
    api_types::resources().iter().filter(|resource| resource.stability() == Stability::Stable)
}

fn ours_v2() -> Value {
    serde_json::from_slice(&openapi::v2(served(), &Descriptions::unpack())).expect("the document is JSON")
}

fn ours_v3(path: &str) -> Value {
    serde_json::from_slice(&openapi::v3(path, served(), &Descriptions::unpack())).expect("the document is JSON")
}

fn upstream() -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/api/swagger-1.36.json.gz");
    let Ok(packed) = std::fs::read(&path) else {
        eprintln!("nothing to compare with: {} is absent", path.display());
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).expect("the reference is gzip");
    Some(serde_json::from_str(&text).expect("the reference is JSON"))
}

fn object<'a>(value: &'a Value, key: &str) -> &'a Map<String, Value> {
    value[key].as_object().unwrap_or_else(|| panic!("no object {key}"))
}

/// The value without what is prose, or published by the live server only (enums).
fn structure(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(key, value)| match key.as_str() {
                    "description" => !value.is_string(),
                    "enum" => !value.is_array(),
                    key => key != "x-kubernetes-group-version-kind",
                })
                .map(|(key, value)| (key.clone(), structure(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(structure).collect()),
        other => other.clone(),
    }
}

#[test]
fn v2_definitions_are_built_as_upstream() {
    let Some(upstream) = upstream() else { return };
    let ours = ours_v2();
    let theirs = object(&upstream, "definitions");
    let mut differences = Vec::new();
    for (name, definition) in object(&ours, "definitions") {
        let Some(reference) = theirs.get(name) else {
            differences.push(format!("{name}: only ours"));
            continue;
        };
        let (a, b) = (structure(definition), structure(reference));
        if a != b {
            let none = Map::new();
            let (x, y) = (a["properties"].as_object().unwrap_or(&none), b["properties"].as_object().unwrap_or(&none));
            for key in x.keys().chain(y.keys()).collect::<BTreeSet<_>>() {
                if x.get(key) != y.get(key) {
                    differences.push(format!("{name}.{key}: {:?} / {:?}", x.get(key), y.get(key)));
                }
            }
            for key in ["type", "format", "required", "x-kubernetes-map-type", "x-kubernetes-unions"] {
                if a[key] != b[key] {
                    differences.push(format!("{name} {key}: {} / {}", a[key], b[key]));
                }
            }
        }
        let kind = "x-kubernetes-group-version-kind";
        if definition[kind].as_array().map(Vec::len) == Some(1) && definition[kind] != reference[kind] {
            differences.push(format!("{name} {kind}: {} / {}", definition[kind], reference[kind]));
        }
    }
    assert!(object(&ours, "definitions").len() > 500);
    assert!(differences.is_empty(), "{} differences (ours / theirs):\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn v2_has_the_paths_and_operations_of_upstream() {
    let Some(upstream) = upstream() else { return };
    let ours = ours_v2();
    let (ours, theirs) = (object(&ours, "paths"), object(&upstream, "paths"));
    let mut differences = Vec::new();
    for (path, item) in theirs.iter().filter(|(path, _)| served_path(path)) {
        for (method, operation) in item.as_object().expect("an item is an object") {
            let mine = ours.get(path).and_then(|item| item.get(method)).unwrap_or(&Value::Null);
            for key in ["operationId", "tags", "x-kubernetes-action", "x-kubernetes-group-version-kind", "responses"] {
                if method != "parameters" && structure(&mine[key]) != structure(&operation[key]) {
                    differences.push(format!("{path} {method} {key}: {} / {}", mine[key], operation[key]));
                }
            }
        }
        let names = |item: &Value, all: &str| -> BTreeSet<String> {
            let own = item[all].as_array().into_iter().flatten();
            own.map(|one| one["name"].as_str().or(one["$ref"].as_str()).unwrap_or_default())
                .map(|name| name.trim_start_matches("#/parameters/").split('-').next().unwrap_or_default().to_owned())
                .collect()
        };
        let mine = ours.get(path).map(|item| names(item, "parameters"));
        if mine != Some(names(item, "parameters")) {
            differences.push(format!("{path} parameters: {mine:?} / {:?}", names(item, "parameters")));
        }
    }
    for path in ours.keys().filter(|path| !theirs.contains_key(*path)) {
        differences.push(format!("{path}: only ours"));
    }
    assert!(differences.is_empty(), "{} differences (ours / theirs):\n{}", differences.len(), differences.join("\n"));
}

/// Whether a path of the reference is about a stable version; the reference also has what is not served by default.
fn served_path(path: &str) -> bool {
    !path.contains("alpha")
        && !path.contains("beta")
        && !path.starts_with("/logs")
        && path != "/apis/internal.apiserver.k8s.io/"
        && path != "/apis/storagemigration.k8s.io/"
}

#[test]
fn v3_patches_take_field_validation() {
    // kubectl looks for this before it trusts the server to validate fields; for custom resources, at Namespace.
    for (document, path, kind) in [
        ("apis/apps/v1", "/apis/apps/v1/namespaces/{namespace}/deployments/{name}", "Deployment"),
        ("api/v1", "/api/v1/namespaces/{name}", "Namespace"),
    ] {
        let document = ours_v3(document);
        let patch = &document["paths"][path]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], kind);
        let parameters = patch["parameters"].as_array().expect("a patch takes parameters");
        for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
            assert!(parameters.iter().any(|p| p["name"] == name && p["in"] == "query"), "{path} {name}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }
    for document in [ours_v2(), ours_v3("apis/apps/v1"), ours_v3("api/v1"), ours_v3("version")] {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(!found.is_empty());
        for reference in found {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}

#[test]
fn v3_has_its_own_forms() {
    let document = ours_v3("apis/apps/v1");
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    let spec = &deployment["properties"]["spec"];
    assert_eq!(spec["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec");
    assert_eq!(spec["default"], serde_json::json!({}));
    assert!(spec.get("$ref").is_none());
    let address =
        &ours_v3("apis/discovery.k8s.io/v1")["components"]["schemas"]["io.k8s.api.discovery.v1.EndpointSlice"];
    assert_eq!(address["properties"]["addressType"]["enum"], serde_json::json!(["FQDN", "IPv4", "IPv6"]));
    let quantity = &schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"];
    assert_eq!(quantity["oneOf"], serde_json::json!([{"type": "string"}, {"type": "number"}]));
}
