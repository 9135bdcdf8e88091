//! APIService: a group and version of the API and who serves it.

use api_schema::{Value, format_smolstr};
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::Kind;
use crate::admissionregistration::webhook;
use crate::checks::{invalid_text, name, required_text, supported};

const GROUP_PRIORITY_MAX: i64 = 20_000;
const VERSION_PRIORITY_MAX: i64 = 1_000;

pub(crate) struct ApiService;

impl Kind for ApiService {
    fn group(&self) -> &str {
        "apiregistration.k8s.io"
    }

    fn resource(&self) -> &str {
        "apiservices"
    }

    fn default(&self, object: &mut Value) {
        webhook::default_service(object, &["spec", "service"]);
    }

    /// What this server serves itself is available at once.
    fn prepare_create(&self, object: &mut Value) {
        let mut status = api_schema::Map::new();
        if object.at(&["spec", "service"]).is_none() {
            let mut condition = Value::from([
                ("type", "Available"),
                ("status", "True"),
                ("reason", "Local"),
                ("message", "Local APIServices are always available"),
            ]);
            condition.set(&["lastTransitionTime"], object.str_at(&["metadata", "creationTimestamp"]));
            status.insert("conditions", Value::List(vec![condition]));
        }
        object.set(&["status"], status);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object)
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("status.conditions");
        for (index, condition) in new.list_at(&["status", "conditions"]).iter().enumerate() {
            let path = path.index(index);
            supported(&mut errors, &path.child("status"), condition.str_at(&["status"]), &["True", "False", "Unknown"]);
        }
        errors
    }

    fn check_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment_name(name, false)
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let service = match object.at(&["spec", "service"]) {
            Some(service) => format_smolstr!("{}/{}", service.str_at(&["namespace"]), service.str_at(&["name"])).into(),
            None => "Local".into(),
        };
        Some(vec![name(object), service, availability(object), api_semantics::time::age(object, now)])
    }
}

fn availability(object: &Value) -> Value {
    let mut conditions = object.list_at(&["status", "conditions"]).iter();
    let Some(condition) = conditions.find(|condition| condition.str_at(&["type"]) == "Available") else {
        return "Unknown".into();
    };
    match (condition.str_at(&["status"]), condition.str_at(&["reason"])) {
        (status @ "True", _) | (status, "") => status.into(),
        (status, reason) => format_smolstr!("{status} ({reason})").into(),
    }
}

fn check(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let nothing = Value::Null;
    let spec = object.get("spec").unwrap_or(&nothing);
    let path = Path::new("spec");
    let (group, version) = (spec.str_at(&["group"]), spec.str_at(&["version"]));
    check_full_name(&mut errors, object.str_at(&["metadata", "name"]), &format!("{version}.{group}"));
    if group.is_empty() {
        if version != "v1" {
            let why = "only v1 may have an empty group and it better be legacy kube";
            errors.push(Error::required(&path.child("group"), why));
        }
    } else {
        invalid_text(&mut errors, &path.child("group"), group, names::dns1123_subdomain(group, false));
    }
    invalid_text(&mut errors, &path.child("version"), version, names::dns1035_label(version, false));
    for (field, max) in [("groupPriorityMinimum", GROUP_PRIORITY_MAX), ("versionPriority", VERSION_PRIORITY_MAX)] {
        let priority = spec.int_at(&[field]).unwrap_or(0);
        if !(1..=max).contains(&priority) {
            let why = format!("must be positive and less than {max}");
            errors.push(Error::invalid(&path.child(field), priority, why));
        }
    }
    check_service(&mut errors, &path, spec);
    errors
}

/// The name must be made of version and group.
fn check_full_name(errors: &mut ErrorList, name: &str, expected: &str) {
    if name != expected && !name.is_empty() && names::path_segment_name(name, false).is_empty() {
        let why = format!("must be `spec.version+\".\"+spec.group`: \"{expected}\"");
        errors.push(Error::invalid(&Path::new("metadata.name"), name, why));
    }
}

