//! Where `exec`, `attach` and `port-forward` of the embedded runtime are served: URLs that hold for one use, over SPDY/3.1
//! and WebSocket, as the CRI's Exec, Attach and PortForward hand them out.

mod forward;
mod remote;
pub mod spdy;
mod websocket;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cri::v1;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use runtime::{Runtime, StreamUrls};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::remote::{Client, Wants};

/// How long a URL holds (containerd and CRI-O: a minute).
const URL_TIME_MAX: Duration = Duration::from_secs(60);
/// How many may be open.
const URLS_MAX: usize = 1000;

/// The protocols of exec and attach, the best one first.
const REMOTE_PROTOCOLS: [(&str, u8); 5] = [
    ("v5.channel.k8s.io", 5),
    ("v4.channel.k8s.io", 4),
    ("v3.channel.k8s.io", 3),
    ("v2.channel.k8s.io", 2),
    ("channel.k8s.io", 1),
];
/// The protocol of port-forward over SPDY.
const FORWARD_PROTOCOL: &str = "portforward.k8s.io";
/// The same in a WebSocket tunnel (KEP-4006).
const TUNNEL_PROTOCOL: &str = "SPDY/3.1+portforward.k8s.io";

/// What a URL stands for.
#[derive(Clone, Debug)]
enum Purpose {
    Exec(v1::ExecRequest),
    Attach(v1::AttachRequest),
    Forward(v1::PortForwardRequest),
}

/// The server of streams. It hands out URLs at once, and serves them once it is given the runtime.
#[derive(Debug)]
pub struct StreamServer {
    address: SocketAddr,
    listener: Mutex<Option<std::net::TcpListener>>,
    open: Mutex<HashMap<String, (Purpose, Instant)>>,
    random: SystemRandom,
}

impl StreamServer {
    /// A server on this address; a port of zero takes any.
    ///
    /// # Errors
    /// If the address is taken.
    pub fn bind(address: SocketAddr) -> std::io::Result<Arc<StreamServer>> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Arc::new(StreamServer {
            address: listener.local_addr()?,
            listener: Mutex::new(Some(listener)),
            open: Mutex::default(),
            random: SystemRandom::new(),
        }))
    }

    fn url(&self, kind: &str, purpose: Purpose) -> Result<String, String> {
        let mut token = [0; 24];
        self.random.fill(&mut token).map_err(|_| "no random numbers".to_owned())?;
        let token: String = token.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut open = self.open.lock();
        open.retain(|_, (_, since)| since.elapsed() < URL_TIME_MAX);
        if open.len() >= URLS_MAX {
            return Err("maximum number of in-flight requests exceeded".to_owned());
        }
        open.insert(token.clone(), (purpose, Instant::now()));
        Ok(format!("http://{}/{kind}/{token}", self.address))
    }

    /// Serves until the future is dropped.
    ///
    /// # Errors
    /// If the listener fails for good.
    pub async fn serve(self: Arc<Self>, runtime: Arc<Runtime>) -> std::io::Result<()> {
        let Some(listener) = self.listener.lock().take() else { return Ok(()) };
        let listener = TcpListener::from_std(listener)?;
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            drop(stream.set_nodelay(true));
            while connections.try_join_next().is_some() {}
            let (server, runtime) = (self.clone(), runtime.clone());
            let service = service_fn(move |request| {
                let (server, runtime) = (server.clone(), runtime.clone());
                async move { Ok::<_, Infallible>(server.answer(runtime, request)) }
            });
            connections.spawn(async move {
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                drop(connection.with_upgrades().await);
            });
        }
    }

    fn answer(&self, runtime: Arc<Runtime>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
        let token = request.uri().path().rsplit('/').next().unwrap_or_default();
        let purpose = self.open.lock().remove(token);
        let Some((purpose, _)) = purpose.filter(|(_, since)| since.elapsed() < URL_TIME_MAX) else {
            return refuse(StatusCode::NOT_FOUND, "there is no such stream, or it has expired");
        };
        let wanted = match Wanted::read(request.headers(), matches!(purpose, Purpose::Forward(_))) {
            Ok(wanted) => wanted,
            Err(why) => return refuse(StatusCode::BAD_REQUEST, &why),
        };
        let response = wanted.accept(request.headers());
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            match upgrade.await {
                Ok(io) => run(runtime, purpose, wanted, TokioIo::new(io)).await,
                Err(error) => tracing::debug!(%error, "a client did not upgrade its connection"),
            }
        });
        response
    }
}

impl StreamUrls for StreamServer {
    fn exec(&self, request: &v1::ExecRequest) -> Result<String, String> {
        self.url("exec", Purpose::Exec(request.clone()))
    }

