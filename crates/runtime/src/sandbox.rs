//! Sandboxes: made, stopped, removed.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cri::{Code, Error, Reply, v1};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use shim::protocol::{self, NETWORK_NAMESPACE};
use shim::spec::SandboxSpec;

use crate::error::{chain, failed};
use crate::network::{NetworkPod, PortMapping};
use crate::record::{Phase, SandboxRecord};
use crate::runtime::{Runtime, Sandbox, new_id, now};
use crate::{plan, shim_client};

/// Shared memory of a pod, as containerd gives it.
const SHM_OPTIONS: &std::ffi::CStr = c"mode=1777,size=65536k";
/// How often a sandbox's folder is tried to be emptied; each time something may have appeared in it.
const CLEAR_TRIES: usize = 50;

/// What a pod's namespaces are to be.
pub(crate) struct Namespaces {
    pub(crate) network: bool,
    pub(crate) ipc: bool,
    pub(crate) shared_pids: bool,
}

impl Namespaces {
    pub(crate) fn of(config: &v1::PodSandboxConfig) -> Namespaces {
        let options = namespace_options(config);
        let is = |mode: i32, which: v1::NamespaceMode| mode == which as i32;
        Namespaces {
            network: !is(options.network, v1::NamespaceMode::Node),
            ipc: !is(options.ipc, v1::NamespaceMode::Node),
            shared_pids: is(options.pid, v1::NamespaceMode::Pod),
        }
    }
}

pub(crate) fn namespace_options(config: &v1::PodSandboxConfig) -> v1::NamespaceOption {
    let context = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    context.and_then(|context| context.namespace_options.clone()).unwrap_or_default()
}