fn check_service(errors: &mut ErrorList, path: &Path<'_>, spec: &Value) {
    let bundle = STANDARD.decode(spec.str_at(&["caBundle"])).map_or(0, |bundle| bundle.len());
    let skips = spec.bool_at(&["insecureSkipTLSVerify"]) == Some(true);
    let skips_path = path.child("insecureSkipTLSVerify");
    let Some(service) = spec.get("service") else {
        if bundle > 0 {
            let why = "local APIServices may not have a caBundle";
            errors.push(Error::invalid(&path.child("caBundle"), format!("{bundle} bytes"), why));
        }
        if skips {
            errors.push(Error::invalid(&skips_path, true, "local APIServices may not have insecureSkipTLSVerify"));
        }
        return;
    };
    let path = path.child("service");
    for field in ["namespace", "name"] {
        required_text(errors, &path, service, field);
    }
    let port = service.int_at(&["port"]).unwrap_or(0);
    let wrong = names::port_num(port);
    if !wrong.is_empty() {
        errors.push(Error::invalid(&path.child("port"), port, format!("port is not valid: {}", wrong.join(", "))));
    }
    if skips && bundle > 0 {
        errors.push(Error::invalid(&skips_path, true, "may not be true if caBundle is present"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, json, update_status};

    const KIND: &dyn Kind = &ApiService;

    #[test]
    fn services_are_called_at_443() {
        defaults(KIND, r#"{"spec":{"service":{}}}"#, r#"{"spec":{"service":{"port":443}}}"#);
        defaults(KIND, r#"{"spec":{}}"#, r#"{"spec":{}}"#);
    }

    #[test]
    fn names_are_made_of_version_and_group() {
        let spec = r#""groupPriorityMinimum":1,"versionPriority":1,"service":{"name":"a","namespace":"b"}"#;
        for (name, group, version, expect) in [
            ("v1.a.b", "a.b", "v1", ""),
            ("v1.", "", "v1", ""),
            (
                "v1.a",
                "a.b",
                "v1",
                "metadata.name: Invalid value: \"v1.a\": must be `spec.version+\".\"+spec.group`: \"v1.a.b\"",
            ),
            (
                "v2.",
                "",
                "v2",
                "spec.group: Required value: only v1 may have an empty group and it better be legacy kube",
            ),
        ] {
            let object = format!(
                r#"{{"metadata":{{"name":"{name}"}},"spec":{{"group":"{group}","version":"{version}",{spec}}}}}"#
            );
            create(KIND, &object, expect);
        }
    }

    #[test]
    fn priorities_and_trust_are_checked() {
        for (spec, expect) in [
            (
                r#""insecureSkipTLSVerify":true,"caBundle":"eHg=""#,
                "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000\n\
                 spec.versionPriority: Invalid value: 0: must be positive and less than 1000\n\
                 spec.caBundle: Invalid value: \"2 bytes\": local APIServices may not have a caBundle\n\
                 spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have \
                 insecureSkipTLSVerify",
            ),
            (
                r#""insecureSkipTLSVerify":true,"caBundle":"eHg=","groupPriorityMinimum":20001,"versionPriority":1001,
                    "service":{"port":65536}"#,
                "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000\n\
                 spec.versionPriority: Invalid value: 1001: must be positive and less than 1000\n\
                 spec.service.namespace: Required value\n\
                 spec.service.name: Required value\n\
                 spec.service.port: Invalid value: 65536: port is not valid: must be between 1 and 65535, inclusive\n\
                 spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
            ),
        ] {
            let object =
                format!(r#"{{"metadata":{{"name":"v1.a.b"}},"spec":{{"group":"a.b","version":"v1",{spec}}}}}"#);
            create(KIND, &object, expect);
        }
    }

    #[test]
    fn local_ones_are_available_at_once() {
        let mut object =
            json(r#"{"metadata":{"creationTimestamp":"t"},"spec":{},"status":{"conditions":[{"type":"A"}]}}"#);
        KIND.prepare_create(&mut object);
        let expect = json(
            r#"{"conditions":[{"type":"Available","status":"True","reason":"Local","lastTransitionTime":"t",
                "message":"Local APIServices are always available"}]}"#,
        );
        assert_eq!(object.get("status"), Some(&expect));
        let mut object = json(r#"{"spec":{"service":{}},"status":{"conditions":[{"type":"A"}]}}"#);
        KIND.prepare_create(&mut object);
        assert_eq!(object.get("status"), Some(&json("{}")));
    }

    #[test]
    fn conditions_are_true_or_not() {
        let object = r#"{"metadata":{"name":"v1.a.b"},"spec":{"group":"a.b","version":"v1","groupPriorityMinimum":1,
            "versionPriority":1}}"#;
        let new = object.replacen('{', r#"{"status":{"conditions":[{"type":"A","status":"Odd"}]},"#, 1);
        update_status(
            KIND,
            object,
            &new,
            "status.conditions[0].status: Unsupported value: \"Odd\": supported values: \"True\", \"False\", \
             \"Unknown\"",
        );
    }

    #[test]
    fn cells_tell_who_serves() {
        for (rest, expect) in [
            (r#""spec":{}"#, r#"["a","Local","Unknown","<unknown>"]"#),
            (
                r#""spec":{"service":{"namespace":"n","name":"s"}},
                    "status":{"conditions":[{"type":"Available","status":"False","reason":"Down"}]}"#,
                r#"["a","n/s","False (Down)","<unknown>"]"#,
            ),
            (
                r#""spec":{},"status":{"conditions":[{"type":"Available","status":"True","reason":"Local"}]}"#,
                r#"["a","Local","True","<unknown>"]"#,
            ),
        ] {
            cells(KIND, &format!(r#"{{"metadata":{{"name":"a"}},{rest}}}"#), expect);
        }
    }
}
