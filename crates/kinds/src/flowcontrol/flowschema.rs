//! FlowSchema: which requests belong to which priority level.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::Kind;
use crate::checks::{internal, invalid_text, name, supported, text, text_or, texts};

const PRECEDENCE_MAX: i64 = 10_000;
const PRECEDENCE_DEFAULT: i64 = 1000;
const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub(crate) struct FlowSchema;

impl Kind for FlowSchema {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "flowschemas"
    }

    fn default(&self, object: &mut Value) {
        if object.int_at(&["spec", "matchingPrecedence"]).unwrap_or(0) == 0 {
            object.set(&["spec", "matchingPrecedence"], PRECEDENCE_DEFAULT);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = Path::new("spec");
        check_precedence(&mut errors, &spec.child("matchingPrecedence"), object);
        if let Some(method) = object.at(&["spec", "distinguisherMethod"])
            && !matches!(method.str_at(&["type"]), "ByNamespace" | "ByUser")
        {
            let path = spec.child("distinguisherMethod");
            let shown = internal(Some(method), "io.k8s.api.flowcontrol.v1.FlowDistinguisherMethod");
            errors.push(Error::not_supported(&path.child("type"), shown, &["ByNamespace", "ByUser"]));
        }
        let level = object.str_at(&["spec", "priorityLevelConfiguration", "name"]);
        let level_path = spec.child("priorityLevelConfiguration");
        if level.is_empty() {
            errors.push(Error::required(&level_path.child("name"), "must reference a priority level"));
        } else {
            invalid_text(&mut errors, &level_path.child("name"), level, names::dns1123_subdomain(level, false));
        }
        let rules = spec.child("rules");
        for (index, rule) in object.list_at(&["spec", "rules"]).iter().enumerate() {
            check_rule(&mut errors, &rules.index(index), rule);
        }
        super::check_mandatory(&mut errors, object, "io.k8s.api.flowcontrol.v1.FlowSchemaSpec", mandatory);
        super::check_conditions(&mut errors, object);
        errors
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        super::check_conditions(&mut errors, new);
        errors
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let conditions = object.list_at(&["status", "conditions"]);
        let dangling = conditions.iter().find(|condition| condition.str_at(&["type"]) == "Dangling");
        Some(vec![
            name(object),
            text(object, &["spec", "priorityLevelConfiguration", "name"]),
            object.int_at(&["spec", "matchingPrecedence"]).unwrap_or(0).into(),
            text_or(object, &["spec", "distinguisherMethod", "type"], "<none>"),
            api_semantics::time::age(object, now),
            dangling.map_or("?", |condition| condition.str_at(&["status"])).into(),
        ])
    }
}

/// The specs of the schemas that must be as they are.
fn mandatory(name: &str) -> Option<Value> {
    let (precedence, groups, method): (i64, &[&str], Option<&str>) = match name {
        "exempt" => (1, &["system:masters"], None),
        "catch-all" => (10_000, &["system:unauthenticated", "system:authenticated"], Some("ByUser")),
        _ => return None,
    };
    let all = || Value::List(vec![Value::str("*")]);
    let subject =
        |group: &&str| Value::from([("kind", Value::str("Group")), ("group", Value::from([("name", *group)]))]);
    let rule = Value::from([
        ("subjects", Value::List(groups.iter().map(subject).collect())),
        (
            "resourceRules",
            Value::List(vec![Value::from([
                ("verbs", all()),
                ("apiGroups", all()),
                ("resources", all()),
                ("clusterScope", true.into()),
                ("namespaces", all()),
            ])]),
        ),
        ("nonResourceRules", Value::List(vec![Value::from([("verbs", all()), ("nonResourceURLs", all())])])),
    ]);
    let mut spec = Value::default();
    spec.set(&["priorityLevelConfiguration", "name"], name);
    spec.set(&["matchingPrecedence"], precedence);
    if let Some(method) = method {
        spec.set(&["distinguisherMethod", "type"], method);
    }
    spec.set(&["rules"], vec![rule]);
    Some(spec)
}

fn check_precedence(errors: &mut ErrorList, path: &Path<'_>, object: &Value) {
    let precedence = object.int_at(&["spec", "matchingPrecedence"]).unwrap_or(0);
    if precedence <= 0 {
        errors.push(Error::invalid(path, precedence, "must be a positive value"));
    }
    if precedence > PRECEDENCE_MAX {
        errors.push(Error::invalid(path, precedence, format!("must not be greater than {PRECEDENCE_MAX}")));
    }
    if precedence == 1 && object.str_at(&["metadata", "name"]) != "exempt" {
        let why = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(Error::invalid(path, precedence, why));
    }
}

