//! The status that the API shows of a Pod.

use api_codec::json;
use api_schema::Value;
use expect_test::{Expect, expect};
use node_agent::status::{Context, WaitingReasons, generate};

use crate::story;

struct Case<'a> {
    spec: &'a str,
    seen: &'a str,
    /// The status that was reported before, as JSON.
    old: &'a str,
    reasons: &'a [(&'a str, &'a str)],
    terminal: bool,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Case { spec: "Always; a", seen: "ready a+", old: "{}", reasons: &[], terminal: false }
    }
}

fn status_of(case: &Case<'_>) -> Value {
    let pod = story::pod(case.spec, case.old);
    let (runtime, probes) = story::runtime(case.seen, &pod);
    let reasons: WaitingReasons = case
        .reasons
        .iter()
        .map(|(name, reason)| ((*name).into(), ((*reason).into(), format!("why {reason}"))))
        .collect();
    let context = Context {
        old: pod.status().expect("a status"),
        probes: &probes,
        reasons: &reasons,
        runtime_name: "kubox",
        host_ips: &["192.168.0.1".into()],
        now: 1_000,
        terminal: case.terminal,
        failed: None,
    };
    generate(&pod, &runtime, &context)
}

/// One line: phase, the conditions that are false with their reasons, and each container.
fn check(case: Case<'_>, expected: Expect) {
    let status = status_of(&case);
    let mut text = status.str_at(&["phase"]).to_owned();
    for condition in status.list_at(&["conditions"]) {
        if condition.str_at(&["status"]) != "True" {
            text += &format!(" -{}", condition.str_at(&["type"]));
        }
    }
    for field in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        for container in status.list_at(&[field]) {
            let show = |state: &str| {
                let state = container.get(state)?;
                let (kind, fields) = state.as_map()?.iter().next()?;
                let reason = fields.str_at(&["reason"]);
                let code = fields.int_at(&["exitCode"]).map_or(String::new(), |code| format!(" {code}"));
                Some(format!("{kind}{code}{}{reason}", if reason.is_empty() { "" } else { " " }))
            };
            text += &format!("; {}: {}", container.str_at(&["name"]), show("state").unwrap_or_default());
            text += &show("lastState").map_or(String::new(), |last| format!(" after {last}"));
            let flag = |name: &str| if container.bool_at(&[name]) == Some(true) { "" } else { "not " };
            text += &format!(", {}started, {}ready", flag("started"), flag("ready"));
            text += &match container.int_at(&["restartCount"]) {
                Some(0) | None => String::new(),
                Some(count) => format!(", {count} restarts"),
            };
        }
    }
    expected.assert_eq(&text);
}

#[test]
fn a_pod_comes_up() {
    let case = |seen| Case { seen, ..Case::default() };
    check(
        case(""),
        expect![
            "Pending -PodReadyToStartContainers -Ready -ContainersReady; a: waiting ContainerCreating, not started, not ready"
        ],
    );
    check(
        case("ready"),
        expect!["Pending -Ready -ContainersReady; a: waiting ContainerCreating, not started, not ready"],
    );
    check(case("ready a."), expect!["Pending -Ready -ContainersReady; a: waiting, not started, not ready"]);
    check(case("ready a+"), expect!["Running; a: running, started, ready"]);
}

#[test]
fn init_containers_hold_the_others_back() {
    let case = |seen| Case { spec: "Always; init:i a", seen, ..Case::default() };
    check(
        case("ready"),
        expect![
            "Pending -Initialized -Ready -ContainersReady; i: waiting PodInitializing, not started, not ready; a: waiting PodInitializing, not started, not ready"
        ],
    );
    check(
        case("ready i+"),
        expect![
            "Pending -Initialized -Ready -ContainersReady; i: running, started, not ready; a: waiting PodInitializing, not started, not ready"
        ],
    );
    check(
        case("ready i!0"),
        expect![
            "Pending -Ready -ContainersReady; i: terminated 0 Completed, not started, ready; a: waiting PodInitializing, not started, not ready"
        ],
    );
    check(
        case("ready i!0 a+"),
        expect!["Running; i: terminated 0 Completed, not started, ready; a: running, started, ready"],
    );
    check(
        case("ready a+"),
        expect!["Running; i: terminated 0 Completed, not started, ready; a: running, started, ready"],
    );
    let never = |seen| Case { spec: "Never; init:i a", seen, ..Case::default() };
    check(
        never("ready i!1"),
        expect![
            "Failed -Initialized -Ready -ContainersReady; i: terminated 1 Error, not started, not ready; a: waiting PodInitializing, not started, not ready"
        ],
    );
}

#[test]
fn a_crash_loop_shows_its_back_off() {
    let case = |reasons| Case { seen: "ready a!1 a!1", reasons, ..Case::default() };
    check(
        case(&[]),
        expect![
            "Running -Ready -ContainersReady; a: terminated 1 Error after terminated 1 Error, not started, not ready, 1 restarts"
        ],
    );
    check(
        case(&[("a", "CrashLoopBackOff")]),
        expect![
            "Running -Ready -ContainersReady; a: waiting CrashLoopBackOff after terminated 1 Error, not started, not ready, 1 restarts"
        ],
    );
    let pull = Case { seen: "ready", reasons: &[("a", "ImagePullBackOff")], ..Case::default() };
    check(pull, expect!["Pending -Ready -ContainersReady; a: waiting ImagePullBackOff, not started, not ready"]);
}

