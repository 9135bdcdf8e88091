//! ResourceSlice: devices that a driver offers on nodes.

use std::cmp::Ordering;

use api_schema::{Map, Value};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::quantity::Quantity;

use super::{
    check_binding_conditions, check_each, check_label, check_pool_name, check_qualified_name, check_set, check_taint,
    shown_text,
};
use crate::Kind;
use crate::checks::{immutable, internal, invalid_text, items_mut, map, name, same, text, texts};
use crate::core::pod::validate::scheduling::node_selector;
use crate::storage::check_driver_name;

const DEVICES_MAX: usize = 128;
/// If devices have taints, use counters or have attributes that are lists.
const ADVANCED_DEVICES_MAX: usize = 64;
const ATTRIBUTES_MAX: usize = 32;
const ATTRIBUTE_VALUES_MAX: usize = 48;
const ATTRIBUTE_LEN_MAX: usize = 64;
const TAINTS_MAX: usize = 16;
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;
const CONSUMPTIONS_MAX: usize = 2;
const VALID_VALUES_MAX: usize = 10;

/// The types of an attribute's value: one of them must be set.
const SCALARS: [&str; 4] = ["bool", "int", "string", "version"];
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

pub(crate) struct ResourceSlice;

impl Kind for ResourceSlice {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "resourceslices"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn stamp(&self, new: &mut Value, _old: Option<&Value>, now: &str) {
        for device in items_mut(new, &["spec", "devices"]) {
            for taint in items_mut(device, &["taints"]) {
                if taint.str_at(&["timeAdded"]).is_empty() {
                    taint.set(&["timeAdded"], now);
                }
            }
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        check(new, Some(old))
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let driver = new.str_at(&["spec", "driver"]);
        if driver.to_lowercase() == driver {
            return Vec::new();
        }
        vec![format!("spec.driver: driver names should be lowercase; \"{driver}\" contains uppercase characters")]
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(vec![
            name(object),
            text(object, &["spec", "nodeName"]),
            text(object, &["spec", "driver"]),
            text(object, &["spec", "pool", "name"]),
            api_semantics::time::age(object, now),
        ])
    }

    fn selectable_fields(&self) -> &[&'static str] {
        &["spec.nodeName", "spec.driver"]
    }
}

fn check(object: &Value, old: Option<&Value>) -> ErrorList {
    let nothing = Value::Null;
    let spec = object.get("spec").unwrap_or(&nothing);
    let mut errors = ErrorList::new();
    let path = Path::new("spec");
    check_driver_name(&mut errors, &path.child("driver"), spec.str_at(&["driver"]));
    let pool = path.child("pool");
    check_pool_name(&mut errors, &pool.child("name"), spec.str_at(&["pool", "name"]));
    let count = spec.int_at(&["pool", "resourceSliceCount"]).unwrap_or(0);
    if count <= 0 {
        errors.push(Error::invalid(&pool.child("resourceSliceCount"), count, "must be greater than zero"));
    }
    if let Some(generation) = spec.int_at(&["pool", "generation"]).filter(|generation| *generation < 0) {
        let why = "must be greater than or equal to zero";
        errors.push(Error::invalid(&pool.child("generation"), generation, why));
    }
    if let Some(old) = old.and_then(|old| old.get("spec")) {
        let mut stays = |path: &Path<'_>, fields: &[&str]| {
            immutable(&mut errors, path, spec.at(fields), old.at(fields));
        };
        stays(&pool.child("name"), &["pool", "name"]);
        stays(&path.child("driver"), &["driver"]);
        stays(&path.child("nodeName"), &["nodeName"]);
    }
    check_nodes(&mut errors, &path, spec);
    // An empty list is not in the tree.
    if spec.get("sharedCounters").is_some() && spec.get("devices").is_some() {
        errors.push(Error::invalid(&path, "", "only one of `sharedCounters` or `devices` is allowed"));
    }
    let devices = spec.list_at(&["devices"]);
    let is_per_device = spec.bool_at(&["perDeviceNodeSelection"]) == Some(true);
    let max = if devices.iter().any(is_advanced) { ADVANCED_DEVICES_MAX } else { DEVICES_MAX };
    let key = |device: &Value| -> String { device.str_at(&["name"]).into() };
    let shown = |name: &String| name.as_str().into();
    check_set(&mut errors, &path.child("devices"), devices, max, key, shown, |errors, path, device| {
        let before = old.map_or(&[][..], |old| old.list_at(&["spec", "devices"])).iter();
        let before = before.into_iter().find(|old| old.str_at(&["name"]) == device.str_at(&["name"]));
        check_device(errors, path, device, before, is_per_device);
    });
    let counters = spec.list_at(&["sharedCounters"]);
    let name_of = |set: &Value| -> String { set.str_at(&["name"]).into() };
    check_set(
        &mut errors,
        &path.child("sharedCounters"),
        counters,
        COUNTER_SETS_MAX,
        name_of,
        shown,
        |errors, path, set| check_counters(errors, path, set, "name"),
    );
    errors
}

