//! A small HTTP/1.1 client over hyper and rustls, for registries: time-outs on everything, proxies, no redirections by
//! itself. Connections live as long as the pull they serve.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::proxy::Proxies;
use super::url::{Origin, Url};
use crate::error::{Error, Result};

const AGENT: &str = concat!("kubox/", env!("CARGO_PKG_VERSION"));
/// A proxy's answer to CONNECT is no longer.
const PROXY_ANSWER_LENGTH_MAX: usize = 16 * 1024;
/// More of an unwanted body is not read only to keep its connection.
const DRAIN_LENGTH_MAX: u64 = 16 * 1024;
/// Idle connections kept for the next request of a pull.
const IDLE_CONNECTIONS_MAX: usize = 4;

/// How long a registry may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To accept a connection, and the same again for the TLS handshake.
    pub connect: Duration,
    /// To begin its answer.
    pub answer: Duration,
    /// Between two pieces of its answer.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let seconds = Duration::from_secs;
        Timeouts { connect: seconds(15), answer: seconds(30), idle: seconds(30) }
    }
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Ask {
    pub(crate) fn new(method: Method, url: Url) -> Ask {
        Ask { method, url, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// An error of this request, in the words that Go's client uses.
    pub(crate) fn failed(&self, source: io::Error) -> Error {
        let method = match self.method {
            Method::HEAD => "Head",
            Method::POST => "Post",
            _ => "Get",
        };
        Error::Request { method, url: self.url.to_string(), source }
    }
}

/// The connections of one pull to one registry and to where it redirects.
pub(crate) struct Connections {
    timeouts: Timeouts,
    proxies: Arc<Proxies>,
    tls: Box<dyn Fn() -> Result<Arc<ClientConfig>> + Send + Sync>,
    made_tls: Mutex<Option<Arc<ClientConfig>>>,
    idle: Mutex<Vec<(Origin, SendRequest<Full<Bytes>>)>>,
}

impl Connections {
    /// `tls` is asked for once, when it is needed: reading all authorities takes a moment.
    pub(crate) fn new(
        timeouts: Timeouts,
        proxies: Arc<Proxies>,
        tls: impl Fn() -> Result<Arc<ClientConfig>> + Send + Sync + 'static,
    ) -> Arc<Connections> {
        Arc::new(Connections {
            timeouts,
            proxies,
            tls: Box::new(tls),
            made_tls: Mutex::default(),
            idle: Mutex::default(),
        })
    }

    /// Sends one request and waits for the answer's head.
    pub(crate) async fn send(self: &Arc<Self>, ask: &Ask) -> Result<Answer> {
        let origin = &ask.url.origin;
        let through = self.proxies.for_origin(origin);
        while let Some(sender) = self.take_idle(origin) {
            // A connection that the registry closed meanwhile shows here; the request has not been seen then.
            if let Ok(answer) = self.send_over(sender, ask, through.is_some()).await {
                return Ok(answer);
            }
        }
        let sender = self.connect(origin, through).await.map_err(|source| ask.failed(source))?;
        self.send_over(sender, ask, through.is_some()).await.map_err(|source| ask.failed(source))
    }

    fn take_idle(&self, origin: &Origin) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        idle.retain(|(_, sender)| !sender.is_closed());
        let at = idle.iter().position(|(other, sender)| other == origin && sender.is_ready())?;
        Some(idle.swap_remove(at).1)
    }

    fn keep_idle(&self, origin: Origin, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push((origin, sender));
        }
    }

    async fn send_over(
        self: &Arc<Self>,
        mut sender: SendRequest<Full<Bytes>>,
        ask: &Ask,
        proxied: bool,
    ) -> io::Result<Answer> {
        let origin = &ask.url.origin;
        // A proxy of plain HTTP is told the whole address.
        let target = if proxied && !origin.secure { ask.url.to_string() } else { ask.url.path.clone() };
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(target)
            .body(Full::new(ask.body.clone()))
            .map_err(io::Error::other)?;
        *request.headers_mut() = ask.headers.clone();
        request.headers_mut().insert(HOST, HeaderValue::from_str(&origin.authority()).map_err(io::Error::other)?);
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(credentials) = self.proxies.for_origin(origin).and_then(|proxy| proxy.authorization.as_ref())
            && !origin.secure
        {
            let value = HeaderValue::from_str(credentials).map_err(io::Error::other)?;
            request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, value);
        }
        let response = timeout(self.timeouts.answer, sender.send_request(request))
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "net/http: timeout awaiting response headers"))?
            .map_err(transport_error)?;
        let (head, body) = response.into_parts();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
            idle_timeout: self.timeouts.idle,
            home: Some((Arc::clone(self), origin.clone(), sender)),
        })
    }

    async fn connect(
        &self,
        origin: &Origin,
        through: Option<&super::proxy::Proxy>,
    ) -> io::Result<SendRequest<Full<Bytes>>> {
        let first = through.map_or(origin, |proxy| &proxy.origin);
        let mut stream = timeout(self.timeouts.connect, dial(first)).await.map_err(|_| {
            io::Error::new(io::ErrorKind::TimedOut, format!("dial tcp {}: i/o timeout", first.host_and_port()))
        })??;
        if !origin.secure {
            return self.speak(stream).await;
        }
        let secure = async {
            if let Some(proxy) = through {
                proxy_connect(&mut stream, origin, proxy.authorization.as_deref()).await?;
            }
            let name =
                ServerName::try_from(origin.host.clone()).map_err(|error| io::Error::other(format!("tls: {error}")))?;
            let connector =
                tokio_rustls::TlsConnector::from(self.tls().map_err(|error| io::Error::other(error.message()))?);
            connector.connect(name, stream).await.map_err(|error| tls_error(error, &origin.host))
        };
        let stream = timeout(self.timeouts.connect, secure)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "net/http: TLS handshake timeout"))??;
        self.speak(stream).await
    }

    fn tls(&self) -> Result<Arc<ClientConfig>> {
        let mut made = self.made_tls.lock();
        if let Some(tls) = &*made {
            return Ok(Arc::clone(tls));
        }
        let tls = (self.tls)()?;
        *made = Some(Arc::clone(&tls));
        Ok(tls)
    }

    async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> io::Result<SendRequest<Full<Bytes>>> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(transport_error)?;
        // It ends when the sender and the body being read are dropped, or when the registry hangs up.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to a registry ended");
            }
        });
        Ok(sender)
    }
}

