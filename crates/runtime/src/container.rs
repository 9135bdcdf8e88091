//! Containers: made, started, stopped, removed, and what is learnt of their end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cri::{Error, v1};
use images::RunConfig;
use shim::protocol::{EXITS, Exit, Reply, Request, State};
use shim::spec::Rootfs;

use crate::error::{chain, failed, of_image};
use crate::plan;
use crate::record::ContainerRecord;
use crate::runtime::{Container, Runtime, Sandbox, new_id, now};
use crate::sandbox::{Orphan, hostname, not_ready};
use crate::shim_client::{ShimError, unexpected};

/// How long a killed container may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(30);
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;
/// containerd's exit codes for a container that never ran, and for one whose end nobody saw.
const START_FAILED_CODE: i32 = 128;
const UNKNOWN_CODE: i32 = 255;

impl Runtime {
    pub(crate) async fn make_container(&self, request: v1::CreateContainerRequest) -> Result<String, Error> {
        let config = request.config.ok_or_else(|| Error::invalid("container config is missing"))?;
        let metadata =
            config.metadata.clone().ok_or_else(|| Error::invalid("container config must include metadata"))?;
        let sandbox = self.sandbox(&request.pod_sandbox_id)?;
        if !sandbox.is_ready() {
            return Err(not_ready(&sandbox.id));
        }
        let pod = sandbox.config();
        let name = {
            let pod = pod.metadata.clone().unwrap_or_default();
            format!("{}_{}_{}_{}_{}", metadata.name, pod.name, pod.namespace, pod.uid, metadata.attempt)
        };
        let wanted = config.image.clone().unwrap_or_default().image;
        let image = self
            .0
            .config
            .images
            .get(&wanted)
            .ok_or_else(|| Error::not_found(format!("failed to resolve image {wanted:?}: image not found")))?;
        let image_config = self.0.config.images.image_config(image.id.as_str()).map_err(|e| of_image(&e))?;
        let id = new_id().map_err(|e| failed("make an id", &e))?;
        let parent = pod.linux.as_ref().map(|linux| linux.cgroup_parent.as_str()).filter(|parent| !parent.is_empty());
        let parent = parent.unwrap_or(&self.0.config.cgroup_parent).trim_end_matches('/');
        let resources = config.linux.as_ref().and_then(|linux| linux.resources.clone());
        let stop_signal = plan::cri_signal(config.stop_signal)
            .or_else(|| plan::signal_number(&image_config.config.stop_signal))
            .unwrap_or(SIGTERM);
        let record = ContainerRecord {
            id: id.clone(),
            sandbox: sandbox.id.clone(),
            image_id: image.id.as_str().to_owned(),
            image_ref: image.repo_digests.first().cloned().unwrap_or_else(|| image.id.as_str().to_owned()),
            state: v1::ContainerState::Created as i32,
            created_at: now(),
            log_path: plan::log_path(&pod, &config).map(|path| path.display().to_string()).unwrap_or_default(),
            cgroup: format!("{parent}/{id}"),
            stop_signal,
            resources,
            config: Some(config),
            ..ContainerRecord::default()
        };
        // A mistake in the request is found now, not at the start.
        self.plan_container(&sandbox, &record, &image_config.config, Rootfs::default()).await?;
        {
            let mut tables = self.0.tables.lock();
            if let Some(other) = tables.names.get(&name) {
                return Err(Error::unknown(format!(
                    "failed to reserve container name {name:?}: name {name:?} is reserved for {other:?}"
                )));
            }
            tables.names.insert(name, id.clone());
        }
        let made = self.0.container_records.save(&id, &record).map_err(|e| failed("write the container's record", &e));
        let made = made
            .and_then(|()| self.0.config.images.prepare(&id, image.id.as_str()).map(drop).map_err(|e| of_image(&e)));
        let container = Arc::new(Container::new(record));
        if let Err(e) = made {
            self.forget_container(&container).await;
            return Err(e);
        }
        self.0.tables.lock().containers.insert(id.clone(), container);
        self.tell(&sandbox, &id, v1::ContainerEventType::CreatedEvent);
        Ok(id)
    }

    async fn plan_container(
        &self,
        sandbox: &Sandbox,
        record: &ContainerRecord,
        image: &RunConfig,
        rootfs: Rootfs,
    ) -> Result<shim::spec::ContainerSpec, Error> {
        let config = record.config.clone().unwrap_or_default();
        let pod = sandbox.config();
        let seccomp_file = read_seccomp(&config).await?;
        let mut wanted = config;
        if let Some(linux) = &mut wanted.linux {
            linux.resources.clone_from(&record.resources);
        }
        let wish = plan::Wish {
            id: &record.id,
            config: &wanted,
            pod: plan::Pod { config: &pod, folder: &sandbox.folder, hostname: &hostname(&pod) },
            image,
            rootfs,
            mount_point: &self.0.mount_point,
            cgroup: &record.cgroup,
            log_bytes_max: self.0.config.log_bytes_max,
            node: &self.0.node,
            seccomp_file: seccomp_file.as_deref(),
        };
        plan::container(wish)
            .map_err(|message| Error::unknown(format!("failed to generate container {:?} spec: {message}", record.id)))
    }

