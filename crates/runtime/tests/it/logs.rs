//! Logs: every line once, whatever happens to the file and to the daemon.

use std::path::Path;

use cri::{RuntimeService, v1};

use crate::support::{Node, doubled, eventually};

#[test]
fn long_lines_are_in_parts_and_ends_without_newline_are_kept() {
    let node = Node::start();
    let script = "head -c 40000 /dev/zero | tr '\\0' x; echo; printf unfinished";
    let pod_config = node.pod_config("long", |_| {});
    let pod = node.run_pod(&pod_config);
    let config = node.container_config(script, |_| {});
    let id = node.create(&pod, &pod_config, &config).expect("create");
    node.start_container(&id).expect("start");
    let status = node.ended(&id);
    let log = std::fs::read_to_string(status.log_path).expect("log");
    let shape: Vec<(&str, usize)> = log
        .lines()
        .map(|line| {
            let mut parts = line.splitn(4, ' ').skip(2);
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default().len())
        })
        .collect();
    assert_eq!(shape, [("P", 16384), ("P", 16384), ("F", 40000 - 2 * 16384), ("P", 10)]);
}

#[test]
fn a_fast_writer_loses_nothing_through_rotations_and_a_killed_daemon() {
    let mut node = Node::start();
    let pod_config = node.pod_config("fast", |_| {});
    let pod = node.run_pod(&pod_config);
    let lines = 400_000;
    let config = node.container_config(
        &format!(
            "awk 'BEGIN {{ for (i = 0; i < {lines}; i++) print \"line\", i + 1000000, \"{}\" }}'",
            "x".repeat(200)
        ),
        |_| {},
    );
    let id = node.create(&pod, &pod_config, &config).expect("create");
    node.start_container(&id).expect("start");
    let path = node.status(&id).log_path;
    let mut parts = Vec::new();
    for round in 0..6 {
        let rotated = format!("{path}.{round}");
        let ended = || node.status(&id).state() == v1::ContainerState::Exited;
        let grown = || std::fs::metadata(&path).is_ok_and(|file| file.len() > 0);
        eventually(|| (grown() || ended()).then_some(()));
        if ended() {
            // All of it is in the parts on a quick machine.
            break;
        }
        std::fs::rename(&path, &rotated).expect("rotate");
        parts.push(rotated);
        if round == 2 {
            node.kill();
            node.spawn();
        }
        let request = v1::ReopenContainerLogRequest { container_id: id.clone() };
        if node.wait(node.cri().reopen_container_log(request)).is_err() {
            // It has ended meanwhile.
            break;
        }
    }
    assert_eq!(node.ended(&id).exit_code, 0);
    parts.push(path);
    let text: String = parts.iter().filter_map(|part| std::fs::read_to_string(Path::new(part)).ok()).collect();
    let numbers: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(doubled(numbers.iter().copied()), Default::default());
    assert_eq!(numbers.len(), lines);
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "in order");
    node.remove_pod(&pod);
    node.assert_nothing_left();
}

#[test]
fn a_full_disk_holds_the_container_back_and_loses_nothing() {
    let node = Node::start();
    let small = node.folder.path().join("small");
    std::fs::create_dir(&small).expect("folder");
    rustix::mount::mount("t", &small, "tmpfs", rustix::mount::MountFlags::empty(), c"size=1m").expect("mount");
    let pod_config = node.pod_config("full", |config| config.log_directory = small.display().to_string());
    let pod = node.run_pod(&pod_config);
    let config = node.container_config("seq 1 100000", |_| {});
    let id = node.create(&pod, &pod_config, &config).expect("create");
    node.start_container(&id).expect("start");
    let path = node.status(&id).log_path;
    let (mut text, mut round) = (String::new(), 0);
    while !text.ends_with(" 100000\n") {
        let part = eventually(|| {
            let part = std::fs::read_to_string(&path).unwrap_or_default();
            // While the disk is full nothing is added.
            (part.len() > (1 << 20) - 4096 || part.ends_with(" 100000\n")).then_some(part)
        });
        // Whoever takes the log away makes room; the shim appends.
        std::fs::OpenOptions::new().write(true).truncate(true).open(&path).expect("truncate");
        text.push_str(&part);
        round += 1;
    }
    assert_eq!(node.ended(&id).exit_code, 0);
    let numbers: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(3)).collect();
    assert_eq!(numbers, (1..=100_000).map(|number: u32| number.to_string()).collect::<Vec<_>>());
    assert!(round > 1, "the disk was full at least once");
    node.remove_pod(&pod);
    rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH).expect("unmount");
    node.assert_nothing_left();
}
