//! The group admissionregistration.k8s.io: webhooks and policies that judge requests.
//!
//! Expressions are not compiled here: whether they are CEL shows when they are used.

use std::collections::HashSet;

use api_schema::{Map, SmolStr, Value, format_smolstr};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::selector::{self, Leniency};

use crate::checks::{default_field, invalid_text, items_mut, supported, text_or, texts};

pub(crate) mod mutatingadmissionpolicy;
pub(crate) mod mutatingadmissionpolicybinding;
pub(crate) mod mutatingwebhookconfiguration;
pub(crate) mod validatingadmissionpolicy;
pub(crate) mod validatingadmissionpolicybinding;
pub(crate) mod validatingwebhookconfiguration;
pub(crate) mod webhook;

const GROUP: &str = "admissionregistration.k8s.io";

/// Objects with such names can only come from files.
const STATIC_SUFFIX: &str = ".static.k8s.io";

const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const MATCH_POLICIES: [&str; 2] = ["Equivalent", "Exact"];
const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];

const MATCH_CONDITIONS_MAX: usize = 64;

/// Words that CEL has for itself.
const CEL_RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

fn warnings(object: &Value) -> Vec<String> {
    if !object.str_at(&["metadata", "name"]).ends_with(STATIC_SUFFIX) {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: names ending with \"{STATIC_SUFFIX}\" are reserved for static manifest-based configurations \
         and cannot be managed via the API"
    )]
}

fn default_rules(object: &mut Value, path: &[&str]) {
    for rule in items_mut(object, path) {
        default_field(rule, &["scope"], "*");
    }
}

/// The selectors and the match policy that a webhook or policy has.
fn default_matching(object: &mut Value) {
    default_field(object, &["matchPolicy"], "Equivalent");
    default_field(object, &["namespaceSelector"], Map::new());
    default_field(object, &["objectSelector"], Map::new());
}

fn default_match_resources(object: &mut Value, path: &[&str]) {
    if let Some(resources) = object.at_mut(path).filter(|resources| !resources.is_null()) {
        default_matching(resources);
        default_rules(resources, &["resourceRules"]);
        default_rules(resources, &["excludeResourceRules"]);
    }
}

fn has(texts: &[&str], text: &str) -> bool {
    texts.contains(&text)
}

/// A rule with operations.
fn check_rule(errors: &mut ErrorList, path: &Path<'_>, rule: &Value) {
    let operations = texts(rule, &["operations"]);
    let operations_path = path.child("operations");
    check_wildcard(errors, &operations_path, &operations, "other operations");
    for (index, operation) in operations.iter().enumerate() {
        supported(errors, &operations_path.index(index), operation, &OPERATIONS);
    }
    check_wildcard(errors, &path.child("apiGroups"), &texts(rule, &["apiGroups"]), "other API groups");
    let versions = texts(rule, &["apiVersions"]);
    let versions_path = path.child("apiVersions");
    check_wildcard(errors, &versions_path, &versions, "other API versions");
    for (index, _) in versions.iter().enumerate().filter(|(_, version)| version.is_empty()) {
        errors.push(Error::required(&versions_path.index(index), ""));
    }
    check_resources(errors, &path.child("resources"), &texts(rule, &["resources"]));
    if let Some(scope) = rule.get("scope").and_then(Value::as_str) {
        supported(errors, &path.child("scope"), scope, &["*", "Cluster", "Namespaced"]);
    }
}

/// A list must say something, and `*` stands alone.
fn check_wildcard(errors: &mut ErrorList, path: &Path<'_>, items: &[&str], others: &str) {
    if items.is_empty() {
        errors.push(Error::required(path, ""));
    }
    if items.len() > 1 && has(items, "*") {
        let why = format!("if '*' is present, must not specify {others}");
        errors.push(Error::invalid(path, shown(items), why));
    }
}

fn shown(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| Value::from(*item)).collect())
}

