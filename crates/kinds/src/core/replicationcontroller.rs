//! ReplicationController: keeps a number of pods running; the forerunner of ReplicaSet.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::selector::Selector;
use api_semantics::time;

use crate::Kind;
use crate::checks::{name, not_negative};
use crate::core::pod::look::Look;
use crate::core::pod::template::{self, TEMPLATE};

pub(crate) struct ReplicationController;

impl Kind for ReplicationController {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "replicationcontrollers"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn orphans_by_default(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        if object.at(&["spec", "replicas"]).is_none() {
            object.set(&["spec", "replicas"], 1);
        }
        let labels = object.map_at(&["spec", "template", "metadata", "labels"]).cloned();
        let has_selector = object.map_at(&["spec", "selector"]).is_some_and(|selector| !selector.is_empty());
        if let (Some(labels), false) = (labels, has_selector) {
            object.set(&["spec", "selector"], labels);
        }
        template::labels_from_template(object, TEMPLATE);
        template::default(object, TEMPLATE);
    }

    fn prepare_create(&self, object: &mut Value) {
        template::prepare(object, None, TEMPLATE);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        template::prepare(new, Some(old), TEMPLATE);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        validate(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        validate(new, Some(old))
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        status(&mut errors, new);
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        // Upstream looks at the old template by mistake.
        match old {
            Some(old) => template::template_warnings(old, Some(new), TEMPLATE),
            None => template::named_warnings(new, None, TEMPLATE),
        }
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let [containers, images] = template::container_cells(object.at(TEMPLATE));
        Some(vec![
            name(object),
            template::number_cell(object, &["spec", "replicas"]),
            template::number_cell(object, &["status", "replicas"]),
            template::number_cell(object, &["status", "readyReplicas"]),
            time::age(object, now),
            containers,
            images,
            template::labels_cell(object.map_at(&["spec", "selector"])),
        ])
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["status.replicas"]
    }

    fn selectable_field(&self, object: &Value, label: &str) -> api_schema::SmolStr {
        match label {
            "status.replicas" => {
                api_schema::format_smolstr!("{}", object.int_at(&["status", "replicas"]).unwrap_or(0))
            }
            _ => api_schema::SmolStr::default(),
        }
    }
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    not_negative(&mut errors, &path.child("minReadySeconds"), spec.int("minReadySeconds"));
    if spec.entries("selector").is_empty() {
        errors.push(Error::required(&path.child("selector"), ""));
    }
    match spec.int("replicas") {
        None => errors.push(Error::required(&path.child("replicas"), "")),
        replicas => not_negative(&mut errors, &path.child("replicas"), replicas),
    }
    match spec.get("template") {
        None => errors.push(Error::required(&path.child("template"), "")),
        Some(pod_template) => template::long_running(
            &mut errors,
            pod_template,
            &Selector::from_labels(spec.entries("selector")),
            "ReplicationController",
            &path.child("template"),
            template::options(old, TEMPLATE),
        ),
    }
    errors
}

/// The counters of a ReplicationController or ReplicaSet.
pub(crate) fn status(errors: &mut ErrorList, object: &Value) {
    let path = Path::new("status");
    let status = object.get("status").unwrap_or(&Value::Null);
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    template::counters(errors, status, &path, &["replicas"]);
    template::counters(errors, status, &path, &parts);
    template::counters(errors, status, &path, &["observedGeneration", "terminatingReplicas"]);
    template::not_greater(errors, status, &path, &parts, ("replicas", "status.replicas"));
    template::not_greater(errors, status, &path, &["availableReplicas"], ("readyReplicas", "readyReplicas"));
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::checks::tests::{cells, defaults};
    use crate::core::pod::tests::{created, updated};

    fn base() -> Json {
        json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": {"selector": {"a": "b"}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    }

    #[test]
    fn the_selector_is_the_templates_labels() {
        defaults(
            &ReplicationController,
            r#"{"spec":{"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
            r#"{"metadata":{"labels":{"a":"b"}},"spec":{"selector":{"a":"b"},"replicas":1,"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","imagePullPolicy":"Always","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#,
        );
    }

    #[test]
    fn selector_and_template_fit() {
        created(
            &ReplicationController,
            &base(),
            &expect![[r#"
                replicas = -1
                  spec.replicas: Invalid value: -1: must be greater than or equal to 0
                minReadySeconds = -1
                  spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0
                selector = {"a":"c"}
                  spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
                selector = {"a b":"c"}
                  spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
                spec.template.spec.restartPolicy = "Never"
                  spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
                spec.template = null
                  spec.template: Required value
            "#]],
        );
    }

    #[test]
    fn statuses_add_up() {
        updated(
            &ReplicationController,
            &base(),
            "status",
            &expect![[r#"
                status = {"replicas":1,"readyReplicas":2,"availableReplicas":3,"fullyLabeledReplicas":2}
                  status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas
                  status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas
                  status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas
                  status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas
            "#]],
        );
    }

    #[test]
    fn cells_count_pods() {
        cells(
            &ReplicationController,
            r#"{"metadata":{"name":"x","creationTimestamp":"1970-01-01T00:00:00Z"},"spec":{"replicas":3,"selector":{"a":"b"},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}},"status":{"replicas":2,"readyReplicas":1}}"#,
            r#"["x",3,2,1,"0s","c","i","a=b"]"#,
        );
    }
}
