//! Writes a v3 document as gnostic's protobuf message `openapi.v3.Document`. The field numbers are those of
//! `OpenAPIv3.proto`.

use std::collections::BTreeMap;

use api_schema::Value;
use smol_str::SmolStr;

use crate::gnostic::{Message, any, wrap};

/// `SchemaOrReference`.
pub(crate) fn schema(value: &Value) -> Vec<u8> {
    let reference = value.str_at(&["$ref"]);
    if !reference.is_empty() {
        return wrap(2, &wrap(1, reference.as_bytes()));
    }
    let mut message = Message::default();
    message.flag(20, value.bool_at(&["uniqueItems"]));
    message.texts(23, value.list_at(&["required"]));
    for allowed in value.list_at(&["enum"]) {
        message.bytes(24, &any(allowed));
    }
    message.text(25, value.str_at(&["type"]));
    for (tag, key) in [(26, "allOf"), (27, "oneOf")] {
        for item in value.list_at(&[key]) {
            message.bytes(tag, &schema(item));
        }
    }
    if let Some(items) = value.get("items") {
        message.bytes(30, &wrap(1, &schema(items)));
    }
    if let Some(properties) = value.map_at(&["properties"]) {
        let mut all = Message::default();
        properties.iter().for_each(|(name, property)| all.named(1, name, &schema(property)));
        message.bytes(31, &all.0);
    }
    if let Some(items) = value.get("additionalProperties") {
        message.bytes(32, &wrap(1, &schema(items)));
    }
    if let Some(default) = value.get("default").and_then(default) {
        message.bytes(33, &default);
    }
    message.text(34, value.str_at(&["description"]));
    message.text(35, value.str_at(&["format"]));
    message.extensions(36, value);
    wrap(1, &message.0)
}

/// `DefaultType`, which has no form for objects: their default `{}` is left out.
fn default(value: &Value) -> Option<Vec<u8>> {
    let mut message = Message::default();
    match value {
        Value::Int(number) => message.double(1, *number as f64),
        Value::Float(number) => message.double(1, *number),
        Value::Bool(flag) => message.boolean(2, *flag),
        Value::Str(text) => message.bytes(3, text.as_bytes()),
        // The defaults of the tables are JSON scalars without escapes.
        Value::Raw(text) => match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            Some(text) => message.bytes(3, text.as_bytes()),
            None => match text.parse() {
                Ok(flag) => message.boolean(2, flag),
                Err(_) => message.double(1, text.parse().ok()?),
            },
        },
        _ => return None,
    }
    Some(message.0)
}

/// `ParameterOrReference`.
fn parameter(value: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.text(1, value.str_at(&["name"]));
    message.text(2, value.str_at(&["in"]));
    message.text(3, value.str_at(&["description"]));
    message.flag(4, value.bool_at(&["required"]));
    if let Some(ty) = value.get("schema") {
        message.bytes(10, &schema(ty));
    }
    wrap(1, &message.0)
}

/// `MediaTypes`.
fn media_types(value: &Value) -> Vec<u8> {
    let mut message = Message::default();
    for (name, media) in value.as_map().into_iter().flat_map(|map| map.iter()) {
        let inner = media.get("schema").map(|ty| wrap(1, &schema(ty))).unwrap_or_default();
        message.named(1, name, &inner);
    }
    message.0
}

/// `Operation`.
fn operation(value: &Value) -> Vec<u8> {
    let mut message = Message::default();
    message.texts(1, value.list_at(&["tags"]));
    message.text(3, value.str_at(&["description"]));
    message.text(5, value.str_at(&["operationId"]));
    for item in value.list_at(&["parameters"]) {
        message.bytes(6, &parameter(item));
    }
    if let Some(body) = value.get("requestBody") {
        let mut inner = Message::default();
        inner.bytes(2, &body.get("content").map(media_types).unwrap_or_default());
        inner.flag(3, body.bool_at(&["required"]));
        message.bytes(7, &wrap(1, &inner.0));
    }
    let mut responses = Message::default();
    for (status, response) in value.map_at(&["responses"]).into_iter().flat_map(|map| map.iter()) {
        let mut inner = Message::default();
        inner.text(1, response.str_at(&["description"]));
        if let Some(content) = response.get("content") {
            inner.bytes(3, &media_types(content));
        }
        responses.named(2, status, &wrap(1, &inner.0));
    }
    message.bytes(8, &responses.0);
    message.extensions(13, value);
    message.0
}

/// `PathItem`.
pub(crate) fn path_item(value: &Value) -> Vec<u8> {
    let mut message = Message::default();
    for (tag, method) in (4..).zip(["get", "put", "post", "delete", "options", "head", "patch"]) {
        if let Some(found) = value.get(method) {
            message.bytes(tag, &operation(found));
        }
    }
    for item in value.list_at(&["parameters"]) {
        message.bytes(13, &parameter(item));
    }
    message.0
}

/// `Document`, of path items and schemas that are encoded already.
pub(crate) fn document(
    info: &Value,
    items: &BTreeMap<String, Vec<u8>>,
    definitions: &BTreeMap<SmolStr, Vec<u8>>,
    security: &Value,
) -> Vec<u8> {
    let mut document = Message::default();
    document.text(1, "3.0.0");
    let mut about = Message::default();
    about.text(1, info.str_at(&["title"]));
    about.text(6, info.str_at(&["version"]));
    document.bytes(2, &about.0);

    let mut paths = Message::default();
    items.iter().for_each(|(path, item)| paths.named(1, path, item));
    document.bytes(4, &paths.0);

    let (mut schemas, mut schemes) = (Message::default(), Message::default());
    definitions.iter().for_each(|(name, definition)| schemas.named(1, name, definition));
    for (name, scheme) in security.as_map().into_iter().flat_map(|map| map.iter()) {
        let mut key = Message::default();
        for (tag, field) in (1..).zip(["type", "description", "name", "in"]) {
            key.text(tag, scheme.str_at(&[field]));
        }
        schemes.named(1, name, &wrap(1, &key.0));
    }
    let mut components = Message::default();
    components.bytes(1, &schemas.0);
    components.bytes(7, &schemes.0);
    document.bytes(5, &components.0);
    document.0
}
