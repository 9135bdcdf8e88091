//! The life of a Pod from its worker's view, in virtual time.

use std::sync::Arc;
use std::time::Duration;

use api_schema::Value;
use expect_test::{Expect, expect};
use node_agent::pod::Pod;
use node_agent::worker::{Desired, End};

use crate::fake::{Behaviour, Fake};
use crate::story;

const SECOND: Duration = Duration::from_secs(1);

fn phase(status: &Value, phase: &str) -> bool {
    status.str_at(&["phase"]) == phase
}

fn ready(status: &Value) -> bool {
    status.list_at(&["conditions"]).iter().any(|c| c.str_at(&["type"]) == "Ready" && c.str_at(&["status"]) == "True")
}

fn waits_for(status: &Value, reason: &str) -> bool {
    let lists = [status.list_at(&["initContainerStatuses"]), status.list_at(&["containerStatuses"])];
    lists.into_iter().flatten().any(|c| c.str_at(&["state", "waiting", "reason"]) == reason)
}

fn restarts(status: &Value) -> i64 {
    status.list_at(&["containerStatuses"]).first().and_then(|c| c.int_at(&["restartCount"])).unwrap_or(0)
}

fn with(pod: &Pod, change: impl FnOnce(&mut Value)) -> Pod {
    let mut object = (**pod.object()).clone();
    change(&mut object);
    Pod::new(Arc::new(object))
}

