//! Requests that are passed on to a node, a pod or a service: logs, exec, attach, port-forward, proxy.

mod target;
#[cfg(test)]
mod tests;
mod wire;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use api_schema::Value;
use api_semantics::field::quoted;
use api_semantics::status::Status;
use arc_swap::ArcSwap;
use authn::UserInfo;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Either, Empty, Limited};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use pki::PkiError;
use registry::Registry;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::target::Target;
use self::wire::{Driver, Failure, Relay, Tls};
use crate::body::{Body, RequestBody};
use crate::query::Query;
use crate::request_info::RequestInfo;

/// So many requests are passed on at the same time; followed logs and tunnels last as long as clients like.
const PASSAGES_MAX: usize = 10_000;
/// So much of a kubelet's error is passed on (upstream's figure), if it comes within this time.
const ERROR_BYTES_MAX: usize = 50_000;
const ERROR_TIME_MAX: Duration = Duration::from_secs(10);

/// Headers that are about one connection, not about the request.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// What a bearer token in a WebSocket protocol starts with.
const BEARER_PROTOCOL: &str = "base64url.bearer.authorization.k8s.io.";

/// A request to pass on.
pub struct Passage<'a> {
    /// What it is about.
    pub info: &'a RequestInfo,
    /// Its query.
    pub query: &'a Query,
    /// Its query as it came.
    pub query_text: &'a str,
    /// Its method.
    pub method: &'a Method,
    /// Its headers, without credentials.
    pub headers: &'a HeaderMap,
    /// The address that it comes from.
    pub client: Option<IpAddr>,
    /// Who asks.
    pub user: &'a Arc<UserInfo>,
    /// The request's extensions if it can be upgraded.
    pub upgrade: Option<http::Extensions>,
}

impl Passage<'_> {
    /// Whether another protocol is asked for.
    fn wants_upgrade(&self) -> bool {
        let values = self.headers.get_all(header::CONNECTION).iter();
        values.filter_map(|value| value.to_str().ok()).any(|value| value.to_ascii_lowercase().contains("upgrade"))
    }
}

/// Whom to trust and how to show oneself.
#[derive(Clone, Debug, Default)]
pub struct ProxyConfig {
    /// Shown to kubelets, and to nobody else.
    pub client: Option<pki::KeyPair>,
    /// Who vouches for kubelets; without it any serving certificate is accepted (as upstream without
    /// `--kubelet-certificate-authority`).
    pub kubelet_ca: Option<Vec<pki::Certificate>>,
    /// The types of a node's addresses in the order in which they are tried.
    pub address_types: Vec<String>,
}

/// How to reach nodes, pods and services.
pub struct Proxy {
    tls: ArcSwap<Tls>,
    address_types: Vec<String>,
    passages: Arc<Semaphore>,
    /// Takes a service's endpoints in turn.
    turn: AtomicUsize,
    /// Whether pods and services may be on this machine's own addresses: in tests only.
    local_allowed: bool,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("passages_left", &self.passages.available_permits()).finish_non_exhaustive()
    }
}

impl Default for Proxy {
    /// Shows no certificate and accepts any.
    fn default() -> Self {
        Self::new(ProxyConfig::default()).expect("TLS without certificates depends on nothing from outside")
    }
}

