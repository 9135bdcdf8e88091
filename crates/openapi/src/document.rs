//! Whole documents.

use std::collections::{BTreeMap, BTreeSet};

use api_schema::Value;
use api_types::Resource;
use openapi_docs::Descriptions;
use smol_str::SmolStr;

use crate::paths::Paths;
use crate::schemas::{Schemas, Version};
use crate::{gnostic, gnostic_v3, json};

const ISSUER_KEYS: &str = "openid/v1/jwks";
const ISSUER_CONFIGURATION: &str = ".well-known/openid-configuration";

/// The documents that v3 has for what is served, by their path below `/openapi/v3/`.
pub(crate) fn v3_paths<'a>(served: impl Iterator<Item = &'a Resource>) -> BTreeSet<String> {
    let mut paths: BTreeSet<String> =
        ["api", "apis", "version", ISSUER_KEYS, ISSUER_CONFIGURATION].map(String::from).into();
    for resource in served {
        if resource.group.is_empty() {
            paths.insert(format!("api/{}", resource.version));
        } else {
            paths.insert(format!("apis/{}", resource.group));
            paths.insert(format!("apis/{}/{}", resource.group, resource.version));
        }
    }
    paths
}

/// The v3 document of a path below `/openapi/v3/`, such as `apis/apps/v1`, as JSON. A path that is not about a group
/// and version gives the document of that one path.
pub fn v3<'a, R>(path: &str, served: R, descriptions: &Descriptions) -> Vec<u8>
where
    R: Iterator<Item = &'a Resource> + Clone,
{
    let (items, definitions) = v3_parts(path, served, descriptions, to_json, to_json);
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"openapi\":\"3.0.0\",\"info\":");
    json::write(&info(), &mut out);
    out.extend_from_slice(b",\"paths\":");
    encoded(&items, &mut out);
    out.extend_from_slice(b",\"components\":{\"schemas\":");
    encoded(&definitions, &mut out);
    out.extend_from_slice(b",\"securitySchemes\":");
    json::write(&security(), &mut out);
    out.extend_from_slice(b"}}");
    out
}

/// The same document as the protobuf message `openapi.v3.Document` of gnostic.
pub fn v3_proto<'a, R>(path: &str, served: R, descriptions: &Descriptions) -> Vec<u8>
where
    R: Iterator<Item = &'a Resource> + Clone,
{
    let (items, definitions) = v3_parts(path, served, descriptions, gnostic_v3::path_item, gnostic_v3::schema);
    gnostic_v3::document(&info(), &items, &definitions, &security())
}

/// Encoded path items and schemas by their names.
type Encoded = (BTreeMap<String, Vec<u8>>, BTreeMap<SmolStr, Vec<u8>>);

fn v3_parts<'a, R>(
    path: &str,
    served: R,
    descriptions: &Descriptions,
    item: impl Fn(&Value) -> Vec<u8>,
    definition: impl Fn(&Value) -> Vec<u8>,
) -> Encoded
where
    R: Iterator<Item = &'a Resource> + Clone,
{
    let group_version = match path.split('/').collect::<Vec<_>>()[..] {
        ["api", version] => Some(("", version)),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    };
    let resources =
        served.filter(|resource| group_version == Some((resource.group.as_str(), resource.version.as_str())));
    let mut schemas = Schemas::new(Version::V3, descriptions, resources.clone());
    let mut paths = Paths::default();
    match group_version {
        Some((group, version)) => paths.group_version(group, version),
        None => paths.plain(&format!("/{path}/")),
    }
    resources.for_each(|resource| paths.resource(resource, &schemas));
    let (items, _) = paths.values(&mut schemas, item);
    (items, schemas.finish(definition))
}

/// The v2 document of everything served, as JSON.
pub fn v2<'a, R>(served: R, descriptions: &Descriptions) -> Vec<u8>
where
    R: Iterator<Item = &'a Resource> + Clone,
{
    let parts = Parts::of(served, descriptions, to_json, to_json);
    let mut out = Vec::new();
    out.extend_from_slice(b"{\"swagger\":\"2.0\",\"info\":");
    json::write(&info(), &mut out);
    out.extend_from_slice(b",\"paths\":");
    encoded(&parts.items, &mut out);
    out.extend_from_slice(b",\"definitions\":");
    encoded(&parts.definitions, &mut out);
    out.extend_from_slice(b",\"parameters\":");
    json::object(parts.shared.iter().map(|(name, value)| (name.as_str(), value)), &mut out, json::write);
    out.extend_from_slice(b",\"securityDefinitions\":");
    json::write(&security(), &mut out);
    out.extend_from_slice(b",\"security\":[{\"BearerToken\":[]}]}");
    out
}

/// The v2 document of everything served, as the protobuf message `openapi.v2.Document` of gnostic.
pub fn v2_proto<'a, R>(served: R, descriptions: &Descriptions) -> Vec<u8>
where
    R: Iterator<Item = &'a Resource> + Clone,
{
    let parts = Parts::of(served, descriptions, gnostic::path_item, gnostic::schema);
    gnostic::document(&info(), &parts.items, &parts.definitions, &parts.shared, &security())
}

/// What a v2 document consists of, in either encoding.
struct Parts {
    items: BTreeMap<String, Vec<u8>>,
    definitions: BTreeMap<SmolStr, Vec<u8>>,
    shared: BTreeMap<String, Value>,
}

impl Parts {
    fn of<'a, R>(
        served: R,
        descriptions: &Descriptions,
        item: impl Fn(&Value) -> Vec<u8>,
        definition: impl Fn(&Value) -> Vec<u8>,
    ) -> Self
    where
        R: Iterator<Item = &'a Resource> + Clone,
    {
        let mut schemas = Schemas::new(Version::V2, descriptions, served.clone());
        let mut paths = Paths::default();
        for path in v3_paths(served.clone()) {
            match path.split('/').collect::<Vec<_>>()[..] {
                ["api", version] => paths.group_version("", version),
                ["apis", group, version] => paths.group_version(group, version),
                _ => paths.plain(&format!("/{path}/")),
            }
        }
        served.for_each(|resource| paths.resource(resource, &schemas));
        let (items, shared) = paths.values(&mut schemas, item);
        let definitions = schemas.finish(definition);
        Self { items, definitions, shared }
    }
}

fn info() -> Value {
    let (major, minor) = api_types::KUBERNETES_VERSION;
    Value::from([("title", Value::from("Kubernetes")), ("version", Value::from(format!("{major}.{minor}")))])
}

fn security() -> Value {
    Value::from([(
        "BearerToken",
        Value::from([
            ("type", "apiKey"),
            ("description", "Bearer Token authentication"),
            ("name", "authorization"),
            ("in", "header"),
        ]),
    )])
}

fn to_json(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    json::write(value, &mut out);
    out
}

/// Appends an object of values that are JSON already.
fn encoded<K: AsRef<str>>(entries: &BTreeMap<K, Vec<u8>>, out: &mut Vec<u8>) {
    json::object(entries.iter().map(|(key, value)| (key.as_ref(), value)), out, |value, out| {
        out.extend_from_slice(value);
    });
}
