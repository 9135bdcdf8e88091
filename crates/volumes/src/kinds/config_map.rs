//! `configMap`: the keys of a ConfigMap as files, brought up to date when it changes.

use api_schema::{Map, Value};

use super::{Context, Kind, MODE_DEFAULT, pick, write};
use crate::{Files, Ready};

pub(super) const KIND: Kind =
    Kind { field: "configMap", folder: "kubernetes.io~configmap", takes_group: false, set_up };

fn set_up(context: &Context<'_>) -> Result<Ready, String> {
    let mode = context.source.int_at(&["defaultMode"]).unwrap_or(MODE_DEFAULT);
    write(context, &files(context, context.source, mode)?)
}

/// The files of a reference to a ConfigMap: a volume's or a projected source's.
pub(super) fn files(context: &Context<'_>, source: &Value, mode: i64) -> Result<Files, String> {
    let name = source.str_at(&["name"]);
    let Some(map) = context.objects.config_map(name) else {
        let is_optional = source.bool_at(&["optional"]).unwrap_or(false);
        return if is_optional { Ok(Files::new()) } else { Err(format!("configmap {name:?} not found")) };
    };
    let texts = map.map_at(&["data"]).into_iter().flat_map(Map::iter);
    let texts = texts.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default().as_bytes().to_vec()));
    let binaries = map.map_at(&["binaryData"]).into_iter().flat_map(Map::iter);
    let binaries = binaries.map(|(key, value)| (key.as_str(), super::secret::bytes(value)));
    pick(texts.chain(binaries), source, mode, context.group, "configmap")
}