/// The objects that say where to go.
trait Objects: Sync {
    fn object(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value>;
    fn objects(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value>;
}

impl Objects for Registry {
    fn object(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.cached(group, resource, namespace, name)
    }

    fn objects(&self, group: &str, resource: &str, namespace: &str) -> Vec<Value> {
        self.cached_list(group, resource, namespace)
    }
}

impl Proxy {
    /// A proxy with these certificates.
    ///
    /// # Errors
    /// If they cannot be used for TLS.
    pub fn new(config: ProxyConfig) -> Result<Self, PkiError> {
        Ok(Self {
            tls: ArcSwap::from_pointee(tls(&config)?),
            address_types: config.address_types,
            passages: Arc::new(Semaphore::new(PASSAGES_MAX)),
            turn: AtomicUsize::new(0),
            local_allowed: false,
        })
    }

    /// Uses other certificates for all connections from now on.
    ///
    /// # Errors
    /// If they cannot be used for TLS; then the former ones stay.
    pub fn replace(&self, config: &ProxyConfig) -> Result<(), PkiError> {
        self.tls.store(Arc::new(tls(config)?));
        Ok(())
    }

    /// Passes a request on.
    ///
    /// # Errors
    /// The Status to answer with.
    pub async fn pass(
        &self,
        registry: &Registry,
        passage: Passage<'_>,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        self.pass_over(registry, passage, body).await
    }

    async fn pass_over(
        &self,
        objects: &impl Objects,
        passage: Passage<'_>,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        let permit = Arc::clone(&self.passages).try_acquire_owned().map_err(|_| {
            Status::too_many_requests("too many connections to nodes, pods and services, please try again later", 1)
        })?;
        let info = passage.info;
        match (&*info.resource, &*info.subresource) {
            ("pods", "log") => {
                let found = target::log(objects, info, passage.query, &self.address_types)?;
                self.log(found, &info.name, permit).await
            }
            ("pods", "exec" | "attach" | "portforward") => {
                let (target, path) = target::stream(objects, info, passage.query, &self.address_types)?;
                self.tunnel(&target, &path, passage, permit).await
            }
            ("pods" | "nodes" | "services", "proxy") => {
                let target = target::proxied(objects, info, &self.turn, &self.address_types)?;
                self.proxy(&target, passage, body, permit).await
            }
            _ => Err(Status::path_not_found()),
        }
    }

    async fn log(
        &self,
        found: Option<(Target, String)>,
        name: &str,
        permit: OwnedSemaphorePermit,
    ) -> Result<Response<Body>, Status> {
        let Some((target, path)) = found else {
            // Nothing has been written yet.
            return Ok(plain(StatusCode::NO_CONTENT));
        };
        let mut request = request(&Method::GET, &path, Empty::<Bytes>::new())?;
        request.headers_mut().insert(header::HOST, host(&target)?);
        let url = format!("https://{}{path}", target.authority());
        let (response, driver) = wire::exchange(&self.tls.load_full(), &target, self.local_allowed, request)
            .await
            .map_err(|failure| match failure {
                Failure::NotAllowed => not_allowed(),
                Failure::Dial(text) | Failure::Exchange(text) => unknown(format!("Get {}: {text}", quoted(&url))),
            })?;
        let code = response.status().as_u16();
        if response.status().is_redirection() && response.headers().contains_key(header::LOCATION) {
            return Err(unknown(format!("Get {}: redirects forbidden", quoted(&url))));
        }
        if !(200..=206).contains(&code) {
            let read = Limited::new(response.into_body(), ERROR_BYTES_MAX).collect();
            let text = match tokio::time::timeout(ERROR_TIME_MAX, read).await {
                Ok(Ok(body)) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
                Ok(Err(error)) => return Err(Status::internal(error)),
                Err(_) => return Err(Status::internal("the kubelet's error did not arrive in time")),
            };
            return Err(log_refusal(code, &text, name));
        }
        let mut answer = Response::new(relayed(response.into_body(), driver, permit));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(answer)
    }

