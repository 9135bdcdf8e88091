//! Connections to kubelets, pods and services: dialing, TLS, one HTTP/1.1 exchange, tunnels.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::ProxyConfig;
use super::target::{Target, Trust, is_proxyable, join};
use crate::body::Chunks;

/// A connection may take this long (upstream's dialers).
const DIAL_MAX: Duration = Duration::from_secs(30);
/// One name may take this long to be looked up; then the node's next address is tried.
const LOOKUP_MAX: Duration = Duration::from_secs(5);
/// A TLS handshake may take this long (Go's default).
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A tunnel whose one end is closed ends when the other has been silent for this long.
const LINGER: Duration = Duration::from_secs(30);
/// Bytes on their way in one direction of a tunnel.
const TUNNEL_BYTES: usize = 16 * 1024;

/// Why nothing came back.
#[derive(Debug)]
pub(super) enum Failure {
    /// The place is out of bounds.
    NotAllowed,
    /// There is no connection, in Go's words.
    Dial(String),
    /// The connection broke.
    Exchange(String),
}

// === TLS ===

/// How TLS is spoken with whom.
pub(super) struct Tls {
    kubelet: Arc<ClientConfig>,
    unverified_kubelet: Arc<ClientConfig>,
    anyone: Arc<ClientConfig>,
}

impl Tls {
    pub(super) fn new(config: &ProxyConfig) -> Result<Self, rustls::Error> {
        let client = |authorities: Option<&[pki::Certificate]>, own: Option<&pki::KeyPair>| {
            let provider = pki::provider();
            let builder =
                ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
            let builder = match authorities {
                Some(authorities) => {
                    let mut roots = RootCertStore::empty();
                    for authority in authorities {
                        roots.add(authority.der().clone())?;
                    }
                    builder.with_root_certificates(roots)
                }
                None => builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
            };
            let mut config = match own {
                Some(pair) => {
                    let chain = pair.chain.iter().map(|certificate| certificate.der().clone()).collect();
                    builder.with_client_auth_cert(chain, pair.key.to_der())?
                }
                None => builder.with_no_client_auth(),
            };
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok::<_, rustls::Error>(Arc::new(config))
        };
        Ok(Self {
            kubelet: client(config.kubelet_ca.as_deref(), config.client.as_ref())?,
            unverified_kubelet: client(None, config.client.as_ref())?,
            anyone: client(None, None)?,
        })
    }

    fn of(&self, trust: Trust) -> Option<Arc<ClientConfig>> {
        match trust {
            Trust::Plain => None,
            Trust::Kubelet => Some(Arc::clone(&self.kubelet)),
            Trust::UnverifiedKubelet => Some(Arc::clone(&self.unverified_kubelet)),
            Trust::Anyone => Some(Arc::clone(&self.anyone)),
        }
    }
}

/// Takes every certificate for good whose key the server has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

// === dialing ===

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

async fn connect(tls: &Tls, target: &Target, local_allowed: bool) -> Result<Box<dyn Io>, Failure> {
    let dialed = tokio::time::timeout(DIAL_MAX, dial(target, local_allowed)).await;
    let (stream, host) =
        dialed.unwrap_or_else(|_| Err(Failure::Dial(format!("dial tcp {}: i/o timeout", target.authority()))))?;
    let Some(config) = tls.of(target.trust) else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::Dial(format!("tls: {host:?} is no name that a certificate can have")))?;
    match tokio::time::timeout(HANDSHAKE_MAX, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => Ok(Box::new(stream)),
        Ok(Err(error)) => Err(Failure::Dial(handshake_text(&error))),
        Err(_) => Err(Failure::Dial("net/http: TLS handshake timeout".to_owned())),
    }
}

