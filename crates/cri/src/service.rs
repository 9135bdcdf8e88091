//! The two services, each method said once: the interface, the client's half and the server's half follow from it.

use std::pin::Pin;
use std::sync::Arc;

use futures_core::Stream;
use hyper::body::Incoming;

use crate::client::GrpcClient;
use crate::error::{Code, Error};
use crate::server::Answer;
use crate::{server, v1};

/// The answer to a call, once it comes.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The answers to a call that gives several.
pub type ReplyStream<T> = Pin<Box<dyn Stream<Item = Result<T, Error>> + Send>>;

macro_rules! answer {
    (unary, $response:ident) => { v1::$response };
    (streaming, $response:ident) => { ReplyStream<v1::$response> };
}

/// Declares a service: `kind method = "Rpc" (Request) -> Response, "what it does";`.
macro_rules! service {
    ($(#[$doc:meta])* $name:ident, $path:literal, $dispatch:ident, {
        $($kind:ident $method:ident = $rpc:literal ($request:ident) -> $response:ident, $what:literal;)*
    }) => {
        $(#[$doc])*
        pub trait $name: Send + Sync {
            $(
                #[doc = $what]
                fn $method(&self, request: v1::$request) -> Reply<'_, answer!($kind, $response)> {
                    let _ = request;
                    Box::pin(async { Err(unimplemented(concat!($path, "/", $rpc))) })
                }
            )*
        }

        impl $name for GrpcClient {
            $(
                fn $method(&self, request: v1::$request) -> Reply<'_, answer!($kind, $response)> {
                    Box::pin(self.$kind(concat!("/", $path, "/", $rpc), request))
                }
            )*
        }

        /// Hands a request to the method that its path names; `None` if the service has no such method.
        pub(crate) fn $dispatch(service: Arc<dyn $name>, request: http::Request<Incoming>) -> Option<Answer> {
            match request.uri().path() {
                $(
                    concat!("/", $path, "/", $rpc) => Some(server::$kind(request, move |message: v1::$request| {
                        let service = service.clone();
                        Box::pin(async move { service.$method(message).await })
                    })),
                )*
                _ => None,
            }
        }
    };
}

fn unimplemented(method: &str) -> Error {
    Error::new(Code::Unimplemented, format!("unknown method {method}"))
}

