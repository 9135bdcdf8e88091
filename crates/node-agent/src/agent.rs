//! The agent: brings the API's Pods, the runtime's events and the workers together.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api_schema::{Map, Value};
use client::Client;
use cri::v1::{GetEventsRequest, ListImagesRequest, ListPodSandboxRequest, StatusRequest, VersionRequest};
use cri::{Code, ImageService, RuntimeService};
use informer::{Change, Extract, Informer};
use parking_lot::{Mutex, RwLock};
use reconcile::{EventType, Recorder, Reference};
use smol_str::SmolStr;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tracing::{debug, info, warn};

use crate::admit::{self, Rejection};
use crate::backoff::BackOff;
use crate::dns::NodeDns;
use crate::images::ImagePuller;
use crate::machine::{self, Machine};
use crate::make::Node;
use crate::node::{NodeConfig, NodeKeeper};
use crate::objects::ObjectCache;
use crate::observed::{LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID};
use crate::pod::{Container, ContainerKind, Pod, Uid};
use crate::ports::{Events, Severity};
use crate::probes::ProbeManager;
use crate::statuses::StatusWriter;
use crate::tokens::TokenCache;
use crate::volume_manager::VolumeManager;
use crate::worker::{Desired, End, PodCgroups, Shared, Worker};

/// How often the node's condition is looked at.
const CARE_PERIOD: Duration = Duration::from_secs(10);
/// How often a runtime that offers no events is asked.
const RELIST_PERIOD: Duration = Duration::from_secs(1);

/// What an agent is made of.
pub struct AgentConfig {
    /// The Node.
    pub node: NodeConfig,
    /// Where its files are (`--root-dir`).
    pub root_dir: PathBuf,
    /// Where the logs of Pods are (`podLogsDir`).
    pub log_dir: PathBuf,
    /// The cgroup above all Pods'.
    pub cgroup_root: String,
    /// How Pods find names.
    pub dns: NodeDns,
    /// The node's addresses, if they are not to be found out.
    pub node_ips: Vec<SmolStr>,
    /// Whether containers that say nothing get the runtime's seccomp profile.
    pub seccomp_default: bool,
    /// The longest that a container which ends again and again waits (`maxContainerRestartPeriod`).
    pub crash_back_off_max: Duration,
}

/// A Pod as the informer keeps it.
struct Kept(Pod);

impl Extract for Kept {
    fn extract(object: Value) -> Self {
        Kept(Pod::new(Arc::new(object)))
    }
}

/// One Pod that is looked after.
struct Looked {
    desired: watch::Sender<Desired>,
    wake: Arc<Notify>,
}

/// The Pods that are looked after, by identity.
#[derive(Default)]
struct Table {
    pods: Mutex<HashMap<Uid, Looked>>,
}

impl Table {
    fn wake(&self, uid: &Uid) {
        if let Some(looked) = self.pods.lock().get(uid) {
            looked.wake.notify_one();
        }
    }

    fn wake_all(&self) {
        for looked in self.pods.lock().values() {
            looked.wake.notify_one();
        }
    }
}

/// The node agent. It works while [`Agent::run`] does; containers run on without it.
pub struct Agent {
    shared: Arc<Shared>,
    keeper: Arc<NodeKeeper>,
    statuses: Arc<StatusWriter>,
    objects: Arc<ObjectCache>,
    pods: Informer<Kept>,
    table: Arc<Table>,
    changed: Arc<Notify>,
    dirty: Arc<Mutex<BTreeSet<(Uid, bool)>>>,
    fixed_ips: Vec<SmolStr>,
}

