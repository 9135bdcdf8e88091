//! The runtime as the CRI's RuntimeService.

use std::collections::HashMap;
use std::time::Duration;

use cri::{Code, Error, Reply, ReplyStream, RuntimeService, v1};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::error::{chain, failed};
use crate::plan;
use crate::record::Phase;
use crate::runtime::{Container, Runtime, Sandbox, now};
use crate::streams::ProcessStream;

/// What ExecSync keeps of each stream: containerd's bound.
const EXEC_SYNC_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long the output of a command that has ended may stay open in hands of its children.
const EXEC_SYNC_DRAIN: Duration = Duration::from_secs(2);
/// How many items one message of a streamed list has.
const LIST_PORTION: usize = 256;

impl Runtime {
    fn list_sandboxes(&self, filter: Option<v1::PodSandboxFilter>) -> Vec<v1::PodSandbox> {
        let filter = filter.unwrap_or_default();
        let sandboxes: Vec<_> = self.0.tables.lock().sandboxes.values().cloned().collect();
        let rows = sandboxes.iter().map(|sandbox| self.sandbox_status(sandbox));
        let rows = rows.filter(|row| {
            (filter.id.is_empty() || row.id.starts_with(&filter.id))
                && filter.state.as_ref().is_none_or(|state| state.state == row.state)
                && has_labels(&row.labels, &filter.label_selector)
        });
        rows.map(|row| v1::PodSandbox {
            id: row.id,
            metadata: row.metadata,
            state: row.state,
            created_at: row.created_at,
            labels: row.labels,
            annotations: row.annotations,
            runtime_handler: row.runtime_handler,
        })
        .collect()
    }

    fn list_of_containers(&self, filter: Option<v1::ContainerFilter>) -> Vec<v1::Container> {
        let filter = filter.unwrap_or_default();
        let containers: Vec<_> = self.0.tables.lock().containers.values().cloned().collect();
        let rows = containers.iter().map(|container| (self.container_status(container), &container.sandbox));
        let rows = rows.filter(|(row, sandbox)| {
            (filter.id.is_empty() || row.id.starts_with(&filter.id))
                && (filter.pod_sandbox_id.is_empty() || sandbox.starts_with(&filter.pod_sandbox_id))
                && filter.state.as_ref().is_none_or(|state| state.state == row.state)
                && has_labels(&row.labels, &filter.label_selector)
        });
        rows.map(|(row, sandbox)| v1::Container {
            id: row.id,
            pod_sandbox_id: sandbox.clone(),
            metadata: row.metadata,
            image: row.image,
            image_ref: row.image_ref,
            state: row.state,
            created_at: row.created_at,
            labels: row.labels,
            annotations: row.annotations,
            image_id: row.image_id,
        })
        .collect()
    }

    async fn run_to_end(&self, request: v1::ExecSyncRequest) -> Result<v1::ExecSyncResponse, Error> {
        let mut process = self.exec_streams(&request.container_id, request.cmd, false, [false, true, true]).await?;
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let output = tokio::spawn(async move { tokio::join!(read_all(stdout), read_all(stderr)) });
        let seconds = u64::try_from(request.timeout).unwrap_or_default();
        let ended = if seconds == 0 {
            Some(process.wait().await)
        } else {
            tokio::time::timeout(Duration::from_secs(seconds), process.wait()).await.ok()
        };
        let Some(ended) = ended else {
            process.kill().await?;
            let message =
                format!("failed to exec in container: timeout {seconds}s exceeded: context deadline exceeded");
            return Err(Error::new(Code::DeadlineExceeded, message));
        };
        let exit_code = ended?;
        let abort = output.abort_handle();
        let (stdout, stderr) = match tokio::time::timeout(EXEC_SYNC_DRAIN, output).await {
            Ok(output) => output.map_err(|e| failed("read the output", &e))?,
            Err(_) => {
                abort.abort();
                return Err(Error::unknown("failed to drain exec process io: its output is still open"));
            }
        };
        Ok(v1::ExecSyncResponse { stdout, stderr, exit_code })
    }

