//! What a container may and may not do, as its processes see it.

use cri::v1;

use crate::support::Node;

fn context(config: &mut v1::ContainerConfig) -> &mut v1::LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

fn profile(kind: v1::ProfileType, file: &str) -> Option<v1::SecurityProfile> {
    Some(v1::SecurityProfile { profile_type: kind as i32, localhost_ref: file.to_owned() })
}

#[test]
fn rights_are_what_was_asked_for() {
    let node = Node::start();
    let check = |script: &str, change: &dyn Fn(&mut v1::ContainerConfig), expect: &str| {
        let (status, text) = node.run_script(script, |_| {}, |config| change(config));
        assert_eq!(text.trim(), expect, "{script}: {} {}", status.reason, status.message);
    };
    let caps = "grep CapEff /proc/self/status | cut -f2";
    let capability = |add: &str, drop: &str| v1::Capability {
        add_capabilities: if add.is_empty() { vec![] } else { vec![add.to_owned()] },
        drop_capabilities: if drop.is_empty() { vec![] } else { vec![drop.to_owned()] },
        ..Default::default()
    };
    check(caps, &|_| {}, "00000000a80425fb");
    check(caps, &|config| context(config).capabilities = Some(capability("", "ALL")), "0000000000000000");
    check(caps, &|config| context(config).capabilities = Some(capability("NET_ADMIN", "ALL")), "0000000000001000");
    check(caps, &|config| context(config).run_as_user = Some(v1::Int64Value { value: 101 }), "0000000000000000");

    check(
        "id",
        &|config| context(config).run_as_username = "web".into(),
        "uid=101(web) gid=102(web) groups=7(logs),102(web)",
    );
    let by_number = |config: &mut v1::ContainerConfig| {
        let context = context(config);
        context.run_as_user = Some(v1::Int64Value { value: 101 });
        context.run_as_group = Some(v1::Int64Value { value: 55 });
        context.supplemental_groups = vec![77];
    };
    check("id -u; id -g; id -G; echo $HOME", &by_number, "101\n55\n55 7 77\n/srv");
    let strict = |config: &mut v1::ContainerConfig| {
        by_number(config);
        context(config).supplemental_groups_policy = v1::SupplementalGroupsPolicy::Strict as i32;
    };
    check("id -G", &strict, "55 77");

    let no_new = "grep NoNewPrivs /proc/self/status | cut -f2";
    check(no_new, &|_| {}, "0");
    check(no_new, &|config| context(config).no_new_privs = true, "1");

    let root = "touch /x 2>/dev/null && echo wrote || echo refused; touch /dev/shm/y && echo shared";
    check(root, &|_| {}, "wrote\nshared");
    check(root, &|config| context(config).readonly_rootfs = true, "refused\nshared");

    let masked = "cat /etc/group | wc -c; ls /root | wc -l; touch /tmp/x 2>/dev/null || echo refused";
    let hide = |config: &mut v1::ContainerConfig| {
        context(config).masked_paths = vec!["/etc/group".into(), "/root".into(), "/absent".into()];
        context(config).readonly_paths = vec!["/tmp".into(), "/absent".into()];
    };
    check(masked, &hide, "0\n0\nrefused");

    check("echo /proc/[0-9]*", &|_| {}, "/proc/1");
    check(
        "cat /proc/1/oom_score_adj",
        &|config| {
            config.linux.get_or_insert_default().resources =
                Some(v1::LinuxContainerResources { oom_score_adj: 500, ..Default::default() });
        },
        "500",
    );
    node.assert_nothing_left();
}

#[test]
fn seccomp_profiles_are_in_force() {
    let node = Node::start();
    let folder = node.folder.path().join("profile.json");
    std::fs::write(
        &folder,
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":1}]}"#,
    )
    .expect("profile");
    let check = |script: &str, seccomp: Option<v1::SecurityProfile>, expect: &str| {
        let (_, text) = node.run_script(script, |_| {}, |config| context(config).seccomp = seccomp);
        assert_eq!(text.trim(), expect, "{script}");
    };
    let mode = "grep 'Seccomp:' /proc/self/status | cut -f2";
    check(mode, None, "2");
    check(mode, profile(v1::ProfileType::RuntimeDefault, ""), "2");
    check(mode, profile(v1::ProfileType::Unconfined, ""), "0");
    // Without CAP_SYS_ADMIN a new user namespace is the one that needs no rights but is refused by the profile.
    let unshare = "unshare -U true 2>/dev/null && echo made || echo refused";
    check(unshare, profile(v1::ProfileType::RuntimeDefault, ""), "refused");
    check(unshare, profile(v1::ProfileType::Unconfined, ""), "made");
    let own = profile(v1::ProfileType::Localhost, &folder.display().to_string());
    check("mkdir /tmp/d 2>/dev/null && echo made || echo refused; touch /tmp/f && echo wrote", own, "refused\nwrote");
    let (status, _) = {
        let pod_config = node.pod_config("missing", |_| {});
        let pod = node.run_pod(&pod_config);
        let config = node.container_config("true", |config| {
            context(config).seccomp = profile(v1::ProfileType::Localhost, "/absent.json");
        });
        (node.create(&pod, &pod_config, &config).expect_err("no such profile"), ())
    };
    assert!(status.message.contains("cannot load seccomp profile"), "{status}");
}