fn check_resources(errors: &mut ErrorList, path: &Path<'_>, resources: &[&str]) {
    if resources.is_empty() {
        errors.push(Error::required(path, ""));
    }
    let (mut all_of_resource, mut all_of_subresource) = (HashSet::new(), HashSet::new());
    let mut has_plain = false;
    for (index, text) in resources.iter().enumerate() {
        let item = path.index(index);
        if text.is_empty() {
            errors.push(Error::required(&item, ""));
            continue;
        }
        let Some((resource, subresource)) = text.split_once('/') else {
            // As upstream, only the last of them counts.
            has_plain = *text != "*";
            continue;
        };
        if all_of_resource.contains(resource) {
            let why = format!("if '{resource}/*' is present, must not specify {text}");
            errors.push(Error::invalid(&item, *text, why));
        }
        if all_of_subresource.contains(subresource) {
            let why = format!("if '*/{subresource}' is present, must not specify {text}");
            errors.push(Error::invalid(&item, *text, why));
        }
        if subresource == "*" {
            all_of_resource.insert(resource);
        }
        if resource == "*" {
            all_of_subresource.insert(subresource);
        }
    }
    if resources.len() > 1 && has(resources, "*/*") {
        let why = "if '*/*' is present, must not specify other resources";
        errors.push(Error::invalid(path, shown(resources), why));
    }
    if has(resources, "*") && has_plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.push(Error::invalid(path, shown(resources), why));
    }
}

/// The MatchResources of a policy or binding.
fn check_match_resources(errors: &mut ErrorList, path: &Path<'_>, resources: &Value) {
    let policy = path.child("matchPolicy");
    match resources.str_at(&["matchPolicy"]) {
        "" => errors.push(Error::required(&policy, "")),
        text => supported(errors, &policy, text, &MATCH_POLICIES),
    }
    for field in ["namespaceSelector", "objectSelector"] {
        match resources.get(field) {
            None => errors.push(Error::required(&path.child(field), "")),
            selector => errors.extend(selector::validate(selector, &path.child(field), Leniency::default())),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        let rules = path.child(field);
        for (index, rule) in resources.list_at(&[field]).iter().enumerate() {
            check_named_rule(errors, &rules.index(index), rule);
        }
    }
}

fn check_named_rule(errors: &mut ErrorList, path: &Path<'_>, rule: &Value) {
    let mut seen = HashSet::new();
    let path_of_names = path.child("resourceNames");
    for (index, name) in texts(rule, &["resourceNames"]).into_iter().enumerate() {
        let item = path_of_names.index(index);
        invalid_text(errors, &item, name, names::path_segment_name(name, false));
        if !seen.insert(name) {
            errors.push(Error::duplicate(&item, name));
        }
    }
    check_rule(errors, path, rule);
}

/// The operations that a mutating policy can match: deleted objects cannot be changed. The path has no index.
fn check_mutating_operations(errors: &mut ErrorList, path: &Path<'_>, resources: &Value) {
    let rules = path.child("resourceRules");
    for rule in resources.list_at(&["resourceRules"]) {
        for operation in texts(rule, &["operations"]) {
            supported(errors, &rules.child("operations"), operation, &MUTATING_OPERATIONS);
        }
    }
}

fn check_match_conditions(errors: &mut ErrorList, path: &Path<'_>, conditions: &[Value]) {
    if conditions.len() > MATCH_CONDITIONS_MAX {
        errors.push(Error::too_many(path, conditions.len(), MATCH_CONDITIONS_MAX));
    }
    let mut seen = HashSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let item = path.index(index);
        check_expression(errors, &item.child("expression"), condition, "expression", "");
        let name = condition.str_at(&["name"]);
        if name.is_empty() {
            errors.push(Error::required(&item.child("name"), ""));
        } else {
            invalid_text(errors, &item.child("name"), name, names::qualified_name(name));
            if !seen.insert(name) {
                errors.push(Error::duplicate(&item.child("name"), name));
            }
        }
    }
}

/// An expression must say something.
fn check_expression(errors: &mut ErrorList, path: &Path<'_>, object: &Value, field: &str, why: &str) {
    if object.str_at(&[field]).trim().is_empty() {
        errors.push(Error::required(path, why));
    }
}

fn check_variables(errors: &mut ErrorList, path: &Path<'_>, variables: &[Value]) {
    for (index, variable) in variables.iter().enumerate() {
        let item = path.index(index);
        let name = variable.str_at(&["name"]);
        if name.trim().is_empty() {
            errors.push(Error::required(&item.child("name"), "name is not specified"));
        } else if !is_cel_identifier(name) {
            errors.push(Error::invalid(&item.child("name"), name, "must be a valid CEL identifier"));
        }
        check_expression(errors, &item.child("expression"), variable, "expression", "expression is not specified");
    }
}

