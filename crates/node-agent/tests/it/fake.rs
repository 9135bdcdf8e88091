//! Surroundings for a worker: a runtime in memory, and a log of all that is said.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api_schema::{Map, Value};
use cri::v1::{self, ContainerState, PodSandboxState};
use cri::{Error, ImageService, Reply, RuntimeService};
use node_agent::backoff::BackOff;
use node_agent::dns::NodeDns;
use node_agent::env::Lookups;
use node_agent::images::ImagePuller;
use node_agent::make::{Node, ReadyVolume};
use node_agent::pod::{Container, Pod};
use node_agent::ports::{Events, Severity, Sources, Statuses, Task, VolumeError, Volumes};
use node_agent::probes::ProbeManager;
use node_agent::worker::{Desired, PodCgroups, Shared, Worker};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use world::{Clock, Timestamp, TokioClock};

/// How a container behaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behaviour {
    /// It ends by itself after so long, with this code.
    pub(crate) ends: Option<(Duration, i32)>,
    /// It ends so long after its stop signal; never if `None`.
    pub(crate) stops_after: Option<Duration>,
    /// What commands in it return.
    pub(crate) exec_code: i32,
}

struct FakeContainer {
    config: v1::ContainerConfig,
    sandbox: String,
    status: v1::ContainerStatus,
}

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, v1::PodSandboxStatus>,
    containers: BTreeMap<String, FakeContainer>,
    behaviours: HashMap<String, Behaviour>,
    /// Images that are there; what is not can be pulled unless it is in `broken`.
    images: Vec<String>,
    broken: HashMap<String, String>,
    fail_create: HashMap<String, String>,
    fail_sandbox: Option<String>,
    number: u32,
}

/// A runtime in memory; also all the other surroundings.
pub(crate) struct Fake {
    state: Mutex<State>,
    log: Mutex<Vec<String>>,
    said: Notify,
    clock: TokioClock,
    wake: Arc<Notify>,
    pub(crate) status: watch::Sender<Value>,
    me: std::sync::Weak<Fake>,
}

impl Fake {
    pub(crate) fn new() -> Arc<Fake> {
        Arc::new_cyclic(|me| Fake {
            state: Mutex::default(),
            log: Mutex::default(),
            said: Notify::new(),
            clock: TokioClock::new(Timestamp::from_seconds(1_000_000)),
            wake: Arc::new(Notify::new()),
            status: watch::Sender::new(Value::Map(Map::default())),
            me: me.clone(),
        })
    }

    pub(crate) fn behave(&self, container: &str, behaviour: Behaviour) {
        self.state.lock().behaviours.insert(container.to_owned(), behaviour);
    }

    pub(crate) fn break_image(&self, image: &str, error: Option<&str>) {
        let mut state = self.state.lock();
        match error {
            Some(error) => state.broken.insert(image.to_owned(), error.to_owned()),
            None => state.broken.remove(image),
        };
    }

    pub(crate) fn fail_create(&self, container: &str, error: Option<&str>) {
        let mut state = self.state.lock();
        match error {
            Some(error) => state.fail_create.insert(container.to_owned(), error.to_owned()),
            None => state.fail_create.remove(container),
        };
    }

    pub(crate) fn fail_sandbox(&self, error: Option<&str>) {
        self.state.lock().fail_sandbox = error.map(str::to_owned);
    }

    /// The sandboxes and containers die at once, as after a reboot.
    pub(crate) fn lose_everything(&self) {
        let mut state = self.state.lock();
        for sandbox in state.sandboxes.values_mut() {
            sandbox.state = PodSandboxState::Notready as i32;
        }
        let ids: Vec<String> = state.containers.keys().cloned().collect();
        drop(state);
        for id in ids {
            self.end(&id, 137);
        }
    }

