//! What the containers of a pod share, with each other and with the node.

use cri::{RuntimeService, v1};

use crate::support::{Node, eventually, labels};

fn namespaces(config: &mut v1::PodSandboxConfig) -> &mut v1::NamespaceOption {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options.get_or_insert_default()
}

fn container_namespaces(config: &mut v1::ContainerConfig) -> &mut v1::NamespaceOption {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options.get_or_insert_default()
}

#[test]
fn names_and_files_of_the_pod_are_the_containers() {
    let node = Node::start();
    let pod = |config: &mut v1::PodSandboxConfig| {
        config.hostname = "shown".into();
        config.dns_config = Some(v1::DnsConfig {
            servers: vec!["10.0.0.10".into()],
            searches: vec!["a.local".into(), "b.local".into()],
            options: vec!["ndots:5".into()],
        });
        config.linux.get_or_insert_default().sysctls =
            labels(&[("kernel.shmmax", "123456"), ("net.ipv4.ip_forward", "1")]);
    };
    let script = "hostname; cat /etc/hostname /etc/resolv.conf /proc/sys/kernel/shmmax /proc/sys/net/ipv4/ip_forward; cat /sys/class/net/lo/operstate; ls /sys/class/net";
    let (_, text) = node.run_script(script, pod, |_| {});
    assert_eq!(
        text,
        "shown\nshown\nsearch a.local b.local\nnameserver 10.0.0.10\noptions ndots:5\n123456\n1\nunknown\nlo\n"
    );
    node.assert_nothing_left();
}

#[test]
fn a_setting_of_the_node_is_refused() {
    let node = Node::start();
    let config = node.pod_config("sysctl", |config| {
        config.linux.get_or_insert_default().sysctls = labels(&[("kernel.panic", "1")]);
    });
    let request = v1::RunPodSandboxRequest { config: Some(config), ..Default::default() };
    let error = node.wait(node.cri().run_pod_sandbox(request)).expect_err("refused");
    assert!(error.message.contains("kernel.panic"), "{error}");
    node.assert_nothing_left();
}

#[test]
fn processes_are_shared_when_asked_for() {
    let node = Node::start();
    let pod_config = node.pod_config("shared", |config| namespaces(config).pid = v1::NamespaceMode::Pod as i32);
    let pod = node.run_pod(&pod_config);
    let shared = |config: &mut v1::ContainerConfig| container_namespaces(config).pid = v1::NamespaceMode::Pod as i32;
    let first = node.create(&pod, &pod_config, &node.container_config("exec sleep 601", shared)).expect("create");
    node.start_container(&first).expect("start");
    // An orphan of one container is waited for by the pod's init.
    let script = "(sleep 0.1 &) ; exec sleep 602";
    let second = node.create(&pod, &pod_config, &node.container_config(script, shared)).expect("create");
    node.start_container(&second).expect("start");
    let (_, text) =
        node.exec(&second, "cat /proc/1/comm; ps -o args | grep '^sleep 60'; ls /proc/1/root/ 2>&1 | head -1");
    assert_eq!(text, "pause\nsleep 601\nsleep 602\nls: /proc/1/root/: Permission denied\n");
    eventually(|| node.exec(&second, "! ps -o stat,args | grep -q '^Z'").0.eq(&0).then_some(()));
    node.stop_container(&first, 0);
    assert_eq!(node.status(&first).exit_code, 137);
    assert_eq!(node.exec(&second, "ps -o args | grep -c '^sleep 601'").1, "0\n");
    node.remove_pod(&pod);
    node.assert_nothing_left();
}

#[test]
fn a_debugger_sees_the_processes_of_its_target() {
    let node = Node::start();
    let pod_config = node.pod_config("target", |_| {});
    let pod = node.run_pod(&pod_config);
    let target = node.create(&pod, &pod_config, &node.container_config("exec sleep 603", |_| {})).expect("create");
    node.start_container(&target).expect("start");
    let config = node.container_config("ps -o args | grep '^sleep 603'", |config| {
        let options = container_namespaces(config);
        options.pid = v1::NamespaceMode::Target as i32;
        options.target_id.clone_from(&target);
    });
    let debugger = node.create(&pod, &pod_config, &config).expect("create");
    node.start_container(&debugger).expect("start");
    assert_eq!(node.ended(&debugger).exit_code, 0);
    assert_eq!(node.output(&pod_config, &config), "sleep 603\n");
    node.remove_pod(&pod);
    node.assert_nothing_left();
}

#[test]
fn the_nodes_namespaces_are_shared_when_asked_for() {
    let node = Node::start();
    let link =
        |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("namespace").display().to_string();
    let expect: Vec<String> = ["net", "ipc", "pid", "uts"].iter().map(|kind| link(kind)).collect();
    let script = "for n in net ipc pid uts; do readlink /proc/self/ns/$n; done";
    let pod = |config: &mut v1::PodSandboxConfig| {
        config.hostname = String::new();
        let options = namespaces(config);
        options.network = v1::NamespaceMode::Node as i32;
        options.ipc = v1::NamespaceMode::Node as i32;
        options.pid = v1::NamespaceMode::Node as i32;
    };
    let (_, text) = node.run_script(script, pod, |config| {
        let options = container_namespaces(config);
        options.network = v1::NamespaceMode::Node as i32;
        options.ipc = v1::NamespaceMode::Node as i32;
        options.pid = v1::NamespaceMode::Node as i32;
    });
    assert_eq!(text.lines().collect::<Vec<_>>(), expect);
    let (_, own) = node.run_script(script, |_| {}, |_| {});
    assert!(own.lines().zip(&expect).all(|(own, host)| own != host), "{own}");
    // What a container of the node's processes leaves running ends with it.
    let (status, _) = node.run_script("sleep 604 & exit 5", pod, |config| {
        container_namespaces(config).pid = v1::NamespaceMode::Node as i32;
    });
    assert_eq!(status.exit_code, 5);
    node.assert_nothing_left();
}