/// On which nodes the devices of a slice, or one of them, can be used. Gives the fields that say so.
fn check_node_fields(errors: &mut ErrorList, path: &Path<'_>, holder: &Value, empty: &str) -> Vec<&'static str> {
    let mut set = Vec::new();
    match holder.get("nodeName").and_then(Value::as_str) {
        Some("") => errors.push(Error::invalid(&path.child("nodeName"), "", empty)),
        Some(name) => {
            set.push("`nodeName`");
            invalid_text(errors, &path.child("nodeName"), name, names::dns1123_subdomain(name, false));
        }
        None => {}
    }
    if let Some(selector) = holder.get("nodeSelector") {
        set.push("`nodeSelector`");
        node_selector(errors, selector, false, &path.child("nodeSelector"));
    }
    set
}

fn check_true(
    errors: &mut ErrorList,
    path: &Path<'_>,
    holder: &Value,
    field: &str,
    shown: &'static str,
    set: &mut Vec<&'static str>,
) {
    match holder.bool_at(&[field]) {
        Some(true) => set.push(shown),
        Some(false) => errors.push(Error::invalid(&path.child(field), false, "must be either unset or set to true")),
        None => {}
    }
}

fn check_nodes(errors: &mut ErrorList, path: &Path<'_>, spec: &Value) {
    let mut set = check_node_fields(errors, path, spec, "must be either unset or set to a non-empty string");
    if let Some(terms) = spec.get("nodeSelector").map(|selector| selector.list_at(&["nodeSelectorTerms"]))
        && terms.len() != 1
    {
        let shown = terms.iter().map(|term| internal(Some(term), "io.k8s.api.core.v1.NodeSelectorTerm"));
        let shown = if terms.is_empty() { Value::Null } else { Value::List(shown.collect()) };
        let path = path.child("nodeSelector");
        let why = "must have exactly one node selector term";
        errors.push(Error::invalid(&path.child("nodeSelectorTerms"), shown, why));
    }
    check_true(errors, path, spec, "allNodes", "`allNodes`", &mut set);
    check_true(errors, path, spec, "perDeviceNodeSelection", "`perDeviceNodeSelection`", &mut set);
    let one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match set.len() {
        0 => errors.push(Error::required(path, one)),
        1 => {}
        _ => {
            let shown = format!("{{{}}}", set.join(", "));
            errors.push(Error::invalid(path, shown, format!("{one}, but multiple fields are set")));
        }
    }
}

fn is_advanced(device: &Value) -> bool {
    !device.list_at(&["taints"]).is_empty()
        || !device.list_at(&["consumesCounters"]).is_empty()
        || map(device, &["attributes"]).iter().any(|(_, value)| LISTS.iter().any(|list| value.get(list).is_some()))
}

fn check_device(errors: &mut ErrorList, path: &Path<'_>, device: &Value, before: Option<&Value>, is_per_device: bool) {
    check_label(errors, &path.child("name"), device.str_at(&["name"]));
    let (attributes, capacity) = (map(device, &["attributes"]), map(device, &["capacity"]));
    let mut refuse_many = |count: usize, max: usize, what: &str| {
        if count > max {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            errors.push(Error::invalid(path, count, format!("the total number of {what} must not exceed {max}")));
        }
    };
    refuse_many(attributes.len() + capacity.len(), ATTRIBUTES_MAX, "attributes and capacities");
    let values =
        attributes.iter().map(|(_, value)| LISTS.iter().map(|list| value.list_at(&[list]).len()).sum::<usize>().max(1));
    refuse_many(values.sum(), ATTRIBUTE_VALUES_MAX, "attribute values");
    let attributes_path = path.child("attributes");
    for (key, value) in attributes.iter() {
        check_qualified_name(errors, &attributes_path, key);
        check_attribute(errors, &attributes_path.key(key), value);
    }
    let capacity_path = path.child("capacity");
    let is_shared = device.bool_at(&["allowMultipleAllocations"]) == Some(true);
    for (key, value) in capacity.iter() {
        check_qualified_name(errors, &capacity_path, key);
        let path = capacity_path.key(key);
        match value.get("requestPolicy") {
            Some(policy) if is_shared => check_policy(errors, &path.child("requestPolicy"), value, policy),
            Some(_) => {
                errors.push(Error::forbidden(&path.child("requestPolicy"), "allowMultipleAllocations must be true"));
            }
            None => {}
        }
    }
    if !before.is_some_and(|before| same(before.get("taints"), device.get("taints"))) {
        check_each(errors, &path.child("taints"), device.list_at(&["taints"]), TAINTS_MAX, check_taint);
    }
    check_set(
        errors,
        &path.child("consumesCounters"),
        device.list_at(&["consumesCounters"]),
        CONSUMPTIONS_MAX,
        |consumption| consumption.str_at(&["counterSet"]),
        shown_text,
        |errors, path, consumption| check_counters(errors, path, consumption, "counterSet"),
    );
    check_device_nodes(errors, path, device, is_per_device);
    check_binding_conditions(errors, path, device);
}

fn check_device_nodes(errors: &mut ErrorList, path: &Path<'_>, device: &Value, is_per_device: bool) {
    if !is_per_device {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|field| device.get(field).is_some()) {
            let why = "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to \
                       true in the ResourceSlice spec";
            errors.push(Error::invalid(path, Value::Null, why));
        }
        return;
    }
    let mut set = check_node_fields(errors, path, device, "must not be empty");
    check_true(errors, path, device, "allNodes", "`allNodes`", &mut set);
    let one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is \
               set to true in the ResourceSlice spec";
    match set.len() {
        0 => errors.push(Error::required(path, one)),
        1 => {}
        _ => errors.push(Error::invalid(path, format!("{{{}}}", set.join(", ")), one)),
    }
}

