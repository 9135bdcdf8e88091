//! ResourceClaim: devices for Pods, asked for and allocated.

use std::collections::HashSet;

use api_schema::{Map, SmolStr, Value};
use api_semantics::field::{Error, ErrorList, Path};

use super::claim::{self, RequestNames};
use super::{
    CONFIG_MAX, check_binding_conditions, check_configuration, check_each, check_label, check_pool_name, check_set,
};
use crate::Kind;
use crate::checks::{check_conditions, internal, items_mut, name, required_text, same, supported};
use crate::core::pod::validate::scheduling::node_selector;
use crate::storage::check_driver_name;

const RESERVED_FOR_MAX: usize = 256;
const RESULTS_MAX: usize = 32;
const DEVICE_CONDITIONS_MAX: usize = 8;
const INTERFACE_NAME_LEN_MAX: usize = 256;
const HARDWARE_ADDRESS_LEN_MAX: usize = 128;

const SPEC: &str = "io.k8s.api.resource.v1.ResourceClaimSpec";
const ALLOCATION: &str = "io.k8s.api.resource.v1.AllocationResult";

pub(crate) struct ResourceClaim;

impl Kind for ResourceClaim {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "resourceclaims"
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        claim::default(object, &["spec"]);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status"], Map::new());
    }

    /// Devices that are not allocated any more have no status.
    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        let still: HashSet<DeviceId> = allocated(new);
        let gone: HashSet<DeviceId> = allocated(old).into_iter().filter(|device| !still.contains(device)).collect();
        if let Some(devices) = new.at_mut(&["status", "devices"]).and_then(Value::as_list_mut) {
            devices.retain(|device| !gone.contains(&device_id(device)));
        }
        if items_mut(new, &["status", "devices"]).is_empty() {
            new.remove(&["status", "devices"]);
        }
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let nothing = Value::Null;
        let mut errors = ErrorList::new();
        claim::check(&mut errors, &Path::new("spec"), object.get("spec").unwrap_or(&nothing));
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        check_same_spec(new, old, SPEC)
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> ErrorList {
        check_status(new, old)
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(vec![name(object), state(object).into(), api_semantics::time::age(object, now)])
    }
}

/// The spec of claims and templates is for ever.
pub(super) fn check_same_spec(new: &Value, old: &Value, ty: &str) -> ErrorList {
    let mut errors = ErrorList::new();
    if !same(new.get("spec"), old.get("spec")) {
        let shown = internal(new.get("spec"), ty);
        errors.push(Error::invalid(&Path::new("spec"), shown, api_semantics::names::IMMUTABLE));
    }
    errors
}

fn state(object: &Value) -> String {
    let is_deleted = object.at(&["metadata", "deletionTimestamp"]).is_some();
    let is_allocated = object.at(&["status", "allocation"]).is_some();
    let is_reserved = is_allocated && !object.list_at(&["status", "reservedFor"]).is_empty();
    let states = [
        ("deleted", is_deleted),
        ("pending", !is_deleted && !is_allocated),
        ("allocated", is_allocated),
        ("reserved", is_reserved),
    ];
    let states: Vec<&str> = states.into_iter().filter(|(_, holds)| *holds).map(|(state, _)| state).collect();
    states.join(",")
}

/// Driver, pool, device and share.
type DeviceId = [SmolStr; 4];

fn device_id(device: &Value) -> DeviceId {
    ["driver", "pool", "device", "shareID"].map(|field| SmolStr::new(device.str_at(&[field])))
}

/// A device as messages show it.
fn shown_id([driver, pool, device, share]: &DeviceId) -> Value {
    let mut shown = format!("{driver}/{pool}/{device}");
    if !share.is_empty() {
        shown.push_str(&format!("/{share}"));
    }
    shown.into()
}

fn allocated(object: &Value) -> HashSet<DeviceId> {
    object.list_at(&["status", "allocation", "devices", "results"]).iter().map(device_id).collect()
}