#[test]
fn privileged_containers_may_do_anything() {
    let node = Node::start();
    let script = "grep CapEff /proc/self/status | cut -f2; test -c /dev/kmsg && echo devices; grep 'Seccomp:' /proc/self/status | cut -f2; mount -t tmpfs x /tmp && echo mounted; test -w /sys/fs/cgroup/memory && echo cgroups";
    let (_, text) = node.run_script(script, |_| {}, |config| context(config).privileged = true);
    assert_eq!(
        text,
        "000001ffffffffff\ndevices\n0\nmounted\ncgroups\n"
            .replace("000001ffffffffff", text.lines().next().unwrap_or_default())
    );
    let set = u64::from_str_radix(text.lines().next().expect("a set"), 16).expect("hex");
    assert_ne!(set & (1 << 21), 0, "CAP_SYS_ADMIN is in it");
    node.assert_nothing_left();
}

#[test]
fn devices_are_only_those_that_were_given() {
    let node = Node::start();
    // /dev/fuse, which anybody with the right to may open.
    let script = "mknod /tmp/fuse c 10 229 && (: </tmp/fuse) 2>/dev/null && echo open || echo refused; echo x >/dev/null && echo null; ls /dev | tr '\\n' ' '";
    let (_, text) = node.run_script(script, |_| {}, |_| {});
    let nodes = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    assert_eq!(text, format!("refused\nnull\n{nodes} \n"));
    let given = |config: &mut v1::ContainerConfig| {
        config.devices = vec![v1::Device {
            host_path: "/dev/fuse".into(),
            container_path: "/dev/log0".into(),
            permissions: "r".into(),
        }];
    };
    let (_, text) =
        node.run_script("(: </dev/log0) && echo read; (: >/dev/log0) 2>/dev/null || echo no more", |_| {}, given);
    assert_eq!(text, "read\nno more\n");
}

#[test]
fn limits_are_set_and_changed() {
    let node = Node::start();
    let pod_config = node.pod_config("limits", |_| {});
    let pod = node.run_pod(&pod_config);
    let resources = v1::LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 64 << 20,
        ..Default::default()
    };
    let config = node.container_config("sleep 600", |config| {
        config.linux.get_or_insert_default().resources = Some(resources.clone());
    });
    let id = node.create(&pod, &pod_config, &config).expect("create");
    node.start_container(&id).expect("start");
    let hierarchy = cgroups::Hierarchy::detect().expect("cgroups");
    let cgroup = hierarchy.cgroup(&format!("{}/pods/{id}", node.cgroup));
    let read = |controller: &str, v1_file: &str, v2_file: &str| {
        let file = if hierarchy.is_v2() { v2_file } else { v1_file };
        let path = cgroup.folder(controller).expect("controller").join(file);
        std::fs::read_to_string(path).expect("limit").trim().to_owned()
    };
    let v2 = hierarchy.is_v2();
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
    assert_eq!(read("cpu", "cpu.cfs_quota_us", "cpu.max"), if v2 { "50000 100000" } else { "50000" });
    assert_eq!(read("cpu", "cpu.shares", "cpu.weight"), if v2 { "59" } else { "512" });
    for (megabytes, quota) in [(128, 100_000), (32, 20_000)] {
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.clone(),
            linux: Some(v1::LinuxContainerResources {
                memory_limit_in_bytes: megabytes << 20,
                cpu_quota: quota,
                cpu_period: 100_000,
                ..Default::default()
            }),
            ..Default::default()
        };
        node.wait(cri::RuntimeService::update_container_resources(node.cri(), request)).expect("update");
        assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max"), (megabytes << 20).to_string());
        let resources = node.status(&id).resources.and_then(|resources| resources.linux).expect("resources");
        assert_eq!(
            (resources.memory_limit_in_bytes, resources.cpu_quota, resources.cpu_shares),
            (megabytes << 20, quota, 512)
        );
    }
    let request = v1::ContainerStatsRequest { container_id: id.clone() };
    let stats =
        node.wait(cri::RuntimeService::container_stats(node.cri(), request)).expect("stats").stats.expect("stats");
    assert!(stats.memory.expect("memory").usage_bytes.expect("usage").value > 0);
    assert!(stats.cpu.expect("cpu").usage_core_nano_seconds.expect("time").value > 0);
    node.remove_pod(&pod);
    node.assert_nothing_left();
}

#[test]
fn want_of_memory_is_the_reason() {
    let node = Node::start();
    let (status, _) = node.run_script(
        "exec tail /dev/zero",
        |_| {},
        |config| {
            config.linux.get_or_insert_default().resources =
                Some(v1::LinuxContainerResources { memory_limit_in_bytes: 32 << 20, ..Default::default() });
        },
    );
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    node.assert_nothing_left();
}
