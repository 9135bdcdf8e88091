//! The group resource.k8s.io: devices that Pods claim.
//!
//! Expressions that select devices are not compiled here.

use std::collections::HashSet;
use std::hash::Hash;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use crate::checks::{invalid_text, supported, texts};
use crate::storage::check_driver_name;

mod claim;
pub(crate) mod deviceclass;
pub(crate) mod resourceclaim;
pub(crate) mod resourceclaimtemplate;
pub(crate) mod resourceslice;

const GROUP: &str = "resource.k8s.io";

const SELECTORS_MAX: usize = 32;
const CONFIG_MAX: usize = 32;
const EXPRESSION_LEN_MAX: usize = 10 * 1024;
const PARAMETERS_LEN_MAX: usize = 10 * 1024;
const POOL_NAME_LEN_MAX: usize = 253;
const ID_LEN_MAX: usize = 32;
const BINDING_CONDITIONS_MAX: usize = 4;

const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// Checks each item of a list, unless there are too many.
fn check_each(
    errors: &mut ErrorList,
    path: &Path<'_>,
    items: &[Value],
    max: usize,
    mut check: impl FnMut(&mut ErrorList, &Path<'_>, &Value),
) {
    if items.len() > max {
        errors.push(Error::too_many(path, items.len(), max));
        return;
    }
    for (index, item) in items.iter().enumerate() {
        check(errors, &path.index(index), item);
    }
}

/// As [`check_each`]; no two items have the same key.
fn check_set<'a, K: Eq + Hash>(
    errors: &mut ErrorList,
    path: &Path<'_>,
    items: &'a [Value],
    max: usize,
    key: impl Fn(&'a Value) -> K,
    shown: impl Fn(&K) -> Value,
    check: impl FnMut(&mut ErrorList, &Path<'_>, &Value),
) {
    check_each(errors, path, items, max, check);
    if items.len() > max {
        return;
    }
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let key = key(item);
        if seen.contains(&key) {
            errors.push(Error::duplicate(&path.index(index), shown(&key)));
        } else {
            seen.insert(key);
        }
    }
}

fn shown_text(key: &&str) -> Value {
    Value::from(*key)
}

fn check_pool_name(errors: &mut ErrorList, path: &Path<'_>, name: &str) {
    if name.is_empty() {
        errors.push(Error::required(path, ""));
        return;
    }
    if name.len() > POOL_NAME_LEN_MAX {
        errors.push(Error::too_long(path, POOL_NAME_LEN_MAX));
    }
    for part in name.split('/') {
        invalid_text(errors, path, part, names::dns1123_subdomain(part, false));
    }
}

fn check_label(errors: &mut ErrorList, path: &Path<'_>, name: &str) {
    invalid_text(errors, path, name, names::dns1123_label(name, false));
}

/// The name of an attribute or a capacity: an identifier, with or without a domain.
fn check_qualified_name(errors: &mut ErrorList, path: &Path<'_>, name: &str) {
    let check_id = |errors: &mut ErrorList, id: &str| {
        if id.len() > ID_LEN_MAX {
            errors.push(Error::too_long(path, ID_LEN_MAX));
        }
        invalid_text(errors, path, id, names::c_identifier(id));
    };
    match name.split_once('/') {
        None => check_id(errors, name),
        // Upstream lets more slashes pass.
        Some((_, rest)) if rest.contains('/') => {}
        Some((domain, id)) => {
            if domain.is_empty() {
                errors.push(Error::invalid(path, "", "the domain must not be empty"));
            } else {
                check_driver_name(errors, path, domain);
            }
            if id.is_empty() {
                errors.push(Error::invalid(path, "", "the name must not be empty"));
            } else {
                check_id(errors, id);
            }
        }
    }
}

fn check_selectors(errors: &mut ErrorList, path: &Path<'_>, selectors: &[Value]) {
    check_each(errors, path, selectors, SELECTORS_MAX, |errors, path, selector| {
        let cel = path.child("cel");
        match selector.get("cel") {
            None => errors.push(Error::required(&cel, "")),
            Some(selector) if selector.str_at(&["expression"]).len() > EXPRESSION_LEN_MAX => {
                errors.push(Error::too_long(&cel.child("expression"), EXPRESSION_LEN_MAX));
            }
            Some(_) => {}
        }
    });
}

/// What a driver is told about the devices.
fn check_configuration(errors: &mut ErrorList, path: &Path<'_>, config: &Value) {
    let path = path.child("opaque");
    let Some(opaque) = config.get("opaque") else {
        errors.push(Error::required(&path, ""));
        return;
    };
    check_driver_name(errors, &path.child("driver"), opaque.str_at(&["driver"]));
    check_raw(errors, &path.child("parameters"), opaque.get("parameters"));
}

/// Embedded JSON must be an object.
fn check_raw(errors: &mut ErrorList, path: &Path<'_>, raw: Option<&Value>) {
    match raw {
        None | Some(Value::Null) => errors.push(Error::required(path, "")),
        Some(Value::Raw(text)) if text.is_empty() || &**text == "null" => errors.push(Error::required(path, "")),
        Some(Value::Raw(text)) if text.len() > PARAMETERS_LEN_MAX => {
            errors.push(Error::too_long(path, PARAMETERS_LEN_MAX));
        }
        Some(Value::Raw(text)) if text.starts_with('{') => {}
        Some(Value::Map(_)) => {}
        Some(_) => errors.push(Error::invalid(path, "<value omitted>", "must be a valid JSON object")),
    }
}

fn check_binding_conditions(errors: &mut ErrorList, path: &Path<'_>, device: &Value) {
    let fields = ["bindingConditions", "bindingFailureConditions"];
    for field in fields {
        let conditions = device.list_at(&[field]);
        check_each(errors, &path.child(field), conditions, BINDING_CONDITIONS_MAX, |errors, path, condition| {
            let condition = condition.as_str().unwrap_or_default();
            invalid_text(errors, path, condition, names::qualified_name(condition));
        });
    }
    let [conditions, failures] = fields.map(|field| texts(device, &[field]));
    let [conditions_path, failures_path] = fields.map(|field| path.child(field));
    let mut seen = HashSet::new();
    for (index, condition) in conditions.iter().enumerate().filter(|(_, condition)| !seen.insert(**condition)) {
        errors.push(Error::duplicate(&conditions_path.index(index), *condition));
    }
    let mut seen = HashSet::new();
    for (index, condition) in failures.iter().enumerate() {
        let item = failures_path.index(index);
        if !seen.insert(*condition) {
            errors.push(Error::duplicate(&item, *condition));
        }
        if conditions.contains(condition) {
            let why = "bindingFailureConditions must not overlap with bindingConditions";
            errors.push(Error::invalid(&item, *condition, why));
        }
    }
    if conditions.is_empty() && !failures.is_empty() {
        let why = "bindingConditions are required to use bindingFailureConditions";
        errors.push(Error::invalid(&conditions_path, Value::Null, why));
    }
    if failures.is_empty() && !conditions.is_empty() {
        let why = "bindingFailureConditions are required to use bindingConditions";
        errors.push(Error::invalid(&failures_path, Value::Null, why));
    }
}

fn check_taint(errors: &mut ErrorList, path: &Path<'_>, taint: &Value) {
    let (key, value, effect) = (taint.str_at(&["key"]), taint.str_at(&["value"]), taint.str_at(&["effect"]));
    invalid_text(errors, &path.child("key"), key, names::qualified_name(key));
    invalid_text(errors, &path.child("value"), value, names::label_value(value));
    match effect {
        "" => errors.push(Error::required(&path.child("effect"), "")),
        _ => supported(errors, &path.child("effect"), effect, &EFFECTS),
    }
}

fn check_toleration(errors: &mut ErrorList, path: &Path<'_>, toleration: &Value) {
    let part = |field: &str| toleration.str_at(&[field]);
    let (key, value, effect) = (part("key"), part("value"), part("effect"));
    if !key.is_empty() {
        invalid_text(errors, &path.child("key"), key, names::qualified_name(key));
    }
    match part("operator") {
        "Exists" => {
            if !value.is_empty() {
                let why = "must be empty for operator `Exists`";
                errors.push(Error::invalid(&path.child("value"), value, why));
            }
        }
        "Equal" => invalid_text(errors, &path.child("value"), value, names::label_value(value)),
        "" => errors.push(Error::required(&path.child("operator"), "")),
        operator => {
            errors.push(Error::not_supported(&path.child("operator"), operator, &["Equal", "Exists"]));
        }
    }
    if !effect.is_empty() {
        supported(errors, &path.child("effect"), effect, &EFFECTS);
    }
}
