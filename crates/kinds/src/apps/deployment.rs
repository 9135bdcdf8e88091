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
            let selector = spec.get("selector").cloned().unwrap_or_default();
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
