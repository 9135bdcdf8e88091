//! DeviceClass: devices of one sort, for claims to name.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::names;

use super::{CONFIG_MAX, check_configuration, check_each, check_selectors};
use crate::Kind;
use crate::checks::name;

pub(crate) struct DeviceClass;

impl Kind for DeviceClass {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "deviceclasses"
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec");
        check_selectors(&mut errors, &path.child("selectors"), object.list_at(&["spec", "selectors"]));
        let config = object.list_at(&["spec", "config"]);
        check_each(&mut errors, &path.child("config"), config, CONFIG_MAX, check_configuration);
        if let Some(resource) = object.at(&["spec", "extendedResourceName"]).and_then(Value::as_str)
            && !is_extended_resource(resource)
        {
            let why = "must be a valid extended resource name";
            errors.push(Error::invalid(&path.child("extendedResourceName"), resource, why));
        }
        errors
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(vec![name(object), api_semantics::time::age(object, now)])
    }
}

/// Whether a resource is one that only a node's devices give.
fn is_extended_resource(name: &str) -> bool {
    name.contains('/')
        && !name.contains("kubernetes.io/")
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create};

    const KIND: &dyn Kind = &DeviceClass;

    #[test]
    fn classes_select_and_configure() {
        let cases: [(String, String); 4] = [
            (
                r#"{"selectors":[{"cel":{"expression":"true"}}],"extendedResourceName":"example.com/gpu"}"#.into(),
                String::new(),
            ),
            (r#"{"config":[{"opaque":{"driver":"d.example.com","parameters":{"a":1}}}]}"#.into(), String::new()),
            (
                r#"{"selectors":[{}],"config":[{},{"opaque":{"driver":"A_"}}],"extendedResourceName":"cpu"}"#.into(),
                "spec.selectors[0].cel: Required value\n\
                 spec.config[0].opaque: Required value\n\
                 spec.config[1].opaque.driver: Invalid value: \"A_\": a lowercase RFC 1123 subdomain must consist of \
                 lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character \
                 (e.g. 'example.com', regex used for validation is \
                 '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')\n\
                 spec.config[1].opaque.parameters: Required value\n\
                 spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name"
                    .into(),
            ),
            (
                format!(r#"{{"selectors":[{}]}}"#, [r#"{"cel":{"expression":"true"}}"#; 33].join(",")),
                "spec.selectors: Too many: 33: must have at most 32 items".into(),
            ),
        ];
        for (spec, expect) in cases {
            create(KIND, &format!(r#"{{"spec":{spec}}}"#), &expect);
        }
    }

    #[test]
    fn cells_are_name_and_age() {
        cells(KIND, r#"{"metadata":{"name":"a"}}"#, r#"["a","<unknown>"]"#);
    }
}
