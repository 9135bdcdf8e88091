//! One task for each Pod: looks, decides, acts, and waits for the next reason to look again.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api_schema::{Map, Value};
use cri::v1::{
    ContainerState, CreateContainerRequest, Mount, PodSandboxConfig, RemoveContainerRequest, RemovePodSandboxRequest,
    RunPodSandboxRequest, StartContainerRequest, StopContainerRequest, StopPodSandboxRequest,
};
use cri::{ImageService, RuntimeService};
use parking_lot::RwLock;
use smol_str::SmolStr;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};
use world::{Clock, Monotonic};

use crate::backoff::{self, BackOff};
use crate::dns;
use crate::env::{self, Facts, Lookups};
use crate::hooks;
use crate::images::ImagePuller;
use crate::make::{self, Node, ReadyVolume};
use crate::observed::{Observed, PodRuntime};
use crate::plan::{self, Kill, KillReason, Plan, Probes};
use crate::pod::{Container, ContainerKind, Pod, Uid};
use crate::ports::{Events, Severity, Sources, Statuses, Volumes};
use crate::probes::ProbeManager;
use crate::status::{self, WaitingReasons};
use crate::time::nanos;

/// The least time a container gets to end by itself, in seconds (kubelet's `minimumGracePeriodInSeconds`).
const GRACE_SECONDS_MIN: i64 = 2;
/// A Pod is looked at this often even if nothing seems to happen; events are what usually wakes it.
const RESYNC: Duration = Duration::from_secs(60);
/// How many containers of one name are kept: the present one and the one before it.
const CONTAINERS_KEPT: usize = 2;
/// How long a container that could not be started waits for the next try, if nothing else is known (kubelet comes back
/// after about ten seconds).
const HOLD_BACK: Duration = Duration::from_secs(10);
/// How long a failed step waits before the next try.
const RETRY: Duration = Duration::from_secs(1);

/// Where the cgroups of Pods are made and removed.
pub trait PodCgroups: Send + Sync {
    /// Makes a Pod's cgroup with its limits, or brings them up to date.
    ///
    /// # Errors
    /// If the kernel refuses.
    fn ensure(&self, cgroup: &str, pod: &Pod) -> Result<(), String>;

    /// Removes a Pod's cgroup with all below it.
    ///
    /// # Errors
    /// If processes are left in it.
    fn remove(&self, cgroup: &str) -> Result<(), String>;
}

/// What all workers share.
pub struct Shared {
    /// Containers.
    pub runtime: Arc<dyn RuntimeService>,
    /// What the runtime calls itself.
    pub runtime_name: String,
    /// Images.
    pub images: Arc<dyn ImageService>,
    /// Pulls images.
    pub puller: ImagePuller,
    /// Events.
    pub events: Arc<dyn Events>,
    /// Statuses.
    pub statuses: Arc<dyn Statuses>,
    /// Objects that Pods refer to.
    pub sources: Arc<dyn Sources>,
    /// Volumes.
    pub volumes: Arc<dyn Volumes>,
    /// Probes.
    pub probes: Arc<ProbeManager>,
    /// Cgroups.
    pub cgroups: Arc<dyn PodCgroups>,
    /// The node.
    pub node: Node,
    /// The node's addresses.
    pub host_ips: RwLock<Vec<SmolStr>>,
    /// What the node can give away.
    pub allocatable: Arc<RwLock<Map>>,
    /// How long containers that end again and again wait.
    pub crash_back_off: BackOff<(Uid, SmolStr, u32)>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Why a Pod is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It is deleted, and has this long.
    Deleted {
        /// Seconds for its containers to end by themselves.
        grace_seconds: i64,
    },
    /// The node cannot keep it (pressure, shutdown, admission).
    Evicted {
        /// The status's reason.
        reason: String,
        /// The status's message.
        message: String,
        /// Seconds for its containers to end by themselves.
        grace_seconds: i64,
    },
    /// The API does not know it (any more).
    Gone {
        /// Seconds for its containers to end by themselves.
        grace_seconds: i64,
    },
}

impl End {
    fn grace_seconds(&self) -> i64 {
        match self {
            End::Deleted { grace_seconds } | End::Gone { grace_seconds } | End::Evicted { grace_seconds, .. } => {
                *grace_seconds
            }
        }
    }
}

/// What a worker is to bring about.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The newest version of the Pod.
    pub pod: Pod,
    /// Whether and why it is to end.
    pub end: Option<End>,
}

/// A Pod in Go's log form, which messages for users repeat: `name_namespace(uid)`.
struct Shown<'a>(&'a Pod);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}({})", self.0.key().name, self.0.key().namespace, self.0.uid())
    }
}

