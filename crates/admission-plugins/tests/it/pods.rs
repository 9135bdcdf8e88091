//! What Pods and Nodes are given: tolerations and taints.

use crate::support::{Cluster, Request, json, only};

#[test]
fn pods_tolerate_lost_nodes_for_five_minutes() {
    let not_ready =
        r#"{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}"#;
    let unreachable =
        r#"{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}"#;
    for (before, want) in [
        ("", format!("{not_ready},{unreachable}")),
        (
            r#"{"key":"a","effect":"NoExecute"}"#,
            format!(r#"{{"key":"a","effect":"NoExecute"}},{not_ready},{unreachable}"#),
        ),
        (
            r#"{"key":"node.kubernetes.io/not-ready","operator":"Exists"}"#,
            format!(r#"{{"key":"node.kubernetes.io/not-ready","operator":"Exists"}},{unreachable}"#),
        ),
        (
            r#"{"key":"node.kubernetes.io/unreachable","effect":"NoSchedule"}"#,
            format!(r#"{{"key":"node.kubernetes.io/unreachable","effect":"NoSchedule"}},{not_ready},{unreachable}"#),
        ),
        (r#"{"operator":"Exists"}"#, r#"{"operator":"Exists"}"#.into()),
        (r#"{"operator":"Exists","effect":"NoExecute"}"#, r#"{"operator":"Exists","effect":"NoExecute"}"#.into()),
    ] {
        for operation in ["create", "update"] {
            let request = Request::new(&format!("{operation} pods dev/p"))
                .object(&format!(r#"{{"spec":{{"tolerations":[{before}]}}}}"#));
            let after = request.run(&only("DefaultTolerationSeconds"), &Cluster::default()).expect("admitted");
            assert_eq!(after, json(&format!(r#"{{"spec":{{"tolerations":[{want}]}}}}"#)), "{before}");
        }
    }
    let status = Request::new("update pods/status dev/p").object("{}");
    assert_eq!(status.run(&only("DefaultTolerationSeconds"), &Cluster::default()), Ok(json("{}")));
}

#[test]
fn new_nodes_are_not_ready() {
    let taint = r#"{"key":"node.kubernetes.io/not-ready","effect":"NoSchedule"}"#;
    for (what, before, after) in [
        ("create nodes /n", "{}", format!(r#"{{"spec":{{"taints":[{taint}]}}}}"#)),
        (
            "create nodes /n",
            r#"{"spec":{"taints":[{"key":"node.kubernetes.io/not-ready","effect":"NoExecute"}]}}"#,
            format!(
                r#"{{"spec":{{"taints":[{{"key":"node.kubernetes.io/not-ready","effect":"NoExecute"}},{taint}]}}}}"#
            ),
        ),
        (
            "create nodes /n",
            r#"{"spec":{"taints":[{"key":"node.kubernetes.io/not-ready","effect":"NoSchedule","value":"x"}]}}"#,
            r#"{"spec":{"taints":[{"key":"node.kubernetes.io/not-ready","effect":"NoSchedule","value":"x"}]}}"#.into(),
        ),
        ("update nodes /n", "{}", "{}".into()),
        ("create pods dev/n", "{}", "{}".into()),
    ] {
        let result = Request::new(what).object(before).run(&only("TaintNodesByCondition"), &Cluster::default());
        assert_eq!(result, Ok(json(&after)), "{what} {before}");
    }
}
