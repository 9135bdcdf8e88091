//! HorizontalPodAutoscaler of v1 and v2. v1 knows CPU only: what else a v2 object says travels in annotations, in the
//! form that upstream gives it.

use api_codec::json::{self, Options};
use api_schema::{Map, SmolStr, Value};

use super::horizontalpodautoscaler::{cpu_utilization, is_cpu_utilization};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The scaling rules of `behavior`, as upstream's internal types call them: they have no JSON names.
const RULES: [(&str, &str); 4] = [
    ("stabilizationWindowSeconds", "StabilizationWindowSeconds"),
    ("selectPolicy", "SelectPolicy"),
    ("policies", "Policies"),
    ("tolerance", "Tolerance"),
];
const POLICY: [(&str, &str); 3] = [("type", "Type"), ("value", "Value"), ("periodSeconds", "PeriodSeconds")];

/// A v1 autoscaler as v2 has it.
pub(crate) fn to_v2(mut object: Value) -> Value {
    let annotation =
        |object: &Value, key: &str| object.map_at(&["metadata", "annotations"])?.get(key)?.as_str().map(SmolStr::new);
    let mut metrics = Vec::new();
    if let Some(text) = annotation(&object, METRICS) {
        metrics.extend(read_list(&text, "MetricSpec").into_iter().flatten().map(metric_spec_to_v2));
    }
    if let Some(percent) = object.remove(&["spec", "targetCPUUtilizationPercentage"]) {
        metrics.push(cpu_utilization(percent));
    }
    // v1 has always meant 80 percent of CPU where nothing is said.
    if metrics.is_empty() {
        metrics.push(cpu_utilization(Value::Int(80)));
    }
    object.set(&["spec", "metrics"], metrics);
    if let Some(behavior) = annotation(&object, BEHAVIOR).and_then(|text| read_behavior(&text)) {
        object.set(&["spec", "behavior"], behavior);
    }

    if let Some(percent) = object.remove(&["status", "currentCPUUtilizationPercentage"]) {
        let mut metric = Value::default();
        metric.set(&["type"], "Resource");
        metric.set(&["resource", "name"], "cpu");
        metric.set(&["resource", "current", "averageUtilization"], percent);
        object.set(&["status", "currentMetrics"], vec![metric]);
    }
    if let Some(statuses) = annotation(&object, CURRENT_METRICS).and_then(|text| read_list(&text, "MetricStatus")) {
        object.set(&["status", "currentMetrics"], statuses.into_iter().map(metric_status_to_v2).collect::<Vec<_>>());
    }
    let conditions = annotation(&object, CONDITIONS);
    if let Some(conditions) = conditions.and_then(|text| read_list(&text, "HorizontalPodAutoscalerCondition")) {
        object.set(&["status", "conditions"], conditions);
    }
    drop_annotations(&mut object);
    normalised(object, "v2")
}

/// A v2 autoscaler as v1 has it.
pub(crate) fn to_v1(mut object: Value) -> Value {
    drop_annotations(&mut object);
    let mut annotate = Map::new();
    let metrics = take_list(&mut object, &["spec", "metrics"]);
    let target = ["resource", "target", "averageUtilization"];
    let cpu = metrics.iter().find(|metric| is_cpu_utilization(metric)).and_then(|metric| metric.at(&target).cloned());
    let others: Vec<Value> =
        metrics.into_iter().filter(|metric| !is_cpu_utilization(metric)).map(metric_spec_to_v1).collect();
    if !others.is_empty() {
        annotate.insert(METRICS, written_list(others, "MetricSpec"));
    }
    if let Some(percent) = cpu {
        object.set(&["spec", "targetCPUUtilizationPercentage"], percent);
    }
    if let Some(behavior) = object.remove(&["spec", "behavior"]).filter(|behavior| !behavior.is_null()) {
        annotate.insert(BEHAVIOR, written_behavior(&behavior));
    }

    let statuses = take_list(&mut object, &["status", "currentMetrics"]);
    let is_cpu =
        |metric: &&Value| metric.str_at(&["type"]) == "Resource" && metric.str_at(&["resource", "name"]) == "cpu";
    let current = ["resource", "current", "averageUtilization"];
    if let Some(percent) = statuses.iter().filter(is_cpu).filter_map(|metric| metric.at(&current)).next_back() {
        let percent = percent.clone();
        object.set(&["status", "currentCPUUtilizationPercentage"], percent);
    }
    // The whole status goes along, CPU as well: v1 has no place for its raw value.
    if !statuses.is_empty() {
        let statuses = statuses.into_iter().map(metric_status_to_v1).collect();
        annotate.insert(CURRENT_METRICS, written_list(statuses, "MetricStatus"));
    }
    let conditions = take_list(&mut object, &["status", "conditions"]);
    if !conditions.is_empty() {
        annotate.insert(CONDITIONS, written_list(conditions, "HorizontalPodAutoscalerCondition"));
    }
    if !annotate.is_empty() {
        let annotations = object.entry(&["metadata", "annotations"]).make_map();
        for (key, value) in annotate {
            annotations.insert(key, value);
        }
    }
    normalised(object, "v1")
}