fn check_status(new: &Value, old: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let nothing = Value::Null;
    let path = Path::new("status");
    let reserved = new.list_at(&["status", "reservedFor"]);
    let reserved_path = path.child("reservedFor");
    check_set(
        &mut errors,
        &reserved_path,
        reserved,
        RESERVED_FOR_MAX,
        |consumer| consumer.str_at(&["uid"]),
        super::shown_text,
        |errors, path, consumer| {
            for field in ["resource", "name", "uid"] {
                required_text(errors, path, consumer, field);
            }
        },
    );
    let there = allocated(new);
    check_set(
        &mut errors,
        &path.child("devices"),
        new.list_at(&["status", "devices"]),
        usize::MAX,
        device_id,
        shown_id,
        |errors, path, device| check_device_status(errors, path, device, &there),
    );
    let (allocation, had) = (new.at(&["status", "allocation"]), old.at(&["status", "allocation"]));
    if !reserved.is_empty() {
        let before = old.list_at(&["status", "reservedFor"]);
        if allocation.is_none() {
            errors.push(Error::forbidden(&reserved_path, "may not be specified when `allocated` is not set"));
        } else if new.at(&["metadata", "deletionTimestamp"]).is_some()
            && reserved.iter().any(|consumer| !before.contains(consumer))
        {
            let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.push(Error::forbidden(&reserved_path, why));
        }
    }
    let allocation_path = path.child("allocation");
    match (allocation, had) {
        (Some(new), Some(old)) if !same(Some(new), Some(old)) => {
            let shown = internal(Some(new), ALLOCATION);
            errors.push(Error::invalid(&allocation_path, shown, api_semantics::names::IMMUTABLE));
        }
        (Some(allocation), None) => {
            let known = claim::request_names(new.get("spec").unwrap_or(&nothing));
            check_allocation(&mut errors, &allocation_path, allocation, &known);
        }
        _ => {}
    }
    errors
}

fn check_allocation(errors: &mut ErrorList, path: &Path<'_>, allocation: &Value, known: &RequestNames<'_>) {
    let devices = path.child("devices");
    let results = allocation.list_at(&["devices", "results"]);
    check_each(errors, &devices.child("results"), results, RESULTS_MAX, |errors, path, result| {
        claim::check_reference(errors, &path.child("request"), result.str_at(&["request"]), known);
        check_device(errors, path, result);
        check_binding_conditions(errors, path, result);
        check_share(errors, path, result);
    });
    let config = allocation.list_at(&["devices", "config"]);
    check_each(errors, &devices.child("config"), config, 2 * CONFIG_MAX, |errors, path, config| {
        match config.str_at(&["source"]) {
            "" => errors.push(Error::required(&path.child("source"), "")),
            source => supported(errors, &path.child("source"), source, &["FromClaim", "FromClass"]),
        }
        claim::check_references(errors, &path.child("requests"), config.list_at(&["requests"]), known);
        check_configuration(errors, path, config);
    });
    if let Some(selector) = allocation.get("nodeSelector") {
        node_selector(errors, selector, false, &path.child("nodeSelector"));
    }
}

fn check_device(errors: &mut ErrorList, path: &Path<'_>, device: &Value) {
    check_driver_name(errors, &path.child("driver"), device.str_at(&["driver"]));
    check_pool_name(errors, &path.child("pool"), device.str_at(&["pool"]));
    check_label(errors, &path.child("device"), device.str_at(&["device"]));
}

fn check_share(errors: &mut ErrorList, path: &Path<'_>, device: &Value) {
    let Some(share) = device.get("shareID").and_then(Value::as_str) else { return };
    let is_form = share.len() == 36
        && share.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_digit() || ('a'..='f').contains(&c),
        });
    if !is_form {
        let why = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase \
                   hexadecimal characters";
        errors.push(Error::invalid(&path.child("shareID"), share, why));
    }
}