    /// Lets a client speak another protocol with a backend.
    async fn tunnel(
        &self,
        target: &Target,
        path: &str,
        mut passage: Passage<'_>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Response<Body>, Status> {
        let client = passage.upgrade.take().and_then(|mut extensions| extensions.remove::<OnUpgrade>());
        let Some(client) = client.filter(|_| passage.wants_upgrade()) else {
            return Err(Status::bad_request("Upgrade request required"));
        };
        let mut request = request(passage.method, path, Empty::<Bytes>::new())?;
        let mut headers = onward(&passage, target)?;
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Some(protocol) = passage.headers.get(header::UPGRADE) {
            headers.insert(header::UPGRADE, protocol.clone());
        }
        *request.headers_mut() = headers;
        let (mut response, driver) = wire::exchange(&self.tls.load_full(), target, self.local_allowed, request)
            .await
            .map_err(|failure| match failure {
            Failure::NotAllowed => not_allowed(),
            Failure::Dial(text) => unknown(format!("error dialing backend: {text}")),
            Failure::Exchange(text) => unknown(text),
        })?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            if status.as_u16() < 400 {
                return Err(unknown(format!("invalid upgrade response: status code {}", status.as_u16())));
            }
            return Ok(passed_back(response, driver, permit, passage.method));
        }
        let backend = hyper::upgrade::on(&mut response).await.map_err(unknown)?;
        drop(driver);
        tokio::spawn(async move {
            let _permit = permit;
            match client.await {
                Ok(client) => wire::tunnel(TokioIo::new(client), TokioIo::new(backend)).await,
                Err(error) => tracing::debug!(%error, "the client went away before its tunnel was open"),
            }
        });
        let mut answer = plain(StatusCode::SWITCHING_PROTOCOLS);
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }

    /// Passes any HTTP request on.
    async fn proxy(
        &self,
        target: &Target,
        passage: Passage<'_>,
        body: RequestBody,
        permit: OwnedSemaphorePermit,
    ) -> Result<Response<Body>, Status> {
        let (prefix, rest) = target::split_path(passage.info);
        let path = target::clean(rest);
        let query = if passage.query_text.is_empty() { String::new() } else { format!("?{}", passage.query_text) };
        let escaped = target::escape_path(if path.is_empty() { "/" } else { &path });
        if passage.wants_upgrade() {
            return self.tunnel(target, &format!("{escaped}{query}"), passage, permit).await;
        }
        if path.is_empty() && matches!(*passage.method, Method::GET | Method::HEAD) {
            // Relative links of the page behind must lead back through here.
            let location = format!("{}/{query}", target::escape_path(&passage.info.path));
            let mut answer = plain(StatusCode::MOVED_PERMANENTLY);
            answer.headers_mut().insert(header::LOCATION, header_value(&location)?);
            return Ok(answer);
        }
        let body = if body.is_end_stream() { Either::Left(Empty::<Bytes>::new()) } else { Either::Right(body) };
        let mut request = request(passage.method, &format!("{escaped}{query}"), body)?;
        let mut headers = onward(&passage, target)?;
        let asked_host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        let forwarded = format!("{}{escaped}", target::escape_path(&target::clean(prefix)));
        headers.insert(HeaderName::from_static("x-forwarded-uri"), header_value(&forwarded)?);
        *request.headers_mut() = headers;
        let (mut response, driver) = wire::exchange(&self.tls.load_full(), target, self.local_allowed, request)
            .await
            .map_err(|failure| match failure {
            Failure::NotAllowed => not_allowed(),
            Failure::Dial(text) | Failure::Exchange(text) => {
                Status::service_unavailable(format!("error trying to reach service: {text}"))
            }
        })?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(unknown("the backend switched protocols without being asked"));
        }
        let headers = response.headers_mut();
        for name in [
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            header::ACCESS_CONTROL_ALLOW_METHODS,
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
        ] {
            headers.remove(name);
        }
        if let Some(location) = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) {
            let rewritten = rewrite(location, &target::escape_path(prefix), &[&target.authority(), &asked_host]);
            headers.insert(header::LOCATION, header_value(&rewritten)?);
        }
        Ok(passed_back(response, driver, permit, passage.method))
    }
}

fn tls(config: &ProxyConfig) -> Result<Tls, PkiError> {
    Tls::new(config).map_err(|error| PkiError::Tls(error.to_string()))
}

// === requests ===

fn request<B>(method: &Method, path: &str, body: B) -> Result<Request<B>, Status> {
    let request = Request::builder().method(method).uri(path).body(body);
    request.map_err(|error| Status::bad_request(format!("the path cannot be passed on: {error}")))
}

fn header_value(text: &str) -> Result<HeaderValue, Status> {
    HeaderValue::from_str(text).map_err(Status::internal)
}

fn host(target: &Target) -> Result<HeaderValue, Status> {
    header_value(&target.authority())
}