    /// What was said since the last call, with the seconds since the beginning.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.lock())
    }

    fn say(&self, text: impl AsRef<str>) {
        let seconds = self.clock.now().seconds - 1_000_000;
        self.log.lock().push(format!("{seconds} {}", text.as_ref()));
        self.said.notify_waiters();
    }

    fn now(&self) -> i64 {
        let now = self.clock.now();
        now.seconds * 1_000_000_000 + i64::from(now.nanos)
    }

    /// A container ends.
    pub(crate) fn end(&self, id: &str, code: i32) {
        let mut state = self.state.lock();
        let Some(container) = state.containers.get_mut(id) else { return };
        if container.status.state != ContainerState::Running as i32 {
            return;
        }
        container.status.state = ContainerState::Exited as i32;
        container.status.exit_code = code;
        container.status.reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        container.status.finished_at = self.now();
        drop(state);
        self.wake.notify_one();
    }

    /// A worker for a Pod, and the handle by which it is told what to do.
    pub(crate) fn start(self: &Arc<Fake>, pod: Pod, folder: PathBuf) -> (watch::Sender<Desired>, JoinHandle<()>) {
        let clock: Arc<dyn Clock> = Arc::new(self.clock);
        let shared = Shared {
            runtime: self.clone(),
            runtime_name: "fake".to_owned(),
            images: self.clone(),
            puller: ImagePuller::new(self.clone(), self.clone(), clock.clone()),
            events: self.clone(),
            statuses: self.clone(),
            sources: self.clone(),
            volumes: self.clone(),
            probes: ProbeManager::new(self.clone(), self.clone(), clock.clone()),
            cgroups: self.clone(),
            node: Node {
                root_dir: folder.join("root"),
                log_dir: folder.join("logs"),
                cgroup_root: "/".to_owned(),
                dns: NodeDns::default(),
                memory_capacity_bytes: 1 << 30,
                seccomp_default: true,
            },
            host_ips: RwLock::new(vec!["192.168.0.1".into()]),
            allocatable: Arc::default(),
            crash_back_off: BackOff::new(Duration::from_secs(10), Duration::from_secs(300)),
            clock,
        };
        let (sender, receiver) = watch::channel(Desired { pod, end: None });
        let worker = Worker::new(Arc::new(shared), receiver, self.wake.clone());
        (sender, tokio::spawn(worker.run()))
    }

    /// Waits for the status to be so.
    pub(crate) async fn wait(&self, what: &str, condition: impl Fn(&Value) -> bool) {
        let mut status = self.status.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(7200), status.wait_for(|status| condition(status))).await;
        let Ok(found) = waited else { panic!("never {what}; the log:\n{}", self.take_log().join("\n")) };
        found.expect("the fake lives");
    }
}

fn no_such(what: &str, id: &str) -> Error {
    Error::not_found(format!("{what} {id:?} not found"))
}

