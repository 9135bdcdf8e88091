//! Roles, bindings, and who they let do what.

use authz::Rbac;

use crate::support::{ask, json, shown, user};

fn role(rbac: &Rbac, namespace: &str, name: &str, rules: &str) {
    let resource = if namespace.is_empty() { "clusterroles" } else { "roles" };
    rbac.apply(resource, namespace, name, Some(&json(&format!(r#"{{"rules":{rules}}}"#))));
}

/// A binding of `KIND NAME` to subjects `KIND NAME [NAMESPACE]`.
fn bind(rbac: &Rbac, namespace: &str, name: &str, of: &str, subjects: &[&str]) {
    let resource = if namespace.is_empty() { "clusterrolebindings" } else { "rolebindings" };
    let (kind, role) = of.split_once(' ').expect("kind and name");
    let subjects: Vec<String> = subjects
        .iter()
        .map(|subject| {
            let mut parts = subject.split(' ');
            let mut next = || parts.next().unwrap_or_default();
            format!(r#"{{"kind":"{}","name":"{}","namespace":"{}"}}"#, next(), next(), next())
        })
        .collect();
    let object = format!(r#"{{"roleRef":{{"kind":"{kind}","name":"{role}"}},"subjects":[{}]}}"#, subjects.join(","));
    rbac.apply(resource, namespace, name, Some(&json(&object)));
}

const READ_PODS: &str = r#"[{"verbs":["get","list"],"apiGroups":[""],"resources":["pods"]}]"#;

fn small() -> Rbac {
    let rbac = Rbac::new();
    role(&rbac, "", "reader", READ_PODS);
    role(&rbac, "", "health", r#"[{"verbs":["get"],"nonResourceURLs":["/healthz","/healthz/*"]}]"#);
    role(&rbac, "dev", "deployer", r#"[{"verbs":["*"],"apiGroups":["apps"],"resources":["deployments"]}]"#);
    bind(&rbac, "", "read-all", "ClusterRole reader", &["Group nobody", "Group ops"]);
    bind(&rbac, "", "health", "ClusterRole health", &["Group system:authenticated"]);
    bind(&rbac, "dev", "readers", "ClusterRole reader", &["User jane", "ServiceAccount builder"]);
    bind(&rbac, "dev", "deployers", "Role deployer", &["ServiceAccount ci tools", "User jane"]);
    bind(&rbac, "dev", "broken", "Role missing", &["User joe"]);
    bind(&rbac, "", "lost", "ClusterRole missing", &["User joe", "User jim"]);
    bind(&rbac, "", "odd", "Thing x", &["User jill"]);
    bind(&rbac, "", "nowhere", "ClusterRole reader", &["ServiceAccount lost"]);
    rbac
}

#[test]
fn bindings_decide_with_upstreams_reasons() {
    let rbac = small();
    for (who, request, want) in [
        (
            "jane",
            "get pods dev/x",
            r#"yes RBAC: allowed by RoleBinding "readers/dev" of ClusterRole "reader" to User "jane""#,
        ),
        ("jane", "get pods prod/x", "no"),
        ("jane", "list pods -", "no"),
        ("jane", "delete pods dev/x", "no"),
        (
            "joan ops",
            "list pods -",
            r#"yes RBAC: allowed by ClusterRoleBinding "read-all" of ClusterRole "reader" to Group "ops""#,
        ),
        (
            "joan ops",
            "list pods dev/",
            r#"yes RBAC: allowed by ClusterRoleBinding "read-all" of ClusterRole "reader" to Group "ops""#,
        ),
        (
            "joan ops,nobody",
            "list pods dev/",
            r#"yes RBAC: allowed by ClusterRoleBinding "read-all" of ClusterRole "reader" to Group "nobody""#,
        ),
        ("ops", "list pods dev/", "no"),
        (
            "x system:authenticated",
            "get /healthz/etcd",
            r#"yes RBAC: allowed by ClusterRoleBinding "health" of ClusterRole "health" to Group "system:authenticated""#,
        ),
        ("x system:authenticated", "get /metrics", "no"),
        (
            "system:serviceaccount:dev:builder",
            "get pods dev/x",
            r#"yes RBAC: allowed by RoleBinding "readers/dev" of ClusterRole "reader" to ServiceAccount "builder/dev""#,
        ),
        (
            "system:serviceaccount:tools:ci",
            "delete apps/deployments dev/x",
            r#"yes RBAC: allowed by RoleBinding "deployers/dev" of Role "deployer" to ServiceAccount "ci/tools""#,
        ),
        ("system:serviceaccount:dev:ci", "delete apps/deployments dev/x", "no"),
        ("system:serviceaccount::lost", "get pods dev/x", "no"),
        (
            "joe",
            "get pods dev/x",
            r#"no RBAC: [clusterrole.rbac.authorization.k8s.io "missing" not found, role.rbac.authorization.k8s.io "missing" not found]"#,
        ),
        ("joe", "get pods prod/x", r#"no RBAC: clusterrole.rbac.authorization.k8s.io "missing" not found"#),
        ("jill", "get pods prod/x", r#"no RBAC: unsupported role reference kind: "Thing""#),
        (
            "joe ops",
            "get pods prod/x",
            r#"yes RBAC: allowed by ClusterRoleBinding "read-all" of ClusterRole "reader" to Group "ops""#,
        ),
    ] {
        assert_eq!(shown(&ask(&rbac, &user(who), request)), want, "{who}: {request}");
    }
}

#[test]
fn changes_count_at_once() {
    let rbac = small();
    let check = |request: &str, want: bool| {
        assert_eq!(ask(&rbac, &user("jane ops"), request).is_allowed(), want, "{request}");
    };
    check("get pods dev/x", true);
    // A binding to other subjects forgets those it had.
    bind(&rbac, "dev", "readers", "ClusterRole reader", &["User jim"]);
    check("get pods prod/x", true);
    rbac.apply("clusterrolebindings", "", "read-all", None);
    check("get pods prod/x", false);
    check("get pods dev/x", false);
    bind(&rbac, "dev", "readers", "ClusterRole reader", &["Group ops", "Group ops", "User jane"]);
    check("get pods dev/x", true);
    role(&rbac, "", "reader", "[]");
    check("get pods dev/x", false);
    role(&rbac, "", "reader", READ_PODS);
    check("get pods dev/x", true);
    rbac.apply("clusterroles", "", "reader", None);
    check("get pods dev/x", false);
    check("get apps/deployments dev/x", true);
    rbac.apply("roles", "dev", "deployer", None);
    check("get apps/deployments dev/x", false);
    // What is no role and no binding, and what was never there, is passed over.
    rbac.apply("pods", "dev", "x", None);
    rbac.apply("rolebindings", "dev", "never", None);
    // Who holds a binding holds a role that comes later.
    role(&rbac, "dev", "deployer", READ_PODS);
    check("get pods dev/x", true);
    bind(&rbac, "dev", "deployers", "Role deployer", &[]);
    check("get pods dev/x", false);
}

#[test]
fn a_role_of_one_namespace_is_no_role_of_another() {
    let rbac = small();
    bind(&rbac, "prod", "deployers", "Role deployer", &["User jane"]);
    let decision = ask(&rbac, &user("jane"), "get apps/deployments prod/x");
    assert_eq!(shown(&decision), r#"no RBAC: role.rbac.authorization.k8s.io "deployer" not found"#);
}

#[test]
fn rules_are_listed_for_reviews() {
    let rbac = small();
    let list = |who: &str, with_nodes: bool| {
        let (resources, paths, incomplete, error) = authz::rules_for(&rbac, with_nodes, &user(who), "dev");
        (resources, paths, incomplete, error)
    };
    let rule = |text: &str| vec![json(text)];
    let reader = r#"{"verbs":["get","list"],"apiGroups":[""],"resources":["pods"]}"#;
    let deployer = r#"{"verbs":["*"],"apiGroups":["apps"],"resources":["deployments"]}"#;
    let paths = rule(r#"{"verbs":["get"],"nonResourceURLs":["/healthz","/healthz/*"]}"#);
    assert_eq!(
        list("jane system:authenticated", true),
        (vec![json(reader), json(deployer)], paths, false, String::new())
    );
    // A binding that meets a user by two subjects counts once.
    assert_eq!(list("jane ops,nobody", false).0, vec![json(reader), json(reader), json(deployer)]);
    let missing = r#"[clusterrole.rbac.authorization.k8s.io "missing" not found, role.rbac.authorization.k8s.io "missing" not found]"#;
    assert_eq!(list("joe", true), (vec![], vec![], false, missing.to_string()));
    let node = "node authorizer does not support user rule resolution";
    assert_eq!(list("system:node:n system:nodes", true), (vec![], vec![], true, node.to_string()));
    assert_eq!(list("system:node:n system:nodes", false), (vec![], vec![], false, String::new()));
}

#[test]
fn a_thousand_bindings_are_no_burden() {
    let rbac = Rbac::new();
    role(&rbac, "", "reader", READ_PODS);
    for at in 0..1000 {
        bind(&rbac, "", &format!("b{at}"), "ClusterRole reader", &[&format!("User u{at}"), "Group all"]);
    }
    for at in 0..1000 {
        assert!(ask(&rbac, &user(&format!("u{at}")), "get pods dev/x").is_allowed());
        rbac.apply("clusterrolebindings", "", &format!("b{at}"), None);
        assert!(!ask(&rbac, &user(&format!("u{at}")), "get pods dev/x").is_allowed());
        assert_eq!(ask(&rbac, &user("x all"), "get pods dev/x").is_allowed(), at < 999);
    }
}
