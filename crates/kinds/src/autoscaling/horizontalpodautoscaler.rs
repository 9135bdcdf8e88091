//! HorizontalPodAutoscaler: how many replicas a workload has, by what its metrics say.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::quantity::Quantity;

use crate::Kind;
use crate::checks::{default_field, invalid_text, name, not_negative, required_text, supported};
use crate::core::shared::check_container_resource_name;

const PERIOD_SECONDS_MAX: i64 = 1800;
const STABILIZATION_SECONDS_MAX: i64 = 3600;
/// How many metrics the Targets cell shows.
const METRICS_SHOWN_MAX: usize = 2;

pub(crate) struct HorizontalPodAutoscaler;

impl Kind for HorizontalPodAutoscaler {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "horizontalpodautoscalers"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        default_field(object, &["spec", "minReplicas"], 1);
        if is_v1(object) {
            return;
        }
        if object.list_at(&["spec", "metrics"]).is_empty() {
            object.set(&["spec", "metrics"], vec![cpu_utilization(Value::Int(80))]);
        }
        if object.at(&["spec", "behavior"]).is_some() {
            let policy = |policy_type: &str, value: i64| {
                Value::from([("type", Value::str(policy_type)), ("value", value.into()), ("periodSeconds", 15.into())])
            };
            let (up, down) = (["spec", "behavior", "scaleUp"], ["spec", "behavior", "scaleDown"]);
            default_rules(object, &up, vec![policy("Pods", 4), policy("Percent", 100)]);
            default_field(object, &["spec", "behavior", "scaleUp", "stabilizationWindowSeconds"], 0);
            default_rules(object, &down, vec![policy("Percent", 100)]);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if !is_v1(object) {
            super::convert::drop_annotations(object);
        }
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        if !is_v1(new) {
            super::convert::drop_annotations(new);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(&as_v2(object), None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        check(&as_v2(new), Some(&as_v2(old)))
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        for field in ["currentReplicas", "desiredReplicas"] {
            let path = Path::new("status");
            not_negative(&mut errors, &path.child(field), new.int_at(&["status", field]));
        }
        errors
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let object = as_v2(object);
        let target = ["spec", "scaleTargetRef"];
        let reference = object
            .at(&target)
            .map_or_else(String::new, |target| format!("{}/{}", target.str_at(&["kind"]), target.str_at(&["name"])));
        let least = object.int_at(&["spec", "minReplicas"]).map_or("<unset>".to_owned(), |least| least.to_string());
        Some(vec![
            name(&object),
            reference.into(),
            targets(&object).into(),
            least.into(),
            object.int_at(&["spec", "maxReplicas"]).unwrap_or(0).into(),
            object.int_at(&["status", "currentReplicas"]).unwrap_or(0).into(),
            api_semantics::time::age(&object, now),
        ])
    }
}

fn is_v1(object: &Value) -> bool {
    object.str_at(&["apiVersion"]) == "autoscaling/v1"
}

/// Rules and cells are those of v2.
fn as_v2(object: &Value) -> Value {
    if is_v1(object) { super::convert::to_v2(object.clone()) } else { object.clone() }
}

/// The metric that an autoscaler without any has.
pub(super) fn cpu_utilization(percent: Value) -> Value {
    let mut metric = Value::default();
    metric.set(&["type"], "Resource");
    metric.set(&["resource", "name"], "cpu");
    metric.set(&["resource", "target", "type"], "Utilization");
    metric.set(&["resource", "target", "averageUtilization"], percent);
    metric
}

/// Whether a metric is the one that v1 has a field for.
pub(super) fn is_cpu_utilization(metric: &Value) -> bool {
    metric.str_at(&["type"]) == "Resource"
        && metric.str_at(&["resource", "name"]) == "cpu"
        && metric.at(&["resource", "target", "averageUtilization"]).is_some()
}

fn default_rules(object: &mut Value, path: &[&str; 3], policies: Vec<Value>) {
    let [spec, behavior, rules] = *path;
    object.entry(path).make_map();
    default_field(object, &[spec, behavior, rules, "selectPolicy"], "Max");
    // An empty list that the client wrote stays, and is refused.
    default_field(object, &[spec, behavior, rules, "policies"], policies);
}

fn targets(object: &Value) -> String {
    let metrics = object.list_at(&["spec", "metrics"]);
    if metrics.is_empty() {
        return "<none>".into();
    }
    let statuses = object.list_at(&["status", "currentMetrics"]);
    let empty = Value::default();
    let shown: Vec<String> = metrics
        .iter()
        .enumerate()
        .take(METRICS_SHOWN_MAX)
        .map(|(index, metric)| target(metric, statuses.get(index).unwrap_or(&empty)))
        .collect();
    match (shown.join(", "), metrics.len()) {
        (shown, count) if count > METRICS_SHOWN_MAX => format!("{shown} + {} more...", count - METRICS_SHOWN_MAX),
        (shown, _) => shown,
    }
}

fn target(metric: &Value, status: &Value) -> String {
    let source = match metric.str_at(&["type"]) {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".into(),
    };
    let wanted = |field: &str| metric.at(&[source, "target", field]).and_then(Value::as_str);
    let current = |field: &str| status.at(&[source, "current", field]).and_then(Value::as_str).unwrap_or("<unknown>");
    // Quantities that are there in Go but empty show as zero.
    let zero = |text: Option<&str>| text.unwrap_or("0").to_owned();
    match source {
        "pods" => format!("{}/{}", current("averageValue"), zero(wanted("averageValue"))),
        "external" | "object" => match wanted("averageValue") {
            Some(average) => format!("{}/{average} (avg)", current("averageValue")),
            None => format!("{}/{}", current("value"), zero(wanted("value"))),
        },
        _ => {
            let resource = metric.str_at(&[source, "name"]);
            if let Some(average) = wanted("averageValue") {
                return format!("{resource}: {}/{average}", current("averageValue"));
            }
            let percent = |value: Option<i64>, other: &str| value.map_or(other.to_owned(), |value| format!("{value}%"));
            format!(
                "{resource}: {}/{}",
                percent(status.int_at(&[source, "current", "averageUtilization"]), "<unknown>"),
                percent(metric.int_at(&[source, "target", "averageUtilization"]), "<auto>")
            )
        }
    }
}

fn check(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    // Who scales to zero may go on doing so.
    let least = if old.and_then(|old| old.int_at(&["spec", "minReplicas"])) == Some(0) { 0 } else { 1 };
    let spec = Path::new("spec");
    let min = object.int_at(&["spec", "minReplicas"]);
    let max = object.int_at(&["spec", "maxReplicas"]).unwrap_or(0);
    if let Some(min) = min.filter(|min| *min < least) {
        let why = format!("must be greater than or equal to {least}");
        errors.push(Error::invalid(&spec.child("minReplicas"), min, why));
    }
    if max == 0 {
        errors.push(Error::required(&spec.child("maxReplicas"), "must be set and greater than 0"));
    } else if max < 0 {
        errors.push(Error::invalid(&spec.child("maxReplicas"), max, "must be greater than or equal to 1"));
    }
    if min.is_some_and(|min| max < min) {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(Error::invalid(&spec.child("maxReplicas"), max, why));
    }
    let nothing = Value::default();
    let target = object.at(&["spec", "scaleTargetRef"]).unwrap_or(&nothing);
    check_reference(&mut errors, &spec.child("scaleTargetRef"), target, target_rule(target, old));
    let object_rule = match old.map(|old| old.list_at(&["spec", "metrics"])).unwrap_or_default() {
        old if old.iter().any(has_bad_object) => ApiVersion::Any,
        _ => ApiVersion::GroupOrCore,
    };
    let metrics = object.list_at(&["spec", "metrics"]);
    let metrics_path = spec.child("metrics");
    for (index, metric) in metrics.iter().enumerate() {
        check_metric(&mut errors, &metrics_path.index(index), metric, object_rule);
    }
    let from_outside = |metric: &Value| matches!(metric.str_at(&["type"]), "Object" | "External");
    if min == Some(0) && !metrics.iter().any(from_outside) {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.push(Error::forbidden(&metrics_path, why));
    }
    let behavior_path = spec.child("behavior");
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = object.at(&["spec", "behavior", direction]) {
            check_rules(&mut errors, &behavior_path.child(direction), rules);
        }
    }
    errors
}

/// What the apiVersion of a reference may be.
#[derive(Clone, Copy, PartialEq)]
enum ApiVersion {
    /// As it was.
    Any,
    /// Of any group.
    GroupOrCore,
    /// Of a group other than core.
    Group,
}

impl ApiVersion {
    fn check(self, api_version: &str) -> Option<String> {
        if self == Self::Any {
            return None;
        }
        match api_version.matches('/').count() {
            0 | 1 if self == Self::GroupOrCore => None,
            0 => Some("apiVersion must specify API group".into()),
            1 if api_version.starts_with('/') => Some("apiVersion must specify API group".into()),
            1 => None,
            _ => Some(format!("unexpected GroupVersion string: {api_version}")),
        }
    }
}

/// An autoscaler may keep a target without a group; of the workloads, only ReplicationControllers are of core.
fn target_rule(target: &Value, old: Option<&Value>) -> ApiVersion {
    let is_as_before = |old: &Value| {
        let path = |field| ["spec", "scaleTargetRef", field];
        ["apiVersion", "kind"].iter().all(|field| old.str_at(&path(field)) == target.str_at(&[field]))
    };
    match old {
        Some(old) if is_as_before(old) => ApiVersion::Any,
        _ if target.str_at(&["kind"]) == "ReplicationController" => ApiVersion::GroupOrCore,
        _ => ApiVersion::Group,
    }
}

fn has_bad_object(metric: &Value) -> bool {
    let object = metric.at(&["object", "describedObject"]).filter(|_| metric.str_at(&["type"]) == "Object");
    object.is_some_and(|object| ApiVersion::GroupOrCore.check(object.str_at(&["apiVersion"])).is_some())
}

fn check_reference(errors: &mut ErrorList, path: &Path<'_>, reference: &Value, rule: ApiVersion) {
    for field in ["kind", "name"] {
        let text = required_text(errors, path, reference, field);
        if !text.is_empty() {
            invalid_text(errors, &path.child(field), text, names::path_segment_name(text, false));
        }
    }
    let api_version = reference.str_at(&["apiVersion"]);
    if let Some(why) = rule.check(api_version) {
        errors.push(Error::invalid(&path.child("apiVersion"), api_version, why));
    }
}

fn check_rules(errors: &mut ErrorList, path: &Path<'_>, rules: &Value) {
    let window_path = path.child("stabilizationWindowSeconds");
    if let Some(window) = rules.int_at(&["stabilizationWindowSeconds"]) {
        if window < 0 {
            errors.push(Error::invalid(&window_path, window, "must be greater than or equal to zero"));
        }
        if window > STABILIZATION_SECONDS_MAX {
            let why = format!("must be less than or equal to {STABILIZATION_SECONDS_MAX}");
            errors.push(Error::invalid(&window_path, window, why));
        }
    }
    if let Some(select) = rules.get("selectPolicy").and_then(Value::as_str) {
        supported(errors, &path.child("selectPolicy"), select, &["Disabled", "Max", "Min"]);
    }
    let policies_path = path.child("policies");
    let policies = rules.list_at(&["policies"]);
    if policies.is_empty() {
        errors.push(Error::required(&policies_path, "must specify at least one Policy"));
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = policies_path.index(index);
        supported(errors, &path.child("type"), policy.str_at(&["type"]), &["Percent", "Pods"]);
        for field in ["value", "periodSeconds"] {
            let number = policy.int_at(&[field]).unwrap_or(0);
            if number <= 0 {
                errors.push(Error::invalid(&path.child(field), number, "must be greater than zero"));
            }
            if field == "periodSeconds" && number > PERIOD_SECONDS_MAX {
                let why = format!("must be less than or equal to {PERIOD_SECONDS_MAX}");
                errors.push(Error::invalid(&path.child(field), number, why));
            }
        }
    }
    if let Some(tolerance) = rules.get("tolerance").and_then(Value::as_str)
        && Quantity::parse(tolerance).is_ok_and(|quantity| quantity.sign() < 0)
    {
        errors.push(Error::invalid(&path.child("tolerance"), tolerance, names::NEGATIVE));
    }
}

/// The metric types and the fields of their sources, sorted by type; sources are looked at in [`SOURCES`]' order.
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];
const SOURCES: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

