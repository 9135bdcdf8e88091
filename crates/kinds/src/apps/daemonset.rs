//! DaemonSet: one pod on each node that fits.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::selector::{self, Leniency, Selector};
use api_semantics::{int_or_string, time};

use super::deployment::{amount, same_template};
use crate::Kind;
use crate::checks::{immutable, internal, name, not_negative};
use crate::core::pod::look::{Fill, Look};
use crate::core::pod::template::{self, TEMPLATE};
use crate::core::pod::validate as pod_validate;

pub(crate) struct DaemonSet;

/// Counts the changes of the template: upstream's internal field, which clients see as an annotation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(object: &Value) -> Option<i64> {
    object.str_at(&["metadata", "annotations", TEMPLATE_GENERATION]).parse().ok()
}

fn set_template_generation(object: &mut Value, generation: i64) {
    object.set(&["metadata", "annotations", TEMPLATE_GENERATION], generation.to_string());
}

impl Kind for DaemonSet {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "daemonsets"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        let spec = object.entry(&["spec"]);
        let strategy = spec.entry(&["updateStrategy"]);
        strategy.fill_zero("type", "RollingUpdate");
        if strategy.text("type") == "RollingUpdate" {
            let rolling = strategy.entry(&["rollingUpdate"]);
            rolling.fill("maxUnavailable", 1);
        }
        strategy.with("rollingUpdate", |rolling| {
            rolling.fill("maxUnavailable", 0);
            rolling.fill("maxSurge", 0);
        });
        spec.fill("revisionHistoryLimit", 10);
        template::default(object, TEMPLATE);
    }

    fn prepare_create(&self, object: &mut Value) {
        let generation = template_generation(object).unwrap_or(0).max(1);
        set_template_generation(object, generation);
        template::prepare(object, None, TEMPLATE);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        template::prepare(new, Some(old), TEMPLATE);
        let generation = template_generation(old).unwrap_or(0);
        let changes = i64::from(!same_template(new, old));
        set_template_generation(new, generation + changes);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        validate(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let selector = ["spec", "selector"];
        immutable(&mut errors, &Path::new("spec.selector"), new.at(&selector), old.at(&selector));
        errors.extend(validate(new, Some(old)));
        errors
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let fields = [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
            "observedGeneration",
            "updatedNumberScheduled",
            "numberAvailable",
            "numberUnavailable",
            "collisionCount",
        ];
        template::counters(&mut errors, new.get("status").unwrap_or(&Value::Null), &Path::new("status"), &fields);
        template::collision_count(&mut errors, new, old);
        errors
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let unchanged = old.is_some_and(|old| template_generation(old) == template_generation(new));
        if unchanged { Vec::new() } else { template::template_warnings(new, None, TEMPLATE) }
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let [containers, images] = template::container_cells(object.at(TEMPLATE));
        let status = |field: &str| template::number_cell(object, &["status", field]);
        Some(vec![
            name(object),
            status("desiredNumberScheduled"),
            status("currentNumberScheduled"),
            status("numberReady"),
            status("updatedNumberScheduled"),
            status("numberAvailable"),
            template::labels_cell(object.map_at(&["spec", "template", "spec", "nodeSelector"])),
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
    let (selector, selector_path) = (spec.get("selector"), path.child("selector"));
    let old_selector = old.and_then(|old| old.at(&["spec", "selector"]));
    let lenient = Leniency { invalid_values: selector::has_invalid_values(old_selector), ..Leniency::default() };
    errors.extend(selector::validate(selector, &selector_path, lenient));
    let (pod_template, template_path) = (spec.get("template").unwrap_or(&Value::Null), path.child("template"));
    if let Ok(selector) = Selector::from_value(selector) {
        template::matches_selector(&mut errors, pod_template, &selector, &template_path);
    }
    if let Some(selector) = selector.filter(|selector| template::selects_nothing_in_particular(selector)) {
        let why = "empty selector is invalid for daemonset";
        errors.push(Error::invalid(&selector_path, selector.clone(), why));
    }
    pod_validate::template(&mut errors, pod_template, &template_path, template::options(old, TEMPLATE));
    template::restarts_always(&mut errors, pod_template, "DaemonSet", &template_path);
    not_negative(&mut errors, &path.child("minReadySeconds"), spec.int("minReadySeconds"));
    not_negative(&mut errors, &path.child("templateGeneration"), template_generation(object));
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    update_strategy(&mut errors, strategy, &path.child("updateStrategy"));
    not_negative(&mut errors, &path.child("revisionHistoryLimit"), spec.int("revisionHistoryLimit"));
    errors
}

fn update_strategy(errors: &mut ErrorList, strategy: &Value, path: &Path<'_>) {
    let rolling_path = path.child("rollingUpdate");
    match (strategy.text("type"), strategy.get("rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.push(Error::required(&rolling_path, "")),
        ("RollingUpdate", Some(rolling)) => rolling_update(errors, rolling, &rolling_path),
        _ => {
            let shown = internal(Some(strategy), "io.k8s.api.apps.v1.DaemonSetUpdateStrategy");
            errors.push(Error::not_supported(path, shown, &["RollingUpdate", "OnDelete"]));
        }
    }
}

fn rolling_update(errors: &mut ErrorList, rolling: &Value, path: &Path<'_>) {
    let zero = Value::Int(0);
    let values = ["maxUnavailable", "maxSurge"].map(|field| (field, rolling.get(field).unwrap_or(&zero)));
    for (field, value) in values {
        errors.extend(int_or_string::validate_positive(value, &path.child(field)));
    }
    for (field, value) in values {
        errors.extend(int_or_string::validate_not_more_than_100_percent(value, &path.child(field)));
    }
    let [(_, unavailable), (_, surge)] = values;
    match (amount(unavailable) != 0, amount(surge) != 0) {
        (true, true) => {
            let why = "may not be set when maxUnavailable is non-zero";
            errors.push(Error::invalid(&path.child("maxSurge"), surge.clone(), why));
        }
        (false, false) => {
            errors.push(Error::required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0"));
        }
        _ => {}
    }
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
    fn one_pod_is_replaced_at_a_time() {
        defaults(
            &DaemonSet,
            r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
            r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"updateStrategy":{"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":1,"maxSurge":0}},"revisionHistoryLimit":10,"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","imagePullPolicy":"Always","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#,
        );
    }

    #[test]
    fn selector_template_and_strategy_fit() {
        created(
            &DaemonSet,
            &base(),
            &expect![[r#"
                selector = null
                  spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
                selector = {}
                  spec.selector: Invalid value: {}: empty selector is invalid for daemonset
                selector = {"matchLabels":{"a":"c"}}
                  spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`
                spec.template.spec.restartPolicy = "Never"
                  spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"
                updateStrategy = {"type":"X"}
                  spec.updateStrategy: Unsupported value: {"Type":"X","RollingUpdate":null}: supported values: "RollingUpdate", "OnDelete"
                updateStrategy = {"rollingUpdate":{"maxSurge":1,"maxUnavailable":1}}
                  spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero
                updateStrategy = {"rollingUpdate":{"maxUnavailable":0}}
                  spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0
                updateStrategy = {"rollingUpdate":{"maxSurge":"101%","maxUnavailable":-1}}
                  spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: -1: must be greater than or equal to 0
                  spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "101%": must not be greater than 100%
                  spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "101%": may not be set when maxUnavailable is non-zero
                minReadySeconds = -1
                  spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0
            "#]],
        );
    }

    #[test]
    fn the_selector_stays() {
        updated(
            &DaemonSet,
            &base(),
            "",
            &expect![[r#"
                selector = {"matchLabels":{"a":"c"}} ; spec.template.metadata.labels = {"a":"c"}
                  spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable
            "#]],
        );
    }

    #[test]
    fn statuses_count() {
        updated(
            &DaemonSet,
            &base(),
            "status",
            &expect![[r#"
                status = {"currentNumberScheduled":-1,"numberMisscheduled":-1,"desiredNumberScheduled":-1,"numberReady":-1,"collisionCount":-1}
                  status.currentNumberScheduled: Invalid value: -1: must be greater than or equal to 0
                  status.numberMisscheduled: Invalid value: -1: must be greater than or equal to 0
                  status.desiredNumberScheduled: Invalid value: -1: must be greater than or equal to 0
                  status.numberReady: Invalid value: -1: must be greater than or equal to 0
                  status.collisionCount: Invalid value: -1: must be greater than or equal to 0
            "#]],
        );
    }

    #[test]
    fn cells_count_pods() {
        cells(
            &DaemonSet,
            r#"{"metadata":{"name":"x","creationTimestamp":"1970-01-01T00:00:00Z"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}},"status":{"desiredNumberScheduled":4,"currentNumberScheduled":3,"numberReady":2,"updatedNumberScheduled":1,"numberAvailable":2}}"#,
            r#"["x",4,3,2,1,2,"<none>","0s","c","i","a=b"]"#,
        );
    }
}
