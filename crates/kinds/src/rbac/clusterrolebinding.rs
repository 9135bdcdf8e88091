//! ClusterRoleBinding: who has a role in the whole cluster.

use api_schema::Value;
use api_semantics::field::ErrorList;

use crate::Kind;

pub(crate) struct ClusterRoleBinding;

impl Kind for ClusterRoleBinding {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "clusterrolebindings"
    }

    fn default(&self, object: &mut Value) {
        super::default_binding(object);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        super::check_binding(object, &["ClusterRole"], false)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> ErrorList {
        let mut errors = self.validate(new);
        super::check_role_ref_unchanged(&mut errors, new, old);
        errors
    }

    fn check_name(&self, name: &str, prefix: bool) -> Vec<String> {
        super::check_name(name, prefix)
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn has_generation(&self) -> bool {
        false
    }

    fn cells(&self, object: &Value, now: i64) -> Option<Vec<Value>> {
        Some(super::binding_cells(object, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::tests::create;

    #[test]
    fn it_grants_cluster_roles_and_service_accounts_name_their_namespace() {
        for (role, subject, expect) in [
            ("ClusterRole", r#"{"kind":"ServiceAccount","name":"s","namespace":"n"}"#, ""),
            ("ClusterRole", r#"{"kind":"ServiceAccount","name":"s"}"#, "subjects[0].namespace: Required value"),
            (
                "Role",
                r#"{"kind":"User","name":"u"}"#,
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            ),
        ] {
            let object =
                format!(r#"{{"roleRef":{{"apiGroup":"","kind":"{role}","name":"r"}},"subjects":[{subject}]}}"#);
            create(&ClusterRoleBinding, &object, expect);
        }
    }
}