fn is_cel_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
        && !CEL_RESERVED.contains(&name)
}

fn check_failure_policy(errors: &mut ErrorList, path: &Path<'_>, spec: &Value) {
    match spec.get("failurePolicy").and_then(Value::as_str) {
        None => errors.push(Error::required(&path.child("failurePolicy"), "")),
        Some(policy) => supported(errors, &path.child("failurePolicy"), policy, &FAILURE_POLICIES),
    }
}

fn check_match_constraints(errors: &mut ErrorList, path: &Path<'_>, spec: &Value) {
    let path = path.child("matchConstraints");
    let Some(constraints) = spec.get("matchConstraints") else {
        errors.push(Error::required(&path, ""));
        return;
    };
    check_match_resources(errors, &path, constraints);
    if constraints.list_at(&["resourceRules"]).is_empty() {
        errors.push(Error::required(&path.child("resourceRules"), ""));
    }
}

/// The type of a policy's parameters.
fn check_param_kind(errors: &mut ErrorList, path: &Path<'_>, kind: &Value) {
    let (api_version, kind) = (kind.str_at(&["apiVersion"]), kind.str_at(&["kind"]));
    check_api_version(errors, &path.child("apiVersion"), api_version);
    let path = path.child("kind");
    if kind.is_empty() {
        errors.push(Error::required(&path, ""));
        return;
    }
    let wrong = names::dns1035_label(&kind.to_lowercase(), false);
    if !wrong.is_empty() {
        let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.push(Error::invalid(&path, kind, why));
    }
}

fn check_api_version(errors: &mut ErrorList, path: &Path<'_>, api_version: &str) {
    let (group, version) = match api_version.split_once('/') {
        _ if api_version.is_empty() => return errors.push(Error::required(path, "")),
        Some((_, rest)) if rest.contains('/') => {
            let why = format!("unexpected GroupVersion string: {api_version}");
            return errors.push(Error::invalid(path, api_version, why));
        }
        Some(parts) => parts,
        None => ("", api_version),
    };
    if !group.is_empty() {
        let wrong = names::dns1123_subdomain(group, false);
        if !wrong.is_empty() {
            errors.push(Error::invalid(path, group, wrong.join(",")));
        }
    }
    if version.is_empty() {
        errors.push(Error::invalid(path, api_version, "version must be specified"));
        return;
    }
    let wrong = names::dns1035_label(version, false);
    if !wrong.is_empty() {
        errors.push(Error::invalid(path, version, wrong.join(",")));
    }
}

/// The policy and the parameters that a binding joins, and the resources to which it holds.
fn check_binding(errors: &mut ErrorList, path: &Path<'_>, spec: &Value) {
    let policy = spec.str_at(&["policyName"]);
    if policy.is_empty() {
        errors.push(Error::required(&path.child("policyName"), ""));
    } else {
        invalid_text(errors, &path.child("policyName"), policy, names::dns1123_subdomain(policy, false));
    }
    if let Some(reference) = spec.get("paramRef") {
        check_param_ref(errors, &path.child("paramRef"), reference);
    }
    if let Some(resources) = spec.get("matchResources") {
        check_match_resources(errors, &path.child("matchResources"), resources);
    }
}

fn check_param_ref(errors: &mut ErrorList, path: &Path<'_>, reference: &Value) {
    let (name, selector) = (reference.str_at(&["name"]), reference.get("selector"));
    let both = "name and selector are mutually exclusive";
    if !name.is_empty() {
        invalid_text(errors, &path.child("name"), name, names::path_segment_name(name, false));
        if selector.is_some() {
            errors.push(Error::forbidden(&path.child("name"), both));
        }
    }
    if selector.is_some() {
        errors.extend(selector::validate(selector, &path.child("selector"), Leniency::default()));
        if !name.is_empty() {
            errors.push(Error::forbidden(&path.child("selector"), both));
        }
    }
    if name.is_empty() && selector.is_none() {
        errors.push(Error::required(path, "one of name or selector must be specified"));
    }
    let action_path = path.child("parameterNotFoundAction");
    match reference.str_at(&["parameterNotFoundAction"]) {
        "" => errors.push(Error::required(&action_path, "")),
        action => supported(errors, &action_path, action, &["Deny", "Allow"]),
    }
}

