//! Writes a v2 document as gnostic's protobuf message `openapi.v2.Document`, which is all that client-go's
//! `OpenAPISchema()` reads. The field numbers are those of `OpenAPIv2.proto`.

use std::collections::BTreeMap;

use api_schema::Value;
use smol_str::SmolStr;

use crate::json;

/// A message being written.
#[derive(Default)]
pub(crate) struct Message(pub(crate) Vec<u8>);

impl Message {
    pub(crate) fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        self.varint(u64::from(tag) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A string; left out if it is empty, as proto3 does.
    pub(crate) fn text(&mut self, tag: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(tag, text.as_bytes());
        }
    }

    pub(crate) fn flag(&mut self, tag: u32, flag: Option<bool>) {
        if flag == Some(true) {
            self.boolean(tag, true);
        }
    }

    /// A flag of a `oneof`, which is written even if it is false.
    pub(crate) fn boolean(&mut self, tag: u32, flag: bool) {
        self.varint(u64::from(tag) << 3);
        self.varint(flag.into());
    }

    pub(crate) fn double(&mut self, tag: u32, number: f64) {
        self.varint(u64::from(tag) << 3 | 1);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    pub(crate) fn texts(&mut self, tag: u32, items: &[Value]) {
        items.iter().filter_map(Value::as_str).for_each(|text| self.bytes(tag, text.as_bytes()));
    }

    /// `NamedX { name = 1, value = 2 }`.
    pub(crate) fn named(&mut self, tag: u32, name: &str, value: &[u8]) {
        let mut named = Self::default();
        named.text(1, name);
        named.bytes(2, value);
        self.bytes(tag, &named.0);
    }

    /// The `x-` fields of a value.
    pub(crate) fn extensions(&mut self, tag: u32, value: &Value) {
        let entries = value.as_map().into_iter().flat_map(|map| map.iter());
        for (name, value) in entries.filter(|(name, _)| name.starts_with("x-")) {
            self.named(tag, name, &any(value));
        }
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

/// A message with one embedded message.
pub(crate) fn wrap(tag: u32, inner: &[u8]) -> Vec<u8> {
    let mut message = Message::default();
    message.bytes(tag, inner);
    message.0
}

/// `Any { yaml = 2 }`: JSON is YAML.
pub(crate) fn any(value: &Value) -> Vec<u8> {
    let mut yaml = Vec::new();
    json::write(value, &mut yaml);
    yaml.push(b'\n');
    wrap(2, &yaml)
}

/// `Schema`.
pub(crate) fn schema(value: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.text(1, value.str_at(&["$ref"]));
    message.text(2, value.str_at(&["format"]));
    message.text(4, value.str_at(&["description"]));
    if let Some(default) = value.get("default") {
        message.bytes(5, &any(default));
    }
    message.texts(19, value.list_at(&["required"]));
    for allowed in value.list_at(&["enum"]) {
        message.bytes(20, &any(allowed));
    }
    if let Some(items) = value.get("additionalProperties") {
        message.bytes(21, &wrap(1, &schema(items)));
    }
    let ty = value.str_at(&["type"]);
    if !ty.is_empty() {
        message.bytes(22, &wrap(1, ty.as_bytes()));
    }
    if let Some(items) = value.get("items") {
        message.bytes(23, &wrap(1, &schema(items)));
    }
    if let Some(properties) = value.map_at(&["properties"]) {
        let mut all = Message::default();
        properties.iter().for_each(|(name, property)| all.named(1, name, &schema(property)));
        message.bytes(25, &all.0);
    }
    message.extensions(31, value);
    message.0
}

/// `Parameter`.
fn parameter(value: &Value) -> Vec<u8> {
    let mut message = Message::default();
    let required = value.bool_at(&["required"]);
    let [name, place, description] = ["name", "in", "description"].map(|key| value.str_at(&[key]));
    if place == "body" {
        message.text(1, description);
        message.text(2, name);
        message.text(3, place);
        message.flag(4, required);
        message.bytes(5, &value.get("schema").map(schema).unwrap_or_default());
        return wrap(1, &message.0);
    }
    message.flag(1, required);
    message.text(2, place);
    message.text(3, description);
    message.text(4, name);
    let ty = value.str_at(&["type"]);
    let unique = value.bool_at(&["uniqueItems"]);
    // QueryParameterSubSchema has one field more in the middle than PathParameterSubSchema.
    let kind = if place == "query" {
        message.text(6, ty);
        message.flag(20, unique);
        3
    } else {
        message.text(5, ty);
        message.flag(19, unique);
        4
    };
    wrap(2, &wrap(kind, &message.0))
}

/// `ParametersItem`.
fn parameters_item(value: &Value) -> Vec<u8> {
    match value.str_at(&["$ref"]) {
        "" => wrap(1, &parameter(value)),
        reference => wrap(2, &wrap(1, reference.as_bytes())),
    }
}

/// `Operation`.
fn operation(value: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.texts(1, value.list_at(&["tags"]));
    message.text(3, value.str_at(&["description"]));
    message.text(5, value.str_at(&["operationId"]));
    message.texts(6, value.list_at(&["produces"]));
    message.texts(7, value.list_at(&["consumes"]));
    for item in value.list_at(&["parameters"]) {
        message.bytes(8, &parameters_item(item));
    }
    let mut responses = Message::default();
    for (status, response) in value.map_at(&["responses"]).into_iter().flat_map(|map| map.iter()) {
        let mut inner = Message::default();
        inner.text(1, response.str_at(&["description"]));
        if let Some(answer) = response.get("schema") {
            inner.bytes(2, &wrap(1, &schema(answer)));
        }
        responses.named(1, status, &wrap(1, &inner.0));
    }
    message.bytes(9, &responses.0);
    message.texts(10, value.list_at(&["schemes"]));
    message.extensions(13, value);
    message.0
}

/// `PathItem`.
pub(crate) fn path_item(value: &Value) -> Vec<u8> {
    let mut message = Message::default();
    for (tag, method) in (2..).zip(["get", "put", "post", "delete", "options", "head", "patch"]) {
        if let Some(found) = value.get(method) {
            message.bytes(tag, &operation(found));
        }
    }
    for item in value.list_at(&["parameters"]) {
        message.bytes(9, &parameters_item(item));
    }
    message.0
}

/// `Document`, of path items and schemas that are encoded already.
pub(crate) fn document(
    info: &Value,
    items: &BTreeMap<String, Vec<u8>>,
    definitions: &BTreeMap<SmolStr, Vec<u8>>,
    shared: &BTreeMap<String, Value>,
    security: &Value,
) -> Vec<u8> {
    let mut document = Message::default();
    document.text(1, "2.0");
    let mut about = Message::default();
    about.text(1, info.str_at(&["title"]));
    about.text(2, info.str_at(&["version"]));
    document.bytes(2, &about.0);

    let mut part = Message::default();
    items.iter().for_each(|(path, item)| part.named(2, path, item));
    document.bytes(8, &part.0);

    part.0.clear();
    definitions.iter().for_each(|(name, definition)| part.named(1, name, definition));
    document.bytes(9, &part.0);

    part.0.clear();
    shared.iter().for_each(|(name, value)| part.named(1, name, &parameter(value)));
    document.bytes(10, &part.0);

    let (mut requirement, mut schemes) = (Message::default(), Message::default());
    for (name, scheme) in security.as_map().into_iter().flat_map(|map| map.iter()) {
        requirement.named(1, name, &[]);
        let mut key = Message::default();
        for (tag, field) in (1..).zip(["type", "name", "in", "description"]) {
            key.text(tag, scheme.str_at(&[field]));
        }
        schemes.named(1, name, &wrap(2, &key.0));
    }
    document.bytes(12, &requirement.0);
    document.bytes(13, &schemes.0);
    document.0
}
