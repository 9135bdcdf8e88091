//! `secret`: the keys of a Secret as files in memory, brought up to date when it changes.

use api_schema::{Map, Value};
use base64::Engine;

use super::{Context, Kind, MODE_DEFAULT, in_memory, pick};
use crate::{Files, Ready};

pub(super) const KIND: Kind = Kind { field: "secret", folder: "kubernetes.io~secret", takes_group: false, set_up };

fn set_up(context: &Context<'_>) -> Result<Ready, String> {
    let mode = context.source.int_at(&["defaultMode"]).unwrap_or(MODE_DEFAULT);
    in_memory(context, &files(context, context.source, context.source.str_at(&["secretName"]), mode)?)
}

/// The files of a reference to a Secret: a volume's or a projected source's.
pub(super) fn files(context: &Context<'_>, source: &Value, name: &str, mode: i64) -> Result<Files, String> {
    let Some(secret) = context.objects.secret(name) else {
        let is_optional = source.bool_at(&["optional"]).unwrap_or(false);
        return if is_optional { Ok(Files::new()) } else { Err(format!("secret {name:?} not found")) };
    };
    let data = secret.map_at(&["data"]).into_iter().flat_map(Map::iter);
    pick(data.map(|(key, value)| (key.as_str(), bytes(value))), source, mode, context.group, "secret")
}

/// The bytes of a value, which the tree keeps as base64 text.
pub(super) fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Bytes(bytes) => bytes.to_vec(),
        value => {
            base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap_or_default()).unwrap_or_default()
        }
    }
}