    async fn update_resources(&self, request: v1::UpdateContainerResourcesRequest) -> Result<(), Error> {
        let container = self.container(&request.container_id)?;
        let Some(wanted) = request.linux else { return Ok(()) };
        let record = container.record.lock().clone();
        let mut merged = record.resources.clone().unwrap_or_default();
        merge(&mut merged, &wanted);
        match record.state() {
            v1::ContainerState::Running => {
                let cgroup = self.0.hierarchy.cgroup(&record.cgroup);
                let mut limits = plan::limits(&wanted);
                if wanted.memory_limit_in_bytes == 0 {
                    limits.memory_swap = None;
                }
                let set = tokio::task::spawn_blocking(move || cgroup.set(&limits)).await;
                match set {
                    Ok(Ok(())) => {}
                    Ok(Err(e)) => {
                        return Err(Error::unknown(format!("failed to update resources: {}", chain(&e))));
                    }
                    Err(e) => return Err(failed("update resources", &e)),
                }
            }
            v1::ContainerState::Created => {}
            _ => return Err(Error::unknown("failed to update resources: container is not running")),
        }
        self.change_container(&container, |record| record.resources = Some(merged));
        Ok(())
    }

    fn sandbox_info(&self, sandbox: &Sandbox) -> HashMap<String, String> {
        let record = sandbox.record.lock();
        let info = serde_json::json!({
            "pid": record.shim_pid,
            "processStatus": if record.phase() == Phase::Ready { "running" } else { "deleted" },
            "netNamespaceClosed": record.phase() != Phase::Ready,
            "runtimeHandler": record.runtime_handler,
            "runtimeType": "kubox",
            "runFolder": sandbox.folder,
            "cgroup": record.cgroup,
        });
        HashMap::from([("info".to_owned(), info.to_string())])
    }

    fn container_info(container: &Container) -> HashMap<String, String> {
        let record = container.record.lock();
        let info = serde_json::json!({
            "sandboxID": record.sandbox,
            "pid": record.pid,
            "removing": false,
            "snapshotKey": record.id,
            "snapshotter": "overlayfs",
            "runtimeType": "kubox",
            "cgroup": record.cgroup,
            "privileged": record.config.as_ref().is_some_and(|config| plan::security_context(config).privileged),
        });
        HashMap::from([("info".to_owned(), info.to_string())])
    }

    fn conditions(&self) -> Vec<v1::RuntimeCondition> {
        let condition = |kind: &str, state: Result<(), (String, String)>| {
            let status = state.is_ok();
            let (reason, message) = state.err().unwrap_or_default();
            v1::RuntimeCondition { r#type: kind.to_owned(), status, reason, message }
        };
        vec![condition("RuntimeReady", Ok(())), condition("NetworkReady", self.0.config.network.ready())]
    }

    fn url(&self, ask: impl FnOnce(&dyn crate::StreamUrls) -> Result<String, String>) -> Result<String, Error> {
        match &self.0.config.stream_urls {
            Some(urls) => ask(urls.as_ref()).map_err(Error::unknown),
            None => Err(Error::new(Code::Unimplemented, "streams are not served here")),
        }
    }

    /// The container must run before its streams are promised.
    fn check_running(&self, id: &str) -> Result<(), Error> {
        let state = self.container(id)?.state();
        if state == v1::ContainerState::Running {
            return Ok(());
        }
        Err(Error::unknown(format!("container is in CONTAINER_{} state", format!("{state:?}").to_ascii_uppercase())))
    }
}

async fn read_all(stream: Option<ProcessStream>) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(mut stream) = stream {
        // A broken pipe ends what can be told.
        let _ = (&mut stream as &mut (dyn AsyncRead + Unpin + Send))
            .take(EXEC_SYNC_BYTES_MAX as u64)
            .read_to_end(&mut out)
            .await;
        // The rest is read and dropped, so that the command can end.
        let mut rest = [0; 16 * 1024];
        while matches!(stream.read(&mut rest).await, Ok(count) if count > 0) {}
    }
    out
}

