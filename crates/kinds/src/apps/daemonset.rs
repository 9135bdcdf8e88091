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
