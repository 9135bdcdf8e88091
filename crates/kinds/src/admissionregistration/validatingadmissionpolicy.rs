//! ValidatingAdmissionPolicy: expressions that judge requests.

use std::collections::HashSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::Kind;
use crate::checks::{check_conditions, default_field, invalid_text, name, same, supported};

const AUDIT_ANNOTATIONS_MAX: usize = 20;
const VALUE_EXPRESSION_LEN_MAX: usize = 5 * 1024;

pub(crate) struct ValidatingAdmissionPolicy;

impl Kind for ValidatingAdmissionPolicy {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "validatingadmissionpolicies"
    }

    fn default(&self, object: &mut Value) {
        default_field(object, &["spec", "failurePolicy"], "Fail");
        super::default_match_resources(object, &["spec", "matchConstraints"]);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object, false)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let is_same = |field: &str| same(new.at(&["spec", field]), old.at(&["spec", field]));
        check(new, is_same("paramKind") && is_same("matchConditions"))
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let status = Path::new("status");
        let path = status.child("typeChecking");
        let path = path.child("expressionWarnings");
        let warnings = new.list_at(&["status", "typeChecking", "expressionWarnings"]);
        for (index, warning) in warnings.iter().enumerate() {
            for field in ["warning", "fieldRef"] {
                let text = warning.str_at(&[field]);
                if text.is_empty() || field == "fieldRef" && text.trim().is_empty() {
                    errors.push(Error::required(&path.index(index).child(field), ""));
                }
            }
        }
        check_conditions(&mut errors, &status.child("conditions"), new.list_at(&["status", "conditions"]));
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        super::warnings(new)
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let validations = i64::try_from(object.list_at(&["spec", "validations"]).len()).unwrap_or(i64::MAX);
        Some(vec![name(object), validations.into(), super::param_kind(object), api_semantics::time::age(object, now)])
    }
}

fn check(object: &Value, conditions_are_old: bool) -> ErrorList {
    let nothing = Value::Null;
    let spec = object.get("spec").unwrap_or(&nothing);
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    super::check_failure_policy(&mut errors, &path, spec);
    if let Some(kind) = spec.get("paramKind") {
        super::check_param_kind(&mut errors, &path.child("paramKind"), kind);
    }
    super::check_match_constraints(&mut errors, &path, spec);
    if !conditions_are_old {
        let conditions = spec.list_at(&["matchConditions"]);
        super::check_match_conditions(&mut errors, &path.child("matchConditions"), conditions);
    }
    super::check_variables(&mut errors, &path.child("variables"), spec.list_at(&["variables"]));
    let (validations, annotations) = (spec.list_at(&["validations"]), spec.list_at(&["auditAnnotations"]));
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        errors.push(Error::required(&path.child("validations"), why));
        errors.push(Error::required(&path.child("auditAnnotations"), why));
    }
    let validations_path = path.child("validations");
    for (index, validation) in validations.iter().enumerate() {
        check_validation(&mut errors, &validations_path.index(index), validation);
    }
    let policy = object.str_at(&["metadata", "name"]);
    check_annotations(&mut errors, &path.child("auditAnnotations"), annotations, policy);
    errors
}

fn check_validation(errors: &mut ErrorList, path: &Path<'_>, validation: &Value) {
    super::check_expression(errors, &path.child("expression"), validation, "expression", "expression is not specified");
    let blank = |field: &str| {
        let text = validation.str_at(&[field]);
        !text.is_empty() && text.trim().is_empty()
    };
    for field in ["messageExpression", "message"] {
        if blank(field) {
            let text = validation.str_at(&[field]);
            errors.push(Error::invalid(&path.child(field), text, "must be non-empty if specified"));
        }
    }
    let message = validation.str_at(&["message"]);
    if message.trim().contains(['\n', '\r']) {
        errors.push(Error::invalid(&path.child("message"), message, "must not contain line breaks"));
    }
    if let Some(reason) = validation.get("reason").and_then(Value::as_str) {
        let reasons = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
        supported(errors, &path.child("reason"), reason, &reasons);
    }
}

