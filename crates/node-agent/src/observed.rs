//! What the runtime says of one Pod: its sandboxes and containers, newest first.

use std::cmp::Reverse;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use cri::v1::{self, ContainerState, NamespaceMode, PodSandboxState};
use cri::{Error, RuntimeService};
use smol_str::SmolStr;

use crate::pod::{Pod, Uid};

/// The label under which kubelet keeps a Pod's name on what it makes in a runtime.
pub const LABEL_POD_NAME: &str = "io.kubernetes.pod.name";
/// The label of the Pod's namespace.
pub const LABEL_POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// The label of the Pod's uid.
pub const LABEL_POD_UID: &str = "io.kubernetes.pod.uid";
/// The label of a container's name in the Pod.
pub const LABEL_CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// The annotation of [`crate::pod::Container::hash`].
pub const ANNOTATION_HASH: &str = "io.kubernetes.container.hash";
/// The annotation of how often the container was started again.
pub const ANNOTATION_RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// The annotation of `terminationMessagePath`.
pub const ANNOTATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// The annotation of `terminationMessagePolicy`.
pub const ANNOTATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";

/// A sandbox, as far as the agent looks at it.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// The runtime's name for it.
    pub id: String,
    /// The how-manieth of its Pod.
    pub attempt: u32,
    /// Whether it can hold containers.
    pub ready: bool,
    /// Whether it has the node's network.
    pub host_network: bool,
    /// Its addresses, the first one first; none for the node's network.
    pub ips: Vec<SmolStr>,
    /// When it was made, in nanoseconds since 1970.
    pub created_at: i64,
}

/// A container, as far as the agent looks at it.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The runtime's name for it.
    pub id: String,
    /// Its name in the Pod.
    pub name: SmolStr,
    /// What it does.
    pub state: ContainerState,
    /// [`crate::pod::Container::hash`] when it was made.
    pub hash: Option<u32>,
    /// How often it was started again before.
    pub restart_count: i64,
    /// All that the runtime says.
    pub status: v1::ContainerStatus,
}

impl Observed {
    /// Whether it ended with another exit code than zero.
    pub fn failed(&self) -> bool {
        self.state == ContainerState::Exited && self.status.exit_code != 0
            || self.state == ContainerState::Unknown && self.status.reason == "OOMKilled"
    }
}

/// What the runtime holds of one Pod.
#[derive(Clone, Debug, Default)]
pub struct PodRuntime {
    /// Its sandboxes, newest first.
    pub sandboxes: Vec<Sandbox>,
    /// Its containers, newest first; several of one name if it was restarted.
    pub containers: Vec<Observed>,
}

impl PodRuntime {
    /// The newest container of a name.
    pub fn container(&self, name: &str) -> Option<&Observed> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// Whether any container runs.
    pub fn any_running(&self) -> bool {
        self.containers.iter().any(|container| container.state == ContainerState::Running)
    }

    /// Whether any regular container was ever made.
    pub fn any_regular_created(&self, pod: &Pod) -> bool {
        pod.containers().any(|container| self.container(container.name()).is_some())
    }