/// v2 objects keep no annotations of this conversion.
pub(crate) fn drop_annotations(object: &mut Value) {
    let annotations = ["metadata", "annotations"];
    if let Some(Value::Map(map)) = object.at_mut(&annotations) {
        map.retain(|key, _| ![METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR].contains(&key));
        if map.is_empty() {
            object.remove(&annotations);
        }
    }
}

fn take_list(object: &mut Value, path: &[&str]) -> Vec<Value> {
    match object.remove(path) {
        Some(Value::List(items)) => items,
        _ => Vec::new(),
    }
}

/// The object as the codec shows it: zero values present or absent as its type wants them.
fn normalised(object: Value, version: &str) -> Value {
    let ty = api_types::type_name(super::GROUP, version, "HorizontalPodAutoscaler");
    let Some(ty) = api_codec::builtin().find(&ty) else { return object };
    match json::retype(ty, &object, Options::default()) {
        Ok(decoded) => decoded.value,
        Err(_) => object,
    }
}

/// The items of a JSON list, each of a v1 type; `None` if they are not.
fn read_list(text: &str, ty: &str) -> Option<Vec<Value>> {
    let ty = api_codec::builtin().find(&api_types::type_name(super::GROUP, "v1", ty))?;
    let Value::List(items) = json::decode(None, text.as_bytes(), Options::default()).ok()?.value else { return None };
    items.iter().map(|item| Some(json::retype(ty, item, Options::default()).ok()?.value)).collect()
}

fn written_list(items: Vec<Value>, ty: &str) -> String {
    let ty = api_codec::builtin().find(&api_types::type_name(super::GROUP, "v1", ty));
    let mut text = vec![b'['];
    for item in items {
        if text.len() > 1 {
            text.push(b',');
        }
        // Values that v1 always shows are filled in on the way.
        let item = ty.and_then(|ty| json::retype(ty, &item, Options::default()).ok()).map_or(item, |read| read.value);
        json::encode(ty, &item, &mut text);
    }
    text.push(b']');
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads the internal form, whose names Go matches without regard to case.
fn read_behavior(text: &str) -> Option<Value> {
    let tree = json::decode(None, text.as_bytes(), Options::default()).ok()?.value;
    let mut behavior = Value::default();
    for (field, go) in [("scaleUp", "ScaleUp"), ("scaleDown", "ScaleDown")] {
        let Some(rules) = insensitive(&tree, go) else { continue };
        behavior.entry(&[field]).make_map();
        for (field_of_rules, go) in RULES {
            let Some(value) = insensitive(rules, go) else { continue };
            let value = match value {
                Value::List(policies) => Value::List(policies.iter().map(|policy| renamed(policy, &POLICY)).collect()),
                value => value.clone(),
            };
            behavior.set(&[field, field_of_rules], value);
        }
    }
    (!behavior.is_null()).then_some(behavior)
}

fn renamed(object: &Value, names: &[(&str, &str)]) -> Value {
    let entries = names.iter().filter_map(|(json, go)| Some((*json, insensitive(object, go)?.clone())));
    Value::Map(entries.collect())
}

fn insensitive<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let found = object.as_map()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value).filter(|value| !value.is_null())
}