impl Agent {
    /// Puts an agent together; nothing is touched yet but the runtime's version.
    ///
    /// # Errors
    /// If the runtime does not answer.
    pub async fn new(
        config: AgentConfig,
        client: Client,
        runtime: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
        cgroups: Arc<dyn PodCgroups>,
    ) -> Result<Agent, cri::Error> {
        let version = runtime.version(VersionRequest { version: "v1".to_owned() }).await?;
        let clock = client.world().clock.clone();
        let machine = Machine::look();
        let name = config.node.name.clone();
        let recorder = Recorder::start(&client, "kubelet", &name);
        let events: Arc<dyn Events> = Arc::new(PodEvents { recorder });
        let statuses = StatusWriter::new(client.clone());
        let table = Arc::new(Table::default());
        let objects = {
            let table = table.clone();
            ObjectCache::new(client.clone(), move |uid| table.wake(uid))
        };
        let tokens = Arc::new(TokenCache::new(client.clone(), clock.clone()));
        let disk = machine::disk(&config.root_dir).unwrap_or_default();
        let (_, allocatable) = crate::node::resources(&config.node, &machine, disk);
        let allocatable = Arc::new(RwLock::new(allocatable));
        let volumes = Arc::new(VolumeManager::new(config.root_dir.clone(), tokens, allocatable.clone()));
        let node = Node {
            root_dir: config.root_dir,
            log_dir: config.log_dir,
            cgroup_root: config.cgroup_root,
            dns: config.dns,
            memory_capacity_bytes: i64::try_from(machine.memory_bytes).unwrap_or(i64::MAX),
            seccomp_default: config.seccomp_default,
        };
        let runtime_version = format!("{}://{}", version.runtime_name, version.runtime_version);
        let keeper = NodeKeeper::new(client.clone(), config.node, machine, clock.clone());
        keeper.update(|facts| {
            facts.disk = disk;
            facts.runtime_version = runtime_version;
            facts.ips = config.node_ips.clone();
        });
        let shared = Arc::new(Shared {
            runtime: runtime.clone(),
            runtime_name: version.runtime_name,
            images: images.clone(),
            puller: ImagePuller::new(images, events.clone(), clock.clone()),
            events: events.clone(),
            statuses: statuses.clone(),
            sources: objects.clone(),
            volumes,
            probes: ProbeManager::new(runtime, events, clock.clone()),
            cgroups,
            node,
            host_ips: RwLock::new(config.node_ips.clone()),
            allocatable,
            crash_back_off: BackOff::new(Duration::from_secs(10), config.crash_back_off_max),
            clock,
        });
        let pods = Informer::start(client.resource("", "v1", "pods"), "", &format!("spec.nodeName={name}"));
        let (changed, dirty) = (Arc::new(Notify::new()), Arc::new(Mutex::new(BTreeSet::new())));
        {
            let (changed, dirty) = (changed.clone(), dirty.clone());
            pods.subscribe(move |change: &Change<Kept>| {
                let gone = matches!(change, Change::Deleted { .. });
                dirty.lock().insert((Uid(change.object().uid.clone()), gone));
                changed.notify_one();
            });
        }
        let agent =
            Agent { shared, keeper, statuses, objects, pods, table, changed, dirty, fixed_ips: config.node_ips };
        Ok(agent)
    }

    /// The probes' counts, for metrics.
    pub fn probes(&self) -> &Arc<ProbeManager> {
        &self.shared.probes
    }

    /// The Pods bound to this node, as the API has them.
    pub fn pods(&self) -> Vec<Pod> {
        self.pods.list().iter().map(|pod| pod.content.0.clone()).collect()
    }

    /// Where the agent keeps its files.
    pub fn root_dir(&self) -> &std::path::Path {
        &self.shared.node.root_dir
    }

    /// The keeper of the Node object.
    pub fn keeper(&self) -> &Arc<NodeKeeper> {
        &self.keeper
    }