    pub(crate) async fn start_container_by(&self, id: &str) -> Result<(), Error> {
        let container = self.container(id)?;
        let _busy = container.busy.lock().await;
        if container.state() != v1::ContainerState::Created {
            let state = state_name(container.state());
            return Err(Error::unknown(format!(
                "failed to set starting state for container {id:?}: container is in {state} state"
            )));
        }
        let sandbox = self.sandbox(&container.sandbox)?;
        if !sandbox.is_ready() {
            return Err(not_ready(&sandbox.id));
        }
        match self.launch(&sandbox, &container).await {
            Ok(()) => {
                self.tell(&sandbox, &container.id, v1::ContainerEventType::StartedEvent);
                Ok(())
            }
            Err(e) => {
                let cgroup = container.record.lock().cgroup.clone();
                self.remove_cgroup(&cgroup).await;
                self.change_container(&container, |record| {
                    record.state = v1::ContainerState::Exited as i32;
                    record.finished_at = now();
                    record.exit_code = START_FAILED_CODE;
                    record.reason = "StartError".to_owned();
                    record.message.clone_from(&e.message);
                });
                container.ended.send_replace(true);
                Err(e)
            }
        }
    }

    async fn launch(&self, sandbox: &Arc<Sandbox>, container: &Arc<Container>) -> Result<(), Error> {
        let record = container.record.lock().clone();
        let config = record.config.clone().unwrap_or_default();
        for mount in &config.mounts {
            // As containerd does: a path of the host that is not there is made, as a folder.
            let host = Path::new(&mount.host_path);
            if !host.exists() {
                std::fs::create_dir_all(host)
                    .map_err(|e| Error::unknown(format!("failed to mkdir {:?}: {e}", mount.host_path)))?;
            }
        }
        let image = self.0.config.images.image_config(&record.image_id).map_err(|e| of_image(&e))?;
        let overlay = self.0.config.images.overlay(&container.id).map_err(|e| of_image(&e))?;
        let (Some(upper), Some(work)) = (overlay.upper, overlay.work) else {
            return Err(Error::unknown("the container's snapshot cannot be written"));
        };
        let rootfs = Rootfs::Overlay { lower: overlay.lower, upper, work, options: String::new() };
        let spec = self.plan_container(sandbox, &record, &image.config, rootfs).await?;
        let reply = sandbox.shim.ask(&Request::Start { spec: Box::new(spec) }).await.map_err(|e| {
            Error::unknown(format!(
                "failed to start containerd task {:?}: failed to create shim task: OCI runtime create failed: kubox create \
                 failed: unable to start container process: error during container init: {}",
                container.id,
                chain(&e)
            ).replace("containerd task", "container"))
        })?;
        let Reply::Started { pid, user, warnings } = reply else { return Err(unexpected(&reply).into()) };
        for warning in warnings {
            tracing::warn!(container = %container.id, %warning, "the container was started without it");
        }
        self.change_container(container, |record| {
            // Its end may have been told already.
            if record.state() == v1::ContainerState::Created {
                record.state = v1::ContainerState::Running as i32;
            }
            record.started_at = now();
            record.finished_at = record.finished_at.max(if record.finished_at == 0 { 0 } else { record.started_at });
            record.pid = pid;
            record.user = Some(cri_user(&user));
        });
        Ok(())
    }

    /// A container has ended, says its shim.
    pub(crate) async fn exited(&self, sandbox: &Arc<Sandbox>, id: &str, exit: &Exit) {
        if let Ok(container) = self.container(id) {
            let first = container.state() != v1::ContainerState::Exited;
            if first {
                self.change_container(&container, |record| end(record, exit));
                container.ended.send_replace(true);
                self.tell(sandbox, &container.id, v1::ContainerEventType::StoppedEvent);
            }
            let cgroup = container.record.lock().cgroup.clone();
            if self.0.hierarchy.cgroup(&cgroup).exists() {
                self.remove_cgroup(&cgroup).await;
            }
        }
        // Its record is written: the shim may forget it. If it has gone, it has forgotten.
        if let Err(e) = sandbox.shim.ask(&Request::Remove { container: id.to_owned() }).await {
            tracing::debug!(container = %id, error = %chain(&e), "the shim could not be told to forget a container");
        }
    }

