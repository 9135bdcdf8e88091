//! What is counted, what is charged, and what is too much.

use admission::{Admission, View};

use crate::support::{Cluster, Request, only};

/// A quota that is ready, with nothing used.
fn quota(name: &str, spec: &str, hard: &str) -> String {
    let used: Vec<String> =
        hard.split(',').filter_map(|entry| Some(format!("{}:\"0\"", entry.split_once(':')?.0))).collect();
    format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"dev"}},"spec":{{{spec}}},"status":{{"hard":{{{hard}}},"used":{{{}}}}}}}"#,
        used.join(",")
    )
}

fn used(cluster: &Cluster, name: &str) -> String {
    let quota = cluster.get("", "resourcequotas", "dev", name).expect("there");
    let used = quota.map_at(&["status", "used"]).expect("used").iter();
    used.map(|(name, value)| format!("{name}={}", value.as_str().expect("text"))).collect::<Vec<_>>().join(",")
}

fn chain() -> Admission {
    only("ResourceQuota")
}

/// Requests, one after the other, against one quota: what each is told, and what is used in the end.
fn check(spec: &str, hard: &str, requests: &[(&str, &str, &str)], want: &str) {
    let cluster = Cluster::default();
    cluster.add("resourcequotas", &quota("q", spec, hard));
    let chain = chain();
    for (what, object, answer) in requests {
        let mut request = Request::new(what);
        match object.split_once(" -> ") {
            Some((old, new)) => request = request.old(old).object(new),
            None => request = request.object(object),
        }
        assert_eq!(request.verdict(&chain, &cluster), *answer, "{what} {object}");
    }
    assert_eq!(used(&cluster, "q"), want, "{hard}");
}