service! {
    /// Pods and their containers. Every method may be called again: what is done already is no error.
    RuntimeService, "runtime.v1.RuntimeService", dispatch_runtime, {
        unary version = "Version" (VersionRequest) -> VersionResponse, "The runtime's name and version.";
        unary run_pod_sandbox = "RunPodSandbox" (RunPodSandboxRequest) -> RunPodSandboxResponse, "Makes a pod's sandbox and starts it: ready when this returns.";
        unary stop_pod_sandbox = "StopPodSandbox" (StopPodSandboxRequest) -> StopPodSandboxResponse, "Ends every process of the sandbox and gives its network back.";
        unary remove_pod_sandbox = "RemovePodSandbox" (RemovePodSandboxRequest) -> RemovePodSandboxResponse, "Removes the sandbox and its containers, by force if need be.";
        unary pod_sandbox_status = "PodSandboxStatus" (PodSandboxStatusRequest) -> PodSandboxStatusResponse, "The state of one sandbox; not found if there is none.";
        unary list_pod_sandbox = "ListPodSandbox" (ListPodSandboxRequest) -> ListPodSandboxResponse, "The sandboxes that a filter lets through.";
        streaming stream_pod_sandboxes = "StreamPodSandboxes" (StreamPodSandboxesRequest) -> StreamPodSandboxesResponse, "As the list, in portions.";
        unary create_container = "CreateContainer" (CreateContainerRequest) -> CreateContainerResponse, "Makes a container in a sandbox.";
        unary start_container = "StartContainer" (StartContainerRequest) -> StartContainerResponse, "Starts a container.";
        unary stop_container = "StopContainer" (StopContainerRequest) -> StopContainerResponse, "Sends the stop signal, waits `timeout` seconds, then kills.";
        unary remove_container = "RemoveContainer" (RemoveContainerRequest) -> RemoveContainerResponse, "Removes a container, by force if it runs.";
        unary list_containers = "ListContainers" (ListContainersRequest) -> ListContainersResponse, "The containers that a filter lets through.";
        streaming stream_containers = "StreamContainers" (StreamContainersRequest) -> StreamContainersResponse, "As the list, in portions.";
        unary container_status = "ContainerStatus" (ContainerStatusRequest) -> ContainerStatusResponse, "The state of one container; not found if there is none.";
        unary update_container_resources = "UpdateContainerResources" (UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse, "Changes the limits of a container.";
        unary reopen_container_log = "ReopenContainerLog" (ReopenContainerLogRequest) -> ReopenContainerLogResponse, "Opens the log file anew after it was rotated.";
        unary exec_sync = "ExecSync" (ExecSyncRequest) -> ExecSyncResponse, "Runs a command in a container and returns what it wrote.";
        unary exec = "Exec" (ExecRequest) -> ExecResponse, "The address at which a command can be run with its streams.";
        unary attach = "Attach" (AttachRequest) -> AttachResponse, "The address at which a container's streams are.";
        unary port_forward = "PortForward" (PortForwardRequest) -> PortForwardResponse, "The address at which a sandbox's ports are.";
        unary container_stats = "ContainerStats" (ContainerStatsRequest) -> ContainerStatsResponse, "What one container uses.";
        unary list_container_stats = "ListContainerStats" (ListContainerStatsRequest) -> ListContainerStatsResponse, "What the running containers use.";
        streaming stream_container_stats = "StreamContainerStats" (StreamContainerStatsRequest) -> StreamContainerStatsResponse, "As the list, in portions.";
        unary pod_sandbox_stats = "PodSandboxStats" (PodSandboxStatsRequest) -> PodSandboxStatsResponse, "What one sandbox uses.";
        unary list_pod_sandbox_stats = "ListPodSandboxStats" (ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse, "What the sandboxes use.";
        streaming stream_pod_sandbox_stats = "StreamPodSandboxStats" (StreamPodSandboxStatsRequest) -> StreamPodSandboxStatsResponse, "As the list, in portions.";
        unary update_runtime_config = "UpdateRuntimeConfig" (UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse, "Tells the runtime the node's pod range.";
        unary status = "Status" (StatusRequest) -> StatusResponse, "The conditions RuntimeReady and NetworkReady.";
        unary checkpoint_container = "CheckpointContainer" (CheckpointContainerRequest) -> CheckpointContainerResponse, "Writes a container's state to a file.";
        streaming get_container_events = "GetContainerEvents" (GetEventsRequest) -> ContainerEventResponse, "Every change of a container's state, as it happens.";
        unary list_metric_descriptors = "ListMetricDescriptors" (ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse, "What the metrics of the sandboxes are.";
        unary list_pod_sandbox_metrics = "ListPodSandboxMetrics" (ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse, "The metrics of the sandboxes.";
        streaming stream_pod_sandbox_metrics = "StreamPodSandboxMetrics" (StreamPodSandboxMetricsRequest) -> StreamPodSandboxMetricsResponse, "As the list, in portions.";
        unary runtime_config = "RuntimeConfig" (RuntimeConfigRequest) -> RuntimeConfigResponse, "The runtime's cgroup driver.";
        unary update_pod_sandbox_resources = "UpdatePodSandboxResources" (UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse, "Changes the limits of a sandbox.";
    }
}

service! {
    /// The images that a runtime keeps.
    ImageService, "runtime.v1.ImageService", dispatch_image, {
        unary list_images = "ListImages" (ListImagesRequest) -> ListImagesResponse, "The images.";
        streaming stream_images = "StreamImages" (StreamImagesRequest) -> StreamImagesResponse, "As the list, in portions.";
        unary image_status = "ImageStatus" (ImageStatusRequest) -> ImageStatusResponse, "One image; an empty answer if there is none.";
        unary pull_image = "PullImage" (PullImageRequest) -> PullImageResponse, "Fetches an image.";
        unary remove_image = "RemoveImage" (RemoveImageRequest) -> RemoveImageResponse, "Removes an image; none there is no error.";
        unary image_fs_info = "ImageFsInfo" (ImageFsInfoRequest) -> ImageFsInfoResponse, "What the images take of the disk.";
    }
}
