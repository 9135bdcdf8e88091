//! Role: what may be done in one namespace.

use api_schema::Value;
use api_semantics::field::ErrorList;

use crate::Kind;

pub(crate) struct Role;

impl Kind for Role {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "roles"
    }

    fn validate(&self, object: &Value) -> ErrorList {
        super::check_rules(object, true)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::create;

    #[test]
    fn each_rule_names_verbs_and_resources() {
        for (rule, expect) in [
            (r#"{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}"#, ""),
            (
                r#"{"apiGroups":[""],"resources":["pods"]}"#,
                "rules[0].verbs: Required value: verbs must contain at least one value",
            ),
            (
                r#"{"verbs":["get"]}"#,
                "rules[0].apiGroups: Required value: resource rules must supply at least one api group\n\
                 rules[0].resources: Required value: resource rules must supply at least one resource",
            ),
            (
                r#"{"verbs":["get"],"nonResourceURLs":["/healthz"]}"#,
                "rules[0].nonResourceURLs: Invalid value: [\"/healthz\"]: namespaced rules cannot apply to \
                 non-resource URLs",
            ),
        ] {
            create(&Role, &format!(r#"{{"rules":[{rule}]}}"#), expect);
        }
        create(&Role, r#"{"rules":null}"#, "");
    }

    #[test]
    fn names_need_only_fit_in_a_path() {
        assert!(Role.check_name("system:node:x", false).is_empty());
        for (name, expect) in
            [("..", "may not be '..'"), ("a/b", "may not contain '/'"), ("a%b", "may not contain '%'")]
        {
            assert_eq!(Role.check_name(name, false), [expect]);
        }
    }
}
