//! Deployment: rolls a pod template out, one ReplicaSet for each revision.

use api_schema::{Map, Value, format_smolstr};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::selector::Selector;
use api_semantics::{int_or_string, time};

use crate::Kind;
use crate::checks::{immutable, internal, name, not_negative, same};
use crate::core::pod::look::{Fill, Look};
use crate::core::pod::template::{self, TEMPLATE};

pub(crate) struct Deployment;

impl Kind for Deployment {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "deployments"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        let spec = object.entry(&["spec"]);
        spec.fill("replicas", 1);
        let strategy = spec.entry(&["strategy"]);
        strategy.fill_zero("type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate" {
            let rolling = strategy.entry(&["rollingUpdate"]);
            rolling.fill("maxUnavailable", "25%");
            rolling.fill("maxSurge", "25%");
        }
        spec.fill("revisionHistoryLimit", 10);
        spec.fill("progressDeadlineSeconds", 600);
        template::default(object, TEMPLATE);
    }

    fn prepare_create(&self, object: &mut Value) {
        template::prepare(object, None, TEMPLATE);
    }

    /// Annotations are copied to ReplicaSets, so that their changes are changes for the controller, too.
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        template::prepare(new, Some(old), TEMPLATE);
        let annotations = ["metadata", "annotations"];
        let empty = Map::new();
        if new.map_at(&annotations).unwrap_or(&empty) != old.map_at(&annotations).unwrap_or(&empty) {
            let generation = old.int_at(&["metadata", "generation"]).unwrap_or(0) + 1;
            new.set(&["metadata", "generation"], generation);
        }
    }

    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        match old.at(&["metadata", "labels"]) {
            Some(labels) => new.set(&["metadata", "labels"], labels.clone()),
            None => drop(new.remove(&["metadata", "labels"])),
        }
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

    fn validate_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("status");
        let status = new.get("status").unwrap_or(&Value::Null);
        let fields = [
            "observedGeneration",
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
            "unavailableReplicas",
            "terminatingReplicas",
            "collisionCount",
        ];
        template::counters(&mut errors, status, &path, &fields);
        let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
        template::not_greater(&mut errors, status, &path, &parts, ("replicas", "status.replicas"));
        let ready = ("readyReplicas", "readyReplicas");
        template::not_greater(&mut errors, status, &path, &["availableReplicas"], ready);
        template::collision_count(&mut errors, new, old);
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        template::named_warnings(new, old, TEMPLATE)
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let [containers, images] = template::container_cells(object.at(TEMPLATE));
        let selector = match Selector::from_value(object.at(&["spec", "selector"])) {
            Ok(selector) => format_smolstr!("{selector}"),
            Err(_) => "<invalid>".into(),
        };
        Some(vec![
            name(object),
            ready_cell(object),
            template::number_cell(object, &["status", "updatedReplicas"]),
            template::number_cell(object, &["status", "availableReplicas"]),
            time::age(object, now),
            containers,
            images,
            selector.into(),
        ])
    }
}

/// How many of the wanted pods are ready: `2/3`.
pub(super) fn ready_cell(object: &Value) -> Value {
    let number = |path: &[&str]| object.int_at(path).unwrap_or(0);
    format_smolstr!("{}/{}", number(&["status", "readyReplicas"]), number(&["spec", "replicas"])).into()
}

fn validate(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    let spec = object.get("spec").unwrap_or(&Value::Null);
    not_negative(&mut errors, &path.child("replicas"), spec.int("replicas"));
    selector_and_template(&mut errors, spec, old, &path);
    strategy(&mut errors, spec.get("strategy").unwrap_or(&Value::Null), &path.child("strategy"));
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        not_negative(&mut errors, &path.child(field), spec.int(field));
    }
    if let Some(deadline) = spec.int("progressDeadlineSeconds")
        && deadline <= spec.int("minReadySeconds").unwrap_or(0)
    {
        let why = "must be greater than minReadySeconds";
        errors.push(Error::invalid(&path.child("progressDeadlineSeconds"), deadline, why));
    }
    errors
}

/// The selector and the template of a Deployment or ReplicaSet.
pub(super) fn selector_and_template(errors: &mut ErrorList, spec: &Value, old: Option<&Value>, path: &Path<'_>) {
    let selector_path = path.child("selector");
    template::required_selector(errors, spec.get("selector"), &selector_path, "deployment");
    match Selector::from_value(spec.get("selector")) {
        Err(_) => {
            let selector = spec.get("selector").unwrap_or(&Value::Null);
            let selector = crate::meta::in_order(selector, api_types::meta("LabelSelector"));
            errors.push(Error::invalid(&selector_path, selector, "invalid label selector"));
        }
        Ok(selector) => template::long_running(
            errors,
            spec.get("template").unwrap_or(&Value::Null),
            &selector,
            "ReplicaSet",
            &path.child("template"),
            template::options(old, TEMPLATE),
        ),
    }
}

fn strategy(errors: &mut ErrorList, strategy: &Value, path: &Path<'_>) {
    let rolling_path = path.child("rollingUpdate");
    match (strategy.text("type"), strategy.get("rollingUpdate")) {
        ("Recreate", Some(_)) => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(Error::forbidden(&rolling_path, why));
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            errors.push(Error::required(&rolling_path, "this should be defaulted and never be nil"));
        }
        ("RollingUpdate", Some(rolling)) => rolling_update(errors, rolling, &rolling_path),
        _ => {
            let shown = internal(Some(strategy), "io.k8s.api.apps.v1.DeploymentStrategy");
            errors.push(Error::not_supported(path, shown, &["Recreate", "RollingUpdate"]));
        }
    }
}

