//! Nobody grants more than they hold.

use authz::escalation::Change;
use authz::{PrivilegedGroup, Rbac, Union};

use crate::support::{json, user};

const ROLES: &str = r#"
    {"clusterroles":{
        "reader":[{"verbs":["get","list"],"apiGroups":[""],"resources":["pods"]}],
        "all":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]},{"verbs":["*"],"nonResourceURLs":["*"]}],
        "granter":[{"verbs":["escalate"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"resourceNames":["x"]},
                   {"verbs":["bind"],"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles"],"resourceNames":["all"]}]}}"#;

fn cluster() -> std::sync::Arc<Rbac> {
    let rbac = std::sync::Arc::new(Rbac::new());
    for (name, rules) in json(ROLES).map_at(&["clusterroles"]).expect("roles").iter() {
        let mut role = json("{}");
        role.set(&["rules"], rules.clone());
        rbac.apply("clusterroles", "", name, Some(&role));
    }
    for (resource, namespace, role, who) in [
        ("clusterrolebindings", "", "reader", "jane"),
        ("clusterrolebindings", "", "all", "root"),
        ("clusterrolebindings", "", "granter", "greg"),
        ("clusterrolebindings", "", "gone", "joe"),
        ("rolebindings", "dev", "all", "dave"),
    ] {
        let object = format!(
            r#"{{"roleRef":{{"kind":"ClusterRole","name":"{role}"}},"subjects":[{{"kind":"User","name":"{who}"}}]}}"#
        );
        rbac.apply(resource, namespace, who, Some(&json(&object)));
    }
    rbac
}

struct Shared(std::sync::Arc<Rbac>);

impl authz::Authorizer for Shared {
    fn authorize(&self, attributes: &authz::Attributes<'_>) -> authz::Decision {
        self.0.authorize(attributes)
    }
}

#[test]
fn changes_are_refused_with_what_is_missing() {
    let rbac = cluster();
    let authorizer = Union::new(vec![Box::new(PrivilegedGroup), Box::new(Shared(rbac.clone()))]);
    let read = r#""rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]"#;
    let write = r#""rules":[{"verbs":["delete","get","update"],"apiGroups":[""],"resources":["pods","secrets"]}]"#;
    let gather = r#""aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}"#;
    let bind = |kind: &str, name: &str| {
        format!(r#""roleRef":{{"apiGroup":"rbac.authorization.k8s.io","kind":"{kind}","name":"{name}"}}"#)
    };
    let missing = |resource: &str, who: &str, groups: &str, rules: &str| {
        format!(
            "403 {resource}.rbac.authorization.k8s.io \"x\" is forbidden: user \"{who}\" (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{rules}"
        )
    };
    let write_missing = "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"update\"]}\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"delete\" \"get\" \"update\"]}";
    let read_missing = "{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}";
    let all_missing = "{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}";
    let aggregation = "403 clusterroles.rbac.authorization.k8s.io \"x\" is forbidden: must have cluster-admin privileges to use the aggregationRule";
    for (who, resource, namespace, name, new, old, want) in [
        ("jane", "clusterroles", "", "", read, None, String::new()),
        ("jane", "roles", "dev", "", read, None, String::new()),
        (
            "jane a,b",
            "clusterroles",
            "",
            "",
            write,
            None,
            missing("clusterroles", "jane", r#"["a" "b"]"#, write_missing),
        ),
        ("jane", "roles", "dev", "x", write, Some(read), missing("roles", "jane", "[]", write_missing)),
        ("jane system:masters", "roles", "dev", "x", write, Some(read), String::new()),
        ("dave", "roles", "dev", "x", write, Some(read), String::new()),
        ("dave", "roles", "prod", "x", read, None, missing("roles", "dave", "[]", read_missing)),
        // Nothing but bookkeeping is changed, even in a role that grants more.
        (
            "jane",
            "roles",
            "dev",
            "x",
            &format!(r#"{write},"finalizers":[]"#),
            Some(write),
            missing("roles", "jane", "[]", write_missing),
        ),
        ("jane", "roles", "dev", "x", write, Some(write), String::new()),
        ("greg", "clusterroles", "", "x", write, None, String::new()),
        ("greg", "clusterroles", "", "y", read, None, missing("clusterroles", "greg", "[]", read_missing)),
        ("jane", "clusterroles", "", "", gather, None, aggregation.into()),
        ("jane", "clusterroles", "", "", read, Some(gather), aggregation.into()),
        ("root", "clusterroles", "", "", gather, None, String::new()),
        (
            "joe",
            "clusterroles",
            "",
            "",
            read,
            None,
            missing(
                "clusterroles",
                "joe",
                "[]",
                &format!(
                    "{read_missing}; resolution errors: [clusterroles.rbac.authorization.k8s.io \"gone\" not found]"
                ),
            ),
        ),
        ("jane", "clusterrolebindings", "", "", &bind("ClusterRole", "reader"), None, String::new()),
        ("jane", "rolebindings", "dev", "", &bind("ClusterRole", "reader"), None, String::new()),
        (
            "jane",
            "clusterrolebindings",
            "",
            "",
            &bind("ClusterRole", "all"),
            None,
            missing("clusterrolebindings", "jane", "[]", all_missing),
        ),
        ("greg", "clusterrolebindings", "", "", &bind("ClusterRole", "all"), None, String::new()),
        ("greg", "rolebindings", "dev", "", &bind("ClusterRole", "all"), None, String::new()),
        (
            "jane",
            "rolebindings",
            "dev",
            "",
            &bind("Role", "gone"),
            None,
            "404 rolebindings.rbac.authorization.k8s.io \"gone\" not found".into(),
        ),
        ("jane", "configmaps", "dev", "", write, None, String::new()),
    ] {
        let object = |fields: &str| json(&format!(r#"{{"metadata":{{"name":"x"}},{fields}}}"#));
        let (new, old) = (object(new), old.map(object));
        let who = user(who);
        let change = Change { user: &who, resource, namespace, name, new: &new, old: old.as_ref() };
        let result = change.check(&rbac, &authorizer);
        let shown = result.err().map(|status| format!("{} {}", status.code, status.message)).unwrap_or_default();
        assert_eq!(shown, want, "{} {resource} {new:?}", who.name);
    }
}

#[test]
fn garbage_collection_may_always_work() {
    let rbac = cluster();
    let rules = r#""rules":[{"verbs":["*"],"apiGroups":["*"],"resources":["*"]}]"#;
    let old = json(&format!(r#"{{"metadata":{{"name":"x","resourceVersion":"1","finalizers":["a"]}},{rules}}}"#));
    let new = json(&format!(r#"{{"metadata":{{"name":"x","ownerReferences":[{{"uid":"u"}}]}},{rules}}}"#));
    let who = user("jane");
    let change = Change { user: &who, resource: "roles", namespace: "dev", name: "x", new: &new, old: Some(&old) };
    assert_eq!(change.check(&rbac, &*rbac), Ok(()));
    let relabelled = json(&format!(r#"{{"metadata":{{"name":"x","labels":{{"a":"b"}}}},{rules}}}"#));
    assert!(Change { new: &relabelled, ..change }.check(&rbac, &*rbac).is_err());
}