    /// Works until the future is dropped. The containers run on.
    pub async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.statuses.clone().run());
        let agent = self.clone();
        tasks.spawn(async move { agent.take_care().await });
        tasks.spawn(self.keeper.clone().run());
        self.pods.synced().await;
        let agent = self.clone();
        tasks.spawn(async move { agent.follow_runtime().await });
        self.adopt().await;
        let agent = self.clone();
        tasks.spawn(async move { agent.follow_pods().await });
        // None of them ends by itself; should one panic, the others go on.
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                warn!(%error, "a task of the node agent has failed");
            }
        }
    }

    /// Ends what the runtime holds of Pods that the API does not know any more, and removes their files.
    async fn adopt(self: &Arc<Self>) {
        let sandboxes = loop {
            match self.shared.runtime.list_pod_sandbox(ListPodSandboxRequest::default()).await {
                Ok(sandboxes) => break sandboxes.items,
                Err(error) => {
                    warn!(%error, "cannot ask the runtime for its pods");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        };
        let known: BTreeSet<Uid> = self.pods.list().iter().map(|pod| Uid(pod.uid.clone())).collect();
        let mut orphans: BTreeMap<Uid, Pod> = BTreeMap::new();
        for sandbox in sandboxes {
            let label = |name: &str| sandbox.labels.get(name).map_or("", String::as_str);
            if label(LABEL_POD_UID).is_empty() {
                continue;
            }
            let mut object = Value::Map(Map::default());
            object.set(&["metadata", "uid"], label(LABEL_POD_UID));
            object.set(&["metadata", "name"], label(LABEL_POD_NAME));
            object.set(&["metadata", "namespace"], label(LABEL_POD_NAMESPACE));
            let pod = Pod::new(Arc::new(object));
            if !known.contains(pod.uid()) {
                orphans.insert(pod.uid().clone(), pod);
            }
        }
        let folders = std::fs::read_dir(self.shared.node.root_dir.join("pods")).into_iter().flatten().flatten();
        for folder in folders {
            let uid = Uid(SmolStr::new(folder.file_name().to_string_lossy()));
            if known.contains(&uid) || orphans.contains_key(&uid) {
                continue;
            }
            let mut object = Value::Map(Map::default());
            object.set(&["metadata", "uid"], uid.0.clone());
            orphans.insert(uid, Pod::new(Arc::new(object)));
        }
        for (uid, pod) in orphans {
            info!(pod = %pod.key(), uid = %uid, "the API does not know this pod any more; it ends");
            let grace_seconds = pod.grace_seconds();
            self.look_after(pod, Some(End::Gone { grace_seconds }));
        }
    }

    async fn follow_pods(self: Arc<Self>) {
        // What was there before anybody listened.
        for pod in self.pods.list() {
            self.pod_changed(&pod.content.0);
        }
        loop {
            let dirty = std::mem::take(&mut *self.dirty.lock());
            if dirty.is_empty() {
                self.changed.notified().await;
                continue;
            }
            let current: HashMap<Uid, Pod> =
                self.pods.list().iter().map(|pod| (Uid(pod.uid.clone()), pod.content.0.clone())).collect();
            for (uid, _) in dirty {
                match current.get(&uid) {
                    Some(pod) => self.pod_changed(pod),
                    None => self.pod_gone(&uid),
                }
            }
        }
    }

    fn pod_changed(self: &Arc<Self>, pod: &Pod) {
        let end = pod.is_deleted().then(|| End::Deleted {
            grace_seconds: pod.deletion_grace_seconds().unwrap_or_else(|| pod.grace_seconds()),
        });
        let is_known = self.table.pods.lock().contains_key(pod.uid());
        if is_known {
            let pods = self.table.pods.lock();
            let Some(looked) = pods.get(pod.uid()) else { return };
            looked.desired.send_if_modified(|desired| {
                let is_new = desired.pod.object() != pod.object();
                desired.pod = pod.clone();
                // Who was evicted stays so, unless it is deleted.
                if end.is_some() {
                    desired.end = end.clone();
                }
                is_new
            });
            return;
        }
        if end.is_none() && pod.is_terminal() && has_no_containers(pod) {
            // It was never taken; there is nothing to look after until it is deleted.
            return;
        }
        if end.is_none()
            && !pod.is_terminal()
            && let Err(rejection) = self.admit(pod)
        {
            self.reject(pod, &rejection);
            return;
        }
        self.look_after(pod.clone(), end);
    }

    fn admit(&self, pod: &Pod) -> Result<(), Rejection> {
        let others: Vec<Pod> = {
            let pods = self.table.pods.lock();
            let active = pods.values().map(|looked| looked.desired.borrow().pod.clone());
            active.filter(|other| !other.is_terminal() && other.uid() != pod.uid()).collect()
        };
        // A Pod that has containers already was taken before.
        if !has_no_containers(pod) {
            return Ok(());
        }
        let config = self.keeper.config();
        let node = crate::node::object(config, self.keeper.machine());
        let labels = node.map_at(&["metadata", "labels"]).cloned().unwrap_or_default();
        admit::admit(pod, &others, &labels, &config.name, &self.shared.allocatable.read())
    }

    fn reject(&self, pod: &Pod, rejection: &Rejection) {
        let message = rejection.message.clone();
        self.shared.events.event(pod, None, Severity::Warning, &rejection.reason, message.clone());
        let mut status = Value::from([("phase", "Failed"), ("reason", &rejection.reason)]);
        status.set(&["message"], format!("Pod was rejected: {message}"));
        status.set(&["observedGeneration"], pod.generation());
        self.shared.statuses.report(pod, Arc::new(status));
    }

    fn pod_gone(&self, uid: &Uid) {
        let pods = self.table.pods.lock();
        let Some(looked) = pods.get(uid) else { return };
        looked.desired.send_modify(|desired| {
            let grace_seconds = match &desired.end {
                Some(End::Deleted { grace_seconds }) => *grace_seconds,
                _ => desired.pod.grace_seconds(),
            };
            desired.end = Some(End::Gone { grace_seconds });
        });
    }

    /// Starts the worker of a Pod.
    fn look_after(self: &Arc<Self>, pod: Pod, end: Option<End>) {
        let uid = pod.uid().clone();
        let wake = Arc::new(Notify::new());
        let (desired, receiver) = watch::channel(Desired { pod, end });
        let worker = Worker::new(self.shared.clone(), receiver, wake.clone());
        self.table.pods.lock().insert(uid.clone(), Looked { desired, wake });
        let agent = Arc::downgrade(self);
        let table = self.table.clone();
        let task = tokio::spawn(worker.run());
        tokio::spawn(async move {
            let ended = task.await;
            table.pods.lock().remove(&uid);
            let Some(agent) = agent.upgrade() else { return };
            agent.objects.forget(&uid);
            if let Err(error) = ended {
                warn!(%uid, %error, "the worker of a pod has failed; it starts again");
                let pod = agent.pods.list().iter().find(|pod| pod.uid == uid.0).map(|pod| pod.content.0.clone());
                if let Some(pod) = pod {
                    // Whatever was wrong with the object may be wrong still.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    agent.pod_changed(&pod);
                }
            }
        });
    }

    /// Wakes workers when their containers change.
    async fn follow_runtime(self: Arc<Self>) {
        loop {
            match self.shared.runtime.get_container_events(GetEventsRequest {}).await {
                Ok(mut events) => {
                    // Whatever happened before anybody listened.
                    self.table.wake_all();
                    while let Some(event) = events.next().await {
                        let Ok(event) = event else { break };
                        let metadata = event.pod_sandbox_status.and_then(|status| status.metadata);
                        match metadata {
                            Some(metadata) => self.table.wake(&Uid(metadata.uid.into())),
                            None => self.table.wake_all(),
                        }
                    }
                }
                Err(error) if error.code == Code::Unimplemented => {
                    self.relist().await;
                    return;
                }
                Err(error) => debug!(%error, "the runtime's events cannot be followed"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// For runtimes without events: compares what they hold once a second (kubelet's generic PLEG).
    async fn relist(&self) {
        let mut before: HashMap<String, (i32, String)> = HashMap::new();
        loop {
            let request = cri::v1::ListContainersRequest::default();
            if let Ok(containers) = self.shared.runtime.list_containers(request).await {
                let now: HashMap<String, (i32, String)> = containers
                    .containers
                    .into_iter()
                    .map(|mut container| {
                        let uid = container.labels.remove(LABEL_POD_UID).unwrap_or_default();
                        (container.id, (container.state, uid))
                    })
                    .collect();
                let changed = now.iter().filter(|(id, state)| before.get(*id) != Some(*state));
                let gone = before.iter().filter(|(id, _)| !now.contains_key(*id));
                for (_, (_, uid)) in changed.chain(gone) {
                    self.table.wake(&Uid(uid.as_str().into()));
                }
                before = now;
            }
            tokio::time::sleep(RELIST_PERIOD).await;
        }
    }

    /// Looks at the node itself: addresses, disk, runtime, images.
    async fn take_care(self: Arc<Self>) {
        loop {
            let not_ready = self.runtime_trouble().await;
            let images = self.images().await;
            let disk = machine::disk(&self.shared.node.root_dir).unwrap_or_default();
            let ips = if self.fixed_ips.is_empty() { machine::own_ips() } else { self.fixed_ips.clone() };
            if *self.shared.host_ips.read() != ips {
                *self.shared.host_ips.write() = ips.clone();
                self.table.wake_all();
            }
            self.keeper.update(|facts| {
                facts.disk.capacity_bytes = disk.capacity_bytes;
                facts.ips = ips;
                facts.not_ready = not_ready;
                if let Some(images) = images {
                    facts.images = images;
                }
            });
            tokio::time::sleep(CARE_PERIOD).await;
        }
    }

    async fn runtime_trouble(&self) -> Option<String> {
        let status = match self.shared.runtime.status(StatusRequest { verbose: false }).await {
            Ok(status) => status.status.unwrap_or_default(),
            Err(error) => return Some(format!("[container runtime is down: {error}]")),
        };
        let trouble = |name: &str, what: &str| {
            let Some(condition) = status.conditions.iter().find(|condition| condition.r#type == name) else {
                return Some(format!("container runtime did not report {name}"));
            };
            let (reason, message) = (&condition.reason, &condition.message);
            (!condition.status).then(|| format!("{what} not ready: {name}=false reason:{reason} message:{message}"))
        };
        trouble("RuntimeReady", "container runtime").or_else(|| trouble("NetworkReady", "container runtime network"))
    }

    async fn images(&self) -> Option<Vec<(Vec<String>, u64)>> {
        let list = self.shared.images.list_images(ListImagesRequest::default()).await.ok()?;
        let mut images: Vec<(Vec<String>, u64)> =
            list.images.into_iter().map(|image| ([image.repo_digests, image.repo_tags].concat(), image.size)).collect();
        images.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Some(images)
    }
}

/// Whether the API has never seen a container of the Pod.
fn has_no_containers(pod: &Pod) -> bool {
    pod.status().is_none_or(|status| status.list_at(&["containerStatuses"]).is_empty())
}

/// Events of Pods and their containers, in the API.
struct PodEvents {
    recorder: Recorder,
}

impl Events for PodEvents {
    fn event(&self, pod: &Pod, container: Option<Container<'_>>, severity: Severity, reason: &str, message: String) {
        let reference = Reference {
            api_version: SmolStr::new_static("v1"),
            kind: SmolStr::new_static("Pod"),
            namespace: pod.key().namespace.clone(),
            name: pod.key().name.clone(),
            uid: pod.uid().0.clone(),
            resource_version: SmolStr::new(pod.object().str_at(&["metadata", "resourceVersion"])),
            field_path: SmolStr::default(),
        };
        let reference = match container {
            None => reference,
            Some(container) => {
                let list = match container.kind() {
                    ContainerKind::Init => "initContainers",
                    ContainerKind::Regular => "containers",
                    ContainerKind::Ephemeral => "ephemeralContainers",
                };
                reference.field(format!("spec.{list}{{{}}}", container.name()))
            }
        };
        let severity = match severity {
            Severity::Normal => EventType::Normal,
            Severity::Warning => EventType::Warning,
        };
        self.recorder.event(&reference, severity, reason, message);
    }
}