fn check_device_status(errors: &mut ErrorList, path: &Path<'_>, device: &Value, there: &HashSet<DeviceId>) {
    check_device(errors, path, device);
    check_share(errors, path, device);
    let id = device_id(device);
    if !there.contains(&id) {
        errors.push(Error::invalid(path, shown_id(&id), "must be an allocated device in the claim"));
    }
    let conditions = device.list_at(&["conditions"]);
    let conditions_path = path.child("conditions");
    if conditions.len() > DEVICE_CONDITIONS_MAX {
        errors.push(Error::too_many(&conditions_path, conditions.len(), DEVICE_CONDITIONS_MAX));
    }
    check_conditions(errors, &conditions_path, conditions);
    if let Some(data) = device.get("data").filter(|data| !data.is_null()) {
        super::check_raw(errors, &path.child("data"), Some(data));
    }
    if let Some(network) = device.get("networkData") {
        let path = path.child("networkData");
        for (field, max) in [("interfaceName", INTERFACE_NAME_LEN_MAX), ("hardwareAddress", HARDWARE_ADDRESS_LEN_MAX)] {
            if network.str_at(&[field]).len() > max {
                errors.push(Error::too_long(&path.child(field), max));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, json, lines, update};

    const KIND: &dyn Kind = &ResourceClaim;

    fn with(requests: &str, rest: &str) -> String {
        format!(r#"{{"spec":{{"devices":{{"requests":[{requests}]{rest}}}}}}}"#)
    }

    #[test]
    fn requests_are_for_one_device() {
        defaults(
            KIND,
            &with(
                r#"{"exactly":{"tolerations":[{}]}},{"exactly":{"allocationMode":"All"}},{"firstAvailable":[{"count":2}]}"#,
                "",
            ),
            &with(
                r#"{"exactly":{"allocationMode":"ExactCount","count":1,"tolerations":[{"operator":"Equal"}]}},
                    {"exactly":{"allocationMode":"All"}},{"firstAvailable":[{"allocationMode":"ExactCount","count":2}]}"#,
                "",
            ),
        );
    }

    #[test]
    fn requests_are_named_and_say_what() {
        for (requests, expect) in [
            (r#"{"name":"a","exactly":{"deviceClassName":"c"}}"#, ""),
            (
                r#"{"name":"a"},{"name":"a","exactly":{"deviceClassName":"c"},
                    "firstAvailable":[{"name":"x","deviceClassName":"c"}]}"#,
                "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required\n\
                 spec.devices.requests[1]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is \
                 required, but multiple fields are set\n\
                 spec.devices.requests[1]: Duplicate value: \"a\"",
            ),
            (
                r#"{"name":"a","exactly":{"allocationMode":"All","count":2,"selectors":[{}],
                    "tolerations":[{"operator":"Exists","value":"v","effect":"Odd"},{"operator":"Odd"}]}},
                    {"name":"b","exactly":{"deviceClassName":"c","allocationMode":"Some"}},
                    {"name":"c","exactly":{"deviceClassName":"c","count":-1}}"#,
                "spec.devices.requests[0].exactly.deviceClassName: Required value\n\
                 spec.devices.requests[0].exactly.selectors[0].cel: Required value\n\
                 spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode \
                 is 'All'\n\
                 spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"v\": must be empty for \
                 operator `Exists`\n\
                 spec.devices.requests[0].exactly.tolerations[0].effect: Unsupported value: \"Odd\": supported \
                 values: \"NoExecute\", \"NoSchedule\", \"None\"\n\
                 spec.devices.requests[0].exactly.tolerations[1].operator: Unsupported value: \"Odd\": supported \
                 values: \"Equal\", \"Exists\"\n\
                 spec.devices.requests[1].exactly.allocationMode: Unsupported value: \"Some\": supported values: \
                 \"All\", \"ExactCount\"\n\
                 spec.devices.requests[2].exactly.count: Invalid value: -1: must be greater than zero",
            ),
        ] {
            create(KIND, &with(requests, ""), expect);
        }
    }

    #[test]
    fn constraints_and_configuration_refer_to_requests() {
        let requests = r#"{"name":"a","exactly":{"deviceClassName":"c"}},
            {"name":"b","firstAvailable":[{"name":"x","deviceClassName":"c"}]}"#;
        let unknown = "must be the name of a request in the claim or the name of a request and a subrequest \
                       separated by '/'";
        for (rest, expect) in [
            (
                r#","constraints":[{"requests":["a","b","b/x"],"matchAttribute":"d.example.com/a"}],
                    "config":[{"requests":["a"],"opaque":{"driver":"d","parameters":{}}}]"#,
                String::new(),
            ),
            (
                r#","constraints":[{"requests":["z","a","a","b/y","a/b/c"],"matchAttribute":"a"},{}]"#,
                format!(
                    "spec.devices.constraints[0].requests[0]: Invalid value: \"z\": {unknown}\n\
                     spec.devices.constraints[0].requests[3]: Invalid value: \"b/y\": {unknown}\n\
                     spec.devices.constraints[0].requests[4]: Invalid value: \"a/b/c\": {unknown}\n\
                     spec.devices.constraints[0].requests[2]: Duplicate value: \"a\"\n\
                     spec.devices.constraints[0].matchAttribute: Invalid value: \"a\": a fully qualified name must be \
                     a domain and a name separated by a slash\n\
                     spec.devices.constraints[1]: Required value: exactly one of \"matchAttribute\" or \
                     \"distinctAttribute\" is required, but multiple fields are set"
                ),
            ),
        ] {
            create(KIND, &with(requests, rest), &expect);
        }
    }

    #[test]
    fn what_is_asked_for_stays() {
        let claim = |class: &str| with(&format!(r#"{{"name":"a","exactly":{{"deviceClassName":"{class}"}}}}"#), "");
        update(KIND, &claim("c"), &claim("c"), "");
        update(
            KIND,
            &claim("c"),
            &claim("d"),
            "spec: Invalid value: {\"Devices\":{\"Requests\":[{\"Name\":\"a\",\"Exactly\":{\"DeviceClassName\":\"d\",\
             \"Selectors\":null,\"AllocationMode\":\"ExactCount\",\"Count\":1,\"AdminAccess\":null,\
             \"Tolerations\":null,\"Capacity\":null},\"FirstAvailable\":null}],\"Constraints\":null,\
             \"Config\":null}}: field is immutable",
        );
    }

    #[test]
    fn allocations_are_of_what_was_asked_for() {
        let spec = r#"{"devices":{"requests":[{"name":"a","exactly":{"deviceClassName":"c"}}]}}"#;
        let object = |status: &str| json(&format!(r#"{{"spec":{spec},"status":{status}}}"#));
        let result = r#"{"request":"a","driver":"d","pool":"p","device":"x"}"#;
        let allocation = |result: &str| format!(r#""allocation":{{"devices":{{"results":[{result}]}}}}"#);
        let user = r#"{"resource":"pods","name":"p","uid":"u"}"#;
        for (old, new, expect) in [
            ("{}".into(), format!("{{{}}}", allocation(result)), ""),
            (
                "{}".into(),
                format!("{{{}}}", allocation(&result.replace(r#""a""#, r#""z""#).replace(r#""p""#, r#""""#))),
                "status.allocation.devices.results[0].request: Invalid value: \"z\": must be the name of a request in \
                 the claim or the name of a request and a subrequest separated by '/'\n\
                 status.allocation.devices.results[0].pool: Required value",
            ),
            (
                "{}".into(),
                format!(r#"{{"reservedFor":[{user},{user},{{}}]}}"#),
                "status.reservedFor[2].resource: Required value\n\
                 status.reservedFor[2].name: Required value\n\
                 status.reservedFor[2].uid: Required value\n\
                 status.reservedFor[1]: Duplicate value: \"u\"\n\
                 status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
            ),
            (format!("{{{}}}", allocation(result)), "{}".into(), ""),
            (
                format!("{{{}}}", allocation(result)),
                format!(r#"{{"devices":[{{"driver":"d","pool":"p","device":"x"}}],{}}}"#, allocation(result)),
                "",
            ),
            // Of a device that is taken away, nothing is left.
            (
                format!(r#"{{"devices":[{{"driver":"d","pool":"p","device":"x"}}],{}}}"#, allocation(result)),
                r#"{"devices":[{"driver":"d","pool":"p","device":"x"}]}"#.into(),
                "",
            ),
        ] {
            let (old, mut new) = (object(&old), object(&new));
            KIND.prepare_status_update(&mut new, &old);
            assert_eq!(lines(&KIND.validate_status_update(&new, &old)), expect);
        }
        let old = object(&format!("{{{}}}", allocation(result)));
        let new = object(&format!("{{{}}}", allocation(&result.replace(r#""x""#, r#""y""#))));
        let errors = KIND.validate_status_update(&new, &old);
        assert_eq!(errors.len(), 1);
        assert_eq!((&*errors[0].field, &*errors[0].detail), ("status.allocation", "field is immutable"));
    }

    #[test]
    fn cells_tell_the_state() {
        for (rest, expect) in [
            (r#""status":{}"#, "pending"),
            (r#""status":{"allocation":{}}"#, "allocated"),
            (r#""status":{"allocation":{},"reservedFor":[{}]}"#, "allocated,reserved"),
        ] {
            cells(
                KIND,
                &format!(r#"{{"metadata":{{"name":"a"}},{rest}}}"#),
                &format!(r#"["a","{expect}","<unknown>"]"#),
            );
        }
        cells(KIND, r#"{"metadata":{"name":"a","deletionTimestamp":"t"}}"#, r#"["a","deleted","<unknown>"]"#);
    }
}
