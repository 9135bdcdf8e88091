//! The server's end: one socket, both services.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixListener;
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::service::{ImageService, Reply, ReplyStream, RuntimeService, dispatch_image, dispatch_runtime};

/// The answer to a request, once it comes.
pub(crate) type Answer = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;

/// Serves a runtime on a socket until the future is dropped; open connections end with it.
///
/// # Errors
/// If the listener fails for good.
pub async fn serve(
    listener: UnixListener,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
) -> std::io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while connections.try_join_next().is_some() {}
        let (runtime, images) = (runtime.clone(), images.clone());
        let service = service_fn(move |request| {
            let (runtime, images) = (runtime.clone(), images.clone());
            async move { Ok::<_, Infallible>(dispatch(runtime, images, request).await) }
        });
        connections.spawn(async move {
            // A client that goes away is no failure of ours.
            drop(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn dispatch(
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    request: http::Request<Incoming>,
) -> http::Response<Body> {
    let path = request.uri().path().to_owned();
    let answer = match path.rsplit_once('/').map_or("", |(service, _)| service) {
        "/runtime.v1.RuntimeService" => dispatch_runtime(runtime, request),
        "/runtime.v1.ImageService" => dispatch_image(images, request),
        service => {
            let service = service.trim_start_matches('/');
            return Status::unimplemented(format!("unknown service {service}")).into_http();
        }
    };
    match answer {
        Some(answer) => answer.await,
        None => Status::unimplemented(format!("unknown method {path}")).into_http(),
    }
}

/// Answers a call of one message with one message.
pub(crate) fn unary<Q, A>(
    request: http::Request<Incoming>,
    call: impl Fn(Q) -> Reply<'static, A> + Send + 'static,
) -> Answer
where
    Q: Message + Default + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    Box::pin(async move { grpc::<Q, A>().unary(Unary(call), request).await })
}

/// Answers a call of one message with a stream of them.
pub(crate) fn streaming<Q, A>(
    request: http::Request<Incoming>,
    call: impl Fn(Q) -> Reply<'static, ReplyStream<A>> + Send + 'static,
) -> Answer
where
    Q: Message + Default + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    Box::pin(async move { grpc::<Q, A>().server_streaming(Streaming(call), request).await })
}

fn grpc<Q, A>() -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(crate::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(crate::MESSAGE_BYTES_MAX)
}

struct Unary<C>(C);

impl<Q, A, C> UnaryService<Q> for Unary<C>
where
    A: 'static,
    C: Fn(Q) -> Reply<'static, A>,
{
    type Response = A;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, Status>> + Send>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let answer = (self.0)(request.into_inner());
        Box::pin(async move { answer.await.map(Response::new).map_err(Status::from) })
    }
}

struct Streaming<C>(C);

impl<Q, A, C> ServerStreamingService<Q> for Streaming<C>
where
    A: 'static,
    C: Fn(Q) -> Reply<'static, ReplyStream<A>>,
{
    type Response = A;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let answer = (self.0)(request.into_inner());
        Box::pin(async move {
            let answers = answer.await.map_err(Status::from)?;
            let answers: Self::ResponseStream = Box::pin(answers.map(|answer| answer.map_err(Status::from)));
            Ok(Response::new(answers))
        })
    }
}
