//! Event: something that happened to an object. One store, two groups: core/v1 as it always was (see
//! `core/event.rs` for that view) and events.k8s.io/v1, which renames fields and is strict about new ones.

use api_schema::{Map, SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::time::since;

use crate::Kind;
use crate::checks::{internal, invalid_text, name, same};

const REPORTING_INSTANCE_MAX: usize = 128;
const ACTION_MAX: usize = 128;
const REASON_MAX: usize = 128;
const NOTE_MAX: usize = 1024;

/// The fields that have other names in the two groups: core's, then events.k8s.io's.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// The Event of events.k8s.io.
pub(crate) struct Event;

impl Kind for Event {
    fn group(&self) -> &str {
        "events.k8s.io"
    }

    fn resource(&self) -> &str {
        "events"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let event = to_core(object.clone());
        let mut errors = check(&event);
        check_series(&mut errors, &event);
        if event.get("eventTime").is_none() {
            errors.push(Error::required(&Path::new("eventTime"), ""));
        }
        let event_type = event.str_at(&["type"]);
        if !matches!(event_type, "Normal" | "Warning") {
            errors.push(Error::invalid(&Path::new("type"), "", format!("has invalid value: {event_type}")));
        }
        let mut unset = |field: &'static str, is_set: bool| {
            if is_set {
                errors.push(Error::invalid(&Path::new(field), "", "needs to be unset"));
            }
        };
        unset("firstTimestamp", event.get("firstTimestamp").is_some());
        unset("lastTimestamp", event.get("lastTimestamp").is_some());
        unset("count", event.int_at(&["count"]).unwrap_or(0) != 0);
        let source = ["component", "host"].iter().any(|part| !event.str_at(&["source", part]).is_empty());
        unset("source", source);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let (new, old) = (to_core(new.clone()), to_core(old.clone()));
        let mut errors = check(&new);
        if !same(new.get("series"), old.get("series")) {
            check_series(&mut errors, &new);
        }
        // The paths are those of upstream's internal type: core's names, but for the controller.
        for (field, path) in [
            ("involvedObject", "involvedObject"),
            ("reason", "reason"),
            ("message", "message"),
            ("source", "source"),
            ("firstTimestamp", "firstTimestamp"),
            ("lastTimestamp", "lastTimestamp"),
            ("count", "count"),
            ("reason", "reason"),
            ("type", "type"),
            ("eventTime", "eventTime"),
            ("action", "action"),
            ("related", "related"),
            ("reportingComponent", "reportingController"),
            ("reportingInstance", "reportingInstance"),
        ] {
            if !same(new.get(field), old.get(field)) {
                let shown = match field {
                    "related" if new.get(field).is_none() => Value::Null,
                    "involvedObject" | "related" => internal(new.get(field), "io.k8s.api.core.v1.ObjectReference"),
                    "source" => internal(new.get(field), "io.k8s.api.core.v1.EventSource"),
                    _ => new.get(field).cloned().unwrap_or_default(),
                };
                errors.push(Error::invalid(&Path::new(path), shown, names::IMMUTABLE));
            }
        }
        errors
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(cells(&to_core(object.clone()), now))
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &[
            "reason",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
            "regarding.apiVersion",
            "regarding.resourceVersion",
            "regarding.fieldPath",
            "reportingController",
            "type",
        ]
    }
}

/// What holds for every event, in core's form: all that a core/v1 event must fulfil.
pub(crate) fn check(event: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let (namespace, about) = (event.str_at(&["metadata", "namespace"]), event.str_at(&["involvedObject", "namespace"]));
    let involved = Path::new("involvedObject");
    let elsewhere = |errors: &mut ErrorList| {
        errors.push(Error::invalid(&involved.child("namespace"), about, "does not match event.namespace"));
    };
    if event.get("eventTime").is_none() {
        // An event of the old sort. One about a cluster-wide object lives in "default".
        let fits = if about.is_empty() { matches!(namespace, "" | "default") } else { namespace == about };
        if !fits {
            elsewhere(&mut errors);
        }
    } else {
        if about.is_empty() && !matches!(namespace, "default" | "kube-system") {
            elsewhere(&mut errors);
        }
        let controller = event.str_at(&["reportingComponent"]);
        if controller.is_empty() {
            errors.push(Error::required(&Path::new("reportingController"), ""));
        }
        invalid_text(&mut errors, &Path::new("reportingController"), controller, names::qualified_name(controller));
        for (field, max) in
            [("reportingInstance", REPORTING_INSTANCE_MAX), ("action", ACTION_MAX), ("reason", REASON_MAX)]
        {
            let text = event.str_at(&[field]);
            if text.is_empty() {
                errors.push(Error::required(&Path::new(field), ""));
            }
            check_length(&mut errors, field, text, max);
        }
        check_length(&mut errors, "message", event.str_at(&["message"]), NOTE_MAX);
    }
    invalid_text(&mut errors, &Path::new("namespace"), namespace, names::dns1123_subdomain(namespace, false));
    errors
}