    /// Brings what is known into line with what a shim knows.
    pub(crate) async fn learn(&self, sandbox: &Arc<Sandbox>, state: &State) {
        for known in &state.containers {
            let Ok(container) = self.container(&known.id) else {
                // Started for a daemon that died before it could write so down, or removed: nobody knows it.
                let request = Request::KillAll { container: known.id.clone() };
                if let Err(e) = sandbox.shim.ask(&request).await {
                    tracing::warn!(container = %known.id, error = %chain(&e), "an unknown container could not be ended");
                }
                continue;
            };
            if container.state() == v1::ContainerState::Created {
                self.change_container(&container, |record| {
                    record.state = v1::ContainerState::Running as i32;
                    record.started_at = known.started_at;
                    record.pid = known.pid;
                    record.user = Some(cri_user(&known.user));
                });
            }
            if let Some(exit) = &known.exit {
                self.exited(sandbox, &known.id, exit).await;
            }
        }
        for container in self.containers_of(&sandbox.id) {
            let is_known = state.containers.iter().any(|known| known.id == container.id);
            if !is_known && container.state() == v1::ContainerState::Running {
                self.end_orphan(sandbox, &container, Orphan::FoundDead).await;
            }
        }
    }

    /// A container whose shim does not know it, or is gone.
    pub(crate) async fn end_orphan(&self, sandbox: &Arc<Sandbox>, container: &Arc<Container>, why: Orphan) {
        let cgroup = container.record.lock().cgroup.clone();
        if container.state() != v1::ContainerState::Running {
            if self.0.hierarchy.cgroup(&cgroup).exists() {
                self.remove_cgroup(&cgroup).await;
            }
            return;
        }
        self.remove_cgroup(&cgroup).await;
        let written = std::fs::read(sandbox.folder.join(EXITS).join(&container.id)).ok();
        let written = written.and_then(|bytes| serde_json::from_slice::<Exit>(&bytes).ok());
        self.change_container(container, |record| match (&written, why) {
            (Some(exit), _) => end(record, exit),
            (None, Orphan::ShimKilled) => end(record, &Exit { code: 128 + SIGKILL, at: now(), oom_killed: false }),
            (None, Orphan::FoundDead) => {
                end(record, &Exit { code: UNKNOWN_CODE, at: now(), oom_killed: false });
                record.reason = "Unknown".to_owned();
            }
        });
        container.ended.send_replace(true);
        self.tell(sandbox, &container.id, v1::ContainerEventType::StoppedEvent);
    }

    /// Sends the stop signal, waits, then kills; stopped already is fine.
    pub(crate) async fn stop_container_by(&self, id: &str, timeout: i64) -> Result<(), Error> {
        let container = match self.container(id) {
            Ok(container) => container,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        };
        if container.state() != v1::ContainerState::Running {
            return Ok(());
        }
        if let Ok(seconds) = u64::try_from(timeout)
            && seconds > 0
        {
            let signal = container.record.lock().stop_signal;
            self.signal(&container, signal).await?;
            if tokio::time::timeout(Duration::from_secs(seconds), container.wait()).await.is_ok() {
                return Ok(());
            }
        }
        self.stop_container_now(&container).await
    }

    pub(crate) async fn stop_container_now(&self, container: &Arc<Container>) -> Result<(), Error> {
        if container.state() != v1::ContainerState::Running {
            return Ok(());
        }
        self.signal(container, SIGKILL).await?;
        if tokio::time::timeout(KILL_PATIENCE, container.wait()).await.is_ok() {
            return Ok(());
        }
        Err(Error::unknown(format!("an error occurs during waiting for container {:?} to be killed", container.id)))
    }

    async fn signal(&self, container: &Container, signal: i32) -> Result<(), Error> {
        let sandbox = self.sandbox(&container.sandbox)?;
        let request = Request::Signal { container: container.id.clone(), exec: None, signal };
        match sandbox.shim.ask(&request).await {
            Ok(_) => Ok(()),
            // It ends just now; its end will be told.
            Err(e) if e.is_not_running() && !matches!(e, ShimError::Gone(_)) => Ok(()),
            // The loss of its shim ends it.
            Err(ShimError::Gone(_)) => Ok(()),
            Err(e) => Err(Error::unknown(format!("failed to kill container {:?}: {}", container.id, chain(&e)))),
        }
    }

    /// Removes a container, by force if it runs; none there is no error.
    pub(crate) async fn remove_container(&self, id: &str) -> Result<(), Error> {
        let container = match self.container(id) {
            Ok(container) => container,
            Err(e) if e.is_not_found() => return Ok(()),
            Err(e) => return Err(e),
        };
        let _busy = container.busy.lock().await;
        self.stop_container_now(&container).await?;
        if let Ok(sandbox) = self.sandbox(&container.sandbox)
            && sandbox.is_ready()
            && let Err(e) = sandbox.shim.ask(&Request::Remove { container: container.id.clone() }).await
        {
            tracing::debug!(container = %container.id, error = %chain(&e), "the shim could not be told to forget a container");
        }
        self.forget_container(&container).await;
        if let Ok(sandbox) = self.sandbox(&container.sandbox) {
            self.tell(&sandbox, &container.id, v1::ContainerEventType::DeletedEvent);
        }
        Ok(())
    }