/// The headers that go on: without those of the connection, and without anything that proves who asks.
fn onward(passage: &Passage<'_>, target: &Target) -> Result<HeaderMap, Status> {
    const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
    let headers = passage.headers;
    let mut onward = headers.clone();
    remove_hop_by_hop(&mut onward);
    for name in [header::AUTHORIZATION, header::EXPECT] {
        onward.remove(name);
    }
    let claims: Vec<HeaderName> = onward
        .keys()
        .filter(|name| ["impersonate-", "x-remote-"].iter().any(|prefix| name.as_str().starts_with(prefix)))
        .cloned()
        .collect();
    for name in claims {
        onward.remove(name);
    }
    if onward.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        let protocols: Vec<&str> = headers
            .get_all(header::SEC_WEBSOCKET_PROTOCOL)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|protocol| !protocol.is_empty() && !protocol.starts_with(BEARER_PROTOCOL))
            .collect();
        onward.remove(header::SEC_WEBSOCKET_PROTOCOL);
        if !protocols.is_empty() {
            onward.insert(header::SEC_WEBSOCKET_PROTOCOL, header_value(&protocols.join(", "))?);
        }
    }
    if !onward.contains_key(header::HOST) {
        onward.insert(header::HOST, host(target)?);
    }
    if let Some(client) = passage.client {
        let before = headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let chain: Vec<String> = before.map(str::to_owned).chain([client.to_string()]).collect();
        onward.insert(FORWARDED_FOR, header_value(&chain.join(", "))?);
    }
    Ok(onward)
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

// === answers ===

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

fn relayed(body: Incoming, driver: Driver, permit: OwnedSemaphorePermit) -> Body {
    if body.is_end_stream() {
        return Body::Empty;
    }
    Body::Stream(Box::new(Relay { body, _driver: driver, _permit: permit }))
}

/// A backend's answer as the client gets it.
fn passed_back(
    response: Response<Incoming>,
    driver: Driver,
    permit: OwnedSemaphorePermit,
    method: &Method,
) -> Response<Body> {
    let (parts, body) = response.into_parts();
    let mut answer = Response::new(relayed(body, driver, permit));
    *answer.status_mut() = parts.status;
    let headers = answer.headers_mut();
    *headers = parts.headers;
    remove_hop_by_hop(headers);
    let headed = *method == Method::HEAD || parts.status == StatusCode::NOT_MODIFIED;
    if !headed && matches!(answer.body(), Body::Empty) {
        // The server counts an empty body itself.
        answer.headers_mut().remove(header::CONTENT_LENGTH);
    }
    answer
}

/// A redirect within a backend leads through the proxy; one to elsewhere stays as it is.
fn rewrite(location: &str, prefix: &str, own: &[&str]) -> String {
    let absolute = location.split_once("://").map(|(_, rest)| rest);
    let without_scheme = absolute.or_else(|| location.strip_prefix("//"));
    let (host, path) = match without_scheme {
        Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
        None => ("", location),
    };
    if !path.starts_with('/') || (!host.is_empty() && !own.contains(&host)) {
        return location.to_owned();
    }
    let lead = prefix.trim_end_matches('/');
    if path.starts_with(lead) { path.to_owned() } else { format!("{lead}{path}") }
}

/// An error of no kind that the API knows: clients show its text as it is.
fn unknown(message: impl std::fmt::Display) -> Status {
    Status::plain(message.to_string())
}

fn not_allowed() -> Status {
    Status::bad_request("address not allowed")
}

/// What a kubelet's refusal of a log is to the client (apimachinery `NewGenericServerResponse`).
fn log_refusal(code: u16, text: &str, name: &str) -> Status {
    match code {
        500 => return Status::internal(text),
        400 => return Status::bad_request(text),
        _ => {}
    }
    let server_error = format!("an error on the server ({}) has prevented the request from succeeding", quoted(text));
    let bare = format!("the server responded with the status code {code} but did not return more information");
    let (reason, message) = match code {
        401 => ("Unauthorized", "the server has asked for the client to provide credentials"),
        403 => ("Forbidden", text),
        404 => ("NotFound", "the server could not find the requested resource"),
        405 => ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
        406 if text.is_empty() || text == "unknown" => {
            ("NotAcceptable", "the server was unable to respond with a content type that the client supports")
        }
        406 => ("NotAcceptable", text),
        409 => ("Conflict", "the server reported a conflict"),
        415 => ("UnsupportedMediaType", text),
        422 => ("Invalid", "the server rejected our request due to an error in our request"),
        429 => ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
        503 => ("ServiceUnavailable", "the server is currently unable to handle the request"),
        504 => (
            "Timeout",
            "the server was unable to return a response in the time allotted, but may still be processing the request",
        ),
        501.. => ("InternalError", server_error.as_str()),
        _ => ("", bare.as_str()),
    };
    let mut status = Status::new(code, reason, format!("{message} ( pods/log {name})"));
    (status.name, status.kind) = (name.into(), "pods/log".into());
    status
}
