//! ValidatingAdmissionPolicyBinding: puts a ValidatingAdmissionPolicy into effect.

use std::collections::HashSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};

use crate::Kind;
use crate::checks::{name, supported, text, texts};

pub(crate) struct ValidatingAdmissionPolicyBinding;

impl Kind for ValidatingAdmissionPolicyBinding {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "validatingadmissionpolicybindings"
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
        check_actions(&mut errors, &path.child("validationActions"), &texts(spec, &["validationActions"]));
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

fn check_actions(errors: &mut ErrorList, path: &Path<'_>, actions: &[&str]) {
    let mut seen = HashSet::new();
    for (index, action) in actions.iter().enumerate() {
        supported(errors, &path.index(index), action, &["Audit", "Deny", "Warn"]);
        if !seen.insert(*action) {
            errors.push(Error::duplicate(&path.index(index), *action));
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.push(Error::invalid(path, super::shown(actions), why));
    }
    if actions.is_empty() {
        errors.push(Error::required(path, "at least one validation action is required"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults};

    const KIND: &dyn Kind = &ValidatingAdmissionPolicyBinding;

    #[test]
    fn bindings_match_equivalents_of_everything() {
        defaults(KIND, r#"{"spec":{}}"#, r#"{"spec":{}}"#);
        defaults(
            KIND,
            r#"{"spec":{"matchResources":{"resourceRules":[{}]}}}"#,
            r#"{"spec":{"matchResources":{"matchPolicy":"Equivalent","namespaceSelector":{},"objectSelector":{},
                "resourceRules":[{"scope":"*"}]}}}"#,
        );
    }

    #[test]
    fn bindings_say_what_happens() {
        for (spec, expect) in [
            (r#"{"policyName":"p","validationActions":["Warn","Audit"]}"#, ""),
            (
                "{}",
                "spec.policyName: Required value\n\
                 spec.validationActions: Required value: at least one validation action is required",
            ),
            (
                r#"{"policyName":"p","validationActions":["Deny","Warn","Deny","Odd"]}"#,
                "spec.validationActions[2]: Duplicate value: \"Deny\"\n\
                 spec.validationActions[3]: Unsupported value: \"Odd\": supported values: \"Audit\", \"Deny\", \
                 \"Warn\"\n\
                 spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Deny\",\"Odd\"]: must not contain both \
                 Deny and Warn (repeating the same validation failure information in the API response and headers \
                 serves no purpose)",
            ),
            (
                r#"{"policyName":"p","validationActions":["Deny"],"paramRef":{"name":"a"},"matchResources":{
                    "resourceRules":[{"resourceNames":["a","a","."],"operations":["*"],"apiGroups":["*"],
                        "apiVersions":["*"],"resources":["*"]}]}}"#,
                "spec.paramRef.parameterNotFoundAction: Required value\n\
                 spec.matchResources.resourceRules[0].resourceNames[1]: Duplicate value: \"a\"\n\
                 spec.matchResources.resourceRules[0].resourceNames[2]: Invalid value: \".\": may not be '.'",
            ),
        ] {
            create(KIND, &format!(r#"{{"spec":{spec}}}"#), expect);
        }
    }

    #[test]
    fn cells_tell_policy_and_parameters() {
        cells(
            KIND,
            r#"{"metadata":{"name":"b"},"spec":{"policyName":"p","paramRef":{"name":"a","namespace":"n"}}}"#,
            r#"["b","p","n/a","<unknown>"]"#,
        );
    }
}