/// Puts what is said in place of what was.
fn merge(current: &mut v1::LinuxContainerResources, wanted: &v1::LinuxContainerResources) {
    let put = |current: &mut i64, wanted: i64| {
        if wanted != 0 {
            *current = wanted;
        }
    };
    put(&mut current.cpu_period, wanted.cpu_period);
    put(&mut current.cpu_quota, wanted.cpu_quota);
    put(&mut current.cpu_shares, wanted.cpu_shares);
    put(&mut current.memory_limit_in_bytes, wanted.memory_limit_in_bytes);
    put(&mut current.memory_swap_limit_in_bytes, wanted.memory_swap_limit_in_bytes);
    put(&mut current.oom_score_adj, wanted.oom_score_adj);
    for (current, wanted) in
        [(&mut current.cpuset_cpus, &wanted.cpuset_cpus), (&mut current.cpuset_mems, &wanted.cpuset_mems)]
    {
        if !wanted.is_empty() {
            current.clone_from(wanted);
        }
    }
    for limit in &wanted.hugepage_limits {
        current.hugepage_limits.retain(|other| other.page_size != limit.page_size);
        current.hugepage_limits.push(limit.clone());
    }
    current.unified.extend(wanted.unified.clone());
}

pub(crate) fn has_labels(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

/// A list in portions.
pub(crate) fn portions<T, R>(items: Vec<T>, wrap: impl Fn(Vec<T>) -> R + Send + 'static) -> ReplyStream<R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let mut items = items.into_iter();
    let next = std::iter::from_fn(move || {
        let portion: Vec<T> = items.by_ref().take(LIST_PORTION).collect();
        (!portion.is_empty()).then(|| Ok(wrap(portion)))
    });
    Box::pin(tokio_stream::iter(next))
}

macro_rules! reply {
    ($body:expr) => {
        Box::pin(async move { $body })
    };
}

impl RuntimeService for Runtime {
    fn version(&self, _: v1::VersionRequest) -> Reply<'_, v1::VersionResponse> {
        reply!(Ok(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "kubox".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    fn run_pod_sandbox(&self, request: v1::RunPodSandboxRequest) -> Reply<'_, v1::RunPodSandboxResponse> {
        let runtime = self.clone();
        // In a task of its own: a caller that hangs up must not leave half a sandbox.
        reply!(
            whole(
                async move { Ok(v1::RunPodSandboxResponse { pod_sandbox_id: runtime.make_sandbox(request).await? }) }
            )
            .await
        )
    }

    fn stop_pod_sandbox(&self, request: v1::StopPodSandboxRequest) -> Reply<'_, v1::StopPodSandboxResponse> {
        let runtime = self.clone();
        reply!(
            whole(async move {
                runtime.stop_sandbox(&request.pod_sandbox_id).await?;
                Ok(v1::StopPodSandboxResponse {})
            })
            .await
        )
    }

    fn remove_pod_sandbox(&self, request: v1::RemovePodSandboxRequest) -> Reply<'_, v1::RemovePodSandboxResponse> {
        let runtime = self.clone();
        reply!(
            whole(async move {
                runtime.remove_sandbox(&request.pod_sandbox_id).await?;
                Ok(v1::RemovePodSandboxResponse {})
            })
            .await
        )
    }

    fn pod_sandbox_status(&self, request: v1::PodSandboxStatusRequest) -> Reply<'_, v1::PodSandboxStatusResponse> {
        reply!({
            let sandbox = self.sandbox(&request.pod_sandbox_id)?;
            let containers = self.containers_of(&sandbox.id);
            Ok(v1::PodSandboxStatusResponse {
                status: Some(self.sandbox_status(&sandbox)),
                info: if request.verbose { self.sandbox_info(&sandbox) } else { HashMap::new() },
                containers_statuses: containers.iter().map(|container| self.container_status(container)).collect(),
                timestamp: now(),
            })
        })
    }

    fn list_pod_sandbox(&self, request: v1::ListPodSandboxRequest) -> Reply<'_, v1::ListPodSandboxResponse> {
        reply!(Ok(v1::ListPodSandboxResponse { items: self.list_sandboxes(request.filter) }))
    }

    fn stream_pod_sandboxes(
        &self,
        request: v1::StreamPodSandboxesRequest,
    ) -> Reply<'_, ReplyStream<v1::StreamPodSandboxesResponse>> {
        reply!(Ok(portions(self.list_sandboxes(request.filter), |pod_sandboxes| {
            v1::StreamPodSandboxesResponse { pod_sandboxes }
        })))
    }

    fn create_container(&self, request: v1::CreateContainerRequest) -> Reply<'_, v1::CreateContainerResponse> {
        let runtime = self.clone();
        reply!(
            whole(
                async move { Ok(v1::CreateContainerResponse { container_id: runtime.make_container(request).await? }) }
            )
            .await
        )
    }

    fn start_container(&self, request: v1::StartContainerRequest) -> Reply<'_, v1::StartContainerResponse> {
        let runtime = self.clone();
        reply!(
            whole(async move {
                runtime.start_container_by(&request.container_id).await?;
                Ok(v1::StartContainerResponse {})
            })
            .await
        )
    }

    fn stop_container(&self, request: v1::StopContainerRequest) -> Reply<'_, v1::StopContainerResponse> {
        reply!({
            self.stop_container_by(&request.container_id, request.timeout).await?;
            Ok(v1::StopContainerResponse {})
        })
    }

    fn remove_container(&self, request: v1::RemoveContainerRequest) -> Reply<'_, v1::RemoveContainerResponse> {
        let runtime = self.clone();
        reply!(
            whole(async move {
                Runtime::remove_container(&runtime, &request.container_id).await?;
                Ok(v1::RemoveContainerResponse {})
            })
            .await
        )
    }

    fn list_containers(&self, request: v1::ListContainersRequest) -> Reply<'_, v1::ListContainersResponse> {
        reply!(Ok(v1::ListContainersResponse { containers: self.list_of_containers(request.filter) }))
    }

    fn stream_containers(
        &self,
        request: v1::StreamContainersRequest,
    ) -> Reply<'_, ReplyStream<v1::StreamContainersResponse>> {
        reply!(Ok(portions(self.list_of_containers(request.filter), |containers| {
            v1::StreamContainersResponse { containers }
        })))
    }

    fn container_status(&self, request: v1::ContainerStatusRequest) -> Reply<'_, v1::ContainerStatusResponse> {
        reply!({
            let container = self.container(&request.container_id)?;
            Ok(v1::ContainerStatusResponse {
                status: Some(Runtime::container_status(self, &container)),
                info: if request.verbose { Runtime::container_info(&container) } else { HashMap::new() },
            })
        })
    }

    fn update_container_resources(
        &self,
        request: v1::UpdateContainerResourcesRequest,
    ) -> Reply<'_, v1::UpdateContainerResourcesResponse> {
        reply!({
            self.update_resources(request).await?;
            Ok(v1::UpdateContainerResourcesResponse {})
        })
    }

    fn reopen_container_log(
        &self,
        request: v1::ReopenContainerLogRequest,
    ) -> Reply<'_, v1::ReopenContainerLogResponse> {
        reply!({
            let container = self.container(&request.container_id)?;
            if container.state() != v1::ContainerState::Running {
                return Err(Error::unknown("container is not running"));
            }
            let sandbox = self.sandbox(&container.sandbox)?;
            let request = shim::protocol::Request::ReopenLog { container: container.id.clone() };
            sandbox.shim.ask(&request).await?;
            Ok(v1::ReopenContainerLogResponse {})
        })
    }

    fn exec_sync(&self, request: v1::ExecSyncRequest) -> Reply<'_, v1::ExecSyncResponse> {
        reply!(self.run_to_end(request).await)
    }

    fn exec(&self, request: v1::ExecRequest) -> Reply<'_, v1::ExecResponse> {
        reply!({
            self.check_running(&request.container_id)?;
            Ok(v1::ExecResponse { url: self.url(|urls| urls.exec(&request))? })
        })
    }

    fn attach(&self, request: v1::AttachRequest) -> Reply<'_, v1::AttachResponse> {
        reply!({
            self.check_running(&request.container_id)?;
            Ok(v1::AttachResponse { url: self.url(|urls| urls.attach(&request))? })
        })
    }

    fn port_forward(&self, request: v1::PortForwardRequest) -> Reply<'_, v1::PortForwardResponse> {
        reply!({
            let sandbox = self.sandbox(&request.pod_sandbox_id)?;
            if !sandbox.is_ready() {
                return Err(crate::sandbox::not_ready(&sandbox.id));
            }
            Ok(v1::PortForwardResponse { url: self.url(|urls| urls.port_forward(&request))? })
        })
    }

    fn container_stats(&self, request: v1::ContainerStatsRequest) -> Reply<'_, v1::ContainerStatsResponse> {
        reply!({
            let container = self.container(&request.container_id)?;
            Ok(v1::ContainerStatsResponse { stats: Some(self.stats_of(&container).await) })
        })
    }

    fn list_container_stats(
        &self,
        request: v1::ListContainerStatsRequest,
    ) -> Reply<'_, v1::ListContainerStatsResponse> {
        reply!(Ok(v1::ListContainerStatsResponse { stats: self.all_container_stats(request.filter).await }))
    }

    fn stream_container_stats(
        &self,
        request: v1::StreamContainerStatsRequest,
    ) -> Reply<'_, ReplyStream<v1::StreamContainerStatsResponse>> {
        reply!(Ok(portions(self.all_container_stats(request.filter).await, |container_stats| {
            v1::StreamContainerStatsResponse { container_stats }
        })))
    }

    fn pod_sandbox_stats(&self, request: v1::PodSandboxStatsRequest) -> Reply<'_, v1::PodSandboxStatsResponse> {
        reply!({
            let sandbox = self.sandbox(&request.pod_sandbox_id)?;
            Ok(v1::PodSandboxStatsResponse { stats: Some(self.sandbox_stats(&sandbox).await) })
        })
    }

    fn list_pod_sandbox_stats(
        &self,
        request: v1::ListPodSandboxStatsRequest,
    ) -> Reply<'_, v1::ListPodSandboxStatsResponse> {
        reply!(Ok(v1::ListPodSandboxStatsResponse { stats: self.all_sandbox_stats(request.filter).await }))
    }

    fn stream_pod_sandbox_stats(
        &self,
        request: v1::StreamPodSandboxStatsRequest,
    ) -> Reply<'_, ReplyStream<v1::StreamPodSandboxStatsResponse>> {
        reply!(Ok(portions(self.all_sandbox_stats(request.filter).await, |pod_sandbox_stats| {
            v1::StreamPodSandboxStatsResponse { pod_sandbox_stats }
        })))
    }

    fn update_runtime_config(
        &self,
        request: v1::UpdateRuntimeConfigRequest,
    ) -> Reply<'_, v1::UpdateRuntimeConfigResponse> {
        reply!({
            let network = request.runtime_config.and_then(|config| config.network_config).unwrap_or_default();
            if !network.pod_cidr.is_empty() {
                self.0.config.network.set_pod_cidr(&network.pod_cidr);
            }
            Ok(v1::UpdateRuntimeConfigResponse {})
        })
    }

    fn status(&self, request: v1::StatusRequest) -> Reply<'_, v1::StatusResponse> {
        reply!({
            let mut info = HashMap::new();
            if request.verbose {
                let config = &self.0.config;
                let text = serde_json::json!({
                    "stateFolder": config.state_folder,
                    "runFolder": config.run_folder,
                    "cgroupParent": config.cgroup_parent,
                    "cgroupVersion": if self.0.hierarchy.is_v2() { 2 } else { 1 },
                });
                info.insert("config".to_owned(), text.to_string());
                info.extend(config.network.info().map(|text| ("cniconfig".to_owned(), text)));
            }
            let features = v1::RuntimeHandlerFeatures { recursive_read_only_mounts: true, user_namespaces: false };
            Ok(v1::StatusResponse {
                status: Some(v1::RuntimeStatus { conditions: self.conditions() }),
                info,
                runtime_handlers: ["", "kubox"]
                    .map(|name| v1::RuntimeHandler { name: name.to_owned(), features: Some(features.clone()) })
                    .to_vec(),
                features: Some(v1::RuntimeFeatures { supplemental_groups_policy: true, ..Default::default() }),
            })
        })
    }

    fn get_container_events(&self, _: v1::GetEventsRequest) -> Reply<'_, ReplyStream<v1::ContainerEventResponse>> {
        reply!(Ok(self.0.events.listen()))
    }

    fn list_metric_descriptors(
        &self,
        _: v1::ListMetricDescriptorsRequest,
    ) -> Reply<'_, v1::ListMetricDescriptorsResponse> {
        reply!(Ok(v1::ListMetricDescriptorsResponse { descriptors: crate::stats::descriptors() }))
    }

    fn list_pod_sandbox_metrics(
        &self,
        _: v1::ListPodSandboxMetricsRequest,
    ) -> Reply<'_, v1::ListPodSandboxMetricsResponse> {
        reply!(Ok(v1::ListPodSandboxMetricsResponse { pod_metrics: self.all_sandbox_metrics().await }))
    }

    fn stream_pod_sandbox_metrics(
        &self,
        _: v1::StreamPodSandboxMetricsRequest,
    ) -> Reply<'_, ReplyStream<v1::StreamPodSandboxMetricsResponse>> {
        reply!(Ok(portions(self.all_sandbox_metrics().await, |pod_sandbox_metrics| {
            v1::StreamPodSandboxMetricsResponse { pod_sandbox_metrics }
        })))
    }

    fn runtime_config(&self, _: v1::RuntimeConfigRequest) -> Reply<'_, v1::RuntimeConfigResponse> {
        reply!(Ok(v1::RuntimeConfigResponse {
            linux: Some(v1::LinuxRuntimeConfiguration { cgroup_driver: v1::CgroupDriver::Cgroupfs as i32 }),
        }))
    }

    fn update_pod_sandbox_resources(
        &self,
        request: v1::UpdatePodSandboxResourcesRequest,
    ) -> Reply<'_, v1::UpdatePodSandboxResourcesResponse> {
        reply!({
            let sandbox = self.sandbox(&request.pod_sandbox_id)?;
            self.change_sandbox(&sandbox, |record| {
                if let Some(linux) = record.config.as_mut().and_then(|config| config.linux.as_mut()) {
                    linux.overhead.clone_from(&request.overhead);
                    linux.resources.clone_from(&request.resources);
                }
            });
            Ok(v1::UpdatePodSandboxResourcesResponse {})
        })
    }
}

/// Runs something to its end, even if the caller hangs up.
async fn whole<T: Send + 'static>(work: impl Future<Output = Result<T, Error>> + Send + 'static) -> Result<T, Error> {
    match tokio::spawn(work).await {
        Ok(result) => result,
        Err(e) => Err(failed("do it", &e)),
    }
}