fn check_metric(errors: &mut ErrorList, path: &Path<'_>, metric: &Value, object_rule: ApiVersion) {
    let metric_type = metric.str_at(&["type"]);
    let type_path = path.child("type");
    if metric_type.is_empty() {
        errors.push(Error::required(&type_path, "must specify a metric source type"));
    }
    supported(errors, &type_path, metric_type, &TYPES);
    let mut present: Vec<&str> = SOURCES.iter().map(|(field, _)| *field).filter(|f| metric.get(f).is_some()).collect();
    if let Some(source) = present.first() {
        let source_path = path.child(source);
        check_source(errors, &source_path, source, metric.get(source).unwrap_or(&Value::Null), object_rule);
    }
    match SOURCES.iter().find(|(_, source_type)| *source_type == metric_type) {
        Some((expected, _)) => {
            if metric.get(expected).is_none() {
                let why = "must populate information for the given metric source";
                errors.push(Error::required(&path.child(expected), why));
            }
            if present.len() != 1 {
                present.retain(|field| field != expected);
                let why = "must populate the given metric source only";
                errors.extend(present.iter().map(|field| Error::forbidden(&path.child(field), why)));
            }
        }
        None => {
            supported(errors, &type_path, metric_type, &TYPES);
            if present.len() != 1 {
                let why = "must populate the given metric source only";
                errors.extend(present.iter().map(|field| Error::forbidden(&path.child(field), why)));
            }
        }
    }
}

