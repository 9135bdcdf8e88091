//! ReplicaSet: keeps a number of pods of one template running.

use api_schema::Value;
use api_semantics::field::{ErrorList, Path};
use api_semantics::{selector, time};

use super::deployment::selector_and_template;
use crate::Kind;
use crate::checks::{immutable, name, not_negative};
use crate::core::pod::look::{Fill, Look};
use crate::core::pod::template::{self, TEMPLATE};
use crate::core::replicationcontroller::status;

pub(crate) struct ReplicaSet;

impl Kind for ReplicaSet {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "replicasets"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        object.entry(&["spec"]).fill("replicas", 1);
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
        let mut errors = validate(new, Some(old));
        let selector = ["spec", "selector"];
        immutable(&mut errors, &Path::new("spec.selector"), new.at(&selector), old.at(&selector));
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        status(&mut errors, new);
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        template::named_warnings(new, old, TEMPLATE)
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
            selector::shown(object.at(&["spec", "selector"])).into(),
        ])
    }
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    for field in ["replicas", "minReadySeconds"] {
        not_negative(&mut errors, &path.child(field), spec.int(field));
    }
    selector_and_template(&mut errors, spec, old, &path);
    errors
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::checks::tests::{cells, defaults};
    use crate::core::pod::tests::{created, updated};

    fn base() -> Json {
        json!({"metadata": {"name": "x", "namespace": "ns"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
    }

    #[test]
    fn one_replica_is_wanted() {
        defaults(
            &ReplicaSet,
            r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
            r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"replicas":1,"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","imagePullPolicy":"Always","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#,
        );
    }

    #[test]
    fn selector_and_template_fit() {
        created(
            &ReplicaSet,
            &base(),
            &expect![[r#"
                replicas = -1
                  spec.replicas: Invalid value: -1: must be greater than or equal to 0
                minReadySeconds = -1
                  spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0
                selector = null
                  spec.selector: Required value
                  spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
                selector = {}
                  spec.selector: Invalid value: {}: empty selector is invalid for deployment
                selector = {"matchLabels":{"a":"c"}}
                  spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
                spec.template.spec.restartPolicy = "Never"
                  spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
            "#]],
        );
    }

    #[test]
    fn the_selector_stays() {
        updated(
            &ReplicaSet,
            &base(),
            "",
            &expect![[r#"
                selector = {"matchLabels":{"a":"c"}} ; spec.template.metadata.labels = {"a":"c"}
                  spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable
            "#]],
        );
    }

    #[test]
    fn statuses_add_up() {
        updated(
            &ReplicaSet,
            &base(),
            "status",
            &expect![[r#"
                status = {"replicas":1,"fullyLabeledReplicas":2,"readyReplicas":2,"availableReplicas":3}
                  status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas
                  status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas
                  status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas
                  status.availableReplicas: Invalid value: 3: cannot be greater than readyReplicas
                status = {"replicas":-1,"observedGeneration":-1}
                  status.replicas: Invalid value: -1: must be greater than or equal to 0
                  status.observedGeneration: Invalid value: -1: must be greater than or equal to 0
                  status.fullyLabeledReplicas: Invalid value: 0: cannot be greater than status.replicas
                  status.readyReplicas: Invalid value: 0: cannot be greater than status.replicas
                  status.availableReplicas: Invalid value: 0: cannot be greater than status.replicas
            "#]],
        );
    }

    #[test]
    fn cells_count_pods() {
        cells(
            &ReplicaSet,
            r#"{"metadata":{"name":"x","creationTimestamp":"1970-01-01T00:00:00Z"},"spec":{"replicas":3,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}},"status":{"replicas":2,"readyReplicas":1}}"#,
            r#"["x",3,2,1,"0s","c","i","a=b"]"#,
        );
    }
}
