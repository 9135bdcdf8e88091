//! PodTemplate: a template for pods, kept for its own sake.

use api_schema::Value;
use api_semantics::field::{ErrorList, Path};

use crate::Kind;
use crate::checks::name;
use crate::core::pod::{template, validate};

pub(crate) struct PodTemplate;

const TEMPLATE: &[&str] = &["template"];

impl Kind for PodTemplate {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "podtemplates"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        template::default(object, TEMPLATE);
    }

    fn prepare_create(&self, object: &mut Value) {
        template::prepare(object, None, TEMPLATE);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        template::prepare(new, Some(old), TEMPLATE);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        check(new, Some(old))
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        template::template_warnings(new, old, TEMPLATE)
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn cells(&self, object: &Value, _now: i64) -> Option<Vec<Value>> {
        let [containers, images] = template::container_cells(object.at(TEMPLATE));
        let labels = template::labels_cell(object.map_at(&["template", "metadata", "labels"]));
        Some(vec![name(object), containers, images, labels])
    }
}

fn check(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let pod_template = object.get("template").unwrap_or(&Value::Null);
    validate::template(&mut errors, pod_template, &Path::new("template"), template::options(old, TEMPLATE));
    errors
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::checks::tests::{cells, defaults};
    use crate::core::pod::tests::created;

    fn base() -> Json {
        json!({"metadata": {"name": "x", "namespace": "ns"}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}})
    }

    #[test]
    fn the_template_is_filled() {
        defaults(
            &PodTemplate,
            r#"{"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}"#,
            r#"{"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","imagePullPolicy":"Always","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}"#,
        );
    }

    #[test]
    fn the_template_is_checked() {
        created(
            &PodTemplate,
            &base(),
            &expect![[r#"
                template.spec.containers[0].image = ""
                  template.spec.containers[0].image: Required value
                template.metadata.labels = {"a b":"c"}
                  template.labels: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                template.spec.nodeSelector = {"beta.kubernetes.io/os":"x"}
                    template.spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead
            "#]],
        );
    }

    #[test]
    fn cells_count_pods() {
        cells(
            &PodTemplate,
            r#"{"metadata":{"name":"x","creationTimestamp":"1970-01-01T00:00:00Z"},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}"#,
            r#"["x","c","i","a=b"]"#,
        );
    }
}
