//! The server under measurement: the real binary as a child process over its own empty folder.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::client::{Call, Target};
use crate::process;

const START_SECONDS_MAX: u64 = 60;
const POLL: Duration = Duration::from_millis(1);

/// A running server; it is killed and its folder removed when this is dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    /// How to speak to it.
    pub(crate) target: Target,
    /// Milliseconds from before its start until `/readyz` said ok.
    pub(crate) ready_ms: f64,
}

impl Server {
    /// Starts the binary over an empty folder and waits until it is ready.
    pub(crate) fn start(kubox: &Path, dir: &Path) -> Result<Server> {
        let folder = tempfile::Builder::new().prefix("kubox-bench").tempdir_in(dir).context("make the folder")?;
        let data = folder.path().join("data");
        let log = File::create(folder.path().join("log")).context("make the log")?;
        let port = free_port()?;
        let started = Instant::now();
        let mut child = Command::new(kubox)
            .arg("server")
            .arg(format!("--data-dir={}", data.display()))
            .arg(format!("--secure-port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", kubox.display()))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        let target = loop {
            let problem = match runtime.block_on(ready(address, &data.join("admin.kubeconfig"))) {
                Ok(target) => break target,
                Err(problem) => problem,
            };
            let exit = child.try_wait().context("ask after the server")?;
            if exit.is_some() || started.elapsed().as_secs() >= START_SECONDS_MAX {
                let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
                // A server that did exit cannot be killed, which is as well.
                let _ = child.kill();
                let _ = child.wait();
                bail!("the server did not become ready: {problem:#}; exit {exit:?}; it said:\n{log}");
            }
            std::thread::sleep(POLL);
        };
        let ready_ms = started.elapsed().as_secs_f64() * 1e3;
        Ok(Server { child, folder, target, ready_ms })
    }

    /// CPU seconds used so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.child.id())
    }

    /// A memory figure in MiB.
    pub(crate) fn memory_mib(&self, name: &str) -> Result<f64> {
        process::memory_mib(self.child.id(), name)
    }

    /// What the data folder takes on the disk, in MiB.
    pub(crate) fn data_mib(&self) -> Result<f64> {
        Ok(allocated(&self.folder.path().join("data"))? as f64 / (1024.0 * 1024.0))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The folder goes too: there is nothing to save, and nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn ready(address: SocketAddr, kubeconfig: &Path) -> Result<Target> {
    let target = Target::from_kubeconfig(address, kubeconfig)?;
    target.connect().await?.drain(Call::get("/readyz")).await?;
    Ok(target)
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?;
    Ok(listener.local_addr().context("find a free port")?.port())
}

/// Bytes allocated to the files below a folder; files that vanish meanwhile count nothing.
fn allocated(folder: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry.context("read the data folder")?;
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { allocated(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
