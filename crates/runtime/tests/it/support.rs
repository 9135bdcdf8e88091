//! A daemon for tests: started, killed and started again, with everything of its own; and what CRI calls take.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cgroups::Hierarchy;
use cri::{GrpcClient, RuntimeService, v1};
use rustix::mount::{MountPropagationFlags, mount_change};

/// The image of the tests.
pub(crate) const IMAGE: &str = "docker.io/library/busybox:test";
/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A daemon with its folder and its cgroup.
pub(crate) struct Node {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) cgroup: String,
    child: Option<Child>,
    client: Option<GrpcClient>,
    tokio: tokio::runtime::Runtime,
    attempts: AtomicU32,
}

impl Node {
    /// Starts a daemon. It and everything that it makes live in a mount namespace of the test's thread.
    pub(crate) fn start() -> Node {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("tests run as root");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("private mounts");
        let folder = tempfile::tempdir().expect("folder");
        std::fs::create_dir(folder.path().join("archives")).expect("folder");
        std::fs::write(folder.path().join("archives/busybox.tar"), busybox_archive()).expect("archive");
        let cgroup = format!("/kubox-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("tokio");
        let mut node = Node { folder, cgroup, child: None, client: None, tokio, attempts: AtomicU32::new(0) };
        node.spawn();
        node
    }

    /// Starts the (next) daemon and waits until it answers.
    pub(crate) fn spawn(&mut self) {
        let child = Command::new(env!("CARGO_BIN_EXE_runtime-host"))
            .args([self.folder.path().as_os_str(), self.cgroup.as_ref()])
            .stdin(Stdio::null())
            .spawn()
            .expect("start the daemon");
        self.child = Some(child);
        let socket = self.folder.path().join("cri.sock");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().expect("child")) {
                panic!("the daemon ended: {status}");
            }
            let client = GrpcClient::new(&format!("unix://{}", socket.display())).expect("client");
            if self.tokio.block_on(client.version(v1::VersionRequest::default())).is_ok() {
                self.client = Some(client);
                return;
            }
            assert!(Instant::now() < deadline, "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the daemon as the kernel would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
        let _ = std::fs::remove_file(self.folder.path().join("cri.sock"));
    }

    pub(crate) fn cri(&self) -> &GrpcClient {
        self.client.as_ref().expect("a daemon runs")
    }

    /// Waits for the answer to a call.
    pub(crate) fn wait<T>(&self, reply: impl Future<Output = T>) -> T {
        self.tokio.block_on(async { tokio::time::timeout(PATIENCE, reply).await.expect("an answer in time") })
    }

    pub(crate) fn run_folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.path().join("logs")
    }

