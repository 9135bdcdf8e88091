//! Trees from text and back.

use api_schema::{Map, StructId, Value};

/// A tree from JSON text.
pub(crate) fn tree(text: &str) -> Value {
    from_json(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}")))
}

fn from_json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(flag),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(number) => Value::Int(number),
            None => Value::Float(number.as_f64().expect("no arbitrary precision")),
        },
        serde_json::Value::String(text) => Value::from(text),
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(from_json).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(map.into_iter().map(|(key, value)| (key, from_json(value))).collect::<Map>())
        }
    }
}

/// JSON text from a tree, keys sorted.
pub(crate) fn text(value: &Value) -> String {
    to_json(value).to_string()
}

fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null | Value::Bytes(_) => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::Float(number) => (*number).into(),
        Value::Str(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(map) => map.iter().map(|(key, value)| (key.to_string(), to_json(value))).collect(),
        Value::Raw(text) => serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}")),
    }
}

/// The struct of a built-in kind, by the short name `core.v1.Pod`.
pub(crate) fn built_in(name: &str) -> StructId {
    api_types::struct_id(&format!("io.k8s.api.{name}"))
}
