//! MutatingAdmissionPolicy: expressions that change requests.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};

use super::REINVOCATION_POLICIES;
use crate::Kind;
use crate::checks::{default_field, name, same, supported};

pub(crate) struct MutatingAdmissionPolicy;

impl Kind for MutatingAdmissionPolicy {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "mutatingadmissionpolicies"
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

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        super::warnings(new)
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let mutations = i64::try_from(object.list_at(&["spec", "mutations"]).len()).unwrap_or(i64::MAX);
        Some(vec![name(object), mutations.into(), super::param_kind(object), api_semantics::time::age(object, now)])
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
    if let Some(constraints) = spec.get("matchConstraints") {
        super::check_mutating_operations(&mut errors, &path.child("matchConstraints"), constraints);
    }
    if !conditions_are_old {
        let conditions = spec.list_at(&["matchConditions"]);
        super::check_match_conditions(&mut errors, &path.child("matchConditions"), conditions);
    }
    super::check_variables(&mut errors, &path.child("variables"), spec.list_at(&["variables"]));
    let mutations = spec.list_at(&["mutations"]);
    let mutations_path = path.child("mutations");
    if mutations.is_empty() {
        errors.push(Error::required(&mutations_path, "mutations must contain at least one item"));
    }
    for (index, mutation) in mutations.iter().enumerate() {
        check_mutation(&mut errors, &mutations_path.index(index), mutation);
    }
    let policy_path = path.child("reinvocationPolicy");
    match spec.str_at(&["reinvocationPolicy"]) {
        "" => errors.push(Error::required(&policy_path, "")),
        policy => supported(&mut errors, &policy_path, policy, &REINVOCATION_POLICIES),
    }
    errors
}

fn check_mutation(errors: &mut ErrorList, path: &Path<'_>, mutation: &Value) {
    let patch_type = mutation.str_at(&["patchType"]);
    let (field, other) = match patch_type {
        "" => return errors.push(Error::required(&path.child("patchType"), "")),
        "JSONPatch" => ("jsonPatch", "applyConfiguration"),
        "ApplyConfiguration" => ("applyConfiguration", "jsonPatch"),
        _ => {
            let types = ["ApplyConfiguration", "JSONPatch"];
            return errors.push(Error::not_supported(&path.child("patchType"), patch_type, &types));
        }
    };
    let field_path = path.child(field);
    match mutation.get(field) {
        None => {
            let why = format!("must be specified when patchType is {patch_type}");
            errors.push(Error::required(&field_path, why));
        }
        Some(patch) => super::check_expression(errors, &field_path.child("expression"), patch, "expression", ""),
    }
    if mutation.get(other).is_some() {
        let why = format!("must not be specified when patchType is {patch_type}");
        errors.push(Error::invalid(&path.child(other), format!("{{{other}}}"), why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create};

    const KIND: &dyn Kind = &MutatingAdmissionPolicy;

    fn object(operation: &str, rest: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"matchConstraints":{{"resourceRules":[
                {{"operations":["{operation}"],"apiGroups":[""],"apiVersions":["v1"],"resources":["pods"]}}]}}{rest}}}}}"#
        )
    }

    #[test]
    fn policies_change_something() {
        for (operation, rest, expect) in [
            (
                "CREATE",
                r#","reinvocationPolicy":"Never","mutations":[
                    {"patchType":"JSONPatch","jsonPatch":{"expression":"[JSONPatch{op: 'remove', path: '/a'}]"}}]"#,
                "",
            ),
            (
                "DELETE",
                "",
                "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \
                 \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"\n\
                 spec.mutations: Required value: mutations must contain at least one item\n\
                 spec.reinvocationPolicy: Required value",
            ),
            (
                "*",
                r#","reinvocationPolicy":"Odd","mutations":[{},{"patchType":"Odd"},
                    {"patchType":"JSONPatch","applyConfiguration":{"expression":"Object{}"}},
                    {"patchType":"ApplyConfiguration","applyConfiguration":{"expression":" "},
                     "jsonPatch":{"expression":"[JSONPatch{op: 'remove', path: '/a'}]"}}]"#,
                "spec.mutations[0].patchType: Required value\n\
                 spec.mutations[1].patchType: Unsupported value: \"Odd\": supported values: \"ApplyConfiguration\", \
                 \"JSONPatch\"\n\
                 spec.mutations[2].jsonPatch: Required value: must be specified when patchType is JSONPatch\n\
                 spec.mutations[2].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be \
                 specified when patchType is JSONPatch\n\
                 spec.mutations[3].applyConfiguration.expression: Required value\n\
                 spec.mutations[3].jsonPatch: Invalid value: \"{jsonPatch}\": must not be specified when patchType \
                 is ApplyConfiguration\n\
                 spec.reinvocationPolicy: Unsupported value: \"Odd\": supported values: \"IfNeeded\", \"Never\"",
            ),
        ] {
            create(KIND, &object(operation, rest), expect);
        }
    }

    #[test]
    fn cells_count_the_mutations() {
        cells(KIND, &object("*", r#","mutations":[{},{}]"#), r#"["p",2,"<unset>","<unknown>"]"#);
    }
}
