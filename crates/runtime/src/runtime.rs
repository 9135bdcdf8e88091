//! The runtime itself: its settings, its folders, and the tables of what there is.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use cgroups::Hierarchy;
use cri::{Error, v1};
use images::Images;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::{chain, no_container, no_sandbox};
use crate::events::Events;
use crate::network::PodNetwork;
use crate::plan::Node;
use crate::record::{ContainerRecord, Phase, Records, SandboxRecord};
use crate::shim_client::ShimClient;
use crate::{adopt, capabilities, devices};

/// Where streams are served: the URL that the CRI's Exec, Attach and PortForward answer with.
pub trait StreamUrls: Send + Sync {
    /// The URL for an exec; the request has been checked.
    fn exec(&self, request: &v1::ExecRequest) -> Result<String, String>;
    /// The URL for attaching.
    fn attach(&self, request: &v1::AttachRequest) -> Result<String, String>;
    /// The URL for connections to a pod's ports.
    fn port_forward(&self, request: &v1::PortForwardRequest) -> Result<String, String>;
}

/// The runtime's settings.
#[derive(Clone)]
pub struct Config {
    /// What outlives a restart of the machine: records.
    pub state_folder: PathBuf,
    /// What does not: sockets, namespaces. It should be on a tmpfs.
    pub run_folder: PathBuf,
    /// The program that has the shim's commands: usually this one.
    pub program: PathBuf,
    /// The cgroup of pods for which the CRI names none.
    pub cgroup_parent: String,
    /// The cgroup in which the shims are.
    pub shim_cgroup: String,
    /// A log's size at which [`Runtime::full_logs`] tells of it; 0 means never.
    pub log_bytes_max: u64,
    /// The images.
    pub images: Images,
    /// What connects pods.
    pub network: Arc<dyn PodNetwork>,
    /// Where streams are served, if anywhere.
    pub stream_urls: Option<Arc<dyn StreamUrls>>,
}

impl Config {
    /// The usual settings, with everything below two folders.
    pub fn new(state_folder: PathBuf, run_folder: PathBuf, images: Images, network: Arc<dyn PodNetwork>) -> Config {
        Config {
            state_folder,
            run_folder,
            program: PathBuf::from("/proc/self/exe"),
            cgroup_parent: "/kubox".to_owned(),
            shim_cgroup: "/kubox/shims".to_owned(),
            log_bytes_max: 0,
            images,
            network,
            stream_urls: None,
        }
    }
}

/// Why the runtime cannot run.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There are no usable cgroups.
    #[error("find cgroups")]
    Cgroups(#[source] cgroups::Error),
    /// A folder cannot be used.
    #[error("use {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The embedded runtime. Clones are the same one.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) hierarchy: Hierarchy,
    pub(crate) node: Node,
    pub(crate) sandbox_records: Records,
    pub(crate) container_records: Records,
    pub(crate) tables: Mutex<Tables>,
    pub(crate) events: Events,
    pub(crate) full_logs: tokio::sync::broadcast::Sender<String>,
    /// An empty folder on which containers' roots are mounted, each in its own mount namespace.
    pub(crate) mount_point: PathBuf,
}

#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) sandboxes: BTreeMap<String, Arc<Sandbox>>,
    pub(crate) containers: BTreeMap<String, Arc<Container>>,
    /// Names in use: a second sandbox or container of the same name and attempt is a mistake.
    pub(crate) names: HashMap<String, String>,
    /// Processor time seen last, for rates: by id, when and how much.
    pub(crate) cpu_seen: HashMap<String, (i64, u64, u64)>,
}

pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) folder: PathBuf,
    pub(crate) shim: ShimClient,
    pub(crate) record: Mutex<SandboxRecord>,
    /// Held by whoever starts, stops or removes it.
    pub(crate) busy: tokio::sync::Mutex<()>,
    /// Set before the shim is told to end, so that its end surprises nobody.
    pub(crate) ends: std::sync::atomic::AtomicBool,
}

pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox: String,
    pub(crate) record: Mutex<ContainerRecord>,
    /// Held by whoever starts, stops or removes it.
    pub(crate) busy: tokio::sync::Mutex<()>,
    /// True once it has ended.
    pub(crate) ended: watch::Sender<bool>,
}

impl Sandbox {
    pub(crate) fn new(record: SandboxRecord, run_folder: &Path) -> Sandbox {
        let folder = run_folder.join(&record.id);
        Sandbox {
            id: record.id.clone(),
            shim: ShimClient::new(folder.clone()),
            folder,
            record: Mutex::new(record),
            busy: tokio::sync::Mutex::new(()),
            ends: std::sync::atomic::AtomicBool::new(false),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.record.lock().phase() == Phase::Ready
    }

    pub(crate) fn config(&self) -> v1::PodSandboxConfig {
        self.record.lock().config.clone().unwrap_or_default()
    }
}

impl Container {
    pub(crate) fn new(record: ContainerRecord) -> Container {
        let ended = record.state() == v1::ContainerState::Exited;
        Container {
            id: record.id.clone(),
            sandbox: record.sandbox.clone(),
            record: Mutex::new(record),
            busy: tokio::sync::Mutex::new(()),
            ended: watch::Sender::new(ended),
        }
    }