fn check_length(errors: &mut ErrorList, field: &str, text: &str, max: usize) {
    if text.len() > max {
        errors.push(Error::invalid(&Path::new(field), "", format!("can have at most {max} characters")));
    }
}

fn check_series(errors: &mut ErrorList, event: &Value) {
    if let Some(series) = event.get("series") {
        if series.int_at(&["count"]).unwrap_or(0) < 2 {
            errors.push(Error::invalid(&Path::new("series.count"), "", "should be at least 2"));
        }
        if series.get("lastObservedTime").is_none() {
            errors.push(Error::required(&Path::new("series.lastObservedTime"), ""));
        }
    }
}

/// The cells of an event in core's form.
pub(crate) fn cells(event: &Value, now: i64) -> Vec<Value> {
    let time = |path: &[&str]| event.str_at(path);
    let first = match time(&["firstTimestamp"]) {
        "" => since(time(&["eventTime"]), now),
        first => since(first, now),
    };
    let mut last = match time(&["lastTimestamp"]) {
        "" => first.clone(),
        last => since(last, now),
    };
    let mut count = event.int_at(&["count"]).filter(|count| *count != 0).unwrap_or(1);
    if let Some(series) = event.get("series") {
        last = since(series.str_at(&["lastObservedTime"]), now);
        count = series.int_at(&["count"]).unwrap_or(0);
    }
    let kind = event.str_at(&["involvedObject", "kind"]).to_lowercase();
    let target = match event.str_at(&["involvedObject", "name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let either = |old: &[&str], new: &str| match event.str_at(old) {
        "" => SmolStr::new(event.str_at(&[new])),
        text => SmolStr::new(text),
    };
    let component = either(&["source", "component"], "reportingComponent");
    let source = match either(&["source", "host"], "reportingInstance").as_str() {
        "" => component,
        instance => api_schema::format_smolstr!("{component}, {instance}"),
    };
    vec![
        last.into(),
        event.str_at(&["type"]).into(),
        event.str_at(&["reason"]).into(),
        target.into(),
        event.str_at(&["involvedObject", "fieldPath"]).into(),
        source.into(),
        event.str_at(&["message"]).trim().into(),
        first.into(),
        count.into(),
        name(event),
    ]
}

/// An events.k8s.io event as core has it.
pub(crate) fn to_core(event: Value) -> Value {
    let mut event = renamed(event, |(core, events)| (events, core));
    complete(&mut event, &["involvedObject", "source"], &["reportingComponent", "reportingInstance"]);
    event.set(&["apiVersion"], "v1");
    event
}

/// A core event as events.k8s.io has it.
pub(crate) fn from_core(event: Value) -> Value {
    let mut event = renamed(event, |pair| pair);
    // Here an empty controller or instance is left out of JSON, there it is shown.
    if let Value::Map(map) = &mut event {
        map.retain(|key, value| !matches!(key, "reportingController" | "reportingInstance") || !value.is_zero());
    }
    complete(&mut event, &["regarding", "deprecatedSource"], &[]);
    event.set(&["apiVersion"], "events.k8s.io/v1");
    event
}

fn renamed(event: Value, names: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str)) -> Value {
    let Value::Map(map) = event else { return event };
    let rename = |key: SmolStr| {
        let found = RENAMED.iter().map(|pair| names(*pair)).find(|(from, _)| *from == key);
        found.map_or(key, |(_, to)| SmolStr::new_static(to))
    };
    Value::Map(map.into_iter().map(|(key, value)| (rename(key), value)).collect())
}

