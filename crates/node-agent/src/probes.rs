//! Startup, liveness and readiness probes of running containers.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use api_schema::Value;
use cri::RuntimeService;
use parking_lot::Mutex;
use smol_str::SmolStr;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use world::Clock;

use crate::hooks;
use crate::observed::PodRuntime;
use crate::plan::{ProbeResult, Probes};
use crate::pod::{Pod, Uid};
use crate::ports::{Events, Severity};
use crate::time::nanos;
use cri::v1::ContainerState;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    fn field(self) -> &'static str {
        match self {
            Kind::Startup => "startupProbe",
            Kind::Liveness => "livenessProbe",
            Kind::Readiness => "readinessProbe",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    /// What holds until the probe has spoken.
    fn initial(self) -> ProbeResult {
        match self {
            Kind::Liveness => ProbeResult::Success,
            Kind::Startup | Kind::Readiness => ProbeResult::Unknown,
        }
    }
}

/// What is known of one running container.
struct Entry {
    pod: Uid,
    startup: Option<ProbeResult>,
    liveness: Option<ProbeResult>,
    readiness: Option<ProbeResult>,
    task: AbortHandle,
}

impl Entry {
    fn slot(&mut self, kind: Kind) -> &mut Option<ProbeResult> {
        match kind {
            Kind::Startup => &mut self.startup,
            Kind::Liveness => &mut self.liveness,
            Kind::Readiness => &mut self.readiness,
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How often each probe came out how: `/metrics/probes`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Count {
    /// `Startup`, `Liveness` or `Readiness`.
    pub probe_type: &'static str,
    /// `successful` or `failed`.
    pub result: &'static str,
    /// The Pod's namespace.
    pub namespace: SmolStr,
    /// The Pod's name.
    pub pod: SmolStr,
    /// The container's name.
    pub container: SmolStr,
}

/// Runs the probes of every container that runs: one task for each container that has any.
pub struct ProbeManager {
    me: Weak<ProbeManager>,
    runtime: Arc<dyn RuntimeService>,
    events: Arc<dyn Events>,
    clock: Arc<dyn Clock>,
    entries: Mutex<HashMap<String, Entry>>,
    counts: Mutex<HashMap<Count, u64>>,
}

impl ProbeManager {
    /// A manager without probes.
    pub fn new(runtime: Arc<dyn RuntimeService>, events: Arc<dyn Events>, clock: Arc<dyn Clock>) -> Arc<ProbeManager> {
        Arc::new_cyclic(|me| ProbeManager {
            me: me.clone(),
            runtime,
            events,
            clock,
            entries: Mutex::default(),
            counts: Mutex::default(),
        })
    }

    /// How often each probe came out how since the agent's start.
    pub fn counts(&self) -> Vec<(Count, u64)> {
        self.counts.lock().iter().map(|(count, number)| (count.clone(), *number)).collect()
    }

    /// Probes exactly the Pod's running containers; `wake` is told of every change. `host` is where the Pod is reached.
    pub fn update(&self, pod: &Pod, runtime: &PodRuntime, host: &str, wake: &Arc<Notify>) {
        let running = |id: &str| {
            let find = runtime.containers.iter().find(|observed| observed.id == id);
            find.is_some_and(|observed| observed.state == ContainerState::Running)
        };
        let mut entries = self.entries.lock();
        entries.retain(|id, entry| entry.pod != *pod.uid() || running(id));
        if pod.is_deleted() {
            // A Pod that ends is not restarted; whether it is ready still matters to its Services.
            for (_, entry) in entries.iter_mut().filter(|(_, entry)| entry.pod == *pod.uid()) {
                entry.liveness = None;
                entry.startup = entry.startup.map(|_| ProbeResult::Success);
            }
        }
        for container in pod.init_containers().filter(|container| container.is_sidecar()).chain(pod.containers()) {
            let kinds = [Kind::Startup, Kind::Liveness, Kind::Readiness];
            let has = |kind: Kind| container.at(&[kind.field()]).is_some();
            let Some(observed) = runtime.container(container.name()) else { continue };
            let is_known = entries.contains_key(&observed.id);
            if observed.state != ContainerState::Running || is_known || !kinds.iter().any(|kind| has(*kind)) {
                continue;
            }
            let Some(manager) = self.me.upgrade() else { continue };
            let probing = Probing {
                manager,
                pod: pod.clone(),
                name: container.name().into(),
                id: observed.id.clone(),
                host: host.to_owned(),
                wake: wake.clone(),
            };
            let started_at = observed.status.started_at;
            let initial = |kind: Kind| has(kind).then(|| kind.initial());
            let task = tokio::spawn(probing.run(started_at)).abort_handle();
            let entry = Entry {
                pod: pod.uid().clone(),
                startup: initial(Kind::Startup),
                liveness: initial(Kind::Liveness),
                readiness: initial(Kind::Readiness),
                task,
            };
            entries.insert(observed.id.clone(), entry);
        }
    }

    /// Ends all probes of a Pod.
    pub fn forget(&self, pod: &Uid) {
        self.entries.lock().retain(|_, entry| entry.pod != *pod);
    }

    fn get(&self, id: &str, read: impl Fn(&Entry) -> Option<ProbeResult>) -> Option<ProbeResult> {
        self.entries.lock().get(id).and_then(read)
    }
}

impl Probes for ProbeManager {
    fn startup(&self, container_id: &str) -> Option<ProbeResult> {
        self.get(container_id, |entry| entry.startup)
    }

    fn liveness(&self, container_id: &str) -> Option<ProbeResult> {
        self.get(container_id, |entry| entry.liveness)
    }

    fn readiness(&self, container_id: &str) -> Option<ProbeResult> {
        self.get(container_id, |entry| entry.readiness)
    }
}

/// One container under its probes.
struct Probing {
    manager: Arc<ProbeManager>,
    pod: Pod,
    name: SmolStr,
    id: String,
    host: String,
    wake: Arc<Notify>,
}

/// The figures of a probe; the API has defaulted them.
struct Settings {
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    success_threshold: i64,
    failure_threshold: i64,
}

impl Settings {
    fn read(probe: &Value) -> Settings {
        let figure = |field: &str, default: i64| probe.int_at(&[field]).filter(|figure| *figure > 0).unwrap_or(default);
        let seconds =
            |field: &str, default: i64| Duration::from_secs(u64::try_from(figure(field, default)).unwrap_or(1));
        Settings {
            initial_delay: seconds("initialDelaySeconds", 0),
            period: seconds("periodSeconds", 10),
            timeout: seconds("timeoutSeconds", 1),
            success_threshold: figure("successThreshold", 1),
            failure_threshold: figure("failureThreshold", 3),
        }
    }
}

impl Probing {
    async fn run(self, started_at: i64) {
        self.probe(Kind::Startup, started_at).await;
        tokio::join!(self.probe(Kind::Liveness, started_at), self.probe(Kind::Readiness, started_at));
    }

    /// Probes until there is nothing more to learn: a startup probe that succeeded, or one that asks for a restart.
    async fn probe(&self, kind: Kind, started_at: i64) {
        let Some(container) = self.pod.container(&self.name) else { return };
        let Some(probe) = container.at(&[kind.field()]) else { return };
        let settings = Settings::read(probe);
        let running_for =
            Duration::from_nanos(u64::try_from(nanos(self.manager.clock.now()) - started_at).unwrap_or(0));
        tokio::time::sleep(settings.initial_delay.saturating_sub(running_for)).await;

        let mut ticks = tokio::time::interval(settings.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut last, mut streak) = (None, 0);
        loop {
            ticks.tick().await;
            let runtime = &self.manager.runtime;
            let verdict = hooks::run(runtime, container, &self.id, probe, &self.host, settings.timeout).await;
            let is_good = verdict.is_ok();
            self.count(kind, is_good);
            if let Err(message) = verdict {
                let message = format!("{} probe failed: {message}", kind.word());
                self.manager.events.event(&self.pod, Some(container), Severity::Warning, "Unhealthy", message);
            }
            streak = if last == Some(is_good) { streak + 1 } else { 1 };
            last = Some(is_good);
            let threshold = if is_good { settings.success_threshold } else { settings.failure_threshold };
            if streak < threshold {
                continue;
            }
            let result = if is_good { ProbeResult::Success } else { ProbeResult::Failure };
            self.set(kind, result);
            match (kind, result) {
                (Kind::Startup, _) | (Kind::Liveness, ProbeResult::Failure) => return,
                _ => {}
            }
        }
    }

    fn set(&self, kind: Kind, result: ProbeResult) {
        let mut entries = self.manager.entries.lock();
        let Some(slot) = entries.get_mut(&self.id).map(|entry| entry.slot(kind)) else { return };
        if *slot != Some(result) {
            *slot = Some(result);
            drop(entries);
            self.wake.notify_one();
        }
    }

    fn count(&self, kind: Kind, is_good: bool) {
        let count = Count {
            probe_type: kind.word(),
            result: if is_good { "successful" } else { "failed" },
            namespace: self.pod.key().namespace.clone(),
            pod: self.pod.key().name.clone(),
            container: self.name.clone(),
        };
        *self.manager.counts.lock().entry(count).or_default() += 1;
    }
}
