//! The short form of a 422: a Status of reason Invalid says everything twice, a script says it once.
//!
//! ```text
//! Invalid Deployment.apps "d"
//!   spec.replicas: Invalid value: -1: must be greater than or equal to 0
//! ```

use serde_json::{Map, Value, json};

/// What a cause's message starts with, and the reason that goes with it.
const REASONS: [(&str, &str); 11] = [
    ("Invalid value", "FieldValueInvalid"),
    ("Required value", "FieldValueRequired"),
    ("Forbidden", "FieldValueForbidden"),
    ("Unsupported value", "FieldValueNotSupported"),
    ("Duplicate value", "FieldValueDuplicate"),
    ("Not found", "FieldValueNotFound"),
    ("Too long", "FieldValueTooLong"),
    ("Too short", "FieldValueTooShort"),
    ("Too many", "FieldValueTooMany"),
    ("Too few", "FieldValueTooFew"),
    ("Internal error", "InternalError"),
];

/// The short form of a Status, if it has one that says it all.
pub(crate) fn shorten(status: &Value) -> Option<String> {
    let details = status.get("details")?;
    let (kind, name) = (details.get("kind")?.as_str()?, details.get("name")?.as_str()?);
    let group = details.get("group").and_then(Value::as_str).map(|group| format!(".{group}")).unwrap_or_default();
    let mut short = format!("Invalid {kind}{group} {}", Value::from(name));
    for cause in details.get("causes")?.as_array()? {
        short.push_str(&format!("\n  {}: {}", cause.get("field")?.as_str()?, cause.get("message")?.as_str()?));
    }
    (expand(&short).as_ref() == Some(status)).then_some(short)
}

/// The Status that a short form stands for.
pub(crate) fn expand(short: &str) -> Option<Value> {
    let mut lines = short.lines();
    let (kind, name) = lines.next()?.strip_prefix("Invalid ")?.split_once(' ')?;
    let name: String = serde_json::from_str(name).ok()?;
    let (kind, group) = kind.split_once('.').map_or((kind, None), |(kind, group)| (kind, Some(group)));
    let (mut causes, mut messages) = (Vec::new(), Vec::new());
    for line in lines {
        let line = line.strip_prefix("  ")?;
        let (field, message) = split_field(line)?;
        let (_, reason) = REASONS.iter().find(|(start, _)| message.starts_with(start))?;
        causes.push(json!({"reason": reason, "message": message, "field": field}));
        if !messages.contains(&line) {
            messages.push(line);
        }
    }
    let list = match messages.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    };
    let full_kind = group.map_or_else(|| kind.to_owned(), |group| format!("{kind}.{group}"));
    let mut details = Map::new();
    details.insert("name".into(), name.as_str().into());
    if let Some(group) = group {
        details.insert("group".into(), group.into());
    }
    details.insert("kind".into(), kind.into());
    details.insert("causes".into(), causes.into());
    // An object without a name has none in the details either.
    if name.is_empty() {
        details.shift_remove("name");
    }
    Some(json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("{full_kind} {} is invalid: {list}", Value::from(name.as_str())),
        "reason": "Invalid", "details": details, "code": 422,
    }))
}

/// Splits `path: message`: at the first `: ` before a known start, for a path may hold map keys with anything in them.
fn split_field(line: &str) -> Option<(&str, &str)> {
    line.match_indices(": ")
        .map(|(at, _)| (&line[..at], &line[at + 2..]))
        .find(|(_, message)| REASONS.iter().any(|(start, _)| message.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(short: &str, expect: Expect) {
        let status = expand(short).unwrap();
        assert_eq!(shorten(&status).as_deref(), Some(short));
        expect.assert_eq(&crate::render::line(&status));
    }

    #[test]
    fn one_cause_stands_without_brackets() {
        check(
            "Invalid Pod \"p\"\n  spec.containers: Required value",
            expect![[
                r#"{"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "Pod \"p\" is invalid: spec.containers: Required value", "reason": "Invalid", "details": {"name": "p", "kind": "Pod", "causes": [{"reason": "FieldValueRequired", "message": "Required value", "field": "spec.containers"}]}, "code": 422}"#
            ]],
        );
    }

    #[test]
    fn equal_messages_are_listed_once() {
        check(
            "Invalid Deployment.apps \"d\"\n  a: Invalid value: 1\n  a: Invalid value: 1\n  b[x: y]: Forbidden: no",
            expect![[
                r#"{"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "Deployment.apps \"d\" is invalid: [a: Invalid value: 1, b[x: y]: Forbidden: no]", "reason": "Invalid", "details": {"name": "d", "group": "apps", "kind": "Deployment", "causes": [{"reason": "FieldValueInvalid", "message": "Invalid value: 1", "field": "a"}, {"reason": "FieldValueInvalid", "message": "Invalid value: 1", "field": "a"}, {"reason": "FieldValueForbidden", "message": "Forbidden: no", "field": "b[x: y]"}]}, "code": 422}"#
            ]],
        );
    }

    #[test]
    fn other_statuses_have_no_short_form() {
        let status =
            json!({"kind": "Status", "reason": "NotFound", "details": {"name": "p", "kind": "pods"}, "code": 404});
        assert_eq!(shorten(&status), None);
        assert_eq!(expand("Invalid Pod \"p\"\n  no known start"), None);
    }
}
