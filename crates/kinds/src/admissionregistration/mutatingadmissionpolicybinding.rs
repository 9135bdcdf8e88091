//! MutatingAdmissionPolicyBinding: puts a MutatingAdmissionPolicy into effect.

use api_schema::Value;
use api_semantics::field::{ErrorList, Path};

use crate::Kind;
use crate::checks::{name, text};

pub(crate) struct MutatingAdmissionPolicyBinding;

impl Kind for MutatingAdmissionPolicyBinding {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "mutatingadmissionpolicybindings"
    }

    fn default(&self, object: &mut Value) {
        super::default_match_resources(object, &["spec", "matchResources"]);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let nothing = Value::Null;
        let spec = object.get("spec").unwrap_or(&nothing);
        let mut errors = ErrorList::new();
        let path = Path::new("spec");
        super::check_binding(&mut errors, &path, spec);
        if let Some(resources) = spec.get("matchResources") {
            super::check_mutating_operations(&mut errors, &path.child("matchResources"), resources);
        }
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        super::warnings(new)
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(vec![
            name(object),
            text(object, &["spec", "policyName"]),
            super::param_ref(object),
            api_semantics::time::age(object, now),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create};

    const KIND: &dyn Kind = &MutatingAdmissionPolicyBinding;

    #[test]
    fn bindings_name_a_policy() {
        for (spec, expect) in [
            (r#"{"policyName":"p"}"#, ""),
            (
                r#"{"policyName":"p","matchResources":{"resourceRules":[{"operations":["DELETE"],"apiGroups":["*"],
                    "apiVersions":["*"],"resources":["*"]}]}}"#,
                "spec.matchResources.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \
                 \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
            ),
            ("{}", "spec.policyName: Required value"),
        ] {
            create(KIND, &format!(r#"{{"spec":{spec}}}"#), expect);
        }
    }

    #[test]
    fn cells_tell_policy_and_parameters() {
        cells(KIND, r#"{"metadata":{"name":"b"},"spec":{"policyName":"p"}}"#, r#"["b","p","<unset>","<unknown>"]"#);
    }
}
