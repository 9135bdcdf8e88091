//! ControllerRevision: one state of a StatefulSet's or DaemonSet's template, kept for its controller.

use api_schema::{Value, format_smolstr};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::time;

use crate::Kind;
use crate::checks::{immutable, name, not_negative};
use crate::core::pod::look::Look;

pub(crate) struct ControllerRevision;

impl Kind for ControllerRevision {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "controllerrevisions"
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        revision(&mut errors, object);
        let path = Path::new("data");
        match object.get("data").filter(|data| !data.is_zero()) {
            None => errors.push(Error::required(&path, "data is mandatory")),
            Some(data) if !is_object(data) => {
                errors.push(Error::required(&path, "data must be a valid JSON object"));
            }
            Some(_) => {}
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        revision(&mut errors, new);
        immutable(&mut errors, &Path::new("data"), new.get("data"), old.get("data"));
        errors
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let owners = object.list_at(&["metadata", "ownerReferences"]);
        let controller = match owners.iter().find(|owner| owner.is_true("controller")) {
            None => "<none>".into(),
            Some(owner) => {
                let kind = owner.text("kind").to_lowercase();
                match owner.text("apiVersion").split_once('/') {
                    Some((group, _)) => format_smolstr!("{kind}.{}/{}", group.to_lowercase(), owner.text("name")),
                    None => format_smolstr!("{kind}/{}", owner.text("name")),
                }
            }
        };
        let revision = Value::Int(object.int("revision").unwrap_or(0));
        Some(vec![name(object), controller.into(), revision, time::age(object, now)])
    }
}

fn revision(errors: &mut ErrorList, object: &Value) {
    not_negative(errors, &Path::new("revision"), object.int("revision"));
}

/// Embedded JSON is kept as compact text.
fn is_object(data: &Value) -> bool {
    match data {
        Value::Raw(text) => text.trim_start().starts_with('{'),
        data => data.as_map().is_some(),
    }
}
