//! The daemon and the shims are killed; nothing is lost, nothing is left.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cri::{GrpcClient, RuntimeService, v1};

use crate::support::{Node, eventually};

#[test]
fn containers_run_on_without_the_daemon() {
    let mut node = Node::start();
    let pod_config = node.pod_config("on", |_| {});
    let pod = node.run_pod(&pod_config);
    let script = "n=0; while [ $n -lt 100 ]; do echo $n; n=$((n+1)); sleep 0.01; done; exit 11";
    let ends = node.container_config(script, |_| {});
    let ends_id = node.create(&pod, &pod_config, &ends).expect("create");
    let stays_id = node.create(&pod, &pod_config, &node.container_config("exec sleep 600", |_| {})).expect("create");
    node.start_container(&ends_id).expect("start");
    node.start_container(&stays_id).expect("start");
    let before = node.status(&stays_id);
    node.kill();
    let log = std::path::Path::new(&pod_config.log_directory).join(&ends.log_path);
    eventually(|| std::fs::read_to_string(&log).ok().filter(|text| text.ends_with(" 99\n")));
    node.spawn();
    let status = node.ended(&ends_id);
    assert_eq!((status.exit_code, status.reason.as_str()), (11, "Error"));
    assert_eq!(node.output(&pod_config, &ends).lines().count(), 100);
    let after = node.status(&stays_id);
    assert_eq!((after.state(), after.started_at), (v1::ContainerState::Running, before.started_at));
    assert_eq!(node.exec(&stays_id, "echo still").1, "still\n");
    node.remove_pod(&pod);
    node.assert_nothing_left();
}

#[test]
fn a_killed_shim_ends_its_containers() {
    let node = Node::start();
    let pod_config = node.pod_config("shim", |_| {});
    let pod = node.run_pod(&pod_config);
    let id = node.create(&pod, &pod_config, &node.container_config("exec sleep 600", |_| {})).expect("create");
    node.start_container(&id).expect("start");
    kill_shim(&node, &pod);
    let status = node.ended(&id);
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    let request = v1::PodSandboxStatusRequest { pod_sandbox_id: pod.clone(), verbose: false };
    eventually(|| {
        let status = node.wait(node.cri().pod_sandbox_status(request.clone())).expect("status").status.expect("status");
        (status.state() == v1::PodSandboxState::Notready).then_some(())
    });
    node.remove_pod(&pod);
    node.assert_nothing_left();
}

#[test]
fn a_shim_killed_behind_the_daemons_back_is_noticed_later() {
    let mut node = Node::start();
    let pod_config = node.pod_config("both", |_| {});
    let pod = node.run_pod(&pod_config);
    let stays = node.create(&pod, &pod_config, &node.container_config("exec sleep 600", |_| {})).expect("create");
    let ends = node.create(&pod, &pod_config, &node.container_config("sleep 0.2; exit 12", |_| {})).expect("create");
    node.start_container(&stays).expect("start");
    node.start_container(&ends).expect("start");
    node.kill();
    // The shim writes exit codes down.
    eventually(|| node.run_folder().join(&pod).join("exits").join(&ends).exists().then_some(()));
    kill_shim(&node, &pod);
    node.spawn();
    let status = node.status(&stays);
    assert_eq!(
        (status.state(), status.exit_code, status.reason.as_str()),
        (v1::ContainerState::Exited, 255, "Unknown")
    );
    let status = node.status(&ends);
    assert_eq!((status.state(), status.exit_code, status.reason.as_str()), (v1::ContainerState::Exited, 12, "Error"));
    node.remove_pod(&pod);
    node.assert_nothing_left();
}

fn kill_shim(node: &Node, pod: &str) {
    let pid = std::fs::read_to_string(node.run_folder().join(pod).join("shim.pid")).expect("pid");
    let pid = rustix::process::Pid::from_raw(pid.trim().parse().expect("pid")).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    eventually(|| rustix::process::test_kill_process(pid).is_err().then_some(()));
}

#[test]
fn a_daemon_killed_at_any_instant_leaves_nothing_half_made() {
    let mut node = Node::start();
    let seed = std::env::var("KUBOX_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut random = fastrand::Rng::with_seed(seed);
    let rounds = 15;
    for round in 0..rounds {
        let endpoint = format!("unix://{}", node.folder.path().join("cri.sock").display());
        let configs: Vec<_> = (0..3).map(|index| node.pod_config(&format!("k{round}-{index}"), |_| {})).collect();
        let container = node.container_config("exec sleep 600", |_| {});
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = configs
            .into_iter()
            .map(|config| {
                let (endpoint, container, stop) = (endpoint.clone(), container.clone(), stop.clone());
                std::thread::spawn(move || {
                    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
                    tokio.block_on(async {
                        while !stop.load(Ordering::Relaxed) {
                            if pod_life(&endpoint, &config, &container).await.is_err() {
                                return;
                            }
                        }
                    });
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(random.u64(5..400)));
        node.kill();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("client");
        }
        node.spawn();
        // Whatever is known runs or has ended, and can be removed.
        let pods = node.wait(node.cri().list_pod_sandbox(Default::default())).expect("list").items;
        for container in node.wait(node.cri().list_containers(Default::default())).expect("list").containers {
            let status = node.status(&container.id);
            if status.state() == v1::ContainerState::Running {
                assert_eq!(node.exec(&container.id, "echo alive").1, "alive\n", "seed {seed}, round {round}");
            }
        }
        for pod in pods {
            node.remove_pod(&pod.id);
        }
        node.assert_nothing_left();
    }
}

async fn pod_life(
    endpoint: &str,
    config: &v1::PodSandboxConfig,
    container: &v1::ContainerConfig,
) -> Result<(), cri::Error> {
    let client = GrpcClient::new(endpoint)?;
    let request = v1::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
    let pod = client.run_pod_sandbox(request).await?.pod_sandbox_id;
    let request = v1::CreateContainerRequest {
        pod_sandbox_id: pod.clone(),
        config: Some(container.clone()),
        sandbox_config: Some(config.clone()),
    };
    let id = client.create_container(request).await?.container_id;
    client.start_container(v1::StartContainerRequest { container_id: id.clone() }).await?;
    client.stop_container(v1::StopContainerRequest { container_id: id, timeout: 0 }).await?;
    client.remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: pod }).await?;
    Ok(())
}