fn check_source(errors: &mut ErrorList, path: &Path<'_>, source: &str, value: &Value, object_rule: ApiVersion) {
    let nothing = Value::default();
    let target = value.get("target").unwrap_or(&nothing);
    let target_path = path.child("target");
    let has = |field: &str| target.get(field).is_some();
    match source {
        "object" | "external" | "pods" => {
            if source == "object" {
                let described = value.get("describedObject").unwrap_or(&nothing);
                check_reference(errors, &path.child("describedObject"), described, object_rule);
            }
            let metric_path = path.child("metric");
            let metric_name = value.str_at(&["metric", "name"]);
            if metric_name.is_empty() {
                errors.push(Error::required(&metric_path.child("name"), "must specify a metric name"));
            } else {
                let wrong = names::path_segment_name(metric_name, false);
                invalid_text(errors, &metric_path.child("name"), metric_name, wrong);
            }
            check_target(errors, &target_path, target);
            let average_path = target_path.child("averageValue");
            match source {
                "object" if !has("value") && !has("averageValue") => {
                    errors.push(Error::required(&average_path, "must set either a target value or averageValue"));
                }
                "external" if !has("value") && !has("averageValue") => {
                    let why = "must set either a target value for metric or a per-pod target";
                    errors.push(Error::required(&average_path, why));
                }
                "external" if has("value") && has("averageValue") => {
                    let why = "may not set both a target value for metric and a per-pod target";
                    errors.push(Error::forbidden(&target_path.child("value"), why));
                }
                "pods" if !has("averageValue") => {
                    errors.push(Error::required(&average_path, "must specify a positive target averageValue"));
                }
                _ => {}
            }
        }
        _ => {
            let resource = value.str_at(&["name"]);
            if resource.is_empty() {
                errors.push(Error::required(&path.child("name"), "must specify a resource name"));
            } else if source == "containerResource" {
                check_container_resource_name(errors, resource, &path.child("name"));
            }
            if source == "containerResource" {
                let container = value.str_at(&["container"]);
                let container_path = path.child("container");
                if container.is_empty() {
                    errors.push(Error::required(&container_path, "must specify a container"));
                } else {
                    invalid_text(errors, &container_path, container, names::dns1123_label(container, false));
                }
            }
            check_target(errors, &target_path, target);
            match (has("averageUtilization"), has("averageValue")) {
                (false, false) => {
                    let why = "must set either a target raw value or a target utilization";
                    errors.push(Error::required(&target_path.child("averageUtilization"), why));
                }
                (true, true) => {
                    let why = "may not set both a target raw value and a target utilization";
                    errors.push(Error::forbidden(&target_path.child("averageValue"), why));
                }
                _ => {}
            }
        }
    }
}

