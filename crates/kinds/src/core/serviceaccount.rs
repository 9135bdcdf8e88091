//! ServiceAccount: the identity of what runs in Pods.

use api_schema::{Map, SmolStr, Value};

use crate::Kind;
use crate::checks::{map, name};

const MOUNTABLE_SECRETS_ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";

/// The kind ServiceAccount.
pub(crate) struct ServiceAccount;

impl Kind for ServiceAccount {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "serviceaccounts"
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Value) {
        keep_secret_names(object);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        keep_secret_names(new);
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let enforces =
            |object: &Value| map(object, &["metadata", "annotations"]).contains_key(MOUNTABLE_SECRETS_ANNOTATION);
        if old.is_some_and(enforces) || !enforces(new) {
            return Vec::new();
        }
        vec![format!(
            "metadata.annotations[{MOUNTABLE_SECRETS_ANNOTATION}]: deprecated in v1.32+; prefer separate namespaces to \
             isolate access to mounted secrets"
        )]
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        // Secrets are no longer counted since 1.35; the table says which columns there are.
        let cell = |column: &api_types::Column| match column.name {
            "Name" => name(object),
            "Secrets" => Value::Int(object.list_at(&["secrets"]).len() as i64),
            _ => api_semantics::time::age(object, now),
        };
        Some(api_types::columns("ServiceAccount")?.iter().map(cell).collect())
    }
}

/// Of references to secrets only the names mean anything.
fn keep_secret_names(object: &mut Value) {
    let Some(secrets) = object.at_mut(&["secrets"]).and_then(Value::as_list_mut) else { return };
    for secret in secrets {
        let name = SmolStr::new(secret.str_at(&["name"]));
        let mut kept = Map::new();
        if !name.is_empty() {
            kept.insert("name", name);
        }
        *secret = kept.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::json;

    #[test]
    fn secrets_are_kept_by_name() {
        let mut object = json(r#"{"secrets":[{"name":"a","namespace":"b","kind":"Secret"},{"kind":"Secret"}]}"#);
        ServiceAccount.prepare_create(&mut object);
        assert_eq!(object, json(r#"{"secrets":[{"name":"a"},{}]}"#));
    }

    #[test]
    fn a_new_enforcement_annotation_is_warned_of() {
        let plain = json("{}");
        let enforcing = json(r#"{"metadata":{"annotations":{"kubernetes.io/enforce-mountable-secrets":"true"}}}"#);
        for (new, old, count) in [(&enforcing, None, 1), (&enforcing, Some(&enforcing), 0), (&plain, None, 0)] {
            assert_eq!(ServiceAccount.warnings(new, old).len(), count);
        }
    }

    #[test]
    fn cells_begin_with_the_name_and_end_with_the_age() {
        let object = json(r#"{"metadata":{"name":"a","creationTimestamp":"1969-12-31T23:59:00Z"}}"#);
        let cells = ServiceAccount.cells(&object, 0).unwrap_or_default();
        assert_eq!((cells.first(), cells.last()), (Some(&"a".into()), Some(&"60s".into())));
    }
}
