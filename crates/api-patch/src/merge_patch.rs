//! JSON merge patch (RFC 7386): maps merge, null deletes, all else replaces.

use api_schema::{Map, Value};

use crate::error::PatchError;
use crate::json;

/// Applies a merge patch. `checked` is true when field validation is Strict or Warn: then a patch that is no object
/// is refused here; otherwise a list replaces the object, and decoding the result fails.
///
/// The result has the shape that the patch gave it; decode it by its schema before use.
pub fn apply(object: &mut Value, patch: &Value, checked: bool) -> Result<(), PatchError> {
    match patch {
        Value::Map(changes) => merge_maps(object.make_map(), changes),
        Value::Null => return Err(PatchError::Malformed("Invalid JSON Patch".into())),
        other if checked => {
            return Err(PatchError::Malformed(format!(
                "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                other.type_name()
            )));
        }
        Value::List(_) => *object = without_nulls(patch),
        _ => return Err(PatchError::Malformed("Invalid JSON Patch".into())),
    }
    Ok(())
}

fn merge_maps(map: &mut Map, changes: &Map) {
    for (key, change) in changes.iter() {
        if change.is_null() {
            map.remove(key);
            continue;
        }
        let current = map.entry(key);
        json::expand(current);
        match (current, change) {
            (Value::Map(map), Value::Map(changes)) => merge_maps(map, changes),
            // Over an object, a list is taken as it is; nulls inside its items stay.
            (current @ Value::Map(_), _) => *current = change.clone(),
            (current, _) => *current = without_nulls(change),
        }
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Map(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Map(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::List(items) => Value::List(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}