/// What comes after a look at the Pod.
enum Next {
    /// Look again when something happens, or after this long.
    After(Duration),
    /// Look again at once: something was done.
    Again,
    /// Nothing of the Pod is left.
    Done,
}

/// The task of one Pod.
pub struct Worker {
    shared: Arc<Shared>,
    desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    reasons: WaitingReasons,
    /// The status last reported.
    status: Option<Arc<Value>>,
    /// Whether no container of the Pod will run again.
    ended: bool,
    /// A failed try to make the sandbox or the volumes.
    failures: u32,
    /// Containers that could not be started, and when the next try is.
    held_back: BTreeMap<SmolStr, HeldBack>,
}

/// A container that waits for its next try. Whatever wakes the worker meanwhile is no reason to try sooner, unless what
/// the container is made from has changed.
struct HeldBack {
    until: Monotonic,
    /// Of the objects that it refers to.
    version: u64,
    generation: i64,
}

impl Worker {
    /// A worker for the Pod in `desired`. `wake` is told whenever the runtime has news of it.
    pub fn new(shared: Arc<Shared>, desired: watch::Receiver<Desired>, wake: Arc<Notify>) -> Worker {
        Worker {
            shared,
            desired,
            wake,
            reasons: WaitingReasons::new(),
            status: None,
            ended: false,
            failures: 0,
            held_back: BTreeMap::new(),
        }
    }