    /// Removes all that there is of a container that does not run; its record last.
    pub(crate) async fn forget_container(&self, container: &Container) {
        let cgroup = container.record.lock().cgroup.clone();
        if self.0.hierarchy.cgroup(&cgroup).exists() {
            self.remove_cgroup(&cgroup).await;
        }
        let (images, id) = (self.0.config.images.clone(), container.id.clone());
        let removed = tokio::task::spawn_blocking(move || images.remove_snapshot(&id)).await;
        if let Ok(Err(e)) = removed {
            tracing::warn!(container = %container.id, error = %chain(&e), "a container's files could not be removed");
            return;
        }
        if let Err(e) = self.0.container_records.remove(&container.id) {
            tracing::error!(container = %container.id, error = %e, "the container's record could not be removed");
        }
        let mut tables = self.0.tables.lock();
        tables.containers.remove(&container.id);
        tables.names.retain(|_, id| *id != container.id);
        tables.cpu_seen.remove(&container.id);
    }

    pub(crate) fn container_status(&self, container: &Container) -> v1::ContainerStatus {
        let record = container.record.lock().clone();
        let config = record.config.unwrap_or_default();
        v1::ContainerStatus {
            id: record.id,
            metadata: config.metadata,
            state: record.state,
            created_at: record.created_at,
            started_at: record.started_at,
            finished_at: record.finished_at,
            exit_code: record.exit_code,
            image: Some(v1::ImageSpec {
                image: self.image_name(&record.image_id, config.image.as_ref()),
                ..Default::default()
            }),
            image_ref: record.image_ref,
            reason: record.reason,
            message: record.message,
            labels: config.labels,
            annotations: config.annotations,
            mounts: config.mounts,
            log_path: record.log_path,
            resources: record
                .resources
                .map(|linux| v1::ContainerResources { linux: Some(linux), ..Default::default() }),
            image_id: record.image_id,
            user: record.user.map(|linux| v1::ContainerUser { linux: Some(linux) }),
            stop_signal: cri_stop_signal(record.stop_signal),
        }
    }

    /// The name of an image that people know, else its id.
    pub(crate) fn image_name(&self, id: &str, wanted: Option<&v1::ImageSpec>) -> String {
        let image = self.0.config.images.get(id);
        let tag = image.as_ref().and_then(|image| image.repo_tags.first().cloned());
        let given = || wanted.map(|spec| spec.user_specified_image.clone()).filter(|name| !name.is_empty());
        tag.or_else(|| image.and_then(|image| image.repo_digests.first().cloned()))
            .or_else(given)
            .unwrap_or_else(|| id.to_owned())
    }
}

/// Reads the file of a container's seccomp profile, if it is named by one.
pub(crate) async fn read_seccomp(config: &v1::ContainerConfig) -> Result<Option<Vec<u8>>, Error> {
    match plan::seccomp_path(config) {
        Some(path) => {
            let read = tokio::fs::read(&path).await;
            read.map(Some).map_err(|e| {
                Error::unknown(format!("cannot load seccomp profile {:?}: {e}", path.display().to_string()))
            })
        }
        None => Ok(None),
    }
}

fn end(record: &mut ContainerRecord, exit: &Exit) {
    record.state = v1::ContainerState::Exited as i32;
    record.finished_at = exit.at;
    record.exit_code = exit.code;
    record.pid = 0;
    record.reason = match (exit.oom_killed, exit.code) {
        (true, _) => "OOMKilled",
        (false, 0) => "Completed",
        (false, _) => "Error",
    }
    .to_owned();
}

fn cri_user(user: &shim::spec::User) -> v1::LinuxContainerUser {
    v1::LinuxContainerUser {
        uid: user.uid.into(),
        gid: user.gid.into(),
        supplemental_groups: user.groups.iter().map(|gid| i64::from(*gid)).collect(),
    }
}

/// The CRI's number of a signal.
fn cri_stop_signal(signal: i32) -> i32 {
    (1..=65).find(|number| plan::cri_signal(*number) == Some(signal)).unwrap_or_default()
}

fn state_name(state: v1::ContainerState) -> &'static str {
    match state {
        v1::ContainerState::Created => "CONTAINER_CREATED",
        v1::ContainerState::Running => "CONTAINER_RUNNING",
        v1::ContainerState::Exited => "CONTAINER_EXITED",
        v1::ContainerState::Unknown => "CONTAINER_UNKNOWN",
    }
}
