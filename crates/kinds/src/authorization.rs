//! The group authorization.k8s.io: may someone do something? Reviews are answered, not stored.

use api_schema::{Map, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::selector::{self, Leniency};

use crate::Kind;
use crate::checks::internal;

/// The three reviews of access: by anyone, by oneself, within a namespace.
pub(crate) struct AccessReview {
    resource: &'static str,
    has_user: bool,
    is_local: bool,
}

pub(crate) const SUBJECT: AccessReview =
    AccessReview { resource: "subjectaccessreviews", has_user: true, is_local: false };
pub(crate) const SELF: AccessReview =
    AccessReview { resource: "selfsubjectaccessreviews", has_user: false, is_local: false };
pub(crate) const LOCAL: AccessReview =
    AccessReview { resource: "localsubjectaccessreviews", has_user: true, is_local: true };

impl Kind for AccessReview {
    fn group(&self) -> &str {
        "authorization.k8s.io"
    }

    fn resource(&self) -> &str {
        self.resource
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let nothing = Value::Null;
        let spec = object.get("spec").unwrap_or(&nothing);
        let path = Path::new("spec");
        let (resource, path_of_resource) = (spec.get("resourceAttributes"), path.child("resourceAttributes"));
        let (other, path_of_other) = (spec.get("nonResourceAttributes"), path.child("nonResourceAttributes"));
        let shown = || {
            other
                .map_or(Value::Null, |other| internal(Some(other), "io.k8s.api.authorization.v1.NonResourceAttributes"))
        };
        match (resource, other) {
            (Some(_), Some(_)) => {
                let why = "cannot be specified in combination with resourceAttributes";
                errors.push(Error::invalid(&path_of_other, shown(), why));
            }
            (None, None) => {
                let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
                errors.push(Error::invalid(&path_of_resource, Value::Null, why));
            }
            _ => {}
        }
        if self.has_user && spec.str_at(&["user"]).is_empty() && spec.list_at(&["groups"]).is_empty() {
            let why = "at least one of user or group must be specified";
            errors.push(Error::invalid(&path.child("user"), "", why));
        }
        if let Some(resource) = resource {
            check_field_selector(&mut errors, &path_of_resource.child("fieldSelector"), resource.get("fieldSelector"));
            check_label_selector(&mut errors, &path_of_resource.child("labelSelector"), resource.get("labelSelector"));
        }
        self.check_metadata(&mut errors, object);
        if self.is_local {
            let namespace = resource.map(|resource| resource.str_at(&["namespace"]));
            if let Some(namespace) =
                namespace.filter(|namespace| *namespace != object.str_at(&["metadata", "namespace"]))
            {
                let why = "must match metadata.namespace";
                errors.push(Error::invalid(&path_of_resource.child("namespace"), namespace, why));
            }
            if other.is_some() {
                errors.push(Error::invalid(&path_of_other, shown(), "disallowed on this kind of request"));
            }
        }
        errors
    }
}

impl AccessReview {
    /// Reviews are not stored, so that they are not named.
    fn check_metadata(&self, errors: &mut ErrorList, object: &Value) {
        let allowed: &[&str] = if self.is_local { &["managedFields", "namespace"] } else { &["managedFields"] };
        let metadata = object.get("metadata").and_then(Value::as_map);
        let mut fields = metadata.into_iter().flat_map(Map::iter);
        if fields.any(|(field, value)| !allowed.contains(&field.as_str()) && !value.is_null()) {
            let shown = internal(object.get("metadata"), "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
            let why = if self.is_local { "must be empty except for namespace" } else { "must be empty" };
            errors.push(Error::invalid(&Path::new("metadata"), shown, why));
        }
    }
}

/// A selector is raw or a list of requirements. Gives the requirements.
fn requirements<'a>(errors: &mut ErrorList, path: &Path<'_>, selector: &'a Value) -> &'a [Value] {
    let (raw, requirements) = (selector.str_at(&["rawSelector"]), selector.list_at(&["requirements"]));
    if !raw.is_empty() && !requirements.is_empty() {
        let why = "may not specified at the same time as requirements";
        errors.push(Error::invalid(&path.child("rawSelector"), raw, why));
    }
    if raw.is_empty() && requirements.is_empty() {
        let why = format!("when {path} is specified, requirements or rawSelector is required");
        errors.push(Error::required(&path.child("requirements"), why));
    }
    requirements
}

fn check_field_selector(errors: &mut ErrorList, path: &Path<'_>, selector: Option<&Value>) {
    let Some(selector) = selector else { return };
    let requirements_path = path.child("requirements");
    for (index, requirement) in requirements(errors, path, selector).iter().enumerate() {
        let item = requirements_path.index(index);
        if requirement.str_at(&["key"]).is_empty() {
            errors.push(Error::required(&item.child("key"), "must be specified"));
        }
        let has_values = !requirement.list_at(&["values"]).is_empty();
        match requirement.str_at(&["operator"]) {
            "In" | "NotIn" if !has_values => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                errors.push(Error::required(&item.child("values"), why));
            }
            "Exists" | "DoesNotExist" if has_values => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                errors.push(Error::forbidden(&item.child("values"), why));
            }
            // Newer clients may know operators that we do not.
            _ => {}
        }
    }
}

