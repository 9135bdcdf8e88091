//! IPAddress: one address of a Service range, and who has it.

use api_schema::Value;
use api_semantics::field::{Error, ErrorList, Path};
use api_semantics::{ip, names};

use crate::Kind;
use crate::checks::{internal, invalid_text, name, required_text, same};

pub(crate) struct IpAddress;

impl Kind for IpAddress {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "ipaddresses"
    }

    fn validate(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let path = Path::new("spec.parentRef");
        let Some(parent) = object.at(&["spec", "parentRef"]) else {
            errors.push(Error::required(&path, ""));
            return errors;
        };
        let group = parent.str_at(&["group"]);
        if !group.is_empty() {
            invalid_text(&mut errors, &path.child("group"), group, names::dns1123_subdomain(group, false));
        }
        for field in ["resource", "name"] {
            let text = required_text(&mut errors, &path, parent, field);
            if !text.is_empty() {
                invalid_text(&mut errors, &path.child(field), text, names::path_segment_name(text, false));
            }
        }
        let namespace = parent.str_at(&["namespace"]);
        if !namespace.is_empty() {
            let wrong = names::path_segment_name(namespace, false);
            invalid_text(&mut errors, &path.child("namespace"), namespace, wrong);
        }
        errors
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(new);
        let parent = ["spec", "parentRef"];
        if !same(new.at(&parent), old.at(&parent)) {
            let shown = internal(new.at(&parent), "io.k8s.api.networking.v1.ParentReference");
            errors.push(Error::invalid(&Path::new("spec.parentRef"), shown, names::IMMUTABLE));
        }
        errors
    }

    /// The name is the address, in canonical form.
    fn check_name(&self, name: &str, _prefix: bool) -> Vec<String> {
        ip::validate(&Path::ROOT, name).into_iter().map(|error| error.detail).collect()
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, _now: i64) -> Option<Vec<Value>> {
        let parent = object.at(&["spec", "parentRef"]).map_or_else(
            || "<none>".to_owned(),
            |parent| {
                let part = |field: &str| parent.str_at(&[field]);
                let mut shown = part("resource").to_lowercase();
                if !part("group").is_empty() {
                    shown = format!("{shown}.{}", part("group").to_lowercase());
                }
                if !part("namespace").is_empty() {
                    shown = format!("{shown}/{}", part("namespace"));
                }
                format!("{shown}/{}", part("name"))
            },
        );
        // Upstream's rows have the age as a third cell, for which there is no column; no client shows it.
        Some(vec![name(object), parent.into()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::{cells, create, update};

    #[test]
    fn the_name_is_an_address_in_canonical_form() {
        for (name, expect) in [
            ("10.0.0.1", vec![]),
            ("2001:db8::1", vec![]),
            ("2001:db8:0::1", vec!["must be in canonical form (\"2001:db8::1\")"]),
            ("a", vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]),
        ] {
            assert_eq!(IpAddress.check_name(name, false), expect);
        }
    }

    #[test]
    fn an_address_has_one_parent_for_good() {
        let of = |parent: &str| format!(r#"{{"spec":{{"parentRef":{parent}}}}}"#);
        for (parent, expect) in [
            (r#"{"resource":"services","namespace":"n","name":"s"}"#, ""),
            ("null", "spec.parentRef: Required value"),
            (
                r#"{"resource":"","name":""}"#,
                "spec.parentRef.resource: Required value\nspec.parentRef.name: Required value",
            ),
        ] {
            create(&IpAddress, &of(parent), expect);
        }
        let (old, new) = (of(r#"{"resource":"services","name":"s"}"#), of(r#"{"resource":"services","name":"t"}"#));
        update(
            &IpAddress,
            &old,
            &new,
            "spec.parentRef: Invalid value: {\"Group\":\"\",\"Resource\":\"services\",\"Namespace\":\"\",\"Name\":\"t\"}: \
             field is immutable",
        );
    }

    #[test]
    fn cells_show_the_parent() {
        for (spec, expect) in [
            (r#"{"parentRef":{"resource":"services","namespace":"n","name":"s"}}"#, "services/n/s"),
            (r#"{"parentRef":{"group":"g.x","resource":"gateways","name":"s"}}"#, "gateways.g.x/s"),
            ("{}", "<none>"),
        ] {
            cells(
                &IpAddress,
                &format!(r#"{{"metadata":{{"name":"10.0.0.1"}},"spec":{spec}}}"#),
                &format!(r#"["10.0.0.1","{expect}"]"#),
            );
        }
    }
}
