//! RuntimeClass: which container runtime runs a Pod, on which nodes, at what cost.

use std::collections::HashSet;

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::quantity::Quantity;
use api_semantics::{names, selector};

use crate::Kind;
use crate::checks::{immutable, internal, invalid_text, map, name, supported, text};
use crate::core::pod::warnings::deprecated_label;
use crate::core::shared::{check_container_resource_name, check_quantity};

pub(crate) struct RuntimeClass;

impl Kind for RuntimeClass {
    fn group(&self) -> &str {
        "node.k8s.io"
    }

    fn resource(&self) -> &str {
        "runtimeclasses"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let handler = object.str_at(&["handler"]);
        if handler.is_empty() {
            errors.push(Error::required(&Path::new("handler"), ""));
        } else {
            invalid_text(&mut errors, &Path::new("handler"), handler, names::dns1123_label(handler, false));
        }
        // Upstream checks the overhead as if it were the limits of a container, and says so in its paths.
        let limits = Path::new("overhead.limits");
        for (resource, quantity) in map(object, &["overhead", "podFixed"]).iter() {
            check_resource(&mut errors, &limits.key(resource), resource, quantity.as_str().unwrap_or_default());
        }
        if let Some(scheduling) = object.get("scheduling") {
            let path = Path::new("scheduling");
            let labels = scheduling.map_at(&["nodeSelector"]);
            errors.extend(selector::validate_labels(labels, &path.child("nodeSelector")));
            check_tolerations(&mut errors, &path.child("tolerations"), scheduling.list_at(&["tolerations"]));
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(new);
        immutable(&mut errors, &Path::new("handler"), new.get("handler"), old.get("handler"));
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let labels = map(new, &["scheduling", "nodeSelector"]).keys();
        labels.filter_map(|key| deprecated_label(key)).map(|why| format!("scheduling.nodeSelector: {why}")).collect()
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(vec![name(object), text(object, &["handler"]), api_semantics::time::age(object, now)])
    }
}

fn check_resource(errors: &mut ErrorList, path: &Path<'_>, resource: &str, quantity: &str) {
    check_container_resource_name(errors, resource, path);
    if let Ok(quantity) = Quantity::parse(quantity) {
        check_quantity(errors, resource, &quantity, path);
    }
}

fn check_tolerations(errors: &mut ErrorList, path: &Path<'_>, tolerations: &[Value]) {
    let mut seen = HashSet::new();
    for (index, toleration) in tolerations.iter().enumerate() {
        let item = path.index(index);
        let part = |field: &str| toleration.str_at(&[field]);
        let (key, operator, value, effect) = (part("key"), part("operator"), part("value"), part("effect"));
        if key.is_empty() {
            if operator != "Exists" {
                let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
                errors.push(Error::invalid(&item.child("operator"), operator, why));
            }
        } else {
            invalid_text(errors, &item.child("key"), key, names::qualified_name(key));
        }
        if toleration.get("tolerationSeconds").is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Error::invalid(&item.child("effect"), effect, why));
        }
        match operator {
            "" | "Equal" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.push(Error::invalid(&item.child("operator"), value, wrong.join(";")));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    let why = "value must be empty when `operator` is 'Exists'";
                    errors.push(Error::invalid(&item.child("operator"), value, why));
                }
            }
            _ => errors.push(Error::not_supported(&item.child("operator"), operator, &["Equal", "Exists"])),
        }
        if !effect.is_empty() {
            let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
            supported(errors, &item.child("effect"), effect, &effects);
        }
        if !seen.insert((key, operator, value, effect)) {
            let shown = internal(Some(toleration), "io.k8s.api.core.v1.Toleration");
            errors.push(Error::duplicate(&item, shown));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, json, update};

    #[test]
    fn handlers_are_labels_and_stay() {
        create(&RuntimeClass, r#"{"handler":"runc"}"#, "");
        create(&RuntimeClass, r#"{"handler":"a.b"}"#, "handler: Invalid value: \"a.b\": must not contain dots");
        update(
            &RuntimeClass,
            r#"{"handler":"a"}"#,
            r#"{"handler":"b"}"#,
            "handler: Invalid value: \"b\": field is immutable",
        );
    }

    #[test]
    fn overhead_is_of_container_resources() {
        for (resources, expect) in [
            (r#"{"cpu":"250m","example.com/x":"1"}"#, ""),
            (r#"{"cpu":"-1"}"#, "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"),
            (
                r#"{"example.com/x":"500m"}"#,
                "overhead.limits[example.com/x]: Invalid value: \"500m\": must be an integer",
            ),
            (
                r#"{"kubernetes.io/x":"1","requests.a/b":"1"}"#,
                "overhead.limits[requests.a/b]: Invalid value: \"requests.a/b\": doesn't follow extended resource name \
                 standard",
            ),
            (
                r#"{"pods":"1"}"#,
                "overhead.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers",
            ),
        ] {
            create(&RuntimeClass, &format!(r#"{{"handler":"a","overhead":{{"podFixed":{resources}}}}}"#), expect);
        }
    }

    #[test]
    fn tolerations_make_sense() {
        for (tolerations, expect) in [
            (r#"{"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":5}"#, ""),
            (
                r#"{"operator":"Equal"}"#,
                "scheduling.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when \
                 `key` is empty, which means \"match all values and all keys\"",
            ),
            (
                r#"{"key":"a","tolerationSeconds":5,"operator":"Odd","effect":"No"}"#,
                "scheduling.tolerations[0].effect: Invalid value: \"No\": effect must be 'NoExecute' when \
                 `tolerationSeconds` is set\n\
                 scheduling.tolerations[0].operator: Unsupported value: \"Odd\": supported values: \
                 \"Equal\", \"Exists\"\n\
                 scheduling.tolerations[0].effect: Unsupported value: \"No\": supported values: \
                 \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ),
            (
                r#"{"key":"a"},{"key":"a"}"#,
                "scheduling.tolerations[1]: Duplicate value: {\"Key\":\"a\",\"Operator\":\"\",\"Value\":\"\",\
                 \"Effect\":\"\",\"TolerationSeconds\":null}",
            ),
        ] {
            create(
                &RuntimeClass,
                &format!(r#"{{"handler":"a","scheduling":{{"tolerations":[{tolerations}]}}}}"#),
                expect,
            );
        }
    }

    #[test]
    fn old_labels_of_nodes_are_warned_about() {
        let object = json(r#"{"scheduling":{"nodeSelector":{"beta.kubernetes.io/os":"linux","a":"b"}}}"#);
        assert_eq!(
            RuntimeClass.warnings(&object, None),
            ["scheduling.nodeSelector: deprecated since v1.14; use \"kubernetes.io/os\" instead"]
        );
    }

    #[test]
    fn cells_show_the_handler() {
        cells(&RuntimeClass, r#"{"metadata":{"name":"r"},"handler":"runc"}"#, r#"["r","runc","<unknown>"]"#);
    }
}