fn check_label_selector(errors: &mut ErrorList, path: &Path<'_>, selector: Option<&Value>) {
    let Some(selector) = selector else { return };
    let requirements = requirements(errors, path, selector);
    let mut as_selector = Value::Map(Map::new());
    as_selector.set(&["matchExpressions"], Value::List(requirements.to_vec()));
    let leniency = Leniency { unknown_operators: true, ..Leniency::default() };
    let (here, there) = (format!("{path}.matchExpressions["), format!("{path}.requirements["));
    errors.extend(selector::validate(Some(&as_selector), path, leniency).into_iter().map(|mut error| {
        error.field = error.field.replacen(&here, &there, 1);
        error
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::create;

    #[test]
    fn reviews_are_of_one_thing() {
        let one = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        for (kind, object, expect) in [
            (&SUBJECT, r#"{"spec":{"user":"u","resourceAttributes":{}}}"#, String::new()),
            (&SUBJECT, r#"{"spec":{"groups":["g"],"nonResourceAttributes":{"path":"/"}}}"#, String::new()),
            (&SELF, r#"{"spec":{"resourceAttributes":{}}}"#, String::new()),
            (
                &LOCAL,
                r#"{"metadata":{"namespace":"n"},"spec":{"user":"u","resourceAttributes":{"namespace":"n"}}}"#,
                String::new(),
            ),
            (
                &SUBJECT,
                r#"{"metadata":{"name":"a"},"spec":{}}"#,
                format!(
                    "spec.resourceAttributes: Invalid value: null: {one}\n\
                     spec.user: Invalid value: \"\": at least one of user or group must be specified\n\
                     metadata: Invalid value: {{\"name\":\"a\"}}: must be empty"
                ),
            ),
            (
                &SELF,
                r#"{"spec":{"resourceAttributes":{},"nonResourceAttributes":{"path":"/"}}}"#,
                "spec.nonResourceAttributes: Invalid value: {\"Path\":\"/\",\"Verb\":\"\"}: cannot be specified in \
                 combination with resourceAttributes"
                    .into(),
            ),
            (
                &LOCAL,
                r#"{"metadata":{"namespace":"n","labels":{"a":"b"}},
                    "spec":{"user":"u","resourceAttributes":{"namespace":"m"},"nonResourceAttributes":{}}}"#,
                "spec.nonResourceAttributes: Invalid value: {\"Path\":\"\",\"Verb\":\"\"}: cannot be specified in \
                 combination with resourceAttributes\n\
                 metadata: Invalid value: {\"namespace\":\"n\",\"labels\":{\"a\":\"b\"}}: must be empty except for \
                 namespace\n\
                 spec.resourceAttributes.namespace: Invalid value: \"m\": must match metadata.namespace\n\
                 spec.nonResourceAttributes: Invalid value: {\"Path\":\"\",\"Verb\":\"\"}: disallowed on this kind of \
                 request"
                    .into(),
            ),
        ] {
            create(kind, object, &expect);
        }
    }

    #[test]
    fn selectors_are_raw_or_required() {
        let path = "spec.resourceAttributes";
        for (attributes, expect) in [
            (r#"{"fieldSelector":{"rawSelector":"a=b"},"labelSelector":{"rawSelector":"a=b"}}"#, String::new()),
            (
                r#"{"fieldSelector":{"requirements":[{"key":"a","operator":"New"}]},
                    "labelSelector":{"requirements":[{"key":"a","operator":"New"}]}}"#,
                String::new(),
            ),
            (
                r#"{"fieldSelector":{},"labelSelector":{"rawSelector":"a","requirements":[{"key":"a","operator":"In"}]}}"#,
                format!(
                    "{path}.fieldSelector.requirements: Required value: when {path}.fieldSelector is specified, \
                     requirements or rawSelector is required\n\
                     {path}.labelSelector.rawSelector: Invalid value: \"a\": may not specified at the same time as \
                     requirements\n\
                     {path}.labelSelector.requirements[0].values: Required value: must be specified when `operator` is \
                     'In' or 'NotIn'"
                ),
            ),
            (
                r#"{"fieldSelector":{"requirements":[{"operator":"In"},{"key":"a","operator":"Exists","values":["b"]}]}}"#,
                format!(
                    "{path}.fieldSelector.requirements[0].key: Required value: must be specified\n\
                     {path}.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is \
                     'In' or 'NotIn'\n\
                     {path}.fieldSelector.requirements[1].values: Forbidden: may not be specified when `operator` is \
                     'Exists' or 'DoesNotExist'"
                ),
            ),
        ] {
            create(&SELF, &format!(r#"{{"spec":{{"resourceAttributes":{attributes}}}}}"#), &expect);
        }
    }
}