#[test]
fn objects_are_counted_by_their_names() {
    let beyond = |resource: &str, name: &str| {
        format!(
            r#"403 {resource} "b" is forbidden: exceeded quota: q, requested: {name}=1, used: {name}=1, limited: {name}=1"#
        )
    };
    let cases = [
        ("configmaps", "count/configmaps"),
        ("configmaps", "configmaps"),
        ("secrets", "secrets"),
        ("replicationcontrollers", "replicationcontrollers"),
        ("deployments.apps", "count/deployments.apps"),
        ("pods", "pods"),
        ("pods", "count/pods"),
        ("services", "services"),
        ("persistentvolumeclaims", "persistentvolumeclaims"),
        ("resourceclaims.resource.k8s.io", "count/resourceclaims.resource.k8s.io"),
    ];
    for (resource, name) in cases {
        let (one, other) = (format!("create {resource} dev/a"), format!("create {resource} dev/b"));
        let refusal = beyond(resource, name);
        let hard = format!(r#""{name}":"1""#);
        check("", &hard, &[(&one, "{}", "ok"), (&other, "{}", &refusal)], &format!("{name}=1"));
    }
    // Not counted: other names, other namespaces, events, what has no namespace, changes.
    for what in [
        "create secrets dev/a",
        "create deployments.apps dev/a",
        "create events dev/a",
        "create nodes",
        "update configmaps dev/a",
    ] {
        check(
            "",
            r#""count/configmaps":"0","count/deployments.extensions":"0","count/events":"0""#,
            &[(what, "{}", "ok")],
            "count/configmaps=0,count/deployments.extensions=0,count/events=0",
        );
    }
}

#[test]
fn pods_are_charged_for_what_they_ask() {
    let pod = |resources: &str| format!(r#"{{"spec":{{"containers":[{{"name":"c","resources":{resources}}}]}}}}"#);
    let small = pod(r#"{"requests":{"cpu":"300m","memory":"1Gi","v.io/g":"2"},"limits":{"cpu":"1"}}"#);
    let hard = r#""cpu":"1","limits.cpu":"5","pods":"9","requests.memory":"10Gi","requests.v.io/g":"5""#;
    check(
        "",
        hard,
        &[
            ("create pods dev/a", &small, "ok"),
            ("create pods dev/b", &small, "ok"),
            (
                "create pods dev/c",
                &pod(r#"{"requests":{"cpu":"500m","memory":"1Gi","v.io/g":"2"},"limits":{"cpu":"1"}}"#),
                r#"403 pods "c" is forbidden: exceeded quota: q, requested: cpu=500m,requests.v.io/g=2, used: cpu=600m,requests.v.io/g=4, limited: cpu=1,requests.v.io/g=5"#,
            ),
            (
                "create pods dev/d",
                &pod("{}"),
                r#"403 pods "d" is forbidden: failed quota: q: must specify cpu for: c; limits.cpu for: c; requests.memory for: c"#,
            ),
        ],
        "cpu=600m,limits.cpu=2,pods=2,requests.memory=2Gi,requests.v.io/g=4",
    );
    // Overhead, sidecars and the Pod's own resources; initial containers run before the others.
    check(
        "",
        r#""cpu":"10","limits.cpu":"10""#,
        &[(
            "create pods dev/a",
            r#"{"spec":{"overhead":{"cpu":"1"},
                "initContainers":[
                    {"name":"s","restartPolicy":"Always","resources":{"requests":{"cpu":"1"},"limits":{"cpu":"1"}}},
                    {"name":"i","resources":{"requests":{"cpu":"5"},"limits":{"cpu":"2"}}}],
                "containers":[{"name":"c","resources":{"requests":{"cpu":"2"},"limits":{"cpu":"4"}}}]}}"#,
            "ok",
        )],
        "cpu=7,limits.cpu=6",
    );
    check(
        "",
        r#""cpu":"10""#,
        &[(
            "create pods dev/a",
            r#"{"spec":{"resources":{"requests":{"cpu":"3"}},"containers":[{"name":"c"}]}}"#,
            "ok",
        )],
        "cpu=3",
    );
    // A Pod that has ended takes nothing but its place among the objects.
    check(
        "",
        r#""count/pods":"1","pods":"0""#,
        &[("create pods dev/a", r#"{"status":{"phase":"Failed"}}"#, "ok")],
        "count/pods=1,pods=0",
    );
    // While it is resized, what a Pod has counts as well.
    check(
        "",
        r#""cpu":"10""#,
        &[(
            "update pods/resize dev/a",
            r#"{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"2"}}}]}} -> {"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}}]},"status":{"containerStatuses":[{"name":"c","resources":{"requests":{"cpu":"5"}}}]}}"#,
            "ok",
        )],
        "cpu=3",
    );
}

#[test]
fn scopes_choose_pods() {
    let check_scope = |spec: &str, pod: &str, counted: bool| {
        let want = if counted { "pods=1" } else { "pods=0" };
        check(spec, r#""pods":"1""#, &[("create pods dev/a", pod, "ok")], want);
    };
    let (best, fast, high) = (
        r#"{"status":{"qosClass":"BestEffort"}}"#,
        r#"{"spec":{"activeDeadlineSeconds":5},"status":{"qosClass":"Burstable"}}"#,
        r#"{"spec":{"priorityClassName":"high"}}"#,
    );
    check_scope(r#""scopes":["BestEffort"]"#, best, true);
    check_scope(r#""scopes":["BestEffort"]"#, fast, false);
    check_scope(r#""scopes":["NotBestEffort"]"#, best, false);
    check_scope(r#""scopes":["NotBestEffort"]"#, fast, true);
    check_scope(r#""scopes":["Terminating"]"#, fast, true);
    check_scope(r#""scopes":["NotTerminating"]"#, fast, false);
    check_scope(r#""scopes":["NotTerminating","BestEffort"]"#, best, true);
    check_scope(r#""scopes":["PriorityClass"]"#, high, true);
    check_scope(r#""scopes":["PriorityClass"]"#, best, false);
    let expression = |operator: &str, values: &str| {
        format!(
            r#""scopeSelector":{{"matchExpressions":[{{"scopeName":"PriorityClass","operator":"{operator}","values":[{values}]}}]}}"#
        )
    };
    check_scope(&expression("In", r#""low","high""#), high, true);
    check_scope(&expression("In", r#""low""#), high, false);
    check_scope(&expression("NotIn", r#""low""#), best, true);
    check_scope(&expression("DoesNotExist", ""), high, false);
    let affinity = r#"{"spec":{"affinity":{"podAntiAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"podAffinityTerm":{"namespaces":["x"]}}]}}}}"#;
    check_scope(r#""scopes":["CrossNamespacePodAffinity"]"#, affinity, true);
    check_scope(r#""scopes":["CrossNamespacePodAffinity"]"#, high, false);
    // A Pod that comes into a scope is charged in full.
    check(
        r#""scopes":["Terminating"]"#,
        r#""pods":"5""#,
        &[("update pods dev/a", r#"{"spec":{}} -> {"spec":{"activeDeadlineSeconds":5}}"#, "ok")],
        "pods=1",
    );
}

#[test]
fn services_and_claims_are_charged() {
    let hard = r#""services":"5","services.loadbalancers":"1","services.nodeports":"3""#;
    check(
        "",
        hard,
        &[
            ("create services dev/a", r#"{"spec":{"type":"NodePort","ports":[{},{}]}}"#, "ok"),
            (
                "create services dev/b",
                r#"{"spec":{"type":"LoadBalancer","ports":[{},{}]}}"#,
                r#"403 services "b" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=2, limited: services.nodeports=3"#,
            ),
            (
                "create services dev/b",
                r#"{"spec":{"type":"LoadBalancer","allocateLoadBalancerNodePorts":false,"ports":[{"nodePort":30000},{}]}}"#,
                "ok",
            ),
            (
                "update services dev/a",
                r#"{"spec":{"type":"NodePort","ports":[{},{}]}} -> {"spec":{"ports":[{}]}}"#,
                "ok",
            ),
        ],
        "services=2,services.loadbalancers=1,services.nodeports=3",
    );
    let claim = |size: &str| {
        format!(r#"{{"spec":{{"storageClassName":"gold","resources":{{"requests":{{"storage":"{size}"}}}}}}}}"#)
    };
    let hard = r#""gold.storageclass.storage.k8s.io/requests.storage":"20Gi","requests.storage":"30Gi","silver.storageclass.storage.k8s.io/persistentvolumeclaims":"0""#;
    check(
        "",
        hard,
        &[
            ("create persistentvolumeclaims dev/a", &claim("10Gi"), "ok"),
            ("update persistentvolumeclaims dev/a", &format!("{} -> {}", claim("10Gi"), claim("15Gi")), "ok"),
            (
                "create persistentvolumeclaims dev/b",
                &claim("6Gi"),
                r#"403 persistentvolumeclaims "b" is forbidden: exceeded quota: q, requested: gold.storageclass.storage.k8s.io/requests.storage=6Gi, used: gold.storageclass.storage.k8s.io/requests.storage=15Gi, limited: gold.storageclass.storage.k8s.io/requests.storage=20Gi"#,
            ),
        ],
        "gold.storageclass.storage.k8s.io/requests.storage=15Gi,requests.storage=15Gi,silver.storageclass.storage.k8s.io/persistentvolumeclaims=0",
    );
    check(
        "",
        r#""c.deviceclass.resource.k8s.io/devices":"50","d.deviceclass.resource.k8s.io/devices":"50""#,
        &[(
            "create resourceclaims.resource.k8s.io dev/a",
            r#"{"spec":{"devices":{"requests":[
                {"exactly":{"deviceClassName":"c","allocationMode":"ExactCount","count":3}},
                {"firstAvailable":[
                    {"deviceClassName":"c","allocationMode":"ExactCount","count":5},
                    {"deviceClassName":"c","allocationMode":"ExactCount","count":2},
                    {"deviceClassName":"d","allocationMode":"All"}]}]}}}"#,
            "ok",
        )],
        "c.deviceclass.resource.k8s.io/devices=8,d.deviceclass.resource.k8s.io/devices=32",
    );
}

#[test]
fn all_quotas_are_charged_or_none() {
    let cluster = Cluster::default();
    cluster.add("resourcequotas", &quota("a", "", r#""configmaps":"5""#));
    cluster.add("resourcequotas", &quota("b", "", r#""count/configmaps":"1""#));
    let create =
        |name: &str| Request::new(&format!("create configmaps dev/{name}")).object("{}").verdict(&chain(), &cluster);
    assert_eq!(create("a"), "ok");
    let refusal = r#"403 configmaps "b" is forbidden: exceeded quota: b, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1"#;
    assert_eq!(create("b"), refusal);
    assert_eq!((used(&cluster, "a"), used(&cluster, "b")), ("configmaps=1".into(), "count/configmaps=1".into()));
}

#[test]
fn a_charge_is_taken_back_when_another_one_fails() {
    let cluster = Cluster::default();
    cluster.add("resourcequotas", &quota("a", "", r#""configmaps":"5""#));
    // What the cache shows of this one is old: it is full.
    cluster.add("resourcequotas", &quota("b", "", r#""configmaps":"1""#));
    let full =
        quota("b", "", r#""configmaps":"1""#).replace(r#""used":{"configmaps":"0"}"#, r#""used":{"configmaps":"1"}"#);
    cluster.add_fresh("resourcequotas", &full);
    let answer = Request::new("create configmaps dev/x").object("{}").verdict(&chain(), &cluster);
    assert!(answer.contains("exceeded quota: b, requested: configmaps=1, used: configmaps=1"), "{answer}");
    assert_eq!(used(&cluster, "a"), "configmaps=0");
}

#[test]
fn a_quota_that_was_not_counted_yet_lets_nothing_in() {
    let cluster = Cluster::default();
    cluster.add(
        "resourcequotas",
        r#"{"metadata":{"name":"q","namespace":"dev"},"status":{"hard":{"pods":"1","count/pods":"1"},"used":{}}}"#,
    );
    let answer = Request::new("create pods dev/a").object("{}").verdict(&chain(), &cluster);
    assert_eq!(answer, r#"403 pods "a" is forbidden: status unknown for quota: q, resources: count/pods,pods"#);
}
