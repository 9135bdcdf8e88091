//! PodDisruptionBudget: how many of some Pods may be taken away at a time.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::int_or_string;
use api_semantics::selector::{self, Leniency};

use crate::Kind;
use crate::checks::{check_conditions, internal, name, not_negative, supported};

pub(crate) struct PodDisruptionBudget;

impl Kind for PodDisruptionBudget {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "poddisruptionbudgets"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    /// Upstream asks only what holds for every name.
    fn check_name(&self, name: &str, prefix: bool) -> Vec<String> {
        api_semantics::names::path_segment_name(name, prefix)
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object, Leniency::default())
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let invalid_values = selector::has_invalid_values(old.at(&["spec", "selector"]));
        check(new, Leniency { invalid_values, ..Leniency::default() })
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = Path::new("status");
        check_conditions(&mut errors, &status.child("conditions"), new.list_at(&["status", "conditions"]));
        for field in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
            not_negative(&mut errors, &status.child(field), new.int_at(&["status", field]));
        }
        errors
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let bound = |field: &str| match object.at(&["spec", field]) {
            Some(Value::Int(number)) => number.to_string().into(),
            Some(value) => value.clone(),
            None => "N/A".into(),
        };
        Some(vec![
            name(object),
            bound("minAvailable"),
            bound("maxUnavailable"),
            object.int_at(&["status", "disruptionsAllowed"]).unwrap_or(0).into(),
            api_semantics::time::age(object, now),
        ])
    }
}

fn check(object: &Value, lenient: Leniency) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = Path::new("spec");
    let bounds = ["minAvailable", "maxUnavailable"].map(|field| (field, object.at(&["spec", field])));
    if bounds.iter().all(|(_, bound)| bound.is_some()) {
        let shown = internal(object.get("spec"), "io.k8s.api.policy.v1.PodDisruptionBudgetSpec");
        errors.push(Error::invalid(&spec, shown, "minAvailable and maxUnavailable cannot be both set"));
    }
    for (field, bound) in bounds {
        if let Some(bound) = bound {
            let path = spec.child(field);
            errors.extend(int_or_string::validate_positive(bound, &path));
            errors.extend(int_or_string::validate_not_more_than_100_percent(bound, &path));
        }
    }
    errors.extend(selector::validate(object.at(&["spec", "selector"]), &spec.child("selector"), lenient));
    if let Some(policy) = object.at(&["spec", "unhealthyPodEvictionPolicy"]).and_then(Value::as_str) {
        let path = spec.child("unhealthyPodEvictionPolicy");
        supported(&mut errors, &path, policy, &["AlwaysAllow", "IfHealthyBudget"]);
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, update_status};

    #[test]
    fn a_budget_has_one_bound() {
        for (spec, expect) in [
            (r#"{"minAvailable":1,"selector":{}}"#, ""),
            (r#"{"maxUnavailable":"50%","unhealthyPodEvictionPolicy":"AlwaysAllow"}"#, ""),
            (
                r#"{"minAvailable":1,"maxUnavailable":1}"#,
                "spec: Invalid value: {\"MinAvailable\":1,\"Selector\":null,\"MaxUnavailable\":1,\
                 \"UnhealthyPodEvictionPolicy\":null}: minAvailable and maxUnavailable cannot be both set",
            ),
            (r#"{"minAvailable":-1}"#, "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"),
            (
                r#"{"maxUnavailable":"101%"}"#,
                "spec.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
            ),
            (
                r#"{"unhealthyPodEvictionPolicy":"Never"}"#,
                "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \
                 \"IfHealthyBudget\"",
            ),
        ] {
            create(&PodDisruptionBudget, &format!(r#"{{"spec":{spec}}}"#), expect);
        }
    }

    #[test]
    fn the_status_counts_and_has_conditions() {
        for (status, expect) in [
            (
                r#"{"conditions":[{"type":"A","status":"True","reason":"R","lastTransitionTime":"1970-01-01T00:00:00Z"}]}"#,
                "",
            ),
            (
                r#"{"currentHealthy":-1}"#,
                "status.currentHealthy: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                r#"{"conditions":[{"type":"A","status":"Odd","reason":"R","lastTransitionTime":"1970-01-01T00:00:00Z"},
                    {"type":"A","status":"","reason":"","observedGeneration":-1}]}"#,
                "status.conditions[0].status: Unsupported value: \"Odd\": supported values: \"False\", \"True\", \
                 \"Unknown\"\n\
                 status.conditions[1].type: Duplicate value: \"A\"\n\
                 status.conditions[1].status: Unsupported value: \"\": supported values: \"False\", \"True\", \
                 \"Unknown\"\n\
                 status.conditions[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero\n\
                 status.conditions[1].lastTransitionTime: Required value\n\
                 status.conditions[1].reason: Required value",
            ),
        ] {
            update_status(&PodDisruptionBudget, "{}", &format!(r#"{{"status":{status}}}"#), expect);
        }
    }

    #[test]
    fn cells_show_the_bounds() {
        for (spec, expect) in
            [(r#"{"minAvailable":1}"#, r#""1","N/A""#), (r#"{"maxUnavailable":"50%"}"#, r#""N/A","50%""#)]
        {
            cells(
                &PodDisruptionBudget,
                &format!(r#"{{"metadata":{{"name":"b"}},"spec":{spec},"status":{{"disruptionsAllowed":2}}}}"#),
                &format!(r#"["b",{expect},2,"<unknown>"]"#),
            );
        }
    }
}