fn check_annotations(errors: &mut ErrorList, path: &Path<'_>, annotations: &[Value], policy: &str) {
    if annotations.len() > AUDIT_ANNOTATIONS_MAX {
        let why = format!("must not have more than {AUDIT_ANNOTATIONS_MAX} auditAnnotations");
        let shown = annotations.iter().map(|annotation| {
            crate::checks::internal(Some(annotation), "io.k8s.api.admissionregistration.v1.AuditAnnotation")
        });
        errors.push(Error::invalid(path, Value::List(shown.collect()), why));
    }
    let mut seen = HashSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let item = path.index(index);
        let key = annotation.str_at(&["key"]);
        let full = format!("{policy}/{key}");
        if policy.is_empty() {
            errors.push(Error::invalid(&item.child("key"), key, "requires metadata.name be non-empty"));
        } else {
            invalid_text(errors, &item.child("key"), &full, names::qualified_name(&full));
        }
        let expression = annotation.str_at(&["valueExpression"]).trim();
        let expression_path = item.child("valueExpression");
        if expression.is_empty() {
            errors.push(Error::required(&expression_path, "valueExpression is not specified"));
        } else if expression.len() > VALUE_EXPRESSION_LEN_MAX {
            let why = format!("must not exceed {VALUE_EXPRESSION_LEN_MAX} bytes in length");
            errors.push(Error::required(&expression_path, why));
        }
        if !seen.insert(key) {
            errors.push(Error::duplicate(&item.child("key"), key));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, update, update_status};

    const KIND: &dyn Kind = &ValidatingAdmissionPolicy;

    fn object(rest: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"matchConstraints":{{"resourceRules":[
                {{"operations":["CREATE"],"apiGroups":[""],"apiVersions":["v1"],"resources":["pods"]}}]}}{rest}}}}}"#
        )
    }

    #[test]
    fn policies_match_equivalents_of_everything() {
        defaults(
            KIND,
            r#"{"spec":{"matchConstraints":{"resourceRules":[{}],"excludeResourceRules":[{}]}}}"#,
            r#"{"spec":{"failurePolicy":"Fail","matchConstraints":{"matchPolicy":"Equivalent","namespaceSelector":{},
                "objectSelector":{},"resourceRules":[{"scope":"*"}],"excludeResourceRules":[{"scope":"*"}]}}}"#,
        );
    }

    #[test]
    fn policies_check_something() {
        create(
            KIND,
            r#"{"metadata":{"name":"p"},"spec":{"failurePolicy":"Odd"}}"#,
            "spec.failurePolicy: Unsupported value: \"Odd\": supported values: \"Fail\", \"Ignore\"\n\
             spec.matchConstraints: Required value\n\
             spec.validations: Required value: validations or auditAnnotations must contain at least one item\n\
             spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
        );
        create(
            KIND,
            r#"{"metadata":{"name":"p"},"spec":{"matchConstraints":{},"validations":[{"expression":"true"}]}}"#,
            "spec.matchConstraints.resourceRules: Required value",
        );
        for (rest, expect) in [
            (r#","validations":[{"expression":"true","message":"m","reason":"Invalid"}]"#, ""),
            (
                r#","validations":[{"messageExpression":" ","message":" "},
                    {"expression":"true","message":"a\nb","reason":"Odd"}]"#,
                "spec.validations[0].expression: Required value: expression is not specified\n\
                 spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified\n\
                 spec.validations[0].message: Invalid value: \" \": must be non-empty if specified\n\
                 spec.validations[1].message: Invalid value: \"a\\nb\": must not contain line breaks\n\
                 spec.validations[1].reason: Unsupported value: \"Odd\": supported values: \"Forbidden\", \
                 \"Invalid\", \"RequestEntityTooLarge\"",
            ),
            (
                r#","auditAnnotations":[{"key":"a"},{"key":"a","valueExpression":"'x'"}]"#,
                "spec.auditAnnotations[0].valueExpression: Required value: valueExpression is not specified\n\
                 spec.auditAnnotations[1].key: Duplicate value: \"a\"",
            ),
        ] {
            create(KIND, &object(rest), expect);
        }
    }

    #[test]
    fn old_conditions_are_tolerated() {
        let with = |message: &str| {
            object(&format!(
                r#","matchConditions":[{{"name":"a"}}],"validations":[{{"expression":"true","message":"{message}"}}]"#
            ))
        };
        update(KIND, &with("a"), &with("b"), "");
        create(KIND, &with("a"), "spec.matchConditions[0].expression: Required value");
    }

    #[test]
    fn warnings_of_type_checking_say_where() {
        let base = object(r#","validations":[{"expression":"true"}]"#);
        let status = r#"{"typeChecking":{"expressionWarnings":[{"fieldRef":"spec.validations[0].expression"},
            {"fieldRef":" ","warning":"w"}]}}"#;
        let new = base.replacen('{', &format!(r#"{{"status":{status},"#), 1);
        update_status(
            KIND,
            &base,
            &new,
            "status.typeChecking.expressionWarnings[0].warning: Required value\n\
             status.typeChecking.expressionWarnings[1].fieldRef: Required value",
        );
    }

    #[test]
    fn cells_tell_the_parameters() {
        cells(KIND, &object(r#","validations":[{}]"#), r#"["p",1,"<unset>","<unknown>"]"#);
        cells(
            KIND,
            &object(r#","paramKind":{"apiVersion":"v1","kind":"ConfigMap"}"#),
            r#"["p",0,"v1/ConfigMap","<unknown>"]"#,
        );
    }
}