fn rolling_update(errors: &mut ErrorList, rolling: &Value, path: &Path<'_>) {
    let zero = Value::Int(0);
    let [unavailable, surge] = ["maxUnavailable", "maxSurge"].map(|field| rolling.get(field).unwrap_or(&zero));
    let unavailable_path = path.child("maxUnavailable");
    errors.extend(int_or_string::validate_positive(unavailable, &unavailable_path));
    errors.extend(int_or_string::validate_positive(surge, &path.child("maxSurge")));
    if amount(unavailable) == 0 && amount(surge) == 0 {
        errors.push(Error::invalid(&unavailable_path, unavailable.clone(), "may not be 0 when `maxSurge` is 0"));
    }
    errors.extend(int_or_string::validate_not_more_than_100_percent(unavailable, &unavailable_path));
}

/// The number, or the number before the percent sign.
pub(super) fn amount(value: &Value) -> i64 {
    int_or_string::percent(Some(value)).unwrap_or_else(|| int_or_string::int(Some(value)))
}

/// Whether two templates are the same.
pub(super) fn same_template(new: &Value, old: &Value) -> bool {
    same(new.at(TEMPLATE), old.at(TEMPLATE))
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
    fn a_deployment_rolls_out_a_quarter_at_a_time() {
        defaults(
            &Deployment,
            r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
            r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"replicas":1,"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":"25%","maxSurge":"25%"}},"revisionHistoryLimit":10,"progressDeadlineSeconds":600,"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","imagePullPolicy":"Always","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#,
        );
    }

    #[test]
    fn selector_template_and_strategy_fit() {
        created(
            &Deployment,
            &base(),
            &expect![[r#"
                replicas = -1
                  spec.replicas: Invalid value: -1: must be greater than or equal to 0
                selector = null
                  spec.selector: Required value
                  spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
                selector = {}
                  spec.selector: Invalid value: {}: empty selector is invalid for deployment
                selector = {"matchLabels":{"a":"c"}}
                  spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
                selector = {"matchExpressions":[{"key":"a","operator":"X"}]}
                  spec.selector.matchExpressions[0].operator: Invalid value: "X": not a valid selector operator
                  spec.selector: Invalid value: {"matchExpressions":[{"key":"a","operator":"X"}]}: invalid label selector
                spec.template.spec.restartPolicy = "Never"
                  spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
                spec.template.spec.activeDeadlineSeconds = 5
                  spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported
                spec.template.spec.containers = []
                  spec.template.spec.containers: Required value
                spec.template.spec.ephemeralContainers = [{"name":"e","image":"i"}]
                  spec.template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template
                spec.template.metadata.labels = {"a":"b","x y":"z"}
                  spec.template.labels: Invalid value: "x y": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character
                strategy = {"type":"X"}
                  spec.strategy: Unsupported value: {"Type":"X","RollingUpdate":null}: supported values: "Recreate", "RollingUpdate"
                strategy = {"type":"Recreate","rollingUpdate":{"maxSurge":1}}
                  spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'
                strategy = {"rollingUpdate":{"maxSurge":0,"maxUnavailable":"0%"}}
                  spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0
                strategy = {"rollingUpdate":{"maxSurge":"x","maxUnavailable":"101%"}}
                  spec.strategy.rollingUpdate.maxSurge: Invalid value: "x": a valid percent string must be a numeric string followed by an ending '%'
                  spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "101%": must not be greater than 100%
                minReadySeconds = 600
                  spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds
                revisionHistoryLimit = -1
                  spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0
                metadata.name = "a.b"
                    metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [must not contain dots]
            "#]],
        );
    }

    #[test]
    fn the_selector_stays() {
        updated(
            &Deployment,
            &base(),
            "",
            &expect![[r#"
                selector = {"matchLabels":{"a":"c"}} ; spec.template.metadata.labels = {"a":"c"}
                  spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable
                spec.template.spec.containers[0].image = "j"
            "#]],
        );
    }

    #[test]
    fn statuses_add_up() {
        updated(
            &Deployment,
            &base(),
            "status",
            &expect![[r#"
                status = {"replicas":1,"updatedReplicas":2,"readyReplicas":1,"availableReplicas":2}
                  status.updatedReplicas: Invalid value: 2: cannot be greater than status.replicas
                  status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas
                  status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas
                status = {"observedGeneration":-1,"collisionCount":-1}
                  status.observedGeneration: Invalid value: -1: must be greater than or equal to 0
                  status.collisionCount: Invalid value: -1: must be greater than or equal to 0
            "#]],
        );
    }

    #[test]
    fn changed_annotations_are_a_new_generation() {
        let old = crate::checks::tests::json(r#"{"metadata":{"generation":3},"spec":{}}"#);
        let mut new = old.clone();
        new.set(&["metadata", "annotations", "a"], "b");
        Deployment.prepare_update(&mut new, &old);
        assert_eq!(new.int_at(&["metadata", "generation"]), Some(4));
    }

    #[test]
    fn cells_count_pods() {
        cells(
            &Deployment,
            r#"{"metadata":{"name":"x","creationTimestamp":"1970-01-01T00:00:00Z"},"spec":{"replicas":3,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}},"status":{"readyReplicas":1,"updatedReplicas":2,"availableReplicas":1}}"#,
            r#"["x","1/3",2,1,"0s","c","i","a=b"]"#,
        );
    }
}
