//! Limits of a namespace.

use crate::support::{Cluster, Request, json, only};

fn cluster(limits: &[&str]) -> Cluster {
    let cluster = Cluster::default();
    for (at, limits) in limits.iter().enumerate() {
        cluster.add(
            "limitranges",
            &format!(r#"{{"metadata":{{"name":"r{at}","namespace":"dev"}},"spec":{{"limits":[{limits}]}}}}"#),
        );
    }
    cluster
}

#[test]
fn containers_ask_for_what_the_namespace_says() {
    let range = r#"{"type":"Container","default":{"cpu":"1","memory":"1Gi"},"defaultRequest":{"cpu":"500m"}}"#;
    let note = |text: &str| {
        format!(r#""metadata":{{"annotations":{{"kubernetes.io/limit-ranger":"LimitRanger plugin set: {text}"}}}}"#)
    };
    for (ranges, before, after) in [
        (
            &[][..],
            r#""spec":{"containers":[{"name":"a","resources":{}}]}"#,
            r#""spec":{"containers":[{"name":"a","resources":{}}]}"#.to_string(),
        ),
        (
            &[range],
            r#""spec":{"containers":[{"name":"a","resources":{}},{"name":"b","resources":{"limits":{"cpu":"2","memory":"2Gi"},"requests":{"cpu":"2"}}}],
               "initContainers":[{"name":"i","resources":{"limits":{"memory":"2Gi"}}}],"ephemeralContainers":[{"name":"e"}]}"#,
            format!(
                r#"{},"spec":{{"containers":[{{"name":"a","resources":{{"limits":{{"cpu":"1","memory":"1Gi"}},"requests":{{"cpu":"500m"}}}}}},
                   {{"name":"b","resources":{{"limits":{{"cpu":"2","memory":"2Gi"}},"requests":{{"cpu":"2"}}}}}}],
                   "initContainers":[{{"name":"i","resources":{{"limits":{{"cpu":"1","memory":"2Gi"}},"requests":{{"cpu":"500m"}}}}}}],
                   "ephemeralContainers":[{{"name":"e"}}]}}"#,
                note(
                    "cpu request for container a; cpu, memory limit for container a; cpu request for init container i; cpu limit for init container i"
                )
            ),
        ),
        // The first range by name sets, the second finds it set; within a range the last limit wins.
        (
            &[
                r#"{"type":"Container","default":{"cpu":"1"}},{"type":"Pod"},{"type":"Container","default":{"cpu":"2"}}"#,
                r#"{"type":"Container","default":{"cpu":"3"}}"#,
            ],
            r#""spec":{"containers":[{"name":"a"}]}"#,
            format!(
                r#"{},"spec":{{"containers":[{{"name":"a","resources":{{"limits":{{"cpu":"2"}}}}}}]}}"#,
                note("cpu limit for container a")
            ),
        ),
    ] {
        let request = Request::new("create pods dev/p").object(&format!("{{{before}}}"));
        assert_eq!(request.run(&only("LimitRanger"), &cluster(ranges)), Ok(json(&format!("{{{after}}}"))), "{before}");
    }
}