/// The host name that a pod's containers see.
pub(crate) fn hostname(config: &v1::PodSandboxConfig) -> String {
    if !config.hostname.is_empty() {
        return config.hostname.clone();
    }
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl Runtime {
    pub(crate) async fn make_sandbox(&self, request: v1::RunPodSandboxRequest) -> Result<String, Error> {
        let config = request.config.ok_or_else(|| Error::invalid("sandbox config is missing"))?;
        let metadata = config.metadata.clone().ok_or_else(|| Error::invalid("sandbox config must include metadata"))?;
        if !request.runtime_handler.is_empty()
            && request.runtime_handler != "kubox"
            && request.runtime_handler != "runc"
        {
            let handler = &request.runtime_handler;
            return Err(Error::unknown(format!(
                "failed to get sandbox runtime: no runtime for {handler:?} is configured"
            )));
        }
        let options = namespace_options(&config);
        if options.userns_options.is_some_and(|userns| userns.mode == v1::NamespaceMode::Pod as i32) {
            return Err(Error::unknown("user namespaces are not supported"));
        }
        let namespaces = Namespaces::of(&config);
        let linux = config.linux.clone().unwrap_or_default();
        for name in linux.sysctls.keys() {
            plan::check_sysctl(name, namespaces.network, namespaces.ipc).map_err(Error::invalid)?;
        }
        let id = new_id().map_err(|e| failed("make an id", &e))?;
        let name = format!("{}_{}_{}_{}", metadata.name, metadata.namespace, metadata.uid, metadata.attempt);
        let parent = if linux.cgroup_parent.is_empty() { &self.0.config.cgroup_parent } else { &linux.cgroup_parent };
        let record = SandboxRecord {
            id: id.clone(),
            config: Some(config.clone()),
            runtime_handler: request.runtime_handler,
            created_at: now(),
            phase: Phase::Making as i32,
            cgroup: if namespaces.shared_pids {
                format!("{}/{id}", parent.trim_end_matches('/'))
            } else {
                String::new()
            },
            networked: namespaces.network,
            ..SandboxRecord::default()
        };
        let sandbox = Arc::new(Sandbox::new(record, &self.0.config.run_folder));
        let _busy = sandbox.busy.lock().await;
        {
            let mut tables = self.0.tables.lock();
            if let Some(other) = tables.names.get(&name) {
                return Err(Error::unknown(format!(
                    "failed to reserve sandbox name {name:?}: name {name:?} is reserved for {other:?}"
                )));
            }
            tables.names.insert(name, id.clone());
        }
        let made = self.bring_up(&sandbox, &config, &namespaces).await;
        match made {
            Ok(()) => {
                self.0.tables.lock().sandboxes.insert(id.clone(), sandbox.clone());
                self.watch_shim(&sandbox).await?;
                self.tell(&sandbox, &sandbox.id, v1::ContainerEventType::CreatedEvent);
                self.tell(&sandbox, &sandbox.id, v1::ContainerEventType::StartedEvent);
                Ok(id)
            }
            Err(e) => {
                if let Err(e) = self.take_down(&sandbox).await {
                    // Its record stays, so the next start of the daemon tries again.
                    tracing::warn!(sandbox = %id, error = %e, "a sandbox that failed could not be cleared away");
                } else {
                    self.forget_sandbox(&sandbox);
                }
                Err(e)
            }
        }
    }

    async fn bring_up(
        &self,
        sandbox: &Arc<Sandbox>,
        config: &v1::PodSandboxConfig,
        namespaces: &Namespaces,
    ) -> Result<(), Error> {
        let saved = self.0.sandbox_records.save(&sandbox.id, &*sandbox.record.lock());
        saved.map_err(|e| failed("write the sandbox's record", &e))?;
        let linux = config.linux.clone().unwrap_or_default();
        let mut sysctls: Vec<(String, String)> = linux.sysctls.into_iter().collect();
        sysctls.sort();
        let spec = SandboxSpec {
            id: sandbox.id.clone(),
            run_folder: sandbox.folder.clone(),
            network: namespaces.network,
            ipc: namespaces.ipc,
            // With the node's network a pod has the node's name.
            hostname: namespaces.network.then(|| hostname(config)),
            shared_pids: namespaces.shared_pids,
            sysctls,
            shim_cgroup: self.0.config.shim_cgroup.clone(),
            cgroup: sandbox.record.lock().cgroup.clone(),
            limits: cgroups::Limits::default(),
        };
        let (folder, program, own_ipc) = (sandbox.folder.clone(), self.0.config.program.clone(), namespaces.ipc);
        let (config_copy, logs) = (config.clone(), config.log_directory.clone());
        let spawned = tokio::task::spawn_blocking(move || {
            make_folder(&folder, &config_copy, own_ipc).map_err(|e| format!("make the sandbox's files: {e}"))?;
            if !logs.is_empty() {
                std::fs::create_dir_all(&logs).map_err(|e| format!("failed to create sandbox log directory: {e}"))?;
            }
            shim_client::spawn(&program, &spec)
        });
        let pid = match spawned.await {
            Ok(Ok(pid)) => pid,
            Ok(Err(message)) => {
                return Err(Error::unknown(format!("failed to start sandbox {:?}: {message}", sandbox.id)));
            }
            Err(e) => return Err(failed("start the sandbox", &e)),
        };
        let ips = if namespaces.network {
            let pod = network_pod(sandbox);
            let ips = self.0.config.network.setup(&pod).await.map_err(|message| {
                Error::unknown(format!("failed to setup network for sandbox {:?}: {message}", sandbox.id))
            })?;
            ips.iter().map(ToString::to_string).collect()
        } else {
            Vec::new()
        };
        self.change_sandbox(sandbox, |record| {
            record.shim_pid = pid;
            record.ips = ips;
            record.phase = Phase::Ready as i32;
        });
        Ok(())
    }

    /// Stops everything in a sandbox; what is stopped already is no error.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let sandbox = match self.sandbox(id) {
            Ok(sandbox) => sandbox,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        };
        let _busy = sandbox.busy.lock().await;
        self.stop_held(&sandbox).await
    }

    async fn stop_held(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        for container in self.containers_of(&sandbox.id) {
            // One that is being started is waited for.
            let _busy = container.busy.lock().await;
            self.stop_container_now(&container).await?;
        }
        let was_ready = sandbox.is_ready();
        self.take_down(sandbox).await?;
        self.change_sandbox(sandbox, |record| {
            record.phase = Phase::Stopped as i32;
            record.networked = false;
        });
        if was_ready {
            self.tell(sandbox, &sandbox.id, v1::ContainerEventType::StoppedEvent);
        }
        Ok(())
    }

    /// Gives back what a sandbox has of the system: network, shim, mounts, cgroup. Done before is fine.
    pub(crate) async fn take_down(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        if sandbox.record.lock().networked {
            let pod = network_pod(sandbox);
            self.0.config.network.teardown(&pod).await.map_err(|message| {
                Error::unknown(format!("failed to destroy network for sandbox {:?}: {message}", sandbox.id))
            })?;
        }
        sandbox.ends.store(true, Ordering::SeqCst);
        if let Err(e) = sandbox.shim.shut_down().await {
            tracing::warn!(sandbox = %sandbox.id, error = %chain(&e), "the shim did not end when it was told to");
        }
        let (folder, shim_pid) = (sandbox.folder.clone(), sandbox.record.lock().shim_pid);
        let cleared = tokio::task::spawn_blocking(move || clear_folder(&folder, shim_pid)).await;
        match cleared {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(failed("clear the sandbox's folder", &e)),
            Err(e) => return Err(failed("clear the sandbox's folder", &e)),
        }
        let cgroup = sandbox.record.lock().cgroup.clone();
        self.remove_cgroup(&cgroup).await;
        Ok(())
    }

    /// Removes a sandbox with its containers; none there is no error.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let sandbox = match self.sandbox(id) {
            Ok(sandbox) => sandbox,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        };
        let _busy = sandbox.busy.lock().await;
        self.stop_held(&sandbox).await?;
        for container in self.containers_of(&sandbox.id) {
            self.remove_container(&container.id).await?;
        }
        self.forget_sandbox(&sandbox);
        self.tell(&sandbox, &sandbox.id, v1::ContainerEventType::DeletedEvent);
        Ok(())
    }

    /// The last step: the record goes when everything else has gone.
    pub(crate) fn forget_sandbox(&self, sandbox: &Sandbox) {
        if let Err(e) = self.0.sandbox_records.remove(&sandbox.id) {
            tracing::error!(sandbox = %sandbox.id, error = %e, "the sandbox's record could not be removed");
        }
        let mut tables = self.0.tables.lock();
        tables.sandboxes.remove(&sandbox.id);
        tables.names.retain(|_, id| *id != sandbox.id);
        tables.cpu_seen.remove(&sandbox.id);
    }

    /// Follows a sandbox's shim from now on: what it knows, then what it tells.
    pub(crate) fn watch_shim<'a>(&'a self, sandbox: &'a Arc<Sandbox>) -> Reply<'a, ()> {
        // Boxed, for what it starts may come back here.
        Box::pin(self.watch(sandbox))
    }

    async fn watch(&self, sandbox: &Arc<Sandbox>) -> Result<(), Error> {
        let (state, mut events) = sandbox.shim.subscribe().await?;
        self.change_sandbox(sandbox, |record| {
            record.shim_pid = state.pid;
            record.init_pid = state.init_pid.unwrap_or_default();
        });
        self.learn(sandbox, &state).await;
        let (runtime, sandbox) = (Arc::downgrade(&self.0), sandbox.clone());
        tokio::spawn(async move {
            loop {
                let received = events.receive().await;
                let Some(inner) = runtime.upgrade() else { return };
                let runtime = Runtime(inner);
                match received {
                    Ok((protocol::Reply::ContainerExited { container, exit }, _)) => {
                        runtime.exited(&sandbox, &container, &exit).await
                    }
                    Ok((protocol::Reply::LogFull { container }, _)) => {
                        // Nobody need rotate.
                        let _ = runtime.0.full_logs.send(container);
                    }
                    Ok(_) => {}
                    Err(e) => {
                        if !sandbox.ends.load(Ordering::SeqCst) {
                            runtime.lost_shim(&sandbox, &e).await;
                        }
                        return;
                    }
                }
            }
        });
        Ok(())
    }

    /// A shim is gone that nobody told to end. Its pod's processes have no one who holds their output: they are ended.
    async fn lost_shim(&self, sandbox: &Arc<Sandbox>, error: &io::Error) {
        let _busy = sandbox.busy.lock().await;
        if sandbox.ends.load(Ordering::SeqCst) || !sandbox.is_ready() {
            return;
        }
        if sandbox.shim.subscribe().await.is_ok() {
            // Only the connection was lost (it may have been cut off for lagging): follow it anew.
            if let Err(e) = self.watch_shim(sandbox).await {
                tracing::warn!(sandbox = %sandbox.id, error = %e, "the shim could not be followed");
            }
            return;
        }
        tracing::error!(sandbox = %sandbox.id, error = %error, "the shim is gone; its containers are ended");
        for container in self.containers_of(&sandbox.id) {
            self.end_orphan(sandbox, &container, Orphan::ShimKilled).await;
        }
        let cgroup = sandbox.record.lock().cgroup.clone();
        self.remove_cgroup(&cgroup).await;
        self.change_sandbox(sandbox, |record| record.phase = Phase::Stopped as i32);
        self.tell(sandbox, &sandbox.id, v1::ContainerEventType::StoppedEvent);
    }

    pub(crate) fn sandbox_status(&self, sandbox: &Sandbox) -> v1::PodSandboxStatus {
        let record = sandbox.record.lock().clone();
        let config = record.config.clone().unwrap_or_default();
        let ready = record.phase() == Phase::Ready;
        let state = if ready { v1::PodSandboxState::Ready } else { v1::PodSandboxState::Notready };
        let mut ips = record.ips.iter().cloned();
        let network = if Namespaces::of(&config).network {
            v1::PodSandboxNetworkStatus {
                ip: ips.next().unwrap_or_default(),
                additional_ips: ips.map(|ip| v1::PodIP { ip }).collect(),
            }
        } else {
            v1::PodSandboxNetworkStatus::default()
        };
        let options = namespace_options(&config);
        v1::PodSandboxStatus {
            id: record.id,
            metadata: config.metadata,
            state: state as i32,
            created_at: record.created_at,
            network: Some(network),
            linux: Some(v1::LinuxPodSandboxStatus { namespaces: Some(v1::Namespace { options: Some(options) }) }),
            labels: config.labels,
            annotations: config.annotations,
            runtime_handler: record.runtime_handler,
        }
    }

    /// Tells an event of a container, or of the sandbox itself.
    pub(crate) fn tell(&self, sandbox: &Sandbox, id: &str, kind: v1::ContainerEventType) {
        let containers = self.containers_of(&sandbox.id);
        self.0.events.tell(v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind as i32,
            created_at: now(),
            pod_sandbox_status: Some(self.sandbox_status(sandbox)),
            containers_statuses: containers.iter().map(|container| self.container_status(container)).collect(),
        });
    }
}