#[test]
fn ended_pods_are_succeeded_or_failed() {
    let case = |spec, seen, terminal| Case { spec, seen, terminal, ..Case::default() };
    check(
        case("Never; a b", "ready a!0 b!0", false),
        expect![
            "Succeeded -Ready -ContainersReady; a: terminated 0 Completed, not started, not ready; b: terminated 0 Completed, not started, not ready"
        ],
    );
    check(
        case("Never; a b", "ready a!0 b!2", false),
        expect![
            "Failed -Ready -ContainersReady; a: terminated 0 Completed, not started, not ready; b: terminated 2 Error, not started, not ready"
        ],
    );
    check(
        case("OnFailure; a", "ready a!2", false),
        expect!["Running -Ready -ContainersReady; a: terminated 2 Error, not started, not ready"],
    );
    check(
        case("Always; a", "stopped a!0", true),
        expect![
            "Succeeded -PodReadyToStartContainers -Ready -ContainersReady; a: terminated 0 Completed, not started, not ready"
        ],
    );
    check(
        case("Always; a", "stopped a!137", true),
        expect![
            "Failed -PodReadyToStartContainers -Ready -ContainersReady; a: terminated 137 Error, not started, not ready"
        ],
    );
}

#[test]
fn final_phases_stay() {
    let case = Case { old: r#"{"phase":"Failed","reason":"Evicted","message":"m"}"#, ..Case::default() };
    check(Case { ..case }, expect!["Failed -Ready -ContainersReady; a: running, started, ready"]);
    let case = Case { old: r#"{"phase":"Failed","reason":"Evicted","message":"m"}"#, ..Case::default() };
    assert_eq!(status_of(&case).str_at(&["reason"]), "Evicted");
}

#[test]
fn probes_decide_readiness_and_a_restarted_agent_keeps_it() {
    let case = |seen, old| Case { spec: "Always; a(readiness,startup)", seen, old, ..Case::default() };
    check(case("ready a+", "{}"), expect!["Running -Ready -ContainersReady; a: running, not started, not ready"]);
    check(
        case("ready a+~startup=success", "{}"),
        expect!["Running -Ready -ContainersReady; a: running, started, not ready"],
    );
    check(case("ready a+~startup=success,ready=success", "{}"), expect!["Running; a: running, started, ready"]);
    check(
        case("ready a+~startup=success,ready=failure", "{}"),
        expect!["Running -Ready -ContainersReady; a: running, started, not ready"],
    );
    let before = r#"{"containerStatuses":[{"name":"a","containerID":"kubox://a-0","started":true,"ready":true,"state":{"running":{}}}]}"#;
    check(case("ready a+", before), expect!["Running; a: running, started, ready"]);
    check(
        case("ready a+ a!1", before),
        expect![
            "Running -Ready -ContainersReady; a: running after terminated 1 Error, not started, not ready, 1 restarts"
        ],
    );
}

#[test]
fn a_container_that_vanished_has_ended() {
    let before =
        r#"{"containerStatuses":[{"name":"a","containerID":"kubox://a-0","restartCount":2,"state":{"running":{}}}]}"#;
    let case = Case { seen: "ready", old: before, ..Case::default() };
    check(
        case,
        expect![
            "Running -Ready -ContainersReady; a: waiting ContainerCreating after terminated 137 ContainerStatusUnknown, not started, not ready, 3 restarts"
        ],
    );
}

#[test]
fn conditions_keep_their_times_and_those_of_others_stay() {
    let old = r#"{"conditions":[{"type":"Ready","status":"True","lastTransitionTime":"1970-01-01T00:00:05Z"},
        {"type":"my/gate","status":"True"},{"type":"ContainersReady","status":"False","lastTransitionTime":"1970-01-01T00:00:05Z"}]}"#;
    let status = status_of(&Case { old, ..Case::default() });
    let shown: Vec<String> = status
        .list_at(&["conditions"])
        .iter()
        .map(|c| format!("{} {} {}", c.str_at(&["type"]), c.str_at(&["status"]), c.str_at(&["lastTransitionTime"])))
        .collect();
    expect![[r#"
        my/gate True 
        PodReadyToStartContainers True 1970-01-01T00:16:40Z
        Initialized True 1970-01-01T00:16:40Z
        Ready True 1970-01-01T00:00:05Z
        ContainersReady True 1970-01-01T00:16:40Z
        PodScheduled True 1970-01-01T00:16:40Z"#]]
    .assert_eq(&shown.join("\n"));
}

#[test]
fn the_whole_status_is_in_the_shape_of_the_api() {
    let status = status_of(&Case { spec: "Always; a", seen: "ready a!3", ..Case::default() });
    let codec = api_codec::builtin().find("io.k8s.api.core.v1.PodStatus");
    let mut text = Vec::new();
    json::encode(codec, &status, &mut text);
    let decoded = json::decode(codec, &text, json::Options::default()).expect("a PodStatus");
    assert_eq!(decoded.value.list_at(&["containerStatuses"]).len(), 1);
    assert_eq!(decoded.value.str_at(&["podIP"]), "10.0.0.7");
    assert_eq!(decoded.value.str_at(&["hostIP"]), "192.168.0.1");
}
