//! ClusterRole: what may be done in the whole cluster, or in the namespaces it is bound in.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::selector::{self, Leniency, Selector};

use crate::Kind;

pub(crate) struct ClusterRole;

impl Kind for ClusterRole {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "clusterroles"
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object, Leniency::default())
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let selectors = old.list_at(&["aggregationRule", "clusterRoleSelectors"]);
        let invalid_values = selectors.iter().any(|selector| selector::has_invalid_values(Some(selector)));
        check(new, Leniency { invalid_values, ..Leniency::default() })
    }
    fn check_name(&self, name: &str, prefix: bool) -> Vec<String> {
        super::check_name(name, prefix)
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        false
    }
}

fn check(object: &Value, lenient: Leniency) -> ErrorList {
    let mut errors = super::check_rules(object, false);
    if let Some(aggregation) = object.get("aggregationRule") {
        let rule = Path::new("aggregationRule");
        let path = rule.child("clusterRoleSelectors");
        let selectors = aggregation.list_at(&["clusterRoleSelectors"]);
        if selectors.is_empty() {
            let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.push(Error::required(&path, why));
        }
        for (index, selector) in selectors.iter().enumerate() {
            let path = path.index(index);
            errors.extend(selector::validate(Some(selector), &path, lenient));
            if Selector::from_value(Some(selector)).is_err() {
                // Upstream shows the selector that it could not make.
                errors.push(Error::invalid(&path, Value::Null, "invalid label selector."));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::create;

    #[test]
    fn a_rule_is_about_resources_or_urls() {
        for (rule, expect) in [
            (r#"{"verbs":["get"],"nonResourceURLs":["/healthz"]}"#, ""),
            (
                r#"{"verbs":["get"],"nonResourceURLs":["/a","/b"],"resources":["pods"]}"#,
                "rules[0].nonResourceURLs: Invalid value: [\"/a\",\"/b\"]: rules cannot apply to both regular \
                 resources and non-resource URLs",
            ),
        ] {
            create(&ClusterRole, &format!(r#"{{"rules":[{rule}]}}"#), expect);
        }
    }

    #[test]
    fn an_aggregation_selects_something() {
        for (rule, expect) in [
            (r#"{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}"#, ""),
            (
                "{}",
                "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if \
                 aggregationRule is non-nil",
            ),
        ] {
            create(&ClusterRole, &format!(r#"{{"rules":null,"aggregationRule":{rule}}}"#), expect);
        }
    }
}