impl RuntimeService for Fake {
    fn run_pod_sandbox(&self, request: v1::RunPodSandboxRequest) -> Reply<'_, v1::RunPodSandboxResponse> {
        Box::pin(async move {
            let config = request.config.expect("a config");
            let mut state = self.state.lock();
            if let Some(error) = &state.fail_sandbox {
                return Err(Error::unknown(error.clone()));
            }
            state.number += 1;
            let id = format!("sandbox-{}", state.number);
            let status = v1::PodSandboxStatus {
                id: id.clone(),
                metadata: config.metadata,
                created_at: self.now() + i64::from(state.number),
                network: Some(v1::PodSandboxNetworkStatus { ip: "10.0.0.9".to_owned(), additional_ips: vec![] }),
                ..v1::PodSandboxStatus::default()
            };
            state.sandboxes.insert(id.clone(), status);
            drop(state);
            self.say(format!("run {id}"));
            Ok(v1::RunPodSandboxResponse { pod_sandbox_id: id })
        })
    }

    fn stop_pod_sandbox(&self, request: v1::StopPodSandboxRequest) -> Reply<'_, v1::StopPodSandboxResponse> {
        Box::pin(async move {
            let id = request.pod_sandbox_id;
            let mut state = self.state.lock();
            let sandbox = state.sandboxes.get_mut(&id).ok_or_else(|| no_such("sandbox", &id))?;
            let was_ready = sandbox.state == PodSandboxState::Ready as i32;
            sandbox.state = PodSandboxState::Notready as i32;
            drop(state);
            if was_ready {
                self.say(format!("stop {id}"));
            }
            Ok(v1::StopPodSandboxResponse {})
        })
    }

    fn remove_pod_sandbox(&self, request: v1::RemovePodSandboxRequest) -> Reply<'_, v1::RemovePodSandboxResponse> {
        Box::pin(async move {
            self.state.lock().sandboxes.remove(&request.pod_sandbox_id);
            self.say(format!("remove {}", request.pod_sandbox_id));
            Ok(v1::RemovePodSandboxResponse {})
        })
    }

    fn list_pod_sandbox(&self, _: v1::ListPodSandboxRequest) -> Reply<'_, v1::ListPodSandboxResponse> {
        Box::pin(async move {
            let state = self.state.lock();
            let items =
                state.sandboxes.keys().map(|id| v1::PodSandbox { id: id.clone(), ..Default::default() }).collect();
            Ok(v1::ListPodSandboxResponse { items })
        })
    }

    fn pod_sandbox_status(&self, request: v1::PodSandboxStatusRequest) -> Reply<'_, v1::PodSandboxStatusResponse> {
        Box::pin(async move {
            let id = request.pod_sandbox_id;
            let status = self.state.lock().sandboxes.get(&id).cloned().ok_or_else(|| no_such("sandbox", &id))?;
            Ok(v1::PodSandboxStatusResponse { status: Some(status), ..Default::default() })
        })
    }

    fn list_containers(&self, _: v1::ListContainersRequest) -> Reply<'_, v1::ListContainersResponse> {
        Box::pin(async move {
            let state = self.state.lock();
            let containers =
                state.containers.keys().map(|id| v1::Container { id: id.clone(), ..Default::default() }).collect();
            Ok(v1::ListContainersResponse { containers })
        })
    }

    fn container_status(&self, request: v1::ContainerStatusRequest) -> Reply<'_, v1::ContainerStatusResponse> {
        Box::pin(async move {
            let id = request.container_id;
            let state = self.state.lock();
            let container = state.containers.get(&id).ok_or_else(|| no_such("container", &id))?;
            Ok(v1::ContainerStatusResponse { status: Some(container.status.clone()), ..Default::default() })
        })
    }

    fn create_container(&self, request: v1::CreateContainerRequest) -> Reply<'_, v1::CreateContainerResponse> {
        Box::pin(async move {
            let config = request.config.expect("a config");
            let metadata = config.metadata.clone().expect("metadata");
            let mut state = self.state.lock();
            if let Some(error) = state.fail_create.get(&metadata.name) {
                return Err(Error::unknown(error.clone()));
            }
            let id = format!("{}-{}", metadata.name, metadata.attempt);
            state.number += 1;
            let status = v1::ContainerStatus {
                id: id.clone(),
                metadata: Some(metadata),
                state: ContainerState::Created as i32,
                created_at: self.now() + i64::from(state.number),
                labels: config.labels.clone(),
                annotations: config.annotations.clone(),
                ..v1::ContainerStatus::default()
            };
            state.containers.insert(id.clone(), FakeContainer { config, sandbox: request.pod_sandbox_id, status });
            Ok(v1::CreateContainerResponse { container_id: id })
        })
    }

    fn start_container(&self, request: v1::StartContainerRequest) -> Reply<'_, v1::StartContainerResponse> {
        Box::pin(async move {
            let id = request.container_id;
            let mut state = self.state.lock();
            let now = self.now();
            let container = state.containers.get_mut(&id).ok_or_else(|| no_such("container", &id))?;
            container.status.state = ContainerState::Running as i32;
            container.status.started_at = now;
            let name = container.config.metadata.as_ref().expect("metadata").name.clone();
            assert!(container.sandbox.starts_with("sandbox-"));
            let behaviour = state.behaviours.get(&name).copied().unwrap_or_default();
            drop(state);
            self.say(format!("start {id}"));
            if let (Some((after, code)), Some(me)) = (behaviour.ends, self.me.upgrade()) {
                tokio::spawn(async move {
                    tokio::time::sleep(after).await;
                    me.end(&id, code);
                });
            }
            Ok(v1::StartContainerResponse {})
        })
    }

    fn stop_container(&self, request: v1::StopContainerRequest) -> Reply<'_, v1::StopContainerResponse> {
        Box::pin(async move {
            let id = request.container_id;
            let (name, is_running) = {
                let state = self.state.lock();
                let container = state.containers.get(&id).ok_or_else(|| no_such("container", &id))?;
                let is_running = container.status.state == ContainerState::Running as i32;
                (container.config.metadata.as_ref().expect("metadata").name.clone(), is_running)
            };
            if is_running {
                self.say(format!("stop {id} within {} s", request.timeout));
                let behaviour = self.state.lock().behaviours.get(&name).copied().unwrap_or_default();
                let timeout = Duration::from_secs(request.timeout.unsigned_abs());
                let (after, code) = match behaviour.stops_after {
                    Some(after) if after <= timeout => (after, 143),
                    _ => (timeout, 137),
                };
                tokio::time::sleep(after).await;
                self.end(&id, code);
            }
            Ok(v1::StopContainerResponse {})
        })
    }

    fn remove_container(&self, request: v1::RemoveContainerRequest) -> Reply<'_, v1::RemoveContainerResponse> {
        Box::pin(async move {
            self.state.lock().containers.remove(&request.container_id);
            self.say(format!("remove {}", request.container_id));
            Ok(v1::RemoveContainerResponse {})
        })
    }

    fn exec_sync(&self, request: v1::ExecSyncRequest) -> Reply<'_, v1::ExecSyncResponse> {
        Box::pin(async move {
            let name = request.container_id.split('-').next().unwrap_or_default().to_owned();
            let exit_code = self.state.lock().behaviours.get(&name).map_or(0, |behaviour| behaviour.exec_code);
            let shown = request.cmd.join(" ");
            if shown != "quiet" {
                self.say(format!("exec {}: {shown}", request.container_id));
            }
            Ok(v1::ExecSyncResponse { exit_code, stdout: b"words".to_vec(), stderr: Vec::new() })
        })
    }
}

