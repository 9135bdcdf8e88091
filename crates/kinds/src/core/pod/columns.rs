//! How a pod looks in a table (upstream's printPod, word for word in what it shows).

use api_schema::{SmolStr, Value, format_smolstr};
use api_semantics::time;

use super::look::{Look, is_sidecar};

/// What a node that stopped answering leaves as the reason.
const NODE_LOST: &str = "NodeLost";

/// The cells of a pod's row, the wide ones included.
pub(crate) fn cells(pod: &Value, now: i64) -> Vec<Value> {
    let status = pod.get("status").unwrap_or(&Value::Null);
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let summary = Summary::of(pod, spec, status);
    let restarts = match summary.last_restart {
        Some(at) if summary.restarts != 0 => {
            format_smolstr!("{} ({} ago)", summary.restarts, time::human_duration(now - at))
        }
        _ => format_smolstr!("{}", summary.restarts),
    };
    let or_none = |text: &str| Value::from(if text.is_empty() { "<none>" } else { text });
    vec![
        pod.str_at(&["metadata", "name"]).into(),
        format_smolstr!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        time::age(pod, now),
        or_none(status.items("podIPs").first().map(|ip| ip.text("ip")).unwrap_or_default()),
        or_none(spec.text("nodeName")),
        or_none(status.text("nominatedNodeName")),
        or_none(&readiness_gates(spec, status)),
    ]
}

/// The conditions of a pod's table row: clients may hide rows that are `Completed`.
pub fn row_conditions(pod: &Value) -> Vec<Value> {
    let (reason, message) = match pod.str_at(&["status", "phase"]) {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return Vec::new(),
    };
    vec![Value::from([("type", "Completed"), ("status", "True"), ("reason", reason), ("message", message)])]
}

struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<i64>,
    reason: SmolStr,
}

impl Summary {
    fn of(pod: &Value, spec: &Value, status: &Value) -> Self {
        let init_containers = spec.items("initContainers");
        let sidecar = |name: &str| init_containers.iter().any(|c| c.text("name") == name && is_sidecar(c));
        let mut summary = Self {
            ready: 0,
            total: spec.items("containers").len() + init_containers.iter().filter(|c| is_sidecar(c)).count(),
            restarts: 0,
            last_restart: None,
            reason: match status.text("reason") {
                "" => status.text("phase").into(),
                reason => reason.into(),
            },
        };
        let is_gated = |condition: &Value| {
            condition.text("type") == "PodScheduled" && condition.text("reason") == "SchedulingGated"
        };
        if status.items("conditions").iter().any(is_gated) {
            summary.reason = "SchedulingGated".into();
        }

        let (mut sidecar_restarts, mut sidecar_last_restart, mut initializing) = (0, None, false);
        for (index, container) in status.items("initContainerStatuses").iter().enumerate() {
            let (restarts, last) = (container.int("restartCount").unwrap_or(0), last_finished(container));
            summary.restarts += restarts;
            summary.last_restart = summary.last_restart.max(last);
            let is_sidecar = sidecar(container.text("name"));
            if is_sidecar {
                sidecar_restarts += restarts;
                sidecar_last_restart = sidecar_last_restart.max(last);
            }
            let terminated = container.at(&["state", "terminated"]);
            if terminated.is_some_and(|end| end.int("exitCode").unwrap_or(0) == 0) {
                continue;
            }
            if is_sidecar && container.is_true("started") {
                summary.ready += usize::from(container.is_true("ready"));
                continue;
            }
            let waiting = container.str_at(&["state", "waiting", "reason"]);
            summary.reason = match terminated {
                Some(end) => format_smolstr!("Init:{}", end_reason(end)),
                None if !waiting.is_empty() && waiting != "PodInitializing" => format_smolstr!("Init:{waiting}"),
                None => format_smolstr!("Init:{index}/{}", init_containers.len()),
            };
            initializing = true;
            break;
        }

        if !initializing || has_condition(status, "Initialized") {
            (summary.restarts, summary.last_restart) = (sidecar_restarts, sidecar_last_restart);
            summary.look_at_containers(status);
        }

        let is_deleted = pod.at(&["metadata", "deletionTimestamp"]).is_some();
        if is_deleted && status.text("reason") == NODE_LOST {
            summary.reason = "Unknown".into();
        } else if is_deleted && !matches!(status.text("phase"), "Succeeded" | "Failed") {
            summary.reason = "Terminating".into();
        }
        summary
    }