/// A set of counters, or what a device takes of one.
fn check_counters(errors: &mut ErrorList, path: &Path<'_>, set: &Value, name: &str) {
    match set.str_at(&[name]) {
        "" => errors.push(Error::required(&path.child(name), "")),
        text => check_label(errors, &path.child(name), text),
    }
    let counters = set.map_at(&["counters"]).filter(|counters| !counters.is_empty());
    let path = path.child("counters");
    match counters.map(Map::len) {
        None => errors.push(Error::required(&path, "")),
        Some(count) if count > COUNTERS_MAX => errors.push(Error::too_many(&path, count, COUNTERS_MAX)),
        Some(_) => counters.into_iter().flat_map(Map::keys).for_each(|name| check_label(errors, &path, name)),
    }
}

fn check_attribute(errors: &mut ErrorList, path: &Path<'_>, attribute: &Value) {
    if let Some(value) = attribute.get("string").and_then(Value::as_str) {
        check_len(errors, &path.child("string"), value);
    }
    if let Some(value) = attribute.get("version").and_then(Value::as_str) {
        check_version(errors, &path.child("version"), value);
    }
    for (list, check) in [("strings", check_len as fn(&mut ErrorList, &Path<'_>, &str)), ("versions", check_version)] {
        for (index, value) in texts(attribute, &[list]).into_iter().enumerate() {
            check(errors, &path.child(list).index(index), value);
        }
    }
    let set = SCALARS.iter().chain(&LISTS).filter(|field| attribute.get(field).is_some()).count();
    if set != 1 {
        let shown = match set {
            0 => "".into(),
            _ => shown_attribute(attribute),
        };
        errors.push(Error::invalid(path, shown, "exactly one value must be specified"));
    }
}

/// An attribute as messages show it: by the names that its fields have inside of upstream.
fn shown_attribute(attribute: &Value) -> Value {
    let shown = internal(Some(attribute), "io.k8s.api.resource.v1.DeviceAttribute");
    let Value::Raw(mut text) = shown else { return shown };
    for ty in ["Int", "Bool", "String", "Version"] {
        let renamed = text.replace(&format!("\"{ty}\":"), &format!("\"{ty}Value\":"));
        text = renamed.replace(&format!("\"{ty}s\":"), &format!("\"{ty}Values\":")).into();
    }
    Value::Raw(text)
}

fn check_len(errors: &mut ErrorList, path: &Path<'_>, value: &str) {
    if value.len() > ATTRIBUTE_LEN_MAX {
        errors.push(Error::too_long(path, ATTRIBUTE_LEN_MAX));
    }
}

fn check_version(errors: &mut ErrorList, path: &Path<'_>, value: &str) {
    if !is_semver(value) {
        errors.push(Error::invalid(path, value, "must be a string compatible with semver.org spec 2.0.0"));
    }
    check_len(errors, path, value);
}

fn is_semver(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, pre) = text.split_once('-').map_or((text, None), |(core, pre)| (core, Some(pre)));
    let is_id = |id: &str| !id.is_empty() && id.chars().all(|c| c == '-' || c.is_ascii_alphanumeric());
    let is_digits = |id: &str| !id.is_empty() && id.chars().all(|c| c.is_ascii_digit());
    let is_number = |id: &str| is_digits(id) && (id == "0" || !id.starts_with('0'));
    core.split('.').count() == 3
        && core.split('.').all(is_number)
        && pre.is_none_or(|pre| pre.split('.').all(|id| is_id(id) && (!is_digits(id) || is_number(id))))
        && build.is_none_or(|build| build.split('.').all(is_id))
}

fn quantity(object: &Value, field: &str) -> Option<Quantity> {
    object.get(field).and_then(Value::as_str).and_then(|text| Quantity::parse(text).ok())
}

/// How much of a capacity can be asked for.
fn check_policy(errors: &mut ErrorList, path: &Path<'_>, capacity: &Value, policy: &Value) {
    let values = policy.list_at(&["validValues"]);
    let range = policy.get("validRange");
    let Some(max) = quantity(capacity, "value") else { return };
    let default = quantity(policy, "default");
    let required = |what: &str| Error::required(&path.child("default"), format!("required when {what} is defined"));
    match (values.is_empty(), range, default) {
        (false, Some(_), _) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the \
                       same time";
            errors.push(Error::forbidden(path, why));
        }
        (false, None, None) => errors.push(required("validValues")),
        (true, Some(_), None) => errors.push(required("validRange")),
        (false, None, Some(default)) => check_values(errors, &path.child("validValues"), values, &default, &max),
        (true, Some(range), Some(default)) => check_range(errors, &path.child("validRange"), range, &default, &max),
        (true, None, _) => {}
    }
}

