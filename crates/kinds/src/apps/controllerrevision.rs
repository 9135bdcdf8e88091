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

    fn checks_metadata_on_update(&self) -> bool {
        false
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

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::checks::tests::{cells, lines};
    use crate::core::pod::tests::{changed, tree};

    fn base() -> Json {
        json!({"metadata": {"name": "x", "namespace": "ns"}, "data": {"a": 1}, "revision": 1})
    }

    #[test]
    fn revisions_are_snapshots() {
        let old = tree(&base());
        for (revision, data, expect) in [
            (2, r#"{"a":1}"#, ""),
            (-1, r#"{"a":1}"#, "revision: Invalid value: -1: must be greater than or equal to 0"),
            (1, r#"{"a":2}"#, "data: Invalid value: "),
        ] {
            let mut new = changed(&base(), "");
            new["revision"] = revision.into();
            new["data"] = serde_json::from_str(data).unwrap_or_default();
            let errors = lines(&ControllerRevision.validate_update(&tree(&new), &old));
            assert!(errors.starts_with(expect) && errors.is_empty() == expect.is_empty(), "{errors}");
        }
    }

    #[test]
    fn cells_show_the_owner() {
        cells(
            &ControllerRevision,
            r#"{"metadata":{"name":"x","creationTimestamp":"1970-01-01T00:00:00Z","ownerReferences":[{"apiVersion":"apps/v1","kind":"DaemonSet","name":"d","controller":true}]},"revision":3}"#,
            r#"["x","daemonset.apps/d",3,"0s"]"#,
        );
    }
}
