//! A machine for one test: `kubox server` and `kubox node` in namespaces of their own, and a look at what they leave.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use serde_json::Value;

use crate::harness::{KUBOX, Server, kubectl_layer, run};

/// How long anything may take on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Folders of the machine of which each test has its own.
const SHARED: [&str; 3] = ["/run/netns", "/run/containerd", "/var/lib/cni"];

/// Who runs the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// kubox itself.
    Embedded,
    /// Debian's containerd with runc and the CNI plugins.
    Containerd,
}

/// A server and a node. Whatever it made is gone when it is dropped, also if the test failed.
pub(super) struct World {
    pub(super) dir: PathBuf,
    engine: Engine,
    cgroup: String,
    kubectl: PathBuf,
    server: Server,
    node: Option<Child>,
    containerd: Option<Child>,
    _temporary: tempfile::TempDir,
}

/// Runs a test on a thread with a network and mounts of its own: the kernel takes both back when the last process has
/// left them.
pub(super) fn on_a_machine(engine: Engine, minor: u32, test: impl FnOnce(&mut World) + Send) {
    std::thread::scope(|scope| {
        let body = || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET).expect("the tests run as root");
            must("mount", &["--make-rprivate", "/"]);
            // containerd and its plugins keep files there, whatever their settings say.
            for folder in SHARED {
                must("mkdir", &["-p", folder]);
                must("mount", &["-t", "tmpfs", "none", folder]);
            }
            must("ip", &["link", "set", "lo", "up"]);
            // The node's own network: nothing is behind it.
            must("ip", &["link", "add", "outside", "type", "bridge"]);
            must("ip", &["address", "add", "10.99.0.1/24", "dev", "outside"]);
            must("ip", &["link", "set", "outside", "up"]);
            let mut world = World::new(engine, minor);
            test(&mut world);
            world.is_clean();
        };
        if let Err(panic) = scope.spawn(body).join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn must(program: &str, args: &[&str]) {
    let (good, _, complaint) = run(Command::new(program).args(args));
    assert!(good, "{program} {args:?}: {complaint}");
}

/// Asks until there is an answer.
#[track_caller]
pub(super) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(why) => assert!(Instant::now() < deadline, "{what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl World {
    fn new(engine: Engine, minor: u32) -> World {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let dir = temporary.path().to_owned();
        for folder in ["images", "cni", "home"] {
            fs::create_dir(dir.join(folder)).expect("a folder");
        }
        let busybox = dir.join("images/busybox.tar");
        image(&dir, &busybox, "docker.io/library/busybox:latest", &["sh"]);
        let server = Server::over(&dir.join("server"), &[]);
        let kubectl = kubectl_layer(minor).join("kubectl/kubectl");
        let cgroup = format!("/kubox-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let (node, containerd) = (None, None);
        let mut world = World { dir, engine, cgroup, kubectl, server, node, containerd, _temporary: temporary };
        if engine == Engine::Containerd {
            world.start_containerd(&busybox);
        }
        // What controllers would make.
        world.ok("create serviceaccount default");
        world.ok("create configmap kube-root-ca.crt --from-literal=ca.crt=none");
        world.start_node();
        eventually("the node is there", || world.kubectl("get node n1").map(drop));
        world.ok("wait --for=condition=Ready node/n1 --timeout=120s");
        if engine == Engine::Embedded {
            eventually("the image is imported", || {
                let images = world.ok("get node n1 -o jsonpath={.status.images[*].names}");
                images.contains("busybox").then_some(()).ok_or(images)
            });
        }
        world
    }

    /// Starts the (next) `kubox node`.
    pub(super) fn start_node(&mut self) {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut args = vec!["node".to_owned(), "--hostname-override=n1".to_owned(), "--node-ip=10.99.0.1".to_owned()];
        args.push(format!("--kubeconfig={}", self.server.kubeconfig().display()));
        args.push(format!("--cgroup-root={}", self.cgroup));
        args.push(format!("--root-dir={}", path("kubelet")));
        args.push(format!("--pod-logs-dir={}", path("logs")));
        args.push("--v=4".to_owned());
        match self.engine {
            Engine::Embedded => {
                args.push(format!("--state-dir={}", path("state")));
                args.push(format!("--run-dir={}", path("run")));
                args.push(format!("--image-dir={}", path("images")));
                args.push(format!("--cni-conf-dir={}", path("cni")));
            }
            Engine::Containerd => {
                args.push(format!("--container-runtime-endpoint=unix://{}", path("containerd.sock")));
            }
        }
        let log = fs::File::options().create(true).append(true).open(self.dir.join("node.log")).expect("a log");
        self.node = Some(Command::new(KUBOX).args(&args).stderr(log).spawn().expect("kubox starts"));
    }

    /// Ends `kubox node` at once, in the middle of whatever it does.
    pub(super) fn kill_node(&mut self) {
        if let Some(mut node) = self.node.take() {
            node.kill().expect("kill");
            node.wait().expect("wait");
        }
    }

    fn start_containerd(&mut self, busybox: &Path) {
        let dir = self.dir.display();
        let config = format!(
            r#"version = 2
root = "{dir}/containerd/root"
state = "{dir}/containerd/state"
[grpc]
address = "{dir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "registry.k8s.io/pause:3.6"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{dir}/cni"
"#
        );
        let network = format!(
            r#"{{"cniVersion": "0.4.0", "name": "test", "plugins": [
{{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "ipam": {{"type": "host-local",
  "dataDir": "{dir}/ipam", "ranges": [[{{"subnet": "10.88.0.0/24"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
{{"type": "portmap", "capabilities": {{"portMappings": true}}}}]}}"#
        );
        fs::write(self.dir.join("containerd.toml"), config).expect("write");
        fs::write(self.dir.join("cni/10-test.conflist"), network).expect("write");
        let pause = self.dir.join("pause.tar");
        image(&self.dir, &pause, "registry.k8s.io/pause:3.6", &["/bin/busybox", "sleep", "infinity"]);
        let log = fs::File::create(self.dir.join("containerd.log")).expect("a log");
        let mut containerd = Command::new("containerd");
        containerd.arg("--config").arg(self.dir.join("containerd.toml")).stderr(log);
        self.containerd = Some(containerd.spawn().expect("containerd (package containerd) starts"));
        let socket = self.dir.join("containerd.sock");
        let ctr = |args: &[&str]| {
            let (good, _, complaint) =
                run(Command::new("ctr").arg("-a").arg(&socket).args(["-n", "k8s.io"]).args(args));
            if good { Ok(()) } else { Err(complaint) }
        };
        eventually("containerd serves", || ctr(&["version"]));
        for archive in [busybox, &pause] {
            ctr(&["images", "import", &archive.display().to_string()]).expect("import");
        }
    }

    /// Runs kubectl with these words.
    pub(super) fn command<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(&self.kubectl);
        command.env("KUBECONFIG", self.server.kubeconfig()).env("HOME", self.dir.join("home")).args(words);
        command.current_dir(&self.dir);
        command
    }

    /// Runs kubectl with the words of a line.
    pub(super) fn kubectl(&self, line: &str) -> Result<String, String> {
        let (good, out, complaint) = run(&mut self.command(line.split_whitespace()));
        if good { Ok(out) } else { Err(format!("{complaint}{out}")) }
    }

    /// Runs kubectl, which must succeed.
    #[track_caller]
    pub(super) fn ok(&self, line: &str) -> String {
        self.kubectl(line).unwrap_or_else(|why| panic!("kubectl {line}: {why}\n{}", self.state()))
    }

    /// Runs a shell in a container of a Pod; gives what it wrote.
    #[track_caller]
    pub(super) fn shell(&self, target: &str, script: &str) -> String {
        let words = ["exec"].into_iter().chain(target.split_whitespace()).chain(["--", "sh", "-c", script]);
        let (good, out, complaint) = run(&mut self.command(words));
        assert!(good, "exec {target}: {script}: {complaint}{out}\n{}", self.state());
        out
    }

    /// Runs a command with something on its standard input.
    #[track_caller]
    pub(super) fn fed(mut command: Command, input: &str) -> (Option<i32>, String, String) {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Creates objects.
    #[track_caller]
    pub(super) fn apply(&self, yaml: &str) {
        let (code, out, complaint) = Self::fed(self.command(["create", "-f", "-"]), yaml);
        assert_eq!(code, Some(0), "{complaint}{out}");
    }

    /// Waits for a field of a Pod (a JSON path) to have a value.
    #[track_caller]
    pub(super) fn waits(&self, pod: &str, path: &str, value: &str) {
        self.ok(&format!("wait pod/{pod} --for=jsonpath={{{path}}}={value} --timeout=120s"));
    }

    /// Waits for a condition of Pods.
    #[track_caller]
    pub(super) fn ready(&self, pods: &str) {
        self.ok(&format!("wait {pods} --for=condition=Ready --timeout=120s"));
    }

    /// A Pod.
    #[track_caller]
    pub(super) fn pod(&self, name: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("get pod {name} -o json"))).expect("JSON")
    }

    /// What the world looks like, for whoever reads of a failure.
    fn state(&self) -> String {
        let mut text = self.kubectl("get pods,events -o wide").unwrap_or_else(|why| why);
        let log = fs::read_to_string(self.dir.join("node.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let _ = write!(text, "\nnode.log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        text
    }

    /// The processes of this world, but for the test's own children: those in its mounts or below its cgroup.
    fn processes(&self) -> Vec<(i32, String)> {
        let own = fs::read_link("/proc/thread-self/ns/mnt").expect("proc is there");
        let known =
            [Some(self.server.pid()), self.node.as_ref().map(Child::id), self.containerd.as_ref().map(Child::id)];
        let numbers = fs::read_dir("/proc").expect("proc is there").flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let mut found = Vec::new();
        for pid in numbers {
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let is_ours = fs::read_link(format!("/proc/{pid}/ns/mnt")).is_ok_and(|mounts| mounts == own)
                || cgroups.contains(&format!(":{}", self.cgroup));
            if is_ours && !known.iter().flatten().any(|known| i64::from(*known) == i64::from(pid)) {
                let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                found.push((pid, words.replace('\0', " ")));
            }
        }
        found
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
        roots.extend(fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path()));
        for root in roots {
            let top = root.join(self.cgroup.trim_start_matches('/'));
            if top.is_dir() {
                below(&top, &mut found);
            }
        }
        found
    }

    /// What Pods have left: nothing, if all are deleted.
    fn left(&self) -> Vec<String> {
        let mut left: Vec<String> = Vec::new();
        left.extend(self.processes().into_iter().map(|(pid, words)| format!("process {pid}: {words}")));
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("proc is there");
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        left.extend(
            points.filter(|point| Path::new(point).starts_with(&self.dir)).map(|point| format!("mount {point}")),
        );
        let is_pods = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("pod") || path.to_string_lossy().contains("/shims/")
        };
        left.extend(
            self.cgroups().iter().filter(|path| is_pods(path)).map(|path| format!("cgroup {}", path.display())),
        );
        let (_, links, _) = run(Command::new("ip").args(["-o", "link", "show", "type", "veth"]));
        left.extend(links.lines().map(|link| format!("interface {link}")));
        let known: BTreeSet<&str> = ["last", "last_reserved_ip.0", "lock"].into();
        for folder in ["kubelet/pods", "logs", "state/network/addresses", "state/cni", "ipam/test"].into_iter().chain([
            "state/runtime/containers",
            "state/runtime/sandboxes",
            "state/images/snapshots",
            "state/images/trash",
        ]) {
            for entry in fs::read_dir(self.dir.join(folder)).into_iter().flatten().flatten() {
                if !known.contains(&*entry.file_name().to_string_lossy()) {
                    left.push(format!("file {}", entry.path().display()));
                }
            }
        }
        for folder in ["/run/netns", "/var/lib/cni/results"] {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| format!("file {}", entry.path().display())));
        }
        // The folders of sandboxes are called by their ids.
        for entry in fs::read_dir(self.dir.join("run")).into_iter().flatten().flatten() {
            if entry.file_name().len() == 64 {
                left.push(format!("file {}", entry.path().display()));
            }
        }
        left
    }

    /// Deletes all Pods; nothing of them may be left.
    #[track_caller]
    fn is_clean(&self) {
        self.ok("delete pods --all --timeout=120s");
        let containerd = self.engine == Engine::Containerd;
        eventually("nothing is left of the pods", || {
            let mut left = self.left();
            // containerd keeps mounts of images and ended sandboxes for a while; its own tests look after them.
            left.retain(|what| !containerd || !what.contains("/containerd/"));
            if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}\n{}", self.state())) }
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for mut child in [self.node.take(), self.containerd.take()].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Whoever is left is a Pod's; one that ends may have started another.
        let known = self.server.pid().to_string();
        for _ in 0..100 {
            let left = self.processes();
            let pids: Vec<String> =
                left.into_iter().map(|(pid, _)| pid.to_string()).filter(|pid| *pid != known).collect();
            if pids.is_empty() {
                break;
            }
            let _ = Command::new("kill").arg("-9").args(&pids).stderr(Stdio::null()).status();
            std::thread::sleep(Duration::from_millis(20));
        }
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
        for point in points.filter(|point| Path::new(point).starts_with(&self.dir)) {
            let _ = Command::new("umount").args(["-l", point]).stderr(Stdio::null()).status();
        }
        for cgroup in self.cgroups().iter().rev() {
            let _ = fs::remove_dir(cgroup);
        }
    }
}

/// A folder and those below it, the outer ones first.
fn below(folder: &Path, found: &mut Vec<PathBuf>) {
    found.push(folder.to_owned());
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), found);
        }
    }
}