/// Why a container has no shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orphan {
    /// The shim was there until now.
    ShimKilled,
    /// It was gone when the daemon started.
    FoundDead,
}

/// A pod as its network has to know it.
pub(crate) fn network_pod(sandbox: &Sandbox) -> NetworkPod {
    let record = sandbox.record.lock();
    let config = record.config.clone().unwrap_or_default();
    let metadata = config.metadata.unwrap_or_default();
    let port = |number: i32| u16::try_from(number).unwrap_or_default();
    let port_mappings = config.port_mappings.iter().filter(|row| row.host_port > 0).map(|row| PortMapping {
        protocol: match v1::Protocol::try_from(row.protocol) {
            Ok(v1::Protocol::Udp) => "udp",
            Ok(v1::Protocol::Sctp) => "sctp",
            _ => "tcp",
        },
        container_port: port(row.container_port),
        host_port: port(row.host_port),
        host_ip: row.host_ip.clone(),
    });
    NetworkPod {
        id: sandbox.id.clone(),
        namespace_path: sandbox.folder.join(NETWORK_NAMESPACE),
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        port_mappings: port_mappings.collect(),
        annotations: config.annotations.into_iter().collect::<BTreeMap<_, _>>(),
        labels: config.labels.into_iter().collect(),
        cgroup_parent: config.linux.map(|linux| linux.cgroup_parent).unwrap_or_default(),
        ips: record.ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
    }
}