/// Adds the structs and strings that JSON always shows.
fn complete(event: &mut Value, structs: &[&str], strings: &[&str]) {
    for field in structs {
        if event.get(field).is_none() {
            event.set(&[field], Map::new());
        }
    }
    for field in strings {
        if event.get(field).is_none() {
            event.set(&[field], "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{create, json, lines, update};

    const GOOD: &str = r#"{"metadata":{"namespace":"n","name":"e"},"eventTime":"1970-01-01T00:00:00.000000Z",
        "reportingController":"example.com/c","reportingInstance":"i","action":"a","reason":"r","type":"Normal",
        "regarding":{"kind":"Pod","namespace":"n","name":"p"}}"#;

    fn with(path: &[&str], value: impl Into<Value>) -> String {
        let mut event = json(GOOD);
        event.set(path, value);
        api_semantics::field::shown(&event)
    }

    #[test]
    fn new_events_say_who_did_what() {
        create(&Event, GOOD, "");
        for (field, value, expect) in [
            ("type", "Odd", "type: Invalid value: \"\": has invalid value: Odd"),
            ("action", "", "action: Required value"),
            ("reason", "", "reason: Required value"),
            ("reportingInstance", "", "reportingInstance: Required value"),
            (
                "deprecatedFirstTimestamp",
                "1970-01-01T00:00:00Z",
                "firstTimestamp: Invalid value: \"\": needs to be unset",
            ),
            (
                "deprecatedLastTimestamp",
                "1970-01-01T00:00:00Z",
                "lastTimestamp: Invalid value: \"\": needs to be unset",
            ),
        ] {
            create(&Event, &with(&[field], value), expect);
        }
        create(&Event, &with(&["deprecatedCount"], 1), "count: Invalid value: \"\": needs to be unset");
        create(&Event, &with(&["deprecatedSource", "host"], "h"), "source: Invalid value: \"\": needs to be unset");
        create(&Event, &with(&["note"], "x".repeat(1024)), "");
        create(
            &Event,
            &with(&["note"], "x".repeat(1025)),
            "message: Invalid value: \"\": can have at most 1024 characters",
        );
        create(
            &Event,
            &with(&["series"], [("count", 1)]),
            "series.count: Invalid value: \"\": should be at least 2\nseries.lastObservedTime: Required value",
        );
    }

    #[test]
    fn an_event_lives_beside_its_object() {
        for (event_time, namespace, about, good) in [
            (false, "n", "n", true),
            (false, "n", "m", false),
            (false, "default", "", true),
            (false, "n", "", false),
            (true, "n", "m", true),
            (true, "n", "", false),
            (true, "kube-system", "", true),
        ] {
            let mut event = to_core(json(GOOD));
            event.set(&["metadata", "namespace"], namespace);
            event.set(&["involvedObject", "namespace"], about);
            if !event_time {
                event.remove(&["eventTime"]);
            }
            let expect =
                format!("involvedObject.namespace: Invalid value: \"{about}\": does not match event.namespace");
            assert_eq!(lines(&check(&event)), if good { "" } else { &expect }, "{namespace} {about}");
        }
    }

    #[test]
    fn only_the_series_of_an_event_changes() {
        let series = r#"{"count":2,"lastObservedTime":"1970-01-01T00:00:01.000000Z"}"#;
        update(&Event, GOOD, &with(&["series"], json(series)), "");
        update(&Event, GOOD, &with(&["note"], "other"), "message: Invalid value: \"other\": field is immutable");
        update(
            &Event,
            GOOD,
            &with(&["reportingController"], "d"),
            "reportingController: Invalid value: \"d\": field is immutable",
        );
    }

    #[test]
    fn the_two_groups_hold_the_same() {
        let events = json(
            r#"{"apiVersion":"events.k8s.io/v1","kind":"Event","metadata":{"name":"e"},"eventTime":"t","note":"m",
                "regarding":{"kind":"Pod"},"deprecatedSource":{"component":"c"},"deprecatedCount":3,
                "deprecatedFirstTimestamp":"f","deprecatedLastTimestamp":"l","reportingController":"rc",
                "reportingInstance":"ri","series":{"count":2,"lastObservedTime":"s"}}"#,
        );
        let core = json(
            r#"{"apiVersion":"v1","kind":"Event","metadata":{"name":"e"},"eventTime":"t","message":"m",
                "involvedObject":{"kind":"Pod"},"source":{"component":"c"},"count":3,"firstTimestamp":"f",
                "lastTimestamp":"l","reportingComponent":"rc","reportingInstance":"ri",
                "series":{"count":2,"lastObservedTime":"s"}}"#,
        );
        assert_eq!(to_core(events.clone()), core);
        assert_eq!(from_core(core), events);
        assert_eq!(
            to_core(json(r#"{"metadata":{}}"#)),
            json(
                r#"{"apiVersion":"v1","metadata":{},"involvedObject":{},"source":{},"reportingComponent":"",
                    "reportingInstance":""}"#
            )
        );
    }

    #[test]
    fn cells_prefer_the_series() {
        for (event, expect) in [
            (
                r#"{"metadata":{"name":"e"},"type":"Normal","reason":"r","message":" m\n","count":3,
                    "firstTimestamp":"1969-12-31T23:58:00Z","lastTimestamp":"1969-12-31T23:59:00Z",
                    "involvedObject":{"kind":"Pod","name":"p","fieldPath":"f"},
                    "source":{"component":"kubelet","host":"h"}}"#,
                r#"["60s","Normal","r","pod/p","f","kubelet, h","m","2m",3,"e"]"#,
            ),
            (
                r#"{"metadata":{"name":"e"},"eventTime":"1969-12-31T23:59:00.000000Z",
                    "series":{"count":7,"lastObservedTime":"1969-12-31T23:59:50.000000Z"},
                    "involvedObject":{"kind":"Node"},"reportingComponent":"c"}"#,
                r#"["10s","","","node","","c","","60s",7,"e"]"#,
            ),
            (
                r#"{"metadata":{"name":"e"},"eventTime":"1969-12-31T23:59:00.000000Z","involvedObject":{}}"#,
                r#"["60s","","","","","","","60s",1,"e"]"#,
            ),
        ] {
            assert_eq!(Value::List(cells(&json(event), 0)), json(expect));
        }
    }
}