fn check_values(errors: &mut ErrorList, path: &Path<'_>, values: &[Value], default: &Quantity, max: &Quantity) {
    let parsed: Vec<Quantity> =
        values.iter().filter_map(|value| Quantity::parse(value.as_str().unwrap_or_default()).ok()).collect();
    for (index, pair) in parsed.windows(2).enumerate() {
        if pair[0].cmp(&pair[1]) == Ordering::Greater {
            let shown = pair[1].canonical();
            errors.push(Error::invalid(&path.index(index + 1), shown, "values must be sorted in ascending order"));
        }
    }
    let key = |value: &Value| Quantity::parse(value.as_str().unwrap_or_default()).map_or(0, |value| value.value());
    let shown = |key: &i64| key.to_string().into();
    check_set(errors, path, values, VALID_VALUES_MAX, key, shown, |errors, path, value| {
        let Ok(value) = Quantity::parse(value.as_str().unwrap_or_default()) else { return };
        if value > *max {
            let why = format!("option is larger than capacity value: {}", max.canonical());
            errors.push(Error::invalid(path, value.canonical(), why));
        }
    });
    if values.len() > VALID_VALUES_MAX || !parsed.iter().any(|value| value.cmp(default) == Ordering::Equal) {
        let why = "default value is not valid according to the requestPolicy";
        errors.push(Error::invalid(path, default.canonical(), why));
    }
}