    /// A pod's description; `change` makes it differ.
    pub(crate) fn pod_config(
        &self,
        name: &str,
        change: impl FnOnce(&mut v1::PodSandboxConfig),
    ) -> v1::PodSandboxConfig {
        let mut config = v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: name.into(),
                uid: format!("uid-{name}"),
                namespace: "default".into(),
                attempt: self.attempts.fetch_add(1, Ordering::Relaxed),
            }),
            hostname: name.into(),
            log_directory: self.logs().join(name).display().to_string(),
            labels: HashMap::from([("pod".to_owned(), name.to_owned())]),
            linux: Some(v1::LinuxPodSandboxConfig {
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(v1::NamespaceOption {
                        pid: v1::NamespaceMode::Container as i32,
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        change(&mut config);
        config
    }

    pub(crate) fn run_pod(&self, config: &v1::PodSandboxConfig) -> String {
        let request = v1::RunPodSandboxRequest { config: Some(config.clone()), ..Default::default() };
        self.wait(self.cri().run_pod_sandbox(request)).expect("run pod").pod_sandbox_id
    }

    /// A container's description: it runs a shell command.
    pub(crate) fn container_config(
        &self,
        script: &str,
        change: impl FnOnce(&mut v1::ContainerConfig),
    ) -> v1::ContainerConfig {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        let mut config = v1::ContainerConfig {
            metadata: Some(v1::ContainerMetadata { name: "main".into(), attempt }),
            image: Some(v1::ImageSpec { image: IMAGE.into(), ..Default::default() }),
            command: vec!["sh".into(), "-c".into(), script.into()],
            log_path: format!("main-{attempt}.log"),
            linux: Some(v1::LinuxContainerConfig {
                security_context: Some(v1::LinuxContainerSecurityContext {
                    namespace_options: Some(v1::NamespaceOption {
                        pid: v1::NamespaceMode::Container as i32,
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        change(&mut config);
        config
    }

    pub(crate) fn create(
        &self,
        pod: &str,
        pod_config: &v1::PodSandboxConfig,
        config: &v1::ContainerConfig,
    ) -> Result<String, cri::Error> {
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: pod.into(),
            config: Some(config.clone()),
            sandbox_config: Some(pod_config.clone()),
        };
        self.wait(self.cri().create_container(request)).map(|answer| answer.container_id)
    }

    pub(crate) fn start_container(&self, id: &str) -> Result<(), cri::Error> {
        let request = v1::StartContainerRequest { container_id: id.into() };
        self.wait(self.cri().start_container(request)).map(drop)
    }

    pub(crate) fn stop_container(&self, id: &str, timeout: i64) {
        let request = v1::StopContainerRequest { container_id: id.into(), timeout };
        self.wait(self.cri().stop_container(request)).expect("stop");
    }

    pub(crate) fn remove_container(&self, id: &str) {
        let request = v1::RemoveContainerRequest { container_id: id.into() };
        self.wait(self.cri().remove_container(request)).expect("remove");
    }

    pub(crate) fn status(&self, id: &str) -> v1::ContainerStatus {
        let request = v1::ContainerStatusRequest { container_id: id.into(), verbose: false };
        self.wait(self.cri().container_status(request)).expect("status").status.expect("a status")
    }

    /// Waits until a container has ended.
    pub(crate) fn ended(&self, id: &str) -> v1::ContainerStatus {
        eventually(|| Some(self.status(id)).filter(|status| status.state() == v1::ContainerState::Exited))
    }

    pub(crate) fn exec(&self, id: &str, script: &str) -> (i32, String) {
        let request = v1::ExecSyncRequest {
            container_id: id.into(),
            cmd: vec!["sh".into(), "-c".into(), script.into()],
            timeout: 30,
        };
        let answer = self.wait(self.cri().exec_sync(request)).expect("exec");
        let text = String::from_utf8_lossy(&answer.stdout).into_owned() + &String::from_utf8_lossy(&answer.stderr);
        (answer.exit_code, text)
    }

    /// A pod with one container that runs a script to its end: the exit code, the reason, and what it wrote.
    pub(crate) fn run_script(
        &self,
        script: &str,
        pod: impl FnOnce(&mut v1::PodSandboxConfig),
        container: impl FnOnce(&mut v1::ContainerConfig),
    ) -> (v1::ContainerStatus, String) {
        let name = format!("pod{}", self.attempts.fetch_add(1, Ordering::Relaxed));
        let pod_config = self.pod_config(&name, pod);
        let pod = self.run_pod(&pod_config);
        let config = self.container_config(script, container);
        let id = self.create(&pod, &pod_config, &config).expect("create");
        let status = match self.start_container(&id) {
            Ok(()) => self.ended(&id),
            Err(_) => self.status(&id),
        };
        let text = self.output(&pod_config, &config);
        self.remove_pod(&pod);
        (status, text)
    }

    /// What a container's log says, without times and tags.
    pub(crate) fn output(&self, pod: &v1::PodSandboxConfig, container: &v1::ContainerConfig) -> String {
        let path = Path::new(&pod.log_directory).join(&container.log_path);
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned() + "\n").collect()
    }

    pub(crate) fn stop_pod(&self, id: &str) {
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.into() };
        self.wait(self.cri().stop_pod_sandbox(request)).expect("stop pod");
    }

    pub(crate) fn remove_pod(&self, id: &str) {
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        self.wait(self.cri().remove_pod_sandbox(request)).expect("remove pod");
    }

    /// What is there of pods: processes, mounts, cgroups, folders. Each is named, so that a leak says what it is.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut out = Vec::new();
        let pods = Hierarchy::detect().expect("cgroups").cgroup(&format!("{}/pods", self.cgroup));
        for (controller, folder) in pods.folders() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    out.push(format!("cgroup {controller} {:?}", entry.file_name()));
                }
            }
        }
        let shims = Hierarchy::detect().expect("cgroups").cgroup(&format!("{}/shims", self.cgroup));
        for pid in shims.processes().expect("processes") {
            let name = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            out.push(format!("process {pid} {name:?}"));
        }
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mounts");
        let folder = self.folder.path().display().to_string();
        out.extend(mounts.lines().filter(|line| line.contains(&folder)).map(|line| format!("mount {line}")));
        for part in ["run", "state/sandboxes", "state/containers", "images/snapshots"] {
            for entry in std::fs::read_dir(self.folder.path().join(part)).into_iter().flatten().flatten() {
                if entry.file_name() != "root" {
                    out.push(format!("file {part}/{}", entry.file_name().to_string_lossy()));
                }
            }
        }
        out
    }

    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.leftovers();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {left:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Whatever a failed test left: the machine is everybody's.
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Ok(hierarchy) = Hierarchy::detect() {
            let cgroup = hierarchy.cgroup(&self.cgroup);
            let _ = cgroup.kill();
            let _ = cgroup.remove();
        }
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(self.folder.path())) {
            let _ = rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// Waits for a state.
#[track_caller]
pub(crate) fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never came to be");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An image of busybox as `docker save` writes it.
fn busybox_archive() -> Vec<u8> {
    let mut layer = Tar::default();
    for folder in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "data"] {
        layer.add(folder, b'5', 0o755, b"", "");
    }
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    layer.add("bin/busybox", b'0', 0o755, &busybox, "");
    let applets = Command::new("/bin/busybox").arg("--list").output().expect("busybox").stdout;
    for applet in String::from_utf8_lossy(&applets).lines().filter(|name| *name != "busybox") {
        layer.add(&format!("bin/{applet}"), b'2', 0o777, b"", "busybox");
    }
    layer.add("etc/passwd", b'0', 0o644, b"root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\n", "");
    layer.add("etc/group", b'0', 0o644, b"root:x:0:\nweb:x:102:\nlogs:x:7:web\n", "");
    layer.add("bin/setuid-id", b'0', 0o4755, &busybox, "");
    let layer = layer.finish();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": ["FROM_IMAGE=yes"], "Cmd": ["sh"], "WorkingDir": "/data", "StopSignal": "SIGUSR1" },
        "rootfs": { "type": "layers", "diff_ids": [images::Digest::of(&layer).as_str()] },
    });
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": ["busybox:test"], "Layers": ["layer.tar"] }]);
    let mut archive = Tar::default();
    archive.add("layer.tar", b'0', 0o644, &layer, "");
    archive.add("config.json", b'0', 0o644, config.to_string().as_bytes(), "");
    archive.add("manifest.json", b'0', 0o644, manifest.to_string().as_bytes(), "");
    archive.finish()
}

#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn add(&mut self, name: &str, kind: u8, mode: u32, content: &[u8], link: &str) {
        let mut header = [0u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..107].copy_from_slice(format!("{mode:07o}").as_bytes());
        header[108..115].copy_from_slice(b"0000000");
        header[116..123].copy_from_slice(b"0000000");
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[136..147].copy_from_slice(b"00000000000");
        header[148..156].copy_from_slice(b"        ");
        header[156] = kind;
        header[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend(header);
        self.0.extend(content);
        self.0.resize(self.0.len().div_ceil(512) * 512, 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Labels as the CRI has them.
pub(crate) fn labels(rows: &[(&str, &str)]) -> HashMap<String, String> {
    rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Lines that are there more than once, and how often.
pub(crate) fn doubled<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    for line in lines {
        *counts.entry(line).or_insert(0) += 1;
    }
    counts.retain(|_, count| *count > 1);
    counts
}
