//! Connections: TLS, HTTP/1.1 and HTTP/2, and their end.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use authn::{ClientChain, UserInfo};
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pki::ServerTls;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};
use world::Random;

use crate::body::Body;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address.
    pub address: Option<std::net::SocketAddr>,
    /// The certificates that it showed; judged at the first request.
    pub client: ClientChain,
    /// Who it is, where that needs no proof: a part of this very program. Never set for what came over a network.
    pub known: Option<Arc<UserInfo>>,
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn handle(
        self: Arc<Self>,
        peer: Arc<Peer>,
        request: Request<Incoming>,
    ) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
}

/// A TLS handshake may take this long.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A client may take this long to send its request head.
const HEADER_MAX: Duration = Duration::from_secs(30);
/// Requests that run when the server stops may take this long.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// What a client may send on one HTTP/2 stream before the server has read it (upstream's figure).
const STREAM_WINDOW: u32 = 256 * 1024;

/// What a connection may do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Streams on one HTTP/2 connection.
    pub streams_max: u32,
    /// The share of HTTP/2 requests after which the client is asked to connect anew (`--goaway-chance`).
    pub goaway_chance: f64,
    /// Decides which they are.
    pub random: Arc<dyn Random>,
}

impl Limits {
    /// Whether the client is to be asked to connect anew, so that a balancer may lead it elsewhere.
    fn sends_away(&self, version: Version) -> bool {
        if self.goaway_chance <= 0.0 || version != Version::HTTP_2 {
            return false;
        }
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) < self.goaway_chance * f64::from(u32::MAX)
    }
}

/// Serves a listener until `stop` resolves; then finishes what is running.
pub async fn serve<H: Handler>(
    listener: TcpListener,
    tls: Arc<ServerTls>,
    handler: Arc<H>,
    limits: Limits,
    stop: impl Future<Output = ()> + Send,
) {
    // Connections hold the receiving end: they are told to end by it, and all have ended when it is closed.
    let (ending, _) = watch::channel(false);
    let limits = Arc::new(limits);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * 8)
        .max_send_buf_size(1024 * 1024);
    let builder = Arc::new(builder);
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or memory: serving the others frees some.
                warn!(%error, "accept failed");
                tokio::task::yield_now().await;
                if is_exhaustion(&error) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                continue;
            }
        };
        // Asked anew for each connection, so that renewed certificates are served.
        let acceptor = TlsAcceptor::from(tls.config());
        let (handler, builder, mut ending) = (Arc::clone(&handler), Arc::clone(&builder), ending.subscribe());
        let limits = Arc::clone(&limits);
        tokio::spawn(async move {
            let Some((stream, peer)) = handshake(acceptor, stream, address).await else { return };
            let sent_away = Arc::new(Notify::new());
            let leave = Arc::clone(&sent_away);
            let service = service_fn(move |request: Request<Incoming>| {
                if limits.sends_away(request.version()) {
                    leave.notify_one();
                }
                let answer = Arc::clone(&handler).handle(Arc::clone(&peer), request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                result = connection.as_mut() => Some(result),
                _ = ending.wait_for(|ending| *ending) => None,
                () = sent_away.notified() => None,
            };
            let result = match ended {
                Some(result) => result,
                None => {
                    // No new requests are taken; those that run are finished.
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = result {
                debug!(%address, error, "connection ended");
            }
        });
    }
    drop(listener);
    ending.send_replace(true);
    if tokio::time::timeout(DRAIN_MAX, ending.closed()).await.is_err() {
        debug!("connections were still busy at the end");
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM: no connection is waiting to be reset, the process is out of something.
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    address: std::net::SocketAddr,
) -> Option<(tokio_rustls::server::TlsStream<TcpStream>, Arc<Peer>)> {
    // Answers are written whole; waiting to fill packets only adds latency.
    let _ = stream.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let client = ClientChain::new(stream.get_ref().1.peer_certificates().unwrap_or_default());
            Some((stream, Arc::new(Peer { address: Some(address), client, known: None })))
        }
        Ok(Err(error)) => {
            debug!(%address, %error, "TLS handshake failed");
            None
        }
        Err(_) => {
            debug!(%address, "TLS handshake took too long");
            None
        }
    }
}
