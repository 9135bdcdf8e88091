//! Scale: the one view of everything that has replicas (the `scale` subresource).

use api_schema::{Map, SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::selector::Selector;

use crate::checks::name;

/// The Scale of a Deployment, ReplicaSet, StatefulSet or ReplicationController.
pub fn of(object: &Value) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.at(&["metadata", field]) {
            metadata.insert(field, value.clone());
        }
    }
    let replicas = |path: &[&str]| object.int_at(path).unwrap_or(0);
    let mut spec = Map::new();
    if replicas(&["spec", "replicas"]) != 0 {
        spec.insert("replicas", replicas(&["spec", "replicas"]));
    }
    let mut status = Map::new();
    status.insert("replicas", replicas(&["status", "replicas"]));
    let selector = selector(object);
    if !selector.is_empty() {
        status.insert("selector", selector);
    }
    let mut scale = Map::new();
    scale.insert("apiVersion", "autoscaling/v1");
    scale.insert("kind", "Scale");
    scale.insert("metadata", metadata);
    scale.insert("spec", spec);
    scale.insert("status", status);
    scale.into()
}

/// The selector of a workload's Pods in text form. That of a ReplicationController is a plain map of labels.
fn selector(object: &Value) -> SmolStr {
    let selector = object.at(&["spec", "selector"]);
    let selector = match (object.str_at(&["kind"]), selector.and_then(Value::as_map)) {
        ("ReplicationController", Some(labels)) => Selector::from_labels(labels),
        _ => Selector::from_value(selector).unwrap_or(Selector::NOTHING),
    };
    api_schema::format_smolstr!("{selector}")
}

/// Writes what a Scale asks for into its workload.
pub fn apply(scale: &Value, object: &mut Value) {
    object.set(&["spec", "replicas"], scale.int_at(&["spec", "replicas"]).unwrap_or(0));
}

/// Checks what a client asks for.
pub fn validate(scale: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(replicas) = scale.int_at(&["spec", "replicas"]).filter(|replicas| *replicas < 0) {
        errors.push(Error::invalid(&Path::new("spec.replicas"), replicas, names::NEGATIVE));
    }
    errors
}

/// The table cells, one for each of `api_types::columns("Scale")`.
pub fn cells(scale: &Value, now: i64) -> Vec<Value> {
    vec![
        name(scale),
        scale.int_at(&["spec", "replicas"]).unwrap_or(0).into(),
        scale.int_at(&["status", "replicas"]).unwrap_or(0).into(),
        api_semantics::time::age(scale, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{json, lines};

    #[test]
    fn a_scale_shows_replicas_and_selector() {
        for (kind, selector, expect) in [
            ("Deployment", r#"{"matchLabels":{"b":"c","a":"b"}}"#, "a=b,b=c"),
            ("Deployment", r#"{"matchExpressions":[{"key":"a","operator":"In","values":["y","x"]}]}"#, "a in (x,y)"),
            ("ReplicationController", r#"{"a":"b"}"#, "a=b"),
        ] {
            let object = json(&format!(
                r#"{{"kind":"{kind}","metadata":{{"name":"d","uid":"u","labels":{{"x":"y"}}}},
                    "spec":{{"replicas":3,"selector":{selector}}},"status":{{"replicas":2}}}}"#
            ));
            assert_eq!(
                of(&object),
                json(&format!(
                    r#"{{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{{"name":"d","uid":"u"}},
                        "spec":{{"replicas":3}},"status":{{"replicas":2,"selector":"{expect}"}}}}"#
                ))
            );
        }
    }

    #[test]
    fn a_scale_changes_replicas_only() {
        let mut object = json(r#"{"spec":{"replicas":3,"paused":true}}"#);
        apply(&json(r#"{"spec":{}}"#), &mut object);
        assert_eq!(object, json(r#"{"spec":{"replicas":0,"paused":true}}"#));
    }

    #[test]
    fn replicas_are_not_negative() {
        for (replicas, expect) in
            [(0, ""), (-1, "spec.replicas: Invalid value: -1: must be greater than or equal to 0")]
        {
            assert_eq!(lines(&validate(&json(&format!(r#"{{"spec":{{"replicas":{replicas}}}}}"#)))), expect);
        }
    }

    #[test]
    fn cells_are_upstreams() {
        let scale = json(r#"{"metadata":{"name":"s"},"spec":{"replicas":3},"status":{"replicas":2}}"#);
        assert_eq!(Value::List(cells(&scale, 0)), json(r#"["s",3,2,"<unknown>"]"#));
    }
}