/// The cell with the type of a policy's parameters.
fn param_kind(policy: &Value) -> Value {
    let part = |field: &str| policy.str_at(&["spec", "paramKind", field]);
    match policy.at(&["spec", "paramKind"]) {
        Some(_) => format_smolstr!("{}/{}", part("apiVersion"), part("kind")).into(),
        None => "<unset>".into(),
    }
}

/// The cell with the parameters of a binding.
fn param_ref(binding: &Value) -> Value {
    let reference = &["spec", "paramRef"];
    let Some(reference) = binding.at(reference) else { return "<unset>".into() };
    match (reference.str_at(&["name"]), reference.get("selector")) {
        ("", Some(selector)) => go_selector(selector).into(),
        ("", None) => "<unset>".into(),
        (name, _) => {
            let namespace = text_or(reference, &["namespace"], "*");
            format_smolstr!("{}/{name}", namespace.as_str().unwrap_or_default()).into()
        }
    }
}

/// A selector as Go prints its struct.
fn go_selector(selector: &Value) -> SmolStr {
    let labels = selector.map_at(&["matchLabels"]).into_iter().flat_map(Map::iter);
    let labels: String = labels.map(|(key, value)| format!("{key}: {},", value.as_str().unwrap_or_default())).collect();
    let expressions = selector.list_at(&["matchExpressions"]).iter();
    let expressions: String = expressions
        .map(|expression| {
            let (key, operator) = (expression.str_at(&["key"]), expression.str_at(&["operator"]));
            let values = texts(expression, &["values"]).join(" ");
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    format_smolstr!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement\
         {{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{json, lines};

    fn errors_of(check: impl Fn(&mut ErrorList, &Path<'_>, &Value), value: &str) -> String {
        let mut errors = ErrorList::new();
        check(&mut errors, &Path::new("p"), &json(value));
        lines(&errors)
    }

    #[test]
    fn wildcards_stand_alone() {
        for (rule, expect) in [
            (r#"{"operations":["*"],"apiGroups":[""],"apiVersions":["v1"],"resources":["pods","pods/*"]}"#, ""),
            (
                r#"{"operations":["*","CREATE"],"apiGroups":["*","a"],"apiVersions":["*",""],"resources":["*","pods"]}"#,
                "p.operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations\n\
                 p.apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other API groups\n\
                 p.apiVersions: Invalid value: [\"*\",\"\"]: if '*' is present, must not specify other API versions\n\
                 p.apiVersions[1]: Required value\n\
                 p.resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources \
                 without subresources",
            ),
            (
                r#"{"operations":["Create"],"apiGroups":["a"],"apiVersions":["b"],"scope":"All",
                    "resources":["a/*","a/b","*/c","d/c","*/*",""]}"#,
                "p.operations[0]: Unsupported value: \"Create\": supported values: \"*\", \"CONNECT\", \"CREATE\", \
                 \"DELETE\", \"UPDATE\"\n\
                 p.resources[1]: Invalid value: \"a/b\": if 'a/*' is present, must not specify a/b\n\
                 p.resources[3]: Invalid value: \"d/c\": if '*/c' is present, must not specify d/c\n\
                 p.resources[5]: Required value\n\
                 p.resources: Invalid value: [\"a/*\",\"a/b\",\"*/c\",\"d/c\",\"*/*\",\"\"]: if '*/*' is present, must \
                 not specify other resources\n\
                 p.scope: Unsupported value: \"All\": supported values: \"*\", \"Cluster\", \"Namespaced\"",
            ),
            (
                "{}",
                "p.operations: Required value\np.apiGroups: Required value\np.apiVersions: Required value\n\
                 p.resources: Required value",
            ),
        ] {
            assert_eq!(errors_of(check_rule, rule), expect);
        }
    }

    #[test]
    fn parameters_are_of_a_kind() {
        let label = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                     alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
                     regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
        for (kind, expect) in [
            (r#"{"apiVersion":"v1","kind":"ConfigMap"}"#, String::new()),
            (r#"{"apiVersion":"a.b/v1","kind":"C"}"#, String::new()),
            ("{}", "p.apiVersion: Required value\np.kind: Required value".into()),
            (
                r#"{"apiVersion":"a/b/c","kind":"C"}"#,
                "p.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c".into(),
            ),
            (
                r#"{"apiVersion":"a/","kind":"C"}"#,
                "p.apiVersion: Invalid value: \"a/\": version must be specified".into(),
            ),
            (
                r#"{"apiVersion":"1","kind":"C D"}"#,
                format!(
                    "p.apiVersion: Invalid value: \"1\": {label}\n\
                     p.kind: Invalid value: \"C D\": may have mixed case, but should otherwise match: {label}"
                ),
            ),
        ] {
            assert_eq!(errors_of(check_param_kind, kind), expect);
        }
    }

    #[test]
    fn conditions_and_variables_have_names() {
        let conditions = |errors: &mut ErrorList, path: &Path<'_>, value: &Value| {
            check_match_conditions(errors, path, value.list_at(&["c"]));
            check_variables(errors, path, value.list_at(&["v"]));
        };
        for (value, expect) in [
            (r#"{"c":[{"name":"a","expression":"true"}],"v":[{"name":"_a1","expression":"1"}]}"#, ""),
            (
                r#"{"c":[{"name":"a","expression":" "},{"name":"a","expression":"true"},{"expression":"true"}]}"#,
                "p[0].expression: Required value\np[1].name: Duplicate value: \"a\"\np[2].name: Required value",
            ),
            (
                r#"{"v":[{"name":"1a","expression":""},{"name":"in","expression":"1"},{"expression":"1"}]}"#,
                "p[0].name: Invalid value: \"1a\": must be a valid CEL identifier\n\
                 p[0].expression: Required value: expression is not specified\n\
                 p[1].name: Invalid value: \"in\": must be a valid CEL identifier\n\
                 p[2].name: Required value: name is not specified",
            ),
        ] {
            assert_eq!(errors_of(conditions, value), expect);
        }
        let many: String = (0..65).map(|at| format!(r#"{{"name":"c{at}","expression":"true"}},"#)).collect();
        let many = format!(r#"{{"c":[{}]}}"#, many.trim_end_matches(','));
        assert_eq!(errors_of(conditions, &many), "p: Too many: 65: must have at most 64 items");
    }

    #[test]
    fn parameters_are_found_by_name_or_selector() {
        for (reference, expect, cell) in [
            (r#"{"name":"a","namespace":"b","parameterNotFoundAction":"Deny"}"#, "", "b/a"),
            (r#"{"name":"a","parameterNotFoundAction":"Allow"}"#, "", "*/a"),
            (
                r#"{"selector":{"matchLabels":{"a":"b"},"matchExpressions":[{"key":"k","operator":"In","values":["x","y"]}]},
                    "parameterNotFoundAction":"Deny"}"#,
                "",
                "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement\
                 {LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}",
            ),
            (
                r#"{"name":"a/b","selector":{},"parameterNotFoundAction":"Odd"}"#,
                "p.name: Invalid value: \"a/b\": may not contain '/'\n\
                 p.name: Forbidden: name and selector are mutually exclusive\n\
                 p.selector: Forbidden: name and selector are mutually exclusive\n\
                 p.parameterNotFoundAction: Unsupported value: \"Odd\": supported values: \"Deny\", \"Allow\"",
                "*/a/b",
            ),
            (
                "{}",
                "p: Required value: one of name or selector must be specified\n\
                 p.parameterNotFoundAction: Required value",
                "<unset>",
            ),
        ] {
            assert_eq!(errors_of(check_param_ref, reference), expect);
            let binding = json(&format!(r#"{{"spec":{{"paramRef":{reference}}}}}"#));
            assert_eq!(param_ref(&binding).as_str(), Some(cell));
        }
    }

    #[test]
    fn names_of_files_are_warned_about() {
        assert_eq!(warnings(&json(r#"{"metadata":{"name":"a.static.k8s.io"}}"#)).len(), 1);
        assert_eq!(warnings(&json(r#"{"metadata":{"name":"a.k8s.io"}}"#)).len(), 0);
    }
}
