//! Event as the core group shows it: lenient, for the many clients that write the old form. What both groups share
//! is in `events/event.rs`.

use api_schema::{SmolStr, Value};
use api_semantics::field::ErrorList;

use crate::Kind;
use crate::events::event;

/// The Event of the core group.
pub(crate) struct Event;

impl Kind for Event {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "events"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn check_name(&self, name: &str, prefix: bool) -> Vec<String> {
        api_semantics::names::path_segment_name(name, prefix)
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = event::check(object);
        for error in errors.iter_mut().filter(|error| error.field == "reportingController") {
            error.field = "reportingComponent".to_owned();
        }
        errors
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(event::cells(object, now))
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &[
            "involvedObject.apiVersion",
            "involvedObject.fieldPath",
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.resourceVersion",
            "involvedObject.uid",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ]
    }

    fn selectable_field(&self, object: &Value, label: &str) -> SmolStr {
        let text = |path: &[&str]| SmolStr::new(object.str_at(path));
        match label.split_once('.') {
            Some((parent, field)) => text(&[parent, field]),
            // The reporter that wrote the event, in whichever form.
            None if label == "source" => match object.str_at(&["source", "component"]) {
                "" => text(&["reportingComponent"]),
                component => component.into(),
            },
            None => text(&[label]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, json};

    #[test]
    fn old_events_live_where_their_object_does() {
        create(&Event, r#"{"metadata":{"namespace":"a"},"involvedObject":{"namespace":"a"}}"#, "");
        create(&Event, r#"{"metadata":{"namespace":"default"},"involvedObject":{}}"#, "");
        create(
            &Event,
            r#"{"metadata":{"namespace":"a"},"involvedObject":{"namespace":"b"}}"#,
            "involvedObject.namespace: Invalid value: \"b\": does not match event.namespace",
        );
    }

    #[test]
    fn new_events_name_their_reporter() {
        create(
            &Event,
            r#"{"metadata":{"namespace":"a"},"involvedObject":{"namespace":"a"},
                "eventTime":"2024-01-01T00:00:00.000000Z","reportingInstance":"x","action":"y","reason":"z"}"#,
            "reportingComponent: Required value\n\
             reportingComponent: Invalid value: \"\": name part must be non-empty\n\
             reportingComponent: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or \
             '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
             '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        );
    }

    #[test]
    fn cells_tell_when_and_what() {
        cells(
            &Event,
            r#"{"metadata":{"name":"e"},"involvedObject":{"kind":"Pod","name":"p","fieldPath":"f"},"type":"Normal",
                "reason":"Started","message":" m \n","count":3,"source":{"component":"kubelet","host":"h"},
                "firstTimestamp":"1969-12-31T23:58:00Z","lastTimestamp":"1969-12-31T23:59:50Z"}"#,
            r#"["10s","Normal","Started","pod/p","f","kubelet, h","m","2m",3,"e"]"#,
        );
    }

    #[test]
    fn the_source_falls_back_on_the_reporter() {
        let new = json(r#"{"reportingComponent":"a"}"#);
        let old = json(r#"{"source":{"component":"b"},"reportingComponent":"a"}"#);
        assert_eq!(Event.selectable_field(&new, "source"), "a");
        assert_eq!(Event.selectable_field(&old, "source"), "b");
        assert_eq!(Event.selectable_field(&json(r#"{"involvedObject":{"kind":"Pod"}}"#), "involvedObject.kind"), "Pod");
    }
}
