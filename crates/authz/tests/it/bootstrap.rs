//! The default roles and bindings.

use std::collections::BTreeMap;

use api_schema::Value;
use authz::{Rbac, bootstrap};

use crate::support::{ask, json, shown, user};

fn defaults() -> Rbac {
    let rbac = Rbac::new();
    for (resource, object) in bootstrap::objects() {
        let (namespace, name) = (object.str_at(&["metadata", "namespace"]), object.str_at(&["metadata", "name"]));
        rbac.apply(resource, namespace, name, Some(&object));
    }
    rbac
}

#[test]
fn the_table_has_what_1_36_has() {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    let objects = bootstrap::objects();
    for (resource, object) in &objects {
        *count.entry(resource).or_default() += 1;
        assert_eq!(object.str_at(&["metadata", "labels", "kubernetes.io/bootstrapping"]), "rbac-defaults");
        assert_eq!(object.str_at(&["metadata", "annotations", "rbac.authorization.kubernetes.io/autoupdate"]), "true");
        let has_rules = !object.list_at(&["rules"]).is_empty();
        assert_eq!(has_rules, resource.ends_with("roles"), "{object:?}");
    }
    // Counted on a 1.36.2 server.
    let want = [("clusterrolebindings", 51), ("clusterroles", 70), ("rolebindings", 7), ("roles", 7)];
    assert_eq!(count.into_iter().collect::<Vec<_>>(), want);
    let named = |resource: &str, name: &str| {
        objects
            .iter()
            .find(|(of, object)| *of == resource && object.str_at(&["metadata", "name"]) == name)
            .map(|(_, object)| object)
    };
    for (name, rules) in [("admin", 29), ("edit", 27), ("view", 12), ("cluster-admin", 2)] {
        let role = named("clusterroles", name).expect("a default role");
        assert_eq!(role.list_at(&["rules"]).len(), rules, "{name}");
    }
    assert_eq!(
        named("clusterrolebindings", "system:node"),
        Some(&json(
            r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{
                "annotations":{"rbac.authorization.kubernetes.io/autoupdate":"true"},
                "labels":{"kubernetes.io/bootstrapping":"rbac-defaults"},"name":"system:node"},
                "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"system:node"}}"#
        ))
    );
}

#[test]
fn default_roles_let_people_do_their_work() {
    let rbac = defaults();
    for (name, role) in [("anna", "admin"), ("eve", "edit"), ("vic", "view")] {
        let binding = json(&format!(
            r#"{{"roleRef":{{"kind":"ClusterRole","name":"{role}"}},"subjects":[{{"kind":"User","name":"{name}"}}]}}"#
        ));
        rbac.apply("rolebindings", "dev", name, Some(&binding));
    }
    for (who, request, want) in [
        ("x system:masters", "delete nodes /n", true),
        ("x system:masters", "get /metrics", true),
        ("x system:authenticated", "get /api", true),
        ("x system:authenticated", "create authorization.k8s.io/selfsubjectaccessreviews", true),
        ("system:anonymous system:unauthenticated", "get /healthz", true),
        ("system:anonymous system:unauthenticated", "get /api", false),
        ("x system:authenticated", "get pods dev/x", false),
        ("vic", "get pods/log dev/x", true),
        ("vic", "get secrets dev/x", false),
        ("vic", "create pods dev/", false),
        ("eve", "create pods dev/", true),
        ("eve", "get secrets dev/x", true),
        ("eve", "create pods/eviction dev/x", true),
        ("eve", "create rbac.authorization.k8s.io/roles dev/", false),
        ("anna", "create rbac.authorization.k8s.io/roles dev/", true),
        ("anna", "create pods prod/", false),
        ("system:kube-scheduler", "create pods/binding dev/x", true),
        ("system:kube-controller-manager", "create serviceaccounts/token kube-system/x", true),
        ("system:serviceaccount:kube-system:replicaset-controller", "create pods dev/", true),
        ("system:serviceaccount:kube-system:replicaset-controller", "create secrets dev/", false),
        ("system:kube-proxy", "watch services -", true),
        ("system:node:n system:nodes", "get secrets dev/x", false),
    ] {
        let decision = ask(&rbac, &user(who), request);
        assert_eq!(decision.is_allowed(), want, "{who}: {request}: {}", shown(&decision));
    }
}

#[test]
fn reconciling_adds_and_never_takes_away() {
    let annotated = r#""annotations":{"rbac.authorization.kubernetes.io/autoupdate":"true"}"#;
    let role = |rules: &str| {
        json(&format!(r#"{{"metadata":{{"name":"r",{annotated},"labels":{{"a":"b"}}}},"rules":[{rules}]}}"#))
    };
    let get = r#"{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}"#;
    let get_list = r#"{"apiGroups":[""],"resources":["pods"],"verbs":["get","list"]}"#;
    let list = r#"{"apiGroups":[""],"resources":["pods"],"verbs":["list"]}"#;
    let other = r#"{"apiGroups":["apps"],"resources":["x"],"verbs":["y"]}"#;
    let check = |existing: Option<Value>, wanted: &Value, want: Option<Value>| {
        let result = bootstrap::reconcile(existing.as_ref(), wanted);
        assert_eq!(result, want, "{existing:?} {wanted:?}");
        if let Some(result) = result {
            assert_eq!(bootstrap::reconcile(Some(&result), wanted), None, "a second time");
        }
    };
    let wanted = role(get_list);
    check(None, &wanted, Some(wanted.clone()));
    check(Some(wanted.clone()), &wanted, None);
    check(Some(role(&format!("{get},{other}"))), &wanted, Some(role(&format!("{get},{other},{list}"))));
    check(Some(role(&format!("{get},{list}"))), &wanted, None);
    // Somebody took the role over.
    let mut own = role("");
    own.set(&["metadata", "annotations", "rbac.authorization.kubernetes.io/autoupdate"], "false");
    check(Some(own), &wanted, None);
    // Labels are added, and those that users changed stay.
    let mut relabelled = wanted.clone();
    relabelled.set(&["metadata", "labels"], [("a", "own"), ("c", "d")]);
    check(Some(relabelled), &wanted, None);
    let mut bare = wanted.clone();
    bare.remove(&["metadata", "labels"]);
    check(Some(bare), &wanted, Some(wanted.clone()));
    // Aggregation.
    let aggregating = |selectors: &str, rules: &str| {
        let mut value = role(rules);
        value.set(&["aggregationRule"], json(&format!(r#"{{"clusterRoleSelectors":[{selectors}]}}"#)));
        value
    };
    let (one, two) = (r#"{"matchLabels":{"x":"1"}}"#, r#"{"matchLabels":{"x":"2"}}"#);
    check(Some(aggregating(two, get)), &aggregating(one, get_list), Some(aggregating(&format!("{two},{one}"), get)));
    check(Some(aggregating(two, get)), &role(get), Some(role(get)));
    // Bindings.
    let binding = |role: &str, subjects: &str, uid: &str| {
        json(&format!(
            r#"{{"metadata":{{"name":"b"{uid}}},"roleRef":{{"kind":"ClusterRole","name":"{role}"}},"subjects":[{subjects}]}}"#
        ))
    };
    let (a, b, uid) = (r#"{"kind":"User","name":"a"}"#, r#"{"kind":"User","name":"b"}"#, r#","uid":"u""#);
    check(Some(binding("r", b, uid)), &binding("r", a, ""), Some(binding("r", &format!("{b},{a}"), uid)));
    check(Some(binding("old", b, uid)), &binding("r", a, ""), Some(binding("r", a, "")));
}
