//! The node's own API over HTTPS, as kubelet has it on port 10250: logs, exec, attach and port-forward for the API server,
//! the Pods, health, statistics and metrics.

mod access;
mod logs;
mod metrics;
mod streams;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api_schema::Value;
use bytes::Bytes;
use client::Client;
use cri::v1::ContainerStatusRequest;
use cri::{ImageService, RuntimeService};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use node_agent::agent::Agent;
use node_agent::observed::PodRuntime;
use node_agent::pod::Pod;
use pki::{
    Authority, Certificate, CertificateDer, KeyPair, PrivateKey, ServerTls, ServingCertificates, Subject,
    SubjectAltNames, Template, TlsOptions,
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::access::{Access, Refusal};
use crate::logs::LogOptions;

/// How long a client may take over TLS and over the head of a request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a self-signed certificate holds, in seconds.
const CERTIFICATE_SECONDS: i64 = 365 * 24 * 3600;

/// The body of an answer.
type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What a server is made of.
pub struct NodeApiConfig {
    /// Where it listens.
    pub address: SocketAddr,
    /// The Node's name.
    pub node: String,
    /// Where its certificate and key are kept; made if they are not there.
    pub certificate_dir: PathBuf,
    /// Names and addresses that a certificate of our own is for.
    pub names: SubjectAltNames,
    /// Whose client certificates are good.
    pub client_authorities: Vec<Certificate>,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken.
    #[error("listen on {address}")]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The certificate cannot be used or made.
    #[error("use the certificate in {}", folder.display())]
    Certificate {
        /// Where.
        folder: PathBuf,
        /// Why not.
        #[source]
        source: pki::PkiError,
    },
}

/// The server.
pub struct NodeApi {
    listener: TcpListener,
    tls: ServerTls,
    shared: Arc<Shared>,
}

struct Shared {
    access: Access,
    agent: Arc<Agent>,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
}

impl NodeApi {
    /// Listens, and gets a certificate ready.
    ///
    /// # Errors
    /// If the address is taken or the certificate cannot be used.
    pub async fn bind(
        config: NodeApiConfig,
        client: Client,
        agent: Arc<Agent>,
        runtime: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
    ) -> Result<NodeApi, StartError> {
        let address = config.address;
        let listener = TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
        let now = client.world().clock.now().seconds;
        let failed = |source| StartError::Certificate { folder: config.certificate_dir.clone(), source };
        let pair = certificate(&config.certificate_dir, &config.node, &config.names, now).map_err(failed)?;
        let certificates = ServingCertificates::new(&pair, &[]).map_err(failed)?;
        let options = TlsOptions { http2: false, ..TlsOptions::default() };
        let tls = ServerTls::new(certificates, &config.client_authorities, options).map_err(failed)?;
        let access = Access::new(client, config.node, &config.client_authorities);
        Ok(NodeApi { listener, tls, shared: Arc::new(Shared { access, agent, runtime, images }) })
    }

    /// Serves until the future is dropped.
    pub async fn run(self) {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            drop(stream.set_nodelay(true));
            while connections.try_join_next().is_some() {}
            let acceptor = TlsAcceptor::from(self.tls.config());
            let shared = self.shared.clone();
            connections.spawn(async move {
                let Ok(Ok(stream)) = tokio::time::timeout(HEAD_TIME_MAX, acceptor.accept(stream)).await else { return };
                let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let certificates: Arc<[CertificateDer<'static>]> =
                    shown.iter().map(|certificate| certificate.clone().into_owned()).collect();
                let service = service_fn(move |request| {
                    let (shared, certificates) = (shared.clone(), certificates.clone());
                    async move { Ok::<_, Infallible>(shared.answer(&certificates, request).await) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIME_MAX)
                    .serve_connection(TokioIo::new(stream), service);
                drop(connection.with_upgrades().await);
            });
        }
    }
}

/// The certificate in a folder; a self-signed one is made if there is none that still holds.
fn certificate(folder: &Path, node: &str, names: &SubjectAltNames, now: i64) -> Result<KeyPair, pki::PkiError> {
    let (certificate, key) = (folder.join("kubelet.crt"), folder.join("kubelet.key"));
    if let Ok(pair) = pki::load_key_pair(&certificate, &key, now)
        && pair
            .chain
            .first()
            .is_some_and(|leaf| !leaf.is_due_for_renewal(now) && leaf.names.first_missing(names).is_none())
    {
        return Ok(pair);
    }
    let authority =
        Authority::self_signed(&format!("{node}-ca@{now}"), PrivateKey::generate()?, now, CERTIFICATE_SECONDS)?;
    let own = PrivateKey::generate()?;
    let template =
        Template::server(Subject::new(&format!("{node}@{now}"), &[]), names.clone(), now, CERTIFICATE_SECONDS);
    let leaf = authority.issue(&template, own.public_key())?;
    let chain = vec![leaf, authority.certificate().clone()];
    let text: String = chain.iter().map(Certificate::to_pem).collect();
    for (path, text, mode) in [(&key, own.to_pem(), 0o600), (&certificate, text, 0o644)] {
        write(path, &text, mode).map_err(|error| pki::PkiError::Tls(format!("write {}: {error}", path.display())))?;
    }
    Ok(KeyPair { chain, key: own })
}

/// Writes a file whole, readable for those alone who may.
fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let draft = path.with_extension("new");
    match std::fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, path)
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    typed(status, "text/plain; charset=utf-8", text)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The query of a request, decoded.
fn query(request: &Request<Incoming>) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((byte, after)) = rest.split_first() {
            let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
            match (*byte, hex) {
                (b'%', Some(value)) => {
                    bytes.push(value);
                    rest = &after[2..];
                }
                (b'+', _) => {
                    bytes.push(b' ');
                    rest = after;
                }
                (byte, _) => {
                    bytes.push(byte);
                    rest = after;
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let pairs = request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

impl Shared {
    async fn answer(&self, certificates: &[CertificateDer<'static>], request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        match self.access.check(certificates, request.headers(), request.method(), &path).await {
            Ok(user) => tracing::debug!(user = %user.name, %path, "a request"),
            Err(Refusal::Unauthorized) => return text(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Err(Refusal::Forbidden(why)) => return text(StatusCode::FORBIDDEN, why),
            Err(Refusal::Unavailable(why)) => {
                let message = format!("Authorization error: {why}");
                return text(StatusCode::INTERNAL_SERVER_ERROR, message);
            }
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let method = request.method().clone();
        match (parts.as_slice(), &method) {
            (["healthz"] | ["healthz", "ping" | "log" | "syncloop"], &Method::GET) => text(StatusCode::OK, "ok"),
            (["pods"], &Method::GET) => pod_list(self.agent.pods()),
            (["runningpods"], &Method::GET) => self.running_pods().await,
            (["containerLogs", namespace, pod, container], &Method::GET) => {
                self.logs(namespace, pod, container, &query(&request)).await
            }
            (["exec" | "attach", namespace, pod, container] | ["exec" | "attach", namespace, pod, _, container], _) => {
                let (namespace, pod, container) = (*namespace, *pod, *container);
                let is_exec = parts[0] == "exec";
                match self.container_id(namespace, pod, container).await {
                    Ok(id) => streams::remote(&*self.runtime, is_exec, id, request).await,
                    Err(why) => text(StatusCode::NOT_FOUND, why),
                }
            }
            (["portForward", namespace, pod] | ["portForward", namespace, pod, _], _) => {
                match self.sandbox_id(namespace, pod).await {
                    Ok(id) => streams::forward(&*self.runtime, id, request).await,
                    Err(why) => text(StatusCode::NOT_FOUND, why),
                }
            }
            (["stats", "summary"], &Method::GET) => {
                match metrics::summary(&self.agent, &*self.runtime, &*self.images).await {
                    Ok(summary) => json(&summary),
                    Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                }
            }
            (["metrics"], &Method::GET) => exposition(metrics::own(&self.agent)),
            (["metrics", "probes"], &Method::GET) => exposition(metrics::probes(&self.agent)),
            (["metrics", "resource"], &Method::GET) => match metrics::resource(&self.agent, &*self.runtime).await {
                Ok(text) => exposition(text),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            (["metrics", "cadvisor"], &Method::GET) => match metrics::cadvisor(&*self.runtime).await {
                Ok(text) => exposition(text),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            },
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    fn pod(&self, namespace: &str, name: &str) -> Result<Pod, String> {
        let pods = self.agent.pods();
        let found = pods.into_iter().find(|pod| pod.key().namespace == namespace && pod.key().name == name);
        found.ok_or_else(|| format!("pod {:?} not found\n", format!("{name}_{namespace}")))
    }

    async fn container_id(&self, namespace: &str, pod: &str, container: &str) -> Result<String, String> {
        let found = self.pod(namespace, pod)?;
        let runtime = PodRuntime::observe(&*self.runtime, found.uid()).await.map_err(|error| error.to_string())?;
        let observed = runtime.container(container);
        observed.map(|observed| observed.id.clone()).ok_or_else(|| format!("container not found ({container:?})\n"))
    }

    async fn sandbox_id(&self, namespace: &str, pod: &str) -> Result<String, String> {
        let found = self.pod(namespace, pod)?;
        let runtime = PodRuntime::observe(&*self.runtime, found.uid()).await.map_err(|error| error.to_string())?;
        let sandbox = runtime.ready_sandbox().map(|sandbox| sandbox.id.clone());
        sandbox.ok_or_else(|| format!("failed to find sandbox for pod {:?}\n", format!("{pod}_{namespace}")))
    }

    async fn logs(&self, namespace: &str, pod: &str, container: &str, query: &[(String, String)]) -> Response<Body> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let options = match LogOptions::read(query, i64::try_from(now.as_secs()).unwrap_or(0)) {
            Ok(options) => options,
            Err(why) => return text(StatusCode::UNPROCESSABLE_ENTITY, format!("{{\"message\": {why:?}}}")),
        };
        let found = match self.pod(namespace, pod) {
            Ok(found) => found,
            Err(why) => return text(StatusCode::NOT_FOUND, why),
        };
        if found.container(container).is_none() {
            let why = format!("container {container:?} not found in pod {:?}\n", format!("{pod}_{namespace}"));
            return text(StatusCode::NOT_FOUND, why);
        }
        let runtime = match PodRuntime::observe(&*self.runtime, found.uid()).await {
            Ok(runtime) => runtime,
            Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        let mut all = runtime.containers.iter().filter(|observed| observed.name == container);
        let wanted = if options.previous { all.nth(1) } else { all.next() };
        let Some(observed) = wanted else {
            let kind = if options.previous { "previous terminated container" } else { "container" };
            let why = match options.previous {
                true => format!("{kind} {container:?} in pod {:?} not found", found.key().name),
                false => format!(
                    "{kind} {container:?} in pod {:?} is waiting to start: {}",
                    found.key().name,
                    waiting(&found, container)
                ),
            };
            return text(StatusCode::BAD_REQUEST, why);
        };
        let path = PathBuf::from(&observed.status.log_path);
        if !path.exists() {
            return text(StatusCode::OK, "");
        }
        let (to, mut from) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(16);
        let (service, id) = (self.runtime.clone(), observed.id.clone());
        tokio::spawn(logs::send(path, options, to, move || {
            let (service, id) = (service.clone(), id.clone());
            async move {
                let request = ContainerStatusRequest { container_id: id, verbose: false };
                let status = service.container_status(request).await.ok().and_then(|answer| answer.status);
                status.is_some_and(|status| status.state() == cri::v1::ContainerState::Running)
            }
        }));
        let stream = futures_stream(move |context| from.poll_recv(context));
        let mut response = Response::new(StreamBody::new(stream).boxed_unsync());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response
    }

    async fn running_pods(&self) -> Response<Body> {
        let mut running = Vec::new();
        for pod in self.agent.pods() {
            let runtime = PodRuntime::observe(&*self.runtime, pod.uid()).await.unwrap_or_default();
            if runtime.any_running() {
                running.push(pod);
            }
        }
        pod_list(running)
    }
}

/// A stream from a poll function.
fn futures_stream(
    mut poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<std::io::Result<Bytes>>> + Unpin,
) -> impl futures_core::Stream<Item = std::io::Result<Frame<Bytes>>> {
    PollFn(move |context: &mut std::task::Context<'_>| poll(context).map(|item| item.map(|item| item.map(Frame::data))))
}

struct PollFn<F>(F);

impl<F, T> futures_core::Stream for PollFn<F>
where
    F: FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>> + Unpin,
{
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        (self.0)(context)
    }
}

/// Why a container has no log yet.
fn waiting(pod: &Pod, container: &str) -> String {
    let statuses = pod.status().map_or(&[][..], |status| status.list_at(&["containerStatuses"]));
    let status = statuses.iter().find(|status| status.str_at(&["name"]) == container);
    let reason = status.map_or("", |status| status.str_at(&["state", "waiting", "reason"]));
    if reason.is_empty() { "ContainerCreating".to_owned() } else { reason.to_owned() }
}

fn pod_list(pods: Vec<Pod>) -> Response<Body> {
    let items: Vec<Value> = pods.iter().map(|pod| (**pod.object()).clone()).collect();
    let mut list = Value::from([("kind", "PodList"), ("apiVersion", "v1")]);
    list.set(&["metadata"], api_schema::Map::default());
    list.set(&["items"], items);
    json(&list)
}

fn json(value: &Value) -> Response<Body> {
    let mut text = Vec::new();
    api_codec::json::encode(None, value, &mut text);
    typed(StatusCode::OK, "application/json", text)
}

fn exposition(text: String) -> Response<Body> {
    typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}