    fn look_at_containers(&mut self, status: &Value) {
        let (mut has_running, mut error_reason) = (false, None);
        // From the last to the first, so that the first container's trouble is the one that shows.
        for container in status.items("containerStatuses").iter().rev() {
            self.restarts += container.int("restartCount").unwrap_or(0);
            self.last_restart = self.last_restart.max(last_finished(container));
            let waiting = container.str_at(&["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                self.reason = waiting.into();
            } else if let Some(end) = container.at(&["state", "terminated"]) {
                self.reason = end_reason(end);
                if end.int("exitCode").unwrap_or(0) != 0 {
                    error_reason = Some(self.reason.clone());
                }
            } else if container.is_true("ready") && container.at(&["state", "running"]).is_some() {
                has_running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if has_running && has_condition(status, "Ready") {
                self.reason = "Running".into();
            } else if let Some(reason) = error_reason {
                self.reason = reason;
            } else if has_running {
                self.reason = "NotReady".into();
            }
        }
    }
}

fn end_reason(terminated: &Value) -> SmolStr {
    match (terminated.text("reason"), terminated.int("signal").unwrap_or(0)) {
        ("", 0) => format_smolstr!("ExitCode:{}", terminated.int("exitCode").unwrap_or(0)),
        ("", signal) => format_smolstr!("Signal:{signal}"),
        (reason, _) => reason.into(),
    }
}

/// When the container's previous run ended.
fn last_finished(container: &Value) -> Option<i64> {
    time::rfc3339(container.str_at(&["lastState", "terminated", "finishedAt"]))
}

fn has_condition(status: &Value, name: &str) -> bool {
    status.items("conditions").iter().any(|c| c.text("type") == name && c.text("status") == "True")
}

fn readiness_gates(spec: &Value, status: &Value) -> SmolStr {
    let gates = spec.items("readinessGates");
    if gates.is_empty() {
        return SmolStr::default();
    }
    let is_true = |gate: &&Value| {
        let found = status.items("conditions").iter().find(|c| c.text("type") == gate.text("conditionType"));
        found.is_some_and(|condition| condition.text("status") == "True")
    };
    format_smolstr!("{}/{}", gates.iter().filter(is_true).count(), gates.len())
}

#[cfg(test)]
mod tests {
    use crate::checks::tests::json;

    use super::*;

    /// READY, STATUS and RESTARTS of a pod with containers `c` and `d` at 1000 seconds.
    fn summary(spec: &str, status: &str) -> String {
        let spec = format!("{spec},\"containers\":[{{\"name\":\"c\"}},{{\"name\":\"d\"}}]");
        let pod = json(&format!("{{\"metadata\":{{\"name\":\"x\"}},\"spec\":{{{spec}}},\"status\":{{{status}}}}}"));
        let cells = cells(&pod, 1000);
        cells[1..4].iter().map(|cell| cell.as_str().unwrap_or_default()).collect::<Vec<_>>().join(" | ")
    }

    const RUNNING: &str = r#""state":{"running":{}}"#;
    const NONE: &str = r#""nodeName":"n""#;
    const INIT: &str = r#""initContainers":[{"name":"i"},{"name":"s","restartPolicy":"Always"}]"#;

    #[test]
    fn the_status_tells_what_is_amiss() {
        let ready = r#""conditions":[{"type":"Ready","status":"True"}]"#;
        let running = |name: &str| format!("{{\"name\":\"{name}\",\"ready\":true,{RUNNING}}}");
        for (spec, status, expect) in [
            (NONE, r#""phase":"Pending""#.to_owned(), "0/2 | Pending | 0"),
            (NONE, r#""phase":"Failed","reason":"Evicted""#.to_owned(), "0/2 | Evicted | 0"),
            (
                NONE,
                format!(r#""phase":"Running",{ready},"containerStatuses":[{},{}]"#, running("c"), running("d")),
                "2/2 | Running | 0",
            ),
            (
                NONE,
                format!(
                    r#""phase":"Running","containerStatuses":[{},{{"name":"d","restartCount":5,
                        "state":{{"waiting":{{"reason":"CrashLoopBackOff"}}}},
                        "lastState":{{"terminated":{{"exitCode":1,"finishedAt":"1970-01-01T00:11:40Z"}}}}}}]"#,
                    running("c")
                ),
                "1/2 | CrashLoopBackOff | 5 (5m ago)",
            ),
            (
                NONE,
                format!(
                    r#""phase":"Running","containerStatuses":[{},
                        {{"name":"d","state":{{"terminated":{{"exitCode":0,"reason":"Completed"}}}}}}]"#,
                    running("c")
                ),
                "1/2 | NotReady | 0",
            ),
            (
                NONE,
                r#""phase":"Failed","containerStatuses":[{"name":"c","state":{"terminated":{"exitCode":137,"signal":9}}}]"#
                    .to_owned(),
                "0/2 | Signal:9 | 0",
            ),
            (
                INIT,
                r#""phase":"Pending","initContainerStatuses":[{"name":"i","state":{"running":{}}}]"#.to_owned(),
                "0/3 | Init:0/2 | 0",
            ),
            (
                INIT,
                r#""phase":"Pending","initContainerStatuses":[{"name":"i","restartCount":3,
                    "state":{"waiting":{"reason":"CrashLoopBackOff"}}}]"#
                    .to_owned(),
                "0/3 | Init:CrashLoopBackOff | 3",
            ),
            (
                INIT,
                r#""phase":"Pending","initContainerStatuses":[{"name":"i","state":{"terminated":{"exitCode":2}}}]"#
                    .to_owned(),
                "0/3 | Init:ExitCode:2 | 0",
            ),
        ] {
            assert_eq!(summary(spec, &status), expect, "{spec} {status}");
        }
    }

    #[test]
    fn a_pod_that_goes_says_so() {
        for (reason, expect) in [("", "Terminating"), ("NodeLost", "Unknown")] {
            let pod = json(&format!(
                r#"{{"metadata":{{"name":"x","deletionTimestamp":"1970-01-01T00:00:00Z"}},
                    "status":{{"phase":"Running","reason":"{reason}"}}}}"#
            ));
            assert_eq!(cells(&pod, 0)[2].as_str(), Some(expect));
        }
    }

    #[test]
    fn wide_cells_show_where_it_runs() {
        let pod = json(
            r#"{"metadata":{"name":"x","creationTimestamp":"1970-01-01T00:00:00Z"},
                "spec":{"nodeName":"n","readinessGates":[{"conditionType":"a"},{"conditionType":"b"}]},
                "status":{"phase":"Running","podIPs":[{"ip":"1.2.3.4"}],"conditions":[{"type":"a","status":"True"}]}}"#,
        );
        assert_eq!(
            Value::List(cells(&pod, 100)),
            json(r#"["x","0/0","Running","0","100s","1.2.3.4","n","<none>","1/2"]"#)
        );
    }

    #[test]
    fn finished_pods_are_marked() {
        for (phase, expect) in [
            ("Running", "[]"),
            (
                "Succeeded",
                r#"[{"type":"Completed","status":"True","reason":"Succeeded",
                    "message":"The pod has completed successfully."}]"#,
            ),
            ("Failed", r#"[{"type":"Completed","status":"True","reason":"Failed","message":"The pod failed."}]"#),
        ] {
            let pod = json(&format!(r#"{{"status":{{"phase":"{phase}"}}}}"#));
            assert_eq!(Value::List(row_conditions(&pod)), json(expect));
        }
    }
}
