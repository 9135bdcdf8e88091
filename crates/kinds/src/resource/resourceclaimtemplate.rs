//! ResourceClaimTemplate: what the claims that are made for Pods ask for.

use api_schema::Value;
use api_semantics::field::{ErrorList, Path};

use super::claim;
use super::resourceclaim::check_same_spec;
use crate::Kind;
use crate::checks::name;

const SPEC: &str = "io.k8s.api.resource.v1.ResourceClaimTemplateSpec";

pub(crate) struct ResourceClaimTemplate;

impl Kind for ResourceClaimTemplate {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "resourceclaimtemplates"
    }

    fn checks_metadata_on_update(&self) -> bool {
        false
    }

    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn default(&self, object: &mut Value) {
        claim::default(object, &["spec", "spec"]);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let nothing = Value::Null;
        let mut errors = ErrorList::new();
        let path = Path::new("spec");
        let spec = object.at(&["spec", "spec"]).unwrap_or(&nothing);
        errors.extend(crate::meta::validate_template(object.get("spec").unwrap_or(&nothing), &path));
        claim::check(&mut errors, &path.child("spec"), spec);
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        check_same_spec(new, old, SPEC)
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(vec![name(object), api_semantics::time::age(object, now)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, defaults, update};

    const KIND: &dyn Kind = &ResourceClaimTemplate;

    fn with(request: &str) -> String {
        format!(r#"{{"spec":{{"spec":{{"devices":{{"requests":[{{"name":"a","exactly":{{{request}}}}}]}}}}}}}}"#)
    }

    #[test]
    fn templates_are_checked_as_claims_and_stay() {
        defaults(KIND, &with(""), &with(r#""allocationMode":"ExactCount","count":1"#));
        create(KIND, &with(r#""deviceClassName":"c""#), "");
        create(KIND, &with(""), "spec.spec.devices.requests[0].exactly.deviceClassName: Required value");
        update(
            KIND,
            &with(r#""deviceClassName":"c""#),
            &with(r#""deviceClassName":"d""#),
            "spec: Invalid value: {\"Spec\":{\"Devices\":{\"Requests\":[{\"Name\":\"a\",\
             \"Exactly\":{\"DeviceClassName\":\"d\",\"Selectors\":null,\"AllocationMode\":\"ExactCount\",\"Count\":1,\
             \"AdminAccess\":null,\"Tolerations\":null,\"Capacity\":null},\"FirstAvailable\":null}],\
             \"Constraints\":null,\"Config\":null}}}: field is immutable",
        );
    }

    #[test]
    fn cells_are_name_and_age() {
        cells(KIND, r#"{"metadata":{"name":"a"}}"#, r#"["a","<unknown>"]"#);
    }
}
