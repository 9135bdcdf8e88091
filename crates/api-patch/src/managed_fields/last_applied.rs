//! kubectl's way from client-side to server-side apply: the annotation that client-side apply keeps.

use api_schema::{Map, Value};

use super::FieldManager;
use crate::field_set::FieldSet;
use crate::json;
use crate::typed;

/// The manager for which the annotation counts.
pub(super) const KUBECTL: &str = "kubectl";

/// Where client-side apply keeps what it applied.
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The largest sum of an object's annotations, names and values.
const ANNOTATIONS_BYTES_MAX: usize = 256 * 1024;

fn annotation(object: &Value) -> Option<&str> {
    let annotations = object.map_at(&["metadata", "annotations"])?;
    annotations.get(ANNOTATION).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The fields that client-side apply set and that are still as it set them; `None` if nothing can be said.
pub(super) fn allowed(manager: &FieldManager<'_>, live: &Value) -> Option<FieldSet> {
    let last = json::parse(annotation(live)?)?;
    let ty = manager.ty.ty();
    if last.as_map().is_none() || last.str_at(&["apiVersion"]) != manager.api_version {
        return None;
    }
    typed::validate(ty, live, false).ok()?;
    typed::validate(ty, &last, false).ok()?;
    let mut fields = typed::fields_of(ty, &last);
    let comparison = typed::compare(ty, &last, live).ok()?;
    fields.subtract(&comparison.modified);
    fields.subtract(&comparison.added);
    fields.subtract(&comparison.removed);
    Some(fields)
}

/// Keeps the annotation true for clients that still apply on their side.
pub(super) fn renew(object: &mut Value, applied: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut configuration = applied.clone();
    if let Some(Value::Map(annotations)) = configuration.at_mut(&["metadata", "annotations"]) {
        annotations.remove(ANNOTATION);
    }
    let mut text = String::new();
    json::write(&configuration, &mut text);
    // Go's encoder ends with a line feed.
    text.push('\n');
    let Some(Value::Map(annotations)) = object.at_mut(&["metadata", "annotations"]) else { return };
    annotations.insert(ANNOTATION, text);
    let size = |annotations: &Map| -> usize {
        annotations.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum()
    };
    if size(annotations) > ANNOTATIONS_BYTES_MAX {
        annotations.remove(ANNOTATION);
    }
}