    fn attach(&self, request: &v1::AttachRequest) -> Result<String, String> {
        self.url("attach", Purpose::Attach(request.clone()))
    }

    fn port_forward(&self, request: &v1::PortForwardRequest) -> Result<String, String> {
        self.url("portforward", Purpose::Forward(request.clone()))
    }
}

fn refuse(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{why}\n"))));
    *response.status_mut() = status;
    response
}

/// How a client wants to speak.
#[derive(Clone, Debug)]
struct Wanted {
    websocket: bool,
    /// The name of the protocol; empty if the client names none.
    protocol: String,
    /// Its version, for exec and attach.
    version: u8,
}

fn tokens<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty()).collect()
}

impl Wanted {
    fn read(headers: &HeaderMap, is_forward: bool) -> Result<Wanted, String> {
        let upgrade = tokens(headers, "upgrade");
        let websocket = upgrade.iter().any(|token| token.eq_ignore_ascii_case("websocket"));
        let spdy = upgrade.iter().any(|token| token.eq_ignore_ascii_case("SPDY/3.1"));
        if !websocket && !spdy {
            return Err(format!("unable to upgrade: missing upgrade headers in request: {:?}", upgrade.join(",")));
        }
        let header = if websocket { "sec-websocket-protocol" } else { "x-stream-protocol-version" };
        let offered = tokens(headers, header);
        let known: Vec<(&str, u8)> = match (is_forward, websocket) {
            (true, true) => vec![(TUNNEL_PROTOCOL, 0), ("v4.channel.k8s.io", 4)],
            (true, false) => vec![(FORWARD_PROTOCOL, 0)],
            // The first of all versions has no status at the end, and SPDY no name for closing single channels.
            (false, true) => REMOTE_PROTOCOLS.to_vec(),
            (false, false) => REMOTE_PROTOCOLS[1..].to_vec(),
        };
        if offered.is_empty() {
            return Ok(Wanted { websocket, protocol: String::new(), version: 1 });
        }
        match known.iter().find(|(name, _)| offered.contains(name)) {
            Some((name, version)) => Ok(Wanted { websocket, protocol: (*name).to_owned(), version: *version }),
            None => {
                let known: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                Err(format!("unable to negotiate protocol: client supports {offered:?}, server accepts {known:?}"))
            }
        }
    }

    fn accept(&self, headers: &HeaderMap) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let answer = response.headers_mut();
        answer.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let mut protocol_header = "x-stream-protocol-version";
        if self.websocket {
            protocol_header = "sec-websocket-protocol";
            answer.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            let key = headers.get("sec-websocket-key").map_or(&b""[..], HeaderValue::as_bytes);
            if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key)) {
                answer.insert("sec-websocket-accept", accept);
            }
        } else {
            answer.insert(header::UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        }
        if let Ok(protocol) = HeaderValue::from_str(&self.protocol)
            && !self.protocol.is_empty()
        {
            answer.insert(protocol_header, protocol);
        }
        response
    }
}

async fn run(runtime: Arc<Runtime>, purpose: Purpose, wanted: Wanted, io: TokioIo<hyper::upgrade::Upgraded>) {
    let client = async |wants: Wants, io| {
        if wanted.websocket {
            let (output, input) = websocket::channels(io, wanted.version >= 5);
            return Some(Client::websocket(output, input, wanted.version >= 4));
        }
        Client::spdy(spdy::serve(io), wants, wanted.version).await
    };
    match purpose {
        Purpose::Exec(v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr }) => {
            let wants = Wants { stdin, stdout, stderr, tty };
            if let Some(client) = client(wants, io).await {
                remote::exec(&runtime, &container_id, cmd, wants, client).await;
            }
        }
        Purpose::Attach(v1::AttachRequest { container_id, stdin, tty, stdout, stderr }) => {
            let wants = Wants { stdin, stdout, stderr, tty };
            if let Some(client) = client(wants, io).await {
                remote::attach(&runtime, &container_id, wants, client).await;
            }
        }
        Purpose::Forward(v1::PortForwardRequest { pod_sandbox_id, port }) => {
            if !wanted.websocket {
                forward::spdy(runtime, pod_sandbox_id, spdy::serve(io)).await;
            } else if wanted.protocol == TUNNEL_PROTOCOL {
                forward::spdy(runtime, pod_sandbox_id, spdy::serve(websocket::tunnel(io))).await;
            } else {
                let ports = port.iter().filter_map(|port| u16::try_from(*port).ok()).collect();
                let (output, input) = websocket::channels(io, false);
                forward::websocket(runtime, pod_sandbox_id, ports, output, input).await;
            }
        }
    }
}