fn check_range(errors: &mut ErrorList, path: &Path<'_>, range: &Value, default: &Quantity, capacity: &Quantity) {
    let Some(min) = quantity(range, "min") else {
        errors.push(Error::required(&path.child("min"), "required when validRange is defined"));
        return;
    };
    let mut refuse = |wrong: bool, field: &str, shown: &Quantity, what: &str, bound: &Quantity| {
        if wrong {
            let why = format!("{what}: {}", bound.canonical());
            errors.push(Error::invalid(&path.child(field), shown.canonical(), why));
        }
    };
    refuse(min > *capacity, "min", &min, "min is larger than capacity value", capacity);
    refuse(*default < min, "min", default, "default is less than min", &min);
    let max = quantity(range, "max");
    if let Some(max) = &max {
        refuse(min > *max, "max", &min, "min is larger than max", max);
        refuse(*max > *capacity, "max", max, "max is larger than capacity value", capacity);
        refuse(*default > *max, "max", default, "default is more than max", max);
    }
    let Some(step) = quantity(range, "step") else { return };
    let path = path.child("step");
    let mut first = min.clone();
    first.add(&step);
    if first > *capacity {
        let why = format!("one step {} is larger than capacity value: {}", first.canonical(), capacity.canonical());
        errors.push(Error::invalid(&path, step.canonical(), why));
    }
    for value in [Some(default), max.as_ref()].into_iter().flatten() {
        let above = value.value().saturating_sub(min.value());
        // A step of nothing has no multiples.
        if above.checked_rem(step.value()) != Some(0) {
            let (step, min) = (step.canonical(), min.canonical());
            let why = format!("value is not a multiple of a given step ({step}) from ({min})");
            errors.push(Error::invalid(&path, value.canonical(), why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, json, update};

    const KIND: &dyn Kind = &ResourceSlice;

    fn with(rest: &str) -> String {
        format!(
            r#"{{"spec":{{"driver":"d.example.com","pool":{{"name":"p","resourceSliceCount":1}},"nodeName":"n"{rest}}}}}"#
        )
    }

    fn device(rest: &str) -> String {
        with(&format!(r#","devices":[{{"name":"x"{rest}}}]"#))
    }

    #[test]
    fn slices_say_whose_and_where() {
        for (object, expect) in [
            (with(""), String::new()),
            (
                r#"{"spec":{"pool":{"generation":-1},"allNodes":false}}"#.into(),
                "spec.driver: Required value\n\
                 spec.pool.name: Required value\n\
                 spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero\n\
                 spec.pool.generation: Invalid value: -1: must be greater than or equal to zero\n\
                 spec.allNodes: Invalid value: false: must be either unset or set to true\n\
                 spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, \
                 `perDeviceNodeSelection` is required"
                    .into(),
            ),
            (
                with(r#","allNodes":true"#),
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, \
                 `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set"
                    .into(),
            ),
        ] {
            create(KIND, &object, &expect);
        }
        update(
            KIND,
            &with(""),
            &with("").replace(r#""p""#, r#""q""#).replace("d.example.com", "e").replace(r#""n""#, r#""m""#),
            "spec.pool.name: Invalid value: \"q\": field is immutable\n\
             spec.driver: Invalid value: \"e\": field is immutable\n\
             spec.nodeName: Invalid value: \"m\": field is immutable",
        );
    }

    #[test]
    fn attributes_have_one_value() {
        for (rest, expect) in [
            (r#","attributes":{"a":{"bool":false},"e.com/b":{"version":"1.2.3-a.1+b"}}"#, ""),
            (
                r#","attributes":{"a":{"bool":true,"int":1},"b":{"version":"1.2"}}"#,
                "spec.devices[0].attributes[a]: Invalid value: {\"IntValue\":1,\"BoolValue\":true,\
                 \"StringValue\":null,\"VersionValue\":null,\"IntValues\":null,\"BoolValues\":null,\
                 \"StringValues\":null,\"VersionValues\":null}: exactly one value must be specified\n\
                 spec.devices[0].attributes[b].version: Invalid value: \"1.2\": must be a string compatible with \
                 semver.org spec 2.0.0",
            ),
            (
                r#","attributes":{"/a":{"int":1},"a/":{"int":1},"b-":{}}"#,
                "spec.devices[0].attributes: Invalid value: \"\": the domain must not be empty\n\
                 spec.devices[0].attributes: Invalid value: \"\": the name must not be empty\n\
                 spec.devices[0].attributes: Invalid value: \"b-\": a valid C identifier must start with alphabetic \
                 character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or \
                 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')\n\
                 spec.devices[0].attributes[b-]: Invalid value: \"\": exactly one value must be specified",
            ),
        ] {
            create(KIND, &device(rest), expect);
        }
    }

    #[test]
    fn devices_are_told_apart() {
        create(
            KIND,
            &with(r#","devices":[{"name":"x"},{"name":"x","nodeName":"n"}]"#),
            "spec.devices[1]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if \
             `perDeviceNodeSelection` is set to true in the ResourceSlice spec\n\
             spec.devices[1]: Duplicate value: \"x\"",
        );
        let per_device = device("").replace(r#""nodeName":"n""#, r#""perDeviceNodeSelection":true"#);
        create(
            KIND,
            &per_device,
            "spec.devices[0]: Required value: exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when \
             `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
        );
        let many: Vec<String> = (0..65).map(|at| format!(r#"{{"name":"d{at}"}}"#)).collect();
        create(KIND, &with(&format!(r#","devices":[{}]"#, many.join(","))), "");
        let tainted = many.join(",").replacen('}', r#","taints":[{"key":"a","effect":"None"}]}"#, 1);
        create(
            KIND,
            &with(&format!(r#","devices":[{tainted}]"#)),
            "spec.devices: Too many: 65: must have at most 64 items",
        );
    }

    #[test]
    fn taints_counters_and_conditions_are_checked() {
        for (rest, expect) in [
            (
                r#","taints":[{"key":"a","effect":"Odd"},{"key":"a"}]"#,
                "spec.devices[0].taints[0].effect: Unsupported value: \"Odd\": supported values: \"NoExecute\", \
                 \"NoSchedule\", \"None\"\n\
                 spec.devices[0].taints[1].effect: Required value",
            ),
            (
                r#","consumesCounters":[{"counterSet":"s","counters":{"c":{"value":"1"}}},{"counterSet":"s"}]"#,
                "spec.devices[0].consumesCounters[1].counters: Required value\n\
                 spec.devices[0].consumesCounters[1]: Duplicate value: \"s\"",
            ),
            (
                r#","bindingConditions":["a","a"],"bindingFailureConditions":["a"]"#,
                "spec.devices[0].bindingConditions[1]: Duplicate value: \"a\"\n\
                 spec.devices[0].bindingFailureConditions[0]: Invalid value: \"a\": bindingFailureConditions must not \
                 overlap with bindingConditions",
            ),
            (
                r#","bindingConditions":["a"]"#,
                "spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required \
                 to use bindingConditions",
            ),
        ] {
            create(KIND, &device(rest), expect);
        }
        create(
            KIND,
            &with(r#","sharedCounters":[{"name":"s","counters":{"c":{"value":"1"}}},{}]"#),
            "spec.sharedCounters[1].name: Required value\nspec.sharedCounters[1].counters: Required value",
        );
    }

    #[test]
    fn capacities_are_shared_by_a_policy() {
        for (policy, expect) in [
            (r#"{"default":"1","validValues":["1","2"]}"#, ""),
            (r#"{"default":"2","validRange":{"min":"2","max":"8","step":"2"}}"#, ""),
            (r#"{"validValues":["1"]}"#, ".default: Required value: required when validValues is defined"),
            (
                r#"{"default":"4","validValues":["2","1","20"]}"#,
                ".validValues[1]: Invalid value: \"1\": values must be sorted in ascending order\n\
                 .validValues[2]: Invalid value: \"20\": option is larger than capacity value: 10\n\
                 .validValues: Invalid value: \"4\": default value is not valid according to the requestPolicy",
            ),
            (
                r#"{"default":"1","validRange":{"min":"2","max":"20","step":"3"}}"#,
                ".validRange.min: Invalid value: \"1\": default is less than min: 2\n\
                 .validRange.max: Invalid value: \"20\": max is larger than capacity value: 10\n\
                 .validRange.step: Invalid value: \"1\": value is not a multiple of a given step (3) from (2)",
            ),
        ] {
            let rest = format!(
                r#","allowMultipleAllocations":true,"capacity":{{"a":{{"value":"10","requestPolicy":{policy}}}}}"#
            );
            let path = "spec.devices[0].capacity[a].requestPolicy";
            let expect: Vec<String> = expect.lines().map(|line| format!("{path}{line}")).collect();
            create(KIND, &device(&rest), &expect.join("\n"));
        }
        create(
            KIND,
            &device(r#","capacity":{"a":{"value":"10","requestPolicy":{}}}"#),
            "spec.devices[0].capacity[a].requestPolicy: Forbidden: allowMultipleAllocations must be true",
        );
    }

    #[test]
    fn taints_get_their_time() {
        let mut slice = json(&device(r#","taints":[{"key":"a"},{"key":"b","timeAdded":"t0"}]"#));
        KIND.stamp(&mut slice, None, "t1");
        let expect = json(&device(r#","taints":[{"key":"a","timeAdded":"t1"},{"key":"b","timeAdded":"t0"}]"#));
        assert_eq!(slice, expect);
    }

    #[test]
    fn semantic_versions_have_three_numbers() {
        for (text, expect) in [
            ("1.2.3", true),
            ("1.2.3-alpha.1", true),
            ("1.2.3-0a", true),
            ("1.2.3+01", true),
            ("1.2.3-01", false),
            ("01.2.3", false),
            ("1.2", false),
            ("1.2.3-", false),
            ("1.2.3+", false),
            ("v1.2.3", false),
        ] {
            assert_eq!(is_semver(text), expect, "{text}");
        }
    }

    #[test]
    fn drivers_are_lowercase() {
        let slice = json(r#"{"spec":{"driver":"D"}}"#);
        assert_eq!(
            KIND.warnings(&slice, None),
            ["spec.driver: driver names should be lowercase; \"D\" contains uppercase characters"]
        );
        assert_eq!(KIND.warnings(&json(&with("")), None), [""; 0]);
    }

    #[test]
    fn cells_tell_where_and_whose() {
        cells(
            KIND,
            &with("").replacen('{', r#"{"metadata":{"name":"a"},"#, 1),
            r#"["a","n","d.example.com","p","<unknown>"]"#,
        );
    }
}
