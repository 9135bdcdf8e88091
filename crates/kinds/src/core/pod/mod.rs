//! Pod: containers that run together on one node.

use api_schema::{SmolStr, Value};
use api_semantics::field::ErrorList;

use crate::Kind;

mod columns;
pub(crate) mod defaults;
mod image;
pub(crate) mod look;
mod prepare;
pub(crate) mod resources;
pub(crate) mod template;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod validate;
pub(crate) mod warnings;

pub use columns::row_conditions;
pub use prepare::{bind, prepare_ephemeral_containers_update, prepare_resize};
pub use validate::update::{validate_ephemeral_containers_update, validate_resize};

pub(crate) struct Pod;

impl Kind for Pod {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "pods"
    }

    fn default(&self, object: &mut Value) {
        defaults::pod(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        prepare::create(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        prepare::update(new, old);
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        prepare::status_update(new, old);
    }

    fn prepare_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        match subresource {
            "ephemeralcontainers" => prepare_ephemeral_containers_update(new, old),
            "resize" => prepare_resize(new, old),
            _ => {}
        }
    }

    fn stamp(&self, new: &mut Value, old: Option<&Value>, now: &str) {
        if old.is_none() {
            prepare::stamp(new, now);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        validate::pod_create(object)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        validate::update::pod_update(new, old)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        validate::update::status_update(new, old)
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value) -> ErrorList {
        match subresource {
            "ephemeralcontainers" => validate_ephemeral_containers_update(new, old),
            "resize" => validate_resize(new, old),
            _ => ErrorList::new(),
        }
    }

    /// Updates warn of nothing: they are mostly made by programs.
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        if old.is_some() { Vec::new() } else { warnings::pod(new) }
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(columns::cells(object, now))
    }

    fn row_conditions(&self, object: &Value) -> Vec<Value> {
        row_conditions(object)
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &[
            "spec.hostNetwork",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.nominatedNodeName",
            "status.phase",
            "status.podIP",
            "status.podIPs",
        ]
    }

    fn selectable_field(&self, object: &Value, label: &str) -> SmolStr {
        let text = match label {
            "spec.hostNetwork" if object.bool_at(&["spec", "hostNetwork"]) == Some(true) => "true",
            "spec.hostNetwork" => "false",
            // The list is a label, too, but only the first address has a value.
            "status.podIPs" => "",
            "status.podIP" => match object.list_at(&["status", "podIPs"]).first() {
                Some(ip) => ip.str_at(&["ip"]),
                None => "",
            },
            _ => match label.split_once('.') {
                Some((part, field)) => object.str_at(&[part, field]),
                None => "",
            },
        };
        SmolStr::new(text)
    }

    /// Pods that run nowhere, or have ended, need no time to end.
    fn grace_period_seconds(&self, object: &Value, requested: Option<i64>) -> Option<i64> {
        let runs_nowhere = object.str_at(&["spec", "nodeName"]).is_empty();
        let has_ended = matches!(object.str_at(&["status", "phase"]), "Succeeded" | "Failed");
        if runs_nowhere || has_ended {
            return Some(0);
        }
        let period = requested.or(object.int_at(&["spec", "terminationGracePeriodSeconds"])).unwrap_or(0);
        // A negative period is a mistake of old: one second.
        Some(if period < 0 { 1 } else { period })
    }
}

#[cfg(test)]
mod own_tests {
    use super::*;
    use crate::checks::tests::json;

    #[test]
    fn pods_get_time_to_end_only_where_they_run() {
        for (pod, requested, expect) in [
            (r#"{"spec":{"terminationGracePeriodSeconds":30}}"#, Some(5), 0),
            (r#"{"spec":{"nodeName":"n","terminationGracePeriodSeconds":30}}"#, None, 30),
            (r#"{"spec":{"nodeName":"n","terminationGracePeriodSeconds":30}}"#, Some(5), 5),
            (r#"{"spec":{"nodeName":"n","terminationGracePeriodSeconds":30}}"#, Some(-5), 1),
            (r#"{"spec":{"nodeName":"n"},"status":{"phase":"Failed"}}"#, Some(5), 0),
        ] {
            assert_eq!(Pod.grace_period_seconds(&json(pod), requested), Some(expect), "{pod}");
        }
    }

    #[test]
    fn fields_can_be_selected() {
        let pod = json(
            r#"{"spec":{"nodeName":"n","restartPolicy":"Always"},
                "status":{"phase":"Running","podIPs":[{"ip":"1.2.3.4"}]}}"#,
        );
        for (label, expect) in [
            ("spec.nodeName", "n"),
            ("spec.restartPolicy", "Always"),
            ("spec.hostNetwork", "false"),
            ("spec.schedulerName", ""),
            ("status.phase", "Running"),
            ("status.podIP", "1.2.3.4"),
        ] {
            assert_eq!(Pod.selectable_field(&pod, label), expect, "{label}");
        }
    }
}
