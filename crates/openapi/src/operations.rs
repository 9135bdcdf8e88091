//! One operation, and the path item that several make.

use std::collections::BTreeMap;

use api_schema::Value;

use crate::parameters::Parameter;
use crate::schemas::{Schemas, Version};

pub(crate) const JSON: &[&str] = &["application/json"];
pub(crate) const OBJECT: &[&str] = &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
pub(crate) const STREAM: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
pub(crate) const LOG: &[&str] =
    &["text/plain", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
pub(crate) const ANYTHING: &[&str] = &["*/*"];
pub(crate) const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// What a request does.
#[derive(Debug)]
pub(crate) struct Operation {
    /// The HTTP method in lower case.
    pub(crate) method: &'static str,
    pub(crate) id: String,
    pub(crate) tag: String,
    pub(crate) description: String,
    /// `list`, `post`, ...; empty outside of resources.
    pub(crate) action: &'static str,
    /// Group, version and kind that it is about.
    pub(crate) gvk: Option<[String; 3]>,
    pub(crate) parameters: Vec<Parameter>,
    /// The type of the body, and whether there must be one.
    pub(crate) body: Option<(String, bool)>,
    pub(crate) consumes: &'static [&'static str],
    pub(crate) produces: &'static [&'static str],
    /// The good answers.
    pub(crate) statuses: &'static [u16],
    /// The type of the answer; a string if empty.
    pub(crate) answer: String,
}

/// The path item of the operations on one path. What all of them take is stated once, for the path.
pub(crate) fn path_item(
    mut operations: Vec<Operation>,
    schemas: &mut Schemas<'_>,
    shared: &mut BTreeMap<String, Value>,
) -> Value {
    let mut common: Vec<Parameter> = operations.first().map(|first| first.parameters.clone()).unwrap_or_default();
    common.retain(|parameter| operations.iter().all(|operation| operation.parameters.contains(parameter)));
    for operation in &mut operations {
        operation.parameters.retain(|parameter| !common.contains(parameter));
    }
    let mut item = Value::Map(api_schema::Map::new());
    if !common.is_empty() {
        item.set(&["parameters"], list(common, schemas.version, shared));
    }
    for operation in operations {
        let method = operation.method;
        item.set(&[method], operation.value(schemas, shared));
    }
    item
}

fn list(mut parameters: Vec<Parameter>, version: Version, shared: &mut BTreeMap<String, Value>) -> Vec<Value> {
    parameters.sort_by(|a, b| a.name.cmp(&b.name));
    parameters
        .into_iter()
        .map(|parameter| {
            if version == Version::V3 || parameter.shared.is_empty() {
                return parameter.value(version);
            }
            let reference = Value::from([("$ref", format!("#/parameters/{}", parameter.shared))]);
            let value = parameter.value(version);
            shared.insert(parameter.shared, value);
            reference
        })
        .collect()
}

fn strings(texts: &[&str]) -> Value {
    Value::List(texts.iter().map(|text| Value::from(*text)).collect())
}

impl Operation {
    fn value(self, schemas: &mut Schemas<'_>, shared: &mut BTreeMap<String, Value>) -> Value {
        let version = schemas.version;
        let mut value = Value::from([
            ("description", Value::from(self.description)),
            ("operationId", Value::from(self.id)),
            ("tags", Value::List(vec![Value::from(self.tag)])),
        ]);
        if !self.action.is_empty() {
            value.set(&["x-kubernetes-action"], self.action);
        }
        if let Some([group, version, kind]) = self.gvk {
            let gvk = Value::from([("group", group), ("version", version), ("kind", kind)]);
            value.set(&["x-kubernetes-group-version-kind"], gvk);
        }
        let mut parameters = list(self.parameters, version, shared);
        if let Some((type_name, required)) = self.body {
            let schema = schemas.reference(&type_name);
            if version == Version::V2 {
                let mut body =
                    Value::from([("name", Value::from("body")), ("in", Value::from("body")), ("schema", schema)]);
                if required {
                    body.set(&["required"], true);
                }
                parameters.insert(0, body);
            } else {
                let content = self.consumes.iter().map(|media| media_type(media, &schema)).collect();
                let mut body = Value::from([("content", Value::Map(content))]);
                if required {
                    body.set(&["required"], true);
                }
                value.set(&["requestBody"], body);
            }
        }
        if !parameters.is_empty() {
            value.set(&["parameters"], parameters);
        }
        let answer = match self.answer.as_str() {
            "" => Value::from([("type", "string")]),
            name => schemas.reference(name),
        };
        for status in self.statuses {
            let text = match status {
                200 => "OK",
                201 => "Created",
                _ => "Accepted",
            };
            let mut response = Value::from([("description", text)]);
            match version {
                Version::V2 => response.set(&["schema"], answer.clone()),
                Version::V3 => {
                    let content = self.produces.iter().map(|media| media_type(media, &answer)).collect();
                    response.set(&["content"], Value::Map(content));
                }
            }
            value.set(&["responses", &status.to_string()], response);
        }
        value.set(&["responses", "401"], Value::from([("description", "Unauthorized")]));
        if version == Version::V2 {
            value.set(&["consumes"], strings(self.consumes));
            value.set(&["produces"], strings(self.produces));
            value.set(&["schemes"], strings(&["https"]));
        }
        value
    }
}

fn media_type(media: &str, schema: &Value) -> (smol_str::SmolStr, Value) {
    (media.into(), Value::from([("schema", schema.clone())]))
}
