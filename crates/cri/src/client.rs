//! The client's end: calls over HTTP/2 on a unix socket.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic_prost::ProstCodec;

use crate::error::{Code, Error};
use crate::service::ReplyStream;

/// A runtime behind a unix socket. Cheap to clone; all clones share one connection, which is made at the first call and
/// again whenever the runtime has been away.
#[derive(Clone)]
pub struct GrpcClient {
    link: Arc<Link>,
}

struct Link {
    socket: PathBuf,
    sender: Mutex<Option<SendRequest<Body>>>,
}

impl GrpcClient {
    /// A client of the runtime at `endpoint`: `unix:///run/containerd/containerd.sock`, or a path alone.
    ///
    /// # Errors
    /// If the endpoint has another scheme. No connection is made yet.
    pub fn new(endpoint: &str) -> Result<GrpcClient, Error> {
        let socket = socket_of(endpoint)?;
        Ok(GrpcClient { link: Arc::new(Link { socket, sender: Mutex::new(None) }) })
    }

    pub(crate) async fn unary<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Error>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc().await?;
        let codec = ProstCodec::<Q, A>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        Ok(grpc.unary(tonic::Request::new(request), path, codec).await?.into_inner())
    }

    pub(crate) async fn streaming<Q, A>(&self, path: &'static str, request: Q) -> Result<ReplyStream<A>, Error>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc().await?;
        let codec = ProstCodec::<Q, A>::default();
        let path = http::uri::PathAndQuery::from_static(path);
        let answers = grpc.server_streaming(tonic::Request::new(request), path, codec).await?.into_inner();
        Ok(Box::pin(answers.map(|answer| answer.map_err(Error::from))))
    }

    async fn grpc(&self) -> Result<tonic::client::Grpc<Channel>, Error> {
        let sender = self.link.sender().await?;
        // The authority means nothing on a unix socket, but gRPC wants one.
        let mut grpc = tonic::client::Grpc::with_origin(Channel { sender }, http::Uri::from_static("http://localhost"))
            .max_decoding_message_size(crate::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(crate::MESSAGE_BYTES_MAX);
        grpc.ready().await.map_err(|error| Error::new(Code::Unavailable, error.to_string()))?;
        Ok(grpc)
    }
}

impl Link {
    async fn sender(&self) -> Result<SendRequest<Body>, Error> {
        let mut held = self.sender.lock().await;
        if let Some(sender) = held.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let unavailable = |error: &dyn std::fmt::Display| {
            let message = format!("connection error: dial unix {}: {error}", self.socket.display());
            Error::new(Code::Unavailable, message)
        };
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| unavailable(&error))?;
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(|error| unavailable(&error))?;
        // It ends with the runtime or with the last sender; whoever calls next learns of it by `is_closed`.
        tokio::spawn(async move { drop(connection.await) });
        *held = Some(sender.clone());
        Ok(sender)
    }
}

/// One connection, in the shape that tonic wants.
struct Channel {
    sender: SendRequest<Body>,
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}

/// The path of the socket that an endpoint names.
fn socket_of(endpoint: &str) -> Result<PathBuf, Error> {
    let path = match endpoint.split_once("://") {
        None => endpoint,
        Some(("unix", path)) => path,
        Some((scheme, _)) => {
            return Err(Error::invalid(format!("protocol {scheme:?} not supported, use unix:// and a path")));
        }
    };
    if path.is_empty() {
        return Err(Error::invalid(format!("endpoint {endpoint:?} names no socket")));
    }
    Ok(Path::new(path).to_owned())
}