fn check_log(fake: &Fake, expected: Expect) {
    expected.assert_eq(&fake.take_log().join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_lives_and_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::new();
    let pod = story::pod("Always; init:i a b", "");
    fake.behave("i", Behaviour { ends: Some((3 * SECOND, 0)), ..Behaviour::default() });
    fake.behave("a", Behaviour { stops_after: Some(2 * SECOND), ..Behaviour::default() });
    let (desired, worker) = fake.start(pod.clone(), folder.path().to_owned());
    fake.wait("ready", ready).await;
    let pod = with(&pod, |pod| {
        pod.set(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z");
        pod.set(&["metadata", "deletionGracePeriodSeconds"], 30_i64);
    });
    desired.send_replace(Desired { pod, end: Some(End::Deleted { grace_seconds: 30 }) });
    worker.await.expect("the worker ends");
    check_log(
        &fake,
        expect![[r#"
            0 Pending
            0 run sandbox-1
            0 [Normal i] Pulling: Pulling image "busybox"
            0 [Normal i] Pulled: Successfully pulled image "busybox" in 0s (0s including waiting). Image size: 42 bytes.
            0 [Normal i] Created: Container created
            0 start i-0
            0 [Normal i] Started: Container started
            3 [Normal a] Pulled: Container image "busybox" already present on machine
            3 [Normal a] Created: Container created
            3 start a-0
            3 [Normal a] Started: Container started
            3 [Normal b] Pulled: Container image "busybox" already present on machine
            3 [Normal b] Created: Container created
            3 start b-0
            3 [Normal b] Started: Container started
            3 Running
            3 [Normal b] Killing: Stopping container b
            3 stop b-0 within 30 s
            3 [Normal a] Killing: Stopping container a
            3 stop a-0 within 30 s
            33 stop sandbox-1
            33 Failed
            33 remove b-0
            33 remove a-0
            33 remove i-0
            33 remove sandbox-1
            33 finished"#]],
    );
    let left: Vec<_> = std::fs::read_dir(folder.path().join("root/pods")).expect("pods").collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_backs_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::new();
    fake.behave("a", Behaviour { ends: Some((SECOND, 7)), ..Behaviour::default() });
    let (_desired, worker) = fake.start(story::pod("Always; a", ""), folder.path().to_owned());
    fake.wait("five restarts", |status| restarts(status) == 5).await;
    worker.abort();
    let log = fake.take_log();
    let starts: Vec<&str> = log
        .iter()
        .filter(|line| line.contains("start a-"))
        .map(|line| line.split(' ').next().unwrap_or_default())
        .collect();
    expect![[r#"["0", "1", "12", "33", "74", "155"]"#]].assert_eq(&format!("{starts:?}"));
    let back_off = log.iter().find(|line| line.contains("BackOff")).expect("an event");
    expect!["[Warning a] BackOff: Back-off restarting failed container a in pod pod_ns(u1)"]
        .assert_eq(back_off.split_once(' ').expect("a time").1);
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_is_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::new();
    fake.break_image("busybox:latest", Some("busybox: not found"));
    let (_desired, worker) = fake.start(story::pod("Always; a", ""), folder.path().to_owned());
    fake.wait("ErrImagePull", |status| waits_for(status, "ErrImagePull")).await;
    fake.wait("ImagePullBackOff", |status| waits_for(status, "ImagePullBackOff")).await;
    let message =
        fake.status.borrow().list_at(&["containerStatuses"])[0].str_at(&["state", "waiting", "message"]).to_owned();
    expect![[
        r#"Back-off pulling image "busybox": ErrImagePull: rpc error: code = NotFound desc = busybox: not found"#
    ]]
    .assert_eq(&message);
    fake.break_image("busybox:latest", None);
    fake.wait("ready", ready).await;
    worker.abort();
    check_log(
        &fake,
        expect![[r#"
        0 Pending
        0 run sandbox-1
        0 [Normal a] Pulling: Pulling image "busybox"
        0 [Warning a] Failed: Failed to pull image "busybox": rpc error: code = NotFound desc = busybox: not found
        0 [Warning a] Failed: Error: ErrImagePull
        1 [Normal a] BackOff: Back-off pulling image "busybox"
        1 [Warning a] Failed: Error: ImagePullBackOff
        10 [Normal a] Pulling: Pulling image "busybox"
        10 [Normal a] Pulled: Successfully pulled image "busybox" in 0s (0s including waiting). Image size: 42 bytes.
        10 [Normal a] Created: Container created
        10 start a-0
        10 [Normal a] Started: Container started
        10 Running"#]],
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_creation_is_shown_and_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::new();
    fake.fail_sandbox(Some("no network"));
    let (_desired, worker) = fake.start(story::pod("Always; a b", ""), folder.path().to_owned());
    tokio::time::sleep(10 * SECOND).await;
    fake.fail_sandbox(None);
    fake.fail_create("a", Some("no such file"));
    fake.wait("CreateContainerError", |status| waits_for(status, "CreateContainerError")).await;
    fake.fail_create("a", None);
    fake.wait("ready", ready).await;
    worker.abort();
    check_log(
        &fake,
        expect![[r#"
            0 Pending
            0 [Warning] FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown desc = no network
            1 [Warning] FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown desc = no network
            3 [Warning] FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown desc = no network
            7 [Warning] FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown desc = no network
            15 run sandbox-1
            15 [Normal a] Pulling: Pulling image "busybox"
            15 [Normal a] Pulled: Successfully pulled image "busybox" in 0s (0s including waiting). Image size: 42 bytes.
            15 [Warning a] Failed: Error: no such file
            15 [Normal b] Pulled: Container image "busybox" already present on machine
            15 [Normal b] Created: Container created
            15 start b-0
            15 [Normal b] Started: Container started
            25 [Normal a] Pulled: Container image "busybox" already present on machine
            25 [Normal a] Created: Container created
            25 start a-0
            25 [Normal a] Started: Container started
            25 Running"#]],
    );
}

#[tokio::test(start_paused = true)]
async fn work_that_is_done_succeeds_and_a_sidecar_ends_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::new();
    fake.behave("a", Behaviour { ends: Some((5 * SECOND, 0)), ..Behaviour::default() });
    fake.behave("s", Behaviour { stops_after: Some(SECOND), ..Behaviour::default() });
    let (_desired, worker) = fake.start(story::pod("Never; side:s a", ""), folder.path().to_owned());
    fake.wait("succeeded", |status| phase(status, "Succeeded")).await;
    worker.abort();
    check_log(
        &fake,
        expect![[r#"
            0 Pending
            0 run sandbox-1
            0 [Normal s] Pulling: Pulling image "busybox"
            0 [Normal s] Pulled: Successfully pulled image "busybox" in 0s (0s including waiting). Image size: 42 bytes.
            0 [Normal s] Created: Container created
            0 start s-0
            0 [Normal s] Started: Container started
            0 [Normal a] Pulled: Container image "busybox" already present on machine
            0 [Normal a] Created: Container created
            0 start a-0
            0 [Normal a] Started: Container started
            0 Running
            5 [Normal s] Killing: Stopping container s
            5 stop s-0 within 30 s
            6 stop sandbox-1
            6 Succeeded"#]],
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_a_pod() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::new();
    fake.behave("a", Behaviour { stops_after: Some(SECOND), ..Behaviour::default() });
    let pod = with(&story::pod("Always; a", ""), |pod| pod.set(&["spec", "activeDeadlineSeconds"], 20_i64));
    let (_desired, worker) = fake.start(pod, folder.path().to_owned());
    fake.wait("failed", |status| phase(status, "Failed")).await;
    tokio::time::sleep(5 * SECOND).await;
    worker.abort();
    check_log(
        &fake,
        expect![[r#"
            0 Pending
            0 run sandbox-1
            0 [Normal a] Pulling: Pulling image "busybox"
            0 [Normal a] Pulled: Successfully pulled image "busybox" in 0s (0s including waiting). Image size: 42 bytes.
            0 [Normal a] Created: Container created
            0 start a-0
            0 [Normal a] Started: Container started
            0 Running
            20 Failed DeadlineExceeded
            20 [Normal] DeadlineExceeded: Pod was active on the node longer than the specified deadline
            20 [Normal a] Killing: Stopping container a
            20 stop a-0 within 30 s
            21 stop sandbox-1"#]],
    );
}

#[tokio::test(start_paused = true)]
async fn liveness_restarts_and_hooks_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::new();
    fake.behave("a", Behaviour { stops_after: Some(SECOND), exec_code: 1, ..Behaviour::default() });
    let pod = with(&story::pod("Always; a", ""), |pod| {
        let command = |word: &str| vec![Value::from(word)];
        let mut container = pod.list_at(&["spec", "containers"])[0].clone();
        container.set(&["livenessProbe", "exec", "command"], command("live"));
        container.set(&["livenessProbe", "periodSeconds"], 10_i64);
        container.set(&["livenessProbe", "initialDelaySeconds"], 5_i64);
        container.set(&["livenessProbe", "failureThreshold"], 2_i64);
        container.set(&["lifecycle", "preStop", "exec", "command"], command("bye"));
        pod.set(&["spec", "containers"], vec![container]);
    });
    let (_desired, worker) = fake.start(pod, folder.path().to_owned());
    fake.wait("a restart", |status| restarts(status) == 1).await;
    worker.abort();
    check_log(
        &fake,
        expect![[r#"
        0 Pending
        0 run sandbox-1
        0 [Normal a] Pulling: Pulling image "busybox"
        0 [Normal a] Pulled: Successfully pulled image "busybox" in 0s (0s including waiting). Image size: 42 bytes.
        0 [Normal a] Created: Container created
        0 start a-0
        0 [Normal a] Started: Container started
        0 Running
        5 exec a-0: live
        5 [Warning a] Unhealthy: Liveness probe failed: words
        15 exec a-0: live
        15 [Warning a] Unhealthy: Liveness probe failed: words
        15 [Normal a] Killing: Container a failed liveness probe, will be restarted
        15 exec a-0: bye
        15 [Warning a] FailedPreStopHook: PreStopHook failed
        15 stop a-0 within 30 s
        16 [Normal a] Pulled: Container image "busybox" already present on machine
        16 [Normal a] Created: Container created
        16 start a-1
        16 [Normal a] Started: Container started"#]],
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_is_in_a_hurry_gets_a_shorter_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::new();
    let pod = story::pod("Always; a", "");
    let (desired, worker) = fake.start(pod.clone(), folder.path().to_owned());
    fake.wait("ready", ready).await;
    fake.take_log();
    let deleted = with(&pod, |pod| pod.set(&["metadata", "deletionTimestamp"], "2026-01-01T00:00:00Z"));
    desired.send_replace(Desired { pod: deleted.clone(), end: Some(End::Deleted { grace_seconds: 600 }) });
    tokio::time::sleep(10 * SECOND).await;
    desired.send_replace(Desired { pod: deleted, end: Some(End::Deleted { grace_seconds: 0 }) });
    worker.await.expect("the worker ends");
    check_log(
        &fake,
        expect![[r#"
            0 [Normal a] Killing: Stopping container a
            0 stop a-0 within 600 s
            10 [Normal a] Killing: Stopping container a
            10 stop a-0 within 2 s
            12 stop sandbox-1
            12 Failed
            12 remove a-0
            12 remove sandbox-1
            12 finished"#]],
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_sandbox_is_made_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let fake = Fake::new();
    let (_desired, worker) = fake.start(story::pod("Always; a", ""), folder.path().to_owned());
    fake.wait("ready", ready).await;
    fake.lose_everything();
    fake.wait("a restart", |status| restarts(status) == 1 && ready(status)).await;
    worker.abort();
    check_log(
        &fake,
        expect![[r#"
           0 Pending
           0 run sandbox-1
           0 [Normal a] Pulling: Pulling image "busybox"
           0 [Normal a] Pulled: Successfully pulled image "busybox" in 0s (0s including waiting). Image size: 42 bytes.
           0 [Normal a] Created: Container created
           0 start a-0
           0 [Normal a] Started: Container started
           0 Running
           0 [Normal] SandboxChanged: Pod sandbox changed, it will be killed and re-created.
           0 run sandbox-3
           0 [Normal a] Pulled: Container image "busybox" already present on machine
           0 [Normal a] Created: Container created
           0 start a-1
           0 [Normal a] Started: Container started"#]],
    );
}