    /// Works until nothing of the Pod is left.
    pub async fn run(mut self) {
        loop {
            let desired = self.desired.borrow_and_update().clone();
            let pause = match self.look(&desired).await {
                Ok(Next::Done) => return,
                Ok(Next::Again) => continue,
                Ok(Next::After(pause)) => pause,
                Err(error) => {
                    warn!(pod = %desired.pod.key(), %error, "cannot look after the pod");
                    RETRY
                }
            };
            let wake = self.wake.clone();
            tokio::select! {
                changed = self.desired.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn look(&mut self, desired: &Desired) -> Result<Next, cri::Error> {
        let pod = &desired.pod;
        let runtime = PodRuntime::observe(&*self.shared.runtime, pod.uid()).await?;
        if let Some(end) = &desired.end {
            return self.end(pod, end, &runtime).await;
        }
        if self.ended {
            // It has ended by itself, and waits to be deleted.
            return self.settle(pod, None, &runtime).await;
        }
        self.shared.probes.update(pod, &runtime, &self.host_of(pod, &runtime), &self.wake);

        let deadline = self.deadline(pod);
        let exceeded = deadline == Some(Duration::ZERO);
        let verdict =
            exceeded.then_some(("DeadlineExceeded", "Pod was active on the node longer than the specified deadline"));
        let status = self.report(pod, &runtime, verdict);
        if matches!(status.str_at(&["phase"]), "Succeeded" | "Failed") {
            if let Some((reason, message)) = verdict {
                self.shared.events.event(pod, None, Severity::Normal, reason, message.to_owned());
            }
            let end =
                End::Evicted { reason: String::new(), message: String::new(), grace_seconds: pod.grace_seconds() };
            self.kill_all(pod, &runtime, end.grace_seconds()).await;
            self.ended = true;
            return Ok(Next::Again);
        }
        let next = self.advance(pod, &runtime).await?;
        Ok(match (next, deadline) {
            (Next::After(pause), Some(left)) => Next::After(pause.min(left)),
            (next, _) => next,
        })
    }

    /// How long the Pod may still be active, if it has a deadline.
    fn deadline(&self, pod: &Pod) -> Option<Duration> {
        let seconds = pod.object().int_at(&["spec", "activeDeadlineSeconds"])?;
        let started =
            self.status.as_ref().and_then(|status| api_semantics::time::rfc3339(status.str_at(&["startTime"])));
        let started = started.or_else(|| pod.start_time()).unwrap_or(self.shared.clock.now().seconds);
        let left = started.saturating_add(seconds).saturating_sub(self.shared.clock.now().seconds);
        Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
    }

    /// Where the Pod is reached from the node.
    fn host_of(&self, pod: &Pod, runtime: &PodRuntime) -> String {
        let host_ips = self.shared.host_ips.read();
        let ip = match runtime.sandboxes.first() {
            Some(sandbox) if !pod.is_host_network() => sandbox.ips.first(),
            _ => host_ips.first(),
        };
        ip.map_or_else(|| "127.0.0.1".to_owned(), ToString::to_string)
    }

    /// Makes the status and hands it on.
    fn report(&mut self, pod: &Pod, runtime: &PodRuntime, failed: Option<(&str, &str)>) -> Arc<Value> {
        let empty = Value::Map(Map::default());
        let old = self.status.as_deref().or(pod.status()).unwrap_or(&empty);
        let host_ips = self.shared.host_ips.read().clone();
        let context = status::Context {
            old,
            probes: &*self.shared.probes as &dyn Probes,
            reasons: &self.reasons,
            runtime_name: &self.shared.runtime_name,
            host_ips: &host_ips,
            now: self.shared.clock.now().seconds,
            terminal: self.ended,
            failed,
        };
        let status = Arc::new(status::generate(pod, runtime, &context));
        if self.status.as_ref() != Some(&status) {
            self.shared.statuses.report(pod, status.clone());
        }
        self.status = Some(status.clone());
        status
    }

    /// Brings a Pod that is to run a step further.
    async fn advance(&mut self, pod: &Pod, runtime: &PodRuntime) -> Result<Next, cri::Error> {
        let shared = self.shared.clone();
        let lookups = match shared.sources.lookups(pod).await {
            Ok(lookups) => lookups,
            Err(error) => {
                warn!(pod = %pod.key(), %error, "cannot ask for what the pod refers to");
                return Ok(Next::After(RETRY));
            }
        };
        let plan = plan::plan(pod, runtime, &*shared.probes);
        let is_idle = plan == Plan::default();
        if let Err(error) = self.make_folders(pod) {
            let message = format!("error making pod data directories: {error}");
            shared.events.event(pod, None, Severity::Warning, "Failed", message);
            return Ok(Next::After(self.retry_delay()));
        }
        let cgroup = shared.node.pod_cgroup(pod);
        if let Err(error) = shared.cgroups.ensure(&cgroup, pod) {
            shared.events.event(pod, None, Severity::Warning, "FailedCreatePodContainer", error);
            return Ok(Next::After(self.retry_delay()));
        }
        let volumes = match shared.volumes.set_up(pod, &lookups).await {
            Ok(volumes) => volumes,
            Err(error) => {
                shared.events.event(pod, None, Severity::Warning, "FailedMount", error.message);
                return Ok(Next::After(self.retry_delay()));
            }
        };
        self.prune(pod, runtime).await;
        if is_idle {
            self.failures = 0;
            return Ok(Next::After(shared.volumes.refresh_after(pod).unwrap_or(RESYNC)));
        }
        self.act(pod, runtime, plan, &lookups, &volumes).await
    }

    /// Removes what a Pod that restarts again and again leaves behind: of each container the newest two are kept (the
    /// last one that ended can be asked for its log), of sandboxes the newest.
    async fn prune(&self, pod: &Pod, runtime: &PodRuntime) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for container in &runtime.containers {
            let count = seen.entry(container.name.as_str()).or_default();
            *count += 1;
            if *count <= CONTAINERS_KEPT || container.state != ContainerState::Exited {
                continue;
            }
            let request = RemoveContainerRequest { container_id: container.id.clone() };
            match self.shared.runtime.remove_container(request).await {
                Ok(_) => {
                    // Its log is of no use any more, and so are the pieces that rotation has put aside.
                    remove_log(&container.status.log_path);
                }
                Err(error) => debug!(pod = %pod.key(), %error, "cannot remove a container that has ended"),
            }
        }
        for pair in runtime.sandboxes.windows(2) {
            let [newer, sandbox] = pair else { continue };
            // With a sandbox go its containers: those that were made in its time.
            let time = sandbox.created_at..newer.created_at;
            if sandbox.ready || runtime.containers.iter().any(|container| time.contains(&container.status.created_at)) {
                continue;
            }
            let id = sandbox.id.clone();
            let stopped =
                self.shared.runtime.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() }).await;
            if stopped.is_ok() {
                drop(self.shared.runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id }).await);
            }
        }
    }

    fn make_folders(&self, pod: &Pod) -> std::io::Result<()> {
        let folder = self.shared.node.pod_dir(pod);
        for part in ["volumes", "plugins", "containers", "etc-hosts.d"] {
            std::fs::create_dir_all(folder.join(part))?;
        }
        std::fs::create_dir_all(self.shared.node.pod_log_dir(pod))
    }

    /// The delay after another failure: 1 s, doubling to two minutes.
    fn retry_delay(&mut self) -> Duration {
        self.failures = (self.failures + 1).min(8);
        RETRY.saturating_mul(1 << (self.failures - 1)).min(Duration::from_secs(120))
    }

    async fn act(
        &mut self,
        pod: &Pod,
        runtime: &PodRuntime,
        plan: Plan,
        lookups: &Arc<dyn Lookups>,
        volumes: &BTreeMap<String, ReadyVolume>,
    ) -> Result<Next, cri::Error> {
        let shared = self.shared.clone();
        if plan.kill_pod {
            let was_there = !runtime.sandboxes.is_empty();
            if was_there && plan.create_sandbox.is_some() {
                let message = "Pod sandbox changed, it will be killed and re-created.".to_owned();
                shared.events.event(pod, None, Severity::Normal, "SandboxChanged", message);
            }
            if was_there && !self.kill_all(pod, runtime, pod.grace_seconds()).await {
                return Ok(Next::After(self.retry_delay()));
            }
            if plan.create_sandbox.is_none() {
                return Ok(if was_there { Next::After(RESYNC) } else { Next::After(RETRY) });
            }
        }
        let kills = plan.kill.iter().map(|kill| self.kill(pod, kill, None));
        join_all(kills).await;

        let mut runtime = runtime.clone();
        let attempt =
            plan.create_sandbox.unwrap_or_else(|| runtime.sandboxes.first().map_or(0, |sandbox| sandbox.attempt));
        let config = match make::sandbox(pod, &shared.node, attempt) {
            Ok(config) => config,
            Err(message) => {
                let message = format!("Failed to create pod sandbox: {message}");
                shared.events.event(pod, None, Severity::Warning, "FailedCreatePodSandBox", message);
                return Ok(Next::After(self.retry_delay()));
            }
        };
        if plan.create_sandbox.is_some() {
            let made = match lookups.runtime_handler() {
                Ok(runtime_handler) => {
                    let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler };
                    shared.runtime.run_pod_sandbox(request).await.map_err(|error| error.to_string())
                }
                Err(why) => Err(why),
            };
            if let Err(why) = made {
                let message = format!("Failed to create pod sandbox: {why}");
                shared.events.event(pod, None, Severity::Warning, "FailedCreatePodSandBox", message);
                return Ok(Next::After(self.retry_delay()));
            }
            runtime = PodRuntime::observe(&*shared.runtime, pod.uid()).await?;
            // The address is worth telling at once.
            self.report(pod, &runtime, None);
        }
        self.failures = 0;
        let Some(sandbox) = runtime.ready_sandbox() else { return Ok(Next::After(self.retry_delay())) };
        let start = Start { pod, runtime: &runtime, lookups, volumes, sandbox_id: &sandbox.id, config: &config };

        let ephemeral: Vec<_> = pod.ephemeral_containers().collect();
        let inits: Vec<_> = pod.init_containers().collect();
        let regular: Vec<_> = pod.containers().collect();
        let mut pause: Option<Duration> = None;
        let mut failed = false;
        let all = plan.start_ephemeral.iter().map(|&place| ephemeral[place]);
        let all = all.chain(plan.start_init.iter().map(|&place| inits[place]));
        for container in all.chain(plan.start.iter().map(|&place| regular[place])) {
            if let Some(left) = self.held_back(pod, container, lookups.version()) {
                failed = true;
                pause = Some(pause.map_or(left, |pause| pause.min(left)));
                if container.kind() == ContainerKind::Init {
                    break;
                }
                continue;
            }
            match self.start(&start, container).await {
                Ok(()) => {
                    self.reasons.remove(container.name());
                    self.held_back.remove(container.name());
                }
                Err(failure) => {
                    failed = true;
                    debug!(pod = %pod.key(), container = container.name(), reason = failure.reason, "not started");
                    let left = failure.retry_after.unwrap_or(HOLD_BACK);
                    pause = Some(pause.map_or(left, |pause| pause.min(left)));
                    let held = HeldBack {
                        until: shared.clock.monotonic().saturating_add(left),
                        version: lookups.version(),
                        generation: pod.generation(),
                    };
                    self.held_back.insert(container.name().into(), held);
                    self.reasons.insert(container.name().into(), (failure.reason.into(), failure.message));
                    // Those after an init container wait for it.
                    if container.kind() == ContainerKind::Init {
                        break;
                    }
                }
            }
            if self.desired.has_changed().unwrap_or(false) {
                return Ok(Next::Again);
            }
        }
        if !failed {
            return Ok(Next::Again);
        }
        let runtime = PodRuntime::observe(&*shared.runtime, pod.uid()).await?;
        self.report(pod, &runtime, None);
        Ok(Next::After(pause.unwrap_or(HOLD_BACK)))
    }

    /// How long a container still waits for its next try.
    fn held_back(&self, pod: &Pod, container: Container<'_>, version: u64) -> Option<Duration> {
        let held = self.held_back.get(container.name())?;
        let is_same = held.version == version && held.generation == pod.generation();
        let left = held.until.saturating_since(self.shared.clock.monotonic());
        (is_same && !left.is_zero()).then_some(left)
    }

    /// Starts one container: back-off, image, configuration, creation, start, postStart.
    async fn start(&self, start: &Start<'_>, container: Container<'_>) -> Result<(), Failure> {
        let shared = &self.shared;
        let Start { pod, runtime, lookups, config, .. } = *start;
        let event = |severity, reason: &str, message: String| {
            shared.events.event(pod, Some(container), severity, reason, message);
        };
        self.back_off(pod, container, runtime)?;
        let image = shared.puller.ensure(pod, container, &**lookups, config).await.map_err(|error| {
            event(Severity::Warning, "Failed", format!("Error: {}", error.reason));
            Failure { reason: error.reason, message: error.message, retry_after: error.retry_after }
        })?;
        let fail = |reason: &'static str, message: String| {
            event(Severity::Warning, "Failed", format!("Error: {message}"));
            Failure { reason, message, retry_after: None }
        };

        let restart_count = match runtime.container(container.name()) {
            Some(observed) => observed.restart_count + 1,
            None => self.restarts_in_logs(pod, container),
        };
        let facts = Facts {
            pod_ips: match pod.is_host_network() {
                true => shared.host_ips.read().clone(),
                false => runtime.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default(),
            },
            host_ips: shared.host_ips.read().clone(),
            allocatable: shared.allocatable.read().clone(),
        };
        let config_error = |message: String| fail("CreateContainerConfigError", message);
        let env = env::environment(pod, container, &facts, &**lookups).map_err(config_error)?;
        let mounts = self.mounts(start, container, &env, &facts).await.map_err(config_error)?;
        let target = container.value().str_at(&["targetContainerName"]);
        let target_id = match target {
            "" => None,
            target => match runtime.container(target) {
                Some(observed) => Some(observed.id.as_str()),
                None => return Err(config_error(format!("unable to find target container {target}"))),
            },
        };
        let parts = make::Parts {
            env,
            image_ref: &image.image_ref,
            image_user: image.user,
            restart_count,
            mounts,
            target_id,
            extra_groups: &[],
        };
        let container_config = make::container(pod, container, &shared.node, parts).map_err(config_error)?;
        let log = shared.node.pod_log_dir(pod).join(container.name());
        std::fs::create_dir_all(&log).map_err(|error| fail("CreateContainerError", error.to_string()))?;

        let request = CreateContainerRequest {
            pod_sandbox_id: start.sandbox_id.to_owned(),
            config: Some(container_config),
            sandbox_config: Some(config.clone()),
        };
        let created = shared.runtime.create_container(request).await;
        let id = created.map_err(|error| fail("CreateContainerError", error.message))?.container_id;
        event(Severity::Normal, "Created", "Container created".to_owned());
        let request = StartContainerRequest { container_id: id.clone() };
        shared.runtime.start_container(request).await.map_err(|error| fail("RunContainerError", error.message))?;
        event(Severity::Normal, "Started", "Container started".to_owned());

        let Some(hook) = container.at(&["lifecycle", "postStart"]) else { return Ok(()) };
        let host = self.host_of(pod, runtime);
        let forever = Duration::from_secs(u64::from(u32::MAX));
        let Err(message) = hooks::run(&shared.runtime, container, &id, hook, &host, forever).await else {
            return Ok(());
        };
        // The message may hold secrets of the container, so the event does not.
        event(Severity::Warning, "FailedPostStartHook", "PostStartHook failed".to_owned());
        let kill = Kill {
            id,
            name: container.name().to_owned(),
            message: "FailedPostStartHook".to_owned(),
            reason: KillReason::Other,
        };
        self.kill(pod, &kill, None).await;
        Err(Failure { reason: "PostStartHookError", message, retry_after: None })
    }

    /// Whether a container that ended must wait before it starts again.
    fn back_off(&self, pod: &Pod, container: Container<'_>, runtime: &PodRuntime) -> Result<(), Failure> {
        let ended =
            |observed: &&Observed| observed.name == container.name() && observed.state == ContainerState::Exited;
        let Some(last) = runtime.containers.iter().find(ended) else { return Ok(()) };
        let key = (pod.uid().clone(), SmolStr::new(container.name()), container.hash());
        let back_off = &self.shared.crash_back_off;
        let (since, now) = (last.status.finished_at, nanos(self.shared.clock.now()));
        if let Some(remaining) = back_off.remaining(&key, since, now) {
            let name = container.name();
            let message = format!("Back-off restarting failed container {name} in pod {}", Shown(pod));
            self.shared.events.event(pod, Some(container), Severity::Warning, "BackOff", message);
            let delay = backoff::shown(back_off.delay(&key));
            let message = format!("back-off {delay} restarting failed container={name} pod={}", Shown(pod));
            return Err(Failure { reason: "CrashLoopBackOff", message, retry_after: Some(remaining) });
        }
        back_off.next(&key, now);
        Ok(())
    }

    /// How often a container was started before, by the logs it left: the runtime may have forgotten it.
    fn restarts_in_logs(&self, pod: &Pod, container: Container<'_>) -> i64 {
        let folder = self.shared.node.pod_log_dir(pod).join(container.name());
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let counts = names.filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.split_once(".log")?.0.parse::<i64>().ok()
        });
        counts.max().map_or(0, |last| last + 1)
    }

    async fn mounts(
        &self,
        start: &Start<'_>,
        container: Container<'_>,
        env: &env::Env,
        facts: &Facts,
    ) -> Result<Vec<Mount>, String> {
        let Start { pod, volumes, .. } = *start;
        let mut sub_paths = BTreeMap::new();
        for (number, mount) in container.value().list_at(&["volumeMounts"]).iter().enumerate() {
            let sub_path = match (mount.str_at(&["subPath"]), mount.str_at(&["subPathExpr"])) {
                ("", "") => continue,
                ("", expression) => env::expand(expression, env),
                (path, _) => path.to_owned(),
            };
            let name = mount.str_at(&["name"]);
            let Some(volume) = volumes.get(name) else { continue };
            let folder = self.shared.volumes.sub_path(pod, container.name(), number, mount, volume, &sub_path).await;
            let folder = folder.map_err(|error| {
                format!(
                    "failed to prepare subPath for volumeMount {name:?} of container {:?}: {error}",
                    container.name()
                )
            })?;
            sub_paths.insert(mount.str_at(&["mountPath"]).to_owned(), folder);
        }
        let mut mounts = make::volume_mounts(container, volumes, &mut |mount, _| {
            Ok(sub_paths.get(mount.str_at(&["mountPath"])).cloned().unwrap_or_default())
        })?;

        let node = &self.shared.node;
        let has_own_hosts = mounts.iter().any(|mount| mount.container_path == "/etc/hosts");
        if !has_own_hosts {
            let names = dns::names(pod, &node.dns.cluster_domain)?;
            let host = pod.is_host_network().then(|| std::fs::read_to_string("/etc/hosts").unwrap_or_default());
            let text = dns::hosts_file(pod, &facts.pod_ips, &names, host.as_deref());
            let path = node.pod_dir(pod).join("etc-hosts");
            std::fs::write(&path, text).map_err(|error| format!("write {}: {error}", path.display()))?;
            mounts.push(file_mount("/etc/hosts", path));
        }
        let message_path = container.value().str_at(&["terminationMessagePath"]);
        if !message_path.is_empty() {
            let folder = node.pod_dir(pod).join("containers").join(container.name());
            let path = folder.join(format!("{:08x}", fastrand::u32(..)));
            let made = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, ""));
            let made = made.and_then(|()| {
                use std::os::unix::fs::PermissionsExt;
                // Whoever the container runs as may write its last words.
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666))
            });
            made.map_err(|error| format!("write {}: {error}", path.display()))?;
            mounts.push(file_mount(message_path, path));
        }
        Ok(mounts)
    }

    /// Ends one container: preStop, stop signal, and the end by force when its time is up.
    async fn kill(&self, pod: &Pod, kill: &Kill, grace_seconds: Option<i64>) -> bool {
        let shared = &self.shared;
        let container = pod.container(&kill.name);
        let message = match kill.message.as_str() {
            "" => format!("Stopping container {}", kill.name),
            message => message.to_owned(),
        };
        shared.events.event(pod, container, Severity::Normal, "Killing", message);
        let probe_grace = |probe: &str| container?.value().int_at(&[probe, "terminationGracePeriodSeconds"]);
        let own = match kill.reason {
            KillReason::LivenessProbe => probe_grace("livenessProbe"),
            KillReason::StartupProbe => probe_grace("startupProbe"),
            KillReason::Other => None,
        };
        let mut grace = grace_seconds.or(pod.deletion_grace_seconds()).or(own).unwrap_or_else(|| pod.grace_seconds());
        if let Some(container) = container.filter(|_| grace > 0)
            && let Some(hook) = container.at(&["lifecycle", "preStop"])
        {
            grace -= self.pre_stop(pod, container, &kill.id, hook, grace).await;
        }
        let timeout = grace.max(GRACE_SECONDS_MIN);
        match shared.runtime.stop_container(StopContainerRequest { container_id: kill.id.clone(), timeout }).await {
            Ok(_) => true,
            Err(error) if error.is_not_found() => true,
            Err(error) => {
                let message = format!(
                    "error killing pod: failed to \"KillContainer\" for {:?} with KillContainerError: {:?}",
                    kill.name,
                    error.to_string()
                );
                shared.events.event(pod, None, Severity::Warning, "FailedKillPod", message);
                false
            }
        }
    }

    /// Runs a preStop hook, at most for the grace period; returns the seconds it took.
    async fn pre_stop(&self, pod: &Pod, container: Container<'_>, id: &str, hook: &Value, grace: i64) -> i64 {
        let began = self.shared.clock.monotonic();
        let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let runtime = PodRuntime::observe(&*self.shared.runtime, pod.uid()).await.unwrap_or_default();
        let host = self.host_of(pod, &runtime);
        let run = hooks::run(&self.shared.runtime, container, id, hook, &host, limit);
        match tokio::time::timeout(limit, run).await {
            Ok(Ok(_)) => {}
            // The message may hold secrets of the container, so the event does not.
            Ok(Err(_)) => {
                let message = "PreStopHook failed".to_owned();
                self.shared.events.event(pod, Some(container), Severity::Warning, "FailedPreStopHook", message);
            }
            Err(_) => {
                debug!(pod = %pod.key(), container = container.name(), "preStop hook took all of the grace period")
            }
        }
        i64::try_from(self.shared.clock.monotonic().saturating_since(began).as_secs()).unwrap_or(grace)
    }

    /// Ends every container, sidecars last and in the reverse of their order, and the sandboxes; says whether all are
    /// gone.
    async fn kill_all(&self, pod: &Pod, runtime: &PodRuntime, grace_seconds: i64) -> bool {
        let began = self.shared.clock.monotonic();
        let is_alive = |observed: &&Observed| {
            matches!(observed.state, ContainerState::Running | ContainerState::Unknown | ContainerState::Created)
        };
        let is_sidecar = |name: &str| pod.container(name).is_some_and(|container| container.is_sidecar());
        let kill = |observed: &Observed| Kill {
            id: observed.id.clone(),
            name: observed.name.to_string(),
            message: String::new(),
            reason: KillReason::Other,
        };
        let alive: Vec<Kill> = runtime.containers.iter().filter(is_alive).map(kill).collect();
        let (sidecars, others): (Vec<Kill>, Vec<Kill>) = alive.into_iter().partition(|kill| is_sidecar(&kill.name));
        let mut all = join_all(others.iter().map(|kill| self.kill(pod, kill, Some(grace_seconds)))).await;
        let order: Vec<&str> = pod.init_containers().map(|container| container.name()).collect();
        let mut sidecars = sidecars;
        sidecars.sort_by_key(|kill| std::cmp::Reverse(order.iter().position(|name| *name == kill.name)));
        for sidecar in &sidecars {
            let spent = self.shared.clock.monotonic().saturating_since(began).as_secs();
            let left = grace_seconds - i64::try_from(spent).unwrap_or(grace_seconds);
            all.push(self.kill(pod, sidecar, Some(left.max(0))).await);
        }
        let mut gone = all.iter().all(|gone| *gone);
        for sandbox in &runtime.sandboxes {
            let request = StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            match self.shared.runtime.stop_pod_sandbox(request).await {
                Ok(_) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    let message = format!(
                        "error killing pod: failed to \"KillPodSandbox\" for {:?} with KillPodSandboxError: {:?}",
                        pod.uid().0,
                        error.to_string()
                    );
                    self.shared.events.event(pod, None, Severity::Warning, "FailedKillPod", message);
                    gone = false;
                }
            }
        }
        gone
    }

    /// Ends a Pod: its containers get their time, which may become shorter meanwhile.
    async fn end(&mut self, pod: &Pod, end: &End, runtime: &PodRuntime) -> Result<Next, cri::Error> {
        let shared = self.shared.clone();
        shared.probes.update(pod, runtime, &self.host_of(pod, runtime), &self.wake);
        let verdict = match end {
            End::Evicted { reason, message, .. } if !reason.is_empty() => Some((reason.as_str(), message.as_str())),
            _ => None,
        };
        let is_running = runtime.containers.iter().any(|observed| observed.state != ContainerState::Exited)
            || runtime.sandboxes.iter().any(|sandbox| sandbox.ready);
        if is_running {
            if !matches!(end, End::Gone { .. }) {
                self.report(pod, runtime, verdict);
            }
            let mut desired = self.desired.clone();
            let is_gone = tokio::select! {
                is_gone = self.kill_all(pod, runtime, end.grace_seconds()) => is_gone,
                // Somebody is in a hurry: what is left of the time is counted anew.
                () = until_shorter(&mut desired, end.grace_seconds()) => return Ok(Next::Again),
            };
            if !is_gone {
                return Ok(Next::After(self.retry_delay()));
            }
        }
        self.ended = true;
        let runtime = PodRuntime::observe(&*shared.runtime, pod.uid()).await?;
        let is_finished = self.settle(pod, Some(end), &runtime).await?;
        Ok(is_finished)
    }

    /// No container runs any more: tells the last status, gives back what the Pod held, and, if it is deleted, forgets it.
    async fn settle(&mut self, pod: &Pod, end: Option<&End>, runtime: &PodRuntime) -> Result<Next, cri::Error> {
        let shared = self.shared.clone();
        shared.probes.forget(pod.uid());
        let verdict = match end {
            Some(End::Evicted { reason, message, .. }) if !reason.is_empty() => {
                Some((reason.as_str(), message.as_str()))
            }
            _ => None,
        };
        let is_gone = matches!(end, Some(End::Gone { .. }));
        if !is_gone {
            self.report(pod, runtime, verdict);
        }
        if let Err(error) = shared.volumes.tear_down(pod).await {
            shared.events.event(pod, None, Severity::Warning, "FailedUnmount", error.message);
            return Ok(Next::After(self.retry_delay()));
        }
        let is_deleted = is_gone || matches!(end, Some(End::Deleted { .. }));
        if !is_deleted {
            // Its containers and logs can be looked at until it is deleted.
            return Ok(Next::After(RESYNC));
        }
        if let Err(error) = self.remove(pod, runtime).await {
            warn!(pod = %pod.key(), %error, "cannot remove what is left of the pod");
            return Ok(Next::After(self.retry_delay()));
        }
        if !is_gone {
            shared.statuses.finished(pod);
        }
        shared.puller.forget(pod.uid());
        shared.crash_back_off.retain(|(uid, _, _)| uid != pod.uid());
        Ok(Next::Done)
    }

    /// Removes containers, sandboxes, the cgroup and the folders of a Pod.
    async fn remove(&self, pod: &Pod, runtime: &PodRuntime) -> Result<(), String> {
        let shared = &self.shared;
        let known = |result: Result<(), cri::Error>| match result {
            Err(error) if !error.is_not_found() => Err(error.to_string()),
            _ => Ok(()),
        };
        for container in &runtime.containers {
            let request = RemoveContainerRequest { container_id: container.id.clone() };
            known(shared.runtime.remove_container(request).await.map(drop))?;
        }
        for sandbox in &runtime.sandboxes {
            let stop = StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            known(shared.runtime.stop_pod_sandbox(stop).await.map(drop))?;
            let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            known(shared.runtime.remove_pod_sandbox(request).await.map(drop))?;
        }
        shared.cgroups.remove(&shared.node.pod_cgroup(pod))?;
        for folder in [shared.node.pod_dir(pod), shared.node.pod_log_dir(pod)] {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("remove {}: {error}", folder.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What the start of containers needs of the Pod.
#[derive(Clone, Copy)]
struct Start<'a> {
    pod: &'a Pod,
    runtime: &'a PodRuntime,
    lookups: &'a Arc<dyn Lookups>,
    volumes: &'a BTreeMap<String, ReadyVolume>,
    sandbox_id: &'a str,
    config: &'a PodSandboxConfig,
}

/// Why a container was not started.
struct Failure {
    reason: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

/// Removes a log, `<n>.log`, and what rotation made of it, `<n>.log.<time>[.gz]`.
fn remove_log(path: &str) {
    let path = std::path::Path::new(path);
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_str().is_some_and(|other| is_piece_of(name, other))) {
        drop(std::fs::remove_file(entry.path()));
    }
}

fn is_piece_of(log: &str, name: &str) -> bool {
    name.strip_prefix(log).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn file_mount(container_path: &str, host_path: PathBuf) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: host_path.to_string_lossy().into_owned(),
        ..Mount::default()
    }
}

/// Waits until the Pod is to end sooner than in `grace_seconds`.
async fn until_shorter(desired: &mut watch::Receiver<Desired>, grace_seconds: i64) {
    let is_shorter = |desired: &Desired| desired.end.as_ref().is_some_and(|end| end.grace_seconds() < grace_seconds);
    if desired.wait_for(is_shorter).await.is_err() {
        // Nobody will change it any more.
        std::future::pending::<()>().await;
    }
}

/// Waits for all, side by side, in one task.
async fn join_all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, result) in &mut running {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    running.into_iter().filter_map(|(_, result)| result).collect()
}
