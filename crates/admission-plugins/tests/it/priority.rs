//! Priorities of Pods, and the one default class.

use crate::support::{Cluster, Request, json, only};

fn class(name: &str, value: i64, rest: &str) -> String {
    format!(r#"{{"metadata":{{"name":"{name}"}},"value":{value},"preemptionPolicy":"PreemptLowerPriority"{rest}}}"#)
}

fn cluster(with_default: bool) -> Cluster {
    let cluster = Cluster::default();
    let classes = "priorityclasses.scheduling.k8s.io";
    cluster.add(classes, &class("high", 1000, ""));
    cluster.add(classes, r#"{"metadata":{"name":"meek"},"value":5,"preemptionPolicy":"Never"}"#);
    cluster.add(classes, r#"{"metadata":{"name":"old"},"value":7}"#);
    if with_default {
        cluster.add(classes, &class("usual", 10, r#","globalDefault":true"#));
        cluster.add(classes, &class("lower", 3, r#","globalDefault":true"#));
    }
    cluster
}

#[test]
fn a_pod_has_the_priority_of_its_class() {
    const PREEMPT: &str = r#""preemptionPolicy":"PreemptLowerPriority""#;
    let priority = |given: i64, computed: i64| {
        format!(
            r#"403 pods "p" is forbidden: the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"#
        )
    };
    for (with_default, spec, want) in [
        (false, "", Ok(format!(r#""priority":0,{PREEMPT}"#))),
        (true, "", Ok(format!(r#""priority":3,"priorityClassName":"lower",{PREEMPT}"#))),
        (true, r#""priorityClassName":"high""#, Ok(format!(r#""priority":1000,"priorityClassName":"high",{PREEMPT}"#))),
        (
            false,
            r#""priorityClassName":"meek""#,
            Ok(r#""priority":5,"priorityClassName":"meek","preemptionPolicy":"Never""#.into()),
        ),
        (false, r#""priorityClassName":"old""#, Ok(r#""priority":7,"priorityClassName":"old""#.into())),
        (false, r#""priority":0"#, Ok(format!(r#""priority":0,{PREEMPT}"#))),
        (false, r#""priority":5"#, Err(priority(5, 0))),
        (true, r#""priority":7,"priorityClassName":"high""#, Err(priority(7, 1000))),
        (
            false,
            r#""priorityClassName":"none""#,
            Err(r#"403 pods "p" is forbidden: no PriorityClass with name none was found"#.into()),
        ),
        (
            false,
            r#""priorityClassName":"meek","preemptionPolicy":"PreemptLowerPriority""#,
            Err(r#"403 pods "p" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name"#.into()),
        ),
    ] {
        let request = Request::new("create pods dev/p").object(&format!(r#"{{"spec":{{{spec}}}}}"#));
        let result = request.run(&only("Priority"), &cluster(with_default));
        let result = result.map_err(|status| format!("{} {}", status.code, status.message));
        assert_eq!(result, want.map(|spec| json(&format!(r#"{{"spec":{{{spec}}}}}"#))), "{spec}");
    }
}

#[test]
fn updates_keep_the_priority() {
    let old = r#"{"spec":{"priority":7,"preemptionPolicy":"Never"}}"#;
    for (new, want) in [
        (r#"{"spec":{}}"#, old),
        (r#"{"spec":{"priority":8}}"#, r#"{"spec":{"priority":8,"preemptionPolicy":"Never"}}"#),
    ] {
        let result = Request::new("update pods dev/p").object(new).old(old).run(&only("Priority"), &cluster(false));
        assert_eq!(result, Ok(json(want)));
    }
}

#[test]
fn one_class_is_the_default() {
    let refused = r#"403 priorityclasses.scheduling.k8s.io "x" is forbidden: PriorityClass lower is already marked as default. Only one default can exist"#;
    for (with_default, operation, name, rest, want) in [
        (true, "create", "x", r#","globalDefault":true"#, refused),
        (true, "update", "x", r#","globalDefault":true"#, refused),
        (true, "update", "lower", r#","globalDefault":true"#, "ok"),
        (true, "create", "x", r#","globalDefault":false"#, "ok"),
        (true, "create", "x", "", "ok"),
        (false, "create", "x", r#","globalDefault":true"#, "ok"),
    ] {
        let request = Request::new(&format!("{operation} priorityclasses.scheduling.k8s.io /{name}"));
        let request = request.object(&class(name, 1, rest));
        assert_eq!(request.verdict(&only("Priority"), &cluster(with_default)), want, "{operation} {name} {rest}");
    }
}
