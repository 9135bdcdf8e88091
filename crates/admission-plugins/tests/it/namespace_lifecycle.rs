//! Namespaces that are there, are going, or are missing.

use crate::support::{Cluster, Request, only};

fn cluster() -> Cluster {
    let cluster = Cluster::default();
    cluster.add("namespaces", r#"{"metadata":{"name":"dev"},"status":{"phase":"Active"}}"#);
    cluster.add("namespaces", r#"{"metadata":{"name":"going"},"status":{"phase":"Terminating"}}"#);
    cluster.add_fresh("namespaces", r#"{"metadata":{"name":"new"},"status":{"phase":"Active"}}"#);
    cluster
}

#[test]
fn nothing_is_made_where_nothing_can_be() {
    let (chain, cluster) = (only("NamespaceLifecycle"), cluster());
    let going = |what: &str| {
        format!(
            "403 {what} is forbidden: unable to create new content in namespace going because it is being terminated"
        )
    };
    for (what, want) in [
        ("create configmaps dev/a", "ok".to_string()),
        ("create configmaps new/a", "ok".into()),
        ("create configmaps none/a", r#"404 namespaces "none" not found"#.into()),
        ("update configmaps none/a", r#"404 namespaces "none" not found"#.into()),
        ("delete configmaps none/a", "ok".into()),
        ("create configmaps going/a", going(r#"configmaps "a""#)),
        ("create pods/eviction going/a", going(r#"pods "a""#)),
        ("update configmaps going/a", "ok".into()),
        ("delete configmaps going/a", "ok".into()),
        ("connect pods/exec none/a", "ok".into()),
        ("create nodes /a", "ok".into()),
        ("create localsubjectaccessreviews.authorization.k8s.io none/", "ok".into()),
        ("create namespaces /none", "ok".into()),
        ("update namespaces/finalize /going", "ok".into()),
        ("delete namespaces /dev", "ok".into()),
        ("delete namespaces /kube-node-lease", "ok".into()),
        (
            "delete namespaces /default",
            r#"403 namespaces "default" is forbidden: this namespace may not be deleted"#.into(),
        ),
        (
            "delete namespaces /kube-system",
            r#"403 namespaces "kube-system" is forbidden: this namespace may not be deleted"#.into(),
        ),
        (
            "delete namespaces /kube-public",
            r#"403 namespaces "kube-public" is forbidden: this namespace may not be deleted"#.into(),
        ),
    ] {
        assert_eq!(Request::new(what).object("{}").verdict(&chain, &cluster), want, "{what}");
    }
}

#[test]
fn the_cause_is_told() {
    let request = Request::new("create configmaps going/a").object("{}");
    let refusal = request.run(&only("NamespaceLifecycle"), &cluster()).expect_err("the namespace goes");
    let causes: Vec<_> = refusal.causes.iter().map(|cause| (&*cause.reason, &*cause.message, &*cause.field)).collect();
    assert_eq!(causes, [("NamespaceTerminating", "namespace going is being terminated", "metadata.namespace")]);
}

#[test]
fn generated_names_are_shown_as_they_were_given() {
    for (name, object, want) in [
        ("a-x7k2p", r#"{"metadata":{"name":"a-x7k2p","generateName":"a-"}}"#, r#"configmaps "a-""#),
        ("b", r#"{"metadata":{"name":"b","generateName":"a-"}}"#, r#"configmaps "b""#),
        ("", "{}", r#"configmaps "Unknown""#),
    ] {
        let request = Request::new(&format!("create configmaps going/{name}")).object(object);
        let verdict = request.verdict(&only("NamespaceLifecycle"), &cluster());
        assert!(verdict.starts_with(&format!("403 {want} is forbidden: ")), "{verdict}");
    }
}

#[test]
fn a_deleted_namespace_is_looked_at_afresh_for_a_while() {
    let (chain, cluster) = (only("NamespaceLifecycle"), cluster());
    let create = || Request::new("create configmaps dev/a").object("{}").verdict(&chain, &cluster);
    assert_eq!(create(), "ok");
    // The store knows already, the cache does not.
    cluster.add_fresh("namespaces", r#"{"metadata":{"name":"dev"},"status":{"phase":"Terminating"}}"#);
    assert_eq!(create(), "ok");
    assert_eq!(Request::new("delete namespaces /dev").verdict(&chain, &cluster), "ok");
    assert_ne!(create(), "ok");
    cluster.pass(29);
    assert_ne!(create(), "ok");
    cluster.pass(2);
    assert_eq!(create(), "ok");
}