fn written_behavior(behavior: &Value) -> String {
    let written = |value: &Value| {
        let mut text = Vec::new();
        json::encode(None, value, &mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    let go_struct = |object: &Value, names: &[(&str, &str)], zero: &str| {
        let fields = names
            .iter()
            .map(|(json, go)| format!("\"{go}\":{}", object.get(json).map_or_else(|| zero.to_owned(), written)));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    };
    let rules = |rules: &Value| {
        let fields = RULES.iter().map(|(json, go)| {
            let value = match rules.get(json) {
                Some(Value::List(policies)) => {
                    let policies: Vec<String> = policies.iter().map(|policy| go_struct(policy, &POLICY, "0")).collect();
                    format!("[{}]", policies.join(","))
                }
                Some(value) => written(value),
                None => "null".to_owned(),
            };
            format!("\"{go}\":{value}")
        });
        format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
    };
    let part = |field: &str| behavior.get(field).map_or_else(|| "null".to_owned(), rules);
    format!("{{\"ScaleUp\":{},\"ScaleDown\":{}}}", part("scaleUp"), part("scaleDown"))
}

/// Moves a field's value to a place of another object, if it is there.
fn carry(from: &Value, field: &[&str], to: &mut Value, place: &[&str]) {
    if let Some(value) = from.at(field) {
        to.set(place, value.clone());
    }
}

fn each_source(metric: Value, change: impl Fn(&str, &Value) -> Value) -> Value {
    let Value::Map(map) = metric else { return metric };
    let changed = map.into_iter().map(|(key, value)| {
        let value = if value.as_map().is_some() { change(&key, &value) } else { value };
        (key, value)
    });
    Value::Map(changed.collect())
}

/// In v1, "0" stands for a quantity that is not there.
fn or_zero(from: &Value, field: &str) -> Value {
    from.get(field).cloned().unwrap_or_else(|| "0".into())
}

fn metric_spec_to_v2(metric: Value) -> Value {
    each_source(metric, |source, old| {
        let mut new = Value::default();
        let (has_average, has_value) = match source {
            "object" => {
                carry(old, &["target"], &mut new, &["describedObject"]);
                new.set(&["target", "value"], or_zero(old, "targetValue"));
                carry(old, &["averageValue"], &mut new, &["target", "averageValue"]);
                (old.get("averageValue").is_some(), true)
            }
            "pods" => {
                new.set(&["target", "averageValue"], or_zero(old, "targetAverageValue"));
                (true, false)
            }
            "external" => {
                carry(old, &["targetValue"], &mut new, &["target", "value"]);
                carry(old, &["targetAverageValue"], &mut new, &["target", "averageValue"]);
                (old.get("targetValue").is_none(), true)
            }
            _ => {
                carry(old, &["name"], &mut new, &["name"]);
                carry(old, &["container"], &mut new, &["container"]);
                carry(old, &["targetAverageValue"], &mut new, &["target", "averageValue"]);
                carry(old, &["targetAverageUtilization"], &mut new, &["target", "averageUtilization"]);
                (old.get("targetAverageUtilization").is_none(), false)
            }
        };
        let target_type = match (has_average, has_value) {
            (true, _) => "AverageValue",
            (false, true) => "Value",
            (false, false) => "Utilization",
        };
        new.set(&["target", "type"], target_type);
        metric_name_to_v2(source, old, &mut new);
        new
    })
}

fn metric_status_to_v2(metric: Value) -> Value {
    each_source(metric, |source, old| {
        let mut new = Value::default();
        match source {
            "object" => {
                carry(old, &["target"], &mut new, &["describedObject"]);
                new.set(&["current", "value"], or_zero(old, "currentValue"));
                carry(old, &["averageValue"], &mut new, &["current", "averageValue"]);
            }
            "pods" => new.set(&["current", "averageValue"], or_zero(old, "currentAverageValue")),
            "external" => {
                new.set(&["current", "value"], or_zero(old, "currentValue"));
                carry(old, &["currentAverageValue"], &mut new, &["current", "averageValue"]);
            }
            _ => {
                carry(old, &["name"], &mut new, &["name"]);
                carry(old, &["container"], &mut new, &["container"]);
                new.set(&["current", "averageValue"], or_zero(old, "currentAverageValue"));
                carry(old, &["currentAverageUtilization"], &mut new, &["current", "averageUtilization"]);
            }
        }
        metric_name_to_v2(source, old, &mut new);
        new
    })
}

fn metric_name_to_v2(source: &str, old: &Value, new: &mut Value) {
    let selector = if source == "external" { "metricSelector" } else { "selector" };
    carry(old, &["metricName"], new, &["metric", "name"]);
    carry(old, &[selector], new, &["metric", "selector"]);
}

fn metric_spec_to_v1(metric: Value) -> Value {
    each_source(metric, |source, old| {
        let mut new = Value::default();
        match source {
            "object" => {
                carry(old, &["describedObject"], &mut new, &["target"]);
                carry(old, &["target", "value"], &mut new, &["targetValue"]);
                carry(old, &["target", "averageValue"], &mut new, &["averageValue"]);
            }
            "pods" => carry(old, &["target", "averageValue"], &mut new, &["targetAverageValue"]),
            "external" => {
                carry(old, &["target", "value"], &mut new, &["targetValue"]);
                carry(old, &["target", "averageValue"], &mut new, &["targetAverageValue"]);
            }
            _ => {
                carry(old, &["name"], &mut new, &["name"]);
                carry(old, &["container"], &mut new, &["container"]);
                carry(old, &["target", "averageValue"], &mut new, &["targetAverageValue"]);
                carry(old, &["target", "averageUtilization"], &mut new, &["targetAverageUtilization"]);
            }
        }
        metric_name_to_v1(source, old, &mut new);
        new
    })
}

fn metric_status_to_v1(metric: Value) -> Value {
    each_source(metric, |source, old| {
        let mut new = Value::default();
        match source {
            "object" => {
                carry(old, &["describedObject"], &mut new, &["target"]);
                carry(old, &["current", "value"], &mut new, &["currentValue"]);
                carry(old, &["current", "averageValue"], &mut new, &["averageValue"]);
            }
            "pods" => carry(old, &["current", "averageValue"], &mut new, &["currentAverageValue"]),
            "external" => {
                carry(old, &["current", "value"], &mut new, &["currentValue"]);
                carry(old, &["current", "averageValue"], &mut new, &["currentAverageValue"]);
            }
            _ => {
                carry(old, &["name"], &mut new, &["name"]);
                carry(old, &["container"], &mut new, &["container"]);
                carry(old, &["current", "averageValue"], &mut new, &["currentAverageValue"]);
                carry(old, &["current", "averageUtilization"], &mut new, &["currentAverageUtilization"]);
            }
        }
        metric_name_to_v1(source, old, &mut new);
        new
    })
}

fn metric_name_to_v1(source: &str, old: &Value, new: &mut Value) {
    let selector = if source == "external" { "metricSelector" } else { "selector" };
    carry(old, &["metric", "name"], new, &["metricName"]);
    carry(old, &["metric", "selector"], new, &[selector]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::json;

    fn normal(text: &str, version: &str) -> Value {
        normalised(json(text), version)
    }

    #[test]
    fn cpu_is_a_field_of_v1_and_a_metric_of_v2() {
        for (percent, expect) in [(r#","targetCPUUtilizationPercentage":50"#, 50), ("", 80)] {
            let v1 = normal(
                &format!(
                    r#"{{"apiVersion":"autoscaling/v1","spec":{{"maxReplicas":3{percent}}},
                        "status":{{"currentReplicas":2,"desiredReplicas":2,"currentCPUUtilizationPercentage":10}}}}"#
                ),
                "v1",
            );
            let v2 = to_v2(v1);
            assert_eq!(v2.list_at(&["spec", "metrics"]), [cpu_utilization(Value::Int(expect))]);
            let current = &v2.list_at(&["status", "currentMetrics"])[0];
            assert_eq!(current.int_at(&["resource", "current", "averageUtilization"]), Some(10));
            let back = to_v1(v2);
            assert_eq!(back.int_at(&["spec", "targetCPUUtilizationPercentage"]), Some(expect));
            assert_eq!(back.int_at(&["status", "currentCPUUtilizationPercentage"]), Some(10));
        }
    }

    #[test]
    fn what_v1_cannot_say_comes_back_from_annotations() {
        let v2 = normal(
            r#"{"apiVersion":"autoscaling/v2","metadata":{"annotations":{"a":"b"}},"spec":{"maxReplicas":3,"metrics":[
                {"type":"External","external":{"metric":{"name":"m","selector":{"matchLabels":{"x":"y"}}},
                    "target":{"type":"Value","value":"10"}}},
                {"type":"Pods","pods":{"metric":{"name":"p"},"target":{"type":"AverageValue","averageValue":"1500m"}}},
                {"type":"Object","object":{"describedObject":{"kind":"K","name":"o"},"metric":{"name":"om"},
                    "target":{"type":"Value","value":"7"}}},
                {"type":"Resource","resource":{"name":"memory","target":{"type":"AverageValue","averageValue":"1Gi"}}},
                {"type":"ContainerResource","containerResource":{"name":"cpu","container":"c",
                    "target":{"type":"Utilization","averageUtilization":60}}},
                {"type":"Resource","resource":{"name":"cpu","target":{"type":"Utilization","averageUtilization":70}}}],
              "behavior":{"scaleUp":{"stabilizationWindowSeconds":0,"selectPolicy":"Max","policies":[
                {"type":"Pods","value":4,"periodSeconds":15}]}}},
              "status":{"currentReplicas":1,"desiredReplicas":2,"currentMetrics":[
                {"type":"Resource","resource":{"name":"cpu","current":{"averageUtilization":5,"averageValue":"10m"}}}],
                "conditions":[{"type":"AbleToScale","status":"True","reason":"r"}]}}"#,
            "v2",
        );
        let v1 = to_v1(v2.clone());
        let annotation = |key: &str| v1.str_at(&["metadata", "annotations", key]).to_owned();
        assert_eq!(
            annotation(METRICS),
            concat!(
                r#"[{"type":"External","external":{"metricName":"m","metricSelector":{"matchLabels":{"x":"y"}},"#,
                r#""targetValue":"10"}},{"type":"Pods","pods":{"metricName":"p","targetAverageValue":"1500m"}},"#,
                r#"{"type":"Object","object":{"target":{"kind":"K","name":"o"},"metricName":"om","targetValue":"7"}},"#,
                r#"{"type":"Resource","resource":{"name":"memory","targetAverageValue":"1Gi"}},"#,
                r#"{"type":"ContainerResource","containerResource":{"name":"cpu","targetAverageUtilization":60,"#,
                r#""container":"c"}}]"#
            )
        );
        assert_eq!(
            annotation(BEHAVIOR),
            concat!(
                r#"{"ScaleUp":{"StabilizationWindowSeconds":0,"SelectPolicy":"Max","#,
                r#""Policies":[{"Type":"Pods","Value":4,"PeriodSeconds":15}],"Tolerance":null},"ScaleDown":null}"#
            )
        );
        assert_eq!(
            annotation(CURRENT_METRICS),
            concat!(
                r#"[{"type":"Resource","resource":{"name":"cpu","currentAverageUtilization":5,"#,
                r#""currentAverageValue":"10m"}}]"#
            )
        );
        assert_eq!(annotation("a"), "b");
        assert_eq!(v1.int_at(&["spec", "targetCPUUtilizationPercentage"]), Some(70));
        let mut back = to_v2(v1);
        back.set(&["apiVersion"], "autoscaling/v2");
        assert_eq!(back, v2);
    }

    #[test]
    fn broken_annotations_are_dropped() {
        let v1 = normal(
            &format!(
                r#"{{"metadata":{{"annotations":{{"{METRICS}":"[","{BEHAVIOR}":"{{}}","{CONDITIONS}":"7"}}}},
                    "spec":{{"maxReplicas":3}}}}"#
            ),
            "v1",
        );
        let v2 = to_v2(v1);
        assert_eq!(v2.at(&["metadata", "annotations"]), None);
        assert_eq!(v2.at(&["spec", "behavior"]), None);
        assert_eq!(v2.list_at(&["spec", "metrics"]), [cpu_utilization(Value::Int(80))]);
    }
}