/// The sandbox's files: `hostname`, `hosts`, `resolv.conf`, and shared memory.
fn make_folder(folder: &Path, config: &v1::PodSandboxConfig, own_ipc: bool) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o711).create(folder)?;
    std::fs::write(folder.join("hostname"), hostname(config) + "\n")?;
    std::fs::write(folder.join("hosts"), std::fs::read("/etc/hosts").unwrap_or_default())?;
    std::fs::write(folder.join("resolv.conf"), resolv_conf(config.dns_config.as_ref())?)?;
    let shm = folder.join("shm");
    std::fs::create_dir(&shm)?;
    if own_ipc {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("shm", &shm, "tmpfs", flags, SHM_OPTIONS)?;
    }
    Ok(())
}

/// The pod's resolver configuration; without one, the node's.
fn resolv_conf(dns: Option<&v1::DnsConfig>) -> io::Result<String> {
    let Some(dns) = dns else {
        return match std::fs::read_to_string("/etc/resolv.conf") {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
    };
    let mut out = String::new();
    if !dns.searches.is_empty() {
        out.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        out.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        out.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    Ok(out)
}

/// Removes a sandbox's folder with what is mounted in it, and a shim that is still around.
pub(crate) fn clear_folder(folder: &Path, shim_pid: i32) -> io::Result<()> {
    let written = std::fs::read_to_string(folder.join(protocol::PID_FILE)).ok();
    let written = written.and_then(|text| text.trim().parse::<i32>().ok());
    for pid in [Some(shim_pid), written].into_iter().flatten() {
        kill_shim(pid);
    }
    let mut last = Ok(());
    for _ in 0..CLEAR_TRIES {
        for at in mounts_below(folder)? {
            match unmount(&at, UnmountFlags::DETACH) {
                Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                Err(e) => return Err(e.into()),
            }
        }
        last = std::fs::remove_dir_all(folder);
        match &last {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A shim that was just being born has mounted something meanwhile.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
    }
    last
}

/// Kills a process if it is a shim.
fn kill_shim(pid: i32) {
    let is_shim = std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "kubox-shim");
    if let Some(pid) = rustix::process::Pid::from_raw(pid).filter(|_| is_shim) {
        // Gone meanwhile is fine.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// What is mounted in a folder, the latest first.
fn mounts_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let text = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    below.reverse();
    Ok(below)
}

/// What is not possible in a sandbox that does not run.
pub(crate) fn not_ready(id: &str) -> Error {
    Error::new(Code::Unknown, format!("sandbox container {id:?} is not running"))
}