#[test]
fn nobody_goes_below_or_beyond() {
    let container =
        |resources: &str| format!(r#"{{"spec":{{"containers":[{{"name":"c","resources":{resources}}}]}}}}"#);
    let requests = |cpu: &str| container(&format!(r#"{{"requests":{{"cpu":"{cpu}"}}}}"#));
    let both = |request: &str, limit: &str| {
        container(&format!(r#"{{"requests":{{"cpu":"{request}"}},"limits":{{"cpu":"{limit}"}}}}"#))
    };
    let min = r#"{"type":"Container","min":{"cpu":"50m"}}"#;
    let max = r#"{"type":"Container","max":{"cpu":"1"}}"#;
    let ratio = r#"{"type":"Container","maxLimitRequestRatio":{"cpu":"5"}}"#;
    let all = r#"{"type":"Container","max":{"cpu":"1"},"min":{"cpu":"50m"},"maxLimitRequestRatio":{"cpu":"5"}}"#;
    let pod = r#"{"type":"Pod","max":{"cpu":"2"},"min":{"cpu":"100m"}}"#;
    let of_pod = |containers: &str, rest: &str| format!(r#"{{"spec":{{"containers":[{containers}]{rest}}}}}"#);
    let one = r#"{"resources":{"requests":{"cpu":"1"},"limits":{"cpu":"1"}}}"#;
    let sidecar = r#"{"restartPolicy":"Always","resources":{"requests":{"cpu":"1"},"limits":{"cpu":"1"}}}"#;
    for (range, pod, want) in [
        (min, both("50m", "1"), "ok"),
        (min, requests("10m"), "minimum cpu usage per Container is 50m, but request is 10m"),
        (min, container("{}"), "minimum cpu usage per Container is 50m.  No request is specified"),
        (min, both("50m", "49m"), "minimum cpu usage per Container is 50m, but limit is 49m"),
        (max, both("1", "1"), "ok"),
        (max, both("1", "2"), "maximum cpu usage per Container is 1, but limit is 2"),
        (max, requests("1"), "maximum cpu usage per Container is 1.  No limit is specified"),
        (max, both("1001m", "1"), "maximum cpu usage per Container is 1, but request is 1001m"),
        (ratio, both("100m", "500m"), "ok"),
        (
            ratio,
            both("100m", "1"),
            "cpu max limit to request ratio per Container is 5, but provided ratio is 10.000000",
        ),
        (
            ratio,
            container("{}"),
            "cpu max limit to request ratio per Container is 5, but no request is specified or request is 0",
        ),
        (
            ratio,
            requests("1"),
            "cpu max limit to request ratio per Container is 5, but no limit is specified or limit is 0",
        ),
        (
            all,
            both("10m", "500m"),
            "[minimum cpu usage per Container is 50m, but request is 10m, cpu max limit to request ratio per Container is 5, but provided ratio is 50.000000]",
        ),
        // Two containers with the same fault are told once.
        (
            min,
            r#"{"spec":{"containers":[{}],"initContainers":[{}]}}"#.to_string(),
            "minimum cpu usage per Container is 50m.  No request is specified",
        ),
        (pod, of_pod(&format!("{one},{one}"), ""), "ok"),
        (pod, of_pod(&format!("{one},{one},{one}"), ""), "maximum cpu usage per Pod is 2, but limit is 3"),
        // Initial containers run one after another, beside the sidecars that came before.
        (pod, of_pod(one, &format!(r#","initContainers":[{one},{one},{sidecar}]"#)), "ok"),
        (
            pod,
            of_pod(one, &format!(r#","initContainers":[{sidecar},{sidecar},{one}]"#)),
            "maximum cpu usage per Pod is 2, but limit is 3",
        ),
        (pod, of_pod(r#"{"resources":{}}"#, r#","resources":{"requests":{"cpu":"1"},"limits":{"cpu":"1"}}"#), "ok"),
        (
            pod,
            of_pod(one, r#","resources":{"requests":{"cpu":"3"},"limits":{"cpu":"3"}}"#),
            "maximum cpu usage per Pod is 2, but limit is 3",
        ),
        // Beyond what thousandths can hold.
        (
            r#"{"type":"Container","max":{"x":"9Pi"}}"#,
            container(r#"{"limits":{"x":"10Pi"}}"#),
            "maximum x usage per Container is 9Pi, but limit is 10Pi",
        ),
    ] {
        let verdict = Request::new("create pods dev/p").object(&pod).verdict(&only("LimitRanger"), &cluster(&[range]));
        let verdict = verdict.strip_prefix(r#"403 pods "p" is forbidden: "#).unwrap_or(&verdict).to_string();
        assert_eq!(verdict, want, "{range} {pod}");
    }
}

#[test]
fn claims_have_limits_too() {
    let range = r#"{"type":"PersistentVolumeClaim","min":{"storage":"1Gi"},"max":{"storage":"2Gi"}}"#;
    let claim = |requests: &str| format!(r#"{{"spec":{{"resources":{{"requests":{{{requests}}}}}}}}}"#);
    for (what, requests, want) in [
        ("create", r#""storage":"1536Mi""#, "ok"),
        ("create", r#""storage":"1Mi""#, "minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"),
        ("create", r#""storage":"3Gi""#, "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
        ("update", r#""storage":"3Gi""#, "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"),
        (
            "create",
            "",
            "[minimum storage usage per PersistentVolumeClaim is 1Gi.  No request is specified, maximum storage usage per PersistentVolumeClaim is 2Gi.  No request is specified]",
        ),
    ] {
        let request = Request::new(&format!("{what} persistentvolumeclaims dev/c")).object(&claim(requests));
        let verdict = request.verdict(&only("LimitRanger"), &cluster(&[range]));
        let verdict =
            verdict.strip_prefix(r#"403 persistentvolumeclaims "c" is forbidden: "#).unwrap_or(&verdict).to_string();
        assert_eq!(verdict, want, "{what} {requests}");
    }
}

#[test]
fn what_is_not_new_is_let_be() {
    let max = r#"{"type":"Container","max":{"cpu":"1"},"default":{"cpu":"1"}}"#;
    let big = r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"2"}}}]}}"#;
    for (what, old, want) in [
        ("update pods dev/p", "{}", "ok"),
        (
            "update pods/resize dev/p",
            "{}",
            r#"403 pods "p" is forbidden: maximum cpu usage per Container is 1, but limit is 2"#,
        ),
        ("update pods/resize dev/p", r#"{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"}}"#, "ok"),
        ("update pods/status dev/p", "{}", "ok"),
        ("create pods prod/p", "{}", "ok"),
    ] {
        let request = Request::new(what).object(big).old(old);
        assert_eq!(request.verdict(&only("LimitRanger"), &cluster(&[max])), want, "{what} {old}");
    }
}
