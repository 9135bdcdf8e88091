//! A cluster to test: `kubox server` of this workspace, upstream's controllers and scheduler, and two fake Nodes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::fake_node::FakeNodes;

/// Processes that end with the value.
#[derive(Debug)]
pub(super) struct Cluster {
    data: PathBuf,
    _nodes: FakeNodes,
    _children: Vec<Running>,
}

#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Cluster {
    /// Starts everything anew in `target/conformance`; `upstream` is the folder of upstream's programs.
    pub(super) fn start(upstream: &Path) -> Result<Cluster> {
        crate::cargo(&["build", "--package", "kubox"])?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
        let home = target.join("conformance");
        if home.exists() {
            std::fs::remove_dir_all(&home).with_context(|| format!("empty {}", home.display()))?;
        }
        let data = home.join("data");
        std::fs::create_dir_all(&home)?;
        let mut children = Vec::new();

        let mut server = Command::new(target.join("debug/kubox"));
        // Endpoints never hold a loopback address; what is advertised here is from a range for documentation.
        server
            .args(["server", "--secure-port=0", "--advertise-address=192.0.2.1"])
            .arg(format!("--data-dir={}", data.display()));
        children.push(spawn(server, &home.join("kubox.log"))?);
        let kubeconfig = data.join("admin.kubeconfig");
        let file = kubeconfig.display().to_string();
        let kubectl = upstream.join("kubectl");
        wait_for("kubox to be ready", || {
            let mut ready = Command::new(&kubectl);
            ready.args(["get", "--raw=/readyz", "--kubeconfig", &file]);
            kubeconfig.exists() && ready.output().is_ok_and(|output| output.status.success())
        })?;

        let clients = ["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"];
        let mut clients: Vec<String> = clients.iter().map(|flag| format!("--{flag}={file}")).collect();
        clients.push("--leader-elect=false".to_owned());
        let pki = |name: &str| data.join("pki").join(name).display().to_string();
        let mut controllers = Command::new(upstream.join("kube-controller-manager"));
        controllers
            .args(&clients)
            .args(["--secure-port=0", "--use-service-account-credentials=true"])
            .arg(format!("--root-ca-file={}", pki("ca.crt")))
            .arg(format!("--service-account-private-key-file={}", pki("sa.key")))
            .arg(format!("--cluster-signing-cert-file={}", pki("ca.crt")))
            .arg(format!("--cluster-signing-key-file={}", pki("ca.key")));
        children.push(spawn(controllers, &home.join("kube-controller-manager.log"))?);
        let mut scheduler = Command::new(upstream.join("kube-scheduler"));
        scheduler.args(&clients).arg("--secure-port=0");
        children.push(spawn(scheduler, &home.join("kube-scheduler.log"))?);

        let nodes = FakeNodes::start(&kubectl, &kubeconfig)?;
        // The default service account of a namespace is the controllers' sign of life; a Node is of use without taints.
        let says = |args: &[&str]| {
            let output = Command::new(&kubectl).args(args).args(["--kubeconfig", &file]).output();
            output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
        };
        wait_for("the controllers and the Nodes to be ready", || {
            says(&["get", "serviceaccount", "default", "--namespace=kube-system"]).is_some()
                && says(&["get", "nodes", "--output=jsonpath={.items[*].spec.taints}"])
                    .is_some_and(|out| out.is_empty())
        })?;
        Ok(Cluster { data, _nodes: nodes, _children: children })
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }
}

fn spawn(mut command: Command, log: &Path) -> Result<Running> {
    let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let program = command.get_program().to_owned();
    Ok(Running(command.spawn().with_context(|| format!("run {}", program.display()))?))
}

/// Asks until the answer is yes, for two minutes.
fn wait_for(what: &str, mut ready: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !ready() {
        ensure!(start.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}