fn check_target(errors: &mut ErrorList, path: &Path<'_>, target: &Value) {
    let target_type = target.str_at(&["type"]);
    let type_path = path.child("type");
    if target_type.is_empty() {
        errors.push(Error::required(&type_path, "must specify a metric target type"));
    }
    if !matches!(target_type, "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        errors.push(Error::invalid(&type_path, target_type, why));
    }
    for field in ["value", "averageValue"] {
        if let Some(text) = target.get(field).and_then(Value::as_str)
            && Quantity::parse(text).is_ok_and(|quantity| quantity.sign() != 1)
        {
            errors.push(Error::invalid(&path.child(field), text, "must be positive"));
        }
    }
    if let Some(percent) = target.int_at(&["averageUtilization"]).filter(|percent| *percent < 1) {
        errors.push(Error::invalid(&path.child("averageUtilization"), percent, "must be greater than 0"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, update, update_status};

    fn with(spec: &str) -> String {
        format!(
            r#"{{"spec":{{"scaleTargetRef":{{"apiVersion":"apps/v1","kind":"Deployment","name":"d"}},"maxReplicas":3{spec}}}}}"#
        )
    }

    #[test]
    fn one_replica_and_eighty_percent_of_cpu_unless_it_says_otherwise() {
        defaults(
            &HorizontalPodAutoscaler,
            r#"{"spec":{"maxReplicas":3}}"#,
            r#"{"spec":{"maxReplicas":3,"minReplicas":1,"metrics":[{"type":"Resource","resource":{"name":"cpu",
                "target":{"type":"Utilization","averageUtilization":80}}}]}}"#,
        );
        defaults(
            &HorizontalPodAutoscaler,
            r#"{"apiVersion":"autoscaling/v1","spec":{"maxReplicas":3}}"#,
            r#"{"apiVersion":"autoscaling/v1","spec":{"maxReplicas":3,"minReplicas":1}}"#,
        );
        defaults(
            &HorizontalPodAutoscaler,
            r#"{"spec":{"minReplicas":2,"metrics":[{"type":"X"}],"behavior":{"scaleDown":{"selectPolicy":"Min"}}}}"#,
            r#"{"spec":{"minReplicas":2,"metrics":[{"type":"X"}],"behavior":{
                "scaleUp":{"stabilizationWindowSeconds":0,"selectPolicy":"Max","policies":[
                    {"type":"Pods","value":4,"periodSeconds":15},{"type":"Percent","value":100,"periodSeconds":15}]},
                "scaleDown":{"selectPolicy":"Min","policies":[{"type":"Percent","value":100,"periodSeconds":15}]}}}}"#,
        );
    }

    #[test]
    fn there_are_more_at_most_than_at_least() {
        for (object, expect) in [
            (with(""), ""),
            (
                with(r#","minReplicas":4"#),
                "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`",
            ),
            (
                with(r#","minReplicas":0"#),
                "spec.minReplicas: Invalid value: 0: must be greater than or equal to 1\n\
                 spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to \
                 zero replicas",
            ),
            (
                r#"{"spec":{"scaleTargetRef":{"kind":"","name":"a/b"},"maxReplicas":0}}"#.to_owned(),
                "spec.maxReplicas: Required value: must be set and greater than 0\n\
                 spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`\n\
                 spec.scaleTargetRef.kind: Required value\n\
                 spec.scaleTargetRef.name: Invalid value: \"a/b\": may not contain '/'\n\
                 spec.scaleTargetRef.apiVersion: Invalid value: \"\": apiVersion must specify API group",
            ),
        ] {
            create(&HorizontalPodAutoscaler, &object, expect);
        }
        let metric = r#""metrics":[{"type":"External","external":{"metric":{"name":"m"},
            "target":{"type":"Value","value":"1"}}}]"#;
        let zero = with(&format!(r#","minReplicas":0,{metric}"#));
        update(&HorizontalPodAutoscaler, &zero, &zero, "");
    }

    #[test]
    fn a_metric_has_the_source_of_its_type() {
        for (metric, expect) in [
            (
                r#"{"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"1"}}}"#,
                "",
            ),
            (
                r#"{"type":"Odd"}"#,
                "spec.metrics[0].type: Unsupported value: \"Odd\": supported values: \"ContainerResource\", \
                 \"External\", \"Object\", \"Pods\", \"Resource\"\n\
                 spec.metrics[0].type: Unsupported value: \"Odd\": supported values: \"ContainerResource\", \
                 \"External\", \"Object\", \"Pods\", \"Resource\"",
            ),
            (
                r#"{"type":"Pods"}"#,
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ),
            (
                r#"{"type":"Pods","pods":{"metric":{"name":"m"},"target":{"type":"AverageValue","averageValue":"1"}},
                    "resource":{"name":"cpu"}}"#,
                "spec.metrics[0].resource: Forbidden: must populate the given metric source only",
            ),
            (
                r#"{"type":"Resource","resource":{"name":"","target":{"type":"Odd","averageUtilization":0}}}"#,
                "spec.metrics[0].resource.name: Required value: must specify a resource name\n\
                 spec.metrics[0].resource.target.type: Invalid value: \"Odd\": must be either Utilization, Value, or \
                 AverageValue\n\
                 spec.metrics[0].resource.target.averageUtilization: Invalid value: 0: must be greater than 0",
            ),
            (
                r#"{"type":"Resource","resource":{"name":"cpu","target":{"type":"Value"}}}"#,
                "spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value \
                 or a target utilization",
            ),
            (
                r#"{"type":"External","external":{"metric":{"name":""},
                    "target":{"type":"Value","value":"0","averageValue":"1"}}}"#,
                "spec.metrics[0].external.metric.name: Required value: must specify a metric name\n\
                 spec.metrics[0].external.target.value: Invalid value: \"0\": must be positive\n\
                 spec.metrics[0].external.target.value: Forbidden: may not set both a target value for metric and a \
                 per-pod target",
            ),
            (
                r#"{"type":"ContainerResource","containerResource":{"name":"cpus","container":"a",
                    "target":{"type":"Utilization","averageUtilization":1}}}"#,
                "spec.metrics[0].containerResource.name: Invalid value: \"cpus\": must be a standard resource type or \
                 fully qualified\n\
                 spec.metrics[0].containerResource.name: Invalid value: \"cpus\": must be a standard resource for \
                 containers",
            ),
            (
                r#"{"type":"ContainerResource","containerResource":{"name":"cpu","container":"",
                    "target":{"type":"Utilization","averageUtilization":1}}}"#,
                "spec.metrics[0].containerResource.container: Required value: must specify a container",
            ),
        ] {
            create(&HorizontalPodAutoscaler, &with(&format!(r#","metrics":[{metric}]"#)), expect);
        }
    }

    #[test]
    fn scaling_is_bounded() {
        for (rules, expect) in [
            ("{}", ""),
            (
                r#"{"stabilizationWindowSeconds":3601,"selectPolicy":"Odd","policies":[]}"#,
                "spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 3601: must be less than or equal to \
                 3600\n\
                 spec.behavior.scaleUp.selectPolicy: Unsupported value: \"Odd\": supported values: \"Disabled\", \
                 \"Max\", \"Min\"\n\
                 spec.behavior.scaleUp.policies: Required value: must specify at least one Policy",
            ),
            (
                r#"{"policies":[{"type":"Odd","value":0,"periodSeconds":1801}]}"#,
                "spec.behavior.scaleUp.policies[0].type: Unsupported value: \"Odd\": supported values: \"Percent\", \
                 \"Pods\"\n\
                 spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero\n\
                 spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 1801: must be less than or equal to \
                 1800",
            ),
            (
                r#"{"tolerance":"-1"}"#,
                "spec.behavior.scaleUp.tolerance: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
        ] {
            create(&HorizontalPodAutoscaler, &with(&format!(r#","behavior":{{"scaleUp":{rules}}}"#)), expect);
        }
    }

    #[test]
    fn counts_are_not_negative() {
        update_status(
            &HorizontalPodAutoscaler,
            "{}",
            r#"{"status":{"currentReplicas":-1,"desiredReplicas":-2}}"#,
            "status.currentReplicas: Invalid value: -1: must be greater than or equal to 0\n\
             status.desiredReplicas: Invalid value: -2: must be greater than or equal to 0",
        );
    }

    #[test]
    fn cells_show_targets() {
        for (metrics, current, expect) in [
            ("", "", "<none>"),
            (
                r#"{"type":"Resource","resource":{"name":"cpu","target":{"averageUtilization":80}}}"#,
                "",
                "cpu: <unknown>/80%",
            ),
            (
                r#"{"type":"Resource","resource":{"name":"cpu","target":{"averageUtilization":80}}}"#,
                r#"{"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":7,"averageValue":"1m"}}}"#,
                "cpu: 7%/80%",
            ),
            (
                r#"{"type":"Pods","pods":{"target":{"averageValue":"1"}}},
                   {"type":"Object","object":{"target":{"value":"2"}}},
                   {"type":"External","external":{"target":{"averageValue":"3"}}}"#,
                r#"{"type":"Pods","pods":{"current":{"averageValue":"500m"}}},
                   {"type":"Object","object":{"current":{"value":"1"}}}"#,
                "500m/1, 1/2 + 1 more...",
            ),
            (
                r#"{"type":"External","external":{"target":{"averageValue":"3"}}},
                   {"type":"ContainerResource","containerResource":{"name":"memory","target":{"averageValue":"1Gi"}}}"#,
                "",
                "<unknown>/3 (avg), memory: <unknown>/1Gi",
            ),
        ] {
            cells(
                &HorizontalPodAutoscaler,
                &format!(
                    r#"{{"metadata":{{"name":"h"}},"spec":{{"scaleTargetRef":{{"kind":"Deployment","name":"d"}},
                        "minReplicas":1,"maxReplicas":3,"metrics":[{metrics}]}},
                        "status":{{"currentReplicas":2,"currentMetrics":[{current}]}}}}"#
                ),
                &format!(r#"["h","Deployment/d","{expect}","1",3,2,"<unknown>"]"#),
            );
        }
    }
}
