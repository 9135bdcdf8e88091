//! IngressClass: which controller answers for an Ingress.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::Kind;
use crate::checks::{default_field, immutable, invalid_text, name, required_text, text};

const CONTROLLER_LEN_MAX: usize = 250;

pub(crate) struct IngressClass;

impl Kind for IngressClass {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "ingressclasses"
    }

    fn default(&self, object: &mut Value) {
        if object.at(&["spec", "parameters"]).is_some() {
            default_field(object, &["spec", "parameters", "scope"], "Cluster");
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = Path::new("spec");
        let path = spec.child("controller");
        let controller = object.str_at(&["spec", "controller"]);
        if controller.is_empty() {
            errors.push(Error::required(&path, ""));
        } else {
            if controller.len() > CONTROLLER_LEN_MAX {
                errors.push(Error::too_long(&path, CONTROLLER_LEN_MAX));
            }
            let wrong = names::domain_prefixed_path(controller);
            errors.extend(wrong.into_iter().map(|(part, why)| Error::invalid(&path, part, why)));
        }
        if let Some(parameters) = object.at(&["spec", "parameters"]) {
            check_parameters(&mut errors, &spec.child("parameters"), parameters);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let controller = ["spec", "controller"];
        immutable(&mut errors, &Path::new("spec.controller"), new.at(&controller), old.at(&controller));
        errors.extend(self.validate(new));
        errors
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let parameters = object.at(&["spec", "parameters"]).map_or_else(
            || "<none>".to_owned(),
            |parameters| {
                let group = match parameters.get("apiGroup").and_then(Value::as_str) {
                    Some(group) => format!(".{group}"),
                    None => String::new(),
                };
                format!("{}{group}/{}", parameters.str_at(&["kind"]), parameters.str_at(&["name"]))
            },
        );
        Some(vec![
            name(object),
            text(object, &["spec", "controller"]),
            parameters.into(),
            api_semantics::time::age(object, now),
        ])
    }
}

fn check_parameters(errors: &mut ErrorList, path: &Path<'_>, parameters: &Value) {
    super::ingress::check_typed_reference(errors, path, parameters);
    let Some(scope) = parameters.get("scope").and_then(Value::as_str) else {
        required_text(errors, path, parameters, "scope");
        return;
    };
    let namespace_path = path.child("namespace");
    let namespace = parameters.get("namespace").and_then(Value::as_str);
    match (scope, namespace) {
        ("Namespace", None) => {
            errors.push(Error::required(&namespace_path, "`parameters.scope` is set to 'Namespace'"));
        }
        ("Namespace", Some(namespace)) => {
            invalid_text(errors, &namespace_path, namespace, names::dns1123_label(namespace, false));
        }
        ("Cluster", Some(_)) => {
            errors.push(Error::forbidden(&namespace_path, "`parameters.scope` is set to 'Cluster'"));
        }
        ("Cluster", None) => {}
        _ => errors.push(Error::not_supported(&path.child("scope"), scope, &["Cluster", "Namespace"])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, update};

    #[test]
    fn parameters_are_of_the_cluster_unless_they_say_so() {
        defaults(&IngressClass, r#"{"spec":{}}"#, r#"{"spec":{}}"#);
        defaults(
            &IngressClass,
            r#"{"spec":{"parameters":{"kind":"K"}}}"#,
            r#"{"spec":{"parameters":{"kind":"K","scope":"Cluster"}}}"#,
        );
        for (parameters, expect) in [
            (r#"{"kind":"K","name":"n"}"#, ""),
            (r#"{"kind":"K","name":"n","scope":"Namespace","namespace":"m"}"#, ""),
            (
                r#"{"kind":"K","name":"n","scope":"Namespace"}"#,
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ),
            (
                r#"{"kind":"K","name":"n","namespace":"m"}"#,
                "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
            ),
            (
                r#"{"kind":"K","name":"n","scope":"x"}"#,
                "spec.parameters.scope: Unsupported value: \"x\": supported values: \"Cluster\", \"Namespace\"",
            ),
        ] {
            create(&IngressClass, &format!(r#"{{"spec":{{"controller":"a.b/c","parameters":{parameters}}}}}"#), expect);
        }
    }

    #[test]
    fn the_controller_is_a_path_with_a_domain_and_stays() {
        for (controller, expect) in [
            ("", "spec.controller: Required value"),
            (
                "a.b",
                "spec.controller: Invalid value: \"a.b\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            ),
        ] {
            create(&IngressClass, &format!(r#"{{"spec":{{"controller":"{controller}"}}}}"#), expect);
        }
        update(
            &IngressClass,
            r#"{"spec":{"controller":"a.b/c"}}"#,
            r#"{"spec":{"controller":"a.b/d"}}"#,
            "spec.controller: Invalid value: \"a.b/d\": field is immutable",
        );
    }

    #[test]
    fn cells_show_controller_and_parameters() {
        for (more, expect) in [
            ("", "<none>"),
            (r#","parameters":{"kind":"K","name":"n"}"#, "K/n"),
            (r#","parameters":{"kind":"K","name":"n","apiGroup":"g"}"#, "K.g/n"),
        ] {
            cells(
                &IngressClass,
                &format!(r#"{{"metadata":{{"name":"i"}},"spec":{{"controller":"a.b/c"{more}}}}}"#),
                &format!(r#"["i","a.b/c","{expect}","<unknown>"]"#),
            );
        }
    }
}
