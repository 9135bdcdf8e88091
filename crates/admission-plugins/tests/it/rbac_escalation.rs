//! Who grants what.

use std::sync::Arc;

use authz::Rbac;

use crate::support::{Cluster, Request, config, json, only_of};

#[test]
fn nobody_grants_more_than_they_hold() {
    let rbac = Arc::new(Rbac::new());
    let reader = r#"{"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}"#;
    let granter =
        r#"{"rules":[{"verbs":["escalate"],"apiGroups":["*"],"resources":["roles"],"resourceNames":["named"]}]}"#;
    for (role, rules, who) in [("reader", reader, "jane"), ("granter", granter, "greg")] {
        rbac.apply("clusterroles", "", role, Some(&json(rules)));
        let binding = format!(
            r#"{{"roleRef":{{"kind":"ClusterRole","name":"{role}"}},"subjects":[{{"kind":"User","name":"{who}"}}]}}"#
        );
        rbac.apply("clusterrolebindings", "", role, Some(&json(&binding)));
    }
    let mut config = config();
    (config.authorizer, config.rbac) = (rbac.clone(), Some(rbac));
    let chain = only_of("RbacEscalation", config);
    let role = |verb: &str| {
        format!(
            r#"{{"metadata":{{"name":"named"}},"rules":[{{"verbs":["{verb}"],"apiGroups":[""],"resources":["pods"]}}]}}"#
        )
    };
    let refused = |who: &str| {
        format!(
            "403 roles.rbac.authorization.k8s.io \"named\" is forbidden: user \"{who}\" (groups=[]) is attempting to grant RBAC permissions not currently held:\n{{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}}"
        )
    };
    let roles = "roles.rbac.authorization.k8s.io";
    for (who, groups, what, verb, old, want) in [
        ("jane", &[][..], format!("create {roles} dev/named"), "get", None, "ok".to_string()),
        ("jane", &[], format!("create {roles} dev/named"), "delete", None, refused("jane")),
        ("jane", &[], format!("update {roles} dev/named"), "delete", Some("get"), refused("jane")),
        ("jane", &["system:masters"], format!("create {roles} dev/named"), "delete", None, "ok".into()),
        // The path of an update has the name, that of a creation has not.
        ("greg", &[], format!("update {roles} dev/named"), "delete", Some("get"), "ok".into()),
        ("greg", &[], format!("create {roles} dev/named"), "delete", None, refused("greg")),
        ("jane", &[], format!("delete {roles} dev/named"), "delete", None, "ok".into()),
        ("jane", &[], "create roles.example.com dev/named".into(), "delete", None, "ok".into()),
        (
            "jane",
            &[],
            "create rolebindings.rbac.authorization.k8s.io dev/b".into(),
            "delete",
            None,
            r#"404 rolebindings.rbac.authorization.k8s.io "none" not found"#.into(),
        ),
    ] {
        let mut request = Request::new(&what).by(who, groups).object(&role(verb));
        if what.contains("rolebindings") {
            request = request
                .object(r#"{"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"none"}}"#);
        }
        if let Some(old) = old {
            request = request.old(&role(old));
        }
        assert_eq!(request.verdict(&chain, &Cluster::default()), want, "{who} {what} {verb}");
    }
}
