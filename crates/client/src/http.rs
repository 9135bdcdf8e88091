//! Requests over the network: HTTP/2, or 1.1 where the server speaks no other, over TLS.
//!
//! Requests share a connection while it has room; pings find out when the server is gone, and the next request
//! connects anew. Certificates and tokens in files are read again as they rotate.

mod tls;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{self, HeaderName, HeaderValue};
use ::http::uri::{Authority, PathAndQuery, Scheme};
use ::http::{HeaderMap, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use world::{Monotonic, World};

use crate::config::{ActAs, Config, ConfigError, Source};
use crate::transport::{Body, BoxError, Reply, Transport, TransportError};

/// A connection may take this long, and the TLS handshake this (client-go's figures).
const DIAL_MAX: Duration = Duration::from_secs(30);
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A silent connection is tried this often, and given up after this long (client-go's figures).
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_MAX: Duration = Duration::from_secs(15);
/// Requests on one HTTP/2 connection; upstream's servers allow 250, others 100.
const STREAMS_MAX: usize = 100;
/// HTTP/1.1 connections that are kept for later.
const IDLE_MAX: usize = 16;
/// What the server may send on one stream, and on all of a connection, before we have read it.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Files of tokens and certificates are looked at this often (client-go's figure).
const FILES_EVERY: Duration = Duration::from_secs(60);
/// A request that was not sent is tried again so often, each time on another connection.
const NOT_SENT_MAX: u32 = 3;

/// An API server on the network.
#[derive(Debug)]
pub struct Http {
    scheme: Scheme,
    authority: Authority,
    /// Put before each path; without a slash at its end.
    base: String,
    tls: Option<tls::Tls>,
    token: Option<Token>,
    headers: HeaderMap,
    world: World,
    pool: Mutex<Pool>,
    /// Held while connecting, so that a burst of first requests makes one connection.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Pool {
    shared: Vec<Shared>,
    idle: Vec<http1::SendRequest<Full<Bytes>>>,
    looked_at: Option<Monotonic>,
}

/// An HTTP/2 connection and the number of its streams.
#[derive(Clone, Debug)]
struct Shared {
    sender: http2::SendRequest<Full<Bytes>>,
    streams: Arc<AtomicUsize>,
}

enum Connection {
    Shared(Shared),
    Own(http1::SendRequest<Full<Bytes>>),
}

/// Why a request on a connection has no answer.
enum Failure {
    /// It was not sent.
    NotSent(hyper::Error),
    /// It may have been.
    Lost(hyper::Error),
}

// === setting up ===

impl Http {
    /// A server and how to speak to it. Connects when it is first used.
    ///
    /// # Errors
    /// If the server's address makes no sense, or credentials cannot be used.
    pub fn new(config: &Config, world: World) -> Result<Self, ConfigError> {
        let refuse = |reason: &str| ConfigError::Server { server: config.server.clone(), reason: reason.to_owned() };
        let uri: Uri = config.server.parse().map_err(|_| refuse("not an address"))?;
        let scheme = uri.scheme().cloned().ok_or_else(|| refuse("it begins with neither https:// nor http://"))?;
        let authority = uri.authority().cloned().ok_or_else(|| refuse("it names no host"))?;
        let tls = match scheme.as_str() {
            "https" => Some(tls::Tls::new(config)?),
            "http" => None,
            _ => return Err(refuse("it begins with neither https:// nor http://")),
        };
        let mut headers = HeaderMap::new();
        if let Some(act_as) = &config.credentials.act_as {
            impersonate(act_as, &mut headers).map_err(|_| refuse("the user to act as has impossible characters"))?;
        }
        let token = config.credentials.token.clone().map(Token::new).transpose()?;
        Ok(Self {
            scheme,
            base: uri.path().trim_end_matches('/').to_owned(),
            authority,
            tls,
            token,
            headers,
            world,
            pool: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// The server's address.
    pub fn server(&self) -> String {
        format!("{}://{}{}", self.scheme, self.authority, self.base)
    }
}

fn impersonate(act_as: &ActAs, headers: &mut HeaderMap) -> Result<(), header::InvalidHeaderValue> {
    let mut add = |name: &'static str, value: &str| {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value)?);
        Ok(())
    };
    add("impersonate-user", &act_as.user)?;
    if !act_as.uid.is_empty() {
        add("impersonate-uid", &act_as.uid)?;
    }
    act_as.groups.iter().try_for_each(|group| add("impersonate-group", group))
}

// === tokens ===

/// A bearer token that may rotate.
struct Token {
    source: Source,
    current: Mutex<(HeaderValue, Option<Monotonic>)>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({:?})", self.source)
    }
}

impl Token {
    fn new(source: Source) -> Result<Self, ConfigError> {
        // A file may come later; text at hand does not change.
        let value = match &source {
            Source::Inline(_) => Self::read(&source)?,
            Source::File(_) => HeaderValue::from_static(""),
        };
        Ok(Self { source, current: Mutex::new((value, None)) })
    }

    fn read(source: &Source) -> Result<HeaderValue, ConfigError> {
        let refuse = |reason: &str| ConfigError::Tls { what: "bearer token", reason: reason.to_owned() };
        let text = source.read()?;
        let token = std::str::from_utf8(&text).map_err(|_| refuse("not text"))?.trim();
        if token.is_empty() {
            return Err(refuse("empty"));
        }
        let mut value =
            HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| refuse("impossible characters"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The token, read again if that is due, or `refused` was the one that we know.
    fn get(&self, now: Monotonic, refused: Option<&HeaderValue>) -> Result<HeaderValue, ConfigError> {
        let mut current = self.current.lock();
        if let Source::Inline(_) = self.source {
            return Ok(current.0.clone());
        }
        let is_fresh = current.1.is_some_and(|read| now.saturating_since(read) < FILES_EVERY);
        if !is_fresh || refused == Some(&current.0) {
            match Self::read(&self.source) {
                Ok(value) => *current = (value, Some(now)),
                // The old one may be good yet.
                Err(error) if current.0.is_empty() => return Err(error),
                Err(error) => tracing::warn!(%error, "the token's file cannot be read, its last token is used on"),
            }
        }
        Ok(current.0.clone())
    }
}

// === requests ===

impl Transport for Http {
    fn send(&self, request: Request<Bytes>) -> Reply<'_> {
        Box::pin(async move {
            let token = self.token(None)?;
            let response = self.exchange(request.clone(), token.as_ref()).await?;
            if response.status() != StatusCode::UNAUTHORIZED || token.is_none() {
                return Ok(response);
            }
            // The token may have rotated since it was read.
            let newer = self.token(token.as_ref())?;
            if newer == token { Ok(response) } else { self.exchange(request, newer.as_ref()).await }
        })
    }
}

impl Http {
    fn token(&self, refused: Option<&HeaderValue>) -> Result<Option<HeaderValue>, TransportError> {
        let now = self.world.clock.monotonic();
        let token = self.token.as_ref().map(|token| token.get(now, refused)).transpose();
        token.map_err(|error| TransportError::Credentials(error.into()))
    }

    /// Sends a request; again on another connection if it certainly was not sent.
    async fn exchange(
        &self,
        request: Request<Bytes>,
        token: Option<&HeaderValue>,
    ) -> Result<Response<Body>, TransportError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let connection = self.connection().await?;
            match self.try_once(connection, &request, token).await {
                Ok(response) => return Ok(response),
                Err(Failure::NotSent(_)) if attempts < NOT_SENT_MAX => {}
                Err(Failure::NotSent(error)) => return Err(self.unreachable(error)),
                Err(Failure::Lost(error)) => return Err(TransportError::Lost(error.into())),
            }
        }
    }

    async fn try_once(
        &self,
        connection: Connection,
        request: &Request<Bytes>,
        token: Option<&HeaderValue>,
    ) -> Result<Response<Body>, Failure> {
        match connection {
            Connection::Shared(shared) => {
                let guard = StreamGuard::new(&shared.streams);
                let mut sender = shared.sender;
                sender.ready().await.map_err(Failure::NotSent)?;
                let request = self.prepared(request, token, true);
                let response = sender.try_send_request(request).await.map_err(failure)?;
                Ok(response.map(|body| Body::new(Guarded { body, _guard: guard })))
            }
            Connection::Own(mut sender) => {
                sender.ready().await.map_err(Failure::NotSent)?;
                let request = self.prepared(request, token, false);
                let response = sender.try_send_request(request).await.map_err(failure)?;
                self.keep(sender);
                Ok(response.map(Body::new))
            }
        }
    }

    /// The request as the protocol wants it.
    fn prepared(&self, request: &Request<Bytes>, token: Option<&HeaderValue>, absolute: bool) -> Request<Full<Bytes>> {
        let mut prepared = request.clone().map(Full::new);
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        let path =
            PathAndQuery::try_from(format!("{}{path}", self.base)).unwrap_or_else(|_| PathAndQuery::from_static("/"));
        let mut uri = ::http::uri::Parts::default();
        uri.path_and_query = Some(path);
        let headers = prepared.headers_mut();
        if absolute {
            uri.scheme = Some(self.scheme.clone());
            uri.authority = Some(self.authority.clone());
        } else if let Ok(host) = HeaderValue::from_str(self.authority.as_str()) {
            headers.insert(header::HOST, host);
        }
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if let Some(token) = token {
            headers.insert(header::AUTHORIZATION, token.clone());
        }
        *prepared.uri_mut() = Uri::from_parts(uri).unwrap_or_default();
        prepared
    }
}

fn failure(mut error: hyper::client::conn::TrySendError<Request<Full<Bytes>>>) -> Failure {
    if error.take_message().is_some() {
        Failure::NotSent(error.into_error())
    } else {
        Failure::Lost(error.into_error())
    }
}

// === connections ===

impl Http {
    /// A connection with room for a request.
    async fn connection(&self) -> Result<Connection, TransportError> {
        if let Some(connection) = self.pooled() {
            return Ok(connection);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(connection) = self.pooled() {
            return Ok(connection);
        }
        self.connect().await
    }

    fn pooled(&self) -> Option<Connection> {
        let mut pool = self.pool.lock();
        let now = self.world.clock.monotonic();
        if pool.looked_at.is_none_or(|at| now.saturating_since(at) >= FILES_EVERY) {
            pool.looked_at = Some(now);
            if self.tls.as_ref().is_some_and(tls::Tls::is_outdated) {
                // Running requests end on their connections; new ones show the new certificate.
                *pool = Pool { looked_at: Some(now), ..Pool::default() };
            }
        }
        pool.shared.retain(|shared| !shared.sender.is_closed());
        let roomy = pool.shared.iter().find(|shared| shared.streams.load(Ordering::Relaxed) < STREAMS_MAX);
        if let Some(shared) = roomy {
            return Some(Connection::Shared(shared.clone()));
        }
        pool.idle.retain(|sender| !sender.is_closed());
        let ready = pool.idle.iter().position(http1::SendRequest::is_ready)?;
        Some(Connection::Own(pool.idle.swap_remove(ready)))
    }

    /// Keeps an HTTP/1.1 connection: it is ready again once its answer has been read.
    fn keep(&self, sender: http1::SendRequest<Full<Bytes>>) {
        let mut pool = self.pool.lock();
        pool.idle.retain(|sender| !sender.is_closed());
        if pool.idle.len() < IDLE_MAX {
            pool.idle.push(sender);
        }
    }

    fn unreachable(&self, source: impl Into<BoxError>) -> TransportError {
        TransportError::Connect { server: self.server(), source: source.into() }
    }

    async fn connect(&self) -> Result<Connection, TransportError> {
        let host = self.authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = self.authority.port_u16().unwrap_or(if self.tls.is_some() { 443 } else { 80 });
        let clock = &*self.world.clock;
        let stream = world::timer::timeout(clock, DIAL_MAX, TcpStream::connect((host, port)))
            .await
            .unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|error| self.unreachable(error))?;
        stream.set_nodelay(true).map_err(|error| self.unreachable(error))?;
        let Some(tls) = &self.tls else { return self.speak_http1(stream).await };
        let config = tls.config().map_err(|error| TransportError::Credentials(error.into()))?;
        let name = ServerName::try_from(tls.server_name().unwrap_or(host).to_owned())
            .map_err(|error| self.unreachable(error))?;
        let stream = world::timer::timeout(clock, HANDSHAKE_MAX, TlsConnector::from(config).connect(name, stream))
            .await
            .unwrap_or_else(|| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(|error| self.unreachable(error))?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.speak_http2(stream).await
        } else {
            self.speak_http1(stream).await
        }
    }

    async fn speak_http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Connection, TransportError> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_MAX)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(error))?;
        self.drive(connection);
        let shared = Shared { sender, streams: Arc::default() };
        self.pool.lock().shared.push(shared.clone());
        Ok(Connection::Shared(shared))
    }

    async fn speak_http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Connection, TransportError> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.unreachable(error))?;
        self.drive(connection);
        Ok(Connection::Own(sender))
    }

    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        let server = self.server();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%server, %error, "the connection ended");
            }
        });
    }
}

/// Counts a stream of a connection until it is dropped.
struct StreamGuard(Arc<AtomicUsize>);

impl StreamGuard {
    fn new(streams: &Arc<AtomicUsize>) -> Self {
        streams.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(streams))
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer whose stream counts until it has been read or dropped.
struct Guarded {
    body: Incoming,
    _guard: StreamGuard,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
