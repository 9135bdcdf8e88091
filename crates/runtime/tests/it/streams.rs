//! Commands run in containers, and what is read from and written to them.

use std::time::Duration;

use cri::{Code, RuntimeService, v1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Node, eventually};

fn exec_sync(node: &Node, id: &str, script: &str, timeout: i64) -> Result<v1::ExecSyncResponse, cri::Error> {
    let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
    node.wait(node.cri().exec_sync(v1::ExecSyncRequest { container_id: id.into(), cmd, timeout }))
}

#[test]
fn a_command_has_its_streams_its_code_and_its_time() {
    let node = Node::start();
    let pod_config = node.pod_config("exec", |_| {});
    let pod = node.run_pod(&pod_config);
    let id = node.create(&pod, &pod_config, &node.container_config("exec sleep 600", |_| {})).expect("create");
    let early = exec_sync(&node, &id, "true", 0).expect_err("it does not run");
    assert_eq!(early.message, "container is in CONTAINER_CREATED state");
    node.start_container(&id).expect("start");
    let answer = exec_sync(&node, &id, "echo out; echo err >&2; exit 5", 0).expect("exec");
    assert_eq!(
        (answer.stdout.as_slice(), answer.stderr.as_slice(), answer.exit_code),
        (&b"out\n"[..], &b"err\n"[..], 5)
    );
    // More than a pipe holds.
    let answer = exec_sync(&node, &id, "head -c 1000000 /dev/zero", 0).expect("exec");
    assert_eq!(answer.stdout.len(), 1_000_000);
    let late = exec_sync(&node, &id, "sleep 606", 1).expect_err("too slow");
    assert_eq!(late.code, Code::DeadlineExceeded);
    eventually(|| {
        exec_sync(&node, &id, "! ps -o args | grep -q '^sleep 606'", 0).ok().filter(|answer| answer.exit_code == 0)
    });
    let absent = node
        .wait(node.cri().exec_sync(v1::ExecSyncRequest {
            container_id: id.clone(),
            cmd: vec!["nonsense".into()],
            timeout: 0,
        }))
        .expect_err("no such program");
    assert!(absent.message.contains("exec: \"nonsense\": executable file not found in $PATH"), "{absent}");
    // A command that ends at once is not lost.
    for _ in 0..50 {
        assert_eq!(exec_sync(&node, &id, "exit 9", 10).expect("exec").exit_code, 9);
    }
    node.remove_pod(&pod);
    node.assert_nothing_left();
}

/// The runtime within the test, for what the CRI leaves to a streaming server. The test's thread has a mount namespace of
/// its own; tokio runs on it alone.
fn within(test: impl AsyncFnOnce(&runtime::Runtime, &str, &str)) {
    let mut node = Node::start();
    let pod_config = node.pod_config("streams", |_| {});
    let pod = node.run_pod(&pod_config);
    let script = "trap 'echo sized $(stty size)' WINCH; echo ready; while read line || test -t 0; do echo got $line; echo no $line >&2; done; echo end";
    let plain = node.container_config(script, |config| (config.stdin, config.stdin_once) = (true, true));
    let plain = node.create(&pod, &pod_config, &plain).expect("create");
    let terminal = node.container_config(script, |config| (config.stdin, config.tty) = (true, true));
    let terminal = node.create(&pod, &pod_config, &terminal).expect("create");
    node.start_container(&plain).expect("start");
    node.start_container(&terminal).expect("start");
    // Another daemon takes over: this test.
    node.kill();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
    tokio.block_on(async {
        let folder = node.folder.path();
        let images = images::Images::open(images::Config::new(folder.join("images"))).expect("images");
        let network = std::sync::Arc::new(runtime::LoopbackOnly);
        let mut config = runtime::Config::new(folder.join("state"), folder.join("run"), images, network);
        config.cgroup_parent = format!("{}/pods", node.cgroup);
        config.shim_cgroup = format!("{}/shims", node.cgroup);
        let runtime = runtime::Runtime::open(config).await.expect("open");
        tokio::time::timeout(Duration::from_secs(60), test(&runtime, &plain, &terminal)).await.expect("in time");
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: pod };
        runtime.remove_pod_sandbox(request).await.expect("remove");
    });
    drop(tokio);
    node.assert_nothing_left();
}

