//! RoleBinding: who has a role in one namespace.

use api_schema::Value;
use api_semantics::field::ErrorList;

use crate::Kind;

pub(crate) struct RoleBinding;

impl Kind for RoleBinding {
    fn group(&self) -> &str {
        super::GROUP
    }

    fn resource(&self) -> &str {
        "rolebindings"
    }

    fn default(&self, object: &mut Value) {
        super::default_binding(object);
    }

    fn validate(&self, object: &Value) -> ErrorList {
        super::check_binding(object, &["Role", "ClusterRole"], true)
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
    use crate::checks::tests::{cells, create, defaults, update};

    const ROLE: &str = r#""roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"r"}"#;

    #[test]
    fn groups_are_filled_in_for_users_and_groups_only() {
        defaults(
            &RoleBinding,
            r#"{"roleRef":{"apiGroup":"","kind":"Role","name":"r"},"subjects":[
                {"kind":"User","name":"u"},{"kind":"Group","name":"g"},{"kind":"ServiceAccount","name":"s"}]}"#,
            r#"{"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"r"},"subjects":[
                {"kind":"User","name":"u","apiGroup":"rbac.authorization.k8s.io"},
                {"kind":"Group","name":"g","apiGroup":"rbac.authorization.k8s.io"},
                {"kind":"ServiceAccount","name":"s"}]}"#,
        );
    }

    #[test]
    fn a_role_is_referred_to_in_full() {
        for (role, expect) in [
            (r#"{"apiGroup":"","kind":"ClusterRole","name":"r"}"#, ""),
            (
                r#"{"apiGroup":"x","kind":"Rule","name":""}"#,
                "roleRef.apiGroup: Unsupported value: \"x\": supported values: \"rbac.authorization.k8s.io\"\n\
                 roleRef.kind: Unsupported value: \"Rule\": supported values: \"Role\", \"ClusterRole\"\n\
                 roleRef.name: Required value",
            ),
            (
                r#"{"apiGroup":"","kind":"Role","name":"a/b"}"#,
                "roleRef.name: Invalid value: \"a/b\": may not contain '/'",
            ),
        ] {
            create(&RoleBinding, &format!(r#"{{"roleRef":{role}}}"#), expect);
        }
    }

    #[test]
    fn subjects_have_a_kind_and_a_name() {
        for (subject, expect) in [
            (r#"{"kind":"ServiceAccount","name":"s"}"#, ""),
            (r#"{"kind":"User","name":"system:x/y"}"#, ""),
            (r#"{"kind":"User","name":""}"#, "subjects[0].name: Required value"),
            (
                r#"{"kind":"Group","name":"g","apiGroup":"v1"}"#,
                "subjects[0].apiGroup: Unsupported value: \"v1\": supported values: \"rbac.authorization.k8s.io\"",
            ),
            (
                r#"{"kind":"ServiceAccount","name":"s","apiGroup":"v1"}"#,
                "subjects[0].apiGroup: Unsupported value: \"v1\": supported values: \"\"",
            ),
            (
                r#"{"kind":"Robot","name":"s"}"#,
                "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \
                 \"Group\"",
            ),
        ] {
            create(&RoleBinding, &format!(r#"{{{ROLE},"subjects":[{subject}]}}"#), expect);
        }
    }

    #[test]
    fn the_role_never_changes() {
        let old = format!("{{{ROLE}}}");
        update(&RoleBinding, &old, &old, "");
        update(
            &RoleBinding,
            &old,
            &old.replace("\"r\"", "\"s\""),
            "roleRef: Invalid value: {\"APIGroup\":\"rbac.authorization.k8s.io\",\"Kind\":\"Role\",\"Name\":\"s\"}: \
             cannot change roleRef",
        );
    }

    #[test]
    fn cells_list_subjects_by_kind() {
        cells(
            &RoleBinding,
            &format!(
                r#"{{"metadata":{{"name":"b"}},{ROLE},"subjects":[{{"kind":"User","name":"u"}},
                {{"kind":"User","name":"v"}},{{"kind":"Group","name":"g"}},
                {{"kind":"ServiceAccount","name":"s","namespace":"n"}}]}}"#
            ),
            r#"["b","Role/r","<unknown>","u, v","g","n/s"]"#,
        );
    }
}