fn check_rule(errors: &mut ErrorList, path: &Path<'_>, rule: &Value) {
    let subjects_path = path.child("subjects");
    let subjects = rule.list_at(&["subjects"]);
    if subjects.is_empty() {
        errors.push(Error::required(&subjects_path, "subjects must contain at least one value"));
    }
    for (index, subject) in subjects.iter().enumerate() {
        check_subject(errors, &subjects_path.index(index), subject);
    }
    let (resources, urls) = (rule.list_at(&["resourceRules"]), rule.list_at(&["nonResourceRules"]));
    if resources.is_empty() && urls.is_empty() {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(Error::required(path, why));
    }
    let resources_path = path.child("resourceRules");
    for (index, rule) in resources.iter().enumerate() {
        check_resource_rule(errors, &resources_path.index(index), rule);
    }
    let urls_path = path.child("nonResourceRules");
    for (index, rule) in urls.iter().enumerate() {
        check_url_rule(errors, &urls_path.index(index), rule);
    }
}

/// The kinds of subjects, and the field that each fills.
const SUBJECTS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

fn check_subject(errors: &mut ErrorList, path: &Path<'_>, subject: &Value) {
    let kind = subject.str_at(&["kind"]);
    let Some((_, own)) = SUBJECTS.iter().find(|(known, _)| *known == kind) else {
        supported(errors, &path.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
        return;
    };
    let own_path = path.child(own);
    match subject.get(own) {
        None => errors.push(Error::required(&own_path, format!("{own} is required when subject kind is '{kind}'"))),
        Some(who) => {
            let name = who.str_at(&["name"]);
            if name.is_empty() {
                errors.push(Error::required(&own_path.child("name"), ""));
            } else if kind == "ServiceAccount" && name != "*" {
                invalid_text(errors, &own_path.child("name"), name, names::dns1123_subdomain(name, false));
            }
            if kind == "ServiceAccount" {
                let namespace = who.str_at(&["namespace"]);
                let path = own_path.child("namespace");
                if namespace.is_empty() {
                    errors.push(Error::required(&path, "must specify namespace for service account"));
                } else {
                    invalid_text(errors, &path, namespace, names::dns1123_label(namespace, false));
                }
            }
        }
    }
    for (other_kind, other) in SUBJECTS.iter().filter(|(_, other)| other != own && subject.get(other).is_some()) {
        let why = format!("{other} is forbidden when subject kind is not '{other_kind}'");
        errors.push(Error::forbidden(&path.child(other), why));
    }
}

fn check_verbs(errors: &mut ErrorList, path: &Path<'_>, rule: &Value) {
    let path = path.child("verbs");
    let verbs = texts(rule, &["verbs"]);
    let shown = || rule.list_at(&["verbs"]).to_vec();
    if verbs.is_empty() {
        errors.push(Error::required(&path, "verbs must contain at least one value"));
    } else if verbs.contains(&"*") {
        if verbs.len() > 1 {
            errors.push(Error::invalid(&path, shown(), "if '*' is present, must not specify other verbs"));
        }
    } else if !verbs.iter().all(|verb| VERBS.contains(verb)) {
        errors.push(Error::not_supported(&path, shown(), &VERBS));
    }
}

fn check_resource_rule(errors: &mut ErrorList, path: &Path<'_>, rule: &Value) {
    check_verbs(errors, path, rule);
    for (field, words, thing) in [("apiGroups", "api groups", "api group"), ("resources", "resources", "resource")] {
        let values = texts(rule, &[field]);
        if values.is_empty() {
            let why = format!("resource rules must supply at least one {thing}");
            errors.push(Error::required(&path.child(field), why));
        } else if values.len() > 1 && values.contains(&"*") {
            let why = format!("if '*' is present, must not specify other {words}");
            errors.push(Error::invalid(&path.child(field), rule.list_at(&[field]).to_vec(), why));
        }
    }
    let namespaces = texts(rule, &["namespaces"]);
    let namespaces_path = path.child("namespaces");
    if namespaces.is_empty() && rule.bool_at(&["clusterScope"]) != Some(true) {
        let why = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.push(Error::required(&namespaces_path, why));
    } else if namespaces.contains(&"*") {
        if namespaces.len() > 1 {
            let why = "if '*' is present, must not specify other namespaces";
            errors.push(Error::invalid(&namespaces_path, rule.list_at(&["namespaces"]).to_vec(), why));
        }
    } else {
        for (index, namespace) in namespaces.into_iter().enumerate() {
            let wrong = names::dns1123_label(namespace, false);
            let say = |why| format!("each member of this list must be '*' or a DNS-1123 label; {why}");
            let wrong = wrong.into_iter().map(say).collect();
            invalid_text(errors, &namespaces_path.index(index), namespace, wrong);
        }
    }
}

fn check_url_rule(errors: &mut ErrorList, path: &Path<'_>, rule: &Value) {
    check_verbs(errors, path, rule);
    let path = path.child("nonResourceURLs");
    let urls = texts(rule, &["nonResourceURLs"]);
    if urls.is_empty() {
        errors.push(Error::required(&path, "nonResourceURLs must contain at least one value"));
    } else if urls.contains(&"*") {
        if urls.len() > 1 {
            let why = "if '*' is present, must not specify other non-resource URLs";
            errors.push(Error::invalid(&path, rule.list_at(&["nonResourceURLs"]).to_vec(), why));
        }
    } else {
        for (index, url) in urls.into_iter().enumerate() {
            if let Some(why) = check_url(url) {
                errors.push(Error::invalid(&path.index(index), url, why));
            }
        }
    }
}

fn check_url(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !url.ends_with("/*")) => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults};

    fn of(name: &str, more: &str) -> String {
        format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"priorityLevelConfiguration":{{"name":"l"}}{more}}}}}"#)
    }

    #[test]
    fn precedence_is_a_thousand_unless_it_says_so() {
        defaults(&FlowSchema, r#"{"spec":{"matchingPrecedence":0}}"#, r#"{"spec":{"matchingPrecedence":1000}}"#);
        for (more, expect) in [
            ("", ""),
            (
                r#","matchingPrecedence":1"#,
                "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
            ),
            (
                r#","matchingPrecedence":10001"#,
                "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
            ),
            (
                r#","distinguisherMethod":{"type":"Odd"}"#,
                "spec.distinguisherMethod.type: Unsupported value: {\"Type\":\"Odd\"}: supported values: \
                 \"ByNamespace\", \"ByUser\"",
            ),
        ] {
            create(&FlowSchema, &of("a", more), expect);
        }
    }

    #[test]
    fn rules_say_who_and_what() {
        let user = r#""subjects":[{"kind":"User","user":{"name":"u"}}]"#;
        let all = r#""nonResourceRules":[{"verbs":["*"],"nonResourceURLs":["*"]}]"#;
        for (rule, expect) in [
            (format!("{user},{all}"), ""),
            (
                String::new(),
                "spec.rules[0].subjects: Required value: subjects must contain at least one value\n\
                 spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ),
            (
                format!(r#""subjects":[{{"kind":"ServiceAccount","user":{{"name":"u"}}}},{{"kind":"Odd"}}],{all}"#),
                "spec.rules[0].subjects[0].serviceAccount: Required value: serviceAccount is required when subject kind \
                 is 'ServiceAccount'\n\
                 spec.rules[0].subjects[0].user: Forbidden: user is forbidden when subject kind is not 'User'\n\
                 spec.rules[0].subjects[1].kind: Unsupported value: \"Odd\": supported values: \"Group\", \
                 \"ServiceAccount\", \"User\"",
            ),
            (
                format!(
                    r#"{user},"resourceRules":[{{"verbs":["go"],"apiGroups":["*","a"],"resources":[],"namespaces":["A"]}}]"#
                ),
                "spec.rules[0].resourceRules[0].verbs: Unsupported value: [\"go\"]: supported values: \"create\", \
                 \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"\n\
                 spec.rules[0].resourceRules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not \
                 specify other api groups\n\
                 spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one \
                 resource\n\
                 spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: \"A\": each member of this list must be \
                 '*' or a DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters \
                 or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex \
                 used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ),
            (
                format!(r#"{user},"nonResourceRules":[{{"verbs":["get"],"nonResourceURLs":["/a*","b"]}}]"#),
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"/a*\": wildcard can only do \
                 suffix matching\n\
                 spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"b\": must start with slash",
            ),
        ] {
            create(&FlowSchema, &of("a", &format!(r#","rules":[{{{rule}}}]"#)), expect);
        }
    }

    #[test]
    fn the_mandatory_schemas_are_valid_and_stay() {
        for name in ["exempt", "catch-all"] {
            let mut object = Value::default();
            object.set(&["metadata", "name"], name);
            object.set(&["spec"], mandatory(name).unwrap_or_default());
            assert_eq!(FlowSchema.validate(&object), []);
            object.set(&["spec", "matchingPrecedence"], 7);
            assert_eq!(FlowSchema.validate(&object).len(), 1);
        }
    }

    #[test]
    fn cells_show_the_level() {
        for (status, expect) in
            [("", "?"), (r#","status":{"conditions":[{"type":"Dangling","status":"True"}]}"#, "True")]
        {
            cells(
                &FlowSchema,
                &format!(
                    r#"{{"metadata":{{"name":"f"}},"spec":{{"priorityLevelConfiguration":{{"name":"l"}},
                        "matchingPrecedence":7,"distinguisherMethod":{{"type":"ByUser"}}}}{status}}}"#
                ),
                &format!(r#"["f","l",7,"ByUser","<unknown>","{expect}"]"#),
            );
        }
    }
}