async fn dial(target: &Target, local_allowed: bool) -> Result<(TcpStream, &str), Failure> {
    let mut first = None;
    for host in &target.hosts {
        let addresses = match resolve(host, target.port).await {
            Ok(addresses) => addresses,
            Err(text) => {
                first.get_or_insert(text);
                continue;
            }
        };
        // All are judged before one is used: a name with one bad address is a bad name.
        if !local_allowed && target.is_guarded() && !addresses.iter().all(|address| is_proxyable(address.ip())) {
            return Err(Failure::NotAllowed);
        }
        let mut refused = None;
        for address in addresses {
            match open(address).await {
                Ok(stream) => return Ok((stream, host)),
                Err(error) => {
                    let shown = join(&address.ip().to_string(), address.port());
                    refused.get_or_insert(format!("dial tcp {shown}: {}", dial_text(&error)));
                }
            }
        }
        return Err(Failure::Dial(refused.unwrap_or_default()));
    }
    Err(Failure::Dial(first.unwrap_or_else(|| "dial tcp: missing address".to_owned())))
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let no_such = || format!("dial tcp: lookup {host}: no such host");
    match tokio::time::timeout(LOOKUP_MAX, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() { Err(no_such()) } else { Ok(found) }
        }
        Ok(Err(_)) => Err(no_such()),
        Err(_) => Err(format!("dial tcp: lookup {host}: i/o timeout")),
    }
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A node that is gone ends its tunnels in the end.
    socket.set_keepalive(true)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn dial_text(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset => "connection reset by peer",
        io::ErrorKind::HostUnreachable => "no route to host",
        io::ErrorKind::NetworkUnreachable => "network is unreachable",
        io::ErrorKind::TimedOut => "connection timed out",
        _ => return format!("connect: {error}"),
    };
    format!("connect: {text}")
}

fn handshake_text(error: &io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let failed = |why: &str| format!("tls: failed to verify certificate: x509: {why}");
    match inner {
        Some(rustls::Error::InvalidCertificate(problem)) => match problem {
            // An authority of the same name with another key is no better than none.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                failed("certificate signed by unknown authority")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                failed("certificate has expired or is not yet valid")
            }
            problem => failed(&problem.to_string()),
        },
        Some(error) => format!("tls: {error}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        None => error.to_string(),
    }
}

// === one exchange ===

/// Runs a connection; ends it when dropped.
pub(super) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a request over a connection of its own and waits for the head of the answer.
pub(super) async fn exchange<B>(
    tls: &Tls,
    target: &Target,
    local_allowed: bool,
    request: Request<B>,
) -> Result<(Response<Incoming>, Driver), Failure>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = connect(tls, target, local_allowed).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::Exchange(exchange_text(&error)))?;
    let driver = Driver(tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "connection to a backend ended");
        }
    }));
    let response = sender.send_request(request).await.map_err(|error| Failure::Exchange(exchange_text(&error)))?;
    Ok((response, driver))
}

fn exchange_text(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return "EOF".to_owned();
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A backend's body on its way to the client.
pub(super) struct Relay {
    pub(super) body: Incoming,
    pub(super) _driver: Driver,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Chunks for Relay {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match std::task::ready!(std::pin::Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    // Trailers announce nothing that clients of the API read.
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(data));
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a backend's answer broke off");
                    return Poll::Ready(None);
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

// === tunnels ===

/// Copies both ways until both ends have closed, or one has and the other stays silent.
pub(super) async fn tunnel(client: impl AsyncRead + AsyncWrite, backend: impl AsyncRead + AsyncWrite) {
    let (client_reader, client_writer) = tokio::io::split(client);
    let (backend_reader, backend_writer) = tokio::io::split(backend);
    let moved = AtomicU64::new(0);
    let mut there = std::pin::pin!(one_way(client_reader, backend_writer, &moved));
    let mut back = std::pin::pin!(one_way(backend_reader, client_writer, &moved));
    let (first, there_ended) = tokio::select! {
        first = &mut there => (first, true),
        first = &mut back => (first, false),
    };
    // Broken, not closed: nothing more can be said to that end.
    if first.is_err() {
        return;
    }
    loop {
        let before = moved.load(Ordering::Relaxed);
        let rest = async { if there_ended { back.as_mut().await } else { there.as_mut().await } };
        if tokio::time::timeout(LINGER, rest).await.is_ok() || moved.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; TUNNEL_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
        moved.fetch_add(count as u64, Ordering::Relaxed);
    }
}