async fn read_until(stream: &mut runtime::ProcessStream, end: &str) -> String {
    let mut text = Vec::new();
    while !String::from_utf8_lossy(&text).contains(end) {
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.expect("read");
        assert_ne!(count, 0, "ended after {:?}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&bytes[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn attaching_gives_a_running_containers_streams() {
    within(async |runtime, plain, _| {
        let mut streams = runtime.attach_streams(plain, [true, true, true]).await.expect("attach");
        let (mut stdout, mut stderr) = (streams.stdout.take().expect("stdout"), streams.stderr.take().expect("stderr"));
        streams.stdin.as_mut().expect("stdin").write_all(b"one\n").await.expect("write");
        assert_eq!(read_until(&mut stdout, "\n").await, "got one\n");
        assert_eq!(read_until(&mut stderr, "\n").await, "no one\n");
        // A second one sees it too, from now on.
        let mut other = runtime.attach_streams(plain, [false, true, false]).await.expect("attach");
        streams.stdin.as_mut().expect("stdin").write_all(b"two\n").await.expect("write");
        assert_eq!(read_until(other.stdout.as_mut().expect("stdout"), "\n").await, "got two\n");
        assert_eq!(read_until(&mut stdout, "\n").await, "got two\n");
        drop(other);
        streams.close_stdin().await.expect("close");
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).await.expect("read");
        assert_eq!(rest, "end\n");
    });
}

#[test]
fn a_terminal_is_attached_to_and_resized() {
    within(async |runtime, _, terminal| {
        let mut streams = runtime.attach_streams(terminal, [true, true, true]).await.expect("attach");
        assert!(streams.stderr.is_none());
        let mut stdout = streams.stdout.take().expect("stdout");
        streams.stdin.as_mut().expect("stdin").write_all(b"x\n").await.expect("write");
        let text = read_until(&mut stdout, "no x\r\n").await;
        assert!(text.contains("got x\r\n"), "{text:?}");
        streams.resize(runtime::TerminalSize { width: 111, height: 33 }).expect("resize");
        read_until(&mut stdout, "sized 33 111\r\n").await;
    });
}

#[test]
fn commands_have_terminals_and_input() {
    within(async |runtime, plain, _| {
        let command = |script: &str| ["sh", "-c", script].map(str::to_owned).to_vec();
        let mut exec =
            runtime.exec_streams(plain, command("cat; exit 4"), false, [true, true, true]).await.expect("exec");
        exec.stdin.as_mut().expect("stdin").write_all(b"through").await.expect("write");
        exec.stdin = None;
        let mut text = String::new();
        exec.stdout.take().expect("stdout").read_to_string(&mut text).await.expect("read");
        assert_eq!((text.as_str(), exec.wait().await.expect("code")), ("through", 4));

        let script = "test -t 0 && test -t 1 && echo terminal $TERM; read line; stty size; exit 6";
        let mut exec = runtime.exec_streams(plain, command(script), true, [true, true, true]).await.expect("exec");
        let mut stdout = exec.stdout.take().expect("stdout");
        assert_eq!(read_until(&mut stdout, "\n").await, "terminal xterm\r\n");
        exec.resize(runtime::TerminalSize { width: 90, height: 40 }).expect("resize");
        exec.stdin.as_mut().expect("stdin").write_all(b"go\n").await.expect("write");
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).await.expect("read");
        assert_eq!((rest.as_str(), exec.wait().await.expect("code")), ("go\r\n40 90\r\n", 6));
    });
}

#[test]
fn connections_reach_a_pods_own_ports() {
    within(async |runtime, plain, _| {
        let containers = runtime.list_containers(v1::ListContainersRequest::default()).await.expect("list").containers;
        let sandbox = containers[0].pod_sandbox_id.clone();
        let listen = ["sh", "-c", "nc -l -p 8080 -e cat"].map(str::to_owned).to_vec();
        let _listener = runtime.exec_streams(plain, listen, false, [false; 3]).await.expect("exec");
        let mut stream = loop {
            match runtime.connect_port(&sandbox, 8080).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        stream.write_all(b"echo me").await.expect("write");
        let mut bytes = [0; 7];
        stream.read_exact(&mut bytes).await.expect("read");
        assert_eq!(&bytes, b"echo me");
        let refused = runtime.connect_port(&sandbox, 9999).await.expect_err("nobody listens");
        assert!(refused.message.contains("refused"), "{refused}");
    });
}