/// Connects to the first of the host's addresses that answers.
async fn dial(origin: &Origin) -> io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host((origin.host.as_str(), origin.port)).await.map_err(|_| {
        io::Error::new(io::ErrorKind::NotFound, format!("dial tcp: lookup {}: no such host", origin.host))
    })?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Requests are small and whole: nothing is gained by waiting to fill a packet.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = Some((address, error)),
        }
    }
    let Some((address, error)) = last else {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("dial tcp: lookup {}: no such host", origin.host)));
    };
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => format!("connect: {error}"),
    };
    Err(io::Error::new(error.kind(), format!("dial tcp {address}: {why}")))
}

/// Asks a proxy for a way through to a host.
async fn proxy_connect(stream: &mut TcpStream, origin: &Origin, authorization: Option<&str>) -> io::Result<()> {
    let target = origin.host_and_port();
    let credentials = authorization.map(|value| format!("Proxy-Authorization: {value}\r\n")).unwrap_or_default();
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {AGENT}\r\n{credentials}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        // Byte by byte: what follows the answer belongs to the host behind it.
        answer.push(stream.read_u8().await?);
        if answer.len() > PROXY_ANSWER_LENGTH_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "proxyconnect tcp: answer is too long"));
        }
    }
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    let mut words = line.splitn(3, ' ');
    match (words.next(), words.next()) {
        (Some(version), Some(status)) if version.starts_with("HTTP/1.") && status.starts_with('2') => Ok(()),
        _ => Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            format!("proxyconnect tcp: {}", words.next().unwrap_or(&line)),
        )),
    }
}

/// hyper's errors in the words of Go's client.
fn transport_error(error: hyper::Error) -> io::Error {
    use std::error::Error as _;
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let (kind, text) = match cause.map(io::Error::kind) {
        Some(kind @ io::ErrorKind::ConnectionReset) => (kind, "read: connection reset by peer".to_owned()),
        Some(kind @ io::ErrorKind::UnexpectedEof) => (kind, "unexpected EOF".to_owned()),
        Some(kind) => (kind, error.to_string()),
        None if error.is_incomplete_message() => (io::ErrorKind::UnexpectedEof, "EOF".to_owned()),
        None if error.is_parse() => (io::ErrorKind::InvalidData, "malformed HTTP response".to_owned()),
        None => (io::ErrorKind::Other, error.to_string()),
    };
    io::Error::new(kind, text)
}

/// rustls' errors in the words of Go's client.
fn tls_error(error: io::Error, host: &str) -> io::Error {
    use rustls::CertificateError as Bad;
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        let text = if error.kind() == io::ErrorKind::UnexpectedEof { "EOF".to_owned() } else { error.to_string() };
        return io::Error::new(error.kind(), text);
    };
    const UNVERIFIED: &str = "tls: failed to verify certificate: x509: ";
    let text = match tls {
        rustls::Error::InvalidMessage(_) => {
            return io::Error::new(io::ErrorKind::InvalidData, PLAIN_ANSWER);
        }
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            format!("{UNVERIFIED}certificate signed by unknown authority")
        }
        rustls::Error::InvalidCertificate(
            Bad::Expired | Bad::NotValidYet | Bad::ExpiredContext { .. } | Bad::NotValidYetContext { .. },
        ) => {
            format!("{UNVERIFIED}certificate has expired or is not yet valid")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("{UNVERIFIED}certificate is not valid for {host}")
        }
        other => format!("tls: {other}"),
    };
    io::Error::new(io::ErrorKind::PermissionDenied, text)
}

/// What Go says when a plain registry is spoken to with TLS.
pub(crate) const PLAIN_ANSWER: &str = "http: server gave HTTP response to HTTPS client";

/// An answer whose body has not been read.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: Incoming,
    idle_timeout: Duration,
    /// Where the connection goes when the body has been read to its end.
    home: Option<(Arc<Connections>, Origin, SendRequest<Full<Bytes>>)>,
}

impl Answer {
    pub(crate) fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body's length, if the answer tells it.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(http::header::CONTENT_LENGTH).and_then(|length| length.parse().ok())
    }

    /// The next piece of the body.
    pub(crate) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let frame = timeout(self.idle_timeout, self.body.frame())
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no data received within the progress timeout"))?;
            match frame {
                None => {
                    if let Some((connections, origin, sender)) = self.home.take() {
                        connections.keep_idle(origin, sender);
                    }
                    return Ok(None);
                }
                Some(frame) => {
                    if let Ok(data) = frame.map_err(transport_error)?.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// Reads what little there is, so that the connection serves the next request.
    pub(crate) async fn drain(&mut self) {
        // If it fails or goes on and on, the connection is simply not used again.
        let _ = self.read(DRAIN_LENGTH_MAX).await;
    }

    /// The whole body, of which more than `length_max` is an error.
    pub(crate) async fn read(&mut self, length_max: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        while let Some(data) = self.chunk().await? {
            if (bytes.len() + data.len()) as u64 > length_max {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("answer is longer than {length_max} bytes"),
                ));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }
}
