//! ComponentStatus: whether the control plane's parts are healthy. Made when it is asked for, never stored.

use api_schema::Value;

use crate::Kind;
use crate::checks::name;

/// The kind ComponentStatus.
pub(crate) struct ComponentStatus;

impl Kind for ComponentStatus {
    fn group(&self) -> &str {
        ""
    }

    fn resource(&self) -> &str {
        "componentstatuses"
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 ComponentStatus is deprecated in v1.19+")
    }

    fn cells(&self, object: &Value, _now: i64) -> Option<Vec<Value>> {
        let healthy = object.list_at(&["conditions"]).iter().find(|condition| condition.str_at(&["type"]) == "Healthy");
        let text = |field: &str| Value::from(healthy.map(|condition| condition.str_at(&[field])).unwrap_or_default());
        let status = match healthy.map(|condition| condition.str_at(&["status"])) {
            None => "Unknown",
            Some("True") => "Healthy",
            Some(_) => "Unhealthy",
        };
        Some(vec![name(object), status.into(), text("message"), text("error")])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::cells;

    #[test]
    fn cells_tell_health() {
        cells(
            &ComponentStatus,
            r#"{"metadata":{"name":"a"},"conditions":[{"type":"Healthy","status":"True","message":"ok"}]}"#,
            r#"["a","Healthy","ok",""]"#,
        );
        cells(
            &ComponentStatus,
            r#"{"metadata":{"name":"a"},"conditions":[{"type":"Healthy","status":"False","error":"x"}]}"#,
            r#"["a","Unhealthy","","x"]"#,
        );
        cells(&ComponentStatus, r#"{"metadata":{"name":"a"}}"#, r#"["a","Unknown","",""]"#);
    }
}
