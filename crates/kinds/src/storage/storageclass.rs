//! StorageClass: how volumes are made for those who ask for this class.

use api_schema::Value;
use api_semantics::field::{ErrorList, Path};

use crate::Kind;
use crate::checks::{default_field, immutable, map, supported, text, text_or};
use crate::core::pod::warnings::deprecated_label;

pub(crate) struct StorageClass;

impl Kind for StorageClass {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "storageclasses"
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        default_field(object, &["reclaimPolicy"], "Delete");
        default_field(object, &["volumeBindingMode"], "Immediate");
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        super::check_provisioner(&mut errors, &Path::new("provisioner"), object.str_at(&["provisioner"]));
        super::check_parameters(&mut errors, object, true);
        let policy = object.str_at(&["reclaimPolicy"]);
        if !policy.is_empty() {
            supported(&mut errors, &Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]);
        }
        let mode = Path::new("volumeBindingMode");
        let modes = ["Immediate", "WaitForFirstConsumer"];
        supported(&mut errors, &mode, object.str_at(&["volumeBindingMode"]), &modes);
        let topologies = object.list_at(&["allowedTopologies"]);
        super::check_topologies(&mut errors, &Path::new("allowedTopologies"), topologies);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(new);
        for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            immutable(&mut errors, &Path::new(field), new.get(field), old.get(field));
        }
        errors
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let mut warnings = Vec::new();
        for (at, term) in new.list_at(&["allowedTopologies"]).iter().enumerate() {
            for (index, expression) in term.list_at(&["matchLabelExpressions"]).iter().enumerate() {
                if let Some(why) = deprecated_label(expression.str_at(&["key"])) {
                    warnings.push(format!("allowedTopologies[{at}].matchLabelExpressions[{index}].key: {why}"));
                }
            }
        }
        warnings
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let annotations = map(object, &["metadata", "annotations"]);
        let is_default =
            ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
                .iter()
                .any(|key| annotations.get(key).and_then(Value::as_str) == Some("true"));
        let name = object.str_at(&["metadata", "name"]);
        Some(vec![
            if is_default { format!("{name} (default)").into() } else { name.into() },
            text(object, &["provisioner"]),
            text_or(object, &["reclaimPolicy"], "Delete"),
            text_or(object, &["volumeBindingMode"], "Immediate"),
            object.bool_at(&["allowVolumeExpansion"]).unwrap_or(false).into(),
            api_semantics::time::age(object, now),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, json, update};

    #[test]
    fn volumes_are_deleted_and_bound_at_once_unless_the_class_says_otherwise() {
        defaults(&StorageClass, "{}", r#"{"reclaimPolicy":"Delete","volumeBindingMode":"Immediate"}"#);
        for (object, expect) in [
            (r#"{"provisioner":"Example.com/X","parameters":{"a":""}}"#, ""),
            (r#"{"provisioner":""}"#, "provisioner: Required value"),
            (
                r#"{"provisioner":"a","reclaimPolicy":"Recycle","volumeBindingMode":"Later"}"#,
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"\n\
                 volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \
                 \"WaitForFirstConsumer\"",
            ),
            (
                r#"{"provisioner":"a","allowedTopologies":[
                    {"matchLabelExpressions":[{"key":"z","values":["a","b"]}]},
                    {"matchLabelExpressions":[{"key":"z","values":["b","a"]}]},
                    {"matchLabelExpressions":[{"key":"z","values":[]},{"key":"z","values":["a","a"]}]}]}"#,
                "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"\n\
                 allowedTopologies[2].matchLabelExpressions[0].values: Required value\n\
                 allowedTopologies[2].matchLabelExpressions[1].values[1]: Duplicate value: \"a\"\n\
                 allowedTopologies[2].matchLabelExpressions[1].key: Duplicate value: \"z\"",
            ),
        ] {
            create(&StorageClass, object, expect);
        }
    }

    #[test]
    fn a_class_stays_what_it_is() {
        update(
            &StorageClass,
            r#"{"provisioner":"a"}"#,
            r#"{"provisioner":"a","allowVolumeExpansion":true,"mountOptions":["ro"]}"#,
            "",
        );
        update(
            &StorageClass,
            r#"{"provisioner":"a"}"#,
            r#"{"provisioner":"b","parameters":{"c":"d"},"reclaimPolicy":"Retain",
                "volumeBindingMode":"WaitForFirstConsumer"}"#,
            "parameters: Invalid value: {\"c\":\"d\"}: field is immutable\n\
             provisioner: Invalid value: \"b\": field is immutable\n\
             reclaimPolicy: Invalid value: \"Retain\": field is immutable\n\
             volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
        );
    }

    #[test]
    fn old_labels_of_nodes_are_warned_about() {
        let key = "failure-domain.beta.kubernetes.io/zone";
        let object =
            json(&format!(r#"{{"allowedTopologies":[{{"matchLabelExpressions":[{{}},{{"key":"{key}"}}]}}]}}"#));
        assert_eq!(
            StorageClass.warnings(&object, None),
            ["allowedTopologies[0].matchLabelExpressions[1].key: deprecated since v1.17; use \
              \"topology.kubernetes.io/zone\" instead"]
        );
    }

    #[test]
    fn cells_mark_the_default() {
        for (annotation, expect) in
            [("", "s"), (r#""storageclass.kubernetes.io/is-default-class":"true""#, "s (default)")]
        {
            cells(
                &StorageClass,
                &format!(r#"{{"metadata":{{"name":"s","annotations":{{{annotation}}}}},"provisioner":"p"}}"#),
                &format!(r#"["{expect}","p","Delete","Immediate",false,"<unknown>"]"#),
            );
        }
    }
}