    /// The sandbox in which containers can run now.
    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// Asks the runtime. What vanishes between the questions is left out.
    ///
    /// # Errors
    /// If the runtime cannot be asked.
    pub async fn observe(runtime: &dyn RuntimeService, uid: &Uid) -> Result<PodRuntime, Error> {
        let selector = [(LABEL_POD_UID.to_owned(), uid.0.to_string())];
        let filter = v1::PodSandboxFilter { label_selector: selector.clone().into(), ..Default::default() };
        let sandboxes = runtime.list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) }).await?;
        let filter = v1::ContainerFilter { label_selector: selector.into(), ..Default::default() };
        let containers = runtime.list_containers(v1::ListContainersRequest { filter: Some(filter) }).await?;

        let mut observed = PodRuntime::default();
        for sandbox in sandboxes.items {
            let request = v1::PodSandboxStatusRequest { pod_sandbox_id: sandbox.id, verbose: false };
            match runtime.pod_sandbox_status(request).await {
                Ok(response) => observed.sandboxes.extend(response.status.map(Sandbox::from)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        for container in containers.containers {
            let request = v1::ContainerStatusRequest { container_id: container.id, verbose: false };
            match runtime.container_status(request).await {
                Ok(response) => observed.containers.extend(response.status.map(Observed::from)),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        for container in observed.containers.iter_mut().filter(|container| container.state == ContainerState::Exited) {
            if let Some(message) = last_words(&container.status) {
                container.status.message = message;
            }
        }
        observed.sort();
        Ok(observed)
    }

    /// Puts the newest first.
    pub fn sort(&mut self) {
        self.sandboxes.sort_by_key(|sandbox| Reverse((sandbox.created_at, sandbox.attempt)));
        self.containers.sort_by_key(|container| Reverse((container.status.created_at, container.restart_count)));
    }
}

impl From<v1::PodSandboxStatus> for Sandbox {
    fn from(status: v1::PodSandboxStatus) -> Sandbox {
        let network = status.linux.and_then(|linux| linux.namespaces).and_then(|namespaces| namespaces.options);
        let mut ips = Vec::new();
        if let Some(network) = status.network {
            let further = network.additional_ips.into_iter().map(|ip| ip.ip);
            ips = [network.ip].into_iter().chain(further).filter(|ip| !ip.is_empty()).map(SmolStr::from).collect();
        }
        Sandbox {
            attempt: status.metadata.map_or(0, |metadata| metadata.attempt),
            ready: status.state == PodSandboxState::Ready as i32,
            host_network: network.is_some_and(|options| options.network == NamespaceMode::Node as i32),
            ips,
            created_at: status.created_at,
            id: status.id,
        }
    }
}

impl From<v1::ContainerStatus> for Observed {
    fn from(status: v1::ContainerStatus) -> Observed {
        let name = status.labels.get(LABEL_CONTAINER_NAME).cloned();
        let name = name.or_else(|| status.metadata.as_ref().map(|metadata| metadata.name.clone())).unwrap_or_default();
        let hash = status.annotations.get(ANNOTATION_HASH).and_then(|hash| u32::from_str_radix(hash, 16).ok());
        let count = status.annotations.get(ANNOTATION_RESTART_COUNT).and_then(|count| count.parse().ok());
        let attempt = status.metadata.as_ref().map_or(0, |metadata| i64::from(metadata.attempt));
        Observed {
            id: status.id.clone(),
            name: name.into(),
            state: status.state(),
            hash,
            restart_count: count.unwrap_or(attempt),
            status,
        }
    }
}

/// The most of a termination message that is shown, in bytes.
const MESSAGE_BYTES_MAX: u64 = 4096;
/// And of a log that stands for it: kubelet takes the last 80 lines, and no more than 2048 bytes.
const LOG_BYTES_MAX: u64 = 2048;
const LOG_LINES_MAX: usize = 80;

/// What an ended container left as its termination message: what it wrote into the file of its
/// `terminationMessagePath`, else, if its policy says so and it failed, the end of its log.
fn last_words(status: &v1::ContainerStatus) -> Option<String> {
    let path = status.annotations.get(ANNOTATION_MESSAGE_PATH).filter(|path| !path.is_empty())?;
    let mount = status.mounts.iter().find(|mount| mount.container_path == *path)?;
    let message = tail(Path::new(&mount.host_path), MESSAGE_BYTES_MAX).unwrap_or_default();
    let falls_back =
        status.annotations.get(ANNOTATION_MESSAGE_POLICY).is_some_and(|policy| policy == "FallbackToLogsOnError");
    if message.is_empty() && falls_back && status.exit_code != 0 {
        return tail(Path::new(&status.log_path), 4 * LOG_BYTES_MAX).map(|log| log_end(&log));
    }
    Some(message).filter(|message| !message.is_empty())
}

/// The last bytes of a file, as text.
fn tail(path: &Path, bytes_max: u64) -> Option<String> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes_max))).ok()?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The content of the last lines of a log in the CRI's form: `time stream tag content`.
fn log_end(log: &str) -> String {
    let lines: Vec<&str> = log.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES_MAX)..];
    let mut text: String = last.iter().flat_map(|line| [*line, "\n"]).collect();
    let limit = usize::try_from(LOG_BYTES_MAX).unwrap_or(usize::MAX);
    if text.len() > limit {
        let start = (text.len() - limit..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text.drain(..start);
    }
    text
}
