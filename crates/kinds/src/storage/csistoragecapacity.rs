//! CSIStorageCapacity: how much room a CSI driver has for one class in one part of the cluster.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;
use api_semantics::quantity::Quantity;
use api_semantics::selector::{self, Leniency};

use crate::Kind;
use crate::checks::{immutable, invalid_text, map, name, text, text_or};
use crate::core::pod::warnings::deprecated_label;

pub(crate) struct CsiStorageCapacity;

impl Kind for CsiStorageCapacity {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "csistoragecapacities"
    }

    fn validate(&self, object: &Value) -> ErrorList {
        check(object, Leniency::default())
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let invalid_values = selector::has_invalid_values(old.get("nodeTopology"));
        let mut errors = check(new, Leniency { invalid_values, ..Leniency::default() });
        for field in ["nodeTopology", "storageClassName"] {
            immutable(&mut errors, &Path::new(field), new.get(field), old.get(field));
        }
        errors
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let expressions = new.list_at(&["nodeTopology", "matchExpressions"]).iter().enumerate();
        let expressions = expressions.filter_map(|(index, expression)| {
            let key = expression.str_at(&["key"]);
            let why = deprecated_label(key)?;
            Some(format!("nodeTopology.matchExpressions[{index}].key: {key} is {why}"))
        });
        let labels = map(new, &["nodeTopology", "matchLabels"]).keys();
        let labels =
            labels.filter_map(|key| Some(format!("nodeTopology.matchLabels.{key}: {}", deprecated_label(key)?)));
        expressions.chain(labels).collect()
    }

    fn has_generation(&self) -> bool {
        false
    }

    /// A real 1.36.2 server has no printer for it, the table of 1.34 has: the table decides.
    fn cells(&self, object: &Value, _now: i64) -> Option<Vec<Value>> {
        api_types::columns("CSIStorageCapacity")?;
        Some(vec![name(object), text(object, &["storageClassName"]), text_or(object, &["capacity"], "<unset>")])
    }
}

fn check(object: &Value, lenient: Leniency) -> ErrorList {
    let mut errors = selector::validate(object.get("nodeTopology"), &Path::new("nodeTopology"), lenient);
    let class = object.str_at(&["storageClassName"]);
    invalid_text(&mut errors, &Path::new("storageClassName"), class, names::dns1123_subdomain(class, false));
    if let Some(capacity) = object.get("capacity").and_then(Value::as_str)
        && Quantity::parse(capacity).is_ok_and(|quantity| quantity.sign() < 0)
    {
        errors.push(Error::invalid(&Path::new("capacity"), capacity, names::NEGATIVE));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{create, json, update};

    #[test]
    fn capacity_is_of_a_class_and_a_place() {
        create(&CsiStorageCapacity, r#"{"storageClassName":"c","capacity":"1Gi","nodeTopology":{}}"#, "");
        create(
            &CsiStorageCapacity,
            r#"{"storageClassName":"c","capacity":"-1Gi"}"#,
            "capacity: Invalid value: \"-1Gi\": must be greater than or equal to 0",
        );
        update(
            &CsiStorageCapacity,
            r#"{"storageClassName":"c","capacity":"1Gi"}"#,
            r#"{"storageClassName":"d","capacity":"2Gi","nodeTopology":{}}"#,
            "nodeTopology: Invalid value: {}: field is immutable\n\
             storageClassName: Invalid value: \"d\": field is immutable",
        );
    }

    #[test]
    fn old_labels_of_nodes_are_warned_about() {
        let object = json(
            r#"{"nodeTopology":{"matchLabels":{"beta.kubernetes.io/os":"linux"},
                "matchExpressions":[{"key":"beta.kubernetes.io/arch","operator":"Exists"}]}}"#,
        );
        assert_eq!(
            CsiStorageCapacity.warnings(&object, None),
            [
                "nodeTopology.matchExpressions[0].key: beta.kubernetes.io/arch is deprecated since v1.14; use \
                 \"kubernetes.io/arch\" instead",
                "nodeTopology.matchLabels.beta.kubernetes.io/os: deprecated since v1.14; use \"kubernetes.io/os\" \
                 instead"
            ]
        );
    }

    #[test]
    fn cells_are_those_of_the_table() {
        let object = json(r#"{"metadata":{"name":"x"},"storageClassName":"c","capacity":"1Gi"}"#);
        let expect = api_types::columns("CSIStorageCapacity").map(|_| json(r#"["x","c","1Gi"]"#));
        assert_eq!(CsiStorageCapacity.cells(&object, 0).map(Value::List), expect);
    }
}
