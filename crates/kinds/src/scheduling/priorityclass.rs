//! PriorityClass: how important a Pod is.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};

use crate::Kind;
use crate::checks::{first_generation, immutable, name, text};

/// The highest priority that users may give.
const USER_PRIORITY_MAX: i64 = 1_000_000_000;

/// The classes of the system, with their priorities.
const SYSTEM: [(&str, i64); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(crate) struct PriorityClass;

impl Kind for PriorityClass {
    fn group(&self) -> &str {
        "scheduling.k8s.io"
    }

    fn resource(&self) -> &str {
        "priorityclasses"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn default(&self, object: &mut Value) {
        crate::checks::default_field(object, &["preemptionPolicy"], "PreemptLowerPriority");
    }

    fn prepare_create(&self, object: &mut Value) {
        first_generation(object);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let name = object.str_at(&["metadata", "name"]);
        let value = object.int_at(&["value"]).unwrap_or(0);
        if name.starts_with("system-") {
            if let Err(why) = check_system(name, value, object.bool_at(&["globalDefault"]).unwrap_or(false)) {
                let why = format!(
                    "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
                );
                errors.push(Error::forbidden(&Path::new("metadata.name"), why));
            }
        } else if value > USER_PRIORITY_MAX {
            let why = format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
            errors.push(Error::forbidden(&Path::new("value"), why));
        }
        if let Some(policy) = object.get("preemptionPolicy").and_then(Value::as_str) {
            let path = Path::new("preemptionPolicy");
            match policy {
                "PreemptLowerPriority" | "Never" => {}
                "" => errors.push(Error::required(&path, "")),
                _ => errors.push(Error::not_supported(&path, policy, &["PreemptLowerPriority", "Never"])),
            }
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if new.int_at(&["value"]).unwrap_or(0) != old.int_at(&["value"]).unwrap_or(0) {
            errors.push(Error::forbidden(&Path::new("value"), "may not be changed in an update."));
        }
        let policy = "preemptionPolicy";
        immutable(&mut errors, &Path::new(policy), new.get(policy), old.get(policy));
        errors
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(vec![
            name(object),
            object.int_at(&["value"]).unwrap_or(0).into(),
            object.bool_at(&["globalDefault"]).unwrap_or(false).into(),
            api_semantics::time::age(object, now),
            text(object, &["preemptionPolicy"]),
        ])
    }
}

fn check_system(name: &str, value: i64, global_default: bool) -> Result<(), String> {
    match SYSTEM.iter().find(|(known, _)| *known == name) {
        None => Err(format!("{name} is not a known system priority class")),
        Some((_, fixed)) if *fixed != value => Err(format!("value of {name} PriorityClass must be {fixed}")),
        Some(_) if global_default => Err(format!("globalDefault of {name} PriorityClass must be false")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, json, update};

    fn of(name: &str, more: &str) -> String {
        format!(r#"{{"metadata":{{"name":"{name}"}}{more}}}"#)
    }

    #[test]
    fn the_systems_priorities_are_the_systems() {
        for (name, more, expect) in [
            ("a", r#","value":1000000000"#, ""),
            ("a", r#","value":-5,"preemptionPolicy":"Never""#, ""),
            ("system-node-critical", r#","value":2000001000"#, ""),
            (
                "a",
                r#","value":1000000001"#,
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            ),
            (
                "system-a",
                r#","value":1"#,
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
                 error: system-a is not a known system priority class",
            ),
            (
                "system-node-critical",
                r#","value":1"#,
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
                 error: value of system-node-critical PriorityClass must be 2000001000",
            ),
            (
                "a",
                r#","value":1,"preemptionPolicy":"Odd""#,
                "preemptionPolicy: Unsupported value: \"Odd\": supported values: \"PreemptLowerPriority\", \"Never\"",
            ),
        ] {
            create(&PriorityClass, &of(name, more), expect);
        }
    }

    #[test]
    fn a_priority_stays() {
        defaults(&PriorityClass, r#"{"value":1}"#, r#"{"value":1,"preemptionPolicy":"PreemptLowerPriority"}"#);
        let old = of("a", r#","value":1"#);
        update(&PriorityClass, &old, &of("a", r#","value":1,"description":"d""#), "");
        update(
            &PriorityClass,
            &old,
            &of("a", r#","value":2,"preemptionPolicy":"Never""#),
            "value: Forbidden: may not be changed in an update.\n\
             preemptionPolicy: Invalid value: \"Never\": field is immutable",
        );
        let mut created = json(&old);
        PriorityClass.prepare_create(&mut created);
        assert_eq!(created.int_at(&["metadata", "generation"]), Some(1));
    }

    #[test]
    fn cells_show_value_and_policy() {
        cells(
            &PriorityClass,
            &of("a", r#","value":7,"globalDefault":true,"preemptionPolicy":"Never""#),
            r#"["a",7,true,"<unknown>","Never"]"#,
        );
    }
}
