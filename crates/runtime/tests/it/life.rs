//! A pod's life from its making to its removal, as the CRI describes it.

use cri::{RuntimeService, v1};

use crate::support::{IMAGE, Node, labels};

#[test]
fn a_pod_lives_and_leaves_nothing() {
    let node = Node::start();
    let pod_config = node.pod_config("life", |_| {});
    let pod = node.run_pod(&pod_config);
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod.clone(), verbose: true };
    let status = node.wait(node.cri().pod_sandbox_status(request)).expect("status");
    assert_eq!(status.status.expect("status").state(), v1::PodSandboxState::Ready);
    assert!(status.info["info"].contains("\"pid\":"));

    let script = "echo out; echo err >&2; trap 'echo bye; exit 7' USR1; while :; do sleep 0.05; done";
    let config = node.container_config(script, |_| {});
    let id = node.create(&pod, &pod_config, &config).expect("create");
    assert_eq!(node.status(&id).state(), v1::ContainerState::Created);
    node.start_container(&id).expect("start");
    let status = node.status(&id);
    assert_eq!(status.state(), v1::ContainerState::Running);
    assert_eq!(status.image.expect("image").image, IMAGE);
    assert_eq!(node.exec(&id, "echo $FROM_IMAGE $HOSTNAME; pwd; exit 3"), (3, "yes life\n/data\n".into()));

    // The image's stop signal, and the exit code that the container chose.
    node.stop_container(&id, 20);
    let status = node.status(&id);
    assert_eq!((status.state(), status.exit_code, status.reason.as_str()), (v1::ContainerState::Exited, 7, "Error"));
    assert!(status.created_at <= status.started_at && status.started_at <= status.finished_at);
    assert_eq!(node.output(&pod_config, &config), "out\nerr\nbye\n");
    let log = std::fs::read_to_string(&status.log_path).expect("log");
    let streams: Vec<&str> = log.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(streams, ["stdout", "stderr", "stdout"]);

    // Everything may be said twice.
    node.stop_container(&id, 0);
    node.remove_container(&id);
    node.remove_container(&id);
    let gone = v1::ContainerStatusRequest { container_id: id, verbose: false };
    assert!(node.wait(node.cri().container_status(gone)).expect_err("gone").is_not_found());
    node.stop_pod(&pod);
    node.stop_pod(&pod);
    node.remove_pod(&pod);
    node.remove_pod(&pod);
    node.assert_nothing_left();
}

#[test]
fn ends_have_their_codes_and_reasons() {
    let node = Node::start();
    let check = |script: &str, code: i32, reason: &str| {
        let (status, _) = node.run_script(script, |_| {}, |_| {});
        assert_eq!((status.exit_code, status.reason.as_str()), (code, reason), "{script}: {}", status.message);
    };
    check("true", 0, "Completed");
    check("exit 42", 42, "Error");
    check("kill -9 $$; sleep 9", 0, "Completed");
    node.assert_nothing_left();
}

#[test]
fn a_command_that_is_not_there_is_a_start_error() {
    let node = Node::start();
    let check = |command: &str, expect: &str| {
        let (status, _) = node.run_script("", |_| {}, |config| config.command = vec![command.into()]);
        assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
        assert!(status.message.ends_with(expect), "{}", status.message);
    };
    check("nonsense", "exec: \"nonsense\": executable file not found in $PATH");
    check("/nonsense", "exec: \"/nonsense\": stat /nonsense: no such file or directory");
    check("/etc/passwd", "exec: \"/etc/passwd\": permission denied");
    node.assert_nothing_left();
}

#[test]
fn lists_are_filtered() {
    let node = Node::start();
    let one = node.pod_config("one", |_| {});
    let two = node.pod_config("two", |config| config.labels = labels(&[("pod", "two"), ("tier", "back")]));
    let (first, second) = (node.run_pod(&one), node.run_pod(&two));
    let id = node
        .create(&second, &two, &node.container_config("sleep 60", |config| config.labels = labels(&[("a", "b")])))
        .expect("create");
    node.stop_pod(&first);

    let pods = |filter: v1::PodSandboxFilter| -> Vec<String> {
        let request = v1::ListPodSandboxRequest { filter: Some(filter) };
        node.wait(node.cri().list_pod_sandbox(request)).expect("list").items.into_iter().map(|row| row.id).collect()
    };
    let mut both = [first.clone(), second.clone()];
    both.sort();
    assert_eq!(pods(Default::default()), both);
    let ready = v1::PodSandboxStateValue { state: v1::PodSandboxState::Ready as i32 };
    assert_eq!(pods(v1::PodSandboxFilter { state: Some(ready), ..Default::default() }), vec![second.clone()]);
    let label_selector = labels(&[("tier", "back")]);
    assert_eq!(pods(v1::PodSandboxFilter { label_selector, ..Default::default() }), vec![second.clone()]);
    assert_eq!(pods(v1::PodSandboxFilter { id: first[..12].into(), ..Default::default() }), vec![first.clone()]);

    let containers = |filter: v1::ContainerFilter| -> Vec<String> {
        let request = v1::ListContainersRequest { filter: Some(filter) };
        let rows = node.wait(node.cri().list_containers(request)).expect("list").containers;
        rows.into_iter().map(|row| row.id).collect()
    };
    assert_eq!(containers(v1::ContainerFilter { pod_sandbox_id: second, ..Default::default() }), vec![id.clone()]);
    assert_eq!(
        containers(v1::ContainerFilter { label_selector: labels(&[("a", "c")]), ..Default::default() }),
        [""; 0]
    );
    let running = v1::ContainerStateValue { state: v1::ContainerState::Running as i32 };
    assert_eq!(containers(v1::ContainerFilter { state: Some(running), ..Default::default() }), [""; 0]);
}

#[test]
fn a_hundred_sandboxes_leave_nothing() {
    let node = Node::start();
    for round in 0..10 {
        let configs: Vec<_> = (0..10).map(|index| node.pod_config(&format!("p{round}-{index}"), |_| {})).collect();
        let pods: Vec<String> = configs.iter().map(|config| node.run_pod(config)).collect();
        for (pod, config) in pods.iter().zip(&configs) {
            let id = node.create(pod, config, &node.container_config("sleep 600", |_| {})).expect("create");
            node.start_container(&id).expect("start");
        }
        for pod in &pods {
            node.remove_pod(pod);
        }
    }
    node.assert_nothing_left();
}
