//! Namespace: a scope for names, rights and quotas.

use api_schema::{SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::Kind;
use crate::checks::{default_text, invalid_text, name, texts};
use crate::meta::check_known_finalizer;

/// The finalizer that the namespace controller takes away once all content is gone.
const KUBERNETES_FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The kind Namespace.
pub(crate) struct Namespace;

impl Kind for Namespace {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "namespaces"
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn check_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns1123_label(name, prefix)
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        label_with_name(object);
        default_text(object, &["status", "phase"], "Active");
    }

    fn prepare_create(&self, object: &mut Value) {
        // The name may have been generated since the defaults ran.
        label_with_name(object);
        object.set(&["status"], Value::from([("phase", "Active")]));
        if !texts(object, &["spec", "finalizers"]).contains(&KUBERNETES_FINALIZER) {
            let mut finalizers = object.list_at(&["spec", "finalizers"]).to_vec();
            finalizers.push(KUBERNETES_FINALIZER.into());
            object.set(&["spec", "finalizers"], finalizers);
        }
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        // Only the finalize subresource changes finalizers.
        match old.at(&["spec", "finalizers"]) {
            Some(finalizers) => new.set(&["spec", "finalizers"], finalizers.clone()),
            None => {
                new.remove(&["spec", "finalizers"]);
            }
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for finalizer in texts(object, &["spec", "finalizers"]) {
            check_finalizer(&mut errors, finalizer, &Path::new("spec.finalizers"));
        }
        errors
    }

    fn validate_update(&self, _new: &Value, _old: &Value) -> ErrorList {
        ErrorList::new()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let phase = new.str_at(&["status", "phase"]);
        let (expected, state) = match new.at(&["metadata", "deletionTimestamp"]) {
            None => ("Active", "empty"),
            Some(_) => ("Terminating", "not empty"),
        };
        if phase == expected {
            return ErrorList::new();
        }
        let why = format!("may only be '{expected}' if `deletionTimestamp` is {state}");
        // The capital letter is upstream's.
        vec![Error::invalid(&Path::new("status.Phase"), phase, why)]
    }

    fn prepare_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        if subresource == "finalize" {
            match old.get("status") {
                Some(status) => new.set(&["status"], status.clone()),
                None => {
                    new.remove(&["status"]);
                }
            }
        }
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if subresource == "finalize" {
            let path = Path::new("spec.finalizers");
            for (at, finalizer) in texts(new, &["spec", "finalizers"]).into_iter().enumerate() {
                check_finalizer(&mut errors, finalizer, &path.index(at));
            }
        }
        errors
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let phase = object.str_at(&["status", "phase"]);
        Some(vec![name(object), phase.into(), api_semantics::time::age(object, now)])
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["status.phase"]
    }
}

fn label_with_name(object: &mut Value) {
    let name = SmolStr::new(object.str_at(&["metadata", "name"]));
    if !name.is_empty() {
        object.set(&["metadata", "labels", NAME_LABEL], name);
    }
}

fn check_finalizer(errors: &mut ErrorList, finalizer: &str, path: &Path<'_>) {
    invalid_text(errors, path, finalizer, names::qualified_name(finalizer));
    check_known_finalizer(errors, finalizer, path);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, json, lines, update_status};

    #[test]
    fn a_namespace_is_labelled_with_its_name() {
        defaults(
            &Namespace,
            r#"{"metadata":{"name":"a","labels":{"kubernetes.io/metadata.name":"x"}}}"#,
            r#"{"metadata":{"name":"a","labels":{"kubernetes.io/metadata.name":"a"}},"status":{"phase":"Active"}}"#,
        );
    }

    #[test]
    fn a_new_namespace_has_the_kubernetes_finalizer_once() {
        for (finalizers, expect) in
            [("[]", r#"["kubernetes"]"#), (r#"["kubernetes","x/y"]"#, r#"["kubernetes","x/y"]"#)]
        {
            let mut object = json(&format!(r#"{{"metadata":{{}},"spec":{{"finalizers":{finalizers}}}}}"#));
            Namespace.prepare_create(&mut object);
            assert_eq!(object.at(&["spec", "finalizers"]), Some(&json(expect)));
        }
    }

    #[test]
    fn finalizers_change_by_finalize_only() {
        let old = json(r#"{"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}}"#);
        let mut new = json(r#"{"spec":{"finalizers":[]},"status":{"phase":"Terminating"}}"#);
        let mut finalized = new.clone();
        Namespace.prepare_update(&mut new, &old);
        assert_eq!(new.list_at(&["spec", "finalizers"]).len(), 1);
        Namespace.prepare_subresource_update("finalize", &mut finalized, &old);
        assert_eq!(finalized, json(r#"{"spec":{"finalizers":[]},"status":{"phase":"Active"}}"#));
        let bad = json(r#"{"spec":{"finalizers":["kubernetes","x"]}}"#);
        assert_eq!(
            lines(&Namespace.validate_subresource_update("finalize", &bad, &old)),
            "spec.finalizers[1]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully \
             qualified"
        );
        create(
            &Namespace,
            r#"{"metadata":{},"spec":{"finalizers":["x"]}}"#,
            "spec.finalizers: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified",
        );
    }

    #[test]
    fn the_phase_follows_the_deletion() {
        update_status(&Namespace, "{}", r#"{"status":{"phase":"Active"}}"#, "");
        update_status(
            &Namespace,
            "{}",
            r#"{"status":{"phase":"Terminating"}}"#,
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty",
        );
        update_status(
            &Namespace,
            "{}",
            r#"{"metadata":{"deletionTimestamp":"2024-01-01T00:00:00Z"},"status":{"phase":"Active"}}"#,
            "status.Phase: Invalid value: \"Active\": may only be 'Terminating' if `deletionTimestamp` is not empty",
        );
    }

    #[test]
    fn cells_show_the_phase() {
        cells(
            &Namespace,
            r#"{"metadata":{"name":"a","creationTimestamp":"1969-12-31T23:59:00Z"},"status":{"phase":"Active"}}"#,
            r#"["a","Active","60s"]"#,
        );
    }
}
