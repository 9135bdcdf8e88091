//! What the tables alone say against an object: values outside of an enumeration, empty strings that are needed,
//! list items that stand twice. For kinds whose own code does not check all of it ([`crate::Kind::full_validation`]).

use api_schema::{Field, ListKind, Map, Schema, StructId, Type, Value};
use api_semantics::field::{Error, ErrorList, Path};

/// Fields of an object that have rules of their own: metadata is checked for every kind, statuses are the
/// controllers' business.
const LEFT_OUT: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// Checks an object of a type against its tables.
pub fn validate(schema: &Schema, ty: StructId, object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    if let Some(map) = object.as_map() {
        let fields = schema.json_fields(ty).into_iter().filter(|field| !LEFT_OUT.contains(&field.json.as_str()));
        check_fields(schema, fields, map, &Path::ROOT, &mut errors);
    }
    errors
}

fn check_fields<'a>(
    schema: &Schema,
    fields: impl Iterator<Item = &'a Field>,
    map: &Map,
    path: &Path<'_>,
    errors: &mut ErrorList,
) {
    for field in fields {
        let path = path.child(&field.json);
        match map.get(&field.json).filter(|value| !value.is_null()) {
            Some(value) if !is_empty_text(field, value) => check_field(schema, field, value, &path, errors),
            _ if field.required && !field.pointer && matches!(field.ty, Type::String | Type::Bytes) => {
                errors.push(Error::required(&path, ""));
            }
            _ => {}
        }
    }
}

fn is_empty_text(field: &Field, value: &Value) -> bool {
    !field.pointer && value.as_str().is_some_and(str::is_empty)
}

fn check_field(schema: &Schema, field: &Field, value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if let Some(values) = api_types::enum_values(&field.enumeration) {
        match value {
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    check_enumeration(values, item, &path.index(at), errors);
                }
            }
            value => check_enumeration(values, value, path, errors),
        }
    }
    if let Value::List(items) = value {
        match &field.list {
            ListKind::Set => check_unique(items, path, errors, Value::clone),
            ListKind::Map(keys) => check_unique(items, path, errors, |item| {
                let entries = keys.iter().filter_map(|key| Some((key.clone(), item.get(key)?.clone())));
                Value::Map(entries.collect())
            }),
            _ => {}
        }
    }
    check_value(schema, &field.ty, value, path, errors);
}

fn check_enumeration(values: &[&str], value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    if value.as_str().is_some_and(|text| !values.contains(&text)) {
        let mut values = values.to_vec();
        values.sort_unstable();
        errors.push(Error::not_supported(path, value.clone(), &values));
    }
}

/// Finds items whose key an earlier one has.
fn check_unique(items: &[Value], path: &Path<'_>, errors: &mut ErrorList, key: impl Fn(&Value) -> Value) {
    let mut seen = std::collections::HashSet::new();
    for (at, item) in items.iter().enumerate() {
        let key = key(item);
        if !seen.insert(api_semantics::field::shown(&key)) {
            errors.push(Error::duplicate(&path.index(at), key));
        }
    }
}

fn check_value(schema: &Schema, ty: &Type, value: &Value, path: &Path<'_>, errors: &mut ErrorList) {
    match (ty, value) {
        (Type::Struct(id), Value::Map(map)) => {
            check_fields(schema, schema.json_fields(*id).into_iter(), map, path, errors);
        }
        (Type::List(item), Value::List(items)) if is_nested(item) => {
            for (at, value) in items.iter().enumerate() {
                check_value(schema, item, value, &path.index(at), errors);
            }
        }
        (Type::Map(item), Value::Map(map)) if is_nested(item) => {
            for (key, value) in map.iter() {
                check_value(schema, item, value, &path.key(key), errors);
            }
        }
        _ => {}
    }
}

fn is_nested(ty: &Type) -> bool {
    matches!(ty, Type::Struct(_) | Type::List(_) | Type::Map(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{json, lines};

    #[track_caller]
    fn check(ty: &str, object: &str, expect: &str) {
        let id = api_types::struct_id(ty);
        assert_eq!(lines(&validate(api_types::schema(), id, &json(object))), expect);
    }

    #[test]
    fn enumerations_and_needed_strings_are_asked_of_the_tables() {
        const WEBHOOKS: &str = "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration";
        check(
            WEBHOOKS,
            r#"{"webhooks":[{"name":"a.b.c","sideEffects":"None","failurePolicy":"Perhaps",
                "clientConfig":{"service":{"namespace":"n","name":""}},
                "matchConditions":[{"name":"x","expression":""}]}]}"#,
            "webhooks[0].clientConfig.service.name: Required value\n\
             webhooks[0].failurePolicy: Unsupported value: \"Perhaps\": supported values: \"Fail\", \"Ignore\"\n\
             webhooks[0].matchConditions[0].expression: Required value",
        );
    }

    #[test]
    fn items_of_keyed_lists_and_sets_stand_once() {
        check(
            "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
            r#"{"webhooks":[{"name":"a","sideEffects":"None"},{"name":"b","sideEffects":"None"},
                {"name":"a","sideEffects":"None"}]}"#,
            "webhooks[2]: Duplicate value: {\"name\":\"a\"}",
        );
        check(
            "io.k8s.api.core.v1.Node",
            r#"{"spec":{"podCIDRs":["a","b","a"]}}"#,
            "spec.podCIDRs[2]: Duplicate value: \"a\"",
        );
    }

    #[test]
    fn statuses_and_metadata_are_left_alone() {
        check(
            "io.k8s.api.core.v1.Node",
            r#"{"metadata":{"ownerReferences":[{"name":""}]},"status":{"phase":"Whatever"}}"#,
            "",
        );
    }
}