#[test]
fn mounts_are_as_asked_for() {
    let node = Node::start();
    let host = node.folder.path().join("host");
    std::fs::create_dir_all(host.join("below")).expect("folder");
    std::fs::write(host.join("file"), "from the host\n").expect("file");
    rustix::mount::mount("t", host.join("below"), "tmpfs", rustix::mount::MountFlags::empty(), None::<&std::ffi::CStr>)
        .expect("mount");
    let mount = |path: &str, to: &str, change: &dyn Fn(&mut v1::Mount)| {
        let mut mount = v1::Mount {
            host_path: host.join(path).display().to_string(),
            container_path: to.into(),
            ..Default::default()
        };
        change(&mut mount);
        mount
    };
    let write = |at: &str| format!("(touch {at}/x 2>/dev/null && echo wrote || echo refused);");
    let script =
        ["cat /one;", &write("/two"), &write("/three"), &write("/three/below"), &write("/four/below"), "ls /made"]
            .concat();
    let (_, text) = node.run_script(
        &script,
        |_| {},
        |config| {
            config.mounts = vec![
                mount("file", "/one", &|_| {}),
                mount("", "/two", &|_| {}),
                mount("", "/three", &|mount| mount.readonly = true),
                mount("", "/four", &|mount| (mount.readonly, mount.recursive_read_only) = (true, true)),
                mount("new/folder", "/made", &|_| {}),
            ];
        },
    );
    assert_eq!(text, "from the host\nwrote\nrefused\nwrote\nrefused\n");
    assert!(host.join("new/folder").is_dir() && host.join("x").exists());
    rustix::mount::unmount(host.join("below"), rustix::mount::UnmountFlags::empty()).expect("unmount");
    node.assert_nothing_left();
}

#[test]
fn mounts_propagate_as_asked_for() {
    use rustix::mount::{MountPropagationFlags as Flags, mount_bind, mount_change, unmount};
    let node = Node::start();
    let shared = node.folder.path().join("shared");
    for name in ["from-host", "from-container"] {
        std::fs::create_dir_all(shared.join(name)).expect("folder");
    }
    mount_bind(&shared, &shared).expect("mount");
    mount_change(&shared, Flags::SHARED).expect("share");
    let pod_config = node.pod_config("propagation", |_| {});
    let pod = node.run_pod(&pod_config);
    let config = node.container_config("sleep 605", |config| {
        config.linux.get_or_insert_default().security_context.get_or_insert_default().privileged = true;
        config.mounts =
            [v1::MountPropagation::Private, v1::MountPropagation::HostToContainer, v1::MountPropagation::Bidirectional]
                .map(|propagation| v1::Mount {
                    host_path: shared.display().to_string(),
                    container_path: format!("/{propagation:?}").to_lowercase(),
                    propagation: propagation as i32,
                    ..Default::default()
                })
                .to_vec();
    });
    let id = node.create(&pod, &pod_config, &config).expect("create");
    node.start_container(&id).expect("start");
    rustix::mount::mount(
        "t",
        shared.join("from-host"),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        None::<&std::ffi::CStr>,
    )
    .expect("mount");
    std::fs::write(shared.join("from-host/seen"), "").expect("file");
    let look = "for m in private hosttocontainer bidirectional; do test -e /$m/from-host/seen && echo seen || echo hidden; done";
    assert_eq!(node.exec(&id, look).1, "hidden\nseen\nseen\n");
    assert_eq!(
        node.exec(&id, "mount -t tmpfs t /bidirectional/from-container && touch /bidirectional/from-container/back"),
        (0, String::new())
    );
    assert!(shared.join("from-container/back").exists());
    for at in [shared.join("from-host"), shared.join("from-container"), shared.clone()] {
        unmount(&at, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    }
    node.remove_pod(&pod);
    node.assert_nothing_left();
}

#[test]
fn events_tell_what_happens() {
    let node = Node::start();
    let events = node.wait(node.cri().get_container_events(v1::GetEventsRequest {})).expect("events");
    let pod_config = node.pod_config("events", |_| {});
    let pod = node.run_pod(&pod_config);
    let id = node.create(&pod, &pod_config, &node.container_config("exit 3", |_| {})).expect("create");
    node.start_container(&id).expect("start");
    node.ended(&id);
    node.remove_pod(&pod);
    let told = node.wait(async {
        use tokio_stream::StreamExt;
        events.take(8).map(|event| event.expect("event")).collect::<Vec<_>>().await
    });
    let shown: Vec<String> = told
        .iter()
        .map(|event| {
            format!(
                "{} {:?}",
                if event.container_id == pod { "pod" } else { "container" },
                event.container_event_type()
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "pod CreatedEvent",
            "pod StartedEvent",
            "container CreatedEvent",
            "container StartedEvent",
            "container StoppedEvent",
            "pod StoppedEvent",
            "container DeletedEvent",
            "pod DeletedEvent"
        ]
    );
    let stopped = &told[4];
    assert_eq!(stopped.containers_statuses[0].exit_code, 3);
    assert_eq!(stopped.pod_sandbox_status.as_ref().expect("sandbox").id, pod);
}