impl ImageService for Fake {
    fn image_status(&self, request: v1::ImageStatusRequest) -> Reply<'_, v1::ImageStatusResponse> {
        Box::pin(async move {
            let name = request.image.expect("a name").image;
            let is_there = self.state.lock().images.contains(&name);
            let image = is_there.then(|| v1::Image { id: name, size: 42, ..v1::Image::default() });
            Ok(v1::ImageStatusResponse { image, ..Default::default() })
        })
    }

    fn pull_image(&self, request: v1::PullImageRequest) -> Reply<'_, v1::PullImageResponse> {
        Box::pin(async move {
            let name = request.image.expect("a name").image;
            let mut state = self.state.lock();
            if let Some(error) = state.broken.get(&name) {
                return Err(Error::not_found(error.clone()));
            }
            state.images.push(name.clone());
            Ok(v1::PullImageResponse { image_ref: name })
        })
    }
}

impl Events for Fake {
    fn event(&self, _: &Pod, container: Option<Container<'_>>, severity: Severity, reason: &str, message: String) {
        let about = container.map_or(String::new(), |container| format!(" {}", container.name()));
        self.say(format!("[{}{about}] {reason}: {message}", severity.name()));
    }
}

impl Statuses for Fake {
    fn report(&self, _: &Pod, status: Arc<Value>) {
        let before = self.status.borrow().str_at(&["phase"]).to_owned();
        let phase = status.str_at(&["phase"]);
        if phase != before {
            let reason = status.str_at(&["reason"]);
            self.say(format!("{phase} {reason}").trim_end());
        }
        self.status.send_replace((*status).clone());
    }

    fn finished(&self, _: &Pod) {
        self.say("finished");
    }
}

impl Sources for Fake {
    fn lookups<'a>(&'a self, _: &'a Pod) -> Task<'a, Result<Arc<dyn Lookups>, String>> {
        Box::pin(async { Ok(Arc::new(NoObjects) as Arc<dyn Lookups>) })
    }
}

struct NoObjects;

impl Lookups for NoObjects {
    fn config_map(&self, _: &str) -> Option<Arc<Value>> {
        None
    }
    fn secret(&self, _: &str) -> Option<Arc<Value>> {
        None
    }
    fn services(&self) -> Vec<Arc<Value>> {
        Vec::new()
    }
}

impl Volumes for Fake {
    fn set_up<'a>(
        &'a self,
        _: &'a Pod,
        _: &'a Arc<dyn Lookups>,
    ) -> Task<'a, Result<BTreeMap<String, ReadyVolume>, VolumeError>> {
        Box::pin(async { Ok(BTreeMap::new()) })
    }

    fn sub_path<'a>(
        &'a self,
        _: &'a Pod,
        _: &'a str,
        _: usize,
        _: &'a Value,
        volume: &'a ReadyVolume,
        sub_path: &'a str,
    ) -> Task<'a, Result<PathBuf, String>> {
        Box::pin(async move { Ok(volume.path.join(sub_path)) })
    }

    fn tear_down<'a>(&'a self, _: &'a Pod) -> Task<'a, Result<(), VolumeError>> {
        Box::pin(async { Ok(()) })
    }

    fn refresh_after(&self, _: &Pod) -> Option<Duration> {
        None
    }
}

impl PodCgroups for Fake {
    fn ensure(&self, _: &str, _: &Pod) -> Result<(), String> {
        Ok(())
    }
    fn remove(&self, _: &str) -> Result<(), String> {
        Ok(())
    }
}