    pub(crate) fn state(&self) -> v1::ContainerState {
        self.record.lock().state()
    }

    pub(crate) fn config(&self) -> v1::ContainerConfig {
        self.record.lock().config.clone().unwrap_or_default()
    }

    /// Waits until it has ended.
    pub(crate) async fn wait(&self) {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as this.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl Runtime {
    /// Opens the runtime: finds what an earlier one left, adopts its shims and removes what was half made.
    ///
    /// # Errors
    /// If the machine or the folders cannot be used.
    pub async fn open(config: Config) -> Result<Runtime, OpenError> {
        let hierarchy = Hierarchy::detect().map_err(OpenError::Cgroups)?;
        let folder = |path: PathBuf| {
            std::fs::create_dir_all(&path).map_err(|source| OpenError::Folder { path: path.clone(), source })?;
            Ok(path)
        };
        let records = |path: PathBuf| Records::open(path.clone()).map_err(|source| OpenError::Folder { path, source });
        let run_folder = folder(config.run_folder.clone())?;
        let inner = Inner {
            hierarchy,
            node: Node { capabilities: capabilities::known(), devices: devices::host() },
            sandbox_records: records(config.state_folder.join("sandboxes"))?,
            container_records: records(config.state_folder.join("containers"))?,
            tables: Mutex::new(Tables::default()),
            events: Events::new(),
            full_logs: tokio::sync::broadcast::Sender::new(256),
            mount_point: folder(run_folder.join(MOUNT_POINT))?,
            config,
        };
        let runtime = Runtime(Arc::new(inner));
        adopt::adopt(&runtime).await.map_err(|source| OpenError::Folder { path: run_folder, source })?;
        Ok(runtime)
    }

    /// Ids of containers whose logs have grown past [`Config::log_bytes_max`], as it happens: they should be rotated.
    pub fn full_logs(&self) -> tokio::sync::broadcast::Receiver<String> {
        self.0.full_logs.subscribe()
    }

    pub(crate) fn sandbox(&self, id: &str) -> Result<Arc<Sandbox>, Error> {
        find(&self.0.tables.lock().sandboxes, id).ok_or_else(|| no_sandbox(id))
    }

    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>, Error> {
        find(&self.0.tables.lock().containers, id).ok_or_else(|| no_container(id))
    }

    pub(crate) fn containers_of(&self, sandbox: &str) -> Vec<Arc<Container>> {
        self.0.tables.lock().containers.values().filter(|c| c.sandbox == sandbox).cloned().collect()
    }

    /// Changes a sandbox's record and writes it down.
    pub(crate) fn change_sandbox(&self, sandbox: &Sandbox, change: impl FnOnce(&mut SandboxRecord)) {
        let mut record = sandbox.record.lock();
        change(&mut record);
        if let Err(e) = self.0.sandbox_records.save(&sandbox.id, &*record) {
            // The daemon goes on with what it knows; a later one asks the shim.
            tracing::error!(sandbox = %sandbox.id, error = %e, "the sandbox's record could not be written");
        }
    }

    /// Changes a container's record and writes it down.
    pub(crate) fn change_container(&self, container: &Container, change: impl FnOnce(&mut ContainerRecord)) {
        let mut record = container.record.lock();
        change(&mut record);
        if let Err(e) = self.0.container_records.save(&container.id, &*record) {
            tracing::error!(container = %container.id, error = %e, "the container's record could not be written");
        }
    }

    /// Removes a cgroup away from the async threads: the kernel may take a moment.
    pub(crate) async fn remove_cgroup(&self, path: &str) {
        if path.is_empty() {
            return;
        }
        let cgroup = self.0.hierarchy.cgroup(path);
        let removed = tokio::task::spawn_blocking(move || {
            cgroup.kill()?;
            cgroup.remove()
        });
        if let Ok(Err(e)) = removed.await {
            tracing::warn!(cgroup = path, error = %chain(&e), "a cgroup could not be removed");
        }
    }
}

/// The empty folder's name in the run folder.
pub(crate) const MOUNT_POINT: &str = "root";

/// Finds by id, or by the beginning of one if only one begins so.
fn find<T>(table: &BTreeMap<String, Arc<T>>, id: &str) -> Option<Arc<T>> {
    if let Some(found) = table.get(id) {
        return Some(found.clone());
    }
    if id.is_empty() {
        return None;
    }
    let mut matches = table.range(id.to_owned()..).take_while(|(key, _)| key.starts_with(id));
    let (_, found) = matches.next()?;
    matches.next().is_none().then(|| found.clone())
}

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// A new id: 64 hex digits.
pub(crate) fn new_id() -> io::Result<String> {
    let mut bytes = [0u8; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
