//! What a Pod takes over from its RuntimeClass, and what it may not say beside it.

use crate::support::{Cluster, Request, json, only};

fn cluster() -> Cluster {
    let cluster = Cluster::default();
    let class = |name: &str, rest: &str| {
        let object = format!(r#"{{"metadata":{{"name":"{name}"}},"handler":"h"{rest}}}"#);
        cluster.add("runtimeclasses.node.k8s.io", &object);
    };
    class("plain", "");
    class("heavy", r#","overhead":{"podFixed":{"cpu":"10m"}}"#);
    class("nothing", r#","overhead":{}"#);
    class("placed", r#","scheduling":{"nodeSelector":{"r":"x"},"tolerations":[{"key":"k","operator":"Exists"}]}"#);
    class("somewhere", r#","scheduling":{}"#);
    cluster
        .add_fresh("runtimeclasses.node.k8s.io", r#"{"metadata":{"name":"new"},"overhead":{"podFixed":{"cpu":"1"}}}"#);
    cluster
}

#[test]
fn a_pod_takes_over_what_its_class_says() {
    let check = |spec: &str, want: Result<&str, &str>| {
        let request = Request::new("create pods dev/p").object(&format!(r#"{{"spec":{{{spec}}}}}"#));
        let result = request.run(&only("RuntimeClass"), &cluster()).map_err(|status| status.message.to_string());
        let want = want.map(|spec| json(&format!(r#"{{"spec":{{{spec}}}}}"#)));
        let want = want.map_err(|why| format!(r#"pods "p" is forbidden: {why}"#));
        assert_eq!(result, want, "{spec}");
    };
    let same = |spec: &str| check(spec, Ok(spec));
    let mismatch = Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead");
    let alone = Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead");
    same("");
    same(r#""runtimeClassName":"plain""#);
    same(r#""runtimeClassName":"nothing""#);
    same(r#""runtimeClassName":"somewhere""#);
    same(r#""runtimeClassName":"heavy","overhead":{"cpu":"10m"}"#);
    check(r#""runtimeClassName":"heavy""#, Ok(r#""runtimeClassName":"heavy","overhead":{"cpu":"10m"}"#));
    check(r#""runtimeClassName":"new""#, Ok(r#""runtimeClassName":"new","overhead":{"cpu":"1"}"#));
    check(r#""runtimeClassName":"none""#, Err(r#"pod rejected: RuntimeClass "none" not found"#));
    check(r#""runtimeClassName":"heavy","overhead":{"cpu":"11m"}"#, mismatch);
    check(r#""runtimeClassName":"nothing","overhead":{"cpu":"11m"}"#, mismatch);
    check(r#""runtimeClassName":"plain","overhead":{"cpu":"11m"}"#, alone);
    check(r#""overhead":{"cpu":"1"}"#, alone);
    check(
        r#""runtimeClassName":"placed","nodeSelector":{"a":"b"}"#,
        Ok(
            r#""runtimeClassName":"placed","nodeSelector":{"a":"b","r":"x"},"tolerations":[{"key":"k","operator":"Exists"}]"#,
        ),
    );
    check(
        r#""runtimeClassName":"placed","nodeSelector":{"r":"y"}"#,
        Err("conflict: runtimeClass.scheduling.nodeSelector[r] = x; pod.spec.nodeSelector[r] = y"),
    );
}

#[test]
fn tolerations_that_others_cover_go() {
    let check = |given: &str, of_class: &str, want: &str| {
        let cluster = Cluster::default();
        let class = format!(r#"{{"metadata":{{"name":"c"}},"scheduling":{{"tolerations":[{of_class}]}}}}"#);
        cluster.add("runtimeclasses.node.k8s.io", &class);
        let pod = |tolerations: &str| format!(r#"{{"spec":{{"runtimeClassName":"c","tolerations":[{tolerations}]}}}}"#);
        let result = Request::new("create pods dev/p").object(&pod(given)).run(&only("RuntimeClass"), &cluster);
        assert_eq!(result, Ok(json(&pod(want))), "{given} and {of_class}");
    };
    let both = |one: &str, other: &str| format!("{one},{other}");
    let exists = r#"{"key":"k","operator":"Exists"}"#;
    let equal = r#"{"key":"k","operator":"Equal","value":"v"}"#;
    let all = r#"{"operator":"Exists"}"#;
    let effect = r#"{"key":"k","operator":"Exists","effect":"NoSchedule"}"#;
    let brief = r#"{"key":"k","operator":"Exists","effect":"NoExecute","tolerationSeconds":5}"#;
    let long = r#"{"key":"k","operator":"Exists","effect":"NoExecute","tolerationSeconds":50}"#;
    let other = r#"{"key":"l","operator":"Exists"}"#;
    check(exists, exists, exists);
    check(equal, exists, exists);
    check(exists, equal, exists);
    check(effect, exists, exists);
    check(&both(exists, other), all, all);
    check(brief, long, long);
    check(long, brief, long);
    check(exists, other, &both(exists, other));
    check(
        equal,
        r#"{"key":"k","operator":"Equal","value":"w"}"#,
        &both(equal, r#"{"key":"k","operator":"Equal","value":"w"}"#),
    );
}
