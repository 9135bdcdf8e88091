//! Both ends of the interface over a real socket.

use std::path::Path;
use std::sync::Arc;

use cri::v1::{self, ContainerEventType, VersionRequest};
use cri::{Code, Error, GrpcClient, ImageService, Reply, ReplyStream, RuntimeService};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

/// A runtime with one sandbox and a story of three events.
struct Fake {
    name: &'static str,
}

impl RuntimeService for Fake {
    fn version(&self, request: VersionRequest) -> Reply<'_, v1::VersionResponse> {
        Box::pin(async move {
            Ok(v1::VersionResponse {
                version: request.version,
                runtime_name: self.name.to_owned(),
                ..v1::VersionResponse::default()
            })
        })
    }

    fn stop_pod_sandbox(&self, request: v1::StopPodSandboxRequest) -> Reply<'_, v1::StopPodSandboxResponse> {
        Box::pin(async move { Err(Error::not_found(format!("sandbox {}: ünknown", request.pod_sandbox_id))) })
    }

    fn get_container_events(&self, _: v1::GetEventsRequest) -> Reply<'_, ReplyStream<v1::ContainerEventResponse>> {
        use ContainerEventType::{CreatedEvent, StartedEvent, StoppedEvent};
        let event = |kind: ContainerEventType| {
            Ok(v1::ContainerEventResponse { container_event_type: kind as i32, ..Default::default() })
        };
        let story: Vec<_> = [CreatedEvent, StartedEvent, StoppedEvent].map(event).into();
        let story = story.into_iter().chain([Err(Error::new(Code::Aborted, "the runtime ends"))]);
        Box::pin(async { Ok(Box::pin(tokio_stream::iter(story)) as ReplyStream<_>) })
    }
}

impl ImageService for Fake {
    fn list_images(&self, _: v1::ListImagesRequest) -> Reply<'_, v1::ListImagesResponse> {
        let image = |number: usize| v1::Image { id: format!("sha256:{number:064}"), ..v1::Image::default() };
        Box::pin(async move { Ok(v1::ListImagesResponse { images: (0..100_000).map(image).collect() }) })
    }
}

fn start(socket: &Path, name: &'static str) -> JoinHandle<std::io::Result<()>> {
    let listener = UnixListener::bind(socket).expect("bind");
    let fake = Arc::new(Fake { name });
    tokio::spawn(cri::serve(listener, fake.clone(), fake))
}

#[tokio::test]
async fn calls_go_through_a_socket_as_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("cri.sock");
    let server = start(&socket, "first");
    let client = GrpcClient::new(&format!("unix://{}", socket.display())).expect("an endpoint");

    let version = client.version(VersionRequest { version: "v1".to_owned() }).await.expect("version");
    assert_eq!((version.version.as_str(), version.runtime_name.as_str()), ("v1", "first"));

    let images = client.list_images(v1::ListImagesRequest::default()).await.expect("7 MB of images");
    assert_eq!(images.images.len(), 100_000);

    let request = v1::StopPodSandboxRequest { pod_sandbox_id: "x".to_owned() };
    let error = client.stop_pod_sandbox(request).await.expect_err("there is no such sandbox");
    assert!(error.is_not_found());
    assert_eq!(error.to_string(), "rpc error: code = NotFound desc = sandbox x: ünknown");

    let error = client.status(v1::StatusRequest::default()).await.expect_err("the fake has no status");
    let expected = "rpc error: code = Unimplemented desc = unknown method runtime.v1.RuntimeService/Status";
    assert_eq!(error.to_string(), expected);

    let events = client.get_container_events(v1::GetEventsRequest {}).await.expect("events");
    let events: Vec<_> = events.map(|event| event.map(|event| event.container_event_type)).collect().await;
    assert_eq!(events, [Ok(0), Ok(1), Ok(2), Err(Error::new(Code::Aborted, "the runtime ends"))]);
    server.abort();
}

#[tokio::test]
async fn a_client_survives_the_runtime() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("cri.sock");
    let client = GrpcClient::new(&socket.display().to_string()).expect("an endpoint");
    let ask = || client.version(VersionRequest::default());

    let error = ask().await.expect_err("nobody listens");
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.contains("cri.sock"), "{error}");

    let server = start(&socket, "first");
    assert_eq!(ask().await.expect("version").runtime_name, "first");
    server.abort();
    server.await.expect_err("aborted");
    ask().await.expect_err("the runtime is gone");

    std::fs::remove_file(&socket).expect("remove");
    let server = start(&socket, "second");
    assert_eq!(ask().await.expect("version").runtime_name, "second");
    server.abort();
}

#[test]
fn endpoints_are_unix_sockets() {
    for (endpoint, expected) in [
        ("tcp://127.0.0.1:1", "protocol \"tcp\" not supported, use unix:// and a path"),
        ("unix://", "endpoint \"unix://\" names no socket"),
        ("", "endpoint \"\" names no socket"),
    ] {
        let error = GrpcClient::new(endpoint).err().expect("an error");
        assert_eq!(error.message, expected, "{endpoint}");
    }
}