/// Writes an image of Debian's busybox as `docker save` does.
pub(super) fn image(scratch: &Path, archive: &Path, name: &str, command: &[&str]) {
    let work = scratch.join("image");
    let root = work.join("root");
    fs::create_dir_all(root.join("bin")).expect("a folder");
    for folder in ["etc", "tmp", "dev", "proc", "sys", "var", "root"] {
        fs::create_dir(root.join(folder)).expect("a folder");
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("chmod");
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox (package busybox-static)");
    let (_, applets, _) = run(Command::new("/bin/busybox").arg("--list"));
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
        .expect("write");
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n").expect("write");
    let tar = |archive: &Path, folder: &Path, names: &[&str]| {
        let owner = ["--owner=0", "--group=0", "--numeric-owner"];
        let mut command = Command::new("tar");
        command.arg("-cf").arg(archive).arg("-C").arg(folder).args(owner).args(names);
        let (good, _, complaint) = run(&mut command);
        assert!(good, "tar: {complaint}");
    };
    tar(&work.join("layer.tar"), &root, &["."]);
    let (_, sum, _) = run(Command::new("sha256sum").arg(work.join("layer.tar")));
    let digest = sum.split(' ').next().unwrap_or_default();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": command, "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    fs::write(work.join("config.json"), config.to_string()).expect("write");
    fs::write(work.join("manifest.json"), manifest.to_string()).expect("write");
    // The drop folder shall see it whole.
    let draft = work.join("draft");
    tar(&draft, &work, &["manifest.json", "config.json", "layer.tar"]);
    fs::rename(&draft, archive).expect("rename");
    fs::remove_dir_all(&work).expect("remove");
}
