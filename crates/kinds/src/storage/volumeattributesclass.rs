//! VolumeAttributesClass: attributes of volumes that may change while they live.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};

use crate::Kind;
use crate::checks::{map, same, text};

const DEFAULT: &str = "volumeattributesclass.alpha.kubernetes.io/is-default-class";

pub(crate) struct VolumeAttributesClass;

impl Kind for VolumeAttributesClass {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "volumeattributesclasses"
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        super::check_provisioner(&mut errors, &Path::new("driverName"), object.str_at(&["driverName"]));
        super::check_parameters(&mut errors, object, false);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(new);
        for field in ["driverName", "parameters"] {
            if !same(new.get(field), old.get(field)) {
                errors.push(Error::forbidden(&Path::new(field), format!("updates to {field} are forbidden.")));
            }
        }
        errors
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        let name = object.str_at(&["metadata", "name"]);
        let is_default = map(object, &["metadata", "annotations"]).get(DEFAULT).and_then(Value::as_str) == Some("true");
        Some(vec![
            if is_default { format!("{name} (default)").into() } else { name.into() },
            text(object, &["driverName"]),
            api_semantics::time::age(object, now),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, update};

    #[test]
    fn a_class_has_a_driver_and_parameters_for_good() {
        create(&VolumeAttributesClass, r#"{"driverName":"d","parameters":{"a":"b"}}"#, "");
        create(
            &VolumeAttributesClass,
            r#"{"driverName":""}"#,
            "driverName: Required value\nparameters: Required value: must contain at least one key/value pair",
        );
        update(
            &VolumeAttributesClass,
            r#"{"driverName":"d","parameters":{"a":"b"}}"#,
            r#"{"driverName":"e","parameters":{"a":"c"}}"#,
            "driverName: Forbidden: updates to driverName are forbidden.\n\
             parameters: Forbidden: updates to parameters are forbidden.",
        );
    }

    #[test]
    fn cells_show_the_driver() {
        cells(&VolumeAttributesClass, r#"{"metadata":{"name":"v"},"driverName":"d"}"#, r#"["v","d","<unknown>"]"#);
    }
}
