//! What comes next for a Pod.

use expect_test::{Expect, expect};
use node_agent::plan::{Plan, plan};
use node_agent::pod::Pod;

use crate::story;

fn check(spec: &str, seen: &str, expected: Expect) {
    let pod = story::pod(spec, "");
    let (runtime, probes) = story::runtime(seen, &pod);
    expected.assert_eq(&show(&pod, &plan(&pod, &runtime, &probes)));
}

fn show(pod: &Pod, plan: &Plan) -> String {
    let mut steps = Vec::new();
    if plan.kill_pod {
        steps.push("kill pod".to_owned());
    }
    steps.extend(plan.kill.iter().map(|kill| format!("kill {} ({})", kill.id, kill.message)));
    steps.extend(plan.create_sandbox.map(|attempt| format!("sandbox {attempt}")));
    let names = |places: &[usize], containers: Vec<String>| {
        places.iter().map(|&place| format!("start {}", containers[place])).collect::<Vec<_>>()
    };
    steps.extend(names(&plan.start_ephemeral, pod.ephemeral_containers().map(|c| c.name().to_owned()).collect()));
    steps.extend(names(&plan.start_init, pod.init_containers().map(|c| c.name().to_owned()).collect()));
    steps.extend(names(&plan.start, pod.containers().map(|c| c.name().to_owned()).collect()));
    if steps.is_empty() { "nothing".to_owned() } else { steps.join("; ") }
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_containers() {
    check("Always; a b", "", expect!["kill pod; sandbox 0; start a; start b"]);
    check("Always; init:i a", "", expect!["kill pod; sandbox 0; start i"]);
    check("Always; a b", "ready", expect!["start a; start b"]);
    check("Always; a b", "ready a+", expect!["start b"]);
    check("Always; a", "ready a+", expect!["nothing"]);
}

#[test]
fn a_lost_sandbox_begins_the_pod_anew_if_it_may() {
    check("Always; a", "stopped a!137", expect!["kill pod; sandbox 1; start a"]);
    check("OnFailure; a b", "stopped a!0 b!1", expect!["kill pod; sandbox 1; start b"]);
    check("OnFailure; a", "stopped a!0", expect!["kill pod"]);
    check("Never; a", "stopped a!1", expect!["kill pod"]);
    check("Never; a", "stopped", expect!["kill pod; sandbox 1; start a"]);
    check("Always; init:i a", "stopped i!0 a!1", expect!["kill pod; sandbox 1; start i"]);
    check("Always; a", "ready stopped a+", expect!["nothing"]);
    check("Always; a", "ready ready a+", expect!["kill pod; sandbox 2; start a"]);
    check("Always; host a", "ready a+", expect!["nothing"]);
}

#[test]
fn ended_containers_start_again_by_policy() {
    check("Always; a b", "ready a!0 b+", expect!["start a"]);
    check("OnFailure; a b", "ready a!0 b+", expect!["nothing"]);
    check("OnFailure; a b", "ready a!1 b+", expect!["start a"]);
    check("Never; a b", "ready a!1 b+", expect!["nothing"]);
    check("Never; a/Always b", "ready a!1 b+", expect!["start a"]);
    check("Always; a/Never b", "ready a!1 b+", expect!["nothing"]);
    check("Always; a deleted b", "ready a!1 b+", expect!["nothing"]);
}

#[test]
fn a_pod_whose_work_is_done_is_ended() {
    check("Never; a b", "ready a!0 b!1", expect!["kill pod"]);
    check("OnFailure; a", "ready a!0", expect!["kill pod"]);
    check("Never; side:s a", "ready s+ a!0", expect!["kill pod"]);
    check("Never; side:s a", "ready s!1 a!0", expect!["start s"]);
}

#[test]
fn what_is_half_made_or_unknown_is_made_again() {
    check("Always; a b", "ready a. b+", expect!["start a"]);
    check(
        "Always; a b",
        "ready a? b+",
        expect![[r#"kill a-0 (Container is in "unknown" state, try killing it before restart); start a"#]],
    );
}

#[test]
fn a_failed_probe_ends_a_container_and_its_policy_starts_it_again() {
    check(
        "Always; a(liveness)",
        "ready a+~live=failure",
        expect!["kill a-0 (Container a failed liveness probe, will be restarted); start a"],
    );
    check("Never; a(liveness) b", "ready a+~live=failure b+", expect!["kill a-0 (Container a failed liveness probe)"]);
    check(
        "OnFailure; a(startup)",
        "ready a+~startup=failure",
        expect!["kill a-0 (Container a failed startup probe, will be restarted); start a"],
    );
    check("Always; a(liveness)", "ready a+~live=unknown", expect!["nothing"]);
    check(
        "Never; a b",
        "ready a* b+",
        expect!["kill a-0 (Container a definition changed, will be restarted); start a"],
    );
}

#[test]
fn init_containers_run_one_after_another() {
    check("Always; init:i init:j a", "ready", expect!["start i"]);
    check("Always; init:i init:j a", "ready i+", expect!["nothing"]);
    check("Always; init:i init:j a", "ready i!0", expect!["start j"]);
    check("Always; init:i init:j a", "ready j!0", expect!["start a"]);
    check("Always; init:i init:j a", "ready i!0 j!0 a+", expect!["nothing"]);
    check("Always; init:i init:j a", "ready i!1", expect!["start i"]);
    check("Never; init:i init:j a", "ready i!1", expect!["kill pod"]);
    check("Always; init:i a", "ready i.", expect!["start i"]);
    // They may be gone from the runtime once the Pod runs.
    check("Always; init:i a b", "ready a+", expect!["start b"]);
}

#[test]
fn sidecars_run_beside_the_others() {
    check("Always; side:s init:i a", "ready s+", expect!["start i"]);
    check("Always; side:s(startup) init:i a", "ready s+~startup=unknown", expect!["nothing"]);
    check("Always; side:s(startup) init:i a", "ready s+~startup=success", expect!["start i"]);
    check("Always; side:s init:i a", "ready s+ i!0", expect!["start a"]);
    check("Always; side:s init:i a", "ready s!1 i!0 a+", expect!["start s"]);
    check("Never; side:s a", "ready s!1 a+", expect!["start s"]);
    check("Always; side:s a", "ready a+", expect!["start s"]);
    check("Always; init:i side:s a", "ready i!0 s+", expect!["start a"]);
    check(
        "Always; side:s(liveness) a",
        "ready s+~live=failure a+",
        expect!["kill s-0 (Init container s failed liveness probe); start s"],
    );
}

#[test]
fn ephemeral_containers_start_once() {
    check("Always; eph:e a", "ready a+", expect!["start e"]);
    check("Always; eph:e a", "ready e!1 a+", expect!["nothing"]);
    check("Always; eph:e init:i a", "ready i+", expect!["start e"]);
}
